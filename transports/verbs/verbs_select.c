/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_select.c - chooses among the ports that were listed.
 *
 * Nothing here asks a device: the same list, configuration and place give the
 * same choice. The order is total (it ends with name and number), so members
 * with equal hosts choose equal rails in the same sequence.
 */
#include "transports/verbs/verbs_select.h"

#include <limits.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

#define NUMA_NEAR 10 /* the kernel's distance of a node to itself */
#define NUMA_FAR  20

/* ------------------------------------------------------------------ filter */

typedef struct filter_item {
    char device[GP_VERBS_NAME_MAX];
    long port; /* 0: any */
} filter_item;

/* Skips the signs; says what they were. */
static const char *
filter_signs(const char *filter, bool *except, bool *whole)
{
    *except = *filter == '^';
    filter += *except;
    *whole = *filter == '=';
    return filter + *whole;
}

/* One "name[:port]" at *at, up to a comma; false if it is not of that form. */
static bool
next_item(const char **at, filter_item *item)
{
    size_t length = strcspn(*at, ",");
    const char *colon = memchr(*at, ':', length);
    size_t name = colon ? (size_t)(colon - *at) : length;

    if (name == 0 || name >= sizeof(item->device))
        return false;
    memcpy(item->device, *at, name);
    item->device[name] = '\0';
    item->port = 0;
    if (colon) {
        size_t digits = strspn(colon + 1, "0123456789");

        if (digits == 0 || digits > 3 || name + 1 + digits != length)
            return false;
        for (size_t i = 1; i <= digits; i++)
            item->port = 10 * item->port + (colon[i] - '0');
        if (item->port == 0 || item->port > 255)
            return false;
    }
    *at += length;
    if (**at == ',')
        return *++*at != '\0'; /* nothing behind a comma is no item */
    return true;
}

gp_status
gp_verbs_filter_check(const char *filter)
{
    bool except, whole;
    const char *at = filter_signs(filter, &except, &whole);
    filter_item item;

    if (!*filter)
        return GP_OK;
    do {
        if (!next_item(&at, &item))
            return gp_fail(GP_ERR_CONFIG,
                           "GRADPUSH_IB_HCA is '%.80s': takes devices with or "
                           "without a port from 1 to 255, such as "
                           "mlx5_0:1,mlx5_2; behind = whole names, behind ^ "
                           "what to leave out",
                           filter);
    } while (*at);
    return GP_OK;
}

bool
gp_verbs_filter_pass(const char *filter, const char *device, uint8_t port)
{
    bool except, whole, found = false;
    const char *at = filter_signs(filter, &except, &whole);
    filter_item item;

    if (!*filter)
        return true;
    while (*at && !found && next_item(&at, &item)) {
        size_t length = strlen(item.device);

        found = !strncmp(item.device, device, length) &&
                (!whole || device[length] == '\0') &&
                (item.port == 0 || item.port == port);
    }
    return found != except;
}

/* -------------------------------------------------------------------- GIDs */

static bool
is_ipv4(const uint8_t raw[16])
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

    return !memcmp(raw, mapped, sizeof(mapped));
}

static bool
is_link_local(const uint8_t raw[16])
{
    return raw[0] == 0xfe && (raw[1] & 0xc0) == 0x80;
}

int
gp_verbs_gid_rank(const gp_verbs_gid *gid)
{
    /* By type (v1, unknown, v2) and by address: link-local, IPv6, IPv4. */
    static const int ranks[3][3] = {{0, 1, 2}, {3, 5, 6}, {4, 7, 8}};
    int address = is_ipv4(gid->raw) ? 2 : is_link_local(gid->raw) ? 0 : 1;

    switch (gid->type) {
    case GP_VERBS_GID_ROCE_V1:
        return ranks[0][address];
    case GP_VERBS_GID_ROCE_V2:
        return ranks[2][address];
    default:
        return ranks[1][address];
    }
}

static bool
is_better(const gp_verbs_gid *gid, const gp_verbs_gid *than)
{
    if (gid->is_here != than->is_here)
        return gid->is_here;
    return gp_verbs_gid_rank(gid) > gp_verbs_gid_rank(than);
}

const gp_verbs_gid *
gp_verbs_gid_best(const gp_verbs_port *port)
{
    const gp_verbs_gid *best = NULL;

    for (size_t i = 0; i < port->gid_count; i++) {
        const gp_verbs_gid *gid = &port->gids[i];

        /* On InfiniBand the first entry is the port's own. */
        if (!best || (port->link_layer == GP_VERBS_LAYER_ETHERNET &&
                      !port->is_iwarp && is_better(gid, best)))
            best = gid;
    }
    return best;
}

bool
gp_verbs_gid_address(const gp_verbs_gid *gid, struct sockaddr_storage *out)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};

    if (is_link_local(gid->raw)) {
        v6.sin6_scope_id = *gid->netdev ? if_nametoindex(gid->netdev) : 0;
        if (v6.sin6_scope_id == 0)
            return false; /* cannot be bound without saying on which link */
    }
    memset(out, 0, sizeof(*out));
    memcpy(&v4.sin_addr, gid->raw + 12, 4);
    memcpy(&v6.sin6_addr, gid->raw, 16);
    if (is_ipv4(gid->raw))
        memcpy(out, &v4, sizeof(v4));
    else
        memcpy(out, &v6, sizeof(v6));
    return true;
}

