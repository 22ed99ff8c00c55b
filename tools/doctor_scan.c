/* SPDX-License-Identifier: Apache-2.0 */
/*
 * doctor_scan.c - finds RDMA ports, GPUs and the way between them in sysfs.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "doctor.h"

#define IB "/sys/class/infiniband"

/* What a GID is good for; a higher one is chosen, and any of this network
 * namespace before those of others. */
#define HERE 16
typedef enum gid_kind {
    GID_EMPTY,
    GID_V1,
    GID_LOCAL_V2, /* fe80::/10 */
    GID_OTHER,    /* of InfiniBand, or of a type that is not told */
    GID_V6,
    GID_V4
} gid_kind;

static bool
is_link_local(const struct in6_addr *gid)
{
    return gid->s6_addr[0] == 0xfe && (gid->s6_addr[1] & 0xc0) == 0x80;
}

static gid_kind
kind_of(const gp_doctor_port *port, const struct in6_addr *gid,
        const char *type)
{
    if (IN6_IS_ADDR_UNSPECIFIED(gid))
        return GID_EMPTY;
    if (!port->ethernet || port->iwarp)
        return GID_OTHER;
    if (strstr(type, "v1"))
        return GID_V1;
    if (is_link_local(gid))
        return GID_LOCAL_V2;
    return IN6_IS_ADDR_V4MAPPED(gid) ? GID_V4 : GID_V6;
}

/* A RoCE GID is an IP address of the interface, which rdma_cm finds it by. */
static void
address_from_gid(gp_doctor_port *port, gid_kind kind,
                 const struct in6_addr *gid)
{
    if (kind == GID_V4) {
        struct sockaddr_in v4 = {.sin_family = AF_INET};

        memcpy(&v4.sin_addr, &gid->s6_addr[12], 4);
        memcpy(&port->address, &v4, sizeof(v4));
    } else if (kind == GID_V6) {
        struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = *gid};

        memcpy(&port->address, &v6, sizeof(v6));
    } else {
        port->address.ss_family = AF_UNSPEC;
    }
}

/* The interface that is named first, unless that of the best is. */
static void
netdev_of_gid(const gp_doctor *doctor, gp_doctor_port *port, const char *index,
              bool is_best)
{
    char netdev[64];

    if ((is_best || !*port->netdev) &&
        gp_doctor_line(doctor, netdev, sizeof(netdev),
                       IB "/%s/ports/%u/gid_attrs/ndevs/%s", port->device,
                       port->port, index))
        memcpy(port->netdev, netdev, sizeof(netdev));
}

static void
scan_gid(const gp_doctor *doctor, gp_doctor_port *port, const char *index,
         int *best)
{
    char text[64], type[32];
    struct in6_addr gid;
    gid_kind kind;
    int rank;

    if (!gp_doctor_line(doctor, text, sizeof(text), IB "/%s/ports/%u/gids/%s",
                        port->device, port->port, index) ||
        inet_pton(AF_INET6, text, &gid) != 1)
        return;
    if (IN6_IS_ADDR_UNSPECIFIED(&gid))
        return;
    gp_doctor_line(doctor, type, sizeof(type),
                   IB "/%s/ports/%u/gid_attrs/types/%s", port->device,
                   port->port, index);
    kind = kind_of(port, &gid, type);
    rank =
        (int)kind + (kind != GID_OTHER && doctor->has_address(&gid) ? HERE : 0);
    netdev_of_gid(doctor, port, index, rank > *best);
    port->gids++;
    port->v1 += strstr(type, "v1") && port->ethernet;
    port->v2 += strstr(type, "v2") != NULL;
    port->link_local += is_link_local(&gid);
    if (rank > *best) {
        *best = rank;
        port->best_gid = atoi(index);
        address_from_gid(port, kind, &gid);
    }
}

static void
scan_gids(const gp_doctor *doctor, gp_doctor_port *port)
{
    gp_doctor_names names;
    int best = GID_EMPTY;

    port->best_gid = -1;
    gp_doctor_list(doctor, &names, IB "/%s/ports/%u/gids", port->device,
                   port->port);
    for (int i = 0; i < names.count; i++)
        scan_gid(doctor, port, names.list[i]->d_name, &best);
    gp_doctor_list_free(&names);
}

/* An interface of the port: one with an address if `address` is not NULL. */
static void
find_below(const gp_doctor *doctor, gp_doctor_port *port,
           struct sockaddr_storage *address)
{
    gp_doctor_names names;
    bool found = false;
    int64_t number;

    gp_doctor_list(doctor, &names, IB "/%s/device/net", port->device);
    for (int i = 0; i < names.count && !found; i++) {
        const char *name = names.list[i]->d_name;

        if (gp_doctor_number(doctor, &number, IB "/%s/device/net/%s/dev_port",
                             port->device, name) &&
            number != (int64_t)port->port - 1)
            continue;
        found = !address || doctor->address_of(name, address);
        if (found)
            snprintf(port->netdev, sizeof(port->netdev), "%.63s", name);
    }
    gp_doctor_list_free(&names);
}

