/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lowrank.h - products of a large matrix with thin ones, for low-rank codecs.
 *
 * Thin matrices are held by columns, `stride` elements apart. All results have
 * a fixed order of summation:
 *
 *   times        column j of a row belongs to partial sum j mod 16, each sum
 *                ascending; the 16 are added by halves, as in reduce.h
 *   transposed   rows ascending
 *   product      ranks ascending
 */
#ifndef GP_LOWRANK_H
#define GP_LOWRANK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GP_RANK_MOST 32

typedef struct gp_lowrank_kernels {
    /* p[i][k] = sum over j of m[i][j] * q[j][k], for `rows` rows of `n`
     * elements that are `columns` apart. */
    void (*times)(const float *m, size_t rows, size_t columns, size_t n,
                  const float *q, size_t q_stride, size_t rank, float *p,
                  size_t p_stride);
    /* q[j][k] += sum over i of m[i][j] * p[i][k], p one row after the other:
     * p[i * rank + k]. */
    void (*transposed)(const float *m, size_t rows, size_t columns, size_t n,
                       const float *p, size_t rank, float *q, size_t q_stride);
    /* out[i][j] = sum over k of p[i][k] * q[k][j], or out[i][j] += that, for
     * `rows` rows of `n` elements that are `columns` apart. p (p[i * rank + k])
     * and q (columns `stride` apart) are little-endian fp32 at any address. */
    void (*product)(const uint8_t *p, const uint8_t *q, size_t stride,
                    size_t rank, float *out, size_t columns, size_t rows,
                    size_t n, bool add);
    /* x[i] -= f * y[i] */
    void (*subtract)(float *x, float f, const float *y, size_t n);
} gp_lowrank_kernels;

const gp_lowrank_kernels *gp_lowrank_get(void);

#endif
