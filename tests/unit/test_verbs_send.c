/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_verbs_send.c - what is handed to a queue pair: lists of requests, places
 * of the send queue, receives of the peer, and the way back.
 *
 * There is no device: a table whose post_send() keeps what it is given, and a
 * lane that is up because this file says so.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#ifdef GP_HAVE_VERBS

#include <errno.h>

#include "base/bytes.h"
#include "transports/verbs/verbs_entry.h"

#define FRAME  1024u
#define FRAMES 16u
#define DEPTH  64u
#define TOKEN  0x00100001u
#define PIECE  4096u
#define REGION (1u << 20)
#define REMOTE UINT64_C(0x7000000)

/* What post_send() was given. */
typedef struct posted {
    struct ibv_send_wr wr;
    uint64_t address;
    uint32_t length, doorbell;
} posted;

static posted log_of[4096];
static uint32_t logged, doorbells, fail_after;

static int
post_send(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad)
{
    (void)qp;
    doorbells++;
    for (; wr; wr = wr->next) {
        posted *p = &log_of[logged];

        if (fail_after && logged + 1 > fail_after) {
            *bad = wr;
            return ENOMEM;
        }
        assert_true(logged < GP_COUNT_OF(log_of));
        *p = (posted){.wr = *wr, .doorbell = doorbells};
        if (wr->num_sge == 1) {
            p->address = wr->sg_list->addr;
            p->length = wr->sg_list->length;
        }
        logged++;
    }
    return 0;
}

static struct ibv_mr *
reg_mr(struct ibv_pd *pd, void *base, size_t length, int access)
{
    struct ibv_mr *mr = calloc(1, sizeof(*mr));

    (void)access;
    if (mr)
        *mr = (struct ibv_mr){
            .pd = pd, .addr = base, .length = length, .lkey = 77};
    return mr;
}

static int
dereg_mr(struct ibv_mr *mr)
{
    free(mr);
    return 0;
}

static const gp_verbs_api api = {
    .post_send = post_send, .reg_mr = reg_mr, .dereg_mr = dereg_mr};

typedef struct fixture {
    gp_domain d;
    gp_endpoint ep;
    gp_vb_lane lane;
    gp_vb_device device;
    gp_vb_pd pd;
    struct ibv_pd ibv_pd;
    struct ibv_qp qp;
    struct ibv_mr mr;
    uint8_t tx[FRAMES * FRAME];
    uint32_t tx_end[FRAMES];
    uint8_t memory[REGION];
    gp_mem *mem;
} fixture;

static void
expose(fixture *f)
{
    uint8_t bytes[24];

    gp_put32(bytes, TOKEN);
    gp_put32(bytes + 4, 4711);
    gp_put64(bytes + 8, REMOTE);
    gp_put64(bytes + 16, REGION);
    assert_int_equal(gp_vb_remote_set(&f->lane, 1, bytes, sizeof(bytes)),
                     GP_OK);
}

static void
init_lists(fixture *f)
{
    gp_list *lists[] = {
        &f->d.ready,         &f->d.broken,    &f->d.held,
        &f->d.mems,          &f->d.endpoints, &f->d.lingering,
        &f->d.retired,       &f->ep.ready,    &f->ep.control.waiting,
        &f->ep.data.waiting, &f->ep.notes,    &f->ep.free_entries,
        &f->ep.sent,         &f->ep.received, &f->lane.notes,
        &f->lane.data,       &f->lane.flying, &f->lane.broken};

    for (size_t i = 0; i < GP_COUNT_OF(lists); i++)
        gp_list_init(lists[i]);
}

