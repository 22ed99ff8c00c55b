/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transport_cases.c - violations, ends of connections, names, threads, and
 * processes that fork.
 */
#include "tests/conformance/transport_cases.h"

#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/conformance/transport_rig.h"

/* b must end the connection with `status`, and a must learn of the end. */
static void
assert_refused(rig *r, gp_status status)
{
    await(r, &r->b, GP_EVENT_CLOSED, 1);
    assert_int_equal(side_nth(&r->b, GP_EVENT_CLOSED, 0)->event.status, status);
    await(r, &r->a, GP_EVENT_CLOSED, 1);
    settle(r);
    assert_int_equal(side_count(&r->b, GP_EVENT_CLOSED), 1);
    assert_int_equal(side_count(&r->b, GP_EVENT_MESSAGE), 0);
    assert_int_equal(side_count(&r->a, GP_EVENT_CLOSED), 1);
}

static void
try_forbidden(uint32_t token_change, uint64_t offset, size_t length)
{
    static uint8_t source[4096];
    gp_msg msg;
    rig r;

    rig_connected(&r);
    side_expose(&r.b, 1000, 0);
    msg = data_msg(r.b.token + token_change, offset, length);
    post(&r, &r.a, &msg, source, 0);
    flush(&r.a);
    assert_refused(&r, GP_ERR_PROTOCOL);
    for (size_t i = 0; i < r.b.bytes; i++)
        assert_int_equal(r.b.memory[i], 0xEE);
    rig_close(&r);
}

static void
forged_tokens(void **state)
{
    (void)state;
    try_forbidden(1, 0, 10);
    try_forbidden(UINT32_C(1) << 24, 0, 10);
    try_forbidden(UINT32_C(0) - 2, 0, 10);
}

static void
offsets_out_of_bounds(void **state)
{
    (void)state;
    try_forbidden(0, 0, 1001);
    try_forbidden(0, 1000, 1);
    try_forbidden(0, 1001, 0);
    try_forbidden(0, 991, 10);
    try_forbidden(0, UINT64_MAX, 1);
    try_forbidden(0, UINT64_MAX - 9, 10);
    try_forbidden(0, UINT64_C(1) << 63, 16);
}

static void
tokens_belong_to_one_endpoint(void **state)
{
    uint8_t source[16] = {0};
    gp_endpoint *first_b, *second = NULL;
    gp_msg msg;
    rig r;

    (void)state;
    rig_connected(&r);
    first_b = r.b.ep;
    side_expose(&r.b, 1000, 0);
    assert_int_equal(
        r.ops->connect(r.a.domain, r.bound, test_deadline(), &second), GP_OK);
    await(&r, &r.a, GP_EVENT_CONNECTED, 1);
    await(&r, &r.b, GP_EVENT_ACCEPTED, 1);
    assert_ptr_not_equal(r.b.ep, first_b);
    r.a.ep = second;
    msg = data_msg(r.b.token, 0, sizeof(source));
    post(&r, &r.a, &msg, source, 0);
    flush(&r.a);
    assert_refused(&r, GP_ERR_PROTOCOL);
    assert_ptr_equal(side_nth(&r.b, GP_EVENT_CLOSED, 0)->event.ep, r.b.ep);
    rig_close(&r);
}

static void
control_limit_of_strangers(void **state)
{
    static uint8_t payload[GP_CONTROL_MAX_UNTRUSTED + 1];
    gp_msg msg = control_msg(1, GP_CONTROL_MAX_UNTRUSTED + 1);
    rig r;

    (void)state;
    rig_connected(&r);
    post(&r, &r.a, &msg, payload, 0);
    flush(&r.a);
    assert_refused(&r, GP_ERR_PROTOCOL);
    rig_close(&r);
}

static void
control_limit_of_trusted_peers(void **state)
{
    uint8_t *payload = malloc(GP_CONTROL_MAX + 1);
    gp_msg msg = control_msg(1, GP_CONTROL_MAX);
    rig r;

    (void)state;
    assert_non_null(payload);
    rig_connected(&r);
    r.ops->ep_trust(r.b.ep);
    fill_pattern(payload, GP_CONTROL_MAX, 3);
    for (int i = 0; i < 3; i++)
        post(&r, &r.a, &msg, payload, 0);
    flush(&r.a);
    await(&r, &r.b, GP_EVENT_MESSAGE, 3);
    for (size_t i = 0; i < 3; i++)
        assert_pattern(side_nth(&r.b, GP_EVENT_MESSAGE, i)->copy,
                       GP_CONTROL_MAX, 3);
    msg.payload++;
    assert_int_equal(r.ops->post(r.a.ep, &msg, payload, NULL, 0),
                     GP_ERR_TOO_LARGE);
    rig_close(&r);
    free(payload);
}

