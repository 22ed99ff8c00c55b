/* SPDX-License-Identifier: Apache-2.0 */
/*
 * driver.c - progress thread and waiting threads share one lock.
 *
 * The lock is held by whoever drives, also while that thread sleeps on the
 * descriptors on behalf of a waiter; the progress thread never sleeps with it.
 * While user threads wait, or did so a moment ago, the progress thread keeps
 * out of the way (GRACE_NS): on machines with few cores it would only take the
 * time slices that the waiter needs. A request that nobody waits for calls it
 * back.
 */
#include "base/driver.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define GRACE_NS        300000u
#define GRACE_MOST_NS   3000000u
#define BLOCKED_WAIT_NS 1000000u
#define FOCUS_TURNS     8u

struct gp_driver {
    pthread_mutex_t lock;
    gp_driven driven[GP_DRIVEN_MAX];
    size_t count;
    const void *focus; /* of gp_driver_focus() */
    unsigned turn;
    int epoll_fd, wake_fd;
    uint64_t spin_ns;       /* of waiting threads */
    uint64_t background_ns; /* of the progress thread */
    char identity[32];
    pthread_t thread;
    atomic_bool stop;
    atomic_bool kicked;          /* an object has news that nobody polled yet */
    atomic_int sleepers;         /* threads asleep on the descriptors */
    atomic_bool progress_asleep; /* the progress thread is one of them */
    atomic_int waiters;          /* user threads inside gp_driver_wait */
    atomic_ulong wait_stamp;     /* counts finished waits */
    atomic_uint kicks;           /* since the last wait began */
    atomic_bool parked;        /* the progress thread, for longer than usual */
    pthread_mutex_t idle_lock; /* for the two conditions below */
    pthread_cond_t idle;       /* progress thread parked */
    pthread_cond_t changed;    /* waiters that do not drive */
    atomic_int blocked;
    atomic_int
        wanted; /* threads inside gp_driver_hold that wait for the lock */
};

static int
poll_all(gp_driver *d)
{
    int done = 0;

    atomic_store_explicit(&d->kicked, false, memory_order_seq_cst);
    d->turn++;
    for (size_t i = 0; i < d->count; i++) {
        void *self = d->driven[i].self;

        if (!d->focus || d->focus == self || d->turn % FOCUS_TURNS == 0)
            done += d->driven[i].poll(self);
    }
    return done;
}

static uint64_t
next_deadline(gp_driver *d)
{
    uint64_t next = UINT64_MAX;

    for (size_t i = 0; i < d->count; i++) {
        uint64_t at = d->driven[i].deadline(d->driven[i].self);

        next = GP_MIN(next, at);
    }
    return next;
}

static bool
arm_all(gp_driver *d)
{
    for (size_t i = 0; i < d->count; i++)
        if (!d->driven[i].arm(d->driven[i].self))
            return false;
    return true;
}

static void
sleep_on_fds(gp_driver *d, uint64_t deadline)
{
    struct epoll_event events[4];
    uint64_t value;
    int n;

    n = epoll_wait(d->epoll_fd, events, 4, gp_deadline_ms(deadline));
    for (int i = 0; i < n; i++)
        if (events[i].data.fd == d->wake_fd)
            (void)!read(d->wake_fd, &value, sizeof(value));
}

/* Holding the lock: announce sleep, then look once more, so that a kick
 * between the last poll and the sleep is not lost. */
static bool
may_sleep(gp_driver *d)
{
    atomic_fetch_add(&d->sleepers, 1);
    if (!atomic_load(&d->kicked) && !atomic_load(&d->stop) &&
        !atomic_load(&d->wanted) && arm_all(d))
        return true;
    atomic_fetch_sub(&d->sleepers, 1);
    return false;
}

static void
wake(gp_driver *d)
{
    uint64_t one = 1;

    if (atomic_load(&d->sleepers) > 0)
        (void)!write(d->wake_fd, &one, sizeof(one));
}

