/* SPDX-License-Identifier: Apache-2.0 */
/*
 * eden_kernels.h - non-uniform quantization of 1 to 4 bits into bit planes, one
 * table per instruction set, all with the same bits.
 *
 * Plane k < bits - 1 holds digit k of the index of a magnitude, the last plane
 * the signs, set where less than zero. Element i is bit i & 7 of byte i >> 3 of
 * each plane, and bits after the last element are 0.
 */
#ifndef GP_EDEN_KERNELS_H
#define GP_EDEN_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#define GP_EDEN_BITS 4
/* Magnitudes of a table. */
#define GP_EDEN_LEVELS 8

typedef struct gp_eden_kernels {
    /* The index of x is how many of the ascending bounds are below
     * |x * factor|; there are 2^(bits - 1) - 1 of them. */
    void (*quantize)(const float *x, float factor, const float *bounds,
                     unsigned bits, uint8_t *planes, size_t stride, size_t n);
    /* out[i] = magnitude[index], negated where the sign is set. */
    void (*lookup)(const uint8_t *planes, size_t stride, unsigned bits,
                   const float magnitude[GP_EDEN_LEVELS], float *out, size_t n);
} gp_eden_kernels;

extern const gp_eden_kernels gp_eden_scalar;
#if defined(__x86_64__)
extern const gp_eden_kernels gp_eden_avx2, gp_eden_avx512;
#endif

/* The table of the level in use. */
const gp_eden_kernels *gp_eden_kernels_get(void);

#endif
