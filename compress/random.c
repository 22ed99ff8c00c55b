/* SPDX-License-Identifier: Apache-2.0 */
/*
 * random.c - the codecs qsgd, natural-dither and terngrad: each element goes at
 * random to one of the two levels next to it, so that the mean is right.
 *
 * They share a layout: one fp32 scale per block, then a code per element of as
 * few bits as the levels need, in two's complement and without gaps. The scale
 * of linear levels is their distance, that of powers of two the largest one. A
 * block whose scale is 0 or NaN has zeros for codes.
 *
 * Whether element e goes up is decided by number e of the stream
 * GP_USE_ROUNDING, in whatever block or chunk it lies.
 */
#include <math.h>
#include <stdlib.h>

#include "base/base.h"
#include "base/bytes.h"
#include "compress/kernels.h"
#include "compress/philox.h"
#include "compress/random_kernels.h"
#include "compress/reduce.h"
#include "compress/stochastic.h"

/* Elements between registers and memory; a multiple of 8. */
#define PART 512

typedef enum random_norm { NORM_L2 = 0, NORM_MAX = 1 } random_norm;

typedef struct random_instance {
    size_t block; /* SIZE_MAX: all elements of a call */
    unsigned levels, width;
    random_norm norm;
    bool powers, centred;
    double clip; /* 0: none */
} random_instance;

static const char *const norms[] = {"l2", "max", NULL};
static const char *const sigmas[] = {"rms", "std", NULL};

#define BLOCK_TEXT \
    "elements that share a scale, a multiple of 32; 0: the whole chunk"

static const gp_codec_param qsgd_params[] = {
    {"levels", 127, 1, 127, 1, "levels above zero, and below", NULL},
    {"norm", NORM_L2, 0, 0, 0, "what the last level stands for", norms},
    {"block", 512, 0, 65536, 1, BLOCK_TEXT, NULL},
    {NULL, 0, 0, 0, 0, NULL, NULL},
};

static const gp_codec_param dither_params[] = {
    {"levels", 7, 1, 127, 1, "powers of two above zero, and below", NULL},
    {"norm", NORM_MAX, 0, 0, 0, "what the last level stands for", norms},
    {"block", 512, 0, 65536, 1, BLOCK_TEXT, NULL},
    {NULL, 0, 0, 0, 0, NULL, NULL},
};

static const gp_codec_param terngrad_params[] = {
    {"clip", 2.5, 0, 1000, 0,
     "clips magnitudes at so many sigma, which is biased; 0: does not", NULL},
    {"block", 0, 0, 65536, 1, BLOCK_TEXT, NULL},
    {"sigma", 0, 0, 0, 0, "rms: about zero, std: about the mean", sigmas},
    {NULL, 0, 0, 0, 0, NULL, NULL},
};

/* Bits for -levels to levels. */
static unsigned
width_of(unsigned levels)
{
    return 33 - (unsigned)__builtin_clz(levels);
}

static gp_status
open_as(random_instance values, double block, void **instance)
{
    random_instance *r;
    size_t size = (size_t)block;

    if (size % 32)
        return gp_fail(GP_ERR_CONFIG,
                       "block=%zu is not a multiple of 32; write %zu", size,
                       (size + 31) / 32 * 32);
    r = malloc(sizeof(*r));
    if (!r)
        return gp_fail(GP_ERR_NO_MEMORY, "no memory for a codec");
    *r = values;
    r->block = size ? size : SIZE_MAX;
    r->width = width_of(values.levels);
    *instance = r;
    return GP_OK;
}

static gp_status
qsgd_open(const double *values, const gp_codec_shape *shape, void **instance)
{
    (void)shape;
    return open_as((random_instance){.levels = (unsigned)values[0],
                                     .norm = (random_norm)values[1]},
                   values[2], instance);
}

static gp_status
dither_open(const double *values, const gp_codec_shape *shape, void **instance)
{
    (void)shape;
    return open_as((random_instance){.levels = (unsigned)values[0],
                                     .norm = (random_norm)values[1],
                                     .powers = true},
                   values[2], instance);
}

static gp_status
terngrad_open(const double *values, const gp_codec_shape *shape,
              void **instance)
{
    (void)shape;
    return open_as((random_instance){.levels = 1,
                                     .norm = NORM_MAX,
                                     .clip = values[0],
                                     .centred = values[2] != 0},
                   values[1], instance);
}

static size_t
scale_bytes(const random_instance *r, size_t count)
{
    return (count / r->block + (count % r->block != 0)) * 4;
}

/* Blocks are 32 elements at least: only the sum can overflow. */
static size_t
random_bound(const void *instance, size_t count)
{
    const random_instance *r = instance;
    size_t codes = count / 8 * r->width + (count % 8 * r->width + 7) / 8;
    size_t bytes;

    return gp_add(scale_bytes(r, count), codes, &bytes) ? bytes : SIZE_MAX;
}

/* The bounds of QSGD, of a uniform quantizer, and of rounding to powers of two,
 * to which those below the least level add L^2/4 each. */
