/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_mistakes_queues.c - classic mistakes with verbs, part two: send and
 * receive queues, completion queues, threads. That nothing is posted into a
 * full queue, that no receive is missing and that no completion queue can
 * overrun is what the fabric itself looks at in all of them.
 */
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/sim/world.h"
#include "transports/verbs/verbs_int.h"

#define KIB 1024u

static const char *const tight[] = {"ib_queue", "32", "ib_frames", "16",
                                    "ib_eager", "0",  NULL};
static const char *const tight_imm[] = {"ib_queue",  "32",  "ib_frames", "16",
                                        "ib_notify", "imm", NULL};

/* Many writes both ways through queues that hold a few. */
static void
flood(const gp_sim_options *fabric, const char *const *settings, int count)
{
    world w;
    area out[2], in[2];

    world_connected(&w, fabric, settings);
    area_make(&w, &out[0], &w.r.a, 16 * KIB);
    area_make(&w, &out[1], &w.r.b, 16 * KIB);
    area_expose(&w, &in[1], &w.r.b, 16 * KIB);
    area_expose(&w, &in[0], &w.r.a, 16 * KIB);
    for (int i = 0; i < count; i++) {
        push(&w, &out[0], &in[1], (size_t)(i % 16) * KIB, KIB, 0);
        push(&w, &out[1], &in[0], (size_t)(i % 16) * KIB, KIB, 0);
    }
    arrived(&w, &w.r.b, (size_t)count);
    arrived(&w, &w.r.a, (size_t)count);
    assert_int_equal(stats_of(&w).rnr, 0);
    world_close(&w);
}

static void
item_16_unsignaled_requests_do_not_fill_the_queue(void **state)
{
    const gp_sim_options plain = {.step = true};

    (void)state;
    flood(&plain, tight, 1000);
    flood(&plain, tight_imm, 1000);
}

static void
item_17_slots_are_counted_by_requests(void **state)
{
    const gp_sim_options late = {
        .step = true, .late_acks = true, .grant_more = true};
    const gp_sim_options shuffled = {.step = true, .shuffle = true, .seed = 4};

    (void)state;
    flood(&late, tight, 500);
    flood(&shuffled, tight, 200);
    flood(&shuffled, tight_imm, 200);
}

/* More lanes than one completion queue of this device has room for. */
static void
item_18_completion_queues_have_room(void **state)
{
    static const char *const settings[] = {"ib_qps", "4", NULL};
    const gp_sim_device small = {.max_cqe = 1000};
    const gp_sim_options options = {
        .step = true, .device = &small, .devices = 1};
    gp_endpoint *more[6];
    world w;

    (void)state;
    world_connected(&w, &options, settings);
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(w.r.ops->connect(w.r.a.domain, w.r.bound,
                                          test_deadline(), &more[i]),
                         GP_OK);
        await(&w.r, &w.r.a, GP_EVENT_CONNECTED, i + 1);
        await(&w.r, &w.r.b, GP_EVENT_ACCEPTED, i + 1);
        send_control(&w.r, &w.r.a, i);
        arrived(&w, &w.r.b, i + 1);
    }
    settle(&w.r);
    assert_int_equal(stats_of(&w).live[GP_SIM_QP], 2 * 7 * 4);
    assert_true(stats_of(&w).live[GP_SIM_CQ] > 2);
    world_close(&w);
}

static void
item_19_half_posted_lists_are_in_flight(void **state)
{
    static const char *const settings[] = {"ib_eager", "0", NULL};
    const gp_sim_options options = {.step = true};

    (void)state;
    for (unsigned i = 0; i < 24; i++) {
        world w;
        area out, in;

        world_connected(&w, &options, settings);
        area_make(&w, &out, &w.r.a, 20 * KIB);
        area_expose(&w, &in, &w.r.b, 20 * KIB);
        settle(&w.r);
        fill_pattern(out.bytes, out.length, i);
        gp_sim_cut_post(w.sim, 1 + i / 4, i % 4, ENOMEM);
        for (size_t k = 0; k < 20; k++) {
            push_quietly(&w, &out, &in, k * KIB, KIB, k + 1);
            if (k % 5 == 4)
                flush(&w.r.a);
        }
        arrived(&w, &w.r.b, 20);
        await(&w.r, &w.r.a, GP_EVENT_SENT, 20);
        settle(&w.r);
        assert_int_equal(side_count(&w.r.b, GP_EVENT_MESSAGE), 20);
        assert_pattern(in.bytes, in.length, i);
        world_close(&w);
    }
}

