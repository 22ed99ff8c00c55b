/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_updater_registry.c - updaters of other projects: what a table must be,
 * and that a text finds it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "shard/updater.h"

static const gp_updater_param params[] = {
    {"lr", 0.5, 0, 10, 0, "learning rate"},
    {"bits", 3, 1, 8, 1, "a whole number"},
    {NULL, 0, 0, 0, 0, NULL},
};
static const char *const arrays[] = {"first", "second", NULL};
static int opened;

static gp_status
open_one(const double *values, void **instance)
{
    if (values[1] == 7)
        return GP_ERR_NO_MEMORY;
    opened++;
    *instance = &opened;
    return GP_OK;
}

static void
close_one(void *instance)
{
    assert_ptr_equal(instance, &opened);
    opened--;
}

static const char *
check(const double *values)
{
    return values[1] == 8 ? "bits 8 are too many" : NULL;
}

static uint32_t
arrays_of(const double *values)
{
    return values[1] > 3 ? UINT32_MAX : 1u << 1;
}

static void
apply(void *instance, const gp_updater_step *step, const float *gradient,
      float *parameters, float *const *state, size_t count)
{
    assert_ptr_equal(instance, &opened);
    assert_true(step->values[1] == 3 && !state[0] && !state[2]);
    for (size_t i = 0; i < count; i++) {
        state[1][i] += gradient[i];
        parameters[i] -= (float)step->lr * state[1][i];
    }
}

static const gp_updater_ops table = {
    .abi = GP_UPDATER_ABI,
    .name = "own-one",
    .text = "for this test",
    .params = params,
    .arrays = arrays,
    .check = check,
    .arrays_of = arrays_of,
    .open = open_one,
    .close = close_one,
    .apply = apply,
};

static void
refused(const gp_updater_ops *ops, gp_status status, const char *message)
{
    assert_int_equal(gp_updater_register(ops), status);
    if (!strstr(gp_last_error(), message))
        fail_msg("%s", gp_last_error());
}

static void
tables_are_checked(void **state)
{
    static const gp_updater_param no_name[] = {{"A", 0, 0, 0, 0, ""}, {0}};
    static const gp_updater_param key[] = {{"clip", 0, 0, 0, 0, ""}, {0}};
    static const gp_updater_param range[] = {{"a", 2, 0, 1, 0, ""}, {0}};
    static const gp_updater_param twice[] = {
        {"a", 0, 0, 1, 0, ""}, {"a", 0, 0, 1, 0, ""}, {0}};
    static const char *const taken[] = {"residual", NULL};
    static const char *const exact[] = {"parameters", NULL};
    static const char *const same[] = {"a", "a", NULL};
    static const char *const many[] = {"a", "b", "c", "d", "e", NULL};
    static const char *const big[] = {"Exp", NULL};
    gp_updater_param crowd[GP_UPDATER_PARAMS + 2] = {{0}};
    char names[GP_UPDATER_PARAMS + 1][2];
    gp_updater_ops t = table;

    (void)state;
    refused(NULL, GP_ERR_INVALID, "the table is NULL");
    t.abi++;
    refused(&t, GP_ERR_VERSION, "interface version 2, this library 1");
#define REFUSED(member, value, message) \
    t = table;                          \
    t.member = value;                   \
    refused(&t, GP_ERR_INVALID, message)
    REFUSED(name, NULL, "name is not");
    REFUSED(name, "Own", "name is not");
    REFUSED(name, "a-name-of-more-than-thirty-one-b", "name is not");
    REFUSED(text, NULL, "text is missing");
    REFUSED(apply, NULL, "apply is missing");
    REFUSED(open, NULL, "close without open");
    REFUSED(params, no_name, "a name is not");
    REFUSED(params, key, "that all updaters take");
    REFUSED(params, range, "a default lies outside");
    REFUSED(params, twice, "a name occurs twice");
    REFUSED(arrays, taken, "a name is taken");
    REFUSED(arrays, exact, "a name is taken");
    REFUSED(arrays, same, "a name is taken");
    REFUSED(arrays, many, "more than 4");
    REFUSED(arrays, big, "a name is not");
    for (int i = 0; i <= GP_UPDATER_PARAMS; i++) {
        names[i][0] = (char)('a' + i);
        names[i][1] = '\0';
        crowd[i] = (gp_updater_param){names[i], 0, 0, 0, 0, ""};
    }
    REFUSED(params, crowd, "more than 16");
    t = table;
    t.name = "adam";
    refused(&t, GP_ERR_EXISTS, "updater 'adam' exists");
}

static void
texts_find_what_is_registered(void **state)
{
    gp_updater u;
    gp_updater_step step = {.number = 1};
    float gradient[] = {1, 2}, value[] = {1, 1}, memory[2] = {0};
    float *has[GP_UPDATER_ARRAYS] = {NULL, memory};
    char text[GP_UPDATER_TEXT];

    (void)state;
    assert_int_equal(gp_updater_check("own-one"), GP_ERR_CONFIG);
    assert_int_equal(gp_updater_register(&table), GP_OK);
    assert_int_equal(gp_updater_register(&table), GP_ERR_EXISTS);
    assert_int_equal(gp_updater_check("own-one"), GP_OK);
    assert_int_equal(gp_updater_check(NULL), GP_ERR_CONFIG);
    assert_int_equal(gp_updater_check("own-one:bits=8"), GP_ERR_CONFIG);
    assert_non_null(strstr(gp_last_error(), "bits 8 are too many"));
    assert_int_equal(gp_updater_check("own-one:bits=2.5"), GP_ERR_CONFIG);
    assert_int_equal(gp_updater_check("own-one:lr=11"), GP_ERR_CONFIG);
    assert_int_equal(gp_updater_parse("own-one:lr=2,warmup=2", &u), GP_OK);
    gp_updater_print(&u, text, sizeof(text));
    assert_string_equal(text, "own-one:lr=2,bits=3,warmup=2");
    assert_string_equal(gp_updater_array(&u, 0), "second");
    assert_null(gp_updater_array(&u, 1));
    assert_int_equal(gp_updater_open(&u), GP_OK);
    assert_int_equal(opened, 1);
    gp_updater_apply(&u, &step, gradient, value, has, 2);
    assert_true(value[0] == 0 && value[1] == -1);
    gp_updater_close(&u);
    gp_updater_close(&u);
    assert_int_equal(opened, 0);
    assert_int_equal(gp_updater_parse("own-one:bits=5", &u), GP_OK);
    assert_string_equal(gp_updater_array(&u, 1), "second");
    assert_null(gp_updater_array(&u, 2));
    assert_int_equal(gp_updater_parse("own-one:bits=7", &u), GP_OK);
    assert_int_equal(gp_updater_open(&u), GP_ERR_NO_MEMORY);
}

static void
all_can_be_listed(void **state)
{
    size_t count = 0;

    (void)state;
    assert_string_equal(gp_updater_at(0)->name, "sum");
    assert_null(gp_updater_at(0)->apply);
    for (const gp_updater_ops *ops; (ops = gp_updater_at(count)); count++) {
        assert_non_null(ops->text);
        assert_int_equal(gp_updater_check(ops->name), GP_OK);
    }
    assert_int_equal(count, 9);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_are_checked),
        cmocka_unit_test(texts_find_what_is_registered),
        cmocka_unit_test(all_can_be_listed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
