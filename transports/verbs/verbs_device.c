/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_device.c - what a domain holds per device, and asynchronous events.
 *
 * rdma_cm opens a device once per process, so its asynchronous events come out
 * of one descriptor for all domains. Whoever is awake reads them, under the one
 * lock of this transport, leaves a notice with every domain that uses the
 * device, wakes it, and acknowledges last: a queue pair cannot be destroyed
 * before that, so a notice never names one that is gone already when it is
 * written. Everything else here belongs to one domain.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transports/verbs/verbs_limit.h"
#include "transports/verbs/verbs_peer.h"
#include "transports/verbs/verbs_port.h"

#define NOTICES 64u
/* Entries of a first completion queue; a device's further ones are larger. */
#define CQ_ENTRIES 4096u
/* Completion events that are acknowledged together: it takes a lock. */
#define ACK_BATCH 64u
/* What is looked for in the device before it is asked how much fits inline. */
#define INLINE_BYTES 256u

typedef struct notice {
    enum ibv_event_type type;
    uint32_t number;            /* of the queue pair, or of the port */
    const struct ibv_cq *queue; /* of CQ_ERR; perhaps another domain's */
} notice;

struct gp_vb_member {
    gp_list link; /* in members */
    struct ibv_context *verbs;
    int wake_fd;
    notice notices[NOTICES];
    uint32_t count;
    bool overflow;
    bool fatal;  /* the device is lost, which is never forgotten */
    bool queues; /* nor that one of its queues is, that had no place */
};

static pthread_mutex_t members_lock = PTHREAD_MUTEX_INITIALIZER;
static gp_list members = {&members, &members};

/* ---------------------------------------------------------------- devices */

static gp_status
set_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK))
        return gp_fail_errno(GP_ERR_SYSTEM, errno, "verbs: fcntl");
    return GP_OK;
}

/* Takes part in the asynchronous events of the device. */
static gp_status
join_members(gp_vb_device *device)
{
    gp_vb_member *m = calloc(1, sizeof(*m));

    if (!m)
        return gp_fail(GP_ERR_NO_MEMORY, "verbs: out of memory");
    m->verbs = device->verbs;
    m->wake_fd = device->domain->wake_fd;
    device->member = m;
    pthread_mutex_lock(&members_lock);
    gp_list_insert(&members, &m->link);
    pthread_mutex_unlock(&members_lock);
    return GP_OK;
}

static void
leave_members(gp_vb_device *device)
{
    if (!device->member)
        return;
    pthread_mutex_lock(&members_lock);
    gp_list_remove(&device->member->link);
    pthread_mutex_unlock(&members_lock);
    free(device->member);
    device->member = NULL;
}

static gp_status
watch_device(gp_vb_device *device)
{
    gp_domain *d = device->domain;
    gp_status status = set_nonblocking(device->verbs->async_fd);

    if (status == GP_OK)
        status = join_members(device);
    if (status == GP_OK)
        status = gp_vb_watch(d, device->verbs->async_fd, device);
    if (status != GP_OK)
        return status;
    device->channel = d->api->create_comp_channel(device->verbs);
    if (!device->channel)
        return gp_fail_errno(GP_ERR_SYSTEM, errno,
                             "verbs: no completion channel on %s",
                             device->name);
    status = set_nonblocking(device->channel->fd);
    if (status == GP_OK)
        status = gp_vb_watch(d, device->channel->fd, device);
    return status;
}

/* Type 2B: a key that is bound by a work request to one queue pair. */
static bool
has_windows(const gp_domain *d, const gp_vb_device *device)
{
    if (device->iwarp || d->windows < 0 || !d->api->alloc_mw)
        return false;
    return (device->attr.device_cap_flags & IBV_DEVICE_MEM_WINDOW_TYPE_2B) &&
           device->attr.max_mw > 0;
}

/* rdma_cm closes the context of a device that was removed, or made anew by its
 * driver, with the last id on it, whatever else is: what this domain has there
 * would be freed memory. */
static void
hold_context(gp_vb_device *device)
{
    const gp_verbs_api *api = device->domain->api;

    if (api->rdma_get_devices)
        device->held = api->rdma_get_devices(NULL);
    if (!device->held)
        GP_DEBUG("verbs: %s cannot be held: removing it is not safe",
                 device->name);
}

