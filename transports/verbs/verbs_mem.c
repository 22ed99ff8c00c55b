/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_mem.c - registered memory, and regions exposed to the peer.
 *
 * Memory is registered with a device when a peer on it first needs that, once
 * per protection domain for sending; each exposed range is registered for
 * remote writes by itself, in the domain of the one peer that may write there,
 * so that no key of one peer opens anything to another. Where the device has
 * windows of type 2 a range is opened on a queue pair instead, and closing it
 * ends access without waiting for anybody.
 */
#ifdef GP_HAVE_VERBS

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "transports/verbs/verbs_int.h"
#include "transports/verbs/verbs_limit.h"
#include "transports/verbs/verbs_peer.h"

#define INDEX_MASK 0xFFFFFu /* of a token: see region.c */

/* ----------------------------------------------------------- registration */

gp_status
gp_vb_memory_error(const gp_domain *d, int error, size_t bytes)
{
    return gp_verbs_refused(d->api, error,
                            "%zu bytes could not be registered with the device",
                            bytes);
}

/* Payloads may be written in any order: what tells that they are there is a
 * completion, never a byte of them. A device or kernel that does not know the
 * flag gets the call again without. */
static struct ibv_mr *
register_bulk(const gp_vb_pd *pd, void *base, size_t bytes, int access)
{
    const gp_domain *d = pd->device->domain;
    struct ibv_mr *mr = NULL;

    if (d->relaxed >= 0)
        mr = d->api->reg_mr(pd->pd, base, bytes,
                            access | IBV_ACCESS_RELAXED_ORDERING);
    if (!mr && (d->relaxed < 0 || errno != ENOMEM))
        mr = d->api->reg_mr(pd->pd, base, bytes, access);
    return mr;
}

gp_status
gp_vb_mem_reg(gp_domain *d, void *base, size_t bytes, gp_mem **out)
{
    uintptr_t end;
    gp_vb_mem *mem;

    if (!base && bytes)
        return gp_fail(GP_ERR_INVALID, "mem_reg: base is NULL");
    if (__builtin_add_overflow((uintptr_t)base, bytes, &end))
        return gp_fail(GP_ERR_INVALID, "mem_reg: %zu bytes at %p wrap around",
                       bytes, base);
    mem = calloc(1, sizeof(*mem));
    if (!mem)
        return gp_fail(GP_ERR_NO_MEMORY, "mem_reg: out of memory");
    mem->note = (gp_mem){base, bytes};
    mem->domain = d;
    gp_list_insert(&d->mems, &mem->link);
    *out = &mem->note;
    return GP_OK;
}

/* Nobody may use the memory any more, nor write into it. */
static void
leave_endpoints(gp_list *list, gp_vb_mem *mem)
{
    GP_LIST_EACH (item, list) {
        gp_endpoint *ep = GP_CONTAINER_OF(item, gp_endpoint, link);

        gp_vb_entries_leave(ep, mem);
        for (uint32_t i = 0; i < ep->exposures; i++)
            if (ep->exposure[i].token && ep->exposure[i].mem == mem)
                gp_vb_unexpose(ep, ep->exposure[i].token);
    }
}

static void
deregister(const gp_domain *d, struct ibv_mr **mr)
{
    int error = *mr ? d->api->dereg_mr(*mr) : 0;

    if (error)
        GP_WARN("verbs: a memory region could not be freed: %s",
                strerror(error));
    *mr = NULL;
}

static void
drop_key(gp_domain *d, gp_vb_mem *mem, uint32_t slot)
{
    gp_vb_key *key;

    if (slot >= mem->keys)
        return;
    key = &mem->key[slot];
    deregister(d, &key->old);
    if (!key->borrowed)
        deregister(d, &key->mr);
    *key = (gp_vb_key){0};
}

static void
detach(gp_domain *d, gp_vb_mem *mem)
{
    for (uint32_t i = 0; i < mem->keys; i++)
        drop_key(d, mem, i);
    gp_list_remove(&mem->link);
    mem->domain = NULL;
}

