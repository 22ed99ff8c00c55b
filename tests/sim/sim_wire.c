/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_wire.c - what the adapters do: carry requests out and complete them.
 *
 * One queue pair does three things, each at its own pace and in order: it
 * carries the next request to the peer, reports the oldest receive that was
 * used up, and completes the oldest request that was delivered. The order
 * between queue pairs, and between the two ends, is the scheduler's.
 */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "tests/sim/sim_int.h"

#define RNR_WAIT_NS    100000u
#define PIECES_A_TURN  32
#define INFINITE_RETRY 7

bool
sim_cut(const gp_sim *s, const union ibv_gid *one, const union ibv_gid *other)
{
    for (size_t i = 0; i < s->partitions; i++) {
        const sim_partition *p = &s->partition[i];

        if ((!memcmp(&p->one, one, 16) && !memcmp(&p->other, other, 16)) ||
            (!memcmp(&p->one, other, 16) && !memcmp(&p->other, one, 16)))
            return true;
    }
    return false;
}

static bool
port_works(const sim_qp *qp)
{
    return !qp->device->dead && qp->device->port[qp->port - 1].up;
}

bool
sim_apart(gp_sim *s, const sim_qp *one, const sim_qp *other)
{
    if (!port_works(one) || !port_works(other))
        return true;
    if (!one->id)
        return false;
    return sim_cut(s, (const union ibv_gid *)&one->id->local.sin6_addr,
                   (const union ibv_gid *)&one->id->remote.sin6_addr);
}

static sim_wqe *
send_at(const sim_qp *qp, uint64_t index)
{
    return &qp->sq[index % qp->cap.max_send_wr];
}

static sim_rqe *
recv_at(const sim_qp *qp, uint64_t index)
{
    return &qp->rq[index % qp->cap.max_recv_wr];
}

/* The request being carried out fails; those before it have succeeded. */
static void
fail(gp_sim *s, sim_qp *qp, enum ibv_wc_status status)
{
    for (uint64_t i = qp->sq_done; i < qp->sq_exec; i++)
        send_at(qp, i)->status = IBV_WC_SUCCESS;
    send_at(qp, qp->sq_exec)->status = (int)status;
    sim_qp_state(s, qp, IBV_QPS_ERR);
}

/* The peer's adapter refuses: both queue pairs are in error. */
static void
refuse(gp_sim *s, sim_qp *qp, enum ibv_wc_status status,
       enum ibv_event_type event)
{
    sim_qp *peer = qp->peer;

    sim_qp_state(s, peer, IBV_QPS_ERR);
    sim_qp_async(s, peer, event);
    fail(s, qp, status);
}

static void
check_buffer(gp_sim *s, const sim_qp *qp, const sim_wqe *w, const char *when)
{
    uint64_t sum;

    if (w->summed && sim_sum(s, qp, w, &sum) && sum != w->sum)
        sim_violate(s,
                    "send buffer of %llu bytes reused before its "
                    "completion (seen %s; wr_id 0x%llx)",
                    (unsigned long long)w->length, when,
                    (unsigned long long)w->wr_id);
}

typedef enum { REACHED, WAITING, LOST } reach;

static reach
reach_peer(gp_sim *s, sim_qp *qp, sim_wqe *w)
{
    const sim_qp *peer = qp->peer;
    uint64_t now = sim_clock(s);

    if (peer && !peer->dead && peer->state != IBV_QPS_ERR &&
        !sim_apart(s, qp, peer)) {
        w->retry_at = 0;
        return peer->state == IBV_QPS_INIT ? WAITING : REACHED;
    }
    if (!w->retry_at)
        w->retry_at = now + s->options.retry_ns;
    return now < w->retry_at ? WAITING : LOST;
}

