/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn.c - the worker's side of a connection to a shard.
 *
 * Both sides prove the job token: the shard must not take pushes from a
 * stranger, and the worker must not give its gradients to one.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "collective/mesh.h"
#include "worker/staging.h"

gp_status
gp_conn_post(gp_conn *conn, gp_msg *msg, const void *payload, gp_mem *mem,
             uint64_t cookie)
{
    gp_worker *w = conn->worker;
    gp_status status;

    msg->job = w->job_hash;
    msg->worker = w->rank;
    msg->incarnation = w->incarnation;
    msg->epoch = w->epoch;
    status = conn->link->ops->post(conn->ep, msg, payload, mem, cookie);
    if (status != GP_OK)
        return status;
    atomic_fetch_add_explicit(&w->messages_sent, 1, memory_order_relaxed);
    if (gp_msg_is_work(msg, FLUSH_BYTES))
        (void)conn->link->ops->flush(conn->ep);
    else
        conn->flush = true;
    return GP_OK;
}

void
gp_worker_close_conns(gp_worker *w)
{
    for (uint32_t i = 0; w->conn && i < w->shards; i++) {
        gp_conn *conn = &w->conn[i];

        if (conn->ep) {
            gp_buffer_withdraw(conn);
            gp_direct_withdraw(conn);
            conn->link->ops->ep_close(conn->ep);
        }
        conn->ep = NULL;
        conn->state = CONN_CLOSED;
        conn->starved_ns = 0;
        conn->flush = false;
    }
    gp_buffer_let_go(w);
}

/* Without it the shards could only say that this worker vanished. */
static void
tell_shards(gp_worker *w, gp_status status)
{
    for (uint32_t i = 0; w->conn && i < w->shards; i++) {
        gp_conn *conn = &w->conn[i];
        gp_msg msg = {.type = GP_MSG_FAULT,
                      .status = status,
                      .payload = strlen(w->fault_text)};

        if (conn->ep && conn->state >= CONN_WELCOME)
            (void)gp_conn_post(conn, &msg, w->fault_text, NULL, 0);
    }
}

/* The job is over for this worker. Connections are closed first, because they
 * may still read from buffers whose requests end now. */
void
gp_worker_fail(gp_worker *w, gp_status status, const char *format, ...)
{
    va_list args;

    if (atomic_load(&w->fault) != GP_OK || w->leaving)
        return;
    va_start(args, format);
    vsnprintf(w->fault_text, sizeof(w->fault_text), format, args);
    va_end(args);
    atomic_store(&w->fault, (int)status);
    GP_ERROR("%s", w->fault_text);
    tell_shards(w, status);
    if (w->shard)
        gp_shard_abandon(w->shard, status, w->fault_text);
    gp_worker_close_conns(w);
    gp_mesh_fail(w->mesh, status, w->fault_text);
    GP_LIST_EACH (item, &w->active) {
        gp_engine_finish(GP_CONTAINER_OF(item, gp_request, link), status);
    }
    gp_driver_signal(w->driver);
}

static void
say_hello(gp_conn *conn, const gp_event *event)
{
    gp_worker *w = conn->worker;
    gp_msg msg = {.type = GP_MSG_HELLO};
    uint8_t bytes[GP_HELLO_BYTES_MAX];
    char host[64] = "?";
    gp_challenge challenge;
    gp_hello hello = {.rank = w->rank,
                      .size = w->size,
                      .shard = conn->shard,
                      .shards = w->shards};
    gp_status status;

    status =
        gp_challenge_decode(event->payload, event->msg.payload, &challenge);
    if (status == GP_OK)
        status = gp_random(conn->nonce, sizeof(conn->nonce));
    if (status == GP_OK)
        status = gp_token_prove(w->token, "worker", challenge.nonce,
                                w->job_hash, w->rank, hello.proof);
    if (status != GP_OK) {
        gp_worker_fail(w, status, "%s", gp_last_error());
        return;
    }
    memcpy(hello.nonce, conn->nonce, sizeof(hello.nonce));
    gethostname(host, sizeof(host) - 1);
    snprintf(hello.identity, sizeof(hello.identity), "%s pid %d", host,
             (int)getpid());
    msg.payload = gp_hello_encode(&hello, bytes);
    (void)gp_conn_post(conn, &msg, bytes, NULL, 0);
}

