/* SPDX-License-Identifier: Apache-2.0 */
/*
 * doctor_flow.c - whether Ethernet is made fit for RDMA: priority flow control,
 * congestion notification, and what the interface counted of both.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "doctor.h"

#define GROUP "counters"

/* DCQCN by priority, as mlx5 shows it: who sends notifications, who heeds
 * them. False when the driver does not tell. */
static bool
read_ecn(const gp_doctor *doctor, const gp_doctor_port *p, unsigned on[2])
{
    static const char *const roles[] = {"roce_np", "roce_rp"};
    bool told = false;
    int64_t value;

    on[0] = on[1] = 0;
    for (int role = 0; role < 2; role++)
        for (unsigned priority = 0; priority < 8; priority++) {
            if (!gp_doctor_number(doctor, &value,
                                  "/sys/class/net/%s/ecn/%s/enable/%u",
                                  p->netdev, roles[role], priority))
                continue;
            told = true;
            on[role] |= (value != 0) << priority;
        }
    return told;
}

static void
check_ecn(gp_doctor *doctor, const gp_doctor_port *p)
{
    gp_check *c = gp_doctor_add(doctor, GROUP, "ecn", p->label);
    unsigned on[2];

    if (!read_ecn(doctor, p, on)) {
        gp_check_set(c, GP_CHECK_SKIP,
                     p->software
                         ? "soft-RoCE has no congestion control"
                         : "the driver does not show whether ECN (DCQCN) is "
                           "on; see mlnx_qos or the switch");
        return;
    }
    gp_check_int(c, "notify_priorities", on[0]);
    gp_check_int(c, "react_priorities", on[1]);
    gp_check_set(c, on[0] && on[1] ? GP_CHECK_OK : GP_CHECK_WARN,
                 "ECN: notifies on priorities 0x%02x, reacts on 0x%02x", on[0],
                 on[1]);
    if (!on[0] || !on[1])
        gp_check_fix(c,
                     "for i in 0 1 2 3 4 5 6 7; do echo 1 | sudo tee "
                     "/sys/class/net/%s/ecn/roce_{np,rp}/enable/$i; done",
                     p->netdev);
}

/* Without PFC, ECN has to keep queues short; without both packets are lost as
 * soon as two senders meet. */
static void
check_pfc(gp_doctor *doctor, const gp_doctor_port *p)
{
    gp_check *c = gp_doctor_add(doctor, GROUP, "pfc", p->label);
    unsigned ecn[2];
    uint8_t enabled = 0;
    int rc = doctor->pfc_of(p->netdev, &enabled);

    if (rc) {
        gp_check_set(c, GP_CHECK_SKIP, "%s does not tell its flow control: %s",
                     p->netdev, strerror(rc));
        return;
    }
    gp_check_int(c, "priorities", enabled);
    gp_check_set(c, GP_CHECK_OK, "flow control (PFC) on priorities 0x%02x",
                 enabled);
    if (enabled)
        return;
    if (read_ecn(doctor, p, ecn) && ecn[0] && ecn[1]) {
        gp_doctor_append(c->reason, sizeof(c->reason),
                         ": none, ECN alone keeps queues short");
        return;
    }
    gp_check_set(c, GP_CHECK_WARN,
                 "no priority has flow control (PFC), and ECN is not on: "
                 "packets are lost when senders meet");
    gp_check_fix(c,
                 "sudo mlnx_qos -i %s --trust dscp --pfc 0,0,0,1,0,0,0,0, the "
                 "same on the switch, and GRADPUSH_IB_TRAFFIC_CLASS=104 (DSCP "
                 "26) for the job",
                 p->netdev);
}

/* --- the interface's counters --- */

/* "rx_prio3_pause" for "rx_prio#_pause". */
static bool
name_matches(const char *name, const char *pattern)
{
    for (; *pattern; pattern++, name++)
        if (*pattern == '#' ? *name < '0' || *name > '9' : *name != *pattern)
            return false;
    return !*name;
}

