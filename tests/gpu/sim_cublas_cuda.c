/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_cublas_cuda.c - cuBLAS for the simulated driver.
 *
 * The functions that we use, as strict as the documentation is: a
 * handle has to have a stream, whatever a product reads and writes has to lie
 * in one block of the device's memory and on 16 bytes, leading dimensions have
 * to be large enough, and types have to be a combination that cuBLAS has. What
 * is wrong is said on standard error and gives the status that cuBLAS gives.
 *
 * A product is queued on the stream like any work. Sums are OpenBLAS's in fp32
 * where the file is a library (GP_SIM_CBLAS), else plain ones, of factors
 * rounded to what the precision keeps of them.
 *
 *     SIM_CUBLAS=fail=cublasGemmEx,nth=5,result=14    (nth=0: every call)
 */
#ifdef GP_SIM_CBLAS
#include <cblas.h>
#endif
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device/cublas_cuda.h"
#include "tests/gpu/sim_cuda.h"

enum {
    NOT_INITIALIZED = 1,
    INVALID_VALUE = 7,
    NOT_SUPPORTED = 15,
    MAGIC = 0x63754253,
    WORKSPACE_LEAST = 4 << 20
};

typedef struct handle {
    uint32_t magic;
    void *stream;
    void *workspace;
    bool has_stream, atomics;
} handle;

typedef struct product {
    int ta, tb, m, n, k, lda, ldb, ldc;
    int type, c_type, compute;
    const void *a, *b;
    void *c;
} product;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    char function[64];
    unsigned left;
    int result;
    bool always, read;
} fault;
static uint64_t products;
static int handles;
static struct {
    int ta, tb, m, n, k;
} seen[64]; /* shapes, round and round */

#define EXPORTED                       __attribute__((visibility("default")))
#define DECLARE(name, type, arguments) EXPORTED type name arguments;
GP_CUBLAS_FUNCTIONS(DECLARE)

/* --- faults --- */

static void
read_environment(void)
{
    const char *text = getenv("SIM_CUBLAS"), *at;

    if (fault.read || !text)
        return;
    fault.read = true;
    at = strstr(text, "fail=");
    if (at)
        snprintf(fault.function, sizeof(fault.function), "%.*s",
                 (int)strcspn(at + 5, ","), at + 5);
    at = strstr(text, "nth=");
    fault.left = at ? (unsigned)strtoul(at + 4, NULL, 10) : 1;
    at = strstr(text, "result=");
    fault.result = at ? (int)strtoul(at + 7, NULL, 10) : 14;
    fault.always = fault.left == 0;
}

static int
fails(const char *function)
{
    int out = 0;

    pthread_mutex_lock(&lock);
    read_environment();
    if (strcmp(fault.function, function) == 0 &&
        (fault.always || (fault.left > 0 && --fault.left == 0)))
        out = fault.result;
    pthread_mutex_unlock(&lock);
    return out;
}

void
gp_sim_cublas_fail(const char *function, unsigned n, int result)
{
    pthread_mutex_lock(&lock);
    fault.read = true;
    snprintf(fault.function, sizeof(fault.function), "%s", function);
    fault.left = n;
    fault.always = n == 0;
    fault.result = result;
    pthread_mutex_unlock(&lock);
}

uint64_t
gp_sim_cublas_products(void)
{
    uint64_t out;

    pthread_mutex_lock(&lock);
    out = products;
    pthread_mutex_unlock(&lock);
    return out;
}

int
gp_sim_cublas_handles(void)
{
    return handles;
}

static int
refuse(int status, const char *what)
{
    fprintf(stderr, "simulated cuBLAS: %s\n", what);
    return status;
}

static handle *
handle_of(void *h)
{
    handle *out = h;

    return out && out->magic == MAGIC ? out : NULL;
}

/* --- handles --- */

int
cublasCreate_v2(void **out)
{
    handle *h;
    int status = fails("cublasCreate_v2");

    if (status)
        return status;
    h = calloc(1, sizeof(*h));
    if (!h)
        return GP_CUBLAS_NO_MEMORY;
    h->magic = MAGIC;
    handles++;
    *out = h;
    return GP_CUBLAS_OK;
}

int
cublasDestroy_v2(void *h)
{
    if (!handle_of(h))
        return refuse(NOT_INITIALIZED, "cublasDestroy of no handle");
    handle_of(h)->magic = 0;
    handles--;
    free(h);
    return GP_CUBLAS_OK;
}

int
cublasGetVersion_v2(void *h, int *version)
{
    if (!handle_of(h))
        return refuse(NOT_INITIALIZED, "cublasGetVersion of no handle");
    *version = 120000;
    return GP_CUBLAS_OK;
}

