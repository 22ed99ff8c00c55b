/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard_chunk.c - pushes in, sums, results out.
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

static gp_entry *
entry_of(gp_chunk *c, const gp_peer *peer)
{
    return &c->entry[peer->rank];
}

/* The push is in the sum, or is not wanted: its memory is free again. */
static void
free_payload(gp_peer *peer, gp_entry *e)
{
    if (e->stash) {
        free(e->stash);
        e->stash = NULL;
    } else if (peer) {
        peer->ops->release(peer->ep, &e->msg, e->payload);
        peer->free_credits |= 1ull << e->msg.slot;
        peer->held &= ~(1ull << e->msg.slot);
        peer->full_since_ns = 0;
    }
    e->payload = NULL;
}

static void
owe(gp_peer *peer, gp_entry *e)
{
    gp_list_remove(&e->due);
    gp_list_insert(&peer->backlog, &e->due);
}

/* Makes the ready answer due: an ACK at once, a RESULT at its version. */
static void
settle(gp_shard *s, gp_chunk *c, uint32_t rank)
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
    owe(peer, e);
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
    return payload == low && local <= 1 && c->tensor->push_dense ? target
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
    const gp_pipeline *p = c->tensor->push;

    if (c->tensor->push_dense) {
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
        return gp_pipeline_decode_add(p, e->payload, e->length, c->sum, n,
                                      s->workspace);
    return gp_pipeline_decode(p, e->payload, e->length, c->sum, n,
                              s->workspace);
}

static void
folded(gp_shard *s, gp_chunk *c, uint32_t rank)
{
    gp_entry *e = &c->entry[rank];

    free_payload(s->worker[rank], e);
    e->pending = false;
    e->next_step = c->version + 1;
    if (e->answer == ANSWER_ACK)
        settle(s, c, rank);
}

static gp_status
encode_result(gp_shard *s, gp_chunk *c)
{
    gp_codec_context context = {.seed = s->list.seed,
                                .tensor = c->info->tensor,
                                .offset = c->info->offset,
                                .step = c->version,
                                .rank = UINT32_MAX};
    size_t bound = gp_pipeline_bound(c->tensor->pull, c->info->count);

    if (c->tensor->pull_dense || c->encoded_valid)
        return GP_OK;
    c->encoded_valid = true;
    return gp_pipeline_encode(c->tensor->pull, &context, c->value, NULL,
                              c->info->count, c->encoded, bound,
                              &c->encoded_length, s->workspace);
}

static bool
is_local(const gp_shard *s, int64_t rank)
{
    return s->worker[rank] && s->worker[rank]->local;
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
            settle(s, c, (uint32_t)r);
        if (is_next(c, (uint32_t)r) && !c->since_ns)
            c->since_ns = gp_clock_ns();
    }
    for (int64_t r = 0; r < s->size; r++)
        if (is_local(s, r) && c->entry[r].answer == ANSWER_RESULT &&
            !c->entry[r].init_answer)
            settle(s, c, (uint32_t)r);
}

/* Folds ranks 0 and 1 together when both are there: 2, else 0 or 1 done;
 * -1: wait for more. */
static int
fold_first(gp_shard *s, gp_chunk *c)
{
    gp_entry *e = c->entry;

    bool pair = c->tensor->push_dense && s->size > 1;

    if (pair && !is_next(c, 1) && !e[0].stash && s->worker[0])
        return -1;
    if (!begin_step(s, c))
        return -1;
    if (!pair || !is_next(c, 1))
        return 0;
    gp_fold_add(c->sum, e[0].payload, e[1].payload, last_scale(s, c, 1),
                c->info->count);
    c->scaled = s->size == 2;
    folded(s, c, 0);
    folded(s, c, 1);
    return 2;
}

/* Folds what can be folded, completes the step when all ranks are in. */
static void
advance(gp_shard *s, gp_chunk *c)
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
static void
initialize(gp_shard *s, gp_chunk *c)
{
    gp_entry *e = c->initializer;
    uint32_t rank = (uint32_t)(e - c->entry);
    gp_status status;

    if (c->sending > 0)
        return;
    c->initializer = NULL;
    status = gp_pipeline_decode(c->tensor->native, e->payload, e->length,
                                c->value, c->info->count, s->workspace);
    free_payload(s->worker[rank], e);
    if (status != GP_OK) {
        gp_shard_fail(s, status, "worker %u broadcast damaged values", rank);
        return;
    }
    c->initialized = true;
    c->encoded_valid = c->crc_valid = false;
    settle(s, c, rank);
    for (int64_t r = 0; r < s->size; r++)
        if (c->entry[r].answer == ANSWER_RESULT && c->entry[r].init_answer)
            settle(s, c, (uint32_t)r);
}

