/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_list.c - all RDMA ports of this host.
 *
 * The device itself is believed before sysfs, which may be another one's or
 * missing in a container; sysfs fills in what libibverbs does not tell: types
 * and interfaces of GIDs, the place in the machine. A device that only sysfs
 * has (no provider installed, no permission) is listed too, as not asked.
 */
#include "transports/verbs/verbs_select.h"

#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "transports/verbs/verbs_api.h"
#include "transports/verbs/verbs_sysfs.h"

#define TABLE_MAX 256 /* entries of a GID table that are looked at */

typedef struct listing {
    const gp_verbs_api *api;
    const char *root;
    gp_verbs_port *out;
    size_t max, count;
    struct ifaddrs *here; /* addresses that this process can use */
} listing;

static gp_verbs_port *
find(const listing *l, const char *device, uint8_t number)
{
    for (size_t i = 0; i < l->count; i++)
        if (l->out[i].number == number && !strcmp(l->out[i].device, device))
            return &l->out[i];
    return NULL;
}

/* A new entry with what sysfs knows; NULL when there is no room. */
static gp_verbs_port *
add(listing *l, const char *device, uint8_t number)
{
    size_t length = strnlen(device, GP_VERBS_NAME_MAX);
    gp_verbs_port *port;

    if (l->count == l->max || length == GP_VERBS_NAME_MAX)
        return NULL;
    port = &l->out[l->count++];
    memset(port, 0, sizeof(*port));
    memcpy(port->device, device, length);
    port->number = number;
    port->numa = -1;
    port->gid_index = -1;
    gp_verbs_sysfs_port(l->root, port);
    return port;
}

/* A GID of RoCE is an address of an interface; the table has those of all
 * network namespaces, and a container cannot use the others'. */
static bool
is_here(const listing *l, const uint8_t raw[16])
{
    const struct in6_addr *gid = (const void *)raw;

    for (const struct ifaddrs *i = l->here; i; i = i->ifa_next) {
        const struct sockaddr_in *v4 = (const void *)i->ifa_addr;
        const struct sockaddr_in6 *v6 = (const void *)i->ifa_addr;

        if (!i->ifa_addr || (i->ifa_flags & IFF_LOOPBACK))
            continue;
        if (v4->sin_family == AF_INET && IN6_IS_ADDR_V4MAPPED(gid) &&
            !memcmp(raw + 12, &v4->sin_addr, 4))
            return true;
        if (v6->sin6_family == AF_INET6 && !memcmp(raw, &v6->sin6_addr, 16))
            return true;
    }
    return false;
}

/* The last one that is another namespace's leaves. */
static bool
make_room(gp_verbs_port *port)
{
    size_t i = port->gid_count;

    while (i > 0 && port->gids[i - 1].is_here)
        i--;
    if (i == 0)
        return false;
    port->gid_count--;
    memmove(&port->gids[i - 1], &port->gids[i],
            (port->gid_count - (i - 1)) * sizeof(port->gids[0]));
    return true;
}

static void
add_gid(const listing *l, gp_verbs_port *port, int index, const uint8_t raw[16])
{
    bool here = is_here(l, raw);
    gp_verbs_gid *gid;

    if (port->gid_count == GP_VERBS_GIDS_MAX && !(here && make_room(port)))
        return;
    gid = &port->gids[port->gid_count++];
    *gid = (gp_verbs_gid){.index = index, .is_here = here};
    memcpy(gid->raw, raw, sizeof(gid->raw));
    gp_verbs_sysfs_gid_attributes(l->root, port, gid);
}

/* An interface's first address, IPv4 before IPv6 before link-local. */
static void
interface_address(const char *netdev, struct sockaddr_storage *out)
{
    struct ifaddrs *list = NULL;
    int best = 0;

    if (getifaddrs(&list) != 0)
        return;
    for (struct ifaddrs *i = list; i; i = i->ifa_next) {
        const struct sockaddr_in6 *v6 = (const void *)i->ifa_addr;
        size_t length = sizeof(*v6);
        int rank = 0;

        if (!i->ifa_addr || strcmp(i->ifa_name, netdev) != 0)
            continue;
        if (i->ifa_addr->sa_family == AF_INET) {
            rank = 3;
            length = sizeof(struct sockaddr_in);
        } else if (i->ifa_addr->sa_family == AF_INET6) {
            rank = IN6_IS_ADDR_LINKLOCAL(&v6->sin6_addr) ? 1 : 2;
        }
        if (rank > best) {
            best = rank;
            memset(out, 0, sizeof(*out));
            memcpy(out, i->ifa_addr, length);
        }
    }
    freeifaddrs(list);
}

