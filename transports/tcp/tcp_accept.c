/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tcp_accept.c - from a stranger's connection to an endpoint.
 *
 * Until a socket's preamble is complete and its group is whole, it costs one
 * descriptor and one small struct, is counted, and has a deadline. When
 * descriptors or places run out, the oldest such socket makes room: an honest
 * peer sends its preamble at once.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "transports/tcp/tcp_int.h"

#define BACKLOG      4096
#define ACCEPT_CALLS 64
#define RESUME_DELAY 0.1

static gp_status
open_listener(const gp_domain *d, const gp_address *a, int *out)
{
    int one = 1, zero = 0, error;
    int fd = socket(a->name.ss_family,
                    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return GP_ERR_SYSTEM;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (a->name.ss_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
    /* Accepted sockets inherit the buffers; the window scale needs them now. */
    gp_tcp_tune(d, fd);
    if (bind(fd, (const struct sockaddr *)&a->name, a->length) ||
        listen(fd, BACKLOG)) {
        error = errno;
        (void)close(fd);
        errno = error;
        return GP_ERR_SYSTEM;
    }
    *out = fd;
    return GP_OK;
}

/* An address of any host has nothing to tell but its port. */
static void
describe_bound(int fd, bool any, char *bound, size_t capacity)
{
    struct sockaddr_storage name = {0};
    socklen_t length = sizeof(name);
    char text[GP_ADDRESS_MAX];
    const char *from = text;

    (void)getsockname(fd, (struct sockaddr *)&name, &length);
    gp_address_name(&name, text, sizeof(text));
    if (any)
        from = strrchr(text, ':');
    if (capacity) {
        strncpy(bound, from, capacity - 1);
        bound[capacity - 1] = '\0';
    }
}

gp_status
gp_tcp_listen(gp_domain *d, const char *address, char *bound, size_t capacity)
{
    gp_address list[GP_ADDRESSES_MAX];
    size_t count, i;
    gp_status status;

    if (d->listener.fd >= 0)
        return gp_fail(GP_ERR_STATE, "listen on %s: the domain listens already",
                       address);
    status = gp_address_resolve(address, true, list, GP_COUNT_OF(list), &count);
    if (status != GP_OK)
        return status;
    for (i = 0; i < count; i++) {
        if (open_listener(d, &list[i], &d->listener.fd) == GP_OK)
            break;
        if (errno == EADDRINUSE || i + 1 == count)
            return gp_address_refused(address, errno);
    }
    d->listener.kind = GP_TCP_LISTENER;
    status = gp_tcp_watch(&d->listener, EPOLLIN);
    if (status != GP_OK) {
        (void)close(d->listener.fd);
        d->listener.fd = -1;
        return status;
    }
    describe_bound(d->listener.fd, gp_address_is_any(&list[i]), bound,
                   capacity);
    return GP_OK;
}

void
gp_tcp_pending_drop(gp_tcp_pending *p)
{
    p->source.domain->pending_count--;
    gp_tcp_unwatch(&p->source);
    gp_tcp_bury(&p->source);
}

static gp_tcp_pending *
pending_of(gp_list *item)
{
    return GP_CONTAINER_OF(item, gp_tcp_pending, source.link);
}

static bool
drop_oldest(gp_domain *d)
{
    if (gp_list_empty(&d->pending))
        return false;
    gp_tcp_pending_drop(pending_of(d->pending.next));
    return true;
}

static void
peer_name(int fd, char *text, size_t capacity)
{
    struct sockaddr_storage name = {0};
    socklen_t length = sizeof(name);

    (void)getpeername(fd, (struct sockaddr *)&name, &length);
    gp_address_name(&name, text, capacity);
}

static void
refuse(gp_tcp_pending *p, const char *why)
{
    char name[GP_ADDRESS_MAX];

    if (gp_log_may(&p->source.domain->log, "tcp")) {
        peer_name(p->source.fd, name, sizeof(name));
        GP_WARN("tcp: refused a connection from %s: %s", name, why);
    }
    gp_tcp_pending_drop(p);
}

static void
admit(gp_domain *d, int fd)
{
    gp_tcp_pending *p = calloc(1, sizeof(*p));

    if (!p) {
        (void)close(fd);
        return;
    }
    p->source = (gp_tcp_source){.domain = d, .fd = fd, .kind = GP_TCP_PENDING};
    gp_list_init(&p->source.link);
    if (gp_tcp_watch(&p->source, EPOLLIN | EPOLLRDHUP) != GP_OK) {
        (void)close(fd);
        free(p);
        return;
    }
    if (d->pending_count >= d->pending_max)
        drop_oldest(d);
    p->deadline_ns = gp_deadline(d->handshake_seconds);
    gp_list_insert(&d->pending, &p->source.link);
    d->pending_count++;
    gp_tcp_wake_at(d, p->deadline_ns);
    gp_tcp_pending_event(p);
}

/* Out of descriptors: waiting for better times beats spinning. */
static void
pause_accepting(gp_domain *d, int error)
{
    struct epoll_event none = {.data.ptr = &d->listener};

    if (gp_log_may(&d->log, "tcp"))
        GP_WARN("tcp: cannot accept connections: %s; hint: raise the limit of "
                "open files (ulimit -n)",
                strerror(error));
    (void)epoll_ctl(d->epoll_fd, EPOLL_CTL_MOD, d->listener.fd, &none);
    d->resume_ns = gp_deadline(RESUME_DELAY);
    gp_tcp_wake_at(d, d->resume_ns);
}

void
gp_tcp_accept(gp_domain *d)
{
    for (int i = 0; i < ACCEPT_CALLS; i++) {
        int fd =
            accept4(d->listener.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0) {
            gp_tcp_tune(d, fd);
            admit(d, fd);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
                   errno == ENOMEM) {
            if (!drop_oldest(d)) {
                pause_accepting(d, errno);
                return;
            }
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return;
        }
    }
}

void
gp_tcp_accept_timers(gp_domain *d, uint64_t now)
{
    struct epoll_event in = {.events = EPOLLIN, .data.ptr = &d->listener};

    if (d->resume_ns && d->resume_ns <= now) {
        d->resume_ns = 0;
        (void)epoll_ctl(d->epoll_fd, EPOLL_CTL_MOD, d->listener.fd, &in);
    } else if (d->resume_ns) {
        gp_tcp_wake_at(d, d->resume_ns);
    }
    while (!gp_list_empty(&d->pending)) {
        gp_tcp_pending *p = pending_of(d->pending.next);

        if (p->deadline_ns > now) {
            gp_tcp_wake_at(d, p->deadline_ns);
            return;
        }
        refuse(p, "no complete preamble within handshake_timeout");
    }
}

static bool
send_answer(int fd, const gp_tcp_hello *to, uint8_t refusal)
{
    uint8_t bytes[GP_TCP_PREAMBLE];
    gp_tcp_hello answer = {.kind = GP_TCP_ANSWER,
                           .refusal = refusal,
                           .version = GP_PROTOCOL_VERSION,
                           .count = 1,
                           .group = to->group};

    gp_tcp_hello_encode(&answer, bytes);
    return send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL | MSG_DONTWAIT) ==
           (ssize_t)sizeof(bytes);
}

/* Fills `members` by index; false while some are missing. */
static bool
group_complete(gp_domain *d, const gp_tcp_hello *hello,
               gp_tcp_pending *members[GP_TCP_SOCKETS_MAX])
{
    uint32_t found = 0;

    GP_LIST_EACH (item, &d->pending) {
        gp_tcp_pending *p = pending_of(item);

        if (p->got < GP_TCP_PREAMBLE || p->hello.group != hello->group ||
            p->hello.count != hello->count || members[p->hello.index])
            continue;
        members[p->hello.index] = p;
        found++;
    }
    return found == hello->count;
}

/* Hands a descriptor from a pending struct to a socket. */
static gp_status
adopt(gp_tcp_socket *s, gp_tcp_pending *p)
{
    gp_domain *d = p->source.domain;
    int fd = p->source.fd;

    (void)epoll_ctl(d->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    p->source.fd = -1;
    gp_tcp_pending_drop(p);
    s->source.fd = fd;
    s->source.kind = GP_TCP_SOCKET;
    gp_tcp_tune_connected(s->ep, fd);
    return gp_tcp_watch(&s->source, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
}

static void
make_endpoint(gp_domain *d, const gp_tcp_hello *hello,
              gp_tcp_pending *members[GP_TCP_SOCKETS_MAX])
{
    gp_endpoint *ep = gp_tcp_ep_create(d, hello->count);
    gp_status status = GP_OK;

    if (!ep) {
        for (uint32_t i = 0; i < hello->count; i++)
            refuse(members[i], "out of memory");
        return;
    }
    ep->accepted = true;
    peer_name(members[0]->source.fd, ep->peer, sizeof(ep->peer));
    for (uint32_t i = 0; i < ep->count; i++)
        if (adopt(ep->sockets[i], members[i]) != GP_OK)
            status = GP_ERR_SYSTEM;
    /* Nobody has been told of it yet: it can vanish without an event. */
    if (status != GP_OK || !send_answer(ep->sockets[0]->source.fd, hello, 0)) {
        gp_tcp_ep_close(ep);
        return;
    }
    gp_tcp_ep_open(ep);
}

static void
preamble_complete(gp_tcp_pending *p)
{
    gp_tcp_pending *members[GP_TCP_SOCKETS_MAX] = {NULL};
    gp_status status = gp_tcp_hello_decode(p->bytes, &p->hello);
    gp_tcp_hello hello = p->hello;

    if (status == GP_ERR_VERSION) {
        (void)send_answer(p->source.fd, &hello, 1);
        refuse(p, "it speaks another protocol version; run the same gradpush "
                  "everywhere");
    } else if (status != GP_OK || hello.kind != GP_TCP_HELLO) {
        refuse(p, "it does not speak gradpush");
    } else if (group_complete(p->source.domain, &hello, members)) {
        make_endpoint(p->source.domain, &hello, members);
    }
}

void
gp_tcp_pending_event(gp_tcp_pending *p)
{
    ssize_t n;
    uint8_t beyond;

    if (p->got == GP_TCP_PREAMBLE) {
        /* Waits for the rest of its group: only its end is of interest. */
        n = recv(p->source.fd, &beyond, 1, MSG_DONTWAIT | MSG_PEEK);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            gp_tcp_pending_drop(p);
        else if (n > 0)
            refuse(p, "it sent more than a preamble before the answer");
        return;
    }
    n = recv(p->source.fd, p->bytes + p->got, GP_TCP_PREAMBLE - p->got,
             MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        gp_tcp_pending_drop(p);
        return;
    }
    p->got += (uint32_t)n;
    if (p->got == GP_TCP_PREAMBLE)
        preamble_complete(p);
}
