/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uq.cuh - what encoding and decoding of uq share: tables, the space of a part,
 * numbers of codes.
 */
#ifndef GP_CUDA_UQ_CUH
#define GP_CUDA_UQ_CUH

#include "compress/cuda/philox.cuh"
#include "compress/cuda/scan.cuh"
#include "compress/uq_both.h"

/* Of coder_codecs.c: the state, and each section. */
#define UQ_STATE   8192u
#define UQ_SECTION 32u

struct uq_state {
    uint32_t mode, lanes;
    float step, inverse;
    uint64_t escaped; /* bytes of the message */
    uint64_t words;   /* of 16 bits */
    uint32_t some;    /* not all is 0 */
    uint16_t cost[GP_UQ_NUMBERS];
};

struct uq_section {
    double squares;
    uint64_t at; /* bytes of escapes before these; decoding: escapes */
    uint32_t most, shape;
    uint32_t escapes; /* in bytes; decoding: how many */
};

static_assert(sizeof(uq_state) <= UQ_STATE, "the host makes room for it");
static_assert(sizeof(uq_section) <= UQ_SECTION, "likewise");

/* ---- where things are ---- */

static __device__ __forceinline__ uq_state *
uq_state_of(const gp_cuda_part *part)
{
    return (uq_state *)part->space;
}

static __device__ __forceinline__ uint64_t
uq_sections(const gp_cuda_part *part)
{
    return gp_uq_sections(part->count);
}

static __device__ __forceinline__ uq_section *
uq_section_of(const gp_cuda_part *part, uint64_t s)
{
    return (uq_section *)((uint8_t *)part->space + UQ_STATE + UQ_SECTION * s);
}

static __device__ __forceinline__ int8_t *
uq_codes(const gp_cuda_part *part)
{
    return (int8_t *)part->space + UQ_STATE +
           UQ_SECTION * (part->count / GP_UQ_SECTION + 1);
}

/* Words, or escaped codes, behind the codes. */
static __device__ __forceinline__ void *
uq_rest(const gp_cuda_part *part)
{
    return uq_codes(part) + (part->count + 15) / 16 * 16;
}

static __device__ __forceinline__ const float *
uq_from(const gp_cuda_part *part)
{
    return part->residual ? part->residual : part->source;
}

/* Whether a block of the grid has a section: behind a selection there may be
 * fewer. */
static __device__ __forceinline__ bool
uq_is_there(const gp_cuda_part *part, uint64_t section)
{
    return section * GP_UQ_SECTION < part->count;
}

static __device__ __forceinline__ uint32_t
uq_size(const gp_cuda_part *part, uint64_t section)
{
    uint64_t left = part->count - section * GP_UQ_SECTION;

    return left < GP_UQ_SECTION ? (uint32_t)left : GP_UQ_SECTION;
}

/* ---- numbers and codes ---- */

struct uq_grid {
    gp_uq_round round;
    uint32_t shift;
    float step, inverse;
    gp_cuda_stream random;
    uint64_t offset;
};

static __device__ __forceinline__ uq_grid
uq_grid_of(const gp_cuda_part *part, uint32_t round)
{
    const uq_state *state = uq_state_of(part);

    return {(gp_uq_round)round, part->random.shift, state->step,
            state->inverse,     part->random,       part->offset};
}

/* Of four elements, the first of them at i. */
static __device__ __forceinline__ void
uq_offsets(const uq_grid &g, uint64_t i, float out[4])
{
    uint4 w = gp_words4(&g.random, g.offset + i);

    out[0] = gp_uq_offset_of(g.round, g.shift, w.x);
    out[1] = gp_uq_offset_of(g.round, g.shift, w.y);
    out[2] = gp_uq_offset_of(g.round, g.shift, w.z);
    out[3] = gp_uq_offset_of(g.round, g.shift, w.w);
}

static __device__ __forceinline__ int
uq_code(const uq_grid &g, float x, float offset)
{
    return gp_uq_code_of(g.round, g.inverse, x, offset);
}

static __device__ __forceinline__ float
uq_value(const uq_grid &g, int code, float offset)
{
    return gp_uq_value_of(g.round, g.step, code, offset);
}

static __device__ __forceinline__ float
uq_offset(const uq_grid &g, uint64_t i)
{
    float out[4];

    if (g.round == GP_UQ_NEAREST)
        return 0;
    uq_offsets(g, i, out);
    return out[0];
}

/* What is before symbol m of a shape, for 0 <= m <= largest + 1, is before[m];
 * by a warp. */
static __device__ __forceinline__ void
uq_sum_up(uint32_t shape, uint32_t before[129])
{
    const uint16_t *f = gp_uq_frequencies + gp_uq_begins[shape - 1];
    uint32_t has = gp_uq_largest(shape) + 1, sum = 0, lane = threadIdx.x % 32u;

    for (uint32_t m = 0; m <= has; m += 32) {
        uint32_t total, own = m + lane <= has ? f[m + lane] : 0;
        uint32_t at = sum + gp_warp_scan(own, &total);

        if (m + lane <= has)
            before[m + lane] = at;
        sum += total;
    }
    __syncwarp();
}

#endif
