/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_port.h - ports that are down, and ids that wait for them: a parked id
 * is nobody's any more, but not destroyed yet.
 */
#ifndef GP_VERBS_PORT_H
#define GP_VERBS_PORT_H

#include "transports/verbs/verbs_int.h"

bool gp_vb_port_down(const gp_domain *d, const struct rdma_cm_id *id);
/* Destroys the id of a lane that is fenced, or never had a queue pair: now, or
 * when its port is up again. */
void gp_vb_lane_drop_id(gp_vb_lane *lane);
/* Of parked ids: their device goes, time passes, the domain ends. */
void gp_vb_parked_removal(gp_domain *d, const struct rdma_cm_id *id);
void gp_vb_parked_timer(gp_domain *d, uint64_t now);
void gp_vb_parked_free(gp_domain *d);

#endif