/* Copies [at, at + length) of a request's payload. */
static bool
gather(gp_sim *s, const sim_qp *qp, const sim_wqe *w, uint64_t at,
       uint64_t length, uint8_t *out)
{
    if (w->bytes) {
        memcpy(out, w->bytes + at, length);
        return true;
    }
    for (int i = 0; i < w->sges && length; i++) {
        uint64_t here = w->sge[i].length, n;
        const uint8_t *from;

        if (at >= here) {
            at -= here;
            continue;
        }
        n = GP_MIN(here - at, length);
        from = sim_local(s, qp, w->sge[i].lkey, w->sge[i].addr + at, n, false);
        if (!from)
            return false;
        memcpy(out, from, n);
        out += n;
        length -= n;
        at = 0;
    }
    return true;
}

static bool
keys_fit(gp_sim *s, const sim_qp *qp, const sim_wqe *w)
{
    if (w->bytes)
        return true;
    for (int i = 0; i < w->sges; i++)
        if (w->sge[i].length &&
            !sim_local(s, qp, w->sge[i].lkey, w->sge[i].addr, w->sge[i].length,
                       false))
            return false;
    return true;
}

static size_t
not_ready(gp_sim *s, sim_qp *qp, sim_wqe *w)
{
    uint64_t now = sim_clock(s);

    if (w->rnr_at && now < w->rnr_at)
        return 0;
    s->stats.rnr++;
    if (!s->options.expect_rnr && !w->rnr_at)
        sim_violate(s,
                    "receiver not ready: queue pair %u has no receive "
                    "posted (%llu were)",
                    qp->peer->ordinal, (unsigned long long)qp->peer->rq_tail);
    if (!w->rnr_at)
        w->rnr_left = qp->rnr_retry;
    if (w->rnr_left == 0) {
        fail(s, qp, IBV_WC_RNR_RETRY_EXC_ERR);
        return 1;
    }
    w->rnr_left -= w->rnr_left != INFINITE_RETRY;
    w->rnr_at = now + RNR_WAIT_NS;
    return 1;
}

static void
consume(gp_sim *s, sim_qp *qp, const sim_wqe *w, enum ibv_wc_opcode opcode)
{
    sim_qp *peer = qp->peer;
    sim_rqe *r = recv_at(peer, peer->rq_exec++);
    bool imm = w->opcode == IBV_WR_RDMA_WRITE_WITH_IMM ||
               w->opcode == IBV_WR_SEND_WITH_IMM;

    (void)s;
    memset(&r->wc, 0xDB, sizeof(r->wc));
    r->wc.wr_id = r->wr_id;
    r->wc.status = IBV_WC_SUCCESS;
    r->wc.opcode = opcode;
    r->wc.vendor_err = 0;
    r->wc.byte_len = (uint32_t)w->length;
    r->wc.qp_num = peer->v.qp_num;
    r->wc.src_qp = qp->v.qp_num;
    r->wc.wc_flags = imm ? IBV_WC_WITH_IMM : 0;
    if (imm)
        r->wc.imm_data = w->imm;
    r->solicited = w->flags & IBV_SEND_SOLICITED;
}

/* The receive fails at the peer, the send here, and both are in error. */
static void
reject_message(gp_sim *s, sim_qp *qp, const sim_wqe *w,
               enum ibv_wc_status theirs, enum ibv_wc_status ours)
{
    sim_qp *peer = qp->peer;

    consume(s, qp, w, IBV_WC_RECV);
    recv_at(peer, peer->rq_exec - 1)->wc.status = theirs;
    sim_qp_state(s, peer, IBV_QPS_ERR);
    fail(s, qp, ours);
}

static void
observe(gp_sim *s, const sim_wqe *w, const uint8_t *bytes)
{
    if (s->observer)
        s->observer(s->observer_user, w->opcode, w->imm, bytes,
                    (size_t)w->length);
}

static void
delivered(gp_sim *s, sim_qp *qp, sim_wqe *w)
{
    check_buffer(s, qp, w, "at delivery");
    w->delivered = true;
    qp->sq_exec++;
    if (s->breaking && (!s->breaks.process || s->breaks.process == qp->process))
        s->broken_wrs++;
}

