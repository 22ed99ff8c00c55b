/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link.c - how fast this process's network is, as told or as its interface has
 * negotiated.
 */
#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rendezvous/net.h"
#include "rendezvous/rendezvous.h"

/* -1, or an error, where there is no such thing: loopback, tunnels. */
static double
speed_of(const char *interface)
{
    char path[128];
    long mbits = 0;
    FILE *file;

    snprintf(path, sizeof(path), "/sys/class/net/%.*s/speed", IF_NAMESIZE,
             interface);
    file = fopen(path, "re");
    if (!file)
        return 0;
    if (fscanf(file, "%ld", &mbits) != 1)
        mbits = 0;
    fclose(file);
    return mbits > 0 ? (double)mbits : 0;
}

double
gp_link_mbits(const gp_config *config, const char *towards)
{
    double mbits = (double)gp_config_int(config, "link_mbits");
    char host[256], text[256];
    struct ifaddrs *all = NULL;

    if (mbits > 0 || gp_local_host(config, towards, host, sizeof(host)) ||
        getifaddrs(&all) != 0)
        return mbits;
    for (const struct ifaddrs *i = all; i && mbits == 0; i = i->ifa_next)
        if (i->ifa_addr &&
            gp_socket_host(i->ifa_addr, text, sizeof(text)) == GP_OK &&
            strcmp(text, host) == 0)
            mbits = speed_of(i->ifa_name);
    freeifaddrs(all);
    return mbits;
}

gp_status
gp_link_announce(gp_store *store, const char *kind, int64_t number,
                 const gp_config *config, const char *towards, uint32_t sharers)
{
    char key[48], text[32];

    snprintf(key, sizeof(key), "rate/%s/%lld", kind, (long long)number);
    snprintf(text, sizeof(text), "%.3f",
             gp_link_mbits(config, towards) / (double)sharers);
    return gp_store_set(store, key, text, strlen(text));
}
