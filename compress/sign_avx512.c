/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sign_avx512.c - the one-bit loops over vectors of 16: a comparison gives the
 * bits, a masked move takes them.
 */
#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#include "base/bytes.h"
#include "compress/kernels.h"
#include "compress/sign_kernels.h"

#define TARGET   __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
#define VECTOR   TARGET static inline __attribute__((always_inline))
#define WHOLE(n) ((n) & ~(size_t)15)

typedef struct sums {
    __m512d low, high;
} sums;

VECTOR void
add_to(sums *s, __m512 x, bool square)
{
    __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(x));
    __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1));

    if (square) {
        low = _mm512_mul_pd(low, low);
        high = _mm512_mul_pd(high, high);
    }
    s->low = _mm512_add_pd(s->low, low);
    s->high = _mm512_add_pd(s->high, high);
}

VECTOR void
store_sums(double to[16], sums s)
{
    _mm512_storeu_pd(to, s.low);
    _mm512_storeu_pd(to + 8, s.high);
}

/* Finishes what the vectors left over, lanes in step. */
static void
scan_rest(const float *source, float *residual, size_t whole, size_t n,
          gp_sign_sum what, float threshold, uint8_t *bits,
          gp_sign_stats *stats)
{
    gp_sign_scalar.scan(source + whole, residual ? residual + whole : NULL,
                        n - whole, what, threshold, bits + whole / 8, stats);
}

