/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slots.h - runs of equal pieces of a buffer, as bits of a 64-bit mask.
 *
 * Landing slots and buffers for encoded payloads are handed out this way: a
 * payload takes as many neighbours as it is long, so a buffer holds a few long
 * ones or many short ones.
 */
#ifndef GP_SLOTS_H
#define GP_SLOTS_H

#include <stddef.h>
#include <stdint.h>

/* Pieces that `bytes` take, at least 1. */
static inline uint64_t
gp_slots_for(uint64_t bytes, uint64_t slot_bytes)
{
    return bytes <= slot_bytes ? 1 : (bytes - 1) / slot_bytes + 1;
}

/* @param count  1 to 64 - first. */
static inline uint64_t
gp_slots_mask(uint32_t first, uint32_t count)
{
    return UINT64_MAX >> (64 - count) << first;
}

/* The lowest run of `count` set bits, or -1. */
static inline int
gp_slots_find(uint64_t free, uint64_t count)
{
    uint64_t starts = free;

    if (count > 64)
        return -1;
    for (uint64_t have = 1; have < count && starts;) {
        uint64_t step = have < count - have ? have : count - have;

        starts &= starts >> step;
        have += step;
    }
    return starts ? __builtin_ctzll(starts) : -1;
}

/* Cuts a buffer of at least `bytes` into at most 64 pieces of a multiple of 64
 * bytes each. */
static inline uint32_t
gp_slots_cut(uint64_t bytes, uint64_t *slot_bytes)
{
    uint64_t piece = bytes / 64 + (bytes % 64 != 0);

    piece = (piece + 63) & ~63ull;
    *slot_bytes = piece;
    return (uint32_t)gp_slots_for(bytes, piece);
}

#endif