/* That of the port's interface; of the bond that it is the active part of; or
 * of another interface of the port, as a partition's. */
static void
address_of_netdev(const listing *l, gp_verbs_port *port)
{
    char other[GP_VERBS_NETDEV_MAX], before[GP_VERBS_NETDEV_MAX];

    interface_address(port->netdev, &port->address);
    if (port->address.ss_family == AF_UNSPEC &&
        gp_verbs_sysfs_bond(l->root, port->netdev, other))
        interface_address(other, &port->address);
    memcpy(before, port->netdev, sizeof(before));
    while (port->address.ss_family == AF_UNSPEC &&
           gp_verbs_sysfs_netdev_after(l->root, port, before, other)) {
        interface_address(other, &port->address);
        if (port->address.ss_family != AF_UNSPEC)
            memcpy(port->netdev, other, sizeof(port->netdev));
        memcpy(before, other, sizeof(before));
    }
}

/* An IPv4 address among the GIDs, whatever the layer: where sysfs is missing it
 * is all there is. A MAC address, as in iWARP's, never looks like one. */
static void
address_of_gids(gp_verbs_port *port)
{
    for (size_t i = 0; i < port->gid_count; i++)
        if (port->address.ss_family == AF_UNSPEC &&
            IN6_IS_ADDR_V4MAPPED(
                (const struct in6_addr *)(const void *)port->gids[i].raw))
            gp_verbs_gid_address(&port->gids[i], &port->address);
}

/* The GID in use, the interface and the address, once all GIDs are there. */
static void
finish(const listing *l, gp_verbs_port *port)
{
    const gp_verbs_gid *best = gp_verbs_gid_best(port);
    bool roce = port->link_layer == GP_VERBS_LAYER_ETHERNET && !port->is_iwarp;

    if (best) {
        port->gid_index = best->index;
        port->gid_type = best->type;
        memcpy(port->gid, best->raw, sizeof(port->gid));
        memcpy(port->netdev, best->netdev, sizeof(port->netdev));
    }
    if (!*port->netdev)
        gp_verbs_sysfs_netdev(l->root, port);
    gp_verbs_sysfs_below(l->root, port);
    if (roce && best)
        gp_verbs_gid_address(best, &port->address);
    else if (*port->netdev)
        address_of_netdev(l, port);
    address_of_gids(port);
}

/* ----------------------------------------------------- ports of sysfs alone */

static bool
visit_sysfs(void *user, const char *device, uint8_t number)
{
    listing *l = user;
    gp_verbs_port *port;
    uint8_t raw[16];

    if (find(l, device, number))
        return true;
    port = add(l, device, number);
    if (!port)
        return l->count < l->max;
    for (int i = 0; i < TABLE_MAX; i++)
        if (gp_verbs_sysfs_gid(l->root, device, number, i, raw))
            add_gid(l, port, i, raw);
    finish(l, port);
    return true;
}

/* -------------------------------------------------- ports of opened devices */

#ifdef GP_HAVE_VERBS

#define SPEED_NDR 128 /* the last that fits the byte it is told in */

static uint32_t
rate_of(uint8_t width, uint8_t speed)
{
    static const struct {
        uint8_t bit;
        uint32_t value;
    } widths[] = {{1, 1}, {2, 4}, {4, 8}, {8, 12}, {16, 2}},
      speeds[] = {{1, 2500},   {2, 5000},   {4, 10000},  {8, 10000},
                  {16, 14000}, {32, 25000}, {64, 50000}, {SPEED_NDR, 100000}};
    uint32_t lanes = 0, each = 0;

    for (size_t i = 0; i < GP_COUNT_OF(widths); i++)
        if (widths[i].bit == width)
            lanes = widths[i].value;
    for (size_t i = 0; i < GP_COUNT_OF(speeds); i++)
        if (speeds[i].bit == speed)
            each = speeds[i].value;
    return lanes * each;
}

