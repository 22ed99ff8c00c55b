/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blocks.cu - formats of few bits that share a scale per block (blocks.c).
 *
 * A thread has eight neighbours at a time. Where blocks divide 256 elements, a
 * warp has 256 with all their blocks, and reads each element once; otherwise it
 * has one block, and reads it a second time, from a cache, when it is longer
 * than 256. The loops are the ones of blocks_body.h, operation for operation.
 */
#include "compress/cuda/largest.cuh"
#include "compress/cuda/philox.cuh"

#define BLOCKS_WARPS 8u /* of a block of the grid */
#define ROUNDER      12582912.0f
#define ROUNDER_BITS 0x4b400000u
#define E8M0_NAN     0xffu
#define E4M3_NAN     0x7fu

#define BLOCKS_TILE         8192u /* where all of a part is scanned first */
#define BLOCKS_FP4_LARGEST  6.0f
#define BLOCKS_E4M3_LARGEST 448.0f
#define BLOCKS_HEADER_LEAST 0x1p-117f
#define BLOCKS_HEADER_MOST \
    (0x1.fffffp127f / (BLOCKS_FP4_LARGEST * BLOCKS_E4M3_LARGEST))

/* gp_round and gp_scale of blocks.h. */
enum { NEAREST = 0, STOCHASTIC = 1, STRATIFIED = 2, DITHER = 3 };
enum { SCALE_FP32 = 0, SCALE_BF16 = 1, SCALE_E8M0 = 2, SCALE_E4M3 = 3 };

/* gp_blocks, as launches carry it. */
struct blocks_format {
    uint32_t block, round, scale, mantissa, forbidden, tiny, largest;
    int least, top, unit;
    float levels;
    float header; /* SCALE_E4M3: what scales are multiples of */
    bool aside;   /* codes go to the part's space */
};

#define FORMAT_WORDS                                                       \
    uint32_t block, uint32_t add, uint32_t kinds, int least, float levels, \
        int top, int unit, uint32_t tiny, uint32_t largest
#define FORMAT                                                               \
    {                                                                        \
        block, kinds & 15u, kinds >> 4 & 15u, kinds >> 8 & 15u, kinds >> 16, \
            tiny, largest, least, top, unit, levels, 0, false                \
    }

static __device__ __forceinline__ uint32_t
blocks_scale_width(const blocks_format &f)
{
    return f.scale == SCALE_FP32 ? 4 : f.scale == SCALE_BF16 ? 2 : 1;
}

/* A header is in front of the scales. */
static __device__ __forceinline__ uint32_t
blocks_head(const blocks_format &f)
{
    return f.scale == SCALE_E4M3 ? 4 : 0;
}

/* Five codes of three values share a byte: their digits stand for 0, 1, -1. */
#define BLOCKS_DENSE 0

/* ---- scales ---- */

static __device__ __forceinline__ float
blocks_e4m3_value(uint32_t code)
{
    uint32_t e = code >> 3 > 1 ? (code >> 3) - 1 : 0;

    return __fmul_rn(__int2float_rn((int)(code - (e << 3))),
                     __uint_as_float((e + 118) << 23));
}

/* Nearest even, or up; t is in [0, 448]. */
static __device__ __forceinline__ uint32_t
blocks_e4m3_code(float t, bool up)
{
    uint32_t b = __float_as_uint(t), e = b >> 23 > 121 ? b >> 23 : 121, c, k;
    float sum;

    c = (e + 20) << 23;
    sum = __fadd_rn(t, __uint_as_float(c));
    k = __float_as_uint(sum) - c;
    k += up && __fsub_rn(sum, __uint_as_float(c)) < t;
    return ((e - 121) << 3) + k;
}

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

