/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_registered.c - registered memory: how little a device must be told, that
 * results do not depend on it, and when memory is the user's again.
 *
 * The transport is tcp behind a table that counts and checks; whether it says
 * that it has a device decides how the engine treats users' memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/base.h"
#include "job_counted.h"
#include "job_reference.h"

#define TENSORS 161u /* like ResNet-50's list, with 1/64 of the elements */
#define STEPS   3u
#define SHARDS  8u
#define LONG    120.0 /* seconds; ends what hangs */

/* Where the buffers lie. */
typedef enum place {
    PLACE_REGISTERED,
    PLACE_CROOKED, /* registered, but no result begins at 64 bytes */
    PLACE_ELSEWHERE
} place;

typedef struct model {
    place place;
    const char *codec, *pull_codec, *updater;
    bool init; /* broadcast first */
} model;

/* 53 convolutions with two vectors each, and a layer of 1000. */
static uint64_t
count_of(uint32_t k)
{
    static const uint64_t convolutions[] = {147,  64,   576,  256,  512,  1024,
                                            2304, 4096, 9216, 8192, 36864};

    if (k == TENSORS - 2)
        return 32000;
    if (k == TENSORS - 1)
        return 1000;
    return k % 3 == 0 ? convolutions[k / 3 % 11] : 64u << (k / 3 % 5);
}

/* Elements from the slab's beginning. */
static uint64_t
offset_of(uint32_t k, place where)
{
    uint64_t at = 0;

    for (uint32_t i = 0; i < k; i++)
        at += (count_of(i) + 15) / 16 * 16;
    return at + (where == PLACE_CROOKED ? 3 : 0);
}

typedef struct slab {
    float *values;
    uint64_t count;
    gp_buffer *buffer;
} slab;

static void
open_slab(slab *s, gp_worker *w, place where)
{
    s->count = offset_of(TENSORS, where);
    s->values = aligned_alloc(64, (s->count * sizeof(float) + 63) / 64 * 64);
    s->buffer = NULL;
    job_require(s->values != NULL);
    memset(s->values, 0, s->count * sizeof(float));
    if (where != PLACE_ELSEWHERE)
        job_check(gp_buffer_register(w, s->values, s->count * sizeof(float),
                                     &s->buffer));
}

static void
close_slab(slab *s)
{
    job_check(gp_buffer_unregister(s->buffer));
    free(s->values);
}

static gp_tensor *
add_tensor(gp_worker *w, const model *m, uint32_t k)
{
    gp_tensor_options o = GP_TENSOR_INIT;
    char name[24];
    gp_tensor *t;

    snprintf(name, sizeof(name), "t%u", k);
    o.name = name;
    o.count = count_of(k);
    o.codec = m->codec;
    o.pull_codec = m->pull_codec;
    o.updater = m->updater;
    o.feedback = 0;
    job_check(gp_tensor_register(w, &o, &t));
    return t;
}

static void
expect_sum(const float *got, uint32_t workers, uint32_t k, uint64_t step)
{
    for (uint64_t i = 0; i < count_of(k); i++) {
        float sum = job_value(0, k, step, i);

        for (uint32_t r = 1; r < workers; r++)
            sum += job_value(r, k, step, i);
        job_require(got[i] == sum, "tensor %u step %u [%u] is %g, not %g", k,
                    (unsigned)step, (unsigned)i, (double)got[i], (double)sum);
    }
}

static void
init_model(job *j, gp_tensor **t, const model *m, slab *out, uint32_t rank)
{
    gp_request *r[TENSORS];

    for (uint32_t k = 0; k < TENSORS; k++) {
        float *values = out->values + offset_of(k, m->place);

        for (uint64_t i = 0; i < count_of(k) && rank == k % j->workers; i++)
            values[i] = (float)k + (float)i;
        job_check(gp_broadcast(t[k], values, k % j->workers, &r[k]));
    }
    job_check(gp_wait_all(r, TENSORS, -1));
    for (uint32_t k = 0; k < TENSORS; k++) {
        const float *values = out->values + offset_of(k, m->place);

        for (uint64_t i = 0; i < count_of(k); i++)
            job_require(values[i] == (float)k + (float)i);
    }
}