/* After results were sent: a step may have waited for that. */
static void
resume(gp_shard *s, gp_chunk *c)
{
    if (c->sending > 0 || s->fault != GP_OK)
        return;
    if (!c->local_due) {
        if (c->initializer)
            initialize(s, c);
        advance(s, c);
        return;
    }
    c->local_due = false;
    for (int64_t r = 0; r < s->size; r++)
        if (is_local(s, r))
            settle(s, c, (uint32_t)r);
}

static gp_chunk *
find_chunk(gp_shard *s, uint32_t number)
{
    if (!s->agreed || number >= s->map.chunks || s->chunk_of[number] == 0)
        return NULL;
    return &s->chunk[s->chunk_of[number] - 1];
}

static const gp_pipeline *
push_pipeline(const gp_chunk *c, const gp_msg *msg)
{
    return msg->flags & GP_MSG_INIT ? c->tensor->native : c->tensor->push;
}

/* Who says it, and for which job. */
static gp_status
check_sender(const gp_shard *s, const gp_peer *peer, const gp_msg *m)
{
    if (m->worker == peer->rank && m->incarnation == peer->incarnation &&
        m->epoch == s->epoch && m->job == s->job)
        return GP_OK;
    return gp_fail(GP_ERR_PROTOCOL,
                   "message as worker %u incarnation %u epoch %u, not as "
                   "worker %u incarnation %u epoch %u",
                   m->worker, m->incarnation, m->epoch, peer->rank,
                   peer->incarnation, s->epoch);
}

static gp_status
check_slot(const gp_shard *s, const gp_peer *peer, const gp_msg *m)
{
    uint64_t bit = m->slot < GP_SLOTS_MAX ? 1ull << m->slot : 0;

    if (m->slot >= s->slots || m->region != peer->region ||
        m->offset != m->slot * s->slot_bytes || m->payload > s->slot_bytes ||
        (peer->held & bit) || (peer->free_credits & bit))
        return gp_fail(GP_ERR_PROTOCOL,
                       "push into slot %u, which it does not "
                       "own",
                       m->slot);
    return GP_OK;
}

/* A worker has one push of a chunk under way at a time, and leaves no step
 * out. Copies of what is here, or applied, are no offence. */
static gp_status
check_step(const gp_entry *e, const gp_msg *m)
{
    uint64_t expected = e->pending ? e->msg.step : e->next_step;

    if (m->flags & GP_MSG_INIT || m->step == expected ||
        (!e->pending && m->step < expected))
        return GP_OK;
    return gp_fail(GP_ERR_PROTOCOL,
                   "push of step %llu of chunk %u where step "
                   "%llu is expected",
                   (unsigned long long)m->step, m->chunk,
                   (unsigned long long)expected);
}

static gp_status
check_destination(const gp_msg *m)
{
    if (m->aux >> 32)
        return GP_OK;
    return gp_fail(GP_ERR_PROTOCOL, "no destination for the result of chunk %u",
                   m->chunk);
}

/* Everything a peer claims about a push, against what it may claim. */
static gp_status
check_push(gp_shard *s, gp_peer *peer, gp_chunk *c, const gp_msg *m)
{
    const gp_pipeline *p;
    gp_status status;

    if (!c)
        return gp_fail(GP_ERR_PROTOCOL, "push of chunk %u, not on this shard",
                       m->chunk);
    p = push_pipeline(c, m);
    status = check_sender(s, peer, m);
    if (status != GP_OK)
        return status;
    if (m->pipeline != gp_pipeline_id(p) || m->elements != c->info->count ||
        m->dtype != c->tensor->spec->dtype)
        return gp_fail(GP_ERR_PROTOCOL,
                       "push of %llu elements with pipeline %08x where %llu "
                       "and %08x were agreed",
                       (unsigned long long)m->elements, m->pipeline,
                       (unsigned long long)c->info->count, gp_pipeline_id(p));
    status = check_slot(s, peer, m);
    if (status == GP_OK)
        status = check_step(entry_of(c, peer), m);
    if (status == GP_OK && m->flags & GP_MSG_WANT)
        status = check_destination(m);
    if (status != GP_OK)
        return status;
    if (c->tensor->push_dense && !(m->flags & GP_MSG_INIT) &&
        m->payload != c->info->count * sizeof(float))
        return gp_fail(GP_ERR_PROTOCOL, "dense push of %llu bytes",
                       (unsigned long long)m->payload);
    return GP_OK;
}

