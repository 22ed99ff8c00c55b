/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_cm.c - ids, event channels and their events.
 *
 * Private data of an event is unaligned, longer than what was sent, and
 * overwritten and freed with the acknowledgement.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "tests/sim/sim_int.h"

#define PAD_REQUEST 56
#define PAD_ANSWER  196
#define PAD_REJECT  148

struct rdma_event_channel *
sim_rdma_create_event_channel(gp_sim *s, bool unused)
{
    sim_channel *channel = calloc(1, sizeof(*channel));

    (void)unused;
    if (!channel || !sim_signal_open(&channel->ready)) {
        free(channel);
        errno = EMFILE;
        return NULL;
    }
    channel->v.fd = channel->ready.fd;
    channel->process = ++s->processes;
    sim_track(s, &channel->o, GP_SIM_EVENT_CHANNEL, channel);
    return &channel->v;
}

void
sim_rdma_destroy_event_channel(gp_sim *s, struct rdma_event_channel *c)
{
    sim_channel *channel =
        sim_find(s, GP_SIM_EVENT_CHANNEL, c, "rdma_destroy_event_channel");

    if (!channel)
        return;
    if (channel->ids || channel->unacked) {
        sim_violate(s,
                    "rdma_destroy_event_channel: %u ids are on it and %u "
                    "events were not acknowledged",
                    channel->ids, channel->unacked);
        return; /* it stays, and is reported as leaked */
    }
    sim_signal_close(&channel->ready);
    sim_untrack(s, &channel->o);
    free(channel);
}

sim_id *
sim_id_new(gp_sim *s, sim_channel *channel, void *context)
{
    sim_id *id = calloc(1, sizeof(*id));

    if (!id)
        return NULL;
    id->channel = channel;
    id->v.channel = &channel->v;
    id->v.context = context;
    id->v.ps = RDMA_PS_TCP;
    id->v.qp_type = IBV_QPT_RC;
    id->ack_timeout = id->traffic_class = -1;
    id->dead = channel->dead;
    channel->ids++;
    sim_track(s, &id->o, GP_SIM_ID, id);
    return id;
}

int
sim_rdma_create_id(gp_sim *s, struct rdma_event_channel *c,
                   struct rdma_cm_id **out, void *context,
                   enum rdma_port_space space)
{
    sim_channel *channel;
    sim_id *id;

    if (!c) {
        sim_violate(s, "rdma_create_id: without a channel every call blocks");
        return EINVAL;
    }
    channel = sim_find(s, GP_SIM_EVENT_CHANNEL, c, "rdma_create_id");
    if (!channel || space != RDMA_PS_TCP)
        return EINVAL;
    id = sim_id_new(s, channel, context);
    if (!id)
        return ENOMEM;
    *out = &id->v;
    return 0;
}

static void
copy_name(struct sockaddr_storage *out, const struct sockaddr_in6 *name,
          bool v4)
{
    struct sockaddr_in *in = (struct sockaddr_in *)out;

    memset(out, 0, sizeof(*out));
    if (!v4) {
        memcpy(out, name, sizeof(*name));
        return;
    }
    in->sin_family = AF_INET;
    in->sin_port = name->sin6_port;
    memcpy(&in->sin_addr, name->sin6_addr.s6_addr + 12, 4);
}

void
sim_id_names(sim_id *id)
{
    struct rdma_addr *addr = &id->v.route.addr;

    copy_name(&addr->src_storage, &id->local, id->v4);
    copy_name(&addr->dst_storage, &id->remote, id->v4);
    memcpy(&addr->addr.ibaddr.sgid, &id->local.sin6_addr, 16);
    memcpy(&addr->addr.ibaddr.dgid, &id->remote.sin6_addr, 16);
    addr->addr.ibaddr.pkey = 0xFFFF;
}

void
sim_id_bind(gp_sim *s, sim_id *id, sim_device *device, unsigned port)
{
    sim_context *context = sim_cm_context(s, device);

    id->device = device;
    id->port = port;
    id->v.verbs = context ? &context->v : NULL;
    id->v.port_num = (uint8_t)port;
}

uint16_t
sim_rdma_get_src_port(gp_sim *s, struct rdma_cm_id *i)
{
    sim_id *id = sim_find(s, GP_SIM_ID, i, "rdma_get_src_port");

    return id ? id->local.sin6_port : 0;
}

