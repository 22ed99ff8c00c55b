/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pipeline.c - what users of a pipeline call.
 *
 * A pipeline that begins with `fake` is the one behind it in all but its
 * messages: these are what the receiver would have decoded, as fp32, and the
 * size (u64) that the message would have had.
 */
#include <math.h>
#include <string.h>

#include "base/base.h"
#include "base/bytes.h"
#include "compress/kernels.h"
#include "compress/pipeline.h"

#define FAKE_TAIL 8

static size_t
nothing(const void *instance, size_t size)
{
    (void)instance;
    return size;
}

const gp_codec_ops gp_codec_fake = {
    .abi = GP_CODEC_ABI,
    .kind = GP_CODEC_FAKE,
    .properties = GP_CODEC_LOSSLESS | GP_CODEC_FIXED_RATE,
    .nonfinite = GP_NONFINITE_PROPAGATE,
    .name = "fake",
    .text = "encodes and decodes at once and sends fp32: for experiments",
    .bound = nothing,
};

static size_t
fake_bound(size_t count)
{
    size_t bytes;

    return gp_mul(count, sizeof(float), &bytes) &&
                   gp_add(bytes, FAKE_TAIL, &bytes)
               ? bytes
               : SIZE_MAX;
}

size_t
gp_pipeline_bound(const gp_pipeline *pipeline, size_t count)
{
    return pipeline->fake ? fake_bound(count)
                          : gp_message_bound(pipeline, count);
}

static size_t
padded(size_t bytes)
{
    return bytes > SIZE_MAX - 63 ? SIZE_MAX : (bytes + 63) & ~(size_t)63;
}

