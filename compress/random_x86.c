/* SPDX-License-Identifier: Apache-2.0 */
/*
 * random_x86.c - the loops of random_kernels.c over vectors of 8 and 16.
 */
#if defined(__x86_64__)

#include <immintrin.h>

#include "compress/kernels.h"
#include "compress/random_kernels.h"

#define AVX2   __attribute__((target("avx2")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
#define INLINE static inline __attribute__((always_inline))

/* ---- vectors of 16 ----------------------------------------------------- */

AVX512 INLINE __m512
unit_512(__m512i words)
{
    return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_srli_epi32(words, 8)),
                         _mm512_set1_ps(0x1p-24f));
}

AVX512 INLINE void
store_512(int8_t *codes, __m512i c)
{
    _mm_storeu_si128((__m128i *)codes, _mm512_cvtepi32_epi8(c));
}

AVX512 INLINE __m512i
load_512(const int8_t *codes)
{
    return _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)codes));
}

AVX512 INLINE __m512i
with_sign_512(__m512i c, __m512 x)
{
    __mmask16 below = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ);

    return _mm512_mask_sub_epi32(c, below, _mm512_setzero_si512(), c);
}

AVX512 static void
linear_512(const float *x, float inverse, unsigned levels,
           const uint32_t *words, int8_t *codes, size_t n)
{
    const __m512 most = _mm512_set1_ps((float)levels);
    size_t i = 0;

    for (; n - i >= 16; i += 16) {
        __m512 v = _mm512_loadu_ps(x + i);
        __m512 r = _mm512_min_ps(
            _mm512_mul_ps(_mm512_abs_ps(v), _mm512_set1_ps(inverse)), most);
        __m512i c = _mm512_cvttps_epi32(r);
        __mmask16 up = _mm512_cmp_ps_mask(
            unit_512(_mm512_loadu_si512(words + i)),
            _mm512_sub_ps(r, _mm512_cvtepi32_ps(c)), _CMP_LT_OQ);

        c = _mm512_mask_add_epi32(c, up, c, _mm512_set1_epi32(1));
        store_512(codes + i, with_sign_512(c, v));
    }
    gp_random_scalar.linear(x + i, inverse, levels, words + i, codes + i,
                            n - i);
}

AVX512 static void
powers_512(const float *x, float inverse, unsigned base, unsigned top,
           const uint32_t *words, int8_t *codes, size_t n)
{
    const __m512 enlarge = _mm512_set1_ps(gp_float((253 - base) << 23));
    const __m512i least = _mm512_set1_epi32((int)((base + 1) << 23));
    size_t i = 0;

    for (; n - i >= 16; i += 16) {
        __m512 v = _mm512_loadu_ps(x + i);
        __m512 y = _mm512_mul_ps(_mm512_abs_ps(v), _mm512_set1_ps(inverse));
        __m512i m = _mm512_castps_si512(y);
        __m512i word = _mm512_loadu_si512(words + i);
        __m512i c = _mm512_srli_epi32(
            _mm512_add_epi32(m, _mm512_srli_epi32(word, 9)), 23);
        __mmask16 small = _mm512_cmplt_epu32_mask(m, least);
        __mmask16 up = _mm512_mask_cmp_ps_mask(
            small, unit_512(word), _mm512_mul_ps(y, enlarge), _CMP_LT_OQ);
        __mmask16 bad =
            _mm512_cmpge_epu32_mask(_mm512_castps_si512(_mm512_abs_ps(v)),
                                    _mm512_set1_epi32((int)GP_FP32_INFINITY));

        c = _mm512_min_epu32(c, _mm512_set1_epi32((int)top));
        c = _mm512_sub_epi32(c, _mm512_set1_epi32((int)base));
        c = _mm512_mask_mov_epi32(c, small, _mm512_setzero_si512());
        c = _mm512_mask_mov_epi32(c, up, _mm512_set1_epi32(1));
        c = with_sign_512(c, v);
        store_512(codes + i,
                  _mm512_mask_mov_epi32(c, bad, _mm512_set1_epi32(INT8_MIN)));
    }
    gp_random_scalar.powers(x + i, inverse, base, top, words + i, codes + i,
                            n - i);
}

