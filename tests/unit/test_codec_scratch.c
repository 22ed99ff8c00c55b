/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_codec_scratch.c - an array stage finds its scratch in every call, in
 * those for many messages too, and the caller's contexts stay as they are.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"
#include "compress/codec_internal.h"

enum { COUNT = 300, INPUTS = 3 };

static size_t
size_of(const void *instance, size_t count)
{
    (void)instance;
    return count * sizeof(float);
}

static gp_status
encode(const void *instance, const gp_codec_context *context,
       const float *source, size_t count, void *out, size_t capacity,
       size_t *length)
{
    (void)instance;
    (void)context;
    if (capacity < size_of(NULL, count))
        return GP_ERR_TOO_LARGE;
    memcpy(out, source, size_of(NULL, count));
    *length = size_of(NULL, count);
    return GP_OK;
}

static gp_status
decode(const void *instance, const gp_codec_context *context, const void *bytes,
       size_t length, float *target, size_t count)
{
    (void)instance;
    (void)context;
    if (length != size_of(NULL, count))
        return GP_ERR_CORRUPT;
    memcpy(target, bytes, length);
    return GP_OK;
}

/* Adds up in the scratch of the first message; all must have one. */
static gp_status
add_up(const gp_codec_input *input, size_t inputs, void *out, size_t count)
{
    float *sum = input[0].context->scratch;

    for (size_t i = 0; i < inputs; i++)
        if (!input[i].context->scratch ||
            (uintptr_t)input[i].context->scratch % 64)
            return GP_ERR_CORRUPT;
    memset(sum, 0, size_of(NULL, count));
    for (size_t i = 0; i < inputs; i++)
        for (size_t k = 0; k < count; k++)
            sum[k] += ((const float *)input[i].bytes)[k];
    memcpy(out, sum, size_of(NULL, count));
    return GP_OK;
}

static gp_status
fold(const void *instance, const gp_codec_input *input, size_t inputs, int add,
     float *target, size_t count)
{
    (void)instance;
    assert_false(add);
    return add_up(input, inputs, target, count);
}

static gp_status
aggregate(const void *instance, const gp_codec_input *input, size_t inputs,
          size_t count, void *out, size_t capacity, size_t *length)
{
    (void)instance;
    assert_true(capacity >= size_of(NULL, count));
    *length = size_of(NULL, count);
    return add_up(input, inputs, out, count);
}

static const gp_codec_ops scribbler = {
    .abi = GP_CODEC_ABI,
    .kind = GP_CODEC_ARRAY,
    .nonfinite = GP_NONFINITE_EXACT,
    .name = "scribbler",
    .text = "adds up in its scratch",
    .bound = size_of,
    .scratch = size_of,
    .encode = encode,
    .decode = decode,
    .fold = fold,
    .aggregate = aggregate,
};

static void
many_messages_share_it(void **state)
{
    gp_codec_context context[INPUTS] = {{.size = INPUTS}};
    float values[INPUTS][COUNT], sum[COUNT], folded[COUNT] = {0};
    gp_codec_input input[INPUTS];
    gp_pipeline *p;
    size_t length;
    void *work;

    (void)state;
    assert_int_equal(gp_codec_register(&scribbler), GP_OK);
    assert_int_equal(gp_pipeline_parse("scribbler", &p), GP_OK);
    work = gp_alloc_aligned(gp_pipeline_workspace(p, COUNT));
    assert_non_null(work);
    for (size_t i = 0; i < INPUTS; i++) {
        for (size_t k = 0; k < COUNT; k++)
            values[i][k] = (float)(k * (i + 1));
        input[i] = (gp_codec_input){&context[i], values[i], sizeof(values[i])};
    }
    assert_int_equal(gp_pipeline_fold(p, input, INPUTS, 0, folded, COUNT, work),
                     GP_OK);
    assert_int_equal(gp_pipeline_aggregate(p, input, INPUTS, COUNT, sum,
                                           sizeof(sum), &length, work),
                     GP_OK);
    for (size_t k = 0; k < COUNT; k++)
        assert_true(folded[k] == (float)(6 * k) && sum[k] == folded[k]);
    assert_null(context[0].scratch);
    free(work);
    gp_pipeline_destroy(p);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_messages_share_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
