/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cast.c - the codecs none, fp16 and bf16: one element in, one element out.
 *
 * They share everything but the width of an element and the kernels, so the
 * instance of each is a constant that names these two.
 */
#include <stdint.h>

#include "base/base.h"
#include "compress/kernels.h"

typedef struct cast_format {
    size_t width;
    size_t kernels; /* offset of its gp_cast_kernels in gp_kernels */
} cast_format;

static const cast_format format_none = {4, offsetof(gp_kernels, none)};
static const cast_format format_fp16 = {2, offsetof(gp_kernels, fp16)};
static const cast_format format_bf16 = {2, offsetof(gp_kernels, bf16)};

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
    (void)values;
    *instance = (void *)(uintptr_t)&format_fp16;
    return GP_OK;
}

static gp_status
open_bf16(const double *values, const gp_codec_shape *shape, void **instance)
{
    (void)shape;
    (void)values;
    *instance = (void *)(uintptr_t)&format_bf16;
    return GP_OK;
}

static size_t
cast_bound(const void *instance, size_t count)
{
    const cast_format *format = instance;
    size_t bytes;

    return gp_mul(count, format->width, &bytes) ? bytes : SIZE_MAX;
}

static gp_status
cast_encode(const void *instance, const gp_codec_context *context,
            const float *source, size_t count, void *out, size_t capacity,
            size_t *length)
{
    size_t bytes = cast_bound(instance, count);

    (void)context;
    if (bytes == SIZE_MAX || capacity < bytes)
        return GP_ERR_TOO_LARGE;
    kernels_of(instance)->encode(source, out, count);
    *length = bytes;
    return GP_OK;
}

static gp_status
cast_encode_feedback(const void *instance, const gp_codec_context *context,
                     const float *source, float *residual, size_t count,
                     void *out, size_t capacity, size_t *length)
{
    size_t bytes = cast_bound(instance, count);

    (void)context;
    if (bytes == SIZE_MAX || capacity < bytes)
        return GP_ERR_TOO_LARGE;
    kernels_of(instance)->feedback(source, residual, out, count);
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

#define CAST_CALLS                                                  \
    .abi = GP_CODEC_ABI, .kind = GP_CODEC_ARRAY,                    \
    .nonfinite = GP_NONFINITE_EXACT, .bound = cast_bound,           \
    .encode = cast_encode, .encode_feedback = cast_encode_feedback, \
    .decode = cast_decode, .decode_add = cast_decode_add

const gp_codec_ops gp_codec_none = {
    CAST_CALLS,
    .name = "none",
    .text = "fp32 as it is",
    .properties = GP_CODEC_LOSSLESS | GP_CODEC_UNBIASED | GP_CODEC_CONTRACTS |
                  GP_CODEC_FIXED_RATE | GP_CODEC_LINEAR,
    .open = open_none,
};

/* Neither contracts in the strict sense: fp16 loses all of a vector below
 * 2^-25 and saturates, bf16 all of one below 2^-134. For bf16 that is far
 * beneath any gradient, so it says so; for fp16 it is not. */
const gp_codec_ops gp_codec_fp16 = {
    CAST_CALLS,
    .name = "fp16",
    .text = "IEEE half precision, nearest even, saturating at 65504",
    .properties = GP_CODEC_FIXED_RATE,
    .open = open_fp16,
};

const gp_codec_ops gp_codec_bf16 = {
    CAST_CALLS,
    .name = "bf16",
    .text = "bfloat16, nearest even, saturating: fp32's range, 8 bits of it",
    .properties = GP_CODEC_FIXED_RATE | GP_CODEC_CONTRACTS,
    .open = open_bf16,
};
