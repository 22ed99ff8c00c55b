/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_cq.c - completion queues and their channels.
 *
 * A queue is finite: one completion too many and it is dead, with all its queue
 * pairs. An event is raised by a completion that arrives while the queue is
 * armed, never by one that is there already.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "tests/sim/sim_int.h"

struct ibv_comp_channel *
sim_create_comp_channel(gp_sim *s, struct ibv_context *c)
{
    sim_context *context =
        sim_find(s, GP_SIM_CONTEXT, c, "create_comp_channel");
    sim_comp_channel *channel = context ? calloc(1, sizeof(*channel)) : NULL;

    if (!channel || !sim_signal_open(&channel->ready)) {
        free(channel);
        errno = context ? EMFILE : EINVAL;
        return NULL;
    }
    channel->v.context = c;
    channel->v.fd = channel->ready.fd;
    context->users++;
    sim_track(s, &channel->o, GP_SIM_COMP_CHANNEL, channel);
    return &channel->v;
}

int
sim_destroy_comp_channel(gp_sim *s, struct ibv_comp_channel *c)
{
    sim_comp_channel *channel =
        sim_find(s, GP_SIM_COMP_CHANNEL, c, "destroy_comp_channel");

    if (!channel)
        return EINVAL;
    if (channel->cqs) {
        sim_violate(s, "destroy_comp_channel: %u completion queues use it",
                    channel->cqs);
        return EBUSY;
    }
    ((sim_context *)channel->v.context)->users--;
    sim_signal_close(&channel->ready);
    sim_untrack(s, &channel->o);
    free(channel);
    return 0;
}

static sim_cq *
cq_new(int entries)
{
    sim_cq *cq = calloc(1, sizeof(*cq));

    if (!cq)
        return NULL;
    cq->ring = calloc((size_t)entries, sizeof(*cq->ring));
    if (cq->ring)
        return cq;
    free(cq);
    return NULL;
}

struct ibv_cq *
sim_create_cq(gp_sim *s, struct ibv_context *c, int entries, void *user,
              struct ibv_comp_channel *ch, int vector)
{
    sim_context *context = sim_find(s, GP_SIM_CONTEXT, c, "create_cq");
    sim_comp_channel *channel = NULL;
    sim_device *d;
    sim_cq *cq;

    if (ch)
        channel = sim_find(s, GP_SIM_COMP_CHANNEL, ch, "create_cq");
    if (!context || (ch && (!channel || channel->v.context != c)) ||
        entries < 1 || vector < 0 || vector >= c->num_comp_vectors ||
        (unsigned)entries > context->device->have.max_cqe) {
        errno = EINVAL;
        return NULL;
    }
    d = context->device;
    cq = d->live[GP_SIM_CQ] < d->have.max_cq ? cq_new(entries) : NULL;
    if (!cq) {
        errno = ENOMEM;
        return NULL;
    }
    cq->v.context = c;
    cq->v.channel = ch;
    cq->v.cq_context = user;
    cq->v.cqe = entries;
    cq->channel = channel;
    if (channel)
        channel->cqs++;
    context->users++;
    d->live[GP_SIM_CQ]++;
    sim_track(s, &cq->o, GP_SIM_CQ, cq);
    return &cq->v;
}

int
sim_destroy_cq(gp_sim *s, struct ibv_cq *c)
{
    sim_cq *cq = sim_find(s, GP_SIM_CQ, c, "destroy_cq");
    sim_context *context;

    if (!cq)
        return EINVAL;
    if (cq->users) {
        sim_violate(s, "destroy_cq: queue pairs still use it");
        return EBUSY;
    }
    if (cq->unacked || cq->async_unacked)
        sim_violate(s,
                    "destroy_cq: %u completion and %u async events were not "
                    "acknowledged: it would hang",
                    cq->unacked, cq->async_unacked);
    s->stats.live[GP_SIM_CQ_EVENT] -= cq->unacked;
    s->stats.live[GP_SIM_ASYNC_EVENT] -=
        GP_MIN(s->stats.live[GP_SIM_ASYNC_EVENT], (size_t)cq->async_unacked);
    for (; cq->pending; cq->pending--)
        sim_signal_lower(&cq->channel->ready);
    if (cq->channel)
        cq->channel->cqs--;
    context = (sim_context *)cq->v.context;
    sim_async_purge(s, context, &cq->v);
    context->users--;
    context->device->live[GP_SIM_CQ]--;
    sim_untrack(s, &cq->o);
    free(cq->ring);
    free(cq);
    return 0;
}

static void
raise_event(sim_cq *cq)
{
    cq->armed = false;
    if (!cq->channel)
        return;
    cq->pending++;
    sim_signal_raise(&cq->channel->ready);
}

void
sim_cq_break(gp_sim *s, sim_cq *cq)
{
    struct ibv_async_event event = {.element.cq = &cq->v,
                                    .event_type = IBV_EVENT_CQ_ERR};

    cq->overrun = true;
    sim_async_push(s, (sim_context *)cq->v.context, &event);
    for (sim_object *o = s->of_kind[GP_SIM_QP]; o; o = o->next_of_kind) {
        sim_qp *qp = o->self;

        if (qp->send_cq == cq || qp->recv_cq == cq) {
            sim_qp_state(s, qp, IBV_QPS_ERR);
            sim_qp_async(s, qp, IBV_EVENT_QP_FATAL);
        }
    }
}

static void
overrun(gp_sim *s, sim_cq *cq)
{
    if (cq->overrun)
        return;
    sim_violate(s,
                "completion queue overrun: it has %d entries for %llu work "
                "requests",
                cq->v.cqe, (unsigned long long)cq->demand);
    sim_cq_break(s, cq);
}

