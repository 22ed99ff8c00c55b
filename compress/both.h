/* SPDX-License-Identifier: Apache-2.0 */
/*
 * both.h - functions and tables that are compiled for the host and for devices,
 * from one source and hence with one result.
 *
 * What is in such a header has plain operators on fp32 and double, which both
 * compile without contraction, and no pointers but its arguments. C and CUDA
 * C++ both take it.
 */
#ifndef GP_BOTH_H
#define GP_BOTH_H

#include <stdbool.h>
#include <stdint.h>

#if defined(__CUDACC__) || defined(GP_EMULATE)
#include "compress/cuda/common.cuh"
#define GP_BOTH          static __device__ __forceinline__
#define GP_BOTH_TABLE    static __device__ const
#define GP_BOTH_BITS(x)  __float_as_uint(x)
#define GP_BOTH_FLOAT(b) __uint_as_float(b)
#define GP_BOTH_CLZ(x)   ((uint32_t)__clz((int)(x)))
#else
#include "compress/kernels.h"
#define GP_BOTH          static inline
#define GP_BOTH_TABLE    static const
#define GP_BOTH_BITS(x)  gp_bits(x)
#define GP_BOTH_FLOAT(b) gp_float(b)
#define GP_BOTH_CLZ(x)   ((uint32_t)__builtin_clz(x))
#endif

#endif
