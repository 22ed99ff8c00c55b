/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reduce.c - the reductions: a scalar reference, and vectors that hold the same
 * 16 partial sums. A product of two fp32 numbers is exact as a double, so only
 * the order of additions matters.
 */
#include <math.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "compress/kernels.h"
#include "compress/reduce.h"

#define LANES 16

typedef enum sum_of { MAGNITUDES, PRODUCTS } sum_of;

static double
by_halves(double *p)
{
    for (size_t width = LANES / 2; width; width /= 2)
        for (size_t j = 0; j < width; j++)
            p[j] += p[j + width];
    return p[0];
}

#if defined(__x86_64__)
#define AVX2   __attribute__((target("avx2")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx2")))
#define INLINE static inline __attribute__((always_inline))

AVX2 INLINE __m256d
term_avx2(sum_of what, const float *x, const float *y)
{
    __m128 a = _mm_loadu_ps(x);

    if (what == MAGNITUDES)
        return _mm256_cvtps_pd(_mm_andnot_ps(_mm_set1_ps(-0.0f), a));
    return _mm256_mul_pd(_mm256_cvtps_pd(a), _mm256_cvtps_pd(_mm_loadu_ps(y)));
}

AVX2 INLINE void
sums_avx2(sum_of what, const float *x, const float *y, size_t n, double *p)
{
    __m256d s[4];

    for (int j = 0; j < 4; j++)
        s[j] = _mm256_setzero_pd();
    for (size_t i = 0; i < n; i += LANES)
        for (size_t j = 0; j < 4; j++)
            s[j] = _mm256_add_pd(s[j],
                                 term_avx2(what, x + i + 4 * j, y + i + 4 * j));
    for (int j = 0; j < 4; j++)
        _mm256_storeu_pd(p + 4 * j, s[j]);
}

AVX2 static void
magnitudes_avx2(const float *x, size_t n, double *p)
{
    sums_avx2(MAGNITUDES, x, x, n, p);
}

AVX2 static void
products_avx2(const float *x, const float *y, size_t n, double *p)
{
    sums_avx2(PRODUCTS, x, y, n, p);
}

AVX512 INLINE __m512d
term_avx512(sum_of what, const float *x, const float *y)
{
    __m256 a = _mm256_loadu_ps(x);

    if (what == MAGNITUDES)
        return _mm512_cvtps_pd(_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a));
    return _mm512_mul_pd(_mm512_cvtps_pd(a),
                         _mm512_cvtps_pd(_mm256_loadu_ps(y)));
}

AVX512 INLINE void
sums_avx512(sum_of what, const float *x, const float *y, size_t n, double *p)
{
    __m512d low = _mm512_setzero_pd(), high = low;

    for (size_t i = 0; i < n; i += LANES) {
        low = _mm512_add_pd(low, term_avx512(what, x + i, y + i));
        high = _mm512_add_pd(high, term_avx512(what, x + i + 8, y + i + 8));
    }
    _mm512_storeu_pd(p, low);
    _mm512_storeu_pd(p + 8, high);
}

AVX512 static void
magnitudes_avx512(const float *x, size_t n, double *p)
{
    sums_avx512(MAGNITUDES, x, x, n, p);
}

AVX512 static void
products_avx512(const float *x, const float *y, size_t n, double *p)
{
    sums_avx512(PRODUCTS, x, y, n, p);
}

/* n is a multiple of LANES. */
static void
sums_whole(sum_of what, const float *x, const float *y, size_t n, double *p)
{
    bool wide = gp_simd_get() == GP_SIMD_AVX512;

    if (what == MAGNITUDES)
        (wide ? magnitudes_avx512 : magnitudes_avx2)(x, n, p);
    else
        (wide ? products_avx512 : products_avx2)(x, y, n, p);
}

/* Magnitudes have no sign bit, so signed comparison orders them. */
AVX2 static uint32_t
largest_avx2(const float *x, size_t n)
{
    const __m256i magnitude = _mm256_set1_epi32(GP_FP32_MAGNITUDE);
    __m256i m[4];
    __m128i h;

    for (int j = 0; j < 4; j++)
        m[j] = _mm256_setzero_si256();
    for (size_t i = 0; i < n; i += 32)
        for (size_t j = 0; j < 4; j++) {
            __m256i b = _mm256_loadu_si256((const void *)(x + i + 8 * j));

            m[j] = _mm256_max_epi32(m[j], _mm256_and_si256(b, magnitude));
        }
    m[0] = _mm256_max_epi32(_mm256_max_epi32(m[0], m[1]),
                            _mm256_max_epi32(m[2], m[3]));
    h = _mm_max_epi32(_mm256_castsi256_si128(m[0]),
                      _mm256_extracti128_si256(m[0], 1));
    h = _mm_max_epi32(h, _mm_shuffle_epi32(h, _MM_SHUFFLE(1, 0, 3, 2)));
    h = _mm_max_epi32(h, _mm_shuffle_epi32(h, _MM_SHUFFLE(2, 3, 0, 1)));
    return (uint32_t)_mm_cvtsi128_si32(h);
}
#endif

uint32_t
gp_max_magnitude(const float *x, size_t n)
{
    uint32_t most = 0;
    size_t i = 0;

#if defined(__x86_64__)
    if (gp_simd_get() >= GP_SIMD_AVX2) {
        i = n & ~(size_t)31;
        most = largest_avx2(x, i);
    }
#endif
    for (; i < n; i++) {
        uint32_t m = gp_bits(x[i]) & GP_FP32_MAGNITUDE;

        most = m > most ? m : most;
    }
    return most;
}

static double
sum(sum_of what, const float *x, const float *y, size_t n)
{
    double p[LANES] = {0};
    size_t i = 0;

#if defined(__x86_64__)
    if (gp_simd_get() >= GP_SIMD_AVX2) {
        i = n & ~(size_t)(LANES - 1);
        sums_whole(what, x, y, i, p);
    }
#endif
    for (; i < n; i++)
        p[i % LANES] += what == MAGNITUDES ? fabs((double)x[i])
                                           : (double)x[i] * (double)y[i];
    return by_halves(p);
}

double
gp_sum_magnitudes(const float *x, size_t n)
{
    return sum(MAGNITUDES, x, x, n);
}

double
gp_sum_squares(const float *x, size_t n)
{
    return sum(PRODUCTS, x, x, n);
}

double
gp_dot(const float *x, const float *y, size_t n)
{
    return sum(PRODUCTS, x, y, n);
}
