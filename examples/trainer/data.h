/* SPDX-License-Identifier: Apache-2.0 */
/*
 * data.h - from files to matrices of samples.
 *
 * A reader turns bytes from outside into a gt_matrix or into an error that
 * names the input, the place in it and what to do. Readers trust no number in
 * the input: every size is checked against the bytes that are really there
 * before memory is asked for.
 */
#ifndef GT_DATA_H
#define GT_DATA_H

#include "common.h"

/* rows x columns fp32 values, row-major. */
typedef struct gt_matrix {
    float *values; /* owned; gt_matrix_free() */
    size_t rows, columns;
    float range; /* largest possible value when the type says so (255 for
                    unsigned bytes), else 0 */
} gt_matrix;

void gt_matrix_free(gt_matrix *matrix);

/* Bytes of a file, unpacked when it starts like gzip. Files that unpack to
 * more than GT_FILE_MAX are refused. `bytes` is released with free(). */
#define GT_FILE_MAX ((size_t)16 << 30)
gp_status gt_file_read(const char *path, size_t limit, uint8_t **bytes,
                       size_t *length);

/* Element types the IDX and NPY formats share. */
typedef enum gt_type {
    GT_U8,
    GT_I8,
    GT_U16,
    GT_I16,
    GT_U32,
    GT_I32,
    GT_U64,
    GT_I64,
    GT_F16,
    GT_F32,
    GT_F64
} gt_type;
size_t gt_type_bytes(gt_type type);

/* `count` elements as they lie in the input to fp32. */
void gt_type_convert(gt_type type, bool big_endian, const uint8_t *in,
                     size_t count, float *out);

/*
 * The formats. `name` is what messages call the input. The first dimension is
 * rows, the others together are columns; one dimension gives one column.
 * Values may still be NaN: gt_data_load() checks what it assembles.
 *
 * GP_ERR_CORRUPT, GP_ERR_TOO_LARGE, GP_ERR_UNSUPPORTED, GP_ERR_NO_MEMORY.
 */
gp_status gt_idx_parse(const uint8_t *bytes, size_t length, const char *name,
                       gt_matrix *out);
gp_status gt_npy_parse(const uint8_t *bytes, size_t length, const char *name,
                       gt_matrix *out);
gp_status gt_csv_parse(const uint8_t *bytes, size_t length, const char *name,
                       gt_matrix *out);

/* The built-in 1,797 handwritten digits: 64 columns 0 to 16, then the label. */
#define GT_DIGITS_ROWS 1797
extern const char gt_digits_rows[GT_DIGITS_ROWS][66];
gp_status gt_digits_load(gt_matrix *out);

/* Samples with labels 0 .. classes-1. */
typedef struct gt_samples {
    float *x; /* count x features */
    uint16_t *labels;
    size_t count;
} gt_samples;

typedef enum gt_normalize {
    GT_NORMALIZE_NONE,
    GT_NORMALIZE_SCALE,   /* divided by the largest possible value */
    GT_NORMALIZE_STANDARD /* scaled, then mean 0 and deviation 1 */
} gt_normalize;

typedef struct gt_data {
    gt_samples train, test;
    size_t features, classes;
    float scale, mean, deviation; /* x = (raw * scale - mean) / deviation */
    char source[256];             /* which files, for the report */
} gt_data;

typedef struct gt_data_options {
    const char *path; /* as --data */
    double split;     /* fraction for training when there is no test part */
    uint32_t classes; /* 0: largest label + 1 */
    gt_normalize normalize;
} gt_data_options;

gp_status gt_data_load(const gt_data_options *options, gt_data *out);
void gt_data_free(gt_data *data);

#endif
