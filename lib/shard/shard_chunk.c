/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard_chunk.c - pushes and pulls as they come in.
 *
 * Whatever a worker claims is checked against what it may claim before it
 * touches a chunk. A push is applied exactly once: a copy of one that waits or
 * was applied is recognized by its step.
 */
#include <stdlib.h>
#include <string.h>

#include "shard/shard_rows.h"

static gp_entry *
entry_of(gp_chunk *c, const gp_peer *peer)
{
    return &c->entry[peer->rank];
}

gp_chunk *
gp_shard_find_chunk(gp_shard *s, uint32_t number)
{
    if (!s->agreed || number >= s->map.chunks || s->chunk_of[number] == 0)
        return NULL;
    return &s->chunk[s->chunk_of[number] - 1];
}

/* Which of the tensor's pipelines a push says it went through. */
static gp_status
check_pipeline(const gp_chunk *c, const gp_msg *m)
{
    const shard_tensor *t = c->tensor;
    bool known = m->flags & GP_MSG_INIT
                     ? m->pipeline == gp_pipeline_id(t->native)
                     : gp_codec_set_find(&t->push, m->pipeline) >= 0;

    if (known && m->elements == c->info->count && m->dtype == t->spec->dtype)
        return GP_OK;
    return gp_fail(GP_ERR_PROTOCOL,
                   "push of %llu elements with pipeline %08x where %llu and "
                   "'%.100s' were agreed",
                   (unsigned long long)m->elements, m->pipeline,
                   (unsigned long long)c->info->count,
                   m->flags & GP_MSG_INIT ? gp_pipeline_name(t->native)
                                          : t->spec->push);
}

static gp_status
check_length(const gp_chunk *c, const gp_msg *m)
{
    const shard_tensor *t = c->tensor;
    bool dense = !(m->flags & GP_MSG_INIT) && t->dense >= 0 &&
                 m->pipeline == t->push.id[t->dense];

    if (!dense || m->payload == c->info->count * sizeof(float))
        return GP_OK;
    return gp_fail(GP_ERR_PROTOCOL, "dense push of %llu bytes",
                   (unsigned long long)m->payload);
}

/* Who says it, and for which job. */
gp_status
gp_push_check_sender(const gp_shard *s, const gp_peer *peer, const gp_msg *m)
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

/* What needs an agreement was encoded with it. */
static gp_status
check_agreed(const gp_chunk *c, const gp_entry *e, const gp_msg *m)
{
    int codec = gp_codec_set_find(&c->tensor->push, m->pipeline);
    bool needed = codec >= 0 && c->tensor->proposes >> codec & 1;

    if (m->flags & GP_MSG_INIT || m->step < e->next_step ||
        (e->answer != ANSWER_AGREE && (!needed || c->agreed == m->step + 1)))
        return GP_OK;
    return gp_fail(GP_ERR_PROTOCOL,
                   "push of step %llu of chunk %u before what all workers must "
                   "agree on",
                   (unsigned long long)m->step, m->chunk);
}

/* Worker 0 restores what differences are to be added to before it pushes any;
 * no step is complete without it. */
static gp_status
check_restored(const gp_chunk *c, const gp_peer *peer, const gp_msg *m)
{
    if (m->flags & GP_MSG_INIT || peer->rank != 0 || gp_chunk_is_restored(c))
        return GP_OK;
    return gp_fail(GP_ERR_PROTOCOL,
                   "push of chunk %u before the history that it announced",
                   m->chunk);
}

/* Differences cannot be weighted: what they add up to would be no sum of what
 * the workers hold. */
static gp_status
check_weight(const gp_chunk *c, const gp_msg *m)
{
    if (!(m->flags & GP_MSG_WEIGHT))
        return GP_OK;
    if (m->flags & GP_MSG_INIT || c->rows ||
        gp_codec_set_differs(&c->tensor->push))
        return gp_fail(GP_ERR_PROTOCOL, "push of chunk %u with a weight",
                       m->chunk);
    if (!gp_weight_is_valid(gp_bits_double(m->credits)))
        return gp_fail(GP_ERR_PROTOCOL, "push of chunk %u with weight %g",
                       m->chunk, gp_bits_double(m->credits));
    return GP_OK;
}

/* The slots that a push says it lies in. */
uint64_t
gp_push_slots(const gp_shard *s, const gp_msg *m)
{
    uint64_t count = gp_slots_for(m->payload, s->slot_bytes);

    if (count > s->slots || m->slot > s->slots - count)
        return 0;
    return gp_slots_mask(m->slot, (uint32_t)count);
}

