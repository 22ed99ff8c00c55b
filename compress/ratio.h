/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ratio.h - how many elements a selection takes, as a function of the step.
 *
 * Exponential from `start` at step 0 to `ratio` at step `over` and from then
 * on, as in the warm-up of deep gradient compression (Lin et al. 2018).
 */
#ifndef GP_RATIO_H
#define GP_RATIO_H

#include <stddef.h>
#include <stdint.h>

#include <gradpush/status.h>

typedef struct gp_ratio {
    double ratio, start; /* start 0: none */
    double over;         /* steps */
} gp_ratio;

/* Parameters of codecs that have one; `over` is at position 3. */
#define GP_RATIO_START                                           \
    {                                                            \
        .name = "start", .value = 0, .minimum = 0, .maximum = 1, \
        .text = "share at step 0, falls to ratio; 0: no such"    \
    }
#define GP_RATIO_OVER                                                    \
    {                                                                    \
        .name = "over", .value = 0, .minimum = 0, .maximum = 1e9,        \
        .integer = 1, .text = "steps until the share is down from start" \
    }

/* GP_ERR_CONFIG when start or over makes no sense without the other. */
gp_status gp_ratio_make(double ratio, double start, double over, gp_ratio *out);

double gp_ratio_at(const gp_ratio *ratio, uint64_t step);

/* Elements out of n: at least 1 unless n is 0. */
size_t gp_ratio_count(const gp_ratio *ratio, uint64_t step, size_t n);

/* The most and the least of all steps. */
size_t gp_ratio_most(const gp_ratio *ratio, size_t n);
size_t gp_ratio_least(const gp_ratio *ratio, size_t n);

#endif
