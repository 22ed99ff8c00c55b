/* SPDX-License-Identifier: Apache-2.0 */
/*
 * data_npy.c - NumPy's .npy format, versions 1.0 to 3.0.
 *
 * The header is a Python dict literal. Only what numpy.save writes for plain
 * arrays is accepted: the keys descr, fortran_order and shape in any order, a
 * string, a boolean and a tuple of integers. Nothing is evaluated.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data.h"

#define HEADER_MAX 10000
#define DIMS_MAX   8

typedef struct header {
    const char *name; /* of the input */
    const char *at, *end, *start;
    size_t offset; /* of `start` in the input */
    char descr[16];
    bool fortran, seen_descr, seen_order, seen_shape;
    uint64_t shape[DIMS_MAX];
    size_t dims;
} header;

static gp_status
syntax(const header *h, const char *expected)
{
    return gt_fail(GP_ERR_CORRUPT,
                   "%s: expected %s in the header at offset %zu; save the "
                   "array again with numpy.save",
                   h->name, expected, h->offset + (size_t)(h->at - h->start));
}

static char
peek(header *h)
{
    while (h->at < h->end && (*h->at == ' ' || *h->at == '\n'))
        h->at++;
    return h->at < h->end ? *h->at : '\0';
}

static bool
take(header *h, char c)
{
    if (peek(h) != c || h->at >= h->end)
        return false;
    h->at++;
    return true;
}

static bool
take_word(header *h, const char *word)
{
    size_t n = strlen(word);

    peek(h);
    if ((size_t)(h->end - h->at) < n || memcmp(h->at, word, n) != 0)
        return false;
    h->at += n;
    return true;
}

static gp_status
take_string(header *h, char *out, size_t capacity)
{
    char quote = peek(h);
    const char *close;
    size_t n;

    if (quote != '\'' && quote != '"')
        return syntax(h, "a quoted string");
    h->at++;
    close = memchr(h->at, quote, (size_t)(h->end - h->at));
    if (!close)
        return syntax(h, "a closing quote");
    n = (size_t)(close - h->at);
    if (n >= capacity || memchr(h->at, 0, n))
        return syntax(h, "a shorter string");
    memcpy(out, h->at, n);
    out[n] = '\0';
    h->at = close + 1;
    return GP_OK;
}

static gp_status
take_descr(header *h)
{
    h->seen_descr = true;
    if (peek(h) == '[')
        return gt_fail(GP_ERR_UNSUPPORTED,
                       "%s: structured dtype; save each field as an array of "
                       "its own",
                       h->name);
    return take_string(h, h->descr, sizeof(h->descr));
}

static gp_status
take_order(header *h)
{
    h->seen_order = true;
    if (take_word(h, "True"))
        h->fortran = true;
    else if (!take_word(h, "False"))
        return syntax(h, "True or False");
    return GP_OK;
}

static gp_status
take_dimension(header *h)
{
    uint64_t n = 0;

    if (peek(h) < '0' || peek(h) > '9')
        return syntax(h, "a dimension");
    if (h->dims == DIMS_MAX)
        return gt_fail(GP_ERR_UNSUPPORTED, "%s: more than %d dimensions",
                       h->name, DIMS_MAX);
    while (h->at < h->end && *h->at >= '0' && *h->at <= '9')
        if (__builtin_mul_overflow(n, 10, &n) ||
            __builtin_add_overflow(n, (uint64_t)(*h->at++ - '0'), &n))
            return syntax(h, "a dimension below 2^64");
    h->shape[h->dims++] = n;
    return GP_OK;
}

static gp_status
take_shape(header *h)
{
    gp_status status;

    h->seen_shape = true;
    h->dims = 0;
    if (!take(h, '('))
        return syntax(h, "a tuple");
    while (!take(h, ')')) {
        status = take_dimension(h);
        if (status != GP_OK)
            return status;
        if (!take(h, ',') && peek(h) != ')')
            return syntax(h, "',' or ')'");
    }
    return GP_OK;
}

static gp_status
take_entry(header *h)
{
    char key[16];
    gp_status status = take_string(h, key, sizeof(key));

    if (status != GP_OK)
        return status;
    if (!take(h, ':'))
        return syntax(h, "':'");
    if (strcmp(key, "descr") == 0 && !h->seen_descr)
        return take_descr(h);
    if (strcmp(key, "fortran_order") == 0 && !h->seen_order)
        return take_order(h);
    if (strcmp(key, "shape") == 0 && !h->seen_shape)
        return take_shape(h);
    return syntax(h, "descr, fortran_order and shape, each once,");
}

static gp_status
take_dict(header *h)
{
    gp_status status;

    if (!take(h, '{'))
        return syntax(h, "'{'");
    while (!take(h, '}')) {
        status = take_entry(h);
        if (status != GP_OK)
            return status;
        if (!take(h, ',') && peek(h) != '}')
            return syntax(h, "',' or '}'");
    }
    peek(h);
    if (h->at != h->end)
        return syntax(h, "nothing after '}'");
    if (!h->seen_descr || !h->seen_order || !h->seen_shape)
        return syntax(h, "descr, fortran_order and shape");
    return GP_OK;
}

