/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_codec.c - the codec suite over the built-in codecs and chains of them,
 * over a codec that offers the least, and over codecs with one flaw each, which
 * it has to find.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "base/bytes.h"
#include "compress/codec_internal.h"
#include "tests/conformance/codec_inputs.h"
#include "tests/conformance/codec_suite.h"

/* A codec that keeps the high 16 bits of each element. */
enum {
    SOUND,
    WRITES_BEYOND,
    IGNORES_EXCESS,
    ADDS_BEFORE_CHECK,
    LOSES_NAN,
    SPREADS_NAN,
    EXPANDS,
    SHORTENS,
    KEEPS_RESIDUAL,
    ADDS_TWICE,
    BOUND_WRAPS,
    FLAWS
};

static const gp_codec_param cut_params[] = {
    {"flaw", 0, 0, FLAWS - 1, 1, "what is wrong with it", NULL},
    {NULL, 0, 0, 0, 0, NULL, NULL},
};

static int flaws[FLAWS];

static gp_status
cut_open(const double *values, const gp_codec_shape *shape, void **instance)
{
    int *flaw = &flaws[(int)values[0]];

    (void)shape;
    *flaw = (int)values[0];
    *instance = flaw;
    return GP_OK;
}

static bool
has(const void *instance, int flaw)
{
    return *(const int *)instance == flaw;
}

static size_t
cut_bound(const void *instance, size_t count)
{
    size_t bytes;

    if (has(instance, BOUND_WRAPS))
        return count * 2;
    return gp_mul(count, 2, &bytes) ? bytes : SIZE_MAX;
}

static uint16_t
cut(const void *instance, float x)
{
    uint32_t b;

    memcpy(&b, &x, sizeof(b));
    if (isnan(x))
        return has(instance, LOSES_NAN) ? 0 : 0x7fc0;
    return (uint16_t)(b >> 16);
}

static gp_status
cut_encode(const void *instance, const gp_codec_context *context,
           const float *source, size_t count, void *out, size_t capacity,
           size_t *length)
{
    uint8_t *bytes = out;

    (void)context;
    if (capacity < cut_bound(instance, count))
        return GP_ERR_TOO_LARGE;
    for (size_t i = 0; i < count; i++)
        gp_put16(bytes + 2 * i, cut(instance, source[i]));
    for (size_t i = 0; i + 1 < count && has(instance, SPREADS_NAN); i++)
        if (isnan(source[i]))
            gp_put16(bytes + 2 * i + 2, 0);
    if (has(instance, WRITES_BEYOND) && count)
        bytes[2 * count] = 0;
    *length = 2 * count;
    if (has(instance, SHORTENS) && count)
        *length -= 1;
    return GP_OK;
}

static gp_status
cut_decode(const void *instance, const gp_codec_context *context,
           const void *bytes, size_t length, float *target, size_t count)
{
    size_t expected = 2 * count - (count && has(instance, SHORTENS));
    const uint8_t *from = bytes;

    (void)context;
    if (length < expected ||
        (length > expected && !has(instance, IGNORES_EXCESS)))
        return GP_ERR_CORRUPT;
    for (size_t i = 0; i < count; i++) {
        uint32_t b = from[2 * i];

        if (2 * i + 1 < length)
            b |= (uint32_t)from[2 * i + 1] << 8;
        b <<= 16;
        memcpy(&target[i], &b, sizeof(b));
        if (has(instance, EXPANDS))
            target[i] *= 2.5f;
    }
    return GP_OK;
}

static gp_status
cut_decode_add(const void *instance, const gp_codec_context *context,
               const void *bytes, size_t length, float *target, size_t count)
{
    if (length != 2 * count) {
        if (has(instance, ADDS_BEFORE_CHECK) && count)
            target[0] += 1;
        return GP_ERR_CORRUPT;
    }
    for (size_t i = 0; i < count; i++) {
        float x = 0;

        (void)!cut_decode(instance, context, (const uint8_t *)bytes + 2 * i, 2,
                          &x, 1);
        target[i] += has(instance, ADDS_TWICE) ? x + x : x;
    }
    return GP_OK;
}

static gp_status
cut_feedback(const void *instance, const gp_codec_context *context,
             const float *source, float *residual, size_t count, void *out,
             size_t capacity, size_t *length)
{
    gp_status status =
        cut_encode(instance, context, source, count, out, capacity, length);

    for (size_t i = 0; i < count && has(instance, KEEPS_RESIDUAL); i++)
        residual[i] += 0.001f;
    return status;
}

/* Offers only what it must: the pipeline composes the rest. */
static const gp_codec_ops cut_least = {
    .abi = GP_CODEC_ABI,
    .kind = GP_CODEC_ARRAY,
    .properties = GP_CODEC_FIXED_RATE | GP_CODEC_CONTRACTS,
    .nonfinite = GP_NONFINITE_EXACT,
    .name = "cut",
    .text = "the high 16 bits",
    .params = cut_params,
    .open = cut_open,
    .bound = cut_bound,
    .encode = cut_encode,
    .decode = cut_decode,
};

static gp_codec_ops cut_most;

static const void *
none_instance(void)
{
    void *instance = NULL;

    (void)!gp_codec_none.open(NULL, &(gp_codec_shape){0, 0}, &instance);
    return instance;
}

