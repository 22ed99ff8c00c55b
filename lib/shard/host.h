/* SPDX-License-Identifier: Apache-2.0 */
/*
 * host.h - what servers and co-located workers share when they host shards.
 */
#ifndef GP_HOST_H
#define GP_HOST_H

#include "rendezvous/reporter.h"
#include "shard/shard.h"

/* The address others can use: a bound ":port" gets this host's name in front,
 * in each alternative of paths.h.
 * `towards` is an address of the job's network, or "". */
gp_status gp_host_address(const gp_config *config, const char *bound,
                          const char *towards, char *out, size_t capacity);

/* Tells the store where shard `index` listens, and that `host`, such as "worker
 * 0" or "a server", hosts it. GP_ERR_EXISTS: another one does, and lives. */
gp_status gp_host_announce(gp_store *store, int64_t index, const char *host,
                           const char *address);

/* A hosted shard's answer to `gradpush status`; its number goes to `r`. */
size_t gp_host_describe(gp_reported *r, gp_driver *driver,
                        const gp_shard *shard, uint64_t round, char *out,
                        size_t capacity);

#endif
