/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mx.c - the codecs fp8, mxfp8, mxfp6, mxfp4, mxint8 and nvfp4: floats of few
 * bits with scales per block, and the formats of the OCP Microscaling
 * specification with theirs.
 */
#include "compress/quant.h"

static const char *const rounds[] = {"nearest", "stochastic", "stratified",
                                     NULL};
static const char *const formats_8[] = {"e4m3", "e5m2", NULL};
static const char *const formats_6[] = {"e2m3", "e3m2", NULL};

#define ROUND_PARAM                                             \
    {                                                           \
        "round", 0, 0, 0, 0, "how numbers become codes", rounds \
    }
#define END_PARAM                    \
    {                                \
        NULL, 0, 0, 0, 0, NULL, NULL \
    }

static const gp_codec_param fp8_params[] = {
    {"format", 0, 0, 0, 0, "bits of exponent and mantissa", formats_8},
    {"block", 256, 32, 65536, 1,
     "elements that share a scale, a multiple of 32", NULL},
    ROUND_PARAM,
    {"scale", 0, 0, 0, 0, "type of the scales", gp_scale_words},
    END_PARAM,
};
static const gp_codec_param mxfp8_params[] = {
    {"format", 0, 0, 0, 0, "bits of exponent and mantissa", formats_8},
    ROUND_PARAM,
    END_PARAM,
};
static const gp_codec_param mxfp6_params[] = {
    {"format", 0, 0, 0, 0, "bits of exponent and mantissa", formats_6},
    ROUND_PARAM,
    END_PARAM,
};
static const gp_codec_param plain_params[] = {ROUND_PARAM, END_PARAM};

/* E5M2 keeps its last binade for Inf and NaN, E4M3 its last code for NaN. */
static const gp_blocks e4m3 = {.bits = 8,
                               .mantissa = 3,
                               .least = -6,
                               .forbidden = 0x7f,
                               .levels = 448,
                               .top = 8};
static const gp_blocks e5m2 = {.bits = 8,
                               .mantissa = 2,
                               .least = -14,
                               .forbidden = 0x7c,
                               .levels = 57344,
                               .top = 15};
static const gp_blocks e2m3 = {
    .bits = 6, .mantissa = 3, .least = 0, .levels = 7.5f, .top = 2};
static const gp_blocks e3m2 = {
    .bits = 6, .mantissa = 2, .least = -2, .levels = 28, .top = 4};
static const gp_blocks e2m1 = {
    .bits = 4, .mantissa = 1, .least = 0, .levels = 6, .top = 2};
/* Units of 2^-6 times the shared power of two. */
static const gp_blocks int8 = {
    .bits = 8, .integer = true, .levels = 127, .top = 6, .unit = 6};

static gp_status
fp8_open(const double *values, const gp_codec_shape *shape, void **instance)
{
    gp_blocks f = values[0] != 0 ? e5m2 : e4m3;

    (void)shape;
    return gp_quant_open(&f, values + 1, instance);
}

static gp_status
shared_open(const gp_blocks *element, double round, void **instance)
{
    gp_blocks f = *element;

    f.block = 32;
    f.scale = GP_SCALE_E8M0;
    f.round = (gp_round)round;
    return gp_quant_make(&f, instance);
}

static gp_status
mxfp8_open(const double *values, const gp_codec_shape *shape, void **instance)
{
    (void)shape;
    return shared_open(values[0] != 0 ? &e5m2 : &e4m3, values[1], instance);
}

static gp_status
mxfp6_open(const double *values, const gp_codec_shape *shape, void **instance)
{
    (void)shape;
    return shared_open(values[0] != 0 ? &e3m2 : &e2m3, values[1], instance);
}

static gp_status
mxfp4_open(const double *values, const gp_codec_shape *shape, void **instance)
{
    (void)shape;
    return shared_open(&e2m1, values[0], instance);
}

static gp_status
mxint8_open(const double *values, const gp_codec_shape *shape, void **instance)
{
    (void)shape;
    return shared_open(&int8, values[0], instance);
}

static gp_status
nvfp4_open(const double *values, const gp_codec_shape *shape, void **instance)
{
    gp_blocks f = e2m1;

    (void)shape;
    f.block = 16;
    f.scale = GP_SCALE_E4M3;
    f.round = (gp_round)values[0];
    return gp_quant_make(&f, instance);
}

const gp_codec_ops gp_codec_fp8 = {
    GP_QUANT_CALLS,
    GP_QUANT_CODING,
    .name = "fp8",
    .text = "8-bit floats scaled by each block's largest magnitude",
    .params = fp8_params,
    .open = fp8_open,
};

const gp_codec_ops gp_codec_mxfp8 = {
    GP_QUANT_CALLS,
    GP_QUANT_CODING,
    .name = "mxfp8",
    .text = "OCP MX: 8-bit floats, 32 share a power of two",
    .params = mxfp8_params,
    .open = mxfp8_open,
};

const gp_codec_ops gp_codec_mxfp6 = {
    GP_QUANT_CALLS,
    GP_QUANT_CODING,
    .name = "mxfp6",
    .text = "OCP MX: 6-bit floats, 32 share a power of two",
    .params = mxfp6_params,
    .open = mxfp6_open,
};

const gp_codec_ops gp_codec_mxfp4 = {
    GP_QUANT_CALLS,
    GP_QUANT_CODING,
    .name = "mxfp4",
    .text = "OCP MX: 4-bit floats, 32 share a power of two",
    .params = plain_params,
    .open = mxfp4_open,
};

const gp_codec_ops gp_codec_mxint8 = {
    GP_QUANT_CALLS,
    GP_QUANT_CODING,
    .name = "mxint8",
    .text = "OCP MX: 8-bit integers, 32 share a power of two",
    .params = plain_params,
    .open = mxint8_open,
};

const gp_codec_ops gp_codec_nvfp4 = {
    GP_QUANT_CALLS,
    GP_QUANT_CODING,
    .name = "nvfp4",
    .text = "4-bit floats, 16 share an 8-bit float scale",
    .params = plain_params,
    .open = nvfp4_open,
};
