/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_verbs_cues.c - data messages whose header follows from the one before:
 * a payload's last WRITE is all that is sent of them.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "tests/sim/world.h"
#include "transports/verbs/verbs_int.h"

#define LENGTH (48u << 10)
#define CHUNKS 3u
#define SLOTS  8u

/* Chunks that go round in the slots of `to`, as pushes do. */
typedef struct flow {
    area from, to;
    uint64_t sent;
} flow;

static gp_msg
header_of(const flow *f, uint64_t n)
{
    gp_msg msg = data_msg(f->to.token, n % SLOTS * LENGTH, LENGTH);

    msg.slot = (uint16_t)(n % SLOTS);
    msg.chunk = (uint32_t)(n % CHUNKS);
    msg.step = n / CHUNKS;
    msg.cookie = n + 1;
    msg.aux = n % CHUNKS;
    return msg;
}

static void
flow_open(world *w, flow *f, side *from, side *to)
{
    f->sent = 0;
    area_make(w, &f->from, from, (size_t)SLOTS * LENGTH);
    area_expose(w, &f->to, to, (size_t)SLOTS * LENGTH);
    settle(&w->r);
    side_forget(from);
    side_forget(to);
}

static void
send_next(flow *f)
{
    uint64_t n = f->sent++, at = n % SLOTS * LENGTH;
    gp_msg msg = header_of(f, n);
    side *s = f->from.of;

    fill_pattern(f->from.bytes + at, LENGTH, n);
    assert_int_equal(
        s->ops->post(s->ep, &msg, f->from.bytes + at, f->from.mem, n + 1),
        GP_OK);
    flush(s);
}

/* Sends so many, one after the other; each is what was posted. */
static void
send_and_see(world *w, flow *f, uint64_t count)
{
    side *to = f->to.of;

    side_forget(to);
    for (uint64_t i = 0; i < count; i++) {
        uint8_t posted[GP_MSG_BYTES], came[GP_MSG_BYTES];
        gp_msg msg = header_of(f, f->sent);
        const gp_event *event;

        send_next(f);
        arrived(w, to, i + 1);
        event = &side_nth(to, GP_EVENT_MESSAGE, i)->event;
        if (event->msg.flags & GP_MSG_PAYLOAD_CRC) {
            msg.flags |= GP_MSG_PAYLOAD_CRC;
            msg.payload_crc = event->msg.payload_crc;
        }
        gp_msg_encode(&msg, posted);
        gp_msg_encode(&event->msg, came);
        assert_memory_equal(posted, came, sizeof(came));
        assert_ptr_equal(event->payload, f->to.bytes + msg.offset);
        assert_pattern(event->payload, LENGTH, f->sent - 1);
    }
}

/* One header of each chunk goes as a record, one more until the slots' stride
 * is known, and then no frame is sent with a message any more. */
static void
only_writes_are_sent(void **state)
{
    gp_sim_stats before, after;
    flow there, back;
    world w;

    (void)state;
    world_connected(&w, NULL, NULL);
    flow_open(&w, &there, &w.r.a, &w.r.b);
    flow_open(&w, &back, &w.r.b, &w.r.a);
    send_and_see(&w, &there, 2 * CHUNKS);
    send_and_see(&w, &back, 2 * CHUNKS);
    settle(&w.r);
    before = stats_of(&w);
    for (int i = 0; i < 10; i++) {
        send_and_see(&w, &there, 10);
        send_and_see(&w, &back, 10);
    }
    settle(&w.r);
    after = stats_of(&w);
    assert_int_equal(after.write_imms - before.write_imms, 200);
    /* Frames without messages, that say what was received. */
    assert_in_range(after.sends - before.sends, 1,
                    200 / (w.r.a.ep->lane[0]->rx_frames / 2) + 2);
    assert_int_equal(side_count(&w.r.b, GP_EVENT_SENT), 10);
    world_close(&w);
}

