/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blocks.cu - formats of few bits that share a scale per block (blocks.c).
 *
 * A thread has eight neighbours at a time. Where blocks divide 256 elements, a
 * warp has 256 with all their blocks, and reads each element once; otherwise it
 * has one block, and reads it a second time, from a cache, when it is longer
 * than 256. The loops are the ones of blocks_body.h, operation for operation.
 */
#include "compress/cuda/eight.cuh"
#include "compress/cuda/philox.cuh"

#define BLOCKS_WARPS 8u /* of a block of the grid */
#define ROUNDER      12582912.0f
#define ROUNDER_BITS 0x4b400000u
#define E8M0_NAN     0xffu

/* gp_round and gp_scale of blocks.h. */
enum { NEAREST = 0, STOCHASTIC = 1, STRATIFIED = 2, DITHER = 3 };
enum { SCALE_FP32 = 0, SCALE_BF16 = 1, SCALE_E8M0 = 2 };

/* gp_blocks, as launches carry it. */
struct blocks_format {
    uint32_t block, round, scale, mantissa, forbidden, tiny, largest;
    int least, top, unit;
    float levels;
};

#define FORMAT_WORDS                                                       \
    uint32_t block, uint32_t add, uint32_t kinds, int least, float levels, \
        int top, int unit, uint32_t tiny, uint32_t largest
#define FORMAT                                                               \
    {                                                                        \
        block, kinds & 15u, kinds >> 4 & 15u, kinds >> 8 & 15u, kinds >> 16, \
            tiny, largest, least, top, unit, levels                          \
    }

static __device__ __forceinline__ uint32_t
blocks_scale_width(const blocks_format &f)
{
    return f.scale == SCALE_FP32 ? 4 : f.scale == SCALE_BF16 ? 2 : 1;
}

/* ---- scales ---- */

/* The scale of a block, as bits to store, as a factor, and its inverse. */
struct blocks_scale {
    uint32_t stored;
    float factor, inverse;
};

static __device__ __forceinline__ blocks_scale
blocks_power(const blocks_format &f, uint32_t absmax)
{
    int e = (int)(absmax >> 23) - 127 - f.top;
    float power = __uint_as_float((uint32_t)(e + 127) << 23);

    if (f.round != NEAREST && e + f.top < 127 &&
        __uint_as_float(absmax) > __fmul_rn(f.levels, power)) {
        e++;
        power = __uint_as_float((uint32_t)(e + 127) << 23);
    }
    return {(uint32_t)(e + f.unit + 127), power,
            __uint_as_float((uint32_t)(127 - e) << 23)};
}

static __device__ __forceinline__ blocks_scale
blocks_float_scale(const blocks_format &f, uint32_t absmax)
{
    float most = __uint_as_float(absmax), inverse;
    uint32_t s = __float_as_uint(__fdiv_rn(most, f.levels));

    if (f.scale == SCALE_BF16)
        s = (s + 0xffffu) & 0xffff0000u;
    if (s <= f.largest && f.scale == SCALE_FP32) {
        inverse = __fdiv_rn(f.levels, most);
    } else {
        s = s > f.largest ? f.largest : s;
        inverse = __fdiv_rn(1.0f, __uint_as_float(s));
    }
    return {f.scale == SCALE_FP32 ? s : s >> 16, __uint_as_float(s), inverse};
}

static __device__ __forceinline__ blocks_scale
blocks_scale_of(const blocks_format &f, uint32_t absmax)
{
    float nan = __uint_as_float(GP_FP32_NAN);

    if (absmax >= GP_FP32_INFINITY)
        return {f.scale == SCALE_FP32   ? GP_FP32_NAN
                : f.scale == SCALE_BF16 ? GP_FP32_NAN >> 16
                                        : E8M0_NAN,
                nan, 0.0f};
    if (absmax < f.tiny)
        return {0, 0.0f, 0.0f};
    return f.scale == SCALE_E8M0 ? blocks_power(f, absmax)
                                 : blocks_float_scale(f, absmax);
}

static __device__ __forceinline__ void
blocks_put_scale(const blocks_format &f, uint8_t *scales, uint64_t at,
                 uint32_t stored)
{
    if (f.scale == SCALE_FP32)
        ((uint32_t *)scales)[at] = stored;
    else if (f.scale == SCALE_BF16)
        ((uint16_t *)scales)[at] = (uint16_t)stored;
    else
        scales[at] = (uint8_t)stored;
}

