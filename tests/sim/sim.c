/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim.c - the fabric itself: its life, its objects, its violations, its turns.
 *
 * All randomness comes from one generator and all movement from sim_turn(), so
 * that in step mode the same calls give the same run.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/base.h"
#include "tests/sim/sim_int.h"

#define STEP_NS     10000u /* simulated time of a turn, in step mode */
#define IDLE_MS     1      /* how soon the thread looks at times again */
#define QUIET_TURNS 64     /* in a row, shuffled: nothing can move */

gp_sim *gp_sim_current;

static const char *const kind_names[GP_SIM_KINDS] = {
    [GP_SIM_CONTEXT] = "device context",
    [GP_SIM_PD] = "protection domain",
    [GP_SIM_MR] = "memory region",
    [GP_SIM_MW] = "memory window",
    [GP_SIM_COMP_CHANNEL] = "completion channel",
    [GP_SIM_CQ] = "completion queue",
    [GP_SIM_QP] = "queue pair",
    [GP_SIM_EVENT_CHANNEL] = "event channel",
    [GP_SIM_ID] = "id",
    [GP_SIM_CM_EVENT] = "unacknowledged connection event",
    [GP_SIM_CQ_EVENT] = "unacknowledged completion event",
    [GP_SIM_ASYNC_EVENT] = "unacknowledged async event",
};

const char *
gp_sim_kind_name(gp_sim_kind kind)
{
    return kind_names[kind];
}

void
sim_violate(gp_sim *s, const char *format, ...)
{
    va_list arguments;

    if (s->violations < SIM_VIOLATIONS) {
        va_start(arguments, format);
        vsnprintf(s->violation[s->violations], SIM_TEXT, format, arguments);
        va_end(arguments);
    }
    s->violations++;
}

/* xorshift64*: small, and the same everywhere. */
uint64_t
sim_random(gp_sim *s)
{
    s->random ^= s->random >> 12;
    s->random ^= s->random << 25;
    s->random ^= s->random >> 27;
    return s->random * 0x2545F4914F6CDD1Du >> 16;
}

bool
sim_chance(gp_sim *s, unsigned n)
{
    return !s->options.shuffle || sim_random(s) % n == 0;
}

uint64_t
sim_clock(gp_sim *s)
{
    return s->options.step ? s->clock : gp_clock_ns();
}

static size_t
bucket_of(const void *self)
{
    uint64_t key = (uint64_t)(uintptr_t)self >> 4;

    return (size_t)((key ^ key >> 10 ^ key >> 20) % SIM_BUCKETS);
}

void
sim_track(gp_sim *s, sim_object *o, gp_sim_kind kind, void *self)
{
    sim_object **bucket = &s->bucket[bucket_of(self)];

    o->kind = kind;
    o->self = self;
    o->next = *bucket;
    *bucket = o;
    o->prev_of_kind = NULL;
    o->next_of_kind = s->of_kind[kind];
    if (o->next_of_kind)
        o->next_of_kind->prev_of_kind = o;
    s->of_kind[kind] = o;
    if (o->internal)
        return;
    s->stats.live[kind]++;
    s->stats.created[kind]++;
}

void
sim_untrack(gp_sim *s, sim_object *o)
{
    sim_object **at = &s->bucket[bucket_of(o->self)];

    while (*at != o)
        at = &(*at)->next;
    *at = o->next;
    if (o->prev_of_kind)
        o->prev_of_kind->next_of_kind = o->next_of_kind;
    else
        s->of_kind[o->kind] = o->next_of_kind;
    if (o->next_of_kind)
        o->next_of_kind->prev_of_kind = o->prev_of_kind;
    if (!o->internal)
        s->stats.live[o->kind]--;
}

void *
sim_look(gp_sim *s, gp_sim_kind kind, const void *self)
{
    for (sim_object *o = s->bucket[bucket_of(self)]; o; o = o->next)
        if (o->self == self && o->kind == kind)
            return o->self;
    return NULL;
}

