/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_feedback.c - what memories promise over many steps.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "conformance/suite.h"

enum { COUNT = 257, STEPS = 2000, SAVED = 700 };

typedef struct history {
    double sum[COUNT];  /* of what was given, less what was decoded */
    double most[COUNT]; /* largest |u| */
    double gradient, residual;
} history;

/* One direction that stays, and noise as large. */
static void
gradient_of(uint64_t step, float *x)
{
    for (uint64_t i = 0; i < COUNT; i++)
        x[i] = gp_suite_noise(i) + gp_suite_noise(step * COUNT + i + 4096);
}

static double
norm_of(const float *x)
{
    double sum = 0;

    for (size_t i = 0; i < COUNT; i++)
        sum += (double)x[i] * x[i];
    return sqrt(sum);
}

/* All fields, as a checkpoint does it. */
static gp_codec_memory *
save_and_load(gp_suite *s, gp_codec_memory *from)
{
    gp_codec_memory *to = gp_suite_memory(s, s->pipeline, COUNT);
    const char *name, *other;
    float *values, *copy;
    size_t size;

    for (size_t i = 0; (size = gp_codec_memory_field(from, i, &name, &values));
         i++) {
        if (gp_codec_memory_field(to, i, &other, &copy) != size ||
            strcmp(name, other) != 0) {
            gp_suite_fail(s, "field %zu of a memory is not always there", i);
            break;
        }
        memcpy(copy, values, size * sizeof(float));
    }
    return to;
}

static bool
one_step(gp_suite *s, gp_suite_trial *t, gp_codec_memory *memory, uint64_t step,
         history *h)
{
    const float *residual = gp_suite_field(memory, "residual");
    float x[COUNT];

    gradient_of(step, x);
    for (size_t i = 0; i < COUNT; i++) {
        h->sum[i] += x[i];
        h->most[i] = fmax(h->most[i], fabs((double)x[i] + residual[i]));
    }
    if (!gp_suite_trial_both(s, t, memory, x, step))
        return false;
    for (size_t i = 0; i < COUNT; i++)
        h->sum[i] -= t->decoded[i];
    h->gradient = fmax(h->gradient, norm_of(x));
    h->residual = fmax(h->residual, norm_of(residual));
    return true;
}

/* With contraction d the residual is never longer than 2 sqrt(1-d)/d times the
 * longest gradient. */
static void
judge(gp_suite *s, const history *h, const float *residual)
{
    double bound = gp_pipeline_error_bound(s->pipeline, COUNT), d = 1 - bound;

    for (size_t i = 0; i < COUNT; i++)
        if (!(fabs(h->sum[i] - residual[i]) <= STEPS * 0x1p-22 * h->most[i])) {
            gp_suite_fail(s,
                          "error feedback loses %g of element %zu in %d steps",
                          h->sum[i] - residual[i], i, STEPS);
            break;
        }
    if (gp_suite_claims(s, GP_CODEC_CONTRACTS) && bound < 1 && !s->random &&
        h->residual > 2 * sqrt(bound) / d * h->gradient * (1 + 1e-5))
        gp_suite_fail(s,
                      "the residual grows to %g times the gradient; with its "
                      "error bound %g it cannot exceed %g",
                      h->residual / h->gradient, bound, 2 * sqrt(bound) / d);
}

/* sum of decoded + last residual = sum of gradients. */
static void
check_telescoping(gp_suite *s)
{
    gp_codec_memory *memory = gp_suite_memory(s, s->pipeline, COUNT), *loaded;
    history *h = gp_suite_alloc(s, sizeof(*h));
    gp_suite_trial t = gp_suite_trial_make(s, COUNT),
                   again = gp_suite_trial_make(s, COUNT);
    bool fine = gp_suite_field(memory, "residual") != NULL;

    memset(h, 0, sizeof(*h));
    for (uint64_t step = 0; step < STEPS && fine; step++) {
        if (step == SAVED) {
            float x[COUNT];

            loaded = save_and_load(s, memory);
            gradient_of(step, x);
            fine = gp_suite_trial_encode(s, &again, loaded, x, step);
            gp_codec_memory_destroy(loaded);
            loaded = save_and_load(s, memory);
            gp_codec_memory_destroy(memory);
            memory = loaded;
        }
        fine = fine && one_step(s, &t, memory, step, h);
        if (fine && step == SAVED &&
            (t.length != again.length ||
             memcmp(t.bytes, again.bytes, t.length) != 0))
            gp_suite_fail(s, "a loaded memory encodes other bytes");
    }
    if (fine)
        judge(s, h, gp_suite_field(memory, "residual"));
    gp_codec_memory_destroy(memory);
    gp_suite_free(s, h);
    gp_suite_trial_free(s, &t);
    gp_suite_trial_free(s, &again);
}

/* EF21 on a gradient that stays: what the receiver holds comes nearer by the
 * error bound at every step, down to what fp32 rounds. */
static void
check_differences(gp_suite *s, gp_pipeline *p)
{
    gp_pipeline *own = s->pipeline;
    double bound = gp_pipeline_error_bound(own, COUNT), left = 1, error, norm;
    gp_codec_memory *memory;
    float x[COUNT], *held = gp_suite_floats(s, COUNT);
    gp_suite_trial t;

    s->pipeline = p;
    memory = gp_suite_memory(s, p, COUNT);
    t = gp_suite_trial_make(s, COUNT);
    gradient_of(0, x);
    norm = norm_of(x) * norm_of(x);
    for (uint64_t step = 0; step < 60; step++) {
        if (!gp_suite_trial_both(s, &t, memory, x, step))
            break;
        error = 0;
        for (size_t i = 0; i < COUNT; i++) {
            held[i] += t.decoded[i];
            error += pow((double)x[i] - held[i], 2);
        }
        left *= bound;
        if (error > norm * (left * (1 + 1e-3) + 1e-11)) {
            gp_suite_fail(s,
                          "ef21 leaves %g of a constant gradient after %d "
                          "steps, more than %g",
                          error / norm, (int)step + 1, left);
            break;
        }
    }
    gp_codec_memory_destroy(memory);
    gp_suite_trial_free(s, &t);
    gp_suite_free(s, held);
    s->pipeline = own;
}

static void
check_ef21(gp_suite *s)
{
    gp_codec_shape shape = {0, s->options.columns};
    char text[1024];
    gp_pipeline *p;

    if (s->fake || !gp_suite_claims(s, GP_CODEC_CONTRACTS) || s->random ||
        gp_suite_claims(s, GP_CODEC_LOSSLESS) ||
        gp_pipeline_error_bound(s->pipeline, COUNT) >= 1)
        return;
    snprintf(text, sizeof(text), "ef21+%s", gp_pipeline_name(s->pipeline));
    if (gp_pipeline_open(text, &shape, &p) != GP_OK)
        return; /* not a combination that can be */
    check_differences(s, p);
    gp_pipeline_destroy(p);
}

void
gp_suite_check_feedback(gp_suite *s)
{
    if (s->memory)
        return;
    check_telescoping(s);
    check_ef21(s);
}
