/* SPDX-License-Identifier: Apache-2.0 */
/* sim_qp.c - queue pairs: made and destroyed through their id, and states. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "tests/sim/sim_int.h"

static int
check_caps(const sim_device *d, const struct ibv_qp_cap *cap)
{
    const gp_sim_device *have = &d->have;

    if (cap->max_send_wr > have->max_qp_wr ||
        cap->max_recv_wr > have->max_qp_wr ||
        cap->max_send_sge > have->max_sge ||
        cap->max_recv_sge > have->max_sge ||
        cap->max_inline_data > have->inline_max)
        return EINVAL;
    return d->live[GP_SIM_QP] >= have->max_qp ? ENOMEM : 0;
}

static uint32_t
round_up(uint32_t n, unsigned limit)
{
    uint32_t power = 1;

    while (power < n)
        power <<= 1;
    return GP_MIN(power, (uint32_t)limit);
}

/* Providers round up; who counts must count what it was given or asked for. */
static void
grant(gp_sim *s, const sim_device *d, struct ibv_qp_cap *cap)
{
    if (!s->options.grant_more)
        return;
    cap->max_send_wr = round_up(cap->max_send_wr + 1, d->have.max_qp_wr);
    cap->max_recv_wr = round_up(cap->max_recv_wr + 1, d->have.max_qp_wr);
    cap->max_inline_data = d->have.inline_max;
}

static uint32_t
new_number(gp_sim *s)
{
    for (;;) {
        uint32_t number = (uint32_t)sim_random(s) & 0xFFFFFF;
        bool taken = number < 2;

        for (sim_object *o = s->of_kind[GP_SIM_QP]; o; o = o->next_of_kind)
            taken |= ((sim_qp *)o->self)->v.qp_num == number;
        if (!taken)
            return number;
    }
}

static sim_qp *
qp_alloc(const struct ibv_qp_cap *cap)
{
    sim_qp *qp = calloc(1, sizeof(*qp));
    size_t bytes = (size_t)cap->max_send_wr * cap->max_inline_data;

    if (!qp)
        return NULL;
    qp->sq = calloc(GP_MAX(cap->max_send_wr, 1u), sizeof(*qp->sq));
    qp->rq = calloc(GP_MAX(cap->max_recv_wr, 1u), sizeof(*qp->rq));
    qp->inline_bytes = malloc(GP_MAX(bytes, (size_t)1));
    if (qp->sq && qp->rq && qp->inline_bytes)
        return qp;
    free(qp->sq);
    free(qp->rq);
    free(qp->inline_bytes);
    free(qp);
    return NULL;
}

/* More work than entries: an overrun that waits for a busy day. */
static void
demand(gp_sim *s, sim_cq *cq, uint64_t requests)
{
    cq->users++;
    cq->demand += requests;
    if (cq->demand > (uint64_t)cq->v.cqe)
        sim_violate(s,
                    "create_qp: the completion queue has %d entries for "
                    "%llu work requests",
                    cq->v.cqe, (unsigned long long)cq->demand);
}

static void
attach(gp_sim *s, sim_qp *qp, sim_id *id, sim_pd *pd,
       const struct ibv_qp_init_attr *attr)
{
    qp->v.context = id->v.verbs;
    qp->v.qp_context = attr->qp_context;
    qp->v.pd = &pd->v;
    qp->v.send_cq = attr->send_cq;
    qp->v.recv_cq = attr->recv_cq;
    qp->v.qp_num = new_number(s);
    qp->v.qp_type = attr->qp_type;
    qp->id = id;
    qp->device = id->device;
    qp->port = id->port;
    qp->process = id->channel->process;
    qp->ordinal = s->qps++;
    qp->send_cq = (sim_cq *)attr->send_cq;
    qp->recv_cq = (sim_cq *)attr->recv_cq;
    qp->all_signaled = attr->sq_sig_all;
    qp->state = qp->v.state = IBV_QPS_INIT;
    qp->access = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE;
    qp->dead = id->dead || id->device->dead;
    demand(s, qp->send_cq, qp->asked.max_send_wr);
    demand(s, qp->recv_cq, qp->asked.max_recv_wr);
    pd->users++;
    qp->device->live[GP_SIM_QP]++;
    sim_track(s, &qp->o, GP_SIM_QP, qp);
    id->v.qp = &qp->v;
    id->v.pd = &pd->v;
    id->v.send_cq = attr->send_cq;
    id->v.recv_cq = attr->recv_cq;
}

