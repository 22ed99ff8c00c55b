/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_alternatives.c - workers that push the same step through different
 * pipelines, and change them from step to step.
 *
 * What a lossy step loses must come with the next step, whichever pipeline that
 * goes through.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <gradpush/codec.h>

#include "job_harness.h"
#include "worker/worker_int.h"

#define COUNT   50001u
#define STEPS   9u
#define WORKERS 3u

static const char *const texts[] = {"none", "q8", "bf16", "q8:block=64"};
static const char all[] = "none|q8|bf16|q8:block=64";

/* Another for every rank, but all the same in some steps. */
static uint32_t
choice(uint32_t rank, uint32_t step)
{
    return step % 3 == 2 ? step / 3 % 4 : (rank + step) % 4;
}

static void *
room(size_t bytes)
{
    void *p = calloc(1, bytes);

    job_require(p != NULL);
    return p;
}

/* What the receiver of `in` sees. */
static void
pass(const char *text, const float *in, float *out)
{
    gp_codec_context context = {.seed = 1};
    gp_pipeline *p;
    size_t bound, length;
    void *bytes, *work;

    job_check(gp_pipeline_parse(text, &p));
    bound = gp_pipeline_bound(p, COUNT);
    bytes = room(bound);
    work = aligned_alloc(64, gp_pipeline_workspace(p, COUNT) / 64 * 64 + 128);
    memcpy(out, in, COUNT * sizeof(float));
    job_check(gp_pipeline_fake(p, &context, NULL, out, COUNT, bytes, bound,
                               &length, work));
    free(work);
    free(bytes);
    gp_pipeline_destroy(p);
}

typedef struct plan {
    bool feedback;
    float *result[STEPS];
    float *owed[WORKERS]; /* after the last step */
} plan;

static void
add_rank(plan *p, uint32_t rank, uint32_t step)
{
    float *u = room(COUNT * sizeof(float));
    float *sent = room(COUNT * sizeof(float));
    float *owed = p->owed[rank];

    for (uint32_t i = 0; i < COUNT; i++)
        u[i] = owed[i] + job_value(rank, 0, step, i);
    pass(texts[choice(rank, step)], u, sent);
    for (uint32_t i = 0; i < COUNT; i++) {
        float *sum = &p->result[step][i];

        owed[i] = p->feedback ? u[i] - sent[i] : 0;
        *sum = rank == 0 ? sent[i] : *sum + sent[i];
    }
    free(sent);
    free(u);
}

static void
open_plan(plan *p, bool feedback)
{
    p->feedback = feedback;
    for (uint32_t r = 0; r < WORKERS; r++)
        p->owed[r] = room(COUNT * sizeof(float));
    for (uint32_t s = 0; s < STEPS; s++) {
        p->result[s] = room(COUNT * sizeof(float));
        for (uint32_t r = 0; r < WORKERS; r++)
            add_rank(p, r, s);
    }
}

static void
close_plan(plan *p)
{
    for (uint32_t r = 0; r < WORKERS; r++)
        free(p->owed[r]);
    for (uint32_t s = 0; s < STEPS; s++)
        free(p->result[s]);
}

static gp_tensor *
open_tensor(gp_worker *w, const char *codec, int feedback)
{
    gp_tensor_options o = GP_TENSOR_INIT;
    gp_tensor *t;

    o.name = "t";
    o.count = COUNT;
    o.updater = "sum";
    o.codec = codec;
    o.feedback = feedback;
    job_check(gp_tensor_register(w, &o, &t));
    return t;
}

static void
step(gp_tensor *t, uint32_t rank, uint32_t s, float *data)
{
    gp_request *request;

    for (uint32_t i = 0; i < COUNT; i++)
        data[i] = job_value(rank, 0, s, i);
    gp_tensor_prefer(t, choice(rank, s));
    job_check(gp_push_pull(t, data, data, &request));
    job_check(gp_wait(&request, -1));
}

static void
body(job *j, gp_worker *w, uint32_t rank)
{
    const plan *p = j->data;
    gp_tensor *t = open_tensor(w, all, p->feedback);
    float *data = room(COUNT * sizeof(float));
    const char *name;
    uint64_t count;

    for (uint32_t s = 0; s < STEPS; s++) {
        step(t, rank, s, data);
        job_require(memcmp(data, p->result[s], COUNT * sizeof(float)) == 0,
                    "rank %u step %u", rank, s);
    }
    if (p->feedback) {
        job_check(gp_tensor_state(t, 0, &name, &count));
        job_require(strcmp(name, "residual") == 0 && count == COUNT);
        job_check(gp_tensor_save_state(t, name, data));
        job_require(memcmp(data, p->owed[rank], COUNT * sizeof(float)) == 0);
    }
    free(data);
}

