/* SPDX-License-Identifier: Apache-2.0 */
/*
 * q8.c - the codec q8: 8-bit integers with one fp32 scale per block.
 *
 * Layout: ceil(count / block) scales, then `count` codes. The encoder writes
 * only scales that gp_q8_scale() gives and codes in [-127, 127]; the decoder
 * refuses all others, so one set of numbers has one encoding.
 */
#include <stdlib.h>

#include "base/base.h"
#include "base/bytes.h"
#include "compress/kernels.h"

typedef struct q8_instance {
    size_t block;
} q8_instance;

static const gp_codec_param q8_params[] = {
    {"block", 256, 32, 65536, 1,
     "elements that share a scale, a multiple of 32", NULL},
    {NULL, 0, 0, 0, 0, NULL, NULL},
};

static gp_status
q8_open(const double *values, const gp_codec_shape *shape, void **instance)
{
    size_t block = (size_t)values[0];
    q8_instance *q;

    (void)shape;
    if (block % 32)
        return gp_fail(GP_ERR_CONFIG,
                       "block=%zu is not a multiple of 32; write %zu", block,
                       (block + 16) / 32 * 32);
    q = malloc(sizeof(*q));
    if (!q)
        return gp_fail(GP_ERR_NO_MEMORY, "no memory for a codec");
    q->block = block;
    *instance = q;
    return GP_OK;
}

static size_t
scale_bytes(const q8_instance *q, size_t count)
{
    return (count / q->block + (count % q->block != 0)) * 4;
}

/* 4 * ceil(count / block) <= count / 8 + 4, so only the sum can overflow. */
static size_t
q8_bound(const void *instance, size_t count)
{
    size_t bytes;

    return gp_add(scale_bytes(instance, count), count, &bytes) ? bytes
                                                               : SIZE_MAX;
}

static gp_status
q8_encode(const void *instance, const gp_codec_context *context,
          const float *source, size_t count, void *out, size_t capacity,
          size_t *length)
{
    const q8_instance *q = instance;
    size_t bytes = q8_bound(q, count), scales = scale_bytes(q, count);

    (void)context;
    if (bytes == SIZE_MAX || capacity < bytes)
        return GP_ERR_TOO_LARGE;
    if (count)
        gp_kernels_get()->q8.encode(source, count, q->block, out,
                                    (int8_t *)out + scales);
    *length = bytes;
    return GP_OK;
}

static gp_status
q8_encode_feedback(const void *instance, const gp_codec_context *context,
                   const float *source, float *residual, size_t count,
                   void *out, size_t capacity, size_t *length)
{
    const q8_instance *q = instance;
    size_t bytes = q8_bound(q, count), scales = scale_bytes(q, count);

    (void)context;
    if (bytes == SIZE_MAX || capacity < bytes)
        return GP_ERR_TOO_LARGE;
    if (count)
        gp_kernels_get()->q8.feedback(source, residual, count, q->block, out,
                                      (int8_t *)out + scales);
    *length = bytes;
    return GP_OK;
}

/* Length and scales; the codes are the kernels' part. */
static bool
scales_valid(const q8_instance *q, const uint8_t *bytes, size_t length,
             size_t count)
{
    size_t scales = scale_bytes(q, count);

    if (length == SIZE_MAX || length != q8_bound(q, count))
        return false;
    for (size_t i = 0; i < scales; i += 4)
        if (!gp_q8_scale_valid(gp_get32(bytes + i)))
            return false;
    return true;
}

static gp_status
q8_decode(const void *instance, const gp_codec_context *context,
          const void *bytes, size_t length, float *target, size_t count)
{
    const q8_instance *q = instance;
    size_t scales = scale_bytes(q, count);

    (void)context;
    if (!scales_valid(q, bytes, length, count))
        return GP_ERR_CORRUPT;
    if (count &&
        !gp_kernels_get()->q8.decode(bytes, (const int8_t *)bytes + scales,
                                     target, count, q->block))
        return GP_ERR_CORRUPT;
    return GP_OK;
}

static gp_status
q8_decode_add(const void *instance, const gp_codec_context *context,
              const void *bytes, size_t length, float *target, size_t count)
{
    const q8_instance *q = instance;
    const gp_q8_kernels *kernels = &gp_kernels_get()->q8;
    size_t scales = scale_bytes(q, count);

    (void)context;
    if (!scales_valid(q, bytes, length, count))
        return GP_ERR_CORRUPT;
    if (!count)
        return GP_OK;
    if (!kernels->valid((const int8_t *)bytes + scales, count))
        return GP_ERR_CORRUPT;
    kernels->decode_add(bytes, (const int8_t *)bytes + scales, target, count,
                        q->block);
    return GP_OK;
}

const gp_codec_ops gp_codec_q8 = {
    .abi = GP_CODEC_ABI,
    .kind = GP_CODEC_ARRAY,
    .properties = GP_CODEC_CONTRACTS | GP_CODEC_FIXED_RATE,
    .nonfinite = GP_NONFINITE_PROPAGATE,
    .name = "q8",
    .text = "8-bit integers scaled by each block's largest magnitude",
    .params = q8_params,
    .open = q8_open,
    .close = free,
    .bound = q8_bound,
    .encode = q8_encode,
    .encode_feedback = q8_encode_feedback,
    .decode = q8_decode,
    .decode_add = q8_decode_add,
};
