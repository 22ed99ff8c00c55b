/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_verbs_lanes.c - lanes that are lost, come back, or do not; peers that
 * die, refuse or belong to another job. Whatever happens, messages arrive once,
 * endpoints end with the first cause, and nothing is left behind.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "tests/sim/world.h"
#include "transports/verbs/verbs_int.h"

#define STALL_NS 300000000u
#define LENGTH   (1u << 20)
#define SECOND   UINT64_C(1000000000)

/* Sends `count` messages each way, counted by aux, and checks that all came,
 * once and in order. */
static void
exchange(world *w, uint64_t count)
{
    side *sides[2] = {&w->r.a, &w->r.b};

    side_forget(&w->r.a);
    side_forget(&w->r.b);
    for (uint64_t i = 0; i < count; i++)
        for (size_t k = 0; k < 2; k++)
            send_control(&w->r, sides[k], i);
    for (size_t k = 0; k < 2; k++) {
        await(&w->r, sides[k], GP_EVENT_MESSAGE, (size_t)count);
        for (uint64_t i = 0; i < count; i++)
            assert_true(side_nth(sides[k], GP_EVENT_MESSAGE, (size_t)i)
                            ->event.msg.aux == i);
    }
}

static bool
a_came_back(world *w)
{
    return w->r.a.domain->reconnects > 0 && lanes_up(w->r.a.ep) == 1;
}

/* ------------------------------------------------------------- regaining */

/* A queue pair dies in the middle of a payload, in either direction, whether or
 * not the peer had the last message: nothing is lost or doubled. */
static void
break_and_go_on(unsigned of_b, bool delivered, const char *notify)
{
    const char *const settings[] = {"ib_notify", notify, NULL};
    gp_sim_break how = {.after_bytes = LENGTH / 2 + 1000,
                        .delivered = delivered};
    area from, to;
    world w;

    world_connected(&w, NULL, settings);
    area_make(&w, &from, of_b ? &w.r.b : &w.r.a, LENGTH);
    area_expose(&w, &to, of_b ? &w.r.a : &w.r.b, LENGTH);
    how.process = of_b ? w.b : w.a;
    gp_sim_break_qp(w.sim, &how);
    fill_pattern(from.bytes, LENGTH, 9);
    for (size_t i = 0; i < 16; i++)
        push(&w, &from, &to, i * (LENGTH / 16), LENGTH / 16, i + 1);
    await(&w.r, to.of, GP_EVENT_MESSAGE, 16);
    await(&w.r, from.of, GP_EVENT_SENT, 16);
    settle(&w.r);
    assert_int_equal(side_count(to.of, GP_EVENT_MESSAGE), 16);
    assert_int_equal(side_count(from.of, GP_EVENT_SENT), 16);
    assert_pattern(to.bytes, LENGTH, 9);
    assert_true(w.r.a.domain->reconnects == 1);
    exchange(&w, 20);
    world_close(&w);
}

static void
broken_queue_pairs(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 8; i++)
        break_and_go_on(i & 1, i & 2, i & 4 ? "imm" : "send");
}

/* A device that has windows and refuses them is used without. */
static void
windows_that_cannot_be_bound(void **state)
{
    gp_sim_break how = {.status = IBV_WC_MW_BIND_ERR};
    area from, to;
    world w;

    (void)state;
    world_connected(&w, NULL, NULL);
    assert_true(w.r.b.ep->lane[0]->device->windows);
    how.process = w.b;
    gp_sim_break_qp(w.sim, &how);
    area_make(&w, &from, &w.r.a, LENGTH);
    area_expose(&w, &to, &w.r.b, LENGTH);
    exchange(&w, 3);
    assert_false(w.r.b.ep->lane[0]->device->windows);
    fill_pattern(from.bytes, LENGTH, 4);
    side_forget(&w.r.b);
    push(&w, &from, &to, 0, LENGTH, 1);
    await(&w.r, &w.r.b, GP_EVENT_MESSAGE, 1);
    assert_pattern(to.bytes, LENGTH, 4);
    world_close(&w);
}

/* Control messages keep their order over a reconnect. */
static void
broken_between_messages(void **state)
{
    (void)state;
    for (uint64_t after = 1; after < 40; after += 3) {
        gp_sim_break how = {.after_wrs = after};
        world w;

        world_connected(&w, NULL, NULL);
        how.process = after % 2 ? w.a : w.b;
        gp_sim_break_qp(w.sim, &how);
        exchange(&w, 100);
        world_close(&w);
    }
}

