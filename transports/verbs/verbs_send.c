/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_send.c - from queued messages to work requests.
 *
 * A list of requests is built in the domain's array and posted with one call:
 * WRITEs of payloads, then one frame with the records that announce them; or
 * the last WRITE is the frame, by a cue. The queue pair keeps that order, so
 * what announces a payload is read only when that has been written. A list is
 * begun only when a frame can end it: there is a receive at the peer, a free
 * frame here, and a place in the send queue.
 *
 * Places of the send queue are counted in requests. One is kept for the last
 * request of a fence; and since a signaled request comes at least every quarter
 * of the queue, and every half of the frames, neither can run out for good.
 */
#ifdef GP_HAVE_VERBS

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "transports/verbs/verbs_entry.h"
#include "transports/verbs/verbs_peer.h"

/* With several lanes, bytes assigned to one before others get them: a rail that
 * is slower gets less. */
#define LANE_WINDOW (8u << 20)

/* Data of so many bytes has a cue also where a frame could tell of several. */
#define CUED_ALWAYS (32u << 10)

/* Of longer payloads each packet may find its own way, where they are a message
 * of their own. */
#define ROUTED (8u << 10)

/* A frame that is being filled, and the requests before it. */
typedef struct frame {
    gp_vb_lane *lane;
    gp_vb_entry *brief; /* all that it carries, as a brief frame */
    gp_vb_list *list;
    uint32_t limit; /* requests, with the frame's own */
    uint32_t place; /* in the ring of frames */
    uint8_t *at;
    size_t used, room; /* bytes of records */
    uint32_t entries;
    bool signal;
    bool full;
    bool cued; /* its last WRITE says all */
} frame;

/* --------------------------------------------------------------- requests */

/* Receives of the peer that are left. */
static uint32_t
credits(const gp_vb_lane *lane)
{
    return lane->granted - lane->sent_frames;
}

static bool
frame_open(frame *f, gp_vb_lane *lane, uint32_t reserve)
{
    gp_domain *d = lane->ep->domain;
    uint32_t places = gp_vb_free_places(lane);

    if (credits(lane) <= reserve) {
        d->credit_stalls++;
        return false;
    }
    if (!places || lane->next_frame - lane->done_frame == lane->tx_frames) {
        d->queue_stalls++;
        return false;
    }
    f->lane = lane;
    f->list = &d->list;
    f->list->count = 0;
    f->limit = GP_MIN(places, GP_VB_LIST);
    f->place = lane->tx_place;
    f->at = lane->tx + (size_t)f->place * d->frame_bytes;
    f->used = 0;
    f->room = lane->frame_limit - GP_VB_FRAME_HEADER;
    f->entries = 0;
    f->signal = f->full = f->cued = false;
    f->brief = NULL;
    return true;
}

static struct ibv_send_wr *
add_request(frame *f, gp_vb_wr kind)
{
    gp_vb_list *list = f->list;
    struct ibv_send_wr *wr = &list->wr[list->count++];

    wr->wr_id = gp_vb_wr_id(f->lane, kind, f->lane->sq_posted + list->count);
    wr->sg_list = &list->sge[list->count - 1];
    wr->num_sge = 1;
    wr->send_flags = 0;
    return wr;
}

/* How many requests of a list the device took. */
static uint32_t
taken_before(const gp_vb_list *list, const struct ibv_send_wr *bad)
{
    for (uint32_t i = 0; i < list->count; i++)
        if (&list->wr[i] == bad)
            return i;
    return 0;
}

/* A device may not know of immediate data, whatever its kind: the lane's next
 * queue pair does without. */
static void
note_refusal(gp_vb_lane *lane, const struct ibv_send_wr *bad, int error)
{
    if (lane->imm || !bad || bad->opcode != IBV_WR_RDMA_WRITE_WITH_IMM ||
        (error != EINVAL && error != EOPNOTSUPP && error != ENOSYS))
        return;
    if (!lane->device->uncued)
        GP_WARN("verbs: %s takes no immediate data (%s); each payload is told "
                "of by a message",
                lane->device->name, strerror(error));
    lane->device->uncued = true;
}

/* All or nothing as far as entries are concerned: when the device takes only a
 * part, the lane is lost, and what the peer got of it the peer will say. */