int
sim_rdma_set_option(gp_sim *s, struct rdma_cm_id *i, int level, int name,
                    void *value, size_t length)
{
    sim_id *id = sim_find(s, GP_SIM_ID, i, "rdma_set_option");

    if (!id || level != RDMA_OPTION_ID)
        return id ? ENOSYS : EINVAL;
    switch (name) {
    case RDMA_OPTION_ID_TOS:
        if (length != sizeof(uint8_t))
            return EINVAL;
        if (id->state >= SIM_ROUTING)
            sim_violate(s, "rdma_set_option: traffic class of a route that is "
                           "there already");
        id->traffic_class = *(uint8_t *)value;
        return 0;
    case RDMA_OPTION_ID_REUSEADDR:
    case RDMA_OPTION_ID_AFONLY:
        return length == sizeof(int) ? 0 : EINVAL;
    case RDMA_OPTION_ID_ACK_TIMEOUT:
        if (length != sizeof(uint8_t))
            return EINVAL;
        if (id->state >= SIM_CONNECTING && id->state != SIM_REQUESTED)
            sim_violate(s, "rdma_set_option: ACK timeout of a connection that "
                           "has one already");
        id->ack_timeout = *(uint8_t *)value;
        if (id->ack_timeout == 0 || id->ack_timeout > 31)
            sim_violate(s, "rdma_set_option: ACK timeout %d never ends",
                        id->ack_timeout);
        return 0;
    default:
        return ENOSYS;
    }
}

int
gp_sim_traffic_class(gp_sim *s, unsigned process)
{
    int found = -2;

    pthread_mutex_lock(&s->lock);
    for (sim_object *o = s->of_kind[GP_SIM_ID]; o; o = o->next_of_kind) {
        const sim_id *id = o->self;

        if (id->channel->process != process || id->state < SIM_CONNECTING)
            continue;
        if (found != -2 && found != id->traffic_class) {
            found = -2;
            break;
        }
        found = id->traffic_class;
    }
    pthread_mutex_unlock(&s->lock);
    return found;
}

/* Private data as the kind of event has it: longer, and at an odd address. */
static bool
copy_data(const sim_id *id, sim_event *event, const sim_task *with)
{
    const sim_device *device = id->device ? id->device : with->from->device;
    bool exact = device && device->have.iwarp;
    size_t pad = PAD_REQUEST;

    if (event->v.event == RDMA_CM_EVENT_ESTABLISHED)
        pad = PAD_ANSWER;
    if (event->v.event == RDMA_CM_EVENT_REJECTED)
        pad = with->length ? PAD_REJECT : 0;
    event->size = exact ? with->length : GP_MAX(pad, (size_t)with->length);
    if (event->size) {
        event->data = calloc(1, event->size + 1);
        if (!event->data)
            return false;
        memcpy(event->data + 1, with->data, with->length);
        event->v.param.conn.private_data = event->data + 1;
    }
    event->v.param.conn.private_data_len = (uint8_t)event->size;
    event->v.param.conn.responder_resources = with->depth;
    event->v.param.conn.initiator_depth = with->resources;
    event->v.param.conn.retry_count = with->retry;
    event->v.param.conn.rnr_retry_count = with->rnr_retry;
    return true;
}

void
sim_event_push(gp_sim *s, sim_id *id, enum rdma_cm_event_type type, int status,
               const sim_task *with)
{
    sim_channel *channel = id->channel;
    sim_event *event;

    (void)s;
    if (id->dead)
        return;
    event = calloc(1, sizeof(*event));
    if (!event)
        return;
    event->v.id = &id->v;
    event->v.event = type;
    event->v.status = status;
    event->id = id;
    if (with && !copy_data(id, event, with)) {
        free(event);
        return;
    }
    if (type == RDMA_CM_EVENT_CONNECT_REQUEST) {
        event->from = with->from;
        id->waiting++;
    }
    event->answer = type == RDMA_CM_EVENT_ESTABLISHED && with;
    if (channel->first)
        channel->last->next = event;
    else
        channel->first = event;
    channel->last = event;
    sim_signal_raise(&channel->ready);
}

void
sim_event_free(sim_event *event)
{
    if (event->data)
        memset(event->data, 0xDD, event->size + 1);
    free(event->data);
    memset(event, 0xDD, sizeof(*event));
    free(event);
}