void
gp_vb_mem_dereg(gp_mem *note)
{
    gp_vb_mem *mem = (gp_vb_mem *)note;
    gp_domain *d;

    if (!mem)
        return;
    d = mem->domain;
    if (d) {
        leave_endpoints(&d->endpoints, mem);
        leave_endpoints(&d->lingering, mem);
        leave_endpoints(&d->retired, mem);
        detach(d, mem);
    }
    free(mem->key);
    free(mem);
}

void
gp_vb_mem_detach(gp_domain *d)
{
    GP_LIST_EACH (item, &d->mems)
        detach(d, GP_CONTAINER_OF(item, gp_vb_mem, link));
}

void
gp_vb_mem_leave(gp_domain *d, const gp_vb_pd *pd)
{
    GP_LIST_EACH (item, &d->mems)
        drop_key(d, GP_CONTAINER_OF(item, gp_vb_mem, link), pd->slot);
}

gp_vb_mem *
gp_vb_mem_find(gp_domain *d, const void *base, uint64_t bytes)
{
    const uint8_t *at = base;

    GP_LIST_EACH (item, &d->mems) {
        gp_vb_mem *mem = GP_CONTAINER_OF(item, gp_vb_mem, link);

        if (at >= mem->note.base &&
            (size_t)(at - mem->note.base) <= mem->note.bytes &&
            bytes <= mem->note.bytes - (size_t)(at - mem->note.base))
            return mem;
    }
    return NULL;
}

static bool
grow_keys(gp_vb_mem *mem, uint32_t slot)
{
    uint32_t keys = slot + 1 + slot / 2;
    gp_vb_key *key;

    if (slot < mem->keys)
        return true;
    key = realloc(mem->key, keys * sizeof(*key));
    if (!key)
        return false;
    memset(key + mem->keys, 0, (keys - mem->keys) * sizeof(*key));
    mem->key = key;
    mem->keys = keys;
    return true;
}

/* Windows need a right that regions of accelerators cannot have. In a domain
 * of one peer it is the region that the peer may be told of later. */
static gp_status
make_peer_key(gp_vb_mem *mem, const gp_vb_pd *pd)
{
    gp_vb_key *key = &mem->key[pd->slot];
    int access = IBV_ACCESS_LOCAL_WRITE;

    if (pd->device->domain->separate_domains)
        access |= IBV_ACCESS_REMOTE_WRITE;
    key->mr = gp_vb_peer_register(mem, pd, 0, mem->note.bytes, access);
    return key->mr ? GP_OK : GP_ERR_UNSUPPORTED;
}

/* All of an accelerator's memory that is sent from already. */
static struct ibv_mr *
adopt_key(const gp_endpoint *ep, const gp_vb_exposure *x, const gp_vb_pd *pd)
{
    gp_vb_mem *mem = x->mem;
    gp_vb_key *key = pd->slot < mem->keys ? &mem->key[pd->slot] : NULL;

    if (!ep->domain->separate_domains || x->offset || !key || !key->mr ||
        x->bytes != mem->note.bytes || key->borrowed)
        return NULL;
    key->borrowed = true;
    return key->mr;
}

static gp_status
make_key(gp_vb_mem *mem, const gp_vb_pd *pd)
{
    gp_vb_key *key;
    int access = 0, error;

    if (!grow_keys(mem, pd->slot))
        return gp_fail(GP_ERR_NO_MEMORY, "verbs: out of memory");
    if (mem->peer)
        return make_peer_key(mem, pd);
    key = &mem->key[pd->slot];
    if (key->refused || !mem->note.bytes)
        return gp_fail(GP_ERR_NO_MEMORY,
                       "verbs: the device refused this memory before");
    if (pd->device->windows)
        access = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_MW_BIND;
    key->mr = register_bulk(pd, mem->note.base, mem->note.bytes, access);
    if (!key->mr && access && errno != ENOMEM) { /* read-only memory, say */
        access = 0;
        key->mr = register_bulk(pd, mem->note.base, mem->note.bytes, access);
    }
    key->binds = access != 0;
    if (key->mr)
        return GP_OK;
    error = errno;
    key->refused = true;
    gp_vb_memory_error(pd->device->domain, error, mem->note.bytes);
    GP_WARN("%s; payloads there are copied before they are sent",
            gp_last_error());
    return error == ENOMEM ? GP_ERR_NO_MEMORY : GP_ERR_SYSTEM;
}

