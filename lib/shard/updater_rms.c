/* SPDX-License-Identifier: Apache-2.0 */
/*
 * updater_rms.c - gradients divided by the root of their mean square.
 *
 * adagrad: Duchi, Hazan, Singer 2011 (figure 1, diagonal), as
 * torch.optim.Adagrad, n being the number of the step from 1:
 *
 *     g = g + weight_decay p
 *     s = s + g^2
 *     p = p - lr / (1 + (n - 1) lr_decay) g / (sqrt(s) + eps)
 *
 * rmsprop: Tieleman, Hinton 2012 (Coursera, lecture 6.5); centered as in Graves
 * 2013 (equations 38 to 45); as torch.optim.RMSprop:
 *
 *     g = g + weight_decay p
 *     s = alpha s + (1 - alpha) g^2
 *     a = alpha a + (1 - alpha) g                         centered
 *     d = g / (sqrt(centered ? s - a^2 : s) + eps)
 *     v = momentum v + d;  p = p - lr (momentum ? v : d)
 */
#include <math.h>

#include "shard/updater.h"

enum { A_LR, A_LR_DECAY, A_WEIGHT_DECAY, A_INITIAL, A_EPS };

static const gp_updater_param adagrad_params[] = {
    {"lr", 0.01, 0, 1e9, 0, "learning rate"},
    {"lr_decay", 0, 0, 1e9, 0, "of the learning rate, per step"},
    {"weight_decay", 0, 0, 1e9, 0, "L2 penalty"},
    {"initial_accumulator_value", 0, 0, 1e9, 0, "what sums begin with"},
    {"eps", 1e-10, 0, 1, 0, "added to the divisor"},
    {NULL, 0, 0, 0, 0, NULL},
};
static const char *const adagrad_arrays[] = {"sum", NULL};

gp_adagrad_factors
gp_updater_adagrad_factors(const gp_updater_step *step)
{
    const double *v = step->values;
    double before = (double)(step->number - 1);

    return (gp_adagrad_factors){
        .lr = (float)(step->lr / (1.0 + before * v[A_LR_DECAY])),
        .initial = step->number == 1 ? (float)v[A_INITIAL] : 0.0f,
        .decay = (float)v[A_WEIGHT_DECAY],
        .eps = (float)v[A_EPS]};
}

static void
adagrad_loop(gp_adagrad_factors f, const float *restrict gradient,
             float *restrict value, float *restrict sum, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        float g = gradient[i] + f.decay * value[i];
        float s = sum[i] + f.initial + g * g;

        sum[i] = s;
        value[i] -= f.lr * g / (sqrtf(s) + f.eps);
    }
}

static void
adagrad_apply(void *instance, const gp_updater_step *step,
              const float *gradient, float *parameters, float *const *state,
              size_t count)
{
    (void)instance;
    adagrad_loop(gp_updater_adagrad_factors(step), gradient, parameters,
                 state[0], count);
}

const gp_updater_ops gp_updater_adagrad = {
    .abi = GP_UPDATER_ABI,
    .name = "adagrad",
    .text = "rates that fall with the sum of squared gradients",
    .params = adagrad_params,
    .arrays = adagrad_arrays,
    .apply = adagrad_apply,
};

enum { R_LR, R_ALPHA, R_EPS, R_WEIGHT_DECAY, R_MOMENTUM, R_CENTERED };
enum { SQUARE_AVG, GRAD_AVG, MOMENTUM_BUFFER };

static const gp_updater_param rmsprop_params[] = {
    {"lr", 0.01, 0, 1e9, 0, "learning rate"},
    {"alpha", 0.99, 0, 1, 0, "of the average of squares"},
    {"eps", 1e-8, 0, 1, 0, "added to the divisor"},
    {"weight_decay", 0, 0, 1e9, 0, "L2 penalty"},
    {"momentum", 0, 0, 1e9, 0, "of the velocity"},
    {"centered", 0, 0, 1, 1, "divide by the deviation"},
    {NULL, 0, 0, 0, 0, NULL},
};
static const char *const rmsprop_arrays[] = {"square_avg", "grad_avg",
                                             "momentum_buffer", NULL};

static uint32_t
rmsprop_arrays_of(const double *v)
{
    return 1u << SQUARE_AVG | (v[R_CENTERED] != 0 ? 1u << GRAD_AVG : 0) |
           (v[R_MOMENTUM] != 0 ? 1u << MOMENTUM_BUFFER : 0);
}

gp_rmsprop_factors
gp_updater_rmsprop_factors(const gp_updater_step *step)
{
    const double *v = step->values;

    return (gp_rmsprop_factors){.lr = (float)step->lr,
                                .alpha = (float)v[R_ALPHA],
                                .fresh = (float)(1.0 - v[R_ALPHA]),
                                .decay = (float)v[R_WEIGHT_DECAY],
                                .eps = (float)v[R_EPS],
                                .mu = (float)v[R_MOMENTUM]};
}

static inline void
rmsprop_loop(gp_rmsprop_factors f, const float *restrict gradient,
             float *restrict value, float *restrict square,
             float *restrict mean, float *restrict velocity, size_t count,
             bool centered, bool momentum)
{
    for (size_t i = 0; i < count; i++) {
        float g = gradient[i] + f.decay * value[i];
        float s = f.alpha * square[i] + f.fresh * g * g;

        square[i] = s;
        if (centered) {
            mean[i] = f.alpha * mean[i] + f.fresh * g;
            s = s - mean[i] * mean[i];
        }
        if (momentum) {
            velocity[i] = f.mu * velocity[i] + g / (sqrtf(s) + f.eps);
            value[i] -= f.lr * velocity[i];
        } else {
            value[i] -= f.lr * g / (sqrtf(s) + f.eps);
        }
    }
}

static void
rmsprop_apply(void *instance, const gp_updater_step *step,
              const float *gradient, float *parameters, float *const *state,
              size_t count)
{
    gp_rmsprop_factors f = gp_updater_rmsprop_factors(step);
    float *square = state[SQUARE_AVG], *mean = state[GRAD_AVG];
    float *velocity = state[MOMENTUM_BUFFER];

    (void)instance;
    if (mean && velocity)
        rmsprop_loop(f, gradient, parameters, square, mean, velocity, count,
                     true, true);
    else if (mean)
        rmsprop_loop(f, gradient, parameters, square, mean, NULL, count, true,
                     false);
    else if (velocity)
        rmsprop_loop(f, gradient, parameters, square, NULL, velocity, count,
                     false, true);
    else
        rmsprop_loop(f, gradient, parameters, square, NULL, NULL, count, false,
                     false);
}

const gp_updater_ops gp_updater_rmsprop = {
    .abi = GP_UPDATER_ABI,
    .name = "rmsprop",
    .text = "rates by a moving average of squared gradients",
    .params = rmsprop_params,
    .arrays = rmsprop_arrays,
    .arrays_of = rmsprop_arrays_of,
    .apply = rmsprop_apply,
};