/* The id of a new connection comes with its request. */
static bool
passive_id(gp_sim *s, sim_event *event)
{
    sim_id *listener = event->id, *from = event->from;
    sim_id *id = sim_id_new(s, listener->channel, listener->v.context);
    unsigned port;
    sim_device *device = sim_device_of_gid(
        s, (const union ibv_gid *)&from->remote.sin6_addr, &port);

    if (!id || !device)
        return false;
    sim_id_bind(s, id, device, port);
    id->state = SIM_REQUESTED;
    id->local = from->remote;
    id->remote = from->local;
    id->v4 = from->v4;
    id->peer = from;
    from->peer = id;
    id->param = from->param;
    sim_id_names(id);
    event->v.id = &id->v;
    event->v.listen_id = &listener->v;
    listener->waiting--;
    return true;
}

int
sim_rdma_get_cm_event(gp_sim *s, struct rdma_event_channel *c,
                      struct rdma_cm_event **out)
{
    sim_channel *channel;
    sim_event *event;
    int error;

    sim_step(s);
    for (;;) {
        channel = sim_find(s, GP_SIM_EVENT_CHANNEL, c, "rdma_get_cm_event");
        if (!channel)
            return EINVAL;
        if (channel->first)
            break;
        error = sim_would_block(s, channel->ready.fd, "rdma_get_cm_event");
        if (error)
            return error;
    }
    event = channel->first;
    if (event->v.event == RDMA_CM_EVENT_CONNECT_REQUEST &&
        !passive_id(s, event))
        return ENOMEM;
    channel->first = event->next;
    sim_signal_lower(&channel->ready);
    if (event->answer)
        sim_id_answered(s, event->id);
    event->id->unacked++;
    channel->unacked++;
    sim_track(s, &event->o, GP_SIM_CM_EVENT, event);
    *out = &event->v;
    return 0;
}

int
sim_rdma_ack_cm_event(gp_sim *s, struct rdma_cm_event *e)
{
    sim_event *event = sim_find(s, GP_SIM_CM_EVENT, e, "rdma_ack_cm_event");

    if (!event)
        return EINVAL;
    if (event->id) {
        event->id->unacked--;
        event->id->channel->unacked--;
    }
    sim_untrack(s, &event->o);
    sim_event_free(event);
    return 0;
}

/* Events that nobody fetched go with their id; requests are rejected. */
static void
purge_events(gp_sim *s, sim_id *id)
{
    sim_channel *channel = id->channel;
    sim_event **at = &channel->first;

    channel->last = NULL;
    while (*at) {
        sim_event *event = *at;

        if (event->id != id) {
            channel->last = event;
            at = &event->next;
            continue;
        }
        if (event->from) {
            sim_task *task =
                sim_task_new(s, SIM_TASK_REJECT, event->from, NULL, 0);

            if (task)
                task->status = 28;
        }
        *at = event->next;
        sim_signal_lower(&channel->ready);
        sim_event_free(event);
    }
}

void
sim_id_free(gp_sim *s, sim_id *id)
{
    purge_events(s, id);
    sim_requests_drop(s, id); /* also of a process that was killed */
    sim_tasks_purge(s, id);
    for (sim_object *o = s->of_kind[GP_SIM_CM_EVENT]; o; o = o->next_of_kind)
        if (((sim_event *)o->self)->id == id) {
            ((sim_event *)o->self)->id = NULL;
            id->channel->unacked--;
        }
    for (sim_object *o = s->of_kind[GP_SIM_ID]; o; o = o->next_of_kind)
        if (((sim_id *)o->self)->peer == id)
            ((sim_id *)o->self)->peer = NULL;
    id->channel->ids--;
    sim_untrack(s, &id->o);
    free(id);
}

int
sim_rdma_destroy_id(gp_sim *s, struct rdma_cm_id *i)
{
    sim_id *id = sim_find(s, GP_SIM_ID, i, "rdma_destroy_id");

    if (!id)
        return EINVAL;
    if (id->unacked)
        sim_violate(s,
                    "rdma_destroy_id: %u events were not acknowledged: it "
                    "would hang",
                    id->unacked);
    if (id->v.qp) {
        sim_violate(s, "rdma_destroy_id: its queue pair is still there");
        sim_qp_free(s, (sim_qp *)id->v.qp);
    }
    if (!id->dead)
        sim_id_part(s, id);
    sim_id_free(s, id);
    sim_close_replaced(s);
    sim_wake(s);
    return 0;
}
