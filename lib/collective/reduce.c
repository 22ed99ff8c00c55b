/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reduce.c - out = a with b, element by element, in one pass.
 *
 * Sums of fp32 are the shards' fold. Half types go through blocks of fp32 that
 * stay in the cache, with the codecs' conversions, so there is one rounding per
 * call. Operands keep their order: which of two NaNs comes out depends on it.
 */
#include <string.h>

#include "collective/coll_int.h"
#include "compress/kernels.h"
#include "shard/fold.h"

#define BLOCK 1024u

static inline float
load(const void *p, size_t i)
{
    float v;

    memcpy(&v, (const uint8_t *)p + i * sizeof(v), sizeof(v));
    return v;
}

static inline float
larger(float a, float b)
{
    return a > b || a != a ? a : b;
}

static inline float
smaller(float a, float b)
{
    return a < b || a != a ? a : b;
}

/* Each element is read before it is written, so out may be a or b. */
static void
extreme(gp_reduction reduction, float *out, const void *a, const void *b,
        size_t count)
{
    if (reduction == GP_LARGEST)
        for (size_t i = 0; i < count; i++)
            out[i] = larger(load(a, i), load(b, i));
    else
        for (size_t i = 0; i < count; i++)
            out[i] = smaller(load(a, i), load(b, i));
}

static void
reduce_fp32(gp_reduction reduction, void *out, const void *a, const void *b,
            size_t count, float scale)
{
    if (reduction == GP_SUM || reduction == GP_MEAN)
        gp_fold_add(out, a, b, scale, count);
    else
        extreme(reduction, out, a, b, count);
}

void
gp_reduce(gp_reduction reduction, gp_dtype dtype, void *out, const void *a,
          const void *b, size_t count, float scale)
{
    const gp_kernels *kernels = gp_kernels_get();
    const gp_cast_kernels *cast =
        dtype == GP_FP16 ? &kernels->fp16 : &kernels->bf16;
    float x[BLOCK], y[BLOCK];

    if (dtype == GP_FP32) {
        reduce_fp32(reduction, out, a, b, count, scale);
        return;
    }
    for (size_t at = 0; at < count; at += BLOCK) {
        size_t n = GP_MIN(count - at, BLOCK);
        size_t offset = at * sizeof(uint16_t);

        cast->decode((const uint8_t *)a + offset, x, n);
        cast->decode((const uint8_t *)b + offset, y, n);
        reduce_fp32(reduction, x, x, y, n, scale);
        cast->encode(x, (uint8_t *)out + offset, n);
    }
}