static void
post_list(gp_vb_lane *lane, gp_vb_list *list, bool signal)
{
    gp_domain *d = lane->ep->domain;
    struct ibv_send_wr *bad = NULL, *last = &list->wr[list->count - 1];
    int error;

    for (uint32_t i = 0; i + 1 < list->count; i++)
        list->wr[i].next = &list->wr[i + 1];
    last->next = NULL;
    lane->unsignaled += list->count;
    if (signal || lane->unsignaled >= gp_vb_unsignaled_max(lane)) {
        last->send_flags |= IBV_SEND_SIGNALED;
        lane->unsignaled = lane->unsignaled_entries = 0;
    }
    error = d->api->post_send(lane->qp, list->wr, &bad);
    d->doorbells++;
    if (error) {
        note_refusal(lane, bad, error);
        list->count = taken_before(list, bad);
        gp_vb_post_failed(lane, error);
    }
    lane->sq_posted += list->count;
    d->work_requests += list->count;
}

static void put_crc(const gp_domain *d, gp_vb_entry *e);

/* Writes the frame; returns its bytes. */
static size_t
finish_frame(frame *f)
{
    gp_vb_lane *lane = f->lane;
    gp_vb_entry *e = f->brief;
    size_t n = GP_VB_FRAME_HEADER + f->used;

    if (!e) {
        gp_vb_frame_encode(lane->next_frame, lane->posted, f->used, f->at);
    } else {
        put_crc(lane->ep->domain, e);
        n = gp_vb_brief_encode(lane->next_frame, lane->posted, e->flags,
                               &e->msg, e->payload, f->at);
    }
    lane->told = lane->posted;
    return n;
}

/* The last request ends the frame. */
static void
end_frame(const frame *f)
{
    f->lane->tx_end[f->place] = f->lane->sq_posted + f->list->count;
    gp_vb_next_frame(f->lane);
}

/* The frame's own request. */
static void
add_frame(frame *f)
{
    gp_vb_lane *lane = f->lane;
    struct ibv_send_wr *wr = add_request(f, GP_VB_WR_FRAME);
    uint32_t number = lane->next_frame;

    wr->sg_list->addr = (uint64_t)(uintptr_t)f->at;
    wr->sg_list->length = (uint32_t)finish_frame(f);
    wr->sg_list->lkey = lane->tx_mr->lkey;
    wr->opcode = IBV_WR_SEND;
    if (wr->sg_list->length <= lane->max_inline)
        wr->send_flags = IBV_SEND_INLINE;
    if (lane->imm) {
        wr->opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
        wr->imm_data = htobe32(number);
        wr->wr.rdma.remote_addr =
            lane->peer_ring +
            (uint64_t)(number % lane->peer_frames) * lane->peer_frame_bytes;
        wr->wr.rdma.rkey = lane->peer_ring_key;
    }
    end_frame(f);
}

/* Posts what was collected; false when that is nothing. A lane that broke
 * meanwhile may have bytes in it that were never read. */
static bool
frame_close(frame *f, bool empty_too)
{
    if (!gp_list_empty(&f->lane->broken))
        return false;
    if (f->cued)
        end_frame(f);
    else if (f->entries || f->used || empty_too)
        add_frame(f);
    else if (!f->list->count)
        return false;
    post_list(f->lane, f->list, f->signal);
    return true;
}

/* ---------------------------------------------------------------- records */

static size_t
room_left(const frame *f)
{
    size_t left = f->room - f->used;

    return left < GP_VB_RECORD_HEADER
               ? 0
               : GP_MIN(left - GP_VB_RECORD_HEADER, (size_t)UINT16_MAX);
}

static uint8_t *
add_record(frame *f, gp_vb_record kind, uint8_t flags, size_t length)
{
    uint8_t *at = f->at + GP_VB_FRAME_HEADER + f->used;

    f->used += GP_VB_RECORD_HEADER + length;
    return gp_vb_record_begin(at, kind, flags, length);
}

/* The entry is wholly in this frame and what came before. */
static void
fly(frame *f, gp_vb_entry *e)
{
    gp_vb_lane *lane = f->lane;

    if (lane->open == e)
        lane->open = NULL;
    gp_list_remove(&e->link);
    e->frame = lane->next_frame;
    gp_list_insert(&lane->flying, &e->link);
    f->entries++;
    /* Who waits for the completion: an event, a borrowed payload, a close. */
    if (e->cookie || gp_vb_is_data(e) || e->kind == GP_VB_RECORD_BYE ||
        ++lane->unsignaled_entries >= GP_VB_UNSIGNALED)
        f->signal = true;
}

