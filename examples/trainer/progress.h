/* SPDX-License-Identifier: Apache-2.0 */
/*
 * progress.h - a bar on the terminal, and on nothing else.
 */
#ifndef GT_PROGRESS_H
#define GT_PROGRESS_H

#include <stdio.h>

#include "options.h"

typedef struct gt_progress {
    FILE *terminal; /* NULL: nothing is drawn */
    bool opened;    /* terminal is ours to close */
    double next;    /* when it is worth drawing again */
} gt_progress;

/* Under a launcher standard error is a pipe; with GT_PROGRESS_ON the bar then
 * goes to the controlling terminal, if there is one. */
void gt_progress_open(gt_progress_when when, gt_progress *out);
/* Whether the next call would draw something. */
bool gt_progress_due(const gt_progress *progress);
void gt_progress_show(gt_progress *progress, uint32_t epoch, uint32_t epochs,
                      size_t step, size_t steps, double loss);
/* Wipes the bar so that a line can be printed. */
void gt_progress_clear(gt_progress *progress);
void gt_progress_close(gt_progress *progress);

#endif