int
sim_rdma_create_qp(gp_sim *s, struct rdma_cm_id *i, struct ibv_pd *p,
                   struct ibv_qp_init_attr *attr)
{
    sim_id *id = sim_find(s, GP_SIM_ID, i, "rdma_create_qp");
    sim_pd *pd = sim_find(s, GP_SIM_PD, p, "rdma_create_qp");
    struct ibv_qp_cap asked = attr->cap;
    sim_qp *qp;
    int error;

    if (!id || !pd ||
        !sim_find(s, GP_SIM_CQ, attr->send_cq, "rdma_create_qp") ||
        !sim_find(s, GP_SIM_CQ, attr->recv_cq, "rdma_create_qp"))
        return EINVAL;
    if (attr->srq || attr->qp_type != IBV_QPT_RC) {
        sim_violate(s, "rdma_create_qp: no reliable connection with a receive "
                       "queue of its own");
        return EINVAL;
    }
    if (!id->v.verbs || id->v.qp || pd->v.context != id->v.verbs ||
        attr->send_cq->context != id->v.verbs ||
        attr->recv_cq->context != id->v.verbs) {
        sim_violate(s, "rdma_create_qp: not bound to a device, bound twice, or "
                       "its objects are of different contexts");
        return EINVAL;
    }
    error = check_caps(id->device, &attr->cap);
    if (error)
        return error;
    grant(s, id->device, &attr->cap);
    qp = qp_alloc(&attr->cap);
    if (!qp)
        return ENOMEM;
    qp->cap = attr->cap;
    qp->asked = asked;
    attach(s, qp, id, pd, attr);
    return 0;
}

void
sim_qp_free(gp_sim *s, sim_qp *qp)
{
    sim_unbind_all(s, qp);
    sim_cq_forget(s, qp->send_cq, qp);
    if (qp->recv_cq != qp->send_cq)
        sim_cq_forget(s, qp->recv_cq, qp);
    sim_async_purge(s, (sim_context *)qp->v.context, &qp->v);
    for (sim_object *o = s->of_kind[GP_SIM_QP]; o; o = o->next_of_kind)
        if (((sim_qp *)o->self)->peer == qp)
            ((sim_qp *)o->self)->peer = NULL;
    qp->send_cq->users--;
    qp->recv_cq->users--;
    qp->send_cq->demand -= qp->asked.max_send_wr;
    qp->recv_cq->demand -= qp->asked.max_recv_wr;
    ((sim_pd *)qp->v.pd)->users--;
    qp->device->live[GP_SIM_QP]--;
    if (qp->id)
        qp->id->v.qp = NULL;
    sim_untrack(s, &qp->o);
    free(qp->sq);
    free(qp->rq);
    free(qp->inline_bytes);
    free(qp);
}

/* The call waits while another thread looks at an event of the queue pair. */
static void
await_acks(gp_sim *s, const sim_qp *qp)
{
    const struct timespec pause = {.tv_nsec = 50000};
    uint64_t deadline = gp_deadline(10);

    while (qp->async_unacked &&
           !pthread_equal(qp->async_taker, pthread_self()) &&
           !gp_expired(deadline)) {
        pthread_mutex_unlock(&s->lock);
        nanosleep(&pause, NULL);
        pthread_mutex_lock(&s->lock);
    }
}

