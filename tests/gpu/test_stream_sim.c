/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_stream_sim.c - tensors on simulated CUDA devices, in the order of
 * streams: the same bytes as with tensors on the host, whatever the streams'
 * pace; refusals; and ends of all kinds, after which no stream waits and
 * nothing is left.
 *
 * Memory of the simulated device is memory of the process, which a test may
 * look at when no work is queued that touches it.
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

#include <gradpush/cuda.h>

#include "device/device.h"
#include "job_harness.h"
#include "tests/gpu/sim_cuda.h"

#define STEPS   4u
#define TENSORS 8u
#define WORKERS 3u

typedef struct kind {
    const char *name;
    gp_dtype dtype;
    uint64_t count, columns;
    const char *codec, *pull_codec, *updater;
    int32_t priority;
} kind;

static const kind kinds[TENSORS] = {
    {"one", GP_FP32, 1, 0, NULL, NULL, "sum", 9},
    {"many", GP_FP32, 70001, 0, NULL, NULL, "mean", 1},
    {"q8", GP_FP32, 40001, 0, "q8", "q8", "mean", 2},
    {"q4", GP_FP32, 30001, 0, "q4", "fp16", "mean", 3},
    {"half", GP_FP16, 20001, 0, NULL, NULL, "mean", 4},
    {"brain", GP_BF16, 20001, 0, "q8", NULL, "mean", 5},
    {"choice", GP_FP32, 20001, 0, "none|q8", NULL, "mean", 6},
    {"rank", GP_FP32, 128 * 96, 96, "powersgd:2", NULL, "sgd:lr=0.5", 7},
};

typedef struct plan {
    const char *device[WORKERS]; /* of each worker's tensors; NULL: the host */
    uint8_t *result[WORKERS][TENSORS][STEPS];
} plan;

static size_t
bytes_of(const kind *k)
{
    return k->count * gp_dtype_bytes(k->dtype);
}

static gp_tensor *
add(gp_worker *w, const kind *k, const char *device)
{
    gp_tensor_options o = GP_TENSOR_INIT;
    gp_tensor *t;

    o.name = k->name;
    o.dtype = k->dtype;
    o.count = k->count;
    o.columns = k->columns;
    o.codec = k->codec;
    o.pull_codec = k->pull_codec;
    o.updater = k->updater;
    o.priority = k->priority;
    o.device = device;
    job_check(gp_tensor_register(w, &o, &t));
    return t;
}

/* Any bits will do for half types, but no infinities. */
static void
fill(const kind *k, uint32_t rank, uint32_t tensor, uint32_t step, void *out)
{
    float *values = out;
    uint16_t *halves = out;

    for (uint64_t i = 0; i < k->count; i++)
        if (k->dtype == GP_FP32)
            values[i] = job_value(rank, tensor, step, i);
        else
            halves[i] =
                (uint16_t)(((i * 7 + step * 31 + rank * 3) & 0x3ff) | 0x3800);
}

static uint8_t *
room(size_t bytes)
{
    uint8_t *p = calloc(1, bytes);

    job_require(p != NULL);
    return p;
}

static void
step_on_host(gp_tensor **t, plan *p, uint32_t rank, uint32_t step)
{
    gp_request *r[TENSORS];

    for (uint32_t i = TENSORS; i-- > 0;) {
        fill(&kinds[i], rank, i, step, p->result[rank][i][step]);
        job_check(gp_push_pull(t[i], p->result[rank][i][step],
                               p->result[rank][i][step], &r[i]));
    }
    job_check(gp_wait_all(r, TENSORS, -1));
}

/* --- a trainer on a device --- */

typedef struct trainer {
    gp_device *device;
    void *stream, *other;
    gp_device_event *event;
    uint8_t *grad[TENSORS], *out[TENSORS];
    uint8_t *pinned[TENSORS][STEPS]; /* gradients, then results */
} trainer;

