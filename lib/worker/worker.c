/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker.c - joining and leaving a job.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/pool.h"
#include "collective/mesh.h"
#include "shard/paths.h"
#include "worker/staging.h"

/* Transports that give up at the same time say why. */
#define VERDICT_NS 100000000u

gp_status
gp_worker_fault(const gp_worker *w)
{
    int fault = atomic_load(&w->fault);

    return fault == GP_OK ? GP_OK
                          : gp_fail((gp_status)fault, "%s", w->fault_text);
}

gp_status
gp_worker_late(gp_worker *w, const char *what, double seconds)
{
    char waiting[GP_TEXT_MAX], limit[32] = "";

    gp_driver_hold(w->driver);
    memcpy(waiting, w->waiting, sizeof(waiting));
    gp_driver_release(w->driver);
    if (seconds >= 0)
        snprintf(limit, sizeof(limit), " within %g s", seconds);
    return gp_fail(GP_ERR_TIMEOUT, "%s%s%s%s", what, limit,
                   waiting[0] ? ": " : "", waiting);
}

static bool
servers_given(const gp_worker *w)
{
    return gp_config_get(w->config, "servers")[0] != '\0';
}

static uint32_t
count_servers(const gp_worker *w)
{
    const char *p = gp_config_get(w->config, "servers");
    uint32_t count = 1;

    for (; *p; p++)
        count += *p == ',';
    return count;
}

static bool
is_colocated(const gp_worker *w)
{
    const char *choice = gp_config_get(w->config, "colocated");

    if (strcmp(choice, "auto") != 0)
        return strcmp(choice, "on") == 0;
    return !servers_given(w) && w->job.shards <= 0;
}

static gp_status
find_place(gp_worker *w)
{
    const gp_job *job = &w->job;

    if (job->size <= 0 || job->rank >= job->size ||
        (job->rank < 0 && strcmp(job->launcher, "dmlc") != 0))
        return gp_fail(GP_ERR_CONFIG,
                       "rank %lld of %lld workers: set GRADPUSH_RANK and "
                       "GRADPUSH_SIZE, or start under a launcher",
                       (long long)job->rank, (long long)job->size);
    w->rank = (uint32_t)GP_MAX(job->rank, 0);
    w->size = (uint32_t)job->size;
    w->incarnation = (uint32_t)job->incarnation;
    w->job_hash = gp_hash(job->job, strlen(job->job));
    if (is_colocated(w)) /* others may be by themselves */
        w->shards = (uint32_t)GP_MAX(job->size, job->shards);
    else if (servers_given(w))
        w->shards = count_servers(w);
    else if (job->shards > 0)
        w->shards = (uint32_t)job->shards;
    else
        return gp_fail(GP_ERR_CONFIG,
                       "GRADPUSH_SHARDS is %s, and workers host none "
                       "(GRADPUSH_COLOCATED=off): say how many stand-alone "
                       "shards there are, or set GRADPUSH_COLOCATED=on",
                       job->shards == 0 ? "0" : "not set");
    return GP_OK;
}

static gp_status
configure(gp_worker *w, const gp_config *config)
{
    gp_status status = config ? gp_config_copy(config, &w->config)
                              : gp_config_create(&w->config);
    const gp_transport_ops *ops;
    char identity[32];
    double spin;

    if (status == GP_OK)
        status = gp_log_configure(w->config);
    if (status == GP_OK)
        status = gp_transport_choose(w->config, &ops);
    if (status == GP_OK)
        status = gp_job_detect(w->config, NULL, &w->job);
    if (status == GP_OK)
        status = gp_config_set(w->config, "job", w->job.job);
    if (status == GP_OK)
        status = gp_token_load(w->config, w->token, sizeof(w->token));
    if (status == GP_OK)
        status = gp_token_check(w->token);
    if (status == GP_OK)
        status = find_place(w);
    if (status != GP_OK)
        return status;
    status = gp_membership_open(w, is_colocated(w));
    if (status != GP_OK)
        return status;
    gp_kept_open(w);
    w->timeout = gp_config_seconds(w->config, "timeout");
    w->epoch = (uint32_t)gp_config_int(w->config, "epoch");
    w->seed = (uint64_t)gp_config_int(w->config, "seed");
    snprintf(identity, sizeof(identity), "rank %u", w->rank);
    gp_log_identity(identity);
    status = gp_experiment_open(w);
    if (status == GP_OK && gp_config_int(w->config, "codec_threads") > 1)
        status = gp_pool_create(
            (unsigned)gp_config_int(w->config, "codec_threads"), &w->pool);
    if (status != GP_OK)
        return status;
    spin = gp_config_seconds(w->config, "spin");
    return gp_driver_create(identity, (uint64_t)(spin * 1e9), 0, &w->driver);
}

