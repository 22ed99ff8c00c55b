/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_codec_sparse.c - the codec suite over selections, index stages and
 * chains of them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"
#include "tests/conformance/codec_suite.h"

static void
check_all(const char *const *texts, size_t count)
{
    for (size_t i = 0; i < count; i++)
        assert_int_equal(gp_codec_suite(texts[i]), 0);
}

static void
selections_meet_the_requirements(void **state)
{
    static const char *const texts[] = {
        "topk:0.01",
        "topk:0.1+raw",
        "topk:0.3,scope=tensor+rice",
        "topk:1+bitmap",
        "topk:0.02,start=0.5,over=3+auto",
        "randk:0.01",
        "randk:0.7",
        "randk:0.1,start=1,over=5",
        "randk:0.25,scale=unbiased",
        "threshold:0.5",
        "threshold:2,relative=1,scope=tensor+rice",
    };

    (void)state;
    check_all(texts, GP_COUNT_OF(texts));
}

static void
chains_meet_the_requirements(void **state)
{
    static const char *const texts[] = {
        "topk:0.01+q8+rice",           "topk:0.1,scope=tensor+q8:block=32+auto",
        "topk:0.05+bf16+bitmap",       "randk:0.25+q8",
        "threshold:1,relative=1+fp16", "zeros",
        "zeros:block=32+q8",           "zeros+bf16",
#ifdef GP_HAVE_LZ4
        "topk:0.1+q8+lz4+rice+lz4",    "zeros+q8+lz4",
#endif
    };

    (void)state;
    check_all(texts, GP_COUNT_OF(texts));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(selections_meet_the_requirements),
        cmocka_unit_test(chains_meet_the_requirements),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
