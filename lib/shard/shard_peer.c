/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard_peer.c - who may talk to the shard, and what it says to them.
 *
 * A stranger can do one thing: answer the challenge with a hello. It costs one
 * small allocation and is dropped when it is late.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rendezvous/rendezvous.h"
#include "shard/shard_int.h"

#define SLOT_COLOURS 8u
#define SLOT_SHIFT   512u

gp_status
gp_peer_post(gp_shard *s, gp_peer *peer, gp_msg *msg, const void *payload,
             uint64_t cookie)
{
    gp_mem *mem = msg->region ? gp_arena_find(s, peer, payload) : NULL;
    gp_status status;

    msg->job = s->job;
    msg->worker = s->index < 0 ? 0 : (uint32_t)s->index;
    msg->epoch = s->epoch;
    msg->credits = peer->free_credits | peer->idle_credits;
    status = peer->ops->post(peer->ep, msg, payload, mem, cookie);
    if (status != GP_OK)
        return status;
    peer->free_credits = peer->idle_credits = 0;
    if (gp_msg_is_work(msg, SHARD_FLUSH_BYTES))
        (void)peer->ops->flush(peer->ep);
    else
        peer->flush = true;
    return GP_OK;
}

void
gp_peer_text(gp_shard *s, gp_peer *peer, uint8_t type, gp_status status,
             const char *text)
{
    gp_msg msg = {.type = type, .status = status};

    msg.payload = GP_MIN(strlen(text), GP_TEXT_MAX - 1);
    (void)gp_peer_post(s, peer, &msg, text, 0);
}

void
gp_peer_name(const gp_shard *s, uint32_t rank, char *out, size_t capacity)
{
    const gp_peer *peer = s->worker ? s->worker[rank] : NULL;

    if (peer)
        snprintf(out, capacity, "worker %u (%s)", rank, peer->identity);
    else
        snprintf(out, capacity, "worker %u", rank);
}

/* The job cannot go on: say so once, and tell everybody. */
void
gp_shard_fail(gp_shard *s, gp_status status, const char *format, ...)
{
    va_list args;

    if (s->fault != GP_OK)
        return;
    s->fault = status;
    va_start(args, format);
    vsnprintf(s->fault_text, sizeof(s->fault_text), format, args);
    va_end(args);
    GP_ERROR("shard %lld: %s", (long long)s->index, s->fault_text);
    GP_LIST_EACH (item, &s->peers) {
        gp_peer *peer = GP_CONTAINER_OF(item, gp_peer, link);

        if (peer->state == PEER_JOINED || peer->state == PEER_READY)
            gp_peer_text(s, peer, GP_MSG_FAULT, status, s->fault_text);
    }
}

void
gp_shard_accept(gp_shard *s, const gp_event *event, shard_link *link)
{
    gp_peer *peer = calloc(1, sizeof(*peer));
    gp_msg msg = {.type = GP_MSG_CHALLENGE, .payload = GP_CHALLENGE_BYTES};
    uint8_t bytes[GP_CHALLENGE_BYTES];
    gp_challenge challenge;

    if (!peer || gp_random(peer->nonce, sizeof(peer->nonce)) != GP_OK) {
        free(peer);
        link->ops->ep_close(event->ep);
        return;
    }
    peer->ops = link->ops;
    peer->domain = link->domain;
    peer->link_number = (int)(link - s->link);
    peer->local = link->local;
    peer->ep = event->ep;
    peer->deadline = gp_deadline(s->handshake_timeout);
    gp_list_init(&peer->backlog);
    gp_list_init(&peer->ages);
    gp_list_insert(&s->peers, &peer->link);
    link->ops->ep_set_user(event->ep, peer);
    memcpy(challenge.nonce, peer->nonce, sizeof(challenge.nonce));
    gp_challenge_encode(&challenge, bytes);
    (void)gp_peer_post(s, peer, &msg, bytes, 0);
}

/* Events of this turn may still name the peer: it is freed after them. */
static void
retire(gp_shard *s, gp_peer *peer)
{
    peer->dead = true;
    peer->ops->ep_close(peer->ep);
    gp_list_remove(&peer->link);
    gp_list_insert(&s->graves, &peer->link);
}

