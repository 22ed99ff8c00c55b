/* SPDX-License-Identifier: Apache-2.0 */
/*
 * devcode.c - pushes that are encoded where the gradient is, so that a message
 * is all that leaves the device.
 *
 * Where a device has kernels for the one pipeline of a tensor, its residual is
 * in the device's memory, and the worker's own copy is what checkpoints are
 * written from and read into. Steps are encoded in their order even where the
 * caller's streams are not: each one's residual is the next one's.
 */
#include <stdlib.h>
#include <string.h>

#include "compress/codec_internal.h"
#include "compress/pipeline.h"
#include "device/coder.h"
#include "worker/staging.h"

/* Of all tensors of a device with that pipeline: a coder holds much memory. */
typedef struct gp_devcoder {
    struct gp_devcoder *next;
    gp_pipeline *pipeline;
    gp_coder *coder; /* NULL: there are no kernels */
} gp_devcoder;

struct gp_devcode {
    gp_coder *coder;
    float *residual; /* on the device, or NULL */
    uint64_t step;   /* the next to be encoded */
};

/* What the kernels may be asked for: a pipeline that is always the same, and
 * whose chunks are apart. */
static bool
could_be(const gp_tensor *t)
{
    const gp_pipeline *p = t->push.pipeline[0];
    const char *name;
    float *values;
    bool more = gp_codec_memory_field(t->memory[0], 1, &name, &values) > 0;

    return t->push.count == 1 && t->direct < 0 && t->spec.dtype == GP_FP32 &&
           !(gp_pipeline_needs(p) &
             (GP_PIPELINE_PREPARES | GP_PIPELINE_PROPOSES)) &&
           !more && (!t->memory[0] || gp_memory_residual(t));
}

/* A push of nothing worth mentioning, which loads the kernels: a build may lack
 * them. */
static gp_status
probe(const gp_tensor *t, gp_coder *coder)
{
    gp_staging *s = t->stage;
    size_t bound = gp_coder_bound(coder, 1);
    gp_coder_part part = {.count = 1};
    void *element = NULL, *message = NULL;
    gp_status status;

    status = gp_device_arena_take(s->memory, sizeof(float), &element);
    if (status == GP_OK)
        status =
            gp_device_arena_take(s->pinned, GP_ARENA_ALIGN + bound, &message);
    if (status == GP_OK)
        status = s->device->ops->fill(s->device, element, 0, sizeof(float));
    part.source = element;
    part.encoded = message;
    part.bytes = (uint8_t *)message + GP_ARENA_ALIGN;
    if (status == GP_OK)
        status = gp_coder_encode(coder, &part, 1, s->in);
    gp_staging_settle(s, s->in);
    gp_device_arena_give(s->memory, element);
    gp_device_arena_give(s->pinned, message);
    return status;
}

static gp_status
open_residual(const gp_tensor *t, gp_devcode *c)
{
    gp_staging *s = t->stage;
    size_t bytes = t->spec.count * sizeof(float);
    void *block;
    gp_status status;

    if (!t->memory[0])
        return GP_OK;
    status = gp_device_arena_take(s->memory, bytes, &block);
    if (status != GP_OK)
        return status;
    c->residual = block;
    return s->device->ops->fill(s->device, block, 0, bytes);
}

void
gp_devcoders_close(gp_staging *s)
{
    gp_devcoder *d;

    while ((d = s->coders)) {
        s->coders = d->next;
        gp_coder_close(d->coder);
        gp_pipeline_destroy(d->pipeline);
        free(d);
    }
}

/* Without kernels, or memory for them, the host encodes. */
static void
open_coder(const gp_tensor *t, gp_devcoder *d)
{
    gp_status status = gp_coder_open(t->stage->device, d->pipeline, &d->coder);

    if (status == GP_OK)
        status = probe(t, d->coder);
    if (status == GP_OK) {
        atomic_fetch_add(&t->worker->memory,
                         gp_coder_memory(d->coder) + gp_coder_pinned(d->coder));
        return;
    }
    GP_INFO("codec %s runs on the host, not on %s: %s", t->spec.push,
            t->stage->name, gp_last_error());
    gp_coder_close(d->coder);
    d->coder = NULL;
}

