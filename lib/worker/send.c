/* SPDX-License-Identifier: Apache-2.0 */
/*
 * send.c - the next message of an operation, and what it takes: landing slots,
 * pieces of buffers, a place for the result.
 *
 * What is lacking is found out before anything is encoded; what was encoded
 * stays where it is until the transport has room.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/pool.h"
#include "worker/rows.h"
#include "worker/staging.h"

/* Takes a run of pieces for a payload: the first, or -1. */
static int
take(scratch *s, size_t bytes)
{
    uint64_t count = gp_slots_for(bytes, s->bytes);
    int first = gp_slots_find(s->free, count);

    if (first < 0)
        return -1;
    s->run[first] = (uint8_t)count;
    s->free &= ~gp_slots_mask((uint32_t)first, (uint32_t)count);
    return first;
}

void
gp_scratch_give(scratch *s, int first)
{
    if (first >= 0)
        s->free |= gp_slots_mask((uint32_t)first, s->run[first]);
}

/* The payload turned out shorter than it might have been. */
static void
shorten(scratch *s, int first, size_t bytes)
{
    gp_scratch_give(s, first);
    s->run[first] = (uint8_t)gp_slots_for(bytes, s->bytes);
    s->free &= ~gp_slots_mask((uint32_t)first, s->run[first]);
}

/* Once per worker: it is a matter of speed only. */
static void
say_copied(const gp_conn *conn)
{
    gp_worker *w = conn->worker;

    if (w->copied || conn->copies)
        return;
    w->copied = true;
    GP_INFO("gradients or results lie outside registered memory and are "
            "copied: call gp_buffer_register() with the model's memory, and "
            "begin each result at a multiple of %u bytes in it",
            GP_DESTINATION_UNIT);
}

/* A piece of scratch, which the shard is told of when first needed. */
static gp_status
find_piece(gp_op *op, uint64_t *out)
{
    gp_conn *conn = op->conn;
    scratch *s = &conn->receive;
    int piece = take(s, gp_op_result_bound(op));
    gp_status status = GP_OK;

    if (piece < 0)
        return GP_AGAIN;
    op->receive_piece = piece;
    if (gp_pull_is_direct(op->request))
        say_copied(conn);
    if (!s->region)
        status = conn->link->ops->expose(conn->ep, conn->mem,
                                         (size_t)(s->base - conn->memory),
                                         s->bytes * s->count, 0, &s->region);
    *out = gp_destination(s->region, (uint64_t)piece * s->bytes);
    return status;
}

/* What a link without registration is told of `out`: kept for the next request
 * with the same memory. */
static gp_status
note_out(gp_request *r, const worker_link *link, gp_mem **out)
{
    gp_worker *w = r->tensor->worker;
    gp_mem **kept = &r->mem[link - w->link];
    gp_status status = GP_OK;

    for (int i = 0; i < w->links && r->noted != r->out; i++) {
        if (r->mem[i])
            w->link[i].ops->mem_dereg(r->mem[i]);
        r->mem[i] = NULL;
    }
    r->noted = r->out;
    if (!*kept)
        status = link->ops->mem_reg(link->domain, r->out,
                                    gp_tensor_bytes(r->tensor), kept);
    if (status == GP_OK)
        *out = *kept;
    return status;
}

/* The tensor's memory, exposed for this request only. */
static gp_status
expose_out(gp_request *r, gp_conn *conn)
{
    size_t offset = r->to ? (size_t)(r->out - r->to->base) : 0;
    gp_status status = GP_OK;
    gp_mem *mem;

    if (r->to)
        mem = r->to->mem[conn->link - conn->worker->link];
    else
        status = note_out(r, conn->link, &mem);
    if (status != GP_OK)
        return status;
    return conn->link->ops->expose(conn->ep, mem, offset,
                                   gp_tensor_bytes(r->tensor), 0,
                                   &r->token[conn->shard]);
}

/* The destination of a result: the user's memory, or a piece of scratch. */
static gp_status
find_destination(gp_op *op, uint64_t *out)
{
    gp_request *r = op->request;
    gp_conn *conn = op->conn;
    uint64_t offset = gp_op_plain_offset(op);
    uint32_t token = r->token[conn->shard];
    gp_status status = GP_OK;

    if (!gp_op_lands(op))
        return find_piece(op, out);
    if (op->to_device) {
        status = gp_direct_expose(op, &token, &offset);
    } else if (gp_conn_registers(conn)) {
        offset += (uint64_t)(r->out - r->to->base);
        status = gp_buffer_expose(r->to, conn, &token);
    } else if (token == 0) {
        status = expose_out(r, conn);
        token = r->token[conn->shard];
    }
    *out = gp_destination(token, offset);
    return status;
}

