/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net.h - name resolution and socket texts shared by the store's two ends.
 */
#ifndef GP_NET_H
#define GP_NET_H

#include <netdb.h>
#include <sys/socket.h>

#include "base/base.h"

/* Room for "[host]:port" with a host name of 255 bytes. */
#define GP_ADDRESS_TEXT 272u

/* Whether an interface's name is chosen by NCCL_SOCKET_IFNAME's syntax: a list
 * of prefixes; '^' in front excludes them, '=' makes them exact. */
bool gp_interface_matches(const char *pattern, const char *name);

/* The numeric host of a socket address, without brackets. */
gp_status gp_socket_host(const struct sockaddr *address, char *out,
                         size_t capacity);

/* "host:port" of a socket address; "?" when it has none. */
void gp_socket_text(const struct sockaddr *address, char *out, size_t capacity);

/* getaddrinfo() of "host:port" for sockets of `type`; `passive` for
 * listening. GP_ERR_ADDRESS: the text; GP_ERR_UNREACHABLE: no such name. */
gp_status gp_net_resolve(const char *address, int type, bool passive,
                         struct addrinfo **out);

/* True when the host part is a number or "localhost": a name that means the
 * same on every machine. */
bool gp_net_is_literal(const char *host);

#endif
