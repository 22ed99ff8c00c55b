/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server.c - stand-alone shards: one driver, and so one thread, per shard.
 */
#include <gradpush/server.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/driver.h"
#include "shard/host.h"
#include "wire/proto.h"

typedef struct hosted {
    gp_shard *shard;
    gp_driver *driver;
    char address[GP_ADDRESS_MAX];
} hosted;

struct gp_server {
    gp_config *config;
    gp_job job;
    char token[256];
    gp_store_server *store_server;
    gp_store *store;       /* the reporter's while there is one */
    gp_reporter *reporter; /* or NULL */
    uint32_t count;
    int64_t before; /* shards that workers host, which are the first */
    int64_t size;   /* of workers; -1: the first one says it */
    hosted *host;
    pthread_mutex_t lock; /* for what is below */
    pthread_cond_t changed;
    uint32_t finished;
    gp_status status;
    char why[GP_TEXT_MAX];
};

static void
on_finished(void *user, gp_status status, const char *why)
{
    gp_server *server = user;

    pthread_mutex_lock(&server->lock);
    server->finished++;
    if (server->status == GP_OK) {
        server->status = status;
        snprintf(server->why, sizeof(server->why), "%s", why);
    }
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->lock);
}

static gp_status
open_store(gp_server *server)
{
    uint64_t deadline =
        gp_deadline(gp_config_seconds(server->config, "connect_timeout"));
    const char *address = server->job.store;
    const char *host = gp_config_get(server->config, "store_host");
    gp_status status;

    if (server->job.is_scheduler || strcmp(host, "on") == 0) {
        status = gp_store_serve(server->config, address, server->token,
                                &server->store_server);
        if (status != GP_OK)
            return status;
        address = gp_store_server_address(server->store_server);
    }
    /* Nobody has named a store, and there is no launcher to ask. */
    if (!server->store_server && !gp_config_get(server->config, "store")[0] &&
        strcmp(server->job.launcher, "none") == 0)
        return GP_OK;
    if (!address[0])
        return GP_OK;
    return gp_store_connect(server->config, address, server->token, deadline,
                            &server->store);
}

/* Without a store the first worker tells a shard its number. */
static gp_status
first_index(gp_server *server, int64_t *out)
{
    int64_t next, first = gp_config_int(server->config, "first_shard");
    gp_status status;

    *out = first;
    if (first >= 0 && server->job.shards > 0 &&
        first + (int64_t)server->count > server->job.shards)
        return gp_fail(GP_ERR_CONFIG,
                       "GRADPUSH_FIRST_SHARD is %lld and this server hosts %u, "
                       "but the job has %lld shards",
                       (long long)first, server->count,
                       (long long)server->job.shards);
    if (first >= 0)
        return GP_OK;
    if (server->job.shards == server->before + (int64_t)server->count) {
        *out = server->before;
        return GP_OK;
    }
    if (!server->store)
        return GP_OK;
    status = gp_store_add(server->store, "shard/next", server->count, &next);
    if (status != GP_OK)
        return status;
    next += server->before;
    *out = next - (int64_t)server->count;
    if (server->job.shards > 0 && next > server->job.shards)
        return gp_fail(GP_ERR_CONFIG,
                       "the job has %lld shards already: this server is one "
                       "too many, or GRADPUSH_SHARDS too small",
                       (long long)server->job.shards);
    return GP_OK;
}

/* With co-located shards those of servers come behind them. */
static gp_status
count_hosted(gp_server *server)
{
    int64_t size = gp_config_int(server->config, "size");

    if (strcmp(gp_config_get(server->config, "colocated"), "on") != 0)
        return GP_OK;
    if (size <= 0)
        return gp_fail(GP_ERR_CONFIG,
                       "GRADPUSH_COLOCATED is on: set GRADPUSH_SIZE for "
                       "servers too, whose shards come behind those of the "
                       "workers");
    server->before = size;
    return GP_OK;
}

/* Worker 0 waits for it. */
static gp_status
announce_rate(gp_server *server, int64_t index)
{
    if (strcmp(gp_config_get(server->config, "shard_weights"), "auto") != 0)
        return GP_OK;
    return gp_link_announce(server->store, "shard", index, server->config,
                            server->job.store, server->count);
}