static void
timed_wait(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t ns)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_nsec += (long)ns;
    at.tv_sec += at.tv_nsec / 1000000000;
    at.tv_nsec %= 1000000000;
    pthread_cond_timedwait(cond, lock, &at);
}

typedef struct parking {
    unsigned long seen;
    uint64_t grace_ns;
} parking;

/* True after having kept out of the way of waiting threads for a moment: longer
 * ones as long as they wait all the time, since each look takes a processor
 * from somebody. */
static bool
park(gp_driver *d, parking *p)
{
    unsigned long stamp = atomic_load(&d->wait_stamp);
    bool waits = atomic_load(&d->waiters) > 0 || stamp - p->seen > 1;

    if (!waits && stamp == p->seen)
        return false;
    p->seen = stamp;
    p->grace_ns = waits ? GP_MIN(2 * p->grace_ns, GRACE_MOST_NS) : GRACE_NS;
    pthread_mutex_lock(&d->idle_lock);
    atomic_store(&d->parked, p->grace_ns > GRACE_NS);
    if (!atomic_load(&d->stop))
        timed_wait(&d->idle, &d->idle_lock, p->grace_ns);
    atomic_store(&d->parked, false);
    pthread_mutex_unlock(&d->idle_lock);
    return true;
}

/* Unlocks. Somebody who kicked meanwhile found the lock taken and relies on
 * whoever had it. */
static void
let_go(gp_driver *d)
{
    pthread_mutex_unlock(&d->lock);
    while (atomic_load(&d->kicked) && pthread_mutex_trylock(&d->lock) == 0) {
        poll_all(d);
        pthread_mutex_unlock(&d->lock);
    }
}

static void *
progress_thread(void *arg)
{
    gp_driver *d = arg;
    parking parked = {.grace_ns = GRACE_NS / 2};
    uint64_t idle_since = gp_clock_ns();

    gp_log_identity(d->identity);
    while (!atomic_load(&d->stop)) {
        uint64_t deadline = 0;
        bool asleep = false;

        if (park(d, &parked))
            continue;
        if (atomic_load(&d->wanted) > 0) {
            sched_yield();
            continue;
        }
        pthread_mutex_lock(&d->lock);
        if (poll_all(d) > 0) {
            idle_since = gp_clock_ns();
        } else if (gp_clock_ns() - idle_since >= d->background_ns) {
            deadline = next_deadline(d);
            asleep = may_sleep(d);
            atomic_store(&d->progress_asleep, asleep);
        }
        pthread_mutex_unlock(&d->lock);
        if (!asleep) {
            sched_yield();
            continue;
        }
        sleep_on_fds(d, deadline);
        atomic_store(&d->progress_asleep, false);
        atomic_fetch_sub(&d->sleepers, 1);
        idle_since = gp_clock_ns();
    }
    return NULL;
}

/* The progress thread, should it still be on its way out of its own sleep, may
 * swallow the wake-up that was meant for us: then sleep only briefly. */
static void
sleep_as_waiter(gp_driver *d, uint64_t deadline)
{
    uint64_t next = next_deadline(d);

    next = GP_MIN(next, deadline);
    if (atomic_load(&d->progress_asleep))
        next = GP_MIN(next, gp_clock_ns() + BLOCKED_WAIT_NS);
    sleep_on_fds(d, next);
}

/* Drives with the lock held until done or the deadline, once at least, or until
 * somebody in gp_driver_hold() wants the lock. */
static bool
drive(gp_driver *d, bool (*done)(void *), void *arg, uint64_t deadline)
{
    uint64_t idle_since = 0;

    while (!done(arg) && atomic_load(&d->wanted) == 0) {
        uint64_t now;

        if (poll_all(d) > 0) {
            idle_since = 0;
            if (deadline == UINT64_MAX || !gp_expired(deadline))
                continue;
        }
        if (done(arg))
            break;
        now = gp_clock_ns();
        if (now >= deadline)
            return false;
        if (idle_since == 0)
            idle_since = now;
        if (now - idle_since < d->spin_ns) {
            sched_yield();
        } else if (may_sleep(d)) {
            sleep_as_waiter(d, deadline);
            atomic_fetch_sub(&d->sleepers, 1);
            idle_since = 0;
        }
    }
    return done(arg);
}

