/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_verbs_frame.c - what a peer may send over verbs: frames, and the records
 * in them, up to the events they become.
 *
 * The first byte chooses. Bit 0: the rest is one frame as it is; otherwise
 * frames, message headers and cues are put together from the input, so that
 * checksums do not stop every try at the door. The endpoint is made up:
 * receives complete when this file says so, and nothing is sent.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "transports/verbs/verbs_early.h"

#define REGION 8192u
#define FRAME  2048u
#define FRAMES 4u
#define EVENTS 3

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct world {
    gp_domain d;
    gp_endpoint *ep;
    gp_vb_lane *lane;
    gp_vb_device device;
    gp_vb_cq cq;
    struct ibv_qp qp;
    struct ibv_mr mr;
    gp_mem mem;
    uint32_t live, stale;
    int max;
    uint64_t sum; /* of all that was delivered: reads every byte */
    _Alignas(8) uint8_t rx[FRAMES * FRAME];
    uint8_t memory[REGION];
} world;

/* The one completion there is. */
static struct ibv_wc next;
static bool pending;

static int
poll_cq(struct ibv_cq *cq, int count, struct ibv_wc *wc)
{
    (void)cq;
    (void)count;
    if (!pending)
        return 0;
    pending = false;
    *wc = next;
    return 1;
}

static int
post_recv(struct ibv_qp *qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad)
{
    (void)qp;
    (void)wr;
    (void)bad;
    return 0;
}

static int
post_send(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad)
{
    (void)qp;
    (void)wr;
    (void)bad;
    return 0;
}

static int
modify_qp(struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask)
{
    (void)qp;
    (void)attr;
    (void)mask;
    return EINVAL;
}

static int
query_qp(struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask,
         struct ibv_qp_init_attr *init)
{
    (void)qp;
    (void)attr;
    (void)mask;
    (void)init;
    return EINVAL;
}

static void
destroy_qp(struct rdma_cm_id *id)
{
    (void)id;
}

static const gp_verbs_api api = {.poll_cq = poll_cq,
                                 .post_recv = post_recv,
                                 .post_send = post_send,
                                 .modify_qp = modify_qp,
                                 .query_qp = query_qp,
                                 .rdma_destroy_qp = destroy_qp};

static void
need(bool condition)
{
    if (!condition)
        abort();
}

static void
open_domain(world *w, uint8_t choice)
{
    gp_list *lists[] = {&w->d.devices, &w->d.endpoints, &w->d.lingering,
                        &w->d.retired, &w->d.opened,    &w->d.closed,
                        &w->d.ready,   &w->d.held,      &w->d.broken,
                        &w->d.mems};

    for (size_t i = 0; i < GP_COUNT_OF(lists); i++)
        gp_list_init(lists[i]);
    w->d.api = &api;
    w->d.epoll_fd = w->d.timer_fd = -1;
    w->d.frame_bytes = FRAME;
    w->d.frames = FRAMES;
    w->d.checksum = choice & 4;
    w->device.domain = &w->d;
    w->cq.device = &w->device;
}

static void
open_lane(world *w, uint8_t choice)
{
    gp_vb_lane *lane = w->lane;

    lane->qp = &w->qp;
    lane->device = &w->device;
    lane->tx_mr = lane->rx_mr = &w->mr;
    lane->rx = w->rx;
    lane->rx_frames = lane->tx_frames = FRAMES;
    lane->peer_frames = FRAMES;
    lane->sq_depth = 1; /* no place for anything */
    lane->state = GP_VB_LANE_SYNCING;
    lane->opened = lane->met = true;
    lane->imm = choice & 16;
    lane->buffers = calloc(FRAMES, sizeof(*lane->buffers));
    lane->copies = calloc(FRAMES, FRAME);
    lane->order = calloc(FRAMES, sizeof(*lane->order));
    lane->briefs = calloc(FRAMES, GP_VB_BRIEF_MAX);
    lane->brief = choice & 32;
    lane->cues = choice & 64;
    lane->posted = lane->told = FRAMES;
    need(lane->buffers && lane->copies && lane->order && lane->briefs);
    for (uint32_t i = 0; i < FRAMES; i++) {
        gp_list_init(&lane->buffers[i].link);
        lane->buffers[i].lane = lane;
        lane->buffers[i].buffer = i;
        lane->order[i] = i;
    }
    if (lane->brief && !lane->imm)
        gp_vb_watch_lane(lane);
}

