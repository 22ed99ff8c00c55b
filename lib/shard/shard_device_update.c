/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard_device_update.c - updaters as kernels (compress/cuda/update.cu).
 *
 * Factors are rounded as the updaters of the host round them, so that both
 * leave the same bits.
 */
#include <stdio.h>

#include "shard/shard_device.h"

#define THREADS  256u
#define PER_GRID 4096u /* blocks at most: threads go round */

/* A launch over elements, `each` of them a thread's first turn. */
static gp_status
launch(gp_shard_device *d, gp_kernel_id kernel, size_t count, void **args)
{
    size_t blocks = (count + THREADS - 1) / THREADS;
    gp_launch l = {.kernel = kernel,
                   .grid = (uint32_t)GP_MAX(GP_MIN(blocks, PER_GRID), 1),
                   .block = THREADS,
                   .args = args};

    return d->device->ops->launch(d->device, &l, d->stream);
}

gp_status
gp_device_scale(gp_shard_device *d, float *x, size_t count, float scale)
{
    uint64_t n = count;
    void *args[] = {&x, &n, &scale};

    return launch(d, GP_KERNEL_gp_cuda_update_scale, count, args);
}

gp_status
gp_device_add(gp_shard_device *d, float *sum, const float *x, size_t count)
{
    uint64_t n = count;
    void *args[] = {&sum, &x, &n};

    return launch(d, GP_KERNEL_gp_cuda_update_add, count, args);
}

gp_status
gp_device_history(gp_shard_device *d, gp_chunk *c, float scale)
{
    uint64_t n = c->info->count;
    void *args[] = {&c->device->history, &c->device->sum, &n, &scale};

    return launch(d, GP_KERNEL_gp_cuda_update_history, c->info->count, args);
}

gp_status
gp_device_squares(gp_shard_device *d, const float *x, size_t count, double *out)
{
    uint64_t n = count;
    void *args[] = {&x, &n, &out};

    return launch(d, GP_KERNEL_gp_cuda_update_squares, count / 8 + 1, args);
}

/* --- updaters --- */

static gp_status
update_sgd(gp_shard_device *d, gp_chunk *c, const gp_updater_step *step)
{
    gp_chunk_device *x = c->device;
    gp_sgd_factors f = gp_updater_sgd_factors(step);
    uint64_t n = c->info->count;
    void *args[] = {&x->sum, &x->value, &x->array[0], &n,         &f.lr,
                    &f.mu,   &f.fresh,  &f.decay,     &f.nesterov};

    return launch(d, GP_KERNEL_gp_cuda_update_sgd, c->info->count, args);
}

static gp_status
update_adam(gp_shard_device *d, gp_chunk *c, const gp_updater_step *step)
{
    gp_chunk_device *x = c->device;
    bool decoupled = c->tensor->updater.ops == &gp_updater_adamw;
    gp_adam_factors f = gp_updater_adam_factors(step, decoupled);
    uint64_t n = c->info->count;
    void *args[] = {&x->sum,      &x->value, &x->array[0], &x->array[1],
                    &x->array[2], &n,        &f.beta1,     &f.fresh1,
                    &f.beta2,     &f.fresh2, &f.eps,       &f.rate,
                    &f.root,      &f.decay,  &f.shrink};

    return launch(d, GP_KERNEL_gp_cuda_update_adam, c->info->count, args);
}

static gp_status
update_adagrad(gp_shard_device *d, gp_chunk *c, const gp_updater_step *step)
{
    gp_chunk_device *x = c->device;
    gp_adagrad_factors f = gp_updater_adagrad_factors(step);
    uint64_t n = c->info->count;
    void *args[] = {&x->sum, &x->value,  &x->array[0], &n,
                    &f.lr,   &f.initial, &f.decay,     &f.eps};

    return launch(d, GP_KERNEL_gp_cuda_update_adagrad, c->info->count, args);
}

static gp_status
update_rmsprop(gp_shard_device *d, gp_chunk *c, const gp_updater_step *step)
{
    gp_chunk_device *x = c->device;
    gp_rmsprop_factors f = gp_updater_rmsprop_factors(step);
    uint64_t n = c->info->count;
    void *args[] = {&x->sum,      &x->value, &x->array[0], &x->array[1],
                    &x->array[2], &n,        &f.lr,        &f.alpha,
                    &f.fresh,     &f.decay,  &f.eps,       &f.mu};

    return launch(d, GP_KERNEL_gp_cuda_update_rmsprop, c->info->count, args);
}

/* Its norms have been found by then. */
static gp_status
update_lamb(gp_shard_device *d, gp_chunk *c, const gp_updater_step *step)
{
    gp_chunk_device *x = c->device;
    float rate = gp_updater_lamb_rate(step);
    uint64_t n = c->info->count;
    void *args[] = {&x->sum, &x->value, &n, &rate};

    return launch(d, GP_KERNEL_gp_cuda_update_descend, c->info->count, args);
}

/* What others have registered has no kernel. */
static const struct {
    const gp_updater_ops *ops;
    device_update update;
} updaters[] = {
    {&gp_updater_sum, NULL},
    {&gp_updater_mean, NULL},
    {&gp_updater_sgd, update_sgd},
    {&gp_updater_adam, update_adam},
    {&gp_updater_adamw, update_adam},
    {&gp_updater_adagrad, update_adagrad},
    {&gp_updater_rmsprop, update_rmsprop},
    {&gp_updater_lamb, update_lamb},
};

gp_status
gp_device_updater_find(const shard_tensor *t, device_update *out)
{
    char known[128] = "";
    size_t used = 0;

    for (size_t i = 0; i < GP_COUNT_OF(updaters); i++) {
        if (updaters[i].ops == t->updater.ops) {
            *out = updaters[i].update;
            return GP_OK;
        }
        used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s",
                                 i ? ", " : "", updaters[i].ops->name);
    }
    return gp_fail(GP_ERR_UNSUPPORTED,
                   "tensor '%.60s': updater %.31s has no kernel; on a device "
                   "there are %s: use one of them, or set "
                   "GRADPUSH_SHARD_DEVICE to cpu",
                   t->spec->name, t->updater.ops->name, known);
}

/* The one updater with norms that has kernels is lamb. */
gp_status
gp_device_direct(gp_shard_device *d, gp_chunk *c)
{
    gp_updater_step step = {.number = c->version + 1,
                            .offset = c->info->offset};
    gp_chunk_device *x = c->device;
    uint64_t n = c->info->count;
    gp_lamb_factors f;
    gp_adam_factors *a = &f.adam;
    void *args[] = {&x->sum,   &x->value,  &x->array[0], &x->array[1], &n,
                    &a->beta1, &a->fresh1, &a->beta2,    &a->fresh2,   &a->eps,
                    &a->root,  &f.bias1,   &f.decay};

    gp_updater_fill(&c->tensor->updater, &step);
    f = gp_updater_lamb_factors(&step);
    return launch(d, GP_KERNEL_gp_cuda_update_direct, c->info->count, args);
}

gp_status
gp_device_update(gp_shard_device *d, gp_chunk *c)
{
    gp_updater_step step = {.number = c->version + 1,
                            .offset = c->info->offset,
                            .parameter_norm = c->parameter_norm,
                            .direction_norm = c->direction_norm};

    gp_updater_fill(&c->tensor->updater, &step);
    return c->tensor->device->update(d, c, &step);
}
