/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_transport_verbs.c - the suite over verbs, where there is a device: on a
 * machine with one, and in the guest of tests/rdma.
 *
 * RDMA_ADDR is the address to listen on; without it, that of the first port
 * the transport would choose.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <netdb.h>

#include "tests/conformance/transport_suite.h"
#include "transports/verbs/verbs_select.h"

#define SKIPPED 77

static int
skip(const char *why)
{
    printf("skipped: %s\n", why);
    return SKIPPED;
}

/* "host:0" of the first usable port; false, and why, when there is none. */
static int
find_address(const gp_config *config, char *out, size_t capacity, char *why,
             size_t why_capacity)
{
    static gp_verbs_port ports[GP_VERBS_PORTS_MAX];
    gp_verbs_port port;
    const struct sockaddr *name = (struct sockaddr *)&port.address;
    char host[64];
    size_t count = 0, chosen = 0;
    socklen_t length = sizeof(struct sockaddr_in);

    if (gp_verbs_list(NULL, NULL, ports, GP_VERBS_PORTS_MAX, &count) != GP_OK) {
        snprintf(why, why_capacity, "%s", gp_last_error());
        return 0;
    }
    if (gp_verbs_choose(config, ports, count, &port, 1, &chosen, why,
                        why_capacity) != GP_OK)
        return 0;
    if (name->sa_family == AF_INET6)
        length = sizeof(struct sockaddr_in6);
    if (getnameinfo(name, length, host, sizeof(host), NULL, 0,
                    NI_NUMERICHOST)) {
        snprintf(why, why_capacity, "%s has no address", port.device);
        return 0;
    }
    snprintf(out, capacity, strchr(host, ':') ? "[%s]:0" : "%s:0", host);
    return 1;
}

/* The status of all suites, or SKIPPED. */
static int
run_suites(const gp_transport_ops *verbs, const gp_config *config)
{
    static const char *const plain[] = {NULL};
    static const char *const imm[] = {"ib_notify", "imm", NULL};
    static const char *const four[] = {"ib_qps", "4", NULL};
    const char *given = getenv("RDMA_ADDR");
    char listen[80], why[1024] = "";
    gp_status status = verbs->probe(config, why, sizeof(why));

    if (status != GP_OK)
        return skip(why);
    if (given)
        snprintf(listen, sizeof(listen), "%s:0", given);
    else if (!find_address(config, listen, sizeof(listen), why, sizeof(why)))
        return skip(why);
    return transport_suite("verbs", verbs, plain, listen) +
                   transport_suite("verbs, imm", verbs, imm, listen) +
                   transport_suite("verbs, 4 queue pairs", verbs, four, listen)
               ? 1
               : 0;
}

int
main(void)
{
    const gp_transport_ops *verbs = gp_transport_find("verbs");
    gp_config *config;
    int status;

    if (!verbs)
        return skip("this build has no verbs");
    if (gp_config_create(&config) != GP_OK)
        return 1;
    status = run_suites(verbs, config);
    gp_config_destroy(config);
    return status;
}