void
gp_shard_bury(gp_shard *s)
{
    GP_LIST_EACH (item, &s->graves) {
        gp_peer *peer = GP_CONTAINER_OF(item, gp_peer, link);

        if (peer->reading > 0) /* a device still does */
            continue;
        gp_list_remove(item);
        if (peer->slot_mem)
            peer->ops->mem_dereg(peer->slot_mem);
        gp_shard_give(s, peer->slot_memory);
        gp_device_slots_close(s, peer);
        free(peer);
    }
}

static void
say_lost(gp_shard *s, const char *name, const char *why)
{
    if (s->elastic)
        GP_WARN("shard %lld: %s died or lost its connection (%s); the job goes "
                "on without it",
                (long long)s->index, name, why);
    else
        gp_shard_fail(s, GP_ERR_PEER_LOST,
                      "%s died or lost its connection (%s)", name, why);
}

static void
remove_peer(gp_shard *s, gp_peer *peer, bool known)
{
    gp_shard_let_go(s, peer);
    if (known && s->worker[peer->rank] == peer) {
        gp_shard_orphan(s, peer);
        s->worker[peer->rank] = NULL;
    }
    retire(s, peer);
}

void
gp_shard_drop(gp_shard *s, gp_peer *peer, gp_status status)
{
    bool member = peer->state == PEER_JOINED || peer->state == PEER_READY;
    bool known = peer->state != PEER_STRANGER;

    peer->state = PEER_LEFT;
    if (member && !s->finished) {
        char name[192];

        snprintf(name, sizeof(name), "worker %u (%s)", peer->rank,
                 peer->identity);
        s->departed++;
        say_lost(s, name,
                 status == GP_OK ? "connection closed without goodbye"
                                 : gp_status_text(status));
    }
    remove_peer(s, peer, known);
    if (member && s->elastic && !s->finished)
        gp_members_gone(s, false);
}

static void
refuse(gp_shard *s, gp_peer *peer, gp_status status, const char *format, ...)
{
    char text[GP_TEXT_MAX];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    GP_WARN("refused a connection: %s", text);
    gp_peer_text(s, peer, GP_MSG_REFUSE, status, text);
    peer->flush = false;
    (void)peer->ops->flush(peer->ep);
    retire(s, peer);
}

void
gp_peer_refuse(gp_shard *s, gp_peer *peer, gp_status status, const char *format,
               ...)
{
    char text[GP_TEXT_MAX];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    GP_WARN("refused worker %u: %s", peer->rank, text);
    gp_peer_text(s, peer, GP_MSG_REFUSE, status, text);
    peer->flush = false;
    (void)peer->ops->flush(peer->ep);
    gp_shard_drop(s, peer, status);
}

void
gp_shard_expire(gp_shard *s, uint64_t now)
{
    GP_LIST_EACH (item, &s->peers) {
        gp_peer *peer = GP_CONTAINER_OF(item, gp_peer, link);

        if (peer->full_since_ns &&
            now - peer->full_since_ns >= SHARD_RELIEF_NS) {
            peer->full_since_ns = 0;
            gp_shard_relieve(s, peer);
        }
        if (peer->state != PEER_STRANGER || now < peer->deadline)
            continue;
        GP_DEBUG("dropped a connection that said nothing");
        retire(s, peer);
    }
}

/* The first worker tells a shard that was started without numbers its place. */
static gp_status
adopt(gp_shard *s, const gp_hello *hello)
{
    if (s->worker)
        return GP_OK;
    if (hello->size == 0 || hello->size > 1048576 || hello->shards == 0 ||
        hello->shards > 65536 || hello->shard >= hello->shards)
        return gp_fail(GP_ERR_PROTOCOL, "hello with %u workers, shard %u of %u",
                       hello->size, hello->shard, hello->shards);
    s->worker = calloc(hello->size, sizeof(*s->worker));
    s->left = calloc(hello->size, sizeof(*s->left));
    s->barrier = calloc(hello->size, sizeof(*s->barrier));
    s->lag = calloc(hello->size, sizeof(*s->lag));
    if (!s->worker || !s->left || !s->barrier || !s->lag) {
        free(s->worker);
        free(s->left);
        free(s->barrier);
        free(s->lag);
        s->worker = NULL;
        s->left = NULL;
        s->barrier = NULL;
        s->lag = NULL;
        return gp_fail(GP_ERR_NO_MEMORY, "%u workers", hello->size);
    }
    s->size = hello->size;
    if (s->index < 0)
        s->index = hello->shard;
    if (s->shards < 0)
        s->shards = hello->shards;
    s->created_ns = gp_clock_ns();
    s->report_ns = s->created_ns + SHARD_REPORT_NS;
    return GP_OK;
}

