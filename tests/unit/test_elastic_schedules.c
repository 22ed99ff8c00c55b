/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_elastic_schedules.c - what modes promise while workers die, leave and
 * come, over many random schedules.
 *
 * As in test_mode_schedules.c, worker r pushes -1 at element r and at TOTAL,
 * and the updater is sgd with lr=1. Where each push is an update of its own,
 * element r counts the pushes of rank r, of all its lives; what a life had not
 * been told of when it died may be in it or not, so there are bounds rather
 * than numbers. Where pushes make steps, results of one version are compared,
 * and the step between two versions must be a mean of one push each.
 *
 * Some hold the shard to read its parameters in two parts, between which others
 * push, and some die of it: the parts belong together all the same.
 *
 * In every third schedule the one that has the first parameters may die with
 * them: then whoever comes hears that there is nothing to go on from.
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

#include <math.h>
#include <sched.h>

#include <cmocka.h>

#include "job_raw.h"

#define WORKERS   5
#define TOTAL     7 /* the element at which everybody pushes -1 */
#define BORN      6 /* ... and the one that says who was the first */
#define DEADLINE  120.0
#define SCHEDULES 6
#define PATIENCE  5   /* times as many where nothing was read yet */
#define EVENTS    250 /* turns with churn */
#define PAYLOADS  64
#define VERSIONS  4096

enum kind { ASYNC, SSP, DROP, CARRY, SYNC, LOCAL, KINDS };
enum state {
    ABSENT,
    ASKING,
    HERE,
    HOLDING,
    PUSHING,
    PULLING,
    BEARING,
    READING
};

typedef struct bounds {
    uint64_t low, high;
} bounds;

typedef struct player {
    enum state state;
    uint32_t life, pace;
    uint64_t steps;     /* its next push */
    uint64_t confirmed; /* pushes of this life that it knows are applied */
    bounds before;      /* pushes of the rank in former lives that count */
    bounds ahead;       /* ssp: of its clock, before its own steps */
    uint64_t cookie, free, epoch;
    uint64_t turn;           /* when the request that is open began */
    uint64_t admitted;       /* since when it takes part */
    bool may_push;           /* in step: it has asked for this one */
    bool late;               /* it has not pulled yet */
    bool bears;              /* the first parameters are its */
    float total;             /* of the part that it has read, while it holds */
    uint64_t least[WORKERS]; /* of all, in the result that it waits for */
    float seen[RAW_COUNT];
} player;

typedef struct game {
    job j;
    raw w[WORKERS];
    player p[WORKERS];
    enum kind kind;
    uint32_t bound; /* K or b */
    uint32_t random, seed;
    uint64_t cookies, turns;
    bool born;            /* the first parameters are there */
    bool calm;            /* nobody dies or comes any more */
    bool early, orphaned; /* the first may die before that; and has */
    bool over;            /* ... which has ended the job */
    float payload[PAYLOADS][RAW_COUNT];
    uint32_t payloads;
    float version[VERSIONS][RAW_COUNT];
    bool known[VERSIONS];
    uint32_t checked, deaths, leaves, joins, reads;
} game;

static bool
in_step(const game *g)
{
    return g->kind == SYNC || g->kind == LOCAL;
}

static bool
counts_pushes(const game *g)
{
    return g->kind == ASYNC || g->kind == SSP;
}

static void
name_mode(const game *g, char *out, size_t capacity)
{
    static const char *const plain[KINDS] = {
        [ASYNC] = "async", [SYNC] = "sync", [LOCAL] = "local:4"};

    if (plain[g->kind])
        snprintf(out, capacity, "%s", plain[g->kind]);
    else if (g->kind == SSP)
        snprintf(out, capacity, "ssp:%u", g->bound);
    else
        snprintf(out, capacity, "sync:N-%u,late=%s", g->bound,
                 g->kind == DROP ? "drop" : "carry");
}