/* The interface by other ways than a GID's: soft devices name their parent,
 * others share a PCI device with it. */
static void
find_netdev(const gp_doctor *doctor, gp_doctor_port *port)
{
    if (!*port->netdev &&
        !gp_doctor_line(doctor, port->netdev, sizeof(port->netdev),
                        IB "/%s/parent", port->device))
        find_below(doctor, port, NULL);
}

/* Of a bond that the port's interface is the active part of. */
static bool
address_of_bond(const gp_doctor *doctor, const char *netdev,
                struct sockaddr_storage *out)
{
    char path[PATH_MAX], active[64];

    return gp_doctor_resolve(doctor, path, "/sys/class/net/%s/master",
                             netdev) &&
           gp_doctor_line(doctor, active, sizeof(active),
                          "%s/bonding/active_slave", path) &&
           !strcmp(active, netdev) &&
           doctor->address_of(strrchr(path, '/') + 1, out);
}

/* The interface's, that of its bond, or of a partition of it. */
static void
address_from_netdev(const gp_doctor *doctor, gp_doctor_port *port)
{
    struct sockaddr_storage *a = &port->address;

    if (doctor->address_of(port->netdev, a) ||
        address_of_bond(doctor, port->netdev, a))
        return;
    a->ss_family = AF_UNSPEC;
    find_below(doctor, port, a);
}

static void
find_address(const gp_doctor *doctor, gp_doctor_port *port)
{
    const struct sockaddr_storage *a = &port->address;

    if (!a->ss_family && *port->netdev)
        address_from_netdev(doctor, port);
    if (a->ss_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)a)->sin_addr,
                  port->address_text, sizeof(port->address_text));
    else if (a->ss_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)a)->sin6_addr,
                  port->address_text, sizeof(port->address_text));
}

static void
scan_port(gp_doctor *doctor, const char *device, const char *number)
{
    gp_doctor_port *port = &doctor->ports[doctor->port_count];
    char text[64];

    if (doctor->port_count == GP_DOCTOR_PORTS)
        return;
    doctor->port_count++;
    *port = (gp_doctor_port){.port = (unsigned)strtoul(number, NULL, 10)};
    snprintf(port->device, sizeof(port->device), "%.63s", device);
    snprintf(port->label, sizeof(port->label), "%.63s:%u", device, port->port);
    gp_doctor_line(doctor, text, sizeof(text), IB "/%s/ports/%s/link_layer",
                   device, number);
    port->ethernet = !strcmp(text, "Ethernet");
    gp_doctor_line(doctor, text, sizeof(text), IB "/%s/node_type", device);
    port->iwarp = strstr(text, "RNIC") != NULL;
    gp_doctor_line(doctor, text, sizeof(text), IB "/%s/ports/%s/state", device,
                   number);
    port->active = strstr(text, "ACTIVE") && !strstr(text, "DEFER");
    port->software =
        !gp_doctor_resolve(doctor, port->pci, IB "/%s/device", device);
    scan_gids(doctor, port);
    find_netdev(doctor, port);
    find_address(doctor, port);
}

static void
scan_devices(gp_doctor *doctor)
{
    gp_doctor_names devices, ports;

    gp_doctor_list(doctor, &devices, IB);
    doctor->device_count = (size_t)devices.count;
    for (int i = 0; i < devices.count; i++) {
        const char *device = devices.list[i]->d_name;

        gp_doctor_list(doctor, &ports, IB "/%s/ports", device);
        for (int p = 0; p < ports.count; p++)
            scan_port(doctor, device, ports.list[p]->d_name);
        gp_doctor_list_free(&ports);
    }
    gp_doctor_list_free(&devices);
}

/* 0, or why the node that leads to a device cannot be opened. */
static int
device_error(const gp_doctor *doctor, const char *device)
{
    char path[PATH_MAX], is[64];
    gp_doctor_names names;
    int error = ENODEV;

    gp_doctor_list(doctor, &names, "/sys/class/infiniband_verbs");
    for (int i = 0; i < names.count && error == ENODEV; i++) {
        const char *node = names.list[i]->d_name;

        gp_doctor_line(doctor, is, sizeof(is),
                       "/sys/class/infiniband_verbs/%s/ibdev", node);
        snprintf(path, sizeof(path), "/dev/infiniband/%s", node);
        if (!strcmp(is, device))
            error = gp_doctor_node_error(doctor, path);
    }
    gp_doctor_list_free(&names);
    return error;
}

/* sysfs has all devices of the machine, and a container may be given nodes of
 * some. Given none at all, it lacks them. */
