/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_listen.c - the listening sockets of a store's address.
 *
 * An address that is not this host's is listened to on all interfaces, with a
 * warning: a service address that forwards here (Kubernetes, NAT) is no local
 * address and yet right.
 */
#include "rendezvous/store_listen.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "rendezvous/net.h"
#include "rendezvous/rendezvous.h"

#define BACKLOG 1024

static void
set_port(struct sockaddr *address, uint16_t port)
{
    if (address->sa_family == AF_INET)
        ((struct sockaddr_in *)(void *)address)->sin_port = htons(port);
    else
        ((struct sockaddr_in6 *)(void *)address)->sin6_port = htons(port);
}

static uint16_t
port_of(int fd)
{
    struct sockaddr_storage local = {0};
    socklen_t length = sizeof(local);

    if (getsockname(fd, (struct sockaddr *)&local, &length) != 0)
        return 0;
    if (local.ss_family == AF_INET)
        return ntohs(((struct sockaddr_in *)(void *)&local)->sin_port);
    return ntohs(((struct sockaddr_in6 *)(void *)&local)->sin6_port);
}

/* One socket; 0 or the errno. `dual` also takes IPv4 on an IPv6 socket. */
static int
add_socket(gp_listeners *l, struct sockaddr *address, socklen_t length,
           bool dual)
{
    int on = 1, v6only = !dual;
    int fd = socket(address->sa_family,
                    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int error;

    if (fd < 0)
        return errno;
    if (l->count > 0)
        set_port(address, l->port);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (address->sa_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof(v6only));
    if (bind(fd, address, length) != 0 || listen(fd, BACKLOG) != 0) {
        error = errno;
        close(fd);
        return error;
    }
    l->port = port_of(fd);
    l->fd[l->count++] = fd;
    return 0;
}

static int
listen_anywhere(gp_listeners *l, uint16_t port)
{
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6,
                              .sin6_port = htons(port),
                              .sin6_addr = IN6ADDR_ANY_INIT};
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    int error = add_socket(l, (struct sockaddr *)&v6, sizeof(v6), true);

    l->any = true;
    if (error != EAFNOSUPPORT && error != EADDRNOTAVAIL)
        return error;
    return add_socket(l, (struct sockaddr *)&v4, sizeof(v4), false);
}

/* All addresses of a literal: "localhost" has two. One that exists must be
 * free; one that does not exist is passed over. */
static int
listen_at(gp_listeners *l, const struct addrinfo *list)
{
    int first_error = EADDRNOTAVAIL;

    for (const struct addrinfo *i = list; i && l->count < GP_LISTENERS_MAX;
         i = i->ai_next) {
        int error = add_socket(l, i->ai_addr, i->ai_addrlen, false);

        if (error == EADDRNOTAVAIL || error == EAFNOSUPPORT || error == 0)
            continue;
        first_error = error;
        break;
    }
    if (first_error != EADDRNOTAVAIL)
        gp_listeners_close(l);
    return l->count > 0 ? 0 : first_error;
}

/* Whether one of the addresses is this host's. */
static bool
is_local(const struct addrinfo *list)
{
    bool found = false;

    for (const struct addrinfo *i = list; i && !found; i = i->ai_next) {
        int fd = socket(i->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        if (fd < 0)
            continue;
        set_port(i->ai_addr, 0);
        found = bind(fd, i->ai_addr, i->ai_addrlen) == 0;
        close(fd);
    }
    return found;
}

static void
warn_foreign(const char *address, uint16_t port)
{
    GP_WARN("'%s' is not an address of this host: the store listens on all "
            "interfaces at port %u; if others cannot reach it, set "
            "GRADPUSH_STORE to an address of the host that runs it",
            address, (unsigned)port);
}

static gp_status
explain(const char *address, int error)
{
    if (error == EADDRINUSE)
        return gp_fail(GP_ERR_ADDRESS,
                       "the store cannot listen at %s: the port is in use, by "
                       "another job or by one that still runs; set "
                       "GRADPUSH_STORE=host:port to a free port, the same for "
                       "all processes",
                       address);
    if (error == EACCES)
        return gp_fail(GP_ERR_ADDRESS,
                       "the store may not listen at %s: ports below 1024 are "
                       "reserved; set GRADPUSH_STORE to a higher one",
                       address);
    return gp_fail_errno(GP_ERR_ADDRESS, error, "the store cannot listen at %s",
                         address);
}

gp_status
gp_listen(const char *address, gp_listeners *out)
{
    gp_listeners l = {.count = 0};
    struct addrinfo *list = NULL;
    char host[256];
    uint16_t port = 0;
    int error = EADDRNOTAVAIL;
    bool named;
    gp_status status = gp_address_split(address, host, sizeof(host), &port);

    if (status != GP_OK)
        return status;
    named = host[0] && strcmp(host, "*") != 0;
    if (named && gp_net_resolve(address, SOCK_STREAM, true, &list) != GP_OK)
        list = NULL;
    if (list && gp_net_is_literal(host))
        error = listen_at(&l, list);
    if (error == EADDRNOTAVAIL) {
        error = listen_anywhere(&l, port);
        if (error == 0 && named && (!list || !is_local(list)))
            warn_foreign(address, l.port);
    }
    if (list)
        freeaddrinfo(list);
    if (error)
        return explain(address, error);
    *out = l;
    return GP_OK;
}

void
gp_listeners_close(gp_listeners *listeners)
{
    for (int i = 0; i < listeners->count; i++)
        close(listeners->fd[i]);
    listeners->count = 0;
}
