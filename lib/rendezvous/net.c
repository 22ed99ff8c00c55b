/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net.c - name resolution and socket texts shared by the store's two ends.
 *
 * getaddrinfo() has no deadline of its own: the resolver's limit (10 s with
 * Debian's defaults) is added to the caller's at worst.
 */
#include "rendezvous/net.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "rendezvous/rendezvous.h"

gp_status
gp_socket_host(const struct sockaddr *address, char *out, size_t capacity)
{
    char text[INET6_ADDRSTRLEN] = "";

    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const void *)address;

        inet_ntop(AF_INET, &v4->sin_addr, text, sizeof(text));
    } else if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const void *)address;

        if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
            inet_ntop(AF_INET, v6->sin6_addr.s6_addr + 12, text, sizeof(text));
        else
            inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof(text));
    }
    if (!text[0] || strlen(text) >= capacity)
        return gp_fail(GP_ERR_ADDRESS, "an address of family %d has no text",
                       address->sa_family);
    memcpy(out, text, strlen(text) + 1);
    return GP_OK;
}

void
gp_socket_text(const struct sockaddr *address, char *out, size_t capacity)
{
    char host[INET6_ADDRSTRLEN];
    uint16_t port = 0;

    if (address->sa_family == AF_INET)
        port = ntohs(
            ((const struct sockaddr_in *)(const void *)address)->sin_port);
    else if (address->sa_family == AF_INET6)
        port = ntohs(
            ((const struct sockaddr_in6 *)(const void *)address)->sin6_port);
    if (gp_socket_host(address, host, sizeof(host)) != GP_OK ||
        gp_address_join(host, port, out, capacity) != GP_OK)
        snprintf(out, capacity, "?");
}

gp_status
gp_net_resolve(const char *address, int type, bool passive,
               struct addrinfo **out)
{
    struct addrinfo hints = {.ai_socktype = type,
                             .ai_flags =
                                 AI_NUMERICSERV | (passive ? AI_PASSIVE : 0)};
    char host[256], service[8];
    uint16_t port = 0;
    int error;
    gp_status status = gp_address_split(address, host, sizeof(host), &port);

    if (status != GP_OK)
        return status;
    snprintf(service, sizeof(service), "%u", (unsigned)port);
    error = getaddrinfo(host[0] && strcmp(host, "*") != 0 ? host : NULL,
                        service, &hints, out);
    if (error)
        return gp_fail(GP_ERR_UNREACHABLE, "the host of '%s' is unknown: %s",
                       address, gai_strerror(error));
    return GP_OK;
}

bool
gp_net_is_literal(const char *host)
{
    uint8_t binary[16];

    return strcmp(host, "localhost") == 0 ||
           inet_pton(AF_INET, host, binary) == 1 ||
           inet_pton(AF_INET6, host, binary) == 1;
}
