/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_encode.c - any numbers encode within the bound, decode again, and leave
 * nothing in a memory that is not finite.
 *
 * Input: pipeline (u16), SIMD level (u8), count (u16), then fp32 numbers, which
 * are repeated to fill the count. Two steps with one memory.
 */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/bytes.h"
#include "tests/fuzz/pipeline_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEAD 5

typedef struct exchange {
    const gp_pipeline *pipeline;
    gp_codec_memory *memory;
    float *source, *target;
    size_t count, bound;
    uint8_t *bytes;
    void *workspace;
} exchange;

static void
check_memory(gp_codec_memory *memory)
{
    const char *name;
    float *values;
    size_t count;

    for (size_t i = 0;
         (count = gp_codec_memory_field(memory, i, &name, &values)); i++)
        for (size_t j = 0; j < count; j++)
            if (values[j] - values[j] != 0) /* ef21 holds what was decoded */
                gp_fuzz_require(strcmp(name, "history") == 0);
}

static void
step(exchange *e, uint64_t number)
{
    gp_codec_context context = {.seed = 1, .step = number, .size = 2};
    uint32_t needs = gp_pipeline_needs(e->pipeline);
    size_t length = 0;

    if (needs & GP_PIPELINE_PREPARES)
        gp_fuzz_require(gp_pipeline_prepare(e->pipeline, &context, e->memory,
                                            e->source, e->count) == GP_OK);
    if (needs & GP_PIPELINE_PROPOSES)
        gp_fuzz_require(gp_pipeline_propose(e->pipeline, &context, e->memory,
                                            e->source, e->count,
                                            &context.shared) == GP_OK);
    gp_fuzz_require(gp_pipeline_encode(e->pipeline, &context, e->memory,
                                       e->source, e->count, e->bytes, e->bound,
                                       &length, e->workspace) == GP_OK);
    gp_fuzz_require(length <= e->bound);
    gp_fuzz_require(gp_pipeline_decode(e->pipeline, &context, e->bytes, length,
                                       e->target, e->count,
                                       e->workspace) == GP_OK);
    check_memory(e->memory);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    exchange e;

    if (size < HEAD + 4 || size > 65536)
        return 0;
    e = (exchange){.pipeline = gp_fuzz_pipeline(gp_get16(data)),
                   .count = gp_fuzz_count(gp_get16(data + 3))};
    gp_fuzz_level(data[2] & 3);
    e.bound = gp_pipeline_bound(e.pipeline, e.count);
    e.source = gp_fuzz_need(malloc(4 * e.count + 1));
    e.target = gp_fuzz_need(malloc(4 * e.count + 1));
    e.bytes = gp_fuzz_need(malloc(e.bound + 1));
    e.workspace = gp_fuzz_need(
        gp_alloc_aligned(gp_pipeline_workspace(e.pipeline, e.count) + 1));
    for (size_t i = 0; i < e.count; i++)
        memcpy(&e.source[i], data + HEAD + 4 * (i % ((size - HEAD) / 4)), 4);
    gp_fuzz_require(gp_codec_memory_create(e.pipeline, 0, e.count,
                                           data[2] >> 2 & 1,
                                           &e.memory) == GP_OK);
    step(&e, 0);
    step(&e, 1);
    gp_codec_memory_destroy(e.memory);
    free(e.source);
    free(e.target);
    free(e.bytes);
    free(e.workspace);
    return 0;
}
