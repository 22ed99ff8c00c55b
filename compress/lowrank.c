/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lowrank.c - the kernels of lowrank.h for each instruction set.
 */
#include <string.h>

#include "base/bytes.h"
#include "compress/codec_internal.h"
#include "compress/lowrank.h"

#define LANES  16
#define PANEL  8 /* rows of m that one pass over q takes in */
#define INLINE static inline __attribute__((always_inline))

/* The first `part` of 16 numbers, from or to any address; the rest are 0. */
#define LOAD(v, p, part)                                          \
    do {                                                          \
        if ((part) < LANES) {                                     \
            memset((v), 0, 4 * LANES);                            \
            memcpy((v), (p), 4 * (part));                         \
        } else {                                                  \
            for (size_t h_ = 0; h_ < PARTS; h_++)                 \
                (v)[h_] = ((const loose *)(const void *)(p))[h_]; \
        }                                                         \
    } while (0)
#define STORE(p, v, part)                             \
    do {                                              \
        if ((part) < LANES)                           \
            memcpy((p), (v), 4 * (part));             \
        else                                          \
            for (size_t h_ = 0; h_ < PARTS; h_++)     \
                ((loose *)(void *)(p))[h_] = (v)[h_]; \
    } while (0)

#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define TO_HOST(v)                                          \
    do {                                                    \
        for (size_t i_ = 0; i_ < 4 * LANES; i_ += 4) {      \
            uint32_t w_ = gp_get32((const char *)(v) + i_); \
                                                            \
            memcpy((char *)(v) + i_, &w_, 4);               \
        }                                                   \
    } while (0)
#else
#define TO_HOST(v) (void)(v)
#endif

#define NAME(x) x##_scalar
#define TARGET
#define WIDTH 4
#define GROUP 1
#include "compress/lowrank_loops.h"

#if defined(__x86_64__)
#define NAME(x) x##_avx2
#define TARGET  __attribute__((target("avx2")))
#define WIDTH   8
#define GROUP   1
#include "compress/lowrank_loops.h"

#define NAME(x) x##_avx512
#define TARGET  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
#define WIDTH   16
#define GROUP   4
#include "compress/lowrank_loops.h"
#endif

const gp_lowrank_kernels *
gp_lowrank_get(void)
{
#if defined(__x86_64__)
    if (gp_simd_get() == GP_SIMD_AVX512)
        return &kernels_avx512;
    if (gp_simd_get() == GP_SIMD_AVX2)
        return &kernels_avx2;
#endif
    return &kernels_scalar;
}