static world *
world_open(uint8_t choice)
{
    world *w = calloc(1, sizeof(*w));

    need(w);
    memset(w->memory, 0x5A, sizeof(w->memory));
    open_domain(w, choice);
    w->ep = gp_vb_ep_create(&w->d, 1);
    need(w->ep);
    w->ep->state = GP_VB_OPEN;
    w->ep->accepted = w->ep->announced = true;
    w->ep->trusted = choice & 2;
    w->lane = w->ep->lane[0];
    open_lane(w, choice);
    w->max = choice & 8 ? 1 : EVENTS;
    w->mem = (gp_mem){w->memory, REGION};
    need(gp_regions_expose(&w->ep->regions, &w->mem, 0, REGION, 0, &w->stale) ==
             GP_OK &&
         gp_regions_expose(&w->ep->regions, &w->mem, 16, REGION - 32, 0,
                           &w->live) == GP_OK);
    gp_regions_withdraw(&w->ep->regions, w->stale);
    return w;
}

static void
world_close(world *w)
{
    for (size_t i = 0; i < 16; i++)
        need(w->memory[i] == 0x5A && w->memory[REGION - 1 - i] == 0x5A);
    gp_vb_ep_free(w->ep);
    free(w->d.lanes);
    free(w);
}

static void
take_events(world *w)
{
    gp_event events[EVENTS];
    gp_vb_out out = {events, 0, w->max};

    gp_vb_renew(&w->d);
    gp_vb_deliver(w->ep, &out);
    for (int i = 0; i < out.count; i++)
        for (size_t k = 0; k < events[i].msg.payload; k++)
            w->sum += ((const uint8_t *)events[i].payload)[k];
}

/* A receive completes; false once the peer was cut off. */
static bool
complete(world *w, const struct ibv_wc *wc)
{
    next = *wc;
    pending = true;
    need(gp_vb_poll_batch(&w->cq) == 1);
    if (!gp_list_empty(&w->d.broken)) {
        gp_list_remove(&w->lane->broken);
        return false;
    }
    for (int i = 0; i < 200 && gp_vb_has_received(w->ep); i++)
        take_events(w);
    need(!gp_vb_has_received(w->ep));
    return w->ep->state == GP_VB_OPEN && w->lane->qp;
}

/* A cue arrives, of the right frame mostly: its payload was written before. */
static bool
arrive_cue(world *w, gp_reader *r)
{
    gp_vb_lane *lane = w->lane;
    uint32_t cue = gp_read32(r), at = lane->order[lane->arrived % FRAMES];

    if (cue & 0x8000)
        cue = (cue & 0x1FFFFFFF) | lane->expected << 29;
    return complete(
        w, &(struct ibv_wc){.wr_id = gp_vb_wr_id(lane, GP_VB_WR_RECEIVE, at),
                            .opcode = IBV_WC_RECV_RDMA_WITH_IMM,
                            .byte_len = cue >> 8,
                            .wc_flags = IBV_WC_WITH_IMM,
                            .imm_data = htobe32(cue)});
}

/* A frame arrives. */
static bool
arrive(world *w, const uint8_t *frame, size_t length)
{
    gp_vb_lane *lane = w->lane;
    uint32_t at = lane->imm ? lane->expected % FRAMES
                            : lane->order[lane->arrived % FRAMES];

    memcpy(w->rx + at * FRAME, frame, length);
    if (w->d.watched_count) /* sees it before its completion, if it is brief */
        (void)gp_vb_look(lane, 1, NULL, 0);
    return complete(
        w, &(struct ibv_wc){.wr_id = gp_vb_wr_id(w->lane, GP_VB_WR_RECEIVE, at),
                            .byte_len = (uint32_t)length,
                            .wc_flags = lane->imm ? IBV_WC_WITH_IMM : 0,
                            .imm_data = htobe32(lane->expected)});
}

