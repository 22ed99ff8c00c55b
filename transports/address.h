/* SPDX-License-Identifier: Apache-2.0 */
/*
 * address.h - "host:port" into socket addresses and back, for transports that
 * use IP addresses.
 */
#ifndef GP_ADDRESS_H
#define GP_ADDRESS_H

#include <sys/socket.h>

#include <gradpush/transport.h>

#include "base/base.h"

#define GP_ADDRESSES_MAX 8u

typedef struct gp_address {
    struct sockaddr_storage name;
    socklen_t length;
} gp_address;

/* "host:port", "[v6]:port", and when `passive` also "host", ":port" and "";
 * else several of one listener too, "10.0.0.2:4711|10.0.1.2:4711", those of all
 * that can be resolved. A name may block. GP_ERR_ADDRESS. */
gp_status gp_address_resolve(const char *address, bool passive, gp_address *out,
                             size_t max, size_t *count);
/* Whether that text has several. */
bool gp_address_several(const char *address);
/* "10.0.0.2:4711", "[fe80::1]:4711". */
void gp_address_name(const struct sockaddr_storage *name, char *text,
                     size_t capacity);
bool gp_address_is_any(const gp_address *address);
/* Why listen() failed there, with the fix: GP_ERR_ADDRESS. */
gp_status gp_address_refused(const char *address, int error);

#endif
