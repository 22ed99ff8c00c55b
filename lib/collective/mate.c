/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mate.c - connections between workers.
 *
 * Of two workers the one with the higher rank connects. The other one asks who
 * it is, as a shard does, and both prove the job token, with other words than
 * between worker and shard, so that no proof is good in another place. A
 * stranger costs one small allocation and there are few of them; the oldest
 * goes first.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "collective/coll_int.h"
#include "shard/paths.h"

#define ROLE_CALLER "worker to worker"
#define ROLE_CALLED "called worker"
#define TAG         1u /* in the pointer that an endpoint carries */

void
gp_mesh_wake_at(gp_mesh *mesh, uint64_t at)
{
    mesh->wake_ns = GP_MIN(mesh->wake_ns, at);
}

static void
own_endpoint(gp_mate *mate)
{
    mate->via->ops->ep_set_user(mate->ep, (void *)((uintptr_t)mate | TAG));
}

static gp_mate *
create(gp_mesh *mesh, uint32_t rank)
{
    gp_mate *mate = calloc(1, sizeof(*mate));

    if (!mate)
        return NULL;
    mate->mesh = mesh;
    mate->rank = rank;
    gp_list_init(&mate->link);
    return mate;
}

void
gp_mate_free(gp_mate *mate)
{
    if (mate)
        free(mate->token);
    free(mate);
}

void
gp_mate_drop(gp_mate *mate, gp_mate_state state)
{
    gp_mesh *mesh = mate->mesh;

    mate->state = state;
    mate->flush = false;
    if (mate->rank != UINT32_MAX)
        GP_LIST_EACH (item, &mesh->groups) {
            gp_group *g = GP_CONTAINER_OF(item, gp_group, link);

            gp_group_unsend(g, mate);
            gp_group_detach(g, mate);
        }
    if (mate->ep)
        mate->via->ops->ep_close(mate->ep);
    mate->ep = NULL;
    for (uint32_t i = 0; i < mate->tokens; i++)
        mate->token[i] = 0;
    if (mate->rank != UINT32_MAX)
        return;
    mate->dead = true;
    mesh->stranger_count--;
    gp_list_remove(&mate->link);
    gp_list_insert(&mesh->graves, &mate->link);
}

/* Events of this turn may still name a stranger: it is freed after them. */
void
gp_mesh_bury(gp_mesh *mesh)
{
    gp_list *item;

    while ((item = gp_list_pop(&mesh->graves)))
        gp_mate_free(GP_CONTAINER_OF(item, gp_mate, link));
}

void
gp_mate_lose(gp_mate *mate, gp_status status, const char *format, ...)
{
    gp_mesh *mesh = mate->mesh;
    char text[GP_TEXT_MAX];
    va_list args;

    if (mate->state == MATE_LOST)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (!mesh->left)
        GP_ERROR("%s", text);
    gp_mate_drop(mate, MATE_LOST);
    GP_LIST_EACH (item, &mesh->groups) {
        gp_group *g = GP_CONTAINER_OF(item, gp_group, link);

        if (g->number[mate->rank] >= 0)
            gp_group_fail(g, status, true, "%s", text);
    }
}

static gp_status
call(gp_mate *mate, const gp_transport_ops *ops)
{
    gp_status status = gp_worker_link(mate->mesh->worker, ops, &mate->via);

    if (status == GP_OK)
        status = ops->connect(mate->via->domain, mate->address,
                              mate->deadline_ns, &mate->ep);
    if (status == GP_OK)
        own_endpoint(mate);
    return status;
}

/* False: there is no other way than the one that leads nowhere. */
static bool
go_other_way(gp_mate *mate, const char *why)
{
    const gp_transport_ops *other = mate->other;
    gp_worker *w = mate->mesh->worker;

    if (!other)
        return false;
    if (!w->went_other_way)
        GP_WARN("worker %u offers verbs, but %s is used: %s", mate->rank,
                other->name, why);
    w->went_other_way = true;
    if (mate->ep)
        mate->via->ops->ep_close(mate->ep);
    mate->ep = NULL;
    mate->other = NULL;
    memcpy(mate->address, mate->other_address, sizeof(mate->address));
    return call(mate, other) == GP_OK;
}

