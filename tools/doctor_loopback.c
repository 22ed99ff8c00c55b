/* SPDX-License-Identifier: Apache-2.0 */
/*
 * doctor_loopback.c - one page through each port, from this process to itself.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "doctor.h"
#include "transports/verbs/verbs_probe.h"

#define GROUP   "loopback"
#define SECONDS 10.0

/* What is wrong when a loopback ends at this stage. */
static void
fix(const gp_doctor *doctor, gp_check *c, const gp_doctor_port *p,
    const gp_verbs_loopback *l)
{
    switch (l->stage) {
    case GP_VERBS_CHANNEL:
        gp_check_fix(c, "modprobe rdma_ucm, and access to "
                        "/dev/infiniband/rdma_cm; see rdma.node");
        break;
    case GP_VERBS_LISTEN:
    case GP_VERBS_RESOLVE:
        gp_check_fix(c,
                     "the address must be on the interface of the port: ip "
                     "addr show dev %s; rdma link; and a rule or VRF must not "
                     "lead it elsewhere: ip route get %s",
                     *p->netdev ? p->netdev : "INTERFACE", p->address_text);
        break;
    case GP_VERBS_MEMORY:
    case GP_VERBS_QUEUES:
        if (l->error == ENOMEM)
            gp_check_fix(c, "raise the limit of locked memory; see "
                            "limits.memlock");
        else
            gp_check_fix(c,
                         "dmesg | tail; see rdma.cgroup for a limit of "
                         "objects%s",
                         gp_doctor_container(doctor)
                             ? ", and give the container --cap-add=IPC_LOCK"
                             : "");
        break;
    case GP_VERBS_CONNECT:
        gp_check_fix(c, "a firewall may drop UDP port 4791 (RoCE v2): nft "
                        "list ruleset; else dmesg | tail, and see ports.gid");
        break;
    case GP_VERBS_WRITE:
        gp_check_fix(c, "packets are lost between the adapter and itself: see "
                        "counters and ports.mtu; dmesg | tail");
        break;
    case GP_VERBS_COMPARE:
        gp_check_fix(c, "do not train on this machine: test its memory and "
                        "replace the adapter; an IOMMU fault in dmesg would "
                        "explain it too");
        break;
    default:
        gp_check_fix(c, "dmesg | tail; update the adapter's driver");
    }
}

static void
check_port(gp_doctor *doctor, const gp_doctor_port *p)
{
    gp_check *c = gp_doctor_add(doctor, GROUP, "write", p->label);
    gp_verbs_loopback l;

    if (!doctor->api || p->absent || !p->active || !p->address.ss_family) {
        gp_check_set(c, GP_CHECK_SKIP, "%s",
                     !doctor->api ? "no libraries; see rdma.libraries"
                     : p->absent  ? "not given to this container"
                     : !p->active ? "the port is not active; see ports.link"
                                  : "the port has no address to connect to; "
                                    "see ports.address");
        return;
    }
    gp_check_text(c, "address", p->address_text);
    if (gp_verbs_probe_loopback(doctor->api,
                                (const struct sockaddr *)&p->address, SECONDS,
                                &l) != GP_OK) {
        gp_check_text(c, "stage", gp_verbs_stage_name(l.stage));
        gp_check_int(c, "errno", l.error);
        gp_check_set(c, GP_CHECK_FAIL, "stage '%s': %.400s",
                     gp_verbs_stage_name(l.stage), gp_last_error());
        fix(doctor, c, p, &l);
        return;
    }
    gp_check_text(c, "device", l.device);
    gp_check_int(c, "bytes", l.bytes);
    gp_check_int(c, "connect_us", (int64_t)l.connect_us);
    gp_check_int(c, "write_us", (int64_t)l.write_us);
    gp_check_set(c, GP_CHECK_OK,
                 "rdma_cm connected %s to itself; a page of %u bytes was "
                 "registered, written and compared",
                 p->address_text, l.bytes);
    if (!strcmp(l.device, p->device))
        return;
    gp_check_set(c, GP_CHECK_WARN, "the address %s leads to %s, not to %s",
                 p->address_text, l.device, p->device);
    gp_check_fix(c,
                 "give every port an address of its own subnet; ip route "
                 "get %s",
                 p->address_text);
}

void
gp_doctor_check_loopback(gp_doctor *doctor)
{
    for (size_t i = 0; i < doctor->port_count; i++)
        check_port(doctor, &doctor->ports[i]);
    if (!doctor->port_count)
        gp_check_set(gp_doctor_add(doctor, GROUP, "write", ""), GP_CHECK_SKIP,
                     "no RDMA port");
}
