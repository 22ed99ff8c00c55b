/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loss.c - cross entropy and mean squares.
 *
 * Softmax subtracts the largest output first, so exp() never overflows; with
 * the loss its gradient is (softmax - one-hot) / rows.
 */
#include "loss.h"

#include <math.h>

static size_t
largest(const float *y, size_t classes)
{
    size_t best = 0;

    for (size_t c = 1; c < classes; c++)
        if (y[c] > y[best])
            best = c;
    return best;
}

static double
cross_entropy(const float *y, size_t label, size_t top, size_t classes,
              float scale, float *delta)
{
    double sum = 0;

    for (size_t c = 0; c < classes; c++)
        sum += (double)expf(y[c] - y[top]);
    for (size_t c = 0; delta && c < classes; c++) {
        float p = expf(y[c] - y[top]) / (float)sum;

        delta[c] = (p - (c == label ? 1.0f : 0.0f)) * scale;
    }
    return log(sum) - (double)(y[label] - y[top]);
}

static double
mean_squares(const float *y, size_t label, size_t classes, float scale,
             float *delta)
{
    double sum = 0;

    for (size_t c = 0; c < classes; c++) {
        float d = y[c] - (c == label ? 1.0f : 0.0f);

        sum += (double)d * (double)d;
        if (delta)
            delta[c] = 2 * d * scale / (float)classes;
    }
    return sum / (double)classes;
}

void
gt_loss_eval(gt_loss loss, const float *output, const uint16_t *labels,
             size_t rows, size_t classes, float *delta, gt_score *score)
{
    float scale = 1.0f / (float)rows;

    for (size_t r = 0; r < rows; r++, output += classes) {
        size_t top = largest(output, classes);

        if (loss == GT_CROSS_ENTROPY)
            score->loss +=
                cross_entropy(output, labels[r], top, classes, scale, delta);
        else
            score->loss +=
                mean_squares(output, labels[r], classes, scale, delta);
        score->correct += top == labels[r];
        if (delta)
            delta += classes;
    }
}
