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
    gp_codec_shape shape; /* of tensors, where that matters; else 0 */
    gp_coder *coder;      /* NULL: there are no kernels */
} gp_devcoder;

/* What an encoder remembers, by the names of gp_codec_memory_field(). */
enum { RESIDUAL, VELOCITY, HISTORY, STATE, FIELDS };
static const char *const field_names[FIELDS] = {"residual", "velocity",
                                                "history", "state"};

struct gp_devcode {
    gp_coder *coder;      /* of pushes; NULL: the host encodes */
    gp_coder *results;    /* of what is pulled; NULL: the host decodes */
    float *field[FIELDS]; /* on the device, or NULL */
    void *whole;          /* what was found of the tensor as a whole, or NULL */
    uint64_t looked;      /* steps of which that is so */
    uint64_t step;        /* the next to be encoded */
    uint32_t unagreed;    /* chunks of the last one that wait for a number */
    bool packs;           /* pushes have byte stages, which the host does */
    bool unpacks;         /* results likewise */
};

/* In front of a message, in pinned memory. */
typedef struct head {
    uint64_t encoded; /* the device says how long it is */
    uint32_t status;  /* not 0: the device found that it is damaged */
    bool sum;         /* of messages */
    float proposal;   /* of a push, before its workers have agreed */
    uint64_t length;  /* of a result */
    gp_codec_context context;
} head;

_Static_assert(sizeof(head) <= GP_ARENA_ALIGN, "heads take one unit");

static int
field_of(const char *name)
{
    for (int i = 0; i < FIELDS; i++)
        if (strcmp(field_names[i], name) == 0)
            return i;
    return -1;
}

/* Whether everything that is remembered has a place on the device. */
static bool
could_remember(const gp_tensor *t)
{
    const char *name;
    float *values;

    for (size_t i = 0; gp_codec_memory_field(t->memory[0], i, &name, &values);
         i++)
        if (field_of(name) < 0)
            return false;
    return true;
}

