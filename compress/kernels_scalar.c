/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernels_scalar.c - the reference: portable C, any byte order, any alignment
 * of byte buffers. What these loops compute is what the formats mean.
 */
#include <math.h>

#include "base/bytes.h"
#include "compress/kernels.h"

static bool
finite_bits(uint32_t b)
{
    return (b & GP_FP32_MAGNITUDE) < GP_FP32_INFINITY;
}

static float
remainder_of(float u, float d)
{
    float r = u - d;

    return finite_bits(gp_bits(r)) ? r : 0;
}

/* Round to nearest even, saturating; NaN is made quiet and keeps its high
 * payload bits, as the hardware conversion does. */
static uint16_t
half_from_float(float x)
{
    uint32_t b = gp_bits(x), a = b & GP_FP32_MAGNITUDE;
    uint16_t sign = (uint16_t)(b >> 16 & 0x8000);

    if (a > GP_FP32_INFINITY)
        return (uint16_t)(sign | 0x7e00 | (a >> 13 & 0x3ff));
    if (a == GP_FP32_INFINITY)
        return sign | 0x7c00;
    if (a > GP_FP16_LARGEST)
        return sign | 0x7bff;
    if (a < 0x38800000u) /* below 2^-14: adding 0.5 rounds to 2^-24 */
        return (uint16_t)(sign | (gp_bits(gp_float(a) + 0.5f) - 0x3f000000u));
    a += 0xc8000fffu + (a >> 13 & 1);
    return (uint16_t)(sign | a >> 13);
}

static float
float_from_half(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, m = h & 0x3ff;

    if ((h & 0x7c00) == 0x7c00)
        return gp_float(sign | GP_FP32_INFINITY | m << 13 |
                        (m ? 0x00400000u : 0));
    if ((h & 0x7c00) == 0)
        return gp_float(sign | gp_bits((float)m * 0x1p-24f));
    return gp_float(sign | (((uint32_t)(h & 0x7fff) << 13) + (112u << 23)));
}

static uint16_t
bf16_from_float(float x)
{
    uint32_t b = gp_bits(x), a = b & GP_FP32_MAGNITUDE;

    if (a > GP_FP32_INFINITY)
        return (uint16_t)(b >> 16 | 0x40);
    if (a > GP_BF16_LARGEST && a < GP_FP32_INFINITY)
        return (uint16_t)((b >> 16 & 0x8000) | 0x7f7f);
    return (uint16_t)((b + 0x7fff + (b >> 16 & 1)) >> 16);
}

static float
float_from_bf16(uint16_t h)
{
    return gp_float((uint32_t)h << 16);
}

#define CAST_KERNELS(name, from_float, from_half)                             \
    static void name##_encode(const float *source, void *out, size_t n)       \
    {                                                                         \
        for (size_t i = 0; i < n; i++)                                        \
            gp_put16((uint8_t *)out + 2 * i, from_float(source[i]));          \
    }                                                                         \
    static void name##_feedback(const float *source, float *residual,         \
                                void *out, size_t n)                          \
    {                                                                         \
        for (size_t i = 0; i < n; i++) {                                      \
            float u = source[i] + residual[i];                                \
            uint16_t h = from_float(u);                                       \
                                                                              \
            gp_put16((uint8_t *)out + 2 * i, h);                              \
            residual[i] = remainder_of(u, from_half(h));                      \
        }                                                                     \
    }                                                                         \
    static void name##_decode(const void *bytes, float *target, size_t n)     \
    {                                                                         \
        for (size_t i = 0; i < n; i++)                                        \
            target[i] = from_half(gp_get16((const uint8_t *)bytes + 2 * i));  \
    }                                                                         \
    static void name##_decode_add(const void *bytes, float *target, size_t n) \
    {                                                                         \
        for (size_t i = 0; i < n; i++)                                        \
            target[i] += from_half(gp_get16((const uint8_t *)bytes + 2 * i)); \
    }

CAST_KERNELS(fp16, half_from_float, float_from_half)
CAST_KERNELS(bf16, bf16_from_float, float_from_bf16)

static void
none_encode(const float *source, void *out, size_t n)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    if (n)
        memcpy(out, source, 4 * n);
#else
    for (size_t i = 0; i < n; i++)
        gp_put32((uint8_t *)out + 4 * i, gp_bits(source[i]));
#endif
}

static void
none_feedback(const float *source, float *residual, void *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        gp_put32((uint8_t *)out + 4 * i, gp_bits(source[i] + residual[i]));
        residual[i] = 0;
    }
}

static void
none_decode(const void *bytes, float *target, size_t n)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    if (n)
        memcpy(target, bytes, 4 * n);
#else
    for (size_t i = 0; i < n; i++)
        target[i] = gp_float(gp_get32((const uint8_t *)bytes + 4 * i));
