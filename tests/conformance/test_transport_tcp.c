/* SPDX-License-Identifier: Apache-2.0 */
/* test_transport_tcp.c - the suite over tcp in its configurations. */
#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <arpa/inet.h>

#include "tests/conformance/transport_suite.h"

static int
have_ipv6(void)
{
    struct sockaddr_in6 name = {.sin6_family = AF_INET6,
                                .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    int ok = fd >= 0 && !bind(fd, (struct sockaddr *)&name, sizeof(name));

    if (fd >= 0)
        close(fd);
    return ok;
}

int
main(void)
{
    static const char *const plain[] = {NULL};
    static const char *const four[] = {"sockets", "4", NULL};
    static const char *const checked[] = {"checksum", "on", NULL};
    const gp_transport_ops *tcp = gp_transport_find("tcp");
    int failed =
        transport_suite("tcp", tcp, plain, "127.0.0.1:0") +
        transport_suite("tcp, 4 sockets", tcp, four, "127.0.0.1:0") +
        transport_suite("tcp, checksum on", tcp, checked, "127.0.0.1:0") +
        transport_suite("tcp, any address", tcp, plain, "");

    if (have_ipv6())
        failed += transport_suite("tcp, IPv6", tcp, plain, "[::1]:0");
    else
        puts("IPv6 left out: this machine has no [::1]");
    return failed;
}
