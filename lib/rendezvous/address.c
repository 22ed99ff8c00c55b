/* SPDX-License-Identifier: Apache-2.0 */
/*
 * address.c - "host:port" texts, and the address others reach this host at.
 *
 * A host never carries its IPv6 brackets inside the library: splitting takes
 * them off, joining puts them on.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rendezvous/net.h"
#include "rendezvous/rendezvous.h"

static gp_status
bad_address(const char *address, const char *why)
{
    return gp_fail(GP_ERR_ADDRESS,
                   "'%.255s' is no address: %s; expected host:port, "
                   "[ipv6]:port or host",
                   address, why);
}

/* Decimal 0 to 65535, nothing around it. */
static bool
read_port(const char *text, uint16_t *out)
{
    unsigned value = 0;
    size_t length = strlen(text);

    if (length < 1 || length > 5)
        return false;
    for (size_t i = 0; i < length; i++) {
        if (!isdigit((unsigned char)text[i]))
            return false;
        value = value * 10 + (unsigned)(text[i] - '0');
    }
    if (value > 65535)
        return false;
    *out = (uint16_t)value;
    return true;
}

/* Where the host of `address` lies, and the text behind the port's colon
 * (NULL when there is none). */
static const char *
find_parts(const char *address, const char **host, size_t *length,
           const char **port)
{
    const char *colon = strrchr(address, ':');

    *host = address;
    *port = NULL;
    if (address[0] == '[') {
        const char *end = strchr(address, ']');

        if (!end)
            return "the bracket is not closed";
        if (end[1] != '\0' && end[1] != ':')
            return "the closing bracket is not followed by ':'";
        *host = address + 1;
        *length = (size_t)(end - address - 1);
        *port = end[1] ? end + 2 : NULL;
        return *length ? NULL : "nothing is between the brackets";
    }
    /* More than one colon without brackets is an IPv6 address alone. */
    if (!colon || strchr(address, ':') != colon) {
        *length = strlen(address);
        return *length ? NULL : "it is empty";
    }
    *length = (size_t)(colon - address);
    *port = colon + 1;
    return NULL;
}

gp_status
gp_address_split(const char *address, char *host, size_t host_capacity,
                 uint16_t *port)
{
    const char *begin, *port_text;
    size_t length = 0;
    uint16_t number = 0;
    const char *why = find_parts(address, &begin, &length, &port_text);

    if (!why && port_text && !read_port(port_text, &number))
        why = "the port is not a number from 0 to 65535";
    if (!why && length >= host_capacity)
        why = "the host is too long";
    for (size_t i = 0; !why && i < length; i++)
        if (isspace((unsigned char)begin[i]) ||
            iscntrl((unsigned char)begin[i]))
            why = "there is a space in it";
    if (why)
        return bad_address(address, why);
    memcpy(host, begin, length);
    host[length] = '\0';
    *port = number;
    return GP_OK;
}

gp_status
gp_address_join(const char *host, uint16_t port, char *out, size_t capacity)
{
    char text[GP_ADDRESS_TEXT];
    bool v6 = strchr(host, ':') != NULL;
    int n = snprintf(text, sizeof(text), v6 ? "[%s]:%u" : "%s:%u", host,
                     (unsigned)port);

    if (n < 0 || (size_t)n >= sizeof(text) || (size_t)n >= capacity)
        return bad_address(host, "the host is too long");
    memcpy(out, text, (size_t)n + 1);
    return GP_OK;
}

/* One word of an NCCL_SOCKET_IFNAME list against an interface's name. */
static bool
word_matches(const char *word, size_t length, bool exact, const char *name)
{
    if (exact && strlen(name) != length)
        return false;
    return length > 0 && strncmp(name, word, length) == 0;
}

bool
gp_interface_matches(const char *pattern, const char *name)
{
    bool exclude = pattern[0] == '^';
    bool exact;
    bool found = false;

    pattern += exclude;
    exact = pattern[0] == '=';
    pattern += exact;
    while (*pattern) {
        size_t length = strcspn(pattern, ",");

        found = found || word_matches(pattern, length, exact, name);
        pattern += length;
        pattern += *pattern == ',';
    }
    return found != exclude;
}

