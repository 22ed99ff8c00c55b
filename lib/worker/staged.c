/* SPDX-License-Identifier: Apache-2.0 */
/*
 * staged.c - what a trainer calls for tensors on a device.
 *
 * A stream waits for a number in pinned memory that belongs to a request and
 * counts how often it was used: whoever ends the request raises it, whether
 * there is a result or not, so that no stream waits for ever. A request that
 * nobody waits for on the host goes back to the others by itself.
 */
#include <gradpush/cuda.h>

#include "worker/staging.h"

#include <stdlib.h>

/* --- memory --- */

/* The arena grows in the name of whoever needs more. */
static void
count_memory(gp_staging *s)
{
    gp_worker *w = s->worker;
    size_t bytes =
        gp_device_arena_bytes(s->pinned) + gp_device_arena_bytes(s->memory);

    if (s->shown)
        bytes += gp_device_arena_bytes(s->shown);
    pthread_mutex_lock(&w->submit_lock);
    if (bytes > s->counted) {
        atomic_fetch_add(&w->memory, bytes - s->counted);
        s->counted = bytes;
    }
    pthread_mutex_unlock(&w->submit_lock);
}

void
gp_staged_free(gp_staged *s)
{
    const gp_device_ops *ops;

    if (!s)
        return;
    ops = s->stage->device->ops;
    ops->event_destroy(s->stage->device, s->begun);
    ops->event_destroy(s->stage->device, s->ended);
    /* Its memory goes with the arena: a stream may still look there. */
    free(s);
}

gp_status
gp_staged_create(gp_request *r)
{
    gp_staging *stage = r->tensor->stage;
    const gp_device_ops *ops = stage->device->ops;
    size_t bytes = gp_tensor_bytes(r->tensor), messages;
    gp_staged *s = calloc(1, sizeof(*s));
    void *block = NULL;
    gp_status status;

    if (!s)
        return gp_fail(GP_ERR_NO_MEMORY, "request");
    bytes = (bytes + GP_ARENA_ALIGN - 1) & ~(GP_ARENA_ALIGN - 1);
    s->stride = gp_devcode_stride(r->tensor);
    messages = s->stride * r->tensor->chunks;
    s->stage = stage;
    s->request = r;
    gp_list_init(&s->link);
    status = ops->event_create(stage->device, &s->begun);
    if (status == GP_OK)
        status = ops->event_create(stage->device, &s->ended);
    if (status == GP_OK)
        status = gp_device_arena_take(
            stage->pinned, GP_ARENA_ALIGN + bytes + messages, &block);
    if (status != GP_OK) {
        gp_staged_free(s);
        return status;
    }
    count_memory(stage);
    s->counter = block;
    s->memory = (uint8_t *)block + GP_ARENA_ALIGN;
    s->messages = s->memory + bytes;
    status = gp_direct_create(s, r->tensor, messages);
    if (status != GP_OK) {
        gp_staged_free(s);
        return status;
    }
    count_memory(stage);
    __atomic_store_n(s->counter, 0, __ATOMIC_SEQ_CST);
    r->staged = s;
    return GP_OK;
}

/* --- what is refused --- */

static gp_status
check_pointer(const gp_tensor *t, const void *p, const char *what)
{
    const gp_staging *s = t->stage;
    gp_device_range range = {0};
    size_t bytes = gp_tensor_bytes(t), before;
    gp_status status;

    if (!p)
        return GP_OK;
    status = s->device->ops->range_of(s->device, p, &range);
    if (status != GP_OK && status != GP_ERR_NOT_FOUND)
        return status;
    if (status != GP_OK || (!range.device && !range.managed))
        return gp_fail(GP_ERR_INVALID,
                       "tensor '%.60s' is on %s, but %s is memory of the host: "
                       "pass a pointer into the device's memory",
                       t->spec.name, s->name, what);
    if (!range.managed && range.index != s->index)
        return gp_fail(GP_ERR_INVALID,
                       "tensor '%.60s' is on %s, but %s is memory of cuda:%u",
                       t->spec.name, s->name, what, range.index);
    before = (size_t)((const uint8_t *)p - (const uint8_t *)range.base);
    if (range.base && range.bytes &&
        (before > range.bytes || range.bytes - before < bytes))
        return gp_fail(GP_ERR_INVALID,
                       "tensor '%.60s' has %zu bytes, but behind %s the "
                       "allocation has %zu",
                       t->spec.name, bytes, what,
                       before > range.bytes ? 0 : range.bytes - before);
    return GP_OK;
}

/* A tensor of the host was given memory of a device that this worker uses. */
static gp_status
check_host(const gp_tensor *t, const void *p, const char *what)
{
    const gp_staging *s = t->worker->stages;
    gp_device_range range = {0};

    if (!s || !p || s->device->ops->range_of(s->device, p, &range) != GP_OK ||
        !range.device || range.managed)
        return GP_OK;
    return gp_fail(GP_ERR_INVALID,
                   "tensor '%.60s' is on the host, but %s is memory of "
                   "cuda:%u: register the tensor with that device",
                   t->spec.name, what, range.index);
}

