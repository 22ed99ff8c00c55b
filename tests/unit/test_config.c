/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_config.c - the configuration object and its sources.
 *
 * Every test starts without any GRADPUSH_ or NCCL_ variable.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"
#include "base/config_parse.h"
#include "base/config_value.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

static char warning[512];
static int warnings;
static char file_path[64];

static void
take_warning(void *user, gp_log_level level, const char *line)
{
    (void)user;
    (void)level;
    warnings++;
    snprintf(warning, sizeof(warning), "%s", line);
}

static int
start(void **state)
{
    (void)state;
    for (char **entry = environ; *entry;) {
        char name[128];

        snprintf(name, sizeof(name), "%.*s", (int)strcspn(*entry, "="), *entry);
        if ((!strncmp(name, "GRADPUSH_", 9) || !strncmp(name, "NCCL_", 5)) &&
            !unsetenv(name))
            entry = environ;
        else
            entry++;
    }
    warnings = 0;
    warning[0] = '\0';
    gp_log_set_level(GP_LOG_WARN);
    gp_log_set_callback(take_warning, NULL);
    return 0;
}

static int
stop(void **state)
{
    (void)state;
    gp_log_set_callback(NULL, NULL);
    if (*file_path)
        unlink(file_path);
    file_path[0] = '\0';
    return 0;
}

/* A configuration file that GRADPUSH_CONFIG names until the test ends. */
static void
use_file(const char *text, size_t length)
{
    int fd;

    strcpy(file_path, "/tmp/gp_test_config_XXXXXX");
    fd = mkstemp(file_path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, length), length);
    close(fd);
    setenv("GRADPUSH_CONFIG", file_path, 1);
}

static gp_config *
create(void)
{
    gp_config *config = NULL;

    if (gp_config_create(&config) != GP_OK)
        fail_msg("%s", gp_last_error());
    return config;
}

static void
assert_create_fails(const char *message)
{
    gp_config *config = (gp_config *)8; /* must be left alone */

    assert_int_equal(gp_config_create(&config), GP_ERR_CONFIG);
    assert_ptr_equal(config, (gp_config *)8);
    if (!strstr(gp_last_error(), message))
        fail_msg("'%s' is not in '%s'", message, gp_last_error());
}

static void
assert_field(const gp_config *config, const char *name, const char *value,
             const char *origin)
{
    assert_string_equal(gp_config_get(config, name), value);
    assert_string_equal(gp_config_origin(config, name), origin);
}

static void
the_table_is_sound(void **state)
{
    const gp_config_field *fields = gp_config_fields();

    (void)state;
    for (const gp_config_field *f = fields; f->name; f++) {
        assert_int_equal(strspn(f->name, "abcdefghijklmnopqrstuvwxyz_"),
                         strlen(f->name));
        assert_true(gp_value_valid(f, f->value));
        assert_true(strlen(f->text) > 10);
        assert_int_equal(f->type == GP_CONFIG_ENUM, f->choices != NULL);
        for (const gp_config_field *other = fields; other < f; other++)
            assert_string_not_equal(f->name, other->name);
    }
}

static void
fields_start_with_their_defaults(void **state)
{
    gp_config *config = create();

    (void)state;
    for (const gp_config_field *f = gp_config_fields(); f->name; f++)
        assert_field(config, f->name, f->value, "default");
    assert_int_equal(warnings, 0);
    assert_null(gp_config_get(config, "nonsense"));
    assert_null(gp_config_origin(config, "nonsense"));
    gp_config_destroy(config);
    gp_config_destroy(NULL);
}

static void
later_sources_win(void **state)
{
    const char text[] = "slots = 2\nsockets = 2\ncodec = fp16\n";
    gp_config *config;

    (void)state;
    use_file(text, strlen(text));
    setenv("GRADPUSH_SLOTS", "3", 1);
    setenv("GRADPUSH_SOCKETS", "3", 1);
    config = create();
    assert_int_equal(gp_config_set(config, "slots", "4"), GP_OK);
    assert_field(config, "slots", "4", "set");
    assert_field(config, "sockets", "3", "environment");
    assert_field(config, "codec", "fp16", "file");
    assert_field(config, "pull_codec", "none", "default");
    assert_field(config, "config", file_path, "environment");
    gp_config_destroy(config);
}

