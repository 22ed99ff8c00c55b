/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_store_core.c - the store without sockets: bytes on the wire, limits of
 * the table, sessions fed in any portions.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "rendezvous/store_session.h"

/* A build without OpenSSL has no proofs to try. */
static void
skip_without_openssl(void)
{
    print_message("skipped: this build has no OpenSSL\n");
    skip();
}

/* The layouts of docs/protocol.md, byte by byte. */
static void
test_golden_handshake(void **state)
{
    gp_store_greeting greeting = {.version = 0x0102};
    gp_store_hello hello = {.version = 0x0102, .job = 0x1112131415161718u};
    gp_store_verdict verdict = {.status = -48, .version = 0x0102};
    uint8_t out[GP_STORE_HELLO], want[GP_STORE_HELLO] = {0};

    (void)state;
    memset(greeting.nonce, 0xaa, sizeof(greeting.nonce));
    memset(hello.nonce, 0xbb, sizeof(hello.nonce));
    memset(hello.proof, 0xcc, sizeof(hello.proof));
    memset(verdict.proof, 0xdd, sizeof(verdict.proof));

    memcpy(want, "GPST\x02\x01\x00\x00", 8);
    memset(want + 8, 0xaa, 32);
    gp_store_write_greeting(&greeting, out);
    assert_memory_equal(out, want, 40);

    memset(want + 8, 0xbb, 32);
    memcpy(want + 40, "\x18\x17\x16\x15\x14\x13\x12\x11", 8);
    memset(want + 48, 0xcc, 32);
    gp_store_write_hello(&hello, out);
    assert_memory_equal(out, want, 80);

    memcpy(want, "\xd0\xff\xff\xff\x02\x01\x00\x00", 8);
    memset(want + 8, 0xdd, 32);
    gp_store_write_verdict(&verdict, out);
    assert_memory_equal(out, want, 40);
}

static void
test_golden_requests(void **state)
{
    const gp_store_request request = {.op = GP_STORE_SET,
                                      .key_length = 0x0011,
                                      .value_length = 0x00001234,
                                      .wait_ms = 0,
                                      .sequence = 0xa1a2a3a4u};
    const gp_store_answer answer = {-42, 0x1234, 0xa1a2a3a4u};
    gp_store_request back;
    gp_store_answer again;
    uint8_t out[GP_STORE_REQUEST];

    (void)state;
    gp_store_write_request(&request, out);
    assert_memory_equal(out,
                        "\x01\x00\x11\x00\x34\x12\x00\x00\x00\x00\x00\x00"
                        "\xa4\xa3\xa2\xa1",
                        16);
    assert_true(gp_store_read_request(out, &back));
    assert_int_equal(back.sequence, request.sequence);
    out[1] = 1; /* reserved */
    assert_false(gp_store_read_request(out, &back));
    gp_store_write_answer(&answer, out);
    assert_memory_equal(out, "\xd6\xff\xff\xff\x34\x12\x00\x00\xa4\xa3\xa2\xa1",
                        12);
    assert_true(gp_store_read_answer(out, &again));
    assert_int_equal(again.status, -42);
    gp_put32(out + 4, GP_STORE_VALUE_MAX + 1);
    assert_false(gp_store_read_answer(out, &again));
}

static void
test_table_counts_bytes(void **state)
{
    gp_store_table table;
    uint8_t *value = calloc(1, GP_STORE_VALUE_MAX);
    uint32_t stored = 0;
    size_t length = 0, bytes;
    int64_t sum = 0;

    (void)state;
    assert_int_equal(gp_store_table_create(&table), GP_OK);
    while (gp_store_table_set(&table, &stored, sizeof(stored), value,
                              GP_STORE_VALUE_MAX) == GP_OK)
        stored++;
    assert_in_range(stored, 1000, GP_STORE_BYTES_MAX / GP_STORE_VALUE_MAX);
    assert_true(table.bytes <= GP_STORE_BYTES_MAX);
    /* Replacing is no growth, and a refused key is not there. */
    bytes = table.bytes;
    assert_null(gp_store_table_get(&table, &stored, sizeof(stored), &length));
    stored = 0;
    assert_int_equal(gp_store_table_set(&table, &stored, sizeof(stored), value,
                                        GP_STORE_VALUE_MAX),
                     GP_OK);
    assert_int_equal(table.bytes, bytes);
    assert_int_equal(
        gp_store_table_set(&table, &stored, sizeof(stored), "x", 1), GP_OK);
    assert_int_equal(table.bytes, bytes - GP_STORE_VALUE_MAX + 1);
    assert_int_equal(gp_store_table_add(&table, "n", 1, 7, &sum), GP_OK);
    gp_store_table_destroy(&table);
    free(value);
}

