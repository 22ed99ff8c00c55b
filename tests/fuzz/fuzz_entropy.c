/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_entropy.c - uq and the byte stages on any bytes, in messages long enough
 * for the vector loops.
 *
 * Input: codec (u8), SIMD level (u8), copies (u8; above 239: as many as make a
 * long message), count (u24), then bytes. A
 * codec unpacks or decodes the bytes as they are, alike at that level and at
 * the scalar one; then it takes them, repeated, as content, and must give that
 * back; then one byte of what it wrote is changed and goes in again.
 */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/bytes.h"
#include "compress/codec_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HEAD = 6, MANY = 70000, FEW = 2048 };

static const struct {
    const gp_codec_ops *ops;
    double values[3];
} codecs[] = {
    {&gp_codec_uq, {1, 0, 0}},   {&gp_codec_uq, {0.03125, 1, 0}},
    {&gp_codec_uq, {4, 2, 0}},   {&gp_codec_uq, {0.5, 3, 0}},
    {&gp_codec_ans, {0}},        {&gp_codec_shuffle, {2}},
    {&gp_codec_shuffle, {4}},    {&gp_codec_shuffle, {5}},
    {&gp_codec_bitshuffle, {4}}, {&gp_codec_bitshuffle, {3}},
#ifdef GP_HAVE_LZ4
    {&gp_codec_lz4, {1}},
#endif
#ifdef GP_HAVE_ZSTD
    {&gp_codec_zstd, {1}},
#endif
};

typedef struct subject {
    const gp_codec_ops *ops;
    void *instance;
    gp_codec_context context;
    gp_simd level;
} subject;

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

static bool
is_array(const subject *s)
{
    return s->ops->kind == GP_CODEC_ARRAY;
}

/* Decodes to `count` elements or unpacks to at most that many bytes. */
static gp_status
take(subject *s, gp_simd level, const uint8_t *bytes, size_t length, void *out,
     size_t *count)
{
    (void)gp_simd_set(level);
    if (is_array(s))
        return s->ops->decode(s->instance, &s->context, bytes, length, out,
                              *count);
    return s->ops->unpack(s->instance, &s->context, bytes, length, out, *count,
                          count);
}

/* Both levels agree; returns what they say. */
static gp_status
take_both(subject *s, const uint8_t *bytes, size_t length, size_t count)
{
    size_t width = is_array(s) ? sizeof(float) : 1, got[2] = {count, count};
    uint8_t *copy = need(malloc(length + 1));
    uint8_t *out[2] = {need(calloc(count + 1, width)),
                       need(calloc(count + 1, width))};
    gp_status a, b;

    if (length)
        memcpy(copy, bytes, length);
    a = take(s, GP_SIMD_SCALAR, copy, length, out[0], &got[0]);
    b = take(s, s->level, copy, length, out[1], &got[1]);
    require(a == b && (a == GP_OK || a == GP_ERR_CORRUPT));
    require(a ||
            (got[0] == got[1] && memcmp(out[0], out[1], got[0] * width) == 0));
    free(copy);
    free(out[0]);
    free(out[1]);
    return a;
}

/* What a codec writes from the bytes, which it must read again. */
static uint8_t *
give(subject *s, const uint8_t *bytes, size_t size, size_t *length)
{
    size_t count = is_array(s) ? size / sizeof(float) : size;
    size_t bound = s->ops->bound(s->instance, count);
    void *content = need(malloc(size + 1));
    uint8_t *out = need(malloc(bound + 1));

    if (size)
        memcpy(content, bytes, size);
    (void)gp_simd_set(s->level);
    if (is_array(s))
        require(s->ops->encode(s->instance, &s->context, content, count, out,
                               bound, length) == GP_OK);
    else
        require(s->ops->pack(s->instance, &s->context, content, size, out,
                             bound, length) == GP_OK);
    require(*length <= bound);
    require(take_both(s, out, *length, count) == GP_OK);
    free(content);
    return out;
}

static void
set_scratch(subject *s, size_t size)
{
    size_t count = is_array(s) ? size / sizeof(float) + 1 : size;

    if (s->ops->scratch)
        s->context.scratch =
            need(gp_alloc_aligned(s->ops->scratch(s->instance, count) + 1));
}

static void
run(subject *s, const uint8_t *data, size_t size)
{
    bool long_one = data[2] >= 240;
    size_t count = (gp_get32(data + 2) >> 8) % (long_one ? MANY : FEW);
    size_t body = size - HEAD, copies = 1 + data[2] % 8, length;
    const uint8_t *bytes = data + HEAD;
    uint8_t *content, *message;

    if (long_one && body)
        copies = 1 + MANY * sizeof(float) / body;
    set_scratch(s, GP_MAX(count * sizeof(float), copies * body));
    (void)take_both(s, bytes, body, count);
    content = need(malloc(copies * body + 1));
    for (size_t i = 0; body && i < copies; i++)
        memcpy(content + i * body, bytes, body);
    message = give(s, content, copies * body, &length);
    if (length) {
        message[count % length] ^= (uint8_t)(1 + data[0]);
        (void)take_both(s, message, length,
                        copies * body / (is_array(s) ? sizeof(float) : 1));
    }
    free(message);
    free(content);
    free(s->context.scratch);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void *instances[GP_COUNT_OF(codecs)];
    static const gp_codec_shape no_shape = {0, 0};
    size_t which;
    subject s;

    if (size < HEAD || size > 65536)
        return 0;
    which = data[0] % GP_COUNT_OF(codecs);
    s = (subject){.ops = codecs[which].ops,
                  .context = {.seed = 1, .rank = 1, .size = 3},
                  .level = (gp_simd)(data[1] % GP_SIMD_LEVELS)};
    if (!instances[which])
        require(s.ops->open(codecs[which].values, &no_shape,
                            &instances[which]) == GP_OK);
    s.instance = instances[which];
    run(&s, data, size);
    return 0;
}
