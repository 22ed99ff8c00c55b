/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_deliver.c - from frames to events.
 *
 * Frames wait in the order they came in, over all lanes of an endpoint, so that
 * control messages keep their order when they move to another lane.
 */
#ifdef GP_HAVE_VERBS

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "transports/verbs/verbs_early.h"
#include "transports/verbs/verbs_peer.h"

/* ---------------------------------------------------------------- buffers */

static void
release(gp_vb_received *f)
{
    gp_vb_lane *lane = f->lane;

    if (f->heap) {
        free(f);
        return;
    }
    f->used = false;
    if (f->gone || !lane->qp)
        return;
    if (f->early)
        f->released = true;
    else
        gp_vb_receive_again(f);
}

/* All records are delivered. In imm mode buffers go back in the order of their
 * frames' numbers, which say where the peer writes. */
static void
finish(gp_vb_received *f)
{
    gp_vb_lane *lane = f->lane;

    gp_list_remove(&f->link);
    if (!f->used && (f->heap || !lane->imm || !lane->held)) {
        release(f);
        return;
    }
    if (!f->heap && !f->gone)
        lane->held++;
    gp_list_insert(&lane->ep->domain->held, &f->link);
}

void
gp_vb_renew(gp_domain *d)
{
    gp_list *item;

    while ((item = gp_list_pop(&d->held))) {
        gp_vb_received *f = GP_CONTAINER_OF(item, gp_vb_received, link);
        gp_vb_lane *lane = f->lane;
        bool counted = !f->heap && !f->gone;

        release(f);
        if (counted && --lane->held == 0)
            gp_vb_credit(lane);
    }
}

static gp_vb_received *
heap_buffer(gp_vb_lane *lane, size_t bytes)
{
    gp_vb_received *f = malloc(sizeof(*f) + bytes);

    if (!f)
        return NULL;
    *f = (gp_vb_received){.lane = lane,
                          .records = (const uint8_t *)(f + 1),
                          .bytes = (uint32_t)bytes,
                          .heap = true};
    gp_list_init(&f->link);
    return f;
}

/* The buffers are posted again when the lane comes back, maybe before these
 * frames are delivered. Without memory for a copy a frame stays where it is,
 * and the lane cannot come back before it is delivered: the peer's device has
 * said that it arrived, so it would not come again. */
bool
gp_vb_received_keep(gp_vb_lane *lane)
{
    bool all = true;

    GP_LIST_EACH (item, &lane->ep->received) {
        gp_vb_received *f = GP_CONTAINER_OF(item, gp_vb_received, link);
        gp_vb_received *copy;

        if (f->lane != lane || f->heap)
            continue;
        copy = heap_buffer(lane, GP_MAX(f->bytes, GP_VB_BRIEF_MAX));
        if (!copy) {
            all = false;
            continue;
        }
        copy->bytes = f->bytes;
        memcpy((uint8_t *)(copy + 1), f->records, f->bytes);
        copy->at = f->at;
        copy->number = f->number;
        copy->brief = f->brief;
        copy->cued = f->cued;
        copy->keeps = f->keeps;
        copy->cue = f->cue;
        gp_list_insert(&f->link, &copy->link);
        gp_list_remove(&f->link);
    }
    for (uint32_t i = 0; lane->buffers && i < lane->rx_frames; i++)
        lane->buffers[i].gone = true;
    return all;
}

/* A copy of it is in its place. */
static bool
is_elsewhere(const gp_vb_received *f)
{
    return gp_list_empty(&f->link);
}

static void
drop_from(gp_list *list, const gp_vb_lane *lane)
{
    GP_LIST_EACH (item, list) {
        gp_vb_received *f = GP_CONTAINER_OF(item, gp_vb_received, link);

        if (f->lane != lane)
            continue;
        gp_list_remove(&f->link);
        if (f->heap)
            free(f);
    }
}

static void
drop_assembly(gp_vb_lane *lane)
{
    free(lane->assembly);
    lane->assembly = NULL;
    lane->assembles = false;
}

