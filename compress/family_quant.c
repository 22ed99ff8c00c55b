/* SPDX-License-Identifier: Apache-2.0 */
/*
 * family_quant.c - the list of casts to few bits and integers with block
 * scales.
 */
#include "compress/codec_internal.h"
#include "compress/families.h"
#include "compress/quant.h"

const gp_codec_ops *const gp_codecs_quant[] = {
    &gp_codec_none,   &gp_codec_fp16,
    &gp_codec_bf16,   &gp_codec_q8,
    &gp_codec_q4,     &gp_codec_q2,
    &gp_codec_fp8,    &gp_codec_mxfp8,
    &gp_codec_mxfp6,  &gp_codec_mxfp4,
    &gp_codec_mxint8, &gp_codec_nvfp4,
    &gp_codec_uq,     NULL,
};
