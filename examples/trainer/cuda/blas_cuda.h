/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blas_cuda.h - matrix products by cuBLAS on the trainer's device.
 */
#ifndef GT_BLAS_CUDA_H
#define GT_BLAS_CUDA_H

#include "../../../lib/device/cublas_cuda.h"
#include "../gpu.h"
#include "driver_cuda.h"

typedef struct gt_blas gt_blas;

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
