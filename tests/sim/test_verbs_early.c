/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_verbs_early.c - frames that are taken from a receive buffer before their
 * completion came: once, whole, and with nothing lost when it comes late.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "tests/sim/world.h"
#include "transports/verbs/verbs_int.h"

#define MANY 500

/* One message each way at a time; more than there are receives. */
static void
back_and_forth(world *w, uint64_t count)
{
    for (uint64_t i = 1; i <= count; i++) {
        send_control(&w->r, &w->r.a, i);
        await(&w->r, &w->r.b, GP_EVENT_MESSAGE, (size_t)i);
        assert_true(
            side_nth(&w->r.b, GP_EVENT_MESSAGE, (size_t)i - 1)->event.msg.aux ==
            i);
        send_control(&w->r, &w->r.b, i);
        await(&w->r, &w->r.a, GP_EVENT_MESSAGE, (size_t)i);
    }
}

/* Receives come back to the peer although completions are late, in step and
 * with threads, whatever order things happen in. */
static void
completions_follow(void **state)
{
    static const gp_sim_options fabrics[] = {
        {.step = true},
        {.step = true, .shuffle = true, .late_acks = true, .seed = 5},
        {.seed = 7},
        {.shuffle = true, .spurious_events = true, .seed = 9},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(fabrics) / sizeof(fabrics[0]); i++) {
        world w;

        world_connected(&w, &fabrics[i], NULL);
        settle(&w.r);
        side_forget(&w.r.a);
        side_forget(&w.r.b);
        back_and_forth(&w, MANY);
        settle(&w.r);
        assert_int_equal(side_count(&w.r.b, GP_EVENT_MESSAGE), MANY);
        world_close(&w);
    }
}

static void
turn_for_a_while(world *w)
{
    for (int i = 0; i < 300; i++)
        pump(&w->r);
}

/* All completions that were held back come, and what follows from them. */
static void
settle_armed(world *w)
{
    for (int i = 0; i < 8; i++) {
        (void)w->r.ops->arm(w->r.a.domain);
        (void)w->r.ops->arm(w->r.b.domain);
        turn_for_a_while(w);
    }
}

static uint8_t *
next_buffer(const gp_vb_lane *lane)
{
    return lane->rx + (size_t)lane->order[lane->arrived % lane->rx_frames] *
                          lane->ep->domain->frame_bytes;
}

/* The device has written a part of a frame: what is seen is no message, and
 * neither is what lay there before. */
static void
parts_are_not_taken(void **state)
{
    static const gp_sim_options step = {.step = true};
    gp_msg msg = control_msg(1, 40);
    uint64_t frame[64] = {0};
    uint8_t payload[40];
    gp_vb_lane *lane;
    size_t n;
    world w;

    (void)state;
    world_connected(&w, &step, NULL);
    settle(&w.r);
    lane = w.r.b.ep->lane[0];
    memset(payload, 0x77, sizeof(payload));
    n = gp_vb_brief_encode(lane->expected, lane->granted, 0, &msg, payload,
                           (uint8_t *)frame);
    for (size_t missing = 0; missing < n / 8; missing++) {
        uint64_t *to = (uint64_t *)(void *)next_buffer(lane);

        memcpy(to, frame, n);
        to[missing] ^= 0xFF00;
        side_pump(&w.r.b);
        assert_int_equal(side_count(&w.r.b, GP_EVENT_MESSAGE), 0);
    }
    memcpy(next_buffer(lane), frame, n);
    ((uint32_t *)(void *)next_buffer(lane))[0]++; /* of another number */
    side_pump(&w.r.b);
    assert_int_equal(side_count(&w.r.b, GP_EVENT_MESSAGE), 0);
    send_control(&w.r, &w.r.a, 4);
    await(&w.r, &w.r.b, GP_EVENT_MESSAGE, 1);
    assert_true(side_nth(&w.r.b, GP_EVENT_MESSAGE, 0)->event.msg.aux == 4);
    world_close(&w);
}

/* A message is there before the completion of its receive is: who finds one in
 * memory asks for no completions in that call. */
static void
before_the_completion(void **state)
{
    static const gp_sim_options step = {.step = true};
    gp_vb_lane *lane;
    world w;

    (void)state;
    world_connected(&w, &step, NULL);
    settle(&w.r);
    lane = w.r.b.ep->lane[0];
    assert_true(lane->brief);
    for (uint64_t i = 1; i <= 10; i++) {
        uint32_t taken = lane->taken;

        send_control(&w.r, &w.r.a, i);
        gp_sim_settle(w.sim);
        side_pump(&w.r.b);
        assert_int_equal(side_count(&w.r.b, GP_EVENT_MESSAGE), i);
        assert_int_equal(lane->taken, taken);
        assert_true(
            lane->buffers[lane->order[(lane->arrived - 1) % lane->rx_frames]]
                .early);
        settle(&w.r);
        assert_int_equal(lane->taken, taken + 1);
        assert_int_equal(lane->posted - lane->taken, lane->rx_frames);
    }
    world_close(&w);
}

/* Completions come long after all messages were taken, and nothing else happens
 * on the connection: the peer hears that its receives are back. */
