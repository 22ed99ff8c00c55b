/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_sums.c - messages of several workers: sums without decoding, folds, and
 * linear codecs.
 */
#include <math.h>
#include <string.h>

#include "conformance/suite.h"

enum { COUNT = 777, WORKERS = 3 };

/* Of one worker, with what all agreed on. */
static bool
encode_worker(gp_suite *s, gp_suite_trial *t, const float *x, uint32_t rank,
              float shared)
{
    gp_codec_memory *memory = NULL;
    gp_status status;

    t->context.rank = rank;
    t->context.size = WORKERS;
    status = gp_suite_trial_run(s, t, NULL, x);
    t->context.shared = shared;
    if (status == GP_OK && gp_suite_needs(s, GP_PIPELINE_PROPOSES)) {
        if (gp_codec_memory_create(s->pipeline, 0, COUNT, 0, &memory))
            longjmp(s->out, 1);
        if (gp_suite_needs(s, GP_PIPELINE_PREPARES))
            status =
                gp_pipeline_prepare(s->pipeline, &t->context, memory, x, COUNT);
        if (status == GP_OK)
            status = gp_pipeline_encode(s->pipeline, &t->context, memory, x,
                                        COUNT, t->bytes, t->bound, &t->length,
                                        t->workspace);
        gp_codec_memory_destroy(memory);
    }
    if (status != GP_OK)
        gp_suite_fail(s, "rank %u cannot encode: %s", rank, gp_last_error());
    return status == GP_OK && gp_suite_trial_decode(s, t);
}

static gp_codec_input
input_of(const gp_suite_trial *t)
{
    return (gp_codec_input){&t->context, t->bytes, t->length};
}

static bool
add_up(gp_suite *s, const gp_codec_input *inputs, size_t count,
       gp_suite_trial *out)
{
    out->context = *inputs[0].context;
    if (gp_pipeline_aggregate(s->pipeline, inputs, count, COUNT, out->bytes,
                              out->bound, &out->length,
                              out->workspace) != GP_OK) {
        gp_suite_fail(s, "aggregate of %zu messages: %s", count,
                      gp_last_error());
        return false;
    }
    return gp_suite_trial_decode(s, out);
}

/* The sum of all, and a sum of a sum; that of decoded elements but for what
 * these were rounded by. */
static void
check_aggregate(gp_suite *s, const gp_suite_trial *w)
{
    gp_codec_input in[WORKERS] = {input_of(&w[0]), input_of(&w[1]),
                                  input_of(&w[2])};
    gp_suite_trial all = gp_suite_trial_make(s, COUNT),
                   two = gp_suite_trial_make(s, COUNT),
                   last = gp_suite_trial_make(s, COUNT);
    double most = 0; /* a rotation rounds by what it mixes */

    if (add_up(s, in, WORKERS, &all) && add_up(s, &in[1], 2, &two)) {
        gp_codec_input grouped[2] = {input_of(&two), in[0]};

        if (add_up(s, grouped, 2, &last) &&
            gp_suite_differ(all.decoded, last.decoded, COUNT) < COUNT)
            gp_suite_fail(s, "aggregate: the sum depends on the grouping");
        for (size_t i = 0; i < COUNT; i++)
            for (int k = 0; k < WORKERS; k++)
                most = fmax(most, fabs((double)w[k].decoded[i]));
        for (size_t i = 0; i < COUNT; i++) {
            double sum = 0, size = most;

            for (int k = 0; k < WORKERS; k++) {
                sum += w[k].decoded[i];
                size += fabs((double)w[k].decoded[i]);
            }
            if (!(fabs(sum - all.decoded[i]) <= 0x1p-20 * size)) {
                gp_suite_fail(s, "aggregate: element %zu is %g, not %g", i,
                              (double)all.decoded[i], sum);
                break;
            }
        }
    }
    gp_suite_trial_free(s, &all);
    gp_suite_trial_free(s, &two);
    gp_suite_trial_free(s, &last);
}

