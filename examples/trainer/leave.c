/* SPDX-License-Identifier: Apache-2.0 */
/*
 * leave.c - SIGTERM asks a worker to leave, between two steps.
 */
#include "leave.h"

#include <signal.h>
#include <stddef.h>

static volatile sig_atomic_t asked;

static void
note(int signal)
{
    (void)signal;
    asked = 1;
}

void
gt_leave_watch(void)
{
    struct sigaction action = {.sa_handler = note,
                               .sa_flags = SA_RESTART | SA_RESETHAND};

    sigaction(SIGTERM, &action, NULL);
}

bool
gt_leave_asked(void)
{
    return asked != 0;
}

void
gt_leave_end(void)
{
    signal(SIGTERM, SIG_DFL);
    raise(SIGTERM);
}