static void
put_crc(const gp_domain *d, gp_vb_entry *e)
{
    if (!d->checksum || (e->msg.flags & GP_MSG_PAYLOAD_CRC))
        return;
    e->msg.payload_crc = gp_crc32c(0, e->payload, (size_t)e->length);
    e->msg.flags |= GP_MSG_PAYLOAD_CRC;
}

static void
put_header(frame *f, gp_vb_entry *e, uint8_t *at)
{
    put_crc(f->lane->ep->domain, e);
    gp_msg_encode(&e->msg, at);
}

/* A message, or the next part of one, by value. A message that fits a frame is
 * not divided. True when it is done; false when the frame is full. */
static bool
put_value(frame *f, gp_vb_entry *e)
{
    gp_vb_lane *lane = f->lane;
    size_t head = e->begun ? 0 : GP_MSG_BYTES, room = room_left(f), part;
    uint64_t left = e->length - e->sent;
    uint8_t *at;

    if (room < head + (left > 0) ||
        (f->used && head + left > room &&
         head + left + GP_VB_RECORD_HEADER <= f->room)) {
        f->full = true;
        return false;
    }
    part = (size_t)GP_MIN(left, (uint64_t)(room - head));
    if (head) {
        at = add_record(f, GP_VB_RECORD_VALUE,
                        gp_vb_is_control(e) ? gp_vb_take_turn(lane) : 0,
                        head + part);
        put_header(f, e, at);
    } else {
        at = add_record(f, GP_VB_RECORD_MORE, 0, part);
    }
    if (part)
        (void)gp_vb_peer_load(lane, e->mem, at + head, e->payload + e->sent,
                              part);
    if (!e->begun && gp_vb_is_control(e))
        lane->flying_control++;
    e->begun = true;
    e->sent += part;
    if (gp_vb_is_data(e) && e->length > lane->ep->domain->eager)
        lane->ep->domain->valued_bytes += part;
    if (part == left) {
        fly(f, e);
        return true;
    }
    if (lane->open != e) {
        /* From now on it is this lane's, and nothing by value comes between. */
        lane->open = e;
        gp_list_remove(&e->link);
        gp_list_insert(lane->data.next, &e->link);
    }
    f->full = true;
    return false;
}

/* An EXPOSE is made when it leaves: its key may be a window of this lane. */
static bool
put_expose(frame *f, gp_vb_entry *e)
{
    struct ibv_send_wr *wr;
    uint8_t bytes[24];
    bool bound;

    if (f->list->count + 2 > f->limit) {
        f->full = true;
        return false;
    }
    wr = add_request(f, GP_VB_WR_BIND);
    wr->opcode = IBV_WR_SEND;
    if (!gp_vb_expose_fill(f->lane, gp_get32(e->small), bytes, wr)) {
        f->list->count--;
        gp_vb_entry_done(f->lane->ep, e);
        return true;
    }
    bound = wr->opcode == IBV_WR_BIND_MW;
    if (!bound)
        f->list->count--;
    else
        wr->num_sge = 0;
    f->signal |= bound; /* who withdraws it may wait for that */
    memcpy(add_record(f, GP_VB_RECORD_EXPOSE, 1, sizeof(bytes)), bytes,
           sizeof(bytes));
    fly(f, e);
    return true;
}

static bool
put_note(frame *f, gp_vb_entry *e)
{
    size_t length = e->kind == GP_VB_RECORD_EXPOSE ? 24 : (size_t)e->length;

    if (f->used + GP_VB_RECORD_HEADER + length > f->room) {
        f->full = true;
        return false;
    }
    if (e->kind == GP_VB_RECORD_EXPOSE)
        return put_expose(f, e);
    if (e->kind == GP_VB_RECORD_BYE) {
        f->lane->flying_control++;
        e->begun = true;
        e->flags = gp_vb_take_turn(f->lane);
        f->lane->ep->bye_sent = true;
    }
    memcpy(add_record(f, (gp_vb_record)e->kind, e->flags, length), e->small,
           length);
    fly(f, e);
    return true;
}

static void
put_notes(frame *f, gp_list *list)
{
    while (!f->full && !gp_list_empty(list))
        (void)put_note(f, GP_CONTAINER_OF(list->next, gp_vb_entry, link));
}

/* ---------------------------------------------------------------- control */