/* Moves a push that waits out of its slot. */
static gp_status
stash(gp_peer *peer, gp_entry *e)
{
    void *copy = malloc(GP_MAX(e->length, 1));

    if (!copy)
        return gp_fail(GP_ERR_NO_MEMORY, "push of %zu bytes", e->length);
    memcpy(copy, e->payload, e->length);
    free_payload(peer, e);
    e->stash = copy;
    e->payload = copy;
    return GP_OK;
}

/* All slots of a worker hold pushes that wait for other workers, and have for a
 * while. Those may in turn wait for a push that this worker could not send: so
 * its slots are emptied to the heap. */
void
gp_shard_relieve(gp_shard *s, gp_peer *peer)
{
    GP_DEBUG("shard %lld: worker %u runs ahead; its pushes move to the heap",
             (long long)s->index, peer->rank);
    for (uint32_t i = 0; i < s->chunks; i++) {
        gp_chunk *c = &s->chunk[i];
        gp_entry *e = entry_of(c, peer);

        if (!e->pending || e->stash)
            continue;
        if (stash(peer, e) != GP_OK) {
            gp_shard_fail(s, GP_ERR_NO_MEMORY, "%s", gp_last_error());
            return;
        }
        advance(s, c);
    }
}

static void
take_initial(gp_shard *s, gp_peer *peer, gp_chunk *c, gp_entry *e)
{
    if (c->version > 0 || c->next_rank > 0 || c->initialized ||
        c->initializer) {
        free_payload(peer, e);
        gp_shard_fail(s, GP_ERR_STATE,
                      "worker %u broadcast tensor '%.60s' twice or after a "
                      "push: call gp_broadcast once, before the first push",
                      peer->rank, c->tensor->spec->name);
        return;
    }
    c->initializer = e;
    initialize(s, c);
}

/* It waits for others. The worker need not, unless it wants the result. */
static void
take_pending(gp_shard *s, gp_peer *peer, gp_chunk *c, gp_entry *e)
{
    e->pending = true;
    if (!c->since_ns && e->msg.step == c->version)
        c->since_ns = gp_clock_ns();
    if ((uint32_t)__builtin_popcountll(peer->held) == s->slots)
        peer->full_since_ns = gp_clock_ns();
    advance(s, c);
    if (!e->pending)
        return;
    if (e->answer == ANSWER_ACK)
        owe(peer, e);
    if (s->departed > 0)
        gp_shard_check_left(s);
}

/* Copies: one of two is enough, and what is owed stays owed. */
static bool
is_copy(const gp_entry *e, const gp_msg *m)
{
    return e->pending || (!(m->flags & GP_MSG_INIT) && m->step < e->next_step &&
                          e->answer != ANSWER_NONE);
}

void
gp_shard_push(gp_shard *s, gp_peer *peer, const gp_event *event)
{
    const gp_msg *m = &event->msg;
    gp_chunk *c = find_chunk(s, m->chunk);
    gp_entry *e;

    if (peer->state == PEER_LEFT || s->fault != GP_OK) {
        /* Given up, with the job or by a worker whose goodbye overtook it. */
        peer->ops->release(peer->ep, m, event->payload);
        return;
    }
    if (check_push(s, peer, c, m) != GP_OK) {
        GP_ERROR("worker %u: %s", peer->rank, gp_last_error());
        gp_shard_drop(s, peer, GP_ERR_PROTOCOL);
        return;
    }
    e = entry_of(c, peer);
    if (is_copy(e, m)) {
        peer->ops->release(peer->ep, m, event->payload);
        peer->free_credits |= 1ull << m->slot;
        return;
    }
    e->payload = event->payload;
    e->length = m->payload;
    e->msg = *m;
    e->cookie = m->cookie;
    e->aux = m->aux;
    e->answer = m->flags & GP_MSG_WANT ? ANSWER_RESULT : ANSWER_ACK;
    e->answer_version = m->step + 1;
    e->init_answer = (m->flags & GP_MSG_INIT) != 0;
    peer->held |= 1ull << m->slot;
    if (m->flags & GP_MSG_INIT) {
        take_initial(s, peer, c, e);
    } else if (m->step < e->next_step) {
        /* Applied already: answered again, never applied again. */
        free_payload(peer, e);
        settle(s, c, peer->rank);
    } else {
        take_pending(s, peer, c, e);
    }
}