#endif
}

static void
none_decode_add(const void *bytes, float *target, size_t n)
{
    for (size_t i = 0; i < n; i++)
        target[i] += gp_float(gp_get32((const uint8_t *)bytes + 4 * i));
}

static void
add(float *acc, const float *src, size_t n)
{
    for (size_t i = 0; i < n; i++)
        acc[i] += src[i];
}

static void
scale(float *x, float factor, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] *= factor;
}

static void
remainder_all(const float *u, const float *d, float *residual, size_t n)
{
    for (size_t i = 0; i < n; i++)
        residual[i] = remainder_of(u[i], d[i]);
}

static uint32_t
absmax_of(const float *x, size_t n)
{
    uint32_t most = 0;

    for (size_t i = 0; i < n; i++) {
        uint32_t a = gp_bits(x[i]) & GP_FP32_MAGNITUDE;

        most = a > most ? a : most;
    }
    return most;
}

/* |x| * inverse <= 127 * (1 + 2^-23), which rounds to 127: no clamp needed. */
static void
q8_block(const float *x, size_t n, uint8_t *at, int8_t *codes)
{
    float inverse, s = gp_q8_scale(absmax_of(x, n), &inverse);

    gp_put32(at, gp_bits(s));
    if (s != s) {
        memset(codes, 0, n);
        return;
    }
    for (size_t i = 0; i < n; i++)
        codes[i] = (int8_t)lrintf(x[i] * inverse);
}

static void
q8_encode(const float *source, size_t n, size_t block, uint8_t *scales,
          int8_t *codes)
{
    for (size_t i = 0; i < n; i += block, scales += 4)
        q8_block(source + i, n - i < block ? n - i : block, scales, codes + i);
}

static void
q8_feedback_block(const float *source, float *residual, size_t n, uint8_t *at,
                  int8_t *codes)
{
    float s;

    for (size_t i = 0; i < n; i++)
        residual[i] += source[i];
    q8_block(residual, n, at, codes);
    s = gp_float(gp_get32(at));
    for (size_t i = 0; i < n; i++)
        residual[i] = s == s ? residual[i] - s * (float)codes[i] : 0;
}

static void
q8_feedback(const float *source, float *residual, size_t n, size_t block,
            uint8_t *scales, int8_t *codes)
{
    for (size_t i = 0; i < n; i += block, scales += 4)
        q8_feedback_block(source + i, residual + i,
                          n - i < block ? n - i : block, scales, codes + i);
}

static bool
q8_valid(const int8_t *codes, size_t n)
{
    int bad = 0;

    for (size_t i = 0; i < n; i++)
        bad |= codes[i] == INT8_MIN;
    return !bad;
}

static bool
q8_decode(const uint8_t *scales, const int8_t *codes, float *target, size_t n,
          size_t block)
{
    for (size_t i = 0; i < n; i += block, scales += 4) {
        size_t end = n - i < block ? n : i + block;
        float s = gp_float(gp_get32(scales));

        for (size_t j = i; j < end; j++)
            target[j] = s * (float)codes[j];
    }
    return q8_valid(codes, n);
}

static void
q8_decode_add(const uint8_t *scales, const int8_t *codes, float *target,
              size_t n, size_t block)
{
    for (size_t i = 0; i < n; i += block, scales += 4) {
        size_t end = n - i < block ? n : i + block;
        float s = gp_float(gp_get32(scales));

        for (size_t j = i; j < end; j++)
            target[j] += s * (float)codes[j];
    }
}

/* Block by block, so that the sum stays in the first cache. */
static bool
q8_fold(const gp_q8_message *messages, size_t inputs, bool add_to,
        float *target, size_t n, size_t block)
{
    bool good = true;

    for (size_t i = 0, b = 0; i < n; i += block, b++) {
        size_t run = n - i < block ? n - i : block;

        for (size_t k = 0; k < inputs; k++) {
            const uint8_t *scale = messages[k].scales + 4 * b;
            const int8_t *codes = messages[k].codes + i;

            good &= q8_valid(codes, run);
            if (k || add_to)
                q8_decode_add(scale, codes, target + i, run, block);
            else
                (void)q8_decode(scale, codes, target + i, run, block);
        }
    }
    return good;
}

const gp_kernels gp_kernels_scalar = {
    .level = GP_SIMD_SCALAR,
    .add = add,
    .scale = scale,
    .remainder = remainder_all,
    .none = {none_encode, none_feedback, none_decode, none_decode_add},
    .fp16 = {fp16_encode, fp16_feedback, fp16_decode, fp16_decode_add},
    .bf16 = {bf16_encode, bf16_feedback, bf16_decode, bf16_decode_add},
    .q8 = {q8_encode, q8_feedback, q8_valid, q8_decode, q8_decode_add, q8_fold},
};
