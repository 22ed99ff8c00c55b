/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_conn.c - how connections begin and end.
 *
 *     active                     passive
 *     connect    -- REQUEST -->  CONNECT_REQUEST
 *                <-- ANSWER --   accept: its queue pair is ready at once
 *     ESTABLISHED: its queue pair is ready when this event is fetched
 *                -- READY -->    ESTABLISHED
 *
 * Messages to one id arrive in order; a message that is lost is followed by
 * UNREACHABLE where the protocol would time out.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "tests/sim/sim_int.h"

#define PRIVATE_MAX     56
#define REJ_NO_LISTENER 8
#define REJ_CONSUMER    28
#define LATE_NS         5000000u
#define INFINITE_RETRY  7

sim_task *
sim_task_new(gp_sim *s, int kind, sim_id *to, sim_id *from, uint64_t delay)
{
    sim_task *task = calloc(1, sizeof(*task));

    if (!task)
        return NULL;
    task->kind = kind;
    task->to = to;
    task->from = from;
    task->due = sim_clock(s) + delay;
    if (s->first_task)
        s->last_task->next = task;
    else
        s->first_task = task;
    s->last_task = task;
    sim_wake(s);
    return task;
}

static void
unlink_task(gp_sim *s, sim_task *task)
{
    sim_task **at = &s->first_task, *before = NULL;

    while (*at != task) {
        before = *at;
        at = &(*at)->next;
    }
    *at = task->next;
    if (s->last_task == task)
        s->last_task = before;
    free(task);
}

void
sim_tasks_purge(gp_sim *s, const sim_id *id)
{
    sim_task *next;

    for (sim_task *task = s->first_task; task; task = next) {
        next = task->next;
        if (task->from == id && task->kind != SIM_TASK_REQUEST)
            task->from = NULL;
        if (task->to == id || task->from == id)
            unlink_task(s, task);
    }
}

static bool
check_param(gp_sim *s, const sim_id *id, const struct rdma_conn_param *param,
            const char *who)
{
    if (param->private_data_len > PRIVATE_MAX) {
        sim_violate(s, "%s: %u bytes of private data, at most 56", who,
                    param->private_data_len);
        return false;
    }
    if (param->initiator_depth > id->device->have.max_rd_atomic ||
        param->responder_resources > id->device->have.max_rd_atomic) {
        sim_violate(s, "%s: more reads outstanding than the device has", who);
        return false;
    }
    if (param->rnr_retry_count == INFINITE_RETRY)
        sim_violate(s,
                    "%s: rnr_retry_count 7 hides a missing receive for "
                    "ever",
                    who);
    if (param->retry_count > 7 || param->rnr_retry_count > 7)
        sim_violate(s, "%s: retry counts have three bits", who);
    return true;
}

static void
fill_task(sim_task *task, const struct rdma_conn_param *param)
{
    task->length = param->private_data_len;
    if (task->length)
        memcpy(task->data, param->private_data, task->length);
    task->rnr_retry = param->rnr_retry_count;
    task->retry = param->retry_count;
    task->depth = param->initiator_depth;
    task->resources = param->responder_resources;
}

/* The id's connection manager sends something. */
static void
speaks(gp_sim *s, const sim_id *id)
{
    sim_port *port = id->device ? &id->device->port[id->port - 1] : NULL;

    if (port && !port->up && s->options.goes_deaf)
        port->deaf = true;
}

int
sim_rdma_connect(gp_sim *s, struct rdma_cm_id *i, struct rdma_conn_param *param)
{
    sim_id *id = sim_find(s, GP_SIM_ID, i, "rdma_connect");
    sim_task *task;

    if (!id || id->state != SIM_ROUTED)
        return EINVAL;
    if (!id->v.qp) {
        sim_violate(s, "rdma_connect: no queue pair");
        return EINVAL;
    }
    if (!check_param(s, id, param, "rdma_connect"))
        return EINVAL;
    task = sim_task_new(s, SIM_TASK_REQUEST, NULL, id, 0);
    if (!task)
        return ENOMEM;
    speaks(s, id);
    fill_task(task, param);
    id->param = *param;
    id->param.private_data = NULL;
    id->state = SIM_CONNECTING;
    return 0;
}

