/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_lag.c - who waits for whom: the arithmetic, and whole jobs with a worker
 * that takes its time.
 */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <time.h>

#include <cmocka.h>

#include "job_harness.h"
#include "shard/lag.h"
#include "wire/proto.h"

#define SLOW_RANK 2u
#define LOGGED    "shard 0: worker 2 ("

static void
lags_count_from_the_first_push(void **state)
{
    gp_front fronts[GP_FRONTS_SYNC] = {0};
    gp_lag a = {0}, b = {0};
    uint64_t before;

    (void)state;
    for (uint64_t step = 0; step < 100; step++) {
        uint64_t now = 1000 + step * 1000;

        assert_int_equal(
            gp_lag_push(&a, fronts, GP_FRONTS_SYNC, step, now, 1, &before), 1);
        assert_int_equal(before, 0);
        assert_int_equal(gp_lag_push(&b, fronts, GP_FRONTS_SYNC, step,
                                     now + 10 + step, 1, &before),
                         2);
        assert_int_equal(before, now);
        assert_int_equal(b.last_ns, 10 + step);
    }
    assert_true(a.mean_ns == 0);
    assert_int_equal(a.pushes, 100);
    /* Of a lag that grows by one, 7 steps late. */
    assert_true(b.mean_ns > 101 && b.mean_ns < 103);
}

static void
one_step_has_many_chunks(void **state)
{
    gp_front fronts[4][GP_FRONTS_SYNC] = {0};
    gp_lag a = {0}, b = {0};
    uint64_t before;

    (void)state;
    for (uint64_t step = 0; step < 400; step++)
        for (uint32_t chunk = 0; chunk < 4; chunk++) {
            gp_front *f = fronts[chunk];

            (void)gp_lag_push(&a, f, GP_FRONTS_SYNC, step, 1000, 4, &before);
            (void)gp_lag_push(&b, f, GP_FRONTS_SYNC, step, 1000 + chunk, 4,
                              &before);
        }
    assert_true(b.mean_ns > 1.4 && b.mean_ns < 1.6);
}

/* Half as fast, without anybody who waits: it is further behind each time, also
 * when nobody remembers when the first worker was there. */
static void
lags_grow_where_nobody_waits(void **state)
{
    gp_front fronts[GP_FRONTS_APART] = {0};
    gp_lag fast = {0}, slow = {0};
    uint64_t before, last = 0;

    (void)state;
    for (uint64_t step = 0; step < 64; step++) {
        uint64_t now = 1000 + step * 100;

        (void)gp_lag_push(&fast, fronts, GP_FRONTS_APART, step, now, 1,
                          &before);
        if (step % 2)
            continue;
        (void)gp_lag_push(&slow, fronts, GP_FRONTS_APART, step / 2, now, 1,
                          &before);
        assert_true(slow.last_ns >= last);
        last = slow.last_ns;
    }
    assert_int_equal(last, 31 * 100);
    assert_true(fast.mean_ns == 0);
    assert_int_equal(
        gp_lag_push(&slow, fronts, GP_FRONTS_APART, 32, 9000, 1, &before), 0);
}

static void
time_that_others_wait_counts_once(void **state)
{
    gp_lag lag = {0};

    (void)state;
    gp_lag_awaited(&lag, 100, 200);
    gp_lag_awaited(&lag, 120, 180);
    gp_lag_awaited(&lag, 150, 250);
    gp_lag_awaited(&lag, 300, 310);
    assert_int_equal(lag.awaited_ns, 160);
}

static void
messages_survive(void **state)
{
    const gp_lag_report report = {1, 1ull << 40, 3, 4};
    uint8_t bytes[GP_LAG_BYTES + 1] = {0};
    gp_lag_report got = {0};

    (void)state;
    assert_int_equal(gp_lag_encode(&report, bytes), GP_LAG_BYTES);
    assert_int_equal(gp_lag_decode(bytes, GP_LAG_BYTES, &got), GP_OK);
    assert_int_equal(got.mean_ns, report.mean_ns);
    assert_int_equal(got.awaited_ns, report.awaited_ns);
    assert_int_equal(got.worst_ns, report.worst_ns);
    assert_int_equal(got.worst, report.worst);
    assert_int_equal(gp_lag_decode(bytes, GP_LAG_BYTES - 1, &got),
                     GP_ERR_PROTOCOL);
    assert_int_equal(gp_lag_decode(bytes, GP_LAG_BYTES + 1, &got),
                     GP_ERR_PROTOCOL);
    bytes[28] = 1;
    assert_int_equal(gp_lag_decode(bytes, GP_LAG_BYTES, &got), GP_ERR_PROTOCOL);
}

typedef struct slow_job {
    const char *mode;
    atomic_bool seen;
    gp_stats stats[JOB_WORKERS];
} slow_job;

/* What a step of the slow worker takes longer: a busy machine keeps others
 * waiting for longer than 4 ms at times, but not for half a second. */
static void
compute(uint32_t rank, uint32_t step)
{
    struct timespec rest = {.tv_nsec = 4000000L << GP_MIN(step / 64, 7u)};

    if (rank == SLOW_RANK)
        nanosleep(&rest, NULL);
}

