/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_netns.c - network namespaces by name.
 *
 * Memory, clocks and processes stay common; only sockets opened after the call
 * belong to the other namespace.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "bench_netns.h"

static uint32_t
list_count(const char *list)
{
    uint32_t count = 1;

    for (; *list; list++)
        count += *list == ',';
    return count;
}

gp_status
gp_netns_enter(const char *list, uint32_t index)
{
    char path[256];
    int fd, length;

    for (index %= list_count(list); index > 0; index--)
        list = strchr(list, ',') + 1;
    length = (int)strcspn(list, ",");
    snprintf(path, sizeof(path), "/run/netns/%.*s", length, list);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return gp_fail_errno(GP_ERR_SYSTEM, errno,
                             "no network namespace '%.*s'; ip netns list shows "
                             "them",
                             length, list);
    if (setns(fd, CLONE_NEWNET) != 0) {
        gp_status status = gp_fail_errno(GP_ERR_SYSTEM, errno,
                                         "cannot enter the network namespace "
                                         "'%.*s'",
                                         length, list);

        close(fd);
        return status;
    }
    close(fd);
    return GP_OK;
}

gp_status
gp_netns_listen(char *out, size_t capacity)
{
    struct ifaddrs *all = NULL;
    char address[INET_ADDRSTRLEN] = "";

    if (getifaddrs(&all) != 0)
        return gp_fail_errno(GP_ERR_SYSTEM, errno, "getifaddrs");
    for (const struct ifaddrs *i = all; i && !address[0]; i = i->ifa_next) {
        struct sockaddr_in found;

        if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET ||
            (i->ifa_flags & IFF_LOOPBACK) || !(i->ifa_flags & IFF_UP))
            continue;
        memcpy(&found, i->ifa_addr, sizeof(found));
        inet_ntop(AF_INET, &found.sin_addr, address, sizeof(address));
    }
    freeifaddrs(all);
    if (!address[0])
        return gp_fail(GP_ERR_ADDRESS,
                       "no interface of this network namespace has an IPv4 "
                       "address");
    snprintf(out, capacity, "%s:0", address);
    return GP_OK;
}
