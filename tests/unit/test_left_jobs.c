/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_left_jobs.c - members that leave while others need them, or come late:
 * whoever waits is told of it, by name, within a deadline.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "job_harness.h"

/* A worker with fewer batches than the others. */

static void
batches_body(job *j, gp_worker *w, uint32_t rank)
{
    gp_tensor *t = job_tensor(w, "weights", 5000, "mean");
    float *data = calloc(5000, sizeof(float));
    uint32_t steps = rank == 1 ? 3 : 5;
    gp_status status = GP_OK;
    gp_request *r;

    for (uint32_t s = 0; s < steps && status == GP_OK; s++) {
        status = gp_push_pull(t, data, data, &r);
        if (status == GP_OK)
            status = gp_wait(&r, -1);
    }
    job_note(j, rank, status);
    free(data);
}

static void
fewer_batches(void **state)
{
    (void)state;
    for (uint32_t kind = 0; kind < 4; kind++) {
        job j = {.transport = kind % 2 ? "tcp" : "loop",
                 .workers = 2,
                 .shards = 2,
                 .colocated = kind >= 2,
                 .body = batches_body};

        (void)run_job(&j);
        assert_int_equal(j.ended[1], GP_OK);
        job_expect_end(
            &j, 0, GP_ERR_PEER_LEFT,
            "worker 1 left the job after 3 steps of tensor 'weights'");
        job_expect_text(j.message[0],
                        "the same number of batches, or see what");
        if (kind < 2)
            assert_int_equal(j.server_status, GP_ERR_PEER_LEFT);
    }
}

/* The same, when the one with fewer has long left before the other pushes. */
static void
gone_body(job *j, gp_worker *w, uint32_t rank)
{
    const char *codec = j->data;
    gp_tensor_options o = GP_TENSOR_INIT;
    float *data = calloc(5000, sizeof(float));
    double patience = job_seconds() + 120;
    gp_status status = GP_OK;
    gp_request *r;
    gp_tensor *t;

    o.name = "weights";
    o.count = 5000;
    o.codec = codec;
    o.pull_codec = "none";
    job_check(gp_tensor_register(w, &o, &t));
    for (uint32_t s = 0; s < (rank == 1 ? 3 : 4) && status == GP_OK; s++) {
        while (s == 3 && !atomic_load(&j->gone[1]))
            job_require(job_seconds() < patience);
        status = gp_push_pull(t, data, data, &r);
        if (status == GP_OK)
            status = gp_wait(&r, -1);
    }
    job_note(j, rank, status);
    free(data);
}

static void
one_left_long_ago(void **state)
{
    static const char *const codecs[4] = {"none", "q8", "topk:0.1", "intsum"};

    (void)state;
    for (uint32_t i = 0; i < 8; i++) {
        job j = {.transport = i % 2 ? "tcp" : "loop",
                 .workers = 2,
                 .shards = 2,
                 .data = (void *)(uintptr_t)codecs[i / 2],
                 .body = gone_body};

        (void)run_job(&j);
        assert_int_equal(j.ended[1], GP_OK);
        job_expect_end(&j, 0, GP_ERR_PEER_LEFT,
                       "worker 1 left the job after 3");
    }
}

static void
barrier_left_body(job *j, gp_worker *w, uint32_t rank)
{
    /* The first makes sure that all have joined before one leaves. Whoever is
     * slow to return from it learns of that departure in the second. */
    job_check(gp_barrier(w));
    job_note(j, rank, rank == 1 ? GP_OK : gp_barrier(w));
}

static void
barrier_without_one(void **state)
{
    job j = {.transport = "tcp",
             .workers = 3,
             .shards = 1,
             .body = barrier_left_body};

    (void)state;
    assert_int_equal(run_job(&j), GP_ERR_PEER_LEFT);
    job_expect_end(&j, 0, GP_ERR_PEER_LEFT,
                   "worker 1 left the job while worker");
}

/* Waits that end at their deadline say who is late. */

#define LONG 120.0 /* ends what hangs */

static void
await(atomic_bool *over)
{
    double deadline = job_seconds() + LONG;

    while (!atomic_load(over)) {
        job_require(job_seconds() < deadline);
        usleep(1000);
    }
}