static void
run(plan *p, const char *transport, uint32_t shards, const char *chunk_bytes,
    const char *slots)
{
    job j = {.transport = transport,
             .workers = WORKERS,
             .shards = shards,
             .colocated = shards == 0,
             .settings = {"chunk_bytes", chunk_bytes, "slots", slots},
             .body = body,
             .data = p};
    gp_status status = run_job(&j);

    for (uint32_t r = 0; r < WORKERS; r++)
        if (j.created[r] != GP_OK)
            fail_msg("rank %u: %s", r, j.message[r]);
    if (status != GP_OK)
        fail_msg("%s", j.server_message);
}

static void
every_step_may_choose(void **state)
{
    (void)state;
    for (int feedback = 0; feedback < 2; feedback++) {
        plan p = {0};

        open_plan(&p, feedback);
        run(&p, "loop", 1, "1M", "8");
        run(&p, "loop", 3, "16K", "1");
        run(&p, "tcp", 2, "16K", "2");
        run(&p, "loop", 0, "16K", "3");
        close_plan(&p);
    }
}

/* Until the engine has taken what was submitted, and chosen. */
static void
settle(gp_worker *w)
{
    double deadline = job_seconds() + 120;
    bool taken = false;

    while (!taken) {
        job_require(job_seconds() < deadline);
        pthread_mutex_lock(&w->submit_lock);
        taken = gp_list_empty(&w->submitted);
        pthread_mutex_unlock(&w->submit_lock);
    }
    gp_driver_hold(w->driver);
    gp_driver_release(w->driver);
}

/* Steps whose requests overlap are still encoded one after the other. */
static void
overlapping_body(job *j, gp_worker *w, uint32_t rank)
{
    const plan *p = j->data;
    gp_tensor *t = open_tensor(w, all, 1);
    float *data[STEPS];
    gp_request *request[STEPS];

    for (uint32_t s = 0; s < STEPS; s++) {
        data[s] = room(COUNT * sizeof(float));
        for (uint32_t i = 0; i < COUNT; i++)
            data[s][i] = job_value(rank, 0, s, i);
        gp_tensor_prefer(t, choice(rank, s));
        job_check(gp_push_pull(t, data[s], data[s], &request[s]));
        settle(w);
    }
    for (uint32_t s = 0; s < STEPS; s++) {
        job_check(gp_wait(&request[s], -1));
        job_require(memcmp(data[s], p->result[s], COUNT * sizeof(float)) == 0,
                    "rank %u step %u", rank, s);
        free(data[s]);
    }
}

static void
steps_may_overlap(void **state)
{
    plan p = {0};
    job j = {.transport = "loop",
             .workers = WORKERS,
             .shards = 3,
             .settings = {"chunk_bytes", "16K", "slots", "1"},
             .body = overlapping_body,
             .data = &p};

    (void)state;
    open_plan(&p, true);
    assert_int_equal(run_job(&j), GP_OK);
    close_plan(&p);
}

static void
state_body(job *j, gp_worker *w, uint32_t rank)
{
    gp_tensor *t = open_tensor(w, "none|q8", -1);
    float *data = room(COUNT * sizeof(float)), *zero;
    const char *name;
    uint64_t count = 77;

    (void)j;
    zero = room(COUNT * sizeof(float));
    job_check(gp_tensor_state(t, 0, &name, &count));
    job_require(count == COUNT && strcmp(name, "residual") == 0);
    job_require(gp_tensor_state(t, 1, &name, &count) == GP_ERR_NOT_FOUND);
    job_require(gp_tensor_save_state(t, "velocity", data) ==
                GP_ERR_UNSUPPORTED);
    for (uint32_t i = 0; i < COUNT; i++)
        data[i] = (float)i;
    job_check(gp_tensor_load_state(t, "residual", data));
    /* Dense, and yet with what was owed. */
    gp_tensor_prefer(t, 0);
    {
        gp_request *request;

        job_check(gp_push_pull(t, zero, data, &request));
        job_check(gp_wait(&request, -1));
    }
    for (uint32_t i = 0; i < COUNT; i++)
        job_require(data[i] == 3.0f * (float)i, "element %u", i);
    job_check(gp_tensor_save_state(t, "residual", data));
    job_require(memcmp(data, zero, COUNT * sizeof(float)) == 0);
    data[7] = 1;
    job_check(gp_tensor_load_state(t, "residual", data));
    job_check(gp_tensor_reset_state(t));
    job_check(gp_tensor_save_state(t, "residual", data));
    job_require(data[7] == 0, "rank %u", rank);
    free(zero);
    free(data);
}

static void
states_have_names(void **state)
{
    job j = {.transport = "loop",
             .workers = WORKERS,
             .shards = 2,
             .settings = {"chunk_bytes", "16K"},
             .body = state_body};

    (void)state;
    assert_int_equal(run_job(&j), GP_OK);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_step_may_choose),
        cmocka_unit_test(steps_may_overlap),
        cmocka_unit_test(states_have_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
