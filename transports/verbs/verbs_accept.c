/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_accept.c - from a stranger's request to a lane of an endpoint.
 *
 * A request carries a hello. Without a good one it costs nothing but the
 * answer; with one it takes a queue pair and pins memory, so such requests are
 * counted until their lane is established, and have a deadline; and the memory
 * until the engine trusts the peer.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "transports/address.h"
#include "transports/verbs/verbs_port.h"

#define BACKLOG     1024
#define PENDING_MAX 64u
/* What may be pinned for peers that have not proven who they are: a job without
 * a token lets everybody come that far, and a proof can be replayed. One such
 * peer is let in whatever it costs. */
#define STRANGER_BYTES (64u << 20)

/* -------------------------------------------------------------- listening */

static bool
is_loopback(const struct sockaddr_storage *name, union ibv_gid *gid)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;

    memset(gid, 0, sizeof(*gid));
    if (name->ss_family == AF_INET6) {
        memcpy(&v6, name, sizeof(v6));
        memcpy(gid->raw, &v6.sin6_addr, sizeof(gid->raw));
        return IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr);
    }
    memcpy(&v4, name, sizeof(v4));
    gid->raw[10] = gid->raw[11] = 0xff;
    memcpy(gid->raw + 12, &v4.sin_addr, 4);
    return ntohl(v4.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
}

/* The kernel lets anyone listen on a loopback address, with some device, but
 * or none, but nobody can connect to it when no device has the address. */
static bool
leads_nowhere(const gp_domain *d, const struct rdma_cm_id *id,
              const gp_address *a)
{
    struct ibv_port_attr port = {0};
    union ibv_gid wanted, gid;

    if (!is_loopback(&a->name, &wanted))
        return false;
    if (!id->verbs || d->api->query_port(id->verbs, id->port_num, &port))
        return true;
    if (id->verbs->device->transport_type == IBV_TRANSPORT_IWARP)
        return false;
    for (int i = 0; i < port.gid_tbl_len; i++)
        if (!d->api->query_gid(id->verbs, id->port_num, i, &gid) &&
            !memcmp(&gid, &wanted, sizeof(gid)))
            return false;
    return true;
}

static int
open_listener(gp_domain *d, gp_address *a)
{
    struct rdma_cm_id *id = NULL;
    int error = d->api->rdma_create_id(d->channel, &id, NULL, RDMA_PS_TCP);

    if (error)
        return error;
    error = d->api->rdma_bind_addr(id, (struct sockaddr *)&a->name);
    if (!error && leads_nowhere(d, id, a))
        error = EADDRNOTAVAIL;
    if (!error)
        error = d->api->rdma_listen(id, BACKLOG);
    if (error)
        (void)d->api->rdma_destroy_id(id);
    else
        d->listener = id;
    return error;
}

static void
set_port(struct sockaddr_storage *name, uint16_t port)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;

    if (name->ss_family == AF_INET6) {
        memcpy(&v6, name, sizeof(v6));
        v6.sin6_port = htons(port);
        memcpy(name, &v6, sizeof(v6));
    } else {
        memcpy(&v4, name, sizeof(v4));
        v4.sin_port = htons(port);
        memcpy(name, &v4, sizeof(v4));
    }
}

static void
name_with_port(struct sockaddr_storage name, uint16_t port, char *text,
               size_t capacity)
{
    set_port(&name, port);
    gp_address_name(&name, text, capacity);
}

/* For any address: those of all rails, the best first, since the host's name
 * may lead to an interface without RDMA; unless the configuration says what to
 * tell. Half of the room is another transport's. */
static void
describe_bound(gp_domain *d, const gp_address *a, char *bound, size_t capacity)
{
    char text[GP_ADDRESS_MAX];
    size_t used;

    if (d->anywhere && d->by_name) {
        snprintf(bound, capacity, ":%u", d->port);
        return;
    }
    name_with_port(d->anywhere ? d->rail[0].address : a->name, d->port, text,
                   sizeof(text));
    used = (size_t)snprintf(bound, capacity, "%s", text);
    for (uint32_t i = 1; d->anywhere && i < d->rails; i++) {
        name_with_port(d->rail[i].address, d->port, text, sizeof(text));
        if (used + 1 + strlen(text) > capacity / 2)
            break;
        used += (size_t)snprintf(bound + used, capacity - used, "|%s", text);
    }
}

