/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fold.c - each loop compiled twice: plain and for AVX2. Wider vectors gain
 * nothing here, memory is the limit.
 *
 * Payloads may lie at any address, so loads are not assumed to be aligned:
 * floats are read through memcpy, which compiles to plain unaligned loads.
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

static inline __attribute__((always_inline)) void
add_loop(float *out, const float *a, const float *b, float scale, size_t count)
{
    if (scale == 1.0f)
        for (size_t i = 0; i < count; i++)
            out[i] = load(a + i) + load(b + i);
    else
        for (size_t i = 0; i < count; i++)
            out[i] = (load(a + i) + load(b + i)) * scale;
}

static inline __attribute__((always_inline)) void
scale_loop(float *out, const float *a, float scale, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = load(a + i) * scale;
}

typedef void (*add_function)(float *, const float *, const float *, float,
                             size_t);
typedef void (*scale_function)(float *, const float *, float, size_t);

#if defined(__x86_64__)
__attribute__((target("avx2"))) static void
add_avx2(float *out, const float *a, const float *b, float scale, size_t count)
{
    add_loop(out, a, b, scale, count);
}

__attribute__((target("avx2"))) static void
scale_avx2(float *out, const float *a, float scale, size_t count)
{
    scale_loop(out, a, scale, count);
}
#endif

static void
add_plain(float *out, const float *a, const float *b, float scale, size_t count)
{
    add_loop(out, a, b, scale, count);
}

static void
scale_plain(float *out, const float *a, float scale, size_t count)
{
    scale_loop(out, a, scale, count);
}

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
