/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bitlist.c - four numbers per word are written whether there are so many or
 * not, because how many there are cannot be predicted.
 */
#include <endian.h>
#include <stdbool.h>
#include <string.h>

#include "compress/bitlist.h"
#include "compress/codec_internal.h"

#define INLINE static inline __attribute__((always_inline))

INLINE uint64_t
load(const uint8_t *bitmap, size_t size, uint64_t invert)
{
    uint64_t word = 0;

    memcpy(&word, bitmap, size);
    return le64toh(word) ^ invert;
}

/* One by one; false when there is no room. */
INLINE bool
append(uint64_t word, uint32_t base, uint32_t *out, size_t *used, size_t room)
{
    for (; word; word &= word - 1) {
        if (*used == room)
            return false;
        out[(*used)++] = base + (unsigned)__builtin_ctzll(word);
    }
    return true;
}

INLINE size_t
list(const uint8_t *bitmap, size_t n, uint64_t invert, uint32_t *out,
     size_t room, bool fast)
{
    size_t used = 0, i = 0;

    for (; i + 64 <= n; i += 64) {
        uint64_t word = load(bitmap + i / 8, 8, invert);
        uint32_t base = (uint32_t)i;

        if (fast && used + 4 <= room) {
            size_t count = (unsigned)__builtin_popcountll(word);

            for (size_t j = 0; j < 4; j++) {
                out[used + j] =
                    base + (unsigned)__builtin_ctzll(word | 1ull << 63);
                word &= word - 1;
            }
            used += count < 4 ? count : 4;
        }
        if (!append(word, base, out, &used, room))
            return room + 1;
    }
    if (i < n) {
        uint64_t word = load(bitmap + i / 8, (n - i + 7) / 8, invert);

        word &= ((uint64_t)1 << (n - i)) - 1;
        if (!append(word, (uint32_t)i, out, &used, room))
            return room + 1;
    }
    return used;
}

#if defined(__x86_64__)
__attribute__((target("avx2,popcnt,bmi"))) static size_t
list_fast(const uint8_t *bitmap, size_t n, uint64_t invert, uint32_t *out,
          size_t room)
{
    return list(bitmap, n, invert, out, room, true);
}
#endif

size_t
gp_bitlist(const uint8_t *bitmap, size_t n, uint8_t invert, uint32_t *out,
           size_t room)
{
    uint64_t all = invert ? UINT64_MAX : 0;

#if defined(__x86_64__)
    if (gp_simd_get() != GP_SIMD_SCALAR)
        return list_fast(bitmap, n, all, out, room);
#endif
    return list(bitmap, n, all, out, room, false);
}
