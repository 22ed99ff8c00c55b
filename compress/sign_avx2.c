/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sign_avx2.c - the one-bit loops over vectors of 8, two at a time so that the
 * 16 partial sums stay in step: movmskps gives the bits, a shift by lane moves
 * each to where a blend looks for it.
 */
#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#include "compress/kernels.h"
#include "compress/sign_kernels.h"

#define TARGET   __attribute__((target("avx2")))
#define VECTOR   TARGET static inline __attribute__((always_inline))
#define WHOLE(n) ((n) & ~(size_t)15)

/* Four vectors of 4 partial sums. */
typedef struct sums {
    __m256d part[4];
} sums;

VECTOR sums
load_sums(const double from[16])
{
    return (sums){{_mm256_loadu_pd(from), _mm256_loadu_pd(from + 4),
                   _mm256_loadu_pd(from + 8), _mm256_loadu_pd(from + 12)}};
}

VECTOR void
store_sums(double to[16], const sums *s)
{
    for (int j = 0; j < 4; j++)
        _mm256_storeu_pd(to + 4 * j, s->part[j]);
}

/* x holds elements 8 * half and the seven that follow, modulo 16. */
VECTOR void
add_to(sums *s, int half, __m256 x, bool square)
{
    __m256d low = _mm256_cvtps_pd(_mm256_castps256_ps128(x));
    __m256d high = _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1));

    if (square) {
        low = _mm256_mul_pd(low, low);
        high = _mm256_mul_pd(high, high);
    }
    s->part[2 * half] = _mm256_add_pd(s->part[2 * half], low);
    s->part[2 * half + 1] = _mm256_add_pd(s->part[2 * half + 1], high);
}

VECTOR uint32_t
largest(__m256i x)
{
    uint32_t lane[8], most = 0;

    _mm256_storeu_si256((__m256i *)lane, x);
    for (int j = 0; j < 8; j++)
        most = lane[j] > most ? lane[j] : most;
    return most;
}

/* Signs, absmax and sums of 8 elements. */
VECTOR uint8_t
scan_8(__m256 x, int half, gp_sign_sum what, float threshold, __m256i *most,
       sums *a, sums *b)
{
    __m256i m =
        _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(INT32_MAX));
    __m256 below = _mm256_cmp_ps(x, _mm256_set1_ps(threshold), _CMP_LT_OQ);

    *most = _mm256_max_epu32(*most, m);
    if (what == GP_SIGN_MAGNITUDES)
        add_to(a, half, _mm256_castsi256_ps(m), false);
    if (what == GP_SIGN_SQUARES)
        add_to(a, half, x, true);
    if (what == GP_SIGN_CLASSES) {
        add_to(a, half, _mm256_and_ps(below, x), false);
        add_to(b, half, _mm256_andnot_ps(below, x), false);
    }
    return (uint8_t)_mm256_movemask_ps(below);
}

VECTOR __m256
take(const float *source, float *residual, size_t i, bool feedback)
{
    __m256 x = _mm256_loadu_ps(source + i);

    if (feedback) {
        x = _mm256_add_ps(x, _mm256_loadu_ps(residual + i));
        _mm256_storeu_ps(residual + i, x);
    }
    return x;
}

VECTOR void
scan_as(const float *source, float *residual, size_t n, gp_sign_sum what,
        float threshold, uint8_t *bits, gp_sign_stats *stats, bool feedback)
{
    sums a = load_sums(stats->sums[0]), b = load_sums(stats->sums[1]);
    __m256i most = _mm256_set1_epi32((int)stats->most);
    size_t whole = WHOLE(n);

    for (size_t i = 0; i < whole; i += 16) {
        __m256 x = take(source, residual, i, feedback);
        __m256 y = take(source, residual, i + 8, feedback);

        bits[i / 8] = scan_8(x, 0, what, threshold, &most, &a, &b);
        bits[i / 8 + 1] = scan_8(y, 1, what, threshold, &most, &a, &b);
    }
    store_sums(stats->sums[0], &a);
    store_sums(stats->sums[1], &b);
    stats->most = largest(most);
    gp_sign_scalar.scan(source + whole, feedback ? residual + whole : NULL,
                        n - whole, what, threshold, bits + whole / 8, stats);
}

#define SCAN(name, what)                                                      \
    TARGET static void scan_##name(const float *source, float *residual,      \
                                   size_t n, float threshold, uint8_t *bits,  \
                                   gp_sign_stats *stats)                      \
    {                                                                         \
        if (residual)                                                         \
            scan_as(source, residual, n, what, threshold, bits, stats, true); \
        else                                                                  \
            scan_as(source, NULL, n, what, threshold, bits, stats, false);    \
    }

SCAN(nothing, GP_SIGN_NOTHING)
SCAN(magnitudes, GP_SIGN_MAGNITUDES)
SCAN(squares, GP_SIGN_SQUARES)
SCAN(classes, GP_SIGN_CLASSES)

