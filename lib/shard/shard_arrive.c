/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard_arrive.c - chunks whose pushes are folded as they arrive.
 *
 * async and ssp: each push is one update of the parameters. sync with backup
 * workers: the first pushes that are enough make a step, of different workers;
 * a further push of a worker waits for the next step. Whether a push is late is
 * told by the version that its worker was given last.
 *
 * A worker's own number of pushes, next_step, is what identifies a push, and
 * what ssp compares. A process that comes to a job under way counts from the
 * beginning, and so that it holds nobody up, is compared as if it had made as
 * many as the slowest of those who are there.
 *
 * While somebody holds (GP_REST_HOLDS) nothing of this happens: pushes stay
 * where they are, so that what is read of a chunk belongs together.
 */
#include "shard/fold.h"
#include "shard/shard_rows.h"

/* Whether a rank's pushes are waited for: it has not left, and does not rest.
 * A push that overtook the word of its worker's rest ends the rest as well. */
static bool
counts(const gp_shard *s, int64_t rank)
{
    const gp_peer *peer = s->worker[rank];

    if (s->left[rank] || !gp_rank_is_awaited(s, (uint32_t)rank))
        return false;
    return !peer || !peer->rests || peer->pushed > peer->rest_after;
}

/* ... and it is known how far it is. */
static bool
is_placed(const gp_shard *s, int64_t rank)
{
    return counts(s, rank) && (!s->elastic || s->worker[rank]->placed);
}

/* With backup workers, one that waits for a step of another chunk does not come
 * either; it could wait for those who wait here. */
static bool
comes(const gp_shard *s, int64_t rank)
{
    return counts(s, rank) && !(s->worker[rank] && s->worker[rank]->waits);
}

/* As many as there are, not counting backups. */
static uint32_t
wanted(const gp_shard *s, const gp_chunk *c)
{
    uint32_t all = s->elastic ? gp_shard_members_here(s) : (uint32_t)s->size;
    uint32_t backups = c->tensor->mode.backups;

    return all > backups ? all - backups : 1;
}

/* Pushes that make a step: fewer when not so many can come any more. */
static uint32_t
needed(const gp_shard *s, const gp_chunk *c)
{
    uint32_t possible = c->arrived;

    for (int64_t r = 0; r < s->size; r++)
        possible += c->entry[r].joined <= c->version &&
                    (comes(s, r) || c->entry[r].pending);
    return GP_MIN(wanted(s, c), possible);
}

/* What ssp compares. */
static uint64_t
clock_of(const gp_entry *e)
{
    return e->next_step + e->ahead;
}

/* Whether there is nothing yet that a newcomer could begin with: whoever began
 * the job has not said what the parameters are. */
static bool
is_unborn(const gp_chunk *c)
{
    return !c->initialized && !c->rows &&
           c->version == c->tensor->spec->first_step;
}

bool
gp_chunk_is_due(const gp_chunk *c, const gp_entry *e)
{
    const gp_mode *m = &c->tensor->mode;

    if (!c->tensor->arrives)
        return e->answer_version <= c->version;
    if (e->pending || e->joined > c->version || (e->fresh && is_unborn(c)))
        return false;
    return m->kind != GP_MODE_SSP ||
           e->answer_version + e->ahead <= c->slowest ||
           e->answer_version + e->ahead - c->slowest <= m->staleness;
}

bool
gp_chunk_lacks(const gp_shard *s, const gp_chunk *c, uint32_t rank)
{
    const gp_entry *e = &c->entry[rank];

    if (!is_placed(s, rank) || e->pending)
        return false;
    return c->tensor->mode.kind == GP_MODE_SSP ? clock_of(e) == c->slowest
                                               : e->joined <= c->version;
}

/* The push that came first of those that may be folded now. */
static gp_entry *
first_of_step(const gp_shard *s, const gp_chunk *c)
{
    gp_entry *first = NULL;

    for (int64_t r = 0; r < s->size; r++) {
        gp_entry *e = &c->entry[r];

        if (e->pending && e->joined <= c->version &&
            (!first || e->arrival < first->arrival))
            first = e;
    }
    return first;
}

/* The fewest steps that a worker which counts has pushed. */
static void
find_slowest(const gp_shard *s, gp_chunk *c)
{
    uint64_t least = UINT64_MAX;

    for (int64_t r = 0; r < s->size; r++)
        if (is_placed(s, r))
            least = GP_MIN(least, clock_of(&c->entry[r]));
    c->slowest = least;
}

/* Steps since the job's first. */
static uint64_t
steps_of(const gp_chunk *c, const gp_entry *e)
{
    return clock_of(e) - c->tensor->spec->first_step;
}

uint64_t
gp_shard_slowest(const gp_shard *s, uint32_t joiner)
{
    uint64_t least = UINT64_MAX;

    for (uint32_t i = 0; i < s->chunks; i++) {
        const gp_chunk *c = &s->chunk[i];

        if (c->tensor->mode.kind != GP_MODE_SSP)
            continue;
        for (uint32_t r = 0; r < (uint32_t)s->size; r++)
            if (r != joiner && is_placed(s, r))
                least = GP_MIN(least, steps_of(c, &c->entry[r]));
    }
    /* Where nobody counts, as far as anybody has come. */
    return GP_MIN(least, s->furthest);
}

void
gp_entry_restart(gp_chunk *c, gp_entry *e, bool late)
{
    e->next_step = e->first;
    e->ahead = c->tensor->spec->first_step - e->first; /* or less than none */
    e->fresh = late;
}

