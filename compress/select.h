/* SPDX-License-Identifier: Apache-2.0 */
/*
 * select.h - the select stages.
 */
#ifndef GP_SELECT_H
#define GP_SELECT_H

#include <gradpush/codec.h>

extern const gp_codec_ops gp_codec_topk, gp_codec_randk, gp_codec_threshold;

#endif
