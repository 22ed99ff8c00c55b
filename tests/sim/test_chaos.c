/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_chaos.c - runs with a random fabric, random settings and random faults
 * that a connection survives: queue pairs break on either side, with the last
 * request delivered or not, lists are posted by half, calls fail, rails die and
 * come back or do not. Whatever the seed, each message arrives once, whole, and
 * control messages in order.
 *
 * The seeds are 1 to RUNS, for one rail and again for two or three; a number as
 * argument runs that one alone and shows its log, two numbers all between them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/rounds.h"
#include "tests/sim/world.h"
#include "transports/verbs/verbs_int.h"

#ifdef __SANITIZE_ADDRESS__
#define RUNS 60
#else /* one thread does it all: ThreadSanitizer learns no more from more */
#define RUNS GP_ROUNDS(60, 20)
#endif
#define KIB      1024u
#define MESSAGES 40
#define SLOT     (12 * KIB)
#define CHUNKS   2
#define RAILS    3
#define ALL_UP   RAILS /* no rail is dead */

static uint64_t first_seed = 1, last_seed = RUNS;
static uint64_t dice;
static uint64_t cued; /* messages that came so, in all runs */

static unsigned
roll(unsigned sides)
{
    dice = dice * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(dice >> 33) % sides;
}

typedef struct weather {
    unsigned rails;
    bool leaves; /* a rail that dies stays dead */
    gp_sim_device device[RAILS];
    gp_sim_options options;
    const char *settings[26];
    int count;
} weather;

static void
set(weather *r, const char *name, const char *value)
{
    r->settings[r->count++] = name;
    r->settings[r->count++] = value;
    r->settings[r->count] = NULL;
}

static gp_sim_device
throw_device(bool iwarp)
{
    return (gp_sim_device){.iwarp = iwarp,
                           .no_windows = roll(3) == 0,
                           .inline_max = roll(2) ? 0 : 1 + roll(300),
                           .max_cqe = roll(3) ? 0 : 1500};
}

static void
throw_weather(weather *r, uint64_t seed, bool rails)
{
    static const char *const numbers[] = {"1", "2", "3"};
    static const char *const lanes[] = {"1", "2", "3", "5"};
    static const char *const notify[] = {"send", "imm", "auto", "auto"};
    static const char *const queue[] = {"32", "64", "256"};
    static const char *const frames[] = {"16", "64"};
    static const char *const piece[] = {"4K", "16K", "1M"};
    static const char *const eager[] = {"0", "256", "2K"};
    static const char *const windows[] = {"auto", "off"};

    memset(r, 0, sizeof(*r));
    dice = seed * 977 + rails;
    r->rails = rails ? 2 + roll(2) : 1;
    r->leaves = rails && roll(3) == 0;
    r->device[0] = throw_device(roll(6) == 0);
    for (unsigned i = 1; i < r->rails; i++)
        r->device[i] = throw_device(r->device[0].iwarp);
    r->options = (gp_sim_options){.seed = seed,
                                  .device = r->device,
                                  .devices = r->rails,
                                  .step = true,
                                  .shuffle = roll(4) != 0,
                                  .piece = roll(2) ? 0 : 100 + roll(5000),
                                  .late_acks = roll(2),
                                  .late_established = roll(2),
                                  .clean_cq = roll(2),
                                  .timewait = roll(2),
                                  .grant_more = roll(2)};
    set(r, "ib_qps", lanes[roll(4)]);
    set(r, "ib_notify", notify[roll(4)]);
    set(r, "ib_queue", queue[roll(3)]);
    set(r, "ib_frames", frames[roll(2)]);
    set(r, "ib_piece", piece[roll(3)]);
    set(r, "ib_eager", eager[roll(3)]);
    set(r, "ib_windows", windows[roll(2)]);
    set(r, "ib_domains", roll(2) ? "peer" : "shared");
    set(r, "checksum", roll(4) ? "off" : "on");
    set(r, "ib_rails", numbers[r->rails - 1]);
    set(r, "ib_reconnect", r->leaves ? "0.2" : "20s");
    set(r, "ib_rail_reconnect", roll(2) ? "0" : "600s");
}

