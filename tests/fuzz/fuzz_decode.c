/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_decode.c - any bytes decode or are refused, without a step outside.
 *
 * Input: pipeline (u8), SIMD level (u8), count (u16), then the bytes. They are
 * decoded as a message, and encoded as if they were elements and decoded back.
 * Buffers have their exact sizes, for the address sanitizer.
 */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/bytes.h"
#include "compress/codec_internal.h"
#include "tests/conformance/codec_residual.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const texts[] = {
    "none",
    "fp16",
    "bf16",
    "q8",
    "q8:block=32",
    "q8:block=96",
#ifdef GP_HAVE_LZ4
    "none+lz4",
    "q8:block=32+lz4",
    "fp16+lz4+lz4",
    "q8+lz4+lz4+lz4",
#endif
    "fp16:stochastic",
    "bf16:stratified",
    "q8:round=dither",
    "q8:round=stochastic,scale=bf16",
    "q4",
    "q4:round=dither,scale=bf16",
    "q2",
    "q2:block=96,dense=1",
    "fp8",
    "fp8:e5m2,scale=bf16",
    "mxfp8",
    "mxfp8:e5m2",
    "mxfp6",
    "mxfp6:e3m2",
    "mxfp4",
    "mxint8",
    "nvfp4",
    "nvfp4:stochastic",
    "topk:0.2+raw",
    "topk:0.1,scope=tensor+rice",
    "topk:0.3+q8:block=32+bitmap",
    "topk:0.05+fp16",
    "randk:0.3",
    "randk:0.6+q8",
    "threshold:1e-3+rice",
    "zeros:block=32",
    "zeros+q8",
    "intsum",
    "intsum:bits=4",
    "intsum:bits=16,round=stochastic",
    "thc:block=32",
    "thc:bits=2,levels=uniform",
    "powersgd:rank=1",
    "powersgd:rank=2,factors=fp16",
    "sign:block=32",
    "sign:block=0,scale=unit",
    "onebit:block=64",
    "vote:workers=5",
    "qsgd:block=32",
    "qsgd:levels=2,norm=max,block=64",
    "natural",
    "natural-dither:block=32",
    "terngrad",
    "hadamard:block=32+q8:block=32",
    "drive:block=64",
    "eden:bits=3,block=32",
};

/* Of the matrices that the elements are, for codecs that care. */
#define COLUMNS 9

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

/* decode and decode_add agree, also on what they refuse. */
static void
decode(const gp_pipeline *p, const uint8_t *bytes, size_t length, size_t count,
       void *workspace)
{
    float *decoded = need(malloc(4 * count + 1));
    float *sum = need(calloc(count + 1, 4));
    gp_codec_context context = {.seed = 1};
    gp_status a, b;

    a = gp_pipeline_decode(p, &context, bytes, length, decoded, count,
                           workspace);
    b = gp_pipeline_decode_add(p, &context, bytes, length, sum, count,
                               workspace);
    require(a == b && (a == GP_OK || a == GP_ERR_CORRUPT));
    for (size_t i = 0; i < count; i++) {
        if (a)
            require(sum[i] == 0);
        else if (decoded[i] == decoded[i])
            require(sum[i] == decoded[i]);
        else
            require(sum[i] != sum[i]);
    }
    free(decoded);
    free(sum);
}

/* What decodes adds up with itself to something that decodes as well. */
static void
aggregate(const gp_pipeline *p, const uint8_t *bytes, size_t length,
          size_t count, void *workspace)
{
    size_t bound = gp_pipeline_bound(p, count), used;
    float *decoded = need(malloc(4 * count + 1));
    uint8_t *out = need(malloc(bound + 1));
    gp_codec_context context = {.seed = 1, .size = 2};
    gp_codec_input input[2] = {{&context, bytes, length},
                               {&context, bytes, length}};
    gp_status status = gp_pipeline_decode(p, &context, bytes, length, decoded,
                                          count, workspace);
    gp_status sum =
        gp_pipeline_aggregate(p, input, 2, count, out, bound, &used, workspace);

    if (status != GP_OK)
        require(sum == status);
    else if (sum == GP_OK)
        require(gp_pipeline_decode(p, &context, out, used, decoded, count,
                                   workspace) == GP_OK);
    else
        require(sum == GP_ERR_TOO_LARGE);
    free(decoded);
    free(out);
}

static void
round_trip(const gp_pipeline *p, const uint8_t *bytes, size_t length,
           void *workspace)
{
    size_t count = length / 4, bound = gp_pipeline_bound(p, count), used;
    float *source = need(malloc(4 * count + 1));
    float *residual = need(calloc(count + 1, 4));
    uint8_t *out = need(malloc(bound + 1));
    gp_codec_context context = {.seed = 1};

    if (count)
        memcpy(source, bytes, 4 * count);
    require(gp_encode_residual(p, &context, source, residual, count, out, bound,
                               &used, workspace) == GP_OK);
    require(used <= bound);
    for (size_t i = 0; i < count; i++)
        require(residual[i] - residual[i] == 0);
    require(gp_pipeline_decode(p, &context, out, used, source, count,
                               workspace) == GP_OK);
    free(source);
    free(residual);
    free(out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static gp_pipeline *pipelines[GP_COUNT_OF(texts)];
    size_t which, count, room;
    gp_codec_shape shape = {0, COLUMNS};
    void *workspace;

    if (size < 4 || size > 65536)
        return 0;
    which = data[0] % GP_COUNT_OF(texts);
    if (!pipelines[which])
        require(gp_pipeline_open(texts[which], &shape, &pipelines[which]) ==
                GP_OK);
    (void)gp_simd_set((gp_simd)(data[1] % GP_SIMD_LEVELS));
    count = gp_get16(data + 2) % 4096;
    room = gp_pipeline_workspace(pipelines[which], GP_MAX(count, size / 4));
    workspace = need(gp_alloc_aligned(room + 1));
    decode(pipelines[which], data + 4, size - 4, count, workspace);
    if (gp_pipeline_needs(pipelines[which]) & GP_PIPELINE_AGGREGATES)
        aggregate(pipelines[which], data + 4, size - 4, count, workspace);
    round_trip(pipelines[which], data + 4, size - 4, workspace);
    free(workspace);
    return 0;
}
