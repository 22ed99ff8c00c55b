/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_peer.c - the ladder of ways between RDMA devices and the memory of
 * accelerators; see verbs_peer.h.
 *
 * That a registration succeeds does not prove that bytes get there: bridges and
 * IOMMUs stand between. So each way is tried with a WRITE from the accelerator
 * into itself, whose bytes are compared.
 */
#ifdef GP_HAVE_VERBS

#include "transports/verbs/verbs_peer.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transports/verbs/verbs_probe.h"

/* The longest that a loopback may take. */
#define LOOPBACK_SECONDS 3.0

static const char *const way_names[] = {
    [GP_DIRECT_DMABUF] = "DMA-BUF",
    [GP_DIRECT_PEERMEM] = "nvidia-peermem",
    [GP_DIRECT_STAGING] = "the host's memory",
};
static const char *
way_name(gp_direct way)
{
    return way_names[GP_MIN(way, GP_DIRECT_STAGING)];
}

static const char *const variables[] = {
    [GP_DIRECT_DMABUF] = "GRADPUSH_GDR_DMABUF",
    [GP_DIRECT_PEERMEM] = "GRADPUSH_GDR_PEERMEM",
};

static gp_vb_pair *
find_pair(const gp_domain *d, const gp_peer_memory *peer, const char *device)
{
    GP_LIST_EACH (item, (gp_list *)&d->pairs) {
        gp_vb_pair *p = GP_CONTAINER_OF(item, gp_vb_pair, link);

        if (p->peer == peer && strcmp(p->device, device) == 0)
            return p;
    }
    return NULL;
}

void
gp_vb_peers_free(gp_domain *d)
{
    gp_list *item;

    while ((item = gp_list_pop(&d->pairs)))
        free(GP_CONTAINER_OF(item, gp_vb_pair, link));
}

/* ----------------------------------------------------------- registration */

/* What is to be registered, and where. */
typedef struct range {
    const gp_verbs_api *api;
    const gp_peer_memory *peer;
    struct ibv_pd *pd;
    uint8_t *base;
    size_t bytes;
    int access;
} range;

static void
refused(int error, const char *call)
{
    gp_fail_errno(GP_ERR_UNSUPPORTED, error, "%s%s", call,
                  error == ENOMEM ? " (is BAR1 too small? see nvidia-smi -q)"
                                  : "");
}

/* The descriptor stands for whole pages around the range; the region has the
 * range's addresses, and its own reference to the memory. */
static struct ibv_mr *
by_dmabuf(const range *r)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), at = (uintptr_t)r->base;
    uintptr_t low = at & ~(page - 1);
    uintptr_t high = (at + r->bytes + page - 1) & ~(page - 1);
    struct ibv_mr *mr;
    int fd = -1, error;

    if (r->peer->export_range(r->peer->user, (void *)low, high - low, &fd) !=
        GP_OK)
        return NULL;
    mr = r->api->reg_dmabuf_mr(r->pd, at - low, r->bytes, at, fd, r->access);
    error = errno;
    (void)close(fd);
    if (!mr)
        refused(error, "ibv_reg_dmabuf_mr");
    errno = error;
    return mr;
}

static struct ibv_mr *
by_peermem(const range *r)
{
    struct ibv_mr *mr = r->api->reg_mr(r->pd, r->base, r->bytes, r->access);
    int error = errno;

    if (!mr)
        refused(error, "ibv_reg_mr of its memory");
    errno = error;
    return mr;
}

static struct ibv_mr *
register_by(gp_direct way, const range *r)
{
    return way == GP_DIRECT_DMABUF ? by_dmabuf(r) : by_peermem(r);
}

/* Payloads may be written in any order, where the device knows that. */
static struct ibv_mr *
register_bulk(gp_direct way, const range *r, const gp_domain *d)
{
    range relaxed = *r;
    struct ibv_mr *mr = NULL;

    relaxed.access |= IBV_ACCESS_RELAXED_ORDERING;
    if (d->relaxed >= 0)
        mr = register_by(way, &relaxed);
    if (!mr && (d->relaxed < 0 || errno != ENOMEM))
        mr = register_by(way, r);
    return mr;
}

