/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_rows_raw.c - a shard with rows against workers that repeat themselves or
 * lie: a push is applied once, and what cannot be right ends the connection.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "job_raw.h"
#include "wire/rows.h"

#define WIDTH 2u
#define BATCH (RAW_COUNT / WIDTH)
#define ROWS  100u

static const char *const transports[] = {"loop", "tcp"};

static void
register_rows(raw *w, const char *mode)
{
    gp_tensor_spec spec = {.name = "r",
                           .dtype = GP_FP32,
                           .count = RAW_COUNT,
                           .columns = WIDTH,
                           .push = "none",
                           .pull = "none",
                           .updater = "sgd:lr=1",
                           .rows = ROWS};
    gp_tensor_list list = {.chunk_bytes = 1u << 20,
                           .seed = 1,
                           .shards = 1,
                           .count = 1,
                           .tensors = &spec};
    gp_msg msg = {.type = GP_MSG_TENSORS, .worker = w->rank};
    void *bytes;
    size_t size;

    snprintf(spec.mode, sizeof(spec.mode), "%s", mode);
    job_check(gp_tensor_list_encode(&list, &bytes, &size));
    msg.payload = size;
    raw_send(w, &msg, bytes);
    free(bytes);
    raw_expect(w, GP_MSG_READY);
    job_check(
        w->ops->expose(w->ep, w->mem, 0, sizeof(w->result), 0, &w->token));
}

static void
start(job *j, raw *w, const char *transport, uint32_t workers, const char *mode)
{
    *j = (job){.transport = transport, .workers = workers, .shards = 1};
    job_start_servers(j);
    for (uint32_t r = 0; r < workers; r++) {
        raw_connect(&w[r], transport, j->servers, r, workers);
        raw_join(&w[r]);
    }
    for (uint32_t r = 0; r < workers; r++) {
        raw_expect(&w[r], GP_MSG_START);
        register_rows(&w[r], mode);
    }
}

/* A payload that pushes -value to rows 5 and 7 and asks for 5 and 6. */
static const uint8_t *
make_payload(gp_msg *msg, float value)
{
    static _Alignas(8) uint8_t memory[32][128];
    static uint32_t next;
    uint8_t *p = memory[next++ % 32]; /* loop reads it where it lies */
    bool push = msg->type == GP_MSG_PUSH;
    uint8_t *at = p + GP_ROWS_HEAD;

    gp_put32(p, push ? 2 : 0);
    gp_put32(p + 4, 2);
    for (uint64_t i = 5; push && i <= 7; i += 2, at += 8)
        gp_put64(at, i);
    for (uint64_t i = 5; i <= 6; i++, at += 8)
        gp_put64(at, i);
    for (uint32_t i = 0; push && i < 2 * WIDTH; i++, at += 4) {
        float x = -value;

        memcpy(at, &x, sizeof(x));
    }
    msg->payload = (uint64_t)(at - p);
    return p;
}

static void
push(raw *w, uint16_t slot, uint64_t step, bool want, float value)
{
    gp_msg msg = raw_push(w, slot, step, want);

    raw_send(w, &msg, make_payload(&msg, value));
}

static gp_msg
lookup(const raw *w, uint16_t slot, uint64_t step)
{
    gp_msg msg = raw_push(w, slot, step, true);

    msg.type = GP_MSG_LOOKUP;
    msg.flags = 0;
    return msg;
}

/* Row 5 has that value; row 6 was never pushed. */
static void
expect_result(raw *w, uint64_t version, float value)
{
    raw_expect(w, GP_MSG_RESULT);
    assert_int_equal(w->last.step, version);
    assert_int_equal(w->last.payload, 2 * WIDTH * sizeof(float));
    for (uint32_t i = 0; i < 2 * WIDTH; i++)
        if (w->result[i] != (i < WIDTH ? value : 0))
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
        gp_msg msg;

        start(&j, w, transports[k], 2, "sync");
        push(&w[0], 0, 0, true, 2);
        push(&w[0], 1, 0, true, 2);
        push(&w[0], 2, 0, true, 2);
        raw_expect_credits(&w[0], 6);
        push(&w[1], 0, 0, true, 10);
        expect_result(&w[0], 1, 6);
        expect_result(&w[1], 1, 6);
        push(&w[0], 3, 0, true, 2); /* after it was applied */
        expect_result(&w[0], 1, 6);
        push(&w[1], 1, 0, false, 10);
        raw_expect(&w[1], GP_MSG_ACK);
        assert_int_equal(w[1].last.status, GP_OK);
        msg = lookup(&w[1], 2, 1);
        raw_send(&w[1], &msg, make_payload(&msg, 0));
        expect_result(&w[1], 1, 6);
        raw_expect_credits(&w[1], 7);
        push(&w[1], 0, 1, true, 20);
        push(&w[0], 0, 1, true, 4);
        expect_result(&w[0], 2, 18);
        expect_result(&w[1], 2, 18);
        raw_leave(&j, w, GP_OK);
    }
}

