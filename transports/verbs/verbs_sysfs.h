/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_sysfs.h - what the kernel says about RDMA devices without opening one.
 *
 * `root` is where sysfs lies ("/sys"). What is missing there, as in containers,
 * leaves its field as it was.
 */
#ifndef GP_VERBS_SYSFS_H
#define GP_VERBS_SYSFS_H

#include "transports/verbs/verbs_select.h"

/* Calls `visit` with each device and port, in no order; ends when it returns
 * false. */
void gp_verbs_sysfs_ports(const char *root,
                          bool (*visit)(void *user, const char *device,
                                        uint8_t port),
                          void *user);

/* First line of a file, without its end; false when there is none. */
bool gp_verbs_sysfs_line(const char *root, char *out, size_t capacity,
                         const char *format, ...) GP_PRINTF(4, 5);

/* State, layer, rate, LID and what is true for all ports: kind, firmware, PCI
 * path, NUMA node. */
void gp_verbs_sysfs_port(const char *root, gp_verbs_port *port);

/* The bytes of one GID; false when the entry cannot be read or is empty. */
bool gp_verbs_sysfs_gid(const char *root, const char *device, uint8_t port,
                        int index, uint8_t raw[16]);

/* Type and network interface of a GID. */
void gp_verbs_sysfs_gid_attributes(const char *root, const gp_verbs_port *port,
                                   gp_verbs_gid *gid);

/* The network interface of a port whose GIDs do not name it. */
void gp_verbs_sysfs_netdev(const char *root, gp_verbs_port *port);

/* The next interface of the port's device, by name; false: none follows. */
bool gp_verbs_sysfs_netdev_after(const char *root, const gp_verbs_port *port,
                                 const char *before,
                                 char out[GP_VERBS_NETDEV_MAX]);

/* The bond that an interface is the active part of; false: of none. */
bool gp_verbs_sysfs_bond(const char *root, const char *netdev,
                         char out[GP_VERBS_NETDEV_MAX]);

/* NUMA node and PCI path through the network interface, for software devices;
 * after `netdev` is known. */
void gp_verbs_sysfs_below(const char *root, gp_verbs_port *port);

#endif
