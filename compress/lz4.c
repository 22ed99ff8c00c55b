/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lz4.c - the codec lz4: a byte stage through liblz4.
 *
 * Layout as in packer.h; packed data is one LZ4 block. The state lives in the
 * scratch: the library's own wrapper may use the heap. So does, for unpacking,
 * a copy of the data: a peer may write its message again meanwhile, and the
 * library does not promise to stand that.
 */
#ifdef GP_HAVE_LZ4
#include <lz4.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "compress/codec_internal.h"
#include "compress/packer.h"

typedef struct lz4_instance {
    gp_packer packer;
    int acceleration;
} lz4_instance;

static const gp_codec_param lz4_params[] = {
    {.name = "acceleration",
     .value = 1,
     .minimum = 1,
     .maximum = 65537,
     .integer = 1,
     .text = "higher is faster and packs less; as in LZ4_compress_fast"},
    {.name = NULL},
};

static size_t
lz4_shrink(const void *instance, const gp_codec_context *context,
           const void *source, size_t size, void *out, size_t room)
{
    int packed;

    if (size > LZ4_MAX_INPUT_SIZE)
        return 0;
    packed = LZ4_compress_fast_extState(
        context->scratch, source, out, (int)size, (int)room,
        ((const lz4_instance *)instance)->acceleration);
    return packed > 0 ? (size_t)packed : 0;
}

static bool
lz4_expand(const void *instance, const gp_codec_context *context,
           const void *bytes, size_t length, void *out, size_t size)
{
    (void)instance;
    if (size > LZ4_MAX_INPUT_SIZE)
        return false;
    memcpy(context->scratch, bytes, length);
    return LZ4_decompress_safe(context->scratch, out, (int)length, (int)size) ==
           (int)size;
}

static gp_status
lz4_open(const double *values, const gp_codec_shape *shape, void **instance)
{
    lz4_instance *z = calloc(1, sizeof(*z));

    (void)shape;
    if (!z)
        return gp_fail(GP_ERR_NO_MEMORY, "no memory for a codec");
    z->packer.shrink = lz4_shrink;
    z->packer.expand = lz4_expand;
    z->packer.name = "lz4";
    z->acceleration = (int)values[0];
    *instance = z;
    return GP_OK;
}

static size_t
lz4_scratch(const void *instance, size_t size)
{
    (void)instance;
    return GP_MAX((size_t)LZ4_sizeofState(), size);
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
    .bound = gp_packer_bound,
    .scratch = lz4_scratch,
    .pack = gp_packer_pack,
    .unpack = gp_packer_unpack,
};
#else
/* ISO C wants a declaration in every file. */
typedef int gp_lz4_is_absent;
#endif
