/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hadamard_x86.c - the Hadamard transform over vectors of 8 and 16.
 *
 * Stages within a vector add a permuted copy; the others combine vectors, two
 * stages per pass over the block, which stays in the first-level cache.
 */
#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#include "compress/hadamard_kernels.h"

#define AVX2   __attribute__((target("avx2")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))

/* The 32 sign bits from position `at` on. */
static inline uint32_t
bits_at(const uint32_t *words, size_t at)
{
    uint64_t two;

    memcpy(&two, words + (at >> 5), sizeof(two));
    return (uint32_t)(two >> (at & 31));
}

AVX2 static void
flip_avx2(const float *in, float *out, size_t n, const uint32_t *words,
          size_t first)
{
    const __m256i up = _mm256_setr_epi32(31, 30, 29, 28, 27, 26, 25, 24);
    const __m256i top = _mm256_set1_epi32(INT32_MIN);
    size_t i = 0;

    for (; n - i >= 8; i += 8) {
        __m256i bits = _mm256_set1_epi32((int)bits_at(words, first + i));
        __m256i sign = _mm256_and_si256(_mm256_sllv_epi32(bits, up), top);

        _mm256_storeu_ps(out + i, _mm256_xor_ps(_mm256_loadu_ps(in + i),
                                                _mm256_castsi256_ps(sign)));
    }
    gp_hadamard_scalar.flip(in + i, out + i, n - i, words, first + i);
}

/* Lane j gets x[j] + x[j ^ h] where bit h of j is clear, else x[j ^ h] - x[j];
 * `other` is x with lanes exchanged. */
#define WITHIN_256(x, other, high) \
    _mm256_blend_ps(_mm256_add_ps(other, x), _mm256_sub_ps(other, x), high)

AVX2 static inline __m256
within_avx2(__m256 x)
{
    __m256 y = _mm256_permute_ps(x, 0xb1);

    x = WITHIN_256(x, y, 0xaa);
    y = _mm256_permute_ps(x, 0x4e);
    x = WITHIN_256(x, y, 0xcc);
    y = _mm256_permute2f128_ps(x, x, 1);
    return WITHIN_256(x, y, 0xf0);
}

/* The stages at distance h and 2h, then times the factor. */
AVX2 static void
two_stages_avx2(float *x, size_t block, size_t h, float factor)
{
    const __m256 by = _mm256_set1_ps(factor);

    for (size_t i = 0; i < block; i += 4 * h)
        for (float *p = x + i; p < x + i + h; p += 8) {
            __m256 a = _mm256_loadu_ps(p), b = _mm256_loadu_ps(p + h);
            __m256 c = _mm256_loadu_ps(p + 2 * h);
            __m256 d = _mm256_loadu_ps(p + 3 * h);
            __m256 e = _mm256_add_ps(a, b), f = _mm256_sub_ps(a, b);
            __m256 g = _mm256_add_ps(c, d), k = _mm256_sub_ps(c, d);

            a = _mm256_mul_ps(_mm256_add_ps(e, g), by);
            b = _mm256_mul_ps(_mm256_add_ps(f, k), by);
            c = _mm256_mul_ps(_mm256_sub_ps(e, g), by);
            d = _mm256_mul_ps(_mm256_sub_ps(f, k), by);
            _mm256_storeu_ps(p, a);
            _mm256_storeu_ps(p + h, b);
            _mm256_storeu_ps(p + 2 * h, c);
            _mm256_storeu_ps(p + 3 * h, d);
        }
}

AVX2 static void
one_stage_avx2(float *x, size_t h, float factor)
{
    const __m256 by = _mm256_set1_ps(factor);

    for (float *p = x; p < x + h; p += 8) {
        __m256 a = _mm256_loadu_ps(p), b = _mm256_loadu_ps(p + h);

        _mm256_storeu_ps(p, _mm256_mul_ps(_mm256_add_ps(a, b), by));
        _mm256_storeu_ps(p + h, _mm256_mul_ps(_mm256_sub_ps(a, b), by));
    }
}

AVX2 static void
butterflies_avx2(float *x, size_t block, float factor)
{
    size_t h = 8;

    if (block < 16) {
        gp_hadamard_scalar.butterflies(x, block, factor);
        return;
    }
    for (size_t i = 0; i < block; i += 8)
        _mm256_storeu_ps(x + i, within_avx2(_mm256_loadu_ps(x + i)));
    for (; 4 * h <= block; h *= 4)
        two_stages_avx2(x, block, h, 4 * h == block ? factor : 1);
    if (h < block)
        one_stage_avx2(x, h, factor);
}

