/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_norms.c - norms over chunks on several shards: clipping of all gradients
 * together, and updaters that scale by a tensor's norm.
 *
 * Whole jobs are compared with a plain computation over whole tensors, to the
 * last bit, whatever the number of shards.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "job_harness.h"
#include "job_raw.h"
#include "shard/fold.h"
#include "shard/norm.h"
#include "shard/updater.h"
#include "worker/worker_int.h"

#define TENSORS 5u
#define MOST    30000u
#define STEPS   4u
#define WORKERS 3u

static const struct {
    uint64_t count;
    const char *updater;
} plan[TENSORS] = {
    {30000, "adamw:lr=0.01,clip=0.5"},
    {100, "sgd:lr=0.1,clip=2"},
    {9001, "lamb:lr=0.01"},
    {20011, "lamb:lr=0.02,clip=0.5"},
    {5000, "sgd:lr=0.1,momentum=0.9"},
};

/* What every tensor must be after the last step, and became. */
static float expected[TENSORS][MOST], found[TENSORS][MOST];

static void
gradient_of(uint32_t rank, uint32_t tensor, uint64_t step, float *out)
{
    for (uint64_t i = 0; i < plan[tensor].count; i++)
        out[i] = job_value(rank, tensor, step, i) * (step == 1 ? 1e-4f : 1);
}

static void
initial_of(uint32_t tensor, float *out)
{
    gradient_of(77, tensor, 0, out);
}

static double
norm_of(const float *values, uint64_t count)
{
    gp_norm n = {.special = 0};

    gp_norm_add(&n, values, count);
    return sqrt(gp_norm_sum(&n));
}

static float gradient[TENSORS][MOST], arrays[TENSORS][GP_UPDATER_ARRAYS][MOST];

static void
mean_gradients(uint64_t step)
{
    static float one[MOST];

    for (uint32_t k = 0; k < TENSORS; k++) {
        for (uint32_t r = 0; r < WORKERS; r++) {
            gradient_of(r, k, step, one);
            for (uint64_t i = 0; i < plan[k].count; i++)
                gradient[k][i] = r == 0 ? one[i] : gradient[k][i] + one[i];
        }
        gp_fold_scale(gradient[k], gradient[k], 1.0f / WORKERS, plan[k].count);
    }
}

static void
update(const gp_updater *u, uint32_t k, uint64_t number, double all)
{
    gp_updater_step step = {.number = number};
    float *has[GP_UPDATER_ARRAYS];
    size_t n = plan[k].count;

    for (int i = 0; i < GP_UPDATER_ARRAYS; i++)
        has[i] = u->arrays >> i & 1 ? arrays[k][i] : NULL;
    if (gp_updater_clips(u))
        gp_fold_scale(gradient[k], gradient[k], gp_updater_clip(u, all), n);
    if (u->ops->norms)
        gp_updater_direct(u, &step, gradient[k], expected[k], has, n);
    step.parameter_norm = norm_of(expected[k], n);
    step.direction_norm = norm_of(gradient[k], n);
    gp_updater_apply(u, &step, gradient[k], expected[k], has, n);
}

static void
compute_expected(void)
{
    gp_updater u[TENSORS];

    memset(arrays, 0, sizeof(arrays));
    for (uint32_t k = 0; k < TENSORS; k++) {
        assert_int_equal(gp_updater_parse(plan[k].updater, &u[k]), GP_OK);
        initial_of(k, expected[k]);
    }
    for (uint64_t s = 0; s < STEPS; s++) {
        gp_norm all = {.special = 0};

        mean_gradients(s);
        for (uint32_t k = 0; k < TENSORS; k++)
            if (gp_updater_clips(&u[k]))
                gp_norm_add(&all, gradient[k], plan[k].count);
        for (uint32_t k = 0; k < TENSORS; k++)
            update(&u[k], k, s + 1, sqrt(gp_norm_sum(&all)));
    }
}

typedef struct memory {
    gp_tensor *tensor[TENSORS];
    float *values[TENSORS];
    gp_request *request[TENSORS];
} memory;

static void
wait_all(memory *m)
{
    job_check(gp_wait_all(m->request, TENSORS, -1));
}

static memory
begin(gp_worker *w)
{
    memory m;
    char name[] = "t0";

    for (uint32_t k = 0; k < TENSORS; k++) {
        name[1] = (char)('0' + k);
        m.tensor[k] = job_tensor(w, name, plan[k].count, plan[k].updater);
        m.values[k] = calloc(MOST, sizeof(float));
        job_require(m.values[k]);
        initial_of(k, m.values[k]);
    }
    for (uint32_t k = 0; k < TENSORS; k++)
        job_check(gp_broadcast(m.tensor[k], m.values[k], 0, &m.request[k]));
    wait_all(&m);
    return m;
}

