/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tcp.c - the tcp transport: its table, its domain, and progress().
 *
 * Sockets are watched edge-triggered, once, for everything; what an edge said
 * is kept in flags. While few sockets are active, progress() tries those
 * directly and asks epoll only every few calls, which saves a system call per
 * message. arm() always asks epoll, so no edge is ever slept over.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "transports/tcp/tcp_int.h"
#include "transports/transports.h"

#define PENDING_MAX 4096u
/* Up to so many active sockets are tried without asking epoll, */
#define HOT_MAX 4u
/* for so many calls at a stretch; */
#define SKIP_MAX 16u
/* a socket is active until it received nothing in so many calls. */
#define HOT_TICKS 4096u
/* One that received nothing in so many is tried in one of a few. */
#define REST_TICKS  64u
#define REST_EVERY  4u
#define EPOLL_BATCH 64

gp_event *
gp_tcp_emit(gp_tcp_out *out, gp_endpoint *ep, gp_event_type type)
{
    gp_event *event = &out->events[out->count++];

    event->type = type;
    event->status = GP_OK;
    event->ep = ep;
    event->user = ep->user;
    return event;
}

void
gp_tcp_ready(gp_tcp_socket *s)
{
    if (gp_list_empty(&s->ready))
        gp_list_insert(&s->source.domain->ready, &s->ready);
}

gp_status
gp_tcp_watch(gp_tcp_source *source, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = source};

    if (epoll_ctl(source->domain->epoll_fd, EPOLL_CTL_ADD, source->fd, &event))
        return gp_fail_errno(GP_ERR_SYSTEM, errno, "epoll_ctl");
    return GP_OK;
}

