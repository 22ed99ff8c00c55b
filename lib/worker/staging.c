/* SPDX-License-Identifier: Apache-2.0 */
/*
 * staging.c - copies between devices and the pinned memory of requests, as the
 * driver's turns find events done.
 */
#include "worker/staging.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- devices --- */

static void
close_stage(gp_staging *s)
{
    const gp_device_ops *ops;

    if (!s->device) {
        free(s);
        return;
    }
    ops = s->device->ops;
    /* A stream of the user's may be about to look at a counter. */
    (void)ops->synchronize(s->device);
    gp_devcoders_close(s);
    gp_direct_close(s);
    for (uint32_t i = 0; i < STAGE_COPIES; i++)
        ops->event_destroy(s->device, s->copy[i].done);
    ops->event_destroy(s->device, s->settled);
    ops->stream_destroy(s->device, s->in);
    ops->stream_destroy(s->device, s->back);
    gp_device_arena_close(s->pinned);
    gp_device_arena_close(s->memory);
    gp_device_close(s->device);
    free(s);
}

void
gp_stagings_close(gp_worker *w)
{
    gp_staging *s;

    while ((s = w->stages)) {
        w->stages = s->next;
        close_stage(s);
    }
}

static gp_status
open_stage(gp_staging *s)
{
    const gp_device_ops *ops;
    gp_device_properties p;
    gp_status status = gp_device_open(s->name, &s->device);

    if (status != GP_OK)
        return status;
    ops = s->device->ops;
    ops->properties(s->device, &p);
    s->index = p.index;
    status = gp_device_arena_open(s->device, true, &s->pinned);
    if (status == GP_OK)
        status = gp_device_arena_open(s->device, false, &s->memory);
    if (status == GP_OK)
        status = ops->stream_create(s->device, &s->in);
    if (status == GP_OK)
        status = ops->stream_create(s->device, &s->back);
    if (status == GP_OK)
        status = ops->event_create(s->device, &s->settled);
    for (uint32_t i = 0; status == GP_OK && i < STAGE_COPIES; i++)
        status = ops->event_create(s->device, &s->copy[i].done);
    return status;
}

gp_status
gp_staging_find(gp_worker *w, const char *device, gp_staging **out)
{
    gp_status status;
    gp_staging *s;

    *out = NULL;
    if (!device || strcmp(device, "cpu") == 0 || strcmp(device, "host") == 0)
        return GP_OK;
    if (strcmp(device, "auto") == 0)
        return gp_fail(GP_ERR_CONFIG, "device 'auto': a tensor's memory is on "
                                      "cpu, cuda or cuda:N");
    device = strcmp(device, "cuda") == 0 ? "cuda:0" : device;
    for (s = w->stages; s; s = s->next)
        if (strcmp(s->name, device) == 0)
            break;
    if (s) {
        *out = s;
        return GP_OK;
    }
    s = calloc(1, sizeof(*s));
    if (!s)
        return gp_fail(GP_ERR_NO_MEMORY, "device");
    snprintf(s->name, sizeof(s->name), "%s", device);
    s->worker = w;
    gp_list_init(&s->waiting);
    gp_list_init(&s->copying);
    gp_list_init(&s->returning);
    /* The name as it was typed: a longer one is not one of ours. */
    status = strlen(device) < sizeof(s->name)
                 ? open_stage(s)
                 : gp_fail(GP_ERR_CONFIG, "device '%.64s' is unknown", device);
    if (status != GP_OK) {
        close_stage(s);
        return status;
    }
    s->next = w->stages;
    w->stages = s;
    *out = s;
    return GP_OK;
}

/* --- from the device --- */

/* From within a turn's work, where the job cannot end at once. */
static void
fail(gp_staging *s, gp_status status)
{
    if (s->failed != GP_OK)
        return;
    s->failed = status;
    snprintf(s->why, sizeof(s->why), "%s", gp_last_error());
}

static void
let_all_go(gp_request *r)
{
    for (uint32_t i = 0; i < r->tensor->chunks; i++) {
        r->op[i].absent = false;
        gp_engine_arrived(&r->op[i]);
    }
}

