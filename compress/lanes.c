/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lanes.c - the loops of lanes.h, written once and compiled once per
 * instruction set.
 *
 * No loop carries a floating-point sum, so that however a compiler vectorizes
 * them, every set gives the same bits.
 */
#include <float.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "base/bytes.h"
#include "compress/kernels.h"
#include "compress/lanes.h"
#include "compress/philox.h"

#define INLINE static inline __attribute__((always_inline))

/* Adding it rounds a number of magnitude below 2^22 to an integer, nearest
 * even, and leaves that in the low bits. */
#define MAGIC 0x1.8p23f

INLINE uint16_t
load16(const uint8_t *p)
{
    uint16_t v;

    memcpy(&v, p, sizeof(v));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap16(v);
#endif
    return v;
}

INLINE uint32_t
load32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof(v));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap32(v);
#endif
    return v;
}

INLINE void
store16(uint8_t *p, uint16_t v)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap16(v);
#endif
    memcpy(p, &v, sizeof(v));
}

INLINE void
store32(uint8_t *p, uint32_t v)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap32(v);
#endif
    memcpy(p, &v, sizeof(v));
}

INLINE void
widen_body(const uint8_t *in, unsigned width, int32_t *out, size_t n)
{
    size_t i;

    if (width == 4) {
        for (i = 0; i < n / 2; i++) {
            out[2 * i] = ((in[i] & 15) ^ 8) - 8;
            out[2 * i + 1] = ((in[i] >> 4) ^ 8) - 8;
        }
        if (n % 2)
            out[n - 1] = ((in[i] & 15) ^ 8) - 8;
    } else if (width == 8) {
        for (i = 0; i < n; i++)
            out[i] = (int8_t)in[i];
    } else if (width == 16) {
        for (i = 0; i < n; i++)
            out[i] = (int16_t)load16(in + 2 * i);
    } else {
        for (i = 0; i < n; i++)
            out[i] = (int32_t)load32(in + 4 * i);
    }
}

INLINE void
widen_add_body(const uint8_t *in, unsigned width, int32_t *sum, size_t n)
{
    size_t i;

    if (width == 4) {
        for (i = 0; i < n / 2; i++) {
            sum[2 * i] += ((in[i] & 15) ^ 8) - 8;
            sum[2 * i + 1] += ((in[i] >> 4) ^ 8) - 8;
        }
        if (n % 2)
            sum[n - 1] += ((in[i] & 15) ^ 8) - 8;
    } else if (width == 8) {
        for (i = 0; i < n; i++)
            sum[i] += (int8_t)in[i];
    } else if (width == 16) {
        for (i = 0; i < n; i++)
            sum[i] += (int16_t)load16(in + 2 * i);
    } else {
        for (i = 0; i < n; i++)
            sum[i] += (int32_t)load32(in + 4 * i);
    }
}

/* Compared in the lanes' own width, many at a time. */
INLINE bool
within_body(const uint8_t *in, unsigned width, int32_t limit, size_t n)
{
    uint32_t beyond = 0;

    if (width <= 8) {
        int8_t high = (int8_t)(limit < 127 ? limit : 127), low = (int8_t)-high;
        uint8_t some = 0;

        for (size_t i = 0; i < n && width == 8; i++) {
            int8_t v = (int8_t)in[i];

            some |= (uint8_t)((v > high) | (v < low));
        }
        for (size_t i = 0; i < n / 2 + n % 2 && width == 4; i++) {
            int8_t v = (int8_t)(((in[i] & 15) ^ 8) - 8);
            int8_t w = (int8_t)(((in[i] >> 4) ^ 8) - 8);

            some |= (uint8_t)((v > high) | (v < low) | (w > high) | (w < low));
        }
        beyond = some;
    } else if (width == 16) {
        int16_t high = (int16_t)(limit < 32767 ? limit : 32767);
        int16_t low = (int16_t)-high;
        uint16_t some = 0;

        for (size_t i = 0; i < n; i++) {
            int16_t v = (int16_t)load16(in + 2 * i);

            some |= (uint16_t)((v > high) | (v < low));
        }
        beyond = some;
    } else {
        for (size_t i = 0; i < n; i++) {
            int32_t v = (int32_t)load32(in + 4 * i);

            beyond |= (uint32_t)((v > limit) | (v < -limit));
        }
    }
    return beyond == 0;
}