void *
sim_find(gp_sim *s, gp_sim_kind kind, const void *self, const char *who)
{
    void *found = sim_look(s, kind, self);

    if (found)
        return found;
    sim_violate(s, "%s: %p is no %s, or no longer", who, self,
                kind_names[kind]);
    return NULL;
}

void
sim_wake(gp_sim *s)
{
    if (s->idle)
        pthread_cond_signal(&s->work);
}

bool
sim_signal_open(sim_signal *signal)
{
    signal->count = 0;
    signal->fd = eventfd(0, EFD_CLOEXEC);
    return signal->fd >= 0;
}

void
sim_signal_close(sim_signal *signal)
{
    close(signal->fd);
    signal->fd = -1;
}

void
sim_signal_raise(sim_signal *signal)
{
    if (signal->count++ == 0 && eventfd_write(signal->fd, 1))
        signal->count = 0; /* the caller closed it: nobody will look */
}

void
sim_signal_lower(sim_signal *signal)
{
    eventfd_t value;

    if (signal->count && --signal->count == 0)
        (void)eventfd_read(signal->fd, &value);
}

static void
wait_readable(gp_sim *s, int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    pthread_mutex_unlock(&s->lock);
    (void)poll(&p, 1, -1);
    pthread_mutex_lock(&s->lock);
}

int
sim_would_block(gp_sim *s, int fd, const char *who)
{
    if (fcntl(fd, F_GETFL) & O_NONBLOCK)
        return EAGAIN;
    if (!s->options.blocking) {
        sim_violate(s,
                    "%s: nothing there and the descriptor is blocking: "
                    "this thread would hang",
                    who);
        return EAGAIN;
    }
    if (s->options.step)
        return gp_sim_current && sim_turn(s) ? 0 : EAGAIN;
    wait_readable(s, fd);
    return 0;
}

static size_t
turn_queue_pairs(gp_sim *s)
{
    size_t moved = 0;

    for (sim_object *o = s->of_kind[GP_SIM_QP]; o; o = o->next_of_kind)
        moved += sim_qp_turn(s, o->self);
    return moved;
}

size_t
sim_turn(gp_sim *s)
{
    size_t moved = 0;

    s->stats.turns++;
    s->clock += STEP_NS;
    if (sim_clock(s) < s->stalled_until)
        return s->options.step;
    moved += sim_tasks_turn(s);
    moved += turn_queue_pairs(s);
    if (moved || !s->options.late_acks)
        return moved;
    s->acking = true;
    moved = turn_queue_pairs(s);
    s->acking = false;
    return moved;
}

void
sim_step(gp_sim *s)
{
    if (s->options.step)
        (void)sim_turn(s);
}

/* Whether something is left to be moved, now or after a time. */
static bool
unfinished(gp_sim *s)
{
    if (s->first_task || s->stalled_until > sim_clock(s))
        return true;
    for (const sim_object *o = s->of_kind[GP_SIM_QP]; o; o = o->next_of_kind) {
        const sim_qp *qp = o->self;

        if (qp->state == IBV_QPS_ERR
                ? qp->sq_done < qp->sq_tail || qp->rq_done < qp->rq_tail
                : !qp->dead &&
                      (qp->sq_done < qp->sq_tail || qp->rq_done < qp->rq_exec))
            return true;
    }
    return false;
}

static void
sleep_until_work(gp_sim *s)
{
    struct timespec until;

    s->idle = true;
    if (unfinished(s)) {
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += IDLE_MS * 1000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&s->work, &s->lock, &until);
    } else {
        pthread_cond_wait(&s->work, &s->lock);
    }
    s->idle = false;
}