void
gp_vb_received_drop(gp_vb_lane *lane)
{
    drop_from(&lane->ep->received, lane);
    drop_from(&lane->ep->domain->held, lane);
    drop_assembly(lane);
}

bool
gp_vb_has_received(const gp_endpoint *ep)
{
    return !ep->deaf && !gp_list_empty(&ep->received);
}

/* ----------------------------------------------------------------- events */

static bool
refuse(gp_vb_lane *lane, gp_status status, const char *why)
{
    lane->ep->deaf = true;
    gp_vb_ep_fail(lane->ep, status, "%s", why);
    return false;
}

static bool
crc_fits(const gp_vb_lane *lane, const gp_msg *msg, const uint8_t *payload)
{
    return !lane->ep->domain->checksum || !(msg->flags & GP_MSG_PAYLOAD_CRC) ||
           gp_crc32c(0, payload, (size_t)msg->payload) == msg->payload_crc;
}

static bool
deliver(gp_vb_lane *lane, const gp_msg *msg, const uint8_t *payload,
        gp_vb_out *out)
{
    gp_event *event;

    if (!crc_fits(lane, msg, payload))
        return refuse(lane, GP_ERR_CHECKSUM, "damaged payload");
    lane->messages++;
    event = gp_vb_emit(out, lane->ep, GP_EVENT_MESSAGE);
    if (&event->msg != msg)
        event->msg = *msg;
    event->payload = payload;
    event->cookie = 0;
    return true;
}

static bool
decode(gp_vb_lane *lane, const gp_vb_piece *r, gp_msg *msg)
{
    uint8_t copy[GP_MSG_BYTES];
    gp_status status;

    if (r->length < sizeof(copy))
        return refuse(lane, GP_ERR_PROTOCOL, "a record without its header");
    memcpy(copy, r->bytes, sizeof(copy));
    status = gp_msg_decode(copy, msg);
    if (status != GP_OK)
        return refuse(lane, status,
                      status == GP_ERR_VERSION
                          ? "the peer speaks another protocol version"
                      : status == GP_ERR_CHECKSUM ? "damaged message header"
                                                  : "not a gradpush message");
    return true;
}

/* *to: where a data message lies, NULL when it is to be dropped. */
static bool
destination(gp_vb_lane *lane, const gp_msg *msg, uint8_t **to)
{
    if (gp_regions_find(&lane->ep->regions, msg->region, msg->offset,
                        msg->payload, to, NULL) == GP_OK)
        return true;
    return refuse(lane, GP_ERR_PROTOCOL,
                  "data message outside what was exposed");
}

static bool
on_data(gp_vb_received *f, const gp_vb_piece *r, gp_vb_out *out)
{
    gp_vb_lane *lane = f->lane;
    gp_msg msg;
    uint8_t *to = NULL;

    if (!decode(lane, r, &msg))
        return false;
    if (!msg.region || r->length != GP_MSG_BYTES)
        return refuse(lane, GP_ERR_PROTOCOL, "not a data message");
    if (!destination(lane, &msg, &to))
        return false;
    if (f->keeps && !gp_vb_cues_keep(&lane->cued_in, &msg))
        return refuse(lane, GP_ERR_NO_MEMORY, "no memory for headers");
    return !to || deliver(lane, &msg, to, out);
}

/* A message whose header follows from one before. */
static bool
on_cued(gp_vb_received *f, gp_vb_out *out)
{
    gp_vb_lane *lane = f->lane;
    uint8_t *to = NULL;
    gp_msg msg;

    if (!gp_vb_cue_read(&lane->cued_in, f->number, f->cue, &msg))
        return refuse(lane, GP_ERR_PROTOCOL, "a cue of no message");
    if (!destination(lane, &msg, &to))
        return false;
    return !to || deliver(lane, &msg, to, out);
}

/* The whole message is here. */
static bool
assembled(gp_vb_lane *lane, gp_vb_out *out)
{
    gp_vb_received *f = lane->assembly;
    gp_msg *msg = &lane->assembling;
    uint8_t *to = NULL;

    lane->assembles = false;
    lane->assembly = NULL;
    if (!f)
        return destination(lane, msg, &to) &&
               (!to || deliver(lane, msg, to, out));
    gp_list_insert(&lane->ep->domain->held, &f->link);
    return deliver(lane, msg, f->records, out);
}

