/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_device.c - times pipelines on a device, all chunks of a tensor in one
 * call.
 *
 * Elements lie in several copies that take turns, so that none is in a cache
 * when it is read. Ahead of each call a long fill keeps the device busy, until
 * the host has queued all of it: what is timed is the device's work alone.
 */
#include "bench_device.h"

#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "device/coder.h"
#include "device/timer_cuda.h"

#define FILL_BYTES ((size_t)128 << 20)

typedef struct rig {
    const gp_device_bench *bench;
    gp_device *device;
    gp_coder *coder;
    gp_cuda_timer *timer;
    void *stream;
    uint32_t copies;
    size_t slot, chunks;
    size_t fill;
    float *source, *target, *residual; /* of all copies */
    uint8_t *messages, *scratch;
    uint64_t *encoded; /* pinned, for all workers' chunks */
    uint32_t *status;
    gp_coder_part *parts;
    gp_coder_sum *sums;
    gp_codec_input *inputs;
    gp_codec_context *contexts;
} rig;

/* ---- memory ---- */

static gp_status
on_device(rig *r, size_t bytes, void *out)
{
    void *block = NULL;
    gp_status status = r->device->ops->alloc(r->device, bytes + 64, &block);

    memcpy(out, &block, sizeof(block));
    return status;
}

static gp_status
allocate(rig *r)
{
    const gp_device_bench *b = r->bench;
    size_t elements = r->copies * b->count * sizeof(float);
    size_t n = r->chunks * b->workers;
    void *pinned = NULL;
    gp_status status = on_device(r, elements, &r->source);

    if (status == GP_OK)
        status = on_device(r, elements, &r->target);
    if (status == GP_OK && b->feedback)
        status = on_device(r, elements, &r->residual);
    if (status == GP_OK)
        status = on_device(r, n * r->slot, &r->messages);
    if (status == GP_OK)
        status = on_device(r, r->fill, &r->scratch);
    if (status == GP_OK)
        status = r->device->ops->alloc_pinned(r->device, 16 * n, &pinned);
    r->encoded = pinned;
    r->status = pinned ? (uint32_t *)(r->encoded + n) : NULL;
    r->parts = calloc(r->chunks, sizeof(*r->parts));
    r->sums = calloc(r->chunks, sizeof(*r->sums));
    r->inputs = calloc(n, sizeof(*r->inputs));
    r->contexts = calloc(n, sizeof(*r->contexts));
    if (status == GP_OK && !(r->parts && r->sums && r->inputs && r->contexts))
        status = gp_fail(GP_ERR_NO_MEMORY, "no memory for %zu chunks", n);
    return status;
}

static void
close_rig(rig *r)
{
    gp_device *d = r->device;

    gp_coder_close(r->coder);
    gp_cuda_timer_destroy(r->timer);
    d->ops->stream_destroy(d, r->stream);
    d->ops->free(d, r->source);
    d->ops->free(d, r->target);
    d->ops->free(d, r->residual);
    d->ops->free(d, r->messages);
    d->ops->free(d, r->scratch);
    d->ops->free_pinned(d, r->encoded);
    free(r->parts);
    free(r->sums);
    free(r->inputs);
    free(r->contexts);
}

static gp_status
open_rig(const gp_device_bench *b, rig *r)
{
    uint64_t bytes = b->count * sizeof(float);
    gp_coder_room room;
    gp_status status;

    *r = (rig){.bench = b, .device = b->device};
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
    status = gp_coder_open(b->device, b->pipeline, &r->coder);
    if (status == GP_OK && gp_coder_whole_bytes(r->coder, b->count))
        status = gp_fail(GP_ERR_UNSUPPORTED,
                         "codec %s looks at tensors as a whole, which is not "
                         "measured on devices: use --device cpu",
                         gp_pipeline_name(b->pipeline));
    if (status == GP_OK)
        status = gp_coder_reserve(r->coder, &room);
    if (status == GP_OK)
        status = gp_cuda_timer_create(b->device, &r->timer);
    if (status == GP_OK)
        status = b->device->ops->stream_create(b->device, &r->stream);
    return status == GP_OK ? allocate(r) : status;
}

