/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coder_rotate.c - transforms on a device: launches ahead of those of the array
 * stage, and behind them.
 */
#include <string.h>

#include "compress/eden_kernels.h"
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

/* ---- drive and eden ---- */

/* The table of eden.c. */
static const float lloyd_max[GP_EDEN_BITS][GP_EDEN_LEVELS] = {
    {0.7979f},
    {0.4528f, 1.5104f},
    {0.2451f, 0.7560f, 1.3439f, 2.1519f},
    {0.1284f, 0.3880f, 0.6568f, 0.9423f, 1.2562f, 1.6180f, 2.0690f, 2.7326f}};

/* eden: bits, block, scale; drive: the last two, and one level. */
gp_status
gp_coder_plan_eden(const gp_pipeline *p, gp_coder_plan *plan)
{
    bool drive = p->array->ops == &gp_codec_drive;
    const double *v = p->array->values + !drive;
    uint32_t bits = drive ? 1 : (uint32_t)p->array->values[0];
    uint32_t block = (uint32_t)v[0];
    float levels[GP_EDEN_LEVELS] = {1};
    gp_coder_kernel k = {.tile = block,
                         .threads = THREADS,
                         .shared = 4 * (block + block / 32 + 1)};

    if (block > LARGEST)
        return gp_fail(GP_ERR_UNSUPPORTED,
                       "codec %s: no kernel for blocks of more than %u "
                       "elements on this device; see docs/gpu.md, or use the "
                       "device cpu",
                       gp_pipeline_name(p), LARGEST);
    if (!drive)
        memcpy(levels, lloyd_max[bits - 1], sizeof(levels));
    plan->word[0] = block;
    plan->word[1] = bits | (v[1] != 0 ? 16u : 0u);
    memcpy(&plan->word[2], levels, sizeof(levels));
    plan->use = GP_USE_ROTATION;
    k.kernel = GP_KERNEL_gp_cuda_eden_encode;
    plan->encode[0] = k;
    k.kernel = GP_KERNEL_gp_cuda_eden_decode;
    plan->decode[0] = k;
    return GP_OK;
}