/* The next bytes of the message that is being put together. A region may have
 * been withdrawn since the last ones. */
static bool
assemble(gp_vb_lane *lane, const uint8_t *bytes, size_t length, gp_vb_out *out)
{
    gp_msg *msg = &lane->assembling;
    uint8_t *to = lane->assembly ? (uint8_t *)(lane->assembly + 1) : NULL;

    if (length > msg->payload - lane->assembled)
        return refuse(lane, GP_ERR_PROTOCOL, "a message longer than it says");
    if (!lane->assembly && !destination(lane, msg, &to))
        return false;
    if (to && length && lane->assembly)
        memcpy(to + lane->assembled, bytes, length);
    else if (to && length &&
             !gp_vb_peer_store(lane, msg->region, to + lane->assembled, bytes,
                               length))
        return false;
    lane->assembled += length;
    return lane->assembled < msg->payload || assembled(lane, out);
}

static bool
on_control(gp_vb_received *f, const gp_msg *msg, const uint8_t *bytes,
           size_t length, gp_vb_out *out)
{
    gp_vb_lane *lane = f->lane;
    size_t limit =
        lane->ep->trusted ? GP_CONTROL_MAX : GP_CONTROL_MAX_UNTRUSTED;

    if (msg->payload > limit)
        return refuse(lane, GP_ERR_PROTOCOL,
                      "control message longer than allowed");
    if (length == msg->payload) {
        f->used = true;
        return deliver(lane, msg, bytes, out);
    }
    lane->assembly = heap_buffer(lane, (size_t)msg->payload);
    if (!lane->assembly)
        return refuse(lane, GP_ERR_NO_MEMORY,
                      "no memory for a control message");
    lane->assembles = true;
    lane->assembled = 0;
    lane->assembling = *msg;
    return assemble(lane, bytes, length, out);
}

static bool
on_value(gp_vb_received *f, const gp_vb_piece *r, gp_vb_out *out)
{
    gp_vb_lane *lane = f->lane;
    const uint8_t *bytes = r->bytes + GP_MSG_BYTES;
    gp_msg msg;
    size_t length;

    if (lane->assembles)
        return refuse(lane, GP_ERR_PROTOCOL, "a message inside another");
    if (!decode(lane, r, &msg))
        return false;
    length = r->length - GP_MSG_BYTES;
    if (length > msg.payload)
        return refuse(lane, GP_ERR_PROTOCOL, "a message longer than it says");
    if (!msg.region)
        return on_control(f, &msg, bytes, length, out);
    lane->assembles = true;
    lane->assembled = 0;
    lane->assembling = msg;
    return assemble(lane, bytes, length, out);
}

/* A message that is a frame of its own; read where its event will be. */
static bool
on_short(gp_vb_received *f, gp_vb_out *out)
{
    gp_msg *msg = &out->events[out->count].msg;
    gp_vb_lane *lane = f->lane;
    const uint8_t *bytes;
    uint8_t *to = NULL;

    if (lane->assembles || !gp_vb_brief_decode(f->records, msg, &bytes))
        return refuse(lane, GP_ERR_PROTOCOL, "a brief frame of nothing");
    if (!msg->region)
        return on_control(f, msg, bytes, (size_t)msg->payload, out);
    if (!destination(lane, msg, &to))
        return false;
    if (to && msg->payload &&
        !gp_vb_peer_store(lane, msg->region, to, bytes, (size_t)msg->payload))
        return false;
    return !to || deliver(lane, msg, to, out);
}

static bool
on_more(gp_vb_lane *lane, const gp_vb_piece *r, gp_vb_out *out)
{
    if (!lane->assembles || !r->length)
        return refuse(lane, GP_ERR_PROTOCOL, "the rest of no message");
    return assemble(lane, r->bytes, r->length, out);
}

