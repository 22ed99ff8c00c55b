/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_stream_ends_sim.c - what tensors on a device refuse, and ends of all
 * kinds, after which no stream waits and nothing is left.
 */
#include "tests/gpu/stream_trainer.h"

/* --- refusals --- */

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
    double until = job_seconds() + 120;
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
static const kind *fail_kind = &small;
static uint32_t fail_at;
static bool has_failed;

/* The gate opens when a stream waits: the result is not there before. */
static gp_status
two_steps(gp_tensor *t, trainer *d, uint32_t *gate)
{
    gp_request *r = NULL;
    gp_status status = GP_OK, ended;

    for (uint32_t s = 0; s < 2 && status == GP_OK; s++) {
        status = gp_push_pull_on(t, d->grad[1], d->out[1], d->stream, &r);
        if (status == GP_OK && s == 0)
            status = gp_wait_stream(&r, d->other);
        __atomic_store_n(gate, 1, __ATOMIC_SEQ_CST);
        ended = gp_wait(&r, -1);
        status = status == GP_OK ? ended : status;
    }
    return status;
}

static void
stumble(job *j, gp_worker *w, uint32_t rank)
{
    gp_tensor *t = add(w, fail_kind, "cuda");
    trainer d = {0};
    gp_status status;
    uint32_t *gate;

    (void)j;
    (void)rank;
    open_trainer(&d, "cuda");
    job_check(d.device->ops->alloc_pinned(d.device, 4, (void **)&gate));
    *gate = 0;
    job_check(d.device->ops->wait_value(d.device, gate, 1, d.stream));
    gp_sim_cuda_fail(fail_function, fail_at, 999);
    status = two_steps(t, &d, gate);
    has_failed = gp_sim_cuda_failed();
    gp_sim_cuda_fail(NULL, 0, 0);
    job_require(has_failed || status == GP_OK, gp_last_error());
    drain(&d, d.stream);
    drain(&d, d.other);
    d.device->ops->free_pinned(d.device, gate);
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
    fail_kind = &coded;
    fail_each("cuLaunchKernel", 5);
    fail_each("cuMemcpyAsync", 10);
    fail_each("cuEventRecord", 20);
    fail_each(NULL, 60);
    job_log_stop();
}

int
main(void)
{
    static const gp_sim_cuda_options options = {.devices = 2, .delay_us = 100};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mistakes_are_refused),
        cmocka_unit_test(experiments_stay_on_the_host),
        cmocka_unit_test(failed_jobs_release_streams),
        cmocka_unit_test(destroyed_workers_release_streams),
        cmocka_unit_test(failures_leave_nothing_behind),
    };

    gp_sim_cuda_install(&options);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
