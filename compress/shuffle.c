/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shuffle.c - the codecs shuffle and bitshuffle: bytes, or bits, of one place
 * in each element lie together, so that a stage behind them finds what is
 * alike. The size stays; the layout has no head.
 *
 *     shuffle     byte 0 of every element, byte 1 of every element, ...; then
 *                 what is left over from the last whole element
 *     bitshuffle  with n a multiple of 8 elements: bit 0 of byte 0 of every
 *                 element, bit 1, ..., bit 0 of byte 1, ...; n / 8 bytes each;
 *                 then what is left over
 */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "compress/codec_internal.h"
#include "compress/shuffle.h"

#define TOGETHER 512 /* elements per turn of bitshuffle: whole cache lines */

static const gp_codec_param shuffle_params[] = {
    {.name = "width",
     .value = 4,
     .minimum = 2,
     .maximum = GP_SHUFFLE_WIDEST,
     .integer = 1,
     .text = "bytes of an element"},
    {.name = NULL},
};

static void
split_from(const uint8_t *source, size_t width, size_t i, size_t n,
           uint8_t *planes, size_t apart)
{
    for (size_t b = 0; b < width; b++)
        for (size_t k = i; k < n; k++)
            planes[b * apart + k] = source[k * width + b];
}

static void
join_from(const uint8_t *planes, size_t apart, size_t width, size_t i, size_t n,
          uint8_t *out)
{
    for (size_t b = 0; b < width; b++)
        for (size_t k = i; k < n; k++)
            out[k * width + b] = planes[b * apart + k];
}

void
gp_shuffle_split(const uint8_t *source, size_t width, size_t n, uint8_t *planes,
                 size_t apart)
{
    size_t done = 0;

#if defined(__x86_64__)
    if (gp_simd_get() >= GP_SIMD_AVX2)
        done = gp_shuffle_split_avx2(source, width, n, planes, apart);
#endif
    split_from(source, width, done, n, planes, apart);
}

void
gp_shuffle_join(const uint8_t *planes, size_t apart, size_t width, size_t n,
                uint8_t *out)
{
    size_t done = 0;

#if defined(__x86_64__)
    if (gp_simd_get() >= GP_SIMD_AVX2)
        done = gp_shuffle_join_avx2(planes, apart, width, n, out);
#endif
    join_from(planes, apart, width, done, n, out);
}

/* The transpose of an 8 x 8 matrix of bits, by swapping blocks of 1, 2, 4. */
static uint64_t
transpose(uint64_t x)
{
    uint64_t t = (x ^ x >> 7) & 0x00aa00aa00aa00aau;

    x ^= t ^ t << 7;
    t = (x ^ x >> 14) & 0x0000cccc0000ccccu;
    x ^= t ^ t << 14;
    t = (x ^ x >> 28) & 0x00000000f0f0f0f0u;
    return x ^ t ^ t << 28;
}

static void
bits_split_from(const uint8_t *source, size_t i, size_t n, uint8_t *planes,
                size_t apart)
{
    for (; i < n; i += 8) {
        uint64_t x = 0;

        for (unsigned j = 0; j < 8; j++)
            x |= (uint64_t)source[i + j] << 8 * j;
        x = transpose(x);
        for (unsigned k = 0; k < 8; k++)
            planes[k * apart + i / 8] = (uint8_t)(x >> 8 * k);
    }
}

static void
bits_join_from(const uint8_t *planes, size_t apart, size_t i, size_t n,
               uint8_t *out)
{
    for (; i < n; i += 8) {
        uint64_t x = 0;

        for (unsigned k = 0; k < 8; k++)
            x |= (uint64_t)planes[k * apart + i / 8] << 8 * k;
        x = transpose(x);
        for (unsigned j = 0; j < 8; j++)
            out[i + j] = (uint8_t)(x >> 8 * j);
    }
}

void
gp_bits_split(const uint8_t *source, size_t n, uint8_t *planes, size_t apart)
{
    size_t done = 0;

#if defined(__x86_64__)
    if (gp_simd_get() >= GP_SIMD_AVX512)
        done = gp_bits_split_avx512(source, n, planes, apart);
    else if (gp_simd_get() >= GP_SIMD_AVX2)
        done = gp_bits_split_avx2(source, n, planes, apart);
#endif
    bits_split_from(source, done, n, planes, apart);
}

void
gp_bits_join(const uint8_t *planes, size_t apart, size_t n, uint8_t *out)
{
    size_t done = 0;

#if defined(__x86_64__)
    if (gp_simd_get() >= GP_SIMD_AVX512)
        done = gp_bits_join_avx512(planes, apart, n, out);
    else if (gp_simd_get() >= GP_SIMD_AVX2)
        done = gp_bits_join_avx2(planes, apart, n, out);
#endif
    bits_join_from(planes, apart, done, n, out);
}

/* ---- the stages --------------------------------------------------------- */

typedef struct shuffle_instance {
    size_t width;
} shuffle_instance;

