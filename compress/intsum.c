/* SPDX-License-Identifier: Apache-2.0 */
/*
 * intsum.c - the codec intsum: integers of one step that all workers share.
 *
 * Layout: step (fp32), contributors (u16), lane width (u8), 0 (u8), then a lane
 * per element. The step has so few significant bits that every sum of codes of
 * CONTRIBUTORS workers, times the step, is an fp32 number: decoding a sum of
 * codes and adding up decoded codes give the same bits, in any order. The step
 * travels, so that no decoder needs what the workers agreed on.
 */
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "base/base.h"
#include "base/bytes.h"
#include "compress/kernels.h"
#include "compress/lanes.h"
#include "compress/philox.h"
#include "compress/reduce.h"

#define HEAD 8
/* Most workers in a sum: 256 * 127 fits 16 bits, 256 * 32767 fits 24. */
#define CONTRIBUTORS 256

typedef struct intsum {
    unsigned width; /* bits of one worker's code */
    bool random;
    int32_t levels; /* codes are in [-levels, levels] */
    /* Low bits of a step that are 0. With those that 256 * levels takes, no
     * more than 24 are left. */
    uint32_t below;
    uint32_t largest; /* step whose `levels`-fold is finite */
} intsum;

static const intsum instances[3][2] = {
    {{4, false, 7, 0xffff, 0x7e120000}, {4, true, 7, 0xffff, 0x7e120000}},
    {{8, false, 127, 0xffff, 0x7c010000}, {8, true, 127, 0xffff, 0x7c010000}},
    {{16, false, 32767, 0x7fffff, 0x78000000},
     {16, true, 32767, 0x7fffff, 0x78000000}},
};

static const char *const widths[] = {"4", "8", "16", NULL};
static const char *const roundings[] = {"nearest", "stochastic", NULL};

static const gp_codec_param intsum_params[] = {
    {"bits", 1, 0, 0, 0, "of a worker's code; sums take 16, or 32 for 16",
     widths},
    {"round", 0, 0, 0, 0, "to the nearest code, or without bias", roundings},
    {NULL, 0, 0, 0, 0, NULL, NULL},
};

static gp_status
intsum_open(const double *values, const gp_codec_shape *shape, void **instance)
{
    (void)shape;
    *instance = (void *)(uintptr_t)&instances[(int)values[0]][(int)values[1]];
    return GP_OK;
}

/* Width of the lanes that hold sums of so many workers' codes. */
static unsigned
lane_width(const intsum *c, unsigned contributors)
{
    uint32_t most = (uint32_t)c->levels * contributors;

    if (contributors == 1)
        return c->width;
    return most <= 127 ? 8 : most <= 32767 ? 16 : 32;
}

static size_t
intsum_bound(const void *instance, size_t count)
{
    size_t bytes;
    unsigned width = lane_width(instance, CONTRIBUTORS);

    if (!gp_mul(count, width / 8, &bytes) || !gp_add(bytes, HEAD, &bytes))
        return SIZE_MAX;
    return bytes;
}

static uint32_t
intsum_properties(const void *instance)
{
    const intsum *c = instance;

    return c->random ? GP_CODEC_UNBIASED : 0;
}

/* With a the most by which half a step exceeds the largest magnitude divided
 * by twice the levels: one element is as large as can be and all others are
 * half a step, which is what nearest rounding loses of them. */
static double
intsum_error(const void *instance, size_t count)
{
    const intsum *c = instance;
    double slack = 1 + (c->below + 1.0) * 0x1p-23;
    double a = slack / (2.0 * c->levels), n = (double)count;

    a *= a * (1 + 1e-5);
    if (!count)
        return 0;
    return c->random ? n * a : fmin(1, n * a / (1 + (n - 1) * a));
}

/* ---- the step -------------------------------------------------------- */

/* The least allowed number that is at least most / levels; 0 where that would
 * be denormal, NaN for what is not finite. */
