/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_codec_bytes.c - the codec suite over uq and the byte stages, alone and
 * in chains.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "base/base.h"
#include "compress/codec_internal.h"
#include "tests/conformance/codec_suite.h"

static void
meets(const char *text, double nmse)
{
    const gp_codec_claim claim = {text, nmse};

    if (gp_codec_suite_claim(&claim))
        fail_msg("%s does not meet the requirements", text);
}

/* Nearest errs by at most half a step, and never by more than the element. */
static void
uq_meets_the_requirements(void **state)
{
    (void)state;
    meets("uq", 0.25 * (1 + 1e-5));
    meets("uq:2", 1);
    meets("uq:0.125", 0.125 * 0.125 / 4 * (1 + 1e-5));
    meets("uq:c=0.03125,scope=tensor", 1);
}

static void
uq_meets_them_with_random_rounding(void **state)
{
    (void)state;
    meets("uq:round=stochastic", -1);
    meets("uq:c=0.5,round=dither", -1);
    meets("uq:round=stratified", -1);
}

static void
byte_stages_meet_the_requirements(void **state)
{
    (void)state;
    meets("shuffle", 0);
    meets("bitshuffle", 0);
    meets("shuffle:width=3", 0);
    meets("bf16+bitshuffle:width=2", 0x1p-16);
    meets("ans", 0);
    meets("bf16+shuffle:2+ans", 0x1p-16);
}

static void
zstd_meets_the_requirements(void **state)
{
    (void)state;
#ifdef GP_HAVE_ZSTD
    meets("zstd", 0);
    meets("bf16+shuffle:2+zstd:-3", 0x1p-16);
    meets("uq:2+bitshuffle:2+zstd+ans", 1);
#else
    print_message("this build has no zstd\n");
    skip();
#endif
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uq_meets_the_requirements),
        cmocka_unit_test(uq_meets_them_with_random_rounding),
        cmocka_unit_test(byte_stages_meet_the_requirements),
        cmocka_unit_test(zstd_meets_the_requirements),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
