/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs.c - the verbs transport: its table, its domain, and progress().
 *
 * Completion queues are polled in every call, which costs no system call. The
 * descriptors (connection events, completion and asynchronous events, timers)
 * are behind one epoll, asked every few calls, and in the first one after the
 * domain was armed. Memory that events of the last progress() point to dies in
 * the next one, or a few later.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/token.h"
#include "transports/transports.h"
#include "transports/verbs/verbs_early.h"
#include "transports/verbs/verbs_limit.h"
#include "transports/verbs/verbs_peer.h"
#include "transports/verbs/verbs_port.h"
#include "transports/verbs/verbs_select.h"

#define SKIP_MAX    64u
#define EPOLL_BATCH 16

gp_event *
gp_vb_emit(gp_vb_out *out, gp_endpoint *ep, gp_event_type type)
{
    gp_event *event = &out->events[out->count++];

    event->type = type;
    event->status = GP_OK;
    event->ep = ep;
    event->user = ep->user;
    return event;
}

gp_status
gp_vb_watch(gp_domain *d, int fd, void *what)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = what};

    if (epoll_ctl(d->epoll_fd, EPOLL_CTL_ADD, fd, &event))
        return gp_fail_errno(GP_ERR_SYSTEM, errno, "epoll_ctl");
    return GP_OK;
}

