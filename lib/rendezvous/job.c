/* SPDX-License-Identifier: Apache-2.0 */
/*
 * job.c - puts together what configuration and launcher say about this process.
 *
 * docs/launchers.md is the specification; everything is decided in a local copy
 * and handed out only when all of it holds.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rendezvous/launcher.h"

static const char *
process_environment(const char *name)
{
    return getenv(name);
}

static bool
is_given(const gp_config *config, const char *field)
{
    const char *origin = gp_config_origin(config, field);

    return origin && strcmp(origin, "default") != 0;
}

/* A name that a person chose is used as it is, so that processes from
 * different launchers can be one job; the default is told apart by the
 * launcher's own number of the job. */
static void
name_job(const gp_config *config, const char *id, gp_job *job)
{
    const char *name = gp_config_get(config, "job");
    char text[512];
    bool exact = is_given(config, "job") || !id[0];

    if (!name)
        name = "";
    snprintf(text, sizeof(text), "%.240s%s%.240s", name, exact ? "" : "/",
             exact ? "" : id);
    if (strlen(text) < sizeof(job->job))
        memcpy(job->job, text, strlen(text) + 1);
    else
        snprintf(job->job, sizeof(job->job), "%.100s~%016" PRIx64, text,
                 gp_hash(text, strlen(text)));
}

/* How often the launcher has restarted this member. */
static gp_status
count_restarts(const gp_config *config, gp_env_get get, gp_job *job)
{
    int64_t count = 0;
    gp_status status = GP_OK;

    if (is_given(config, "incarnation"))
        count = gp_config_int(config, "incarnation");
    else if (strcmp(job->launcher, "torchrun") == 0)
        status =
            gp_env_optional(get, "TORCHELASTIC_RESTART_COUNT", 1000000, &count);
    else if (strcmp(job->launcher, "gradpush") != 0)
        status = gp_env_optional(get, "SLURM_RESTART_COUNT", 1000000, &count);
    if (status == GP_OK)
        job->incarnation = (uint64_t)count;
    return status;
}

static void
count_shards(const gp_config *config, gp_job *job)
{
    const char *servers = gp_config_get(config, "servers");

    if (gp_config_int(config, "shards") >= 0) {
        job->shards = gp_config_int(config, "shards");
    } else if (servers && servers[0]) {
        job->shards = 1;
        for (const char *p = servers; *p; p++)
            job->shards += *p == ',';
    }
}

/* A job of one was given port 0, which only the host of the store can use. */
static void
forget_unusable(gp_job *job)
{
    if (!job->host_store && strcmp(job->store, "127.0.0.1:0") == 0)
        job->store[0] = '\0';
}

/* auto: rank 0 hosts the store, or DMLC's scheduler. `gradpush run` hosts it
 * itself and says so with off. */
static gp_status
choose_host(const gp_config *config, gp_job *job)
{
    const char *choice = gp_config_get(config, "store_host");
    const char *servers = gp_config_get(config, "servers");
    bool lists_servers = servers && servers[0];

    job->host_store = choice && strcmp(choice, "on") == 0;
    if (job->host_store && !job->store[0])
        return gp_fail(GP_ERR_CONFIG,
                       "GRADPUSH_STORE_HOST is on but GRADPUSH_STORE is not "
                       "set: say where the store listens, host:port");
    if (choice && strcmp(choice, "auto") != 0)
        return GP_OK;
    if (!job->store[0])
        job->host_store = false;
    else if (strcmp(job->launcher, "dmlc") == 0)
        job->host_store = job->is_scheduler;
    else
        job->host_store = job->rank == 0 && (job->size > 1 || !lists_servers);
    return GP_OK;
}

gp_status
gp_job_detect(const gp_config *config, const char *(*get)(const char *name),
              gp_job *out)
{
    gp_job job = {.rank = -1,
                  .size = -1,
                  .shards = -1,
                  .local_rank = -1,
                  .local_size = -1};
    char id[256];
    gp_status status;

    if (!get)
        get = process_environment;
    status = gp_launcher_detect(config, get, &job, id, sizeof(id));
    if (status != GP_OK)
        return status;
    name_job(config, id, &job);
    count_shards(config, &job);
    status = count_restarts(config, get, &job);
    if (status == GP_OK)
        status = gp_launcher_store(config, get, id, &job);
    if (status == GP_OK)
        status = choose_host(config, &job);
    if (status != GP_OK)
        return status;
    forget_unusable(&job);
    GP_DEBUG("launcher %s: rank %lld of %lld, job %s, store %s%s", job.launcher,
             (long long)job.rank, (long long)job.size, job.job,
             job.store[0] ? job.store : "none",
             job.host_store ? " (here)" : "");
    *out = job;
    return GP_OK;
}
