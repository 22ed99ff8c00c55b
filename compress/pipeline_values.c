/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pipeline_values.c - the inner part of a pipeline: transform, array stage and
 * the byte stages on its output.
 *
 * Between byte stages, bytes lie in two buffers in turn. The decoder never lets
 * a stage unpack more than the encoder could have packed.
 */
#include <string.h>

#include "base/base.h"
#include "compress/kernels.h"
#include "compress/pipeline.h"

size_t
gp_run_bound(const gp_stage_run *run, size_t size)
{
    for (size_t i = 0; i < run->count && size != SIZE_MAX; i++)
        size = run->first[i].ops->bound(run->first[i].instance, size);
    return size;
}

static size_t
array_bound(const gp_pipeline *p, size_t count)
{
    return p->array->ops->bound(p->array->instance, count);
}

size_t
gp_values_bound(const gp_pipeline *pipeline, size_t count)
{
    size_t size = array_bound(pipeline, count);

    return size == SIZE_MAX ? size : gp_run_bound(&pipeline->values, size);
}

gp_status
gp_run_pack(const gp_stage_run *run, const gp_codec_context *context,
            const void *source, size_t size, size_t unpacked_bound, void *out,
            size_t capacity, size_t *length, uint8_t *buffer[2])
{
    size_t bound = unpacked_bound;

    for (size_t i = 0; i < run->count; i++) {
        const gp_stage *stage = &run->first[i];
        bool last = i + 1 == run->count;
        void *to = last ? out : buffer[(i + 1) % 2];
        gp_status status;

        bound = stage->ops->bound(stage->instance, bound);
        if (last && capacity < bound)
            return GP_ERR_TOO_LARGE;
        status = stage->ops->pack(stage->instance, context, source, size, to,
                                  bound, &size);
        if (status != GP_OK)
            return status;
        source = to;
    }
    *length = size;
    return GP_OK;
}

gp_status
gp_run_unpack(const gp_stage_run *run, const gp_codec_context *context,
              const void **bytes, size_t *length, size_t unpacked_bound,
              uint8_t *buffer[2])
{
    size_t bounds[GP_PIPELINE_STAGES + 1] = {unpacked_bound};

    for (size_t i = 0; i < run->count; i++)
        bounds[i + 1] =
            run->first[i].ops->bound(run->first[i].instance, bounds[i]);
    for (size_t i = run->count; i > 0; i--) {
        const gp_stage *stage = &run->first[i - 1];
        void *to = buffer[(i - 1) % 2];
        gp_status status;

        if (*length > bounds[i])
            return GP_ERR_CORRUPT;
        status = stage->ops->unpack(stage->instance, context, *bytes, *length,
                                    to, bounds[i - 1], length);
        if (status != GP_OK)
            return status;
        *bytes = to;
    }
    return GP_OK;
}

static void
buffers(const gp_work *w, uint8_t *out[2])
{
    out[0] = w->at + w->layout.between[0];
    out[1] = w->at + w->layout.between[1];
}

static gp_status
array_encode(gp_work *w, const float *source, size_t count, void *out,
             size_t capacity, size_t *length, float *decoded)
{
    const gp_stage *a = w->pipeline->array;
    const gp_stage *turn = w->pipeline->transform;
    float *turned = (void *)(w->at + w->layout.turned);
    gp_status status = GP_OK;

    if (turn) {
        status = turn->ops->forward(turn->instance, &w->context, source, count,
                                    turned);
        source = turned;
    }
    if (status == GP_OK)
        status = a->ops->encode(a->instance, &w->context, source, count, out,
                                capacity, length);
    if (status == GP_OK && decoded)
        status = a->ops->decode(a->instance, &w->context, out, *length, decoded,
                                count);
    if (status == GP_OK && decoded && turn)
        status =
            turn->ops->inverse(turn->instance, &w->context, decoded, count);
    return status;
}

gp_status
gp_values_encode(gp_work *w, const float *source, size_t count, void *out,
                 size_t capacity, size_t *length, float *decoded)
{
    const gp_stage_run *run = &w->pipeline->values;
    size_t bound = array_bound(w->pipeline, count), size;
    uint8_t *buffer[2];
    gp_status status;

    if (run->count == 0)
        return array_encode(w, source, count, out, capacity, length, decoded);
    buffers(w, buffer);
    status = array_encode(w, source, count, buffer[0], bound, &size, decoded);
    if (status != GP_OK)
        return status;
    return gp_run_pack(run, &w->context, buffer[0], size, bound, out, capacity,
                       length, buffer);
}

gp_status
gp_values_feedback(gp_work *w, const float *source, float *residual,
                   size_t count, void *out, size_t capacity, size_t *length)
{
    const gp_stage *a = w->pipeline->array;
    const gp_stage_run *run = &w->pipeline->values;
    size_t bound = array_bound(w->pipeline, count), size;
    uint8_t *buffer[2];
    gp_status status;

    if (run->count == 0)
        return a->ops->encode_feedback(a->instance, &w->context, source,
                                       residual, count, out, capacity, length);
    buffers(w, buffer);
    status = a->ops->encode_feedback(a->instance, &w->context, source, residual,
                                     count, buffer[0], bound, &size);
    if (status != GP_OK)
        return status;
    return gp_run_pack(run, &w->context, buffer[0], size, bound, out, capacity,
                       length, buffer);
}

static gp_status
unpack_values(gp_work *w, const void **bytes, size_t *length, size_t count)
{
    const gp_stage_run *run = &w->pipeline->values;
    uint8_t *buffer[2];

    if (run->count == 0)
        return GP_OK;
    buffers(w, buffer);
    return gp_run_unpack(run, &w->context, bytes, length,
                         array_bound(w->pipeline, count), buffer);
}

gp_status
gp_values_decode(gp_work *w, const void *bytes, size_t length, float *target,
                 size_t count)
{
    const gp_stage *a = w->pipeline->array;
    const gp_stage *turn = w->pipeline->transform;
    gp_status status = unpack_values(w, &bytes, &length, count);

    if (status == GP_OK)
        status = a->ops->decode(a->instance, &w->context, bytes, length, target,
                                count);
    if (status == GP_OK && turn)
        status = turn->ops->inverse(turn->instance, &w->context, target, count);
    return status;
}

bool
gp_values_add(gp_work *w, const void *bytes, size_t length, float *target,
              size_t count, gp_status *status)
{
    const gp_stage *a = w->pipeline->array;

    if (w->pipeline->transform || !a->ops->decode_add)
        return false;
    *status = unpack_values(w, &bytes, &length, count);
    if (*status == GP_OK)
        *status = a->ops->decode_add(a->instance, &w->context, bytes, length,
                                     target, count);
    return true;
}
