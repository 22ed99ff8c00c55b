/* SPDX-License-Identifier: Apache-2.0 */
/*
 * select.cuh - what is selected from, for kernels of chunks and for those of
 * whole tensors.
 */
#ifndef GP_CUDA_SELECT_CUH
#define GP_CUDA_SELECT_CUH

#include "compress/cuda/scan.cuh"
#include "compress/cuda/select.h"

static __device__ __forceinline__ const gp_select *
select_of(const gp_cuda_part *part)
{
    return (const gp_select *)part->space;
}

static __device__ __forceinline__ bool
select_dense(const gp_select *s)
{
    return s->state->dense || s->state->candidates > s->room ||
           s->state->candidates < s->k;
}

/* What is being selected from, once it has been scanned. */
static __device__ __forceinline__ const float *
select_from(const gp_cuda_part *part)
{
    return part->residual ? part->residual : part->source;
}

static __device__ __forceinline__ float
select_at(const gp_cuda_part *part, uint64_t i)
{
    return part->residual ? __fadd_rn(part->residual[i], part->source[i])
                          : part->source[i];
}

/* The elements of a tile that may be chosen, 32 at a time. */
struct select_view {
    const float *value;
    const uint32_t *at; /* NULL: they are all of the tile's */
    uint64_t first;
    uint32_t count;
};

static __device__ __forceinline__ select_view
select_view_of(const gp_cuda_part *part, const gp_select *s, uint64_t tile)
{
    uint64_t begin = tile * GP_SELECT_TILE, left = part->count - begin;

    if (part->count <= begin)
        return {nullptr, nullptr, 0, 0};
    if (select_dense(s))
        return {select_from(part) + begin, nullptr, begin,
                left < GP_SELECT_TILE ? (uint32_t)left : GP_SELECT_TILE};
    return {s->candidate + s->tile[tile].at, s->candidate_at + s->tile[tile].at,
            0, s->tile[tile].count};
}

/* Bits of the least that is chosen whatever its place, less one: behind the
 * kernels that find it. */
static __device__ __forceinline__ uint32_t
select_cut(const gp_select *s)
{
    return s->state->prefix;
}

#endif
