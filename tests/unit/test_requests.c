/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_requests.c - what each call of the worker interface promises.
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

#include "job_reference.h"

/* A build without liblz4 runs the same jobs without that stage. */
#ifdef GP_HAVE_LZ4
#define LZ4 "+lz4"
#else
#define LZ4 ""
#endif

#define LONG 120.0 /* seconds; ends what hangs */

static void
finish(gp_request **request)
{
    job_check(gp_wait(request, -1));
    job_require(*request == NULL);
}

static void
expect(const float *got, float want, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        job_require(got[i] == want, "[%u] is %g, not %g", (unsigned)i,
                    (double)got[i], (double)want);
}

static void
fill(float *out, float value, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        out[i] = value;
}

static void
run(const char *transport, uint32_t workers, uint32_t shards,
    void (*body)(job *, gp_worker *, uint32_t))
{
    job j = {.transport = transport,
             .workers = workers,
             .shards = shards,
             .colocated = shards == 0,
             .settings = {"chunk_bytes", "16K"},
             .body = body};
    gp_status status = run_job(&j);

    for (uint32_t r = 0; r < workers; r++)
        if (j.created[r] != GP_OK)
            fail_msg("rank %u: %s", r, j.message[r]);
    if (status != GP_OK)
        fail_msg("%s", j.server_message);
}

static void
run_both(uint32_t workers, uint32_t shards,
         void (*body)(job *, gp_worker *, uint32_t))
{
    run("loop", workers, shards, body);
    run("tcp", workers, shards, body);
}

/* Push, then pull, twice; a pull before anything gives zeros. */
#define COUNT 50000u

static void
push_then_pull_body(job *j, gp_worker *w, uint32_t rank)
{
    static const char *const codecs[] = {"none", "fp16", ("q8" LZ4)};
    float *in = malloc(COUNT * 4), *out = malloc(COUNT * 4);
    gp_tensor *t[3];
    gp_request *r;

    for (int k = 0; k < 3; k++) {
        gp_tensor_options o = GP_TENSOR_INIT;

        o.name = codecs[k];
        o.count = COUNT;
        o.updater = "sum";
        o.codec = o.pull_codec = codecs[k];
        job_check(gp_tensor_register(w, &o, &t[k]));
    }
    for (int k = 0; k < 3; k++) {
        fill(out, 7, COUNT);
        job_check(gp_pull(t[k], out, &r));
        finish(&r);
        expect(out, 0, COUNT);
        for (int step = 1; step <= 3; step++) {
            fill(in, (float)(step * (int)(rank + 1)), COUNT);
            job_check(gp_push(t[k], in, &r));
            finish(&r);
            fill(out, 7, COUNT);
            job_check(gp_pull(t[k], out, &r));
            finish(&r);
            expect(out,
                   (float)step * (float)(j->workers * (j->workers + 1)) / 2,
                   COUNT);
            assert_int_equal(gp_pull(t[k], out, &r), GP_ERR_STATE);
            assert_non_null(strstr(gp_last_error(), "pulled already"));
        }
    }
    free(in);
    free(out);
}

static void
push_then_pull(void **state)
{
    (void)state;
    run_both(3, 2, push_then_pull_body);
    run_both(2, 0, push_then_pull_body);
}

/* A pull before one's own first push never shows a part of somebody else's. */
static void
pull_first_body(job *j, gp_worker *w, uint32_t rank)
{
    gp_tensor_options o = GP_TENSOR_INIT;
    float *in = malloc(COUNT * 4), *out = malloc(COUNT * 4);
    gp_request *r;
    gp_tensor *t;

    (void)j;
    o.name = "t";
    o.count = COUNT;
    o.updater = "sum";
    o.codec = "fp16";
    job_check(gp_tensor_register(w, &o, &t));
    job_check(gp_barrier(w));
    fill(in, 5, COUNT);
    if (rank == 0) {
        job_check(gp_push(t, in, &r));
        finish(&r);
    }
    job_check(gp_barrier(w));
    if (rank == 1) {
        job_check(gp_pull(t, out, &r));
        finish(&r);
        expect(out, 0, COUNT);
        job_check(gp_push_pull(t, in, out, &r));
        finish(&r);
    } else {
        job_check(gp_pull(t, out, &r));
        finish(&r);
    }
    expect(out, 10, COUNT);
    free(in);
    free(out);
}