static void
open_trainer(trainer *t, const char *device)
{
    const gp_device_ops *ops;

    job_check(gp_device_open(device, &t->device));
    ops = t->device->ops;
    job_check(ops->stream_create(t->device, &t->stream));
    job_check(ops->stream_create(t->device, &t->other));
    job_check(ops->event_create(t->device, &t->event));
    for (uint32_t i = 0; i < TENSORS; i++) {
        size_t bytes = bytes_of(&kinds[i]);

        job_check(ops->alloc(t->device, bytes, (void **)&t->grad[i]));
        job_check(ops->alloc(t->device, bytes, (void **)&t->out[i]));
        for (uint32_t s = 0; s < STEPS; s++)
            job_check(
                ops->alloc_pinned(t->device, bytes, (void **)&t->pinned[i][s]));
    }
}

/* Until all that is on the stream is done, with a deadline. */
static void
drain(trainer *t, void *stream)
{
    const gp_device_ops *ops = t->device->ops;
    gp_status status = GP_PENDING;
    double until = job_seconds() + 30;

    job_check(ops->event_record(t->device, t->event, stream));
    while (status == GP_PENDING && job_seconds() < until) {
        status = ops->event_query(t->device, t->event);
        usleep(200);
    }
    job_check(status);
}

static void
close_trainer(trainer *t)
{
    const gp_device_ops *ops = t->device->ops;

    for (uint32_t i = 0; i < TENSORS; i++) {
        ops->free(t->device, t->grad[i]);
        ops->free(t->device, t->out[i]);
        for (uint32_t s = 0; s < STEPS; s++)
            ops->free_pinned(t->device, t->pinned[i][s]);
    }
    ops->event_destroy(t->device, t->event);
    ops->stream_destroy(t->device, t->stream);
    ops->stream_destroy(t->device, t->other);
    gp_device_close(t->device);
}

/* Queues a step; the last tensors come first, as in a backward pass. Even
 * tensors are waited for by the stream, of odd ones the host is the one who
 * waits, in every second step; some results lie where the gradient was. */
static void
step_on_device(trainer *d, gp_tensor **t, uint32_t step)
{
    const gp_device_ops *ops = d->device->ops;
    gp_request *r[TENSORS];

    for (uint32_t i = TENSORS; i-- > 0;) {
        size_t bytes = bytes_of(&kinds[i]);
        uint8_t *out = i % 3 ? d->out[i] : d->grad[i];

        job_check(ops->copy_async(d->device, d->grad[i], d->pinned[i][step],
                                  bytes, d->stream));
        job_check(gp_push_pull_on(t[i], d->grad[i], out, d->stream, &r[i]));
    }
    for (uint32_t i = 0; i < TENSORS; i++) {
        uint8_t *out = i % 3 ? d->out[i] : d->grad[i];

        if (i % 2 && step % 2)
            job_check(gp_wait(&r[i], -1));
        else
            job_check(gp_wait_stream(&r[i], d->stream));
        job_require(r[i] == NULL);
        job_check(ops->copy_async(d->device, d->pinned[i][step], out,
                                  bytes_of(&kinds[i]), d->stream));
    }
}

static void
run_on_device(gp_tensor **t, plan *p, uint32_t rank)
{
    trainer d = {0};

    open_trainer(&d, p->device[rank]);
    for (uint32_t s = 0; s < STEPS; s++)
        for (uint32_t i = 0; i < TENSORS; i++)
            fill(&kinds[i], rank, i, s, d.pinned[i][s]);
    for (uint32_t s = 0; s < STEPS; s++)
        step_on_device(&d, t, s);
    drain(&d, d.stream);
    for (uint32_t s = 0; s < STEPS; s++)
        for (uint32_t i = 0; i < TENSORS; i++)
            memcpy(p->result[rank][i][s], d.pinned[i][s], bytes_of(&kinds[i]));
    close_trainer(&d);
}

