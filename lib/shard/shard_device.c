/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard_device.c - turns of a shard on a device: what is queued, and what
 * follows when it is done.
 *
 * Events are looked at in the order of the stream, so that what is done of a
 * chunk is done in its order, and a damaged push is found before the result
 * that it is in could leave.
 */
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "shard/shard_device.h"

#define ROOM_SECONDS 10.0

void
gp_device_failed(gp_shard *s, const gp_chunk *c, gp_status status)
{
    if (c)
        gp_shard_fail(s, status, "tensor '%.60s' on %s: %.300s",
                      c->tensor->spec->name, s->device->name, gp_last_error());
    else
        gp_shard_fail(s, status, "shard on %s: %.300s", s->device->name,
                      gp_last_error());
}

/* --- jobs --- */

static device_job *
open_job(gp_shard_device *d)
{
    return d->used < DEVICE_JOBS ? &d->job[(d->first + d->used) % DEVICE_JOBS]
                                 : NULL;
}

uint32_t
gp_device_room(const gp_shard_device *d)
{
    if (d->used == DEVICE_JOBS)
        return 0;
    return DEVICE_ITEMS - d->job[(d->first + d->used) % DEVICE_JOBS].count;
}

void
gp_device_take_back(gp_shard_device *d, uint32_t items)
{
    open_job(d)->count -= items;
    d->blocked = true;
}

device_item *
gp_device_item(gp_shard_device *d, item_kind kind, gp_chunk *c)
{
    device_job *job = open_job(d);
    device_item *it;

    if (!job || job->count == DEVICE_ITEMS)
        return NULL;
    it = &job->item[job->count];
    memset(it, 0, sizeof(*it));
    it->kind = kind;
    it->chunk = c;
    it->note = &job->notes[job->count++];
    *it->note = (device_note){0};
    return it;
}

void
gp_device_seal(gp_shard *s)
{
    gp_shard_device *d = s->device;
    device_job *job = open_job(d);
    gp_status status;

    if (!job || job->count == 0)
        return;
    status = d->device->ops->event_record(d->device, job->event, d->stream);
    if (status == GP_OK)
        d->used++;
    else
        gp_device_failed(s, NULL, status);
}

static bool
look_at_first(gp_shard *s, device_job **out)
{
    gp_shard_device *d = s->device;
    device_job *job = &d->job[d->first];
    gp_status status;

    if (d->used == 0 || s->fault != GP_OK)
        return false;
    status = d->device->ops->event_query(d->device, job->event);
    if (status == GP_PENDING)
        return false;
    if (status != GP_OK) {
        gp_device_failed(s, NULL, status);
        return false;
    }
    *out = job;
    return true;
}

/* --- what follows --- */

static size_t
norm_blocks(const gp_chunk *c)
{
    return (c->info->count + GP_NORM_BLOCK - 1) / GP_NORM_BLOCK;
}

static void
measured(gp_shard *s, device_item *it)
{
    gp_chunk *c = it->chunk;
    gp_chunk_device *x = c->device;
    size_t blocks = norm_blocks(c);

    memset(x->norm, 0, sizeof(x->norm));
    gp_norm_add_sums(&x->norm[0], x->squares, blocks);
    if (gp_chunk_wants_direction(c)) {
        gp_norm_add_sums(&x->norm[1], x->squares + blocks, blocks);
        x->directed = true;
    }
    x->measured = true;
    x->phase = DEVICE_FOLDS;
    gp_chunk_device_advance(s, c);
}

static void
finish_item(gp_shard *s, device_item *it)
{
    switch (it->kind) {
    case ITEM_FOLD:
        gp_device_folded(s, it);
        break;
    case ITEM_MEASURE:
        measured(s, it);
        break;
    case ITEM_PUBLISH:
        gp_device_published(s, it);
        break;
    case ITEM_RECALL:
        gp_device_recalled(s, it);
        break;
    default:
        break;
    }
    gp_device_arena_give(s->device->pinned, it->block);
    it->block = NULL;
}

