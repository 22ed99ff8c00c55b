/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_sysfs.c - reads class/infiniband and class/net of sysfs.
 *
 * Text from the kernel is checked like any other: a number that is none, or a
 * GID that is not 16 bytes, counts as not there.
 */
#include "transports/verbs/verbs_sysfs.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

#define ARP_INFINIBAND 32 /* ARPHRD_INFINIBAND */

bool
gp_verbs_sysfs_line(const char *root, char *out, size_t capacity,
                    const char *format, ...)
{
    char path[PATH_MAX], text[PATH_MAX];
    va_list arguments;
    FILE *file;
    bool found;
    int length;

    length = snprintf(path, sizeof(path), "%s/", root);
    if (length < 0 || (size_t)length >= sizeof(path))
        return false;
    va_start(arguments, format);
    vsnprintf(path + length, sizeof(path) - (size_t)length, format, arguments);
    va_end(arguments);
    file = fopen(path, "re");
    if (!file)
        return false;
    /* An empty slot of a GID table is there and cannot be read. */
    found = fgets(text, sizeof(text), file) != NULL;
    fclose(file);
    if (!found)
        return false;
    snprintf(out, capacity, "%.*s", (int)strcspn(text, "\n"), text);
    return true;
}

/* A number of a file; false when there is none in [minimum, maximum]. */
static bool
parse_number(const char *text, long minimum, long maximum, long *out)
{
    char *end;
    long value;

    errno = 0;
    value = strtol(text, &end, 0);
    if (errno || end == text || value < minimum || value > maximum)
        return false;
    *out = value;
    return true;
}

/* The resolved form of a path, if it fits. */
static bool
resolve(const char *root, char *out, size_t capacity, const char *folder,
        const char *name)
{
    char path[PATH_MAX], full[PATH_MAX];
    size_t length;

    snprintf(path, sizeof(path), "%s/class/%s/%s/device", root, folder, name);
    if (!realpath(path, full))
        return false;
    length = strlen(full);
    if (length >= capacity)
        return false;
    memcpy(out, full, length + 1);
    return true;
}

/* ------------------------------------------------------------------- ports */

static bool
visit_ports(const char *root, const char *device,
            bool (*visit)(void *user, const char *device, uint8_t port),
            void *user)
{
    char path[PATH_MAX];
    struct dirent *entry;
    bool more = true;
    DIR *folder;
    long number;

    snprintf(path, sizeof(path), "%s/class/infiniband/%s/ports", root, device);
    folder = opendir(path);
    while (folder && more && (entry = readdir(folder)) != NULL)
        if (parse_number(entry->d_name, 1, 255, &number))
            more = visit(user, device, (uint8_t)number);
    if (folder)
        closedir(folder);
    return more;
}

void
gp_verbs_sysfs_ports(const char *root,
                     bool (*visit)(void *user, const char *device,
                                   uint8_t port),
                     void *user)
{
    char path[PATH_MAX];
    struct dirent *entry;
    bool more = true;
    DIR *folder;

    snprintf(path, sizeof(path), "%s/class/infiniband", root);
    folder = opendir(path);
    while (folder && more && (entry = readdir(folder)) != NULL)
        if (entry->d_name[0] != '.' &&
            strlen(entry->d_name) < GP_VERBS_NAME_MAX)
            more = visit_ports(root, entry->d_name, visit, user);
    if (folder)
        closedir(folder);
}

static bool
port_line(const char *root, const gp_verbs_port *port, const char *name,
          char *out, size_t capacity)
{
    return gp_verbs_sysfs_line(root, out, capacity,
                               "class/infiniband/%s/ports/%u/%s", port->device,
                               port->number, name);
}

/* "400 Gb/sec (4X NDR)", "2.5 Gb/sec (1X SDR)". */
static void
read_rate(const char *text, gp_verbs_port *port)
{
    unsigned whole, tenth = 0;

    /* Signs, which scanf takes as part of a number, are none here. */
    if (*text >= '0' && *text <= '9' &&
        sscanf(text, "%6u.%1u", &whole, &tenth) >= 1)
        port->rate_mbps = whole * 1000 + tenth * 100;
}