static void
step_model(job *j, gp_tensor **t, const model *m, slab *grad, slab *out,
           uint32_t rank, uint64_t step)
{
    gp_request *r[TENSORS];

    for (uint32_t k = 0; k < TENSORS; k++) {
        uint64_t at = offset_of(k, m->place);

        for (uint64_t i = 0; i < count_of(k); i++)
            grad->values[at + i] = job_value(rank, k, step, i);
        job_check(
            gp_push_pull(t[k], grad->values + at, out->values + at, &r[k]));
    }
    job_check(gp_wait_all(r, TENSORS, -1));
    for (uint32_t k = 0; k < TENSORS && !m->codec; k++)
        expect_sum(out->values + offset_of(k, m->place), j->workers, k, step);
}

static void
model_body(job *j, gp_worker *w, uint32_t rank)
{
    const model *m = j->data;
    gp_tensor *t[TENSORS];
    slab grad, out;

    open_slab(&grad, w, m->place);
    open_slab(&out, w, m->place);
    for (uint32_t k = 0; k < TENSORS; k++)
        t[k] = add_tensor(w, m, k);
    if (m->init)
        init_model(j, t, m, &out, rank);
    for (uint64_t s = 0; s < STEPS; s++)
        step_model(j, t, m, &grad, &out, rank, s);
    close_slab(&grad);
    close_slab(&out);
}

static void
run_model(const model *m, uint32_t caps, counted *out)
{
    job j = {.transport = "counted",
             .workers = 2,
             .shards = SHARDS,
             .settings = {"chunk_bytes", "64K", "log", "info"},
             .body = model_body,
             .data = (void *)m};
    gp_status status;

    counted_begin(caps);
    job_log_start();
    status = run_job(&j);
    job_log_stop();
    counted_look(out);
    for (uint32_t r = 0; r < j.workers; r++)
        if (j.created[r] != GP_OK)
            fail_msg("rank %u: %s", r, j.message[r]);
    if (status != GP_OK)
        fail_msg("%s", j.server_message);
    assert_string_equal(out->violation, "");
    assert_int_equal(out->worker.tokens, 0);
}

/* Beside these, a transport has one region a peer for frames of its own. */
static void
expect_few(const counted *c)
{
    assert_int_equal(c->worker.endpoints, 2 * SHARDS);
    assert_int_equal(c->shard.endpoints, 2 * SHARDS);
    assert_in_range(c->worker.both, 1, 2);
    assert_int_equal(c->shard.exposed, 1);
    assert_int_equal(c->shard.sources, 1);
    /* Two ranges and a scratch for each shard; an arena and slots. */
    assert_in_range(c->worker.registered, SHARDS, SHARDS + 2);
    assert_int_equal(c->shard.registered, 1 + 2);
    assert_int_equal(c->worker.strays, 0);
    assert_int_equal(c->shard.strays, 0);
}

static void
few_regions(void **state)
{
    model m = {.place = PLACE_REGISTERED, .updater = "sum"};
    counted c;

    (void)state;
    run_model(&m, GP_CAP_DEVICE, &c);
    assert_false(job_log_has("gp_buffer_register"));
    expect_few(&c);
    assert_int_equal(c.worker.registered, SHARDS + 2);
    /* A device is trusted; what nobody reads is not formed. */
    assert_int_equal(c.shard.checked, 0);
    run_model(&m, GP_CAP_REGISTERED, &c);
    expect_few(&c);
    assert_int_equal(c.shard.checked, c.shard.messages);
}

static void
few_regions_with_codecs(void **state)
{
    model m = {.place = PLACE_REGISTERED,
               .codec = "q8",
               .pull_codec = "fp16",
               .updater = "mean"};
    counted c;

    (void)state;
    run_model(&m, GP_CAP_DEVICE, &c);
    /* Small tensors stay dense: with scratch, at most two of each. */
    assert_in_range(c.worker.exposed, 1, 2);
    assert_in_range(c.worker.sources, 1, 2);
    assert_int_equal(c.shard.exposed, 1);
    assert_int_equal(c.shard.sources, 1);
    assert_int_equal(c.shard.registered, 1 + 2);
    assert_int_equal(c.worker.strays + c.shard.strays, 0);
}

static void
unregistered_is_copied(void **state)
{
    model m = {.place = PLACE_ELSEWHERE, .updater = "sum", .init = true};
    counted c;

    (void)state;
    run_model(&m, GP_CAP_DEVICE, &c);
    assert_true(job_log_has("call gp_buffer_register()"));
    expect_few(&c);
    assert_int_equal(c.worker.registered, SHARDS);
}

