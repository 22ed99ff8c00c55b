/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quant.h - what the tables of block formats have in common.
 */
#ifndef GP_QUANT_H
#define GP_QUANT_H

#include <stdlib.h>

#include "compress/blocks.h"

/* Takes block, round and scale, the first three values; settles the rest of
 * *f and makes it an instance, for free(). */
gp_status gp_quant_open(gp_blocks *f, const double *values, void **instance);

/* A copy of *f, settled. */
gp_status gp_quant_make(gp_blocks *f, void **instance);

/* Members of a table that all formats share. */
#define GP_QUANT_CALLS                                                        \
    .abi = GP_CODEC_ABI, .kind = GP_CODEC_ARRAY,                              \
    .properties = GP_CODEC_FIXED_RATE, .properties_of = gp_blocks_properties, \
    .nonfinite = GP_NONFINITE_PROPAGATE, .close = free,                       \
    .bound = gp_blocks_bound, .error_bound = gp_blocks_error_bound

#define GP_QUANT_CODING                                                \
    .encode = gp_blocks_encode, .encode_feedback = gp_blocks_feedback, \
    .decode = gp_blocks_decode, .decode_add = gp_blocks_decode_add,    \
    .fold = gp_blocks_fold

extern const gp_codec_ops gp_codec_q4, gp_codec_q2, gp_codec_fp8,
    gp_codec_mxfp8, gp_codec_mxfp6, gp_codec_mxfp4, gp_codec_mxint8,
    gp_codec_nvfp4;

#endif
