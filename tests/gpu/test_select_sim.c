/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_select_sim.c - long chunks: selections that are sampled first, with good
 * samples and with samples that mislead; and entropy codes of 32 states.
 */
#include "tests/gpu/coder_rig.h"

enum { COUNT = 100003 };

typedef struct large {
    gp_device *device;
    gp_pipeline *pipeline;
    gp_coder *coder;
    float *source, *residual, *expected;
    uint8_t *bytes, *message;
    uint64_t *encoded;
    size_t bound;
} large;

static void *
pinned(large *l, size_t bytes)
{
    void *out;

    check(l->device->ops->alloc_pinned(l->device, bytes, &out));
    memset(out, 0, bytes);
    return out;
}

static large
open_large(const char *text)
{
    large l = {.device = NULL};

    check(gp_device_open("cuda", &l.device));
    check(gp_pipeline_parse(text, &l.pipeline));
    check(gp_coder_open(l.device, l.pipeline, &l.coder));
    l.bound = gp_pipeline_bound(l.pipeline, COUNT);
    l.source = pinned(&l, 4 * COUNT);
    l.residual = pinned(&l, 4 * COUNT);
    l.bytes = pinned(&l, l.bound);
    l.encoded = pinned(&l, 8);
    l.expected = calloc(COUNT, 4);
    l.message = malloc(l.bound);
    return l;
}

static void
close_large(large *l)
{
    gp_device *d = l->device;

    gp_coder_close(l->coder);
    gp_pipeline_destroy(l->pipeline);
    d->ops->free_pinned(d, l->source);
    d->ops->free_pinned(d, l->residual);
    d->ops->free_pinned(d, l->bytes);
    d->ops->free_pinned(d, l->encoded);
    free(l->expected);
    free(l->message);
    gp_device_close(d);
    assert_int_equal(gp_sim_cuda_objects(), 0);
}

static size_t
encode_on_host(large *l, bool feedback)
{
    gp_codec_context context = {.seed = 1, .tensor = 3, .size = 1};
    void *space = gp_alloc_aligned(gp_pipeline_workspace(l->pipeline, COUNT));
    gp_codec_memory *memory = NULL;
    size_t length = 0, fields;
    const char *name;
    float *values = NULL;

    if (feedback) {
        check(gp_codec_memory_create(l->pipeline, 0, COUNT, 1, &memory));
        fields = gp_codec_memory_field(memory, 0, &name, &values);
        assert_int_equal(fields, COUNT);
        memcpy(values, l->residual, 4 * COUNT);
    }
    check(gp_pipeline_encode(l->pipeline, &context, memory, l->source, COUNT,
                             l->message, l->bound, &length, space));
    if (feedback)
        memcpy(l->expected, values, 4 * COUNT);
    gp_codec_memory_destroy(memory);
    free(space);
    return length;
}

static void
compare_large(large *l, const char *text, bool feedback)
{
    size_t length = encode_on_host(l, feedback);
    gp_coder_part part = {.context = {.seed = 1, .tensor = 3, .size = 1},
                          .count = COUNT,
                          .source = l->source,
                          .residual = feedback ? l->residual : NULL,
                          .bytes = l->bytes,
                          .encoded = l->encoded};

    check(gp_coder_encode(l->coder, &part, 1, NULL));
    check(l->device->ops->synchronize(l->device));
    assert_int_equal(*l->encoded, length);
    expect_bytes(l->bytes, l->message, length, text, 0);
    if (feedback)
        expect_floats(l->residual, l->expected, COUNT, text, "residual", 0);
}

static void
normal_numbers(void **state)
{
    static const char *const texts[] = {"topk:0.01+q8", "topk:0.001+none+rice",
                                        "topk:0.1+bf16+raw"};

    (void)state;
    for (size_t t = 0; t < GP_COUNT_OF(texts); t++) {
        large l = open_large(texts[t]);

        for (size_t i = 0; i < COUNT; i++) {
            l.source[i] = number_gauss(i);
            l.residual[i] = 0.1f * number_gauss(i + COUNT);
        }
        l.source[777] = NAN;
        compare_large(&l, texts[t], t != 1);
        close_large(&l);
    }
}

/* More candidates than there is room for. */
static void
all_of_one_magnitude(void **state)
{
    large l = open_large("topk:0.01+fp16");

    (void)state;
    for (size_t i = 0; i < COUNT; i++)
        l.source[i] = i % 2 ? 0.5f : -0.5f;
    compare_large(&l, "equal", true);
    close_large(&l);
}

/* Samples that say that all is large: too few candidates. */
static void
samples_that_mislead(void **state)
{
    large l = open_large("topk:0.01+none");
    size_t samples = COUNT / 64 / 16 * 16, groups = samples / 16;
    uint64_t stride = COUNT / groups / 16;

    (void)state;
    for (size_t i = 0; i < COUNT; i++)
        l.source[i] = 0.001f * number_gauss(i);
    for (size_t g = 0; g < groups / 2; g++) {
        uint32_t jitter = (uint32_t)g * 0x9e3779b1u;
        size_t at = g * stride + (size_t)((uint64_t)jitter * stride >> 32);

        for (size_t j = 0; j < 16; j++)
            l.source[16 * at + j] = 1 + (float)j + number_gauss(at + j) * 0.01f;
    }
    compare_large(&l, "misled", false);
    close_large(&l);
}

static void
compare_decoded(large *l, const char *text)
{
    gp_codec_context context = {.seed = 1, .tensor = 3, .size = 1};
    void *space = gp_alloc_aligned(gp_pipeline_workspace(l->pipeline, COUNT));
    uint32_t *status = pinned(l, sizeof(*status));
    gp_coder_part part = {.context = context,
                          .count = COUNT,
                          .target = l->source,
                          .bytes = l->bytes,
                          .length = (size_t)*l->encoded,
                          .status = status};

    check(gp_coder_decode(l->coder, &part, 1, false, NULL));
    check(l->device->ops->synchronize(l->device));
    check(gp_pipeline_decode(l->pipeline, &context, l->bytes, part.length,
                             l->expected, COUNT, space));
    assert_int_equal(*status, 0);
    expect_floats(l->source, l->expected, COUNT, text, "decoded", 0);
    l->device->ops->free_pinned(l->device, status);
    free(space);
}

static void
entropy_codes(void **state)
{
    static const char *const texts[] = {"uq:c=0.0625",
                                        "uq:c=1,round=stochastic"};

    (void)state;
    for (size_t t = 0; t < GP_COUNT_OF(texts); t++) {
        large l = open_large(texts[t]);

        for (size_t i = 0; i < COUNT; i++) {
            l.source[i] = number_gauss(i) * (i % 999 ? 1 : 50);
            l.residual[i] = 0.1f * number_gauss(i + COUNT);
        }
        memset(l.source + 40960, 0, 4 * 8192);
        memset(l.residual + 40960, 0, 4 * 8192);
        compare_large(&l, texts[t], t == 0);
        compare_decoded(&l, texts[t]);
        close_large(&l);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(normal_numbers),
        cmocka_unit_test(all_of_one_magnitude),
        cmocka_unit_test(samples_that_mislead),
        cmocka_unit_test(entropy_codes),
    };

    choose_driver();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