static gp_status
check_slot(const gp_shard *s, const gp_peer *peer, const gp_chunk *c,
           const gp_msg *m)
{
    uint64_t slots = gp_push_slots(s, m);

    if (!slots ||
        (m->region != peer->region && !gp_push_may_land(peer, c, m)) ||
        m->offset != m->slot * s->slot_bytes ||
        ((peer->held | peer->free_credits | peer->idle_credits) & slots))
        return gp_fail(GP_ERR_PROTOCOL,
                       "push of %llu bytes into slot %u, which it does not "
                       "own",
                       (unsigned long long)m->payload, m->slot);
    return GP_OK;
}

/* Whether there is no room for a large push. */
bool
gp_peer_is_full(const gp_shard *s, const gp_peer *peer)
{
    uint64_t all = gp_slots_mask(0, s->slots);

    return gp_slots_find(all & ~peer->held, s->most_slots) < 0;
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

/* What only tensors of rows or only the others know. */
static gp_status
check_kind(const gp_chunk *c, const gp_msg *m)
{
    if (c->rows ? !(m->flags & GP_MSG_INIT) : m->type != GP_MSG_LOOKUP)
        return GP_OK;
    return gp_fail(GP_ERR_PROTOCOL, "message type %u%s for chunk %u of %s",
                   m->type,
                   m->flags & GP_MSG_INIT ? " with initial values" : "",
                   m->chunk, c->rows ? "rows" : "a dense tensor");
}

/* Everything a peer claims about a push, against what it may claim. */
static gp_status
check_push(gp_shard *s, gp_peer *peer, gp_chunk *c, const gp_msg *m)
{
    gp_status status;

    if (!c)
        return gp_fail(GP_ERR_PROTOCOL, "push of chunk %u, not on this shard",
                       m->chunk);
    status = gp_push_check_sender(s, peer, m);
    if (status == GP_OK)
        status = check_kind(c, m);
    if (status == GP_OK)
        status = check_pipeline(c, m);
    if (status == GP_OK)
        status = check_slot(s, peer, c, m);
    if (status == GP_OK)
        status = check_step(entry_of(c, peer), m);
    if (status == GP_OK && m->flags & GP_MSG_WANT)
        status = check_destination(m);
    if (status == GP_OK)
        status = check_length(c, m);
    if (status == GP_OK)
        status = check_agreed(c, entry_of(c, peer), m);
    if (status == GP_OK)
        status = check_restored(c, peer, m);
    if (status == GP_OK)
        status = check_weight(c, m);
    return status;
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
        gp_status status;

        if (!e->pending || e->stash || e->queued)
            continue;
        status = gp_entry_stash(s, peer, e);
        if (status != GP_OK) {
            gp_shard_fail(s, status, "%s", gp_last_error());
            return;
        }
        gp_chunk_advance(s, c);
    }
}

static void
take_initial(gp_shard *s, gp_peer *peer, gp_chunk *c, gp_entry *e)
{
    if (c->version > c->tensor->spec->first_step || c->folded > 0 ||
        c->arrived > 0 || c->initialized || c->initializer) {
        gp_entry_free(s, peer, e);
        gp_shard_fail(s, GP_ERR_STATE,
                      "worker %u broadcast tensor '%.60s' twice or after a "
                      "push: call gp_broadcast once, before the first push",
                      peer->rank, c->tensor->spec->name);
        return;
    }
    c->initializer = e;
    gp_chunk_initialize(s, c);
}