static gp_status
find_coder(const gp_tensor *t, gp_coder **out)
{
    gp_staging *s = t->stage;
    gp_devcoder *d = s->coders;
    gp_status status;

    while (d && strcmp(gp_pipeline_name(d->pipeline), t->spec.push) != 0)
        d = d->next;
    if (!d) {
        d = calloc(1, sizeof(*d));
        if (!d)
            return gp_fail(GP_ERR_NO_MEMORY, "tensor '%.60s'", t->spec.name);
        status = gp_pipeline_parse(t->spec.push, &d->pipeline);
        if (status != GP_OK) {
            free(d);
            return status;
        }
        d->next = s->coders;
        s->coders = d;
        open_coder(t, d);
    }
    *out = d->coder;
    return GP_OK;
}

gp_status
gp_devcode_open(gp_tensor *t)
{
    gp_coder *coder = NULL;
    gp_devcode *c;
    gp_status status = could_be(t) ? find_coder(t, &coder) : GP_OK;

    if (status != GP_OK || !coder)
        return status;
    c = calloc(1, sizeof(*c));
    if (!c)
        return gp_fail(GP_ERR_NO_MEMORY, "tensor '%.60s'", t->spec.name);
    c->coder = coder;
    c->step = t->spec.first_step;
    t->devcode = c;
    return open_residual(t, c);
}

void
gp_devcode_close(gp_tensor *t)
{
    if (t->devcode)
        gp_device_arena_give(t->stage->memory, t->devcode->residual);
    free(t->devcode);
    t->devcode = NULL;
}

size_t
gp_devcode_stride(const gp_tensor *t)
{
    const gp_worker *w = t->worker;
    size_t most = 0;

    if (!t->devcode)
        return 0;
    for (uint32_t i = 0; i < t->chunks; i++)
        most = GP_MAX(most, gp_coder_bound(t->devcode->coder,
                                           w->map.chunk[t->first + i].count));
    most = (most + GP_ARENA_ALIGN - 1) & ~(GP_ARENA_ALIGN - 1);
    return GP_ARENA_ALIGN + most;
}

bool
gp_devcode_pushes(const gp_request *r)
{
    return r->tensor->devcode && r->kind == OP_PUSH_PULL;
}

bool
gp_devcode_is_next(const gp_request *r)
{
    return !gp_devcode_pushes(r) || r->step == r->tensor->devcode->step;
}

void
gp_devcode_begin(const gp_request *r)
{
    if (gp_devcode_pushes(r))
        r->tensor->devcode->step++;
}

/* A message's length, and GP_ARENA_ALIGN behind it the message. */
static uint8_t *
message_of(const gp_op *op)
{
    const gp_request *r = op->request;

    return r->staged->messages +
           (op->chunk - r->tensor->first) * r->staged->stride;
}

gp_status
gp_devcode_encode(const gp_op *op)
{
    const gp_request *r = op->request;
    const gp_tensor *t = r->tensor;
    const gp_chunk_info *info = gp_op_info(op);
    const gp_devcode *c = t->devcode;
    const gp_coder_part part = {
        .context = {.seed = t->worker->seed,
                    .tensor = t->index,
                    .offset = info->offset,
                    .step = r->step,
                    .rank = t->worker->rank,
                    .size = t->worker->size},
        .count = info->count,
        .source = (const void *)(r->staged->grad + gp_op_plain_offset(op)),
        .residual = c->residual ? c->residual + info->offset : NULL,
        .encoded = (void *)message_of(op),
        .bytes = op->from_device ? gp_direct_message(op)
                                 : message_of(op) + GP_ARENA_ALIGN};

    return gp_coder_encode(c->coder, &part, 1, t->stage->in);
}

const void *
gp_devcode_message(const gp_op *op, size_t *length)
{
    const uint8_t *at = message_of(op);
    uint64_t encoded;

    memcpy(&encoded, at, sizeof(encoded));
    *length = (size_t)encoded;
    return at + GP_ARENA_ALIGN;
}

/* --- checkpoints --- */

gp_status
gp_devcode_fetch(gp_tensor *t)
{
    const gp_staging *s = t->stage;

    if (!t->devcode || !t->devcode->residual)
        return GP_OK;
    return s->device->ops->copy_out(s->device, gp_memory_residual(t),
                                    t->devcode->residual,
                                    t->spec.count * sizeof(float));
}

gp_status
gp_devcode_store(gp_tensor *t)
{
    const gp_staging *s = t->stage;

    if (!t->devcode || !t->devcode->residual)
        return GP_OK;
    return s->device->ops->copy_in(s->device, t->devcode->residual,
                                   gp_memory_residual(t),
                                   t->spec.count * sizeof(float));
}
