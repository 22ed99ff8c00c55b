/* SPDX-License-Identifier: Apache-2.0 */
/*
 * launcher.c - rank and size from whoever started this process.
 *
 * The innermost launcher wins: sbatch leaves SLURM_* behind for mpirun and
 * torchrun, whose own variables are looked at first. One source decides both
 * rank and size; nothing is mixed.
 */
#include "rendezvous/launcher.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "rendezvous/nodelist.h"

const char *
gp_env_text(gp_env_get get, const char *name)
{
    const char *text = get(name);

    return text && text[0] ? text : NULL;
}

static bool
parse_number(const char *text, int64_t maximum, int64_t *out)
{
    int64_t value = 0;

    for (const char *p = text; *p; p++) {
        if (!isdigit((unsigned char)*p))
            return false;
        value = value * 10 + (*p - '0');
        if (value > maximum)
            return false;
    }
    *out = value;
    return text[0] != '\0';
}

gp_status
gp_env_number(gp_env_get get, const char *name, int64_t maximum, int64_t *out)
{
    const char *text = gp_env_text(get, name);

    if (!text)
        return gp_fail(GP_ERR_CONFIG, "%s is not set", name);
    if (!parse_number(text, maximum, out))
        return gp_fail(GP_ERR_CONFIG,
                       "%s is '%.64s': expected a whole number from 0 to %lld",
                       name, text, (long long)maximum);
    return GP_OK;
}

gp_status
gp_env_optional(gp_env_get get, const char *name, int64_t maximum, int64_t *out)
{
    if (!gp_env_text(get, name))
        return GP_OK;
    return gp_env_number(get, name, maximum, out);
}

/* The variables of a launcher that gives rank and size directly. */
typedef struct gp_launcher {
    const char *name, *rank, *size, *local_rank, *local_size, *id;
} gp_launcher;

static const gp_launcher torchrun = {"torchrun",         "RANK",
                                     "WORLD_SIZE",       "LOCAL_RANK",
                                     "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID"};
static const gp_launcher open_mpi = {"open mpi",
                                     "OMPI_COMM_WORLD_RANK",
                                     "OMPI_COMM_WORLD_SIZE",
                                     "OMPI_COMM_WORLD_LOCAL_RANK",
                                     "OMPI_COMM_WORLD_LOCAL_SIZE",
                                     "PMIX_NAMESPACE"};
static const gp_launcher mpich = {"mpich",           "PMI_RANK",
                                  "PMI_SIZE",        "MPI_LOCALRANKID",
                                  "MPI_LOCALNRANKS", "PMI_JOBID"};

static bool
is_present(gp_env_get get, const gp_launcher *launcher)
{
    return gp_env_text(get, launcher->rank) && gp_env_text(get, launcher->size);
}

/* A rank outside the size names both variables. */
static gp_status
check_rank(const gp_job *job, const char *rank, const char *size)
{
    if (job->size < 1)
        return gp_fail(GP_ERR_CONFIG, "%s is 0: a job has at least one worker",
                       size);
    if (job->rank >= job->size)
        return gp_fail(GP_ERR_CONFIG,
                       "%s is %lld but %s is %lld: ranks go from 0 to %lld",
                       rank, (long long)job->rank, size, (long long)job->size,
                       (long long)job->size - 1);
    return GP_OK;
}

static gp_status
read_place(gp_env_get get, const char *rank, const char *size, gp_job *job)
{
    gp_status status = gp_env_number(get, rank, GP_RANKS_MAX, &job->rank);

    if (status == GP_OK)
        status = gp_env_number(get, size, GP_RANKS_MAX, &job->size);
    return status == GP_OK ? check_rank(job, rank, size) : status;
}

static void
copy_text(char *out, size_t capacity, const char *text)
{
    snprintf(out, capacity, "%s", text ? text : "");
}

static gp_status
from_launcher(gp_env_get get, const gp_launcher *launcher, gp_job *job,
              char *id, size_t capacity)
{
    gp_status status = read_place(get, launcher->rank, launcher->size, job);

    if (status == GP_OK)
        status = gp_env_optional(get, launcher->local_rank, GP_RANKS_MAX,
                                 &job->local_rank);
    if (status == GP_OK)
        status = gp_env_optional(get, launcher->local_size, GP_RANKS_MAX,
                                 &job->local_size);
    copy_text(job->launcher, sizeof(job->launcher), launcher->name);
    copy_text(id, capacity, gp_env_text(get, launcher->id));
    return status;
}

static gp_status
from_config(const gp_config *config, gp_job *job)
{
    job->rank = gp_config_int(config, "rank");
    job->size = gp_config_int(config, "size");
    copy_text(job->launcher, sizeof(job->launcher), "gradpush");
    if (job->rank < 0 || job->size < 0)
        return gp_fail(GP_ERR_CONFIG,
                       "GRADPUSH_%s is set but GRADPUSH_%s is not: set both, "
                       "or neither to take them from the launcher",
                       job->rank < 0 ? "SIZE" : "RANK",
                       job->rank < 0 ? "RANK" : "SIZE");
    return check_rank(job, "GRADPUSH_RANK", "GRADPUSH_SIZE");
}

/* Only workers have a rank, and only where the launcher numbers them. */
static gp_status
dmlc_rank(gp_env_get get, gp_job *job)
{
    const char *name =
        gp_env_text(get, "DMLC_WORKER_ID") ? "DMLC_WORKER_ID" : "DMLC_RANK";
    gp_status status = gp_env_optional(get, name, GP_RANKS_MAX, &job->rank);

    return status == GP_OK ? check_rank(job, name, "DMLC_NUM_WORKER") : status;
}

