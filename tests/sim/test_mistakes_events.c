/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_mistakes_events.c - classic mistakes with verbs, part three: events,
 * errors, ends, and waits that must not last for ever.
 */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/sim/world.h"

#define KIB 1024u

static const char *const final[] = {"ib_reconnect", "0", NULL};

static char log_text[16384];
static int log_lines;

static void
keep_line(void *user, gp_log_level level, const char *line)
{
    size_t length = strlen(log_text);

    (void)user;
    (void)level;
    log_lines++;
    snprintf(log_text + length, sizeof(log_text) - length, "%s\n", line);
}

static void
listen_to_log(void)
{
    log_text[0] = '\0';
    log_lines = 0;
    gp_log_set_callback(keep_line, NULL);
}

static void
expect_in_log(const char *text)
{
    gp_log_set_callback(NULL, NULL);
    if (!strstr(log_text, text))
        fail_msg("no '%s' in the log:\n%s", text, log_text);
}

/* Error completions hold garbage in all other fields. */
static void
item_14_70_errors_are_named(void **state)
{
    static const struct {
        enum ibv_wc_status status;
        const char *words;
    } cases[] = {
        {IBV_WC_RETRY_EXC_ERR, "transport retry counter exceeded"},
        {IBV_WC_REM_ACCESS_ERR, "remote access error"},
        {IBV_WC_LOC_PROT_ERR, "local protection error"},
        {IBV_WC_RNR_RETRY_EXC_ERR, "RNR retry counter exceeded"},
    };
    const gp_sim_options options = {.step = true};

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(cases); i++) {
        world w;

        world_connected(&w, &options, final);
        settle(&w.r);
        listen_to_log();
        gp_sim_break_qp(
            w.sim, &(gp_sim_break){.process = w.a, .status = cases[i].status});
        send_control(&w.r, &w.r.a, 1);
        assert_true(ended(&w, &w.r.a) < 0);
        expect_in_log(cases[i].words);
        expect_in_log("127.0.0.1");
        world_close(&w);
    }
}

/* Whatever the device says of a request then. */
static void
item_70_a_port_that_is_down_is_named(void **state)
{
    static const enum ibv_wc_status said[] = {IBV_WC_RETRY_EXC_ERR,
                                              IBV_WC_LOC_QP_OP_ERR};
    const gp_sim_options options = {.step = true};

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(said); i++) {
        world w;

        world_connected(&w, &options, final);
        settle(&w.r);
        listen_to_log();
        gp_sim_link(w.sim, 0, 1, false);
        gp_sim_break_qp(w.sim,
                        &(gp_sim_break){.process = w.a, .status = said[i]});
        send_control(&w.r, &w.r.a, 1);
        assert_int_equal(ended(&w, &w.r.a), GP_ERR_PEER_LOST);
        expect_in_log("port 1 is down");
        world_close(&w);
    }
}

/* Sleeps as a caller does: arm, and only when that says so. */
static void
doze(rig *r, side *s)
{
    struct pollfd fd = {.fd = s->ops->event_fd(s->domain), .events = POLLIN};
    gp_status status = s->ops->arm(s->domain);

    assert_true(status == GP_OK || status == GP_AGAIN);
    if (status == GP_OK)
        (void)poll(&fd, 1, 20);
    else
        side_pump(s);
    if (fd.revents || status == GP_AGAIN)
        side_pump(s);
    (void)r;
}

/* Completions that came before the queue was armed raise no event. */
static void
sleepers(const gp_sim_options *options, const char *const *settings)
{
    uint64_t deadline = test_deadline();
    world w;

    world_open(&w, options, settings);
    world_listen(&w, "127.0.0.1:0");
    assert_int_equal(
        w.r.ops->connect(w.r.a.domain, w.r.bound, deadline, &w.r.a.ep), GP_OK);
    for (size_t i = 0; i < 100; i++) {
        send_control(&w.r, &w.r.a, i);
        while (side_count(&w.r.b, GP_EVENT_MESSAGE) <= i) {
            assert_false(gp_expired(deadline));
            doze(&w.r, &w.r.a);
            doze(&w.r, &w.r.b);
        }
    }
    world_close(&w);
}

static void
item_31_completions_before_arming_are_seen(void **state)
{
    const gp_sim_options held = {.hold_completions = true};

    (void)state;
    sleepers(&held, NULL);
}

