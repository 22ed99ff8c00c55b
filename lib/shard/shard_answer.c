/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard_answer.c - what a shard owes its workers, and what it does when one of
 * them is gone.
 *
 * A result is encoded and checksummed once, for whichever worker is first.
 */
#include <stdlib.h>
#include <string.h>

#include "shard/shard_rows.h"

static bool
lies_in_slot(const gp_shard *s, const gp_peer *peer, const gp_entry *e)
{
    return e->landed ||
           e->payload ==
               (const void *)(peer->slots + e->msg.slot * s->slot_bytes);
}

/* What is acknowledged belongs to its owner again, so it must not lie in the
 * worker's memory any more. */
static gp_status
send_ack(gp_shard *s, gp_peer *peer, gp_entry *e)
{
    gp_msg msg = {
        .type = GP_MSG_ACK, .chunk = e->chunk->number, .cookie = e->cookie};

    if (e->pending && !e->stash && !e->queued && !lies_in_slot(s, peer, e)) {
        gp_status status = gp_entry_stash(s, peer, e);

        if (status != GP_OK)
            return status;
        gp_chunk_advance(s, e->chunk);
    }
    msg.status = e->pending ? GP_PENDING : GP_OK;
    return gp_peer_post(s, peer, &msg, NULL, 0);
}

gp_status
gp_chunk_encode_into(gp_shard *s, gp_chunk *c, const float *values, void *out,
                     size_t *length, float *shared)
{
    gp_codec_context context =
        gp_chunk_context(s, c, c->version, GP_RANK_SHARD);
    const gp_pipeline *p = c->tensor->pull;
    uint32_t needs = gp_pipeline_needs(p);
    size_t bound = gp_pipeline_bound(p, c->info->count);
    gp_status status = GP_OK;

    context.shared = 0;
    if (needs & GP_PIPELINE_PREPARES)
        status =
            gp_pipeline_prepare(p, &context, c->memory, values, c->info->count);
    if (status == GP_OK && needs & GP_PIPELINE_PROPOSES)
        status = gp_pipeline_propose(p, &context, c->memory, values,
                                     c->info->count, &context.shared);
    if (status != GP_OK)
        return status;
    *shared = context.shared;
    return gp_pipeline_encode(p, &context, c->memory, values, c->info->count,
                              out, bound, length, s->workspace);
}

/* The result through the pull pipeline, once for all workers. A version is
 * encoded once only, because of what is remembered. */
static gp_status
encode_values(gp_shard *s, gp_chunk *c, const float *values)
{
    if (c->encoded_valid)
        return GP_OK;
    c->encoded_valid = true;
    c->encoded_is_sum = false;
    return gp_chunk_encode_into(s, c, values, c->encoded, &c->encoded_length,
                                &c->encoded_shared);
}

gp_status
gp_chunk_encode(gp_shard *s, gp_chunk *c, const float *values)
{
    gp_status status = encode_values(s, c, values);

    if (status != GP_OK)
        gp_shard_fail(s, status, "result of tensor '%.60s': %.300s",
                      c->tensor->spec->name, gp_last_error());
    return status;
}

/* Initial values go out in the tensor's own type. They have a buffer of their
 * own, since encoded results may be on their way out of the other, and since
 * what a worker broadcasts may be rounded parameters of a job before. */
static gp_status
encode_initial(gp_shard *s, gp_chunk *c, const void **payload, size_t *length)
{
    gp_codec_context context = {.rank = GP_RANK_SHARD};
    size_t bound = gp_pipeline_bound(c->tensor->native, c->info->count);
    gp_status status = GP_OK;

    if (c->tensor->spec->dtype == GP_FP32 && !c->initial_length) {
        *payload = c->value;
        *length = c->info->count * sizeof(float);
        return GP_OK;
    }
    if (!c->initial_length)
        status = gp_pipeline_encode(c->tensor->native, &context, NULL, c->value,
                                    c->info->count, c->initial, bound,
                                    &c->initial_length, s->workspace);
    *payload = c->initial;
    *length = c->initial_length;
    return status;
}

/* The header of a result, but for what depends on its payload. */
static gp_msg
describe_result(const gp_entry *e)
{
    const gp_chunk *c = e->chunk;
    const gp_pipeline *p = e->init_answer ? c->tensor->native : c->tensor->pull;

    return (gp_msg){.type = GP_MSG_RESULT,
                    .flags = e->init_answer ? GP_MSG_INIT : 0,
                    .dtype = c->tensor->spec->dtype,
                    .chunk = c->number,
                    .step = c->version,
                    .pipeline = gp_pipeline_id(p),
                    .elements = c->info->count,
                    .region = (uint32_t)(e->aux >> 32),
                    .offset = (e->aux & UINT32_MAX) * GP_DESTINATION_UNIT,
                    .cookie = e->cookie};
}

