/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scatter.c - plain loops: out-of-order cores overlap the misses of scalar
 * accesses, and scatter instructions are microcoded where they exist. The
 * places are known long before, so they are fetched ahead.
 */
#include "compress/scatter.h"

/* Elements between a fetch and its use. */
#define AHEAD 32

void
gp_scatter_add(float *target, const uint32_t *indices, const float *values,
               size_t m)
{
    size_t j = 0;

    for (; j + AHEAD < m; j++) {
        __builtin_prefetch(target + indices[j + AHEAD], 1);
        target[indices[j]] += values[j];
    }
    for (; j < m; j++)
        target[indices[j]] += values[j];
}

void
gp_scatter_set(float *target, const uint32_t *indices, const float *values,
               size_t m)
{
    for (size_t j = 0; j < m; j++)
        target[indices[j]] = values[j];
}

void
gp_gather(const float *source, const uint32_t *indices, float *values, size_t m)
{
    size_t j = 0;

    for (; j + AHEAD < m; j++) {
        __builtin_prefetch(source + indices[j + AHEAD]);
        values[j] = source[indices[j]];
    }
    for (; j < m; j++)
        values[j] = source[indices[j]];
}
