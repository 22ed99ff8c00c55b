/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_collective_faults.c - members that die, leave, disagree or stay away:
 * everybody's request ends, and the text names who and what.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "collective/coll_int.h"
#include "job_harness.h"

static const char *const transports[] = {"loop", "tcp"};

static void
run_both(uint32_t workers, void (*body)(job *, gp_worker *, uint32_t),
         void (*look)(const job *))
{
    for (size_t i = 0; i < 2; i++) {
        job j = {.transport = transports[i],
                 .workers = workers,
                 .colocated = true,
                 .body = body};

        assert_int_equal(run_job(&j), GP_OK);
        look(&j);
    }
}

/* Notes what a request ended with; no wait is longer than the harness's. */
static void
note(job *j, uint32_t rank, gp_status started, gp_request **request)
{
    job_note(j, rank, started == GP_OK ? gp_wait(request, -1) : started);
}

/* --- disagreement -----------------------------------------------------------
 */

typedef gp_status (*caller)(gp_group *g, uint32_t rank, float *values,
                            gp_request **request);

static gp_status
other_count(gp_group *g, uint32_t rank, float *values, gp_request **request)
{
    return gp_allreduce(g, values, values, 100 + (rank == 2), GP_FP32, GP_SUM,
                        request);
}

static gp_status
other_type(gp_group *g, uint32_t rank, float *values, gp_request **request)
{
    return gp_allreduce(g, values, values, 100, rank == 2 ? GP_BF16 : GP_FP32,
                        GP_SUM, request);
}

static gp_status
other_reduction(gp_group *g, uint32_t rank, float *values, gp_request **request)
{
    return gp_allreduce(g, values, values, 100, GP_FP32,
                        rank == 2 ? GP_LARGEST : GP_SUM, request);
}

static gp_status
other_operation(gp_group *g, uint32_t rank, float *values, gp_request **request)
{
    if (rank == 2)
        return gp_bcast(g, values, 400, 2, request);
    return gp_allreduce(g, values, values, 100, GP_FP32, GP_SUM, request);
}

/* Nobody sends anything: each waits for the other. */
static gp_status
other_root(gp_group *g, uint32_t rank, float *values, gp_request **request)
{
    return gp_bcast(g, values, 400, rank == 0 ? 1 : 0, request);
}

/* All send, and are done with that: what comes is for nobody. */
static gp_status
all_roots(gp_group *g, uint32_t rank, float *values, gp_request **request)
{
    return gp_bcast(g, values, 400, rank, request);
}

/* One has nothing to send nor to wait for. */
static gp_status
nothing_of_it(gp_group *g, uint32_t rank, float *values, gp_request **request)
{
    return gp_allreduce(g, values, values, rank == 2 ? 0 : 100, GP_FP32, GP_SUM,
                        request);
}

/* Likewise, and it does not hear of the others either. */
static gp_status
nothing_of_root(gp_group *g, uint32_t rank, float *values, gp_request **request)
{
    return gp_bcast(g, values, rank == 0 ? 0 : 400, 0, request);
}

static void
disagree(job *j, gp_worker *w, uint32_t rank)
{
    caller call = *(caller *)j->data;
    float *values = calloc(200, sizeof(float));
    gp_request *request;
    gp_group *g;

    job_check(gp_group_create(w, NULL, &g));
    job_check(gp_group_barrier(g)); /* from here on all can send to all */
    job_check(gp_barrier(w));       /* the next may fail the group */
    note(j, rank, call(g, rank, values, &request), &request);
    /* The root of a broadcast is done when it has sent. */
    if (j->ended[rank] == GP_OK)
        job_note(j, rank, gp_group_barrier(g));
    /* The group has failed for good. */
    job_require(gp_allreduce(g, values, values, 1, GP_FP32, GP_SUM, &request) ==
                    GP_ERR_MISMATCH,
                "%s after %s", gp_last_error(), j->message[rank]);
    job_check(gp_barrier(w)); /* who left would be another reason */
    gp_group_destroy(g);
    free(values);
}

static void
test_disagreement(void **state)
{
    static const struct {
        caller call;
        const char *said;
    } cases[] = {{other_count, "101"},         {other_type, "bf16"},
                 {other_reduction, "largest"}, {other_operation, "gp_bcast"},
                 {other_root, "from member"},  {all_roots, "from member"},
                 {nothing_of_it, "of 0 fp32"}, {nothing_of_root, "of 0 bytes"}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        caller call = cases[i].call;
        job j = {.transport = transports[i % 2],
                 .workers = 3,
                 .colocated = true,
                 .data = &call,
                 .body = disagree};

        assert_int_equal(run_job(&j), GP_OK);
        for (uint32_t r = 0; r < 3; r++)
            job_expect_end(&j, r, GP_ERR_MISMATCH, cases[i].said);
    }
}