gp_status
gp_vb_mem_key(gp_vb_mem *mem, const gp_vb_pd *pd, uint32_t *lkey)
{
    if (pd->slot >= mem->keys || !mem->key[pd->slot].mr) {
        gp_status status = make_key(mem, pd);

        if (status != GP_OK)
            return status;
    }
    *lkey = mem->key[pd->slot].mr->lkey;
    return GP_OK;
}

/* ------------------------------------------------------- keys for sending */

/* Whether the lane has ended all requests up to a position, which may be so old
 * that the count has come round: what has not ended lies within the queue. */
static bool
has_ended(const gp_vb_lane *lane, uint32_t position)
{
    return !lane->qp || position - lane->sq_retired - 1 >= lane->sq_depth;
}

/* Until a request has ended, which the device does within a round trip, or
 * after a loss or two. What goes before, a window whose bind is under way, or a
 * region that is sent from, would take the queue pair with it. False: it is
 * still under way. */
static bool
await(gp_vb_lane *lane, uint32_t position)
{
    uint64_t deadline = gp_clock_ns() + GP_VB_DRAIN_NS;

    while (!has_ended(lane, position) && gp_list_empty(&lane->broken) &&
           !gp_expired(deadline))
        if (gp_vb_poll_batch(lane->cq) <= 0)
            (void)sched_yield();
    return has_ended(lane, position);
}

void
gp_vb_mem_tidy(gp_endpoint *ep)
{
    gp_domain *d = ep->domain;

    for (uint32_t i = 0; i < ep->lane_count; i++)
        if (ep->lane[i] && !has_ended(ep->lane[i], ep->lane[i]->stale))
            return;
    GP_LIST_EACH (item, &d->mems) {
        gp_vb_mem *mem = GP_CONTAINER_OF(item, gp_vb_mem, link);

        for (uint32_t i = 0; i < GP_VB_PATH_MAX && ep->pd[i]; i++)
            if (ep->pd[i]->slot < mem->keys)
                deregister(d, &mem->key[ep->pd[i]->slot].old);
    }
    ep->stale_keys = false;
}

/* The region of an exposure of all of a memory serves for sending from it too:
 * one less for each peer. One that was made for sending before goes as soon as
 * nothing is sent with its key any more. */
static void
lend_region(gp_endpoint *ep, const gp_vb_exposure *x, uint32_t path)
{
    gp_vb_mem *mem = x->mem;
    const gp_vb_pd *pd = ep->pd[path];
    gp_vb_key *key;

    if (!ep->domain->separate_domains || x->offset ||
        x->bytes != mem->note.bytes || !grow_keys(mem, pd->slot))
        return;
    key = &mem->key[pd->slot];
    if (key->borrowed || key->binds || key->old)
        return;
    key->old = key->mr;
    key->mr = x->mr[path];
    key->borrowed = true;
    if (!key->old)
        return;
    ep->stale_keys = true;
    for (uint32_t i = 0; i < ep->lane_count; i++)
        if (ep->lane[i])
            ep->lane[i]->stale = ep->lane[i]->written;
    gp_vb_mem_tidy(ep);
}

/* The region goes: what is sent with its key comes first, which takes as long
 * as the peer's device needs to answer. */