static void
count_sent(gp_worker *w, const gp_op *op, uint64_t payload)
{
    uint64_t plain = w->map.chunk[op->chunk].count * sizeof(float);

    if (op->request->plan)
        plain = payload;
    if (!gp_op_sends_push(op)) {
        atomic_fetch_add_explicit(&w->bytes_pulled, payload + GP_MSG_BYTES,
                                  memory_order_relaxed);
        return;
    }
    op->request->wire_bytes += payload + GP_MSG_BYTES;
    atomic_fetch_add_explicit(&w->bytes_pushed, payload + GP_MSG_BYTES,
                              memory_order_relaxed);
    atomic_fetch_add_explicit(&w->dense_bytes, plain, memory_order_relaxed);
    atomic_fetch_add_explicit(&w->plain_pushed, plain, memory_order_relaxed);
}

static void
describe(gp_op *op, gp_msg *msg)
{
    gp_request *r = op->request;
    gp_tensor *t = r->tensor;
    gp_worker *w = t->worker;

    msg->type = gp_op_sends_push(op) ? GP_MSG_PUSH
                : r->plan            ? GP_MSG_LOOKUP
                                     : GP_MSG_PULL;
    msg->dtype = t->spec.dtype;
    msg->chunk = op->chunk;
    msg->step = r->step + op->pushed;
    msg->elements = w->map.chunk[op->chunk].count;
    msg->pipeline = gp_kind_is_init(r->kind) ? gp_pipeline_id(t->native)
                                             : t->push.id[r->codec];
    msg->cookie = op->cookie;
    msg->priority = r->priority;
    if (gp_kind_is_init(r->kind))
        msg->flags |= GP_MSG_INIT;
    if (r->kind == OP_INIT_PULL)
        msg->pipeline = (uint32_t)r->weight + 1;
    if (r->kind == OP_PUSH_PULL && gp_op_sends_push(op))
        msg->flags |= op->split ? GP_MSG_PATIENT : GP_MSG_WANT;
    if (gp_op_sends_push(op) && r->weight != 1.0) {
        msg->flags |= GP_MSG_WEIGHT;
        msg->credits = gp_double_bits(r->weight);
    }
}

/* Landing slots for a payload. */
static bool
take_slots(gp_op *op, uint64_t bytes)
{
    gp_conn *conn = op->conn;
    uint64_t count = gp_slots_for(bytes, conn->slot_bytes);

    op->slot = gp_slots_find(conn->free_slots, count);
    if (op->slot < 0)
        return false;
    conn->free_slots &= ~gp_slots_mask((uint32_t)op->slot, (uint32_t)count);
    return true;
}

/* Gives back all but what `left` bytes need; 0: all. */
static void
give_slots(gp_op *op, uint64_t bytes, uint64_t left)
{
    uint64_t count = gp_slots_for(bytes, op->conn->slot_bytes);
    uint64_t kept = left ? gp_slots_for(left, op->conn->slot_bytes) : 0;
    uint32_t first = (uint32_t)op->slot + (uint32_t)kept;

    if (count > kept)
        op->conn->free_slots |= gp_slots_mask(first, (uint32_t)(count - kept));
    if (!left)
        op->slot = -1;
}

/* A push is encoded once only, because error feedback must not be applied
 * twice: so what it needs is taken before, and kept until the transport has
 * room. */
static bool
take_room(gp_op *op, size_t bound)
{
    if (!take_slots(op, bound))
        return false;
    op->send_piece = take(&op->conn->send, bound);
    if (op->send_piece < 0)
        give_slots(op, bound, 0);
    return op->send_piece >= 0;
}

static size_t
bound_of(const gp_op *op)
{
    const gp_request *r = op->request;

    if (r->plan)
        return gp_rows_op_bytes(op);
    return gp_pipeline_bound(r->tensor->push.pipeline[r->codec],
                             gp_op_info(op)->count);
}

static uint8_t *
piece_of(const gp_op *op)
{
    const scratch *s = &op->conn->send;

    return s->base + (size_t)op->send_piece * s->bytes;
}

/* Gives back what the message turned out not to need. */
static void
keep_room(gp_op *op, size_t bound, size_t length)
{
    gp_request *r = op->request;

    /* Sending adds the length; behind `fake` another one counts. */
    r->wire_bytes += gp_pipeline_real_length(r->tensor->push.pipeline[r->codec],
                                             piece_of(op), length) -
                     length;
    shorten(&op->conn->send, op->send_piece, length);
    give_slots(op, bound, GP_MAX(length, 1));
    op->length = length;
}

