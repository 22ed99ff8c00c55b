/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_port.h - ports that are down, and connections that wait for them: a
 * parked id, with the queue pair that it may have, is nobody's any more, but
 * not destroyed yet.
 */
#ifndef GP_VERBS_PORT_H
#define GP_VERBS_PORT_H

#include "transports/verbs/verbs_int.h"

#define GP_VB_PORT_HINT "check the cable, the switch, and ip link"

bool gp_vb_port_down(const gp_domain *d, const struct rdma_cm_id *id);
/* Fails the lane if its port is down. */
bool gp_vb_port_failed(gp_vb_lane *lane);
/* A port is said to be down; time passes: lanes that are not the only ones fail
 * if it stays so. */
void gp_vb_port_notice(gp_domain *d, uint64_t now);
void gp_vb_port_timer(gp_domain *d, uint64_t now);
/* Fences a lane, and destroys its queue pair and id: now, or when its port is
 * up again. What gp_vb_lane_fence() says of memory holds at once. */
void gp_vb_lane_drop(gp_vb_lane *lane);
/* For it, in verbs_lane.c: the same as gp_vb_lane_fence(), but that a queue
 * pair of which all has completed stays with the id, in error, and then
 * lane->cq and its room there too. */
void gp_vb_lane_still(gp_vb_lane *lane);
/* In verbs_device.c: a protection domain has one parked queue pair less. */
void gp_vb_pd_unpark(gp_domain *d, gp_vb_pd *pd);
/* Of parked ids: their device goes, time passes, the domain ends. */
void gp_vb_parked_removal(gp_domain *d, const struct rdma_cm_id *id);
void gp_vb_parked_timer(gp_domain *d, uint64_t now);
void gp_vb_parked_free(gp_domain *d);

#endif
