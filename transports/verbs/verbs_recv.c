/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_recv.c - from completions to events.
 *
 * Completions are only taken note of while queues are polled: what breaks a
 * lane is kept in domain->broken and acted on afterwards, since ending a lane
 * polls too and would let later completions overtake earlier ones. Frames wait
 * in the order they came in, over all lanes of an endpoint, so that control
 * messages keep their order when they move to another lane.
 */
#ifdef GP_HAVE_VERBS

#include <endian.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "transports/verbs/verbs_int.h"

/* Batches of one queue before others' turn. */
#define BATCHES 16

/* Windows that a device may fail to bind. */
#define BIND_ERRORS 3u

/* ------------------------------------------------------------ completions */

void
gp_vb_break(gp_vb_lane *lane, bool fatal, gp_status status, const char *format,
            ...)
{
    va_list args;

    /* The first cause counts, but a flushed request (GP_AGAIN) is none. */
    if (!gp_list_empty(&lane->broken) && lane->broken_status != GP_AGAIN)
        return;
    va_start(args, format);
    vsnprintf(lane->broken_why, sizeof(lane->broken_why), format, args);
    va_end(args);
    lane->broken_status = status;
    lane->fatal = fatal;
    if (gp_list_empty(&lane->broken))
        gp_list_insert(&lane->ep->domain->broken, &lane->broken);
    gp_vb_ready(lane->ep);
}

static void
act_on_broken(gp_domain *d)
{
    gp_list *item;

    while ((item = gp_list_pop(&d->broken))) {
        gp_vb_lane *lane = GP_CONTAINER_OF(item, gp_vb_lane, broken);
        gp_status status = lane->broken_status;

        if (status == GP_AGAIN)
            status = GP_ERR_PEER_LOST;
        if (lane->fatal)
            gp_vb_ep_fail(lane->ep, status, "%s", lane->broken_why);
        else
            gp_vb_lane_failed(lane, status, "%s", lane->broken_why);
    }
}

/* A device that has windows and cannot bind them does without, when it was not
 * just a region that was withdrawn meanwhile. */
static void
on_bind_error(gp_vb_device *device)
{
    if (++device->bind_errors < BIND_ERRORS || !device->windows)
        return;
    device->windows = false;
    GP_WARN("verbs: %s does not bind memory windows; regions are registered "
            "instead",
            device->name);
}

static void
on_error(gp_vb_lane *lane, const struct ibv_wc *wc)
{
    char text[256];

    if (wc->status == IBV_WC_WR_FLUSH_ERR) {
        gp_vb_break(lane, false, GP_AGAIN,
                    "the queue pair was stopped by its device or its peer");
        return;
    }
    if (wc->status == IBV_WC_MW_BIND_ERR)
        on_bind_error(lane->device);
    gp_vb_explain(lane, wc, text, sizeof(text));
    /* A driver may say that it has windows and refuse them: without, regions
     * have keys that any queue pair of the protection domain may use. */
    if (wc->status == IBV_WC_MW_BIND_ERR && lane->ep->domain->windows == 0)
        lane->device->windows = false;
    gp_vb_break(lane, false, gp_vb_wc_status(wc->status), "%s", text);
}

gp_status
gp_vb_receive_post(gp_vb_lane *lane, uint32_t buffer)
{
    const gp_domain *d = lane->ep->domain;
    uint8_t *at = lane->rx + (size_t)buffer * d->frame_bytes;
    struct ibv_sge sge = {.addr = (uint64_t)(uintptr_t)at,
                          .length = d->frame_bytes,
                          .lkey = lane->rx_mr->lkey};
    struct ibv_recv_wr wr = {.wr_id =
                                 gp_vb_wr_id(lane, GP_VB_WR_RECEIVE, buffer),
                             .sg_list = &sge,
                             .num_sge = 1};
    struct ibv_recv_wr *bad = NULL;
    int error = d->api->post_recv(lane->qp, &wr, &bad);

    if (error)
        return gp_fail_errno(GP_ERR_SYSTEM, error, "verbs: post_recv");
    lane->posted++;
    return GP_OK;
}

