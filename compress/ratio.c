/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ratio.c - the schedule of a selection's share.
 *
 * Both ends may compute it, each with its own mathematical library, and must
 * not differ by an element: only operations that IEEE 754 rounds correctly.
 */
#include <math.h>

#include "base/base.h"
#include "compress/ratio.h"

/* Excess of ratio * n over a whole number that is rounding noise: 0.07 * 100
 * shall be 7. */
#define NOISE 0x1p-40

gp_status
gp_ratio_make(double ratio, double start, double over, gp_ratio *out)
{
    if ((start > 0) != (over > 0))
        return gp_fail(GP_ERR_CONFIG,
                       "start and over go together: start=0.25,over=1000 "
                       "falls from 25 %% in 1000 steps");
    if (start > 0 && start < ratio)
        return gp_fail(GP_ERR_CONFIG,
                       "start=%g must not be below ratio=%g; it falls to it",
                       start, ratio);
    *out = (gp_ratio){ratio, start, over};
    return GP_OK;
}

/* base^exponent for 0 <= exponent < 1: the product of base^(1/2), base^(1/4)...
 * where the exponent has a bit. */
static double
fraction_power(double base, double exponent)
{
    double result = 1;

    for (int bit = 0; bit < 53 && exponent > 0; bit++) {
        base = sqrt(base);
        exponent *= 2;
        if (exponent >= 1) {
            result *= base;
            exponent -= 1;
        }
    }
    return result;
}

double
gp_ratio_at(const gp_ratio *ratio, uint64_t step)
{
    double at;

    if (!(ratio->over > 0) || (double)step >= ratio->over)
        return ratio->ratio;
    at = ratio->start * fraction_power(ratio->ratio / ratio->start,
                                       (double)step / ratio->over);
    return at > ratio->ratio ? at : ratio->ratio;
}

static size_t
share_of(double share, size_t n)
{
    double k = ceil(share * (double)n * (1 - NOISE));

    if (n == 0)
        return 0;
    if (!(k >= 1))
        return 1;
    return k < (double)n ? (size_t)k : n;
}

size_t
gp_ratio_count(const gp_ratio *ratio, uint64_t step, size_t n)
{
    return share_of(gp_ratio_at(ratio, step), n);
}

size_t
gp_ratio_most(const gp_ratio *ratio, size_t n)
{
    return share_of(ratio->start > 0 ? ratio->start : ratio->ratio, n);
}

size_t
gp_ratio_least(const gp_ratio *ratio, size_t n)
{
    return share_of(ratio->ratio, n);
}
