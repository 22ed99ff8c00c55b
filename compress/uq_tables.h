/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uq_tables.h - the frequencies of uq's static entropy code.
 *
 * Table t is gp_uq_frequencies[gp_uq_begins[t]] up to gp_uq_begins[t + 1]: of
 * 4096, the frequency of 0, of +1 and of -1 alike, ..., of +-largest, and last
 * of the escape. P(0) never rises with t.
 */
#ifndef GP_UQ_TABLES_H
#define GP_UQ_TABLES_H

#include <stdint.h>

#define GP_UQ_SHAPES  133
#define GP_UQ_NUMBERS 3251

/* What the tables are made of: devices have them once more. */
#ifndef GP_UQ_TABLE
#define GP_UQ_TABLE const
extern const uint16_t gp_uq_begins[GP_UQ_SHAPES + 1];
extern const uint16_t gp_uq_frequencies[GP_UQ_NUMBERS];
#endif

#endif
