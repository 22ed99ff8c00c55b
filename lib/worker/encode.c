/* SPDX-License-Identifier: Apache-2.0 */
/*
 * encode.c - gradients through push pipelines, results through pull pipelines.
 *
 * What a pipeline looks at whole, or what a change of pipelines moves, belongs
 * to one step: so tensors with either encode the chunks of one step after the
 * other, and operations of later steps are parked until then. Other tensors are
 * encoded chunk by chunk as buffers allow.
 */
#include <math.h>
#include <string.h>

#include "compress/codec_internal.h"
#include "compress/pipeline.h"
#include "worker/rows.h"
#include "worker/staging.h"

static gp_codec_context
context_of(const gp_tensor *t, uint64_t offset, uint64_t step, uint32_t rank)
{
    const gp_worker *w = t->worker;

    return (gp_codec_context){.seed = w->seed,
                              .tensor = t->index,
                              .offset = offset,
                              .step = step,
                              .rank = rank,
                              .size = w->size};
}

/* A part of the gradient as fp32, in place or in w->plain. */
static gp_status
read_values(const gp_request *r, uint64_t offset, uint64_t count,
            const float **out)
{
    gp_tensor *t = r->tensor;
    gp_worker *w = t->worker;
    size_t width = gp_dtype_bytes((gp_dtype)t->spec.dtype);
    const uint8_t *source = r->grad + offset * width;

    if (t->spec.dtype == GP_FP16)
        gp_fp16_to_fp32(w->plain, source, count);
    else if (t->spec.dtype == GP_BF16)
        gp_bf16_to_fp32(w->plain, source, count);
    *out = t->spec.dtype == GP_FP32 ? (const void *)source : w->plain;
    return GP_OK;
}

bool
gp_encode_is_whole(const gp_tensor *t)
{
    if (gp_devcode_is_whole(t))
        return false;
    for (uint32_t i = 0; i < t->push.count; i++)
        if (gp_pipeline_needs(t->push.pipeline[i]) & GP_PIPELINE_PREPARES)
            return true;
    return false;
}

bool
gp_encode_waits(const gp_op *op)
{
    const gp_tensor *t = op->request->tensor;

    return t->ordered && op->request->step != t->encoding;
}

/* Before the first chunk of a step. */
static gp_status
begin_step(gp_request *r)
{
    gp_tensor *t = r->tensor;
    const gp_pipeline *p = t->push.pipeline[r->codec];
    gp_codec_context context = context_of(t, 0, r->step, t->worker->rank);
    bool dense = gp_pipeline_properties(p) & GP_CODEC_LOSSLESS;
    const float *values;
    gp_status status = GP_OK;

    if ((int)r->codec != t->direct)
        status = gp_memory_use(t, r->codec);
    t->flushing =
        dense && t->owes && t->holder != r->codec && gp_memory_residual(t);
    if (status == GP_OK && gp_pipeline_needs(p) & GP_PIPELINE_PREPARES &&
        !gp_devcode_pushes(r)) {
        status = read_values(r, 0, t->spec.count, &values);
        if (status == GP_OK)
            status = gp_pipeline_prepare(p, &context, t->memory[r->codec],
                                         values, t->spec.count);
    }
    t->begun = status == GP_OK;
    return status;
}

gp_status
gp_encode_begin(gp_op *op)
{
    gp_tensor *t = op->request->tensor;

    return t->ordered && !t->begun ? begin_step(op->request) : GP_OK;
}

bool
gp_encode_proposes(const gp_op *op)
{
    const gp_request *r = op->request;

    return gp_pipeline_needs(r->tensor->push.pipeline[r->codec]) &
           GP_PIPELINE_PROPOSES;
}

/* Once per chunk and step: the gradient is added to the residual here. */
gp_status
gp_encode_propose(gp_op *op)
{
    gp_request *r = op->request;
    gp_tensor *t = r->tensor;
    gp_worker *w = t->worker;
    const gp_chunk_info *info = &w->map.chunk[op->chunk];
    gp_codec_context context = context_of(t, info->offset, r->step, w->rank);
    const float *values;
    gp_status status;

    if (op->measured)
        return GP_OK;
    if (gp_devcode_pushes(r)) {
        op->shared = gp_devcode_proposal(op);
        op->measured = true;
        return GP_OK;
    }
    status = read_values(r, info->offset, info->count, &values);
    if (status == GP_OK)
        status = gp_pipeline_propose(t->push.pipeline[r->codec], &context,
                                     t->memory[r->codec], values, info->count,
                                     &op->shared);
    op->measured = status == GP_OK;
    return status;
}

/* A step through a lossless pipeline pays what lossy ones before it owe. */
static gp_status
add_residual(gp_tensor *t, const gp_chunk_info *info, const float **values)
{
    gp_worker *w = t->worker;
    float *residual = gp_memory_residual(t) + info->offset;

    if (*values != w->plain)
        memcpy(w->plain, *values, info->count * sizeof(float));
    gp_add_fp32(w->plain, residual, info->count);
    memset(residual, 0, info->count * sizeof(float));
    *values = w->plain;
    return GP_OK;
}

