/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_mode_schedules.c - what modes promise, over many random schedules.
 *
 * Workers that speak the protocol by hand push in a random order, are slow or
 * fast, repeat themselves, pull in between, rest and leave. Worker r pushes -1
 * at element r, and the shard's updater is sgd with lr=1: so element r of every
 * result says how many pushes of worker r are in it, and each result tells how
 * stale it is. One thread plays all workers, so it knows what was sent before.
 *
 * GP_SEED begins elsewhere, GP_SCHEDULES runs more of them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sched.h>

#include <cmocka.h>

#include "job_raw.h"
#include "tests/rounds.h"

#define WORKERS   5
#define TOTAL     7 /* the element at which everybody pushes -1 */
#define DEADLINE  120.0
#define SCHEDULES GP_ROUNDS(50, 20)
#define PAYLOADS  64

enum kind { ASYNC, SSP, DROP, CARRY };

typedef struct player {
    uint32_t pushed, target;
    uint32_t pace; /* how rarely it is its turn */
    uint64_t cookie, version, free;
    float seen[RAW_COUNT];
    bool busy, wants; /* for what it waits: a result, else an ACK */
    bool pulls;       /* ... of a pull */
    bool blind;       /* it has pushed since it last saw a result */
    bool repeated, rests, gone;
} player;

typedef struct game {
    job j;
    raw w[WORKERS];
    player p[WORKERS];
    enum kind kind;
    uint32_t workers, bound; /* K or b */
    uint32_t random, seed;
    uint64_t cookies;
    bool partial; /* somebody has stopped: steps may be smaller */
    float payload[PAYLOADS][RAW_COUNT];
    uint32_t payloads;
    uint32_t checked, held;
} game;

static void
name_mode(const game *g, char *out, size_t capacity)
{
    if (g->kind == ASYNC)
        snprintf(out, capacity, "async");
    else if (g->kind == SSP)
        snprintf(out, capacity, "ssp:%u", g->bound);
    else
        snprintf(out, capacity, "sync:N-%u,late=%s", g->bound,
                 g->kind == DROP ? "drop" : "carry");
}

