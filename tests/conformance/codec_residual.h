/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec_residual.h - encodes with a residual that the test can see: a plain
 * array that is moved into a memory for the call and out of it afterwards.
 */
#ifndef GP_CODEC_RESIDUAL_H
#define GP_CODEC_RESIDUAL_H

#include <string.h>

#include <gradpush/codec.h>

static inline gp_status
gp_encode_residual(const gp_pipeline *pipeline, const gp_codec_context *context,
                   const float *source, float *residual, size_t count,
                   void *out, size_t capacity, size_t *length, void *workspace)
{
    gp_codec_memory *memory = NULL;
    const char *name;
    gp_codec_context agreed = *context;
    float *inside = NULL;
    size_t size = 0;
    gp_status status = gp_codec_memory_create(pipeline, context->offset, count,
                                              residual != NULL, &memory);

    if (status != GP_OK)
        return status;
    if (memory)
        size = gp_codec_memory_field(memory, 0, &name, &inside);
    if (residual && size)
        memcpy(inside, residual, count * sizeof(float));
    if (gp_pipeline_needs(pipeline) & GP_PIPELINE_PREPARES)
        status = gp_pipeline_prepare(pipeline, context, memory, source, count);
    if (status == GP_OK && gp_pipeline_needs(pipeline) & GP_PIPELINE_PROPOSES)
        status = gp_pipeline_propose(pipeline, context, memory, source, count,
                                     &agreed.shared);
    if (status == GP_OK)
        status = gp_pipeline_encode(pipeline, &agreed, memory, source, count,
                                    out, capacity, length, workspace);
    if (residual && size)
        memcpy(residual, inside, count * sizeof(float));
    gp_codec_memory_destroy(memory);
    return status;
}

#endif
