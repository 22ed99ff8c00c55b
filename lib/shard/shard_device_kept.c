/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard_device_kept.c - to a device and back: what a broadcast gives, what
 * checkpoints bring and take; and what is said of a shard on a device.
 *
 * Copies are queued behind the work that they follow. What is asked for is
 * answered when its copy is done.
 */
#include <string.h>

#include "shard/shard_device.h"

/* c->value is pinned, and is not written to before this stream does it. */
void
gp_chunk_device_upload(gp_shard *s, gp_chunk *c)
{
    gp_shard_device *d = s->device;
    gp_status status = GP_OK;

    c->device->direct = false;
    if (gp_updater_keeps(&c->tensor->updater))
        status = d->device->ops->copy_async(
            d->device, c->device->value, c->value,
            c->info->count * sizeof(float), d->stream);
    if (status != GP_OK)
        gp_device_failed(s, c, status);
}

float *
gp_chunk_device_kept(gp_chunk *c, uint32_t which)
{
    gp_chunk_device *x = c->device;

    if (which == GP_KEPT_HISTORY)
        return x->history;
    if (which == GP_KEPT_RESIDUAL)
        return x->residual;
    if (which == GP_KEPT_PARAMETERS)
        return gp_chunk_rounds(c) ? x->value : NULL;
    if (which >= GP_KEPT_ARRAY && which < GP_KEPT_ARRAYS_END)
        return x->array[which - GP_KEPT_ARRAY];
    return NULL;
}

/* Memory of the pull pipeline, where the host encodes results: always when a
 * codec has a state. */
static bool
is_on_host(const gp_chunk *c, const gp_msg *m)
{
    if (m->pipeline == GP_KEPT_SELECT || m->pipeline == GP_KEPT_STATE)
        return true;
    return !c->device->residual &&
           (m->pipeline == GP_KEPT_RESIDUAL || m->pipeline == GP_KEPT_VELOCITY);
}

void
gp_chunk_device_restore(gp_shard *s, gp_chunk *c, const gp_msg *m, float *to,
                        const void *from)
{
    gp_shard_device *d = s->device;
    device_item *it;
    gp_status status;

    if (is_on_host(c, m)) {
        memcpy(to, from, m->payload);
        return;
    }
    it = gp_device_await_item(s, ITEM_MOVE, c);
    if (!it)
        return;
    status = gp_device_arena_take(d->pinned, m->payload, &it->block);
    if (status == GP_OK) {
        memcpy(it->block, from, m->payload);
        status = d->device->ops->copy_async(d->device, to, it->block,
                                            m->payload, d->stream);
    }
    if (status != GP_OK)
        gp_device_failed(s, c, status);
}

void
gp_chunk_device_recall(gp_shard *s, gp_peer *peer, gp_chunk *c, const gp_msg *m,
                       const float *from)
{
    gp_shard_device *d = s->device;
    size_t bytes = m->elements * sizeof(float);
    device_item *it;
    gp_status status;

    if (is_on_host(c, m)) {
        gp_shard_give_kept(s, peer, m, GP_OK, from);
        return;
    }
    it = gp_device_await_item(s, ITEM_RECALL, c);
    if (!it)
        return;
    it->peer = peer;
    it->msg = *m;
    peer->reading++;
    status = gp_device_arena_take(d->pinned, bytes, &it->block);
    if (status == GP_OK)
        status = d->device->ops->copy_async(d->device, it->block, from, bytes,
                                            d->stream);
    if (status != GP_OK)
        gp_device_failed(s, c, status);
}

void
gp_device_recalled(gp_shard *s, device_item *it)
{
    it->peer->reading--;
    if (!it->peer->dead)
        gp_shard_give_kept(s, it->peer, &it->msg, GP_OK, it->block);
}

static size_t
bytes_of(const gp_device_arena *a)
{
    return a ? gp_device_arena_bytes(a) : 0;
}

void
gp_shard_device_describe(const gp_shard *s, gp_json_text *j)
{
    const gp_shard_device *d = s->device;

    gp_json_put_text(j, "device", d ? d->name : "cpu");
    if (!d)
        return;
    gp_json_put_text(j, "device_model", d->model);
    gp_json_put_count(j, "device_bytes",
                      gp_device_arena_bytes(d->memory) + bytes_of(d->shown) +
                          bytes_of(d->landing));
    gp_json_put_count(j, "pinned_bytes", gp_device_arena_bytes(d->pinned));
    gp_json_put_count(j, "tensors_on_device", d->tensors);
    gp_json_put_count(j, "tensors_on_host", d->tensors_host);
    gp_json_put_count(j, "pushes_on_device", d->pushes);
    gp_json_put_count(j, "pushes_decoded_by_host", d->pushes_host);
    gp_json_put_count(j, "direct_bytes", d->direct_bytes);
    gp_json_put_count(j, "landed_bytes", d->landed_bytes);
}
