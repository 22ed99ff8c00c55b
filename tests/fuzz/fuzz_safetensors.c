/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_safetensors.c - safetensors files of any bytes.
 *
 * Every tensor of an accepted file lies within it, one behind the other, and of
 * one with a checksum no byte may be another one.
 */
#include <stdlib.h>
#include <string.h>

#include "safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
read_tensor(const gt_st_file *file, const gt_st_tensor *t)
{
    size_t count = (size_t)(t->end - t->begin) / sizeof(float);
    float *values = malloc(count * sizeof(float) + 1);

    if (!values)
        return;
    if (gt_st_read(file, t->name, t->shape, t->dims, values) == GP_OK &&
        strcmp(t->dtype, "F32") != 0)
        __builtin_trap();
    free(values);
}

static void
refuse_another(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size);
    gt_st_file file;

    if (!copy)
        return;
    memcpy(copy, data, size);
    copy[size - 1] ^= 1;
    if (gt_st_parse(copy, size, "fuzz.safetensors", &file) == GP_OK)
        __builtin_trap();
    free(copy);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    gt_st_file file = {0};
    uint64_t at = 0;

    if (gt_st_parse(data, size, "fuzz.safetensors", &file) != GP_OK) {
        if (file.root || !strstr(gt_last_error(), "fuzz.safetensors"))
            __builtin_trap();
        return 0;
    }
    for (size_t i = 0; i < file.count; i++) {
        const gt_st_tensor *t = &file.tensors[i];

        if (t->begin != at || t->end < t->begin || t->end > size)
            __builtin_trap();
        at = t->end;
        read_tensor(&file, t);
    }
    if (gt_st_metadata(&file, GT_ST_CHECKSUM))
        refuse_another(data, size);
    (void)gt_st_metadata(&file, "epoch");
    gt_st_free(&file);
    return 0;
}
