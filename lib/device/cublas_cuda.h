/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cublas_cuda.h - cuBLAS, loaded and never linked; the library and the trainer
 * are compiled with it, each for itself.
 *
 * The few functions and numbers of its interface that are needed are declared
 * here, so that a build needs none of its headers; they are the same in
 * versions 11 to 13.
 */
#ifndef GP_CUBLAS_CUDA_H
#define GP_CUBLAS_CUDA_H

#include <gradpush/gradpush.h>

/* cublasStatus_t and its like: the numbers that cross the interface. */
enum { GP_CUBLAS_OK = 0, GP_CUBLAS_NO_MEMORY = 3 };
enum { GP_CUBLAS_N = 0, GP_CUBLAS_T = 1 };
enum { GP_CUBLAS_FP32 = 0, GP_CUBLAS_BF16 = 14 };
enum {
    GP_CUBLAS_COMPUTE_FP32 = 68,
    GP_CUBLAS_COMPUTE_PEDANTIC = 69,
    GP_CUBLAS_COMPUTE_TF32 = 77
};
enum { GP_CUBLAS_ANY_ALGORITHM = -1 };

/* What NVIDIA recommends for compute capability 9.0. */
#define GP_CUBLAS_WORKSPACE ((size_t)32 << 20)

#define GP_CUBLAS_FUNCTIONS(X)                                                 \
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

typedef struct gp_cublas {
    void *library, *handle;
    int version;
#define GP_CUBLAS_MEMBER(name, type, arguments) type(*name) arguments;
    GP_CUBLAS_FUNCTIONS(GP_CUBLAS_MEMBER)
#undef GP_CUBLAS_MEMBER
} gp_cublas;

#define GP_CUBLAS_WHY 256

/* The newest cuBLAS here that works with this driver, and a handle of it, with
 * a context current. On failure *out is untouched, and `why` says what to
 * install. What is loaded stays loaded: it has threads and memory of its own.
 */
gp_status gp_cublas_open(gp_cublas *out, char why[GP_CUBLAS_WHY]);
void gp_cublas_close(gp_cublas *blas); /* again: nothing */

/* Whether there is one at all. */
gp_status gp_cublas_check(char why[GP_CUBLAS_WHY]);

/* Work goes to the stream from here on. With a workspace, of
 * GP_CUBLAS_WORKSPACE bytes, nothing is atomic: then results are the same bits
 * in every run, which cuBLAS promises for one version, one kind of device and
 * one stream. */
gp_status gp_cublas_use(gp_cublas *blas, void *stream, void *workspace,
                        char why[GP_CUBLAS_WHY]);

/* c (m x n) = op(a) (m x k) op(b) (k x n), all column-major. */
typedef struct gp_cublas_product {
    int ta, tb;
    size_t m, n, k;
    const void *a, *b;
    void *c;
    size_t lda, ldb, ldc;
    int type, c_type; /* of the factors, and of c */
    int compute;
} gp_cublas_product;

gp_status gp_cublas_multiply(const gp_cublas *blas, const gp_cublas_product *p,
                             char why[GP_CUBLAS_WHY]);

/* Where functions come from instead of a library, in tests. */
extern void *(*gp_cublas_resolve)(const char *symbol);

#endif
