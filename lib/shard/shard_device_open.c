/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard_device_open.c - what of a shard is on a device, and its memory there.
 *
 * A shard that lives on a device takes all memory that payloads lie in from
 * pinned segments: landing slots, pushes that had to leave them, and the arena
 * that answers are sent from. So kernels read pushes where they landed.
 */
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compress/pipeline.h"
#include "shard/shard_device.h"

#define SETTLE_SECONDS 30.0

/* --- memory that payloads lie in --- */

void *
gp_shard_take(gp_shard *s, size_t bytes)
{
    void *block = NULL;

    if (!s->device)
        return gp_alloc_aligned(bytes);
    return gp_device_arena_take(s->device->pinned, GP_MAX(bytes, 1), &block) ==
                   GP_OK
               ? block
               : NULL;
}

void
gp_shard_give(gp_shard *s, void *block)
{
    if (s->device)
        gp_device_arena_give(s->device->pinned, block);
    else
        free(block);
}

/* --- coders --- */

static gp_status
parse_coder(gp_shard_device *d, const char *text, const gp_codec_shape *shape,
            device_coder **out)
{
    device_coder *k = calloc(1, sizeof(*k));
    gp_status status;

    if (!k)
        return gp_fail(GP_ERR_NO_MEMORY, "codec %s", text);
    k->shape = shape ? *shape : (gp_codec_shape){0, 0};
    status = gp_pipeline_open(text, shape, &k->pipeline);
    if (status != GP_OK) {
        free(k);
        return status;
    }
    k->next = d->coders;
    d->coders = k;
    *out = k;
    return GP_OK;
}

/* Lengths of rows matter, and counts where a whole tensor is selected from. */
static bool
same_shape(const device_coder *k, const gp_codec_shape *shape)
{
    if (!shape)
        return k->shape.columns == 0 && k->shape.count == 0;
    return k->shape.columns == shape->columns &&
           (k->shape.count == shape->count ||
            !(gp_pipeline_needs(k->pipeline) & GP_PIPELINE_SELECTS));
}

gp_status
gp_device_coder_find(gp_shard_device *d, const char *text,
                     const gp_codec_shape *shape, const device_coder **out)
{
    device_coder *k = d->coders;
    gp_status status = GP_OK;

    while (k && (!same_shape(k, shape) ||
                 strcmp(gp_pipeline_name(k->pipeline), text) != 0))
        k = k->next;
    if (!k) {
        status = parse_coder(d, text, shape, &k);
        if (status != GP_OK)
            return status;
        status = gp_coder_open(d->device, k->pipeline, &k->coder);
        if (status != GP_OK)
            GP_INFO("codec %s runs on the host, not on %s: %s", text, d->name,
                    gp_last_error());
        else
            k->folds =
                gp_coder_fold(k->coder, NULL, 0, false, d->stream) == GP_OK;
    }
    *out = k;
    return status == GP_ERR_UNSUPPORTED ? GP_OK : status;
}

void
gp_device_coders_close(gp_shard_device *d)
{
    device_coder *k;

    while ((k = d->coders)) {
        d->coders = k->next;
        gp_coder_close(k->coder);
        gp_pipeline_destroy(k->pipeline);
        free(k);
    }
}

/* --- the shard --- */

static gp_status
open_jobs(gp_shard_device *d)
{
    const size_t notes = DEVICE_JOBS * DEVICE_ITEMS;
    void *block = NULL;
    gp_status status;

    d->job = calloc(DEVICE_JOBS, sizeof(*d->job));
    if (!d->job)
        return gp_fail(GP_ERR_NO_MEMORY, "shard on %s", d->name);
    status = gp_device_arena_take(d->pinned, notes * sizeof(*d->notes), &block);
    d->notes = block;
    for (uint32_t i = 0; status == GP_OK && i < DEVICE_JOBS; i++) {
        d->job[i].notes = d->notes + (size_t)i * DEVICE_ITEMS;
        status = d->device->ops->event_create(d->device, &d->job[i].event);
    }
    if (status == GP_OK)
        status = d->device->ops->event_create(d->device, &d->settled);
    return status;
}

/* A build may lack kernels; and where a worker's streams wait in the same
 * process, they have to be there before. */
