/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_collective.h - the members of a benchmark of collectives.
 */
#ifndef GP_BENCH_COLLECTIVE_H
#define GP_BENCH_COLLECTIVE_H

#include <stdatomic.h>

#include <gradpush/codec.h>
#include <gradpush/collective.h>
#include <gradpush/transport.h>

#include "base/base.h"
#include "bench_crew.h"

typedef enum gp_collective_what {
    WHAT_ALLREDUCE,
    WHAT_REDUCESCATTER,
    WHAT_ALLGATHER,
    WHAT_BROADCAST,
    WHAT_ALLTOALL
} gp_collective_what;

#define GP_COLLECTIVE_ALGORITHMS 4 /* of `--algorithm all` */

/* In memory that all processes share. Rows are sizes, and of each size the
 * algorithms that are tried. */
typedef struct gp_collective_shared {
    gp_bench_result results[GP_BENCH_SIZES_MAX * GP_COLLECTIVE_ALGORITHMS];
    _Atomic uint64_t errors[GP_BENCH_SIZES_MAX * GP_COLLECTIVE_ALGORITHMS];
    gp_crew_stamp stamps[]; /* [rank][iteration] of the present row */
} gp_collective_shared;

typedef struct gp_collective_bench {
    gp_bench common;
    gp_collective_what what;
    const char *name;
    gp_crew crew;
    int64_t root;
    const char *codec;
    const char *algorithm[GP_COLLECTIVE_ALGORITHMS];
    uint32_t algorithms;
    bool in_place;
    bool selects; /* the codec leaves elements out: any finite one will do */
    gp_dtype dtype;
    gp_reduction reduction;
    const char *dtype_name, *reduction_name;
    gp_collective_shared *shared;
} gp_collective_bench;

/* The most iterations of any size, warm-up included. */
uint32_t gp_collective_bench_iterations(const gp_collective_bench *bench);

/* One worker: measures and verifies. Rank 0 prints the rows. */
gp_status gp_collective_bench_worker(gp_collective_bench *bench, uint32_t rank);

#endif
