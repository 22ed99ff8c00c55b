/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_inputs.c - what holds for every input and count: size, error, ways of
 * adding, error feedback, and equal bits on all levels.
 */
#include <math.h>
#include <string.h>

#include "conformance/suite.h"

static const size_t counts[] = {0,   1,   2,   7,    31,   32,  33,
                                255, 256, 257, 4095, 4096, 4097};
enum { LARGE = (1 << 17) + 13, THOROUGH = (1 << 20) + 13 };

static void
check_size(gp_suite *s, const gp_suite_trial *t, const char *name)
{
    if (t->length > t->bound)
        gp_suite_fail(s,
                      "%s: %zu elements take %zu bytes, beyond the bound %zu",
                      name, t->count, t->length, t->bound);
    if (gp_suite_claims(s, GP_CODEC_FIXED_RATE) && t->length != t->bound)
        gp_suite_fail(s,
                      "%s: fixed rate, yet %zu elements take %zu bytes of %zu",
                      name, t->count, t->length, t->bound);
}

/* A memory may change what is encoded, even at the first step. */
static bool
sends_input(const gp_suite *s)
{
    return !s->memory || strcmp(s->memory->name, "momentum") != 0;
}

/* No input may exceed what codecs claim for all; the claim that comes with the
 * options is about ordinary ones. */
static void
check_error(gp_suite *s, const gp_suite_trial *t, const float *x,
            const gp_suite_input *in)
{
    double bound = gp_pipeline_error_bound(s->pipeline, t->count);
    double error = 0, norm = 0, claim = s->options.nmse;

    for (size_t i = 0; i < t->count; i++) {
        double d = (double)t->decoded[i] - x[i];

        if (!isfinite(t->decoded[i])) {
            gp_suite_fail(s, "%s: finite %g became %g", in->name, (double)x[i],
                          (double)t->decoded[i]);
            return;
        }
        error += d * d;
        norm += (double)x[i] * x[i];
    }
    if (gp_suite_claims(s, GP_CODEC_CONTRACTS) && error > norm)
        gp_suite_fail(s, "%s, %zu elements: contracts, yet nmse is %g",
                      in->name, t->count, error / norm);
    if (in->ordinary && claim >= 0 && error > norm * claim)
        gp_suite_fail(s, "%s, %zu elements: nmse %g exceeds the claimed %g",
                      in->name, t->count, error / norm, claim);
    if (in->ordinary && !s->random &&
        error > norm * (bound * (1 + 1e-5) + GP_SUITE_ROUNDING))
        gp_suite_fail(s, "%s, %zu elements: nmse %g exceeds the bound %g",
                      in->name, t->count, error / norm, bound);
    if (gp_suite_claims(s, GP_CODEC_LOSSLESS) &&
        gp_suite_differ(x, t->decoded, t->count) < t->count)
        gp_suite_fail(s, "%s, %zu elements: lossless, yet changed", in->name,
                      t->count);
}

/* decode_add and fold give the bits of decode, then add. */
static void
check_adding(gp_suite *s, gp_suite_trial *t, const char *name)
{
    const gp_codec_input one = {&t->context, t->bytes, t->length};
    const gp_codec_input three[3] = {one, one, one};
    float *expected = gp_suite_floats(s, t->count);
    gp_status status;
    size_t i;

    for (i = 0; i < t->count; i++) {
        t->added[i] = gp_suite_noise(i + 77);
        expected[i] = t->added[i] + t->decoded[i];
    }
    status =
        gp_pipeline_decode_add(s->pipeline, &t->context, t->bytes, t->length,
                               t->added, t->count, t->workspace);
    i = gp_suite_differ(t->added, expected, t->count);
    if (status || i < t->count)
        gp_suite_fail(s, "%s, %zu elements: decode_add differs at %zu (%s)",
                      name, t->count, i, gp_status_name(status));
    for (int add = 0; add < 2; add++) {
        for (i = 0; i < t->count; i++) {
            float x = t->added[i] = gp_suite_noise(i + 99);

            expected[i] = add ? x + t->decoded[i] : t->decoded[i];
            expected[i] = (expected[i] + t->decoded[i]) + t->decoded[i];
        }
        status = gp_pipeline_fold(s->pipeline, three, 3, add, t->added,
                                  t->count, t->workspace);
        i = gp_suite_differ(t->added, expected, t->count);
        if (status || i < t->count)
            gp_suite_fail(s, "%s, %zu elements: fold differs at %zu (%s)", name,
                          t->count, i, gp_status_name(status));
    }
    gp_suite_free(s, expected);
}

static bool
same_bytes(const gp_suite_trial *a, const gp_suite_trial *b)
{
    return a->length == b->length && memcmp(a->bytes, b->bytes, a->length) == 0;
}

