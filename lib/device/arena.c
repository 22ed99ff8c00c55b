/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arena.c - segments of 2 MiB or a multiple, cut into ranges.
 *
 * Ranges of a segment lie in a list in the order of their addresses, without
 * gaps; no two free ones are neighbours. The first free one that is long enough
 * is taken. Lists are short: whoever takes blocks keeps them.
 */
#include "device/arena.h"

#include <pthread.h>
#include <stdlib.h>

typedef struct range {
    struct range *next;
    uint8_t *base;
    size_t bytes;
    bool used;
} range;

typedef struct segment {
    struct segment *next;
    void *base;
    size_t bytes;
    range *first;
} segment;

struct gp_device_arena {
    gp_device *device;
    bool pinned;
    pthread_mutex_t lock;
    segment *segments;
    size_t bytes;
};

gp_status
gp_device_arena_open(gp_device *device, bool pinned, gp_device_arena **out)
{
    gp_device_arena *a = calloc(1, sizeof(*a));

    if (!a)
        return gp_fail(GP_ERR_NO_MEMORY, "arena");
    a->device = device;
    a->pinned = pinned;
    pthread_mutex_init(&a->lock, NULL);
    *out = a;
    return GP_OK;
}

static void
free_block(gp_device_arena *a, void *block)
{
    if (a->pinned)
        a->device->ops->free_pinned(a->device, block);
    else
        a->device->ops->free(a->device, block);
}

void
gp_device_arena_close(gp_device_arena *a)
{
    segment *s;
    range *r;

    if (!a)
        return;
    while ((s = a->segments)) {
        a->segments = s->next;
        while ((r = s->first)) {
            s->first = r->next;
            free(r);
        }
        free_block(a, s->base);
        free(s);
    }
    pthread_mutex_destroy(&a->lock);
    free(a);
}

/* With the lock held. */
static gp_status
grow(gp_device_arena *a, size_t bytes)
{
    const gp_device_ops *ops = a->device->ops;
    segment *s = calloc(1, sizeof(*s));
    range *all = calloc(1, sizeof(*all));
    gp_status status = GP_ERR_NO_MEMORY;

    if (s && all && bytes <= SIZE_MAX - GP_ARENA_SEGMENT) {
        bytes = (bytes + GP_ARENA_SEGMENT - 1) & ~(GP_ARENA_SEGMENT - 1);
        status = a->pinned ? ops->alloc_pinned(a->device, bytes, &s->base)
                           : ops->alloc(a->device, bytes, &s->base);
    } else {
        (void)gp_fail(status, "segment of %zu bytes", bytes);
    }
    if (status != GP_OK) {
        free(s);
        free(all);
        return status;
    }
    *all = (range){.base = s->base, .bytes = bytes};
    s->first = all;
    s->bytes = bytes;
    s->next = a->segments;
    a->segments = s;
    a->bytes += bytes;
    return GP_OK;
}

static range *
find_free(gp_device_arena *a, size_t bytes)
{
    for (segment *s = a->segments; s; s = s->next)
        for (range *r = s->first; r; r = r->next)
            if (!r->used && r->bytes >= bytes)
                return r;
    return NULL;
}

/* Leaves the range `bytes` long. Without memory for another range it stays as
 * it is, which only wastes. */
static void
cut(range *r, size_t bytes)
{
    range *rest = r->bytes > bytes ? malloc(sizeof(*rest)) : NULL;

    if (!rest)
        return;
    *rest = (range){r->next, r->base + bytes, r->bytes - bytes, false};
    r->next = rest;
    r->bytes = bytes;
}

gp_status
gp_device_arena_take(gp_device_arena *a, size_t bytes, void **out)
{
    gp_status status = GP_OK;
    range *r;

    if (bytes > SIZE_MAX - GP_ARENA_ALIGN)
        return gp_fail(GP_ERR_NO_MEMORY, "block of %zu bytes", bytes);
    bytes = (GP_MAX(bytes, 1) + GP_ARENA_ALIGN - 1) & ~(GP_ARENA_ALIGN - 1);
    pthread_mutex_lock(&a->lock);
    r = find_free(a, bytes);
    if (!r)
        status = grow(a, bytes);
    if (!r && status == GP_OK)
        r = find_free(a, bytes);
    if (status == GP_OK) {
        cut(r, bytes);
        r->used = true;
        *out = r->base;
    }
    pthread_mutex_unlock(&a->lock);
    return status;
}

/* Free neighbours become one. */
static void
join(segment *s)
{
    for (range *r = s->first; r && r->next;) {
        range *next = r->next;

        if (r->used || next->used) {
            r = next;
            continue;
        }
        r->bytes += next->bytes;
        r->next = next->next;
        free(next);
    }
}

void
gp_device_arena_give(gp_device_arena *a, void *block)
{
    if (!block)
        return;
    pthread_mutex_lock(&a->lock);
    for (segment *s = a->segments; s; s = s->next) {
        range *r = s->first;

        while (r && r->base != block)
            r = r->next;
        if (!r)
            continue;
        r->used = false;
        join(s);
        break;
    }
    pthread_mutex_unlock(&a->lock);
}

bool
gp_device_arena_segment(const gp_device_arena *a, const void *block,
                        void **base, size_t *bytes)
{
    gp_device_arena *arena = (gp_device_arena *)a;
    bool found = false;

    pthread_mutex_lock(&arena->lock);
    for (const segment *s = a->segments; s && !found; s = s->next) {
        found = (uintptr_t)block - (uintptr_t)s->base < s->bytes;
        if (!found)
            continue;
        *base = s->base;
        *bytes = s->bytes;
    }
    pthread_mutex_unlock(&arena->lock);
    return found;
}

size_t
gp_device_arena_bytes(const gp_device_arena *a)
{
    gp_device_arena *arena = (gp_device_arena *)a;
    size_t bytes;

    pthread_mutex_lock(&arena->lock);
    bytes = a->bytes;
    pthread_mutex_unlock(&arena->lock);
    return bytes;
}
