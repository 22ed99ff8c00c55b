/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_verbs_flow.c - credits and turns: who sleeps, who only sends, who is
 * about to leave and who is busy with other lanes must not keep the peer
 * waiting for good.
 */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "tests/sim/world.h"
#include "transports/verbs/verbs_int.h"

#define MANY     300
#define STALL_NS 100000000u

static const gp_sim_options step = {.step = true};
static const char *const quiet[] = {"keepalive", "0", NULL};

/* Each message fills a frame. */
static void
fill(world *w, side *s, uint64_t count)
{
    static const uint8_t payload[1500];

    for (uint64_t i = 0; i < count; i++) {
        gp_msg msg = control_msg(i, sizeof(payload));

        assert_int_equal(w->r.ops->post(s->ep, &msg, payload, NULL, 0), GP_OK);
        flush(s);
    }
}

/* All there is, in one call. */
static size_t
take_all(side *s)
{
    static gp_event events[MANY];
    int n = s->ops->progress(s->domain, events, MANY);

    assert_true(n >= 0);
    return (size_t)n;
}

/* Sleeps whenever arm() says that it may, and then only a descriptor wakes it.
 * All receives are used up by then, and it is its turn to give some back. */
static void
who_sleeps_owes_nothing(void **state)
{
    static const char *const notify[] = {"send", "imm"};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        const char *const settings[] = {"keepalive", "0", "ib_notify",
                                        notify[i], NULL};
        bool asleep = false;
        size_t came = 0;
        int idle = 0;
        world w;

        world_connected(&w, &step, settings);
        settle(&w.r);
        fill(&w, &w.r.b, MANY);
        while (came < MANY) {
            struct pollfd fd = {.fd = w.r.ops->event_fd(w.r.a.domain),
                                .events = POLLIN};

            side_pump(&w.r.b);
            gp_sim_settle(w.sim);
            idle++;
            if (!asleep || poll(&fd, 1, 0) > 0) {
                came += take_all(&w.r.a);
                idle = 0;
            }
            /* All that could move has moved, and b has more to say. */
            assert_true(idle < 20);
            asleep = w.r.ops->arm(w.r.a.domain) == GP_OK;
        }
        world_close(&w);
    }
}

/* An endpoint that its owner closed hears nobody any more, but has to read on
 * to learn of receives for what it still wants to say. */
static void
who_leaves_reads_on(void **state)
{
    world w;

    (void)state;
    world_connected(&w, &step, quiet);
    settle(&w.r);
    side_forget(&w.r.b);
    fill(&w, &w.r.a, MANY);
    fill(&w, &w.r.b, MANY);
    w.r.ops->ep_close(w.r.a.ep);
    w.r.a.ep = NULL;
    assert_int_equal(ended(&w, &w.r.b), GP_OK);
    assert_int_equal(side_count(&w.r.b, GP_EVENT_MESSAGE), MANY);
    world_close(&w);
}

/* There is always something more to deliver from the other lane. */
static void
a_lane_comes_back_under_load(void **state)
{
    static const gp_sim_device two[2];
    static const char *const rails[] = {"ib_rails", "2", "ib_reconnect", "10",
                                        NULL};
    gp_sim_options fabric = {.step = true, .device = two, .devices = 2};
    uint64_t deadline = test_deadline();
    world w;

    (void)state;
    world_open(&w, &fabric, rails);
    world_listen(&w, "");
    rig_connect(&w.r);
    while (w.r.a.ep->lane[1]->state != GP_VB_LANE_UP) {
        assert_false(gp_expired(deadline));
        pump(&w.r);
    }
    w.r.a.max = 1;
    gp_sim_async(w.sim, w.a, IBV_EVENT_QP_FATAL);
    while (w.r.a.domain->reconnects == 0) {
        gp_msg msg = control_msg(1, 0);

        assert_false(gp_expired(deadline));
        for (int i = 0; i < 2; i++) {
            (void)w.r.ops->post(w.r.b.ep, &msg, NULL, NULL, 0);
            flush(&w.r.b);
        }
        pump(&w.r);
        side_forget(&w.r.a);
    }
    world_close(&w);
}

/* Who hears of a region for the first time writes into it: what the peer's
 * device needs to know was told before the message that names it. Nothing
 * travels in frames of 2 KiB, over one lane or several, nor after a lane was
 * lost. */