/* Somebody else drives: sleeps until there is news, for a moment at most. */
static void
watch_others(gp_driver *d, bool (*done)(void *), void *arg)
{
    if (atomic_load(&d->wanted) > 0) {
        sched_yield();
        return;
    }
    pthread_mutex_lock(&d->idle_lock);
    atomic_fetch_add(&d->blocked, 1);
    if (!done(arg))
        timed_wait(&d->changed, &d->idle_lock, BLOCKED_WAIT_NS);
    atomic_fetch_sub(&d->blocked, 1);
    pthread_mutex_unlock(&d->idle_lock);
}

void
gp_driver_waited(gp_driver *d)
{
    atomic_store_explicit(&d->kicks, 0, memory_order_relaxed);
}

bool
gp_driver_wait(gp_driver *d, bool (*done)(void *), void *arg, uint64_t deadline)
{
    bool result = done(arg);

    gp_driver_waited(d);
    if (result)
        return true;
    atomic_fetch_add(&d->waiters, 1);
    wake(d);
    do {
        /* A mutex alone is not fair: who drives would take it again before a
         * holder runs. */
        if (atomic_load(&d->wanted) == 0 &&
            pthread_mutex_trylock(&d->lock) == 0) {
            result = drive(d, done, arg, deadline);
            let_go(d);
            gp_driver_signal(d);
        } else {
            watch_others(d, done, arg);
            result = done(arg);
        }
    } while (!result && !gp_expired(deadline));
    atomic_fetch_add(&d->wait_stamp, 1);
    atomic_fetch_sub(&d->waiters, 1);
    return result;
}

void
gp_driver_signal(gp_driver *d)
{
    if (atomic_load(&d->blocked) == 0)
        return;
    pthread_mutex_lock(&d->idle_lock);
    pthread_cond_broadcast(&d->changed);
    pthread_mutex_unlock(&d->idle_lock);
}

/* A second request, and nobody has waited for the first: there is work for the
 * progress thread. */
static void
call_back(gp_driver *d)
{
    if (atomic_fetch_add(&d->kicks, 1) != 1 || !atomic_load(&d->parked))
        return;
    pthread_mutex_lock(&d->idle_lock);
    pthread_cond_signal(&d->idle);
    pthread_mutex_unlock(&d->idle_lock);
}

void
gp_driver_kick(gp_driver *d)
{
    call_back(d);
    atomic_store(&d->kicked, true);
    if (pthread_mutex_trylock(&d->lock) == 0) {
        poll_all(d);
        let_go(d);
    }
    /* Sleepers must look again: what was started needs a new arm. */
    wake(d);
}

void
gp_driver_focus(gp_driver *d, const void *self)
{
    d->focus = self;
}

void
gp_driver_wake(gp_driver *d)
{
    atomic_store(&d->kicked, true);
    wake(d);
}

void
gp_driver_hold(gp_driver *d)
{
    atomic_fetch_add(&d->wanted, 1);
    wake(d);
    pthread_mutex_lock(&d->lock);
    atomic_fetch_sub(&d->wanted, 1);
}

void
gp_driver_release(gp_driver *d)
{
    /* What was done to the objects may need a poll and a new arm. */
    atomic_store(&d->kicked, true);
    let_go(d);
    wake(d);
}

