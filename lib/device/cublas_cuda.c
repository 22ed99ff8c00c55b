/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cublas_cuda.c - matrix products by cuBLAS.
 *
 * Nothing of either program's own is used here: the trainer sees the library's
 * public interface only.
 */
#include "device/cublas_cuda.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define LIBRARIES 3

void *(*gp_cublas_resolve)(const char *symbol);

static const char *const libraries[LIBRARIES] = {
    "libcublas.so.13", "libcublas.so.12", "libcublas.so.11"};

/* The first from a place on that is here; *at is its place. */
static void *
load(size_t from, size_t *at)
{
    void *library = NULL;

    for (size_t i = from; i < LIBRARIES && !library; i++) {
        library = dlopen(libraries[i], RTLD_NOW | RTLD_LOCAL);
        *at = i;
    }
    return library;
}

static gp_status
missing(char why[GP_CUBLAS_WHY])
{
    snprintf(why, GP_CUBLAS_WHY,
             "cuBLAS cannot be loaded: no libcublas.so.13, .12 or .11; install "
             "it (Debian, Ubuntu: libcublas-12-6; pip: nvidia-cublas-cu12) and "
             "set LD_LIBRARY_PATH to its folder");
    return GP_ERR_UNSUPPORTED;
}

gp_status
gp_cublas_check(char why[GP_CUBLAS_WHY])
{
    size_t at;

    return gp_cublas_resolve || load(0, &at) ? GP_OK : missing(why);
}

static gp_status
failed(int status, const char *call, char why[GP_CUBLAS_WHY])
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

    if (status == GP_CUBLAS_OK)
        return GP_OK;
    if (status > 0 && status < (int)(sizeof(names) / sizeof(*names)) &&
        names[status])
        name = names[status];
    snprintf(why, GP_CUBLAS_WHY, "%s: %s (%d)", call, name, status);
    return status == GP_CUBLAS_NO_MEMORY ? GP_ERR_NO_MEMORY : GP_ERR_SYSTEM;
}

static gp_status
find_functions(gp_cublas *b, const char *name, char why[GP_CUBLAS_WHY])
{
    void *function;

#define FIND(symbol, type, arguments)                                          \
    function = gp_cublas_resolve ? gp_cublas_resolve(#symbol)                  \
                                 : dlsym(b->library, #symbol);                 \
    if (!function) {                                                           \
        snprintf(why, GP_CUBLAS_WHY,                                           \
                 "%s has no " #symbol ": install cuBLAS 11.2 or newer", name); \
        return GP_ERR_UNSUPPORTED;                                             \
    }                                                                          \
    memcpy(&b->symbol, &function, sizeof(function));
    GP_CUBLAS_FUNCTIONS(FIND)
#undef FIND
    return GP_OK;
}

static gp_status
try_library(gp_cublas *b, const char *name, char why[GP_CUBLAS_WHY])
{
    gp_status status = find_functions(b, name, why);

    if (status != GP_OK)
        return status;
    status = failed(b->cublasCreate_v2(&b->handle), "cublasCreate", why);
    if (status == GP_OK)
        (void)b->cublasGetVersion_v2(b->handle, &b->version);
    return status;
}

gp_status
gp_cublas_open(gp_cublas *out, char why[GP_CUBLAS_WHY])
{
    gp_status status = missing(why);

    for (size_t at = 0; at < LIBRARIES; at++) {
        gp_cublas b = {.version = 0};

        if (!gp_cublas_resolve) {
            b.library = load(at, &at);
            if (!b.library)
                break;
        }
        status = try_library(&b, libraries[at], why);
        if (status == GP_OK) {
            *out = b;
            break;
        }
    }
    return status;
}

void
gp_cublas_close(gp_cublas *b)
{
    if (b->handle)
        b->cublasDestroy_v2(b->handle);
    b->handle = NULL;
}

/* The stream first: it takes away a workspace. */
gp_status
gp_cublas_use(gp_cublas *b, void *stream, void *workspace,
              char why[GP_CUBLAS_WHY])
{
    gp_status status = failed(b->cublasSetStream_v2(b->handle, stream),
                              "cublasSetStream", why);

    if (status == GP_OK)
        status = failed(b->cublasSetAtomicsMode(b->handle, !workspace),
                        "cublasSetAtomicsMode", why);
    if (status == GP_OK && workspace)
        status = failed(
            b->cublasSetWorkspace_v2(b->handle, workspace, GP_CUBLAS_WORKSPACE),
            "cublasSetWorkspace", why);
    return status;
}

gp_status
gp_cublas_multiply(const gp_cublas *b, const gp_cublas_product *p,
                   char why[GP_CUBLAS_WHY])
{
    static const float one = 1, zero = 0;
    bool fits = p->m <= INT_MAX && p->n <= INT_MAX && p->k <= INT_MAX &&
                p->lda <= INT_MAX && p->ldb <= INT_MAX && p->ldc <= INT_MAX;

    if (!fits) {
        snprintf(why, GP_CUBLAS_WHY,
                 "a product of %zu x %zu x %zu is too large", p->m, p->k, p->n);
        return GP_ERR_TOO_LARGE;
    }
    return failed(b->cublasGemmEx(b->handle, p->ta, p->tb, (int)p->m, (int)p->n,
                                  (int)p->k, &one, p->a, p->type, (int)p->lda,
                                  p->b, p->type, (int)p->ldb, &zero, p->c,
                                  p->c_type, (int)p->ldc, p->compute,
                                  GP_CUBLAS_ANY_ALGORITHM),
                  "cublasGemmEx", why);
}
