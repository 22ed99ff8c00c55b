/* SPDX-License-Identifier: Apache-2.0 */
/*
 * doctor_limits.c - limits of this process: locked memory, files, huge pages.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "doctor.h"

#define GROUP     "limits"
#define UNLIMITED INT64_MAX
#define CAP_LOCK  14 /* CAP_IPC_LOCK: no limit of locked memory applies */

/* Two columns of a line of /proc/self/limits. */
static bool
read_limit(const gp_doctor *doctor, const char *name, int64_t *soft,
           int64_t *hard)
{
    char text[8192], *line, *end;
    int64_t *out[] = {soft, hard};

    if (gp_doctor_load(doctor, text, sizeof(text), "/proc/self/limits") < 0)
        return false;
    line = strstr(text, name);
    if (!line)
        return false;
    line += strlen(name);
    for (int i = 0; i < 2; i++) {
        line += strspn(line, " ");
        if (!strncmp(line, "unlimited", 9)) {
            *out[i] = UNLIMITED;
            line += 9;
            continue;
        }
        *out[i] = strtoll(line, &end, 10);
        if (end == line)
            return false;
        line = end;
    }
    return true;
}

/* The capability counts only in the first user namespace. */
static bool
may_lock_all(const gp_doctor *doctor)
{
    char text[8192], *line;
    long long inside = -1, outside = -1, count = 0;

    if (gp_doctor_load(doctor, text, sizeof(text), "/proc/self/status") < 0)
        return false;
    line = strstr(text, "CapEff:");
    if (!line || !(strtoull(line + 7, NULL, 16) >> CAP_LOCK & 1))
        return false;
    if (!gp_doctor_line(doctor, text, sizeof(text), "/proc/self/uid_map"))
        return true;
    return sscanf(text, "%lld %lld %lld", &inside, &outside, &count) == 3 &&
           inside == 0 && outside == 0 && count == 4294967295;
}

/* Peers of the job, or a guess that is a middling one. */
static int64_t
peers(const gp_doctor *doctor)
{
    int64_t size = gp_config_int(doctor->config, "size");

    return size > 0 ? size : 8;
}

/* What a peer costs in registered memory, beside tensors: the slots its chunks
 * land in and leave from, and the frames. */
static int64_t
bytes_per_peer(const gp_doctor *doctor)
{
    const gp_config *c = doctor->config;
    int64_t slots =
        gp_config_int(c, "slots") * (int64_t)gp_config_size(c, "chunk_bytes");
    int64_t frames = gp_config_int(c, "ib_frames") *
                     (int64_t)gp_config_size(c, "ib_frame") *
                     gp_config_int(c, "ib_qps") * gp_config_int(c, "ib_rails");

    return 2 * slots + 2 * frames;
}

static void
size_text(int64_t bytes, char *out, size_t capacity)
{
    if (bytes == UNLIMITED)
        snprintf(out, capacity, "unlimited");
    else if (bytes >= 1 << 20)
        snprintf(out, capacity, "%" PRId64 " MiB", bytes >> 20);
    else
        snprintf(out, capacity, "%" PRId64 " KiB", bytes >> 10);
}

static void
memlock_fix(const gp_doctor *doctor, gp_check *c, int64_t hard)
{
    const char *container = gp_doctor_container(doctor);

    if (hard == UNLIMITED)
        gp_check_fix(c, "ulimit -l unlimited   # before the program, in the "
                        "same shell");
    else if (container && !strcmp(container, "kubernetes"))
        gp_check_fix(c, "securityContext: capabilities: add: [\"IPC_LOCK\"] in "
                        "the pod; or raise the limit of the node's container "
                        "runtime: LimitMEMLOCK=infinity in containerd.service");
    else if (container)
        gp_check_fix(c, "start the container with --ulimit memlock=-1 "
                        "--cap-add=IPC_LOCK");
    else
        gp_check_fix(c,
                     "printf '* soft memlock unlimited\\n* hard memlock "
                     "unlimited\\n' | sudo tee "
                     "/etc/security/limits.d/rdma.conf, then log in again;\n"
                     "for a service: LimitMEMLOCK=infinity in its unit;\n"
                     "for Slurm: LimitMEMLOCK=infinity in slurmd.service and "
                     "PropagateResourceLimitsExcept=MEMLOCK in slurm.conf");
}

