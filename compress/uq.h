/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uq.h - the parts of the codec uq: rounding to codes and back (uq_round.c),
 * the choice of tables (uq_shape.c), the format (uq.c).
 *
 * A code is an int8_t; GP_UQ_BIG stands for all beyond +-127.
 */
#ifndef GP_UQ_H
#define GP_UQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "compress/philox.h"
#include "compress/rans.h"
#include "compress/uq_both.h"

/* How the elements of one message are rounded. */
typedef struct gp_uq_grid {
    gp_uq_round round;
    float step, inverse;
    gp_stream stream;
    uint32_t shift; /* of a stratum, in units of 2^-24 */
    uint64_t first; /* the message's first element within its tensor */
} gp_uq_grid;

gp_uq_grid gp_uq_grid_make(gp_uq_round round, const gp_codec_context *context,
                           float step);

/* Codes of elements at .. at + n - 1 of the message; x is the first of these.
 * |x| * inverse must be below 2^20. */
void gp_uq_quantize(const gp_uq_grid *grid, size_t at, const float *x,
                    int8_t *codes, size_t n);
/* The whole code of one element. */
int32_t gp_uq_code(const gp_uq_grid *grid, size_t at, float x);

/* The values of codes; unspecified where the code is GP_UQ_BIG. */
void gp_uq_values(const gp_uq_grid *grid, size_t at, const int8_t *codes,
                  float *values, size_t n);
float gp_uq_value(const gp_uq_grid *grid, size_t at, int32_t code);

/* Tables of all shapes; filled once, by open(). Shape s has index s - 1; shape
 * 0 is a section of zeros, of which nothing is coded. */
void gp_uq_tables_make(void);
const gp_rans_coder *gp_uq_coder(unsigned shape);
const gp_rans_decoder *gp_uq_decoder(unsigned shape);

/* The shape under which a section takes the least bits, and whether it has
 * codes that must be escaped. */
unsigned gp_uq_choose(const int8_t *codes, size_t n, bool *escapes);

#endif
