/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_lane.c - a lane's queue pair and memory.
 *
 * Numbers of frames go on while queue pairs come and go; everything else that
 * is counted (receives, credits, work requests) starts anew with each. What a
 * queue pair that broke may still do to memory is over only when it is in error
 * and all its completions were seen, or when it is destroyed: nothing is sent a
 * second time, and no payload is given back, before gp_vb_lane_fence() or
 * gp_vb_lane_still() returned.
 */
#ifdef GP_HAVE_VERBS

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "transports/verbs/verbs_early.h"
#include "transports/verbs/verbs_limit.h"
#include "transports/verbs/verbs_port.h"

/* What a hello may say; a frame must take a header and some payload. */
#define FRAMES_MIN      (GP_VB_RESERVE + 1)
#define FRAME_BYTES_MIN 256u
#define FRAME_BYTES_MAX (1u << 20)

/* 1.28 ms: rdma_cm leaves 655 ms, which would hide a receiver-not-ready that
 * must not happen behind a pause that looks like the network's. */
#define MIN_RNR_TIMER 14

static gp_status
take_slot(gp_domain *d, gp_vb_lane *lane)
{
    uint32_t slots = d->lane_slots ? 2 * d->lane_slots : 16;
    gp_vb_lane **lanes;

    for (uint32_t i = 0; i < d->lane_slots; i++)
        if (!d->lanes[i]) {
            d->lanes[i] = lane;
            lane->slot = (uint16_t)i;
            return GP_OK;
        }
    if (slots > UINT16_MAX + 1u)
        return gp_fail(GP_ERR_NO_MEMORY, "verbs: %u lanes are the most",
                       d->lane_slots);
    lanes = realloc(d->lanes, slots * sizeof(gp_vb_lane *));
    if (!lanes)
        return gp_fail(GP_ERR_NO_MEMORY, "verbs: out of memory");
    memset(lanes + d->lane_slots, 0,
           (slots - d->lane_slots) * sizeof(gp_vb_lane *));
    lane->slot = (uint16_t)d->lane_slots;
    lanes[d->lane_slots] = lane;
    d->lanes = lanes;
    d->lane_slots = slots;
    return GP_OK;
}

gp_status
gp_vb_lane_create(gp_endpoint *ep, uint32_t index, gp_vb_lane **out)
{
    gp_vb_lane *lane = calloc(1, sizeof(*lane));
    gp_status status;

    if (!lane)
        return gp_fail(GP_ERR_NO_MEMORY, "verbs: out of memory");
    lane->ep = ep;
    lane->index = index;
    gp_list_init(&lane->notes);
    gp_list_init(&lane->data);
    gp_list_init(&lane->flying);
    gp_list_init(&lane->broken);
    status = take_slot(ep->domain, lane);
    if (status != GP_OK) {
        free(lane);
        return status;
    }
    *out = lane;
    return GP_OK;
}

/* Bytes of one lane's frames, one way. */
static size_t
share(const gp_domain *d)
{
    return (size_t)d->frames * d->frame_bytes;
}

/* Both factors have small limits. */
size_t
gp_vb_slab_size(const gp_domain *d, uint32_t lanes)
{
    return 2 * share(d) * lanes;
}

/*
 * One piece of memory for all lanes, so that a peer costs one region and not
 * one per buffer: first all that is received into, then all that is sent from,
 * which the peer never may write. Which part a lane gets is random: who shares
 * a protection domain with this endpoint (GRADPUSH_IB_DOMAINS=shared) and wants
 * to write into a ring must guess the address beside the key.
 */
static gp_status
make_slab(gp_endpoint *ep)
{
    uint32_t start = 0;
    size_t bytes;

    if (ep->slab)
        return GP_OK;
    bytes = gp_vb_slab_size(ep->domain, ep->lane_count);
    ep->slab = gp_alloc_aligned(bytes);
    if (!ep->slab)
        return gp_fail(GP_ERR_NO_MEMORY, "verbs: no memory for frames");
    /* What a peer's CRC does not cover is never read, but memory checkers want
     * to see what devices read initialized. */
    memset(ep->slab, 0, bytes);
    ep->slab_bytes = bytes;
    ep->rings = bytes / 2;
    (void)!gp_random(&start, sizeof(start));
    for (uint32_t i = 0; i < ep->lane_count; i++)
        if (ep->lane[i])
            ep->lane[i]->memory_slot =
                (start % ep->lane_count + i) % ep->lane_count;
    return GP_OK;
}

