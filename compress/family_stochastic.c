/* SPDX-License-Identifier: Apache-2.0 */
/*
 * family_stochastic.c - the list of random codecs, signs and rotations.
 */
#include "compress/families.h"
#include "compress/stochastic.h"

const gp_codec_ops *const gp_codecs_stochastic[] = {
    &gp_codec_sign,
    &gp_codec_onebit,
    &gp_codec_vote,
    &gp_codec_qsgd,
    &gp_codec_natural,
    &gp_codec_natural_dither,
    &gp_codec_terngrad,
    &gp_codec_hadamard,
    &gp_codec_drive,
    &gp_codec_eden,
    NULL,
};