/* A scale of a message; false for one that no encoder writes. */
static __device__ __forceinline__ bool
blocks_get_scale(const blocks_format &f, const uint8_t *scales, uint64_t at,
                 float *factor)
{
    uint32_t s;

    if (f.scale == SCALE_E8M0) {
        int e;

        s = scales[at];
        e = (int)s - f.unit - 127;
        *factor = s == 0          ? 0.0f
                  : s == E8M0_NAN ? __uint_as_float(GP_FP32_NAN)
                                  : __uint_as_float((s - f.unit) << 23);
        return s == 0 || s == E8M0_NAN || (e >= -126 && e + f.top <= 127);
    }
    s = f.scale == SCALE_FP32 ? ((const uint32_t *)scales)[at]
                              : (uint32_t)((const uint16_t *)scales)[at] << 16;
    *factor = __uint_as_float(s);
    return s == 0 || s == GP_FP32_NAN || (s >= 0x00800000u && s <= f.largest);
}

/* ---- codes ---- */

/* floor(y) + [u < y - floor(y)] */
static __device__ __forceinline__ uint32_t
blocks_stochastic(float y, float u)
{
    float sum = __fadd_rn(y, ROUNDER), f = __fsub_rn(sum, ROUNDER);
    int k = (int)(__float_as_uint(sum) - ROUNDER_BITS), above = f > y;

    f = __fsub_rn(f, __int2float_rn(above));
    return (uint32_t)(k - above + (u < __fsub_rn(y, f)));
}

static __device__ __forceinline__ uint32_t
blocks_float_code(float y, float u, bool nearest, uint32_t mantissa,
                  uint32_t least)
{
    uint32_t b = gp_magnitude(y), e = b >> 23, k;
    float a = __uint_as_float(b);

    e = e > least ? e : least;
    if (nearest) {
        uint32_t c = (e + 23 - mantissa) << 23;

        k = __float_as_uint(__fadd_rn(a, __uint_as_float(c))) - c;
    } else {
        float step = __uint_as_float((254 + mantissa - e) << 23);

        k = blocks_stochastic(__fmul_rn(a, step), u);
    }
    return ((e - least) << mantissa) + k;
}

template <int bits, bool integer>
static __device__ __forceinline__ uint32_t
blocks_code(const blocks_format &f, float x, float inverse, float u)
{
    float y = __fmul_rn(x, inverse);
    uint32_t code;

    y = y > f.levels ? f.levels : y;
    y = y < -f.levels ? -f.levels : y;
    if (!integer) {
        code = blocks_float_code(y, u, f.round == NEAREST, f.mantissa,
                                 (uint32_t)(f.least + 127));
        return code | (__float_as_uint(y) >> 31) << (bits - 1);
    }
    if (f.round == NEAREST)
        code = __float_as_uint(__fadd_rn(y, ROUNDER)) - ROUNDER_BITS;
    else if (f.round == DITHER)
        code = __float_as_uint(
                   __fadd_rn(__fadd_rn(y, __fsub_rn(u, 0.5f)), ROUNDER)) -
               ROUNDER_BITS;
    else
        code = blocks_stochastic(y, u);
    return code & ((1u << bits) - 1);
}

template <int bits, bool integer>
static __device__ __forceinline__ float
blocks_value(const blocks_format &f, uint32_t code, float factor, float u)
{
    const uint32_t half = 1u << (bits - 1);
    uint32_t m = code & (half - 1), e, k;
    float v;

    if (integer) {
        v = __int2float_rn((int)(code ^ half) - (int)half);
        if (f.round == DITHER)
            v = __fsub_rn(v, __fsub_rn(u, 0.5f));
        return __fmul_rn(v, factor);
    }
    e = m >> f.mantissa;
    e = e > 1 ? e - 1 : 0;
    k = m - (e << f.mantissa);
    v = __fmul_rn(
        __int2float_rn((int)k),
        __uint_as_float((e + (uint32_t)(f.least + 127) - f.mantissa) << 23));
    return __fmul_rn(
        __uint_as_float(__float_as_uint(v) | (code & half) << (32 - bits)),
        factor);
}