/* What kernels may be asked for: a pipeline that is always the same. */
static bool
could_encode(const gp_tensor *t)
{
    return t->push.count == 1 && t->direct < 0 && t->spec.dtype == GP_FP32 &&
           could_remember(t);
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

/* A block of the device, zeros. */
static gp_status
take_zeros(const gp_tensor *t, size_t bytes, void **out)
{
    gp_staging *s = t->stage;
    void *block = NULL;
    gp_status status = gp_device_arena_take(s->memory, bytes, &block);

    if (status != GP_OK)
        return status;
    *out = block;
    return s->device->ops->fill(s->device, block, 0, bytes);
}

/* The library for products loads its kernels at the first one of a shape, for
 * which a driver may wait for all streams, as for ours: so that is now. Of
 * zeros nothing is remembered. */
static gp_status
multiply_once(const gp_tensor *t, const gp_devcode *c)
{
    gp_staging *s = t->stage;
    const gp_coder_whole whole = {.context = {.tensor = t->index, .size = 1},
                                  .count = t->spec.count,
                                  .source = c->field[RESIDUAL],
                                  .residual = c->field[RESIDUAL],
                                  .state = c->field[STATE],
                                  .velocity = c->field[VELOCITY],
                                  .whole = c->whole};
    gp_status status = GP_OK;

    if (!whole.residual || !gp_coder_multiplies(c->coder))
        return GP_OK;
    status = gp_coder_prepare(c->coder, &whole, 1, s->in);
    gp_staging_settle(s, s->in);
    return status;
}

static gp_status
open_fields(const gp_tensor *t, gp_devcode *c)
{
    size_t whole = gp_coder_whole_bytes(c->coder, t->spec.count), count;
    gp_status status = GP_OK;
    const char *name;
    float *values;

    for (size_t i = 0; status == GP_OK; i++) {
        void *block = NULL;

        count = gp_codec_memory_field(t->memory[0], i, &name, &values);
        if (!count)
            break;
        status = take_zeros(t, count * sizeof(float), &block);
        c->field[field_of(name)] = block;
    }
    if (status == GP_OK && whole)
        status = take_zeros(t, whole, &c->whole);
    return status == GP_OK && whole ? multiply_once(t, c) : status;
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

/* Coders of pipelines that look at rows are those of one length of rows, and
 * where a whole tensor is selected from, those of one size. */
static gp_codec_shape
shape_of(const gp_tensor *t, const gp_pipeline *p)
{
    uint32_t needs = gp_pipeline_needs(p);

    if (!(needs & GP_PIPELINE_PREPARES))
        return (gp_codec_shape){0, 0};
    return (gp_codec_shape){needs & GP_PIPELINE_SELECTS ? t->spec.count : 0,
                            t->spec.columns};
}

static gp_status
find_named(const gp_tensor *t, const char *text, gp_codec_shape shape,
           gp_coder **out)
{
    const gp_codec_shape whole = {t->spec.count, t->spec.columns};
    gp_staging *s = t->stage;
    gp_devcoder *d = s->coders;
    gp_status status;

    while (d && (d->shape.columns != shape.columns ||
                 d->shape.count != shape.count ||
                 strcmp(gp_pipeline_name(d->pipeline), text) != 0))
        d = d->next;
    if (!d) {
        d = calloc(1, sizeof(*d));
        if (!d)
            return gp_fail(GP_ERR_NO_MEMORY, "tensor '%.60s'", t->spec.name);
        d->shape = shape;
        status = gp_pipeline_open(
            text, shape.count || shape.columns ? &whole : NULL, &d->pipeline);
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
    status = find_named(t, text, shape_of(t, p), out);
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
    c->step = c->looked = t->spec.first_step;
    c->packs = packs;
    c->unpacks = unpacks;
    t->devcode = c;
    return coder ? open_fields(t, c) : GP_OK;
}

void
gp_devcode_close(gp_tensor *t)
{
    if (!t->devcode)
        return;
    for (int i = 0; i < FIELDS; i++)
        gp_device_arena_give(t->stage->memory, t->devcode->field[i]);
    gp_device_arena_give(t->stage->memory, t->devcode->whole);
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
    const gp_devcode *c = r->tensor->devcode;

    /* Residuals of a step follow from what all workers agreed on. */
    return !gp_devcode_pushes(r) || (r->step == c->step && c->unagreed == 0);
}

void
gp_devcode_catch_up(gp_tensor *t)
{
    if (t->devcode)
        t->devcode->step = t->devcode->looked = t->steps;
}

void
gp_devcode_begin(const gp_request *r)
{
    gp_tensor *t = r->tensor;

    if (!gp_devcode_pushes(r))
        return;
    t->devcode->step++;
    if (gp_pipeline_needs(t->push.pipeline[0]) & GP_PIPELINE_PROPOSES)
        t->devcode->unagreed = t->chunks;
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

static gp_codec_context
context_of(const gp_request *r, uint64_t offset)
{
    const gp_tensor *t = r->tensor;

    return (gp_codec_context){.seed = t->worker->seed,
                              .tensor = t->index,
                              .offset = offset,
                              .step = r->step,
                              .rank = t->worker->rank,
                              .size = t->worker->size};
}

static float *
at(float *field, uint64_t offset)
{
    return field ? field + offset : NULL;
}

static gp_coder_part
push_part(const gp_op *op)
{
    const gp_request *r = op->request;
    const gp_devcode *c = r->tensor->devcode;
    const gp_chunk_info *info = gp_op_info(op);

    gp_codec_context context = context_of(r, info->offset);

    context.shared = op->shared;
    return (gp_coder_part){
        .context = context,
        .count = info->count,
        .source = (const void *)(r->staged->grad + gp_op_plain_offset(op)),
        .residual = at(c->field[RESIDUAL], info->offset),
        .velocity = at(c->field[VELOCITY], info->offset),
        .history = at(c->field[HISTORY], info->offset),
        .whole = c->whole,
        .proposal = &head_of(op)->proposal,
        .proposed = op->agreed,
        .encoded = &head_of(op)->encoded,
        .bytes = op->from_device ? gp_direct_message(op) : message_of(op)};
}

/* The first of a step's chunks finds out what all of them need. */
static gp_status
look_at_whole(const gp_request *r)
{
    const gp_tensor *t = r->tensor;
    gp_devcode *c = t->devcode;
    const gp_coder_whole whole = {.context = context_of(r, 0),
                                  .count = t->spec.count,
                                  .source = (const void *)r->staged->grad,
                                  .residual = c->field[RESIDUAL],
                                  .state = c->field[STATE],
                                  .velocity = c->field[VELOCITY],
                                  .history = c->field[HISTORY],
                                  .whole = c->whole};
    gp_status status;

    if (!c->whole || c->looked > r->step)
        return GP_OK;
    status = gp_coder_prepare(c->coder, &whole, 1, t->stage->in);
    if (status == GP_OK)
        c->looked = r->step + 1;
    return status;
}

bool
gp_devcode_is_whole(const gp_tensor *t)
{
    return t->devcode && t->devcode->whole;
}

gp_status
gp_devcode_encode(gp_op *const *ops, size_t n)
{
    const gp_tensor *t = ops[0]->request->tensor;
    gp_coder_part parts[STAGE_PARTS];
    gp_status status = GP_OK;

    parts[0] = push_part(ops[0]);
    for (size_t i = 1; i < n; i++)
        parts[i] = push_part(ops[i]);
    for (size_t i = 0; i < n && status == GP_OK; i++)
        status = look_at_whole(ops[i]->request);
    if (status == GP_OK)
        status = gp_coder_encode(t->devcode->coder, parts, n, t->stage->in);
    if (status != GP_OK)
        return status;
    for (size_t i = 0; i < n; i++)
        if (gp_encode_proposes(ops[i]))
            ops[i]->request->tensor->devcode->unagreed--;
    return status;
}

bool
gp_devcode_asks(const gp_op *op)
{
    return gp_devcode_pushes(op->request) && gp_encode_proposes(op) &&
           !op->agreed;
}

gp_status
gp_devcode_propose(gp_op *const *ops, size_t n)
{
    const gp_tensor *t = ops[0]->request->tensor;
    gp_coder_part parts[STAGE_PARTS];

    parts[0] = push_part(ops[0]);
    for (size_t i = 1; i < n; i++)
        parts[i] = push_part(ops[i]);
    return gp_coder_propose(t->devcode->coder, parts, n, t->stage->in);
}

float
gp_devcode_proposal(const gp_op *op)
{
    return head_of(op)->proposal;
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

/* All of a tensor's fields between the device and the worker's own copy. */
static gp_status
copy_fields(const gp_tensor *t, bool out)
{
    const gp_staging *s = t->stage;
    gp_status status = GP_OK;
    const char *name;
    float *values;
    size_t count;

    if (!t->devcode || !t->devcode->coder)
        return GP_OK;
    for (size_t i = 0; status == GP_OK; i++) {
        float *field;

        count = gp_codec_memory_field(t->memory[0], i, &name, &values);
        if (!count)
            break;
        field = t->devcode->field[field_of(name)];
        count *= sizeof(float);
        status = out ? s->device->ops->copy_out(s->device, values, field, count)
                     : s->device->ops->copy_in(s->device, field, values, count);
    }
    return status;
}

gp_status
gp_devcode_fetch(gp_tensor *t)
{
    return copy_fields(t, true);
}

gp_status
gp_devcode_store(gp_tensor *t)
{
    return copy_fields(t, false);
}
