/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_driver.c - threads that take turns at driving.
 *
 * The object under the driver counts its polls without a lock of its own: the
 * driver must let only one thread in at a time.
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/driver.h"
#include "job_harness.h"

/* Ends what hangs: no test gets this far but a broken one. */
#define FOREVER 120.0

typedef struct object {
    gp_driver *driver;
    int fd;
    uint64_t polls; /* not atomic, on purpose */
    atomic_bool inside;
    atomic_uint handed; /* work that was handed over */
    atomic_uint done;
    atomic_uint armed;
} object;

static int
object_poll(void *self)
{
    object *o = self;
    unsigned handed = atomic_load(&o->handed);
    unsigned done = atomic_load(&o->done);

    job_require(!atomic_exchange(&o->inside, true));
    o->polls++;
    atomic_store(&o->done, handed);
    atomic_store(&o->inside, false);
    return (int)(handed - done);
}

static bool
object_arm(void *self)
{
    object *o = self;

    atomic_fetch_add(&o->armed, 1);
    return true;
}

static uint64_t
object_deadline(void *self)
{
    (void)self;
    return UINT64_MAX;
}

static void
object_open(object *o)
{
    gp_driven driven = {.self = o,
                        .poll = object_poll,
                        .arm = object_arm,
                        .deadline = object_deadline,
                        .fd_count = 1};

    *o = (object){.fd = eventfd(0, EFD_CLOEXEC)};
    assert_true(o->fd >= 0);
    driven.fds[0] = o->fd;
    assert_int_equal(gp_driver_create("test", 50000, 50000, &o->driver), GP_OK);
    assert_int_equal(gp_driver_add(o->driver, &driven), GP_OK);
}

static void
object_close(object *o)
{
    gp_driver_remove(o->driver, o);
    gp_driver_destroy(o->driver);
    close(o->fd);
}

static bool
flag(void *arg)
{
    return atomic_load((atomic_bool *)arg);
}

typedef struct waiter {
    object *o;
    atomic_bool flag;
    double seconds;
    bool result;
    pthread_t thread;
} waiter;

static void *
wait_for_flag(void *arg)
{
    waiter *w = arg;

    w->result =
        gp_driver_wait(w->o->driver, flag, &w->flag, gp_deadline(w->seconds));
    return NULL;
}

/* A wait that sleeps for long must not keep others from the objects: else the
 * first hold would last until that wait gives up. */
static void
hold_interrupts_a_sleeping_waiter(void **state)
{
    object o;
    waiter w = {.o = &o, .seconds = FOREVER};

    (void)state;
    object_open(&o);
    pthread_create(&w.thread, NULL, wait_for_flag, &w);
    for (int i = 0; i < 200; i++) {
        gp_driver_hold(o.driver);
        o.polls += 0;
        gp_driver_release(o.driver);
    }
    atomic_store(&w.flag, true);
    gp_driver_kick(o.driver);
    pthread_join(w.thread, NULL);
    assert_true(w.result);
    object_close(&o);
}

/* Waits without patience, in a loop, still get the work done: they drive. */
static void
impatient_waits_drive(void **state)
{
    object o;
    atomic_bool never = false;

    (void)state;
    object_open(&o);
    for (unsigned i = 1; i <= 100; i++) {
        double deadline = job_seconds() + FOREVER;

        atomic_store(&o.handed, i);
        while (atomic_load(&o.done) != i) {
            assert_false(gp_driver_wait(o.driver, flag, &never, 0));
            assert_true(job_seconds() < deadline);
        }
    }
    object_close(&o);
}

/* What a holder hands over is polled and armed without anybody's help. */
static void
release_is_noticed(void **state)
{
    object o;

    (void)state;
    object_open(&o);
    for (unsigned i = 1; i <= 200; i++) {
        unsigned armed = atomic_load(&o.armed);
        double deadline = job_seconds() + FOREVER;

        gp_driver_hold(o.driver);
        atomic_store(&o.handed, i);
        gp_driver_release(o.driver);
        while (atomic_load(&o.done) != i || atomic_load(&o.armed) == armed) {
            assert_true(job_seconds() < deadline);
            sched_yield();
        }
    }
    object_close(&o);
}

static void *
hand_over(void *arg)
{
    object *o = arg;

    for (int i = 0; i < 2000; i++) {
        unsigned mine = atomic_fetch_add(&o->handed, 1) + 1;
        double deadline = job_seconds() + FOREVER;

        gp_driver_kick(o->driver);
        while (i % 3 == 0 && (int)(atomic_load(&o->done) - mine) < 0) {
            job_require(job_seconds() < deadline);
            sched_yield();
        }
    }
    return NULL;
}

/* Kicks, waits and holds of many threads at once; none is lost. */
static void
threads_take_turns(void **state)
{
    object o;
    waiter w[2] = {{.o = &o, .seconds = -1}, {.o = &o, .seconds = -1}};
    pthread_t kicker[2];
    double deadline;

    (void)state;
    object_open(&o);
    for (int i = 0; i < 2; i++) {
        pthread_create(&w[i].thread, NULL, wait_for_flag, &w[i]);
        pthread_create(&kicker[i], NULL, hand_over, &o);
    }
    for (int i = 0; i < 100; i++) {
        gp_driver_hold(o.driver);
        gp_driver_release(o.driver);
    }
    for (int i = 0; i < 2; i++)
        pthread_join(kicker[i], NULL);
    deadline = job_seconds() + FOREVER;
    while (atomic_load(&o.done) != atomic_load(&o.handed))
        assert_true(job_seconds() < deadline);
    for (int i = 0; i < 2; i++) {
        atomic_store(&w[i].flag, true);
        gp_driver_kick(o.driver);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(w[i].thread, NULL);
        assert_true(w[i].result);
    }
    object_close(&o);
}

/* A driver that made room for a holder must not stand in line for the lock: the
 * holder may go on to wait for long, with the lock. */
static void
who_makes_room_is_not_locked_out(void **state)
{
    object o;
    waiter first = {.o = &o, .seconds = FOREVER};
    waiter second = {.o = &o, .seconds = FOREVER};

    (void)state;
    object_open(&o);
    for (int i = 0; i < 20; i++) {
        atomic_store(&first.flag, false);
        atomic_store(&second.flag, false);
        pthread_create(&first.thread, NULL, wait_for_flag, &first);
        gp_driver_hold(o.driver);
        gp_driver_release(o.driver);
        pthread_create(&second.thread, NULL, wait_for_flag, &second);
        atomic_store(&first.flag, true);
        gp_driver_kick(o.driver);
        pthread_join(first.thread, NULL);
        atomic_store(&second.flag, true);
        gp_driver_kick(o.driver);
        pthread_join(second.thread, NULL);
        assert_true(first.result && second.result);
    }
    object_close(&o);
}

static void
wait_ends_at_its_deadline(void **state)
{
    object o;
    atomic_bool never = false;
    double start = job_seconds();

    (void)state;
    object_open(&o);
    assert_false(gp_driver_wait(o.driver, flag, &never, gp_deadline(0.02)));
    assert_true(job_seconds() - start >= 0.02);
    assert_true(job_seconds() - start < FOREVER);
    object_close(&o);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hold_interrupts_a_sleeping_waiter),
        cmocka_unit_test(impatient_waits_drive),
        cmocka_unit_test(release_is_noticed),
        cmocka_unit_test(threads_take_turns),
        cmocka_unit_test(who_makes_room_is_not_locked_out),
        cmocka_unit_test(wait_ends_at_its_deadline),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