int
sim_rdma_destroy_qp(gp_sim *s, struct rdma_cm_id *i)
{
    sim_id *id = sim_find(s, GP_SIM_ID, i, "rdma_destroy_qp");
    sim_qp *qp;

    if (!id)
        return EINVAL;
    qp = (sim_qp *)id->v.qp;
    if (!qp) {
        sim_violate(s, "rdma_destroy_qp: the id has none");
        return EINVAL;
    }
    await_acks(s, qp);
    if (qp->async_unacked) {
        sim_violate(s,
                    "rdma_destroy_qp: %u async events were not "
                    "acknowledged: it would hang",
                    qp->async_unacked);
        s->stats.live[GP_SIM_ASYNC_EVENT] -= GP_MIN(
            s->stats.live[GP_SIM_ASYNC_EVENT], (size_t)qp->async_unacked);
    }
    if (qp->refilled && !qp->rnr_timer_set && !qp->device->have.iwarp)
        sim_violate(
            s, "rdma_destroy_qp: it went on receiving with the RNR timer that "
               "rdma_cm leaves, 655 ms");
    s->stats.stuck += qp->had_peer && !qp->device->port[qp->port - 1].up;
    sim_qp_free(s, qp);
    return 0;
}

void
sim_qp_async(gp_sim *s, sim_qp *qp, enum ibv_event_type type)
{
    struct ibv_async_event event = {.element.qp = &qp->v, .event_type = type};

    sim_async_push(s, (sim_context *)qp->v.context, &event);
}

void
sim_qp_state(gp_sim *s, sim_qp *qp, enum ibv_qp_state state)
{
    if (qp->state == IBV_QPS_ERR)
        return;
    qp->state = qp->v.state = state;
    sim_wake(s);
}

static int
modify_timer(gp_sim *s, sim_qp *qp, uint8_t timer)
{
    if (qp->state != IBV_QPS_RTR && qp->state != IBV_QPS_RTS)
        return EINVAL;
    if (timer == 0 || timer > 31)
        sim_violate(s, "modify_qp: RNR timer code %u", timer);
    qp->min_rnr_timer = timer;
    qp->rnr_timer_set = true;
    return 0;
}

int
sim_modify_qp(gp_sim *s, struct ibv_qp *q, struct ibv_qp_attr *attr, int mask)
{
    const int known = IBV_QP_STATE | IBV_QP_CUR_STATE | IBV_QP_MIN_RNR_TIMER |
                      IBV_QP_ACCESS_FLAGS;
    sim_qp *qp = sim_find(s, GP_SIM_QP, q, "modify_qp");
    int error = 0;

    if (!qp)
        return EINVAL;
    if (mask & ~known ||
        ((mask & IBV_QP_STATE) && attr->qp_state != IBV_QPS_ERR &&
         attr->qp_state != qp->state)) {
        sim_violate(s,
                    "modify_qp: mask 0x%x cannot be changed while rdma_cm "
                    "owns the queue pair",
                    mask);
        return EINVAL;
    }
    if (mask & IBV_QP_MIN_RNR_TIMER)
        error = modify_timer(s, qp, attr->min_rnr_timer);
    if (!error && (mask & IBV_QP_ACCESS_FLAGS))
        qp->access = (int)attr->qp_access_flags;
    if (!error && (mask & IBV_QP_STATE))
        sim_qp_state(s, qp, attr->qp_state);
    return error;
}

int
sim_query_qp(gp_sim *s, struct ibv_qp *q, struct ibv_qp_attr *attr, int mask,
             struct ibv_qp_init_attr *init)
{
    sim_qp *qp = sim_find(s, GP_SIM_QP, q, "query_qp");

    (void)mask;
    if (!qp)
        return EINVAL;
    memset(attr, 0, sizeof(*attr));
    memset(init, 0, sizeof(*init));
    attr->qp_state = attr->cur_qp_state = qp->state;
    attr->path_mtu = qp->device->port[qp->port - 1].mtu;
    attr->qp_access_flags = (unsigned)qp->access;
    attr->cap = qp->cap;
    attr->min_rnr_timer = qp->min_rnr_timer;
    attr->rnr_retry = qp->rnr_retry;
    attr->retry_cnt = qp->retry_cnt;
    attr->timeout = qp->timeout;
    attr->port_num = (uint8_t)qp->port;
    attr->dest_qp_num = qp->peer ? qp->peer->v.qp_num : 0;
    init->qp_context = qp->v.qp_context;
    init->send_cq = qp->v.send_cq;
    init->recv_cq = qp->v.recv_cq;
    init->cap = qp->cap;
    init->qp_type = qp->v.qp_type;
    init->sq_sig_all = qp->all_signaled;
    return 0;
}
