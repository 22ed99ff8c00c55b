/* SPDX-License-Identifier: Apache-2.0 */
/*
 * half.cuh - fp16 to and from fp32, as kernels_scalar.c has them.
 */
#ifndef GP_CUDA_HALF_CUH
#define GP_CUDA_HALF_CUH

#include "compress/cuda/common.cuh"

static __device__ __forceinline__ uint32_t
gp_half_from_float(float x)
{
    uint32_t b = __float_as_uint(x), a = b & GP_FP32_MAGNITUDE;
    uint32_t sign = b >> 16 & 0x8000u;

    if (a > GP_FP32_INFINITY)
        return sign | 0x7e00u | (a >> 13 & 0x3ffu);
    if (a == GP_FP32_INFINITY)
        return sign | 0x7c00u;
    if (a > 0x477fe000u)
        return sign | 0x7bffu;
    if (a < 0x38800000u) /* below 2^-14: adding 0.5 rounds to 2^-24 */
        return sign | (__float_as_uint(__fadd_rn(__uint_as_float(a), 0.5f)) -
                       0x3f000000u);
    a += 0xc8000fffu + (a >> 13 & 1u);
    return sign | a >> 13;
}

static __device__ __forceinline__ float
gp_float_from_half(uint32_t h)
{
    uint32_t sign = (h & 0x8000u) << 16, m = h & 0x3ffu;

    if ((h & 0x7c00u) == 0x7c00u)
        return __uint_as_float(sign | GP_FP32_INFINITY | m << 13 |
                               (m ? 0x00400000u : 0u));
    if ((h & 0x7c00u) == 0u)
        return __uint_as_float(
            sign | __float_as_uint(__fmul_rn(__uint2float_rn(m), 0x1p-24f)));
    return __uint_as_float(sign | (((h & 0x7fffu) << 13) + (112u << 23)));
}

#endif
