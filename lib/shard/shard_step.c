/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard_step.c - from pushes to the result of a step.
 *
 * A step of a chunk is complete when the pushes of all ranks have been folded,
 * in rank order. A dense push of rank 0 may stay in its slot until rank 1's is
 * there, because adding two payloads into the sum costs half the memory traffic
 * of copying one and adding the other.
 */
#include <stdlib.h>
#include <string.h>

#include "shard/fold.h"
#include "shard/shard_int.h"

/* The push is in the sum, or is not wanted: its memory is free again. */
void
gp_entry_free(gp_shard *s, gp_peer *peer, gp_entry *e)
{
    uint64_t slots;

    if (e->stash) {
        free(e->stash);
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
}

/* Moves a push that waits out of its slot. */
gp_status
gp_entry_stash(gp_shard *s, gp_peer *peer, gp_entry *e)
{
    void *copy = malloc(GP_MAX(e->length, 1));

    if (!copy)
        return gp_fail(GP_ERR_NO_MEMORY, "push of %zu bytes", e->length);
    memcpy(copy, e->payload, e->length);
    gp_entry_free(s, peer, e);
    e->stash = copy;
    e->payload = copy;
    return GP_OK;
}

void
gp_entry_owe(gp_peer *peer, gp_entry *e)
{
    gp_list_remove(&e->due);
    gp_list_insert(&peer->backlog, &e->due);
}

static bool
is_local(const gp_shard *s, int64_t rank)
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
        if (e->init_answer ? !c->initialized : e->answer_version > c->version)
            return;
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

static bool
is_dense(const gp_chunk *c, uint32_t rank)
{
    return c->entry[rank].codec == c->tensor->dense;
}

static bool
is_next(const gp_chunk *c, uint32_t rank)
{
    return c->entry[rank].pending && c->entry[rank].msg.step == c->version;
}

static bool
all_next(const gp_shard *s, const gp_chunk *c)
{
    for (int64_t r = 0; r < s->size; r++)
        if (!is_next(c, (uint32_t)r))
            return false;
    return true;
}

/* The memory of the local worker's result, when the sum may be formed there:
 * every worker waits for this very result, and folding does not overwrite a
 * push before it is read. */
static float *
lendable(const gp_shard *s, const gp_chunk *c)
{
    const gp_entry *e;
    const char *low, *high, *payload;
    float *target;
    int64_t local = -1;

    for (int64_t r = 0; r < s->size; r++) {
        if (!s->worker[r] || c->entry[r].answer != ANSWER_RESULT)
            return NULL;
        if (s->worker[r]->local)
            local = r;
    }
    if (!s->destination || local < 0 || !c->tensor->pull_dense)
        return NULL;
    e = &c->entry[local];
    target = s->destination(s->user, c->number, e->cookie);
    low = (const char *)target;
    high = low + c->info->count * sizeof(float);
    payload = e->payload;
    if (!target || payload >= high || payload + e->length <= low)
        return target;
    /* In place: safe when both are read and written element by element. */
    return payload == low && local <= 1 && is_dense(c, 0) &&
                   (s->size < 2 || is_dense(c, 1))
               ? target
               : NULL;
}

/* Whether folding may begin, and into which buffer. A worker that has pushed
 * the next step will not ask for the last result any more: when all have, the
 * sum is formed in place, once that result has left. Otherwise it is formed in
 * the second buffer. */
static bool
begin_step(gp_shard *s, gp_chunk *c)
{
    if (c->tensor->updater.kind == GP_UPDATER_SGD)
        return true;
    c->sum = c->value;
    if (all_next(s, c)) {
        float *target = c->sending == 0 ? lendable(s, c) : NULL;

        if (target)
            c->sum = target;
        return c->sending == 0;
    }
    if (c->spent)
        return c->sending == 0;
    if (!c->spare)
        c->spare = gp_alloc_aligned(c->info->count * sizeof(float));
    if (!c->spare) {
        gp_shard_fail(s, GP_ERR_NO_MEMORY, "shard: no memory for a sum");
        return false;
    }
    c->sum = c->spare;
    return true;
}

static float
last_scale(const gp_shard *s, const gp_chunk *c, uint32_t rank)
{
    if (rank + 1 < s->size)
        return 1.0f;
    return gp_updater_scale(&c->tensor->updater, (uint32_t)s->size);
}

/* Adds one payload to the sum; `e` was validated when it came. */
static gp_status
fold_one(gp_shard *s, gp_chunk *c, gp_entry *e, uint32_t rank)
{
    size_t n = c->info->count;
    const gp_pipeline *p = c->tensor->push.pipeline[e->codec];
    gp_codec_context context = {.seed = s->list.seed,
                                .tensor = c->info->tensor,
                                .offset = c->info->offset,
                                .step = e->msg.step,
                                .rank = rank,
                                .size = (uint32_t)s->size};

    if (is_dense(c, rank)) {
        float scale = last_scale(s, c, rank);

        c->scaled = rank + 1 == s->size;
        if (rank > 0)
            gp_fold_add(c->sum, c->sum, e->payload, scale, n);
        else if (scale != 1.0f)
            gp_fold_scale(c->sum, e->payload, scale, n);
        else if (c->sum != e->payload)
            memcpy(c->sum, e->payload, n * sizeof(float));
        return GP_OK;
    }
    if (rank > 0)
        return gp_pipeline_decode_add(p, &context, e->payload, e->length,
                                      c->sum, n, s->workspace);
    return gp_pipeline_decode(p, &context, e->payload, e->length, c->sum, n,
                              s->workspace);
}

static void
folded(gp_shard *s, gp_chunk *c, uint32_t rank)
{
    gp_entry *e = &c->entry[rank];

    gp_entry_free(s, s->worker[rank], e);
    e->pending = false;
    e->next_step = c->version + 1;
    if (e->answer == ANSWER_ACK)
        gp_entry_settle(s, c, rank);
}

static void
complete(gp_shard *s, gp_chunk *c)
{
    const gp_updater *u = &c->tensor->updater;
    size_t n = c->info->count;
    float scale = gp_updater_scale(u, (uint32_t)s->size);

    if (!c->scaled && scale != 1.0f)
        gp_fold_scale(c->sum, c->sum, scale, n);
    c->lent = NULL;
    c->spent = false;
    if (u->kind == GP_UPDATER_SGD) {
        gp_updater_sgd(u, c->sum, c->value, c->velocity, n);
    } else if (c->sum == c->spare) {
        c->spare = c->value;
        c->value = c->sum;
    } else if (c->sum != c->value) {
        c->lent = c->sum;
        c->sum = c->value;
    }
    c->version++;
    c->next_rank = 0;
    c->scaled = false;
    c->encoded_valid = c->crc_valid = false;
    c->since_ns = 0;
    for (int64_t r = 0; r < s->size; r++) {
        if (!is_local(s, r) && c->entry[r].answer == ANSWER_RESULT &&
            !c->entry[r].init_answer)
            gp_entry_settle(s, c, (uint32_t)r);
        if (is_next(c, (uint32_t)r) && !c->since_ns)
            c->since_ns = gp_clock_ns();
    }
    for (int64_t r = 0; r < s->size; r++)
        if (is_local(s, r) && c->entry[r].answer == ANSWER_RESULT &&
            !c->entry[r].init_answer)
            gp_entry_settle(s, c, (uint32_t)r);
}

/* Folds ranks 0 and 1 together when both are there: 2, else 0 or 1 done;
 * -1: wait for more. */
static int
fold_first(gp_shard *s, gp_chunk *c)
{
    gp_entry *e = c->entry;

    bool pair = is_dense(c, 0) && s->size > 1;

    if (pair && !is_next(c, 1) && !e[0].stash && s->worker[0])
        return -1;
    if (!begin_step(s, c))
        return -1;
    if (!pair || !is_next(c, 1) || !is_dense(c, 1))
        return 0;
    gp_fold_add(c->sum, e[0].payload, e[1].payload, last_scale(s, c, 1),
                c->info->count);
    c->scaled = s->size == 2;
    folded(s, c, 0);
    folded(s, c, 1);
    return 2;
}

/* Folds what can be folded, completes the step when all ranks are in. */
void
gp_chunk_advance(gp_shard *s, gp_chunk *c)
{
    if (c->next_rank == s->size) {
        if (c->sending > 0)
            return;
        complete(s, c);
    }
    while (is_next(c, c->next_rank)) {
        uint32_t rank = c->next_rank;
        gp_status status;

        if (rank == 0) {
            int done = fold_first(s, c);

            if (done < 0)
                return;
            c->next_rank = (uint32_t)done;
        }
        if (c->next_rank == rank) {
            status = fold_one(s, c, &c->entry[rank], rank);
            if (status != GP_OK) {
                gp_shard_fail(s, status,
                              "worker %u pushed damaged data for tensor "
                              "'%.60s': %.200s",
                              rank, c->tensor->spec->name, gp_last_error());
                return;
            }
            folded(s, c, rank);
            c->next_rank++;
        }
        if (c->next_rank < s->size)
            continue;
        if (c->sending > 0)
            return;
        complete(s, c);
    }
}

/* Values of a broadcast become the chunk's. Results of the old ones may still
 * be on their way out of the same memory: then later. */
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
    status =
        gp_pipeline_decode(c->tensor->native, &context, e->payload, e->length,
                           c->value, c->info->count, s->workspace);
    gp_entry_free(s, s->worker[rank], e);
    if (status != GP_OK) {
        gp_shard_fail(s, status, "worker %u broadcast damaged values", rank);
        return;
    }
    c->initialized = true;
    c->encoded_valid = c->crc_valid = false;
    gp_entry_settle(s, c, rank);
    for (int64_t r = 0; r < s->size; r++)
        if (c->entry[r].answer == ANSWER_RESULT && c->entry[r].init_answer)
            gp_entry_settle(s, c, (uint32_t)r);
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
        if (is_local(s, r))
            gp_entry_settle(s, c, (uint32_t)r);
}
