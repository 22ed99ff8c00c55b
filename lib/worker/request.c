/* SPDX-License-Identifier: Apache-2.0 */
/*
 * request.c - what a trainer calls in every step.
 *
 * A caller's thread only fills a request and hands it over; whoever drives
 * takes it from there, often the caller itself in gp_driver_kick().
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gradpush/cuda.h>

#include "collective/mesh.h"
#include "worker/rows.h"
#include "worker/staging.h"

void
gp_request_free(gp_request *r)
{
    gp_worker *w = r->tensor->worker;

    for (int i = 0; i < w->links; i++)
        if (r->mem[i])
            w->link[i].ops->mem_dereg(r->mem[i]);
    gp_trial_free(r->trial);
    gp_staged_free(r->staged);
    gp_rows_plan_free(r->plan);
    free(r->token);
    free(r);
}

static gp_request *
new_request(gp_tensor *t)
{
    gp_worker *w = t->worker;
    gp_request *r;

    r = calloc(1, sizeof(*r) + t->chunks * sizeof(r->op[0]));
    if (!r)
        return NULL;
    r->token = calloc(w->shards, sizeof(*r->token));
    r->tensor = t;
    gp_list_init(&r->link);
    if (!r->token || (t->stage && gp_staged_create(r) != GP_OK) ||
        (t->spec.rows && gp_rows_plan_create(r) != GP_OK)) {
        gp_request_free(r);
        return NULL;
    }
    for (uint32_t i = 0; i < t->chunks; i++) {
        gp_op *op = &r->op[i];

        op->request = r;
        op->chunk = t->first + i;
        op->conn = &w->conn[w->map.chunk[op->chunk].shard];
        gp_list_init(&op->chain);
        gp_list_init(&op->ready);
    }
    atomic_fetch_add(&w->memory, sizeof(*r) + t->chunks * sizeof(r->op[0]));
    return r;
}

static gp_request *
get_request(gp_tensor *t)
{
    gp_worker *w = t->worker;
    gp_list *item;

    pthread_mutex_lock(&w->submit_lock);
    item = gp_list_pop(&t->unused);
    pthread_mutex_unlock(&w->submit_lock);
    return item ? GP_CONTAINER_OF(item, gp_request, link) : new_request(t);
}

static void
put_request(gp_request *r)
{
    gp_worker *w = r->tensor->worker;

    pthread_mutex_lock(&w->submit_lock);
    gp_list_insert(&r->tensor->unused, &r->link);
    pthread_mutex_unlock(&w->submit_lock);
}

/* Device memory has a text of its own. */
static gp_status
no_request(const gp_tensor *t)
{
    return t->stage ? gp_fail(GP_ERR_NO_MEMORY, "tensor '%.60s': %s",
                              t->spec.name, gp_last_error())
                    : gp_fail(GP_ERR_NO_MEMORY, "request");
}

gp_status
gp_request_finished(gp_tensor *t, gp_request **request)
{
    gp_request *r = get_request(t);

    if (!r)
        return gp_fail(GP_ERR_NO_MEMORY, "request");
    r->kind = OP_PUSH;
    r->status = GP_OK;
    atomic_store(&r->done, true);
    *request = r;
    return GP_OK;
}

gp_status
gp_request_reserve(gp_tensor *t)
{
    gp_request *r = get_request(t);

    if (!r)
        return no_request(t);
    put_request(r);
    return GP_OK;
}

/* Takes the n-th step for the n-th push. */
static void
hand_over(gp_request *r)
{
    gp_tensor *t = r->tensor;
    gp_worker *w = t->worker;
    op_kind kind = r->kind;

    atomic_store(&r->done, false);
    gp_worker_opened(w);
    pthread_mutex_lock(&w->submit_lock);
    r->step = t->steps;
    if (kind == OP_PUSH || kind == OP_PUSH_PULL)
        t->steps++;
    if (kind == OP_PULL || kind == OP_PUSH_PULL)
        t->pulled = t->steps;
    gp_list_insert(&w->submitted, &r->link);
    pthread_mutex_unlock(&w->submit_lock);
    atomic_fetch_add_explicit(&w->requests, 1, memory_order_relaxed);
}

