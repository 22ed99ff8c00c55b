/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard.h - one parameter shard: its interface to servers and workers.
 *
 * A shard owns its address, its chunks and its connections. It has no lock: the
 * driver it is added to lets one thread at a time in.
 */
#ifndef GP_SHARD_H
#define GP_SHARD_H

#include <gradpush/transport.h>

#include "base/driver.h"
#include "base/json_text.h"

typedef struct gp_shard gp_shard;

/* Calls back once, from the driving thread, when all workers have left or the
 * job has failed and all connections are gone. `why` is "" for GP_OK. */
typedef void (*gp_shard_finished)(void *user, gp_status status,
                                  const char *why);

/* Where the result of a push of the worker in this process goes, when it goes
 * there as it is: fp32, undecoded. NULL: through the connection. The memory is
 * the worker's until the shard has answered `cookie`. */
typedef float *(*gp_shard_destination)(void *user, uint32_t chunk,
                                       uint64_t cookie);

typedef struct gp_shard_options {
    const char *job;   /* the job's identity */
    const char *token; /* "" for none */
    int64_t index;     /* -1: the first worker says */
    int64_t shards;    /* -1: likewise */
    int64_t size;      /* of workers; -1: likewise */
    const char *local; /* name to listen on in-process as well, or NULL */
    gp_shard_finished finished;
    gp_shard_destination destination; /* of the worker on `local`, or NULL */
    void *user;
} gp_shard_options;

/* Listens; `config` is read only during the call. */
gp_status gp_shard_create(const gp_config *config,
                          const gp_shard_options *options, gp_shard **out);
void gp_shard_destroy(gp_shard *shard);

/* Bound address, ":port" for a wildcard. */
const char *gp_shard_address(const gp_shard *shard);

/* Under the driver: lets go of the local worker's memory, because that worker
 * ends and its memory may go. Unless the status is GP_OK all workers are told
 * why. */
void gp_shard_abandon(gp_shard *shard, gp_status status, const char *why);

/* How a driver runs it. */
gp_driven gp_shard_driven(gp_shard *shard);

/* Whether every worker has left, or the job failed and all are gone. Any
 * thread. */
bool gp_shard_done(void *shard);

/* Writes what it is doing into an object of a document: under the driver's
 * hold, in bounded time. Its number, or -1 while that is not known. */
int64_t gp_shard_describe(const gp_shard *shard, gp_json_text *out);

/* The transport that a configuration names; auto picks the best usable one. */
gp_status gp_transport_choose(const gp_config *config,
                              const gp_transport_ops **out);

#endif