/* fine_scale() of blocks.c. */
static __device__ __forceinline__ blocks_scale
blocks_fine_scale(const blocks_format &f, uint32_t absmax)
{
    float t = 0, s;
    uint32_t code;

    if (f.header > 0)
        t = __fdiv_rn(__uint_as_float(absmax),
                      __fmul_rn(BLOCKS_FP4_LARGEST, f.header));
    t = t < BLOCKS_E4M3_LARGEST ? t : BLOCKS_E4M3_LARGEST;
    code = blocks_e4m3_code(t, f.round != NEAREST);
    s = __fmul_rn(blocks_e4m3_value(code), f.header);
    return {code, s, s > 0 ? __fdiv_rn(1.0f, s) : 0.0f};
}

static __device__ __forceinline__ blocks_scale
blocks_scale_of(const blocks_format &f, uint32_t absmax)
{
    float nan = __uint_as_float(GP_FP32_NAN);

    if (absmax >= GP_FP32_INFINITY)
        return {f.scale == SCALE_FP32   ? GP_FP32_NAN
                : f.scale == SCALE_BF16 ? GP_FP32_NAN >> 16
                : f.scale == SCALE_E4M3 ? E4M3_NAN
                                        : E8M0_NAN,
                nan, 0.0f};
    if (f.scale == SCALE_E4M3)
        return blocks_fine_scale(f, absmax);
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

/* The bits of a scale, as they are stored. */
static __device__ __forceinline__ uint32_t
blocks_stored(const blocks_format &f, const uint8_t *scales, uint64_t at)
{
    if (f.scale == SCALE_FP32)
        return ((const uint32_t *)scales)[at];
    return f.scale == SCALE_BF16 ? ((const uint16_t *)scales)[at] : scales[at];
}

/* The scale of a message that has these; false for one that no encoder writes.
 */
static __device__ __forceinline__ bool
blocks_get_scale(const blocks_format &f, uint32_t s, float *factor)
{
    if (f.scale == SCALE_E8M0) {
        int e = (int)s - f.unit - 127;

        *factor = s == 0          ? 0.0f
                  : s == E8M0_NAN ? __uint_as_float(GP_FP32_NAN)
                                  : __uint_as_float((s - f.unit) << 23);
        return s == 0 || s == E8M0_NAN || (e >= -126 && e + f.top <= 127);
    }
    if (f.scale == SCALE_E4M3) {
        *factor = s == E4M3_NAN ? __uint_as_float(GP_FP32_NAN)
                                : __fmul_rn(blocks_e4m3_value(s), f.header);
        return s <= E4M3_NAN;
    }
    s = f.scale == SCALE_FP32 ? s : s << 16;
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
            blocks_put_scale(f, part->bytes + blocks_head(f),
                             gp_over(i, f.block), s.stored);
        if (left)
            blocks_encode_eight<bits, integer>(part, f, s, i, left, codes, x);
        return;
    }
    s = blocks_scale_of(f, blocks_scan(part, run));
    if (lane == 0)
        blocks_put_scale(f, part->bytes + blocks_head(f), gp_over(i, f.block),
                         s.stored);
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
    uint8_t *codes =
        mine->bytes + blocks_head(f) + blocks * blocks_scale_width(f);

    if (f.aside)
        codes = (uint8_t *)mine->space;
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

/* Up to eight codes of two bits from digits; false for bytes, or digits behind
 * the last element, that no encoder writes. */
static __device__ __forceinline__ bool
blocks_digits(const uint8_t *codes, uint64_t count, uint64_t i, uint32_t left,
              uint64_t *packed)
{
    uint64_t at = gp_over(i, 5);
    uint32_t r = (uint32_t)(i - 5 * at), byte = codes[at], out = 0;
    bool good = byte <= 242;

    for (uint32_t skip = 0; skip < r; skip++)
        byte /= 3;
    GP_UNROLL(8)
    for (uint32_t j = 0; j < 8; j++) {
        uint32_t digit = byte % 3;

        if (j >= left)
            break;
        out |= (digit == 2 ? 3 : digit) << 2 * j;
        byte /= 3;
        if (++r == 5 && j + 1 < left) {
            byte = codes[++at];
            good = good && byte <= 242;
            r = 0;
        }
    }
    *packed = out;
    return good && (i + left < count || byte == 0);
}

/* What eight codes stand for, of which `left` are there; false for codes, or
 * bits behind the last one, that no encoder writes. */
template <int bits, bool integer>
static __device__ __forceinline__ bool
blocks_eight(const blocks_format &f, float factor, uint64_t packed,
             uint32_t left, const float u[8], float x[8])
{
    bool good = true;

    GP_UNROLL(8)
    for (int j = 0; j < 8; j++) {
        uint32_t code = blocks_code_at<bits>(packed, j);

        good &= (uint32_t)j < left ? blocks_code_valid<bits, integer>(f, code)
                                   : code == 0;
        x[j] = blocks_value<bits, integer>(f, code, factor, u[j]);
    }
    return good;
}

/* The same of integers that are all there, without dithers. Adding `half` to
 * each makes bytes of them, in words of every (8 / bits)th, and 0 of what no
 * encoder writes. */
template <int bits>
static __device__ __forceinline__ bool
blocks_integers(float factor, uint64_t packed, float x[8])
{
    constexpr uint32_t half = 1u << (bits - 1), words = bits < 8 ? 8 / bits : 2;
    constexpr uint32_t ones = 0xffffffffu / ((1u << bits) - 1);
    uint32_t biased = (uint32_t)packed ^ half * ones, word[words];
    bool good = true;

    GP_UNROLL(4)
    for (uint32_t w = 0; w < words; w++) {
        if (bits < 8)
            word[w] = biased >> bits * w & 0x01010101u * (2 * half - 1);
        else
            word[w] = (uint32_t)(packed >> 32 * w) ^ half * ones;
        good &= !gp_zero_byte(word[w]);
    }
    GP_UNROLL(8)
    for (uint32_t j = 0; j < 8; j++)
        x[j] =
            __fmul_rn(bits < 8 ? gp_byte_less(word[j % words], j / words, half)
                               : gp_byte_less(word[j / 4], j % 4, half),
                      factor);
    return good;
}

/* Eight elements of a message; false for what no encoder writes. */
template <int bits, bool integer>
static __device__ __forceinline__ bool
blocks_decode_eight(const blocks_format &f, const uint8_t *bytes,
                    const gp_cuda_stream *random, uint64_t count,
                    uint64_t offset, uint64_t i, float x[8])
{
    constexpr int width = bits == BLOCKS_DENSE ? 2 : bits;
    uint64_t blocks = gp_over(count + f.block - 1, f.block), packed;
    const uint8_t *scales = bytes + blocks_head(f);
    const uint8_t *codes = scales + blocks * blocks_scale_width(f);
    uint32_t left = gp_left8(i, count);
    float factor, u[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    bool good = blocks_get_scale(
        f, blocks_stored(f, scales, gp_over(i, f.block)), &factor);

    if (bits == BLOCKS_DENSE)
        good = blocks_digits(codes, count, i, left, &packed) && good;
    else
        packed = gp_load_bytes(codes + i / 8 * width, (left * width + 7) / 8);
    blocks_units(random, offset + i, f.round == DITHER, u);
    return blocks_eight<width, integer>(f, factor, packed, left, u, x) && good;
}

/* Where the scale of eight elements is in a message, in a word of four bytes
 * from its lowest bit on, and where their codes are. */
struct blocks_place {
    uint64_t scale, codes;
    uint32_t shift;
};

struct blocks_words {
    uint32_t scale;
    uint64_t codes;
};

template <int bits, bool integer> struct blocks_decoder {
    typedef blocks_place place;
    typedef blocks_words words;
    static constexpr uint32_t at_once = integer && bits < 8 ? 8 : 4;
    const blocks_format &f;

    __device__ __forceinline__ bool
    eight(const gp_cuda_part &part, const gp_cuda_message &message, uint64_t i,
          float x[8]) const
    {
        return blocks_decode_eight<bits, integer>(
            f, message.bytes, &message.random, part.count, part.offset, i, x);
    }

    /* Where codes are words, and the word of the scale ends before they do. */
    __device__ __forceinline__ bool
    find(const gp_cuda_part &part, uint64_t i, place *at) const
    {
        constexpr uint32_t unit = bits & 3 ? 2 : 4;
        uint64_t blocks = gp_over(part.count + f.block - 1, f.block);
        uint32_t width = blocks_scale_width(f);
        uint64_t scale = blocks_head(f) + gp_over(i, f.block) * width;

        at->scale = scale & ~(uint64_t)3;
        at->shift = 8 * (uint32_t)(scale & 3);
        at->codes = blocks_head(f) + blocks * width + i / 8 * bits;
        return f.round != DITHER && at->codes % unit == 0 &&
               at->scale + 4 <= at->codes + bits;
    }

    __device__ __forceinline__ words
    load(const uint8_t *bytes, const place &at) const
    {
        const uint8_t *codes = bytes + at.codes;
        words out = {*(const uint32_t *)(bytes + at.scale), 0};

        if (bits & 3) {
            GP_UNROLL(3)
            for (int j = 0; j < bits / 2; j++)
                out.codes |= (uint64_t)((const uint16_t *)codes)[j] << 16 * j;
        } else {
            GP_UNROLL(2)
            for (int j = 0; j < bits / 4; j++)
                out.codes |= (uint64_t)((const uint32_t *)codes)[j] << 32 * j;
        }
        return out;
    }

    __device__ __forceinline__ bool
    values(const words &from, const place &at, float x[8]) const
    {
        const float none[8] = {0, 0, 0, 0, 0, 0, 0, 0};
        uint32_t width = blocks_scale_width(f);
        blocks_format g = f;
        float factor;
        bool good;

        g.round = NEAREST; /* dithers are not found */
        good = blocks_get_scale(
            g, from.scale >> at.shift & 0xffffffffu >> (32 - 8 * width),
            &factor);
        if constexpr (integer)
            return blocks_integers<bits>(factor, from.codes, x) & good;
        return blocks_eight<bits, integer>(g, factor, from.codes, 8, none, x) &
               good;
    }
};

#define BLOCKS_KERNELS(name, bits, integer)                     \
    extern "C" __global__ void gp_cuda_##name##_encode(         \
        const gp_cuda_part *part, uint32_t parts, FORMAT_WORDS) \
    {                                                           \
        const blocks_format f = FORMAT;                         \
                                                                \
        (void)add;                                              \
        blocks_encode<bits, integer>(part, parts, f);           \
    }                                                           \
    BLOCKS_DECODERS(name, bits, integer)

#define BLOCKS_DECODERS(name, bits, integer)                                 \
    extern "C" __global__ void gp_cuda_##name##_decode(                      \
        const gp_cuda_part *part, uint32_t parts, FORMAT_WORDS)              \
    {                                                                        \
        const blocks_format f = FORMAT;                                      \
                                                                             \
        gp_decode_all(part, parts, add, blocks_decoder<bits, integer>{f});   \
    }                                                                        \
    extern "C" __global__ void __launch_bounds__(256, 4)                     \
        gp_cuda_##name##_fold(const gp_cuda_part *part, uint32_t parts,      \
                              FORMAT_WORDS)                                  \
    {                                                                        \
        const blocks_format f = FORMAT;                                      \
                                                                             \
        gp_fold_all<bits != BLOCKS_DENSE>(part, parts, add,                  \
                                          blocks_decoder<bits, integer>{f}); \
    }

