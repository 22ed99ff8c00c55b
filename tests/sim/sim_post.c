/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_post.c - work requests enter their queues.
 *
 * A send slot is free again when a completion of it, or of a later request, was
 * polled; an unsignaled request has no completion of its own.
 */
#include <errno.h>
#include <string.h>

#include "base/base.h"
#include "tests/sim/sim_int.h"

#define KNOWN_FLAGS \
    (IBV_SEND_FENCE | IBV_SEND_SIGNALED | IBV_SEND_SOLICITED | IBV_SEND_INLINE)

static bool
is_local(enum ibv_wr_opcode opcode)
{
    return opcode == IBV_WR_BIND_MW || opcode == IBV_WR_LOCAL_INV;
}

static bool
opcode_known(gp_sim *s, const sim_qp *qp, enum ibv_wr_opcode opcode)
{
    bool imm =
        opcode == IBV_WR_RDMA_WRITE_WITH_IMM || opcode == IBV_WR_SEND_WITH_IMM;

    if (opcode != IBV_WR_SEND && opcode != IBV_WR_RDMA_WRITE && !imm &&
        !is_local(opcode)) {
        sim_violate(s, "post_send: opcode %d is not in this fabric", opcode);
        return false;
    }
    if (qp->device->have.iwarp && (imm || is_local(opcode))) {
        sim_violate(s,
                    "post_send: iWARP has neither immediate data nor this "
                    "kind of window (opcode %d)",
                    opcode);
        return false;
    }
    return true;
}

static bool
gather_inline(gp_sim *s, const sim_qp *qp, sim_wqe *w)
{
    uint64_t at = 0;

    if (w->length > qp->cap.max_inline_data) {
        sim_violate(s, "post_send: %llu inline bytes, the queue pair takes %u",
                    (unsigned long long)w->length, qp->cap.max_inline_data);
        return false;
    }
    w->bytes = qp->inline_bytes +
               (qp->sq_tail % qp->cap.max_send_wr) * qp->cap.max_inline_data;
    for (int i = 0; i < w->sges; i++) {
        if (w->sge[i].length)
            memcpy(w->bytes + at, (const void *)(uintptr_t)w->sge[i].addr,
                   w->sge[i].length);
        at += w->sge[i].length;
    }
    return true;
}

static void
hash_in(uint64_t *sum, const uint8_t *bytes, size_t length)
{
    uint64_t word;

    for (; length >= 8; bytes += 8, length -= 8) {
        memcpy(&word, bytes, 8);
        *sum = (*sum ^ word) * 0x9E3779B97F4A7C15u;
        *sum ^= *sum >> 29;
    }
    for (; length; length--)
        *sum = (*sum ^ *bytes++) * 0x100000001B3u;
}

bool
sim_sum(gp_sim *s, const sim_qp *qp, const sim_wqe *w, uint64_t *sum)
{
    *sum = 0xCBF29CE484222325u;
    for (int i = 0; i < w->sges; i++) {
        const uint8_t *bytes;

        if (!w->sge[i].length)
            continue;
        bytes = sim_local(s, qp, w->sge[i].lkey, w->sge[i].addr,
                          w->sge[i].length, false);
        if (!bytes)
            return false;
        hash_in(sum, bytes, w->sge[i].length);
    }
    return true;
}

/* Drivers find the window by the key it has when the bind is posted. */
static void
take_window(gp_sim *s, const struct ibv_send_wr *wr)
{
    sim_mw *mw = sim_find(s, GP_SIM_MW, wr->bind_mw.mw, "bind");

    if (!mw)
        return;
    if (mw->v.rkey != mw->asked)
        sim_violate(s,
                    "bind: the key in the window's struct is 0x%x, not "
                    "0x%x",
                    mw->v.rkey, mw->asked);
    mw->asked = wr->bind_mw.rkey;
}

static void
take_fields(const sim_qp *qp, const struct ibv_send_wr *wr, sim_wqe *w)
{
    memset(w, 0, sizeof(*w));
    w->wr_id = wr->wr_id;
    w->opcode = wr->opcode;
    w->flags = wr->send_flags;
    w->imm = wr->imm_data;
    w->signaled = qp->all_signaled || (wr->send_flags & IBV_SEND_SIGNALED);
    w->status = -1;
    if (wr->opcode == IBV_WR_BIND_MW) {
        w->mw = wr->bind_mw.mw;
        w->rkey = wr->bind_mw.rkey;
        w->bind = wr->bind_mw.bind_info;
    } else if (wr->opcode == IBV_WR_LOCAL_INV) {
        w->rkey = wr->invalidate_rkey;
    } else {
        w->remote = wr->wr.rdma.remote_addr;
        w->rkey = wr->wr.rdma.rkey;
    }
}

