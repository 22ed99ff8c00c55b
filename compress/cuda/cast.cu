/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cast.cu - fp16 and bf16 to the nearest even, as kernels_scalar.c has them.
 *
 * The conversions are written out in integers because the device's own do not
 * saturate and make other NaNs; they cost less than the memory does. Thread i
 * of a block handles elements 4i to 4i + 3 of each run of four times the
 * block's size, so that loads and stores of a warp are whole lines.
 */
#include "compress/cuda/half.cuh"
#include "compress/cuda/philox.cuh"

#define CAST_TILE 8192u /* elements of a block of the grid */

#define FOLD_TILE 4096u /* of a fold */

/* What is encoded, the word that launches carry. */
enum { CAST_NONE = 0, CAST_FP16 = 1, CAST_BF16 = 2 };

static __device__ __forceinline__ uint32_t
bf16_from_float(float x)
{
    uint32_t b = __float_as_uint(x), a = b & GP_FP32_MAGNITUDE;
    uint32_t h = (b + 0x7fffu + (b >> 16 & 1u)) >> 16;

    h = a > 0x7f7f0000u && a < GP_FP32_INFINITY ? (b >> 16 & 0x8000u) | 0x7f7fu
                                                : h;
    return a > GP_FP32_INFINITY ? b >> 16 | 0x40u : h;
}

template <int format>
static __device__ __forceinline__ uint32_t
to_half(float x)
{
    return format == CAST_FP16 ? gp_half_from_float(x) : bf16_from_float(x);
}

template <int format>
static __device__ __forceinline__ float
from_half(uint32_t h)
{
    return format == CAST_FP16 ? gp_float_from_half(h)
                               : __uint_as_float(h << 16);
}

/* One element: its code, and in place of it what it leaves. */
template <int format>
static __device__ __forceinline__ uint32_t
cast_one(float *x)
{
    uint32_t h = to_half<format>(*x);

    *x = gp_remainder_of(*x, from_half<format>(h));
    return h;
}

/* Vectors that a thread asks for before it looks at any. */
#define CAST_AT_ONCE 4u

template <int format>
static __device__ __forceinline__ uint2
cast_four(float4 x)
{
    return make_uint2(to_half<format>(x.x) | to_half<format>(x.y) << 16,
                      to_half<format>(x.z) | to_half<format>(x.w) << 16);
}

/* What four elements leave. */
template <int format>
static __device__ __forceinline__ float4
cast_left(float4 x, uint2 packed)
{
    return make_float4(
        gp_remainder_of(x.x, from_half<format>(packed.x & 0xffffu)),
        gp_remainder_of(x.y, from_half<format>(packed.x >> 16)),
        gp_remainder_of(x.z, from_half<format>(packed.y & 0xffffu)),
        gp_remainder_of(x.w, from_half<format>(packed.y >> 16)));
}

/* Four elements at each of some places, all there and aligned. */
template <int format>
static __device__ __forceinline__ void
cast_encode_wide(const float *source, float *residual, uint16_t *out,
                 uint32_t step)
{
    float4 x[CAST_AT_ONCE], r[CAST_AT_ONCE];

    GP_UNROLL(4)
    for (uint32_t j = 0; j < CAST_AT_ONCE; j++)
        x[j] = *(const float4 *)(source + j * step);
    if (residual) {
        GP_UNROLL(4)
        for (uint32_t j = 0; j < CAST_AT_ONCE; j++)
            r[j] = *(const float4 *)(residual + j * step);
        GP_UNROLL(4)
        for (uint32_t j = 0; j < CAST_AT_ONCE; j++)
            x[j] = gp_feed4(r[j], x[j]);
    }
    GP_UNROLL(4)
    for (uint32_t j = 0; j < CAST_AT_ONCE; j++) {
        uint2 packed = cast_four<format>(x[j]);

        *(uint2 *)(out + j * step) = packed;
        if (residual)
            *(float4 *)(residual + j * step) = cast_left<format>(x[j], packed);
    }
}

