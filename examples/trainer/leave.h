/* SPDX-License-Identifier: Apache-2.0 */
/*
 * leave.h - SIGTERM asks a worker to leave, between two steps.
 */
#ifndef GT_LEAVE_H
#define GT_LEAVE_H

#include <stdbool.h>

/* From now on. The second SIGTERM ends the process at once. */
void gt_leave_watch(void);
bool gt_leave_asked(void);
/* Ends as of that signal, so that whoever waits for the process sees that it
 * has not done all its work. */
void gt_leave_end(void);

#endif
