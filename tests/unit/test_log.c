/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_log.c - what a log line looks like and where it goes.
 *
 * The log belongs to the process: the tests run in the order of main(), and the
 * first one sees the level that GRADPUSH_LOG gives.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What the callback has seen. */
typedef struct capture {
    char line[4096];
    gp_log_level level;
    int lines;
    int inside; /* not atomic: one call at a time is what is tested */
    bool nested, overlapped;
} capture;

static void
take(void *user, gp_log_level level, const char *line)
{
    capture *seen = user;

    seen->overlapped |= seen->inside++ != 0;
    seen->lines++;
    seen->level = level;
    snprintf(seen->line, sizeof(seen->line), "%s", line);
    if (seen->nested)
        GP_ERROR("from inside the callback");
    seen->inside--;
}

static capture seen;

static int
start(void **state)
{
    (void)state;
    memset(&seen, 0, sizeof(seen));
    gp_log_set_callback(take, &seen);
    gp_log_identity("");
    return 0;
}

static int
stop(void **state)
{
    (void)state;
    gp_log_set_callback(NULL, NULL);
    return 0;
}

static void
the_first_level_is_from_the_environment(void **state)
{
    (void)state;
    GP_DEBUG("not this");
    assert_int_equal(seen.lines, 0);
    GP_INFO("this");
    assert_int_equal(seen.lines, 1);
}

static void
levels_include_those_above(void **state)
{
    (void)state;
    for (int level = GP_LOG_NONE; level <= GP_LOG_TRACE; level++) {
        seen.lines = 0;
        gp_log_set_level((gp_log_level)level);
        GP_ERROR("e");
        GP_WARN("w");
        GP_INFO("i");
        GP_DEBUG("d");
        GP_TRACE("t");
        assert_int_equal(seen.lines, level);
    }
}

/* "gradpush [12:01:02.345] rank 3 test_log.c:80 warn: text 7" */
static void
a_line_says_when_who_where_and_what(void **state)
{
    char where[64];
    int hour, minute, second, ms, end = 0;

    (void)state;
    gp_log_set_level(GP_LOG_TRACE);
    gp_log_identity("rank 3");
    errno = EDOM;
    snprintf(where, sizeof(where), "rank 3 test_log.c:%d warn: text 7",
             __LINE__ + 1);
    GP_WARN("text %d", 7);
    assert_int_equal(errno, EDOM);
    assert_int_equal(seen.level, GP_LOG_WARN);
    assert_int_equal(sscanf(seen.line, "gradpush [%2d:%2d:%2d.%3d] %n", &hour,
                            &minute, &second, &ms, &end),
                     4);
    assert_string_equal(seen.line + end, where);
}

static void
level_names_are_those_of_the_configuration(void **state)
{
    static const char *const words[] = {"error", "warn", "info", "debug",
                                        "trace"};

    (void)state;
    gp_log_set_level(GP_LOG_TRACE);
    for (int i = 0; i < 5; i++) {
        char expected[16];

        GP_LOG((gp_log_level)(i + 1), "x");
        snprintf(expected, sizeof(expected), " %s: x", words[i]);
        assert_non_null(strstr(seen.line, expected));
    }
}

/* A peer's name or a file's content must not forge a second line. */
static void
control_characters_become_spaces(void **state)
{
    (void)state;
    GP_ERROR("a\nb\rc\x1b[31m\x7f");
    assert_int_equal(seen.lines, 1);
    assert_non_null(strstr(seen.line, "error: a b c [31m "));
}

static void
long_lines_are_cut(void **state)
{
    char text[8192];

    (void)state;
    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    GP_ERROR("%s", text);
    assert_int_equal(seen.lines, 1);
    assert_in_range(strlen(seen.line), 1000, 2047);
}

static void
a_long_identity_is_cut(void **state)
{
    (void)state;
    gp_log_identity("0123456789012345678901234567890123456789");
    GP_ERROR("x");
    assert_non_null(strstr(seen.line, " 0123456789012345678901234567890 t"));
}

static void
a_line_from_the_callback_is_dropped(void **state)
{
    (void)state;
    seen.nested = true;
    GP_ERROR("outer");
    assert_int_equal(seen.lines, 1);
    assert_non_null(strstr(seen.line, "outer"));
}

static void *
write_lines(void *user)
{
    gp_log_identity(user);
    for (int i = 0; i < 500; i++)
        GP_ERROR("line %d", i);
    return NULL;
}

static void
threads_take_turns_and_have_their_own_identity(void **state)
{
    static char names[4][8] = {"rank 0", "rank 1", "rank 2", "rank 3"};
    pthread_t threads[4];

    (void)state;
    gp_log_identity("main");
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(
            pthread_create(&threads[i], NULL, write_lines, names[i]), 0);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(seen.lines, 2000);
    assert_false(seen.overlapped);
    GP_ERROR("x");
    assert_non_null(strstr(seen.line, "] main test_log.c"));
}

