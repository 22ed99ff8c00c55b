/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard_norm.c - norms over chunks that lie on several shards.
 *
 * Chunks that are measured together are a group: all of clipped tensors, or
 * those of one tensor whose updater scales by its norm. When the gradients of a
 * step have been added up, a chunk of a group adds its squares and waits. When
 * all of this shard's have, and other shards have chunks of the group too, the
 * shard reports its sums to the worker of the lowest rank that is there, who
 * adds up all shards' and answers with the totals. Shards need not know each
 * other.
 *
 * A group's next step begins when all its chunks have got the totals of this
 * one. When that worker leaves, the next one is sent the last two reports: it
 * may have answered one shard and not the other, which is then a step behind.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "shard/fold.h"
#include "shard/norm.h"
#include "shard/shard_int.h"

#define NOBODY UINT32_MAX

struct norm_group {
    uint32_t number;      /* 0: clipped together; 1 + tensor: that tensor's */
    uint32_t first, last; /* in gp_shard.chunk, and after it */
    uint32_t chunks, in;  /* of this shard; that have been measured */
    bool shared;          /* other shards have some too */
    uint64_t step;        /* counted from 0 */
    gp_norm sum[2];
    double total[2];
    uint8_t report[2][2 * GP_NORM_BYTES]; /* of even and odd steps */
    uint64_t reported[2];                 /* their steps + 1; 0: none */
    bool unsent[2];
};

/* What a chunk with norms goes through once its gradient is there. */
enum {
    STAGE_NONE,
    STAGE_CLIP, /* waits for the norm of all that are clipped */
    STAGE_CLIPPED,
    STAGE_DIRECTS, /* the sum becomes a direction */
    STAGE_NORM,    /* waits for the norms of its tensor */
    STAGE_NORMED
};

static bool
is_member(const norm_group *g, const gp_chunk *c)
{
    return g->number > 0 || gp_updater_clips(&c->tensor->updater);
}

static void
count_chunks(const gp_shard *s, norm_group *g)
{
    uint32_t all = 0;

    for (uint32_t i = 0; i < s->chunks; i++) {
        const gp_chunk *c = &s->chunk[i];

        if (g->number > 0 ? c->info->tensor + 1 != g->number : !is_member(g, c))
            continue;
        g->first = g->chunks++ == 0 ? i : g->first;
        g->last = i + 1;
    }
    for (uint32_t i = 0; i < s->map.chunks; i++) {
        uint32_t tensor = s->map.chunk[i].tensor;

        all += g->number > 0 ? tensor + 1 == g->number
                             : gp_updater_clips(&s->tensor[tensor].updater);
    }
    g->shared = all > g->chunks;
}

static gp_status
open_group(gp_shard *s, uint32_t number)
{
    norm_group *g = calloc(1, sizeof(*g));

    if (!g)
        return gp_fail(GP_ERR_NO_MEMORY, "norms of a tensor");
    g->number = number;
    s->norm[number] = g;
    count_chunks(s, g);
    return GP_OK;
}

gp_status
gp_norms_open(gp_shard *s)
{
    gp_status status = GP_OK;
    bool clips = false;

    s->norms = s->list.count + 1;
    s->norm_leader = NOBODY;
    s->norm = calloc(s->norms, sizeof(norm_group *));
    if (!s->norm)
        return gp_fail(GP_ERR_NO_MEMORY, "%u tensors", s->list.count);
    for (uint32_t i = 0; status == GP_OK && i < s->list.count; i++) {
        clips |= gp_updater_clips(&s->tensor[i].updater);
        if (s->tensor[i].updater.ops->norms)
            status = open_group(s, i + 1);
    }
    return status == GP_OK && clips ? open_group(s, 0) : status;
}

void
gp_norms_close(gp_shard *s)
{
    for (uint32_t i = 0; s->norm && i < s->norms; i++)
        free(s->norm[i]);
    free(s->norm);
    s->norm = NULL;
    s->norms = 0;
}

static norm_group *
group_of_tensor(const gp_shard *s, const gp_chunk *c)
{
    return s->norm[c->info->tensor + 1];
}

/* All chunks of a group go on with its totals, but for the one whose turn it
 * is. */
static void
release(gp_shard *s, norm_group *g, const gp_chunk *except)
{
    g->in = 0;
    g->step++;
    memset(g->sum, 0, sizeof(g->sum));
    for (uint32_t i = g->first; i < g->last; i++)
        if (is_member(g, &s->chunk[i]))
            s->chunk[i].stage++;
    for (uint32_t i = g->first; i < g->last && s->fault == GP_OK; i++)
        if (is_member(g, &s->chunk[i]) && &s->chunk[i] != except)
            gp_chunk_advance(s, &s->chunk[i]);
}

static void
write_report(gp_shard *s, norm_group *g)
{
    uint32_t i = g->step & 1;

    for (uint32_t k = 0; k < 2; k++)
        gp_norm_encode(&g->sum[k], g->report[i] + k * GP_NORM_BYTES);
    g->reported[i] = g->step + 1;
    g->unsent[i] = true;
    s->norm_unsent = true;
}

/* Its squares are in the sums; whether the totals are there. */
static bool
enter(gp_shard *s, norm_group *g, const gp_chunk *c)
{
    if (++g->in < g->chunks)
        return false;
    if (g->shared) {
        write_report(s, g);
        return false;
    }
    g->total[0] = gp_norm_sum(&g->sum[0]);
    g->total[1] = gp_norm_sum(&g->sum[1]);
    release(s, g, c);
    return true;
}

static gp_updater_step
step_of(const gp_chunk *c)
{
    return (gp_updater_step){.number = c->version + 1,
                             .offset = c->info->offset};
}

