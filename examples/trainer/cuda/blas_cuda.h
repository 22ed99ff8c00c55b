/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blas_cuda.h - matrix products by cuBLAS, which is loaded and never linked.
 *
 * The few functions and numbers of its interface that are needed are declared
 * here, so that a build needs none of its headers; they are the same in
 * versions 11 to 13.
 */
#ifndef GT_BLAS_CUDA_H
#define GT_BLAS_CUDA_H

#include "../gpu.h"
#include "driver_cuda.h"

typedef struct gt_blas gt_blas;

/* cublasStatus_t and its like: the numbers that cross the interface. */
enum { GT_CUBLAS_OK = 0, GT_CUBLAS_NO_MEMORY = 3 };
enum { GT_CUBLAS_N = 0, GT_CUBLAS_T = 1 };
enum { GT_CUBLAS_FP32 = 0, GT_CUBLAS_BF16 = 14 };
enum { GT_CUBLAS_COMPUTE_FP32 = 68, GT_CUBLAS_COMPUTE_TF32 = 77 };
enum { GT_CUBLAS_ANY_ALGORITHM = -1 };

#define GT_CUBLAS_FUNCTIONS(X)                                                 \
    X(cublasCreate_v2, int, (void **handle))                                   \
    X(cublasDestroy_v2, int, (void *handle))                                   \
    X(cublasGetVersion_v2, int, (void *handle, int *version))                  \
    X(cublasSetStream_v2, int, (void *handle, void *stream))                   \
    X(cublasSetWorkspace_v2, int, (void *handle, void *space, size_t bytes))   \
    X(cublasSetAtomicsMode, int, (void *handle, int allowed))                  \
    X(cublasGemmEx, int,                                                       \
      (void *handle, int ta, int tb, int m, int n, int k, const void *alpha,   \
       const void *a, int a_type, int lda, const void *b, int b_type, int ldb, \
       const void *beta, void *c, int c_type, int ldc, int compute,            \
       int algorithm))

/* Whether the library is there. */
gp_status gt_blas_check(void);

/* A handle for the device's stream. With `deterministic` cuBLAS has a workspace
 * of its own and no atomic operations: then results are the same bits in every
 * run, which it promises for one version, one kind of device and one stream. */
gp_status gt_blas_open(gt_cuda *cuda, gt_precision precision,
                       bool deterministic, gt_blas **out);
void gt_blas_close(gt_blas *blas);
int gt_blas_version(const gt_blas *blas);

/* c (m x n) = op(a) (m x k) op(b) (k x n), all column-major as cuBLAS has them;
 * `half`: c is bf16, where factors are. */
typedef struct gt_product {
    int ta, tb;
    size_t m, n, k;
    const void *a, *b;
    void *c;
    size_t lda, ldb, ldc;
    bool half;
} gt_product;

gp_status gt_blas_multiply(gt_blas *blas, const gt_product *p);

#endif