static void
read_state(const char *root, gp_verbs_port *port)
{
    char text[64];
    long number;

    if (port_line(root, port, "state", text, sizeof(text)) &&
        parse_number(text, 0, 100, &number)) /* "4: ACTIVE" */
        port->state = (int)number;
    if (port_line(root, port, "link_layer", text, sizeof(text)))
        port->link_layer = !strcmp(text, "InfiniBand")
                               ? GP_VERBS_LAYER_INFINIBAND
                           : !strcmp(text, "Ethernet") ? GP_VERBS_LAYER_ETHERNET
                                                       : GP_VERBS_LAYER_NONE;
    if (port_line(root, port, "rate", text, sizeof(text)))
        read_rate(text, port);
    if (port_line(root, port, "lid", text, sizeof(text)) &&
        parse_number(text, 0, UINT16_MAX, &number))
        port->lid = (uint16_t)number;
}

static void
read_numa(const char *root, const char *folder, const char *name,
          gp_verbs_port *port)
{
    char text[32];
    long number;

    if (gp_verbs_sysfs_line(root, text, sizeof(text),
                            "class/%s/%s/device/numa_node", folder, name) &&
        parse_number(text, 0, 65535, &number))
        port->numa = (int)number;
}

void
gp_verbs_sysfs_port(const char *root, gp_verbs_port *port)
{
    char text[64];

    read_state(root, port);
    if (gp_verbs_sysfs_line(root, text, sizeof(text),
                            "class/infiniband/%s/node_type", port->device))
        port->is_iwarp = text[0] == '4'; /* "4: RNIC" */
    gp_verbs_sysfs_line(root, port->firmware, sizeof(port->firmware),
                        "class/infiniband/%s/fw_ver", port->device);
    port->is_software = !resolve(root, port->pci, sizeof(port->pci),
                                 "infiniband", port->device) ||
                        !strstr(port->pci, "/pci");
    read_numa(root, "infiniband", port->device, port);
}

/* -------------------------------------------------------------------- GIDs */

bool
gp_verbs_sysfs_gid(const char *root, const char *device, uint8_t port,
                   int index, uint8_t raw[16])
{
    unsigned words[8], any = 0;
    char text[64], after;

    if (!gp_verbs_sysfs_line(root, text, sizeof(text),
                             "class/infiniband/%s/ports/%u/gids/%d", device,
                             port, index) ||
        text[strspn(text, "0123456789abcdef:")] != '\0' ||
        sscanf(text, "%4x:%4x:%4x:%4x:%4x:%4x:%4x:%4x%c", &words[0], &words[1],
               &words[2], &words[3], &words[4], &words[5], &words[6], &words[7],
               &after) != 8)
        return false;
    for (int i = 0; i < 8; i++)
        any |= words[i];
    if (!any)
        return false;
    for (int i = 0; i < 8; i++) {
        raw[2 * i] = (uint8_t)(words[i] >> 8);
        raw[2 * i + 1] = (uint8_t)words[i];
    }
    return true;
}

void
gp_verbs_sysfs_gid_attributes(const char *root, const gp_verbs_port *port,
                              gp_verbs_gid *gid)
{
    bool roce = port->link_layer == GP_VERBS_LAYER_ETHERNET && !port->is_iwarp;
    char text[64], name[64];

    if (!roce)
        gid->type = GP_VERBS_GID_IB;
    snprintf(name, sizeof(name), "gid_attrs/types/%d", gid->index);
    if (roce && port_line(root, port, name, text, sizeof(text)))
        gid->type = !strcmp(text, "RoCE v2")      ? GP_VERBS_GID_ROCE_V2
                    : !strcmp(text, "IB/RoCE v1") ? GP_VERBS_GID_ROCE_V1
                                                  : GP_VERBS_GID_UNKNOWN;
    snprintf(name, sizeof(name), "gid_attrs/ndevs/%d", gid->index);
    if (port_line(root, port, name, text, sizeof(text)) &&
        strlen(text) < sizeof(gid->netdev))
        memcpy(gid->netdev, text, strlen(text) + 1);
}

/* ------------------------------------------------------ network interfaces */

static bool
net_number(const char *root, const char *netdev, const char *file, long *out)
{
    char text[64];

    return gp_verbs_sysfs_line(root, text, sizeof(text), "class/net/%s/%s",
                               netdev, file) &&
           parse_number(text, 0, 65535, out);
}