/* Sent from where it lies; results cannot say where they go. */
static void
crooked_results_are_copied(void **state)
{
    model m = {.place = PLACE_CROOKED, .updater = "sum"};
    counted c;

    (void)state;
    run_model(&m, GP_CAP_DEVICE, &c);
    expect_few(&c);
}

static void
broadcast_lands(void **state)
{
    model m = {.place = PLACE_REGISTERED, .updater = "sum", .init = true};
    counted c;

    (void)state;
    run_model(&m, GP_CAP_DEVICE, &c);
    assert_int_equal(c.worker.exposed, 1);
    assert_int_equal(c.worker.sources, 2);
    assert_int_equal(c.shard.both, 2);
    assert_int_equal(c.worker.strays + c.shard.strays, 0);
}

static void
idle_body(job *j, gp_worker *w, uint32_t rank)
{
    const model *m = j->data;
    gp_tensor *t = add_tensor(w, m, 30);
    slab s;

    open_slab(&s, w, m->place);
    for (uint64_t step = 0; step < STEPS; step++) {
        gp_request *r;
        counted c;

        for (uint64_t i = 0; i < count_of(30); i++)
            s.values[i] = job_value(rank, 30, step, i);
        job_check(gp_push_pull(t, s.values, s.values, &r));
        job_check(gp_wait(&r, -1));
        expect_sum(s.values, j->workers, 30, step);
        counted_look(&c);
        job_require(c.worker.tokens == 0);
    }
    close_slab(&s);
}

/* Without a device, nothing of the user's is exposed between requests. */
static void
strict_without_a_device(void **state)
{
    static const place places[] = {PLACE_REGISTERED, PLACE_CROOKED,
                                   PLACE_ELSEWHERE};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        model m = {.place = places[i], .updater = "sum"};
        job j = {.transport = "counted",
                 .workers = 1,
                 .shards = 2,
                 .settings = {"chunk_bytes", "16K", "log", "info"},
                 .body = idle_body,
                 .data = &m};
        counted c;

        counted_begin(0);
        job_log_start();
        assert_int_equal(run_job(&j), GP_OK);
        assert_false(job_log_has("gp_buffer_register"));
        job_log_stop();
        counted_look(&c);
        assert_string_equal(c.violation, "");
        assert_int_equal(c.worker.exposed, STEPS);
    }
}

/* ------------------------------------------- everything a job can compute */

typedef struct plan {
    const reference_tensor *tensors;
    uint32_t count;
    reference *expected;
    bool registers;
} plan;

#define PLAN_MAX 8

static void
plan_step(const plan *p, gp_tensor **t, uint8_t **data, uint32_t rank,
          uint32_t step)
{
    gp_request *r[PLAN_MAX];

    for (uint32_t k = 0; k < p->count; k++) {
        reference_gradient(&p->tensors[k], k, rank, step, data[k]);
        job_check(gp_push_pull(t[k], data[k], data[k], &r[k]));
    }
    job_check(gp_wait_all(r, p->count, -1));
    for (uint32_t k = 0; k < p->count; k++)
        job_require(memcmp(data[k], reference_result(p->expected, k, step),
                           reference_bytes(&p->tensors[k])) == 0,
                    "rank %u tensor %u step %u", rank, k, step);
}

static void
plan_body(job *j, gp_worker *w, uint32_t rank)
{
    const plan *p = j->data;
    gp_tensor *t[PLAN_MAX];
    uint8_t *data[PLAN_MAX], *memory = aligned_alloc(64, 1u << 20);
    size_t at = 0;
    gp_buffer *buffer = NULL;

    job_require(memory != NULL);
    if (p->registers)
        job_check(gp_buffer_register(w, memory, 1u << 20, &buffer));
    for (uint32_t k = 0; k < p->count; k++) {
        t[k] = reference_register(w, &p->tensors[k]);
        data[k] = memory + at;
        at += (reference_bytes(&p->tensors[k]) + 63) / 64 * 64;
        job_require(at <= 1u << 20);
    }
    for (uint32_t k = 0; k < p->count; k++) {
        gp_request *r;

        if (strncmp(p->tensors[k].updater, "sgd", 3) != 0)
            continue;
        reference_initial(&p->tensors[k], k, data[k]);
        if (rank != k % j->workers)
            memset(data[k], 0, reference_bytes(&p->tensors[k]));
        job_check(gp_broadcast(t[k], data[k], k % j->workers, &r));
        job_check(gp_wait(&r, -1));
    }
    for (uint32_t s = 0; s < STEPS; s++)
        plan_step(p, t, data, rank, s);
    job_check(gp_buffer_unregister(buffer));
    free(memory);
}