AVX512 static void
flip_avx512(const float *in, float *out, size_t n, const uint32_t *words,
            size_t first)
{
    const __m512 top = _mm512_set1_ps(-0.0f);
    size_t i = 0;

    for (; n - i >= 16; i += 16) {
        __m512 x = _mm512_loadu_ps(in + i);
        __mmask16 m = (__mmask16)bits_at(words, first + i);

        _mm512_storeu_ps(out + i, _mm512_mask_xor_ps(x, m, x, top));
    }
    gp_hadamard_scalar.flip(in + i, out + i, n - i, words, first + i);
}

/* A product with 1 or -1 is exact, so this is an addition or subtraction. */
AVX512 static inline __m512
within_avx512(__m512 x)
{
    const __m512 one = _mm512_set1_ps(1), minus = _mm512_set1_ps(-1);
    __m512 y = _mm512_permute_ps(x, 0xb1);

    x = _mm512_fmadd_ps(x, _mm512_mask_mov_ps(one, 0xaaaa, minus), y);
    y = _mm512_permute_ps(x, 0x4e);
    x = _mm512_fmadd_ps(x, _mm512_mask_mov_ps(one, 0xcccc, minus), y);
    y = _mm512_shuffle_f32x4(x, x, 0xb1);
    x = _mm512_fmadd_ps(x, _mm512_mask_mov_ps(one, 0xf0f0, minus), y);
    y = _mm512_shuffle_f32x4(x, x, 0x4e);
    return _mm512_fmadd_ps(x, _mm512_mask_mov_ps(one, 0xff00, minus), y);
}

/* Two stages over four vectors at distance h, then times `by`. */
AVX512 static inline void
four_avx512(float *p, size_t h, __m512 a, __m512 b, __m512 c, __m512 d,
            __m512 by)
{
    __m512 e = _mm512_add_ps(a, b), f = _mm512_sub_ps(a, b);
    __m512 g = _mm512_add_ps(c, d), k = _mm512_sub_ps(c, d);

    _mm512_storeu_ps(p, _mm512_mul_ps(_mm512_add_ps(e, g), by));
    _mm512_storeu_ps(p + h, _mm512_mul_ps(_mm512_add_ps(f, k), by));
    _mm512_storeu_ps(p + 2 * h, _mm512_mul_ps(_mm512_sub_ps(e, g), by));
    _mm512_storeu_ps(p + 3 * h, _mm512_mul_ps(_mm512_sub_ps(f, k), by));
}

/* The stages at distances 1 to 32. */
AVX512 static void
first_stages_avx512(float *x, size_t block, float factor)
{
    const __m512 by = _mm512_set1_ps(factor);

    for (float *p = x; p < x + block; p += 64) {
        __m512 a = within_avx512(_mm512_loadu_ps(p));
        __m512 b = within_avx512(_mm512_loadu_ps(p + 16));
        __m512 c = within_avx512(_mm512_loadu_ps(p + 32));
        __m512 d = within_avx512(_mm512_loadu_ps(p + 48));

        four_avx512(p, 16, a, b, c, d, by);
    }
}

/* The stages at distance h and 2h, then times the factor. */
AVX512 static void
two_stages_avx512(float *x, size_t block, size_t h, float factor)
{
    const __m512 by = _mm512_set1_ps(factor);

    for (size_t i = 0; i < block; i += 4 * h)
        for (float *p = x + i; p < x + i + h; p += 16)
            four_avx512(p, h, _mm512_loadu_ps(p), _mm512_loadu_ps(p + h),
                        _mm512_loadu_ps(p + 2 * h), _mm512_loadu_ps(p + 3 * h),
                        by);
}

AVX512 static void
one_stage_avx512(float *x, size_t h, float factor)
{
    const __m512 by = _mm512_set1_ps(factor);

    for (float *p = x; p < x + h; p += 16) {
        __m512 a = _mm512_loadu_ps(p), b = _mm512_loadu_ps(p + h);

        _mm512_storeu_ps(p, _mm512_mul_ps(_mm512_add_ps(a, b), by));
        _mm512_storeu_ps(p + h, _mm512_mul_ps(_mm512_sub_ps(a, b), by));
    }
}

AVX512 static void
butterflies_avx512(float *x, size_t block, float factor)
{
    size_t h = 64;

    if (block < 64) {
        gp_hadamard_avx2.butterflies(x, block, factor);
        return;
    }
    first_stages_avx512(x, block, block == 64 ? factor : 1);
    for (; 4 * h <= block; h *= 4)
        two_stages_avx512(x, block, h, 4 * h == block ? factor : 1);
    if (h < block)
        one_stage_avx512(x, h, factor);
}

const gp_hadamard_kernels gp_hadamard_avx2 = {flip_avx2, butterflies_avx2};
const gp_hadamard_kernels gp_hadamard_avx512 = {flip_avx512,
                                                butterflies_avx512};

#else
typedef int gp_hadamard_x86_unused;
#endif
