/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pipeline.c - runs elements through the stages and back.
 *
 * The output of stage i has at most bounds[i] bytes, in both directions: the
 * decoder never lets a stage unpack more than the encoder could have packed.
 * Between stages, bytes lie in two workspace buffers in turn; the dense buffers
 * after them serve codecs that offer neither decode_add nor encode_feedback.
 */
#include <string.h>

#include "base/base.h"
#include "compress/kernels.h"
#include "compress/pipeline.h"

/* Where the parts of a workspace begin. */
typedef struct layout {
    size_t bounds[GP_PIPELINE_STAGES];
    size_t between[2]; /* offsets of the ping-pong buffers */
    size_t dense[2];   /* offsets of fp32 buffers */
    size_t total;
} layout;

static size_t
buffers_between(const gp_pipeline *pipeline)
{
    return GP_MIN(pipeline->count - 1, (size_t)2);
}

static size_t
buffers_dense(const gp_pipeline *pipeline)
{
    const gp_codec_ops *ops = pipeline->stages[0].ops;

    return !ops->encode_feedback ? 2 : !ops->decode_add ? 1 : 0;
}

static bool
stage_bounds(const gp_pipeline *pipeline, size_t count, size_t *bounds)
{
    size_t size = count;

    for (size_t i = 0; i < pipeline->count; i++) {
        const gp_stage *stage = &pipeline->stages[i];

        size = stage->ops->bound(stage->instance, size);
        if (size == SIZE_MAX)
            return false;
        bounds[i] = size;
    }
    return true;
}

/* Adds `bytes` rounded up to 64 to the total. */
static bool
reserve(layout *l, size_t bytes, size_t *offset)
{
    size_t padded;

    *offset = l->total;
    return gp_add(bytes, 63, &padded) &&
           gp_add(l->total, padded & ~(size_t)63, &l->total);
}

static bool
lay_out(const gp_pipeline *pipeline, size_t count, layout *l)
{
    size_t most = 0, dense_bytes;

    l->total = 0;
    if (!stage_bounds(pipeline, count, l->bounds) ||
        !gp_mul(count, sizeof(float), &dense_bytes))
        return false;
    for (size_t i = 0; i + 1 < pipeline->count; i++)
        most = GP_MAX(most, l->bounds[i]);
    for (size_t i = 0; i < buffers_between(pipeline); i++)
        if (!reserve(l, most, &l->between[i]))
            return false;
    for (size_t i = 0; i < buffers_dense(pipeline); i++)
        if (!reserve(l, dense_bytes, &l->dense[i]))
            return false;
    return true;
}

size_t
gp_pipeline_bound(const gp_pipeline *pipeline, size_t count)
{
    size_t bounds[GP_PIPELINE_STAGES];

    return stage_bounds(pipeline, count, bounds) ? bounds[pipeline->count - 1]
                                                 : SIZE_MAX;
}

size_t
gp_pipeline_workspace(const gp_pipeline *pipeline, size_t count)
{
    layout l;

    return lay_out(pipeline, count, &l) ? l.total : SIZE_MAX;
}

static gp_status
fail_encode(const gp_pipeline *pipeline, gp_status status, size_t count)
{
    return gp_fail(status, "codec %s cannot encode %zu elements: %s",
                   pipeline->name, count, gp_status_text(status));
}

static gp_status
fail_decode(const gp_pipeline *pipeline, gp_status status, size_t length,
            size_t count)
{
    return gp_fail(status,
                   "codec %s: %zu bytes do not decode to %zu elements: %s",
                   pipeline->name, length, count, gp_status_text(status));
}

/* Error feedback for a codec that offers encode and decode alone. The residual
 * changes last, so a failure leaves it as it was. */
static gp_status
compose_feedback(const gp_stage *stage, const gp_codec_context *context,
                 const float *source, float *residual, size_t count, void *out,
                 size_t capacity, size_t *length, float *u, float *decoded)
{
    gp_status status;

    if (count)
        memcpy(u, residual, count * sizeof(float));
    gp_add_fp32(u, source, count);
    status = stage->ops->encode(stage->instance, context, u, count, out,
                                capacity, length);
    if (status == GP_OK)
        status =
            stage->ops->decode(stage->instance, out, *length, decoded, count);
    if (status == GP_OK)
        gp_kernels_get()->remainder(u, decoded, residual, count);
    return status;
}

