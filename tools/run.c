/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run.c - `gradpush run`: a job of shards and workers on this machine.
 *
 * The store lives in this process; everything else is a child with a process
 * group of its own. No path leaves a process or a file behind, not even SIGKILL
 * of this one (run_guard.c).
 */
#include <fcntl.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "run_job.h"
#include "tool.h"

#define MAX_RESTARTS 10000

static const gp_option options[] = {
    {"workers", 'w', "N", "copies of CMD to start (default 2)"},
    {"shards", 's', "M",
     "parameter shards to start, each a process (default: as many as workers); "
     "0 is the same as --colocated"},
    {"colocated", 'c', NULL,
     "every worker hosts one shard itself, beside those of --shards"},
    {"env", 'e', "NAME=VALUE", "set a variable for all processes; repeatable"},
    {"timeout", 't', "SECONDS", "end the job after that long, as a failure"},
    {"elastic", 257, "MIN",
     "workers may die and come back, the job goes on with MIN of them: sets "
     "GRADPUSH_ELASTIC and GRADPUSH_MIN_WORKERS"},
    {"restarts", 258, "N",
     "with --elastic: start workers that fail anew, N times in all (default "
     "0), but none that ends with status 2 or 78 (EX_CONFIG)"},
    {"no-prefix", 256, NULL, "forward lines as they are, without the rank"},
    {NULL, 0, NULL, NULL},
};

static const gp_usage usage = {
    "gradpush run",
    "[options] -- CMD [ARGUMENT ...]",
    "Starts the shards and the workers of a job on this machine, connects them "
    "through a store and a random job token, and forwards their output line by "
    "line behind [rank] or [shard index]. Standard input of all is empty. When "
    "one process fails, the others are ended and the message says which one it "
    "was.",
    "  gradpush run -w 2 -s 2 -- gradpush-train --data digits",
    options,
    true,
};

static bool
add_extra(gp_run *run, const char *setting)
{
    char **extra;

    if (!strchr(setting, '=') || *setting == '=') {
        gp_say("--env is '%s': it takes NAME=VALUE", setting);
        return false;
    }
    extra = realloc(run->extra, (run->extra_count + 1) * sizeof(*extra));
    if (!extra) {
        gp_say("no memory");
        return false;
    }
    run->extra = extra;
    run->extra[run->extra_count] = strdup(setting);
    return run->extra[run->extra_count++] != NULL;
}

static bool
apply(void *user, int key, const char *value)
{
    gp_run *run = user;

    switch (key) {
    case 'w':
        return gp_parse_int("--workers", value, 1, MAX_MEMBERS, &run->workers);
    case 's':
        return gp_parse_int("--shards", value, 0, MAX_MEMBERS, &run->shards);
    case 'c':
        run->colocated = true;
        return true;
    case 'e':
        return add_extra(run, value);
    case 257:
        return gp_parse_int("--elastic", value, 1, MAX_MEMBERS, &run->least);
    case 258:
        return gp_parse_int("--restarts", value, 0, MAX_RESTARTS,
                            &run->restarts);
    case 't':
        return gp_parse_seconds("--timeout", value, 0.001, 1e9, &run->timeout);
    default:
        run->prefix = false;
        return true;
    }
}

static int
read_options(gp_run *run, int argc, char **argv)
{
    int rc = gp_options_parse(&usage, argc, argv, apply, run);

    if (rc != GP_EXIT_NONE)
        return rc;
    if (run->least > run->workers)
        return gp_say_usage("--elastic %lld: that is more than --workers %lld",
                            (long long)run->least, (long long)run->workers);
    if (run->least && (run->colocated || run->shards == 0))
        return gp_say_usage("--elastic: a co-located shard dies with its "
                            "worker; leave out --colocated, or give --shards");
    if (run->restarts && !run->least)
        return gp_say_usage("--restarts is for --elastic jobs");
    if (optind >= argc)
        return gp_say_usage("the command to run is missing: "
                            "gradpush run -w 2 -s 2 -- ./trainer");
    run->command = argv + optind;
    if (run->shards == 0)
        run->colocated = true;
    if (run->colocated && run->shards < 0)
        run->shards = 0;
    if (run->shards < 0)
        run->shards = run->workers;
    return GP_EXIT_NONE;
}

/* Descriptors 0 to 2 must be taken, or a pipe would get one of them. */
static void
open_standard(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= 2);
    if (fd > 2)
        close(fd);
}

int
gp_run_main(int argc, char **argv)
{
    gp_run run = {.workers = 2,
                  .shards = -1,
                  .prefix = true,
                  .timeout = -1,
                  .end_fd = -1,
                  .child_fd = -1,
                  .guard = {0, -1},
                  .phase_end = UINT64_MAX};
    int rc = read_options(&run, argc, argv);
    gp_status status;

    if (rc != GP_EXIT_NONE) {
        gp_run_clean_up(&run);
        return rc;
    }
    open_standard();
    run.job_end = gp_deadline(run.timeout);
    status = gp_run_prepare(&run);
    for (size_t i = 0; i < run.count && status == GP_OK; i++)
        status = gp_run_start(&run, i);
    if (status == GP_OK) {
        gp_run_watch(&run);
    } else {
        gp_say("%s", gp_last_error());
        run.failed = true;
    }
    gp_run_clean_up(&run);
    return run.failed ? GP_EXIT_FAILURE : GP_EXIT_OK;
}