static float
step_of(const intsum *c, uint32_t most, float *inverse)
{
    uint32_t s;

    *inverse = 0;
    if (most >= GP_FP32_INFINITY)
        return gp_float(GP_FP32_NAN);
    s = gp_bits(gp_float(most) / (float)c->levels);
    if (s < 0x00800000u)
        return 0;
    s = (s + c->below) & ~c->below;
    /* The quotient was rounded, perhaps down to an allowed number. */
    if ((double)gp_float(s) * c->levels < (double)gp_float(most))
        s += c->below + 1;
    s = s < c->largest ? s : c->largest;
    *inverse = 1 / gp_float(s);
    return gp_float(s);
}

static bool
step_valid(const intsum *c, uint32_t s)
{
    return s == 0 || s == GP_FP32_NAN ||
           (s >= 0x00800000u && s <= c->largest && (s & c->below) == 0);
}

/* ---- messages -------------------------------------------------------- */

typedef struct message {
    float step;
    unsigned contributors, width;
    uint32_t limit; /* largest magnitude of a code */
    const uint8_t *lanes;
} message;

/* All but the codes. */
static bool
read_head(const intsum *c, const void *bytes, size_t length, size_t count,
          message *m)
{
    const uint8_t *p = bytes;
    uint32_t step;

    if (length < HEAD || length > intsum_bound(c, count))
        return false;
    step = gp_get32(p);
    m->step = gp_float(step);
    m->contributors = gp_get16(p + 4);
    if (!step_valid(c, step) || m->contributors == 0 ||
        m->contributors > CONTRIBUTORS)
        return false;
    m->width = lane_width(c, m->contributors);
    /* Zero and NaN steps have codes that are all 0. */
    m->limit = m->step > 0 ? (uint32_t)c->levels * m->contributors : 0;
    m->lanes = p + HEAD;
    return p[6] == m->width && p[7] == 0 &&
           length - HEAD == gp_lane_bytes(count, m->width);
}

static void
write_head(uint8_t *out, float step, unsigned contributors, unsigned width)
{
    gp_put32(out, gp_bits(step));
    gp_put16(out + 4, (uint16_t)contributors);
    out[6] = (uint8_t)width;
    out[7] = 0;
}

static size_t
strip_of(size_t count, size_t at)
{
    return count - at < GP_STRIP ? count - at : GP_STRIP;
}

static const uint8_t *
strip_at(const message *m, size_t at)
{
    return m->lanes + gp_lane_bytes(at, m->width);
}

/* No code of a strip is too large, and nothing follows the last. */
static bool
strip_valid(const gp_lane_kernels *k, const message *m, size_t at, size_t n)
{
    const uint8_t *from = strip_at(m, at);

    if (m->width == 4 && n % 2 && from[n / 2] >> 4)
        return false;
    return k->within(from, m->width, (int32_t)m->limit, n);
}

static bool
codes_valid(const gp_lane_kernels *k, const message *m, size_t count)
{
    for (size_t at = 0; at < count; at += GP_STRIP)
        if (!strip_valid(k, m, at, strip_of(count, at)))
            return false;
    return true;
}

/* ---- encode ---------------------------------------------------------- */

static uint32_t
round_strip(const intsum *c, const gp_codec_context *context,
            const gp_stream *stream, const float *x, float inverse, size_t at,
            size_t n, int32_t *q)
{
    const gp_lane_kernels *k = gp_lanes_get();
    uint32_t words[GP_STRIP];

    if (!c->random)
        return k->nearest(x, inverse, (float)c->levels, q, n);
    gp_philox_words(stream, context->offset + at, words, n);
    return k->random(x, words, inverse, (float)c->levels, q, n);
}

static void
write_nan(const intsum *c, size_t count, uint8_t *out)
{
    write_head(out, gp_float(GP_FP32_NAN), 1, c->width);
    memset(out + HEAD, 0, gp_lane_bytes(count, c->width));
}

