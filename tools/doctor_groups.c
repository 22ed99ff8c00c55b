/* SPDX-License-Identifier: Apache-2.0 */
/*
 * doctor_groups.c - the groups of checks, in the order in which they run: what
 * a check says may send the reader to an earlier one.
 */
#include "doctor.h"

const gp_doctor_group gp_doctor_groups[] = {
    {"rdma", gp_doctor_check_rdma,
     "devices, libraries, kernel modules, device nodes, cgroup"},
    {"ports", gp_doctor_check_ports,
     "link, GIDs, addresses, packet size, PCI slot of each RDMA port"},
    {"limits", gp_doctor_check_limits, "locked memory, open files, huge pages"},
    {"loopback", gp_doctor_check_loopback,
     "one page written through each port and compared"},
    {"counters", gp_doctor_check_counters,
     "losses, errors and congestion that ports counted"},
    {"gpu", gp_doctor_check_gpu,
     "driver, distance to adapters, DMA-BUF, peermem, ACS, IOMMU"},
    {"tcp", gp_doctor_check_tcp, "ports that can be bound, socket limits"},
    {"clock", gp_doctor_check_clock, "source, direction, synchronization"},
    {"host", gp_doctor_check_host, "container, processors, NUMA, governor"},
    {NULL, NULL, NULL},
};