static gp_status
load_updates(gp_device *device)
{
    gp_status status = GP_OK;

    for (int k = GP_KERNEL_gp_cuda_update_scale;
         k <= GP_KERNEL_gp_cuda_update_descend && status == GP_OK; k++)
        status =
            device->ops->load(device, &(gp_launch){.kernel = (gp_kernel_id)k});
    return status;
}

static gp_status
open_work(gp_shard_device *d)
{
    const gp_device_ops *ops = d->device->ops;
    const device_coder *dense = NULL;
    gp_status status = gp_device_arena_open(d->device, false, &d->memory);

    if (status == GP_OK)
        status = gp_device_arena_open(d->device, true, &d->pinned);
    if (status == GP_OK)
        status = ops->stream_create(d->device, &d->stream);
    if (status == GP_OK)
        status = open_jobs(d);
    if (status == GP_OK)
        status = load_updates(d->device);
    if (status == GP_OK)
        status = gp_device_coder_find(d, "none", NULL, &dense);
    if (status == GP_OK)
        d->dense = dense->coder;
    return status;
}

static gp_status
explain(const char *text, gp_status status)
{
    char why[GP_TEXT_MAX];

    snprintf(why, sizeof(why), "%s", gp_last_error());
    return gp_fail(status,
                   "GRADPUSH_SHARD_DEVICE is '%.60s': %.300s; set it to cpu, "
                   "or leave it out, to have shards in the host's memory",
                   text, why);
}

/* Of names with commas between them the one that is `number`'s turn. */
static gp_status
open_listed(const char *text, uint64_t number, gp_device **out)
{
    uint64_t count = 1, turn;
    char name[32];
    size_t length;

    for (const char *at = text; (at = strchr(at, ',')); at++)
        count++;
    for (turn = number % count; turn > 0; turn--)
        text = strchr(text, ',') + 1;
    length = strcspn(text, ",");
    if (length >= sizeof(name))
        return gp_device_open(text, out);
    memcpy(name, text, length);
    name[length] = '\0';
    return gp_device_open(name, out);
}

/* Shards take their turns by their number in the job, or by the order in which
 * this process makes them. */
static gp_status
open_turn(const gp_shard *s, const char *text, gp_device **out)
{
    static _Atomic uint64_t made;
    uint64_t number =
        s->index >= 0
            ? (uint64_t)s->index
            : atomic_fetch_add_explicit(&made, 1, memory_order_relaxed);
    uint32_t count = 0;
    gp_status status;

    if (strcmp(text, "cuda:all") != 0)
        return open_listed(text, number, out);
    status = gp_device_cuda.count(&count);
    if (status != GP_OK)
        return status;
    if (count == 0)
        return gp_fail(GP_ERR_NOT_FOUND, "there is no CUDA device");
    return gp_device_cuda.open((uint32_t)(number % count), out);
}

gp_status
gp_shard_device_open(gp_shard *s, const gp_config *config)
{
    const char *text = gp_config_get(config, "shard_device");
    gp_device_properties p;
    gp_device *device = NULL;
    gp_shard_device *d;
    gp_status status;

    if (strcmp(text, "cpu") == 0 || strcmp(text, "host") == 0)
        return GP_OK;
    status = open_turn(s, text, &device);
    if (status != GP_OK)
        return explain(text, status);
    device->ops->properties(device, &p);
    d = device->ops == &gp_device_host ? NULL : calloc(1, sizeof(*d));
    if (!d) {
        bool host = device->ops == &gp_device_host;

        gp_device_close(device);
        return host ? GP_OK : gp_fail(GP_ERR_NO_MEMORY, "shard on a device");
    }
    d->device = device;
    gp_list_init(&d->ready);
    snprintf(d->name, sizeof(d->name), "%s:%u", device->ops->kind, p.index);
    snprintf(d->model, sizeof(d->model), "%.63s", p.name);
    s->device = d;
    status = open_work(d);
    return status == GP_OK ? GP_OK : explain(text, status);
}

