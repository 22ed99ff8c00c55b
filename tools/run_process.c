/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run_process.c - starts one child and says how it ended.
 *
 * Between fork and exec only async-signal-safe calls are made, because the
 * store's thread runs already. A failed exec comes back through a pipe that
 * exec closes.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"
#include "run.h"

/* What the child needs; pipes are {read end, write end}. */
typedef struct gp_launch {
    char *const *argv, *const *envp;
    const sigset_t *mask;
    pid_t parent;
    int out[2], err[2], report[2], null;
} gp_launch;

static _Noreturn void
launch_exec(const gp_launch *launch)
{
    int error;

    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != launch->parent)
        _exit(127);
    signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_SETMASK, launch->mask, NULL);
    if (dup2(launch->null, 0) >= 0 && dup2(launch->out[1], 1) >= 0 &&
        dup2(launch->err[1], 2) >= 0)
        execvpe(launch->argv[0], launch->argv, launch->envp);
    error = errno;
    while (write(launch->report[1], &error, sizeof(error)) < 0 &&
           errno == EINTR)
        continue;
    _exit(127);
}

static void
close_pair(int *pair)
{
    for (int i = 0; i < 2; i++)
        if (pair[i] >= 0)
            close(pair[i]);
    pair[0] = pair[1] = -1;
}

static void
launch_close(gp_launch *launch)
{
    close_pair(launch->out);
    close_pair(launch->err);
    close_pair(launch->report);
    if (launch->null >= 0)
        close(launch->null);
}

/* All descriptors above 2, so that dup2 onto 0 to 2 in the child cannot
 * overwrite one that is still needed. */
static bool
launch_open(gp_launch *launch)
{
    launch->null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return launch->null >= 0 && pipe2(launch->out, O_CLOEXEC) == 0 &&
           pipe2(launch->err, O_CLOEXEC) == 0 &&
           pipe2(launch->report, O_CLOEXEC) == 0 &&
           fcntl(launch->out[0], F_SETFL, O_NONBLOCK) == 0 &&
           fcntl(launch->err[0], F_SETFL, O_NONBLOCK) == 0;
}

/* errno of the exec, 0 when it went well. */
static int
launch_result(gp_launch *launch)
{
    int error = 0;
    ssize_t n;

    close(launch->report[1]);
    launch->report[1] = -1;
    do
        n = read(launch->report[0], &error, sizeof(error));
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)sizeof(error) ? error : 0;
}

gp_status
gp_child_start(gp_child *child, char *const *argv, char *const *envp,
               const sigset_t *mask)
{
    gp_launch launch = {argv,     envp,     mask,     getpid(),
                        {-1, -1}, {-1, -1}, {-1, -1}, -1};
    gp_status status = GP_OK;
    int error = 0;
    pid_t pid = -1;

    if (launch_open(&launch))
        pid = fork();
    if (pid == 0)
        launch_exec(&launch);
    if (pid < 0) {
        status = gp_fail_errno(GP_ERR_SYSTEM, errno, "cannot start %s",
                               child->label);
    } else {
        setpgid(pid, pid);
        child->pid = pid;
        child->streams[0].fd = launch.out[0];
        child->streams[1].fd = launch.err[0];
        launch.out[0] = launch.err[0] = -1;
        error = launch_result(&launch);
    }
    if (error)
        status = gp_fail_errno(GP_ERR_SYSTEM, error, "cannot run '%s' for %s",
                               argv[0], child->label);
    launch_close(&launch);
    return status;
}

bool
gp_child_ended(gp_child *child)
{
    siginfo_t info = {0};

    if (!child->pid || child->ended)
        return false;
    if (waitid(P_PID, (id_t)child->pid, &info, WEXITED | WNOHANG | WNOWAIT) ||
        info.si_pid == 0)
        return false;
    child->exit = info;
    child->ended = true;
    return true;
}

bool
gp_child_failed(const gp_child *child)
{
    return child->ended &&
           (child->exit.si_code != CLD_EXITED || child->exit.si_status != 0);
}

void
gp_child_describe(const gp_child *child, char *out, size_t capacity)
{
    int status = child->exit.si_status;

    if (child->exit.si_code == CLD_EXITED)
        snprintf(out, capacity, "%s exited with status %d", child->label,
                 status);
    else
        snprintf(out, capacity, "%s was killed by signal %d (%s)", child->label,
                 status, strsignal(status));
}

void
gp_child_signal(const gp_child *child, int signal_number)
{
    if (child->pid)
        kill(-child->pid, signal_number);
}

/* Makes room for one more entry and the NULL. */
static bool
environment_grow(gp_environment *environment)
{
    char **list =
        realloc(environment->list, (environment->count + 2) * sizeof(*list));

    if (!list)
        return false;
    environment->list = list;
    return true;
}

gp_status
gp_environment_set(gp_environment *environment, const char *setting)
{
    size_t name = strcspn(setting, "=") + 1;
    char *copy = strdup(setting);

    if (!copy || !environment_grow(environment)) {
        free(copy);
        return gp_fail(GP_ERR_NO_MEMORY, "no memory for the environment");
    }
    for (size_t i = 0; i < environment->count; i++)
        if (!strncmp(environment->list[i], setting, name)) {
            free(environment->list[i]);
            environment->list[i] = copy;
            return GP_OK;
        }
    environment->list[environment->count++] = copy;
    environment->list[environment->count] = NULL;
    return GP_OK;
}

gp_status
gp_environment_format(gp_environment *environment, const char *format, ...)
{
    char text[4096];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return gp_environment_set(environment, text);
}

gp_status
gp_environment_copy(char *const *from, gp_environment *out)
{
    gp_environment copy = {NULL, 0};
    gp_status status = GP_OK;

    for (; *from && status == GP_OK; from++)
        if (strchr(*from, '='))
            status = gp_environment_set(&copy, *from);
    if (status != GP_OK) {
        gp_environment_free(&copy);
        return status;
    }
    *out = copy;
    return GP_OK;
}

void
gp_environment_free(gp_environment *environment)
{
    for (size_t i = 0; i < environment->count; i++)
        free(environment->list[i]);
    free(environment->list);
    environment->list = NULL;
    environment->count = 0;
}
