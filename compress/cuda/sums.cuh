/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sums.cuh - sums over elements, as doubles, and their largest magnitude.
 *
 * Over a block of a format: in the order of reduce.h, hence with its bits. Half
 * a warp holds the 16 partial sums, so a warp has two blocks at a time. Over
 * whole chunks: that order would be one of 16 chains, so tiles are summed first
 * and then their sums, always in the same order, but another one.
 */
#ifndef GP_CUDA_SUMS_CUH
#define GP_CUDA_SUMS_CUH

#include "compress/cuda/eight.cuh"

/* What is summed; gp_sign_sum of sign_kernels.h, and plain sums. */
enum {
    SUM_NOTHING = 0,
    SUM_MAGNITUDES = 1,
    SUM_SQUARES = 2,
    SUM_CLASSES = 3, /* those below the threshold in a, the others in b */
    SUM_MOMENTS = 4  /* squares in a, the numbers in b */
};

struct gp_stats {
    double a, b;
    uint64_t below; /* elements below the threshold */
    uint32_t most;  /* bits of the largest magnitude */
};

#define GP_STATS_TILE 16384u

static __device__ __forceinline__ void
gp_sum_one(gp_stats *s, int what, bool below, float x)
{
    double d = (double)x;

    if (what == SUM_MAGNITUDES)
        s->a += fabs(d);
    else if (what == SUM_SQUARES || what == SUM_MOMENTS)
        s->a += d * d;
    else if (what == SUM_CLASSES && below)
        s->a += d;
    if (what == SUM_MOMENTS || (what == SUM_CLASSES && !below))
        s->b += d;
}

/* The sum of 16 lanes by halves: all of them have it. */
static __device__ __forceinline__ double
gp_half_total(double p)
{
    for (int d = 8; d; d >>= 1)
        p += __shfl_xor_sync(GP_FULL_WARP, p, d);
    return p;
}

/* Adds up the numbers of a warp; lane 0 has all. */
static __device__ __forceinline__ void
gp_warp_stats(gp_stats *s)
{
    for (int d = 16; d; d >>= 1) {
        s->a += __shfl_down_sync(GP_FULL_WARP, s->a, (unsigned)d);
        s->b += __shfl_down_sync(GP_FULL_WARP, s->b, (unsigned)d);
        s->below += __shfl_down_sync(GP_FULL_WARP, s->below, (unsigned)d);
    }
    s->most = gp_warp_max(s->most);
}

/* The same of a block of the grid; thread 0 has all. */
static __device__ __forceinline__ void
gp_block_stats(gp_stats *s)
{
    __shared__ gp_stats warp[32];
    uint32_t warps = blockDim.x / 32u;

    gp_warp_stats(s);
    if (threadIdx.x % 32u == 0)
        warp[threadIdx.x / 32u] = *s;
    __syncthreads();
    for (uint32_t w = 1; threadIdx.x == 0 && w < warps; w++) {
        s->a += warp[w].a;
        s->b += warp[w].b;
        s->below += warp[w].below;
        s->most = warp[w].most > s->most ? warp[w].most : s->most;
    }
}

/* Of a part whose tiles left theirs at space[1] and on: thread 0 has all. */
static __device__ __forceinline__ gp_stats
gp_part_stats(const gp_cuda_part *part)
{
    const gp_stats *tile = (const gp_stats *)part->space + 1;
    uint64_t tiles = (part->count + GP_STATS_TILE - 1) / GP_STATS_TILE;
    gp_stats s = {0, 0, 0, 0};

    for (uint64_t t = threadIdx.x; t < tiles; t += blockDim.x) {
        s.a += tile[t].a;
        s.b += tile[t].b;
        s.below += tile[t].below;
        s.most = tile[t].most > s.most ? tile[t].most : s.most;
    }
    gp_block_stats(&s);
    return s;
}

#endif
