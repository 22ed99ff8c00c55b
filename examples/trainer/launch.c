/* SPDX-License-Identifier: Apache-2.0 */
/*
 * launch.c - one process of a job, or the one that starts the job.
 *
 * Which launcher it is does not matter here, the library finds that out. It
 * only has to be known that there is one.
 */
#include "launch.h"

#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_SIZE 4096

static const char *
environment(const char *name)
{
    return getenv(name);
}

/* Slurm sets part of these in batch scripts too; all of them only in a step. */
static bool
in_slurm_step(const char *(*get)(const char *name))
{
    static const char *const all[] = {"SLURM_JOB_ID", "SLURM_STEP_NODELIST",
                                      "SLURM_NTASKS", "SLURM_PROCID",
                                      "SLURM_LOCALID"};

    for (size_t i = 0; i < GT_COUNT_OF(all); i++)
        if (!get(all[i]))
            return false;
    return true;
}

static bool
under_launcher(const char *(*get)(const char *name))
{
    return (get("RANK") && get("WORLD_SIZE")) || get("DMLC_ROLE") ||
           get("OMPI_COMM_WORLD_RANK") || get("PMI_RANK") || in_slurm_step(get);
}

gt_role
gt_role_of(const gt_options *options, const char *(*get)(const char *name))
{
    if (!get)
        get = environment;
    if (get("GRADPUSH_RANK"))
        return GT_ROLE_WORKER;
    /* --workers asks for processes here, even from within a cluster's job. */
    if (!options->placed && under_launcher(get))
        return GT_ROLE_WORKER;
    return options->workers == 1 && options->shards == 0 ? GT_ROLE_LOCAL
                                                         : GT_ROLE_LAUNCH;
}

uint32_t
gt_local_rank(const char *(*get)(const char *name))
{
    static const char *const names[] = {"GRADPUSH_LOCAL_RANK", "LOCAL_RANK",
                                        "OMPI_COMM_WORLD_LOCAL_RANK",
                                        "MPI_LOCALRANKID", "SLURM_LOCALID"};

    if (!get)
        get = environment;
    for (size_t i = 0; i < GT_COUNT_OF(names); i++) {
        const char *text = get(names[i]);

        if (text && *text)
            return (uint32_t)strtoul(text, NULL, 10);
    }
    return 0;
}

uint32_t
gt_launched_size(const char *(*get)(const char *name))
{
    static const char *const names[][2] = {
        {"GRADPUSH_RANK", "GRADPUSH_SIZE"},
        {"RANK", "WORLD_SIZE"},
        {"DMLC_ROLE", "DMLC_NUM_WORKER"},
        {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
        {"PMI_RANK", "PMI_SIZE"}};

    if (!get)
        get = environment;
    for (size_t i = 0; i < GT_COUNT_OF(names); i++) {
        const char *text = get(names[i][0]) ? get(names[i][1]) : NULL;

        if (text)
            return (uint32_t)strtoul(text, NULL, 10);
    }
    return 0;
}

static bool
try_path(const char *folder, const char *name, char out[PATH_SIZE])
{
    int n = snprintf(out, PATH_SIZE, "%s/%s", folder, name);

    return n > 0 && n < PATH_SIZE && access(out, X_OK) == 0;
}

/* Beside this program, as both are installed and built; else in PATH. */
static void
find_gradpush(const char *self, char out[PATH_SIZE])
{
    char copy[PATH_SIZE];
    const char *folder;

    snprintf(copy, sizeof(copy), "%s", self);
    folder = dirname(copy);
    if (!try_path(folder, "gradpush", out) &&
        !try_path(folder, "../tools/gradpush", out) &&
        !try_path(folder, "../../tools/gradpush", out))
        snprintf(out, PATH_SIZE, "gradpush");
}

/* Without --shards, the library's own variable says where shards live. */
static uint32_t
shards_to_start(const gt_options *options)
{
    const char *colocated = getenv("GRADPUSH_COLOCATED");

    if (!options->shards_given && colocated && strcmp(colocated, "on") == 0)
        return 0;
    return options->shards;
}

gp_status
gt_launch(const gt_options *options, int argc, char **argv)
{
    char self[PATH_SIZE], tool[PATH_SIZE], workers[16], shards[16], least[16],
        most[16];
    static char on[] = "on", progress[] = "--progress";
    size_t used = 0, mine = (size_t)argc;
    char **command = calloc(mine + 16, sizeof(char *));
    ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
    static char run[] = "run", w[] = "-w", s[] = "-s", end[] = "--",
                bare[] = "--no-prefix", elastic[] = "--elastic",
                restarts[] = "--restarts", many[] = "1000";

    if (!command || length < 0) {
        free(command);
        return gt_fail(GP_ERR_SYSTEM, "cannot find this program's own file");
    }
    self[length] = '\0';
    find_gradpush(self, tool);
    snprintf(workers, sizeof(workers), "%u", options->workers);
    snprintf(shards, sizeof(shards), "%u", shards_to_start(options));
    char *const head[] = {tool, run, bare, w, workers, s, shards, end, self};
    memcpy(command, head, sizeof(head));
    used = GT_COUNT_OF(head);
    if (options->min_workers) {
        snprintf(least, sizeof(least), "%u", options->min_workers);
        char *const some[] = {elastic, least, restarts, many, end, self};
        memcpy(command + used - 2, some, sizeof(some));
        used += GT_COUNT_OF(some) - 2;
    }
    /* Shards do not see the workers' options. */
    if (options->max_workers) {
        snprintf(most, sizeof(most), "%u", options->max_workers);
        setenv("GRADPUSH_MAX_WORKERS", most, 1);
    }
    if (options->shard_device)
        setenv("GRADPUSH_SHARD_DEVICE", options->shard_device, 1);
    if (strcmp(options->transport, "auto") != 0)
        setenv("GRADPUSH_TRANSPORT", options->transport, 1);
    /* The workers write into pipes; they draw on the terminal instead. */
    if (options->progress == GT_PROGRESS_AUTO && isatty(STDERR_FILENO)) {
        command[used++] = progress;
        command[used++] = on;
    }
    memcpy(command + used, argv + 1, (mine - 1) * sizeof(char *));
    execvp(tool, command);
    free(command);
    return gt_fail_errno(GP_ERR_SYSTEM, errno,
                         "cannot start '%s run', which starts the workers; "
                         "put gradpush into PATH, or train alone with "
                         "--workers 1 --shards 0",
                         tool);
}