static gp_status
check_pull(gp_shard *s, gp_peer *peer, gp_chunk *c, const gp_msg *m)
{
    const gp_entry *e = c ? entry_of(c, peer) : NULL;
    gp_status status;

    if (!c)
        return gp_fail(GP_ERR_PROTOCOL, "pull of chunk %u, not on this shard",
                       m->chunk);
    status = check_sender(s, peer, m);
    if (status == GP_OK)
        status = check_destination(m);
    if (status == GP_OK && (e->pending || e->answer != ANSWER_NONE))
        status = gp_fail(GP_ERR_PROTOCOL,
                         "pull of chunk %u before the last "
                         "answer",
                         m->chunk);
    if (status == GP_OK && m->step > e->next_step)
        status = gp_fail(GP_ERR_PROTOCOL,
                         "pull of step %llu of chunk %u, of "
                         "which it has pushed %llu",
                         (unsigned long long)m->step, m->chunk,
                         (unsigned long long)e->next_step);
    return status;
}

void
gp_shard_pull(gp_shard *s, gp_peer *peer, const gp_msg *m)
{
    gp_chunk *c = find_chunk(s, m->chunk);
    gp_entry *e;

    if (check_pull(s, peer, c, m) != GP_OK) {
        GP_ERROR("worker %u: %s", peer->rank, gp_last_error());
        gp_shard_drop(s, peer, GP_ERR_PROTOCOL);
        return;
    }
    e = entry_of(c, peer);
    e->cookie = m->cookie;
    e->aux = m->aux;
    e->answer = ANSWER_RESULT;
    e->answer_version = m->step;
    e->init_answer = (m->flags & GP_MSG_INIT) != 0;
    settle(s, c, peer->rank);
    if (e->answer != ANSWER_NONE && s->departed > 0)
        gp_shard_check_left(s);
}

static bool
lies_in_slot(const gp_shard *s, const gp_peer *peer, const gp_entry *e)
{
    return e->payload ==
           (const void *)(peer->slots + e->msg.slot * s->slot_bytes);
}

/* What is acknowledged belongs to its owner again, so it must not lie in the
 * worker's memory any more. */
static gp_status
send_ack(gp_shard *s, gp_peer *peer, gp_entry *e)
{
    gp_msg msg = {
        .type = GP_MSG_ACK, .chunk = e->chunk->number, .cookie = e->cookie};

    if (e->pending && !e->stash && !lies_in_slot(s, peer, e)) {
        gp_status status = stash(peer, e);

        if (status != GP_OK)
            return status;
        advance(s, e->chunk);
    }
    msg.status = e->pending ? GP_PENDING : GP_OK;
    return gp_peer_post(s, peer, &msg, NULL, 0);
}

/* Initial values go out in the tensor's own type. They have a buffer of their
 * own, since encoded results may be on their way out of the other. */
static gp_status
encode_initial(gp_shard *s, gp_chunk *c, const void **payload, size_t *length)
{
    gp_codec_context context = {.rank = UINT32_MAX};
    size_t bound = gp_pipeline_bound(c->tensor->native, c->info->count);
    gp_status status = GP_OK;

    if (c->tensor->spec->dtype == GP_FP32) {
        *payload = c->value;
        *length = c->info->count * sizeof(float);
        return GP_OK;
    }
    if (!c->initial) {
        c->initial = gp_alloc_aligned(bound);
        if (!c->initial)
            return gp_fail(GP_ERR_NO_MEMORY, "initial values");
        status = gp_pipeline_encode(c->tensor->native, &context, c->value, NULL,
                                    c->info->count, c->initial, bound,
                                    &c->initial_length, s->workspace);
    }
    *payload = c->initial;
    *length = c->initial_length;
    return status;
}

