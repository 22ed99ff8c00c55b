/* SPDX-License-Identifier: Apache-2.0 */
/*
 * devcode.c - pushes that are encoded where the gradient is, and results that
 * are decoded where they belong, so that messages are all that leaves the
 * device or comes to it.
 *
 * Where a device has kernels for the one pipeline of a tensor, its residual is
 * in the device's memory, and the worker's own copy is what checkpoints are
 * written from and read into. Steps are encoded in their order even where the
 * caller's streams are not: each one's residual is the next one's. A result's
 * message takes the place of the push's, which has been sent long ago. Byte
 * stages at the end of a pipeline are the host's: it packs one message while
 * the device encodes the next ones.
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
    gp_coder *coder;   /* of pushes; NULL: the host encodes */
    gp_coder *results; /* of what is pulled; NULL: the host decodes */
    float *residual;   /* on the device, or NULL */
    uint64_t step;     /* the next to be encoded */
    bool packs;        /* pushes have byte stages, which the host does */
    bool unpacks;      /* results likewise */
};

/* In front of a message, in pinned memory. */
typedef struct head {
    uint64_t encoded; /* the device says how long it is */
    uint32_t status;  /* not 0: the device found that it is damaged */
    bool sum;         /* of messages */
    uint64_t length;  /* of a result */
    gp_codec_context context;
} head;

_Static_assert(sizeof(head) <= GP_ARENA_ALIGN, "heads take one unit");

/* What kernels may be asked for: a pipeline that is always the same, and whose
 * chunks are apart. */
static bool
could_encode(const gp_tensor *t)
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

static bool
could_decode(const gp_tensor *t)
{
    return !t->pull_direct && t->spec.dtype == GP_FP32;
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

/* Without kernels, or memory for them, the host does it. */
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
    GP_INFO("codec %s runs on the host, not on %s: %s",
            gp_pipeline_name(d->pipeline), t->stage->name, gp_last_error());
    gp_coder_close(d->coder);
    d->coder = NULL;
}