static void send_empty(gp_vb_lane *lane, bool signal);

/* Control messages keep their order over lanes: those on another lane must
 * have arrived, or must have come back, before the next one leaves here. */
static bool
order_allows(const gp_vb_lane *lane)
{
    const gp_endpoint *ep = lane->ep;

    for (uint32_t i = 0; i < ep->lane_count; i++)
        if (ep->lane[i] && ep->lane[i] != lane && ep->lane[i]->flying_control)
            return false;
    return true;
}

/* Unsignaled, they might never be known to have arrived. */
static void
ask_others(const gp_vb_lane *lane)
{
    const gp_endpoint *ep = lane->ep;

    for (uint32_t i = 0; i < ep->lane_count; i++) {
        gp_vb_lane *other = ep->lane[i];

        if (other != lane && gp_vb_lane_usable(other) &&
            other->flying_control && other->unsignaled)
            send_empty(other, true);
    }
}

static void
put_control(frame *f)
{
    gp_list *waiting = &f->lane->ep->control.waiting;

    while (!f->full && !f->lane->open && !gp_list_empty(waiting)) {
        gp_vb_entry *e = GP_CONTAINER_OF(waiting->next, gp_vb_entry, link);

        if (e->kind)
            (void)put_note(f, e);
        else
            (void)put_value(f, e);
    }
}

/* ------------------------------------------------------------------- data */

/* Where the next bytes are read from: *n of them at *from. False when they
 * must wait. */
static bool
source(frame *f, gp_vb_entry *e, const uint8_t **from, uint32_t *n,
       uint32_t *lkey)
{
    gp_vb_lane *lane = f->lane;
    gp_domain *d = lane->ep->domain;
    size_t room = 0;
    uint8_t *copy;

    *n = (uint32_t)GP_MIN(e->length - e->sent, (uint64_t)lane->piece);
    *from = e->payload + e->sent;
    if (e->mem && gp_vb_mem_key(e->mem, lane->pd, lkey) == GP_OK) {
        if (e->mem->peer)
            gp_vb_peer_posted(lane, e->mem,
                              lane->sq_posted + f->list->count + 1);
        return true;
    }
    copy = gp_vb_bounce_take(lane, lane->sq_posted + f->list->count + 1, &room,
                             lkey);
    if (!copy)
        return false;
    *n = (uint32_t)GP_MIN((size_t)*n, room);
    if (!gp_vb_peer_load(lane, e->mem, copy, *from, *n))
        return false;
    *from = copy;
    d->bounced_bytes += *n;
    f->signal = true;
    return true;
}

/* Whether the last WRITE can stand for the header: nothing else is in the
 * frame, and it would not be shared with others either, or they are so long
 * that a receive for each makes no difference. */
static bool
put_cue(frame *f, const gp_vb_entry *e, struct ibv_send_wr *wr)
{
    gp_vb_lane *lane = f->lane;
    uint32_t cue;

    if (!lane->cues || f->used || lane->open ||
        (e->length < CUED_ALWAYS && e->link.next != &lane->data) ||
        !gp_vb_cue_make(&lane->cued_out, lane->next_frame, &e->msg, &cue))
        return false;
    if (lane->apart && e->length > ROUTED) {
        wr = add_request(f, GP_VB_WR_FRAME);
        wr->num_sge = 0;
        wr->wr.rdma = wr[-1].wr.rdma;
    }
    wr->opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
    wr->imm_data = htobe32(cue);
    f->cued = f->full = true;
    return true;
}

/* The header of what was written. */
static void
put_data_record(frame *f, gp_vb_entry *e)
{
    put_header(f, e, add_record(f, GP_VB_RECORD_DATA, 0, GP_MSG_BYTES));
    if (f->lane->cues)
        (void)gp_vb_cues_keep(&f->lane->cued_out, &e->msg);
}

static bool
put_writes(frame *f, gp_vb_entry *e, const gp_vb_remote *to)
{
    struct ibv_send_wr *wr = NULL;

    while (e->sent < e->length) {
        const uint8_t *from;
        uint32_t n, lkey = 0;

        if (f->list->count + 1 >= f->limit || !source(f, e, &from, &n, &lkey)) {
            f->full = true;
            return false;
        }
        wr = add_request(f, GP_VB_WR_WRITE);
        f->lane->written = f->lane->sq_posted + f->list->count;
        wr->opcode = IBV_WR_RDMA_WRITE;
        wr->sg_list->addr = (uint64_t)(uintptr_t)from;
        wr->sg_list->length = n;
        wr->sg_list->lkey = lkey;
        wr->wr.rdma.remote_addr = to->address + e->msg.offset + e->sent;
        wr->wr.rdma.rkey = to->key[f->lane->index];
        e->sent += n;
    }
    if (!wr || !put_cue(f, e, wr))
        put_data_record(f, e);
    fly(f, e);
    return true;
}

