/* SPDX-License-Identifier: Apache-2.0 */
/*
 * q8.cu - 8-bit integers with a scale per block (q8.c).
 *
 * A warp handles one block of the format at a time. A block of 256 stays in the
 * registers of its warp, eight elements a lane, between the search for its
 * largest magnitude and its encoding; longer ones are read twice, the second
 * time from a cache.
 */
#include "compress/cuda/common.cuh"

#define Q8_WARPS    8u /* of a block of the grid */
#define Q8_PER_WARP 4u /* blocks of the format for each */
#define FOLD_TILE   4096u
#define Q8_TINY     0x04000000u
#define Q8_LARGEST  0x7c010203u

/* gp_q8_scale() of kernels.h. */
static __device__ __forceinline__ float
q8_scale(uint32_t absmax, float *inverse)
{
    uint32_t s;

    *inverse = 0.0f;
    if (absmax >= GP_FP32_INFINITY)
        return __uint_as_float(GP_FP32_NAN);
    if (absmax < Q8_TINY)
        return 0.0f;
    *inverse = __fdiv_rn(127.0f, __uint_as_float(absmax));
    s = __float_as_uint(__fdiv_rn(__uint_as_float(absmax), 127.0f));
    return __uint_as_float(s < Q8_LARGEST ? s : Q8_LARGEST);
}

static __device__ __forceinline__ bool
q8_scale_valid(uint32_t s)
{
    return ((s == 0u) | (s == GP_FP32_NAN) |
            (s - 0x00800000u <= Q8_LARGEST - 0x00800000u)) != 0;
}

static __device__ __forceinline__ uint32_t
q8_magnitude(float x)
{
    return __float_as_uint(x) & GP_FP32_MAGNITUDE;
}

/* A code; `inverse` is 0 for blocks whose codes are all 0. */
static __device__ __forceinline__ int
q8_code(float x, float inverse, bool nan)
{
    return nan ? 0 : __float2int_rn(__fmul_rn(x, inverse));
}

static __device__ __forceinline__ float
q8_left(float u, float scale, int code, bool nan)
{
    return nan ? 0.0f : __fsub_rn(u, __fmul_rn(scale, __int2float_rn(code)));
}

struct q8_run {
    const float *source;
    float *residual;
    uint8_t *scale;
    int8_t *codes;
    uint32_t count;
};

/* A lane's eight of 256 elements whose memory is aligned. */
static __device__ __forceinline__ void
q8_load_256(const float *at, float x[8])
{
    uint32_t lane = threadIdx.x % 32u;
    float4 low = ((const float4 *)at)[lane];
    float4 high = ((const float4 *)at)[32 + lane];

    x[0] = low.x;
    x[1] = low.y;
    x[2] = low.z;
    x[3] = low.w;
    x[4] = high.x;
    x[5] = high.y;
    x[6] = high.z;
    x[7] = high.w;
}

/* These, and what is left of them in their place. */
template <bool feeds>
static __device__ __forceinline__ void
q8_encode_256(const q8_run &run, float x[8])
{
    uint32_t lane = threadIdx.x % 32u, most = 0;
    float inverse, scale;
    bool nan;

    GP_UNROLL(8)
    for (int i = 0; i < 8; i++)
        most = most > q8_magnitude(x[i]) ? most : q8_magnitude(x[i]);
    scale = q8_scale(gp_warp_max(most), &inverse);
    nan = !gp_is_finite(scale);
    if (lane == 0)
        *(uint32_t *)run.scale = __float_as_uint(scale);
    GP_UNROLL(2)
    for (int h = 0; h < 2; h++) {
        uint32_t packed = 0;

        GP_UNROLL(4)
        for (int i = 4 * h; i < 4 * h + 4; i++) {
            int code = q8_code(x[i], inverse, nan);

            packed |= ((uint32_t)code & 0xffu) << 8 * (i % 4);
            if (feeds)
                x[i] = q8_left(x[i], scale, code, nan);
        }
        ((uint32_t *)run.codes)[32 * h + lane] = packed;
    }
}

static __device__ __forceinline__ void
q8_feed_256(const q8_run &run)
{
    float4 *residual = (float4 *)run.residual + threadIdx.x % 32u;
    float x[8], r[8];

    q8_load_256(run.source, x);
    q8_load_256(run.residual, r);
    GP_UNROLL(8)
    for (int i = 0; i < 8; i++)
        x[i] = __fadd_rn(r[i], x[i]);
    q8_encode_256<true>(run, x);
    residual[0] = make_float4(x[0], x[1], x[2], x[3]);
    residual[32] = make_float4(x[4], x[5], x[6], x[7]);
}

