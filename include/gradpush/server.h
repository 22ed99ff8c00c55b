/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server.h - host parameter shards.
 *
 * A server hosts one or more shards, each with a thread, an address and chunks
 * of its own. `gradpush server` is a thin wrapper of these calls; a worker in
 * co-located mode does the same inside its process.
 */
#ifndef GRADPUSH_SERVER_H
#define GRADPUSH_SERVER_H

#include <stddef.h>
#include <stdint.h>

#include <gradpush/config.h>
#include <gradpush/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct gp_server gp_server;

/**
 * Starts the shards and, when the configuration names a store, announces them
 * there. Returns when they listen; does not wait for workers.
 *
 * @param config  NULL for environment and defaults; copied. Read here:
 *                `size` (workers; who counts another number is refused;
 *                left out, the first worker says it), `shards` (of the whole
 *                job), `local_shards` (here), `listen`, `store`, `job`,
 *                `token`, `timeout`, ...
 * @param out     destroy with gp_server_destroy().
 * @return GP_OK, GP_ERR_CONFIG, GP_ERR_ADDRESS (a port in use is named),
 *         GP_ERR_TIMEOUT (store), GP_ERR_AUTH, GP_ERR_REFUSED (the store is
 *         another job's), GP_ERR_EXISTS (a shard hosted here is hosted
 *         elsewhere too, which is named), GP_ERR_SYSTEM, GP_ERR_NO_MEMORY;
 *         with `shard_device` GP_ERR_UNSUPPORTED and GP_ERR_NOT_FOUND too.
 */
GP_API GP_MUST_CHECK gp_status gp_server_create(const gp_config *config,
                                                gp_server **out);

/** Shards hosted here. */
GP_API uint32_t gp_server_shards(const gp_server *server);

/** "host:port" of a hosted shard, or NULL; borrowed from the server. */
GP_API const char *gp_server_address(const gp_server *server, uint32_t index);

/**
 * Waits until every worker has joined and left again.
 *
 * @param seconds  negative: without limit.
 * @return GP_OK            all workers left in an orderly way
 *         GP_ERR_TIMEOUT   the job still runs; call again
 *         GP_ERR_PEER_LOST a worker died; the others were told
 *         otherwise        what the job failed of, such as GP_ERR_MISMATCH or
 *                          GP_ERR_PEER_LEFT
 */
GP_API GP_MUST_CHECK gp_status gp_server_wait(gp_server *server,
                                              double seconds);

/** Closes all connections, ends the threads, frees; NULL is fine. */
GP_API void gp_server_destroy(gp_server *server);

#ifdef __cplusplus
}
#endif
#endif
