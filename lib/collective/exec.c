/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exec.c - carries out plans: one turn moves every hop as far as it goes.
 *
 * Nothing in a turn blocks or allocates, but for memory that is kept. A hop
 * advances in order, by pieces, so `done` is both how far it is and how far
 * hops behind it may go.
 */
#include <stdio.h>
#include <string.h>

#include "collective/coll_int.h"

/* --- sending ----------------------------------------------------------------
 */

/* The peer's memory that pieces of a hop go straight into, or 0. */
static uint32_t
open_token(const gp_collective *c, const gp_hop *hop, const gp_member *m,
           uint64_t *base)
{
    if (!hop->direct)
        return 0;
    if (c->call.kind == COLL_SEND) {
        *base = c->base;
        return c->token;
    }
    if (m->into_seq != c->seq || !m->into_token)
        return 0;
    *base = m->into_base;
    return m->into_token;
}

static void
count_post(gp_collective *c, gp_member *m, int piece)
{
    m->outstanding++;
    atomic_fetch_add_explicit(&m->group->sending, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&m->group->mesh->sending, 1,
                              memory_order_relaxed);
    if (piece >= 0)
        return;
    c->sending++;
    if (c->call.kind != COLL_SEND)
        m->sending++;
}

static uint64_t
cookie_of(gp_collective *c, gp_member *m, int piece)
{
    if (piece >= 0)
        return (uintptr_t)m | (uint64_t)piece;
    if (c->call.kind == COLL_SEND)
        return (uintptr_t)c | GP_COOKIE_POINT;
    return (uintptr_t)m | GP_COOKIE_GROUP;
}

static uint64_t
coded_piece(const gp_hop *hop)
{
    return hop->first + hop->done / GP_UNIT;
}

/* A piece is sent or was received: what it would have been as fp32. */
static void
count_dense(const gp_collective *c, const gp_hop *hop, uint64_t length)
{
    size_t unit = gp_dtype_bytes((gp_dtype)c->call.dtype);
    uint64_t bytes = unit == 2 ? 2 * length : length;

    if (hop->coded)
        bytes = gp_coded_elements(c, coded_piece(hop)) * sizeof(float);
    atomic_fetch_add_explicit(&c->group->mesh->worker->dense_bytes, bytes,
                              memory_order_relaxed);
}

static const uint8_t *
source_of(const gp_collective *c, const gp_hop *hop)
{
    uint64_t length;

    return hop->coded
               ? gp_coded_message(c, hop->again, coded_piece(hop), &length)
               : hop->from + hop->done;
}

/* What the payload is sent from: where it lies, or a copy. */
static gp_status
find_source(const gp_collective *c, const gp_hop *hop, gp_member *m,
            uint64_t length, const uint8_t **payload, gp_mem **mem, int *piece)
{
    const uint8_t *from = source_of(c, hop);
    bool registers = gp_link_registers(m->mate->via);

    *payload = from;
    *mem = NULL;
    if (registers && !hop->staged && !gp_member_copies(m))
        *mem = gp_memory_of(m->mate, from, length);
    if (!hop->staged && (!registers || *mem))
        return GP_OK;
    *piece = gp_staging_take(m, length);
    if (*piece < 0)
        return GP_AGAIN;
    *payload = m->staging.base + (size_t)*piece * m->staging.bytes;
    *mem = m->staging_mem;
    memcpy((void *)*payload, from, length);
    return GP_OK;
}

static void
describe(const gp_collective *c, const gp_hop *hop, const gp_member *m,
         uint64_t length, gp_msg *msg)
{
    *msg = (gp_msg){.type = GP_MSG_PIECE,
                    .dtype = c->call.dtype,
                    .cookie = m->group->id,
                    .step = c->seq,
                    .chunk = hop->tag,
                    .pipeline = (uint32_t)(hop->done / GP_UNIT),
                    .elements = c->call.count,
                    .payload = length,
                    .aux = gp_check_signature(c),
                    .credits = m->freed};
}

/* The memory that the peer told of, or its slots. */
static bool
find_place(const gp_collective *c, const gp_hop *hop, gp_member *m, bool direct,
           gp_msg *msg, int *slot)
{
    uint64_t base = 0;

    if (direct) {
        msg->region = open_token(c, hop, m, &base);
        msg->offset = base + hop->place + hop->done;
        return true;
    }
    *slot = gp_landing_reserve(m, msg->payload);
    if (*slot < 0)
        return false;
    msg->slot = (uint16_t)*slot;
    msg->region = m->region;
    msg->offset = msg->slot * m->slot_bytes;
    return true;
}