static void
close_sends_what_was_posted(void **state)
{
    rig r;
    gp_msg msg = control_msg(11, 0);

    (void)state;
    rig_connected(&r);
    /* Input that a has not read must not cost b the farewell. */
    send_control(&r, &r.b, 1);
    post(&r, &r.a, &msg, NULL, 0);
    msg.aux = 12;
    post(&r, &r.a, &msg, NULL, 0);
    r.ops->ep_close(r.a.ep);
    await(&r, &r.b, GP_EVENT_CLOSED, 1);
    assert_int_equal(side_count(&r.b, GP_EVENT_MESSAGE), 2);
    assert_true(side_nth(&r.b, GP_EVENT_MESSAGE, 0)->event.msg.aux == 11);
    assert_true(side_nth(&r.b, GP_EVENT_MESSAGE, 1)->event.msg.aux == 12);
    assert_int_equal(side_nth(&r.b, GP_EVENT_CLOSED, 0)->event.status, GP_OK);
    assert_int_equal(side_count(&r.a, GP_EVENT_CLOSED), 0);
    r.ops->ep_close(r.b.ep);
    settle(&r);
    rig_close(&r);
}

static void
close_with_data_under_way(void **state)
{
    size_t length = 16u << 20;
    uint8_t *source = calloc(1, length);
    gp_msg msg;
    rig r;

    (void)state;
    assert_non_null(source);
    rig_connected(&r);
    side_expose(&r.b, length, 0);
    msg = data_msg(r.b.token, 0, length);
    for (int i = 0; i < 4; i++)
        post(&r, &r.a, &msg, source, 0);
    flush(&r.a);
    pump(&r);
    r.ops->ep_close(r.a.ep);
    free(source);
    await(&r, &r.b, GP_EVENT_CLOSED, 1);
    r.ops->ep_close(r.b.ep);
    settle(&r);
    assert_int_equal(side_count(&r.b, GP_EVENT_CLOSED), 1);
    rig_close(&r);
}

static void
peer_that_vanishes(void **state)
{
    gp_msg msg = control_msg(1, 0);
    rig r;

    (void)state;
    rig_connected(&r);
    side_close(&r.a);
    await(&r, &r.b, GP_EVENT_CLOSED, 1);
    assert_int_equal(r.ops->post(r.b.ep, &msg, NULL, NULL, 0),
                     GP_ERR_PEER_LOST);
    settle(&r);
    assert_int_equal(r.b.count, 1);
    r.ops->ep_close(r.b.ep);
    rig_close(&r);
}

static void
listener_that_comes_late(void **state)
{
    char again[GP_ADDRESS_MAX];
    gp_endpoint *ep = NULL;
    rig r;

    (void)state;
    rig_open(&r);
    /* An address that is known, and free again. */
    assert_int_equal(
        r.ops->listen(r.b.domain, rig_of.listen, r.bound, sizeof(r.bound)),
        GP_OK);
    side_close(&r.b);
    assert_int_equal(r.ops->connect(r.a.domain, r.bound, test_deadline(), &ep),
                     GP_OK);
    for (int i = 0; i < 2000; i++)
        side_pump(&r.a);
    assert_int_equal(r.a.count, 0);
    side_open(&r.b, &r);
    assert_int_equal(r.ops->listen(r.b.domain, r.bound, again, sizeof(again)),
                     GP_OK);
    assert_string_equal(again, r.bound);
    await(&r, &r.a, GP_EVENT_CONNECTED, 1);
    await(&r, &r.b, GP_EVENT_ACCEPTED, 1);
    send_control(&r, &r.a, 1);
    await(&r, &r.b, GP_EVENT_MESSAGE, 1);
    rig_close(&r);
}

