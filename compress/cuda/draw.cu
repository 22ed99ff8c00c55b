/* SPDX-License-Identifier: Apache-2.0 */
/*
 * draw.cu - the elements that randk.c draws, all draws at once.
 *
 * Floyd's method takes draw i, uniform over 0 .. base + i, unless it is in the
 * set by then: base + i in its place, which nothing before can be. So a draw is
 * displaced when an earlier one was the same, or when it is base + j of an
 * earlier draw j that was displaced itself: each thread follows that chain,
 * which ends after two steps on average. The set is all draws, and base + i of
 * those that were displaced; where most elements are sent, it is the others.
 *
 * Draws lie in chosen_at, the first of each element in candidate_at, the set in
 * index_out, as bits.
 */
#include "compress/cuda/philox.cuh"
#include "compress/cuda/scan.cuh"
#include "compress/cuda/select.h"

static __device__ __forceinline__ const gp_select *
draw_of(const gp_cuda_part *part)
{
    return (const gp_select *)part->space;
}

/* Threads of a part go over its draws. */
static __device__ __forceinline__ uint64_t
draw_threads(const gp_cuda_part *part)
{
    uint64_t tiles = (part->count + GP_SELECT_TILE - 1) / GP_SELECT_TILE;

    return (tiles ? tiles : 1) * blockDim.x;
}

static __device__ __forceinline__ uint64_t
draw_thread(const gp_cuda_part *part)
{
    return (uint64_t)(blockIdx.x - part->first_block) * blockDim.x +
           threadIdx.x;
}

/* Nothing is drawn; what is fed back is added, and numbers that are none are
 * found: what is not drawn must not hide them. */
extern "C" __global__ void
gp_cuda_draw_clear(const gp_cuda_part *part, uint32_t parts)
{
    const gp_cuda_part *mine = gp_find_part(part, parts);
    const gp_select *s = draw_of(mine);
    uint64_t begin =
        (uint64_t)(blockIdx.x - mine->first_block) * GP_SELECT_TILE;
    uint64_t end = begin + GP_SELECT_TILE < mine->count ? begin + GP_SELECT_TILE
                                                        : mine->count;
    bool good = true;

    for (uint64_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
        float x = 0;

        s->candidate_at[i] = 0xffffffffu;
        if (i % 32 == 0)
            s->index_out[i / 32] = 0;
        if (mine->source)
            x = mine->source[i];
        if (mine->residual)
            mine->residual[i] = x = __fadd_rn(mine->residual[i], x);
        good = good && gp_is_finite(x);
    }
    if (!good)
        s->state->candidates = 1;
}

extern "C" __global__ void
gp_cuda_draw_try(const gp_cuda_part *part, uint32_t parts)
{
    const gp_cuda_part *mine = gp_find_part(part, parts);
    const gp_select *s = draw_of(mine);
    uint64_t threads = draw_threads(mine), base = mine->count - s->draws;

    if (mine->count == 0)
        return;
    for (uint64_t i = draw_thread(mine); i < s->draws; i += threads) {
        uint4 words = gp_words4(&mine->random, mine->offset + 2 * i);
        uint64_t u = words.x | (uint64_t)words.y << 32;
        uint32_t t = (uint32_t)__umul64hi(u, base + i + 1);

        s->chosen_at[i] = t;
        atomicMin(&s->candidate_at[t], (uint32_t)i);
    }
}

static __device__ __forceinline__ void
draw_put(const gp_select *s, uint64_t i)
{
    atomicOr(&s->index_out[i / 32], 1u << i % 32);
}