static void
item_20_inline_is_what_the_queue_pair_grants(void **state)
{
    static const unsigned limits[] = {UINT_MAX, 1, 16, 80, 256};

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(limits); i++) {
        const gp_sim_device device = {.inline_max = limits[i]};
        gp_sim_options options = {
            .step = true, .device = &device, .devices = 1};

        flood(&options, NULL, 20);
        options.grant_more = true;
        flood(&options, tight_imm, 20);
    }
}

/* The first message may come before the acceptor heard of the connection. */
static void
item_21_receives_are_posted_before_accept(void **state)
{
    const gp_sim_options late = {.step = true, .late_established = true};
    const gp_msg first = control_msg(7, 0);
    gp_endpoint *ep;
    world w;

    (void)state;
    world_open(&w, &late, NULL);
    world_listen(&w, "127.0.0.1:0");
    assert_int_equal(
        w.r.ops->connect(w.r.a.domain, w.r.bound, test_deadline(), &ep), GP_OK);
    assert_int_equal(w.r.ops->post(ep, &first, NULL, NULL, 0), GP_OK);
    arrived(&w, &w.r.b, 1);
    assert_int_equal(w.r.b.log[0].event.type, GP_EVENT_ACCEPTED);
    world_close(&w);
}

static uint8_t long_text[40 * KIB];

/* Everything that uses up receives: nothing, a byte, several frames, data that
 * is refused, data for a region withdrawn. */
static void
mixture(const gp_sim_options *fabric, const char *const *settings)
{
    world w;
    area out, in;

    world_connected(&w, fabric, settings);
    w.r.ops->ep_trust(w.r.a.ep);
    w.r.ops->ep_trust(w.r.b.ep);
    area_make(&w, &out, &w.r.a, 4 * KIB);
    area_expose(&w, &in, &w.r.b, 4 * KIB);
    for (size_t i = 0; i < 400; i++) {
        gp_msg msg = control_msg(i, i % 7 == 0   ? sizeof(long_text)
                                    : i % 3 == 0 ? 1
                                                 : 0);

        post(&w.r, &w.r.a, &msg, long_text, 0);
        post(&w.r, &w.r.b, &msg, long_text, 0);
        push(&w, &out, &in, 0, i % 2 ? 0 : 3000, 0);
        flush(&w.r.b);
        if (i == 200)
            w.r.ops->unexpose(w.r.b.ep, in.token);
    }
    arrived(&w, &w.r.a, 400);
    while (side_count(&w.r.b, GP_EVENT_MESSAGE) < 400)
        pump(&w.r);
    send_control(&w.r, &w.r.a, 9999);
    settle(&w.r);
    assert_int_equal(stats_of(&w).rnr, 0);
    assert_int_equal(side_count(&w.r.b, GP_EVENT_CLOSED), 0);
    world_close(&w);
}

static void
item_22_every_path_gives_its_receive_back(void **state)
{
    const gp_sim_options plain = {.step = true};
    const gp_sim_options shuffled = {.step = true, .shuffle = true, .seed = 8};

    (void)state;
    mixture(&plain, tight);
    mixture(&shuffled, tight);
}

static void
item_23_immediate_data_uses_receives_too(void **state)
{
    const gp_sim_options shuffled = {.step = true, .shuffle = true, .seed = 8};

    (void)state;
    mixture(&shuffled, tight_imm);
}