void
gp_vb_unwatch(gp_domain *d, int fd)
{
    (void)epoll_ctl(d->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

void
gp_vb_wake_at(gp_domain *d, uint64_t when_ns)
{
    struct itimerspec at = {
        .it_value = {.tv_sec = (time_t)(when_ns / 1000000000u),
                     .tv_nsec = (long)(when_ns % 1000000000u)}};

    if (when_ns >= d->timer_ns)
        return;
    d->timer_ns = when_ns;
    (void)timerfd_settime(d->timer_fd, TFD_TIMER_ABSTIME, &at, NULL);
}

/* ----------------------------------------------------------------- opening */

/* The ports to use, best first; `why` says what was chosen, or why none. */
static gp_status
choose_ports(const gp_verbs_api *api, const gp_config *config,
             gp_verbs_port *out, size_t max, size_t *chosen, char *why,
             size_t capacity)
{
    gp_verbs_port *ports = calloc(GP_VERBS_PORTS_MAX, sizeof(*ports));
    size_t count = 0;
    gp_status status;

    *chosen = 0;
    if (!ports)
        return gp_fail(GP_ERR_NO_MEMORY, "verbs: out of memory");
    status = gp_verbs_list(api, NULL, ports, GP_VERBS_PORTS_MAX, &count);
    if (status == GP_OK)
        status = gp_verbs_choose(config, ports, count, out, max, chosen, why,
                                 capacity);
    else
        snprintf(why, capacity, "%s", gp_last_error());
    free(ports);
    return status;
}

static gp_status
probe(const gp_config *config, char *why, size_t capacity)
{
    const gp_verbs_api *api = NULL;
    gp_verbs_port port;
    size_t chosen = 0;
    gp_status status = gp_verbs_api_get(&api);

    if (status != GP_OK) {
        snprintf(why, capacity, "%s", gp_last_error());
        return GP_ERR_UNSUPPORTED;
    }
    status = choose_ports(api, config, &port, 1, &chosen, why, capacity);
    if (status != GP_OK || !chosen)
        return GP_ERR_UNSUPPORTED;
    /* Who named it gets it, and hears where the limit ends it. */
    if (!strcmp(gp_config_get(config, "transport"), "auto") &&
        !gp_verbs_affordable(api, config, why, capacity))
        return GP_ERR_NO_MEMORY;
    return GP_OK;
}

/* auto 0, and the two others as given. */
static int
choice(const gp_config *config, const char *name, const char *minus,
       const char *plus)
{
    const char *text = gp_config_get(config, name);

    if (!strcmp(text, minus))
        return -1;
    return strcmp(text, plus) == 0;
}

static gp_status
configure(gp_domain *d, const gp_config *config)
{
    double keepalive = gp_config_seconds(config, "keepalive");

    d->frames = (uint32_t)gp_config_int(config, "ib_frames");
    d->frame_bytes = (uint32_t)gp_config_size(config, "ib_frame");
    d->queue = (uint32_t)gp_config_int(config, "ib_queue");
    d->eager = (uint32_t)gp_config_size(config, "ib_eager");
    d->piece = gp_config_size(config, "ib_piece");
    d->checksum = !strcmp(gp_config_get(config, "checksum"), "on");
    d->separate_domains = !strcmp(gp_config_get(config, "ib_domains"), "peer");
    d->windows = choice(config, "ib_windows", "off", "on");
    d->windows_off = d->windows < 0;
    d->relaxed = choice(config, "ib_relaxed", "off", "on");
    d->notify = choice(config, "ib_notify", "send", "imm");
    d->gdr[GP_DIRECT_DMABUF] = choice(config, "gdr_dmabuf", "no", "yes");
    d->gdr[GP_DIRECT_PEERMEM] = choice(config, "gdr_peermem", "no", "yes");
    d->traffic_class = (int)gp_config_int(config, "ib_traffic_class");
    d->ack_timeout = (int)gp_config_int(config, "ib_timeout");
    d->adaptive = (int)gp_config_int(config, "ib_adaptive_routing");
    d->retry_count = (int)gp_config_int(config, "ib_retries");
    d->reconnect_seconds = gp_config_seconds(config, "ib_reconnect");
    d->rail_seconds = gp_config_seconds(config, "ib_rail_reconnect");
    d->handshake_seconds = gp_config_seconds(config, "handshake_timeout");
    d->keepalive_ns = (uint64_t)(keepalive * 1e9);
    d->hasty = !strcmp(gp_config_get(config, "transport"), "auto");
    d->pinned = gp_config_get(config, "ib_hca")[0] ||
                gp_config_int(config, "ib_gid_index") >= 0;
    d->by_name = gp_config_get(config, "advertise")[0] ||
                 gp_config_get(config, "interface")[0];
    return gp_token_load(config, d->token, sizeof(d->token));
}

static gp_status
find_rails(gp_domain *d, const gp_config *config)
{
    size_t wanted = (size_t)gp_config_int(config, "ib_rails"), chosen = 0;
    gp_verbs_port ports[GP_VB_PATH_MAX];
    char why[200] = "";
    gp_status status =
        choose_ports(d->api, config, ports, GP_MIN(wanted, GP_VB_PATH_MAX),
                     &chosen, why, sizeof(why));

    if (status == GP_ERR_CONFIG || status == GP_ERR_NO_MEMORY)
        return status;
    if (status != GP_OK || !chosen)
        return gp_fail(GP_ERR_UNSUPPORTED,
                       "verbs cannot be used here: %s; 'gradpush doctor' looks "
                       "closer, GRADPUSH_TRANSPORT=tcp works without",
                       why);
    if (chosen < wanted)
        GP_WARN("verbs: %zu of GRADPUSH_IB_RAILS=%zu ports can be used", chosen,
                wanted);
    d->rails = (uint32_t)chosen;
    for (size_t i = 0; i < chosen; i++) {
        d->rail[i].address = ports[i].address;
        snprintf(d->rail[i].name, sizeof(d->rail[i].name), "%.60s:%u",
                 ports[i].device, ports[i].number);
    }
    d->lanes_wanted = (uint32_t)GP_MIN(
        gp_config_int(config, "ib_qps") * (int64_t)chosen, GP_VB_LANES_MAX);
    return GP_OK;
}

static void
init_lists(gp_domain *d)
{
    gp_list *lists[] = {&d->devices, &d->endpoints, &d->lingering, &d->retired,
                        &d->opened,  &d->closed,    &d->ready,     &d->held,
                        &d->broken,  &d->mems,      &d->pairs,     &d->parked};

    for (size_t i = 0; i < GP_COUNT_OF(lists); i++)
        gp_list_init(lists[i]);
}

static gp_status
open_channel(gp_domain *d)
{
    int flags;

    d->channel = d->api->rdma_create_event_channel();
    if (!d->channel)
        return gp_fail_errno(GP_ERR_SYSTEM, errno,
                             "verbs: rdma_create_event_channel; is the module "
                             "there? modprobe rdma_ucm");
    flags = fcntl(d->channel->fd, F_GETFL);
    if (flags < 0 || fcntl(d->channel->fd, F_SETFL, flags | O_NONBLOCK))
        return gp_fail_errno(GP_ERR_SYSTEM, errno, "verbs: fcntl");
    return gp_vb_watch(d, d->channel->fd, d->channel);
}

static gp_status
open_descriptors(gp_domain *d)
{
    gp_status status;

    d->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (d->epoll_fd < 0)
        return gp_fail_errno(GP_ERR_SYSTEM, errno, "epoll_create1");
    d->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (d->timer_fd < 0)
        return gp_fail_errno(GP_ERR_SYSTEM, errno, "timerfd_create");
    d->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (d->wake_fd < 0)
        return gp_fail_errno(GP_ERR_SYSTEM, errno, "eventfd");
    status = gp_vb_watch(d, d->timer_fd, &d->timer_fd);
    if (status == GP_OK)
        status = gp_vb_watch(d, d->wake_fd, &d->wake_fd);
    return status == GP_OK ? open_channel(d) : status;
}

/* ----------------------------------------------------------------- closing */

static void
free_retired(gp_domain *d)
{
    gp_list *item;

    while ((item = gp_list_pop(&d->retired)))
        gp_vb_ep_free(GP_CONTAINER_OF(item, gp_endpoint, link));
}

static void
run_lingering(gp_domain *d)
{
    uint64_t now = gp_clock_ns();

    GP_LIST_EACH (item, &d->lingering) {
        gp_endpoint *ep = GP_CONTAINER_OF(item, gp_endpoint, link);

        gp_vb_discard(ep);
        gp_vb_send(ep);
        gp_vb_ep_linger(ep, now);
    }
}

/* Farewells are on their way: the peers' devices have them in a moment, or
 * after a loss or two. Who does not get one takes this process for dead. */
static void
say_farewells(gp_domain *d)
{
    struct timespec pause = {.tv_nsec = 20000};

    while (!gp_list_empty(&d->lingering)) {
        if (gp_vb_poll(d) == 0)
            (void)nanosleep(&pause, NULL);
        gp_vb_cm_events(d);
        run_lingering(d);
    }
}

static void
close_descriptors(gp_domain *d)
{
    if (d->listener)
        (void)d->api->rdma_destroy_id(d->listener);
    if (d->channel)
        d->api->rdma_destroy_event_channel(d->channel);
    if (d->wake_fd >= 0)
        (void)close(d->wake_fd);
    if (d->timer_fd >= 0)
        (void)close(d->timer_fd);
    if (d->epoll_fd >= 0)
        (void)close(d->epoll_fd);
}

static void
close_domain(gp_domain *d)
{
    if (!d)
        return;
    GP_LIST_EACH (item, &d->endpoints)
        gp_vb_ep_close(GP_CONTAINER_OF(item, gp_endpoint, link));
    say_farewells(d);
    free_retired(d);
    gp_vb_mem_detach(d);
    gp_vb_peers_free(d);
    gp_vb_parked_free(d);
    GP_LIST_EACH (item, &d->devices)
        gp_vb_device_close(GP_CONTAINER_OF(item, gp_vb_device, link));
    close_descriptors(d);
    explicit_bzero(d->token, sizeof(d->token));
    free(d->lanes);
    free(d->pds);
    free(d);
}

static gp_status
open_domain(const gp_config *config, gp_domain **out)
{
    const gp_verbs_api *api = NULL;
    gp_status status = gp_verbs_api_get(&api);
    gp_domain *d;

    if (status != GP_OK)
        return status;
    d = calloc(1, sizeof(*d));
    if (!d)
        return gp_fail(GP_ERR_NO_MEMORY, "verbs: out of memory");
    init_lists(d);
    d->api = api;
    d->epoll_fd = d->timer_fd = d->wake_fd = -1;
    d->timer_ns = UINT64_MAX;
    status = configure(d, config);
    if (status == GP_OK)
        status = find_rails(d, config);
    if (status == GP_OK)
        status = open_descriptors(d);
    if (status != GP_OK) {
        close_domain(d);
        return status;
    }
    *out = d;
    return GP_OK;
}

/* ---------------------------------------------------------------- progress */

static void
run_timers(gp_domain *d)
{
    uint64_t ignored, now = gp_clock_ns();

    (void)!read(d->timer_fd, &ignored, sizeof(ignored));
    d->timer_ns = UINT64_MAX;
    gp_vb_cm_timers(d, now);
}

static void
dispatch(gp_domain *d, void *what)
{
    if (what == d->channel) {
        gp_vb_cm_events(d);
    } else if (what == &d->timer_fd) {
        run_timers(d);
    } else if (what == &d->wake_fd) {
        gp_vb_device_notices(d);
    } else {
        gp_vb_device_drain(what);
        gp_vb_device_async(what);
    }
}

/* Number of descriptors that had something, or a negative status. */
static int
ask_epoll(gp_domain *d)
{
    struct epoll_event events[EPOLL_BATCH];
    int n = epoll_wait(d->epoll_fd, events, EPOLL_BATCH, 0);

    d->skipped = 0;
    d->armed = false;
    if (n < 0)
        return errno == EINTR
                   ? 0
                   : gp_fail_errno(GP_ERR_SYSTEM, errno, "verbs: epoll_wait");
    for (int i = 0; i < n; i++)
        dispatch(d, events[i].data.ptr);
    return n;
}

static void
report_opened(gp_domain *d, gp_vb_out *out)
{
    while (out->count < out->max && !gp_list_empty(&d->opened)) {
        gp_endpoint *ep =
            GP_CONTAINER_OF(gp_list_pop(&d->opened), gp_endpoint, event);

        ep->announced = true;
        gp_vb_emit(out, ep,
                   ep->accepted ? GP_EVENT_ACCEPTED : GP_EVENT_CONNECTED);
        if (ep->state == GP_VB_CLOSED)
            gp_list_insert(&d->closed, &ep->event);
        else
            gp_vb_ready(ep);
    }
}

/* What had arrived comes first, unless the peer broke the rules. */
static bool
delivers_after_end(const gp_endpoint *ep)
{
    return ep->announced && gp_vb_has_received(ep) &&
           (ep->status == GP_OK || ep->status == GP_ERR_PEER_LOST);
}

static void
report_closed(gp_domain *d, gp_vb_out *out)
{
    GP_LIST_EACH (item, &d->closed) {
        gp_endpoint *ep = GP_CONTAINER_OF(item, gp_endpoint, event);

        gp_vb_report_sent(ep, out);
        if (delivers_after_end(ep)) {
            gp_vb_deliver(ep, out);
            if (out->count == out->max && gp_vb_has_received(ep))
                return;
        }
        if (out->count == out->max)
            return;
        gp_list_remove(item);
        gp_vb_emit(out, ep, GP_EVENT_CLOSED)->status = ep->status;
    }
}

static void
serve(gp_endpoint *ep, gp_vb_out *out)
{
    if (ep->state == GP_VB_LINGERING) {
        gp_vb_discard(ep);
        gp_vb_send(ep);
        gp_vb_ep_linger(ep, gp_clock_ns());
        return;
    }
    if (ep->state != GP_VB_OPEN || !ep->announced)
        return;
    gp_vb_send(ep);
    gp_vb_report_sent(ep, out);
    gp_vb_deliver(ep, out);
    if (ep->state == GP_VB_OPEN && out->count == out->max &&
        (gp_vb_has_received(ep) || !gp_list_empty(&ep->sent)))
        gp_vb_ready(ep);
}

static void
serve_ready(gp_domain *d, gp_vb_out *out)
{
    gp_list round, *item;

    /* Each gets one turn; what becomes ready meanwhile waits for the next
     * call. */
    gp_list_init(&round);
    while ((item = gp_list_pop(&d->ready)))
        gp_list_insert(&round, item);
    while ((item = gp_list_pop(&round)))
        serve(GP_CONTAINER_OF(item, gp_endpoint, ready), out);
}

/* A turn in progress() would do nothing for it. */
static bool
rests(const gp_endpoint *ep)
{
    if (ep->state != GP_VB_OPEN || !ep->announced ||
        !gp_list_empty(&ep->sent) || !gp_list_empty(&ep->received) ||
        !gp_list_empty(&ep->control.waiting) ||
        !gp_list_empty(&ep->data.waiting) || !gp_list_empty(&ep->notes))
        return false;
    for (uint32_t i = 0; i < ep->lane_count; i++)
        if (ep->lane[i] && !gp_vb_lane_rests(ep->lane[i]))
            return false;
    return true;
}

bool
gp_vb_all_rest(const gp_domain *d)
{
    for (uint32_t i = 0; i < d->watched_count; i++) {
        gp_endpoint *ep = d->watched[i]->ep;

        if (!rests(ep))
            return false;
        gp_list_remove(&ep->ready);
    }
    return !d->armed && gp_list_empty(&d->ready) && gp_list_empty(&d->opened) &&
           gp_list_empty(&d->closed) && gp_list_empty(&d->broken);
}

int
gp_vb_progress_all(gp_domain *d, gp_event *events, int max)
{
    gp_vb_out out = {events, 0, max};
    int n;

    gp_vb_renew(d);
    free_retired(d);
    n = gp_vb_poll(d);
    if (n < 0)
        return n;
    if (n == 0)
        d->empty_polls++;
    if (d->armed || ++d->skipped >= SKIP_MAX)
        n = ask_epoll(d);
    if (n < 0)
        return n;
    report_opened(d, &out);
    serve_ready(d, &out);
    report_closed(d, &out);
    return out.count;
}

/* Buffers that the last events point to count: the peer gets them back with the
 * next progress(), and may have no other to send into. */
static bool
has_work(const gp_domain *d)
{
    return !gp_list_empty(&d->ready) || !gp_list_empty(&d->opened) ||
           !gp_list_empty(&d->closed) || !gp_list_empty(&d->retired) ||
           !gp_list_empty(&d->held);
}

static gp_status
arm(gp_domain *d)
{
    if (has_work(d) || ask_epoll(d) != 0)
        return GP_AGAIN;
    GP_LIST_EACH (item, &d->devices) {
        gp_vb_device *device = GP_CONTAINER_OF(item, gp_vb_device, link);

        if (device->gone)
            continue;
        GP_LIST_EACH (entry, &device->cqs) {
            gp_vb_cq *cq = GP_CONTAINER_OF(entry, gp_vb_cq, link);

            if (!cq->broken && d->api->req_notify_cq(cq->cq, 0))
                return GP_AGAIN;
        }
    }
    /* What completed before the queues were armed tells nobody. */
    if (gp_vb_poll(d) != 0 || has_work(d))
        return GP_AGAIN;
    d->armed = true;
    return GP_OK;
}

static int
event_fd(gp_domain *d)
{
    return d->epoll_fd;
}

static void
ep_set_user(gp_endpoint *ep, void *user)
{
    ep->user = user;
}

static void
ep_trust(gp_endpoint *ep)
{
    ep->trusted = true;
    gp_vb_ep_settle(ep);
}

static uint32_t
lanes_up(const gp_endpoint *ep)
{
    uint32_t up = 0;

    for (uint32_t i = 0; i < ep->lane_count; i++)
        up += ep->lane[i]->state == GP_VB_LANE_SYNCING ||
              ep->lane[i]->state == GP_VB_LANE_UP;
    return up;
}

static void
ep_describe(const gp_endpoint *ep, char *text, size_t capacity)
{
    const gp_domain *d = ep->domain;
    const gp_vb_lane *lane = ep->lane[ep->control_lane];
    struct ibv_port_attr port = {0};
    const char *layer = "InfiniBand";

    if (!lane->qp ||
        d->api->query_port(lane->device->verbs, lane->id->port_num, &port)) {
        snprintf(text, capacity, "verbs %s, not connected%s%s", ep->peer,
                 ep->why[0] ? ": " : "", ep->why);
        return;
    }
    if (lane->device->iwarp)
        layer = "iWARP";
    else if (port.link_layer == IBV_LINK_LAYER_ETHERNET)
        layer = "RoCE";
    snprintf(text, capacity,
             "verbs %s %s:%u qp 0x%x %s mtu %u lanes %u frames %ux%u notify %s "
             "windows %s checksum %s",
             ep->peer, lane->device->name, lane->id->port_num, lane->qp->qp_num,
             layer, 128u << port.active_mtu, lanes_up(ep), d->frames,
             d->frame_bytes,
             lane->imm    ? "imm"
             : lane->cues ? "cue"
                          : "send",
             lane->device->windows ? "on" : "off", d->checksum ? "on" : "off");
}

/* Payloads are written where they belong. */
static void
release(gp_endpoint *ep, const gp_msg *msg, const void *payload)
{
    (void)ep, (void)msg, (void)payload;
}

const gp_transport_ops gp_verbs_ops = {
    .abi = GP_TRANSPORT_ABI,
    .caps = GP_CAP_CHECKSUM | GP_CAP_DEVICE | GP_CAP_PEER_MEMORY | GP_CAP_PARTS,
    .name = "verbs",
    .text = "RDMA over InfiniBand, RoCE and iWARP, through libibverbs",
    .probe = probe,
    .open = open_domain,
    .close = close_domain,
    .listen = gp_vb_listen,
    .connect = gp_vb_connect,
    .ep_close = gp_vb_ep_close,
    .ep_set_user = ep_set_user,
    .ep_trust = ep_trust,
    .ep_describe = ep_describe,
    .mem_reg = gp_vb_mem_reg,
    .mem_dereg = gp_vb_mem_dereg,
    .expose = gp_vb_expose,
    .unexpose = gp_vb_unexpose,
    .post = gp_vb_post,
    .flush = gp_vb_flush,
    .release = release,
    .progress = gp_vb_progress,
    .event_fd = event_fd,
    .arm = arm,
    .peer_probe = gp_vb_peer_probe,
    .mem_reg_peer = gp_vb_mem_reg_peer,
    .peer_way = gp_vb_peer_way,
    .peer_describe = gp_vb_peer_describe,
    .ep_opens_parts = gp_vb_opens_parts,
};
