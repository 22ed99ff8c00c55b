/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_rows.h - the members of a benchmark of row-sparse tensors.
 */
#ifndef GP_BENCH_ROWS_H
#define GP_BENCH_ROWS_H

#include <stdatomic.h>

#include <gradpush/rows.h>

#include "bench_crew.h"

#define GP_ROWS_SETS 8 /* of indices, which take turns */

/* In memory that all processes share. */
typedef struct gp_rows_shared {
    gp_bench_result results[GP_BENCH_SIZES_MAX]; /* by rank 0 */
    _Atomic uint64_t errors[GP_BENCH_SIZES_MAX]; /* of all ranks */
    gp_crew_stamp stamps[]; /* [rank][iteration] of the present size */
} gp_rows_shared;

typedef struct gp_rows_bench {
    gp_bench common;
    gp_crew crew;
    int64_t rows, dim, batch; /* batch 0: by -b and -e */
    double zipf;              /* exponent; 0: uniform */
    const char *codec, *pull_codec, *updater;
    gp_rows_shared *shared;
} gp_rows_bench;

/* The most iterations of any size, warm-up included. */
uint32_t gp_rows_bench_iterations(const gp_rows_bench *bench);

/* What one worker asks for in turn `set`: a function of these numbers alone, so
 * that everybody knows what everybody asks for. `count` indices below `rows`.
 */
void gp_rows_bench_indices(const gp_rows_bench *bench, uint32_t rank,
                           uint32_t set, uint64_t count, uint64_t *out);

/* One worker: registers a table per size, measures, verifies. Rank 0 prints the
 * rows. */
gp_status gp_rows_bench_worker(gp_rows_bench *bench, uint32_t rank);

/* How much of a row's largest number the pipelines may lose of another one. */
gp_status gp_rows_bench_losses(const gp_rows_bench *bench, double *push,
                               double *pull);

#endif
