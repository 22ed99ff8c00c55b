/* SPDX-License-Identifier: Apache-2.0 */
/*
 * thc.h - the levels of thc, its unit, and what a head may say: for thc.c and
 * for thc.cu alike.
 */
#ifndef GP_THC_H
#define GP_THC_H

#include <math.h>

#include "compress/both.h"

#define GP_THC_HEAD         8u
#define GP_THC_CONTRIBUTORS 256u
/* fp32's largest. */
#define GP_THC_LARGEST 0x1.fffffep127f
/* Signs of the last block are those of elements that no tensor has. */
#define GP_THC_AGAIN (UINT64_C(1) << 62)

/* Levels in units of half the range over `granularity`. Range and levels give
 * the least error of the mean of four workers for normal numbers: the variance
 * of rounding, divided by four, plus what is cut off. */
typedef struct gp_thc_table {
    uint32_t width, levels, granularity;
    float range; /* in root mean squares */
    uint8_t level[16];
} gp_thc_table;

GP_BOTH_TABLE gp_thc_table gp_thc_tables[] = {
    {2, 4, 3, 1.72f, {0, 1, 2, 3}},
    {4,
     16,
     31,
     2.92f,
     {0, 4, 7, 9, 11, 13, 14, 15, 16, 17, 18, 20, 22, 24, 27, 31}},
    {4, 16, 15, 2.72f, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}},
};

/* Which of them: `bits` and `levels` are numbers of the words of these. */
GP_BOTH uint32_t
gp_thc_which(uint32_t bits, uint32_t levels)
{
    return bits ? 1 + levels : 0;
}

/* Of every whole number below the granularity: the index of the level at or
 * below it, that level, the distance from it to the next one. */
GP_BOTH void
gp_thc_cells(const gp_thc_table *t, int32_t below[32], float level[32],
             float distance[32])
{
    for (uint32_t i = 0, k = 0; i < t->granularity; i++) {
        k += t->level[k + 1] == i;
        below[i] = (int32_t)k;
        level[i] = (float)t->level[k];
        distance[i] = (float)(t->level[k + 1] - t->level[k]);
    }
}

/* Bits of a lane that holds the sum of so many workers' levels. */
GP_BOTH uint32_t
gp_thc_width(const gp_thc_table *t, uint32_t contributors)
{
    if (contributors == 1)
        return t->width;
    return t->granularity * contributors <= 255 ? 8 : 16;
}

/* The largest number in a lane of a message with such a unit. */
GP_BOTH uint32_t
gp_thc_limit(const gp_thc_table *t, uint32_t contributors, float unit)
{
    if (!(unit > 0))
        return 0;
    return contributors == 1 ? t->levels - 1 : t->granularity * contributors;
}

GP_BOTH bool
gp_thc_unit_valid(const gp_thc_table *t, uint32_t unit)
{
    return unit == 0 || unit == GP_FP32_NAN ||
           (unit >= 0x00800000u &&
            unit <= GP_BOTH_BITS(GP_THC_LARGEST / (float)t->granularity));
}

/* What a worker proposes: the largest mean square of a block, as it will be
 * after rotation. `energy` is that of the last whole block, `rest` that of what
 * is left behind it. The part of the whole block that is rotated twice has its
 * share of the energy, as is to be expected. */
GP_BOTH float
gp_thc_proposal(double mean, double energy, double rest, uint64_t left,
                uint64_t block)
{
    double most = mean;

    if (left) {
        double again = (double)(block - left) / (double)block;

        most = fmax(most, (energy * again + rest) / (double)block);
    }
    return (float)fmin(sqrt(most), (double)GP_THC_LARGEST);
}

/* Half the distance of neighbouring levels. */
GP_BOTH float
gp_thc_unit(const gp_thc_table *t, float rms)
{
    float granularity = (float)t->granularity;
    double unit = (double)rms * (double)t->range / (double)granularity;

    if ((GP_BOTH_BITS(rms) & GP_FP32_MAGNITUDE) >= GP_FP32_INFINITY)
        return GP_BOTH_FLOAT(GP_FP32_NAN);
    if (unit < 0x1p-126)
        return 0;
    return (float)fmin(unit, (double)(GP_THC_LARGEST / granularity));
}

#endif