static double
random_error_bound(const void *instance, size_t count)
{
    const random_instance *r = instance;
    double n = (double)(count < r->block ? count : r->block), s = r->levels;

    if (r->clip > 0)
        return INFINITY;
    if (r->powers)
        return 0.125 + n * pow(4, -s);
    if (r->norm == NORM_MAX && s > 1)
        return (n - 1) / (4 * s * s);
    if (r->norm == NORM_MAX)
        return (sqrt(n) - 1) / 2;
    return fmin(n / (s * s), sqrt(n) / s);
}

/* Clipping adds bias. */
static uint32_t
terngrad_properties(const void *instance)
{
    const random_instance *r = instance;

    return GP_CODEC_FIXED_RATE | (r->clip > 0 ? 0 : GP_CODEC_UNBIASED);
}

/* In the order of reduce.h. */
static double
mean_of(const float *x, size_t n)
{
    double p[16] = {0};

    for (size_t i = 0; i < n; i++)
        p[i % 16] += (double)x[i];
    for (size_t width = 8; width; width /= 2)
        for (size_t j = 0; j < width; j++)
            p[j] += p[j + width];
    return p[0] / (double)n;
}

static double
norm_of(const random_instance *r, const float *x, size_t n, uint32_t most)
{
    double max = (double)gp_float(most), square, mean;

    if (r->norm == NORM_L2)
        return sqrt(gp_sum_squares(x, n));
    if (r->clip == 0)
        return max;
    square = gp_sum_squares(x, n) / (double)n;
    mean = r->centred ? mean_of(x, n) : 0;
    return fmin(max, r->clip * sqrt(fmax(square - mean * mean, 0)));
}

/* What is stored: NaN, 0 for what is too small for a normal number, or a scale
 * whose largest level is finite. */
static float
scale_of(const random_instance *r, double norm)
{
    double parts = r->powers ? 1 : r->levels;
    float scale;

    norm = norm < 0x1.fffffep127 ? norm : 0x1.fffffep127;
    scale = (float)(norm / parts);
    if ((double)scale * parts > 0x1.fffffep127)
        scale = nextafterf(scale, 0);
    return scale < 0x1p-126f ? 0 : scale;
}

/* Where the codes of element `at` begin; `at` is a multiple of 8. */
static size_t
code_offset(const random_instance *r, size_t count, size_t at)
{
    return scale_bytes(r, count) + at / 8 * r->width;
}

static void
to_floats(const random_instance *r, const int8_t *codes, float scale,
          float *out, size_t n)
{
    const gp_random_kernels *k = gp_random_kernels_get();

    if (r->powers)
        k->from_powers(codes, 127 - r->levels, scale, out, n);
    else
        k->from_linear(codes, scale, out, n);
}

static void
round_part(const random_instance *r, const gp_stream *stream, uint64_t element,
           const float *x, float scale, int8_t *codes, size_t n)
{
    const gp_random_kernels *k = gp_random_kernels_get();
    float inverse = (float)(1 / (double)scale);
    uint32_t words[PART];

    gp_philox_words(stream, element, words, n);
    if (r->powers)
        k->powers(x, inverse, 127 - r->levels, 127, words, codes, n);
    else
        k->linear(x, inverse, r->levels, words, codes, n);
}

/* Codes of one block into `out`; `u` loses what was sent when not NULL. */
static void
encode_codes(const random_instance *r, const gp_stream *stream,
             uint64_t element, const float *x, float *u, float scale,
             uint8_t *out, size_t size)
{
    int8_t codes[PART];
    float decoded[PART];

    for (size_t at = 0, n; at < size; at += n, out += n / 8 * r->width) {
        n = size - at < PART ? size - at : PART;
        round_part(r, stream, element + at, x + at, scale, codes, n);
        gp_pack_codes(codes, n, r->width, out);
        if (!u)
            continue;
        to_floats(r, codes, scale, decoded, n);
        gp_kernels_get()->remainder(u + at, decoded, u + at, n);
    }
}

static void
encode_block(const random_instance *r, const gp_stream *stream,
             uint64_t element, const float *x, float *u, uint8_t *scale_at,
             uint8_t *out, size_t size)
{
    uint32_t most = gp_max_magnitude(x, size);
    float scale = most < GP_FP32_INFINITY
                      ? scale_of(r, norm_of(r, x, size, most))
                      : gp_float(GP_FP32_NAN);

    gp_put32(scale_at, gp_bits(scale));
    if (scale > 0) {
        encode_codes(r, stream, element, x, u, scale, out, size);
        return;
    }
    memset(out, 0, (size * r->width + 7) / 8);
    if (scale != scale && u)
        memset(u, 0, size * sizeof(*u));
}

