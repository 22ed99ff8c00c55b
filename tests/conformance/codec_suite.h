/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec_suite.h - the suite of gradpush/conformance.h as tests call it.
 */
#ifndef GP_CODEC_SUITE_H
#define GP_CODEC_SUITE_H

#include <stddef.h>

/* What is claimed about a pipeline beyond its properties. */
typedef struct gp_codec_claim {
    const char *pipeline;
    /* |C(x)-x|^2 <= nmse |x|^2 on inputs whose magnitudes are ordinary;
     * negative: no claim. */
    double nmse;
} gp_codec_claim;

/* Number of requirements that are not met, each told on stderr with the input
 * that shows it. Uses every SIMD level of the machine, then restores it. */
int gp_codec_suite(const char *pipeline);
int gp_codec_suite_claim(const gp_codec_claim *claim);
/* All inputs are matrices with rows of so many elements. */
int gp_codec_suite_matrix(const gp_codec_claim *claim, size_t columns);
/* All texts of that family in pipelines.c; a family without texts fails. */
int gp_codec_suite_family(const char *family);

#endif
