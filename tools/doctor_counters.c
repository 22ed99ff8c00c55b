/* SPDX-License-Identifier: Apache-2.0 */
/*
 * doctor_counters.c - what ports have counted since their driver was loaded.
 *
 * A number that is not zero may be old: what matters is whether it grows in a
 * run. So faults are warnings, and signs of congestion control at work are ok.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "doctor.h"

#define GROUP "counters"

typedef enum counter_kind { FAULT, CONGESTION, QUIET } counter_kind;

static const struct {
    const char *name;
    counter_kind kind;
    const char *means, *fix;
} known[] = {
    /* hw_counters of RoCE and InfiniBand adapters. */
    {"out_of_sequence", FAULT,
     "packets arrived out of order: packets were lost, or routes differ",
     "make the traffic class lossless (PFC) or enable ECN on every switch; "
     "check for flapping links"},
    {"packet_seq_err", FAULT,
     "the peer asked for packets again: they were "
     "lost on the way",
     "as for out_of_sequence"},
    {"local_ack_timeout_err", FAULT,
     "an acknowledgement did not come in time: a dead peer, or heavy loss",
     "raise GRADPUSH_IB_TIMEOUT if the network is merely slow; look for loss "
     "with ethtool -S"},
    {"req_transport_retries_exceeded", FAULT,
     "queue pairs were lost after all retries",
     "ping the peers of that time; "
     "see local_ack_timeout_err"},
    {"rnr_nak_retry_err", FAULT,
     "a receiver had no receive posted; gradpush never causes this",
     "look for other programs on this port"},
    {"implied_nak_seq_err", FAULT, "an answer to a READ or atomic was lost",
     "as for out_of_sequence"},
    {"roce_adp_retrans_to", FAULT, "adaptive retransmission ran into its limit",
     "as for out_of_sequence"},
    {"rx_icrc_encapsulated", FAULT, "RoCE packets with a wrong checksum",
     "test cables and switches between the peers"},
    {"out_of_buffer", FAULT, "packets were dropped for want of a receive",
     "look for other programs on this port"},
    {"req_remote_access_errors", FAULT,
     "a peer refused an access: a wrong key or range",
     "look for errors of that time in the jobs' logs"},
    {"resp_remote_access_errors", FAULT,
     "an access of a peer was refused: a wrong key or range",
     "look for errors of that time in the jobs' logs"},
    {"duplicate_request", FAULT,
     "requests came twice: the acknowledgement was lost or late",
     "raise GRADPUSH_IB_TIMEOUT; see out_of_sequence"},
    /* The same, as rdma_rxe names it. */
    {"out_of_seq_request", FAULT,
     "packets arrived out of order: packets were lost",
     "raise net.core.netdev_max_backlog; soft-RoCE loses packets under load"},
    {"rcvd_seq_err", FAULT, "the peer asked for packets again",
     "as for out_of_seq_request"},
    {"retry_exceeded_err", FAULT, "queue pairs were lost after all retries",
     "raise GRADPUSH_IB_TIMEOUT: a busy processor is slow to acknowledge"},
    {"completer_retry_err", FAULT, "requests were sent again",
     "as for out_of_seq_request"},
    {"retry_rnr_exceeded_err", FAULT,
     "a receiver had no receive posted for too long",
     "look for other programs on this device"},
    /* Congestion control at work: a number is what it is for. */
    {"np_cnp_sent", CONGESTION, "this port told senders to slow down", NULL},
    {"rp_cnp_handled", CONGESTION, "this port was told to slow down", NULL},
    {"np_ecn_marked_roce_packets", CONGESTION,
     "packets came that a switch had marked for congestion", NULL},
    {"roce_slow_restart", CONGESTION, "sending began again slowly", NULL},
    /* counters: the physical link, in InfiniBand's terms. */
    {"symbol_error", FAULT, "bit errors on the wire", "replace the cable"},
    {"link_downed", FAULT, "the link went down",
     "fine after a reboot of the switch; else replace the cable"},
    {"link_error_recovery", FAULT, "the link had to train again",
     "replace the cable"},
    {"port_rcv_errors", FAULT, "packets with errors arrived",
     "replace the cable"},
    {"port_rcv_remote_physical_errors", FAULT,
     "packets arrived that a switch had marked as bad",
     "look for the bad link with ibdiagnet"},
    {"local_link_integrity_errors", FAULT, "too many bit errors at once",
     "replace the cable"},
    {"excessive_buffer_overrun_errors", FAULT,
     "the peer of the link sent more than there was room for",
     "update the firmware of both ends"},
    {"port_xmit_discards", FAULT, "packets were dropped instead of sent",
     "look for congestion or a link that is down"},
    {"port_xmit_wait", CONGESTION,
     "ticks in which data waited for the link: congestion ahead", NULL},
};

static bool
read_counter(const gp_doctor *doctor, const gp_doctor_port *p, const char *name,
             int64_t *out)
{
    static const char *const folders[] = {"hw_counters", "counters"};

    for (size_t i = 0; i < GP_COUNT_OF(folders); i++)
        if (gp_doctor_number(doctor, out,
                             "/sys/class/infiniband/%s/ports/%u/%s/%s",
                             p->device, p->port, folders[i], name))
            return true;
    return false;
}

static void
add_fault(gp_doctor *doctor, const gp_doctor_port *p, size_t which,
          int64_t value)
{
    gp_check *c = gp_doctor_add(doctor, GROUP, known[which].name, p->label);

    gp_check_int(c, known[which].name, value);
    gp_check_set(c, GP_CHECK_WARN,
                 "%" PRId64 " since the driver was loaded: %s", value,
                 known[which].means);
    gp_check_fix(c, "if it grows in a run: %s", known[which].fix);
}

/* Every port has a result, and each counted fault one more. */
static void
check_port(gp_doctor *doctor, const gp_doctor_port *p)
{
    gp_check *c = gp_doctor_add(doctor, GROUP, "port", p->label);
    unsigned seen = 0, faults = 0;
    int64_t value;

    gp_check_set(c, GP_CHECK_OK, "%s", "");
    for (size_t i = 0; i < GP_COUNT_OF(known); i++) {
        if (!read_counter(doctor, p, known[i].name, &value))
            continue;
        seen++;
        gp_check_int(c, known[i].name, value);
        if (!value)
            continue;
        if (known[i].kind == FAULT) {
            add_fault(doctor, p, i, value);
            faults++;
        } else {
            gp_doctor_append(c->reason, sizeof(c->reason),
                             "; %s %" PRId64 ": %s", known[i].name, value,
                             known[i].means);
        }
    }
    if (!seen) {
        gp_check_set(c, GP_CHECK_SKIP, "the driver counts nothing");
        return;
    }
    {
        char rest[sizeof(c->reason)];

        snprintf(rest, sizeof(rest), "%s", c->reason);
        gp_check_set(c, GP_CHECK_OK, "%u counters read, %u with faults%.400s",
                     seen, faults, rest);
    }
}

void
gp_doctor_check_counters(gp_doctor *doctor)
{
    for (size_t i = 0; i < doctor->port_count; i++) {
        if (doctor->ports[i].absent)
            continue;
        check_port(doctor, &doctor->ports[i]);
        if (doctor->ports[i].ethernet && !doctor->ports[i].iwarp)
            gp_doctor_check_flow(doctor, &doctor->ports[i]);
    }
    if (!doctor->port_count)
        gp_check_set(gp_doctor_add(doctor, GROUP, "port", ""), GP_CHECK_SKIP,
                     "no RDMA port");
}
