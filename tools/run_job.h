/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run_job.h - the job of `gradpush run`, in the order in which it goes on:
 * prepared, its members started, watched, and cleaned up.
 */
#ifndef GP_RUN_JOB_H
#define GP_RUN_JOB_H

#include <poll.h>

#include "base/base.h"
#include "rendezvous/rendezvous.h"
#include "run.h"

#define MAX_MEMBERS 1024

typedef enum gp_phase {
    PHASE_RUNNING = 0,
    PHASE_SETTLING, /* a failure was seen */
    PHASE_LEAVING,  /* all workers have left, the shards follow */
    PHASE_ENDING,   /* SIGTERM was sent */
    PHASE_KILLED,   /* SIGKILL was sent */
    PHASE_DRAINING  /* all have ended; output may be left in pipes */
} gp_phase;

typedef struct gp_run {
    int64_t workers, shards; /* shards -1: as many as workers */
    bool colocated, prefix;
    double timeout;
    int64_t least, restarts; /* --elastic, 0: not given; --restarts, left */
    pid_t *former; /* ended and started anew; reaped at the very end */
    size_t formers;
    bool succeeded; /* a worker has: the job's work is done */
    char **extra;   /* --env, in order */
    size_t extra_count;
    char **command;

    sigset_t mask; /* of the children */
    int end_fd, child_fd;
    gp_config *config;
    gp_store_server *store;
    gp_guard guard;
    gp_environment environment;
    char token[65], token_path[256];
    char note_path[256]; /* for `gradpush status` */
    char self[4096];     /* this program, which is the server too */
    gp_child *children;  /* shards first */
    size_t count, shard_count;
    struct pollfd *fds;
    gp_sink sinks[2];
    gp_phase phase;
    uint64_t phase_end, job_end;
    bool failed;
} gp_run;

/* Everything but the members. */
gp_status gp_run_prepare(gp_run *run);

/* The member at that place of `children`. */
gp_status gp_run_start(gp_run *run, size_t index);

/* Until all have ended. */
void gp_run_watch(gp_run *run);

/* Ends what is left of each group, reaps, and releases everything. */
void gp_run_clean_up(gp_run *run);

#endif