BLOCKS_KERNELS(int8, 8, true)
BLOCKS_KERNELS(int4, 4, true)
BLOCKS_KERNELS(int2, 2, true)
BLOCKS_KERNELS(fp8, 8, false)
BLOCKS_KERNELS(fp6, 6, false)
BLOCKS_KERNELS(fp4, 4, false)

/* ---- five codes in a byte ---- */

/* Scales, and codes of two bits in the space. */
extern "C" __global__ void
gp_cuda_dense_codes(const gp_cuda_part *part, uint32_t parts, FORMAT_WORDS)
{
    blocks_format f = FORMAT;

    (void)add;
    f.aside = true;
    blocks_encode<2, true>(part, parts, f);
}

static __device__ __forceinline__ uint32_t
blocks_digit(const uint8_t *codes, uint64_t i, uint64_t count)
{
    uint32_t code = i < count ? codes[i >> 2] >> 2 * (i & 3u) & 3u : 0;

    return code - (code >> 1);
}

/* The bytes whose first element is in this block's part of the grid. */
extern "C" __global__ void
gp_cuda_dense_pack(const gp_cuda_part *part, uint32_t parts, FORMAT_WORDS)
{
    const blocks_format f = FORMAT;
    const gp_cuda_part *mine = gp_find_part(part, parts);
    uint64_t count = mine->count, blocks = gp_over(count + block - 1, block);
    uint32_t size = 256 % block == 0 ? 256 : block;
    uint64_t tile =
        (uint64_t)size * BLOCKS_WARPS * (size < 1024 ? 1024 / size : 1);
    uint64_t begin = (uint64_t)(blockIdx.x - mine->first_block) * tile;
    uint64_t end = begin + tile < count ? begin + tile : count;
    const uint8_t *codes = (const uint8_t *)mine->space;
    uint8_t *to = mine->bytes + blocks * blocks_scale_width(f);

    (void)add;
    for (uint64_t k = gp_over(begin + 4, 5) + threadIdx.x; 5 * k < end;
         k += blockDim.x) {
        uint32_t byte = 0;

        GP_UNROLL(5)
        for (int j = 4; j >= 0; j--)
            byte = 3 * byte + blocks_digit(codes, 5 * k + j, count);
        to[k] = (uint8_t)byte;
    }
}