/* Sleeps as an owner does: the descriptor alone must wake it. */
static void
sleep_and_pump(rig *r, side *s)
{
    struct pollfd fd = {.fd = r->ops->event_fd(s->domain), .events = POLLIN};

    if (r->ops->arm(s->domain) == GP_OK)
        assert_int_equal(poll(&fd, 1, 20000), 1);
    side_pump(s);
}

static void
nobody_ever_listens(void **state)
{
    gp_endpoint *ep = NULL;
    uint64_t deadline = test_deadline();
    rig r;

    (void)state;
    rig_open(&r);
    assert_int_equal(
        r.ops->listen(r.b.domain, rig_of.listen, r.bound, sizeof(r.bound)),
        GP_OK);
    side_close(&r.b);
    assert_int_equal(
        r.ops->connect(r.a.domain, r.bound, gp_deadline(0.15), &ep), GP_OK);
    while (!r.a.count) {
        assert_false(gp_expired(deadline));
        sleep_and_pump(&r, &r.a);
    }
    assert_int_equal(r.a.log[0].event.type, GP_EVENT_CLOSED);
    assert_int_equal(r.a.log[0].event.status, GP_ERR_UNREACHABLE);
    r.ops->ep_close(ep);
    /* Given up before the deadline: nothing is reported, nothing leaks. */
    assert_int_equal(r.ops->connect(r.a.domain, r.bound, test_deadline(), &ep),
                     GP_OK);
    side_pump(&r.a);
    r.ops->ep_close(ep);
    assert_int_equal(r.a.count, 1);
    rig_close(&r);
}

static void
close_while_handling_events(void **state)
{
    enum { PEERS = 8 };
    gp_endpoint *ep[PEERS];
    gp_event events[4];
    uint64_t deadline = test_deadline();
    size_t closed = 0;
    rig r;

    (void)state;
    rig_connected(&r);
    for (size_t i = 0; i < PEERS; i++) {
        assert_int_equal(
            r.ops->connect(r.a.domain, r.bound, test_deadline(), &ep[i]),
            GP_OK);
        await(&r, &r.a, GP_EVENT_CONNECTED, i + 1);
        r.a.ep = ep[i];
        for (uint64_t k = 0; k < 20; k++)
            send_control(&r, &r.a, k);
    }
    /* Pumps of a may have delivered some already: those are b's to close. */
    await(&r, &r.b, GP_EVENT_ACCEPTED, PEERS);
    for (size_t i = 0; i < PEERS / 2; i++)
        r.ops->ep_close(side_nth(&r.b, GP_EVENT_ACCEPTED, i)->event.ep);
    while (closed < PEERS / 2) {
        int n = r.ops->progress(r.a.domain, events, 4);

        assert_false(gp_expired(deadline));
        for (int i = 0; i < n; i++)
            if (events[i].type == GP_EVENT_CLOSED) {
                r.ops->ep_close(events[i].ep);
                closed++;
            }
        side_pump(&r.b);
    }
    settle(&r);
    for (size_t i = 0; i < r.a.count; i++)
        assert_int_not_equal(r.a.log[i].event.type, GP_EVENT_CLOSED);
    rig_close(&r);
}

static void
wrong_calls(void **state)
{
    char bound[GP_ADDRESS_MAX] = "untouched";
    gp_endpoint *ep = NULL;
    gp_mem *mem = NULL;
    uint8_t bytes[100];
    uint32_t token = 0;
    rig r;

    (void)state;
    rig_connected(&r);
    assert_int_equal(
        r.ops->listen(r.b.domain, rig_of.listen, bound, sizeof(bound)),
        GP_ERR_STATE);
    assert_int_equal(r.ops->listen(r.a.domain, r.bound, bound, sizeof(bound)),
                     GP_ERR_ADDRESS);
    assert_non_null(strstr(gp_last_error(), "taken"));
    assert_string_equal(bound, "untouched");
    assert_int_equal(r.ops->connect(r.a.domain, "", test_deadline(), &ep),
                     GP_ERR_ADDRESS);
    assert_null(ep);
    assert_int_equal(r.ops->mem_reg(r.a.domain, bytes, sizeof(bytes), &mem),
                     GP_OK);
    assert_int_equal(r.ops->expose(r.a.ep, mem, 1, 100, 0, &token),
                     GP_ERR_INVALID);
    assert_int_equal(r.ops->expose(r.a.ep, mem, SIZE_MAX, 2, 0, &token),
                     GP_ERR_INVALID);
    assert_int_equal(token, 0);
    r.ops->unexpose(r.a.ep, 12345);
    r.ops->mem_dereg(mem);
    rig_close(&r);
}