static gp_status
listen_failed(const char *address, int error)
{
    if (error == ENODEV || error == EADDRNOTAVAIL)
        return gp_fail_errno(GP_ERR_ADDRESS, error,
                             "listen on %s: no RDMA device has that address; "
                             "'gradpush info --devices' lists them",
                             *address ? address : "any address");
    return gp_address_refused(address, error);
}

gp_status
gp_vb_listen(gp_domain *d, const char *address, char *bound, size_t capacity)
{
    gp_address list[GP_ADDRESSES_MAX];
    size_t count, i;
    gp_status status;

    if (d->listener)
        return gp_fail(GP_ERR_STATE, "listen on %s: the domain listens already",
                       address);
    status = gp_address_resolve(address, true, list, GP_COUNT_OF(list), &count);
    if (status != GP_OK)
        return status;
    for (i = 0; i < count; i++) {
        int error = open_listener(d, &list[i]);

        if (!error)
            break;
        if (error == EADDRINUSE || i + 1 == count)
            return listen_failed(address, error);
    }
    d->port = ntohs(d->api->rdma_get_src_port(d->listener));
    d->anywhere = gp_address_is_any(&list[i]);
    describe_bound(d, &list[i], bound, capacity);
    return GP_OK;
}

/* -------------------------------------------------------------- accepting */

static void
reject(gp_domain *d, struct rdma_cm_id *id, gp_vb_reject reason)
{
    uint8_t bytes[GP_VB_REJECT_BYTES];

    gp_vb_reject_encode(reason, bytes);
    (void)d->api->rdma_reject(id, bytes, sizeof(bytes));
    (void)d->api->rdma_destroy_id(id);
}

static void
refuse(gp_domain *d, struct rdma_cm_id *id, gp_vb_reject reason,
       const char *why)
{
    char name[GP_ADDRESS_MAX] = "?";

    if (gp_log_may(&d->log, "verbs")) {
        gp_address_name(&id->route.addr.dst_storage, name, sizeof(name));
        GP_WARN("verbs: refused a connection from %s: %s", name, why);
    }
    reject(d, id, reason);
}

static gp_endpoint *
find_group(gp_domain *d, uint64_t group)
{
    GP_LIST_EACH (item, &d->endpoints) {
        gp_endpoint *ep = GP_CONTAINER_OF(item, gp_endpoint, link);

        if (ep->accepted && ep->group == group &&
            (ep->state == GP_VB_CONNECTING || ep->state == GP_VB_OPEN))
            return ep;
    }
    return NULL;
}

static gp_endpoint *
create_endpoint(gp_domain *d, const gp_vb_hello *hello, struct rdma_cm_id *id)
{
    gp_endpoint *ep = gp_vb_ep_create(d, hello->lanes);

    if (!ep)
        return NULL;
    ep->accepted = true;
    ep->group = hello->group;
    ep->deadline_ns = gp_deadline(d->handshake_seconds);
    gp_address_name(&id->route.addr.dst_storage, ep->peer, sizeof(ep->peer));
    ep->cost = gp_vb_slab_size(d, hello->lanes);
    d->stranger_bytes += ep->cost;
    d->pending_accepts++;
    gp_vb_wake_at(d, ep->deadline_ns);
    return ep;
}

static bool
is_crowded(const gp_domain *d, const gp_vb_hello *hello)
{
    size_t cost = gp_vb_slab_size(d, hello->lanes);

    return d->pending_accepts >= PENDING_MAX ||
           (d->stranger_bytes && cost + d->stranger_bytes > STRANGER_BYTES);
}

/* The lane that a hello means, or NULL when the request was answered. */
static gp_vb_lane *
find_lane(gp_domain *d, const gp_vb_hello *hello, struct rdma_cm_id *id)
{
    gp_endpoint *ep = find_group(d, hello->group);
    gp_vb_lane *lane;

    if (!ep && (hello->lane || (hello->flags & GP_VB_HELLO_RESUME))) {
        reject(d, id, GP_VB_REJECT_GONE);
        return NULL;
    }
    if (!ep && is_crowded(d, hello)) {
        refuse(d, id, GP_VB_REJECT_BUSY, "too many at once");
        return NULL;
    }
    if (!ep)
        ep = create_endpoint(d, hello, id);
    if (!ep) {
        refuse(d, id, GP_VB_REJECT_BUSY, "out of memory");
        return NULL;
    }
    lane = hello->lane < ep->lane_count ? ep->lane[hello->lane] : NULL;
    if (!lane || lane->given_up) {
        reject(d, id, GP_VB_REJECT_GONE);
        return NULL;
    }
    if (lane->epoch && hello->epoch <= lane->epoch) {
        reject(d, id, GP_VB_REJECT_BUSY);
        return NULL;
    }
    return lane;
}