/* Requests of a message of that length once its header is kept. */
static uint64_t
requests_of(uint8_t link_layer, const char *adaptive, uint32_t length)
{
    const char *const settings[] = {"ib_adaptive_routing", adaptive, NULL};
    const gp_sim_device device = {.port = {{.link_layer = link_layer}}};
    const gp_sim_options options = {.device = &device, .devices = 1};
    gp_sim_stats before, after;
    area from, to;
    gp_msg msg;
    world w;

    world_connected(&w, &options, settings);
    area_make(&w, &from, &w.r.a, LENGTH);
    area_expose(&w, &to, &w.r.b, LENGTH);
    fill_pattern(from.bytes, LENGTH, 3);
    msg = data_msg(to.token, 0, length);
    for (uint64_t i = 1; i <= 2; i++) {
        memset(to.bytes, 0, LENGTH);
        settle(&w.r);
        before = stats_of(&w);
        side_forget(&w.r.b);
        assert_int_equal(w.r.ops->post(w.r.a.ep, &msg, from.bytes, from.mem, i),
                         GP_OK);
        flush(&w.r.a);
        arrived(&w, &w.r.b, 1);
        assert_pattern(to.bytes, length, 3);
        after = stats_of(&w);
    }
    assert_int_equal(after.write_imms - before.write_imms, 1);
    world_close(&w);
    return after.writes - before.writes + 1;
}

/* Where switches may send packets their own ways, long payloads are messages
 * of their own. */
static void
behind_long_payloads(void **state)
{
    const uint8_t ib = IBV_LINK_LAYER_INFINIBAND, eth = IBV_LINK_LAYER_ETHERNET;
    const uint32_t small = 8u << 10;

    (void)state;
    assert_int_equal(requests_of(ib, "-1", LENGTH), 2);
    assert_int_equal(requests_of(ib, "-1", small), 1);
    assert_int_equal(requests_of(ib, "-1", small + 1), 2);
    assert_int_equal(requests_of(ib, "0", LENGTH), 1);
    assert_int_equal(requests_of(eth, "-1", LENGTH), 1);
    assert_int_equal(requests_of(eth, "1", LENGTH), 2);
    assert_int_equal(requests_of(eth, "1", small), 1);
}

/* Both sides must want them, and be able to. */
static void
where_there_are_none(void **state)
{
    static const char *const plain[] = {"ib_notify", "send", NULL};
    static const char *const checked[] = {"checksum", "on", NULL};
    const gp_sim_device iwarp = {.iwarp = true};
    const struct {
        gp_sim_options options;
        const char *const *settings;
        int one; /* side a's own notify */
    } cases[] = {{{0}, plain, -1},
                 {{0}, checked, 0},
                 {{.device = &iwarp, .devices = 1}, NULL, 0},
                 {{0}, NULL, -1}};

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(cases); i++) {
        flow there, back;
        world w;

        world_open(&w, &cases[i].options, cases[i].settings);
        w.r.a.domain->notify = cases[i].one;
        rig_connect(&w.r);
        flow_open(&w, &there, &w.r.a, &w.r.b);
        flow_open(&w, &back, &w.r.b, &w.r.a);
        send_and_see(&w, &there, 12);
        send_and_see(&w, &back, 12);
        assert_int_equal(stats_of(&w).write_imms, 0);
        world_close(&w);
    }
}

/* Whatever its kind, a device may know of no immediate data: it is asked once.
 */
static void
a_device_that_refuses(void **state)
{
    static const int errors[] = {EINVAL, EOPNOTSUPP, ENOMEM};

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(errors); i++) {
        uint64_t before;
        flow f;
        world w;

        world_connected(&w, NULL, NULL);
        flow_open(&w, &f, &w.r.a, &w.r.b);
        send_and_see(&w, &f, 9);
        before = stats_of(&w).write_imms;
        assert_true(before > 0);
        gp_sim_fail(w.sim, "post_send", 1, errors[i]);
        send_and_see(&w, &f, 12);
        assert_int_equal(w.r.a.domain->reconnects, 1);
        assert_true((stats_of(&w).write_imms > before) ==
                    (errors[i] == ENOMEM));
        world_close(&w);
    }
}

static bool
a_connects(world *w)
{
    return w->r.a.ep->lane[0]->state == GP_VB_LANE_CONNECTING;
}

/* It refuses one while another queue pair's hello, which said that it takes
 * them, is on its way: there the peer may say them. */
