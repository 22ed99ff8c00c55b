/* SPDX-License-Identifier: Apache-2.0 */
/*
 * buffer.c - memory that users register for their gradients and results.
 *
 * Only what the user promises to keep mapped is ever left with a device: memory
 * that is merely handed to a request may be freed after it, and what a device
 * remembers of an address would then be other pages. So nothing is registered
 * by guess. A range cannot go while an open request names it.
 */
#include <stdlib.h>
#include <string.h>

#include "collective/mesh.h"
#include "worker/worker_int.h"

/* Cookies of pieces of scratch are below. */
#define COOKIE_FIRST (GP_SLOTS_MAX + 1u)

static bool
holds(const gp_buffer *b, const void *p, size_t bytes)
{
    size_t offset = (uintptr_t)p - (uintptr_t)b->base;

    return offset <= b->bytes && bytes <= b->bytes - offset;
}

static bool
overlaps(const gp_buffer *b, const void *p, size_t bytes)
{
    uintptr_t low = (uintptr_t)p, base = (uintptr_t)b->base;

    return low < base + b->bytes && base < low + bytes;
}

gp_buffer *
gp_buffer_find(const gp_worker *w, const void *p, size_t bytes)
{
    for (uint32_t i = 0; i < w->buffers; i++) {
        gp_buffer *b = w->buffer[i];

        if (b && !b->leaving && holds(b, p, bytes))
            return b;
    }
    return NULL;
}

void
gp_buffer_attach(gp_request *r)
{
    const gp_worker *w = r->tensor->worker;
    size_t bytes = gp_tensor_bytes(r->tensor);

    r->from = r->to = NULL;
    if (w->buffers == 0)
        return;
    if (gp_kind_pushes(r->kind))
        r->from = gp_buffer_find(w, r->grad, bytes);
    if (gp_kind_pulls(r->kind))
        r->to = gp_buffer_find(w, r->out, bytes);
}

gp_status
gp_buffer_expose(gp_buffer *b, gp_conn *conn, uint32_t *token)
{
    size_t link = (size_t)(conn->link - b->worker->link);
    uint32_t *kept = &b->token[conn->shard];
    gp_status status = GP_OK;

    if (*kept == 0)
        status = conn->link->ops->expose(conn->ep, b->mem[link], 0, b->bytes, 0,
                                         kept);
    if (status == GP_OK)
        *token = *kept;
    return status;
}

static void
withdraw(gp_buffer *b, gp_conn *conn)
{
    if (b->token[conn->shard] && conn->ep)
        conn->link->ops->unexpose(conn->ep, b->token[conn->shard]);
    b->token[conn->shard] = 0;
}

void
gp_buffer_withdraw(gp_conn *conn)
{
    gp_worker *w = conn->worker;

    for (uint32_t i = 0; i < w->buffers; i++)
        if (w->buffer[i])
            withdraw(w->buffer[i], conn);
}

uint64_t
gp_buffer_cookie(const gp_buffer *b)
{
    return COOKIE_FIRST + b->number;
}

void
gp_buffer_sent(gp_worker *w, uint64_t cookie)
{
    uint64_t number = cookie - COOKIE_FIRST;
    gp_buffer *b;

    if (cookie < COOKIE_FIRST || number >= w->buffers)
        return;
    b = w->buffer[number];
    if (b && atomic_load(&b->sending) > 0 &&
        atomic_fetch_sub(&b->sending, 1) == 1 && b->leaving)
        gp_driver_signal(w->driver);
}

void
gp_buffer_let_go(gp_worker *w)
{
    for (uint32_t i = 0; i < w->buffers; i++)
        if (w->buffer[i])
            atomic_store(&w->buffer[i]->sending, 0);
}

/* A place in the table: one that was left, or a new one. */
static gp_status
find_place(gp_worker *w, uint32_t *out)
{
    uint32_t at = 0;
    void *grown;

    while (at < w->buffers && w->buffer[at])
        at++;
    if (at == w->buffers) {
        grown = realloc(w->buffer, (at + 1u) * sizeof(*w->buffer));
        if (!grown)
            return gp_fail(GP_ERR_NO_MEMORY, "%u registered buffers", at + 1);
        w->buffer = grown;
        w->buffer[w->buffers++] = NULL;
    }
    *out = at;
    return GP_OK;
}

static void
close_buffer(gp_buffer *b)
{
    gp_worker *w = b->worker;

    for (int i = 0; i < w->links; i++)
        if (b->mem[i])
            w->link[i].ops->mem_dereg(b->mem[i]);
    free(b);
}

