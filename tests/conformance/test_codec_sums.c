/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_codec_sums.c - the codec suite over codecs that shards sum or that
 * factor.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"
#include "tests/conformance/codec_suite.h"

/* Half a step of most elements, where one is as large as the levels reach. */
static void
shared_step_integers_meet_the_requirements(void **state)
{
    static const gp_codec_claim claims[] = {
        {"intsum:bits=16", (1 << 17) / (32767.0 * 32767)},
        {"intsum", 1},
        {"intsum:bits=4", 1},
        {"intsum:round=stochastic", -1},
        {"intsum:bits=16,round=stochastic", -1},
#ifdef GP_HAVE_LZ4
        {"intsum+lz4", 1},
#endif
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(claims); i++)
        assert_int_equal(gp_codec_suite_claim(&claims[i]), 0);
}

/* Normal numbers lose 0.022 and 0.23 of their energy. */
static void
thc_meets_the_requirements(void **state)
{
    static const char *const texts[] = {
        "thc",
        "thc:levels=uniform,block=1024",
        "thc:bits=2,block=32",
#ifdef GP_HAVE_LZ4
        "thc+lz4",
#endif
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(texts); i++)
        assert_int_equal(gp_codec_suite(texts[i]), 0);
}

/* As matrices of several shapes, and as vectors, which travel as they are. */
static void
low_rank_factors_meet_the_requirements(void **state)
{
    static const struct {
        gp_codec_claim claim;
        size_t columns;
    } cases[] = {
        {{"powersgd", 0}, 0},
        {{"powersgd", 1}, 100},
        {{"powersgd:rank=1", 1}, 8},
        {{"powersgd:rank=2,power=2", 1}, 33},
        {{"powersgd:rank=3,factors=fp16", 1}, 48},
#ifdef GP_HAVE_LZ4
        {{"powersgd:rank=2+lz4", 1}, 64},
#endif
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(cases); i++)
        assert_int_equal(
            gp_codec_suite_matrix(&cases[i].claim, cases[i].columns), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shared_step_integers_meet_the_requirements),
        cmocka_unit_test(thc_meets_the_requirements),
        cmocka_unit_test(low_rank_factors_meet_the_requirements),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