static int
take_send(gp_sim *s, sim_qp *qp, const struct ibv_send_wr *wr)
{
    sim_wqe *w = &qp->sq[qp->sq_tail % qp->cap.max_send_wr];

    if (!opcode_known(s, qp, wr->opcode))
        return EINVAL;
    if (wr->send_flags & ~(unsigned)KNOWN_FLAGS || wr->num_sge < 0 ||
        (unsigned)wr->num_sge > qp->cap.max_send_sge) {
        sim_violate(s,
                    "post_send: flags 0x%x, %d parts (the queue pair takes "
                    "%u)",
                    wr->send_flags, wr->num_sge, qp->cap.max_send_sge);
        return EINVAL;
    }
    take_fields(qp, wr, w);
    if (wr->opcode == IBV_WR_BIND_MW)
        take_window(s, wr);
    if (!is_local(wr->opcode)) {
        w->sges = wr->num_sge;
        for (int i = 0; i < wr->num_sge; i++) {
            w->sge[i] = wr->sg_list[i];
            w->length += w->sge[i].length;
        }
    }
    if (wr->send_flags & IBV_SEND_INLINE) {
        if (!gather_inline(s, qp, w))
            return EINVAL;
        s->stats.inline_wrs++;
    } else if (!s->options.ignore_buffers && !qp->dead) {
        w->summed = sim_sum(s, qp, w, &w->sum);
    }
    s->stats.signaled_wrs += w->signaled;
    s->stats.send_wrs++;
    qp->sq_tail++;
    return 0;
}

static int
may_send(gp_sim *s, const sim_qp *qp)
{
    if (qp->state != IBV_QPS_RTS && qp->state != IBV_QPS_ERR) {
        sim_violate(s, "post_send: queue pair %u is in state %d", qp->ordinal,
                    qp->state);
        return EINVAL;
    }
    if (qp->sq_tail - qp->sq_free == qp->cap.max_send_wr) {
        sim_violate(s,
                    "post_send: the send queue of %u requests is full (%llu "
                    "of them done and not polled)",
                    qp->cap.max_send_wr,
                    (unsigned long long)(qp->sq_done - qp->sq_free));
        return ENOMEM;
    }
    return 0;
}

/* How many requests of this list are posted before the fault, SIZE_MAX: all. */
static size_t
cut_here(gp_sim *s, const struct ibv_send_wr *wr)
{
    size_t count = 0;

    for (; wr; wr = wr->next)
        count++;
    if (!s->cut_in || count < 2 || --s->cut_in)
        return SIZE_MAX;
    s->fail_fired = true;
    return GP_MIN((size_t)s->cut_after, count - 1);
}

int
sim_post_send(gp_sim *s, struct ibv_qp *q, struct ibv_send_wr *wr,
              struct ibv_send_wr **bad)
{
    sim_qp *qp = sim_find(s, GP_SIM_QP, q, "post_send");
    const struct ibv_send_wr *first = wr;
    size_t room = cut_here(s, wr);
    int error = 0;

    if (!qp) {
        *bad = wr;
        return EINVAL;
    }
    for (; wr; wr = wr->next) {
        error = room-- ? may_send(s, qp) : s->cut_error;
        if (!error)
            error = take_send(s, qp, wr);
        if (error)
            break;
    }
    if (error)
        *bad = wr;
    s->stats.doorbells += wr != first;
    sim_wake(s);
    return error;
}

/* The first receive has to be there before the first message can be. */
static void
check_time(gp_sim *s, sim_qp *qp)
{
    if (qp->state != IBV_QPS_RTR && qp->state != IBV_QPS_RTS)
        return;
    qp->refilled = true;
    if (!qp->rq_tail)
        sim_violate(s,
                    "post_recv: the first receive of queue pair %u comes "
                    "after it is ready to receive",
                    qp->ordinal);
}

static int
take_recv(gp_sim *s, sim_qp *qp, const struct ibv_recv_wr *wr)
{
    sim_rqe *r = &qp->rq[qp->rq_tail % GP_MAX(qp->cap.max_recv_wr, 1u)];

    if (qp->rq_tail - qp->rq_free >= qp->cap.max_recv_wr) {
        sim_violate(s, "post_recv: the receive queue of %u is full",
                    qp->cap.max_recv_wr);
        return ENOMEM;
    }
    if (wr->num_sge < 0 || (unsigned)wr->num_sge > qp->cap.max_recv_sge) {
        sim_violate(s, "post_recv: %d parts, the queue pair takes %u",
                    wr->num_sge, qp->cap.max_recv_sge);
        return EINVAL;
    }
    memset(r, 0, sizeof(*r));
    r->wr_id = wr->wr_id;
    r->sges = wr->num_sge;
    for (int i = 0; i < wr->num_sge; i++)
        r->sge[i] = wr->sg_list[i];
    qp->rq_tail++;
    s->stats.recv_wrs++;
    return 0;
}

int
sim_post_recv(gp_sim *s, struct ibv_qp *q, struct ibv_recv_wr *wr,
              struct ibv_recv_wr **bad)
{
    sim_qp *qp = sim_find(s, GP_SIM_QP, q, "post_recv");
    int error = 0;

    if (!qp) {
        *bad = wr;
        return EINVAL;
    }
    check_time(s, qp);
    for (; wr; wr = wr->next) {
        error = take_recv(s, qp, wr);
        if (error)
            break;
    }
    if (error)
        *bad = wr;
    sim_wake(s);
    return error;
}
