/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_early.h - between what looks for messages in memory and what deals with
 * completions.
 */
#ifndef GP_VERBS_EARLY_H
#define GP_VERBS_EARLY_H

#include "transports/verbs/verbs_int.h"

/* Completions taken at a time. */
#define GP_VB_BATCH 16

/* verbs_recv.c */
/* Frames of this lane, which takes brief ones, are looked for in memory too, as
 * long as there are not too many such lanes. */
void gp_vb_watch_lane(gp_vb_lane *lane);
void gp_vb_unwatch_lane(gp_vb_lane *lane);

typedef enum gp_vb_seen {
    GP_VB_NOTHING,
    GP_VB_EVENT, /* a message, which is an event now */
    GP_VB_WAITS, /* one that waits to be delivered */
    GP_VB_OTHER, /* something that only its completion will tell */
} gp_vb_seen;
/* Takes a brief frame of which the number was seen in memory; NOTHING: it is
 * not whole. It is delivered at once, unless `event` is NULL. */
gp_vb_seen gp_vb_take_early(gp_vb_received *f, gp_event *event);

/* Where what a receive gets lies. */
static inline uint8_t *
gp_vb_place_of(const gp_vb_lane *lane, uint32_t buffer)
{
    return lane->rx + (size_t)buffer * lane->ep->domain->frame_bytes;
}

/* Looks so often for the next frame of a lane. It is an event, the first one,
 * where that is so simple and `max` is not 0. */
gp_vb_seen gp_vb_look(gp_vb_lane *lane, uint32_t looks, gp_event *events,
                      int max);
int gp_vb_progress(gp_domain *d, gp_event *events, int max);
/* verbs.c: all of progress() but what is seen in memory. */
int gp_vb_progress_all(gp_domain *d, gp_event *events, int max);
/* Nothing is due but what completions will say, and that may wait a little. */
bool gp_vb_all_rest(const gp_domain *d);
/* verbs_deliver.c: events of what was received; the same of a brief frame that
 * is in no list and waits for nothing. */
void gp_vb_hand_over(gp_endpoint *ep, gp_vb_out *out);
void gp_vb_deliver_now(gp_vb_received *f, gp_vb_out *out);

#endif
