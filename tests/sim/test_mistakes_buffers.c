/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_mistakes_buffers.c - classic mistakes with verbs, part one: buffers and
 * the order of things. Cases have the number of the mistake in the list of
 * mistakes.md. Each puts the transport where that mistake would bite.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/sim/world.h"
#include "transports/verbs/verbs_int.h"

#define KIB 1024u

static const char *const four_lanes[] = {"ib_qps", "4", "ib_eager", "0", NULL};
static const char *const imm[] = {"ib_notify", "imm", NULL};

/* SENT says that a buffer is free, and it is: it is used again at once. */
static void
reuse_when_sent(const gp_sim_options *fabric, const char *const *settings)
{
    world w;
    area out, in;

    world_connected(&w, fabric, settings);
    area_make(&w, &out, &w.r.a, 64 * KIB);
    area_expose(&w, &in, &w.r.b, 64 * KIB);
    for (uint64_t i = 1; i <= 40; i++) {
        size_t bytes = 100 + (size_t)i * 1000;

        fill_pattern(out.bytes, bytes, i);
        push(&w, &out, &in, 0, bytes, i);
        await(&w.r, &w.r.a, GP_EVENT_SENT, (size_t)i);
        memset(out.bytes, 0xAA, out.length);
        arrived(&w, &w.r.b, (size_t)i);
        assert_pattern(in.bytes, bytes, i);
    }
    world_close(&w);
}

static void
item_01_buffers_are_free_when_sent_says_so(void **state)
{
    const gp_sim_options late = {.late_acks = true, .step = true};
    const gp_sim_options shuffled = {.seed = 5, .shuffle = true, .step = true};

    (void)state;
    reuse_when_sent(&late, NULL);
    reuse_when_sent(&shuffled, NULL);
    reuse_when_sent(&late, imm);
    reuse_when_sent(&shuffled, four_lanes);
}

/* A closed endpoint gives payloads back at once, though a device was reading
 * them a moment ago. */
static void
item_01_buffers_are_free_after_close(void **state)
{
    const gp_sim_options late = {
        .seed = 6, .shuffle = true, .late_acks = true, .step = true};
    world w;
    area out, in;

    (void)state;
    for (int turns = 0; turns < 60; turns += 3) {
        world_connected(&w, &late, four_lanes);
        area_make(&w, &out, &w.r.a, 256 * KIB);
        area_expose(&w, &in, &w.r.b, 256 * KIB);
        settle(&w.r);
        for (uint64_t i = 0; i < 8; i++)
            push(&w, &out, &in, (size_t)i * 32 * KIB, 32 * KIB, i + 1);
        for (int i = 0; i < turns; i++)
            pump(&w.r);
        w.r.ops->ep_close(w.r.a.ep);
        memset(out.bytes, 0xAA, out.length);
        area_free(&w, &out);
        settle(&w.r);
        world_close(&w);
    }
}

/* What the peer withdrew is written no more, whatever is under way. */
static void
item_01_regions_are_free_when_withdrawn(void **state)
{
    const gp_sim_options slow = {.seed = 8, .shuffle = true, .step = true};
    world w;
    area out, in;

    (void)state;
    for (int turns = 0; turns < 60; turns += 3) {
        world_connected(&w, &slow, NULL);
        area_make(&w, &out, &w.r.a, 128 * KIB);
        area_expose(&w, &in, &w.r.b, 128 * KIB);
        settle(&w.r);
        push(&w, &out, &in, 0, 128 * KIB, 1);
        for (int i = 0; i < turns; i++)
            pump(&w.r);
        w.r.ops->unexpose(w.r.b.ep, in.token);
        memset(in.bytes, 0x11, in.length);
        settle(&w.r);
        for (size_t i = 0; i < in.length; i++)
            assert_int_equal(in.bytes[i], 0x11);
        world_close(&w);
    }
}

/* The acknowledgement of the last requests is lost: they arrived, and the
 * sender is told they failed. Each is delivered, once. */
