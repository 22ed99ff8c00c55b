/* SPDX-License-Identifier: Apache-2.0 */
/*
 * updater_adam.c - moving averages of gradients and of their squares.
 *
 * adam: Kingma, Ba 2015 (algorithm 1), amsgrad: Reddi, Kale, Kumar 2018
 * (algorithm 2), adamw: Loshchilov, Hutter 2019 (algorithm 2); as
 * torch.optim.Adam and AdamW, n being the number of the step from 1:
 *
 *     g = g + weight_decay p                              adam
 *     p = p - lr weight_decay p                           adamw
 *     m = beta1 m + (1 - beta1) g
 *     v = beta2 v + (1 - beta2) g^2
 *     x = max(x, v)                                       amsgrad, else x = v
 *     p = p - lr / (1 - beta1^n) m / (sqrt(x) / sqrt(1 - beta2^n) + eps)
 *
 * lamb: You et al. 2020 (algorithm 2), phi being the identity, and the ratio 1
 * where one of the norms is 0. Norms are over the whole tensor:
 *
 *     d = m / (1 - beta1^n) / (sqrt(v / (1 - beta2^n)) + eps) + weight_decay p
 *     p = p - lr |p| / |d| d
 */
#include <math.h>

#include "shard/updater.h"

enum { LR, BETA1, BETA2, EPS, WEIGHT_DECAY, AMSGRAD };
enum { EXP_AVG, EXP_AVG_SQ, MAX_EXP_AVG_SQ };

/* Beyond it fp32 has no average that would move. */
#define BETA_MAX 0.9999999

#define PARAMS(eps, decay)                                         \
    {"lr", 0.001, 0, 1e9, 0, "learning rate"},                     \
        {"beta1", 0.9, 0, BETA_MAX, 0, "of the average gradient"}, \
        {"beta2", 0.999, 0, BETA_MAX, 0, "of the average square"}, \
        {"eps", eps, 0, 1, 0, "added to the divisor"},             \
    {                                                              \
        "weight_decay", decay, 0, 1e9, 0, "pull towards zero"      \
    }
#define AMSGRAD_PARAM                                                 \
    {                                                                 \
        "amsgrad", 0, 0, 1, 1, "divide by the largest average so far" \
    }
#define PARAMS_END             \
    {                          \
        NULL, 0, 0, 0, 0, NULL \
    }

static const gp_updater_param adam_params[] = {PARAMS(1e-8, 0), AMSGRAD_PARAM,
                                               PARAMS_END};
static const gp_updater_param adamw_params[] = {PARAMS(1e-8, 0.01),
                                                AMSGRAD_PARAM, PARAMS_END};
static const gp_updater_param lamb_params[] = {PARAMS(1e-6, 0.01), PARAMS_END};
static const char *const adam_arrays[] = {"exp_avg", "exp_avg_sq",
                                          "max_exp_avg_sq", NULL};
static const char *const lamb_arrays[] = {"exp_avg", "exp_avg_sq", NULL};

static uint32_t
adam_arrays_of(const double *v)
{
    return 1u << EXP_AVG | 1u << EXP_AVG_SQ |
           (v[AMSGRAD] != 0 ? 1u << MAX_EXP_AVG_SQ : 0);
}

gp_adam_factors
gp_updater_adam_factors(const gp_updater_step *step, bool decoupled)
{
    const double *v = step->values;
    double bias1 = 1.0 - gp_updater_power(v[BETA1], step->number);
    double bias2 = 1.0 - gp_updater_power(v[BETA2], step->number);

    return (gp_adam_factors){
        .beta1 = (float)v[BETA1],
        .fresh1 = (float)(1.0 - v[BETA1]),
        .beta2 = (float)v[BETA2],
        .fresh2 = (float)(1.0 - v[BETA2]),
        .eps = (float)v[EPS],
        .rate = (float)(step->lr / bias1),
        .root = (float)sqrt(bias2),
        .decay = decoupled ? 0.0f : (float)v[WEIGHT_DECAY],
        .shrink = decoupled ? (float)(1.0 - step->lr * v[WEIGHT_DECAY]) : 1.0f,
    };
}

gp_lamb_factors
gp_updater_lamb_factors(const gp_updater_step *step)
{
    const double *v = step->values;

    return (gp_lamb_factors){
        .adam = gp_updater_adam_factors(step, true),
        .bias1 = (float)(1.0 - gp_updater_power(v[BETA1], step->number)),
        .decay = (float)v[WEIGHT_DECAY],
    };
}