/* It takes away a workspace that was set before, as cuBLAS does. */
int
cublasSetStream_v2(void *h, void *stream)
{
    int status = fails("cublasSetStream_v2");

    if (status)
        return status;
    if (!handle_of(h))
        return refuse(NOT_INITIALIZED, "cublasSetStream of no handle");
    handle_of(h)->stream = stream;
    handle_of(h)->has_stream = true;
    handle_of(h)->workspace = NULL;
    return GP_CUBLAS_OK;
}

int
cublasSetWorkspace_v2(void *h, void *space, size_t bytes)
{
    int status = fails("cublasSetWorkspace_v2");

    if (status)
        return status;
    if (!handle_of(h))
        return refuse(NOT_INITIALIZED, "cublasSetWorkspace of no handle");
    if ((uintptr_t)space % 256 || bytes < WORKSPACE_LEAST ||
        !gp_sim_cuda_holds(space, bytes))
        return refuse(INVALID_VALUE, "a workspace that cannot be used");
    handle_of(h)->workspace = space;
    return GP_CUBLAS_OK;
}

int
cublasSetAtomicsMode(void *h, int allowed)
{
    int status = fails("cublasSetAtomicsMode");

    if (status)
        return status;
    if (!handle_of(h))
        return refuse(NOT_INITIALIZED, "cublasSetAtomicsMode of no handle");
    handle_of(h)->atomics = allowed;
    return GP_CUBLAS_OK;
}

/* --- products --- */

