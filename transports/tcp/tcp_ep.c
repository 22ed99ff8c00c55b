/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tcp_ep.c - the life of an endpoint, and the graceful end of its sockets.
 *
 * An endpoint that failed keeps its memory, without descriptors, until its
 * owner closes it. A socket that is closed here while the peer may still send
 * lingers: closing it with unread input would make the kernel reset the
 * connection and drop what the peer has not read yet.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "transports/tcp/tcp_int.h"

#define LINGER_SECONDS 2.0
#define LINGER_MAX     1024u
/* Calls that discard input before others' turn. */
#define DRAIN_CALLS 256
#define DRAIN_BYTES (1u << 16)

gp_tcp_socket *
gp_tcp_socket_create(gp_endpoint *ep, uint32_t index)
{
    gp_tcp_socket *s = calloc(1, sizeof(*s));

    if (!s)
        return NULL;
    gp_list_init(&s->source.link);
    s->source.domain = ep->domain;
    s->source.fd = -1;
    s->source.kind = GP_TCP_DEAD;
    s->ep = ep;
    s->index = index;
    gp_list_init(&s->ready);
    gp_list_init(&s->hot);
    s->rx.regions = &ep->regions;
    s->rx.control_limit = GP_CONTROL_MAX_UNTRUSTED;
    s->rx.check = ep->domain->checksum;
    return s;
}

gp_endpoint *
gp_tcp_ep_create(gp_domain *d, uint32_t sockets)
{
    gp_endpoint *ep = calloc(1, sizeof(*ep));

    if (!ep)
        return NULL;
    ep->domain = d;
    ep->checksum = d->checksum;
    ep->state = GP_TCP_CONNECTING;
    gp_list_init(&ep->link);
    gp_list_init(&ep->event);
    for (; ep->count < sockets; ep->count++) {
        ep->sockets[ep->count] = gp_tcp_socket_create(ep, ep->count);
        if (!ep->sockets[ep->count]) {
            gp_tcp_ep_free(ep);
            return NULL;
        }
    }
    gp_list_insert(&d->endpoints, &ep->link);
    return ep;
}

void
gp_tcp_ep_free(gp_endpoint *ep)
{
    gp_list_remove(&ep->link);
    gp_list_remove(&ep->event);
    for (uint32_t i = 0; i < ep->count; i++) {
        gp_tcp_socket *s = ep->sockets[i];

        gp_tcp_rx_free(&s->rx);
        gp_tcp_queue_free(&s->control);
        gp_tcp_queue_free(&s->data);
        free(s);
    }
    gp_regions_free(&ep->regions);
    free(ep->attempt);
    free(ep);
}

void
gp_tcp_ep_open(gp_endpoint *ep)
{
    ep->state = GP_TCP_OPEN;
    free(ep->attempt);
    ep->attempt = NULL;
    gp_list_insert(&ep->domain->opened, &ep->event);
    if (ep->domain->keepalive_ms)
        gp_tcp_wake_at(ep->domain,
                       gp_clock_ns() + ep->domain->keepalive_ms * 500000ull);
    for (uint32_t i = 0; i < ep->count; i++) {
        ep->sockets[i]->readable = true;
        gp_tcp_ready(ep->sockets[i]);
    }
}