static void
refused_while_connecting(void **state)
{
    static const gp_sim_options step = {.step = true};
    gp_sim_break how = {.after_wrs = 1};
    flow there, back;
    world w;

    (void)state;
    world_connected(&w, &step, NULL);
    flow_open(&w, &there, &w.r.a, &w.r.b);
    flow_open(&w, &back, &w.r.b, &w.r.a);
    how.process = w.a;
    gp_sim_break_qp(w.sim, &how);
    send_next(&there);
    pump_until(&w, a_connects);
    w.r.a.ep->lane[0]->device->uncued = true;
    arrived(&w, &w.r.b, 1);
    send_and_see(&w, &back, 12);
    assert_true(stats_of(&w).write_imms > 0);
    assert_int_equal(w.r.a.domain->reconnects, 1);
    world_close(&w);
}

/* A queue pair dies somewhere between cues, with the last request delivered or
 * not: each message arrives once, and the next queue pair begins anew. */
static void
queue_pairs_that_die(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 24; i++) {
        gp_sim_break how = {.after_wrs = 1 + i / 2, .delivered = i & 1};
        uint64_t cued;
        flow f;
        world w;

        world_connected(&w, NULL, NULL);
        flow_open(&w, &f, &w.r.a, &w.r.b);
        send_and_see(&w, &f, 9);
        how.process = w.a;
        gp_sim_break_qp(w.sim, &how);
        side_forget(&w.r.b);
        for (uint64_t k = 0; k < SLOTS; k++) /* each slot has one at a time */
            send_next(&f);
        arrived(&w, &w.r.b, SLOTS);
        settle(&w.r);
        assert_int_equal(side_count(&w.r.b, GP_EVENT_MESSAGE), SLOTS);
        for (uint64_t k = 0; k < SLOTS; k++) {
            const gp_event *event =
                &side_nth(&w.r.b, GP_EVENT_MESSAGE, k)->event;

            assert_int_equal(event->msg.cookie, 10 + k);
            assert_pattern(event->payload, LENGTH, 9 + k);
        }
        send_and_see(&w, &f, 9);
        assert_int_equal(w.r.a.domain->reconnects, 1);
        cued = stats_of(&w).write_imms;
        send_and_see(&w, &f, 3);
        assert_int_equal(stats_of(&w).write_imms - cued, 3);
        world_close(&w);
    }
}

/* The stride that both ends knew of is not known on the next queue pair: what
 * looks like a slot there is none. */
static void
each_begins_anew(void **state)
{
    gp_sim_break how = {.after_wrs = 1};
    flow f;
    world w;

    (void)state;
    world_connected(&w, NULL, NULL);
    flow_open(&w, &f, &w.r.a, &w.r.b);
    send_and_see(&w, &f, 6);
    how.process = w.a;
    gp_sim_break_qp(w.sim, &how);
    side_forget(&w.r.b);
    for (uint64_t i = 0; i < 6; i++) {
        gp_msg msg = data_msg(f.to.token, 0, LENGTH);

        msg.credits = 3u << i;
        post_from(&w, &f.from, &msg, 0, i + 1);
        flush(&w.r.a);
        arrived(&w, &w.r.b, i + 1);
        assert_int_equal(
            side_nth(&w.r.b, GP_EVENT_MESSAGE, i)->event.msg.credits, 3u << i);
    }
    assert_int_equal(w.r.a.domain->reconnects, 1);
    assert_true(stats_of(&w).write_imms > 2);
    world_close(&w);
}

static bool
a_is_back(world *w)
{
    w->r.b.ep->lane[0]->judge_ns = 0; /* deliveries have had their time */
    return w->r.a.domain->reconnects > 0 && lanes_up(w->r.a.ep) > 0;
}

/* Cues that arrived before their queue pair died are delivered after it, when
 * the next one has said its first headers already. */
static void
delivered_after_the_next_connection(void **state)
{
    static const gp_sim_options step = {.step = true, .piece = 4096};
    gp_sim_break how = {.after_bytes = LENGTH / 2};
    uint64_t deadline = test_deadline();
    gp_event event;
    size_t heard = 0;
    flow f;
    world w;

    (void)state;
    world_connected(&w, &step, NULL);
    flow_open(&w, &f, &w.r.a, &w.r.b);
    send_and_see(&w, &f, 6);
    settle(&w.r);
    w.r.b.max = 0; /* b hears, and delivers nothing */
    for (int i = 0; i < 4; i++)
        send_next(&f);
    settle(&w.r);
    how.process = w.a;
    gp_sim_break_qp(w.sim, &how);
    send_next(&f);
    pump_until(&w, a_is_back);
    for (int i = 0; i < 3; i++)
        send_next(&f);
    settle(&w.r);
    while (heard < 8) {
        assert_false(gp_expired(deadline));
        side_pump(&w.r.a);
        if (w.r.ops->progress(w.r.b.domain, &event, 1) != 1)
            continue;
        assert_int_equal(event.type, GP_EVENT_MESSAGE);
        assert_int_equal(event.msg.cookie, 7 + heard);
        assert_int_equal(event.msg.slot, (6 + heard) % SLOTS);
        assert_pattern(event.payload, LENGTH, 6 + heard);
        heard++;
    }
    w.r.b.max = 16;
    world_close(&w);
}