/* Where pushes are updates of their own, and results wait for the slowest. */
static void
copies_are_applied_once_apart(void **state)
{
    static const char *const modes[] = {"async", "ssp:1"};

    (void)state;
    for (int k = 0; k < 4; k++) {
        job j;
        raw w[2];

        start(&j, w, transports[k % 2], 2, modes[k / 2]);
        push(&w[0], 0, 0, true, 1);
        expect_result(&w[0], 1, 1);
        push(&w[0], 1, 0, true, 1);
        expect_result(&w[0], 1, 1);
        push(&w[0], 2, 1, true, 2);
        if (k < 2) {
            expect_result(&w[0], 2, 3);
            push(&w[1], 0, 0, true, 4);
            expect_result(&w[1], 3, 7);
        } else { /* two ahead is one too many */
            push(&w[0], 3, 1, true, 2);
            push(&w[1], 0, 0, true, 4);
            expect_result(&w[0], 3, 7);
            expect_result(&w[1], 3, 7);
        }
        raw_leave(&j, w, GP_OK);
    }
}

/* ---- lies --------------------------------------------------------------- */

typedef struct lie {
    gp_msg msg;
    uint8_t payload[128];
} lie;

static void
row_not_there(lie *l)
{
    gp_put64(l->payload + 16, ROWS);
}

static void
not_ascending(lie *l)
{
    gp_put64(l->payload + 16, 5);
}

static void
too_many(lie *l)
{
    gp_put32(l->payload, BATCH + 1);
}

static void
many_wanted(lie *l)
{
    gp_put32(l->payload + 4, UINT32_MAX);
}

static void
no_head(lie *l)
{
    l->msg.payload = 4;
}

static void
short_values(lie *l)
{
    l->msg.payload -= 4;
}

static void
initial(lie *l)
{
    l->msg.flags |= GP_MSG_INIT;
}

static void
weighted(lie *l)
{
    l->msg.flags |= GP_MSG_WEIGHT;
    l->msg.credits = gp_double_bits(2);
}

static void
pushing_lookup(lie *l)
{
    l->msg.type = GP_MSG_LOOKUP;
}

static void
lookup_without_slot(lie *l)
{
    l->msg.type = GP_MSG_LOOKUP;
    l->msg.slot = 63;
}

static void
lookup_nowhere(lie *l)
{
    l->msg.type = GP_MSG_LOOKUP;
    l->msg.aux = 0;
}

static void
lookup_too_far(lie *l)
{
    l->msg.type = GP_MSG_LOOKUP;
    l->msg.step = 3;
}

static void
lookup_elsewhere(lie *l)
{
    l->msg.type = GP_MSG_LOOKUP;
    l->msg.chunk = 1;
}

static void
plain_pull(lie *l)
{
    l->msg = (gp_msg){.type = GP_MSG_PULL, .aux = l->msg.aux};
}

static void
dense_state(lie *l)
{
    l->msg = (gp_msg){
        .type = GP_MSG_RECALL, .pipeline = GP_KEPT_PARAMETERS, .elements = 1};
}

static void
restore_short(lie *l)
{
    l->msg = (gp_msg){.type = GP_MSG_RESTORE,
                      .pipeline = GP_KEPT_ROWS,
                      .elements = 2,
                      .payload = 24};
}

static void
restore_nothing(lie *l)
{
    l->msg = (gp_msg){.type = GP_MSG_RESTORE, .pipeline = GP_KEPT_ROWS};
}

static void
restore_elsewhere(lie *l)
{
    l->msg = (gp_msg){.type = GP_MSG_RESTORE,
                      .pipeline = GP_KEPT_ROWS,
                      .chunk = 7,
                      .elements = 1,
                      .payload = 24};
}

static void
restore_wrong_row(lie *l)
{
    l->msg = (gp_msg){.type = GP_MSG_RESTORE,
                      .pipeline = GP_KEPT_ROWS,
                      .elements = 1,
                      .payload = 24};
    gp_put64(l->payload, ROWS);
}

