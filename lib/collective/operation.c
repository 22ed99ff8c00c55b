/* SPDX-License-Identifier: Apache-2.0 */
/*
 * operation.c - what a trainer calls.
 *
 * A caller's thread checks its arguments, fills a request that the group keeps
 * for reuse, numbers it and hands it over.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collective/coll_int.h"

void
gp_collective_describe(const gp_call *call, char *out, size_t capacity)
{
    static const char *const kinds[] = {
        "?",        "gp_allreduce", "gp_reduce_scatter", "gp_allgather",
        "gp_bcast", "gp_alltoall",  "gp_group_barrier",  "gp_send",
        "gp_recv"};
    static const char *const types[] = {"?", "fp32", "fp16", "bf16"};
    static const char *const ops[] = {"?", "sum", "mean", "largest",
                                      "smallest"};
    const char *kind =
        call->kind < GP_COUNT_OF(kinds) ? kinds[call->kind] : kinds[0];
    unsigned long long count = call->count;

    if (call->kind == COLL_ALLREDUCE || call->kind == COLL_REDUCE_SCATTER)
        snprintf(out, capacity, "%s of %llu %s (%s)", kind, count,
                 types[call->dtype < 4 ? call->dtype : 0],
                 ops[call->reduction < 5 ? call->reduction : 0]);
    else if (call->kind == COLL_BCAST)
        snprintf(out, capacity, "%s of %llu bytes from member %u", kind, count,
                 call->root);
    else
        snprintf(out, capacity, "%s of %llu bytes", kind, count);
}

void
gp_collective_free(gp_collective *c)
{
    free(c->request);
    free(c);
}

static gp_collective *
new_collective(gp_group *g)
{
    size_t bytes = (sizeof(gp_collective) + GP_MEMBER_ALIGN - 1) /
                   GP_MEMBER_ALIGN * GP_MEMBER_ALIGN;
    gp_collective *c = aligned_alloc(GP_MEMBER_ALIGN, bytes);
    gp_request *r = calloc(1, sizeof(*r));

    if (!c || !r) {
        free(c);
        free(r);
        return NULL;
    }
    memset(c, 0, sizeof(*c));
    c->group = g;
    c->request = r;
    gp_list_init(&c->link);
    gp_list_init(&r->link);
    r->collective = c;
    pthread_mutex_lock(&g->mesh->lock);
    gp_list_insert(&g->every, &c->every);
    pthread_mutex_unlock(&g->mesh->lock);
    return c;
}

static gp_collective *
get_collective(gp_group *g)
{
    gp_list *item;

    pthread_mutex_lock(&g->mesh->lock);
    item = gp_list_pop(&g->unused);
    pthread_mutex_unlock(&g->mesh->lock);
    return item ? GP_CONTAINER_OF(item, gp_collective, link)
                : new_collective(g);
}

static gp_status
fault_of(gp_group *g)
{
    int fault = atomic_load(&g->fault);

    if (fault != GP_OK)
        return gp_fail((gp_status)fault, "%s", g->fault_text);
    return gp_worker_fault(g->mesh->worker);
}

typedef struct buffers {
    const void *in;
    void *out;
    uint64_t in_bytes, out_bytes;
    uint32_t tag;
} buffers;

static gp_status
submit(gp_group *g, const gp_call *call, const buffers *b, gp_request **request)
{
    gp_mesh *mesh = g->mesh;
    gp_status status = fault_of(g);
    gp_collective *c;

    if (status != GP_OK)
        return status;
    c = get_collective(g);
    if (!c)
        return gp_fail(GP_ERR_NO_MEMORY, "request");
    c->call = *call;
    c->in = b->in;
    c->out = b->out;
    c->in_bytes = b->in_bytes;
    c->out_bytes = b->out_bytes;
    c->tag = b->tag;
    c->started = c->told = false;
    c->token = 0;
    c->sending = 0;
    c->ending_ns = 0;
    c->algorithm = ALGORITHM_AUTO;
    atomic_store(&c->request->done, false);
    gp_worker_opened(mesh->worker);
    pthread_mutex_lock(&mesh->lock);
    if (call->kind != COLL_SEND && call->kind != COLL_RECV)
        c->seq = g->next_seq++;
    gp_list_insert(&mesh->submitted, &c->link);
    atomic_store_explicit(&mesh->news, true, memory_order_release);
    pthread_mutex_unlock(&mesh->lock);
    atomic_fetch_add_explicit(&mesh->worker->requests, 1, memory_order_relaxed);
    *request = c->request;
    gp_driver_kick(mesh->worker->driver);
    return GP_OK;
}

static gp_status
check(const char *what, bool there, gp_group *g, const void *request)
{
    if (!g || !request || !there)
        return gp_fail(GP_ERR_INVALID, "%s: a pointer is NULL", what);
    return GP_OK;
}

static gp_status
check_reduction(const char *what, gp_dtype dtype, gp_reduction reduction)
{
    if (gp_dtype_bytes(dtype) == 0)
        return gp_fail(GP_ERR_INVALID, "%s: dtype %d", what, (int)dtype);
    if (reduction < GP_SUM || reduction > GP_SMALLEST)
        return gp_fail(GP_ERR_INVALID, "%s: reduction %d", what,
                       (int)reduction);
    return GP_OK;
}

/* Bytes of `parts` parts; what is larger could not be in memory. */
static gp_status
measure(const char *what, uint64_t count, uint64_t unit, uint64_t parts,
        uint64_t *out)
{
    size_t bytes;

    if (!gp_mul(count, unit, &bytes) || !gp_mul(bytes, parts, &bytes) ||
        bytes > (UINT64_C(1) << 43))
        return gp_fail(GP_ERR_TOO_LARGE, "%s: %llu times %llu bytes", what,
                       (unsigned long long)count,
                       (unsigned long long)(unit * parts));
    *out = bytes;
    return GP_OK;
}

