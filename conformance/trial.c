/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trial.c - memory, reports, and one encode and decode.
 */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conformance/suite.h"

#define CANARY 32
#define FILL   0xc5
#define SHOWN  5 /* failures told per pipeline */

void
gp_suite_fail(gp_suite *s, const char *format, ...)
{
    char line[512];
    va_list args;
    int used;

    s->failures++;
    if (s->failures > SHOWN || !s->report)
        return;
    used = snprintf(line, sizeof(line), "%.200s: ", s->text);
    va_start(args, format);
    vsnprintf(line + used, sizeof(line) - (size_t)used, format, args);
    va_end(args);
    s->report(s->user, line);
}

/* ---- memory: a doubly linked list, in front of each block -------------- */

typedef struct block {
    struct block *next, *before;
    char pad[48]; /* what follows is 64-byte aligned */
} block;

void *
gp_suite_alloc(gp_suite *s, size_t size)
{
    block *b = NULL;

    if (size < SIZE_MAX - sizeof(*b) - 64 &&
        posix_memalign((void **)&b, 64, sizeof(*b) + size) != 0)
        b = NULL;
    if (!b)
        longjmp(s->out, 1);
    b->before = NULL;
    b->next = s->blocks;
    if (b->next)
        b->next->before = b;
    s->blocks = b;
    return b + 1;
}

void
gp_suite_free(gp_suite *s, void *memory)
{
    block *b = memory;

    if (!memory)
        return;
    b--;
    if (b->before)
        b->before->next = b->next;
    else
        s->blocks = b->next;
    if (b->next)
        b->next->before = b->before;
    free(b);
}

float *
gp_suite_floats(gp_suite *s, size_t count)
{
    float *x = gp_suite_alloc(s, count * sizeof(float));

    if (count)
        memset(x, 0, count * sizeof(float));
    return x;
}

gp_suite_trial
gp_suite_trial_make(gp_suite *s, size_t count)
{
    gp_suite_trial t = {.count = count,
                        .bound = gp_pipeline_bound(s->pipeline, count),
                        .room = gp_pipeline_workspace(s->pipeline, count),
                        .context = {.seed = 42, .tensor = 3, .size = 3}};

    t.bytes = (uint8_t *)gp_suite_alloc(s, 1 + t.bound + CANARY) + 1;
    memset(t.bytes, FILL, t.bound + CANARY);
    t.decoded = gp_suite_floats(s, count);
    t.added = gp_suite_floats(s, count);
    t.workspace = gp_suite_alloc(s, t.room + CANARY);
    memset(t.workspace, FILL, t.room + CANARY);
    return t;
}

void
gp_suite_trial_free(gp_suite *s, gp_suite_trial *t)
{
    gp_suite_free(s, t->bytes - 1);
    gp_suite_free(s, t->decoded);
    gp_suite_free(s, t->added);
    gp_suite_free(s, t->workspace);
}

static bool
intact(gp_suite *s, const gp_suite_trial *t, const char *call)
{
    const uint8_t *workspace = t->workspace;

    for (size_t i = 0; i < CANARY; i++)
        if (t->bytes[t->bound + i] != FILL || workspace[t->room + i] != FILL) {
            gp_suite_fail(s, "%s of %zu elements wrote beyond its bound", call,
                          t->count);
            return false;
        }
    return true;
}

/* ---- encode and decode ------------------------------------------------- */

gp_status
gp_suite_trial_run(gp_suite *s, gp_suite_trial *t, gp_codec_memory *memory,
                   const float *x)
{
    const gp_pipeline *p = s->pipeline;
    gp_codec_memory *fresh = NULL, *use = memory;
    gp_status status = GP_OK;

    if (!memory) {
        status = gp_codec_memory_create(p, 0, t->count, 0, &fresh);
        use = fresh;
    }
    t->context.shared = 0;
    if (status == GP_OK && gp_suite_needs(s, GP_PIPELINE_PREPARES))
        status = gp_pipeline_prepare(p, &t->context, use, x, t->count);
    if (status == GP_OK && gp_suite_needs(s, GP_PIPELINE_PROPOSES))
        status = gp_pipeline_propose(p, &t->context, use, x, t->count,
                                     &t->context.shared);
    if (status == GP_OK)
        status = gp_pipeline_encode(p, &t->context, use, x, t->count, t->bytes,
                                    t->bound, &t->length, t->workspace);
    gp_codec_memory_destroy(fresh);
    return status;
}

bool
gp_suite_trial_encode(gp_suite *s, gp_suite_trial *t, gp_codec_memory *memory,
                      const float *x, uint64_t step)
{
    t->context.step = step;
    if (gp_suite_trial_run(s, t, memory, x)) {
        gp_suite_fail(s, "encode of %zu elements: %s", t->count,
                      gp_last_error());
        return false;
    }
    return intact(s, t, "encode");
}

bool
gp_suite_trial_decode(gp_suite *s, gp_suite_trial *t)
{
    gp_status status =
        gp_pipeline_decode(s->pipeline, &t->context, t->bytes, t->length,
                           t->decoded, t->count, t->workspace);

    if (status)
        gp_suite_fail(s, "decode of its own %zu elements: %s", t->count,
                      gp_last_error());
    return status == GP_OK && intact(s, t, "decode");
}

bool
gp_suite_trial_both(gp_suite *s, gp_suite_trial *t, gp_codec_memory *memory,
                    const float *x, uint64_t step)
{
    return gp_suite_trial_encode(s, t, memory, x, step) &&
           gp_suite_trial_decode(s, t);
}

gp_codec_memory *
gp_suite_memory(gp_suite *s, const gp_pipeline *p, size_t n)
{
    gp_codec_memory *memory = NULL;

    if (gp_codec_memory_create(p, 0, n, 1, &memory) != GP_OK)
        longjmp(s->out, 1);
    return memory;
}

float *
gp_suite_field(gp_codec_memory *memory, const char *name)
{
    const char *found;
    float *values;

    for (size_t i = 0; gp_codec_memory_field(memory, i, &found, &values); i++)
        if (strcmp(found, name) == 0)
            return values;
    return NULL;
}

bool
gp_suite_same(float a, float b)
{
    return memcmp(&a, &b, sizeof(a)) == 0 || (isnan(a) && isnan(b));
}

size_t
gp_suite_differ(const float *a, const float *b, size_t count)
{
    size_t i = 0;

    while (i < count && gp_suite_same(a[i], b[i]))
        i++;
    return i;
}

bool
gp_suite_claims(const gp_suite *s, uint32_t property)
{
    return (gp_pipeline_properties(s->pipeline) & property) != 0;
}

bool
gp_suite_needs(const gp_suite *s, uint32_t need)
{
    return (gp_pipeline_needs(s->pipeline) & need) != 0;
}
