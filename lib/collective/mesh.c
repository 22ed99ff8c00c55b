/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mesh.c - a worker's place among the other workers: where it listens, where
 * the others do, and its turn of the driver.
 *
 * The store is asked by callers of gp_group_create() only, which may block; so
 * addresses are known before an operation needs a connection.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "collective/coll_int.h"
#include "shard/paths.h"

void
gp_mesh_init(gp_mesh *mesh, gp_worker *w)
{
    mesh->worker = w;
    gp_list_init(&mesh->strangers);
    gp_list_init(&mesh->graves);
    gp_list_init(&mesh->groups);
    gp_list_init(&mesh->submitted);
    pthread_mutex_init(&mesh->lock, NULL);
    pthread_mutex_init(&mesh->store_lock, NULL);
}

/* `listen` is where shards do; a worker takes any port of the same host. */
static void
listen_address(const gp_worker *w, const gp_transport_ops *ops, char *out,
               size_t capacity)
{
    const char *text = gp_config_get(w->config, "listen");
    char host[GP_ADDRESS_MAX];
    uint16_t port;

    out[0] = '\0';
    if (ops->caps & GP_CAP_LOCAL || !text[0] ||
        gp_address_split(text, host, sizeof(host), &port) != GP_OK || !host[0])
        return;
    if (gp_address_join(host, 0, out, capacity) != GP_OK)
        out[0] = '\0';
}

static gp_status
listen_on(gp_worker *w, const gp_transport_ops *ops, char *bound)
{
    char address[GP_ADDRESS_MAX];
    worker_link *link;
    gp_status status = gp_worker_link(w, ops, &link);

    if (status != GP_OK)
        return status;
    listen_address(w, ops, address, sizeof(address));
    return ops->listen(link->domain, address, bound, GP_ADDRESS_MAX);
}

/* On every transport that is offered, as shards do. */
static gp_status
listen_all(gp_worker *w, char *out)
{
    const gp_transport_ops *ops[GP_PATHS_MAX], *heard[GP_PATHS_MAX];
    char bound[GP_PATHS_MAX][GP_ADDRESS_MAX];
    size_t count = 0, open = 0;
    gp_status status = gp_paths_offer(w->config, ops, &count);

    for (size_t i = 0; status == GP_OK && i < count; i++) {
        heard[open] = ops[i];
        status = listen_on(w, ops[i], bound[open]);
        if (status != GP_OK && i + 1 < count)
            GP_INFO("listens without %s: %s", ops[i]->name, gp_last_error());
        else
            open++;
        if (i + 1 < count)
            status = GP_OK;
    }
    out[0] = '\0';
    for (size_t i = 0; status == GP_OK && i < open; i++)
        status = gp_paths_append(heard[i]->name, bound[i], open > 1, out,
                                 GP_ADDRESS_MAX);
    return status;
}

/* A connection of its own: the worker's is the status thread's. */
static gp_status
open_store(gp_mesh *mesh, uint64_t deadline)
{
    gp_worker *w = mesh->worker;
    const char *address = w->job.store;

    if (w->store_server)
        address = gp_store_server_address(w->store_server);
    else if (!w->store && w->job.host_store && address[0]) {
        gp_status status =
            gp_store_serve(w->config, address, w->token, &mesh->store_server);

        if (status != GP_OK)
            return status;
        address = gp_store_server_address(mesh->store_server);
    }
    if (!address[0])
        return gp_fail(GP_ERR_CONFIG,
                       "workers find each other in the store: set "
                       "GRADPUSH_STORE to a host:port where rank 0 can listen");
    return gp_store_connect(w->config, address, w->token, deadline,
                            &mesh->store);
}

static gp_status
publish(gp_mesh *mesh, const char *bound)
{
    const gp_worker *w = mesh->worker;
    char address[GP_ADDRESS_MAX], key[32];
    gp_status status = gp_host_address(w->config, bound, w->job.store, address,
                                       sizeof(address));

    if (status != GP_OK)
        return status;
    snprintf(key, sizeof(key), "worker/%u", w->rank);
    return gp_store_set(mesh->store, key, address, strlen(address));
}

gp_status
gp_mesh_open(gp_worker *w, gp_mesh **out)
{
    uint64_t deadline =
        gp_deadline(gp_config_seconds(w->config, "connect_timeout"));
    gp_mesh *mesh = calloc(1, sizeof(*mesh));
    char bound[GP_ADDRESS_MAX];
    gp_status status = GP_OK;

    if (!mesh)
        return gp_fail(GP_ERR_NO_MEMORY, "collectives");
    gp_mesh_init(mesh, w);
    mesh->mate = calloc(w->size, sizeof(*mesh->mate));
    mesh->address = calloc(w->size, GP_ADDRESS_MAX);
    if (!mesh->mate || !mesh->address)
        status = gp_fail(GP_ERR_NO_MEMORY, "%u workers", w->size);
    if (status == GP_OK && w->size > 1)
        status = open_store(mesh, deadline);
    if (status == GP_OK && w->size > 1) {
        gp_driver_hold(w->driver);
        status = listen_all(w, bound);
        gp_driver_release(w->driver);
    }
    if (status == GP_OK && w->size > 1)
        status = publish(mesh, bound);
    if (status != GP_OK) {
        gp_mesh_destroy(mesh);
        return status;
    }
    *out = mesh;
    return GP_OK;
}

