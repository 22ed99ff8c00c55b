/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_collective_codec.c - all-reduce with a codec: the same bits on all
 * ranks, what is lost comes later, and what is remembered can be kept.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "job_collective.h"

#define COUNT 150001u /* three pieces, the last one short */

typedef struct plan {
    const char *codec;
    gp_dtype dtype;
    int steps;
    double most; /* error of the mean over steps, of an element */
    float *out[JOB_WORKERS];
} plan;

static gp_group *
coded_group(gp_worker *w, const char *codec)
{
    gp_group_options o = GP_GROUP_INIT;
    gp_group *g;

    o.codec = codec;
    job_check(gp_group_create(w, &o, &g));
    return g;
}

static void
reduce(gp_group *g, uint64_t key, const float *in, float *out)
{
    gp_request *request;

    job_check(
        gp_allreduce_keyed(g, key, in, out, COUNT, GP_FP32, GP_SUM, &request));
    job_finish(&request);
}

static float *
own_values(uint32_t rank)
{
    float *in = job_numbers(COUNT);

    for (uint64_t i = 0; i < COUNT; i++)
        in[i] = job_value(rank, 1, 2, i);
    return in;
}

/* Error feedback: the mean of the results of equal vectors goes to the sum. */
static void
repeat(job *j, gp_worker *w, uint32_t rank)
{
    plan *p = j->data;
    gp_group *g = coded_group(w, p->codec);
    float *in = own_values(rank), *out = job_numbers(COUNT);
    double *mean = calloc(COUNT, sizeof(double));

    for (int s = 0; s < p->steps; s++) {
        reduce(g, 3, in, out);
        for (uint64_t i = 0; i < COUNT; i++)
            mean[i] += (double)out[i] / p->steps;
    }
    for (uint64_t i = 0; i < COUNT; i++) {
        double sum = 0;

        for (uint32_t r = 0; r < j->workers; r++)
            sum += (double)job_value(r, 1, 2, i);
        job_require(fabs(mean[i] - sum) <= p->most, "%s: %g not %g", p->codec,
                    mean[i], sum);
    }
    p->out[rank] = out;
    free(in);
    free(mean);
    gp_group_destroy(g);
}

