/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blas_cuda.c - matrix products on CUDA devices, by a cuBLAS that is loaded by
 * the first who asks.
 *
 * A device has one handle with a workspace of its own, which all streams share:
 * so products on two streams must not run at the same time, and one of another
 * stream waits for the last one.
 */
#include "base/base.h"

#ifdef GP_HAVE_CUDA

#include <stdlib.h>

#include "device/cublas_cuda.h"
#include "device/driver_cuda.h"

struct gp_cuda_blas {
    gp_cublas cublas;
    CUdeviceptr workspace;
    CUevent last; /* product */
    void *stream; /* of it */
    bool used;
};

static gp_status
said(gp_status status, const char *why)
{
    return status == GP_OK ? GP_OK : gp_fail(status, "%s", why);
}

/* With the device's context current. */
static void
close_blas(struct gp_cuda_blas *b)
{
    gp_cublas_close(&b->cublas);
    if (b->workspace)
        gp_cuda.cuMemFree_(b->workspace);
    if (b->last)
        gp_cuda.cuEventDestroy_(b->last);
    free(b);
}

static gp_status
open_blas(gp_cuda_device *d)
{
    struct gp_cuda_blas *b = calloc(1, sizeof(*b));
    char why[GP_CUBLAS_WHY];
    CUresult result;
    gp_status status;

    if (!b)
        return gp_fail(GP_ERR_NO_MEMORY, "out of memory");
    status = said(gp_cublas_open(&b->cublas, why), why);
    if (status == GP_OK) {
        result = gp_cuda.cuMemAlloc_(&b->workspace, GP_CUBLAS_WORKSPACE);
        if (result == CUDA_SUCCESS)
            result = gp_cuda.cuEventCreate_(&b->last, CU_EVENT_DISABLE_TIMING);
        if (result != CUDA_SUCCESS)
            status = gp_cuda_failed(result, "workspace of cuBLAS");
    }
    if (status == GP_OK)
        d->blas = b;
    else
        close_blas(b);
    return status;
}

void
gp_cuda_blas_close(gp_cuda_device *d)
{
    if (!d->blas || gp_cuda_enter(&d->base) != GP_OK)
        return;
    close_blas(d->blas);
    d->blas = NULL;
    gp_cuda_pop();
}

gp_status
gp_cuda_multiplies(gp_device *device)
{
    gp_cuda_device *d = gp_cuda_of(device);
    gp_status status = gp_cuda_enter(device);

    if (status != GP_OK)
        return status;
    pthread_mutex_lock(&d->lock);
    if (!d->blas)
        status = open_blas(d);
    pthread_mutex_unlock(&d->lock);
    gp_cuda_pop();
    return status;
}

/* The handle works on the stream from here on. */
static gp_status
take_stream(struct gp_cuda_blas *b, void *stream)
{
    char why[GP_CUBLAS_WHY];
    CUresult result = CUDA_SUCCESS;
    gp_status status;

    if (b->used && b->stream == stream && stream != GP_STREAM_PER_THREAD)
        return GP_OK;
    if (b->used)
        result = gp_cuda.cuStreamWaitEvent_(stream, b->last, 0);
    if (result != CUDA_SUCCESS)
        return gp_cuda_failed(result, "cuStreamWaitEvent");
    status = said(
        gp_cublas_use(&b->cublas, stream, (void *)(uintptr_t)b->workspace, why),
        why);
    b->stream = stream;
    b->used = status == GP_OK;
    return status;
}

static gp_status
multiply(struct gp_cuda_blas *b, const gp_product *p, void *stream)
{
    const gp_cublas_product product = {.ta = p->ta ? GP_CUBLAS_T : GP_CUBLAS_N,
                                       .tb = p->tb ? GP_CUBLAS_T : GP_CUBLAS_N,
                                       .m = p->m,
                                       .n = p->n,
                                       .k = p->k,
                                       .a = p->a,
                                       .b = p->b,
                                       .c = p->c,
                                       .lda = p->lda,
                                       .ldb = p->ldb,
                                       .ldc = p->ldc,
                                       .type = GP_CUBLAS_FP32,
                                       .c_type = GP_CUBLAS_FP32,
                                       .compute = GP_CUBLAS_COMPUTE_PEDANTIC};
    char why[GP_CUBLAS_WHY];
    CUresult result;
    gp_status status = take_stream(b, stream);

    if (status != GP_OK)
        return status;
    status = said(gp_cublas_multiply(&b->cublas, &product, why), why);
    if (status != GP_OK)
        return status;
    result = gp_cuda.cuEventRecord_(b->last, stream);
    return result == CUDA_SUCCESS ? GP_OK
                                  : gp_cuda_failed(result, "cuEventRecord");
}

gp_status
gp_cuda_multiply(gp_device *device, const gp_product *product, void *stream)
{
    gp_cuda_device *d = gp_cuda_of(device);
    gp_status status = gp_cuda_multiplies(device);

    if (status == GP_OK)
        status = gp_cuda_enter(device);
    if (status != GP_OK)
        return status;
    pthread_mutex_lock(&d->lock);
    status = multiply(d->blas, product, stream);
    pthread_mutex_unlock(&d->lock);
    gp_cuda_pop();
    return status;
}

#endif
