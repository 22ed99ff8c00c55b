/* SPDX-License-Identifier: Apache-2.0 */
/* sim_addr.c - addresses of ids: bound, resolved, listened at. */
#include <errno.h>
#include <string.h>

#include <arpa/inet.h>

#include "base/base.h"
#include "tests/sim/sim_int.h"

#define LONGEST_MS 600000

static bool
parse(const struct sockaddr *address, struct sockaddr_in6 *out, bool *v4)
{
    memset(out, 0, sizeof(*out));
    out->sin6_family = AF_INET6;
    if (address->sa_family == AF_INET6) {
        memcpy(out, address, sizeof(*out));
        *v4 = false;
        return true;
    }
    if (address->sa_family != AF_INET)
        return false;
    *v4 = true;
    out->sin6_port = ((const struct sockaddr_in *)address)->sin_port;
    out->sin6_addr.s6_addr[10] = out->sin6_addr.s6_addr[11] = 0xFF;
    memcpy(out->sin6_addr.s6_addr + 12,
           &((const struct sockaddr_in *)address)->sin_addr, 4);
    return true;
}

static bool
is_any(const struct sockaddr_in6 *name, bool v4)
{
    static const uint8_t zero[16];

    return !memcmp(name->sin6_addr.s6_addr + (v4 ? 12 : 0), zero, v4 ? 4 : 16);
}

/* What listens at "::" also takes connections to IPv4 addresses. */
static bool
covers(const sim_id *id, const struct sockaddr_in6 *name)
{
    static const uint8_t mapped[12] = {[10] = 0xFF, [11] = 0xFF};

    if (id->wildcard)
        return !id->v4 || !memcmp(&name->sin6_addr, mapped, sizeof(mapped));
    return !memcmp(&id->local.sin6_addr, &name->sin6_addr, 16);
}

static bool
port_taken(gp_sim *s, const sim_id *id)
{
    for (sim_object *o = s->of_kind[GP_SIM_ID]; o; o = o->next_of_kind) {
        const sim_id *other = o->self;

        if (other == id || !other->held_port || other->dead ||
            other->local.sin6_port != id->local.sin6_port)
            continue;
        if (id->wildcard || covers(other, &id->local))
            return true;
    }
    return false;
}

static int
take_port(gp_sim *s, sim_id *id)
{
    if (id->local.sin6_port) {
        if (port_taken(s, id))
            return EADDRINUSE;
    } else {
        do
            id->local.sin6_port = htons(s->next_port++);
        while (s->next_port < 1024 || port_taken(s, id));
    }
    id->held_port = true;
    return 0;
}

static int
bind_to(gp_sim *s, sim_id *id, const struct sockaddr *address)
{
    const union ibv_gid *gid;
    sim_device *device;
    unsigned port;
    int error;

    if (!parse(address, &id->local, &id->v4))
        return EAFNOSUPPORT;
    id->wildcard = is_any(&id->local, id->v4);
    if (!id->wildcard) {
        gid = (const union ibv_gid *)&id->local.sin6_addr;
        device = sim_device_of_gid(s, gid, &port);
        if (!device || device->dead)
            return ENODEV;
        sim_id_bind(s, id, device, port);
    }
    error = take_port(s, id);
    if (error)
        return error;
    id->state = SIM_BOUND;
    sim_id_names(id);
    return 0;
}

int
sim_rdma_bind_addr(gp_sim *s, struct rdma_cm_id *i, struct sockaddr *address)
{
    sim_id *id = sim_find(s, GP_SIM_ID, i, "rdma_bind_addr");

    if (!id || id->state != SIM_IDLE)
        return EINVAL;
    return bind_to(s, id, address);
}

int
sim_rdma_listen(gp_sim *s, struct rdma_cm_id *i, int backlog)
{
    sim_id *id = sim_find(s, GP_SIM_ID, i, "rdma_listen");

    if (!id || id->state != SIM_BOUND)
        return EINVAL;
    id->backlog = backlog > 0 ? (unsigned)backlog : 1024;
    id->state = SIM_LISTENING;
    return 0;
}