static gp_status
open_store(gp_worker *w, uint64_t deadline)
{
    const char *address = w->job.store;
    gp_status status;

    if (servers_given(w) || (w->shards == 1 && is_colocated(w)))
        return GP_OK;
    if (w->job.host_store) {
        status = gp_store_serve(w->config, address, w->token, &w->store_server);
        if (status != GP_OK)
            return status;
        address = gp_store_server_address(w->store_server);
    }
    if (!address[0])
        return gp_fail(GP_ERR_CONFIG,
                       "GRADPUSH_STORE is not set: name a host:port where rank "
                       "0 can listen, or list the shards in GRADPUSH_SERVERS");
    return gp_store_connect(w->config, address, w->token, deadline, &w->store);
}

/* DMLC's launchers need not number the workers: then the store does. */
static gp_status
take_rank(gp_worker *w)
{
    int64_t next;
    gp_status status;

    if (w->job.rank >= 0)
        return GP_OK;
    if (!w->store)
        return gp_fail(GP_ERR_CONFIG,
                       "set DMLC_WORKER_ID: there is no store to "
                       "take a rank from");
    status = gp_store_add(w->store, "worker/next", 1, &next);
    if (status != GP_OK)
        return status;
    if (next > w->size)
        return gp_fail(GP_ERR_CONFIG,
                       "more than DMLC_NUM_WORKER=%u workers came", w->size);
    w->rank = (uint32_t)(next - 1);
    return GP_OK;
}

static void
local_name(const gp_worker *w, char *out, size_t capacity)
{
    snprintf(out, capacity, "loop:%d.%p", (int)getpid(), (const void *)w);
}

/* The shard that this process contributes. */
static gp_status
host_shard(gp_worker *w)
{
    char local[64], address[GP_ADDRESS_MAX], host[32];
    gp_shard_options options = {.job = w->job.job,
                                .token = w->token,
                                .index = w->rank,
                                .shards = w->shards,
                                .size = w->size,
                                .local = local,
                                .destination = gp_engine_destination,
                                .user = w};
    gp_driven driven;
    gp_status status;

    if (!is_colocated(w))
        return GP_OK;
    local_name(w, local, sizeof(local));
    status = gp_shard_create(w->config, &options, &w->shard);
    if (status != GP_OK)
        return status;
    w->shard_index = w->rank;
    driven = gp_shard_driven(w->shard);
    status = gp_driver_add(w->driver, &driven);
    if (status != GP_OK || !w->store)
        return status;
    status = gp_host_address(w->config, gp_shard_address(w->shard),
                             w->job.store, address, sizeof(address));
    if (status != GP_OK)
        return status;
    snprintf(host, sizeof(host), "worker %u", w->rank);
    return gp_host_announce(w->store, w->rank, host, address);
}

static gp_status
split_servers(const gp_worker *w, char *out)
{
    const char *p = gp_config_get(w->config, "servers");

    for (uint32_t i = 0; i < w->shards; i++) {
        size_t length = strcspn(p, ",");

        if (length == 0 || length >= GP_ADDRESS_MAX)
            return gp_fail(GP_ERR_CONFIG,
                           "GRADPUSH_SERVERS: address %u is empty or too long; "
                           "it takes host:port,host:port,...",
                           i + 1);
        memcpy(out + (size_t)i * GP_ADDRESS_MAX, p, length);
        p += length + 1;
    }
    return GP_OK;
}

static gp_status
find_shards(gp_worker *w, uint64_t deadline, char *out)
{
    if (servers_given(w))
        return split_servers(w, out);
    if (!w->store)
        return GP_OK;
    return gp_store_gather(w->store, "shard/", "shard", w->shards, out,
                           deadline);
}

/* One that is opened later than the others. */
static gp_status
watch_link(gp_worker *w)
{
    gp_driven driven = gp_worker_driven(w);
    gp_status status = gp_buffer_link(w, w->links - 1);

    return status == GP_OK ? gp_driver_change(w->driver, &driven) : status;
}

