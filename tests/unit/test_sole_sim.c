/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_sole_sim.c - the only worker of a job over verbs, by hand: its results
 * leave from the slots in which its pushes landed, each slot comes back after
 * that, and nothing is answered from it again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "job_raw.h"
#include "tests/sim/sim.h"

#define SLOTS 8u

static gp_sim *sim;

static void
start(job *j, raw *w)
{
    static const gp_sim_device device = {.iwarp = false};
    gp_sim_options late = {
        .seed = 1, .device = &device, .devices = 1, .late_acks = true};

    sim = gp_sim_open(&late);
    assert_non_null(sim);
    gp_verbs_api_use(gp_sim_api(sim));
    *j = (job){.transport = "verbs",
               .workers = 1,
               .shards = 1,
               .settings = {"slots", "8"}};
    job_start_servers(j);
    raw_connect(w, "verbs", j->servers, 0, 1);
    raw_join(w);
    raw_expect(w, GP_MSG_START);
    raw_register(w);
}

static void
finish(job *j, raw *w, gp_status expected)
{
    raw_leave(j, w, expected);
    gp_verbs_api_use(NULL);
    assert_int_equal(gp_sim_finish(sim), 0);
}

static void
push(raw *w, uint16_t slot, uint64_t step, bool want, float value)
{
    gp_msg msg = raw_push(w, slot, step, want);

    raw_send_values(w, &msg, value);
}

static void
expect_result(raw *w, uint64_t version, float value)
{
    raw_expect(w, GP_MSG_RESULT);
    assert_int_equal(w->last.step, version);
    for (uint32_t i = 0; i < RAW_COUNT; i++)
        if (w->result[i] != value)
            fail_msg("[%u] is %g, not %g", i, (double)w->result[i],
                     (double)value);
}

/* A slot does not come back with the result that is sent from it, but with a
 * later message. */
static void
slots_come_back_later(void **state)
{
    uint64_t step = 0;
    job j;
    raw w;

    (void)state;
    start(&j, &w);
    assert_int_equal(w.grant.slots, SLOTS);
    for (; step < SLOTS / 2; step++) {
        push(&w, (uint16_t)step, step, true, 3.0f + (float)step);
        expect_result(&w, step + 1, 3.0f + (float)step);
        assert_int_equal(w.last.credits & 1ull << step, 0);
    }
    while (!(w.credits & 1ull << (SLOTS / 2 - 1))) {
        push(&w, SLOTS - 1, step++, false, 1);
        do
            raw_expect(&w, GP_MSG_ACK);
        while (w.last.status == GP_PENDING); /* the result has not left yet */
        assert_true(w.last.credits & 1ull << (SLOTS - 1));
    }
    finish(&j, &w, GP_OK);
}

/* One after the other into the same few: all that is needed comes back although
 * nothing else is said. */
static void
few_slots_are_enough(void **state)
{
    job j;
    raw w;
    uint64_t all;

    (void)state;
    start(&j, &w);
    all = (1ull << w.grant.slots) - 1;
    w.credits = all;
    for (uint64_t step = 0; step < 100; step++) {
        uint16_t slot;

        while (!w.credits)
            raw_expect(&w, GP_MSG_CREDIT);
        slot = (uint16_t)__builtin_ctzll(w.credits);
        w.credits &= ~(1ull << slot);
        push(&w, slot, step, true, (float)step);
        expect_result(&w, step + 1, (float)step);
        assert_int_equal(w.credits & ~all, 0);
    }
    finish(&j, &w, GP_OK);
}

/* A copy of an applied push is not applied again, nor answered from a slot that
 * may hold another by then; its own slot comes back. */
static void
copies_are_dropped(void **state)
{
    job j;
    raw w;

    (void)state;
    start(&j, &w);
    push(&w, 0, 0, true, 1);
    expect_result(&w, 1, 1);
    push(&w, 1, 0, true, 9);
    raw_expect_credits(&w, 2);
    push(&w, 2, 0, false, 9);
    raw_expect(&w, GP_MSG_ACK);
    push(&w, 3, 1, true, 2);
    expect_result(&w, 2, 2);
    finish(&j, &w, GP_OK);
}

static void
nothing_is_given_twice(void **state)
{
    job j;
    raw w;
    gp_msg pull = {.type = GP_MSG_PULL, .step = 1, .cookie = 5};

    (void)state;
    start(&j, &w);
    push(&w, 0, 0, true, 1);
    expect_result(&w, 1, 1);
    pull.aux = gp_destination(w.token, 0);
    raw_send(&w, &pull, NULL);
    raw_expect(&w, GP_MSG_FAULT);
    job_expect_text(w.text, "asks again for step 1");
    finish(&j, &w, GP_ERR_PROTOCOL);
}

/* With a result under way from its slot. */
static void
worker_vanishes(void **state)
{
    uint64_t sends;
    job j;
    raw w;

    (void)state;
    start(&j, &w);
    sends = gp_sim_stats_now(sim).sends;
    push(&w, 0, 0, true, 1);
    while (gp_sim_stats_now(sim).sends < sends + 2)
        (void)raw_poll(&w);
    raw_close(&w);
    job_stop_servers(&j);
    assert_int_equal(j.server_status, GP_ERR_PEER_LOST);
    gp_verbs_api_use(NULL);
    assert_int_equal(gp_sim_finish(sim), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots_come_back_later),
        cmocka_unit_test(few_slots_are_enough),
        cmocka_unit_test(copies_are_dropped),
        cmocka_unit_test(nothing_is_given_twice),
        cmocka_unit_test(worker_vanishes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
