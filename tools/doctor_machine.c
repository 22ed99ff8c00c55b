/* SPDX-License-Identifier: Apache-2.0 */
/*
 * doctor_machine.c - the machine that this process runs on, as the checks see
 * it.
 */
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "doctor.h"
#include "transports/verbs/verbs_probe.h"

/* A device cgroup refuses the open, not the look: only trying tells. */
static int
open_node(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        return errno;
    close(fd);
    return 0;
}

/* 2: IPv4, 1: IPv6 that goes beyond the link, 0: nothing for rdma_cm. */
static int
rank_of(const struct sockaddr *address)
{
    const struct in6_addr *v6;

    if (!address)
        return 0;
    if (address->sa_family == AF_INET)
        return 2;
    if (address->sa_family != AF_INET6)
        return 0;
    v6 = &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
    return IN6_IS_ADDR_LINKLOCAL(v6) ? 0 : 1;
}

static bool
address_of(const char *netdev, struct sockaddr_storage *out)
{
    struct ifaddrs *list = NULL;
    int best = 0;

    if (getifaddrs(&list))
        return false;
    for (struct ifaddrs *i = list; i; i = i->ifa_next) {
        int rank = strcmp(i->ifa_name, netdev) ? 0 : rank_of(i->ifa_addr);

        if (rank <= best)
            continue;
        best = rank;
        memcpy(out, i->ifa_addr,
               rank == 2 ? sizeof(struct sockaddr_in)
                         : sizeof(struct sockaddr_in6));
    }
    freeifaddrs(list);
    return best > 0;
}

static bool
is_address(const struct in6_addr *gid, const struct sockaddr *address)
{
    const struct sockaddr_in *v4 = (const void *)address;
    const struct sockaddr_in6 *v6 = (const void *)address;

    if (address->sa_family == AF_INET)
        return IN6_IS_ADDR_V4MAPPED(gid) &&
               !memcmp(&gid->s6_addr[12], &v4->sin_addr, 4);
    return address->sa_family == AF_INET6 &&
           IN6_ARE_ADDR_EQUAL(gid, &v6->sin6_addr);
}

static bool
has_address(const struct in6_addr *gid)
{
    struct ifaddrs *list = NULL;
    bool found = false;

    if (getifaddrs(&list))
        return false;
    for (struct ifaddrs *i = list; i && !found; i = i->ifa_next)
        found = i->ifa_addr && !(i->ifa_flags & IFF_LOOPBACK) &&
                is_address(gid, i->ifa_addr);
    freeifaddrs(list);
    return found;
}

int
gp_doctor_node_error(const gp_doctor *doctor, const char *path)
{
    char full[PATH_MAX];

    snprintf(full, sizeof(full), "%s%s", doctor->root, path);
    return doctor->open_node(full);
}

void
gp_doctor_init(gp_doctor *doctor, const gp_config *config)
{
    const char *transport = gp_config_get(config, "transport");

    *doctor = (gp_doctor){.root = "",
                          .config = config,
                          .required = transport && !strcmp(transport, "verbs"),
                          .open_node = open_node,
                          .address_of = address_of,
                          .has_address = has_address,
                          .adjtime = adjtimex,
                          .pfc_of = gp_doctor_pfc,
                          .stats_of = gp_doctor_read_stats,
                          .cuda = true};
    if (gp_verbs_probe_api(&doctor->api) != GP_OK)
        snprintf(doctor->api_reason, sizeof(doctor->api_reason), "%s",
                 gp_last_error());
}

const char *
gp_doctor_container(const gp_doctor *doctor)
{
    static const struct {
        const char *word, *name;
    } signs[] = {{"kubepods", "kubernetes"},
                 {"docker", "docker"},
                 {"libpod", "podman"},
                 {"containerd", "containerd"},
                 {"lxc", "lxc"}};
    char text[8192];

    if (gp_doctor_exists(doctor,
                         "/var/run/secrets/kubernetes.io/serviceaccount"))
        return "kubernetes";
    if (gp_doctor_exists(doctor, "/run/.containerenv"))
        return "podman";
    if (gp_doctor_load(doctor, text, sizeof(text), "/proc/1/cgroup") > 0)
        for (size_t i = 0; i < GP_COUNT_OF(signs); i++)
            if (strstr(text, signs[i].word))
                return signs[i].name;
    if (gp_doctor_exists(doctor, "/.dockerenv"))
        return "docker";
    if (gp_doctor_exists(doctor, "/.singularity.d") ||
        gp_doctor_exists(doctor, "/singularity"))
        return "apptainer";
    return NULL;
}
