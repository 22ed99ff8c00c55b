/* SPDX-License-Identifier: Apache-2.0 */
/* sim_dev.c - devices, their ports and GIDs, contexts and async events. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>

#include "base/base.h"
#include "tests/sim/sim_int.h"

bool
sim_gid_of(const char *text, union ibv_gid *gid)
{
    struct in_addr v4;

    memset(gid, 0, sizeof(*gid));
    if (inet_pton(AF_INET, text, &v4) == 1) {
        gid->raw[10] = gid->raw[11] = 0xFF;
        memcpy(gid->raw + 12, &v4, sizeof(v4));
        return true;
    }
    return inet_pton(AF_INET6, text, gid->raw) == 1;
}

static bool
add_gid(sim_port *port, const char *text)
{
    return port->gids < GP_SIM_GIDS &&
           sim_gid_of(text, &port->gid[port->gids++]);
}

static bool
default_gids(sim_device *d, unsigned p)
{
    char text[INET6_ADDRSTRLEN];
    sim_port *port = &d->port[p];
    bool ok;

    snprintf(text, sizeof(text), "fe80::%x:%x", d->index, p + 1);
    ok = add_gid(port, text);
    snprintf(text, sizeof(text), "10.77.%u.%u", d->index, p + 1);
    ok = add_gid(port, text) && ok;
    snprintf(text, sizeof(text), "fd77::%x:%x", d->index, p + 1);
    ok = add_gid(port, text) && ok;
    if (d->index == 0 && p == 0)
        ok = add_gid(port, "127.0.0.1") && add_gid(port, "::1") && ok;
    return ok;
}

static bool
port_open(sim_device *d, unsigned p)
{
    const gp_sim_port *want = &d->have.port[p];
    sim_port *port = &d->port[p];
    bool ok = true;

    port->up = !want->down;
    port->link_layer =
        want->link_layer ? want->link_layer : IBV_LINK_LAYER_ETHERNET;
    port->mtu = want->mtu ? want->mtu : IBV_MTU_4096;
    if (!want->gids[0])
        return default_gids(d, p);
    for (int i = 0; i < GP_SIM_GIDS && want->gids[i]; i++)
        ok = add_gid(port, want->gids[i]) && ok;
    return ok;
}

#define DEFAULT(field, value)  \
    do {                       \
        if (!(field))          \
            (field) = (value); \
    } while (0)

static void
device_defaults(gp_sim_device *have)
{
    DEFAULT(have->ports, 1);
    DEFAULT(have->inline_max, 256);
    if (have->inline_max == UINT_MAX)
        have->inline_max = 0;
    if (have->iwarp)
        have->inline_max = GP_MIN(have->inline_max, 80u);
    DEFAULT(have->max_qp, 4096);
    DEFAULT(have->max_qp_wr, 4096);
    DEFAULT(have->max_sge, 8);
    have->max_sge = GP_MIN(have->max_sge, (unsigned)SIM_SGES);
    DEFAULT(have->max_cq, 1024);
    DEFAULT(have->max_cqe, 65536);
    DEFAULT(have->max_mr, 65536);
    DEFAULT(have->max_mw, 65536);
    DEFAULT(have->max_pd, 4096);
    DEFAULT(have->max_rd_atomic, 16);
    DEFAULT(have->max_msg, 1u << 30);
    DEFAULT(have->max_mr_bytes, UINT64_MAX);
    DEFAULT(have->memlock, UINT64_MAX);
    have->no_windows |= have->iwarp;
}

static bool
device_open(gp_sim *s, sim_device *d, unsigned index)
{
    bool ok = true;

    d->index = index;
    if (s->options.device)
        d->have = s->options.device[index];
    device_defaults(&d->have);
    if (d->have.name)
        snprintf(d->v.name, sizeof(d->v.name), "%s", d->have.name);
    else
        snprintf(d->v.name, sizeof(d->v.name), "sim%u", index);
    d->v.node_type = d->have.iwarp ? IBV_NODE_RNIC : IBV_NODE_CA;
    d->v.transport_type =
        d->have.iwarp ? IBV_TRANSPORT_IWARP : IBV_TRANSPORT_IB;
    for (unsigned p = 0; p < d->have.ports; p++)
        ok = port_open(d, p) && ok;
    return ok && d->have.ports <= GP_SIM_PORTS;
}

bool
sim_devices_open(gp_sim *s)
{
    bool ok = true;

    s->devices = s->options.devices;
    s->device = calloc(s->devices, sizeof(*s->device));
    for (size_t i = 0; s->device && i < s->devices; i++)
        ok = device_open(s, &s->device[i], (unsigned)i) && ok;
    if (s->device && ok)
        return true;
    free(s->device);
    return false;
}

static void
context_free(gp_sim *s, sim_context *context)
{
    while (context->first) {
        sim_async *event = context->first;

        context->first = event->next;
        free(event);
    }
    sim_signal_close(&context->ready);
    sim_untrack(s, &context->o);
    free(context);
}

void
sim_devices_close(gp_sim *s)
{
    while (s->of_kind[GP_SIM_CONTEXT])
        context_free(s, s->of_kind[GP_SIM_CONTEXT]->self);
    free(s->device);
}

sim_device *
sim_device_of_gid(gp_sim *s, const union ibv_gid *gid, unsigned *port)
{
    for (size_t d = 0; d < s->devices; d++)
        for (unsigned p = 0; p < s->device[d].have.ports; p++)
            for (unsigned g = 0; g < s->device[d].port[p].gids; g++)
                if (!memcmp(&s->device[d].port[p].gid[g], gid, sizeof(*gid))) {
                    *port = p + 1;
                    return &s->device[d];
                }
    return NULL;
}

struct ibv_device **
sim_get_device_list(gp_sim *s, int *count)
{
    struct ibv_device **list = calloc(s->devices + 1, sizeof(*list));
    int n = 0;

    if (!list) {
        errno = ENOMEM;
        return NULL;
    }
    for (size_t i = 0; i < s->devices; i++)
        if (!s->device[i].dead)
            list[n++] = &s->device[i].v;
    if (count)
        *count = n;
    s->listed++;
    return list;
}

void
sim_free_device_list(gp_sim *s, struct ibv_device **list)
{
    if (s->listed == 0)
        sim_violate(s, "free_device_list: there is no list");
    else
        s->listed--;
    free(list);
}

static sim_device *
device_of(gp_sim *s, const struct ibv_device *device, const char *who)
{
    for (size_t i = 0; i < s->devices; i++)
        if (&s->device[i].v == device)
            return &s->device[i];
    sim_violate(s, "%s: no such device", who);
    return NULL;
}

const char *
sim_get_device_name(gp_sim *s, struct ibv_device *device)
{
    sim_device *d = device_of(s, device, "get_device_name");

    return d ? d->v.name : NULL;
}

static sim_context *
context_new(gp_sim *s, sim_device *d, bool internal)
{
    sim_context *context = calloc(1, sizeof(*context));

    if (!context || !sim_signal_open(&context->ready)) {
        free(context);
        errno = ENOMEM;
        return NULL;
    }
    context->device = d;
    context->v.device = &d->v;
    context->v.async_fd = context->ready.fd;
    context->v.cmd_fd = -1;
    context->v.num_comp_vectors = 1;
    sim_ops_fill(&context->v.ops);
    context->o.internal = internal;
    sim_track(s, &context->o, GP_SIM_CONTEXT, context);
    return context;
}

static bool
has_ids(const gp_sim *s, const sim_context *context)
{
    for (sim_object *o = s->of_kind[GP_SIM_ID]; o; o = o->next_of_kind)
        if (((sim_id *)o->self)->v.verbs == &context->v)
            return true;
    return false;
}

void
sim_close_replaced(gp_sim *s)
{
    sim_object *next;

    for (sim_object *o = s->of_kind[GP_SIM_CONTEXT]; o; o = next) {
        sim_context *context = o->self;

        next = o->next_of_kind;
        if (!context->replaced || !context->device->cm || context->closed ||
            context->holds || has_ids(s, context))
            continue;
        context->closed = true;
        if (context->users)
            sim_violate(s,
                        "rdma_cm closes a context of %s that was replaced; %u "
                        "objects still use it",
                        context->device->v.name, context->users);
        else
            context_free(s, context);
    }
}

sim_context *
sim_cm_context(gp_sim *s, sim_device *device)
{
    if (device->cm)
        return device->cm;
    device->cm = context_new(s, device, true);
    sim_close_replaced(s);
    return device->cm;
}

struct ibv_context **
sim_rdma_get_devices(gp_sim *s, int *count)
{
    struct ibv_context **list = calloc(s->devices + 1, sizeof(*list));
    size_t n = 0;

    for (size_t i = 0; list && i < s->devices; i++) {
        sim_context *context = sim_cm_context(s, &s->device[i]);

        if (!context)
            continue;
        context->holds++;
        list[n++] = &context->v;
    }
    if (count)
        *count = (int)n;
    return list;
}

void
sim_rdma_free_devices(gp_sim *s, struct ibv_context **list)
{
    for (size_t i = 0; list[i]; i++) {
        sim_context *context =
            sim_find(s, GP_SIM_CONTEXT, list[i], "rdma_free_devices");

        if (context)
            context->holds--;
    }
    free(list);
    sim_close_replaced(s);
}

struct ibv_context *
sim_open_device(gp_sim *s, struct ibv_device *device)
{
    sim_device *d = device_of(s, device, "open_device");
    sim_context *context;

    if (!d) {
        errno = ENODEV;
        return NULL;
    }
    /* Unless another context of it is open, the device is freed memory. */
    if (!s->listed && !d->live[GP_SIM_CONTEXT])
        sim_violate(s, "open_device: %s comes from a list freed already",
                    d->v.name);
    context = context_new(s, d, false);
    if (!context)
        return NULL;
    d->live[GP_SIM_CONTEXT]++;
    return &context->v;
}

