/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coder_rotate.c - transforms on a device: launches ahead of those of the array
 * stage, and behind them.
 */
#include "compress/stochastic.h"
#include "device/coder_codecs.h"

/* 48 KiB of shared memory are there without asking for more. */
#define LARGEST 8192u
#define THREADS 128u

gp_status
gp_coder_plan_rotation(const gp_pipeline *p, gp_coder_plan *plan)
{
    uint32_t block = (uint32_t)p->transform->values[0];
    gp_coder_kernel k = {.tile = block,
                         .threads = THREADS,
                         .level = block,
                         .shared = 4 * (block + block / 32 + 1)};

    if (p->transform->ops != &gp_codec_hadamard || p->select)
        return gp_fail(GP_ERR_UNSUPPORTED,
                       "codec %s: no kernel for %s here on this device; see "
                       "docs/gpu.md, or use the device cpu",
                       gp_pipeline_name(p), p->transform->ops->name);
    if (block > LARGEST || !plan->layout.bits)
        return gp_fail(GP_ERR_UNSUPPORTED,
                       "codec %s: no kernel for hadamard of more than %u "
                       "elements, or before these values, on this device; see "
                       "docs/gpu.md, or use the device cpu",
                       gp_pipeline_name(p), LARGEST);
    plan->rotated = block;
    k.kernel = GP_KERNEL_gp_cuda_rotate_forward;
    plan->before[0] = k;
    k.kernel = GP_KERNEL_gp_cuda_rotate_back;
    plan->back[0] = k;
    k.kernel = GP_KERNEL_gp_cuda_rotate_inverse;
    plan->undo[0] = k;
    return GP_OK;
}
