/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_near.c - how far a device is: PCI paths and NUMA nodes.
 *
 * With hwloc a thread that is bound to a node counts as being there, wherever
 * it was last seen; without it, the node is the one it runs on now.
 */
#include "transports/verbs/verbs_select.h"

#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef GP_HAVE_HWLOC
#include <hwloc.h>
#include <pthread.h>
#endif

#include "base/base.h"
#include "transports/verbs/verbs_sysfs.h"

#define ROOT_BRIDGES 32 /* what the way through a root complex counts */

/* --------------------------------------------------------------------- PCI */

/* The part of a path behind ".../devices/", from its root complex on. */
static const char *
from_root(const char *path)
{
    const char *devices = strstr(path, "/devices/");

    if (!devices)
        return NULL;
    devices += strlen("/devices/");
    return strncmp(devices, "pci", 3) == 0 ? devices : NULL;
}

static int
parts(const char *path)
{
    int count = *path != '\0';

    for (; *path; path++)
        count += *path == '/';
    return count;
}

int
gp_verbs_pci_distance(const char *a, const char *b)
{
    const char *left = from_root(a), *right = from_root(b);
    int common = 0;

    if (!left || !right)
        return INT_MAX;
    for (;;) {
        size_t length = strcspn(left, "/");

        if (length == 0 || length != strcspn(right, "/") ||
            memcmp(left, right, length) != 0)
            break;
        common++;
        left += length + (left[length] == '/');
        right += length + (right[length] == '/');
    }
    if (common == 0)
        return INT_MAX;
    return parts(left) + parts(right) + (common == 1 ? ROOT_BRIDGES : 0);
}

/* -------------------------------------------------------------------- NUMA */

/* The kernel's table: the distances of node `from` to all, in order. */
static int
kernel_distance(int from, int to)
{
    char text[4096], *at = text, *end;

    if (from < 0 || to < 0 ||
        !gp_verbs_sysfs_line("/sys", text, sizeof(text),
                             "devices/system/node/node%d/distance", from))
        return -1;
    for (int node = 0;; node++) {
        long value = strtol(at, &end, 10);

        if (end == at)
            return -1;
        if (node == to)
            return value > 0 && value < INT_MAX ? (int)value : -1;
        at = end;
    }
}

int
gp_verbs_numa_distance(int from, int to)
{
    return kernel_distance(from, to);
}

static int
kernel_here(void)
{
    unsigned cpu, node;

    return getcpu(&cpu, &node) == 0 && node <= INT_MAX ? (int)node : -1;
}

#ifndef GP_HAVE_HWLOC

int
gp_verbs_numa_here(void)
{
    return kernel_here();
}

#else

static hwloc_topology_t machine; /* kept: asked for as long as the process is */

static void
load_machine(void)
{
    hwloc_topology_t topology;

    if (hwloc_topology_init(&topology) != 0)
        return;
    if (hwloc_topology_load(topology) == 0)
        machine = topology;
    else
        hwloc_topology_destroy(topology);
}

/* The one node of a set of CPUs, -1 for none or several. */
static int
only_node(hwloc_const_cpuset_t cpus)
{
    hwloc_nodeset_t nodes = hwloc_bitmap_alloc();
    int node = -1;

    if (!nodes)
        return -1;
    hwloc_cpuset_to_nodeset(machine, cpus, nodes);
    if (hwloc_bitmap_weight(nodes) == 1)
        node = hwloc_bitmap_first(nodes);
    hwloc_bitmap_free(nodes);
    return node;
}

int
gp_verbs_numa_here(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    hwloc_cpuset_t bound;
    int node = -1;

    pthread_once(&once, load_machine);
    bound = machine ? hwloc_bitmap_alloc() : NULL;
    if (bound && hwloc_get_cpubind(machine, bound, HWLOC_CPUBIND_THREAD) == 0)
        node = only_node(bound);
    hwloc_bitmap_free(bound);
    return node >= 0 ? node : kernel_here();
}

#endif