/* What is undefined in an error completion is garbage here. */
static void
poison(struct ibv_wc *wc)
{
    struct ibv_wc keep = *wc;

    memset(wc, 0xDB, sizeof(*wc));
    wc->wr_id = keep.wr_id;
    wc->status = keep.status;
    wc->qp_num = keep.qp_num;
    wc->vendor_err = keep.vendor_err;
}

void
sim_cq_push(gp_sim *s, sim_cq *cq, const sim_cqe *entry)
{
    bool error = entry->wc.status != IBV_WC_SUCCESS;
    sim_cqe *slot;

    if (cq->tail - cq->head == (uint64_t)cq->v.cqe || cq->overrun) {
        overrun(s, cq);
        return;
    }
    slot = &cq->ring[cq->tail++ % (uint64_t)cq->v.cqe];
    *slot = *entry;
    s->stats.completions++;
    if (error) {
        s->stats.flushes += entry->wc.status == IBV_WC_WR_FLUSH_ERR;
        s->stats.errors += entry->wc.status != IBV_WC_WR_FLUSH_ERR;
        poison(&slot->wc);
    }
    if (cq->armed && (!cq->solicited_only || entry->solicited || error))
        raise_event(cq);
}

void
sim_cq_forget(gp_sim *s, sim_cq *cq, const sim_qp *qp)
{
    uint64_t size = (uint64_t)cq->v.cqe, kept = cq->head;

    for (uint64_t i = cq->head; i < cq->tail; i++) {
        sim_cqe *entry = &cq->ring[i % size];

        if (entry->qp == qp) {
            s->stats.unpolled++;
            if (s->options.clean_cq)
                continue;
            entry->qp = NULL;
        }
        cq->ring[kept++ % size] = *entry;
    }
    cq->tail = kept;
}

/* A polled completion frees its slot, and in a send queue those before. */
static void
retire(const sim_cqe *entry)
{
    sim_qp *qp = entry->qp;

    if (!qp)
        return;
    if (entry->receive)
        qp->rq_free = entry->index + 1;
    else
        qp->sq_free = entry->index + 1;
}

int
sim_poll_cq(gp_sim *s, struct ibv_cq *c, int count, struct ibv_wc *wc)
{
    sim_cq *cq = sim_find(s, GP_SIM_CQ, c, "poll_cq");
    int n = 0;

    if (!cq || count < 0)
        return -EINVAL;
    s->stats.polls++;
    sim_step(s);
    if (cq->overrun)
        return -EIO;
    for (; n < count && cq->head < cq->tail; n++) {
        const sim_cqe *entry = &cq->ring[cq->head++ % (uint64_t)cq->v.cqe];

        retire(entry);
        wc[n] = entry->wc;
    }
    return n;
}

static bool
has_solicited(const sim_cq *cq)
{
    return cq->head < cq->tail;
}

int
sim_req_notify_cq(gp_sim *s, struct ibv_cq *c, int solicited_only)
{
    sim_cq *cq = sim_find(s, GP_SIM_CQ, c, "req_notify_cq");

    if (!cq)
        return EINVAL;
    if (((sim_context *)cq->v.context)->device->dead)
        return EIO;
    s->stats.arms++;
    sim_step(s);
    /* All that was held back comes now, while the queue is not armed. */
    s->releasing = true;
    for (int i = 0; s->options.hold_completions && i < 1000; i++)
        if (!sim_turn(s))
            break;
    s->releasing = false;
    /* The stronger request of two wins. */
    cq->solicited_only = solicited_only && (!cq->armed || cq->solicited_only);
    cq->armed = true;
    if (s->options.spurious_events && !has_solicited(cq) &&
        sim_random(s) % 4 == 0)
        raise_event(cq);
    return 0;
}

static sim_cq *
cq_with_event(gp_sim *s, const sim_comp_channel *channel)
{
    for (sim_object *o = s->of_kind[GP_SIM_CQ]; o; o = o->next_of_kind)
        if (((sim_cq *)o->self)->channel == channel &&
            ((sim_cq *)o->self)->pending)
            return o->self;
    return NULL;
}

int
sim_get_cq_event(gp_sim *s, struct ibv_comp_channel *c, struct ibv_cq **cq,
                 void **user)
{
    sim_comp_channel *channel;
    sim_cq *found;
    int error;

    sim_step(s);
    for (;;) {
        channel = sim_find(s, GP_SIM_COMP_CHANNEL, c, "get_cq_event");
        if (!channel)
            return EINVAL;
        found = cq_with_event(s, channel);
        if (found)
            break;
        error = sim_would_block(s, channel->ready.fd, "get_cq_event");
        if (error)
            return error;
    }
    found->pending--;
    found->unacked++;
    s->stats.live[GP_SIM_CQ_EVENT]++;
    s->stats.created[GP_SIM_CQ_EVENT]++;
    sim_signal_lower(&channel->ready);
    *cq = &found->v;
    *user = found->v.cq_context;
    return 0;
}

void
sim_ack_cq_events(gp_sim *s, struct ibv_cq *c, unsigned count)
{
    sim_cq *cq = sim_find(s, GP_SIM_CQ, c, "ack_cq_events");

    if (!cq)
        return;
    if (count > cq->unacked) {
        sim_violate(s, "ack_cq_events: %u of %u events", count, cq->unacked);
        count = cq->unacked;
    }
    cq->unacked -= count;
    s->stats.live[GP_SIM_CQ_EVENT] -= count;
}
