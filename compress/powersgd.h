/* SPDX-License-Identifier: Apache-2.0 */
/*
 * powersgd.h - what the two halves of the codec powersgd share: the message
 * (powersgd.c) and the factors (powersgd_factors.c).
 */
#ifndef GP_POWERSGD_H
#define GP_POWERSGD_H

#include <gradpush/codec.h>

#include "compress/lowrank.h"

enum { PLAIN, FACTORS, NOTHING }; /* modes of messages */
enum { FP32, FP16 };              /* formats of factors */

typedef struct gp_powersgd {
    size_t rank, columns; /* columns 0: not a matrix */
    int power, format;
} gp_powersgd;

/* What prepare() leaves. */
typedef struct gp_powersgd_factors {
    uint64_t origin; /* of the elements, within the tensor */
    size_t count, rows;
    int mode, exponent; /* exponent: Q is to be multiplied by 2^exponent */
    /* Columns of P are p_stride apart, those of Q and of the work space
     * q_stride. */
    size_t p_stride, q_stride;
    float *p, *q, *work;
} gp_powersgd_factors;

/* Elements of Q stay below 2^97; M is scaled where they would not, and where
 * P would be below 2^-62. */
#define GP_POWERSGD_LARGE 0x70000000u
#define GP_POWERSGD_SMALL 0x20800000u

/* Equal parts of some rows: the elements from `m` on. */
typedef struct gp_powersgd_span {
    size_t at; /* elements before it */
    size_t row, rows, first, n;
} gp_powersgd_span;

/* The end of a row, whole rows, the beginning of one; any may be missing. */
size_t gp_powersgd_split(const gp_powersgd *c, uint64_t origin, size_t count,
                         gp_powersgd_span out[3]);

/* P and Q of the matrix of which m holds what f says, and the mode; the Q of
 * the last step is in the context's state, and the next one's is left there. */
void gp_powersgd_factorize(const gp_powersgd *c,
                           const gp_codec_context *context, const float *m,
                           gp_powersgd_factors *f);

/* The largest magnitude in `rank` columns, as bits. */
uint32_t gp_powersgd_most(const float *x, size_t stride, size_t n, size_t rank);

/* 2^n, for a normal result. */
float gp_power_of_two(int n);

#endif
