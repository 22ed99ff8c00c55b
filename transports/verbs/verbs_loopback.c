/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_loopback.c - a connection of this process with itself through RDMA, to
 * see one page arrive.
 *
 * One thread plays both ends, so nothing may block: the event channel is
 * non-blocking and every wait ends at the deadline. Events are acknowledged in
 * the function that got them, since destroying an id waits for that.
 */
#include "transports/verbs/verbs_probe.h"

#ifdef GP_HAVE_VERBS

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "transports/verbs/verbs_api.h"

#define NONCE_BYTES 16
#define RNR_TIMER   12 /* 0.64 ms */

enum { WR_WRITE = 1, WR_SEND, WR_RECV };

/* One side's objects; NULL where it has not come to that. */
typedef struct side {
    struct rdma_cm_id *id;
    struct ibv_pd *pd;
    struct ibv_cq *cq;
    struct ibv_mr *mr;
    uint8_t *page;    /* what is in it, as the host knows it */
    uint8_t *address; /* where it lies: there, or in other memory */
    bool established;
} side;

typedef struct loopback {
    const gp_verbs_api *api;
    gp_verbs_loopback *out;
    const gp_verbs_pages *pages; /* or NULL */
    uint64_t deadline;
    size_t bytes;
    uint8_t nonce[NONCE_BYTES]; /* tells our request from a stranger's */

    struct rdma_event_channel *channel;
    struct rdma_cm_id *listener;
    side client, server;
    bool addressed, routed;
    gp_status failed; /* what an event said */
} loopback;

static gp_status
failed_call(loopback *l, gp_verbs_stage stage, int error, const char *call)
{
    l->out->stage = stage;
    l->out->error = error;
    return gp_fail_errno(error == ENOMEM ? GP_ERR_NO_MEMORY : GP_ERR_SYSTEM,
                         error, "%s", call);
}

/* --- connection events --- */

/* A request: ours becomes the server's id, any other is refused. */
static void
take_request(loopback *l, struct rdma_cm_id *id, bool ours)
{
    if (ours && !l->server.id) {
        l->server.id = id;
        return;
    }
    l->api->rdma_reject(id, NULL, 0);
    l->api->rdma_destroy_id(id);
}

static void
take_failure(loopback *l, enum rdma_cm_event_type type, int status)
{
    int error = status < 0 ? -status : 0;

    l->out->error = error;
    if (error)
        l->failed = gp_fail_errno(GP_ERR_UNREACHABLE, error, "%s",
                                  l->api->rdma_event_str(type));
    else
        l->failed = gp_fail(GP_ERR_UNREACHABLE, "%s, status %d",
                            l->api->rdma_event_str(type), status);
}

static void
take_event(loopback *l, struct rdma_cm_event *event)
{
    enum rdma_cm_event_type type = event->event;
    struct rdma_cm_id *id = event->id;
    const struct rdma_conn_param *param = &event->param.conn;
    int status = event->status;
    bool ours = type == RDMA_CM_EVENT_CONNECT_REQUEST && param->private_data &&
                param->private_data_len >= NONCE_BYTES &&
                !memcmp(param->private_data, l->nonce, NONCE_BYTES);

    l->api->rdma_ack_cm_event(event);
    switch (type) {
    case RDMA_CM_EVENT_ADDR_RESOLVED:
        l->addressed = true;
        break;
    case RDMA_CM_EVENT_ROUTE_RESOLVED:
        l->routed = true;
        break;
    case RDMA_CM_EVENT_CONNECT_REQUEST:
        take_request(l, id, ours);
        break;
    case RDMA_CM_EVENT_ESTABLISHED:
        *(id == l->client.id ? &l->client.established
                             : &l->server.established) = true;
        break;
    case RDMA_CM_EVENT_ADDR_CHANGE:
    case RDMA_CM_EVENT_TIMEWAIT_EXIT:
        break;
    default:
        take_failure(l, type, status);
    }
}