/* Requests that are lost, refused as stale, or met no listener for a moment. */
static void
regained_after_refusals(void **state)
{
    gp_sim_break how = {.after_wrs = 0};
    world w;

    (void)state;
    world_connected(&w, NULL, NULL);
    how.process = w.a;
    gp_sim_refuse(w.sim, 3, 10);
    gp_sim_break_qp(w.sim, &how);
    send_control(&w.r, &w.r.a, 1);
    await(&w.r, &w.r.b, GP_EVENT_MESSAGE, 1);
    pump_until(&w, a_came_back);
    exchange(&w, 10);
    world_close(&w);
}

static void
connects_through_trouble(void **state)
{
    world w;

    (void)state;
    world_open(&w, NULL, NULL);
    gp_sim_refuse(w.sim, 2, 10);
    gp_sim_lose_requests(w.sim, 1);
    rig_connect(&w.r);
    exchange(&w, 10);
    world_close(&w);
}

/* ------------------------------------------------------------------ ends */

static gp_status
status_of(world *w, side *s)
{
    await(&w->r, s, GP_EVENT_CLOSED, 1);
    return side_nth(s, GP_EVENT_CLOSED, 0)->event.status;
}

/* The owner of a dead process is gone: only the other side is driven. */
static gp_status
await_end(world *w, side *s)
{
    uint64_t deadline = test_deadline();

    while (!side_count(s, GP_EVENT_CLOSED)) {
        assert_false(gp_expired(deadline));
        side_pump(s);
    }
    settle(&w->r);
    assert_int_equal(side_count(s, GP_EVENT_CLOSED), 1);
    return side_nth(s, GP_EVENT_CLOSED, 0)->event.status;
}

static void
killed_peers(void **state)
{
    static const char *const settings[] = {"ib_reconnect", "0.3", "keepalive",
                                           "0.4", NULL};

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        gp_sim_options fabric = {.retry_ns = 20000000};
        world w;
        side *left;

        world_connected(&w, &fabric, settings);
        left = i & 1 ? &w.r.a : &w.r.b;
        gp_sim_kill(w.sim, i & 1 ? w.b : w.a, i & 2);
        side_pump(left);
        assert_int_equal(await_end(&w, left), GP_ERR_PEER_LOST);
        assert_true(left->ep->why[0]);
        left->ops->ep_close(left->ep);
        world_close(&w);
    }
}

/* The connecting side asks at once whether anybody is there, and does not wait
 * for ib_reconnect when there is not. */
static void
dead_listener_is_known_at_once(void **state)
{
    static const char *const settings[] = {"ib_reconnect", "600", NULL};
    world w;

    (void)state;
    world_connected(&w, NULL, settings);
    gp_sim_kill(w.sim, w.b, false);
    assert_int_equal(await_end(&w, &w.r.a), GP_ERR_PEER_LOST);
    assert_non_null(strstr(w.r.a.ep->why, "nobody listens"));
    world_close(&w);
}

static void
no_reconnect_when_told_so(void **state)
{
    static const char *const settings[] = {"ib_reconnect", "0", NULL};
    gp_sim_break how = {.after_wrs = 0};
    world w;

    (void)state;
    world_connected(&w, NULL, settings);
    how.process = w.a;
    gp_sim_break_qp(w.sim, &how);
    send_control(&w.r, &w.r.a, 1);
    assert_int_equal(status_of(&w, &w.r.a), GP_ERR_PEER_LOST);
    assert_int_equal(status_of(&w, &w.r.b), GP_ERR_PEER_LOST);
    assert_true(w.r.a.domain->reconnects == 0);
    world_close(&w);
}

/* A fault that comes back with every queue pair ends the endpoint. */
static void
always_broken(void **state)
{
    static const char *const settings[] = {"ib_reconnect", "600", NULL};
    uint64_t deadline = test_deadline();
    world w;

    (void)state;
    world_connected(&w, NULL, settings);
    while (!side_count(&w.r.a, GP_EVENT_CLOSED)) {
        gp_sim_break how = {.process = w.a, .after_wrs = 0};
        gp_msg msg = control_msg(1, 0);

        assert_false(gp_expired(deadline));
        gp_sim_break_qp(w.sim, &how);
        (void)w.r.ops->post(w.r.a.ep, &msg, NULL, NULL, 0);
        (void)w.r.ops->flush(w.r.a.ep);
        pump(&w.r);
    }
    assert_int_equal(side_nth(&w.r.a, GP_EVENT_CLOSED, 0)->event.status,
                     GP_ERR_PEER_LOST);
    gp_sim_break_qp(w.sim, &(gp_sim_break){.after_wrs = UINT64_MAX});
    world_close(&w);
}