static bool
proven(gp_shard *s, gp_peer *peer, const gp_hello *hello)
{
    uint8_t proof[GP_PROOF_BYTES];

    return gp_token_prove(s->token, "worker", peer->nonce, s->job, hello->rank,
                          proof) == GP_OK &&
           gp_token_equal(proof, hello->proof);
}

/* Whether a worker was started anew before it was known that it had died. */
static bool
is_newer_life(const gp_shard *s, const gp_msg *hello, uint32_t rank)
{
    uint32_t later = hello->incarnation - s->worker[rank]->incarnation;

    return s->elastic && later > 0 && later < UINT32_MAX / 2;
}

/* NULL when the newcomer may join, else a status and the reason. */
static gp_status
judge(gp_shard *s, gp_peer *peer, const gp_msg *msg, const gp_hello *hello)
{
    if (msg->job != s->job)
        return gp_fail(
            GP_ERR_REFUSED,
            "%s belongs to another job than '%s': check GRADPUSH_JOB",
            hello->identity, s->job_name);
    if (!proven(s, peer, hello))
        return gp_fail(GP_ERR_AUTH,
                       "%s has a wrong job token: give all processes the same "
                       "GRADPUSH_TOKEN or GRADPUSH_TOKEN_FILE",
                       hello->identity);
    if (s->size < 0 && s->told > 0 && hello->size != s->told)
        return gp_fail(GP_ERR_MISMATCH,
                       "%s counts %u workers, this shard %lld: give all "
                       "processes the same GRADPUSH_SIZE",
                       hello->identity, hello->size, (long long)s->told);
    if (adopt(s, hello) != GP_OK)
        return GP_ERR_PROTOCOL;
    if (hello->size != s->size || hello->shards != s->shards ||
        hello->shard != s->index)
        return gp_fail(
            GP_ERR_MISMATCH,
            "%s counts %u workers and takes this for shard %u of %u, "
            "but it is shard %lld of %lld with %lld workers: give all "
            "processes the same GRADPUSH_SIZE and GRADPUSH_SERVERS",
            hello->identity, hello->size, hello->shard, hello->shards,
            (long long)s->index, (long long)s->shards, (long long)s->size);
    if (hello->rank >= s->size)
        return gp_fail(GP_ERR_MISMATCH, "%s has rank %u of %lld workers",
                       hello->identity, hello->rank, (long long)s->size);
    if (s->worker[hello->rank] && !is_newer_life(s, msg, hello->rank))
        return gp_fail(GP_ERR_EXISTS,
                       "rank %u is taken by %s: %s must use "
                       "another GRADPUSH_RANK",
                       hello->rank, s->worker[hello->rank]->identity,
                       hello->identity);
    if (s->left[hello->rank])
        return gp_fail(GP_ERR_STATE, "worker %u has left this job already",
                       hello->rank);
    if (s->fault != GP_OK)
        return gp_fail(s->fault, "the job has failed: %.300s", s->fault_text);
    return GP_OK;
}

void
gp_shard_start(gp_shard *s)
{
    s->started = true;
    for (int64_t r = 0; r < s->size; r++) {
        gp_msg msg = {.type = GP_MSG_START};

        if (s->worker[r])
            (void)gp_peer_post(s, s->worker[r], &msg, NULL, 0);
    }
}