/* Handles what there is, after waiting for at most `ms`. */
static gp_status
pump(loopback *l, int ms)
{
    struct pollfd fd = {.fd = l->channel->fd, .events = POLLIN};
    struct rdma_cm_event *event;
    int rc;

    poll(&fd, 1, GP_MIN(ms, gp_deadline_ms(l->deadline)));
    while ((rc = l->api->rdma_get_cm_event(l->channel, &event)) == 0)
        take_event(l, event);
    if (l->failed != GP_OK)
        return l->failed;
    if (rc != EAGAIN && rc != EWOULDBLOCK && rc != EINTR)
        return failed_call(l, l->out->stage, rc, "rdma_get_cm_event");
    if (gp_expired(l->deadline))
        return gp_fail(GP_ERR_TIMEOUT, "no answer in time at the stage '%s'",
                       gp_verbs_stage_name(l->out->stage));
    return GP_OK;
}

static gp_status
wait_flag(loopback *l, const bool *flag)
{
    gp_status status = GP_OK;

    while (status == GP_OK && !*flag)
        status = pump(l, 5);
    return status;
}

/* --- steps --- */

static gp_status
open_channel(loopback *l)
{
    int flags;

    l->out->stage = GP_VERBS_CHANNEL;
    l->channel = l->api->rdma_create_event_channel();
    if (!l->channel)
        return failed_call(l, GP_VERBS_CHANNEL, errno,
                           "rdma_create_event_channel");
    flags = fcntl(l->channel->fd, F_GETFL);
    if (flags < 0 || fcntl(l->channel->fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return failed_call(l, GP_VERBS_CHANNEL, errno,
                           "the event channel cannot be made non-blocking");
    return GP_OK;
}

/* Leaves the port that was bound in `address`. */
static gp_status
start_listening(loopback *l, struct sockaddr *address, in_port_t *port)
{
    int rc;

    l->out->stage = GP_VERBS_LISTEN;
    *port = 0;
    rc = l->api->rdma_create_id(l->channel, &l->listener, NULL, RDMA_PS_TCP);
    if (rc)
        return failed_call(l, GP_VERBS_LISTEN, rc, "rdma_create_id");
    rc = l->api->rdma_bind_addr(l->listener, address);
    if (rc)
        return failed_call(l, GP_VERBS_LISTEN, rc, "rdma_bind_addr");
    rc = l->api->rdma_listen(l->listener, 4);
    if (rc)
        return failed_call(l, GP_VERBS_LISTEN, rc, "rdma_listen");
    *port = l->api->rdma_get_src_port(l->listener);
    return GP_OK;
}

static gp_status
resolve(loopback *l, struct sockaddr *address)
{
    int ms = GP_MAX(gp_deadline_ms(l->deadline), 1);
    const char *name;
    gp_status status;
    int rc;

    l->out->stage = GP_VERBS_RESOLVE;
    rc = l->api->rdma_create_id(l->channel, &l->client.id, NULL, RDMA_PS_TCP);
    if (rc)
        return failed_call(l, GP_VERBS_RESOLVE, rc, "rdma_create_id");
    rc = l->api->rdma_resolve_addr(l->client.id, NULL, address, ms);
    if (rc)
        return failed_call(l, GP_VERBS_RESOLVE, rc, "rdma_resolve_addr");
    status = wait_flag(l, &l->addressed);
    if (status != GP_OK)
        return status;
    if (!l->client.id->verbs)
        return failed_call(l, GP_VERBS_RESOLVE, ENODEV, "rdma_resolve_addr");
    name = l->api->get_device_name(l->client.id->verbs->device);
    snprintf(l->out->device, sizeof(l->out->device), "%.63s", name ? name : "");
    rc = l->api->rdma_resolve_route(l->client.id, ms);
    if (rc)
        return failed_call(l, GP_VERBS_RESOLVE, rc, "rdma_resolve_route");
    return wait_flag(l, &l->routed);
}

static gp_status
register_page(loopback *l, side *s, int access)
{
    if (!l->pages) {
        s->address = s->page;
        s->mr = l->api->reg_mr(s->pd, s->page, l->bytes, access);
        return s->mr ? GP_OK
                     : failed_call(l, GP_VERBS_MEMORY, errno,
                                   "ibv_reg_mr of one page");
    }
    s->address = s == &l->client ? l->pages->client : l->pages->server;
    s->mr = l->pages->reg(l->pages->user, s->pd, access);
    return s->mr ? GP_OK : GP_ERR_UNSUPPORTED;
}

/* A page, registered, and a queue pair. Only the server's is open to the
 * other end. */
static gp_status
prepare(loopback *l, side *s, int access)
{
    struct ibv_qp_init_attr attr = {.cap = {.max_send_wr = 4,
                                            .max_recv_wr = 4,
                                            .max_send_sge = 1,
                                            .max_recv_sge = 1},
                                    .qp_type = IBV_QPT_RC};
    gp_status status;
    int rc;

    l->out->stage = GP_VERBS_MEMORY;
    s->page = aligned_alloc(l->bytes, l->bytes);
    if (!s->page)
        return failed_call(l, GP_VERBS_MEMORY, ENOMEM, "a page");
    s->pd = l->api->alloc_pd(s->id->verbs);
    if (!s->pd)
        return failed_call(l, GP_VERBS_MEMORY, errno, "ibv_alloc_pd");
    status = register_page(l, s, access);
    if (status != GP_OK)
        return status;
    l->out->stage = GP_VERBS_QUEUES;
    s->cq = l->api->create_cq(s->id->verbs, 16, NULL, NULL, 0);
    if (!s->cq)
        return failed_call(l, GP_VERBS_QUEUES, errno, "ibv_create_cq");
    attr.send_cq = attr.recv_cq = s->cq;
    rc = l->api->rdma_create_qp(s->id, s->pd, &attr);
    return rc ? failed_call(l, GP_VERBS_QUEUES, rc, "rdma_create_qp") : GP_OK;
}

/* The receive is there before the connection is, so that no message can come
 * too early. It takes a SEND of no bytes: nothing but the WRITE may touch the
 * page. The client's stays unused. */
static gp_status
post_receive(loopback *l, side *s)
{
    struct ibv_recv_wr wr = {.wr_id = WR_RECV};
    struct ibv_recv_wr *bad;
    int rc = l->api->post_recv(s->id->qp, &wr, &bad);

    return rc ? failed_call(l, GP_VERBS_QUEUES, rc, "ibv_post_recv") : GP_OK;
}

/* rdma_cm leaves 655 ms between attempts to reach a slow receiver. iWARP knows
 * no such attempts, and may refuse. */
static gp_status
shorten_rnr_timer(loopback *l, side *s)
{
    struct ibv_qp_attr attr = {.min_rnr_timer = RNR_TIMER};
    int rc = l->api->modify_qp(s->id->qp, &attr, IBV_QP_MIN_RNR_TIMER);

    if (rc == 0 || s->id->verbs->device->transport_type == IBV_TRANSPORT_IWARP)
        return GP_OK;
    return failed_call(l, GP_VERBS_CONNECT, rc, "ibv_modify_qp");
}

static gp_status
answer_request(loopback *l)
{
    struct rdma_conn_param param = {
        .responder_resources = 1, .initiator_depth = 1, .rnr_retry_count = 3};
    gp_status status = GP_OK;
    int rc;

    while (status == GP_OK && !l->server.id)
        status = pump(l, 5);
    if (status != GP_OK)
        return status;
    status = prepare(l, &l->server,
                     IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
    if (status == GP_OK)
        status = post_receive(l, &l->server);
    if (status != GP_OK)
        return status;
    l->out->stage = GP_VERBS_CONNECT;
    rc = l->api->rdma_accept(l->server.id, &param);
    if (rc)
        return failed_call(l, GP_VERBS_CONNECT, rc, "rdma_accept");
    return shorten_rnr_timer(l, &l->server);
}

static gp_status
establish(loopback *l)
{
    struct rdma_conn_param param = {.private_data = l->nonce,
                                    .private_data_len = NONCE_BYTES,
                                    .responder_resources = 1,
                                    .initiator_depth = 1,
                                    .retry_count = 7,
                                    .rnr_retry_count = 3};
    uint64_t start = gp_clock_ns();
    gp_status status = prepare(l, &l->client, IBV_ACCESS_LOCAL_WRITE);
    int rc;

    if (status == GP_OK)
        status = post_receive(l, &l->client);
    if (status != GP_OK)
        return status;
    l->out->stage = GP_VERBS_CONNECT;
    rc = l->api->rdma_connect(l->client.id, &param);
    if (rc)
        return failed_call(l, GP_VERBS_CONNECT, rc, "rdma_connect");
    status = answer_request(l);
    if (status == GP_OK)
        status = wait_flag(l, &l->client.established);
    if (status == GP_OK)
        status = shorten_rnr_timer(l, &l->client);
    l->out->connect_us = (double)(gp_clock_ns() - start) / 1e3;
    return status;
}

/* --- the page --- */

static gp_status
post_page(loopback *l)
{
    side *c = &l->client, *s = &l->server;
    struct ibv_sge page = {(uintptr_t)c->address, (uint32_t)l->bytes,
                           c->mr->lkey};
    struct ibv_send_wr send = {.wr_id = WR_SEND,
                               .opcode = IBV_WR_SEND,
                               .send_flags = IBV_SEND_SIGNALED};
    struct ibv_send_wr write = {
        .wr_id = WR_WRITE,
        .next = &send,
        .sg_list = &page,
        .num_sge = 1,
        .opcode = IBV_WR_RDMA_WRITE,
        .send_flags = IBV_SEND_SIGNALED,
        .wr.rdma = {.remote_addr = (uintptr_t)s->address, .rkey = s->mr->rkey}};
    struct ibv_send_wr *bad;
    int rc = l->api->post_send(c->id->qp, &write, &bad);

    return rc ? failed_call(l, GP_VERBS_WRITE, rc, "ibv_post_send") : GP_OK;
}

/* One completion of `cq` at most; its bit is added to `seen`. */
static gp_status
take_completion(loopback *l, struct ibv_cq *cq, unsigned *seen)
{
    static const char *const names[] = {"?", "the WRITE", "the SEND",
                                        "the receive"};
    struct ibv_wc wc = {0};
    int n = l->api->poll_cq(cq, 1, &wc);

    if (n < 0)
        return failed_call(l, GP_VERBS_WRITE, -n, "ibv_poll_cq");
    if (n == 0)
        return GP_OK;
    if (wc.wr_id < WR_WRITE || wc.wr_id > WR_RECV)
        return gp_fail(GP_ERR_PROTOCOL, "a completion that nobody asked for");
    if (wc.status != IBV_WC_SUCCESS)
        return gp_fail(GP_ERR_PEER_LOST,
                       "%s ended with '%s' (vendor code 0x%x)", names[wc.wr_id],
                       l->api->wc_status_str(wc.status), wc.vendor_err);
    *seen |= 1u << wc.wr_id;
    return GP_OK;
}

/* Other memory gets what the host's pages have. */
static gp_status
store_pages(loopback *l)
{
    const gp_verbs_pages *p = l->pages;
    gp_status status;

    if (!p)
        return GP_OK;
    status = p->store(p->user, p->client, l->client.page, l->bytes);
    return status == GP_OK
               ? p->store(p->user, p->server, l->server.page, l->bytes)
               : status;
}

static gp_status
write_page(loopback *l)
{
    const unsigned all = 1u << WR_WRITE | 1u << WR_SEND | 1u << WR_RECV;
    uint64_t start = gp_clock_ns();
    unsigned seen = 0;
    gp_status status;

    l->out->stage = GP_VERBS_WRITE;
    status = gp_random(l->client.page, l->bytes);
    for (size_t i = 0; status == GP_OK && i < l->bytes; i++)
        l->server.page[i] = (uint8_t)~l->client.page[i];
    if (status == GP_OK)
        status = store_pages(l);
    if (status == GP_OK)
        status = post_page(l);
    while (status == GP_OK && seen != all) {
        status = take_completion(l, l->client.cq, &seen);
        if (status == GP_OK)
            status = take_completion(l, l->server.cq, &seen);
        if (status == GP_OK && seen != all)
            status = pump(l, 0);
    }
    l->out->write_us = (double)(gp_clock_ns() - start) / 1e3;
    return status;
}

static gp_status
compare_page(loopback *l)
{
    size_t wrong = 0, first = l->bytes;

    l->out->stage = GP_VERBS_COMPARE;
    if (l->pages && l->pages->load(l->pages->user, l->server.page,
                                   l->server.address, l->bytes) != GP_OK)
        return GP_ERR_SYSTEM;
    for (size_t i = 0; i < l->bytes; i++) {
        if (l->client.page[i] == l->server.page[i])
            continue;
        first = GP_MIN(first, i);
        wrong++;
    }
    if (!wrong)
        return GP_OK;
    return gp_fail(GP_ERR_CORRUPT,
                   "%zu of %zu bytes differ after the WRITE, from byte %zu on",
                   wrong, l->bytes, first);
}

/* --- the end --- */

/* Gives everything back in the order verbs wants; the first error. Without its
 * queue pair nothing reaches the page, whatever becomes of the region. */
static int
close_side(loopback *l, side *s)
{
    int rc = 0, last;

    if (s->id && s->id->qp)
        l->api->rdma_destroy_qp(s->id);
    if (s->cq && (last = l->api->destroy_cq(s->cq)) != 0)
        rc = last;
    if (s->mr && (last = l->api->dereg_mr(s->mr)) != 0)
        rc = rc ? rc : last;
    free(s->page);
    if (s->pd && (last = l->api->dealloc_pd(s->pd)) != 0)
        rc = rc ? rc : last;
    if (s->id && (last = l->api->rdma_destroy_id(s->id)) != 0)
        rc = rc ? rc : last;
    return rc;
}

static int
close_all(loopback *l)
{
    int rc, last;

    if (l->client.established)
        l->api->rdma_disconnect(l->client.id);
    rc = close_side(l, &l->client);
    last = close_side(l, &l->server);
    rc = rc ? rc : last;
    last = l->listener ? l->api->rdma_destroy_id(l->listener) : 0;
    if (l->channel)
        l->api->rdma_destroy_event_channel(l->channel);
    return rc ? rc : last;
}

static gp_status
run_stages(loopback *l, const struct sockaddr *address)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } to = {0};
    bool v6 = address->sa_family == AF_INET6;
    in_port_t *port = v6 ? &to.v6.sin6_port : &to.v4.sin_port;
    gp_status status;

    memcpy(&to, address, v6 ? sizeof(to.v6) : sizeof(to.v4));
    *port = 0;
    status = gp_random(l->nonce, sizeof(l->nonce));
    if (status == GP_OK)
        status = open_channel(l);
    if (status == GP_OK)
        status = start_listening(l, &to.any, port);
    if (status == GP_OK)
        status = resolve(l, &to.any);
    if (status == GP_OK)
        status = establish(l);
    if (status == GP_OK)
        status = write_page(l);
    if (status == GP_OK)
        status = compare_page(l);
    return status;
}

gp_status
gp_verbs_probe_loopback(const struct gp_verbs_api *api,
                        const struct sockaddr *address, double seconds,
                        gp_verbs_loopback *out)
{
    return gp_verbs_probe_loopback_in(api, address, seconds, NULL, out);
}

gp_status
gp_verbs_probe_loopback_in(const struct gp_verbs_api *api,
                           const struct sockaddr *address, double seconds,
                           const gp_verbs_pages *pages, gp_verbs_loopback *out)
{
    loopback l = {.api = api,
                  .pages = pages,
                  .out = out,
                  .deadline = gp_deadline(seconds),
                  .bytes = (size_t)sysconf(_SC_PAGESIZE)};
    gp_status status;
    int rc;

    *out = (gp_verbs_loopback){.bytes = (uint32_t)l.bytes};
    if (address->sa_family != AF_INET && address->sa_family != AF_INET6)
        return gp_fail(GP_ERR_ADDRESS, "neither an IPv4 nor an IPv6 address");
    status = run_stages(&l, address);
    rc = close_all(&l);
    if (status == GP_OK && rc)
        status = failed_call(&l, GP_VERBS_CLOSE, rc, "giving objects back");
    if (status == GP_OK)
        out->stage = GP_VERBS_DONE;
    return status;
}

#endif