/* Parameters, from a copy that stays as it is while they go on changing. */
static gp_status
send_shot(gp_shard *s, gp_peer *peer, gp_entry *e)
{
    gp_chunk *c = e->chunk;
    gp_msg msg = describe_result(e);
    gp_shot *shot;
    gp_status status = gp_shot_take(s, c, e->init_answer, &shot);
    uint64_t cookie;

    if (status != GP_OK)
        return status;
    cookie = (uint64_t)(shot - c->shot + 1) << 32 | s->chunk_of[c->number];
    msg.payload = shot->length;
    if (!e->init_answer && !c->tensor->pull_dense)
        msg.aux = gp_float_bits(shot->shared);
    if (s->link[peer->link_number].checksum && !e->init_answer) {
        if (!shot->crc_valid)
            shot->crc = gp_crc32c(0, shot->bytes, shot->length);
        shot->crc_valid = true;
        msg.payload_crc = shot->crc;
        msg.flags |= GP_MSG_PAYLOAD_CRC;
    }
    status = gp_peer_post(s, peer, &msg, shot->bytes, cookie);
    if (status != GP_OK)
        return status;
    gp_shot_lend(c, e, shot);
    gp_entry_posted(peer, e, msg.payload);
    return GP_OK;
}

static gp_status
send_result(gp_shard *s, gp_peer *peer, gp_entry *e)
{
    gp_chunk *c = e->chunk;
    const void *payload = c->lent ? c->lent : c->value;
    size_t length = c->info->count * sizeof(float);
    gp_msg msg = describe_result(e);
    const void *shown = NULL;
    gp_status status = GP_OK;

    if (c->rows)
        return gp_rows_send(s, peer, e);
    if (c->tensor->arrives)
        return send_shot(s, peer, e);
    if (c->device)
        status = gp_chunk_device_result(s, peer, c,
                                        msg.region && !e->init_answer, &shown);
    if (status != GP_OK)
        return status;
    if (e->init_answer) {
        status = encode_initial(s, c, &payload, &length);
    } else if (!c->tensor->pull_dense) {
        status = encode_values(s, c, c->value);
        payload = c->encoded;
        length = c->encoded_length;
        msg.aux = gp_float_bits(c->encoded_shared);
        if (c->encoded_is_sum)
            msg.flags |= GP_MSG_SUM;
    }
    if (status != GP_OK)
        return status;
    payload = shown ? shown : payload;
    msg.payload = length;
    if (s->link[peer->link_number].checksum && !e->init_answer) {
        if (!c->crc_valid)
            c->crc = gp_crc32c(0, payload, length);
        c->crc_valid = true;
        msg.payload_crc = c->crc;
        msg.flags |= GP_MSG_PAYLOAD_CRC;
    }
    status = gp_peer_post(s, peer, &msg, payload, s->chunk_of[c->number]);
    if (status != GP_OK)
        return status;
    gp_entry_posted(peer, e, msg.payload);
    if (shown)
        gp_shard_device_sent(s, msg.payload);
    return GP_OK;
}

static gp_status
send_answer(gp_shard *s, gp_peer *peer, gp_entry *e)
{
    switch (e->answer) {
    case ANSWER_ACK:
        return send_ack(s, peer, e);
    case ANSWER_AGREE:
        return gp_entry_send_agreed(s, peer, e);
    default:
        return send_result(s, peer, e);
    }
}

gp_status
gp_entry_answer(gp_shard *s, gp_peer *peer, gp_entry *e)
{
    gp_chunk *c = e->chunk;
    gp_status status = send_answer(s, peer, e);

    if (status != GP_OK)
        return status;
    if (e->answer == ANSWER_RESULT && c->lent &&
        (peer->local || c->slot_payload)) {
        c->lent = NULL;
        c->spent = true;
    }
    if (e->answer != ANSWER_ACK || !e->pending)
        e->answer = ANSWER_NONE;
    gp_entry_disown(e);
    return GP_OK;
}