static void
on_hello(gp_shard *s, gp_peer *peer, const gp_event *event)
{
    gp_msg msg = {.type = GP_MSG_WELCOME, .payload = GP_WELCOME_BYTES};
    uint8_t bytes[GP_WELCOME_BYTES];
    gp_welcome welcome;
    gp_hello hello;
    gp_status status;

    status = gp_hello_decode(event->payload, event->msg.payload, &hello);
    if (status == GP_OK)
        status = judge(s, peer, &event->msg, &hello);
    if (status != GP_OK) {
        refuse(s, peer, status, "%s", gp_last_error());
        return;
    }
    if (gp_token_prove(s->token, "shard", hello.nonce, s->job,
                       (uint64_t)s->index, welcome.proof) != GP_OK) {
        refuse(s, peer, GP_ERR_UNSUPPORTED, "%s", gp_last_error());
        return;
    }
    if (s->worker[hello.rank])
        gp_shard_drop(s, s->worker[hello.rank], GP_ERR_PEER_LOST);
    peer->rank = hello.rank;
    peer->incarnation = event->msg.incarnation;
    memcpy(peer->identity, hello.identity, sizeof(peer->identity));
    peer->state = PEER_JOINED;
    peer->ops->ep_trust(peer->ep);
    s->worker[hello.rank] = peer;
    gp_lag_forget(s, hello.rank);
    gp_welcome_encode(&welcome, bytes);
    (void)gp_peer_post(s, peer, &msg, bytes, 0);
    s->joined++;
    if (s->elastic)
        gp_members_joined(s, peer);
    else if (s->joined == (uint32_t)s->size)
        gp_shard_start(s);
}

/* Slots of ranks are shifted against each other within pages: one pass folds
 * the pushes of all, and lines of the same place in a page share one place in
 * the first cache, which has no room for those of eight. */
static gp_status
grant_slots(gp_shard *s, gp_peer *peer)
{
    size_t bytes, shift = peer->rank % SLOT_COLOURS * SLOT_SHIFT, all;
    gp_status status;

    if (s->chunks == 0)
        return GP_OK;
    if (!gp_mul(s->slots, s->slot_bytes, &bytes) || !gp_add(bytes, shift, &all))
        return gp_fail(GP_ERR_TOO_LARGE, "landing slots");
    peer->slot_memory = gp_shard_take(s, all);
    if (!peer->slot_memory)
        return gp_fail(GP_ERR_NO_MEMORY, "landing slots of %zu bytes", bytes);
    peer->slots = (uint8_t *)peer->slot_memory + shift;
    status =
        peer->ops->mem_reg(peer->domain, peer->slots, bytes, &peer->slot_mem);
    if (status == GP_OK)
        status = peer->ops->expose(peer->ep, peer->slot_mem, 0, bytes,
                                   GP_REGION_LANDING, &peer->region);
    return status;
}

static void
on_tensors(gp_shard *s, gp_peer *peer, const gp_event *event)
{
    gp_msg msg = {.type = GP_MSG_READY, .payload = GP_GRANT_BYTES};
    uint8_t bytes[GP_GRANT_BYTES];
    gp_tensor_list list;
    gp_grant grant = {0};
    bool agreed = s->agreed;
    gp_status status;

    status = gp_tensor_list_decode(event->payload, event->msg.payload, &list);
    if (status == GP_OK)
        status = gp_shard_agree(s, &list, peer->rank);
    if (status == GP_OK)
        status = grant_slots(s, peer);
    if (status != GP_OK && agreed && s->elastic) {
        gp_peer_refuse(s, peer, status, "%s", gp_last_error());
        return;
    }
    if (status != GP_OK) {
        gp_shard_fail(s, status, "%s", gp_last_error());
        return;
    }
    peer->state = PEER_READY;
    gp_device_slots_open(s, peer);
    if (s->chunks > 0)
        grant = (gp_grant){s->slots, peer->region, s->slot_bytes};
    gp_grant_encode(&grant, bytes);
    (void)gp_peer_post(s, peer, &msg, bytes, 0);
}

static void
on_barrier(gp_shard *s, gp_peer *peer)
{
    if (!s->barrier_since_ns)
        s->barrier_since_ns = gp_clock_ns();
    if (s->barrier[peer->rank]++ <= s->barrier_count)
        gp_barrier_advance(s);
}

void
gp_barrier_advance(gp_shard *s)
{
    if (!s->barrier_since_ns)
        return;
    for (int64_t r = 0; r < s->size; r++)
        if (s->barrier[r] <= s->barrier_count &&
            gp_rank_is_awaited(s, (uint32_t)r)) {
            gp_shard_check_left(s);
            return;
        }
    s->barrier_count++;
    s->barrier_since_ns = 0;
    for (int64_t r = 0; r < s->size; r++) {
        gp_msg msg = {.type = GP_MSG_BARRIER};

        if (s->worker[r])
            (void)gp_peer_post(s, s->worker[r], &msg, NULL, 0);
    }
}