int
sim_close_device(gp_sim *s, struct ibv_context *c)
{
    sim_context *context = sim_find(s, GP_SIM_CONTEXT, c, "close_device");

    if (!context)
        return EINVAL;
    if (context->o.internal) {
        sim_violate(s, "close_device: the context belongs to rdma_cm");
        return EINVAL;
    }
    if (context->users) {
        sim_violate(s, "close_device: %u objects still use it", context->users);
        return EBUSY;
    }
    context->device->live[GP_SIM_CONTEXT]--;
    context_free(s, context);
    return 0;
}

static void
fill_device(const sim_device *d, struct ibv_device_attr *attr)
{
    const gp_sim_device *have = &d->have;

    snprintf(attr->fw_ver, sizeof(attr->fw_ver), "1.0.%u", d->index);
    attr->node_guid = htobe64(0x77000000u + d->index);
    attr->sys_image_guid = attr->node_guid;
    attr->max_mr_size = have->max_mr_bytes;
    attr->page_size_cap = 0xFFFFF000u;
    attr->vendor_part_id = d->index;
    attr->max_qp = (int)have->max_qp;
    attr->max_qp_wr = (int)have->max_qp_wr;
    attr->max_sge = (int)have->max_sge;
    attr->max_sge_rd = 1;
    attr->max_cq = (int)have->max_cq;
    attr->max_cqe = (int)have->max_cqe;
    attr->max_mr = (int)have->max_mr;
    attr->max_pd = (int)have->max_pd;
    attr->max_qp_rd_atom = (int)have->max_rd_atomic;
    attr->max_qp_init_rd_atom = (int)have->max_rd_atomic;
    attr->max_pkeys = 1;
    attr->local_ca_ack_delay = 15;
    attr->phys_port_cnt = (uint8_t)have->ports;
    if (have->no_windows)
        return;
    attr->max_mw = (int)have->max_mw;
    attr->device_cap_flags =
        IBV_DEVICE_MEM_WINDOW | IBV_DEVICE_MEM_WINDOW_TYPE_2B;
}

