/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_pipeline.c - what a pipeline does when one of its stages fails, and how
 * much workspace it asks for. The conformance suite covers the rest.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "compress/codec_internal.h"
#include "tests/conformance/codec_residual.h"

enum { COUNT = 100 };

static const gp_codec_context context = {.seed = 1};
static gp_status array_says, bytes_says;

static size_t
plain_bound(const void *instance, size_t count)
{
    return gp_codec_none.bound(instance, count);
}

static gp_status
plain_open(const double *values, const gp_codec_shape *shape, void **instance)
{
    return gp_codec_none.open(values, shape, instance);
}

static gp_status
plain_encode(const void *instance, const gp_codec_context *c,
             const float *source, size_t count, void *out, size_t capacity,
             size_t *length)
{
    if (array_says)
        return array_says;
    return gp_codec_none.encode(instance, c, source, count, out, capacity,
                                length);
}

static gp_status
plain_decode(const void *instance, const gp_codec_context *c, const void *bytes,
             size_t length, float *target, size_t count)
{
    if (array_says)
        return array_says;
    return gp_codec_none.decode(instance, c, bytes, length, target, count);
}

/* Neither encode_feedback nor decode_add. */
static const gp_codec_ops plain = {
    .abi = GP_CODEC_ABI,
    .kind = GP_CODEC_ARRAY,
    .properties = GP_CODEC_LOSSLESS,
    .nonfinite = GP_NONFINITE_EXACT,
    .name = "plain",
    .text = "none without its shortcuts",
    .open = plain_open,
    .bound = plain_bound,
    .encode = plain_encode,
    .decode = plain_decode,
};

static size_t
echo_bound(const void *instance, size_t size)
{
    size_t bytes;

    (void)instance;
    return gp_add(size, 1, &bytes) ? bytes : SIZE_MAX;
}

static gp_status
echo_pack(const void *instance, const gp_codec_context *c, const void *source,
          size_t size, void *out, size_t capacity, size_t *length)
{
    (void)instance;
    (void)c;
    if (bytes_says)
        return bytes_says;
    if (capacity < size + 1)
        return GP_ERR_TOO_LARGE;
    memcpy(out, source, size);
    ((uint8_t *)out)[size] = 0xee;
    *length = size + 1;
    return GP_OK;
}

static gp_status
echo_unpack(const void *instance, const gp_codec_context *c, const void *bytes,
            size_t size, void *out, size_t capacity, size_t *length)
{
    (void)instance;
    (void)c;
    if (bytes_says)
        return bytes_says;
    if (size == 0 || size - 1 > capacity ||
        ((const uint8_t *)bytes)[size - 1] != 0xee)
        return GP_ERR_CORRUPT;
    memcpy(out, bytes, size - 1);
    *length = size - 1;
    return GP_OK;
}

static const gp_codec_ops echo_stage = {
    .abi = GP_CODEC_ABI,
    .kind = GP_CODEC_BYTES,
    .properties = GP_CODEC_FIXED_RATE,
    .name = "echo",
    .text = "one byte more",
    .bound = echo_bound,
    .pack = echo_pack,
    .unpack = echo_unpack,
};

static int
set_up(void **state)
{
    (void)state;
    return gp_codec_register(&plain) || gp_codec_register(&echo_stage);
}

typedef struct fixture {
    gp_pipeline *pipeline;
    float source[COUNT], residual[COUNT], target[COUNT];
    uint8_t bytes[8 * COUNT];
    size_t length;
    void *workspace;
} fixture;

static void
open_fixture(fixture *f, const char *text)
{
    array_says = bytes_says = GP_OK;
    assert_int_equal(gp_pipeline_parse(text, &f->pipeline), GP_OK);
    f->workspace =
        gp_alloc_aligned(gp_pipeline_workspace(f->pipeline, COUNT) + 64);
    assert_non_null(f->workspace);
    for (size_t i = 0; i < COUNT; i++) {
        f->source[i] = (float)i;
        f->residual[i] = 0.25f;
        f->target[i] = 3;
    }
    f->length = 4321;
}

static void
close_fixture(fixture *f)
{
    gp_pipeline_destroy(f->pipeline);
    free(f->workspace);
}

