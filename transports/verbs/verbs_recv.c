/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_recv.c - completions, and frames that arrive.
 *
 * Completions are only taken note of while queues are polled: what breaks a
 * lane is kept in domain->broken and acted on afterwards, since ending a lane
 * polls too and would let later completions overtake earlier ones.
 *
 * A brief frame counts as arrived when all of it is seen in the buffer that was
 * posted first, which is sooner than its completion. That one follows, and only
 * then the buffer is the lane's again.
 */
#ifdef GP_HAVE_VERBS

#include <endian.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "transports/verbs/verbs_early.h"
#include "transports/verbs/verbs_peer.h"

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
    gp_vb_peer_renew(d);
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
    gp_status status;

    if (wc->status == IBV_WC_WR_FLUSH_ERR) {
        gp_vb_break(lane, false, GP_AGAIN,
                    "the queue pair was stopped by its device or its peer");
        return;
    }
    if (wc->status == IBV_WC_MW_BIND_ERR)
        on_bind_error(lane->device);
    gp_vb_peer_request_failed(lane, wc->status);
    status = gp_vb_explain(lane, wc, text, sizeof(text));
    /* A driver may say that it has windows and refuse them: without, regions
     * have keys that any queue pair of the protection domain may use. */
    if (wc->status == IBV_WC_MW_BIND_ERR && lane->ep->domain->windows == 0)
        lane->device->windows = false;
    gp_vb_break(lane, false, status, "%s", text);
}

