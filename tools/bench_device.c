/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_device.c - times pipelines on a device, all chunks of a tensor in one
 * call.
 *
 * Elements lie in several copies that take turns, so that none is in a cache
 * when it is read. Ahead of each call fills keep the device busy until the host
 * has queued all of it, longer for more messages: what is timed is the device's
 * work alone.
 */
#include <stdlib.h>
#include <string.h>

#include "bench_device_rig.h"

/* Some 30 us of a fast device, and for how many messages the host needs them:
 * each costs it less than 100 ns. */
#define FILL_BYTES    ((size_t)128 << 20)
#define FILL_MESSAGES 256u

/* ---- memory ---- */

static gp_status
on_device(gp_device_rig *r, size_t bytes, void *out)
{
    void *block = NULL;
    gp_status status = r->device->ops->alloc(r->device, bytes + 64, &block);

    memcpy(out, &block, sizeof(block));
    return status;
}

static gp_status
allocate(gp_device_rig *r)
{
    const gp_device_bench *b = r->bench;
    size_t elements = r->copies * b->count * sizeof(float);
    size_t n = r->chunks * b->workers;
    void *pinned = NULL;
    gp_status status = on_device(r, elements, &r->source);

    if (status == GP_OK)
        status = on_device(r, elements, &r->target);
    for (int f = 0; f < GP_DEVICE_FIELDS && status == GP_OK; f++)
        if (r->numbers[f])
            status = on_device(r, r->copies * r->numbers[f] * sizeof(float),
                               &r->field[f]);
    if (status == GP_OK && r->whole_bytes)
        status = on_device(r, r->whole_bytes, &r->whole);
    if (status == GP_OK)
        status = on_device(r, n * r->slot, &r->messages);
    if (status == GP_OK)
        status = on_device(r, r->fill, &r->scratch);
    if (status == GP_OK)
        status = r->device->ops->alloc_pinned(r->device, 16 * n, &pinned);
    r->encoded = pinned;
    r->status = pinned ? (uint32_t *)(r->encoded + n) : NULL;
    r->proposals = pinned ? (float *)(r->status + n) : NULL;
    r->shared = calloc(r->chunks, sizeof(*r->shared));
    r->parts = calloc(r->chunks, sizeof(*r->parts));
    r->sums = calloc(r->chunks, sizeof(*r->sums));
    r->inputs = calloc(n, sizeof(*r->inputs));
    r->contexts = calloc(n, sizeof(*r->contexts));
    if (status == GP_OK &&
        !(r->shared && r->parts && r->sums && r->inputs && r->contexts))
        status = gp_fail(GP_ERR_NO_MEMORY, "no memory for %zu chunks", n);
    return status;
}

static void
close_rig(gp_device_rig *r)
{
    gp_device *d = r->device;

    gp_codec_memory_destroy(r->memory);
    gp_coder_close(r->coder);
    gp_cuda_timer_destroy(r->timer);
    d->ops->stream_destroy(d, r->stream);
    d->ops->free(d, r->source);
    d->ops->free(d, r->target);
    for (int f = 0; f < GP_DEVICE_FIELDS; f++)
        d->ops->free(d, r->field[f]);
    d->ops->free(d, r->whole);
    d->ops->free(d, r->messages);
    d->ops->free(d, r->scratch);
    d->ops->free_pinned(d, r->encoded);
    free(r->shared);
    free(r->parts);
    free(r->sums);
    free(r->inputs);
    free(r->contexts);
}

/* What an encoder remembers of one copy, as on the host. */
static gp_status
count_fields(gp_device_rig *r)
{
    static const char *const names[GP_DEVICE_FIELDS] = {"residual", "velocity",
                                                        "history", "state"};
    const gp_device_bench *b = r->bench;
    gp_status status = gp_codec_memory_create(b->pipeline, 0, (size_t)b->count,
                                              b->feedback, &r->memory);
    const char *name;
    size_t n, i = 0;
    float *values;

    while (status == GP_OK && r->memory &&
           (n = gp_codec_memory_field(r->memory, i++, &name, &values)) > 0)
        for (int f = 0; f < GP_DEVICE_FIELDS; f++)
            if (strcmp(name, names[f]) == 0)
                r->numbers[f] = n;
    r->proposes = gp_pipeline_needs(b->pipeline) & GP_PIPELINE_PROPOSES;
    return status;
}

