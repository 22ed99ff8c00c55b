/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fold.h - dense sums at memory speed.
 *
 * out = (a + b) * scale and friends, chosen at run time for the processor. All
 * variants give the same bits: one rounding per operation, never fused.
 */
#ifndef GP_FOLD_H
#define GP_FOLD_H

#include <stddef.h>

/* The same bits, also where they are no numbers; they must not overlap. */
void gp_fold_copy(float *out, const float *a, size_t count);

/* out[i] = a[i] * scale; out may be a. */
void gp_fold_scale(float *out, const float *a, float scale, size_t count);

/* out[i] = (a[i] + b[i]) * scale; out may be a. */
void gp_fold_add(float *out, const float *a, const float *b, float scale,
                 size_t count);

#endif