static void
check_memlock(gp_doctor *doctor)
{
    gp_check *c = gp_doctor_add(doctor, GROUP, "memlock", "");
    int64_t soft, hard, one = bytes_per_peer(doctor);
    int64_t need = one * peers(doctor);
    char is[48], top[48], wants[48];

    if (!read_limit(doctor, "Max locked memory", &soft, &hard)) {
        gp_check_set(c, GP_CHECK_SKIP, "/proc/self/limits cannot be read");
        return;
    }
    size_text(soft, is, sizeof(is));
    size_text(hard, top, sizeof(top));
    size_text(need, wants, sizeof(wants));
    gp_check_text(c, "soft", is);
    gp_check_text(c, "hard", top);
    gp_check_int(c, "needed_bytes", need);
    gp_check_int(c, "peers", peers(doctor));
    if (may_lock_all(doctor)) {
        gp_check_set(c, GP_CHECK_OK,
                     "%s, and CAP_IPC_LOCK lifts the limit for registered "
                     "memory",
                     is);
        return;
    }
    if (soft == UNLIMITED) {
        gp_check_set(c, GP_CHECK_OK, "unlimited");
        return;
    }
    gp_check_set(c,
                 soft < one    ? GP_CHECK_FAIL
                 : soft < need ? GP_CHECK_WARN
                               : GP_CHECK_OK,
                 "%s (hard limit %s); %" PRId64 " peers register about %s, "
                 "and every tensor on top",
                 is, top, peers(doctor), wants);
    if (!doctor->device_count && !doctor->required) {
        c->status = GP_CHECK_SKIP;
        gp_check_set(c, GP_CHECK_SKIP,
                     "%s; nothing is registered without an "
                     "RDMA device",
                     is);
        return;
    }
    memlock_fix(doctor, c, hard);
    if (c->status == GP_CHECK_OK)
        gp_doctor_append(c->reason, sizeof(c->reason),
                         ": large models need unlimited");
}

static void
check_files(gp_doctor *doctor)
{
    gp_check *c = gp_doctor_add(doctor, GROUP, "files", "");
    int64_t soft, hard, sockets, need;

    if (!read_limit(doctor, "Max open files", &soft, &hard)) {
        gp_check_set(c, GP_CHECK_SKIP, "/proc/self/limits cannot be read");
        return;
    }
    sockets = gp_config_int(doctor->config, "sockets");
    need = 64 + GP_MAX(peers(doctor), 64) * (2 * sockets + 2);
    gp_check_int(c, "soft", soft);
    gp_check_int(c, "hard", hard);
    gp_check_int(c, "needed", need);
    gp_check_set(c, soft < need ? GP_CHECK_WARN : GP_CHECK_OK,
                 "%" PRId64 " open files, enough for about %" PRId64 " peers",
                 soft, GP_MAX(soft - 64, 0) / (2 * sockets + 2));
    if (soft >= need)
        return;
    if (hard >= need)
        gp_check_fix(c, "ulimit -n %" PRId64, GP_MIN(hard, (int64_t)65536));
    else if (gp_doctor_container(doctor))
        gp_check_fix(c, "start the container with --ulimit nofile=65536");
    else
        gp_check_fix(c, "printf '* soft nofile 65536\\n* hard nofile 65536\\n'"
                        " | sudo tee /etc/security/limits.d/files.conf, then "
                        "log in again; for a service: LimitNOFILE=65536");
}

/* Never a fault: what there is, because it makes large regions cheaper. */
static void
check_hugepages(gp_doctor *doctor)
{
    gp_check *c = gp_doctor_add(doctor, GROUP, "hugepages", "");
    char thp[128], *mode;
    int64_t pages = 0;

    gp_doctor_number(doctor, &pages,
                     "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages");
    if (!gp_doctor_line(doctor, thp, sizeof(thp),
                        "/sys/kernel/mm/transparent_hugepage/enabled")) {
        gp_check_set(c, GP_CHECK_SKIP,
                     "the kernel has no transparent huge "
                     "pages");
        return;
    }
    mode = strchr(thp, '[');
    if (mode) {
        mode++;
        mode[strcspn(mode, "]")] = '\0';
    }
    gp_check_int(c, "reserved_2M", pages);
    gp_check_text(c, "transparent", mode ? mode : thp);
    gp_check_set(c, GP_CHECK_OK,
                 "transparent huge pages: %s; %" PRId64 " of 2 MiB reserved",
                 mode ? mode : thp, pages);
    if (!doctor->device_count || strcmp(mode ? mode : thp, "never"))
        return;
    c->status = GP_CHECK_WARN;
    gp_doctor_append(c->reason, sizeof(c->reason),
                     ": registration of large tensors is slower, and the "
                     "adapter has more pages to look up");
    gp_check_fix(c, "echo madvise | sudo tee "
                    "/sys/kernel/mm/transparent_hugepage/enabled");
}

void
gp_doctor_check_limits(gp_doctor *doctor)
{
    check_memlock(doctor);
    check_files(doctor);
    check_hugepages(doctor);
}
