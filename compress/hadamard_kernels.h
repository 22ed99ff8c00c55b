/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hadamard_kernels.h - the inner loops of the Hadamard transform, one table per
 * instruction set, all with the same bits.
 */
#ifndef GP_HADAMARD_KERNELS_H
#define GP_HADAMARD_KERNELS_H

#include <stddef.h>
#include <stdint.h>

typedef struct gp_hadamard_kernels {
    /* out[i] = in[i], negated where bit (first + i) of the words is set. 64
     * bits beyond the last one may be read. In place is fine. */
    void (*flip)(const float *in, float *out, size_t n, const uint32_t *words,
                 size_t first);
    /* All stages over one block of a power of two, in place, and at last times
     * the factor. */
    void (*butterflies)(float *x, size_t block, float factor);
} gp_hadamard_kernels;

extern const gp_hadamard_kernels gp_hadamard_scalar;
#if defined(__x86_64__)
extern const gp_hadamard_kernels gp_hadamard_avx2, gp_hadamard_avx512;
#endif

#endif