#define demand(g, condition)                                                \
    do {                                                                    \
        if (!(condition)) {                                                 \
            char mode_[64];                                                 \
                                                                            \
            name_mode(g, mode_, sizeof(mode_));                             \
            fail_msg("%s, %u workers, GP_SEED=%u: %s", mode_, (g)->workers, \
                     (g)->seed, #condition);                                \
        }                                                                   \
    } while (0)

static void
open_game(game *g, const char *transport)
{
    static char mode[64];

    g->j = (job){.transport = transport, .workers = g->workers, .shards = 1};
    name_mode(g, mode, sizeof(mode));
    job_start_servers(&g->j);
    for (uint32_t r = 0; r < g->workers; r++) {
        raw *w = &g->w[r];

        raw_connect(w, transport, g->j.servers, r, g->workers);
        w->updater = "sgd:lr=1,momentum=0,nesterov=0,weight_decay=0";
        w->mode = mode;
        raw_join(w);
    }
    for (uint32_t r = 0; r < g->workers; r++) {
        raw_expect(&g->w[r], GP_MSG_START);
        raw_register(&g->w[r]);
        g->p[r].free = UINT64_MAX >> (64 - g->w[r].grant.slots);
    }
}

static void
close_game(game *g)
{
    for (uint32_t r = 0; r < g->workers; r++)
        raw_close(&g->w[r]);
    job_stop_servers(&g->j);
    if (g->j.server_status != GP_OK)
        fail_msg("GP_SEED=%u: %s", g->seed, g->j.server_message);
}

/* One landing slot, or false. */
static bool
take_slot(game *g, uint32_t r, uint16_t *out)
{
    player *p = &g->p[r];

    p->free |= g->w[r].credits;
    g->w[r].credits = 0;
    if (p->free == 0)
        return false;
    *out = (uint16_t)__builtin_ctzll(p->free);
    p->free &= p->free - 1;
    return true;
}

static bool
push(game *g, uint32_t r, uint64_t step, bool want, uint64_t cookie)
{
    float *values = g->payload[g->payloads++ % PAYLOADS];
    uint16_t slot;
    gp_msg msg;

    if (!take_slot(g, r, &slot))
        return false;
    memset(values, 0, sizeof(g->payload[0]));
    values[r] = values[TOTAL] = -1;
    msg = raw_push(&g->w[r], slot, step, want);
    msg.cookie = cookie;
    raw_send(&g->w[r], &msg, values);
    return true;
}

static void
pull(game *g, uint32_t r, uint64_t cookie)
{
    raw *w = &g->w[r];
    gp_msg msg = {.type = GP_MSG_PULL,
                  .worker = r,
                  .step = g->p[r].pushed,
                  .dtype = GP_FP32,
                  .cookie = cookie,
                  .aux = gp_destination(w->token, 0)};

    raw_send(w, &msg, NULL);
}

static void
begin(game *g, uint32_t r)
{
    player *p = &g->p[r];
    uint32_t what = job_random(&g->random) % 8;

    /* A copy that was not answered yet must not be overtaken by a pull. */
    p->pulls = what == 0 && !p->repeated;
    p->wants = what != 1;
    p->cookie = ++g->cookies;
    if (p->pulls)
        pull(g, r, p->cookie);
    else if (!push(g, r, p->pushed, p->wants, p->cookie))
        return;
    p->pushed += !p->pulls;
    p->blind |= !p->pulls && !p->wants;
    p->busy = true;
    p->repeated = p->rests = false;
}

/* How many pushes of each are in it. */
static void
check_updates(game *g, uint32_t r, const float *now)
{
    player *p = &g->p[r];
    float sum = 0;

    demand(g, now[r] == (float)p->pushed);
    for (uint32_t q = 0; q < g->workers; q++) {
        const player *other = &g->p[q];

        sum += now[q];
        demand(g, now[q] == (float)(int)now[q]);
        demand(g, now[q] <= (float)other->pushed);
        if (g->kind == SSP && !other->gone && !other->rests)
            demand(g, now[q] + (float)g->bound >= (float)p->pushed);
    }
    demand(g, sum == (float)g->w[r].last.step);
}

/* Each push is in one step at most, and in none only when it was late. */
static void
check_steps(game *g, uint32_t r, const float *now)
{
    player *p = &g->p[r];
    float parts = (float)(g->workers - g->bound);
    float count = now[r] * parts, before = p->seen[r] * parts;
    bool added = count == before + 1;

    if (g->partial || p->pulls || p->blind)
        return;
    demand(g, added || count == before);
    demand(g, g->kind == DROP || added);
    demand(g, added || g->w[r].last.step > p->version);
}

static void
check_result(game *g, uint32_t r)
{
    player *p = &g->p[r];
    float now[RAW_COUNT];

    memcpy(now, g->w[r].result, sizeof(now));
    demand(g, now[TOTAL] == (float)g->w[r].last.step);
    demand(g, g->w[r].last.step >= p->version);
    for (uint32_t q = 0; q < g->workers; q++)
        demand(g, now[q] >= p->seen[q]);
    if (g->kind == ASYNC || g->kind == SSP)
        check_updates(g, r, now);
    else if (p->wants)
        check_steps(g, r, now);
    p->version = g->w[r].last.step;
    p->blind = false;
    memcpy(p->seen, now, sizeof(now));
    g->checked++;
}

/* True when something came. */
static bool
listen_to(game *g, uint32_t r)
{
    player *p = &g->p[r];
    raw *w = &g->w[r];
    int type = raw_poll(w);

    if (type == -1 || type == GP_MSG_FAULT)
        fprintf(stderr, "worker %u: %s\n", r, w->text);
    demand(g, type != -1 && type != GP_MSG_FAULT);
    if (!p->busy || (type != GP_MSG_RESULT && type != GP_MSG_ACK) ||
        w->last.cookie != p->cookie)
        return type > 0;
    if (type == GP_MSG_RESULT) {
        demand(g, p->wants || p->pulls);
        check_result(g, r);
        p->busy = false;
    } else if (!p->wants && !p->pulls && w->last.status == GP_OK) {
        p->busy = false;
    }
    return true;
}

/* The same push again, which must change nothing. */
static void
repeat(game *g, uint32_t r)
{
    player *p = &g->p[r];

    if (!p->pulls && !p->repeated && job_random(&g->random) % 8 == 0)
        p->repeated = push(g, r, p->pushed - 1, false, ++g->cookies);
}

static void
say(game *g, uint32_t r, uint8_t type, uint64_t step)
{
    gp_msg msg = {.type = type, .worker = r, .step = step};

    raw_send(&g->w[r], &msg, NULL);
}

/* Some rest first, and leave when all have done their part. */
static void
finish(game *g, uint32_t r)
{
    player *p = &g->p[r];
    bool all = true;

    g->partial = true;
    for (uint32_t q = 0; q < g->workers; q++)
        all &= g->p[q].pushed == g->p[q].target && !g->p[q].busy;
    if (!p->rests && job_random(&g->random) % 2) {
        p->rests = true; /* copies of pushes count, so a number that holds */
        say(g, r, GP_MSG_REST, 1000000);
    } else if (!p->rests || all) {
        p->gone = true;
        say(g, r, GP_MSG_BYE, 0);
    }
}

static bool
turn(game *g, uint32_t r)
{
    player *p = &g->p[r];

    if (p->gone)
        return false;
    if (listen_to(g, r))
        return true;
    if (p->busy) {
        repeat(g, r);
        return false;
    }
    if (job_random(&g->random) % p->pace > 0)
        return true;
    if (p->pushed < p->target)
        begin(g, r);
    else
        finish(g, r);
    return true;
}

static bool
all_gone(const game *g)
{
    for (uint32_t r = 0; r < g->workers; r++)
        if (!g->p[r].gone)
            return false;
    return true;
}

static uint32_t
play(enum kind kind, uint32_t seed, const char *transport)
{
    static game g; /* payloads are read from where they lie */
    double deadline = job_seconds() + DEADLINE;

    g = (game){.kind = kind, .seed = seed, .random = seed * 2654435761u};
    g.workers = 2 + job_random(&g.random) % (WORKERS - 1);
    if (kind == SSP)
        g.bound = job_random(&g.random) % 4;
    else if (kind != ASYNC)
        g.bound = g.workers == 5   ? 1 + 2 * (job_random(&g.random) % 2)
                  : g.workers == 4 ? 2
                                   : 1;
    for (uint32_t r = 0; r < g.workers; r++) {
        g.p[r].target = 1 + job_random(&g.random) % 12;
        g.p[r].pace = 1 + job_random(&g.random) % 4 * 3;
    }
    open_game(&g, transport);
    while (!all_gone(&g)) {
        if (!turn(&g, job_random(&g.random) % g.workers))
            sched_yield();
        demand(&g, job_seconds() < deadline);
    }
    close_game(&g);
    return g.checked;
}

static void
run(enum kind kind)
{
    const char *first = getenv("GP_SEED"), *many = getenv("GP_SCHEDULES");
    uint32_t seed = first ? (uint32_t)strtoul(first, NULL, 10) : 1;
    uint32_t count = many ? (uint32_t)strtoul(many, NULL, 10) : SCHEDULES;
    uint32_t checked = 0;

    for (uint32_t i = 0; i < count; i++)
        checked += play(kind, seed + i, i % 16 == 15 ? "tcp" : "loop");
    printf("%u schedules from GP_SEED=%u, %u results checked\n", count, seed,
           checked);
    assert_true(checked > 0);
}

static void
async_updates_once(void **state)
{
    (void)state;
    run(ASYNC);
}

static void
ssp_is_never_too_stale(void **state)
{
    (void)state;
    run(SSP);
}

static void
late_pushes_are_dropped(void **state)
{
    (void)state;
    run(DROP);
}

static void
late_pushes_are_carried(void **state)
{
    (void)state;
    run(CARRY);
}

/* A second process with a rank that is there is turned away, and the job goes
 * on, though others wait for that rank. */
static void
a_second_of_a_rank_is_refused(void **state)
{
    static game g;
    raw twin;

    (void)state;
    g = (game){.kind = SSP, .workers = 2, .seed = 1, .random = 1};
    open_game(&g, "loop");
    g.p[0].pushed = 1;
    g.p[0].wants = g.p[0].busy = true;
    g.p[0].cookie = 5;
    assert_true(push(&g, 0, 0, true, 5));
    raw_connect(&twin, "loop", g.j.servers, 1, 2);
    {
        gp_hello hello = {
            .rank = 1, .size = 2, .shards = 1, .identity = "twin"};
        gp_msg msg = {.type = GP_MSG_HELLO, .worker = 1, .incarnation = 1};
        uint8_t bytes[GP_HELLO_BYTES_MAX];

        msg.payload = gp_hello_encode(&hello, bytes);
        raw_send(&twin, &msg, bytes);
    }
    raw_expect(&twin, GP_MSG_REFUSE);
    assert_non_null(strstr(twin.text, "rank 1 is taken"));
    raw_close(&twin);
    assert_true(push(&g, 1, 0, true, 6));
    raw_expect(&g.w[0], GP_MSG_RESULT);
    raw_expect(&g.w[1], GP_MSG_RESULT);
    assert_true(g.w[0].result[1] == 1 && g.w[1].result[0] == 1);
    say(&g, 0, GP_MSG_BYE, 0);
    say(&g, 1, GP_MSG_BYE, 0);
    close_game(&g);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(async_updates_once),
        cmocka_unit_test(ssp_is_never_too_stale),
        cmocka_unit_test(late_pushes_are_dropped),
        cmocka_unit_test(late_pushes_are_carried),
        cmocka_unit_test(a_second_of_a_rank_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
