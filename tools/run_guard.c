/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run_guard.c - cleans up after a `gradpush run` that was killed.
 *
 * The kernel kills the children of a process that dies (PR_SET_PDEATHSIG), but
 * not theirs, and removes no files. The guard reads process groups from a pipe;
 * its end without the word that all is well means that run has died.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"
#include "run.h"

#define GUARD_DISMISSED 0

/* Out of the terminal's reach, and holding none of the caller's descriptors
 * but `fd`. */
static void
guard_detach(int fd)
{
    int null = open("/dev/null", O_RDWR);

    setsid();
    prctl(PR_SET_NAME, "gradpush-guard");
    signal(SIGTERM, SIG_IGN);
    for (int i = 0; i < 3; i++)
        dup2(null, i);
    if (fd > 3)
        close_range(3, (unsigned)fd - 1, 0);
    close_range((unsigned)fd + 1, ~0u, 0);
}

/* Reads one number; false at the end. */
static bool
guard_read(int fd, pid_t *out)
{
    ssize_t n;

    do
        n = read(fd, out, sizeof(*out));
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)sizeof(*out);
}

static _Noreturn void
guard_run(int fd, const char *const *paths)
{
    pid_t *groups = NULL, group;
    size_t count = 0;

    guard_detach(fd);
    while (guard_read(fd, &group)) {
        pid_t *more;

        if (group == GUARD_DISMISSED)
            _exit(0);
        more = realloc(groups, (count + 1) * sizeof(*groups));
        if (!more)
            break;
        groups = more;
        groups[count++] = group;
    }
    for (size_t i = 0; i < count; i++)
        kill(-groups[i], SIGKILL);
    for (; *paths; paths++)
        unlink(*paths);
    _exit(0);
}

gp_status
gp_guard_start(const char *const *paths, gp_guard *out)
{
    int pair[2];
    pid_t pid;

    if (pipe2(pair, O_CLOEXEC))
        return gp_fail_errno(GP_ERR_SYSTEM, errno, "cannot start the guard");
    pid = fork();
    if (pid == 0)
        guard_run(pair[0], paths);
    close(pair[0]);
    if (pid < 0) {
        close(pair[1]);
        return gp_fail_errno(GP_ERR_SYSTEM, errno, "cannot start the guard");
    }
    out->pid = pid;
    out->fd = pair[1];
    return GP_OK;
}

void
gp_guard_watch(gp_guard *guard, pid_t group)
{
    if (guard->fd < 0)
        return;
    while (write(guard->fd, &group, sizeof(group)) < 0 && errno == EINTR)
        continue;
}

void
gp_guard_dismiss(gp_guard *guard)
{
    if (guard->fd < 0)
        return;
    gp_guard_watch(guard, GUARD_DISMISSED);
    close(guard->fd);
    guard->fd = -1;
    while (waitpid(guard->pid, NULL, 0) < 0 && errno == EINTR)
        continue;
}