static void
say_worse(const gp_vb_pair *p, gp_direct was)
{
    GP_WARN("verbs: %s cannot reach memory of %s by %s any more (%s); it goes "
            "through %s from now on",
            p->device, p->name, way_name(was), p->why[was], way_name(p->way));
}

/* One way down; false when the configuration insists on it. */
static bool
go_down(gp_vb_pair *p, const char *why)
{
    gp_direct was = p->way;

    p->works[was] = false;
    snprintf(p->why[was], sizeof(p->why[was]), "%.*s", GP_VB_PEER_TEXT - 1,
             why);
    while (p->way < GP_DIRECT_STAGING && !p->works[p->way])
        p->way++;
    if (p->domain->gdr[was] <= 0) {
        say_worse(p, was);
        return true;
    }
    p->way = GP_DIRECT_STAGING;
    gp_fail(GP_ERR_UNSUPPORTED,
            "%s=yes, but %s cannot reach memory of %s by %s any more: %s",
            variables[was], p->device, p->name, way_name(was), p->why[was]);
    return false;
}

static void break_endpoints(const gp_vb_pair *p);

struct ibv_mr *
gp_vb_peer_register(const gp_vb_mem *mem, const gp_vb_pd *pd, size_t offset,
                    size_t bytes, int access)
{
    gp_domain *d = pd->device->domain;
    gp_vb_pair *p = find_pair(d, mem->peer, pd->device->name);
    const range r = {d->api, mem->peer, pd->pd, mem->note.base + offset,
                     bytes,  access};

    while (p && p->way < GP_DIRECT_STAGING && !d->checksum) {
        struct ibv_mr *mr = register_bulk(p->way, &r, d);

        if (mr)
            return mr;
        if (!go_down(p, gp_last_error()))
            break_endpoints(p);
    }
    return NULL;
}

gp_status
gp_vb_mem_reg_peer(gp_domain *d, const gp_peer_memory *peer, void *base,
                   size_t bytes, gp_mem **out)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    gp_status status;

    if ((uintptr_t)base % page || bytes % page || !bytes)
        return gp_fail(GP_ERR_INVALID,
                       "mem_reg_peer: %zu bytes at %p are not whole pages: "
                       "what else lies in them would be shown as well",
                       bytes, base);
    status = gp_vb_mem_reg(d, base, bytes, out);
    if (status == GP_OK)
        ((gp_vb_mem *)*out)->peer = peer;
    return status;
}

/* The worst of all devices that this endpoint has lanes on, or may get. */
gp_direct
gp_vb_peer_way(const gp_endpoint *ep, const gp_mem *note)
{
    const gp_vb_mem *mem = (const gp_vb_mem *)note;
    gp_direct way = ep->pd[0] ? GP_DIRECT_DMABUF : GP_DIRECT_STAGING;

    if (!mem || !mem->peer || ep->domain->checksum)
        return GP_DIRECT_STAGING;
    for (uint32_t i = 0; i < GP_VB_PATH_MAX && ep->pd[i]; i++)
        if (!find_pair(ep->domain, mem->peer, ep->pd[i]->device->name))
            return GP_DIRECT_STAGING;
    GP_LIST_EACH (item, &ep->domain->pairs) {
        const gp_vb_pair *p = GP_CONTAINER_OF(item, gp_vb_pair, link);

        if (p->peer == mem->peer)
            way = GP_MAX(way, p->way);
    }
    return way;
}