static void
asynchronous_events(void **state)
{
    static const enum ibv_event_type types[] = {
        IBV_EVENT_QP_FATAL, IBV_EVENT_QP_REQ_ERR, IBV_EVENT_QP_ACCESS_ERR};
    world w;

    (void)state;
    world_connected(&w, NULL, NULL);
    for (size_t i = 0; i < GP_COUNT_OF(types); i++) {
        uint64_t before = w.r.a.domain->reconnects;
        uint64_t deadline = test_deadline();

        gp_sim_async(w.sim, i % 2 ? w.a : w.b, types[i]);
        while (w.r.a.domain->reconnects == before || lanes_up(w.r.a.ep) == 0) {
            assert_false(gp_expired(deadline));
            pump(&w.r);
        }
        exchange(&w, 5);
    }
    world_close(&w);
}

/* What comes back does so on another queue, and the old one goes. */
static void
queue_in_error(void **state)
{
    world w;

    (void)state;
    gp_log_set_level(GP_LOG_NONE);
    world_connected(&w, NULL, NULL);
    for (unsigned i = 0; i < 4; i++) {
        uint64_t before = w.r.a.domain->reconnects;
        uint64_t deadline = test_deadline();

        gp_sim_cq_error(w.sim, i % 2 ? w.a : w.b);
        while (w.r.a.domain->reconnects == before || lanes_up(w.r.a.ep) == 0) {
            assert_false(gp_expired(deadline));
            pump(&w.r);
        }
        exchange(&w, 5);
        assert_int_equal(stats_of(&w).live[GP_SIM_CQ], 2);
    }
    world_close(&w);
    gp_log_set_level(GP_LOG_WARN);
}

/* Two ways to hear of it: from the device, and from the connection manager. */
static bool
nobody_listens(world *w)
{
    return !w->r.b.domain->listener;
}

static void
lose_device(void (*how)(gp_sim *, unsigned), const char *said)
{
    static const char *const settings[] = {"ib_reconnect", "600", NULL};
    side *sides[2];
    world w;

    gp_log_set_level(GP_LOG_NONE);
    world_connected(&w, NULL, settings);
    sides[0] = &w.r.a;
    sides[1] = &w.r.b;
    how(w.sim, 0);
    for (size_t k = 0; k < 2; k++) {
        assert_int_equal(status_of(&w, sides[k]), GP_ERR_SYSTEM);
        assert_non_null(strstr(sides[k]->ep->why, "sim0"));
        assert_non_null(strstr(sides[k]->ep->why, said));
    }
    if (how == gp_sim_device_removal) /* which waits for all its ids */
        pump_until(&w, nobody_listens);
    world_close(&w);
    gp_log_set_level(GP_LOG_WARN);
}

static void
device_that_dies(void **state)
{
    (void)state;
    lose_device(gp_sim_device_fatal, "failed or was removed");
}

/* More events than are kept do not hide it. */
static void
die_last(gp_sim *sim, unsigned device)
{
    for (unsigned i = 0; i < 200; i++)
        gp_sim_async(sim, 1 + i % 2, IBV_EVENT_COMM_EST);
    gp_sim_device_fatal(sim, device);
}

static void
device_that_dies_in_turmoil(void **state)
{
    (void)state;
    lose_device(die_last, "failed or was removed");
}

static void
device_that_is_removed(void **state)
{
    (void)state;
    lose_device(gp_sim_device_removal, "the device was removed");
}

/* ... before there is a queue pair on it: there may be another way, or it may
 * come back, so the endpoint goes on trying as long as it has time. */
static void
device_removed_while_connecting(void **state)
{
    gp_endpoint *ep = NULL;
    world w;

    (void)state;
    gp_log_set_level(GP_LOG_NONE);
    world_open(&w, &(gp_sim_options){.step = true}, NULL);
    world_listen(&w, "");
    assert_int_equal(
        w.r.ops->connect(w.r.a.domain, w.r.bound, test_deadline(), &ep), GP_OK);
    (void)gp_sim_settle(w.sim); /* the address is found, and nobody knows yet */
    assert_null(ep->lane[0]->device);
    gp_sim_device_removal(w.sim, 0);
    await(&w.r, &w.r.a, GP_EVENT_CONNECTED, 1);
    await(&w.r, &w.r.b, GP_EVENT_ACCEPTED, 1);
    assert_true(gp_sim_calls(w.sim, "rdma_resolve_addr") == 2);
    exchange(&w, 5);
    world_close(&w);
    gp_log_set_level(GP_LOG_WARN);
}