static gp_status
open_rig(const gp_device_bench *b, gp_device_rig *r)
{
    uint64_t bytes = b->count * sizeof(float);
    gp_coder_room room;
    gp_status status;

    *r = (gp_device_rig){.bench = b, .device = b->device};
    r->chunks = (size_t)((b->count + b->chunk - 1) / b->chunk);
    r->copies = (uint32_t)GP_MIN(b->fresh_bytes / bytes + 2, 64u);
    r->fill = (size_t)GP_MIN(b->fresh_bytes, (uint64_t)FILL_BYTES);
    r->slot =
        (gp_pipeline_bound(b->pipeline, (size_t)GP_MIN(b->chunk, b->count)) +
         63) /
        64 * 64;
    room = (gp_coder_room){.parts = r->chunks,
                           .messages = r->chunks * b->workers,
                           .elements = (size_t)b->count};
    status = count_fields(r);
    if (status == GP_OK)
        status = gp_coder_open(b->device, b->pipeline, &r->coder);
    if (status == GP_OK) {
        r->whole_bytes = gp_coder_whole_bytes(r->coder, (size_t)b->count);
        status = gp_coder_reserve(r->coder, &room);
    }
    if (status == GP_OK)
        status = gp_cuda_timer_create(b->device, &r->timer);
    if (status == GP_OK)
        status = b->device->ops->stream_create(b->device, &r->stream);
    return status == GP_OK ? allocate(r) : status;
}

/* As at first. */
static gp_status
forget(gp_device_rig *r, uint32_t copy)
{
    gp_status status = GP_OK;

    for (int f = 0; f < GP_DEVICE_FIELDS && status == GP_OK; f++)
        status = r->device->ops->fill(
            r->device, gp_device_field(r, (gp_device_kept)f, copy, 0), 0,
            r->numbers[f] * sizeof(float));
    return status;
}

/* Every copy has the numbers. */
static gp_status
fill_rig(gp_device_rig *r)
{
    const gp_device_ops *ops = r->device->ops;
    size_t bytes = (size_t)r->bench->count * sizeof(float);
    gp_status status = GP_OK;

    memset(r->encoded, 0, 16 * r->chunks * r->bench->workers);
    for (uint32_t k = 0; k < r->copies && status == GP_OK; k++) {
        status = ops->copy_in(r->device, r->source + k * r->bench->count,
                              r->bench->values, bytes);
        if (status == GP_OK)
            status = forget(r, k);
    }
    if (status == GP_OK)
        status = ops->fill(r->device, r->target, 0, r->copies * bytes);
    return status;
}

/* ---- jobs ---- */

/* A worker's messages, and a copy of the elements. */
static void
list_parts(gp_device_rig *r, uint32_t worker, uint32_t copy)
{
    size_t first = worker * r->chunks;

    for (size_t c = 0; c < r->chunks; c++) {
        size_t in = (size_t)(c * r->bench->chunk);
        size_t at = (size_t)(copy * r->bench->count) + in;

        r->parts[c] = (gp_coder_part){
            .context = gp_device_context(r, worker, c),
            .count = gp_device_count(r, c),
            .source = r->source + at,
            .residual = gp_device_field(r, GP_DEVICE_RESIDUAL, copy, in),
            .velocity = gp_device_field(r, GP_DEVICE_VELOCITY, copy, in),
            .history = gp_device_field(r, GP_DEVICE_HISTORY, copy, in),
            .whole = r->whole,
            .proposal = &r->proposals[first + c],
            .proposed = r->proposes,
            .target = r->target + at,
            .bytes = gp_device_message(r, worker, c),
            .length = (size_t)r->encoded[first + c],
            .encoded = &r->encoded[first + c],
            .status = &r->status[first + c],
        };
    }
}