sim_id *
sim_listener_at(gp_sim *s, const struct sockaddr_in6 *address)
{
    for (sim_object *o = s->of_kind[GP_SIM_ID]; o; o = o->next_of_kind) {
        sim_id *id = o->self;

        if (id->state == SIM_LISTENING &&
            id->local.sin6_port == address->sin6_port && covers(id, address))
            return id;
    }
    return NULL;
}

/* Same network: the first three bytes of IPv4, eight of IPv6. */
static bool
same_net(const union ibv_gid *gid, const struct in6_addr *to, bool v4)
{
    return !memcmp(gid->raw, to, v4 ? 15 : 8);
}

static sim_device *
route(gp_sim *s, const sim_id *id, union ibv_gid *from, unsigned *port)
{
    union ibv_gid to;
    sim_device *device;

    memcpy(to.raw, &id->remote.sin6_addr, sizeof(to.raw));
    device = sim_device_of_gid(s, &to, port);
    if (device) {
        *from = to;
        return device;
    }
    for (size_t d = 0; d < s->devices; d++)
        for (unsigned p = 0; p < s->device[d].have.ports; p++)
            for (unsigned g = 0; g < s->device[d].port[p].gids; g++) {
                *from = s->device[d].port[p].gid[g];
                if (!same_net(from, &id->remote.sin6_addr, id->v4))
                    continue;
                *port = p + 1;
                return &s->device[d];
            }
    return NULL;
}

static int
find_route(gp_sim *s, sim_id *id)
{
    union ibv_gid from;
    unsigned port;
    sim_device *device = id->device;

    if (!device) {
        device = route(s, id, &from, &port);
        if (!device)
            return -ENODEV;
        memcpy(&id->local.sin6_addr, &from, 16);
        id->local.sin6_family = AF_INET6;
        id->wildcard = false;
        sim_id_bind(s, id, device, port);
    }
    if (device->dead || !device->port[id->port - 1].up)
        return -ENETUNREACH;
    if (!id->held_port && take_port(s, id))
        return -EADDRINUSE;
    return 0;
}

static void
check_timeout(gp_sim *s, const char *who, int timeout_ms)
{
    if (timeout_ms <= 0 || timeout_ms > LONGEST_MS)
        sim_violate(s, "%s: %d is no time-out in milliseconds", who,
                    timeout_ms);
}

int
sim_rdma_resolve_addr(gp_sim *s, struct rdma_cm_id *i, struct sockaddr *source,
                      struct sockaddr *target, int timeout_ms)
{
    sim_id *id = sim_find(s, GP_SIM_ID, i, "rdma_resolve_addr");
    sim_task *task;
    int error;

    if (!id || (id->state != SIM_IDLE && id->state != SIM_BOUND))
        return EINVAL;
    check_timeout(s, "rdma_resolve_addr", timeout_ms);
    if (source && id->state == SIM_IDLE) {
        error = bind_to(s, id, source);
        if (error)
            return error;
    }
    if (!parse(target, &id->remote, &id->v4))
        return EAFNOSUPPORT;
    task = sim_task_new(s, SIM_TASK_ADDRESS, id, NULL, 0);
    if (!task)
        return ENOMEM;
    task->status = find_route(s, id);
    id->state = SIM_RESOLVING;
    sim_id_names(id);
    return 0;
}

int
sim_rdma_resolve_route(gp_sim *s, struct rdma_cm_id *i, int timeout_ms)
{
    sim_id *id = sim_find(s, GP_SIM_ID, i, "rdma_resolve_route");

    if (!id || id->state != SIM_ADDRESS)
        return EINVAL;
    check_timeout(s, "rdma_resolve_route", timeout_ms);
    if (!sim_task_new(s, SIM_TASK_ROUTE, id, NULL, 0))
        return ENOMEM;
    id->state = SIM_ROUTING;
    return 0;
}