static void
scan(const float *source, float *residual, size_t n, gp_sign_sum what,
     float threshold, uint8_t *bits, gp_sign_stats *stats)
{
    switch (what) {
    case GP_SIGN_NOTHING:
        scan_nothing(source, residual, n, threshold, bits, stats);
        break;
    case GP_SIGN_MAGNITUDES:
        scan_magnitudes(source, residual, n, threshold, bits, stats);
        break;
    case GP_SIGN_SQUARES:
        scan_squares(source, residual, n, threshold, bits, stats);
        break;
    case GP_SIGN_CLASSES:
        scan_classes(source, residual, n, threshold, bits, stats);
        break;
    }
}

/* Bit j of the byte as the top bit of lane j. */
VECTOR __m256
spread(uint8_t byte)
{
    const __m256i up = _mm256_setr_epi32(31, 30, 29, 28, 27, 26, 25, 24);

    return _mm256_castsi256_ps(_mm256_sllv_epi32(_mm256_set1_epi32(byte), up));
}

#define LEVELS \
    const __m256 l0 = _mm256_set1_ps(levels[0]), l1 = _mm256_set1_ps(levels[1])
#define LEVEL(i) _mm256_blendv_ps(l0, l1, spread(bits[(i) / 8]))

TARGET static void
paint(const uint8_t *bits, const float levels[2], float *target, size_t n)
{
    size_t whole = WHOLE(n);
    LEVELS;

    for (size_t i = 0; i < whole; i += 8)
        _mm256_storeu_ps(target + i, LEVEL(i));
    gp_sign_scalar.paint(bits + whole / 8, levels, target + whole, n - whole);
}

TARGET static void
paint_add(const uint8_t *bits, const float levels[2], float *target, size_t n)
{
    size_t whole = WHOLE(n);
    LEVELS;

    for (size_t i = 0; i < whole; i += 8)
        _mm256_storeu_ps(target + i,
                         _mm256_add_ps(_mm256_loadu_ps(target + i), LEVEL(i)));
    gp_sign_scalar.paint_add(bits + whole / 8, levels, target + whole,
                             n - whole);
}

TARGET static void
paint_sub(const uint8_t *bits, const float levels[2], float *u, size_t n)
{
    size_t whole = WHOLE(n);
    LEVELS;

    for (size_t i = 0; i < whole; i += 8)
        _mm256_storeu_ps(u + i,
                         _mm256_sub_ps(_mm256_loadu_ps(u + i), LEVEL(i)));
    gp_sign_scalar.paint_sub(bits + whole / 8, levels, u + whole, n - whole);
}

TARGET static void
count(const uint8_t *planes, size_t stride, size_t digits, float most,
      float *target, size_t n)
{
    size_t whole = WHOLE(n);

    for (size_t i = 0; i < whole; i += 8) {
        __m256 x = _mm256_set1_ps(most);

        for (size_t k = 0; k < digits; k++) {
            __m256 mask = spread(planes[k * stride + i / 8]);

            x = _mm256_sub_ps(
                x, _mm256_blendv_ps(_mm256_setzero_ps(),
                                    _mm256_set1_ps((float)(2u << k)), mask));
        }
        _mm256_storeu_ps(target + i, x);
    }
    gp_sign_scalar.count(planes + whole / 8, stride, digits, most,
                         target + whole, n - whole);
}

/* Two vectors at a time, so that a level is loaded once for both. */
TARGET static void
fold(const uint8_t *const *bits, const float (*levels)[2], size_t inputs,
     bool add, float *target, size_t n)
{
    size_t i = 0;

    for (; n - i >= 16; i += 16) {
        __m256 a = _mm256_loadu_ps(target + i);
        __m256 b = _mm256_loadu_ps(target + i + 8);

        for (size_t j = 0; j < inputs; j++) {
            const __m256 l0 = _mm256_broadcast_ss(&levels[j][0]);
            const __m256 l1 = _mm256_broadcast_ss(&levels[j][1]);
            const uint8_t *from = bits[j] + i / 8;
            __m256 x = _mm256_blendv_ps(l0, l1, spread(from[0]));
            __m256 y = _mm256_blendv_ps(l0, l1, spread(from[1]));

            a = j || add ? _mm256_add_ps(a, x) : x;
            b = j || add ? _mm256_add_ps(b, y) : y;
        }
        _mm256_storeu_ps(target + i, a);
        _mm256_storeu_ps(target + i + 8, b);
    }
    for (size_t j = 0; i < n && j < inputs; j++)
        (j || add ? gp_sign_scalar.paint_add : gp_sign_scalar.paint)(
            bits[j] + i / 8, levels[j], target + i, n - i);
}

const gp_sign_kernels gp_sign_avx2 = {scan,      paint, paint_add,
                                      paint_sub, count, fold};

#else
typedef int gp_sign_avx2_unused;
#endif