/* Parameters from rank 0; values in the tensor's own memory. */
static void
give_parameters(gp_tensor *t, uint32_t index, const char *device)
{
    size_t bytes = bytes_of(&kinds[index]);
    uint8_t *values = room(bytes);
    gp_request *r;
    gp_device *d;
    void *block;

    fill(&kinds[index], 77, index, 0, values);
    if (!device) {
        job_check(gp_broadcast(t, values, 0, &r));
        job_check(gp_wait(&r, -1));
    } else {
        job_check(gp_device_open(device, &d));
        job_check(d->ops->alloc(d, bytes, &block));
        job_check(d->ops->copy_in(d, block, values, bytes));
        job_check(gp_broadcast_on(t, block, 0, GP_STREAM_PER_THREAD, &r));
        job_check(gp_wait(&r, -1));
        job_check(d->ops->copy_out(d, values, block, bytes));
        d->ops->free(d, block);
        gp_device_close(d);
    }
    for (uint64_t i = 0; i < kinds[index].count; i += 997)
        job_require(((float *)values)[i] == job_value(77, index, 0, i));
    free(values);
}

static void
train(job *j, gp_worker *w, uint32_t rank)
{
    plan *p = j->data;
    gp_tensor *t[TENSORS];
    gp_stats stats;

    for (uint32_t i = 0; i < TENSORS; i++)
        t[i] = add(w, &kinds[i], p->device[rank]);
    give_parameters(t[TENSORS - 1], TENSORS - 1, p->device[rank]);
    if (p->device[rank])
        run_on_device(t, p, rank);
    else
        for (uint32_t s = 0; s < STEPS; s++)
            step_on_host(t, p, rank, s);
    gp_worker_stats(w, &stats);
    job_require(!p->device[rank] || stats.memory >= (2u << 20));
}

static void
open_plan(plan *p)
{
    for (uint32_t r = 0; r < WORKERS; r++)
        for (uint32_t i = 0; i < TENSORS; i++)
            for (uint32_t s = 0; s < STEPS; s++)
                p->result[r][i][s] = room(bytes_of(&kinds[i]));
}

static void
close_plan(plan *p)
{
    for (uint32_t r = 0; r < WORKERS; r++)
        for (uint32_t i = 0; i < TENSORS; i++)
            for (uint32_t s = 0; s < STEPS; s++)
                free(p->result[r][i][s]);
}

static void
run_plan(plan *p, const char *transport, uint32_t workers)
{
    job j = {.transport = transport,
             .workers = workers,
             .shards = 2,
             .settings = {"chunk_bytes", "64K"},
             .body = train,
             .data = p};

    if (run_job(&j) != GP_OK)
        fail_msg("%s%s", j.message[0], j.server_message);
    assert_int_equal(gp_sim_cuda_objects(), 0);
    assert_int_equal(gp_sim_cuda_pushed(), 0);
}

static void
compare(const plan *a, const plan *b, uint32_t workers)
{
    for (uint32_t r = 0; r < workers; r++)
        for (uint32_t i = 0; i < TENSORS; i++)
            for (uint32_t s = 0; s < STEPS; s++)
                if (memcmp(a->result[r][i][s], b->result[r][i][s],
                           bytes_of(&kinds[i])) != 0)
                    fail_msg("rank %u tensor %s step %u", r, kinds[i].name, s);
}

static void
same_as_on_host(const char *transport, uint32_t workers, uint32_t on_device)
{
    plan host = {0}, device = {0};

    for (uint32_t r = 0; r < on_device; r++)
        device.device[r] = r % 2 ? "cuda:1" : "cuda";
    open_plan(&host);
    open_plan(&device);
    run_plan(&host, transport, workers);
    run_plan(&device, transport, workers);
    compare(&host, &device, workers);
    close_plan(&host);
    close_plan(&device);
}

static void
results_are_those_of_the_host(void **state)
{
    (void)state;
    same_as_on_host("loop", 1, 1);
    same_as_on_host("loop", 3, 3);
    same_as_on_host("tcp", 2, 2);
}

static void
devices_differ_between_workers(void **state)
{
    (void)state;
    same_as_on_host("tcp", 3, 1);
}

/* --- refusals --- */

static const kind small = {"small", GP_FP32, 4096, 0, NULL, NULL, "mean", 0};
static const kind other = {"other", GP_FP32, 4096, 0, NULL, NULL, "mean", 0};

