/* SPDX-License-Identifier: Apache-2.0 */
/*
 * numbers_cuda.h - what blas_cuda.h says of cuBLAS is what cuBLAS's own header
 * says, where there is one.
 */
#ifndef NUMBERS_CUDA_H
#define NUMBERS_CUDA_H

#include "examples/trainer/cuda/blas_cuda.h"

#if __has_include(<cublas_api.h>)
#include <cublas_api.h>
_Static_assert((int)CUBLAS_STATUS_SUCCESS == GP_CUBLAS_OK, "");
_Static_assert((int)CUBLAS_STATUS_ALLOC_FAILED == GP_CUBLAS_NO_MEMORY, "");
_Static_assert((int)CUBLAS_OP_N == GP_CUBLAS_N, "");
_Static_assert((int)CUBLAS_OP_T == GP_CUBLAS_T, "");
_Static_assert((int)CUDA_R_32F == GP_CUBLAS_FP32, "");
_Static_assert((int)CUDA_R_16BF == GP_CUBLAS_BF16, "");
_Static_assert((int)CUBLAS_COMPUTE_32F == GP_CUBLAS_COMPUTE_FP32, "");
_Static_assert((int)CUBLAS_COMPUTE_32F_FAST_TF32 == GP_CUBLAS_COMPUTE_TF32, "");
_Static_assert((int)CUBLAS_GEMM_DEFAULT == GP_CUBLAS_ANY_ALGORITHM, "");
_Static_assert((int)CUBLAS_ATOMICS_ALLOWED == 1, "");
#endif

#endif
