/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sign.c - the codecs sign and onebit: one bit per element, and per block what
 * the two values of that bit stand for.
 *
 * Layout: for each block one fp32 (sign: the magnitude) or two (onebit: the
 * mean of the elements not below zero, then that of the others), then the bits
 * of sign_kernels.h. Blocks are multiples of 32 elements, so each begins a
 * byte. A block whose levels are NaN, or all zero, has no bit set: one set of
 * numbers has one encoding.
 */
#include <math.h>
#include <stdlib.h>

#include "base/base.h"
#include "base/bytes.h"
#include "compress/kernels.h"
#include "compress/sign_kernels.h"
#include "compress/stochastic.h"

typedef struct sign_instance {
    size_t block;  /* SIZE_MAX: all elements of a call */
    size_t stored; /* fp32 numbers per block */
    gp_sign_sum what;
    float threshold;
} sign_instance;

static const char *const scales[] = {"l1", "l2", "unit", NULL};

static const gp_codec_param sign_params[] = {
    {"block", 2048, 0, 65536, 1,
     "elements that share a scale, a multiple of 32; 0: the whole chunk", NULL},
    {"scale", 0, 0, 0, 0,
     "magnitude of all: l1 their mean, l2 their root mean square, unit 1",
     scales},
    {"threshold", 0, -1e30, 1e30, 0,
     "what is less counts as negative; other than 0 with scale=unit only",
     NULL},
    {NULL, 0, 0, 0, 0, NULL, NULL},
};

static const gp_codec_param onebit_params[] = {
    {"block", 2048, 0, 65536, 1,
     "elements that share two means, a multiple of 32; 0: the whole chunk",
     NULL},
    {NULL, 0, 0, 0, 0, NULL, NULL},
};

static gp_status
open_with(size_t block, size_t stored, gp_sign_sum what, float threshold,
          void **instance)
{
    sign_instance *s;

    if (block % 32)
        return gp_fail(GP_ERR_CONFIG,
                       "block=%zu is not a multiple of 32; write %zu", block,
                       (block + 31) / 32 * 32);
    s = malloc(sizeof(*s));
    if (!s)
        return gp_fail(GP_ERR_NO_MEMORY, "no memory for a codec");
    *s = (sign_instance){block ? block : SIZE_MAX, stored, what, threshold};
    *instance = s;
    return GP_OK;
}

static gp_status
sign_open(const double *values, const gp_codec_shape *shape, void **instance)
{
    static const gp_sign_sum sums[] = {GP_SIGN_MAGNITUDES, GP_SIGN_SQUARES,
                                       GP_SIGN_NOTHING};

    (void)shape;
    if (values[2] != 0 && sums[(size_t)values[1]] != GP_SIGN_NOTHING)
        return gp_fail(GP_ERR_CONFIG,
                       "threshold=%g needs scale=unit: other scales are means "
                       "of magnitudes, which belong to threshold=0",
                       values[2]);
    return open_with((size_t)values[0], 1, sums[(size_t)values[1]],
                     (float)values[2], instance);
}

static gp_status
onebit_open(const double *values, const gp_codec_shape *shape, void **instance)
{
    (void)shape;
    return open_with((size_t)values[0], 2, GP_SIGN_CLASSES, 0, instance);
}

static size_t
level_bytes(const sign_instance *s, size_t count)
{
    return (count / s->block + (count % s->block != 0)) * 4 * s->stored;
}

/* A block is 32 elements at least, so neither term can overflow. */
static size_t
sign_bound(const void *instance, size_t count)
{
    return level_bytes(instance, count) + count / 8 + (count % 8 != 0);
}

/* |C(x)-x|^2 = (1 - phi) |x|^2 with the mean magnitude, and phi >= 1/B; two
 * means are no worse. With the root mean square it is 2 (1 - sqrt(phi)). */
static double
sign_error_bound(const void *instance, size_t count)
{
    const sign_instance *s = instance;
    size_t block = count < s->block ? count : s->block;

    if (s->what == GP_SIGN_NOTHING)
        return INFINITY;
    if (s->what == GP_SIGN_SQUARES)
        return block ? 2 * (1 - sqrt(1 / (double)block)) : 0;
    return block ? 1 - 1 / (double)block : 0;
}

static uint32_t
sign_properties(const void *instance)
{
    const sign_instance *s = instance;
    bool means = s->what == GP_SIGN_MAGNITUDES || s->what == GP_SIGN_CLASSES;

    return GP_CODEC_FIXED_RATE | (means ? GP_CODEC_CONTRACTS : 0);
}

/* Levels below the smallest normal number become 0: a denormal's bits would
 * depend on the thread's flush-to-zero mode. */
static float
level_of(double mean)
{
    return fabs(mean) < 0x1p-126 ? 0 : (float)mean;
}

