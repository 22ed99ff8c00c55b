/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec_inputs.h - the inputs of the codec suite and of the golden files.
 */
#ifndef GP_CODEC_INPUTS_H
#define GP_CODEC_INPUTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct gp_codec_case {
    const char *name;
    double (*element)(uint64_t i);
    bool ordinary; /* of magnitudes that a gradient may have, or 0 */
} gp_codec_case;

/* The first is "gauss". */
extern const gp_codec_case gp_codec_inputs[];
extern const size_t gp_codec_input_count;

void gp_codec_fill(const gp_codec_case *in, float *out, size_t count);

/* splitmix64 of a counter. */
uint64_t gp_codec_random(uint64_t counter);

/* Nearly normal: a sum of twelve uniform numbers, exact in double. */
double gp_codec_gauss(uint64_t i);

#endif