static void
on_welcome(gp_conn *conn, const gp_event *event)
{
    gp_worker *w = conn->worker;
    uint8_t proof[GP_PROOF_BYTES];
    char text[160];
    gp_welcome welcome;

    if (gp_welcome_decode(event->payload, event->msg.payload, &welcome) !=
            GP_OK ||
        gp_token_prove(w->token, "shard", conn->nonce, w->job_hash, conn->shard,
                       proof) != GP_OK ||
        !gp_token_equal(proof, welcome.proof)) {
        gp_worker_fail(w, GP_ERR_AUTH,
                       "shard %u at %s does not know the job token: check its "
                       "address, and give all processes the same "
                       "GRADPUSH_TOKEN or GRADPUSH_TOKEN_FILE",
                       conn->shard, conn->address);
        return;
    }
    conn->link->ops->ep_trust(conn->ep);
    conn->state = CONN_WELCOME;
    conn->link->ops->ep_describe(conn->ep, text, sizeof(text));
    GP_INFO("connected to shard %u: %s", conn->shard, text);
}

static void
on_start(gp_conn *conn)
{
    conn->state = CONN_STARTED;
    atomic_fetch_add(&conn->worker->started, 1);
}

static void
on_ready(gp_conn *conn, const gp_event *event)
{
    gp_worker *w = conn->worker;
    gp_grant grant;
    gp_status status;

    status = gp_grant_decode(event->payload, event->msg.payload, &grant);
    if (status == GP_OK) {
        conn->slots = grant.slots;
        conn->region = grant.region;
        conn->slot_bytes = grant.slot_bytes;
        conn->free_slots = grant.slots ? gp_slots_mask(0, grant.slots) : 0;
        status = gp_worker_open_scratch(w, conn);
    }
    if (status != GP_OK) {
        gp_worker_fail(w, status, "%s", gp_last_error());
        return;
    }
    conn->state = CONN_AGREED;
    atomic_fetch_add(&w->agreed, 1);
}

/* What has left before lies where it was to, which the shard expects. */
static void
on_landing(gp_conn *conn, const gp_event *event)
{
    gp_worker *w = conn->worker;
    const gp_msg *msg = &event->msg;
    size_t bytes = w->tensors * sizeof(*conn->landing);

    if (msg->aux == 0) {
        conn->landing_region = 0;
        return;
    }
    if (msg->aux > UINT32_MAX || msg->payload != bytes) {
        gp_worker_fail(w, GP_ERR_PROTOCOL, "malformed landing message");
        return;
    }
    free(conn->landing);
    conn->landing = malloc(bytes);
    conn->landing_region = conn->landing ? (uint32_t)msg->aux : 0;
    conn->landing_least = msg->elements;
    if (conn->landing)
        memcpy(conn->landing, event->payload, bytes);
}

void
gp_conn_believe(gp_worker *w)
{
    gp_worker_fail(w, w->hearsay, "%s", w->hearsay_text);
}

/* A shard may know a death only from a worker that died of another: one that
 * this worker sees itself comes first, and so does what another shard says that
 * worker died of. It has happened before, so its news is here at once. */
static void
hear(gp_conn *conn, gp_status status, const char *text)
{
    gp_worker *w = conn->worker;

    conn->told = true;
    if (w->hearsay_ns &&
        (w->hearsay != GP_ERR_PEER_LOST || status == GP_ERR_PEER_LOST))
        return;
    w->hearsay = status;
    memcpy(w->hearsay_text, text, sizeof(w->hearsay_text));
    w->hearsay_ns = gp_clock_ns() + HEARSAY_NS;
    if (status != GP_ERR_PEER_LOST)
        gp_conn_believe(w);
}

