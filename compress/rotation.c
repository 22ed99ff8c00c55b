/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rotation.c - the transform stage hadamard: spreads what is in a block evenly
 * over it, so that a quantizer behind it sees no outliers.
 *
 * The signs are equal on all ranks, so sums of transformed numbers can be
 * inverted together.
 */
#include <stdlib.h>

#include "base/base.h"
#include "compress/hadamard.h"
#include "compress/stochastic.h"

typedef struct rotation_instance {
    size_t block;
} rotation_instance;

static const gp_codec_param rotation_params[] = {
    {"block", 1024, 32, GP_HADAMARD_LARGEST, 1,
     "elements that are rotated together, a power of two", NULL},
    {NULL, 0, 0, 0, 0, NULL, NULL},
};

static gp_status
rotation_open(const double *values, const gp_codec_shape *shape,
              void **instance)
{
    size_t block = (size_t)values[0];
    rotation_instance *r;

    (void)shape;
    if (block & (block - 1))
        return gp_fail(GP_ERR_CONFIG,
                       "block=%zu is not a power of two; write %zu", block,
                       (size_t)1 << (63 - __builtin_clzll(block)));
    r = malloc(sizeof(*r));
    if (!r)
        return gp_fail(GP_ERR_NO_MEMORY, "no memory for a codec");
    r->block = block;
    *instance = r;
    return GP_OK;
}

static gp_status
rotation_forward(const void *instance, const gp_codec_context *context,
                 const float *source, size_t count, float *out)
{
    const rotation_instance *r = instance;
    gp_stream signs = gp_stream_of(context, GP_USE_SIGNS);

    gp_hadamard_forward(&signs, context->offset, source, out, count, r->block);
    return GP_OK;
}

static gp_status
rotation_inverse(const void *instance, const gp_codec_context *context,
                 float *data, size_t count)
{
    const rotation_instance *r = instance;
    gp_stream signs = gp_stream_of(context, GP_USE_SIGNS);

    gp_hadamard_inverse(&signs, context->offset, data, count, r->block);
    return GP_OK;
}

const gp_codec_ops gp_codec_hadamard = {
    .abi = GP_CODEC_ABI,
    .kind = GP_CODEC_TRANSFORM,
    .properties = GP_CODEC_UNBIASED | GP_CODEC_CONTRACTS | GP_CODEC_FIXED_RATE,
    .nonfinite = GP_NONFINITE_PROPAGATE,
    .name = "hadamard",
    .text = "random rotation of blocks: no outliers for what follows",
    .params = rotation_params,
    .open = rotation_open,
    .close = free,
    .forward = rotation_forward,
    .inverse = rotation_inverse,
};