/* --- loss
 * ---------------------------------------------------------------------- */

/* Worker 1 loses its connections as if it had been killed, while the others
 * wait for what it does not send. */
static void
vanish(job *j, gp_worker *w, uint32_t rank)
{
    float *values = calloc(300000, sizeof(float));
    gp_request *request;
    gp_group *g;

    job_check(gp_group_create(w, NULL, &g));
    job_check(
        gp_allreduce(g, values, values, 300000, GP_FP32, GP_SUM, &request));
    job_check(gp_wait(&request, -1));
    job_check(gp_barrier(w));
    if (rank == 1) {
        gp_driver_hold(w->driver);
        for (uint32_t r = 0; r < w->size; r++)
            if (w->mesh->mate[r])
                gp_mate_drop(w->mesh->mate[r], MATE_LOST);
        gp_driver_release(w->driver);
    } else {
        note(j, rank,
             gp_allreduce(g, values, values, 300000, GP_FP32, GP_SUM, &request),
             &request);
    }
    gp_group_destroy(g);
    free(values);
}

static void
all_name_the_lost(const job *j)
{
    job_expect_end(j, 0, GP_ERR_PEER_LOST, "worker 1");
    job_expect_end(j, 2, GP_ERR_PEER_LOST, "worker 1");
    job_expect_end(j, 3, GP_ERR_PEER_LOST, "worker 1");
}

static void
test_lost(void **state)
{
    (void)state;
    run_both(4, vanish, all_name_the_lost);
}

static void
leave_early(job *j, gp_worker *w, uint32_t rank)
{
    float values[4] = {0};
    gp_request *request;
    gp_group *g;

    job_check(gp_group_create(w, NULL, &g));
    /* Who sees it leave first may fail the group before others are through. */
    job_note(j, rank, gp_group_barrier(g));
    if (rank == 1 || j->ended[rank] != GP_OK)
        return;
    note(j, rank, gp_allreduce(g, values, values, 4, GP_FP32, GP_SUM, &request),
         &request);
}

static void
all_name_the_leaver(const job *j)
{
    job_expect_end(j, 0, GP_ERR_PEER_LEFT, "worker 1");
    job_expect_end(j, 2, GP_ERR_PEER_LEFT, "worker 1");
}

static void
test_left(void **state)
{
    (void)state;
    run_both(3, leave_early, all_name_the_leaver);
}

/* What the root of a broadcast has sent counts, though it has left since. */
static void
leave_after(job *j, gp_worker *w, uint32_t rank)
{
    float values[4] = {1, 2, 3, 4};
    gp_request *request;
    gp_group *g;

    (void)j;
    job_check(gp_group_create(w, NULL, &g));
    job_check(gp_group_barrier(g));
    if (rank == 1)
        memset(values, 0, sizeof(values));
    for (int i = 0; i < 3; i++) {
        job_check(gp_bcast(g, values, sizeof(values), 0, &request));
        job_check(gp_wait(&request, -1));
    }
    job_require(values[3] == 4);
}

static void
nothing(const job *j)
{
    (void)j;
}

static void
test_left_after(void **state)
{
    (void)state;
    run_both(2, leave_after, nothing);
}

/* --- lateness
 * -------------------------------------------------------------------- */

static void
be_late(job *j, gp_worker *w, uint32_t rank)
{
    float values[4] = {1, 2, 3, 4};
    gp_request *request;
    gp_group *g;

    job_check(gp_group_create(w, NULL, &g));
    if (rank == 0) {
        job_check(
            gp_allreduce(g, values, values, 4, GP_FP32, GP_SUM, &request));
        job_note(j, rank, gp_wait(&request, 0.05));
        job_require(request != NULL);
    }
    job_check(gp_barrier(w));
    if (rank == 1)
        job_check(
            gp_allreduce(g, values, values, 4, GP_FP32, GP_SUM, &request));
    job_check(gp_wait(&request, -1));
    job_require(values[3] == 8);
}

static void
it_names_the_late(const job *j)
{
    job_expect_end(j, 0, GP_ERR_TIMEOUT, "worker 1");
}

static void
test_late(void **state)
{
    (void)state;
    run_both(2, be_late, it_names_the_late);
}

/* Open requests end when their group or worker goes. */
static void
go_with_requests(job *j, gp_worker *w, uint32_t rank)
{
    float values[4] = {0}, more[4] = {0};
    gp_request *request;
    gp_group *a, *b;
    gp_group_options o = GP_GROUP_INIT;

    (void)j;
    o.name = "other";
    job_check(gp_group_create(w, NULL, &a));
    job_check(gp_group_create(w, &o, &b));
    if (rank == 0) {
        job_check(gp_recv(a, values, 16, 1, 7, &request));
        job_check(gp_recv(b, more, 16, 1, 7, &request));
        gp_group_destroy(a);
    }
    job_check(gp_barrier(w));
}

