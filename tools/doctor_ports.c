/* SPDX-License-Identifier: Apache-2.0 */
/*
 * doctor_ports.c - each port of each RDMA device: link, addresses, packets.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "doctor.h"
#include "transports/verbs/verbs.h"
#include "transports/verbs/verbs_probe.h"

#define GROUP "ports"
#define IB    "/sys/class/infiniband"

static bool
any_active(const gp_doctor *doctor)
{
    for (size_t i = 0; i < doctor->port_count; i++)
        if (doctor->ports[i].active && !doctor->ports[i].absent)
            return true;
    return false;
}

static const char *
after_number(const char *state) /* "4: ACTIVE" */
{
    const char *word = strstr(state, ": ");

    return word ? word + 2 : *state ? state : "unknown";
}

static void
link_fix(const gp_doctor_port *p, gp_check *c, const char *state,
         const char *physical)
{
    const char *netdev = *p->netdev ? p->netdev : "INTERFACE";

    if (strstr(physical, "Disabled"))
        gp_check_fix(c,
                     p->ethernet ? "ip link set dev %s up"
                                 : "ibportstate -C %s 0 %u enable",
                     p->ethernet ? netdev : p->device, p->port);
    else if (strstr(state, "INIT"))
        gp_check_fix(c, "start a subnet manager on one machine of the fabric: "
                        "systemctl start opensm; or ask who runs the switch");
    else if (p->ethernet && p->software)
        gp_check_fix(c, "ip link set dev %s up", netdev);
    else if (p->ethernet)
        gp_check_fix(c,
                     "ip link set dev %s up; then cable, transceiver and "
                     "the switch port: ethtool %s",
                     netdev, netdev);
    else
        gp_check_fix(c,
                     "check the cable and the switch port: ibdiagnet, or "
                     "mlxlink -d %s -p %u",
                     p->device, p->port);
}

static void
check_link(gp_doctor *doctor, const gp_doctor_port *p)
{
    gp_check *c = gp_doctor_add(doctor, GROUP, "link", p->label);
    char state[64], physical[64], rate[64];
    const char *kind = p->iwarp ? "iWARP" : p->ethernet ? "RoCE" : "InfiniBand";

    gp_doctor_line(doctor, state, sizeof(state), IB "/%s/ports/%u/state",
                   p->device, p->port);
    gp_doctor_line(doctor, physical, sizeof(physical),
                   IB "/%s/ports/%u/phys_state", p->device, p->port);
    gp_doctor_line(doctor, rate, sizeof(rate), IB "/%s/ports/%u/rate",
                   p->device, p->port);
    gp_check_text(c, "state", after_number(state));
    gp_check_text(c, "physical", after_number(physical));
    gp_check_text(c, "rate", rate);
    gp_check_text(c, "kind", kind);
    gp_check_int(c, "software", p->software);
    gp_check_text(c, "interface", p->netdev);
    gp_check_set(c,
                 p->active            ? GP_CHECK_OK
                 : any_active(doctor) ? GP_CHECK_WARN
                                      : GP_CHECK_FAIL,
                 "%s, %s, %s, %s%s%s%s", after_number(state),
                 after_number(physical), *rate ? rate : "rate unknown", kind,
                 p->software ? " in software" : "", *p->netdev ? " on " : "",
                 p->netdev);
    if (!p->active) {
        link_fix(p, c, state, physical);
        return;
    }
    /* Ethernet has links of one lane by nature: 25 Gb/sec (1X EDR). */
    if (strstr(rate, "(1X") && !p->ethernet) {
        c->status = GP_CHECK_WARN;
        gp_doctor_append(c->reason, sizeof(c->reason),
                         "; only one lane of the link is up");
        gp_check_fix(c,
                     "reseat the cable, then look at its errors: mlxlink -d "
                     "%s -p %u -c",
                     p->device, p->port);
    }
}

/* What PCI carries in Gbit/s: 8b/10b below 8 GT/s, 128b/130b from there on. */
static double
pci_gbits(const char *speed, int64_t width)
{
    double rate = strtod(speed, NULL);

    return rate * (rate < 8 ? 0.8 : 128.0 / 130) * (double)width;
}

