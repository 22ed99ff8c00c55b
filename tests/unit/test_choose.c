/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_choose.c - rules, warm-up and codec=auto in whole jobs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <gradpush/transport.h>

#include "base/base.h"
#include "job_harness.h"

enum { COUNT = 20000, WARM = 3, STEPS = 40 };

static gp_tensor *
register_as(gp_worker *w, const char *name, const char *codec)
{
    gp_tensor_options o = GP_TENSOR_INIT;
    gp_tensor *t;

    o.name = name;
    o.count = COUNT;
    o.codec = codec;
    o.pull_codec = "none";
    o.updater = "sum";
    job_check(gp_tensor_register(w, &o, &t));
    return t;
}

/* A tensor with these pipelines is refused, in these words. */
static void
refused(gp_worker *w, const char *codec, const char *pull_codec,
        const char *words)
{
    gp_tensor_options o = GP_TENSOR_INIT;
    gp_tensor *t;

    o.name = "t";
    o.count = COUNT;
    o.codec = codec;
    o.pull_codec = pull_codec;
    job_require(gp_tensor_register(w, &o, &t) == GP_ERR_CONFIG);
    job_require(strstr(gp_last_error(), words));
}

/* The largest error of a sum over two workers. */
static double
step_error(gp_tensor *t, uint32_t rank, uint64_t step)
{
    float *grad = malloc(COUNT * sizeof(float));
    float *out = malloc(COUNT * sizeof(float));
    gp_request *r;
    double worst = 0;

    for (uint64_t i = 0; i < COUNT; i++)
        grad[i] = job_value(rank, 0, step, i);
    job_check(gp_push_pull(t, grad, out, &r));
    job_check(gp_wait(&r, -1));
    for (uint64_t i = 0; i < COUNT; i++) {
        float sum = job_value(0, 0, step, i) + job_value(1, 0, step, i);

        worst = fmax(worst, fabs((double)out[i] - sum));
    }
    free(grad);
    free(out);
    return worst;
}

static void
rules_body(job *j, gp_worker *w, uint32_t rank)
{
    gp_tensor *bias = register_as(w, "fc.bias", NULL);
    gp_tensor *fc = register_as(w, "fc", NULL);
    gp_tensor *other = register_as(w, "conv", NULL);
    gp_tensor *own = register_as(w, "fc.own", "fp16");

    (void)j;
    job_require(strcmp(gp_tensor_codec(bias), "none") == 0);
    job_require(strncmp(gp_tensor_codec(fc), "q8:block=64", 11) == 0);
    job_require(strncmp(gp_tensor_codec(other), "bf16", 4) == 0);
    job_require(strncmp(gp_tensor_codec(own), "fp16", 4) == 0);
    job_require(step_error(bias, rank, 0) == 0);
    job_require(step_error(fc, rank, 0) > 0);
}

static void
rules_give_pipelines(void **state)
{
    job j = {.transport = "loop",
             .workers = 2,
             .shards = 2,
             .settings = {"codec", "bf16", "codec_rules",
                          "*.bias => none; fc* => q8:64"},
             .body = rules_body};

    (void)state;
    assert_int_equal(run_job(&j), GP_OK);
}

static void
bad_rule_body(job *j, gp_worker *w, uint32_t rank)
{
    const char *words = "rule 'fc = q8': there is no '=>'";

    (void)j;
    (void)rank;
    refused(w, NULL, NULL, words);
    refused(w, "none", NULL, words);
}

static void
a_bad_rule_is_found(void **state)
{
    job j = {.transport = "loop",
             .workers = 1,
             .shards = 1,
             .settings = {"codec_rules", "x => none; fc = q8"},
             .body = bad_rule_body};

    (void)state;
    assert_int_equal(run_job(&j), GP_OK);
}

/* A pipeline that cannot be read is found whatever its rule holds for. */
static void
bad_pipeline_body(job *j, gp_worker *w, uint32_t rank)
{
    (void)j;
    (void)rank;
    refused(w, NULL, NULL, "rule 'other => q9'");
    refused(w, NULL, NULL, "did you mean 'q8'");
}

static void
a_bad_pipeline_is_found(void **state)
{
    job j = {.transport = "loop",
             .workers = 1,
             .shards = 1,
             .settings = {"codec_rules", "t => auto; other => q9"},
             .body = bad_pipeline_body};

    (void)state;
    assert_int_equal(run_job(&j), GP_OK);
}

