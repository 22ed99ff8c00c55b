/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qn.c - the codecs q4 and q2: integers of 4 and 2 bits with one scale per
 * block; and what all block formats do to open.
 *
 * Subtractive dither adds up to half a step to a number before it is rounded.
 * Its levels are 1/4096 smaller, so that even the largest element plus half a
 * step, with the rounding of both, never reaches the next integer.
 */
#include <math.h>
#include <string.h>

#include "base/base.h"
#include "compress/quant.h"

gp_status
gp_quant_make(gp_blocks *f, void **instance)
{
    gp_blocks *made = malloc(sizeof(*made));

    if (!made)
        return gp_fail(GP_ERR_NO_MEMORY, "no memory for a codec");
    gp_blocks_finish(f);
    *made = *f;
    *instance = made;
    return GP_OK;
}

gp_status
gp_quant_open(gp_blocks *f, const double *values, void **instance)
{
    f->block = (size_t)values[0];
    f->round = (gp_round)values[1];
    f->scale = (gp_scale)values[2];
    if (f->block % 32)
        return gp_fail(GP_ERR_CONFIG,
                       "block=%zu is not a multiple of 32; write %zu", f->block,
                       (f->block + 16) / 32 * 32);
    if (f->round == GP_ROUND_DITHER)
        f->levels *= 4095.0f / 4096;
    return gp_quant_make(f, instance);
}

uint32_t
gp_blocks_properties(const void *instance)
{
    const gp_blocks *f = instance;

    return GP_CODEC_FIXED_RATE |
           (f->round == GP_ROUND_NEAREST ? GP_CODEC_CONTRACTS
                                         : GP_CODEC_UNBIASED);
}

/* ---- bounds ---------------------------------------------------------- */

/* A unit is `grow` times absmax / levels at most. With an fp32 scale the
 * largest element is a whole number of units, so it has no error. */
static double
integer_bound(const gp_blocks *f, double b)
{
    bool fine = f->scale == GP_SCALE_FP32;
    double unit = (fine ? 1 : 1 + 0x1p-7) / (double)f->levels, e;

    if (f->scale == GP_SCALE_E8M0 && f->round == GP_ROUND_NEAREST)
        return b / 4 / (64 * 64) + 1 / (127.0 * 127);
    if (f->scale == GP_SCALE_E8M0)
        return b / 4 / (63.5 * 63.5);
    if (f->round == GP_ROUND_DITHER)
        return b * unit * unit / 12;
    e = (b - 1) * unit * unit / 4;
    if (f->round == GP_ROUND_NEAREST)
        return (e + (fine ? 0 : unit * unit / 4)) / (1 + e);
    if (f->levels == 1 && fine && e > (sqrt(b) - 1) / 2)
        e = (sqrt(b) - 1) / 2;
    return fine ? e : e + unit * unit / 4;
}

/* Half a step relative to a normal element, or in units for the others; a power
 * of two as unit can also cut off what lies above the largest code. */
static double
float_bound(const gp_blocks *f, double b, double count)
{
    double relative = ldexp(1, -f->mantissa - 1), largest = (double)f->levels;
    double small = ldexp(1, f->least - f->mantissa - 1), far = 0;
    double unit = (f->scale == GP_SCALE_BF16 ? 1 + 0x1p-7 : 1) / largest;

    if (f->scale == GP_SCALE_E8M0 && f->round == GP_ROUND_NEAREST) {
        double cut = 1 - largest / ldexp(1, f->top + 1);

        relative = cut > relative ? cut : relative;
        unit = ldexp(1, -f->top);
    } else if (f->scale == GP_SCALE_E8M0) {
        unit = 2 / largest;
    } else if (f->scale == GP_SCALE_E4M3) {
        bool nearest = f->round == GP_ROUND_NEAREST;

        unit = (nearest ? 17.0 / 16 : 9.0 / 8) / largest;
        far = count * (nearest ? 1.3e-9 : 2.2e-12);
    }
    return relative * relative + b * small * small * unit * unit + far;
}

double
gp_blocks_error_bound(const void *instance, size_t count)
{
    const gp_blocks *f = instance;
    size_t b = count < f->block ? count : f->block;
    double bound;

    if (!b)
        return 0;
    bound = f->integer ? integer_bound(f, (double)b)
                       : float_bound(f, (double)b, (double)count);
    return f->round == GP_ROUND_NEAREST && bound > 1 ? 1 : bound;
}

/* ---- tables ---------------------------------------------------------- */

static const gp_codec_param q4_params[] = {
    {"block", 32, 32, 65536, 1, "elements that share a scale, a multiple of 32",
     NULL},
    {"round", 0, 0, 0, 0, "how numbers become integers", gp_round_words},
    {"scale", 0, 0, 0, 0, "type of the scales", gp_scale_words},
    {NULL, 0, 0, 0, 0, NULL, NULL},
};

static const gp_codec_param q2_params[] = {
    {"block", 256, 32, 65536, 1,
     "elements that share a scale, a multiple of 32", NULL},
    {"round", 0, 0, 0, 0, "how numbers become integers", gp_round_words},
    {"scale", 0, 0, 0, 0, "type of the scales", gp_scale_words},
    {"dense", 0, 0, 1, 1, "1: five elements per byte instead of four", NULL},
    {NULL, 0, 0, 0, 0, NULL, NULL},
};

static gp_status
q4_open(const double *values, const gp_codec_shape *shape, void **instance)
{
    gp_blocks f = {.bits = 4, .integer = true, .levels = 7};

    (void)shape;
    return gp_quant_open(&f, values, instance);
}

static gp_status
q2_open(const double *values, const gp_codec_shape *shape, void **instance)
{
    gp_blocks f = {.bits = values[3] != 0 ? GP_BLOCKS_DENSE : 2,
                   .integer = true,
                   .levels = 1};

    (void)shape;
    return gp_quant_open(&f, values, instance);
}

const gp_codec_ops gp_codec_q4 = {
    GP_QUANT_CALLS,
    GP_QUANT_CODING,
    .name = "q4",
    .text = "4-bit integers scaled by each block's largest magnitude",
    .params = q4_params,
    .open = q4_open,
};

const gp_codec_ops gp_codec_q2 = {
    GP_QUANT_CALLS,
    GP_QUANT_CODING,
    .name = "q2",
    .text = "-1, 0 or 1 times each block's largest magnitude",
    .params = q2_params,
    .open = q2_open,
};
