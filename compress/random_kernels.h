/* SPDX-License-Identifier: Apache-2.0 */
/*
 * random_kernels.h - rounding to random neighbours, one table per instruction
 * set, all with the same bits; and small integers packed without gaps.
 *
 * An element goes to one of the two levels next to it, with the probabilities
 * that make the mean come out right. Whether it goes up compares numbers that
 * are exact in fp32, so nothing but the one multiplication by `inverse` rounds.
 */
#ifndef GP_RANDOM_KERNELS_H
#define GP_RANDOM_KERNELS_H

#include <stddef.h>
#include <stdint.h>

typedef struct gp_random_kernels {
    /* Levels 0, 1, ..., `levels` of |x * inverse|, at most 127; the sign of x.
     * words[i] decides about x[i]. */
    void (*linear)(const float *x, float inverse, unsigned levels,
                   const uint32_t *words, int8_t *codes, size_t n);
    /* Levels 0 and 2^(code + base - 127) for codes 1 to top - base. Elements
     * beyond the last level get that one, NaN and Inf get the code -128. */
    void (*powers)(const float *x, float inverse, unsigned base, unsigned top,
                   const uint32_t *words, int8_t *codes, size_t n);
    /* out[i] = codes[i] * step */
    void (*from_linear)(const int8_t *codes, float step, float *out, size_t n);
    /* out[i] = level of the code * scale, NaN for -128 */
    void (*from_powers)(const int8_t *codes, unsigned base, float scale,
                        float *out, size_t n);
} gp_random_kernels;

extern const gp_random_kernels gp_random_scalar;
#if defined(__x86_64__)
extern const gp_random_kernels gp_random_avx2, gp_random_avx512;
#endif

/* The table of the level in use. */
const gp_random_kernels *gp_random_kernels_get(void);

/* Code i takes bits i * width and following, in two's complement; the unused
 * bits of the last byte are 0. `width` is 2 to 8. */
void gp_pack_codes(const int8_t *codes, size_t n, unsigned width, uint8_t *out);
/* The inverse; says nothing about unused bits. */
void gp_unpack_codes(const uint8_t *bytes, size_t n, unsigned width,
                     int8_t *codes);

#endif