void
gp_tcp_unwatch(gp_tcp_source *source)
{
    if (source->fd < 0)
        return;
    /* A forked child may hold the descriptor: closing it here would not end
     * the watch. */
    (void)epoll_ctl(source->domain->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
    (void)close(source->fd);
    source->fd = -1;
    source->kind = GP_TCP_DEAD;
}

void
gp_tcp_bury(gp_tcp_source *source)
{
    gp_list_remove(&source->link);
    source->kind = GP_TCP_DEAD;
    gp_list_insert(&source->domain->buried, &source->link);
}

void
gp_tcp_wake_at(gp_domain *d, uint64_t when_ns)
{
    struct itimerspec at = {
        .it_value = {.tv_sec = (time_t)(when_ns / 1000000000u),
                     .tv_nsec = (long)(when_ns % 1000000000u)}};

    if (when_ns >= d->timer_ns)
        return;
    d->timer_ns = when_ns;
    (void)timerfd_settime(d->timer.fd, TFD_TIMER_ABSTIME, &at, NULL);
}

static gp_status
probe(const gp_config *config, char *why, size_t capacity)
{
    (void)config;
    snprintf(why, capacity, "kernel TCP, IPv4 and IPv6");
    return GP_OK;
}

static void
configure(gp_domain *d, const gp_config *config)
{
    const char *checksum = gp_config_get(config, "checksum");
    bool given = checksum && strcmp(checksum, "auto") != 0;
    struct rlimit files = {.rlim_cur = 0};

    d->sockets = (uint32_t)gp_config_int(config, "sockets");
    d->checksum = !given || strcmp(checksum, "off") != 0;
    d->checksum_local = given && d->checksum;
    d->send_buffer = (int)gp_config_size(config, "send_buffer");
    d->receive_buffer = (int)gp_config_size(config, "receive_buffer");
    d->handshake_seconds = gp_config_seconds(config, "handshake_timeout");
    d->keepalive_ms = (uint32_t)(gp_config_seconds(config, "keepalive") * 1000);
    d->patience_ms = (uint32_t)(gp_config_seconds(config, "timeout") * 1000);
    /* Strangers get at most half of the descriptors. */
    d->pending_max = PENDING_MAX;
    if (!getrlimit(RLIMIT_NOFILE, &files) &&
        files.rlim_cur / 2 < d->pending_max)
        d->pending_max = (uint32_t)GP_MAX(files.rlim_cur / 2, 16u);
}

static void
init_lists(gp_domain *d)
{
    gp_list *lists[] = {&d->endpoints,  &d->opened,       &d->closed,
                        &d->ready,      &d->hot,          &d->pending,
                        &d->lingering,  &d->buried,       &d->retired,
                        &d->timer.link, &d->listener.link};

    for (size_t i = 0; i < GP_COUNT_OF(lists); i++)
        gp_list_init(lists[i]);
}

static gp_status
open_descriptors(gp_domain *d)
{
    d->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (d->epoll_fd < 0)
        return gp_fail_errno(GP_ERR_SYSTEM, errno, "epoll_create1");
    d->timer.fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (d->timer.fd < 0)
        return gp_fail_errno(GP_ERR_SYSTEM, errno, "timerfd_create");
    d->timer.kind = GP_TCP_TIMER;
    return gp_tcp_watch(&d->timer, EPOLLIN);
}

static void
free_buried(gp_domain *d)
{
    gp_list *item;

    /* The source comes first in what embeds it. */
    while ((item = gp_list_pop(&d->buried)))
        free(GP_CONTAINER_OF(item, gp_tcp_source, link));
    while ((item = gp_list_pop(&d->retired)))
        gp_tcp_ep_free(GP_CONTAINER_OF(item, gp_endpoint, link));
}

static void
close_domain(gp_domain *d)
{
    if (!d)
        return;
    GP_LIST_EACH (item, &d->endpoints)
        gp_tcp_ep_close(GP_CONTAINER_OF(item, gp_endpoint, link));
    GP_LIST_EACH (item, &d->lingering)
        gp_tcp_linger_end(GP_CONTAINER_OF(item, gp_tcp_lingering, source.link));
    GP_LIST_EACH (item, &d->pending)
        gp_tcp_pending_drop(GP_CONTAINER_OF(item, gp_tcp_pending, source.link));
    gp_tcp_unwatch(&d->listener);
    gp_tcp_unwatch(&d->timer);
    if (d->epoll_fd >= 0)
        (void)close(d->epoll_fd);
    free_buried(d);
    free(d);
}

static gp_status
open_domain(const gp_config *config, gp_domain **out)
{
    gp_domain *d = calloc(1, sizeof(*d));
    gp_status status;

    if (!d)
        return gp_fail(GP_ERR_NO_MEMORY, "tcp: out of memory");
    init_lists(d);
    d->epoll_fd = d->timer.fd = d->listener.fd = -1;
    d->timer.domain = d->listener.domain = d;
    d->timer_ns = UINT64_MAX;
    configure(d, config);
    status = open_descriptors(d);
    if (status != GP_OK) {
        close_domain(d);
        return status;
    }
    *out = d;
    return GP_OK;
}

/* A host that fell silent while something was under way to it. */
static void
check_silence(gp_domain *d, gp_endpoint *ep, uint64_t now)
{
    if (!d->keepalive_ms || ep->state != GP_TCP_OPEN)
        return;
    for (uint32_t i = 0; i < ep->count; i++)
        if (gp_tcp_silent(ep->sockets[i]->source.fd, d->keepalive_ms)) {
            gp_tcp_ep_fail(ep, GP_ERR_PEER_LOST,
                           "the host has not answered for %u ms",
                           d->keepalive_ms);
            return;
        }
    gp_tcp_wake_at(d, now + d->keepalive_ms * 500000ull);
}

static void
run_timers(gp_domain *d)
{
    uint64_t ignored, now = gp_clock_ns();

    if (read(d->timer.fd, &ignored, sizeof(ignored)) < 0 && errno != EAGAIN)
        GP_WARN("tcp: timerfd: %s", strerror(errno));
    d->timer_ns = UINT64_MAX;
    gp_tcp_accept_timers(d, now);
    gp_tcp_linger_timers(d, now);
    GP_LIST_EACH (item, &d->endpoints) {
        gp_endpoint *ep = GP_CONTAINER_OF(item, gp_endpoint, link);

        if (ep->state == GP_TCP_CONNECTING)
            gp_tcp_connect_timer(ep, now);
        else if (ep->state == GP_TCP_OPEN && ep->eof_deadline_ns) {
            if (now >= ep->eof_deadline_ns)
                gp_tcp_ep_fail(ep, GP_ERR_PEER_LOST,
                               "the peer closed some of its sockets only");
            else
                gp_tcp_wake_at(d, ep->eof_deadline_ns);
        }
        check_silence(d, ep, now);
    }
}

static void
socket_event(gp_tcp_socket *s, uint32_t events)
{
    if (s->ep->state == GP_TCP_CONNECTING) {
        gp_tcp_connect_event(s);
        return;
    }
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        s->hangup = s->readable = true;
    if (events & EPOLLIN)
        s->readable = true;
    if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
        gp_tcp_unblock(s);
    if (!s->eof)
        gp_tcp_ready(s);
}

static void
dispatch(gp_tcp_source *source, uint32_t events)
{
    switch (source->kind) {
    case GP_TCP_LISTENER:
        gp_tcp_accept(source->domain);
        break;
    case GP_TCP_TIMER:
        run_timers(source->domain);
        break;
    case GP_TCP_PENDING:
        gp_tcp_pending_event((gp_tcp_pending *)source);
        break;
    case GP_TCP_LINGERING:
        gp_tcp_linger_event((gp_tcp_lingering *)source);
        break;
    case GP_TCP_SOCKET:
        socket_event((gp_tcp_socket *)source, events);
        break;
    default:
        break; /* ended by an event before it */
    }
}

/* Number of events, or a negative status. */
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
                   : gp_fail_errno(GP_ERR_SYSTEM, errno, "tcp: epoll_wait");
    for (int i = 0; i < n; i++)
        dispatch(events[i].data.ptr, events[i].events);
    return n;
}