static void
init_lane(fixture *f)
{
    gp_vb_lane *lane = &f->lane;

    lane->ep = &f->ep;
    lane->qp = &f->qp;
    lane->device = &f->device;
    lane->pd = &f->pd;
    lane->tx_mr = lane->rx_mr = &f->mr;
    lane->state = GP_VB_LANE_UP;
    lane->tx = f->tx;
    lane->tx_end = f->tx_end;
    lane->tx_frames = lane->rx_frames = FRAMES;
    lane->sq_depth = DEPTH;
    lane->frame_limit = FRAME;
    lane->peer_frames = FRAMES;
    lane->piece = PIECE;
    lane->granted = FRAMES;
    lane->posted = lane->told = FRAMES;
    lane->max_inline = 224;
}

static fixture *
begin(void)
{
    fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    logged = doorbells = fail_after = 0;
    init_lists(f);
    init_lane(f);
    f->d.api = &api;
    f->d.frame_bytes = FRAME;
    f->d.frames = FRAMES;
    f->d.eager = 256;
    f->d.relaxed = -1;
    f->device.domain = &f->d;
    f->pd = (gp_vb_pd){.pd = &f->ibv_pd, .device = &f->device};
    f->ep.domain = &f->d;
    f->ep.state = GP_VB_OPEN;
    f->ep.lane_count = 1;
    f->ep.lane[0] = &f->lane;
    f->ep.pd[0] = &f->pd;
    assert_int_equal(gp_vb_mem_reg(&f->d, f->memory, REGION, &f->mem), GP_OK);
    expose(f);
    return f;
}

static void
end(fixture *f)
{
    gp_vb_mem_close(&f->ep);
    gp_vb_entries_free(&f->ep);
    gp_vb_mem_dereg(f->mem);
    free(f);
}

static void
post_data(fixture *f, uint64_t offset, uint64_t length, uint64_t cookie)
{
    gp_msg msg = {
        .type = 2, .region = TOKEN, .offset = offset, .payload = length};

    assert_int_equal(
        gp_vb_post(&f->ep, &msg, f->memory + offset, f->mem, cookie), GP_OK);
}

static void
post_control(fixture *f, uint64_t aux, uint64_t cookie)
{
    gp_msg msg = {.type = 1, .aux = aux};

    assert_int_equal(gp_vb_post(&f->ep, &msg, NULL, NULL, cookie), GP_OK);
}

static void
flush(fixture *f)
{
    assert_int_equal(gp_vb_flush(&f->ep), GP_OK);
}

/* The nth record of the frame in log_of[at]. */
static gp_vb_piece
record_of(uint32_t at, uint32_t nth)
{
    const uint8_t *bytes = (const uint8_t *)(uintptr_t)log_of[at].address;
    gp_vb_frame frame;
    gp_vb_piece r;
    size_t next = 0;

    assert_int_equal(gp_vb_frame_decode(bytes, log_of[at].length, &frame),
                     GP_OK);
    for (uint32_t i = 0; i <= nth; i++)
        assert_true(gp_vb_record_next(frame.records, frame.bytes, &next, &r));
    return r;
}

static bool
is_signaled(uint32_t at)
{
    return log_of[at].wr.send_flags & IBV_SEND_SIGNALED;
}

static void
retire(fixture *f)
{
    gp_vb_retire(&f->lane, f->lane.sq_posted);
}

static uint32_t
sent_events(fixture *f, uint64_t *cookies)
{
    gp_event events[64];
    gp_vb_out out = {events, 0, 64};

    gp_vb_report_sent(&f->ep, &out);
    for (int i = 0; i < out.count; i++)
        cookies[i] = events[i].cookie;
    return (uint32_t)out.count;
}

