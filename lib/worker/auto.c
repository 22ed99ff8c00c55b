/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auto.c - the watch over link and steps, and the measuring of codecs.
 */
#include "worker/auto.h"

#include <stdlib.h>

#include "base/base.h"
#include "compress/philox.h"

#define DENSE_PERIODS  4     /* that show the link's rate; the first warms up */
#define WATCH_PERIODS  8     /* until a choice is judged */
#define REPEAT_PERIODS 4096  /* until the link is looked at again */
#define PERIOD_BYTES   16384 /* less says nothing about a link */
#define MEASURE_COUNT  131072
#define MEASURE_PASSES 3

void
gp_auto_begin(gp_auto *a, const gp_auto_sample *s)
{
    if (a->phase != GP_AUTO_OFF)
        a->busy = (gp_busy){s->now_ns, s->pushed, s->plain};
}

/* All dense is what it was before: slower then is noise. */
static bool
judge(gp_auto *a)
{
    if (a->coded && a->periods == WATCH_PERIODS &&
        a->chosen_speed < a->dense_speed) {
        a->gave_up = true;
        a->rate = 0;
        return true;
    }
    if (a->periods < REPEAT_PERIODS)
        return false;
    *a = (gp_auto){.phase = GP_AUTO_DENSE};
    return true;
}

bool
gp_auto_end(gp_auto *a, const gp_auto_sample *s)
{
    gp_busy b = a->busy;
    double seconds = (double)(s->now_ns - b.since_ns) * 1e-9, rate, speed;

    if (a->phase == GP_AUTO_OFF || b.since_ns == 0)
        return false;
    a->busy.since_ns = 0;
    if (s->plain - b.plain < PERIOD_BYTES || seconds <= 0)
        return false;
    rate = (double)(s->pushed - b.pushed) / seconds;
    speed = (double)(s->plain - b.plain) / seconds;
    a->periods++;
    if (a->phase == GP_AUTO_CHOSEN) {
        a->chosen_speed = GP_MAX(a->chosen_speed, speed);
        return judge(a);
    }
    if (a->periods > 1) {
        a->rate = GP_MAX(a->rate, rate);
        a->dense_speed = GP_MAX(a->dense_speed, speed);
    }
    if (a->periods < DENSE_PERIODS)
        return false;
    a->phase = GP_AUTO_CHOSEN;
    a->periods = 0;
    a->chosen_speed = 0;
    return true;
}

typedef struct trial {
    size_t count, bound, length;
    float *source, *target;
    void *bytes, *workspace;
    gp_codec_memory *memory;
} trial;

static void
fill(float *x, size_t count)
{
    gp_codec_context context = {.seed = 1};
    gp_stream stream = gp_stream_of(&context, GP_USE_START);

    gp_philox_words(&stream, 0, (uint32_t *)x, count);
    for (size_t i = 0; i < count; i++) {
        uint32_t word = ((uint32_t *)x)[i];

        /* The sum of four bytes is bell-shaped. */
        x[i] = (float)((word & 255) + (word >> 8 & 255) + (word >> 16 & 255) +
                       (word >> 24)) -
               510;
    }
}

static gp_status
open_trial(trial *t, const gp_pipeline *p, size_t count)
{
    *t = (trial){.count = count, .bound = gp_pipeline_bound(p, count)};
    t->source = gp_alloc_aligned(count * sizeof(float));
    t->target = gp_alloc_aligned(count * sizeof(float));
    t->bytes = gp_alloc_aligned(t->bound + 64);
    t->workspace = gp_alloc_aligned(gp_pipeline_workspace(p, count) + 64);
    if (!t->source || !t->target || !t->bytes || !t->workspace)
        return gp_fail(GP_ERR_NO_MEMORY, "no memory to measure codec %s",
                       gp_pipeline_name(p));
    fill(t->source, count);
    for (size_t i = 0; i < count; i++)
        t->target[i] = 0;
    return gp_codec_memory_create(
        p, 0, count, (gp_pipeline_needs(p) & GP_PIPELINE_FEEDBACK) != 0,
        &t->memory);
}

static void
close_trial(trial *t)
{
    free(t->source);
    free(t->target);
    free(t->bytes);
    free(t->workspace);
    gp_codec_memory_destroy(t->memory);
}

static gp_status
encode_trial(trial *t, const gp_pipeline *p, gp_codec_context *context)
{
    uint32_t needs = gp_pipeline_needs(p);
    gp_status status = GP_OK;

    if (needs & GP_PIPELINE_PREPARES)
        status =
            gp_pipeline_prepare(p, context, t->memory, t->source, t->count);
    if (status == GP_OK && needs & GP_PIPELINE_PROPOSES)
        status = gp_pipeline_propose(p, context, t->memory, t->source, t->count,
                                     &context->shared);
    if (status == GP_OK)
        status =
            gp_pipeline_encode(p, context, t->memory, t->source, t->count,
                               t->bytes, t->bound, &t->length, t->workspace);
    return status;
}

uint64_t
gp_auto_sized(uint64_t count)
{
    return GP_MIN(count, (uint64_t)MEASURE_COUNT);
}

gp_status
gp_auto_measure(const gp_pipeline *pipeline, uint64_t count, gp_cost *out)
{
    size_t n = (size_t)gp_auto_sized(count);
    uint64_t encode = UINT64_MAX, decode = UINT64_MAX;
    trial t;
    gp_status status = open_trial(&t, pipeline, n);

    for (uint64_t pass = 0; pass < MEASURE_PASSES && status == GP_OK; pass++) {
        gp_codec_context context = {.seed = 1, .step = pass, .size = 1};
        uint64_t begin = gp_clock_ns(), middle, end;

        status = encode_trial(&t, pipeline, &context);
        middle = gp_clock_ns();
        if (status == GP_OK)
            status = gp_pipeline_decode_add(pipeline, &context, t.bytes,
                                            t.length, t.target, n, t.workspace);
        end = gp_clock_ns();
        encode = GP_MIN(encode, middle - begin);
        decode = GP_MIN(decode, end - middle);
    }
    if (status == GP_OK)
        *out = (gp_cost){.encode = (double)encode * 1e-9 / (double)n,
                         .decode = (double)decode * 1e-9 / (double)n,
                         .bytes = (double)t.length / (double)n};
    close_trial(&t);
    return status;
}
