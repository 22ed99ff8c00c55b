/* SPDX-License-Identifier: Apache-2.0 */
/*
 * eden.c - the codecs drive and eden: a random rotation per block, then 1 to 4
 * bits per element on the levels that are best for a normal distribution.
 *
 * After the rotation R the elements of most blocks look normal, so the error is
 * known whatever the data. Layout, for each block in turn: the fp32 scale S,
 * then the bit planes of eden_kernels.h, ceil(size / 8) bytes each. A block
 * decodes to the inverse rotation of S c, c being the level of an element. A
 * block whose scale is 0 or NaN has planes of zeros.
 *
 * The last block may be shorter. Unless a power of two it is rotated twice, its
 * first p elements and then its last p, p being the largest power that fits:
 * so it needs one scale like the others.
 */
#include <math.h>
#include <stdlib.h>

#include "base/base.h"
#include "base/bytes.h"
#include "compress/eden_kernels.h"
#include "compress/hadamard.h"
#include "compress/kernels.h"
#include "compress/reduce.h"
#include "compress/stochastic.h"

typedef struct eden_instance {
    size_t block;
    unsigned bits;
    bool least; /* the scale of least error instead of the unbiased one */
    float levels[GP_EDEN_LEVELS];
    float bounds[GP_EDEN_LEVELS];
} eden_instance;

/* Lloyd-Max levels of N(0, 1) on either side; for one bit any number does, so
 * that drive and eden:bits=1 are the same but for what S means. */
static const float lloyd_max[GP_EDEN_BITS][GP_EDEN_LEVELS] = {
    {0.7979f},
    {0.4528f, 1.5104f},
    {0.2451f, 0.7560f, 1.3439f, 2.1519f},
    {0.1284f, 0.3880f, 0.6568f, 0.9423f, 1.2562f, 1.6180f, 2.0690f, 2.7326f}};

static const char *const scales[] = {"unbiased", "mse", NULL};

#define BLOCK_PARAM                                                    \
    {                                                                  \
        "block", 1024, 32, GP_HADAMARD_LARGEST, 1,                     \
            "elements that are rotated together, a power of two", NULL \
    }
#define SCALE_PARAM                                                          \
    {                                                                        \
        "scale", 0, 0, 0, 0, "unbiased: right on average, mse: least error", \
            scales                                                           \
    }

static const gp_codec_param drive_params[] = {
    BLOCK_PARAM,
    SCALE_PARAM,
    {NULL, 0, 0, 0, 0, NULL, NULL},
};

static const gp_codec_param eden_params[] = {
    {"bits", 4, 1, GP_EDEN_BITS, 1, "bits per element", NULL},
    BLOCK_PARAM,
    SCALE_PARAM,
    {NULL, 0, 0, 0, 0, NULL, NULL},
};

static gp_status
open_with(unsigned bits, double block, double scale, void **instance)
{
    size_t size = (size_t)block;
    eden_instance *e;

    if (size & (size - 1))
        return gp_fail(GP_ERR_CONFIG,
                       "block=%zu is not a power of two; write %zu", size,
                       (size_t)1 << (63 - __builtin_clzll(size)));
    e = calloc(1, sizeof(*e));
    if (!e)
        return gp_fail(GP_ERR_NO_MEMORY, "no memory for a codec");
    e->block = size;
    e->bits = bits;
    e->least = scale != 0;
    memcpy(e->levels, lloyd_max[bits - 1], sizeof(e->levels));
    for (unsigned j = 0; j + 1 < 1u << (bits - 1); j++)
        e->bounds[j] = (e->levels[j] + e->levels[j + 1]) / 2;
    *instance = e;
    return GP_OK;
}

static gp_status
drive_open(const double *values, const gp_codec_shape *shape, void **instance)
{
    gp_status status = open_with(1, values[0], values[1], instance);

    (void)shape;
    if (status == GP_OK)
        ((eden_instance *)*instance)->levels[0] = 1;
    return status;
}

static gp_status
eden_open(const double *values, const gp_codec_shape *shape, void **instance)
{
    (void)shape;
    return open_with((unsigned)values[0], values[1], values[2], instance);
}

static size_t
block_bytes(const eden_instance *e, size_t size)
{
    return 4 + e->bits * ((size + 7) / 8);
}

/* A block is 32 elements at least: 1 byte of scale and 4 of planes per 8. */
static size_t
eden_bound(const void *instance, size_t count)
{
    const eden_instance *e = instance;
    size_t last = count % e->block;

    return count / e->block * block_bytes(e, e->block) +
           (last ? block_bytes(e, last) : 0);
}

/* A rotated block, and the levels of it; or the same of a decoder. */
static size_t
eden_scratch(const void *instance, size_t count)
{
    const eden_instance *e = instance;

    return 2 * sizeof(float) * (count < e->block ? count : e->block);
}

/* The least error is 1 - cos^2 of the angle between c and R; for one bit that
 * is 1 - phi. The unbiased one has no bound: R may come out as one spike. */
