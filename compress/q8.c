/* SPDX-License-Identifier: Apache-2.0 */
/*
 * q8.c - the codec q8: 8-bit integers with one scale per block.
 *
 * Layout: ceil(count / block) scales, then `count` codes. The encoder writes
 * only scales that gp_q8_scale() gives and codes in [-127, 127]; the decoder
 * refuses all others. Messages with fp32 scales and codes that stand for
 * themselves go through kernels of their own, at the speed of memory; the rest
 * is what blocks.c does.
 */
#include "base/base.h"
#include "base/bytes.h"
#include "compress/kernels.h"
#include "compress/quant.h"

static const gp_codec_param q8_params[] = {
    {"block", 256, 32, 65536, 1,
     "elements that share a scale, a multiple of 32", NULL},
    {"round", 0, 0, 0, 0, "how numbers become integers", gp_round_words},
    {"scale", 0, 0, 0, 0, "type of the scales", gp_scale_words},
    {NULL, 0, 0, 0, 0, NULL, NULL},
};

static gp_status
q8_open(const double *values, const gp_codec_shape *shape, void **instance)
{
    gp_blocks f = {.bits = 8, .integer = true, .levels = 127};

    (void)shape;
    return gp_quant_open(&f, values, instance);
}

/* Whether messages are those of the kernels. */
static bool
plain(const gp_blocks *f)
{
    return f->scale == GP_SCALE_FP32 && f->round != GP_ROUND_DITHER;
}

static size_t
scale_bytes(const gp_blocks *q, size_t count)
{
    return (count / q->block + (count % q->block != 0)) * 4;
}

static gp_status
q8_encode(const void *instance, const gp_codec_context *context,
          const float *source, size_t count, void *out, size_t capacity,
          size_t *length)
{
    const gp_blocks *q = instance;
    size_t bytes = gp_blocks_bound(q, count), scales = scale_bytes(q, count);

    if (!plain(q) || q->round != GP_ROUND_NEAREST)
        return gp_blocks_encode(q, context, source, count, out, capacity,
                                length);
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
    const gp_blocks *q = instance;
    size_t bytes = gp_blocks_bound(q, count), scales = scale_bytes(q, count);

    if (!plain(q) || q->round != GP_ROUND_NEAREST)
        return gp_blocks_feedback(q, context, source, residual, count, out,
                                  capacity, length);
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
scales_valid(const gp_blocks *q, const uint8_t *bytes, size_t length,
             size_t count)
{
    size_t scales = scale_bytes(q, count);

    if (length == SIZE_MAX || length != gp_blocks_bound(q, count))
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
    const gp_blocks *q = instance;
    size_t scales = scale_bytes(q, count);

    if (!plain(q))
        return gp_blocks_decode(q, context, bytes, length, target, count);
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
    const gp_blocks *q = instance;
    const gp_q8_kernels *kernels = &gp_kernels_get()->q8;
    size_t scales = scale_bytes(q, count);

    if (!plain(q))
        return gp_blocks_decode_add(q, context, bytes, length, target, count);
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

static gp_status
q8_fold(const void *instance, const gp_codec_input *input, size_t inputs,
        int add, float *target, size_t count)
{
    const gp_blocks *q = instance;
    const gp_q8_kernels *kernels = &gp_kernels_get()->q8;
    gp_q8_message messages[GP_CODEC_FOLD];
    size_t scales = scale_bytes(q, count);

    if (!plain(q))
        return gp_blocks_fold(q, input, inputs, add, target, count);
    for (size_t k = 0; k < inputs; k++) {
        const uint8_t *bytes = input[k].bytes;

        if (!scales_valid(q, bytes, input[k].length, count))
            return GP_ERR_CORRUPT;
        messages[k] = (gp_q8_message){bytes, (const int8_t *)bytes + scales};
    }
    if (count &&
        !kernels->fold(messages, inputs, add != 0, target, count, q->block))
        return GP_ERR_CORRUPT;
    return GP_OK;
}

const gp_codec_ops gp_codec_q8 = {
    GP_QUANT_CALLS,
    .name = "q8",
    .text = "8-bit integers scaled by each block's largest magnitude",
    .params = q8_params,
    .open = q8_open,
    .encode = q8_encode,
    .encode_feedback = q8_encode_feedback,
    .decode = q8_decode,
    .decode_add = q8_decode_add,
    .fold = q8_fold,
};