/* A factor as fp32, of what its precision keeps. */
static float
factor(const product *p, const void *at, size_t i)
{
    uint32_t bits;
    float x;

    if (p->type == GP_CUBLAS_BF16) {
        bits = (uint32_t)((const uint16_t *)at)[i] << 16;
        memcpy(&x, &bits, sizeof(x));
        return x;
    }
    x = ((const float *)at)[i];
    memcpy(&bits, &x, sizeof(bits));
    if (p->compute == GP_CUBLAS_COMPUTE_TF32 && (bits >> 23 & 0xff) != 0xff)
        bits = (bits + 0xfff + (bits >> 13 & 1)) & ~0x1fffu;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

static uint16_t
to_bf16(float x)
{
    uint32_t b;

    memcpy(&b, &x, sizeof(b));
    if ((b & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(b >> 16 | 0x40);
    return (uint16_t)((b + 0x7fff + (b >> 16 & 1)) >> 16);
}

/* A factor without gaps between its columns. What needs no conversion is
 * copied, here and below: ThreadSanitizer looks at each element that is read.
 */
static float *
unpack(const product *p, const void *from, int rows, int columns, int ld)
{
    float *out = malloc((size_t)rows * (size_t)columns * sizeof(float));
    bool exact =
        p->type == GP_CUBLAS_FP32 && p->compute != GP_CUBLAS_COMPUTE_TF32;

    for (int c = 0; out && c < columns; c++)
        if (exact)
            memcpy(out + (size_t)c * rows, (const float *)from + (size_t)c * ld,
                   (size_t)rows * sizeof(float));
        else
            for (int r = 0; r < rows; r++)
                out[(size_t)c * rows + r] = factor(p, from, (size_t)c * ld + r);
    return out;
}

#ifdef GP_SIM_CBLAS
static void
gemm(const product *p, const float *a, int lda, const float *b, int ldb,
     float *c)
{
    cblas_sgemm(CblasColMajor, p->ta ? CblasTrans : CblasNoTrans,
                p->tb ? CblasTrans : CblasNoTrans, p->m, p->n, p->k, 1, a, lda,
                b, ldb, 0, c, p->m);
}
#else
static void
gemm(const product *p, const float *a, int lda, const float *b, int ldb,
     float *c)
{
    for (int j = 0; j < p->n; j++)
        for (int i = 0; i < p->m; i++) {
            float sum = 0;

            for (int k = 0; k < p->k; k++)
                sum += a[p->ta ? (size_t)i * lda + k : (size_t)k * lda + i] *
                       b[p->tb ? (size_t)k * ldb + j : (size_t)j * ldb + k];
            c[(size_t)j * p->m + i] = sum;
        }
}
#endif

static void
multiply(void *argument)
{
    product *p = argument;
    int ar = p->ta ? p->k : p->m, ac = p->ta ? p->m : p->k;
    int br = p->tb ? p->n : p->k, bc = p->tb ? p->k : p->n;
    float *a = unpack(p, p->a, ar, ac, p->lda);
    float *b = unpack(p, p->b, br, bc, p->ldb);
    float *c = malloc((size_t)p->m * (size_t)p->n * sizeof(float));

    if (!a || !b || !c)
        abort();
    gemm(p, a, ar, b, br, c);
    for (int j = 0; j < p->n; j++) {
        const float *from = c + (size_t)j * p->m;
        size_t at = (size_t)j * p->ldc;

        if (p->c_type == GP_CUBLAS_BF16)
            for (int i = 0; i < p->m; i++)
                ((uint16_t *)p->c)[at + i] = to_bf16(from[i]);
        else
            memcpy((float *)p->c + at, from, (size_t)p->m * sizeof(float));
    }
    free(a);
    free(b);
    free(c);
    free(p);
}

/* A matrix of rows x columns with a leading dimension. */
static bool
is_matrix(const void *at, int type, int rows, int columns, int ld)
{
    size_t size = type == GP_CUBLAS_BF16 ? 2 : 4;

    return ld >= rows && (uintptr_t)at % 16 == 0 &&
           gp_sim_cuda_holds(at, ((size_t)(columns - 1) * ld + rows) * size);
}

static int
check(const handle *h, const product *p, const float *alpha, const float *beta,
      int b_type, int algorithm)
{
    bool half = p->type == GP_CUBLAS_BF16;

    if (!h->has_stream)
        return refuse(NOT_INITIALIZED, "a product on the default stream");
    if (!h->atomics && !h->workspace)
        return refuse(INVALID_VALUE, "deterministic without a workspace");
    if (p->m < 1 || p->n < 1 || p->k < 1 || p->ta > 1 || p->tb > 1)
        return refuse(INVALID_VALUE, "sizes of a product");
    if (*alpha != 1 || *beta != 0 || algorithm != GP_CUBLAS_ANY_ALGORITHM)
        return refuse(NOT_SUPPORTED, "what this one does not do");
    if (p->type != b_type || (!half && p->type != GP_CUBLAS_FP32) ||
        (p->c_type != GP_CUBLAS_FP32 && !half) ||
        (p->compute != GP_CUBLAS_COMPUTE_FP32 &&
         p->compute != GP_CUBLAS_COMPUTE_PEDANTIC &&
         (p->compute != GP_CUBLAS_COMPUTE_TF32 || half)))
        return refuse(NOT_SUPPORTED, "types of a product");
    if (!is_matrix(p->a, p->type, p->ta ? p->k : p->m, p->ta ? p->m : p->k,
                   p->lda) ||
        !is_matrix(p->b, p->type, p->tb ? p->n : p->k, p->tb ? p->k : p->n,
                   p->ldb) ||
        !is_matrix(p->c, p->c_type, p->m, p->n, p->ldc))
        return refuse(INVALID_VALUE, "a matrix of a product");
    return GP_CUBLAS_OK;
}

/* A kernel for each shape, which its first product loads. With the lock. */
static void
load_for(const product *p)
{
    static size_t next;

    for (size_t i = 0; i < sizeof(seen) / sizeof(*seen); i++)
        if (seen[i].ta == p->ta && seen[i].tb == p->tb && seen[i].m == p->m &&
            seen[i].n == p->n && seen[i].k == p->k)
            return;
    seen[next].ta = p->ta;
    seen[next].tb = p->tb;
    seen[next].m = p->m;
    seen[next].n = p->n;
    seen[next].k = p->k;
    next = (next + 1) % (sizeof(seen) / sizeof(*seen));
    gp_sim_cuda_load();
}

int
cublasGemmEx(void *h, int ta, int tb, int m, int n, int k, const void *alpha,
             const void *a, int a_type, int lda, const void *b, int b_type,
             int ldb, const void *beta, void *c, int c_type, int ldc,
             int compute, int algorithm)
{
    product p = {ta,  tb,     m,      n,       k, lda, ldb,
                 ldc, a_type, c_type, compute, a, b,   c};
    int status = fails("cublasGemmEx");
    product *queued;

    if (status)
        return status;
    if (!handle_of(h))
        return refuse(NOT_INITIALIZED, "cublasGemmEx of no handle");
    status = check(handle_of(h), &p, alpha, beta, b_type, algorithm);
    if (status)
        return status;
    queued = malloc(sizeof(*queued));
    if (!queued)
        return GP_CUBLAS_NO_MEMORY;
    *queued = p;
    pthread_mutex_lock(&lock);
    products++;
    load_for(&p);
    pthread_mutex_unlock(&lock);
    return gp_sim_cuda_call(handle_of(h)->stream, multiply, queued)
               ? GP_CUBLAS_NO_MEMORY
               : GP_CUBLAS_OK;
}

/* --- in a program --- */

static bool absent;

static void *
resolve(const char *symbol)
{
    static const struct {
        const char *name;
        void *function;
    } all[] = {
#define ENTRY(name, type, arguments) {#name, (void *)(uintptr_t)&name},
        GP_CUBLAS_FUNCTIONS(ENTRY)
#undef ENTRY
    };

    for (size_t i = 0; !absent && i < sizeof(all) / sizeof(*all); i++)
        if (strcmp(all[i].name, symbol) == 0)
            return all[i].function;
    return NULL;
}

void
gp_sim_cublas_install(bool there)
{
    absent = !there;
    gp_cublas_resolve = resolve;
}
