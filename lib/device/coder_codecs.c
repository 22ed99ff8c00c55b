/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coder_codecs.c - which array stages have kernels, and how they are launched.
 *
 * Tiles are what the kernels of compress/cuda take them for.
 */
#include "device/coder_codecs.h"

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

static gp_status
plan_cast(const gp_pipeline *p, gp_coder_plan *plan)
{
    const gp_codec_ops *ops = p->array->ops;

    plan->word = ops == &gp_codec_none ? 0 : ops == &gp_codec_fp16 ? 1 : 2;
    if (plan->word && p->array->values[0] != 0)
        return no_kernel(p, "rounding at random");
    plan->encode =
        (gp_coder_kernel){GP_KERNEL_gp_cuda_cast_encode, CAST_TILE, THREADS};
    plan->decode =
        (gp_coder_kernel){GP_KERNEL_gp_cuda_cast_decode, CAST_TILE, THREADS};
    plan->fold =
        (gp_coder_kernel){GP_KERNEL_gp_cuda_cast_fold, FOLD_TILE, THREADS};
    return GP_OK;
}

static gp_status
plan_q8(const gp_pipeline *p, gp_coder_plan *plan)
{
    const gp_blocks *f = p->array->instance;
    uint32_t tile = (uint32_t)f->block * 32;

    if (f->round != GP_ROUND_NEAREST)
        return no_kernel(p, "rounding at random");
    if (f->scale != GP_SCALE_FP32)
        return no_kernel(p, "scale=bf16");
    plan->word = (uint32_t)f->block;
    plan->encode =
        (gp_coder_kernel){GP_KERNEL_gp_cuda_q8_encode, tile, THREADS};
    plan->decode =
        (gp_coder_kernel){GP_KERNEL_gp_cuda_q8_decode, tile, THREADS};
    plan->fold =
        (gp_coder_kernel){GP_KERNEL_gp_cuda_q8_fold, FOLD_TILE, THREADS};
    return GP_OK;
}

const gp_coder_codec gp_coder_codecs[] = {
    {&gp_codec_none, plan_cast},
    {&gp_codec_fp16, plan_cast},
    {&gp_codec_bf16, plan_cast},
    {&gp_codec_q8, plan_q8},
    {NULL, NULL},
};