static void
one_doorbell(void **state)
{
    fixture *f = begin();
    uint64_t cookies[64];

    (void)state;
    for (uint64_t i = 0; i < 5; i++)
        post_data(f, i * PIECE, PIECE, i + 1);
    assert_int_equal(doorbells, 0);
    flush(f);
    assert_int_equal(doorbells, 1);
    assert_int_equal(logged, 6);
    for (uint32_t i = 0; i < 5; i++) {
        gp_msg msg;

        assert_int_equal(log_of[i].wr.opcode, IBV_WR_RDMA_WRITE);
        assert_int_equal(log_of[i].length, PIECE);
        assert_true(log_of[i].address == (uintptr_t)f->memory + i * PIECE);
        assert_true(log_of[i].wr.wr.rdma.remote_addr == REMOTE + i * PIECE);
        assert_int_equal(log_of[i].wr.wr.rdma.rkey, 4711);
        assert_false(is_signaled(i));
        assert_int_equal(record_of(5, i).kind, GP_VB_RECORD_DATA);
        assert_int_equal(gp_msg_decode(record_of(5, i).bytes, &msg), GP_OK);
        assert_true(msg.offset == i * PIECE);
    }
    assert_int_equal(log_of[5].wr.opcode, IBV_WR_SEND);
    assert_true(is_signaled(5));
    assert_int_equal(sent_events(f, cookies), 0);
    retire(f);
    assert_int_equal(sent_events(f, cookies), 5);
    for (uint32_t i = 0; i < 5; i++)
        assert_true(cookies[i] == i + 1);
    end(f);
}

static void
messages_in_pieces(void **state)
{
    fixture *f = begin();

    (void)state;
    post_data(f, 100, 2 * PIECE + 1, 0);
    flush(f);
    assert_int_equal(logged, 4);
    assert_int_equal(log_of[0].length, PIECE);
    assert_int_equal(log_of[1].length, PIECE);
    assert_int_equal(log_of[2].length, 1);
    assert_true(log_of[2].wr.wr.rdma.remote_addr == REMOTE + 100 + 2 * PIECE);
    /* No event was asked for, but the payload is borrowed. */
    assert_true(is_signaled(3));
    end(f);
}

static void
short_ones_travel_inline(void **state)
{
    fixture *f = begin();
    gp_vb_piece r;

    (void)state;
    memset(f->memory, 7, 64);
    post_data(f, 0, 64, 0);
    flush(f);
    assert_int_equal(logged, 1);
    assert_true(log_of[0].wr.send_flags & IBV_SEND_INLINE);
    r = record_of(0, 0);
    assert_int_equal(r.kind, GP_VB_RECORD_VALUE);
    assert_int_equal(r.length, GP_MSG_BYTES + 64);
    assert_memory_equal(r.bytes + GP_MSG_BYTES, f->memory, 64);
    post_data(f, 0, 200, 0);
    flush(f);
    assert_int_equal(log_of[1].wr.opcode, IBV_WR_SEND);
    assert_false(log_of[1].wr.send_flags & IBV_SEND_INLINE);
    end(f);
}

/* Control messages leave before data, and are signaled only by and by. */
static void
control_goes_first(void **state)
{
    fixture *f = begin();

    (void)state;
    post_data(f, 0, 64, 0);
    post_control(f, 1, 0);
    flush(f);
    assert_int_equal(logged, 1);
    assert_int_equal(gp_get32(record_of(0, 0).bytes + 64), 0);
    assert_int_equal(gp_get32(record_of(0, 1).bytes + 64), TOKEN);
    end(f);
}

static void
credits_keep_a_reserve(void **state)
{
    fixture *f = begin();
    uint32_t frames;

    (void)state;
    for (uint64_t i = 0; i < FRAMES + 4; i++) {
        post_control(f, i, 0);
        flush(f);
        retire(f);
    }
    assert_int_equal(f->lane.sent_frames, FRAMES - GP_VB_RESERVE);
    frames = f->lane.sent_frames;
    /* Receives are told all the same. */
    f->lane.posted += FRAMES / 2;
    gp_vb_credit(&f->lane);
    assert_int_equal(f->lane.sent_frames, frames + 1);
    assert_int_equal(log_of[logged - 1].length, GP_VB_FRAME_HEADER);
    gp_vb_credit(&f->lane);
    assert_int_equal(f->lane.sent_frames, frames + 1);
    /* A word of the peer lets the rest go, together. */
    f->lane.granted += 5;
    flush(f);
    assert_int_equal(f->lane.sent_frames, frames + 2);
    assert_true(gp_list_empty(&f->ep.control.waiting));
    end(f);
}

