/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_port.c - ports that are down, and ids that wait for them.
 *
 * Destroying the id of a connection says farewell to the peer's connection
 * manager. Out of a port that is down that reaches nobody, and it can do harm:
 * soft-RoCE's queue pair for management receives nothing any more once one of
 * its requests failed, for no process of the host, until the device is made
 * anew. So such ids are kept until their port is up again, and their farewell
 * reaches a peer that may still hold the old queue pair. At the latest they go
 * with their domain.
 */
#include <stdlib.h>
#include <string.h>

#include "transports/verbs/verbs_port.h"

/* Between two looks at a port. A request can fail a moment before the port is
 * said to be down, so the first look is not at once. */
#define LOOK_NS 100000000u

typedef struct parked {
    gp_list link; /* domain->parked */
    struct rdma_cm_id *id;
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

static void
destroy(const gp_domain *d, struct rdma_cm_id *id)
{
    int error = d->api->rdma_destroy_id(id);

    if (error)
        GP_WARN("verbs: rdma_destroy_id: %s", strerror(error));
}

static void
unpark(gp_domain *d, parked *p)
{
    gp_list_remove(&p->link);
    destroy(d, p->id);
    free(p);
}

static bool
park(gp_domain *d, struct rdma_cm_id *id)
{
    parked *p = calloc(1, sizeof(*p));

    if (!p)
        return false;
    id->context = NULL; /* its events are nobody's */
    p->id = id;
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
gp_vb_lane_drop_id(gp_vb_lane *lane)
{
    gp_domain *d = lane->ep->domain;

    if (!lane->id)
        return;
    if (!should_wait(lane) || !park(d, lane->id))
        destroy(d, lane->id);
    lane->id = NULL;
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