static gp_status
submit_any(gp_tensor *t, op_kind kind, const void *grad, void *out,
           double weight, const gp_on_stream *on, bool parts,
           gp_request **request)
{
    gp_worker *w = t->worker;
    gp_request *r;
    gp_status status;

    status = gp_worker_ready(w);
    if (status == GP_OK && (w->stages || on))
        status = gp_staging_check(t, on, grad, out);
    if (status != GP_OK)
        return status;
    r = get_request(t);
    if (!r)
        return no_request(t);
    r->wire_bytes = r->encode_ns = 0;
    if (kind == OP_PUSH_PULL && t->truth)
        status = gp_trial_begin(r, grad);
    if (status == GP_OK && on)
        status = gp_staged_begin(r, on, grad, out);
    if (status != GP_OK) {
        put_request(r);
        return status;
    }
    r->kind = kind;
    r->priority = t->priority;
    r->grad = on ? r->staged->memory : grad;
    r->out = on ? r->staged->memory : out;
    r->weight = weight;
    if (parts)
        gp_parts_open(r);
    else
        gp_parts_close(r);
    *request = r;
    hand_over(r);
    gp_driver_kick(w->driver);
    return GP_OK;
}

gp_status
gp_request_submit_on(gp_tensor *t, op_kind kind, const void *grad, void *out,
                     double weight, const gp_on_stream *on,
                     gp_request **request)
{
    return submit_any(t, kind, grad, out, weight, on, false, request);
}

gp_status
gp_request_submit_rows(gp_tensor *t, op_kind kind, const gp_rows_call *call,
                       gp_request **request)
{
    gp_worker *w = t->worker;
    gp_request *r;
    gp_status status = gp_worker_ready(w);

    if (status != GP_OK)
        return status;
    r = get_request(t);
    if (!r)
        return no_request(t);
    gp_rows_plan_make(r, call);
    r->kind = kind;
    r->priority = t->priority;
    r->wire_bytes = r->encode_ns = 0;
    r->grad = NULL;
    r->out = NULL;
    r->weight = 1;
    *request = r;
    hand_over(r);
    gp_driver_kick(w->driver);
    return GP_OK;
}

gp_status
gp_request_submit(gp_tensor *t, op_kind kind, const void *grad, void *out,
                  double weight, gp_request **request)
{
    return gp_request_submit_on(t, kind, grad, out, weight, NULL, request);
}

static gp_status
submit(gp_tensor *t, op_kind kind, const void *grad, void *out,
       gp_request **request)
{
    return gp_request_submit(t, kind, grad, out, 1, request);
}

/* Gradients are no business of tensors that are trained locally. */
static gp_status
check_mode(const gp_tensor *t, const char *call)
{
    if (t->mode.kind != GP_MODE_LOCAL)
        return GP_OK;
    return gp_fail(GP_ERR_STATE,
                   "tensor '%.60s' has mode %s: call gp_local_step(), not %s()",
                   t->spec.name, t->spec.mode, call);
}

static gp_status
missing(const char *call)
{
    return gp_fail(GP_ERR_INVALID, "%s: a pointer is NULL", call);
}

gp_status
gp_push_pull(gp_tensor *tensor, const void *grad, void *out,
             gp_request **request)
{
    if (!tensor || !grad || !out || !request)
        return missing("gp_push_pull");
    if (check_mode(tensor, "gp_push_pull") != GP_OK)
        return GP_ERR_STATE;
    return submit(tensor, OP_PUSH_PULL, grad, out, request);
}

gp_status
gp_push_pull_parts(gp_tensor *tensor, const void *grad, void *out,
                   gp_request **request)
{
    if (!tensor || !grad || !out || !request)
        return missing("gp_push_pull_parts");
    if (check_mode(tensor, "gp_push_pull_parts") != GP_OK)
        return GP_ERR_STATE;
    if (tensor->stage || tensor->truth || tensor->mode.backups > 0)
        return gp_fail(GP_ERR_UNSUPPORTED,
                       "tensor '%.60s': gradients %s come as a whole: call "
                       "gp_push_pull()",
                       tensor->spec.name,
                       tensor->stage   ? "on a device"
                       : tensor->truth ? "of an experiment"
                                       : "in steps with backup workers");
    return submit_any(tensor, OP_PUSH_PULL, grad, out, 1, NULL, true, request);
}