static void
unused_body(job *j, gp_worker *w, uint32_t rank)
{
    gp_tensor *t = register_as(w, "fc", NULL);

    (void)j;
    for (uint64_t step = 0; step < 2; step++)
        job_require(step_error(t, rank, step) < 0.5);
}

static void
rules_without_tensors_are_told(void **state)
{
    job j = {.transport = "loop",
             .workers = 2,
             .shards = 1,
             .settings = {"codec_rules", "fcc* => bf16; fc => q8; f* => none"},
             .body = unused_body};

    (void)state;
    job_log_start();
    assert_int_equal(run_job(&j), GP_OK);
    assert_true(job_log_has("'fcc* => bf16' holds for none of 1 tensors"));
    assert_false(job_log_has("'fc => q8' holds for none"));
    assert_false(job_log_has("'f* => none' holds for none"));
    job_log_stop();
}

static void
differences_body(job *j, gp_worker *w, uint32_t rank)
{
    (void)rank;
    refused(w, j->data, NULL, "ef21 and ");
    refused(w, j->data, NULL, "cannot be combined");
    refused(w, "none", "auto", "auto and '|' are for pushes");
}

static void
differences_need_all_steps(void **state)
{
    job j = {.transport = "loop",
             .workers = 1,
             .shards = 1,
             .settings = {"codec_warmup", "3"},
             .data = "ef21+topk:0.01",
             .body = differences_body};

    (void)state;
    assert_int_equal(run_job(&j), GP_OK);
    j.settings[0] = "codec_candidates";
    j.settings[1] = "ef21+topk:0.01";
    j.data = "auto";
    assert_int_equal(run_job(&j), GP_OK);
}

static void
warm_body(job *j, gp_worker *w, uint32_t rank)
{
    gp_tensor *t = register_as(w, "t", NULL);

    (void)j;
    for (uint64_t step = 0; step < 2 * WARM; step++) {
        double error = step_error(t, rank, step);

        job_require(step < WARM ? error == 0 : error > 0);
    }
}

static void
warm_up_goes_dense(void **state)
{
    job j = {.transport = "loop",
             .workers = 2,
             .shards = 2,
             .settings = {"codec", "q8", "codec_warmup", "3"},
             .body = warm_body};

    (void)state;
    assert_int_equal(run_job(&j), GP_OK);
}

/* Whatever is chosen, and whenever: the sums are right, and it is said. */
static void
auto_body(job *j, gp_worker *w, uint32_t rank)
{
    gp_tensor *t = register_as(w, "t", "auto");

    (void)j;
    job_require(strcmp(gp_tensor_codec(t), "none") == 0);
    for (uint64_t step = 0; step < STEPS; step++)
        job_require(step_error(t, rank, step) < 0.5);
}

static void
auto_decides(void **state)
{
    job j = {.transport = "tcp",
             .workers = 2,
             .shards = 2,
             .settings = {"codec_candidates", "bf16|q8", "log", "info"},
             .body = auto_body};

    (void)state;
    job_log_start();
    assert_int_equal(run_job(&j), GP_OK);
    assert_true(job_log_has("codec auto: tensor 't' goes through "));
    assert_true(job_log_has("codec auto: nothing pays") ||
                job_log_has("codec auto: 1 of 1 tensors"));
    job_log_stop();
}

/* Bits do not depend on how many threads encode. */
static uint32_t thread_crc;

static void
threads_body(job *j, gp_worker *w, uint32_t rank)
{
    const char *texts[] = {"q4:round=stochastic", "topk:0.01,scope=tensor+q8",
                           "momentum+topk:0.05+rice", "uq:1", "q8|bf16"};
    enum { LARGE = 200000 };
    float *data = malloc(LARGE * sizeof(float));
    uint32_t sum = 0;

    (void)j;
    for (uint32_t i = 0; i < GP_COUNT_OF(texts); i++) {
        char name[8] = {(char)('a' + i), 0};
        gp_tensor_options o = GP_TENSOR_INIT;
        gp_tensor *t;

        o.name = name;
        o.count = LARGE;
        o.codec = texts[i];
        job_check(gp_tensor_register(w, &o, &t));
        *(gp_tensor **)((char *)j->data + (rank * 8 + i) * sizeof(t)) = t;
    }
    for (uint64_t step = 0; step < 4; step++)
        for (uint32_t i = 0; i < GP_COUNT_OF(texts); i++) {
            gp_tensor *t = ((gp_tensor **)j->data)[rank * 8 + i];
            gp_request *r;

            for (uint64_t k = 0; k < LARGE; k++)
                data[k] = job_value(rank, i, step, k);
            job_check(gp_push_pull(t, data, data, &r));
            job_check(gp_wait(&r, -1));
            sum = gp_crc32c(sum, data, LARGE * sizeof(float));
        }
    if (rank == 0)
        thread_crc = sum;
    free(data);
}