template <int format>
static __device__ void
cast_encode_tile(const gp_cuda_part *part, uint64_t begin, uint64_t end)
{
    const float *source = part->source;
    float *residual = part->residual;
    uint16_t *out = (uint16_t *)part->bytes;
    bool wide = (((uintptr_t)source | (uintptr_t)residual) & 15u) == 0 &&
                ((uintptr_t)out & 7u) == 0;
    uint32_t step = 4u * blockDim.x;
    uint64_t i = begin + 4u * threadIdx.x;

    for (; wide && i + (CAST_AT_ONCE - 1) * step + 4 <= end;
         i += CAST_AT_ONCE * step)
        cast_encode_wide<format>(source + i, residual ? residual + i : nullptr,
                                 out + i, step);
    for (; i < end; i += step)
        for (uint64_t j = i; j < end && j < i + 4; j++) {
            float x = residual ? gp_feed(residual[j], source[j]) : source[j];

            out[j] = (uint16_t)cast_one<format>(&x);
            if (residual)
                residual[j] = x;
        }
}

template <int format>
static __device__ __forceinline__ void
cast_decode_wide(const uint16_t *in, float *target, uint32_t step, bool add)
{
    float4 x[CAST_AT_ONCE], t[CAST_AT_ONCE];
    uint2 packed[CAST_AT_ONCE];

    GP_UNROLL(4)
    for (uint32_t j = 0; j < CAST_AT_ONCE; j++)
        packed[j] = *(const uint2 *)(in + j * step);
    if (add) {
        GP_UNROLL(4)
        for (uint32_t j = 0; j < CAST_AT_ONCE; j++)
            t[j] = *(const float4 *)(target + j * step);
    }
    GP_UNROLL(4)
    for (uint32_t j = 0; j < CAST_AT_ONCE; j++) {
        x[j] = make_float4(from_half<format>(packed[j].x & 0xffffu),
                           from_half<format>(packed[j].x >> 16),
                           from_half<format>(packed[j].y & 0xffffu),
                           from_half<format>(packed[j].y >> 16));
        *(float4 *)(target + j * step) = add ? gp_add4(t[j], x[j]) : x[j];
    }
}

template <int format>
static __device__ void
cast_decode_tile(const gp_cuda_part *part, uint64_t begin, uint64_t end,
                 bool add)
{
    const uint16_t *in = (const uint16_t *)part->bytes;
    float *target = part->target;
    bool wide = ((uintptr_t)target & 15u) == 0 && ((uintptr_t)in & 7u) == 0;
    uint32_t step = 4u * blockDim.x;
    uint64_t i = begin + 4u * threadIdx.x;

    for (; wide && i + (CAST_AT_ONCE - 1) * step + 4 <= end;
         i += CAST_AT_ONCE * step)
        cast_decode_wide<format>(in + i, target + i, step, add);
    for (; i < end; i += step)
        for (uint64_t j = i; j < end && j < i + 4; j++) {
            float x = from_half<format>(in[j]);

            target[j] = add ? __fadd_rn(target[j], x) : x;
        }
}

/* The tile of this block of the grid. */
static __device__ __forceinline__ const gp_cuda_part *
cast_tile(const gp_cuda_part *part, uint32_t parts, uint64_t *begin,
          uint64_t *end)
{
    const gp_cuda_part *mine = gp_find_part(part, parts);

    *begin = (uint64_t)(blockIdx.x - mine->first_block) * CAST_TILE;
    *end = *begin + CAST_TILE < mine->count ? *begin + CAST_TILE : mine->count;
    return mine;
}

/* fp32 as it is: what is fed back leaves nothing. */
static __device__ void
none_encode_tile(const gp_cuda_part *part, uint64_t begin, uint64_t end)
{
    const float *source = part->source;
    float *residual = part->residual, *out = (float *)part->bytes;
    bool wide = (((uintptr_t)source | (uintptr_t)residual) & 15u) == 0;

    for (uint64_t i = begin + 4u * threadIdx.x; i < end; i += 4u * blockDim.x) {
        if (wide && i + 4 <= end) {
            float4 x = *(const float4 *)(source + i);

            if (residual) {
                x = gp_feed4(*(const float4 *)(residual + i), x);
                *(float4 *)(residual + i) = make_float4(0, 0, 0, 0);
            }
            *(float4 *)(out + i) = x;
            continue;
        }
        for (uint64_t j = i; j < end && j < i + 4; j++) {
            out[j] = residual ? gp_feed(residual[j], source[j]) : source[j];
            if (residual)
                residual[j] = 0;
        }
    }
}

static __device__ void
none_decode_tile(const gp_cuda_part *part, uint64_t begin, uint64_t end,
                 bool add)
{
    const float *in = (const float *)part->bytes;
    float *target = part->target;
    bool wide = ((uintptr_t)target & 15u) == 0;

    for (uint64_t i = begin + 4u * threadIdx.x; i < end; i += 4u * blockDim.x) {
        if (wide && i + 4 <= end) {
            float4 x = *(const float4 *)(in + i);

            if (add)
                x = gp_add4(*(const float4 *)(target + i), x);
            *(float4 *)(target + i) = x;
            continue;
        }
        for (uint64_t j = i; j < end && j < i + 4; j++)
            target[j] = add ? __fadd_rn(target[j], in[j]) : in[j];
    }
}