/* How good an interface's address is: 0 is not usable. */
static int
address_score(const struct ifaddrs *item, const char *pattern)
{
    bool loopback = (item->ifa_flags & IFF_LOOPBACK) != 0;
    int score = 0;

    if (!item->ifa_addr || !(item->ifa_flags & IFF_UP) ||
        !gp_interface_matches(pattern, item->ifa_name))
        return 0;
    /* "^docker" must not choose lo; "lo" may. */
    if (loopback && pattern[0] == '^')
        return 0;
    if (item->ifa_addr->sa_family == AF_INET)
        score = 2;
    else if (item->ifa_addr->sa_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const void *)item->ifa_addr;

        if (!IN6_IS_ADDR_LINKLOCAL(&v6->sin6_addr))
            score = 1;
    }
    if (score && !loopback)
        score += 2;
    return score;
}

/* "eth0, lo" for the message when none matches. */
static void
list_interfaces(const struct ifaddrs *all, char *out, size_t capacity)
{
    size_t used = 0;

    out[0] = '\0';
    for (const struct ifaddrs *i = all; i && used < capacity; i = i->ifa_next) {
        if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET)
            continue;
        used += (size_t)snprintf(out + used, capacity - used, "%s%s",
                                 used ? ", " : "", i->ifa_name);
    }
}

static gp_status
host_of_interface(const char *pattern, char *out, size_t capacity)
{
    struct ifaddrs *all = NULL;
    const struct ifaddrs *best = NULL;
    int best_score = 0;
    char names[200];
    gp_status status;

    if (getifaddrs(&all) != 0)
        return gp_fail(GP_ERR_SYSTEM, "getifaddrs failed");
    for (const struct ifaddrs *i = all; i; i = i->ifa_next) {
        int score = address_score(i, pattern);

        if (score > best_score) {
            best = i;
            best_score = score;
        }
    }
    if (best) {
        status = gp_socket_host(best->ifa_addr, out, capacity);
    } else {
        list_interfaces(all, names, sizeof(names));
        status = gp_fail(GP_ERR_CONFIG,
                         "GRADPUSH_INTERFACE is '%s' and no interface with an "
                         "address matches; this host has %s",
                         pattern, names[0] ? names : "none");
    }
    freeifaddrs(all);
    return status;
}

/* The source address the kernel would use towards `towards`; no packet is
 * sent. */
static bool
host_towards(const char *towards, char *out, size_t capacity)
{
    struct addrinfo *list = NULL;
    struct sockaddr_storage local;
    socklen_t length = sizeof(local);
    bool found = false;

    if (gp_net_resolve(towards, SOCK_DGRAM, false, &list) != GP_OK)
        return false;
    for (struct addrinfo *i = list; i && !found; i = i->ai_next) {
        int fd = socket(i->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        if (fd < 0)
            continue;
        length = sizeof(local);
        found =
            connect(fd, i->ai_addr, i->ai_addrlen) == 0 &&
            getsockname(fd, (struct sockaddr *)&local, &length) == 0 &&
            gp_socket_host((struct sockaddr *)&local, out, capacity) == GP_OK;
        close(fd);
    }
    freeaddrinfo(list);
    return found;
}

gp_status
gp_local_host(const gp_config *config, const char *towards, char *out,
              size_t capacity)
{
    const char *advertise = gp_config_get(config, "advertise");
    const char *interface = gp_config_get(config, "interface");
    const char *host = "127.0.0.1";

    if (advertise && advertise[0])
        host = advertise;
    else if (interface && interface[0])
        return host_of_interface(interface, out, capacity);
    else if (towards && towards[0] && host_towards(towards, out, capacity))
        return GP_OK;
    if (strlen(host) >= capacity)
        return gp_fail(GP_ERR_TOO_LARGE, "GRADPUSH_ADVERTISE is too long");
    memcpy(out, host, strlen(host) + 1);
    return GP_OK;
}