static size_t
ones(const uint8_t *bits, size_t n)
{
    size_t sum = 0, i = 0;

    for (; i + 64 <= n; i += 64)
        sum += (size_t)__builtin_popcountll(gp_get64(bits + i / 8));
    for (; i < n; i += 8)
        sum += (size_t)__builtin_popcount(bits[i / 8]);
    return sum;
}

/* levels[1] of the elements below zero, levels[0] of the others. */
static void
find_levels(const sign_instance *s, const gp_sign_stats *stats,
            const uint8_t *bits, size_t n, float levels[2])
{
    double sum = gp_sign_total(stats->sums[0]);
    size_t below;

    if (stats->most >= GP_FP32_INFINITY) {
        levels[0] = levels[1] = gp_float(GP_FP32_NAN);
        return;
    }
    if (s->what == GP_SIGN_CLASSES) {
        below = ones(bits, n);
        levels[1] = below ? level_of(sum / (double)below) : 0;
        sum = gp_sign_total(stats->sums[1]);
        levels[0] = below < n ? level_of(sum / (double)(n - below)) : 0;
        return;
    }
    if (s->what == GP_SIGN_NOTHING)
        levels[0] = 1;
    else if (s->what == GP_SIGN_SQUARES)
        levels[0] = level_of(sqrt(sum / (double)n));
    else
        levels[0] = level_of(sum / (double)n);
    levels[1] = -levels[0];
}

static bool
bitless(const float levels[2])
{
    return levels[0] != levels[0] || (levels[0] == 0 && levels[1] == 0);
}

static void
encode_block(const sign_instance *s, const gp_sign_kernels *k,
             const float *source, float *residual, size_t n, uint8_t *levels_at,
             uint8_t *bits)
{
    gp_sign_stats stats = {.most = 0};
    float levels[2];

    k->scan(source, residual, n, s->what, s->threshold, bits, &stats);
    find_levels(s, &stats, bits, n, levels);
    gp_put32(levels_at, gp_bits(levels[0]));
    if (s->stored == 2)
        gp_put32(levels_at + 4, gp_bits(levels[1]));
    if (bitless(levels))
        memset(bits, 0, (n + 7) / 8);
    if (!residual)
        return;
    if (levels[0] != levels[0])
        memset(residual, 0, n * sizeof(*residual));
    else if (!bitless(levels))
        k->paint_sub(bits, levels, residual, n);
}

static gp_status
encode_all(const sign_instance *s, const float *source, float *residual,
           size_t count, uint8_t *out, size_t capacity, size_t *length)
{
    const gp_sign_kernels *k = gp_sign_kernels_get();
    size_t bytes = sign_bound(s, count);
    uint8_t *levels = out, *bits = out + level_bytes(s, count);

    if (capacity < bytes)
        return GP_ERR_TOO_LARGE;
    for (size_t at = 0, n; at < count; at += n, levels += 4 * s->stored) {
        n = count - at < s->block ? count - at : s->block;
        encode_block(s, k, source + at, residual ? residual + at : NULL, n,
                     levels, bits + at / 8);
    }
    *length = bytes;
    return GP_OK;
}

static gp_status
sign_encode(const void *instance, const gp_codec_context *context,
            const float *source, size_t count, void *out, size_t capacity,
            size_t *length)
{
    (void)context;
    return encode_all(instance, source, NULL, count, out, capacity, length);
}

static gp_status
sign_encode_feedback(const void *instance, const gp_codec_context *context,
                     const float *source, float *residual, size_t count,
                     void *out, size_t capacity, size_t *length)
{
    (void)context;
    return encode_all(instance, source, residual, count, out, capacity, length);
}

static void
read_levels(const sign_instance *s, const uint8_t *at, float levels[2])
{
    levels[0] = gp_float(gp_get32(at));
    levels[1] = s->stored == 2 ? gp_float(gp_get32(at + 4))
                               : gp_float(gp_bits(levels[0]) ^ 0x80000000u);
}

static bool
normal_or_zero(uint32_t b)
{
    return b == 0 || (b >= 0x00800000u && b < GP_FP32_INFINITY);
}

static bool
levels_valid(const sign_instance *s, const uint8_t *at)
{
    uint32_t first = gp_get32(at), last = s->stored == 2 ? gp_get32(at + 4) : 0;

    if (first == GP_FP32_NAN)
        return s->stored == 1 || last == GP_FP32_NAN;
    if (s->what == GP_SIGN_NOTHING)
        return first == gp_bits(1.0f);
    if (s->stored == 1)
        return normal_or_zero(first);
    return normal_or_zero(first) &&
           (last == 0 ||
            (last > 0x80000000u && normal_or_zero(last << 1 >> 1)));
}