/* Shards 0: co-located. */
static void
run_plan(plan *p, uint32_t workers, uint32_t shards)
{
    job j = {.transport = "counted",
             .workers = workers,
             .shards = shards,
             .colocated = shards == 0,
             .settings = {"chunk_bytes", "16K", "slots", "2"},
             .body = plan_body,
             .data = p};
    counted c;
    gp_status status;

    counted_begin(GP_CAP_DEVICE);
    status = run_job(&j);
    counted_look(&c);
    for (uint32_t r = 0; r < workers; r++)
        if (j.created[r] != GP_OK)
            fail_msg("rank %u: %s", r, j.message[r]);
    if (status != GP_OK)
        fail_msg("%s", j.server_message);
    assert_string_equal(c.violation, "");
    assert_int_equal(c.worker.strays + c.shard.strays, 0);
}

static void
same_bits(void **state)
{
    static const reference_tensor tensors[] = {
        {"sum", GP_FP32, 33333, NULL, NULL, "sum", -1},
        {"half", GP_FP16, 20001, NULL, NULL, "mean", -1},
        {"bf", GP_BF16, 5000, "q8", NULL, "sum", -1},
        {"coded", GP_FP32, 30000, "q4", "q8", "mean", -1},
        {"sgd", GP_FP32, 12345, NULL, NULL, "sgd:lr=0.1,momentum=0.9", -1},
        {"halved", GP_FP16, 4097, "q8", "fp16", "sgd:lr=0.5", -1},
    };

    (void)state;
    for (uint32_t workers = 1; workers <= 3; workers++)
        for (uint32_t shards = 0; shards < 3; shards++) {
            plan p = {tensors, GP_COUNT_OF(tensors), NULL, false};

            p.expected = reference_make(tensors, p.count, workers, STEPS);
            run_plan(&p, workers, shards);
            p.registers = true;
            run_plan(&p, workers, shards);
            reference_free(p.expected);
        }
}

/* ------------------------------------------------------- whose memory it is */

static void
rules_body(job *j, gp_worker *w, uint32_t rank)
{
    static float memory[4096];
    gp_buffer *a = NULL, *b = NULL, *c = NULL;
    gp_tensor *t = job_tensor(w, "t", 1000, "sum");
    gp_request *r;

    (void)j, (void)rank;
    job_require(gp_buffer_register(NULL, memory, 64, &a) == GP_ERR_INVALID);
    job_require(gp_buffer_register(w, NULL, 64, &a) == GP_ERR_INVALID);
    job_require(gp_buffer_register(w, memory, 0, &a) == GP_ERR_INVALID);
    job_require(gp_buffer_register(w, memory, 64, NULL) == GP_ERR_INVALID);
    job_require(gp_buffer_register(w, memory, SIZE_MAX, &a) == GP_ERR_INVALID);
    job_require(a == NULL);
    job_check(gp_buffer_unregister(NULL));

    job_check(gp_buffer_register(w, memory + 1024, 4096, &a));
    job_require(gp_buffer_register(w, memory + 1024, 4096, &b) ==
                GP_ERR_EXISTS);
    job_require(gp_buffer_register(w, memory, 4097, &b) == GP_ERR_EXISTS);
    job_require(gp_buffer_register(w, memory + 2047, 400, &b) == GP_ERR_EXISTS);
    job_require(b == NULL);
    job_check(gp_buffer_register(w, memory, 4096, &b)); /* beside it */
    job_check(gp_buffer_register(w, memory + 2048, 4096, &c));

    /* In the first, the second, and across both, which is in neither. */
    for (int i = 0; i < 3; i++) {
        float *grad = memory + (i == 0 ? 0 : i == 1 ? 1024 : 512);

        for (int k = 0; k < 1000; k++)
            grad[k] = (float)(k + i);
        job_check(gp_push_pull(t, grad, grad, &r));
        job_check(gp_wait(&r, -1));
        for (int k = 0; k < 1000; k++)
            job_require(grad[k] == (float)(k + i));
    }
    /* A place that was left is taken again. */
    job_check(gp_buffer_unregister(b));
    job_check(gp_buffer_register(w, memory, 4096, &b));
    job_check(gp_push_pull(t, memory, memory + 1024, &r));
    job_check(gp_wait(&r, -1));
    job_require(memory[1024 + 999] == memory[999]);
    job_check(gp_buffer_unregister(a));
    /* The others end with the worker. */
}