/* --------------------------------------------------------------- strangers */

static void
another_token(void **state)
{
    gp_endpoint *ep = NULL;
    gp_config *config = NULL;
    gp_sim_stats made;
    world w;

    (void)state;
    world_open(&w, NULL, NULL);
    world_listen(&w, "127.0.0.1:0");
    w.r.ops->close(w.r.a.domain);
    assert_int_equal(gp_config_create(&config), GP_OK);
    assert_int_equal(gp_config_set(config, "token", "not-theirs"), GP_OK);
    assert_int_equal(w.r.ops->open(config, &w.r.a.domain), GP_OK);
    gp_config_destroy(config);
    assert_int_equal(
        w.r.ops->connect(w.r.a.domain, w.r.bound, test_deadline(), &ep), GP_OK);
    assert_int_equal(status_of(&w, &w.r.a), GP_ERR_AUTH);
    assert_int_equal(w.r.b.count, 0);
    /* What there was is the connecting side's own. */
    made = stats_of(&w);
    assert_int_equal(made.created[GP_SIM_PD], 1);
    assert_int_equal(made.created[GP_SIM_MR], 1);
    assert_int_equal(made.created[GP_SIM_QP], 1);
    w.r.ops->ep_close(ep);
    world_close(&w);
}

/* ------------------------------------------------------------ several lanes */

static const gp_sim_device two[2];

static void
two_rails(world *w, const char *reconnect)
{
    const char *const settings[] = {
        "ib_rails", "2", "ib_reconnect", reconnect, "ib_rail_reconnect",
        "0",        NULL};
    gp_sim_options fabric = {.device = two, .devices = 2};

    world_open(w, &fabric, settings);
    world_listen(w, "");
    rig_connect(&w->r);
    pump_until(w, both_have_two);
    assert_ptr_not_equal(w->r.a.ep->lane[0]->device,
                         w->r.a.ep->lane[1]->device);
}

static bool
one_is_left(world *w)
{
    return lanes_up(w->r.a.ep) == 1 && lanes_up(w->r.b.ep) == 1;
}

/* A rail dies under load, the other one carries everything. */
static void
rail_that_dies(void **state)
{
    (void)state;
    for (unsigned dead = 0; dead < 2; dead++) {
        area from, to;
        world w;

        two_rails(&w, "0.3");
        area_make(&w, &from, &w.r.a, LENGTH);
        area_expose(&w, &to, &w.r.b, LENGTH);
        fill_pattern(from.bytes, LENGTH, dead);
        side_forget(&w.r.a);
        side_forget(&w.r.b);
        for (size_t i = 0; i < 16; i++) {
            push(&w, &from, &to, i * (LENGTH / 16), LENGTH / 16, i + 1);
            send_control(&w.r, &w.r.a, i);
            if (i == 5)
                gp_sim_link(w.sim, dead, 1, false);
        }
        await(&w.r, &w.r.b, GP_EVENT_MESSAGE, 32);
        await(&w.r, &w.r.a, GP_EVENT_SENT, 16);
        settle(&w.r);
        assert_int_equal(side_count(&w.r.b, GP_EVENT_MESSAGE), 32);
        assert_pattern(to.bytes, LENGTH, dead);
        pump_until(&w, one_is_left);
        assert_int_equal(side_count(&w.r.a, GP_EVENT_CLOSED), 0);
        exchange(&w, 50);
        world_close(&w);
    }
}

/* What a dead rail was to carry does not wait for it to come back, in either
 * direction, and when it does it takes its part again. */
