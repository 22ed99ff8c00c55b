/* SPDX-License-Identifier: Apache-2.0 */
/*
 * updater_sgd.c - stochastic gradient descent with momentum.
 *
 * As torch.optim.SGD: heavy ball (Polyak 1964) without the learning rate inside
 * the velocity, Nesterov's variant as in Sutskever et al. 2013.
 *
 *     g = g + weight_decay p
 *     v = momentum v + (1 - dampening) g        (the first time: v = g)
 *     p = p - lr (momentum ? nesterov ? g + momentum v : v : g)
 *
 * The order of operations is that of the trainer's own SGD: both give the same
 * bits.
 */
#include "shard/updater.h"

enum { LR, MOMENTUM, NESTEROV, WEIGHT_DECAY, DAMPENING };

static const gp_updater_param params[] = {
    {"lr", 0.1, 0, 1e9, 0, "learning rate"},
    {"momentum", 0, 0, 1e9, 0, "of the velocity"},
    {"nesterov", 0, 0, 1, 1, "look ahead along the velocity"},
    {"weight_decay", 0, 0, 1e9, 0, "L2 penalty"},
    {"dampening", 0, 0, 1, 0, "of what enters the velocity"},
    {NULL, 0, 0, 0, 0, NULL},
};
static const char *const arrays[] = {"momentum_buffer", NULL};

static const char *
check(const double *v)
{
    if (v[NESTEROV] != 0 && v[MOMENTUM] == 0)
        return "nesterov needs momentum above 0";
    if (v[NESTEROV] != 0 && v[DAMPENING] != 0)
        return "nesterov needs dampening 0";
    return NULL;
}

static uint32_t
arrays_of(const double *v)
{
    return v[MOMENTUM] != 0;
}

gp_sgd_factors
gp_updater_sgd_factors(const gp_updater_step *step)
{
    const double *v = step->values;

    return (gp_sgd_factors){
        .lr = (float)step->lr,
        .mu = (float)v[MOMENTUM],
        .fresh = step->number == 1 ? 1.0f : (float)(1.0 - v[DAMPENING]),
        .decay = (float)v[WEIGHT_DECAY],
        .nesterov = v[NESTEROV] != 0};
}

/* One pass; the branches on constants leave the loop when inlined. */
static inline void
loop(gp_sgd_factors f, const float *restrict gradient, float *restrict value,
     float *restrict velocity, size_t count, bool momentum, bool nesterov)
{
    for (size_t i = 0; i < count; i++) {
        float g = gradient[i] + f.decay * value[i];

        if (momentum) {
            float u = f.mu * velocity[i] + f.fresh * g;

            velocity[i] = u;
            g = nesterov ? g + f.mu * u : u;
        }
        value[i] -= f.lr * g;
    }
}

static void
apply(void *instance, const gp_updater_step *step, const float *gradient,
      float *parameters, float *const *state, size_t count)
{
    gp_sgd_factors f = gp_updater_sgd_factors(step);

    (void)instance;
    if (!state[0])
        loop(f, gradient, parameters, NULL, count, false, false);
    else if (f.nesterov)
        loop(f, gradient, parameters, state[0], count, true, true);
    else
        loop(f, gradient, parameters, state[0], count, true, false);
}

const gp_updater_ops gp_updater_sgd = {
    .abi = GP_UPDATER_ABI,
    .name = "sgd",
    .text = "stochastic gradient descent, momentum, Nesterov",
    .params = params,
    .arrays = arrays,
    .check = check,
    .arrays_of = arrays_of,
    .apply = apply,
};
