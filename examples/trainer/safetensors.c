/* SPDX-License-Identifier: Apache-2.0 */
/*
 * safetensors.c - the tensor file format of that name, read.
 *
 * After gt_st_parse() every tensor's range lies within the data and agrees
 * with its shape; readers only compare names and shapes.
 */
#include "safetensors.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    unsigned bits;
} dtypes[] = {
    {"BOOL", 8},    {"F4", 4},          {"F6_E2M3", 6},     {"F6_E3M2", 6},
    {"U8", 8},      {"I8", 8},          {"F8_E5M2", 8},     {"F8_E4M3", 8},
    {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
    {"U16", 16},    {"F16", 16},        {"BF16", 16},       {"I32", 32},
    {"U32", 32},    {"F32", 32},        {"C64", 64},        {"F64", 64},
    {"I64", 64},    {"U64", 64}};

static uint64_t
get64(const uint8_t *p)
{
    uint64_t v = 0;

    for (int i = 7; i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

static gp_status
corrupt(const gt_st_file *file, const char *tensor, const char *what)
{
    return gt_fail(GP_ERR_CORRUPT,
                   "%s: tensor '%.64s': %s; the file is "
                   "damaged",
                   file->name, tensor, what);
}

static bool
bits_of(const char *dtype, uint64_t *bits)
{
    for (size_t i = 0; i < GT_COUNT_OF(dtypes); i++) {
        if (strcmp(dtype, dtypes[i].name) == 0) {
            *bits = dtypes[i].bits;
            return true;
        }
    }
    return false;
}

static gp_status
read_shape(const gt_st_file *file, json_t *shape, gt_st_tensor *t)
{
    json_t *value;
    size_t i;

    if (!json_is_array(shape) || json_array_size(shape) > GT_ST_DIMS_MAX)
        return corrupt(file, t->name, "shape is not a list of at most 8");
    json_array_foreach(shape, i, value)
    {
        if (!json_is_integer(value) || json_integer_value(value) < 0)
            return corrupt(file, t->name, "a dimension is not a whole number");
        t->shape[i] = (uint64_t)json_integer_value(value);
    }
    t->dims = json_array_size(shape);
    return GP_OK;
}

static gp_status
read_offsets(const gt_st_file *file, json_t *offsets, gt_st_tensor *t)
{
    json_t *begin = json_array_get(offsets, 0),
           *end = json_array_get(offsets, 1);

    if (!json_is_array(offsets) || json_array_size(offsets) != 2 ||
        !json_is_integer(begin) || !json_is_integer(end) ||
        json_integer_value(begin) < 0 ||
        json_integer_value(end) < json_integer_value(begin))
        return corrupt(file, t->name, "data_offsets is not [begin, end]");
    t->begin = (uint64_t)json_integer_value(begin);
    t->end = (uint64_t)json_integer_value(end);
    return GP_OK;
}

static gp_status
check_extent(const gt_st_file *file, const gt_st_tensor *t)
{
    uint64_t bits;

    if (!bits_of(t->dtype, &bits))
        return corrupt(file, t->name, "unknown dtype");
    for (size_t i = 0; i < t->dims; i++)
        if (__builtin_mul_overflow(bits, t->shape[i], &bits))
            return corrupt(file, t->name, "the shape overflows");
    if (bits % 8 != 0 || bits / 8 != t->end - t->begin)
        return corrupt(file, t->name, "shape and data_offsets disagree");
    return GP_OK;
}

static gp_status
read_tensor(const gt_st_file *file, const char *name, json_t *value,
            gt_st_tensor *t)
{
    const char *dtype = json_string_value(json_object_get(value, "dtype"));
    gp_status status;

    t->name = name;
    if (!json_is_object(value) || json_object_size(value) != 3 || !dtype ||
        strlen(dtype) >= sizeof(t->dtype))
        return corrupt(file, name,
                       "does not have exactly dtype, shape, data_offsets");
    strcpy(t->dtype, dtype);
    status = read_shape(file, json_object_get(value, "shape"), t);
    if (status == GP_OK)
        status = read_offsets(file, json_object_get(value, "data_offsets"), t);
    return status == GP_OK ? check_extent(file, t) : status;
}

static gp_status
check_metadata(const gt_st_file *file, json_t *metadata)
{
    const char *key;
    json_t *value;

    if (!json_is_object(metadata))
        return corrupt(file, "__metadata__", "is not an object");
    json_object_foreach(metadata, key, value) if (
        !json_is_string(value)) return corrupt(file, "__metadata__",
                                               "has a value that is no text");
    return GP_OK;
}

static int
by_offset(const void *a, const void *b)
{
    const gt_st_tensor *x = a, *y = b;

    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

static gp_status
check_layout(const gt_st_file *file, uint64_t data_length)
{
    uint64_t at = 0;

    for (size_t i = 0; i < file->count; i++) {
        if (file->tensors[i].begin != at)
            return corrupt(file, file->tensors[i].name,
                           "does not start where the one before ends");
        at = file->tensors[i].end;
    }
    if (at != data_length)
        return gt_fail(GP_ERR_CORRUPT,
                       "%s: the header promises %llu bytes of data, the file "
                       "has %llu: %s; copy it again",
                       file->name, (unsigned long long)at,
                       (unsigned long long)data_length,
                       at > data_length ? "truncated" : "oversized");
    return GP_OK;
}

static gp_status
read_entries(gt_st_file *file)
{
    json_t *root = file->root, *value;
    const char *key;
    gp_status status = GP_OK;

    file->tensors = calloc(json_object_size(root) + 1, sizeof(*file->tensors));
    if (!file->tensors)
        return gt_fail(GP_ERR_NO_MEMORY, "out of memory reading %s",
                       file->name);
    json_object_foreach(root, key, value)
    {
        if (strcmp(key, "__metadata__") == 0)
            status = check_metadata(file, value);
        else
            status =
                read_tensor(file, key, value, &file->tensors[file->count++]);
        if (status != GP_OK)
            break;
    }
    if (status == GP_OK && file->count)
        qsort(file->tensors, file->count, sizeof(*file->tensors), by_offset);
    return status;
}

static gp_status
parse_header(const uint8_t *bytes, size_t length, const char *name,
             gt_st_file *file, size_t *header)
{
    json_error_t error;
    uint64_t n;

    if (length < 8)
        return gt_fail(GP_ERR_CORRUPT,
                       "%s: truncated: %zu bytes, a safetensors file has at "
                       "least 8",
                       name, length);
    n = get64(bytes);
    if (n > GT_ST_HEADER_MAX || n > length - 8)
        return gt_fail(GP_ERR_CORRUPT,
                       "%s: header of %llu bytes at offset 0, but %zu are "
                       "left: truncated, or not a safetensors file",
                       name, (unsigned long long)n, length - 8);
    if (n == 0 || bytes[8] != '{')
        return gt_fail(GP_ERR_CORRUPT,
                       "%s: the header at offset 8 does not start with '{': "
                       "not a safetensors file",
                       name);
    file->root = json_loadb((const char *)bytes + 8, (size_t)n,
                            JSON_REJECT_DUPLICATES, &error);
    if (!file->root)
        return gt_fail(GP_ERR_CORRUPT, "%s: header, offset %d: %s", name,
                       error.position + 8, error.text);
    *header = (size_t)n;
    return GP_OK;
}

/* Its digits are nowhere else: in texts quotes have a backslash before them. */
static const uint8_t *
find_checksum(const uint8_t *bytes, size_t header)
{
    static const char prefix[] = GT_ST_CHECKSUM_PREFIX;
    const uint8_t *at = memmem(bytes + 8, header, prefix, sizeof(prefix) - 1);
    size_t left;

    if (!at)
        return NULL;
    at += sizeof(prefix) - 1;
    left = (size_t)(bytes + 8 + header - at);
    return left > GT_ST_CHECKSUM_DIGITS ? at : NULL;
}

static gp_status
check_sum(const uint8_t *bytes, size_t length, size_t header,
          const gt_st_file *file)
{
    const char *had = gt_st_metadata(file, GT_ST_CHECKSUM);
    const uint8_t *digits = find_checksum(bytes, header);
    char has[32] = "no checksum that can be found";
    uint32_t crc;

    if (!had)
        return GP_OK;
    if (digits) {
        crc = gp_crc32c(0, bytes, (size_t)(digits - bytes));
        crc = gp_crc32c(crc, "00000000", GT_ST_CHECKSUM_DIGITS);
        digits += GT_ST_CHECKSUM_DIGITS;
        crc = gp_crc32c(crc, digits, length - (size_t)(digits - bytes));
        snprintf(has, sizeof(has), "crc32c:%08x", crc);
        if (strcmp(has, had) == 0)
            return GP_OK;
    }
    return gt_fail(GP_ERR_CORRUPT,
                   "%s: its checksum is %.32s, its bytes have %s: damaged; "
                   "copy it again (a program that has changed it must take "
                   "'" GT_ST_CHECKSUM "' out of its __metadata__)",
                   file->name, had, has);
}

gp_status
gt_st_parse(const uint8_t *bytes, size_t length, const char *name,
            gt_st_file *out)
{
    gt_st_file file = {.name = name};
    size_t header = 0;
    gp_status status = parse_header(bytes, length, name, &file, &header);

    if (status == GP_OK)
        status = read_entries(&file);
    if (status == GP_OK)
        status = check_layout(&file, length - 8 - header);
    if (status == GP_OK)
        status = check_sum(bytes, length, header, &file);
    if (status != GP_OK) {
        gt_st_free(&file);
        return status;
    }
    file.data = bytes + 8 + header;
    *out = file;
    return GP_OK;
}

void
gt_st_free(gt_st_file *file)
{
    json_decref(file->root);
    free(file->tensors);
    *file = (gt_st_file){0};
}

static const gt_st_tensor *
find(const gt_st_file *file, const char *name)
{
    for (size_t i = 0; i < file->count; i++)
        if (strcmp(file->tensors[i].name, name) == 0)
            return &file->tensors[i];
    return NULL;
}

gp_status
gt_st_read(const gt_st_file *file, const char *name, const uint64_t *shape,
           size_t dims, float *out)
{
    const gt_st_tensor *t = find(file, name);
    size_t count;

    if (!t)
        return gt_fail(GP_ERR_NOT_FOUND, "%s has no tensor '%s'", file->name,
                       name);
    if (strcmp(t->dtype, "F32") != 0 || t->dims != dims ||
        memcmp(t->shape, shape, dims * sizeof(*shape)) != 0)
        return gt_fail(GP_ERR_MISMATCH,
                       "%s: '%s' has another shape or dtype than this "
                       "network; use the --data and --hidden it was "
                       "written with",
                       file->name, name);
    count = (size_t)(t->end - t->begin) / sizeof(float);
    for (size_t i = 0; i < count; i++) {
        const uint8_t *p = file->data + t->begin + 4 * i;
        uint32_t bits = (uint32_t)p[0] | (uint32_t)p[1] << 8 |
                        (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;

        memcpy(&out[i], &bits, sizeof(bits));
    }
    return GP_OK;
}

const char *
gt_st_metadata(const gt_st_file *file, const char *key)
{
    return json_string_value(
        json_object_get(json_object_get(file->root, "__metadata__"), key));
}