static void
exactly_once(uint64_t after, bool delivered, const char *const *settings)
{
    const gp_sim_options options = {.step = true, .seed = after};
    world w;
    area out, in;
    unsigned char times[50] = {0};

    world_connected(&w, &options, settings);
    area_make(&w, &out, &w.r.a, 50 * KIB);
    area_expose(&w, &in, &w.r.b, 50 * KIB);
    settle(&w.r);
    gp_sim_break_qp(w.sim, &(gp_sim_break){.process = w.a,
                                           .after_wrs = after,
                                           .delivered = delivered});
    fill_pattern(out.bytes, out.length, after);
    for (uint64_t i = 0; i < 50; i++)
        push(&w, &out, &in, (size_t)i * KIB, KIB, i + 1);
    arrived(&w, &w.r.b, 50);
    await(&w.r, &w.r.a, GP_EVENT_SENT, 50);
    settle(&w.r);
    assert_int_equal(side_count(&w.r.b, GP_EVENT_MESSAGE), 50);
    assert_int_equal(side_count(&w.r.a, GP_EVENT_SENT), 50);
    for (size_t i = 0; i < 50; i++)
        times[side_nth(&w.r.b, GP_EVENT_MESSAGE, i)->event.msg.offset / KIB]++;
    for (size_t i = 0; i < 50; i++)
        assert_int_equal(times[i], 1);
    assert_pattern(in.bytes, in.length, after);
    assert_int_equal(stats_of(&w).lost_acks, delivered);
    world_close(&w);
}

static void
item_02_65_lost_acknowledgements_repeat_nothing(void **state)
{
    (void)state;
    for (uint64_t after = 0; after < 60; after += 7) {
        exactly_once(after, true, NULL);
        exactly_once(after, false, NULL);
    }
    exactly_once(10, true, imm);
    exactly_once(20, true, four_lanes);
    exactly_once(20, false, four_lanes);
}

/* A message is reported when all of its payload is there, in whatever order
 * its pieces and those of other queue pairs landed. */
static void
whole_payloads(uint64_t seed, const char *const *settings)
{
    const gp_sim_options slow = {
        .seed = seed, .shuffle = true, .piece = 512, .step = true};
    world w;
    area out, in;

    world_connected(&w, &slow, settings);
    area_make(&w, &out, &w.r.a, 160 * KIB);
    area_expose(&w, &in, &w.r.b, 160 * KIB);
    fill_pattern(out.bytes, out.length, seed);
    for (uint64_t i = 0; i < 16; i++)
        push(&w, &out, &in, (size_t)i * 10 * KIB, 10 * KIB, i + 1);
    for (size_t i = 0; i < 16; i++) {
        const gp_msg *msg;

        arrived(&w, &w.r.b, i + 1);
        msg = &side_nth(&w.r.b, GP_EVENT_MESSAGE, i)->event.msg;
        assert_memory_equal(in.bytes + msg->offset, out.bytes + msg->offset,
                            10 * KIB);
    }
    assert_true(stats_of(&w).pieces > 16);
    world_close(&w);
}

static void
item_03_payloads_are_whole_when_reported(void **state)
{
    (void)state;
    whole_payloads(1, NULL);
    whole_payloads(2, imm);
}

static void
item_04_queue_pairs_have_no_order(void **state)
{
    (void)state;
    for (uint64_t seed = 10; seed < 14; seed++)
        whole_payloads(seed, four_lanes);
}

static bool
all_four(world *w)
{
    return lanes_up(w->r.a.ep) == 4 && lanes_up(w->r.b.ep) == 4;
}

/* Control messages keep theirs though every one leaves on another queue pair
 * than the last. */
static void
item_04_control_keeps_its_order_all_the_same(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 9; seed++) {
        const gp_sim_options options = {
            .step = true, .seed = seed, .shuffle = true, .late_acks = true};
        world w;

        world_connected(&w, &options, four_lanes);
        pump_until(&w, all_four);
        for (uint64_t i = 0; i < 60; i++) {
            w.r.a.ep->control_lane = (uint32_t)(i % 4);
            send_control(&w.r, &w.r.a, i);
            if (i % 5 == 0)
                pump(&w.r);
        }
        arrived(&w, &w.r.b, 60);
        for (uint64_t i = 0; i < 60; i++)
            assert_true(
                side_nth(&w.r.b, GP_EVENT_MESSAGE, (size_t)i)->event.msg.aux ==
                i);
        world_close(&w);
    }
}

/* Completions of a queue pair that is gone stay in the completion queue; what
 * they name may be gone too. */
