/* SPDX-License-Identifier: Apache-2.0 */
/*
 * steps_file.h - how far a worker is, for scripts that watch it.
 */
#ifndef GT_STEPS_FILE_H
#define GT_STEPS_FILE_H

#include "common.h"

typedef struct gt_steps_file {
    int fd; /* of PATH.RANK; 0: there is none */
} gt_steps_file;

gp_status gt_steps_file_open(const char *path, uint32_t rank,
                             gt_steps_file *out);
/* The number of steps, right-aligned, and a line feed. Does nothing without a
 * file; a full disk is no reason to stop training. */
void gt_steps_file_note(const gt_steps_file *file, uint64_t steps);
void gt_steps_file_close(gt_steps_file *file);

#endif
