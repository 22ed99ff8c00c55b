/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_npy.c - .npy files of any bytes.
 *
 * What is accepted is no larger than the input can back; what is refused says
 * which input it was.
 */
#include <string.h>

#include "data.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile float last_value; /* makes the reads happen */

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    gt_matrix matrix = {0};

    if (gt_npy_parse(data, size, "fuzz.npy", &matrix) != GP_OK) {
        if (matrix.values || !strstr(gt_last_error(), "fuzz.npy"))
            __builtin_trap();
        return 0;
    }
    if (!matrix.rows || !matrix.columns || matrix.rows > size ||
        matrix.rows * matrix.columns > size)
        __builtin_trap();
    for (size_t i = 0; i < matrix.rows * matrix.columns; i++)
        last_value = matrix.values[i];
    gt_matrix_free(&matrix);
    return 0;
}
