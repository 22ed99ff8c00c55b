/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transport_suite.c - the cases that move messages; transport_cases.c has the
 * ends of connections.
 */
#include "tests/conformance/transport_suite.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/conformance/transport_cases.h"
#include "tests/conformance/transport_rig.h"

static void
connect_and_accept(void **state)
{
    rig r;
    char text[200] = "";
    int mark;

    (void)state;
    rig_open(&r);
    rig_connect(&r);
    assert_int_equal(r.a.count, 1);
    assert_int_equal(r.b.count, 1);
    r.ops->ep_describe(r.a.ep, text, sizeof(text));
    assert_memory_equal(text, r.ops->name, strlen(r.ops->name));
    r.ops->ep_set_user(r.b.ep, &mark);
    send_control(&r, &r.a, 7);
    await(&r, &r.b, GP_EVENT_MESSAGE, 1);
    assert_ptr_equal(side_nth(&r.b, GP_EVENT_MESSAGE, 0)->event.user, &mark);
    rig_close(&r);
}

static void
header_travels_unchanged(void **state)
{
    rig r;
    gp_msg m = {.type = 9,
                .dtype = 3,
                .flags = GP_MSG_INIT,
                .slot = 65535,
                .status = -45,
                .job = UINT64_MAX - 1,
                .worker = 1u << 31,
                .incarnation = 2,
                .epoch = 3,
                .chunk = 4,
                .step = UINT64_MAX,
                .pipeline = 5,
                .elements = 6,
                .cookie = 7,
                .credits = UINT64_C(1) << 63,
                .aux = 8};
    const gp_msg *got;

    (void)state;
    rig_connected(&r);
    post(&r, &r.a, &m, NULL, 0);
    flush(&r.a);
    await(&r, &r.b, GP_EVENT_MESSAGE, 1);
    got = &side_nth(&r.b, GP_EVENT_MESSAGE, 0)->event.msg;
    assert_int_equal(got->type, m.type);
    assert_int_equal(got->dtype, m.dtype);
    assert_int_equal(got->flags & GP_MSG_INIT, GP_MSG_INIT);
    assert_int_equal(got->slot, m.slot);
    assert_int_equal(got->status, m.status);
    assert_true(got->job == m.job && got->step == m.step);
    assert_int_equal(got->worker, m.worker);
    assert_int_equal(got->incarnation, m.incarnation);
    assert_int_equal(got->epoch, m.epoch);
    assert_int_equal(got->chunk, m.chunk);
    assert_int_equal(got->pipeline, m.pipeline);
    assert_true(got->elements == 6 && got->cookie == 7 && got->aux == 8);
    assert_true(got->credits == m.credits);
    rig_close(&r);
}

static void
control_keeps_order(void **state)
{
    enum { COUNT = 2000 };
    rig r;
    uint8_t payload[GP_CONTROL_MAX_UNTRUSTED];

    (void)state;
    rig_connected(&r);
    for (uint64_t i = 0; i < COUNT; i++) {
        gp_msg msg = control_msg(i, (i * 37) % (sizeof(payload) + 1));

        fill_pattern(payload, (size_t)msg.payload, i);
        post(&r, &r.a, &msg, payload, 0);
        if (i % 7 == 0)
            flush(&r.a);
    }
    flush(&r.a);
    await(&r, &r.b, GP_EVENT_MESSAGE, COUNT);
    for (uint64_t i = 0; i < COUNT; i++) {
        const seen *s = side_nth(&r.b, GP_EVENT_MESSAGE, (size_t)i);

        assert_true(s->event.msg.aux == i);
        assert_true(s->event.msg.payload == (i * 37) % (sizeof(payload) + 1));
        assert_pattern(s->copy, (size_t)s->event.msg.payload, i);
    }
    rig_close(&r);
}

static void
move_one(rig *r, const uint8_t *source, size_t length, uint64_t offset,
         uint64_t seed)
{
    gp_msg msg = data_msg(r->b.token, offset, length);
    const gp_event *event;

    memset(r->b.memory, 0xEE, r->b.bytes);
    post(r, &r->a, &msg, source, seed + 1);
    flush(&r->a);
    await(r, &r->b, GP_EVENT_MESSAGE, 1);
    event = &side_nth(&r->b, GP_EVENT_MESSAGE, 0)->event;
    assert_true(event->msg.payload == length && event->msg.offset == offset);
    assert_pattern(event->payload, length, seed);
    r->ops->release(r->b.ep, &event->msg, event->payload);
    await(r, &r->a, GP_EVENT_SENT, 1);
    assert_true(side_nth(&r->a, GP_EVENT_SENT, 0)->event.cookie == seed + 1);
    side_forget(&r->a);
    side_forget(&r->b);
}

