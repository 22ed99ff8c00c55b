/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_verbs_rails.c - which of its rails a host connects over: the best one,
 * and another one where that leads nowhere.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/sim/world.h"
#include "transports/verbs/verbs_int.h"

/* The second device's address, which is not the one that is reported. */
#define SECOND "10.77.1.1"

static const gp_sim_device two[2];
static const char *const named[] = {"ib_rails",  "2",     "ib_hca", "sim",
                                    "transport", "verbs", NULL};
static const char *const automatic[] = {"ib_rails",  "2",    "ib_hca", "sim",
                                        "transport", "auto", NULL};

static void
listen_on_both(world *w, const char *const *settings)
{
    const gp_sim_options fabric = {.step = true, .device = two, .devices = 2};
    const char *port;

    world_open(w, &fabric, settings);
    assert_int_equal(
        w->r.ops->listen(w->r.b.domain, "", w->r.bound, sizeof(w->r.bound)),
        GP_OK);
    port = strrchr(w->r.bound, ':');
    assert_non_null(port);
    memmove(w->r.bound + strlen(SECOND), port, strlen(port) + 1);
    memcpy(w->r.bound, SECOND, strlen(SECOND));
}

static gp_endpoint *
connect_now(world *w)
{
    gp_endpoint *ep = NULL;

    assert_int_equal(
        w->r.ops->connect(w->r.a.domain, w->r.bound, test_deadline(), &ep),
        GP_OK);
    return ep;
}

/* a has an endpoint, over that device. */
static void
connected_over(world *w, const char *device)
{
    await(&w->r, &w->r.a, GP_EVENT_CONNECTED, 1);
    await(&w->r, &w->r.b, GP_EVENT_ACCEPTED, 1);
    assert_string_equal(w->r.a.ep->lane[0]->device->name, device);
    assert_int_equal(side_count(&w->r.a, GP_EVENT_CLOSED), 0);
    side_forget(&w->r.a);
    side_forget(&w->r.b);
    send_control(&w->r, &w->r.a, 1);
    await(&w->r, &w->r.b, GP_EVENT_MESSAGE, 1);
    side_forget(&w->r.b);
}

static void
fatal(gp_sim *sim)
{
    gp_sim_device_fatal(sim, 0);
}

static void
down(gp_sim *sim)
{
    gp_sim_link(sim, 0, 1, false);
}

static void
cut_off(gp_sim *sim)
{
    gp_sim_partition(sim, "10.77.0.1", SECOND);
}

static void
no_queue_pair(gp_sim *sim)
{
    gp_sim_fail(sim, "rdma_create_qp", 1, EPERM);
}

/* The last warning of a connection. */
static char warning[512];

static void
keep_warning(void *user, gp_log_level level, const char *line)
{
    (void)user;
    if (level == GP_LOG_WARN && strstr(line, "connected over"))
        snprintf(warning, sizeof(warning), "%s", line);
}

/* Whatever is wrong with the best rail: another one is tried before the first
 * one again, and before tcp is; a warning says which and why. */
static void
another_rail_is_taken(void **state)
{
    void (*const faults[])(gp_sim *) = {fatal, down, cut_off, no_queue_pair};

    (void)state;
    gp_log_set_callback(keep_warning, NULL);
    for (size_t i = 0; i < 2 * GP_COUNT_OF(faults); i++) {
        world w;

        listen_on_both(&w, i & 1 ? automatic : named);
        faults[i / 2](w.sim);
        *warning = '\0';
        (void)connect_now(&w);
        connected_over(&w, "sim1");
        assert_non_null(
            strstr(warning, "connected over sim1:1, because of sim0:1: "));
        assert_true(gp_sim_calls(w.sim, "rdma_resolve_addr") <= 3);
        world_close(&w);
    }
    gp_log_set_callback(NULL, NULL);
}

/* ... also when the device is known to be lost, by a connection over it. */
static void
a_lost_device_is_left(void (*lose)(gp_sim *, unsigned))
{
    world w;

    gp_log_set_level(GP_LOG_NONE);
    listen_on_both(&w, named);
    (void)connect_now(&w);
    connected_over(&w, "sim0");
    lose(w.sim, 0);
    settle(&w.r);
    (void)connect_now(&w);
    connected_over(&w, "sim1");
    world_close(&w);
    gp_log_set_level(GP_LOG_WARN);
}