static void
receives_come_back_late(void **state)
{
    static const gp_sim_options late = {.step = true, .hold_completions = true};
    static const char *const few[] = {"ib_frames", "16", NULL};
    size_t taken;
    world w;

    (void)state;
    world_connected(&w, &late, few);
    settle_armed(&w);
    for (uint64_t i = 1; i <= 20; i++)
        send_control(&w.r, &w.r.a, i);
    turn_for_a_while(&w);
    taken = side_count(&w.r.b, GP_EVENT_MESSAGE);
    assert_in_range(taken, 8, 19);
    assert_in_range(w.r.b.ep->lane[0]->arrived - w.r.b.ep->lane[0]->taken, 8,
                    16);
    settle_armed(&w);
    assert_int_equal(side_count(&w.r.b, GP_EVENT_MESSAGE), 20);
    world_close(&w);
}

/* The queue pair breaks when a frame was taken and its completion is still to
 * come: it is not sent again. */
static void
a_lane_that_breaks_in_between(void **state)
{
    static const gp_sim_options step = {.step = true};
    uint64_t deadline = test_deadline();
    world w;

    (void)state;
    world_connected(&w, &step, NULL);
    settle(&w.r);
    send_control(&w.r, &w.r.a, 1);
    gp_sim_settle(w.sim);
    side_pump(&w.r.b);
    assert_int_equal(side_count(&w.r.b, GP_EVENT_MESSAGE), 1);
    assert_true(w.r.b.ep->lane[0]->taken != w.r.b.ep->lane[0]->arrived);
    gp_sim_async(w.sim, w.b, IBV_EVENT_QP_FATAL);
    while (!w.r.a.domain->reconnects || lanes_up(w.r.a.ep) != 1 ||
           lanes_up(w.r.b.ep) != 1) {
        assert_false(gp_expired(deadline));
        pump(&w.r);
    }
    send_control(&w.r, &w.r.a, 2);
    await(&w.r, &w.r.b, GP_EVENT_MESSAGE, 2);
    settle(&w.r);
    assert_int_equal(side_count(&w.r.b, GP_EVENT_MESSAGE), 2);
    assert_true(side_nth(&w.r.b, GP_EVENT_MESSAGE, 1)->event.msg.aux == 2);
    world_close(&w);
}

/* More connections than are looked at: the others go by completions. */
static void
too_many_to_look_at(void **state)
{
    static const char *const lanes[] = {"ib_qps", "12", NULL};
    world w;

    (void)state;
    world_connected(&w, NULL, lanes);
    settle(&w.r);
    assert_in_range(w.r.b.domain->watched_count, 1, GP_VB_WATCHED);
    back_and_forth(&w, 100);
    world_close(&w);
    world_connected(&w, NULL, (const char *const[]){"ib_frame", "516", NULL});
    assert_int_equal(w.r.b.domain->watched_count, 0); /* no whole words */
    assert_false(w.r.b.ep->lane[0]->brief);
    back_and_forth(&w, 100);
    world_close(&w);
}

/* Short data lies where it belongs, all of it and nothing more, and is dropped
 * when its region was withdrawn while it was under way. */
static void
data_of_any_length(void **state)
{
    static const gp_sim_options step = {.step = true};
    area from, to;
    world w;

    (void)state;
    world_connected(&w, &step, NULL);
    area_make(&w, &from, &w.r.a, 512);
    area_expose(&w, &to, &w.r.b, 512);
    settle(&w.r);
    for (size_t length = 0; length <= 256; length++) {
        memset(to.bytes, 0xEE, 512);
        fill_pattern(from.bytes + 100, length, length);
        side_forget(&w.r.b);
        push(&w, &from, &to, 100, length, 7);
        arrived(&w, &w.r.b, 1);
        assert_pattern(to.bytes + 100, length, length);
        assert_int_equal(to.bytes[99], 0xEE);
        assert_int_equal(to.bytes[100 + length], 0xEE);
    }
    memset(to.bytes, 0xEE, 512);
    side_forget(&w.r.b);
    push(&w, &from, &to, 0, 64, 0);
    w.r.ops->unexpose(w.r.b.ep, to.token);
    send_control(&w.r, &w.r.a, 9);
    await(&w.r, &w.r.b, GP_EVENT_MESSAGE, 1);
    assert_true(side_nth(&w.r.b, GP_EVENT_MESSAGE, 0)->event.msg.aux == 9);
    for (size_t i = 0; i < 512; i++)
        assert_int_equal(to.bytes[i], 0xEE);
    world_close(&w);
}

int
main(void)
{
    static const struct CMUnitTest cases[] = {
        cmocka_unit_test(completions_follow),
        cmocka_unit_test(parts_are_not_taken),
        cmocka_unit_test(before_the_completion),
        cmocka_unit_test(receives_come_back_late),
        cmocka_unit_test(a_lane_that_breaks_in_between),
        cmocka_unit_test(data_of_any_length),
        cmocka_unit_test(too_many_to_look_at),
    };

    return cmocka_run_group_tests(cases, NULL, NULL);
}