gp_status
gp_worker_link(gp_worker *w, const gp_transport_ops *ops, worker_link **out)
{
    worker_link *link = &w->link[w->links];
    gp_status status;

    for (int i = 0; i < w->links; i++)
        if (w->link[i].ops == ops) {
            *out = &w->link[i];
            return GP_OK;
        }
    if (w->links == WORKER_LINKS)
        return gp_fail(GP_ERR_INTERNAL, "more than %d transports",
                       WORKER_LINKS);
    status = ops->open(w->config, &link->domain);
    if (status != GP_OK)
        return status;
    link->ops = ops;
    w->links++;
    if (w->added)
        status = watch_link(w);
    *out = link;
    return status;
}

static gp_status
choose_path(gp_worker *w, gp_conn *conn, const char *published)
{
    const gp_transport_ops *ops = gp_transport_find("loop");
    gp_status status = GP_OK;
    char who[32];

    if (w->shard && conn->shard == w->shard_index) {
        local_name(w, conn->address, sizeof(conn->address));
        return gp_worker_link(w, ops, &conn->link);
    }
    snprintf(who, sizeof(who), "shard %u", conn->shard);
    status = gp_paths_take(w->config, who, published, &w->went_other_way, &ops,
                           conn->address, sizeof(conn->address));
    if (status != GP_OK)
        return status;
    conn->other = gp_paths_other(w->config, published, ops, conn->other_address,
                                 sizeof(conn->other_address));
    status = gp_worker_link(w, ops, &conn->link);
    if (status != GP_OK && gp_conn_go_other_way(conn, gp_last_error()))
        return GP_OK;
    return status;
}

static gp_status
connect_shard(gp_worker *w, uint32_t i, const char *published,
              uint64_t deadline)
{
    gp_conn *conn = &w->conn[i];
    gp_status status;

    conn->worker = w;
    conn->shard = i;
    gp_list_init(&conn->ready);
    gp_list_init(&conn->unbuffered);
    conn->deadline_ns = deadline;
    status = choose_path(w, conn, published);
    return status == GP_OK && !conn->ep ? gp_conn_connect(conn) : status;
}

static gp_status
connect_all(gp_worker *w, uint64_t deadline)
{
    char *address = calloc(w->shards, GP_ADDRESS_MAX);
    gp_driven driven;
    gp_status status = GP_OK;

    w->conn = calloc(w->shards, sizeof(*w->conn));
    if (!address || !w->conn)
        status = gp_fail(GP_ERR_NO_MEMORY, "%u shards", w->shards);
    if (status == GP_OK)
        status = find_shards(w, deadline, address);
    for (uint32_t i = 0; status == GP_OK && i < w->shards; i++) {
        const char *published = address + (size_t)i * GP_ADDRESS_MAX;

        w->device |= gp_paths_have_device(w->config, published);
        status = connect_shard(w, i, published, deadline);
    }
    free(address);
    if (status != GP_OK)
        return status;
    driven = gp_worker_driven(w);
    status = gp_driver_add(w->driver, &driven);
    w->added = status == GP_OK;
    return status;
}

static bool
all_started(void *arg)
{
    const gp_worker *w = arg;

    return atomic_load(&w->started) == w->shards ||
           atomic_load(&w->fault) != GP_OK;
}

/* Who did not show up, in words. */
static gp_status
nobody_came(gp_worker *w, double seconds)
{
    uint32_t silent = 0, first = 0;
    bool connected = true;
    char waiting[GP_TEXT_MAX], why[640] = "";

    gp_driver_hold(w->driver);
    for (uint32_t i = w->shards; i-- > 0;)
        if (w->conn[i].state < CONN_WELCOME) {
            connected = w->conn[i].state != CONN_CONNECTING;
            silent++;
            first = i;
        }
    if (!connected && w->conn[first].ep)
        w->conn[first].link->ops->ep_describe(w->conn[first].ep, why,
                                              sizeof(why));
    memcpy(waiting, w->waiting, sizeof(waiting));
    gp_driver_release(w->driver);
    if (silent)
        return gp_fail(connected ? GP_ERR_TIMEOUT : GP_ERR_UNREACHABLE,
                       "%u of %u shards did not answer within %.0f s, the "
                       "first is shard %u at %s%s%s%s; is a shard running "
                       "there, and is the address right?",
                       silent, w->shards, seconds, first,
                       w->conn[first].address, *why ? " (" : "", why,
                       *why ? ")" : "");
    return gp_fail(GP_ERR_TIMEOUT, "not all workers joined within %.0f s: %s",
                   seconds,
                   waiting[0] ? waiting : "no shard says who is missing");
}

