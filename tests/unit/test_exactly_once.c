/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_exactly_once.c - a shard against workers that repeat themselves or lie.
 *
 * A push is applied once, however often it comes; a message that cannot be
 * right ends the connection with a line in the log, and the shard lives on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "job_raw.h"

static const char *const transports[] = {"loop", "tcp"};

static void
start(job *j, raw *w, const char *transport, uint32_t workers)
{
    *j = (job){.transport = transport, .workers = workers, .shards = 1};
    job_start_servers(j);
    for (uint32_t r = 0; r < workers; r++) {
        raw_connect(&w[r], transport, j->servers, r, workers);
        raw_join(&w[r]);
    }
    for (uint32_t r = 0; r < workers; r++) {
        raw_expect(&w[r], GP_MSG_START);
        raw_register(&w[r]);
    }
}

static void
push(raw *w, uint16_t slot, uint64_t step, bool want, float value)
{
    gp_msg msg = raw_push(w, slot, step, want);

    raw_send_values(w, &msg, value);
}

static void
expect_result(raw *w, uint64_t version, float value)
{
    raw_expect(w, GP_MSG_RESULT);
    assert_int_equal(w->last.step, version);
    for (uint32_t i = 0; i < RAW_COUNT; i++)
        if (w->result[i] != value)
            fail_msg("[%u] is %g, not %g", i, (double)w->result[i],
                     (double)value);
}

static void
copies_are_applied_once(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        job j;
        raw w[2];

        start(&j, w, transports[k], 2);
        /* While it waits for the other worker. */
        push(&w[0], 0, 0, true, 1);
        push(&w[0], 1, 0, true, 1);
        push(&w[0], 2, 0, true, 1);
        raw_expect_credits(&w[0], 6);
        push(&w[1], 0, 0, true, 10);
        expect_result(&w[0], 1, 11);
        expect_result(&w[1], 1, 11);
        /* After it was applied: answered again, with the same. */
        push(&w[0], 3, 0, true, 1);
        expect_result(&w[0], 1, 11);
        push(&w[1], 1, 0, false, 10);
        raw_expect(&w[1], GP_MSG_ACK);
        assert_int_equal(w[1].last.status, GP_OK);
        /* And the next step knows nothing of it. */
        push(&w[1], 2, 1, true, 20);
        push(&w[1], 3, 1, true, 20);
        push(&w[0], 0, 1, true, 2);
        expect_result(&w[0], 2, 22);
        expect_result(&w[1], 2, 22);
        raw_leave(&j, w, GP_OK);
    }
}

/* Every slot comes back, also those of copies. */
static void
slots_come_back(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        job j;
        raw w[1];
        uint64_t all;

        start(&j, w, transports[k], 1);
        all = (1ull << w->grant.slots) - 1;
        for (uint64_t step = 0; step < 40; step++) {
            uint16_t slot = (uint16_t)(step % w->grant.slots);

            push(w, slot, step, true, 5);
            expect_result(w, step + 1, 5);
            push(w, (uint16_t)((slot + 1) % w->grant.slots), step, false, 5);
            raw_expect(w, GP_MSG_ACK);
            assert_int_equal(w->credits & ~all, 0);
        }
        assert_int_equal(w->credits, all);
        raw_leave(&j, w, GP_OK);
    }
}

/* What a lie does to a push that is right otherwise, and what the log says. */

static void
wrong_slot(gp_msg *m)
{
    m->slot = 63;
    m->offset = 0;
}

static void
wrong_offset(gp_msg *m)
{
    m->offset = 0;
    m->slot = 1;
}

static void
later_step(gp_msg *m)
{
    m->step = 7;
}

static void
old_epoch(gp_msg *m)
{
    m->epoch = 9;
}

static void
wrong_incarnation(gp_msg *m)
{
    m->incarnation = 3;
}

static void
wrong_worker(gp_msg *m)
{
    m->worker = 1;
}

static void
wrong_job(gp_msg *m)
{
    m->job = 12345;
}

static void
wrong_pipeline(gp_msg *m)
{
    m->pipeline ^= 1;
}

static void
wrong_elements(gp_msg *m)
{
    m->elements = 1u << 30;
}

static void
wrong_dtype(gp_msg *m)
{
    m->dtype = GP_FP16;
}

static void
wrong_chunk(gp_msg *m)
{
    m->chunk = UINT32_MAX;
}

static void
short_payload(gp_msg *m)
{
    m->payload = 4;
}

static void
no_destination(gp_msg *m)
{
    m->aux = 0;
}

static void
pull_too_far(gp_msg *m)
{
    *m = (gp_msg){.type = GP_MSG_PULL, .step = 5, .aux = m->aux};
}