static void
on_text(gp_conn *conn, const gp_event *event)
{
    gp_worker *w = conn->worker;
    gp_status status = (gp_status)event->msg.status;
    char text[GP_TEXT_MAX];

    gp_text_decode(event->payload, event->msg.payload, text);
    if (event->msg.type == GP_MSG_WAITING) {
        if (event->msg.aux)
            GP_WARN("waiting: %s", text);
        memcpy(w->waiting, text, sizeof(text));
        return;
    }
    if (status == GP_OK || strcmp(gp_status_name(status), "GP_UNKNOWN") == 0)
        status = GP_ERR_REFUSED;
    if (event->msg.type == GP_MSG_REFUSE)
        gp_worker_fail(w, status, "shard %u at %s refused: %s", conn->shard,
                       conn->address, text);
    else
        hear(conn, status, text);
}

static void
on_lag(gp_worker *w, const gp_event *event)
{
    gp_lag_report report;

    if (gp_lag_decode(event->payload, event->msg.payload, &report) != GP_OK ||
        report.worst >= w->size) {
        gp_worker_fail(w, GP_ERR_PROTOCOL, "malformed lag message");
        return;
    }
    atomic_store(&w->lag_ns, report.mean_ns);
    atomic_store(&w->awaited_ns, report.awaited_ns);
    atomic_store(&w->straggler_lag_ns, report.worst_ns);
    atomic_store(&w->straggler, report.worst);
}

static void
on_barrier(gp_worker *w)
{
    w->waiting[0] = '\0';
    atomic_fetch_add(&w->barriers_passed, 1);
    gp_driver_signal(w->driver);
}

static void
on_message(gp_conn *conn, const gp_event *event)
{
    gp_worker *w = conn->worker;
    const gp_msg *msg = &event->msg;

    atomic_fetch_add_explicit(&w->messages_received, 1, memory_order_relaxed);
    if (conn->slots)
        conn->free_slots |= msg->credits & (UINT64_MAX >> (64 - conn->slots));
    if (msg->type == GP_MSG_RESULT && conn->state == CONN_AGREED)
        gp_engine_result(conn, event);
    else if (msg->type == GP_MSG_ACK && conn->state == CONN_AGREED)
        gp_engine_ack(conn, msg);
    else if (msg->type == GP_MSG_AGREE && conn->state == CONN_AGREED)
        gp_engine_agree(conn, msg);
    else if (msg->type == GP_MSG_KEPT && conn->state == CONN_AGREED)
        gp_kept_answer(conn, event);
    else if (msg->type == GP_MSG_NORM && conn->state == CONN_AGREED)
        gp_worker_norm(conn, event);
    else if (msg->type == GP_MSG_LANDING &&
             (conn->state == CONN_STARTED || conn->state == CONN_AGREED))
        on_landing(conn, event);
    else if (msg->type == GP_MSG_PROBE && conn->state == CONN_STARTED)
        gp_probe_answer(conn, msg);
    else if (msg->type == GP_MSG_CREDIT)
        return;
    else if (msg->type == GP_MSG_MEMBERS && conn->shard == 0)
        gp_membership_answer(conn, event);
    else if (msg->type == GP_MSG_LAG && conn->shard == 0)
        on_lag(w, event);
    else if (msg->type == GP_MSG_BARRIER && conn->shard == 0)
        on_barrier(w);
    else if (msg->type == GP_MSG_WAITING || msg->type == GP_MSG_FAULT ||
             msg->type == GP_MSG_REFUSE)
        on_text(conn, event);
    else if (msg->type == GP_MSG_CHALLENGE && conn->state == CONN_HELLO)
        say_hello(conn, event);
    else if (msg->type == GP_MSG_WELCOME && conn->state == CONN_HELLO)
        on_welcome(conn, event);
    else if (msg->type == GP_MSG_START && conn->state == CONN_WELCOME)
        on_start(conn);
    else if (msg->type == GP_MSG_READY && conn->state == CONN_STARTED)
        on_ready(conn, event);
    else
        gp_worker_fail(w, GP_ERR_PROTOCOL,
                       "shard %u at %s sent message type %u out of turn",
                       conn->shard, conn->address, msg->type);
}

gp_status
gp_conn_connect(gp_conn *conn)
{
    gp_status status = conn->link->ops->connect(
        conn->link->domain, conn->address, conn->deadline_ns, &conn->ep);

    if (status == GP_OK)
        conn->link->ops->ep_set_user(conn->ep, conn);
    return status;
}

