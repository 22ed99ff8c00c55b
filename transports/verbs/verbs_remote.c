/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_remote.c - regions that the peer exposed to us, and the bounce buffer
 * for payloads that cannot be sent from where they lie.
 *
 * Words of the peer about one region may come over several lanes and overtake
 * one another: tokens of one index only grow, and withdrawn is for good.
 */
#ifdef GP_HAVE_VERBS

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "transports/verbs/verbs_int.h"

#define INDEX_BITS 20u
#define INDEX_MASK ((1u << INDEX_BITS) - 1)

/* How far beyond those known an index may lie: peers use them in order. */
#define REMOTE_AHEAD 256u
/* The most that are kept for a peer that has not proven who it is. */
#define REMOTE_UNTRUSTED 1024u

#define BOUNCE_CHUNKS 8u
#define BOUNCE_BYTES  (128u << 10) /* of each */

/* ---------------------------------------------------------------- regions */

/* NULL: too far away to be kept, which costs speed only. */
static gp_vb_remote *
slot_of(gp_endpoint *ep, uint32_t token, gp_status *status)
{
    uint32_t index = token & INDEX_MASK, n = ep->remotes;
    gp_vb_remote *grown;

    *status = GP_OK;
    if (index < n)
        return &ep->remote[index];
    if (index >= 2 * n + REMOTE_AHEAD ||
        (!ep->trusted && index >= REMOTE_UNTRUSTED))
        return NULL;
    n = GP_MAX(index + 1, 2 * n);
    grown = realloc(ep->remote, n * sizeof(*grown));
    if (!grown) {
        *status = GP_ERR_NO_MEMORY;
        return NULL;
    }
    memset(grown + ep->remotes, 0, (n - ep->remotes) * sizeof(*grown));
    ep->remote = grown;
    ep->remotes = n;
    return &ep->remote[index];
}

static bool
is_older(uint32_t token, uint32_t than)
{
    return token >> INDEX_BITS < than >> INDEX_BITS;
}

gp_status
gp_vb_remote_set(gp_vb_lane *lane, uint8_t flags, const uint8_t *bytes,
                 size_t length)
{
    gp_reader r = {bytes, length, true};
    uint32_t token = gp_read32(&r), key = gp_read32(&r);
    uint64_t address = gp_read64(&r), size = gp_read64(&r), end;
    gp_vb_remote *remote;
    gp_status status;

    if (!r.ok || r.left || !token ||
        __builtin_add_overflow(address, size, &end))
        return GP_ERR_PROTOCOL;
    remote = slot_of(lane->ep, token, &status);
    if (!remote)
        return status;
    if (remote->token != token) {
        if (is_older(token, remote->token))
            return GP_OK;
        *remote = (gp_vb_remote){.token = token};
    }
    if (remote->withdrawn)
        return GP_OK;
    remote->address = address;
    remote->bytes = size;
    for (uint32_t i = 0; i < GP_VB_LANES_MAX; i++)
        if (i == lane->index || !(flags & 1)) {
            remote->key[i] = key;
            remote->lanes |= 1u << i;
        }
    return GP_OK;
}

gp_status
gp_vb_remote_clear(gp_endpoint *ep, const uint8_t *bytes, size_t length)
{
    gp_reader r = {bytes, length, true};
    uint32_t token = gp_read32(&r);
    gp_vb_remote *remote;
    gp_status status;

    if (!r.ok || r.left || !token)
        return GP_ERR_PROTOCOL;
    remote = slot_of(ep, token, &status);
    if (!remote || is_older(token, remote->token))
        return status;
    *remote = (gp_vb_remote){.token = token, .withdrawn = true};
    return GP_OK;
}

void
gp_vb_remote_leave(gp_vb_lane *lane)
{
    gp_endpoint *ep = lane->ep;

    for (uint32_t i = 0; i < ep->remotes; i++)
        ep->remote[i].lanes &= ~(1u << lane->index);
}

const gp_vb_remote *
gp_vb_remote_find(const gp_endpoint *ep, uint32_t token, uint64_t offset,
                  uint64_t length, bool *withdrawn)
{
    uint32_t index = token & INDEX_MASK;
    const gp_vb_remote *remote;

    *withdrawn = false;
    if (index >= ep->remotes)
        return NULL;
    remote = &ep->remote[index];
    if (remote->token != token) {
        *withdrawn = token >> INDEX_BITS && is_older(token, remote->token);
        return NULL;
    }
    *withdrawn = remote->withdrawn;
    if (remote->withdrawn || offset > remote->bytes ||
        length > remote->bytes - offset)
        return NULL;
    return remote;
}

/* ----------------------------------------------------------------- bounce */

struct gp_vb_bounce {
    uint8_t *bytes;
    gp_mem *mem;
    struct {
        const gp_vb_lane *lane; /* NULL: free */
        uint32_t position;
    } chunk[BOUNCE_CHUNKS];
};

static bool
make_bounce(gp_endpoint *ep)
{
    struct gp_vb_bounce *b = calloc(1, sizeof(*b));

    if (!b)
        return false;
    b->bytes = gp_alloc_aligned(BOUNCE_CHUNKS * (size_t)BOUNCE_BYTES);
    if (!b->bytes ||
        gp_vb_mem_reg(ep->domain, b->bytes,
                      BOUNCE_CHUNKS * (size_t)BOUNCE_BYTES, &b->mem) != GP_OK) {
        free(b->bytes);
        free(b);
        return false;
    }
    ep->bounce = b;
    return true;
}

uint8_t *
gp_vb_bounce_take(gp_vb_lane *lane, uint32_t position, size_t *room,
                  uint32_t *lkey)
{
    gp_endpoint *ep = lane->ep;
    struct gp_vb_bounce *b;

    if ((!ep->bounce && !make_bounce(ep)) ||
        gp_vb_mem_key((gp_vb_mem *)ep->bounce->mem, lane->pd, lkey) != GP_OK) {
        gp_vb_break(lane, true, GP_ERR_NO_MEMORY,
                    "no memory to copy payloads that are not registered");
        return NULL;
    }
    b = ep->bounce;
    for (uint32_t i = 0; i < BOUNCE_CHUNKS; i++) {
        if (b->chunk[i].lane)
            continue;
        b->chunk[i].lane = lane;
        b->chunk[i].position = position;
        *room = BOUNCE_BYTES;
        return b->bytes + i * (size_t)BOUNCE_BYTES;
    }
    return NULL;
}

void
gp_vb_bounce_give(gp_vb_lane *lane, uint32_t position, bool all)
{
    struct gp_vb_bounce *b = lane->ep->bounce;

    for (uint32_t i = 0; i < BOUNCE_CHUNKS; i++)
        if (b->chunk[i].lane == lane &&
            (all || (int32_t)(b->chunk[i].position - position) <= 0))
            b->chunk[i].lane = NULL;
}

void
gp_vb_bounce_free(gp_endpoint *ep)
{
    if (!ep->bounce)
        return;
    gp_vb_mem_dereg(ep->bounce->mem);
    free(ep->bounce->bytes);
    free(ep->bounce);
    ep->bounce = NULL;
}

#endif
