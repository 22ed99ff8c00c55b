/* SPDX-License-Identifier: Apache-2.0 */
/*
 * address.c - texts of addresses.
 *
 * Numeric addresses never reach the resolver. Names do, and the resolver
 * blocks: that happens in listen() and connect() only.
 */
#include "transports/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static gp_status
bad_address(const char *address, const char *why)
{
    return gp_fail(GP_ERR_ADDRESS,
                   "address '%.200s': %s; use host:port or [v6]:port", address,
                   why);
}

static gp_status
read_port(const char *address, const char *text, bool passive, uint16_t *port)
{
    char *end;
    long value;

    if (!*text && passive) {
        *port = 0;
        return GP_OK;
    }
    if (*text < '0' || *text > '9')
        return bad_address(address, "no port");
    value = strtol(text, &end, 10);
    if (*end || value > 65535 || (!value && !passive))
        return bad_address(address, "the port is not a number from 1 to 65535");
    *port = (uint16_t)value;
    return GP_OK;
}

/* "host:port", "[v6]:port", ":port", and when listening "host" and "". */
static gp_status
split(const char *address, bool passive, char host[GP_ADDRESS_MAX],
      uint16_t *port)
{
    const char *begin = address, *end, *rest;

    if (strlen(address) >= GP_ADDRESS_MAX)
        return bad_address(address, "too long");
    if (*address == '[') {
        begin = address + 1;
        end = strchr(begin, ']');
        if (!end)
            return bad_address(address, "']' is missing");
        rest = end + 1;
        if (*rest && *rest != ':')
            return bad_address(address, "text after ']'");
    } else {
        end = strchr(address, ':');
        if (end && strchr(end + 1, ':'))
            return bad_address(address, "an IPv6 address needs brackets");
        if (!end)
            end = address + strlen(address);
        rest = end;
    }
    memcpy(host, begin, (size_t)(end - begin));
    host[end - begin] = '\0';
    return read_port(address, *rest ? rest + 1 : rest, passive, port);
}

static void
set_v4(gp_address *a, struct in_addr host, uint16_t port)
{
    struct sockaddr_in in = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = host};

    memset(a, 0, sizeof(*a));
    memcpy(&a->name, &in, sizeof(in));
    a->length = sizeof(in);
}

static void
set_v6(gp_address *a, const struct in6_addr *host, uint16_t port)
{
    struct sockaddr_in6 in = {
        .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = *host};

    memset(a, 0, sizeof(*a));
    memcpy(&a->name, &in, sizeof(in));
    a->length = sizeof(in);
}

static gp_status
look_up(const char *address, const char *host, uint16_t port, gp_address *out,
        size_t max, size_t *count)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    char service[8];
    size_t n = 0;
    int error;

    snprintf(service, sizeof(service), "%u", port);
    error = getaddrinfo(host, service, &hints, &list);
    if (error)
        return gp_fail(GP_ERR_ADDRESS, "address '%.200s': %s", address,
                       error == EAI_SYSTEM ? strerror(errno)
                                           : gai_strerror(error));
    for (struct addrinfo *a = list; a && n < max; a = a->ai_next) {
        if (a->ai_addrlen > sizeof(out[n].name))
            continue;
        memset(&out[n], 0, sizeof(out[n]));
        memcpy(&out[n].name, a->ai_addr, a->ai_addrlen);
        out[n++].length = a->ai_addrlen;
    }
    freeaddrinfo(list);
    if (!n)
        return bad_address(address, "the name has no address");
    *count = n;
    return GP_OK;
}

static gp_status
resolve(const char *address, bool passive, gp_address *out, size_t max,
        size_t *count)
{
    char host[GP_ADDRESS_MAX];
    struct in_addr v4;
    struct in6_addr v6;
    uint16_t port = 0;
    gp_status status = split(address, passive, host, &port);

    if (status != GP_OK)
        return status;
    if (!*host && passive && max > 1) {
        set_v6(&out[0], &in6addr_any, port);
        set_v4(&out[1], (struct in_addr){htonl(INADDR_ANY)}, port);
        *count = 2;
        return GP_OK;
    }
    if (!*host)
        strcpy(host, "127.0.0.1");
    if (inet_pton(AF_INET, host, &v4) == 1) {
        set_v4(&out[0], v4, port);
    } else if (inet_pton(AF_INET6, host, &v6) == 1) {
        set_v6(&out[0], &v6, port);
    } else {
        return look_up(address, host, port, out, max, count);
    }
    *count = 1;
    return GP_OK;
}

void
gp_address_name(const struct sockaddr_storage *name, char *text,
                size_t capacity)
{
    char host[INET6_ADDRSTRLEN] = "?";
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;

    if (name->ss_family == AF_INET6) {
        memcpy(&v6, name, sizeof(v6));
        if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) {
            inet_ntop(AF_INET, &v6.sin6_addr.s6_addr[12], host, sizeof(host));
            snprintf(text, capacity, "%s:%u", host, ntohs(v6.sin6_port));
            return;
        }
        inet_ntop(AF_INET6, &v6.sin6_addr, host, sizeof(host));
        snprintf(text, capacity, "[%s]:%u", host, ntohs(v6.sin6_port));
        return;
    }
    memcpy(&v4, name, sizeof(v4));
    inet_ntop(AF_INET, &v4.sin_addr, host, sizeof(host));
    snprintf(text, capacity, "%s:%u", host, ntohs(v4.sin_port));
}

static gp_status
resolve_all(const char *address, gp_address *out, size_t max, size_t *count)
{
    gp_status status = GP_OK;
    size_t found = 0, n;

    for (const char *at = address; at && found < max;) {
        char one[GP_ADDRESS_MAX];
        size_t length = strcspn(at, "|");

        if (length >= sizeof(one))
            return bad_address(address, "too long");
        memcpy(one, at, length);
        one[length] = '\0';
        status = resolve(one, false, out + found, max - found, &n);
        if (status == GP_OK)
            found += n;
        at = at[length] ? at + length + 1 : NULL;
    }
    *count = found;
    return found ? GP_OK : status;
}

gp_status
gp_address_resolve(const char *address, bool passive, gp_address *out,
                   size_t max, size_t *count)
{
    return passive ? resolve(address, true, out, max, count)
                   : resolve_all(address, out, max, count);
}

bool
gp_address_several(const char *address)
{
    return strchr(address, '|') != NULL;
}

bool
gp_address_is_any(const gp_address *a)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;

    if (a->name.ss_family == AF_INET6) {
        memcpy(&v6, &a->name, sizeof(v6));
        return IN6_IS_ADDR_UNSPECIFIED(&v6.sin6_addr);
    }
    memcpy(&v4, &a->name, sizeof(v4));
    return v4.sin_addr.s_addr == htonl(INADDR_ANY);
}

gp_status
gp_address_refused(const char *address, int error)
{
    const char *shown = *address ? address : "any address";

    if (error == EADDRINUSE)
        return gp_fail_errno(
            GP_ERR_ADDRESS, error,
            "listen on %s: the port is taken; stop its owner (ss -ltnp shows "
            "it), or choose another port, 0 for any",
            shown);
    if (error == EADDRNOTAVAIL)
        return gp_fail_errno(GP_ERR_ADDRESS, error,
                             "listen on %s: this host has no such address; "
                             "`ip address` lists those it has",
                             shown);
    return gp_fail_errno(GP_ERR_ADDRESS, error, "listen on %s", shown);
}