void
gp_shard_place(gp_shard *s, gp_peer *peer, uint64_t ahead)
{
    peer->ahead = ahead;
    peer->placed = true;
    for (uint32_t i = 0; i < s->chunks; i++) {
        gp_entry *e = &s->chunk[i].entry[peer->rank];

        if (s->chunk[i].tensor->arrives)
            e->ahead = ahead + s->chunk[i].tensor->spec->first_step - e->first;
    }
}

/* Sends what is due, and notes whether somebody waits. */
static void
settle_all(gp_shard *s, gp_chunk *c)
{
    bool waits = false;

    find_slowest(s, c);
    for (int64_t r = 0; r < s->size; r++) {
        gp_entry *e = &c->entry[r];

        if (e->answer == ANSWER_RESULT && !e->init_answer) {
            gp_entry_settle(s, c, (uint32_t)r);
            waits |= !gp_chunk_is_due(c, e);
        }
    }
    if (!waits)
        c->since_ns = 0;
    else if (!c->since_ns)
        c->since_ns = gp_clock_ns();
}

/* The push is in the sum, or in none. */
static void
finish_push(gp_shard *s, gp_chunk *c, gp_entry *e)
{
    uint32_t rank = (uint32_t)(e - c->entry);

    gp_entry_free(s, s->worker[rank], e);
    e->pending = false;
    e->next_step = e->msg.step + 1;
    if (e->answer == ANSWER_ACK)
        gp_entry_settle(s, c, rank);
}

/* A step of backup workers: the sum becomes a mean and an update. */
static void
finish_step(gp_chunk *c)
{
    float scale = (float)(1.0 / c->weight);

    if (c->rows)
        c->rows->scale = scale;
    else if (scale != 1.0f)
        gp_fold_scale(c->sum, c->sum, scale, c->info->count);
    (void)gp_chunk_update(c, c->sum);
    c->version++;
    c->arrived = 0;
    c->weight = 0;
}

/* The push becomes an update of its own. */
static bool
apply_push(gp_shard *s, gp_chunk *c, gp_entry *e)
{
    uint32_t rank = (uint32_t)(e - c->entry);
    bool as_it_lies = e->codec == c->tensor->dense && e->weight == 1.0 &&
                      (uintptr_t)e->payload % sizeof(float) == 0;

    if (c->rows)
        return gp_rows_update_with(s, c, rank);
    if (!as_it_lies && !gp_entry_fold(s, c, rank, false))
        return false;
    return gp_chunk_update(c, as_it_lies ? e->payload : c->sum);
}

/* One push, one update. */
static bool
update_once(gp_shard *s, gp_chunk *c, gp_entry *e)
{
    if (!apply_push(s, c, e))
        return false;
    e->joined = ++c->version;
    finish_push(s, c, e);
    s->furthest = GP_MAX(s->furthest, steps_of(c, e));
    return true;
}

static bool
join_step(gp_shard *s, gp_chunk *c, gp_entry *e)
{
    bool late = e->given < c->version;

    s->late += late;
    if (late && !c->tensor->mode.carry) {
        finish_push(s, c, e);
        return true;
    }
    if (!gp_entry_fold(s, c, (uint32_t)(e - c->entry), c->arrived > 0))
        return false;
    c->weight += e->weight;
    c->arrived++;
    e->joined = c->version + 1;
    finish_push(s, c, e);
    return true;
}

void
gp_chunk_arrive(gp_shard *s, gp_chunk *c)
{
    bool backups = c->tensor->mode.kind == GP_MODE_SYNC, any = false;
    gp_entry *e;

    while (s->fault == GP_OK && s->holders == 0 && (e = first_of_step(s, c))) {
        if (!(backups ? join_step(s, c, e) : update_once(s, c, e)))
            return;
        if (c->arrived > 0 && c->arrived >= needed(s, c))
            finish_step(c);
        any = true;
    }
    if (any)
        settle_all(s, c);
}

void
gp_chunk_pull(gp_shard *s, gp_chunk *c)
{
    settle_all(s, c);
}

void
gp_shard_recount(gp_shard *s)
{
    for (uint32_t i = 0; i < s->chunks && s->fault == GP_OK; i++) {
        gp_chunk *c = &s->chunk[i];

        if (!c->tensor->arrives)
            continue;
        if (s->holders == 0 && c->arrived > 0 && c->arrived >= needed(s, c))
            finish_step(c);
        gp_chunk_arrive(s, c);
        settle_all(s, c);
    }
}

void
gp_shard_let_go(gp_shard *s, gp_peer *peer)
{
    s->holders -= peer->holds;
    peer->holds = false;
}

static void
hold(gp_shard *s, gp_peer *peer)
{
    if (!gp_rank_is_awaited(s, peer->rank))
        return;
    s->holders += !peer->holds;
    peer->holds = true;
}

void
gp_shard_rest(gp_shard *s, gp_peer *peer, const gp_msg *m)
{
    switch (m->aux) {
    case GP_REST_ALL:
        peer->rests = true;
        peer->rest_after = m->step;
        break;
    case GP_REST_HOLDS:
        hold(s, peer);
        return;
    case GP_REST_FREES:
        gp_shard_let_go(s, peer);
        break;
    default:
        peer->waits = m->aux == GP_REST_WAITS && peer->pushed <= m->step;
        break;
    }
    gp_shard_recount(s);
}