static gp_status
shuffle_open(const double *values, const gp_codec_shape *shape, void **instance)
{
    shuffle_instance *s = malloc(sizeof(*s));

    (void)shape;
    if (!s)
        return gp_fail(GP_ERR_NO_MEMORY, "no memory for a codec");
    s->width = (size_t)values[0];
    *instance = s;
    return GP_OK;
}

static size_t
shuffle_bound(const void *instance, size_t size)
{
    (void)instance;
    return size;
}

static void
copy_rest(const uint8_t *from, size_t done, size_t size, uint8_t *to)
{
    if (size > done)
        memcpy(to + done, from + done, size - done);
}

static gp_status
shuffle_pack(const void *instance, const gp_codec_context *context,
             const void *source, size_t size, void *out, size_t capacity,
             size_t *length)
{
    size_t width = ((const shuffle_instance *)instance)->width;
    size_t n = size / width;

    (void)context;
    if (capacity < size)
        return GP_ERR_TOO_LARGE;
    gp_shuffle_split(source, width, n, out, n);
    copy_rest(source, n * width, size, out);
    *length = size;
    return GP_OK;
}

static gp_status
shuffle_unpack(const void *instance, const gp_codec_context *context,
               const void *bytes, size_t size, void *out, size_t capacity,
               size_t *length)
{
    size_t width = ((const shuffle_instance *)instance)->width;
    size_t n = size / width;

    (void)context;
    if (capacity < size)
        return GP_ERR_CORRUPT;
    gp_shuffle_join(bytes, n, width, n, out);
    copy_rest(bytes, n * width, size, out);
    *length = size;
    return GP_OK;
}

static gp_status
bitshuffle_pack(const void *instance, const gp_codec_context *context,
                const void *source, size_t size, void *out, size_t capacity,
                size_t *length)
{
    size_t width = ((const shuffle_instance *)instance)->width;
    size_t n = size / width / 8 * 8;
    const uint8_t *from = source;
    uint8_t bytes[TOGETHER * GP_SHUFFLE_WIDEST], lines[TOGETHER], *to = out;

    (void)context;
    if (capacity < size)
        return GP_ERR_TOO_LARGE;
    for (size_t at = 0; at < n; at += TOGETHER) {
        size_t some = GP_MIN(n - at, (size_t)TOGETHER), line = some / 8;

        gp_shuffle_split(from + at * width, width, some, bytes, some);
        for (size_t b = 0; b < width; b++) {
            gp_bits_split(bytes + b * some, some, lines, line);
            for (size_t k = 0; k < 8; k++)
                memcpy(to + (8 * b + k) * (n / 8) + at / 8, lines + k * line,
                       line);
        }
    }
    copy_rest(source, n * width, size, out);
    *length = size;
    return GP_OK;
}

static gp_status
bitshuffle_unpack(const void *instance, const gp_codec_context *context,
                  const void *source, size_t size, void *out, size_t capacity,
                  size_t *length)
{
    size_t width = ((const shuffle_instance *)instance)->width;
    size_t n = size / width / 8 * 8;
    const uint8_t *from = source;
    uint8_t bytes[TOGETHER * GP_SHUFFLE_WIDEST], *to = out;

    (void)context;
    if (capacity < size)
        return GP_ERR_CORRUPT;
    for (size_t at = 0; at < n; at += TOGETHER) {
        size_t some = GP_MIN(n - at, (size_t)TOGETHER);

        for (size_t b = 0; b < width; b++)
            gp_bits_join(from + b * n + at / 8, n / 8, some, bytes + b * some);
        gp_shuffle_join(bytes, some, width, some, to + at * width);
    }
    copy_rest(source, n * width, size, out);
    *length = size;
    return GP_OK;
}

const gp_codec_ops gp_codec_shuffle = {
    .abi = GP_CODEC_ABI,
    .kind = GP_CODEC_BYTES,
    .properties = GP_CODEC_LOSSLESS | GP_CODEC_FIXED_RATE,
    .nonfinite = GP_NONFINITE_EXACT,
    .name = "shuffle",
    .text = "puts bytes of one place of all elements together",
    .params = shuffle_params,
    .open = shuffle_open,
    .close = free,
    .bound = shuffle_bound,
    .pack = shuffle_pack,
    .unpack = shuffle_unpack,
};

const gp_codec_ops gp_codec_bitshuffle = {
    .abi = GP_CODEC_ABI,
    .kind = GP_CODEC_BYTES,
    .properties = GP_CODEC_LOSSLESS | GP_CODEC_FIXED_RATE,
    .nonfinite = GP_NONFINITE_EXACT,
    .name = "bitshuffle",
    .text = "puts bits of one place of all elements together",
    .params = shuffle_params,
    .open = shuffle_open,
    .close = free,
    .bound = shuffle_bound,
    .pack = bitshuffle_pack,
    .unpack = bitshuffle_unpack,
};
