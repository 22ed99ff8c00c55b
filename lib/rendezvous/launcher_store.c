/* SPDX-License-Identifier: Apache-2.0 */
/*
 * launcher_store.c - the address of the store, from what a launcher says.
 *
 * Every member computes the same text without talking to another. Computed
 * ports lie in 61440..65535, above Linux's ephemeral range.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "rendezvous/launcher.h"

#define PORT_FIRST (65535 - 4096 + 1)
#define PORT_COUNT 4096

static gp_status
set_store(gp_job *job, const char *host, int64_t port)
{
    return gp_address_join(host, (uint16_t)port, job->store,
                           sizeof(job->store));
}

/* What a person wrote must have a port: members cannot guess one. */
static gp_status
from_config(const char *text, gp_job *job)
{
    char host[256];
    uint16_t port = 0;

    if (gp_address_split(text, host, sizeof(host), &port) != GP_OK ||
        !host[0] || port == 0 || strlen(text) >= sizeof(job->store))
        return gp_fail(GP_ERR_CONFIG,
                       "GRADPUSH_STORE is '%.200s': expected host:port or "
                       "[ipv6]:port",
                       text);
    memcpy(job->store, text, strlen(text) + 1);
    return GP_OK;
}

static const char *
say_launcher(const gp_job *job)
{
    if (strcmp(job->launcher, "open mpi") == 0)
        return "Open MPI";
    if (strcmp(job->launcher, "mpich") == 0)
        return "MPICH";
    return job->launcher;
}

/* The identity of the job decides the port; the user does too, so that two
 * people on one host do not meet by accident. */
static gp_status
from_one_host(const gp_job *base, const char *id, gp_job *job)
{
    char text[512];
    uint64_t hash;
    int n = snprintf(text, sizeof(text), "%s/%s/%u", base->job, id,
                     (unsigned)getuid());

    if (n < 0)
        return gp_fail(GP_ERR_INTERNAL, "snprintf failed");
    hash = gp_hash(text, strlen(text));
    return set_store(job, "127.0.0.1",
                     PORT_FIRST + (int64_t)(hash % PORT_COUNT));
}

static gp_status
without_address(const gp_config *config, const char *id, gp_job *job)
{
    const char *servers = gp_config_get(config, "servers");

    if (job->size == 1)
        return set_store(job, "127.0.0.1", 0);
    if (job->local_size == job->size)
        return from_one_host(job, id, job);
    if (servers && servers[0])
        return GP_OK;
    if (strcmp(job->launcher, "gradpush") == 0)
        return gp_fail(
            GP_ERR_CONFIG,
            "GRADPUSH_SIZE is %lld and nothing says where the "
            "workers meet: set GRADPUSH_STORE=host:port, the same for all, to "
            "a free port on the host of rank 0",
            (long long)job->size);
    return gp_fail(GP_ERR_CONFIG,
                   "the job has %lld workers on several hosts and %s does not "
                   "say where they can meet: set GRADPUSH_STORE=host:port, the "
                   "same for all, to a free port on the host of rank 0",
                   (long long)job->size, say_launcher(job));
}

/* MASTER_PORT itself is taken: the launcher's own store listens there. */
static gp_status
from_torchrun(const gp_config *config, gp_env_get get, const char *id,
              gp_job *job)
{
    const char *host = gp_env_text(get, "MASTER_ADDR");
    int64_t port = 0;
    gp_status status;

    if (!host || !gp_env_text(get, "MASTER_PORT"))
        return without_address(config, id, job);
    status = gp_env_number(get, "MASTER_PORT", 65535, &port);
    if (status != GP_OK)
        return status;
    return set_store(job, host, port < 65535 ? port + 1 : port - 1);
}

static gp_status
from_dmlc(gp_env_get get, gp_job *job)
{
    const char *host = gp_env_text(get, "DMLC_PS_ROOT_URI");
    int64_t port = 0;
    gp_status status = gp_env_number(get, "DMLC_PS_ROOT_PORT", 65535, &port);

    if (!host)
        return gp_fail(GP_ERR_CONFIG,
                       "DMLC_ROLE is set but DMLC_PS_ROOT_URI is not: set it "
                       "to the host of the scheduler");
    if (status != GP_OK)
        return status;
    if (port == 0)
        return gp_fail(GP_ERR_CONFIG,
                       "DMLC_PS_ROOT_PORT is 0: set it to a free port on the "
                       "scheduler's host");
    return set_store(job, host, port);
}

/* JAX's port formula: jobs that run on one host at a time differ. */
static gp_status
from_slurm(gp_env_get get, gp_job *job)
{
    char host[256];
    int64_t number = 0;
    gp_status status = gp_env_number(get, "SLURM_JOB_ID", UINT32_MAX, &number);

    if (status != GP_OK)
        return status;
    if (gp_nodelist_first(gp_env_text(get, "SLURM_STEP_NODELIST"), host,
                          sizeof(host)) != GP_OK)
        return gp_fail(GP_ERR_CONFIG,
                       "SLURM_STEP_NODELIST is '%.128s', which cannot be read: "
                       "set GRADPUSH_STORE=host:port",
                       gp_env_text(get, "SLURM_STEP_NODELIST"));
    return set_store(job, host, PORT_FIRST + number % PORT_COUNT);
}

gp_status
gp_launcher_store(const gp_config *config, gp_env_get get, const char *id,
                  gp_job *job)
{
    const char *text = gp_config_get(config, "store");

    if (text && text[0])
        return from_config(text, job);
    if (strcmp(job->launcher, "torchrun") == 0)
        return from_torchrun(config, get, id, job);
    if (strcmp(job->launcher, "dmlc") == 0)
        return from_dmlc(get, job);
    /* Steps of one task may run side by side in one Slurm job. */
    if (strcmp(job->launcher, "slurm") == 0 && job->size > 1)
        return from_slurm(get, job);
    return without_address(config, id, job);
}
