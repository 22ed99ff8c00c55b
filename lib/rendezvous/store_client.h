/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_client.h - the client's connection, shared by its two files.
 */
#ifndef GP_STORE_CLIENT_H
#define GP_STORE_CLIENT_H

#include "rendezvous/net.h"
#include "rendezvous/store_wire.h"

struct gp_store {
    int fd;      /* non-blocking; -1 when there is no connection */
    int stop_fd; /* readable: waits end; -1: none */
    uint32_t sequence;
    uint64_t job;
    double timeout, handshake;
    char *token;
    char job_name[128];
    char address[GP_ADDRESS_TEXT];
    uint8_t value[GP_STORE_VALUE_MAX];
};

/* Connects and shakes hands, again and again until the deadline. */
gp_status gp_store_reach(gp_store *store, uint64_t deadline_ns);
void gp_store_disconnect(gp_store *store);

/* All of it or an error: GP_ERR_TIMEOUT, GP_ERR_PEER_LOST. */
gp_status gp_store_send(gp_store *store, const void *data, size_t length,
                        uint64_t deadline_ns);
gp_status gp_store_receive(gp_store *store, void *out, size_t length,
                           uint64_t deadline_ns);

#endif
