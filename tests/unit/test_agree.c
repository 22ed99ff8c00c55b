/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_agree.c - numbers that workers agree on before they encode: who hears
 * what and when, and what repeated, late and wrong proposals do.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <gradpush/codec.h>

#include "job_raw.h"
#include "worker/worker_int.h"

#define TEXT "none|intsum"

static void
start(job *j, raw *w, uint32_t workers, const char *transport)
{
    *j = (job){.transport = transport,
               .workers = workers,
               .shards = 1,
               .settings = {"slots", "1"}};
    job_start_servers(j);
    for (uint32_t r = 0; r < workers; r++) {
        raw_connect(&w[r], transport, j->servers, r, workers);
        raw_use(&w[r], TEXT, "intsum");
        raw_join(&w[r]);
    }
    for (uint32_t r = 0; r < workers; r++) {
        raw_expect(&w[r], GP_MSG_START);
        raw_register(&w[r]);
    }
}

static gp_msg
proposal(const raw *w, uint64_t step, float value)
{
    return (gp_msg){.type = GP_MSG_PROPOSE,
                    .worker = w->rank,
                    .step = step,
                    .pipeline = w->pipeline,
                    .elements = RAW_COUNT,
                    .dtype = GP_FP32,
                    .cookie = 500 + step,
                    .aux = gp_float_bits(value)};
}

static void
propose(raw *w, uint64_t step, float value)
{
    gp_msg msg = proposal(w, step, value);

    raw_send(w, &msg, NULL);
}

/* A copy may have overtaken the push that made it void: then it was answered.
 */
static float
expect_agreed(raw *w, uint64_t step)
{
    do
        raw_expect(w, GP_MSG_AGREE);
    while (w->last.step < step);
    assert_int_equal(w->last.step, step);
    assert_int_equal(w->last.cookie, 500 + step);
    return gp_bits_float(w->last.aux);
}

/* A push of `value` everywhere, encoded with what was agreed on. */
static void
push(raw *w, uint16_t slot, uint64_t step, float value, float shared)
{
    static uint8_t payloads[16][256];
    static uint32_t next;
    uint8_t *bytes = payloads[next++ % 16];
    _Alignas(64) static uint8_t work[4096];
    gp_codec_context context = {
        .seed = 1, .step = step, .rank = w->rank, .size = w->size};
    gp_msg msg = raw_push(w, slot, step, true);
    float values[RAW_COUNT];
    gp_pipeline *p;
    size_t length;

    context.shared = shared;
    for (uint32_t i = 0; i < RAW_COUNT; i++)
        values[i] = value;
    job_check(gp_pipeline_parse("intsum", &p));
    assert_true(gp_pipeline_workspace(p, RAW_COUNT) <= sizeof(work));
    job_check(gp_pipeline_encode(p, &context, NULL, values, RAW_COUNT, bytes,
                                 256, &length, work));
    gp_pipeline_destroy(p);
    msg.payload = length;
    raw_send(w, &msg, bytes);
}

static void
push_dense(raw *w, uint16_t slot, uint64_t step, float value)
{
    uint32_t before = w->pipeline;
    gp_msg msg;

    raw_use(w, TEXT, "none");
    msg = raw_push(w, slot, step, true);
    raw_send_values(w, &msg, value);
    w->pipeline = before;
}

static void
expect_result(raw *w, uint64_t version, double value)
{
    raw_expect(w, GP_MSG_RESULT);
    assert_int_equal(w->last.step, version);
    for (uint32_t i = 0; i < RAW_COUNT; i++)
        if (fabs((double)w->result[i] - value) > 0.05)
            fail_msg("[%u] is %g, not %g", i, (double)w->result[i], value);
}

static void
the_largest_is_agreed_on(void **state)
{
    static const char *const transports[] = {"loop", "tcp"};

    (void)state;
    for (int k = 0; k < 2; k++) {
        job j;
        raw w[2];

        start(&j, w, 2, transports[k]);
        for (uint64_t step = 0; step < 3; step++) {
            float value = 1 + (float)step, agreed;

            propose(&w[0], step, value);
            propose(&w[1], step, 2 * value);
            agreed = expect_agreed(&w[0], step);
            assert_true(agreed == 2 * value);
            assert_true(expect_agreed(&w[1], step) == agreed);
            push(&w[1], 0, step, 2 * value, agreed);
            push(&w[0], 0, step, value, agreed);
            expect_result(&w[0], step + 1, 3 * (double)value);
            expect_result(&w[1], step + 1, 3 * (double)value);
        }
        propose(&w[0], 3, NAN);
        propose(&w[1], 3, INFINITY);
        assert_true(isnan(expect_agreed(&w[0], 3)));
        assert_true(isnan(expect_agreed(&w[1], 3)));
        raw_leave(&j, w, GP_OK);
    }
}

