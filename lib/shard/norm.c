/* SPDX-License-Identifier: Apache-2.0 */
/*
 * norm.c - sums of squares that do not depend on how they are split.
 *
 * The square of an fp32 number is a whole multiple of 2^-298, and a double
 * holds it exactly. A block's sum is at most 2^262, rounded to 53 bits, so a
 * whole multiple of 2^-350 after the lowest of them has been shifted out.
 */
#include "shard/norm.h"

#include <math.h>
#include <string.h>

#define LOWEST 350
#define LANES  8u

/* The sum over one block, in an order that vectors can keep. */
static double
block_sum(const float *x, size_t count)
{
    double lane[LANES] = {0};
    size_t i = 0;

    for (; i + LANES <= count; i += LANES)
        for (size_t k = 0; k < LANES; k++)
            lane[k] += (double)x[i + k] * (double)x[i + k];
    for (size_t k = 0; i + k < count; k++)
        lane[k] += (double)x[i + k] * (double)x[i + k];
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) +
           ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

static void
carry(gp_norm *n)
{
    uint64_t over = 0;

    for (uint32_t i = 0; i < GP_NORM_DIGITS; i++) {
        over += n->digit[i];
        n->digit[i] = over & UINT32_MAX;
        over >>= 32;
    }
}

/* A number that is not negative. Digits keep what is carried for 2^31 times. */
static void
add_double(gp_norm *n, double value)
{
    uint64_t mantissa;
    uint32_t shift;
    uint64_t low, high;
    size_t at;
    int exponent;

    if (value == 0)
        return;
    mantissa = (uint64_t)ldexp(frexp(value, &exponent), 53);
    exponent += LOWEST - 53;
    at = (size_t)exponent / 32;
    shift = (uint32_t)exponent % 32;
    low = mantissa << shift;
    high = shift ? mantissa >> (64 - shift) : 0;
    n->digit[at] += low & UINT32_MAX;
    n->digit[at + 1] += low >> 32;
    n->digit[at + 2] += high;
}

static void
add_block(gp_norm *n, double sum)
{
    if (isfinite(sum))
        add_double(n, sum);
    else
        n->special |= isnan(sum) ? 1u : 2u;
}

void
gp_norm_add(gp_norm *n, const float *values, size_t count)
{
    for (size_t at = 0; at < count; at += GP_NORM_BLOCK)
        add_block(n, block_sum(values + at, GP_MIN(count - at, GP_NORM_BLOCK)));
    carry(n);
}

void
gp_norm_add_sums(gp_norm *n, const double *sums, size_t count)
{
    for (size_t i = 0; i < count; i++)
        add_block(n, sums[i]);
    carry(n);
}

void
gp_norm_merge(gp_norm *n, const gp_norm *other)
{
    for (uint32_t i = 0; i < GP_NORM_DIGITS; i++)
        n->digit[i] += other->digit[i];
    n->special |= other->special;
    carry(n);
}

double
gp_norm_sum(const gp_norm *n)
{
    double sum = 0;

    if (n->special)
        return n->special & 1 ? NAN : INFINITY;
    for (uint32_t i = GP_NORM_DIGITS; i-- > 0;)
        sum += ldexp((double)n->digit[i], 32 * (int)i - LOWEST);
    return sum;
}

static void
put(uint8_t *out, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        out[i] = (uint8_t)(value >> 8 * i);
}

static uint32_t
get(const uint8_t *in)
{
    return (uint32_t)in[0] | (uint32_t)in[1] << 8 | (uint32_t)in[2] << 16 |
           (uint32_t)in[3] << 24;
}

void
gp_norm_encode(const gp_norm *n, uint8_t *out)
{
    for (uint32_t i = 0; i < GP_NORM_DIGITS; i++)
        put(out + 4 * i, (uint32_t)n->digit[i]);
    put(out + 4 * GP_NORM_DIGITS, n->special);
}

void
gp_norm_decode(const uint8_t *in, gp_norm *out)
{
    for (uint32_t i = 0; i < GP_NORM_DIGITS; i++)
        out->digit[i] = get(in + 4 * i);
    out->special = get(in + 4 * GP_NORM_DIGITS) & 3u;
}