static void
list_sums(gp_device_rig *r, uint32_t copy)
{
    uint32_t workers = r->bench->workers;

    for (size_t c = 0; c < r->chunks; c++) {
        for (uint32_t w = 0; w < workers; w++) {
            size_t at = c * workers + w;

            r->contexts[at] = gp_device_context(r, w, c);
            r->inputs[at] =
                (gp_codec_input){&r->contexts[at], gp_device_message(r, w, c),
                                 (size_t)r->encoded[w * r->chunks + c]};
        }
        r->sums[c] = (gp_coder_sum){&r->inputs[c * workers], workers,
                                    r->target + copy * r->bench->count +
                                        c * r->bench->chunk,
                                    gp_device_count(r, c), &r->status[c]};
    }
}

/* Passes over the tensor that come before its chunks. */
static gp_status
queue_whole(gp_device_rig *r, uint32_t worker, uint32_t copy)
{
    const gp_coder_whole whole = {
        .context = gp_device_context(r, worker, 0),
        .count = (size_t)r->bench->count,
        .source = r->source + copy * r->bench->count,
        .residual = gp_device_field(r, GP_DEVICE_RESIDUAL, copy, 0),
        .state = gp_device_field(r, GP_DEVICE_STATE, copy, 0),
        .velocity = gp_device_field(r, GP_DEVICE_VELOCITY, copy, 0),
        .history = gp_device_field(r, GP_DEVICE_HISTORY, copy, 0),
        .whole = r->whole,
    };
    gp_status status = GP_OK;

    if (r->whole)
        status = gp_coder_prepare(r->coder, &whole, 1, r->stream);
    if (status == GP_OK && r->proposes)
        status = gp_coder_propose(r->coder, r->parts, r->chunks, r->stream);
    return status;
}

static gp_status
queue_encode(gp_device_rig *r, uint32_t worker, uint32_t copy)
{
    gp_status status = queue_whole(r, worker, copy);

    return status == GP_OK
               ? gp_coder_encode(r->coder, r->parts, r->chunks, r->stream)
               : status;
}

static gp_status
queue_job(gp_device_rig *r, gp_device_job job, uint32_t worker, uint32_t copy)
{
    size_t at = (size_t)(copy * r->bench->count);

    switch (job) {
    case GP_DEVICE_COPY:
        return r->device->ops->copy_async(
            r->device, r->target + at, r->source + at,
            (size_t)r->bench->count * sizeof(float), r->stream);
    case GP_DEVICE_ENCODE:
        return queue_encode(r, worker, copy);
    case GP_DEVICE_DECODE:
    case GP_DEVICE_DECODE_ADD:
        return gp_coder_decode(r->coder, r->parts, r->chunks,
                               job == GP_DEVICE_DECODE_ADD, r->stream);
    default:
        return gp_coder_fold(r->coder, r->sums, r->chunks, false, r->stream);
    }
}

/* The host's part, which is not timed. */
static void
list_job(gp_device_rig *r, gp_device_job job, uint32_t worker, uint32_t copy)
{
    list_parts(r, worker, copy);
    if (job == GP_DEVICE_FOLD)
        list_sums(r, copy);
}

static gp_status
keep_busy(gp_device_rig *r, gp_device_job job)
{
    size_t messages =
        r->chunks * (job == GP_DEVICE_FOLD ? r->bench->workers : 1);
    gp_status status = GP_OK;

    for (size_t i = 0; i <= messages / FILL_MESSAGES && status == GP_OK; i++)
        status = r->device->ops->fill_async(r->device, r->scratch, 0, r->fill,
                                            r->stream);
    return status;
}

static gp_status
run_job(gp_device_rig *r, gp_device_job job, uint32_t worker, uint32_t copy,
        double *microseconds)
{
    gp_status status;

    list_job(r, job, worker, copy);
    status = keep_busy(r, job);
    if (status == GP_OK)
        status = gp_cuda_timer_start(r->timer, r->stream);
    if (status == GP_OK)
        status = queue_job(r, job, worker, copy);
    if (status == GP_OK)
        status = gp_cuda_timer_stop(r->timer, r->stream);
    if (status == GP_OK)
        status = r->device->ops->synchronize(r->device);
    return status == GP_OK ? gp_cuda_timer_read(r->timer, microseconds)
                           : status;
}