bool
gp_vb_peer_describe(const gp_domain *d, const gp_peer_memory *peer, uint32_t n,
                    gp_direct *way, char *text, size_t capacity)
{
    GP_LIST_EACH (item, (gp_list *)&d->pairs) {
        const gp_vb_pair *p = GP_CONTAINER_OF(item, gp_vb_pair, link);
        int used;

        if (p->peer != peer || n-- > 0)
            continue;
        used = snprintf(text, capacity, "%s and %s: by %s", p->name, p->device,
                        way_name(p->way));
        for (int i = 0; i < (int)p->way; i++)
            if (used >= 0 && (size_t)used < capacity)
                used += snprintf(text + used, capacity - (size_t)used,
                                 "%s%s: %s", i ? "; " : "; not by ",
                                 way_name((gp_direct)i), p->why[i]);
        *way = p->way;
        return true;
    }
    return false;
}

/* ---------------------------------------------------------------- probing */

/* Folders below the host bridge that two devices share; -1: not known. */
static int
shared_bridges(const char *device, const char *bus)
{
    char path[PATH_MAX], card[PATH_MAX], gpu[PATH_MAX];
    unsigned domain, number, slot, function;
    int shared = 0;

    if (sscanf(bus, "%x:%x:%x.%x", &domain, &number, &slot, &function) != 4)
        return -1;
    snprintf(path, sizeof(path), "/sys/class/infiniband/%s/device", device);
    if (!realpath(path, card))
        return -1;
    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%04x:%02x:%02x.%x",
             domain, number, slot, function);
    if (!realpath(path, gpu) || strncmp(card, "/sys/devices/pci", 16) != 0)
        return -1;
    for (size_t i = 13; card[i] && card[i] == gpu[i]; i++)
        shared += card[i] == '/';
    return shared;
}

/* Without asking the device: what the system says. */
static gp_status
check_way(const gp_vb_pair *p, gp_direct way)
{
    const gp_domain *d = p->domain;
    int shared;

    if (d->gdr[way] < 0)
        return gp_fail(GP_ERR_UNSUPPORTED, "%s=no", variables[way]);
    if (d->checksum)
        return gp_fail(GP_ERR_UNSUPPORTED,
                       "GRADPUSH_CHECKSUM=on reads every payload with a "
                       "processor");
    if (!p->peer->reachable)
        return gp_fail(GP_ERR_UNSUPPORTED,
                       "the driver has no GPUDirect RDMA for %s", p->name);
    if (way == GP_DIRECT_DMABUF && !d->api->reg_dmabuf_mr)
        return gp_fail(GP_ERR_UNSUPPORTED,
                       "libibverbs has no ibv_reg_dmabuf_mr: it is older than "
                       "version 34");
    if (way == GP_DIRECT_DMABUF && !p->peer->exports)
        return gp_fail(GP_ERR_UNSUPPORTED,
                       "the driver does not export memory of %s: it takes open "
                       "kernel modules and CUDA 11.7",
                       p->name);
    if (way == GP_DIRECT_PEERMEM && !d->api->peer_memory())
        return gp_fail(GP_ERR_UNSUPPORTED, "nvidia-peermem is not loaded");
    shared = d->gdr[way] ? -1 : shared_bridges(p->device, p->peer->bus);
    if (shared == 0 || shared == 1)
        return gp_fail(GP_ERR_UNSUPPORTED,
                       "the way between leads through a processor, where it is "
                       "slow; %s=yes takes it all the same",
                       variables[way]);
    return GP_OK;
}

/* Two pages of the accelerator's memory, for a loopback. */
typedef struct trial {
    const gp_vb_pair *pair;
    gp_direct way;
    uint8_t *base;
    size_t bytes;
} trial;

static struct ibv_mr *
register_trial(void *user, struct ibv_pd *pd, int access)
{
    const trial *t = user;
    const gp_domain *d = t->pair->domain;
    const range r = {d->api, t->pair->peer, pd, t->base, t->bytes, access};

    return register_bulk(t->way, &r, d);
}

static gp_status
store_trial(void *user, void *to, const void *from, size_t bytes)
{
    const gp_peer_memory *peer = ((const trial *)user)->pair->peer;

    return peer->copy_in(peer->user, to, from, bytes);
}

