/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coder_agree.c - codecs whose workers agree on a number before they encode:
 * intsum and thc. Their sums have wider lanes than their messages, which is for
 * the kernels to see.
 */
#include "device/coder_codecs.h"

#include <string.h>

#include "compress/codec_internal.h"
#include "compress/thc.h"

#define THREADS 256u
#define TILE    4096u

static gp_coder_kernel
kernel(gp_kernel_id id, uint32_t tile)
{
    return (gp_coder_kernel){id, tile, THREADS, false, 0, 0};
}

static bool
length_right(const gp_pipeline *p, size_t length, size_t count)
{
    return length >= 8 && length <= gp_pipeline_bound(p, count);
}

/* ---- intsum ---- */

static size_t
intsum_space(const gp_pipeline *p, size_t count)
{
    (void)p;
    return 64 + 4 * (count / TILE + 1);
}

static size_t
intsum_length(const gp_pipeline *p, size_t count)
{
    static const size_t eighths[] = {4, 8, 16};
    size_t width = eighths[(size_t)p->array->values[0]];

    return 8 + (width == 4 ? count / 2 + count % 2 : count * (width / 8));
}

/* The instances of intsum.c. */
gp_status
gp_coder_plan_intsum(const gp_pipeline *p, gp_coder_plan *plan)
{
    static const uint32_t formats[3][4] = {
        {4, 7, 0xffff, 0x7e120000},
        {8, 127, 0xffff, 0x7c010000},
        {16, 32767, 0x7fffff, 0x78000000},
    };
    const uint32_t *f = formats[(size_t)p->array->values[0]];
    bool random = p->array->values[1] != 0;

    plan->word[0] = f[0] | (random ? 256 : 0);
    memcpy(&plan->word[1], f + 1, 3 * sizeof(*f));
    plan->use = random ? GP_USE_ROUNDING : 0;
    plan->space = intsum_space;
    plan->length = intsum_length;
    plan->right = length_right;
    plan->heads = true;
    plan->sums = plan->memory == GP_MEMORY_MOMENTUM;
    plan->propose[0] = kernel(GP_KERNEL_gp_cuda_intsum_look, TILE);
    plan->propose[1] = plan->propose[0];
    plan->propose[1].kernel = GP_KERNEL_gp_cuda_intsum_propose;
    plan->propose[1].per_part = true;
    plan->encode[0] = kernel(GP_KERNEL_gp_cuda_intsum_scan, TILE);
    plan->encode[1] = plan->encode[0];
    plan->encode[1].kernel = GP_KERNEL_gp_cuda_intsum_settle;
    plan->encode[1].per_part = true;
    plan->encode[2] = kernel(GP_KERNEL_gp_cuda_intsum_encode, TILE);
    plan->decode[0] = kernel(GP_KERNEL_gp_cuda_intsum_decode, TILE);
    plan->fold[0] = kernel(GP_KERNEL_gp_cuda_intsum_fold, TILE);
    return GP_OK;
}

/* ---- thc ---- */

/* thc.cu: the unit, and 16 bytes for each block and for what is left. */
static size_t
thc_space(const gp_pipeline *p, size_t count)
{
    return 64 + 16 * (count / (size_t)p->array->values[2] + 2);
}

/* And what is rotated. */
static size_t
thc_far_space(const gp_pipeline *p, size_t count)
{
    return thc_space(p, count) + count * sizeof(float);
}

static size_t
thc_length(const gp_pipeline *p, size_t count)
{
    size_t in_byte = p->array->values[0] != 0 ? 2 : 4;

    return GP_THC_HEAD + count / in_byte + (count % in_byte != 0);
}

gp_status
gp_coder_plan_thc(const gp_pipeline *p, gp_coder_plan *plan)
{
    const double *v = p->array->values;
    uint32_t block = (uint32_t)v[2];

    plan->word[0] = gp_thc_which((uint32_t)v[0], (uint32_t)v[1]);
    plan->word[1] = block;
    plan->use = GP_USE_SIGNS;
    plan->rounding = GP_USE_ROUNDING;
    plan->far = plan->reads = gp_coder_is_far(plan, block);
    plan->space = plan->far ? thc_far_space : thc_space;
    plan->length = thc_length;
    plan->right = length_right;
    plan->heads = true;
    plan->sums = plan->memory == GP_MEMORY_MOMENTUM;
    plan->propose[0] = kernel(GP_KERNEL_gp_cuda_thc_look, block);
    plan->propose[1] = kernel(GP_KERNEL_gp_cuda_thc_propose, block);
    plan->propose[1].per_part = 1;
    plan->encode[0] = kernel(GP_KERNEL_gp_cuda_thc_scan, block);
    plan->encode[1] = kernel(GP_KERNEL_gp_cuda_thc_settle, block);
    plan->encode[1].per_part = 1;
    plan->encode[2] =
        gp_coder_rotating(plan, GP_KERNEL_gp_cuda_thc_encode,
                          GP_KERNEL_gp_cuda_thc_far_encode, block);
    plan->decode[0] =
        gp_coder_rotating(plan, GP_KERNEL_gp_cuda_thc_decode,
                          GP_KERNEL_gp_cuda_thc_far_decode, block);
    plan->fold[0] = gp_coder_rotating(plan, GP_KERNEL_gp_cuda_thc_fold,
                                      GP_KERNEL_gp_cuda_thc_far_fold, block);
    return GP_OK;
}
