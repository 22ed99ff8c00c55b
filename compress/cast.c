/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cast.c - the codecs none, fp16 and bf16: one element in, one element out.
 *
 * They share everything but the width of an element and the kernels, so the
 * instance of each is a constant that names these two and how to round.
 */
#include <stdint.h>

#include "base/base.h"
#include "base/bytes.h"
#include "compress/blocks.h"
#include "compress/kernels.h"

#define PIECE 1024 /* elements that stay in the first cache */

typedef struct cast_format {
    size_t width;
    size_t kernels; /* offset of its gp_cast_kernels in gp_kernels */
    gp_round round;
} cast_format;

static const char *const rounds[] = {"nearest", "stochastic", "stratified",
                                     NULL};

static const gp_codec_param cast_params[] = {
    {"round", 0, 0, 0, 0, "how numbers lose their low bits", rounds},
    {NULL, 0, 0, 0, 0, NULL, NULL},
};

/* In the order of rounds. */
#define FORMATS(name)                                             \
    {                                                             \
        {2, offsetof(gp_kernels, name), GP_ROUND_NEAREST},        \
            {2, offsetof(gp_kernels, name), GP_ROUND_STOCHASTIC}, \
            {2, offsetof(gp_kernels, name), GP_ROUND_STRATIFIED}, \
    }

static const cast_format format_none = {4, offsetof(gp_kernels, none),
                                        GP_ROUND_NEAREST};
static const cast_format formats_fp16[] = FORMATS(fp16);
static const cast_format formats_bf16[] = FORMATS(bf16);

static const gp_cast_kernels *
kernels_of(const cast_format *format)
{
    return (const void *)((const char *)gp_kernels_get() + format->kernels);
}

static gp_status
open_none(const double *values, const gp_codec_shape *shape, void **instance)
{
    (void)shape;
    (void)values;
    *instance = (void *)(uintptr_t)&format_none;
    return GP_OK;
}

static gp_status
open_fp16(const double *values, const gp_codec_shape *shape, void **instance)
{
    (void)shape;
    *instance = (void *)(uintptr_t)&formats_fp16[(size_t)values[0]];
    return GP_OK;
}

static gp_status
open_bf16(const double *values, const gp_codec_shape *shape, void **instance)
{
    (void)shape;
    *instance = (void *)(uintptr_t)&formats_bf16[(size_t)values[0]];
    return GP_OK;
}

static size_t
cast_bound(const void *instance, size_t count)
{
    const cast_format *format = instance;
    size_t bytes;

    return gp_mul(count, format->width, &bytes) ? bytes : SIZE_MAX;
}

/* Stochastic rounding of elements first, first + 1, ... of a call. */
static void
round_piece(const cast_format *format, const gp_codec_context *context,
            const float *x, size_t first, size_t n, uint8_t *out)
{
    const gp_blocks_kernels *kernels = gp_blocks_kernels_get();
    uint32_t words[PIECE], shift = gp_round_shift(format->round, context);
    uint16_t codes[PIECE];

    gp_round_words_of(format->round, context, first, words, n);
    if (format->kernels == offsetof(gp_kernels, fp16))
        kernels->fp16(x, words, shift, n, codes);
    else
        kernels->bf16(x, words, shift, n, codes);
    for (size_t i = 0; i < n; i++)
        gp_put16(out + 2 * i, codes[i]);
}

static void
round_all(const cast_format *format, const gp_codec_context *context,
          const float *source, float *residual, size_t count, uint8_t *out)
{
    const gp_kernels *floats = gp_kernels_get();
    float decoded[PIECE];

    for (size_t i = 0, n; i < count; i += n) {
        n = count - i < PIECE ? count - i : PIECE;
        if (residual)
            floats->add(residual + i, source + i, n);
        round_piece(format, context, residual ? residual + i : source + i, i, n,
                    out + 2 * i);
        if (!residual)
            continue;
        kernels_of(format)->decode(out + 2 * i, decoded, n);
        floats->remainder(residual + i, decoded, residual + i, n);
    }
}

static gp_status
cast_encode(const void *instance, const gp_codec_context *context,
            const float *source, size_t count, void *out, size_t capacity,
            size_t *length)
{
    const cast_format *format = instance;
    size_t bytes = cast_bound(instance, count);

    if (bytes == SIZE_MAX || capacity < bytes)
        return GP_ERR_TOO_LARGE;
    if (format->round != GP_ROUND_NEAREST)
        round_all(format, context, source, NULL, count, out);
    else
        kernels_of(format)->encode(source, out, count);
    *length = bytes;
    return GP_OK;
}

