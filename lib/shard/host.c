/* SPDX-License-Identifier: Apache-2.0 */
/* host.c - addresses of hosted shards, and their announcement. */
#include "shard/host.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "shard/paths.h"

/* One address of a transport. */
static gp_status
complete(const gp_config *config, const char *bound, const char *towards,
         char *out, size_t capacity)
{
    char host[GP_ADDRESS_MAX];
    gp_status status;
    bool v6;

    if (bound[0] != ':') {
        snprintf(out, capacity, "%s", bound);
        return GP_OK;
    }
    status = gp_local_host(config, towards, host, sizeof(host));
    if (status != GP_OK)
        return status;
    v6 = strchr(host, ':') != NULL;
    if ((size_t)snprintf(out, capacity, v6 ? "[%s]%s" : "%s%s", host, bound) >=
        capacity)
        return gp_fail(GP_ERR_TOO_LARGE, "the address %s%s is too long", host,
                       bound);
    return GP_OK;
}

gp_status
gp_host_address(const gp_config *config, const char *bound, const char *towards,
                char *out, size_t capacity)
{
    char transport[16], text[GP_ADDRESS_MAX], whole[GP_ADDRESS_MAX];
    const char *next = bound;
    gp_status status = GP_OK;

    out[0] = '\0';
    while (status == GP_OK && gp_paths_next(&next, transport, sizeof(transport),
                                            text, sizeof(text))) {
        status = complete(config, text, towards, whole, sizeof(whole));
        if (status == GP_OK)
            status =
                gp_paths_append(transport, whole, transport[0], out, capacity);
    }
    return status;
}

/* Two that would be the same shard, in words of those who set their number. */
static gp_status
is_taken(int64_t index, const char *own, const char *other)
{
    bool worker = strncmp(own, "worker", 6) == 0;
    bool other_worker = strncmp(other, "worker", 6) == 0;
    const char *fix =
        worker && other_worker ? "give each worker a GRADPUSH_RANK of its own"
        : worker || other_worker
            ? "where workers host shards (GRADPUSH_COLOCATED), set "
              "GRADPUSH_COLOCATED=on and GRADPUSH_SIZE for servers too, whose "
              "shards come behind those of the workers"
            : "give each server a GRADPUSH_FIRST_SHARD of its own or none, and "
              "all of them the same GRADPUSH_SHARDS";

    return gp_fail(GP_ERR_EXISTS,
                   "shard %lld is hosted by %s already, so that %s cannot host "
                   "it: %s",
                   (long long)index, other, own, fix);
}

/* Before others can hear of the address. */
static gp_status
claim(gp_store *store, int64_t index, const char *host, const char *address)
{
    char key[64], own[256], other[256], node[64] = "?";
    gp_status status;

    gethostname(node, sizeof(node) - 1);
    snprintf(key, sizeof(key), "host/%lld", (long long)index);
    snprintf(own, sizeof(own), "%s (process %d on %s, %.80s)", host,
             (int)getpid(), node, address);
    status = gp_store_claim(store, key, own, other, sizeof(other));
    if (status != GP_OK || !other[0])
        return status;
    return is_taken(index, own, other);
}

gp_status
gp_host_announce(gp_store *store, int64_t index, const char *host,
                 const char *address)
{
    char key[64];
    gp_status status = claim(store, index, host, address);

    if (status != GP_OK)
        return status;
    snprintf(key, sizeof(key), "shard/%lld", (long long)index);
    return gp_store_set(store, key, address, strlen(address));
}

size_t
gp_host_describe(gp_reported *r, gp_driver *driver, const gp_shard *shard,
                 uint64_t round, char *out, size_t capacity)
{
    gp_json_text j;
    char host[64] = "?";

    gethostname(host, sizeof(host) - 1);
    gp_json_begin(&j, out, capacity);
    gp_json_open(&j, NULL, '{');
    gp_json_put_text(&j, "schema", GP_MEMBER_SCHEMA);
    gp_json_put_count(&j, "round", round);
    gp_json_put_text(&j, "kind", "shard");
    gp_json_put_text(&j, "host", host);
    gp_json_put_int(&j, "pid", getpid());
    gp_driver_hold(driver);
    gp_json_put_count(&j, "clock_ns", gp_clock_ns());
    r->number = gp_shard_describe(shard, &j);
    gp_driver_release(driver);
    gp_json_shut(&j, '}');
    return gp_json_end(&j);
}