static void
still_open(world *w)
{
    assert_int_equal(side_count(&w->r.a, GP_EVENT_CLOSED), 0);
    assert_int_equal(side_count(&w->r.b, GP_EVENT_CLOSED), 0);
}

/* Not before the last trouble is over: who loses a lane again and again with
 * nothing in between gives it up, and may. */
static void
trouble(world *w, size_t *heard)
{
    gp_sim_break how = {.process = roll(2) ? w->a : w->b,
                        .after_wrs = roll(12),
                        .after_bytes = roll(3) ? 0 : roll(30000),
                        .delivered = roll(2)};

    if (w->r.a.count + w->r.b.count < *heard + 4)
        return;
    *heard = w->r.a.count + w->r.b.count;
    switch (roll(6)) {
    case 0:
        gp_sim_cut_post(w->sim, 1 + roll(6), roll(4), 0);
        break;
    case 1:
        gp_sim_fail(w->sim, "post_send", 1 + roll(10), 0);
        break;
    case 2:
        gp_sim_fail(w->sim, "post_recv", 1 + roll(10), 0);
        break;
    default:
        gp_sim_break_qp(w->sim, &how);
    }
}

/* A rail dies, and later comes back; never the only one. Where it stays dead
 * nothing else happens: the rest must do. */
static unsigned
rail_trouble(world *w, const weather *r, unsigned dead)
{
    if (dead == ALL_UP) {
        dead = roll(r->rails);
        gp_sim_link(w->sim, dead, 1, false);
    } else if (!r->leaves) {
        gp_sim_link(w->sim, dead, 1, true);
        dead = ALL_UP;
    }
    return dead;
}

/* One direction of the run. */
typedef struct lane_of {
    side *from, *to;
    area out, in;
    size_t sent, words;
} lane_of;

/* Of data message n, as of a step's chunks: what may go by a cue. */
static gp_msg
header_of(const lane_of *l, size_t n, size_t bytes)
{
    gp_msg msg = data_msg(l->in.token, n * SLOT, bytes);

    msg.slot = (uint16_t)n;
    msg.chunk = n % CHUNKS;
    msg.step = n / CHUNKS;
    msg.cookie = n + 1;
    return msg;
}

static void
send_data(world *w, lane_of *l)
{
    size_t at = l->sent * SLOT, bytes = roll(8) ? SLOT : 1 + roll(SLOT);
    gp_msg msg = header_of(l, l->sent, bytes);

    fill_pattern(l->out.bytes + at, bytes, l->sent);
    post_from(w, &l->out, &msg, at, l->sent + 1);
    l->sent++;
}

static void
send_some(world *w, lane_of *l)
{
    gp_msg word = control_msg(l->words, roll(3) ? 0 : roll(5000));
    static uint8_t text[5000];

    if (l->sent < MESSAGES)
        send_data(w, l);
    if (l->words < MESSAGES && roll(2)) {
        post(&w->r, l->from, &word, text, 0);
        l->words++;
    }
    if (roll(4))
        flush(l->from);
}

/* It is what was posted, however it came. The transport may add a checksum. */
static void
judge_header(const lane_of *l, const gp_msg *msg)
{
    gp_msg posted = header_of(l, msg->offset / SLOT, (size_t)msg->payload);
    uint8_t a[GP_MSG_BYTES], b[GP_MSG_BYTES];

    posted.flags = msg->flags;
    posted.payload_crc = msg->payload_crc;
    gp_msg_encode(&posted, a);
    gp_msg_encode(msg, b);
    assert_memory_equal(a, b, sizeof(a));
}