static void
end(memory *m)
{
    for (uint32_t k = 0; k < TENSORS; k++)
        free(m->values[k]);
}

/* Each rank pushes in an order of its own. */
static void
train_body(job *j, gp_worker *w, uint32_t rank)
{
    memory m = begin(w);

    (void)j;
    for (uint64_t s = 0; s < STEPS; s++) {
        for (uint32_t i = 0; i < TENSORS; i++) {
            uint32_t k = (i + rank) % TENSORS;

            gradient_of(rank, k, s, m.values[k]);
            job_check(gp_push_pull(m.tensor[k], m.values[k], m.values[k],
                                   &m.request[k]));
        }
        wait_all(&m);
    }
    for (uint32_t k = 0; rank == 1 && k < TENSORS; k++)
        memcpy(found[k], m.values[k], plan[k].count * sizeof(float));
    end(&m);
}

static void
compare(const char *what)
{
    for (uint32_t k = 0; k < TENSORS; k++)
        for (uint64_t i = 0; i < plan[k].count; i++)
            if (memcmp(&found[k][i], &expected[k][i], sizeof(float)) != 0)
                fail_msg("%s: element %llu of tensor %u is %.9g, not %.9g",
                         what, (unsigned long long)i, k, found[k][i],
                         expected[k][i]);
}

static void
run(const char *transport, uint32_t shards, bool colocated,
    const char *chunk_bytes)
{
    job j = {.transport = transport,
             .workers = WORKERS,
             .shards = shards,
             .colocated = colocated,
             .settings = {"chunk_bytes", chunk_bytes},
             .body = train_body};

    memset(found, 0, sizeof(found));
    if (run_job(&j) != GP_OK)
        fail_msg("%u shards: %s %s", shards, j.message[0], j.server_message);
    compare(transport);
}

static void
any_number_of_shards_gives_the_same_bits(void **state)
{
    (void)state;
    compute_expected();
    run("loop", 1, false, "1M");
    run("loop", 2, false, "64K");
    run("loop", 7, false, "16K");
    run("tcp", 3, false, "32K");
    run("tcp", 0, true, "1M");
}

/* Worker 0 pushes the last step and is gone before the others do: so somebody
 * else has to add up. */
static void
leave_body(job *j, gp_worker *w, uint32_t rank)
{
    memory m = begin(w);

    for (uint64_t s = 0; s < STEPS; s++) {
        bool last = s + 1 == STEPS;
        double deadline = job_seconds() + 120;

        while (rank > 0 && last && !atomic_load(&j->gone[0]))
            job_require(job_seconds() < deadline);
        for (uint32_t k = 0; k < TENSORS; k++) {
            gradient_of(rank, k, s, m.values[k]);
            if (rank == 0 && last)
                job_check(gp_push(m.tensor[k], m.values[k], &m.request[k]));
            else
                job_check(gp_push_pull(m.tensor[k], m.values[k], m.values[k],
                                       &m.request[k]));
        }
        wait_all(&m);
    }
    for (uint32_t k = 0; rank == 1 && k < TENSORS; k++)
        memcpy(found[k], m.values[k], plan[k].count * sizeof(float));
    end(&m);
}

static void
another_worker_adds_up(void **state)
{
    job j = {.transport = "tcp",
             .workers = WORKERS,
             .shards = 3,
             .settings = {"chunk_bytes", "32K"},
             .body = leave_body};

    (void)state;
    compute_expected();
    if (run_job(&j) != GP_OK)
        fail_msg("%s %s", j.message[1], j.server_message);
    compare("after worker 0");
}

/* A step without one of its tensors ends with words that name it. */
static void
forgetful_body(job *j, gp_worker *w, uint32_t rank)
{
    gp_tensor *a = job_tensor(w, "a", 10, "sgd:clip=1");
    float values[10] = {0};
    gp_status status;
    gp_request *r;

    (void)job_tensor(w, "forgotten", 10, "sgd:clip=1");
    status = gp_push_pull(a, values, values, &r);
    job_note(j, rank, status == GP_OK ? gp_wait(&r, -1) : status);
}

static void
what_is_missing_has_a_name(void **state)
{
    static const char *const part = "tensor 'forgotten' has no push";
    job j = {
        .transport = "loop", .workers = 1, .shards = 1, .body = forgetful_body};

    (void)state;
    job_run_patiently(&j, "timeout", 1500, part, NULL);
    job_expect_end(&j, 0, GP_ERR_TIMEOUT, part);
}