/* Chunks of one step that several threads encode at once. */
typedef struct batch {
    size_t count;
    gp_op *op[GP_SLOTS_MAX];
    size_t bound[GP_SLOTS_MAX], length[GP_SLOTS_MAX];
    gp_status status[GP_SLOTS_MAX];
    /* Of whoever failed first: texts of errors belong to threads. */
    atomic_bool failed;
    gp_status first;
    char why[GP_TEXT_MAX];
} batch;

static void
encode_part(void *arg, size_t part, unsigned thread)
{
    batch *b = arg;

    b->status[part] = gp_encode_chunk(b->op[part], piece_of(b->op[part]),
                                      b->bound[part], &b->length[part], thread);
    if (b->status[part] != GP_OK && !atomic_exchange(&b->failed, true)) {
        b->first = b->status[part];
        snprintf(b->why, sizeof(b->why), "%s", gp_last_error());
    }
}

static bool
can_join(const gp_op *first, const gp_op *op)
{
    return op->request == first->request && gp_op_sends_push(op) &&
           op->slot < 0 && !op->from_device && !gp_op_sends_proposal(op) &&
           !gp_encode_waits(op);
}

/* Whether chunks are encoded from the user's memory, without a shared copy. */
static bool
is_apart(const gp_tensor *t)
{
    return t->spec.dtype == GP_FP32 && !t->flushing;
}

/* The operations behind one that need nothing but room, as many as there are
 * threads: fewer would leave some idle, more would hold room for long. */
static void
gather(batch *b, gp_op *first, size_t most)
{
    gp_list *head = &first->conn->ready;

    b->op[b->count] = first;
    b->bound[b->count++] = bound_of(first);
    if (!is_apart(first->request->tensor))
        return;
    for (gp_list *item = first->ready.next; item != head && b->count < most;
         item = item->next) {
        gp_op *op = GP_CONTAINER_OF(item, gp_op, ready);

        if (!can_join(first, op) || !take_room(op, bound_of(op)))
            break;
        b->op[b->count] = op;
        b->bound[b->count++] = bound_of(op);
    }
}

static gp_status
encode_push(gp_op *op)
{
    gp_worker *w = op->conn->worker;
    size_t most = w->pool ? gp_pool_size(w->pool) : 1;
    gp_request *r = op->request;
    uint64_t begun;
    batch b; /* too large to be cleared each time */

    if (!take_room(op, bound_of(op)))
        return GP_AGAIN;
    b.count = 0;
    atomic_init(&b.failed, false);
    gather(&b, op, most);
    begun = r->trial ? gp_clock_ns() : 0;
    if (b.count > 1)
        gp_pool_run(w->pool, encode_part, &b, b.count);
    else
        encode_part(&b, 0, 0);
    if (r->trial)
        r->encode_ns += gp_clock_ns() - begun;
    for (size_t i = 0; i < b.count; i++)
        if (b.status[i] == GP_OK)
            keep_room(b.op[i], b.bound[i], b.length[i]);
    return atomic_load(&b.failed) ? gp_fail(b.first, "%s", b.why) : GP_OK;
}

/* What would be sent from where it lies, if that were registered. */
static gp_status
copy_push(gp_op *op)
{
    size_t bytes = gp_op_plain_bytes(op);

    if (!take_room(op, bytes))
        return GP_AGAIN;
    say_copied(op->conn);
    memcpy(piece_of(op), op->request->grad + gp_op_plain_offset(op), bytes);
    op->length = bytes;
    return GP_OK;
}

/* The user's memory, as the link knows it. */
static gp_mem *
source_of(const gp_op *op)
{
    const gp_conn *conn = op->conn;
    const gp_buffer *from = op->request->from;

    return from ? from->mem[conn->link - conn->worker->link] : NULL;
}

/* The slots are there twice where the shard has a device: in that one's memory
 * for what it reads itself. */
static uint32_t
landing_region(const gp_op *op)
{
    const gp_conn *conn = op->conn;
    const gp_request *r = op->request;

    if (!conn->landing_region || op->length < conn->landing_least || r->plan ||
        gp_kind_is_init(r->kind) ||
        !(conn->landing[gp_op_info(op)->tensor] >> r->codec & 1))
        return conn->region;
    return conn->landing_region;
}

