/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pipeline_fuzz.h - what the targets that take pipelines share.
 */
#ifndef GP_PIPELINE_FUZZ_H
#define GP_PIPELINE_FUZZ_H

#include <stdio.h>
#include <stdlib.h>

#include "compress/codec_internal.h"
#include "tests/conformance/pipelines.h"

#define GP_FUZZ_PIPELINES 512

static inline void
gp_fuzz_require(int condition)
{
    if (!condition)
        abort();
}

static inline void *
gp_fuzz_need(void *memory)
{
    gp_fuzz_require(memory != NULL);
    return memory;
}

/* The pipeline of an index, which wraps. Opened once, for the whole process. */
static inline const gp_pipeline *
gp_fuzz_pipeline(size_t index)
{
    static gp_pipeline *open[GP_FUZZ_PIPELINES];
    const gp_test_pipeline *which;

    index %= gp_test_pipeline_count;
    gp_fuzz_require(gp_test_pipeline_count <= GP_FUZZ_PIPELINES);
    which = &gp_test_pipelines[index];
    if (!open[index] &&
        gp_pipeline_open(which->text, &(gp_codec_shape){0, which->columns},
                         &open[index]) != GP_OK) {
        fprintf(stderr, "%s\n", gp_last_error());
        abort();
    }
    return open[index];
}

/* Mostly few elements, so that there is time for many messages. */
static inline size_t
gp_fuzz_count(unsigned number)
{
    return number & 0x8000 ? number % 4096 : number % 257;
}

/* The best level, where the machine lacks the one asked for. Asking a processor
 * what it can do is slow in a virtual machine. */
static inline void
gp_fuzz_level(unsigned level)
{
    static unsigned last = ~0u;

    if (level == last)
        return;
    last = level;
    for (int i = GP_SIMD_LEVELS - 1; i >= 0; i--)
        if ((unsigned)i <= level && gp_simd_set((gp_simd)i))
            return;
}

#endif