float
gp_updater_lamb_rate(const gp_updater_step *step)
{
    double p = step->parameter_norm, d = step->direction_norm;
    double ratio = p == 0 || d == 0 ? 1.0 : p / d;

    return (float)(step->lr * ratio);
}

static inline void
loop(gp_adam_factors f, const float *restrict gradient, float *restrict value,
     float *restrict mean, float *restrict square, float *restrict most,
     size_t count, bool amsgrad)
{
    for (size_t i = 0; i < count; i++) {
        float p = value[i] * f.shrink;
        float g = gradient[i] + f.decay * p;
        float m = f.beta1 * mean[i] + f.fresh1 * g;
        float v = f.beta2 * square[i] + f.fresh2 * g * g;

        mean[i] = m;
        square[i] = v;
        if (amsgrad) {
            v = most[i] > v ? most[i] : v;
            most[i] = v;
        }
        value[i] = p - f.rate * m / (sqrtf(v) / f.root + f.eps);
    }
}

static void
update(const gp_updater_step *step, bool decoupled, const float *gradient,
       float *parameters, float *const *state, size_t count)
{
    gp_adam_factors f = gp_updater_adam_factors(step, decoupled);

    if (state[MAX_EXP_AVG_SQ])
        loop(f, gradient, parameters, state[EXP_AVG], state[EXP_AVG_SQ],
             state[MAX_EXP_AVG_SQ], count, true);
    else
        loop(f, gradient, parameters, state[EXP_AVG], state[EXP_AVG_SQ], NULL,
             count, false);
}

static void
adam_apply(void *instance, const gp_updater_step *step, const float *gradient,
           float *parameters, float *const *state, size_t count)
{
    (void)instance;
    update(step, false, gradient, parameters, state, count);
}

static void
adamw_apply(void *instance, const gp_updater_step *step, const float *gradient,
            float *parameters, float *const *state, size_t count)
{
    (void)instance;
    update(step, true, gradient, parameters, state, count);
}

static void
lamb_loop(gp_lamb_factors l, float *restrict gradient,
          const float *restrict value, float *restrict mean,
          float *restrict square, size_t count)
{
    gp_adam_factors f = l.adam;

    for (size_t i = 0; i < count; i++) {
        float g = gradient[i];
        float m = f.beta1 * mean[i] + f.fresh1 * g;
        float v = f.beta2 * square[i] + f.fresh2 * g * g;

        mean[i] = m;
        square[i] = v;
        gradient[i] =
            m / l.bias1 / (sqrtf(v) / f.root + f.eps) + l.decay * value[i];
    }
}

static void
lamb_direction(void *instance, const gp_updater_step *step, float *gradient,
               const float *parameters, float *const *state, size_t count)
{
    (void)instance;
    lamb_loop(gp_updater_lamb_factors(step), gradient, parameters,
              state[EXP_AVG], state[EXP_AVG_SQ], count);
}

static void
descend(float rate, const float *restrict direction, float *restrict value,
        size_t count)
{
    for (size_t i = 0; i < count; i++)
        value[i] -= rate * direction[i];
}

static void
lamb_apply(void *instance, const gp_updater_step *step, const float *gradient,
           float *parameters, float *const *state, size_t count)
{
    (void)instance;
    (void)state;
    descend(gp_updater_lamb_rate(step), gradient, parameters, count);
}

const gp_updater_ops gp_updater_adam = {
    .abi = GP_UPDATER_ABI,
    .name = "adam",
    .text = "moving averages of gradients and squares",
    .params = adam_params,
    .arrays = adam_arrays,
    .arrays_of = adam_arrays_of,
    .apply = adam_apply,
};

const gp_updater_ops gp_updater_adamw = {
    .abi = GP_UPDATER_ABI,
    .name = "adamw",
    .text = "adam with weight decay beside it",
    .params = adamw_params,
    .arrays = adam_arrays,
    .arrays_of = adam_arrays_of,
    .apply = adamw_apply,
};

const gp_updater_ops gp_updater_lamb = {
    .abi = GP_UPDATER_ABI,
    .name = "lamb",
    .text = "adam scaled to each tensor's norm, for large batches",
    .params = lamb_params,
    .arrays = lamb_arrays,
    .norms = 1,
    .direction = lamb_direction,
    .apply = lamb_apply,
};
