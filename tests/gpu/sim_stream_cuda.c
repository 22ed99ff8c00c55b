/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_stream_cuda.c - streams of the simulated driver: each a thread that does
 * its work in order, and after the call that queued it has returned.
 */
#include "tests/gpu/sim_stream_cuda.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"
#include "tests/gpu/sim_cuda.h"

pthread_mutex_t sim_lock = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t sim_changed = PTHREAD_COND_INITIALIZER;
sim_stream sim_usual;
uint32_t sim_captures, sim_captured, sim_waits;

/* Of threads; one that has ended leaves its stream behind. */
#define OWN 64
static sim_stream own[OWN];
static uint32_t owners;
static _Thread_local sim_stream *mine;
uint32_t sim_delay_us;

static void
kernel_run(sim_work *w)
{
    gp_emulate(w->kernel, w->grid, w->threads, w->shared, w->args);
}

/* Work that has been queued and is not done, on any stream. */
static uint64_t pending;

/* With the lock held: whether the default stream and those of threads let each
 * other go on. */
static bool
in_turn(const sim_stream *s, const sim_work *w)
{
    if (s >= own && s < own + OWN)
        return !sim_usual.first || sim_usual.first->number > w->number;
    for (uint32_t i = 0; s == &sim_usual && i < OWN; i++)
        if (own[i].first && own[i].first->number < w->number)
            return false;
    return true;
}

/* Likewise: whether work that waits may go on. */
static bool
due(const sim_stream *s, const sim_work *w)
{
    if (!in_turn(s, w))
        return false;
    if (w->kind == WORK_WAIT_EVENT)
        return w->event->done >= w->place;
    if (w->kind == WORK_WAIT_VALUE)
        return (int32_t)(__atomic_load_n((const uint32_t *)w->from,
                                         __ATOMIC_ACQUIRE) -
                         w->value) >= 0;
    return true;
}

static void
do_work(sim_work *w)
{
    if (sim_delay_us)
        usleep(sim_delay_us);
    if (w->kind == WORK_COPY)
        memmove(w->to, w->from, w->bytes);
    else if (w->kind == WORK_FILL)
        memset(w->to, (int)w->value, w->bytes);
    else if (w->kind == WORK_KERNEL)
        kernel_run(w);
    else if (w->kind == WORK_CALL)
        w->call(w->to);
}

/* A number in memory changes without a call, so this looks often. */
static void
wait_briefly(void)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 200000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_cond_timedwait(&sim_changed, &sim_lock, &until);
}

static void *
stream_main(void *argument)
{
    sim_stream *s = argument;

    pthread_mutex_lock(&sim_lock);
    while (s->first || !s->ending) {
        sim_work *w = s->first;

        if (!w) {
            pthread_cond_wait(&sim_changed, &sim_lock);
            continue;
        }
        if (!due(s, w)) {
            wait_briefly();
            continue;
        }
        s->busy = true;
        pthread_mutex_unlock(&sim_lock);
        do_work(w);
        pthread_mutex_lock(&sim_lock);
        if (w->kind == WORK_RECORD && w->event->done < w->place) {
            w->event->done = w->place;
            w->event->ms = (double)gp_clock_ns() / 1e6;
        }
        s->first = w->next;
        if (!s->first)
            s->last = &s->first;
        s->busy = false;
        pending--;
        sim_waits -= w->kind == WORK_WAIT_VALUE;
        if (w->event && --w->event->users == 0 && w->event->gone)
            free(w->event);
        free(w);
        pthread_cond_broadcast(&sim_changed);
    }
    pthread_mutex_unlock(&sim_lock);
    return NULL;
}

sim_stream *
sim_stream_of(CUstream handle)
{
    uintptr_t number = (uintptr_t)handle;

    if (number != 2)
        return number < 2 ? &sim_usual : (sim_stream *)handle;
    if (!mine)
        mine = &own[__atomic_fetch_add(&owners, 1, __ATOMIC_RELAXED) % OWN];
    return mine;
}

bool
sim_own_captures(void)
{
    for (uint32_t i = 0; i < OWN; i++)
        if (own[i].capturing)
            return true;
    return false;
}

void
sim_stream_start(sim_stream *s)
{
    s->last = &s->first;
    s->running = pthread_create(&s->thread, NULL, stream_main, s) == 0;
}

CUresult
sim_queue(CUstream handle, sim_work *w)
{
    static uint64_t numbers;
    sim_stream *s = sim_stream_of(handle);

    pthread_mutex_lock(&sim_lock);
    if (s->capturing) { /* what it is for later does not matter here */
        sim_captured++;
        if (w->kind == WORK_RECORD)
            w->event->done = w->place;
        pthread_mutex_unlock(&sim_lock);
        free(w);
        return CUDA_SUCCESS;
    }
    if (!s->running)
        sim_stream_start(s);
    w->number = ++numbers;
    w->next = NULL;
    if (w->event)
        w->event->users++;
    *s->last = w;
    s->last = &w->next;
    pending++;
    sim_waits += w->kind == WORK_WAIT_VALUE;
    pthread_cond_broadcast(&sim_changed);
    pthread_mutex_unlock(&sim_lock);
    return CUDA_SUCCESS;
}

CUresult
sim_drain(sim_stream *s)
{
    pthread_mutex_lock(&sim_lock);
    while (s->running && s->first)
        pthread_cond_wait(&sim_changed, &sim_lock);
    pthread_mutex_unlock(&sim_lock);
    return CUDA_SUCCESS;
}

CUresult
sim_drain_usual(void)
{
    (void)sim_drain(&sim_usual);
    for (uint32_t i = 0; i < OWN; i++)
        (void)sim_drain(&own[i]);
    return CUDA_SUCCESS;
}

CUresult
sim_drain_all(void)
{
    pthread_mutex_lock(&sim_lock);
    while (pending)
        pthread_cond_wait(&sim_changed, &sim_lock);
    pthread_mutex_unlock(&sim_lock);
    return CUDA_SUCCESS;
}

sim_work *
sim_work_new(work_kind kind)
{
    sim_work *w = calloc(1, sizeof(*w));

    if (w)
        w->kind = kind;
    return w;
}

void
gp_sim_cuda_capture(void *handle, bool capturing)
{
    sim_stream *s = sim_stream_of(handle);

    pthread_mutex_lock(&sim_lock);
    sim_captures += (uint32_t)capturing - (uint32_t)s->capturing;
    s->capturing = capturing;
    pthread_mutex_unlock(&sim_lock);
}

uint32_t
gp_sim_cuda_captured(void)
{
    uint32_t out;

    pthread_mutex_lock(&sim_lock);
    out = sim_captured;
    pthread_mutex_unlock(&sim_lock);
    return out;
}

static uint32_t calls;

int
gp_sim_cuda_call(void *stream, void (*call)(void *), void *with)
{
    sim_work *w = sim_work_new(WORK_CALL);

    if (!w)
        return CUDA_ERROR_OUT_OF_MEMORY;
    w->call = call;
    w->to = with;
    pthread_mutex_lock(&sim_lock);
    calls++;
    pthread_mutex_unlock(&sim_lock);
    return (int)sim_queue(stream, w);
}

uint32_t
gp_sim_cuda_host_calls(void)
{
    uint32_t out;

    pthread_mutex_lock(&sim_lock);
    out = calls;
    pthread_mutex_unlock(&sim_lock);
    return out;
}