/* One end of the two-thread case: answers every message until it has seen
 * COUNT of them, sleeping in between. */
enum { THREAD_COUNT = 2000, THREAD_BYTES = 20000 };

typedef struct player {
    side s;
    const uint8_t *source;
    uint32_t peer_token;
    uint64_t seen, sent, posted;
    bool failed;
} player;

/* Two of its messages may be under way: one that begins, one that answers. */
static bool
play(player *p)
{
    uint64_t half = p->posted++ % 2;
    gp_msg msg = data_msg(p->peer_token, half * THREAD_BYTES, THREAD_BYTES);

    return p->s.ops->post(p->s.ep, &msg, p->source, NULL, 1) == GP_OK &&
           p->s.ops->flush(p->s.ep) == GP_OK;
}

static void *
player_run(void *argument)
{
    player *p = argument;
    const gp_transport_ops *ops = p->s.ops;
    struct pollfd fd = {.fd = ops->event_fd(p->s.domain), .events = POLLIN};
    uint64_t deadline = test_deadline();

    while ((p->seen < THREAD_COUNT || p->sent < THREAD_COUNT) && !p->failed) {
        gp_event events[8];
        int n = ops->progress(p->s.domain, events, 8);

        for (int i = 0; i < n; i++) {
            if (events[i].type == GP_EVENT_SENT)
                p->sent++;
            if (events[i].type == GP_EVENT_CLOSED)
                p->failed = true;
            if (events[i].type != GP_EVENT_MESSAGE)
                continue;
            ops->release(p->s.ep, &events[i].msg, events[i].payload);
            if (++p->seen < THREAD_COUNT && !play(p))
                p->failed = true;
        }
        if (n == 0 && ops->arm(p->s.domain) == GP_OK)
            (void)poll(&fd, 1, 1000);
        if (n < 0 || gp_expired(deadline))
            p->failed = true;
    }
    return NULL;
}

static void
two_threads(void **state)
{
    static uint8_t source[THREAD_BYTES];
    player a, b;
    pthread_t thread;
    rig r;

    (void)state;
    rig_connected(&r);
    side_expose(&r.a, 2 * THREAD_BYTES, 0);
    side_expose(&r.b, 2 * THREAD_BYTES, GP_REGION_LANDING);
    a = (player){.s = r.a, .source = source, .peer_token = r.b.token};
    b = (player){.s = r.b, .source = source, .peer_token = r.a.token};
    assert_true(play(&a));
    assert_true(play(&b));
    assert_int_equal(pthread_create(&thread, NULL, player_run, &b), 0);
    player_run(&a);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_false(a.failed || b.failed);
    assert_true(a.seen == THREAD_COUNT && b.seen == THREAD_COUNT);
    rig_close(&r);
}

/* The sender leaves while the receiver, in another thread, still reads. */
typedef struct reader {
    side *s;
    atomic_bool drives; /* the domain is this thread's */
} reader;

static void *
slow_reader(void *argument)
{
    reader *r = argument;
    side *s = r->s;
    uint64_t deadline = test_deadline(), *sum = NULL;
    const gp_event *last = NULL;

    side_pump(s);
    atomic_store(&r->drives, true);
    while (!side_count(s, GP_EVENT_CLOSED)) {
        if (gp_expired(deadline))
            return NULL;
        side_pump(s);
    }
    last = &side_nth(s, GP_EVENT_MESSAGE, 0)->event;
    sum = malloc(sizeof(*sum));
    if (!sum)
        return NULL;
    *sum = 0;
    for (size_t i = 0; i < last->msg.payload; i++)
        *sum += ((const uint8_t *)last->payload)[i];
    s->ops->release(s->ep, &last->msg, last->payload);
    return sum;
}