/* Makes the entry with that index the one in use. */
static bool
use_gid(gp_verbs_port *port, int index)
{
    for (size_t i = 0; i < port->gid_count; i++) {
        const gp_verbs_gid *gid = &port->gids[i];

        if (gid->index != index)
            continue;
        port->gid_index = index;
        memcpy(port->gid, gid->raw, sizeof(port->gid));
        port->gid_type = gid->type;
        if (*gid->netdev)
            memcpy(port->netdev, gid->netdev, sizeof(port->netdev));
        if (port->link_layer == GP_VERBS_LAYER_ETHERNET && !port->is_iwarp &&
            !gp_verbs_gid_address(gid, &port->address))
            port->address.ss_family = AF_UNSPEC;
        return true;
    }
    return false;
}

/* ------------------------------------------------------------------ choice */

typedef struct candidate {
    gp_verbs_port port;
    bool confined; /* its address means nothing beyond its link */
    int gpu, numa; /* distances */
    int nth;       /* of its device's candidates, in this order */
} candidate;

/* Appends to a text, cut at its end. */
static void GP_PRINTF(3, 4)
    append(char *text, size_t capacity, const char *format, ...)
{
    size_t used = strnlen(text, capacity);
    va_list arguments;

    if (used >= capacity)
        return;
    va_start(arguments, format);
    vsnprintf(text + used, capacity - used, format, arguments);
    va_end(arguments);
}

/* What keeps a port from being used, NULL if nothing does; applies the GID
 * index that is asked for. */
static const char *
obstacle(const char *filter, int gid_index, gp_verbs_port *port)
{
    if (!gp_verbs_filter_pass(filter, port->device, port->number))
        return "left out by GRADPUSH_IB_HCA";
    if (!port->asked)
        return "cannot be opened (library, provider or permission missing)";
    if (port->state != GP_VERBS_STATE_ACTIVE)
        return gp_verbs_state_name(port->state);
    if (gid_index >= 0 && !use_gid(port, gid_index))
        return "its GID at GRADPUSH_IB_GID_INDEX is empty";
    if (port->gid_index < 0)
        return "it has no GID";
    if (port->address.ss_family != AF_UNSPEC)
        return NULL;
    if (port->link_layer == GP_VERBS_LAYER_INFINIBAND)
        return "no IP address: give its IPoIB interface one";
    return "no IP address: give its network interface one";
}

static int
node_distance(int (*distance)(int, int), int from, int to)
{
    int found = -1;

    if (from < 0 || to < 0 || from == to)
        return NUMA_NEAR;
    if (distance)
        found = distance(from, to);
    return found >= NUMA_NEAR ? found : NUMA_FAR;
}

/* An interface that nobody gave an address has one all the same. */
static bool
is_confined(const struct sockaddr_storage *address)
{
    struct sockaddr_in6 v6;

    memcpy(&v6, address, sizeof(v6));
    return address->ss_family == AF_INET6 &&
           is_link_local(v6.sin6_addr.s6_addr);
}

static void
measure(candidate *c, const gp_verbs_place *place, int (*distance)(int, int))
{
    c->confined = is_confined(&c->port.address);
    c->gpu = *place->pci ? gp_verbs_pci_distance(place->pci, c->port.pci) : 0;
    c->numa = node_distance(distance, place->numa, c->port.numa);
    c->nth = 0;
}

static int
compare(const void *left, const void *right)
{
    const candidate *a = left, *b = right;
    int names = strverscmp(a->port.device, b->port.device);

    if (a->confined != b->confined)
        return a->confined ? 1 : -1;
    if (a->nth != b->nth)
        return a->nth < b->nth ? -1 : 1;
    if (a->port.is_software != b->port.is_software)
        return a->port.is_software ? 1 : -1;
    if (a->gpu != b->gpu)
        return a->gpu < b->gpu ? -1 : 1;
    if (a->numa != b->numa)
        return a->numa < b->numa ? -1 : 1;
    if (a->port.rate_mbps != b->port.rate_mbps)
        return a->port.rate_mbps > b->port.rate_mbps ? -1 : 1;
    return names ? names : a->port.number - b->port.number;
}

/* Best first, and the second port of a device behind the first of each. */
static void
sort(candidate *list, size_t count)
{
    qsort(list, count, sizeof(*list), compare);
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < i; j++)
            list[i].nth += !strcmp(list[i].port.device, list[j].port.device);
    qsort(list, count, sizeof(*list), compare);
}

bool
gp_verbs_same_kind(const gp_verbs_port *first, const gp_verbs_port *other)
{
    return first->link_layer == other->link_layer &&
           first->is_iwarp == other->is_iwarp &&
           other->rate_mbps >= first->rate_mbps / 2;
}