gp_status
gp_allreduce_keyed(gp_group *g, uint64_t key, const void *in, void *out,
                   uint64_t count, gp_dtype dtype, gp_reduction reduction,
                   gp_request **request)
{
    gp_call call = {.kind = COLL_ALLREDUCE,
                    .dtype = (uint8_t)dtype,
                    .reduction = (uint8_t)reduction,
                    .count = count,
                    .key = key};
    buffers b = {.in = in, .out = out};
    gp_status status =
        check("gp_allreduce", (in && out) || count == 0, g, request);

    if (status == GP_OK)
        status = check_reduction("gp_allreduce", dtype, reduction);
    if (status == GP_OK)
        status = measure("gp_allreduce", count, gp_dtype_bytes(dtype), 1,
                         &b.in_bytes);
    b.out_bytes = b.in_bytes;
    return status == GP_OK ? submit(g, &call, &b, request) : status;
}

gp_status
gp_allreduce(gp_group *g, const void *in, void *out, uint64_t count,
             gp_dtype dtype, gp_reduction reduction, gp_request **request)
{
    return gp_allreduce_keyed(g, 0, in, out, count, dtype, reduction, request);
}

gp_status
gp_reduce_scatter(gp_group *g, const void *in, void *out, uint64_t count,
                  gp_dtype dtype, gp_reduction reduction, gp_request **request)
{
    gp_call call = {.kind = COLL_REDUCE_SCATTER,
                    .dtype = (uint8_t)dtype,
                    .reduction = (uint8_t)reduction,
                    .count = count};
    buffers b = {.in = in, .out = out};
    gp_status status =
        check("gp_reduce_scatter", (in && out) || count == 0, g, request);

    if (status == GP_OK)
        status = check_reduction("gp_reduce_scatter", dtype, reduction);
    if (status == GP_OK)
        status = measure("gp_reduce_scatter", count, gp_dtype_bytes(dtype),
                         g->size, &b.in_bytes);
    if (status != GP_OK)
        return status;
    b.out_bytes = b.in_bytes / g->size;
    return submit(g, &call, &b, request);
}

gp_status
gp_allgather(gp_group *g, const void *in, void *out, uint64_t bytes,
             gp_request **request)
{
    gp_call call = {.kind = COLL_ALLGATHER, .count = bytes};
    buffers b = {.in = in, .out = out, .in_bytes = bytes};
    gp_status status =
        check("gp_allgather", (in && out) || bytes == 0, g, request);

    if (status == GP_OK)
        status = measure("gp_allgather", bytes, 1, g->size, &b.out_bytes);
    return status == GP_OK ? submit(g, &call, &b, request) : status;
}

gp_status
gp_bcast(gp_group *g, void *values, uint64_t bytes, uint32_t root,
         gp_request **request)
{
    gp_call call = {.kind = COLL_BCAST, .root = root, .count = bytes};
    buffers b = {.in = values, .out = values};
    gp_status status = check("gp_bcast", values || bytes == 0, g, request);

    if (status == GP_OK && root >= g->size)
        status = gp_fail(GP_ERR_INVALID, "gp_bcast: root %u of %u members",
                         root, g->size);
    if (status == GP_OK)
        status = measure("gp_bcast", bytes, 1, 1, &b.out_bytes);
    b.in_bytes = b.out_bytes;
    return status == GP_OK ? submit(g, &call, &b, request) : status;
}