static bool
by_value(const gp_vb_lane *lane, const gp_vb_entry *e, const gp_vb_remote *to)
{
    if (e->sent)
        return e->begun;
    return !to || !(to->lanes & 1u << lane->index) ||
           (e->length <= lane->ep->domain->eager &&
            e->length + GP_MSG_BYTES + GP_VB_RECORD_HEADER +
                    GP_VB_FRAME_HEADER <=
                lane->frame_limit);
}

static void
put_data(frame *f, gp_vb_entry *e)
{
    gp_vb_lane *lane = f->lane;
    bool withdrawn = false;
    const gp_vb_remote *to = gp_vb_remote_find(
        lane->ep, e->msg.region, e->msg.offset, e->length, &withdrawn);

    if (withdrawn && !e->sent) {
        lane->queued_bytes -= GP_MSG_BYTES + e->length;
        gp_vb_entry_done(lane->ep, e);
        return;
    }
    if (e->sent && !e->begun && !to) {
        /* What was written of it must have ended before SENT: an entry without
         * a record. */
        fly(f, e);
        return;
    }
    if (by_value(lane, e, to)) {
        if (lane->open)
            f->full = true;
        else
            (void)put_value(f, e);
        return;
    }
    if (room_left(f) < GP_MSG_BYTES) {
        f->full = true;
        return;
    }
    (void)put_writes(f, e, to);
}

static bool
can_write(const gp_vb_lane *lane)
{
    return gp_vb_lane_usable(lane) && lane->state == GP_VB_LANE_UP;
}

/* The lane with the least to do, of those that can write to the region where
 * there are such. */
static gp_vb_lane *
choose_lane(const gp_endpoint *ep, const gp_vb_entry *e)
{
    gp_vb_lane *best = NULL;
    bool best_fits = false, withdrawn;
    const gp_vb_remote *to = gp_vb_remote_find(ep, e->msg.region, e->msg.offset,
                                               e->length, &withdrawn);

    for (uint32_t i = 0; i < ep->lane_count; i++) {
        gp_vb_lane *lane = ep->lane[i];
        bool fits = to && (to->lanes & 1u << i);

        if (!lane || !can_write(lane) || lane->queued_bytes > LANE_WINDOW ||
            (best_fits && !fits))
            continue;
        if (!best || fits != best_fits ||
            lane->queued_bytes < best->queued_bytes) {
            best = lane;
            best_fits = fits;
        }
    }
    return best;
}

static void
assign_data(gp_endpoint *ep)
{
    while (!gp_list_empty(&ep->data.waiting)) {
        gp_vb_entry *e =
            GP_CONTAINER_OF(ep->data.waiting.next, gp_vb_entry, link);
        gp_vb_lane *lane = ep->lane[0];

        if (ep->lane_count > 1)
            lane = choose_lane(ep, e);
        else if (!lane || !can_write(lane))
            lane = NULL;
        if (!lane)
            return;
        gp_list_remove(&e->link);
        gp_list_insert(&lane->data, &e->link);
        lane->queued_bytes += GP_MSG_BYTES + e->length;
    }
}

/* ------------------------------------------------------------------ lanes */

static gp_vb_entry *
only(const gp_list *list)
{
    return list->next != list && list->next->next == list
               ? GP_CONTAINER_OF(list->next, gp_vb_entry, link)
               : NULL;
}

/* The one message that waits, when there is nothing else to say and it is short
 * enough for a brief frame. */
static gp_vb_entry *
lone(const gp_vb_lane *lane, bool notes, bool control)
{
    const gp_endpoint *ep = lane->ep;
    const gp_list *words = &ep->control.waiting, *list = &lane->data;
    bool withdrawn = false, busy = control && !gp_list_empty(words);
    const gp_vb_remote *to;
    gp_vb_entry *e;

    if (!lane->brief || lane->open || !gp_list_empty(&lane->notes) ||
        (notes && !gp_list_empty(&ep->notes)) || (busy && !gp_list_empty(list)))
        return NULL;
    e = only(busy ? words : list);
    if (!e || e->kind || e->begun || e->sent || e->length > GP_VB_BRIEF_PAYLOAD)
        return NULL;
    if (busy)
        return e;
    to = gp_vb_remote_find(ep, e->msg.region, e->msg.offset, e->length,
                           &withdrawn);
    return !withdrawn && by_value(lane, e, to) ? e : NULL;
}

