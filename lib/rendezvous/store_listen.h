/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_listen.h - the listening sockets of a store's address.
 */
#ifndef GP_STORE_LISTEN_H
#define GP_STORE_LISTEN_H

#include "base/base.h"

#define GP_LISTENERS_MAX 4

typedef struct gp_listeners {
    int fd[GP_LISTENERS_MAX]; /* non-blocking */
    int count;
    uint16_t port;
    bool any; /* listens on all interfaces */
} gp_listeners;

/* Listens at "host:port"; port 0 lets the kernel choose. A number or
 * "localhost" is listened on alone; a host name means all interfaces, because
 * on its own host it may be a loopback address (Debian's 127.0.1.1).
 * GP_ERR_ADDRESS names the address and the fix. */
gp_status gp_listen(const char *address, gp_listeners *out);
void gp_listeners_close(gp_listeners *listeners);

#endif