/* The slow worker has heard that it is, and that others wait, if they do. */
static void
listen(slow_job *slow, const gp_stats *s, uint32_t rank)
{
    bool nobody_waits = slow->mode && strcmp(slow->mode, "async") == 0;

    if (rank == SLOW_RANK && s->lag_ns > 0 &&
        (nobody_waits || s->awaited_ns > 0))
        atomic_store(&slow->seen, true);
}

static bool
is_told(const gp_stats *s, uint32_t rank)
{
    return s->straggler == SLOW_RANK && s->straggler_lag_ns > 0 &&
           (rank != SLOW_RANK || s->lag_ns > 0);
}

/* Until worker 0 knows who is slow: it pushes that for all to see. Another one
 * may have been slower for a moment, and logged before. */
static void
slow_body(job *j, gp_worker *w, uint32_t rank)
{
    slow_job *slow = j->data;
    gp_tensor_options o = GP_TENSOR_INIT;
    double deadline = job_seconds() + 120;
    float grad[70] = {0}, out[70] = {0};
    gp_tensor *t;

    o.name = "t";
    o.count = 70;
    o.mode = slow->mode;
    o.updater = strcmp(slow->mode, "sync") == 0 ? "sum" : "sgd:lr=1";
    job_check(gp_tensor_register(w, &o, &t));
    job_check(gp_worker_ready(w));
    for (uint32_t step = 0; out[69] == 0; step++) {
        gp_request *request;

        compute(rank, step);
        gp_worker_stats(w, &slow->stats[rank]);
        listen(slow, &slow->stats[rank], rank);
        job_require(job_seconds() < deadline, "nobody says who is slow");
        if (rank == 0 && is_told(&slow->stats[0], 0) &&
            atomic_load(&slow->seen) && job_log_has(LOGGED))
            grad[69] = 1;
        job_check(gp_push_pull(t, grad, out, &request));
        job_check(gp_wait(&request, -1));
    }
}

static void
expect_slow(const char *mode)
{
    slow_job slow = {.mode = mode};
    job j = {.transport = "tcp",
             .workers = 3,
             .shards = 2,
             .settings = {"straggler_threshold", "1ms"},
             .body = slow_body,
             .data = &slow};
    const gp_stats *s = slow.stats;

    job_log_start();
    assert_int_equal(run_job(&j), GP_OK);
    assert_true(job_log_has(LOGGED));
    assert_true(job_log_has("is behind: its pushes come "));
    job_log_stop();
    assert_int_equal(s[0].straggler, SLOW_RANK);
    assert_true(s[0].lag_ns < s[0].straggler_lag_ns);
    /* Nobody waits in async. */
    if (strcmp(mode, "async") == 0)
        assert_int_equal(s[SLOW_RANK].awaited_ns, 0);
    else
        assert_true(s[SLOW_RANK].awaited_ns > 0);
}

static void
the_slow_worker_is_named(void **state)
{
    (void)state;
    expect_slow("sync");
}

static void
it_is_named_with_bounded_staleness(void **state)
{
    (void)state;
    expect_slow("ssp:1");
}

static void
it_is_named_where_nobody_waits(void **state)
{
    (void)state;
    expect_slow("async");
}

/* Whoever has it besides the shard leaves that something to do each time. */
static void
it_is_named_with_one_processor(void **state)
{
    cpu_set_t all, one;

    (void)state;
    assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
    CPU_ZERO(&one);
    for (unsigned i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; i++)
        if (CPU_ISSET(i, &all))
            CPU_SET(i, &one);
    assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
    expect_slow("async");
    assert_int_equal(sched_setaffinity(0, sizeof(all), &all), 0);
}

static void
silent_body(job *j, gp_worker *w, uint32_t rank)
{
    slow_job *slow = j->data;
    gp_tensor *t = job_tensor(w, "t", 10, "sum");
    float values[10] = {0}, done[10] = {0};

    for (uint32_t step = 0; done[9] == 0; step++) {
        gp_request *request;

        compute(rank, step);
        gp_worker_stats(w, &slow->stats[rank]);
        listen(slow, &slow->stats[rank], rank);
        values[9] = rank == 0 && is_told(&slow->stats[0], 0);
        job_check(gp_push_pull(t, values, done, &request));
        job_check(gp_wait(&request, -1));
    }
}

/* The threshold 0 silences the log, and nothing else. */
static void
the_log_can_be_silent(void **state)
{
    slow_job slow = {0};
    job j = {.transport = "tcp",
             .workers = 3,
             .colocated = true,
             .settings = {"straggler_threshold", "0"},
             .body = silent_body,
             .data = &slow};

    (void)state;
    job_log_start();
    assert_int_equal(run_job(&j), GP_OK);
    assert_false(job_log_has("is behind"));
    job_log_stop();
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lags_count_from_the_first_push),
        cmocka_unit_test(one_step_has_many_chunks),
        cmocka_unit_test(lags_grow_where_nobody_waits),
        cmocka_unit_test(time_that_others_wait_counts_once),
        cmocka_unit_test(messages_survive),
        cmocka_unit_test(the_slow_worker_is_named),
        cmocka_unit_test(it_is_named_with_bounded_staleness),
        cmocka_unit_test(it_is_named_where_nobody_waits),
        cmocka_unit_test(it_is_named_with_one_processor),
        cmocka_unit_test(the_log_can_be_silent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
