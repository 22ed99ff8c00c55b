/* SPDX-License-Identifier: Apache-2.0 */
/*
 * info_rdma.c - RDMA ports, their GIDs, and which of them would be used.
 */
#include "info_rdma.h"

#include <stdio.h>
#include <stdlib.h>

#include "transports/verbs/verbs.h"

static void
gid_json(gp_json *list, const gp_verbs_port *port, const gp_verbs_gid *gid)
{
    gp_json *o = gp_json_object(list, NULL);
    char text[64];

    gp_verbs_gid_text(gid->raw, text, sizeof(text));
    gp_json_int(o, "index", gid->index);
    gp_json_text(o, "gid", text);
    gp_json_text(o, "type", gp_verbs_gid_type_name(gid->type));
    gp_json_text(o, "netdev", gid->netdev);
    gp_json_bool(o, "used", gid->index == port->gid_index);
}

/* Numbers that are not known are left out. */
static void
numbers_json(gp_json *o, const gp_verbs_port *port)
{
    if (port->mtu)
        gp_json_int(o, "mtu", port->mtu);
    if (port->rate_mbps)
        gp_json_real(o, "rate_Gbps", port->rate_mbps / 1e3);
    if (port->numa >= 0)
        gp_json_int(o, "numa", port->numa);
    if (port->lid)
        gp_json_int(o, "lid", port->lid);
    if (port->max_mr_size)
        gp_json_int(
            o, "max_region_bytes",
            (int64_t)(port->max_mr_size >> 63 ? INT64_MAX : port->max_mr_size));
}

static void
port_json(gp_json *list, const gp_verbs_report *report,
          const gp_verbs_port *port)
{
    gp_json *o = gp_json_object(list, NULL), *gids;
    char text[320];

    gp_json_text(o, "kind", "rdma");
    gp_verbs_port_text(port, text, sizeof(text));
    gp_json_text(o, "text", text);
    gp_json_text(o, "device", port->device);
    gp_json_int(o, "port", port->number);
    gp_json_text(o, "state", gp_verbs_state_name(port->state));
    gp_json_text(o, "layer", gp_verbs_layer_name(port));
    gp_json_bool(o, "software", port->is_software);
    gp_json_bool(o, "opened", port->asked);
    numbers_json(o, port);
    gp_verbs_pci_text(port->pci, text, sizeof(text));
    gp_json_text(o, "pci", text);
    gp_json_text(o, "netdev", port->netdev);
    gp_verbs_address_text(&port->address, text, sizeof(text));
    gp_json_text(o, "address", text);
    gp_json_text(o, "firmware", port->firmware);
    gp_json_bool(o, "memory_windows", port->has_windows);
    gp_json_int(o, "rail", (int64_t)gp_verbs_report_rail(report, port));
    gids = gp_json_array(o, "gids");
    for (size_t i = 0; i < port->gid_count; i++)
        gid_json(gids, port, &port->gids[i]);
}

static void
port_text(const gp_verbs_port *port)
{
    char text[320];

    gp_verbs_port_text(port, text, sizeof(text));
    printf("rdma   %s\n", text);
    for (size_t i = 0; i < port->gid_count; i++) {
        const gp_verbs_gid *gid = &port->gids[i];

        gp_verbs_gid_text(gid->raw, text, sizeof(text));
        printf("         GID %d: %s, %s%s%s%s\n", gid->index, text,
               gp_verbs_gid_type_name(gid->type), *gid->netdev ? ", " : "",
               gid->netdev, gid->index == port->gid_index ? "; in use" : "");
    }
}

static void
report_json(const gp_verbs_report *report, gp_json *document, gp_json *list)
{
    gp_json *o = gp_json_object(document, "rdma"), *rails;

    for (size_t i = 0; i < report->count; i++)
        port_json(list, report, &report->ports[i]);
    gp_json_text(o, "libraries", *report->missing ? report->missing : "loaded");
    gp_json_int(o, "ports", (int64_t)report->count);
    rails = gp_json_array(o, "chosen");
    for (size_t i = 0; i < report->rails; i++) {
        char text[80];

        snprintf(text, sizeof(text), "%s:%u", report->rail[i].device,
                 report->rail[i].number);
        gp_json_text(rails, NULL, text);
    }
    gp_json_text(o, "why", report->why);
}

static void
report_text(const gp_verbs_report *report)
{
    for (size_t i = 0; i < report->count; i++)
        port_text(&report->ports[i]);
    if (*report->missing)
        printf("rdma   %s\n", report->missing);
    if (report->count == 0)
        printf("rdma   none: the kernel has no RDMA device\n");
    else if (report->rails == 0)
        printf("rdma   chosen: none; %s\n", report->why);
    else
        printf("rdma   chosen: %s\n", report->why);
    for (size_t i = 1; i < report->rails; i++)
        printf("rdma   rail %zu: %s port %u\n", i + 1, report->rail[i].device,
               report->rail[i].number);
}

void
gp_info_rdma(const gp_config *config, const char *sysfs_root, gp_json *document,
             gp_json *list)
{
    gp_verbs_report *report;

    if (gp_verbs_report_create(config, NULL, sysfs_root, &report) != GP_OK) {
        gp_json_text(gp_json_object(document, "rdma"), "why", gp_last_error());
        if (!document)
            printf("rdma   %s\n", gp_last_error());
        return;
    }
    if (document)
        report_json(report, document, list);
    else
        report_text(report);
    free(report);
}