static void
arrive(gp_op *op)
{
    gp_request *r = op->request;

    r->staged->absent--;
    if (!gp_encode_is_whole(r->tensor)) {
        op->absent = false;
        gp_engine_arrived(op);
    } else if (r->staged->absent == 0) {
        let_all_go(r);
    }
}

/* By priority, as in gp_conn.ready. */
static void
queue_copy(gp_staging *s, gp_op *op)
{
    gp_list *at = &s->copying;

    while (at->prev != &s->copying) {
        gp_op *before = GP_CONTAINER_OF(at->prev, gp_op, ready);

        if (before->request->priority >= op->request->priority)
            break;
        at = at->prev;
    }
    gp_list_insert(at, &op->ready);
}

void
gp_staged_start(gp_request *r)
{
    gp_staged *staged = r->staged;

    gp_direct_choose(r);
    staged->absent = r->tensor->chunks;
    for (uint32_t i = 0; i < r->tensor->chunks; i++)
        r->op[i].absent = true;
    gp_list_insert(&staged->stage->waiting, &staged->link);
    staged->stage->news_ns = gp_clock_ns();
}

/* The user's stream is where the request begins. */
static void
begin(gp_staged *staged)
{
    gp_request *r = staged->request;

    gp_list_remove(&staged->link);
    staged->stage->news_ns = gp_clock_ns();
    gp_devcode_begin(r);
    if (!gp_kind_pushes(r->kind)) {
        let_all_go(r);
        return;
    }
    for (uint32_t i = 0; i < r->tensor->chunks; i++)
        queue_copy(staged->stage, &r->op[i]);
}

static int
look_at_streams(gp_staging *s)
{
    const gp_device_ops *ops = s->device->ops;
    const gp_staged *late = NULL;
    int done = 0;

    GP_LIST_EACH (item, &s->waiting) {
        gp_staged *staged = GP_CONTAINER_OF(item, gp_staged, link);
        gp_status status;

        if (late && late->stream == staged->stream)
            continue; /* what is behind it is not done either */
        if (!gp_devcode_is_next(staged->request))
            continue;
        status = ops->event_query(s->device, staged->begun);
        if (status == GP_PENDING) {
            late = staged;
        } else if (status == GP_OK) {
            begin(staged);
            done++;
        } else {
            fail(s, status);
            break;
        }
    }
    return done;
}

static int
take_arrived(gp_staging *s)
{
    int done = 0;

    while (s->copies > 0) {
        stage_copy *c = &s->copy[s->head];
        gp_status status = s->device->ops->event_query(s->device, c->done);

        if (status == GP_PENDING)
            break;
        if (status != GP_OK) {
            fail(s, status);
            break;
        }
        s->head = (s->head + 1) % STAGE_COPIES;
        s->copies--;
        s->bytes -= c->bytes;
        arrive(c->op);
        done++;
    }
    return done;
}

/* The gradient as it is, or encoded. */
static gp_status
queue_one(gp_staging *s, gp_op *op)
{
    const gp_staged *staged = op->request->staged;
    size_t offset = gp_op_plain_offset(op);
    uint8_t *to =
        op->from_device ? gp_direct_place(op) : staged->memory + offset;

    if (gp_devcode_pushes(op->request))
        return gp_devcode_encode(op);
    return s->device->ops->copy_async(s->device, to, staged->grad + offset,
                                      gp_op_plain_bytes(op), s->in);
}

static gp_status
copy_in(gp_staging *s, gp_op *op)
{
    stage_copy *c = &s->copy[(s->head + s->copies) % STAGE_COPIES];
    gp_status status = queue_one(s, op);

    if (status == GP_OK)
        status = s->device->ops->event_record(s->device, c->done, s->in);
    if (status != GP_OK)
        return status;
    c->op = op;
    c->bytes = gp_op_plain_bytes(op);
    s->copies++;
    s->bytes += c->bytes;
    return GP_OK;
}

static int
start_copies(gp_staging *s)
{
    int done = 0;

    while (!gp_list_empty(&s->copying) && s->copies < STAGE_COPIES &&
           s->bytes < STAGE_WINDOW) {
        gp_op *op = GP_CONTAINER_OF(s->copying.next, gp_op, ready);
        gp_status status = copy_in(s, op);

        if (status == GP_AGAIN && s->copies > 0)
            break;
        if (status != GP_OK) {
            fail(s, status);
            break;
        }
        gp_list_remove(&op->ready);
        done++;
    }
    return done;
}

