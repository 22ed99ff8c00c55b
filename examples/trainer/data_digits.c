/* SPDX-License-Identifier: Apache-2.0 */
/*
 * data_digits.c - the built-in digits as a matrix with the label last.
 *
 * A row of the table is 64 letters, 'A' for 0 to 'Q' for 16, and the label.
 */
#include "data.h"

#define PIXELS 64

gp_status
gt_digits_load(gt_matrix *out)
{
    float *values;
    gp_status status =
        gt_alloc_floats(GT_DIGITS_ROWS * (PIXELS + 1), "the digits", &values);

    if (status != GP_OK)
        return status;
    for (size_t r = 0; r < GT_DIGITS_ROWS; r++) {
        const char *row = gt_digits_rows[r];
        float *x = values + r * (PIXELS + 1);

        for (size_t i = 0; i < PIXELS; i++)
            x[i] = (float)(row[i] - 'A');
        x[PIXELS] = (float)(row[PIXELS] - '0');
    }
    *out = (gt_matrix){values, GT_DIGITS_ROWS, PIXELS + 1, 16.0f};
    return GP_OK;
}