/* Bytes, so that the worker learns how fast they come. */
static void
on_probe(gp_shard *s, gp_peer *peer, const gp_event *event)
{
    static const uint8_t zeros[GP_PROBE_BYTES];
    gp_msg msg = {.type = GP_MSG_PROBE, .payload = event->msg.elements};

    if (msg.payload == 0 || msg.payload > GP_PROBE_BYTES) {
        GP_ERROR("worker %u asked for %llu bytes of a probe", peer->rank,
                 (unsigned long long)msg.payload);
        gp_shard_drop(s, peer, GP_ERR_PROTOCOL);
        return;
    }
    (void)gp_peer_post(s, peer, &msg, zeros, 0);
}

static void
on_bye(gp_shard *s, gp_peer *peer)
{
    char missing[GP_TEXT_MAX];

    peer->state = PEER_LEFT;
    s->departed++;
    if (s->elastic) {
        remove_peer(s, peer, true);
        gp_members_gone(s, true);
        return;
    }
    s->left[peer->rank] = true;
    gp_shard_let_go(s, peer);
    gp_shard_recount(s);
    if (!s->started) {
        gp_shard_missing(s, missing, sizeof(missing));
        gp_shard_fail(s, GP_ERR_PEER_LEFT,
                      "worker %u gave up waiting: %.300s; start them closer "
                      "together, or raise connect_timeout",
                      peer->rank, missing);
    }
    gp_norms_left(s);
    gp_shard_check_left(s);
}

/* The worker is about to close: what it died of matters more than that. */
static void
on_fault(gp_shard *s, gp_peer *peer, const gp_event *event)
{
    gp_status status = (gp_status)event->msg.status;
    char text[GP_TEXT_MAX];

    gp_text_decode(event->payload, event->msg.payload, text);
    if (status == GP_OK || strcmp(gp_status_name(status), "GP_UNKNOWN") == 0)
        status = GP_ERR_PEER_LOST;
    if (s->elastic) {
        GP_WARN("worker %u gave up: %.400s", peer->rank, text);
        gp_shard_drop(s, peer, GP_ERR_PEER_LOST);
        return;
    }
    gp_shard_fail(s, status, "worker %u gave up: %.400s", peer->rank, text);
}

void
gp_shard_control(gp_shard *s, gp_peer *peer, const gp_event *event)
{
    const gp_msg *msg = &event->msg;
    bool member = peer->state == PEER_JOINED || peer->state == PEER_READY;

    if (peer->state == PEER_STRANGER && msg->type == GP_MSG_HELLO)
        on_hello(s, peer, event);
    else if (peer->state == PEER_JOINED && msg->type == GP_MSG_TENSORS)
        on_tensors(s, peer, event);
    else if (peer->state == PEER_JOINED && msg->type == GP_MSG_PROBE)
        on_probe(s, peer, event);
    else if (peer->state == PEER_READY && msg->type == GP_MSG_PULL)
        gp_shard_pull(s, peer, msg);
    else if (peer->state == PEER_READY && msg->type == GP_MSG_PROPOSE)
        gp_shard_propose(s, peer, msg);
    else if (peer->state == PEER_READY && msg->type == GP_MSG_RESTORE)
        gp_shard_restore(s, peer, event);
    else if (peer->state == PEER_READY && msg->type == GP_MSG_RECALL)
        gp_shard_recall(s, peer, msg);
    else if (peer->state == PEER_READY && msg->type == GP_MSG_TOTAL)
        gp_shard_total(s, peer, msg);
    else if (peer->state == PEER_READY && msg->type == GP_MSG_REST)
        gp_shard_rest(s, peer, msg);
    else if (peer->state == PEER_READY && msg->type == GP_MSG_MEMBERS)
        gp_shard_members(s, peer, event);
    else if (member && msg->type == GP_MSG_BARRIER)
        on_barrier(s, peer);
    else if (member && msg->type == GP_MSG_BYE)
        on_bye(s, peer);
    else if (member && msg->type == GP_MSG_FAULT)
        on_fault(s, peer, event);
    else if (peer->state == PEER_STRANGER)
        refuse(s, peer, GP_ERR_PROTOCOL, "message type %u instead of a hello",
               msg->type);
    else if (peer->state != PEER_LEFT) {
        GP_ERROR("worker %u sent message type %u out of turn", peer->rank,
                 msg->type);
        gp_shard_drop(s, peer, GP_ERR_PROTOCOL);
    }
}
