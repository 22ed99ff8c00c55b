/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard_device_fold.c - pushes are added on the device.
 *
 * Neighbours of all chunks that went through one pipeline are one call of its
 * coder, a launch or two. A chunk is in a call once: its next pushes are for
 * the call after. What the device cannot decode is decoded by the host, into
 * pinned memory, and added as numbers. A push stays in its slot until the event
 * behind the call is done.
 */
#include <string.h>

#include "compress/pipeline.h"
#include "shard/shard_device.h"

static gp_entry *
entry_of(gp_chunk *c, uint32_t rank)
{
    return &c->entry[rank];
}

static const device_decoder *
decoder_of(const gp_chunk *c, const gp_entry *e)
{
    return &c->tensor->device->push[e->codec];
}

static bool
is_weighted(const gp_entry *e)
{
    return e->weight != 1.0;
}

/* The coder that takes a prepared push. */
static gp_coder *
coder_of(const gp_shard *s, const gp_chunk *c, const gp_entry *e)
{
    return e->decoded ? s->device->dense : decoder_of(c, e)->coder->coder;
}

static bool
folds(const gp_shard *s, const gp_chunk *c, const gp_entry *e)
{
    return e->decoded || coder_of(s, c, e) == s->device->dense ||
           decoder_of(c, e)->coder->folds;
}

static bool
can_decode(const device_decoder *k)
{
    return k->coder && k->coder->coder &&
           (k->coder->folds || gp_coder_decodes(k->coder->coder));
}

bool
gp_device_reads(const device_decoder *k)
{
    return can_decode(k) && !k->unpacks;
}

/* --- a push where kernels can read it --- */

static void
damaged(gp_shard *s, const gp_chunk *c, uint32_t rank, gp_status status)
{
    gp_shard_fail(s, status,
                  "worker %u pushed damaged data for tensor '%.60s': %.200s",
                  rank, c->tensor->spec->name, gp_last_error());
}

static bool
replace(gp_shard *s, gp_entry *e, uint32_t rank, void *block, size_t length)
{
    gp_entry_free(s, s->worker[rank], e);
    e->stash = block;
    e->payload = block;
    e->length = length;
    return true;
}

/* As the host does: into numbers. */
static gp_status
decode_here(gp_shard *s, gp_chunk *c, uint32_t rank)
{
    gp_entry *e = entry_of(c, rank);
    gp_codec_context context = gp_chunk_context(s, c, e->msg.step, rank);
    const gp_codec_input input = {&context, e->payload, e->length};
    size_t bytes = c->info->count * sizeof(float);
    void *block = gp_shard_take(s, bytes);
    gp_status status;

    if (!block)
        return GP_ERR_NO_MEMORY;
    status = gp_pipeline_fold(c->tensor->push.pipeline[e->codec], &input, 1,
                              false, block, c->info->count, s->workspace);
    if (status != GP_OK) {
        gp_shard_give(s, block);
        return status;
    }
    e->decoded = true;
    s->device->pushes_host++;
    replace(s, e, rank, block, bytes);
    return GP_OK;
}

/* Byte stages are undone by the host. */
static gp_status
unpack_here(gp_shard *s, gp_chunk *c, uint32_t rank)
{
    gp_entry *e = entry_of(c, rank);
    gp_codec_context context = gp_chunk_context(s, c, e->msg.step, rank);
    const void *message = NULL;
    size_t length = 0;
    void *block;
    gp_status status = gp_pipeline_unpack(
        c->tensor->push.pipeline[e->codec], &context, e->payload, e->length,
        c->info->count, &message, &length, s->workspace);

    if (status != GP_OK)
        return status;
    block = gp_shard_take(s, length);
    if (!block)
        return GP_ERR_NO_MEMORY;
    memcpy(block, message, length);
    replace(s, e, rank, block, length);
    return GP_OK;
}

/* Whether it lies in the worker's slots, which are pinned or the device's. */
static bool
lies_in_slot(const gp_shard *s, const gp_peer *peer, const gp_entry *e)
{
    return e->landed ||
           (peer && peer->slots &&
            e->payload ==
                (const void *)(peer->slots + e->msg.slot * s->slot_bytes) &&
            (uintptr_t)e->payload % 16 == 0);
}

