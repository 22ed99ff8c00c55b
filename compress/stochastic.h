/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stochastic.h - the tables of the sign, random and rotation codecs.
 */
#ifndef GP_STOCHASTIC_H
#define GP_STOCHASTIC_H

#include <gradpush/codec.h>

extern const gp_codec_ops gp_codec_sign, gp_codec_onebit, gp_codec_vote;
extern const gp_codec_ops gp_codec_hadamard, gp_codec_drive, gp_codec_eden;
extern const gp_codec_ops gp_codec_qsgd, gp_codec_natural,
    gp_codec_natural_dither, gp_codec_terngrad;

#endif