static gp_status
encode(fixture *f, bool feedback)
{
    return gp_encode_residual(f->pipeline, &context, f->source,
                              feedback ? f->residual : NULL, COUNT, f->bytes,
                              sizeof(f->bytes), &f->length, f->workspace);
}

static void
all_equal(const float *x, float value)
{
    for (size_t i = 0; i < COUNT; i++)
        assert_true(x[i] == value);
}

static void
a_failed_encode_keeps_the_gradient(void **state)
{
    fixture f;

    (void)state;
    open_fixture(&f, "plain+echo");
    array_says = GP_ERR_UNSUPPORTED;
    assert_int_equal(encode(&f, true), GP_ERR_UNSUPPORTED);
    assert_int_equal(f.length, 4321);
    for (size_t i = 0; i < COUNT; i++) /* which was added to the residual */
        assert_true(f.residual[i] == 0.25f + (float)i);
    assert_non_null(strstr(gp_last_error(), "plain+echo"));
    array_says = GP_OK;
    assert_int_equal(encode(&f, true), GP_OK);
    all_equal(f.residual, 0);
    bytes_says = GP_ERR_TOO_LARGE;
    f.length = 4321;
    assert_int_equal(encode(&f, false), GP_ERR_TOO_LARGE);
    assert_int_equal(f.length, 4321);
    close_fixture(&f);
}

static void
a_failed_decode_leaves_the_sum(void **state)
{
    const char *texts[] = {"plain", "plain+echo", "none+echo",
                           "plain+echo+echo+echo"};

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(texts); i++) {
        fixture f;

        open_fixture(&f, texts[i]);
        assert_int_equal(encode(&f, false), GP_OK);
        assert_int_equal(gp_pipeline_decode_add(f.pipeline, &context, f.bytes,
                                                f.length - 1, f.target, COUNT,
                                                f.workspace),
                         GP_ERR_CORRUPT);
        all_equal(f.target, 3);
        assert_non_null(strstr(gp_last_error(), texts[i]));
        assert_int_equal(gp_pipeline_decode_add(f.pipeline, &context, f.bytes,
                                                f.length, f.target, COUNT,
                                                f.workspace),
                         GP_OK);
        for (size_t j = 0; j < COUNT; j++)
            assert_true(f.target[j] == 3 + (float)j);
        close_fixture(&f);
    }
}

/* More bytes than the encoder's bound are not even looked at. */
static void
long_messages_are_refused(void **state)
{
    fixture f;

    (void)state;
    open_fixture(&f, "none+echo");
    assert_int_equal(gp_pipeline_decode(f.pipeline, &context, f.bytes, SIZE_MAX,
                                        f.target, COUNT, f.workspace),
                     GP_ERR_CORRUPT);
    close_fixture(&f);
}

static size_t
workspace_of(const char *text, size_t count)
{
    gp_pipeline *pipeline;
    size_t bytes;

    assert_int_equal(gp_pipeline_parse(text, &pipeline), GP_OK);
    bytes = gp_pipeline_workspace(pipeline, count);
    gp_pipeline_destroy(pipeline);
    return bytes;
}

static void
workspace_is_what_the_stages_need(void **state)
{
    (void)state;
    assert_int_equal(workspace_of("none", 1000), 0);
    assert_int_equal(workspace_of("q8", 1000), 0);
    assert_int_equal(workspace_of("none+echo", 16), 64);
    assert_int_equal(workspace_of("none+echo+echo", 16), 2 * 128);
    assert_int_equal(workspace_of("none+echo+echo+echo", 16), 2 * 128);
    assert_int_equal(workspace_of("plain", 16), 64);
    assert_int_equal(workspace_of("plain+echo", 16), 2 * 64);
    assert_int_equal(workspace_of("plain+echo", 0), 0);
    assert_true(workspace_of("none+echo", SIZE_MAX / 4) == SIZE_MAX);
    assert_true(workspace_of("plain", SIZE_MAX / 4) == SIZE_MAX);
    assert_true(workspace_of("plain", SIZE_MAX) == SIZE_MAX);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failed_encode_keeps_the_gradient),
        cmocka_unit_test(a_failed_decode_leaves_the_sum),
        cmocka_unit_test(long_messages_are_refused),
        cmocka_unit_test(workspace_is_what_the_stages_need),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
