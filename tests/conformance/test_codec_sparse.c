/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_codec_sparse.c - the codec suite over selections, memories and chains.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/conformance/codec_suite.h"

static void
selections_meet_the_requirements(void **state)
{
    (void)state;
    assert_int_equal(gp_codec_suite_family("selections"), 0);
}

static void
memories_meet_the_requirements(void **state)
{
    (void)state;
    assert_int_equal(gp_codec_suite_family("memories"), 0);
}

static void
chains_meet_the_requirements(void **state)
{
    (void)state;
    assert_int_equal(gp_codec_suite_family("chains"), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(selections_meet_the_requirements),
        cmocka_unit_test(memories_meet_the_requirements),
        cmocka_unit_test(chains_meet_the_requirements),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
