/* SPDX-License-Identifier: Apache-2.0 */
/*
 * launcher.h - what the launchers put into the environment, behind
 * gp_job_detect().
 */
#ifndef GP_LAUNCHER_H
#define GP_LAUNCHER_H

#include "rendezvous/rendezvous.h"

/* The most workers a job may have, as in the configuration's table. */
#define GP_RANKS_MAX 1048576

typedef const char *(*gp_env_get)(const char *name);

/* The variable's text; NULL when it is unset or empty. */
const char *gp_env_text(gp_env_get get, const char *name);

/* A whole number from 0 to maximum; GP_ERR_CONFIG names the variable. */
gp_status gp_env_number(gp_env_get get, const char *name, int64_t maximum,
                        int64_t *out);

/* The same, with *out left alone when the variable is unset. */
gp_status gp_env_optional(gp_env_get get, const char *name, int64_t maximum,
                          int64_t *out);

/* Fills rank, size, local_*, shards, roles and launcher from the first
 * launcher that is there. `id` receives what tells this launcher's jobs apart,
 * "" when there is nothing. */
gp_status gp_launcher_detect(const gp_config *config, gp_env_get get,
                             gp_job *job, char *id, size_t capacity);

/* Whether the process was started as a task of a Slurm step. */
bool gp_launcher_is_slurm_step(gp_env_get get);

/* Where the members meet: job->store, left "" when there is no need. */
gp_status gp_launcher_store(const gp_config *config, gp_env_get get,
                            const char *id, gp_job *job);

#endif