gp_status
gp_alltoall(gp_group *g, const void *in, void *out, uint64_t bytes,
            gp_request **request)
{
    gp_call call = {.kind = COLL_ALLTOALL, .count = bytes};
    buffers b = {.in = in, .out = out};
    gp_status status =
        check("gp_alltoall", (in && out) || bytes == 0, g, request);

    if (status == GP_OK)
        status = measure("gp_alltoall", bytes, 1, g->size, &b.out_bytes);
    b.in_bytes = b.out_bytes;
    return status == GP_OK ? submit(g, &call, &b, request) : status;
}

gp_status
gp_group_barrier(gp_group *g)
{
    gp_call call = {.kind = COLL_BARRIER};
    buffers b = {0};
    gp_request *request = NULL;
    gp_status status = check("gp_group_barrier", true, g, &request);

    if (status == GP_OK)
        status = submit(g, &call, &b, &request);
    if (status != GP_OK)
        return status;
    return gp_wait(&request, -1);
}

static gp_status
submit_point(gp_group *g, const char *what, gp_coll_kind kind,
             const void *values, uint64_t bytes, uint32_t peer, uint32_t tag,
             gp_request **request)
{
    gp_call call = {.kind = (uint8_t)kind, .root = peer, .count = bytes};
    buffers b = {.tag = tag};
    gp_status status = check(what, values || bytes == 0, g, request);
    uint64_t size = 0;

    if (status == GP_OK && (peer >= g->size || peer == g->rank))
        status = gp_fail(GP_ERR_INVALID,
                         "%s: member %u of %u, on member %u: it takes another "
                         "one",
                         what, peer, g->size, g->rank);
    if (status == GP_OK)
        status = measure(what, bytes, 1, 1, &size);
    if (status != GP_OK)
        return status;
    if (kind == COLL_SEND) {
        b.in = values;
        b.in_bytes = size;
    } else {
        b.out = (void *)values;
        b.out_bytes = size;
    }
    return submit(g, &call, &b, request);
}

gp_status
gp_send(gp_group *g, const void *values, uint64_t bytes, uint32_t to,
        uint32_t tag, gp_request **request)
{
    return submit_point(g, "gp_send", COLL_SEND, values, bytes, to, tag,
                        request);
}

gp_status
gp_recv(gp_group *g, void *values, uint64_t bytes, uint32_t from, uint32_t tag,
        gp_request **request)
{
    return submit_point(g, "gp_recv", COLL_RECV, values, bytes, from, tag,
                        request);
}

/* --- for gp_wait() and gp_test() -------------------------------------------
 */

gp_worker *
gp_collective_worker(const gp_collective *c)
{
    return c->group->mesh->worker;
}

gp_status
gp_collective_conclude(gp_collective *c)
{
    gp_group *g = c->group;
    gp_status status = c->request->status;

    pthread_mutex_lock(&g->mesh->lock);
    gp_list_insert(&g->unused, &c->link);
    pthread_mutex_unlock(&g->mesh->lock);
    if (status == GP_OK)
        return GP_OK;
    return gp_fail(status, "%s", g->fault_text);
}

/* Whom the first hop that is not complete waits for. */
static void
blame(const gp_collective *c, char *out, size_t capacity)
{
    const gp_group *g = c->group;
    char name[192];

    out[0] = '\0';
    for (uint32_t i = c->first_open; c->started && i < c->hops; i++) {
        const gp_hop *hop = &c->hop[i];
        const gp_mate *mate;

        if (hop->complete || hop->kind == HOP_LOCAL)
            continue;
        mate = g->mesh->mate[g->ranks[hop->peer]];
        snprintf(out, capacity, "; waiting for %s%s",
                 gp_mate_name(g->mesh, g->ranks[hop->peer], name, sizeof(name)),
                 mate && mate->state == MATE_READY ? "" : ", not connected");
        return;
    }
}

gp_status
gp_collective_late(gp_collective *c, double seconds)
{
    gp_driver *driver = c->group->mesh->worker->driver;
    char what[160], who[256];

    gp_driver_hold(driver);
    if (atomic_load_explicit(&c->request->done, memory_order_acquire)) {
        gp_driver_release(driver);
        return GP_OK;
    }
    blame(c, who, sizeof(who));
    gp_driver_release(driver);
    gp_collective_describe(&c->call, what, sizeof(what));
    return gp_fail(GP_ERR_TIMEOUT, "group '%s': %s did not end within %g s%s",
                   c->group->name, what, seconds, who);
}
