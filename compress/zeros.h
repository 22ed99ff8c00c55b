/* SPDX-License-Identifier: Apache-2.0 */
/*
 * zeros.h - leaves out the blocks of a tensor that are all zero.
 *
 * A map has one bit per block, block b's is bit b & 7 of byte b >> 3: 1 when
 * some word of the block is not +0.0 (a block of -0.0 is kept, so that every
 * bit survives). Unused bits of the last byte are 0. `block` is at least 1; the
 * last block may be shorter. Kept blocks follow one another without gaps.
 */
#ifndef GP_ZEROS_H
#define GP_ZEROS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <gradpush/codec.h>

/* The stage `zeros`; the pipeline does its work with what follows. */
extern const gp_codec_ops gp_codec_zeros;

/* Bytes of a map of n elements. */
size_t gp_zeros_map_size(size_t n, size_t block);

/* Fills the map; the number of kept blocks. */
size_t gp_zeros_map(const float *x, size_t n, size_t block, uint8_t *map);

/* Elements in the kept blocks. */
size_t gp_zeros_kept(const uint8_t *map, size_t n, size_t block);

/* No unused bit is set. */
bool gp_zeros_map_valid(const uint8_t *map, size_t n, size_t block);

/* out = the kept blocks of x; their number of elements. */
size_t gp_zeros_pack(const float *x, size_t n, size_t block, const uint8_t *map,
                     float *out);

/* target = kept, with the left out blocks as zeros. */
void gp_zeros_unpack(const float *kept, size_t n, size_t block,
                     const uint8_t *map, float *target);

/* target += kept; left out blocks are not touched. */
void gp_zeros_unpack_add(const float *kept, size_t n, size_t block,
                         const uint8_t *map, float *target);

#endif
