/* SPDX-License-Identifier: Apache-2.0 */
/*
 * natural.c - the codec natural: each element goes at random to one of the two
 * powers of two next to it.
 *
 * Layout: one byte `base`, at most 127, then one byte c per element, in two's
 * complement: 0, or the sign of c times 2^(|c| + base - 127), or NaN for -128.
 * The base is 0 unless an element is 1 or more; then it is the least that
 * leaves room for the next power above the largest element. Powers end at
 * 2^127: what is beyond rounds down.
 */
#include <stdlib.h>

#include "base/base.h"
#include "compress/kernels.h"
#include "compress/philox.h"
#include "compress/random_kernels.h"
#include "compress/reduce.h"
#include "compress/stochastic.h"

#define PART 512

/* Distance between the least power and the greatest. */
#define RANGE 127

static size_t
natural_bound(const void *instance, size_t count)
{
    size_t bytes;

    (void)instance;
    return gp_add(count, 1, &bytes) ? bytes : SIZE_MAX;
}

static double
natural_error_bound(const void *instance, size_t count)
{
    (void)instance;
    (void)count;
    return 0.125;
}

static uint32_t
largest_finite(const float *x, size_t n)
{
    uint32_t most = gp_max_magnitude(x, n);

    if (most < GP_FP32_INFINITY)
        return most;
    most = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t m = gp_bits(x[i]) & GP_FP32_MAGNITUDE;

        if (m < GP_FP32_INFINITY && m > most)
            most = m;
    }
    return most;
}

static unsigned
base_of(const float *x, size_t n)
{
    unsigned top = (largest_finite(x, n) >> 23) + 1;

    top = top > 254 ? 254 : top;
    return top > RANGE ? top - RANGE : 0;
}

static gp_status
natural_encode_feedback(const void *instance, const gp_codec_context *context,
                        const float *source, float *residual, size_t count,
                        void *out, size_t capacity, size_t *length)
{
    const gp_random_kernels *k = gp_random_kernels_get();
    gp_stream stream = gp_stream_of(context, GP_USE_ROUNDING);
    size_t bytes = natural_bound(instance, count);
    int8_t *codes = (int8_t *)out + 1;
    uint32_t words[PART];
    float decoded[PART];
    unsigned base;

    if (bytes == SIZE_MAX || capacity < bytes)
        return GP_ERR_TOO_LARGE;
    if (residual) {
        gp_add_fp32(residual, source, count);
        source = residual;
    }
    base = base_of(source, count);
    *(uint8_t *)out = (uint8_t)base;
    for (size_t at = 0, n; at < count; at += n) {
        n = count - at < PART ? count - at : PART;
        gp_philox_words(&stream, context->offset + at, words, n);
        k->powers(source + at, 1, base, base + RANGE, words, codes + at, n);
        if (!residual)
            continue;
        k->from_powers(codes + at, base, 1, decoded, n);
        gp_kernels_get()->remainder(residual + at, decoded, residual + at, n);
    }
    *length = bytes;
    return GP_OK;
}

static gp_status
natural_encode(const void *instance, const gp_codec_context *context,
               const float *source, size_t count, void *out, size_t capacity,
               size_t *length)
{
    return natural_encode_feedback(instance, context, source, NULL, count, out,
                                   capacity, length);
}

/* With a base there is an element near the upper end. */
static bool
natural_valid(const uint8_t *bytes, size_t length, size_t count)
{
    const int8_t *codes = (const int8_t *)bytes + 1;

    if (length != natural_bound(NULL, count) || length == SIZE_MAX ||
        bytes[0] > RANGE)
        return false;
    for (size_t i = 0; bytes[0] && i < count; i++)
        if (codes[i] > INT8_MIN && abs(codes[i]) >= RANGE - 1)
            return true;
    return bytes[0] == 0;
}

static gp_status
natural_decode(const void *instance, const gp_codec_context *context,
               const void *bytes, size_t length, float *target, size_t count)
{
    const uint8_t *from = bytes;

    (void)instance;
    (void)context;
    if (!natural_valid(bytes, length, count))
        return GP_ERR_CORRUPT;
    gp_random_kernels_get()->from_powers((const int8_t *)from + 1, from[0], 1,
                                         target, count);
    return GP_OK;
}

static gp_status
natural_decode_add(const void *instance, const gp_codec_context *context,
                   const void *bytes, size_t length, float *target,
                   size_t count)
{
    const uint8_t *from = bytes;
    float decoded[PART];

    (void)instance;
    (void)context;
    if (!natural_valid(bytes, length, count))
        return GP_ERR_CORRUPT;
    for (size_t at = 0, n; at < count; at += n) {
        n = count - at < PART ? count - at : PART;
        gp_random_kernels_get()->from_powers((const int8_t *)from + 1 + at,
                                             from[0], 1, decoded, n);
        gp_add_fp32(target + at, decoded, n);
    }
    return GP_OK;
}

const gp_codec_ops gp_codec_natural = {
    .abi = GP_CODEC_ABI,
    .kind = GP_CODEC_ARRAY,
    .properties = GP_CODEC_FIXED_RATE | GP_CODEC_UNBIASED,
    .nonfinite = GP_NONFINITE_PROPAGATE,
    .name = "natural",
    .text = "random rounding to powers of two, 8 bits",
    .bound = natural_bound,
    .error_bound = natural_error_bound,
    .encode = natural_encode,
    .encode_feedback = natural_encode_feedback,
    .decode = natural_decode,
    .decode_add = natural_decode_add,
};
