/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine.c - from requests to messages and back.
 *
 * One turn: take what users submitted, hear what shards said, send what can be
 * sent. Nothing in a turn blocks or allocates.
 */
#include <string.h>

#include "collective/mesh.h"
#include "worker/rows.h"
#include "worker/staging.h"

/* By priority, highest first; equal ones keep their order. New operations
 * usually belong at one of the two ends. */
static void
make_ready(gp_op *op)
{
    gp_list *at = &op->conn->ready;
    int32_t priority = op->request->priority;

    while (at->prev != &op->conn->ready) {
        gp_op *before = GP_CONTAINER_OF(at->prev, gp_op, ready);

        if (before->request->priority >= priority)
            break;
        at = at->prev;
    }
    gp_list_insert(at, &op->ready);
}

static bool
is_gradient(const gp_op *op)
{
    return gp_op_sends_push(op) && !gp_kind_is_init(op->request->kind);
}

/* The first of its chunk's chain: it is the engine's turn. */
static void
release(gp_op *op)
{
    gp_tensor *t = op->request->tensor;

    if (op->absent)
        return; /* until gp_engine_arrived() */
    if (is_gradient(op) && gp_encode_waits(op))
        gp_list_insert(&t->parked, &op->ready);
    else
        make_ready(op);
}

void
gp_engine_arrived(gp_op *op)
{
    const gp_worker *w = op->conn->worker;

    if (w->chain[op->chunk].next == &op->chain && !w->held[op->chunk])
        release(op);
}

static void
unpark(gp_tensor *t)
{
    GP_LIST_EACH (item, &t->parked) {
        gp_op *op = GP_CONTAINER_OF(item, gp_op, ready);

        if (gp_encode_waits(op))
            continue;
        gp_list_remove(&op->ready);
        make_ready(op);
    }
}

static void
start_request(gp_worker *w, gp_request *r)
{
    gp_tensor *t = r->tensor;

    if (gp_list_empty(&w->active))
        gp_worker_busy(w);
    gp_list_insert(&w->active, &r->link);
    gp_buffer_attach(r);
    r->codec = 0;
    if (r->kind == OP_PUSH || r->kind == OP_PUSH_PULL)
        r->codec = gp_tensor_choose(t, r->step);
    r->left = t->chunks;
    r->version = UINT64_MAX;
    if (r->staged)
        gp_staged_start(r);
    for (uint32_t i = 0; i < t->chunks; i++) {
        gp_op *op = &r->op[i];
        bool first = gp_list_empty(&w->chain[op->chunk]) && !w->held[op->chunk];

        op->sent = op->split = op->pushed = op->coded = false;
        op->measured = op->asking = op->agreed = false;
        op->shared = 0;
        op->receive_piece = op->slot = op->send_piece = -1;
        op->conn->open++;
        gp_list_insert(&w->chain[op->chunk], &op->chain);
        if (first)
            release(op);
    }
}

static bool
take_submitted(gp_worker *w)
{
    gp_list taken;
    gp_list *item;
    int fault = atomic_load(&w->fault);

    gp_list_init(&taken);
    pthread_mutex_lock(&w->submit_lock);
    while ((item = gp_list_pop(&w->submitted)))
        gp_list_insert(&taken, item);
    pthread_mutex_unlock(&w->submit_lock);
    if (gp_list_empty(&taken))
        return false;
    while ((item = gp_list_pop(&taken))) {
        gp_request *r = GP_CONTAINER_OF(item, gp_request, link);

        if (fault != GP_OK)
            gp_engine_finish(r, (gp_status)fault);
        else
            start_request(w, r);
    }
    return true;
}

static bool
is_starved(const gp_conn *conn)
{
    return conn->starved_ns && gp_clock_ns() - conn->starved_ns >= STARVED_NS;
}

static bool
lacks_piece(const gp_op *op)
{
    const gp_request *r = op->request;

    return gp_kind_pulls(r->kind) && !gp_op_lands(op) &&
           gp_slots_find(op->conn->receive.free,
                         gp_slots_for(gp_op_result_bound(op),
                                      op->conn->receive.bytes)) < 0;
}

