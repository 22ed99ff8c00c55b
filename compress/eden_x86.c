/* SPDX-License-Identifier: Apache-2.0 */
/*
 * eden_x86.c - the loops of eden_kernels.c over vectors of 8 and 16.
 */
#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#include "compress/eden_kernels.h"

#define AVX2   __attribute__((target("avx2")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
#define INLINE static inline __attribute__((always_inline))

AVX512 INLINE void
put_16(uint8_t *to, __mmask16 m)
{
    uint16_t word = (uint16_t)m;

    memcpy(to, &word, 2);
}

AVX512 INLINE __mmask16
get_16(const uint8_t *from)
{
    uint16_t word;

    memcpy(&word, from, 2);
    return (__mmask16)word;
}

AVX512 INLINE void
quantize_512_as(const float *x, float factor, const float *bounds,
                unsigned bits, uint8_t *planes, size_t stride, size_t n)
{
    const unsigned most = (1u << (bits - 1)) - 1;
    size_t i = 0;

    for (; n - i >= 16; i += 16) {
        __m512 v = _mm512_loadu_ps(x + i);
        __m512 m = _mm512_abs_ps(_mm512_mul_ps(v, _mm512_set1_ps(factor)));
        __mmask16 digit[GP_EDEN_BITS] = {0};

        for (unsigned j = 1; j <= most; j++) {
            __mmask16 above = _mm512_cmp_ps_mask(_mm512_set1_ps(bounds[j - 1]),
                                                 m, _CMP_LT_OQ);

            for (unsigned k = 0; k < bits - 1; k++)
                if (j % (1u << k) == 0)
                    digit[k] = (__mmask16)(digit[k] ^ above);
        }
        digit[bits - 1] =
            _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_LT_OQ);
        for (unsigned k = 0; k < bits; k++)
            put_16(planes + k * stride + i / 8, digit[k]);
    }
    gp_eden_scalar.quantize(x + i, factor, bounds, bits, planes + i / 8, stride,
                            n - i);
}

AVX512 static void
quantize_512(const float *x, float factor, const float *bounds, unsigned bits,
             uint8_t *planes, size_t stride, size_t n)
{
    if (bits == 1)
        quantize_512_as(x, factor, bounds, 1, planes, stride, n);
    else if (bits == 2)
        quantize_512_as(x, factor, bounds, 2, planes, stride, n);
    else if (bits == 3)
        quantize_512_as(x, factor, bounds, 3, planes, stride, n);
    else
        quantize_512_as(x, factor, bounds, 4, planes, stride, n);
}

AVX512 static void
lookup_512(const uint8_t *planes, size_t stride, unsigned bits,
           const float magnitude[GP_EDEN_LEVELS], float *out, size_t n)
{
    const __m512 table = _mm512_castps256_ps512(_mm256_loadu_ps(magnitude));
    const __m512 top = _mm512_set1_ps(-0.0f);
    size_t i = 0;

    for (; n - i >= 16; i += 16) {
        __m512i index = _mm512_setzero_si512();
        __m512 v;

        for (unsigned k = 0; k < bits - 1; k++)
            index =
                _mm512_mask_or_epi32(index, get_16(planes + k * stride + i / 8),
                                     index, _mm512_set1_epi32(1 << k));
        v = _mm512_permutexvar_ps(index, table);
        v = _mm512_mask_xor_ps(v, get_16(planes + (bits - 1) * stride + i / 8),
                               v, top);
        _mm512_storeu_ps(out + i, v);
    }
    gp_eden_scalar.lookup(planes + i / 8, stride, bits, magnitude, out + i,
                          n - i);
}

AVX2 INLINE void
quantize_256_as(const float *x, float factor, const float *bounds,
                unsigned bits, uint8_t *planes, size_t stride, size_t n)
{
    const unsigned most = (1u << (bits - 1)) - 1;
    const __m256 top = _mm256_set1_ps(-0.0f);
    size_t i = 0;

    for (; n - i >= 8; i += 8) {
        __m256 v = _mm256_loadu_ps(x + i);
        __m256 m =
            _mm256_andnot_ps(top, _mm256_mul_ps(v, _mm256_set1_ps(factor)));
        __m256 digit[GP_EDEN_BITS];

        for (unsigned k = 0; k < bits - 1; k++)
            digit[k] = _mm256_setzero_ps();
        for (unsigned j = 1; j <= most; j++) {
            __m256 above =
                _mm256_cmp_ps(_mm256_set1_ps(bounds[j - 1]), m, _CMP_LT_OQ);

            for (unsigned k = 0; k < bits - 1; k++)
                if (j % (1u << k) == 0)
                    digit[k] = _mm256_xor_ps(digit[k], above);
        }
        digit[bits - 1] = _mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_LT_OQ);
        for (unsigned k = 0; k < bits; k++)
            planes[k * stride + i / 8] = (uint8_t)_mm256_movemask_ps(digit[k]);
    }
    gp_eden_scalar.quantize(x + i, factor, bounds, bits, planes + i / 8, stride,
                            n - i);
}

AVX2 static void
quantize_256(const float *x, float factor, const float *bounds, unsigned bits,
             uint8_t *planes, size_t stride, size_t n)
{
    if (bits == 1)
        quantize_256_as(x, factor, bounds, 1, planes, stride, n);
    else if (bits == 2)
        quantize_256_as(x, factor, bounds, 2, planes, stride, n);
    else if (bits == 3)
        quantize_256_as(x, factor, bounds, 3, planes, stride, n);
    else
        quantize_256_as(x, factor, bounds, 4, planes, stride, n);
}

/* Bit j of the byte as bit k of lane j, the others 0. */
AVX2 INLINE __m256i
digit_of(uint8_t byte, unsigned k)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    __m256i x = _mm256_srlv_epi32(_mm256_set1_epi32(byte), lane);

    x = _mm256_and_si256(x, _mm256_set1_epi32(1));
    return _mm256_sll_epi32(x, _mm_cvtsi32_si128((int)k));
}

AVX2 static void
lookup_256(const uint8_t *planes, size_t stride, unsigned bits,
           const float magnitude[GP_EDEN_LEVELS], float *out, size_t n)
{
    const __m256 table = _mm256_loadu_ps(magnitude);
    size_t i = 0;

    for (; n - i >= 8; i += 8) {
        __m256i index = _mm256_setzero_si256();
        __m256i sign = digit_of(planes[(bits - 1) * stride + i / 8], 31);

        for (unsigned k = 0; k < bits - 1; k++)
            index =
                _mm256_or_si256(index, digit_of(planes[k * stride + i / 8], k));
        _mm256_storeu_ps(out + i,
                         _mm256_xor_ps(_mm256_permutevar8x32_ps(table, index),
                                       _mm256_castsi256_ps(sign)));
    }
    gp_eden_scalar.lookup(planes + i / 8, stride, bits, magnitude, out + i,
                          n - i);
}

const gp_eden_kernels gp_eden_avx2 = {quantize_256, lookup_256};
const gp_eden_kernels gp_eden_avx512 = {quantize_512, lookup_512};

#else
typedef int gp_eden_x86_unused;
#endif
