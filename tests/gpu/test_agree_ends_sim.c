/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_agree_ends_sim.c - a worker whose device proposes what all agree on, and
 * of whose driver's calls one fails: its status names the call, the others end
 * too, what was promised is right, and nothing is left.
 */
#include "tests/gpu/stream_trainer.h"

#include "tests/rounds.h"

/* Two chunks; what is remembered goes into what all agree on. */
static const kind plain = {"plain",  GP_FP32,  5000,  0,
                           "intsum", "intsum", "sum", 0};
static const kind remembered = {
    "remembered", GP_FP32, 5000, 0, "momentum:clip=1+intsum",
    "intsum",     "sum",   0};
static const kind differences = {"differences", GP_FP32, 5000,  0,
                                 "ef21+intsum", NULL,    "sum", 0};
enum { WORKERS = 2, RUN = 2 };

/* Of rank 0, the one on the device; the other's are these, or there is none. */
typedef struct ends {
    const kind *summed;
    const char *function; /* NULL: none fails */
    uint32_t at;
    bool failed;
    float result[WORKERS][RUN][5000];
    uint32_t done[WORKERS]; /* steps */
    gp_status status[WORKERS];
    char why[WORKERS][600];
} ends;

static void
note(ends *e, uint32_t rank, gp_status status)
{
    if (status == GP_OK || e->status[rank] != GP_OK)
        return;
    e->status[rank] = status;
    snprintf(e->why[rank], sizeof(e->why[rank]), "%s", gp_last_error());
}

static void
step_on_host(ends *e, gp_tensor *t, uint32_t step)
{
    float *values = e->result[1][step];
    gp_request *r = NULL;
    gp_status status;

    fill(e->summed, 1, 0, step, values);
    status = gp_push_pull(t, values, values, &r);
    if (status == GP_OK)
        status = gp_wait(&r, 120);
    job_require(status != GP_ERR_TIMEOUT, "rank 1 waits for ever");
    note(e, 1, status);
    e->done[1] += status == GP_OK;
}

/* A push that is refused was not made, and can be made again. */
static gp_status
push(ends *e, gp_tensor *t, trainer *d, uint32_t step)
{
    uint8_t *grad = d->grad[1 + step], *out = d->out[1 + step];
    gp_request *r = NULL;
    gp_status status = gp_push_pull_on(t, grad, out, d->stream, &r);

    if (status != GP_OK) {
        job_require(r == NULL);
        note(e, 0, status);
        status = gp_push_pull_on(t, grad, out, d->stream, &r);
    }
    if (status == GP_OK)
        status = gp_wait(&r, 120);
    job_require(status != GP_ERR_TIMEOUT, "rank 0 waits for ever");
    note(e, 0, status);
    return status;
}

/* Nothing here but the steps calls the driver where it may fail. */
static void
on_device(ends *e, gp_worker *w, gp_tensor *t)
{
    size_t bytes = bytes_of(e->summed);
    trainer d = {0};

    open_trainer(&d, "cuda");
    for (uint32_t s = 0; s < RUN; s++) {
        fill(e->summed, 0, 0, s, d.pinned[1][s]);
        job_check(d.device->ops->copy_in(d.device, d.grad[1 + s],
                                         d.pinned[1][s], bytes));
    }
    job_check(gp_worker_ready(w));
    job_check(gp_barrier(w));
    gp_sim_cuda_fail(e->function, e->function ? e->at : 0, 999);
    while (e->done[0] < RUN && push(e, t, &d, e->done[0]) == GP_OK)
        e->done[0]++;
    e->failed = e->function && gp_sim_cuda_failed();
    gp_sim_cuda_fail(NULL, 0, 0);
    drain(&d, d.stream);
    for (uint32_t s = 0; s < e->done[0]; s++)
        job_check(d.device->ops->copy_out(d.device, e->result[0][s],
                                          d.out[1 + s], bytes));
    close_trainer(&d);
}

static void
body(job *j, gp_worker *w, uint32_t rank)
{
    ends *e = j->data;
    gp_tensor *t = add(w, e->summed, rank == 0 ? "cuda" : NULL);

    if (rank == 0) {
        on_device(e, w, t);
        return;
    }
    job_check(gp_worker_ready(w));
    job_check(gp_barrier(w));
    for (uint32_t s = 0; s < RUN && e->done[1] == s; s++)
        step_on_host(e, t, s);
}

static void
run(ends *e)
{
    job j = {.transport = "loop",
             .workers = WORKERS,
             .shards = 1,
             .body = body,
             .data = e,
             .settings = {"chunk_bytes", "16K"}};

    (void)run_job(&j);
    for (uint32_t rank = 0; rank < WORKERS; rank++)
        if (j.created[rank] != GP_OK)
            fail_msg("%s", j.message[rank]);
    assert_int_equal(gp_sim_cuda_objects(), 0);
    assert_int_equal(gp_sim_cuda_pushed(), 0);
}