/* One answer to the two before, another to the one that comes after. */
static void
copies_change_nothing(void **state)
{
    job j;
    raw w[2];

    (void)state;
    start(&j, w, 2, "tcp");
    propose(&w[0], 0, 5);
    propose(&w[0], 0, 50);
    propose(&w[1], 0, 1);
    assert_true(expect_agreed(&w[1], 0) == 5);
    assert_true(expect_agreed(&w[0], 0) == 5);
    propose(&w[0], 0, 500);
    assert_true(expect_agreed(&w[0], 0) == 5);
    push(&w[0], 0, 0, 5, 5);
    propose(&w[0], 0, 500); /* its push is here: not answered */
    push(&w[1], 0, 0, 1, 5);
    raw_expect(&w[0], GP_MSG_RESULT);
    expect_result(&w[1], 1, 6);
    propose(&w[0], 0, 500); /* its step is over: not answered */
    propose(&w[0], 1, 7);
    propose(&w[1], 1, 8);
    assert_true(expect_agreed(&w[0], 1) == 8);
    assert_true(expect_agreed(&w[1], 1) == 8);
    raw_leave(&j, w, GP_OK);
}

/* Who pushes without a number has nothing to say. */
static void
others_need_not_propose(void **state)
{
    job j;
    raw w[3];

    (void)state;
    start(&j, w, 3, "loop");
    propose(&w[0], 0, 3);
    push_dense(&w[1], 0, 0, 100);
    propose(&w[2], 0, 2);
    assert_true(expect_agreed(&w[0], 0) == 3);
    assert_true(expect_agreed(&w[2], 0) == 3);
    push(&w[0], 0, 0, 3, 3);
    push(&w[2], 0, 0, 2, 3);
    for (uint32_t r = 0; r < 3; r++)
        expect_result(&w[r], 1, 105);
    /* Also when the dense push comes last. */
    propose(&w[0], 1, 3);
    propose(&w[2], 1, 2);
    push_dense(&w[1], 0, 1, 100);
    assert_true(expect_agreed(&w[0], 1) == 3);
    assert_true(expect_agreed(&w[2], 1) == 3);
    push(&w[0], 0, 1, 3, 3);
    push(&w[2], 0, 1, 2, 3);
    for (uint32_t r = 0; r < 3; r++)
        expect_result(&w[r], 2, 105);
    raw_leave(&j, w, GP_OK);
}

/* Also when its push has been added before the others spoke, because it filled
 * all slots. */
static void
pushes_may_be_added_before(void **state)
{
    job j;
    raw w[3];

    (void)state;
    start(&j, w, 3, "loop");
    push_dense(&w[0], 0, 0, 100);
    while (!(w[0].credits & 1))
        raw_expect(&w[0], GP_MSG_CREDIT);
    propose(&w[1], 0, 3);
    propose(&w[2], 0, 2);
    assert_true(expect_agreed(&w[1], 0) == 3);
    assert_true(expect_agreed(&w[2], 0) == 3);
    push(&w[1], 0, 0, 3, 3);
    push(&w[2], 0, 0, 2, 3);
    for (uint32_t r = 0; r < 3; r++)
        expect_result(&w[r], 1, 105);
    raw_leave(&j, w, GP_OK);
}

typedef void (*lie)(raw *w);

static void
unknown_chunk(raw *w)
{
    gp_msg msg = proposal(w, 0, 1);

    msg.chunk = 1;
    raw_send(w, &msg, NULL);
}

static void
future_step(raw *w)
{
    propose(w, 1, 1);
}

static void
unknown_pipeline(raw *w)
{
    gp_msg msg = proposal(w, 0, 1);

    msg.pipeline++;
    raw_send(w, &msg, NULL);
}

static void
needless_proposal(raw *w)
{
    raw_use(w, TEXT, "none");
    propose(w, 0, 1);
}

static void
other_rank(raw *w)
{
    gp_msg msg = proposal(w, 0, 1);

    msg.worker = 1;
    raw_send(w, &msg, NULL);
}

static void
push_without(raw *w)
{
    push(w, 0, 0, 1, 1);
}

static void
push_too_early(raw *w)
{
    propose(w, 0, 1);
    push(w, 0, 0, 1, 1);
}

static void
dense_while_waiting(raw *w)
{
    propose(w, 0, 1);
    push_dense(w, 0, 0, 1);
}

