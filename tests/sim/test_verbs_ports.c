/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_verbs_ports.c - ports that go down and come up again. The fabric's
 * connection manager goes deaf, as soft-RoCE's does, when something is said out
 * of a port that is down: nobody would connect through it again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "tests/sim/world.h"
#include "transports/verbs/verbs_port.h"

/* Of the fabric: longer than this test. */
#define STALL_NS 3600000000000u

static const gp_sim_options one = {.step = true, .goes_deaf = true};

static bool
a_is_lost(world *w)
{
    return w->r.a.ep->lane[0]->state == GP_VB_LANE_LOST;
}

static bool
both_lost(world *w)
{
    return a_is_lost(w) && w->r.b.ep->lane[0]->state == GP_VB_LANE_LOST;
}

static bool
nothing_waits(world *w)
{
    return gp_list_empty(&w->r.a.domain->parked) &&
           gp_list_empty(&w->r.b.domain->parked);
}

static bool
a_is_back(world *w)
{
    return w->r.a.domain->reconnects > 0 && lanes_up(w->r.a.ep) == 1;
}

/* Both have something under way when the port goes down. */
static void
lose_port(world *w)
{
    gp_sim_link(w->sim, 0, 1, false);
    send_control(&w->r, &w->r.a, 1);
    send_control(&w->r, &w->r.b, 1);
    pump_until(w, both_lost);
}

static size_t
live(world *w, gp_sim_kind kind)
{
    return stats_of(w).live[kind];
}

/* Room in completion queues that queue pairs have. */
static uint32_t
room_taken(const side *s)
{
    uint32_t entries = 0;

    GP_LIST_EACH (item, &s->domain->devices) {
        gp_vb_device *device = GP_CONTAINER_OF(item, gp_vb_device, link);

        GP_LIST_EACH (entry, &device->cqs)
            entries += GP_CONTAINER_OF(entry, gp_vb_cq, link)->reserved;
    }
    return entries;
}

/* No queue pair was destroyed while its port was down. */
static void
close_unstuck(world *w)
{
    assert_true(stats_of(w).stuck == 0);
    world_close(w);
}

static void
the_only_port_comes_back(void **state)
{
    uint32_t room;
    world w;

    (void)state;
    world_connected(&w, &one, NULL);
    room = room_taken(&w.r.a);
    lose_port(&w);
    assert_false(gp_list_empty(&w.r.a.domain->parked));
    assert_false(gp_list_empty(&w.r.b.domain->parked));
    assert_int_equal(live(&w, GP_SIM_QP), 2);
    assert_int_equal(room_taken(&w.r.a), room);
    gp_sim_link(w.sim, 0, 1, true);
    await(&w.r, &w.r.a, GP_EVENT_MESSAGE, 1);
    await(&w.r, &w.r.b, GP_EVENT_MESSAGE, 1);
    pump_until(&w, nothing_waits);
    settle(&w.r);
    assert_int_equal(side_count(&w.r.a, GP_EVENT_MESSAGE), 1);
    assert_int_equal(side_count(&w.r.b, GP_EVENT_MESSAGE), 1);
    assert_int_equal(live(&w, GP_SIM_QP), 2);
    assert_true(stats_of(&w).created[GP_SIM_QP] >= 4);
    assert_int_equal(room_taken(&w.r.a), room);
    close_unstuck(&w);
}

/* A request fails a moment before the port is said to be down. */
static void
the_error_comes_first(void **state)
{
    gp_sim_break how = {.status = IBV_WC_LOC_QP_OP_ERR};
    world w;

    (void)state;
    world_connected(&w, &one, NULL);
    how.process = w.a;
    gp_sim_break_qp(w.sim, &how);
    send_control(&w.r, &w.r.a, 1);
    pump_until(&w, a_is_lost);
    assert_false(gp_list_empty(&w.r.a.domain->parked));
    gp_sim_link(w.sim, 0, 1, false);
    send_control(&w.r, &w.r.b, 1);
    pump_until(&w, both_lost);
    gp_sim_link(w.sim, 0, 1, true);
    pump_until(&w, a_is_back);
    await(&w.r, &w.r.b, GP_EVENT_MESSAGE, 1);
    await(&w.r, &w.r.a, GP_EVENT_MESSAGE, 1);
    close_unstuck(&w);
}

static const char *const own_domains[] = {"ib_reconnect", "0.2", "ib_domains",
                                          "peer", NULL};
static const char *const shared_domains[] = {"ib_reconnect", "0.2",
                                             "ib_domains", "shared", NULL};

