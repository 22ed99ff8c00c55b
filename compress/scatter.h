/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scatter.h - values to and from given places. Indices are ascending, hence
 * distinct, and below the length of the array: the caller has checked.
 */
#ifndef GP_SCATTER_H
#define GP_SCATTER_H

#include <stddef.h>
#include <stdint.h>

/* target[indices[j]] += values[j] */
void gp_scatter_add(float *target, const uint32_t *indices, const float *values,
                    size_t m);

/* target[indices[j]] = values[j]; the rest is not touched. */
void gp_scatter_set(float *target, const uint32_t *indices, const float *values,
                    size_t m);

/* values[j] = source[indices[j]] */
void gp_gather(const float *source, const uint32_t *indices, float *values,
               size_t m);

#endif
