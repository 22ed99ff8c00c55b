/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_elastic_sim.c - workers that come and go over verbs, on a simulated
 * fabric: one dies as of kill -9, its next life comes and leaves in order, and
 * the others go on.
 *
 * Lives of the third place are this test's; the others are the harness's. Each
 * worker pulls element i up by one for i % PLACES = its rank, so the parameters
 * say whose pushes are in them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"
#include "job_harness.h"
#include "tests/sim/sim.h"

#define PLACES 3u
#define VISIT  (PLACES - 1)
#define COUNT  9000u
#define STEPS  4u /* of each life */
#define LONG   120.0

typedef struct scene {
    gp_sim *sim;
    const char *mode, *codec;
    bool silent, registered;
    _Atomic uint32_t steps; /* of rank 0 */
    atomic_bool over;
} scene;

typedef struct actor {
    gp_worker *w;
    gp_tensor *t;
    gp_buffer *buffer;
    float *memory, *grad, *value;
    uint32_t rank;
} actor;

static gp_status
end(gp_status status, gp_request *r)
{
    return status == GP_OK ? gp_wait(&r, -1) : status;
}

static void
enter(actor *a, gp_worker *w, uint32_t rank, const scene *s)
{
    size_t floats = COUNT + 32;
    gp_tensor_options o = GP_TENSOR_INIT;

    *a = (actor){.w = w, .rank = rank};
    a->memory = aligned_alloc(64, 2 * floats * sizeof(float));
    job_require(a->memory != NULL);
    a->grad = a->memory;
    a->value = a->memory + floats;
    for (uint32_t i = 0; i < COUNT; i++) {
        a->grad[i] = i % PLACES == rank ? -1.0f : 0.0f;
        a->value[i] = 0;
    }
    o.name = "t";
    o.count = COUNT;
    o.updater = "sgd:lr=1";
    o.mode = s->mode;
    o.codec = s->codec;
    job_check(gp_tensor_register(w, &o, &a->t));
    if (s->registered)
        job_check(gp_buffer_register(w, a->memory, 2 * floats * sizeof(float),
                                     &a->buffer));
}

/* Begins a step; whoever came late has then what the others have. */
static gp_status
meet(actor *a, bool first, gp_members *m)
{
    gp_request *r = NULL;
    gp_status status = gp_worker_members(a->w, m);

    if (status != GP_OK || !first)
        return status;
    status = m->late ? gp_pull(a->t, a->value, &r)
                     : gp_broadcast(a->t, a->value, m->ranks[0], &r);
    return end(status, r);
}

/* One step. Its own pushes are in the result, and nobody's are lost. */
static gp_status
step(actor *a)
{
    static _Thread_local float before[COUNT];
    gp_request *r = NULL;
    gp_status status;

    memcpy(before, a->value, sizeof(before));
    status = gp_push_pull(a->t, a->grad, a->value, &r);
    status = end(status, r);
    for (uint32_t i = 0; i < COUNT && status == GP_OK; i++) {
        job_require(a->value[i] >= before[i]);
        if (i % PLACES == a->rank)
            job_require(a->value[i] > before[i]);
    }
    return status;
}

static void
await_steps(const scene *s, uint32_t more)
{
    double deadline = job_seconds() + LONG;
    uint32_t wanted = s->steps + more;

    while (s->steps < wanted)
        job_require(job_seconds() < deadline, "nobody steps any more");
}

/* A life of the third place; killed when it has made some steps. */
static void
live(const job *j, scene *s, bool killed)
{
    unsigned process = gp_sim_processes(s->sim) + 1; /* the next one */
    gp_config *c = job_config(j);
    gp_members m;
    gp_worker *w;
    actor a;

    job_set(c, "rank", "2");
    job_set(c, "servers", j->servers);
    job_check(gp_worker_create(c, &w));
    gp_config_destroy(c);
    enter(&a, w, VISIT, s);
    for (uint32_t n = 0; n < STEPS; n++) {
        job_check(meet(&a, n == 0, &m));
        job_require(m.count >= 2 && (n > 0 || m.late));
        job_check(step(&a));
    }
    if (killed)
        gp_sim_kill(s->sim, process, s->silent);
    else if (a.buffer)
        job_check(gp_buffer_unregister(a.buffer));
    gp_worker_destroy(w);
    free(a.memory);
}

static void *
visit(void *arg)
{
    job *j = arg;
    scene *s = j->data;

    await_steps(s, 2);
    live(j, s, true);
    await_steps(s, 3);
    live(j, s, false);
    await_steps(s, 3);
    s->over = true;
    return NULL;
}

static void
body(job *j, gp_worker *w, uint32_t rank)
{
    scene *s = j->data;
    double deadline = job_seconds() + LONG;
    uint64_t last = 0;
    pthread_t thread;
    gp_members m;
    actor a;

    enter(&a, w, rank, s);
    if (rank == 0)
        job_require(pthread_create(&thread, NULL, visit, j) == 0);
    for (bool first = true; first || !s->over; first = false) {
        job_check(meet(&a, first, &m));
        job_require(m.epoch >= last && job_seconds() < deadline);
        last = m.epoch;
        job_check(step(&a));
        if (rank == 0)
            s->steps++;
    }
    if (rank == 0)
        job_require(pthread_join(thread, NULL) == 0);
    /* The third has come, died, come and left. */
    job_require(last >= 4);
    if (a.buffer)
        job_check(gp_buffer_unregister(a.buffer));
    free(a.memory);
}

static void
play(const char *mode, const char *codec, bool silent, bool registered,
     uint64_t seed)
{
    gp_sim_options fabric = {.seed = seed, .ignore_buffers = true};
    scene s = {.mode = mode,
               .codec = codec,
               .silent = silent,
               .registered = registered};
    job j = {
        .transport = "verbs",
        .workers = PLACES,
        .shards = 2,
        .absent = {[VISIT] = true},
        .settings = {"chunk_bytes", "16K", "elastic", "on", "log", "error"},
        .body = body,
        .data = &s};
    gp_status status;

    s.sim = gp_sim_open(&fabric);
    assert_non_null(s.sim);
    gp_verbs_api_use(gp_sim_api(s.sim));
    status = run_job(&j);
    gp_verbs_api_use(NULL);
    assert_int_equal(gp_sim_finish(s.sim), 0);
    if (status != GP_OK)
        fail_msg("%s: %s %s", mode, j.server_message, j.message[0]);
}

static void
one_dies_and_comes_back(void **state)
{
    (void)state;
    play("sync", NULL, false, true, 1);
    play("ssp:1", NULL, false, false, 2);
}

/* Nobody says that it is gone: what is sent to it is not answered. Where there
 * are alternatives, steps are encoded one after the other: its first is one of
 * the others'. */
static void
one_is_cut_off_and_comes_back(void **state)
{
    (void)state;
    play("sync", "none|q8", true, false, 3);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_dies_and_comes_back),
        cmocka_unit_test(one_is_cut_off_and_comes_back)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
