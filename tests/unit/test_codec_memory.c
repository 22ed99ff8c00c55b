/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_codec_memory.c - error feedback, EF21 and momentum correction against
 * their recurrences, with codecs of the test's own whose loss is known.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "compress/codec_internal.h"
#include "compress/philox.h"

enum { COUNT = 1000 };

/* ---- a selection of the elements that are their block's largest -------- */

#define EVERY 10

static size_t
peak_bound(const void *instance, size_t count)
{
    (void)instance;
    return count / EVERY + 1;
}

/* As bits: NaN is largest, so that it is sent and forgotten. */
static uint32_t
magnitude(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof(bits));
    return bits & 0x7fffffffu;
}

static gp_status
peak_select(const void *instance, const gp_codec_context *context,
            const float *source, size_t count, uint32_t *indices, float *values,
            size_t *selected)
{
    size_t n = 0;

    (void)instance;
    (void)context;
    for (size_t at = 0; at < count; at += EVERY) {
        size_t best = at;

        for (size_t i = at; i < at + EVERY && i < count; i++)
            if (magnitude(source[i]) > magnitude(source[best]))
                best = i;
        indices[n] = (uint32_t)best;
        values[n++] = source[best];
    }
    *selected = n;
    return GP_OK;
}

static const gp_codec_ops peak = {
    .abi = GP_CODEC_ABI,
    .kind = GP_CODEC_SELECT,
    .properties = GP_CODEC_CONTRACTS,
    .nonfinite = GP_NONFINITE_PROPAGATE,
    .name = "peak",
    .text = "one element out of ten",
    .bound = peak_bound,
    .select = peak_select,
};

static size_t
plain_index_bound(const void *instance, size_t selected, size_t count)
{
    (void)instance;
    (void)count;
    return 4 * selected;
}

static gp_status
plain_pack(const void *instance, const uint32_t *indices, size_t selected,
           size_t count, void *out, size_t capacity, size_t *length)
{
    (void)instance;
    (void)count;
    assert_true(capacity >= 4 * selected);
    memcpy(out, indices, 4 * selected);
    *length = 4 * selected;
    return GP_OK;
}

static gp_status
plain_unpack(const void *instance, const void *bytes, size_t length,
             uint32_t *indices, size_t selected, size_t count)
{
    (void)instance;
    if (length != 4 * selected)
        return GP_ERR_CORRUPT;
    memcpy(indices, bytes, length);
    for (size_t i = 0; i < selected; i++)
        if (indices[i] >= count || (i && indices[i] <= indices[i - 1]))
            return GP_ERR_CORRUPT;
    return GP_OK;
}

static const gp_codec_ops plain_index = {
    .abi = GP_CODEC_ABI,
    .kind = GP_CODEC_INDEX,
    .properties = GP_CODEC_LOSSLESS,
    .name = "listed",
    .text = "indices as they are",
    .index_bound = plain_index_bound,
    .pack_indices = plain_pack,
    .unpack_indices = plain_unpack,
};

static int
set_up(void **state)
{
    (void)state;
    return gp_codec_register(&peak) || gp_codec_register(&plain_index);
}

/* ---- one encoder and its receiver --------------------------------------- */

typedef struct ends {
    gp_pipeline *pipeline;
    gp_codec_memory *memory;
    void *workspace, *bytes;
    size_t capacity, length;
    float decoded[COUNT];
} ends;

static void
open_ends(ends *e, const char *text, int feedback)
{
    memset(e, 0, sizeof(*e));
    if (gp_pipeline_parse(text, &e->pipeline) != GP_OK)
        fail_msg("%s", gp_last_error());
    assert_int_equal(
        gp_codec_memory_create(e->pipeline, 0, COUNT, feedback, &e->memory),
        GP_OK);
    e->capacity = gp_pipeline_bound(e->pipeline, COUNT);
    e->bytes = gp_alloc_aligned(e->capacity);
    e->workspace =
        gp_alloc_aligned(gp_pipeline_workspace(e->pipeline, COUNT) + 64);
    assert_true(e->bytes && e->workspace);
}

static void
close_ends(ends *e)
{
    free(e->bytes);
    free(e->workspace);
    gp_codec_memory_destroy(e->memory);
    gp_pipeline_destroy(e->pipeline);
}

static void
pass(ends *e, const float *gradient, uint64_t step)
{
    gp_codec_context context = {.seed = 5, .step = step, .size = 4};

    if (gp_pipeline_encode(e->pipeline, &context, e->memory, gradient, COUNT,
                           e->bytes, e->capacity, &e->length, e->workspace))
        fail_msg("%s", gp_last_error());
    if (gp_pipeline_decode(e->pipeline, &context, e->bytes, e->length,
                           e->decoded, COUNT, e->workspace))
        fail_msg("%s", gp_last_error());
}