/* Where nothing was agreed, the elements' own largest magnitude serves. */
static void
encode_all(const intsum *c, const gp_codec_context *context,
           const float *source, size_t count, uint8_t *out)
{
    const gp_lane_kernels *k = gp_lanes_get();
    gp_stream stream = gp_stream_of(context, GP_USE_ROUNDING);
    uint32_t most = gp_bits(context->shared) & GP_FP32_MAGNITUDE;
    float inverse, step;
    int32_t q[GP_STRIP];

    if (most == 0)
        most = gp_max_magnitude(source, count);
    step = step_of(c, most, &inverse);
    for (size_t at = 0; at < count && most < GP_FP32_INFINITY; at += GP_STRIP) {
        size_t n = strip_of(count, at);
        uint32_t m =
            round_strip(c, context, &stream, source + at, inverse, at, n, q);

        most = m >= GP_FP32_INFINITY ? m : most;
        k->narrow(q, c->width, out + HEAD + gp_lane_bytes(at, c->width), n);
    }
    write_head(out, step, 1, c->width);
    if (most >= GP_FP32_INFINITY)
        write_nan(c, count, out);
}

static gp_status
intsum_encode(const void *instance, const gp_codec_context *context,
              const float *source, size_t count, void *out, size_t capacity,
              size_t *length)
{
    const intsum *c = instance;
    size_t bound = intsum_bound(c, count);

    if (bound == SIZE_MAX || capacity < bound)
        return GP_ERR_TOO_LARGE;
    encode_all(c, context, source, count, out);
    *length = HEAD + gp_lane_bytes(count, c->width);
    return GP_OK;
}

static gp_status
intsum_propose(const void *instance, const gp_codec_context *context,
               const float *source, size_t count, float *value)
{
    (void)instance;
    (void)context;
    *value = gp_float(gp_max_magnitude(source, count));
    return GP_OK;
}

/* ---- decode ---------------------------------------------------------- */

static gp_status
intsum_decode(const void *instance, const gp_codec_context *context,
              const void *bytes, size_t length, float *target, size_t count)
{
    const gp_lane_kernels *k = gp_lanes_get();
    int32_t q[GP_STRIP];
    message m;

    (void)context;
    if (!read_head(instance, bytes, length, count, &m))
        return GP_ERR_CORRUPT;
    for (size_t at = 0; at < count; at += GP_STRIP) {
        size_t n = strip_of(count, at);

        if (!strip_valid(k, &m, at, n))
            return GP_ERR_CORRUPT;
        k->widen(strip_at(&m, at), m.width, q, n);
        k->scale(q, m.step, target + at, n);
    }
    return GP_OK;
}

static gp_status
intsum_decode_add(const void *instance, const gp_codec_context *context,
                  const void *bytes, size_t length, float *target, size_t count)
{
    const gp_lane_kernels *k = gp_lanes_get();
    int32_t q[GP_STRIP];
    message m;

    (void)context;
    if (!read_head(instance, bytes, length, count, &m) ||
        !codes_valid(k, &m, count))
        return GP_ERR_CORRUPT;
    for (size_t at = 0; at < count; at += GP_STRIP) {
        size_t n = strip_of(count, at);

        k->widen(strip_at(&m, at), m.width, q, n);
        k->scale_add(q, m.step, target + at, n);
    }
    return GP_OK;
}

/* ---- sums ------------------------------------------------------------ */

typedef struct messages {
    message of[GP_CODEC_FOLD];
    size_t count;
    unsigned contributors;
    bool alike; /* one step */
} messages;

static bool
read_heads(const intsum *c, const gp_codec_input *input, size_t inputs,
           size_t count, messages *all)
{
    if (inputs == 0 || inputs > GP_CODEC_FOLD)
        return false;
    all->count = inputs;
    all->contributors = 0;
    all->alike = true;
    for (size_t i = 0; i < inputs; i++) {
        if (!read_head(c, input[i].bytes, input[i].length, count, &all->of[i]))
            return false;
        all->contributors += all->of[i].contributors;
        all->alike &= gp_bits(all->of[i].step) == gp_bits(all->of[0].step);
    }
    return true;
}

/* Sums of the codes of a strip. */
static void
sum_codes(const gp_lane_kernels *k, const messages *all, size_t at, size_t n,
          int32_t *sum)
{
    k->widen(strip_at(&all->of[0], at), all->of[0].width, sum, n);
    for (size_t i = 1; i < all->count; i++)
        k->widen_add(strip_at(&all->of[i], at), all->of[i].width, sum, n);
}