template <int bits, bool integer>
static __device__ __forceinline__ bool
blocks_code_valid(const blocks_format &f, uint32_t code)
{
    if (integer)
        return code != 1u << (bits - 1);
    return bits != 8 || (code & 0x7fu) < f.forbidden;
}

template <int bits>
static __device__ __forceinline__ uint32_t
blocks_code_at(uint64_t packed, int j)
{
    return (uint32_t)(packed >> bits * j) & ((1u << bits) - 1);
}

/* Numbers in [0, 1) of eight elements, where the format takes some. */
static __device__ __forceinline__ void
blocks_units(const gp_cuda_stream *random, uint64_t e, bool wanted, float u[8])
{
    uint32_t w[8];

    if (!wanted)
        return;
    gp_words8(random, e, w);
    GP_UNROLL(8)
    for (int j = 0; j < 8; j++)
        u[j] = gp_unit(w[j], random->shift);
}

/* ---- encode ---- */

/* What a warp encodes: elements [begin, end), which begin a block. */
struct blocks_run {
    uint64_t begin, end;
    uint32_t lanes; /* that share a block */
};

template <int bits, bool integer>
static __device__ __forceinline__ void
blocks_encode_eight(const gp_cuda_part *part, const blocks_format &f,
                    const blocks_scale &s, uint64_t i, uint32_t left,
                    uint8_t *codes, const float x[8])
{
    bool bad = !gp_is_finite(s.factor);
    uint64_t packed = 0;
    float u[8] = {0, 0, 0, 0, 0, 0, 0, 0}, rest[8];

    blocks_units(&part->random, part->offset + i, f.round != NEAREST, u);
    GP_UNROLL(8)
    for (int j = 0; j < 8; j++) {
        uint32_t code = blocks_code<bits, integer>(f, x[j], s.inverse, u[j]);

        code = bad || (uint32_t)j >= left ? 0 : code;
        packed |= (uint64_t)code << bits * j;
        rest[j] = gp_remainder_of(
            x[j], blocks_value<bits, integer>(f, code, s.factor, u[j]));
    }
    gp_store_bytes(codes + i / 8 * bits, (left * bits + 7) / 8, packed);
    if (part->residual)
        gp_store8(part->residual + i, left, rest);
}

/* Leaves what is to be encoded of a long block in the residual, if any. */
static __device__ __forceinline__ uint32_t
blocks_scan(const gp_cuda_part *part, const blocks_run &run)
{
    uint32_t most = 0, mine;

    for (uint64_t i = run.begin + 8u * (threadIdx.x % 32u); i < run.end;
         i += 256) {
        uint32_t left = gp_left8(i, run.end);
        float x[8];

        gp_gather8(part->source, part->residual, i, left, x);
        if (part->residual)
            gp_store8(part->residual + i, left, x);
        mine = gp_most8(x);
        most = mine > most ? mine : most;
    }
    return gp_warp_max(most);
}

template <int bits, bool integer>
static __device__ __forceinline__ void
blocks_encode_run(const gp_cuda_part *part, const blocks_format &f,
                  const blocks_run &run, uint8_t *codes)
{
    uint32_t lane = threadIdx.x % 32u;
    uint64_t i = run.begin + 8u * lane;
    uint32_t left = gp_left8(i, run.end);
    blocks_scale s;
    float x[8];

    if (run.end - run.begin <= 256) {
        gp_gather8(part->source, part->residual, i, left, x);
        s = blocks_scale_of(f, gp_group_max(gp_most8(x), run.lanes));
        if (left && lane % run.lanes == 0)
            blocks_put_scale(f, part->bytes, gp_over(i, f.block), s.stored);
        if (left)
            blocks_encode_eight<bits, integer>(part, f, s, i, left, codes, x);
        return;
    }
    s = blocks_scale_of(f, blocks_scan(part, run));
    if (lane == 0)
        blocks_put_scale(f, part->bytes, gp_over(i, f.block), s.stored);
    for (; i < run.end; i += 256) {
        left = gp_left8(i, run.end);
        gp_load8((part->residual ? part->residual : part->source) + i, left, x);
        blocks_encode_eight<bits, integer>(part, f, s, i, left, codes, x);
    }
}

