/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_stream_cuda.h - the queues of the simulated driver.
 */
#ifndef GP_SIM_STREAM_CUDA_H
#define GP_SIM_STREAM_CUDA_H

#include <cuda.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "tests/gpu/emulated.h"

typedef enum work_kind {
    WORK_COPY,
    WORK_FILL,
    WORK_KERNEL,
    WORK_RECORD,
    WORK_WAIT_EVENT,
    WORK_WAIT_VALUE,
    WORK_CALL
} work_kind;

typedef struct sim_work {
    struct sim_work *next;
    uint64_t number; /* in the order of calls, of all streams */
    work_kind kind;
    void *to;
    const void *from;
    size_t bytes;
    uint32_t value;
    struct sim_event *event;
    uint64_t place;
    const gp_emulated *kernel;
    unsigned grid, threads, shared;
    void (*call)(void *);
    void *args[GP_EMULATED_ARGS];
    uint64_t words[GP_EMULATED_ARGS];
} sim_work;

typedef struct sim_event {
    uint64_t recorded, done; /* places */
    double ms;               /* when the last one was done */
    uint64_t users;          /* work that is queued and names it */
    bool gone;               /* the last of them frees it */
} sim_event;

typedef struct sim_stream {
    pthread_t thread;
    bool running, ending, busy, capturing;
    sim_work *first, **last;
} sim_stream;

/* Guards everything but the work itself. */
extern pthread_mutex_t sim_lock;
/* Anything has happened. */
extern pthread_cond_t sim_changed;
/* The default stream: waits for those of threads, and they for it. */
extern sim_stream sim_usual;
/* Captures that are open, and what has gone into them. */
extern uint32_t sim_captures, sim_captured;
/* Waits for numbers that are queued. */
extern uint32_t sim_waits;
extern uint32_t sim_delay_us;

sim_stream *sim_stream_of(CUstream handle);
void sim_stream_start(sim_stream *s);
sim_work *sim_work_new(work_kind kind);
/* With the lock held: whether a thread's stream is being captured. */
bool sim_own_captures(void);
/* Takes the work. */
CUresult sim_queue(CUstream handle, sim_work *w);
/* Waits until all that is queued is done. */
CUresult sim_drain(sim_stream *s);
/* The same of the default stream and those of threads. */
CUresult sim_drain_usual(void);
/* And of all streams. */
CUresult sim_drain_all(void);

#endif
