/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pipelines.h - the texts that are tested and fuzzed: every built-in codec in
 * all of its modes, and chains as people write them.
 */
#ifndef GP_TEST_PIPELINES_H
#define GP_TEST_PIPELINES_H

#include <stddef.h>

typedef struct gp_test_pipeline {
    const char *family; /* which program of tests/conformance takes it */
    const char *text;
    /* Largest NMSE on inputs whose magnitudes are ordinary, computed apart from
     * the codec's own bound; negative: that bound alone. */
    double nmse;
    size_t columns; /* of the tensor's rows; 0: a vector */
} gp_test_pipeline;

extern const gp_test_pipeline gp_test_pipelines[];
extern const size_t gp_test_pipeline_count;

#endif