static gp_status
cast_encode_feedback(const void *instance, const gp_codec_context *context,
                     const float *source, float *residual, size_t count,
                     void *out, size_t capacity, size_t *length)
{
    const cast_format *format = instance;
    size_t bytes = cast_bound(instance, count);

    if (bytes == SIZE_MAX || capacity < bytes)
        return GP_ERR_TOO_LARGE;
    if (format->round != GP_ROUND_NEAREST)
        round_all(format, context, source, residual, count, out);
    else
        kernels_of(format)->feedback(source, residual, out, count);
    *length = bytes;
    return GP_OK;
}

static gp_status
cast_decode(const void *instance, const gp_codec_context *context,
            const void *bytes, size_t length, float *target, size_t count)
{
    (void)context;
    if (length == SIZE_MAX || length != cast_bound(instance, count))
        return GP_ERR_CORRUPT;
    kernels_of(instance)->decode(bytes, target, count);
    return GP_OK;
}

static gp_status
cast_decode_add(const void *instance, const gp_codec_context *context,
                const void *bytes, size_t length, float *target, size_t count)
{
    (void)context;
    if (length == SIZE_MAX || length != cast_bound(instance, count))
        return GP_ERR_CORRUPT;
    kernels_of(instance)->decode_add(bytes, target, count);
    return GP_OK;
}

static gp_status
cast_fold(const void *instance, const gp_codec_input *input, size_t inputs,
          int add, float *target, size_t count)
{
    const cast_format *format = instance;
    const gp_cast_kernels *kernels = kernels_of(format);

    for (size_t k = 0; k < inputs; k++)
        if (input[k].length == SIZE_MAX ||
            input[k].length != cast_bound(instance, count))
            return GP_ERR_CORRUPT;
    for (size_t i = 0, n; i < count; i += n) {
        n = count - i < PIECE ? count - i : PIECE;
        for (size_t k = 0; k < inputs; k++)
            (k || add ? kernels->decode_add : kernels->decode)(
                (const uint8_t *)input[k].bytes + i * format->width, target + i,
                n);
    }
    return GP_OK;
}

static uint32_t
cast_properties(const void *instance, uint32_t nearest)
{
    const cast_format *format = instance;

    return format->round == GP_ROUND_NEAREST
               ? nearest
               : GP_CODEC_FIXED_RATE | GP_CODEC_UNBIASED;
}

/* fp16 loses all of a vector below 2^-25 and saturates, bf16 all of one below
 * 2^-134. For bf16 that is far beneath any gradient, so it claims to contract;
 * for fp16 it is not. */
static uint32_t
properties_fp16(const void *instance)
{
    return cast_properties(instance, GP_CODEC_FIXED_RATE);
}

static uint32_t
properties_bf16(const void *instance)
{
    return cast_properties(instance, GP_CODEC_FIXED_RATE | GP_CODEC_CONTRACTS);
}

/* Half a step to nearest; at random, the variance is at most a quarter of a
 * step squared, which is the same. */
static double
error_bf16(const void *instance, size_t count)
{
    (void)instance;
    (void)count;
    return 0x1p-16;
}

#define CAST_CALLS                                                  \
    .abi = GP_CODEC_ABI, .kind = GP_CODEC_ARRAY,                    \
    .nonfinite = GP_NONFINITE_EXACT, .bound = cast_bound,           \
    .encode = cast_encode, .encode_feedback = cast_encode_feedback, \
    .decode = cast_decode, .decode_add = cast_decode_add, .fold = cast_fold

const gp_codec_ops gp_codec_none = {
    CAST_CALLS,
    .name = "none",
    .text = "fp32 as it is",
    .properties = GP_CODEC_LOSSLESS | GP_CODEC_UNBIASED | GP_CODEC_CONTRACTS |
                  GP_CODEC_FIXED_RATE | GP_CODEC_LINEAR,
    .open = open_none,
};

const gp_codec_ops gp_codec_fp16 = {
    CAST_CALLS,
    .name = "fp16",
    .text = "IEEE half precision, saturating at 65504",
    .properties = GP_CODEC_FIXED_RATE,
    .properties_of = properties_fp16,
    .params = cast_params,
    .open = open_fp16,
};

const gp_codec_ops gp_codec_bf16 = {
    CAST_CALLS,
    .name = "bf16",
    .text = "bfloat16, saturating: fp32's range, 8 bits of it",
    .properties = GP_CODEC_FIXED_RATE,
    .properties_of = properties_bf16,
    .error_bound = error_bf16,
    .params = cast_params,
    .open = open_bf16,
};