/* It waits for others. The worker need not, unless it wants the result. */
static void
take_pending(gp_shard *s, gp_peer *peer, gp_chunk *c, gp_entry *e)
{
    e->pending = true;
    e->arrival = ++s->arrivals;
    if (s->size > 1)
        gp_lag_note(s, c, e);
    if (c->tensor->arrives) {
        peer->pushed++;
        peer->waits = false;
        gp_shard_let_go(s, peer);
    }
    if (!c->tensor->arrives && !c->since_ns && e->msg.step == c->version)
        c->since_ns = gp_clock_ns();
    if (!peer->full_since_ns && gp_peer_is_full(s, peer))
        peer->full_since_ns = gp_clock_ns();
    if (c->tensor->proposes)
        gp_chunk_agree(s, c, e->msg.step);
    gp_chunk_advance(s, c);
    if (e->pending && e->answer == ANSWER_ACK &&
        !(e->msg.flags & GP_MSG_PATIENT))
        gp_entry_owe(peer, e);
    /* Also when it was folded: the result may wait for one who has left. */
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

/* Whether a payload is to be looked at. It was given up with the job, or by a
 * worker whose goodbye overtook it; or its sender takes no part. */
static bool
is_welcome(gp_shard *s, gp_peer *peer, const gp_event *event)
{
    if (peer->state != PEER_LEFT && s->fault == GP_OK)
        return gp_member_check(s, peer);
    peer->ops->release(peer->ep, &event->msg, event->payload);
    return false;
}

static void
let_go(gp_shard *s, gp_peer *peer, const gp_event *event)
{
    peer->ops->release(peer->ep, &event->msg, event->payload);
    peer->free_credits |= gp_push_slots(s, &event->msg);
}

static void
offend(gp_shard *s, gp_peer *peer)
{
    GP_ERROR("worker %u: %s", peer->rank, gp_last_error());
    gp_shard_drop(s, peer, GP_ERR_PROTOCOL);
}

void
gp_shard_push(gp_shard *s, gp_peer *peer, const gp_event *event)
{
    const gp_msg *m = &event->msg;
    gp_chunk *c = gp_shard_find_chunk(s, m->chunk);
    gp_rows_view rows = {0};
    gp_entry *e;

    if (!is_welcome(s, peer, event))
        return;
    if (check_push(s, peer, c, m) != GP_OK) {
        offend(s, peer);
        return;
    }
    e = entry_of(c, peer);
    if (is_copy(e, m)) {
        let_go(s, peer, event);
        return;
    }
    if (c->rows &&
        gp_rows_take(s, c, peer->rank, m, event->payload, &rows) != GP_OK) {
        offend(s, peer);
        return;
    }
    gp_entry_disown(e); /* of a copy: it was answered before */
    e->payload = event->payload;
    e->length = m->payload;
    e->rows = rows.pushed;
    e->wanted = rows.wanted;
    e->msg = *m;
    e->codec = gp_codec_set_find(&c->tensor->push, m->pipeline);
    e->cookie = m->cookie;
    e->aux = m->aux;
    e->answer = m->flags & GP_MSG_WANT ? ANSWER_RESULT : ANSWER_ACK;
    e->answer_version = m->step + 1;
    e->init_answer = (m->flags & GP_MSG_INIT) != 0;
    gp_entry_ask(s, e, m->priority);
    e->weight = m->flags & GP_MSG_WEIGHT ? gp_bits_double(m->credits) : 1.0;
    gp_push_landed(s, peer, e);
    peer->held |= gp_push_slots(s, m);
    if (m->flags & GP_MSG_INIT) {
        take_initial(s, peer, c, e);
    } else if (m->step < e->next_step) {
        /* Applied already: answered again, never applied again. */
        gp_entry_free(s, peer, e);
        if (e->answer == ANSWER_RESULT && c->spent)
            e->answer = ANSWER_NONE; /* every worker has it */
        else
            gp_entry_settle(s, c, peer->rank);
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
    status = gp_push_check_sender(s, peer, m);
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

static void
take_pull(gp_shard *s, gp_peer *peer, gp_chunk *c, const gp_msg *m)
{
    gp_entry *e = entry_of(c, peer);

    e->cookie = m->cookie;
    e->aux = m->aux;
    e->answer = ANSWER_RESULT;
    e->answer_version = m->step;
    e->init_answer = (m->flags & GP_MSG_INIT) != 0;
    e->root = e->init_answer ? m->pipeline : 0;
    gp_entry_ask(s, e, m->priority);
    gp_chunk_check_root(s, c, peer->rank);
    if (c->tensor->arrives && !e->init_answer)
        gp_chunk_pull(s, c);
    else
        gp_entry_settle(s, c, peer->rank);
    if (e->answer != ANSWER_NONE && s->departed > 0)
        gp_shard_check_left(s);
}

void
gp_shard_pull(gp_shard *s, gp_peer *peer, const gp_msg *m)
{
    gp_chunk *c = gp_shard_find_chunk(s, m->chunk);
    gp_status status;

    if (!gp_member_check(s, peer))
        return;
    status = check_pull(s, peer, c, m);
    if (status == GP_OK && c->rows)
        status = gp_fail(GP_ERR_PROTOCOL, "pull of chunk %u names no rows",
                         m->chunk);
    if (status == GP_OK)
        take_pull(s, peer, c, m);
    else
        offend(s, peer);
}

/* A pull that says which rows. These are copied, and the slot is free again. */
void
gp_shard_lookup(gp_shard *s, gp_peer *peer, const gp_event *event)
{
    const gp_msg *m = &event->msg;
    gp_chunk *c = gp_shard_find_chunk(s, m->chunk);
    gp_rows_view rows;
    gp_status status;

    if (!is_welcome(s, peer, event))
        return;
    status = check_pull(s, peer, c, m);
    if (status == GP_OK)
        status = check_kind(c, m);
    if (status == GP_OK)
        status = check_pipeline(c, m);
    if (status == GP_OK)
        status = check_slot(s, peer, c, m);
    if (status == GP_OK)
        status = gp_rows_take(s, c, peer->rank, m, event->payload, &rows);
    if (status != GP_OK) {
        offend(s, peer);
        return;
    }
    let_go(s, peer, event);
    take_pull(s, peer, c, m);
}