/* Pulls of split operations are older than whatever is ready. */
static void
resume_split(gp_conn *conn)
{
    const scratch *s = &conn->receive;
    uint64_t free = s->free;

    while (!gp_list_empty(&conn->unbuffered)) {
        gp_op *op = GP_CONTAINER_OF(conn->unbuffered.next, gp_op, ready);
        uint64_t count = gp_slots_for(gp_op_result_bound(op), s->bytes);
        int first = gp_slots_find(free, count);

        if (first < 0)
            return;
        free &= ~gp_slots_mask((uint32_t)first, (uint32_t)count);
        gp_list_insert(conn->ready.next, gp_list_pop(&conn->unbuffered));
    }
}

/* Whether an operation without a buffer for its result may go on. */
static bool
do_without_piece(gp_op *op, bool starved)
{
    gp_conn *conn = op->conn;

    if (!starved) {
        if (conn->starved_ns == 0)
            conn->starved_ns = gp_clock_ns();
        return false;
    }
    op->split = gp_op_sends_push(op);
    if (!op->split) {
        gp_list_remove(&op->ready);
        gp_list_insert(&conn->unbuffered, &op->ready);
    }
    return true;
}

static int
pump(gp_conn *conn)
{
    bool starved = is_starved(conn);
    int sent = 0;

    if (starved)
        conn->starved_ns = 0;
    if (!gp_list_empty(&conn->unbuffered))
        resume_split(conn);
    while (conn->state == CONN_AGREED && !gp_list_empty(&conn->ready)) {
        gp_op *op = GP_CONTAINER_OF(conn->ready.next, gp_op, ready);
        bool asks = gp_op_sends_proposal(op);
        gp_status status;

        if (!asks && gp_op_holds_back(op))
            break;
        if (!asks && lacks_piece(op)) {
            if (!do_without_piece(op, starved))
                break;
            if (!op->split)
                continue;
        }
        status = gp_op_send(op);
        if (status == GP_AGAIN || status == GP_ERR_PEER_LOST) {
            op->split = false;
            break;
        }
        if (status != GP_OK) {
            gp_worker_fail(conn->worker, status, "push of tensor '%.60s': %s",
                           op->request->tensor->spec.name, gp_last_error());
            break;
        }
        gp_list_remove(&op->ready);
        sent++;
        if (!asks && is_gradient(op) && gp_encode_end(op))
            unpark(op->request->tensor);
    }
    return sent;
}

static void
withdraw(gp_request *r)
{
    gp_worker *w = r->tensor->worker;

    for (uint32_t s = 0; s < w->shards; s++) {
        gp_conn *conn = &w->conn[s];

        if (r->token[s] && conn->ep)
            conn->link->ops->unexpose(conn->ep, r->token[s]);
        r->token[s] = 0;
    }
}

/* A request that a stream waits for has nobody else to end it. */
static void
finish_staged(gp_request *r)
{
    gp_worker *w = r->tensor->worker;

    pthread_mutex_lock(&w->submit_lock);
    atomic_store_explicit(&r->done, true, memory_order_release);
    if (r->staged->detached)
        gp_list_insert(&r->tensor->unused, &r->link);
    pthread_mutex_unlock(&w->submit_lock);
}

void
gp_engine_finish(gp_request *r, gp_status status)
{
    if (r->staged)
        gp_staged_end(r, status);
    withdraw(r);
    for (uint32_t i = 0; i < r->tensor->chunks; i++) {
        gp_list_remove(&r->op[i].chain);
        gp_list_remove(&r->op[i].ready);
    }
    gp_list_remove(&r->link);
    if (gp_list_empty(&r->tensor->worker->active))
        gp_worker_idle(r->tensor->worker);
    r->tensor->worker->waiting[0] = '\0'; /* there was progress */
    r->status = status;
    if (status == GP_OK && gp_kind_pulls(r->kind))
        atomic_store(&r->tensor->version, r->version);
    if (status == GP_OK && r->kind == OP_PULL)
        gp_membership_catch_up(r->tensor, r->version);
    gp_worker_closed(r->tensor->worker);
    if (r->staged)
        finish_staged(r);
    else
        atomic_store_explicit(&r->done, true, memory_order_release);
    gp_driver_signal(r->tensor->worker->driver);
}

