/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_limit.c - how much memory may be locked for devices, and what to do
 * when that is too little.
 *
 * Not only registered memory is locked: queue pairs and completion queues lie
 * in locked memory too, so each of them can fail for the same reason, which
 * the system calls "Cannot allocate memory" on a machine with much of it free.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "transports/verbs/verbs_int.h"
#include "transports/verbs/verbs_limit.h"

#define CAP_LOCK      14 /* CAP_IPC_LOCK */
#define ALL_USER_IDS  UINT64_C(4294967295)
#define PEERS_UNKNOWN 1

static bool
load(const char *path, char *text, size_t capacity)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, capacity - 1);

    if (fd >= 0)
        (void)close(fd);
    text[n > 0 ? n : 0] = '\0';
    return n > 0;
}

/* The capability counts only in the first user namespace. */
static bool
may_lock_all(void)
{
    unsigned long long inside, outside, count;
    char text[8192];
    const char *line;

    if (!load("/proc/self/status", text, sizeof(text)))
        return false;
    line = strstr(text, "CapEff:");
    if (!line || !(strtoull(line + 7, NULL, 16) >> CAP_LOCK & 1))
        return false;
    if (!load("/proc/self/uid_map", text, sizeof(text)))
        return true;
    return sscanf(text, "%llu %llu %llu", &inside, &outside, &count) == 3 &&
           inside == 0 && outside == 0 && count == ALL_USER_IDS;
}

uint64_t
gp_verbs_memlock(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 ||
        limit.rlim_cur == RLIM_INFINITY || may_lock_all())
        return UINT64_MAX;
    return limit.rlim_cur;
}

/* "512 KiB" */
static void
print_size(uint64_t bytes, char *out, size_t capacity)
{
    if (bytes >= 10 << 20)
        snprintf(out, capacity, "%llu MiB", (unsigned long long)bytes >> 20);
    else
        snprintf(out, capacity, "%llu KiB", (unsigned long long)bytes >> 10);
}

#define FIX                                                            \
    "raise it with ulimit -l unlimited, LimitMEMLOCK=infinity in a "   \
    "service's unit, --ulimit memlock=-1 for a container, capability " \
    "IPC_LOCK for a pod"

gp_status
gp_verbs_refused(const gp_verbs_api *api, int error, const char *format, ...)
{
    uint64_t limit = error == ENOMEM ? api->memlock() : UINT64_MAX;
    char what[160], size[32];
    va_list args;

    va_start(args, format);
    vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    if (limit == UINT64_MAX)
        return gp_fail_errno(error == ENOMEM ? GP_ERR_NO_MEMORY : GP_ERR_SYSTEM,
                             error, "verbs: %s", what);
    print_size(limit, size, sizeof(size));
    return gp_fail(GP_ERR_NO_MEMORY,
                   "verbs: %s: the limit of locked memory is %s: " FIX, what,
                   size);
}

/* Slots that chunks land in and leave from, and frames. */
uint64_t
gp_verbs_peer_bytes(const gp_config *config)
{
    uint64_t slots = (uint64_t)gp_config_int(config, "slots") *
                     gp_config_size(config, "chunk_bytes");
    uint64_t frames = (uint64_t)gp_config_int(config, "ib_frames") *
                      gp_config_size(config, "ib_frame") *
                      (uint64_t)gp_config_int(config, "ib_qps") *
                      (uint64_t)gp_config_int(config, "ib_rails");

    return 2 * slots + 2 * frames;
}

bool
gp_verbs_affordable(const gp_verbs_api *api, const gp_config *config, char *why,
                    size_t capacity)
{
    int64_t size = gp_config_int(config, "size");
    uint64_t peers = size > 0 ? (uint64_t)size : PEERS_UNKNOWN, need;
    uint64_t limit = api->memlock();
    char wants[32], has[32];

    if (!gp_mul(gp_verbs_peer_bytes(config), peers, &need))
        need = UINT64_MAX;
    if (limit >= need)
        return true;
    print_size(need, wants, sizeof(wants));
    print_size(limit, has, sizeof(has));
    snprintf(why, capacity,
             "%llu peers register about %s, and the limit of locked memory is "
             "%s: " FIX,
             (unsigned long long)peers, wants, has);
    return false;
}