int
gp_device_look(gp_shard *s)
{
    gp_shard_device *d = s->device;
    device_job *job;
    int done = 0;

    while (look_at_first(s, &job)) {
        for (uint32_t i = 0; i < job->count && s->fault == GP_OK; i++) {
            finish_item(s, &job->item[i]);
            done++;
        }
        if (s->fault != GP_OK)
            break;
        job->count = 0;
        d->first = (d->first + 1) % DEVICE_JOBS;
        d->used--;
    }
    return done;
}

void
gp_shard_device_drain(gp_shard *s)
{
    gp_shard_device *d = s->device;
    uint64_t deadline = gp_deadline(ROOM_SECONDS);

    if (!d || s->fault != GP_OK)
        return;
    gp_device_seal(s);
    while (d->used > 0 && s->fault == GP_OK && !gp_expired(deadline))
        if (gp_device_look(s) == 0)
            sched_yield();
    if (d->used > 0 && s->fault == GP_OK)
        gp_shard_fail(s, GP_ERR_TIMEOUT, "%s does nothing for %.0f seconds",
                      d->name, ROOM_SECONDS);
}

device_item *
gp_device_await_item(gp_shard *s, item_kind kind, gp_chunk *c)
{
    uint64_t deadline = gp_deadline(ROOM_SECONDS);
    device_item *it;

    while (!(it = gp_device_item(s->device, kind, c)) && s->fault == GP_OK &&
           !gp_expired(deadline)) {
        gp_device_seal(s);
        if (gp_device_look(s) == 0)
            sched_yield();
    }
    if (!it && s->fault == GP_OK)
        gp_shard_fail(s, GP_ERR_TIMEOUT, "%s does nothing for %.0f seconds",
                      s->device->name, ROOM_SECONDS);
    return it;
}

/* --- results --- */

/* The sum as the updater wants it. */
static gp_status
finish_sum(gp_shard *s, gp_chunk *c)
{
    gp_chunk_device *x = c->device;
    float scale = gp_chunk_scale(s, c);

    x->finished = true;
    if (x->history)
        return gp_device_history(s->device, c, scale);
    return scale == 1.0f
               ? GP_OK
               : gp_device_scale(s->device, x->sum, c->info->count, scale);
}

/* Squares are added up by the host, which needs few of them. */
static gp_status
measure(gp_shard *s, gp_chunk *c)
{
    gp_shard_device *d = s->device;

    if (gp_device_room(d) <= d->group.count) /* which needs items, too */
        return GP_AGAIN;
    (void)gp_device_item(d, ITEM_MEASURE, c);
    c->device->phase = DEVICE_MEASURES;
    return gp_device_squares(d, c->device->sum, c->info->count,
                             c->device->squares);
}

/* Makes the direction, and measures parameters and direction. Nothing is
 * queued when there is no room: the averages may change but once. */
static gp_status
direct(gp_shard *s, gp_chunk *c)
{
    gp_shard_device *d = s->device;
    gp_chunk_device *x = c->device;
    size_t n = c->info->count;
    gp_status status;

    if (gp_device_room(d) <= d->group.count)
        return GP_AGAIN;
    (void)gp_device_item(d, ITEM_MEASURE, c);
    x->phase = DEVICE_MEASURES;
    status = gp_device_direct(d, c);
    if (status == GP_OK)
        status = gp_device_squares(d, x->value, n, x->squares);
    if (status == GP_OK)
        status = gp_device_squares(d, x->sum, n, x->squares + norm_blocks(c));
    return status == GP_OK ? GP_PENDING : status;
}

/* From a whole sum to new parameters. GP_PENDING: not before the norm of all
 * that are clipped is there, or those of the tensor. */