/* Puts a SEND into the peer's oldest receive. */
static bool
scatter(gp_sim *s, sim_qp *qp, const sim_wqe *w, const sim_rqe *r,
        uint8_t **first)
{
    uint64_t at = 0;

    *first = NULL;
    for (int i = 0; i < r->sges && at < w->length; i++) {
        uint64_t n = GP_MIN((uint64_t)r->sge[i].length, w->length - at);
        uint8_t *to =
            sim_local(s, qp->peer, r->sge[i].lkey, r->sge[i].addr, n, true);

        if (!to || !gather(s, qp, w, at, n, to))
            return false;
        if (!*first)
            *first = to;
        at += n;
    }
    return true;
}

static size_t
carry_send(gp_sim *s, sim_qp *qp, sim_wqe *w)
{
    sim_qp *peer = qp->peer;
    const sim_rqe *r;
    uint64_t room = 0;
    uint8_t *first;

    if (peer->rq_exec == peer->rq_tail)
        return not_ready(s, qp, w);
    r = recv_at(peer, peer->rq_exec);
    for (int i = 0; i < r->sges; i++)
        room += r->sge[i].length;
    if (w->length > room) {
        sim_violate(s, "message of %llu bytes for a receive of %llu",
                    (unsigned long long)w->length, (unsigned long long)room);
        reject_message(s, qp, w, IBV_WC_LOC_LEN_ERR, IBV_WC_REM_INV_REQ_ERR);
        return 1;
    }
    if (!scatter(s, qp, w, r, &first)) {
        reject_message(s, qp, w, IBV_WC_LOC_PROT_ERR, IBV_WC_REM_OP_ERR);
        return 1;
    }
    observe(s, w, first);
    consume(s, qp, w, IBV_WC_RECV);
    s->stats.sends++;
    s->stats.bytes += w->length;
    delivered(s, qp, w);
    return 1;
}

/* The k-th of n pieces to land: in order, or spread by an odd stride. */
static uint64_t
piece_at(const gp_sim *s, const sim_wqe *w, uint64_t k, uint64_t n)
{
    uint64_t power = 1, mask, i, seen = 0;

    if (!s->options.shuffle || n < 2)
        return k;
    while (power < n)
        power <<= 1;
    mask = power - 1;
    for (i = 0; i < power; i++) {
        uint64_t at =
            (i * ((power / 2 + 2 * (w->sum & 7)) | 1) + w->wr_id) & mask;

        if (at < n && seen++ == k)
            return at;
    }
    return k;
}

static size_t
end_write(gp_sim *s, sim_qp *qp, sim_wqe *w)
{
    sim_qp *peer = qp->peer;
    uint8_t *at = NULL;

    if (w->opcode == IBV_WR_RDMA_WRITE_WITH_IMM) {
        if (peer->rq_exec == peer->rq_tail)
            return not_ready(s, qp, w);
        consume(s, qp, w, IBV_WC_RECV_RDMA_WITH_IMM);
        s->stats.write_imms++;
    } else {
        s->stats.writes++;
    }
    if (w->length)
        at = sim_remote(s, peer, w->rkey, w->remote, w->length);
    observe(s, w, at);
    delivered(s, qp, w);
    return 1;
}

/* Memory of an accelerator may be slow to show what was written. */
static bool
put(gp_sim *s, const sim_qp *qp, const sim_wqe *w, uint64_t at, uint64_t length,
    uint8_t *to)
{
    uint8_t *bytes;
    bool taken;

    if (!s->options.store || !s->options.foreign || !s->options.foreign(to))
        return gather(s, qp, w, at, length, to);
    bytes = malloc(length);
    taken = bytes && gather(s, qp, w, at, length, bytes);
    if (taken)
        s->options.store(to, bytes, length);
    free(bytes);
    return taken;
}