static int
answer(gp_vb_lane *lane)
{
    gp_domain *d = lane->ep->domain;
    uint8_t bytes[GP_VB_HELLO_BYTES];
    struct rdma_conn_param param = {.private_data = bytes,
                                    .private_data_len = sizeof(bytes),
                                    .responder_resources = 1,
                                    .initiator_depth = 1,
                                    .rnr_retry_count = 0};
    gp_vb_hello hello;

    gp_vb_lane_describe(lane, &hello);
    hello.flags &= (uint8_t)~GP_VB_HELLO_RESUME;
    hello.flags |= GP_VB_HELLO_ANSWER;
    gp_vb_hello_encode(&hello, d->token, bytes);
    return d->api->rdma_accept(lane->id, &param);
}

/* Gives the request back, and an endpoint that nobody knows of goes. */
static void
cannot_take(gp_vb_lane *lane, gp_vb_reject reason, gp_status status,
            const char *why)
{
    gp_endpoint *ep = lane->ep;
    struct rdma_cm_id *id = lane->id;

    gp_vb_lane_fence(lane);
    lane->id = NULL;
    lane->state = lane->opened ? GP_VB_LANE_LOST : GP_VB_LANE_IDLE;
    reject(ep->domain, id, reason);
    if (ep->state == GP_VB_CONNECTING || status == GP_ERR_PROTOCOL)
        gp_vb_ep_fail(ep, status, "%s", why);
    else if (gp_log_may(&ep->domain->log, "verbs"))
        GP_WARN("verbs %s: lane %u: %s", ep->peer, lane->index, why);
}

static void
take(gp_vb_lane *lane, const gp_vb_hello *hello)
{
    gp_domain *d = lane->ep->domain;
    gp_status status = gp_vb_lane_prepare(lane);
    int error;

    if (status != GP_OK) {
        cannot_take(lane,
                    status == GP_ERR_NO_MEMORY ? GP_VB_REJECT_MEMORY
                                               : GP_VB_REJECT_BUSY,
                    status, gp_last_error());
        return;
    }
    status = gp_vb_lane_meet(lane, hello);
    if (status != GP_OK) {
        cannot_take(lane,
                    status == GP_ERR_PROTOCOL ? GP_VB_REJECT_GONE
                                              : GP_VB_REJECT_BUSY,
                    status, gp_last_error());
        return;
    }
    lane->state = GP_VB_LANE_CONNECTING;
    lane->deadline_ns = gp_deadline(d->handshake_seconds);
    gp_vb_wake_at(d, lane->deadline_ns);
    error = answer(lane);
    if (error)
        gp_vb_lane_failed(lane, GP_ERR_SYSTEM, "rdma_accept: %s",
                          strerror(error));
    else if (gp_vb_lane_open(lane) != GP_OK)
        gp_vb_lane_failed(lane, GP_ERR_SYSTEM, "%s", gp_last_error());
}

void
gp_vb_accept_request(gp_domain *d, const gp_vb_cm_event *event)
{
    struct rdma_cm_id *id = event->id;
    gp_vb_hello hello = {0};
    gp_status status =
        gp_vb_hello_decode(event->bytes, event->length, d->token, &hello);
    gp_vb_lane *lane;

    id->context = NULL;
    if (status == GP_OK && (hello.flags & GP_VB_HELLO_ANSWER))
        status = GP_ERR_PROTOCOL;
    if (status == GP_ERR_VERSION) {
        refuse(d, id, GP_VB_REJECT_VERSION,
               "it speaks another protocol version; run the same gradpush "
               "everywhere");
        return;
    }
    if (status != GP_OK) {
        refuse(d, id,
               status == GP_ERR_AUTH ? GP_VB_REJECT_PROOF : GP_VB_REJECT_GONE,
               status == GP_ERR_AUTH ? "it has another job token"
                                     : "it does not speak gradpush");
        return;
    }
    lane = find_lane(d, &hello, id);
    if (!lane)
        return;
    /* The peer knows earlier than this side that the last one is gone. */
    if (lane->opened && lane->state != GP_VB_LANE_LOST)
        gp_vb_cm_lose(lane, GP_ERR_PEER_LOST, "the peer connects anew");
    gp_vb_lane_drop(lane);
    lane->id = id;
    id->context = lane;
    lane->epoch = hello.epoch;
    take(lane, &hello);
}