static gp_status
start_shard(gp_server *server, uint32_t i, int64_t index)
{
    hosted *h = &server->host[i];
    gp_shard_options options = {.job = server->job.job,
                                .token = server->token,
                                .index = index,
                                .shards = server->job.shards,
                                .size = server->size,
                                .finished = on_finished,
                                .user = server};
    double spin = gp_config_seconds(server->config, "spin");
    char identity[32];
    gp_driven driven;
    gp_status status;

    status = gp_shard_create(server->config, &options, &h->shard);
    if (status == GP_OK)
        status =
            gp_host_address(server->config, gp_shard_address(h->shard),
                            server->job.store, h->address, sizeof(h->address));
    if (status != GP_OK)
        return status;
    if (index < 0)
        snprintf(identity, sizeof(identity), "server");
    else
        snprintf(identity, sizeof(identity), "shard %lld", (long long)index);
    status = gp_driver_create(identity, (uint64_t)(spin * 1e9),
                              (uint64_t)(spin * 1e9), &h->driver);
    if (status != GP_OK)
        return status;
    driven = gp_shard_driven(h->shard);
    status = gp_driver_add(h->driver, &driven);
    if (status == GP_OK && server->store)
        status = gp_host_announce(server->store, index, "a server", h->address);
    if (status == GP_OK && server->store)
        status = announce_rate(server, index);
    if (status == GP_OK)
        GP_INFO("shard %lld listens on %s", (long long)index, h->address);
    return status;
}

/* A server has no rank, and detection insists on both or neither. */
static gp_status
detect(gp_server *server)
{
    gp_config *config = server->config;
    gp_status status = GP_OK;

    server->size = gp_config_int(config, "size");
    if (server->size == 0)
        return gp_fail(GP_ERR_CONFIG,
                       "GRADPUSH_SIZE is 0: a job has at least one worker");
    if (gp_config_int(config, "rank") < 0)
        status = gp_config_set(config, "size", "-1");
    if (status == GP_OK)
        status = gp_job_detect(config, NULL, &server->job);
    /* Others count the processes of a launch, which may be servers alone. */
    if (server->size < 0 && strcmp(server->job.launcher, "dmlc") == 0)
        server->size = server->job.size;
    return status;
}

/* Without a launcher nobody but the workers knows how many shards there are. */
static void
count_shards(gp_server *server)
{
    int64_t shards = gp_config_int(server->config, "shards");

    if (shards > 0 || strcmp(server->job.launcher, "none") == 0)
        server->job.shards = shards;
}

static gp_status
start(gp_server *server)
{
    int64_t index = -1;
    gp_status status;

    status = gp_log_configure(server->config);
    if (status == GP_OK)
        status = count_hosted(server);
    if (status == GP_OK)
        status = detect(server);
    if (status == GP_OK)
        status = gp_config_set(server->config, "job", server->job.job);
    if (status == GP_OK)
        status =
            gp_token_load(server->config, server->token, sizeof(server->token));
    if (status == GP_OK)
        status = gp_token_check(server->token);
    if (status == GP_OK) {
        count_shards(server);
        if (server->job.is_scheduler)
            server->count = 0; /* it only hosts the store */
        status = open_store(server);
    }
    if (status == GP_OK)
        status = first_index(server, &index);
    for (uint32_t i = 0; status == GP_OK && i < server->count; i++)
        status = start_shard(server, i, index < 0 ? -1 : index + i);
    return status;
}

static size_t
describe(gp_reported *r, uint64_t round, char *out, size_t capacity)
{
    const hosted *h = r->self;

    return gp_host_describe(r, h->driver, h->shard, round, out, capacity);
}

/* Answers `gradpush status`. Without it the job runs as well. */
static void
report(gp_server *server)
{
    gp_reported *reported;

    if (!server->store || server->count == 0)
        return;
    reported = calloc(server->count, sizeof(*reported));
    for (uint32_t i = 0; reported && i < server->count; i++)
        reported[i] = (gp_reported){.prefix = GP_STATUS_SHARD,
                                    .number = -1,
                                    .self = &server->host[i],
                                    .write = describe};
    if (!reported || gp_reporter_start(server->store, reported, server->count,
                                       &server->reporter) != GP_OK)
        GP_WARN("gradpush status will not see the shards hosted here");
    free(reported);
}