static void
find_absent(gp_doctor *doctor)
{
    bool any = false;

    if (!gp_doctor_container(doctor))
        return;
    for (size_t i = 0; i < doctor->port_count; i++) {
        gp_doctor_port *p = &doctor->ports[i];
        int error = device_error(doctor, p->device);

        p->absent = error == ENOENT || error == EPERM;
        any |= !error;
    }
    for (size_t i = 0; i < doctor->port_count; i++)
        doctor->ports[i].absent &= any;
}

bool
gp_doctor_absent(const gp_doctor *doctor, const char *device)
{
    for (size_t i = 0; i < doctor->port_count; i++)
        if (!strcmp(doctor->ports[i].device, device))
            return doctor->ports[i].absent;
    return false;
}

static void
scan_gpu(gp_doctor *doctor, const char *bus_id)
{
    gp_doctor_gpu *gpu = &doctor->gpus[doctor->gpu_count];
    int64_t vendor, kind;

    if (!gp_doctor_number(doctor, &vendor, "/sys/bus/pci/devices/%s/vendor",
                          bus_id) ||
        vendor != 0x10de ||
        !gp_doctor_number(doctor, &kind, "/sys/bus/pci/devices/%s/class",
                          bus_id) ||
        kind >> 16 != 0x03 || doctor->gpu_count == GP_DOCTOR_GPUS)
        return;
    *gpu =
        (gp_doctor_gpu){.dmabuf = -1, .gdr = -1, .ordering = -1, .flush = -1};
    snprintf(gpu->label, sizeof(gpu->label), "GPU%zu", doctor->gpu_count);
    snprintf(gpu->bus_id, sizeof(gpu->bus_id), "%.31s", bus_id);
    gp_doctor_resolve(doctor, gpu->pci, "/sys/bus/pci/devices/%s", bus_id);
    doctor->gpu_count++;
}

void
gp_doctor_scan(gp_doctor *doctor)
{
    gp_doctor_names names;

    scan_devices(doctor);
    find_absent(doctor);
    gp_doctor_list(doctor, &names, "/sys/bus/pci/devices");
    for (int i = 0; i < names.count; i++)
        scan_gpu(doctor, names.list[i]->d_name);
    gp_doctor_list_free(&names);
    if (doctor->cuda)
        gp_doctor_ask_cuda(doctor);
}

/* --- distance --- */

static bool
is_root_complex(const char *part)
{
    return !strncmp(part, "pci", 3);
}

/* The parts of a path from the root complex on, shared by both. Counts the
 * bridges behind the root complex that are common, and what remains. */
static bool
compare_paths(const char *a, const char *b, int *common, int *left_a,
              int *left_b)
{
    char x[PATH_MAX], y[PATH_MAX], *save_x = NULL, *save_y = NULL;
    const char *p, *q;
    bool same = true;

    snprintf(x, sizeof(x), "%s", a);
    snprintf(y, sizeof(y), "%s", b);
    p = strtok_r(x, "/", &save_x);
    q = strtok_r(y, "/", &save_y);
    while (p && !is_root_complex(p))
        p = strtok_r(NULL, "/", &save_x);
    while (q && !is_root_complex(q))
        q = strtok_r(NULL, "/", &save_y);
    if (!p || !q || strcmp(p, q))
        return false;
    *common = *left_a = *left_b = 0;
    p = strtok_r(NULL, "/", &save_x);
    q = strtok_r(NULL, "/", &save_y);
    while (p || q) {
        same = same && p && q && !strcmp(p, q);
        *common += same;
        *left_a += !same && p;
        *left_b += !same && q;
        p = p ? strtok_r(NULL, "/", &save_x) : NULL;
        q = q ? strtok_r(NULL, "/", &save_y) : NULL;
    }
    return true;
}

static int64_t
node_of(const gp_doctor *doctor, const char *pci)
{
    int64_t node = -1;

    gp_doctor_number(doctor, &node, "%s/numa_node", pci);
    return node;
}

gp_pci_distance
gp_doctor_distance(const gp_doctor *doctor, const char *a, const char *b)
{
    int common, left_a, left_b;

    if (compare_paths(a, b, &common, &left_a, &left_b)) {
        if (!common)
            return GP_PCI_PHB;
        return left_a <= 2 && left_b <= 2 ? GP_PCI_PIX : GP_PCI_PXB;
    }
    if (node_of(doctor, a) >= 0 && node_of(doctor, a) == node_of(doctor, b))
        return GP_PCI_NODE;
    return GP_PCI_SYS;
}

const char *
gp_pci_distance_name(gp_pci_distance distance)
{
    static const char *const names[] = {"PIX", "PXB", "PHB", "NODE", "SYS"};

    return (unsigned)distance < GP_COUNT_OF(names) ? names[distance] : "?";
}