static bool
sign_valid(const sign_instance *s, const uint8_t *bytes, size_t length,
           size_t count)
{
    const uint8_t *at = bytes, *bits = bytes + level_bytes(s, count);

    if (length != sign_bound(s, count))
        return false;
    for (size_t i = 0, n; i < count; i += n, at += 4 * s->stored) {
        float levels[2];

        n = count - i < s->block ? count - i : s->block;
        if (!levels_valid(s, at))
            return false;
        read_levels(s, at, levels);
        if (bitless(levels) && ones(bits + i / 8, n))
            return false;
    }
    return count % 8 == 0 || bits[count / 8] >> count % 8 == 0;
}

/* Elements [from, from + n) of one block. */
static void
paint_part(const sign_instance *s, const gp_sign_kernels *k,
           const uint8_t *bytes, size_t count, size_t from, size_t n, bool add,
           float *target)
{
    const uint8_t *at = bytes + from / s->block * 4 * s->stored;
    const uint8_t *bits = bytes + level_bytes(s, count) + from / 8;
    float levels[2];

    read_levels(s, at, levels);
    (add ? k->paint_add : k->paint)(bits, levels, target + from, n);
}

static gp_status
sign_decode(const void *instance, const gp_codec_context *context,
            const void *bytes, size_t length, float *target, size_t count)
{
    const sign_instance *s = instance;
    const gp_sign_kernels *k = gp_sign_kernels_get();

    (void)context;
    if (!sign_valid(s, bytes, length, count))
        return GP_ERR_CORRUPT;
    for (size_t at = 0, n; at < count; at += n) {
        n = count - at < s->block ? count - at : s->block;
        paint_part(s, k, bytes, count, at, n, false, target);
    }
    return GP_OK;
}

static gp_status
sign_decode_add(const void *instance, const gp_codec_context *context,
                const void *bytes, size_t length, float *target, size_t count)
{
    const sign_instance *s = instance;
    const gp_sign_kernels *k = gp_sign_kernels_get();

    (void)context;
    if (!sign_valid(s, bytes, length, count))
        return GP_ERR_CORRUPT;
    for (size_t at = 0, n; at < count; at += n) {
        n = count - at < s->block ? count - at : s->block;
        paint_part(s, k, bytes, count, at, n, true, target);
    }
    return GP_OK;
}

/* One pass over a block, or over the whole, for all messages. */
static void
fold_block(const sign_instance *s, const gp_codec_input *input, size_t inputs,
           bool add, size_t count, size_t at, size_t n, float *target)
{
    const uint8_t *bits[GP_CODEC_FOLD];
    float levels[GP_CODEC_FOLD][2];

    for (size_t j = 0; j < inputs; j++) {
        const uint8_t *bytes = input[j].bytes;

        read_levels(s, bytes + at / s->block * 4 * s->stored, levels[j]);
        bits[j] = bytes + level_bytes(s, count) + at / 8;
    }
    gp_sign_kernels_get()->fold(bits, (const float(*)[2])levels, inputs, add,
                                target + at, n);
}

static gp_status
sign_fold(const void *instance, const gp_codec_input *input, size_t inputs,
          int add, float *target, size_t count)
{
    const sign_instance *s = instance;

    for (size_t j = 0; j < inputs; j++)
        if (!sign_valid(s, input[j].bytes, input[j].length, count))
            return GP_ERR_CORRUPT;
    for (size_t at = 0, n; at < count; at += n) {
        n = count - at < s->block ? count - at : s->block;
        fold_block(s, input, inputs, add, count, at, n, target);
    }
    return GP_OK;
}

#define SIGN_CALLS                                                           \
    .abi = GP_CODEC_ABI, .kind = GP_CODEC_ARRAY,                             \
    .nonfinite = GP_NONFINITE_PROPAGATE, .close = free, .bound = sign_bound, \
    .error_bound = sign_error_bound, .encode = sign_encode,                  \
    .encode_feedback = sign_encode_feedback, .decode = sign_decode,          \
    .decode_add = sign_decode_add, .fold = sign_fold

/* Whether it contracts depends on the scale, so it does not say so. */
const gp_codec_ops gp_codec_sign = {
    SIGN_CALLS,
    .properties = GP_CODEC_FIXED_RATE,
    .properties_of = sign_properties,
    .name = "sign",
    .text = "the sign of each element times one magnitude per block",
    .params = sign_params,
    .open = sign_open,
};

const gp_codec_ops gp_codec_onebit = {
    SIGN_CALLS,
    .properties = GP_CODEC_FIXED_RATE | GP_CODEC_CONTRACTS,
    .name = "onebit",
    .text = "the sign of each element, as the mean of those of its sign",
    .params = onebit_params,
    .open = onebit_open,
};
