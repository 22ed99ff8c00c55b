/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_codec_quant.c - the codec suite over casts and block formats.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/conformance/codec_suite.h"

static void
casts_meet_the_requirements(void **state)
{
    (void)state;
    assert_int_equal(gp_codec_suite_family("casts"), 0);
}

static void
integers_meet_the_requirements(void **state)
{
    (void)state;
    assert_int_equal(gp_codec_suite_family("integers"), 0);
}

static void
floats_meet_the_requirements(void **state)
{
    (void)state;
    assert_int_equal(gp_codec_suite_family("floats"), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(casts_meet_the_requirements),
        cmocka_unit_test(integers_meet_the_requirements),
        cmocka_unit_test(floats_meet_the_requirements),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
