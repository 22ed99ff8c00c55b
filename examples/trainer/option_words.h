/* SPDX-License-Identifier: Apache-2.0 */
/*
 * option_words.h - what options of gradpush-train take: words, numbers, and
 * what is said of others.
 */
#ifndef GT_OPTION_WORDS_H
#define GT_OPTION_WORDS_H

#include <stdbool.h>
#include <stdint.h>

#include "options.h"

/* A list of them ends with NULL. */
typedef struct gt_word {
    const char *name;
    int value;
} gt_word;

extern const gt_word gt_losses[], gt_optimizers[], gt_updates[],
    gt_partitions[], gt_normalizations[], gt_precisions[];
/* For --progress and --overlap. */
extern const gt_word gt_progresses[];

/* Of one option's value: GP_OK, or GP_ERR_CONFIG with what it takes. `option`
 * is its name without the dashes; *out is untouched on failure. */
gp_status gt_parse_count(const char *option, const char *text, uint64_t minimum,
                         uint64_t maximum, uint64_t *out);
gp_status gt_parse_count32(const char *option, const char *text,
                           uint32_t minimum, uint32_t maximum, uint32_t *out);
gp_status gt_parse_real(const char *option, const char *text, double minimum,
                        double maximum, double *out);
gp_status gt_parse_float(const char *option, const char *text, double minimum,
                         double maximum, float *out);
gp_status gt_parse_enum(const char *option, const char *text,
                        const gt_word *words, unsigned *out);
gp_status gt_parse_switch(const char *option, const char *text, bool *out);

#endif