static void
pair_up(sim_qp *one, sim_qp *other)
{
    one->peer = other;
    one->had_peer = true;
    if (!other)
        return;
    other->peer = one;
    other->had_peer = true;
}

static void
make_ready(gp_sim *s, const sim_id *id, sim_qp *qp, uint8_t rnr_retry,
           uint8_t retry)
{
    qp->rnr_retry = rnr_retry;
    qp->retry_cnt = retry;
    qp->timeout = (uint8_t)GP_MAX(id->ack_timeout, 0);
    sim_qp_state(s, qp, IBV_QPS_RTR);
    sim_qp_state(s, qp, IBV_QPS_RTS);
}

int
sim_rdma_accept(gp_sim *s, struct rdma_cm_id *i, struct rdma_conn_param *param)
{
    sim_id *id = sim_find(s, GP_SIM_ID, i, "rdma_accept");
    sim_task *task;
    sim_qp *qp;

    if (!id || (id->state != SIM_REQUESTED && !id->dead))
        return EINVAL;
    qp = (sim_qp *)id->v.qp;
    if (!qp) {
        sim_violate(s, "rdma_accept: no queue pair");
        return EINVAL;
    }
    if (!check_param(s, id, param, "rdma_accept"))
        return EINVAL;
    if (param->initiator_depth > id->param.responder_resources)
        sim_violate(s, "rdma_accept: more reads outstanding than the other "
                       "side answers");
    if (id->dead)
        return 0;
    speaks(s, id);
    pair_up(qp, (sim_qp *)id->peer->v.qp);
    make_ready(s, id, qp, id->param.rnr_retry_count, id->param.retry_count);
    id->state = SIM_ACCEPTED;
    task = sim_task_new(s, SIM_TASK_ANSWER, id->peer, id, 0);
    if (!task)
        return ENOMEM;
    fill_task(task, param);
    return 0;
}

int
sim_rdma_reject(gp_sim *s, struct rdma_cm_id *i, const void *data,
                uint8_t length)
{
    sim_id *id = sim_find(s, GP_SIM_ID, i, "rdma_reject");
    sim_task *task;

    if (!id || id->state != SIM_REQUESTED)
        return EINVAL;
    if (length > PRIVATE_MAX) {
        sim_violate(s, "rdma_reject: %u bytes of private data, at most 56",
                    length);
        return EINVAL;
    }
    id->state = SIM_OVER;
    if (id->dead)
        return 0;
    speaks(s, id);
    task = sim_task_new(s, SIM_TASK_REJECT, id->peer, id, 0);
    if (!task)
        return ENOMEM;
    task->status = REJ_CONSUMER;
    task->length = length;
    if (length)
        memcpy(task->data, data, length);
    id->peer->peer = NULL;
    id->peer = NULL;
    return 0;
}

void
sim_id_answered(gp_sim *s, sim_id *id)
{
    sim_qp *qp = (sim_qp *)id->v.qp;

    if (id->state != SIM_ANSWERED)
        return; /* over before it was noticed */
    id->state = SIM_CONNECTED;
    if (qp)
        make_ready(s, id, qp, id->param.rnr_retry_count, id->param.retry_count);
    if (id->peer)
        sim_task_new(s, SIM_TASK_READY, id->peer, id,
                     s->options.late_established ? LATE_NS : 0);
}

void
sim_id_established(gp_sim *s, sim_id *id)
{
    if (id->state != SIM_ACCEPTED)
        return;
    id->state = SIM_CONNECTED;
    sim_event_push(s, id, RDMA_CM_EVENT_ESTABLISHED, 0, NULL);
}

int
sim_rdma_notify(gp_sim *s, struct rdma_cm_id *i, enum ibv_event_type event)
{
    sim_id *id = sim_find(s, GP_SIM_ID, i, "rdma_notify");

    if (!id || event != IBV_EVENT_COMM_EST)
        return EINVAL;
    if (id->state != SIM_ACCEPTED)
        return id->state == SIM_CONNECTED ? EISCONN : EINVAL;
    sim_id_established(s, id);
    return 0;
}