gp_status
gp_mesh_find(gp_mesh *mesh, uint32_t rank, uint64_t deadline)
{
    char *row = mesh->address + (size_t)rank * GP_ADDRESS_MAX;
    char key[32], text[GP_ADDRESS_MAX];
    size_t length = 0;
    gp_status status;

    if (rank == mesh->worker->rank || row[0])
        return GP_OK;
    snprintf(key, sizeof(key), "worker/%u", rank);
    status = gp_store_get(mesh->store, key, text, sizeof(text) - 1, &length,
                          deadline);
    if (status == GP_ERR_TIMEOUT)
        return gp_fail(status,
                       "worker %u did not call gp_group_create() in time: all "
                       "members of a group must",
                       rank);
    if (status != GP_OK)
        return status;
    text[length] = '\0';
    gp_driver_hold(mesh->worker->driver);
    memcpy(row, text, length + 1);
    gp_driver_release(mesh->worker->driver);
    return GP_OK;
}

const char *
gp_mate_name(const gp_mesh *mesh, uint32_t rank, char *out, size_t capacity)
{
    const gp_mate *mate = rank < mesh->worker->size ? mesh->mate[rank] : NULL;

    if (mate && mate->identity[0])
        snprintf(out, capacity, "worker %u (%s)", rank, mate->identity);
    else if (mate && mate->address[0])
        snprintf(out, capacity, "worker %u (at %s)", rank, mate->address);
    else
        snprintf(out, capacity, "worker %u", rank);
    return out;
}

gp_status
gp_mate_post(gp_mate *mate, gp_msg *msg, const void *payload, gp_mem *mem,
             uint64_t cookie)
{
    gp_worker *w = mate->mesh->worker;
    gp_status status;

    msg->job = w->job_hash;
    msg->worker = w->rank;
    msg->incarnation = w->incarnation;
    msg->epoch = w->epoch;
    status = mate->via->ops->post(mate->ep, msg, payload, mem, cookie);
    if (status != GP_OK)
        return status;
    atomic_fetch_add_explicit(&w->messages_sent, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&w->bytes_pushed, msg->payload + GP_MSG_BYTES,
                              memory_order_relaxed);
    if (msg->payload >= FLUSH_BYTES)
        (void)mate->via->ops->flush(mate->ep);
    else
        mate->flush = true;
    return GP_OK;
}

/* Takes what callers handed over; true when there was something. */
static bool
take_submitted(gp_mesh *mesh)
{
    gp_list *item;
    bool any = false;

    if (!atomic_load_explicit(&mesh->news, memory_order_acquire))
        return false;
    pthread_mutex_lock(&mesh->lock);
    atomic_store(&mesh->news, false);
    while ((item = gp_list_pop(&mesh->submitted))) {
        gp_collective *c = GP_CONTAINER_OF(item, gp_collective, link);
        bool point = c->call.kind == COLL_SEND || c->call.kind == COLL_RECV;

        gp_list_insert(point ? &c->group->points : &c->group->queue, &c->link);
        c->group->dirty = true;
        any = true;
    }
    pthread_mutex_unlock(&mesh->lock);
    return any;
}

bool
gp_mesh_news(const gp_mesh *mesh)
{
    return atomic_load_explicit(&mesh->news, memory_order_acquire);
}

static void
flush_all(gp_mesh *mesh)
{
    for (uint32_t r = 0; r < mesh->worker->size; r++) {
        gp_mate *mate = mesh->mate[r];

        if (!mate || !mate->flush || !mate->ep)
            continue;
        mate->flush = false;
        (void)mate->via->ops->flush(mate->ep);
    }
}

/* A collective is under way, and no tensor's request. */
static bool
is_waiting(const gp_mesh *mesh)
{
    if (!gp_list_empty(&mesh->worker->active))
        return false;
    GP_LIST_EACH (item, (gp_list *)&mesh->groups) {
        const gp_group *g = GP_CONTAINER_OF(item, gp_group, link);

        if (!gp_list_empty(&g->queue) || !gp_list_empty(&g->points))
            return true;
    }
    return false;
}

