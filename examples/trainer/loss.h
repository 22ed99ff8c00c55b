/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loss.h - what is minimized, and its gradient at the output.
 */
#ifndef GT_LOSS_H
#define GT_LOSS_H

#include "common.h"

typedef enum gt_loss {
    GT_CROSS_ENTROPY, /* mean over rows of -log softmax(output)[label] */
    GT_MEAN_SQUARES   /* mean over rows and classes of (output - one-hot)^2 */
} gt_loss;

typedef struct gt_score {
    double loss;    /* sum over rows, so that parts can be added */
    size_t correct; /* rows whose largest output is the label's */
} gt_score;

/* Adds to *score. `delta` (rows x classes) receives the gradient of the mean
 * over these rows; NULL when only the score is wanted. */
void gt_loss_eval(gt_loss loss, const float *output, const uint16_t *labels,
                  size_t rows, size_t classes, float *delta, gt_score *score);

#endif