static void
judge(const lane_of *l)
{
    unsigned times[MESSAGES] = {0};
    size_t words = 0, data = 0;

    for (size_t i = 0; i < l->to->count; i++) {
        const gp_event *event = &l->to->log[i].event;

        assert_int_not_equal(event->type, GP_EVENT_CLOSED);
        if (event->type != GP_EVENT_MESSAGE)
            continue;
        if (!event->msg.region) {
            assert_int_equal(event->msg.aux, words);
            words++;
            continue;
        }
        assert_int_equal(event->msg.offset % SLOT, 0);
        judge_header(l, &event->msg);
        times[event->msg.offset / SLOT]++;
        assert_pattern(l->in.bytes + event->msg.offset,
                       (size_t)event->msg.payload, event->msg.offset / SLOT);
        data++;
    }
    assert_int_equal(words, l->words);
    assert_int_equal(data, MESSAGES);
    for (size_t i = 0; i < MESSAGES; i++)
        assert_int_equal(times[i], 1);
    assert_int_equal(side_count(l->from, GP_EVENT_SENT), MESSAGES);
}

static bool
all_lanes_up(world *w)
{
    return lanes_up(w->r.a.ep) == w->r.a.ep->lane_count &&
           lanes_up(w->r.b.ep) == w->r.b.ep->lane_count;
}

/* A rail may be left for good only when there are others. */
static void
open_world(world *w, const weather *r)
{
    world_open(w, &r->options, r->settings);
    if (r->rails > 1)
        world_listen(w, "");
    rig_connect(&w->r);
    if (r->leaves)
        pump_until(w, all_lanes_up);
    side_forget(&w->r.a);
    side_forget(&w->r.b);
    w->r.ops->ep_trust(w->r.a.ep);
    w->r.ops->ep_trust(w->r.b.ep);
}

static void
send_all(world *w, const weather *r, lane_of way[2])
{
    size_t heard = 0;
    unsigned dead = ALL_UP;

    while (way[0].sent < MESSAGES || way[1].sent < MESSAGES) {
        if (r->rails > 1 && roll(12) == 0)
            dead = rail_trouble(w, r, dead);
        if (!r->leaves && roll(8) == 0)
            trouble(w, &heard);
        send_some(w, &way[roll(2)]);
        still_open(w);
        for (unsigned i = roll(6); i; i--)
            pump(&w->r);
    }
    if (dead != ALL_UP && !r->leaves)
        gp_sim_link(w->sim, dead, 1, true);
}

static void
run(uint64_t seed, bool rails)
{
    lane_of way[2];
    weather r;
    world w;

    throw_weather(&r, seed, rails);
    open_world(&w, &r);
    for (int i = 0; i < 2; i++) {
        way[i] =
            (lane_of){.from = i ? &w.r.b : &w.r.a, .to = i ? &w.r.a : &w.r.b};
        area_make(&w, &way[i].out, way[i].from, MESSAGES * SLOT);
        area_expose(&w, &way[i].in, way[i].to, MESSAGES * SLOT);
    }
    send_all(&w, &r, way);
    for (int i = 0; i < 2; i++) {
        flush(way[i].from);
        arrived(&w, way[i].to, MESSAGES + way[i].words);
        await(&w.r, way[i].from, GP_EVENT_SENT, MESSAGES);
    }
    settle(&w.r);
    judge(&way[0]);
    judge(&way[1]);
    if (strcmp(gp_config_get(w.r.config, "ib_notify"), "auto") == 0)
        cued += stats_of(&w).write_imms;
    world_close(&w);
}

static void
run_all(bool rails)
{
    cued = 0;
    gp_log_set_level(first_seed == last_seed ? GP_LOG_DEBUG : GP_LOG_NONE);
    for (uint64_t seed = first_seed; seed <= last_seed; seed++) {
        if (first_seed != 1 || last_seed != RUNS)
            print_message("seed %llu\n", (unsigned long long)seed);
        run(seed, rails);
    }
    if (last_seed - first_seed >= 15)
        assert_true(cued > 10);
    gp_log_set_level(GP_LOG_WARN);
}

static void
messages_survive_whatever_comes(void **state)
{
    (void)state;
    run_all(false);
}

static void
messages_survive_rails_that_die(void **state)
{
    (void)state;
    run_all(true);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_survive_whatever_comes),
        cmocka_unit_test(messages_survive_rails_that_die),
    };

    if (argc > 1)
        first_seed = last_seed = strtoull(argv[1], NULL, 10);
    if (argc > 2)
        last_seed = strtoull(argv[2], NULL, 10);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
