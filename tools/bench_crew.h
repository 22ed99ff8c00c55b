/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_crew.h - the workers and shards of a benchmark: their options, their
 * configuration, and the time that an operation of all of them takes.
 *
 * Members are numbered: stand-alone shards first, then workers.
 */
#ifndef GP_BENCH_CREW_H
#define GP_BENCH_CREW_H

#include <gradpush/config.h>
#include <gradpush/transport.h>

#include "bench.h"
#include "bench_team.h"

enum {
    GP_CREW_WORKERS = 280,
    GP_CREW_SHARDS,
    GP_CREW_COLOCATED,
    GP_CREW_TRANSPORT,
    GP_CREW_NETNS
};

#define GP_CREW_OPTIONS                                                      \
    {"workers", GP_CREW_WORKERS, "N", "default 2"},                          \
        {"transport", GP_CREW_TRANSPORT, "NAME",                             \
         "default tcp; a transport within one process runs all as threads"}, \
    {                                                                        \
        "netns", GP_CREW_NETNS, "A,B,...",                                   \
            "network namespaces for the members in turn, shards first; as "  \
            "root"                                                           \
    }

#define GP_CREW_SHARD_OPTIONS                                              \
    {"shards", GP_CREW_SHARDS, "M",                                        \
     "stand-alone shards (default: as many as workers); 0: --colocated"},  \
    {                                                                      \
        "colocated", GP_CREW_COLOCATED, NULL, "every worker hosts a shard" \
    }

typedef struct gp_crew {
    int64_t workers, shards; /* shards: stand-alone ones; -1: as many */
    bool colocated;
    const char *transport;
    const gp_transport_ops *ops;
    gp_team team;
} gp_crew;

#define GP_CREW_INIT                                   \
    {                                                  \
        .workers = 2, .shards = -1, .transport = "tcp" \
    }

/* When one worker began and ended one iteration (gp_clock_ns). */
typedef struct gp_crew_stamp {
    uint64_t start, end;
} gp_crew_stamp;

/* Handles an option of the crew, else a common one of benchmarks. */
bool gp_crew_apply(gp_crew *crew, gp_bench *bench, int key, const char *value);

/* Looks at what the options said together; an exit status, GP_EXIT_NONE: go
 * on. */
int gp_crew_prepare(gp_crew *crew);

/* Memory that all members share, of zeros; NULL after saying why. */
void *gp_crew_open(gp_crew *crew, size_t bytes);

/* A member's configuration, and what else it is told; rank -1: a shard. */
gp_status gp_crew_config(const gp_crew *crew, int64_t rank,
                         const char *const (*more)[2], size_t count,
                         gp_config **out);

/* One stand-alone shard, until the workers have left; takes the config. */
gp_status gp_crew_shard(gp_config *config);

/* Runs all: 0, or the exit status of a failure. */
bool gp_crew_run(gp_crew *crew, gp_status (*run)(void *user, uint32_t number),
                 void *user);

/* "worker 1" or "shard 0" could not do its part. */
void gp_crew_say(const gp_crew *crew, uint32_t number);

void gp_crew_document(const gp_crew *crew, gp_json *config);

/* Microseconds from the last start to the last end of an iteration: workers
 * leave a barrier one after another, and that is not the operation's time. All
 * are on one machine and read one clock.
 * @param stamps  [rank][iteration], `row` of each rank */
double gp_crew_time(const gp_crew *crew, const gp_crew_stamp *stamps,
                    size_t row, uint32_t iteration);

#endif
