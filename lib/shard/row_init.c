/* SPDX-License-Identifier: Apache-2.0 */
/*
 * row_init.c - initial rows, each number from (seed, row, column) alone.
 *
 * Philox (compress/philox.h) with the seed as key; the row and the column are
 * the counter. A normal number is the inverse of the distribution function at a
 * uniform one: Wichura 1988, AS 241, the shorter of its two approximations
 * (about 7 digits). Nothing of the system's mathematical library is used but
 * the square root, which is exact, so that all machines agree.
 */
#include "shard/row_init.h"

#include <math.h>
#include <string.h>

#include "compress/philox.h"

#define WORDS 64u

/* The natural logarithm of 0 < x < 1: x = m 2^e with m from sqrt(1/2) to
 * sqrt(2), and 2 atanh((m - 1) / (m + 1)) as its series, to 1e-12. */
static double
log_of(double x)
{
    int e;
    double m = frexp(x, &e), z, square, term, sum = 0;

    if (m < 0.70710678118654752) {
        m *= 2;
        e--;
    }
    z = (m - 1) / (m + 1);
    square = z * z;
    term = z;
    for (int k = 1; k < 17; k += 2) {
        sum += term / k;
        term *= square;
    }
    return 2 * sum + e * 0.69314718055994531;
}

static double
central(double q)
{
    double r = 0.180625 - q * q;

    return q *
           (((59.109374720 * r + 159.29113202) * r + 50.434271938) * r +
            3.3871327179) /
           (((67.187563600 * r + 78.757757664) * r + 17.895169469) * r + 1.0);
}

static double
near_tail(double r)
{
    return (((0.17023821103 * r + 1.3067284816) * r + 2.7568153900) * r +
            1.4234372777) /
           ((0.12021132975 * r + 0.73700164250) * r + 1.0);
}

static double
far_tail(double r)
{
    return (((0.017337203997 * r + 0.42868294337) * r + 3.0812263860) * r +
            6.6579051150) /
           ((0.012258202635 * r + 0.24197894225) * r + 1.0);
}

/* Of 32 random bits. */
static float
normal_of(uint32_t word)
{
    double p = ((double)word + 0.5) * 0x1p-32, q = p - 0.5, r, x;

    if (q >= -0.425 && q <= 0.425)
        return (float)central(q);
    r = sqrt(-log_of(q < 0 ? p : 1 - p));
    x = r <= 5 ? near_tail(r - 1.6) : far_tail(r - 5);
    return (float)(q < 0 ? -x : x);
}

void
gp_row_initialize(const gp_row_spec *spec, uint64_t index, float *out)
{
    const gp_stream stream = {
        .key = {(uint32_t)spec->seed, (uint32_t)(spec->seed >> 32)},
        .step = {(uint32_t)index, (uint32_t)(index >> 32)}};
    uint32_t words[WORDS];

    if (spec->init == GP_ROWS_ZERO) {
        memset(out, 0, spec->width * sizeof(float));
        return;
    }
    for (uint32_t at = 0; at < spec->width; at += WORDS) {
        uint32_t count = GP_MIN(spec->width - at, WORDS);

        gp_philox_words(&stream, at, words, count);
        for (uint32_t i = 0; i < count; i++)
            out[at + i] = spec->scale * (spec->init == GP_ROWS_UNIFORM
                                             ? 2 * gp_unit(words[i]) - 1
                                             : normal_of(words[i]));
    }
}
