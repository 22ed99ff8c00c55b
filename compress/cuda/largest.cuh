/* SPDX-License-Identifier: Apache-2.0 */
/*
 * largest.cuh - the largest finite magnitude of a part, for formats that scale
 * all of it alike: one number for each tile, then one for all.
 *
 * A part's space has that of all, and then those of the tiles.
 */
#ifndef GP_CUDA_LARGEST_CUH
#define GP_CUDA_LARGEST_CUH

#include "compress/cuda/eight.cuh"

/* Of the tile that this block of the grid has. */
static __device__ __forceinline__ void
gp_scan_largest(const gp_cuda_part *part, uint32_t parts, uint32_t tile)
{
    const gp_cuda_part *mine = gp_find_part(part, parts);
    uint64_t number = blockIdx.x - mine->first_block, begin = number * tile;
    uint64_t end = begin + tile < mine->count ? begin + tile : mine->count;
    uint32_t most = 0;

    for (uint64_t i = begin + 8u * threadIdx.x; i < end; i += 8u * blockDim.x) {
        float x[8];
        uint32_t m;

        gp_gather8(mine->source, mine->residual, i, gp_left8(i, end), x);
        m = gp_most_finite8(x);
        most = m > most ? m : most;
    }
    most = gp_block_max(most);
    if (threadIdx.x == 0)
        ((uint32_t *)mine->space)[1 + number] = most;
}

/* Of a part; a block of the grid for each. */
static __device__ __forceinline__ uint32_t
gp_part_largest(const gp_cuda_part *part, uint32_t tile)
{
    const uint32_t *of = (const uint32_t *)part->space + 1;
    uint64_t tiles = (part->count + tile - 1) / tile;
    uint32_t most = 0;

    for (uint64_t t = threadIdx.x; t < tiles; t += blockDim.x)
        most = of[t] > most ? of[t] : most;
    return gp_block_max(most);
}

#endif