static void
test_table_counts_keys(void **state)
{
    gp_store_table table;
    uint32_t i = 0;
    size_t length = 0;

    (void)state;
    assert_int_equal(gp_store_table_create(&table), GP_OK);
    while (gp_store_table_set(&table, &i, sizeof(i), &i, sizeof(i)) == GP_OK)
        i++;
    assert_int_equal(i, GP_STORE_KEYS_MAX);
    for (i = 0; i < GP_STORE_KEYS_MAX; i++) {
        const void *value = gp_store_table_get(&table, &i, sizeof(i), &length);

        assert_non_null(value);
        assert_memory_equal(value, &i, sizeof(i));
    }
    gp_store_table_destroy(&table);
}

static void
test_counters(void **state)
{
    static const char *const bad[] = {"",
                                      "x",
                                      "1x",
                                      "01",
                                      "+1",
                                      " 1",
                                      "-0",
                                      "9223372036854775808",
                                      "000000000000000000000000000000"};
    gp_store_table table;
    int64_t sum = 5;
    size_t length = 0;

    (void)state;
    assert_int_equal(gp_store_table_create(&table), GP_OK);
    for (size_t i = 0; i < GP_COUNT_OF(bad); i++) {
        assert_int_equal(
            gp_store_table_set(&table, "k", 1, bad[i], strlen(bad[i])), GP_OK);
        assert_int_equal(gp_store_table_add(&table, "k", 1, 1, &sum),
                         GP_ERR_INVALID);
        assert_int_equal(sum, 5);
    }
    assert_int_equal(gp_store_table_set(&table, "k", 1, "-12", 3), GP_OK);
    assert_int_equal(gp_store_table_add(&table, "k", 1, 2, &sum), GP_OK);
    assert_int_equal(sum, -10);
    assert_int_equal(gp_store_table_add(&table, "k", 1, INT64_MIN, &sum),
                     GP_ERR_INVALID);
    assert_memory_equal(gp_store_table_get(&table, "k", 1, &length), "-10", 3);
    assert_int_equal(gp_store_table_add(&table, "m", 1, INT64_MIN, &sum), 0);
    assert_int_equal(gp_store_table_add(&table, "m", 1, 0, &sum), GP_OK);
    assert_true(sum == INT64_MIN);
    gp_store_table_destroy(&table);
}

/* Gives bytes to a session as far as it takes them, `step` at a time. */
static size_t
feed(gp_store_session *s, const uint8_t *data, size_t length, size_t step)
{
    size_t used = 0, space;
    uint8_t *at = NULL;

    while (used < length && (space = gp_session_space(s, &at)) > 0) {
        size_t n = GP_MIN(GP_MIN(space, step), length - used);

        memcpy(at, data + used, n);
        gp_session_input(s, n);
        used += n;
    }
    return used;
}

/* Takes all output. */
static size_t
drain(gp_store_session *s, uint8_t *out, size_t step)
{
    size_t used = 0, n;
    const uint8_t *at;

    while ((n = gp_session_output(s, &at)) > 0) {
        n = GP_MIN(n, step);
        memcpy(out + used, at, n);
        gp_session_sent(s, n);
        used += n;
    }
    return used;
}

static void
let_in(gp_store_core *core, gp_store_session *s, size_t step)
{
    gp_store_hello hello = {.version = GP_STORE_VERSION, .job = core->job};
    uint8_t bytes[GP_STORE_HELLO];
    gp_store_verdict verdict;

    assert_int_equal(gp_session_open(core, s), GP_OK);
    assert_int_equal(drain(s, bytes, step), GP_STORE_GREETING);
    gp_store_write_hello(&hello, bytes);
    assert_int_equal(feed(s, bytes, sizeof(bytes), step), sizeof(bytes));
    assert_int_equal(drain(s, bytes, step), GP_STORE_VERDICT);
    assert_true(gp_store_read_verdict(bytes, &verdict));
    assert_int_equal(verdict.status, GP_OK);
    assert_true(s->proven);
}

