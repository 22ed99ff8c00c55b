/* SPDX-License-Identifier: Apache-2.0 */
/*
 * half.cuh - fp16 to and from fp32, as kernels_scalar.c has them.
 *
 * Without branches: of a warp's numbers some are always below the normal ones.
 */
#ifndef GP_CUDA_HALF_CUH
#define GP_CUDA_HALF_CUH

#include "compress/cuda/common.cuh"

static __device__ __forceinline__ uint32_t
gp_half_from_float(float x)
{
    uint32_t b = __float_as_uint(x), a = b & GP_FP32_MAGNITUDE;
    uint32_t sign = b >> 16 & 0x8000u, h = a + 0xc8000fffu + (a >> 13 & 1u);
    uint32_t nan =
        a > GP_FP32_INFINITY ? 0x7e00u | (a >> 13 & 0x3ffu) : 0x7c00u;
    /* Below 2^-14: adding 0.5 rounds to 2^-24. */
    uint32_t small =
        __float_as_uint(__fadd_rn(__uint_as_float(a), 0.5f)) - 0x3f000000u;

    h = a < 0x38800000u ? small : h >> 13;
    h = a > 0x477fe000u ? 0x7bffu : h;
    return sign | (a >= GP_FP32_INFINITY ? nan : h);
}

static __device__ __forceinline__ float
gp_float_from_half(uint32_t h)
{
    uint32_t sign = (h & 0x8000u) << 16, m = h & 0x3ffu;
    uint32_t nan = GP_FP32_INFINITY | m << 13 | (m ? 0x00400000u : 0u);
    /* Exact, of what is not normal too. */
    float x = __fmul_rn(__uint_as_float((h & 0x7fffu) << 13), 0x1p112f);

    return __uint_as_float(
        sign | ((h & 0x7c00u) == 0x7c00u ? nan : __float_as_uint(x)));
}

#endif
