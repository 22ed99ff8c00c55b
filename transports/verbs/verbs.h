/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs.h - RDMA devices as tools show them: the list, and what the transport
 * would take of it.
 */
#ifndef GP_VERBS_H
#define GP_VERBS_H

#include "transports/verbs/verbs_select.h"

#define GP_VERBS_RAILS_MAX 4u /* the most that GRADPUSH_IB_RAILS takes */

typedef struct gp_verbs_report {
    /* Why no device could be opened, with the fix; "" when the libraries are
     * there. The list is then what the kernel says. */
    char missing[512];
    char why[1024]; /* the reason for the choice, or for none */
    size_t count, rails;
    gp_verbs_port rail[GP_VERBS_RAILS_MAX]; /* chosen, best first */
    gp_verbs_port ports[GP_VERBS_PORTS_MAX];
} gp_verbs_report;

/*
 * Lists the devices of this host and chooses as the transport does. Blocking,
 * any thread.
 *
 * api         NULL: what gp_verbs_api_get() gives.
 * sysfs_root  NULL: "/sys".
 * *out        free() releases it.
 * Returns GP_OK, also without libraries, devices or choice: the report says
 * which; GP_ERR_NO_MEMORY, GP_ERR_SYSTEM.
 */
gp_status gp_verbs_report_create(const gp_config *config,
                                 const gp_verbs_api *api,
                                 const char *sysfs_root, gp_verbs_report **out);

/* Where a port stands among the rails, from 1; 0: not chosen. */
size_t gp_verbs_report_rail(const gp_verbs_report *report,
                            const gp_verbs_port *port);

/* "mlx5_0 port 1: ACTIVE, InfiniBand, 400 Gb/s, MTU 4096, NUMA node 0, PCI
 * 0000:3b:00.0, ib0, 10.0.0.1"; what is not known is left out. */
void gp_verbs_port_text(const gp_verbs_port *port, char *out, size_t capacity);

/* "10.0.0.1", "fe80::1%eth0"; "" for none. */
void gp_verbs_address_text(const struct sockaddr_storage *address, char *out,
                           size_t capacity);

/* "0000:3b:00.0" of a resolved path: its last part that is a PCI function; ""
 * when there is none. */
void gp_verbs_pci_text(const char *path, char *out, size_t capacity);

/* The GID as 8 groups, IPv4 as "::ffff:10.0.0.1". */
void gp_verbs_gid_text(const uint8_t raw[16], char *out, size_t capacity);

#endif