static void
variables_of_nccl_stand_in(void **state)
{
    const char text[] = "ib_hca = rxe0\nib_timeout = 20\nib_retries = 3\n";
    gp_config *config;

    (void)state;
    use_file(text, sizeof(text) - 1);
    setenv("NCCL_IB_HCA", "=mlx5_0:1,mlx5_2", 1);
    setenv("NCCL_IB_TC", "106", 1);
    setenv("NCCL_IB_RETRY_CNT", "", 1);
    setenv("NCCL_IB_TIMEOUT", "lots", 1); /* not looked at */
    setenv("GRADPUSH_IB_TIMEOUT", "22", 1);
    setenv("NCCL_DEBUG", "INFO", 1);
    config = create();
    assert_field(config, "ib_hca", "=mlx5_0:1,mlx5_2", "NCCL_IB_HCA");
    assert_field(config, "ib_traffic_class", "106", "NCCL_IB_TC");
    assert_field(config, "ib_retries", "3", "file");
    assert_field(config, "ib_timeout", "22", "environment");
    assert_field(config, "ib_qps", "1", "default");
    assert_int_equal(gp_config_set(config, "ib_hca", "mlx5_7"), GP_OK);
    assert_field(config, "ib_hca", "mlx5_7", "set");
    assert_int_equal(warnings, 0);
    gp_config_destroy(config);
    assert_string_equal(gp_config_alias("ib_qps"),
                        "NCCL_IB_QPS_PER_CONNECTION");
    assert_null(gp_config_alias("slots"));
    assert_null(gp_config_alias("nonsense"));
}

static void
a_bad_variable_of_nccl_is_named(void **state)
{
    (void)state;
    setenv("NCCL_IB_QPS_PER_CONNECTION", "17", 1);
    assert_create_fails("NCCL_IB_QPS_PER_CONNECTION is '17': takes a whole "
                        "number from 1 to 16");
    setenv("GRADPUSH_IB_QPS", "18", 1);
    assert_create_fails("GRADPUSH_IB_QPS is '18'");
}

static void
fields_are_read_by_type(void **state)
{
    gp_config *config = create();

    (void)state;
    assert_int_equal(gp_config_int(config, "rank"), -1);
    assert_int_equal(gp_config_size(config, "chunk_bytes"), 512 << 10);
    assert_true(gp_config_seconds(config, "spin") == 50e-6);
    assert_int_equal(gp_config_set(config, "seed", "9007199254740991"), GP_OK);
    assert_true(gp_config_int(config, "seed") == 9007199254740991);
    gp_config_destroy(config);
}

static const gp_config_field int_field = {
    .name = "i", .type = GP_CONFIG_INT, .minimum = -5, .maximum = 100};
static const gp_config_field size_field = {.name = "s",
                                           .type = GP_CONFIG_SIZE,
                                           .minimum = 16,
                                           .maximum = 4294967296.0};
static const gp_config_field seconds_field = {
    .name = "t", .type = GP_CONFIG_SECONDS, .maximum = 86400};
static const gp_config_field bool_field = {.name = "b", .type = GP_CONFIG_BOOL};
static const gp_config_field enum_field = {
    .name = "e", .type = GP_CONFIG_ENUM, .choices = "auto|on|off"};