static void
take_port(const struct ibv_port_attr *attr, gp_verbs_port *port)
{
    uint32_t rate = rate_of(attr->active_width, attr->active_speed);

    port->state = (int)attr->state;
    port->lid = attr->lid;
    if (attr->link_layer == IBV_LINK_LAYER_ETHERNET || port->is_iwarp)
        port->link_layer = GP_VERBS_LAYER_ETHERNET;
    else if (attr->link_layer == IBV_LINK_LAYER_INFINIBAND ||
             port->link_layer == GP_VERBS_LAYER_NONE) /* old drivers say 0 */
        port->link_layer = GP_VERBS_LAYER_INFINIBAND;
    if (attr->active_mtu >= IBV_MTU_256 && attr->active_mtu <= IBV_MTU_4096)
        port->mtu = 128u << attr->active_mtu;
    /* Of what is faster than NDR libibverbs is told that it is NDR. */
    if (rate && (attr->active_speed != SPEED_NDR || rate > port->rate_mbps))
        port->rate_mbps = rate;
}

static void
take_device(const struct ibv_device_attr *attr, gp_verbs_port *port)
{
    memcpy(port->firmware, attr->fw_ver, sizeof(port->firmware));
    port->firmware[sizeof(port->firmware) - 1] = '\0';
    port->max_mr_size = attr->max_mr_size;
    port->max_qp_wr = (uint32_t)GP_MAX(attr->max_qp_wr, 0);
    port->has_windows =
        (attr->device_cap_flags &
         (IBV_DEVICE_MEM_WINDOW_TYPE_2A | IBV_DEVICE_MEM_WINDOW_TYPE_2B)) != 0;
}

static void
ask_gids(const listing *l, struct ibv_context *context, int entries,
         gp_verbs_port *port)
{
    static const union ibv_gid none;

    for (int i = 0; i < entries && i < TABLE_MAX; i++) {
        union ibv_gid gid;

        if (l->api->query_gid(context, port->number, i, &gid) == 0 &&
            memcmp(&gid, &none, sizeof(gid)) != 0)
            add_gid(l, port, i, gid.raw);
    }
}

static void
ask_port(listing *l, struct ibv_device *device, struct ibv_context *context,
         const struct ibv_device_attr *attr, uint8_t number)
{
    const char *name = l->api->get_device_name(device);
    gp_verbs_port *port = name ? add(l, name, number) : NULL;
    struct ibv_port_attr port_attr;

    if (!port)
        return;
    port->is_iwarp = device->transport_type == IBV_TRANSPORT_IWARP;
    take_device(attr, port);
    if (l->api->query_port(context, number, &port_attr) == 0) {
        port->asked = true;
        take_port(&port_attr, port);
        ask_gids(l, context, port_attr.gid_tbl_len, port);
    }
    finish(l, port);
}

/* What cannot be opened is left to sysfs. */
static void
ask_device(listing *l, struct ibv_device *device)
{
    struct ibv_context *context = l->api->open_device(device);
    struct ibv_device_attr attr;

    if (!context)
        return;
    if (l->api->query_device(context, &attr) == 0)
        for (unsigned i = 1; i <= attr.phys_port_cnt; i++)
            ask_port(l, device, context, &attr, (uint8_t)i);
    l->api->close_device(context);
}

static gp_status
ask_devices(listing *l)
{
    struct ibv_device **devices;
    int count = 0;

    errno = 0;
    devices = l->api->get_device_list(&count);
    if (!devices) {
        /* A kernel without RDMA has no devices. */
        if (errno == 0 || errno == ENOSYS || errno == ENODEV || errno == ENOENT)
            return GP_OK;
        return gp_fail_errno(GP_ERR_SYSTEM, errno, "cannot list RDMA devices");
    }
    for (int i = 0; i < count; i++)
        ask_device(l, devices[i]);
    l->api->free_device_list(devices);
    return GP_OK;
}

#else

/* No table can be made without the headers. */
static gp_status
ask_devices(listing *l)
{
    (void)l;
    return GP_OK;
}

#endif

static int
by_name(const void *left, const void *right)
{
    const gp_verbs_port *a = left, *b = right;
    int names = strverscmp(a->device, b->device);

    return names ? names : a->number - b->number;
}

gp_status
gp_verbs_list(const gp_verbs_api *api, const char *sysfs_root,
              gp_verbs_port *out, size_t max, size_t *count)
{
    listing l = {.api = api,
                 .root = sysfs_root ? sysfs_root : "/sys",
                 .out = out,
                 .max = max};
    gp_status status;

    if (getifaddrs(&l.here) != 0)
        l.here = NULL;
    status = api ? ask_devices(&l) : GP_OK;
    if (status == GP_OK)
        gp_verbs_sysfs_ports(l.root, visit_sysfs, &l);
    if (l.here)
        freeifaddrs(l.here);
    if (status != GP_OK)
        return status;
    if (l.count)
        qsort(out, l.count, sizeof(*out), by_name);
    *count = l.count;
    return GP_OK;
}