static gp_status
from_dmlc(gp_env_get get, gp_job *job)
{
    const char *role = gp_env_text(get, "DMLC_ROLE");
    bool is_worker = strcmp(role, "worker") == 0;
    gp_status status;

    job->is_server = strcmp(role, "server") == 0;
    job->is_scheduler = strcmp(role, "scheduler") == 0;
    copy_text(job->launcher, sizeof(job->launcher), "dmlc");
    if (!is_worker && !job->is_server && !job->is_scheduler)
        return gp_fail(GP_ERR_CONFIG,
                       "DMLC_ROLE is '%.64s': expected worker, server or "
                       "scheduler",
                       role);
    status = gp_env_number(get, "DMLC_NUM_WORKER", GP_RANKS_MAX, &job->size);
    if (status == GP_OK)
        status = gp_env_optional(get, "DMLC_NUM_SERVER", 65536, &job->shards);
    if (status == GP_OK)
        status = gp_env_optional(get, "BYTEPS_LOCAL_RANK", GP_RANKS_MAX,
                                 &job->local_rank);
    if (status == GP_OK)
        status = gp_env_optional(get, "BYTEPS_LOCAL_SIZE", GP_RANKS_MAX,
                                 &job->local_size);
    if (status == GP_OK && is_worker)
        status = dmlc_rank(get, job);
    return status;
}

bool
gp_launcher_is_slurm_step(gp_env_get get)
{
    return gp_env_text(get, "SLURM_JOB_ID") &&
           gp_env_text(get, "SLURM_STEP_NODELIST") &&
           gp_env_text(get, "SLURM_NTASKS") &&
           gp_env_text(get, "SLURM_PROCID") &&
           gp_env_text(get, "SLURM_LOCALID");
}

/* Tasks on this node; stays unknown when Slurm does not say it readably. */
static void
slurm_local_size(gp_env_get get, gp_job *job)
{
    const char *tasks = gp_env_text(get, "SLURM_STEP_TASKS_PER_NODE");
    const char *node = gp_env_text(get, "SLURM_NODEID");
    int64_t number = 0;

    if (!tasks)
        tasks = gp_env_text(get, "SLURM_TASKS_PER_NODE");
    if (tasks && node && parse_number(node, GP_RANKS_MAX, &number))
        job->local_size = gp_nodelist_tasks(tasks, number);
}

/* SLURM_NTASKS may be the allocation's, inherited by a shell of one task. */
static gp_status
from_slurm(gp_env_get get, gp_job *job, char *id, size_t capacity)
{
    const char *size = gp_env_text(get, "SLURM_STEP_NUM_TASKS")
                           ? "SLURM_STEP_NUM_TASKS"
                           : "SLURM_NTASKS";
    const char *step = gp_env_text(get, "SLURM_STEP_ID");
    gp_status status = read_place(get, "SLURM_PROCID", size, job);

    if (status == GP_OK)
        status =
            gp_env_number(get, "SLURM_LOCALID", GP_RANKS_MAX, &job->local_rank);
    slurm_local_size(get, job);
    copy_text(job->launcher, sizeof(job->launcher), "slurm");
    snprintf(id, capacity, "%.64s.%.32s", gp_env_text(get, "SLURM_JOB_ID"),
             step ? step : "0");
    return status;
}

/* A PMIx server started this process, but only a PMIx client could ask for
 * the size; a silent job of one would be worse than an error. */
static gp_status
from_nobody(gp_env_get get, gp_job *job)
{
    if (gp_env_text(get, "PMIX_RANK") && gp_env_text(get, "PMIX_NAMESPACE"))
        return gp_fail(GP_ERR_CONFIG,
                       "a PMIx launcher started this process (PMIX_RANK is "
                       "'%.32s') and does not say how many there are: set "
                       "GRADPUSH_RANK and GRADPUSH_SIZE",
                       gp_env_text(get, "PMIX_RANK"));
    job->rank = 0;
    job->size = 1;
    job->local_rank = 0;
    job->local_size = 1;
    copy_text(job->launcher, sizeof(job->launcher), "none");
    return GP_OK;
}

gp_status
gp_launcher_detect(const gp_config *config, gp_env_get get, gp_job *job,
                   char *id, size_t capacity)
{
    /* srun --mpi=pmi2 sets PMI_RANK as well, but only Hydra sets
     * MPI_LOCALRANKID; under srun the step's variables know more. */
    bool is_srun_pmi =
        gp_launcher_is_slurm_step(get) && !gp_env_text(get, mpich.local_rank);

    id[0] = '\0';
    if (gp_config_int(config, "rank") >= 0 ||
        gp_config_int(config, "size") >= 0)
        return from_config(config, job);
    if (is_present(get, &torchrun))
        return from_launcher(get, &torchrun, job, id, capacity);
    if (gp_env_text(get, "DMLC_ROLE"))
        return from_dmlc(get, job);
    if (is_present(get, &open_mpi))
        return from_launcher(get, &open_mpi, job, id, capacity);
    if (is_present(get, &mpich) && !is_srun_pmi)
        return from_launcher(get, &mpich, job, id, capacity);
    if (gp_launcher_is_slurm_step(get))
        return from_slurm(get, job, id, capacity);
    return from_nobody(get, job);
}