/* Reads a file and removes it. */
static void
slurp(const char *path, char *out, size_t capacity)
{
    FILE *file = fopen(path, "r");

    assert_non_null(file);
    out[fread(out, 1, capacity - 1, file)] = '\0';
    fclose(file);
    unlink(path);
}

static void
without_a_callback_lines_go_to_standard_error(void **state)
{
    char path[] = "/tmp/gp_test_log_XXXXXX", text[512];
    int fd = mkstemp(path), old = dup(STDERR_FILENO);

    (void)state;
    assert_true(fd >= 0 && old >= 0);
    gp_log_set_callback(NULL, NULL);
    dup2(fd, STDERR_FILENO);
    GP_ERROR("one");
    GP_ERROR("two");
    dup2(old, STDERR_FILENO);
    close(old);
    close(fd);
    slurp(path, text, sizeof(text));
    assert_non_null(strstr(text, "error: one\ngradpush ["));
    assert_string_equal(text + strlen(text) - 5, " two\n");
}

static gp_config *
config_of(const char *name, const char *value)
{
    gp_config *config;

    assert_int_equal(gp_config_create(&config), GP_OK);
    assert_int_equal(gp_config_set(config, name, value), GP_OK);
    return config;
}

static void
a_file_takes_the_lines(void **state)
{
    char folder[] = "/tmp/gp_test_log_XXXXXX", pattern[128], path[512],
         host[256] = "", text[512];
    gp_config *config;

    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(pattern, sizeof(pattern), "%s/%%h-%%p-100%%%%.log", folder);
    assert_int_equal(gethostname(host, sizeof(host) - 1), 0);
    snprintf(path, sizeof(path), "%s/%s-%ld-100%%.log", folder, host,
             (long)getpid());
    gp_log_set_callback(NULL, NULL);
    config = config_of("log_file", pattern);
    assert_int_equal(gp_log_configure(config), GP_OK);
    GP_ERROR("to the file");
    gp_config_destroy(config);

    /* A later object without a log file of its own changes nothing. */
    config = config_of("log", "info");
    assert_int_equal(gp_log_configure(config), GP_OK);
    GP_INFO("again");
    gp_config_destroy(config);

    config = config_of("log_file", "");
    assert_int_equal(gp_log_configure(config), GP_OK);
    gp_config_destroy(config);
    slurp(path, text, sizeof(text));
    rmdir(folder);
    assert_non_null(strstr(text, "error: to the file\n"));
    assert_non_null(strstr(text, "info: again\n"));
}

static void
a_file_that_cannot_be_opened_is_an_error(void **state)
{
    static const struct {
        const char *pattern, *message;
    } cases[] = {
        {"/nonexistent/%p.log", "No such file or directory"},
        {"/tmp/%x.log", "%h (host), %p (process)"},
        {"/tmp/log%", "%h (host), %p (process)"},
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(cases); i++) {
        gp_config *config = config_of("log_file", cases[i].pattern);

        assert_int_equal(gp_log_configure(config), GP_ERR_CONFIG);
        assert_non_null(strstr(gp_last_error(), "log_file"));
        assert_non_null(strstr(gp_last_error(), cases[i].message));
        gp_config_destroy(config);
    }
}

/* gp_log_set_level() was called above; the environment says info. */
static void
a_set_level_outlives_an_unset_configuration(void **state)
{
    gp_config *config;

    (void)state;
    gp_log_set_level(GP_LOG_ERROR);
    assert_int_equal(gp_config_create(&config), GP_OK);
    assert_int_equal(gp_log_configure(config), GP_OK);
    GP_WARN("no");
    assert_int_equal(seen.lines, 0);
    assert_int_equal(gp_config_set(config, "log", "debug"), GP_OK);
    assert_int_equal(gp_log_configure(config), GP_OK);
    GP_DEBUG("yes");
    GP_TRACE("no");
    assert_int_equal(seen.lines, 1);
    gp_config_destroy(config);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, start, stop)
    const struct CMUnitTest tests[] = {
        TEST(the_first_level_is_from_the_environment),
        TEST(levels_include_those_above),
        TEST(a_line_says_when_who_where_and_what),
        TEST(level_names_are_those_of_the_configuration),
        TEST(control_characters_become_spaces),
        TEST(long_lines_are_cut),
        TEST(a_long_identity_is_cut),
        TEST(a_line_from_the_callback_is_dropped),
        TEST(threads_take_turns_and_have_their_own_identity),
        TEST(without_a_callback_lines_go_to_standard_error),
        TEST(a_file_takes_the_lines),
        TEST(a_file_that_cannot_be_opened_is_an_error),
        TEST(a_set_level_outlives_an_unset_configuration),
    };
#undef TEST

    setenv("GRADPUSH_LOG", "info", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