static void
expect(gp_status status, gp_status expected, const char *part)
{
    job_require(status == expected, gp_last_error());
    job_require(strstr(gp_last_error(), part) != NULL, gp_last_error());
}

static void
refuse_pointers(gp_tensor *on, gp_tensor *off, trainer *d, trainer *far)
{
    gp_request *r = NULL;
    float *host = (float *)room(bytes_of(&small));
    uint8_t *mine = d->grad[1], *foreign = far->grad[1];

    expect(gp_push_pull_on(on, host, mine, d->stream, &r), GP_ERR_INVALID,
           "memory of the host");
    expect(gp_push_pull_on(on, mine, d->pinned[1][0], d->stream, &r),
           GP_ERR_INVALID, "the result is memory of the host");
    expect(gp_push_pull_on(on, foreign, mine, d->stream, &r), GP_ERR_INVALID,
           "memory of cuda:1");
    expect(gp_push_pull_on(on, d->grad[0], mine, d->stream, &r), GP_ERR_INVALID,
           "the allocation has 4");
    expect(gp_push_pull(on, mine, mine, &r), GP_ERR_INVALID, "gp_push_pull_on");
    expect(gp_push_pull(off, mine, host, &r), GP_ERR_INVALID,
           "register the tensor with that device");
    expect(gp_push_pull_on(off, mine, mine, d->stream, &r), GP_ERR_INVALID,
           "is on the host");
    expect(gp_broadcast_on(on, host, 0, d->stream, &r), GP_ERR_INVALID,
           "memory of the host");
    expect(gp_broadcast_on(on, mine, 5, d->stream, &r), GP_ERR_INVALID,
           "root 5");
    expect(gp_push_pull_on(NULL, mine, mine, d->stream, &r), GP_ERR_INVALID,
           "NULL");
    expect(gp_wait_stream(NULL, d->stream), GP_ERR_INVALID, "NULL");
    job_require(r == NULL);
    job_check(gp_wait_stream(&r, d->stream));
    job_check(gp_push_pull(off, host, host, &r));
    expect(gp_wait_stream(&r, d->stream), GP_ERR_INVALID, "gp_wait()");
    job_check(gp_wait(&r, -1));
    free(host);
}

/* Nothing may be queued, and requests stay what they were. */
static void
refuse_captures(gp_tensor *on, trainer *d)
{
    gp_request *r = NULL;
    uint8_t *mine = d->grad[1];

    gp_sim_cuda_capture(d->stream, true);
    expect(gp_push_pull_on(on, mine, mine, d->stream, &r), GP_ERR_UNSUPPORTED,
           "graph is being captured");
    job_require(r == NULL);
    gp_sim_cuda_capture(d->stream, false);
    job_check(gp_push_pull_on(on, mine, mine, d->stream, &r));
    gp_sim_cuda_capture(d->other, true);
    expect(gp_wait_stream(&r, d->other), GP_ERR_UNSUPPORTED, "gp_wait_stream");
    gp_sim_cuda_capture(d->other, false);
    job_require(r != NULL);
    job_check(gp_wait(&r, -1));
}

/* The host has to wait then. */
static void
do_without_waiting_streams(gp_tensor *on, trainer *d)
{
    gp_request *r = NULL;
    gp_status status;

    /* So that the result cannot be there before. */
    job_check(d->device->ops->copy_async(d->device, d->out[1], d->grad[1],
                                         bytes_of(&small), d->stream));
    job_check(gp_push_pull_on(on, d->grad[1], d->grad[1], d->stream, &r));
    gp_sim_cuda_fail("cuStreamWaitValue32", 1, 801);
    status = gp_wait_stream(&r, d->other);
    if (gp_sim_cuda_failed()) {
        job_require(status == GP_ERR_UNSUPPORTED && r != NULL);
        job_check(gp_wait(&r, -1));
    } else {
        job_check(status);
    }
    gp_sim_cuda_fail(NULL, 0, 0);
}