static void
ask(gp_store_session *s, uint8_t op, const char *key, const char *value,
    uint32_t wait_ms, size_t step)
{
    gp_store_request request = {.op = op,
                                .key_length = (uint16_t)strlen(key),
                                .value_length = (uint32_t)strlen(value),
                                .wait_ms = wait_ms,
                                .sequence = 7};
    uint8_t bytes[128];
    size_t length = GP_STORE_REQUEST;

    gp_store_write_request(&request, bytes);
    memcpy(bytes + length, key, strlen(key));
    length += strlen(key);
    memcpy(bytes + length, value, strlen(value));
    length += strlen(value);
    assert_int_equal(feed(s, bytes, length, step), length);
}

static void
expect_answer(gp_store_session *s, int32_t status, const char *value)
{
    uint8_t bytes[128];
    gp_store_answer answer;

    assert_int_equal(drain(s, bytes, 5), GP_STORE_ANSWER + strlen(value));
    assert_true(gp_store_read_answer(bytes, &answer));
    assert_int_equal(answer.status, status);
    assert_int_equal(answer.sequence, 7);
    assert_memory_equal(bytes + GP_STORE_ANSWER, value, strlen(value));
}

static void
test_any_portions(void **state)
{
    (void)state;
    for (size_t step = 1; step < 100; step += 7) {
        gp_store_core core;
        gp_store_session s;

        assert_int_equal(gp_store_core_create(&core, "", 5, 1000), GP_OK);
        let_in(&core, &s, step);
        ask(&s, GP_STORE_SET, "key", "a value longer than the greeting is", 0,
            step);
        expect_answer(&s, GP_OK, "");
        ask(&s, GP_STORE_GET, "key", "", 0, step);
        expect_answer(&s, GP_OK, "a value longer than the greeting is");
        gp_session_close(&s);
        gp_store_core_destroy(&core);
    }
}

/* A watch waits for another value than it knows: set, added to, or new. */
static void
test_watches(void **state)
{
    gp_store_core core;
    gp_store_session a, b;

    (void)state;
    assert_int_equal(gp_store_core_create(&core, "", 5, 1000), GP_OK);
    let_in(&core, &a, 100);
    let_in(&core, &b, 100);
    ask(&a, GP_STORE_WATCH, "k", "", 10, 100);
    ask(&b, GP_STORE_SET, "k", "1", 0, 100);
    assert_ptr_equal(gp_list_pop(&core.ready), &a.ready);
    expect_answer(&a, GP_OK, "1");
    expect_answer(&b, GP_OK, "");
    ask(&a, GP_STORE_WATCH, "k", "0", 10, 100);
    expect_answer(&a, GP_OK, "1");
    ask(&a, GP_STORE_WATCH, "k", "1", 10, 100);
    ask(&b, GP_STORE_SET, "k", "1", 0, 100);
    expect_answer(&b, GP_OK, "");
    assert_true(gp_list_empty(&core.ready));
    ask(&b, GP_STORE_SET, "k", "12", 0, 100);
    assert_ptr_equal(gp_list_pop(&core.ready), &a.ready);
    expect_answer(&a, GP_OK, "12");
    expect_answer(&b, GP_OK, "");
    ask(&a, GP_STORE_WATCH, "k", "12", 10, 100);
    core.now_ns += 10000000;
    gp_store_core_expire(&core);
    assert_ptr_equal(gp_list_pop(&core.ready), &a.ready);
    expect_answer(&a, GP_ERR_TIMEOUT, "");
    gp_session_close(&a);
    gp_session_close(&b);
    gp_store_core_destroy(&core);
}

