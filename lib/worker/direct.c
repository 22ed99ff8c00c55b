/* SPDX-License-Identifier: Apache-2.0 */
/*
 * direct.c - gradients and results that network devices move from and to a
 * device's memory themselves.
 *
 * What they are shown is memory of ours, in whole segments of an arena, each
 * registered once: gradients are encoded or copied into it and results out of
 * it by the device, which is fast, and the user's memory stays the user's. The
 * pinned memory of a request stays beside it: which way a chunk goes is decided
 * when its request starts, so that a way that has failed meanwhile is not taken
 * again; what is under way by then arrives by the transport's own means.
 */
#include <stdlib.h>
#include <string.h>

#include "worker/staging.h"

/* Shorter chunks travel with their headers, which a processor writes. */
#define DIRECT_MIN 8192u

struct gp_segment {
    gp_segment *next;
    uint8_t *base;
    size_t bytes;
    gp_mem *mem[WORKER_LINKS];
    uint32_t token[]; /* by shard; 0: not exposed */
};

/* --- opening --- */

static bool
reaches(const worker_link *link)
{
    return link->ops->caps & GP_CAP_PEER_MEMORY;
}

/* Whether what a network device wrote is seen by work that is queued after its
 * completion: the driver says so, or it can be asked to see to it. */
static void
set_flush(gp_staging *s)
{
    const char *mode = gp_config_get(s->worker->config, "gdr_flush");
    gp_device_properties p;

    s->device->ops->properties(s->device, &p);
    s->aside.flushes =
        strcmp(mode, "on") == 0 || (strcmp(mode, "auto") == 0 &&
                                    p.writes_ordering < GP_DEVICE_WRITES_OWNER);
    s->blind = s->aside.flushes && !p.host_flush;
    if (s->blind)
        GP_INFO("%s cannot flush what network devices write: results go "
                "through the host's memory",
                s->name);
}

static gp_status
probe_link(gp_staging *s, const worker_link *link, void *base, bool *any)
{
    gp_status status;

    gp_driver_hold(s->worker->driver);
    status = gp_aside_probe(&s->aside, link->ops, link->domain, base,
                            GP_ARENA_SEGMENT, any);
    gp_driver_release(s->worker->driver);
    return status;
}

static gp_status
open_stage(gp_staging *s)
{
    const gp_worker *w = s->worker;
    bool any = false;
    void *base = NULL;
    gp_status status;

    set_flush(s);
    status = gp_aside_open(&s->aside, s->device, s->name, w->timeout);
    if (status == GP_OK)
        status = gp_device_arena_open(s->device, false, &s->shown);
    if (status == GP_OK)
        status = gp_device_arena_take(s->shown, GP_ARENA_SEGMENT, &base);
    for (int i = 0; status == GP_OK && i < w->links; i++)
        if (reaches(&w->link[i]))
            status = probe_link(s, &w->link[i], base, &any);
    gp_device_arena_give(s->shown, base);
    if (status == GP_OK && any)
        return GP_OK;
    gp_device_arena_close(s->shown);
    s->shown = NULL;
    return status;
}

gp_status
gp_direct_open(gp_worker *w)
{
    gp_status status = GP_OK;
    bool any = false;

    for (int i = 0; i < w->links; i++)
        any |= reaches(&w->link[i]);
    for (gp_staging *s = w->stages; any && s && status == GP_OK; s = s->next)
        if (!s->aside.stream)
            status = open_stage(s);
    return status;
}

void
gp_direct_close(gp_staging *s)
{
    gp_segment *g;

    while ((g = s->segments)) {
        s->segments = g->next;
        for (int i = 0; i < s->worker->links; i++)
            if (g->mem[i])
                s->worker->link[i].ops->mem_dereg(g->mem[i]);
        free(g);
    }
    gp_aside_close(&s->aside);
    gp_device_arena_close(s->shown);
}

/* --- memory --- */

static gp_segment *
find_segment(const gp_staging *s, const uint8_t *base)
{
    gp_segment *g = s->segments;

    while (g && g->base != base)
        g = g->next;
    return g;
}

static gp_status
register_segment(gp_staging *s, gp_segment *g)
{
    gp_worker *w = s->worker;
    gp_status status = GP_OK;

    for (int i = 0; status == GP_OK && i < w->links; i++)
        if (reaches(&w->link[i]))
            status =
                w->link[i].ops->mem_reg_peer(w->link[i].domain, &s->aside.peer,
                                             g->base, g->bytes, &g->mem[i]);
    return status;
}

/* The segment that a block lies in, registered when it is new. */
static gp_status
segment_of(gp_staging *s, const void *block, gp_segment **out)
{
    const gp_worker *w = s->worker;
    gp_status status = GP_OK;
    void *base = NULL;
    size_t bytes = 0;
    gp_segment *g;

    gp_device_arena_segment(s->shown, block, &base, &bytes);
    g = find_segment(s, base);
    if (g) {
        *out = g;
        return GP_OK;
    }
    g = calloc(1, sizeof(*g) + w->shards * sizeof(g->token[0]));
    if (!g)
        return gp_fail(GP_ERR_NO_MEMORY, "segment");
    g->base = base;
    g->bytes = bytes;
    g->next = s->segments;
    s->segments = g;
    status = register_segment(s, g);
    if (status == GP_OK)
        *out = g;
    return status;
}