/* Three different messages in one pass: the bits of one after the other. */
static void
check_fold(gp_suite *s, gp_suite_trial *w)
{
    gp_codec_input in[WORKERS] = {input_of(&w[0]), input_of(&w[1]),
                                  input_of(&w[2])};
    float *expected = gp_suite_floats(s, COUNT);
    size_t at;

    for (size_t i = 0; i < COUNT; i++)
        expected[i] = (w[0].decoded[i] + w[1].decoded[i]) + w[2].decoded[i];
    if (gp_pipeline_fold(s->pipeline, in, WORKERS, 0, w[0].added, COUNT,
                         w[0].workspace) != GP_OK)
        gp_suite_fail(s, "fold of three workers: %s", gp_last_error());
    at = gp_suite_differ(expected, w[0].added, COUNT);
    if (at < COUNT)
        gp_suite_fail(s, "fold of three workers: element %zu is %g, not %g", at,
                      (double)w[0].added[at], (double)expected[at]);
    gp_suite_free(s, expected);
}

static void
check_workers(gp_suite *s)
{
    gp_suite_trial w[WORKERS];
    float *x = gp_suite_floats(s, WORKERS * COUNT), shared = 0;
    bool fine = true;

    for (uint32_t k = 0; k < WORKERS; k++) {
        w[k] = gp_suite_trial_make(s, COUNT);
        for (size_t i = 0; i < COUNT; i++)
            x[k * COUNT + i] = gp_suite_noise(i + 10000 * k) * (float)(k + 1);
        w[k].context.rank = k;
        w[k].context.size = WORKERS;
        fine =
            fine && gp_suite_trial_run(s, &w[k], NULL, x + k * COUNT) == GP_OK;
        shared = fmaxf(shared, w[k].context.shared);
    }
    for (uint32_t k = 0; k < WORKERS; k++)
        fine = fine && encode_worker(s, &w[k], x + k * COUNT, k, shared);
    if (fine) {
        check_fold(s, w);
        if (gp_suite_needs(s, GP_PIPELINE_AGGREGATES))
            check_aggregate(s, w);
    } else {
        gp_suite_fail(s, "three workers cannot encode: %s", gp_last_error());
    }
    for (uint32_t k = 0; k < WORKERS; k++)
        gp_suite_trial_free(s, &w[k]);
    gp_suite_free(s, x);
}

/* Integers, so that the sums themselves are exact. */
static void
check_linear(gp_suite *s)
{
    enum { SOME = 500 };
    gp_suite_trial a = gp_suite_trial_make(s, SOME),
                   b = gp_suite_trial_make(s, SOME),
                   sum = gp_suite_trial_make(s, SOME);
    float x[SOME], y[SOME], z[SOME];

    for (size_t i = 0; i < SOME; i++) {
        x[i] = (float)((int)(gp_suite_random(i) % 2001) - 1000);
        y[i] = (float)((int)(gp_suite_random(i + SOME) % 2001) - 1000);
        z[i] = x[i] + y[i];
    }
    if (gp_suite_trial_both(s, &a, NULL, x, 0) &&
        gp_suite_trial_both(s, &b, NULL, y, 0) &&
        gp_suite_trial_both(s, &sum, NULL, z, 0))
        for (size_t i = 0; i < SOME; i++)
            if (a.decoded[i] + b.decoded[i] != sum.decoded[i]) {
                gp_suite_fail(s, "linear, yet C(x) + C(y) != C(x + y) at %zu",
                              i);
                break;
            }
    gp_suite_trial_free(s, &a);
    gp_suite_trial_free(s, &b);
    gp_suite_trial_free(s, &sum);
}

void
gp_suite_check_sums(gp_suite *s)
{
    check_workers(s);
    if (gp_suite_claims(s, GP_CODEC_LINEAR) && !s->memory)
        check_linear(s);
}