/* No partial sum that fp32 would hold overflows it. */
static bool
sums_exact(const intsum *c, const messages *all)
{
    return all->alike && all->contributors <= CONTRIBUTORS &&
           (double)all->of[0].step * c->levels * all->contributors <=
               (double)FLT_MAX;
}

/* One after the other, as gp_codec_ops wants it. */
static void
fold_in_turn(const gp_lane_kernels *k, const messages *all, int add, size_t at,
             size_t n, float *target)
{
    int32_t q[GP_STRIP];

    for (size_t i = 0; i < all->count; i++) {
        k->widen(strip_at(&all->of[i], at), all->of[i].width, q, n);
        if (i || add)
            k->scale_add(q, all->of[i].step, target + at, n);
        else
            k->scale(q, all->of[i].step, target + at, n);
    }
}

static gp_status
intsum_fold(const void *instance, const gp_codec_input *input, size_t inputs,
            int add, float *target, size_t count)
{
    const gp_lane_kernels *k = gp_lanes_get();
    int32_t sum[GP_STRIP];
    messages all;
    bool exact;

    if (!read_heads(instance, input, inputs, count, &all))
        return GP_ERR_CORRUPT;
    for (size_t i = 0; i < inputs; i++)
        if (!codes_valid(k, &all.of[i], count))
            return GP_ERR_CORRUPT;
    exact = !add && sums_exact(instance, &all);
    for (size_t at = 0; at < count; at += GP_STRIP) {
        size_t n = strip_of(count, at);

        if (exact) {
            sum_codes(k, &all, at, n, sum);
            k->scale(sum, all.of[0].step, target + at, n);
        } else {
            fold_in_turn(k, &all, add, at, n, target);
        }
    }
    return GP_OK;
}

/* The step of a sum: that of all, or NaN when one is; false when they differ.
 */
static bool
common_step(const messages *all, float *step)
{
    *step = all->of[0].step;
    if (all->alike)
        return true;
    for (size_t i = 0; i < all->count; i++)
        if (isnan(all->of[i].step))
            *step = all->of[i].step;
    return isnan(*step);
}

static gp_status
intsum_aggregate(const void *instance, const gp_codec_input *input,
                 size_t inputs, size_t count, void *out, size_t capacity,
                 size_t *length)
{
    const gp_lane_kernels *k = gp_lanes_get();
    uint8_t *to = (uint8_t *)out + HEAD;
    int32_t sum[GP_STRIP];
    messages all;
    unsigned width;
    float step;

    if (!read_heads(instance, input, inputs, count, &all) ||
        !common_step(&all, &step))
        return GP_ERR_CORRUPT;
    if (all.contributors > CONTRIBUTORS ||
        capacity < intsum_bound(instance, count))
        return GP_ERR_TOO_LARGE;
    width = lane_width(instance, all.contributors);
    for (size_t at = 0; at < count; at += GP_STRIP) {
        size_t n = strip_of(count, at);

        for (size_t i = 0; i < inputs; i++)
            if (!strip_valid(k, &all.of[i], at, n))
                return GP_ERR_CORRUPT;
        sum_codes(k, &all, at, n, sum);
        if (isnan(step))
            memset(sum, 0, n * sizeof(*sum));
        k->narrow(sum, width, to + gp_lane_bytes(at, width), n);
    }
    write_head(out, step, all.contributors, width);
    *length = HEAD + gp_lane_bytes(count, width);
    return GP_OK;
}

const gp_codec_ops gp_codec_intsum = {
    .abi = GP_CODEC_ABI,
    .kind = GP_CODEC_ARRAY,
    .nonfinite = GP_NONFINITE_PROPAGATE,
    .name = "intsum",
    .text = "integers of one step for all workers, summed without decoding",
    .params = intsum_params,
    .open = intsum_open,
    .bound = intsum_bound,
    .properties_of = intsum_properties,
    .error_bound = intsum_error,
    .encode = intsum_encode,
    .decode = intsum_decode,
    .decode_add = intsum_decode_add,
    .fold = intsum_fold,
    .aggregate = intsum_aggregate,
    .propose = intsum_propose,
};