static void
a_dead_rail_holds_nothing_up(void **state)
{
    (void)state;
    gp_log_set_level(GP_LOG_NONE);
    for (unsigned dead = 0; dead < 2; dead++) {
        area from[2], to[2];
        side *sides[2];
        world w;

        two_rails(&w, "600");
        sides[0] = &w.r.a;
        sides[1] = &w.r.b;
        for (size_t k = 0; k < 2; k++) {
            area_make(&w, &from[k], sides[k], LENGTH);
            area_expose(&w, &to[k], sides[!k], LENGTH);
            fill_pattern(from[k].bytes, LENGTH, dead + k);
        }
        settle(&w.r);
        side_forget(&w.r.a);
        side_forget(&w.r.b);
        gp_sim_stall(w.sim, 3600 * SECOND);
        for (size_t i = 0; i < 16; i++)
            for (size_t k = 0; k < 2; k++) {
                push(&w, &from[k], &to[k], i * (LENGTH / 16), LENGTH / 16,
                     i + 1);
                send_control(&w.r, sides[k], i);
            }
        assert_true(w.r.a.ep->lane[dead]->queued_bytes > 0);
        gp_sim_link(w.sim, dead, 1, false);
        gp_sim_stall(w.sim, 0);
        for (size_t k = 0; k < 2; k++) {
            await(&w.r, sides[k], GP_EVENT_MESSAGE, 32);
            await(&w.r, sides[k], GP_EVENT_SENT, 16);
            assert_pattern(to[k].bytes, LENGTH, dead + k);
        }
        assert_true(lanes_up(w.r.a.ep) == 1);
        gp_sim_link(w.sim, dead, 1, true);
        pump_until(&w, both_have_two);
        assert_int_equal(side_count(&w.r.b, GP_EVENT_MESSAGE), 32);
        assert_int_equal(side_count(&w.r.a, GP_EVENT_SENT), 16);
        exchange(&w, 50);
        world_close(&w);
    }
    gp_log_set_level(GP_LOG_WARN);
}

static bool
one_was_given_up(world *w)
{
    return (w->r.a.ep->lane[0]->given_up || w->r.a.ep->lane[1]->given_up) &&
           (w->r.b.ep->lane[0]->given_up || w->r.b.ep->lane[1]->given_up);
}

static bool
can_sleep(world *w)
{
    return w->r.ops->arm(w->r.a.domain) == GP_OK &&
           w->r.ops->arm(w->r.b.domain) == GP_OK;
}

/* A device that goes for good takes its lane with it at once, and the others
 * carry all there was. */
static void
a_dead_device_of_two(void **state)
{
    (void)state;
    gp_log_set_level(GP_LOG_NONE);
    for (unsigned k = 0; k < 4; k++) {
        unsigned dead = k & 1;
        area from, to;
        world w;

        two_rails(&w, "600");
        area_make(&w, &from, &w.r.a, LENGTH);
        area_expose(&w, &to, &w.r.b, LENGTH);
        fill_pattern(from.bytes, LENGTH, dead);
        settle(&w.r);
        side_forget(&w.r.a);
        side_forget(&w.r.b);
        for (size_t i = 0; i < 16; i++) {
            push(&w, &from, &to, i * (LENGTH / 16), LENGTH / 16, i + 1);
            send_control(&w.r, &w.r.a, i);
            if (i == 7)
                (k & 2 ? gp_sim_device_removal : gp_sim_device_fatal)(w.sim,
                                                                      dead);
        }
        await(&w.r, &w.r.b, GP_EVENT_MESSAGE, 32);
        await(&w.r, &w.r.a, GP_EVENT_SENT, 16);
        assert_pattern(to.bytes, LENGTH, dead);
        pump_until(&w, one_was_given_up);
        assert_true(w.r.a.ep->lane[dead]->given_up);
        assert_true(w.r.b.ep->lane[dead]->given_up);
        exchange(&w, 50);
        pump_until(&w, can_sleep);
        world_close(&w);
    }
    gp_log_set_level(GP_LOG_WARN);
}

/* The owner closes when messages were on a lane that was just lost: they and
 * the farewell go on the other one, as soon as the peer has said what it has.
 */
static void
closed_with_a_lane_lost(void **state)
{
    uint64_t deadline = test_deadline();
    world w;

    (void)state;
    two_rails(&w, "30");
    side_forget(&w.r.b);
    gp_sim_link(w.sim, 0, 1, false);
    for (uint64_t i = 0; i < 5; i++)
        send_control(&w.r, &w.r.a, i);
    while (lanes_up(w.r.a.ep) == 2) {
        assert_false(gp_expired(deadline));
        side_pump(&w.r.a);
    }
    w.r.ops->ep_close(w.r.a.ep);
    w.r.a.ep = NULL;
    await(&w.r, &w.r.b, GP_EVENT_CLOSED, 1);
    assert_int_equal(side_nth(&w.r.b, GP_EVENT_CLOSED, 0)->event.status, GP_OK);
    assert_int_equal(side_count(&w.r.b, GP_EVENT_MESSAGE), 5);
    for (uint64_t i = 0; i < 5; i++)
        assert_true(side_nth(&w.r.b, GP_EVENT_MESSAGE, i)->event.msg.aux == i);
    world_close(&w);
}