static float *
field(ends *e, const char *name)
{
    const char *found;
    float *values;

    for (size_t i = 0; gp_codec_memory_field(e->memory, i, &found, &values);
         i++)
        if (strcmp(found, name) == 0)
            return values;
    return NULL;
}

static void
gradient_of(uint64_t step, float *out)
{
    gp_codec_context context = {.seed = 9, .step = step};
    gp_stream stream = gp_stream_of(&context, GP_USE_ROUNDING);
    uint32_t words[COUNT];

    gp_philox_words(&stream, 0, words, COUNT);
    for (size_t i = 0; i < COUNT; i++)
        out[i] = (gp_unit(words[i]) - 0.5f) * (float)(1 + i % 7);
}

/* sum of decoded + residual = sum of gradients; unsent elements keep every bit
 * of what they owe, sent ones owe nothing. */
static void
feedback_telescopes(void **state)
{
    const char *texts[] = {"peak+none+listed", "q8",       "bf16",
                           "peak+q8+listed",   "zeros+q8", "peak+fp16+listed"};

    (void)state;
    for (size_t t = 0; t < GP_COUNT_OF(texts); t++) {
        double owed[COUNT] = {0};
        float g[COUNT], before[COUNT];
        const float *residual;
        ends e;

        open_ends(&e, texts[t], 1);
        residual = field(&e, "residual");
        assert_non_null(residual);
        for (uint64_t step = 0; step < 300; step++) {
            gradient_of(step, g);
            memcpy(before, residual, sizeof(before));
            pass(&e, g, step);
            for (size_t i = 0; i < COUNT; i++) {
                float u = before[i] + g[i];

                owed[i] += (double)g[i] - e.decoded[i];
                if (e.decoded[i] == 0 && t == 0)
                    assert_memory_equal(&residual[i], &u, 4);
                if (e.decoded[i] != 0 && t == 0)
                    assert_memory_equal(&residual[i], &(float){0}, 4);
            }
        }
        for (size_t i = 0; i < COUNT; i++)
            assert_true(fabs(owed[i] - residual[i]) < 1e-2);
        close_ends(&e);
    }
}

/* With a factor of 0, momentum correction is error feedback, bit for bit. */
static void
momentum_of_nothing_is_feedback(void **state)
{
    float g[COUNT];
    ends a, b;

    (void)state;
    open_ends(&a, "momentum:0+peak+none+listed", 0);
    open_ends(&b, "ef+peak+none+listed", 0);
    for (uint64_t step = 0; step < 50; step++) {
        gradient_of(step, g);
        pass(&a, g, step);
        pass(&b, g, step);
        assert_int_equal(a.length, b.length);
        assert_memory_equal(a.bytes, b.bytes, a.length);
    }
    assert_memory_equal(field(&a, "residual"), field(&b, "residual"),
                        COUNT * sizeof(float));
    close_ends(&a);
    close_ends(&b);
}

/* DGC's recurrence (Lin et al. 2018, section 3.1 and 3.2), written out. */
static void
momentum_is_corrected_and_masked(void **state)
{
    float v[COUNT] = {0}, sum[COUNT] = {0}, g[COUNT];
    ends e;

    (void)state;
    open_ends(&e, "momentum:0.9+peak+none+listed", 0);
    for (uint64_t step = 0; step < 100; step++) {
        uint32_t chosen[COUNT];
        float values[COUNT], expected[COUNT] = {0};
        size_t n;

        gradient_of(step, g);
        for (size_t i = 0; i < COUNT; i++) {
            v[i] = 0.9f * v[i] + g[i];
            sum[i] += v[i];
        }
        assert_int_equal(
            peak_select(NULL, NULL, sum, COUNT, chosen, values, &n), GP_OK);
        for (size_t j = 0; j < n; j++) {
            expected[chosen[j]] = values[j];
            v[chosen[j]] = sum[chosen[j]] = 0;
        }
        pass(&e, g, step);
        assert_memory_equal(e.decoded, expected, sizeof(expected));
        assert_memory_equal(field(&e, "velocity"), v, sizeof(v));
        assert_memory_equal(field(&e, "residual"), sum, sizeof(sum));
    }
    close_ends(&e);
}

static void
gradients_are_clipped(void **state)
{
    float g[COUNT];
    double norm = 0;
    ends e;

    (void)state;
    open_ends(&e, "momentum:factor=0,clip=3+none", 0);
    gradient_of(1, g);
    pass(&e, g, 0);
    for (size_t i = 0; i < COUNT; i++)
        norm += (double)e.decoded[i] * e.decoded[i];
    assert_true(fabs(sqrt(norm) - 1.5) < 1e-4); /* 3 / sqrt(4 workers) */
    close_ends(&e);
}

