/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_index.c - any bytes are indices in order, which pack and unpack to
 * themselves, or are refused.
 *
 * Input: stage (u8), SIMD level (u8), selected (u16), count (u32), then the
 * bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/bytes.h"
#include "compress/codec_internal.h"
#include "compress/index.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const gp_codec_ops *const stages[] = {&gp_codec_raw, &gp_codec_rice,
                                             &gp_codec_bitmap, &gp_codec_auto};

static void
require(int condition)
{
    if (!condition)
        abort();
}

static void *
need(void *memory)
{
    require(memory != NULL);
    return memory;
}

/* Packing gives the same bytes but for what a code leaves open: rice accepts
 * parameters that are not the best. */
static void
pack_again(const gp_codec_ops *ops, const uint32_t *indices, size_t selected,
           size_t count, size_t size)
{
    size_t bound = ops->index_bound(NULL, selected, count), length;
    uint32_t *back = need(malloc(4 * selected + 1));
    uint8_t *out = need(malloc(bound + 1));

    require(ops->pack_indices(NULL, indices, selected, count, out, bound,
                              &length) == GP_OK);
    require(length <= bound && length <= size);
    require(ops->unpack_indices(NULL, out, length, back, selected, count) ==
            GP_OK);
    require(memcmp(back, indices, 4 * selected) == 0);
    free(back);
    free(out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const gp_codec_ops *ops;
    size_t selected, count;
    uint32_t *indices;
    gp_status status;

    if (size < 8 || size > 65536)
        return 0;
    ops = stages[data[0] % GP_COUNT_OF(stages)];
    (void)gp_simd_set((gp_simd)(data[1] % GP_SIMD_LEVELS));
    selected = gp_get16(data + 2);
    count = gp_get32(data + 4);
    indices = need(malloc(4 * selected + 1));
    status =
        ops->unpack_indices(NULL, data + 8, size - 8, indices, selected, count);
    require(status == GP_OK || status == GP_ERR_CORRUPT);
    for (size_t i = 0; status == GP_OK && i < selected; i++)
        require(indices[i] < count && (i == 0 || indices[i] > indices[i - 1]));
    if (status == GP_OK)
        pack_again(ops, indices, selected, count, size - 8);
    free(indices);
    return 0;
}
