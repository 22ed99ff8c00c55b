/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_entry.h - what waits to be sent, between verbs_post.c, which keeps it,
 * and verbs_send.c, which puts it into frames.
 */
#ifndef GP_VERBS_ENTRY_H
#define GP_VERBS_ENTRY_H

#include "transports/verbs/verbs_int.h"

#define GP_VB_ANY_LANE 0xFFu

struct gp_vb_entry {
    gp_list link;
    const uint8_t *payload;
    uint64_t length, cookie;
    uint64_t sent;     /* payload bytes in records or WRITEs so far */
    gp_vb_mem *mem;    /* data: where the payload lies; NULL: nowhere known */
    uint32_t frame;    /* flying: the last one it is in */
    uint8_t kind;      /* of a note; 0: a message */
    uint8_t flags;     /* of a note */
    uint8_t only_lane; /* a note for this lane's queue pair; else ANY_LANE */
    bool begun;        /* its VALUE record is in a frame */
    bool heap;         /* payload is ours to free */
    gp_msg msg;
    uint8_t small[GP_VB_INLINE];
};

static inline bool
gp_vb_is_data(const gp_vb_entry *e)
{
    return !e->kind && e->msg.region;
}

static inline bool
gp_vb_is_control(const gp_vb_entry *e)
{
    return !e->kind && !e->msg.region;
}

/* Keeps its place among control messages. */
static inline bool
gp_vb_is_ordered(const gp_vb_entry *e)
{
    return gp_vb_is_control(e) || e->kind == GP_VB_RECORD_BYE;
}

/* Entries without a signal: they count against what post() takes. */
#define GP_VB_UNSIGNALED 64u

/* Requests without a signal. */
static inline uint32_t
gp_vb_unsignaled_max(const gp_vb_lane *lane)
{
    return GP_MIN(lane->sq_depth / 4, lane->tx_frames / 2);
}

/* Of the send queue; one is left for a fence. */
static inline uint32_t
gp_vb_free_places(const gp_vb_lane *lane)
{
    return lane->sq_depth - 1 - (lane->sq_posted - lane->sq_retired);
}

/* Flags of the next ordered record, on this lane. */
static inline uint8_t
gp_vb_take_turn(const gp_vb_lane *lane)
{
    gp_endpoint *ep = lane->ep;

    if (ep->turn_lane != lane->index) {
        ep->turn_lane = lane->index;
        ep->turn = (uint8_t)(ep->turn % 255 + 1);
    }
    return ep->turn;
}

/* A frame has been made. */
static inline void
gp_vb_next_frame(gp_vb_lane *lane)
{
    lane->next_frame++;
    lane->sent_frames++;
    if (++lane->tx_place == lane->tx_frames)
        lane->tx_place = 0;
}

/* The device did not take a request: the lane breaks. */
void gp_vb_post_failed(gp_vb_lane *lane, int error);

/* verbs_short.c: sends the one short message that waits. False: there is more
 * than that, or it must wait: it is to go the long way. */
bool gp_vb_send_short(gp_endpoint *ep);

/* Its frame arrived, or it need not be sent: SENT is due, or nothing. */
void gp_vb_entry_done(gp_endpoint *ep, gp_vb_entry *e);

#endif
