/* SPDX-License-Identifier: Apache-2.0 */
/*
 * family_bytes.c - the list of lossless byte stages and entropy coding.
 */
#include "compress/codec_internal.h"
#include "compress/families.h"

const gp_codec_ops *const gp_codecs_bytes[] = {
#ifdef GP_HAVE_LZ4
    &gp_codec_lz4,
#endif
#ifdef GP_HAVE_ZSTD
    &gp_codec_zstd,
#endif
    &gp_codec_ans,  &gp_codec_shuffle, &gp_codec_bitshuffle, NULL,
};
