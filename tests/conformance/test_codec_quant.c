/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_codec_quant.c - the codec suite over casts and block formats.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"
#include "tests/conformance/codec_suite.h"

static void
check_all(const gp_codec_claim *claims, size_t count)
{
    for (size_t i = 0; i < count; i++)
        assert_int_equal(gp_codec_suite_claim(&claims[i]), 0);
}

static void
casts(void **state)
{
    static const gp_codec_claim claims[] = {
        {"fp16:round=stochastic", 1e-6},
        {"bf16:round=stochastic", 0x1p-14},
        {"bf16:stratified", 0x1p-14},
    };

    (void)state;
    check_all(claims, GP_COUNT_OF(claims));
}

static void
integers(void **state)
{
    static const gp_codec_claim claims[] = {
        {"q8:round=stochastic", 255.0 / (4 * 127 * 127)},
        {"q8:block=32,round=stratified,scale=bf16", 0.0006},
        {"q8:block=96,round=dither", 0.0006},
        {"q8:round=dither,scale=bf16", 0.0018},
        {"q8:scale=bf16", 0.0045},
        {"q4", 31.0 / (31 + 4 * 49)},
        {"q4:block=512,scale=bf16", 1},
        {"q4:round=stochastic", 31.0 / (4 * 49)},
        {"q4:round=dither", 32.0 / (12 * 48.9)},
        {"q2", 1},
        {"q2:dense=1", 1},
        {"q2:block=2080,dense=1,scale=bf16", 1},
        {"q2:block=32,round=stochastic", 2.4},
        {"q2:round=stratified,dense=1", 7.5},
        {"q2:round=dither", 21.4},
    };

    (void)state;
    check_all(claims, GP_COUNT_OF(claims));
}

static void
floats(void **state)
{
    static const gp_codec_claim claims[] = {
        {"fp8", 0.004},
        {"fp8:format=e5m2,block=96,scale=bf16", 0.016},
        {"fp8:round=stochastic", 0.008},
        {"fp8:e5m2,round=stratified", 0.032},
        {"mxfp8", 0.016},
        {"mxfp8:e5m2,round=stochastic", 0.032},
        {"mxfp6", 0.06},
        {"mxfp6:format=e3m2,round=stochastic", 0.1},
        {"mxfp4", 0.19},
        {"mxfp4:stochastic", 0.4},
        {"mxint8", 0.0021},
        {"mxint8:stratified", 0.004},
        {"nvfp4", 0.1},
        {"nvfp4:round=stochastic", 0.2},
    };

    (void)state;
    check_all(claims, GP_COUNT_OF(claims));
}

static void
chains(void **state)
{
#ifdef GP_HAVE_LZ4
    static const gp_codec_claim claims[] = {
        {"q4:round=stochastic+lz4", -1},
        {"nvfp4+lz4", -1},
    };

    (void)state;
    check_all(claims, GP_COUNT_OF(claims));
#else
    (void)state;
    print_message("this build has no lz4\n");
    skip();
#endif
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(casts),
        cmocka_unit_test(integers),
        cmocka_unit_test(floats),
        cmocka_unit_test(chains),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
