/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard_device_direct.c - results that network devices read from a device's
 * memory themselves.
 *
 * What they are shown is one block of ours, registered once for each link, with
 * a place for the result of each chunk: it is encoded or copied there by the
 * device, and stays until the last worker has it. Which way a result goes is
 * decided when it is formed, for all workers alike. A way that fails afterwards
 * is the transport's to replace; whoever comes back by another one is answered
 * from pinned memory, where the result is brought then.
 */
#include <string.h>

#include "shard/shard_device.h"

/* Shorter results travel with their headers, which a processor writes. */
#define DIRECT_MIN   8192u
#define COPY_SECONDS 10.0

/* --- which ways there are --- */

static bool
reaches(const shard_link *link)
{
    return link->ops->caps & GP_CAP_PEER_MEMORY;
}

/* Before what they wrote is read, in trials or as pushes. Results need it in
 * trials alone, which are made where nothing can be flushed, too. */
static void
set_flush(gp_shard_device *d, const gp_config *config)
{
    const char *mode = gp_config_get(config, "gdr_flush");
    gp_device_properties p;
    bool due;

    d->device->ops->properties(d->device, &p);
    due =
        strcmp(mode, "on") == 0 || (strcmp(mode, "auto") == 0 &&
                                    p.writes_ordering < GP_DEVICE_WRITES_OWNER);
    d->aside.flushes = due && p.host_flush;
    d->blind = due && !p.host_flush;
    if (d->blind)
        GP_INFO("%s cannot flush what network devices write: pushes land in "
                "pinned memory",
                d->name);
}

gp_status
gp_shard_direct_open(gp_shard *s, const gp_config *config)
{
    gp_shard_device *d = s->device;
    void *base = NULL;
    bool any = false;
    gp_status status;

    for (int i = 0; i < s->links; i++)
        any |= reaches(&s->link[i]);
    if (!d || !any)
        return GP_OK;
    set_flush(d, config);
    status = gp_aside_open(&d->aside, d->device, d->name, COPY_SECONDS);
    if (status == GP_OK)
        status = gp_device_arena_open(d->device, false, &d->shown);
    if (status == GP_OK)
        status = gp_device_arena_open(d->device, false, &d->landing);
    if (status == GP_OK)
        status = gp_device_arena_take(d->shown, GP_ARENA_SEGMENT, &base);
    for (int i = 0; status == GP_OK && i < s->links; i++)
        if (reaches(&s->link[i]))
            status =
                gp_aside_probe(&d->aside, s->link[i].ops, s->link[i].domain,
                               base, GP_ARENA_SEGMENT, &d->reached);
    gp_device_arena_give(d->shown, base);
    return status;
}

void
gp_shard_direct_close(gp_shard *s)
{
    gp_shard_device *d = s->device;

    if (d->direct_bytes)
        GP_INFO("%s: network devices have read %llu bytes of results", d->name,
                (unsigned long long)d->direct_bytes);
    if (d->landed_bytes)
        GP_INFO("%s: network devices have written %llu bytes of pushes",
                d->name, (unsigned long long)d->landed_bytes);
    gp_aside_close(&d->aside);
    gp_device_arena_close(d->shown);
    gp_device_arena_close(d->landing);
}

/* --- memory --- */

/* Of a result that leaves as the device forms it; 0: the host has a part in
 * it. */
static size_t
shown_bytes(const gp_chunk *c)
{
    size_t plain = c->info->count * sizeof(float), bytes = plain;

    if (!c->device || plain < DIRECT_MIN)
        return 0;
    if (c->tensor->device->pull)
        bytes = gp_pipeline_bound(c->tensor->pull, c->info->count);
    else if (!c->tensor->pull_dense)
        return 0;
    return (bytes + GP_ARENA_ALIGN - 1) & ~(GP_ARENA_ALIGN - 1);
}