static void
a_device_that_died_is_left(void **state)
{
    (void)state;
    a_lost_device_is_left(gp_sim_device_fatal);
}

static void
a_device_that_was_removed_is_left(void **state)
{
    (void)state;
    a_lost_device_is_left(gp_sim_device_removal);
}

/* Who refuses was reached: that is no reason to go another way. */
static void
a_refusal_is_no_detour(void **state)
{
    world w;

    (void)state;
    gp_log_set_level(GP_LOG_NONE);
    listen_on_both(&w, named);
    gp_sim_refuse(w.sim, 3, 8);
    (void)connect_now(&w);
    connected_over(&w, "sim0");
    world_close(&w);
    gp_log_set_level(GP_LOG_WARN);
}

/* The rail that was passed over joins as a further one. */
static void
it_joins_when_it_is_back(void **state)
{
    world w;

    (void)state;
    gp_log_set_level(GP_LOG_NONE);
    listen_on_both(&w, named);
    down(w.sim);
    (void)connect_now(&w);
    connected_over(&w, "sim1");
    gp_sim_link(w.sim, 0, 1, true);
    pump_until(&w, both_have_two);
    assert_string_equal(w.r.a.ep->lane[1]->device->name, "sim0");
    world_close(&w);
    gp_log_set_level(GP_LOG_WARN);
}

/* With no rail left it is tried until the deadline, or tcp is taken. */
static void
no_rail_is_left(void **state)
{
    gp_endpoint *ep;
    world w;

    (void)state;
    gp_log_set_level(GP_LOG_NONE);
    for (size_t i = 0; i < 2; i++) {
        listen_on_both(&w, i ? automatic : named);
        gp_sim_link(w.sim, 0, 1, false);
        gp_sim_link(w.sim, 1, 1, false);
        ep = connect_now(&w);
        while (gp_sim_calls(w.sim, "rdma_resolve_addr") < 4 &&
               side_count(&w.r.a, GP_EVENT_CLOSED) == 0)
            pump(&w.r);
        assert_int_equal(side_count(&w.r.a, GP_EVENT_CLOSED), i);
        if (i)
            assert_int_equal(ep->status, GP_ERR_UNREACHABLE);
        world_close(&w);
    }
    gp_log_set_level(GP_LOG_WARN);
}

static bool
both_ended(world *w)
{
    return side_count(&w->r.a, GP_EVENT_CLOSED) &&
           side_count(&w->r.b, GP_EVENT_CLOSED);
}

/* A driver that recovers its device removes it and makes it anew, under the
 * same name: who connects then uses the new one, and what is left of the old
 * one goes without harm, late or early. */
static void
a_device_that_is_made_anew_is_used(void **state)
{
    (void)state;
    gp_log_set_level(GP_LOG_NONE);
    for (int early = 0; early < 2; early++) {
        world w;

        world_open(&w, &(gp_sim_options){.step = true}, NULL);
        assert_int_equal(
            w.r.ops->listen(w.r.b.domain, "", w.r.bound, sizeof(w.r.bound)),
            GP_OK);
        for (int i = 0; i < 3; i++) {
            gp_endpoint *ends[2];

            (void)connect_now(&w);
            connected_over(&w, "sim0");
            ends[0] = w.r.a.ep;
            ends[1] = w.r.b.ep;
            gp_sim_device_replace(w.sim, 0);
            pump_until(&w, both_ended);
            for (int k = 0; k < 2 && early; k++)
                w.r.ops->ep_close(ends[k]);
            side_forget(&w.r.a);
            side_forget(&w.r.b);
        }
        (void)connect_now(&w);
        connected_over(&w, "sim0");
        world_close(&w);
    }
    gp_log_set_level(GP_LOG_WARN);
}

int
main(void)
{
    static const struct CMUnitTest cases[] = {
        cmocka_unit_test(another_rail_is_taken),
        cmocka_unit_test(a_device_that_died_is_left),
        cmocka_unit_test(a_device_that_was_removed_is_left),
        cmocka_unit_test(a_refusal_is_no_detour),
        cmocka_unit_test(it_joins_when_it_is_back),
        cmocka_unit_test(no_rail_is_left),
        cmocka_unit_test(a_device_that_is_made_anew_is_used),
    };

    return cmocka_run_group_tests(cases, NULL, NULL);
}
