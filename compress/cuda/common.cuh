/* SPDX-License-Identifier: Apache-2.0 */
/*
 * common.cuh - what all kernels share: the parts they work on, and the bits of
 * numbers.
 *
 * A launch handles many tensors: its array of parts lies in device memory, and
 * a block of the grid finds its part by its first block's number. The
 * arithmetic is the reference's, operation for operation (kernels_scalar.c):
 * compiled without contraction, with divisions and denormals as IEEE 754 has
 * them, so that results are the same bits.
 *
 * nvcc compiles these files for devices. Tests compile them for the host
 * (GP_EMULATE), behind a header that stands in for CUDA.
 */
#ifndef GP_CUDA_COMMON_CUH
#define GP_CUDA_COMMON_CUH

#ifndef GP_EMULATE
#define GP_DYNAMIC_SHARED(type, name) extern __shared__ type name[]
#define GP_PRAGMA(text)               _Pragma(#text)
#define GP_UNROLL(n)                  GP_PRAGMA(unroll n)
#else
#define GP_UNROLL(n)
#endif

#include "compress/cuda/parts.h"

#define GP_FP32_MAGNITUDE 0x7fffffffu
#define GP_FP32_INFINITY  0x7f800000u
#define GP_FP32_NAN       0x7fc00000u
#define GP_FULL_WARP      0xffffffffu

/* The part that block blockIdx.x of the launch belongs to: the last one whose
 * first block is not beyond it. Parts have ascending first blocks. A warp looks
 * at 32 of them at a time, since each look takes as long as a load does; all
 * threads call it. */
static __device__ inline const gp_cuda_part *
gp_find_part(const gp_cuda_part *part, uint32_t parts)
{
    uint32_t lane = threadIdx.x % 32u, low = 0, count = parts;

    while (count > 1) {
        uint32_t step = (count + 31) / 32, at = lane * step, last;
        bool before = at < count && part[low + at].first_block <= blockIdx.x;

        last = 31 - (uint32_t)__clz((int)__ballot_sync(GP_FULL_WARP, before));
        low += last * step;
        count = count - last * step < step ? count - last * step : step;
    }
    return part + low;
}

/* Where each part has as many blocks of the grid: its part, and which of them
 * this one is; *blocks: how many there are. */
static __device__ __forceinline__ const gp_cuda_part *
gp_spread_part(const gp_cuda_part *part, uint32_t parts, uint32_t *mine,
               uint32_t *blocks)
{
    *blocks = gridDim.x / parts;
    *mine = blockIdx.x % *blocks;
    return part + blockIdx.x / *blocks;
}

/* i / block, by a shift where that is all it takes. */
static __device__ __forceinline__ uint64_t
gp_over(uint64_t i, uint32_t block)
{
    if ((block & (block - 1)) == 0)
        return i >> (31 - __clz((int)block));
    return i >> 32 ? i / block : (uint32_t)i / block;
}

static __device__ inline bool
gp_is_finite(float x)
{
    return (__float_as_uint(x) & GP_FP32_MAGNITUDE) < GP_FP32_INFINITY;
}

/* What error feedback keeps of an element that decodes to d. */
static __device__ inline float
gp_remainder_of(float u, float d)
{
    float r = __fsub_rn(u, d);

    return gp_is_finite(r) ? r : 0.0f;
}

/* What ef21 holds of an element that decodes to d. */
static __device__ __forceinline__ float
gp_kept_of(float h, float d)
{
    float sum = __fadd_rn(h, d);

    return gp_is_finite(sum) ? sum : h;
}

static __device__ __forceinline__ float4
gp_keep4(float4 h, float4 d)
{
    return make_float4(gp_kept_of(h.x, d.x), gp_kept_of(h.y, d.y),
                       gp_kept_of(h.z, d.z), gp_kept_of(h.w, d.w));
}

/* What is no number keeps its bits through arithmetic with numbers, as on the
 * host: a device makes one and the same NaN of all. */
static __device__ __forceinline__ float
gp_keep_nan(float x, float result)
{
    return x != x ? __uint_as_float(__float_as_uint(x) | 0x00400000u) : result;
}

/* What is encoded: a gradient's element, and what is left of earlier steps,
 * which is always a number. */
static __device__ __forceinline__ float
gp_feed(float residual, float x)
{
    return gp_keep_nan(x, __fadd_rn(residual, x));
}

static __device__ __forceinline__ float4
gp_feed4(float4 residual, float4 x)
{
    return make_float4(gp_feed(residual.x, x.x), gp_feed(residual.y, x.y),
                       gp_feed(residual.z, x.z), gp_feed(residual.w, x.w));
}

static __device__ __forceinline__ float4
gp_add4(float4 a, float4 b)
{
    return make_float4(__fadd_rn(a.x, b.x), __fadd_rn(a.y, b.y),
                       __fadd_rn(a.z, b.z), __fadd_rn(a.w, b.w));
}

/* Up to four elements, at any place; 0 for those that are not there. */
static __device__ __forceinline__ float4
gp_load4(const float *at, uint32_t left)
{
    if (left >= 4 && ((uintptr_t)at & 15u) == 0)
        return *(const float4 *)at;
    return make_float4(left > 0 ? at[0] : 0.0f, left > 1 ? at[1] : 0.0f,
                       left > 2 ? at[2] : 0.0f, left > 3 ? at[3] : 0.0f);
}

/* 16 bytes at once. In assembler: where another branch stores the same elements
 * one by one, nvcc makes one of both, of four stores. */
static __device__ __forceinline__ void
gp_put4(float *at, float4 x)
{
#ifdef GP_EMULATE
    *(float4 *)at = x;
#else
    asm volatile("st.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(at), "f"(x.x),
                 "f"(x.y), "f"(x.z), "f"(x.w)
                 : "memory");
#endif
}

static __device__ __forceinline__ void
gp_store4(float *at, float4 x, uint32_t left)
{
    if (left >= 4 && ((uintptr_t)at & 15u) == 0) {
        gp_put4(at, x);
        return;
    }
    if (left > 0)
        at[0] = x.x;
    if (left > 1)
        at[1] = x.y;
    if (left > 2)
        at[2] = x.z;
    if (left > 3)
        at[3] = x.w;
}

/* A byte of a word, less `bias`: behind the exponent of 2^23 it is a number
 * already, without a conversion. */
static __device__ __forceinline__ float
gp_byte_less(uint32_t word, uint32_t byte, float bias)
{
    return __fsub_rn(
        __uint_as_float(__byte_perm(word, 0x4b000000u, 0x7440u | byte)),
        8388608.0f + bias);
}

/* Whether any of four bytes is 0. */
static __device__ __forceinline__ bool
gp_zero_byte(uint32_t word)
{
    return ((word - 0x01010101u) & ~word & 0x80808080u) != 0;
}

static __device__ inline uint32_t
gp_warp_max(uint32_t value)
{
    return __reduce_max_sync(GP_FULL_WARP, value);
}

#endif
