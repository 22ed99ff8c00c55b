/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bitlist.h - the numbers of the bits that are set in a bitmap.
 *
 * Bit i is bit i & 7 of byte i >> 3.
 */
#ifndef GP_BITLIST_H
#define GP_BITLIST_H

#include <stddef.h>
#include <stdint.h>

/* Of the first n bits, all inverted first when `invert` is not 0: bytes
 * exclusive-or `invert`, which is 0 or 0xff. `out` has `room` elements; with
 * more set than that, room + 1 is returned. */
size_t gp_bitlist(const uint8_t *bitmap, size_t n, uint8_t invert,
                  uint32_t *out, size_t room);

#endif
