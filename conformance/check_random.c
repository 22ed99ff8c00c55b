/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_random.c - the mean over draws, its error, and draws of other ranks.
 */
#include <math.h>
#include <string.h>

#include "conformance/suite.h"

enum { COUNT = 512, STEPS = 1024, RANKS = 8 };

typedef struct moments {
    double mean[COUNT], square[COUNT]; /* of the error of each element */
    double first, second;              /* of the squared error of a draw */
    double energy;
    int draws;
} moments;

static bool
draw(gp_suite *s, gp_suite_trial *t, const float *x, moments *m)
{
    memset(m, 0, sizeof(*m));
    for (size_t i = 0; i < COUNT; i++)
        m->energy += (double)x[i] * x[i];
    m->draws = s->options.thorough ? 4 * STEPS : STEPS;
    for (int step = 0; step < m->draws; step++) {
        double error = 0;

        if (!gp_suite_trial_both(s, t, NULL, x, (uint64_t)step))
            return false;
        for (size_t i = 0; i < COUNT; i++) {
            double d = (double)t->decoded[i] - x[i];

            m->mean[i] += d / m->draws;
            m->square[i] += d * d / m->draws;
            error += d * d;
        }
        m->first += error / m->draws;
        m->second += error * error / m->draws;
    }
    return true;
}

/* Per element by six times its own deviation or the typical one, and together;
 * but for what fp32 rounds. */
static void
judge_mean(gp_suite *s, const float *x, const moments *m)
{
    double error = 0, variance = 0, spread = 0, own[COUNT];

    for (size_t i = 0; i < COUNT; i++) {
        own[i] = (m->square[i] - m->mean[i] * m->mean[i]) / m->draws;
        error += m->mean[i] * m->mean[i];
        variance += own[i];
        spread += 2 * own[i] * own[i];
    }
    for (size_t i = 0; i < COUNT; i++)
        if (m->mean[i] * m->mean[i] >
            36 * fmax(own[i], variance / COUNT) + 1e-12)
            gp_suite_fail(
                s, "unbiased, yet element %zu (%g) is off by %g in the mean", i,
                (double)x[i], m->mean[i]);
    if (error > variance + 5 * sqrt(spread) + 1e-12 * m->energy)
        gp_suite_fail(s, "unbiased, yet the mean's error is %g times chance",
                      error / variance);
}

static void
judge_error(gp_suite *s, const char *name, const moments *m)
{
    double bound = gp_pipeline_error_bound(s->pipeline, COUNT);
    double deviation =
        sqrt(fmax(0, m->second - m->first * m->first) / m->draws);

    if (m->first - 6 * deviation >
        m->energy * (bound * (1 + 1e-5) + GP_SUITE_ROUNDING))
        gp_suite_fail(s, "%s: mean nmse %g exceeds the bound %g", name,
                      m->first / m->energy, bound);
}

/* Ranks with the same elements: their mean errs less than each, because they
 * draw other numbers. Selections may share theirs. */
static void
check_ranks(gp_suite *s, gp_suite_trial *t, const float *x)
{
    double mean[COUNT] = {0}, one = 0, all = 0, energy = 0;
    gp_suite_trial first = gp_suite_trial_make(s, COUNT);
    bool same = true;

    t->context.size = first.context.size = RANKS;
    for (uint32_t rank = 0; rank < RANKS; rank++) {
        t->context.rank = first.context.rank = rank;
        if (!gp_suite_trial_both(s, t, NULL, x, 5) ||
            !gp_suite_trial_encode(s, &first, NULL, x, 5))
            goto done;
        if (t->length != first.length ||
            memcmp(t->bytes, first.bytes, t->length) != 0)
            gp_suite_fail(s, "rank %u draws other numbers the second time",
                          rank);
        for (size_t i = 0; i < COUNT; i++) {
            double d = (double)t->decoded[i] - x[i];

            mean[i] += d / RANKS;
            one += d * d / RANKS;
        }
    }
    for (size_t i = 0; i < COUNT; i++) {
        all += mean[i] * mean[i];
        energy += (double)x[i] * x[i];
    }
    same = all > 0.5 * one;
    if (same && one > GP_SUITE_ROUNDING * energy && !s->select)
        gp_suite_fail(s,
                      "unbiased, yet the mean of %d ranks errs %.2f times as "
                      "much as one",
                      RANKS, all / one);
done:
    gp_suite_trial_free(s, &first);
}

void
gp_suite_check_random(gp_suite *s)
{
    bool unbiased = gp_suite_claims(s, GP_CODEC_UNBIASED);
    moments *m;
    float x[COUNT];
    gp_suite_trial t;

    if ((!unbiased && !s->random) || gp_suite_claims(s, GP_CODEC_LOSSLESS) ||
        (s->memory && strcmp(s->memory->name, "ef") != 0))
        return;
    m = gp_suite_alloc(s, sizeof(*m));
    t = gp_suite_trial_make(s, COUNT);
    gp_suite_fill(&gp_suite_inputs[0], x, COUNT);
    if (draw(s, &t, x, m)) {
        if (unbiased)
            judge_mean(s, x, m);
        judge_error(s, "gauss", m);
    }
    if (unbiased)
        check_ranks(s, &t, x);
    t.context.rank = 0;
    gp_suite_fill(&gp_suite_inputs[3], x, COUNT);
    if (draw(s, &t, x, m))
        judge_error(s, "spike", m);
    gp_suite_trial_free(s, &t);
    gp_suite_free(s, m);
}
