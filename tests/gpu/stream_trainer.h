/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream_trainer.h - tensors, and a trainer with them on a simulated CUDA
 * device, for the tests of streams.
 *
 * Memory of the simulated device is memory of the process, which a test may
 * look at when no work is queued that touches it.
 */
#ifndef STREAM_TRAINER_H
#define STREAM_TRAINER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <gradpush/cuda.h>

#include "device/device.h"
#include "job_harness.h"
#include "tests/gpu/sim_cuda.h"
#include "tests/rounds.h"

#define STEPS   GP_ROUNDS(4u, 3u)
#define TENSORS 12u

typedef struct kind {
    const char *name;
    gp_dtype dtype;
    uint64_t count, columns;
    const char *codec, *pull_codec, *updater;
    int32_t priority;
} kind;

static const kind kinds[TENSORS] = {
    {"one", GP_FP32, 1, 0, NULL, NULL, "sum", 9},
    {"many", GP_FP32, 70001, 0, NULL, NULL, "mean", 1},
    {"q8", GP_FP32, 18001, 0, "q8", NULL, "mean", 2},
    {"q4", GP_FP32, 5001, 0, "q4", "q8", "mean", 3},
    {"half", GP_FP16, 20001, 0, NULL, NULL, "mean", 4},
    {"brain", GP_BF16, 20001, 0, "q8", NULL, "mean", 5},
    {"choice", GP_FP32, 20001, 0, "none|q8", NULL, "mean", 6},
    {"moment", GP_FP32, 20001, 0, "momentum:clip=5+topk:0.05,scope=tensor",
     NULL, "mean", 7},
    {"change", GP_FP32, 18001, 0, "ef21+q4", NULL, "mean", 7},
    {"agreed", GP_FP32, 20001, 0, "ef21+intsum", NULL, "mean", 7},
    {"levels", GP_FP32, 9001, 0, "momentum+thc:block=2048", "thc:block=2048",
     "mean", 7},
    {"rank", GP_FP32, 128 * 96, 96, "powersgd:2", NULL, "sgd:lr=0.5", 7},
};

static const kind small = {"small", GP_FP32, 4096, 0, NULL, NULL, "mean", 0};
static const kind coded = {"coded", GP_FP32, 4096, 0, "q8", NULL, "mean", 0};
static const kind other = {"other", GP_FP32, 4096, 0, NULL, NULL, "mean", 0};

static inline size_t
bytes_of(const kind *k)
{
    return k->count * gp_dtype_bytes(k->dtype);
}

static inline gp_tensor *
add(gp_worker *w, const kind *k, const char *device)
{
    gp_tensor_options o = GP_TENSOR_INIT;
    gp_tensor *t;

    o.name = k->name;
    o.dtype = k->dtype;
    o.count = k->count;
    o.columns = k->columns;
    o.codec = k->codec;
    o.pull_codec = k->pull_codec;
    o.updater = k->updater;
    o.priority = k->priority;
    o.device = device;
    job_check(gp_tensor_register(w, &o, &t));
    return t;
}

/* Any bits will do for half types, but no infinities. */
static inline void
fill(const kind *k, uint32_t rank, uint32_t tensor, uint32_t step, void *out)
{
    float *values = out;
    uint16_t *halves = out;

    for (uint64_t i = 0; i < k->count; i++)
        if (k->dtype == GP_FP32)
            values[i] = job_value(rank, tensor, step, i);
        else
            halves[i] =
                (uint16_t)(((i * 7 + step * 31 + rank * 3) & 0x3ff) | 0x3800);
}

static inline uint8_t *
room(size_t bytes)
{
    uint8_t *p = calloc(1, bytes);

    job_require(p != NULL);
    return p;
}

/* --- a trainer on a device --- */

typedef struct trainer {
    gp_device *device;
    void *stream, *other;
    gp_device_event *event;
    uint8_t *grad[TENSORS], *out[TENSORS];
    uint8_t *pinned[TENSORS][STEPS]; /* gradients, then results */
} trainer;

static inline void
open_trainer(trainer *t, const char *device)
{
    const gp_device_ops *ops;

    job_check(gp_device_open(device, &t->device));
    ops = t->device->ops;
    job_check(ops->stream_create(t->device, &t->stream));
    job_check(ops->stream_create(t->device, &t->other));
    job_check(ops->event_create(t->device, &t->event));
    for (uint32_t i = 0; i < TENSORS; i++) {
        size_t bytes = bytes_of(&kinds[i]);

        job_check(ops->alloc(t->device, bytes, (void **)&t->grad[i]));
        job_check(ops->alloc(t->device, bytes, (void **)&t->out[i]));
        for (uint32_t s = 0; s < STEPS; s++)
            job_check(
                ops->alloc_pinned(t->device, bytes, (void **)&t->pinned[i][s]));
    }
}

/* Until all that is on the stream is done, with a deadline. */
static inline void
drain(trainer *t, void *stream)
{
    const gp_device_ops *ops = t->device->ops;
    gp_status status = GP_PENDING;
    double until = job_seconds() + 120;

    job_check(ops->event_record(t->device, t->event, stream));
    while (status == GP_PENDING && job_seconds() < until) {
        status = ops->event_query(t->device, t->event);
        usleep(200);
    }
    job_check(status);
}

static inline void
close_trainer(trainer *t)
{
    const gp_device_ops *ops = t->device->ops;

    for (uint32_t i = 0; i < TENSORS; i++) {
        ops->free(t->device, t->grad[i]);
        ops->free(t->device, t->out[i]);
        for (uint32_t s = 0; s < STEPS; s++)
            ops->free_pinned(t->device, t->pinned[i][s]);
    }
    ops->event_destroy(t->device, t->event);
    ops->stream_destroy(t->device, t->stream);
    ops->stream_destroy(t->device, t->other);
    gp_device_close(t->device);
}

static inline void
expect(gp_status status, gp_status expected, const char *part)
{
    job_require(status == expected, gp_last_error());
    job_require(strstr(gp_last_error(), part) != NULL, gp_last_error());
}

static inline void
run_small(job *j)
{
    j->transport = "loop";
    j->shards = 1;
    if (run_job(j) != GP_OK)
        fail_msg("%s%s", j->message[0], j->server_message);
    assert_int_equal(gp_sim_cuda_objects(), 0);
    assert_int_equal(gp_sim_cuda_pushed(), 0);
}

#endif