/* Finds the header text; *data is where the elements start. */
static gp_status
locate(const uint8_t *bytes, size_t length, header *h, size_t *data)
{
    size_t prefix, n;

    if (length < 10 || memcmp(bytes, "\x93NUMPY", 6) != 0)
        return gt_fail(GP_ERR_CORRUPT,
                       "%s: wrong magic at offset 0: not a .npy file%s",
                       h->name,
                       length > 2 && memcmp(bytes, "PK", 2) == 0
                           ? " but a .npz archive; save single arrays"
                           : "");
    if (bytes[6] < 1 || bytes[6] > 3)
        return gt_fail(GP_ERR_UNSUPPORTED,
                       "%s: .npy version %u.%u at offset 6, 1.0 to 3.0 can be "
                       "read",
                       h->name, bytes[6], bytes[7]);
    prefix = bytes[6] == 1 ? 10 : 12;
    if (length < prefix)
        return gt_fail(GP_ERR_CORRUPT, "%s: truncated at offset %zu", h->name,
                       length);
    n = (size_t)bytes[8] | (size_t)bytes[9] << 8;
    if (prefix == 12)
        n |= (size_t)bytes[10] << 16 | (size_t)bytes[11] << 24;
    if (n > HEADER_MAX)
        return gt_fail(GP_ERR_CORRUPT,
                       "%s: header of %zu bytes at offset 8, at most %d can "
                       "be right",
                       h->name, n, HEADER_MAX);
    if (n > length - prefix)
        return gt_fail(GP_ERR_CORRUPT,
                       "%s: truncated inside the header: %zu bytes, %zu "
                       "needed; copy the file again",
                       h->name, length, prefix + n);
    h->start = h->at = (const char *)bytes + prefix;
    h->end = h->at + n;
    h->offset = prefix;
    *data = prefix + n;
    return GP_OK;
}

static gp_status
parse_descr(const header *h, gt_type *type, bool *big_endian)
{
    static const struct {
        const char *code;
        gt_type type;
    } known[] = {{"b1", GT_U8},  {"u1", GT_U8},  {"i1", GT_I8},
                 {"u2", GT_U16}, {"i2", GT_I16}, {"u4", GT_U32},
                 {"i4", GT_I32}, {"u8", GT_U64}, {"i8", GT_I64},
                 {"f2", GT_F16}, {"f4", GT_F32}, {"f8", GT_F64}};
    const char *code = h->descr;

    *big_endian = code[0] == '>';
    if (code[0] && strchr("<>|=", code[0]))
        code++;
    for (size_t i = 0; i < GT_COUNT_OF(known); i++) {
        if (strcmp(code, known[i].code) == 0) {
            *type = known[i].type;
            return GP_OK;
        }
    }
    if (code[0] == 'O')
        return gt_fail(GP_ERR_UNSUPPORTED,
                       "%s: dtype object holds pickled Python, which is never "
                       "run; convert with array.astype('float32')",
                       h->name);
    return gt_fail(GP_ERR_UNSUPPORTED,
                   "%s: dtype '%s' is not a real number; convert with "
                   "array.astype('float32')",
                   h->name, h->descr);
}

static gp_status
check_shape(const header *h, size_t left, gt_type type, gt_matrix *shape)
{
    uint64_t total = gt_type_bytes(type), count = 1;

    if (h->dims == 0)
        return gt_fail(GP_ERR_UNSUPPORTED,
                       "%s: a scalar, rows of samples are needed", h->name);
    for (size_t i = 0; i < h->dims; i++) {
        if (h->shape[i] == 0)
            return gt_fail(GP_ERR_CORRUPT, "%s: dimension %zu is 0: no data",
                           h->name, i);
        if (__builtin_mul_overflow(total, h->shape[i], &total))
            return gt_fail(GP_ERR_CORRUPT,
                           "%s: the shape overflows at dimension %zu (%llu); "
                           "the header is damaged",
                           h->name, i, (unsigned long long)h->shape[i]);
        count *= h->shape[i];
    }
    if (total != left)
        return gt_fail(GP_ERR_CORRUPT,
                       "%s: the header promises %llu bytes of data, the file "
                       "has %zu: %s; copy the file again",
                       h->name, (unsigned long long)total, left,
                       total > left ? "truncated" : "oversized");
    if (h->fortran && h->dims > 2)
        return gt_fail(GP_ERR_UNSUPPORTED,
                       "%s: column-major with %zu dimensions; save "
                       "numpy.ascontiguousarray(array)",
                       h->name, h->dims);
    shape->rows = (size_t)h->shape[0];
    shape->columns = (size_t)(count / h->shape[0]);
    return GP_OK;
}

static gp_status
to_row_major(gt_matrix *matrix, const char *name)
{
    float *turned;
    gp_status status =
        gt_alloc_floats(matrix->rows * matrix->columns, name, &turned);

    if (status != GP_OK)
        return status;
    for (size_t c = 0; c < matrix->columns; c++)
        for (size_t r = 0; r < matrix->rows; r++)
            turned[r * matrix->columns + c] =
                matrix->values[c * matrix->rows + r];
    free(matrix->values);
    matrix->values = turned;
    return GP_OK;
}

gp_status
gt_npy_parse(const uint8_t *bytes, size_t length, const char *name,
             gt_matrix *out)
{
    header h = {.name = name};
    gt_matrix matrix = {0};
    bool big_endian = false;
    gt_type type = GT_U8;
    size_t data = 0;
    gp_status status = locate(bytes, length, &h, &data);

    if (status == GP_OK)
        status = take_dict(&h);
    if (status == GP_OK)
        status = parse_descr(&h, &type, &big_endian);
    if (status == GP_OK)
        status = check_shape(&h, length - data, type, &matrix);
    if (status == GP_OK)
        status =
            gt_alloc_floats(matrix.rows * matrix.columns, name, &matrix.values);
    if (status != GP_OK)
        return status;
    gt_type_convert(type, big_endian, bytes + data,
                    matrix.rows * matrix.columns, matrix.values);
    if (h.fortran && h.dims == 2)
        status = to_row_major(&matrix, name);
    if (status != GP_OK) {
        gt_matrix_free(&matrix);
        return status;
    }
    matrix.range = type == GT_U8 && h.descr[1] == 'u' ? 255.0f : 0.0f;
    *out = matrix;
    return GP_OK;
}
