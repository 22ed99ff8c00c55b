/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reduce.h - sums and maxima over elements, with one order of summation.
 *
 * Element i is added, as a double, to partial sum i mod 16; then the 16 are
 * added as ((p0+p8)+(p4+p12)) + ((p2+p10)+(p6+p14)) + ..., that is by halves:
 * p[j] += p[j+8], then 4, 2, 1. Scalar, AVX2 and AVX-512 give the same bits.
 */
#ifndef GP_REDUCE_H
#define GP_REDUCE_H

#include <stddef.h>
#include <stdint.h>

/* Largest magnitude as bits, 0 without elements: at least 0x7f800000 when
 * there is an Inf, above that when there is a NaN. */
uint32_t gp_max_magnitude(const float *x, size_t n);

double gp_sum_magnitudes(const float *x, size_t n);
double gp_sum_squares(const float *x, size_t n);

/* Sum of x[i] * y[i], the products formed as doubles. */
double gp_dot(const float *x, const float *y, size_t n);

#endif