/* A port that stays down ends the endpoint; what waits for it goes with the
 * domain. */
static void
stays_down(const char *const *settings)
{
    world w;

    world_connected(&w, &one, settings);
    lose_port(&w);
    assert_int_equal(ended(&w, &w.r.a), GP_ERR_PEER_LOST);
    assert_int_equal(ended(&w, &w.r.b), GP_ERR_PEER_LOST);
    assert_false(nothing_waits(&w));
    assert_int_equal(live(&w, GP_SIM_QP), 2);
    close_unstuck(&w);
}

static void
the_only_port_stays_down(void **state)
{
    (void)state;
    stays_down(own_domains);
    stays_down(shared_domains);
}

/* Memory of an endpoint that ended is let go of, whatever still waits; that
 * goes when the port is up again. */
static void
comes_too_late(const char *const *settings, size_t domains_after)
{
    area m;
    world w;

    world_connected(&w, &one, settings);
    area_expose(&w, &m, &w.r.b, 4096);
    lose_port(&w);
    assert_int_equal(ended(&w, &w.r.a), GP_ERR_PEER_LOST);
    assert_int_equal(ended(&w, &w.r.b), GP_ERR_PEER_LOST);
    w.r.ops->ep_close(w.r.a.ep);
    w.r.ops->ep_close(w.r.b.ep);
    w.r.a.ep = w.r.b.ep = NULL;
    area_free(&w, &m);
    settle(&w.r);
    assert_int_equal(live(&w, GP_SIM_MR) + live(&w, GP_SIM_MW), 0);
    assert_int_equal(live(&w, GP_SIM_QP), 2);
    assert_int_equal(live(&w, GP_SIM_PD), 2);
    gp_sim_link(w.sim, 0, 1, true);
    pump_until(&w, nothing_waits);
    assert_int_equal(live(&w, GP_SIM_QP) + live(&w, GP_SIM_ID), 1);
    assert_int_equal(live(&w, GP_SIM_PD), domains_after);
    assert_int_equal(room_taken(&w.r.a) + room_taken(&w.r.b), 0);
    close_unstuck(&w);
}

static void
the_only_port_comes_too_late(void **state)
{
    (void)state;
    comes_too_late(own_domains, 0);
    comes_too_late(shared_domains, 2);
}

/* A queue pair that waits is nobody's: its events mean no lane. */
static void
what_waits_gets_an_event(void **state)
{
    world w;

    (void)state;
    world_connected(&w, &one, NULL);
    lose_port(&w);
    gp_sim_async(w.sim, w.a, IBV_EVENT_QP_FATAL);
    gp_sim_link(w.sim, 0, 1, true);
    pump_until(&w, a_is_back);
    pump_until(&w, nothing_waits);
    settle(&w.r);
    assert_int_equal(w.r.a.ep->lane[0]->losses, 1);
    assert_true(w.r.a.domain->reconnects == 1);
    close_unstuck(&w);
}

/* A completion queue in error stays until what waits on it is gone. */
static void
its_queue_breaks_meanwhile(void **state)
{
    size_t queues;
    world w;

    (void)state;
    world_connected(&w, &one, NULL);
    queues = live(&w, GP_SIM_CQ);
    lose_port(&w);
    gp_sim_cq_error(w.sim, w.a);
    settle(&w.r);
    assert_int_equal(live(&w, GP_SIM_CQ), queues);
    gp_sim_link(w.sim, 0, 1, true);
    pump_until(&w, a_is_back);
    pump_until(&w, nothing_waits);
    assert_int_equal(live(&w, GP_SIM_CQ), queues);
    close_unstuck(&w);
}

/* The kernel waits until every id of a device that is removed is destroyed. */
static void
the_device_goes_meanwhile(void **state)
{
    world w;

    (void)state;
    world_connected(&w, &one, NULL);
    lose_port(&w);
    assert_false(nothing_waits(&w));
    gp_sim_device_removal(w.sim, 0);
    assert_int_equal(live(&w, GP_SIM_QP), 2);
    pump_until(&w, nothing_waits);
    assert_int_equal(live(&w, GP_SIM_QP), 0);
    world_close(&w);
}

static void
two_rails(world *w, const char *const *settings)
{
    static const gp_sim_device two[2];
    const gp_sim_options fabric = {
        .step = true, .goes_deaf = true, .device = two, .devices = 2};

    world_open(w, &fabric, settings);
    world_listen(w, "");
    rig_connect(&w->r);
    pump_until(w, both_have_two);
    settle(&w->r);
}

