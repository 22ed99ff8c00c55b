/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scan.cuh - running sums within a warp and a block of the grid.
 */
#ifndef GP_CUDA_SCAN_CUH
#define GP_CUDA_SCAN_CUH

#include "compress/cuda/eight.cuh"

/* The sum of what the lanes before this one have; *total: of all. */
static __device__ __forceinline__ uint32_t
gp_warp_scan(uint32_t value, uint32_t *total)
{
    uint32_t lane = threadIdx.x % 32u, sum = value;

    for (uint32_t d = 1; d < 32; d <<= 1) {
        uint32_t before = __shfl_up_sync(GP_FULL_WARP, sum, d);

        sum += lane >= d ? before : 0;
    }
    *total = __shfl_sync(GP_FULL_WARP, sum, 31);
    return sum - value;
}

/* The same of a block of the grid. */
static __device__ __forceinline__ uint64_t
gp_block_scan(uint64_t value, uint64_t *total)
{
    __shared__ uint64_t warp[32];
    uint32_t lane = threadIdx.x % 32u;
    uint64_t sum = value, before = 0;

    for (uint32_t d = 1; d < 32; d <<= 1) {
        uint64_t other = __shfl_up_sync(GP_FULL_WARP, sum, d);

        sum += lane >= d ? other : 0;
    }
    __syncthreads();
    if (lane == 31)
        warp[threadIdx.x / 32u] = sum;
    __syncthreads();
    *total = 0;
    for (uint32_t w = 0; w < blockDim.x / 32u; w++) {
        before += w < threadIdx.x / 32u ? warp[w] : 0;
        *total += warp[w];
    }
    return before + sum - value;
}

#endif
