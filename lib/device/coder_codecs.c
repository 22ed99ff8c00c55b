/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coder_codecs.c - which array stages have kernels, and how they are launched.
 *
 * Tiles are what the kernels of compress/cuda take them for.
 */
#include "device/coder_codecs.h"

#include <string.h>

#include "compress/quant.h"

#define THREADS   256u
#define CAST_TILE 8192u
#define FOLD_TILE 4096u

static gp_status
no_kernel(const gp_pipeline *p, const char *what)
{
    return gp_fail(GP_ERR_UNSUPPORTED,
                   "codec %s: no kernel for %s on this device; see "
                   "docs/gpu.md, or use the device cpu",
                   gp_pipeline_name(p), what);
}

static gp_coder_kernel
kernel(gp_kernel_id id, uint32_t tile)
{
    return (gp_coder_kernel){id, tile, THREADS};
}

/* Numbers that decide about rounding, and those that are subtracted. */
static void
plan_random(gp_round round, gp_coder_plan *plan)
{
    static const gp_stream_use uses[] = {0, GP_USE_ROUNDING, GP_USE_STRATIFY,
                                         GP_USE_DITHER};

    plan->use = uses[round];
    plan->round = round;
}

static gp_status
plan_cast(const gp_pipeline *p, gp_coder_plan *plan)
{
    const gp_codec_ops *ops = p->array->ops;

    plan->word[0] = ops == &gp_codec_none ? 0 : ops == &gp_codec_fp16 ? 1 : 2;
    plan->encode = kernel(GP_KERNEL_gp_cuda_cast_encode, CAST_TILE);
    plan->decode = kernel(GP_KERNEL_gp_cuda_cast_decode, CAST_TILE);
    plan->fold = kernel(GP_KERNEL_gp_cuda_cast_fold, FOLD_TILE);
    if (plan->word[0] && p->array->values[0] != 0) {
        plan_random((gp_round)p->array->values[0], plan);
        plan->encode = kernel(GP_KERNEL_gp_cuda_cast_round, CAST_TILE);
    }
    return GP_OK;
}

/* Elements of a block of the grid: 8 warps, each with what blocks.cu gives it.
 */
static uint32_t
blocks_tile(const gp_blocks *f)
{
    uint32_t size = 256 % f->block == 0 ? 256 : (uint32_t)f->block;

    return 8 * size * (size < 1024 ? 1024 / size : 1);
}

#define PLAN_BLOCKS(name)                                                    \
    do {                                                                     \
        plan->encode =                                                       \
            kernel(GP_KERNEL_gp_cuda_##name##_encode, blocks_tile(f));       \
        plan->decode = kernel(GP_KERNEL_gp_cuda_##name##_decode, FOLD_TILE); \
        plan->fold = kernel(GP_KERNEL_gp_cuda_##name##_fold, FOLD_TILE);     \
    } while (0)

static gp_status
plan_blocks(const gp_pipeline *p, gp_coder_plan *plan)
{
    const gp_blocks *f = p->array->instance;

    plan->word[0] = (uint32_t)f->block;
    plan->word[1] = (uint32_t)f->round | (uint32_t)f->scale << 4 |
                    (uint32_t)f->mantissa << 8 | f->forbidden << 16;
    plan->word[2] = (uint32_t)f->least;
    memcpy(&plan->word[3], &f->levels, sizeof(f->levels));
    plan->word[4] = (uint32_t)f->top;
    plan->word[5] = (uint32_t)f->unit;
    plan->word[6] = f->tiny;
    plan->word[7] = f->largest_scale;
    plan_random(f->round, plan);
    if (f->integer && f->bits == 8)
        PLAN_BLOCKS(int8);
    else if (f->integer && f->bits == 4)
        PLAN_BLOCKS(int4);
    else if (f->integer && f->bits == 2)
        PLAN_BLOCKS(int2);
    else if (f->bits == 8)
        PLAN_BLOCKS(fp8);
    else if (f->bits == 4)
        PLAN_BLOCKS(fp4);
    else
        return no_kernel(p, f->bits == GP_BLOCKS_DENSE ? "dense=1"
                                                       : "codes of 6 bits");
    return GP_OK;
}

/* The usual one has kernels of its own. */
static gp_status
plan_q8(const gp_pipeline *p, gp_coder_plan *plan)
{
    const gp_blocks *f = p->array->instance;

    if (f->round != GP_ROUND_NEAREST || f->scale != GP_SCALE_FP32)
        return plan_blocks(p, plan);
    plan->word[0] = (uint32_t)f->block;
    plan->encode = kernel(GP_KERNEL_gp_cuda_q8_encode, (uint32_t)f->block * 32);
    plan->decode = kernel(GP_KERNEL_gp_cuda_q8_decode, (uint32_t)f->block * 32);
    plan->fold = kernel(GP_KERNEL_gp_cuda_q8_fold, FOLD_TILE);
    return GP_OK;
}

const gp_coder_codec gp_coder_codecs[] = {
    {&gp_codec_none, plan_cast},     {&gp_codec_fp16, plan_cast},
    {&gp_codec_bf16, plan_cast},     {&gp_codec_q8, plan_q8},
    {&gp_codec_q4, plan_blocks},     {&gp_codec_q2, plan_blocks},
    {&gp_codec_fp8, plan_blocks},    {&gp_codec_mxfp8, plan_blocks},
    {&gp_codec_mxfp6, plan_blocks},  {&gp_codec_mxfp4, plan_blocks},
    {&gp_codec_mxint8, plan_blocks}, {NULL, NULL},
};