/* Any number of elements at any place. */
static __device__ void
q8_encode_any(const q8_run run)
{
    uint32_t lane = threadIdx.x % 32u, most = 0;
    float inverse, scale;
    bool nan;

    for (uint32_t i = lane; i < run.count; i += 32) {
        float u = run.source[i];

        if (run.residual) {
            u = __fadd_rn(run.residual[i], u);
            run.residual[i] = u;
        }
        most = most > q8_magnitude(u) ? most : q8_magnitude(u);
    }
    scale = q8_scale(gp_warp_max(most), &inverse);
    nan = !gp_is_finite(scale);
    if (lane == 0)
        *(uint32_t *)run.scale = __float_as_uint(scale);
    for (uint32_t i = lane; i < run.count; i += 32) {
        float u = run.residual ? run.residual[i] : run.source[i];
        int code = q8_code(u, inverse, nan);

        run.codes[i] = (int8_t)code;
        if (run.residual)
            run.residual[i] = q8_left(u, scale, code, nan);
    }
}

/* Whole blocks of 256 of which nothing is fed back: each is asked for before
 * the one ahead of it is encoded. */
static __device__ __forceinline__ void
q8_encode_ahead(const gp_cuda_part &part, uint64_t first, int8_t *codes)
{
    float x[8], next[8];
    q8_run run;

    q8_load_256(part.source + 256 * first, next);
    GP_UNROLL(4)
    for (uint32_t n = 0; n < Q8_PER_WARP; n++) {
        uint64_t b = first + n * Q8_WARPS;

        GP_UNROLL(8)
        for (int i = 0; i < 8; i++)
            x[i] = next[i];
        if (n + 1 < Q8_PER_WARP)
            q8_load_256(part.source + 256 * (b + Q8_WARPS), next);
        run.scale = part.bytes + 4 * b;
        run.codes = codes + 256 * b;
        q8_encode_256<false>(run, x);
    }
}

static __device__ __forceinline__ void
q8_encode_run(const q8_run &run, bool wide)
{
    float x[8];

    if (!wide || run.count != 256) {
        q8_encode_any(run);
    } else if (run.residual) {
        q8_feed_256(run);
    } else {
        q8_load_256(run.source, x);
        q8_encode_256<false>(run, x);
    }
}

extern "C" __global__ void
gp_cuda_q8_encode(const gp_cuda_part *part, uint32_t parts, uint32_t block)
{
    const gp_cuda_part mine = *gp_find_part(part, parts);
    uint64_t blocks = gp_over(mine.count + block - 1, block);
    uint64_t first =
        (uint64_t)(blockIdx.x - mine.first_block) * Q8_WARPS * Q8_PER_WARP +
        threadIdx.x / 32u;
    uint64_t last = first + (Q8_PER_WARP - 1) * Q8_WARPS;
    int8_t *codes = (int8_t *)mine.bytes + 4 * blocks;
    bool wide =
        (((uintptr_t)mine.source | (uintptr_t)mine.residual) & 15u) == 0;

    if (wide && block == 256 && !mine.residual &&
        256 * (last + 1) <= mine.count) {
        q8_encode_ahead(mine, first, codes);
        return;
    }
    for (uint32_t n = 0; n < Q8_PER_WARP; n++) {
        uint64_t b = first + n * Q8_WARPS, at = b * block;
        q8_run run;

        if (b >= blocks)
            return;
        run.source = mine.source + at;
        run.residual = mine.residual ? mine.residual + at : nullptr;
        run.scale = mine.bytes + 4 * b;
        run.codes = codes + at;
        run.count =
            (uint32_t)(mine.count - at < block ? mine.count - at : block);
        q8_encode_run(run, wide);
    }
}

static __device__ __forceinline__ void
q8_decode_one(float *target, float scale, int code, bool add)
{
    float x = __fmul_rn(scale, __int2float_rn(code));

    *target = add ? __fadd_rn(*target, x) : x;
}

/* Four values. */
static __device__ __forceinline__ float4
q8_values(uint32_t packed, float scale)
{
    uint32_t x = packed ^ 0x80808080u;

    return make_float4(__fmul_rn(scale, gp_byte_less(x, 0, 128.0f)),
                       __fmul_rn(scale, gp_byte_less(x, 1, 128.0f)),
                       __fmul_rn(scale, gp_byte_less(x, 2, 128.0f)),
                       __fmul_rn(scale, gp_byte_less(x, 3, 128.0f)));
}

/* No byte is 0x80. */
static __device__ __forceinline__ bool
q8_codes_valid(uint32_t packed)
{
    return !gp_zero_byte(packed ^ 0x80808080u);
}

/* 256 elements whose memory is aligned: everything is asked for before any of
 * it is looked at. False for a code that no encoder writes. */
