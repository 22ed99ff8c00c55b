/* SPDX-License-Identifier: Apache-2.0 */
/*
 * updater.h - what a shard does with the sum of a step's gradients.
 */
#ifndef GP_UPDATER_H
#define GP_UPDATER_H

#include "base/base.h"

typedef enum gp_updater_kind {
    GP_UPDATER_SUM = 1,
    GP_UPDATER_MEAN = 2,
    GP_UPDATER_SGD = 3
} gp_updater_kind;

typedef struct gp_updater {
    gp_updater_kind kind;
    float lr, momentum, weight_decay;
    bool nesterov;
} gp_updater;

/* Reads "sum", "mean", "sgd:lr=0.1,momentum=0.9,nesterov=1,weight_decay=0.1".
 * GP_ERR_CONFIG repeats the text and says what is wrong where. */
gp_status gp_updater_parse(const char *text, gp_updater *out);

/* Canonical text with every parameter, into at most `capacity` bytes. */
void gp_updater_print(const gp_updater *updater, char *out, size_t capacity);

/* What the sum is multiplied with before it is a result or a gradient. */
static inline float
gp_updater_scale(const gp_updater *u, uint32_t workers)
{
    return u->kind == GP_UPDATER_SUM ? 1.0f : 1.0f / (float)workers;
}

/* SGD as in PyTorch: g += wd * p; v = momentum * v + g (v starts as 0, so the
 * first v is g); p -= lr * (nesterov ? g + momentum * v : v). `velocity` may be
 * NULL when momentum is 0. */
void gp_updater_sgd(const gp_updater *u, const float *gradient, float *value,
                    float *velocity, size_t count);

#endif
