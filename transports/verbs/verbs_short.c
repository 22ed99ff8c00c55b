/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_short.c - the short way of one short message, which is how requests and
 * answers leave that somebody waits for.
 *
 * It does what verbs_send.c does of a frame with a lone message in it, where
 * nothing is special: one lane, which is up, and nothing else to say. What must
 * be noted of the message is noted when the device has it already.
 */
#ifdef GP_HAVE_VERBS

#include <string.h>

#include "transports/verbs/verbs_entry.h"
#include "transports/verbs/verbs_int.h"

/* By value, to a region that the peer is known to have. */
static inline bool
is_plain_data(const gp_endpoint *ep, const gp_vb_lane *lane,
              const gp_vb_entry *e)
{
    uint32_t index = e->msg.region & ((1u << GP_REGION_INDEX_BITS) - 1);

    return index < ep->remotes && ep->remote[index].token == e->msg.region &&
           e->length <= lane->brief_data;
}

/* 0 when the list is empty: of several one branch can tell. */
static inline uintptr_t
filled(const gp_list *list)
{
    return (uintptr_t)list->next ^ (uintptr_t)list;
}

/* The message that waits, when it is the only one, and nothing else does. */
static inline gp_vb_entry *
alone(gp_endpoint *ep, const gp_vb_lane *lane)
{
    gp_list *control = &ep->control.waiting, *data = &ep->data.waiting;
    gp_list *item = data->next, *other = control;
    gp_vb_entry *e;

    if (item == data) {
        item = control->next;
        other = data;
    }
    if (item->next != item->prev ||
        (filled(other) | filled(&ep->notes) | filled(&lane->notes) |
         filled(&lane->data)))
        return NULL;
    e = GP_CONTAINER_OF(item, gp_vb_entry, link);
    if (item == control || e->kind)
        return NULL;
    return (e->msg.region ? is_plain_data(ep, lane, e)
                          : e->length <= GP_VB_BRIEF_PAYLOAD)
               ? e
               : NULL;
}

/* The only lane, up. What is half in records is in `data`. */
static inline bool
is_plain(const gp_endpoint *ep, const gp_vb_lane *lane)
{
    return !((ep->state ^ GP_VB_OPEN) | (lane->state ^ GP_VB_LANE_UP) |
             !lane->plain | !lane->qp | (filled(&lane->broken) != 0));
}

/* A receive at the peer, a free frame, and a place in the send queue. */
static inline bool
has_room(const gp_vb_lane *lane)
{
    return (lane->granted - lane->sent_frames > GP_VB_RESERVE) &
           (lane->sq_posted - lane->sq_retired < lane->sq_depth - 1) &
           (lane->next_frame - lane->done_frame < lane->tx_frames);
}

/* Whether its end must be heard of, or that of those before it. */
static inline bool
wants_signal(gp_vb_lane *lane, const gp_vb_entry *e)
{
    return e->cookie || e->msg.region ||
           ++lane->unsignaled_entries >= GP_VB_UNSIGNALED ||
           lane->unsignaled + 1 >= gp_vb_unsignaled_max(lane);
}

static inline __attribute__((always_inline)) int
post(gp_vb_lane *lane, gp_vb_entry *e, uint8_t turn)
{
    gp_domain *d = lane->ep->domain;
    gp_vb_request *r = &lane->brief_request;
    uint8_t *at = lane->tx + (size_t)lane->tx_place * d->frame_bytes;
    uint32_t bytes = (uint32_t)gp_vb_brief_encode(
        lane->next_frame, lane->posted, turn, &e->msg, e->payload, at);

    r->part.addr = (uint64_t)(uintptr_t)at;
    r->part.length = bytes;
    r->wr.wr_id = r->id | ((lane->sq_posted + 1) & GP_VB_INDEX_MASK);
    r->wr.send_flags = bytes <= lane->max_inline ? IBV_SEND_INLINE : 0;
    if (wants_signal(lane, e)) {
        r->wr.send_flags |= IBV_SEND_SIGNALED;
        lane->unsignaled = lane->unsignaled_entries = 0;
    } else {
        lane->unsignaled++;
    }
    return gp_verbs_post_now(d->api, lane->qp, &r->wr, &r->bad);
}

/* The frame is on its way, or at an error lost with the lane. */
static void
note_flight(gp_vb_lane *lane, gp_vb_entry *e, uint8_t turn, bool taken)
{
    gp_domain *d = lane->ep->domain;

    gp_list_remove(&e->link);
    gp_list_insert(&lane->flying, &e->link);
    e->flags = turn;
    e->frame = lane->next_frame;
    e->begun = true;
    e->sent = e->length;
    if (gp_vb_is_control(e))
        lane->flying_control++;
    else
        lane->queued_bytes += GP_MSG_BYTES + e->length;
    lane->told = lane->posted;
    lane->tx_end[lane->tx_place] = lane->sq_posted + 1;
    gp_vb_next_frame(lane);
    lane->sq_posted += taken;
    d->work_requests += taken;
    d->doorbells++;
}

static inline __attribute__((always_inline)) bool
send_short(gp_endpoint *ep)
{
    gp_vb_lane *lane = ep->lane[0];
    gp_vb_entry *e;
    uint8_t turn = 0;
    int error;

    if (!is_plain(ep, lane))
        return false;
    e = alone(ep, lane);
    if (!e || !has_room(lane))
        return false;
    if (gp_vb_is_control(e))
        turn = gp_vb_take_turn(lane);
    error = post(lane, e, turn);
    note_flight(lane, e, turn, !error);
    if (error)
        gp_vb_post_failed(lane, error);
    return true;
}

bool
gp_vb_send_short(gp_endpoint *ep)
{
    return send_short(ep);
}

gp_status
gp_vb_flush(gp_endpoint *ep)
{
    if (send_short(ep))
        return GP_OK;
    if (ep->state == GP_VB_CLOSED)
        return gp_fail(GP_ERR_PEER_LOST, "flush: %s: the connection is closed",
                       ep->peer);
    if (ep->state == GP_VB_OPEN)
        gp_vb_send(ep);
    return GP_OK;
}

void
gp_vb_short_prepare(gp_vb_lane *lane)
{
    const gp_domain *d = lane->ep->domain;
    gp_vb_request *r = &lane->brief_request;
    uint32_t others = GP_MSG_BYTES + GP_VB_RECORD_HEADER + GP_VB_FRAME_HEADER;

    *r = (gp_vb_request){.id = gp_vb_wr_id(lane, GP_VB_WR_FRAME, 0),
                         .part.lkey = lane->tx_mr->lkey,
                         .wr = {.num_sge = 1, .opcode = IBV_WR_SEND}};
    r->wr.sg_list = &r->part;
    lane->plain =
        lane->brief && !lane->imm && !d->checksum && lane->ep->lane_count == 1;
    lane->brief_data = GP_MIN(GP_MIN(d->eager, lane->frame_limit - others),
                              GP_VB_BRIEF_PAYLOAD);
}

#endif