static void
test_feedback(void **state)
{
    static const plan plans[] = {
#ifdef GP_HAVE_LZ4
        {"lz4", GP_FP32, 1, 1e-4, {NULL}},
#endif
        {"fp16", GP_FP32, 1, 0.3, {NULL}},
        {"q8", GP_FP32, 1, 3.0, {NULL}},
        {"q8", GP_FP32, 16, 0.2, {NULL}},
        {"topk:0.25", GP_FP32, 24, 30.0, {NULL}},
        {"topk:0.25+q8+rice", GP_FP32, 24, 30.0, {NULL}},
        {"randk:0.5", GP_FP32, 24, 40.0, {NULL}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(plans) / sizeof(plans[0]); i++) {
        plan p = plans[i];
        job j = {.transport = i % 2 ? "tcp" : "loop",
                 .workers = 3,
                 .colocated = true,
                 .data = &p,
                 .body = repeat};

        assert_int_equal(run_job(&j), GP_OK);
        for (uint32_t r = 1; r < j.workers; r++)
            assert_memory_equal(p.out[0], p.out[r], COUNT * sizeof(float));
        for (uint32_t r = 0; r < j.workers; r++)
            free(p.out[r]);
    }
}

/* Half types, in place, as a mean; largest goes without the codec. */
static void
halves(job *j, gp_worker *w, uint32_t rank)
{
    gp_group *g = coded_group(w, "q8");
    uint16_t values[5000];
    gp_request *request;

    (void)j;
    for (size_t i = 0; i < 5000; i++)
        values[i] = rank ? 0x4000 : 0x4400; /* 2 and 4 in fp16 */
    job_check(
        gp_allreduce(g, values, values, 5000, GP_FP16, GP_MEAN, &request));
    job_finish(&request);
    for (size_t i = 0; i < 5000; i++)
        job_require(values[i] == 0x4200, "%x", values[i]);
    values[0] = rank ? 0x4000 : 0x3c00;
    job_check(
        gp_allreduce(g, values, values, 1, GP_FP16, GP_LARGEST, &request));
    job_finish(&request);
    job_require(values[0] == 0x4000);
    gp_group_destroy(g);
}

static void
test_halves(void **state)
{
    job j = {
        .transport = "tcp", .workers = 2, .colocated = true, .body = halves};

    (void)state;
    assert_int_equal(run_job(&j), GP_OK);
}

/* Statistics say what fp32 would have been, both directions, whatever the type
 * and the codec. */
static void
count_dense(job *j, gp_worker *w, uint32_t rank)
{
    gp_group *g = coded_group(w, "q8");
    float *in = own_values(rank);
    gp_stats before, after;
    gp_request *request;

    (void)j;
    gp_worker_stats(w, &before);
    reduce(g, 1, in, in);
    gp_worker_stats(w, &after);
    job_require(
        after.dense_bytes - before.dense_bytes == 2 * COUNT * sizeof(float),
        "%llu", (unsigned long long)(after.dense_bytes - before.dense_bytes));
    job_require(after.bytes_pushed - before.bytes_pushed < 2 * COUNT);
    before = after;
    job_check(gp_allreduce(g, in, in, 5000, GP_BF16, GP_SUM, &request));
    job_finish(&request);
    gp_worker_stats(w, &after);
    job_require(after.dense_bytes - before.dense_bytes ==
                2 * 5000 * sizeof(float));
    before = after;
    job_check(gp_allreduce(g, in, in, 5000, GP_BF16, GP_LARGEST, &request));
    job_finish(&request);
    gp_worker_stats(w, &after);
    job_require(after.dense_bytes - before.dense_bytes ==
                2 * 5000 * sizeof(float));
    free(in);
    gp_group_destroy(g);
}

static void
test_dense_bytes(void **state)
{
    job j = {.transport = "loop",
             .workers = 2,
             .colocated = true,
             .body = count_dense};

    (void)state;
    assert_int_equal(run_job(&j), GP_OK);
}

/* --- what is remembered
 * --------------------------------------------------------- */

static void
keep(job *j, gp_worker *w, uint32_t rank)
{
    gp_group *g = coded_group(w, "topk:0.1");
    float *in = own_values(rank), *out = job_numbers(COUNT);
    float *again = job_numbers(COUNT), *residual = job_numbers(COUNT);
    const char *name = "";
    uint64_t key = 0, count = 0;

    (void)j;
    job_require(gp_group_state(g, 0, &key, &name, &count) == GP_ERR_NOT_FOUND);
    reduce(g, 7, in, out);
    job_check(gp_group_state(g, 0, &key, &name, &count));
    job_require(key == 7 && count == COUNT && !strcmp(name, "residual"));
    job_require(gp_group_state(g, 1, &key, &name, &count) == GP_ERR_NOT_FOUND);
    job_check(gp_group_save_state(g, 0, residual));
    reduce(g, 7, in, out);
    job_check(gp_group_reset_state(g));
    reduce(g, 7, in, again);
    job_require(memcmp(out, again, COUNT * sizeof(float)) != 0);
    job_check(gp_group_load_state(g, 7, "residual", residual, COUNT));
    reduce(g, 7, in, again);
    job_require(memcmp(out, again, COUNT * sizeof(float)) == 0);
    /* Another key has a residual of its own. */
    reduce(g, 8, in, out);
    job_check(gp_group_state(g, 1, &key, &name, &count));
    job_require(key == 8);
    job_require(gp_group_load_state(g, 7, "velocity", residual, COUNT) ==
                GP_ERR_NOT_FOUND);
    job_require(gp_group_save_state(g, 5, residual) == GP_ERR_NOT_FOUND);
    free(in);
    free(out);
    free(again);
    free(residual);
    gp_group_destroy(g);
}

static void
test_kept(void **state)
{
    job j = {.transport = "tcp", .workers = 2, .colocated = true, .body = keep};

    (void)state;
    assert_int_equal(run_job(&j), GP_OK);
}

/* --- members as shards of blocks
 * ------------------------------------------------------- */

static gp_group *
sharded_group(gp_worker *w, const char *codec)
{
    gp_group_options o = GP_GROUP_INIT;
    gp_group *g;

    o.codec = codec;
    o.algorithm = "shards";
    job_check(gp_group_create(w, &o, &g));
    return g;
}

static double
norm_of(const double *x)
{
    double sum = 0;

    for (uint64_t i = 0; i < COUNT; i++)
        sum += x[i] * x[i];
    return sqrt(sum);
}

/* What n encoders of vectors and one of their sum may lose by the bound that
 * the codec's conformance is checked against. */
static double
loss_allowed(const char *codec, uint32_t workers, const double *sum)
{
    double *own = calloc(COUNT, sizeof(double)), norms = 0, share;
    gp_pipeline *pipeline;

    job_require(own != NULL);
    job_check(gp_pipeline_parse(codec, &pipeline));
    share = sqrt(gp_pipeline_error_bound(pipeline, 65536));
    job_require(isfinite(share) && share < 1, "%s: %g", codec, share);
    gp_pipeline_destroy(pipeline);
    for (uint32_t r = 0; r < workers; r++) {
        for (uint64_t i = 0; i < COUNT; i++)
            own[i] = (double)job_value(r, 1, 2, i);
        norms += norm_of(own);
    }
    free(own);
    return share * norms + share * (norm_of(sum) + share * norms);
}

static void
lose(job *j, gp_worker *w, uint32_t rank)
{
    plan *p = j->data;
    gp_group *g = sharded_group(w, p->codec);
    float *in = own_values(rank), *out = job_numbers(COUNT);
    double *sum = calloc(COUNT, sizeof(double));
    double *error = calloc(COUNT, sizeof(double));
    double allowed;

    job_require(sum && error);
    reduce(g, 1, in, out);
    for (uint64_t i = 0; i < COUNT; i++) {
        for (uint32_t r = 0; r < j->workers; r++)
            sum[i] += (double)job_value(r, 1, 2, i);
        error[i] = (double)out[i] - sum[i];
    }
    allowed = loss_allowed(p->codec, j->workers, sum) + 1e-3;
    job_require(norm_of(error) <= allowed, "%s: error %g, at most %g", p->codec,
                norm_of(error), allowed);
    reduce(g, 1, in, in);
    p->out[rank] = out;
    free(in);
    free(sum);
    free(error);
    gp_group_destroy(g);
}

static void
test_shards_lose_no_more(void **state)
{
    static const char *const codecs[] = {"q8", "q4", "topk:0.25",
                                         "topk:0.25+q8+rice"};

    (void)state;
    for (uint32_t i = 0; i < 4; i++) {
        plan p = {.codec = codecs[i]};
        job j = {.transport = i % 2 ? "tcp" : "loop",
                 .workers = 2 + i % 2,
                 .colocated = true,
                 .data = &p,
                 .body = lose};

        assert_int_equal(run_job(&j), GP_OK);
        for (uint32_t r = 1; r < j.workers; r++)
            assert_memory_equal(p.out[0], p.out[r], COUNT * sizeof(float));
        for (uint32_t r = 0; r < j.workers; r++)
            free(p.out[r]);
    }
}

/* What is kept of sums is saved and loaded beside what is of vectors. */
static void
keep_sums(job *j, gp_worker *w, uint32_t rank)
{
    gp_group *g = sharded_group(w, "topk:0.1");
    float *in = own_values(rank), *out = job_numbers(COUNT);
    float *again = job_numbers(COUNT);
    float *kept[2] = {job_numbers(COUNT), job_numbers(COUNT)};
    const char *names[] = {"residual", "sum:residual"}, *name = "";
    uint64_t key = 0, count = 0;

    (void)j;
    reduce(g, 7, in, out);
    for (uint32_t i = 0; i < 2; i++) {
        job_check(gp_group_state(g, i, &key, &name, &count));
        job_require(key == 7 && count == COUNT && !strcmp(name, names[i]), "%s",
                    name);
        job_check(gp_group_save_state(g, i, kept[i]));
    }
    job_require(gp_group_state(g, 2, &key, &name, &count) == GP_ERR_NOT_FOUND);
    reduce(g, 7, in, out);
    job_check(gp_group_reset_state(g));
    job_check(gp_group_load_state(g, 7, names[0], kept[0], COUNT));
    reduce(g, 7, in, again);
    job_require(memcmp(out, again, COUNT * sizeof(float)) != 0);
    job_check(gp_group_reset_state(g));
    for (uint32_t i = 0; i < 2; i++)
        job_check(gp_group_load_state(g, 7, names[i], kept[i], COUNT));
    reduce(g, 7, in, again);
    job_require(memcmp(out, again, COUNT * sizeof(float)) == 0);
    free(in);
    free(out);
    free(again);
    free(kept[0]);
    free(kept[1]);
    gp_group_destroy(g);
}

static void
test_kept_of_sums(void **state)
{
    job j = {
        .transport = "tcp", .workers = 3, .colocated = true, .body = keep_sums};

    (void)state;
    assert_int_equal(run_job(&j), GP_OK);
}

/* --- what cannot be
 * ----------------------------------------------------------------- */

static void
refuse(job *j, gp_worker *w, uint32_t rank)
{
    static const char *const texts[] = {"powersgd:2", "intsum", "ef21+q8",
                                        "no-such-codec"};
    gp_group_options o = GP_GROUP_INIT;
    gp_group *g;

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        o.codec = texts[i];
        job_require(gp_group_create(w, &o, &g) == GP_ERR_CONFIG, "%s",
                    texts[i]);
    }
    o.codec = rank ? "q8" : "q4";
    job_note(j, rank, gp_group_create(w, &o, &g));
}

