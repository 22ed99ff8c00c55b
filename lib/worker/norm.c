/* SPDX-License-Identifier: Apache-2.0 */
/*
 * norm.c - adds up what shards report of norms.
 *
 * Every worker can, and the one of the lowest rank is asked. Sums come as exact
 * numbers, so that their order is of no importance. A shard may be a step ahead
 * of another, never two: steps take turns in two slots.
 */
#include <stdlib.h>
#include <string.h>

#include "shard/norm.h"
#include "worker/worker_int.h"

/* One group of chunks (shard_norm.c). */
typedef struct norm_group {
    uint32_t shards; /* that have chunks of it */
    bool *has;       /* by shard */
    struct {
        uint64_t step;
        uint32_t in;     /* reports of that step */
        uint64_t *taken; /* by shard: step + 1 of its last report here */
        gp_norm sum[2];
        bool *unsent; /* by shard: the totals */
        double total[2];
    } slot[2];
} norm_group;

struct gp_norms {
    uint32_t count;
    norm_group *group[];
};

static void
free_group(norm_group *g)
{
    if (!g)
        return;
    free(g->has);
    for (int i = 0; i < 2; i++) {
        free(g->slot[i].taken);
        free(g->slot[i].unsent);
    }
    free(g);
}

void
gp_worker_free_norms(gp_worker *w)
{
    for (uint32_t i = 0; w->norms && i < w->norms->count; i++)
        free_group(w->norms->group[i]);
    free(w->norms);
    w->norms = NULL;
    w->norms_unsent = false;
}

static bool
is_member(const gp_worker *w, uint32_t group, uint32_t tensor)
{
    const gp_updater *u = &w->tensor[tensor]->updater;

    return group > 0 ? tensor + 1 == group && u->ops->norms
                     : gp_updater_clips(u);
}

static norm_group *
make_group(const gp_worker *w, uint32_t number)
{
    norm_group *g = calloc(1, sizeof(*g));
    bool whole = g && (g->has = calloc(w->shards, sizeof(bool)));

    for (int i = 0; whole && i < 2; i++) {
        g->slot[i].taken = calloc(w->shards, sizeof(uint64_t));
        g->slot[i].unsent = calloc(w->shards, sizeof(bool));
        whole = g->slot[i].taken && g->slot[i].unsent;
    }
    if (!whole) {
        free_group(g);
        return NULL;
    }
    for (uint32_t i = 0; i < w->map.chunks; i++) {
        const gp_chunk_info *info = &w->map.chunk[i];

        if (!is_member(w, number, info->tensor) || g->has[info->shard])
            continue;
        g->has[info->shard] = true;
        g->shards++;
    }
    return g;
}

/* Made when the first report comes: most workers are never asked. */
static norm_group *
find_group(gp_worker *w, uint32_t number)
{
    if (number > w->tensors)
        return NULL;
    if (!w->norms) {
        size_t bytes = (w->tensors + 1) * sizeof(norm_group *);

        w->norms = calloc(1, sizeof(*w->norms) + bytes);
        if (!w->norms)
            return NULL;
        w->norms->count = w->tensors + 1;
    }
    if (!w->norms->group[number])
        w->norms->group[number] = make_group(w, number);
    return w->norms->group[number];
}

static gp_status
send_total(gp_worker *w, uint32_t number, uint32_t i, uint32_t shard)
{
    const norm_group *g = w->norms->group[number];
    gp_msg msg = {
        .type = GP_MSG_TOTAL, .chunk = number, .step = g->slot[i].step};

    memcpy(&msg.aux, &g->slot[i].total[0], sizeof(msg.aux));
    memcpy(&msg.cookie, &g->slot[i].total[1], sizeof(msg.cookie));
    return gp_conn_post(&w->conn[shard], &msg, NULL, NULL, 0);
}

static void
send_totals(gp_worker *w, uint32_t number, uint32_t i)
{
    norm_group *g = w->norms->group[number];

    for (uint32_t k = 0; k < w->shards; k++)
        if (g->slot[i].unsent[k]) {
            bool sent = w->conn[k].ep && send_total(w, number, i, k) == GP_OK;

            g->slot[i].unsent[k] = !sent;
            w->norms_unsent |= !sent;
        }
}

void
gp_worker_send_totals(gp_worker *w)
{
    w->norms_unsent = false;
    for (uint32_t i = 0; w->norms && i < w->norms->count; i++)
        for (uint32_t k = 0; w->norms->group[i] && k < 2; k++)
            send_totals(w, i, k);
}

/* Adds a shard's sums to those of its step. */
static void
take(gp_worker *w, norm_group *g, uint32_t shard, const gp_event *event)
{
    uint32_t i = event->msg.step & 1;
    const uint8_t *bytes = event->payload;
    gp_norm sum;

    /* From before another worker left; no shard waits for it any more. */
    if (g->slot[i].in > 0 && g->slot[i].step > event->msg.step)
        return;
    if (g->slot[i].in == 0 || g->slot[i].step != event->msg.step) {
        g->slot[i].step = event->msg.step;
        g->slot[i].in = 0;
        memset(g->slot[i].sum, 0, sizeof(g->slot[i].sum));
        memset(g->slot[i].unsent, 0, w->shards * sizeof(bool));
    }
    g->slot[i].taken[shard] = event->msg.step + 1;
    for (uint32_t k = 0; k < 2; k++) {
        gp_norm_decode(bytes + k * GP_NORM_BYTES, &sum);
        gp_norm_merge(&g->slot[i].sum[k], &sum);
    }
    if (++g->slot[i].in < g->shards)
        return;
    for (uint32_t k = 0; k < 2; k++)
        g->slot[i].total[k] = gp_norm_sum(&g->slot[i].sum[k]);
    memcpy(g->slot[i].unsent, g->has, w->shards * sizeof(bool));
    send_totals(w, event->msg.chunk, i);
}

void
gp_worker_norm(gp_conn *conn, const gp_event *event)
{
    gp_worker *w = conn->worker;
    const gp_msg *m = &event->msg;
    norm_group *g = find_group(w, m->chunk);

    if (!g && m->chunk <= w->tensors) {
        gp_worker_fail(w, GP_ERR_NO_MEMORY, "norms of %u tensors", w->tensors);
        return;
    }
    if (!g || !g->has[conn->shard] || m->payload != 2 * GP_NORM_BYTES ||
        g->slot[m->step & 1].taken[conn->shard] > m->step) {
        gp_worker_fail(w, GP_ERR_PROTOCOL,
                       "shard %u at %s reports a norm of group %u step %llu, "
                       "which cannot be",
                       conn->shard, conn->address, m->chunk,
                       (unsigned long long)m->step);
        return;
    }
    take(w, g, conn->shard, event);
}