static gp_status
open_device(gp_domain *d, struct ibv_context *verbs, gp_vb_device **out)
{
    gp_vb_device *device = calloc(1, sizeof(*device));
    const char *name;
    gp_status status;
    int error;

    if (!device)
        return gp_fail(GP_ERR_NO_MEMORY, "verbs: out of memory");
    gp_list_init(&device->link);
    gp_list_init(&device->cqs);
    device->domain = d;
    device->verbs = verbs;
    name = d->api->get_device_name(verbs->device);
    strncpy(device->name, name ? name : "?", sizeof(device->name) - 1);
    error = d->api->query_device(verbs, &device->attr);
    if (error) {
        free(device);
        return gp_fail_errno(GP_ERR_SYSTEM, error, "verbs: query_device");
    }
    device->iwarp = verbs->device->transport_type == IBV_TRANSPORT_IWARP;
    device->windows = has_windows(d, device);
    device->max_inline = INLINE_BYTES;
    hold_context(device);
    status = watch_device(device);
    if (status != GP_OK) {
        gp_vb_device_close(device);
        return status;
    }
    gp_list_insert(&d->devices, &device->link);
    *out = device;
    return GP_OK;
}

gp_status
gp_vb_device_get(gp_domain *d, struct ibv_context *verbs, gp_vb_device **out)
{
    GP_LIST_EACH (item, &d->devices) {
        gp_vb_device *device = GP_CONTAINER_OF(item, gp_vb_device, link);

        if (device->verbs == verbs) {
            *out = device;
            return GP_OK;
        }
    }
    return open_device(d, verbs, out);
}

static void
destroy_cq(gp_vb_cq *cq)
{
    const gp_verbs_api *api = cq->device->domain->api;
    int error;

    /* It would wait for them. */
    if (cq->unacked)
        api->ack_cq_events(cq->cq, cq->unacked);
    error = api->destroy_cq(cq->cq);
    if (error)
        GP_WARN("verbs: a completion queue of %s could not be destroyed: %s",
                cq->device->name, strerror(error));
    gp_list_remove(&cq->link);
    free(cq);
}

void
gp_vb_device_close(gp_vb_device *device)
{
    gp_domain *d = device->domain;
    int error = 0;

    GP_LIST_EACH (item, &device->cqs)
        destroy_cq(GP_CONTAINER_OF(item, gp_vb_cq, link));
    if (device->channel) {
        gp_vb_unwatch(d, device->channel->fd);
        error = d->api->destroy_comp_channel(device->channel);
    }
    if (error)
        GP_WARN("verbs: a completion channel of %s could not be destroyed: %s",
                device->name, strerror(error));
    if (device->shared)
        gp_vb_pd_put(d, device->shared);
    gp_vb_unwatch(d, device->verbs->async_fd);
    leave_members(device);
    gp_list_remove(&device->link);
    if (device->held)
        d->api->rdma_free_devices(device->held);
    free(device);
}

/* ------------------------------------------------------ completion queues */

static gp_status
create_cq(gp_vb_device *device, uint32_t entries, gp_vb_cq **out)
{
    const gp_verbs_api *api = device->domain->api;
    uint32_t most = (uint32_t)GP_MAX(device->attr.max_cqe, 1);
    uint32_t wanted = CQ_ENTRIES;
    gp_vb_cq *cq;

    GP_LIST_EACH (item, &device->cqs)
        wanted = GP_MIN(wanted * 2, 1u << 20);
    wanted = GP_MIN(GP_MAX(wanted, entries), most);
    if (wanted < entries)
        return gp_fail(GP_ERR_UNSUPPORTED,
                       "verbs: %s has completion queues of %u entries, a queue "
                       "pair needs %u: lower GRADPUSH_IB_QUEUE and "
                       "GRADPUSH_IB_FRAMES",
                       device->name, most, entries);
    cq = calloc(1, sizeof(*cq));
    if (!cq)
        return gp_fail(GP_ERR_NO_MEMORY, "verbs: out of memory");
    cq->device = device;
    cq->cq = api->create_cq(device->verbs, (int)wanted, cq, device->channel, 0);
    if (!cq->cq) {
        int error = errno;

        free(cq);
        return gp_verbs_refused(api, error,
                                "no completion queue of %u entries on %s",
                                wanted, device->name);
    }
    cq->capacity = wanted;
    gp_list_insert(&device->cqs, &cq->link);
    *out = cq;
    return GP_OK;
}

