/* SPDX-License-Identifier: Apache-2.0 */
/*
 * doctor_host.c - what RDMA and TCP share: ports of this host, clocks,
 * processors.
 */
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "doctor.h"

/* --- tcp --- */

/* 0, or why a socket cannot listen on any port of `family`. */
static int
try_listen(int family, uint16_t *port)
{
    struct sockaddr_storage any = {.ss_family = (sa_family_t)family};
    socklen_t length = family == AF_INET ? sizeof(struct sockaddr_in)
                                         : sizeof(struct sockaddr_in6);
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), error = 0;

    if (fd < 0)
        return errno;
    if (bind(fd, (struct sockaddr *)&any, length) || listen(fd, 16) ||
        getsockname(fd, (struct sockaddr *)&any, &length))
        error = errno;
    if (!error && family == AF_INET)
        *port = ntohs(((struct sockaddr_in *)&any)->sin_port);
    close(fd);
    return error;
}

static void
check_listen(gp_doctor *doctor)
{
    gp_check *c = gp_doctor_add(doctor, "tcp", "listen", "");
    uint16_t port = 0;
    int v4 = try_listen(AF_INET, &port), v6 = try_listen(AF_INET6, &port);

    gp_check_int(c, "ipv4_errno", v4);
    gp_check_int(c, "ipv6_errno", v6);
    gp_check_set(c, v4 ? GP_CHECK_FAIL : GP_CHECK_OK,
                 v4 ? "no IPv4 port can be bound: %s"
                    : "ports can be bound: IPv4%s",
                 v4   ? strerror(v4)
                 : v6 ? ", not IPv6"
                      : " and IPv6");
    if (v4)
        gp_check_fix(c, "cat /proc/sys/net/ipv4/ip_local_port_range; a "
                        "security profile may forbid it");
}

static void
check_backlog(gp_doctor *doctor)
{
    gp_check *c = gp_doctor_add(doctor, "tcp", "somaxconn", "");
    int64_t value = 0, size = gp_config_int(doctor->config, "size");
    int64_t need = GP_MAX(size, 512);

    if (!gp_doctor_number(doctor, &value, "/proc/sys/net/core/somaxconn")) {
        gp_check_set(c, GP_CHECK_SKIP,
                     "/proc/sys/net/core/somaxconn cannot "
                     "be read");
        return;
    }
    gp_check_int(c, "somaxconn", value);
    gp_check_set(c, value < need ? GP_CHECK_WARN : GP_CHECK_OK,
                 "%" PRId64 " connections may wait to be accepted", value);
    if (value < need)
        gp_check_fix(c, "sudo sysctl -w net.core.somaxconn=4096   # and in "
                        "/etc/sysctl.d");
}

/* The third number of tcp_rmem and tcp_wmem is what autotuning may reach. */
static void
check_buffers(gp_doctor *doctor)
{
    gp_check *c = gp_doctor_add(doctor, "tcp", "buffers", "");
    const int64_t enough = 4 << 20;
    int64_t most[2] = {0, 0};
    char text[96];

    for (int i = 0; i < 2; i++)
        if (gp_doctor_line(doctor, text, sizeof(text),
                           "/proc/sys/net/ipv4/tcp_%cmem", "rw"[i]))
            sscanf(text, "%*d %*d %" SCNd64, &most[i]);
    if (!most[0] || !most[1]) {
        gp_check_set(c, GP_CHECK_SKIP,
                     "/proc/sys/net/ipv4/tcp_rmem cannot be "
                     "read");
        return;
    }
    gp_check_int(c, "receive_max", most[0]);
    gp_check_int(c, "send_max", most[1]);
    gp_check_set(
        c, GP_MIN(most[0], most[1]) < enough ? GP_CHECK_WARN : GP_CHECK_OK,
        "sockets grow to %" PRId64 " KiB for receiving and %" PRId64
        " KiB for sending",
        most[0] >> 10, most[1] >> 10);
    if (c->status == GP_CHECK_WARN)
        gp_check_fix(c, "sudo sysctl -w net.ipv4.tcp_rmem='4096 131072 "
                        "16777216' net.ipv4.tcp_wmem='4096 16384 16777216'");
}

