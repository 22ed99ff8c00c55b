/* SPDX-License-Identifier: Apache-2.0 */
/*
 * here.h - where processes of one machine listen for one another.
 */
#ifndef GP_HERE_H
#define GP_HERE_H

#include <stddef.h>

#include <gradpush/config.h>
#include <gradpush/status.h>
#include <gradpush/transport.h>

/*
 * "127.0.0.1:0"; for verbs the address of the best port, because RDMA knows no
 * loopback interface.
 *
 * transport  its name.
 * out        room for a host and a port, GP_ADDRESS_MAX.
 * Returns GP_OK; GP_ERR_UNREACHABLE: verbs, and no port is usable.
 */
gp_status gp_here(const gp_config *config, const char *transport, char *out,
                  size_t capacity);

#endif