/* Richtarik 2021: for a constant gradient, h converges geometrically. */
static void
ef21_converges(void **state)
{
    float g[COUNT], h[COUNT] = {0};
    double start = 0;
    ends e;

    (void)state;
    open_ends(&e, "ef21+peak+none+listed", 0);
    assert_true(gp_pipeline_properties(e.pipeline) & GP_CODEC_DIFFERENCE);
    gradient_of(3, g);
    for (size_t i = 0; i < COUNT; i++)
        start += (double)g[i] * g[i];
    for (uint64_t step = 0; step < 10; step++) {
        double left = 0;

        pass(&e, g, step);
        for (size_t i = 0; i < COUNT; i++) {
            h[i] += e.decoded[i];
            left += ((double)g[i] - h[i]) * ((double)g[i] - h[i]);
        }
        assert_memory_equal(field(&e, "history"), h, sizeof(h));
        assert_true(left <= start * pow(0.9, (double)step + 1) + 1e-12);
    }
    close_ends(&e);
}

static void
nothing_not_finite_stays(void **state)
{
    const char *texts[] = {"ef+q8", "ef+peak+none+listed", "momentum+q8",
                           "ef21+q8", "ef+zeros+fp16"};

    (void)state;
    for (size_t t = 0; t < GP_COUNT_OF(texts); t++) {
        float g[COUNT], *values;
        const char *name;
        ends e;

        open_ends(&e, texts[t], 0);
        gradient_of(0, g);
        g[17] = NAN;
        g[500] = INFINITY;
        pass(&e, g, 0);
        assert_false(isfinite(e.decoded[17]));
        for (size_t f = 0, n;
             (n = gp_codec_memory_field(e.memory, f, &name, &values)); f++)
            for (size_t i = 0; i < n; i++)
                assert_true(isfinite(values[i]));
        close_ends(&e);
    }
}

static void
decay_forgets(void **state)
{
    float g[COUNT] = {0};
    ends e;

    (void)state;
    open_ends(&e, "ef:0.5+peak+none+listed", 0);
    for (size_t i = 0; i < COUNT; i++)
        g[i] = 8;
    pass(&e, g, 0);
    memset(g, 0, sizeof(g));
    assert_true(field(&e, "residual")[1] == 8);
    pass(&e, g, 1);
    assert_true(field(&e, "residual")[2] == 4);
    gp_codec_memory_reset(e.memory);
    assert_true(field(&e, "residual")[2] == 0);
    close_ends(&e);
}

static void
fake_is_what_the_wire_gives(void **state)
{
    gp_codec_context context = {.seed = 5, .step = 2, .size = 4};
    float g[COUNT], data[COUNT];
    size_t length;
    ends a, b;

    (void)state;
    open_ends(&a, "momentum+peak+q8+listed", 0);
    open_ends(&b, "momentum+peak+q8+listed", 0);
    gradient_of(2, g);
    memcpy(data, g, sizeof(g));
    pass(&a, g, 2);
    assert_int_equal(gp_pipeline_fake(b.pipeline, &context, b.memory, data,
                                      COUNT, b.bytes, b.capacity, &length,
                                      b.workspace),
                     GP_OK);
    assert_int_equal(length, a.length);
    assert_memory_equal(data, a.decoded, sizeof(data));
    assert_memory_equal(field(&a, "residual"), field(&b, "residual"),
                        sizeof(data));
    close_ends(&a);
    close_ends(&b);
}

static void
what_cannot_be_right_is_refused(void **state)
{
    static const struct {
        const char *text, *reason;
    } cases[] = {
        {"ef+none", "nothing here loses"},
        {"q8+ef", "ef remembers gradients and must come first"},
        {"ef+ef21+q8", "here it follows ef"},
        {"q8+listed", "there is none: begin with"},
        {"zeros+peak+listed", "leaves zeros out by itself"},
        {"peak+peak", "peak selects among fp32 elements"},
        {"lz4+peak", "must come before what changes them"},
        {"peak+listed+listed", "here it follows listed"},
    };
    gp_pipeline *p;

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(cases); i++) {
        if (strncmp(cases[i].text, "lz4", 3) == 0 && !gp_codec_find("lz4"))
            continue;
        if (gp_pipeline_parse(cases[i].text, &p) == GP_OK)
            fail_msg("'%s' is accepted", cases[i].text);
        if (!strstr(gp_last_error(), cases[i].reason))
            fail_msg("'%s': '%s'", cases[i].text, gp_last_error());
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(feedback_telescopes),
        cmocka_unit_test(momentum_of_nothing_is_feedback),
        cmocka_unit_test(momentum_is_corrected_and_masked),
        cmocka_unit_test(gradients_are_clipped),
        cmocka_unit_test(ef21_converges),
        cmocka_unit_test(nothing_not_finite_stays),
        cmocka_unit_test(decay_forgets),
        cmocka_unit_test(fake_is_what_the_wire_gives),
        cmocka_unit_test(what_cannot_be_right_is_refused),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