gp_status
gp_server_create(const gp_config *config, gp_server **out)
{
    gp_server *server;
    pthread_condattr_t attr;
    gp_status status;

    if (!out)
        return gp_fail(GP_ERR_INVALID, "gp_server_create: NULL");
    server = calloc(1, sizeof(*server));
    if (!server)
        return gp_fail(GP_ERR_NO_MEMORY, "server");
    pthread_mutex_init(&server->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&server->changed, &attr);
    pthread_condattr_destroy(&attr);
    status = config ? gp_config_copy(config, &server->config)
                    : gp_config_create(&server->config);
    if (status == GP_OK) {
        server->count = (uint32_t)gp_config_int(server->config, "local_shards");
        server->host = calloc(server->count, sizeof(*server->host));
        status = server->host
                     ? start(server)
                     : gp_fail(GP_ERR_NO_MEMORY, "%u shards", server->count);
    }
    if (status != GP_OK) {
        gp_server_destroy(server);
        return status;
    }
    report(server);
    *out = server;
    return GP_OK;
}

uint32_t
gp_server_shards(const gp_server *server)
{
    return server ? server->count : 0;
}

const char *
gp_server_address(const gp_server *server, uint32_t index)
{
    return server && index < server->count ? server->host[index].address : NULL;
}

/* DMLC's scheduler hosts the store and nothing else: it stays until all servers
 * have said that they are done. */
static gp_status
watch_servers(gp_server *server, uint64_t deadline)
{
    int64_t done = 0;
    gp_status status = GP_OK;

    while (status == GP_OK && !gp_expired(deadline)) {
        struct timespec pause = {.tv_nsec = 50000000};

        status = gp_store_add(server->store, "server/done", 0, &done);
        if (status != GP_OK || done >= server->job.shards)
            return status;
        nanosleep(&pause, NULL);
    }
    return gp_fail(GP_ERR_TIMEOUT, "the job still runs");
}

static void
say_done(gp_server *server)
{
    int64_t done;

    if (!server->store || strcmp(server->job.launcher, "dmlc") != 0)
        return;
    gp_reporter_stop(server->reporter);
    server->reporter = NULL;
    if (gp_store_add(server->store, "server/done", 1, &done) != GP_OK)
        GP_DEBUG("the scheduler is gone already");
}

gp_status
gp_server_wait(gp_server *server, double seconds)
{
    uint64_t deadline = gp_deadline(seconds);
    struct timespec at = {.tv_sec = (time_t)(deadline / 1000000000u),
                          .tv_nsec = (long)(deadline % 1000000000u)};
    gp_status status = GP_OK;
    int error = 0;

    if (!server)
        return gp_fail(GP_ERR_INVALID, "gp_server_wait: NULL");
    if (server->job.is_scheduler)
        return watch_servers(server, deadline);
    pthread_mutex_lock(&server->lock);
    while (server->finished < server->count && error == 0)
        error =
            deadline == UINT64_MAX
                ? pthread_cond_wait(&server->changed, &server->lock)
                : pthread_cond_timedwait(&server->changed, &server->lock, &at);
    if (server->finished < server->count)
        status = GP_ERR_TIMEOUT;
    else
        status = server->status;
    pthread_mutex_unlock(&server->lock);
    if (status != GP_ERR_TIMEOUT)
        say_done(server);
    if (status == GP_OK)
        return GP_OK;
    if (status == GP_ERR_TIMEOUT)
        return gp_fail(status, "the job still runs");
    return gp_fail(status, "the job failed: %s", server->why);
}

void
gp_server_destroy(gp_server *server)
{
    if (!server)
        return;
    gp_reporter_stop(server->reporter);
    for (uint32_t i = 0; server->host && i < server->count; i++) {
        gp_driver_destroy(server->host[i].driver);
        gp_shard_destroy(server->host[i].shard);
    }
    gp_store_close(server->store);
    gp_store_stop(server->store_server);
    free(server->host);
    gp_config_destroy(server->config);
    pthread_cond_destroy(&server->changed);
    pthread_mutex_destroy(&server->lock);
    free(server);
}