static void
on_sync(gp_vb_received *f)
{
    gp_vb_lane *lane = f->lane;

    drop_assembly(lane);
    gp_vb_cues_reset(&lane->cued_in);
    if (f->heap || f->gone)
        return; /* said on a queue pair that is gone */
    lane->synced = true;
    if (lane->state == GP_VB_LANE_SYNCING)
        lane->state = GP_VB_LANE_UP;
    gp_vb_ready(lane->ep);
}

static bool
on_lost(gp_vb_lane *lane, const gp_vb_piece *r)
{
    uint8_t copy[8];

    if (r->length != sizeof(copy))
        return refuse(lane, GP_ERR_PROTOCOL, "a record of the wrong length");
    memcpy(copy, r->bytes, sizeof(copy));
    if (copy[0] >= lane->ep->lane_count)
        return refuse(lane, GP_ERR_PROTOCOL, "the end of an unknown lane");
    gp_vb_cm_lost(lane->ep, copy[0],
                  (uint32_t)copy[4] | (uint32_t)copy[5] << 8 |
                      (uint32_t)copy[6] << 16 | (uint32_t)copy[7] << 24);
    return true;
}

static bool
on_reached(gp_vb_lane *lane, const gp_vb_piece *r)
{
    gp_reader in = {r->bytes, r->length, true};
    uint32_t index = gp_read32(&in), epoch = gp_read32(&in);
    uint32_t next = gp_read32(&in);

    if (!in.ok || in.left || index >= lane->ep->lane_count)
        return refuse(lane, GP_ERR_PROTOCOL, "the loss of an unknown lane");
    gp_vb_cm_reached(lane->ep, index, epoch, next);
    return true;
}

static bool
on_region(gp_vb_received *f, const gp_vb_piece *r)
{
    gp_vb_lane *lane = f->lane;
    gp_status status = GP_OK;

    if (r->kind == GP_VB_RECORD_UNEXPOSE)
        status = gp_vb_remote_clear(lane->ep, r->bytes, r->length);
    else if (!f->heap &&
             !f->gone) /* else the key was one of a queue pair that is gone */
        status = gp_vb_remote_set(lane, r->flags, r->bytes, r->length);
    gp_vb_ready(lane->ep);
    return status == GP_OK ||
           refuse(lane, status, "a region that makes no sense");
}

static bool
on_bye(gp_vb_lane *lane)
{
    lane->ep->bye_seen = lane->ep->deaf = true;
    gp_vb_ep_fail(lane->ep, GP_OK, "closed by the peer");
    return false;
}

static bool
on_record(gp_vb_received *f, const gp_vb_piece *r, gp_vb_out *out)
{
    gp_vb_lane *lane = f->lane;

    switch (r->kind) {
    case GP_VB_RECORD_DATA:
        return on_data(f, r, out);
    case GP_VB_RECORD_VALUE:
        return on_value(f, r, out);
    case GP_VB_RECORD_MORE:
        return on_more(lane, r, out);
    case GP_VB_RECORD_EXPOSE:
    case GP_VB_RECORD_UNEXPOSE:
        return on_region(f, r);
    case GP_VB_RECORD_SYNC:
        on_sync(f);
        return true;
    case GP_VB_RECORD_LOST:
        return on_lost(lane, r);
    case GP_VB_RECORD_REACHED:
        return on_reached(lane, r);
    case GP_VB_RECORD_RAILS:
        gp_vb_cm_rails(lane->ep, r->bytes, r->length);
        return true;
    case GP_VB_RECORD_BYE:
        return on_bye(lane);
    default:
        return refuse(lane, GP_ERR_PROTOCOL, "an unknown record");
    }
}

/* All that a queue has by now, but not what goes on coming. */
static void
poll_all(gp_vb_cq *cq)
{
    uint32_t batches = cq->capacity / GP_VB_BATCH + 1;

    while (batches-- && gp_vb_poll_batch(cq) > 0)
        continue;
}

/*
 * Control has moved to this lane. What the peer sent before on others has
 * arrived, or control would have waited, but their queues may have been looked
 * at too early to see it. True when there is something to deliver before.
 */
