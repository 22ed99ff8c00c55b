/* SPDX-License-Identifier: Apache-2.0 */
/*
 * random_kernels.c - the reference of the random roundings, and the packing.
 */
#include <math.h>
#include <string.h>

#include "base/bytes.h"
#include "compress/kernels.h"
#include "compress/philox.h"
#include "compress/random_kernels.h"

static void
linear(const float *x, float inverse, unsigned levels, const uint32_t *words,
       int8_t *codes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float r = fabsf(x[i]) * inverse, whole;

        r = r < (float)levels ? r : (float)levels;
        whole = (float)(int32_t)r;
        whole += gp_unit(words[i]) < r - whole ? 1.0f : 0.0f;
        codes[i] = (int8_t)(x[i] < 0 ? -whole : whole);
    }
}

static int
power_code(float x, float inverse, unsigned base, unsigned top, uint32_t word)
{
    float y = fabsf(x) * inverse;
    uint32_t m = gp_bits(y), e;

    if ((gp_bits(x) & GP_FP32_MAGNITUDE) >= GP_FP32_INFINITY)
        return INT8_MIN;
    if (m < (base + 1) << 23)
        return gp_unit(word) < y * gp_float((253 - base) << 23);
    e = (m + (word >> 9)) >> 23;
    return (int)((e < top ? e : top) - base);
}

/* A mantissa plus 23 random bits carries with probability mantissa / 2^23. */
static void
powers(const float *x, float inverse, unsigned base, unsigned top,
       const uint32_t *words, int8_t *codes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int code = power_code(x[i], inverse, base, top, words[i]);

        codes[i] = (int8_t)(x[i] < 0 && code > 0 ? -code : code);
    }
}

static void
from_linear(const int8_t *codes, float step, float *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (float)codes[i] * step;
}

static void
from_powers(const int8_t *codes, unsigned base, float scale, float *out,
            size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int code = codes[i];
        uint32_t m = (uint32_t)(code < 0 ? -code : code);
        float level = gp_float(m ? (m + base) << 23 : 0) * scale;

        if (code == INT8_MIN)
            out[i] = gp_float(GP_FP32_NAN);
        else
            out[i] = code < 0 ? -level : level;
    }
}

const gp_random_kernels gp_random_scalar = {linear, powers, from_linear,
                                            from_powers};

const gp_random_kernels *
gp_random_kernels_get(void)
{
#if defined(__x86_64__)
    if (gp_simd_get() == GP_SIMD_AVX512)
        return &gp_random_avx512;
    if (gp_simd_get() == GP_SIMD_AVX2)
        return &gp_random_avx2;
#endif
    return &gp_random_scalar;
}

/* Eight codes of `w` bits in the bytes of x, moved together in three steps. */
static uint64_t
squeeze(uint64_t x, unsigned w)
{
    const uint64_t ones = 0x0101010101010101u;

    x &= ones * ((1u << w) - 1);
    x = (x & 0x00ff00ff00ff00ffu) | (x & 0xff00ff00ff00ff00u) >> (8 - w);
    x = (x & 0x0000ffff0000ffffu) | (x & 0xffff0000ffff0000u) >> (16 - 2 * w);
    return (x & 0x00000000ffffffffu) |
           (x & 0xffffffff00000000u) >> (32 - 4 * w);
}

/* The inverse, each code with its sign extended. */
static uint64_t
spread(uint64_t x, unsigned w)
{
    const uint64_t ones = 0x0101010101010101u;
    uint64_t low = (1ull << 4 * w) - 1, sign = ones << (w - 1);

    x = (x & low) | (x & low << 4 * w) << (32 - 4 * w);
    low = ((1ull << 2 * w) - 1) * 0x0000000100000001u;
    x = (x & low) | (x & low << 2 * w) << (16 - 2 * w);
    low = ((1ull << w) - 1) * 0x0001000100010001u;
    x = (x & low) | (x & low << w) << (8 - w);
    /* Per byte (c ^ s) - s, s being the sign's bit; with its top bit set no
     * byte borrows from the next. */
    x ^= sign;
    return ((x | ones << 7) - sign) ^ ones << 7;
}

void
gp_pack_codes(const int8_t *codes, size_t n, unsigned width, uint8_t *out)
{
    size_t i = 0;
    uint8_t group[8];

    if (width == 8) {
        memcpy(out, codes, n);
        return;
    }
    /* Eight bytes are written, of which the next group overwrites some. */
    for (; n - i >= 8 && (n - i) * width >= 64; i += 8, out += width)
        gp_put64(out, squeeze(gp_get64(codes + i), width));
    for (; i < n; i += 8, out += width) {
        size_t left = n - i < 8 ? n - i : 8;

        memset(group, 0, sizeof(group));
        memcpy(group, codes + i, left);
        gp_put64(group, squeeze(gp_get64(group), width));
        memcpy(out, group, (left * width + 7) / 8);
    }
}

void
gp_unpack_codes(const uint8_t *bytes, size_t n, unsigned width, int8_t *codes)
{
    uint8_t group[8];
    size_t i = 0;

    if (width == 8) {
        memcpy(codes, bytes, n);
        return;
    }
    /* Eight bytes are read, some of which are the next group's. */
    for (; n - i >= 8 && (n - i) * width >= 64; i += 8, bytes += width)
        gp_put64(codes + i, spread(gp_get64(bytes), width));
    for (; i < n; i += 8, bytes += width) {
        size_t left = n - i < 8 ? n - i : 8;

        memset(group, 0, sizeof(group));
        memcpy(group, bytes, (left * width + 7) / 8);
        gp_put64(group, spread(gp_get64(group), width));
        memcpy(codes + i, group, left);
    }
}