/* What a virtual function says of its link is "Unknown", and no lanes or 63 of
 * them. */
static bool
read_slot(const gp_doctor *doctor, const gp_doctor_port *p, char *speed,
          size_t capacity, int64_t *width)
{
    return !p->software &&
           gp_doctor_line(doctor, speed, capacity, "%s/current_link_speed",
                          p->pci) &&
           gp_doctor_number(doctor, width, "%s/current_link_width", p->pci) &&
           strtod(speed, NULL) > 0 && *width > 0 && *width <= 32;
}

static void
check_pci(gp_doctor *doctor, const gp_doctor_port *p)
{
    gp_check *c = gp_doctor_add(doctor, GROUP, "pcie", p->label);
    char now[64], best[64], rate[64];
    int64_t width = 0, most = 0;
    double carries, wants;

    if (!read_slot(doctor, p, now, sizeof(now), &width)) {
        gp_check_set(c, GP_CHECK_SKIP,
                     p->software
                         ? "no PCI device: done in software"
                         : "the PCI link is not told (a virtual function?)");
        return;
    }
    gp_doctor_line(doctor, best, sizeof(best), "%s/max_link_speed", p->pci);
    gp_doctor_number(doctor, &most, "%s/max_link_width", p->pci);
    gp_doctor_line(doctor, rate, sizeof(rate), IB "/%s/ports/%u/rate",
                   p->device, p->port);
    carries = pci_gbits(now, width);
    wants = strtod(rate, NULL);
    gp_check_text(c, "speed", now);
    gp_check_int(c, "width", width);
    gp_check_int(c, "pcie_gbits", (int64_t)carries);
    gp_check_set(c, GP_CHECK_OK,
                 "%s x%" PRId64 ": %.0f Gbit/s for a link of "
                 "%.0f",
                 now, width, carries, wants);
    if (carries >= wants && width >= most)
        return;
    c->status = GP_CHECK_WARN;
    if (width < most || strtod(now, NULL) < strtod(best, NULL)) {
        gp_doctor_append(c->reason, sizeof(c->reason),
                         "; the adapter can do %s x%" PRId64, best, most);
        gp_check_fix(c,
                     "move it to a slot wired for x%" PRId64
                     ", reseat it, or raise the slot's speed in the BIOS; "
                     "sudo lspci -vvs %s | grep Lnk",
                     most, strrchr(p->pci, '/') + 1);
    } else {
        gp_check_fix(c,
                     "the slot is slower than the link: use one of a later "
                     "PCIe generation, or expect %.0f Gbit/s",
                     carries);
    }
}

static void
check_roce_gid(const gp_doctor_port *p, gp_check *c)
{
    const char *netdev = *p->netdev ? p->netdev : "INTERFACE";

    if (!p->gids) {
        gp_check_set(c, GP_CHECK_FAIL, "the GID table is empty");
        gp_check_fix(c,
                     "ip link set dev %s up && ip addr add 192.0.2.1/24 dev "
                     "%s   # with an address of yours",
                     netdev, netdev);
    } else if (p->v1 && !p->v2) {
        gp_check_set(c, GP_CHECK_WARN,
                     "%u GIDs, all RoCE v1: it stays within one Ethernet "
                     "segment and cannot be routed",
                     p->v1);
        gp_check_fix(c,
                     "cma_roce_mode -d %s -p %u -m 2; if that is refused, "
                     "update the adapter's firmware",
                     p->device, p->port);
    } else if (p->link_local == p->gids) {
        gp_check_set(c, GP_CHECK_WARN,
                     "only link-local GIDs (%u): no other machine finds this "
                     "port by an address",
                     p->gids);
        gp_check_fix(c,
                     "ip addr add 192.0.2.1/24 dev %s   # with an address "
                     "of yours",
                     netdev);
    } else {
        gp_check_set(c, GP_CHECK_OK, "%u GIDs, %u of RoCE v2; index %d is %s",
                     p->gids, p->v2, p->best_gid,
                     *p->address_text ? p->address_text : "chosen");
    }
}