AVX512 static void
from_linear_512(const int8_t *codes, float step, float *out, size_t n)
{
    size_t i = 0;

    for (; n - i >= 16; i += 16)
        _mm512_storeu_ps(out + i,
                         _mm512_mul_ps(_mm512_cvtepi32_ps(load_512(codes + i)),
                                       _mm512_set1_ps(step)));
    gp_random_scalar.from_linear(codes + i, step, out + i, n - i);
}

AVX512 static void
from_powers_512(const int8_t *codes, unsigned base, float scale, float *out,
                size_t n)
{
    const __m512 top = _mm512_set1_ps(-0.0f);
    size_t i = 0;

    for (; n - i >= 16; i += 16) {
        __m512i c = load_512(codes + i), m = _mm512_abs_epi32(c);
        __mmask16 some = _mm512_test_epi32_mask(m, m);
        __m512 v = _mm512_castsi512_ps(_mm512_maskz_slli_epi32(
            some, _mm512_add_epi32(m, _mm512_set1_epi32((int)base)), 23));

        v = _mm512_mul_ps(v, _mm512_set1_ps(scale));
        v = _mm512_mask_xor_ps(v, _mm512_movepi32_mask(c), v, top);
        v = _mm512_mask_mov_ps(
            v, _mm512_cmpeq_epi32_mask(c, _mm512_set1_epi32(INT8_MIN)),
            _mm512_set1_ps(gp_float(GP_FP32_NAN)));
        _mm512_storeu_ps(out + i, v);
    }
    gp_random_scalar.from_powers(codes + i, base, scale, out + i, n - i);
}

const gp_random_kernels gp_random_avx512 = {linear_512, powers_512,
                                            from_linear_512, from_powers_512};

/* ---- vectors of 8 ------------------------------------------------------ */

AVX2 INLINE __m256
unit_256(__m256i words)
{
    return _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_srli_epi32(words, 8)),
                         _mm256_set1_ps(0x1p-24f));
}

AVX2 INLINE void
store_256(int8_t *codes, __m256i c)
{
    __m128i half = _mm_packs_epi32(_mm256_castsi256_si128(c),
                                   _mm256_extracti128_si256(c, 1));

    _mm_storel_epi64((__m128i *)codes, _mm_packs_epi16(half, half));
}

AVX2 INLINE __m256i
load_256(const int8_t *codes)
{
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)codes));
}

AVX2 INLINE __m256
abs_256(__m256 x)
{
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
}

AVX2 INLINE __m256i
with_sign_256(__m256i c, __m256 x)
{
    __m256i below =
        _mm256_castps_si256(_mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_LT_OQ));

    return _mm256_sub_epi32(_mm256_xor_si256(c, below), below);
}

AVX2 static void
linear_256(const float *x, float inverse, unsigned levels,
           const uint32_t *words, int8_t *codes, size_t n)
{
    const __m256 most = _mm256_set1_ps((float)levels);
    size_t i = 0;

    for (; n - i >= 8; i += 8) {
        __m256 v = _mm256_loadu_ps(x + i);
        __m256 r = _mm256_min_ps(
            _mm256_mul_ps(abs_256(v), _mm256_set1_ps(inverse)), most);
        __m256i c = _mm256_cvttps_epi32(r);
        __m256 up = _mm256_cmp_ps(
            unit_256(_mm256_loadu_si256((const __m256i *)(words + i))),
            _mm256_sub_ps(r, _mm256_cvtepi32_ps(c)), _CMP_LT_OQ);

        c = _mm256_sub_epi32(c, _mm256_castps_si256(up));
        store_256(codes + i, with_sign_256(c, v));
    }
    gp_random_scalar.linear(x + i, inverse, levels, words + i, codes + i,
                            n - i);
}