static void
pull_before_push_sees_no_part(void **state)
{
    (void)state;
    run_both(2, 1, pull_first_body);
}

/* A push alone needs nobody else, for any number of tensors. */
static void
push_alone_body(job *j, gp_worker *w, uint32_t rank)
{
    enum { TENSORS = 3 };
    float *in = malloc(COUNT * 4), *out = malloc(COUNT * 4);
    gp_tensor *t[TENSORS];
    gp_request *r;

    (void)j;
    for (int k = 0; k < TENSORS; k++)
        t[k] = job_tensor(w, k == 0 ? "a" : k == 1 ? "b" : "c", COUNT, "sum");
    fill(in, (float)(rank + 1), COUNT);
    for (int k = 0; k < TENSORS; k++) {
        int mine = rank == 0 ? k : TENSORS - 1 - k;

        job_check(gp_push(t[mine], in, &r));
        finish(&r);
    }
    for (int k = 0; k < TENSORS; k++) {
        job_check(gp_pull(t[k], out, &r));
        finish(&r);
        expect(out, 3, COUNT);
    }
    free(in);
    free(out);
}

static void
push_alone_ends_alone(void **state)
{
    (void)state;
    run_both(2, 1, push_alone_body);
    run_both(2, 0, push_alone_body);
}

/* The last push of a worker that leaves at once still counts. */
static void
push_and_leave_body(job *j, gp_worker *w, uint32_t rank)
{
    float *in = malloc(COUNT * 4), *out = malloc(COUNT * 4);
    gp_tensor *t = job_tensor(w, "t", COUNT, "sum");
    atomic_bool *pushed = j->data;
    gp_request *r;

    fill(in, (float)(rank + 1), COUNT);
    job_check(gp_worker_ready(w));
    if (rank == 1) {
        job_check(gp_push(t, in, &r));
        finish(&r);
        fill(in, 100, COUNT); /* it is the caller's again */
        atomic_store(pushed, true);
    } else {
        double deadline = job_seconds() + LONG;

        while (!atomic_load(pushed)) {
            job_require(job_seconds() < deadline);
            usleep(1000);
        }
        job_check(gp_push_pull(t, in, out, &r));
        finish(&r);
        expect(out, 3, COUNT);
    }
    free(in);
    free(out);
}

static void
push_and_leave(void **state)
{
    static const char *const transports[] = {"loop", "tcp"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        atomic_bool pushed = false;
        job j = {.transport = transports[i],
                 .workers = 2,
                 .shards = 2,
                 .settings = {"chunk_bytes", "16K"},
                 .body = push_and_leave_body,
                 .data = &pushed};

        assert_int_equal(run_job(&j), GP_OK);
    }
}

/* Several steps of a tensor under way at once. */
static void
several_steps_body(job *j, gp_worker *w, uint32_t rank)
{
    enum { STEPS = 6 };
    float *in[STEPS], *out[STEPS];
    gp_tensor *t = job_tensor(w, "t", COUNT, "mean");
    gp_request *r[STEPS];

    for (int s = 0; s < STEPS; s++) {
        in[s] = malloc(COUNT * 4);
        out[s] = malloc(COUNT * 4);
        fill(in[s], (float)(s * 8 + (int)rank), COUNT);
        job_check(gp_push_pull(t, in[s], out[s], &r[s]));
    }
    job_check(gp_wait_all(r, STEPS, -1));
    for (int s = 0; s < STEPS; s++) {
        float sum = 0;

        for (uint32_t k = 0; k < j->workers; k++)
            sum += (float)(s * 8 + (int)k);
        expect(out[s], sum * (1.0f / (float)j->workers), COUNT);
        free(in[s]);
        free(out[s]);
    }
}

static void
several_steps(void **state)
{
    (void)state;
    run_both(3, 2, several_steps_body);
    run_both(2, 0, several_steps_body);
}

/* Pulls before, during and after a broadcast, in a half type whose results are
 * coded in another way than its initial values. */