static void
farewell_uses_the_reserve(void **state)
{
    fixture *f = begin();

    (void)state;
    f->lane.granted = GP_VB_RESERVE;
    post_control(f, 1, 0);
    flush(f);
    assert_int_equal(logged, 0);
    f->lane.granted++;
    flush(f);
    assert_int_equal(logged, 1);
    assert_int_equal(gp_vb_note(&f->ep, GP_VB_RECORD_BYE, 0, NULL, 0), GP_OK);
    assert_true(gp_vb_has_unsent(&f->ep));
    gp_vb_send(&f->ep);
    assert_int_equal(logged, 2);
    assert_int_equal(record_of(1, 0).kind, GP_VB_RECORD_BYE);
    assert_true(is_signaled(1));
    retire(f);
    assert_false(gp_vb_has_unsent(&f->ep));
    end(f);
}

/* Never more requests than places, and always one coming that is signaled. */
static void
places_are_counted(void **state)
{
    fixture *f = begin();
    uint32_t silent = 0;

    (void)state;
    f->lane.granted = f->lane.peer_frames = 1000;
    for (uint64_t i = 0; i < 3; i++)
        post_data(f, 0, 50 * PIECE, i + 1);
    flush(f);
    while (!gp_list_empty(&f->lane.data)) {
        uint32_t used = f->lane.sq_posted - f->lane.sq_retired, last = logged;

        assert_in_range(used, DEPTH * 3 / 4, DEPTH - 1);
        while (!is_signaled(--last))
            ;
        gp_vb_retire(&f->lane, gp_vb_wr_index(log_of[last].wr.wr_id));
        flush(f);
    }
    for (uint32_t i = 0; i < logged; i++) {
        silent = is_signaled(i) ? 0 : silent + 1;
        assert_true(silent < DEPTH);
        assert_int_equal(gp_vb_wr_index(log_of[i].wr.wr_id), i + 1);
    }
    assert_int_equal(logged, 3 * 50 + 3);
    end(f);
}

/* The device takes two of six: those are under way, the lane is given up. */
static void
list_taken_in_part(void **state)
{
    fixture *f = begin();

    (void)state;
    for (uint64_t i = 0; i < 5; i++)
        post_data(f, 0, PIECE, i + 1);
    fail_after = 2;
    flush(f);
    assert_int_equal(f->lane.sq_posted, 2);
    assert_false(gp_list_empty(&f->lane.broken));
    assert_int_equal(f->lane.broken_status, GP_ERR_SYSTEM);
    /* Nothing more is tried on it. */
    flush(f);
    assert_int_equal(doorbells, 1);
    end(f);
}

static void
what_is_lost_goes_again(void **state)
{
    fixture *f = begin();
    uint64_t cookies[64];

    (void)state;
    for (uint64_t i = 0; i < 6; i++) {
        post_control(f, i, i + 1);
        flush(f);
    }
    post_data(f, 0, 3 * PIECE, 7);
    flush(f);
    assert_int_equal(f->lane.next_frame, 7);
    /* The peer has the first two. */
    logged = 0;
    gp_vb_requeue(&f->lane, 2);
    assert_int_equal(sent_events(f, cookies), 2);
    assert_true(cookies[0] == 1 && cookies[1] == 2);
    f->lane.sent_frames = 0;
    f->lane.sq_posted = f->lane.sq_retired = 0;
    flush(f);
    assert_int_equal(logged, 4);
    for (uint32_t i = 0; i < 4; i++)
        assert_true(gp_get64(record_of(3, i).bytes + 96) == i + 2);
    assert_int_equal(record_of(3, 4).kind, GP_VB_RECORD_DATA);
    assert_int_equal(f->lane.next_frame, 3);
    retire(f);
    assert_int_equal(sent_events(f, cookies), 5);
    assert_int_equal(f->ep.control.count + f->ep.data.count, 0);
    end(f);
}