static gp_status
find_named(const gp_tensor *t, const char *text, gp_coder **out)
{
    gp_staging *s = t->stage;
    gp_devcoder *d = s->coders;
    gp_status status;

    while (d && strcmp(gp_pipeline_name(d->pipeline), text) != 0)
        d = d->next;
    if (!d) {
        d = calloc(1, sizeof(*d));
        if (!d)
            return gp_fail(GP_ERR_NO_MEMORY, "tensor '%.60s'", t->spec.name);
        status = gp_pipeline_parse(text, &d->pipeline);
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

/* Of a pipeline without the byte stages at its end. */
static gp_status
find_coder(const gp_tensor *t, const gp_pipeline *p, bool *packs,
           gp_coder **out)
{
    char *text = gp_pipeline_print(p);
    gp_status status;

    if (!text)
        return gp_fail(GP_ERR_NO_MEMORY, "tensor '%.60s'", t->spec.name);
    for (size_t i = gp_pipeline_tail(p); i > 0; i--)
        *strrchr(text, '+') = '\0';
    *packs = gp_pipeline_tail(p) > 0;
    status = find_named(t, text, out);
    free(text);
    return status;
}

gp_status
gp_devcode_open(gp_tensor *t)
{
    gp_coder *coder = NULL, *results = NULL;
    bool packs = false, unpacks = false;
    gp_devcode *c;
    gp_status status = GP_OK;

    if (could_encode(t))
        status = find_coder(t, t->push.pipeline[0], &packs, &coder);
    if (status == GP_OK && could_decode(t))
        status = find_coder(t, t->pull, &unpacks, &results);
    if (results && !gp_coder_decodes(results))
        results = NULL;
    if (status != GP_OK || (!coder && !results))
        return status;
    c = calloc(1, sizeof(*c));
    if (!c)
        return gp_fail(GP_ERR_NO_MEMORY, "tensor '%.60s'", t->spec.name);
    c->coder = coder;
    c->results = results;
    c->step = t->spec.first_step;
    c->packs = packs;
    c->unpacks = unpacks;
    t->devcode = c;
    return coder ? open_residual(t, c) : GP_OK;
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
    const gp_devcode *c = t->devcode;
    size_t most = 0;

    if (!c)
        return 0;
    for (uint32_t i = 0; i < t->chunks; i++) {
        size_t count = w->map.chunk[t->first + i].count;

        if (c->coder)
            most = GP_MAX(most, gp_coder_bound(c->coder, count));
        if (c->results)
            most = GP_MAX(most, gp_coder_bound(c->results, count));
    }
    most = (most + GP_ARENA_ALIGN - 1) & ~(GP_ARENA_ALIGN - 1);
    return GP_ARENA_ALIGN + most;
}

/* --- pushes --- */

bool
gp_devcode_pushes(const gp_request *r)
{
    const gp_devcode *c = r->tensor->devcode;

    return c && c->coder && (r->kind == OP_PUSH_PULL || r->kind == OP_PUSH);
}

bool
gp_devcode_unpacks(const gp_tensor *t)
{
    return t->devcode && t->devcode->unpacks;
}

bool
gp_devcode_packs(const gp_tensor *t)
{
    return t->devcode && t->devcode->packs;
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

/* GP_ARENA_ALIGN behind it is the message. */
static head *
head_of(const gp_op *op)
{
    const gp_request *r = op->request;
    const gp_staged *s = r->staged;

    return (void *)(s->messages + (op->chunk - r->tensor->first) * s->stride);
}

static uint8_t *
message_of(const gp_op *op)
{
    return (uint8_t *)head_of(op) + GP_ARENA_ALIGN;
}

const gp_coder *
gp_devcode_encoder(const gp_op *op)
{
    return gp_devcode_pushes(op->request) ? op->request->tensor->devcode->coder
                                          : NULL;
}

static gp_coder_part
push_part(const gp_op *op)
{
    const gp_request *r = op->request;
    const gp_tensor *t = r->tensor;
    const gp_chunk_info *info = gp_op_info(op);
    float *residual = t->devcode->residual;

    return (gp_coder_part){
        .context = {.seed = t->worker->seed,
                    .tensor = t->index,
                    .offset = info->offset,
                    .step = r->step,
                    .rank = t->worker->rank,
                    .size = t->worker->size},
        .count = info->count,
        .source = (const void *)(r->staged->grad + gp_op_plain_offset(op)),
        .residual = residual ? residual + info->offset : NULL,
        .encoded = &head_of(op)->encoded,
        .bytes = op->from_device ? gp_direct_message(op) : message_of(op)};
}

gp_status
gp_devcode_encode(gp_op *const *ops, size_t n)
{
    const gp_tensor *t = ops[0]->request->tensor;
    gp_coder_part parts[STAGE_PARTS];

    for (size_t i = 0; i < n; i++)
        parts[i] = push_part(ops[i]);
    return gp_coder_encode(t->devcode->coder, parts, n, t->stage->in);
}

const void *
gp_devcode_message(const gp_op *op, size_t *length)
{
    *length = (size_t)head_of(op)->encoded;
    return message_of(op);
}

/* --- results --- */

bool
gp_devcode_pulls(const gp_op *op)
{
    const gp_request *r = op->request;
    const gp_devcode *c = r->tensor->devcode;

    return c && c->results && r->staged && !gp_kind_is_init(r->kind);
}

gp_status
gp_devcode_keep(gp_op *op, const gp_codec_context *context, bool sum,
                const void *bytes, size_t length)
{
    const gp_tensor *t = op->request->tensor;
    head *h = head_of(op);
    gp_status status = GP_OK;

    if (t->devcode->unpacks)
        status = gp_pipeline_unpack(t->pull, context, bytes, length,
                                    gp_op_info(op)->count, &bytes, &length,
                                    t->worker->workspace);
    if (status != GP_OK)
        return status;
    *h = (head){.context = *context, .sum = sum, .length = length};
    if (!op->to_device)
        memcpy(message_of(op), bytes, length);
    op->coded = true;
    return GP_OK;
}

const gp_coder *
gp_devcode_decoder(const gp_op *op)
{
    return op->request->tensor->devcode->results;
}

static gp_coder_part
result_part(const gp_op *op)
{
    const gp_request *r = op->request;
    const gp_tensor *t = r->tensor;
    head *h = head_of(op);
    bool votes = gp_pipeline_properties(t->pull) & GP_CODEC_VOTES;

    return (gp_coder_part){
        .context = h->context,
        .count = gp_op_info(op)->count,
        .target = (void *)(r->staged->out + gp_op_plain_offset(op)),
        .bytes = op->to_device ? gp_direct_message(op) : message_of(op),
        .length = h->length,
        .signs = h->sum && votes,
        .scale = h->sum && !votes ? t->scale : 1,
        .status = &h->status};
}

gp_status
gp_devcode_decode(gp_op *const *ops, size_t n)
{
    const gp_tensor *t = ops[0]->request->tensor;
    gp_coder_part parts[STAGE_PARTS];

    for (size_t i = 0; i < n; i++)
        parts[i] = result_part(ops[i]);
    return gp_coder_decode(t->devcode->results, parts, n, false,
                           t->stage->back);
}

gp_status
gp_devcode_check(const gp_request *r)
{
    for (uint32_t i = 0; i < r->tensor->chunks; i++) {
        const gp_op *op = &r->op[i];

        if (op->coded && head_of(op)->status)
            return gp_fail(GP_ERR_CORRUPT,
                           "result of tensor '%.60s' from shard %u: codec %s: "
                           "a damaged message",
                           r->tensor->spec.name, op->conn->shard,
                           gp_pipeline_name(r->tensor->pull));
    }
    return GP_OK;
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