gp_status
gp_driver_add(gp_driver *d, const gp_driven *driven)
{
    gp_status status = GP_OK;

    gp_driver_hold(d);
    if (d->count == GP_DRIVEN_MAX) {
        status = gp_fail(GP_ERR_TOO_LARGE, "more than %d objects in a driver",
                         GP_DRIVEN_MAX);
        goto out;
    }
    for (int i = 0; i < driven->fd_count; i++) {
        struct epoll_event event = {.events = EPOLLIN};

        event.data.fd = driven->fds[i];
        if (epoll_ctl(d->epoll_fd, EPOLL_CTL_ADD, driven->fds[i], &event)) {
            status = gp_fail_errno(GP_ERR_SYSTEM, errno, "epoll_ctl");
            goto out;
        }
    }
    d->driven[d->count++] = *driven;
out:
    gp_driver_release(d);
    return status;
}

gp_status
gp_driver_change(gp_driver *d, const gp_driven *driven)
{
    gp_driven *old = d->driven;

    while (old->self != driven->self)
        old++;
    for (int i = old->fd_count; i < driven->fd_count; i++) {
        struct epoll_event event = {.events = EPOLLIN};

        event.data.fd = driven->fds[i];
        if (epoll_ctl(d->epoll_fd, EPOLL_CTL_ADD, driven->fds[i], &event))
            return gp_fail_errno(GP_ERR_SYSTEM, errno, "epoll_ctl");
    }
    *old = *driven;
    return GP_OK;
}

void
gp_driver_remove(gp_driver *d, const void *self)
{
    gp_driver_hold(d);
    for (size_t i = 0; i < d->count; i++) {
        gp_driven *driven = &d->driven[i];

        if (driven->self != self)
            continue;
        for (int k = 0; k < driven->fd_count; k++)
            epoll_ctl(d->epoll_fd, EPOLL_CTL_DEL, driven->fds[k], NULL);
        *driven = d->driven[--d->count];
        break;
    }
    gp_driver_release(d);
}

static void
init_conditions(gp_driver *d)
{
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&d->idle, &attr);
    pthread_cond_init(&d->changed, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&d->lock, NULL);
    pthread_mutex_init(&d->idle_lock, NULL);
}

static void
close_fds(gp_driver *d)
{
    if (d->wake_fd >= 0)
        close(d->wake_fd);
    if (d->epoll_fd >= 0)
        close(d->epoll_fd);
}

gp_status
gp_driver_create(const char *identity, uint64_t spin_ns, uint64_t background_ns,
                 gp_driver **out)
{
    gp_driver *d = calloc(1, sizeof(*d));
    struct epoll_event event = {.events = EPOLLIN};
    int error;

    if (!d)
        return gp_fail(GP_ERR_NO_MEMORY, "driver");
    d->spin_ns = spin_ns;
    d->background_ns = background_ns;
    strncpy(d->identity, identity, sizeof(d->identity) - 1);
    d->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    d->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    event.data.fd = d->wake_fd;
    if (d->epoll_fd < 0 || d->wake_fd < 0 ||
        epoll_ctl(d->epoll_fd, EPOLL_CTL_ADD, d->wake_fd, &event)) {
        gp_status status = gp_fail_errno(GP_ERR_SYSTEM, errno,
                                         "epoll and eventfd of a driver");
        close_fds(d);
        free(d);
        return status;
    }
    init_conditions(d);
    error = pthread_create(&d->thread, NULL, progress_thread, d);
    if (error) {
        close_fds(d);
        free(d);
        return gp_fail_errno(GP_ERR_SYSTEM, error, "progress thread");
    }
    *out = d;
    return GP_OK;
}

void
gp_driver_destroy(gp_driver *d)
{
    uint64_t one = 1;

    if (!d)
        return;
    atomic_store(&d->stop, true);
    (void)!write(d->wake_fd, &one, sizeof(one));
    pthread_mutex_lock(&d->idle_lock);
    pthread_cond_broadcast(&d->idle);
    pthread_mutex_unlock(&d->idle_lock);
    pthread_join(d->thread, NULL);
    close_fds(d);
    pthread_cond_destroy(&d->idle);
    pthread_cond_destroy(&d->changed);
    pthread_mutex_destroy(&d->lock);
    pthread_mutex_destroy(&d->idle_lock);
    free(d);
}