static void
take_back_region(gp_endpoint *ep, const gp_vb_exposure *x, uint32_t path)
{
    const gp_vb_pd *pd = ep->pd[path];
    gp_vb_key *key =
        pd && pd->slot < x->mem->keys ? &x->mem->key[pd->slot] : NULL;

    if (!key || !key->borrowed || key->mr != x->mr[path])
        return;
    key->mr = NULL;
    key->borrowed = false;
    for (uint32_t i = 0; i < ep->lane_count; i++) {
        gp_vb_lane *lane = ep->lane[i];

        if (!lane || lane->pd != pd)
            continue;
        if (!await(lane, lane->written))
            gp_vb_lane_failed(lane, GP_ERR_TIMEOUT,
                              "memory is withdrawn that is being sent from");
    }
}

/* --------------------------------------------------------------- exposing */

static gp_vb_exposure *
find_exposure(gp_endpoint *ep, uint32_t token)
{
    uint32_t index = token & INDEX_MASK;

    if (!token || index >= ep->exposures || ep->exposure[index].token != token)
        return NULL;
    return &ep->exposure[index];
}

static gp_vb_exposure *
new_exposure(gp_endpoint *ep, uint32_t token)
{
    uint32_t index = token & INDEX_MASK, n = ep->exposures;

    if (index >= n) {
        gp_vb_exposure *grown;

        n = index + 1 + n;
        grown = realloc(ep->exposure, n * sizeof(*grown));
        if (!grown)
            return NULL;
        memset(grown + ep->exposures, 0, (n - ep->exposures) * sizeof(*grown));
        ep->exposure = grown;
        ep->exposures = n;
    }
    ep->exposure[index] = (gp_vb_exposure){.token = token};
    return &ep->exposure[index];
}

static uint32_t
path_of(const gp_endpoint *ep, const gp_vb_pd *pd)
{
    uint32_t i = 0;

    while (i < GP_VB_PATH_MAX - 1 && ep->pd[i] != pd)
        i++;
    return i;
}

/*
 * Devices hand out keys in steps that can be guessed. Up to three regions that
 * are given back at once make the step to the next key random, so that a key
 * of one region does not tell those after it. It is a hurdle, not a wall: the
 * wall is the protection domain of each peer.
 */
static void
skip_keys(const gp_vb_pd *pd, void *base, size_t bytes)
{
    const gp_verbs_api *api = pd->device->domain->api;
    struct ibv_mr *mr[3] = {NULL};
    uint8_t count = 0;

    (void)!gp_random(&count, sizeof(count));
    for (uint8_t i = 0; i < count % 4; i++)
        mr[i] = api->reg_mr(pd->pd, base, GP_MIN(bytes, (size_t)64),
                            IBV_ACCESS_LOCAL_WRITE);
    for (size_t i = 0; i < GP_COUNT_OF(mr); i++)
        if (mr[i])
            (void)api->dereg_mr(mr[i]);
}

static gp_status
register_exposure(gp_endpoint *ep, gp_vb_exposure *x, uint32_t path)
{
    const int access = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE;
    const gp_vb_pd *pd = ep->pd[path];
    uint8_t *base = x->mem->note.base + x->offset;
    bool direct = x->mem->peer;

    if (x->mr[path] || !x->bytes || (pd->device->windows && !direct))
        return GP_OK;
    if (ep->domain->separate_domains && !x->told)
        skip_keys(pd, direct ? ep->slab : base,
                  direct ? ep->slab_bytes : x->bytes);
    if (direct && (x->mr[path] = adopt_key(ep, x, pd)))
        return GP_OK;
    if (direct)
        x->mr[path] =
            gp_vb_peer_register(x->mem, pd, x->offset, x->bytes, access);
    else
        x->mr[path] = register_bulk(pd, base, x->bytes, access);
    if (!x->mr[path])
        return direct ? GP_OK : gp_vb_memory_error(ep->domain, errno, x->bytes);
    lend_region(ep, x, path);
    return GP_OK;
}

/* Who waited once in vain does not for the next: the queue pair goes, and its
 * windows with it. */
static int
free_window(gp_vb_lane *lane, gp_vb_exposure *x)
{
    struct ibv_mw **window = &x->window[lane->index];

    if (!await(lane, x->bound[lane->index]) && gp_list_empty(&lane->broken))
        gp_vb_lane_failed(lane, GP_ERR_TIMEOUT,
                          "a region is withdrawn whose window is not bound");
    return *window ? lane->ep->domain->api->dealloc_mw(*window) : 0;
}

