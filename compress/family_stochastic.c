/* SPDX-License-Identifier: Apache-2.0 */
/*
 * family_stochastic.c - the list of random codecs, signs and rotations.
 */
#include "compress/families.h"

const gp_codec_ops *const gp_codecs_stochastic[] = {
    NULL,
};
