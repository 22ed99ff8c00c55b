/* SPDX-License-Identifier: Apache-2.0 */
/*
 * zstd.c - the codec zstd: a byte stage through libzstd.
 *
 * Layout as in packer.h; packed data is one zstd frame. The library's contexts
 * are built in the scratch, which has what the library says it needs, so that
 * nothing is allocated. A context that does not fit after all stores raw.
 * Behind it is room for a copy of what is unpacked: a peer may write its
 * message again meanwhile, and the library does not promise to stand that.
 */
#ifdef GP_HAVE_ZSTD
#define ZSTD_STATIC_LINKING_ONLY
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "base/base.h"
#include "compress/codec_internal.h"
#include "compress/packer.h"

typedef struct zstd_instance {
    gp_packer packer;
    int level;
    size_t scratch;
} zstd_instance;

static const gp_codec_param zstd_params[] = {
    {.name = "level",
     .value = 1,
     .minimum = -7,
     .maximum = 9,
     .integer = 1,
     .text = "higher packs more and is slower; below 1 is faster yet"},
    {.name = NULL},
};

static size_t
zstd_shrink(const void *instance, const gp_codec_context *context,
            const void *source, size_t size, void *out, size_t room)
{
    const zstd_instance *z = instance;
    ZSTD_CCtx *c = ZSTD_initStaticCCtx(context->scratch, z->scratch);
    size_t packed;

    if (!c)
        return 0;
    packed = ZSTD_compressCCtx(c, out, room, source, size, z->level);
    return ZSTD_isError(packed) ? 0 : packed;
}

static bool
zstd_expand(const void *instance, const gp_codec_context *context,
            const void *bytes, size_t length, void *out, size_t size)
{
    const zstd_instance *z = instance;
    ZSTD_DCtx *d = ZSTD_initStaticDCtx(context->scratch, z->scratch);

    uint8_t *copy = (uint8_t *)context->scratch + z->scratch;

    if (!d)
        return false;
    memcpy(copy, bytes, length);
    return ZSTD_findFrameCompressedSize(copy, length) == length &&
           ZSTD_decompressDCtx(d, out, size, copy, length) == size;
}

static gp_status
zstd_open(const double *values, const gp_codec_shape *shape, void **instance)
{
    zstd_instance *z = calloc(1, sizeof(*z));

    (void)shape;
    if (!z)
        return gp_fail(GP_ERR_NO_MEMORY, "no memory for a codec");
    z->packer.shrink = zstd_shrink;
    z->packer.expand = zstd_expand;
    z->packer.name = "zstd";
    z->level = (int)values[0];
    z->scratch =
        GP_MAX(ZSTD_estimateCCtxSize(z->level), ZSTD_estimateDCtxSize());
    *instance = z;
    return GP_OK;
}

static size_t
zstd_scratch(const void *instance, size_t size)
{
    size_t bytes;

    return gp_add(((const zstd_instance *)instance)->scratch, size, &bytes)
               ? bytes
               : SIZE_MAX;
}

const gp_codec_ops gp_codec_zstd = {
    .abi = GP_CODEC_ABI,
    .kind = GP_CODEC_BYTES,
    .properties = GP_CODEC_LOSSLESS,
    .nonfinite = GP_NONFINITE_EXACT,
    .name = "zstd",
    .text = "Zstandard frames; stores what does not shrink",
    .params = zstd_params,
    .open = zstd_open,
    .close = free,
    .bound = gp_packer_bound,
    .scratch = zstd_scratch,
    .pack = gp_packer_pack,
    .unpack = gp_packer_unpack,
};
#else
/* ISO C wants a declaration in every file. */
typedef int gp_zstd_is_absent;
#endif
