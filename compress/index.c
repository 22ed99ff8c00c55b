/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index.c - the index stages raw, rice, bitmap and auto.
 *
 * How many indices there are and what they are below, the message says
 * elsewhere; a decoder accepts exactly the bytes that stand for that many
 * ascending ones.
 */
#include <string.h>

#include "base/base.h"
#include "base/bytes.h"
#include "compress/bitlist.h"
#include "compress/index.h"
#include "compress/rice.h"

/* Modes of auto, by preference among equal sizes. */
enum { MODE_RAW = 0, MODE_RICE = 1, MODE_BITMAP = 2, MODES };

static size_t
bitmap_size(size_t count)
{
    return count / 8 + (count % 8 != 0);
}

/* raw: indices as u32. */

static size_t
raw_bound(const void *instance, size_t selected, size_t count)
{
    size_t bytes;

    (void)instance;
    (void)count;
    return gp_mul(selected, 4, &bytes) ? bytes : SIZE_MAX;
}

static void
raw_write(const uint32_t *indices, size_t selected, uint8_t *out)
{
    for (size_t i = 0; i < selected; i++)
        gp_put32(out + 4 * i, indices[i]);
}

static gp_status
raw_pack(const void *instance, const uint32_t *indices, size_t selected,
         size_t count, void *out, size_t capacity, size_t *length)
{
    size_t bound = raw_bound(instance, selected, count);

    if (bound == SIZE_MAX || capacity < bound)
        return GP_ERR_TOO_LARGE;
    raw_write(indices, selected, out);
    *length = bound;
    return GP_OK;
}

static bool
raw_read(const uint8_t *bytes, size_t length, uint32_t *indices,
         size_t selected, size_t count)
{
    uint32_t before = 0;
    bool ascending = true;

    if (length / 4 != selected || length % 4 != 0)
        return false;
    for (size_t i = 0; i < selected; i++) {
        uint32_t index = gp_get32(bytes + 4 * i);

        ascending &= index > before || i == 0;
        indices[i] = before = index;
    }
    return ascending && (selected == 0 || before < count);
}

static gp_status
raw_unpack(const void *instance, const void *bytes, size_t length,
           uint32_t *indices, size_t selected, size_t count)
{
    (void)instance;
    return raw_read(bytes, length, indices, selected, count) ? GP_OK
                                                             : GP_ERR_CORRUPT;
}

/* bitmap: index i is bit i & 7 of byte i >> 3. */

static size_t
bitmap_bound(const void *instance, size_t selected, size_t count)
{
    (void)instance;
    (void)selected;
    return bitmap_size(count);
}

static void
bitmap_write(const uint32_t *indices, size_t selected, size_t count,
             uint8_t *out)
{
    memset(out, 0, bitmap_size(count));
    for (size_t i = 0; i < selected; i++)
        out[indices[i] >> 3] =
            (uint8_t)(out[indices[i] >> 3] | 1u << (indices[i] & 7));
}

static gp_status
bitmap_pack(const void *instance, const uint32_t *indices, size_t selected,
            size_t count, void *out, size_t capacity, size_t *length)
{
    (void)instance;
    if (capacity < bitmap_size(count))
        return GP_ERR_TOO_LARGE;
    bitmap_write(indices, selected, count, out);
    *length = bitmap_size(count);
    return GP_OK;
}

static bool
bitmap_read(const uint8_t *bytes, size_t length, uint32_t *indices,
            size_t selected, size_t count)
{
    return length == bitmap_size(count) &&
           (count % 8 == 0 || bytes[length - 1] >> count % 8 == 0) &&
           gp_bitlist(bytes, count, 0, indices, selected) == selected;
}

static gp_status
bitmap_unpack(const void *instance, const void *bytes, size_t length,
              uint32_t *indices, size_t selected, size_t count)
{
    (void)instance;
    return bitmap_read(bytes, length, indices, selected, count)
               ? GP_OK
               : GP_ERR_CORRUPT;
}

/* rice: see rice.h. */

