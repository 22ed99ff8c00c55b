/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard_device_publish.c - from the device to where answers are sent from.
 *
 * What is being sent is not written over: a result waits until the one before
 * has left, and until it is there nobody is answered. Results that go through
 * one pipeline are encoded in one call.
 */
#include "shard/shard_device.h"

static const float *
result_of(const gp_chunk *c)
{
    return gp_updater_keeps(&c->tensor->updater) ? c->device->value
                                                 : c->device->sum;
}

static gp_status
copy_value(gp_shard_device *d, const gp_chunk *c, void *to)
{
    return d->device->ops->copy_async(
        d->device, to, result_of(c), c->info->count * sizeof(float), d->stream);
}

static gp_coder_part
part_of(gp_shard *s, gp_chunk *c, device_note *note)
{
    gp_coder_part part = {
        .context = gp_chunk_context(s, c, c->version + 1, GP_RANK_SHARD),
        .count = c->info->count,
        .source = result_of(c),
        .residual = c->device->residual,
        .bytes = c->device->direct ? (void *)c->device->shown : c->encoded,
        .encoded = &note->encoded};

    part.context.shared = 0;
    return part;
}

static gp_status
after_encoding(gp_shard_device *d, const device_group *g)
{
    gp_status status = GP_OK;

    for (uint32_t i = 0; i < g->count && status == GP_OK; i++) {
        gp_chunk *c = g->chunk[i];

        c->device->phase = DEVICE_PUBLISHES;
        if (c->tensor->device->keeps_copy)
            status = copy_value(d, c, c->value);
    }
    return status;
}

/* The group has no more chunks than there is room for items. */
void
gp_device_publish_rest(gp_shard *s)
{
    gp_shard_device *d = s->device;
    device_group *g = &d->group;
    gp_status status = GP_OK;

    if (g->count == 0)
        return;
    for (uint32_t i = 0; i < g->count; i++) {
        gp_chunk *c = g->chunk[i];

        c->device->grouped = false;
        gp_device_choose_way(s, c);
        g->part[i] = part_of(s, c, gp_device_item(d, ITEM_PUBLISH, c)->note);
    }
    status = gp_coder_encode(g->coder, g->part, g->count, d->stream);
    if (status == GP_AGAIN) {
        gp_device_take_back(d, g->count);
        for (uint32_t i = 0; i < g->count; i++)
            gp_chunk_device_advance(s, g->chunk[i]);
    } else {
        if (status == GP_OK)
            status = after_encoding(d, g);
        if (status != GP_OK)
            gp_device_failed(s, g->chunk[0], status);
    }
    g->count = 0;
    g->coder = NULL;
}

/* It waits for others, until the turn ends. */
static gp_status
put_to_encode(gp_shard *s, gp_chunk *c)
{
    gp_shard_device *d = s->device;
    device_group *g = &d->group;

    if (g->count > 0 && g->coder != c->tensor->device->pull)
        gp_device_publish_rest(s);
    if (s->fault != GP_OK)
        return GP_PENDING;
    if (c->device->grouped)
        return GP_PENDING;
    if (d->blocked || gp_device_room(d) <= g->count)
        return GP_AGAIN;
    c->device->grouped = true;
    g->coder = c->tensor->device->pull;
    g->chunk[g->count++] = c;
    return GP_OK;
}

gp_status
gp_device_publish(gp_shard *s, gp_chunk *c)
{
    gp_shard_device *d = s->device;

    if (c->sending > 0)
        return GP_PENDING;
    if (c->tensor->device->pull)
        return put_to_encode(s, c);
    if (gp_device_room(d) <= d->group.count)
        return GP_AGAIN;
    (void)gp_device_item(d, ITEM_PUBLISH, c);
    gp_device_choose_way(s, c);
    c->device->phase = DEVICE_PUBLISHES;
    return copy_value(d, c,
                      c->device->direct ? (void *)c->device->shown : c->value);
}

void
gp_device_published(gp_shard *s, device_item *it)
{
    gp_chunk *c = it->chunk;

    c->device->phase = DEVICE_FOLDS;
    c->device->finished = c->device->measured = false;
    c->device->directed = false;
    gp_chunk_begin_next(c);
    if (c->tensor->device->pull) {
        c->encoded_valid = true;
        c->encoded_length = it->note->encoded;
        c->encoded_shared = 0;
    }
    gp_chunk_settle_step(s, c);
    for (int64_t r = 0; r < s->size; r++)
        if (c->entry[r].answer == ANSWER_RESULT && c->entry[r].init_answer)
            gp_entry_settle(s, c, (uint32_t)r);
    gp_chunk_device_advance(s, c);
}