void
sim_bye(gp_sim *s, sim_id *to)
{
    sim_task_new(s, SIM_TASK_BYE, to, NULL, 0);
}

int
sim_rdma_disconnect(gp_sim *s, struct rdma_cm_id *i)
{
    sim_id *id = sim_find(s, GP_SIM_ID, i, "rdma_disconnect");

    if (!id || !id->device || id->state < SIM_ANSWERED ||
        id->state == SIM_REQUESTED)
        return EINVAL;
    if (id->v.qp)
        sim_qp_state(s, (sim_qp *)id->v.qp, IBV_QPS_ERR);
    if (id->state == SIM_OVER)
        return id->device->have.iwarp ? EINVAL : 0;
    speaks(s, id);
    if (id->peer && !id->dead)
        sim_bye(s, id->peer);
    /* The own event comes also when the other side cannot answer. */
    sim_task_new(s, SIM_TASK_BYE, id, id, 0);
    return 0;
}

void
sim_requests_drop(gp_sim *s, const sim_id *active)
{
    for (sim_object *o = s->of_kind[GP_SIM_EVENT_CHANNEL]; o;
         o = o->next_of_kind) {
        sim_channel *channel = o->self;
        sim_event **at = &channel->first;

        channel->last = NULL;
        while (*at) {
            sim_event *event = *at;

            if (event->from != active) {
                channel->last = event;
                at = &event->next;
                continue;
            }
            *at = event->next;
            event->id->waiting--;
            sim_signal_lower(&channel->ready);
            sim_event_free(event);
        }
    }
}

void
sim_id_part(gp_sim *s, sim_id *id)
{
    sim_id *peer = id->peer;
    sim_task *task;

    if (id->state == SIM_CONNECTING || id->state == SIM_ANSWERED)
        sim_requests_drop(s, id);
    if (id->state >= SIM_CONNECTING && id->state != SIM_OVER)
        speaks(s, id);
    if (!peer)
        return;
    switch (id->state) {
    case SIM_CONNECTING:
    case SIM_ANSWERED:
    case SIM_REQUESTED:
        task = sim_task_new(s, SIM_TASK_REJECT, peer, NULL, 0);
        if (task)
            task->status = REJ_CONSUMER;
        break;
    case SIM_ACCEPTED:
    case SIM_CONNECTED:
        sim_bye(s, peer);
        break;
    default:
        break;
    }
    peer->peer = NULL;
    id->peer = NULL;
}

static bool
hears(const sim_device *device, unsigned port)
{
    return device && !device->dead && device->port[port - 1].up &&
           !device->port[port - 1].deaf;
}

static bool
cut_off(gp_sim *s, const sim_id *id)
{
    unsigned port;
    const union ibv_gid *there = (const union ibv_gid *)&id->remote.sin6_addr;
    const sim_device *device = sim_device_of_gid(s, there, &port);

    if (!hears(id->device, id->port) || !hears(device, port))
        return true;
    return sim_cut(s, (const union ibv_gid *)&id->local.sin6_addr, there);
}

static void
unreachable(gp_sim *s, sim_id *id)
{
    sim_task *task = sim_task_new(s, SIM_TASK_UNREACHABLE, id, NULL,
                                  s->options.unreachable_ns);

    if (task)
        task->status = -ETIMEDOUT;
}

void
sim_reject_later(gp_sim *s, sim_id *id, int status)
{
    sim_task *task = sim_task_new(s, SIM_TASK_REJECT, id, NULL, 0);

    if (task)
        task->status = id->device->have.iwarp ? -ECONNREFUSED : status;
}

static void
request_arrives(gp_sim *s, const sim_task *task)
{
    sim_id *from = task->from;
    sim_id *listener = sim_listener_at(s, &from->remote);

    if (s->lose) {
        s->lose--;
        unreachable(s, from);
    } else if (cut_off(s, from) || (listener && listener->channel->silent)) {
        unreachable(s, from);
    } else if (s->refuse) {
        s->refuse--;
        sim_reject_later(s, from, s->refuse_status);
    } else if (!listener || listener->dead) {
        sim_reject_later(s, from, REJ_NO_LISTENER);
    } else if (listener->waiting >= listener->backlog) {
        unreachable(s, from);
    } else {
        sim_event_push(s, listener, RDMA_CM_EVENT_CONNECT_REQUEST, 0, task);
    }
}