gp_status
gp_exec_post(gp_collective *c, gp_hop *hop, gp_member *m, uint64_t length,
             bool direct)
{
    int slot = -1, piece = -1;
    const uint8_t *payload;
    gp_mem *mem;
    gp_msg msg;
    gp_status status;

    describe(c, hop, m, length, &msg);
    if (!find_place(c, hop, m, direct, &msg, &slot))
        return GP_AGAIN;
    status = find_source(c, hop, m, length, &payload, &mem, &piece);
    if (status == GP_OK)
        status =
            gp_mate_post(m->mate, &msg, payload, mem, cookie_of(c, m, piece));
    if (status != GP_OK) {
        if (slot >= 0)
            gp_landing_unreserve(m, slot, length);
        gp_staging_give(m, piece);
        return status;
    }
    m->freed = 0;
    count_post(c, m, piece);
    count_dense(c, hop, length);
    hop->done += hop->coded ? GP_UNIT : length;
    return GP_OK;
}

void
gp_exec_sent(gp_member *m, uint64_t number)
{
    gp_collective *point = (gp_collective *)(void *)m;
    gp_group *g;
    gp_collective *c;

    if (number == GP_COOKIE_POINT)
        m = point->group->member[point->call.root];
    g = m->group;
    g->dirty = true;
    m->outstanding--;
    atomic_fetch_sub_explicit(&g->mesh->sending, 1, memory_order_relaxed);
    if (atomic_fetch_sub(&g->sending, 1) == 1)
        gp_driver_signal(g->mesh->worker->driver);
    c = number == GP_COOKIE_POINT ? point : gp_group_active(g);
    if (number < GP_COOKIE_GROUP)
        gp_staging_give(m, (int)number);
    else if (c)
        c->sending--;
    if (number == GP_COOKIE_GROUP)
        m->sending--;
}

/* --- hops -------------------------------------------------------------------
 */

/* How far a hop may go. */
static uint64_t
limit_of(const gp_collective *c, const gp_hop *hop)
{
    const gp_hop *after = hop->after >= 0 ? &c->hop[hop->after] : NULL;

    if (!after || after->complete)
        return hop->bytes;
    return hop->whole ? 0 : GP_MIN(after->done, hop->bytes);
}

static bool
may_begin(const gp_collective *c, const gp_hop *hop)
{
    return hop->after < 0 || !hop->whole || c->hop[hop->after].complete;
}

static void
finish_hop(gp_collective *c, gp_hop *hop)
{
    hop->complete = true;
    c->incomplete--;
    while (c->first_open < c->hops && c->hop[c->first_open].complete)
        c->first_open++;
}

static bool
hop_is_over(const gp_collective *c, const gp_hop *hop)
{
    return hop->done == hop->bytes &&
           (hop->bytes > 0 || hop->after < 0 || c->hop[hop->after].complete);
}

/* Bytes of a piece. Two members have nothing to pass on while more arrives, so
 * theirs are as long as messages get; short vectors are cut in two, of which
 * the first is reduced while the second is on its way. */
static uint64_t
piece_bytes(const gp_hop *hop, const gp_member *m)
{
    if (hop->bytes <= 2 * m->slot_bytes)
        return m->slot_bytes;
    return m->slot_bytes *
           (m->group->size == 2 ? GP_MESSAGE_SLOTS : GP_PIECE_SLOTS);
}

/* A piece that is not the last is a whole one, so offsets are multiples. */
static uint64_t
next_piece(const gp_collective *c, const gp_hop *hop, const gp_member *m,
           bool *direct)
{
    uint64_t base, limit = limit_of(c, hop);
    uint64_t most = piece_bytes(hop, m);
    uint64_t left = limit - GP_MIN(limit, hop->done);
    uint64_t unit = gp_direct_unit(c->group, hop->bytes);

    *direct = false;
    if (hop->coded) {
        if (left > 0)
            (void)gp_coded_message(c, hop->again, coded_piece(hop), &left);
        return left;
    }
    *direct = open_token(c, hop, m, &base) && hop->done % unit == 0;
    if (*direct)
        most = unit;
    if (left < most && limit < hop->bytes)
        return 0;
    return GP_MIN(left, most);
}

