/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_nonfinite.c - NaN and Inf come out as declared, elsewhere nothing
 * changes, and no residual keeps them.
 */
#include <math.h>
#include <string.h>

#include "conformance/suite.h"

/* A transform mixes elements: what it declares holds for the chain. */
static bool
exact(const gp_suite *s)
{
    return (!s->transform ||
            s->transform->nonfinite != GP_NONFINITE_PROPAGATE) &&
           s->array->nonfinite == GP_NONFINITE_EXACT;
}

typedef struct spoiled {
    gp_suite_trial t;
    gp_codec_memory *memory;
    const float *residual; /* or NULL */
    float *x;
} spoiled;

static spoiled
spoil(gp_suite *s, size_t count)
{
    spoiled b = {gp_suite_trial_make(s, count),
                 gp_suite_memory(s, s->pipeline, count), NULL,
                 gp_suite_floats(s, count)};

    b.residual = gp_suite_field(b.memory, "residual");
    gp_suite_fill(&gp_suite_inputs[0], b.x, count);
    return b;
}

static void
restore(gp_suite *s, spoiled *b)
{
    gp_codec_memory_destroy(b->memory);
    gp_suite_free(s, b->x);
    gp_suite_trial_free(s, &b->t);
}

static void
check_left(gp_suite *s, const spoiled *b, const char *what)
{
    for (size_t i = 0; b->residual && i < b->t.count; i++)
        if (!isfinite(b->residual[i])) {
            gp_suite_fail(s, "%s of %zu elements leaves residual %g at %zu",
                          what, b->t.count, (double)b->residual[i], i);
            return;
        }
}

/* Elements that are not NaN come out as they would with a 0 in its place. */
static void
check_one(gp_suite *s, float bad, size_t at, size_t count)
{
    spoiled b = spoil(s, count);
    gp_suite_trial clean = gp_suite_trial_make(s, count);
    const char *what = isnan(bad) ? "NaN" : "Inf";

    b.x[at] = 0;
    if (!gp_suite_trial_both(s, &clean, NULL, b.x, 0))
        goto done;
    b.x[at] = bad;
    if (!gp_suite_trial_both(s, &b.t, b.memory, b.x, 0))
        goto done;
    if (!gp_suite_same(b.t.decoded[at], exact(s) ? bad : NAN))
        gp_suite_fail(s, "%s of %zu elements came out as %g", what, count,
                      (double)b.t.decoded[at]);
    for (size_t i = 0; i < count; i++) {
        bool spread = isnan(b.t.decoded[i]) && !exact(s);

        if (i != at && !spread &&
            !gp_suite_same(b.t.decoded[i], clean.decoded[i])) {
            gp_suite_fail(s, "%s at %zu of %zu elements changed element %zu",
                          what, at, count, i);
            break;
        }
        if (b.residual && (i == at || spread) && b.residual[i] != 0) {
            gp_suite_fail(s, "%s at %zu leaves residual %g at %zu", what, at,
                          (double)b.residual[i], i);
            break;
        }
    }
    check_left(s, &b, what);
done:
    restore(s, &b);
    gp_suite_trial_free(s, &clean);
}

/* A selection sends what is not finite, or, when it does not look at values,
 * something in its place. */
static void
check_selected(gp_suite *s, float bad, size_t at, size_t count)
{
    spoiled b = spoil(s, count);
    const char *what = isnan(bad) ? "NaN" : "Inf";
    size_t finite = 0;

    b.x[at] = bad;
    if (gp_suite_trial_both(s, &b.t, b.memory, b.x, 0)) {
        for (size_t i = 0; i < count; i++)
            finite += isfinite(b.t.decoded[i]) != 0;
        check_left(s, &b, what);
        if (finite == count || (isfinite(b.t.decoded[at]) && !s->select->imply))
            gp_suite_fail(s, "%s at %zu of %zu elements is not seen", what, at,
                          count);
    }
    restore(s, &b);
}

/* With a memory that changes what is sent: seen somewhere, and forgotten. */
static void
check_remembered(gp_suite *s, float bad, size_t at, size_t count)
{
    spoiled b = spoil(s, count);

    b.x[at] = bad;
    if (gp_suite_trial_both(s, &b.t, b.memory, b.x, 0))
        check_left(s, &b, isnan(bad) ? "NaN" : "Inf");
    restore(s, &b);
}

/* Finite source and residual whose sum overflows. */
static void
check_overflow(gp_suite *s, size_t count)
{
    spoiled b = spoil(s, count);
    float *residual = gp_suite_field(b.memory, "residual");

    for (size_t i = 0; i < count && residual; i++) {
        b.x[i] = i == 5 ? 3e38f : 1;
        residual[i] = i == 5 ? 3e38f : 0.25f;
    }
    if (residual && gp_suite_trial_both(s, &b.t, b.memory, b.x, 0)) {
        if (isfinite(b.t.decoded[5]) && !s->select && !s->memory)
            gp_suite_fail(s, "a sum that overflows came out as %g",
                          (double)b.t.decoded[5]);
        check_left(s, &b, "a sum that overflows");
    }
    restore(s, &b);
}

void
gp_suite_check_nonfinite(gp_suite *s)
{
    static const size_t sizes[] = {1, 7, 33, 257, 600};
    void (*check)(gp_suite *, float, size_t, size_t) =
        s->memory   ? check_remembered
        : s->select ? check_selected
                    : check_one;

    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
        for (size_t at = 0; at < sizes[i]; at += sizes[i] / 3 + 1) {
            check(s, NAN, at, sizes[i]);
            check(s, INFINITY, at, sizes[i]);
            check(s, -INFINITY, at, sizes[i]);
        }
    check_overflow(s, 40);
    check_overflow(s, 600);
}