template <int bits, bool integer>
static __device__ __forceinline__ void
blocks_encode(const gp_cuda_part *part, uint32_t parts, const blocks_format &f)
{
    const gp_cuda_part *mine = gp_find_part(part, parts);
    bool many = 256 % f.block == 0;
    uint32_t size = many ? 256 : f.block, each = size < 1024 ? 1024 / size : 1;
    uint64_t first = (uint64_t)(blockIdx.x - mine->first_block) * each;
    uint64_t count = mine->count,
             blocks = gp_over(count + f.block - 1, f.block);
    uint8_t *codes = mine->bytes + blocks * blocks_scale_width(f);

    for (uint32_t n = 0; n < each; n++) {
        blocks_run run;

        run.begin = ((first + n) * BLOCKS_WARPS + threadIdx.x / 32u) * size;
        run.end = run.begin + size < count ? run.begin + size : count;
        run.lanes = many ? f.block / 8 : 32;
        if (run.begin >= count)
            return;
        blocks_encode_run<bits, integer>(mine, f, run, codes);
    }
}

/* ---- decode ---- */

/* Eight elements of a message; false for codes, scales or bits behind the last
 * code that no encoder writes. */
template <int bits, bool integer>
static __device__ __forceinline__ bool
blocks_decode_eight(const blocks_format &f, const uint8_t *bytes,
                    const gp_cuda_stream *random, uint64_t count,
                    uint64_t offset, uint64_t i, float x[8])
{
    uint64_t blocks = gp_over(count + f.block - 1, f.block);
    const uint8_t *codes = bytes + blocks * blocks_scale_width(f);
    uint32_t left = gp_left8(i, count);
    uint64_t packed =
        gp_load_bytes(codes + i / 8 * bits, (left * bits + 7) / 8);
    float factor, u[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    bool good = blocks_get_scale(f, bytes, gp_over(i, f.block), &factor);

    blocks_units(random, offset + i, f.round == DITHER, u);
    GP_UNROLL(8)
    for (int j = 0; j < 8; j++) {
        uint32_t code = blocks_code_at<bits>(packed, j);

        good = good &&
               ((uint32_t)j < left ? blocks_code_valid<bits, integer>(f, code)
                                   : code == 0);
        x[j] = blocks_value<bits, integer>(f, code, factor, u[j]);
    }
    return good;
}

template <int bits, bool integer> struct blocks_decoder {
    const blocks_format &f;

    __device__ __forceinline__ bool
    eight(const gp_cuda_part &part, const gp_cuda_message &message, uint64_t i,
          float x[8]) const
    {
        return blocks_decode_eight<bits, integer>(
            f, message.bytes, &message.random, part.count, part.offset, i, x);
    }
};

#define BLOCKS_KERNELS(name, bits, integer)                                \
    extern "C" __global__ void gp_cuda_##name##_encode(                    \
        const gp_cuda_part *part, uint32_t parts, FORMAT_WORDS)            \
    {                                                                      \
        const blocks_format f = FORMAT;                                    \
                                                                           \
        (void)add;                                                         \
        blocks_encode<bits, integer>(part, parts, f);                      \
    }                                                                      \
    extern "C" __global__ void gp_cuda_##name##_decode(                    \
        const gp_cuda_part *part, uint32_t parts, FORMAT_WORDS)            \
    {                                                                      \
        const blocks_format f = FORMAT;                                    \
                                                                           \
        gp_decode_all(part, parts, add, blocks_decoder<bits, integer>{f}); \
    }                                                                      \
    extern "C" __global__ void gp_cuda_##name##_fold(                      \
        const gp_cuda_part *part, uint32_t parts, FORMAT_WORDS)            \
    {                                                                      \
        const blocks_format f = FORMAT;                                    \
                                                                           \
        gp_fold_all(part, parts, add, blocks_decoder<bits, integer>{f});   \
    }

BLOCKS_KERNELS(int8, 8, true)
BLOCKS_KERNELS(int4, 4, true)
BLOCKS_KERNELS(int2, 2, true)
BLOCKS_KERNELS(fp8, 8, false)
BLOCKS_KERNELS(fp4, 4, false)
