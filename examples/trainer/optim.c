/* SPDX-License-Identifier: Apache-2.0 */
/*
 * optim.c - the SGD family on the worker.
 *
 * The order of operations is the one of the shards' updater, so that both ways
 * of updating give the same bits.
 */
#include "optim.h"

static void
plain(float *restrict w, const float *restrict g, size_t n, float lr,
      float decay)
{
    if (decay == 0)
        for (size_t i = 0; i < n; i++)
            w[i] -= lr * g[i];
    else
        for (size_t i = 0; i < n; i++)
            w[i] -= lr * (g[i] + decay * w[i]);
}

static void
heavy_ball(float *restrict w, const float *restrict g, float *restrict v,
           size_t n, const gt_optim *o)
{
    float lr = o->lr, mu = o->momentum, decay = o->weight_decay;

    for (size_t i = 0; i < n; i++) {
        v[i] = mu * v[i] + (g[i] + decay * w[i]);
        w[i] -= lr * v[i];
    }
}

static void
nesterov(float *restrict w, const float *restrict g, float *restrict v,
         size_t n, const gt_optim *o)
{
    float lr = o->lr, mu = o->momentum, decay = o->weight_decay;

    for (size_t i = 0; i < n; i++) {
        float d = g[i] + decay * w[i];

        v[i] = mu * v[i] + d;
        w[i] -= lr * (d + mu * v[i]);
    }
}

void
gt_optim_step(const gt_optim *optim, float *params, const float *grads,
              float *velocity, size_t count)
{
    switch (optim->kind) {
    case GT_SGD:
        plain(params, grads, count, optim->lr, optim->weight_decay);
        break;
    case GT_MOMENTUM:
        heavy_ball(params, grads, velocity, count, optim);
        break;
    case GT_NESTEROV:
        nesterov(params, grads, velocity, count, optim);
        break;
    default: /* refused with the options */
        break;
    }
}
