/* SPDX-License-Identifier: Apache-2.0 */
/*
 * masks_x86.h - how many lanes a mask of AVX-512 has.
 */
#ifndef GP_MASKS_X86_H
#define GP_MASKS_X86_H

#include <immintrin.h>

/* gcc 12 may store the 16 bits of a mask and count in the 32 that lie there,
 * where registers are short (seen with -fsanitize=thread). It does not know
 * what is in `bits` behind the asm, so it has to cut off the upper ones. */
__attribute__((target("avx512f,popcnt"), always_inline)) static inline unsigned
gp_lanes_in(__mmask16 mask)
{
    unsigned bits = mask;

    __asm__("" : "+r"(bits));
    return (unsigned)__builtin_popcount(bits & 0xffff);
}

#endif
