/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_codec_q8.c - the layout of q8, its special blocks and what its decoder
 * refuses.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/base.h"
#include "base/bytes.h"
#include "compress/kernels.h"
#include "tests/conformance/codec_residual.h"

/* Two blocks of 32 and one of 6: 3 scales, then 70 codes. */
enum { COUNT = 70, SCALES = 12, BYTES = SCALES + COUNT };

static const gp_codec_context context = {.seed = 1};
static gp_pipeline *pipeline;

static int
set_up(void **state)
{
    (void)state;
    return gp_pipeline_parse("q8:block=32", &pipeline);
}

static int
tear_down(void **state)
{
    (void)state;
    gp_pipeline_destroy(pipeline);
    return 0;
}

static void
encode(const float *x, uint8_t *bytes)
{
    size_t length;

    assert_int_equal(gp_encode_residual(pipeline, &context, x, NULL, COUNT,
                                        bytes, BYTES, &length, NULL),
                     GP_OK);
    assert_int_equal(length, BYTES);
}

static void
ramp(float *x)
{
    for (size_t i = 0; i < COUNT; i++)
        x[i] = (float)i - 35;
}

static float
scale_at(const uint8_t *bytes, size_t block)
{
    return gp_float(gp_get32(bytes + 4 * block));
}

static void
scales_come_first_then_codes(void **state)
{
    float x[COUNT], out[COUNT];
    uint8_t bytes[BYTES];

    (void)state;
    ramp(x);
    encode(x, bytes);
    assert_true(scale_at(bytes, 0) == 35.0f / 127);
    assert_true(scale_at(bytes, 1) == 28.0f / 127);
    assert_true(scale_at(bytes, 2) == 34.0f / 127);
    assert_int_equal((int8_t)bytes[SCALES], -127);
    assert_int_equal((int8_t)bytes[SCALES + 35], 0);
    assert_int_equal((int8_t)bytes[SCALES + 63], 127);
    assert_int_equal(
        gp_pipeline_decode(pipeline, &context, bytes, BYTES, out, COUNT, NULL),
        GP_OK);
    for (size_t i = 0; i < COUNT; i++)
        assert_true(fabsf(out[i] - x[i]) <=
                    scale_at(bytes, i / 32) * 0.5f * (1 + 1e-5f));
}

static void
ties_round_to_even(void **state)
{
    float x[COUNT] = {127, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 126.5f};
    const int codes[] = {127, 0, 2, 2, 0, -2, -2, 126};
    uint8_t bytes[BYTES];

    (void)state;
    encode(x, bytes);
    for (size_t i = 0; i < GP_COUNT_OF(codes); i++)
        assert_int_equal((int8_t)bytes[SCALES + i], codes[i]);
}

/* The first block's absmax, the scale that must come of it. */
static void
check_scale(float absmax, float scale)
{
    float x[COUNT] = {0}, out[COUNT];
    uint8_t bytes[BYTES];

    x[7] = -absmax;
    encode(x, bytes);
    assert_true(scale_at(bytes, 0) == scale);
    assert_int_equal((int8_t)bytes[SCALES + 7], scale != 0 ? -127 : 0);
    assert_int_equal(
        gp_pipeline_decode(pipeline, &context, bytes, BYTES, out, COUNT, NULL),
        GP_OK);
    assert_true(isfinite(out[7]));
    if (scale != 0)
        assert_true(fabsf(out[7] + absmax) <= absmax * 2e-7f);
}

static void
small_and_large_blocks(void **state)
{
    (void)state;
    check_scale(0, 0);
    check_scale(1e-40f, 0);
    check_scale(nextafterf(0x1p-119f, 0), 0);
    check_scale(0x1p-119f, 0x1p-119f / 127);
    check_scale(1e38f, 1e38f / 127);
    check_scale(FLT_MAX, gp_float(GP_Q8_LARGEST));
}