static double
eden_error_bound(const void *instance, size_t count)
{
    const eden_instance *e = instance;
    size_t block = count < e->block ? count : e->block;

    if (!e->least)
        return INFINITY;
    return e->bits == 1 && block ? 1 - 1 / (double)block : 1;
}

static uint32_t
eden_properties(const void *instance)
{
    const eden_instance *e = instance;

    return GP_CODEC_FIXED_RATE | (e->least ? GP_CODEC_CONTRACTS : 0);
}

/* One block of a message at work. */
typedef struct work {
    gp_stream signs;
    uint64_t element; /* index of the first within the tensor */
    float *rotated, *levels;
} work;

static work
work_of(const gp_codec_context *context, size_t block, size_t count)
{
    float *scratch = context->scratch;

    return (work){gp_stream_of(context, GP_USE_ROTATION), context->offset,
                  scratch, scratch + (count < block ? count : block)};
}

/* In the second turn of a short block an element has other signs. */
#define SECOND_TURN ((uint64_t)1 << 62)

static size_t
power_of_two(size_t size)
{
    return (size_t)1 << (63 - __builtin_clzll(size));
}

static void
rotate(const work *w, const float *source, size_t size)
{
    size_t p = power_of_two(size), rest = size - p;

    gp_hadamard_forward(&w->signs, w->element, source, w->rotated, p, p);
    if (!rest)
        return;
    memmove(w->rotated + p, source + p, rest * sizeof(*source));
    gp_hadamard_forward(&w->signs, (w->element + rest) ^ SECOND_TURN,
                        w->rotated + rest, w->rotated + rest, p, p);
}

static void
rotate_back(const work *w, float *data, size_t size)
{
    size_t p = power_of_two(size), rest = size - p;

    if (rest)
        gp_hadamard_inverse(&w->signs, (w->element + rest) ^ SECOND_TURN,
                            data + rest, p, p);
    gp_hadamard_inverse(&w->signs, w->element, data, p, p);
}

/* Blocks from 2^111 on are worked on at 2^-32 of their size, so that no sum
 * overflows. */
#define HUGE_SCALE 0x77000000u

/* S of a rotated block, from its levels of scale 1; 0 when it has none. */
static double
scale_of(const eden_instance *e, const float *rotated, const float *levels,
         size_t size)
{
    double along = gp_dot(levels, rotated, size);

    return e->least ? along / gp_sum_squares(levels, size)
                    : gp_sum_squares(rotated, size) / along;
}

static float
quantize(const eden_instance *e, const work *w, double enlarge, uint8_t *planes,
         size_t size)
{
    const gp_eden_kernels *k = gp_eden_kernels_get();
    size_t stride = (size + 7) / 8;
    double rms = sqrt(gp_sum_squares(w->rotated, size) / (double)size), s;

    if (rms < 0x1p-126) {
        memset(planes, 0, e->bits * stride);
        return 0;
    }
    k->quantize(w->rotated, (float)(1 / rms), e->bounds, e->bits, planes,
                stride, size);
    k->lookup(planes, stride, e->bits, e->levels, w->levels, size);
    s = scale_of(e, w->rotated, w->levels, size) * enlarge;
    if (s < 0x1p-126)
        memset(planes, 0, e->bits * stride);
    return s < 0x1p-126 ? 0 : s > 0x1.fffffep127 ? 0x1.fffffep127f : (float)s;
}

/* Returns S as it is stored. */
static float
encode_block(const eden_instance *e, const work *w, const float *source,
             uint8_t *out, size_t size)
{
    uint32_t most = gp_max_magnitude(source, size);
    float s = gp_float(GP_FP32_NAN);

    if (most >= GP_FP32_INFINITY) {
        memset(out + 4, 0, e->bits * ((size + 7) / 8));
    } else if (most >= HUGE_SCALE) {
        memcpy(w->rotated, source, size * sizeof(*source));
        gp_scale_fp32(w->rotated, 0x1p-32f, size);
        rotate(w, w->rotated, size);
        s = quantize(e, w, 0x1p32, out + 4, size);
    } else {
        rotate(w, source, size);
        s = quantize(e, w, 1, out + 4, size);
    }
    gp_put32(out, gp_bits(s));
    return s;
}

static void
saturate(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float y = x[i] * 0x1p32f;

        y = y > 0x1.fffffep127f ? 0x1.fffffep127f : y;
        x[i] = y < -0x1.fffffep127f ? -0x1.fffffep127f : y;
    }
}

static void
decode_block(const eden_instance *e, const work *w, const uint8_t *bytes,
             float *target, size_t size)
{
    float s = gp_float(gp_get32(bytes)), magnitude[GP_EDEN_LEVELS];
    bool huge = s >= gp_float(HUGE_SCALE);

    if (s != s || s == 0) {
        for (size_t i = 0; i < size; i++)
            target[i] = s;
        return;
    }
    for (size_t j = 0; j < GP_EDEN_LEVELS; j++)
        magnitude[j] = e->levels[j] * (huge ? s * 0x1p-32f : s);
    gp_eden_kernels_get()->lookup(bytes + 4, (size + 7) / 8, e->bits, magnitude,
                                  target, size);
    rotate_back(w, target, size);
    if (huge)
        saturate(target, size);
}