int
sim_query_device(gp_sim *s, struct ibv_context *c, struct ibv_device_attr *attr)
{
    sim_context *context = sim_find(s, GP_SIM_CONTEXT, c, "query_device");

    if (!context)
        return EINVAL;
    memset(attr, 0, sizeof(*attr));
    fill_device(context->device, attr);
    return 0;
}

static void
fill_port(const sim_device *d, uint8_t number, struct ibv_port_attr *attr)
{
    const sim_port *port = &d->port[number - 1];
    bool up = port->up && !d->dead;

    attr->state = up ? IBV_PORT_ACTIVE : IBV_PORT_DOWN;
    attr->phys_state = up ? 5 : 3; /* LinkUp, Disabled */
    attr->max_mtu = IBV_MTU_4096;
    attr->active_mtu = port->mtu;
    attr->gid_tbl_len = GP_SIM_GIDS;
    attr->max_msg_sz = d->have.max_msg;
    attr->pkey_tbl_len = 1;
    attr->link_layer = port->link_layer;
    attr->active_width = 2;  /* 4X */
    attr->active_speed = 32; /* EDR */
    if (port->link_layer == IBV_LINK_LAYER_INFINIBAND)
        attr->lid = (uint16_t)(1 + d->index * GP_SIM_PORTS + number);
}

int
sim_query_port(gp_sim *s, struct ibv_context *c, uint8_t port,
               struct ibv_port_attr *attr)
{
    sim_context *context = sim_find(s, GP_SIM_CONTEXT, c, "query_port");