bool
gp_conn_go_other_way(gp_conn *conn, const char *why)
{
    const gp_transport_ops *other = conn->other;
    gp_worker *w = conn->worker;

    if (!other)
        return false;
    if (!w->went_other_way)
        GP_WARN("shard %u offers verbs, but %s is used: %s", conn->shard,
                other->name, why);
    w->went_other_way = true;
    if (conn->ep)
        conn->link->ops->ep_close(conn->ep);
    conn->ep = NULL;
    conn->other = NULL;
    memcpy(conn->address, conn->other_address, sizeof(conn->address));
    return gp_worker_link(w, other, &conn->link) == GP_OK &&
           gp_conn_connect(conn) == GP_OK;
}

/* Nothing was said on the connection yet, and the peer is not a stranger. */
static bool
try_other_way(gp_conn *conn, gp_status status)
{
    char text[640];

    if (conn->state != CONN_CONNECTING || !conn->other ||
        status == GP_ERR_VERSION || status == GP_ERR_AUTH ||
        status == GP_ERR_PROTOCOL)
        return false;
    conn->link->ops->ep_describe(conn->ep, text, sizeof(text));
    return gp_conn_go_other_way(conn, text);
}

/* A transport knows more than a status says: that another program listens
 * there, or which limit of a device to raise. */
static void
cannot_connect(gp_conn *conn, gp_status status)
{
    char text[640] = "";

    if (conn->ep)
        conn->link->ops->ep_describe(conn->ep, text, sizeof(text));
    gp_worker_fail(conn->worker, status == GP_OK ? GP_ERR_UNREACHABLE : status,
                   "cannot connect to shard %u at %s: %s%s%s%s; is a shard "
                   "running there, and is the address right?",
                   conn->shard, conn->address, gp_status_text(status),
                   *text ? " (" : "", text, *text ? ")" : "");
}

/* A way that the configuration insists on has failed: the transport knows. */
static void
not_supported(gp_conn *conn)
{
    char text[640] = "";

    conn->link->ops->ep_describe(conn->ep, text, sizeof(text));
    gp_worker_fail(conn->worker, GP_ERR_UNSUPPORTED,
                   "the connection to shard %u at %s ended: %s", conn->shard,
                   conn->address, text);
}

static void
on_closed(gp_conn *conn, gp_status status)
{
    gp_worker *w = conn->worker;

    if (conn->told)
        gp_conn_believe(w);
    else if (try_other_way(conn, status))
        return;
    else if (conn->state == CONN_CONNECTING && status == GP_ERR_PROTOCOL)
        gp_worker_fail(w, status,
                       "what answers at %s is not a gradpush shard: check the "
                       "address of shard %u",
                       conn->address, conn->shard);
    else if (conn->state == CONN_CONNECTING && status != GP_ERR_VERSION)
        cannot_connect(conn, status);
    else if (status == GP_ERR_UNSUPPORTED)
        not_supported(conn);
    else if (status == GP_ERR_VERSION)
        gp_worker_fail(
            w, status,
            "shard %u at %s speaks another protocol version than %u: "
            "use the same gradpush everywhere",
            conn->shard, conn->address, GP_PROTOCOL_VERSION);
    else
        gp_worker_fail(w, GP_ERR_PEER_LOST,
                       "shard %u at %s died or closed the connection (%s)",
                       conn->shard, conn->address,
                       status == GP_OK ? "end of stream"
                                       : gp_status_text(status));
}

void
gp_conn_event(gp_worker *w, const gp_event *event)
{
    gp_conn *conn = event->user;

    /* Closed within this turn: what follows of it is of no interest. */
    if (!conn || !conn->ep)
        return;
    (void)w;
    switch (event->type) {
    case GP_EVENT_CONNECTED:
        conn->state = CONN_HELLO;
        break;
    case GP_EVENT_MESSAGE:
        on_message(conn, event);
        break;
    case GP_EVENT_SENT:
        gp_engine_sent(conn, event->cookie);
        break;
    case GP_EVENT_CLOSED:
        on_closed(conn, event->status);
        break;
    default:
        break;
    }
}