static gp_status
update(gp_shard *s, gp_chunk *c)
{
    const gp_updater *u = &c->tensor->updater;
    gp_chunk_device *x = c->device;
    gp_status status = GP_OK;

    if (!x->finished)
        status = finish_sum(s, c);
    if (status == GP_OK && gp_updater_clips(u) && !x->measured) {
        status = measure(s, c);
        return status == GP_OK ? GP_PENDING : status;
    }
    if (status != GP_OK || !gp_updater_keeps(u)) {
        x->phase = DEVICE_UPDATED;
        return status;
    }
    if (!gp_chunk_measure(s, c))
        return gp_chunk_wants_direction(c) ? direct(s, c) : GP_PENDING;
    x->phase = DEVICE_UPDATED;
    return gp_device_update(s->device, c);
}

/* --- turns --- */

/* GP_AGAIN: it has to come again when something is done. */
static gp_status
go_on(gp_shard *s, gp_chunk *c)
{
    gp_chunk_device *x = c->device;
    gp_status status = GP_OK;

    if (x->phase == DEVICE_FOLDS && gp_chunk_is_whole(s, c))
        status = update(s, c);
    if (status == GP_OK && x->phase == DEVICE_UPDATED)
        status = gp_device_publish(s, c);
    if (status != GP_OK && status != GP_AGAIN && status != GP_PENDING)
        gp_device_failed(s, c, status);
    return status;
}

/* A chunk that goes on may let others go on, which are then ready as well. */
static void
go_on_all(gp_shard *s)
{
    gp_shard_device *d = s->device;
    gp_list again, *item;

    gp_list_init(&again);
    while (s->fault == GP_OK && (item = gp_list_pop(&d->ready))) {
        gp_chunk_device *x = GP_CONTAINER_OF(item, gp_chunk_device, ready);
        bool room = go_on(s, x->chunk) != GP_AGAIN;

        d->blocked |= !room;
        if (d->blocked)
            gp_list_insert(&again, &x->ready);
    }
    if (s->fault == GP_OK)
        gp_device_publish_rest(s);
    while ((item = gp_list_pop(&again)))
        gp_list_insert(&d->ready, item);
}

static uint32_t
items_of(gp_shard_device *d)
{
    const device_job *job = open_job(d);

    return job ? job->count : 0;
}

int
gp_shard_device_turn(gp_shard *s)
{
    gp_shard_device *d = s->device;
    int done = gp_device_look(s);

    if (s->fault != GP_OK)
        return done;
    d->blocked = open_job(d) == NULL;
    while (!gp_list_empty(&d->ready) && !d->blocked && s->fault == GP_OK) {
        gp_device_fold_ready(s);
        go_on_all(s);
    }
    done += (int)items_of(d);
    if (s->fault == GP_OK)
        gp_device_seal(s);
    return done;
}

bool
gp_shard_device_is_busy(const gp_shard *s)
{
    return (s->device->used > 0 || !gp_list_empty(&s->device->ready)) &&
           s->fault == GP_OK;
}

void
gp_chunk_device_advance(gp_shard *s, gp_chunk *c)
{
    gp_chunk_device *x = c->device;

    if ((x->phase == DEVICE_FOLDS || x->phase == DEVICE_UPDATED) &&
        gp_list_empty(&x->ready))
        gp_list_insert(&s->device->ready, &x->ready);
}

bool
gp_chunk_device_moves(const gp_chunk *c)
{
    return c->device->phase == DEVICE_PUBLISHES;
}

void
gp_chunk_device_clip(gp_shard *s, gp_chunk *c, float factor)
{
    gp_status status =
        gp_device_scale(s->device, c->device->sum, c->info->count, factor);

    if (status != GP_OK)
        gp_device_failed(s, c, status);
}

void
gp_chunk_device_measured(const gp_chunk *c, void *norm)
{
    gp_norm_merge(norm, &c->device->norm[0]);
}

bool
gp_chunk_device_directed(const gp_chunk *c, void *parameters, void *direction)
{
    const gp_chunk_device *x = c->device;

    if (!x->directed)
        return false;
    gp_norm_merge(parameters, &x->norm[0]);
    gp_norm_merge(direction, &x->norm[1]);
    return true;
}
