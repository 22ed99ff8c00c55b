/* SPDX-License-Identifier: Apache-2.0 */
/*
 * npy.c - reads what numpy.save writes for a plain fp32 array.
 *
 * The header is a Python dict literal with the keys descr, fortran_order and
 * shape; nothing of it is evaluated. Every number is checked against the size
 * of the file before it is used.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/base.h"
#include "npy.h"

#define HEADER_MAX 4096
#define PREFIX_MAX 12

/* The text of a header that is being read. */
typedef struct gp_text {
    const char *name, *at, *end;
} gp_text;

static gp_status
damaged(const gp_text *text, const char *expected)
{
    return gp_fail(GP_ERR_CORRUPT,
                   "%s: the .npy header lacks %s; save the array again with "
                   "numpy.save",
                   text->name, expected);
}

static bool
take(gp_text *text, const char *word)
{
    size_t length = strlen(word);

    while (text->at < text->end && (*text->at == ' ' || *text->at == '\n'))
        text->at++;
    if ((size_t)(text->end - text->at) < length ||
        memcmp(text->at, word, length) != 0)
        return false;
    text->at += length;
    return true;
}

static gp_status
take_number(gp_text *text, size_t *out)
{
    const char *first = text->at;
    size_t value = 0;

    while (text->at < text->end && *text->at >= '0' && *text->at <= '9')
        if (!gp_mul(value, 10, &value) ||
            !gp_add(value, (size_t)(*text->at++ - '0'), &value))
            return damaged(text, "a dimension that fits into memory");
    if (text->at == first)
        return damaged(text, "a dimension");
    *out = value;
    return GP_OK;
}

static gp_status
take_shape(gp_text *text, gp_npy *out)
{
    gp_status status;

    if (!take(text, "("))
        return damaged(text, "a tuple as the shape");
    for (out->dimensions = 0; !take(text, ")");) {
        if (out->dimensions == GP_NPY_DIMENSIONS)
            return gp_fail(GP_ERR_UNSUPPORTED, "%s: more than %d dimensions",
                           text->name, GP_NPY_DIMENSIONS);
        status = take_number(text, &out->shape[out->dimensions]);
        if (status != GP_OK)
            return status;
        out->dimensions++;
        if (!take(text, ",") && (text->at == text->end || *text->at != ')'))
            return damaged(text, "a closed tuple as the shape");
    }
    return GP_OK;
}

static gp_status
take_entry(gp_text *text, gp_npy *out, uint32_t *seen)
{
    uint32_t bit = 4;

    if (take(text, "'descr'"))
        bit = 1;
    else if (take(text, "'fortran_order'"))
        bit = 2;
    else if (!take(text, "'shape'"))
        return damaged(text, "the keys descr, fortran_order and shape alone");
    if ((*seen & bit) || !take(text, ":"))
        return damaged(text, "each key once, with a value");
    *seen |= bit;
    if (bit == 4)
        return take_shape(text, out);
    if (bit == 1 && !take(text, "'<f4'"))
        return gp_fail(GP_ERR_UNSUPPORTED,
                       "%s: its elements are not little-endian fp32; save "
                       "array.astype('<f4')",
                       text->name);
    if (bit == 2 && !take(text, "False"))
        return gp_fail(GP_ERR_UNSUPPORTED,
                       "%s: not in C order; save "
                       "numpy.ascontiguousarray(array)",
                       text->name);
    return GP_OK;
}

static gp_status
take_dict(gp_text *text, gp_npy *out)
{
    uint32_t seen = 0;

    if (!take(text, "{"))
        return damaged(text, "an opening brace");
    while (!take(text, "}")) {
        gp_status status = take_entry(text, out, &seen);

        if (status != GP_OK)
            return status;
        if (!take(text, ",") && (text->at == text->end || *text->at != '}'))
            return damaged(text, "a closing brace");
    }
    return seen == 7 ? GP_OK
                     : damaged(text, "one of descr, fortran_order and shape");
}