/* The same when the next one takes no cues, as when it is another rail's: what
 * was received before is read as it was meant. */
static void
delivered_after_cues_have_ended(void **state)
{
    static const gp_sim_options step = {.step = true, .piece = 4096};
    gp_sim_break how = {.after_bytes = LENGTH / 2};
    uint64_t deadline = test_deadline(), cued;
    flow f;
    world w;

    (void)state;
    world_connected(&w, &step, NULL);
    flow_open(&w, &f, &w.r.a, &w.r.b);
    w.r.b.max = 0;
    for (int i = 0; i < 6; i++)
        send_next(&f); /* records, and cues that lead to them */
    settle(&w.r);
    assert_true(stats_of(&w).write_imms > 0);
    w.r.a.domain->notify = -1;
    how.process = w.a;
    gp_sim_break_qp(w.sim, &how);
    send_next(&f);
    while (w.r.a.domain->reconnects == 0 || lanes_up(w.r.a.ep) == 0) {
        assert_false(gp_expired(deadline));
        pump(&w.r);
    }
    w.r.b.max = 16;
    side_forget(&w.r.b);
    arrived(&w, &w.r.b, 7);
    for (uint64_t i = 0; i < 7; i++)
        assert_int_equal(
            side_nth(&w.r.b, GP_EVENT_MESSAGE, i)->event.msg.cookie, 1 + i);
    cued = stats_of(&w).write_imms;
    send_and_see(&w, &f, 12);
    assert_int_equal(stats_of(&w).write_imms, cued);
    world_close(&w);
}

/* What came for a region that was withdrawn meanwhile is dropped, but it was
 * said: the next cue counts from it. */
static void
regions_that_are_withdrawn(void **state)
{
    static const gp_sim_options step = {.step = true};
    const gp_event *event;
    flow gone, f;
    gp_msg msg;
    world w;

    (void)state;
    world_connected(&w, &step, NULL);
    flow_open(&w, &gone, &w.r.a, &w.r.b);
    flow_open(&w, &f, &w.r.a, &w.r.b);
    send_and_see(&w, &f, 6);
    side_forget(&w.r.b);
    w.r.b.max = 0; /* b hears, and delivers nothing */
    msg = header_of(&gone, 0);
    msg.chunk = 40;
    for (int i = 0; i < 2; i++) {
        msg.cookie = 5000 + (uint64_t)i;
        post_from(&w, &f.from, &msg, 0, 1);
        flush(&w.r.a);
        msg = header_of(&f, f.sent);
        msg.step = 1;
    }
    settle(&w.r);
    w.r.ops->unexpose(w.r.b.ep, gone.to.token);
    w.r.b.max = 16;
    arrived(&w, &w.r.b, 1);
    settle(&w.r);
    assert_int_equal(side_count(&w.r.b, GP_EVENT_MESSAGE), 1);
    event = &side_nth(&w.r.b, GP_EVENT_MESSAGE, 0)->event;
    assert_int_equal(event->msg.region, f.to.token);
    assert_int_equal(event->msg.cookie, 5001);
    assert_int_equal(event->msg.step, 1);
    send_and_see(&w, &f, 12);
    world_close(&w);
}