/* The smaller of two workers waits for the other one. */
static gp_status
reach(gp_mate *mate)
{
    gp_mesh *mesh = mate->mesh;
    gp_worker *w = mesh->worker;
    const char *published = mesh->address + (size_t)mate->rank * GP_ADDRESS_MAX;
    const gp_transport_ops *ops;
    char who[32];
    gp_status status;

    mate->deadline_ns =
        gp_deadline(gp_config_seconds(w->config, "connect_timeout"));
    gp_mesh_wake_at(mesh, mate->deadline_ns);
    mate->state = MATE_CONNECTING;
    if (mate->rank > w->rank)
        return GP_OK;
    snprintf(who, sizeof(who), "worker %u", mate->rank);
    status = gp_paths_take(w->config, who, published, &w->went_other_way, &ops,
                           mate->address, sizeof(mate->address));
    if (status != GP_OK)
        return status;
    mate->other = gp_paths_other(w->config, published, ops, mate->other_address,
                                 sizeof(mate->other_address));
    status = call(mate, ops);
    if (status != GP_OK && go_other_way(mate, gp_last_error()))
        return GP_OK;
    return status;
}

gp_mate *
gp_mate_meet(gp_mesh *mesh, uint32_t rank)
{
    gp_mate *mate = mesh->mate[rank];
    gp_status status;

    if (!mate)
        mate = mesh->mate[rank] = create(mesh, rank);
    if (!mate || mate->state != MATE_ABSENT)
        return mate;
    status = reach(mate);
    if (status != GP_OK)
        gp_mate_lose(mate, status, "cannot connect to worker %u: %s", rank,
                     gp_last_error());
    return mate;
}

bool
gp_mate_usable(gp_group *g, gp_mate *mate)
{
    char name[192];

    if (mate->state == MATE_READY)
        return true;
    if (mate->state == MATE_LEFT)
        gp_group_fail(
            g, GP_ERR_PEER_LEFT, true, "%s has left while group '%s' needs it",
            gp_mate_name(g->mesh, mate->rank, name, sizeof(name)), g->name);
    else if (mate->state == MATE_LOST)
        gp_group_fail(g, GP_ERR_PEER_LOST, true, "%s is lost",
                      gp_mate_name(g->mesh, mate->rank, name, sizeof(name)));
    return false;
}

/* --- handshake ------------------------------------------------------------ */

static void
forget_oldest(gp_mesh *mesh)
{
    if (mesh->stranger_count < GP_STRANGERS_MAX + mesh->worker->size)
        return;
    gp_mate_drop(GP_CONTAINER_OF(mesh->strangers.next, gp_mate, link),
                 MATE_LOST);
}

static worker_link *
link_of(const gp_mesh *mesh, int number)
{
    return &mesh->worker->link[number];
}

/* Who are you? */
static void
accept_one(gp_mesh *mesh, int number, const gp_event *event)
{
    gp_worker *w = mesh->worker;
    gp_mate *mate = create(mesh, UINT32_MAX);
    gp_msg msg = {.type = GP_MSG_CHALLENGE, .payload = GP_CHALLENGE_BYTES};
    uint8_t bytes[GP_CHALLENGE_BYTES];
    gp_challenge challenge;

    if (!mate || gp_random(mate->nonce, sizeof(mate->nonce)) != GP_OK) {
        link_of(mesh, number)->ops->ep_close(event->ep);
        gp_mate_free(mate);
        return;
    }
    forget_oldest(mesh);
    mate->via = link_of(mesh, number);
    mate->ep = event->ep;
    mate->state = MATE_HELLO;
    mate->deadline_ns =
        gp_deadline(gp_config_seconds(w->config, "handshake_timeout"));
    gp_mesh_wake_at(mesh, mate->deadline_ns);
    mesh->stranger_count++;
    gp_list_insert(&mesh->strangers, &mate->link);
    own_endpoint(mate);
    memcpy(challenge.nonce, mate->nonce, sizeof(challenge.nonce));
    gp_challenge_encode(&challenge, bytes);
    (void)gp_mate_post(mate, &msg, bytes, NULL, 0);
    (void)mate->via->ops->flush(mate->ep);
}