static void
forget_jobs(gp_shard *s)
{
    gp_shard_device *d = s->device;

    for (uint32_t j = 0; d->job && j < DEVICE_JOBS; j++) {
        for (uint32_t i = 0; i < d->job[j].count; i++)
            gp_device_arena_give(d->pinned, d->job[j].item[i].block);
        d->job[j].count = 0;
    }
    d->used = 0;
    GP_LIST_EACH (item, &s->peers)
        GP_CONTAINER_OF(item, gp_peer, link)->reading = 0;
    GP_LIST_EACH (item, &s->graves)
        GP_CONTAINER_OF(item, gp_peer, link)->reading = 0;
    for (uint32_t i = 0; s->chunk && i < s->chunks; i++)
        for (int64_t r = 0; s->chunk[i].entry && r < s->size; r++)
            s->chunk[i].entry[r].queued = false;
}

/* Not for ever: a device that hangs is not to take the process with it. */
void
gp_shard_device_settle(gp_shard *s)
{
    gp_shard_device *d = s->device;
    uint64_t deadline = gp_deadline(SETTLE_SECONDS);
    const gp_device_ops *ops;

    if (!d || !d->settled)
        return;
    ops = d->device->ops;
    if (ops->event_record(d->device, d->settled, d->stream) == GP_OK ||
        ops->event_record(d->device, d->settled, d->stream) == GP_OK)
        while (ops->event_query(d->device, d->settled) == GP_PENDING &&
               !gp_expired(deadline))
            sched_yield();
    forget_jobs(s);
}

void
gp_shard_device_close(gp_shard *s)
{
    gp_shard_device *d = s->device;
    const gp_device_ops *ops = d ? d->device->ops : NULL;

    if (!d)
        return;
    gp_device_coders_close(d);
    gp_shard_direct_close(s);
    for (uint32_t i = 0; d->job && i < DEVICE_JOBS; i++)
        ops->event_destroy(d->device, d->job[i].event);
    ops->event_destroy(d->device, d->settled);
    if (d->stream)
        ops->stream_destroy(d->device, d->stream);
    gp_device_arena_close(d->memory);
    gp_device_arena_close(d->pinned);
    gp_device_close(d->device);
    free(d->job);
    free(d);
    s->device = NULL;
}

/* --- tensors --- */

/* Why a tensor stays in the host's memory, or NULL. */
static const char *
host_reason(const shard_tensor *t)
{
    if (t->spec->rows)
        return "it has rows";
    if (t->summed >= 0)
        return "its messages are summed as they are";
    if (t->arrives)
        return "its pushes are applied as they arrive";
    return NULL;
}

/* Who decodes an alternative. */
static gp_status
find_decoder(gp_shard_device *d, const gp_tensor_spec *spec,
             const gp_pipeline *p, device_decoder *out)
{
    const gp_codec_shape shape = {spec->count, spec->columns};
    bool shaped = gp_pipeline_needs(p) & GP_PIPELINE_PREPARES;
    char *text = gp_pipeline_print(p);
    gp_status status;

    if (!text)
        return gp_fail(GP_ERR_NO_MEMORY, "codec");
    for (size_t i = gp_pipeline_tail(p); i > 0; i--)
        *strrchr(text, '+') = '\0';
    out->unpacks = gp_pipeline_tail(p) > 0;
    status = gp_device_coder_find(d, text, shaped ? &shape : NULL, &out->coder);
    free(text);
    return status;
}

/* Who encodes results: nobody here when the host must remember more than a
 * residual. */
static gp_status
find_encoder(gp_shard_device *d, shard_tensor *t)
{
    const gp_pipeline *p = t->pull;
    const device_coder *k = NULL;
    bool remembers = gp_memory_will_have(p, t->spec->feedback, "velocity") ||
                     gp_memory_will_have(p, t->spec->feedback, "history") ||
                     gp_memory_will_have(p, t->spec->feedback, "state");
    gp_status status;

    if (t->pull_dense || remembers || gp_pipeline_tail(p) > 0 ||
        gp_pipeline_needs(p) & (GP_PIPELINE_PREPARES | GP_PIPELINE_PROPOSES))
        return GP_OK;
    status = gp_device_coder_find(d, gp_pipeline_name(p), NULL, &k);
    if (status == GP_OK)
        t->device->pull = k->coder;
    return status;
}