/* The mode that rdma_cm takes on this port, where somebody has set one. */
static void
check_cm_mode(gp_doctor *doctor, const gp_doctor_port *p, gp_check *c)
{
    char mode[64];

    if (!p->v2 || !gp_doctor_line(doctor, mode, sizeof(mode),
                                  "/sys/kernel/config/rdma_cm/%s/ports/%u/"
                                  "default_roce_mode",
                                  p->device, p->port))
        return;
    gp_check_text(c, "rdma_cm_mode", mode);
    if (!strstr(mode, "v1"))
        return;
    gp_check_set(c, GP_CHECK_WARN,
                 "the table has RoCE v2, but rdma_cm is set to %s here", mode);
    gp_check_fix(c, "cma_roce_mode -d %s -p %u -m 2", p->device, p->port);
}

static void
check_gid(gp_doctor *doctor, const gp_doctor_port *p)
{
    gp_check *c = gp_doctor_add(doctor, GROUP, "gid", p->label);

    gp_check_int(c, "gids", p->gids);
    gp_check_int(c, "index", p->best_gid);
    if (p->ethernet && !p->iwarp) {
        gp_check_int(c, "roce_v1", p->v1);
        gp_check_int(c, "roce_v2", p->v2);
        gp_check_int(c, "link_local", p->link_local);
        check_roce_gid(p, c);
        check_cm_mode(doctor, p, c);
        return;
    }
    gp_check_set(c, p->gids ? GP_CHECK_OK : GP_CHECK_FAIL,
                 p->gids ? "%u GIDs; index %d" : "the GID table is empty",
                 p->gids, p->best_gid);
    if (!p->gids)
        gp_check_fix(c, "the subnet manager has not set up the port; see "
                        "ports.link, and on its machine: systemctl status "
                        "opensm");
}

static void
check_address(gp_doctor *doctor, const gp_doctor_port *p)
{
    gp_check *c = gp_doctor_add(doctor, GROUP, "address", p->label);
    const char *netdev = *p->netdev ? p->netdev : "INTERFACE";

    gp_check_text(c, "address", p->address_text);
    gp_check_text(c, "interface", p->netdev);
    if (p->address.ss_family == AF_INET) {
        gp_check_set(c, GP_CHECK_OK, "%s on %s", p->address_text, netdev);
    } else if (p->address.ss_family) {
        gp_check_set(c, GP_CHECK_OK, "%s on %s; IPv6 only", p->address_text,
                     netdev);
    } else if (p->ethernet) {
        gp_check_set(c, GP_CHECK_WARN,
                     "%s has no IPv4 address: nobody can "
                     "connect to this port",
                     netdev);
        gp_check_fix(c,
                     "ip addr add 192.0.2.1/24 dev %s   # with an address "
                     "of yours",
                     netdev);
    } else {
        gp_check_set(c, GP_CHECK_WARN,
                     "no IPoIB address: connections are made "
                     "by IP address");
        gp_check_fix(c,
                     "modprobe ib_ipoib && ip addr add 192.0.2.1/24 dev %s"
                     "   # with an address of yours",
                     *p->netdev ? p->netdev : "ib0");
    }
}

/* RoCE: the header takes room in the Ethernet frame. */
static void
mtu_fix(const gp_doctor_port *p, gp_check *c, uint32_t most)
{
    if (p->ethernet)
        gp_check_fix(c,
                     "ip link set dev %s mtu %u   # on every machine and "
                     "switch of the network",
                     *p->netdev ? p->netdev : "INTERFACE",
                     most == 4096 ? 9000 : most + 128);
    else
        gp_check_fix(c, "let the subnet manager allow it: mtu=5 (4096) in "
                        "/etc/opensm/partitions.conf: Default=0x7fff, ipoib, "
                        "mtu=5 : ALL=full;");
}

