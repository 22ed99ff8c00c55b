/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sign_kernels.h - the inner loops of the codecs that send one bit per element,
 * one table per instruction set, all with the same bits.
 *
 * Element i is bit i & 7 of byte i >> 3; the bit is set when it is less than a
 * threshold, usually 0, so -0.0 counts as positive. Bits after the last element
 * are 0.
 */
#ifndef GP_SIGN_KERNELS_H
#define GP_SIGN_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is summed while the signs are taken. */
typedef enum gp_sign_sum {
    GP_SIGN_NOTHING = 0,
    GP_SIGN_MAGNITUDES = 1,
    GP_SIGN_SQUARES = 2,
    GP_SIGN_CLASSES = 3 /* those whose bit is set in [0], the others in [1] */
} gp_sign_sum;

/* Partial sums in the order of reduce.h, and the bits of the absmax. All zero
 * before the first scan. */
typedef struct gp_sign_stats {
    double sums[2][16];
    uint32_t most;
} gp_sign_stats;

typedef struct gp_sign_kernels {
    /* Packs the signs of `source`, or, when `residual` is not NULL, those of
     * residual += source. */
    void (*scan)(const float *source, float *residual, size_t n,
                 gp_sign_sum what, float threshold, uint8_t *bits,
                 gp_sign_stats *stats);
    /* target[i] = levels[bit i] */
    void (*paint)(const uint8_t *bits, const float levels[2], float *target,
                  size_t n);
    void (*paint_add)(const uint8_t *bits, const float levels[2], float *target,
                      size_t n);
    /* u[i] -= levels[bit i] */
    void (*paint_sub)(const uint8_t *bits, const float levels[2], float *u,
                      size_t n);
    /* target[i] = most - 2 * (the number whose binary digits are bit i of each
     * plane); plane k begins k * stride bytes after the first. All are whole
     * numbers below 2^24. */
    void (*count)(const uint8_t *planes, size_t stride, size_t digits,
                  float most, float *target, size_t n);
    /* target[i] = the sum of levels[j][bit i of bits[j]] over all j in their
     * order, onto target[i] with `add`; `inputs` is at least 1. */
    void (*fold)(const uint8_t *const *bits, const float (*levels)[2],
                 size_t inputs, bool add, float *target, size_t n);
} gp_sign_kernels;

extern const gp_sign_kernels gp_sign_scalar;
#if defined(__x86_64__)
extern const gp_sign_kernels gp_sign_avx2, gp_sign_avx512;
#endif

/* The table of the level in use. */
const gp_sign_kernels *gp_sign_kernels_get(void);

/* The sum of 16 partial ones, as reduce.h has it. */
double gp_sign_total(const double partial[16]);

#endif
