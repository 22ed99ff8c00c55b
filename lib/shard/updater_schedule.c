/* SPDX-License-Identifier: Apache-2.0 */
/*
 * updater_schedule.c - learning rates that change with the steps.
 *
 * Shards compute the rate for themselves, each for its own chunks, so it must
 * come out with the same bits on all machines: powers and the cosine are made
 * of additions and multiplications here, not taken from a libm.
 */
#include "shard/updater.h"

double
gp_updater_power(double base, uint64_t exponent)
{
    double power = 1.0;

    for (; exponent; exponent >>= 1) {
        if (exponent & 1)
            power *= base;
        base *= base;
    }
    return power;
}

#define PI 3.14159265358979323846

/* 1 - x^2/(first (first + 1)) (1 - x^2/((first + 2) (first + 3)) (...)), for
 * x up to pi/4: from 1 the cosine, from 2 the sine divided by x. */
static double
series(double square, int first)
{
    double sum = 1.0;

    for (int n = first + 18; n >= first; n -= 2)
        sum = 1.0 - square / (n * (n + 1.0)) * sum;
    return sum;
}

/* cos(pi x) for x from 0 to 1. */
static double
cosine(double x)
{
    double y;

    if (x > 0.5)
        return -cosine(1.0 - x);
    if (x <= 0.25)
        return series(PI * x * PI * x, 1);
    y = PI * (0.5 - x);
    return y * series(y * y, 2);
}

double
gp_updater_lr(const gp_updater *u, uint64_t steps)
{
    const double *key = u->key;
    double lr = u->lr < 0 ? 0.0 : u->value[u->lr];
    uint64_t warmup = (uint64_t)key[GP_KEY_WARMUP];
    double x;

    if (u->lr < 0)
        return 0.0;
    if (steps < warmup)
        return lr * ((double)(steps + 1) / (double)warmup);
    steps -= warmup;
    if (key[GP_KEY_STEP_SIZE] > 0)
        return lr * gp_updater_power(key[GP_KEY_GAMMA],
                                     steps / (uint64_t)key[GP_KEY_STEP_SIZE]);
    if (key[GP_KEY_COSINE] == 0)
        return lr;
    x = GP_MIN((double)steps / key[GP_KEY_COSINE], 1.0);
    return key[GP_KEY_LR_MIN] +
           (lr - key[GP_KEY_LR_MIN]) * (1.0 + cosine(x)) / 2.0;
}

const char *
gp_schedule_fault(const gp_updater *u)
{
    const double *key = u->key;
    bool scheduled = key[GP_KEY_WARMUP] > 0 || key[GP_KEY_STEP_SIZE] > 0 ||
                     key[GP_KEY_COSINE] > 0;

    if (scheduled && u->lr < 0)
        return "it has no lr that a schedule could change";
    if (key[GP_KEY_STEP_SIZE] > 0 && key[GP_KEY_COSINE] > 0)
        return "step_size and cosine are two schedules: choose one";
    if (key[GP_KEY_LR_MIN] > 0 && key[GP_KEY_COSINE] == 0)
        return "lr_min is where cosine=STEPS ends: give both";
    if (key[GP_KEY_LR_MIN] > 0 && key[GP_KEY_LR_MIN] > u->value[u->lr])
        return "lr_min is above lr";
    return NULL;
}