static __device__ __forceinline__ bool
q8_decode_256(const int8_t *codes, float scale, float *target, bool add)
{
    uint32_t lane = threadIdx.x % 32u;
    uint32_t low = ((const uint32_t *)codes)[lane];
    uint32_t high = ((const uint32_t *)codes)[32 + lane];
    float4 *at = (float4 *)target + lane;
    float4 x, y;

    if (add) {
        float4 s = at[0], t = at[32];

        x = gp_add4(s, q8_values(low, scale));
        y = gp_add4(t, q8_values(high, scale));
    } else {
        x = q8_values(low, scale);
        y = q8_values(high, scale);
    }
    at[0] = x;
    at[32] = y;
    return q8_codes_valid(low) && q8_codes_valid(high);
}

/* False for a code that no encoder writes. */
static __device__ bool
q8_decode_run(const int8_t *codes, float scale, float *target, uint32_t count,
              bool add)
{
    bool wide = ((uintptr_t)target & 15u) == 0 && ((uintptr_t)codes & 3u) == 0;
    bool good = true;

    for (uint32_t i = 4u * (threadIdx.x % 32u); i < count; i += 128u) {
        if (wide && i + 4 <= count) {
            uint32_t packed = *(const uint32_t *)(codes + i);
            float4 t = make_float4(0, 0, 0, 0);
            int c[4];

            for (int j = 0; j < 4; j++) {
                c[j] = (int8_t)(packed >> 8 * j & 0xffu);
                good = good && c[j] != -128;
            }
            if (add)
                t = *(const float4 *)(target + i);
            q8_decode_one(&t.x, scale, c[0], add);
            q8_decode_one(&t.y, scale, c[1], add);
            q8_decode_one(&t.z, scale, c[2], add);
            q8_decode_one(&t.w, scale, c[3], add);
            *(float4 *)(target + i) = t;
            continue;
        }
        for (uint32_t j = i; j < count && j < i + 4; j++) {
            good = good && codes[j] != -128;
            q8_decode_one(target + j, scale, codes[j], add);
        }
    }
    return good;
}

extern "C" __global__ void
gp_cuda_q8_decode(const gp_cuda_part *part, uint32_t parts, uint32_t block,
                  uint32_t add)
{
    const gp_cuda_part mine = *gp_find_part(part, parts);
    uint64_t blocks = gp_over(mine.count + block - 1, block);
    uint64_t first =
        (uint64_t)(blockIdx.x - mine.first_block) * Q8_WARPS * Q8_PER_WARP +
        threadIdx.x / 32u;
    const int8_t *codes = (const int8_t *)mine.bytes + 4 * blocks;
    bool wide = ((uintptr_t)mine.target & 15u) == 0;

    for (uint32_t n = 0; n < Q8_PER_WARP; n++) {
        uint64_t b = first + n * Q8_WARPS, at = b * block;
        uint32_t count, bits;
        float scale;
        bool good;

        if (b >= blocks)
            return;
        count = (uint32_t)(mine.count - at < block ? mine.count - at : block);
        bits = *(const uint32_t *)(mine.bytes + 4 * b);
        scale = __uint_as_float(bits);
        if (wide && count == 256)
            good = q8_decode_256(codes + at, scale, mine.target + at, add);
        else
            good =
                q8_decode_run(codes + at, scale, mine.target + at, count, add);
        if (!good || !q8_scale_valid(bits))
            *mine.status = 1;
    }
}

/* Four codes of a message; which of them are there, all are valid. */
static __device__ __forceinline__ uint32_t
q8_four(const uint8_t *codes, uint32_t left)
{
    uint32_t packed = codes[0];

    if (left >= 4 && ((uintptr_t)codes & 3u) == 0)
        return *(const uint32_t *)codes;
    if (left > 1)
        packed |= (uint32_t)codes[1] << 8;
    if (left > 2)
        packed |= (uint32_t)codes[2] << 16;
    if (left > 3)
        packed |= (uint32_t)codes[3] << 24;
    return packed;
}

/* Adds the numbers of a message from element i on to a sum, or sets it. */
static __device__ __forceinline__ bool
q8_fold_four(const uint8_t *scale, const uint8_t *codes, uint32_t left,
             bool add, float4 *sum)
{
    uint32_t bits = *(const uint32_t *)scale, packed = q8_four(codes, left);
    float4 x = q8_values(packed, __uint_as_float(bits));

    *sum = add ? gp_add4(*sum, x) : x;
    return q8_scale_valid(bits) && q8_codes_valid(packed);
}

/* Where a thread's four elements of a fold are, and four behind them. */
struct q8_place {
    uint64_t scale, codes, next_scale, next_codes;
};

