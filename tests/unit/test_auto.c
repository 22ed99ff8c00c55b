/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_auto.c - the watch of codec=auto on a clock of the test's own, and what
 * measuring a codec gives.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"
#include "worker/auto.h"

static gp_auto_sample now;

/* A busy period: what it pushed, what that was as fp32, how long it took. */
static bool
period(gp_auto *a, uint64_t pushed, uint64_t plain, uint64_t ns)
{
    now.now_ns += 1000; /* idle */
    gp_auto_begin(a, &now);
    now.now_ns += ns;
    now.pushed += pushed;
    now.plain += plain;
    return gp_auto_end(a, &now);
}

static void
start(gp_auto *a)
{
    now = (gp_auto_sample){.now_ns = 1};
    *a = (gp_auto){.phase = GP_AUTO_DENSE};
    assert_false(period(a, 1 << 20, 1 << 20, 9000000)); /* warms up */
    assert_false(period(a, 1 << 20, 1 << 20, 2000000));
    assert_false(period(a, 100, 100, 1)); /* too little to count */
    assert_false(period(a, 1 << 20, 1 << 20, 1000000));
    assert_true(period(a, 1 << 20, 1 << 20, 4000000));
    assert_int_equal(a->phase, GP_AUTO_CHOSEN);
    a->coded = true; /* something pays at that rate */
    assert_true(a->rate > 1.04e9 && a->rate < 1.05e9);
}

static void
what_pays_stays(void **state)
{
    gp_auto a;
    int decisions = 0;

    (void)state;
    start(&a);
    for (int i = 0; i < 4000; i++)
        decisions += period(&a, 1 << 18, 1 << 20, 500000);
    assert_int_equal(decisions, 0);
    assert_false(a.gave_up);
    for (int i = 0; i < 96; i++)
        decisions += period(&a, 1 << 18, 1 << 20, 500000);
    assert_int_equal(decisions, 1); /* the link is looked at again */
    assert_int_equal(a.phase, GP_AUTO_DENSE);
    assert_true(a.rate == 0);
}

static void
what_does_not_pay_is_left(void **state)
{
    gp_auto a;

    (void)state;
    start(&a);
    for (int i = 0; i < 7; i++)
        assert_false(period(&a, 1 << 18, 1 << 20, 1100000));
    assert_true(period(&a, 1 << 18, 1 << 20, 1100000));
    assert_true(a.gave_up && a.rate == 0);
    for (int i = 0; i < 100; i++)
        assert_false(period(&a, 1 << 20, 1 << 20, 1000000));
}

/* Where all tensors went dense there is nothing to give up. */
static void
dense_is_not_judged(void **state)
{
    gp_auto a;

    (void)state;
    start(&a);
    a.coded = false;
    for (int i = 0; i < 100; i++)
        assert_false(period(&a, 1 << 20, 1 << 20, 1100000));
    assert_false(a.gave_up);
    assert_true(a.rate > 0);
}

static void
off_is_off(void **state)
{
    gp_auto a = {0};

    (void)state;
    for (int i = 0; i < 100; i++)
        assert_false(period(&a, 1 << 20, 1 << 20, 1000));
}

static void
codecs_are_measured(void **state)
{
    static const struct {
        const char *text;
        double bytes;
    } cases[] = {{"none", 4}, {"bf16", 2}, {"q8:block=256", 1.015625}};

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(cases); i++) {
        gp_pipeline *p;
        gp_cost cost;

        assert_int_equal(gp_pipeline_parse(cases[i].text, &p), GP_OK);
        assert_int_equal(gp_auto_measure(p, 1 << 20, &cost), GP_OK);
        assert_true(cost.encode > 0 && cost.decode > 0);
        assert_true(cost.bytes == cases[i].bytes);
        gp_pipeline_destroy(p);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_pays_stays),
        cmocka_unit_test(what_does_not_pay_is_left),
        cmocka_unit_test(dense_is_not_judged),
        cmocka_unit_test(off_is_off),
        cmocka_unit_test(codecs_are_measured),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
