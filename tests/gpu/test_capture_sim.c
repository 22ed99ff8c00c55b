/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_capture_sim.c - graphs that are being captured while gradients travel,
 * and streams that have no handle of their own: the default one, and that of
 * each thread.
 */
#include <pthread.h>

#include "tests/gpu/stream_trainer.h"

/* --- captures --- */

/* Another stream is captured from, in the mode in which asking for an event's
 * state breaks that: a worker asks all the time, in its own threads and in the
 * one that waits. */
static void
push_beside_a_capture(gp_tensor *t, const kind *k, trainer *d, uint32_t rank)
{
    gp_request *r[2] = {NULL};
    uint32_t refused = gp_sim_cuda_captured();

    gp_sim_cuda_capture(d->other, true);
    fill(k, rank, 1, 0, d->grad[1]);
    job_check(gp_push_pull_on(t, d->grad[1], d->out[1], d->stream, &r[0]));
    expect(gp_push_pull_on(t, d->grad[1], d->out[1], d->other, &r[1]),
           GP_ERR_UNSUPPORTED, "graph is being captured");
    expect(gp_broadcast_on(t, d->grad[1], 0, d->other, &r[1]),
           GP_ERR_UNSUPPORTED, "graph is being captured");
    expect(gp_wait_stream(&r[0], d->other), GP_ERR_UNSUPPORTED,
           "gp_wait_stream");
    job_require(r[0] != NULL && r[1] == NULL);
    job_check(gp_wait(&r[0], -1));
    gp_sim_cuda_capture(d->other, false);
    job_require(gp_sim_cuda_captured() == refused);
    job_require(gp_sim_cuda_broken() == 0);
    job_check(gp_push_pull_on(t, d->grad[1], d->out[1], d->other, &r[0]));
    job_check(gp_wait_stream(&r[0], d->other));
    drain(d, d->other);
}

/* What goes to the default stream then would break the capture. */
static void
push_on_the_default_stream(gp_tensor *t, trainer *d)
{
    gp_request *r = NULL;
    uint32_t refused = gp_sim_cuda_captured();

    gp_sim_cuda_capture(GP_STREAM_PER_THREAD, true);
    expect(gp_push_pull_on(t, d->grad[1], d->out[1], GP_STREAM_PER_THREAD, &r),
           GP_ERR_UNSUPPORTED, "graph is being captured");
    expect(gp_push_pull_on(t, d->grad[1], d->out[1], GP_STREAM_DEFAULT, &r),
           GP_ERR_UNSUPPORTED, "graph is being captured");
    gp_sim_cuda_capture(GP_STREAM_PER_THREAD, false);
    job_require(r == NULL && gp_sim_cuda_captured() == refused);
    job_check(gp_push_pull_on(t, d->grad[1], d->out[1], GP_STREAM_DEFAULT, &r));
    job_check(gp_wait_stream(&r, GP_STREAM_DEFAULT));
    drain(d, GP_STREAM_DEFAULT);
}

static void
capture(job *j, gp_worker *w, uint32_t rank)
{
    gp_tensor *plain = add(w, &small, "cuda"), *q8 = add(w, &coded, "cuda");
    trainer d = {0};

    (void)j;
    job_check(gp_worker_ready(w));
    open_trainer(&d, "cuda");
    push_beside_a_capture(plain, &small, &d, rank);
    push_beside_a_capture(q8, &coded, &d, rank);
    push_on_the_default_stream(q8, &d);
    close_trainer(&d);
}

static void
captures_stay_whole(void **state)
{
    job j = {.workers = 1, .body = capture};

    (void)state;
    run_small(&j);
}

/* --- streams without a handle --- */

/* A thread whose own stream does not go on before another thread's result is
 * there, though it has pushed first: the other's stream has the same name. */
typedef struct pair {
    gp_tensor *first, *second;
    trainer *d;
    uint32_t *gate;
    pthread_barrier_t pushed;
} pair;

static void *
push_late(void *argument)
{
    pair *p = argument;
    const gp_device_ops *ops = p->d->device->ops;
    gp_request *r = NULL;

    job_check(ops->wait_value(p->d->device, p->gate, 1, GP_STREAM_PER_THREAD));
    job_check(gp_push_pull_on(p->first, p->d->grad[1], p->d->out[1],
                              GP_STREAM_PER_THREAD, &r));
    pthread_barrier_wait(&p->pushed);
    job_check(gp_wait(&r, 120));
    return NULL;
}

static void
push_from_two_threads(job *j, gp_worker *w, uint32_t rank)
{
    trainer d = {0};
    pair p = {add(w, &small, "cuda"), add(w, &coded, "cuda"), &d, NULL, {{0}}};
    gp_request *r = NULL;
    pthread_t thread;

    (void)j;
    (void)rank;
    job_check(gp_worker_ready(w));
    open_trainer(&d, "cuda");
    job_check(d.device->ops->alloc_pinned(d.device, 4, (void **)&p.gate));
    *p.gate = 0;
    job_require(pthread_barrier_init(&p.pushed, NULL, 2) == 0);
    job_require(pthread_create(&thread, NULL, push_late, &p) == 0);
    pthread_barrier_wait(&p.pushed);
    job_check(gp_push_pull_on(p.second, d.grad[2], d.out[2],
                              GP_STREAM_PER_THREAD, &r));
    job_check(gp_wait(&r, 120));
    __atomic_store_n(p.gate, 1, __ATOMIC_SEQ_CST);
    pthread_join(thread, NULL);
    pthread_barrier_destroy(&p.pushed);
    d.device->ops->free_pinned(d.device, p.gate);
    close_trainer(&d);
}

static void
threads_have_streams_of_their_own(void **state)
{
    job j = {.workers = 1, .body = push_from_two_threads};

    (void)state;
    run_small(&j);
}

/* What a thread's stream does before a push on the default stream is part of
 * the gradient, and what it does after waiting there sees the result. */
static void
mix_streams(job *j, gp_worker *w, uint32_t rank)
{
    const size_t bytes = bytes_of(&small);
    gp_tensor *t = add(w, &small, "cuda");
    const gp_device_ops *ops;
    gp_request *r = NULL;
    trainer d = {0};

    (void)j;
    open_trainer(&d, "cuda");
    ops = d.device->ops;
    fill(&small, rank, 1, 0, d.pinned[1][0]);
    job_check(ops->copy_async(d.device, d.grad[1], d.pinned[1][0], bytes,
                              GP_STREAM_PER_THREAD));
    job_check(gp_push_pull_on(t, d.grad[1], d.out[1], GP_STREAM_DEFAULT, &r));
    job_check(gp_wait_stream(&r, GP_STREAM_DEFAULT));
    job_check(ops->copy_async(d.device, d.pinned[1][1], d.out[1], bytes,
                              GP_STREAM_PER_THREAD));
    drain(&d, GP_STREAM_PER_THREAD);
    job_require(memcmp(d.pinned[1][0], d.pinned[1][1], bytes) == 0);
    close_trainer(&d);
}

static void
default_stream_waits_for_others(void **state)
{
    job j = {.workers = 1, .body = mix_streams};

    (void)state;
    run_small(&j);
}

int
main(void)
{
    static const gp_sim_cuda_options options = {.devices = 2, .delay_us = 100};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(captures_stay_whole),
        cmocka_unit_test(threads_have_streams_of_their_own),
        cmocka_unit_test(default_stream_waits_for_others),
    };

    gp_sim_cuda_install(&options);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