static gp_status
register_shown(gp_shard *s)
{
    gp_shard_device *d = s->device;
    gp_status status = GP_OK;
    void *base = NULL;
    size_t bytes = 0;

    gp_device_arena_segment(d->shown, d->results, &base, &bytes);
    for (int i = 0; status == GP_OK && i < s->links; i++)
        if (reaches(&s->link[i]))
            status =
                s->link[i].ops->mem_reg_peer(s->link[i].domain, &d->aside.peer,
                                             base, bytes, &d->results_mem[i]);
    return status;
}

gp_status
gp_shard_shown_open(gp_shard *s)
{
    gp_shard_device *d = s->device;
    size_t at = 0;
    void *block = NULL;
    gp_status status;

    if (!d || !d->reached)
        return GP_OK;
    for (uint32_t i = 0; i < s->chunks; i++)
        if (!gp_add(at, shown_bytes(&s->chunk[i]), &at))
            return gp_fail(GP_ERR_TOO_LARGE, "%u chunks", s->chunks);
    if (at == 0)
        return GP_OK;
    status = gp_device_arena_take(d->shown, at, &block);
    if (status != GP_OK)
        return status;
    d->results = block;
    d->results_bytes = at;
    at = 0;
    for (uint32_t i = 0; i < s->chunks; i++) {
        size_t bytes = shown_bytes(&s->chunk[i]);

        if (bytes)
            s->chunk[i].device->shown = d->results + at;
        at += bytes;
    }
    return register_shown(s);
}

void
gp_shard_shown_close(gp_shard *s)
{
    gp_shard_device *d = s->device;

    if (!d)
        return;
    for (int i = 0; i < s->links; i++) {
        if (d->results_mem[i])
            s->link[i].ops->mem_dereg(d->results_mem[i]);
        d->results_mem[i] = NULL;
    }
    gp_device_arena_give(d->shown, d->results);
    d->results = NULL;
    d->results_bytes = 0;
}

gp_mem *
gp_shard_shown_find(const gp_shard *s, const gp_peer *peer, const void *payload)
{
    const gp_shard_device *d = s->device;

    return d && (uintptr_t)payload - (uintptr_t)d->results < d->results_bytes
               ? d->results_mem[peer->link_number]
               : NULL;
}

/* --- which way --- */

static bool
can_take(const gp_shard *s, const gp_peer *peer)
{
    const shard_link *link = &s->link[peer->link_number];
    gp_mem *mem = s->device->results_mem[peer->link_number];

    return mem && !link->checksum &&
           link->ops->peer_way(peer->ep, mem) != GP_DIRECT_STAGING;
}

void
gp_device_choose_way(gp_shard *s, gp_chunk *c)
{
    bool all = c->device->shown != NULL, any = false;

    for (int64_t r = 0; r < s->size && all; r++) {
        const gp_peer *peer = s->worker[r];

        if (!gp_rank_is_awaited(s, (uint32_t)r) || (!peer && s->left[r]))
            continue;
        all = peer && can_take(s, peer);
        any = true;
    }
    c->device->direct = all && any;
    c->device->brought = false;
}

/* The result where the host reads it. */
static gp_status
bring(gp_shard *s, gp_chunk *c)
{
    gp_chunk_device *x = c->device;
    bool encoded = c->tensor->device->pull != NULL;
    size_t bytes = encoded ? c->encoded_length : c->info->count * sizeof(float);
    gp_status status;

    if (x->brought)
        return GP_OK;
    status =
        gp_aside_copy(&s->device->aside,
                      encoded ? c->encoded : (void *)c->value, x->shown, bytes);
    if (status != GP_OK)
        gp_device_failed(s, c, status);
    x->brought = status == GP_OK;
    return status;
}

gp_status
gp_chunk_device_result(gp_shard *s, const gp_peer *peer, gp_chunk *c,
                       bool placed, const void **out)
{
    gp_chunk_device *x = c->device;

    if (!x->direct)
        return GP_OK;
    if (!placed || !can_take(s, peer))
        return bring(s, c);
    *out = x->shown;
    return GP_OK;
}

void
gp_shard_device_sent(gp_shard *s, uint64_t bytes)
{
    s->device->direct_bytes += bytes;
}