static void
pull_of_nothing(gp_msg *m)
{
    *m = (gp_msg){.type = GP_MSG_PULL, .chunk = 4, .aux = m->aux};
}

static void
pull_nowhere(gp_msg *m)
{
    *m = (gp_msg){.type = GP_MSG_PULL};
}

static void
unknown_type(gp_msg *m)
{
    *m = (gp_msg){.type = 200};
}

static void
second_list(gp_msg *m)
{
    *m = (gp_msg){.type = GP_MSG_TENSORS};
}

static void
second_hello(gp_msg *m)
{
    *m = (gp_msg){.type = GP_MSG_HELLO};
}

static const struct {
    void (*spoil)(gp_msg *m);
    const char *says;
} lies[] = {
    {wrong_slot, "slot 63, which it does not own"},
    {wrong_offset, "which it does not own"},
    {later_step, "step 7 of chunk 0 where step 0 is expected"},
    {old_epoch, "epoch 9"},
    {wrong_incarnation, "incarnation 3"},
    {wrong_worker, "message as worker 1"},
    {wrong_job, "message as worker 0"},
    {wrong_pipeline, "with pipeline"},
    {wrong_elements, "push of 1073741824 elements"},
    {wrong_dtype, "push of 8 elements"},
    {wrong_chunk, "not on this shard"},
    {short_payload, "dense push of 4 bytes"},
    {no_destination, "no destination"},
    {pull_too_far, "pull of step 5 of chunk 0, of which it has pushed 0"},
    {pull_of_nothing, "pull of chunk 4, not on this shard"},
    {pull_nowhere, "no destination"},
    {unknown_type, "message type 200 out of turn"},
    {second_list, "message type 7 out of turn"},
    {second_hello, "message type 2 out of turn"},
};

static void
lies_end_the_connection(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2 * sizeof(lies) / sizeof(lies[0]); i++) {
        job j;
        raw w[1];
        gp_msg msg;

        job_log_start();
        start(&j, w, transports[i % 2], 1);
        msg = raw_push(w, 0, 0, true);
        lies[i / 2].spoil(&msg);
        raw_send_values(w, &msg, 1);
        raw_expect_closed(w);
        job_log_stop();
        if (!job_log_has(lies[i / 2].says))
            fail_msg("the log does not say '%s'", lies[i / 2].says);
        raw_leave(&j, w, GP_ERR_PEER_LOST);
    }
}

/* The same slot twice before it came back; a pull while a push is answered. */
static void
impatience_ends_the_connection(void **state)
{
    (void)state;
    for (int k = 0; k < 4; k++) {
        job j;
        raw w[2];
        gp_msg pull = {.type = GP_MSG_PULL, .cookie = 9};

        job_log_start();
        start(&j, w, transports[k % 2], 2);
        push(&w[0], 0, 0, true, 1);
        pull.aux = gp_destination(w[0].token, 0);
        if (k < 2)
            push(&w[0], 0, 0, true, 1);
        else
            raw_send(&w[0], &pull, NULL);
        raw_expect_closed(&w[0]);
        raw_expect(&w[1], GP_MSG_FAULT);
        assert_non_null(strstr(w[1].text, "worker 0"));
        job_log_stop();
        assert_true(job_log_has(k < 2 ? "does not own" : "before the last"));
        raw_leave(&j, w, GP_ERR_PEER_LOST);
    }
}

/* Before the hello nothing else is heard. */
static void
strangers_are_refused(void **state)
{
    static const uint8_t types[] = {
        GP_MSG_PUSH, GP_MSG_PULL,  GP_MSG_TENSORS, GP_MSG_BARRIER,
        GP_MSG_BYE,  GP_MSG_FAULT, GP_MSG_START,   GP_MSG_WELCOME};

    (void)state;
    for (size_t i = 0; i < sizeof(types); i++) {
        job j = {.transport = transports[i % 2], .workers = 1, .shards = 1};
        gp_msg msg = {.type = types[i]};
        raw w;

        job_log_start();
        job_start_servers(&j);
        raw_connect(&w, j.transport, j.servers, 0, 1);
        raw_send(&w, &msg, NULL);
        raw_expect_closed(&w);
        job_log_stop();
        assert_true(job_log_has("instead of a hello"));
        raw_close(&w);
        gp_server_destroy(j.server[0]);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_are_applied_once),
        cmocka_unit_test(slots_come_back),
        cmocka_unit_test(lies_end_the_connection),
        cmocka_unit_test(impatience_ends_the_connection),
        cmocka_unit_test(strangers_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
