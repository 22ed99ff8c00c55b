/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec_suite.c - requirements on pipelines, over inputs and counts that have
 * broken codecs before.
 *
 * Buffers are allocated at their exact size, so that an address sanitizer sees
 * every byte too many; without one, canaries behind them do. Encoded bytes lie
 * at odd addresses.
 */
#include "tests/conformance/codec_suite.h"

#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "compress/codec_internal.h"
#include "compress/pipeline.h"
#include "tests/conformance/codec_inputs.h"
#include "tests/conformance/codec_residual.h"

#define CANARY 32
#define SHOWN  5 /* failures told per pipeline */

static const size_t counts[] = {0,   1,   2,   7,    31,   32,  33,
                                255, 256, 257, 4095, 4096, 4097};
#define LARGE ((1u << 17) + 13)

typedef struct suite {
    const char *text;
    gp_pipeline *pipeline;
    double nmse;
    int failures;
} suite;

static void fail(suite *s, const char *format, ...) GP_PRINTF(2, 3);

static void
fail(suite *s, const char *format, ...)
{
    va_list args;

    s->failures++;
    if (s->failures > SHOWN)
        return;
    fprintf(stderr, "codec suite: %s: ", s->text);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

/* ---- one encode and decode ------------------------------------------- */

typedef struct trial {
    size_t count, bound, length, room; /* room: bytes of workspace */
    uint64_t step;                     /* of the last encode */
    uint8_t *block, *bytes; /* bytes = block + 1, `bound` of them, canaries */
    float *decoded, *added, *residual;
    void *workspace;
} trial;

static void *
need(void *memory)
{
    if (!memory) {
        fprintf(stderr, "codec suite: out of memory\n");
        abort();
    }
    return memory;
}

static float *
floats(size_t count)
{
    return need(calloc(count + 1, sizeof(float)));
}

static trial
trial_make(const suite *s, size_t count)
{
    trial t = {.count = count, .bound = gp_pipeline_bound(s->pipeline, count)};

    t.room = gp_pipeline_workspace(s->pipeline, count);
    t.block = need(malloc(1 + t.bound + CANARY));
    t.bytes = t.block + 1;
    memset(t.block, 0xc5, 1 + t.bound + CANARY);
    t.decoded = floats(count);
    t.added = floats(count);
    t.residual = floats(count);
    t.workspace = need(gp_alloc_aligned(t.room + 64));
    memset(t.workspace, 0xc5, t.room + CANARY);
    return t;
}

static void
trial_free(trial *t)
{
    free(t->block);
    free(t->decoded);
    free(t->added);
    free(t->residual);
    free(t->workspace);
}

static gp_codec_context
context_of(uint64_t step)
{
    return (gp_codec_context){.seed = 42, .tensor = 3, .step = step};
}

static bool
intact(suite *s, const trial *t, const char *call)
{
    for (size_t i = 0; i < CANARY; i++)
        if (t->bytes[t->bound + i] != 0xc5 ||
            ((const uint8_t *)t->workspace)[t->room + i] != 0xc5) {
            fail(s, "%s of %zu elements wrote beyond its bound", call,
                 t->count);
            return false;
        }
    return true;
}

static bool
encode_trial(suite *s, trial *t, const float *x, float *residual, uint64_t step)
{
    gp_codec_context context = context_of(step);
    gp_status status =
        gp_encode_residual(s->pipeline, &context, x, residual, t->count,
                           t->bytes, t->bound, &t->length, t->workspace);

    t->step = step;
    if (status) {
        fail(s, "encode of %zu elements: %s", t->count, gp_last_error());
        return false;
    }
    return intact(s, t, "encode");
}

static bool
decode_trial(suite *s, trial *t)
{
    gp_codec_context context = context_of(t->step);
    gp_status status =
        gp_pipeline_decode(s->pipeline, &context, t->bytes, t->length,
                           t->decoded, t->count, t->workspace);

    if (status)
        fail(s, "decode of its own %zu elements: %s", t->count,
             gp_last_error());
    return status == GP_OK && intact(s, t, "decode");
}

static bool
same(float a, float b)
{
    return memcmp(&a, &b, sizeof(a)) == 0 || (isnan(a) && isnan(b));
}

/* In [-1, 1); cheaper than the inputs. */
static float
noise(uint64_t i)
{
    return (float)(int32_t)(gp_codec_random(i) >> 32) * 0x1p-31f;
}

/* Index of the first element that differs (NaN equals NaN), or count. */
static size_t
first_difference(const float *a, const float *b, size_t count)
{
    size_t i = 0;

    while (i < count && same(a[i], b[i]))
        i++;
    return i;
}

/* ---- the requirements ------------------------------------------------ */

static bool
claims(const suite *s, uint32_t property)
{
    return gp_pipeline_properties(s->pipeline) & property;
}

static bool
selects(const suite *s)
{
    return gp_pipeline_needs(s->pipeline) & GP_PIPELINE_SELECTS;
}

static void
check_size(suite *s, const trial *t, const char *name)
{
    if (t->length > t->bound)
        fail(s, "%s: %zu elements take %zu bytes, more than the bound %zu",
             name, t->count, t->length, t->bound);
    if (claims(s, GP_CODEC_FIXED_RATE) && t->length != t->bound)
        fail(s, "%s: fixed rate, yet %zu elements take %zu bytes of %zu", name,
             t->count, t->length, t->bound);
}

static void
check_error(suite *s, const trial *t, const float *x, const gp_codec_case *in)
{
    double error = 0, norm = 0;
    size_t i;

    for (i = 0; i < t->count; i++) {
        double d = (double)t->decoded[i] - x[i];

        if (!isfinite(t->decoded[i])) {
            fail(s, "%s: finite %g became %g", in->name, (double)x[i],
                 (double)t->decoded[i]);
            return;
        }
        error += d * d;
        norm += (double)x[i] * x[i];
    }
    if (claims(s, GP_CODEC_CONTRACTS) && error > norm)
        fail(s, "%s, %zu elements: contracts, yet nmse is %g", in->name,
             t->count, error / norm);
    if (in->ordinary && s->nmse >= 0 && error > norm * s->nmse)
        fail(s, "%s, %zu elements: nmse %g exceeds the claimed %g", in->name,
             t->count, error / norm, s->nmse);
    i = memcmp(x, t->decoded, t->count * sizeof(float));
    if (claims(s, GP_CODEC_LOSSLESS) && i)
        fail(s, "%s, %zu elements: lossless, yet changed", in->name, t->count);
}

/* decode_add equals decode, then add, bit for bit. */
static void
check_decode_add(suite *s, trial *t, const char *name)
{
    gp_codec_context context = context_of(t->step);
    float *expected = floats(t->count);
    gp_status status;
    size_t i;

    for (i = 0; i < t->count; i++) {
        t->added[i] = noise(i + 77);
        expected[i] = t->added[i] + t->decoded[i];
    }
    status = gp_pipeline_decode_add(s->pipeline, &context, t->bytes, t->length,
                                    t->added, t->count, t->workspace);
    i = first_difference(t->added, expected, t->count);
    if (status || i < t->count)
        fail(s, "%s, %zu elements: decode_add differs from decode at %zu (%s)",
             name, t->count, i, gp_status_name(status));
    free(expected);
}

/* The residual is what the encoder lost, the bytes are those of the sum. */
static void
check_feedback(suite *s, const trial *plain, const float *x, const char *name)
{
    size_t count = plain->count, i;
    trial t = trial_make(s, count), whole = trial_make(s, count);
    float *u = floats(count);

    for (i = 0; i < count; i++) {
        t.residual[i] = noise(i + 991) * 0.1f * fabsf(x[i]);
        u[i] = x[i] + t.residual[i];
    }
    if (encode_trial(s, &t, x, t.residual, 0) &&
        encode_trial(s, &whole, u, NULL, 0) && decode_trial(s, &whole)) {
        if (t.length != whole.length ||
            memcmp(t.bytes, whole.bytes, t.length) != 0)
            fail(s, "%s, %zu elements: feedback encodes another sum", name,
                 count);
        for (i = 0; i < count; i++) {
            float d = whole.decoded[i];
            float e = isfinite(u[i]) && isfinite(d) ? u[i] - d : 0;

            if (!same(t.residual[i], e)) {
                fail(s, "%s, %zu elements: residual %zu is %g, not %g", name,
                     count, i, (double)t.residual[i], (double)e);
                break;
            }
        }
    }
    free(u);
    trial_free(&t);
    trial_free(&whole);
}

/* Every SIMD level gives the bytes and the numbers of the reference. */
static void
check_levels(suite *s, const trial *first, const float *x, const char *name)
{
    gp_simd before = gp_simd_get();
    trial fed = trial_make(s, first->count);
    trial t = trial_make(s, first->count);

    for (int level = 0; level < GP_SIMD_LEVELS; level++) {
        const char *which = gp_simd_name((gp_simd)level);

        if (!gp_simd_set((gp_simd)level))
            continue;
        memset(t.residual, 0, t.count * sizeof(float));
        if (!encode_trial(s, &t, x, NULL, 0) || !decode_trial(s, &t))
            break;
        if (t.length != first->length ||
            memcmp(t.bytes, first->bytes, t.length) != 0)
            fail(s, "%s, %zu elements: %s encodes other bytes", name, t.count,
                 which);
        if (memcmp(t.decoded, first->decoded, t.count * sizeof(float)))
            fail(s, "%s, %zu elements: %s decodes other bits", name, t.count,
                 which);
        check_decode_add(s, &t, which);
        if (!encode_trial(s, &t, x, t.residual, 0))
            break;
        if (level == 0)
            memcpy(fed.residual, t.residual, t.count * sizeof(float));
        else if (memcmp(fed.residual, t.residual, t.count * sizeof(float)))
            fail(s, "%s, %zu elements: %s leaves another residual", name,
                 t.count, which);
    }
    gp_simd_set(before);
    trial_free(&fed);
    trial_free(&t);
}

static void
check_input(suite *s, const gp_codec_case *in, size_t count)
{
    trial t = trial_make(s, count);
    float *x = floats(count);

    gp_codec_fill(in, x, count);
    if (encode_trial(s, &t, x, NULL, 0)) {
        check_size(s, &t, in->name);
        if (decode_trial(s, &t)) {
            check_error(s, &t, x, in);
            check_decode_add(s, &t, in->name);
            check_feedback(s, &t, x, in->name);
            check_levels(s, &t, x, in->name);
        }
    }
    free(x);
    trial_free(&t);
}

/* sum of decoded + last residual = sum of gradients, over many steps. */
static void
check_telescoping(suite *s)
{
    enum { COUNT = 257, STEPS = 1000 };
    trial t = trial_make(s, COUNT);
    double sum[COUNT] = {0}, most[COUNT] = {0};
    float x[COUNT];

    for (uint64_t step = 0; step < STEPS; step++) {
        for (uint64_t i = 0; i < COUNT; i++) {
            x[i] = noise(step * COUNT + i);
            sum[i] += x[i];
            most[i] = fmax(most[i], fabs((double)x[i] + t.residual[i]));
        }
        if (!encode_trial(s, &t, x, t.residual, step) || !decode_trial(s, &t))
            break;
        for (size_t i = 0; i < COUNT; i++)
            sum[i] -= t.decoded[i];
    }
    for (size_t i = 0; i < COUNT; i++)
        if (fabs(sum[i] - t.residual[i]) > STEPS * 0x1p-22 * most[i]) {
            fail(s, "error feedback loses %g of element %zu in %d steps",
                 sum[i] - t.residual[i], i, STEPS);
            break;
        }
    trial_free(&t);
}

/* Hands the decoder an exact copy; when it refuses, decode_add must refuse as
 * well and leave its target alone. */
static gp_status
decode_hostile(suite *s, const uint8_t *bytes, size_t length, size_t count)
{
    gp_codec_context context = context_of(0);
    trial t = trial_make(s, count);
    uint8_t *copy = need(malloc(length + 1));
    gp_status status, added;

    if (length)
        memcpy(copy + 1, bytes, length);
    for (size_t i = 0; i < count; i++)
        t.added[i] = (float)i;
    status = gp_pipeline_decode(s->pipeline, &context, copy + 1, length,
                                t.decoded, count, t.workspace);
    added = gp_pipeline_decode_add(s->pipeline, &context, copy + 1, length,
                                   t.added, count, t.workspace);
    if (status && status != GP_ERR_CORRUPT)
        fail(s, "bad bytes give %s", gp_status_name(status));
    if (status != added)
        fail(s, "bad bytes: decode says %s, decode_add %s",
             gp_status_name(status), gp_status_name(added));
    for (size_t i = 0; added && i < count; i++)
        if (t.added[i] != (float)i) {
            fail(s, "decode_add touched its target before it failed");
            break;
        }
    free(copy);
    trial_free(&t);
    return status;
}

static void
check_wrong_lengths(suite *s, const trial *t)
{
    uint8_t *longer = need(malloc(t->length + 1));

    for (size_t length = 0; length < t->length; length++)
        if (decode_hostile(s, t->bytes, length, t->count) == GP_OK)
            fail(s, "decodes %zu bytes of %zu", length, t->length);
    memcpy(longer, t->bytes, t->length);
    longer[t->length] = 0;
    if (decode_hostile(s, longer, t->length + 1, t->count) == GP_OK)
        fail(s, "ignores a byte too many");
    free(longer);
    (void)!decode_hostile(s, t->bytes, t->length, t->count + 1);
    (void)!decode_hostile(s, t->bytes, t->length, t->count - 1);
    /* Few of many and few of more, or nothing but zeros, may look alike. */
    if (selects(s) || s->pipeline->zeros)
        return;
    if (decode_hostile(s, t->bytes, t->length, 2 * t->count) == GP_OK ||
        decode_hostile(s, t->bytes, t->length, t->count / 2) == GP_OK)
        fail(s, "decodes a wrong count");
}

static void
check_bit_flips(suite *s, const trial *t)
{
    uint8_t *copy = need(malloc(t->length));

    memcpy(copy, t->bytes, t->length);
    for (size_t bit = 0; bit < 8 * t->length; bit++) {
        copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
        (void)!decode_hostile(s, copy, t->length, t->count);
        copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    free(copy);
}

static void
check_random_bytes(suite *s)
{
    uint8_t bytes[300];

    for (uint64_t round = 0; round < 1000; round++) {
        size_t length = gp_codec_random(round) % sizeof(bytes);
        size_t count = gp_codec_random(round + 5000) % 80;

        for (size_t i = 0; i < length; i++)
            bytes[i] = (uint8_t)gp_codec_random(round * 300 + i);
        (void)!decode_hostile(s, bytes, length, count);
    }
}

static void
check_hostile_input(suite *s)
{
    trial t = trial_make(s, 70);
    float *x = floats(70);

    for (size_t which = 0; which < gp_codec_input_count; which += 4) {
        gp_codec_fill(&gp_codec_inputs[which], x, 70);
        if (!encode_trial(s, &t, x, NULL, 0))
            break;
        check_wrong_lengths(s, &t);
        check_bit_flips(s, &t);
    }
    check_random_bytes(s);
    free(x);
    trial_free(&t);
}

static gp_nonfinite
nonfinite_of(const suite *s)
{
    const gp_stage *transform = s->pipeline->transform;

    return transform && transform->ops->nonfinite == GP_NONFINITE_PROPAGATE
               ? GP_NONFINITE_PROPAGATE
               : s->pipeline->array->ops->nonfinite;
}

/* One element is not finite: it comes out as declared, elements that are not
 * NaN come out as they would with a 0 in its place, residuals are finite. */
static void
check_one_nonfinite(suite *s, float bad, size_t at, size_t count)
{
    trial t = trial_make(s, count), clean = trial_make(s, count);
    bool exact = nonfinite_of(s) == GP_NONFINITE_EXACT;
    float *x = floats(count);

    gp_codec_fill(&gp_codec_inputs[0], x, count);
    x[at] = 0;
    if (!encode_trial(s, &clean, x, NULL, 0) || !decode_trial(s, &clean))
        goto done;
    x[at] = bad;
    if (!encode_trial(s, &t, x, t.residual, 0) || !decode_trial(s, &t))
        goto done;
    if (!same(t.decoded[at], exact ? bad : NAN))
        fail(s, "%g of %zu elements came out as %g", (double)bad, count,
             (double)t.decoded[at]);
    for (size_t i = 0; i < count; i++) {
        bool spread = isnan(t.decoded[i]) && !exact;

        if (i != at && !spread && !same(t.decoded[i], clean.decoded[i]))
            fail(s, "%g at %zu of %zu elements changed element %zu",
                 (double)bad, at, count, i);
        if (!isfinite(t.residual[i]) ||
            ((i == at || spread) && t.residual[i] != 0))
            fail(s, "%g at %zu of %zu elements leaves residual %g at %zu",
                 (double)bad, at, count, (double)t.residual[i], i);
    }
done:
    free(x);
    trial_free(&t);
    trial_free(&clean);
}

/* A selection sends what is not finite, or, when it does not look at values,
 * something in its place; the residual is finite. */
static void
check_selected_nonfinite(suite *s, float bad, size_t at, size_t count)
{
    trial t = trial_make(s, count);
    float *x = floats(count);
    size_t finite = 0;

    gp_codec_fill(&gp_codec_inputs[0], x, count);
    x[at] = bad;
    if (encode_trial(s, &t, x, t.residual, 0) && decode_trial(s, &t)) {
        for (size_t i = 0; i < count; i++) {
            finite += isfinite(t.decoded[i]) != 0;
            if (!isfinite(t.residual[i]))
                fail(s, "%g at %zu of %zu elements leaves residual %g at %zu",
                     (double)bad, at, count, (double)t.residual[i], i);
        }
        if (finite == count ||
            (isfinite(t.decoded[at]) && !s->pipeline->select->ops->imply))
            fail(s, "%g at %zu of %zu elements is not seen", (double)bad, at,
                 count);
    }
    free(x);
    trial_free(&t);
}

/* Finite source and residual whose sum overflows. */
static void
check_overflowing_sum(suite *s, size_t count)
{
    trial t = trial_make(s, count);
    float *x = floats(count);

    for (size_t i = 0; i < count; i++) {
        x[i] = i == 5 ? 3e38f : 1;
        t.residual[i] = i == 5 ? 3e38f : 0.25f;
    }
    if (encode_trial(s, &t, x, t.residual, 0) && decode_trial(s, &t)) {
        if (isfinite(t.decoded[5]) && !selects(s))
            fail(s, "a sum that overflows came out as %g",
                 (double)t.decoded[5]);
        for (size_t i = 0; i < count; i++)
            if (!isfinite(t.residual[i]))
                fail(s, "a sum that overflows leaves residual %g",
                     (double)t.residual[i]);
    }
    free(x);
    trial_free(&t);
}

static void
check_nonfinite(suite *s)
{
    static const size_t sizes[] = {1, 7, 33, 257, 600};
    void (*check_one)(suite *, float, size_t, size_t) =
        selects(s) ? check_selected_nonfinite : check_one_nonfinite;

    for (size_t i = 0; i < GP_COUNT_OF(sizes); i++)
        for (size_t at = 0; at < sizes[i]; at += sizes[i] / 3 + 1) {
            check_one(s, NAN, at, sizes[i]);
            check_one(s, INFINITY, at, sizes[i]);
            check_one(s, -INFINITY, at, sizes[i]);
        }
    check_overflowing_sum(s, 40);
    check_overflowing_sum(s, 600);
}

/* Too small a buffer is refused, and then nothing is written. What a first look
 * at the elements has put into the residual stays there. */
static void
check_capacity(suite *s)
{
    bool looks = gp_pipeline_needs(s->pipeline) &
                 (GP_PIPELINE_PREPARES | GP_PIPELINE_PROPOSES);
    trial t = trial_make(s, 100);
    float *x = floats(100), *residual = floats(100);
    gp_codec_context context = context_of(0);
    gp_status status;

    gp_codec_fill(&gp_codec_inputs[0], x, 100);
    t.length = 12345;
    status = gp_encode_residual(s->pipeline, &context, x, residual, 100,
                                t.bytes, t.bound - 1, &t.length, t.workspace);
    if (status != GP_ERR_TOO_LARGE || t.length != 12345 || t.bytes[0] != 0xc5 ||
        first_difference(residual, looks ? x : t.residual, 100) < 100)
        fail(s, "a buffer below the bound gives %s, or was touched",
             gp_status_name(status));
    free(x);
    free(residual);
    trial_free(&t);
}

static void
check_bound_grows(suite *s)
{
    size_t last = 0;

    for (int shift = 2; shift < 64; shift++)
        for (size_t add = 0; add < 3; add++) {
            size_t count = ((size_t)1 << shift) + add - 1;
            size_t bound = gp_pipeline_bound(s->pipeline, count);

            if (bound < last)
                fail(s, "the bound falls to %zu at %zu elements", bound, count);
            last = bound;
        }
    last = gp_pipeline_bound(s->pipeline, SIZE_MAX);
    if (last < gp_pipeline_bound(s->pipeline, SIZE_MAX / 2))
        fail(s, "the bound of SIZE_MAX elements wraps to %zu", last);
}

typedef struct worker {
    suite *s;
    const float *x;
    trial t;
    gp_status status;
} worker;

static void *
encode_thread(void *argument)
{
    worker *w = argument;
    gp_codec_context context = context_of(9);

    w->status = GP_OK;
    for (int i = 0; i < 20 && w->status == GP_OK; i++) {
        memset(w->t.residual, 0, w->t.count * sizeof(float));
        w->status = gp_encode_residual(
            w->s->pipeline, &context, w->x, i & 1 ? w->t.residual : NULL,
            w->t.count, w->t.bytes, w->t.bound, &w->t.length, w->t.workspace);
    }
    return NULL;
}

/* Threads that share a pipeline, each with other bytes in its workspace. */
static void
check_threads(suite *s)
{
    enum { THREADS = 4, COUNT = 3001 };
    float *x = floats(COUNT);
    worker workers[THREADS];
    pthread_t threads[THREADS];

    gp_codec_fill(&gp_codec_inputs[1], x, COUNT);
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (worker){s, x, trial_make(s, COUNT), GP_OK};
        memset(workers[i].t.workspace, 0x11 * i,
               gp_pipeline_workspace(s->pipeline, COUNT));
        if (pthread_create(&threads[i], NULL, encode_thread, &workers[i]))
            abort();
    }
    for (int i = 0; i < THREADS; i++) {
        const trial *t = &workers[i].t, *first = &workers[0].t;

        pthread_join(threads[i], NULL);
        if (workers[i].status || t->length != first->length ||
            memcmp(t->bytes, first->bytes, t->length) != 0)
            fail(s, "thread %d encodes the same input to other bytes", i);
    }
    for (int i = 0; i < THREADS; i++)
        trial_free(&workers[i].t);
    free(x);
}

/* The chain of an array stage and byte stages equals these by hand. */
static void
check_by_hand(suite *s)
{
    enum { COUNT = 1000 };
    const gp_stage *stage = &s->pipeline->stages[0];
    gp_codec_context context = context_of(0);
    trial t = trial_make(s, COUNT);
    size_t capacity = stage->ops->bound(stage->instance, COUNT), length = 0;
    uint8_t *bytes = need(malloc(capacity + CANARY)), *packed;
    float *x = floats(COUNT);
    gp_status status;

    gp_codec_fill(&gp_codec_inputs[3], x, COUNT);
    context.scratch = t.workspace;
    status = stage->ops->encode(stage->instance, &context, x, COUNT, bytes,
                                capacity, &length);
    for (size_t i = 1; i < s->pipeline->count && status == GP_OK; i++) {
        stage = &s->pipeline->stages[i];
        capacity = stage->ops->bound(stage->instance, length);
        packed = need(malloc(capacity + CANARY));
        status = stage->ops->pack(stage->instance, &context, bytes, length,
                                  packed, capacity, &length);
        free(bytes);
        bytes = packed;
    }
    if (encode_trial(s, &t, x, NULL, 0) &&
        (status || length != t.length || memcmp(bytes, t.bytes, length)))
        fail(s, "the chain differs from its stages by hand");
    free(bytes);
    free(x);
    trial_free(&t);
}

/* Integers, so that the sums themselves are exact. */
static void
check_linear(suite *s)
{
    enum { COUNT = 500 };
    trial a = trial_make(s, COUNT), b = trial_make(s, COUNT),
          sum = trial_make(s, COUNT);
    float x[COUNT], y[COUNT], z[COUNT];

    for (size_t i = 0; i < COUNT; i++) {
        x[i] = (float)((int)(gp_codec_random(i) % 2001) - 1000);
        y[i] = (float)((int)(gp_codec_random(i + COUNT) % 2001) - 1000);
        z[i] = x[i] + y[i];
    }
    if (encode_trial(s, &a, x, NULL, 0) && decode_trial(s, &a) &&
        encode_trial(s, &b, y, NULL, 0) && decode_trial(s, &b) &&
        encode_trial(s, &sum, z, NULL, 0) && decode_trial(s, &sum))
        for (size_t i = 0; i < COUNT; i++)
            if (a.decoded[i] + b.decoded[i] != sum.decoded[i]) {
                fail(s, "linear, yet C(x) + C(y) != C(x + y) at %zu", i);
                break;
            }
    trial_free(&a);
    trial_free(&b);
    trial_free(&sum);
}

/* The mean over many steps is within chance of x: per element, by six times its
 * own deviation or the typical one, and together; but for what fp32 rounds. */
static void
check_unbiased(suite *s)
{
    enum { COUNT = 512, STEPS = 1024 };
    double mean[COUNT] = {0}, square[COUNT] = {0}, error = 0, variance = 0;
    double energy = 0, spread = 0;
    trial t = trial_make(s, COUNT);
    float x[COUNT];

    gp_codec_fill(&gp_codec_inputs[0], x, COUNT);
    for (uint64_t step = 0; step < STEPS; step++) {
        if (!encode_trial(s, &t, x, NULL, step) || !decode_trial(s, &t))
            break;
        for (size_t i = 0; i < COUNT; i++) {
            double d = (double)t.decoded[i] - x[i];

            mean[i] += d / STEPS;
            square[i] += d * d / STEPS;
        }
    }
    for (size_t i = 0; i < COUNT; i++) {
        square[i] = (square[i] - mean[i] * mean[i]) / STEPS;
        energy += (double)x[i] * x[i];
        error += mean[i] * mean[i];
        variance += square[i];
        spread += 2 * square[i] * square[i];
    }
    for (size_t i = 0; i < COUNT; i++)
        if (mean[i] * mean[i] > 36 * fmax(square[i], variance / COUNT) + 1e-12)
            fail(s, "unbiased, yet element %zu (%g) is off by %g in the mean",
                 i, (double)x[i], mean[i]);
    if (error > variance + 5 * sqrt(spread) + 1e-12 * energy)
        fail(s, "unbiased, yet the mean's error is %g times chance",
             error / variance);
    trial_free(&t);
}

static void
check_name(suite *s)
{
    const char *name = gp_pipeline_name(s->pipeline);
    gp_pipeline *again;

    if (gp_pipeline_parse(name, &again)) {
        fail(s, "its canonical text is refused: %s", gp_last_error());
        return;
    }
    if (strcmp(name, gp_pipeline_name(again)) ||
        gp_pipeline_id(s->pipeline) != gp_pipeline_id(again))
        fail(s, "'%s' parses to '%s'", name, gp_pipeline_name(again));
    gp_pipeline_destroy(again);
}

int
gp_codec_suite_matrix(const gp_codec_claim *claim, size_t columns)
{
    suite s = {.text = claim->pipeline, .nmse = claim->nmse};
    gp_codec_shape shape = {0, columns};

    if (gp_pipeline_open(claim->pipeline, &shape, &s.pipeline)) {
        fail(&s, "%s", gp_last_error());
        return s.failures;
    }
    for (size_t i = 0; i < gp_codec_input_count; i++)
        for (size_t j = 0; j < GP_COUNT_OF(counts); j++)
            check_input(&s, &gp_codec_inputs[i], counts[j]);
    check_input(&s, &gp_codec_inputs[0], LARGE);
    check_telescoping(&s);
    check_hostile_input(&s);
    check_nonfinite(&s);
    check_capacity(&s);
    check_bound_grows(&s);
    check_threads(&s);
    if (s.pipeline->stages[0].ops->encode)
        check_by_hand(&s);
    if (claims(&s, GP_CODEC_LINEAR))
        check_linear(&s);
    if (claims(&s, GP_CODEC_UNBIASED))
        check_unbiased(&s);
    check_name(&s);
    gp_pipeline_destroy(s.pipeline);
    return s.failures;
}

int
gp_codec_suite_claim(const gp_codec_claim *claim)
{
    return gp_codec_suite_matrix(claim, 0);
}

int
gp_codec_suite(const char *pipeline)
{
    gp_codec_claim claim = {pipeline, -1};

    return gp_codec_suite_claim(&claim);
}
