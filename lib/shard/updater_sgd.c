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

/* One pass; the branches on constants leave the loop when inlined. */
static inline void
loop(const double *v, float lr, float fresh, const float *restrict gradient,
     float *restrict value, float *restrict velocity, size_t count,
     bool momentum, bool nesterov)
{
    const float mu = (float)v[MOMENTUM], decay = (float)v[WEIGHT_DECAY];

    for (size_t i = 0; i < count; i++) {
        float g = gradient[i] + decay * value[i];

        if (momentum) {
            float u = mu * velocity[i] + fresh * g;

            velocity[i] = u;
            g = nesterov ? g + mu * u : u;
        }
        value[i] -= lr * g;
    }
}

static void
apply(void *instance, const gp_updater_step *step, const float *gradient,
      float *parameters, float *const *state, size_t count)
{
    const double *v = step->values;
    float lr = (float)step->lr;
    float fresh = step->number == 1 ? 1.0f : (float)(1.0 - v[DAMPENING]);

    (void)instance;
    if (v[MOMENTUM] == 0)
        loop(v, lr, fresh, gradient, parameters, NULL, count, false, false);
    else if (v[NESTEROV] != 0)
        loop(v, lr, fresh, gradient, parameters, state[0], count, true, true);
    else
        loop(v, lr, fresh, gradient, parameters, state[0], count, true, false);
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
