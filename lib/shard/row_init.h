/* SPDX-License-Identifier: Apache-2.0 */
/*
 * row_init.h - what a row is before its first update.
 */
#ifndef GP_ROW_INIT_H
#define GP_ROW_INIT_H

#include "wire/rows.h"

/* Fills the spec's width: the same bits for a seed and an index, everywhere. */
void gp_row_initialize(const gp_row_spec *spec, uint64_t index, float *out);

#endif