/* ---- rounding at random, as blocks_body.h has it ---- */

static __device__ __forceinline__ uint32_t
half_at_random(float x, uint32_t word, uint32_t shift)
{
    uint32_t b = __float_as_uint(x), a = b & GP_FP32_MAGNITUDE;
    uint32_t sign = b >> 16 & 0x8000u, m = a > 0x477fe000u ? 0x477fe000u : a;
    uint32_t e = m >> 23 > 113 ? m >> 23 : 113;
    float y, sum, f;
    int k, above;

    if (a > GP_FP32_INFINITY)
        return sign | 0x7e00u | (a >> 13 & 0x3ffu);
    if (a == GP_FP32_INFINITY)
        return sign | 0x7c00u;
    y = __fmul_rn(__uint_as_float(m), __uint_as_float((264 - e) << 23));
    sum = __fadd_rn(y, 12582912.0f);
    f = __fsub_rn(sum, 12582912.0f);
    above = f > y;
    k = (int)(__float_as_uint(sum) - 0x4b400000u) - above;
    f = __fsub_rn(f, __int2float_rn(above));
    k += gp_unit(word, shift) < __fsub_rn(y, f);
    return sign | (((e - 113) << 10) + (uint32_t)k);
}

static __device__ __forceinline__ uint32_t
bf16_at_random(float x, uint32_t word, uint32_t shift)
{
    uint32_t b = __float_as_uint(x), a = b & GP_FP32_MAGNITUDE;
    uint32_t u = (((word >> 8) + shift) & 0xffffffu) >> 8;
    uint32_t code = a > 0x7f7f0000u ? 0x7f7fu : (a + u) >> 16;

    code = a >= GP_FP32_INFINITY ? a >> 16 : code;
    code = a > GP_FP32_INFINITY ? code | 0x40u : code;
    return code | (b >> 16 & 0x8000u);
}

template <int format>
static __device__ __forceinline__ uint32_t
round_one(float *x, uint32_t word, uint32_t shift)
{
    uint32_t h = format == CAST_FP16 ? half_at_random(*x, word, shift)
                                     : bf16_at_random(*x, word, shift);

    *x = gp_remainder_of(*x, from_half<format>(h));
    return h;
}

template <int format>
static __device__ void
cast_round_tile(const gp_cuda_part *part, uint64_t begin, uint64_t end)
{
    uint16_t *out = (uint16_t *)part->bytes;
    uint32_t shift = part->random.shift;

    for (uint64_t i = begin + 4u * threadIdx.x; i < end; i += 4u * blockDim.x) {
        uint32_t left = end - i < 4 ? (uint32_t)(end - i) : 4;
        uint4 word = gp_words4(&part->random, part->offset + i);
        float4 x = gp_load4(part->source + i, left);
        uint2 packed;

        if (part->residual)
            x = gp_feed4(gp_load4(part->residual + i, left), x);
        packed.x = round_one<format>(&x.x, word.x, shift);
        packed.x |= round_one<format>(&x.y, word.y, shift) << 16;
        packed.y = round_one<format>(&x.z, word.z, shift);
        packed.y |= round_one<format>(&x.w, word.w, shift) << 16;
        if (left == 4) {
            *(uint2 *)(out + i) = packed;
        } else {
            out[i] = (uint16_t)packed.x;
            if (left > 1)
                out[i + 1] = (uint16_t)(packed.x >> 16);
            if (left > 2)
                out[i + 2] = (uint16_t)packed.y;
        }
        if (part->residual)
            gp_store4(part->residual + i, x, left);
    }
}

extern "C" __global__ void
gp_cuda_cast_round(const gp_cuda_part *part, uint32_t parts, uint32_t format)
{
    uint64_t begin, end;
    const gp_cuda_part *mine = cast_tile(part, parts, &begin, &end);

    if (format == CAST_FP16)
        cast_round_tile<CAST_FP16>(mine, begin, end);
    else
        cast_round_tile<CAST_BF16>(mine, begin, end);
}

