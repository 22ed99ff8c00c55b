/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_memory_sim.c - ef21 and momentum on a device: over some steps, the bytes
 * and everything that is remembered are those of the host.
 */
#include "tests/gpu/coder_rig.h"

#define STEPS 3

/* What is remembered of a part, on both sides. */
typedef struct kept {
    float *velocity, *history; /* pinned, or NULL */
    gp_codec_memory *memory;
} kept;

static float *
field_of(gp_codec_memory *m, const char *name, size_t n)
{
    const char *has;
    float *values;

    for (size_t i = 0;; i++) {
        size_t count = gp_codec_memory_field(m, i, &has, &values);

        if (count == 0)
            return NULL;
        if (strcmp(has, name) == 0) {
            assert_int_equal(count, n);
            return values;
        }
    }
}

static float *
zeros(rig *r, const gp_codec_memory *m, size_t p, bool wanted)
{
    size_t off = p % 3;
    float *out;

    if (!m || !wanted)
        return NULL;
    out = (float *)take(r, 4 * (counts[p] + 4)) + off;
    memset(out, 0, 4 * counts[p]);
    return out;
}

static void
open_kept(rig *r, kept k[PARTS])
{
    for (size_t p = 0; p < PARTS; p++) {
        gp_codec_context context = context_of(1, p);

        check(gp_codec_memory_create(r->pipeline, context.offset, counts[p], 1,
                                     &k[p].memory));
        k[p].velocity = zeros(r, k[p].memory, p,
                              r->pipeline->memory->ops == &gp_codec_momentum);
        k[p].history = zeros(r, k[p].memory, p,
                             r->pipeline->memory->ops == &gp_codec_ef21);
        memset(r->part[1][p].residual, 0, 4 * counts[p]);
    }
}

/* Gradients of a step; what is special stays in the first. */
static void
turn(rig *r, size_t step)
{
    for (size_t p = 0; p < PARTS; p++)
        for (size_t i = 0; step && i < counts[p]; i++)
            r->part[1][p].source[i] =
                number_gauss(step * 1000003 + p * MOST + i) *
                (i % 7 ? 0.01f : 0.1f);
}

static void
device_encodes(rig *r, const kept k[PARTS], size_t step)
{
    gp_coder_part parts[PARTS];

    list_parts(r, 1, true, parts);
    for (size_t p = 0; p < PARTS; p++) {
        parts[p].context.step += step;
        parts[p].velocity = k[p].velocity;
        parts[p].history = k[p].history;
        if (k[p].history)
            parts[p].residual = NULL;
    }
    check(gp_coder_encode(r->coder, parts, PARTS, r->stream));
    check(r->device->ops->synchronize(r->device));
}

static void
compare_kept(rig *r, const kept *k, size_t p, const char *text)
{
    size_t n = counts[p];
    const float *e = field_of(k->memory, "residual", n);
    const float *v = field_of(k->memory, "velocity", n);
    const float *h = field_of(k->memory, "history", n);

    assert_true((v != NULL) == (k->velocity != NULL));
    assert_true((h != NULL) == (k->history != NULL));
    if (e)
        expect_floats(r->part[1][p].residual, e, n, text, "residual", p);
    if (v)
        expect_floats(k->velocity, v, n, text, "velocity", p);
    if (h)
        expect_floats(k->history, h, n, text, "history", p);
}

static void
compare_part(rig *r, const kept *k, size_t p, size_t step, const char *text)
{
    const side *s = &r->part[1][p];
    gp_codec_context context = context_of(1, p);
    size_t n = counts[p], bound = gp_pipeline_bound(r->pipeline, n), length;
    void *space = gp_alloc_aligned(gp_pipeline_workspace(r->pipeline, n) + 1);
    uint8_t *bytes = malloc(bound + 1);

    context.step += step;
    if (gp_pipeline_needs(r->pipeline) & GP_PIPELINE_PROPOSES) {
        float nobody_asks;

        check(gp_pipeline_propose(r->pipeline, &context, k->memory, s->source,
                                  n, &nobody_asks));
    }
    check(gp_pipeline_encode(r->pipeline, &context, k->memory, s->source, n,
                             bytes, bound, &length, space));
    if (*s->encoded != length)
        fail_msg("%s: step %zu part %zu has %zu bytes, not %zu", text, step, p,
                 (size_t)*s->encoded, length);
    expect_bytes(s->bytes, bytes, length, text, p);
    if (n)
        compare_kept(r, k, p, text);
    free(bytes);
    free(space);
}