/* All workers have the same numbers, so that they agree on what one says. */
static gp_status
agree(gp_device_rig *r)
{
    gp_status status;

    if (!r->proposes)
        return GP_OK;
    list_parts(r, 0, 0);
    status = queue_whole(r, 0, 0);
    if (status == GP_OK)
        status = r->device->ops->synchronize(r->device);
    if (status == GP_OK)
        memcpy(r->shared, r->proposals, r->chunks * sizeof(*r->shared));
    return status;
}

/* Messages of all workers, so that there is something to decode. Worker 0's is
 * the last, and of a first step: copies may be fewer than workers. */
static gp_status
encode_all(gp_device_rig *r)
{
    double unused;
    gp_status status = agree(r);

    for (uint32_t w = r->bench->workers; w > 0 && status == GP_OK; w--) {
        if (w == 1)
            status = forget(r, 0);
        if (status == GP_OK)
            status = run_job(r, GP_DEVICE_ENCODE, w - 1, (w - 1) % r->copies,
                             &unused);
    }
    return status;
}

/* ---- what came of it ---- */

static gp_status
take_decoded(gp_device_rig *r, gp_device_figures *out)
{
    double unused;
    gp_status status = run_job(r, GP_DEVICE_DECODE, 0, 0, &unused);

    if (status == GP_ERR_UNSUPPORTED)
        return GP_OK;
    out->decoded = malloc((size_t)r->bench->count * sizeof(float));
    if (status == GP_OK && !out->decoded)
        return gp_fail(GP_ERR_NO_MEMORY, "no memory for what was decoded");
    if (status == GP_OK)
        status =
            r->device->ops->copy_out(r->device, out->decoded, r->target,
                                     (size_t)r->bench->count * sizeof(float));
    for (size_t c = 0; c < r->chunks; c++)
        out->wrong += r->status[c] != 0;
    if (status == GP_OK && r->bench->check)
        status = gp_device_compare_decoded(r, out->decoded, &out->wrong);
    return status;
}

static gp_status
time_job(gp_device_rig *r, gp_device_job job, gp_device_figures *out)
{
    uint32_t n = r->bench->iterations, warmup = r->bench->warmup;
    double *samples = calloc(n, sizeof(double)), us;
    gp_status status = GP_OK;

    if (!samples)
        return gp_fail(GP_ERR_NO_MEMORY, "no memory for %u samples", n);
    for (uint32_t i = 0; i < warmup + n && status == GP_OK; i++) {
        status = run_job(r, job, i % r->bench->workers, i % r->copies, &us);
        if (i >= warmup)
            samples[i - warmup] = us;
    }
    if (status == GP_OK)
        out->samples[job] = samples;
    else
        free(samples);
    return status == GP_ERR_UNSUPPORTED ? GP_OK : status;
}

static gp_status
measure(gp_device_rig *r, gp_device_figures *out)
{
    gp_status status = fill_rig(r);

    if (status == GP_OK)
        status = encode_all(r);
    for (size_t c = 0; c < r->chunks && status == GP_OK; c++)
        out->payload += r->encoded[c];
    for (int f = 0; f < GP_DEVICE_FIELDS; f++)
        out->memory_bytes += r->numbers[f] * sizeof(float);
    out->remembers = r->numbers[GP_DEVICE_RESIDUAL] != 0;
    if (status == GP_OK && r->bench->check)
        status = gp_device_compare(r, &out->wrong);
    if (status == GP_OK)
        status = take_decoded(r, out);
    for (int job = GP_DEVICE_JOBS - 1; job >= 0 && status == GP_OK; job--)
        status = time_job(r, (gp_device_job)job, out);
    return status;
}

gp_status
gp_bench_device(const gp_device_bench *bench, gp_device_figures *out)
{
    gp_device_figures figures = {.payload = 0};
    gp_status status;
    gp_device_rig r;

    status = open_rig(bench, &r);
    if (status == GP_OK)
        status = measure(&r, &figures);
    close_rig(&r);
    if (status == GP_OK)
        *out = figures;
    else
        gp_device_figures_destroy(&figures);
    return status;
}

void
gp_device_figures_destroy(gp_device_figures *figures)
{
    for (int job = 0; job < GP_DEVICE_JOBS; job++)
        free(figures->samples[job]);
    free(figures->decoded);
}