AVX2 static void
powers_256(const float *x, float inverse, unsigned base, unsigned top,
           const uint32_t *words, int8_t *codes, size_t n)
{
    const __m256 enlarge = _mm256_set1_ps(gp_float((253 - base) << 23));
    const __m256i least = _mm256_set1_epi32((int)((base + 1) << 23));
    const __m256i inf = _mm256_set1_epi32((int)GP_FP32_INFINITY - 1);
    size_t i = 0;

    for (; n - i >= 8; i += 8) {
        __m256 v = _mm256_loadu_ps(x + i);
        __m256 y = _mm256_mul_ps(abs_256(v), _mm256_set1_ps(inverse));
        __m256i m = _mm256_castps_si256(y);
        __m256i word = _mm256_loadu_si256((const __m256i *)(words + i));
        __m256i c = _mm256_srli_epi32(
            _mm256_add_epi32(m, _mm256_srli_epi32(word, 9)), 23);
        __m256i small = _mm256_cmpgt_epi32(least, m);
        __m256i up = _mm256_castps_si256(_mm256_cmp_ps(
            unit_256(word), _mm256_mul_ps(y, enlarge), _CMP_LT_OQ));
        __m256i bad = _mm256_cmpgt_epi32(_mm256_castps_si256(abs_256(v)), inf);

        c = _mm256_min_epu32(c, _mm256_set1_epi32((int)top));
        c = _mm256_sub_epi32(c, _mm256_set1_epi32((int)base));
        c = _mm256_blendv_epi8(c, _mm256_srli_epi32(up, 31), small);
        c = with_sign_256(c, v);
        store_256(codes + i,
                  _mm256_blendv_epi8(c, _mm256_set1_epi32(INT8_MIN), bad));
    }
    gp_random_scalar.powers(x + i, inverse, base, top, words + i, codes + i,
                            n - i);
}

AVX2 static void
from_linear_256(const int8_t *codes, float step, float *out, size_t n)
{
    size_t i = 0;

    for (; n - i >= 8; i += 8)
        _mm256_storeu_ps(out + i,
                         _mm256_mul_ps(_mm256_cvtepi32_ps(load_256(codes + i)),
                                       _mm256_set1_ps(step)));
    gp_random_scalar.from_linear(codes + i, step, out + i, n - i);
}

AVX2 static void
from_powers_256(const int8_t *codes, unsigned base, float scale, float *out,
                size_t n)
{
    const __m256 nan = _mm256_set1_ps(gp_float(GP_FP32_NAN));
    const __m256 top = _mm256_set1_ps(-0.0f);
    size_t i = 0;

    for (; n - i >= 8; i += 8) {
        __m256i c = load_256(codes + i), m = _mm256_abs_epi32(c);
        __m256i none = _mm256_cmpeq_epi32(m, _mm256_setzero_si256());
        __m256i level = _mm256_slli_epi32(
            _mm256_add_epi32(m, _mm256_set1_epi32((int)base)), 23);
        __m256 v = _mm256_castsi256_ps(_mm256_andnot_si256(none, level));
        __m256i bad = _mm256_cmpeq_epi32(c, _mm256_set1_epi32(INT8_MIN));

        v = _mm256_mul_ps(v, _mm256_set1_ps(scale));
        v = _mm256_xor_ps(v, _mm256_and_ps(_mm256_castsi256_ps(c), top));
        v = _mm256_blendv_ps(v, nan, _mm256_castsi256_ps(bad));
        _mm256_storeu_ps(out + i, v);
    }
    gp_random_scalar.from_powers(codes + i, base, scale, out + i, n - i);
}

const gp_random_kernels gp_random_avx2 = {linear_256, powers_256,
                                          from_linear_256, from_powers_256};

#else
typedef int gp_random_x86_unused;
#endif
