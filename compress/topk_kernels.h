/* SPDX-License-Identifier: Apache-2.0 */
/*
 * topk_kernels.h - the inner loops of the selection, one table per instruction
 * set; all give the same results.
 */
#ifndef GP_TOPK_KERNELS_H
#define GP_TOPK_KERNELS_H

#include <stddef.h>
#include <stdint.h>

typedef struct gp_topk_kernels {
    /* Elements with magnitude bits >= least: indices from `base` on, and
     * values. `capacity` elements may be written; one more hit than that ends
     * the pass with capacity + 1. */
    size_t (*collect)(const float *x, size_t n, uint32_t base, uint32_t least,
                      uint32_t *indices, float *values, size_t capacity);
    /* keys[i] = magnitude bits of x[i] */
    void (*keys)(const float *x, size_t n, uint32_t *keys);
    /* Number of keys above the pivot; *equal: of those equal to it. */
    size_t (*count)(const uint32_t *keys, size_t n, uint32_t pivot,
                    size_t *equal);
    /* Moves the keys within [least, most] to the front; how many. The order
     * does not change. */
    size_t (*keep)(uint32_t *keys, size_t n, uint32_t least, uint32_t most);
    /* Copies the values, and their indices, whose magnitude bits are >= least:
     * in their order, to arrays of `capacity` elements, which must do, or to
     * where they are. How many. */
    size_t (*pick)(const float *from_values, const uint32_t *from_indices,
                   size_t n, uint32_t least, uint32_t *indices, float *values,
                   size_t capacity);
} gp_topk_kernels;

const gp_topk_kernels *gp_topk_kernels_get(void);

#endif