static size_t
add_message(world *w, gp_reader *r, uint8_t kind, uint8_t *out, size_t room)
{
    gp_msg msg = {.type = 1};
    uint8_t shape = gp_read8(r), shift = gp_read8(r);
    size_t length = gp_read16(r);
    const uint8_t *payload;

    msg.region = shape & 1   ? w->live
                 : shape & 2 ? w->stale
                             : (uint32_t)shape >> 4;
    msg.chunk = shape >> 4;
    msg.slot = shift >> 6;
    msg.offset = (uint64_t)gp_read16(r) << (shift & 63);
    msg.payload = gp_read16(r);
    if (shape & 4)
        msg.payload <<= shift & 63;
    length = GP_MIN(GP_MIN(length, r->left), room - GP_MSG_BYTES);
    payload = gp_read(r, length);
    if (shape & 8 && payload) {
        msg.flags = GP_MSG_PAYLOAD_CRC;
        msg.payload_crc = gp_crc32c(0, payload, length);
    }
    gp_msg_encode(&msg, out);
    if (kind == GP_VB_RECORD_DATA || !payload)
        return GP_MSG_BYTES;
    memcpy(out + GP_MSG_BYTES, payload, length);
    return GP_MSG_BYTES + length;
}

/* One record; false when the frame is full or the input is at its end. */
static bool
add_record(world *w, gp_reader *r, uint8_t *out, size_t *used)
{
    size_t room = FRAME - GP_VB_FRAME_HEADER - *used, length;
    uint8_t *at = out + *used, kind = gp_read8(r);

    if (!r->ok || room < GP_VB_RECORD_HEADER + GP_MSG_BYTES + 64u)
        return false;
    if ((kind & 15) == GP_VB_RECORD_DATA || (kind & 15) == GP_VB_RECORD_VALUE) {
        length = add_message(w, r, kind & 15, at + GP_VB_RECORD_HEADER,
                             room - GP_VB_RECORD_HEADER);
    } else {
        const uint8_t *bytes;

        length = gp_read8(r);
        length = GP_MIN(length, GP_MIN(r->left, room / 2));
        bytes = gp_read(r, length);
        if (bytes)
            memcpy(at + GP_VB_RECORD_HEADER, bytes, length);
    }
    (void)gp_vb_record_begin(at, (gp_vb_record)(kind & 15), kind >> 4, length);
    *used += GP_VB_RECORD_HEADER + length;
    return !(kind & 0x80);
}

/* A brief frame, of which one byte may be wrong. */
static size_t
make_brief(world *w, gp_reader *r, uint32_t more, uint8_t *out)
{
    uint8_t bytes[GP_MSG_BYTES + GP_VB_BRIEF_PAYLOAD], wrong = gp_read8(r);
    size_t used = add_message(w, r, GP_VB_RECORD_VALUE, bytes, sizeof(bytes));
    gp_msg msg;

    need(gp_msg_decode(bytes, &msg) == GP_OK);
    msg.payload = used - GP_MSG_BYTES;
    msg.job = (uint64_t)wrong << 29;
    used = gp_vb_brief_encode(w->lane->expected, w->lane->granted + more, wrong,
                              &msg, bytes + GP_MSG_BYTES, out);
    if (wrong >= 0xC0)
        out[wrong % used] ^= gp_read8(r);
    return used;
}

static void
made_frames(world *w, const uint8_t *data, size_t size)
{
    gp_reader r = {data, size, true};
    _Alignas(8) uint8_t frame[FRAME];
    bool open = true;

    while (open && r.ok && r.left) {
        uint8_t granted = gp_read8(&r);
        size_t used = 0;

        memset(frame, 0, sizeof(frame));
        if ((granted & 0xC0) == 0x40 && !w->lane->imm) {
            open = arrive_cue(w, &r);
            continue;
        }
        if (granted & 0x80) {
            open = arrive(w, frame, make_brief(w, &r, granted & 7, frame));
            continue;
        }
        while (add_record(w, &r, frame + GP_VB_FRAME_HEADER, &used))
            ;
        gp_vb_frame_encode(w->lane->expected, w->lane->granted + (granted & 7),
                           used, frame);
        open = arrive(w, frame, GP_VB_FRAME_HEADER + used);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    world *w;

    if (!size)
        return 0;
    atomic_store(&gp_log_threshold, GP_LOG_ERROR);
    w = world_open(data[0]);
    if (!(data[0] & 1))
        made_frames(w, data + 1, size - 1);
    else if (size - 1 <= FRAME)
        (void)arrive(w, data + 1, size - 1);
    world_close(w);
    return 0;
}