/* The fabric objects to rnr_retry_count 7 and to the timer of rdma_cm. */
static void
item_24_25_receiver_not_ready_would_be_loud_and_short(void **state)
{
    const gp_sim_options plain = {.step = true};
    world w;

    (void)state;
    world_connected(&w, &plain, NULL);
    for (size_t i = 0; i < 200; i++) {
        send_control(&w.r, &w.r.a, i);
        send_control(&w.r, &w.r.b, i);
        arrived(&w, &w.r.a, i + 1);
        arrived(&w, &w.r.b, i + 1);
    }
    assert_int_equal(stats_of(&w).rnr, 0);
    world_close(&w);
}

/* One of two peers on the same completion queue dies with all it had queued. */
static void
item_29_a_dying_peer_takes_nobody_with_it(void **state)
{
    static const char *const settings[] = {"ib_reconnect", "0", NULL};
    const gp_sim_options plain = {.step = true};
    gp_endpoint *first, *second;
    world w;
    area out, in;

    (void)state;
    world_connected(&w, &plain, settings);
    area_make(&w, &out, &w.r.a, 64 * KIB);
    area_expose(&w, &in, &w.r.b, 64 * KIB);
    first = w.r.a.ep;
    assert_int_equal(
        w.r.ops->connect(w.r.a.domain, w.r.bound, test_deadline(), &second),
        GP_OK);
    await(&w.r, &w.r.a, GP_EVENT_CONNECTED, 1);
    await(&w.r, &w.r.b, GP_EVENT_ACCEPTED, 1);
    settle(&w.r);
    gp_sim_break_qp(w.sim, &(gp_sim_break){.process = w.a});
    w.r.a.ep = first;
    for (size_t i = 0; i < 16; i++)
        push(&w, &out, &in, i * 4 * KIB, 4 * KIB, i + 1);
    await(&w.r, &w.r.a, GP_EVENT_CLOSED, 1);
    assert_ptr_equal(side_nth(&w.r.a, GP_EVENT_CLOSED, 0)->event.ep, first);
    side_forget(&w.r.b);
    w.r.a.ep = second;
    for (size_t i = 0; i < 100; i++)
        send_control(&w.r, &w.r.a, i);
    arrived(&w, &w.r.b, 100);
    world_close(&w);
}

/* However much waits in one completion queue, a call takes a part of it: the
 * others, timers and connections have their turn. */
static void
item_29_one_queue_does_not_take_all_turns(void **state)
{
    static const char *const deep[] = {"ib_frames", "1024", "ib_queue", "4096",
                                       NULL};
    const gp_sim_options plain = {.step = true};
    static uint8_t text[600];
    gp_msg msg = control_msg(1, sizeof(text));
    uint64_t before, taken = 1, most = 0, all = 0;
    gp_event event;
    world w;

    (void)state;
    world_connected(&w, &plain, deep);
    settle(&w.r);
    for (int i = 0; i < 900; i++) {
        assert_int_equal(w.r.ops->post(w.r.a.ep, &msg, text, NULL, 0), GP_OK);
        flush(&w.r.a);
    }
    gp_sim_settle(w.sim);
    while (taken) {
        before = w.r.b.domain->completions;
        assert_true(w.r.ops->progress(w.r.b.domain, &event, 1) >= 0);
        taken = w.r.b.domain->completions - before;
        most = GP_MAX(most, taken);
        all += taken;
    }
    assert_true(all >= 500);
    assert_true(most < all);
    assert_true(most <= 300);
    world_close(&w);
}

typedef struct crew {
    gp_domain *domain;
    const gp_transport_ops *ops;
    const char *to;
    int wanted;
} crew;

