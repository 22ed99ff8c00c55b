/* SPDX-License-Identifier: Apache-2.0 */
/*
 * updater.h - what a shard does with the sum of a step's gradients.
 */
#ifndef GP_UPDATER_H
#define GP_UPDATER_H

#include <gradpush/updater.h>

#include "base/base.h"

typedef enum gp_updater_kind {
    GP_UPDATER_SUM = 1,
    GP_UPDATER_MEAN = 2,
    GP_UPDATER_OPTIMIZER = 3 /* shards hold parameters */
} gp_updater_kind;

/* Keys that every optimizer takes. */
typedef enum gp_updater_key {
    GP_KEY_WARMUP,
    GP_KEY_STEP_SIZE,
    GP_KEY_GAMMA,
    GP_KEY_COSINE,
    GP_KEY_LR_MIN,
    GP_KEY_CLIP,
    GP_KEYS
} gp_updater_key;

typedef struct gp_updater {
    gp_updater_kind kind;
    const gp_updater_ops *ops;
    double value[GP_UPDATER_PARAMS]; /* of ops->params */
    double key[GP_KEYS];
    int lr;          /* index of lr in `value`, or -1 */
    uint32_t arrays; /* bit i: ops->arrays[i] is there */
    void *instance;  /* between gp_updater_open() and gp_updater_close() */
} gp_updater;

/* Longest canonical text, with its zero. */
#define GP_UPDATER_TEXT 256u

/* Reads "sum", "mean", "adam:lr=1e-3,warmup=100". GP_ERR_CONFIG repeats the
 * text and says what is wrong where. Nothing of the result is to be freed. */
gp_status gp_updater_parse(const char *text, gp_updater *out);

/* Canonical text with every parameter of the updater, and those keys that are
 * in use; at most GP_UPDATER_TEXT. */
void gp_updater_print(const gp_updater *updater, char *out, size_t capacity);

/* Makes the instance, where updates happen. */
gp_status gp_updater_open(gp_updater *u);
void gp_updater_close(gp_updater *u);

/* The name of an array that is there, counted without those that are not; NULL
 * beyond the last. */
const char *gp_updater_array(const gp_updater *u, size_t index);

/* Whether shards hold parameters, which pulls return, rather than give each
 * step's result once. */
static inline bool
gp_updater_keeps(const gp_updater *u)
{
    return u->kind == GP_UPDATER_OPTIMIZER;
}

/* What the sum is multiplied with before it is a result or a gradient. */
static inline float
gp_updater_scale(const gp_updater *u, uint32_t workers)
{
    return u->kind == GP_UPDATER_SUM ? 1.0f : 1.0f / (float)workers;
}

/* The learning rate after `steps` steps, counted from 0. */
double gp_updater_lr(const gp_updater *u, uint64_t steps);

/* Whether its gradients are clipped by a norm of all that are. */
static inline bool
gp_updater_clips(const gp_updater *u)
{
    return u->kind == GP_UPDATER_OPTIMIZER && u->key[GP_KEY_CLIP] > 0;
}

/* What gradients are multiplied with when the norm of all that are clipped
 * together is `norm`; as torch.nn.utils.clip_grad_norm_. */
float gp_updater_clip(const gp_updater *u, double norm);

/* Sets what gp_updater_apply() fills in. */
void gp_updater_fill(const gp_updater *u, gp_updater_step *step);

/* One update. `arrays` has GP_UPDATER_ARRAYS pointers, in the table's order,
 * NULL for those that are not there; `step` needs a number, an offset and, with
 * ops->norms, the norms: the rest is filled in. */
void gp_updater_apply(const gp_updater *u, gp_updater_step *step,
                      const float *gradient, float *parameters,
                      float *const *arrays, size_t count);

/* The first half of it, of updaters with norms. */
void gp_updater_direct(const gp_updater *u, gp_updater_step *step,
                       float *gradient, const float *parameters,
                       float *const *arrays, size_t count);

/* base^exponent by squaring: the same bits whatever the machine's libm. */
double gp_updater_power(double base, uint64_t exponent);

/* updater_schedule.c: whether the keys make sense together, or words that say
 * why not. */
const char *gp_schedule_fault(const gp_updater *u);

/* What the loops of updaters need as fp32, rounded once from double. */
typedef struct gp_sgd_factors {
    float lr, mu;
    float fresh; /* of what enters the velocity */
    float decay;
    uint32_t nesterov;
} gp_sgd_factors;

typedef struct gp_adam_factors {
    float beta1, fresh1, beta2, fresh2, eps;
    float rate;   /* lr / (1 - beta1^n) */
    float root;   /* sqrt(1 - beta2^n) */
    float decay;  /* added to the gradient */
    float shrink; /* multiplied with the parameter first */
} gp_adam_factors;

/* Of lamb's first half, beside those of a decoupled adam. */
typedef struct gp_lamb_factors {
    gp_adam_factors adam;
    float bias1; /* 1 - beta1^n */
    float decay; /* added to the direction */
} gp_lamb_factors;

typedef struct gp_adagrad_factors {
    float lr, initial, decay, eps;
} gp_adagrad_factors;

typedef struct gp_rmsprop_factors {
    float lr, alpha, fresh, decay, eps, mu;
} gp_rmsprop_factors;

gp_sgd_factors gp_updater_sgd_factors(const gp_updater_step *step);
gp_adam_factors gp_updater_adam_factors(const gp_updater_step *step,
                                        bool decoupled);
gp_lamb_factors gp_updater_lamb_factors(const gp_updater_step *step);
/* What the direction is multiplied with in its second half. */
float gp_updater_lamb_rate(const gp_updater_step *step);
gp_adagrad_factors gp_updater_adagrad_factors(const gp_updater_step *step);
gp_rmsprop_factors gp_updater_rmsprop_factors(const gp_updater_step *step);

/* Built-in tables. */
extern const gp_updater_ops gp_updater_sum, gp_updater_mean, gp_updater_sgd,
    gp_updater_adagrad, gp_updater_rmsprop, gp_updater_adam, gp_updater_adamw,
    gp_updater_lamb;

#endif
