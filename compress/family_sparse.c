/* SPDX-License-Identifier: Apache-2.0 */
/*
 * family_sparse.c - the list of selections and index codings.
 */
#include "compress/families.h"
#include "compress/index.h"
#include "compress/select.h"
#include "compress/zeros.h"

const gp_codec_ops *const gp_codecs_sparse[] = {
    &gp_codec_zeros,     &gp_codec_topk, &gp_codec_randk,
    &gp_codec_threshold, &gp_codec_raw,  &gp_codec_rice,
    &gp_codec_bitmap,    &gp_codec_auto, NULL,
};