static uint32_t
pd_index(const gp_endpoint *ep, const gp_vb_pd *pd)
{
    uint32_t i = 0;

    while (i < GP_VB_PATH_MAX - 1 && ep->pd[i] != pd)
        i++;
    return i;
}

static bool
wants_imm(const gp_vb_lane *lane)
{
    return lane->ep->domain->notify > 0 && !lane->device->iwarp;
}

/* They are read and written in words. */
static bool
takes_brief(const gp_domain *d)
{
    return d->frame_bytes % 8 == 0 && d->frame_bytes >= GP_VB_BRIEF_MAX + 8;
}

/* With checksums every header says another one. */
static bool
takes_cues(const gp_vb_lane *lane)
{
    const gp_domain *d = lane->ep->domain;

    return d->notify == 0 && !d->checksum && !lane->device->iwarp &&
           !lane->device->uncued;
}

static gp_status
register_part(gp_vb_lane *lane, struct ibv_mr **mr, size_t from, size_t to,
              int access)
{
    gp_endpoint *ep = lane->ep;

    if (!*mr)
        *mr = ep->domain->api->reg_mr(lane->pd->pd, ep->slab + from, to - from,
                                      access);
    return *mr ? GP_OK : gp_vb_memory_error(ep->domain, errno, to - from);
}

/* Rings are written by the peer's device, and nothing else of the slab is: with
 * them it has two regions. */