static void
good_texts_are_accepted(void **state)
{
    int64_t i;
    uint64_t s;
    double t;
    int b;

    (void)state;
    assert_true(gp_value_int(&int_field, "-5", &i) && i == -5);
    assert_true(gp_value_int(&int_field, "100", &i) && i == 100);
    assert_true(gp_value_int(&int_field, "007", &i) && i == 7);
    assert_true(gp_value_size(&size_field, "16", &s) && s == 16);
    assert_true(gp_value_size(&size_field, "1K", &s) && s == 1024);
    assert_true(gp_value_size(&size_field, "3m", &s) && s == 3u << 20);
    assert_true(gp_value_size(&size_field, "4G", &s) && s == 4ull << 30);
    assert_true(gp_value_seconds(&seconds_field, "2", &t) && t == 2);
    assert_true(gp_value_seconds(&seconds_field, "0.25s", &t) && t == 0.25);
    assert_true(gp_value_seconds(&seconds_field, "1.5ms", &t) && t == 1.5e-3);
    assert_true(gp_value_seconds(&seconds_field, "7us", &t) && t == 7e-6);
    assert_true(gp_value_seconds(&seconds_field, "2m", &t) && t == 120);
    assert_true(gp_value_bool("Yes", &b) && b == 1);
    assert_true(gp_value_bool("off", &b) && b == 0);
    assert_true(gp_value_valid(&enum_field, "off"));
}

static void
bad_texts_are_refused(void **state)
{
    static const struct {
        const gp_config_field *field;
        const char *text;
    } cases[] = {
        {&int_field, ""},
        {&int_field, "-"},
        {&int_field, "-6"},
        {&int_field, "101"},
        {&int_field, "+1"},
        {&int_field, " 1"},
        {&int_field, "1 "},
        {&int_field, "1.0"},
        {&int_field, "0x10"},
        {&int_field, "99999999999999999999999"},
        {&int_field, "-9223372036854775808"},
        {&size_field, "K"},
        {&size_field, "15"},
        {&size_field, "-1"},
        {&size_field, "1KB"},
        {&size_field, "1T"},
        {&size_field, "1\x0b"},
        {&size_field, "1."},
        {&size_field, "5G"},
        {&size_field, "18014398509481984K"},
        {&seconds_field, ""},
        {&seconds_field, "s"},
        {&seconds_field, "-1"},
        {&seconds_field, "1."},
        {&seconds_field, ".5"},
        {&seconds_field, "1,5"},
        {&seconds_field, "1e3"},
        {&seconds_field, "1 s"},
        {&seconds_field, "1d"},
        {&seconds_field, "nan"},
        {&seconds_field, "inf"},
        {&seconds_field, "86401"},
        {&seconds_field, "1.0000000001"},
        {&bool_field, ""},
        {&bool_field, "2"},
        {&enum_field, ""},
        {&enum_field, "auto|on"},
        {&enum_field, "ON"},
        {&enum_field, "of"},
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(cases); i++)
        if (gp_value_valid(cases[i].field, cases[i].text))
            fail_msg("field '%s' takes '%s'", cases[i].field->name,
                     cases[i].text);
}

static void
a_bad_value_says_what_the_variable_takes(void **state)
{
    static const struct {
        const char *variable, *value, *message;
    } cases[] = {
        {"GRADPUSH_CHUNK_BYTES", "lots",
         "GRADPUSH_CHUNK_BYTES is 'lots': takes a size from 16K to 64M, such "
         "as 256K"},
        {"GRADPUSH_CHUNK_BYTES", "8K", "GRADPUSH_CHUNK_BYTES is '8K': takes"},
        {"GRADPUSH_SLOTS", "65",
         "GRADPUSH_SLOTS is '65': takes a whole number from 1 to 64"},
        {"GRADPUSH_SLOTS", "", "GRADPUSH_SLOTS is '': takes a whole number"},
        {"GRADPUSH_TIMEOUT", "0",
         "GRADPUSH_TIMEOUT is '0': takes a time from 1ms to 86400s, such as "
         "60s"},
        {"GRADPUSH_LOG", "debgu",
         "GRADPUSH_LOG is 'debgu': takes one of "
         "none|error|warn|info|debug|trace; did you mean 'debug'?"},
        {"GRADPUSH_COLOCATED", "sometimes",
         "GRADPUSH_COLOCATED is 'sometimes': takes one of auto|on|off"},
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(cases); i++) {
        setenv(cases[i].variable, cases[i].value, 1);
        assert_create_fails(cases[i].message);
        unsetenv(cases[i].variable);
    }
}