static int
send_hop(gp_collective *c, gp_hop *hop)
{
    gp_member *m = gp_group_member(c->group, hop->peer);
    uint64_t length;
    bool direct;
    int sent = 0;

    if (!m || !gp_mate_usable(c->group, m->mate) || !m->region)
        return 0;
    while (hop->done < hop->bytes &&
           (length = next_piece(c, hop, m, &direct)) > 0) {
        gp_status status = gp_exec_post(c, hop, m, length, direct);

        if (status == GP_AGAIN || status == GP_ERR_PEER_LOST)
            break;
        if (status != GP_OK) {
            gp_group_fail(c->group, status, true, "%s", gp_last_error());
            break;
        }
        sent++;
    }
    return sent;
}

static float
scale_of(const gp_collective *c, const gp_hop *hop)
{
    return hop->scaled && c->call.reduction == GP_MEAN
               ? 1.0f / (float)c->group->size
               : 1.0f;
}

/* The payload of a piece, or of a local hop, to where it belongs. */
static void
apply(const gp_collective *c, const gp_hop *hop, const uint8_t *payload,
      uint64_t length)
{
    uint8_t *to = hop->to + hop->done;
    const uint8_t *other = hop->from + hop->done;
    gp_dtype dtype = (gp_dtype)c->call.dtype;

    if (hop->action == ACT_PLACE) {
        if (to != payload && length)
            memcpy(to, payload, length);
        return;
    }
    gp_reduce((gp_reduction)c->call.reduction, dtype, to,
              hop->other_first ? other : payload,
              hop->other_first ? payload : other,
              length / gp_dtype_bytes(dtype), scale_of(c, hop));
}

/* The next piece of a hop: its bytes on the wire are as good as any. */
static bool
take_coded(gp_collective *c, gp_hop *hop, const uint8_t *message,
           uint64_t length)
{
    gp_status status = (hop->again ? gp_coded_place : gp_coded_add)(
        c, hop->peer, coded_piece(hop), message, length);

    if (status != GP_OK) {
        gp_group_fail(c->group, status, true,
                      "group '%s': what member %u has encoded: %.200s",
                      c->group->name, hop->peer, gp_last_error());
        return false;
    }
    hop->done += GP_UNIT;
    return true;
}

static int
local_coded(gp_collective *c, gp_hop *hop)
{
    int done = 0;

    while (hop->done < limit_of(c, hop)) {
        uint64_t length;
        const uint8_t *message =
            gp_coded_message(c, hop->again, coded_piece(hop), &length);

        if (!take_coded(c, hop, message, length))
            break;
        done++;
    }
    return done;
}

/* Pieces that came straight to their place, once they follow on. */
static int
advance_direct(const gp_group *g, gp_hop *hop)
{
    uint64_t unit = gp_direct_unit(g, hop->bytes);
    int moved = 0;

    while (hop->done < hop->bytes && hop->done % unit == 0 &&
           hop->arrived >> hop->done / unit & 1) {
        hop->done = GP_MIN(hop->done + unit, hop->bytes);
        moved++;
    }
    return moved;
}

static int
receive_hop(gp_collective *c, gp_hop *hop)
{
    gp_member *m = gp_group_member(c->group, hop->peer);
    int done = 0;

    if (!m || !may_begin(c, hop))
        return 0;
    while (!c->group->failed) {
        gp_arrival *a;

        if (!hop->coded)
            done += advance_direct(c->group, hop);
        if (hop->done == hop->bytes || hop->done >= limit_of(c, hop))
            break;
        a = gp_landing_take(m, c->seq, hop->tag, hop->done);
        if (!a && (m->mate->closed || m->mate->state == MATE_LOST))
            (void)gp_mate_usable(c->group, m->mate);
        if (!a || !gp_check_fits(c, hop, m, &a->msg))
            break;
        if (!hop->coded && hop->done + a->msg.payload > limit_of(c, hop))
            break;
        count_dense(c, hop, a->msg.payload);
        if (hop->coded) {
            if (!take_coded(c, hop, a->payload, a->msg.payload))
                break;
        } else {
            apply(c, hop, a->payload, a->msg.payload);
            hop->done += a->msg.payload;
        }
        gp_landing_release(m, a);
        done++;
    }
    return done;
}

static int
local_hop(gp_collective *c, gp_hop *hop)
{
    uint64_t limit = limit_of(c, hop);

    if (hop->coded)
        return local_coded(c, hop);
    if (!may_begin(c, hop) || limit <= hop->done)
        return 0;
    apply(c, hop, hop->own + hop->done, limit - hop->done);
    hop->done = limit;
    return 1;
}