static void
item_32_33_events_are_acknowledged(void **state)
{
    static const char *const four[] = {"ib_qps", "4", NULL};
    const gp_sim_options spurious = {.spurious_events = true, .timewait = true};

    (void)state;
    sleepers(NULL, NULL);
    sleepers(&spurious, four);
}

/* Private data is longer than what was sent, unaligned, and freed with the
 * acknowledgement; iWARP gives exactly what was sent. */
static void
item_34_private_data_is_copied_in_time(void **state)
{
    const gp_sim_device iwarp = {.iwarp = true};
    const gp_sim_options exact = {.step = true, .device = &iwarp, .devices = 1};
    const gp_sim_options padded = {.step = true};
    world w;

    (void)state;
    world_connected(&w, &exact, NULL);
    world_close(&w);
    world_connected(&w, &padded, NULL);
    world_close(&w);
}

/* Nobody sends anything: only the asynchronous event can tell. */
static void
item_35_async_events_are_read(void **state)
{
    static const char *const silent[] = {"ib_reconnect", "0", "keepalive", "0",
                                         NULL};
    const gp_sim_options options = {.step = true};
    world w;

    (void)state;
    world_connected(&w, &options, silent);
    settle(&w.r);
    listen_to_log();
    gp_sim_link(w.sim, 0, 1, false);
    settle(&w.r);
    expect_in_log("sim0 port 1: port error");
    world_close(&w);
    world_connected(&w, &options, silent);
    settle(&w.r);
    gp_sim_async(w.sim, w.a, IBV_EVENT_QP_FATAL);
    assert_true(ended(&w, &w.r.a) < 0);
    world_close(&w);
    world_connected(&w, &options, silent);
    settle(&w.r);
    gp_sim_device_fatal(w.sim, 0);
    assert_true(ended(&w, &w.r.a) < 0);
    assert_true(ended(&w, &w.r.b) < 0);
    world_close(&w);
}

static void
item_36_a_dead_peer_is_noticed(void **state)
{
    static const char *const quick[] = {"ib_reconnect", "0", "keepalive",
                                        "200ms", NULL};
    const gp_sim_options options = {0};
    world w;

    (void)state;
    /* Its kernel says goodbye. */
    world_connected(&w, &options, quick);
    gp_sim_kill(w.sim, w.a, false);
    assert_true(ended(&w, &w.r.b) < 0);
    world_close(&w);
    /* Nobody does, and nothing is sent. */
    world_connected(&w, &options, quick);
    gp_sim_kill(w.sim, w.a, true);
    assert_true(ended(&w, &w.r.b) < 0);
    world_close(&w);
    world_connected(&w, &options, quick);
    gp_sim_kill(w.sim, w.b, true);
    assert_true(ended(&w, &w.r.a) < 0);
    world_close(&w);
}

static void
item_37_flushed_requests_are_one_incident(void **state)
{
    static const char *const deep[] = {"ib_reconnect", "0",    "ib_eager", "0",
                                       "ib_queue",     "1024", NULL};
    const gp_sim_options options = {.step = true};
    world w;
    area out, in;

    (void)state;
    world_connected(&w, &options, deep);
    area_make(&w, &out, &w.r.a, 300 * KIB);
    area_expose(&w, &in, &w.r.b, 300 * KIB);
    settle(&w.r);
    listen_to_log();
    gp_sim_break_qp(w.sim, &(gp_sim_break){.process = w.a, .after_wrs = 3});
    for (size_t i = 0; i < 300; i++)
        push_quietly(&w, &out, &in, i * KIB, KIB, i + 1);
    flush(&w.r.a);
    assert_true(ended(&w, &w.r.a) < 0);
    assert_true(ended(&w, &w.r.b) < 0);
    expect_in_log("transport retry counter exceeded");
    assert_true(log_lines <= 4); /* two ends, each once; the rest is theirs */
    assert_true(stats_of(&w).flushes > 20);
    world_close(&w);
}

/* The fabric delivers neither TIMEWAIT_EXIT nor LAST_WQE_REACHED; and where it
 * delivers the first, that changes nothing. */