INLINE void
widen_unsigned_body(const uint8_t *in, unsigned width, int32_t *out, size_t n)
{
    size_t i;

    if (width == 2) {
        for (i = 0; i < n; i++)
            out[i] = in[i / 4] >> 2 * (i % 4) & 3;
    } else if (width == 4) {
        for (i = 0; i < n / 2; i++) {
            out[2 * i] = in[i] & 15;
            out[2 * i + 1] = in[i] >> 4;
        }
        if (n % 2)
            out[n - 1] = in[i] & 15;
    } else if (width == 8) {
        for (i = 0; i < n; i++)
            out[i] = in[i];
    } else if (width == 16) {
        for (i = 0; i < n; i++)
            out[i] = load16(in + 2 * i);
    } else {
        for (i = 0; i < n; i++)
            out[i] = (int32_t)load32(in + 4 * i);
    }
}

INLINE void
narrow_body(const int32_t *in, unsigned width, uint8_t *out, size_t n)
{
    size_t i;

    if (width == 2) {
        for (i = 0; i < n / 4; i++)
            out[i] =
                (uint8_t)((in[4 * i] & 3) | (in[4 * i + 1] & 3) << 2 |
                          (in[4 * i + 2] & 3) << 4 | (in[4 * i + 3] & 3) << 6);
        for (i = n / 4 * 4; i < n; i++)
            out[i / 4] = (uint8_t)((i % 4 ? out[i / 4] : 0) |
                                   (in[i] & 3) << 2 * (i % 4));
    } else if (width == 4) {
        for (i = 0; i < n / 2; i++)
            out[i] = (uint8_t)((in[2 * i] & 15) | (in[2 * i + 1] & 15) << 4);
        if (n % 2)
            out[i] = (uint8_t)(in[n - 1] & 15);
    } else if (width == 8) {
        for (i = 0; i < n; i++)
            out[i] = (uint8_t)in[i];
    } else if (width == 16) {
        for (i = 0; i < n; i++)
            store16(out + 2 * i, (uint16_t)in[i]);
    } else {
        for (i = 0; i < n; i++)
            store32(out + 4 * i, (uint32_t)in[i]);
    }
}

INLINE void
add_body(int32_t *sum, const int32_t *q, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sum[i] += q[i];
}

INLINE uint32_t
most_body(const int32_t *q, size_t n)
{
    uint32_t most = 0;

    for (size_t i = 0; i < n; i++)
        most = (uint32_t)q[i] > most ? (uint32_t)q[i] : most;
    return most;
}

INLINE void
scale_body(const int32_t *q, float step, float *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (float)q[i] * step;
}

INLINE void
scale_add_body(const int32_t *q, float step, float *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] += (float)q[i] * step;
}

INLINE float
limited(float y, float limit)
{
    y = y > limit ? limit : y;
    return y < -limit ? -limit : y;
}

INLINE uint32_t
nearest_body(const float *x, float inverse, float limit, int32_t *q, size_t n)
{
    uint32_t most = 0;

    for (size_t i = 0; i < n; i++) {
        uint32_t m = gp_bits(x[i]) & GP_FP32_MAGNITUDE;
        float y = limited(x[i] * inverse, limit) + MAGIC;

        most = m > most ? m : most;
        q[i] = (int32_t)(gp_bits(y) - gp_bits(MAGIC));
    }
    return most;
}

/* y less its floor is exact, and so is its comparison with a random number:
 * the probability is right to the last bit of the latter. */
INLINE uint32_t
random_body(const float *x, const uint32_t *words, float inverse, float limit,
            int32_t *q, size_t n)
{
    uint32_t most = 0;

    for (size_t i = 0; i < n; i++) {
        uint32_t m = gp_bits(x[i]) & GP_FP32_MAGNITUDE;
        float y = limited(x[i] * inverse, limit);
        float near = y + MAGIC, whole = near - MAGIC;
        int over = whole > y;
        float part = y - (whole - (float)over);
        int32_t k = (int32_t)(gp_bits(near) - gp_bits(MAGIC)) - over;

        most = m > most ? m : most;
        q[i] = k + (gp_unit(words[i]) < part);
    }
    return most;
}