static void
withdrawn_is_not_sent(void **state)
{
    fixture *f = begin();
    uint64_t cookies[64];
    uint8_t bytes[4];

    (void)state;
    post_data(f, 0, PIECE, 9);
    gp_put32(bytes, TOKEN);
    assert_int_equal(gp_vb_remote_clear(&f->ep, bytes, sizeof(bytes)), GP_OK);
    flush(f);
    assert_int_equal(logged, 0);
    assert_int_equal(sent_events(f, cookies), 1);
    assert_true(cookies[0] == 9);
    /* Withdrawn is for good. */
    expose(f);
    post_data(f, 0, PIECE, 10);
    flush(f);
    assert_int_equal(logged, 0);
    end(f);
}

/* A region the peer never told of: the payload travels in frames. */
static void
unknown_goes_by_value(void **state)
{
    fixture *f = begin();
    gp_msg msg = {.type = 2, .region = TOKEN + 1, .payload = 3000};
    size_t total = 0;

    (void)state;
    assert_int_equal(gp_vb_post(&f->ep, &msg, f->memory, f->mem, 1), GP_OK);
    post_control(f, 1, 0);
    flush(f);
    for (uint32_t i = 0; i < logged; i++) {
        gp_vb_piece r = record_of(i, i == 0);

        assert_int_equal(log_of[i].wr.opcode, IBV_WR_SEND);
        assert_int_equal(r.kind, i ? GP_VB_RECORD_MORE : GP_VB_RECORD_VALUE);
        total += r.length;
    }
    assert_int_equal(total, GP_MSG_BYTES + 3000);
    end(f);
}

static void
unregistered_is_copied(void **state)
{
    size_t length = 3u << 20;
    uint8_t *source = malloc(length);
    fixture *f = begin();
    gp_msg msg = {.type = 2, .region = TOKEN, .payload = REGION};
    uint64_t cookies[64], moved = 0;

    (void)state;
    assert_non_null(source);
    memset(source, 3, length);
    f->lane.piece = REGION;
    assert_int_equal(gp_vb_post(&f->ep, &msg, source, NULL, 1), GP_OK);
    assert_int_equal(gp_vb_post(&f->ep, &msg, source, NULL, 2), GP_OK);
    for (int i = 0; i < 20; i++) {
        flush(f);
        retire(f);
    }
    for (uint32_t i = 0; i < logged; i++)
        if (log_of[i].wr.opcode == IBV_WR_RDMA_WRITE) {
            assert_false(log_of[i].address >= (uintptr_t)source &&
                         log_of[i].address < (uintptr_t)source + length);
            assert_int_equal(*(uint8_t *)(uintptr_t)log_of[i].address, 3);
            moved += log_of[i].length;
        }
    assert_true(moved == 2 * (uint64_t)REGION);
    assert_true(f->d.bounced_bytes == moved);
    assert_int_equal(sent_events(f, cookies), 2);
    end(f);
    free(source);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_doorbell),
        cmocka_unit_test(messages_in_pieces),
        cmocka_unit_test(short_ones_travel_inline),
        cmocka_unit_test(control_goes_first),
        cmocka_unit_test(credits_keep_a_reserve),
        cmocka_unit_test(farewell_uses_the_reserve),
        cmocka_unit_test(places_are_counted),
        cmocka_unit_test(list_taken_in_part),
        cmocka_unit_test(what_is_lost_goes_again),
        cmocka_unit_test(withdrawn_is_not_sent),
        cmocka_unit_test(unknown_goes_by_value),
        cmocka_unit_test(unregistered_is_copied),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

int
main(void)
{
    puts("skipped: this build has no verbs");
    return 77;
}

#endif