extern "C" __global__ void
gp_cuda_cast_encode(const gp_cuda_part *part, uint32_t parts, uint32_t format)
{
    uint64_t begin, end;
    const gp_cuda_part *mine = cast_tile(part, parts, &begin, &end);

    if (format == CAST_NONE)
        none_encode_tile(mine, begin, end);
    else if (format == CAST_FP16)
        cast_encode_tile<CAST_FP16>(mine, begin, end);
    else
        cast_encode_tile<CAST_BF16>(mine, begin, end);
}

extern "C" __global__ void
gp_cuda_cast_decode(const gp_cuda_part *part, uint32_t parts, uint32_t format,
                    uint32_t add)
{
    uint64_t begin, end;
    const gp_cuda_part *mine = cast_tile(part, parts, &begin, &end);

    if (format == CAST_NONE)
        none_decode_tile(mine, begin, end, add);
    else if (format == CAST_FP16)
        cast_decode_tile<CAST_FP16>(mine, begin, end, add);
    else
        cast_decode_tile<CAST_BF16>(mine, begin, end, add);
}

/* Four elements of a message; `left` of them are there. */
template <int format>
static __device__ __forceinline__ float4
cast_read(const uint8_t *bytes, uint64_t i, uint32_t left)
{
    const uint16_t *in = (const uint16_t *)bytes + i;
    uint2 packed;

    if (format == CAST_NONE && left == 4)
        return *(const float4 *)((const float *)bytes + i);
    if (format == CAST_NONE) {
        const float *from = (const float *)bytes + i;

        return make_float4(from[0], left > 1 ? from[1] : 0,
                           left > 2 ? from[2] : 0, 0);
    }
    if (left == 4)
        packed = *(const uint2 *)in;
    else
        packed = make_uint2(in[0] | (left > 1 ? (uint32_t)in[1] << 16 : 0),
                            left > 2 ? in[2] : 0);
    return make_float4(from_half<format>(packed.x & 0xffffu),
                       from_half<format>(packed.x >> 16),
                       from_half<format>(packed.y & 0xffffu),
                       from_half<format>(packed.y >> 16));
}

/* Four elements of four messages, which are all asked for before any is added;
 * the first of all is the sum. */
template <int format>
static __device__ __forceinline__ float4
cast_fold_four(const gp_cuda_message *message, uint64_t i, bool add, float4 sum)
{
    const uint8_t *from[4];
    float4 x[4];

    GP_UNROLL(4)
    for (uint32_t k = 0; k < 4; k++)
        from[k] = message[k].bytes;
    GP_UNROLL(4)
    for (uint32_t k = 0; k < 4; k++)
        x[k] = cast_read<format>(from[k], i, 4);
    GP_UNROLL(4)
    for (uint32_t k = 0; k < 4; k++)
        sum = k || add ? gp_add4(sum, x[k]) : x[k];
    return sum;
}

/* Sums stay in registers, message after message. */
template <int format>
static __device__ void
cast_fold_tile(const gp_cuda_part *part, uint64_t begin, uint64_t end, bool add)
{
    const gp_cuda_message *message = part->message;
    uint32_t messages = part->messages;

    for (uint64_t i = begin + 4u * threadIdx.x; i < end; i += 4u * blockDim.x) {
        uint32_t left = end - i < 4 ? (uint32_t)(end - i) : 4, k = 0;
        float4 sum = gp_load4(part->target + i, add ? left : 0);

        GP_UNROLL(1)
        for (; left == 4 && k + 4 <= messages; k += 4)
            sum = cast_fold_four<format>(message + k, i, k || add, sum);
        GP_UNROLL(1)
        for (; k < messages; k++) {
            float4 x = cast_read<format>(message[k].bytes, i, left);

            sum = k || add ? gp_add4(sum, x) : x;
        }
        gp_store4(part->target + i, sum, left);
    }
}

extern "C" __global__ void
gp_cuda_cast_fold(const gp_cuda_part *part, uint32_t parts, uint32_t format,
                  uint32_t add)
{
    const gp_cuda_part *mine = gp_find_part(part, parts);
    uint64_t begin = (uint64_t)(blockIdx.x - mine->first_block) * FOLD_TILE;
    uint64_t end =
        begin + FOLD_TILE < mine->count ? begin + FOLD_TILE : mine->count;

    if (format == CAST_NONE)
        cast_fold_tile<CAST_NONE>(mine, begin, end, add);
    else if (format == CAST_FP16)
        cast_fold_tile<CAST_FP16>(mine, begin, end, add);
    else
        cast_fold_tile<CAST_BF16>(mine, begin, end, add);
}
