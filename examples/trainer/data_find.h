/* SPDX-License-Identifier: Apache-2.0 */
/*
 * data_find.h - which files a --data argument means.
 */
#ifndef GT_DATA_FIND_H
#define GT_DATA_FIND_H

#include "data.h"

/* A part as it was read. With `joined` the label is the last column of x. */
typedef struct gt_part {
    gt_matrix x, y;
    bool joined;
    char name_x[256], name_y[256];
} gt_part;

void gt_part_free(gt_part *part);

/* Whether the files of a path are there at all, without reading them. */
gp_status gt_parts_exist(const char *path);

/* Reads the training part and, when there is one, the test part; without one
 * test->x.values stays NULL. */
gp_status gt_parts_read(const char *path, gt_part *train, gt_part *test);

#endif
