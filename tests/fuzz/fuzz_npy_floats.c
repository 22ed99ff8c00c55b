/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_npy_floats.c - .npy files of any bytes, as the benchmark reads them.
 *
 * What is accepted lies within the input; what is refused says which input it
 * was, and has changed nothing.
 */
#include <string.h>

#include "tools/npy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    gp_npy npy = {.count = 12345};
    size_t at = 0, count = 1;

    if (gp_npy_parse(data, size, size, "fuzz.npy", &npy, &at) != GP_OK) {
        if (npy.count != 12345 || !strstr(gp_last_error(), "fuzz.npy"))
            __builtin_trap();
        return 0;
    }
    for (uint32_t i = 0; i < npy.dimensions; i++)
        count *= npy.shape[i];
    if (npy.dimensions > GP_NPY_DIMENSIONS || npy.count != count || at > size ||
        npy.count * sizeof(float) != size - at)
        __builtin_trap();
    return 0;
}
