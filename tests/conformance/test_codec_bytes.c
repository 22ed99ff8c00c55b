/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_codec_bytes.c - the codec suite over uq and the byte stages.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/conformance/codec_suite.h"

static void
bytes_meet_the_requirements(void **state)
{
    (void)state;
    assert_int_equal(gp_codec_suite_family("bytes"), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_meet_the_requirements),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