static void
refuse(gp_mate *mate, gp_status status, const char *text)
{
    gp_msg msg = {.type = GP_MSG_REFUSE, .status = status};

    if (gp_log_may(&mate->mesh->log, "strangers"))
        GP_WARN("refused a connection: %s", text);
    msg.payload = GP_MIN(strlen(text), GP_TEXT_MAX - 1);
    (void)gp_mate_post(mate, &msg, text, NULL, 0);
    (void)mate->via->ops->flush(mate->ep);
    gp_mate_drop(mate, MATE_LOST);
}

static gp_status
judge(const gp_mate *stranger, const gp_msg *msg, const gp_hello *hello)
{
    const gp_mesh *mesh = stranger->mesh;
    const gp_worker *w = mesh->worker;
    uint8_t proof[GP_PROOF_BYTES];

    if (msg->job != w->job_hash)
        return gp_fail(GP_ERR_REFUSED,
                       "%s belongs to another job: check GRADPUSH_JOB",
                       hello->identity);
    if (gp_token_prove(w->token, ROLE_CALLER, stranger->nonce, w->job_hash,
                       hello->rank, proof) != GP_OK ||
        !gp_token_equal(proof, hello->proof))
        return gp_fail(GP_ERR_AUTH,
                       "%s has a wrong job token: give all processes the same "
                       "GRADPUSH_TOKEN or GRADPUSH_TOKEN_FILE",
                       hello->identity);
    if (hello->size != w->size || hello->shards != w->size ||
        hello->shard != w->rank)
        return gp_fail(GP_ERR_MISMATCH,
                       "%s counts %u workers and takes this for worker %u, but "
                       "it is worker %u of %u",
                       hello->identity, hello->size, hello->shard, w->rank,
                       w->size);
    if (hello->rank >= w->size || hello->rank <= w->rank)
        return gp_fail(GP_ERR_MISMATCH,
                       "%s has rank %u, which does not connect to worker %u",
                       hello->identity, hello->rank, w->rank);
    if (mesh->mate[hello->rank] &&
        mesh->mate[hello->rank]->state > MATE_CONNECTING)
        return gp_fail(GP_ERR_EXISTS, "worker %u is connected already: %s",
                       hello->rank, hello->identity);
    return GP_OK;
}

static void
say_connected(const gp_mate *mate)
{
    char text[160];

    mate->via->ops->ep_describe(mate->ep, text, sizeof(text));
    GP_INFO("connected to worker %u: %s", mate->rank, text);
}

/* Groups may now say what they wait to say. */
static void
wake_groups(gp_mate *mate)
{
    GP_LIST_EACH (item, &mate->mesh->groups) {
        gp_group *g = GP_CONTAINER_OF(item, gp_group, link);

        if (g->number[mate->rank] < 0)
            continue;
        g->dirty = true;
        if (g->failed && mate->state == MATE_READY)
            gp_group_tell(g, mate); /* it was not here to hear of it */
    }
}

/* A stranger has proven to be a worker: its endpoint is that one's now. */
static gp_mate *
adopt(gp_mate *stranger, uint32_t rank)
{
    gp_mesh *mesh = stranger->mesh;
    gp_mate *mate = mesh->mate[rank];

    if (!mate)
        mate = mesh->mate[rank] = create(mesh, rank);
    if (!mate)
        return NULL;
    mate->via = stranger->via;
    mate->ep = stranger->ep;
    own_endpoint(mate);
    stranger->ep = NULL;
    stranger->heir = mate;
    gp_mate_drop(stranger, MATE_LOST);
    return mate;
}

