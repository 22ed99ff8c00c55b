/* SPDX-License-Identifier: Apache-2.0 */
/*
 * topk_select.h - the k elements of largest magnitude, exactly.
 *
 * Elements are ordered by the bits of their magnitude, so NaN comes before Inf
 * and Inf before all numbers; of equal magnitudes the lowest index wins. What
 * is chosen depends on nothing else.
 */
#ifndef GP_TOPK_SELECT_H
#define GP_TOPK_SELECT_H

#include <stddef.h>
#include <stdint.h>

/* What separates the chosen from the rest: those above `bits`, and those equal
 * to it whose index is below `ties_end`. */
typedef struct gp_topk_cut {
    uint64_t ties_end;
    uint32_t bits;
} gp_topk_cut;

/* Bytes of workspace, 64-byte aligned, for the two calls below. */
size_t gp_topk_workspace(size_t n, size_t k);

/* The k largest, ascending by index; 1 <= k <= n, n <= UINT32_MAX. Both arrays
 * have k elements. */
void gp_topk_select(const float *x, size_t n, size_t k, uint32_t *indices,
                    float *values, void *workspace);

/* The cut that leaves k; 1 <= k <= n. */
gp_topk_cut gp_topk_find(const float *x, size_t n, size_t k, void *workspace);

/* Those of the n elements from index `first` on that the cut chooses: indices
 * count from 0 at x. Both arrays have `capacity` elements, which must do.
 * @return how many. */
size_t gp_topk_take(const float *x, size_t n, uint64_t first, gp_topk_cut cut,
                    uint32_t *indices, float *values, size_t capacity);

/* All with magnitude bits of at least `least`. */
size_t gp_topk_above(const float *x, size_t n, uint32_t least,
                     uint32_t *indices, float *values, size_t capacity);

#endif
