/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_bench_npy.c - the .npy files that `gradpush bench` reads.
 *
 * What is accepted lies in the input; what is refused says which input it was.
 */
#include <string.h>

#include "npy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(int condition)
{
    if (!condition)
        __builtin_trap();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    gp_npy array;
    size_t at = 0, product = 1;

    memset(&array, 0, sizeof(array));
    if (gp_npy_parse(data, size, size, "fuzz.npy", &array, &at) != GP_OK) {
        require(strstr(gp_last_error(), "fuzz.npy") != NULL);
        return 0;
    }
    require(array.dimensions <= GP_NPY_DIMENSIONS);
    require(at <= size && array.count <= (size - at) / sizeof(float));
    for (uint32_t i = 0; i < array.dimensions; i++)
        product *= array.shape[i];
    require(product == array.count);
    return 0;
}
