/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_experiment.c - the lines of an experiment, and that it changes nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <gradpush/transport.h>

#include "base/base.h"
#include "job_harness.h"

enum { COUNT = 30000, STEPS = 5 };

static char path[64];
static uint32_t crc[2]; /* of rank 0's results, without and with */

static gp_tensor *
add(gp_worker *w, const char *name, const char *codec, gp_dtype dtype)
{
    gp_tensor_options o = GP_TENSOR_INIT;
    gp_tensor *t;

    o.name = name;
    o.dtype = dtype;
    o.count = COUNT;
    o.codec = codec;
    o.pull_codec = "none";
    o.updater = "mean";
    job_check(gp_tensor_register(w, &o, &t));
    return t;
}

static void
body(job *j, gp_worker *w, uint32_t rank)
{
    gp_tensor *lossy =
        add(w, "a \"quoted\" name", "q4:round=stochastic", GP_FP32);
    gp_tensor *exact = add(w, "exact", "shuffle", GP_FP32);
    gp_tensor *half = add(w, "half", "q8", GP_BF16);
    gp_tensor *dense = add(w, "dense", "none", GP_FP32);
    gp_tensor *tensors[] = {lossy, exact, half, dense};
    float *data = malloc(COUNT * sizeof(float));
    uint32_t sum = 0;

    for (uint64_t step = 0; step < STEPS; step++)
        for (uint32_t i = 0; i < 4; i++) {
            gp_request *r;
            uint16_t *as_half = (void *)data;

            for (uint64_t k = 0; k < COUNT; k++)
                if (i == 2)
                    as_half[k] = (uint16_t)(0x3f00 + (k * 7 + rank) % 128);
                else
                    data[k] = job_value(rank, i, step, k);
            job_check(gp_push_pull(tensors[i], data, data, &r));
            job_check(gp_wait(&r, -1));
            sum = gp_crc32c(sum, data, COUNT * (i == 2 ? 2 : 4));
        }
    if (rank == 0)
        crc[j->data != NULL] = sum;
    free(data);
}

static double
number(const char *line, const char *name)
{
    char key[64];
    const char *at;

    snprintf(key, sizeof(key), "\"%s\":", name);
    at = strstr(line, key);
    assert_non_null(at);
    return strtod(at + strlen(key), NULL);
}

static void
check_line(const char *line)
{
    double nmse = number(line, "nmse");

    if (strstr(line, "\"tensor\":\"exact\"")) {
        assert_true(nmse == 0);
        assert_true(number(line, "cosine") > 0.9999999);
        assert_non_null(strstr(line, "\"residual_norm\":null"));
    } else if (strstr(line, "\"tensor\":\"a \\\"quoted\\\" name\"")) {
        assert_true(nmse > 1e-3 && nmse < 0.1);
        assert_true(number(line, "bits_per_element") > 5 &&
                    number(line, "bits_per_element") < 5.2);
        assert_non_null(strstr(line, "\"codec\":\"q4:block=32,"));
    } else {
        assert_non_null(strstr(line, "\"tensor\":\"half\""));
        assert_true(nmse < 1e-4);
        assert_true(number(line, "residual_norm") > 0);
    }
    assert_true(number(line, "gradient_norm") > 0);
    assert_true(number(line, "seconds") > 0);
    assert_true(number(line, "encode_seconds") > 0);
}

static void
run(bool experiment)
{
    job j = {.transport = "loop",
             .workers = 2,
             .shards = 2,
             .settings = {"token", "very-secret"},
             .data = experiment ? path : NULL,
             .body = body};

#ifndef GP_HAVE_OPENSSL
    j.settings[0] = NULL; /* tokens need it */
#endif
    if (experiment)
        setenv("GRADPUSH_EXPERIMENT", path, 1);
    assert_int_equal(run_job(&j), GP_OK);
    unsetenv("GRADPUSH_EXPERIMENT");
}