/* The border is where 127 times the next scale is no longer finite. */
static void
largest_scale_is_the_largest(void **state)
{
    volatile float most = gp_float(GP_Q8_LARGEST);
    volatile float more = gp_float(GP_Q8_LARGEST + 1);

    (void)state;
    assert_true(isfinite(127 * most));
    assert_true(isinf(127 * more));
    assert_true(gp_float(GP_Q8_TINY) == 0x1p-119f);
    assert_true(0x1p-119f / 127 >= FLT_MIN);
    assert_true(isfinite(127 / 0x1p-119f));
}

static void
a_nan_takes_its_block(void **state)
{
    float x[COUNT], out[COUNT], residual[COUNT];
    const float bad[] = {NAN, INFINITY, -INFINITY};
    uint8_t bytes[BYTES];
    size_t length;

    (void)state;
    for (size_t k = 0; k < GP_COUNT_OF(bad); k++) {
        ramp(x);
        x[40] = bad[k];
        for (size_t i = 0; i < COUNT; i++)
            residual[i] = 0.5f;
        assert_int_equal(gp_encode_residual(pipeline, &context, x, residual,
                                            COUNT, bytes, BYTES, &length, NULL),
                         GP_OK);
        assert_int_equal(gp_get32(bytes + 4), GP_FP32_NAN);
        assert_int_equal(gp_pipeline_decode(pipeline, &context, bytes, BYTES,
                                            out, COUNT, NULL),
                         GP_OK);
        for (size_t i = 0; i < COUNT; i++) {
            assert_true(!isnan(out[i]) == (i < 32 || i >= 64));
            if (i >= 32 && i < 64)
                assert_true(residual[i] == 0);
        }
    }
}

/* Every one of these is what no encoder writes. */
static void
decoder_refuses(void **state)
{
    const uint32_t scales[] = {0x7f800000, 0xff800000,       0x80000000,
                               0xbf800000, 0x7fc00001,       0xffc00000,
                               0x00000001, GP_Q8_LARGEST + 1};
    float x[COUNT], out[COUNT];
    uint8_t bytes[BYTES];

    (void)state;
    ramp(x);
    for (size_t i = 0; i < GP_COUNT_OF(scales); i++) {
        encode(x, bytes);
        gp_put32(bytes + 8, scales[i]);
        assert_int_equal(gp_pipeline_decode(pipeline, &context, bytes, BYTES,
                                            out, COUNT, NULL),
                         GP_ERR_CORRUPT);
    }
    for (size_t i = 0; i < COUNT; i++) {
        encode(x, bytes);
        bytes[SCALES + i] = 0x80;
        assert_int_equal(gp_pipeline_decode(pipeline, &context, bytes, BYTES,
                                            out, COUNT, NULL),
                         GP_ERR_CORRUPT);
        memcpy(out, x, sizeof(x));
        assert_int_equal(gp_pipeline_decode_add(pipeline, &context, bytes,
                                                BYTES, out, COUNT, NULL),
                         GP_ERR_CORRUPT);
        assert_memory_equal(out, x, sizeof(x));
    }
}

static void
bounds_do_not_wrap(void **state)
{
    (void)state;
    assert_int_equal(gp_pipeline_bound(pipeline, 0), 0);
    assert_int_equal(gp_pipeline_bound(pipeline, 1), 5);
    assert_int_equal(gp_pipeline_bound(pipeline, 32), 36);
    assert_int_equal(gp_pipeline_bound(pipeline, 33), 41);
    assert_true(gp_pipeline_bound(pipeline, SIZE_MAX) == SIZE_MAX);
    assert_true(gp_pipeline_bound(pipeline, SIZE_MAX / 8 * 7) > SIZE_MAX / 8);
    assert_true(gp_pipeline_workspace(pipeline, SIZE_MAX / 2) == SIZE_MAX);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scales_come_first_then_codes),
        cmocka_unit_test(ties_round_to_even),
        cmocka_unit_test(small_and_large_blocks),
        cmocka_unit_test(largest_scale_is_the_largest),
        cmocka_unit_test(a_nan_takes_its_block),
        cmocka_unit_test(decoder_refuses),
        cmocka_unit_test(bounds_do_not_wrap),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
