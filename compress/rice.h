/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rice.h - ascending indices as Rice codes of their gaps.
 *
 * A stream of bits, the lowest of each byte first. Per block of 32 gaps: r
 * (5 bits), then each gap g = index - previous - 1 (the first: index) as g >> r
 * zeros, a one, and the low r bits of g. r gives the block its smallest size;
 * of several, the smallest r. The last byte is filled up with zeros.
 */
#ifndef GP_RICE_H
#define GP_RICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Largest size, or SIZE_MAX when that overflows. */
size_t gp_rice_bound(size_t selected, size_t count);

/* Exact size. */
size_t gp_rice_size(const uint32_t *indices, size_t selected);

/* `capacity` is at least the size. */
size_t gp_rice_write(const uint32_t *indices, size_t selected, uint8_t *out,
                     size_t capacity);

/* False unless the bytes are all used and the indices are below count. */
bool gp_rice_read(const uint8_t *bytes, size_t length, uint32_t *indices,
                  size_t selected, size_t count);

#endif
