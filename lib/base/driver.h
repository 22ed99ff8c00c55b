/* SPDX-License-Identifier: Apache-2.0 */
/*
 * driver.h - one thread at a time makes things move.
 *
 * A driver owns a set of pollable objects (a worker engine, co-located shards,
 * or one stand-alone shard). Whoever holds the driver may touch them: usually
 * its progress thread, but a user thread that waits takes over, so that the
 * answer does not cost a thread switch. Objects need no lock of their own.
 */
#ifndef GP_DRIVER_H
#define GP_DRIVER_H

#include <pthread.h>

#include "base/base.h"

#define GP_DRIVEN_MAX     64
#define GP_DRIVEN_FDS_MAX 4

/* One pollable object. All members are called by the thread that drives. */
typedef struct gp_driven {
    void *self;
    /* Does what can be done now; returns how much that was, 0 for nothing. */
    int (*poll)(void *self);
    /* True when sleeping on the descriptors is safe. */
    bool (*arm)(void *self);
    /* When poll must be called even if no descriptor is ready; UINT64_MAX. */
    uint64_t (*deadline)(void *self);
    int fds[GP_DRIVEN_FDS_MAX];
    int fd_count;
} gp_driven;

typedef struct gp_driver gp_driver;

/* Starts the progress thread. `identity` names it in the log. Threads poll for
 * a while before they sleep: those that wait for `spin_ns`, the progress thread
 * for `background_ns`; with 0 it leaves the processor to who computes. */
gp_status gp_driver_create(const char *identity, uint64_t spin_ns,
                           uint64_t background_ns, gp_driver **out);

/* Ends the thread; the objects are not touched any more. NULL is fine. */
void gp_driver_destroy(gp_driver *driver);

/* Adds or removes an object. The driver must not be held by the caller. */
gp_status gp_driver_add(gp_driver *driver, const gp_driven *driven);
void gp_driver_remove(gp_driver *driver, const void *self);

/* The descriptors of an object are others now: from within one of its members,
 * or under gp_driver_hold(). */
gp_status gp_driver_change(gp_driver *driver, const gp_driven *driven);

/* Something was handed to an object: drive once if nobody does, else make sure
 * that whoever drives sees it. */
void gp_driver_kick(gp_driver *driver);

/* Makes sure that whoever drives sees it, and drives nothing itself: for
 * threads that may not, such as those of a device's driver. */
void gp_driver_wake(gp_driver *driver);

/* Drives until `done(arg)` or the deadline; returns done's last value. Any
 * number of threads may wait at once; `done` is called with and without the
 * driver held, so it reads nothing but atomics. */
bool gp_driver_wait(gp_driver *driver, bool (*done)(void *arg), void *arg,
                    uint64_t deadline_ns);

/* Instead of a wait for what is done already: nothing is left to the progress
 * thread. */
void gp_driver_waited(gp_driver *driver);

/* Wakes other threads in gp_driver_wait() to look at their `done` again. Called
 * by driven objects. */
void gp_driver_signal(gp_driver *driver);

/* While one object alone has something to wait for, the others are polled in
 * one turn of eight only. NULL: none. By the thread that drives. */
void gp_driver_focus(gp_driver *driver, const void *self);

/* Takes and gives back the right to touch the objects, for set-up and
 * tear-down from user threads. */
void gp_driver_hold(gp_driver *driver);
void gp_driver_release(gp_driver *driver);

#endif
