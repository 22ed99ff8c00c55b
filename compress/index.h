/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index.h - the index stages.
 */
#ifndef GP_INDEX_H
#define GP_INDEX_H

#include <gradpush/codec.h>

extern const gp_codec_ops gp_codec_raw, gp_codec_rice, gp_codec_bitmap,
    gp_codec_auto;

#endif
