/* SPDX-License-Identifier: Apache-2.0 */
/*
 * family_sums.c - the list of codecs that shards sum or that factor.
 */
#include "compress/codec_internal.h"
#include "compress/families.h"

const gp_codec_ops *const gp_codecs_sums[] = {
    &gp_codec_intsum,
    &gp_codec_thc,
    &gp_codec_powersgd,
    NULL,
};
