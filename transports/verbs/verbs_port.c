/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_port.c - ports that are down, and connections that wait for them.
 *
 * Destroying the id of a connection says farewell to the peer's connection
 * manager. Out of a port that is down that reaches nobody, and it can do harm:
 * soft-RoCE's queue pair for management receives nothing any more once one of
 * its requests failed, for no process of the host, until the device is made
 * anew. So such ids are kept until their port is up again, and their farewell
 * reaches a peer that may still hold the old queue pair. At the latest they go
 * with their domain.
 *
 * Their queue pairs wait with them: soft-RoCE has a call that destroys one wait
 * for its packets, a minute long where an interface went down with some of
 * them. In error, with all it had completed, a queue pair touches no memory and
 * completes nothing more; it keeps its room in the completion queue and its
 * protection domain, of which all regions may go.
 *
 * What is under way on a port that goes down may neither fail nor succeed for
 * long: devices send it again and again, and soft-RoCE keeps what its network
 * interface does not take, without counting. Who has another rail does not wait
 * for that: what has not passed through a port that stays down goes there.
 */
#include <stdlib.h>
#include <string.h>

#include "transports/verbs/verbs_port.h"

/* Between two looks at a port. A request can fail a moment before the port is
 * said to be down, so the first look is not at once. */
#define LOOK_NS 100000000u

/* Less is what a cable or a switch does now and then, and retries bridge. */
#define DOWN_NS 1000000000u

typedef struct parked {
    gp_list link; /* domain->parked */
    struct rdma_cm_id *id;
    gp_vb_cq *cq; /* of its queue pair; NULL: has none any more */
    uint32_t cq_reserved;
    gp_vb_pd *pd;
    uint64_t look_ns;
} parked;

bool
gp_vb_port_down(const gp_domain *d, const struct rdma_cm_id *id)
{
    struct ibv_port_attr port = {0};

    return id && id->verbs &&
           !d->api->query_port(id->verbs, id->port_num, &port) &&
           port.state < IBV_PORT_ACTIVE;
}

bool
gp_vb_port_failed(gp_vb_lane *lane)
{
    if ((lane->state != GP_VB_LANE_UP && lane->state != GP_VB_LANE_SYNCING) ||
        !gp_vb_port_down(lane->ep->domain, lane->id))
        return false;
    gp_vb_lane_failed(lane, GP_ERR_PEER_LOST, "port %u is down; hint: %s",
                      lane->id->port_num, GP_VB_PORT_HINT);
    return true;
}

void
gp_vb_port_notice(gp_domain *d, uint64_t now)
{
    if (!d->ports_ns)
        d->ports_ns = now + DOWN_NS;
    gp_vb_wake_at(d, d->ports_ns);
}

/* Whether others can carry what this lane does not. */
static bool
has_another(const gp_vb_lane *lane)
{
    const gp_endpoint *ep = lane->ep;

    for (uint32_t i = 0; i < ep->lane_count; i++) {
        const gp_vb_lane *other = ep->lane[i];

        if (other != lane && other->state == GP_VB_LANE_UP &&
            !gp_vb_port_down(ep->domain, other->id))
            return true;
    }
    return false;
}

void
gp_vb_port_timer(gp_domain *d, uint64_t now)
{
    if (!d->ports_ns)
        return;
    if (now < d->ports_ns) {
        gp_vb_wake_at(d, d->ports_ns);
        return;
    }
    d->ports_ns = 0;
    for (uint32_t i = 0; i < d->lane_slots; i++)
        if (d->lanes[i] && has_another(d->lanes[i]))
            (void)gp_vb_port_failed(d->lanes[i]);
}

/* What a lane leaves behind. */
static parked
leave(gp_vb_lane *lane)
{
    parked p = {.id = lane->id};

    if (lane->cq) {
        p.cq = lane->cq;
        p.cq_reserved = lane->cq_reserved;
        p.pd = lane->pd;
        p.pd->parked++;
    }
    lane->id = NULL;
    lane->cq = NULL;
    lane->cq_reserved = 0;
    return p;
}

static void
destroy(gp_domain *d, const parked *p)
{
    int error;

    if (p->cq) {
        d->api->rdma_destroy_qp(p->id);
        gp_vb_cq_leave(p->cq, p->cq_reserved);
        gp_vb_pd_unpark(d, p->pd);
    }
    error = d->api->rdma_destroy_id(p->id);
    if (error)
        GP_WARN("verbs: rdma_destroy_id: %s", strerror(error));
}

static void
unpark(gp_domain *d, parked *p)
{
    gp_list_remove(&p->link);
    destroy(d, p);
    free(p);
}

static bool
park(gp_domain *d, const parked *what)
{
    parked *p = malloc(sizeof(*p));

    if (!p)
        return false;
    *p = *what;
    p->id->context = NULL; /* its events are nobody's */
    p->look_ns = gp_clock_ns() + LOOK_NS;
    gp_list_insert(&d->parked, &p->link);
    gp_vb_wake_at(d, p->look_ns);
    return true;
}

/* Whether its end would be said out of a port that is down; or that may be, for
 * all that an error of this host tells. Before its request an id says nothing.
 */
static bool
should_wait(const gp_vb_lane *lane)
{
    if (lane->state == GP_VB_LANE_RESOLVING || !lane->device ||
        lane->device->gone)
        return false;
    return (lane->state >= GP_VB_LANE_SYNCING &&
            lane->cause_status == GP_ERR_SYSTEM) ||
           gp_vb_port_down(lane->ep->domain, lane->id);
}

void
gp_vb_lane_drop(gp_vb_lane *lane)
{
    gp_domain *d = lane->ep->domain;
    bool waits;
    parked p;

    gp_vb_lane_still(lane);
    if (!lane->id)
        return;
    waits = should_wait(lane);
    p = leave(lane);
    if (!waits || !park(d, &p))
        destroy(d, &p);
}

void
gp_vb_parked_removal(gp_domain *d, const struct rdma_cm_id *id)
{
    GP_LIST_EACH (item, &d->parked) {
        parked *p = GP_CONTAINER_OF(item, parked, link);

        if (p->id == id)
            unpark(d, p);
    }
}

void
gp_vb_parked_timer(gp_domain *d, uint64_t now)
{
    GP_LIST_EACH (item, &d->parked) {
        parked *p = GP_CONTAINER_OF(item, parked, link);

        if (now < p->look_ns) {
            gp_vb_wake_at(d, p->look_ns);
        } else if (gp_vb_port_down(d, p->id)) {
            p->look_ns = now + LOOK_NS;
            gp_vb_wake_at(d, p->look_ns);
        } else {
            unpark(d, p);
        }
    }
}

void
gp_vb_parked_free(gp_domain *d)
{
    GP_LIST_EACH (item, &d->parked)
        unpark(d, GP_CONTAINER_OF(item, parked, link));
}