void
gp_vb_accept_failed(gp_vb_lane *lane, const char *why)
{
    gp_vb_lane_drop(lane);
    lane->state = GP_VB_LANE_IDLE;
    GP_DEBUG("verbs %s: lane %u: %s", lane->ep->peer, lane->index, why);
}

void
gp_vb_accept_event(gp_vb_lane *lane, const gp_vb_cm_event *event)
{
    const gp_verbs_api *api = lane->ep->domain->api;

    switch (event->type) {
    case RDMA_CM_EVENT_ESTABLISHED:
        gp_vb_cm_established(lane);
        break;
    case RDMA_CM_EVENT_CONNECT_ERROR:
    case RDMA_CM_EVENT_UNREACHABLE:
    case RDMA_CM_EVENT_REJECTED:
        gp_vb_lane_failed(lane, GP_ERR_PEER_LOST,
                          "the connection was not completed (%s)",
                          api->rdma_event_str(event->type));
        break;
    default:
        GP_DEBUG("verbs %s: %s", lane->ep->peer,
                 api->rdma_event_str(event->type));
        break;
    }
}

void
gp_vb_accept_timer(gp_endpoint *ep, uint64_t now)
{
    for (uint32_t i = 0; i < ep->lane_count; i++) {
        gp_vb_lane *lane = ep->lane[i];

        if (lane->state != GP_VB_LANE_CONNECTING)
            continue;
        if (now >= lane->deadline_ns)
            gp_vb_lane_failed(lane, GP_ERR_PEER_LOST,
                              "not established within handshake_timeout");
        else
            gp_vb_wake_at(ep->domain, lane->deadline_ns);
    }
    if (ep->state == GP_VB_CONNECTING && now >= ep->deadline_ns)
        gp_vb_ep_fail(ep, GP_ERR_PEER_LOST,
                      "not established within handshake_timeout");
}

static void
write_rail(gp_writer *w, const struct sockaddr_storage *name, uint16_t port)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;

    gp_write16(w, name->ss_family == AF_INET6 ? 6 : 4);
    gp_write16(w, port);
    if (name->ss_family == AF_INET6) {
        memcpy(&v6, name, sizeof(v6));
        gp_write(w, &v6.sin6_addr, 16);
    } else {
        memcpy(&v4, name, sizeof(v4));
        gp_write(w, &v4.sin_addr, 4);
    }
}

/* The rail that the peer came to; the first one if that is not known. */
static uint32_t
rail_of(const gp_vb_lane *lane)
{
    const gp_domain *d = lane->ep->domain;
    char here[GP_ADDRESS_MAX], text[GP_ADDRESS_MAX];

    if (!lane->id)
        return 0;
    name_with_port(lane->id->route.addr.src_storage, 0, here, sizeof(here));
    for (uint32_t i = 0; i < d->rails; i++) {
        name_with_port(d->rail[i].address, 0, text, sizeof(text));
        if (!strcmp(here, text))
            return i;
    }
    return 0;
}

void
gp_vb_accept_tell_rails(gp_endpoint *ep)
{
    const gp_domain *d = ep->domain;
    uint8_t bytes[GP_VB_PATH_MAX * 20];
    gp_writer w = {bytes, sizeof(bytes), true};
    uint32_t first = rail_of(ep->lane[0]), rail;

    for (uint32_t i = 1; i < d->rails && d->anywhere; i++) {
        rail = (first + i) % d->rails;
        write_rail(&w, &d->rail[rail].address, d->port);
    }
    if (gp_vb_note(ep, GP_VB_RECORD_RAILS, 0, bytes, sizeof(bytes) - w.left) !=
        GP_OK)
        GP_WARN("verbs %s: out of memory: one lane only", ep->peer);
}
