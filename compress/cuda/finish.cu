/* SPDX-License-Identifier: Apache-2.0 */
/*
 * finish.cu - what is done to elements one by one, before they are encoded or
 * once they are decoded: residuals decay; the sum of workers' messages becomes
 * what an updater makes of it, the majority of votes or a multiple; and what
 * ef21 and momentum make of gradients (memory.c).
 */
#include "compress/cuda/common.cuh"

/* `tile` is that of the decoder: parts have the blocks that it had. */
extern "C" __global__ void
gp_cuda_finish(const gp_cuda_part *part, uint32_t parts, uint32_t word,
               uint32_t add, uint32_t tile)
{
    const gp_cuda_part *mine = gp_find_part(part, parts);
    uint64_t begin = (uint64_t)(blockIdx.x - mine->first_block) * tile;
    uint64_t end = begin + tile < mine->count ? begin + tile : mine->count;

    (void)word;
    (void)add;
    for (uint64_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
        float x = mine->target[i];

        if (!mine->signs)
            mine->target[i] = __fmul_rn(x, mine->scale);
        else if (x == x)
            mine->target[i] = x < 0 ? -1.0f : 1.0f;
    }
}

extern "C" __global__ void
gp_cuda_decay(const gp_cuda_part *part, uint32_t parts, uint32_t word,
              uint32_t add, uint32_t tile)
{
    const gp_cuda_part *mine = gp_find_part(part, parts);
    uint64_t begin = (uint64_t)(blockIdx.x - mine->first_block) * tile;
    uint64_t end = begin + tile < mine->count ? begin + tile : mine->count;

    (void)word;
    (void)add;
    for (uint64_t i = begin + threadIdx.x; mine->residual && i < end;
         i += blockDim.x)
        mine->residual[i] = __fmul_rn(mine->residual[i], mine->scale);
}

/* ---- ef21 and momentum ---- */

/* What is not finite is sent once; a difference too large is not. */
static __device__ __forceinline__ float
remember_difference(float g, float h)
{
    float d = __fsub_rn(g, h);

    return gp_keep_nan(g, gp_is_finite(d) || !gp_is_finite(g) ? d : 0.0f);
}

/* What is made of an element that is no number has its bits; of Inf that was
 * clipped, times 0, it is the NaN that x86 has of that. */
static __device__ __forceinline__ float
remember_nan(float x, float result)
{
    return gp_keep_nan(x, result != result ? __uint_as_float(0xffc00000u)
                                           : result);
}

static __device__ __forceinline__ float
remember_velocity(float x, float *v, float factor, bool nesterov, float clip)
{
    float g = __fmul_rn(x, clip);
    float next = __fadd_rn(__fmul_rn(factor, *v), g);

    *v = gp_is_finite(next) ? next : 0.0f;
    return remember_nan(x, nesterov ? __fadd_rn(g, __fmul_rn(factor, next))
                                    : next);
}

/* From the gradient to what is encoded, or added to the residual: at once where
 * there is no place for the former. */
extern "C" __global__ void
gp_cuda_remember(const gp_cuda_part *part, uint32_t parts, uint32_t word,
                 uint32_t add, uint32_t tile)
{
    const gp_cuda_part *mine = gp_find_part(part, parts);
    uint64_t begin = (uint64_t)(blockIdx.x - mine->first_block) * tile;
    uint64_t end = begin + tile < mine->count ? begin + tile : mine->count;
    float *to = mine->source ? (float *)mine->source : mine->residual;
    float f = mine->scale;
    float c = mine->norm ? (float)mine->norm[0] : 1.0f;
    bool nesterov = mine->signs & GP_REMEMBER_NESTEROV;

    (void)word;
    (void)add;
    for (uint64_t i = begin + 4u * threadIdx.x; mine->gradient && i < end;
         i += 4u * blockDim.x) {
        uint32_t left = end - i < 4 ? (uint32_t)(end - i) : 4;
        float4 x = gp_load4(mine->gradient + i, left);

        if (mine->history) {
            float4 h = gp_load4(mine->history + i, left);

            x = make_float4(
                remember_difference(x.x, h.x), remember_difference(x.y, h.y),
                remember_difference(x.z, h.z), remember_difference(x.w, h.w));
        } else if (mine->velocity) {
            float4 v = gp_load4(mine->velocity + i, left);

            x = make_float4(remember_velocity(x.x, &v.x, f, nesterov, c),
                            remember_velocity(x.y, &v.y, f, nesterov, c),
                            remember_velocity(x.z, &v.z, f, nesterov, c),
                            remember_velocity(x.w, &v.w, f, nesterov, c));
            gp_store4(mine->velocity + i, v, left);
        }
        if (!mine->source)
            x = gp_feed4(gp_load4(to + i, left), x);
        gp_store4(to + i, x, left);
    }
}

/* What was decoded goes to the history, which takes what leaves it finite. */
extern "C" __global__ void
gp_cuda_keep(const gp_cuda_part *part, uint32_t parts, uint32_t word,
             uint32_t add, uint32_t tile)
{
    const gp_cuda_part *mine = gp_find_part(part, parts);
    uint64_t begin = (uint64_t)(blockIdx.x - mine->first_block) * tile;
    uint64_t end = begin + tile < mine->count ? begin + tile : mine->count;

    (void)word;
    (void)add;
    for (uint64_t i = begin + 4u * threadIdx.x; mine->history && i < end;
         i += 4u * blockDim.x) {
        uint32_t left = end - i < 4 ? (uint32_t)(end - i) : 4;
        float4 h = gp_load4(mine->history + i, left);

        h = gp_keep4(h, gp_load4(mine->target + i, left));
        gp_store4(mine->history + i, h, left);
    }
}