static const struct {
    void (*spoil)(lie *l);
    const char *says;
} lies[] = {
    {row_not_there, "row 100 of 100"},
    {not_ascending, "row 5 after row 5"},
    {too_many, "4 at most"},
    {many_wanted, "4 at most"},
    {no_head, "4 bytes of rows"},
    {short_values, "4 at most"},
    {initial, "with initial values for chunk 0 of rows"},
    {weighted, "with a weight"},
    {pushing_lookup, "2 rows pushed by a pull"},
    {lookup_without_slot, "slot 63, which it does not own"},
    {lookup_nowhere, "no destination"},
    {lookup_too_far, "pull of step 3 of chunk 0"},
    {lookup_elsewhere, "pull of chunk 1, not on this shard"},
    {plain_pull, "names no rows"},
    {dense_state, "has no 3"},
    {restore_short, "24 bytes for 2 rows"},
    {restore_nothing, "0 bytes for 0 rows"},
    {restore_elsewhere, "has no rows"},
    {restore_wrong_row, "row 100, which is not here"},
};

static void
lies_end_the_connection(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2 * GP_COUNT_OF(lies); i++) {
        static lie l;
        job j;
        raw w[1];

        job_log_start();
        start(&j, w, transports[i % 2], 1, "sync");
        l.msg = raw_push(w, 0, 0, true);
        memcpy(l.payload, make_payload(&l.msg, 1), sizeof(l.payload));
        lies[i / 2].spoil(&l);
        raw_send(w, &l.msg, l.payload);
        raw_expect_closed(w);
        job_log_stop();
        if (!job_log_has(lies[i / 2].says))
            fail_msg("the log does not say '%s'", lies[i / 2].says);
        raw_leave(&j, w, GP_ERR_PEER_LOST);
    }
}

/* Of a dense tensor nobody looks rows up; while a result is due, neither. */
static void
lookups_out_of_turn(void **state)
{
    (void)state;
    for (int k = 0; k < 4; k++) {
        job j;
        raw w[2];
        gp_msg msg;

        job_log_start();
        start(&j, w, transports[k % 2], 2, "sync");
        msg = lookup(&w[0], 1, 0);
        if (k < 2)
            push(&w[0], 0, 0, true, 1);
        else
            msg.worker = 1;
        raw_send(&w[0], &msg, make_payload(&msg, 0));
        raw_expect_closed(&w[0]);
        raw_expect(&w[1], GP_MSG_FAULT);
        job_log_stop();
        assert_true(job_log_has(k < 2 ? "before the last" : "as worker 1"));
        raw_leave(&j, w, GP_ERR_PEER_LOST);
    }
}

/* What shards say of themselves in between is their own: a lone worker restores
 * a row, pulls it, and asks for it. */
static void
rows_go_in_and_out(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        job j;
        raw w[1];
        gp_msg msg = {.type = GP_MSG_RESTORE,
                      .pipeline = GP_KEPT_ROWS,
                      .elements = 1,
                      .payload = 24};
        uint8_t record[24];
        float values[2] = {3, 3};

        start(&j, w, transports[k], 1, "sync");
        gp_put64(record, 5);
        gp_put64(record + 8, 9);
        memcpy(record + 16, values, 8);
        for (int twice = 0; twice < 2; twice++) {
            raw_send(w, &msg, record);
            raw_expect(w, GP_MSG_KEPT);
            assert_int_equal(w->last.aux, 1);
        }
        msg = lookup(w, 0, 0);
        raw_send(w, &msg, make_payload(&msg, 0));
        expect_result(w, 0, 3);
        for (uint64_t at = 0; at < 3; at++) {
            msg = (gp_msg){
                .type = GP_MSG_RECALL, .pipeline = GP_KEPT_ROWS, .aux = at};
            raw_send(w, &msg, NULL);
            raw_expect(w, GP_MSG_KEPT);
            assert_int_equal(w->last.elements, at == 0);
            if (at == 0)
                assert_memory_equal(w->payload, record, sizeof(record));
        }
        msg.step = 1; /* it has pushed none */
        raw_send(w, &msg, NULL);
        raw_expect(w, GP_MSG_KEPT);
        assert_int_equal(w->last.status, GP_ERR_STATE);
        raw_leave(&j, w, GP_OK);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_are_applied_once),
        cmocka_unit_test(copies_are_applied_once_apart),
        cmocka_unit_test(lies_end_the_connection),
        cmocka_unit_test(lookups_out_of_turn),
        cmocka_unit_test(rows_go_in_and_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