/* A thread with a domain of its own: connects, sends, hears the answers. */
static void *
worker(void *argument)
{
    crew *c = argument;
    gp_event events[16];
    gp_endpoint *ep = NULL;
    gp_msg msg = control_msg(1, 0);
    uint64_t deadline = test_deadline();
    int heard = 0, sent = 0;

    if (c->ops->connect(c->domain, c->to, deadline, &ep) != GP_OK)
        return (void *)"connect";
    while (heard < c->wanted) {
        int n = c->ops->progress(c->domain, events, 16);

        if (n < 0 || gp_expired(deadline))
            return (void *)"progress";
        for (int i = 0; i < n; i++)
            heard += events[i].type == GP_EVENT_MESSAGE;
        if (sent < c->wanted && c->ops->post(ep, &msg, NULL, NULL, 0) == GP_OK)
            sent++;
        if (c->ops->flush(ep) != GP_OK)
            return (void *)"flush";
    }
    c->ops->ep_close(ep);
    /* The farewell may need some more. */
    for (int i = 0; i < 100; i++)
        if (c->ops->progress(c->domain, events, 16) < 0)
            return (void *)"farewell";
    return NULL;
}

static void
answer(const crew *c, const gp_event *event, int *left)
{
    gp_msg msg = control_msg(2, 0);

    if (event->type == GP_EVENT_CLOSED) {
        c->ops->ep_close(event->ep);
        ++*left;
    }
    if (event->type == GP_EVENT_MESSAGE &&
        c->ops->post(event->ep, &msg, NULL, NULL, 0) == GP_OK)
        (void)c->ops->flush(event->ep);
}

/* The domain they all talk to, until all have left; it sleeps between. */
static void *
server(void *argument)
{
    crew *c = argument;
    gp_event events[16];
    uint64_t deadline = test_deadline();
    int left = 0;

    while (left < c->wanted) {
        struct pollfd fd = {.fd = c->ops->event_fd(c->domain),
                            .events = POLLIN};
        int n = c->ops->progress(c->domain, events, 16);

        if (n < 0 || gp_expired(deadline))
            return (void *)"server";
        for (int i = 0; i < n; i++)
            answer(c, &events[i], &left);
        if (n == 0 && c->ops->arm(c->domain) == GP_OK)
            (void)poll(&fd, 1, 100);
    }
    return NULL;
}

#define WORKERS 3
#define EACH    200

static void
item_30_domains_run_in_threads(void **state)
{
    pthread_t thread[WORKERS + 1];
    crew crews[WORKERS + 1];
    void *failed;
    world w;

    (void)state;
    world_open(&w, NULL, NULL);
    world_listen(&w, "127.0.0.1:0");
    for (int i = 0; i <= WORKERS; i++) {
        crews[i] = (crew){.ops = w.r.ops, .to = w.r.bound, .wanted = EACH};
        assert_int_equal(w.r.ops->open(w.r.config, &crews[i].domain), GP_OK);
    }
    w.r.ops->close(crews[WORKERS].domain);
    crews[WORKERS].domain = w.r.b.domain;
    crews[WORKERS].wanted = WORKERS;
    for (int i = 0; i <= WORKERS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL,
                                        i < WORKERS ? worker : server,
                                        &crews[i]),
                         0);
    for (int i = 0; i <= WORKERS; i++) {
        pthread_join(thread[i], &failed);
        if (failed)
            fail_msg("thread %d: %s", i, (const char *)failed);
    }
    for (int i = 0; i < WORKERS; i++)
        w.r.ops->close(crews[i].domain);
    world_close(&w);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(item_16_unsignaled_requests_do_not_fill_the_queue),
        cmocka_unit_test(item_17_slots_are_counted_by_requests),
        cmocka_unit_test(item_18_completion_queues_have_room),
        cmocka_unit_test(item_19_half_posted_lists_are_in_flight),
        cmocka_unit_test(item_20_inline_is_what_the_queue_pair_grants),
        cmocka_unit_test(item_21_receives_are_posted_before_accept),
        cmocka_unit_test(item_22_every_path_gives_its_receive_back),
        cmocka_unit_test(item_23_immediate_data_uses_receives_too),
        cmocka_unit_test(item_24_25_receiver_not_ready_would_be_loud_and_short),
        cmocka_unit_test(item_29_a_dying_peer_takes_nobody_with_it),
        cmocka_unit_test(item_29_one_queue_does_not_take_all_turns),
        cmocka_unit_test(item_30_domains_run_in_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