static void
pull_one(gp_tensor *t, const reference_tensor *spec, uint16_t half,
         float single)
{
    uint64_t bytes = reference_bytes(spec);
    uint8_t *out = malloc(bytes);
    gp_request *r;

    job_check(gp_pull(t, out, &r));
    finish(&r);
    for (uint64_t i = 0; i < spec->count; i++)
        if (spec->dtype == GP_FP32)
            job_require(((float *)(void *)out)[i] == single, "%g, not %g",
                        (double)((float *)(void *)out)[i], (double)single);
        else
            job_require(((uint16_t *)(void *)out)[i] == half, "%04x, not %04x",
                        ((uint16_t *)(void *)out)[i], half);
    free(out);
}

static void
broadcast_body(job *j, gp_worker *w, uint32_t rank)
{
    static const reference_tensor spec[] = {
        {"h", GP_FP16, 300000, "q8", "q8", "sgd:lr=0.5", 0},
        {"f", GP_FP32, 300000, "none", "none", "sgd:lr=0.5", 0},
    };
    gp_tensor *t[2];
    gp_request *r;

    for (int k = 0; k < 2; k++)
        t[k] = reference_register(w, &spec[k]);
    for (int k = 0; k < 2; k++) {
        float *values = malloc(spec[k].count * 4);
        uint16_t *halves = (void *)values;

        if (rank == j->workers - 1) /* before: zeros, in the other format */
            pull_one(t[k], &spec[k], 0, 0);
        job_check(gp_barrier(w));
        if (rank == 1)
            fill(values, 0, spec[k].count);
        else if (spec[k].dtype == GP_FP32)
            fill(values, 1.0f, spec[k].count);
        else
            for (uint64_t i = 0; i < spec[k].count; i++)
                halves[i] = 0x3c00; /* 1 */
        if (rank == 0) {
            job_check(gp_broadcast(t[k], values, 0, &r));
            finish(&r);
        }
        job_check(gp_barrier(w));
        if (rank == 2) /* coded, while rank 1 gets initial values */
            pull_one(t[k], &spec[k], 0x3c00, 1.0f);
        if (rank != 0) {
            job_check(gp_broadcast(t[k], values, 0, &r));
            finish(&r);
        }
        pull_one(t[k], &spec[k], 0x3c00, 1.0f);
        /* The gradient is 1: parameters become 0.5. */
        job_check(gp_push_pull(t[k], values, values, &r));
        finish(&r);
        if (spec[k].dtype == GP_FP32)
            expect(values, 0.5f, spec[k].count);
        else
            job_require(halves[0] == 0x3800 && halves[29999] == 0x3800);
        free(values);
    }
}

static void
broadcast_and_pulls(void **state)
{
    (void)state;
    run_both(3, 2, broadcast_body);
    run_both(3, 0, broadcast_body);
}

/* Many pulls of zeros are on their way when the initial values arrive. */
static void
broadcast_under_pulls_body(job *j, gp_worker *w, uint32_t rank)
{
    enum { TENSORS = 6 };
    gp_tensor *t[TENSORS];
    gp_request *r[2 * TENSORS];
    float *out[2 * TENSORS];
    uint32_t n = 0;

    (void)j;
    for (int k = 0; k < TENSORS; k++) {
        char name[16];

        snprintf(name, sizeof(name), "t%d", k);
        t[k] = job_tensor(w, name, COUNT, "sgd:lr=1");
    }
    for (int k = 0; k < TENSORS; k++) {
        if (rank != 0) {
            out[n] = malloc(COUNT * 4);
            job_check(gp_pull(t[k], out[n], &r[n]));
            n++;
        }
        out[n] = malloc(COUNT * 4);
        fill(out[n], (float)(k + 1), COUNT);
        job_check(gp_broadcast(t[k], out[n], 0, &r[n]));
        n++;
    }
    job_check(gp_wait_all(r, n, -1));
    for (uint32_t i = 0; i < n; i++) {
        if (rank == 0 || i % 2)
            expect(out[i], (float)(rank ? i / 2 + 1 : i + 1), COUNT);
        free(out[i]);
    }
}

static void
broadcast_under_pulls(void **state)
{
    (void)state;
    run_both(3, 2, broadcast_under_pulls_body);
    run_both(3, 0, broadcast_under_pulls_body);
}