static void
sender_leaves_while_receiver_reads(void **state)
{
    size_t length = 100000;
    uint8_t *source = malloc(length);
    uint64_t deadline = test_deadline();
    void *sum = NULL;
    pthread_t thread;
    reader away;
    gp_msg msg;
    rig r;

    (void)state;
    assert_non_null(source);
    memset(source, 2, length);
    rig_connected(&r);
    side_expose(&r.b, length, GP_REGION_LANDING);
    msg = data_msg(r.b.token, 0, length);
    post(&r, &r.a, &msg, source, 1);
    flush(&r.a);
    while (!side_count(&r.b, GP_EVENT_MESSAGE)) {
        assert_false(gp_expired(deadline));
        pump(&r);
    }
    away.s = &r.b;
    atomic_init(&away.drives, false);
    assert_int_equal(pthread_create(&thread, NULL, slow_reader, &away), 0);
    while (!atomic_load(&away.drives))
        assert_false(gp_expired(deadline));
    r.ops->ep_close(r.a.ep);
    memset(source, 0, length);
    free(source);
    assert_int_equal(pthread_join(thread, &sum), 0);
    assert_non_null(sum);
    assert_int_equal(*(uint64_t *)sum, 2 * length);
    free(sum);
    rig_close(&r);
}

/* Ends when the other end of the pipe is closed. */
static void
linger_as_child(const rig *r, int until)
{
    char byte;

    memset(r->b.memory, 0x11, r->b.bytes);
    (void)!read(until, &byte, 1);
    _exit(0);
}

/* A process that forks goes on: also while the child lives, writes to what it
 * thinks is its memory, and the parent's first writes make copies of pages. The
 * child leaves without a word to the library. */
static void
fork_with_open_endpoint(void **state)
{
    enum { LENGTH = 200000, OFFSET = 100 };
    uint8_t *source = malloc(LENGTH);
    int until[2], status = -1;
    gp_msg msg;
    pid_t child;
    rig r;

    (void)state;
    assert_non_null(source);
    rig_connected(&r);
    side_expose(&r.b, LENGTH + OFFSET, 0);
    msg = data_msg(r.b.token, OFFSET, LENGTH);
    fill_pattern(source, LENGTH, 1);
    post(&r, &r.a, &msg, source, 1);
    flush(&r.a);
    await(&r, &r.b, GP_EVENT_MESSAGE, 1);
    await(&r, &r.a, GP_EVENT_SENT, 1);
    assert_int_equal(pipe(until), 0);
    child = fork();
    if (child == 0) {
        close(until[1]);
        linger_as_child(&r, until[0]);
    }
    assert_true(child > 0);
    close(until[0]);
    for (uint64_t i = 2; i < 5; i++) {
        if (i == 4) {
            close(until[1]);
            assert_int_equal(waitpid(child, &status, 0), child);
        }
        memset(r.b.memory, 0xEE, r.b.bytes);
        fill_pattern(source, LENGTH, i);
        post(&r, &r.a, &msg, source, i);
        flush(&r.a);
        send_control(&r, &r.b, i);
        await(&r, &r.b, GP_EVENT_MESSAGE, i);
        await(&r, &r.a, GP_EVENT_SENT, i);
        await(&r, &r.a, GP_EVENT_MESSAGE, i - 1);
        assert_pattern(r.b.memory + OFFSET, LENGTH, i);
        assert_int_equal(r.b.memory[OFFSET - 1], 0xEE);
    }
    assert_int_equal(status, 0);
    assert_int_equal(side_count(&r.a, GP_EVENT_CLOSED), 0);
    assert_int_equal(side_count(&r.b, GP_EVENT_CLOSED), 0);
    free(source);
    rig_close(&r);
}

int
transport_end_cases(const char *label)
{
    static const struct CMUnitTest cases[] = {
        cmocka_unit_test(forged_tokens),
        cmocka_unit_test(offsets_out_of_bounds),
        cmocka_unit_test(tokens_belong_to_one_endpoint),
        cmocka_unit_test(control_limit_of_strangers),
        cmocka_unit_test(control_limit_of_trusted_peers),
        cmocka_unit_test(close_sends_what_was_posted),
        cmocka_unit_test(close_with_data_under_way),
        cmocka_unit_test(peer_that_vanishes),
        cmocka_unit_test(listener_that_comes_late),
        cmocka_unit_test(nobody_ever_listens),
        cmocka_unit_test(close_while_handling_events),
        cmocka_unit_test(wrong_calls),
        cmocka_unit_test(two_threads),
        cmocka_unit_test(sender_leaves_while_receiver_reads),
        cmocka_unit_test(fork_with_open_endpoint),
    };

    return cmocka_run_group_tests_name(label, cases, NULL, NULL);
}