/* Every copy has the numbers; residuals are 0. */
static gp_status
fill_rig(rig *r)
{
    const gp_device_ops *ops = r->device->ops;
    size_t bytes = (size_t)r->bench->count * sizeof(float);
    gp_status status = GP_OK;

    memset(r->encoded, 0, 16 * r->chunks * r->bench->workers);
    for (uint32_t k = 0; k < r->copies && status == GP_OK; k++)
        status = ops->copy_in(r->device, r->source + k * r->bench->count,
                              r->bench->values, bytes);
    if (status == GP_OK)
        status = ops->fill(r->device, r->target, 0, r->copies * bytes);
    if (status == GP_OK && r->residual)
        status = ops->fill(r->device, r->residual, 0, r->copies * bytes);
    return status;
}

/* ---- jobs ---- */

static gp_codec_context
context_of(const rig *r, uint32_t worker, size_t chunk)
{
    return (gp_codec_context){.seed = r->bench->seed,
                              .offset = chunk * r->bench->chunk,
                              .rank = worker,
                              .size = r->bench->workers};
}

static size_t
count_of(const rig *r, size_t chunk)
{
    uint64_t at = chunk * r->bench->chunk;

    return (size_t)GP_MIN(r->bench->chunk, r->bench->count - at);
}

static uint8_t *
message_at(const rig *r, uint32_t worker, size_t chunk)
{
    return r->messages + (worker * r->chunks + chunk) * r->slot;
}

/* A worker's messages, and a copy of the elements. */
static void
list_parts(rig *r, uint32_t worker, uint32_t copy)
{
    size_t first = worker * r->chunks;

    for (size_t c = 0; c < r->chunks; c++) {
        size_t at = (size_t)(copy * r->bench->count + c * r->bench->chunk);

        r->parts[c] = (gp_coder_part){
            .context = context_of(r, worker, c),
            .count = count_of(r, c),
            .source = r->source + at,
            .residual = r->residual ? r->residual + at : NULL,
            .target = r->target + at,
            .bytes = message_at(r, worker, c),
            .length = (size_t)r->encoded[first + c],
            .encoded = &r->encoded[first + c],
            .status = &r->status[first + c],
        };
    }
}

static void
list_sums(rig *r, uint32_t copy)
{
    uint32_t workers = r->bench->workers;

    for (size_t c = 0; c < r->chunks; c++) {
        for (uint32_t w = 0; w < workers; w++) {
            size_t at = c * workers + w;

            r->contexts[at] = context_of(r, w, c);
            r->inputs[at] =
                (gp_codec_input){&r->contexts[at], message_at(r, w, c),
                                 (size_t)r->encoded[w * r->chunks + c]};
        }
        r->sums[c] = (gp_coder_sum){&r->inputs[c * workers], workers,
                                    r->target + copy * r->bench->count +
                                        c * r->bench->chunk,
                                    count_of(r, c), &r->status[c]};
    }
}

static gp_status
queue_job(rig *r, gp_device_job job, uint32_t worker, uint32_t copy)
{
    size_t at = (size_t)(copy * r->bench->count);

    list_parts(r, worker, copy);
    switch (job) {
    case GP_DEVICE_COPY:
        return r->device->ops->copy_async(
            r->device, r->target + at, r->source + at,
            (size_t)r->bench->count * sizeof(float), r->stream);
    case GP_DEVICE_ENCODE:
        return gp_coder_encode(r->coder, r->parts, r->chunks, r->stream);
    case GP_DEVICE_DECODE:
    case GP_DEVICE_DECODE_ADD:
        return gp_coder_decode(r->coder, r->parts, r->chunks,
                               job == GP_DEVICE_DECODE_ADD, r->stream);
    default:
        list_sums(r, copy);
        return gp_coder_fold(r->coder, r->sums, r->chunks, false, r->stream);
    }
}

static gp_status
run_job(rig *r, gp_device_job job, uint32_t worker, uint32_t copy,
        double *microseconds)
{
    const gp_device_ops *ops = r->device->ops;
    gp_status status =
        ops->fill_async(r->device, r->scratch, 0, r->fill, r->stream);

    if (status == GP_OK)
        status = gp_cuda_timer_start(r->timer, r->stream);
    if (status == GP_OK)
        status = queue_job(r, job, worker, copy);
    if (status == GP_OK)
        status = gp_cuda_timer_stop(r->timer, r->stream);
    if (status == GP_OK)
        status = ops->synchronize(r->device);
    return status == GP_OK ? gp_cuda_timer_read(r->timer, microseconds)
                           : status;
}