/* gp_test and gp_wait without patience get a request done. */
static void
test_and_short_waits_body(job *j, gp_worker *w, uint32_t rank)
{
    float *data = malloc(COUNT * 4);
    gp_tensor *t = job_tensor(w, "t", COUNT, "sum");
    double deadline = job_seconds() + LONG;
    gp_request *r = NULL;
    gp_status status;

    job_check(gp_test(&r));
    job_check(gp_wait(&r, 0));
    for (int step = 0; step < 20; step++) {
        fill(data, (float)rank, COUNT);
        job_check(gp_push_pull(t, data, data, &r));
        do {
            status = step % 2 ? gp_wait(&r, 0) : gp_test(&r);
            job_require(job_seconds() < deadline);
            job_require(status == GP_OK || r != NULL);
        } while (status == (step % 2 ? GP_ERR_TIMEOUT : GP_PENDING));
        job_check(status);
        expect(data, (float)(j->workers * (j->workers - 1)) / 2, COUNT);
    }
    free(data);
}

static void
test_and_short_waits(void **state)
{
    (void)state;
    run_both(3, 2, test_and_short_waits_body);
    run_both(2, 0, test_and_short_waits_body);
}

/* A request outlives a wait that was too short, and says what it waits for. */
static void
timeout_keeps_body(job *j, gp_worker *w, uint32_t rank)
{
    float data[4] = {1, 2, 3, 4};
    gp_tensor *t = job_tensor(w, "late", 4, "sum");
    gp_request *r;

    (void)j;
    job_check(gp_worker_ready(w));
    if (rank == 0) {
        job_check(gp_push_pull(t, data, data, &r));
        job_require(gp_wait(&r, 0.01) == GP_ERR_TIMEOUT);
        job_require(r != NULL);
        job_require(strstr(gp_last_error(), "'late' step 0: 1 of 1 chunks"),
                    "%s", gp_last_error());
        job_check(gp_barrier(w));
    } else {
        job_check(gp_barrier(w));
        job_check(gp_push_pull(t, data, data, &r));
    }
    finish(&r);
    job_require(data[3] == 8);
}

static void
timeout_keeps_the_request(void **state)
{
    (void)state;
    run_both(2, 1, timeout_keeps_body);
}

/* Two threads of one worker: each waits for what the other thread's peer does
 * later, so neither may stand in the other's way. */
typedef struct crossing {
    gp_tensor *t;
    float *data;
    pthread_t thread;
} crossing;

static void *
cross(void *arg)
{
    crossing *c = arg;
    gp_request *r;

    for (int i = 0; i < 20; i++) {
        float *fresh = malloc(COUNT * 4);

        fill(fresh, 1, COUNT);
        job_check(gp_push_pull(c->t, fresh, fresh, &r));
        finish(&r);
        expect(fresh, 2, COUNT);
        free(fresh);
    }
    return NULL;
}

static void
two_threads_body(job *j, gp_worker *w, uint32_t rank)
{
    crossing c[2] = {0};

    (void)j;
    c[0].t = job_tensor(w, "a", COUNT, "sum");
    c[1].t = job_tensor(w, "b", COUNT, "sum");
    job_check(gp_worker_ready(w));
    if (rank == 0) {
        for (int i = 0; i < 2; i++)
            pthread_create(&c[i].thread, NULL, cross, &c[i]);
        for (int i = 0; i < 2; i++)
            pthread_join(c[i].thread, NULL);
    } else { /* one after the other */
        cross(&c[1]);
        cross(&c[0]);
    }
}

static void
two_threads(void **state)
{
    (void)state;
    run_both(2, 1, two_threads_body);
    run_both(2, 0, two_threads_body);
}

static void
barrier_body(job *j, gp_worker *w, uint32_t rank)
{
    static atomic_uint entered[3];

    if (rank == 0)
        for (int i = 0; i < 3; i++)
            atomic_store(&entered[i], 0);
    job_check(gp_barrier(w));
    for (int i = 0; i < 3; i++) {
        atomic_fetch_add(&entered[i], 1);
        job_check(gp_barrier(w));
        job_require(atomic_load(&entered[i]) == j->workers);
    }
}

static void
barrier(void **state)
{
    (void)state;
    run_both(4, 2, barrier_body);
    run_both(3, 0, barrier_body);
}