gp_status
gp_direct_create(gp_staged *staged, const gp_tensor *t, size_t messages)
{
    gp_staging *s = staged->stage;
    size_t bytes =
        (gp_tensor_bytes(t) + GP_ARENA_ALIGN - 1) & ~(GP_ARENA_ALIGN - 1);
    void *block = NULL;
    gp_status status;

    if (!s->shown || (!t->devcode && !t->pull_direct && t->direct < 0))
        return GP_OK;
    status = gp_device_arena_take(s->shown, bytes + messages, &block);
    if (status != GP_OK)
        return status;
    gp_driver_hold(s->worker->driver);
    status = segment_of(s, block, &staged->segment);
    gp_driver_release(s->worker->driver);
    if (status != GP_OK)
        return status;
    staged->shown = block;
    staged->shown_messages = staged->shown + bytes;
    return GP_OK;
}

/* --- which way --- */

static gp_mem *
memory_of(const gp_op *op)
{
    const gp_conn *conn = op->conn;

    return op->request->staged->segment->mem[conn->link - conn->worker->link];
}

static bool
can_push(const gp_request *r)
{
    if (!gp_kind_pushes(r->kind))
        return false;
    return gp_kind_is_init(r->kind) ||
           (gp_devcode_pushes(r) && !gp_devcode_packs(r->tensor)) ||
           (gp_push_is_direct(r) && !r->tensor->ordered);
}

static bool
can_pull(const gp_request *r)
{
    return gp_kind_pulls(r->kind) && !r->staged->stage->blind &&
           (gp_pull_is_direct(r) ||
            (gp_devcode_pulls(&r->op[0]) && !gp_devcode_unpacks(r->tensor)));
}

void
gp_direct_choose(gp_request *r)
{
    const gp_staged *staged = r->staged;
    bool pushes = staged->shown && !r->plan && can_push(r);
    bool pulls = staged->shown && !r->plan && can_pull(r);

    for (uint32_t i = 0; i < r->tensor->chunks; i++) {
        gp_op *op = &r->op[i];
        bool open =
            (pushes || pulls) && op->conn->ep && reaches(op->conn->link) &&
            gp_op_plain_bytes(op) >= DIRECT_MIN &&
            op->conn->link->ops->peer_way(op->conn->ep, memory_of(op)) !=
                GP_DIRECT_STAGING;

        op->from_device = open && pushes;
        op->to_device = open && pulls;
    }
}

/* --- chunks --- */

static void
count(const gp_op *op, uint64_t bytes)
{
    atomic_fetch_add_explicit(&op->conn->worker->direct_bytes, bytes,
                              memory_order_relaxed);
}

uint8_t *
gp_direct_place(const gp_op *op)
{
    return op->request->staged->shown + gp_op_plain_offset(op);
}

/* The part of a message behind its length; which that is stays pinned. */
uint8_t *
gp_direct_message(const gp_op *op)
{
    const gp_request *r = op->request;

    return r->staged->shown_messages +
           (op->chunk - r->tensor->first) * r->staged->stride + GP_ARENA_ALIGN;
}

const void *
gp_direct_payload(gp_op *op, gp_mem **mem)
{
    gp_tensor *t = op->request->tensor;
    size_t length = gp_op_plain_bytes(op);

    *mem = memory_of(op);
    if (!gp_devcode_pushes(op->request)) {
        op->length = length;
        count(op, length);
        return gp_direct_place(op);
    }
    (void)gp_devcode_message(op, &length);
    if (t->memory[0])
        atomic_store_explicit(&t->owes, true, memory_order_relaxed);
    op->length = length;
    count(op, length);
    return gp_direct_message(op);
}

gp_status
gp_direct_expose(const gp_op *op, uint32_t *token, uint64_t *offset)
{
    const gp_conn *conn = op->conn;
    gp_segment *g = op->request->staged->segment;
    uint32_t *kept = &g->token[conn->shard];
    gp_status status = GP_OK;

    if (*kept == 0)
        status = conn->link->ops->expose(conn->ep, memory_of(op), 0, g->bytes,
                                         0, kept);
    *token = *kept;
    *offset =
        (uint64_t)((gp_pull_is_direct(op->request) ? gp_direct_place(op)
                                                   : gp_direct_message(op)) -
                   g->base);
    return status;
}

/* The network device has said that it is there, which the host has seen: that
 * is one way over the bus, and the data took another. */
gp_status
gp_direct_arrived(const gp_op *op, uint64_t bytes)
{
    const gp_staging *s = op->request->staged->stage;

    count(op, bytes);
    return s->aside.flushes ? s->device->ops->flush_writes(s->device) : GP_OK;
}

bool
gp_direct_describe(const gp_worker *w, uint32_t n, gp_direct *way, char *text,
                   size_t capacity)
{
    for (const gp_staging *s = w->stages; s; s = s->next)
        for (int i = 0; i < w->links; i++) {
            const worker_link *link = &w->link[i];
            uint32_t k = 0;

            while (reaches(link) &&
                   link->ops->peer_describe(link->domain, &s->aside.peer, k,
                                            way, text, capacity)) {
                if (n-- == 0)
                    return true;
                k++;
            }
        }
    return false;
}

void
gp_direct_withdraw(gp_conn *conn)
{
    for (gp_staging *s = conn->worker->stages; s; s = s->next)
        for (gp_segment *g = s->segments; g; g = g->next) {
            if (g->token[conn->shard] && conn->ep)
                conn->link->ops->unexpose(conn->ep, g->token[conn->shard]);
            g->token[conn->shard] = 0;
        }
}
