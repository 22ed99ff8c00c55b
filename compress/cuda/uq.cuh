/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uq.cuh - what encoding and decoding of uq share: tables, the space of a part,
 * numbers of codes.
 */
#ifndef GP_CUDA_UQ_CUH
#define GP_CUDA_UQ_CUH

#include "compress/cuda/philox.cuh"
#include "compress/cuda/scan.cuh"

/* The same numbers as the host's, in the device's memory. */
#define GP_UQ_TABLE       static __device__ const
#define gp_uq_begins      uq_begins
#define gp_uq_frequencies uq_frequencies
#include "compress/uq_tables.c"
#undef gp_uq_begins
#undef gp_uq_frequencies

#define UQ_TILE        4096u
#define UQ_HEAD        9u
#define UQ_SLACK       64u
#define UQ_FIRST       0x8000u
#define UQ_TOTAL       4096u
#define UQ_BIG         (-128)
#define UQ_ESCAPE_MOST ((1 << 20) + 1)
/* Of coder_codecs.c: the state, and each section. */
#define UQ_STATE   8192u
#define UQ_SECTION 32u

/* gp_uq_round of uq.h. */
enum { UQ_NEAREST, UQ_STOCHASTIC, UQ_DITHER, UQ_STRATIFIED };
enum { UQ_ZEROS, UQ_CODED, UQ_RAW, UQ_NAN };

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
    return (part->count + UQ_TILE - 1) / UQ_TILE;
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
           UQ_SECTION * (part->count / UQ_TILE + 1);
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

static __device__ __forceinline__ uint32_t
uq_size(const gp_cuda_part *part, uint64_t section)
{
    uint64_t left = part->count - section * UQ_TILE;

    return left < UQ_TILE ? (uint32_t)left : UQ_TILE;
}

static __device__ __forceinline__ uint32_t
uq_largest(uint32_t shape)
{
    return uq_begins[shape] - uq_begins[shape - 1] - 2u;
}

/* ---- numbers and codes, as uq_round.c has them ---- */

struct uq_grid {
    uint32_t round, shift;
    float step, inverse;
    gp_cuda_stream random;
    uint64_t offset;
};

static __device__ __forceinline__ uq_grid
uq_grid_of(const gp_cuda_part *part, uint32_t round)
{
    const uq_state *state = uq_state_of(part);

    return {round,          part->random.shift, state->step,
            state->inverse, part->random,       part->offset};
}

/* Of four elements, the first of them at i. */
static __device__ __forceinline__ void
uq_offsets(const uq_grid &g, uint64_t i, float out[4])
{
    uint4 w = gp_words4(&g.random, g.offset + i);
    float half = g.round == UQ_DITHER ? 0.5f : 0.0f;

    out[0] = __fsub_rn(gp_unit(w.x, g.shift), half);
    out[1] = __fsub_rn(gp_unit(w.y, g.shift), half);
    out[2] = __fsub_rn(gp_unit(w.z, g.shift), half);
    out[3] = __fsub_rn(gp_unit(w.w, g.shift), half);
}

static __device__ __forceinline__ int
uq_code(const uq_grid &g, float x, float offset)
{
    float v = __fmul_rn(x, g.inverse);

    if (g.round == UQ_NEAREST)
        return __float2int_rn(v);
    v = __fadd_rn(v, offset);
    return g.round == UQ_DITHER ? __float2int_rn(v) : (int)floorf(v);
}

static __device__ __forceinline__ float
uq_value(const uq_grid &g, int code, float offset)
{
    float q = __int2float_rn(code);

    return __fmul_rn(g.round == UQ_DITHER ? __fsub_rn(q, offset) : q, g.step);
}

static __device__ __forceinline__ float
uq_offset(const uq_grid &g, uint64_t i)
{
    float out[4];

    if (g.round == UQ_NEAREST)
        return 0;
    uq_offsets(g, i, out);
    return out[0];
}

/* What is before symbol m of a shape, for 0 <= m <= largest + 1, is before[m];
 * by a warp. */
static __device__ __forceinline__ void
uq_sum_up(uint32_t shape, uint32_t before[129])
{
    const uint16_t *f = uq_frequencies + uq_begins[shape - 1];
    uint32_t has = uq_largest(shape) + 1, sum = 0, lane = threadIdx.x % 32u;

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