static void
next_of_chain(gp_worker *w, uint32_t chunk)
{
    gp_list *chain = &w->chain[chunk];

    if (!gp_list_empty(chain))
        release(GP_CONTAINER_OF(chain->next, gp_op, chain));
}

/* The operation is answered: the next one on its chunk may go. */
static void
finish_op(gp_op *op)
{
    gp_worker *w = op->conn->worker;
    gp_request *r = op->request;

    op->conn->open--;
    if (op->receive_piece >= 0) {
        gp_scratch_give(&op->conn->receive, op->receive_piece);
        op->conn->starved_ns = 0;
    }
    op->receive_piece = -1;
    gp_list_remove(&op->chain);
    if (!w->held[op->chunk])
        next_of_chain(w, op->chunk);
    if (r->staged && gp_kind_pulls(r->kind))
        gp_staged_result(op);
    if (r->parts) {
        atomic_store_explicit(&op->answered, true, memory_order_release);
        gp_driver_signal(w->driver);
    }
    if (--r->left == 0 && !(r->staged && gp_staged_return(r)))
        gp_engine_finish(r, GP_OK);
}

/* The operation that an answer belongs to, or NULL: answers are matched by
 * chunk and number, and must come from the chunk's own shard. */
static gp_op *
find_op(gp_conn *conn, const gp_msg *msg)
{
    gp_worker *w = conn->worker;
    gp_op *op;

    if (msg->chunk >= w->map.chunks || gp_list_empty(&w->chain[msg->chunk]))
        return NULL;
    op = GP_CONTAINER_OF(w->chain[msg->chunk].next, gp_op, chain);
    if (op->conn != conn || !op->sent || op->cookie != msg->cookie)
        return NULL;
    return op;
}

static void
stray(gp_conn *conn, const gp_msg *msg)
{
    gp_worker_fail(conn->worker, GP_ERR_PROTOCOL,
                   "shard %u at %s answered chunk %u, which was not asked",
                   conn->shard, conn->address, msg->chunk);
}

/* A push that was received before is folded now. */
static bool
release_chain(gp_conn *conn, const gp_msg *msg)
{
    gp_worker *w = conn->worker;

    if (msg->chunk >= w->map.chunks || w->held[msg->chunk] == 0 ||
        w->held[msg->chunk] != msg->cookie || msg->status == GP_PENDING ||
        w->map.chunk[msg->chunk].shard != conn->shard)
        return false;
    w->held[msg->chunk] = 0;
    next_of_chain(w, msg->chunk);
    return true;
}

void
gp_engine_ack(gp_conn *conn, const gp_msg *msg)
{
    gp_op *op;

    if (release_chain(conn, msg))
        return;
    op = find_op(conn, msg);
    if (!op || op->asking || (gp_kind_pulls(op->request->kind) && !op->split)) {
        stray(conn, msg);
    } else if (!op->split) {
        if (msg->status == GP_PENDING)
            conn->worker->held[op->chunk] = op->cookie;
        finish_op(op);
    } else if (msg->status != GP_PENDING) {
        op->split = op->sent = false;
        op->pushed = true;
        gp_list_insert(&conn->unbuffered, &op->ready);
    }
}

/* All encode with this number. */
void
gp_engine_agree(gp_conn *conn, const gp_msg *msg)
{
    gp_op *op = find_op(conn, msg);

    if (!op || !op->asking) {
        stray(conn, msg);
        return;
    }
    op->asking = op->sent = false;
    op->agreed = true;
    op->shared = gp_bits_float(msg->aux);
    if (!gp_staged_agreed(op))
        make_ready(op);
}