static void
on_hello(gp_mate *stranger, const gp_event *event)
{
    gp_worker *w = stranger->mesh->worker;
    gp_msg msg = {.type = GP_MSG_WELCOME, .payload = GP_WELCOME_BYTES};
    uint8_t bytes[GP_WELCOME_BYTES];
    gp_welcome welcome;
    gp_hello hello;
    gp_mate *mate;
    gp_status status;

    status = gp_hello_decode(event->payload, event->msg.payload, &hello);
    if (status == GP_OK)
        status = judge(stranger, &event->msg, &hello);
    if (status == GP_OK)
        status = gp_token_prove(w->token, ROLE_CALLED, hello.nonce, w->job_hash,
                                w->rank, welcome.proof);
    mate = status == GP_OK ? adopt(stranger, hello.rank) : NULL;
    if (!mate) {
        refuse(stranger, status == GP_OK ? GP_ERR_NO_MEMORY : status,
               gp_last_error());
        return;
    }
    memcpy(mate->identity, hello.identity, sizeof(mate->identity));
    mate->via->ops->ep_trust(mate->ep);
    mate->state = MATE_READY;
    mate->introduced = true;
    gp_welcome_encode(&welcome, bytes);
    (void)gp_mate_post(mate, &msg, bytes, NULL, 0);
    (void)mate->via->ops->flush(mate->ep);
    say_connected(mate);
    wake_groups(mate);
}

static void
on_challenge(gp_mate *mate, const gp_event *event)
{
    gp_worker *w = mate->mesh->worker;
    gp_msg msg = {.type = GP_MSG_HELLO};
    gp_hello hello = {.rank = w->rank,
                      .size = w->size,
                      .shard = mate->rank,
                      .shards = w->size};
    uint8_t bytes[GP_HELLO_BYTES_MAX];
    char host[64] = "?";
    gp_challenge challenge;
    gp_status status;

    status =
        gp_challenge_decode(event->payload, event->msg.payload, &challenge);
    if (status == GP_OK)
        status = gp_random(mate->nonce, sizeof(mate->nonce));
    if (status == GP_OK)
        status = gp_token_prove(w->token, ROLE_CALLER, challenge.nonce,
                                w->job_hash, w->rank, hello.proof);
    if (status != GP_OK) {
        gp_mate_lose(mate, status, "%s", gp_last_error());
        return;
    }
    memcpy(hello.nonce, mate->nonce, sizeof(hello.nonce));
    gethostname(host, sizeof(host) - 1);
    snprintf(hello.identity, sizeof(hello.identity), "%s pid %d", host,
             (int)getpid());
    msg.payload = gp_hello_encode(&hello, bytes);
    (void)gp_mate_post(mate, &msg, bytes, NULL, 0);
    (void)mate->via->ops->flush(mate->ep);
    mate->introduced = true;
}

static void
on_welcome(gp_mate *mate, const gp_event *event)
{
    gp_worker *w = mate->mesh->worker;
    uint8_t proof[GP_PROOF_BYTES];
    gp_welcome welcome;

    if (gp_welcome_decode(event->payload, event->msg.payload, &welcome) !=
            GP_OK ||
        gp_token_prove(w->token, ROLE_CALLED, mate->nonce, w->job_hash,
                       mate->rank, proof) != GP_OK ||
        !gp_token_equal(proof, welcome.proof)) {
        gp_mate_lose(mate, GP_ERR_AUTH,
                     "what answers at %s as worker %u does not know the job "
                     "token",
                     mate->address, mate->rank);
        return;
    }
    mate->via->ops->ep_trust(mate->ep);
    mate->state = MATE_READY;
    say_connected(mate);
    wake_groups(mate);
}

/* --- what comes over a connection ---------------------------------------- */

static gp_status
told_status(const gp_msg *msg)
{
    gp_status status = (gp_status)msg->status;

    if (status == GP_OK || strcmp(gp_status_name(status), "GP_UNKNOWN") == 0)
        return GP_ERR_PEER_LOST;
    return status;
}

