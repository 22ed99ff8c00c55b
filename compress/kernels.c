/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernels.c - chooses the kernels for this machine, and the engine's folds.
 *
 * The choice is one relaxed load per call. Two threads that make it first at
 * the same time store the same pointer.
 */
#include <stdatomic.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "compress/kernels.h"

static _Atomic(const gp_kernels *) chosen;

#if defined(__x86_64__)
/* The compilers' feature test does not know F16C everywhere. */
static bool
has_f16c(void)
{
    unsigned a, b, c, d;

    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

static const gp_kernels *
kernels_of(gp_simd level)
{
    bool avx2 = __builtin_cpu_supports("avx2") && has_f16c();

    if (level == GP_SIMD_SCALAR)
        return &gp_kernels_scalar;
    if (level == GP_SIMD_AVX2 && avx2)
        return &gp_kernels_avx2;
    if (level == GP_SIMD_AVX512 && avx2 && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl"))
        return &gp_kernels_avx512;
    return NULL;
}
#else
static const gp_kernels *
kernels_of(gp_simd level)
{
    return level == GP_SIMD_SCALAR ? &gp_kernels_scalar : NULL;
}
#endif

static const gp_kernels *
choose(void)
{
    const gp_kernels *best = NULL;

    for (int level = GP_SIMD_LEVELS - 1; !best; level--)
        best = kernels_of((gp_simd)level);
    atomic_store_explicit(&chosen, best, memory_order_relaxed);
    return best;
}

const gp_kernels *
gp_kernels_get(void)
{
    const gp_kernels *kernels =
        atomic_load_explicit(&chosen, memory_order_relaxed);

    return kernels ? kernels : choose();
}

gp_simd
gp_simd_get(void)
{
    return gp_kernels_get()->level;
}

bool
gp_simd_set(gp_simd level)
{
    const gp_kernels *kernels = kernels_of(level);

    if (kernels)
        atomic_store_explicit(&chosen, kernels, memory_order_relaxed);
    return kernels != NULL;
}

const char *
gp_simd_name(gp_simd level)
{
    static const char *const names[GP_SIMD_LEVELS] = {"scalar", "avx2",
                                                      "avx512"};

    return names[level];
}

void
gp_add_fp32(float *acc, const float *src, size_t n)
{
    gp_kernels_get()->add(acc, src, n);
}

void
gp_scale_fp32(float *x, float factor, size_t n)
{
    gp_kernels_get()->scale(x, factor, n);
}

void
gp_fp32_to_fp16(void *out, const float *in, size_t n)
{
    gp_kernels_get()->fp16.encode(in, out, n);
}

void
gp_fp16_to_fp32(float *out, const void *in, size_t n)
{
    gp_kernels_get()->fp16.decode(in, out, n);
}

void
gp_fp32_to_bf16(void *out, const float *in, size_t n)
{
    gp_kernels_get()->bf16.encode(in, out, n);
}

void
gp_bf16_to_fp32(float *out, const void *in, size_t n)
{
    gp_kernels_get()->bf16.decode(in, out, n);
}
