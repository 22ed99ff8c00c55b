/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_pushpull.h - the members of a push_pull benchmark.
 */
#ifndef GP_BENCH_PUSHPULL_H
#define GP_BENCH_PUSHPULL_H

#include <stdatomic.h>

#include <gradpush/codec.h>
#include <gradpush/transport.h>
#include <gradpush/worker.h>

#include "base/base.h"
#include "bench_crew.h"

/* What members have in common; in memory that all processes share. */
typedef struct gp_pushpull_shared {
    gp_bench_result results[GP_BENCH_SIZES_MAX]; /* by rank 0 */
    _Atomic uint64_t errors[GP_BENCH_SIZES_MAX]; /* of all ranks */
    gp_crew_stamp stamps[]; /* [rank][iteration] of the present size */
} gp_pushpull_shared;

typedef struct gp_pushpull {
    gp_bench common;
    gp_crew crew;
    const char *codec, *pull_codec, *updater, *mode;
    uint32_t tensors; /* of each size, under way at once */
    bool applies;     /* each push is an update of parameters by itself */
    gp_pushpull_shared *shared;
} gp_pushpull;

/* The most iterations of any size, warm-up included. */
uint32_t gp_pushpull_iterations(const gp_pushpull *bench);

/* One worker: registers the tensors of each size, measures, verifies. Rank 0
 * prints the rows. */
gp_status gp_pushpull_worker(gp_pushpull *bench, uint32_t rank);

/* A configuration for a member; rank -1 for a shard. */
gp_status gp_pushpull_config(const gp_pushpull *bench, int64_t rank,
                             gp_config **out);

/* How far an element may be off: 0 for pipelines that are exact on the
 * benchmark's small whole numbers, else from what the pipelines lose. */
gp_status gp_pushpull_tolerance(const gp_pushpull *bench, double *out);

#endif