VECTOR void
scan_as(const float *source, float *residual, size_t n, gp_sign_sum what,
        float threshold, uint8_t *bits, gp_sign_stats *stats, bool feedback)
{
    const __m512i magnitude = _mm512_set1_epi32(INT32_MAX);
    sums a = {_mm512_loadu_pd(stats->sums[0]),
              _mm512_loadu_pd(stats->sums[0] + 8)};
    sums b = {_mm512_loadu_pd(stats->sums[1]),
              _mm512_loadu_pd(stats->sums[1] + 8)};
    __m512i most = _mm512_set1_epi32((int)stats->most);
    size_t whole = WHOLE(n);

    for (size_t i = 0; i < whole; i += 16) {
        __m512 x = _mm512_loadu_ps(source + i);
        __m512i m;
        __mmask16 below;
        uint16_t word;

        if (feedback) {
            x = _mm512_add_ps(x, _mm512_loadu_ps(residual + i));
            _mm512_storeu_ps(residual + i, x);
        }
        m = _mm512_and_si512(_mm512_castps_si512(x), magnitude);
        most = _mm512_max_epu32(most, m);
        below = _mm512_cmp_ps_mask(x, _mm512_set1_ps(threshold), _CMP_LT_OQ);
        word = (uint16_t)below;
        memcpy(bits + i / 8, &word, 2);
        if (what == GP_SIGN_MAGNITUDES)
            add_to(&a, _mm512_castsi512_ps(m), false);
        if (what == GP_SIGN_SQUARES)
            add_to(&a, x, true);
        if (what == GP_SIGN_CLASSES) {
            add_to(&a, _mm512_maskz_mov_ps(below, x), false);
            add_to(&b, _mm512_maskz_mov_ps((__mmask16)~below, x), false);
        }
    }
    store_sums(stats->sums[0], a);
    store_sums(stats->sums[1], b);
    stats->most = _mm512_reduce_max_epu32(most);
    scan_rest(source, residual, whole, n, what, threshold, bits, stats);
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

VECTOR __mmask16
mask_at(const uint8_t *bits, size_t i)
{
    uint16_t word;

    memcpy(&word, bits + i / 8, 2);
    return (__mmask16)word;
}

#define LEVELS \
    const __m512 l0 = _mm512_set1_ps(levels[0]), l1 = _mm512_set1_ps(levels[1])
#define LEVEL(i) _mm512_mask_blend_ps(mask_at(bits, i), l0, l1)

TARGET static void
paint(const uint8_t *bits, const float levels[2], float *target, size_t n)
{
    size_t whole = WHOLE(n);
    LEVELS;

    for (size_t i = 0; i < whole; i += 16)
        _mm512_storeu_ps(target + i, LEVEL(i));
    gp_sign_scalar.paint(bits + whole / 8, levels, target + whole, n - whole);
}

TARGET static void
paint_add(const uint8_t *bits, const float levels[2], float *target, size_t n)
{
    size_t whole = WHOLE(n);
    LEVELS;

    for (size_t i = 0; i < whole; i += 16)
        _mm512_storeu_ps(target + i,
                         _mm512_add_ps(_mm512_loadu_ps(target + i), LEVEL(i)));
    gp_sign_scalar.paint_add(bits + whole / 8, levels, target + whole,
                             n - whole);
}

TARGET static void
paint_sub(const uint8_t *bits, const float levels[2], float *u, size_t n)
{
    size_t whole = WHOLE(n);
    LEVELS;

    for (size_t i = 0; i < whole; i += 16)
        _mm512_storeu_ps(u + i,
                         _mm512_sub_ps(_mm512_loadu_ps(u + i), LEVEL(i)));
    gp_sign_scalar.paint_sub(bits + whole / 8, levels, u + whole, n - whole);
}

TARGET static void
count(const uint8_t *planes, size_t stride, size_t digits, float most,
      float *target, size_t n)
{
    size_t whole = WHOLE(n);

    for (size_t i = 0; i < whole; i += 16) {
        __m512 x = _mm512_set1_ps(most);

        for (size_t k = 0; k < digits; k++)
            x = _mm512_mask_sub_ps(x, mask_at(planes + k * stride, i), x,
                                   _mm512_set1_ps((float)(2u << k)));
        _mm512_storeu_ps(target + i, x);
    }
    gp_sign_scalar.count(planes + whole / 8, stride, digits, most,
                         target + whole, n - whole);
}

/* Where two levels differ in the sign alone, a bit shifted to the top is all it
 * takes: no mask register. Words of 32 bits serve two vectors. */
TARGET static void
fold_signs(const uint8_t *const *bits, const float (*levels)[2], size_t inputs,
           bool add, float *target, size_t n)
{
    const __m512i lanes =
        _mm512_setr_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512i high = lanes,
                  low = _mm512_add_epi32(lanes, _mm512_set1_epi32(16));
    const __m512i top = _mm512_set1_epi32(INT32_MIN);
    const __m512 zero = _mm512_set1_ps(-0.0f);
    __m512 a, b, c, d;

    for (size_t i = 0; i < n; i += 64) {
        a = add ? _mm512_loadu_ps(target + i) : zero;
        b = add ? _mm512_loadu_ps(target + i + 16) : zero;
        c = add ? _mm512_loadu_ps(target + i + 32) : zero;
        d = add ? _mm512_loadu_ps(target + i + 48) : zero;
        for (size_t j = 0; j < inputs; j++) {
            const __m512i l = _mm512_castps_si512(_mm512_set1_ps(levels[j][0]));
            const uint8_t *from = bits[j] + i / 8;
            __m512i first = _mm512_set1_epi32((int)gp_get32(from));
            __m512i last = _mm512_set1_epi32((int)gp_get32(from + 4));

#define SIGNED(word, up)                           \
    _mm512_castsi512_ps(_mm512_ternarylogic_epi32( \
        l, _mm512_sllv_epi32(word, up), top, 0xf0 ^ 0x88))
            a = _mm512_add_ps(a, SIGNED(first, low));
            b = _mm512_add_ps(b, SIGNED(first, high));
            c = _mm512_add_ps(c, SIGNED(last, low));
            d = _mm512_add_ps(d, SIGNED(last, high));
        }
        _mm512_storeu_ps(target + i, a);
        _mm512_storeu_ps(target + i + 16, b);
        _mm512_storeu_ps(target + i + 32, c);
        _mm512_storeu_ps(target + i + 48, d);
    }
}

TARGET static void
fold_levels(const uint8_t *const *bits, const float (*levels)[2], size_t inputs,
            bool add, float *target, size_t n)
{
    const __m512 zero = _mm512_set1_ps(-0.0f);

    for (size_t i = 0; i < n; i += 32) {
        __m512 a = add ? _mm512_loadu_ps(target + i) : zero;
        __m512 b = add ? _mm512_loadu_ps(target + i + 16) : zero;

        for (size_t j = 0; j < inputs; j++) {
            const __m512 l0 = _mm512_set1_ps(levels[j][0]);
            const __m512 l1 = _mm512_set1_ps(levels[j][1]);
            __mmask16 first = mask_at(bits[j], i);
            __mmask16 last = mask_at(bits[j], i + 16);

            a = _mm512_add_ps(a, _mm512_mask_blend_ps(first, l0, l1));
            b = _mm512_add_ps(b, _mm512_mask_blend_ps(last, l0, l1));
        }
        _mm512_storeu_ps(target + i, a);
        _mm512_storeu_ps(target + i + 16, b);
    }
}

static void
fold(const uint8_t *const *bits, const float (*levels)[2], size_t inputs,
     bool add, float *target, size_t n)
{
    size_t whole = n & ~(size_t)63;
    bool signs = true;

    for (size_t j = 0; j < inputs; j++)
        signs = signs &&
                gp_bits(levels[j][1]) == (gp_bits(levels[j][0]) ^ 0x80000000u);
    if (whole)
        (signs ? fold_signs : fold_levels)(bits, levels, inputs, add, target,
                                           whole);
    for (size_t j = 0; whole < n && j < inputs; j++)
        (j || add ? gp_sign_scalar.paint_add : gp_sign_scalar.paint)(
            bits[j] + whole / 8, levels[j], target + whole, n - whole);
}

const gp_sign_kernels gp_sign_avx512 = {scan,      paint, paint_add,
                                        paint_sub, count, fold};

#else
typedef int gp_sign_avx512_unused;
#endif
