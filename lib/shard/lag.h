/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lag.h - who waits for whom: how far workers are behind the first of them.
 */
#ifndef GP_LAG_H
#define GP_LAG_H

#include "base/base.h"

/* Pushes of one chunk that have the same number, of different workers. */
typedef struct gp_front {
    uint64_t step;
    uint64_t first_ns, last_ns; /* when the first came, and the latest */
    uint32_t count;             /* 0: none yet */
} gp_front;

/* Steps of a chunk that are remembered: where all workers are in one, and where
 * they are not. How far others are behind who are further back is estimated. */
#define GP_FRONTS_SYNC  2u
#define GP_FRONTS_APART 16u

/* Of one worker. */
typedef struct gp_lag {
    uint64_t pushes;
    uint64_t pushed_ns; /* when the last one came */
    uint64_t last_ns;   /* by how much its last push came after the first one */
    double mean_ns;     /* of about its last 8 steps */
    uint64_t awaited_ns; /* for which the others had pushed, and it had not */
    uint64_t awaited_until; /* what is in awaited_ns */
    uint64_t awaited_said;  /* ... when it was logged last */
} gp_lag;

/* Takes note of a push.
 * @param before   receives when the latest of the others of that step came; 0:
 *                 this is the first.
 * @param chunks   that the worker pushes in a step.
 * @return how many there are of that step now; 0: it is forgotten. */
uint32_t gp_lag_push(gp_lag *lag, gp_front *fronts, uint32_t count,
                     uint64_t step, uint64_t now, uint32_t chunks,
                     uint64_t *before);

/* The others have waited for its push since then. Times of several chunks
 * overlap, and count once. */
void gp_lag_awaited(gp_lag *lag, uint64_t since, uint64_t now);

#endif