static const struct {
    const char *pattern;
    bool fault;
    const char *means, *fix;
} known[] = {
    {"rx_prio#_pause", false, "the neighbour asked for silence", NULL},
    {"tx_prio#_pause", false, "this port asked its neighbour for silence",
     NULL},
    {"rx_pause_ctrl_phy", false, "pause frames came", NULL},
    {"tx_pause_ctrl_phy", false, "pause frames went out", NULL},
    {"rx_discards_phy", true, "packets came for which the port had no room",
     "give RDMA a class with PFC, and look for what makes this host slow: "
     "ports.pcie, host.numa"},
    {"rx_prio#_discards", true, "packets of a priority were dropped",
     "that priority has no PFC on both ends of the link"},
    {"rx_prio#_buf_discard", true,
     "packets of a priority found its buffer full",
     "that priority has no PFC on both ends of the link"},
    {"tx_discards_phy", true, "packets were dropped instead of sent",
     "look for a link that goes down"},
    {"rx_crc_errors_phy", true, "frames with bit errors", "replace the cable"},
    {"rx_symbol_err_phy", true, "symbols with bit errors", "replace the cable"},
    {"tx_pause_storm_warning_events", true,
     "this host was too slow for seconds and paused its neighbour",
     "look for what stops it: ports.pcie, an IOMMU, memory pressure"},
    {"tx_pause_storm_error_events", true,
     "this host paused its neighbour so long that flow control was cut off",
     "look for what stops it: ports.pcie, an IOMMU, memory pressure"},
};

static void
take_stat(gp_doctor *doctor, const gp_doctor_port *p, gp_check *whole,
          const gp_doctor_stat *stat, unsigned *faults)
{
    for (size_t i = 0; i < GP_COUNT_OF(known); i++) {
        gp_check *c = whole;

        if (!name_matches(stat->name, known[i].pattern))
            continue;
        gp_check_int(whole, stat->name, (int64_t)stat->value);
        if (!known[i].fault) {
            gp_doctor_append(whole->reason, sizeof(whole->reason),
                             "; %s %" PRIu64 ": %s", stat->name, stat->value,
                             known[i].means);
            return;
        }
        c = gp_doctor_add(doctor, GROUP, known[i].pattern, p->label);
        gp_check_int(c, stat->name, (int64_t)stat->value);
        gp_check_set(c, GP_CHECK_WARN,
                     "%s is %" PRIu64 " since the driver was loaded: %s",
                     stat->name, stat->value, known[i].means);
        gp_check_fix(c, "if it grows in a run: %s", known[i].fix);
        (*faults)++;
        return;
    }
}

static void
check_pauses(gp_doctor *doctor, const gp_doctor_port *p)
{
    gp_check *c = gp_doctor_add(doctor, GROUP, "interface", p->label);
    gp_doctor_stats stats = {NULL, 0};
    char rest[sizeof(c->reason)];
    unsigned faults = 0;
    int rc = doctor->stats_of(p->netdev, &stats);

    if (rc) {
        gp_check_set(c, GP_CHECK_SKIP, "%s has no counters of its own: %s",
                     p->netdev, strerror(rc));
        return;
    }
    for (uint32_t i = 0; i < stats.count; i++)
        if (stats.list[i].value)
            take_stat(doctor, p, c, &stats.list[i], &faults);
    memcpy(rest, c->reason, sizeof(rest));
    gp_check_set(c, GP_CHECK_OK, "%s: %u counters read, %u with faults%.400s",
                 p->netdev, stats.count, faults, rest);
    free(stats.list);
}

void
gp_doctor_check_flow(gp_doctor *doctor, const gp_doctor_port *p)
{
    check_ecn(doctor, p);
    if (p->software || !*p->netdev)
        return;
    check_pfc(doctor, p);
    check_pauses(doctor, p);
}
