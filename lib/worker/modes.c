/* SPDX-License-Identifier: Apache-2.0 */
/*
 * modes.c - local steps, weights, rests: what goes beyond pushing and pulling a
 * gradient in every step.
 *
 * The anchor of a local tensor is what every worker had when the round began:
 * the shard's parameters, or with the updater mean what those would be. It is
 * changed by whoever ends a request, never while one is under way.
 */
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "compress/codec_internal.h"
#include "worker/worker_int.h"

#define PART 256u /* elements that are converted at a time */
/* Longer than workers in step differ; shorter than people notice. */
#define BACKUPS_PATIENCE_NS 50000000u

gp_status
gp_local_open(gp_tensor *t)
{
    size_t bytes = gp_tensor_bytes(t);

    if (t->mode.kind != GP_MODE_LOCAL)
        return GP_OK;
    t->anchor = calloc(1, bytes);
    if (!t->anchor)
        return gp_fail(GP_ERR_NO_MEMORY, "tensor '%.60s': copy of %zu bytes",
                       t->spec.name, bytes);
    atomic_fetch_add(&t->worker->memory, bytes);
    return GP_OK;
}

void
gp_local_close(gp_tensor *t)
{
    if (t->anchor)
        atomic_fetch_sub(&t->worker->memory, gp_tensor_bytes(t));
    free(t->anchor);
    t->anchor = NULL;
}

static void
load(const gp_tensor *t, float *out, const uint8_t *from, size_t count)
{
    if (t->spec.dtype == GP_FP16)
        gp_fp16_to_fp32(out, from, count);
    else if (t->spec.dtype == GP_BF16)
        gp_bf16_to_fp32(out, from, count);
    else
        memcpy(out, from, count * sizeof(float));
}

static void
store(const gp_tensor *t, uint8_t *to, const float *values, size_t count)
{
    if (t->spec.dtype == GP_FP16)
        gp_fp32_to_fp16(to, values, count);
    else if (t->spec.dtype == GP_BF16)
        gp_fp32_to_bf16(to, values, count);
    else
        memcpy(to, values, count * sizeof(float));
}

/* params = anchor - params */
static void
subtract_from_anchor(const gp_tensor *t, uint8_t *params)
{
    size_t width = gp_element_bytes(t);
    float a[PART], p[PART];

    for (uint64_t at = 0; at < t->spec.count; at += PART) {
        size_t n = (size_t)GP_MIN(t->spec.count - at, PART);

        load(t, a, t->anchor + at * width, n);
        load(t, p, params + at * width, n);
        for (size_t i = 0; i < n; i++)
            p[i] = a[i] - p[i];
        store(t, params + at * width, p, n);
    }
}

/* Whether a pull gives a newcomer what the others have. */
static bool
begins(const gp_tensor *t)
{
    return t->worker->membership.elastic && t->keeps && !t->anchored;
}

void
gp_local_end(gp_request *r)
{
    gp_tensor *t = r->tensor;
    gp_worker *w = t->worker;
    bool round = r->kind == OP_PUSH_PULL;
    const uint8_t *values = r->kind == OP_INIT_PUSH ? r->grad : r->out;

    if (r->kind == OP_PUSH || (r->kind == OP_PULL && !begins(t)))
        return;
    if (r->status == GP_OK && round && !t->keeps)
        subtract_from_anchor(t, r->out);
    if (r->status == GP_OK)
        memcpy(t->anchor, values, gp_tensor_bytes(t));
    t->anchored |= r->status == GP_OK;
    if (!round)
        return;
    pthread_mutex_lock(&w->submit_lock);
    t->in_round = false;
    pthread_mutex_unlock(&w->submit_lock);
}

/* Counts the call. *last: it ends the round, with a weight. */
static gp_status
count_call(gp_tensor *t, double weight, bool *last, double *of_round)
{
    gp_worker *w = t->worker;
    gp_status status = GP_OK;

    pthread_mutex_lock(&w->submit_lock);
    if (t->in_round) {
        status = gp_fail(GP_ERR_STATE,
                         "tensor '%.60s': its parameters are on their way: "
                         "wait for the last gp_local_step() before the next",
                         t->spec.name);
    } else {
        t->local_weight += weight;
        *last = ++t->local_calls == t->mode.period;
    }
    if (status == GP_OK && *last) {
        *of_round = t->local_weight / t->mode.period;
        t->local_weight = 0;
        t->local_calls = 0;
        t->in_round = true;
    }
    pthread_mutex_unlock(&w->submit_lock);
    return status;
}

static gp_status
check_local(const gp_tensor *t, double weight)
{
    if (t->mode.kind != GP_MODE_LOCAL)
        return gp_fail(GP_ERR_STATE,
                       "tensor '%.60s' has mode %s: gp_local_step() is for "
                       "mode local:H",
                       t->spec.name, t->spec.mode);
    return gp_weight_check(t, weight);
}