/* The same of n messages, of elements that are all there: everything is asked
 * for before any of it is looked at, and nothing turns on what came. */
template <uint32_t n>
static __device__ __forceinline__ bool
q8_fold_at_once(const gp_cuda_message *message, const q8_place &at, bool add,
                float4 *sum, float4 *next)
{
    const uint8_t *from[n];
    uint32_t scale[2][n], packed[2][n];
    bool good = true;

    GP_UNROLL(n)
    for (uint32_t k = 0; k < n; k++)
        from[k] = message[k].bytes;
    GP_UNROLL(n)
    for (uint32_t k = 0; k < n; k++) {
        const uint8_t *bytes = from[k];

        packed[0][k] = *(const uint32_t *)(bytes + at.codes);
        packed[1][k] = *(const uint32_t *)(bytes + at.next_codes);
        scale[0][k] = *(const uint32_t *)(bytes + at.scale);
        scale[1][k] = *(const uint32_t *)(bytes + at.next_scale);
    }
    GP_UNROLL(n)
    for (uint32_t k = 0; k < n; k++) {
        float4 x = q8_values(packed[0][k], __uint_as_float(scale[0][k]));
        float4 y = q8_values(packed[1][k], __uint_as_float(scale[1][k]));

        *sum = k || add ? gp_add4(*sum, x) : x;
        *next = k || add ? gp_add4(*next, y) : y;
        good &= q8_scale_valid(scale[0][k]) & q8_scale_valid(scale[1][k]) &
                q8_codes_valid(packed[0][k]) & q8_codes_valid(packed[1][k]);
    }
    return good;
}

/* Of all messages. */
static __device__ __forceinline__ bool
q8_fold_whole(const gp_cuda_part &part, const q8_place &at, bool add,
              float4 *sum, float4 *next)
{
    uint32_t messages = part.messages, k = 0;
    bool good = true;

    GP_UNROLL(1)
    for (; k + 4 <= messages; k += 4)
        good &= q8_fold_at_once<4>(part.message + k, at, k || add, sum, next);
    GP_UNROLL(1)
    for (; k < messages; k++)
        good &= q8_fold_at_once<1>(part.message + k, at, k || add, sum, next);
    return good;
}

/* Of all messages, where not all elements are there. */
static __device__ __forceinline__ bool
q8_fold_some(const gp_cuda_part &part, const q8_place &at, uint32_t left,
             uint32_t more, bool add, float4 *sum, float4 *next)
{
    bool good = true;

    GP_UNROLL(1)
    for (uint32_t k = 0; k < part.messages; k++) {
        const uint8_t *bytes = part.message[k].bytes;

        good = q8_fold_four(bytes + at.scale, bytes + at.codes, left, k || add,
                            sum) &&
               good;
        if (more)
            good = q8_fold_four(bytes + at.next_scale, bytes + at.next_codes,
                                more, k || add, next) &&
                   good;
    }
    return good;
}

/* Four elements a thread and four behind, whose sums stay in registers: blocks
 * are multiples of 32, so each four share a scale. Nothing is stored meanwhile,
 * so that loads of several messages are on their way at once. */
extern "C" __global__ void __launch_bounds__(256, 4)
    gp_cuda_q8_fold(const gp_cuda_part *part, uint32_t parts, uint32_t block,
                    uint32_t add)
{
    const gp_cuda_part mine = *gp_find_part(part, parts);
    uint64_t begin = (uint64_t)(blockIdx.x - mine.first_block) * FOLD_TILE;
    uint64_t count = mine.count, blocks = gp_over(count + block - 1, block);
    uint64_t end = begin + FOLD_TILE < count ? begin + FOLD_TILE : count;
    uint32_t step = 4u * blockDim.x;
    bool good = true;

    for (uint64_t i = begin + 4u * threadIdx.x; i < end; i += 2 * step) {
        uint64_t j = i + step;
        uint32_t left = end - i < 4 ? (uint32_t)(end - i) : 4;
        uint32_t more = j >= end ? 0 : end - j < 4 ? (uint32_t)(end - j) : 4;
        q8_place at = {4 * gp_over(i, block), 4 * blocks + i,
                       more ? 4 * gp_over(j, block) : 0, 4 * blocks + j};
        float4 sum = gp_load4(mine.target + i, add ? left : 0);
        float4 next = gp_load4(mine.target + j, add ? more : 0);

        good &= more == 4
                    ? q8_fold_whole(mine, at, add, &sum, &next)
                    : q8_fold_some(mine, at, left, more, add, &sum, &next);
        gp_store4(mine.target + i, sum, left);
        gp_store4(mine.target + j, next, more);
    }
    if (!good)
        *mine.status = 1;
}
