/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard_step.c - pushes that wait, and answers that become due.
 */
#include <stdlib.h>
#include <string.h>

#include "shard/shard_int.h"

/* The push is in the sum, or is not wanted: its memory is free again. */
void
gp_entry_free(gp_shard *s, gp_peer *peer, gp_entry *e)
{
    uint64_t slots;

    if (e->stash) {
        gp_shard_give(s, e->stash);
        e->stash = NULL;
    } else if (peer) {
        peer->ops->release(peer->ep, &e->msg, e->payload);
        slots = gp_push_slots(s, &e->msg);
        peer->free_credits |= slots;
        peer->held &= ~slots;
        if (peer->full_since_ns && !gp_peer_is_full(s, peer))
            peer->full_since_ns = 0;
    }
    e->payload = NULL;
    e->landed = false;
}

/* Moves a push that waits out of its slot. */
gp_status
gp_entry_stash(gp_shard *s, gp_peer *peer, gp_entry *e)
{
    void *copy = gp_shard_take(s, e->length);
    gp_status status = GP_OK;

    if (!copy)
        return gp_fail(GP_ERR_NO_MEMORY, "push of %zu bytes", e->length);
    if (e->landed)
        status = gp_push_bring(s, e, copy);
    else
        memcpy(copy, e->payload, e->length);
    if (status != GP_OK)
        return status;
    gp_entry_free(s, peer, e);
    e->stash = copy;
    e->payload = copy;
    return GP_OK;
}

bool
gp_shard_is_local(const gp_shard *s, int64_t rank)
{
    return s->worker[rank] && s->worker[rank]->local;
}

/* Makes the ready answer due: an ACK at once, a RESULT at its version. */
void
gp_entry_settle(gp_shard *s, gp_chunk *c, uint32_t rank)
{
    gp_entry *e = &c->entry[rank];
    gp_peer *peer = s->worker[rank];

    if (!peer || e->answer == ANSWER_NONE || !gp_list_empty(&e->due))
        return;
    if (e->answer == ANSWER_RESULT) {
        if (c->device && gp_chunk_device_moves(c))
            return;
        if (e->init_answer ? !c->initialized : !gp_chunk_is_due(c, e))
            return;
    }
    if (e->answer == ANSWER_RESULT && !c->tensor->arrives && !c->rows) {
        if (c->spent) {
            gp_shard_fail(s, GP_ERR_PROTOCOL,
                          "worker %u asks again for step %llu of tensor "
                          "'%.60s', which every worker has",
                          rank, (unsigned long long)c->version,
                          c->tensor->spec->name);
            return;
        }
        if (c->lent && peer->local && c->sending > 0) {
            c->local_due = true;
            return;
        }
        c->sending++;
        e->in_flight++;
    }
    gp_entry_owe(peer, e);
}

/* Values of a broadcast become the chunk's, unless it has exact ones that these
 * were rounded from; other workers get them as they are. Results of the old
 * ones may still be on their way out of the same memory: then later. */
void
gp_chunk_initialize(gp_shard *s, gp_chunk *c)
{
    gp_entry *e = c->initializer;
    uint32_t rank = (uint32_t)(e - c->entry);
    gp_codec_context context = {.rank = rank};
    gp_status status;

    if (c->sending > 0)
        return;
    c->initializer = NULL;
    status = gp_pipeline_decode(c->tensor->native, &context, e->payload,
                                e->length, c->returned ? c->sum : c->value,
                                c->info->count, s->workspace);
    if (status == GP_OK && c->returned) {
        memcpy(c->initial, e->payload, e->length);
        c->initial_length = e->length;
    }
    gp_entry_free(s, s->worker[rank], e);
    if (status != GP_OK) {
        gp_shard_fail(s, status, "worker %u broadcast damaged values", rank);
        return;
    }
    if (c->device && !c->returned)
        gp_chunk_device_upload(s, c);
    c->initialized = true;
    c->encoded_valid = c->crc_valid = false;
    gp_shots_forget(c);
    gp_entry_settle(s, c, rank);
    for (int64_t r = 0; r < s->size; r++)
        if (c->entry[r].answer == ANSWER_RESULT && c->entry[r].init_answer)
            gp_entry_settle(s, c, (uint32_t)r);
    if (c->tensor->arrives)
        gp_chunk_pull(s, c);
}

/* After results were sent: a step may have waited for that. */
void
gp_chunk_resume(gp_shard *s, gp_chunk *c)
{
    if (c->sending > 0 || s->fault != GP_OK)
        return;
    if (!c->local_due) {
        if (c->initializer)
            gp_chunk_initialize(s, c);
        gp_chunk_advance(s, c);
        return;
    }
    c->local_due = false;
    for (int64_t r = 0; r < s->size; r++)
        if (gp_shard_is_local(s, r))
            gp_entry_settle(s, c, (uint32_t)r);
}