int
gp_exec_hop(gp_collective *c, gp_hop *hop)
{
    int done = 0;

    if (hop->done < hop->bytes) {
        if (hop->kind == HOP_SEND)
            done = send_hop(c, hop);
        else if (hop->kind == HOP_RECEIVE)
            done = receive_hop(c, hop);
        else
            done = local_hop(c, hop);
    }
    if (!c->group->failed && hop_is_over(c, hop)) {
        finish_hop(c, hop);
        done++;
    }
    return done;
}

/* --- straight into memory
 * ----------------------------------------------------*/

/* What a hop receives may come straight to its place: says where that is. */
static void
tell_place(gp_collective *c, const gp_hop *hop)
{
    gp_group *g = c->group;
    gp_member *m = gp_group_member(g, hop->peer);
    gp_msg msg = {.type = GP_MSG_INTO, .cookie = g->id, .step = c->seq};
    uint64_t base;

    if (!m || m->into_told || m->mate->state != MATE_READY)
        return;
    m->into_told = true;
    if (gp_member_copies(m) ||
        !gp_memory_expose(c, m->mate, &m->exposed, &base))
        return;
    msg.aux = m->exposed;
    msg.elements = base;
    (void)gp_mate_post(m->mate, &msg, NULL, NULL, 0);
}

void
gp_exec_into(gp_member *m, const gp_msg *msg)
{
    m->into_seq = msg->step;
    m->into_token = (uint32_t)msg->aux;
    m->into_base = msg->elements;
}

static gp_hop *
find_hop(gp_collective *c, const gp_member *m, uint32_t tag)
{
    for (uint32_t i = c->first_open; i < c->hops; i++) {
        gp_hop *hop = &c->hop[i];

        if (hop->kind == HOP_RECEIVE && hop->peer == m->number &&
            hop->tag == tag)
            return hop;
    }
    return NULL;
}

/* A piece is in its place already. */
void
gp_exec_direct(gp_member *m, const gp_msg *msg)
{
    gp_group *g = m->group;
    gp_collective *c = gp_group_active(g);
    uint64_t offset = (uint64_t)msg->pipeline * GP_UNIT, unit;
    gp_hop *hop;

    if (msg->step & GP_POINT_BIT)
        c = gp_points_find(g, m, msg->step);
    if (!c || c->seq != msg->step)
        return;
    hop = find_hop(c, m, msg->chunk);
    if (!hop || hop->coded || offset >= hop->bytes ||
        !gp_check_fits(c, hop, m, msg))
        return;
    unit = gp_direct_unit(c->group, hop->bytes);
    if (offset % unit || msg->payload != GP_MIN(unit, hop->bytes - offset))
        return;
    hop->arrived |= 1ull << offset / unit;
    count_dense(c, hop, msg->payload);
}

/* --- life of an operation
 * ----------------------------------------------------*/

static void
prepare_members(gp_collective *c)
{
    for (uint32_t i = 0; i < c->hops; i++) {
        gp_hop *hop = &c->hop[i];
        gp_member *m;

        if (hop->kind != HOP_RECEIVE)
            continue;
        m = gp_group_member(c->group, hop->peer);
        if (!m)
            continue;
        m->into_told = false;
        m->exposed = 0;
    }
}

/* Those that something is to come from are told where to. */
static void
invite(gp_collective *c)
{
    bool all = true;

    for (uint32_t i = c->first_open; i < c->hops && !c->group->failed; i++) {
        const gp_hop *hop = &c->hop[i];
        gp_member *m;

        if (hop->kind != HOP_RECEIVE || hop->complete)
            continue;
        m = gp_group_member(c->group, hop->peer);
        if (!m || m->mate->state != MATE_READY) {
            all = false;
            continue;
        }
        if (!m->token && gp_landing_open(m) != GP_OK)
            gp_group_fail(c->group, GP_ERR_NO_MEMORY, true, "%s",
                          gp_last_error());
        else if (hop->direct)
            tell_place(c, hop);
    }
    c->invited = all;
}

static void
start(gp_collective *c)
{
    gp_group *g = c->group;
    gp_status status = gp_plan_make(c);

    if (status != GP_OK) {
        gp_group_fail(g, status, true, "%s", gp_last_error());
        return;
    }
    c->first_open = 0;
    c->incomplete = c->hops;
    c->invited = false;
    prepare_members(c);
    c->stamp_ns = gp_clock_ns();
    gp_mesh_wake_at(g->mesh, c->stamp_ns + GP_STALL_NS);
}

static void
withdraw(gp_collective *c)
{
    gp_group *g = c->group;

    for (uint32_t i = 0; i < g->size; i++) {
        gp_member *m = g->member[i];

        if (m && m->exposed)
            gp_memory_withdraw(m->mate, &m->exposed);
    }
}

