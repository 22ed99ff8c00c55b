/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_decode.c - any bytes decode or are refused, without a step outside, and
 * all ways of decoding agree.
 *
 * Input: pipeline (u16, an index of tests/conformance/pipelines.c), mode (u8:
 * SIMD level, then what to do), count (u16), then the bytes. Buffers have their
 * exact sizes, for the address sanitizer; the workspace begins with bytes that
 * differ from run to run, for what reads before it writes.
 */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/bytes.h"
#include "tests/fuzz/pipeline_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEAD 5

typedef struct message {
    const gp_pipeline *pipeline;
    const uint8_t *bytes;
    size_t length, count;
    void *workspace;
} message;

static const gp_codec_context context = {
    .seed = 1, .size = 3, .rank = 1, .shared = 0.5f};

static float *
floats(size_t count)
{
    return gp_fuzz_need(malloc(4 * count + 1));
}

static gp_status
decode(const message *m, float *target)
{
    gp_status status =
        gp_pipeline_decode(m->pipeline, &context, m->bytes, m->length, target,
                           m->count, m->workspace);

    gp_fuzz_require(status == GP_OK || status == GP_ERR_CORRUPT);
    return status;
}

/* decode_add to zeros gives what decode does, or leaves them alone. */
static void
try_add(const message *m)
{
    float *decoded = floats(m->count), *sum = floats(m->count);
    gp_status a = decode(m, decoded), b;

    memset(sum, 0, 4 * m->count);
    b = gp_pipeline_decode_add(m->pipeline, &context, m->bytes, m->length, sum,
                               m->count, m->workspace);
    gp_fuzz_require(a == b);
    for (size_t i = 0; i < m->count; i++) {
        if (a)
            gp_fuzz_require(sum[i] == 0);
        else if (decoded[i] == decoded[i])
            gp_fuzz_require(sum[i] == decoded[i]);
        else
            gp_fuzz_require(sum[i] != sum[i]);
    }
    free(decoded);
    free(sum);
}

/* A fold of the message with itself and itself is two additions. */
static void
try_fold(const message *m)
{
    const gp_codec_input one = {&context, m->bytes, m->length};
    const gp_codec_input three[3] = {one, one, one};
    float *folded = floats(m->count), *sum = floats(m->count);
    gp_status a = decode(m, sum), b;

    b = gp_pipeline_fold(m->pipeline, three, 3, 0, folded, m->count,
                         m->workspace);
    gp_fuzz_require(a == b);
    for (int i = 0; a == GP_OK && i < 2; i++)
        gp_fuzz_require(gp_pipeline_decode_add(m->pipeline, &context, m->bytes,
                                               m->length, sum, m->count,
                                               m->workspace) == GP_OK);
    for (size_t i = 0; a == GP_OK && i < m->count; i++)
        gp_fuzz_require(memcmp(&sum[i], &folded[i], 4) == 0 ||
                        (sum[i] != sum[i] && folded[i] != folded[i]));
    free(folded);
    free(sum);
}

/* What two messages are summed to decodes. */
static void
try_aggregate(const message *m)
{
    const gp_codec_input one = {&context, m->bytes, m->length};
    const gp_codec_input two[2] = {one, one};
    size_t bound = gp_pipeline_bound(m->pipeline, m->count), length;
    float *target = floats(m->count);
    uint8_t *out;
    message sum = *m;

    if (!(gp_pipeline_needs(m->pipeline) & GP_PIPELINE_AGGREGATES)) {
        (void)decode(m, target);
        free(target);
        return;
    }
    out = gp_fuzz_need(malloc(bound + 1));
    if (gp_pipeline_aggregate(m->pipeline, two, 2, m->count, out, bound,
                              &length, m->workspace) == GP_OK) {
        gp_fuzz_require(length <= bound);
        sum.bytes = out;
        sum.length = length;
        gp_fuzz_require(decode(&sum, target) == GP_OK);
    }
    free(out);
    free(target);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const tries[])(const message *) = {try_add, try_fold, try_add,
                                                     try_aggregate};
    message m;
    size_t room;

    if (size < HEAD || size > 65536)
        return 0;
    m = (message){.pipeline = gp_fuzz_pipeline(gp_get16(data)),
                  .bytes = data + HEAD,
                  .length = size - HEAD,
                  .count = gp_fuzz_count(gp_get16(data + 3))};
    room = gp_pipeline_workspace(m.pipeline, m.count);
    m.workspace = gp_fuzz_need(gp_alloc_aligned(room + 1));
    memset(m.workspace, data[size - 1] | 1, GP_MIN(room, (size_t)1024));
    gp_fuzz_level(data[2] & 3);
    tries[data[2] >> 2 & 3](&m);
    free(m.workspace);
    return 0;
}