/* What the peer says of its receives can only grow, and not beyond those it
 * has. */
static bool
take_credit(gp_vb_lane *lane, uint32_t granted)
{
    if (granted - lane->granted > lane->peer_frames ||
        granted - lane->sent_frames > lane->peer_frames)
        return false;
    if (granted != lane->granted) {
        lane->granted = granted;
        gp_vb_ready(lane->ep);
    }
    return true;
}

/* Where the frame of a completed receive lies, or a text why not. */
static const char *
locate(gp_vb_lane *lane, const struct ibv_wc *wc, uint32_t *buffer)
{
    if (!lane->met)
        return "a frame came before the connection was made";
    if (wc->byte_len > lane->ep->domain->frame_bytes)
        return "a frame is longer than its buffer";
    if (!lane->imm)
        return *buffer < lane->rx_frames ? NULL : "no such receive";
    if (!(wc->wc_flags & IBV_WC_WITH_IMM))
        return "a frame without its number";
    if (be32toh(wc->imm_data) != lane->expected)
        return "a frame out of order";
    *buffer = lane->expected % lane->rx_frames;
    return NULL;
}

/* Where a frame is checked and read: a ring stays open to the peer's writes. */
static const uint8_t *
safe_place(gp_vb_lane *lane, uint32_t buffer, uint32_t bytes)
{
    size_t at = (size_t)buffer * lane->ep->domain->frame_bytes;

    if (!lane->imm)
        return lane->rx + at;
    memcpy(lane->copies + at, lane->rx + at, bytes);
    return lane->copies + at;
}

static void
on_frame(gp_vb_lane *lane, const struct ibv_wc *wc, uint32_t buffer)
{
    gp_endpoint *ep = lane->ep;
    const char *fault = locate(lane, wc, &buffer);
    gp_vb_received *f = &lane->buffers[fault ? 0 : buffer];
    gp_vb_frame frame;
    gp_status status;

    if (fault) {
        gp_vb_break(lane, true, GP_ERR_PROTOCOL, "%s", fault);
        return;
    }
    status = gp_list_empty(&f->link)
                 ? gp_vb_frame_decode(safe_place(lane, buffer, wc->byte_len),
                                      wc->byte_len, &frame)
                 : GP_ERR_PROTOCOL;
    if (status != GP_OK || frame.number != lane->expected ||
        !take_credit(lane, frame.granted)) {
        gp_vb_break(lane, true, status == GP_OK ? GP_ERR_PROTOCOL : status,
                    status == GP_ERR_CHECKSUM ? "damaged frame"
                                              : "not a frame of this lane");
        return;
    }
    lane->expected++;
    f->records = frame.records;
    f->bytes = (uint32_t)frame.bytes;
    f->number = frame.number;
    f->at = 0;
    f->turned = false;
    gp_list_insert(&ep->received, &f->link);
    gp_vb_ready(ep);
    if (lane->state == GP_VB_LANE_CONNECTING && ep->accepted)
        gp_vb_cm_established(lane);
}

gp_vb_lane *
gp_vb_wr_lane(const gp_domain *d, uint64_t wr_id)
{
    uint32_t slot =
        (uint32_t)(wr_id >> (GP_VB_GENERATION_BITS + GP_VB_INDEX_BITS)) &
        UINT16_MAX;
    uint32_t generation = (uint32_t)(wr_id >> GP_VB_INDEX_BITS) &
                          ((1u << GP_VB_GENERATION_BITS) - 1);
    gp_vb_lane *lane = slot < d->lane_slots ? d->lanes[slot] : NULL;

    return lane && lane->qp && lane->generation == generation ? lane : NULL;
}

/* Of a failed completion only wr_id, status, qp_num and vendor_err mean
 * anything: what it was is in wr_id. */
