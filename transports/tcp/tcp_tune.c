/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tcp_tune.c - what is set on every socket.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include "transports/tcp/tcp_int.h"

/* What may wait in the kernel to be sent: more would only delay the control
 * messages behind it. */
#define UNSENT_BYTES (512 << 10)

/* Within one host the send buffer is all there is between two copies. Grown
 * by the kernel to megabytes it leaves the cache: both directions at once
 * then run at 0.6 of the rate. */
#define LOCAL_SEND_BUFFER (384 << 10)

/* What a peer on the same host may send before it is read. The kernel begins
 * with 64 KiB and takes its time: two workers that send to each other at once
 * then wait for each other's reads, at half of the rate. */
#define LOCAL_WINDOW (1 << 20)

static void
set_option(int fd, int level, int option, int value)
{
    /* All of these only improve on defaults; a kernel without one still
     * carries messages. */
    (void)setsockopt(fd, level, option, &value, sizeof(value));
}

/* A host is dead when `keepalive` passes without an answer. While nothing is
 * under way the kernel probes for that; otherwise gp_tcp_silent() looks. Not
 * TCP_USER_TIMEOUT: it also ends connections to peers that live but do not read
 * for a while, so it only backs up the longest wait. */
static void
set_keepalive(int fd, uint32_t ms, uint32_t patience_ms)
{
    int third = (int)GP_MAX(ms / 3000, 1u);

    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, third);
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, third);
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 2);
    set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)GP_MAX(ms, patience_ms));
}

void
gp_tcp_tune(const gp_domain *d, int fd)
{
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT_BYTES);
    if (d->send_buffer)
        set_option(fd, SOL_SOCKET, SO_SNDBUF, d->send_buffer);
    if (d->receive_buffer)
        set_option(fd, SOL_SOCKET, SO_RCVBUF, d->receive_buffer);
    if (d->keepalive_ms)
        set_keepalive(fd, d->keepalive_ms, d->patience_ms);
}

/* Data or window probes are under way, were repeated, and nothing at all has
 * come back for `ms`. A living host acknowledges even what it has no room for.
 */
bool
gp_tcp_silent(int fd, uint32_t ms)
{
    struct tcp_info info = {0};
    socklen_t length = sizeof(info);

    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length))
        return false;
    return info.tcpi_last_ack_recv >= ms &&
           ((info.tcpi_unacked > 0 && info.tcpi_retransmits > 1) ||
            info.tcpi_probes > 1);
}

/* The address alone, without the port, as comparable bytes. */
static bool
host_of(const struct sockaddr_storage *name, struct in6_addr *out)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;

    memset(out, 0, sizeof(*out));
    if (name->ss_family == AF_INET6) {
        memcpy(&v6, name, sizeof(v6));
        *out = v6.sin6_addr;
        return true;
    }
    memcpy(&v4, name, sizeof(v4));
    memcpy(out, &v4.sin_addr, sizeof(v4.sin_addr));
    return name->ss_family == AF_INET;
}

/* The kernel makes room for the mark, and keeps it; unlike SO_RCVBUF that needs
 * no privilege beyond net.core.rmem_max and leaves the rest to the kernel. */
static void
widen_window(int fd)
{
    set_option(fd, SOL_SOCKET, SO_RCVLOWAT, LOCAL_WINDOW);
    set_option(fd, SOL_SOCKET, SO_RCVLOWAT, 1);
}

static bool
is_local(int fd)
{
    struct sockaddr_storage here = {0}, there = {0};
    socklen_t a = sizeof(here), b = sizeof(there);
    struct in6_addr x, y;

    return getsockname(fd, (struct sockaddr *)&here, &a) == 0 &&
           getpeername(fd, (struct sockaddr *)&there, &b) == 0 &&
           host_of(&here, &x) && host_of(&there, &y) &&
           !memcmp(&x, &y, sizeof(x));
}

/* Between two addresses that are the same bytes only ever move in memory, so
 * there is nothing that a checksum could find. */
void
gp_tcp_tune_connected(gp_endpoint *ep, int fd)
{
    const gp_domain *d = ep->domain;

    if (!is_local(fd))
        return;
    ep->checksum = d->checksum_local;
    if (!d->send_buffer)
        set_option(fd, SOL_SOCKET, SO_SNDBUF, LOCAL_SEND_BUFFER);
    if (!d->receive_buffer)
        widen_window(fd);
}
