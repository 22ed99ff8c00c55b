/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blas_cuda.c - matrix products by cuBLAS on the trainer's device.
 */
#ifdef GP_HAVE_CUDA

#include "blas_cuda.h"

#include <stdlib.h>

struct gt_blas {
    gt_precision precision;
    gp_cublas cublas;
};

static gp_status
said(gp_status status, const char *why)
{
    if (status == GP_ERR_UNSUPPORTED)
        return gt_fail(status, "%s, or compute with --device cpu", why);
    return status == GP_OK ? GP_OK : gt_fail(status, "%s", why);
}

gp_status
gt_blas_check(void)
{
    char why[GP_CUBLAS_WHY];

    return said(gp_cublas_check(why), why);
}

gp_status
gt_blas_open(gt_cuda *cuda, gt_precision precision, bool deterministic,
             gt_blas **out)
{
    gt_blas *b = calloc(1, sizeof(*b));
    char why[GP_CUBLAS_WHY];
    void *space = NULL;
    gp_status status;

    if (!b)
        return gt_fail(GP_ERR_NO_MEMORY, "out of memory");
    b->precision = precision;
    status = said(gp_cublas_open(&b->cublas, why), why);
    if (status == GP_OK && deterministic)
        status = gt_cuda_alloc(cuda, GP_CUBLAS_WORKSPACE, "cuBLAS", &space);
    if (status == GP_OK)
        status = said(gp_cublas_use(&b->cublas, cuda->stream, space, why), why);
    if (status != GP_OK) {
        gt_blas_close(b);
        return status;
    }
    *out = b;
    return GP_OK;
}

void
gt_blas_close(gt_blas *b)
{
    if (b)
        gp_cublas_close(&b->cublas);
    free(b);
}

int
gt_blas_version(const gt_blas *b)
{
    return b->cublas.version;
}

gp_status
gt_blas_multiply(gt_blas *b, const gt_product *p)
{
    const gp_cublas_product product = {
        .ta = p->ta,
        .tb = p->tb,
        .m = p->m,
        .n = p->n,
        .k = p->k,
        .a = p->a,
        .b = p->b,
        .c = p->c,
        .lda = p->lda,
        .ldb = p->ldb,
        .ldc = p->ldc,
        .type = b->precision == GT_BF16 ? GP_CUBLAS_BF16 : GP_CUBLAS_FP32,
        .c_type = p->half ? GP_CUBLAS_BF16 : GP_CUBLAS_FP32,
        .compute = b->precision == GT_TF32 ? GP_CUBLAS_COMPUTE_TF32
                                           : GP_CUBLAS_COMPUTE_FP32};
    char why[GP_CUBLAS_WHY];

    return said(gp_cublas_multiply(&b->cublas, &product, why), why);
}

#else
typedef int gt_no_blas; /* a translation unit is not empty */
#endif