static gp_status
join(gp_worker *w)
{
    double seconds = gp_config_seconds(w->config, "connect_timeout");
    uint64_t deadline = gp_deadline(seconds);
    gp_status status;

    status = open_store(w, deadline);
    if (status == GP_OK)
        status = take_rank(w);
    if (status == GP_OK && w->store)
        status =
            gp_status_announce(w->store, w->size, w->shards, is_colocated(w));
    if (status == GP_OK)
        status = host_shard(w);
    if (status == GP_OK)
        status = gp_worker_weigh(w, deadline);
    if (status == GP_OK)
        status = connect_all(w, deadline);
    if (status != GP_OK)
        return status;
    if (deadline != UINT64_MAX)
        deadline += VERDICT_NS;
    (void)gp_driver_wait(w->driver, all_started, w, deadline);
    w->joined = atomic_load(&w->started) == w->shards;
    if (w->joined) {
        status = gp_worker_weigh_measured(w); /* the store is its own so far */
        if (status == GP_OK)
            gp_worker_report(w);
        return status;
    }
    status = gp_worker_fault(w);
    return status == GP_OK ? nobody_came(w, seconds) : status;
}

gp_status
gp_worker_create(const gp_config *config, gp_worker **out)
{
    gp_worker *w;
    gp_status status;

    if (!out)
        return gp_fail(GP_ERR_INVALID, "gp_worker_create: NULL");
    w = calloc(1, sizeof(*w));
    if (!w)
        return gp_fail(GP_ERR_NO_MEMORY, "worker");
    pthread_mutex_init(&w->submit_lock, NULL);
    gp_list_init(&w->submitted);
    gp_list_init(&w->active);
    pthread_mutex_init(&w->keeping.lock, NULL);
    pthread_mutex_init(&w->mesh_lock, NULL);
    status = configure(w, config);
    if (status == GP_OK)
        status = join(w);
    if (status != GP_OK) {
        gp_worker_destroy(w);
        return status;
    }
    *out = w;
    return GP_OK;
}

static bool
shard_done(void *arg)
{
    return gp_shard_done(((gp_worker *)arg)->shard);
}

static void
say_goodbye(gp_worker *w)
{
    bool healthy;

    gp_mesh_leave(w->mesh);
    gp_driver_hold(w->driver);
    healthy = w->conn && atomic_load(&w->fault) == GP_OK;
    for (uint32_t i = 0; healthy && i < w->shards; i++) {
        gp_msg msg = {.type = GP_MSG_BYE};

        if (!w->conn[i].ep || w->conn[i].state < CONN_WELCOME)
            continue;
        (void)gp_conn_post(&w->conn[i], &msg, NULL, NULL, 0);
        (void)w->conn[i].link->ops->flush(w->conn[i].ep);
    }
    w->leaving = true;
    gp_driver_release(w->driver);
    /* The others still need the shard that lives here. */
    if (healthy && w->joined && w->shard &&
        !gp_driver_wait(w->driver, shard_done, w, gp_deadline(w->timeout)))
        GP_WARN("left while other workers still used the shard hosted here");
}

static void
close_scratch(gp_conn *conn)
{
    if (conn->mem)
        conn->link->ops->mem_dereg(conn->mem);
    free(conn->memory);
    free(conn->landing);
}

static void
cancel_requests(gp_worker *w)
{
    gp_list *item;

    while ((item = gp_list_pop(&w->submitted)))
        gp_list_insert(&w->active, item);
    while (!gp_list_empty(&w->active)) {
        gp_request *r = GP_CONTAINER_OF(w->active.next, gp_request, link);

        gp_engine_finish(r, GP_ERR_CANCELED);
        if (gp_list_empty(&r->link)) /* else it is there */
            gp_list_insert(&r->tensor->unused, &r->link);
    }
}

