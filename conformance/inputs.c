/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inputs.c - numbers to encode. Element i of an input depends on i alone, and
 * "gauss" is exact arithmetic: the same bits on every machine.
 */
#include "conformance/suite.h"

#include <math.h>

uint64_t
gp_suite_random(uint64_t counter)
{
    uint64_t z = (counter + 1) * 0x9e3779b97f4a7c15ull;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

float
gp_suite_noise(uint64_t counter)
{
    return (float)(int32_t)(gp_suite_random(counter) >> 32) * 0x1p-31f;
}

/* In [0, 1), 32 bits. */
static double
uniform(uint64_t counter)
{
    return (double)(gp_suite_random(counter) >> 32) * 0x1p-32;
}

static double
gauss(uint64_t i)
{
    double sum = -6;

    for (uint64_t j = 0; j < 12; j++)
        sum += uniform(12 * i + j);
    return sum;
}

static double
laplace(uint64_t i)
{
    double u = uniform(i) - 0.5;

    return (u < 0 ? 1 : -1) * log(1 - 2 * fabs(u) * (1 - 0x1p-33));
}

static double
student(uint64_t i)
{
    double a = gauss(4 * i + 1), b = gauss(4 * i + 2), c = gauss(4 * i + 3);

    return gauss(4 * i) / sqrt((a * a + b * b + c * c) / 3 + 1e-9);
}

static double
spike(uint64_t i)
{
    return i == 0 ? 1 : 1e-4 * gauss(i);
}

static double
zero(uint64_t i)
{
    (void)i;
    return 0;
}

static double
minus_zero(uint64_t i)
{
    (void)i;
    return -0.0;
}

static double
equal(uint64_t i)
{
    (void)i;
    return 0.3;
}

static double
negative(uint64_t i)
{
    return -1 - uniform(i);
}

static double
denormal(uint64_t i)
{
    return 1e-40 * gauss(i);
}

static double
huge(uint64_t i)
{
    double m = pow(10, 30 + 8 * uniform(i)) * 3.4;

    return (i & 1 ? -1 : 1) * (i % 7 ? fmin(m, 3.4028234e38) : 0x1.fffffep127);
}

const gp_suite_input gp_suite_inputs[GP_SUITE_INPUTS] = {
    {"gauss", gauss, true},        {"laplace", laplace, true},
    {"student", student, true},    {"spike", spike, true},
    {"zero", zero, true},          {"minus-zero", minus_zero, true},
    {"equal", equal, true},        {"negative", negative, true},
    {"denormal", denormal, false}, {"huge", huge, false},
};

void
gp_suite_fill(const gp_suite_input *in, float *out, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = (float)in->element(i);
}