static void
refuse(job *j, gp_worker *w, uint32_t rank)
{
    trainer d = {0}, far = {0};
    gp_tensor *on = add(w, &small, "cuda:0"), *off = add(w, &other, NULL), *t;
    gp_tensor_options o = GP_TENSOR_INIT;

    (void)j;
    (void)rank;
    o.name = "x";
    o.count = 10;
    o.device = "cuda:7";
    expect(gp_tensor_register(w, &o, &t), GP_ERR_NOT_FOUND, "2 CUDA devices");
    o.device = "cud";
    expect(gp_tensor_register(w, &o, &t), GP_ERR_CONFIG, "'cuda'");
    o.device = "auto";
    expect(gp_tensor_register(w, &o, &t), GP_ERR_CONFIG, "cuda:N");
    o.device = "cuda:000000000000000000000000000000";
    expect(gp_tensor_register(w, &o, &t), GP_ERR_CONFIG, "unknown");
    o.device = "cuda";
    o.mode = "local:2";
    expect(gp_tensor_register(w, &o, &t), GP_ERR_UNSUPPORTED, "anchor");
    open_trainer(&d, "cuda:0");
    open_trainer(&far, "cuda:1");
    refuse_pointers(on, off, &d, &far);
    refuse_captures(on, &d);
    do_without_waiting_streams(on, &d);
    drain(&d, d.stream);
    close_trainer(&d);
    close_trainer(&far);
}

static void
run_small(job *j)
{
    j->transport = "loop";
    j->shards = 1;
    if (run_job(j) != GP_OK)
        fail_msg("%s%s", j->message[0], j->server_message);
    assert_int_equal(gp_sim_cuda_objects(), 0);
    assert_int_equal(gp_sim_cuda_pushed(), 0);
}

static void
mistakes_are_refused(void **state)
{
    job j = {.workers = 1, .body = refuse};

    (void)state;
    run_small(&j);
}

static void
observe(job *j, gp_worker *w, uint32_t rank)
{
    gp_tensor_options o = GP_TENSOR_INIT;
    gp_tensor *t;

    (void)j;
    (void)rank;
    o.name = "x";
    o.count = 10;
    o.device = "cuda";
    expect(gp_tensor_register(w, &o, &t), GP_ERR_UNSUPPORTED, "experiment");
    add(w, &other, NULL);
    job_check(gp_worker_ready(w));
}

static void
experiments_stay_on_the_host(void **state)
{
    job j = {
        .workers = 1, .body = observe, .settings = {"experiment", "/dev/null"}};

    (void)state;
    run_small(&j);
}

/* --- ends --- */

/* Rank 0 waits on a stream for what rank 1 never pushes. */
static void
leave(job *j, gp_worker *w, uint32_t rank)
{
    gp_tensor *t = add(w, &small, rank ? NULL : "cuda");
    gp_status status = GP_OK;
    double until = job_seconds() + 30;
    trainer d = {0};
    gp_request *r = NULL;

    (void)j;
    job_check(gp_worker_ready(w));
    if (rank == 1)
        return; /* says goodbye */
    open_trainer(&d, "cuda");
    job_check(gp_push_pull_on(t, d.grad[1], d.grad[1], d.stream, &r));
    status = gp_wait_stream(&r, d.stream);
    job_require(r == NULL);
    drain(&d, d.stream);
    while (status == GP_OK && job_seconds() < until) {
        status = gp_worker_ready(w);
        usleep(1000);
    }
    job_require(status == GP_ERR_PEER_LEFT, gp_last_error());
    status = gp_push_pull_on(t, d.grad[1], d.grad[1], d.stream, &r);
    job_require(status == GP_ERR_PEER_LEFT);
    close_trainer(&d);
}

static void
failed_jobs_release_streams(void **state)
{
    job j = {.transport = "loop", .workers = 2, .shards = 1, .body = leave};

    (void)state;
    (void)run_job(&j);
    assert_int_equal(j.created[0], GP_OK);
    assert_int_equal(gp_sim_cuda_objects(), 0);
}

static trainer kept; /* outlives the worker */