/* A gradient that is no number makes all that are clipped none. */
static void
nan_body(job *j, gp_worker *w, uint32_t rank)
{
    gp_tensor *t[2] = {job_tensor(w, "a", 5000, "sgd:clip=1"),
                       job_tensor(w, "b", 10, "sgd:clip=1")};
    static float values[2][5000];
    gp_request *r[2];

    (void)j;
    (void)rank;
    values[0][4321] = NAN;
    for (int i = 0; i < 2; i++)
        job_check(gp_push_pull(t[i], values[i], values[i], &r[i]));
    job_check(gp_wait_all(r, 2, -1));
    job_require(isnan(values[0][0]) && isnan(values[1][9]));
}

static void
not_a_number_is_seen_everywhere(void **state)
{
    job j = {.transport = "loop", .workers = 1, .shards = 2, .body = nan_body};

    (void)state;
    assert_int_equal(run_job(&j), GP_OK);
}

static void
totals_nobody_asked_for_are_refused(void **state)
{
    static const uint32_t groups[] = {0, 1, 2, UINT32_MAX};

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(groups); i++) {
        job j = {.transport = "loop", .workers = 1, .shards = 1};
        gp_msg msg = {.type = GP_MSG_TOTAL, .chunk = groups[i]};
        raw w;

        job_start_servers(&j);
        raw_connect(&w, "loop", j.servers, 0, 1);
        raw_join(&w);
        raw_register(&w);
        raw_send(&w, &msg, NULL);
        raw_expect_closed(&w);
        raw_close(&w);
        job_stop_servers(&j);
        assert_int_equal(j.server_status, GP_ERR_PEER_LOST);
    }
}

/* Of RAW_COUNT times a value. */
static double
reported(const raw *w)
{
    gp_norm n;

    assert_int_equal(w->last.payload, 2 * GP_NORM_BYTES);
    gp_norm_decode(w->payload, &n);
    return gp_norm_sum(&n);
}

static void
answer(raw *w, uint64_t step, double total)
{
    gp_msg msg = {.type = GP_MSG_TOTAL, .worker = w->rank, .step = step};

    memcpy(&msg.aux, &total, sizeof(total));
    raw_send(w, &msg, NULL);
}

static void
join_pair(raw *w, const job *j, uint32_t rank)
{
    raw_connect(w, "loop", j->servers, rank, 2);
    w->shards = 2;
    w->updater = "sgd:lr=1,clip=1";
    raw_join(w);
}

static void
push_both(raw *a, raw *b, uint64_t step, float value)
{
    gp_msg msg = raw_push(a, (uint16_t)step, step, false);

    raw_send_values(a, &msg, value);
    msg = raw_push(b, (uint16_t)step, step, true);
    raw_send_values(b, &msg, value);
}

/* It leaves between a report and its answer: the next one is told again, of the
 * step before too. */
static void
who_adds_up_may_leave(void **state)
{
    job j = {.transport = "loop", .workers = 2, .shards = 1};
    gp_msg bye = {.type = GP_MSG_BYE};
    raw a, b;

    (void)state;
    job_start_servers(&j);
    join_pair(&a, &j, 0);
    join_pair(&b, &j, 1);
    raw_register(&a);
    raw_register(&b);
    push_both(&a, &b, 0, 3);
    raw_expect(&a, GP_MSG_NORM);
    assert_int_equal(a.last.chunk, 0);
    assert_true(reported(&a) == 9 * RAW_COUNT);
    answer(&a, 0, 4); /* one half is left of the gradient, and less */
    raw_expect(&b, GP_MSG_RESULT);
    assert_true(fabsf(b.result[7] + 1.5f) < 1e-5f);
    push_both(&a, &b, 1, 1);
    raw_expect(&a, GP_MSG_NORM);
    raw_send(&a, &bye, NULL);
    raw_expect(&b, GP_MSG_NORM);
    assert_true(b.last.step == 0 && reported(&b) == 9 * RAW_COUNT);
    raw_expect(&b, GP_MSG_NORM);
    assert_true(b.last.step == 1 && reported(&b) == RAW_COUNT);
    answer(&b, 0, 1e6); /* it is late, and changes nothing */
    answer(&b, 1, 0.25);
    raw_expect(&b, GP_MSG_RESULT);
    assert_true(fabsf(b.result[7] + 2.5f) < 1e-5f);
    raw_close(&a);
    answer(&b, 2, 1); /* nothing was reported */
    raw_expect_closed(&b);
    raw_close(&b);
    job_stop_servers(&j);
    assert_int_equal(j.server_status, GP_ERR_PEER_LOST);
}