static void
test_refused(void **state)
{
    job j = {
        .transport = "loop", .workers = 2, .colocated = true, .body = refuse};

    (void)state;
    assert_int_equal(run_job(&j), GP_OK);
    job_expect_end(&j, 0, GP_ERR_MISMATCH, "q8");
    job_expect_end(&j, 1, GP_ERR_MISMATCH, "q4");
}

/* Random codecs go on where the former group was. */
static void
skip_calls(job *j, gp_worker *w, uint32_t rank)
{
    gp_group *g = coded_group(w, "q4:round=stochastic");
    float *in = own_values(rank);
    float *out[3] = {job_numbers(COUNT), job_numbers(COUNT),
                     job_numbers(COUNT)};

    (void)j;
    job_require(gp_group_skip(NULL, 1) == GP_ERR_INVALID);
    reduce(g, 7, in, out[0]);
    reduce(g, 7, in, out[1]);
    job_require(memcmp(out[0], out[1], COUNT * sizeof(float)) != 0);
    job_check(gp_group_reset_state(g));
    job_check(gp_group_skip(g, 1));
    reduce(g, 7, in, out[2]);
    job_require(memcmp(out[1], out[2], COUNT * sizeof(float)) == 0);
    for (int i = 0; i < 3; i++)
        free(out[i]);
    free(in);
    gp_group_destroy(g);
}

static void
test_calls_skipped(void **state)
{
    job j = {.transport = "loop",
             .workers = 2,
             .colocated = true,
             .body = skip_calls};

    (void)state;
    assert_int_equal(run_job(&j), GP_OK);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_feedback),
        cmocka_unit_test(test_halves),
        cmocka_unit_test(test_dense_bytes),
        cmocka_unit_test(test_kept),
        cmocka_unit_test(test_shards_lose_no_more),
        cmocka_unit_test(test_kept_of_sums),
        cmocka_unit_test(test_calls_skipped),
        cmocka_unit_test(test_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