static void
lines_say_what_was_lost(void **state)
{
    char line[8192];
    uint32_t lines = 0;
    FILE *f;

    (void)state;
    run(false);
    run(true);
    assert_int_equal(crc[0], crc[1]);
    f = fopen(path, "r");
    assert_non_null(f);
    assert_non_null(fgets(line, sizeof(line), f));
    assert_non_null(strstr(line, "\"schema\":\"gradpush.experiment/1\""));
    assert_non_null(strstr(line, "\"seed\":1"));
    assert_non_null(strstr(line, "\"updater\":\"mean\""));
    assert_null(strstr(line, "very-secret"));
    while (fgets(line, sizeof(line), f)) {
        check_line(line);
        lines++;
    }
    fclose(f);
    assert_int_equal(lines, 3 * STEPS);
}

static void
every_rank_may_write(void **state)
{
    char mine[80];

    (void)state;
    strcpy(path + strlen(path), ".%r");
    run(true);
    for (int rank = 0; rank < 2; rank++) {
        snprintf(mine, sizeof(mine), "%.*s.%d", (int)strlen(path) - 3, path,
                 rank);
        assert_int_equal(access(mine, R_OK), 0);
        unlink(mine);
    }
    path[strlen(path) - 3] = '\0';
}

static gp_tensor *
add_special(gp_worker *w, const char *name, const char *updater)
{
    gp_tensor_options o = GP_TENSOR_INIT;
    gp_tensor *t;

    o.name = name;
    o.count = COUNT;
    o.codec = "q8";
    o.updater = updater;
    job_check(gp_tensor_register(w, &o, &t));
    return t;
}

/* One with the longest name that has lines, and two that have none. */
static void
special_body(job *j, gp_worker *w, uint32_t rank)
{
    char longest[250] = {0}, longer[251] = {0};
    float *data = calloc(COUNT, sizeof(float));
    gp_tensor *t[3];

    (void)j;
    (void)rank;
    memset(longest, 'x', sizeof(longest) - 1);
    memset(longer, 'y', sizeof(longer) - 1);
    t[0] = add_special(w, longest, "mean");
    t[1] = add_special(w, longer, "mean");
    t[2] = add_special(w, "parameters", "sgd:lr=0.1");
    for (int i = 0; i < 3; i++) {
        gp_request *r;

        job_check(gp_push_pull(t[i], data, data, &r));
        job_check(gp_wait(&r, -1));
    }
    free(data);
}

static void
tensors_left_out_are_named(void **state)
{
    job j = {
        .transport = "loop", .workers = 2, .shards = 1, .body = special_body};
    char line[8192];
    uint32_t lines = 0;
    FILE *f;

    (void)state;
    setenv("GRADPUSH_EXPERIMENT", path, 1);
    job_log_start();
    assert_int_equal(run_job(&j), GP_OK);
    unsetenv("GRADPUSH_EXPERIMENT");
    assert_true(job_log_has("no lines for tensor 'parameters': its result is"));
    assert_true(job_log_has("yyy': its name is too long"));
    assert_false(job_log_has("xxx"));
    job_log_stop();
    f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof(line), f))
        lines++;
    fclose(f);
    assert_int_equal(lines, 2);
}

/* What does not fit on the disk is told, once, and nothing is leaked. */
static void
a_full_disk_is_told(void **state)
{
    job j = {.transport = "loop", .workers = 1, .shards = 1, .body = body};

    (void)state;
    if (access("/dev/full", W_OK) != 0)
        skip();
    setenv("GRADPUSH_EXPERIMENT", "/dev/full", 1);
    job_log_start();
    assert_int_equal(run_job(&j), GP_OK);
    unsetenv("GRADPUSH_EXPERIMENT");
    assert_true(job_log_has("its file is not complete: No space left"));
    job_log_stop();
}

static int
set_up(void **state)
{
    int fd;

    (void)state;
    strcpy(path, "/tmp/gradpush-experiment-XXXXXX");
    fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int
tear_down(void **state)
{
    (void)state;
    return unlink(path);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_say_what_was_lost),
        cmocka_unit_test(every_rank_may_write),
        cmocka_unit_test(tensors_left_out_are_named),
        cmocka_unit_test(a_full_disk_is_told),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