/* Marks the active sockets for a try; false when epoll is to be asked. */
static bool
try_hot(gp_domain *d)
{
    if (d->armed || d->blocked_count || !d->hot_count ||
        d->hot_count > HOT_MAX || ++d->skipped >= SKIP_MAX)
        return false;
    GP_LIST_EACH (item, &d->hot) {
        gp_tcp_socket *s = GP_CONTAINER_OF(item, gp_tcp_socket, hot);

        /* Beside one that is busy another one costs a call each time. */
        if (d->tick - s->last_rx > REST_TICKS && d->tick % REST_EVERY)
            continue;
        s->readable = true;
        gp_tcp_ready(s);
    }
    return true;
}

static void
cool_down(gp_domain *d)
{
    GP_LIST_EACH (item, &d->hot) {
        gp_tcp_socket *s = GP_CONTAINER_OF(item, gp_tcp_socket, hot);

        if (d->tick - s->last_rx > HOT_TICKS) {
            gp_list_remove(&s->hot);
            d->hot_count--;
        }
    }
}

static void
report_opened(gp_domain *d, gp_tcp_out *out)
{
    while (out->count < out->max && !gp_list_empty(&d->opened)) {
        gp_endpoint *ep =
            GP_CONTAINER_OF(gp_list_pop(&d->opened), gp_endpoint, event);

        ep->announced = true;
        gp_tcp_emit(out, ep,
                    ep->accepted ? GP_EVENT_ACCEPTED : GP_EVENT_CONNECTED);
        if (ep->state == GP_TCP_CLOSED)
            gp_list_insert(&d->closed, &ep->event);
    }
}

static void
report_closed(gp_domain *d, gp_tcp_out *out)
{
    GP_LIST_EACH (item, &d->closed) {
        gp_endpoint *ep = GP_CONTAINER_OF(item, gp_endpoint, event);

        for (uint32_t i = 0; i < ep->count; i++)
            gp_tcp_report_sent(ep->sockets[i], out);
        if (out->count == out->max)
            return;
        gp_list_remove(item);
        gp_tcp_emit(out, ep, GP_EVENT_CLOSED)->status = ep->status;
    }
}

static void
serve(gp_tcp_socket *s, gp_tcp_out *out)
{
    gp_endpoint *ep = s->ep;

    if (s->eof)
        s->readable = false;
    if (ep->announced) {
        if (gp_tcp_unsent(s))
            gp_tcp_send(s);
        gp_tcp_report_sent(s, out);
        if (s->readable)
            gp_tcp_receive(s, out);
    }
    if (ep->state == GP_TCP_OPEN &&
        (s->readable || gp_tcp_unreported(s) ||
         (gp_tcp_unsent(s) && !s->blocked && !s->error)))
        gp_tcp_ready(s);
}

