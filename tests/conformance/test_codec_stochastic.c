/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_codec_stochastic.c - the suite over signs, random roundings and
 * rotations, alone and in chains.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/conformance/codec_suite.h"

static void
signs(void **state)
{
    (void)state;
    assert_int_equal(gp_codec_suite("sign"), 0);
    assert_int_equal(gp_codec_suite("sign:block=32,scale=l2"), 0);
    assert_int_equal(gp_codec_suite("sign:block=0,scale=unit"), 0);
    assert_int_equal(gp_codec_suite("onebit"), 0);
    assert_int_equal(gp_codec_suite("onebit:block=0"), 0);
    assert_int_equal(gp_codec_suite("vote"), 0);
}

static void
random_roundings(void **state)
{
    (void)state;
    assert_int_equal(gp_codec_suite("qsgd"), 0);
    assert_int_equal(gp_codec_suite("qsgd:levels=1,norm=max,block=64"), 0);
    assert_int_equal(gp_codec_suite("qsgd:levels=2,norm=max,block=0"), 0);
    assert_int_equal(gp_codec_suite("qsgd:levels=20"), 0);
    assert_int_equal(gp_codec_suite("qsgd:levels=63"), 0);
    assert_int_equal(gp_codec_suite("natural"), 0);
    assert_int_equal(gp_codec_suite("natural-dither"), 0);
    assert_int_equal(gp_codec_suite("natural-dither:levels=12,norm=l2"), 0);
    assert_int_equal(gp_codec_suite("terngrad"), 0);
    assert_int_equal(gp_codec_suite("terngrad:clip=0,block=256"), 0);
    assert_int_equal(gp_codec_suite("hadamard+qsgd:levels=7,norm=max"), 0);
}

static void
rotations(void **state)
{
    (void)state;
    assert_int_equal(gp_codec_suite("hadamard+none"), 0);
    assert_int_equal(gp_codec_suite("hadamard:block=64+q8"), 0);
    assert_int_equal(gp_codec_suite("hadamard:block=4096+sign"), 0);
    assert_int_equal(gp_codec_suite("drive"), 0);
    assert_int_equal(gp_codec_suite("drive:block=32,scale=mse"), 0);
    assert_int_equal(gp_codec_suite("eden"), 0);
    assert_int_equal(gp_codec_suite("eden:bits=1,block=64"), 0);
    assert_int_equal(gp_codec_suite("eden:bits=2,block=2048,scale=mse"), 0);
    assert_int_equal(gp_codec_suite("eden:bits=3,block=256"), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signs),
        cmocka_unit_test(random_roundings),
        cmocka_unit_test(rotations),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