gp_status
gp_push_pull_weighted(gp_tensor *tensor, const void *grad, void *out,
                      double weight, gp_request **request)
{
    gp_status status;

    if (!tensor || !grad || !out || !request)
        return missing("gp_push_pull_weighted");
    status = check_mode(tensor, "gp_push_pull_weighted");
    if (status == GP_OK)
        status = gp_weight_check(tensor, weight);
    return status == GP_OK ? gp_request_submit(tensor, OP_PUSH_PULL, grad, out,
                                               weight, request)
                           : status;
}

static gp_status
push_on(gp_tensor *t, const void *grad, const char *call,
        const gp_on_stream *on, gp_request **request)
{
    if (!t || !grad || !request)
        return missing(call);
    if (check_mode(t, call) != GP_OK)
        return GP_ERR_STATE;
    return gp_request_submit_on(t, OP_PUSH, grad, NULL, 1, on, request);
}

gp_status
gp_push(gp_tensor *tensor, const void *grad, gp_request **request)
{
    return push_on(tensor, grad, "gp_push", NULL, request);
}

gp_status
gp_push_on(gp_tensor *tensor, const void *grad, void *stream,
           gp_request **request)
{
    const gp_on_stream on = {stream};

    return push_on(tensor, grad, "gp_push_on", &on, request);
}

/* Sums live until all workers have them; parameters can be pulled any time. */
static bool
was_pulled(gp_tensor *t)
{
    gp_worker *w = t->worker;
    bool was;

    if (t->keeps)
        return false;
    pthread_mutex_lock(&w->submit_lock);
    was = t->steps > t->spec.first_step && t->pulled == t->steps;
    pthread_mutex_unlock(&w->submit_lock);
    return was;
}

static gp_status
pull_on(gp_tensor *t, void *out, const char *call, const gp_on_stream *on,
        gp_request **request)
{
    if (!t || !out || !request)
        return missing(call);
    if (!t->keeps && check_mode(t, call) != GP_OK)
        return GP_ERR_STATE;
    if (was_pulled(t))
        return gp_fail(GP_ERR_STATE,
                       "the result of tensor '%.60s' was pulled already: each "
                       "worker gets the sum of a step once",
                       t->spec.name);
    return gp_request_submit_on(t, OP_PULL, NULL, out, 1, on, request);
}

gp_status
gp_pull(gp_tensor *tensor, void *out, gp_request **request)
{
    return pull_on(tensor, out, "gp_pull", NULL, request);
}

gp_status
gp_pull_on(gp_tensor *tensor, void *out, void *stream, gp_request **request)
{
    const gp_on_stream on = {stream};

    return pull_on(tensor, out, "gp_pull_on", &on, request);
}

gp_status
gp_broadcast(gp_tensor *tensor, void *values, uint32_t root,
             gp_request **request)
{
    if (!tensor || !values || !request)
        return missing("gp_broadcast");
    if (root >= tensor->worker->size)
        return gp_fail(GP_ERR_INVALID, "broadcast root %u of %u workers", root,
                       tensor->worker->size);
    if (root == tensor->worker->rank)
        return submit(tensor, OP_INIT_PUSH, values, NULL, request);
    return gp_request_submit(tensor, OP_INIT_PULL, NULL, values, root, request);
}

static bool
request_done(void *arg)
{
    gp_request *r = arg;

    return atomic_load_explicit(&r->done, memory_order_acquire) &&
           (!r->trial || gp_trial_done(r->trial));
}

static gp_worker *
worker_of(const gp_request *r)
{
    return r->collective ? gp_collective_worker(r->collective)
                         : r->tensor->worker;
}

static gp_status
conclude(gp_request **request)
{
    gp_request *r = *request;
    gp_worker *w = worker_of(r);
    gp_status status = r->status;

    if (r->collective) {
        *request = NULL;
        return gp_collective_conclude(r->collective);
    }
    if (r->trial)
        status = gp_trial_end(r, status);
    if (r->tensor->anchor)
        gp_local_end(r);
    *request = NULL;
    put_request(r);
    if (status == GP_OK)
        return GP_OK;
    if (atomic_load(&w->fault) != GP_OK)
        return gp_fail(status, "%s", w->fault_text);
    return gp_fail(status, "%s", gp_status_text(status));
}