static void
run_rules(void (*body)(job *, gp_worker *, uint32_t), uint32_t caps,
          const char *timeout)
{
    job j = {.transport = "counted",
             .workers = 1,
             .shards = 1,
             .settings = {"timeout", timeout},
             .body = body};
    counted c;

    counted_begin(caps);
    assert_int_equal(run_job(&j), GP_OK);
    counted_look(&c);
    assert_string_equal(c.violation, "");
}

static void
rules(void **state)
{
    (void)state;
    run_rules(rules_body, GP_CAP_DEVICE, "120s");
    run_rules(rules_body, 0, "120s");
}

static void
kept_body(job *j, gp_worker *w, uint32_t rank)
{
    static float memory[1024];
    gp_tensor *t = job_tensor(w, "t", 1024, "sum");
    gp_status status;
    gp_buffer *b;
    gp_request *r;

    (void)j, (void)rank;
    memory[1023] = 7;
    /* The timeout is brief for one call only. */
    while ((status = gp_worker_ready(w)) == GP_ERR_TIMEOUT)
        ;
    job_check(status);
    job_check(gp_buffer_register(w, memory, sizeof(memory), &b));
    counted_hold_sent(true);
    job_check(gp_push_pull(t, memory, memory, &r));
    job_check(gp_wait(&r, LONG));
    job_require(gp_buffer_unregister(b) == GP_ERR_TIMEOUT);
    counted_hold_sent(false);
    job_check(gp_push_pull(t, memory, memory, &r)); /* it still is registered */
    job_check(gp_wait(&r, LONG));
    while ((status = gp_buffer_unregister(b)) == GP_ERR_TIMEOUT)
        ;
    job_check(status);
    job_require(memory[1023] == 7);
}

/* Answered is not let go of: a device may send again what it sent. */
static void
sending_keeps_memory(void **state)
{
    (void)state;
    run_rules(kept_body, GP_CAP_DEVICE, "1s");
}

typedef struct meddler {
    gp_worker *worker;
    float *memory;
    atomic_bool stop;
    atomic_uint times;
} meddler;

#define MEDDLED 5000u

/* Registers and unregisters what another thread's requests use. */
static void *
meddle(void *arg)
{
    meddler *m = arg;

    while (!atomic_load(&m->stop)) {
        gp_buffer *b;
        gp_status status;

        job_check(gp_buffer_register(m->worker, m->memory,
                                     MEDDLED * sizeof(float), &b));
        do
            status = gp_buffer_unregister(b);
        while (status == GP_ERR_STATE);
        job_check(status);
        atomic_fetch_add(&m->times, 1);
    }
    return NULL;
}

static void
await_meddling(meddler *m)
{
    double deadline = job_seconds() + LONG;

    while (atomic_load(&m->times) == 0) {
        job_require(job_seconds() < deadline);
        usleep(1000);
    }
}

/* Half of the steps are left when the other thread is seen at work. */
static void
meddled_body(job *j, gp_worker *w, uint32_t rank)
{
    static float memory[2][MEDDLED];
    gp_tensor *t = job_tensor(w, "t", MEDDLED, "sum");
    meddler m = {.worker = w, .memory = memory[rank]};
    pthread_t thread;

    job_check(gp_worker_ready(w));
    job_require(pthread_create(&thread, NULL, meddle, &m) == 0);
    for (uint64_t s = 0; s < 200; s++) {
        gp_request *r;

        if (s == 100)
            await_meddling(&m);
        for (uint64_t i = 0; i < MEDDLED; i++)
            memory[rank][i] = job_value(rank, 0, s, i);
        job_check(gp_push_pull(t, memory[rank], memory[rank], &r));
        job_check(gp_wait(&r, -1));
        for (uint64_t i = 0; i < MEDDLED; i++)
            job_require(memory[rank][i] ==
                        job_value(0, 0, s, i) + job_value(1, 0, s, i));
    }
    atomic_store(&m.stop, true);
    pthread_join(thread, NULL);
    (void)j;
}