static void
data_of_every_size(void **state)
{
    static const size_t sizes[] = {0,    1,          111,     112,
                                   113,  4096,       65536,   1u << 20,
                                   8191, (1u << 18), 1000001, (16u << 20) + 3};
    static const uint64_t offsets[] = {0, 1, 4099};
    uint8_t *source = malloc((16u << 20) + 3);
    rig r;

    (void)state;
    assert_non_null(source);
    rig_connected(&r);
    side_expose(&r.b, (16u << 20) + 4103, 0);
    for (size_t i = 0; i < GP_COUNT_OF(sizes); i++) {
        uint64_t offset = offsets[i % GP_COUNT_OF(offsets)];

        fill_pattern(source, sizes[i], i);
        move_one(&r, source, sizes[i], offset, i);
        /* Nothing beyond was touched. */
        assert_int_equal(r.b.memory[offset + sizes[i]], 0xEE);
    }
    rig_close(&r);
    free(source);
}

static void
landing_payloads(void **state)
{
    uint8_t source[3][8192];
    rig r;

    (void)state;
    rig_connected(&r);
    side_expose(&r.b, sizeof(source), GP_REGION_LANDING);
    for (size_t i = 0; i < 3; i++) {
        gp_msg msg =
            data_msg(r.b.token, i * sizeof(source[0]), sizeof(source[0]));

        fill_pattern(source[i], sizeof(source[i]), i);
        post(&r, &r.a, &msg, source[i], i + 1);
    }
    flush(&r.a);
    await(&r, &r.b, GP_EVENT_MESSAGE, 3);
    for (size_t i = 3; i-- > 0;) {
        const gp_event *event = &side_nth(&r.b, GP_EVENT_MESSAGE, i)->event;

        pump(&r);
        assert_pattern(event->payload, sizeof(source[i]),
                       event->msg.offset / sizeof(source[0]));
        r.ops->release(r.b.ep, &event->msg, event->payload);
    }
    await(&r, &r.a, GP_EVENT_SENT, 3);
    rig_close(&r);
}

static void
many_small_in_one_flush(void **state)
{
    enum { COUNT = 900, EACH = 100 };
    uint8_t *source = malloc(COUNT * EACH);
    rig r;

    (void)state;
    assert_non_null(source);
    fill_pattern(source, COUNT * EACH, 5);
    rig_connected(&r);
    side_expose(&r.b, COUNT * EACH, 0);
    for (size_t i = 0; i < COUNT; i++) {
        gp_msg msg = data_msg(r.b.token, i * EACH, EACH);

        post(&r, &r.a, &msg, source + i * EACH, i + 1);
    }
    flush(&r.a);
    await(&r, &r.b, GP_EVENT_MESSAGE, COUNT);
    await(&r, &r.a, GP_EVENT_SENT, COUNT);
    assert_pattern(r.b.memory, COUNT * EACH, 5);
    rig_close(&r);
    free(source);
}

static void
one_event_at_a_time(void **state)
{
    enum { COUNT = 200 };
    rig r;

    (void)state;
    rig_connected(&r);
    r.a.max = r.b.max = 1;
    for (uint64_t i = 0; i < COUNT; i++) {
        gp_msg msg = control_msg(i, 0);

        post(&r, &r.a, &msg, NULL, i + 1);
    }
    flush(&r.a);
    await(&r, &r.b, GP_EVENT_MESSAGE, COUNT);
    await(&r, &r.a, GP_EVENT_SENT, COUNT);
    for (uint64_t i = 0; i < COUNT; i++)
        assert_true(
            side_nth(&r.b, GP_EVENT_MESSAGE, (size_t)i)->event.msg.aux == i);
    rig_close(&r);
}