static void
the_first_payload_is_written(void **state)
{
    static const char *const lanes[] = {"1", "3"};
    const gp_sim_device devices[] = {{.no_windows = false},
                                     {.no_windows = true}};

    (void)state;
    gp_log_set_level(GP_LOG_NONE);
    for (unsigned k = 0; k < 4; k++) {
        const char *const settings[] = {"ib_qps", lanes[k / 2], NULL};
        const gp_sim_options options = {.step = true,
                                        .shuffle = true,
                                        .seed = k,
                                        .device = &devices[k % 2],
                                        .devices = 1};
        area from, to[8];
        world w;

        world_connected(&w, &options, settings);
        area_make(&w, &from, &w.r.a, 1 << 20);
        fill_pattern(from.bytes, 1 << 20, k);
        for (size_t i = 0; i < GP_COUNT_OF(to); i++) {
            if (i == 4)
                gp_sim_async(w.sim, w.a, IBV_EVENT_QP_FATAL);
            area_expose(&w, &to[i], &w.r.b, 1 << 20);
            send_control(&w.r, &w.r.b, i);
            await(&w.r, &w.r.a, GP_EVENT_MESSAGE, i + 1);
            push(&w, &from, &to[i], 0, 1 << 20, i + 1);
        }
        await(&w.r, &w.r.b, GP_EVENT_MESSAGE, GP_COUNT_OF(to));
        for (size_t i = 0; i < GP_COUNT_OF(to); i++)
            assert_pattern(to[i].bytes, 1 << 20, k);
        assert_int_equal(w.r.a.domain->valued_bytes, 0);
        world_close(&w);
    }
    gp_log_set_level(GP_LOG_WARN);
}

/* A region that is withdrawn before its window was bound costs no lane. */
static void
withdrawn_before_it_was_bound(void **state)
{
    area m[6];
    world w;

    (void)state;
    world_connected(&w, &step, quiet);
    settle(&w.r);
    for (size_t i = 0; i < GP_COUNT_OF(m); i++) {
        area_expose(&w, &m[i], &w.r.b, 4096);
        flush(&w.r.b);
        w.r.ops->unexpose(w.r.b.ep, m[i].token);
        settle(&w.r);
    }
    assert_true(w.r.a.domain->reconnects == 0);
    assert_true(w.r.b.ep->lane[0]->device->windows);
    world_close(&w);
}

/* Nor does one that is withdrawn while the network stands still. */
static void
withdrawn_while_nothing_moves(void **state)
{
    area m;
    world w;

    (void)state;
    world_connected(&w, NULL, quiet);
    settle(&w.r);
    gp_sim_stall(w.sim, STALL_NS);
    area_expose(&w, &m, &w.r.b, 4096);
    flush(&w.r.b);
    w.r.ops->unexpose(w.r.b.ep, m.token);
    side_forget(&w.r.a);
    send_control(&w.r, &w.r.b, 1);
    await(&w.r, &w.r.a, GP_EVENT_MESSAGE, 1);
    assert_true(w.r.a.domain->reconnects == 0);
    world_close(&w);
}

/* A device that does nothing any more holds nobody up for good. */
static void
closed_while_nothing_moves(void **state)
{
    static const char *const settings[] = {"ib_reconnect", "0", NULL};
    area m;
    world w;

    (void)state;
    world_connected(&w, NULL, settings);
    settle(&w.r);
    gp_sim_stall(w.sim, 3600 * 10 * (uint64_t)STALL_NS);
    area_expose(&w, &m, &w.r.b, 4096);
    flush(&w.r.b);
    w.r.ops->ep_close(w.r.b.ep);
    w.r.b.ep = NULL;
    side_forget(&w.r.b);
    gp_sim_stall(w.sim, 0);
    await(&w.r, &w.r.a, GP_EVENT_CLOSED, 1);
    assert_int_equal(side_nth(&w.r.a, GP_EVENT_CLOSED, 0)->event.status,
                     GP_ERR_PEER_LOST);
    assert_int_equal(side_count(&w.r.b, GP_EVENT_CLOSED), 0);
    world_close(&w);
}

int
main(void)
{
    static const struct CMUnitTest cases[] = {
        cmocka_unit_test(who_sleeps_owes_nothing),
        cmocka_unit_test(who_leaves_reads_on),
        cmocka_unit_test(the_first_payload_is_written),
        cmocka_unit_test(withdrawn_before_it_was_bound),
        cmocka_unit_test(withdrawn_while_nothing_moves),
        cmocka_unit_test(closed_while_nothing_moves),
        cmocka_unit_test(a_lane_comes_back_under_load),
    };

    return cmocka_run_group_tests(cases, NULL, NULL);
}
