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

/* The stages at distance h and 2h. */
AVX2 static void
two_stages_avx2(float *x, size_t block, size_t h)
{
    for (size_t i = 0; i < block; i += 4 * h)
        for (float *p = x + i; p < x + i + h; p += 8) {
            __m256 a = _mm256_loadu_ps(p), b = _mm256_loadu_ps(p + h);
            __m256 c = _mm256_loadu_ps(p + 2 * h);
            __m256 d = _mm256_loadu_ps(p + 3 * h);
            __m256 e = _mm256_add_ps(a, b), f = _mm256_sub_ps(a, b);
            __m256 g = _mm256_add_ps(c, d), k = _mm256_sub_ps(c, d);

            _mm256_storeu_ps(p, _mm256_add_ps(e, g));
            _mm256_storeu_ps(p + h, _mm256_add_ps(f, k));
            _mm256_storeu_ps(p + 2 * h, _mm256_sub_ps(e, g));
            _mm256_storeu_ps(p + 3 * h, _mm256_sub_ps(f, k));
        }
}

AVX2 static void
one_stage_avx2(float *x, size_t h)
{
    for (float *p = x; p < x + h; p += 8) {
        __m256 a = _mm256_loadu_ps(p), b = _mm256_loadu_ps(p + h);

        _mm256_storeu_ps(p, _mm256_add_ps(a, b));
        _mm256_storeu_ps(p + h, _mm256_sub_ps(a, b));
    }
}

AVX2 static void
butterflies_avx2(float *x, size_t block)
{
    size_t h = 8;

    if (block < 8) {
        gp_hadamard_scalar.butterflies(x, block);
        return;
    }
    for (size_t i = 0; i < block; i += 8)
        _mm256_storeu_ps(x + i, within_avx2(_mm256_loadu_ps(x + i)));
    for (; 4 * h <= block; h *= 4)
        two_stages_avx2(x, block, h);
    if (h < block)
        one_stage_avx2(x, h);
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

#define WITHIN_512(x, other, high) \
    _mm512_mask_sub_ps(_mm512_add_ps(other, x), high, other, x)

AVX512 static inline __m512
within_avx512(__m512 x)
{
    __m512 y = _mm512_permute_ps(x, 0xb1);

    x = WITHIN_512(x, y, 0xaaaa);
    y = _mm512_permute_ps(x, 0x4e);
    x = WITHIN_512(x, y, 0xcccc);
    y = _mm512_shuffle_f32x4(x, x, 0xb1);
    x = WITHIN_512(x, y, 0xf0f0);
    y = _mm512_shuffle_f32x4(x, x, 0x4e);
    return WITHIN_512(x, y, 0xff00);
}

AVX512 static void
two_stages_avx512(float *x, size_t block, size_t h)
{
    for (size_t i = 0; i < block; i += 4 * h)
        for (float *p = x + i; p < x + i + h; p += 16) {
            __m512 a = _mm512_loadu_ps(p), b = _mm512_loadu_ps(p + h);
            __m512 c = _mm512_loadu_ps(p + 2 * h);
            __m512 d = _mm512_loadu_ps(p + 3 * h);
            __m512 e = _mm512_add_ps(a, b), f = _mm512_sub_ps(a, b);
            __m512 g = _mm512_add_ps(c, d), k = _mm512_sub_ps(c, d);

            _mm512_storeu_ps(p, _mm512_add_ps(e, g));
            _mm512_storeu_ps(p + h, _mm512_add_ps(f, k));
            _mm512_storeu_ps(p + 2 * h, _mm512_sub_ps(e, g));
            _mm512_storeu_ps(p + 3 * h, _mm512_sub_ps(f, k));
        }
}

AVX512 static void
one_stage_avx512(float *x, size_t h)
{
    for (float *p = x; p < x + h; p += 16) {
        __m512 a = _mm512_loadu_ps(p), b = _mm512_loadu_ps(p + h);

        _mm512_storeu_ps(p, _mm512_add_ps(a, b));
        _mm512_storeu_ps(p + h, _mm512_sub_ps(a, b));
    }
}

AVX512 static void
butterflies_avx512(float *x, size_t block)
{
    size_t h = 16;

    if (block < 16) {
        gp_hadamard_scalar.butterflies(x, block);
        return;
    }
    for (size_t i = 0; i < block; i += 16)
        _mm512_storeu_ps(x + i, within_avx512(_mm512_loadu_ps(x + i)));
    for (; 4 * h <= block; h *= 4)
        two_stages_avx512(x, block, h);
    if (h < block)
        one_stage_avx512(x, h);
}

const gp_hadamard_kernels gp_hadamard_avx2 = {flip_avx2, butterflies_avx2};
const gp_hadamard_kernels gp_hadamard_avx512 = {flip_avx512,
                                                butterflies_avx512};

#else
typedef int gp_hadamard_x86_unused;
#endif