static bool
prepare(gp_shard *s, gp_chunk *c, uint32_t rank)
{
    gp_entry *e = entry_of(c, rank);
    const device_decoder *k = decoder_of(c, e);
    gp_peer *peer = s->worker[rank];
    gp_status status = GP_OK;

    if (e->prepared)
        return true;
    if (!can_decode(k))
        status = decode_here(s, c, rank);
    else if (k->unpacks)
        status = unpack_here(s, c, rank);
    else if (!e->stash && !lies_in_slot(s, peer, e))
        status = gp_entry_stash(s, peer, e);
    if (status == GP_ERR_NO_MEMORY)
        gp_device_failed(s, c, gp_fail(status, "pinned memory for a push"));
    else if (status != GP_OK)
        damaged(s, c, rank, status);
    e->prepared = status == GP_OK;
    return e->prepared;
}

/* --- what a call is about --- */

static void
take_up(gp_shard *s, gp_chunk *c, uint32_t first, uint32_t count)
{
    for (uint32_t r = first; r < first + count; r++) {
        gp_entry *e = entry_of(c, r);

        e->queued = true;
        e->reader = e->stash ? NULL : s->worker[r];
        if (e->reader)
            e->reader->reading++;
        s->device->pushes += !e->decoded;
        c->weight += e->weight;
        c->weighted |= is_weighted(e);
    }
    c->next_rank = first + count;
    c->folded += count;
}

static gp_peer *
living(gp_peer *peer)
{
    return peer && !peer->dead ? peer : NULL;
}

static void
done_with(gp_shard *s, gp_chunk *c, uint32_t rank)
{
    gp_entry *e = entry_of(c, rank);
    gp_peer *peer = e->reader;

    if (peer)
        peer->reading--;
    e->reader = NULL;
    e->queued = e->prepared = e->decoded = false;
    gp_entry_free(s, living(peer), e);
    e->pending = false;
    e->next_step = c->version + 1;
    if (e->answer == ANSWER_ACK)
        gp_entry_settle(s, c, rank);
}

/* Whose message it was: the host looks at them one by one. */
static void
blame(gp_shard *s, gp_chunk *c, uint32_t first, uint32_t count)
{
    float *values = gp_shard_take(s, c->info->count * sizeof(float));
    uint32_t rank = first;
    gp_status status = GP_OK;

    for (; values && rank < first + count && status == GP_OK; rank++) {
        gp_entry *e = entry_of(c, rank);
        gp_codec_context context = gp_chunk_context(s, c, e->msg.step, rank);

        if (e->landed)
            status = gp_entry_stash(s, living(e->reader), e);
        if (status == GP_OK && !e->decoded)
            status = gp_pipeline_decode(decoder_of(c, e)->coder->pipeline,
                                        &context, e->payload, e->length, values,
                                        c->info->count, s->workspace);
    }
    gp_shard_give(s, values);
    if (status != GP_OK)
        damaged(s, c, rank - 1, status);
    else
        gp_shard_fail(s, GP_ERR_CORRUPT,
                      "worker %u to %u pushed damaged data for tensor '%.60s'",
                      first, first + count - 1, c->tensor->spec->name);
}

void
gp_device_folded(gp_shard *s, device_item *it)
{
    if (it->note->status) {
        blame(s, it->chunk, it->first, it->count);
        return;
    }
    for (uint32_t r = it->first; r < it->first + it->count; r++)
        done_with(s, it->chunk, r);
}

/* --- calls --- */

static void
flush(gp_shard *s)
{
    gp_shard_device *d = s->device;
    device_group *g = &d->group;
    gp_status status;

    if (g->count == 0)
        return;
    if (g->folds)
        status = gp_coder_fold(g->coder, g->sum, g->count, g->adds, d->stream);
    else
        status =
            gp_coder_decode(g->coder, g->part, g->count, g->adds, d->stream);
    if (status == GP_AGAIN)
        gp_device_take_back(d, g->count);
    else if (status != GP_OK)
        gp_device_failed(s, g->chunk[0], status);
    for (uint32_t i = 0; status == GP_OK && i < g->count; i++)
        take_up(s, g->chunk[i], g->item[i]->first, g->item[i]->count);
    g->count = g->inputs = 0;
    g->coder = NULL;
}