/* Where the header's text is, and the first byte behind it. */
static gp_status
locate(const uint8_t *bytes, size_t length, gp_text *text, size_t *data)
{
    size_t prefix, header;

    if (length < PREFIX_MAX || memcmp(bytes, "\x93NUMPY", 6) != 0)
        return gp_fail(GP_ERR_CORRUPT, "%s: not a .npy file", text->name);
    if (bytes[6] < 1 || bytes[6] > 3)
        return gp_fail(GP_ERR_UNSUPPORTED,
                       "%s: .npy version %u, 1 to 3 can be read", text->name,
                       bytes[6]);
    prefix = bytes[6] == 1 ? 10 : 12;
    header = (size_t)bytes[8] | (size_t)bytes[9] << 8;
    if (prefix == 12)
        header |= (size_t)bytes[10] << 16 | (size_t)bytes[11] << 24;
    if (header > length - prefix || header > HEADER_MAX)
        return gp_fail(GP_ERR_CORRUPT,
                       "%s: a .npy header of %zu bytes is longer than the file "
                       "or than %d bytes",
                       text->name, header, HEADER_MAX);
    text->at = (const char *)bytes + prefix;
    text->end = text->at + header;
    *data = prefix + header;
    return GP_OK;
}

gp_status
gp_npy_parse(const uint8_t *bytes, size_t length, uint64_t total,
             const char *name, gp_npy *out, size_t *data)
{
    gp_text text = {.name = name};
    size_t count = 1, size;
    gp_npy npy = {0};
    gp_status status = locate(bytes, length, &text, data);

    if (status == GP_OK)
        status = take_dict(&text, &npy);
    if (status != GP_OK)
        return status;
    for (uint32_t i = 0; i < npy.dimensions; i++)
        if (!gp_mul(count, npy.shape[i], &count))
            return damaged(&text, "a shape that fits into memory");
    if (!gp_mul(count, sizeof(float), &size) || !gp_add(size, *data, &size) ||
        size != total)
        return gp_fail(GP_ERR_CORRUPT,
                       "%s: the header promises %zu elements, and the file has "
                       "%llu bytes",
                       name, count, (unsigned long long)total);
    npy.count = count;
    *out = npy;
    return GP_OK;
}

static gp_status
read_open(FILE *file, const char *path, gp_npy *out)
{
    uint8_t head[HEADER_MAX + PREFIX_MAX];
    struct stat facts;
    gp_npy npy;
    size_t length, data = 0;
    gp_status status;

    if (fstat(fileno(file), &facts) != 0)
        return gp_fail_errno(GP_ERR_SYSTEM, errno, "%s", path);
    if (!S_ISREG(facts.st_mode))
        return gp_fail(GP_ERR_INVALID, "%s: not a regular file", path);
    length = fread(head, 1, sizeof(head), file);
    status =
        gp_npy_parse(head, length, (uint64_t)facts.st_size, path, &npy, &data);
    if (status != GP_OK)
        return status;
    npy.values = gp_alloc_aligned(npy.count * sizeof(float) + 1);
    if (!npy.values)
        return gp_fail(GP_ERR_NO_MEMORY, "no memory for %s", path);
    if (fseek(file, (long)data, SEEK_SET) != 0 ||
        fread(npy.values, sizeof(float), npy.count, file) != npy.count) {
        free(npy.values);
        return gp_fail(GP_ERR_SYSTEM, "%s: cannot read its elements", path);
    }
    *out = npy;
    return GP_OK;
}

gp_status
gp_npy_read(const char *path, gp_npy *out)
{
    FILE *file = fopen(path, "re");
    gp_status status;

    if (!file)
        return gp_fail_errno(GP_ERR_SYSTEM, errno, "cannot read '%s'", path);
    status = read_open(file, path, out);
    fclose(file);
    return status;
}