/* A process ends while the network stands still: its last message and its
 * farewell get through all the same. */
static void
a_farewell_takes_its_time(void **state)
{
    world w;

    (void)state;
    world_connected(&w, NULL, NULL);
    side_forget(&w.r.b);
    send_control(&w.r, &w.r.a, 1);
    gp_sim_stall(w.sim, STALL_NS);
    w.r.ops->close(w.r.a.domain);
    w.r.a.ep = NULL;
    assert_int_equal(w.r.ops->open(w.r.config, &w.r.a.domain), GP_OK);
    await(&w.r, &w.r.b, GP_EVENT_CLOSED, 1);
    assert_int_equal(side_nth(&w.r.b, GP_EVENT_CLOSED, 0)->event.status, GP_OK);
    assert_int_equal(side_count(&w.r.b, GP_EVENT_MESSAGE), 1);
    world_close(&w);
}

/* ----------------------------------------------------------------- faults */

/* Drives a side whose domain may be broken, which is a status too. True when
 * there was an event that ends the case. */
static bool
drive(side *s, gp_event_type last)
{
    gp_event events[8];
    int n = s->ops->progress(s->domain, events, 8);

    for (int i = 0; i < n; i++)
        if (events[i].type == last || events[i].type == GP_EVENT_CLOSED)
            return true;
    return n < 0;
}

/* One call fails, whichever: connecting goes on or ends with a status, and
 * nothing stays behind. */
static void
fail_nth(uint64_t nth, bool *reached)
{
    static const char *const settings[] = {"ib_reconnect", "0.05", NULL};
    gp_endpoint *ep = NULL;
    uint64_t deadline = gp_deadline(0.1);
    gp_msg msg = control_msg(1, 0);
    bool over = false;
    world w;

    world_open(&w, NULL, settings);
    world_listen(&w, "127.0.0.1:0");
    gp_sim_fail(w.sim, NULL, nth, 0);
    assert_int_equal(
        w.r.ops->connect(w.r.a.domain, w.r.bound, gp_deadline(5), &ep), GP_OK);
    (void)w.r.ops->post(ep, &msg, NULL, NULL, 0);
    (void)w.r.ops->flush(ep);
    while (!over && !gp_expired(deadline))
        over = drive(&w.r.a, GP_EVENT_SENT) || drive(&w.r.b, GP_EVENT_MESSAGE);
    *reached = gp_sim_failed(w.sim);
    gp_sim_fail(w.sim, NULL, 0, 0);
    world_close(&w);
}

static void
every_call_may_fail(void **state)
{
    bool reached = true;

    (void)state;
    for (uint64_t nth = 1; nth < 400 && reached; nth += nth < 60 ? 1 : 7)
        fail_nth(nth, &reached);
}

int
main(void)
{
    static const struct CMUnitTest cases[] = {
        cmocka_unit_test(broken_queue_pairs),
        cmocka_unit_test(broken_between_messages),
        cmocka_unit_test(windows_that_cannot_be_bound),
        cmocka_unit_test(regained_after_refusals),
        cmocka_unit_test(connects_through_trouble),
        cmocka_unit_test(killed_peers),
        cmocka_unit_test(dead_listener_is_known_at_once),
        cmocka_unit_test(no_reconnect_when_told_so),
        cmocka_unit_test(always_broken),
        cmocka_unit_test(asynchronous_events),
        cmocka_unit_test(queue_in_error),
        cmocka_unit_test(device_that_dies),
        cmocka_unit_test(device_that_dies_in_turmoil),
        cmocka_unit_test(device_that_is_removed),
        cmocka_unit_test(device_removed_while_connecting),
        cmocka_unit_test(another_token),
        cmocka_unit_test(rail_that_dies),
        cmocka_unit_test(a_dead_rail_holds_nothing_up),
        cmocka_unit_test(closed_with_a_lane_lost),
        cmocka_unit_test(a_farewell_takes_its_time),
        cmocka_unit_test(a_dead_device_of_two),
        cmocka_unit_test(every_call_may_fail),
    };

    return cmocka_run_group_tests(cases, NULL, NULL);
}