static gp_status
load_trial(void *user, void *to, const void *from, size_t bytes)
{
    const gp_peer_memory *peer = ((const trial *)user)->pair->peer;

    return peer->copy_out(peer->user, to, from, bytes);
}

/* An address of this host that leads to the device. */
static const struct sockaddr *
address_of(const gp_domain *d, const char *device)
{
    size_t length = strlen(device);

    for (uint32_t i = 0; i < d->rails; i++)
        if (strncmp(d->rail[i].name, device, length) == 0 &&
            d->rail[i].name[length] == ':')
            return (const struct sockaddr *)&d->rail[i].address;
    for (uint32_t i = 0; i < d->lane_slots; i++) {
        const gp_vb_lane *lane = d->lanes[i];

        if (lane && lane->id && lane->device &&
            strcmp(lane->device->name, device) == 0 &&
            lane->id->route.addr.src_addr.sa_family != AF_UNSPEC)
            return &lane->id->route.addr.src_addr;
    }
    return NULL;
}

static gp_status
try_way(const gp_vb_pair *p, gp_direct way, void *base, size_t bytes)
{
    const struct sockaddr *address = address_of(p->domain, p->device);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    trial t = {p, way, base, bytes};
    gp_verbs_pages pages = {.user = &t,
                            .client = base,
                            .server = (uint8_t *)base + page,
                            .reg = register_trial,
                            .store = store_trial,
                            .load = load_trial};
    gp_verbs_loopback out;
    char why[GP_VB_PEER_TEXT];
    gp_status status = check_way(p, way);

    if (status != GP_OK)
        return status;
    if (!address)
        return gp_fail(GP_ERR_UNSUPPORTED,
                       "no address of this host leads to %s, to try it",
                       p->device);
    status = gp_verbs_probe_loopback_in(p->domain->api, address,
                                        LOOPBACK_SECONDS, &pages, &out);
    if (status == GP_OK || out.stage == GP_VERBS_MEMORY)
        return status;
    snprintf(why, sizeof(why), "%.*s", GP_VB_PEER_TEXT - 1, gp_last_error());
    return gp_fail(status, "a WRITE of one page to itself failed (%s): %s",
                   gp_verbs_stage_name(out.stage), why);
}

/* All ways are tried, those behind the first that works for when it fails. */
static gp_status
try_pair(gp_vb_pair *p, void *base, size_t bytes)
{
    p->way = GP_DIRECT_STAGING;
    for (gp_direct way = GP_DIRECT_DMABUF; way < GP_DIRECT_STAGING; way++) {
        gp_status status = try_way(p, way, base, bytes);

        p->works[way] = status == GP_OK;
        p->way = status == GP_OK ? GP_MIN(p->way, way) : p->way;
        if (status == GP_OK)
            continue;
        snprintf(p->why[way], sizeof(p->why[way]), "%s", gp_last_error());
        if (p->domain->gdr[way] > 0 && p->way == GP_DIRECT_STAGING)
            return gp_fail(GP_ERR_UNSUPPORTED,
                           "%s=yes, but %s cannot reach memory of %s by %s: %s",
                           variables[way], p->device, p->name, way_name(way),
                           p->why[way]);
    }
    return GP_OK;
}

static gp_status
probe_pair(gp_domain *d, const gp_peer_memory *peer, const char *device,
           void *base, size_t bytes)
{
    gp_vb_pair *p;
    gp_status status;

    if (find_pair(d, peer, device))
        return GP_OK;
    p = calloc(1, sizeof(*p));
    if (!p)
        return gp_fail(GP_ERR_NO_MEMORY, "verbs: out of memory");
    p->domain = d;
    p->peer = peer;
    snprintf(p->name, sizeof(p->name), "%.31s", peer->name);
    snprintf(p->device, sizeof(p->device), "%.63s", device);
    status = try_pair(p, base, bytes);
    if (status != GP_OK) {
        free(p);
        return status;
    }
    gp_list_insert(&d->pairs, &p->link);
    return GP_OK;
}