/* Payload of a push: the user's bytes or a prepared piece. */
static gp_status
attach_payload(gp_op *op, gp_msg *msg, const void **payload, gp_mem **mem)
{
    gp_request *r = op->request;
    gp_conn *conn = op->conn;
    gp_status status = GP_OK;

    if (!gp_kind_is_init(r->kind))
        status = gp_encode_begin(op);
    if (status != GP_OK)
        return status;
    if (op->from_device) {
        *payload = gp_direct_payload(op, mem);
        if (!take_slots(op, op->length))
            status = GP_AGAIN;
    } else if (gp_op_leaves(op)) {
        op->length = gp_op_plain_bytes(op);
        *payload = r->grad + gp_op_plain_offset(op);
        *mem = source_of(op);
        if (!take_slots(op, op->length))
            status = GP_AGAIN;
    } else {
        if (op->slot < 0)
            status = gp_push_is_direct(r) ? copy_push(op) : encode_push(op);
        if (status != GP_OK)
            return status;
        *payload = piece_of(op);
        *mem = conn->mem;
    }
    if (status != GP_OK)
        return status;
    msg->slot = (uint16_t)op->slot;
    msg->region = landing_region(op);
    msg->offset = msg->slot * conn->slot_bytes;
    msg->payload = op->length;
    return GP_OK;
}

/* Gives back what a failed attempt took and another need not find again. */
static void
put_back(gp_op *op)
{
    gp_scratch_give(&op->conn->receive, op->receive_piece);
    op->receive_piece = -1;
    if (op->slot >= 0 && op->send_piece < 0)
        give_slots(op, op->length, 0);
}

/* What SENT of a push is asked for; 0: the answer says enough. */
static uint64_t
sent_cookie(const gp_op *op, const gp_mem *mem)
{
    if (op->send_piece >= 0)
        return (uint64_t)op->send_piece + 1;
    return mem && !op->from_device && gp_conn_registers(op->conn)
               ? gp_buffer_cookie(op->request->from)
               : 0;
}

/* Devices and this process's shard have no queue of their own: there the
 * landing slots are limit enough. */
static bool
is_counted(const gp_op *op)
{
    const gp_conn *conn = op->conn;

    return conn->worker->ranked && gp_op_sends_push(op) &&
           !gp_conn_registers(conn) && !(conn->link->ops->caps & GP_CAP_LOCAL);
}

bool
gp_op_holds_back(const gp_op *op)
{
    return op->conn->unsent >= UNSENT_BYTES && is_counted(op);
}

/* The upper half of a cookie says how much has left, in units of 64 bytes. */
static uint64_t
count_unsent(const gp_op *op)
{
    uint64_t units = is_counted(op) ? (op->length + 63) / 64 : 0;

    return GP_MIN(units, (uint64_t)UINT32_MAX) << 32;
}

static gp_status
send_push_or_pull(gp_op *op)
{
    gp_request *r = op->request;
    gp_conn *conn = op->conn;
    gp_msg msg = {0};
    const void *payload = NULL;
    gp_mem *mem = NULL;
    gp_status status = GP_OK;
    uint64_t sent, unsent = 0;

    op->cookie = ++conn->worker->next_cookie;
    describe(op, &msg);
    if (gp_kind_pulls(r->kind) && !op->split)
        status = find_destination(op, &msg.aux);
    if (status == GP_OK && (gp_op_sends_push(op) || r->plan))
        status = attach_payload(op, &msg, &payload, &mem);
    sent = sent_cookie(op, mem);
    if (status == GP_OK) {
        unsent = count_unsent(op);
        status = gp_conn_post(conn, &msg, payload, mem, sent | unsent);
    }
    if (status != GP_OK) {
        put_back(op);
        return status;
    }
    if (sent > GP_SLOTS_MAX)
        atomic_fetch_add(&r->from->sending, 1);
    op->sent = true;
    conn->unsent += (unsent >> 32) * 64;
    conn->pushed += gp_op_sends_push(op) && !gp_kind_is_init(r->kind) &&
                    gp_mode_arrives(&r->tensor->mode);
    op->destination = msg.aux;
    count_sent(conn->worker, op, msg.payload);
    op->slot = op->send_piece = -1;
    return GP_OK;
}

/* Whether the next message of an operation is a proposal. */
bool
gp_op_sends_proposal(const gp_op *op)
{
    return gp_op_sends_push(op) && !gp_kind_is_init(op->request->kind) &&
           !op->agreed && gp_encode_proposes(op);
}

static gp_status
send_proposal(gp_op *op)
{
    gp_conn *conn = op->conn;
    gp_msg msg = {0};
    gp_status status = gp_encode_begin(op);

    if (status == GP_OK)
        status = gp_encode_propose(op);
    if (status != GP_OK)
        return status;
    op->cookie = ++conn->worker->next_cookie;
    describe(op, &msg);
    msg.type = GP_MSG_PROPOSE;
    msg.flags = 0;
    msg.priority = 0;
    msg.credits = 0;
    msg.aux = gp_float_bits(op->shared);
    status = gp_conn_post(conn, &msg, NULL, NULL, 0);
    op->asking = op->sent = status == GP_OK;
    return status;
}

gp_status
gp_op_send(gp_op *op)
{
    return gp_op_sends_proposal(op) ? send_proposal(op) : send_push_or_pull(op);
}
