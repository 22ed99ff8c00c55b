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
    ops->stream_destroy(s->device, s->news);
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
        status = ops->stream_create(s->device, &s->news);
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
    gp_list_init(&s->results);
    gp_list_init(&s->returning);
    for (uint32_t i = 0; i < STAGE_COPIES; i++)
        gp_list_init(&s->copy[i].ops);
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
    staged->undecoded = 0;
    for (uint32_t i = 0; i < r->tensor->chunks; i++)
        r->op[i].absent = true;
    gp_list_insert(&staged->stage->waiting, &staged->link);
    staged->stage->news_ns = gp_clock_ns();
}

bool
gp_staged_agreed(gp_op *op)
{
    gp_request *r = op->request;

    if (!r->staged || !gp_devcode_pushes(r))
        return false;
    op->absent = true;
    r->staged->absent++;
    queue_copy(r->staged->stage, op);
    return true;
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

        /* What is behind it is not done either, unless each thread has a
         * stream of that name. */
        if (late && late->stream == staged->stream &&
            late->stream != GP_STREAM_PER_THREAD)
            continue;
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
        gp_list *item;

        if (status == GP_PENDING)
            break;
        if (status != GP_OK) {
            fail(s, status);
            break;
        }
        s->head = (s->head + 1) % STAGE_COPIES;
        s->copies--;
        s->bytes -= c->bytes;
        while ((item = gp_list_pop(&c->ops))) {
            arrive(GP_CONTAINER_OF(item, gp_op, ready));
            done++;
        }
    }
    return done;
}

/* Whether an operation has to come behind some: of the same chunk, or of a
 * tensor that is looked at as a whole, in another step. */
static bool
comes_behind(gp_op *const *ops, size_t n, const gp_op *op)
{
    bool whole = gp_devcode_is_whole(op->request->tensor);

    for (size_t i = 0; i < n; i++)
        if (ops[i]->chunk == op->chunk ||
            gp_devcode_asks(ops[i]) != gp_devcode_asks(op) ||
            (whole && ops[i]->request->tensor == op->request->tensor &&
             ops[i]->request != op->request))
            return true;
    return false;
}

/* The first of a list, and what goes with it: by the same coder, each chunk
 * once, since steps of it follow one another. */
static size_t
gather(const gp_list *from, const gp_coder *(*coder_of)(const gp_op *op),
       gp_op *out[STAGE_PARTS])
{
    const gp_coder *coder = NULL;
    size_t n = 0, bytes = 0;

    GP_LIST_EACH (item, from) {
        gp_op *op = GP_CONTAINER_OF(item, gp_op, ready);

        if (n == 0)
            coder = coder_of(op);
        else if (coder_of(op) != coder)
            continue;
        bytes += gp_op_plain_bytes(op);
        if (n == STAGE_PARTS || (n && bytes > STAGE_BATCH) ||
            comes_behind(out, n, op))
            break;
        out[n++] = op;
    }
    return n;
}

/* Gradients as they are, or encoded. */
static gp_status
queue_all(gp_staging *s, gp_op *const *ops, size_t n)
{
    gp_status status = GP_OK;

    if (gp_devcode_encoder(ops[0]) && gp_devcode_asks(ops[0]))
        return gp_devcode_propose(ops, n);
    if (gp_devcode_encoder(ops[0]))
        return gp_devcode_encode(ops, n);
    for (size_t i = 0; i < n && status == GP_OK; i++) {
        const gp_staged *staged = ops[i]->request->staged;
        size_t offset = gp_op_plain_offset(ops[i]);
        uint8_t *to = ops[i]->from_device ? gp_direct_place(ops[i])
                                          : staged->memory + offset;

        status =
            s->device->ops->copy_async(s->device, to, staged->grad + offset,
                                       gp_op_plain_bytes(ops[i]), s->in);
    }
    return status;
}

static gp_status
copy_in(gp_staging *s, gp_op *const *ops, size_t n)
{
    stage_copy *c = &s->copy[(s->head + s->copies) % STAGE_COPIES];
    gp_status status = queue_all(s, ops, n);

    if (status == GP_OK)
        status = s->device->ops->event_record(s->device, c->done, s->in);
    if (status != GP_OK)
        return status;
    c->bytes = 0;
    for (size_t i = 0; i < n; i++) {
        gp_list_remove(&ops[i]->ready);
        gp_list_insert(&c->ops, &ops[i]->ready);
        c->bytes += gp_op_plain_bytes(ops[i]);
    }
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
        gp_op *ops[STAGE_PARTS] = {NULL};
        size_t n = gather(&s->copying, gp_devcode_encoder, ops);
        gp_status status = copy_in(s, ops, n);

        if (status == GP_AGAIN && s->copies > 0)
            break;
        if (status != GP_OK) {
            fail(s, status);
            break;
        }
        done++;
    }
    return done;
}

/* --- back to the device --- */

void
gp_staged_result(gp_op *op)
{
    gp_staged *staged = op->request->staged;
    gp_staging *s = staged->stage;
    size_t offset = gp_op_plain_offset(op), bytes = gp_op_plain_bytes(op);
    const uint8_t *from =
        op->to_device ? gp_direct_place(op) : staged->memory + offset;
    gp_status status;

    if (op->coded) {
        gp_list_insert(&s->results, &op->ready);
        staged->undecoded++;
        return;
    }
    status = s->device->ops->copy_async(s->device, staged->out + offset, from,
                                        bytes, s->back);
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
    if (r->staged->undecoded > 0)
        return true; /* with the last of them */
    status = s->device->ops->event_record(s->device, r->staged->ended, s->back);
    if (status == GP_OK)
        gp_list_insert(&s->returning, &r->staged->link);
    else
        fail(s, status);
    return true;
}

/* Messages that have come since the last turn become results together. */
static int
start_results(gp_staging *s)
{
    int done = 0;

    while (!gp_list_empty(&s->results)) {
        gp_op *ops[STAGE_PARTS] = {NULL};
        size_t n = gather(&s->results, gp_devcode_decoder, ops);
        gp_status status = gp_devcode_decode(ops, n);

        if (status == GP_AGAIN)
            break; /* others are under way */
        if (status != GP_OK) {
            fail(s, status);
            break;
        }
        for (size_t i = 0; i < n; i++) {
            gp_request *r = ops[i]->request;

            gp_list_remove(&ops[i]->ready);
            if (--r->staged->undecoded == 0 && r->left == 0)
                (void)gp_staged_return(r);
        }
        done++;
    }
    return done;
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
        if (status == GP_OK)
            status = gp_devcode_check(staged->request);
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
        done += start_results(s);
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
            !gp_list_empty(&s->returning) || !gp_list_empty(&s->results) ||
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