/* Each socket at most once; those with more to do go to the end. */
static void
serve_ready(gp_domain *d, gp_tcp_out *out)
{
    gp_list turn, *item;

    if (gp_list_empty(&d->ready))
        return;
    turn = d->ready;
    turn.next->prev = turn.prev->next = &turn;
    gp_list_init(&d->ready);
    while (out->count < out->max && (item = gp_list_pop(&turn)))
        serve(GP_CONTAINER_OF(item, gp_tcp_socket, ready), out);
    while ((item = gp_list_pop(&turn)))
        gp_list_insert(&d->ready, item);
}

static int
progress(gp_domain *d, gp_event *events, int max)
{
    gp_tcp_out out = {events, 0, max};

    d->tick++;
    free_buried(d);
    if (!try_hot(d)) {
        int result = ask_epoll(d);

        if (result < 0)
            return result;
        cool_down(d);
    }
    report_opened(d, &out);
    serve_ready(d, &out);
    report_closed(d, &out);
    return out.count;
}

static bool
has_work(const gp_domain *d)
{
    return !gp_list_empty(&d->opened) || !gp_list_empty(&d->closed) ||
           !gp_list_empty(&d->ready);
}

static gp_status
arm(gp_domain *d)
{
    int n;

    if (has_work(d))
        return GP_AGAIN;
    n = ask_epoll(d);
    if (n < 0 || n == EPOLL_BATCH || has_work(d))
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
set_user(gp_endpoint *ep, void *user)
{
    ep->user = user;
}

static void
trust(gp_endpoint *ep)
{
    ep->trusted = true;
    for (uint32_t i = 0; i < ep->count; i++)
        ep->sockets[i]->rx.control_limit = GP_CONTROL_MAX;
}

static void
describe(const gp_endpoint *ep, char *text, size_t capacity)
{
    if (ep->attempt)
        snprintf(text, capacity, "tcp: %s", gp_tcp_connect_cause(ep));
    else if (!ep->accepted && !ep->announced && *ep->why)
        snprintf(text, capacity, "tcp: %s", ep->why);
    else
        snprintf(text, capacity, "tcp %s sockets %u checksum %s%s%s", ep->peer,
                 ep->count, ep->checksum ? "on" : "off", *ep->why ? ": " : "",
                 ep->why);
}

static gp_status
mem_reg(gp_domain *d, void *base, size_t bytes, gp_mem **out)
{
    (void)d;
    return gp_mem_note(base, bytes, out);
}

static void
mem_dereg(gp_mem *mem)
{
    free(mem);
}

static gp_status
expose(gp_endpoint *ep, gp_mem *mem, size_t offset, size_t bytes,
       uint32_t flags, uint32_t *token)
{
    return gp_regions_expose(&ep->regions, mem, offset, bytes, flags, token);
}

static void
unexpose(gp_endpoint *ep, uint32_t token)
{
    gp_regions_withdraw(&ep->regions, token);
    for (uint32_t i = 0; i < ep->count; i++)
        gp_tcp_rx_revoke(&ep->sockets[i]->rx, token);
}

static void
release(gp_endpoint *ep, const gp_msg *msg, const void *payload)
{
    /* The payload lies in the owner's region. */
    (void)ep;
    (void)msg;
    (void)payload;
}

const gp_transport_ops gp_tcp_ops = {
    .abi = GP_TRANSPORT_ABI,
    .caps = GP_CAP_CHECKSUM,
    .name = "tcp",
    .text = "TCP over IPv4 and IPv6, several sockets per peer on request",
    .probe = probe,
    .open = open_domain,
    .close = close_domain,
    .listen = gp_tcp_listen,
    .connect = gp_tcp_connect,
    .ep_close = gp_tcp_ep_close,
    .ep_set_user = set_user,
    .ep_trust = trust,
    .ep_describe = describe,
    .mem_reg = mem_reg,
    .mem_dereg = mem_dereg,
    .expose = expose,
    .unexpose = unexpose,
    .post = gp_tcp_post,
    .flush = gp_tcp_flush,
    .release = release,
    .progress = progress,
    .event_fd = event_fd,
    .arm = arm,
};