/* What no shard says: the group, its length, the step. */
static void
misled_body(job *j, gp_worker *w, uint32_t rank)
{
    static const struct {
        uint32_t group;
        uint64_t step, bytes;
    } bad[] = {{2, 0, 2 * GP_NORM_BYTES},
               {UINT32_MAX, 0, 2 * GP_NORM_BYTES},
               {1, 0, 2 * GP_NORM_BYTES}, /* it needs no norm */
               {0, 1, 2 * GP_NORM_BYTES - 1}};
    static const uint8_t zeros[2 * GP_NORM_BYTES];
    size_t which = *(const size_t *)j->data;
    gp_event event = {.type = GP_EVENT_MESSAGE,
                      .msg = {.type = GP_MSG_NORM, .payload = sizeof(zeros)},
                      .payload = zeros};

    (void)job_tensor(w, "t", 10, "sgd:clip=1");
    job_check(gp_worker_ready(w));
    gp_driver_hold(w->driver);
    event.msg.chunk = bad[which].group;
    event.msg.step = bad[which].step;
    event.msg.payload = bad[which].bytes;
    gp_worker_norm(&w->conn[0], &event);
    gp_driver_release(w->driver);
    job_note(j, rank, gp_barrier(w));
}

static void
reports_that_cannot_be_end_the_job(void **state)
{
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        job j = {.transport = "loop",
                 .workers = 1,
                 .shards = 1,
                 .body = misled_body,
                 .data = &i};

        (void)run_job(&j);
        job_expect_end(&j, 0, GP_ERR_PROTOCOL, "which cannot be");
    }
}

/* --- the sums themselves --- */

static double
sum_in_parts(const float *values, size_t count, size_t part)
{
    gp_norm whole = {.special = 0};

    for (size_t end = count; end > 0;) {
        size_t begin_at = (end - 1) / part * part;
        gp_norm one = {.special = 0}, again;
        uint8_t bytes[GP_NORM_BYTES];

        gp_norm_add(&one, values + begin_at, end - begin_at);
        gp_norm_encode(&one, bytes);
        gp_norm_decode(bytes, &again);
        gp_norm_merge(&whole, &again);
        end = begin_at;
    }
    return gp_norm_sum(&whole);
}

static void
parts_make_no_difference(void **state)
{
    static float values[10007];
    static const size_t parts[] = {64, 128, 4096, 8192, 20032};
    uint32_t x = 5;
    double want = 0, sum;

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(values); i++) {
        x = x * 1664525u + 1013904223u;
        values[i] = ldexpf((float)(int32_t)x, (int)(x >> 8) % 60 - 60);
        want += (double)values[i] * (double)values[i];
    }
    sum = sum_in_parts(values, GP_COUNT_OF(values), 20032);
    assert_true(fabs(sum - want) <= 1e-12 * want);
    for (size_t i = 0; i < GP_COUNT_OF(parts); i++)
        assert_true(sum_in_parts(values, GP_COUNT_OF(values), parts[i]) == sum);
}

static void
every_number_has_room(void **state)
{
    static float values[64 * 1024];
    gp_norm n = {.special = 0};
    float tiny = ldexpf(1, -149), huge = 3.4028235e38f;

    (void)state;
    assert_true(gp_norm_sum(&n) == 0);
    gp_norm_add(&n, &tiny, 1);
    assert_true(gp_norm_sum(&n) == ldexp(1, -298));
    for (size_t i = 0; i < GP_COUNT_OF(values); i++)
        values[i] = huge;
    for (int i = 0; i < 100; i++)
        gp_norm_add(&n, values, GP_COUNT_OF(values));
    assert_true(fabs(gp_norm_sum(&n) / ((double)huge * huge * 6553600) - 1) <
                1e-14);
    values[5] = -INFINITY;
    gp_norm_add(&n, values, 64);
    assert_true(isinf(gp_norm_sum(&n)));
    values[5] = NAN;
    gp_norm_add(&n, values, 64);
    assert_true(isnan(gp_norm_sum(&n)));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_make_no_difference),
        cmocka_unit_test(every_number_has_room),
        cmocka_unit_test(any_number_of_shards_gives_the_same_bits),
        cmocka_unit_test(another_worker_adds_up),
        cmocka_unit_test(what_is_missing_has_a_name),
        cmocka_unit_test(not_a_number_is_seen_everywhere),
        cmocka_unit_test(totals_nobody_asked_for_are_refused),
        cmocka_unit_test(who_adds_up_may_leave),
        cmocka_unit_test(reports_that_cannot_be_end_the_job),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