/* What is still open, for a message: how many chunks, and where. */
static gp_status
late(gp_request **request, double seconds)
{
    gp_request *r = *request;
    gp_tensor *t = r->tensor;
    gp_worker *w = t->worker;
    char where[160] = "";
    char waiting[GP_TEXT_MAX];
    size_t at = 0;
    uint32_t last = UINT32_MAX, left;

    gp_driver_hold(w->driver);
    if (request_done(r)) { /* in the last moment */
        gp_driver_release(w->driver);
        return conclude(request);
    }
    for (uint32_t i = 0; i < t->chunks && at + 12 < sizeof(where); i++) {
        gp_op *op = &r->op[i];

        if (gp_list_empty(&op->chain) || op->conn->shard == last)
            continue;
        last = op->conn->shard;
        at += (size_t)snprintf(where + at, sizeof(where) - at, "%s%u",
                               at ? ", " : "", last);
    }
    left = r->left;
    memcpy(waiting, w->waiting, sizeof(waiting));
    gp_driver_release(w->driver);
    return gp_fail(GP_ERR_TIMEOUT,
                   "tensor '%.60s' step %llu: %u of %u chunks open after "
                   "%.1f s, on shard %s%s%.200s",
                   t->spec.name, (unsigned long long)r->step, left, t->chunks,
                   seconds, where, waiting[0] ? "; " : "", waiting);
}

static gp_status
late_collective(gp_request **request, double seconds)
{
    gp_status status = gp_collective_late((*request)->collective, seconds);

    return status == GP_OK ? conclude(request) : status;
}

static bool
wait_for(gp_request *r, uint64_t deadline)
{
    gp_worker *w = worker_of(r);
    uint64_t start;
    bool done;

    if (request_done(r)) {
        gp_driver_waited(w->driver);
        return true;
    }
    start = gp_clock_ns();
    done = !r->collective && r->tensor->mode.backups > 0
               ? gp_backups_wait(r, request_done, deadline)
               : gp_driver_wait(w->driver, request_done, r, deadline);
    atomic_fetch_add_explicit(&w->waited_ns, gp_clock_ns() - start,
                              memory_order_relaxed);
    return done;
}

gp_status
gp_wait(gp_request **request, double seconds)
{
    gp_request *r;

    if (!request)
        return missing("gp_wait");
    r = *request;
    if (!r)
        return GP_OK;
    if (seconds < 0)
        seconds = worker_of(r)->timeout;
    if (!wait_for(r, gp_deadline(seconds)))
        return r->collective ? late_collective(request, seconds)
                             : late(request, seconds);
    return conclude(request);
}

/* How long the next of several may take. When nothing came within the
 * configured timeout, those behind it are only looked at: each with a timeout
 * of its own would make a job that hangs look as if it were slow. */
static double
time_left(double seconds, uint64_t deadline, gp_status first)
{
    uint64_t now = gp_clock_ns();

    if (first == GP_ERR_TIMEOUT)
        return 0;
    if (seconds < 0)
        return seconds;
    return deadline > now ? (double)(deadline - now) * 1e-9 : 0;
}

gp_status
gp_wait_all(gp_request **requests, size_t count, double seconds)
{
    gp_status first = GP_OK;
    uint64_t deadline = gp_deadline(seconds);
    char why[GP_TEXT_MAX] = "";

    if (!requests && count > 0)
        return missing("gp_wait_all");
    for (size_t i = 0; i < count; i++) {
        gp_status status =
            gp_wait(&requests[i], time_left(seconds, deadline, first));

        if (first != GP_OK || status == GP_OK)
            continue;
        first = status;
        snprintf(why, sizeof(why), "%s", gp_last_error());
    }
    return first == GP_OK ? GP_OK : gp_fail(first, "%s", why);
}

gp_status
gp_test(gp_request **request)
{
    if (!request)
        return missing("gp_test");
    if (!*request)
        return GP_OK;
    if (!request_done(*request))
        gp_driver_kick(worker_of(*request)->driver);
    if (!request_done(*request))
        return GP_PENDING;
    return conclude(request);
}
