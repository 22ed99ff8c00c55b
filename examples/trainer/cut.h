/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cut.h - a trainer whose network is cut over workers (parallel.h).
 *
 * All functions may be called for a network in one piece as well: then this
 * worker's part is the whole.
 */
#ifndef GT_CUT_H
#define GT_CUT_H

#include "train.h"

/* widths[0 .. layers] of the whole network; returns layers. */
size_t gt_cut_widths(const gt_trainer *trainer, size_t *widths);

/* Makes this worker's part of the network, for passes over `rows` samples,
 * with initial parameters. */
gp_status gt_cut_create(gt_trainer *trainer, size_t rows);
void gt_cut_free(gt_trainer *trainer);

/* Whether this worker's scores are counted: one of each copy's are. */
bool gt_cut_counts(const gt_trainer *trainer);

/* Completes the outputs of a forward pass, of which this worker may have
 * some only. */
gp_status gt_cut_output(gt_trainer *trainer, size_t rows, const float **output);
/* Where the loss writes d loss / d output, and what brings that to where the
 * backward pass reads it. */
float *gt_cut_delta(gt_trainer *trainer);
void gt_cut_take_delta(gt_trainer *trainer, size_t rows);

/* A trainer with the whole network and momentum, without anything to run it:
 * for checkpoints and digests. All workers call gather; the values are on rank
 * 0 only. */
gp_status gt_cut_gather(const gt_trainer *trainer, gt_trainer *whole);
void gt_cut_free_whole(gt_trainer *whole);

/* As gt_checkpoint_load(), of this worker's part. */
gp_status gt_cut_load(gt_trainer *trainer);

#endif