/* Part of a call that adds, or replaces the sum. */
static void
put(gp_shard *s, gp_chunk *c, device_item *it)
{
    device_group *g = &s->device->group;
    uint32_t i = g->count++, at = g->inputs;

    for (uint32_t r = it->first; r < it->first + it->count; r++) {
        const gp_entry *e = entry_of(c, r);

        g->context[g->inputs] = gp_chunk_context(s, c, e->msg.step, r);
        g->input[g->inputs] =
            (gp_codec_input){&g->context[g->inputs], e->payload, e->length};
        g->inputs++;
    }
    g->chunk[i] = c;
    g->item[i] = it;
    if (g->folds)
        g->sum[i] = (gp_coder_sum){.input = &g->input[at],
                                   .inputs = it->count,
                                   .target = c->device->sum,
                                   .count = c->info->count,
                                   .status = &it->note->status};
    else
        g->part[i] = (gp_coder_part){.context = g->context[at],
                                     .count = c->info->count,
                                     .target = c->device->sum,
                                     .bytes = (void *)g->input[at].bytes,
                                     .length = g->input[at].length,
                                     .status = &it->note->status};
}

/* A push of its own: decoded, multiplied, added. */
static void
fold_weighted(gp_shard *s, gp_chunk *c, uint32_t rank)
{
    gp_shard_device *d = s->device;
    const gp_entry *e = entry_of(c, rank);
    bool add = c->folded > 0;
    device_item *it;
    gp_coder_part part = {.context = gp_chunk_context(s, c, e->msg.step, rank),
                          .count = c->info->count,
                          .target = add ? d->scratch : c->device->sum,
                          .bytes = (void *)e->payload,
                          .length = e->length,
                          .scale = (float)e->weight};
    gp_status status;

    flush(s);
    it = d->blocked ? NULL : gp_device_item(d, ITEM_FOLD, c);
    d->blocked |= !it;
    if (!it || s->fault != GP_OK)
        return;
    it->first = rank;
    it->count = 1;
    part.status = &it->note->status;
    status = gp_coder_decode(coder_of(s, c, e), &part, 1, false, d->stream);
    if (status == GP_AGAIN) {
        gp_device_take_back(d, 1);
        return;
    }
    if (status == GP_OK && add)
        status = gp_device_add(d, c->device->sum, d->scratch, c->info->count);
    if (status == GP_OK)
        take_up(s, c, rank, 1);
    else
        gp_device_failed(s, c, status);
}

/* The group takes what goes through one coder, all in one way. */
static void
make_group(gp_shard *s, const gp_chunk *c, const gp_entry *e, uint32_t count)
{
    device_group *g = &s->device->group;
    gp_coder *coder = coder_of(s, c, e);
    bool adds = c->folded > 0;

    if (g->coder != coder || g->adds != adds || g->count == DEVICE_ITEMS ||
        g->inputs + count > DEVICE_INPUTS)
        flush(s);
    g->coder = coder;
    g->adds = adds;
    g->folds = folds(s, c, e);
}

/* The next pushes of a chunk; false when there are none, or no room. */
static bool
fold_next(gp_shard *s, gp_chunk *c)
{
    gp_shard_device *d = s->device;
    uint32_t count = gp_chunk_run(s, c), first = c->next_rank;
    device_item *it;

    if (count == 0 || c->device->phase != DEVICE_FOLDS || c->device->finished)
        return false;
    for (uint32_t r = first; r < first + count; r++)
        if (!prepare(s, c, r))
            return false;
    if (is_weighted(entry_of(c, first))) {
        fold_weighted(s, c, first);
        return !d->blocked;
    }
    count = folds(s, c, entry_of(c, first)) ? GP_MIN(count, GP_CODEC_FOLD) : 1;
    make_group(s, c, entry_of(c, first), count);
    it = d->blocked ? NULL : gp_device_item(d, ITEM_FOLD, c);
    d->blocked |= !it;
    if (!it)
        return false;
    it->first = first;
    it->count = count;
    put(s, c, it);
    return true;
}

void
gp_device_fold_ready(gp_shard *s)
{
    gp_shard_device *d = s->device;
    bool any = gp_device_slots_flush(s);

    while (any && !d->blocked && s->fault == GP_OK) {
        any = false;
        GP_LIST_EACH (item, &d->ready) {
            gp_chunk *c = GP_CONTAINER_OF(item, gp_chunk_device, ready)->chunk;

            if (s->fault == GP_OK && !d->blocked)
                any |= fold_next(s, c);
        }
        if (s->fault == GP_OK)
            flush(s);
        d->group.count = d->group.inputs = 0;
    }
}