int
gp_mesh_turn(gp_mesh *mesh)
{
    bool any = take_submitted(mesh);
    uint64_t now;
    int done = any;

    GP_LIST_EACH (item, &mesh->groups) {
        gp_group *g = GP_CONTAINER_OF(item, gp_group, link);

        if (!g->dirty)
            continue;
        any = true;
        done += gp_group_turn(g);
    }
    if (any) {
        flush_all(mesh);
        gp_driver_focus(mesh->worker->driver,
                        is_waiting(mesh) ? mesh->worker : NULL);
    } else {
        now = gp_clock_ns();
        if (now >= mesh->wake_ns)
            gp_mesh_expire(mesh, now);
    }
    gp_mesh_bury(mesh);
    return done;
}

uint64_t
gp_mesh_deadline(const gp_mesh *mesh)
{
    return mesh->wake_ns;
}

/* Ends what is open; afterwards nothing refers to the connections. */
static void
end_all(gp_mesh *mesh, gp_status status, const char *text)
{
    (void)take_submitted(mesh);
    GP_LIST_EACH (item, &mesh->groups) {
        gp_group *g = GP_CONTAINER_OF(item, gp_group, link);

        gp_group_fail(g, status, false, "%s", text);
    }
    for (uint32_t r = 0; r < mesh->worker->size; r++)
        if (mesh->mate[r] && mesh->mate[r]->ep)
            gp_mate_drop(mesh->mate[r], MATE_LOST);
    GP_LIST_EACH (item, &mesh->groups)
        (void)gp_group_turn(GP_CONTAINER_OF(item, gp_group, link));
}

void
gp_mesh_fail(gp_mesh *mesh, gp_status status, const char *text)
{
    if (!mesh)
        return;
    for (uint32_t r = 0; r < mesh->worker->size; r++) {
        gp_mate *mate = mesh->mate[r];
        gp_msg msg = {.type = GP_MSG_FAULT, .status = status};

        if (!mate || mate->state != MATE_READY)
            continue;
        msg.payload = GP_MIN(strlen(text), GP_TEXT_MAX - 1);
        (void)gp_mate_post(mate, &msg, text, NULL, 0);
        (void)mate->via->ops->flush(mate->ep);
    }
    end_all(mesh, status, text);
}

static bool
all_sent(void *arg)
{
    gp_mesh *mesh = arg;

    return atomic_load(&mesh->sending) == 0 ||
           atomic_load(&mesh->worker->fault) != GP_OK;
}

void
gp_mesh_leave(gp_mesh *mesh)
{
    gp_worker *w;

    if (!mesh)
        return;
    w = mesh->worker;
    (void)gp_driver_wait(w->driver, all_sent, mesh, gp_deadline(w->timeout));
    gp_driver_hold(w->driver);
    for (uint32_t r = 0; r < w->size; r++) {
        gp_mate *mate = mesh->mate[r];
        gp_msg msg = {.type = GP_MSG_BYE};

        if (!mate || !mate->ep)
            continue;
        if (mate->introduced && !mate->closed) {
            (void)gp_mate_post(mate, &msg, NULL, NULL, 0);
            (void)mate->via->ops->flush(mate->ep);
        }
        gp_mate_drop(mate, MATE_LOST); /* behind all data, unlike the word */
    }
    mesh->left = true;
    gp_driver_release(w->driver);
}

void
gp_mesh_destroy(gp_mesh *mesh)
{
    if (!mesh)
        return;
    if (mesh->mate)
        end_all(mesh, GP_ERR_CANCELED, "the worker was destroyed");
    while (!gp_list_empty(&mesh->groups))
        gp_group_free(GP_CONTAINER_OF(mesh->groups.next, gp_group, link));
    while (!gp_list_empty(&mesh->strangers))
        gp_mate_drop(GP_CONTAINER_OF(mesh->strangers.next, gp_mate, link),
                     MATE_LOST);
    gp_mesh_bury(mesh);
    for (uint32_t r = 0; mesh->mate && r < mesh->worker->size; r++)
        gp_mate_free(mesh->mate[r]);
    gp_store_close(mesh->store);
    gp_store_stop(mesh->store_server);
    pthread_mutex_destroy(&mesh->lock);
    pthread_mutex_destroy(&mesh->store_lock);
    free(mesh->mate);
    free(mesh->address);
    free(mesh->made);
    free(mesh);
}

bool
gp_mesh_uses(const gp_mesh *mesh, const void *base, size_t bytes)
{
    bool used = false;

    if (!mesh)
        return false;
    GP_LIST_EACH (item, &mesh->groups)
        used |=
            gp_group_uses(GP_CONTAINER_OF(item, gp_group, link), base, bytes);
    return used;
}

void
gp_mesh_withdraw(gp_mesh *mesh, const gp_buffer *buffer)
{
    for (uint32_t r = 0; mesh && r < mesh->worker->size; r++) {
        gp_mate *mate = mesh->mate[r];

        if (!mate || buffer->number >= mate->tokens ||
            !mate->token[buffer->number])
            continue;
        if (mate->ep)
            mate->via->ops->unexpose(mate->ep, mate->token[buffer->number]);
        mate->token[buffer->number] = 0;
    }
}
