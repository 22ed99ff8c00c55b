/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coder_rotate.c - transforms on a device: launches ahead of those of the array
 * stage, and behind them; and codecs that rotate.
 *
 * A block of threads rotates a block, of up to 132 KiB, in shared memory. Where
 * a device has less of that, the block lies in the device's memory, and pieces
 * of it come to shared memory for all stages but the last.
 */
#include <string.h>

#include "base/base.h"
#include "compress/eden_kernels.h"
#include "compress/stochastic.h"
#include "device/coder_codecs.h"

/* rotate.cuh: 48 KiB of shared memory are there without asking for more. */
#define PIECE 8192u

/* gp_near: a word more for each 32. */
static uint32_t
shared_of(uint32_t block)
{
    return 4 * (block + block / 32 + 1);
}

bool
gp_coder_is_far(const gp_coder_plan *plan, uint32_t block)
{
    return block > PIECE && shared_of(block) > plan->block_shared;
}

/* A thread has eight elements at a time. */
gp_coder_kernel
gp_coder_rotating(const gp_coder_plan *plan, gp_kernel_id near,
                  gp_kernel_id far, uint32_t block)
{
    bool is_far = gp_coder_is_far(plan, block);

    return (gp_coder_kernel){.kernel = is_far ? far : near,
                             .tile = block,
                             .threads = GP_MIN(GP_MAX(block / 16, 128u), 1024u),
                             .level = block,
                             .shared = shared_of(is_far ? PIECE : block)};
}

gp_status
gp_coder_plan_rotation(const gp_pipeline *p, gp_coder_plan *plan)
{
    uint32_t block = (uint32_t)p->transform->values[0];

    if (p->transform->ops != &gp_codec_hadamard || p->select)
        return gp_fail(GP_ERR_UNSUPPORTED,
                       "codec %s: no kernel for %s here on this device; see "
                       "docs/gpu.md, or use the device cpu",
                       gp_pipeline_name(p), p->transform->ops->name);
    if (p->array->ops == &gp_codec_vote)
        return gp_fail(GP_ERR_UNSUPPORTED,
                       "codec %s: no kernel for hadamard before votes on this "
                       "device; see docs/gpu.md, or use the device cpu",
                       gp_pipeline_name(p));
    plan->rotated = block;
    plan->before[0] =
        gp_coder_rotating(plan, GP_KERNEL_gp_cuda_rotate_forward,
                          GP_KERNEL_gp_cuda_rotate_far_forward, block);
    plan->back[0] = gp_coder_rotating(plan, GP_KERNEL_gp_cuda_rotate_back,
                                      GP_KERNEL_gp_cuda_rotate_far_back, block);
    plan->undo[0] =
        gp_coder_rotating(plan, GP_KERNEL_gp_cuda_rotate_inverse,
                          GP_KERNEL_gp_cuda_rotate_far_inverse, block);
    return GP_OK;
}

/* ---- drive and eden ---- */

/* The table of eden.c. */
static const float lloyd_max[GP_EDEN_BITS][GP_EDEN_LEVELS] = {
    {0.7979f},
    {0.4528f, 1.5104f},
    {0.2451f, 0.7560f, 1.3439f, 2.1519f},
    {0.1284f, 0.3880f, 0.6568f, 0.9423f, 1.2562f, 1.6180f, 2.0690f, 2.7326f}};

/* What is rotated. */
static size_t
far_space(const gp_pipeline *p, size_t count)
{
    (void)p;
    return count * sizeof(float) + 64;
}

/* eden: bits, block, scale; drive: the last two, and one level. */
gp_status
gp_coder_plan_eden(const gp_pipeline *p, gp_coder_plan *plan)
{
    bool drive = p->array->ops == &gp_codec_drive;
    const double *v = p->array->values + !drive;
    uint32_t bits = drive ? 1 : (uint32_t)p->array->values[0];
    uint32_t block = (uint32_t)v[0];
    float levels[GP_EDEN_LEVELS] = {1};

    if (!drive)
        memcpy(levels, lloyd_max[bits - 1], sizeof(levels));
    plan->word[0] = block;
    plan->word[1] = bits | (v[1] != 0 ? 16u : 0u);
    memcpy(&plan->word[2], levels, sizeof(levels));
    plan->use = GP_USE_ROTATION;
    plan->layout = (gp_select_layout){
        .block = block, .per_block = 4, .bits = bits, .planes = 1};
    plan->reads = gp_coder_is_far(plan, block);
    plan->space = plan->reads ? far_space : NULL;
    plan->encode[0] =
        gp_coder_rotating(plan, GP_KERNEL_gp_cuda_eden_encode,
                          GP_KERNEL_gp_cuda_eden_far_encode, block);
    plan->decode[0] =
        gp_coder_rotating(plan, GP_KERNEL_gp_cuda_eden_decode,
                          GP_KERNEL_gp_cuda_eden_far_decode, block);
    return GP_OK;
}
