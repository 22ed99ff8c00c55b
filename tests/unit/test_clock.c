/* SPDX-License-Identifier: Apache-2.0 */
/* test_clock.c - monotonic time and deadlines. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"

#include <limits.h>
#include <math.h>

#define MS 1000000u

static void
time_does_not_go_back(void **state)
{
    uint64_t last = gp_clock_ns();

    (void)state;
    assert_true(last > 0);
    for (int i = 0; i < 1000; i++) {
        uint64_t now = gp_clock_ns();

        assert_true(now >= last);
        last = now;
    }
}

static void
deadline_adds_seconds(void **state)
{
    uint64_t before = gp_clock_ns(), deadline = gp_deadline(1.5),
             after = gp_clock_ns();

    (void)state;
    assert_true(deadline >= before + 1500u * MS);
    assert_true(deadline <= after + 1500u * MS);
}

static void
negative_and_huge_deadlines_never_pass(void **state)
{
    (void)state;
    assert_true(gp_deadline(-1) == UINT64_MAX);
    assert_true(gp_deadline(-INFINITY) == UINT64_MAX);
    assert_true(gp_deadline(INFINITY) == UINT64_MAX);
    assert_true(gp_deadline(1e300) == UINT64_MAX);
    assert_true(gp_deadline(1.844e10) == UINT64_MAX);
    assert_false(gp_expired(UINT64_MAX));
}

/* What is not a number must not turn into a wait without end. */
static void
zero_and_nan_have_passed(void **state)
{
    (void)state;
    assert_true(gp_expired(gp_deadline(0)));
    assert_true(gp_expired(gp_deadline(NAN)));
    assert_true(gp_expired(0));
    assert_false(gp_expired(gp_deadline(3600)));
}

static void
milliseconds_round_up(void **state)
{
    int ms;

    (void)state;
    assert_int_equal(gp_deadline_ms(UINT64_MAX), -1);
    assert_int_equal(gp_deadline_ms(0), 0);
    assert_int_equal(gp_deadline_ms(gp_clock_ns()), 0);
    assert_int_equal(gp_deadline_ms(UINT64_MAX - 1), INT_MAX);
    ms = gp_deadline_ms(gp_deadline(3600));
    assert_true(ms > 3000000 && ms <= 3600000);
    /* A wait of what is left must not end before the deadline: less than a
     * millisecond left is one, and 0 only once it has passed. */
    for (int i = 0; i < 100; i++) {
        uint64_t deadline = gp_deadline(0.0005);

        ms = gp_deadline_ms(deadline);
        assert_true(ms == 1 || (ms == 0 && gp_expired(deadline)));
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(time_does_not_go_back),
        cmocka_unit_test(deadline_adds_seconds),
        cmocka_unit_test(negative_and_huge_deadlines_never_pass),
        cmocka_unit_test(zero_and_nan_have_passed),
        cmocka_unit_test(milliseconds_round_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
