/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lz4.c - the codec lz4: a byte stage through liblz4.
 *
 * Layout: mode (u8: 0 stored, 1 LZ4 block), unpacked size (u64), data. Mode 1
 * appears only where it is smaller than mode 0, hence the bound of size + 9.
 * The unpacked size is checked against the caller's capacity before a byte is
 * written, so a small message cannot ask for a large buffer.
 */
#ifdef GP_HAVE_LZ4
#include <limits.h>
#include <lz4.h>
#include <stdlib.h>

#include "base/base.h"
#include "base/bytes.h"
#include "compress/codec_internal.h"

#define LZ4_HEAD 9

enum { MODE_STORED = 0, MODE_LZ4 = 1 };

typedef struct lz4_instance {
    int acceleration;
} lz4_instance;

static const gp_codec_param lz4_params[] = {
    {"acceleration", 1, 1, 65537, 1,
     "higher is faster and packs less; as in LZ4_compress_fast", NULL},
    {NULL, 0, 0, 0, 0, NULL, NULL},
};

static gp_status
lz4_open(const double *values, const gp_codec_shape *shape, void **instance)
{
    lz4_instance *z = malloc(sizeof(*z));

    (void)shape;
    if (!z)
        return gp_fail(GP_ERR_NO_MEMORY, "no memory for a codec");
    z->acceleration = (int)values[0];
    *instance = z;
    return GP_OK;
}

static size_t
lz4_bound(const void *instance, size_t size)
{
    size_t bytes;

    (void)instance;
    return gp_add(size, LZ4_HEAD, &bytes) ? bytes : SIZE_MAX;
}

/* Packed size, or 0 when it would not be smaller than the source. The state
 * lives on the stack (16 KiB): the library's own wrapper may use the heap. */
static size_t
lz4_shrink(const lz4_instance *z, const void *source, size_t size, void *out)
{
    LZ4_stream_t state;
    int packed;

    if (size < 2 || size > LZ4_MAX_INPUT_SIZE)
        return 0;
    packed = LZ4_compress_fast_extState(&state, source, out, (int)size,
                                        (int)size - 1, z->acceleration);
    return packed > 0 ? (size_t)packed : 0;
}

static gp_status
lz4_pack(const void *instance, const gp_codec_context *context,
         const void *source, size_t size, void *out, size_t capacity,
         size_t *length)
{
    uint8_t *bytes = out;
    size_t bound = lz4_bound(instance, size), packed;

    (void)context;
    if (bound == SIZE_MAX || capacity < bound)
        return GP_ERR_TOO_LARGE;
    packed = lz4_shrink(instance, source, size, bytes + LZ4_HEAD);
    bytes[0] = packed ? MODE_LZ4 : MODE_STORED;
    gp_put64(bytes + 1, size);
    if (!packed && size)
        memcpy(bytes + LZ4_HEAD, source, size);
    *length = LZ4_HEAD + (packed ? packed : size);
    return GP_OK;
}

static gp_status
lz4_unpack(const void *instance, const gp_codec_context *context,
           const void *bytes, size_t size, void *out, size_t capacity,
           size_t *length)
{
    gp_reader r = {bytes, size, true};
    uint8_t mode = gp_read8(&r);
    uint64_t unpacked = gp_read64(&r);

    (void)context;
    (void)instance;
    if (!r.ok || unpacked > capacity)
        return GP_ERR_CORRUPT;
    if (mode == MODE_STORED) {
        if (r.left != unpacked)
            return GP_ERR_CORRUPT;
        if (unpacked)
            memcpy(out, r.at, r.left);
    } else if (mode == MODE_LZ4) {
        if (unpacked > LZ4_MAX_INPUT_SIZE || r.left >= unpacked ||
            LZ4_decompress_safe((const char *)r.at, out, (int)r.left,
                                (int)unpacked) != (int)unpacked)
            return GP_ERR_CORRUPT;
    } else {
        return GP_ERR_CORRUPT;
    }
    *length = (size_t)unpacked;
    return GP_OK;
}

const gp_codec_ops gp_codec_lz4 = {
    .abi = GP_CODEC_ABI,
    .kind = GP_CODEC_BYTES,
    .properties = GP_CODEC_LOSSLESS,
    .nonfinite = GP_NONFINITE_EXACT,
    .name = "lz4",
    .text = "LZ4 blocks; stores what does not shrink",
    .params = lz4_params,
    .open = lz4_open,
    .close = free,
    .bound = lz4_bound,
    .pack = lz4_pack,
    .unpack = lz4_unpack,
};
#else
/* ISO C wants a declaration in every file. */
typedef int gp_lz4_is_absent;
#endif
