/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tcp_connect.c - reaching a listener that may not be there yet.
 *
 * One attempt opens all sockets of the endpoint to one address; when any of
 * them fails, all are closed and the next address is tried, then, after a
 * pause that doubles, the first again. The endpoint is connected when the
 * other side has answered on socket 0, so an open port alone is not taken for
 * a peer.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "transports/tcp/tcp_int.h"

#define SECOND          UINT64_C(1000000000)
#define BACKOFF_FIRST   (SECOND / 100)
#define BACKOFF_LAST    (SECOND / 2)
#define REPORT_INTERVAL (3 * SECOND)
/* How long an address may leave a connection request unanswered. */
#define ADDRESS_TIMEOUT (3 * SECOND)

static void
close_sockets(gp_endpoint *ep)
{
    for (uint32_t i = 0; i < ep->count; i++) {
        gp_tcp_socket *s = ep->sockets[i];

        if (s->source.fd >= 0)
            gp_tcp_unwatch(&s->source);
        s->joined = false;
    }
    ep->attempt->got = 0;
}

static bool
all_joined(const gp_endpoint *ep)
{
    for (uint32_t i = 0; i < ep->count; i++)
        if (!ep->sockets[i]->joined)
            return false;
    return true;
}

const char *
gp_tcp_connect_cause(const gp_endpoint *ep)
{
    const gp_tcp_attempt *a = ep->attempt;

    if (all_joined(ep))
        return "it accepts the connection and does not answer: another program "
               "may listen there";
    if (a->why)
        return a->why;
    return a->error ? strerror(a->error) : "no answer yet";
}

static void
schedule(gp_endpoint *ep)
{
    const gp_tcp_attempt *a = ep->attempt;
    uint64_t when = GP_MIN(a->deadline_ns, a->report_ns);

    if (a->retry_ns)
        when = GP_MIN(when, a->retry_ns);
    if (a->give_up_ns)
        when = GP_MIN(when, a->give_up_ns);
    gp_tcp_wake_at(ep->domain, when);
}

/* The pause doubles, and varies by a quarter so that many workers do not
 * knock in step. */
static void
back_off(gp_endpoint *ep, uint64_t now)
{
    gp_tcp_attempt *a = ep->attempt;
    uint64_t noise = 0;

    (void)gp_random(&noise, sizeof(noise));
    a->next = 0;
    a->give_up_ns = 0;
    a->retry_ns = now + a->backoff_ns * 3 / 4 + noise % (a->backoff_ns / 2);
    a->backoff_ns = GP_MIN(a->backoff_ns * 2, BACKOFF_LAST);
}

