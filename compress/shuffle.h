/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shuffle.h - the loops of shuffle and bitshuffle. For n elements of `width`
 * bytes, plane b is byte b of every element. `apart` is the distance between
 * planes. The vector versions do what they can from the front and return how
 * many.
 */
#ifndef GP_SHUFFLE_H
#define GP_SHUFFLE_H

#include <stddef.h>
#include <stdint.h>

#define GP_SHUFFLE_WIDEST 16

void gp_shuffle_split(const uint8_t *source, size_t width, size_t n,
                      uint8_t *planes, size_t apart);
void gp_shuffle_join(const uint8_t *planes, size_t apart, size_t width,
                     size_t n, uint8_t *out);

/* Bit planes of n bytes, a multiple of 8: bit j of byte i of plane k is bit k
 * of byte 8 i + j. */
void gp_bits_split(const uint8_t *source, size_t n, uint8_t *planes,
                   size_t apart);
void gp_bits_join(const uint8_t *planes, size_t apart, size_t n, uint8_t *out);

#if defined(__x86_64__)
size_t gp_shuffle_split_avx2(const uint8_t *source, size_t width, size_t n,
                             uint8_t *planes, size_t apart);
size_t gp_shuffle_join_avx2(const uint8_t *planes, size_t apart, size_t width,
                            size_t n, uint8_t *out);
size_t gp_bits_split_avx2(const uint8_t *source, size_t n, uint8_t *planes,
                          size_t apart);
size_t gp_bits_split_avx512(const uint8_t *source, size_t n, uint8_t *planes,
                            size_t apart);
size_t gp_bits_join_avx2(const uint8_t *planes, size_t apart, size_t n,
                         uint8_t *out);
size_t gp_bits_join_avx512(const uint8_t *planes, size_t apart, size_t n,
                           uint8_t *out);
#endif

#endif
