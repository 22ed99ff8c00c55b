/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_verbs_no_memory.c - a lane is lost while what it received is only partly
 * delivered, and there is no memory to keep the rest in: nothing of it is lost,
 * and no message is there twice. And one comes back while there is none for
 * what is to be said on it: it does so later.
 *
 * The program is linked so that malloc() of all that it consists of is
 * __wrap_malloc().
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/sim/world.h"
#include "transports/verbs/verbs_entry.h"

#define MESSAGES 200u
#define PAYLOAD  40u
#define LEAST    sizeof(gp_vb_received) /* what is kept takes more */

/* Allocations of this thread from `from` on fail, `count` of them. */
static __thread uint64_t from, count, asked, failed;
static __thread size_t least = LEAST;

void *__real_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes);

void *
__wrap_malloc(size_t bytes)
{
    if (count && bytes > least && ++asked >= from && asked - from < count) {
        failed++;
        return NULL;
    }
    return __real_malloc(bytes);
}

static void
fail_malloc(uint64_t first, uint64_t times)
{
    from = first;
    count = times;
    asked = failed = 0;
}

static void
post_all(world *w, side *by)
{
    uint8_t payload[PAYLOAD];

    for (uint64_t i = 0; i < MESSAGES; i++) {
        gp_msg msg = control_msg(7, PAYLOAD);
        uint64_t deadline = test_deadline();
        gp_status status;

        msg.aux = i;
        memset(payload, (int)i, sizeof(payload));
        while ((status = w->r.ops->post(by->ep, &msg, payload, NULL, 0)) ==
               GP_AGAIN) {
            assert_false(gp_expired(deadline));
            flush(by);
            pump(&w->r);
        }
        assert_int_equal(status, GP_OK);
    }
    flush(by);
}

/* All came, each of them once. */
static void
check_messages(const side *s)
{
    assert_int_equal(side_count(s, GP_EVENT_MESSAGE), MESSAGES);
    for (size_t i = 0; i < MESSAGES; i++)
        assert_int_equal(side_nth(s, GP_EVENT_MESSAGE, i)->event.msg.aux, i);
}

typedef struct loss {
    bool of_a; /* which connects, and knocks again */
    const char *notify;
    size_t delivered;      /* messages before */
    uint64_t first, times; /* allocations that fail */
    bool lasting;          /* until the lane could not come back for it */
} loss;

/* Nothing is taken until the peer has knocked in vain. */
static void
hold_back(world *w, const loss *l)
{
    uint64_t deadline = test_deadline();
    side *s = l->of_a ? &w->r.a : &w->r.b;
    gp_event none;

    while (gp_sim_calls(w->sim, "rdma_reject") == 0 &&
           (!l->of_a || s->ep->lane[0]->backoff_ns == 0)) {
        assert_false(gp_expired(deadline));
        assert_int_equal(s->ops->progress(s->domain, &none, 0), 0);
        side_pump(l->of_a ? &w->r.b : &w->r.a);
    }
}

/* One event a call, so that frames of many messages are begun and not ended.
 * Returns how many allocations failed. */
static uint64_t
lose(const loss *l)
{
    const char *const settings[] = {"ib_notify", l->notify, NULL};
    uint64_t deadline = test_deadline();
    side *s, *other;
    gp_event none;
    world w;

    world_connected(&w, NULL, settings);
    s = l->of_a ? &w.r.a : &w.r.b;
    other = l->of_a ? &w.r.b : &w.r.a;
    s->max = 1;
    post_all(&w, other);
    while (side_count(s, GP_EVENT_MESSAGE) < l->delivered) {
        assert_false(gp_expired(deadline));
        pump(&w.r);
    }
    gp_sim_async(w.sim, l->of_a ? w.a : w.b, IBV_EVENT_QP_FATAL);
    fail_malloc(l->first, l->times);
    while (s->ep->lane[0]->qp) { /* what came is not taken meanwhile */
        assert_false(gp_expired(deadline));
        assert_int_equal(s->ops->progress(s->domain, &none, 0), 0);
    }
    if (l->lasting)
        hold_back(&w, l);
    count = 0;
    while (side_count(s, GP_EVENT_MESSAGE) < MESSAGES) {
        assert_false(gp_expired(deadline));
        pump(&w.r);
    }
    while (w.r.a.domain->reconnects == 0 || lanes_up(s->ep) == 0) {
        assert_false(gp_expired(deadline));
        pump(&w.r);
    }
    settle(&w.r);
    check_messages(s);
    world_close(&w);
    return failed;
}

static void
nothing_comes_twice(void **state)
{
    uint64_t lost = 0;

    (void)state;
    gp_log_set_level(GP_LOG_NONE);
    for (unsigned i = 0; i < 8; i++) {
        loss l = {.of_a = i & 1,
                  .notify = i & 2 ? "imm" : "send",
                  .delivered = i & 4 ? 1 : 7,
                  .first = 1,
                  .times = UINT64_MAX};

        lost += lose(&l);
        l.lasting = true;
        lost += lose(&l);
        l.lasting = false;
        l.times = 1;
        lost += lose(&l);
        l.first = 2;
        lost += lose(&l);
    }
    gp_log_set_level(GP_LOG_WARN);
    assert_true(lost > 16);
}

static bool
was_refused(world *w)
{
    return gp_sim_calls(w->sim, "rdma_reject") > 0;
}

/* The side that connects has tried, and pauses; or is over. */
static bool
pauses(world *w)
{
    return failed && (w->r.a.ep->lane[0]->backoff_ns > 0 ||
                      side_count(&w->r.a, GP_EVENT_CLOSED));
}

static bool
is_back_or_over(world *w)
{
    return (w->r.a.domain->reconnects > 0 && lanes_up(w->r.a.ep) == 1 &&
            lanes_up(w->r.b.ep) == 1) ||
           side_count(&w->r.a, GP_EVENT_CLOSED);
}

/* Entries are allocated by the dozen; nothing else is as large. */
static void
a_lane_waits_for_memory(void **state)
{
    enum { REGIONS = 100, BYTES = 64 };

    (void)state;
    gp_log_set_level(GP_LOG_NONE);
    for (int connects = 0; connects < 2; connects++) {
        uint32_t token;
        area m;
        world w;
        side *s;

        world_connected(&w, NULL, NULL);
        s = connects ? &w.r.a : &w.r.b;
        area_make(&w, &m, s, REGIONS * BYTES);
        for (size_t i = 0; i < REGIONS; i++) {
            assert_int_equal(
                s->ops->expose(s->ep, m.mem, i * BYTES, BYTES, 0, &token),
                GP_OK);
            settle(&w.r);
        }
        least = 32 * sizeof(gp_vb_entry);
        gp_sim_async(w.sim, connects ? w.a : w.b, IBV_EVENT_QP_FATAL);
        fail_malloc(1, UINT64_MAX);
        pump_until(&w, connects ? pauses : was_refused);
        count = 0;
        least = LEAST;
        assert_true(failed > 0);
        pump_until(&w, is_back_or_over);
        assert_int_equal(side_count(&w.r.a, GP_EVENT_CLOSED), 0);
        send_control(&w.r, &w.r.a, 7);
        arrived(&w, &w.r.b, 1);
        world_close(&w);
    }
    gp_log_set_level(GP_LOG_WARN);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_comes_twice),
        cmocka_unit_test(a_lane_waits_for_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
