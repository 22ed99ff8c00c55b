/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reduce.c - the scalar reference of the reductions.
 */
#include <math.h>

#include "compress/kernels.h"
#include "compress/reduce.h"

#define LANES 16

static double
by_halves(double *p)
{
    for (size_t width = LANES / 2; width; width /= 2)
        for (size_t j = 0; j < width; j++)
            p[j] += p[j + width];
    return p[0];
}

uint32_t
gp_max_magnitude(const float *x, size_t n)
{
    uint32_t most = 0;

    for (size_t i = 0; i < n; i++) {
        uint32_t m = gp_bits(x[i]) & GP_FP32_MAGNITUDE;

        most = m > most ? m : most;
    }
    return most;
}

double
gp_sum_magnitudes(const float *x, size_t n)
{
    double p[LANES] = {0};

    for (size_t i = 0; i < n; i++)
        p[i % LANES] += fabs((double)x[i]);
    return by_halves(p);
}

double
gp_sum_squares(const float *x, size_t n)
{
    double p[LANES] = {0};

    for (size_t i = 0; i < n; i++)
        p[i % LANES] += (double)x[i] * (double)x[i];
    return by_halves(p);
}

double
gp_dot(const float *x, const float *y, size_t n)
{
    double p[LANES] = {0};

    for (size_t i = 0; i < n; i++)
        p[i % LANES] += (double)x[i] * (double)y[i];
    return by_halves(p);
}