void
gp_doctor_check_tcp(gp_doctor *doctor)
{
    check_listen(doctor);
    check_backlog(doctor);
    check_buffers(doctor);
}

/* --- clocks --- */

static void
check_source(gp_doctor *doctor)
{
    gp_check *c = gp_doctor_add(doctor, "clock", "source", "");
    char source[64];

    if (!gp_doctor_line(doctor, source, sizeof(source),
                        "/sys/devices/system/clocksource/clocksource0/"
                        "current_clocksource")) {
        gp_check_set(c, GP_CHECK_SKIP, "the clock source is not told");
        return;
    }
    gp_check_text(c, "source", source);
    gp_check_set(c, GP_CHECK_OK, "%s", source);
    if (strcmp(source, "hpet") && strcmp(source, "acpi_pm") &&
        strcmp(source, "jiffies"))
        return;
    gp_check_set(c, GP_CHECK_WARN,
                 "%s is read by a slow register or is "
                 "coarse: every deadline costs a microsecond",
                 source);
    gp_check_fix(c, "dmesg | grep -i tsc tells why the processor's clock is "
                    "not used; tsc=reliable on the kernel's command line if "
                    "the machine is sound");
}

static void
check_monotonic(gp_doctor *doctor)
{
    gp_check *c = gp_doctor_add(doctor, "clock", "monotonic", "");
    uint64_t start = gp_clock_ns(), last = start, now;
    unsigned back = 0, reads = 0;

    do {
        now = gp_clock_ns();
        back += now < last;
        last = now;
        reads++;
    } while (reads < 10000);
    gp_check_int(c, "reads", reads);
    gp_check_int(c, "ns_per_read", (int64_t)((last - start) / reads));
    gp_check_set(c, back || last == start ? GP_CHECK_FAIL : GP_CHECK_OK,
                 back            ? "CLOCK_MONOTONIC went back %u times in %u "
                                   "reads"
                 : last == start ? "CLOCK_MONOTONIC stood still"
                                 : "goes forward",
                 back, reads);
    if (c->status == GP_CHECK_FAIL)
        gp_check_fix(c, "choose another source: cat "
                        "/sys/devices/system/clocksource/clocksource0/"
                        "available_clocksource");
}

/* Not needed by any protocol of gradpush; logs of several machines are read
 * side by side. */
static void
check_sync(gp_doctor *doctor)
{
    gp_check *c = gp_doctor_add(doctor, "clock", "sync", "");
    struct timex t = {0};
    int state = doctor->adjtime(&t);
    int64_t error_us = t.maxerror;

    if (state < 0) {
        gp_check_set(c, GP_CHECK_SKIP, "adjtimex: %s", strerror(errno));
        return;
    }
    gp_check_int(c, "maximum_error_us", error_us);
    gp_check_int(c, "offset_us",
                 t.status & STA_NANO ? t.offset / 1000 : t.offset);
    if (state == TIME_ERROR || (t.status & STA_UNSYNC)) {
        gp_check_set(c, GP_CHECK_WARN,
                     "no time service keeps the clock: logs "
                     "of machines cannot be put side by side");
        gp_check_fix(
            c, "%s",
            gp_doctor_container(doctor)
                ? "run chrony on the host of this container"
                : "apt install chrony   # or: timedatectl set-ntp true");
        return;
    }
    gp_check_set(c, error_us > 500000 ? GP_CHECK_WARN : GP_CHECK_OK,
                 "kept by a time service, at most %" PRId64 " us off",
                 error_us);
    if (error_us > 500000)
        gp_check_fix(c, "chronyc tracking; chronyc sources");
}

void
gp_doctor_check_clock(gp_doctor *doctor)
{
    check_source(doctor);
    check_monotonic(doctor);
    check_sync(doctor);
}

/* --- host --- */