/* Rounds to quarters at random, so that the mean is right; with `shift`, not
 * quite right. Large numbers stay. */
static const gp_codec_param dither_params[] = {
    {"shift", 0, 0, 1, 0, "bias of the random numbers", NULL},
    {NULL, 0, 0, 0, 0, NULL, NULL},
};

static double shifts[2];

static gp_status
dither_open(const double *values, const gp_codec_shape *shape, void **instance)
{
    double *shift = &shifts[values[0] > 0];

    (void)shape;
    *shift = values[0];
    *instance = shift;
    return GP_OK;
}

static size_t
dither_bound(const void *instance, size_t count)
{
    (void)instance;
    return gp_codec_none.bound(none_instance(), count);
}

static gp_status
dither_encode(const void *instance, const gp_codec_context *context,
              const float *source, size_t count, void *out, size_t capacity,
              size_t *length)
{
    if (capacity < dither_bound(instance, count))
        return GP_ERR_TOO_LARGE;
    for (size_t i = 0; i < count; i++) {
        uint64_t key = (context->step << 32) + context->offset + i;
        double u = (double)(gp_codec_random(key) >> 11) * 0x1p-53;
        float q =
            (float)(floor(source[i] * 4.0 + u + *(const double *)instance) / 4);
        float x = fabsf(source[i]) < 1000 ? q : source[i];

        memcpy((char *)out + 4 * i, &x, 4);
    }
    *length = 4 * count;
    return GP_OK;
}

static gp_status
dither_decode(const void *instance, const gp_codec_context *context,
              const void *bytes, size_t length, float *target, size_t count)
{
    (void)instance;
    return gp_codec_none.decode(none_instance(), context, bytes, length, target,
                                count);
}

static const gp_codec_ops dither = {
    .abi = GP_CODEC_ABI,
    .kind = GP_CODEC_ARRAY,
    .properties = GP_CODEC_FIXED_RATE | GP_CODEC_UNBIASED,
    .nonfinite = GP_NONFINITE_EXACT,
    .name = "dither",
    .text = "quarters, at random",
    .params = dither_params,
    .open = dither_open,
    .bound = dither_bound,
    .encode = dither_encode,
    .decode = dither_decode,
};

/* E / (1 + E) with E = (block - 1) / (4 * 127^2), and fp32 rounding. */
#define Q8_ERROR(block) \
    (((block)-1) / (4 * 127.0 * 127.0 + (block)-1) * (1 + 1e-5))

static void
pipelines_meet_the_requirements(void **state)
{
    static const gp_codec_claim claims[] = {
        {"none", 0},
        {"fp16", 0x1p-22},
        {"bf16", 0x1p-16},
        {"q8", Q8_ERROR(256)},
        {"q8:block=64", Q8_ERROR(64)},
        {"q8:block=32", Q8_ERROR(32)},
        {"q8:block=65536", Q8_ERROR(65536)},
        {"q8:block=4064", Q8_ERROR(4064)},
#ifdef GP_HAVE_LZ4
        {"q8+lz4", Q8_ERROR(256)},
        {"none+lz4", 0},
        {"lz4:acceleration=50", 0},
        {"bf16+lz4+lz4+lz4", 0x1p-16},
#endif
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(claims); i++)
        assert_int_equal(gp_codec_suite_claim(&claims[i]), 0);
}

static void
a_codec_that_offers_the_least_passes(void **state)
{
    (void)state;
    assert_int_equal(gp_codec_register(&cut_least), GP_OK);
    assert_int_equal(gp_codec_suite("cut"), 0);
#ifdef GP_HAVE_LZ4
    assert_int_equal(gp_codec_suite("cut+lz4"), 0);
    assert_int_equal(gp_codec_suite("cut+lz4+lz4"), 0);
#endif
}

static void
every_flaw_is_found(void **state)
{
    (void)state;
    fprintf(stderr, "what follows is found in flawed codecs on purpose:\n");
    cut_most = cut_least;
    cut_most.name = "flawed";
    cut_most.decode_add = cut_decode_add;
    assert_int_equal(gp_codec_register(&cut_most), GP_OK);
    assert_int_equal(gp_codec_suite("flawed:flaw=0"), 0);
    for (int flaw = 1; flaw < FLAWS; flaw++) {
        char text[32];

        cut_most.encode_feedback = flaw == KEEPS_RESIDUAL ? cut_feedback : NULL;
        snprintf(text, sizeof(text), "flawed:flaw=%d", flaw);
        if (gp_codec_suite(text) == 0)
            fail_msg("the suite does not see flaw %d", flaw);
    }
}

static void
a_bias_is_found(void **state)
{
    (void)state;
    assert_int_equal(gp_codec_register(&dither), GP_OK);
    assert_int_equal(gp_codec_suite("dither"), 0);
    assert_true(gp_codec_suite("dither:shift=0.02") > 0);
}

static void
an_unknown_pipeline_is_a_failure(void **state)
{
    (void)state;
    assert_int_equal(gp_codec_suite("no-such-codec"), 1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pipelines_meet_the_requirements),
        cmocka_unit_test(a_codec_that_offers_the_least_passes),
        cmocka_unit_test(every_flaw_is_found),
        cmocka_unit_test(a_bias_is_found),
        cmocka_unit_test(an_unknown_pipeline_is_a_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
