/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard_lag.c - stragglers: what a shard says of workers that others wait for.
 *
 * Each shard sees its own chunks only, which is enough, since all workers push
 * to all shards. Shard 0 speaks for all: aloud in the log, and to the workers.
 */
#include <stdlib.h>

#include "shard/shard_int.h"

#define LAG_LOG_NS 10000000000u /* how often one is logged */
#define LAG_STEPS  8u           /* that must have gone before, or so */

gp_status
gp_lags_open(gp_chunk *c)
{
    c->fronts = c->tensor->arrives ? GP_FRONTS_APART : GP_FRONTS_SYNC;
    c->front = calloc(c->fronts, sizeof(*c->front));
    return c->front ? GP_OK : gp_fail(GP_ERR_NO_MEMORY, "chunk");
}

/* Pushes that make a step. */
static uint32_t
expected(const gp_shard *s, const gp_chunk *c)
{
    uint32_t here =
        s->elastic ? gp_shard_members_here(s) : (uint32_t)s->size - s->departed;

    return here - GP_MIN(here, c->tensor->mode.backups);
}

/* Where a step needs all, they wait for the last from when the one before it
 * was there; elsewhere, when one of them may not go on. */
void
gp_lag_note(gp_shard *s, gp_chunk *c, const gp_entry *e)
{
    gp_lag *lag = &s->lag[e - c->entry];
    bool apart = c->tensor->arrives && c->tensor->mode.backups == 0;
    uint64_t now = gp_clock_ns(), before;
    uint32_t count =
        gp_lag_push(lag, c->front, c->fronts, e->msg.step + e->ahead, now,
                    s->chunks, &before);

    if (count == 0 || count != expected(s, c))
        return;
    if (apart)
        before = c->since_ns;
    if (before)
        gp_lag_awaited(lag, before, now);
}

void
gp_lag_forget(gp_shard *s, uint32_t rank)
{
    s->lag[rank] = (gp_lag){0};
}

int64_t
gp_lag_worst(const gp_shard *s)
{
    int64_t worst = -1;

    for (int64_t r = 0; s->lag && r < s->size; r++)
        if (s->worker[r] && s->lag[r].mean_ns > 0 &&
            (worst < 0 || s->lag[r].mean_ns > s->lag[worst].mean_ns))
            worst = r;
    return worst;
}

static void
tell(gp_shard *s, uint32_t worst)
{
    gp_lag_report report = {.worst = worst,
                            .worst_ns = (uint64_t)s->lag[worst].mean_ns};
    uint8_t bytes[GP_LAG_BYTES];

    for (int64_t r = 0; r < s->size; r++) {
        gp_msg msg = {.type = GP_MSG_LAG, .payload = sizeof(bytes)};

        if (!s->worker[r] || s->worker[r]->state != PEER_READY)
            continue;
        report.mean_ns = (uint64_t)s->lag[r].mean_ns;
        report.awaited_ns = s->lag[r].awaited_ns;
        gp_lag_encode(&report, bytes);
        (void)gp_peer_post(s, s->worker[r], &msg, bytes, 0);
    }
}

static void
say(gp_shard *s, uint32_t worst, uint64_t now)
{
    gp_lag *lag = &s->lag[worst];
    double awaited = (double)(lag->awaited_ns - lag->awaited_said) * 1e-9;
    double since = (double)(now - s->lag_said_ns) * 1e-9;
    char who[200];

    gp_peer_name(s, worst, who, sizeof(who));
    GP_LOG(s->index == 0 ? GP_LOG_WARN : GP_LOG_INFO,
           "shard %lld: %s is behind: its pushes come %.3f s after the "
           "first worker's; in the last %.0f s the others waited %.1f s "
           "for it alone",
           (long long)s->index, who, lag->mean_ns * 1e-9, since, awaited);
    for (int64_t r = 0; r < s->size; r++)
        s->lag[r].awaited_said = s->lag[r].awaited_ns;
    s->lag_said_ns = now;
}

void
gp_lags_report(gp_shard *s, uint64_t now)
{
    int64_t worst = gp_lag_worst(s);
    const gp_lag *lag = worst < 0 ? NULL : &s->lag[worst];

    if (!lag || !s->chunks || lag->pushes == s->lag_seen)
        return;
    s->lag_seen = lag->pushes;
    if (s->index == 0)
        tell(s, (uint32_t)worst);
    if (!s->lag_said_ns)
        s->lag_said_ns = s->created_ns;
    if (s->lag_threshold_ns && lag->mean_ns > (double)s->lag_threshold_ns &&
        lag->pushes > (uint64_t)s->chunks * LAG_STEPS &&
        (!s->lag_logged || now - s->lag_said_ns >= LAG_LOG_NS)) {
        s->lag_logged = true;
        say(s, (uint32_t)worst, now);
    }
}
