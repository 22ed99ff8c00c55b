/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_codec_stochastic.c - the codec suite over signs, random roundings,
 * rotations and named variants.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/conformance/codec_suite.h"

static void
signs_meet_the_requirements(void **state)
{
    (void)state;
    assert_int_equal(gp_codec_suite_family("signs"), 0);
}

static void
random_meet_the_requirements(void **state)
{
    (void)state;
    assert_int_equal(gp_codec_suite_family("random"), 0);
}

static void
rotations_meet_the_requirements(void **state)
{
    (void)state;
    assert_int_equal(gp_codec_suite_family("rotations"), 0);
}

static void
names_meet_the_requirements(void **state)
{
    (void)state;
    assert_int_equal(gp_codec_suite_family("names"), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signs_meet_the_requirements),
        cmocka_unit_test(random_meet_the_requirements),
        cmocka_unit_test(rotations_meet_the_requirements),
        cmocka_unit_test(names_meet_the_requirements),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