static gp_status
encode_array(const gp_pipeline *pipeline, const layout *l,
             const gp_codec_context *context, const float *source,
             float *residual, size_t count, void *out, size_t *length,
             uint8_t *workspace)
{
    const gp_stage *stage = &pipeline->stages[0];
    size_t capacity = l->bounds[0];

    if (!residual)
        return stage->ops->encode(stage->instance, context, source, count, out,
                                  capacity, length);
    if (stage->ops->encode_feedback)
        return stage->ops->encode_feedback(stage->instance, context, source,
                                           residual, count, out, capacity,
                                           length);
    return compose_feedback(stage, context, source, residual, count, out,
                            capacity, length, (void *)(workspace + l->dense[0]),
                            (void *)(workspace + l->dense[1]));
}

gp_status
gp_pipeline_encode(const gp_pipeline *pipeline, const gp_codec_context *context,
                   const float *source, float *residual, size_t count,
                   void *out, size_t capacity, size_t *length, void *workspace)
{
    size_t last = pipeline->count - 1, size = 0;
    const void *from;
    gp_status status;
    void *to;
    layout l;

    if (!lay_out(pipeline, count, &l) || capacity < l.bounds[last])
        return fail_encode(pipeline, GP_ERR_TOO_LARGE, count);
    to = last ? (uint8_t *)workspace + l.between[0] : out;
    status = encode_array(pipeline, &l, context, source, residual, count, to,
                          &size, workspace);
    for (size_t i = 1; i <= last && status == GP_OK; i++) {
        const gp_stage *stage = &pipeline->stages[i];

        from = to;
        to = i == last ? out : (uint8_t *)workspace + l.between[i % 2];
        status = stage->ops->pack(stage->instance, from, size, to, l.bounds[i],
                                  &size);
    }
    if (status)
        return fail_encode(pipeline, status, count);
    *length = size;
    return GP_OK;
}

/* Undoes the byte stages: `*bytes` and `*length` become what the array stage
 * wrote. */
static gp_status
unpack_stages(const gp_pipeline *pipeline, const layout *l, const void **bytes,
              size_t *length, uint8_t *workspace)
{
    for (size_t i = pipeline->count - 1; i > 0; i--) {
        const gp_stage *stage = &pipeline->stages[i];
        void *to = workspace + l->between[(i - 1) % 2];
        gp_status status;

        if (*length > l->bounds[i])
            return GP_ERR_CORRUPT;
        status = stage->ops->unpack(stage->instance, *bytes, *length, to,
                                    l->bounds[i - 1], length);
        if (status)
            return status;
        *bytes = to;
    }
    return GP_OK;
}

gp_status
gp_pipeline_decode(const gp_pipeline *pipeline, const void *bytes,
                   size_t length, float *target, size_t count, void *workspace)
{
    const gp_stage *stage = &pipeline->stages[0];
    size_t size = length;
    gp_status status;
    layout l;

    if (!lay_out(pipeline, count, &l))
        return fail_decode(pipeline, GP_ERR_CORRUPT, length, count);
    status = unpack_stages(pipeline, &l, &bytes, &size, workspace);
    if (status == GP_OK)
        status =
            stage->ops->decode(stage->instance, bytes, size, target, count);
    return status ? fail_decode(pipeline, status, length, count) : GP_OK;
}

static gp_status
decode_then_add(const gp_stage *stage, const void *bytes, size_t length,
                float *target, size_t count, float *dense)
{
    gp_status status =
        stage->ops->decode(stage->instance, bytes, length, dense, count);

    if (status == GP_OK)
        gp_add_fp32(target, dense, count);
    return status;
}

gp_status
gp_pipeline_decode_add(const gp_pipeline *pipeline, const void *bytes,
                       size_t length, float *target, size_t count,
                       void *workspace)
{
    const gp_stage *stage = &pipeline->stages[0];
    size_t size = length;
    gp_status status;
    layout l;

    if (!lay_out(pipeline, count, &l))
        return fail_decode(pipeline, GP_ERR_CORRUPT, length, count);
    status = unpack_stages(pipeline, &l, &bytes, &size, workspace);
    if (status == GP_OK)
        status =
            stage->ops->decode_add
                ? stage->ops->decode_add(stage->instance, bytes, size, target,
                                         count)
                : decode_then_add(stage, bytes, size, target, count,
                                  (void *)((uint8_t *)workspace + l.dense[0]));
    return status ? fail_decode(pipeline, status, length, count) : GP_OK;
}