/* Takes a socket out of every list; its descriptor is the caller's. */
static int
detach(gp_tcp_socket *s)
{
    int fd = s->source.fd;

    gp_tcp_unblock(s);
    gp_list_remove(&s->ready);
    if (!gp_list_empty(&s->hot)) {
        gp_list_remove(&s->hot);
        s->source.domain->hot_count--;
    }
    s->source.fd = -1;
    s->source.kind = GP_TCP_DEAD;
    if (fd >= 0)
        (void)epoll_ctl(s->source.domain->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    return fd;
}

static void
close_socket(gp_tcp_socket *s)
{
    int fd = detach(s);

    if (fd < 0)
        return;
    /* Ends the connection even when a forked child holds a copy. */
    (void)shutdown(fd, SHUT_RDWR);
    (void)close(fd);
}

static void
log_end(gp_endpoint *ep)
{
    if (ep->status == GP_OK)
        GP_DEBUG("tcp %s: %s", ep->peer, ep->why);
    else if (ep->trusted || !ep->accepted ||
             gp_log_may(&ep->domain->log, "tcp"))
        GP_WARN("tcp %s: %s (%s)", ep->peer, ep->why,
                gp_status_text(ep->status));
}

void
gp_tcp_ep_fail(gp_endpoint *ep, gp_status status, const char *format, ...)
{
    va_list args;

    if (ep->state == GP_TCP_CLOSED)
        return;
    va_start(args, format);
    vsnprintf(ep->why, sizeof(ep->why), format, args);
    va_end(args);
    ep->state = GP_TCP_CLOSED;
    ep->status = status;
    for (uint32_t i = 0; i < ep->count; i++)
        close_socket(ep->sockets[i]);
    free(ep->attempt);
    ep->attempt = NULL;
    /* ACCEPTED or CONNECTED still comes first when it is due. */
    if (gp_list_empty(&ep->event))
        gp_list_insert(&ep->domain->closed, &ep->event);
    log_end(ep);
}

/* 1: the peer ended; 0: it may still send. */
static int
drain(int fd)
{
    uint8_t sink[DRAIN_BYTES]; /* the kernel leaves it alone: MSG_TRUNC */

    for (int i = 0; i < DRAIN_CALLS; i++) {
        ssize_t n = recv(fd, sink, DRAIN_BYTES, MSG_TRUNC | MSG_DONTWAIT);

        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            return 1;
        if (n < 0 && errno == EAGAIN)
            return 0;
    }
    return 0;
}

void
gp_tcp_linger_end(gp_tcp_lingering *l)
{
    (void)drain(l->source.fd);
    l->source.domain->lingering_count--;
    gp_tcp_unwatch(&l->source);
    gp_tcp_bury(&l->source);
}

static gp_tcp_lingering *
oldest_lingering(gp_domain *d)
{
    return GP_CONTAINER_OF(d->lingering.next, gp_tcp_lingering, source.link);
}

static void
linger(gp_domain *d, int fd)
{
    gp_tcp_lingering *l;

    (void)shutdown(fd, SHUT_WR);
    l = drain(fd) ? NULL : calloc(1, sizeof(*l));
    if (!l) {
        (void)close(fd);
        return;
    }
    l->source =
        (gp_tcp_source){.domain = d, .fd = fd, .kind = GP_TCP_LINGERING};
    gp_list_init(&l->source.link);
    l->deadline_ns = gp_deadline(LINGER_SECONDS);
    if (gp_tcp_watch(&l->source, EPOLLIN | EPOLLRDHUP) != GP_OK) {
        (void)close(fd);
        free(l);
        return;
    }
    if (d->lingering_count == LINGER_MAX)
        gp_tcp_linger_end(oldest_lingering(d));
    gp_list_insert(&d->lingering, &l->source.link);
    d->lingering_count++;
    gp_tcp_wake_at(d, l->deadline_ns);
}

void
gp_tcp_linger_event(gp_tcp_lingering *l)
{
    if (drain(l->source.fd))
        gp_tcp_linger_end(l);
}

void
gp_tcp_linger_timers(gp_domain *d, uint64_t now)
{
    while (!gp_list_empty(&d->lingering)) {
        gp_tcp_lingering *l = oldest_lingering(d);

        if (l->deadline_ns > now) {
            gp_tcp_wake_at(d, l->deadline_ns);
            return;
        }
        gp_tcp_linger_end(l);
    }
}

void
gp_tcp_ep_close(gp_endpoint *ep)
{
    gp_domain *d = ep->domain;

    if (ep->state == GP_TCP_OPEN)
        (void)gp_tcp_flush(ep);
    for (uint32_t i = 0; i < ep->count; i++) {
        gp_tcp_socket *s = ep->sockets[i];
        int fd;

        if (ep->state != GP_TCP_OPEN || s->eof || s->error) {
            close_socket(s);
            continue;
        }
        fd = detach(s);
        if (fd >= 0)
            linger(d, fd);
    }
    ep->state = GP_TCP_CLOSED;
    gp_list_remove(&ep->event);
    gp_list_remove(&ep->link);
    /* Events of the last progress() may still point into it. */
    gp_list_insert(&d->retired, &ep->link);
}