/* For the co-located shard: the user's memory that a result belongs in. */
float *
gp_engine_destination(void *worker, uint32_t chunk, uint64_t cookie)
{
    gp_worker *w = worker;
    const gp_request *r;
    const gp_op *op;
    float *out;

    if (gp_list_empty(&w->chain[chunk]))
        return NULL;
    op = GP_CONTAINER_OF(w->chain[chunk].next, gp_op, chain);
    r = op->request;
    if (!op->sent || op->cookie != cookie || !gp_op_lands(op) ||
        op->to_device || r->tensor->spec.dtype != GP_FP32 ||
        (uintptr_t)r->out % sizeof(float) != 0)
        return NULL;
    out = (void *)r->out;
    return out + w->map.chunk[chunk].offset;
}

/* Whether a result is one that the operation may get, and lies where it said.
 */
static gp_status
check_result(const gp_op *op, const gp_msg *msg)
{
    const gp_request *r = op->request;
    uint64_t count = gp_op_info(op)->count;
    uint64_t plain = count * gp_element_bytes(r->tensor);
    bool fits = gp_pull_is_direct(r) ? msg->payload == plain
                                     : msg->payload <= gp_op_result_bound(op);

    if (msg->elements != count || !fits)
        return gp_fail(GP_ERR_PROTOCOL, "%llu bytes for %llu elements",
                       (unsigned long long)msg->payload,
                       (unsigned long long)count);
    if (msg->offset % GP_DESTINATION_UNIT ||
        gp_destination(msg->region, msg->offset) != op->destination)
        return gp_fail(GP_ERR_PROTOCOL,
                       "it lies in region %u at %llu, which was not asked for",
                       msg->region, (unsigned long long)msg->offset);
    return GP_OK;
}

/* From the piece of scratch that the result was written to. */
static gp_status
take_result(gp_op *op, const gp_msg *msg)
{
    const gp_request *r = op->request;
    const scratch *s = &op->conn->receive;
    const uint8_t *bytes = s->base + (size_t)op->receive_piece * s->bytes;

    if (r->plan)
        return gp_rows_scatter(op, bytes, msg->payload, msg->step);
    if (!gp_pull_is_direct(r))
        return gp_decode_chunk(op, msg, bytes);
    memcpy(r->out + gp_op_plain_offset(op), bytes, msg->payload);
    return GP_OK;
}

/* It lies in the device's memory: at most the host says what it is. */
static gp_status
take_on_device(gp_op *op, const gp_msg *msg)
{
    gp_status status = gp_direct_arrived(op, msg->payload);

    if (status == GP_OK && !gp_pull_is_direct(op->request))
        status = gp_decode_chunk(op, msg, NULL);
    return status;
}

void
gp_engine_result(gp_conn *conn, const gp_event *event)
{
    const gp_msg *msg = &event->msg;
    gp_op *op = find_op(conn, msg);
    gp_worker *w = conn->worker;
    const gp_request *r = op ? op->request : NULL;
    uint64_t plain;
    gp_status status;

    if (!op || op->asking || !gp_kind_pulls(r->kind) || op->split) {
        stray(conn, msg);
        return;
    }
    plain =
        r->plan ? msg->payload / sizeof(float) : w->map.chunk[op->chunk].count;
    status = check_result(op, msg);
    if (status == GP_OK && op->to_device)
        status = take_on_device(op, msg);
    if (status == GP_OK && op->receive_piece >= 0)
        status = take_result(op, msg);
    if (status != GP_OK) {
        gp_worker_fail(w, status, "result of tensor '%.60s' from shard %u: %s",
                       r->tensor->spec.name, conn->shard, gp_last_error());
        return;
    }
    atomic_fetch_add_explicit(&w->bytes_pulled, msg->payload + GP_MSG_BYTES,
                              memory_order_relaxed);
    atomic_fetch_add_explicit(&w->dense_bytes, plain * sizeof(float),
                              memory_order_relaxed);
    op->request->version = GP_MIN(op->request->version, msg->step);
    finish_op(op);
}