/* After this no device writes there for the peer. */
static void
shut(gp_endpoint *ep, gp_vb_exposure *x)
{
    const gp_verbs_api *api = ep->domain->api;
    int error = 0;

    for (uint32_t i = 0; i < GP_VB_LANES_MAX; i++)
        if (x->window[i])
            error |= free_window(ep->lane[i], x);
    for (uint32_t i = 0; i < GP_VB_PATH_MAX; i++)
        if (x->mr[i]) {
            take_back_region(ep, x, i);
            error |= api->dereg_mr(x->mr[i]);
        }
    if (error)
        GP_WARN("verbs %s: an exposed region could not be freed", ep->peer);
    *x = (gp_vb_exposure){0};
}

static gp_status
tell_lanes(gp_endpoint *ep, uint32_t token)
{
    gp_status status = GP_OK;
    uint8_t bytes[4];

    gp_put32(bytes, token);
    for (uint32_t i = 0; i < ep->lane_count && status == GP_OK; i++) {
        gp_vb_lane *lane = ep->lane[i];

        /* Others get it in gp_vb_expose_all(). */
        if (lane && lane->qp && lane->met)
            status = gp_vb_lane_note(lane, GP_VB_RECORD_EXPOSE, 1, bytes,
                                     sizeof(bytes));
    }
    return status;
}

static gp_status
open_exposure(gp_endpoint *ep, uint32_t token, gp_vb_mem *mem, size_t offset,
              size_t bytes)
{
    gp_vb_exposure *x = new_exposure(ep, token);
    gp_status status = GP_OK;

    if (!x)
        return gp_fail(GP_ERR_NO_MEMORY, "expose: out of memory");
    x->mem = mem;
    x->offset = offset;
    x->bytes = bytes;
    ep->shows_peers |= mem->peer != NULL;
    for (uint32_t i = 0; i < GP_VB_PATH_MAX && status == GP_OK; i++)
        if (ep->pd[i])
            status = register_exposure(ep, x, i);
    if (status == GP_OK)
        status = tell_lanes(ep, token);
    return status;
}

bool
gp_vb_opens_parts(const gp_endpoint *ep)
{
    bool opens = true;

    for (uint32_t i = 0; i < GP_VB_PATH_MAX; i++)
        opens &= !ep->pd[i] || ep->pd[i]->device->windows;
    return opens;
}

gp_status
gp_vb_expose(gp_endpoint *ep, gp_mem *mem, size_t offset, size_t bytes,
             uint32_t flags, uint32_t *token)
{
    uint32_t made;
    gp_status status =
        gp_regions_expose(&ep->regions, mem, offset, bytes, flags, &made);

    if (status != GP_OK)
        return status;
    if (bytes && ep->state != GP_VB_CLOSED)
        status = open_exposure(ep, made, (gp_vb_mem *)mem, offset, bytes);
    if (status != GP_OK) {
        gp_vb_unexpose(ep, made);
        return status;
    }
    *token = made;
    return GP_OK;
}

void
gp_vb_unexpose(gp_endpoint *ep, uint32_t token)
{
    gp_vb_exposure *x = find_exposure(ep, token);
    bool told = x && x->told;
    uint8_t bytes[4];

    gp_regions_withdraw(&ep->regions, token);
    if (!x)
        return;
    shut(ep, x);
    gp_vb_unnote(ep, token);
    gp_put32(bytes, token);
    if (told && (ep->state == GP_VB_OPEN || ep->state == GP_VB_CONNECTING) &&
        gp_vb_note(ep, GP_VB_RECORD_UNEXPOSE, 0, bytes, sizeof(bytes)) != GP_OK)
        gp_vb_ep_fail(ep, GP_ERR_NO_MEMORY, "no memory to withdraw a region");
}