void
gp_exec_end(gp_collective *c, gp_status status)
{
    gp_group *g = c->group;
    gp_worker *w = g->mesh->worker;
    gp_request *r = c->request;

    if (c->call.kind != COLL_SEND && c->call.kind != COLL_RECV)
        withdraw(c);
    if (c->started && c->algorithm >= ALGORITHM_CODED && status == GP_OK)
        gp_coded_end(c);
    if (c->call.kind != COLL_SEND && c->call.kind != COLL_RECV) {
        g->last = c->call;
        g->last_signature = gp_check_signature(c);
        g->ended = c->seq + 1;
    }
    gp_memory_forget(c);
    gp_list_remove(&c->link);
    c->started = false;
    r->status = status;
    gp_worker_closed(w);
    atomic_store_explicit(&r->done, true, memory_order_release);
    gp_driver_signal(w->driver);
}

/* Ends operations of a group that has failed, when nothing is sent from their
 * memory any more; nobody will want what has arrived. */
static void
end_failed(gp_group *g)
{
    gp_status status = (gp_status)atomic_load(&g->fault);
    gp_list *lists[] = {&g->queue, &g->points};

    for (uint32_t i = 0; i < g->size; i++)
        while (g->member[i] && g->member[i]->held)
            gp_landing_release(
                g->member[i],
                &g->member[i]->arrival[__builtin_ctzll(g->member[i]->held)]);
    for (size_t i = 0; i < GP_COUNT_OF(lists); i++)
        GP_LIST_EACH (item, lists[i]) {
            gp_collective *c = GP_CONTAINER_OF(item, gp_collective, link);

            if (c->sending == 0) {
                gp_exec_end(c, status);
            } else if (!c->ending_ns) {
                c->ending_ns = gp_clock_ns() + GP_STALL_NS;
                gp_mesh_wake_at(g->mesh, c->ending_ns);
            }
        }
}

static int
run(gp_collective *c)
{
    gp_group *g = c->group;
    int total = 0, done;

    if (!c->started) {
        c->started = true;
        start(c);
    }
    if (!g->failed && !c->invited)
        invite(c);
    do {
        done = 0;
        for (uint32_t i = c->first_open; i < c->hops && !g->failed; i++)
            if (!c->hop[i].complete)
                done += gp_exec_hop(c, &c->hop[i]);
        total += done;
    } while (done && !g->failed);
    if (total)
        c->stamp_ns = 0;
    return total;
}

int
gp_group_turn(gp_group *g)
{
    gp_collective *c;
    int done = 0;

    g->dirty = false;
    while (!g->failed && (c = gp_group_active(g)) != NULL) {
        done += run(c);
        if (g->failed || c->incomplete || c->sending)
            break;
        gp_exec_end(c, GP_OK);
        gp_check_leftovers(g);
    }
    if (!g->failed)
        done += gp_points_turn(g);
    if (g->failed)
        end_failed(g);
    for (uint32_t i = 0; i < g->size; i++)
        if (g->member[i])
            gp_landing_return(g->member[i]);
    return done;
}

/* --- when nothing moves
 * -------------------------------------------------------*/

static void
expire_ending(gp_collective *c, uint64_t now)
{
    gp_group *g = c->group;

    if (!c->ending_ns)
        return;
    if (now < c->ending_ns) {
        gp_mesh_wake_at(g->mesh, c->ending_ns);
        return;
    }
    for (uint32_t i = 0; i < g->size; i++)
        if (g->member[i] && g->member[i]->outstanding)
            gp_mate_lose(g->member[i]->mate, GP_ERR_PEER_LOST,
                         "worker %u takes no data after group '%s' failed",
                         g->member[i]->mate->rank, g->name);
    g->dirty = true;
}

void
gp_group_expire(gp_group *g, uint64_t now)
{
    gp_collective *c = gp_group_active(g);

    if (c && c->started && !g->failed) {
        if (!c->stamp_ns)
            c->stamp_ns = now;
        if (now - c->stamp_ns >= GP_STALL_NS) {
            c->stamp_ns = now;
            gp_check_ask(c);
        }
        gp_mesh_wake_at(g->mesh, c->stamp_ns + GP_STALL_NS);
    }
    GP_LIST_EACH (item, &g->queue) {
        expire_ending(GP_CONTAINER_OF(item, gp_collective, link), now);
    }
    GP_LIST_EACH (item, &g->points) {
        expire_ending(GP_CONTAINER_OF(item, gp_collective, link), now);
    }
}