static void
on_text(gp_mate *mate, const gp_event *event)
{
    char text[GP_TEXT_MAX], name[192];
    gp_group *g;

    gp_text_decode(event->payload, event->msg.payload, text);
    gp_mate_name(mate->mesh, mate->rank, name, sizeof(name));
    if (event->msg.type == GP_MSG_GROUP_FAULT) {
        g = gp_group_find(mate->mesh, event->msg.cookie);
        if (g && g->number[mate->rank] >= 0)
            /* Passed on: who has not heard it yet may see us leave for that. */
            gp_group_fail(g, told_status(&event->msg), true, "%s", text);
    } else if (event->msg.type == GP_MSG_REFUSE) {
        gp_mate_lose(mate, told_status(&event->msg), "%s at %s refused: %s",
                     name, mate->address, text);
    } else {
        gp_mate_lose(mate, GP_ERR_PEER_LOST, "%s gave up: %.300s", name, text);
    }
}

/* Somebody waits in a group that was destroyed here. */
static void
say_gone(gp_mate *mate, uint64_t id)
{
    gp_msg msg = {
        .type = GP_MSG_GROUP_FAULT, .cookie = id, .status = GP_ERR_PEER_LEFT};
    char text[96];

    snprintf(text, sizeof(text), "worker %u has destroyed the group",
             mate->mesh->worker->rank);
    msg.payload = strlen(text);
    if (mate->state == MATE_READY &&
        gp_mate_post(mate, &msg, text, NULL, 0) == GP_OK)
        (void)mate->via->ops->flush(mate->ep);
}

/* Messages of groups; those of one that has ended are of no interest. */
static bool
on_group(gp_mate *mate, const gp_event *event)
{
    const gp_msg *msg = &event->msg;
    gp_group *g;
    gp_member *m;

    if (msg->type < GP_MSG_GRANT || msg->type > GP_MSG_RETURN)
        return false;
    g = gp_group_find(mate->mesh, msg->cookie);
    m = g && g->number[mate->rank] >= 0
            ? gp_group_member(g, (uint32_t)g->number[mate->rank])
            : NULL;
    if (!m || g->failed) {
        if (msg->region)
            mate->via->ops->release(mate->ep, msg, event->payload);
        if (!g && msg->type == GP_MSG_CHECK)
            say_gone(mate, msg->cookie);
        return true;
    }
    g->dirty = true;
    if (msg->type == GP_MSG_PIECE)
        gp_landing_event(m, event);
    else if (msg->type == GP_MSG_GRANT)
        gp_landing_grant(m, msg);
    else if (msg->type == GP_MSG_INTO)
        gp_exec_into(m, msg);
    else if (msg->type == GP_MSG_TICKET)
        gp_points_ticket(m, msg);
    else if (msg->type == GP_MSG_CHECK)
        gp_check_answer(m, msg);
    else
        m->free |= msg->credits;
    return true;
}

static void
on_message(gp_mate *mate, const gp_event *event)
{
    uint8_t type = event->msg.type;
    char name[192];
    gp_worker *w = mate->mesh->worker;

    atomic_fetch_add_explicit(&w->messages_received, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&w->bytes_pulled,
                              event->msg.payload + GP_MSG_BYTES,
                              memory_order_relaxed);
    if (mate->rank == UINT32_MAX && type == GP_MSG_HELLO)
        on_hello(mate, event);
    else if (mate->rank == UINT32_MAX)
        refuse(mate, GP_ERR_PROTOCOL, "another message instead of a hello");
    else if (mate->state == MATE_HELLO && type == GP_MSG_CHALLENGE)
        on_challenge(mate, event);
    else if (mate->state == MATE_HELLO && type == GP_MSG_WELCOME)
        on_welcome(mate, event);
    else if (type == GP_MSG_REFUSE || type == GP_MSG_FAULT ||
             type == GP_MSG_GROUP_FAULT)
        on_text(mate, event);
    else if (mate->state == MATE_READY && type == GP_MSG_BYE)
        mate->state = MATE_LEFT, wake_groups(mate);
    else if ((mate->state != MATE_READY && mate->state != MATE_LEFT) ||
             !on_group(mate, event))
        gp_mate_lose(
            mate, GP_ERR_PROTOCOL, "%s sent message type %u out of turn",
            gp_mate_name(mate->mesh, mate->rank, name, sizeof(name)), type);
}