/* Whether an interface of the port's device belongs to the port: drivers number
 * them from 0 in dev_port, old ones in dev_id. */
static bool
is_of_port(const char *root, const char *netdev, const gp_verbs_port *port)
{
    long type = 0, number = 0;

    net_number(root, netdev, "type", &type);
    if ((type == ARP_INFINIBAND) !=
        (port->link_layer == GP_VERBS_LAYER_INFINIBAND))
        return false;
    if (!net_number(root, netdev, "dev_port", &number) || number == 0)
        net_number(root, netdev, "dev_id", &number);
    return number == port->number - 1;
}

/* In order of name: a partition's interface ("ib0.8001") comes after the port's
 * own. */
bool
gp_verbs_sysfs_netdev_after(const char *root, const gp_verbs_port *port,
                            const char *before, char out[GP_VERBS_NETDEV_MAX])
{
    char path[PATH_MAX];
    struct dirent *entry;
    DIR *folder;

    out[0] = '\0';
    snprintf(path, sizeof(path), "%s/class/infiniband/%s/device/net", root,
             port->device);
    folder = opendir(path);
    while (folder && (entry = readdir(folder)) != NULL)
        if (entry->d_name[0] != '.' &&
            strlen(entry->d_name) < GP_VERBS_NETDEV_MAX &&
            strcmp(entry->d_name, before) > 0 &&
            (!*out || strcmp(entry->d_name, out) < 0) &&
            is_of_port(root, entry->d_name, port))
            memcpy(out, entry->d_name, strlen(entry->d_name) + 1);
    if (folder)
        closedir(folder);
    return *out != '\0';
}

bool
gp_verbs_sysfs_bond(const char *root, const char *netdev,
                    char out[GP_VERBS_NETDEV_MAX])
{
    char path[PATH_MAX], full[PATH_MAX], active[64];
    const char *name;

    snprintf(path, sizeof(path), "%s/class/net/%s/master", root, netdev);
    if (!realpath(path, full) || !(name = strrchr(full, '/')) ||
        strlen(++name) >= GP_VERBS_NETDEV_MAX ||
        !gp_verbs_sysfs_line(root, active, sizeof(active),
                             "class/net/%s/bonding/active_slave", name) ||
        strcmp(active, netdev) != 0)
        return false;
    memcpy(out, name, strlen(name) + 1);
    return true;
}

/* An iWARP port's GID begins with the MAC address of its interface. */
static void
find_by_mac(const char *root, gp_verbs_port *port)
{
    const uint8_t *mac = port->gids[0].raw;
    char path[PATH_MAX], want[32], text[64];
    struct dirent *entry;
    DIR *folder;

    snprintf(want, sizeof(want), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0],
             mac[1], mac[2], mac[3], mac[4], mac[5]);
    snprintf(path, sizeof(path), "%s/class/net", root);
    folder = opendir(path);
    while (folder && !*port->netdev && (entry = readdir(folder)) != NULL)
        if (entry->d_name[0] != '.' &&
            strlen(entry->d_name) < sizeof(port->netdev) &&
            gp_verbs_sysfs_line(root, text, sizeof(text),
                                "class/net/%s/address", entry->d_name) &&
            !strcmp(text, want))
            memcpy(port->netdev, entry->d_name, strlen(entry->d_name) + 1);
    if (folder)
        closedir(folder);
}

void
gp_verbs_sysfs_netdev(const char *root, gp_verbs_port *port)
{
    char text[64];

    gp_verbs_sysfs_netdev_after(root, port, "", port->netdev);
    /* rxe says whose it is. */
    if (!*port->netdev &&
        gp_verbs_sysfs_line(root, text, sizeof(text),
                            "class/infiniband/%s/parent", port->device) &&
        strlen(text) < sizeof(port->netdev))
        memcpy(port->netdev, text, strlen(text) + 1);
    if (!*port->netdev && port->is_iwarp && port->gid_count)
        find_by_mac(root, port);
}

void
gp_verbs_sysfs_below(const char *root, gp_verbs_port *port)
{
    if (!port->is_software || !*port->netdev)
        return;
    if (!resolve(root, port->pci, sizeof(port->pci), "net", port->netdev))
        port->pci[0] = '\0';
    read_numa(root, "net", port->netdev, port);
}
