/* SPDX-License-Identifier: Apache-2.0 */
/*
 * safetensors_write.c - writes safetensors files.
 *
 * Values are written as they lie in memory, which is the format's byte order
 * on the machines this is built for.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "atomic_file.h"
#include "safetensors.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "safetensors are little endian");

static uint64_t
item_bytes(const gt_st_item *item)
{
    uint64_t bytes = sizeof(float);

    for (size_t i = 0; i < item->dims; i++)
        bytes *= item->shape[i];
    return bytes;
}

static json_t *
describe(const gt_st_item *item, uint64_t begin)
{
    json_t *shape = json_array();

    for (size_t i = 0; i < item->dims; i++)
        json_array_append_new(shape, json_integer((json_int_t)item->shape[i]));
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", "F32", "shape", shape,
                     "data_offsets", (json_int_t)begin,
                     (json_int_t)(begin + item_bytes(item)));
}

/* The header as text, padded with spaces to a multiple of 8. */
static char *
make_header(const gt_st_item *items, size_t count, const gt_st_text *texts,
            size_t text_count, size_t *length)
{
    json_t *root = json_object(), *metadata = json_object();
    uint64_t at = 0;
    char *text, *padded = NULL;
    size_t n;

    json_object_set_new(metadata, GT_ST_CHECKSUM,
                        json_string("crc32c:00000000"));
    for (size_t i = 0; i < text_count; i++)
        json_object_set_new(metadata, texts[i].key,
                            json_string(texts[i].value));
    json_object_set_new(root, "__metadata__", metadata);
    for (size_t i = 0; i < count; i++) {
        json_object_set_new(root, items[i].name, describe(&items[i], at));
        at += item_bytes(&items[i]);
    }
    text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    n = text ? strlen(text) : 0;
    *length = (n + 7) / 8 * 8;
    if (text)
        padded = malloc(*length);
    if (padded) {
        memset(padded, ' ', *length);
        memcpy(padded, text, n);
    }
    free(text);
    return padded;
}

/* Until here its digits are zeros. */
static void
put_checksum(char *header, size_t length, const struct iovec *parts,
             size_t count)
{
    static const char prefix[] = GT_ST_CHECKSUM_PREFIX;
    char *at = memmem(header, length, prefix, sizeof(prefix) - 1);
    char digits[GT_ST_CHECKSUM_DIGITS + 1];
    uint32_t crc = 0;

    for (size_t i = 0; i < count; i++)
        crc = gp_crc32c(crc, parts[i].iov_base, parts[i].iov_len);
    snprintf(digits, sizeof(digits), "%08x", crc);
    memcpy(at + sizeof(prefix) - 1, digits, GT_ST_CHECKSUM_DIGITS);
}

gp_status
gt_st_write(const char *path, const gt_st_item *items, size_t count,
            const gt_st_text *texts, size_t text_count)
{
    size_t length = 0;
    char *header = make_header(items, count, texts, text_count, &length);
    struct iovec *parts = calloc(count + 2, sizeof(*parts));
    uint8_t prefix[8];
    gp_status status;

    if (!header || !parts) {
        free(header);
        free(parts);
        return gt_fail(GP_ERR_NO_MEMORY, "out of memory writing %s", path);
    }
    for (int i = 0; i < 8; i++)
        prefix[i] = (uint8_t)((uint64_t)length >> (8 * i));
    parts[0] = (struct iovec){prefix, sizeof(prefix)};
    parts[1] = (struct iovec){header, length};
    for (size_t i = 0; i < count; i++)
        parts[i + 2] = (struct iovec){(void *)(uintptr_t)items[i].values,
                                      (size_t)item_bytes(&items[i])};
    put_checksum(header, length, parts, count + 2);
    status = gt_atomic_write(path, parts, count + 2);
    free(header);
    free(parts);
    return status;
}
