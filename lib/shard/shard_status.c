/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard_status.c - what a shard is doing, for `gradpush status`.
 *
 * Chunks are many, and workers may be: only so many entries are looked at that
 * the data path does not feel it.
 */
#include <string.h>

#include "shard/shard_rows.h"

#define LOOKS_MAX  65536u /* entries */
#define LISTED_MAX 32u    /* workers */

typedef struct progress {
    uint64_t steps;   /* pushed, of the chunk that is furthest */
    uint32_t waiting; /* pushes here that wait for others */
} progress;

static progress
look_at(const gp_shard *s, int64_t rank, uint32_t stride)
{
    progress p = {0};

    for (uint32_t i = 0; i < s->chunks; i += stride) {
        const gp_entry *e = &s->chunk[i].entry[rank];

        p.steps = GP_MAX(p.steps, e->next_step + e->pending);
        p.waiting += e->pending;
    }
    return p;
}

static const char *
state_name(const gp_shard *s, int64_t rank)
{
    const gp_peer *peer = s->worker[rank];

    if (s->left[rank])
        return "left";
    if (!peer)
        return "missing";
    return peer->state == PEER_READY ? "ready" : "joined";
}

static void
put_worker(const gp_shard *s, int64_t rank, uint32_t stride, gp_json_text *j)
{
    const gp_peer *peer = s->worker[rank];
    progress p = look_at(s, rank, stride);

    gp_json_open(j, NULL, '{');
    gp_json_put_int(j, "rank", rank);
    gp_json_put_text(j, "state", state_name(s, rank));
    if (peer)
        gp_json_put_text(j, "process", peer->identity);
    gp_json_put_count(j, "steps", p.steps);
    gp_json_put_count(j, "pushes_waiting", p.waiting);
    gp_json_put_count(j, "slots", peer && peer->slots ? s->slots : 0);
    gp_json_put_int(j, "slots_held",
                    peer ? __builtin_popcountll(peer->held) : 0);
    gp_json_put_real(j, "lag_seconds", s->lag[rank].mean_ns * 1e-9);
    gp_json_put_real(j, "lag_last_seconds",
                     (double)s->lag[rank].last_ns * 1e-9);
    gp_json_put_real(j, "awaited_seconds",
                     (double)s->lag[rank].awaited_ns * 1e-9);
    gp_json_shut(j, '}');
}

static void
put_workers(const gp_shard *s, gp_json_text *j)
{
    int64_t listed = GP_MIN(s->size, (int64_t)LISTED_MAX);
    uint32_t looks = LOOKS_MAX / LISTED_MAX;
    uint32_t stride = s->chunks / looks + 1;

    gp_json_open(j, "members", '[');
    for (int64_t r = 0; r < listed; r++)
        put_worker(s, r, stride, j);
    gp_json_shut(j, ']');
}

/* Steps between the worker that has pushed most of a chunk and the one that has
 * pushed least, of those who are there. */
static uint64_t
spread_of(const gp_shard *s, const gp_chunk *c)
{
    uint64_t least = UINT64_MAX, most = 0;
    int64_t looks = GP_MIN(s->size, (int64_t)LISTED_MAX);

    for (int64_t r = 0; r < looks; r++) {
        if (s->left[r])
            continue;
        least = GP_MIN(least, c->entry[r].next_step);
        most = GP_MAX(most, c->entry[r].next_step);
    }
    return most > least ? most - least : 0;
}

/* Each text once. */
static void
put_modes(const gp_shard *s, gp_json_text *j)
{
    uint32_t looks = GP_MIN(s->list.count, LISTED_MAX);

    gp_json_open(j, "modes", '[');
    for (uint32_t i = 0; i < looks; i++) {
        uint32_t same = 0;

        while (strcmp(s->list.tensors[same].mode, s->list.tensors[i].mode) != 0)
            same++;
        if (same == i)
            gp_json_put_text(j, NULL, s->list.tensors[i].mode);
    }
    gp_json_shut(j, ']');
}

static void
put_chunks(const gp_shard *s, gp_json_text *j)
{
    uint64_t elements = 0, least = UINT64_MAX, most = 0, spread = 0;
    uint32_t stride = s->chunks / (LOOKS_MAX / LISTED_MAX) + 1;

    for (uint32_t i = 0; i < s->chunks; i += stride) {
        const gp_chunk *c = &s->chunk[i];
        uint64_t apart = spread_of(s, c);

        spread = GP_MAX(spread, apart);
        elements += c->info->count;
        least = GP_MIN(least, c->version);
        most = GP_MAX(most, c->version);
    }
    gp_json_put_count(j, "chunks", s->chunks);
    gp_json_put_count(j, "elements", elements * stride);
    gp_json_put_count(j, "steps_least", s->chunks ? least : 0);
    gp_json_put_count(j, "steps_most", most);
    gp_json_put_count(j, "staleness", spread);
    gp_json_put_count(j, "pushes_late", s->late);
    if (s->agreed)
        put_modes(s, j);
}

/* Rows that are kept, and all memory that goes with them. */
static void
put_rows(const gp_shard *s, gp_json_text *j)
{
    uint64_t kept = 0, pushed = 0;
    bool any = false;

    for (uint32_t i = 0; i < s->chunks; i++) {
        const gp_row_store *store = s->chunk[i].rows;

        if (!store)
            continue;
        any = true;
        kept += store->kept.rows;
        pushed += store->pushed;
    }
    if (!any)
        return;
    gp_json_put_count(j, "rows", kept);
    gp_json_put_count(j, "rows_pushed", pushed);
    gp_json_put_count(j, "rows_bytes", s->rows_budget.used);
    gp_json_put_count(j, "rows_limit", s->rows_budget.limit);
}

static const char *
phase_name(const gp_shard *s)
{
    if (s->fault != GP_OK)
        return "failed";
    if (s->finished)
        return "finished";
    if (!s->started)
        return "joining";
    return s->agreed ? "running" : "agreeing";
}

int64_t
gp_shard_describe(const gp_shard *s, gp_json_text *j)
{
    char text[GP_TEXT_MAX];
    uint64_t now = gp_clock_ns(), waited;

    gp_json_put_int(j, "shard", s->index);
    gp_json_put_text(j, "address", s->address);
    gp_json_put_text(j, "phase", phase_name(s));
    gp_json_put_int(j, "workers", s->size);
    gp_json_put_count(j, "workers_joined", s->joined);
    gp_json_put_count(j, "workers_left", s->departed);
    if (s->elastic) {
        gp_json_put_count(j, "members_epoch", s->members_epoch);
        gp_json_put_count(j, "members_here", gp_shard_members_here(s));
    }
    if (s->fault != GP_OK)
        gp_json_put_text(j, "fault", s->fault_text);
    gp_shard_device_describe(s, j);
    put_chunks(s, j);
    put_rows(s, j);
    if (gp_shard_waits(s, now, 0, text, sizeof(text), &waited)) {
        gp_json_put_text(j, "waits", text);
        gp_json_put_real(j, "waits_seconds", (double)waited * 1e-9);
    }
    if (s->worker)
        put_workers(s, j);
    return s->index;
}