/* The residual is what the encoder lost, the bytes are those of the sum. */
static void
check_residual(gp_suite *s, const float *x, size_t count, const char *name)
{
    gp_codec_memory *memory = gp_suite_memory(s, s->pipeline, count);
    float *residual = gp_suite_field(memory, "residual");
    gp_suite_trial t = gp_suite_trial_make(s, count),
                   whole = gp_suite_trial_make(s, count);
    float *u = gp_suite_floats(s, count);

    for (size_t i = 0; i < count && residual; i++) {
        residual[i] = gp_suite_noise(i + 991) * 0.1f * fabsf(x[i]);
        u[i] = x[i] + residual[i];
    }
    if (residual && gp_suite_trial_encode(s, &t, memory, x, 0) &&
        gp_suite_trial_both(s, &whole, NULL, u, 0)) {
        if (!same_bytes(&t, &whole))
            gp_suite_fail(s, "%s, %zu elements: feedback encodes another sum",
                          name, count);
        for (size_t i = 0; i < count; i++) {
            float e = u[i] - whole.decoded[i];

            if (!gp_suite_same(residual[i], isfinite(e) ? e : 0)) {
                gp_suite_fail(s, "%s, %zu elements: residual %zu is %g, not %g",
                              name, count, i, (double)residual[i], (double)e);
                break;
            }
        }
    }
    gp_codec_memory_destroy(memory);
    gp_suite_free(s, u);
    gp_suite_trial_free(s, &t);
    gp_suite_trial_free(s, &whole);
}

/* Every level gives the bytes and the numbers of the first. */
static void
check_levels(gp_suite *s, const gp_suite_trial *first, const float *x,
             const char *name)
{
    gp_suite_trial t = gp_suite_trial_make(s, first->count);
    float *before = gp_suite_floats(s, t.count);
    bool any = false;

    for (int level = 0; level < s->options.levels; level++) {
        gp_codec_memory *memory;
        float *residual;

        if (!s->options.use_level(s->options.level_user, level))
            continue;
        if (!gp_suite_trial_both(s, &t, NULL, x, 0))
            break;
        if (!same_bytes(&t, first))
            gp_suite_fail(s, "%s, %zu elements: level %d encodes other bytes",
                          name, t.count, level);
        if (memcmp(t.decoded, first->decoded, t.count * sizeof(float)))
            gp_suite_fail(s, "%s, %zu elements: level %d decodes other bits",
                          name, t.count, level);
        check_adding(s, &t, name);
        memory = gp_suite_memory(s, s->pipeline, t.count);
        residual = gp_suite_field(memory, "residual");
        if (residual && gp_suite_trial_encode(s, &t, memory, x, 0)) {
            if (any && memcmp(before, residual, t.count * sizeof(float)))
                gp_suite_fail(s,
                              "%s, %zu elements: level %d leaves another "
                              "residual",
                              name, t.count, level);
            memcpy(before, residual, t.count * sizeof(float));
            any = true;
        }
        gp_codec_memory_destroy(memory);
    }
    gp_suite_free(s, before);
    gp_suite_trial_free(s, &t);
}

/* Encodes and decodes in place as the two ends would. */
static void
check_fake(gp_suite *s, const gp_suite_trial *t, const float *x,
           const char *name)
{
    gp_suite_trial f = gp_suite_trial_make(s, t->count);
    gp_codec_memory *memory = NULL;
    size_t length = 0;

    if (t->count)
        memcpy(f.decoded, x, t->count * sizeof(float));
    f.context = t->context;
    if (gp_codec_memory_create(s->pipeline, 0, t->count, 0, &memory) ||
        (gp_suite_needs(s, GP_PIPELINE_PREPARES) &&
         gp_pipeline_prepare(s->pipeline, &f.context, memory, x, t->count)) ||
        (gp_suite_needs(s, GP_PIPELINE_PROPOSES) &&
         gp_pipeline_propose(s->pipeline, &f.context, memory, x, t->count,
                             &f.context.shared)) ||
        gp_pipeline_fake(s->pipeline, &f.context, memory, f.decoded, t->count,
                         f.bytes, f.bound, &length, f.workspace))
        gp_suite_fail(s, "%s, %zu elements: fake: %s", name, t->count,
                      gp_last_error());
    else if (length != t->length ||
             gp_suite_differ(f.decoded, t->decoded, t->count) < t->count)
        gp_suite_fail(s, "%s, %zu elements: fake gives other numbers", name,
                      t->count);
    gp_codec_memory_destroy(memory);
    gp_suite_trial_free(s, &f);
}

static void
check_input(gp_suite *s, const gp_suite_input *in, size_t count)
{
    gp_suite_trial t = gp_suite_trial_make(s, count);
    float *x = gp_suite_floats(s, count);

    gp_suite_fill(in, x, count);
    if (gp_suite_trial_encode(s, &t, NULL, x, 0)) {
        check_size(s, &t, in->name);
        if (gp_suite_trial_decode(s, &t)) {
            if (sends_input(s))
                check_error(s, &t, x, in);
            check_adding(s, &t, in->name);
            if (!s->memory)
                check_residual(s, x, count, in->name);
            if (s->options.levels > 0)
                check_levels(s, &t, x, in->name);
            if (count < 300)
                check_fake(s, &t, x, in->name);
        }
    }
    gp_suite_free(s, x);
    gp_suite_trial_free(s, &t);
}

void
gp_suite_check_inputs(gp_suite *s)
{
    for (size_t i = 0; i < GP_SUITE_INPUTS; i++)
        for (size_t j = 0; j < sizeof(counts) / sizeof(*counts); j++)
            check_input(s, &gp_suite_inputs[i], counts[j]);
    check_input(s, &gp_suite_inputs[0], LARGE);
    if (s->options.thorough)
        check_input(s, &gp_suite_inputs[1], THOROUGH);
}