static void
put_brief(frame *f, gp_vb_entry *e)
{
    bool control = gp_vb_is_control(e);

    f->brief = e;
    e->flags = control ? gp_vb_take_turn(f->lane) : 0;
    f->lane->flying_control += control;
    e->begun = true;
    e->sent = e->length;
    fly(f, e);
}

/* Notes need no order, and one of them ends the wait of control messages for a
 * lane that is gone: they never wait with those. */
static void
collect(frame *f, bool notes, bool control)
{
    gp_vb_lane *lane = f->lane;
    gp_endpoint *ep = lane->ep;
    gp_vb_entry *e = lone(lane, notes, control);

    if (e) {
        put_brief(f, e);
        return;
    }
    if (lane->open)
        (void)put_value(f, lane->open);
    put_notes(f, &lane->notes);
    if (notes)
        put_notes(f, &ep->notes);
    if (control)
        put_control(f);
    while (!f->full && !gp_list_empty(&lane->data))
        put_data(f, GP_CONTAINER_OF(lane->data.next, gp_vb_entry, link));
}

/* A frame that may use one receive more: nothing but the end of the endpoint
 * is left to say. */
static uint32_t
reserve(const gp_vb_lane *lane, bool control)
{
    const gp_endpoint *ep = lane->ep;
    const gp_list *next = ep->control.waiting.next;

    if (control && !gp_list_empty(&ep->control.waiting) &&
        GP_CONTAINER_OF(next, gp_vb_entry, link)->kind &&
        gp_list_empty(&lane->notes) && gp_list_empty(&ep->notes) &&
        gp_list_empty(&lane->data))
        return GP_VB_RESERVE - 1;
    return GP_VB_RESERVE;
}

static bool
has_work(const gp_vb_lane *lane, bool notes, bool control)
{
    const gp_endpoint *ep = lane->ep;

    return !gp_list_empty(&lane->data) || !gp_list_empty(&lane->notes) ||
           (notes && !gp_list_empty(&ep->notes)) ||
           (control && !gp_list_empty(&ep->control.waiting));
}

static void
send_lane(gp_vb_lane *lane, bool notes, bool control)
{
    frame f;

    while (has_work(lane, notes, control) && gp_list_empty(&lane->broken) &&
           frame_open(&f, lane, reserve(lane, control))) {
        collect(&f, notes, control);
        if (!frame_close(&f, false))
            return;
    }
}

void
gp_vb_send(gp_endpoint *ep)
{
    uint32_t control = ep->control_lane;

    if (gp_vb_send_short(ep) ||
        (ep->state != GP_VB_OPEN && ep->state != GP_VB_LINGERING))
        return;
    /* It stays while it can be used, so that order costs no wait. */
    for (uint32_t i = 0;
         i < ep->lane_count && !gp_vb_lane_usable(ep->lane[control]); i++)
        control = i;
    if (!gp_vb_lane_usable(ep->lane[control]))
        return;
    ep->control_lane = control;
    if (ep->state == GP_VB_OPEN)
        assign_data(ep);
    for (uint32_t i = 0; i < ep->lane_count; i++) {
        bool ordered = i == control;

        if (!gp_vb_lane_usable(ep->lane[i]))
            continue;
        if (ordered && ep->lane_count > 1 && !order_allows(ep->lane[i])) {
            ask_others(ep->lane[i]);
            ordered = false;
        }
        send_lane(ep->lane[i], i == control, ordered);
        gp_vb_credit(ep->lane[i]);
    }
}

static void
send_empty(gp_vb_lane *lane, bool signal)
{
    frame f;

    if (!frame_open(&f, lane, 0))
        return;
    f.signal = signal;
    (void)frame_close(&f, true);
}

void
gp_vb_credit(gp_vb_lane *lane)
{
    if (lane->posted - lane->told >= lane->rx_frames / 2 &&
        gp_vb_lane_usable(lane))
        send_empty(lane, false);
}

#endif
