/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_codec_measure.c - the times of one pipeline, and the figures made of
 * them.
 *
 * All jobs of an iteration are timed in turn, memcpy of the same buffers among
 * them: what disturbs the machine for a while hits all of them.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gradpush/transport.h>

#include "bench_codec.h"

static bool
wanted(const gp_codec_rig *rig, gp_codec_job job)
{
    if (job == GP_JOB_AGGREGATE)
        return rig->sums != NULL;
    if (job == GP_JOB_SEPARATE || job == GP_JOB_CHUNKWISE)
        return rig->bench->feedback &&
               !(gp_pipeline_needs(rig->pipeline) &
                 (GP_PIPELINE_PREPARES | GP_PIPELINE_REMEMBERS));
    return true;
}

/* One job of one iteration. A fold takes all ranks' messages: rank 0's must not
 * be of another step, which the decoder would take for damage or misread. */
static gp_status
time_job(gp_codec_rig *rig, const gp_codec_source *source, gp_codec_job job,
         uint32_t iteration, double *seconds)
{
    rig->step = 0;
    if (job == GP_JOB_ENCODE && rig->memory)
        return gp_codec_rig_run(
            rig, job, gp_codec_source_at(source, iteration, 0), 0, seconds);
    return gp_codec_rig_run(rig, job, gp_codec_source_at(source, 0, 0), 0,
                            seconds);
}

static gp_status
time_all(gp_codec_rig *rig, const gp_codec_source *source, uint32_t iterations,
         double *samples)
{
    uint32_t warmup = rig->bench->common.warmup;
    gp_status status = GP_OK;

    for (uint32_t i = 0; i < warmup + iterations && status == GP_OK; i++)
        for (int job = 0; job < GP_JOBS && status == GP_OK; job++) {
            double seconds = 0;

            if (!wanted(rig, (gp_codec_job)job))
                continue;
            status = time_job(rig, source, (gp_codec_job)job, i, &seconds);
            if (i >= warmup)
                samples[(size_t)job * iterations + i - warmup] = seconds * 1e6;
        }
    return status;
}

static gp_status
measure_times(gp_codec_rig *rig, const gp_codec_source *source,
              gp_codec_result *result)
{
    uint32_t n = gp_bench_iterations(&rig->bench->common, result->bytes);
    double *samples = calloc((size_t)n * GP_JOBS, sizeof(double));
    gp_status status;

    if (!samples)
        return gp_fail(GP_ERR_NO_MEMORY, "no memory for %u samples", n);
    status = time_all(rig, source, n, samples);
    for (int job = 0; job < GP_JOBS && status == GP_OK; job++) {
        if (!wanted(rig, (gp_codec_job)job))
            continue;
        gp_bench_summarize(samples + (size_t)job * n, n, &result->times[job]);
        result->times[job].iterations = n;
    }
    result->iterations = n;
    free(samples);
    return status;
}

static gp_status
measure_rig(gp_codec_rig *rig, const gp_codec_source *source,
            gp_codec_result *result)
{
    gp_status status;

    snprintf(result->name, sizeof(result->name), "%s",
             gp_pipeline_name(rig->pipeline));
    result->bytes = rig->count * sizeof(float);
    result->count = rig->count;
    result->chunk = GP_MIN(rig->chunk, rig->count);
    result->chunks = rig->chunks;
    result->residual = (double)NAN;
    status = gp_codec_judge(rig, source, result);
    if (status == GP_OK && rig->bench->feedback)
        status = gp_codec_settle(rig, source, result);
    if (status == GP_OK)
        status = measure_times(rig, source, result);
    result->memory_bytes = gp_codec_memory_bytes(rig->memory);
    result->bits = result->payload_bits + 8.0 * GP_MSG_BYTES *
                                              (double)rig->chunks /
                                              (double)rig->count;
    return status;
}

gp_status
gp_codec_measure(const gp_codec_bench *bench, const char *text,
                 const gp_codec_source *source, gp_codec_result *result)
{
    gp_codec_rig rig;
    gp_status status = gp_codec_rig_create(bench, text, source, &rig);

    *result = (gp_codec_result){.codec = text};
    if (status == GP_OK)
        status = measure_rig(&rig, source, result);
    gp_codec_rig_destroy(&rig);
    return status;
}

/* --- figures --- */

double
gp_codec_rate(const gp_codec_result *result, gp_codec_job job, uint32_t workers)
{
    const gp_bench_result *t = &result->times[job];
    double tensors =
        job == GP_JOB_FOLD || job == GP_JOB_AGGREGATE ? (double)workers : 1;

    if (!t->iterations)
        return (double)NAN;
    if (job == GP_JOB_COPY)
        return gp_codec_moved(result, job, workers) / t->median_us / 1e3;
    return tensors * (double)result->bytes / t->median_us / 1e3;
}

double
gp_codec_moved(const gp_codec_result *result, gp_codec_job job,
               uint32_t workers)
{
    double dense = (double)result->bytes;
    double coded = result->payload_bits * (double)result->count / 8;

    switch (job) {
    case GP_JOB_COPY:
        return 2 * dense;
    case GP_JOB_ENCODE: /* the residual is read and written */
        return (isnan(result->residual) ? dense : 3 * dense) + coded;
    case GP_JOB_DECODE:
        return dense + coded;
    case GP_JOB_DECODE_ADD:
        return 2 * dense + coded;
    case GP_JOB_FOLD:
        return workers * coded + dense;
    case GP_JOB_AGGREGATE:
        return workers * coded + coded;
    default: /* what the fused one has to move: it shows what is wasted */
        return 3 * dense + coded;
    }
}

double
gp_codec_share(const gp_codec_result *result, gp_codec_job job,
               uint32_t workers)
{
    const gp_bench_result *copy = &result->times[GP_JOB_COPY];
    const gp_bench_result *t = &result->times[job];

    /* Adding few elements to a dense target leaves most of it alone. */
    if (!t->iterations || (job == GP_JOB_DECODE_ADD && result->density < 0.5))
        return (double)NAN;
    return gp_codec_moved(result, job, workers) / t->min_us /
           (gp_codec_moved(result, GP_JOB_COPY, workers) / copy->min_us);
}