static gp_status
open_buffer(gp_buffer *b)
{
    gp_worker *w = b->worker;
    gp_status status = GP_OK;

    for (uint32_t i = 0; i < w->buffers; i++)
        if (w->buffer[i] && overlaps(w->buffer[i], b->base, b->bytes))
            return gp_fail(GP_ERR_EXISTS,
                           "%zu bytes at %p overlap %zu at %p, which are "
                           "registered",
                           b->bytes, (void *)b->base, w->buffer[i]->bytes,
                           (void *)w->buffer[i]->base);
    for (int i = 0; status == GP_OK && i < w->links; i++)
        status = w->link[i].ops->mem_reg(w->link[i].domain, b->base, b->bytes,
                                         &b->mem[i]);
    if (status == GP_OK)
        status = find_place(w, &b->number);
    if (status != GP_OK)
        return status;
    w->buffer[b->number] = b;
    return GP_OK;
}

gp_status
gp_buffer_link(gp_worker *w, int link)
{
    gp_status status = GP_OK;

    for (uint32_t i = 0; status == GP_OK && i < w->buffers; i++) {
        gp_buffer *b = w->buffer[i];

        if (b && !b->mem[link])
            status = w->link[link].ops->mem_reg(w->link[link].domain, b->base,
                                                b->bytes, &b->mem[link]);
    }
    return status;
}

gp_status
gp_buffer_register(gp_worker *w, void *base, size_t bytes, gp_buffer **out)
{
    uintptr_t end;
    gp_buffer *b;
    gp_status status;

    if (!w || !base || bytes == 0 || !out)
        return gp_fail(GP_ERR_INVALID,
                       "gp_buffer_register: %zu bytes at %p: a worker, memory "
                       "and a place for the handle are needed",
                       bytes, base);
    if (__builtin_add_overflow((uintptr_t)base, bytes, &end))
        return gp_fail(GP_ERR_INVALID,
                       "gp_buffer_register: %zu bytes at %p wrap around", bytes,
                       base);
    b = calloc(1, sizeof(*b) + w->shards * sizeof(b->token[0]));
    if (!b)
        return gp_fail(GP_ERR_NO_MEMORY, "registered buffer");
    b->worker = w;
    b->base = base;
    b->bytes = bytes;
    gp_driver_hold(w->driver);
    status = open_buffer(b);
    if (status != GP_OK)
        close_buffer(b);
    gp_driver_release(w->driver);
    if (status == GP_OK)
        *out = b;
    return status;
}

static bool
is_used(gp_buffer *b)
{
    gp_worker *w = b->worker;
    bool used = gp_mesh_uses(w->mesh, b->base, b->bytes);

    GP_LIST_EACH (item, &w->active) {
        const gp_request *r = GP_CONTAINER_OF(item, gp_request, link);

        used |= r->from == b || r->to == b;
    }
    pthread_mutex_lock(&w->submit_lock);
    GP_LIST_EACH (item, &w->submitted) {
        const gp_request *r = GP_CONTAINER_OF(item, gp_request, link);

        used |= (r->grad && holds(b, r->grad, 1)) ||
                (r->out && holds(b, r->out, 1));
    }
    pthread_mutex_unlock(&w->submit_lock);
    return used;
}

static bool
is_idle(void *arg)
{
    return atomic_load(&((gp_buffer *)arg)->sending) == 0;
}

/* From here on nothing new uses it. */
static gp_status
begin_leaving(gp_buffer *b)
{
    if (b->leaving || is_used(b))
        return gp_fail(GP_ERR_STATE,
                       "gp_buffer_unregister: %s: wait for it first",
                       b->leaving ? "another thread is unregistering it"
                                  : "a request uses the memory");
    b->leaving = true;
    return GP_OK;
}

static gp_status
end_leaving(gp_buffer *b)
{
    gp_worker *w = b->worker;

    if (!is_idle(b)) {
        b->leaving = false;
        return gp_fail(GP_ERR_TIMEOUT,
                       "gp_buffer_unregister: %u messages are still being "
                       "sent from the memory after %g s",
                       atomic_load(&b->sending), w->timeout);
    }
    /* Not before: a device may send with the key of what is exposed. */
    for (uint32_t i = 0; i < w->shards; i++)
        withdraw(b, &w->conn[i]);
    gp_mesh_withdraw(w->mesh, b);
    w->buffer[b->number] = NULL;
    close_buffer(b);
    return GP_OK;
}

gp_status
gp_buffer_unregister(gp_buffer *b)
{
    gp_worker *w;
    gp_status status;

    if (!b)
        return GP_OK;
    w = b->worker;
    gp_driver_hold(w->driver);
    status = begin_leaving(b);
    gp_driver_release(w->driver);
    if (status != GP_OK)
        return status;
    (void)gp_driver_wait(w->driver, is_idle, b, gp_deadline(w->timeout));
    gp_driver_hold(w->driver);
    status = end_leaving(b);
    gp_driver_release(w->driver);
    return status;
}

void
gp_worker_free_buffers(gp_worker *w)
{
    for (uint32_t i = 0; i < w->buffers; i++)
        if (w->buffer[i])
            close_buffer(w->buffer[i]);
    free(w->buffer);
    w->buffer = NULL;
    w->buffers = 0;
}
