/* SPDX-License-Identifier: Apache-2.0 */
/*
 * elastic.h - where a worker is in a training that others began, left or will
 * go on with.
 */
#ifndef GT_ELASTIC_H
#define GT_ELASTIC_H

#include "train.h"

/* One that comes late begins where the others are. */
void gt_elastic_catch_up(gt_trainer *trainer);

/* Steps of the current epoch that were done before this worker's next. */
size_t gt_elastic_begun(const gt_trainer *trainer);

/* The version that an epoch's steps lead to. */
void gt_trainer_set_goal(gt_trainer *trainer);

/* Deals the samples of the next step among those who are there, and writes the
 * checkpoint that had to wait for this moment. GP_AGAIN: was told to leave. */
gp_status gt_elastic_begin_step(gt_trainer *trainer, size_t step);

/* Whether a checkpoint is to be written when an epoch has ended, and does so.
 */
bool gt_trainer_checkpoint_due(const gt_trainer *trainer);
gp_status gt_elastic_end_epoch(gt_trainer *trainer);

/* The last one, of a worker that came when all epochs were done: where it is
 * the first by now, and none was written. */
gp_status gt_elastic_end_late(gt_trainer *trainer);

#endif
