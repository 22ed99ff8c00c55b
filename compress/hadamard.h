/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hadamard.h - the randomized Hadamard transform z = H D x / sqrt(B) of blocks.
 *
 * D holds random signs: element e of a tensor has the sign of bit e & 31 of
 * word e >> 5 of the stream GP_USE_SIGNS. Blocks are counted from the first
 * element given. What is left after the last whole block is cut into blocks of
 * descending powers of two, so that as many numbers come out as went in.
 *
 * Butterflies run from distance 1 upwards and 1/sqrt(B) is multiplied last;
 * every instruction set gives the same bits. Blocks with NaN or Inf come out as
 * NaN. No sum overflows: a result beyond fp32 becomes the largest number.
 */
#ifndef GP_HADAMARD_H
#define GP_HADAMARD_H

#include <stddef.h>
#include <stdint.h>

#include "compress/philox.h"

#define GP_HADAMARD_LARGEST 32768

/* `block` is a power of two, at most GP_HADAMARD_LARGEST. `in` and `out` are
 * the same or do not overlap. */
void gp_hadamard_forward(const gp_stream *signs, uint64_t first_element,
                         const float *in, float *out, size_t n, size_t block);
/* In place. */
void gp_hadamard_inverse(const gp_stream *signs, uint64_t first_element,
                         float *data, size_t n, size_t block);

/* Size of the block that begins `at` elements into n: `block`, or the largest
 * power of two that is left. */
static inline size_t
gp_hadamard_block(size_t n, size_t at, size_t block)
{
    size_t left = n - at;

    while (block > left)
        block /= 2;
    return block;
}

#endif