/* "mlx5_0 port 1: InfiniBand, 400 Gb/s, NUMA node 0, where this runs; first of
 * 2 usable ports" */
static void
say_why(const candidate *best, size_t usable, const gp_verbs_place *place,
        char *why, size_t capacity)
{
    const gp_verbs_port *p = &best->port;

    snprintf(why, capacity, "%s port %u: %s", p->device, p->number,
             gp_verbs_layer_name(p));
    if (p->rate_mbps)
        append(why, capacity, ", %g Gb/s", p->rate_mbps / 1e3);
    if (*place->pci && best->gpu != INT_MAX)
        append(why, capacity, ", %d bridges from the GPU", best->gpu);
    if (p->numa >= 0 && place->numa >= 0)
        append(why, capacity, ", NUMA node %d%s", p->numa,
               p->numa == place->numa ? " as this thread" : "");
    if (usable == 1)
        append(why, capacity, "; the only usable port");
    else
        append(why, capacity, "; first of %zu usable ports", usable);
}

/* The usable ones of `ports` in `list`; the others with their reason in `why`.
 */
static size_t
collect(const gp_config *config, const gp_verbs_place *place,
        int (*distance)(int, int), const gp_verbs_port *ports, size_t count,
        candidate *list, char *why, size_t capacity)
{
    const char *filter = gp_config_get(config, "ib_hca");
    int gid_index = (int)gp_config_int(config, "ib_gid_index");
    size_t usable = 0;

    for (size_t i = 0; i < count; i++) {
        candidate *c = &list[usable];
        const char *problem;

        c->port = ports[i];
        problem = obstacle(filter, gid_index, &c->port);
        if (problem) {
            append(why, capacity, "%s%s port %u: %s", *why ? "; " : "",
                   ports[i].device, ports[i].number, problem);
        } else {
            measure(c, place, distance);
            usable++;
        }
    }
    return usable;
}

gp_status
gp_verbs_choose_near(const gp_config *config, const gp_verbs_place *place,
                     int (*numa_distance)(int from, int to),
                     const gp_verbs_port *ports, size_t count,
                     gp_verbs_port *out, size_t max, size_t *chosen, char *why,
                     size_t capacity)
{
    gp_status status = gp_verbs_filter_check(gp_config_get(config, "ib_hca"));
    candidate *list;
    size_t usable, taken = 0;

    why[0] = '\0';
    if (status != GP_OK) {
        snprintf(why, capacity, "%s", gp_last_error());
        return status;
    }
    if (count == 0) {
        snprintf(why, capacity, "no RDMA device");
        return gp_fail(GP_ERR_UNSUPPORTED, "no RDMA device");
    }
    list = calloc(count, sizeof(*list));
    if (!list)
        return gp_fail(GP_ERR_NO_MEMORY, "choosing among %zu ports", count);
    usable = collect(config, place, numa_distance, ports, count, list, why,
                     capacity);
    if (usable) {
        sort(list, usable);
        say_why(&list[0], usable, place, why, capacity);
        for (size_t i = 0; i < usable && taken < max; i++)
            if (gp_verbs_same_kind(&list[0].port, &list[i].port) &&
                list[0].confined == list[i].confined)
                out[taken++] = list[i].port;
        *chosen = taken;
    } else {
        status =
            gp_fail(GP_ERR_UNSUPPORTED, "no RDMA port can be used: %s", why);
    }
    free(list);
    return status;
}

gp_status
gp_verbs_choose(const gp_config *config, const gp_verbs_port *ports,
                size_t count, gp_verbs_port *out, size_t max, size_t *chosen,
                char *why, size_t capacity)
{
    gp_verbs_place here = {.numa = gp_verbs_numa_here()};

    return gp_verbs_choose_near(config, &here, gp_verbs_numa_distance, ports,
                                count, out, max, chosen, why, capacity);
}

/* ------------------------------------------------------------------- words */

const char *
gp_verbs_state_name(int state)
{
    static const char *const names[] = {"NOP",   "DOWN",   "INIT",
                                        "ARMED", "ACTIVE", "ACTIVE_DEFER"};

    return state >= 0 && (size_t)state < GP_COUNT_OF(names) ? names[state]
                                                            : "UNKNOWN";
}

const char *
gp_verbs_layer_name(const gp_verbs_port *port)
{
    if (port->is_iwarp)
        return "iWARP";
    if (port->link_layer == GP_VERBS_LAYER_INFINIBAND)
        return "InfiniBand";
    return port->link_layer == GP_VERBS_LAYER_ETHERNET ? "RoCE" : "unknown";
}

const char *
gp_verbs_gid_type_name(gp_verbs_gid_type type)
{
    static const char *const names[] = {
        [GP_VERBS_GID_UNKNOWN] = "unknown",
        [GP_VERBS_GID_IB] = "IB",
        [GP_VERBS_GID_ROCE_V1] = "RoCE v1",
        [GP_VERBS_GID_ROCE_V2] = "RoCE v2",
    };

    return names[type];
}