extern "C" __global__ void
gp_cuda_draw_set(const gp_cuda_part *part, uint32_t parts)
{
    const gp_cuda_part *mine = gp_find_part(part, parts);
    const gp_select *s = draw_of(mine);
    uint64_t threads = draw_threads(mine), base = mine->count - s->draws;

    if (mine->count == 0)
        return;
    for (uint64_t i = draw_thread(mine); i < s->draws; i += threads) {
        uint64_t j = i;
        uint32_t t = s->chosen_at[i];

        draw_put(s, t);
        while (s->candidate_at[t] == j && t >= base && t - base < j) {
            j = t - base;
            t = s->chosen_at[j];
        }
        if (s->candidate_at[t] < j)
            draw_put(s, base + i);
    }
}

/* 32 elements of a tile that are sent. */
static __device__ __forceinline__ uint32_t
draw_word(const gp_select *s, uint64_t i, uint64_t end)
{
    uint32_t bits;

    if (i >= end)
        return 0;
    bits = s->index_out[i / 32] ^ (s->left_out ? 0xffffffffu : 0);
    return end - i < 32 ? bits & ((1u << (end - i)) - 1) : bits;
}

/* A warp for each tile. */
extern "C" __global__ void
gp_cuda_draw_count(const gp_cuda_part *part, uint32_t parts)
{
    const gp_cuda_part *mine = gp_find_part(part, parts);
    const gp_select *s = draw_of(mine);
    uint64_t tile = blockIdx.x - mine->first_block;
    uint64_t begin = tile * GP_SELECT_TILE;
    uint32_t sent = 0;

    for (uint32_t i = 32 * threadIdx.x; i < GP_SELECT_TILE; i += 32 * 32)
        sent += (uint32_t)__popc(draw_word(s, begin + i, mine->count));
    sent = __reduce_add_sync(GP_FULL_WARP, sent);
    if (threadIdx.x == 0 && mine->count) {
        s->tile[tile].above = sent;
        s->tile[tile].equal = 0;
    }
}

/* Numbers stay numbers. */
static __device__ __forceinline__ float
draw_scaled(float x, float scale)
{
    float y = __fmul_rn(x, scale);

    if ((__float_as_uint(y) & GP_FP32_MAGNITUDE) == GP_FP32_INFINITY &&
        gp_is_finite(x))
        y = __uint_as_float((__float_as_uint(x) & 0x80000000u) | 0x7f7fffffu);
    return y;
}

/* A warp for each tile; without elements, where they belong alone. */
extern "C" __global__ void
gp_cuda_draw_write(const gp_cuda_part *part, uint32_t parts)
{
    const gp_cuda_part *mine = gp_find_part(part, parts);
    const gp_select *s = draw_of(mine);
    const float *from = mine->residual ? mine->residual : mine->source;
    uint64_t tile = blockIdx.x - mine->first_block;
    uint64_t begin = tile * GP_SELECT_TILE;
    uint64_t at = mine->count ? s->tile[tile].start : 0;
    bool good = !s->state->candidates;

    for (uint32_t i = 32 * threadIdx.x; i < GP_SELECT_TILE; i += 32 * 32) {
        uint32_t bits = draw_word(s, begin + i, mine->count), all;
        uint64_t to = at + gp_warp_scan((uint32_t)__popc(bits), &all);

        at += all;
        for (; bits; bits &= bits - 1, to++) {
            uint64_t e = begin + i + (uint32_t)__ffs((int)bits) - 1;

            s->chosen_at[to] = (uint32_t)e;
            if (!from)
                continue;
            if (!good)
                s->chosen[to] = __uint_as_float(GP_FP32_NAN);
            else
                s->chosen[to] =
                    s->scale != 0 ? draw_scaled(from[e], s->scale) : from[e];
        }
    }
}

/* A block of the grid for each part: told to the array stage. */
extern "C" __global__ void
gp_cuda_draw_settle(const gp_cuda_part *part, uint32_t parts)
{
    const gp_select *s = draw_of(part + blockIdx.x);

    (void)parts;
    if (threadIdx.x != 0)
        return;
    s->values->count = s->state->chosen;
    s->sent->count = s->state->chosen;
    s->values->source = s->chosen;
}