    if (!context || port == 0 || port > context->device->have.ports)
        return EINVAL;
    memset(attr, 0, sizeof(*attr));
    fill_port(context->device, port, attr);
    return 0;
}

int
sim_query_gid(gp_sim *s, struct ibv_context *c, uint8_t port, int index,
              union ibv_gid *gid)
{
    sim_context *context = sim_find(s, GP_SIM_CONTEXT, c, "query_gid");

    if (!context || port == 0 || port > context->device->have.ports ||
        index < 0 || index >= GP_SIM_GIDS)
        return EINVAL;
    *gid = context->device->port[port - 1].gid[index]; /* empty ones are 0 */
    return 0;
}

void
sim_async_push(gp_sim *s, sim_context *context,
               const struct ibv_async_event *event)
{
    sim_async *entry = calloc(1, sizeof(*entry));

    (void)s;
    if (!entry)
        return;
    entry->v = *event;
    if (context->first)
        context->last->next = entry;
    else
        context->first = entry;
    context->last = entry;
    sim_signal_raise(&context->ready);
}

static bool
names_object(const struct ibv_async_event *event)
{
    return event->event_type == IBV_EVENT_CQ_ERR ||
           event->event_type <= IBV_EVENT_PATH_MIG_ERR ||
           event->event_type == IBV_EVENT_QP_LAST_WQE_REACHED;
}

void
sim_async_purge(gp_sim *s, sim_context *context, const void *element)
{
    sim_async **at = &context->first;

    (void)s;
    context->last = NULL;
    while (*at) {
        sim_async *event = *at;

        if (names_object(&event->v) && event->v.element.qp == element) {
            *at = event->next;
            free(event);
            sim_signal_lower(&context->ready);
        } else {
            context->last = event;
            at = &event->next;
        }
    }
}

void
sim_async_port(gp_sim *s, sim_device *device, unsigned port, bool up)
{
    struct ibv_async_event event = {.element.port_num = (int)port,
                                    .event_type = device->dead
                                                      ? IBV_EVENT_DEVICE_FATAL
                                                  : up ? IBV_EVENT_PORT_ACTIVE
                                                       : IBV_EVENT_PORT_ERR};

    for (sim_object *o = s->of_kind[GP_SIM_CONTEXT]; o; o = o->next_of_kind)
        if (((sim_context *)o->self)->device == device)
            sim_async_push(s, o->self, &event);
}

/* The counter of the object an event names, or NULL. */
static unsigned *
async_unacked(gp_sim *s, const struct ibv_async_event *event, const char *who)
{
    sim_cq *cq;
    sim_qp *qp;

    if (!names_object(event))
        return NULL;
    if (event->event_type == IBV_EVENT_CQ_ERR) {
        cq = sim_find(s, GP_SIM_CQ, event->element.cq, who);
        return cq ? &cq->async_unacked : NULL;
    }
    qp = sim_find(s, GP_SIM_QP, event->element.qp, who);
    return qp ? &qp->async_unacked : NULL;
}

int
sim_get_async_event(gp_sim *s, struct ibv_context *c,
                    struct ibv_async_event *event)
{
    sim_context *context;
    sim_async *entry;
    unsigned *unacked;
    int error;

    for (;;) {
        context = sim_find(s, GP_SIM_CONTEXT, c, "get_async_event");
        if (!context)
            return EINVAL;
        if (context->first)
            break;
        error = sim_would_block(s, context->ready.fd, "get_async_event");
        if (error)
            return error;
    }
    entry = context->first;
    context->first = entry->next;
    sim_signal_lower(&context->ready);
    *event = entry->v;
    free(entry);
    unacked = async_unacked(s, event, "get_async_event");
    if (unacked)
        ++*unacked;
    if (unacked && event->event_type != IBV_EVENT_CQ_ERR)
        ((sim_qp *)event->element.qp)->async_taker = pthread_self();
    s->stats.live[GP_SIM_ASYNC_EVENT]++;
    s->stats.created[GP_SIM_ASYNC_EVENT]++;
    return 0;
}

void
sim_ack_async_event(gp_sim *s, struct ibv_async_event *event)
{
    unsigned *unacked = async_unacked(s, event, "ack_async_event");

    if (unacked && *unacked)
        --*unacked;
    else if (unacked)
        sim_violate(s, "ack_async_event: nothing to acknowledge");
    if (s->stats.live[GP_SIM_ASYNC_EVENT])
        s->stats.live[GP_SIM_ASYNC_EVENT]--;
}
