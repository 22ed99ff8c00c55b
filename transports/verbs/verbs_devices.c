/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_devices.c - the report about RDMA devices, and its words.
 *
 * A machine without libraries, devices or a usable port is what the report is
 * for, so none of these is an error.
 */
#include "transports/verbs/verbs.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "transports/verbs/verbs_api.h"

static void
choose(const gp_config *config, gp_verbs_report *report)
{
    size_t rails = (size_t)gp_config_int(config, "ib_rails");

    if (gp_verbs_choose(config, report->ports, report->count, report->rail,
                        GP_MIN(rails, GP_VERBS_RAILS_MAX), &report->rails,
                        report->why, sizeof(report->why)) != GP_OK &&
        !*report->why)
        snprintf(report->why, sizeof(report->why), "%s", gp_last_error());
}

gp_status
gp_verbs_report_create(const gp_config *config, const gp_verbs_api *api,
                       const char *sysfs_root, gp_verbs_report **out)
{
    gp_verbs_report *report = calloc(1, sizeof(*report));
    gp_status status;

    if (!report)
        return gp_fail(GP_ERR_NO_MEMORY, "no memory for the list of devices");
    if (!api && gp_verbs_api_get(&api) != GP_OK)
        snprintf(report->missing, sizeof(report->missing), "%s",
                 gp_last_error());
    status = gp_verbs_list(api, sysfs_root, report->ports, GP_VERBS_PORTS_MAX,
                           &report->count);
    if (status != GP_OK) {
        free(report);
        return status;
    }
    choose(config, report);
    *out = report;
    return GP_OK;
}

size_t
gp_verbs_report_rail(const gp_verbs_report *report, const gp_verbs_port *port)
{
    for (size_t i = 0; i < report->rails; i++)
        if (!strcmp(report->rail[i].device, port->device) &&
            report->rail[i].number == port->number)
            return i + 1;
    return 0;
}

/* ------------------------------------------------------------------- words */

void
gp_verbs_gid_text(const uint8_t raw[16], char *out, size_t capacity)
{
    char text[INET6_ADDRSTRLEN];

    inet_ntop(AF_INET6, raw, text, sizeof(text));
    snprintf(out, capacity, "%s", text);
}

void
gp_verbs_address_text(const struct sockaddr_storage *address, char *out,
                      size_t capacity)
{
    const struct sockaddr_in *v4 = (const void *)address;
    const struct sockaddr_in6 *v6 = (const void *)address;
    char text[INET6_ADDRSTRLEN] = "", link[IF_NAMESIZE];

    if (address->ss_family == AF_INET)
        inet_ntop(AF_INET, &v4->sin_addr, text, sizeof(text));
    if (address->ss_family == AF_INET6)
        inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof(text));
    if (address->ss_family == AF_INET6 && v6->sin6_scope_id &&
        if_indextoname(v6->sin6_scope_id, link))
        snprintf(out, capacity, "%s%%%s", text, link);
    else
        snprintf(out, capacity, "%s", text);
}

/* "0000:3b:00.0" */
static bool
is_function(const char *part, size_t length)
{
    static const char form[] = "xxxx:xx:xx.x";

    if (length != sizeof(form) - 1)
        return false;
    for (size_t i = 0; i < length; i++)
        if (form[i] == 'x' ? !strchr("0123456789abcdef", part[i])
                           : part[i] != form[i])
            return false;
    return true;
}

void
gp_verbs_pci_text(const char *path, char *out, size_t capacity)
{
    out[0] = '\0';
    for (const char *part = path; *part; part += *part == '/') {
        size_t length = strcspn(part, "/");

        if (is_function(part, length))
            snprintf(out, capacity, "%.*s", (int)length, part);
        part += length;
    }
}

typedef struct line {
    char *text;
    size_t capacity, used;
} line;

static void GP_PRINTF(2, 3) put(line *l, const char *format, ...)
{
    va_list arguments;
    int length;

    if (l->used >= l->capacity)
        return;
    va_start(arguments, format);
    length =
        vsnprintf(l->text + l->used, l->capacity - l->used, format, arguments);
    va_end(arguments);
    l->used += length > 0 ? (size_t)length : 0;
}

void
gp_verbs_port_text(const gp_verbs_port *port, char *out, size_t capacity)
{
    line l = {out, capacity, 0};
    char text[80];

    put(&l, "%s port %u: %s, %s", port->device, port->number,
        gp_verbs_state_name(port->state), gp_verbs_layer_name(port));
    if (port->is_software)
        put(&l, " in software");
    if (port->rate_mbps)
        put(&l, ", %g Gb/s", port->rate_mbps / 1e3);
    if (port->mtu)
        put(&l, ", MTU %u", port->mtu);
    if (port->numa >= 0)
        put(&l, ", NUMA node %d", port->numa);
    gp_verbs_pci_text(port->pci, text, sizeof(text));
    if (*text)
        put(&l, ", PCI %s", text);
    gp_verbs_address_text(&port->address, text, sizeof(text));
    if (*port->netdev)
        put(&l, ", %s", port->netdev);
    put(&l, ", %s", *text ? text : "no address");
    if (!port->asked)
        put(&l, ", not opened");
}