/* --- back to the device --- */

void
gp_staged_result(gp_op *op)
{
    const gp_staged *staged = op->request->staged;
    gp_staging *s = staged->stage;
    size_t offset = gp_op_plain_offset(op), bytes = gp_op_plain_bytes(op);
    const uint8_t *from =
        op->to_device ? gp_direct_place(op) : staged->memory + offset;
    gp_status status = op->to_device ? gp_direct_arrived(op) : GP_OK;

    if (status == GP_OK)
        status = s->device->ops->copy_async(s->device, staged->out + offset,
                                            from, bytes, s->back);
    if (status != GP_OK)
        fail(s, status);
}

bool
gp_staged_return(gp_request *r)
{
    gp_staging *s = r->staged->stage;
    gp_status status;

    if (!gp_kind_pulls(r->kind))
        return false;
    status = s->device->ops->event_record(s->device, r->staged->ended, s->back);
    if (status == GP_OK)
        gp_list_insert(&s->returning, &r->staged->link);
    else
        fail(s, status);
    return true;
}

static int
take_returned(gp_staging *s)
{
    int done = 0;

    while (!gp_list_empty(&s->returning)) {
        gp_staged *staged = GP_CONTAINER_OF(s->returning.next, gp_staged, link);
        gp_status status =
            s->device->ops->event_query(s->device, staged->ended);

        if (status == GP_PENDING)
            break;
        if (status != GP_OK) {
            fail(s, status);
            break;
        }
        gp_engine_finish(staged->request, GP_OK);
        done++;
    }
    return done;
}

/* --- ends --- */

/* It waits for nobody, so not long. */
void
gp_staging_settle(gp_staging *s, void *stream)
{
    const gp_device_ops *ops = s->device->ops;
    uint64_t deadline = gp_deadline(s->worker->timeout);

    if (ops->event_record(s->device, s->settled, stream) != GP_OK &&
        ops->event_record(s->device, s->settled, stream) != GP_OK)
        return; /* a device that cannot even do this has lost its context */
    while (ops->event_query(s->device, s->settled) == GP_PENDING &&
           gp_clock_ns() < deadline)
        sched_yield();
}

void
gp_staged_end(gp_request *r, gp_status status)
{
    gp_staged *staged = r->staged;
    gp_staging *s = staged->stage;

    gp_list_remove(&staged->link);
    if (status != GP_OK) {
        /* All requests end together then: nothing is left to arrive. */
        gp_staging_settle(s, s->in);
        gp_staging_settle(s, s->back);
        s->copies = 0;
        s->bytes = 0;
    }
    __atomic_store_n(staged->counter, staged->value, __ATOMIC_SEQ_CST);
}

/* --- turns --- */

int
gp_stagings_turn(gp_worker *w)
{
    int done = 0;

    for (gp_staging *s = w->stages; s; s = s->next) {
        done += look_at_streams(s);
        done += take_arrived(s);
        done += start_copies(s);
        done += take_returned(s);
        if (s->failed == GP_OK)
            continue;
        gp_worker_fail(w, s->failed, "device %s: %s", s->name, s->why);
        s->failed = GP_OK;
    }
    return done;
}

bool
gp_stagings_busy(const gp_worker *w)
{
    for (const gp_staging *s = w->stages; s; s = s->next)
        if (s->copies > 0 || s->failed != GP_OK ||
            !gp_list_empty(&s->returning) ||
            (!gp_list_empty(&s->waiting) &&
             gp_clock_ns() - s->news_ns < STAGE_AWAKE_NS))
            return atomic_load(&w->fault) == GP_OK;
    return false;
}

uint64_t
gp_stagings_deadline(const gp_worker *w)
{
    for (const gp_staging *s = w->stages; s; s = s->next)
        if (!gp_list_empty(&s->waiting))
            return gp_clock_ns() + STAGE_NAP_NS;
    return UINT64_MAX;
}
