/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loader.h - which samples a rank sees in which step.
 *
 * Every rank takes the same number of steps per epoch, floor of the samples
 * over (batch x workers); the rest of an epoch's order, less than one step, is
 * left out, and reshuffling leaves out others in the next epoch. So no worker
 * ever has fewer batches than the others.
 *
 *   random      all ranks shuffle the whole training part alike; step s takes
 *               the next batch x workers of it and rank r its r-th slice. The
 *               samples of a step do not depend on how many workers share it:
 *               1 worker x 64 and 2 workers x 32 train on the same 64.
 *   contiguous  rank r owns the r-th of equal ranges and shuffles within it.
 */
#ifndef GT_LOADER_H
#define GT_LOADER_H

#include "data.h"

typedef enum gt_partition { GT_RANDOM, GT_CONTIGUOUS } gt_partition;

typedef struct gt_loader {
    const gt_samples *samples;
    size_t features, batch, steps; /* steps per epoch */
    uint32_t rank, size;
    uint64_t seed;
    gt_partition partition;
    uint32_t *order; /* owned; this epoch's samples of this rank's pool */
    size_t first, pool;
} gt_loader;

/* GP_ERR_CONFIG when there is not one step in an epoch. */
gp_status gt_loader_create(const gt_samples *samples, size_t features,
                           size_t batch, uint32_t rank, uint32_t size,
                           uint64_t seed, gt_partition partition,
                           gt_loader *out);
void gt_loader_free(gt_loader *loader);

/* Fixes the order of an epoch: a function of seed, epoch and partition. */
void gt_loader_shuffle(gt_loader *loader, uint32_t epoch);

/* Where in `order` the samples of a step begin. */
size_t gt_loader_first(const gt_loader *loader, size_t step);

/* Copies the samples of a step: x is batch x features, labels is batch. */
void gt_loader_batch(const gt_loader *loader, size_t step, float *x,
                     uint16_t *labels);

#endif