#define demand(g, condition)                                                 \
    do {                                                                     \
        if (!(condition)) {                                                  \
            char mode_[64];                                                  \
                                                                             \
            name_mode(g, mode_, sizeof(mode_));                              \
            fail_msg("%s, turn %llu, GP_SEED=%u: %s", mode_,                 \
                     (unsigned long long)(g)->turns, (g)->seed, #condition); \
        }                                                                    \
    } while (0)

static uint32_t
count_here(const game *g)
{
    uint32_t here = 0;

    for (uint32_t r = 0; r < WORKERS; r++)
        here += g->p[r].state != ABSENT;
    return here;
}

/* How often the rank's pushes are applied, of all its lives. */
static bounds
count_pushes(const player *p)
{
    return (bounds){p->before.low + p->confirmed, p->before.high + p->steps};
}

static void
say(game *g, uint32_t r, uint8_t type)
{
    gp_msg msg = {.type = type, .worker = r};

    raw_send(&g->w[r], &msg, NULL);
}

/* --- coming and going --- */

/* A clock as ssp compares it, of one that is there or was. */
static bounds
clock_of(const player *p)
{
    return (bounds){p->ahead.low + p->confirmed, p->ahead.high + p->steps};
}

/* The clock of one who joins begins at that of the slowest: no earlier than
 * anybody's, also of those whose death may not be known yet. */
static uint64_t
earliest_clock(const game *g)
{
    uint64_t least = UINT64_MAX;

    for (uint32_t r = 0; r < WORKERS; r++)
        least = GP_MIN(least, clock_of(&g->p[r]).low);
    return least;
}

/* ... and no later than that of any who was there all the time; if nobody was,
 * than the furthest's. */
static uint64_t
latest_clock(const game *g, const player *joiner)
{
    uint64_t least = UINT64_MAX, most = 0;

    for (uint32_t r = 0; r < WORKERS; r++) {
        const player *p = &g->p[r];
        uint64_t high = clock_of(p).high;

        if (p == joiner)
            continue;
        if (p->state != ABSENT && p->admitted && p->admitted < joiner->turn)
            least = GP_MIN(least, high);
        if (p->state == ABSENT || p->admitted)
            most = GP_MAX(most, high);
    }
    return GP_MIN(least, GP_MAX(most, joiner->before.high));
}

static void
come(game *g, uint32_t r)
{
    player *p = &g->p[r];
    raw *w = &g->w[r];
    static char mode[64];

    raw_connect(w, g->j.transport, g->j.servers, r, WORKERS);
    w->life = ++p->life;
    name_mode(g, mode, sizeof(mode));
    /* Of a later checkpoint than the others had. */
    w->first_step = in_step(g) || !g->born ? 0 : job_random(&g->random) % 9;
    w->updater = "sgd:lr=1,momentum=0,nesterov=0,weight_decay=0";
    w->mode = mode;
    raw_join(w);
    raw_register(w);
    p->free = UINT64_MAX >> (64 - w->grant.slots);
    p->epoch = 0;
    p->admitted = 0;
    p->may_push = p->late = false;
    p->state = ASKING;
    p->turn = g->turns;
    p->ahead.low = earliest_clock(g);
    p->ahead.high = UINT64_MAX / 2; /* until it is in */
    say(g, r, GP_MSG_MEMBERS);
    g->joins++;
}

static void
forget(game *g, uint32_t r)
{
    player *p = &g->p[r];
    bounds all = count_pushes(p), clock = clock_of(p);

    raw_close(&g->w[r]);
    p->state = ABSENT;
    p->before = all;
    p->ahead = p->admitted ? clock : (bounds){0, 0};
    p->steps = p->confirmed = 0;
}

static void
leave(game *g, uint32_t r, bool in_order)
{
    if (in_order)
        say(g, r, GP_MSG_BYE);
    forget(g, r);
    g->leaves += in_order;
    g->deaths += !in_order;
}

/* --- requests --- */

static void
send_push(game *g, uint32_t r, uint64_t step, uint8_t flags, uint64_t cookie)
{
    player *p = &g->p[r];
    float *values = g->payload[g->payloads++ % PAYLOADS];
    uint16_t slot;
    gp_msg msg;

    p->free |= g->w[r].credits;
    g->w[r].credits = 0;
    if (p->free == 0)
        return;
    slot = (uint16_t)__builtin_ctzll(p->free);
    p->free &= p->free - 1;
    memset(values, 0, sizeof(g->payload[0]));
    if (flags & GP_MSG_INIT)
        values[BORN] = 42;
    else
        values[r] = values[TOTAL] = -1;
    msg = raw_push(&g->w[r], slot, g->w[r].first_step + step,
                   !(flags & GP_MSG_INIT));
    msg.flags |= flags;
    msg.cookie = cookie;
    raw_send(&g->w[r], &msg, values);
}

static void
begin(game *g, uint32_t r, enum state what)
{
    player *p = &g->p[r];

    p->cookie = ++g->cookies;
    p->turn = g->turns;
    for (uint32_t q = 0; q < WORKERS; q++)
        p->least[q] = count_pushes(&g->p[q]).low;
    if (what == PUSHING) {
        if (!(p->free | g->w[r].credits))
            return;
        send_push(g, r, p->steps++, 0, p->cookie);
        p->may_push = false;
    } else if (what == BEARING) {
        send_push(g, r, 0, GP_MSG_INIT, p->cookie);
    } else {
        gp_msg msg = {.type = GP_MSG_PULL,
                      .worker = r,
                      .step = g->w[r].first_step + p->steps,
                      .dtype = GP_FP32,
                      .cookie = p->cookie,
                      .aux = gp_destination(g->w[r].token, 0)};

        raw_send(&g->w[r], &msg, NULL);
    }
    p->state = what;
}

static void
tell(game *g, uint32_t r, enum gp_rest what)
{
    gp_msg msg = {.type = GP_MSG_REST, .worker = r, .aux = what};

    raw_send(&g->w[r], &msg, NULL);
}

/* All that is counted by worker, or what that must add up to. */
static void
read_part(game *g, uint32_t r, bool first)
{
    player *p = &g->p[r];
    gp_msg msg = {.type = GP_MSG_RECALL,
                  .worker = r,
                  .dtype = GP_FP32,
                  .pipeline = GP_KEPT_PARAMETERS,
                  .elements = first ? WORKERS : 1,
                  .aux = first ? 0 : TOTAL};

    if (first) {
        p->total = -1;
        tell(g, r, GP_REST_HOLDS);
    }
    msg.cookie = p->cookie = ++g->cookies;
    raw_send(&g->w[r], &msg, NULL);
    p->state = READING;
}

/* --- what comes --- */

static void
take_members(game *g, uint32_t r)
{
    player *p = &g->p[r];
    gp_member_list list;
    bool in = false;

    demand(g, p->state == ASKING);
    job_check(gp_member_list_decode(g->w[r].payload, g->w[r].last.payload,
                                    WORKERS, &list));
    for (uint32_t i = 0; i < list.count; i++)
        in |= list.member[i].rank == r && list.member[i].incarnation == p->life;
    demand(g, in && list.epoch >= p->epoch);
    if (p->epoch == 0) {
        p->admitted = g->turns;
        p->late = list.epoch > 1;
        p->ahead.high = latest_clock(g, p);
    }
    p->state = HERE;
    p->may_push = true;
    p->bears = p->epoch == 0 && list.epoch == 1 && list.member[0].rank == r;
    p->epoch = list.epoch;
    free(list.member);
}

static void
check_updates(game *g, uint32_t r, const float *now)
{
    player *p = &g->p[r];
    float sum = 0;

    for (uint32_t q = 0; q < WORKERS; q++) {
        const player *other = &g->p[q];
        bounds all = count_pushes(other);
        uint64_t has = (uint64_t)now[q];

        sum += now[q];
        demand(g, now[q] == (float)has && has <= all.high);
        if (g->kind == SSP && q != r && other->admitted &&
            other->state != ABSENT && other->admitted < p->turn &&
            p->state == PUSHING)
            demand(g, has - other->before.low + other->ahead.high + g->bound >=
                          p->steps + p->ahead.low);
    }
    demand(g, sum == (float)g->w[r].last.step);
    /* From here on it is known what became of its former lives' pushes. */
    p->before.low = p->before.high = (uint64_t)now[r] - p->steps;
}

/* From one version to the next: a mean with each push in it once. */
static void
check_step(game *g, uint64_t from, uint32_t pusher)
{
    const float *a = g->version[from], *b = g->version[from + 1];
    uint32_t count = 0;

    for (uint32_t q = 0; q < WORKERS; q++)
        count += b[q] != a[q];
    demand(g, count > 0);
    for (uint32_t q = 0; q < WORKERS; q++)
        demand(g, b[q] == a[q] ||
                      fabsf(b[q] - a[q] - 1.0f / (float)count) < 1e-3f);
    demand(g, pusher == WORKERS || b[pusher] != a[pusher]);
}

static void
check_steps(game *g, uint32_t r, const float *now)
{
    player *p = &g->p[r];
    uint64_t v = g->w[r].last.step;
    bool pushed = p->state == PUSHING && in_step(g);

    demand(g, v < VERSIONS && (!pushed || v == p->steps));
    if (g->known[v])
        demand(g, memcmp(g->version[v], now, sizeof(g->version[v])) == 0);
    memcpy(g->version[v], now, sizeof(g->version[v]));
    g->known[v] = true;
    if (v > 0 && g->known[v - 1])
        check_step(g, v - 1, pushed ? r : WORKERS);
    if (in_step(g) && p->late)
        p->steps = v;
}

static void
check_result(game *g, uint32_t r)
{
    player *p = &g->p[r];
    float now[RAW_COUNT];

    memcpy(now, g->w[r].result, sizeof(now));
    demand(g, now[BORN] == 42);
    g->born = true;
    demand(g, fabsf(now[TOTAL] - (float)g->w[r].last.step) < 1e-2f);
    for (uint32_t q = 0; q < WORKERS; q++) {
        demand(g, now[q] >= p->seen[q]);
        if (counts_pushes(g))
            demand(g, now[q] >= (float)p->least[q]);
    }
    if (counts_pushes(g))
        check_updates(g, r, now);
    else
        check_steps(g, r, now);
    p->confirmed = p->steps;
    p->late = false;
    memcpy(p->seen, now, sizeof(now));
    g->checked++;
}

static void
check_part(game *g, uint32_t r)
{
    player *p = &g->p[r];
    const raw *w = &g->w[r];
    float part[WORKERS], sum = 0;
    bool first = p->total < 0;
    uint32_t count = first ? WORKERS : 1;

    demand(g,
           w->last.status == GP_OK && w->last.payload == count * sizeof(float));
    memcpy(part, w->payload, count * sizeof(float));
    for (uint32_t i = 0; i < count; i++)
        sum += part[i];
    p->state = first ? HOLDING : HERE;
    if (first) {
        p->total = sum;
        return;
    }
    demand(g,
           counts_pushes(g) ? p->total == sum : fabsf(p->total - sum) < 1e-2f);
    tell(g, r, GP_REST_FREES);
    g->reads++;
}

/* True when something came. */
static bool
listen_to(game *g, uint32_t r)
{
    player *p = &g->p[r];
    raw *w = &g->w[r];
    int type = raw_poll(w);

    if (type == GP_MSG_FAULT && g->orphaned && !g->born) {
        demand(g, strstr(w->text, "start the job anew"));
        g->over = true;
        return true;
    }
    if (type == -1 || type == GP_MSG_FAULT)
        fprintf(stderr, "worker %u: %s\n", r, w->text);
    demand(g, type != -1 && type != GP_MSG_FAULT);
    if (type == GP_MSG_MEMBERS)
        take_members(g, r);
    if (p->state < PUSHING || w->last.cookie != p->cookie)
        return type > 0;
    if (type == GP_MSG_KEPT) {
        check_part(g, r);
        return true;
    }
    if (type == GP_MSG_RESULT)
        check_result(g, r);
    else if (type == GP_MSG_ACK && p->state == BEARING)
        g->born = true;
    else
        return type > 0;
    p->state = HERE;
    return true;
}

/* --- turns --- */

static void
act(game *g, uint32_t r)
{
    player *p = &g->p[r];
    uint32_t what = job_random(&g->random) % 8;

    if (p->bears) {
        p->bears = what % 4 != 0;
        if (!p->bears)
            begin(g, r, BEARING);
    } else if (p->late || what == 0) {
        begin(g, r, PULLING);
    } else if (in_step(g) ? !p->may_push : what == 1) {
        p->state = ASKING;
        say(g, r, GP_MSG_MEMBERS);
    } else if (!in_step(g) && what == 2 && g->born) {
        read_part(g, r, true);
    } else {
        begin(g, r, PUSHING);
    }
}

/* Something that happens to it, rather than what it does. */
static bool
disturb(game *g, uint32_t r)
{
    player *p = &g->p[r];
    uint32_t what = job_random(&g->random) % 40;

    if (p->state == ABSENT) {
        /* Whoever is there hears of it; others would find a job that failed. */
        bool ends = g->orphaned && !g->born && count_here(g) > 0;

        if (!g->calm && !ends && what < 10)
            come(g, r);
        return true;
    }
    if (!g->born && g->early && (p->bears || p->state == BEARING) &&
        what < 10) {
        g->orphaned = true;
        leave(g, r, false);
        return true;
    }
    if (!g->born || g->calm)
        return false;
    if (what == 0)
        leave(g, r, false);
    else if (what == 1 && p->state == HERE && count_here(g) > 1)
        leave(g, r, true);
    return p->state == ABSENT;
}

/* When it is over: one more look at what is there, and goodbye. */
static void
finish(game *g, uint32_t r)
{
    player *p = &g->p[r];

    if (p->turn <= EVENTS || p->late)
        begin(g, r, PULLING);
    else
        leave(g, r, true);
}

static void
turn(game *g, uint32_t r)
{
    player *p = &g->p[r];

    g->turns++;
    if (disturb(g, r) || listen_to(g, r))
        return;
    if (p->state == HOLDING && job_random(&g->random) % 4 == 0)
        read_part(g, r, false);
    else if (p->state != HERE)
        sched_yield();
    else if (job_random(&g->random) % p->pace == 0 && g->calm)
        finish(g, r);
    else if (job_random(&g->random) % p->pace == 0)
        act(g, r);
}

static uint32_t
play(enum kind kind, uint32_t seed, const char *transport, game *g)
{
    double deadline = job_seconds() + DEADLINE;

    memset(g, 0, sizeof(*g));
    g->kind = kind;
    g->seed = seed;
    g->random = seed * 2654435761u;
    g->early = seed % 3 == 0;
    g->bound = kind == SSP ? job_random(&g->random) % 4
                           : 1 + job_random(&g->random) % 2;
    g->j = (job){.transport = transport,
                 .workers = WORKERS,
                 .shards = 1,
                 .settings = {"elastic", "on", "log", "none"}};
    for (uint32_t r = 0; r < WORKERS; r++)
        g->p[r].pace = 1 + job_random(&g->random) % 4 * 3;
    job_start_servers(&g->j);
    while (!g->over && (!g->calm || count_here(g) > 0)) {
        g->calm = g->born && g->turns > EVENTS && count_here(g) > 0;
        turn(g, job_random(&g->random) % WORKERS);
        demand(g, job_seconds() < deadline);
    }
    for (uint32_t r = 0; r < WORKERS; r++)
        if (g->p[r].state != ABSENT)
            raw_close(&g->w[r]);
    job_stop_servers(&g->j);
    demand(g, g->j.server_status == (g->over ? GP_ERR_PEER_LOST : GP_OK));
    return g->checked;
}

static void
run(enum kind kind)
{
    static game g; /* payloads are read from where they lie */
    const char *first = getenv("GP_SEED"), *many = getenv("GP_SCHEDULES");
    uint32_t seed = first ? (uint32_t)strtoul(first, NULL, 10) : 1;
    uint32_t count = many ? (uint32_t)strtoul(many, NULL, 10) : SCHEDULES;
    uint32_t checked = 0, deaths = 0, joins = 0, leaves = 0, reads = 0,
             over = 0, i = 0;

    /* Which of them reads at the right moment threads decide, too. */
    for (; i < count || (kind != SYNC && kind != LOCAL && !many && !reads &&
                         i < PATIENCE * count);
         i++) {
        checked += play(kind, seed + i, i % 8 == 7 ? "tcp" : "loop", &g);
        deaths += g.deaths;
        joins += g.joins;
        leaves += g.leaves;
        reads += g.reads;
        over += g.over;
    }
    printf("%u schedules from GP_SEED=%u: %u died, %u left, %u came, %u "
           "results checked, read %u times, %u ended unborn\n",
           i, seed, deaths, leaves, joins, checked, reads, over);
    assert_true(checked > 0 && joins > 0);
    assert_true(kind == SYNC || kind == LOCAL || reads > 0);
}

static void
async_goes_on(void **state)
{
    (void)state;
    run(ASYNC);
}

static void
ssp_goes_on(void **state)
{
    (void)state;
    run(SSP);
}

static void
backups_that_drop_go_on(void **state)
{
    (void)state;
    run(DROP);
}

static void
backups_that_carry_go_on(void **state)
{
    (void)state;
    run(CARRY);
}

static void
sync_goes_on(void **state)
{
    (void)state;
    run(SYNC);
}

static void
local_goes_on(void **state)
{
    (void)state;
    run(LOCAL);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(async_goes_on),
        cmocka_unit_test(ssp_goes_on),
        cmocka_unit_test(backups_that_drop_go_on),
        cmocka_unit_test(backups_that_carry_go_on),
        cmocka_unit_test(sync_goes_on),
        cmocka_unit_test(local_goes_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
