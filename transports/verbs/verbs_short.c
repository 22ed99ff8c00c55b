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
static bool
is_plain_data(const gp_vb_lane *lane, const gp_vb_entry *e)
{
    const gp_endpoint *ep = lane->ep;
    uint32_t index = e->msg.region & 0xFFFFFu; /* as in region.c */

    return index < ep->remotes && ep->remote[index].token == e->msg.region &&
           e->length <= ep->domain->eager &&
           e->length + GP_MSG_BYTES + GP_VB_RECORD_HEADER +
                   GP_VB_FRAME_HEADER <=
               lane->frame_limit;
}

/* 0 when the list is empty: of several one branch can tell. */
static uintptr_t
filled(const gp_list *list)
{
    return (uintptr_t)list->next ^ (uintptr_t)list;
}

/* The message that waits, when it is the only one, and nothing else does. */
static gp_vb_entry *
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
    if (item == control || e->kind || e->length > GP_VB_BRIEF_PAYLOAD)
        return NULL;
    return gp_vb_is_control(e) || is_plain_data(lane, e) ? e : NULL;
}

/* One lane, up, that takes brief frames. */
static bool
is_plain(const gp_endpoint *ep, const gp_vb_lane *lane)
{
    return !((ep->lane_count ^ 1) | (ep->state ^ GP_VB_OPEN) |
             (lane->state ^ GP_VB_LANE_UP) | lane->imm | !lane->brief |
             !lane->qp | (lane->open != NULL) | ep->domain->checksum |
             (filled(&lane->broken) != 0));
}

/* A receive at the peer, a free frame, and a place in the send queue. */
static bool
has_room(const gp_vb_lane *lane)
{
    return (lane->granted - lane->sent_frames > GP_VB_RESERVE) &
           (lane->sq_posted - lane->sq_retired < lane->sq_depth - 1) &
           (lane->next_frame - lane->done_frame < lane->tx_frames);
}

/* Whether its end must be heard of, or that of those before it. */
static bool
wants_signal(gp_vb_lane *lane, const gp_vb_entry *e)
{
    return e->cookie || e->msg.region ||
           ++lane->unsignaled_entries >= GP_VB_UNSIGNALED ||
           lane->unsignaled + 1 >= gp_vb_unsignaled_max(lane);
}

static int
post(gp_vb_lane *lane, gp_vb_entry *e, uint8_t turn)
{
    gp_domain *d = lane->ep->domain;
    struct ibv_send_wr *wr = &d->list.wr[0], *bad = NULL;
    struct ibv_sge *part = &d->list.sge[0];
    uint8_t *at = lane->tx + (size_t)lane->tx_place * d->frame_bytes;
    uint32_t bytes = (uint32_t)gp_vb_brief_encode(
        lane->next_frame, lane->posted, turn, &e->msg, e->payload, at);

    part->addr = (uint64_t)(uintptr_t)at;
    part->length = bytes;
    part->lkey = lane->tx_mr->lkey;
    wr->wr_id = gp_vb_wr_id(lane, GP_VB_WR_FRAME, lane->sq_posted + 1);
    wr->next = NULL;
    wr->sg_list = part;
    wr->num_sge = 1;
    wr->opcode = IBV_WR_SEND;
    wr->send_flags = bytes <= lane->max_inline ? IBV_SEND_INLINE : 0;
    if (wants_signal(lane, e)) {
        wr->send_flags |= IBV_SEND_SIGNALED;
        lane->unsignaled = lane->unsignaled_entries = 0;
    } else {
        lane->unsignaled++;
    }
    return d->api->post_send(lane->qp, wr, &bad);
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

bool
gp_vb_send_short(gp_endpoint *ep)
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

#endif
