/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_verbs_hostile.c - a peer that has joined and then does what no honest
 * one does. It may lose its connection, and nothing else is lost with it.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "tests/sim/world.h"
#include "transports/verbs/verbs_int.h"

static const gp_sim_options step = {.step = true};

/* The peer writes to all of the ring after its frame came: the message stays
 * what it was. */
static void
write_after_the_check(world *w, bool imm, uint64_t length)
{
    uint64_t deadline = test_deadline();
    uint8_t payload[300];
    gp_msg msg = control_msg(7, length);
    gp_event event = {0};
    const gp_vb_lane *lane;

    memset(payload, 0x55, sizeof(payload));
    assert_int_equal(w->r.ops->post(w->r.a.ep, &msg, payload, NULL, 0), GP_OK);
    flush(&w->r.a);
    while (event.type != GP_EVENT_MESSAGE) {
        assert_false(gp_expired(deadline));
        side_pump(&w->r.a);
        (void)w->r.ops->progress(w->r.b.domain, &event, 1);
    }
    lane = w->r.b.ep->lane[0];
    assert_int_equal(lane->imm, imm);
    memset(lane->rx, 0xAA,
           (size_t)lane->rx_frames * w->r.b.domain->frame_bytes);
    assert_memory_equal(event.payload, payload, length);
}

/* With notify = imm the peer can write its frames again after they were
 * checked, as often as it likes; also when it said that it will not. */
static void
frames_are_checked_as_they_are_read(void **state)
{
    static const char *const imm[] = {"ib_notify", "imm", NULL};
    world w;

    (void)state;
    world_connected(&w, &step, imm);
    settle(&w.r);
    write_after_the_check(&w, true, GP_VB_BRIEF_PAYLOAD);
    write_after_the_check(&w, true, 300);
    world_close(&w);
    world_open(&w, &step, imm);
    w.r.a.domain->notify = -1;
    rig_connect(&w.r);
    settle(&w.r);
    write_after_the_check(&w, false, GP_VB_BRIEF_PAYLOAD);
    write_after_the_check(&w, false, 300);
    world_close(&w);
}

/* Before the engine knows who it is, a peer tells of regions without end. */
static void
regions_of_a_stranger(void **state)
{
    uint8_t bytes[24] = {0};
    world w;

    (void)state;
    world_connected(&w, &step, NULL);
    assert_false(w.r.b.ep->trusted);
    for (uint32_t i = 0; i < 64; i++) {
        uint32_t index = 2 * w.r.b.ep->remotes + 255;

        gp_put32(bytes, 1u << 20 | (index & 0xFFFFF));
        assert_int_equal(
            gp_vb_remote_set(w.r.b.ep->lane[0], 1, bytes, sizeof(bytes)),
            GP_OK);
        assert_int_equal(gp_vb_remote_clear(w.r.b.ep, bytes, 4), GP_OK);
    }
    assert_in_range(w.r.b.ep->remotes, 1, 4096);
    world_close(&w);
}

/* A region that cannot be written kills every queue pair anew, though frames
 * without messages pass on each: that must end. */
static void
a_region_that_kills_every_queue_pair(void **state)
{
    static const char *const patient[] = {"ib_reconnect", "600", NULL};
    uint64_t deadline = test_deadline(), before = UINT64_MAX;
    area from, to;
    world w;

    (void)state;
    world_connected(&w, &step, patient);
    area_make(&w, &from, &w.r.a, 1 << 16);
    area_expose(&w, &to, &w.r.b, 1 << 16);
    settle(&w.r);
    gp_sim_break_qp(w.sim, &(gp_sim_break){.process = w.a,
                                           .status = IBV_WC_REM_ACCESS_ERR});
    push(&w, &from, &to, 0, 1 << 16, 1);
    while (!side_count(&w.r.a, GP_EVENT_CLOSED)) {
        assert_false(gp_expired(deadline));
        if (w.r.a.domain->reconnects != before)
            gp_sim_break_qp(w.sim,
                            &(gp_sim_break){.process = w.a,
                                            .after_wrs = 1,
                                            .status = IBV_WC_REM_ACCESS_ERR});
        before = w.r.a.domain->reconnects;
        pump(&w.r);
    }
    assert_true(side_nth(&w.r.a, GP_EVENT_CLOSED, 0)->event.status < 0);
    gp_sim_break_qp(w.sim, &(gp_sim_break){.after_wrs = UINT64_MAX});
    world_close(&w);
}

/* A window that cannot be opened again after a reconnect leaves no key behind
 * that the device would be asked to use. */
static void
keys_end_with_their_queue_pair(void **state)
{
    uint64_t deadline = test_deadline();
    area from, to;
    world w;

    (void)state;
    world_connected(&w, &step, NULL);
    area_make(&w, &from, &w.r.a, 1 << 16);
    area_expose(&w, &to, &w.r.b, 1 << 16);
    push(&w, &from, &to, 0, 1 << 16, 1);
    arrived(&w, &w.r.b, 1);
    settle(&w.r);
    gp_sim_fail(w.sim, "alloc_mw", 1, ENOMEM);
    gp_sim_async(w.sim, w.a, IBV_EVENT_QP_FATAL);
    while (!gp_sim_failed(w.sim) || w.r.a.ep->lane[0]->state != GP_VB_LANE_UP) {
        assert_false(gp_expired(deadline));
        pump(&w.r);
    }
    assert_true(w.r.a.domain->reconnects == 1);
    fill_pattern(from.bytes, 1 << 16, 3);
    push(&w, &from, &to, 0, 1 << 16, 2);
    arrived(&w, &w.r.b, 2);
    assert_pattern(to.bytes, 1 << 16, 3);
    assert_true(w.r.a.domain->reconnects == 1);
    world_close(&w);
}

/* A peer that says of lanes what cannot be: of one that is not there, of a
 * queue pair that never was, and of frames that were never sent. */
static void
lies_about_lanes(void **state)
{
    static const char *const two[] = {"ib_qps", "2", NULL};
    gp_endpoint *ep;
    world w;

    (void)state;
    gp_log_set_level(GP_LOG_NONE);
    world_connected(&w, &step, two);
    pump_until(&w, both_have_two);
    ep = w.r.b.ep;
    gp_vb_cm_reached(ep, 7, 1, 0);
    gp_vb_cm_reached(ep, 1, ep->lane[1]->epoch + 1, 0);
    gp_vb_cm_reached(ep, 1, ep->lane[1]->epoch - 1, 0);
    assert_int_equal(lanes_up(ep), 2);
    gp_vb_cm_reached(ep, 1, ep->lane[1]->epoch, 0xFFFFFF);
    assert_int_equal(ended(&w, &w.r.b), GP_ERR_PROTOCOL);
    world_close(&w);
    gp_log_set_level(GP_LOG_WARN);
}

int
main(void)
{
    static const struct CMUnitTest cases[] = {
        cmocka_unit_test(frames_are_checked_as_they_are_read),
        cmocka_unit_test(regions_of_a_stranger),
        cmocka_unit_test(a_region_that_kills_every_queue_pair),
        cmocka_unit_test(keys_end_with_their_queue_pair),
        cmocka_unit_test(lies_about_lanes),
    };

    return cmocka_run_group_tests(cases, NULL, NULL);
}