/* What came is what comes when nothing fails. */
static void
expect_results(const ends *e, const ends *good)
{
    for (uint32_t rank = 0; rank < WORKERS; rank++)
        for (uint32_t s = 0; s < e->done[rank]; s++)
            assert_memory_equal(e->result[rank][s], good->result[rank][s],
                                sizeof(e->result[rank][s]));
}

/* Kernels that were named. */
static const char *const kernels[] = {
    "gp_cuda_intsum_look",   "gp_cuda_intsum_propose", "gp_cuda_intsum_scan",
    "gp_cuda_intsum_settle", "gp_cuda_intsum_encode",  "gp_cuda_intsum_decode",
    "gp_cuda_remember",      "gp_cuda_clip_sum",       "gp_cuda_clip_settle",
    "gp_cuda_keep"};
static bool named[GP_COUNT_OF(kernels)];

static void
expect_named(size_t first, size_t n)
{
    for (size_t i = first; i < first + n; i++)
        if (!named[i])
            fail_msg("%s did not fail", kernels[i]);
}

static bool
names_call(const ends *e)
{
    bool kernel = false;

    for (size_t i = 0; i < GP_COUNT_OF(kernels); i++) {
        bool this = strstr(e->why[0], kernels[i]) != NULL;

        named[i] = named[i] || this;
        kernel = kernel || this;
    }
    /* By then it is told of what was queued before. */
    if (strcmp(e->function, "cuEventQuery") == 0)
        return strstr(e->why[0], "work on the device") != NULL;
    return strcmp(e->function, "cuLaunchKernel") == 0
               ? kernel
               : strstr(e->why[0], e->function) != NULL;
}

static void
expect_end(const ends *e, const ends *good)
{
    if (e->status[0] != GP_OK && !names_call(e))
        fail_msg("%s, call %u: %s", e->function, e->at, e->why[0]);
    if (!e->failed)
        assert_int_equal(e->status[0], GP_OK);
    if (e->done[0] == RUN)
        assert_int_equal(e->done[1], RUN);
    else
        assert_true(e->status[0] != GP_OK && e->done[1] <= e->done[0] + 1);
    expect_results(e, good);
}

/* The nth call of a function, until there are fewer. Returns how many there
 * were that ended the job. */
static uint32_t
fail_each(const char *function, uint32_t most, const ends *good)
{
    static ends e;
    uint32_t ended = 0, at = 1;

    for (bool more = true; more && at <= most; at++) {
        e = (ends){.summed = good->summed, .function = function, .at = at};
        run(&e);
        more = e.failed;
        expect_end(&e, good);
        ended += e.done[0] < RUN;
    }
    if (at == 2)
        fail_msg("%s was never called", function);
    return ended;
}

/* When nothing fails. */
static const ends *
run_well(const kind *summed)
{
    static ends good;

    good = (ends){.summed = summed};
    memset(named, 0, sizeof(named));
    run(&good);
    assert_int_equal(good.done[0], RUN);
    assert_int_equal(good.done[1], RUN);
    assert_memory_equal(good.result[0], good.result[1], sizeof(good.result[0]));
    return &good;
}

static void
failures_of_what_is_agreed_on(void **state)
{
    const ends *good = run_well(&plain);

    (void)state;
    job_log_start(); /* each says in the log what it is */
    assert_true(fail_each("cuLaunchKernel", 40, good) > 0);
    expect_named(0, 6);
    assert_true(fail_each("cuEventRecord", 40, good) > 0);
    assert_true(fail_each("cuMemcpyAsync", 40, good) > 0);
    assert_true(fail_each("cuEventQuery", GP_ROUNDS(12, 4), good) > 0);
    (void)fail_each("cuStreamWaitEvent", 20, good);
    (void)fail_each("cuLaunchHostFunc", 10, good);
    (void)fail_each("cuCtxPushCurrent", GP_ROUNDS(24, 8), good);
    job_log_stop();
}

/* Nothing is added twice, or lost, before the workers agree. */
static void
failures_of_what_is_remembered(void **state)
{
    const ends *good = run_well(&remembered);

    (void)state;
    job_log_start();
    assert_true(fail_each("cuLaunchKernel", 60, good) > 0);
    expect_named(0, 9);
    assert_true(fail_each("cuMemcpyAsync", 40, good) > 0);
    good = run_well(&differences);
    assert_true(fail_each("cuLaunchKernel", 60, good) > 0);
    expect_named(0, 7);
    expect_named(9, 1);
    job_log_stop();
}

int
main(void)
{
    static const gp_sim_cuda_options options = {.devices = 1, .delay_us = 50};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(failures_of_what_is_agreed_on),
        cmocka_unit_test(failures_of_what_is_remembered),
    };

    gp_sim_cuda_install(&options);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