static gp_status
register_slab(gp_vb_lane *lane)
{
    gp_endpoint *ep = lane->ep;
    uint32_t path = pd_index(ep, lane->pd);
    struct ibv_mr **slab = &ep->slab_mr[path], **rings = &ep->ring_mr[path];
    bool imm = wants_imm(lane);
    gp_status status = register_part(lane, slab, imm ? ep->rings : 0,
                                     ep->slab_bytes, IBV_ACCESS_LOCAL_WRITE);

    if (status == GP_OK && imm)
        status =
            register_part(lane, rings, 0, ep->rings,
                          IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
    lane->tx_mr = *slab;
    lane->rx_mr = imm ? *rings : *slab;
    return status;
}

static gp_status
place_frames(gp_vb_lane *lane)
{
    gp_endpoint *ep = lane->ep;
    gp_domain *d = ep->domain;
    uint32_t limit = (uint32_t)lane->device->attr.max_qp_wr;

    if (!gp_vb_received_keep(lane))
        return gp_fail(GP_AGAIN, "no memory for what came before");
    lane->sq_depth = GP_MIN(d->queue, limit);
    lane->rx_frames = GP_MIN(d->frames, limit);
    lane->tx_frames = GP_MIN(d->frames, lane->sq_depth / 2);
    if (lane->rx_frames < FRAMES_MIN || lane->tx_frames < 2)
        return gp_fail(GP_ERR_UNSUPPORTED,
                       "%s: queue pairs of %u work requests are too small",
                       lane->device->name, limit);
    /* For as many as any device takes: the next one may take more. */
    if (!lane->buffers)
        lane->buffers = calloc(d->frames, sizeof(*lane->buffers));
    if (!lane->tx_end)
        lane->tx_end = calloc(d->frames, sizeof(*lane->tx_end));
    if (wants_imm(lane) && !lane->copies)
        lane->copies = calloc(d->frames, d->frame_bytes);
    if (!lane->order)
        lane->order = calloc(d->frames, sizeof(*lane->order));
    if (takes_brief(d) && !lane->briefs)
        lane->briefs = calloc(d->frames, GP_VB_BRIEF_MAX);
    if (!lane->buffers || !lane->tx_end || !lane->order ||
        (wants_imm(lane) && !lane->copies) || (takes_brief(d) && !lane->briefs))
        return gp_fail(GP_ERR_NO_MEMORY, "verbs: out of memory");
    lane->rx = ep->slab + lane->memory_slot * share(d);
    lane->tx = lane->rx + ep->rings;
    return GP_OK;
}

/* What one WRITE may carry there. Drivers of old say no link layer for that of
 * InfiniBand. */
static void
fit_port(gp_vb_lane *lane)
{
    const gp_domain *d = lane->ep->domain;
    struct ibv_port_attr port = {.link_layer = IBV_LINK_LAYER_ETHERNET};

    lane->piece = d->piece;
    if (!d->api->query_port(lane->id->verbs, lane->id->port_num, &port) &&
        port.max_msg_sz)
        lane->piece = GP_MIN(lane->piece, (size_t)port.max_msg_sz);
    lane->apart = d->adaptive < 0 ? port.link_layer != IBV_LINK_LAYER_ETHERNET
                                  : d->adaptive > 0;
}

static void
reset(gp_vb_lane *lane)
{
    lane->generation =
        ++lane->ep->domain->generations & ((1u << GP_VB_GENERATION_BITS) - 1);
    lane->sq_posted = lane->sq_retired = lane->sq_polled = 0;
    lane->unsignaled = lane->unsignaled_entries = 0;
    lane->written = lane->stale = 0;
    lane->granted = lane->sent_frames = 0;
    lane->posted = lane->told = lane->taken = lane->held = lane->arrived = 0;
    lane->awaited = NULL;
    lane->brief = false;
    lane->cues = takes_cues(lane); /* so the hello says, and so it stays */
    lane->met = lane->synced = lane->probing = false;
    gp_list_remove(&lane->broken);
    lane->fatal = false;
    for (uint32_t i = 0; i < lane->rx_frames; i++) {
        gp_vb_received *f = &lane->buffers[i];

        if (f->link.next)
            gp_list_remove(&f->link);
        gp_list_init(&f->link);
        f->lane = lane;
        f->buffer = i;
        f->heap = f->gone = f->used = f->early = f->released = false;
        f->cued = false;
        /* No frame of before may look like one that is to come. */
        memset(lane->rx + (size_t)i * lane->ep->domain->frame_bytes, 0,
               GP_MIN(GP_VB_BRIEF_MAX, lane->ep->domain->frame_bytes));
    }
}

/* How much may be inlined only creating a queue pair tells. 224 takes a frame
 * with a header and 64 bytes, and is what fits four cache lines of a request
 * on common devices. */
static gp_status
create_qp(gp_vb_lane *lane)
{
    static const uint32_t tries[] = {224, 112, 64, 0};
    const gp_verbs_api *api = lane->ep->domain->api;
    int error = EINVAL;

    for (size_t i = 0; i < GP_COUNT_OF(tries); i++) {
        struct ibv_qp_init_attr attr = {.send_cq = lane->cq->cq,
                                        .recv_cq = lane->cq->cq,
                                        .qp_type = IBV_QPT_RC,
                                        .cap = {.max_send_wr = lane->sq_depth,
                                                .max_recv_wr = lane->rx_frames,
                                                .max_send_sge = 1,
                                                .max_recv_sge = 1,
                                                .max_inline_data = tries[i]}};

        error = api->rdma_create_qp(lane->id, lane->pd->pd, &attr);
        if (!error) {
            lane->qp = lane->id->qp;
            lane->max_inline = attr.cap.max_inline_data;
            return GP_OK;
        }
        if (error != EINVAL && error != ENOMEM)
            break;
    }
    if (error == ENOMEM)
        return gp_verbs_refused(api, error, "%s has no queue pair left",
                                lane->device->name);
    return gp_fail_errno(GP_ERR_UNSUPPORTED, error, "%s: no queue pair",
                         lane->device->name);
}

static gp_status
post_all(gp_vb_lane *lane)
{
    gp_status status = GP_OK;

    for (uint32_t i = 0; i < lane->rx_frames && status == GP_OK; i++)
        status = gp_vb_receive_post(lane, i);
    lane->told = lane->posted; /* by the hello */
    return status;
}

static gp_status
check_device(const gp_vb_device *device)
{
    return device->gone
               ? gp_fail(GP_ERR_SYSTEM, "%s: the device failed or was removed",
                         device->name)
               : GP_OK;
}

gp_status
gp_vb_lane_prepare(gp_vb_lane *lane)
{
    gp_endpoint *ep = lane->ep;
    uint32_t entries;
    gp_status status;

    if ((status = gp_vb_device_get(ep->domain, lane->id->verbs,
                                   &lane->device)) != GP_OK ||
        (status = check_device(lane->device)) != GP_OK ||
        (status = gp_vb_pd_get(ep, lane->device, &lane->pd)) != GP_OK ||
        (status = make_slab(ep)) != GP_OK ||
        (status = place_frames(lane)) != GP_OK ||
        (status = register_slab(lane)) != GP_OK)
        return status;
    reset(lane);
    fit_port(lane);
    /* Every request can complete once, by failing. */
    entries = lane->sq_depth + lane->rx_frames;
    status = gp_vb_cq_join(lane->device, entries, &lane->cq);
    if (status != GP_OK)
        return status;
    lane->cq_reserved = entries;
    status = create_qp(lane);
    if (status == GP_OK)
        status = post_all(lane);
    if (status != GP_OK)
        gp_vb_lane_fence(lane);
    return status;
}

void
gp_vb_lane_describe(const gp_vb_lane *lane, gp_vb_hello *out)
{
    const gp_endpoint *ep = lane->ep;

    *out = (gp_vb_hello){.version = GP_PROTOCOL_VERSION,
                         .lane = (uint8_t)lane->index,
                         .lanes = (uint8_t)ep->lane_count,
                         .group = ep->group,
                         .epoch = lane->epoch,
                         .next_frame = lane->expected,
                         .frames = (uint16_t)lane->rx_frames,
                         .frame_bytes = ep->domain->frame_bytes};
    if (ep->announced || lane->epoch > 1)
        out->flags |= GP_VB_HELLO_RESUME;
    if (lane->device->iwarp)
        out->flags |= GP_VB_HELLO_IWARP;
    if (takes_brief(ep->domain))
        out->flags |= GP_VB_HELLO_BRIEF;
    if (lane->cues)
        out->flags |= GP_VB_HELLO_CUES;
    if (wants_imm(lane)) {
        out->flags |= GP_VB_HELLO_IMM;
        out->ring_address = (uint64_t)(uintptr_t)lane->rx;
        out->ring_key = lane->rx_mr->rkey;
    }
}

static gp_status
check_hello(const gp_vb_lane *lane, const gp_vb_hello *peer)
{
    if (peer->frames < FRAMES_MIN || peer->frame_bytes < FRAME_BYTES_MIN ||
        peer->frame_bytes > FRAME_BYTES_MAX)
        return gp_fail(GP_ERR_PROTOCOL, "the peer offers %u frames of %u bytes",
                       peer->frames, peer->frame_bytes);
    /* It cannot have more than was sent, nor miss what its device has taken. */
    if (peer->next_frame - lane->done_frame >
        lane->next_frame - lane->done_frame)
        return gp_fail(GP_ERR_PROTOCOL,
                       "the peer expects frame %u, not one of %u to %u",
                       peer->next_frame, lane->done_frame, lane->next_frame);
    return GP_OK;
}

gp_status
gp_vb_lane_meet(gp_vb_lane *lane, const gp_vb_hello *peer)
{
    gp_status status = check_hello(lane, peer);

    if (status != GP_OK)
        return status;
    lane->peer_frames = peer->frames;
    lane->peer_frame_bytes = peer->frame_bytes;
    lane->frame_limit =
        GP_MIN(lane->ep->domain->frame_bytes, peer->frame_bytes);
    lane->imm = wants_imm(lane) && (peer->flags & GP_VB_HELLO_IMM) &&
                !(peer->flags & GP_VB_HELLO_IWARP);
    lane->brief = takes_brief(lane->ep->domain) &&
                  (peer->flags & GP_VB_HELLO_BRIEF) &&
                  lane->frame_limit >= GP_VB_BRIEF_MAX + 8;
    lane->cues = lane->cues && (peer->flags & GP_VB_HELLO_CUES);
    gp_vb_cues_reset(&lane->cued_out);
    lane->peer_ring = peer->ring_address;
    lane->peer_ring_key = peer->ring_key;
    lane->granted = peer->frames;
    gp_vb_remote_leave(lane);
    gp_vb_requeue(lane, peer->next_frame);
    lane->met = true;
    lane->adrift = false;
    gp_vb_short_prepare(lane);
    if (lane->brief && !lane->imm)
        gp_vb_watch_lane(lane);
    return gp_vb_greet(lane);
}

gp_status
gp_vb_lane_open(gp_vb_lane *lane)
{
    struct ibv_qp_attr attr = {.min_rnr_timer = MIN_RNR_TIMER};
    int error;

    error =
        lane->ep->domain->api->modify_qp(lane->qp, &attr, IBV_QP_MIN_RNR_TIMER);
    if (error)
        GP_DEBUG("verbs %s: min_rnr_timer: %s", lane->ep->peer,
                 strerror(error));
    return GP_OK;
}

/* All that was posted has completed. */
static bool
is_empty(const gp_vb_lane *lane)
{
    return lane->taken == lane->posted && lane->sq_polled == lane->sq_posted;
}

/* Where no last request could be posted, nothing for a while must do. */
static bool
drained(const gp_vb_lane *lane, bool marked, uint32_t quiet)
{
    return is_empty(lane) ||
           (lane->taken == lane->posted && !marked && quiet > 1000);
}

/* Takes what the queue pair still completes; all the peer had sent to it that
 * arrived counts as received. False: it is not known to be in error, or kept
 * something. */
static bool
drain(gp_vb_lane *lane)
{
    struct ibv_qp_attr attr = {.qp_state = IBV_QPS_ERR};
    uint64_t deadline = gp_clock_ns() + GP_VB_DRAIN_NS;
    uint32_t quiet = 0;
    bool marked;
    int error;

    error = lane->ep->domain->api->modify_qp(lane->qp, &attr, IBV_QP_STATE);
    if (error) {
        GP_DEBUG("verbs %s: queue pair to ERR: %s", lane->ep->peer,
                 strerror(error));
        return false;
    }
    /* Without a request that fails nothing tells that the unsignaled ones
     * before it have ended. */
    marked = gp_vb_post_drain(lane);
    while (!drained(lane, marked, quiet)) {
        int n = gp_vb_poll_batch(lane->cq);

        if (n < 0)
            break;
        quiet = n ? 0 : quiet + 1;
        if (n == 0 && (lane->device->gone || lane->cq->broken))
            break; /* nothing ends on it any more */
        if (n == 0) {
            if (gp_expired(deadline)) {
                GP_WARN("verbs %s: a queue pair kept %u requests and %u "
                        "receives",
                        lane->ep->peer, lane->sq_posted - lane->sq_polled,
                        lane->posted - lane->taken);
                break;
            }
            sched_yield();
        }
    }
    return is_empty(lane);
}

static void
fence(gp_vb_lane *lane, bool keeps_qp)
{
    gp_vb_unwatch_lane(lane);
    for (uint32_t i = 0; lane->qp && i < lane->rx_frames; i++)
        lane->buffers[i].released = false; /* it takes no receives any more */
    if (lane->qp) {
        keeps_qp &= drain(lane);
        gp_vb_windows_drop(lane);
        if (!keeps_qp)
            lane->ep->domain->api->rdma_destroy_qp(lane->id);
        lane->qp = NULL; /* completions that come late find nobody */
        (void)gp_vb_received_keep(lane);
    }
    if (lane->cq && !keeps_qp) {
        gp_vb_cq_leave(lane->cq, lane->cq_reserved);
        lane->cq = NULL;
        lane->cq_reserved = 0;
    }
    gp_list_remove(&lane->broken);
    lane->synced = false;
}

void
gp_vb_lane_fence(gp_vb_lane *lane)
{
    fence(lane, false);
}

void
gp_vb_lane_still(gp_vb_lane *lane)
{
    fence(lane, true);
}

void
gp_vb_lane_forget(gp_vb_lane *lane, uint32_t next_frame)
{
    if (next_frame - lane->done_frame > lane->next_frame - lane->done_frame) {
        gp_vb_ep_fail(lane->ep, GP_ERR_PROTOCOL,
                      "the peer says that frame %u of lane %u is next, which "
                      "sent %u",
                      next_frame, lane->index, lane->next_frame);
        return;
    }
    gp_vb_requeue(lane, next_frame);
}

void
gp_vb_lane_free(gp_vb_lane *lane)
{
    gp_domain *d = lane->ep->domain;

    gp_vb_lane_fence(lane);
    gp_vb_received_drop(lane);
    d->lanes[lane->slot] = NULL;
    free(lane->buffers);
    free(lane->copies);
    free(lane->briefs);
    free(lane->order);
    free(lane->tx_end);
    gp_vb_cues_free(&lane->cued_out);
    gp_vb_cues_free(&lane->cued_in);
    free(lane);
}

void
gp_vb_slab_free(gp_endpoint *ep)
{
    for (uint32_t i = 0; i < GP_VB_PATH_MAX; i++) {
        if (ep->slab_mr[i])
            (void)ep->domain->api->dereg_mr(ep->slab_mr[i]);
        if (ep->ring_mr[i])
            (void)ep->domain->api->dereg_mr(ep->ring_mr[i]);
        ep->slab_mr[i] = ep->ring_mr[i] = NULL;
    }
    free(ep->slab);
    ep->slab = NULL;
}

#endif