/* Messages of all workers, so that there is something to decode. */
static gp_status
encode_all(rig *r)
{
    double unused;
    gp_status status = GP_OK;

    for (uint32_t w = r->bench->workers; w > 0 && status == GP_OK; w--)
        status =
            run_job(r, GP_DEVICE_ENCODE, w - 1, (w - 1) % r->copies, &unused);
    return status;
}

/* ---- what came of it ---- */

/* One chunk as the host has it; worker 0's are the only ones looked at. */
static gp_status
compare_chunk(rig *r, size_t c, void *space, uint8_t *bytes, uint8_t *got,
              uint64_t *wrong)
{
    const gp_device_bench *b = r->bench;
    gp_codec_context context = context_of(r, 0, c);
    size_t length = 0, n = count_of(r, c), have = (size_t)r->encoded[c];
    gp_codec_memory *memory = NULL;
    gp_status status = GP_OK;

    if (b->feedback)
        status =
            gp_codec_memory_create(b->pipeline, context.offset, n, 1, &memory);
    if (status == GP_OK)
        status = gp_pipeline_encode(b->pipeline, &context, memory,
                                    b->values + c * b->chunk, n, bytes, r->slot,
                                    &length, space);
    gp_codec_memory_destroy(memory);
    if (status == GP_OK && have <= r->slot)
        status =
            r->device->ops->copy_out(r->device, got, message_at(r, 0, c), have);
    if (status != GP_OK)
        return status;
    *wrong += have != length;
    for (size_t i = 0; i < length && have == length; i++)
        *wrong += got[i] != bytes[i];
    return GP_OK;
}

static gp_status
compare_all(rig *r, uint64_t *wrong)
{
    size_t most = (size_t)GP_MIN(r->bench->chunk, r->bench->count);
    void *space =
        gp_alloc_aligned(gp_pipeline_workspace(r->bench->pipeline, most) + 1);
    uint8_t *bytes = malloc(r->slot + 1), *got = malloc(r->slot + 1);
    gp_status status = GP_OK;

    if (!space || !bytes || !got)
        status = gp_fail(GP_ERR_NO_MEMORY, "no memory to verify");
    for (size_t c = 0; c < r->chunks && status == GP_OK; c++)
        status = compare_chunk(r, c, space, bytes, got, wrong);
    free(space);
    free(bytes);
    free(got);
    return status;
}

/* Numbers that are not those of the host's decoder, which is given the bytes of
 * the device. */
static gp_status
compare_decoded(rig *r, const float *decoded, uint64_t *wrong)
{
    const gp_device_bench *b = r->bench;
    size_t most = (size_t)GP_MIN(b->chunk, b->count);
    void *space =
        gp_alloc_aligned(gp_pipeline_workspace(b->pipeline, most) + 1);
    uint8_t *bytes = malloc(r->slot + 1);
    uint32_t *want = malloc(most * sizeof(float) + 1), have;
    gp_status status = GP_OK;

    if (!space || !bytes || !want)
        status = gp_fail(GP_ERR_NO_MEMORY, "no memory to verify");
    for (size_t c = 0; c < r->chunks && status == GP_OK; c++) {
        gp_codec_context context = context_of(r, 0, c);
        size_t n = count_of(r, c), length = (size_t)r->encoded[c];

        status = r->device->ops->copy_out(r->device, bytes, message_at(r, 0, c),
                                          length);
        if (status == GP_OK)
            status = gp_pipeline_decode(b->pipeline, &context, bytes, length,
                                        (float *)want, n, space);
        for (size_t i = 0; i < n && status == GP_OK; i++) {
            memcpy(&have, decoded + c * b->chunk + i, sizeof(have));
            *wrong += have != want[i];
        }
    }
    free(space);
    free(bytes);
    free(want);
    return status;
}

static gp_status
take_decoded(rig *r, gp_device_figures *out)
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
        status = compare_decoded(r, out->decoded, &out->wrong);
    return status;
}

static gp_status
time_job(rig *r, gp_device_job job, gp_device_figures *out)
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
measure(rig *r, gp_device_figures *out)
{
    gp_status status = fill_rig(r);

    if (status == GP_OK)
        status = encode_all(r);
    for (size_t c = 0; c < r->chunks && status == GP_OK; c++)
        out->payload += r->encoded[c];
    if (status == GP_OK && r->bench->check)
        status = compare_all(r, &out->wrong);
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
    rig r;

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