static bool
both_noticed(world *w)
{
    return w->r.a.domain->ports_ns && w->r.b.domain->ports_ns;
}

static bool
names_port(const gp_endpoint *ep)
{
    return strstr(ep->lane[0]->cause, "port 1 is down");
}

/* Nothing fails of itself: nothing is under way, and nobody asks the peer. The
 * side that leaves first knows why; the other may hear of it before it looks.
 */
static void
a_quiet_rail_is_left(void **state)
{
    static const char *const settings[] = {"keepalive", "0", "ib_rails", "2",
                                           NULL};
    world w;

    (void)state;
    two_rails(&w, settings);
    gp_sim_link(w.sim, 0, 1, false);
    pump_until(&w, both_noticed);
    assert_int_equal(lanes_up(w.r.a.ep), 2);
    pump_until(&w, both_lost);
    assert_int_equal(lanes_up(w.r.a.ep), 1);
    assert_true(names_port(w.r.a.ep) || names_port(w.r.b.ep));
    gp_sim_link(w.sim, 0, 1, true);
    pump_until(&w, both_have_two);
    close_unstuck(&w);
}

/* One that is up again in time is kept, and so is the only one, which may come
 * up before the device has tried often enough. */
static void
a_quiet_rail_is_kept(void **state)
{
    static const char *const settings[] = {"keepalive", "0", "ib_rails", "2",
                                           NULL};
    world w;
    gp_domain *d;

    (void)state;
    two_rails(&w, settings);
    d = w.r.a.domain;
    gp_sim_link(w.sim, 0, 1, false);
    pump_until(&w, both_noticed);
    gp_sim_link(w.sim, 0, 1, true);
    gp_vb_port_timer(d, d->ports_ns);
    assert_true(d->ports_ns == 0);
    assert_int_equal(lanes_up(w.r.a.ep), 2);
    gp_sim_link(w.sim, 0, 1, false);
    gp_sim_link(w.sim, 1, 1, false);
    pump_until(&w, both_noticed);
    gp_vb_port_timer(d, d->ports_ns);
    assert_int_equal(lanes_up(w.r.a.ep), 2);
    gp_sim_link(w.sim, 0, 1, true);
    gp_sim_link(w.sim, 1, 1, true);
    send_control(&w.r, &w.r.a, 1);
    await(&w.r, &w.r.b, GP_EVENT_MESSAGE, 1);
    assert_true(d->reconnects == 0);
    world_close(&w);
}

/* The device says nothing of what is under way: who asks the peer and gets no
 * answer names the port. What it has not completed it might still do: such a
 * queue pair does not wait. */
static void
the_only_port_is_named(void **state)
{
    static const char *const settings[] = {"keepalive", "100ms", NULL};
    world w;

    (void)state;
    world_connected(&w, &one, settings);
    settle(&w.r);
    gp_sim_stall(w.sim, STALL_NS);
    gp_sim_link(w.sim, 0, 1, false);
    pump_until(&w, a_is_lost);
    assert_non_null(strstr(w.r.a.ep->lane[0]->cause, "port 1 is down; hint"));
    assert_false(gp_list_empty(&w.r.a.domain->parked));
    assert_int_equal(room_taken(&w.r.a), 0);
    assert_true(stats_of(&w).stuck > 0);
    world_close(&w);
}

/* Of two rails one dies and comes back: the other carries what is sent
 * meanwhile, and then both carry something. */
static void
one_of_two_rails_comes_back(void **state)
{
    static const char *const rails[] = {"ib_rails", "2", NULL};
    const size_t length = 1u << 20, piece = 1u << 16;
    uint64_t before;
    area from, to;
    world w;

    (void)state;
    two_rails(&w, rails);
    side_forget(&w.r.a);
    side_forget(&w.r.b);
    area_make(&w, &from, &w.r.a, length);
    area_expose(&w, &to, &w.r.b, length);
    fill_pattern(from.bytes, length, 3);
    gp_sim_link(w.sim, 0, 1, false);
    for (size_t at = 0; at < length / 2; at += piece)
        push(&w, &from, &to, at, piece, at + 1);
    arrived(&w, &w.r.b, length / 2 / piece);
    assert_true(a_is_lost(&w));
    gp_sim_link(w.sim, 0, 1, true);
    pump_until(&w, both_have_two);
    before = w.r.a.ep->lane[0]->messages;
    for (size_t at = length / 2; at < length; at += piece)
        push(&w, &from, &to, at, piece, at + 1);
    arrived(&w, &w.r.b, length / piece);
    assert_pattern(to.bytes, length, 3);
    assert_true(w.r.a.ep->lane[0]->messages > before);
    close_unstuck(&w);
}