static void
pull_while_waiting(raw *w)
{
    gp_msg msg = {.type = GP_MSG_PULL, .worker = 0};

    propose(w, 0, 1);
    msg.aux = gp_destination(w->token, 0);
    raw_send(w, &msg, NULL);
}

static void
liars_are_cut_off(void **state)
{
    static const struct {
        lie tell;
        const char *says;
    } lies[] = {
        {unknown_chunk, "proposal for chunk 1, not on this shard"},
        {future_step, "proposal for step 1 of chunk 0 where step 0"},
        {unknown_pipeline, "which takes none"},
        {needless_proposal, "which takes none"},
        {other_rank, "message as worker 1"},
        {push_without, "before what all workers must agree on"},
        {push_too_early, "before what all workers must agree on"},
        {dense_while_waiting, "before what all workers must agree on"},
        {pull_while_waiting, "before the last answer"},
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(lies); i++) {
        job j;
        raw w[2];

        start(&j, w, 2, "loop");
        job_log_start();
        lies[i].tell(&w[0]);
        raw_expect_closed(&w[0]);
        if (!job_log_has(lies[i].says))
            fail_msg("case %zu does not log '%s'", i, lies[i].says);
        job_log_stop();
        raw_expect(&w[1], GP_MSG_FAULT);
        raw_leave(&j, w, GP_ERR_PEER_LOST);
    }
}

/* Who waits for a proposal of one that is gone hears of it. */
static void
departures_end_the_wait(void **state)
{
    (void)state;
    for (int orderly = 0; orderly < 2; orderly++) {
        job j;
        raw w[2];
        gp_msg bye = {.type = GP_MSG_BYE, .worker = 1};

        start(&j, w, 2, "tcp");
        propose(&w[0], 0, 1);
        if (orderly)
            raw_send(&w[1], &bye, NULL);
        else
            w[1].ops->ep_close(w[1].ep);
        if (!orderly)
            w[1].ep = NULL;
        raw_expect(&w[0], GP_MSG_FAULT);
        assert_int_equal(w[0].last.status,
                         orderly ? GP_ERR_PEER_LEFT : GP_ERR_PEER_LOST);
        w[1].closed = true;
        raw_leave(&j, w, orderly ? GP_ERR_PEER_LEFT : GP_ERR_PEER_LOST);
    }
}

/* ---- real workers ------------------------------------------------------ */

#define COUNT   20000u
#define STEPS   8u
#define WORKERS 3u

static void
body(job *j, gp_worker *w, uint32_t rank)
{
    gp_tensor_options o = GP_TENSOR_INIT;
    float *data = calloc(COUNT, sizeof(float));
    gp_tensor *t;

    (void)j;
    o.name = "t";
    o.count = COUNT;
    o.codec = TEXT;
    o.updater = "sum";
    o.feedback = 0;
    job_check(gp_tensor_register(w, &o, &t));
    for (uint32_t s = 0; s < STEPS; s++) {
        gp_request *request;

        for (uint32_t i = 0; i < COUNT; i++)
            data[i] = job_value(rank, 0, s, i);
        gp_tensor_prefer(t, (rank + s) % 3 == 0 ? 0 : 1);
        job_check(gp_push_pull(t, data, data, &request));
        job_check(gp_wait(&request, -1));
        for (uint32_t i = 0; i < COUNT; i++) {
            double sum = 0;

            for (uint32_t r = 0; r < WORKERS; r++)
                sum += (double)job_value(r, 0, s, i);
            job_require(fabs((double)data[i] - sum) < 1.0,
                        "step %u element %u: %g, not %g", s, i, (double)data[i],
                        sum);
        }
    }
    free(data);
}

static void
workers_may_differ(void **state)
{
    static const char *const slots[] = {"1", "8"};

    (void)state;
    for (uint32_t shards = 0; shards < 3; shards++) {
        job j = {.transport = shards == 2 ? "tcp" : "loop",
                 .workers = WORKERS,
                 .shards = shards,
                 .colocated = shards == 0,
                 .settings = {"chunk_bytes", "16K", "slots", slots[shards % 2]},
                 .body = body};

        assert_int_equal(run_job(&j), GP_OK);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_largest_is_agreed_on),
        cmocka_unit_test(copies_change_nothing),
        cmocka_unit_test(others_need_not_propose),
        cmocka_unit_test(pushes_may_be_added_before),
        cmocka_unit_test(liars_are_cut_off),
        cmocka_unit_test(departures_end_the_wait),
        cmocka_unit_test(workers_may_differ),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