/* The device has encoded it, but for byte stages behind. */
static gp_status
take_message(const gp_op *op, const gp_codec_context *context, uint8_t *out,
             size_t capacity, size_t *length, void *workspace)
{
    gp_tensor *t = op->request->tensor;
    size_t bytes;
    const void *message = gp_devcode_message(op, &bytes);
    gp_status status;

    if (gp_devcode_packs(t)) {
        status = gp_pipeline_pack(t->push.pipeline[0], context, message, bytes,
                                  gp_op_info(op)->count, out, capacity, length,
                                  workspace);
        if (status != GP_OK)
            return status;
    } else {
        if (bytes > capacity)
            return gp_fail(GP_ERR_TOO_LARGE, "a message of %zu bytes", bytes);
        memcpy(out, message, bytes);
        *length = bytes;
    }
    if (t->memory[0])
        atomic_store_explicit(&t->owes, true, memory_order_relaxed);
    return GP_OK;
}

gp_status
gp_encode_chunk(gp_op *op, uint8_t *out, size_t capacity, size_t *length,
                unsigned thread)
{
    gp_request *r = op->request;
    gp_tensor *t = r->tensor;
    gp_worker *w = t->worker;
    const gp_chunk_info *info = &w->map.chunk[op->chunk];
    gp_codec_context context = context_of(t, info->offset, r->step, w->rank);
    gp_codec_memory *memory = t->flushing ? NULL : t->memory[r->codec];
    const float *values;
    gp_status status;

    if (r->plan)
        return gp_rows_encode(op, out, capacity, length);
    if (gp_devcode_pushes(r))
        return take_message(op, &context, out, capacity, length,
                            w->workspace + thread * w->workspace_bytes);
    status = read_values(r, info->offset, info->count, &values);
    if (status == GP_OK && t->flushing)
        status = add_residual(t, info, &values);
    if (status != GP_OK)
        return status;
    if (memory)
        atomic_store_explicit(&t->owes, true, memory_order_relaxed);
    context.shared = op->shared;
    return gp_pipeline_encode(t->push.pipeline[r->codec], &context, memory,
                              values, info->count, out, capacity, length,
                              w->workspace + thread * w->workspace_bytes);
}

bool
gp_encode_end(gp_op *op)
{
    gp_tensor *t = op->request->tensor;

    if (!t->ordered || --t->unencoded > 0)
        return false;
    if (t->flushing)
        t->owes = false;
    t->unencoded = t->chunks;
    t->encoding++;
    t->begun = t->flushing = false;
    return true;
}

/* The majority, which is 1 where as many are for it as against. */
static void
take_signs(float *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!isnan(values[i]))
            values[i] = values[i] < 0 ? -1.0f : 1.0f;
}

/* From the workers' messages as one to what the updater makes of their sum. */
static void
finish_sum(const gp_tensor *t, float *values, size_t count)
{
    if (gp_pipeline_properties(t->pull) & GP_CODEC_VOTES)
        take_signs(values, count);
    else if (t->scale != 1.0f)
        gp_scale_fp32(values, t->scale, count);
}

gp_status
gp_decode_chunk(gp_op *op, const gp_msg *msg, const void *bytes)
{
    gp_tensor *t = op->request->tensor;
    gp_worker *w = t->worker;
    const gp_chunk_info *info = &w->map.chunk[op->chunk];
    size_t width = gp_dtype_bytes((gp_dtype)t->spec.dtype);
    uint8_t *out = op->request->out + info->offset * width;
    bool half = t->spec.dtype != GP_FP32;
    float *values = half ? w->plain : (void *)out;
    bool sum = msg->flags & GP_MSG_SUM;
    gp_codec_context context =
        context_of(t, info->offset, msg->step - sum, GP_RANK_SHARD);
    gp_status status;

    if (sum && !(gp_pipeline_needs(t->pull) & GP_PIPELINE_AGGREGATES))
        return gp_fail(GP_ERR_PROTOCOL, "a sum of messages of %.100s",
                       gp_pipeline_name(t->pull));
    context.shared = gp_bits_float(msg->aux);
    if (gp_devcode_pulls(op))
        return gp_devcode_keep(op, &context, sum, bytes, msg->payload);
    status = gp_pipeline_decode(t->pull, &context, bytes, msg->payload, values,
                                info->count, w->workspace);
    if (status != GP_OK)
        return status;
    if (sum)
        finish_sum(t, values, info->count);
    if (t->spec.dtype == GP_FP16)
        gp_fp32_to_fp16(out, values, info->count);
    else if (half)
        gp_fp32_to_bf16(out, values, info->count);
    return GP_OK;
}