gp_status
gp_vb_cq_join(gp_vb_device *device, uint32_t entries, gp_vb_cq **out)
{
    gp_vb_cq *found = NULL;
    gp_status status;

    GP_LIST_EACH (item, &device->cqs) {
        gp_vb_cq *cq = GP_CONTAINER_OF(item, gp_vb_cq, link);

        if (!found && !cq->broken && cq->capacity - cq->reserved >= entries)
            found = cq;
    }
    if (!found) {
        status = create_cq(device, entries, &found);
        if (status != GP_OK)
            return status;
    }
    found->reserved += entries;
    *out = found;
    return GP_OK;
}

void
gp_vb_cq_leave(gp_vb_cq *cq, uint32_t entries)
{
    cq->reserved -= entries;
    if (cq->broken && !cq->reserved)
        destroy_cq(cq);
}

void
gp_vb_device_drain(gp_vb_device *device)
{
    const gp_verbs_api *api = device->domain->api;
    struct ibv_cq *verbs_cq;
    void *user;

    while (api->get_cq_event(device->channel, &verbs_cq, &user) == 0) {
        gp_vb_cq *cq = user;

        if (++cq->unacked >= ACK_BATCH) {
            api->ack_cq_events(cq->cq, cq->unacked);
            cq->unacked = 0;
        }
    }
}

/* ----------------------------------------------------- protection domains */

static gp_status
take_slot(gp_domain *d, gp_vb_pd *pd)
{
    gp_vb_pd **grown;
    uint32_t i = 0, more;

    while (i < d->pd_slots && d->pds[i])
        i++;
    if (i == d->pd_slots) {
        more = d->pd_slots ? d->pd_slots * 2 : 8;
        grown = realloc(d->pds, more * sizeof(*grown));
        if (!grown)
            return gp_fail(GP_ERR_NO_MEMORY, "verbs: out of memory");
        memset(grown + d->pd_slots, 0, (more - d->pd_slots) * sizeof(*grown));
        d->pds = grown;
        d->pd_slots = more;
    }
    d->pds[i] = pd;
    pd->slot = i;
    return GP_OK;
}

static gp_status
create_pd(gp_vb_device *device, gp_vb_pd **out)
{
    gp_domain *d = device->domain;
    gp_vb_pd *pd = calloc(1, sizeof(*pd));
    gp_status status;
    int error;

    if (!pd)
        return gp_fail(GP_ERR_NO_MEMORY, "verbs: out of memory");
    pd->device = device;
    pd->users = 1;
    pd->pd = d->api->alloc_pd(device->verbs);
    if (!pd->pd) {
        error = errno;
        free(pd);
        return gp_fail_errno(
            GP_ERR_SYSTEM, error,
            "verbs: alloc_pd on %s; GRADPUSH_IB_DOMAINS=shared "
            "needs fewer",
            device->name);
    }
    status = take_slot(d, pd);
    if (status != GP_OK) {
        (void)d->api->dealloc_pd(pd->pd);
        free(pd);
        return status;
    }
    *out = pd;
    return GP_OK;
}

static gp_status
share_pd(gp_vb_device *device, gp_vb_pd **out)
{
    gp_status status = GP_OK;

    if (!device->shared)
        status = create_pd(device, &device->shared);
    if (status != GP_OK)
        return status;
    device->shared->users++;
    *out = device->shared;
    return GP_OK;
}

gp_status
gp_vb_pd_get(gp_endpoint *ep, gp_vb_device *device, gp_vb_pd **out)
{
    uint32_t i = 0;
    gp_status status;

    for (; i < GP_VB_PATH_MAX && ep->pd[i]; i++)
        if (ep->pd[i]->device == device) {
            *out = ep->pd[i];
            return GP_OK;
        }
    if (i == GP_VB_PATH_MAX)
        return gp_fail(GP_ERR_UNSUPPORTED, "verbs: a peer over %u devices",
                       GP_VB_PATH_MAX + 1);
    status = ep->domain->separate_domains ? create_pd(device, &ep->pd[i])
                                          : share_pd(device, &ep->pd[i]);
    if (status == GP_OK)
        *out = ep->pd[i];
    return status;
}