/* Behind the stages' own: a message, then decoded elements. */
size_t
gp_pipeline_workspace(const gp_pipeline *pipeline, size_t count)
{
    size_t own = gp_message_workspace(pipeline, count);
    size_t message = padded(gp_message_bound(pipeline, count)), bytes;

    if (!pipeline->fake)
        return own;
    return message != SIZE_MAX && gp_mul(count, sizeof(float), &bytes) &&
                   gp_add(own, message, &own) && gp_add(own, bytes, &own)
               ? own
               : SIZE_MAX;
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

/* One pass over source and residual does everything. */
static bool
in_one_pass(const gp_pipeline *p, const gp_codec_memory *m)
{
    return m && m->kind == GP_MEMORY_EF && m->decay == 1 && !p->zeros &&
           !p->select && !p->transform && p->array->ops->encode_feedback &&
           !(p->needs & (GP_PIPELINE_PREPARES | GP_PIPELINE_PROPOSES));
}

static gp_status
encode(gp_work *w, gp_codec_memory *m, const float *source, size_t count,
       void *out, size_t capacity, size_t *length)
{
    const gp_pipeline *p = w->pipeline;
    bool added = p->needs & (GP_PIPELINE_PREPARES | GP_PIPELINE_PROPOSES);
    size_t at = m ? gp_memory_at(m, &w->context) : 0;

    if (m && (at > m->count || count > m->count - at))
        return GP_ERR_INVALID;
    if (in_one_pass(p, m)) {
        gp_work_show(w, m, 1);
        return gp_values_feedback(w, source, m->sum + at, count, out, capacity,
                                  length);
    }
    if (m && m->sum) {
        if (!added)
            gp_memory_add(m, &w->context, source, at, count);
        source = m->sum + at;
    }
    return gp_message_encode(w, m, source, count, out, capacity, length);
}

static gp_status
encode_fake(gp_work *w, gp_codec_memory *m, const float *source, size_t count,
            uint8_t *out, size_t *length)
{
    size_t bound = gp_message_bound(w->pipeline, count), size;
    uint8_t *message = w->at + w->layout.total;
    float *decoded = (void *)(message + padded(bound));
    gp_status status = encode(w, m, source, count, message, bound, &size);

    if (status == GP_OK)
        status = gp_message_decode(w, message, size, decoded, count, false);
    if (status != GP_OK)
        return status;
    gp_kernels_get()->none.encode(decoded, out, count);
    gp_put64(out + count * sizeof(float), size);
    *length = fake_bound(count);
    return GP_OK;
}

gp_status
gp_pipeline_encode(const gp_pipeline *pipeline, const gp_codec_context *context,
                   gp_codec_memory *memory, const float *source, size_t count,
                   void *out, size_t capacity, size_t *length, void *workspace)
{
    gp_status status;
    size_t size = 0;
    gp_work w;

    if (!gp_work_begin(&w, pipeline, context, count, workspace) ||
        capacity < gp_pipeline_bound(pipeline, count))
        return fail_encode(pipeline, GP_ERR_TOO_LARGE, count);
    status = pipeline->fake
                 ? encode_fake(&w, memory, source, count, out, &size)
                 : encode(&w, memory, source, count, out, capacity, &size);
    if (status != GP_OK)
        return fail_encode(pipeline, status, count);
    *length = size;
    return GP_OK;
}

size_t
gp_pipeline_real_length(const gp_pipeline *pipeline, const void *bytes,
                        size_t length)
{
    if (!pipeline->fake || length < FAKE_TAIL)
        return length;
    return (size_t)gp_get64((const uint8_t *)bytes + length - FAKE_TAIL);
}

gp_status
gp_pipeline_prepare(const gp_pipeline *pipeline,
                    const gp_codec_context *context, gp_codec_memory *memory,
                    const float *source, size_t count)
{
    const gp_stage *stages[2] = {pipeline->select, pipeline->array};
    gp_status status = GP_OK;

    if (!memory || count != memory->count)
        return gp_fail(GP_ERR_INVALID,
                       "codec %s prepares whole tensors, with a memory",
                       pipeline->name);
    if (memory->sum) {
        gp_memory_add(memory, context, source, 0, count);
        source = memory->sum;
    }
    for (size_t i = 0; i < 2 && status == GP_OK; i++) {
        gp_codec_context c = *context;

        if (!memory->prepared[i])
            continue;
        c.state = memory->state[i];
        status = stages[i]->ops->prepare(stages[i]->instance, &c, source, count,
                                         memory->prepared[i]);
    }
    return status == GP_OK ? GP_OK : fail_encode(pipeline, status, count);
}

gp_status
gp_pipeline_propose(const gp_pipeline *pipeline,
                    const gp_codec_context *context, gp_codec_memory *memory,
                    const float *source, size_t count, float *value)
{
    const gp_stage *array = pipeline->array;
    gp_codec_context c = *context;
    gp_status status;

    if (!array->ops->propose)
        return gp_fail(GP_ERR_UNSUPPORTED, "codec %s proposes nothing",
                       pipeline->name);
    if (memory && memory->sum) {
        size_t at = gp_memory_at(memory, context);

        if (!(pipeline->needs & GP_PIPELINE_PREPARES))
            gp_memory_add(memory, context, source, at, count);
        source = memory->sum + at;
    }
    status = array->ops->propose(array->instance, &c, source, count, value);
    return status == GP_OK ? GP_OK : fail_encode(pipeline, status, count);
}

static gp_status
decode_fake(const gp_pipeline *p, const void *bytes, size_t length,
            float *target, size_t count, bool add)
{
    const gp_cast_kernels *k = &gp_kernels_get()->none;

    if (length == SIZE_MAX || length != fake_bound(count) ||
        gp_pipeline_real_length(p, bytes, length) > gp_message_bound(p, count))
        return GP_ERR_CORRUPT;
    if (add)
        k->decode_add(bytes, target, count);
    else
        k->decode(bytes, target, count);
    return GP_OK;
}

static gp_status
decode_message(const gp_pipeline *p, const gp_codec_context *context,
               const void *bytes, size_t length, float *target, size_t count,
               bool add, void *workspace)
{
    gp_status status;
    gp_work w;

    if (!gp_work_begin(&w, p, context, count, workspace))
        return fail_decode(p, GP_ERR_CORRUPT, length, count);
    status = p->fake ? decode_fake(p, bytes, length, target, count, add)
                     : gp_message_decode(&w, bytes, length, target, count, add);
    return status ? fail_decode(p, status, length, count) : GP_OK;
}

gp_status
gp_pipeline_decode(const gp_pipeline *pipeline, const gp_codec_context *context,
                   const void *bytes, size_t length, float *target,
                   size_t count, void *workspace)
{
    return decode_message(pipeline, context, bytes, length, target, count,
                          false, workspace);
}

gp_status
gp_pipeline_decode_add(const gp_pipeline *pipeline,
                       const gp_codec_context *context, const void *bytes,
                       size_t length, float *target, size_t count,
                       void *workspace)
{
    return decode_message(pipeline, context, bytes, length, target, count, true,
                          workspace);
}

/* Messages whose contexts have the array stage's scratch, at most GP_CODEC_FOLD
 * at a time: those of callers are not written to. */
typedef struct scratched {
    gp_codec_context context[GP_CODEC_FOLD];
    gp_codec_input input[GP_CODEC_FOLD];
} scratched;

/* The inputs with scratch, where the stage wants some; NULL: sizes overflow. */
static const gp_codec_input *
with_scratch(const gp_pipeline *p, const gp_codec_input *input, size_t inputs,
             size_t count, void *workspace, scratched *out)
{
    gp_work w;

    if (!p->array->ops->scratch)
        return input;
    for (size_t i = 0; i < inputs; i++) {
        if (!gp_work_begin(&w, p, input[i].context, count, workspace))
            return NULL;
        out->context[i] = w.context;
        out->input[i] = input[i];
        out->input[i].context = &out->context[i];
    }
    return out->input;
}

static gp_status
fold_some(const gp_pipeline *p, const gp_codec_input *input, size_t inputs,
          int add, float *target, size_t count, void *workspace)
{
    scratched s;
    const gp_codec_input *in =
        with_scratch(p, input, inputs, count, workspace, &s);
    gp_status status = GP_ERR_CORRUPT;

    if (in)
        status = p->array->ops->fold(p->array->instance, in, inputs, add,
                                     target, count);
    return status ? fail_decode(p, status, input->length, count) : GP_OK;
}

gp_status
gp_pipeline_fold(const gp_pipeline *pipeline, const gp_codec_input *input,
                 size_t inputs, int add, float *target, size_t count,
                 void *workspace)
{
    gp_status status = GP_OK;

    for (size_t i = 0; i < inputs && status == GP_OK;) {
        const gp_codec_input *in = &input[i];

        if (pipeline->needs & GP_PIPELINE_FOLDS && inputs - i > 1) {
            size_t some = GP_MIN(inputs - i, (size_t)GP_CODEC_FOLD);

            status =
                fold_some(pipeline, in, some, add, target, count, workspace);
            i += some;
        } else {
            status = decode_message(pipeline, in->context, in->bytes,
                                    in->length, target, count, add, workspace);
            i++;
        }
        add = true;
    }
    return status;
}

size_t
gp_pipeline_most_summed(const gp_pipeline *pipeline)
{
    const gp_stage *array = pipeline->array;

    return array->ops->most_summed ? array->ops->most_summed(array->instance)
                                   : SIZE_MAX;
}

gp_status
gp_pipeline_aggregate(const gp_pipeline *pipeline, const gp_codec_input *input,
                      size_t inputs, size_t count, void *out, size_t capacity,
                      size_t *length, void *workspace)
{
    const gp_stage *array = pipeline->array;
    gp_status status = GP_ERR_TOO_LARGE;
    const gp_codec_input *in;
    scratched s;

    if (!(pipeline->needs & GP_PIPELINE_AGGREGATES))
        return gp_fail(GP_ERR_UNSUPPORTED, "codec %s cannot be summed encoded",
                       pipeline->name);
    if (inputs > GP_CODEC_FOLD)
        return gp_fail(GP_ERR_INVALID, "codec %s sums at most %d messages",
                       pipeline->name, GP_CODEC_FOLD);
    in = with_scratch(pipeline, input, inputs, count, workspace, &s);
    if (in)
        status = array->ops->aggregate(array->instance, in, inputs, count, out,
                                       capacity, length);
    return status == GP_OK
               ? GP_OK
               : gp_fail(status, "codec %s cannot sum %zu messages: %s",
                         pipeline->name, inputs, gp_status_text(status));
}

gp_status
gp_pipeline_fake(const gp_pipeline *pipeline, const gp_codec_context *context,
                 gp_codec_memory *memory, float *data, size_t count, void *out,
                 size_t capacity, size_t *length, void *workspace)
{
    gp_status status =
        gp_pipeline_encode(pipeline, context, memory, data, count, out,
                           capacity, length, workspace);

    if (status == GP_OK)
        status = gp_pipeline_decode(pipeline, context, out, *length, data,
                                    count, workspace);
    return status;
}

/* ---- what a chain promises ------------------------------------------- */

static double
bound_of(const gp_stage *stage, size_t count)
{
    if (!stage || gp_stage_properties(stage) & GP_CODEC_LOSSLESS)
        return 0;
    return stage->ops->error_bound
               ? stage->ops->error_bound(stage->instance, count)
               : INFINITY;
}

/* Norm, in parts of the input's, of what a transform and its inverse may round:
 * each of 2 (log2(32768) + 2) steps at most an ulp's half of all, and some. */
#define ROUNDING 0x1p-18

/* What a selection keeps is at most everything, and its error comes on top;
 * for unbiased stages the errors are uncorrelated but scale one another. */
double
gp_pipeline_error_bound(const gp_pipeline *pipeline, size_t count)
{
    double a = bound_of(pipeline->select, count);
    double b = bound_of(pipeline->array, count);

    double e = pipeline->properties & GP_CODEC_UNBIASED ? (1 + a) * (1 + b) - 1
                                                        : a + b;
    double root = sqrt(e) + ROUNDING;

    return pipeline->transform ? root * root : e;
}

bool
gp_pipeline_overshoots(const gp_pipeline *pipeline)
{
    return pipeline->properties & GP_CODEC_UNBIASED &&
           !(pipeline->properties & GP_CODEC_LOSSLESS) &&
           gp_pipeline_error_bound(pipeline, 4096) >= 1;
}

bool
gp_array_contracts(const gp_pipeline *pipeline)
{
    return gp_stage_properties(pipeline->array) & GP_CODEC_CONTRACTS ||
           bound_of(pipeline->array, 4096) < 1;
}
