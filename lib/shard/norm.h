/* SPDX-License-Identifier: Apache-2.0 */
/*
 * norm.h - sums of squares that do not depend on how they are split.
 *
 * Elements are taken in blocks of 64, which no chunk cuts: each block's sum is
 * a double, and sums of blocks are exact, as whole numbers of many digits. So
 * the total has the same bits for any chunks, any number of shards and any
 * order.
 */
#ifndef GP_NORM_H
#define GP_NORM_H

#include "base/base.h"

#define GP_NORM_BLOCK  64u
#define GP_NORM_DIGITS 21u /* of 32 bits, the lowest worth 2^-350 */
#define GP_NORM_BYTES  (4u * (GP_NORM_DIGITS + 1u))

/* All zero is the sum of nothing. */
typedef struct gp_norm {
    uint64_t digit[GP_NORM_DIGITS]; /* below 2^32 between calls */
    uint32_t special;               /* 1: a NaN, 2: an infinity */
} gp_norm;

/* Adds the squares of elements, of which the first begins a block. */
void gp_norm_add(gp_norm *n, const float *values, size_t count);
/* The same of blocks that were summed elsewhere, in gp_norm_add()'s order. */
void gp_norm_add_sums(gp_norm *n, const double *sums, size_t count);
void gp_norm_merge(gp_norm *n, const gp_norm *other);

double gp_norm_sum(const gp_norm *n);

/* GP_NORM_BYTES, little endian. */
void gp_norm_encode(const gp_norm *n, uint8_t *out);
void gp_norm_decode(const uint8_t *in, gp_norm *out);

#endif