BLOCKS_DECODERS(dense, BLOCKS_DENSE, true)

/* ---- scales of a scale ---- */

extern "C" __global__ void
gp_cuda_fine_scan(const gp_cuda_part *part, uint32_t parts)
{
    gp_scan_largest(part, parts, BLOCKS_TILE);
}

/* header_of() of blocks.c. */
extern "C" __global__ void
gp_cuda_fine_settle(const gp_cuda_part *part, uint32_t parts)
{
    const gp_cuda_part *mine = part + blockIdx.x;
    uint32_t most = gp_part_largest(mine, BLOCKS_TILE);
    float g = __fdiv_rn(__uint_as_float(most),
                        BLOCKS_FP4_LARGEST * BLOCKS_E4M3_LARGEST);

    (void)parts;
    if (threadIdx.x != 0 || !mine->count)
        return;
    g = g < BLOCKS_HEADER_LEAST  ? 0.0f
        : g < BLOCKS_HEADER_MOST ? g
                                 : BLOCKS_HEADER_MOST;
    *(float *)mine->space = g;
    *(float *)mine->bytes = g;
}

extern "C" __global__ void
gp_cuda_fine_encode(const gp_cuda_part *part, uint32_t parts, FORMAT_WORDS)
{
    blocks_format f = FORMAT;

    (void)add;
    f.header = *(const float *)gp_find_part(part, parts)->space;
    blocks_encode<4, false>(part, parts, f);
}

struct fine_decoder {
    const blocks_format &f;

    __device__ __forceinline__ bool
    eight(const gp_cuda_part &part, const gp_cuda_message &message, uint64_t i,
          float x[8]) const
    {
        blocks_format g = f;

        g.header = *(const float *)message.bytes;
        return blocks_decode_eight<4, false>(g, message.bytes, &message.random,
                                             part.count, part.offset, i, x) &&
               (__float_as_uint(g.header) == 0 ||
                (g.header >= BLOCKS_HEADER_LEAST &&
                 g.header <= BLOCKS_HEADER_MOST));
    }
};

extern "C" __global__ void
gp_cuda_fine_decode(const gp_cuda_part *part, uint32_t parts, FORMAT_WORDS)
{
    const blocks_format f = FORMAT;

    gp_decode_all(part, parts, add, fine_decoder{f});
}

extern "C" __global__ void
gp_cuda_fine_fold(const gp_cuda_part *part, uint32_t parts, FORMAT_WORDS)
{
    const blocks_format f = FORMAT;

    gp_fold_all<false>(part, parts, add, fine_decoder{f});
}