gp_status
gp_tensor_device_open(gp_shard *s, shard_tensor *t)
{
    gp_shard_device *d = s->device;
    const char *why = host_reason(t);
    device_update update = NULL;
    gp_status status;

    if (why) {
        GP_WARN("tensor '%.60s' stays in the host's memory, not on %s: %s",
                t->spec->name, d->name, why);
        d->tensors_host++;
        return GP_OK;
    }
    status = gp_device_updater_find(t, &update);
    if (status != GP_OK)
        return status;
    t->device = calloc(1, sizeof(*t->device));
    if (!t->device)
        return gp_fail(GP_ERR_NO_MEMORY, "tensor '%.60s'", t->spec->name);
    d->tensors++;
    t->device->update = update;
    for (uint32_t i = 0; status == GP_OK && i < t->push.count; i++)
        status =
            find_decoder(d, t->spec, t->push.pipeline[i], &t->device->push[i]);
    if (status == GP_OK)
        status = find_encoder(d, t);
    t->device->keeps_copy = s->elastic;
    return status;
}

void
gp_tensor_device_close(shard_tensor *t)
{
    free(t->device);
    t->device = NULL;
}

/* --- chunks --- */

/* Zeros on the device. */
static gp_status
take_zeros(gp_shard_device *d, size_t count, float **out)
{
    size_t bytes = count * sizeof(float);
    void *block = NULL;
    gp_status status = gp_device_arena_take(d->memory, bytes, &block);

    if (status != GP_OK)
        return status;
    *out = block;
    return d->device->ops->fill_async(d->device, block, 0, bytes, d->stream);
}

/* For weighted pushes, of the largest chunk. What was smaller stays until the
 * shard closes. */
static gp_status
grow_scratch(gp_shard_device *d, size_t count)
{
    gp_status status;

    if (count <= d->scratch_count)
        return GP_OK;
    status = take_zeros(d, count, &d->scratch);
    if (status == GP_OK)
        d->scratch_count = count;
    return status;
}

static gp_status
open_memory(gp_shard *s, gp_chunk *c)
{
    gp_shard_device *d = s->device;
    const shard_tensor *t = c->tensor;
    gp_chunk_device *x = c->device;
    size_t n = c->info->count;
    size_t blocks = (n + GP_NORM_BLOCK - 1) / GP_NORM_BLOCK;
    size_t norms = t->updater.ops->norms ? 2 : gp_updater_clips(&t->updater);
    void *squares = NULL;
    gp_status status = take_zeros(d, n, &x->sum);

    if (status == GP_OK && gp_updater_keeps(&t->updater))
        status = take_zeros(d, n, &x->value);
    if (status == GP_OK && gp_codec_set_differs(&t->push))
        status = take_zeros(d, n, &x->history);
    if (status == GP_OK && t->device->pull && c->memory)
        status = take_zeros(d, n, &x->residual);
    for (uint32_t i = 0; status == GP_OK && i < GP_UPDATER_ARRAYS; i++)
        if (t->updater.arrays >> i & 1)
            status = take_zeros(d, n, &x->array[i]);
    if (status == GP_OK && norms > 0)
        status = gp_device_arena_take(
            d->pinned, norms * blocks * sizeof(double), &squares);
    x->squares = squares;
    return status == GP_OK ? grow_scratch(d, n) : status;
}

gp_status
gp_chunk_device_open(gp_shard *s, gp_chunk *c)
{
    char why[GP_TEXT_MAX];
    gp_status status;

    c->device = calloc(1, sizeof(*c->device));
    if (!c->device)
        return gp_fail(GP_ERR_NO_MEMORY, "chunk");
    gp_list_init(&c->device->ready);
    c->device->chunk = c;
    status = open_memory(s, c);
    if (status == GP_OK)
        return GP_OK;
    snprintf(why, sizeof(why), "%s", gp_last_error());
    return gp_fail(status, "tensor '%.60s' on %s: %.300s",
                   c->tensor->spec->name, s->device->name, why);
}

void
gp_chunk_device_close(gp_shard *s, gp_chunk *c)
{
    gp_chunk_device *x = c->device;

    if (!x)
        return;
    gp_list_remove(&x->ready);
    gp_device_arena_give(s->device->memory, x->sum);
    gp_device_arena_give(s->device->memory, x->value);
    gp_device_arena_give(s->device->memory, x->history);
    gp_device_arena_give(s->device->memory, x->residual);
    for (uint32_t i = 0; i < GP_UPDATER_ARRAYS; i++)
        gp_device_arena_give(s->device->memory, x->array[i]);
    gp_device_arena_give(s->device->pinned, x->squares);
    free(x);
    c->device = NULL;
}