static void
free_pd(gp_domain *d, gp_vb_pd *pd)
{
    int error = d->api->dealloc_pd(pd->pd);

    if (error)
        GP_WARN("verbs: a protection domain of %s could not be freed: %s",
                pd->device->name, strerror(error));
    d->pds[pd->slot] = NULL;
    free(pd);
}

void
gp_vb_pd_put(gp_domain *d, gp_vb_pd *pd)
{
    if (--pd->users)
        return;
    gp_vb_mem_leave(d, pd);
    if (!pd->parked)
        free_pd(d, pd);
}

void
gp_vb_pd_unpark(gp_domain *d, gp_vb_pd *pd)
{
    if (!--pd->parked && !pd->users)
        free_pd(d, pd);
}

/* ---------------------------------------------------- asynchronous events */

static notice
notice_of(const struct ibv_async_event *event)
{
    notice n = {.type = event->event_type};

    switch (event->event_type) {
    case IBV_EVENT_QP_FATAL:
    case IBV_EVENT_QP_REQ_ERR:
    case IBV_EVENT_QP_ACCESS_ERR:
    case IBV_EVENT_PATH_MIG_ERR:
    case IBV_EVENT_COMM_EST:
        n.number = event->element.qp->qp_num;
        break;
    case IBV_EVENT_PORT_ERR:
    case IBV_EVENT_PORT_ACTIVE:
        n.number = (uint32_t)event->element.port_num;
        break;
    case IBV_EVENT_CQ_ERR:
        n.queue = event->element.cq;
        break;
    default:
        break;
    }
    return n;
}

static void
leave_notice(gp_vb_member *m, const notice *n)
{
    uint64_t one = 1;

    if (n->type == IBV_EVENT_DEVICE_FATAL) {
        m->fatal = true;
    } else if (m->count < NOTICES) {
        m->notices[m->count++] = *n;
    } else {
        m->overflow = true;
        m->queues |= n->type == IBV_EVENT_CQ_ERR;
    }
    (void)!write(m->wake_fd, &one, sizeof(one));
}

void
gp_vb_device_async(gp_vb_device *device)
{
    const gp_verbs_api *api = device->domain->api;
    struct ibv_async_event event;

    pthread_mutex_lock(&members_lock);
    while (api->get_async_event(device->verbs, &event) == 0) {
        notice n = notice_of(&event);

        GP_LIST_EACH (item, &members) {
            gp_vb_member *m = GP_CONTAINER_OF(item, gp_vb_member, link);

            if (m->verbs == device->verbs)
                leave_notice(m, &n);
        }
        api->ack_async_event(&event);
    }
    pthread_mutex_unlock(&members_lock);
}

/* The lane with that queue pair, or NULL: it may be another domain's. */
static gp_vb_lane *
find_lane(const gp_vb_device *device, uint32_t number)
{
    const gp_domain *d = device->domain;

    for (uint32_t i = 0; i < d->lane_slots; i++) {
        gp_vb_lane *lane = d->lanes[i];

        if (lane && lane->qp && lane->device == device &&
            lane->qp->qp_num == number)
            return lane;
    }
    return NULL;
}

static void
fail_lanes(gp_vb_device *device, bool all, const char *why)
{
    gp_domain *d = device->domain;

    for (uint32_t i = 0; i < d->lane_slots; i++) {
        gp_vb_lane *lane = d->lanes[i];

        if (lane && lane->qp && lane->device == device &&
            (all || lane->cq->broken))
            gp_vb_lane_failed(lane, GP_ERR_SYSTEM, "%s: %s%s", device->name,
                              why, device->gone ? "; see dmesg" : "");
    }
}

/* From here on nobody asks it anything. Its descriptors may be readable for
 * ever, which would let the domain never sleep. */
void
gp_vb_device_gone(gp_vb_device *device, const char *why)
{
    gp_domain *d = device->domain;

    device->gone = true;
    gp_vb_unwatch(d, device->verbs->async_fd);
    gp_vb_unwatch(d, device->channel->fd);
    fail_lanes(device, true, why);
}

/* A completion queue in error says nothing any more: what comes back does so on
 * another one. */
