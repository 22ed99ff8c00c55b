/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blas_cuda.c - matrix products by cuBLAS.
 */
#ifdef GP_HAVE_CUDA

#include "blas_cuda.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

/* What NVIDIA recommends for compute capability 9.0. */
#define WORKSPACE ((size_t)32 << 20)

struct gt_blas {
    gt_precision precision;
    void *library, *handle;
    int version;
#define MEMBER(name, type, arguments) type(*name) arguments;
    GT_CUBLAS_FUNCTIONS(MEMBER)
#undef MEMBER
};

static const char *const libraries[] = {"libcublas.so.13", "libcublas.so.12",
                                        "libcublas.so.11"};

/* The first from a place on that is here; *at is its place. Stays loaded: it
 * keeps threads and memory of its own. */
static void *
load(size_t from, size_t *at)
{
    void *library = NULL;

    for (size_t i = from; i < GT_COUNT_OF(libraries) && !library; i++) {
        library = dlopen(libraries[i], RTLD_NOW | RTLD_LOCAL);
        *at = i;
    }
    return library;
}

static gp_status
missing(void)
{
    return gt_fail(GP_ERR_UNSUPPORTED,
                   "cuBLAS cannot be loaded: no libcublas.so.13, .12 or .11; "
                   "install it (Debian, Ubuntu: libcublas-12-6; pip: "
                   "nvidia-cublas-cu12) and set LD_LIBRARY_PATH to its folder, "
                   "or compute with --device cpu");
}

gp_status
gt_blas_check(void)
{
    size_t at;

    return load(0, &at) ? GP_OK : missing();
}

static gp_status
failed(int status, const char *call)
{
    static const char *const names[] = {[1] = "CUBLAS_STATUS_NOT_INITIALIZED",
                                        [3] = "CUBLAS_STATUS_ALLOC_FAILED",
                                        [7] = "CUBLAS_STATUS_INVALID_VALUE",
                                        [8] = "CUBLAS_STATUS_ARCH_MISMATCH",
                                        [11] = "CUBLAS_STATUS_MAPPING_ERROR",
                                        [13] = "CUBLAS_STATUS_EXECUTION_FAILED",
                                        [14] = "CUBLAS_STATUS_INTERNAL_ERROR",
                                        [15] = "CUBLAS_STATUS_NOT_SUPPORTED",
                                        [16] = "CUBLAS_STATUS_LICENSE_ERROR"};
    const char *name = "an unknown status";

    if (status > 0 && status < (int)GT_COUNT_OF(names) && names[status])
        name = names[status];
    return gt_fail(status == GT_CUBLAS_NO_MEMORY ? GP_ERR_NO_MEMORY
                                                 : GP_ERR_SYSTEM,
                   "%s: %s (%d)", call, name, status);
}

static gp_status
find_functions(gt_blas *b, const char *library)
{
    void *function;

#define FIND(name, type, arguments)                                         \
    function = dlsym(b->library, #name);                                    \
    if (!function)                                                          \
        return gt_fail(GP_ERR_UNSUPPORTED,                                  \
                       "%s has no " #name ": install cuBLAS 11.2 or newer", \
                       library);                                            \
    memcpy(&b->name, &function, sizeof(function));
    GT_CUBLAS_FUNCTIONS(FIND)
#undef FIND
    return GP_OK;
}

/* Takes the newest of the libraries here that works with this driver. */
static gp_status
find_library(gt_blas *b)
{
    gp_status status = missing();

    for (size_t at = 0; at < GT_COUNT_OF(libraries); at++) {
        int result;

        b->library = load(at, &at);
        if (!b->library)
            break;
        status = find_functions(b, libraries[at]);
        if (status == GP_OK) {
            result = b->cublasCreate_v2(&b->handle);
            if (result == GT_CUBLAS_OK)
                return GP_OK;
            b->handle = NULL;
            status = failed(result, "cublasCreate");
        }
    }
    return status;
}

/* The stream first: it takes away a workspace. */
static gp_status
set_up(gt_blas *b, gt_cuda *cuda, bool deterministic)
{
    void *space = NULL;
    int result = b->cublasSetStream_v2(b->handle, cuda->stream);
    gp_status status;

    if (result != GT_CUBLAS_OK)
        return failed(result, "cublasSetStream");
    (void)b->cublasGetVersion_v2(b->handle, &b->version);
    result = b->cublasSetAtomicsMode(b->handle, !deterministic);
    if (result != GT_CUBLAS_OK)
        return failed(result, "cublasSetAtomicsMode");
    if (!deterministic)
        return GP_OK;
    status = gt_cuda_alloc(cuda, WORKSPACE, "cuBLAS", &space);
    if (status != GP_OK)
        return status;
    result = b->cublasSetWorkspace_v2(b->handle, space, WORKSPACE);
    return result == GT_CUBLAS_OK ? GP_OK
                                  : failed(result, "cublasSetWorkspace");
}

gp_status
gt_blas_open(gt_cuda *cuda, gt_precision precision, bool deterministic,
             gt_blas **out)
{
    gt_blas *b = calloc(1, sizeof(*b));
    gp_status status;

    if (!b)
        return gt_fail(GP_ERR_NO_MEMORY, "out of memory");
    b->precision = precision;
    status = find_library(b);
    if (status == GP_OK)
        status = set_up(b, cuda, deterministic);
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
    if (!b)
        return;
    if (b->handle)
        b->cublasDestroy_v2(b->handle);
    free(b);
}

int
gt_blas_version(const gt_blas *b)
{
    return b->version;
}

gp_status
gt_blas_multiply(gt_blas *b, const gt_product *p)
{
    static const float one = 1, zero = 0;
    int type = b->precision == GT_BF16 ? GT_CUBLAS_BF16 : GT_CUBLAS_FP32;
    int compute = b->precision == GT_TF32 ? GT_CUBLAS_COMPUTE_TF32
                                          : GT_CUBLAS_COMPUTE_FP32;
    int result = b->cublasGemmEx(b->handle, p->ta, p->tb, (int)p->m, (int)p->n,
                                 (int)p->k, &one, p->a, type, (int)p->lda, p->b,
                                 type, (int)p->ldb, &zero, p->c,
                                 p->half ? GT_CUBLAS_BF16 : GT_CUBLAS_FP32,
                                 (int)p->ldc, compute, GT_CUBLAS_ANY_ALGORITHM);

    if (result != GT_CUBLAS_OK)
        return failed(result, "cublasGemmEx");
    return GP_OK;
}

#else
typedef int gt_no_blas; /* a translation unit is not empty */
#endif
