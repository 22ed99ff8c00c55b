/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_parts.c - gradients that come part by part, and results that are looked
 * at so.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "job_harness.h"

#define COUNT  50000u
#define PART   3000u /* chunks are 4096 elements, and end elsewhere */
#define PARTS  ((COUNT + PART - 1) / PART)
#define STEPS  4u
#define CHUNKS "16K"

static gp_tensor *
add(gp_worker *w, const char *name, const char *codec)
{
    gp_tensor_options o = GP_TENSOR_INIT;
    gp_tensor *t;

    o.name = name;
    o.count = COUNT;
    o.columns = 100;
    o.codec = codec;
    o.updater = "mean";
    job_check(gp_tensor_register(w, &o, &t));
    return t;
}

static uint64_t
length_of(uint64_t part)
{
    return part + 1 < PARTS ? PART : COUNT - (PARTS - 1) * PART;
}

/* The same gradients as a whole and in parts, in another order on each worker
 * and in each step, have the same result. */
static void
same_body(job *j, gp_worker *w, uint32_t rank)
{
    const char *codec = j->data;
    gp_tensor *whole = add(w, "whole", codec), *parts = add(w, "parts", codec);
    float *grad = malloc(COUNT * sizeof(float)),
          *a = malloc(COUNT * sizeof(float)),
          *b = malloc(COUNT * sizeof(float));
    uint32_t state = rank + 1, order[PARTS];

    for (uint32_t step = 0; step < STEPS; step++) {
        gp_request *one, *many;

        for (uint64_t i = 0; i < COUNT; i++)
            grad[i] = job_value(rank, 0, step, i);
        job_check(gp_push_pull(whole, grad, a, &one));
        memset(b, 0x7f, COUNT * sizeof(float));
        job_check(gp_push_pull_parts(parts, b, b, &many));
        for (uint32_t p = 0; p < PARTS; p++)
            order[p] = p;
        job_shuffle(order, PARTS, &state);
        for (uint32_t p = 0; p < PARTS; p++) {
            uint64_t at = (uint64_t)order[p] * PART;

            memcpy(b + at, grad + at, length_of(order[p]) * sizeof(float));
            job_check(gp_part_ready(many, at, length_of(order[p])));
        }
        job_check(gp_wait(&one, -1));
        for (uint32_t p = 0; p < PARTS; p++) {
            uint64_t at = (uint64_t)p * PART, n = length_of(p);

            job_check(gp_part_wait(many, at, n, -1));
            job_require(memcmp(a + at, b + at, n * sizeof(float)) == 0,
                        "a part differs");
        }
        job_check(gp_wait(&many, -1));
    }
    free(grad);
    free(a);
    free(b);
}

/* Random codecs draw by the tensor's number, so they would differ. */
static void
results_are_those_of_the_whole(void **state)
{
    static const char *const codecs[] = {
        "none", "q8", "topk:0.05+q8", "topk:0.05,scope=tensor",
#ifdef GP_HAVE_LZ4
        "lz4",
#endif
    };

    (void)state;
    for (size_t i = 0; i < sizeof(codecs) / sizeof(codecs[0]); i++) {
        job j = {.transport = i % 2 ? "loop" : "tcp",
                 .workers = 2,
                 .shards = 2,
                 .colocated = i == 0,
                 .settings = {"chunk_bytes", CHUNKS},
                 .body = same_body,
                 .data = (void *)(uintptr_t)codecs[i]};

        assert_int_equal(run_job(&j), GP_OK);
    }
}

/* The first part's result comes while nobody has made the last part. */
static void
early_body(job *j, gp_worker *w, uint32_t rank)
{
    gp_tensor *t = add(w, "t", "none");
    float *v = malloc(COUNT * sizeof(float));
    gp_request *request;

    (void)j;
    for (uint64_t i = 0; i < COUNT; i++)
        v[i] = (float)rank + 1;
    job_check(gp_push_pull_parts(t, v, v, &request));
    job_check(gp_part_ready(request, 0, 2 * PART));
    job_check(gp_part_wait(request, 0, PART, -1));
    job_require(v[0] == 1.5f && v[PART - 1] == 1.5f, "the first part");
    job_require(gp_test(&request) == GP_PENDING, "it is not over");
    job_require(gp_part_wait(request, 0, COUNT, 0.01) == GP_ERR_TIMEOUT,
                "the last part is here");
    job_expect_text(gp_last_error(), "elements 0 to 50000 are not here");
    job_check(gp_barrier(w)); /* both have seen that */
    job_check(gp_part_ready(request, 2 * PART, COUNT - 2 * PART));
    job_check(gp_wait(&request, -1));
    job_require(v[COUNT - 1] == 1.5f, "the last part");
    /* The same request again, as a whole. */
    job_check(gp_push_pull(t, v, v, &request));
    job_check(gp_wait(&request, -1));
    free(v);
}

