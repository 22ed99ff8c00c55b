/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_leaks.c - a thousand rounds of connect, push, kill and connect again
 * leave nothing behind on the fabric: neither an object of any kind more than
 * after the first rounds, nor one at the end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/sim/world.h"

#define KIB    1024u
#define ROUNDS 1000

static void
reopen(world *w, side *s, unsigned *process)
{
    await(&w->r, s, GP_EVENT_CLOSED, 1);
    side_close(s);
    side_open(s, &w->r);
    *process = gp_sim_processes(w->sim);
}

/* One life: a connects, pushes, and one of the two dies in its own way. */
static void
round_of(world *w, area *out, int n)
{
    area in;
    gp_endpoint *ep;

    assert_int_equal(
        w->r.ops->connect(w->r.a.domain, w->r.bound, test_deadline(), &ep),
        GP_OK);
    await(&w->r, &w->r.a, GP_EVENT_CONNECTED, 1);
    await(&w->r, &w->r.b, GP_EVENT_ACCEPTED, 1);
    area_expose(w, &in, &w->r.b, 64 * KIB);
    for (size_t i = 0; i < 4; i++)
        push(w, out, &in, i * 16 * KIB, 16 * KIB, i + 1);
    if (n % 5)
        arrived(w, &w->r.b, 4);
    switch (n % 4) {
    case 0: /* kill -9 of the worker, and its next incarnation */
        gp_sim_kill(w->sim, w->a, false);
        area_free(w, out);
        reopen(w, &w->r.a, &w->a);
        area_make(w, out, &w->r.a, 64 * KIB);
        break;
    case 1: /* the worker's host is gone */
        gp_sim_kill(w->sim, w->a, true);
        w->r.ops->ep_close(w->r.b.ep);
        area_free(w, out);
        reopen(w, &w->r.a, &w->a);
        area_make(w, out, &w->r.a, 64 * KIB);
        break;
    case 2: /* the queue pair breaks under way */
        gp_sim_break_qp(w->sim, &(gp_sim_break){.process = w->a});
        push(w, out, &in, 0, 16 * KIB, 9);
        for (int i = 0; i < n % 40; i++)
            pump(&w->r);
        w->r.ops->ep_close(ep);
        break;
    default: /* an orderly end */
        w->r.ops->ep_close(ep);
    }
    if (n % 4 != 1) {
        await(&w->r, &w->r.b, GP_EVENT_CLOSED, 1);
        w->r.ops->ep_close(w->r.b.ep);
    }
    area_free(w, &in);
    side_forget(&w->r.a);
    side_forget(&w->r.b);
}

static size_t
live_objects(world *w)
{
    return gp_sim_leaks(w->sim, NULL, 0);
}

/* Objects that stay while the domains do, once all deadlines have passed. */
static void
expect_only(world *w, size_t objects)
{
    uint64_t deadline = test_deadline();

    while (live_objects(w) > objects) {
        if (gp_expired(deadline))
            fail_msg("%zu objects are left, not %zu", live_objects(w), objects);
        pump(&w->r);
    }
}

static void
open_rounds(world *w, const gp_sim_options *options,
            const char *const *settings)
{
    gp_log_set_level(GP_LOG_NONE);
    world_open(w, options, settings);
    world_listen(w, "127.0.0.1:0");
}

static void
a_thousand_rounds(void **state)
{
    static const char *const settings[] = {"ib_reconnect", "0", NULL};
    const gp_sim_options options = {.step = true, .seed = 1};
    size_t before = 0;
    world w;
    area out;

    (void)state;
    open_rounds(&w, &options, settings);
    area_make(&w, &out, &w.r.a, 64 * KIB);
    for (int n = 0; n < ROUNDS; n++) {
        round_of(&w, &out, n);
        if (n == 7)
            before = live_objects(&w);
        if (n % 8 == 7)
            expect_only(&w, before);
    }
    world_close(&w);
    gp_log_set_level(GP_LOG_WARN);
}

/* Lanes of a dead peer's endpoint may wait for their deadlines. */
static void
shuffled_rounds(void **state)
{
    static const char *const settings[] = {
        "ib_reconnect", "0", "handshake_timeout", "300ms", "keepalive", "1s",
        "ib_qps",       "3", "ib_notify",         "imm",   NULL};
    const gp_sim_options options = {
        .step = true, .shuffle = true, .seed = 2, .late_acks = true};
    size_t channels = 2, queues, listener = 1;
    world w;
    area out;

    (void)state;
    open_rounds(&w, &options, settings);
    area_make(&w, &out, &w.r.a, 64 * KIB);
    for (int n = 0; n < 80; n++)
        round_of(&w, &out, n);
    queues = stats_of(&w).live[GP_SIM_CQ];
    assert_true(queues <= 6);
    expect_only(&w, 2 * channels + queues + listener);
    world_close(&w);
    gp_log_set_level(GP_LOG_WARN);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thousand_rounds),
        cmocka_unit_test(shuffled_rounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