static size_t
rice_bound(const void *instance, size_t selected, size_t count)
{
    (void)instance;
    return gp_rice_bound(selected, count);
}

static gp_status
rice_pack(const void *instance, const uint32_t *indices, size_t selected,
          size_t count, void *out, size_t capacity, size_t *length)
{
    size_t bound = rice_bound(instance, selected, count);

    if (bound == SIZE_MAX || capacity < bound)
        return GP_ERR_TOO_LARGE;
    *length = gp_rice_write(indices, selected, out, capacity);
    return GP_OK;
}

static gp_status
rice_unpack(const void *instance, const void *bytes, size_t length,
            uint32_t *indices, size_t selected, size_t count)
{
    (void)instance;
    return gp_rice_read(bytes, length, indices, selected, count)
               ? GP_OK
               : GP_ERR_CORRUPT;
}

/* auto: mode (u8), then what that one writes. */

static size_t
auto_bound(const void *instance, size_t selected, size_t count)
{
    size_t rice = gp_rice_bound(selected, count), bytes;

    (void)instance;
    return gp_add(rice, 1, &bytes) ? bytes : SIZE_MAX;
}

static gp_status
auto_pack(const void *instance, const uint32_t *indices, size_t selected,
          size_t count, void *out, size_t capacity, size_t *length)
{
    size_t bound = auto_bound(instance, selected, count), best = 0;
    size_t sizes[MODES] = {4 * selected, 0, bitmap_size(count)};
    uint8_t *bytes = out;

    if (bound == SIZE_MAX || capacity < bound)
        return GP_ERR_TOO_LARGE;
    /* Where the bound of rice is the smallest, so are its codes. */
    if (bound - 1 < sizes[MODE_RAW] && bound - 1 <= sizes[MODE_BITMAP]) {
        bytes[0] = MODE_RICE;
        *length = 1 + gp_rice_write(indices, selected, bytes + 1, capacity - 1);
        return GP_OK;
    }
    sizes[MODE_RICE] = gp_rice_size(indices, selected);
    for (size_t mode = 1; mode < MODES; mode++)
        if (sizes[mode] < sizes[best])
            best = mode;
    bytes[0] = (uint8_t)best;
    if (best == MODE_RAW)
        raw_write(indices, selected, bytes + 1);
    else if (best == MODE_RICE)
        (void)gp_rice_write(indices, selected, bytes + 1, capacity - 1);
    else
        bitmap_write(indices, selected, count, bytes + 1);
    *length = 1 + sizes[best];
    return GP_OK;
}

static gp_status
auto_unpack(const void *instance, const void *bytes, size_t length,
            uint32_t *indices, size_t selected, size_t count)
{
    static bool (*const read[MODES])(const uint8_t *, size_t, uint32_t *,
                                     size_t, size_t) = {raw_read, gp_rice_read,
                                                        bitmap_read};
    const uint8_t *from = bytes;
    uint8_t mode = length ? gp_once8(from) : MODES;

    (void)instance;
    if (mode >= MODES)
        return GP_ERR_CORRUPT;
    return read[mode](from + 1, length - 1, indices, selected, count)
               ? GP_OK
               : GP_ERR_CORRUPT;
}

#define INDEX_OPS(called, described)         \
    const gp_codec_ops gp_codec_##called = { \
        .abi = GP_CODEC_ABI,                 \
        .kind = GP_CODEC_INDEX,              \
        .properties = GP_CODEC_LOSSLESS,     \
        .nonfinite = GP_NONFINITE_EXACT,     \
        .name = #called,                     \
        .text = described,                   \
        .index_bound = called##_bound,       \
        .pack_indices = called##_pack,       \
        .unpack_indices = called##_unpack,   \
    }

INDEX_OPS(raw, "indices as 32-bit integers");
INDEX_OPS(rice, "gaps between indices, adaptive Rice code");
INDEX_OPS(bitmap, "one bit per element: selected or not");
INDEX_OPS(auto, "the smallest of raw, rice and bitmap");