/* Whether a range comes or goes, a request uses it as a whole or not at all. */
static void
two_threads(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        job j = {.transport = "counted",
                 .workers = 2,
                 .shards = 2,
                 .settings = {"chunk_bytes", "16K"},
                 .body = meddled_body};
        counted c;

        counted_begin(i ? GP_CAP_DEVICE : 0);
        assert_int_equal(run_job(&j), GP_OK);
        counted_look(&c);
        assert_string_equal(c.violation, "");
    }
}

/* ------------------------------------------------------------ a shard dies */

typedef struct ruin {
    atomic_bool asked; /* rank 0's results are asked for */
    bool registers;
} ruin;

#define RUIN_COUNT 300000u

/* After the error the memory is the user's: what it holds then stays. */
static void
ruined_body(job *j, gp_worker *w, uint32_t rank)
{
    ruin *u = j->data;
    gp_tensor *t = job_tensor(w, "t", RUIN_COUNT, "sum");
    float *memory = aligned_alloc(64, RUIN_COUNT * sizeof(float));
    gp_buffer *b = NULL;
    gp_request *r;
    counted c;

    job_require(memory != NULL);
    memset(memory, 0, RUIN_COUNT * sizeof(float));
    if (u->registers)
        job_check(
            gp_buffer_register(w, memory, RUIN_COUNT * sizeof(float), &b));
    job_check(gp_worker_ready(w));
    if (rank == 0) {
        job_check(gp_push_pull(t, memory, memory, &r));
        job_require(gp_buffer_unregister(b) == (b ? GP_ERR_STATE : GP_OK));
        job_require(gp_wait(&r, 0.05) == GP_ERR_TIMEOUT);
        atomic_store(&u->asked, true);
        j->ended[0] = gp_wait(&r, -1);
    } else {
        double deadline = job_seconds() + 120;

        while (!atomic_load(&u->asked) && job_seconds() < deadline)
            usleep(1000);
        /* Results of some chunks are on their way when a shard goes. */
        job_check(gp_push_pull(t, memory, memory, &r));
        gp_server_destroy(j->server[1]);
        j->server[1] = NULL;
        j->ended[1] = gp_wait(&r, -1);
    }
    for (uint32_t i = 0; i < RUIN_COUNT; i++)
        memory[i] = (float)i;
    job_check(gp_buffer_unregister(b));
    counted_look(&c);
    job_require(!c.violation[0], "%s", c.violation);
    for (uint32_t i = 0; i < RUIN_COUNT; i++)
        job_require(memory[i] == (float)i);
    free(memory);
}

static void
ruin_one(bool device, bool registers)
{
    ruin u = {.registers = registers};
    job j = {.transport = "counted",
             .workers = 2,
             .shards = 2,
             .settings = {"chunk_bytes", "64K"},
             .body = ruined_body,
             .data = &u};
    counted c;

    counted_begin(device ? GP_CAP_DEVICE : 0);
    (void)run_job(&j);
    counted_look(&c);
    assert_string_equal(c.violation, "");
    assert_int_equal(c.worker.tokens, 0);
    assert_int_equal(j.created[0], GP_OK);
    assert_int_equal(j.created[1], GP_OK);
    /* Rank 1 may have had all its results. */
    if (j.ended[0] != GP_OK)
        assert_true(j.ended[0] == GP_ERR_PEER_LOST ||
                    j.ended[0] == GP_ERR_CANCELED);
}

static void
a_shard_dies(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        ruin_one(true, true);
        ruin_one(true, false);
        ruin_one(false, true);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(few_regions),
        cmocka_unit_test(few_regions_with_codecs),
        cmocka_unit_test(unregistered_is_copied),
        cmocka_unit_test(crooked_results_are_copied),
        cmocka_unit_test(broadcast_lands),
        cmocka_unit_test(strict_without_a_device),
        cmocka_unit_test(same_bits),
        cmocka_unit_test(rules),
        cmocka_unit_test(sending_keeps_memory),
        cmocka_unit_test(two_threads),
        cmocka_unit_test(a_shard_dies),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
