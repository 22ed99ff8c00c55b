/* SPDX-License-Identifier: Apache-2.0 */
/*
 * npy.h - NumPy's .npy files, for arrays of fp32 in C order and nothing else.
 */
#ifndef GP_NPY_H
#define GP_NPY_H

#include <stddef.h>
#include <stdint.h>

#include <gradpush/status.h>

#define GP_NPY_DIMENSIONS 8

typedef struct gp_npy {
    float *values; /* free() */
    size_t count;
    size_t shape[GP_NPY_DIMENSIONS];
    uint32_t dimensions;
} gp_npy;

/* Reads a file. The header's numbers are checked against the file's size before
 * memory is asked for. GP_ERR_SYSTEM, GP_ERR_CORRUPT, GP_ERR_UNSUPPORTED,
 * GP_ERR_TOO_LARGE, GP_ERR_NO_MEMORY; gp_last_error() names the file. */
gp_status gp_npy_read(const char *path, gp_npy *out);

/* The same from memory: fills all but `values`; *data is where the elements
 * begin. `name` is what messages call the input. */
gp_status gp_npy_parse(const uint8_t *bytes, size_t length, uint64_t total,
                       const char *name, gp_npy *out, size_t *data);

#endif