/* What is counted: messages of many small tensors, bytes, memory. */
static void
stats_body(job *j, gp_worker *w, uint32_t rank)
{
    float data[10] = {0};
    gp_tensor *t = job_tensor(w, "t", 10, "sum");
    gp_stats before, after;
    gp_request *r;

    (void)j;
    (void)rank;
    job_check(gp_worker_ready(w));
    gp_worker_stats(w, &before);
    job_check(gp_push_pull(t, data, data, &r));
    finish(&r);
    gp_worker_stats(w, &after);
    job_require(after.requests - before.requests == 1);
    job_require(after.messages_sent - before.messages_sent == 1);
    job_require(after.messages_received - before.messages_received >= 1);
    job_require(after.bytes_pushed - before.bytes_pushed == 40 + 112);
    job_require(after.bytes_pulled - before.bytes_pulled == 40 + 112);
    job_require(after.dense_bytes - before.dense_bytes == 80);
    job_require(gp_worker_rank(w) == rank);
    job_require(gp_worker_size(w) == 2 && gp_worker_shards(w) == 1);
}

static void
stats(void **state)
{
    (void)state;
    run_both(2, 1, stats_body);
}

/* The engine's memory for a model of 64 MiB, coded in both directions. */
static void
memory_body(job *j, gp_worker *w, uint32_t rank)
{
    const uint64_t model = 64u << 20;
    gp_tensor_options o = GP_TENSOR_INIT;
    gp_stats stats;
    gp_tensor *t;

    (void)j;
    (void)rank;
    o.name = "model";
    o.count = model / 4;
    o.codec = o.pull_codec = "q8";
    job_check(gp_tensor_register(w, &o, &t));
    job_check(gp_worker_ready(w));
    gp_worker_stats(w, &stats);
    job_require(stats.memory >= model, "%llu",
                (unsigned long long)stats.memory); /* error feedback */
    job_require(stats.memory <= model + (64u << 20), "%llu",
                (unsigned long long)stats.memory);
}

static void
memory_budget(void **state)
{
    job j = {
        .transport = "tcp", .workers = 1, .shards = 2, .body = memory_body};

    (void)state;
    assert_int_equal(run_job(&j), GP_OK);
}

/* Rank 1 is late on purpose, until rank 0 has been seen waiting for it. */
static atomic_bool has_waited;

static void
waiting_body(job *j, gp_worker *w, uint32_t rank)
{
    float x[100] = {0};
    gp_request *r = NULL;
    gp_stats before, after, later;
    gp_tensor *t = job_tensor(w, "x", 100, "sum");

    (void)j;
    job_check(gp_barrier(w));
    gp_worker_stats(w, &before);
    job_require(before.open_ns == 0 && before.waited_ns == 0);
    for (int i = 0; i < 1000 && !atomic_load(&has_waited); i++) {
        if (rank == 1)
            usleep(2000);
        job_check(gp_push_pull(t, x, x, &r));
        finish(&r);
        gp_worker_stats(w, &after);
        job_require(after.open_ns > before.open_ns);
        job_require(after.waited_ns >= before.waited_ns);
        if (rank == 0 && after.waited_ns > before.waited_ns)
            atomic_store(&has_waited, true);
        before = after;
        job_check(gp_barrier(w));
    }
    job_require(atomic_load(&has_waited));
    gp_worker_stats(w, &later);
    job_require(later.open_ns == after.open_ns);
    job_require(later.waited_ns == after.waited_ns);
}

static void
waiting_is_measured(void **state)
{
    (void)state;
    run("tcp", 2, 1, waiting_body);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(push_then_pull),
        cmocka_unit_test(pull_before_push_sees_no_part),
        cmocka_unit_test(push_alone_ends_alone),
        cmocka_unit_test(push_and_leave),
        cmocka_unit_test(several_steps),
        cmocka_unit_test(broadcast_and_pulls),
        cmocka_unit_test(broadcast_under_pulls),
        cmocka_unit_test(test_and_short_waits),
        cmocka_unit_test(timeout_keeps_the_request),
        cmocka_unit_test(two_threads),
        cmocka_unit_test(barrier),
        cmocka_unit_test(stats),
        cmocka_unit_test(waiting_is_measured),
        cmocka_unit_test(memory_budget),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
