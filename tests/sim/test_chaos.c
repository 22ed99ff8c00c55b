/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_chaos.c - runs with a random fabric, random settings and random faults
 * that a connection survives: queue pairs break on either side, with the last
 * request delivered or not, lists are posted by half, calls fail. Whatever the
 * seed, each message arrives once, whole, and control messages in order.
 *
 * The seeds are 1 to RUNS; a number as argument runs that one alone, two
 * numbers all between them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/sim/world.h"

#define RUNS     60
#define KIB      1024u
#define MESSAGES 40
#define SLOT     (12 * KIB)

static uint64_t first_seed = 1, last_seed = RUNS;
static uint64_t dice;

static unsigned
roll(unsigned sides)
{
    dice = dice * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(dice >> 33) % sides;
}

typedef struct weather {
    gp_sim_device device;
    gp_sim_options options;
    const char *settings[24];
    int count;
} weather;

static void
set(weather *r, const char *name, const char *value)
{
    r->settings[r->count++] = name;
    r->settings[r->count++] = value;
    r->settings[r->count] = NULL;
}

static void
throw_weather(weather *r, uint64_t seed)
{
    static const char *const lanes[] = {"1", "2", "3", "5"};
    static const char *const notify[] = {"send", "imm", "auto"};
    static const char *const queue[] = {"32", "64", "256"};
    static const char *const frames[] = {"16", "64"};
    static const char *const piece[] = {"4K", "16K", "1M"};
    static const char *const eager[] = {"0", "256", "2K"};
    static const char *const windows[] = {"auto", "off"};

    memset(r, 0, sizeof(*r));
    dice = seed * 977;
    r->device = (gp_sim_device){.iwarp = roll(6) == 0,
                                .no_windows = roll(3) == 0,
                                .inline_max = roll(2) ? 0 : 1 + roll(300),
                                .max_cqe = roll(3) ? 0 : 1500};
    r->options = (gp_sim_options){.seed = seed,
                                  .device = &r->device,
                                  .devices = 1,
                                  .step = true,
                                  .shuffle = roll(4) != 0,
                                  .piece = roll(2) ? 0 : 100 + roll(5000),
                                  .late_acks = roll(2),
                                  .late_established = roll(2),
                                  .clean_cq = roll(2),
                                  .timewait = roll(2),
                                  .grant_more = roll(2)};
    set(r, "ib_qps", lanes[roll(4)]);
    set(r, "ib_notify", notify[roll(3)]);
    set(r, "ib_queue", queue[roll(3)]);
    set(r, "ib_frames", frames[roll(2)]);
    set(r, "ib_piece", piece[roll(3)]);
    set(r, "ib_eager", eager[roll(3)]);
    set(r, "ib_windows", windows[roll(2)]);
    set(r, "ib_domains", roll(2) ? "peer" : "shared");
    set(r, "checksum", roll(2) ? "on" : "off");
    set(r, "ib_reconnect", "20s");
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

/* One direction of the run. */
typedef struct lane_of {
    side *from, *to;
    area out, in;
    size_t sent, words;
} lane_of;

static void
send_some(world *w, lane_of *l)
{
    gp_msg word = control_msg(l->words, roll(3) ? 0 : roll(5000));
    static uint8_t text[5000];

    if (l->sent < MESSAGES) {
        size_t at = l->sent * SLOT, bytes = 1 + roll(SLOT);

        fill_pattern(l->out.bytes + at, bytes, l->sent);
        push_quietly(w, &l->out, &l->in, at, bytes, l->sent + 1);
        l->sent++;
    }
    if (l->words < MESSAGES && roll(2)) {
        post(&w->r, l->from, &word, text, 0);
        l->words++;
    }
    if (roll(3))
        flush(l->from);
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

static void
run(uint64_t seed)
{
    size_t heard = 0;
    lane_of way[2];
    weather r;
    world w;

    throw_weather(&r, seed);
    world_connected(&w, &r.options, r.settings);
    w.r.ops->ep_trust(w.r.a.ep);
    w.r.ops->ep_trust(w.r.b.ep);
    for (int i = 0; i < 2; i++) {
        way[i] =
            (lane_of){.from = i ? &w.r.b : &w.r.a, .to = i ? &w.r.a : &w.r.b};
        area_make(&w, &way[i].out, way[i].from, MESSAGES * SLOT);
        area_expose(&w, &way[i].in, way[i].to, MESSAGES * SLOT);
    }
    while (way[0].sent < MESSAGES || way[1].sent < MESSAGES) {
        if (roll(8) == 0)
            trouble(&w, &heard);
        send_some(&w, &way[roll(2)]);
        for (unsigned i = roll(6); i; i--)
            pump(&w.r);
    }
    for (int i = 0; i < 2; i++) {
        flush(way[i].from);
        arrived(&w, way[i].to, MESSAGES + way[i].words);
        await(&w.r, way[i].from, GP_EVENT_SENT, MESSAGES);
    }
    settle(&w.r);
    judge(&way[0]);
    judge(&way[1]);
    world_close(&w);
}

static void
messages_survive_whatever_comes(void **state)
{
    (void)state;
    gp_log_set_level(GP_LOG_NONE);
    for (uint64_t seed = first_seed; seed <= last_seed; seed++) {
        if (first_seed != 1 || last_seed != RUNS)
            print_message("seed %llu\n", (unsigned long long)seed);
        run(seed);
    }
    gp_log_set_level(GP_LOG_WARN);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_survive_whatever_comes),
    };

    if (argc > 1)
        first_seed = last_seed = strtoull(argv[1], NULL, 10);
    if (argc > 2)
        last_seed = strtoull(argv[2], NULL, 10);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
