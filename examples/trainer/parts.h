/* SPDX-License-Identifier: Apache-2.0 */
/*
 * parts.h - large layers travel while they are computed: rows of a gradient
 * leave as backward has made them, and forward begins with rows that are here.
 */
#ifndef GT_PARTS_H
#define GT_PARTS_H

#include "train.h"

/* When the job has begun; where gradients travel otherwise, as a whole or not
 * before backward is over, it does nothing. */
void gt_parts_open(gt_trainer *trainer);

#endif