static gp_status
send_result(gp_shard *s, gp_peer *peer, gp_entry *e)
{
    gp_chunk *c = e->chunk;
    const void *payload = c->lent ? c->lent : c->value;
    size_t length = c->info->count * sizeof(float);
    const gp_pipeline *p = e->init_answer ? c->tensor->native : c->tensor->pull;
    gp_msg msg = {.type = GP_MSG_RESULT,
                  .dtype = c->tensor->spec->dtype,
                  .chunk = c->number,
                  .step = c->version,
                  .pipeline = gp_pipeline_id(p),
                  .elements = c->info->count,
                  .region = (uint32_t)(e->aux >> 32),
                  .offset = (e->aux & UINT32_MAX) * GP_DESTINATION_UNIT,
                  .cookie = e->cookie};
    gp_status status = GP_OK;

    if (e->init_answer) {
        status = encode_initial(s, c, &payload, &length);
        msg.flags |= GP_MSG_INIT;
    } else if (!c->tensor->pull_dense) {
        status = encode_result(s, c);
        payload = c->encoded;
        length = c->encoded_length;
    }
    if (status != GP_OK)
        return status;
    msg.payload = length;
    if (s->checksum && !e->init_answer) {
        if (!c->crc_valid)
            c->crc = gp_crc32c(0, payload, length);
        c->crc_valid = true;
        msg.payload_crc = c->crc;
        msg.flags |= GP_MSG_PAYLOAD_CRC;
    }
    return gp_peer_post(s, peer, &msg, payload, s->chunk_of[c->number]);
}

/* Sends answers until the transport is full; the rest waits for the next
 * turn. */
void
gp_shard_send_due(gp_shard *s, gp_peer *peer)
{
    while (!gp_list_empty(&peer->backlog)) {
        gp_entry *e = GP_CONTAINER_OF(peer->backlog.next, gp_entry, due);
        bool ack = e->answer == ANSWER_ACK;
        gp_status status = ack ? send_ack(s, peer, e) : send_result(s, peer, e);

        if (status == GP_AGAIN || status == GP_ERR_PEER_LOST)
            return;
        if (status != GP_OK) {
            gp_shard_fail(s, status, "shard cannot answer: %s",
                          gp_last_error());
            return;
        }
        if (!ack && peer->local && e->chunk->lent) {
            e->chunk->lent = NULL;
            e->chunk->spent = true;
        }
        if (!ack || !e->pending)
            e->answer = ANSWER_NONE;
        gp_list_remove(&e->due);
    }
}

void
gp_shard_sent(gp_shard *s, gp_peer *peer, uint64_t cookie)
{
    gp_chunk *c;

    if (cookie == 0 || cookie > s->chunks)
        return;
    c = &s->chunk[cookie - 1];
    if (c->entry[peer->rank].in_flight == 0)
        return;
    c->entry[peer->rank].in_flight--;
    c->sending--;
    resume(s, c);
}

/* A worker that left in order was told that its pushes are here: they count. */
static bool
keep_push(gp_peer *peer, gp_entry *e)
{
    return peer->state == PEER_LEFT && stash(peer, e) == GP_OK;
}

/* A peer is gone: nothing is owed to it, and results on their way to it do not
 * hold back the chunk. */
void
gp_shard_orphan(gp_shard *s, gp_peer *peer)
{
    for (uint32_t i = 0; i < s->chunks; i++) {
        gp_chunk *c = &s->chunk[i];
        gp_entry *e = entry_of(c, peer);

        gp_list_remove(&e->due);
        c->sending -= e->in_flight;
        e->in_flight = 0;
        e->answer = ANSWER_NONE;
        if (c->initializer == e)
            c->initializer = NULL;
        if (e->pending && !e->stash && !keep_push(peer, e))
            e->pending = false;
        resume(s, c);
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
                  "same number of batches",
                  left, (unsigned long long)c->entry[left].next_step,
                  c->tensor->spec->name, waiting);
}

static bool
waits(const gp_chunk *c, uint32_t rank)
{
    const gp_entry *e = &c->entry[rank];

    return e->pending || (e->answer == ANSWER_RESULT && !e->init_answer &&
                          e->answer_version > c->version);
}

/* Somebody who waits for a worker that has left would wait for ever. */
void
gp_shard_check_left(gp_shard *s)
{
    for (uint32_t i = 0; i < s->chunks && s->fault == GP_OK; i++) {
        gp_chunk *c = &s->chunk[i];
        int64_t left = -1, waiting = -1;

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