static size_t
carry_write(gp_sim *s, sim_qp *qp, sim_wqe *w)
{
    uint64_t piece = s->options.piece;
    uint64_t n = (w->length + piece - 1) / piece, at, length;
    uint8_t *to;

    if (w->moved == n)
        return end_write(s, qp, w);
    at = piece_at(s, w, w->moved, n) * piece;
    length = GP_MIN(piece, w->length - at);
    to = sim_remote(s, qp->peer, w->rkey, w->remote + at, length);
    /* The whole range is checked with the first piece already. */
    if (to && !w->moved &&
        !sim_remote(s, qp->peer, w->rkey, w->remote, w->length))
        to = NULL;
    if (!to) {
        refuse(s, qp, IBV_WC_REM_ACCESS_ERR, IBV_EVENT_QP_ACCESS_ERR);
        return 1;
    }
    if (!put(s, qp, w, at, length, to)) {
        fail(s, qp, IBV_WC_LOC_PROT_ERR);
        return 1;
    }
    w->moved++;
    s->stats.pieces++;
    s->stats.bytes += length;
    if (s->breaking && (!s->breaks.process || s->breaks.process == qp->process))
        s->broken_bytes += length;
    return w->moved == n ? end_write(s, qp, w) : 1;
}

static size_t
carry_local(gp_sim *s, sim_qp *qp, sim_wqe *w)
{
    enum ibv_wc_status status = w->opcode == IBV_WR_BIND_MW
                                    ? sim_bind(s, qp, w)
                                    : sim_invalidate(s, qp, w->rkey);

    if (status == IBV_WC_SUCCESS)
        delivered(s, qp, w);
    else
        fail(s, qp, status);
    return 1;
}

static size_t
carry(gp_sim *s, sim_qp *qp, sim_wqe *w)
{
    if (w->opcode == IBV_WR_SEND || w->opcode == IBV_WR_SEND_WITH_IMM)
        return carry_send(s, qp, w);
    return carry_write(s, qp, w);
}

static bool
breaks_now(const gp_sim *s, const sim_qp *qp)
{
    const gp_sim_break *b = &s->breaks;

    return s->breaking && (!b->process || b->process == qp->process) &&
           s->broken_wrs >= b->after_wrs && s->broken_bytes >= b->after_bytes;
}

/* The fault that a test asked for, at the request being carried out. */
static size_t
break_qp(gp_sim *s, sim_qp *qp, sim_wqe *w)
{
    uint64_t index = qp->sq_exec;

    if (s->breaks.delivered) {
        if (!carry(s, qp, w))
            return 0;
        if (qp->sq_exec == index)
            return 1; /* more pieces to come, or it failed by itself */
        qp->sq_exec = index;
        s->stats.lost_acks++;
    }
    s->breaking = false;
    fail(s, qp, s->breaks.status);
    return 1;
}

static size_t
carry_next(gp_sim *s, sim_qp *qp)
{
    sim_wqe *w;

    if (qp->state != IBV_QPS_RTS || qp->sq_exec == qp->sq_tail)
        return 0;
    w = send_at(qp, qp->sq_exec);
    if (w->opcode == IBV_WR_BIND_MW || w->opcode == IBV_WR_LOCAL_INV)
        return carry_local(s, qp, w);
    switch (reach_peer(s, qp, w)) {
    case WAITING:
        return 0;
    case LOST:
        fail(s, qp, IBV_WC_RETRY_EXC_ERR);
        return 1;
    case REACHED:
        break;
    }
    if (!w->started) {
        w->started = true;
        if (w->length > qp->device->have.max_msg || !keys_fit(s, qp, w)) {
            fail(s, qp,
                 w->length > qp->device->have.max_msg ? IBV_WC_LOC_LEN_ERR
                                                      : IBV_WC_LOC_PROT_ERR);
            return 1;
        }
    }
    return breaks_now(s, qp) ? break_qp(s, qp, w) : carry(s, qp, w);
}

static enum ibv_wc_opcode
opcode_of(const sim_wqe *w)
{
    switch (w->opcode) {
    case IBV_WR_BIND_MW:
        return IBV_WC_BIND_MW;
    case IBV_WR_LOCAL_INV:
        return IBV_WC_LOCAL_INV;
    case IBV_WR_SEND:
    case IBV_WR_SEND_WITH_IMM:
        return IBV_WC_SEND;
    default:
        return IBV_WC_RDMA_WRITE;
    }
}

