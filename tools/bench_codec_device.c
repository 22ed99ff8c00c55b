/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_codec_device.c - one pipeline and one input on a device, with the
 * figures that the host's have.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <gradpush/transport.h>

#include "bench_codec.h"
#include "bench_device.h"

/* Several times what caches of devices hold. */
#define FRESH_BYTES ((uint64_t)512 << 20)
/* What the engine makes of a tensor; large tensors in few parts. */
#define CHUNK_BYTES ((uint64_t)4 << 20)
#define WIDE_BYTES  ((uint64_t)64 << 20)

_Static_assert(GP_DEVICE_COPY == (int)GP_JOB_COPY &&
                   GP_DEVICE_ENCODE == (int)GP_JOB_ENCODE &&
                   GP_DEVICE_FOLD == (int)GP_JOB_FOLD,
               "jobs have the same order");

static void
note_times(const gp_device_figures *f, uint32_t n, gp_codec_result *result)
{
    for (int job = 0; job < GP_DEVICE_JOBS; job++) {
        if (!f->samples[job])
            continue;
        gp_bench_summarize(f->samples[job], n, &result->times[job]);
        result->times[job].iterations = n;
    }
    result->iterations = n;
}

static void
note_figures(const gp_device_bench *b, const gp_device_figures *f,
             const char *name, gp_codec_result *result)
{
    double n = (double)b->count;

    snprintf(result->name, sizeof(result->name), "%s", name);
    result->bytes = b->count * sizeof(float);
    result->count = b->count;
    result->chunk = GP_MIN(b->chunk, b->count);
    result->chunks = (b->count + b->chunk - 1) / b->chunk;
    result->payload_bits = 8 * (double)f->payload / n;
    result->bits =
        result->payload_bits + 8.0 * GP_MSG_BYTES * (double)result->chunks / n;
    result->residual = f->remembers ? 0 : (double)NAN;
    result->nmse = result->cosine = result->density = (double)NAN;
    result->nmse_least = result->nmse_most = result->mean_nmse = (double)NAN;
    result->average_nmse = result->average_cosine = (double)NAN;
    result->bound = gp_pipeline_error_bound(b->pipeline, (size_t)result->chunk);
    result->trials = 1;
    result->memory_bytes = f->memory_bytes;
    result->errors = f->wrong;
    if (f->wrong)
        result->wrong = "messages are not those of the host";
    note_times(f, b->iterations, result);
}

static void
note_error(const gp_device_bench *b, const float *decoded,
           gp_codec_result *result)
{
    gp_codec_distance d = gp_codec_compare(b->values, decoded, b->count);
    uint64_t nonzero = 0;

    for (uint64_t i = 0; i < b->count; i++)
        nonzero += decoded[i] != 0;
    result->nmse = result->nmse_least = result->nmse_most = gp_codec_nmse(&d);
    result->cosine = gp_codec_cosine(&d);
    result->density = (double)nonzero / (double)b->count;
}

static gp_device_bench
device_bench(const gp_codec_bench *bench, const gp_codec_source *source,
             const gp_pipeline *pipeline)
{
    uint64_t bytes = bench->chunk_bytes ? bench->chunk_bytes : CHUNK_BYTES;

    if (!bench->chunk_bytes && gp_pipeline_properties(pipeline) & GP_CODEC_WIDE)
        bytes = WIDE_BYTES;
    if (!bench->chunk_bytes &&
        gp_pipeline_needs(pipeline) & GP_PIPELINE_SELECTS)
        bytes = source->count * sizeof(float);
    return (gp_device_bench){
        .device = bench->device,
        .pipeline = pipeline,
        .values = gp_codec_source_at(source, 0, 0),
        .count = source->count,
        .chunk = GP_MAX(bytes / sizeof(float) / 4096, 1u) * 4096,
        .workers = bench->workers,
        .iterations =
            gp_bench_iterations(&bench->common, source->count * sizeof(float)),
        .warmup = bench->common.warmup,
        .seed = bench->seed,
        .fresh_bytes = FRESH_BYTES,
        .feedback = bench->feedback,
        .check = bench->common.check,
    };
}

gp_status
gp_codec_measure_device(const gp_codec_bench *bench, const char *text,
                        const gp_codec_source *source, gp_codec_result *result)
{
    gp_codec_shape shape = {source->count, source->columns};
    gp_pipeline *pipeline = NULL;
    gp_device_figures figures;
    gp_device_bench b;
    gp_status status = gp_pipeline_open(text, &shape, &pipeline);

    *result = (gp_codec_result){.codec = text};
    if (status != GP_OK)
        return status;
    b = device_bench(bench, source, pipeline);
    status = gp_bench_device(&b, &figures);
    if (status == GP_OK) {
        note_figures(&b, &figures, gp_pipeline_name(pipeline), result);
        if (figures.decoded)
            note_error(&b, figures.decoded, result);
        gp_device_figures_destroy(&figures);
    }
    gp_pipeline_destroy(pipeline);
    return status;
}