/* The first value stays as long as one of those who claimed it. */
static void
test_claims(void **state)
{
    gp_store_core core;
    gp_store_session a, b, c;

    (void)state;
    assert_int_equal(gp_store_core_create(&core, "", 5, 1000), GP_OK);
    let_in(&core, &a, 100);
    let_in(&core, &b, 100);
    let_in(&core, &c, 100);
    ask(&c, GP_STORE_GET, "k", "", 10, 100);
    ask(&a, GP_STORE_CLAIM, "k", "first", 0, 100);
    expect_answer(&a, GP_OK, "");
    assert_ptr_equal(gp_list_pop(&core.ready), &c.ready);
    expect_answer(&c, GP_OK, "first");
    ask(&b, GP_STORE_CLAIM, "k", "second", 0, 100);
    expect_answer(&b, GP_ERR_REFUSED, "first");
    ask(&a, GP_STORE_CLAIM, "k", "second", 0, 100);
    expect_answer(&a, GP_ERR_REFUSED, "first");
    ask(&a, GP_STORE_CLAIM, "k", "first", 0, 100); /* counts once */
    expect_answer(&a, GP_OK, "");
    ask(&b, GP_STORE_CLAIM, "k", "first", 0, 100);
    expect_answer(&b, GP_OK, "");
    gp_session_close(&a);
    ask(&c, GP_STORE_CLAIM, "k", "third", 0, 100);
    expect_answer(&c, GP_ERR_REFUSED, "first");
    gp_session_close(&b);
    ask(&c, GP_STORE_GET, "k", "", 0, 100);
    expect_answer(&c, GP_OK, "first");
    ask(&c, GP_STORE_CLAIM, "k", "third", 0, 100);
    expect_answer(&c, GP_OK, "");
    ask(&c, GP_STORE_GET, "k", "", 0, 100);
    expect_answer(&c, GP_OK, "third");
    gp_session_close(&c);
    gp_store_core_destroy(&core);
}

/* Set takes no notice of claims, and leaves them as they are. */
static void
test_claims_and_sets(void **state)
{
    gp_store_core core;
    gp_store_session a, b;

    (void)state;
    assert_int_equal(gp_store_core_create(&core, "", 5, 1000), GP_OK);
    let_in(&core, &a, 100);
    let_in(&core, &b, 100);
    ask(&b, GP_STORE_SET, "k", "set", 0, 100);
    expect_answer(&b, GP_OK, "");
    ask(&a, GP_STORE_CLAIM, "k", "mine", 0, 100); /* nobody claims it */
    expect_answer(&a, GP_OK, "");
    ask(&b, GP_STORE_SET, "k", "other", 0, 100);
    expect_answer(&b, GP_OK, "");
    ask(&b, GP_STORE_CLAIM, "k", "more", 0, 100);
    expect_answer(&b, GP_ERR_REFUSED, "other");
    gp_session_close(&a);
    ask(&b, GP_STORE_CLAIM, "k", "more", 0, 100);
    expect_answer(&b, GP_OK, "");
    /* An answer to `gradpush status` may be both. */
    ask(&b, GP_STORE_CLAIM, "status/worker/1", "c", 0, 100);
    expect_answer(&b, GP_OK, "");
    ask(&b, GP_STORE_SET, "status/worker/1", "s", 0, 100);
    expect_answer(&b, GP_OK, "");
    gp_session_close(&b);
    let_in(&core, &a, 100);
    ask(&a, GP_STORE_GET, "status/worker/1", "", 0, 100);
    expect_answer(&a, GP_OK, GP_STORE_GONE);
    ask(&a, GP_STORE_CLAIM, "status/worker/1", "d", 0, 100);
    expect_answer(&a, GP_OK, "");
    gp_session_close(&a);
    gp_store_core_destroy(&core);
}

