/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fold.c - dense sums, plain and with AVX2. Wider vectors gain nothing here:
 * memory is the limit.
 *
 * Payloads may lie at any address, and the sum often replaces one of its terms.
 * That defeats a compiler's vectorizer, which must suppose partial overlap; so
 * the loads and stores are written out. Each turn reads before it writes.
 */
#include "shard/fold.h"

#include <stdatomic.h>
#include <string.h>

static inline float
load(const float *p)
{
    float v;

    memcpy(&v, p, sizeof(v));
    return v;
}

static void
add_plain(float *out, const float *a, const float *b, float scale, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = (load(a + i) + load(b + i)) * scale;
}

static void
scale_plain(float *out, const float *a, float scale, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = load(a + i) * scale;
}

static void
copy_plain(float *out, const float *a, size_t count)
{
    memcpy(out, a, count * sizeof(*out));
}

typedef void (*copy_function)(float *, const float *, size_t);
typedef void (*add_function)(float *, const float *, const float *, float,
                             size_t);
typedef void (*scale_function)(float *, const float *, float, size_t);

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))

/* Multiplying by 1 changes nothing, not even the sign of zero, and costs
 * nothing beside the loads. */
AVX2 static void
add_avx2(float *out, const float *a, const float *b, float scale, size_t count)
{
    const __m256 factor = _mm256_set1_ps(scale);
    size_t i = 0;

    for (; i + 16 <= count; i += 16) {
        __m256 x =
            _mm256_add_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i));
        __m256 y = _mm256_add_ps(_mm256_loadu_ps(a + i + 8),
                                 _mm256_loadu_ps(b + i + 8));

        _mm256_storeu_ps(out + i, _mm256_mul_ps(x, factor));
        _mm256_storeu_ps(out + i + 8, _mm256_mul_ps(y, factor));
    }
    add_plain(out + i, a + i, b + i, scale, count - i);
}

/* As fast as memcpy() on processors; that moves chunks as strings of bytes,
 * which emulated processors do one by one. */
AVX2 static void
copy_avx2(float *out, const float *a, size_t count)
{
    size_t i = 0;

    for (; i + 16 <= count; i += 16) {
        __m256i x = _mm256_loadu_si256((const void *)(a + i));
        __m256i y = _mm256_loadu_si256((const void *)(a + i + 8));

        _mm256_storeu_si256((void *)(out + i), x);
        _mm256_storeu_si256((void *)(out + i + 8), y);
    }
    copy_plain(out + i, a + i, count - i);
}

AVX2 static void
scale_avx2(float *out, const float *a, float scale, size_t count)
{
    const __m256 factor = _mm256_set1_ps(scale);
    size_t i = 0;

    for (; i + 8 <= count; i += 8)
        _mm256_storeu_ps(out + i,
                         _mm256_mul_ps(_mm256_loadu_ps(a + i), factor));
    scale_plain(out + i, a + i, scale, count - i);
}
#endif

static add_function
choose_add(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2"))
        return add_avx2;
#endif
    return add_plain;
}

static copy_function
choose_copy(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2"))
        return copy_avx2;
#endif
    return copy_plain;
}

static scale_function
choose_scale(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2"))
        return scale_avx2;
#endif
    return scale_plain;
}

/* Two threads that choose at once choose alike; the store is idempotent. */
void
gp_fold_add(float *out, const float *a, const float *b, float scale,
            size_t count)
{
    static _Atomic(add_function) chosen;
    add_function f = atomic_load_explicit(&chosen, memory_order_relaxed);

    if (!f) {
        f = choose_add();
        atomic_store_explicit(&chosen, f, memory_order_relaxed);
    }
    f(out, a, b, scale, count);
}

void
gp_fold_copy(float *out, const float *a, size_t count)
{
    static _Atomic(copy_function) chosen;
    copy_function f = atomic_load_explicit(&chosen, memory_order_relaxed);

    if (!f) {
        f = choose_copy();
        atomic_store_explicit(&chosen, f, memory_order_relaxed);
    }
    f(out, a, count);
}

void
gp_fold_scale(float *out, const float *a, float scale, size_t count)
{
    static _Atomic(scale_function) chosen;
    scale_function f = atomic_load_explicit(&chosen, memory_order_relaxed);

    if (!f) {
        f = choose_scale();
        atomic_store_explicit(&chosen, f, memory_order_relaxed);
    }
    f(out, a, scale, count);
}