void
gp_shard_sent(gp_shard *s, gp_peer *peer, uint64_t cookie)
{
    uint32_t shot = (uint32_t)(cookie >> 32);
    gp_chunk *c;

    cookie &= UINT32_MAX;
    if (cookie == 0 || cookie > s->chunks)
        return;
    if (s->worker[peer->rank] != peer) /* another life of this rank */
        return;
    c = &s->chunk[cookie - 1];
    gp_entry_sent(peer, &c->entry[peer->rank]);
    if (shot > 0) {
        gp_shot_return(c, &c->entry[peer->rank], shot - 1);
        return;
    }
    if (c->entry[peer->rank].in_flight == 0)
        return;
    c->entry[peer->rank].in_flight--;
    if (c->rows)
        return; /* a buffer of its own: nobody waited for it */
    if (--c->sending == 0)
        gp_chunk_leave_slot(s, peer, c);
    gp_chunk_resume(s, c);
}

/* A worker that left in order was told that its pushes are here: they count. */
static bool
keep_push(gp_shard *s, gp_peer *peer, gp_entry *e)
{
    return peer->state == PEER_LEFT && gp_entry_stash(s, peer, e) == GP_OK;
}

/* A peer is gone: nothing is owed to it, and results on their way to it do not
 * hold back the chunk. */
void
gp_shard_orphan(gp_shard *s, gp_peer *peer)
{
    for (uint32_t i = 0; i < s->chunks; i++) {
        gp_chunk *c = &s->chunk[i];
        gp_entry *e = &c->entry[peer->rank];

        gp_entry_disown(e);
        e->posted = 0;
        e->unsent = 0;
        c->sending -= c->rows ? 0 : e->in_flight;
        e->in_flight = 0;
        gp_chunk_leave_slot(s, peer, c);
        gp_shots_orphan(c, e);
        e->answer = ANSWER_NONE;
        if (c->initializer == e)
            c->initializer = NULL;
        if (e->pending && !e->stash && !e->queued && !keep_push(s, peer, e))
            e->pending = false;
        gp_chunk_resume(s, c);
    }
}

/* Connections that read from the local worker's memory go, and its own, in
 * whose buffers pushes may lie. */
void
gp_shard_abandon(gp_shard *s, gp_status status, const char *why)
{
    if (status != GP_OK)
        gp_shard_fail(s, status, "%s", why);
    for (uint32_t i = 0; i < s->chunks; i++) {
        gp_chunk *c = &s->chunk[i];

        for (int64_t r = 0; c->lent && r < s->size; r++)
            if (c->entry[r].in_flight && s->worker[r])
                gp_shard_drop(s, s->worker[r], GP_ERR_CANCELED);
        c->lent = NULL;
    }
    GP_LIST_EACH (item, &s->peers) {
        gp_peer *peer = GP_CONTAINER_OF(item, gp_peer, link);

        if (peer->local)
            gp_shard_drop(s, peer, GP_ERR_CANCELED);
    }
}

static void
blame_left(gp_shard *s, const gp_chunk *c, uint32_t left, uint32_t waiting)
{
    gp_shard_fail(s, GP_ERR_PEER_LEFT,
                  "worker %u left the job after %llu steps of tensor '%.60s' "
                  "while worker %u waits for the next: give all workers the "
                  "same number of batches, or see what ended that one early",
                  left, (unsigned long long)c->entry[left].next_step,
                  c->tensor->spec->name, waiting);
}

static bool
waits(const gp_chunk *c, uint32_t rank)
{
    const gp_entry *e = &c->entry[rank];

    return e->pending || e->answer == ANSWER_AGREE ||
           (e->answer == ANSWER_RESULT && !e->init_answer &&
            e->answer_version > c->version);
}

/* Somebody who waits for a worker that has left would wait for ever. */
void
gp_shard_check_left(gp_shard *s)
{
    if (s->elastic) /* steps go on without */
        return;
    gp_shard_check_roots(s);
    for (uint32_t i = 0; i < s->chunks && s->fault == GP_OK; i++) {
        gp_chunk *c = &s->chunk[i];
        int64_t left = -1, waiting = -1;

        if (c->tensor->arrives) /* nobody waits for one who has left */
            continue;
        for (int64_t r = 0; r < s->size; r++) {
            if (s->left[r] && c->entry[r].next_step == c->version &&
                !c->entry[r].pending)
                left = r;
            else if (waits(c, (uint32_t)r))
                waiting = r;
        }
        if (left >= 0 && waiting >= 0)
            blame_left(s, c, (uint32_t)left, (uint32_t)waiting);
    }
    for (int64_t r = 0; r < s->size && s->fault == GP_OK; r++)
        for (int64_t w = 0; w < s->size; w++)
            if (s->left[r] && !s->left[w] &&
                s->barrier[r] <= s->barrier_count &&
                s->barrier[w] > s->barrier_count)
                gp_shard_fail(s, GP_ERR_PEER_LEFT,
                              "worker %lld left the job while worker %lld "
                              "waits in a barrier",
                              (long long)r, (long long)w);
}
