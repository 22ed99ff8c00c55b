/* SPDX-License-Identifier: Apache-2.0 */
/*
 * launch.h - one process of a job, or the one that starts the job.
 */
#ifndef GT_LAUNCH_H
#define GT_LAUNCH_H

#include "options.h"

typedef enum gt_role {
    GT_ROLE_LOCAL,  /* one worker, no shards, nothing is sent */
    GT_ROLE_WORKER, /* a rank of a job that someone started */
    GT_ROLE_LAUNCH  /* the job is to be started here */
} gt_role;

/* `get` replaces getenv in tests; NULL means getenv. */
gt_role gt_role_of(const gt_options *options,
                   const char *(*get)(const char *name));

/* Workers of the job, as most launchers say; 0 where none has. */
uint32_t gt_launched_size(const char *(*get)(const char *name));

/* This process's number among those on this machine, as the launcher says; 0
 * without one. */
uint32_t gt_local_rank(const char *(*get)(const char *name));

/* Becomes `gradpush run -w N -s M -- this program and its arguments`. Returns
 * only when that fails. */
gp_status gt_launch(const gt_options *options, int argc, char **argv);

#endif
