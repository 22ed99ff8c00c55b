/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_codec_registry.c - which tables are refused and why, and that readers
 * see whole codecs while others register.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "compress/codec_internal.h"

static size_t
bound(const void *instance, size_t size)
{
    (void)instance;
    return size;
}

static gp_status
pack(const void *instance, const gp_codec_context *context, const void *source,
     size_t size, void *out, size_t capacity, size_t *length)
{
    (void)instance;
    (void)context;
    if (size > capacity)
        return GP_ERR_CORRUPT;
    memcpy(out, source, size);
    *length = size;
    return GP_OK;
}

static const gp_codec_ops sound = {
    .abi = GP_CODEC_ABI,
    .kind = GP_CODEC_BYTES,
    .name = "copy",
    .text = "copies",
    .bound = bound,
    .pack = pack,
    .unpack = pack,
};

static void
refused(const gp_codec_ops *ops, gp_status status, const char *text)
{
    assert_int_equal(gp_codec_register(ops), status);
    if (!strstr(gp_last_error(), text))
        fail_msg("'%s' does not say '%s'", gp_last_error(), text);
}

static void
incomplete_tables_are_refused(void **state)
{
    gp_codec_ops ops = sound;

    (void)state;
    refused(NULL, GP_ERR_INVALID, "NULL");
    ops.abi = 1;
    refused(&ops, GP_ERR_VERSION, "version 1");
    ops = sound, ops.name = NULL;
    refused(&ops, GP_ERR_INVALID, "name");
    ops = sound, ops.name = "Copy";
    refused(&ops, GP_ERR_INVALID, "name");
    ops = sound, ops.name = "a+b";
    refused(&ops, GP_ERR_INVALID, "name");
    ops = sound, ops.text = NULL;
    refused(&ops, GP_ERR_INVALID, "text");
    ops = sound, ops.bound = NULL;
    refused(&ops, GP_ERR_INVALID, "bound");
    ops = sound, ops.pack = NULL;
    refused(&ops, GP_ERR_INVALID, "pack");
    ops = sound, ops.unpack = NULL;
    refused(&ops, GP_ERR_INVALID, "unpack");
    ops = sound, ops.kind = GP_CODEC_ARRAY;
    refused(&ops, GP_ERR_INVALID, "nonfinite");
    ops.nonfinite = GP_NONFINITE_EXACT;
    refused(&ops, GP_ERR_INVALID, "encode");
    ops = sound, ops.kind = (gp_codec_kind)8;
    refused(&ops, GP_ERR_INVALID, "kind");
    ops.kind = GP_CODEC_MEMORY;
    refused(&ops, GP_ERR_INVALID, "kind");
    ops.kind = GP_CODEC_SELECT;
    refused(&ops, GP_ERR_INVALID, "select");
    ops.kind = GP_CODEC_INDEX;
    refused(&ops, GP_ERR_INVALID, "index_bound");
    ops.kind = GP_CODEC_TRANSFORM;
    refused(&ops, GP_ERR_INVALID, "forward");
    ops = gp_codec_q8, ops.name = "q9", ops.open = NULL;
    refused(&ops, GP_ERR_INVALID, "close");
    ops = gp_codec_q8, ops.name = "q9", ops.prepare_bytes = bound;
    refused(&ops, GP_ERR_INVALID, "prepare");
    ops = gp_codec_q8, ops.name = "q9", ops.state_count = bound;
    refused(&ops, GP_ERR_INVALID, "state_count without prepare");
    assert_null(gp_codec_find("q9"));
}

static void
bad_parameters_are_refused(void **state)
{
    gp_codec_param params[] = {{"a", 5, 0, 4, 0, "a", NULL}, {.name = NULL}};
    gp_codec_param twice[] = {{"a", 1, 0, 4, 0, "a", NULL},
                              {"a", 1, 0, 4, 0, "a", NULL},
                              {.name = NULL}};
    gp_codec_ops ops = sound;

    (void)state;
    ops.params = params;
    refused(&ops, GP_ERR_INVALID, "default");
    params[0].value = 1;
    params[0].name = "A=";
    refused(&ops, GP_ERR_INVALID, "params: a name");
    ops.params = twice;
    refused(&ops, GP_ERR_INVALID, "twice");
}

static void
names_are_taken_once(void **state)
{
    gp_codec_ops ops = sound;

    (void)state;
    ops.name = "q8";
    refused(&ops, GP_ERR_EXISTS, "q8");
    ops.name = "lz4";
    refused(&ops, GP_ERR_EXISTS, "lz4");
    ops.name = "dgc";
    refused(&ops, GP_ERR_EXISTS, "dgc");
}

static void
built_in_codecs_are_listed(void **state)
{
    size_t count = 0;

    (void)state;
    assert_string_equal(gp_codec_at(0)->name, "none");
    while (gp_codec_at(count)) {
        assert_ptr_equal(gp_codec_find(gp_codec_at(count)->name),
                         gp_codec_at(count));
        count++;
    }
    assert_true(count >= 4);
    assert_null(gp_codec_at(count + 1));
    assert_null(gp_codec_at(SIZE_MAX));
    assert_null(gp_codec_find("q"));
    assert_null(gp_codec_find(NULL));
}

enum { THREADS = 4, EACH = 25 };
static char names[THREADS][EACH][16];
static gp_codec_ops tables[THREADS][EACH];

static void *
register_some(void *argument)
{
    int t = *(int *)argument;

    for (int i = 0; i < EACH; i++) {
        snprintf(names[t][i], sizeof(names[t][i]), "copy-%d-%d", t, i);
        tables[t][i] = sound;
        tables[t][i].name = names[t][i];
        if (gp_codec_register(&tables[t][i]) ||
            gp_codec_find(names[t][i]) != &tables[t][i])
            return argument;
        for (size_t j = 0; gp_codec_at(j); j++)
            if (!gp_codec_at(j)->name)
                return argument;
    }
    return NULL;
}

static void
threads_register_at_once(void **state)
{
    pthread_t threads[THREADS];
    int numbers[THREADS];
    gp_pipeline *pipeline;

    (void)state;
    for (int t = 0; t < THREADS; t++) {
        numbers[t] = t;
        assert_int_equal(
            pthread_create(&threads[t], NULL, register_some, &numbers[t]), 0);
    }
    for (int t = 0; t < THREADS; t++) {
        void *result;

        pthread_join(threads[t], &result);
        assert_null(result);
    }
    for (int t = 0; t < THREADS; t++)
        for (int i = 0; i < EACH; i++)
            assert_ptr_equal(gp_codec_find(names[t][i]), &tables[t][i]);
    assert_int_equal(gp_pipeline_parse("q8+copy-3-7", &pipeline), GP_OK);
    gp_pipeline_destroy(pipeline);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(incomplete_tables_are_refused),
        cmocka_unit_test(bad_parameters_are_refused),
        cmocka_unit_test(names_are_taken_once),
        cmocka_unit_test(built_in_codecs_are_listed),
        cmocka_unit_test(threads_register_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