static void
late_body(job *j, gp_worker *w, uint32_t rank)
{
    gp_tensor *t = job_tensor(w, "slow", 100, "sum");
    float data[100] = {0};
    atomic_bool *over = j->data;
    double deadline = job_seconds() + LONG;
    gp_request *r;

    job_check(gp_worker_ready(w));
    if (rank == 1) {
        await(over);
    } else {
        job_check(gp_push_pull(t, data, data, &r));
        while (gp_wait(&r, 0.2) == GP_ERR_TIMEOUT &&
               !strstr(gp_last_error(), "for worker 1"))
            job_require(job_seconds() < deadline);
        job_require(r != NULL);
        job_note(j, 0, gp_wait(&r, 0));
        atomic_store(over, true);
    }
    if (rank == 1)
        job_check(gp_push_pull(t, data, data, &r));
    job_check(gp_wait(&r, -1));
}

static void
late_worker_is_named(void **state)
{
    atomic_bool over = false;
    job j = {.transport = "tcp",
             .workers = 2,
             .shards = 1,
             .body = late_body,
             .data = &over};

    (void)state;
    assert_int_equal(run_job(&j), GP_OK);
    job_expect_end(&j, 0, GP_ERR_TIMEOUT, "tensor 'slow' step 0");
    job_expect_text(j.message[0], "for worker 1");
}

/* Many that are late are no later than one: the other worker waits for LONG. */

#define MANY 40

static void
late_together_body(job *j, gp_worker *w, uint32_t rank)
{
    float data[MANY][4] = {{0}};
    gp_request *r[MANY];
    gp_tensor *t[MANY];
    gp_status status;

    for (int i = 0; i < MANY; i++) {
        char name[16];

        snprintf(name, sizeof(name), "late%d", i);
        t[i] = job_tensor(w, name, 4, "sum");
    }
    status = gp_worker_ready(w);
    if (rank == 1)
        await(j->data);
    for (int i = 0; status == GP_OK && i < MANY; i++)
        job_check(gp_push_pull(t[i], data[i], data[i], &r[i]));
    if (rank == 0) {
        job_note(j, rank, status == GP_OK ? gp_wait_all(r, MANY, -1) : status);
        atomic_store((atomic_bool *)j->data, true);
    }
    if (status == GP_OK)
        status = gp_wait_all(r, MANY, LONG);
    if (rank == 1 || status != GP_OK)
        job_note(j, rank, status);
}

/* The next try begins like this one. */
static bool
was_too_short(const job *j, const char *part)
{
    atomic_store((atomic_bool *)j->data, false);
    return !strstr(j->message[0], part) || j->ended[1] != GP_OK;
}

static void
many_are_late_together(void **state)
{
    static const char *const part = "tensor 'late0' step 0";
    atomic_bool over = false;
    job j = {.transport = "tcp",
             .workers = 2,
             .shards = 1,
             .body = late_together_body,
             .data = &over};

    (void)state;
    job_run_patiently(&j, "timeout", 3000, part, was_too_short);
    job_expect_end(&j, 0, GP_ERR_TIMEOUT, part);
    job_expect_end(&j, 1, GP_OK, "");
    assert_int_equal(j.server_status, GP_OK);
}

static void
barrier_body(job *j, gp_worker *w, uint32_t rank)
{
    atomic_bool *over = j->data;

    if (rank == 1) {
        await(over);
        return;
    }
    job_note(j, rank, gp_barrier(w));
    atomic_store(over, true);
}

static void
late_barrier_names_the_worker(void **state)
{
    atomic_bool over = false;
    job j = {.transport = "tcp",
             .workers = 2,
             .shards = 1,
             .body = barrier_body,
             .data = &over};

    (void)state;
    job_run_patiently(&j, "timeout", 1400, "worker 1", was_too_short);
    job_expect_end(&j, 0, GP_ERR_TIMEOUT, "worker 1");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fewer_batches),
        cmocka_unit_test(one_left_long_ago),
        cmocka_unit_test(barrier_without_one),
        cmocka_unit_test(late_worker_is_named),
        cmocka_unit_test(many_are_late_together),
        cmocka_unit_test(late_barrier_names_the_worker),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
