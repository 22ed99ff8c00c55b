/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_example_codec.c - the codec suite over the codec of an example, which is
 * what its reader would begin with.
 */
int example_main(void); /* runs in tests/integration */
#define main example_main
#include "examples/03_custom_codec.c"
#undef main

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "tests/conformance/codec_suite.h"

static void
sign1_meets_all_requirements(void **state)
{
    (void)state;
    assert_int_equal(gp_codec_register(&sign1_ops), GP_OK);
    assert_int_equal(gp_codec_suite("sign1"), 0);
    assert_int_equal(gp_codec_suite("sign1:8"), 0);
    assert_int_equal(gp_codec_suite("sign1:block=100"), 0);
    if (gp_codec_find("lz4"))
        assert_int_equal(gp_codec_suite("sign1+lz4"), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sign1_meets_all_requirements),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