static void
first_results_do_not_wait_for_the_last_part(void **state)
{
    job j = {.transport = "tcp",
             .workers = 2,
             .shards = 2,
             .settings = {"chunk_bytes", CHUNKS},
             .body = early_body};

    (void)state;
    assert_int_equal(run_job(&j), GP_OK);
}

static void
mistakes_body(job *j, gp_worker *w, uint32_t rank)
{
    gp_tensor *t = add(w, "t", "none");
    float *v = calloc(COUNT, sizeof(float));
    gp_request *request, *plain;

    (void)j;
    (void)rank;
    job_require(gp_push_pull_parts(t, NULL, v, &request) == GP_ERR_INVALID,
                "NULL");
    job_check(gp_push_pull(t, v, v, &plain));
    job_require(gp_part_ready(plain, 0, 1) == GP_ERR_INVALID, "plain");
    job_require(gp_part_wait(plain, 0, 1, 0) == GP_ERR_INVALID, "plain");
    job_check(gp_wait(&plain, -1));
    job_require(gp_part_ready(NULL, 0, 1) == GP_ERR_INVALID, "NULL");
    job_check(gp_push_pull_parts(t, v, v, &request));
    job_require(gp_part_ready(request, 0, 0) == GP_ERR_INVALID, "empty");
    job_require(gp_part_ready(request, COUNT, 1) == GP_ERR_INVALID, "behind");
    job_require(gp_part_ready(request, 1, UINT64_MAX) == GP_ERR_INVALID,
                "overflow");
    job_require(gp_part_wait(request, COUNT - 1, 2, 0) == GP_ERR_INVALID,
                "reaches behind");
    job_check(gp_part_ready(request, 10, 100));
    job_require(gp_part_ready(request, 0, COUNT) == GP_ERR_STATE, "twice");
    job_expect_text(gp_last_error(), "was ready before");
    job_check(gp_part_ready(request, 0, 10));
    job_check(gp_part_ready(request, 110, COUNT - 110));
    job_check(gp_wait(&request, -1));
    free(v);
}

static void
mistakes_are_told(void **state)
{
    job j = {
        .transport = "loop", .workers = 2, .shards = 1, .body = mistakes_body};

    (void)state;
    assert_int_equal(run_job(&j), GP_OK);
}

/* Worker 1 leaves the job in the middle of a request: who waits for a part is
 * told. */
static void
failing_body(job *j, gp_worker *w, uint32_t rank)
{
    gp_tensor *t = add(w, "t", "none");
    float *v = calloc(COUNT, sizeof(float));
    gp_request *request;

    if (rank == 0) {
        job_check(gp_push_pull_parts(t, v, v, &request));
        job_check(gp_part_ready(request, 0, 2 * PART));
        job_note(j, rank, gp_part_wait(request, 0, PART, -1));
        job_require(gp_part_ready(request, 2 * PART, PART) != GP_OK,
                    "it goes on");
        job_require(gp_wait(&request, -1) != GP_OK, "it ended well");
    } else {
        job_check(gp_worker_ready(w));
    }
    /* Memory of requests under way ends after the worker. */
    if (rank == 1)
        free(v);
    else
        *(float **)j->data = v;
}

static void
who_waits_for_a_part_hears_of_the_end(void **state)
{
    float *left = NULL;
    job j = {.transport = "tcp",
             .workers = 2,
             .shards = 1,
             .settings = {"chunk_bytes", CHUNKS},
             .body = failing_body,
             .data = &left};

    (void)state;
    assert_int_not_equal(run_job(&j), GP_OK);
    assert_int_not_equal(j.ended[0], GP_OK);
    assert_int_not_equal(j.ended[0], GP_ERR_TIMEOUT);
    free(left);
}

static void
unfit_body(job *j, gp_worker *w, uint32_t rank)
{
    gp_tensor_options o = GP_TENSOR_INIT;
    float v[10] = {0};
    gp_request *request;
    gp_tensor *t;

    o.name = "t";
    o.count = 10;
    o.updater = "sgd:lr=1";
    o.mode = "sync:N-1";
    job_check(gp_tensor_register(w, &o, &t));
    job_note(j, rank, gp_push_pull_parts(t, v, v, &request));
}

static void
what_comes_as_a_whole_says_so(void **state)
{
    job j = {.transport = "tcp", .workers = 2, .shards = 1, .body = unfit_body};

    (void)state;
    assert_int_equal(run_job(&j), GP_OK);
    job_expect_end(&j, 0, GP_ERR_UNSUPPORTED, "backup workers come as a whole");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_are_those_of_the_whole),
        cmocka_unit_test(first_results_do_not_wait_for_the_last_part),
        cmocka_unit_test(mistakes_are_told),
        cmocka_unit_test(what_comes_as_a_whole_says_so),
        cmocka_unit_test(who_waits_for_a_part_hears_of_the_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