static int
open_socket(gp_tcp_socket *s, const gp_address *address)
{
    int fd = socket(address->name.ss_family,
                    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return errno;
    gp_tcp_tune(s->source.domain, fd);
    s->source.fd = fd;
    s->source.kind = GP_TCP_SOCKET;
    if (connect(fd, (const struct sockaddr *)&address->name, address->length) &&
        errno != EINPROGRESS)
        return errno;
    if (gp_tcp_watch(&s->source, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET) !=
        GP_OK)
        return ENOMEM;
    return 0;
}

static int
open_sockets(gp_endpoint *ep)
{
    gp_tcp_attempt *a = ep->attempt;
    int error = 0;

    if (gp_random(&a->group, sizeof(a->group)) != GP_OK)
        return EIO;
    for (uint32_t i = 0; i < ep->count && !error; i++)
        error = open_socket(ep->sockets[i], &a->addresses[a->next]);
    return error;
}

/* Tries addresses until one does not fail at once, or all have. */
static void
try_addresses(gp_endpoint *ep, uint64_t now)
{
    gp_tcp_attempt *a = ep->attempt;

    a->retry_ns = 0;
    for (; a->next < a->count; a->next++) {
        int error = open_sockets(ep);

        if (!error) {
            a->give_up_ns = now + ADDRESS_TIMEOUT;
            return;
        }
        a->error = error;
        a->why = NULL;
        close_sockets(ep);
    }
    back_off(ep, now);
}

static void
address_failed(gp_endpoint *ep, int error, const char *why)
{
    gp_tcp_attempt *a = ep->attempt;

    a->error = error;
    a->why = why;
    close_sockets(ep);
    a->next++;
    try_addresses(ep, gp_clock_ns());
    schedule(ep);
}

gp_status
gp_tcp_connect(gp_domain *d, const char *address, uint64_t deadline_ns,
               gp_endpoint **out)
{
    gp_tcp_attempt *a = calloc(1, sizeof(*a));
    gp_endpoint *ep;
    gp_status status;

    if (!a)
        return gp_fail(GP_ERR_NO_MEMORY, "connect to %s: out of memory",
                       address);
    status = gp_address_resolve(address, false, a->addresses,
                                GP_COUNT_OF(a->addresses), &a->count);
    if (status != GP_OK) {
        free(a);
        return status;
    }
    ep = gp_tcp_ep_create(d, d->sockets);
    if (!ep) {
        free(a);
        return gp_fail(GP_ERR_NO_MEMORY, "connect to %s: out of memory",
                       address);
    }
    snprintf(ep->peer, sizeof(ep->peer), "%s", address);
    ep->attempt = a;
    a->start_ns = gp_clock_ns();
    a->deadline_ns = deadline_ns;
    a->report_ns = a->start_ns + REPORT_INTERVAL;
    a->backoff_ns = BACKOFF_FIRST;
    try_addresses(ep, a->start_ns);
    schedule(ep);
    *out = ep;
    return GP_OK;
}

static double
seconds(uint64_t ns)
{
    return (double)ns / (double)SECOND;
}

static void
report_waiting(const gp_endpoint *ep, uint64_t now)
{
    const gp_tcp_attempt *a = ep->attempt;

    if (a->deadline_ns == UINT64_MAX)
        GP_WARN("waiting for %s: %s, no deadline", ep->peer,
                gp_tcp_connect_cause(ep));
    else
        GP_WARN("waiting for %s: %s, %.0f s left", ep->peer,
                gp_tcp_connect_cause(ep), seconds(a->deadline_ns - now));
}

void
gp_tcp_connect_timer(gp_endpoint *ep, uint64_t now)
{
    gp_tcp_attempt *a = ep->attempt;

    if (now >= a->deadline_ns) {
        gp_tcp_ep_fail(ep, GP_ERR_UNREACHABLE, "%s; tried for %.1f s",
                       gp_tcp_connect_cause(ep), seconds(now - a->start_ns));
        return;
    }
    if (now >= a->report_ns) {
        report_waiting(ep, now);
        a->report_ns = now + REPORT_INTERVAL;
    }
    if (a->give_up_ns && now >= a->give_up_ns) {
        /* Who has accepted may take its time until the deadline. */
        a->give_up_ns = 0;
        if (!all_joined(ep)) {
            address_failed(ep, ETIMEDOUT, NULL);
            return;
        }
    }
    if (a->retry_ns && now >= a->retry_ns)
        try_addresses(ep, now);
    schedule(ep);
}

/* A connection request to a free port of this host's own range can meet
 * itself. */
static bool
is_self(int fd)
{
    struct sockaddr_storage here = {0}, there = {0};
    socklen_t a = sizeof(here), b = sizeof(there);
    char x[GP_ADDRESS_MAX], y[GP_ADDRESS_MAX];

    if (getsockname(fd, (struct sockaddr *)&here, &a) ||
        getpeername(fd, (struct sockaddr *)&there, &b))
        return false;
    gp_address_name(&here, x, sizeof(x));
    gp_address_name(&there, y, sizeof(y));
    return !strcmp(x, y);
}

static bool
is_connected(int fd)
{
    struct sockaddr_storage name;
    socklen_t length = sizeof(name);

    return getpeername(fd, (struct sockaddr *)&name, &length) == 0;
}

static int
say_hello(gp_tcp_socket *s)
{
    uint8_t bytes[GP_TCP_PREAMBLE];
    gp_tcp_hello hello = {.kind = GP_TCP_HELLO,
                          .version = GP_PROTOCOL_VERSION,
                          .index = (uint16_t)s->index,
                          .count = (uint16_t)s->ep->count,
                          .group = s->ep->attempt->group};
    ssize_t n;

    gp_tcp_hello_encode(&hello, bytes);
    n = send(s->source.fd, bytes, sizeof(bytes), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n == (ssize_t)sizeof(bytes))
        return 0;
    return n < 0 ? errno : EIO;
}

/* True when the socket is connected and has sent its preamble. */
static bool
join(gp_tcp_socket *s)
{
    int error = 0;
    socklen_t length = sizeof(error);

    if (s->joined)
        return true;
    (void)getsockopt(s->source.fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (!error && !is_connected(s->source.fd))
        return false; /* an event of a socket that is gone */
    if (!error && is_self(s->source.fd))
        error = ECONNREFUSED;
    if (!error)
        error = say_hello(s);
    if (error) {
        address_failed(s->ep, error, NULL);
        return false;
    }
    gp_tcp_tune_connected(s->ep, s->source.fd);
    s->joined = true;
    return true;
}

static void
answered(gp_endpoint *ep)
{
    gp_tcp_attempt *a = ep->attempt;
    gp_tcp_hello answer = {0};
    gp_status status = gp_tcp_hello_decode(a->answer, &answer);

    if (status == GP_ERR_VERSION || (status == GP_OK && answer.refusal))
        gp_tcp_ep_fail(ep, GP_ERR_VERSION,
                       "it speaks protocol version %u, this side %u; run the "
                       "same gradpush everywhere",
                       answer.version, GP_PROTOCOL_VERSION);
    else if (status != GP_OK || answer.kind != GP_TCP_ANSWER ||
             answer.group != a->group)
        gp_tcp_ep_fail(ep, GP_ERR_PROTOCOL,
                       "what listens there does not speak gradpush");
    else
        gp_tcp_ep_open(ep);
}

/* Reads no further than the answer: what follows belongs to the parser. */
static void
read_answer(gp_tcp_socket *s)
{
    gp_endpoint *ep = s->ep;
    gp_tcp_attempt *a = ep->attempt;
    uint8_t byte;
    ssize_t n;

    if (s->index == 0)
        n = recv(s->source.fd, a->answer + a->got, GP_TCP_PREAMBLE - a->got,
                 MSG_DONTWAIT);
    else
        n = recv(s->source.fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK);
    if (n == 0) {
        address_failed(ep, 0, "it accepted the connection and closed it");
    } else if (n < 0) {
        if (errno != EAGAIN && errno != EINTR)
            address_failed(ep, errno, NULL);
    } else if (s->index == 0) {
        a->got += (uint32_t)n;
        if (a->got == GP_TCP_PREAMBLE)
            answered(ep);
    }
}

void
gp_tcp_connect_event(gp_tcp_socket *s)
{
    if (s->source.fd >= 0 && join(s))
        read_answer(s);
}