static bool
enter_clip(gp_shard *s, gp_chunk *c)
{
    c->stage = STAGE_CLIP;
    if (c->device)
        gp_chunk_device_measured(c, &s->norm[0]->sum[0]);
    else
        gp_norm_add(&s->norm[0]->sum[0], c->sum, c->info->count);
    return enter(s, s->norm[0], c);
}

static bool
enter_tensor(gp_shard *s, gp_chunk *c)
{
    norm_group *g = group_of_tensor(s, c);
    gp_updater_step step = step_of(c);
    size_t n = c->info->count;

    if (c->device) {
        if (!gp_chunk_device_directed(c, &g->sum[0], &g->sum[1]))
            return false;
    } else {
        gp_updater_direct(&c->tensor->updater, &step, c->sum, c->value,
                          c->array, n);
        gp_norm_add(&g->sum[0], c->value, n);
        gp_norm_add(&g->sum[1], c->sum, n);
    }
    c->stage = STAGE_NORM;
    return enter(s, g, c);
}

bool
gp_chunk_measure(gp_shard *s, gp_chunk *c)
{
    const gp_updater *u = &c->tensor->updater;
    float factor;

    if (c->stage == STAGE_NONE && gp_updater_clips(u) && !enter_clip(s, c))
        return false;
    if (c->stage == STAGE_CLIP || c->stage == STAGE_NORM)
        return false;
    if (c->stage == STAGE_CLIPPED) {
        factor = gp_updater_clip(u, sqrt(s->norm[0]->total[0]));
        if (factor != 1.0f && c->device)
            gp_chunk_device_clip(s, c, factor);
        else if (factor != 1.0f)
            gp_fold_scale(c->sum, c->sum, factor, c->info->count);
        c->stage = STAGE_NONE;
    }
    if (u->ops->norms && c->stage == STAGE_NONE)
        c->stage = STAGE_DIRECTS;
    if (c->stage == STAGE_DIRECTS && !enter_tensor(s, c))
        return false;
    if (u->ops->norms) {
        c->parameter_norm = sqrt(group_of_tensor(s, c)->total[0]);
        c->direction_norm = sqrt(group_of_tensor(s, c)->total[1]);
    }
    c->stage = STAGE_NONE;
    return true;
}

/* Who adds up; NULL when all have left, and nobody waits for results. */
static gp_peer *
find_leader(gp_shard *s)
{
    uint32_t rank = 0;

    while (rank < s->size &&
           (!s->worker[rank] || s->worker[rank]->state != PEER_READY))
        rank++;
    if (rank == s->size)
        return NULL;
    for (uint32_t i = 0; rank != s->norm_leader && i < s->norms; i++)
        for (uint32_t k = 0; s->norm[i] && k < 2; k++)
            s->norm[i]->unsent[k] = s->norm[i]->reported[k] > 0;
    s->norm_leader = rank;
    return s->worker[rank];
}

static gp_status
send_report(gp_shard *s, gp_peer *leader, norm_group *g, uint32_t i)
{
    gp_msg msg = {.type = GP_MSG_NORM,
                  .chunk = g->number,
                  .step = g->reported[i] - 1,
                  .payload = sizeof(g->report[i])};
    gp_status status = gp_peer_post(s, leader, &msg, g->report[i], 0);

    g->unsent[i] = status != GP_OK;
    return status;
}

void
gp_norms_send(gp_shard *s)
{
    gp_peer *leader = s->norm_unsent ? find_leader(s) : NULL;

    if (!leader || s->fault != GP_OK)
        return;
    for (uint32_t i = 0; i < s->norms; i++)
        for (uint32_t k = 0; s->norm[i] && k < 2; k++)
            if (s->norm[i]->unsent[k] &&
                send_report(s, leader, s->norm[i], k) != GP_OK)
                return;
    s->norm_unsent = false;
}

void
gp_norms_left(gp_shard *s)
{
    for (uint32_t i = 0; i < s->norms; i++)
        s->norm_unsent |= s->norm[i] && s->norm[i]->shared;
}

/* Totals that a worker before this one sent too change nothing. */
void
gp_shard_total(gp_shard *s, gp_peer *peer, const gp_msg *m)
{
    norm_group *g = m->chunk < s->norms ? s->norm[m->chunk] : NULL;

    if (s->fault != GP_OK)
        return;
    if (!g || gp_push_check_sender(s, peer, m) != GP_OK || !g->shared ||
        m->step > g->step || (m->step == g->step && g->in < g->chunks)) {
        GP_ERROR("worker %u: norm of step %llu of group %u, which was not "
                 "reported",
                 peer->rank, (unsigned long long)m->step, m->chunk);
        gp_shard_drop(s, peer, GP_ERR_PROTOCOL);
        return;
    }
    if (m->step < g->step)
        return;
    memcpy(&g->total[0], &m->aux, sizeof(double));
    memcpy(&g->total[1], &m->cookie, sizeof(double));
    release(s, g, NULL);
}

bool
gp_chunk_waits_for_norm(const gp_chunk *c)
{
    return c->stage == STAGE_CLIP || c->stage == STAGE_NORM;
}

bool
gp_chunk_wants_direction(const gp_chunk *c)
{
    return c->stage == STAGE_DIRECTS;
}

const gp_chunk *
gp_norm_missing(const gp_shard *s, const gp_chunk *c)
{
    const norm_group *g =
        c->stage == STAGE_CLIP ? s->norm[0] : group_of_tensor(s, c);

    for (uint32_t i = g->first; i < g->last; i++)
        if (is_member(g, &s->chunk[i]) && s->chunk[i].stage != c->stage)
            return &s->chunk[i];
    return NULL;
}