INLINE void
place_body(const gp_levels *levels, const float *x, const uint32_t *words,
           float inverse, int32_t *q, size_t n)
{
    float most = levels->most;
    int32_t last = (int32_t)most - 1;

    for (size_t i = 0; i < n; i++) {
        float v = x[i] * inverse + 0.5f * most;
        int32_t cell;

        v = v > most ? most : v;
        v = v < 0 ? 0 : v;
        cell = (int32_t)v;
        cell = cell < last ? cell : last;
        q[i] =
            levels->below[cell] + (gp_unit(words[i]) * levels->distance[cell] <
                                   v - levels->level[cell]);
    }
}

INLINE void
look_up_body(const int32_t *table, int32_t *q, size_t n)
{
    for (size_t i = 0; i < n; i++)
        q[i] = table[q[i]];
}

INLINE void
centre_body(const int32_t *q, int32_t middle, float step, float *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = limited((float)(2 * q[i] - middle) * step, FLT_MAX);
}

#define KERNELS(suffix, target)                                                \
    target static void widen_##suffix(const uint8_t *in, unsigned width,       \
                                      int32_t *out, size_t n)                  \
    {                                                                          \
        widen_body(in, width, out, n);                                         \
    }                                                                          \
    target static void widen_unsigned_##suffix(                                \
        const uint8_t *in, unsigned width, int32_t *out, size_t n)             \
    {                                                                          \
        widen_unsigned_body(in, width, out, n);                                \
    }                                                                          \
    target static void narrow_##suffix(const int32_t *in, unsigned width,      \
                                       uint8_t *out, size_t n)                 \
    {                                                                          \
        narrow_body(in, width, out, n);                                        \
    }                                                                          \
    target static void add_##suffix(int32_t *sum, const int32_t *q, size_t n)  \
    {                                                                          \
        add_body(sum, q, n);                                                   \
    }                                                                          \
    target static uint32_t most_##suffix(const int32_t *q, size_t n)           \
    {                                                                          \
        return most_body(q, n);                                                \
    }                                                                          \
    target static void widen_add_##suffix(const uint8_t *in, unsigned width,   \
                                          int32_t *sum, size_t n)              \
    {                                                                          \
        widen_add_body(in, width, sum, n);                                     \
    }                                                                          \
    target static bool within_##suffix(const uint8_t *in, unsigned width,      \
                                       int32_t limit, size_t n)                \
    {                                                                          \
        return within_body(in, width, limit, n);                               \
    }                                                                          \
    target static void scale_##suffix(const int32_t *q, float step,            \
                                      float *out, size_t n)                    \
    {                                                                          \
        scale_body(q, step, out, n);                                           \
    }                                                                          \
    target static void scale_add_##suffix(const int32_t *q, float step,        \
                                          float *out, size_t n)                \
    {                                                                          \
        scale_add_body(q, step, out, n);                                       \
    }                                                                          \
    target static uint32_t nearest_##suffix(const float *x, float inverse,     \
                                            float limit, int32_t *q, size_t n) \
    {                                                                          \
        return nearest_body(x, inverse, limit, q, n);                          \
    }                                                                          \
    target static uint32_t random_##suffix(                                    \
        const float *x, const uint32_t *words, float inverse, float limit,     \
        int32_t *q, size_t n)                                                  \
    {                                                                          \
        return random_body(x, words, inverse, limit, q, n);                    \
    }                                                                          \
    target static void centre_##suffix(const int32_t *q, int32_t middle,       \
                                       float step, float *out, size_t n)       \
    {                                                                          \
        centre_body(q, middle, step, out, n);                                  \
    }

