/* SPDX-License-Identifier: Apache-2.0 */
/* test_status.c - status codes and the thread's last error. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"

#include <gradpush/version.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int code;
    const char *text;
} rows[] = {
#define ROW(name, code, text) {"GP_" #name, code, text},
    GP_STATUS_MAP(ROW)
#undef ROW
};

static void
codes_names_and_texts_are_unique(void **state)
{
    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(rows); i++)
        for (size_t j = 0; j < i; j++) {
            assert_int_not_equal(rows[i].code, rows[j].code);
            assert_string_not_equal(rows[i].name, rows[j].name);
            assert_string_not_equal(rows[i].text, rows[j].text);
        }
}

static void
every_code_has_its_name_and_text(void **state)
{
    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(rows); i++) {
        gp_status status = (gp_status)rows[i].code;

        assert_string_equal(gp_status_name(status), rows[i].name);
        assert_string_equal(gp_status_text(status), rows[i].text);
    }
}

/* The groups of status.h: callers may compare against the limits. */
static void
errors_lie_in_a_group(void **state)
{
    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(rows); i++) {
        int code = rows[i].code;
        bool is_error = !strncmp(rows[i].name, "GP_ERR_", 7);

        assert_true(code <= 0 && code > -100);
        assert_int_equal(is_error, code <= -20);
    }
}

static void
unknown_codes_are_named_so(void **state)
{
    (void)state;
    assert_string_equal(gp_status_name((gp_status)-999), "GP_UNKNOWN");
    assert_string_equal(gp_status_name((gp_status)1), "GP_UNKNOWN");
    assert_true(*gp_status_text((gp_status)-999));
}

static void
fail_stores_the_message_and_returns_the_status(void **state)
{
    (void)state;
    errno = ERANGE;
    assert_int_equal(gp_fail(GP_ERR_CONFIG, "rank %d of %s", 3, "job"),
                     GP_ERR_CONFIG);
    assert_string_equal(gp_last_error(), "rank 3 of job");
    assert_int_equal(errno, ERANGE);
}

static void
fail_errno_appends_the_reason(void **state)
{
    (void)state;
    errno = ERANGE;
    assert_int_equal(
        gp_fail_errno(GP_ERR_SYSTEM, ENOENT, "cannot open '%s'", "x"),
        GP_ERR_SYSTEM);
    assert_string_equal(gp_last_error(),
                        "cannot open 'x': No such file or directory");
    assert_int_equal(errno, ERANGE);
}

static void
a_message_may_quote_the_one_before(void **state)
{
    (void)state;
    gp_fail(GP_ERR_SYSTEM, "disk full");
    gp_fail(GP_ERR_SYSTEM, "shard 1: %s", gp_last_error());
    assert_string_equal(gp_last_error(), "shard 1: disk full");
}

static void
a_long_message_ends_in_dots(void **state)
{
    char text[4096];

    (void)state;
    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    gp_fail(GP_ERR_SYSTEM, "%s", text);
    assert_int_equal(strlen(gp_last_error()), 511);
    assert_string_equal(gp_last_error() + 508, "...");
    text[511] = '\0';
    gp_fail(GP_ERR_SYSTEM, "%s", text);
    assert_string_equal(gp_last_error(), text);
}

static void *
fail_elsewhere(void *user)
{
    bool *empty = user;

    *empty = !*gp_last_error();
    gp_fail(GP_ERR_SYSTEM, "elsewhere");
    return NULL;
}

static void
each_thread_has_its_own_message(void **state)
{
    pthread_t thread;
    bool empty = false;

    (void)state;
    gp_fail(GP_ERR_SYSTEM, "here");
    assert_int_equal(pthread_create(&thread, NULL, fail_elsewhere, &empty), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(empty);
    assert_string_equal(gp_last_error(), "here");
}

static void
version_matches_its_parts(void **state)
{
    char text[32];

    (void)state;
    snprintf(text, sizeof(text), "%d.%d.%d", GP_VERSION_MAJOR, GP_VERSION_MINOR,
             GP_VERSION_PATCH);
    assert_string_equal(gp_version(), text);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codes_names_and_texts_are_unique),
        cmocka_unit_test(every_code_has_its_name_and_text),
        cmocka_unit_test(errors_lie_in_a_group),
        cmocka_unit_test(unknown_codes_are_named_so),
        cmocka_unit_test(fail_stores_the_message_and_returns_the_status),
        cmocka_unit_test(fail_errno_appends_the_reason),
        cmocka_unit_test(a_message_may_quote_the_one_before),
        cmocka_unit_test(a_long_message_ends_in_dots),
        cmocka_unit_test(each_thread_has_its_own_message),
        cmocka_unit_test(version_matches_its_parts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