/* With few receives, and many messages posted at once. */
static void
many_at_once(void **state)
{
    static const char *const tight[] = {"ib_frames", "16", "ib_queue", "32",
                                        NULL};
    flow f;
    world w;

    (void)state;
    world_connected(&w, NULL, tight);
    flow_open(&w, &f, &w.r.a, &w.r.b);
    send_and_see(&w, &f, 6);
    side_forget(&w.r.b);
    for (uint64_t i = 0; i < 300; i++) {
        gp_msg msg = header_of(&f, f.sent++);

        post_from(&w, &f.from, &msg, 0, i + 1);
        if (i % 7 == 0)
            flush(&w.r.a);
    }
    flush(&w.r.a);
    arrived(&w, &w.r.b, 300);
    for (uint64_t i = 0; i < 300; i++)
        assert_int_equal(
            side_nth(&w.r.b, GP_EVENT_MESSAGE, i)->event.msg.cookie, 7 + i);
    assert_true(stats_of(&w).write_imms >= 250);
    world_close(&w);
}

/* Posts the next one, unless there are so many already. */
static void
post_next(flow *f, uint64_t count)
{
    side *s = f->from.of;
    gp_msg msg = header_of(f, f->sent);

    if (f->sent == count)
        return;
    if (s->ops->post(s->ep, &msg, f->from.bytes, f->from.mem, f->sent + 1) ==
        GP_OK)
        f->sent++;
}

/* Cues say nothing of receives that are free again. Where neither side says
 * anything but cues, and one delivers in bits, neither ever waits for good. */
static void
both_ways_at_once(void **state)
{
    static const char *const lanes[] = {"1", "3"};

    (void)state;
    for (size_t i = 0; i < 2 * GP_COUNT_OF(lanes); i++) {
        const char *const tight[] = {
            "ib_frames", "16", "ib_queue", "32", "ib_qps", lanes[i / 2], NULL};
        uint64_t deadline = test_deadline();
        gp_sim_stats before;
        flow there, back;
        world w;

        world_connected(&w, NULL, tight);
        flow_open(&w, &there, &w.r.a, &w.r.b);
        flow_open(&w, &back, &w.r.b, &w.r.a);
        before = stats_of(&w);
        if (i % 2)
            w.r.b.max = 1;
        while (side_count(&w.r.a, GP_EVENT_MESSAGE) < 600 ||
               side_count(&w.r.b, GP_EVENT_MESSAGE) < 600) {
            assert_false(gp_expired(deadline));
            for (int k = 0; k < 30; k++) {
                post_next(&there, 600);
                post_next(&back, 600);
            }
            pump(&w.r);
        }
        assert_in_range(stats_of(&w).write_imms - before.write_imms, 600, 1200);
        w.r.b.max = 16;
        world_close(&w);
    }
}

/* Who says cues that lead nowhere loses its connection, with the reason. */
static void
cues_of_nothing(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        gp_vb_cues *out;
        flow f;
        world w;

        world_connected(&w, NULL, NULL);
        flow_open(&w, &f, &w.r.a, &w.r.b);
        send_and_see(&w, &f, 6);
        out = &w.r.a.ep->lane[0]->cued_out;
        if (i == 0) /* a header that b never saw */
            out->kept[7] = out->kept[f.sent % CHUNKS];
        else if (i == 1) /* a slot that lies outside */
            w.r.b.ep->lane[0]->cued_in.stride *= 3;
        else /* b takes none */
            w.r.b.ep->lane[0]->cues = false;
        gp_log_set_level(GP_LOG_NONE);
        if (i == 0) {
            gp_msg msg = header_of(&f, f.sent);

            msg.chunk = out->kept[7].chunk = 7;
            post_from(&w, &f.from, &msg, 0, 1);
            flush(&w.r.a);
        } else {
            send_next(&f);
        }
        assert_int_equal(ended(&w, &w.r.b), GP_ERR_PROTOCOL);
        gp_log_set_level(GP_LOG_ERROR);
        world_close(&w);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_writes_are_sent),
        cmocka_unit_test(behind_long_payloads),
        cmocka_unit_test(where_there_are_none),
        cmocka_unit_test(a_device_that_refuses),
        cmocka_unit_test(refused_while_connecting),
        cmocka_unit_test(queue_pairs_that_die),
        cmocka_unit_test(each_begins_anew),
        cmocka_unit_test(delivered_after_the_next_connection),
        cmocka_unit_test(delivered_after_cues_have_ended),
        cmocka_unit_test(regions_that_are_withdrawn),
        cmocka_unit_test(many_at_once),
        cmocka_unit_test(both_ways_at_once),
        cmocka_unit_test(cues_of_nothing),
    };

    gp_log_set_level(GP_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