static void
item_38_the_end_waits_for_no_event(void **state)
{
    (void)state;
    for (int timewait = 0; timewait < 2; timewait++) {
        const gp_sim_options options = {.step = true, .timewait = timewait};
        world w;

        world_connected(&w, &options, NULL);
        w.r.ops->ep_close(w.r.a.ep);
        assert_int_equal(ended(&w, &w.r.b), GP_OK);
        settle(&w.r);
        world_close(&w);
    }
}

static gp_status
connect_until(world *w, const char *to, double seconds)
{
    gp_endpoint *ep;

    assert_int_equal(
        w->r.ops->connect(w->r.a.domain, to, gp_deadline(seconds), &ep), GP_OK);
    return ended(w, &w->r.a);
}

static void
item_68_every_wait_has_a_deadline(void **state)
{
    const gp_sim_options plain = {0};
    world w;

    (void)state;
    gp_log_set_level(GP_LOG_NONE);
    world_open(&w, &plain, NULL);
    assert_int_equal(connect_until(&w, "127.0.0.1:9", 0.3), GP_ERR_UNREACHABLE);
    world_close(&w);
    world_open(&w, &plain, NULL);
    assert_int_equal(connect_until(&w, "10.77.0.99:9", 0.3),
                     GP_ERR_UNREACHABLE);
    world_close(&w);
    world_open(&w, &plain, NULL);
    gp_sim_stall(w.sim, 3000000000u);
    assert_int_equal(connect_until(&w, "127.0.0.1:9", 0.3), GP_ERR_UNREACHABLE);
    world_close(&w);
    gp_log_set_level(GP_LOG_WARN);
}

/* A stale connection, a lost request, a full table: tried again. */
static void
item_68_what_passes_is_tried_again(void **state)
{
    const gp_sim_options plain = {0};
    world w;

    (void)state;
    world_open(&w, &plain, NULL);
    gp_sim_refuse(w.sim, 2, 10);
    rig_connect(&w.r);
    world_close(&w);
    world_open(&w, &plain, NULL);
    gp_sim_lose_requests(w.sim, 2);
    rig_connect(&w.r);
    world_close(&w);
}

/* A partition heals in time, or it does not. */
static void
item_68_a_lost_lane_has_a_deadline(void **state)
{
    static const char *const settings[] = {"ib_reconnect", "300ms", NULL};
    const gp_sim_options plain = {0};
    world w;

    (void)state;
    gp_log_set_level(GP_LOG_NONE);
    world_connected(&w, &plain, settings);
    gp_sim_partition(w.sim, "127.0.0.1", "127.0.0.1");
    send_control(&w.r, &w.r.a, 1);
    assert_true(ended(&w, &w.r.a) < 0);
    world_close(&w);
    gp_log_set_level(GP_LOG_WARN);
}

static void
item_68_a_lost_lane_comes_back(void **state)
{
    static const char *const settings[] = {"ib_reconnect", "20s", NULL};
    const gp_sim_options plain = {.step = true};
    world w;

    (void)state;
    gp_log_set_level(GP_LOG_ERROR);
    world_connected(&w, &plain, settings);
    for (uint64_t i = 0; i < 5; i++) {
        settle(&w.r);
        gp_sim_break_qp(w.sim, &(gp_sim_break){.process = i % 2 ? w.a : w.b});
        send_control(&w.r, &w.r.a, i);
        send_control(&w.r, &w.r.b, i);
        arrived(&w, &w.r.a, (size_t)i + 1);
        arrived(&w, &w.r.b, (size_t)i + 1);
    }
    world_close(&w);
    gp_log_set_level(GP_LOG_WARN);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(item_14_70_errors_are_named),
        cmocka_unit_test(item_70_a_port_that_is_down_is_named),
        cmocka_unit_test(item_31_completions_before_arming_are_seen),
        cmocka_unit_test(item_32_33_events_are_acknowledged),
        cmocka_unit_test(item_34_private_data_is_copied_in_time),
        cmocka_unit_test(item_35_async_events_are_read),
        cmocka_unit_test(item_36_a_dead_peer_is_noticed),
        cmocka_unit_test(item_37_flushed_requests_are_one_incident),
        cmocka_unit_test(item_38_the_end_waits_for_no_event),
        cmocka_unit_test(item_68_every_wait_has_a_deadline),
        cmocka_unit_test(item_68_what_passes_is_tried_again),
        cmocka_unit_test(item_68_a_lost_lane_has_a_deadline),
        cmocka_unit_test(item_68_a_lost_lane_comes_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