static void
threads_change_nothing(void **state)
{
    uint32_t one;
    gp_tensor *tensors[16];
    job j = {.transport = "loop",
             .workers = 2,
             .shards = 2,
             .settings = {"chunk_bytes", "16K", "codec_threads", "1"},
             .data = tensors,
             .body = threads_body};

    (void)state;
    assert_int_equal(run_job(&j), GP_OK);
    one = thread_crc;
    thread_crc = 0;
    j.settings[3] = "3";
    assert_int_equal(run_job(&j), GP_OK);
    assert_int_equal(thread_crc, one);
}

/* A codec that encodes the first chunk only. */
static size_t
stubborn_bound(const void *instance, size_t count)
{
    (void)instance;
    return 4 * count;
}

static gp_status
stubborn_encode(const void *instance, const gp_codec_context *context,
                const float *source, size_t count, void *out, size_t capacity,
                size_t *length)
{
    (void)instance;
    (void)capacity;
    if (context->offset)
        return GP_ERR_UNSUPPORTED;
    memcpy(out, source, 4 * count);
    *length = 4 * count;
    return GP_OK;
}

static gp_status
stubborn_decode(const void *instance, const gp_codec_context *context,
                const void *bytes, size_t length, float *target, size_t count)
{
    (void)instance;
    (void)context;
    if (length != 4 * count)
        return GP_ERR_CORRUPT;
    memcpy(target, bytes, length);
    return GP_OK;
}

static const gp_codec_ops stubborn = {.abi = GP_CODEC_ABI,
                                      .kind = GP_CODEC_ARRAY,
                                      .nonfinite = GP_NONFINITE_EXACT,
                                      .name = "stubborn",
                                      .text = "encodes the first chunk only",
                                      .bound = stubborn_bound,
                                      .encode = stubborn_encode,
                                      .decode = stubborn_decode};

static void
stubborn_body(job *j, gp_worker *w, uint32_t rank)
{
    enum { LARGE = 200000 };
    float *data = calloc(LARGE, sizeof(float));
    gp_tensor_options o = GP_TENSOR_INIT;
    gp_tensor *t;
    gp_request *r;
    gp_status status;

    (void)rank;
    o.name = "t";
    o.count = LARGE;
    o.codec = "stubborn";
    o.feedback = 0;
    job_check(gp_tensor_register(w, &o, &t));
    status = gp_push_pull(t, data, data, &r);
    if (status == GP_OK)
        status = gp_wait(&r, -1);
    job_require(status == GP_ERR_UNSUPPORTED);
    job_require(strstr(gp_last_error(), "codec stubborn cannot encode 4096 "));
    j->ended[rank] = status;
    free(data);
}

/* Whichever thread it happens in, the error's text is not lost. */
static void
errors_of_threads_are_told(void **state)
{
    job j = {.transport = "loop",
             .workers = 1,
             .shards = 1,
             .settings = {"chunk_bytes", "16K", "codec_threads", "3"},
             .body = stubborn_body};

    (void)state;
    assert_int_equal(gp_codec_register(&stubborn), GP_OK);
    assert_int_equal(run_job(&j), GP_ERR_UNSUPPORTED);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules_give_pipelines),
        cmocka_unit_test(a_bad_rule_is_found),
        cmocka_unit_test(a_bad_pipeline_is_found),
        cmocka_unit_test(rules_without_tensors_are_told),
        cmocka_unit_test(differences_need_all_steps),
        cmocka_unit_test(warm_up_goes_dense),
        cmocka_unit_test(auto_decides),
        cmocka_unit_test(threads_change_nothing),
        cmocka_unit_test(errors_of_threads_are_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