static void
check_governor(gp_doctor *doctor)
{
    gp_check *c = gp_doctor_add(doctor, "host", "governor", "");
    char name[64];

    if (!gp_doctor_line(doctor, name, sizeof(name),
                        "/sys/devices/system/cpu/cpu0/cpufreq/"
                        "scaling_governor")) {
        gp_check_set(c, GP_CHECK_SKIP,
                     "the frequency is not governed here (a "
                     "virtual machine?)");
        return;
    }
    gp_check_text(c, "governor", name);
    gp_check_set(c, strcmp(name, "performance") ? GP_CHECK_WARN : GP_CHECK_OK,
                 strcmp(name, "performance")
                     ? "%s: waiting threads wake on a slow processor"
                     : "%s",
                 name);
    if (c->status == GP_CHECK_WARN)
        gp_check_fix(c, "sudo cpupower frequency-set -g performance");
}

static void
check_numa(gp_doctor *doctor)
{
    gp_check *c = gp_doctor_add(doctor, "host", "numa", "");
    gp_doctor_names names;
    char text[256] = "";
    int nodes = 0;
    int64_t balancing = 0;

    gp_doctor_list(doctor, &names, "/sys/devices/system/node");
    for (int i = 0; i < names.count; i++)
        nodes += !strncmp(names.list[i]->d_name, "node", 4) &&
                 names.list[i]->d_name[4] >= '0' &&
                 names.list[i]->d_name[4] <= '9';
    gp_doctor_list_free(&names);
    gp_check_int(c, "nodes", nodes);
    for (size_t i = 0; i < doctor->port_count; i++) {
        const gp_doctor_port *p = &doctor->ports[i];
        int64_t node = -1;

        if (p->software ||
            !gp_doctor_number(doctor, &node, "%s/numa_node", p->pci))
            continue;
        gp_check_int(c, p->label, node);
        gp_doctor_append(text, sizeof(text), "; %s at node %" PRId64, p->label,
                         node);
    }
    gp_doctor_number(doctor, &balancing, "/proc/sys/kernel/numa_balancing");
    gp_check_int(c, "balancing", balancing);
    gp_check_set(c, GP_CHECK_OK, "%d NUMA node%s%s", nodes,
                 nodes == 1 ? "" : "s", text);
    if (nodes < 2 || !balancing || !doctor->device_count)
        return;
    c->status = GP_CHECK_WARN;
    gp_doctor_append(c->reason, sizeof(c->reason),
                     "; the kernel moves pages "
                     "between nodes, which stalls threads");
    gp_check_fix(c, "sudo sysctl -w kernel.numa_balancing=0, and bind each "
                    "process: numactl --cpunodebind=N --membind=N");
}

/* A cgroup's quota of processor time, which shows as sudden pauses. */
static void
check_cores(gp_doctor *doctor)
{
    gp_check *c = gp_doctor_add(doctor, "host", "processors", "");
    char quota[64] = "";
    long long used = 0, period = 0;
    cpu_set_t set;
    int cores = (int)sysconf(_SC_NPROCESSORS_ONLN);

    if (sched_getaffinity(0, sizeof(set), &set) == 0)
        cores = CPU_COUNT(&set);
    gp_check_int(c, "usable", cores);
    gp_check_set(c, GP_CHECK_OK, "%d for this process", cores);
    if (!gp_doctor_line(doctor, quota, sizeof(quota),
                        "/sys/fs/cgroup/cpu.max") ||
        sscanf(quota, "%lld %lld", &used, &period) != 2 || period <= 0)
        return;
    gp_check_text(c, "cpu_max", quota);
    if (used >= period * cores)
        return;
    gp_check_set(c, GP_CHECK_WARN,
                 "%d for this process, but its cgroup may use only %.2f of "
                 "them: it is stopped when that is spent",
                 cores, (double)used / (double)period);
    gp_check_fix(c, "give it whole processors (Kubernetes: requests equal to "
                    "limits and cpu-manager-policy=static) or lift the quota");
}

static void
check_container(gp_doctor *doctor)
{
    gp_check *c = gp_doctor_add(doctor, "host", "container", "");
    const char *name = gp_doctor_container(doctor);

    gp_check_text(c, "container", name ? name : "none");
    gp_check_set(c, GP_CHECK_OK, name ? "inside %s" : "none", name);
}

void
gp_doctor_check_host(gp_doctor *doctor)
{
    check_container(doctor);
    check_cores(doctor);
    check_numa(doctor);
    check_governor(doctor);
}
