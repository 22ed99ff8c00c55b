/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pipeline.h - a network cut into stages of consecutive layers, through which
 * parts of a batch follow each other.
 *
 * Each stage runs one micro-batch forward and one backward in turn, once as
 * many are under way as there are stages from it to the end ("1F1B", D.
 * Narayanan et al., "PipeDream", SOSP 2019, without its old weights): no stage
 * keeps activations of more than that. Gradients are summed over the
 * micro-batches, so a step is that of the whole batch.
 *
 * Members count from the end of the network, so that rank 0 has the loss.
 */
#ifndef GT_PIPELINE_H
#define GT_PIPELINE_H

#include "train.h"

/* Rows that this stage keeps activations of at a time. */
size_t gt_pipeline_rows(const gt_trainer *trainer);

/* After the part of the network was made; nothing without a pipeline. */
gp_status gt_pipeline_create(gt_trainer *trainer, size_t rows);
void gt_pipeline_free(gt_pipeline *pipeline);

/* All micro-batches of t->x, forward and backward; adds to *score at the last
 * stage. `before` and `ready` are called once for each layer. */
gp_status gt_pipeline_step(gt_trainer *trainer, gt_layer_hook before,
                           gt_layer_hook ready, gt_score *score);

/* Forward only, as gt_mlp_forward(): x is for the first stage, *output is set
 * by the last one and NULL with others. */
gp_status gt_pipeline_forward(gt_trainer *trainer, const float *x, size_t rows,
                              const float **output);

#endif