/* Look-ups, which compilers turn into gathers. */
#define LOOK_UPS(suffix, target)                                               \
    target static void place_##suffix(const gp_levels *levels, const float *x, \
                                      const uint32_t *words, float inverse,    \
                                      int32_t *q, size_t n)                    \
    {                                                                          \
        place_body(levels, x, words, inverse, q, n);                           \
    }                                                                          \
    target static void look_up_##suffix(const int32_t *table, int32_t *q,      \
                                        size_t n)                              \
    {                                                                          \
        look_up_body(table, q, n);                                             \
    }

#define TABLE(suffix)                                                    \
    static const gp_lane_kernels lanes_##suffix = {                      \
        widen_##suffix,     widen_unsigned_##suffix, narrow_##suffix,    \
        widen_add_##suffix, within_##suffix,         add_##suffix,       \
        most_##suffix,      scale_##suffix,          scale_add_##suffix, \
        nearest_##suffix,   random_##suffix,         place_##suffix,     \
        look_up_##suffix,   centre_##suffix,                             \
    };

KERNELS(scalar, )
LOOK_UPS(scalar, )
TABLE(scalar)

#if defined(__x86_64__)
#define AVX2   __attribute__((target("avx2")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))

KERNELS(avx2, AVX2)
LOOK_UPS(avx2, AVX2)
TABLE(avx2)

/* Tables of 32 fit two registers. */
AVX512 static void
place_avx512(const gp_levels *levels, const float *x, const uint32_t *words,
             float inverse, int32_t *q, size_t n)
{
    __m512i below = _mm512_loadu_si512(levels->below);
    __m512i below_high = _mm512_loadu_si512(levels->below + 16);
    __m512 level = _mm512_loadu_ps(levels->level);
    __m512 level_high = _mm512_loadu_ps(levels->level + 16);
    __m512 distance = _mm512_loadu_ps(levels->distance);
    __m512 distance_high = _mm512_loadu_ps(levels->distance + 16);
    __m512 most = _mm512_set1_ps(levels->most);
    __m512 middle = _mm512_set1_ps(0.5f * levels->most);
    __m512i last = _mm512_set1_epi32((int)levels->most - 1);
    size_t i;

    for (i = 0; i + 16 <= n; i += 16) {
        __m512 v =
            _mm512_mul_ps(_mm512_loadu_ps(x + i), _mm512_set1_ps(inverse));
        __m512i word = _mm512_srli_epi32(_mm512_loadu_si512(words + i), 8);
        __m512 u =
            _mm512_mul_ps(_mm512_cvtepi32_ps(word), _mm512_set1_ps(0x1p-24f));
        __m512i cell;
        __mmask16 up;

        v = _mm512_min_ps(_mm512_add_ps(v, middle), most);
        v = _mm512_max_ps(v, _mm512_setzero_ps());
        cell = _mm512_min_epi32(_mm512_cvttps_epi32(v), last);
        u = _mm512_mul_ps(
            u, _mm512_permutex2var_ps(distance, cell, distance_high));
        v = _mm512_sub_ps(v, _mm512_permutex2var_ps(level, cell, level_high));
        up = _mm512_cmp_ps_mask(u, v, _CMP_LT_OQ);
        cell = _mm512_permutex2var_epi32(below, cell, below_high);
        _mm512_storeu_si512(
            q + i, _mm512_mask_add_epi32(cell, up, cell, _mm512_set1_epi32(1)));
    }
    place_body(levels, x + i, words + i, inverse, q + i, n - i);
}

AVX512 static void
look_up_avx512(const int32_t *table, int32_t *q, size_t n)
{
    __m512i all = _mm512_loadu_si512(table);
    size_t i;

    for (i = 0; i + 16 <= n; i += 16)
        _mm512_storeu_si512(
            q + i, _mm512_permutexvar_epi32(_mm512_loadu_si512(q + i), all));
    look_up_body(table, q + i, n - i);
}

KERNELS(avx512, AVX512)
TABLE(avx512)
#endif

const gp_lane_kernels *
gp_lanes_get(void)
{
#if defined(__x86_64__)
    if (gp_simd_get() == GP_SIMD_AVX512)
        return &lanes_avx512;
    if (gp_simd_get() == GP_SIMD_AVX2)
        return &lanes_avx2;
#endif
    return &lanes_scalar;
}