/* A wait takes no input and ends by a set or by the clock, not before. */
static void
test_waits(void **state)
{
    gp_store_core core;
    gp_store_session a, b, c;
    uint8_t *at;

    (void)state;
    assert_int_equal(gp_store_core_create(&core, "", 5, 1000), GP_OK);
    let_in(&core, &a, 100);
    let_in(&core, &b, 100);
    let_in(&core, &c, 100);
    ask(&a, GP_STORE_GET, "k", "", 10, 100);
    ask(&b, GP_STORE_GET, "k", "", 20, 100);
    assert_int_equal(gp_session_space(&a, &at), 0);
    assert_int_equal(gp_store_core_deadline(&core), 10000000);
    core.now_ns = 9999999;
    gp_store_core_expire(&core);
    assert_true(gp_list_empty(&core.ready));
    core.now_ns = 10000000;
    gp_store_core_expire(&core);
    assert_ptr_equal(gp_list_pop(&core.ready), &a.ready);
    assert_true(gp_list_empty(&core.ready));
    expect_answer(&a, GP_ERR_TIMEOUT, "");
    assert_int_equal(gp_store_core_deadline(&core), 20000000);
    ask(&c, GP_STORE_SET, "other", "x", 0, 100);
    assert_true(gp_list_empty(&core.ready));
    expect_answer(&c, GP_OK, "");
    ask(&c, GP_STORE_SET, "k", "now", 0, 100);
    assert_ptr_equal(gp_list_pop(&core.ready), &b.ready);
    expect_answer(&b, GP_OK, "now");
    gp_session_close(&a);
    gp_session_close(&b);
    gp_session_close(&c);
    gp_store_core_destroy(&core);
}

/* Only those who have not proven themselves run out of time. */
static void
test_handshake_time(void **state)
{
    gp_store_core core;
    gp_store_session young, proven;

    (void)state;
    assert_int_equal(gp_store_core_create(&core, "", 5, 1000), GP_OK);
    let_in(&core, &proven, 100);
    assert_int_equal(gp_session_open(&core, &young), GP_OK);
    assert_int_equal(gp_store_core_deadline(&core), 1000);
    core.now_ns = 1000;
    gp_store_core_expire(&core);
    assert_ptr_equal(gp_list_pop(&core.ready), &young.ready);
    assert_true(gp_list_empty(&core.ready));
    assert_true(gp_session_over(&young));
    assert_int_equal(young.refusal, GP_ERR_TIMEOUT);
    assert_false(gp_session_over(&proven));
    assert_true(gp_store_core_deadline(&core) == UINT64_MAX);
    gp_session_close(&young);
    gp_session_close(&proven);
    gp_store_core_destroy(&core);
}

/* What a member proved to one store is worth nothing at another. */
static void
test_replayed_hello(void **state)
{
    gp_store_core core;
    gp_store_session first, second;
    gp_store_hello hello = {.version = GP_STORE_VERSION, .job = 5};
    uint8_t greeting[GP_STORE_GREETING], bytes[GP_STORE_HELLO];
    gp_store_verdict verdict;

    (void)state;
    assert_int_equal(gp_store_core_create(&core, "secret", 5, 1000), GP_OK);
    assert_int_equal(gp_session_open(&core, &first), GP_OK);
    assert_int_equal(gp_session_open(&core, &second), GP_OK);
    drain(&first, greeting, 100);
    if (gp_store_prove("secret", GP_STORE_MEMBER, greeting + 8, hello.nonce, 5,
                       hello.proof) == GP_ERR_UNSUPPORTED)
        skip_without_openssl();
    gp_store_write_hello(&hello, bytes);
    feed(&first, bytes, sizeof(bytes), 100);
    assert_true(first.proven);
    drain(&second, greeting, 100);
    feed(&second, bytes, sizeof(bytes), 100);
    assert_false(second.proven);
    assert_int_equal(drain(&second, bytes, 100), GP_STORE_VERDICT);
    assert_true(gp_store_read_verdict(bytes, &verdict));
    assert_int_equal(verdict.status, GP_ERR_AUTH);
    assert_true(gp_session_over(&second));
    gp_session_close(&first);
    gp_session_close(&second);
    gp_store_core_destroy(&core);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_handshake),
        cmocka_unit_test(test_golden_requests),
        cmocka_unit_test(test_table_counts_bytes),
        cmocka_unit_test(test_table_counts_keys),
        cmocka_unit_test(test_counters),
        cmocka_unit_test(test_any_portions),
        cmocka_unit_test(test_claims),
        cmocka_unit_test(test_claims_and_sets),
        cmocka_unit_test(test_waits),
        cmocka_unit_test(test_watches),
        cmocka_unit_test(test_handshake_time),
        cmocka_unit_test(test_replayed_hello),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
