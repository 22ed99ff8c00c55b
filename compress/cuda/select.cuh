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

/* At most, where they vary. */
static __device__ __forceinline__ uint64_t
select_values_bytes(const gp_select_layout *l, uint64_t n)
{
    uint64_t blocks = l->block ? (n + l->block - 1) / l->block : 1;
    uint64_t rest = n % 8 * l->bits;

    if (n == 0)
        return l->nothing;
    rest = l->planes ? (rest ? l->bits : 0) : (rest + 7) / 8;
    return l->head + blocks * l->per_block + n / 8 * l->bits + rest;
}

/* Of what was just encoded. */
static __device__ __forceinline__ uint64_t
select_encoded_bytes(const gp_select *s)
{
    return s->layout.varies ? s->state->values
                            : select_values_bytes(&s->layout, s->values->count);
}

/* Whether so many may be what n elements were made. */
static __device__ __forceinline__ bool
select_bytes_right(const gp_select_layout *l, uint64_t n, uint64_t bytes)
{
    if (l->varies && n == 0)
        return bytes == 0;
    return l->varies ? bytes > 0 && bytes <= select_values_bytes(l, n)
                     : bytes == select_values_bytes(l, n);
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
    return part->residual ? gp_feed(part->residual[i], part->source[i])
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