static gp_status
encode_all(const eden_instance *e, const gp_codec_context *context,
           const float *source, float *residual, size_t count, uint8_t *out,
           size_t capacity, size_t *length)
{
    work w = work_of(context, e->block, count);
    size_t bytes = eden_bound(e, count);

    if (capacity < bytes)
        return GP_ERR_TOO_LARGE;
    for (size_t at = 0, size; at < count; at += size) {
        size = count - at < e->block ? count - at : e->block;
        w.element = context->offset + at;
        if (residual) {
            float *u = residual + at;

            gp_add_fp32(u, source + at, size);
            encode_block(e, &w, u, out, size);
            decode_block(e, &w, out, w.rotated, size);
            gp_kernels_get()->remainder(u, w.rotated, u, size);
        } else {
            encode_block(e, &w, source + at, out, size);
        }
        out += block_bytes(e, size);
    }
    *length = bytes;
    return GP_OK;
}

static gp_status
eden_encode(const void *instance, const gp_codec_context *context,
            const float *source, size_t count, void *out, size_t capacity,
            size_t *length)
{
    return encode_all(instance, context, source, NULL, count, out, capacity,
                      length);
}

static gp_status
eden_encode_feedback(const void *instance, const gp_codec_context *context,
                     const float *source, float *residual, size_t count,
                     void *out, size_t capacity, size_t *length)
{
    return encode_all(instance, context, source, residual, count, out, capacity,
                      length);
}

/* A scale, planes without bits after the last element, and none at all when the
 * scale is 0 or NaN. */
static bool
block_valid(const eden_instance *e, const uint8_t *bytes, size_t size)
{
    uint32_t s = gp_get32(bytes);
    size_t stride = (size + 7) / 8;

    if (s != 0 && s != GP_FP32_NAN &&
        (s < 0x00800000u || s >= GP_FP32_INFINITY))
        return false;
    for (unsigned k = 0; k < e->bits; k++) {
        const uint8_t *plane = bytes + 4 + k * stride;

        if (size % 8 && plane[stride - 1] >> size % 8)
            return false;
        for (size_t j = 0; (s == 0 || s == GP_FP32_NAN) && j < stride; j++)
            if (plane[j])
                return false;
    }
    return true;
}

static bool
eden_valid(const eden_instance *e, const uint8_t *bytes, size_t length,
           size_t count)
{
    if (length != eden_bound(e, count))
        return false;
    for (size_t at = 0, size; at < count; at += size) {
        size = count - at < e->block ? count - at : e->block;
        if (!block_valid(e, bytes, size))
            return false;
        bytes += block_bytes(e, size);
    }
    return true;
}

static gp_status
decode_all(const eden_instance *e, const gp_codec_context *context,
           const uint8_t *bytes, size_t length, bool add, float *target,
           size_t count)
{
    work w = work_of(context, e->block, count);

    if (!eden_valid(e, bytes, length, count))
        return GP_ERR_CORRUPT;
    for (size_t at = 0, size; at < count; at += size) {
        size = count - at < e->block ? count - at : e->block;
        w.element = context->offset + at;
        decode_block(e, &w, bytes, add ? w.rotated : target + at, size);
        if (add)
            gp_add_fp32(target + at, w.rotated, size);
        bytes += block_bytes(e, size);
    }
    return GP_OK;
}

static gp_status
eden_decode(const void *instance, const gp_codec_context *context,
            const void *bytes, size_t length, float *target, size_t count)
{
    return decode_all(instance, context, bytes, length, false, target, count);
}

static gp_status
eden_decode_add(const void *instance, const gp_codec_context *context,
                const void *bytes, size_t length, float *target, size_t count)
{
    return decode_all(instance, context, bytes, length, true, target, count);
}

#define EDEN_CALLS                                                           \
    .abi = GP_CODEC_ABI, .kind = GP_CODEC_ARRAY,                             \
    .nonfinite = GP_NONFINITE_PROPAGATE, .close = free, .bound = eden_bound, \
    .scratch = eden_scratch, .error_bound = eden_error_bound,                \
    .properties_of = eden_properties, .encode = eden_encode,                 \
    .encode_feedback = eden_encode_feedback, .decode = eden_decode,          \
    .decode_add = eden_decode_add

const gp_codec_ops gp_codec_drive = {
    EDEN_CALLS,
    .properties = GP_CODEC_FIXED_RATE,
    .name = "drive",
    .text = "one bit per element after a random rotation",
    .params = drive_params,
    .open = drive_open,
};

const gp_codec_ops gp_codec_eden = {
    EDEN_CALLS,
    .properties = GP_CODEC_FIXED_RATE,
    .name = "eden",
    .text = "1 to 4 bits per element after a random rotation",
    .params = eden_params,
    .open = eden_open,
};
