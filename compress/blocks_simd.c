/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blocks_simd.c - the loops of blocks_body.h for each instruction set.
 */
#include <string.h>

#include "compress/blocks.h"
#include "compress/kernels.h"

/* Codes that begin at a byte again. */
static inline size_t
gp_blocks_group(unsigned bits)
{
    return bits == GP_BLOCKS_DENSE ? 5 : bits == 4 ? 2 : bits == 8 ? 1 : 4;
}

static inline size_t
gp_blocks_code_bytes(unsigned bits, size_t n)
{
    return bits == GP_BLOCKS_DENSE ? (n + 4) / 5 : (n * bits + 7) / 8;
}

#define TARGET
#define NAME(x) x##_scalar
#include "compress/blocks_body.h"
#undef TARGET
#undef NAME

#if defined(__x86_64__)
#define TARGET  __attribute__((target("avx2")))
#define NAME(x) x##_avx2
#include "compress/blocks_body.h"
#undef TARGET
#undef NAME

#define TARGET  __attribute__((target("avx512f,avx512bw,avx512vl,avx2")))
#define NAME(x) x##_avx512
#include "compress/blocks_body.h"
#undef TARGET
#undef NAME
#endif

const gp_blocks_kernels *
gp_blocks_kernels_get(void)
{
    switch (gp_simd_get()) {
#if defined(__x86_64__)
    case GP_SIMD_AVX512:
        return &table_avx512;
    case GP_SIMD_AVX2:
        return &table_avx2;
#endif
    default:
        return &table_scalar;
    }
}