static void
answer_arrives(gp_sim *s, sim_task *task)
{
    sim_id *id = task->to;

    if (id->state != SIM_CONNECTING)
        return;
    if (s->lose || cut_off(s, id)) {
        s->lose -= s->lose > 0;
        unreachable(s, id);
        if (task->from)
            unreachable(s, task->from);
        return;
    }
    id->state = SIM_ANSWERED;
    id->param.rnr_retry_count = task->rnr_retry;
    sim_event_push(s, id, RDMA_CM_EVENT_ESTABLISHED, 0, task);
}

static void
ends(gp_sim *s, sim_id *id, enum rdma_cm_event_type event, sim_task *task)
{
    if (id->state == SIM_OVER)
        return;
    id->state = SIM_OVER;
    sim_event_push(s, id, event, task->status,
                   event == RDMA_CM_EVENT_REJECTED ? task : NULL);
    if (s->options.timewait && event == RDMA_CM_EVENT_DISCONNECTED)
        sim_task_new(s, SIM_TASK_TIMEWAIT, id, NULL, 0);
}

static void
resolved(gp_sim *s, sim_id *id, const sim_task *task)
{
    bool address = task->kind == SIM_TASK_ADDRESS;

    if (task->status) {
        id->state = SIM_OVER;
        sim_event_push(s, id,
                       address ? RDMA_CM_EVENT_ADDR_ERROR
                               : RDMA_CM_EVENT_ROUTE_ERROR,
                       task->status, NULL);
        return;
    }
    id->state = address ? SIM_ADDRESS : SIM_ROUTED;
    id->v.route.num_paths = !address;
    sim_event_push(s, id,
                   address ? RDMA_CM_EVENT_ADDR_RESOLVED
                           : RDMA_CM_EVENT_ROUTE_RESOLVED,
                   0, NULL);
}

static void
arrives(gp_sim *s, sim_task *task)
{
    switch (task->kind) {
    case SIM_TASK_ADDRESS:
    case SIM_TASK_ROUTE:
        resolved(s, task->to, task);
        break;
    case SIM_TASK_REQUEST:
        request_arrives(s, task);
        break;
    case SIM_TASK_ANSWER:
        answer_arrives(s, task);
        break;
    case SIM_TASK_READY:
        sim_id_established(s, task->to);
        break;
    case SIM_TASK_REJECT:
        ends(s, task->to, RDMA_CM_EVENT_REJECTED, task);
        break;
    case SIM_TASK_BYE:
        if (task->from != task->to && cut_off(s, task->to))
            break; /* lost */
        ends(s, task->to, RDMA_CM_EVENT_DISCONNECTED, task);
        break;
    case SIM_TASK_UNREACHABLE:
        ends(s, task->to, RDMA_CM_EVENT_UNREACHABLE, task);
        break;
    case SIM_TASK_TIMEWAIT:
        sim_event_push(s, task->to, RDMA_CM_EVENT_TIMEWAIT_EXIT, 0, NULL);
        break;
    }
}

static bool
is_first(const gp_sim *s, const sim_task *task)
{
    for (const sim_task *t = s->first_task; t != task; t = t->next)
        if (t->to && t->to == task->to)
            return false;
    return true;
}

static bool
may_arrive(gp_sim *s, const sim_task *task)
{
    const sim_qp *qp = task->to ? (const sim_qp *)task->to->v.qp : NULL;

    if (!is_first(s, task) || !sim_chance(s, 3))
        return false;
    /* Late: with the first thing received, or when the answer is sent again. */
    if (task->kind == SIM_TASK_READY && qp && qp->rq_done)
        return true;
    return sim_clock(s) >= task->due;
}

size_t
sim_tasks_turn(gp_sim *s)
{
    size_t moved = 0;
    sim_task *next;

    for (sim_task *task = s->first_task; task; task = next) {
        next = task->next;
        if (!may_arrive(s, task))
            continue;
        arrives(s, task);
        /* New ones were appended, none but this one goes. */
        next = task->next;
        unlink_task(s, task);
        moved++;
    }
    return moved;
}
