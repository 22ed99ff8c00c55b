/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tensorboard.h - scalars for TensorBoard: an event file that only grows.
 *
 * TensorBoard takes a folder for a run and reads every file in it whose name
 * contains "tfevents". A resumed run writes a file of its own.
 */
#ifndef GT_TENSORBOARD_H
#define GT_TENSORBOARD_H

#include <stdio.h>

#include "common.h"

typedef struct gt_events {
    FILE *file; /* NULL: nothing is written */
    char path[512];
} gt_events;

typedef struct gt_scalar {
    const char *tag; /* "test/accuracy" */
    double value;
} gt_scalar;

/* Creates the folder when it is not there, and the file in it. */
gp_status gt_events_open(const char *folder, gt_events *out);

/* All scalars of one step, on disk on return. */
gp_status gt_events_write(gt_events *events, uint64_t step,
                          const gt_scalar *scalars, size_t count);

/* NULL members are fine. */
void gt_events_close(gt_events *events);

/* The bytes of one record, for gt_events_write() and its test: an Event
 * message in its frame of length and checksums. Returns their number, 0 when
 * `capacity` is too small. With `scalars` NULL it is the record that begins a
 * file. */
size_t gt_events_record(double wall_time, uint64_t step,
                        const gt_scalar *scalars, size_t count, uint8_t *out,
                        size_t capacity);

#endif
