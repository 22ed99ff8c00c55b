/* SPDX-License-Identifier: Apache-2.0 */
/*
 * finish.cu - what is done to elements one by one, before they are encoded or
 * once they are decoded: residuals decay; the sum of workers' messages becomes
 * what an updater makes of it, the majority of votes or a multiple.
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
