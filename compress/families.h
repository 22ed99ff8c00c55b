/* SPDX-License-Identifier: Apache-2.0 */
/*
 * families.h - lists of the built-in codecs, each ended by NULL. `gradpush info
 * --codecs` shows them in this order.
 */
#ifndef GP_FAMILIES_H
#define GP_FAMILIES_H

#include <stdbool.h>
#include <stddef.h>

#include <gradpush/codec.h>

extern const gp_codec_ops *const gp_codecs_memory[];
extern const gp_codec_ops *const gp_codecs_quant[];
extern const gp_codec_ops *const gp_codecs_sparse[];
extern const gp_codec_ops *const gp_codecs_stochastic[];
extern const gp_codec_ops *const gp_codecs_bytes[];
extern const gp_codec_ops *const gp_codecs_sums[];

/* A name that stands for a longer text. It may be all of a stage, or its
 * beginning before "," or ":"; what follows are arguments. */
typedef struct gp_codec_alias {
    const char *name; /* "onebit:deepspeed" or "dgc" */
    const char
        *text; /* stages without aliases; '@' is replaced by the arguments
                * and a comma, or by nothing when there are none */
    const char *what; /* one line: whose mathematics it is */
} gp_codec_alias;

extern const gp_codec_alias gp_codec_aliases[];

/* Writes `text` with its aliases replaced; false when that is too long. */
bool gp_alias_expand(const char *text, char *out, size_t capacity);

/* Where a character of the expanded text comes from: `at` receives its place in
 * `text`. Otherwise the answer is the name in whose longer text it lies, and
 * `at` the place of that name. */
const char *gp_alias_place(const char *text, size_t place, size_t *at);

#endif
