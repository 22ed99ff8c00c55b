/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loader.c - which samples a rank sees in which step.
 */
#include "loader.h"

#include <stdlib.h>
#include <string.h>

#include "random.h"

/* Keeps the shuffles of contiguous ranks apart, far from any epoch number. */
static uint64_t
shuffle_seed(const gt_loader *l)
{
    if (l->partition == GT_RANDOM)
        return l->seed;
    return l->seed ^ (uint64_t)(l->rank + 1) << 40;
}

gp_status
gt_loader_create(const gt_samples *samples, size_t features, size_t batch,
                 uint32_t rank, uint32_t size, uint64_t seed,
                 gt_partition partition, gt_loader *out)
{
    gt_loader l = {.samples = samples,
                   .features = features,
                   .batch = batch,
                   .rank = rank,
                   .size = size,
                   .seed = seed,
                   .partition = partition,
                   .pool = samples->count};

    if (samples->count >= UINT32_MAX)
        return gt_fail(GP_ERR_TOO_LARGE,
                       "%zu samples, at most 2^32 - 2 can be shuffled",
                       samples->count);
    if (partition == GT_CONTIGUOUS) {
        l.pool = samples->count / size;
        l.first = l.pool * rank;
        l.steps = l.pool / batch;
    } else {
        l.steps = samples->count / batch / size;
    }
    if (l.steps == 0)
        return gt_fail(GP_ERR_CONFIG,
                       "--batch %zu x %u workers is more than the %zu "
                       "training samples; make the batch smaller",
                       batch, size, samples->count);
    l.order = calloc(l.pool, sizeof(uint32_t));
    if (!l.order)
        return gt_fail(GP_ERR_NO_MEMORY, "out of memory: order of %zu samples",
                       l.pool);
    *out = l;
    gt_loader_shuffle(out, 0);
    return GP_OK;
}

void
gt_loader_free(gt_loader *loader)
{
    free(loader->order);
    loader->order = NULL;
}

void
gt_loader_shuffle(gt_loader *l, uint32_t epoch)
{
    for (size_t i = 0; i < l->pool; i++)
        l->order[i] = (uint32_t)(l->first + i);
    gt_random_shuffle(shuffle_seed(l), GT_STREAM_SHUFFLE, epoch, l->order,
                      l->pool);
}

size_t
gt_loader_first(const gt_loader *l, size_t step)
{
    return l->partition == GT_RANDOM ? (step * l->size + l->rank) * l->batch
                                     : step * l->batch;
}

void
gt_loader_batch(const gt_loader *l, size_t step, float *x, uint16_t *labels)
{
    size_t start = gt_loader_first(l, step);

    for (size_t i = 0; i < l->batch; i++) {
        uint32_t sample = l->order[start + i];

        memcpy(x + i * l->features, l->samples->x + sample * l->features,
               l->features * sizeof(float));
        labels[i] = l->samples->labels[sample];
    }
}