static void
unknown_variables_are_named_once(void **state)
{
    (void)state;
    setenv("GRADPUSH_CHUNKBYTES", "1M", 1);
    gp_config_destroy(create());
    assert_int_equal(warnings, 1);
    assert_non_null(strstr(warning, "GRADPUSH_CHUNKBYTES is no variable"));
    assert_non_null(strstr(warning, "did you mean GRADPUSH_CHUNK_BYTES?"));
    gp_config_destroy(create());
    assert_int_equal(warnings, 1);

    setenv("GRADPUSH_XYZZYXYZZY", "1", 1);
    gp_config_destroy(create());
    assert_int_equal(warnings, 2);
    assert_non_null(strstr(warning, "GRADPUSH_XYZZYXYZZY"));
    assert_null(strstr(warning, "did you mean"));

    setenv("GRADPUSH_rank", "1", 1); /* variables are upper case */
    gp_config_destroy(create());
    assert_int_equal(warnings, 3);
    assert_non_null(strstr(warning, "did you mean GRADPUSH_RANK?"));
}

static void
variables_of_launchers_are_known(void **state)
{
    (void)state;
    setenv("GRADPUSH_LOCAL_RANK", "1", 1);
    setenv("GRADPUSHER", "1", 1); /* not ours */
    gp_config_destroy(create());
    assert_int_equal(warnings, 0);
    unsetenv("GRADPUSHER");
}

static void
a_file_has_comments_spaces_and_any_line_end(void **state)
{
    const char text[] = "# a comment\r\n"
                        "\n"
                        "  codec=q8+lz4   # trailing\r\n"
                        "\ttoken = a#b=c \n"
                        "job =\n"
                        "slots = 1\n"
                        "slots = 5";
    gp_config *config;

    (void)state;
    use_file(text, strlen(text));
    config = create();
    assert_field(config, "codec", "q8+lz4", "file");
    assert_field(config, "token", "a#b=c", "file");
    assert_field(config, "job", "", "file");
    assert_field(config, "slots", "5", "file");
    gp_config_destroy(config);
}

static void
a_bad_line_is_named(void **state)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"slots = 3\n\nslots = many\n",
         ":3: slots is 'many': takes a whole number from 1 to 64"},
        {"slot = 3", ":1: no field 'slot'; did you mean 'slots'?"},
        {"xyzzyxyzzy = 3", ":1: no field 'xyzzyxyzzy'"},
        {"= 3", ":1: no field ''"},
        {"slots\n", ":1: not of the form 'name = value'"},
        {"config = other\n", ":1: a file cannot name another"},
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(cases); i++) {
        char expected[256];

        use_file(cases[i].text, strlen(cases[i].text));
        snprintf(expected, sizeof(expected), "%s%s", file_path,
                 cases[i].message);
        assert_create_fails(expected);
        unlink(file_path);
    }
}

static void
files_that_are_not_text_are_refused(void **state)
{
    char *big = malloc(100000);

    (void)state;
    assert_non_null(big);
    use_file("slots\0= 3", 9);
    assert_create_fails(":1: not text");
    unlink(file_path);
    memset(big, 'a', 100000);
    use_file(big, 60000);
    assert_create_fails(":1: longer than");
    unlink(file_path);
    memset(big, '\n', 100000);
    use_file(big, 100000);
    assert_create_fails("larger than 65536 bytes");
    free(big);
    setenv("GRADPUSH_CONFIG", "/nonexistent/gradpush.conf", 1);
    assert_create_fails("GRADPUSH_CONFIG is '/nonexistent/gradpush.conf': No "
                        "such file");
    setenv("GRADPUSH_CONFIG", "/", 1);
    assert_create_fails("Is a directory");
}

static void
secrets_stay_out_of_messages(void **state)
{
    static const char secret[] = "hunter2hunter2";
    char *value = malloc(6000);

    (void)state;
    assert_non_null(value);
    for (size_t i = 0; i < 5999; i++)
        value[i] = secret[i % (sizeof(secret) - 1)];
    value[5999] = '\0';
    setenv("GRADPUSH_TOKEN", value, 1);
    assert_create_fails(
        "GRADPUSH_TOKEN has a bad value: takes text of at most");
    assert_null(strstr(gp_last_error(), "hunter"));
    free(value);
    unsetenv("GRADPUSH_TOKEN");
    use_file("token hunter2\n", 14);
    assert_create_fails(":1: not of the form");
    assert_null(strstr(gp_last_error(), "hunter"));
}