static void
test_open_requests(void **state)
{
    (void)state;
    run_both(2, go_with_requests, nothing);
}

/* --- wrong calls
 * ---------------------------------------------------------------- */

static void
call_wrongly(job *j, gp_worker *w, uint32_t rank)
{
    static const uint32_t twice[] = {0, 0}, foreign[] = {0, 9}, apart[] = {1};
    gp_group_options o = GP_GROUP_INIT;
    gp_request *request;
    float values[4] = {0};
    gp_group *g, *again;

    (void)j;
    o.ranks = twice;
    o.count = 2;
    job_require(gp_group_create(w, &o, &g) == GP_ERR_INVALID);
    o.ranks = foreign;
    job_require(gp_group_create(w, &o, &g) == GP_ERR_INVALID);
    o.ranks = apart;
    o.count = 1;
    if (rank == 0)
        job_require(gp_group_create(w, &o, &g) == GP_ERR_INVALID);
    o.ranks = NULL;
    o.algorithm = "tree";
    job_require(gp_group_create(w, &o, &g) == GP_ERR_CONFIG);
    o.algorithm = NULL;
    o.name = "";
    job_require(gp_group_create(w, &o, &g) == GP_ERR_CONFIG);
    job_check(gp_group_create(w, NULL, &g));
    job_require(gp_group_create(w, NULL, &again) == GP_ERR_EXISTS);
    job_require(gp_allreduce(g, NULL, values, 4, GP_FP32, GP_SUM, &request) ==
                GP_ERR_INVALID);
    job_require(gp_allreduce(g, values, values, 4, (gp_dtype)9, GP_SUM,
                             &request) == GP_ERR_INVALID);
    job_require(gp_allreduce(g, values, values, 4, GP_FP32, (gp_reduction)9,
                             &request) == GP_ERR_INVALID);
    job_require(gp_allreduce(g, values, values, UINT64_MAX / 2, GP_FP32, GP_SUM,
                             &request) == GP_ERR_TOO_LARGE);
    job_require(gp_bcast(g, values, 16, 2, &request) == GP_ERR_INVALID);
    job_require(gp_send(g, values, 16, rank, 0, &request) == GP_ERR_INVALID);
    job_check(gp_group_barrier(g));
    gp_group_destroy(g);
    /* A second one of the same name and ranks is another group. */
    job_check(gp_group_create(w, NULL, &g));
    job_check(gp_group_barrier(g));
    gp_group_destroy(g);
}

static void
test_wrong_calls(void **state)
{
    (void)state;
    run_both(2, call_wrongly, nothing);
}

static void
have_other_options(job *j, gp_worker *w, uint32_t rank)
{
    gp_group_options o = GP_GROUP_INIT;
    gp_group *g;

    o.algorithm = rank ? "ring" : "direct";
    job_note(j, rank, gp_group_create(w, &o, &g));
}

static void
they_are_named(const job *j)
{
    job_expect_end(j, 0, GP_ERR_MISMATCH, "ring");
    job_expect_end(j, 1, GP_ERR_MISMATCH, "direct");
}

static void
test_other_options(void **state)
{
    (void)state;
    run_both(2, have_other_options, they_are_named);
}

static void
stay_away(job *j, gp_worker *w, uint32_t rank)
{
    gp_status status;
    gp_group *g;

    if (rank == 0)
        job_note(j, rank, gp_group_create(w, NULL, &g));
    status = gp_barrier(w);
    if (rank == 1)
        job_note(j, rank, status);
}

/* Whether it was too short for both to join, or for the store to say who. */
static bool
was_too_short(const job *j, const char *part)
{
    return j->created[0] != GP_OK || j->created[1] != GP_OK ||
           !strstr(j->message[0], part);
}

static void
test_stay_away(void **state)
{
    job j = {
        .transport = "tcp", .workers = 2, .colocated = true, .body = stay_away};

    (void)state;
    job_run_patiently(&j, "connect_timeout", 1000, "member 1", was_too_short);
    job_expect_end(&j, 0, GP_ERR_TIMEOUT, "member 1");
    job_expect_end(&j, 1, GP_OK, "");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_disagreement),
        cmocka_unit_test(test_lost),
        cmocka_unit_test(test_left),
        cmocka_unit_test(test_left_after),
        cmocka_unit_test(test_late),
        cmocka_unit_test(test_open_requests),
        cmocka_unit_test(test_wrong_calls),
        cmocka_unit_test(test_other_options),
        cmocka_unit_test(test_stay_away),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