void
gp_worker_destroy(gp_worker *w)
{
    if (!w)
        return;
    if (w->driver)
        say_goodbye(w);
    gp_reporter_stop(w->reporter);
    if (w->added)
        gp_driver_remove(w->driver, w);
    if (w->shard) {
        gp_driver_remove(w->driver, w->shard);
        gp_shard_abandon(w->shard,
                         gp_shard_done(w->shard) ? GP_OK : GP_ERR_PEER_LEFT,
                         "the worker that hosts this shard has left");
    }
    gp_mesh_destroy(w->mesh);
    gp_worker_close_conns(w);
    cancel_requests(w);
    gp_worker_free_tensors(w);
    gp_worker_free_buffers(w);
    gp_stagings_close(w);
    gp_experiment_close(w);
    gp_pool_destroy(w->pool);
    for (uint32_t i = 0; w->conn && i < w->shards; i++)
        close_scratch(&w->conn[i]);
    for (int i = 0; i < w->links; i++)
        w->link[i].ops->close(w->link[i].domain);
    gp_shard_destroy(w->shard);
    gp_driver_destroy(w->driver);
    gp_store_close(w->store);
    gp_store_stop(w->store_server);
    gp_worker_free_map(w);
    free(w->conn);
    free(w->weights);
    free(w->membership.rank);
    gp_config_destroy(w->config);
    pthread_mutex_destroy(&w->submit_lock);
    pthread_mutex_destroy(&w->keeping.lock);
    pthread_mutex_destroy(&w->mesh_lock);
    free(w);
}

uint32_t
gp_worker_rank(const gp_worker *w)
{
    return w ? w->rank : 0;
}

uint32_t
gp_worker_size(const gp_worker *w)
{
    return w ? w->size : 0;
}

uint32_t
gp_worker_shards(const gp_worker *w)
{
    return w ? w->shards : 0;
}

/* With what has passed of the time that runs. */
static uint64_t
open_ns(const gp_worker *w)
{
    uint64_t total = atomic_load(&w->open_ns), now = gp_clock_ns();
    uint64_t since = atomic_load(&w->open_since_ns);

    return total + (atomic_load(&w->open) > 0 && now > since ? now - since : 0);
}

void
gp_worker_stats(const gp_worker *w, gp_stats *out)
{
    if (!out)
        return;
    if (!w) {
        *out = (gp_stats){0};
        return;
    }
    *out = (gp_stats){.bytes_pushed = atomic_load(&w->bytes_pushed),
                      .bytes_pulled = atomic_load(&w->bytes_pulled),
                      .dense_bytes = atomic_load(&w->dense_bytes),
                      .messages_sent = atomic_load(&w->messages_sent),
                      .messages_received = atomic_load(&w->messages_received),
                      .requests = atomic_load(&w->requests),
                      .memory = atomic_load(&w->memory),
                      .open_ns = open_ns(w),
                      .waited_ns = atomic_load(&w->waited_ns),
                      .lag_ns = atomic_load(&w->lag_ns),
                      .awaited_ns = atomic_load(&w->awaited_ns),
                      .straggler_lag_ns = atomic_load(&w->straggler_lag_ns),
                      .straggler = atomic_load(&w->straggler),
                      .direct_bytes = atomic_load(&w->direct_bytes)};
}

typedef struct ticket {
    gp_worker *worker;
    unsigned number;
} ticket;

static bool
is_passed(const ticket *t)
{
    return (int)(atomic_load(&t->worker->barriers_passed) - t->number) >= 0;
}

static bool
barrier_over(void *arg)
{
    const ticket *t = arg;

    return is_passed(t) || atomic_load(&t->worker->fault) != GP_OK;
}

static gp_status
enter_barrier(gp_worker *w, ticket *out)
{
    gp_msg msg = {.type = GP_MSG_BARRIER};
    gp_status status;

    gp_driver_hold(w->driver);
    status = gp_worker_fault(w); /* it closes the connections */
    if (status != GP_OK)
        goto out;
    status = gp_conn_post(&w->conn[0], &msg, NULL, NULL, 0);
    if (status == GP_OK)
        *out = (ticket){w, atomic_fetch_add(&w->barriers_entered, 1) + 1};
    if (status == GP_OK)
        status = w->conn[0].link->ops->flush(w->conn[0].ep);
    if (status != GP_OK)
        (void)gp_fail(status, "barrier: %s", gp_status_text(status));
out:
    gp_driver_release(w->driver);
    return status;
}

gp_status
gp_barrier(gp_worker *w)
{
    ticket t;
    gp_status status =
        w ? enter_barrier(w, &t) : gp_fail(GP_ERR_INVALID, "gp_barrier: NULL");

    if (status != GP_OK)
        return status;
    (void)gp_driver_wait(w->driver, barrier_over, &t, gp_deadline(w->timeout));
    /* What failed after that is the next call's to say. */
    if (is_passed(&t))
        return GP_OK;
    status = gp_worker_fault(w);
    return status == GP_OK
               ? gp_worker_late(w, "not all workers came to the barrier",
                                w->timeout)
               : status;
}