static void
set_names_the_field_that_was_meant(void **state)
{
    gp_config *config = create();

    (void)state;
    assert_int_equal(gp_config_set(config, "chunk_byte", "1M"),
                     GP_ERR_NOT_FOUND);
    assert_string_equal(gp_last_error(),
                        "no field 'chunk_byte'; did you mean 'chunk_bytes'?");
    assert_int_equal(gp_config_set(config, "xyzzyxyzzy", "1"),
                     GP_ERR_NOT_FOUND);
    assert_int_equal(gp_config_set(config, "slots", "x"), GP_ERR_CONFIG);
    assert_int_equal(gp_config_set(config, "config", "x"), GP_ERR_CONFIG);
    assert_int_equal(gp_config_set(config, "slots", NULL), GP_ERR_INVALID);
    assert_int_equal(gp_config_set(NULL, "slots", "1"), GP_ERR_INVALID);
    assert_int_equal(gp_config_create(NULL), GP_ERR_INVALID);
    assert_field(config, "slots", "4", "default");
    gp_config_destroy(config);
}

static void
a_copy_stands_alone(void **state)
{
    gp_config *config, *copy;

    (void)state;
    setenv("GRADPUSH_CODEC", "q8", 1);
    config = create();
    assert_int_equal(gp_config_set(config, "slots", "4"), GP_OK);
    assert_int_equal(gp_config_copy(config, &copy), GP_OK);
    assert_int_equal(gp_config_set(config, "slots", "5"), GP_OK);
    gp_config_destroy(config);
    assert_field(copy, "slots", "4", "set");
    assert_field(copy, "codec", "q8", "environment");
    assert_field(copy, "job", "gradpush", "default");
    gp_config_destroy(copy);
}

static void
nearest_means_near(void **state)
{
    static const char *const words[] = {"tcp", "loop", "verbs", NULL, "verb"};
    static const struct {
        const char *text, *word;
    } cases[] = {
        {"vrebs", "verbs"}, {"TCP", "tcp"}, {"tpc", "tcp"}, {"lop", "loop"},
        {"rdma", NULL},     {"", NULL},     {"xyz", NULL},  {"verb", "verb"},
    };
    char text[200];
    const char *found = "old";

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(cases); i++) {
        found = "old";
        assert_int_equal(
            gp_nearest(cases[i].text, words, GP_COUNT_OF(words), &found),
            cases[i].word != NULL);
        assert_string_equal(found, cases[i].word ? cases[i].word : "old");
    }
    memset(text, 'v', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    assert_false(gp_nearest(text, words, GP_COUNT_OF(words), &found));
    assert_false(gp_nearest("tcp", NULL, 0, &found));
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, start, stop)
    const struct CMUnitTest tests[] = {
        TEST(the_table_is_sound),
        TEST(fields_start_with_their_defaults),
        TEST(later_sources_win),
        TEST(variables_of_nccl_stand_in),
        TEST(a_bad_variable_of_nccl_is_named),
        TEST(fields_are_read_by_type),
        TEST(good_texts_are_accepted),
        TEST(bad_texts_are_refused),
        TEST(a_bad_value_says_what_the_variable_takes),
        TEST(unknown_variables_are_named_once),
        TEST(variables_of_launchers_are_known),
        TEST(a_file_has_comments_spaces_and_any_line_end),
        TEST(a_bad_line_is_named),
        TEST(files_that_are_not_text_are_refused),
        TEST(secrets_stay_out_of_messages),
        TEST(set_names_the_field_that_was_meant),
        TEST(a_copy_stands_alone),
        TEST(nearest_means_near),
    };
#undef TEST

    return cmocka_run_group_tests(tests, NULL, NULL);
}