static void
push_send(gp_sim *s, sim_qp *qp, const sim_wqe *w, enum ibv_wc_status status)
{
    sim_cqe entry = {.qp = qp, .index = qp->sq_done};

    memset(&entry.wc, 0xDB, sizeof(entry.wc)); /* byte_len is for receives */
    entry.wc.wr_id = w->wr_id;
    entry.wc.status = status;
    entry.wc.opcode = opcode_of(w);
    entry.wc.vendor_err = status == IBV_WC_SUCCESS ? 0 : 0x51;
    entry.wc.qp_num = qp->v.qp_num;
    entry.wc.wc_flags = 0;
    sim_cq_push(s, qp->send_cq, &entry);
}

static void
push_recv(gp_sim *s, sim_qp *qp, const sim_rqe *r)
{
    sim_cqe entry = {.wc = r->wc,
                     .qp = qp,
                     .receive = true,
                     .solicited = r->solicited,
                     .index = qp->rq_done};

    sim_cq_push(s, qp->recv_cq, &entry);
}

static bool
may_complete(const gp_sim *s, const sim_cq *cq)
{
    return !s->options.hold_completions || s->releasing || cq->armed;
}

static size_t
complete_next(gp_sim *s, sim_qp *qp)
{
    const sim_wqe *w;

    if (qp->sq_done == qp->sq_exec || !may_complete(s, qp->send_cq))
        return 0;
    w = send_at(qp, qp->sq_done);
    check_buffer(s, qp, w, "at its completion");
    if (w->signaled)
        push_send(s, qp, w, IBV_WC_SUCCESS);
    qp->sq_done++;
    return 1;
}

static size_t
report_next(gp_sim *s, sim_qp *qp)
{
    if (qp->rq_done == qp->rq_exec || !may_complete(s, qp->recv_cq))
        return 0;
    push_recv(s, qp, recv_at(qp, qp->rq_done));
    qp->rq_done++;
    return 1;
}

/* In error everything that was posted completes, unsignaled or not. */
static size_t
flush_send(gp_sim *s, sim_qp *qp)
{
    const sim_wqe *w;

    if (qp->sq_done == qp->sq_tail || !may_complete(s, qp->send_cq))
        return 0;
    w = send_at(qp, qp->sq_done);
    if (w->status != IBV_WC_SUCCESS)
        push_send(s, qp, w,
                  w->status < 0 ? IBV_WC_WR_FLUSH_ERR
                                : (enum ibv_wc_status)w->status);
    else if (w->signaled)
        push_send(s, qp, w, IBV_WC_SUCCESS);
    qp->sq_done++;
    qp->sq_exec = GP_MAX(qp->sq_exec, qp->sq_done);
    return 1;
}

static size_t
flush_recv(gp_sim *s, sim_qp *qp)
{
    sim_rqe *r;

    if (qp->rq_done == qp->rq_tail || !may_complete(s, qp->recv_cq))
        return 0;
    r = recv_at(qp, qp->rq_done);
    if (qp->rq_done == qp->rq_exec) {
        qp->rq_exec++;
        r->wc.wr_id = r->wr_id;
        r->wc.status = IBV_WC_WR_FLUSH_ERR;
        r->wc.vendor_err = 0xF5;
        r->wc.qp_num = qp->v.qp_num;
    }
    push_recv(s, qp, r);
    qp->rq_done++;
    return 1;
}

typedef size_t turn(gp_sim *s, sim_qp *qp);

static size_t
several(gp_sim *s, sim_qp *qp, turn *one)
{
    size_t moved = 0;

    if (s->options.shuffle)
        return sim_chance(s, 3) ? one(s, qp) : 0;
    while (moved < PIECES_A_TURN && one(s, qp))
        moved++;
    return moved;
}

size_t
sim_qp_turn(gp_sim *s, sim_qp *qp)
{
    size_t moved = 0;

    if (qp->state == IBV_QPS_ERR)
        return several(s, qp, flush_send) + several(s, qp, flush_recv);
    if (qp->dead)
        return 0;
    if (!s->options.late_acks || s->acking)
        moved += several(s, qp, complete_next);
    if (s->acking)
        return moved;
    moved += several(s, qp, carry_next);
    moved += several(s, qp, report_next);
    return moved;
}