gp_status
gp_vb_expose_all(gp_vb_lane *lane)
{
    gp_endpoint *ep = lane->ep;
    gp_status status = GP_OK;
    uint8_t bytes[4];

    for (uint32_t i = 0; i < ep->exposures && status == GP_OK; i++) {
        if (!ep->exposure[i].token)
            continue;
        gp_put32(bytes, ep->exposure[i].token);
        status =
            gp_vb_lane_note(lane, GP_VB_RECORD_EXPOSE, 1, bytes, sizeof(bytes));
    }
    return status;
}

/* Opens the range on the lane's queue pair; the request is posted before the
 * frame that tells the key. */
static bool
bind_window(gp_vb_lane *lane, gp_vb_exposure *x, struct ibv_send_wr *wr,
            uint32_t *key)
{
    struct ibv_mw **window = &x->window[lane->index];
    uint32_t lkey;

    if (gp_vb_mem_key(x->mem, lane->pd, &lkey) != GP_OK)
        return false;
    if (!*window)
        *window = lane->ep->domain->api->alloc_mw(lane->pd->pd, IBV_MW_TYPE_2);
    if (!*window)
        return false;
    /* Drivers find the window by the key it has before the bind; it is bound
     * once in its life, so that one may stay where it is kept. */
    *key = ibv_inc_rkey((*window)->rkey);
    x->bound[lane->index] = gp_vb_wr_position(lane, wr->wr_id);
    wr->opcode = IBV_WR_BIND_MW;
    wr->imm_data = 0;
    wr->bind_mw.mw = *window;
    wr->bind_mw.rkey = *key;
    wr->bind_mw.bind_info = (struct ibv_mw_bind_info){
        .mr = x->mem->key[lane->pd->slot].mr,
        .addr = (uint64_t)(uintptr_t)(x->mem->note.base + x->offset),
        .length = x->bytes,
        .mw_access_flags = IBV_ACCESS_REMOTE_WRITE};
    return true;
}

bool
gp_vb_expose_fill(gp_vb_lane *lane, uint32_t token, uint8_t *bytes,
                  struct ibv_send_wr *wr)
{
    gp_endpoint *ep = lane->ep;
    gp_vb_exposure *x = find_exposure(ep, token);
    uint32_t key = 0, path = path_of(ep, lane->pd);

    if (!x)
        return false;
    if (lane->device->windows && !x->mem->peer) {
        if (!bind_window(lane, x, wr, &key)) {
            GP_DEBUG("verbs %s: no window for a region of %zu bytes", ep->peer,
                     x->bytes);
            return false;
        }
    } else if (register_exposure(ep, x, path) != GP_OK) {
        GP_WARN("%s; its data comes in small frames", gp_last_error());
        return false;
    } else if (!x->mr[path]) {
        return false; /* an accelerator's that the device does not reach */
    } else {
        key = x->mr[path]->rkey;
    }
    gp_put32(bytes, token);
    gp_put32(bytes + 4, key);
    gp_put64(bytes + 8, (uint64_t)(uintptr_t)(x->mem->note.base + x->offset));
    gp_put64(bytes + 16, x->bytes);
    x->told = true;
    return true;
}

void
gp_vb_windows_drop(gp_vb_lane *lane)
{
    gp_endpoint *ep = lane->ep;

    for (uint32_t i = 0; i < ep->exposures; i++) {
        struct ibv_mw **window = &ep->exposure[i].window[lane->index];

        if (*window && ep->domain->api->dealloc_mw(*window))
            GP_WARN("verbs %s: a memory window could not be freed", ep->peer);
        *window = NULL;
    }
}

void
gp_vb_mem_close(gp_endpoint *ep)
{
    for (uint32_t i = 0; i < ep->exposures; i++)
        if (ep->exposure[i].token)
            shut(ep, &ep->exposure[i]);
    free(ep->exposure);
    ep->exposure = NULL;
    ep->exposures = 0;
    gp_regions_free(&ep->regions);
    free(ep->remote);
    ep->remote = NULL;
    ep->remotes = 0;
}

#endif