/* Nothing was said on the connection yet, and the peer is not a stranger. */
static bool
try_other_way(gp_mate *mate, gp_status status)
{
    char text[640];

    if (!mate->other || status == GP_ERR_VERSION || status == GP_ERR_AUTH ||
        status == GP_ERR_PROTOCOL)
        return false;
    mate->via->ops->ep_describe(mate->ep, text, sizeof(text));
    return go_other_way(mate, text);
}

static void
on_closed(gp_mate *mate, gp_status status)
{
    gp_mesh *mesh = mate->mesh;
    char name[192], why[640];

    gp_mate_name(mesh, mate->rank, name, sizeof(name));
    if (mate->rank == UINT32_MAX) {
        gp_mate_drop(mate, MATE_LOST);
    } else if (mate->state == MATE_LEFT) {
        /* What has arrived is kept; nothing leaves any more. */
        mate->closed = true;
        GP_LIST_EACH (item, &mesh->groups)
            gp_group_unsend(GP_CONTAINER_OF(item, gp_group, link), mate);
        wake_groups(mate);
    } else if (mate->state == MATE_CONNECTING) {
        if (try_other_way(mate, status))
            return;
        status = status == GP_OK ? GP_ERR_UNREACHABLE : status;
        mate->via->ops->ep_describe(mate->ep, why, sizeof(why));
        gp_mate_lose(mate, status, "cannot connect to %s: %s (%s)", name,
                     gp_status_text(status), why);
    } else {
        gp_mate_lose(mate, GP_ERR_PEER_LOST,
                     "%s died or lost its connection (%s)", name,
                     status == GP_OK ? "connection closed without goodbye"
                                     : gp_status_text(status));
    }
}

static void
on_sent(gp_mate *mate, uint64_t cookie)
{
    if (mate->state == MATE_READY || mate->state == MATE_LEFT)
        gp_exec_sent(
            (gp_member *)(uintptr_t)(cookie & ~(uint64_t)(GP_MEMBER_ALIGN - 1)),
            cookie % GP_MEMBER_ALIGN);
}

bool
gp_mesh_event(gp_worker *w, int number, const gp_event *event)
{
    uintptr_t user = (uintptr_t)event->user;
    gp_mate *mate = (gp_mate *)(user - TAG);

    if (event->type == GP_EVENT_ACCEPTED && w->mesh) {
        accept_one(w->mesh, number, event);
        return true;
    }
    if (!(user & TAG))
        return false;
    if (mate->heir) /* of the same turn */
        mate = mate->heir;
    if (mate->dead || !mate->ep)
        return true;
    if (event->type == GP_EVENT_CONNECTED)
        mate->state = MATE_HELLO;
    else if (event->type == GP_EVENT_MESSAGE)
        on_message(mate, event);
    else if (event->type == GP_EVENT_SENT)
        on_sent(mate, event->cookie);
    else if (event->type == GP_EVENT_CLOSED)
        on_closed(mate, event->status);
    return true;
}

static void
expire_mate(gp_mate *mate, uint64_t now)
{
    if (mate->state != MATE_CONNECTING && mate->state != MATE_HELLO)
        return;
    if (now < mate->deadline_ns)
        gp_mesh_wake_at(mate->mesh, mate->deadline_ns);
    else if (mate->rank == UINT32_MAX)
        gp_mate_drop(mate, MATE_LOST);
    else
        gp_mate_lose(mate, GP_ERR_UNREACHABLE,
                     "worker %u %s; raise connect_timeout if it is slow",
                     mate->rank,
                     mate->rank > mate->mesh->worker->rank
                         ? "did not connect: is it running, and did it call "
                           "the same operation?"
                         : "did not answer");
}

void
gp_mesh_expire(gp_mesh *mesh, uint64_t now)
{
    mesh->wake_ns = UINT64_MAX;
    GP_LIST_EACH (item, &mesh->strangers) {
        expire_mate(GP_CONTAINER_OF(item, gp_mate, link), now);
    }
    for (uint32_t r = 0; r < mesh->worker->size; r++)
        if (mesh->mate[r])
            expire_mate(mesh->mate[r], now);
    GP_LIST_EACH (item, &mesh->groups) {
        gp_group_expire(GP_CONTAINER_OF(item, gp_group, link), now);
    }
}