static void
late_completions(bool clean)
{
    const gp_sim_options options = {.step = true,
                                    .seed = 9,
                                    .shuffle = true,
                                    .late_acks = true,
                                    .clean_cq = clean};
    static const char *const settings[] = {"ib_qps", "4", "ib_reconnect", "0",
                                           NULL};
    gp_endpoint *again = NULL;
    world w;
    area out, in;

    world_connected(&w, &options, settings);
    area_make(&w, &out, &w.r.a, 64 * KIB);
    for (int round = 0; round < 5; round++) {
        area_expose(&w, &in, &w.r.b, 64 * KIB);
        for (uint64_t i = 0; i < 32; i++)
            push(&w, &out, &in, (size_t)i * 2 * KIB, 2 * KIB, i + 1);
        for (int i = 0; i < 10 * round; i++)
            pump(&w.r);
        w.r.ops->ep_close(w.r.a.ep);
        (void)ended(&w, &w.r.b);
        w.r.ops->ep_close(w.r.b.ep);
        area_free(&w, &in);
        side_forget(&w.r.a);
        side_forget(&w.r.b);
        assert_int_equal(
            w.r.ops->connect(w.r.a.domain, w.r.bound, test_deadline(), &again),
            GP_OK);
        await(&w.r, &w.r.a, GP_EVENT_CONNECTED, 1);
        await(&w.r, &w.r.b, GP_EVENT_ACCEPTED, 1);
    }
    world_close(&w);
}

static void
item_13_completions_outlive_their_queue_pair(void **state)
{
    (void)state;
    late_completions(false);
    late_completions(true);
}

static bool
is_back(world *w)
{
    return w->r.a.domain->reconnects == 1 && lanes_up(w->r.a.ep) == 1;
}

/* A lane's next queue pair has the slot of the last, and is not meant by what
 * that one still completes. */
static void
item_13_a_slot_is_not_an_identity(void **state)
{
    const gp_sim_options options = {.step = true};
    const gp_vb_lane *lane;
    uint64_t old, now;
    world w;

    (void)state;
    world_connected(&w, &options, NULL);
    lane = w.r.a.ep->lane[0];
    old = gp_vb_wr_id(lane, GP_VB_WR_FRAME, 1);
    assert_ptr_equal(gp_vb_wr_lane(w.r.a.domain, old), lane);
    gp_sim_async(w.sim, w.a, IBV_EVENT_QP_FATAL);
    pump_until(&w, is_back);
    assert_ptr_equal(w.r.a.ep->lane[0], lane);
    now = gp_vb_wr_id(lane, GP_VB_WR_FRAME, 1);
    assert_null(gp_vb_wr_lane(w.r.a.domain, old));
    assert_ptr_equal(gp_vb_wr_lane(w.r.a.domain, now), lane);
    world_close(&w);
}

typedef struct imm_log {
    uint32_t next[2];
    size_t count, wrong;
} imm_log;

static void
watch_imm(void *user, enum ibv_wr_opcode opcode, uint32_t imm_be,
          const void *bytes, size_t length)
{
    imm_log *log = user;
    uint32_t number = be32toh(imm_be);

    (void)bytes;
    (void)length;
    if (opcode != IBV_WR_RDMA_WRITE_WITH_IMM)
        return;
    log->count++;
    /* Frames of both directions, each counting up from 0. */
    if (number == log->next[0])
        log->next[0]++;
    else if (number == log->next[1])
        log->next[1]++;
    else
        log->wrong++;
}

static void
item_15_immediate_data_is_big_endian(void **state)
{
    const gp_sim_options options = {.step = true};
    imm_log log = {{0, 0}, 0, 0};
    world w;
    area out, in;

    (void)state;
    world_open(&w, &options, imm);
    gp_sim_observe(w.sim, watch_imm, &log);
    rig_connect(&w.r);
    side_forget(&w.r.b);
    area_make(&w, &out, &w.r.a, 8 * KIB);
    area_expose(&w, &in, &w.r.b, 8 * KIB);
    for (uint64_t i = 0; i < 300; i++) {
        push(&w, &out, &in, 0, 8 * KIB, i + 1);
        arrived(&w, &w.r.b, (size_t)i + 1);
    }
    assert_int_equal(log.wrong, 0);
    assert_true(log.count >= 300);
    world_close(&w);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(item_01_buffers_are_free_when_sent_says_so),
        cmocka_unit_test(item_01_buffers_are_free_after_close),
        cmocka_unit_test(item_01_regions_are_free_when_withdrawn),
        cmocka_unit_test(item_02_65_lost_acknowledgements_repeat_nothing),
        cmocka_unit_test(item_03_payloads_are_whole_when_reported),
        cmocka_unit_test(item_04_queue_pairs_have_no_order),
        cmocka_unit_test(item_04_control_keeps_its_order_all_the_same),
        cmocka_unit_test(item_13_completions_outlive_their_queue_pair),
        cmocka_unit_test(item_13_a_slot_is_not_an_identity),
        cmocka_unit_test(item_15_immediate_data_is_big_endian),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
