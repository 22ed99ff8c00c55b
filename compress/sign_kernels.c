/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sign_kernels.c - the reference of the one-bit loops.
 */
#include <math.h>
#include <string.h>

#include "compress/kernels.h"
#include "compress/sign_kernels.h"

double
gp_sign_total(const double partial[16])
{
    double p[16];

    memcpy(p, partial, sizeof(p));
    for (size_t width = 8; width; width /= 2)
        for (size_t j = 0; j < width; j++)
            p[j] += p[j + width];
    return p[0];
}

static void
sum_one(double sums[2][16], size_t lane, gp_sign_sum what, bool below, float x)
{
    double d = (double)x;

    if (what == GP_SIGN_MAGNITUDES)
        sums[0][lane] += fabs(d);
    else if (what == GP_SIGN_SQUARES)
        sums[0][lane] += d * d;
    else if (what == GP_SIGN_CLASSES)
        sums[below ? 0 : 1][lane] += d;
}

static void
scan(const float *source, float *residual, size_t n, gp_sign_sum what,
     float threshold, uint8_t *bits, gp_sign_stats *stats)
{
    memset(bits, 0, (n + 7) / 8);
    for (size_t i = 0; i < n; i++) {
        float x = source[i];
        uint32_t m;

        if (residual) {
            x += residual[i];
            residual[i] = x;
        }
        m = gp_bits(x) & GP_FP32_MAGNITUDE;
        stats->most = m > stats->most ? m : stats->most;
        bits[i >> 3] = (uint8_t)(bits[i >> 3] | (x < threshold) << (i & 7));
        sum_one(stats->sums, i % 16, what, x < threshold, x);
    }
}

static unsigned
bit(const uint8_t *bits, size_t i)
{
    return bits[i >> 3] >> (i & 7) & 1;
}

static void
paint(const uint8_t *bits, const float levels[2], float *target, size_t n)
{
    for (size_t i = 0; i < n; i++)
        target[i] = levels[bit(bits, i)];
}

static void
paint_add(const uint8_t *bits, const float levels[2], float *target, size_t n)
{
    for (size_t i = 0; i < n; i++)
        target[i] += levels[bit(bits, i)];
}

static void
paint_sub(const uint8_t *bits, const float levels[2], float *u, size_t n)
{
    for (size_t i = 0; i < n; i++)
        u[i] -= levels[bit(bits, i)];
}

static void
count(const uint8_t *planes, size_t stride, size_t digits, float most,
      float *target, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t number = 0;

        for (size_t k = 0; k < digits; k++)
            number |= bit(planes + k * stride, i) << k;
        target[i] = most - 2 * (float)number;
    }
}

static void
fold(const uint8_t *const *bits, const float (*levels)[2], size_t inputs,
     bool add, float *target, size_t n)
{
    for (size_t j = 0; j < inputs; j++)
        (j || add ? paint_add : paint)(bits[j], levels[j], target, n);
}

const gp_sign_kernels gp_sign_scalar = {scan,      paint, paint_add,
                                        paint_sub, count, fold};

const gp_sign_kernels *
gp_sign_kernels_get(void)
{
#if defined(__x86_64__)
    if (gp_simd_get() == GP_SIMD_AVX512)
        return &gp_sign_avx512;
    if (gp_simd_get() == GP_SIMD_AVX2)
        return &gp_sign_avx2;
#endif
    return &gp_sign_scalar;
}