static void *
fabric_thread(void *argument)
{
    gp_sim *s = argument;
    int quiet = 0;

    pthread_mutex_lock(&s->lock);
    while (!s->ending) {
        quiet = sim_turn(s) ? 0 : quiet + 1;
        /* Shuffled, a turn may do nothing though something could move. */
        if (quiet > (s->options.shuffle ? QUIET_TURNS : 0)) {
            sleep_until_work(s);
            quiet = 0;
            continue;
        }
        /* Callers get their turn too: the mutex alone is not fair. */
        pthread_mutex_unlock(&s->lock);
        pthread_mutex_lock(&s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static void
default_options(gp_sim_options *o)
{
    if (!o->devices)
        o->devices = 1;
    if (!o->piece)
        o->piece = o->shuffle ? 1024 : 64 << 10;
    if (!o->retry_ns)
        o->retry_ns = 2000000;
    if (!o->unreachable_ns)
        o->unreachable_ns = 20000000;
}

static bool
start(gp_sim *s)
{
    pthread_condattr_t attributes;

    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&s->work, &attributes);
    pthread_condattr_destroy(&attributes);
    return s->options.step ||
           !pthread_create(&s->thread, NULL, fabric_thread, s);
}

gp_sim *
gp_sim_open(const gp_sim_options *options)
{
    gp_sim *s;

    if (gp_sim_current)
        return NULL;
    s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    if (options)
        s->options = *options;
    default_options(&s->options);
    s->random = s->options.seed * 0x9E3779B97F4A7C15u + 0x1234567;
    s->next_port = (uint16_t)(20000 + sim_random(s) % 20000);
    sim_api_fill(&s->api);
    if (!sim_devices_open(s)) {
        free(s);
        return NULL;
    }
    gp_sim_current = s;
    if (start(s))
        return s;
    s->options.step = true; /* there is no thread to end */
    gp_sim_close(s);
    return NULL;
}

static void
free_events(gp_sim *s)
{
    sim_object *next;

    for (sim_object *o = s->of_kind[GP_SIM_CM_EVENT]; o; o = next) {
        next = o->next_of_kind;
        sim_event_free(o->self);
    }
    for (sim_object *o = s->of_kind[GP_SIM_EVENT_CHANNEL]; o; o = next) {
        sim_channel *channel = o->self;

        next = o->next_of_kind;
        while (channel->first) {
            sim_event *event = channel->first;

            channel->first = event->next;
            sim_event_free(event);
        }
        sim_signal_close(&channel->ready);
        free(channel);
    }
    while (s->first_task) {
        sim_task *task = s->first_task;

        s->first_task = task->next;
        free(task);
    }
}

static void
free_leaked(gp_sim *s)
{
    sim_object *next;

    for (int kind = GP_SIM_PD; kind <= GP_SIM_ID; kind++) {
        if (kind == GP_SIM_EVENT_CHANNEL)
            continue;
        for (sim_object *o = s->of_kind[kind]; o; o = next) {
            next = o->next_of_kind;
            if (kind == GP_SIM_COMP_CHANNEL)
                sim_signal_close(&((sim_comp_channel *)o->self)->ready);
            if (kind == GP_SIM_CQ)
                free(((sim_cq *)o->self)->ring);
            if (kind == GP_SIM_QP) {
                free(((sim_qp *)o->self)->sq);
                free(((sim_qp *)o->self)->rq);
                free(((sim_qp *)o->self)->inline_bytes);
            }
            if (kind == GP_SIM_MR)
                sim_mr_free(s, o->self);
            else
                free(o->self);
        }
    }
}

void
gp_sim_close(gp_sim *s)
{
    if (!s)
        return;
    if (!s->options.step) {
        pthread_mutex_lock(&s->lock);
        s->ending = true;
        pthread_cond_signal(&s->work);
        pthread_mutex_unlock(&s->lock);
        pthread_join(s->thread, NULL);
    }
    sim_devices_close(s); /* first: contexts leave the lists of all */
    free_events(s);
    free_leaked(s);
    pthread_cond_destroy(&s->work);
    pthread_mutex_destroy(&s->lock);
    gp_sim_current = NULL;
    free(s);
}

const gp_verbs_api *
gp_sim_api(gp_sim *s)
{
    return &s->api;
}

size_t
gp_sim_leaks(gp_sim *s, char *text, size_t capacity)
{
    size_t total = 0, length = 0;

    if (text && capacity)
        *text = '\0';
    pthread_mutex_lock(&s->lock);
    for (int i = 0; i < GP_SIM_KINDS; i++) {
        size_t n = s->stats.live[i];
        int put;

        total += n;
        if (!n || !text || length >= capacity)
            continue;
        put = snprintf(text + length, capacity - length, "%s%zu %s%s",
                       length ? ", " : "", n, kind_names[i], n > 1 ? "s" : "");
        length += put > 0 ? (size_t)put : 0;
    }
    pthread_mutex_unlock(&s->lock);
    return total;
}

size_t
gp_sim_violations(gp_sim *s, char *text, size_t capacity)
{
    size_t total, length = 0;

    if (text && capacity)
        *text = '\0';
    pthread_mutex_lock(&s->lock);
    total = s->violations;
    for (size_t i = 0; i < GP_MIN(total, SIM_VIOLATIONS); i++) {
        int put;

        if (!text || length >= capacity)
            break;
        put =
            snprintf(text + length, capacity - length, "%s\n", s->violation[i]);
        length += put > 0 ? (size_t)put : 0;
    }
    pthread_mutex_unlock(&s->lock);
    return total;
}

size_t
gp_sim_forgive(gp_sim *s)
{
    size_t total;

    pthread_mutex_lock(&s->lock);
    total = s->violations;
    s->violations = 0;
    pthread_mutex_unlock(&s->lock);
    return total;
}

size_t
gp_sim_finish(gp_sim *s)
{
    char text[SIM_VIOLATIONS * SIM_TEXT];
    size_t bad = gp_sim_violations(s, text, sizeof(text)), leaked;

    if (bad)
        fprintf(stderr, "%zu violations in the fabric:\n%s", bad, text);
    leaked = gp_sim_leaks(s, text, sizeof(text));
    if (leaked)
        fprintf(stderr, "leaked in the fabric: %s\n", text);
    gp_sim_close(s);
    return bad + leaked;
}

gp_sim_stats
gp_sim_stats_now(gp_sim *s)
{
    gp_sim_stats stats;

    pthread_mutex_lock(&s->lock);
    stats = s->stats;
    pthread_mutex_unlock(&s->lock);
    return stats;
}

static bool
process_in(const gp_sim *s, const struct ibv_pd *pd, unsigned process)
{
    for (const sim_object *o = s->of_kind[GP_SIM_QP]; o; o = o->next_of_kind) {
        const sim_qp *qp = o->self;

        if (qp->v.pd == pd && qp->process == process)
            return true;
    }
    return false;
}

size_t
gp_sim_regions(gp_sim *s, unsigned process)
{
    size_t count = 0;

    pthread_mutex_lock(&s->lock);
    for (sim_object *o = s->of_kind[GP_SIM_MR]; o; o = o->next_of_kind)
        count += process_in(s, ((sim_mr *)o->self)->v.pd, process);
    pthread_mutex_unlock(&s->lock);
    return count;
}

bool
gp_sim_busy(gp_sim *s)
{
    bool busy;

    pthread_mutex_lock(&s->lock);
    busy = unfinished(s);
    pthread_mutex_unlock(&s->lock);
    return busy;
}

size_t
gp_sim_turn(gp_sim *s)
{
    size_t moved;

    pthread_mutex_lock(&s->lock);
    moved = sim_turn(s);
    pthread_mutex_unlock(&s->lock);
    return moved;
}

size_t
gp_sim_settle(gp_sim *s)
{
    size_t turns = 0;
    int quiet = 0;

    pthread_mutex_lock(&s->lock);
    /* Shuffled, a turn may do nothing though something could move. */
    while (quiet < QUIET_TURNS) {
        quiet = sim_turn(s) ? 0 : quiet + 1;
        turns++;
    }
    pthread_mutex_unlock(&s->lock);
    return turns;
}

unsigned
gp_sim_processes(gp_sim *s)
{
    unsigned n;

    pthread_mutex_lock(&s->lock);
    n = s->processes;
    pthread_mutex_unlock(&s->lock);
    return n;
}
