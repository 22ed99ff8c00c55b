/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard_agree.c - numbers that workers agree on before they encode a chunk.
 *
 * A worker whose pipeline needs such a number, a scale for instance, proposes
 * one; it is answered with the largest of all once every rank has proposed, or
 * has pushed that step through a pipeline that needs none. The entry's answer
 * says that it waits. Steps are agreed on one at a time: a worker proposes for
 * the next one when its last push has been folded, so nobody needs an older
 * number any more when all have.
 */
#include "shard/shard_int.h"

/* A NaN is larger than everything, so that all hear of it. */
static float
larger(float a, float b)
{
    if (a != a)
        return a;
    return b != b || b > a ? b : a;
}

static bool
has_proposed(const gp_entry *e, uint64_t step)
{
    return e->answer == ANSWER_AGREE && e->next_step == step;
}

/* Its push of the step is here, and perhaps added already. */
static bool
has_pushed(const gp_entry *e, uint64_t step)
{
    return e->next_step > step || (e->pending && e->msg.step == step);
}

static bool
all_are_in(const gp_shard *s, const gp_chunk *c, uint64_t step)
{
    for (int64_t r = 0; r < s->size; r++)
        if (!has_proposed(&c->entry[r], step) &&
            !has_pushed(&c->entry[r], step))
            return false;
    return true;
}

/* Answers all who wait, when nobody is missing. */
void
gp_chunk_agree(gp_shard *s, gp_chunk *c, uint64_t step)
{
    bool any = false;
    float most = 0;

    if (!all_are_in(s, c, step))
        return;
    for (int64_t r = 0; r < s->size; r++)
        if (has_proposed(&c->entry[r], step)) {
            float value = c->entry[r].proposal;

            most = any ? larger(most, value) : value;
            any = true;
        }
    if (!any)
        return;
    c->shared = most;
    c->agreed = step + 1;
    for (int64_t r = 0; r < s->size; r++)
        if (has_proposed(&c->entry[r], step) && s->worker[r])
            gp_entry_owe(s->worker[r], &c->entry[r]);
}

gp_status
gp_entry_send_agreed(gp_shard *s, gp_peer *peer, gp_entry *e)
{
    gp_msg msg = {.type = GP_MSG_AGREE,
                  .chunk = e->chunk->number,
                  .step = e->next_step,
                  .cookie = e->cookie,
                  .aux = gp_float_bits(e->chunk->shared)};

    return gp_peer_post(s, peer, &msg, NULL, 0);
}

static gp_status
check(gp_shard *s, gp_peer *peer, const gp_chunk *c, const gp_msg *m)
{
    const gp_entry *e = c ? &c->entry[peer->rank] : NULL;
    gp_status status;
    int codec;

    if (!c)
        return gp_fail(GP_ERR_PROTOCOL,
                       "proposal for chunk %u, not on this "
                       "shard",
                       m->chunk);
    status = gp_push_check_sender(s, peer, m);
    if (status != GP_OK)
        return status;
    codec = gp_codec_set_find(&c->tensor->push, m->pipeline);
    if (codec < 0 || !(c->tensor->proposes >> codec & 1))
        return gp_fail(GP_ERR_PROTOCOL,
                       "proposal for pipeline %08x, which takes none",
                       m->pipeline);
    if (m->step > e->next_step ||
        (m->step == e->next_step && e->answer != ANSWER_NONE &&
         e->answer != ANSWER_AGREE && !e->pending))
        return gp_fail(GP_ERR_PROTOCOL,
                       "proposal for step %llu of chunk %u where step %llu is "
                       "expected",
                       (unsigned long long)m->step, m->chunk,
                       (unsigned long long)e->next_step);
    return GP_OK;
}

/* One that was answered by a push, or waits already. */
static bool
is_copy(const gp_entry *e, const gp_msg *m)
{
    return m->step < e->next_step || e->pending || e->answer == ANSWER_AGREE;
}

void
gp_shard_propose(gp_shard *s, gp_peer *peer, const gp_msg *m)
{
    gp_chunk *c = gp_shard_find_chunk(s, m->chunk);
    gp_entry *e;

    if (s->fault != GP_OK)
        return;
    if (check(s, peer, c, m) != GP_OK) {
        GP_ERROR("worker %u: %s", peer->rank, gp_last_error());
        gp_shard_drop(s, peer, GP_ERR_PROTOCOL);
        return;
    }
    e = &c->entry[peer->rank];
    if (is_copy(e, m))
        return;
    e->answer = ANSWER_AGREE;
    e->cookie = m->cookie;
    e->proposal = gp_bits_float(m->aux);
    if (!c->since_ns && m->step == c->version)
        c->since_ns = gp_clock_ns();
    if (c->agreed == m->step + 1)
        gp_entry_owe(peer, e);
    else
        gp_chunk_agree(s, c, m->step);
    if (s->departed > 0)
        gp_shard_check_left(s);
}