static void
on_completion(gp_domain *d, const struct ibv_wc *wc)
{
    gp_vb_wr kind = gp_vb_wr_kind(wc->wr_id);
    uint32_t index = gp_vb_wr_index(wc->wr_id);
    gp_vb_lane *lane = gp_vb_wr_lane(d, wc->wr_id);

    if (!lane)
        return; /* of a queue pair that is gone */
    if (kind == GP_VB_WR_RECEIVE)
        lane->taken++;
    else
        lane->sq_polled = index = gp_vb_wr_position(lane, wc->wr_id);
    if (wc->status != IBV_WC_SUCCESS) {
        on_error(lane, wc);
        return;
    }
    lane->alive = true;
    if (kind == GP_VB_WR_RECEIVE)
        on_frame(lane, wc, index);
    else
        gp_vb_retire(lane, index);
    if (kind == GP_VB_WR_PROBE)
        lane->probing = false;
}

int
gp_vb_poll_batch(gp_vb_cq *cq)
{
    gp_domain *d = cq->device->domain;
    struct ibv_wc wc[GP_VB_BATCH];
    int n = d->api->poll_cq(cq->cq, GP_VB_BATCH, wc);

    if (n < 0)
        return gp_fail_errno(GP_ERR_SYSTEM, -n, "%s: polling for completions",
                             cq->device->name);
    for (int i = 0; i < n; i++)
        on_completion(d, &wc[i]);
    d->completions += (uint64_t)n;
    if (!n)
        d->empty_polls++;
    return n;
}

int
gp_vb_poll(gp_domain *d)
{
    int total = 0;

    GP_LIST_EACH (item, &d->devices) {
        gp_vb_device *device = GP_CONTAINER_OF(item, gp_vb_device, link);

        GP_LIST_EACH (entry, &device->cqs) {
            gp_vb_cq *cq = GP_CONTAINER_OF(entry, gp_vb_cq, link);
            int n = GP_VB_BATCH;

            for (int i = 0; i < BATCHES && n == GP_VB_BATCH; i++) {
                n = gp_vb_poll_batch(cq);
                if (n < 0)
                    return n;
                total += n;
            }
        }
    }
    if (!gp_list_empty(&d->broken))
        act_on_broken(d);
    return total;
}

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
    if (gp_vb_receive_post(lane, f->buffer) != GP_OK)
        gp_vb_break(lane, false, GP_ERR_SYSTEM, "%s", gp_last_error());
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
 * frames are delivered. Without memory for a copy a frame and all after it
 * have not arrived, as far as the peer will hear. */
void
gp_vb_received_keep(gp_vb_lane *lane)
{
    bool full = false;

    GP_LIST_EACH (item, &lane->ep->received) {
        gp_vb_received *f = GP_CONTAINER_OF(item, gp_vb_received, link);
        gp_vb_received *copy;

        if (f->lane != lane || f->heap)
            continue;
        copy = full ? NULL : heap_buffer(lane, f->bytes);
        if (copy) {
            memcpy((uint8_t *)(copy + 1), f->records, f->bytes);
            copy->at = f->at;
            copy->number = f->number;
            gp_list_insert(&f->link, &copy->link);
        } else if (!full) {
            full = true;
            lane->expected = f->number;
        }
        gp_list_remove(&f->link);
    }
    for (uint32_t i = 0; i < lane->rx_frames; i++)
        lane->buffers[i].gone = true;
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
    if (to && length)
        memcpy(to + lane->assembled, bytes, length);
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
    if (f->heap)
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
    else if (!f->heap) /* else the key was one of a queue pair that is gone */
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

/* True when all its records are delivered. A record may end its lane; what is
 * left of the frame is then a copy elsewhere. */
static bool
deliver_frame(gp_vb_received *f, gp_vb_out *out)
{
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
        if (!on_record(f, &r, out) || f->gone)
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

void
gp_vb_discard(gp_endpoint *ep)
{
    while (!gp_list_empty(&ep->received))
        finish(GP_CONTAINER_OF(ep->received.next, gp_vb_received, link));
    credit_all(ep);
}

void
gp_vb_deliver(gp_endpoint *ep, gp_vb_out *out)
{
    while (gp_vb_has_received(ep)) {
        gp_vb_received *f =
            GP_CONTAINER_OF(ep->received.next, gp_vb_received, link);

        if (deliver_frame(f, out))
            finish(f);
        else if (f->gone || ep->received.next == &f->link)
            break;
    }
    credit_all(ep);
}

#endif