gp_status
gp_vb_receive_post(gp_vb_lane *lane, uint32_t buffer)
{
    const gp_domain *d = lane->ep->domain;
    uint8_t *at = gp_vb_place_of(lane, buffer);
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
    lane->order[lane->posted++ % lane->rx_frames] = buffer;
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

/* Where a frame is checked and read: a ring stays open to the peer's writes,
 * also when it said that it would not use it. */
static const uint8_t *
safe_place(gp_vb_lane *lane, uint32_t buffer, uint32_t bytes)
{
    size_t at = (size_t)buffer * lane->ep->domain->frame_bytes;

    if (!lane->copies)
        return gp_vb_place_of(lane, buffer);
    memcpy(lane->copies + at, lane->rx + at, bytes);
    return lane->copies + at;
}

/* A frame is whole and lies where the peer cannot write: it is next. */
static bool
admit(gp_vb_received *f, uint32_t number, uint32_t granted)
{
    gp_vb_lane *lane = f->lane;

    if (number != lane->expected || !take_credit(lane, granted))
        return false;
    lane->expected++;
    lane->arrived++;
    lane->awaited = NULL;
    f->number = number;
    f->at = 0;
    f->turned = false;
    f->keeps = lane->cues;
    if (lane->state == GP_VB_LANE_CONNECTING && lane->ep->accepted)
        gp_vb_cm_established(lane);
    return true;
}

/* It waits to be delivered. */
static void
enqueue(gp_vb_received *f)
{
    gp_list_insert(&f->lane->ep->received, &f->link);
    gp_vb_ready(f->lane->ep);
}

static void
not_admitted(gp_vb_lane *lane, gp_status status)
{
    gp_vb_break(lane, true, status == GP_OK ? GP_ERR_PROTOCOL : status,
                status == GP_ERR_CHECKSUM ? "damaged frame"
                                          : "not a frame of this lane");
}

/* False: there is no brief frame, or not yet all of it. */
static bool
take_brief(gp_vb_received *f)
{
    gp_vb_lane *lane = f->lane;
    uint8_t *copy = lane->briefs + (size_t)f->buffer * GP_VB_BRIEF_MAX;
    size_t n = gp_vb_brief_take(gp_vb_place_of(lane, f->buffer),
                                GP_VB_BRIEF_MAX, lane->expected, copy);

    f->records = copy;
    f->bytes = (uint32_t)n;
    f->brief = true;
    f->cued = false;
    return n;
}

/* Its check is of the number that was expected. */
static bool
admit_brief(gp_vb_received *f)
{
    uint32_t granted = f->lane->granted;
    uint16_t low = gp_vb_brief_granted(gp_vb_brief_first(f->records));

    granted += (uint32_t)(int16_t)(low - (uint16_t)granted);
    return admit(f, f->lane->expected, granted);
}

static gp_status
on_brief(gp_vb_received *f)
{
    if (!f->lane->brief)
        return GP_ERR_PROTOCOL;
    if (!take_brief(f))
        return GP_ERR_CHECKSUM;
    return admit_brief(f) ? GP_OK : GP_ERR_PROTOCOL;
}

static gp_status
on_records(gp_vb_received *f, uint32_t bytes)
{
    gp_vb_lane *lane = f->lane;
    gp_vb_frame frame;
    gp_status status =
        gp_vb_frame_decode(safe_place(lane, f->buffer, bytes), bytes, &frame);

    if (status != GP_OK)
        return status;
    f->records = frame.records;
    f->bytes = (uint32_t)frame.bytes;
    f->brief = f->cued = false;
    return admit(f, frame.number, frame.granted) ? GP_OK : GP_ERR_PROTOCOL;
}

void
gp_vb_receive_again(gp_vb_received *f)
{
    f->released = false;
    if (gp_vb_receive_post(f->lane, f->buffer) != GP_OK)
        gp_vb_break(f->lane, false, GP_ERR_SYSTEM, "%s", gp_last_error());
}

/* A payload's last WRITE was a message's too. What it says of the message is
 * read when all before it are delivered. */
static void
on_cue(gp_vb_lane *lane, const struct ibv_wc *wc, uint32_t buffer)
{
    gp_vb_received *f = &lane->buffers[GP_MIN(buffer, lane->rx_frames - 1)];

    if (!lane->met || !lane->cues || f->buffer != buffer || f->early ||
        !gp_list_empty(&f->link) || !admit(f, lane->expected, lane->granted)) {
        not_admitted(lane, GP_ERR_PROTOCOL);
        return;
    }
    f->records = gp_vb_place_of(lane, buffer);
    f->bytes = 0;
    f->brief = false;
    f->cued = true;
    f->cue = be32toh(wc->imm_data);
    enqueue(f);
}

static void
on_frame(gp_vb_lane *lane, const struct ibv_wc *wc, uint32_t buffer)
{
    const char *fault = locate(lane, wc, &buffer);
    gp_vb_received *f = &lane->buffers[fault ? 0 : buffer];
    gp_status status = GP_ERR_PROTOCOL;

    if (fault) {
        gp_vb_break(lane, true, GP_ERR_PROTOCOL, "%s", fault);
        return;
    }
    if (f->early) {
        f->early = false;
        if (f->released) {
            gp_vb_receive_again(f);
            gp_vb_ready(lane->ep); /* the peer may wait to hear of it */
        }
        return;
    }
    if (gp_list_empty(&f->link))
        status = gp_vb_brief_is(gp_vb_place_of(lane, buffer), wc->byte_len)
                     ? on_brief(f)
                     : on_records(f, wc->byte_len);
    if (status == GP_OK)
        enqueue(f);
    else
        not_admitted(lane, status);
}

/* Its completion follows: until then the buffer stays the device's. */
gp_vb_seen
gp_vb_take_early(gp_vb_received *f, gp_event *event)
{
    gp_vb_out out = {event, 0, 1};
    gp_vb_lane *lane = f->lane;

    if (!take_brief(f))
        return GP_VB_NOTHING;
    f->early = lane->alive = true;
    if (!admit_brief(f))
        not_admitted(lane, GP_ERR_PROTOCOL);
    else if (event)
        gp_vb_deliver_now(f, &out);
    else
        enqueue(f);
    return out.count ? GP_VB_EVENT : GP_VB_WAITS;
}

bool
gp_vb_lane_rests(const gp_vb_lane *lane)
{
    return gp_list_empty(&lane->data) && gp_list_empty(&lane->notes) &&
           lane->sq_posted - lane->written >=
               lane->sq_posted - lane->sq_retired;
}

void
gp_vb_watch_lane(gp_vb_lane *lane)
{
    gp_domain *d = lane->ep->domain;

    if (d->watched_count < GP_VB_WATCHED)
        d->watched[d->watched_count++] = lane;
}

void
gp_vb_unwatch_lane(gp_vb_lane *lane)
{
    gp_domain *d = lane->ep->domain;

    for (uint32_t i = 0; i < d->watched_count; i++)
        if (d->watched[i] == lane) {
            d->watched[i] = d->watched[--d->watched_count];
            return;
        }
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
    if (kind != GP_VB_WR_RECEIVE)
        gp_vb_retire(lane, index);
    else if ((wc->wc_flags & IBV_WC_WITH_IMM) && !lane->imm)
        on_cue(lane, wc, index);
    else
        on_frame(lane, wc, index);
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
        return gp_fail_errno(GP_ERR_SYSTEM, -n, "polling for completions");
    for (int i = 0; i < n; i++)
        on_completion(d, &wc[i]);
    d->completions += (uint64_t)n;
    if (!n)
        d->empty_polls++;
    return n;
}

/* All there is in one queue, within limits. */
static int
poll_queue(gp_vb_cq *cq)
{
    int total = 0, n = GP_VB_BATCH;

    for (int i = 0; i < BATCHES && n == GP_VB_BATCH; i++) {
        n = gp_vb_poll_batch(cq);
        cq->broken |= n < 0;
        total += GP_MAX(n, 0);
    }
    return total;
}

int
gp_vb_poll(gp_domain *d)
{
    bool broke = false;
    int total = 0;

    GP_LIST_EACH (item, &d->devices) {
        gp_vb_device *device = GP_CONTAINER_OF(item, gp_vb_device, link);

        if (device->gone)
            continue;
        GP_LIST_EACH (entry, &device->cqs) {
            gp_vb_cq *cq = GP_CONTAINER_OF(entry, gp_vb_cq, link);

            if (cq->broken)
                continue;
            total += poll_queue(cq);
            broke |= cq->broken;
        }
    }
    if (broke) {
        char why[256];

        snprintf(why, sizeof(why), "%s", gp_last_error());
        gp_vb_queues_broken(d, why);
    }
    if (!gp_list_empty(&d->broken))
        act_on_broken(d);
    return total;
}

#endif