static void
destroy_early(job *j, gp_worker *w, uint32_t rank)
{
    gp_tensor *t = add(w, &small, rank ? NULL : "cuda");
    gp_request *r = NULL;

    job_check(gp_worker_ready(w));
    job_check(gp_barrier(w));
    if (rank == 1) {
        while (!atomic_load(&j->gone[0]))
            usleep(1000);
        return;
    }
    open_trainer(&kept, "cuda");
    job_check(gp_push_pull_on(t, kept.grad[1], kept.grad[1], kept.stream, &r));
    job_check(gp_wait_stream(&r, kept.stream));
}

static void
destroyed_workers_release_streams(void **state)
{
    job j = {
        .transport = "tcp", .workers = 2, .shards = 1, .body = destroy_early};

    (void)state;
    (void)run_job(&j);
    assert_int_equal(j.created[0], GP_OK);
    drain(&kept, kept.stream);
    close_trainer(&kept);
    assert_int_equal(gp_sim_cuda_objects(), 0);
}

/* One of the driver's calls fails, whichever. */
static const char *fail_function;
static uint32_t fail_at;
static bool has_failed;

static gp_status
two_steps(gp_tensor *t, trainer *d)
{
    gp_request *r = NULL;
    gp_status status = GP_OK, ended;

    for (uint32_t s = 0; s < 2 && status == GP_OK; s++) {
        status = gp_push_pull_on(t, d->grad[1], d->out[1], d->stream, &r);
        if (status == GP_OK && s == 0)
            status = gp_wait_stream(&r, d->other);
        ended = gp_wait(&r, -1);
        status = status == GP_OK ? ended : status;
    }
    return status;
}

static void
stumble(job *j, gp_worker *w, uint32_t rank)
{
    gp_tensor *t = add(w, &small, "cuda");
    trainer d = {0};
    gp_status status;

    (void)j;
    (void)rank;
    open_trainer(&d, "cuda");
    gp_sim_cuda_fail(fail_function, fail_at, 999);
    status = two_steps(t, &d);
    has_failed = gp_sim_cuda_failed();
    gp_sim_cuda_fail(NULL, 0, 0);
    job_require(has_failed || status == GP_OK, gp_last_error());
    drain(&d, d.stream);
    drain(&d, d.other);
    close_trainer(&d);
}

/* The nth call of a function, until there are fewer; how often the driver is
 * asked for events depends on the pace. */
static void
fail_each(const char *function, uint32_t most)
{
    job j = {.transport = "loop", .workers = 1, .shards = 1, .body = stumble};

    fail_function = function;
    has_failed = true;
    for (fail_at = 1; has_failed && fail_at <= most; fail_at++) {
        (void)run_job(&j);
        assert_int_equal(j.created[0], GP_OK);
        assert_int_equal(gp_sim_cuda_objects(), 0);
        assert_int_equal(gp_sim_cuda_pushed(), 0);
    }
    if (fail_at == 2)
        fail_msg("%s was never called", function);
}

static void
failures_leave_nothing_behind(void **state)
{
    (void)state;
    job_log_start(); /* each says in the log what it is */
    fail_each("cuMemHostAlloc", 10);
    fail_each("cuEventCreate", 10);
    fail_each("cuEventRecord", 20);
    fail_each("cuMemcpyAsync", 20);
    fail_each("cuStreamWaitValue32", 5);
    fail_each("cuEventQuery", 30);
    fail_each(NULL, 60);
    job_log_stop();
}

int
main(void)
{
    static const gp_sim_cuda_options options = {.devices = 2, .delay_us = 100};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_are_those_of_the_host),
        cmocka_unit_test(devices_differ_between_workers),
        cmocka_unit_test(mistakes_are_refused),
        cmocka_unit_test(experiments_stay_on_the_host),
        cmocka_unit_test(failed_jobs_release_streams),
        cmocka_unit_test(destroyed_workers_release_streams),
        cmocka_unit_test(failures_leave_nothing_behind),
    };

    gp_sim_cuda_install(&options);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