static gp_status
random_encode_feedback(const void *instance, const gp_codec_context *context,
                       const float *source, float *residual, size_t count,
                       void *out, size_t capacity, size_t *length)
{
    const random_instance *r = instance;
    gp_stream stream = gp_stream_of(context, GP_USE_ROUNDING);
    size_t bytes = random_bound(r, count);
    uint8_t *to = out, *scale = out;

    if (bytes == SIZE_MAX || capacity < bytes)
        return GP_ERR_TOO_LARGE;
    for (size_t at = 0, size; at < count; at += size, scale += 4) {
        const float *x = source + at;
        float *u = residual ? residual + at : NULL;

        size = count - at < r->block ? count - at : r->block;
        if (u) {
            gp_add_fp32(u, x, size);
            x = u;
        }
        encode_block(r, &stream, context->offset + at, x, u, scale,
                     to + code_offset(r, count, at), size);
    }
    *length = bytes;
    return GP_OK;
}

static gp_status
random_encode(const void *instance, const gp_codec_context *context,
              const float *source, size_t count, void *out, size_t capacity,
              size_t *length)
{
    return random_encode_feedback(instance, context, source, NULL, count, out,
                                  capacity, length);
}

static bool
scale_valid(const random_instance *r, uint32_t s)
{
    double parts = r->powers ? 1 : r->levels;

    return s == 0 || s == GP_FP32_NAN ||
           (s >= 0x00800000u && s < GP_FP32_INFINITY &&
            (double)gp_float(s) * parts <= 0x1.fffffep127);
}

static bool
codes_valid(const int8_t *codes, size_t n, unsigned levels)
{
    uint8_t most = 0;

    for (size_t i = 0; i < n; i++) {
        uint8_t m = (uint8_t)(codes[i] < 0 ? -codes[i] : codes[i]);

        most = m > most ? m : most;
    }
    return most <= levels;
}

static bool
random_valid(const random_instance *r, const uint8_t *bytes, size_t length,
             size_t count)
{
    int8_t codes[PART];
    unsigned used = (unsigned)(count % 8 * r->width % 8);

    if (length == SIZE_MAX || length != random_bound(r, count))
        return false;
    for (size_t at = 0, n; at < count; at += n) {
        uint32_t s = gp_get32(bytes + at / r->block * 4);
        size_t left = r->block - at % r->block;

        n = count - at < PART ? count - at : PART;
        n = left < n ? left : n;
        gp_unpack_codes(bytes + code_offset(r, count, at), n, r->width, codes);
        if (!scale_valid(r, s) ||
            !codes_valid(codes, n, s == 0 || s == GP_FP32_NAN ? 0 : r->levels))
            return false;
    }
    return used == 0 || bytes[length - 1] >> used == 0;
}

static gp_status
decode_all(const random_instance *r, const uint8_t *bytes, size_t length,
           bool add, float *target, size_t count)
{
    int8_t codes[PART];
    float decoded[PART];

    if (!random_valid(r, bytes, length, count))
        return GP_ERR_CORRUPT;
    for (size_t at = 0, n; at < count; at += n) {
        float scale = gp_float(gp_get32(bytes + at / r->block * 4));
        size_t left = r->block - at % r->block;

        n = count - at < PART ? count - at : PART;
        n = left < n ? left : n;
        gp_unpack_codes(bytes + code_offset(r, count, at), n, r->width, codes);
        to_floats(r, codes, scale, add ? decoded : target + at, n);
        if (add)
            gp_add_fp32(target + at, decoded, n);
    }
    return GP_OK;
}

static gp_status
random_decode(const void *instance, const gp_codec_context *context,
              const void *bytes, size_t length, float *target, size_t count)
{
    (void)context;
    return decode_all(instance, bytes, length, false, target, count);
}

static gp_status
random_decode_add(const void *instance, const gp_codec_context *context,
                  const void *bytes, size_t length, float *target, size_t count)
{
    (void)context;
    return decode_all(instance, bytes, length, true, target, count);
}

#define RANDOM_CALLS                                                           \
    .abi = GP_CODEC_ABI, .kind = GP_CODEC_ARRAY,                               \
    .nonfinite = GP_NONFINITE_PROPAGATE, .close = free, .bound = random_bound, \
    .error_bound = random_error_bound, .encode = random_encode,                \
    .encode_feedback = random_encode_feedback, .decode = random_decode,        \
    .decode_add = random_decode_add

const gp_codec_ops gp_codec_qsgd = {
    RANDOM_CALLS,
    .properties = GP_CODEC_FIXED_RATE | GP_CODEC_UNBIASED,
    .name = "qsgd",
    .text = "random rounding to levels that divide each block's norm",
    .params = qsgd_params,
    .open = qsgd_open,
};

const gp_codec_ops gp_codec_natural_dither = {
    RANDOM_CALLS,
    .properties = GP_CODEC_FIXED_RATE | GP_CODEC_UNBIASED,
    .name = "natural-dither",
    .text = "random rounding to each block's norm halved again and again",
    .params = dither_params,
    .open = dither_open,
};

const gp_codec_ops gp_codec_terngrad = {
    RANDOM_CALLS,
    .properties = GP_CODEC_FIXED_RATE,
    .properties_of = terngrad_properties,
    .name = "terngrad",
    .text = "random rounding to -1, 0 or 1 times the largest magnitude",
    .params = terngrad_params,
    .open = terngrad_open,
};