static void
say_pairs(const gp_domain *d, const gp_peer_memory *peer)
{
    char text[2 * GP_VB_PEER_TEXT + 200];
    gp_direct way;

    for (uint32_t n = 0;
         gp_vb_peer_describe(d, peer, n, &way, text, sizeof(text)); n++)
        GP_INFO("verbs: GPUDirect between %s", text);
}

gp_status
gp_vb_peer_probe(gp_domain *d, const gp_peer_memory *peer, void *base,
                 size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    gp_status status = GP_OK;

    if ((uintptr_t)base % page || bytes % page || bytes < 2 * page)
        return gp_fail(GP_ERR_INVALID, "peer_probe: %zu bytes at %p", bytes,
                       base);
    for (uint32_t i = 0; i < d->rails && status == GP_OK; i++) {
        char name[sizeof(d->rail[i].name)];

        snprintf(name, sizeof(name), "%s", d->rail[i].name);
        name[strcspn(name, ":")] = '\0';
        status = probe_pair(d, peer, name, base, bytes);
    }
    /* Where routes lead besides. */
    GP_LIST_EACH (item, &d->devices) {
        const gp_vb_device *device = GP_CONTAINER_OF(item, gp_vb_device, link);

        if (status == GP_OK)
            status = probe_pair(d, peer, device->name, base, bytes);
    }
    if (status == GP_OK)
        say_pairs(d, peer);
    return status;
}

/* ---------------------------------------------------------------- failing */

static bool
is_on(const gp_vb_lane *lane, const gp_vb_pair *p)
{
    return lane && lane->device && strcmp(lane->device->name, p->device) == 0;
}

/* The configuration insists on what does not work any more. */
static void
break_endpoints(const gp_vb_pair *p)
{
    const gp_domain *d = p->domain;

    for (uint32_t i = 0; i < d->lane_slots; i++)
        if (is_on(d->lanes[i], p))
            gp_vb_break(d->lanes[i], true, GP_ERR_UNSUPPORTED, "%s",
                        gp_last_error());
}

/* Whatever was registered so far may be what cannot be reached: all that the
 * device carries begins anew without it. */
static void
demote(gp_vb_pair *p, const char *why)
{
    gp_domain *d = p->domain;

    if (p->way == GP_DIRECT_STAGING || p->stale)
        return; /* one failure shows in many requests */
    p->stale = true;
    if (!go_down(p, why)) {
        break_endpoints(p);
        return;
    }
    for (uint32_t i = 0; i < d->lane_slots; i++)
        if (is_on(d->lanes[i], p) && d->lanes[i]->qp)
            gp_vb_break(d->lanes[i], false, GP_ERR_SYSTEM,
                        "memory of %s cannot be reached", p->name);
}

void
gp_vb_peer_posted(gp_vb_lane *lane, const gp_vb_mem *mem, uint32_t position)
{
    lane->direct = position;
    if (!lane->pair || lane->pair->peer != mem->peer)
        lane->pair = find_pair(lane->ep->domain, mem->peer, lane->device->name);
}

void
gp_vb_peer_request_failed(gp_vb_lane *lane, enum ibv_wc_status status)
{
    gp_vb_pair *p = lane->pair;
    char why[GP_VB_PEER_TEXT];

    /* Of those that have not ended by then: which one failed is not said where
     * completions are few. */
    if (!p || (int32_t)(lane->direct - lane->sq_retired) <= 0 ||
        (status != IBV_WC_LOC_PROT_ERR && status != IBV_WC_LOC_QP_OP_ERR &&
         status != IBV_WC_LOC_ACCESS_ERR && status != IBV_WC_REM_ACCESS_ERR &&
         status != IBV_WC_REM_OP_ERR))
        return;
    snprintf(why, sizeof(why), "a WRITE from there ended with '%s'",
             lane->ep->domain->api->wc_status_str(status));
    demote(p, why);
}