void
gp_vb_queues_broken(gp_domain *d, const char *why)
{
    GP_LIST_EACH (item, &d->devices)
        fail_lanes(GP_CONTAINER_OF(item, gp_vb_device, link), false, why);
}

/* NULL: which one is not known. */
static void
break_queues(gp_vb_device *device, const struct ibv_cq *which)
{
    const gp_verbs_api *api = device->domain->api;

    GP_LIST_EACH (item, &device->cqs) {
        gp_vb_cq *cq = GP_CONTAINER_OF(item, gp_vb_cq, link);

        cq->broken |= !which || cq->cq == which;
    }
    gp_vb_queues_broken(device->domain, api->event_type_str(IBV_EVENT_CQ_ERR));
}

static void
act_on(gp_vb_device *device, const notice *n)
{
    const gp_verbs_api *api = device->domain->api;
    gp_vb_lane *lane;

    switch (n->type) {
    case IBV_EVENT_QP_FATAL:
    case IBV_EVENT_QP_REQ_ERR:
    case IBV_EVENT_QP_ACCESS_ERR:
        lane = find_lane(device, n->number);
        if (lane && lane->ep->shows_peers)
            gp_vb_peer_access_failed(lane);
        if (lane)
            gp_vb_lane_failed(lane, GP_ERR_PEER_LOST, "qp 0x%x on %s: %s",
                              n->number, device->name,
                              api->event_type_str(n->type));
        break;
    case IBV_EVENT_COMM_EST:
        lane = find_lane(device, n->number);
        if (lane && lane->state == GP_VB_LANE_CONNECTING && lane->ep->accepted)
            (void)api->rdma_notify(lane->id, IBV_EVENT_COMM_EST);
        break;
    case IBV_EVENT_CQ_ERR:
        break_queues(device, n->queue);
        break;
    case IBV_EVENT_PORT_ERR:
    case IBV_EVENT_PORT_ACTIVE:
        GP_WARN("verbs: %s port %u: %s", device->name, n->number,
                api->event_type_str(n->type));
        if (n->type == IBV_EVENT_PORT_ERR)
            gp_vb_port_notice(device->domain, gp_clock_ns());
        break;
    default:
        GP_DEBUG("verbs: %s: %s", device->name, api->event_type_str(n->type));
        break;
    }
}

/* More came than were kept: the queue pairs and ports themselves know. */
static void
ask_queue_pairs(gp_vb_device *device)
{
    gp_domain *d = device->domain;

    gp_vb_port_notice(d, gp_clock_ns());
    for (uint32_t i = 0; i < d->lane_slots; i++) {
        gp_vb_lane *lane = d->lanes[i];
        struct ibv_qp_attr attr = {0};
        struct ibv_qp_init_attr init = {0};

        if (!lane || !lane->qp || lane->device != device)
            continue;
        if (d->api->query_qp(lane->qp, &attr, IBV_QP_STATE, &init) ||
            attr.qp_state == IBV_QPS_ERR)
            gp_vb_lane_failed(lane, GP_ERR_PEER_LOST, "qp 0x%x on %s failed",
                              lane->qp->qp_num, device->name);
    }
}

static void
device_notices(gp_vb_device *device)
{
    gp_vb_member *m = device->member;
    notice taken[NOTICES];
    bool overflow, fatal, queues;
    uint32_t count;

    pthread_mutex_lock(&members_lock);
    count = m->count;
    overflow = m->overflow;
    fatal = m->fatal && !device->gone;
    queues = m->queues;
    memcpy(taken, m->notices, count * sizeof(taken[0]));
    m->count = 0;
    m->overflow = m->queues = false;
    pthread_mutex_unlock(&members_lock);
    if (fatal)
        gp_vb_device_gone(device, "the device failed or was removed");
    for (uint32_t i = 0; i < count; i++)
        act_on(device, &taken[i]);
    if (queues)
        break_queues(device, NULL);
    if (overflow)
        ask_queue_pairs(device);
}

void
gp_vb_device_notices(gp_domain *d)
{
    uint64_t ignored;

    (void)!read(d->wake_fd, &ignored, sizeof(ignored));
    GP_LIST_EACH (item, &d->devices)
        device_notices(GP_CONTAINER_OF(item, gp_vb_device, link));
}
