/* SPDX-License-Identifier: Apache-2.0 */
/*
 * optim.h - the SGD family on the worker, as torch.optim.SGD defines it:
 *
 *     g = grad + weight_decay * w
 *     v = momentum * v + g
 *     w = w - lr * (g | v | g + momentum * v)     sgd | momentum | nesterov
 */
#ifndef GT_OPTIM_H
#define GT_OPTIM_H

#include "common.h"

typedef enum gt_optim_kind {
    GT_SGD,
    GT_MOMENTUM,
    GT_NESTEROV,
    GT_ADAGRAD, /* from here on on shards only */
    GT_RMSPROP,
    GT_ADAM,
    GT_ADAMW,
    GT_LAMB
} gt_optim_kind;

typedef struct gt_optim {
    gt_optim_kind kind;
    float lr, momentum, weight_decay;
} gt_optim;

/* One pass over `count` values, of the first three kinds. `velocity` starts as
 * zeros and is not touched (may be NULL) for GT_SGD. */
void gt_optim_step(const gt_optim *optim, float *params, const float *grads,
                   float *velocity, size_t count);

#endif