static bool
others_first(gp_vb_received *f, const gp_vb_piece *r)
{
    gp_endpoint *ep = f->lane->ep;
    bool any = false;

    if ((r->kind != GP_VB_RECORD_VALUE && r->kind != GP_VB_RECORD_BYE) ||
        !r->flags || f->turned ||
        (uint8_t)(r->flags - ep->turn_heard - 1) > 126)
        return false;
    f->turned = true; /* once, whatever the peer says */
    ep->turn_heard = r->flags;
    for (uint32_t i = 0; i < ep->lane_count; i++)
        if (ep->lane[i] && ep->lane[i] != f->lane && ep->lane[i]->qp)
            poll_all(ep->lane[i]->cq);
    GP_LIST_EACH (item, &ep->received) {
        gp_vb_received *other = GP_CONTAINER_OF(item, gp_vb_received, link);

        if (other->lane == f->lane)
            continue;
        gp_list_remove(&other->link);
        gp_list_insert(&f->link, &other->link);
        any = true;
    }
    return any;
}

static bool
deliver_brief(gp_vb_received *f, gp_vb_out *out)
{
    gp_vb_piece r = {.kind = GP_VB_RECORD_VALUE,
                     .flags = gp_vb_brief_turn(gp_vb_brief_first(f->records))};

    if (out->count == out->max || others_first(f, &r))
        return false;
    return on_short(f, out) && !is_elsewhere(f);
}

/* True when all its records are delivered. A record may end its lane; what is
 * left of the frame is then a copy elsewhere. */
static bool
deliver_frame(gp_vb_received *f, gp_vb_out *out)
{
    if (f->brief)
        return deliver_brief(f, out);
    if (f->cued)
        return out->count < out->max && on_cued(f, out) && !is_elsewhere(f);
    while (f->at < f->bytes) {
        size_t at = f->at;
        gp_vb_piece r;

        if (!gp_vb_record_next(f->records, f->bytes, &at, &r))
            return refuse(f->lane, GP_ERR_PROTOCOL,
                          "a record longer than its frame");
        if ((r.kind <= GP_VB_RECORD_MORE && out->count == out->max) ||
            others_first(f, &r))
            return false;
        f->at = (uint32_t)at;
        if (!on_record(f, &r, out) || is_elsewhere(f))
            return false;
    }
    return true;
}

static void
credit_all(gp_endpoint *ep)
{
    for (uint32_t i = 0; i < ep->lane_count; i++)
        if (ep->lane[i])
            gp_vb_credit(ep->lane[i]);
}

/* For who lingers only one word of the peer matters still: how far a lane got
 * that is lost, because the rest, the farewell last, can go on another then.
 * False: the frame is a copy elsewhere now. */
static bool
heed(gp_vb_received *f)
{
    size_t at = f->at;
    gp_vb_piece r;

    while (!f->brief && at < f->bytes &&
           gp_vb_record_next(f->records, f->bytes, &at, &r)) {
        f->at = (uint32_t)at;
        if (r.kind == GP_VB_RECORD_REACHED &&
            (!on_reached(f->lane, &r) || is_elsewhere(f)))
            break;
    }
    return !is_elsewhere(f);
}

void
gp_vb_discard(gp_endpoint *ep)
{
    while (!gp_list_empty(&ep->received)) {
        gp_vb_received *f =
            GP_CONTAINER_OF(ep->received.next, gp_vb_received, link);

        if (ep->state != GP_VB_LINGERING || heed(f))
            finish(f);
    }
    credit_all(ep);
}

void
gp_vb_hand_over(gp_endpoint *ep, gp_vb_out *out)
{
    while (gp_vb_has_received(ep)) {
        gp_vb_received *f =
            GP_CONTAINER_OF(ep->received.next, gp_vb_received, link);

        if (deliver_frame(f, out))
            finish(f);
        else if (is_elsewhere(f) || ep->received.next == &f->link)
            break;
    }
}

void
gp_vb_deliver_now(gp_vb_received *f, gp_vb_out *out)
{
    if (on_short(f, out) && !f->gone)
        finish(f);
}

void
gp_vb_deliver(gp_endpoint *ep, gp_vb_out *out)
{
    gp_vb_hand_over(ep, out);
    credit_all(ep);
}

#endif