gp_status
gp_local_step(gp_tensor *t, void *params, double weight, gp_request **request)
{
    gp_status status;
    bool last = false;
    double of_round = 1;

    if (!t || !params || !request)
        return gp_fail(GP_ERR_INVALID, "gp_local_step: a pointer is NULL");
    status = check_local(t, weight);
    if (status == GP_OK)
        status = gp_worker_ready(t->worker);
    /* Without memory for it the call has not taken place. */
    if (status == GP_OK)
        status = gp_request_reserve(t);
    if (status == GP_OK)
        status = count_call(t, weight, &last, &of_round);
    if (status != GP_OK)
        return status;
    if (!last)
        return gp_request_finished(t, request);
    subtract_from_anchor(t, params);
    return gp_request_submit(t, OP_PUSH_PULL, params, params, of_round,
                             request);
}

gp_status
gp_weight_check(const gp_tensor *t, double weight)
{
    if (!gp_weight_is_valid(weight))
        return gp_fail(GP_ERR_INVALID,
                       "tensor '%.60s': weight %g; it takes a number from %g "
                       "to %g",
                       t->spec.name, weight, GP_WEIGHT_MIN, GP_WEIGHT_MAX);
    if (weight != 1.0 && gp_codec_set_differs(&t->push))
        return gp_fail(GP_ERR_UNSUPPORTED,
                       "tensor '%.60s': weight %g with codec %.60s: "
                       "differences add up over steps, so that each worker's "
                       "must weigh the same",
                       t->spec.name, weight, t->spec.push);
    return GP_OK;
}

uint64_t
gp_tensor_version(const gp_tensor *t)
{
    return t ? atomic_load(&t->version) : 0;
}

/* Under the driver's hold. */
static gp_status
say_rest(gp_conn *conn, enum gp_rest why)
{
    gp_msg msg = {.type = GP_MSG_REST, .step = conn->pushed, .aux = why};
    gp_status status = gp_worker_fault(conn->worker); /* it closes them */

    if (status == GP_OK)
        status = gp_conn_post(conn, &msg, NULL, NULL, 0);
    if (status == GP_OK)
        status = conn->link->ops->flush(conn->ep);
    return status;
}

/* To all shards, each in its turn. */
static gp_status
tell_all(gp_worker *w, enum gp_rest why)
{
    uint64_t deadline = gp_deadline(w->timeout);
    gp_status status = GP_OK;

    for (uint32_t i = 0; i < w->shards && status == GP_OK;) {
        gp_driver_hold(w->driver);
        status = say_rest(&w->conn[i], why);
        gp_driver_release(w->driver);
        if (status == GP_AGAIN && gp_clock_ns() < deadline) {
            status = GP_OK;
            sched_yield(); /* the driver sends what is in the way */
        } else if (status == GP_AGAIN) {
            return gp_fail(GP_ERR_TIMEOUT, "shard %u hears nothing", i);
        } else {
            i++;
        }
    }
    return status;
}

static gp_status
check_running(gp_worker *w, const char *call)
{
    if (!w)
        return gp_fail(GP_ERR_INVALID, "%s: NULL", call);
    if (atomic_load(&w->phase) != PHASE_RUN)
        return gp_fail(GP_ERR_STATE, "%s: nothing was pushed yet", call);
    return GP_OK;
}

gp_status
gp_worker_rest(gp_worker *w)
{
    gp_status status = check_running(w, "gp_worker_rest");

    return status == GP_OK ? tell_all(w, GP_REST_ALL) : status;
}

gp_status
gp_worker_hold(gp_worker *w, int on)
{
    gp_status status = check_running(w, "gp_worker_hold");

    if (status != GP_OK)
        return status;
    return tell_all(w, on ? GP_REST_HOLDS : GP_REST_FREES);
}

/* A shard that does not hear it now hears it the next time. */
static void
say_all(gp_worker *w, enum gp_rest why)
{
    gp_driver_hold(w->driver);
    for (uint32_t i = 0; i < w->shards; i++)
        (void)say_rest(&w->conn[i], why);
    gp_driver_release(w->driver);
}

bool
gp_backups_wait(gp_request *r, bool (*done)(void *request), uint64_t deadline)
{
    gp_worker *w = r->tensor->worker;
    bool said = false, is_done;

    do {
        uint64_t now = gp_clock_ns();
        uint64_t until = GP_MIN(deadline, now + BACKUPS_PATIENCE_NS);

        is_done = gp_driver_wait(w->driver, done, r, until);
        if (!is_done) {
            say_all(w, GP_REST_WAITS);
            said = true;
        }
    } while (!is_done && gp_clock_ns() < deadline);
    if (said)
        say_all(w, GP_REST_ENDS);
    return is_done;
}