static bool
a_has_waited(world *w)
{
    const gp_vb_lane *lane = w->r.a.ep->lane[0];

    return lane->state == GP_VB_LANE_LOST && gp_clock_ns() > lane->lost_ns &&
           gp_clock_ns() > w->r.b.ep->lane[0]->lost_ns;
}

static const char *const brief[] = {"ib_rails", "2", "ib_reconnect", "0.05",
                                    NULL};

static void
lose_rail(world *w, unsigned rail)
{
    gp_sim_link(w->sim, rail, 1, false);
    send_control(&w->r, &w->r.a, 1);
    send_control(&w->r, &w->r.b, 1);
}

/* While the other carries all, a rail may stay away for longer. */
static void
a_rail_comes_back_late(void **state)
{
    world w;

    (void)state;
    two_rails(&w, brief);
    lose_rail(&w, 0);
    pump_until(&w, both_lost);
    pump_until(&w, a_has_waited);
    assert_false(w.r.a.ep->lane[0]->given_up);
    assert_false(w.r.b.ep->lane[0]->given_up);
    gp_sim_link(w.sim, 0, 1, true);
    pump_until(&w, both_have_two);
    await(&w.r, &w.r.a, GP_EVENT_MESSAGE, 1);
    await(&w.r, &w.r.b, GP_EVENT_MESSAGE, 1);
    close_unstuck(&w);
}

/* When that one goes too, both have the time of a single one. */
static void
the_other_rail_goes_too(void **state)
{
    world w;

    (void)state;
    two_rails(&w, brief);
    lose_rail(&w, 0);
    pump_until(&w, both_lost);
    pump_until(&w, a_has_waited);
    lose_rail(&w, 1);
    assert_int_equal(ended(&w, &w.r.a), GP_ERR_PEER_LOST);
    assert_int_equal(ended(&w, &w.r.b), GP_ERR_PEER_LOST);
    close_unstuck(&w);
}

/* Between its route and its request: nothing is said, and it is tried again. */
static void
an_attempt_meets_a_port_that_is_down(void **state)
{
    const gp_vb_cm_event routed = {.type = RDMA_CM_EVENT_ROUTE_RESOLVED};
    gp_endpoint *ep = NULL;
    world w;

    (void)state;
    world_open(&w, &one, NULL);
    world_listen(&w, "127.0.0.1:0");
    assert_int_equal(
        w.r.ops->connect(w.r.a.domain, w.r.bound, test_deadline(), &ep), GP_OK);
    (void)gp_sim_settle(w.sim);
    assert_non_null(ep->lane[0]->id->verbs);
    gp_sim_link(w.sim, 0, 1, false);
    gp_vb_connect_event(ep->lane[0], &routed);
    assert_true(gp_sim_calls(w.sim, "rdma_connect") == 0);
    assert_string_equal(ep->lane[0]->cause, "port 1 of sim0 is down");
    assert_true(nothing_waits(&w));
    gp_sim_link(w.sim, 0, 1, true);
    await(&w.r, &w.r.a, GP_EVENT_CONNECTED, 1);
    await(&w.r, &w.r.b, GP_EVENT_ACCEPTED, 1);
    world_close(&w);
}

int
main(void)
{
    static const struct CMUnitTest cases[] = {
        cmocka_unit_test(the_only_port_comes_back),
        cmocka_unit_test(the_error_comes_first),
        cmocka_unit_test(the_only_port_stays_down),
        cmocka_unit_test(the_only_port_comes_too_late),
        cmocka_unit_test(what_waits_gets_an_event),
        cmocka_unit_test(its_queue_breaks_meanwhile),
        cmocka_unit_test(the_device_goes_meanwhile),
        cmocka_unit_test(a_quiet_rail_is_left),
        cmocka_unit_test(a_quiet_rail_is_kept),
        cmocka_unit_test(the_only_port_is_named),
        cmocka_unit_test(one_of_two_rails_comes_back),
        cmocka_unit_test(a_rail_comes_back_late),
        cmocka_unit_test(the_other_rail_goes_too),
        cmocka_unit_test(an_attempt_meets_a_port_that_is_down),
    };

    return cmocka_run_group_tests(cases, NULL, NULL);
}