static void
check_mtu(gp_doctor *doctor, const gp_doctor_port *p)
{
    gp_check *c = gp_doctor_add(doctor, GROUP, "mtu", p->label);
    gp_verbs_port_facts facts;
    int64_t netdev = 0;

    if (*p->netdev)
        gp_doctor_number(doctor, &netdev, "/sys/class/net/%s/mtu", p->netdev);
    if (netdev)
        gp_check_int(c, "interface_mtu", netdev);
    if (!doctor->api) {
        gp_check_set(c, GP_CHECK_SKIP, "needs libibverbs; see rdma.libraries");
        return;
    }
    if (gp_verbs_probe_port(doctor->api, p->device, (uint8_t)p->port, &facts) !=
        GP_OK) {
        gp_check_set(c, GP_CHECK_SKIP, "%s", gp_last_error());
        return;
    }
    gp_check_int(c, "active_mtu", facts.active_mtu);
    gp_check_int(c, "max_mtu", facts.max_mtu);
    gp_check_int(c, "max_qp", facts.max_qp);
    gp_check_int(c, "max_mr", facts.max_mr);
    gp_check_text(c, "firmware", facts.firmware);
    if (p->iwarp) {
        gp_check_set(c, GP_CHECK_OK, "interface %" PRId64, netdev);
        return;
    }
    gp_check_set(c, GP_CHECK_OK, "active %u of %u bytes a packet",
                 facts.active_mtu, facts.max_mtu);
    if (netdev)
        gp_doctor_append(c->reason, sizeof(c->reason), ", interface %" PRId64,
                         netdev);
    if (facts.active_mtu >= facts.max_mtu || facts.active_mtu >= 4096)
        return;
    c->status = GP_CHECK_WARN;
    gp_doctor_append(c->reason, sizeof(c->reason),
                     ": more packets, headers and interrupts than need be");
    mtu_fix(p, c, facts.max_mtu);
}

/* What the transport itself would take, by its own rules. */
static void
check_choice(gp_doctor *doctor)
{
    gp_check *c = gp_doctor_add(doctor, GROUP, "choice", "");
    char sysfs[PATH_MAX];
    gp_verbs_report *report = NULL;

    if (!doctor->api || !doctor->port_count) {
        gp_check_set(c, GP_CHECK_SKIP,
                     doctor->api ? "no RDMA port" : "no libraries to ask");
        return;
    }
    snprintf(sysfs, sizeof(sysfs), "%.*s/sys", PATH_MAX - 8, doctor->root);
    if (gp_verbs_report_create(doctor->config, doctor->api, sysfs, &report) !=
        GP_OK) {
        gp_check_set(c, GP_CHECK_SKIP, "%s", gp_last_error());
        return;
    }
    gp_check_int(c, "rails", (int64_t)report->rails);
    gp_check_text(c, "GRADPUSH_IB_HCA",
                  gp_config_get(doctor->config, "ib_hca"));
    for (size_t i = 0; i < report->rails; i++) {
        char name[32], rail[80];

        snprintf(name, sizeof(name), "rail%zu", i + 1);
        snprintf(rail, sizeof(rail), "%s:%u", report->rail[i].device,
                 report->rail[i].number);
        gp_check_text(c, name, rail);
    }
    gp_check_set(c, report->rails ? GP_CHECK_OK : GP_CHECK_FAIL, "%.500s",
                 report->why);
    if (!report->rails)
        gp_check_fix(c, "the fixes above; unset GRADPUSH_IB_HCA and "
                        "GRADPUSH_IB_GID_INDEX (and NCCL_IB_HCA, "
                        "NCCL_IB_GID_INDEX) if they name something that is "
                        "not here; gradpush info --devices");
    free(report);
}

void
gp_doctor_check_ports(gp_doctor *doctor)
{
    for (size_t i = 0; i < doctor->port_count; i++) {
        const gp_doctor_port *p = &doctor->ports[i];

        if (p->absent) {
            gp_check_set(gp_doctor_add(doctor, GROUP, "link", p->label),
                         GP_CHECK_SKIP, "not given to this container");
            continue;
        }
        check_link(doctor, p);
        if (!p->active)
            continue;
        check_gid(doctor, p);
        check_address(doctor, p);
        check_mtu(doctor, p);
        check_pci(doctor, p);
    }
    if (!doctor->port_count)
        gp_check_set(gp_doctor_add(doctor, GROUP, "link", ""), GP_CHECK_SKIP,
                     "no RDMA port");
    else
        check_choice(doctor);
}