static void
both_directions(void **state)
{
    enum { COUNT = 24, EACH = 300000 };
    uint8_t *source[2];
    rig r;
    side *sides[2];

    (void)state;
    rig_connected(&r);
    sides[0] = &r.a;
    sides[1] = &r.b;
    for (size_t k = 0; k < 2; k++) {
        source[k] = malloc(COUNT * EACH);
        assert_non_null(source[k]);
        fill_pattern(source[k], COUNT * EACH, k);
        side_expose(sides[k], COUNT * EACH, 0);
    }
    for (size_t i = 0; i < COUNT; i++)
        for (size_t k = 0; k < 2; k++) {
            gp_msg msg = data_msg(sides[!k]->token, i * EACH, EACH);

            post(&r, sides[k], &msg, source[k] + i * EACH, i + 1);
            flush(sides[k]);
        }
    for (size_t k = 0; k < 2; k++) {
        await(&r, sides[k], GP_EVENT_MESSAGE, COUNT);
        await(&r, sides[k], GP_EVENT_SENT, COUNT);
        assert_pattern(sides[k]->memory, COUNT * EACH, !k);
    }
    rig_close(&r);
    free(source[0]);
    free(source[1]);
}

#define FULL_PLACES 4096u

static size_t
post_until_full(side *s, const gp_msg *msg, const void *payload,
                uint64_t first_cookie)
{
    size_t n = 0;

    for (;; n++) {
        gp_msg next = *msg;
        gp_status status;

        /* Each has a place of its own: they may be written at once. */
        next.offset = next.region ? n % FULL_PLACES * msg->payload : 0;
        status = s->ops->post(s->ep, &next, payload, NULL, first_cookie + n);
        if (status == GP_AGAIN)
            return n;
        assert_int_equal(status, GP_OK);
        assert_true(n < 1000000);
    }
}

static void
assert_cookies_once(const side *s, size_t count)
{
    uint8_t *found = calloc(count + 1, 1);

    assert_non_null(found);
    for (size_t i = 0; i < s->count; i++) {
        if (s->log[i].event.type != GP_EVENT_SENT)
            continue;
        assert_in_range(s->log[i].event.cookie, 1, count);
        assert_int_equal(found[s->log[i].event.cookie]++, 0);
    }
    for (size_t i = 1; i <= count; i++)
        assert_int_equal(found[i], 1);
    free(found);
}

static void
full_queue_recovers(void **state)
{
    static uint8_t source[1000];
    size_t data, control, total;
    gp_msg msg, note = control_msg(1, 0);
    rig r;

    (void)state;
    rig_connected(&r);
    side_expose(&r.b, FULL_PLACES * sizeof(source), 0);
    msg = data_msg(r.b.token, 0, sizeof(source));
    data = post_until_full(&r.a, &msg, source, 1);
    assert_true(data >= 64);
    /* The reserve: control still passes, and ends as well. */
    control = post_until_full(&r.a, &note, NULL, data + 1);
    assert_true(control >= 16);
    total = data + control;
    flush(&r.a);
    await(&r, &r.b, GP_EVENT_MESSAGE, total);
    await(&r, &r.a, GP_EVENT_SENT, total);
    assert_int_equal(r.ops->post(r.a.ep, &msg, source, NULL, total + 1), GP_OK);
    flush(&r.a);
    await(&r, &r.a, GP_EVENT_SENT, total + 1);
    settle(&r);
    assert_cookies_once(&r.a, total + 1);
    assert_int_equal(side_count(&r.b, GP_EVENT_MESSAGE), total + 1);
    rig_close(&r);
}

static void
unexpose_while_data_is_under_way(void **state)
{
    size_t length = 8u << 20;
    uint8_t *source = calloc(1, length);
    gp_msg msg;
    rig r;

    (void)state;
    assert_non_null(source);
    rig_connected(&r);
    side_expose(&r.b, length, 0);
    msg = data_msg(r.b.token, 0, length);
    post(&r, &r.a, &msg, source, 1);
    flush(&r.a);
    r.ops->unexpose(r.b.ep, r.b.token);
    memset(r.b.memory, 0x55, length);
    await(&r, &r.a, GP_EVENT_SENT, 1);
    send_control(&r, &r.a, 3);
    await(&r, &r.b, GP_EVENT_MESSAGE, 1);
    settle(&r);
    assert_int_equal(r.b.count, 1);
    assert_true(side_nth(&r.b, GP_EVENT_MESSAGE, 0)->event.msg.aux == 3);
    for (size_t i = 0; i < length; i++)
        assert_int_equal(r.b.memory[i], 0x55);
    rig_close(&r);
    free(source);
}

/* As above, but stopped at every place the transport lets us see: what was
 * written before may be there, nothing is written after. */
