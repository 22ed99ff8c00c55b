/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard_report.c - who keeps whom waiting, in words.
 *
 * Twice a second the workers are told whom they wait for, so that a wait that
 * ends at its deadline can say it. What lasts is logged, every few seconds.
 */
#include <stdio.h>
#include <string.h>

#include "shard/shard_int.h"

typedef struct rank_list {
    uint32_t rank[8];
    uint32_t count; /* may exceed what is listed */
} rank_list;

static void
add_rank(rank_list *list, int64_t rank)
{
    if (list->count < GP_COUNT_OF(list->rank))
        list->rank[list->count] = (uint32_t)rank;
    list->count++;
}

/* "worker 1" or "workers 1, 3" */
static void
print_ranks(const rank_list *list, char *text, size_t capacity)
{
    uint32_t shown = GP_MIN(list->count, GP_COUNT_OF(list->rank));
    size_t at = (size_t)snprintf(text, capacity, "worker%s ",
                                 list->count > 1 ? "s" : "");

    for (uint32_t i = 0; i < shown && at < capacity; i++)
        at += (size_t)snprintf(text + at, capacity - at, "%s%u", i ? ", " : "",
                               list->rank[i]);
    if (list->count > shown && at < capacity)
        snprintf(text + at, capacity - at, " and %u more", list->count - shown);
}

static void
tell_all(gp_shard *s, const char *text, uint64_t waited)
{
    uint64_t before = GP_MAX(waited, SHARD_REPORT_NS) - SHARD_REPORT_NS;
    bool loud = waited / SHARD_LOG_NS > before / SHARD_LOG_NS;

    if (loud)
        GP_WARN("shard %lld: %s", (long long)s->index, text);
    for (int64_t r = 0; r < s->size; r++) {
        gp_msg msg = {.type = GP_MSG_WAITING,
                      .status = GP_PENDING,
                      .aux = loud,
                      .payload = strlen(text)};

        if (s->worker[r])
            (void)gp_peer_post(s, s->worker[r], &msg, text, 0);
    }
}

void
gp_shard_missing(const gp_shard *s, char *text, size_t capacity)
{
    rank_list late = {0};
    char who[160];

    if (s->elastic) {
        gp_members_describe(s, text, capacity);
        return;
    }
    for (int64_t r = 0; r < s->size; r++)
        if (!s->worker[r] && !s->left[r])
            add_rank(&late, r);
    print_ranks(&late, who, sizeof(who));
    snprintf(text, capacity, "%s of %lld %s not joined", who,
             (long long)s->size, late.count > 1 ? "have" : "has");
}

static void
describe_barrier(const gp_shard *s, uint64_t now, char *text, size_t capacity)
{
    rank_list late = {0};
    char who[160];

    for (int64_t r = 0; r < s->size; r++)
        if (s->barrier[r] <= s->barrier_count &&
            gp_rank_is_awaited(s, (uint32_t)r))
            add_rank(&late, r);
    print_ranks(&late, who, sizeof(who));
    snprintf(text, capacity, "a barrier has waited %.0f s for %s",
             (double)(now - s->barrier_since_ns) * 1e-9, who);
}

static const gp_chunk *
find_oldest(const gp_shard *s)
{
    const gp_chunk *oldest = NULL;

    for (uint32_t i = 0; i < s->chunks; i++)
        if (s->chunk[i].since_ns &&
            (!oldest || s->chunk[i].since_ns < oldest->since_ns))
            oldest = &s->chunk[i];
    return oldest;
}

/* A step that has everybody's pushes, but not those of tensors whose norm it
 * needs. */
static void
describe_norm(const gp_shard *s, const gp_chunk *c, uint64_t now, char *text,
              size_t capacity)
{
    const gp_chunk *missing = gp_norm_missing(s, c);

    snprintf(text, capacity,
             "tensor '%.60s' step %llu has waited %.0f s for the norm of what "
             "is clipped with it: %s%.60s%s no push of this step from all "
             "workers",
             c->tensor->spec->name, (unsigned long long)c->version,
             (double)(now - c->since_ns) * 1e-9,
             missing ? "tensor '" : "a tensor ",
             missing ? missing->tensor->spec->name : "on another shard",
             missing ? "' has" : " has");
}

/* The oldest step that someone keeps waiting for; false when nobody does. */
static bool
describe_step(const gp_shard *s, const gp_chunk *c, uint64_t now, char *text,
              size_t capacity)
{
    rank_list late = {0};
    char who[160];

    for (int64_t r = 0; r < s->size; r++)
        if (c->tensor->arrives
                ? gp_chunk_lacks(s, c, (uint32_t)r)
                : gp_rank_is_awaited(s, (uint32_t)r) && !c->entry[r].pending &&
                      c->entry[r].next_step == c->version &&
                      c->entry[r].answer != ANSWER_AGREE)
            add_rank(&late, r);
    if (late.count == 0 && gp_chunk_waits_for_norm(c))
        describe_norm(s, c, now, text, capacity);
    if (late.count == 0)
        return gp_chunk_waits_for_norm(c);
    print_ranks(&late, who, sizeof(who));
    snprintf(
        text, capacity, "tensor '%.60s' step %llu has waited %.0f s for %s",
        c->tensor->spec->name,
        (unsigned long long)(c->tensor->mode.kind == GP_MODE_SSP ? c->slowest
                                                                 : c->version),
        (double)(now - c->since_ns) * 1e-9, who);
    return true;
}

bool
gp_shard_waits(const gp_shard *s, uint64_t now, uint64_t least_ns, char *text,
               size_t capacity, uint64_t *waited)
{
    const gp_chunk *oldest;

    if (!s->worker || s->fault != GP_OK || s->finished)
        return false;
    if (!s->started) {
        *waited = now - s->created_ns;
        gp_shard_missing(s, text, capacity);
        return true;
    }
    oldest = find_oldest(s);
    if (oldest && now - oldest->since_ns >= least_ns) {
        *waited = now - oldest->since_ns;
        return describe_step(s, oldest, now, text, capacity);
    }
    if (s->members_since_ns && now - s->members_since_ns >= least_ns) {
        *waited = now - s->members_since_ns;
        gp_members_describe(s, text, capacity);
        return true;
    }
    if (!s->barrier_since_ns || now - s->barrier_since_ns < least_ns)
        return false;
    *waited = now - s->barrier_since_ns;
    describe_barrier(s, now, text, capacity);
    return true;
}

void
gp_shard_report(gp_shard *s, uint64_t now)
{
    char text[GP_TEXT_MAX];
    uint64_t waited;

    s->report_ns = now + SHARD_REPORT_NS;
    if (s->fault != GP_OK || s->finished)
        s->report_ns = UINT64_MAX;
    else
        gp_lags_report(s, now);
    gp_members_tell_spare(s);
    if (s->fault == GP_OK && !s->finished &&
        gp_shard_waits(s, now, SHARD_REPORT_NS, text, sizeof(text), &waited))
        tell_all(s, text, waited);
}