static void
compare_steps(const char *text)
{
    rig r = open_rig(text);
    kept k[PARTS];

    open_kept(&r, k);
    for (size_t step = 0; step < STEPS; step++) {
        turn(&r, step);
        device_encodes(&r, k, step);
        for (size_t p = 0; p < PARTS; p++)
            compare_part(&r, &k[p], p, step, text);
    }
    for (size_t p = 0; p < PARTS; p++)
        gp_codec_memory_destroy(k[p].memory);
    close_rig(&r);
}

static void
differences_are_those_of_the_host(void **state)
{
    static const char *const texts[] = {
        "ef21+q8",
        "ef21+bf16",
        "ef21+q4:block=160",
        "ef21+topk:0.05+q8",
        "ef21+topk:0.1",
        "ef21+topk:0.4+none+raw",
        "ef21+sign:block=64",
        "ef21+hadamard+q4",
        "ef21+randk:0.3",
        "ef21+nvfp4",
        "ef21+uq",
        "ef21+zeros:block=32+q8",
        "ef21+hadamard+uq",
        "ef21+topk:0.2+uq",
        "ef21+zeros+natural",
        "ef21+intsum",
        "ef21+intsum:bits=16",
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(texts); i++)
        compare_steps(texts[i]);
}

static void
velocities_are_those_of_the_host(void **state)
{
    static const char *const texts[] = {
        "momentum+q8",
        "momentum:factor=0.5,nesterov=1+q4:block=64",
        "momentum:factor=0.9+topk:0.02+bf16",
        "momentum:mask=0+topk:0.1",
        "momentum:nesterov=1+randk:0.7",
        "momentum+hadamard+q8",
        "momentum:clip=0.5+zeros+bf16",
        "momentum:factor=0.25+onebit",
        "momentum+threshold:0.05+q8",
        "momentum+topk:0.1+uq",
        "momentum+randk:0.2+natural",
        "momentum+powersgd",
        "momentum:nesterov=1+intsum",
        "momentum:clip=0.5+thc:block=1024",
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(texts); i++)
        compare_steps(texts[i]);
}

/* A push of nothing worth mentioning: as if all of it were 0. */
static void
without_memory_gradients_are_encoded(void **state)
{
    static const struct {
        const char *text, *plain;
    } pairs[] = {{"ef21+q8", "q8"},
                 {"momentum+q8", "q8"},
                 {"ef21+intsum", "intsum"},
                 {"momentum+intsum", "intsum"}};

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(pairs); i++) {
        rig r = open_rig(pairs[i].text), plain = open_rig(pairs[i].plain);
        gp_coder_part parts[PARTS];

        list_parts(&r, 1, false, parts);
        check(gp_coder_encode(r.coder, parts, PARTS, r.stream));
        check(r.device->ops->synchronize(r.device));
        encode_all(&plain, 1, false);
        for (size_t p = 0; p < PARTS; p++)
            expect_bytes(r.part[1][p].bytes, plain.part[1][p].bytes,
                         (size_t)*r.part[1][p].encoded, pairs[i].text, p);
        gp_coder_close(r.coder);
        gp_pipeline_destroy(r.pipeline);
        r.device->ops->stream_destroy(r.device, r.stream);
        r.device->ops->free_pinned(r.device, r.block);
        gp_device_close(r.device);
        close_rig(&plain);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(differences_are_those_of_the_host),
        cmocka_unit_test(velocities_are_those_of_the_host),
        cmocka_unit_test(without_memory_gradients_are_encoded),
    };

    choose_driver();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
