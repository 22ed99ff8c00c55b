/* SPDX-License-Identifier: Apache-2.0 */
/*
 * norm.cu - sums of squares of chunks and tensors, and what follows from them:
 * the factor of momentum:clip (memory.c) and the least magnitude that a
 * relative threshold sends (topk.c).
 *
 * The host has one order for a sum of any length; here tiles are summed first.
 * Terms are exact, so both differ in the last bits of a double, and what is
 * rounded to fp32 afterwards in its last bit, and rarely.
 */
#include "compress/cuda/select.cuh"

/* Of a block of 256 threads: thread 0 has it. */
static __device__ __forceinline__ double
norm_total(double sum)
{
    __shared__ double warp[8];

    for (int d = 16; d; d >>= 1)
        sum += __shfl_down_sync(GP_FULL_WARP, sum, (unsigned)d);
    if (threadIdx.x % 32u == 0)
        warp[threadIdx.x / 32u] = sum;
    __syncthreads();
    for (uint32_t w = 1; threadIdx.x == 0 && w < 8; w++)
        sum += warp[w];
    return sum;
}

/* Of the tile that this block of the grid has. */
static __device__ __forceinline__ void
norm_tile(const gp_cuda_part *part, const float *from, double *squares,
          uint32_t tile)
{
    uint64_t number = blockIdx.x - part->first_block, begin = number * tile;
    uint64_t end = begin + tile < part->count ? begin + tile : part->count;
    double sum = 0;

    for (uint64_t i = begin + 8u * threadIdx.x; i < end; i += 8u * blockDim.x) {
        float x[8];

        gp_load8(from + i, gp_left8(i, end), x);
        GP_UNROLL(8)
        for (int j = 0; j < 8; j++)
            sum += (double)x[j] * (double)x[j];
    }
    sum = norm_total(sum);
    if (threadIdx.x == 0)
        squares[number] = sum;
}

/* Of a part whose tiles have theirs: thread 0 has it. */
static __device__ __forceinline__ double
norm_part(const gp_cuda_part *part, const double *squares, uint32_t tile)
{
    uint64_t tiles = (part->count + tile - 1) / tile;
    double sum = 0;

    for (uint64_t t = threadIdx.x; t < tiles; t += blockDim.x)
        sum += squares[t];
    return norm_total(sum);
}

/* ---- momentum:clip: of gradients, before they are remembered ---- */

/* `tile` is that of the encoder: parts have the blocks that it has. */
extern "C" __global__ void
gp_cuda_clip_sum(const gp_cuda_part *part, uint32_t parts, uint32_t word,
                 uint32_t add, uint32_t tile)
{
    const gp_cuda_part *mine = gp_find_part(part, parts);

    (void)word;
    (void)add;
    if (mine->norm)
        norm_tile(mine, mine->gradient, mine->norm + 1, tile);
}

/* A block of the grid for each part. */
extern "C" __global__ void
gp_cuda_clip_settle(const gp_cuda_part *part, uint32_t parts, uint32_t word,
                    uint32_t add, uint32_t tile)
{
    const gp_cuda_part *mine = part + blockIdx.x;
    double norm;

    (void)parts;
    (void)word;
    (void)add;
    if (!mine->norm)
        return;
    norm = sqrt(norm_part(mine, mine->norm + 1, tile));
    if (threadIdx.x == 0)
        mine->norm[0] = norm > mine->limit ? (float)(mine->limit / norm) : 1.0f;
}

/* ---- threshold:relative=1: of what is selected from ---- */

extern "C" __global__ void
gp_cuda_select_sum(const gp_cuda_part *part, uint32_t parts)
{
    const gp_cuda_part *mine = gp_find_part(part, parts);

    norm_tile(mine, select_from(mine), select_of(mine)->squares,
              GP_SELECT_TILE);
}

/* threshold_bits() of topk.c, less one. */
static __device__ __forceinline__ uint32_t
norm_cut(double least)
{
    uint32_t bits;

    if (!(least < 0x1p128))
        return GP_FP32_INFINITY - 1;
    bits = __float_as_uint((float)least);
    bits += (double)__uint_as_float(bits) < least;
    return bits ? bits - 1 : 0;
}

/* A block of the grid for each part, a chunk or a tensor. */
extern "C" __global__ void
gp_cuda_select_least(const gp_cuda_part *part, uint32_t parts)
{
    const gp_cuda_part *mine = part + blockIdx.x;
    const gp_select *s = select_of(mine);
    uint64_t count = mine->count ? mine->count : 1;
    double sum = norm_part(mine, s->squares, GP_SELECT_TILE);

    (void)parts;
    if (threadIdx.x == 0)
        s->state->prefix = norm_cut(s->value * sqrt(sum / (double)count));
}

/* ---- whole tensors ---- */

/* Behind the last of those that equal the k-th and are chosen, or what a
 * threshold is; a warp for each tile, of which one has that element. */
extern "C" __global__ void
gp_cuda_select_end(const gp_cuda_part *part, uint32_t parts)
{
    const gp_cuda_part *mine = gp_find_part(part, parts);
    const gp_select *s = select_of(mine);
    gp_select_whole *whole = (gp_select_whole *)mine->whole;
    uint64_t tile = blockIdx.x - mine->first_block;
    select_view view = select_view_of(mine, s, tile);
    uint32_t cut = select_cut(s), lane = threadIdx.x;
    uint32_t ties = s->k && view.count ? s->tile[tile].equal : 0;

    if (tile == 0 && lane == 0)
        whole->bits = cut;
    for (uint32_t i = 0; i < view.count && ties; i += 32) {
        bool there = i + lane < view.count;
        uint32_t equal = __ballot_sync(
            GP_FULL_WARP, there && gp_magnitude(view.value[i + lane]) == cut);

        for (; equal && ties; equal &= equal - 1, ties--) {
            uint32_t at = i + (uint32_t)__ffs((int)equal) - 1;
            uint64_t index = view.at ? view.at[at] : view.first + at;

            if (ties == 1 && lane == 0)
                atomicMax((unsigned long long *)&whole->ties_end,
                          (unsigned long long)index + 1);
        }
    }
}

/* What a look at a tensor begins with. */
extern "C" __global__ void
gp_cuda_select_look(const gp_cuda_part *part, uint32_t parts)
{
    gp_select_whole *whole = (gp_select_whole *)part[blockIdx.x].whole;

    (void)parts;
    if (threadIdx.x == 0) {
        whole->ties_end = 0;
        whole->bits = 0;
    }
}