void
gp_engine_sent(gp_conn *conn, uint64_t cookie)
{
    conn->unsent -= (cookie >> 32) * 64;
    cookie &= UINT32_MAX;
    if (cookie >= 1 && cookie <= conn->send.count)
        gp_scratch_give(&conn->send, (int)cookie - 1);
    else
        gp_buffer_sent(conn->worker, cookie);
}

/* Each worker begins with another shard, so that not all of them hit the same
 * one first. */
static int
send_all(gp_worker *w)
{
    int sent = 0;

    for (uint32_t i = 0; i < w->shards; i++) {
        gp_conn *conn = &w->conn[(w->rank + i) % w->shards];

        if (!gp_list_empty(&conn->ready) || !gp_list_empty(&conn->unbuffered))
            sent += pump(conn);
        if (conn->flush && conn->ep) {
            conn->flush = false;
            (void)conn->link->ops->flush(conn->ep);
        }
    }
    return sent;
}

static bool
any_starved(const gp_worker *w)
{
    for (uint32_t i = 0; i < w->shards; i++)
        if (is_starved(&w->conn[i]))
            return true;
    return false;
}

static int
worker_poll(void *self)
{
    gp_worker *w = self;
    gp_event events[WORKER_EVENTS];
    int done = 0;

    if (take_submitted(w) || w->nudged) {
        w->nudged = false;
        done += send_all(w);
    }
    if (w->mesh && gp_mesh_news(w->mesh))
        done += gp_mesh_turn(w->mesh);
    for (int i = 0; i < w->links; i++) {
        worker_link *link = &w->link[i];
        int n = link->ops->progress(link->domain, events, WORKER_EVENTS);

        if (n < 0)
            gp_worker_fail(w, (gp_status)n, "transport %s failed: %s",
                           link->ops->name, gp_status_text((gp_status)n));
        for (int k = 0; k < n; k++)
            if (!gp_mesh_event(w, i, &events[k]))
                gp_conn_event(w, &events[k]);
        done += GP_MAX(n, 0);
    }
    if (w->hearsay_ns && gp_clock_ns() >= w->hearsay_ns)
        gp_conn_believe(w);
    if (w->norms_unsent)
        gp_worker_send_totals(w);
    if (w->stages)
        done += gp_stagings_turn(w);
    if (done > 0 || any_starved(w))
        done += send_all(w);
    if (w->mesh)
        done += gp_mesh_turn(w->mesh);
    return done;
}

static bool
worker_arm(void *self)
{
    gp_worker *w = self;

    if (w->stages && gp_stagings_busy(w))
        return false;
    for (int i = 0; i < w->links; i++)
        if (w->link[i].ops->arm(w->link[i].domain) != GP_OK)
            return false;
    return true;
}

static uint64_t
worker_deadline(void *self)
{
    const gp_worker *w = self;
    bool hearsay = w->hearsay_ns && atomic_load(&w->fault) == GP_OK;
    uint64_t at = hearsay ? w->hearsay_ns : UINT64_MAX;

    if (w->mesh)
        at = GP_MIN(at, gp_mesh_deadline(w->mesh));
    at = GP_MIN(at, gp_stagings_deadline(w));
    for (uint32_t i = 0; i < w->shards; i++)
        if (w->conn[i].starved_ns)
            at = GP_MIN(at, w->conn[i].starved_ns + STARVED_NS);
    return at;
}

gp_driven
gp_worker_driven(gp_worker *w)
{
    gp_driven driven = {.self = w,
                        .poll = worker_poll,
                        .arm = worker_arm,
                        .deadline = worker_deadline,
                        .fd_count = w->links};

    for (int i = 0; i < w->links; i++)
        driven.fds[i] = w->link[i].ops->event_fd(w->link[i].domain);
    return driven;
}