static gp_status
check_capture(const gp_staging *s, void *stream, const char *call)
{
    bool capturing = false;
    gp_status status =
        s->device->ops->is_capturing(s->device, stream, &capturing);

    if (status == GP_OK && capturing)
        return gp_fail(GP_ERR_UNSUPPORTED,
                       "%s: a CUDA graph is being captured from the stream, "
                       "and what is sent to other processes cannot be "
                       "replayed: call it outside of the capture",
                       call);
    return status;
}

gp_status
gp_staging_check(const gp_tensor *t, const gp_on_stream *on, const void *grad,
                 const void *out)
{
    gp_status status;

    if (!on && t->stage)
        return gp_fail(GP_ERR_INVALID,
                       "tensor '%.60s' is on %s: call gp_push_pull_on() or "
                       "gp_broadcast_on()",
                       t->spec.name, t->stage->name);
    if (!on) {
        status = check_host(t, grad, "the gradient");
        return status == GP_OK ? check_host(t, out, "the result") : status;
    }
    if (!t->stage)
        return gp_fail(GP_ERR_INVALID,
                       "tensor '%.60s' is on the host: register it with the "
                       "option device, or call a function without a stream",
                       t->spec.name);
    status = check_capture(t->stage, on->stream, "a push on a stream");
    if (status == GP_OK)
        status = check_pointer(t, grad, "the gradient");
    return status == GP_OK ? check_pointer(t, out, "the result") : status;
}

/* --- calls --- */

/* Stagings are closed, with all that is queued done, before the driver. */
static void
wake_driver(void *staging)
{
    gp_driver_wake(((gp_staging *)staging)->worker->driver);
}

/* Whoever sleeps by then is woken; a call on the user's own stream would hold
 * that up. Where it fails, or is late because another stream is, the driver
 * asks for itself. */
static void
announce(gp_staging *s, gp_device_event *event)
{
    const gp_device_ops *ops = s->device->ops;

    if (ops->event_wait(s->device, event, s->news) == GP_OK)
        (void)!ops->call_host(s->device, wake_driver, s, s->news);
}

gp_status
gp_staged_begin(gp_request *r, const gp_on_stream *on, const void *grad,
                void *out)
{
    gp_staged *s = r->staged;
    gp_device *device = s->stage->device;
    gp_status status;

    s->grad = grad;
    s->out = out;
    s->stream = on->stream;
    s->detached = false;
    s->value++;
    status = device->ops->event_record(device, s->begun, on->stream);
    if (status == GP_OK)
        announce(s->stage, s->begun);
    return status;
}

gp_status
gp_push_pull_on(gp_tensor *tensor, const void *grad, void *out, void *stream,
                gp_request **request)
{
    const gp_on_stream on = {stream};

    if (!tensor || !grad || !out || !request)
        return gp_fail(GP_ERR_INVALID, "gp_push_pull_on: a pointer is NULL");
    return gp_request_submit_on(tensor, OP_PUSH_PULL, grad, out, 1, &on,
                                request);
}

gp_status
gp_broadcast_on(gp_tensor *tensor, void *values, uint32_t root, void *stream,
                gp_request **request)
{
    const gp_on_stream on = {stream};
    bool gives;

    if (!tensor || !values || !request)
        return gp_fail(GP_ERR_INVALID, "gp_broadcast_on: a pointer is NULL");
    if (root >= tensor->worker->size)
        return gp_fail(GP_ERR_INVALID, "broadcast root %u of %u workers", root,
                       tensor->worker->size);
    gives = root == tensor->worker->rank;
    return gp_request_submit_on(tensor, gives ? OP_INIT_PUSH : OP_INIT_PULL,
                                gives ? values : NULL, gives ? NULL : values,
                                gives ? 1 : root, &on, request);
}

gp_status
gp_wait_stream(gp_request **request, void *stream)
{
    gp_request *r;
    gp_worker *w;
    const gp_staging *s;
    gp_status status;
    bool done;

    if (!request)
        return gp_fail(GP_ERR_INVALID, "gp_wait_stream: a pointer is NULL");
    r = *request;
    if (!r)
        return GP_OK;
    if (r->collective || !r->staged)
        return gp_fail(GP_ERR_INVALID, "gp_wait_stream: the request is not one "
                                       "of a tensor on a device: call "
                                       "gp_wait()");
    s = r->staged->stage;
    w = s->worker;
    status = check_capture(s, stream, "gp_wait_stream");
    if (status == GP_OK && !atomic_load(&r->done))
        status = s->device->ops->wait_value(s->device, r->staged->counter,
                                            r->staged->value, stream);
    if (status != GP_OK)
        return status;
    pthread_mutex_lock(&w->submit_lock);
    done = atomic_load(&r->done);
    r->staged->detached = !done;
    pthread_mutex_unlock(&w->submit_lock);
    if (done)
        return gp_test(request);
    *request = NULL;
    return GP_OK;
}

gp_status
gp_stagings_prepare(gp_worker *w)
{
    gp_status opened = gp_direct_open(w);

    if (opened != GP_OK)
        return opened;
    for (uint32_t i = 0; w->stages && i < w->tensors; i++) {
        gp_tensor *t = w->tensor[i];
        gp_status status = t->stage ? gp_request_reserve(t) : GP_OK;

        if (status != GP_OK)
            return status;
    }
    return GP_OK;
}
