/* SPDX-License-Identifier: Apache-2.0 */
/*
 * families.h - lists of the built-in codecs, each ended by NULL. `gradpush info
 * --codecs` shows them in this order.
 */
#ifndef GP_FAMILIES_H
#define GP_FAMILIES_H

#include <gradpush/codec.h>

extern const gp_codec_ops *const gp_codecs_quant[];
extern const gp_codec_ops *const gp_codecs_sparse[];
extern const gp_codec_ops *const gp_codecs_stochastic[];
extern const gp_codec_ops *const gp_codecs_bytes[];
extern const gp_codec_ops *const gp_codecs_sums[];

/* A name that stands for a longer text: "onebit:deepspeed". */
typedef struct gp_codec_alias {
    const char *name; /* "onebit:deepspeed" or "dgc" */
    const char *text; /* a pipeline text without aliases; what follows the name
                       * as ":argument,..." goes to the stage before which '@'
                       * stands in the text */
    const char *what; /* one line: whose mathematics it is */
} gp_codec_alias;

extern const gp_codec_alias gp_codec_aliases[];

#endif