static void
unexpose_half_way(void **state)
{
    size_t length = 8u << 20;
    uint8_t *source = malloc(length);
    uint64_t deadline = test_deadline();
    gp_msg msg;
    rig r;

    (void)state;
    assert_non_null(source);
    memset(source, 0x11, length);
    rig_connected(&r);
    side_expose(&r.b, length, 0);
    msg = data_msg(r.b.token, 0, length);
    post(&r, &r.a, &msg, source, 1);
    flush(&r.a);
    while (r.b.memory[0] != 0x11 && !gp_expired(deadline))
        pump(&r);
    r.ops->unexpose(r.b.ep, r.b.token);
    memset(r.b.memory, 0x55, length);
    await(&r, &r.a, GP_EVENT_SENT, 1);
    send_control(&r, &r.a, 3);
    await(&r, &r.b, GP_EVENT_MESSAGE, 1);
    settle(&r);
    for (size_t i = 0; i < length; i++)
        assert_int_equal(r.b.memory[i], 0x55);
    assert_int_equal(side_count(&r.b, GP_EVENT_CLOSED), 0);
    rig_close(&r);
    free(source);
}

static void
stale_token_is_discarded(void **state)
{
    uint8_t source[5000] = {1};
    uint32_t old;
    gp_msg msg;
    rig r;

    (void)state;
    rig_connected(&r);
    side_expose(&r.b, sizeof(source), 0);
    old = r.b.token;
    r.ops->unexpose(r.b.ep, old);
    assert_int_equal(
        r.ops->expose(r.b.ep, r.b.mem, 0, sizeof(source), 0, &r.b.token),
        GP_OK);
    assert_int_not_equal(r.b.token, old);
    msg = data_msg(old, 0, sizeof(source));
    post(&r, &r.a, &msg, source, 1);
    send_control(&r, &r.a, 1);
    await(&r, &r.b, GP_EVENT_MESSAGE, 1);
    await(&r, &r.a, GP_EVENT_SENT, 1);
    settle(&r);
    assert_int_equal(r.b.count, 1);
    assert_int_equal(r.b.memory[0], 0xEE);
    /* The connection lives, and so does the new token. */
    msg = data_msg(r.b.token, 0, sizeof(source));
    post(&r, &r.a, &msg, source, 2);
    flush(&r.a);
    await(&r, &r.b, GP_EVENT_MESSAGE, 2);
    assert_int_equal(r.b.memory[0], 1);
    rig_close(&r);
}

static void
sleep_until_readable(rig *r, side *s, side *other)
{
    struct pollfd fd = {.fd = s->ops->event_fd(s->domain), .events = POLLIN};
    uint64_t deadline = test_deadline();

    while (s->ops->arm(s->domain) == GP_AGAIN) {
        assert_false(gp_expired(deadline));
        side_pump(s);
    }
    send_control(r, other, 4);
    while (poll(&fd, 1, 1) == 0) {
        assert_false(gp_expired(deadline));
        side_pump(other);
    }
}

static void
sleeper_is_woken(void **state)
{
    rig r;

    (void)state;
    rig_connected(&r);
    settle(&r);
    for (size_t i = 0; i < 300; i++) {
        side *s = i % 3 ? &r.a : &r.b, *other = i % 3 ? &r.b : &r.a;
        size_t before = s->count;
        uint64_t deadline = test_deadline();

        sleep_until_readable(&r, s, other);
        while (s->count == before) {
            assert_false(gp_expired(deadline));
            side_pump(s);
        }
    }
    rig_close(&r);
}

int
transport_suite(const char *label, const gp_transport_ops *ops,
                const char *const *settings, const char *listen)
{
    static const struct CMUnitTest cases[] = {
        cmocka_unit_test(connect_and_accept),
        cmocka_unit_test(header_travels_unchanged),
        cmocka_unit_test(control_keeps_order),
        cmocka_unit_test(data_of_every_size),
        cmocka_unit_test(landing_payloads),
        cmocka_unit_test(many_small_in_one_flush),
        cmocka_unit_test(one_event_at_a_time),
        cmocka_unit_test(both_directions),
        cmocka_unit_test(full_queue_recovers),
        cmocka_unit_test(unexpose_while_data_is_under_way),
        cmocka_unit_test(unexpose_half_way),
        cmocka_unit_test(stale_token_is_discarded),
        cmocka_unit_test(sleeper_is_woken),
    };

    rig_of = (rig_kind){ops, settings, listen};
    print_message("%s\n", label);
    return cmocka_run_group_tests_name(label, cases, NULL, NULL) +
           transport_end_cases(label);
}
