/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lag.c - lags of workers, from when their pushes come.
 */
#include "shard/lag.h"

#define MEAN_STEPS 8u

/* The push of a step that is not remembered any more, which is older than all
 * that are: the worker falls behind by what its steps take longer than those of
 * the first one do now. */
static uint64_t
extrapolate(const gp_lag *lag, const gp_front *fronts, uint32_t count,
            uint64_t now, uint32_t chunks)
{
    uint64_t oldest = UINT64_MAX, newest = 0, theirs, own;

    for (uint32_t i = 0; i < count; i++) {
        if (!fronts[i].count)
            continue;
        oldest = GP_MIN(oldest, fronts[i].first_ns);
        newest = GP_MAX(newest, fronts[i].first_ns);
    }
    theirs = (newest - oldest) / (count - 1) / chunks;
    own = lag->pushes ? now - lag->pushed_ns : 0;
    return GP_MAX(now - oldest, lag->last_ns + own - GP_MIN(own, theirs));
}

static void
add(gp_lag *lag, uint64_t now, uint64_t behind, uint32_t chunks)
{
    double steady = (double)chunks * MEAN_STEPS, weight;

    lag->pushes++;
    lag->pushed_ns = now;
    weight = 1.0 / GP_MIN((double)lag->pushes, steady);
    lag->last_ns = behind;
    lag->mean_ns += weight * ((double)behind - lag->mean_ns);
}

uint32_t
gp_lag_push(gp_lag *lag, gp_front *fronts, uint32_t count, uint64_t step,
            uint64_t now, uint32_t chunks, uint64_t *before)
{
    gp_front *f = &fronts[step % count];

    *before = 0;
    if (f->count && f->step > step) {
        add(lag, now, extrapolate(lag, fronts, count, now, chunks), chunks);
        return 0;
    }
    if (!f->count || f->step != step)
        *f = (gp_front){.step = step, .first_ns = now};
    else
        *before = f->last_ns;
    f->last_ns = now;
    add(lag, now, now - f->first_ns, chunks);
    return ++f->count;
}

void
gp_lag_awaited(gp_lag *lag, uint64_t since, uint64_t now)
{
    uint64_t from = GP_MAX(since, lag->awaited_until);

    if (now > from)
        lag->awaited_ns += now - from;
    lag->awaited_until = GP_MAX(lag->awaited_until, now);
}
