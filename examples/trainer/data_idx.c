/* SPDX-License-Identifier: Apache-2.0 */
/*
 * data_idx.c - the IDX format of MNIST: two zero bytes, a type, a number of
 * dimensions, the dimensions as big-endian 32-bit numbers, the elements.
 */
#include "data.h"

#define HEADER   4
#define DIMS_MAX 8

static bool
type_of(uint8_t code, gt_type *out)
{
    switch (code) {
    case 0x08:
        *out = GT_U8;
        return true;
    case 0x09:
        *out = GT_I8;
        return true;
    case 0x0B:
        *out = GT_I16;
        return true;
    case 0x0C:
        *out = GT_I32;
        return true;
    case 0x0D:
        *out = GT_F32;
        return true;
    case 0x0E:
        *out = GT_F64;
        return true;
    default:
        return false;
    }
}

static gp_status
check_magic(const uint8_t *bytes, size_t length, const char *name,
            gt_type *type)
{
    if (length < HEADER)
        return gt_fail(GP_ERR_CORRUPT,
                       "%s: truncated: %zu bytes, an IDX file has at least 8; "
                       "fetch it again",
                       name, length);
    if (bytes[0] || bytes[1] || !type_of(bytes[2], type))
        return gt_fail(GP_ERR_CORRUPT,
                       "%s: wrong magic %02x %02x %02x %02x at offset 0: not "
                       "an IDX file (images start 00 00 08 03, labels "
                       "00 00 08 01)",
                       name, bytes[0], bytes[1], bytes[2], bytes[3]);
    if (bytes[3] < 1 || bytes[3] > DIMS_MAX)
        return gt_fail(GP_ERR_CORRUPT,
                       "%s: %u dimensions at offset 3, 1 to %d can be read",
                       name, bytes[3], DIMS_MAX);
    return GP_OK;
}

/* rows, columns and the bytes they take, or an error when they do not fit. */
static gp_status
read_shape(const uint8_t *bytes, size_t length, const char *name, gt_type type,
           gt_matrix *shape, size_t *payload)
{
    size_t dims = bytes[3], total = gt_type_bytes(type);

    if (length < HEADER + 4 * dims)
        return gt_fail(GP_ERR_CORRUPT,
                       "%s: truncated: %zu bytes, the header of %zu "
                       "dimensions takes %zu; fetch it again",
                       name, length, dims, HEADER + 4 * dims);
    shape->columns = 1;
    for (size_t i = 0; i < dims; i++) {
        const uint8_t *p = bytes + HEADER + 4 * i;
        size_t n =
            (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];

        if (n == 0)
            return gt_fail(GP_ERR_CORRUPT,
                           "%s: dimension %zu at offset %zu is 0: no data",
                           name, i, HEADER + 4 * i);
        if (__builtin_mul_overflow(total, n, &total))
            return gt_fail(GP_ERR_CORRUPT,
                           "%s: the dimensions overflow at offset %zu; the "
                           "header is damaged",
                           name, HEADER + 4 * i);
        if (i == 0)
            shape->rows = n;
        else
            shape->columns *= n; /* a factor of total: cannot wrap */
    }
    *payload = total;
    return GP_OK;
}

gp_status
gt_idx_parse(const uint8_t *bytes, size_t length, const char *name,
             gt_matrix *out)
{
    gt_matrix matrix = {0};
    size_t header, payload = 0;
    gt_type type = GT_U8;
    gp_status status = check_magic(bytes, length, name, &type);

    if (status == GP_OK)
        status = read_shape(bytes, length, name, type, &matrix, &payload);
    if (status != GP_OK)
        return status;
    header = HEADER + 4 * (size_t)bytes[3];
    if (payload != length - header)
        return gt_fail(GP_ERR_CORRUPT,
                       "%s: the header promises %zu bytes after offset %zu, "
                       "the file has %zu: %s; fetch it again",
                       name, payload, header, length - header,
                       payload > length - header ? "truncated" : "oversized");
    status =
        gt_alloc_floats(matrix.rows * matrix.columns, name, &matrix.values);
    if (status != GP_OK)
        return status;
    gt_type_convert(type, true, bytes + header, matrix.rows * matrix.columns,
                    matrix.values);
    matrix.range = type == GT_U8 ? 255.0f : 0.0f;
    *out = matrix;
    return GP_OK;
}
