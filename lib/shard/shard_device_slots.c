/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard_device_slots.c - pushes that network devices write into a device's
 * memory themselves.
 *
 * A worker whose connection gets there has its landing slots twice, under the
 * same numbers: in pinned memory, and on the device for pushes that nobody but
 * kernels reads. It is told which these are, and takes the one or the other for
 * each push, so that slots are counted as ever. What has to leave its slot
 * before it is added is copied out by the device.
 *
 * A way that fails is the transport's to replace. Where none is left, what is
 * under way arrives in pieces that the device copies, and the worker is told to
 * come back to pinned memory.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shard/shard_device.h"

/* Shorter pushes travel with their headers, which a processor writes. */
#define LANDING_LEAST 8192u

_Static_assert(GP_CODEC_SET_MAX <= 8 * sizeof(gp_landing_bits),
               "a bit for each alternative");

/* --- who may --- */

static bool
gets_there(const gp_shard *s, const gp_peer *peer)
{
    const shard_link *link = &s->link[peer->link_number];
    const gp_shard_device *d = s->device;

    return d && d->reached && !d->blind && !link->checksum &&
           link->ops->caps & GP_CAP_PEER_MEMORY;
}

static gp_direct
way_of(const gp_peer *peer)
{
    return peer->ops->peer_way(peer->ep, peer->landing->mem);
}

static gp_landing_bits
bits_of(const shard_tensor *t)
{
    gp_landing_bits bits = 0;

    for (uint32_t i = 0; t->device && i < t->push.count; i++)
        if (gp_device_reads(&t->device->push[i]))
            bits |= (gp_landing_bits)(1u << i);
    return bits;
}

static bool
any_may_land(const gp_shard *s)
{
    for (uint32_t i = 0; i < s->chunks; i++) {
        const shard_tensor *t = s->chunk[i].tensor;

        if (bits_of(t) &&
            gp_codec_set_bound(&t->push, s->chunk[i].info->count) >=
                LANDING_LEAST)
            return true;
    }
    return false;
}

bool
gp_push_may_land(const gp_peer *peer, const gp_chunk *c, const gp_msg *m)
{
    const gp_device_slots *l = peer->landing;
    int codec = gp_codec_set_find(&c->tensor->push, m->pipeline);

    return l && l->region && m->region == l->region && m->type == GP_MSG_PUSH &&
           !(m->flags & GP_MSG_INIT) && codec >= 0 &&
           bits_of(c->tensor) >> codec & 1;
}

/* --- memory --- */

static gp_status
make_slots(gp_shard *s, gp_peer *peer)
{
    gp_shard_device *d = s->device;
    gp_device_slots *l = calloc(1, sizeof(*l));
    void *block = NULL;
    gp_status status;

    if (!l)
        return gp_fail(GP_ERR_NO_MEMORY, "landing slots");
    peer->landing = l;
    /* The same product as that of the pinned ones. */
    l->bytes = (s->slots * s->slot_bytes + GP_ARENA_SEGMENT - 1) &
               ~(GP_ARENA_SEGMENT - 1);
    status = gp_device_arena_take(d->landing, l->bytes, &block);
    l->base = block;
    if (status == GP_OK)
        status = peer->ops->mem_reg_peer(peer->domain, &d->aside.peer, l->base,
                                         l->bytes, &l->mem);
    if (status == GP_OK && way_of(peer) != GP_DIRECT_STAGING)
        status = peer->ops->expose(peer->ep, l->mem, 0, l->bytes,
                                   GP_REGION_LANDING, &l->region);
    return status;
}

void
gp_device_slots_close(gp_shard *s, gp_peer *peer)
{
    gp_device_slots *l = peer->landing;

    if (!l)
        return;
    if (l->region && !peer->dead)
        peer->ops->unexpose(peer->ep, l->region);
    if (l->mem)
        peer->ops->mem_dereg(l->mem);
    gp_device_arena_give(s->device->landing, l->base);
    free(l);
    peer->landing = NULL;
}

/* --- what the worker is told --- */

static gp_status
tell(gp_shard *s, gp_peer *peer)
{
    gp_msg msg = {.type = GP_MSG_LANDING,
                  .aux = peer->landing->region,
                  .elements = LANDING_LEAST,
                  .payload = s->list.count * sizeof(gp_landing_bits)};
    gp_landing_bits *bits = malloc(msg.payload);
    gp_status status;

    if (!bits)
        return gp_fail(GP_ERR_NO_MEMORY, "%u tensors", s->list.count);
    for (uint32_t i = 0; i < s->list.count; i++)
        bits[i] = bits_of(&s->tensor[i]);
    status = gp_peer_post(s, peer, &msg, bits, 0);
    free(bits);
    peer->landing->told = status == GP_OK;
    return status;
}

/* Tries again with the next push where there is no room for the message. */
static void
call_back(gp_shard *s, gp_peer *peer)
{
    gp_msg msg = {.type = GP_MSG_LANDING};

    if (gp_peer_post(s, peer, &msg, NULL, 0) != GP_OK)
        return;
    peer->landing->told = false;
    GP_INFO("shard %lld: pushes of worker %u land in pinned memory again",
            (long long)s->index, peer->rank);
}

static void
say_open(gp_shard *s, const gp_peer *peer)
{
    static const char *const names[] = {
        [GP_DIRECT_DMABUF] = "DMA-BUF", [GP_DIRECT_PEERMEM] = "nvidia-peermem"};

    GP_INFO("shard %lld: pushes of worker %u land in memory of %s, by %s",
            (long long)s->index, peer->rank, s->device->name,
            names[way_of(peer)]);
}

void
gp_device_slots_open(gp_shard *s, gp_peer *peer)
{
    gp_status status;

    if (!gets_there(s, peer) || !any_may_land(s))
        return;
    status = make_slots(s, peer);
    if (status == GP_OK && peer->landing->region &&
        way_of(peer) != GP_DIRECT_STAGING)
        status = tell(s, peer);
    if (status == GP_OK && peer->landing->told) {
        say_open(s, peer);
        return;
    }
    if (status != GP_OK)
        GP_WARN("shard %lld: pushes of worker %u land in pinned memory, not in "
                "that of %s: %s",
                (long long)s->index, peer->rank, s->device->name,
                gp_last_error());
    gp_device_slots_close(s, peer);
}

/* --- pushes --- */

void
gp_push_landed(gp_shard *s, gp_peer *peer, gp_entry *e)
{
    const gp_device_slots *l = peer->landing;

    e->landed = l && (uintptr_t)e->payload - (uintptr_t)l->base < l->bytes;
    if (!e->landed)
        return;
    s->device->unflushed = true;
    if (way_of(peer) != GP_DIRECT_STAGING)
        s->device->landed_bytes += e->length;
    else if (l->told)
        call_back(s, peer);
}

bool
gp_device_slots_flush(gp_shard *s)
{
    gp_shard_device *d = s->device;
    gp_status status = GP_OK;

    if (d->unflushed && d->aside.flushes)
        status = d->device->ops->flush_writes(d->device);
    d->unflushed = false;
    if (status != GP_OK)
        gp_device_failed(s, NULL, status);
    return status == GP_OK;
}

gp_status
gp_push_bring(gp_shard *s, const gp_entry *e, void *to)
{
    const gp_peer_memory *peer = &s->device->aside.peer;
    gp_status status = peer->copy_out(peer->user, to, e->payload, e->length);

    if (status != GP_OK)
        gp_device_failed(s, e->chunk, status);
    return status;
}