/* The peer wrote where the device did not let it. */
void
gp_vb_peer_access_failed(gp_vb_lane *lane)
{
    gp_endpoint *ep = lane->ep;

    for (uint32_t i = 0; i < ep->exposures; i++) {
        const gp_vb_exposure *x = &ep->exposure[i];
        gp_vb_pair *p;

        if (!x->token || !x->told || !x->mem->peer || !lane->device)
            continue;
        p = find_pair(ep->domain, x->mem->peer, lane->device->name);
        if (p)
            demote(p, "the device refused a WRITE of the peer's to there");
    }
}

static void
free_region(const gp_domain *d, struct ibv_mr **mr)
{
    int error = *mr ? d->api->dereg_mr(*mr) : 0;

    if (error)
        GP_WARN("verbs: a memory region could not be freed: %s",
                strerror(error));
    *mr = NULL;
}

static void
leave_keys(const gp_vb_pair *p, gp_vb_mem *mem)
{
    const gp_domain *d = p->domain;

    for (uint32_t i = 0; i < mem->keys; i++) {
        gp_vb_key *key = &mem->key[i];

        if (!d->pds[i] || strcmp(d->pds[i]->device->name, p->device) != 0)
            continue;
        free_region(d, &key->old);
        if (key->borrowed)
            key->mr = NULL;
        free_region(d, &key->mr);
        *key = (gp_vb_key){0};
    }
}

static void
leave_exposures(const gp_vb_pair *p, gp_list *endpoints)
{
    GP_LIST_EACH (item, endpoints) {
        gp_endpoint *ep = GP_CONTAINER_OF(item, gp_endpoint, link);

        for (uint32_t i = 0; i < ep->exposures; i++) {
            gp_vb_exposure *x = &ep->exposure[i];

            if (!x->token || x->mem->peer != p->peer)
                continue;
            for (uint32_t k = 0; k < GP_VB_PATH_MAX && ep->pd[k]; k++)
                if (strcmp(ep->pd[k]->device->name, p->device) == 0)
                    free_region(p->domain, &x->mr[k]);
        }
    }
}

void
gp_vb_peer_renew(gp_domain *d)
{
    GP_LIST_EACH (item, &d->pairs) {
        gp_vb_pair *p = GP_CONTAINER_OF(item, gp_vb_pair, link);

        if (!p->stale)
            continue;
        p->stale = false;
        GP_LIST_EACH (note, &d->mems) {
            gp_vb_mem *mem = GP_CONTAINER_OF(note, gp_vb_mem, link);

            if (mem->peer == p->peer)
                leave_keys(p, mem);
        }
        leave_exposures(p, &d->endpoints);
        leave_exposures(p, &d->lingering);
    }
}

/* ------------------------------------------------------------------ bytes */

bool
gp_vb_peer_load(gp_vb_lane *lane, const gp_vb_mem *mem, void *to,
                const void *from, size_t bytes)
{
    gp_status status = GP_OK;

    if (!mem || !mem->peer)
        memcpy(to, from, bytes);
    else
        status = mem->peer->copy_out(mem->peer->user, to, from, bytes);
    if (status != GP_OK)
        gp_vb_break(lane, true, status, "%s", gp_last_error());
    return status == GP_OK;
}

static const gp_vb_mem *
memory_of(const gp_endpoint *ep, uint32_t token)
{
    uint32_t index = token & 0xFFFFFu; /* see region.c */

    return index < ep->exposures && ep->exposure[index].token == token
               ? ep->exposure[index].mem
               : NULL;
}

bool
gp_vb_peer_store(gp_vb_lane *lane, uint32_t token, void *to, const void *from,
                 size_t bytes)
{
    const gp_vb_mem *mem =
        lane->ep->shows_peers ? memory_of(lane->ep, token) : NULL;
    gp_status status = GP_OK;

    if (!mem || !mem->peer)
        memcpy(to, from, bytes);
    else
        status = mem->peer->copy_in(mem->peer->user, to, from, bytes);
    if (status != GP_OK)
        gp_vb_break(lane, true, status, "%s", gp_last_error());
    return status == GP_OK;
}

#endif
