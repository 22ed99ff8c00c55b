/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_verbs_rails.c - which of its rails a host connects over, and to which of
 * the peer's: the best ones, and others where those lead nowhere.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "shard/paths.h"
#include "tests/sim/world.h"
#include "transports/address.h"
#include "transports/verbs/verbs_int.h"

/* The addresses of the devices. */
#define FIRST  "10.77.0.1"
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

    world_open(w, &fabric, settings);
    world_listen(w, "");
}

/* ... and the peer knows one address, which is not that of the first. */
static void
listen_on_one(world *w, const char *const *settings)
{
    const char *port;

    listen_on_both(w, settings);
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

static void
first_cut_off(gp_sim *sim)
{
    gp_sim_partition(sim, FIRST, FIRST);
    gp_sim_partition(sim, SECOND, FIRST);
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

        listen_on_one(&w, i & 1 ? automatic : named);
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

/* What listens on several rails says so, the best one first. */
static void
all_rails_are_told(void **state)
{
    char expected[64];
    world w;

    (void)state;
    listen_on_both(&w, named);
    snprintf(expected, sizeof(expected), FIRST ":%u|" SECOND ":%u",
             w.r.b.domain->port, w.r.b.domain->port);
    assert_string_equal(w.r.bound, expected);
    (void)connect_now(&w);
    connected_over(&w, "sim0");
    expected[strcspn(expected, "|")] = '\0';
    assert_string_equal(w.r.a.ep->peer, expected);
    world_close(&w);
}

/* However long they are: four rails and tcp, none left out. */
static void
long_addresses_are_told(void **state)
{
#define LONG "2001:db8:1111:2222:3333:4444:5555:666"
    static const gp_sim_device four[4] = {
        {.port = {{.gids = {LONG "1"}}}},
        {.port = {{.gids = {LONG "2"}}}},
        {.port = {{.gids = {LONG "3"}}}},
        {.port = {{.gids = {LONG "4"}}}},
    };
    static const char *const settings[] = {
        "ib_rails", "4", "ib_hca", "sim", "transport", "verbs", NULL};
    const gp_sim_options fabric = {.step = true, .device = four, .devices = 4};
    char expected[GP_ADDRESS_MAX] = "", published[GP_ADDRESS_MAX] = "";
    world w;

    (void)state;
    world_open(&w, &fabric, settings);
    world_listen(&w, "");
    for (int i = 1; i <= 4; i++) {
        size_t used = strlen(expected);

        snprintf(expected + used, sizeof(expected) - used, "%s[" LONG "%d]:%u",
                 used ? "|" : "", i, w.r.b.domain->port);
    }
    assert_string_equal(w.r.bound, expected);
    assert_int_equal(
        gp_paths_append("verbs", w.r.bound, true, published, sizeof(published)),
        GP_OK);
    assert_int_equal(gp_paths_append("tcp", "[" LONG "1]:65535", true,
                                     published, sizeof(published)),
                     GP_OK);
    (void)connect_now(&w);
    connected_over(&w, "sim0");
    world_close(&w);
#undef LONG
}

/* The address of a lane's other end. */
static void
assert_target(const gp_vb_lane *lane, const char *host)
{
    char text[GP_ADDRESS_MAX];

    gp_address_name(&lane->target, text, sizeof(text));
    text[strcspn(text, ":")] = '\0';
    assert_string_equal(text, host);
}

/* Whatever is wrong with the first rail of the peer, or of both: it is reached
 * over its second one, which is what is tried next; and the first one is what a
 * further lane goes to. */
static void
another_address_is_taken(void **state)
{
    void (*const faults[])(gp_sim *) = {fatal, down, first_cut_off};

    (void)state;
    gp_log_set_callback(keep_warning, NULL);
    for (size_t i = 0; i < 2 * GP_COUNT_OF(faults); i++) {
        world w;

        listen_on_both(&w, i & 1 ? automatic : named);
        faults[i / 2](w.sim);
        *warning = '\0';
        (void)connect_now(&w);
        connected_over(&w, "sim1");
        assert_target(w.r.a.ep->lane[0], SECOND);
        assert_target(w.r.a.ep->lane[1], FIRST);
        assert_non_null(strstr(warning, "connected over sim1:1 to " SECOND));
        assert_non_null(strstr(warning, "because of sim0:1 to " FIRST));
        assert_true(gp_sim_calls(w.sim, "rdma_resolve_addr") <= 3);
        world_close(&w);
    }
    gp_log_set_callback(NULL, NULL);
}

/* Over the second one a connection goes on whose first rail was lost before the
 * peer had told that there is another. */
static void
lost_before_rails_are_told(void **state)
{
    void (*const faults[])(gp_sim *) = {down, first_cut_off};

    (void)state;
    gp_log_set_level(GP_LOG_NONE);
    for (size_t i = 0; i < GP_COUNT_OF(faults); i++) {
        world w;

        listen_on_both(&w, named);
        (void)connect_now(&w);
        await(&w.r, &w.r.a, GP_EVENT_CONNECTED, 1);
        await(&w.r, &w.r.b, GP_EVENT_ACCEPTED, 1);
        assert_int_equal(w.r.a.ep->lane[1]->state, GP_VB_LANE_IDLE);
        faults[i](w.sim);
        for (uint64_t n = 1; n <= 3; n++) {
            send_control(&w.r, &w.r.a, n);
            send_control(&w.r, &w.r.b, n);
        }
        await(&w.r, &w.r.a, GP_EVENT_MESSAGE, 3);
        await(&w.r, &w.r.b, GP_EVENT_MESSAGE, 3);
        assert_string_equal(w.r.a.ep->lane[1]->device->name, "sim1");
        assert_target(w.r.a.ep->lane[1], SECOND);
        assert_int_equal(side_count(&w.r.a, GP_EVENT_CLOSED), 0);
        assert_int_equal(side_count(&w.r.b, GP_EVENT_CLOSED), 0);
        world_close(&w);
    }
    gp_log_set_level(GP_LOG_WARN);
}

/* With one rail of its own a worker has two ways all the same. */
static void
one_rail_reaches_another(void **state)
{
    static const char *const single[] = {"ib_rails",  "1",     "ib_hca", "sim1",
                                         "transport", "verbs", NULL};
    const gp_sim_options fabric = {.step = true, .device = two, .devices = 2};
    world w;

    (void)state;
    gp_log_set_level(GP_LOG_NONE);
    world_open(&w, &fabric, single);
    world_listen(&w, "");
    assert_null(strchr(w.r.bound, '|'));
    snprintf(w.r.bound, sizeof(w.r.bound), FIRST ":%u|" SECOND ":%u",
             w.r.b.domain->port, w.r.b.domain->port);
    gp_sim_partition(w.sim, SECOND, FIRST);
    (void)connect_now(&w);
    connected_over(&w, "sim1");
    assert_target(w.r.a.ep->lane[0], SECOND);
    world_close(&w);
    gp_log_set_level(GP_LOG_WARN);
}

/* Of all pairs of rails the only one that leads anywhere is found, before the
 * first one is tried again. */
static void
any_pair_is_found(void **state)
{
    static const gp_sim_device four[4];
    static const char *const settings[] = {
        "ib_rails", "2", "ib_hca", "sim0,sim1", "transport", "verbs", NULL};
    static const char *const from[] = {FIRST, SECOND};
    static const char *const to[] = {"10.77.2.1", "10.77.3.1"};
    const gp_sim_options fabric = {.step = true, .device = four, .devices = 4};

    (void)state;
    gp_log_set_level(GP_LOG_NONE);
    for (int left = 0; left < 4; left++) {
        world w;

        world_open(&w, &fabric, settings);
        world_listen(&w, "");
        snprintf(w.r.bound, sizeof(w.r.bound), "%s:%u|%s:%u", to[0],
                 w.r.b.domain->port, to[1], w.r.b.domain->port);
        for (int i = 0; i < 4; i++)
            if (i != left)
                gp_sim_partition(w.sim, from[i / 2], to[i % 2]);
        (void)connect_now(&w);
        connected_over(&w, left / 2 ? "sim1" : "sim0");
        assert_target(w.r.a.ep->lane[0], to[left % 2]);
        assert_true(gp_sim_calls(w.sim, "rdma_connect") <= 5);
        world_close(&w);
    }
    gp_log_set_level(GP_LOG_WARN);
}

/* A first device that has so many queue pairs, and a second one with enough;
 * `depth`: of a queue of the first. */
static void
open_scarce(world *w, unsigned queue_pairs, unsigned depth,
            const char *const *settings)
{
    const gp_sim_device scarce[2] = {
        {.max_qp = queue_pairs, .max_qp_wr = depth}};
    const gp_sim_options fabric = {
        .step = true, .device = scarce, .devices = 2};

    gp_log_set_level(GP_LOG_NONE);
    world_open(w, &fabric, settings);
    world_listen(w, "");
}

/* A device without a queue pair, on this side or the peer's, is passed over:
 * both take it from the one that has some. */
static void
a_device_without_queue_pairs_is_left(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 8; i++) {
        unsigned here = i & 1 ? 2 : 1; /* how many a second one finds used */
        world w;

        open_scarce(&w, here, i & 4 ? 32 : 0, i & 2 ? automatic : named);
        if (here == 2) {
            (void)connect_now(&w);
            connected_over(&w, "sim0");
        }
        (void)connect_now(&w);
        connected_over(&w, "sim1");
        assert_target(w.r.a.ep->lane[0], SECOND);
        world_close(&w);
    }
    gp_log_set_level(GP_LOG_WARN);
}

/* With none on any device it ends at once, and says what is missing; but not
 * while one of them has some and the peer is not there yet. */
static void
without_any_queue_pair_it_ends(void **state)
{
    static const gp_sim_device one_each[2] = {{.max_qp = 2}, {.max_qp = 2}};
    const gp_sim_options fabric = {
        .step = true, .device = one_each, .devices = 2};
    gp_endpoint *ep;
    world w;

    (void)state;
    gp_log_set_level(GP_LOG_NONE);
    world_open(&w, &fabric, named);
    world_listen(&w, "");
    (void)connect_now(&w);
    connected_over(&w, "sim0");
    pump_until(&w, both_have_two);
    ep = connect_now(&w);
    await(&w.r, &w.r.a, GP_EVENT_CLOSED, 1);
    assert_int_equal(ep->status, GP_ERR_NO_MEMORY);
    assert_non_null(strstr(ep->why, "has no queue pair left"));
    world_close(&w);

    open_scarce(&w, 2, 0, named);
    (void)connect_now(&w);
    connected_over(&w, "sim0");
    pump_until(&w, both_have_two);
    gp_sim_refuse(w.sim, 3, 8);
    (void)connect_now(&w);
    connected_over(&w, "sim1");
    world_close(&w);
    gp_log_set_level(GP_LOG_WARN);
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

/* Who refuses was reached: that is no reason to go another way, nor to another
 * address of the same. */
static void
a_refusal_is_no_detour(void **state)
{
    (void)state;
    gp_log_set_level(GP_LOG_NONE);
    for (int several = 0; several < 2; several++) {
        world w;

        (several ? listen_on_both : listen_on_one)(&w, named);
        gp_sim_refuse(w.sim, 3, 8);
        (void)connect_now(&w);
        connected_over(&w, "sim0");
        assert_target(w.r.a.ep->lane[0], several ? FIRST : SECOND);
        assert_int_equal(gp_sim_calls(w.sim, "rdma_connect"), 4);
        world_close(&w);
    }
    gp_log_set_level(GP_LOG_WARN);
}

/* While the way that answers is waited for, those that do not are not tried
 * again and again. */
static void
who_answered_is_asked_first(void **state)
{
    world w;

    (void)state;
    gp_log_set_level(GP_LOG_NONE);
    listen_on_both(&w, named);
    first_cut_off(w.sim);
    gp_sim_refuse(w.sim, 3, 8);
    (void)connect_now(&w);
    connected_over(&w, "sim1");
    assert_int_equal(gp_sim_calls(w.sim, "rdma_connect"), 5);
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
    listen_on_one(&w, named);
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
        listen_on_one(&w, i ? automatic : named);
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
        world_listen(&w, "");
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
        cmocka_unit_test(all_rails_are_told),
        cmocka_unit_test(long_addresses_are_told),
        cmocka_unit_test(another_address_is_taken),
        cmocka_unit_test(lost_before_rails_are_told),
        cmocka_unit_test(one_rail_reaches_another),
        cmocka_unit_test(any_pair_is_found),
        cmocka_unit_test(a_device_without_queue_pairs_is_left),
        cmocka_unit_test(without_any_queue_pair_it_ends),
        cmocka_unit_test(a_device_that_died_is_left),
        cmocka_unit_test(a_device_that_was_removed_is_left),
        cmocka_unit_test(a_refusal_is_no_detour),
        cmocka_unit_test(who_answered_is_asked_first),
        cmocka_unit_test(it_joins_when_it_is_back),
        cmocka_unit_test(no_rail_is_left),
        cmocka_unit_test(a_device_that_is_made_anew_is_used),
    };

    return cmocka_run_group_tests(cases, NULL, NULL);
}
