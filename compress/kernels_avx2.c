/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernels_avx2.c - AVX2 and F16C: the vectors of kernels_x86.h.
 */
#if defined(__x86_64__)
#include <immintrin.h>

#include "compress/kernels.h"

#define TARGET __attribute__((target("avx2,f16c")))
#define VECTOR TARGET static inline __attribute__((always_inline))
#define LANES  8

typedef __m256 vf;
typedef __m256i vi;
typedef __m128i vh;
typedef __m256i vb;

VECTOR vf
load_f(const void *p)
{
    return _mm256_loadu_ps(p);
}

VECTOR void
store_f(void *p, vf x)
{
    _mm256_storeu_ps(p, x);
}

VECTOR vf
set_f(float x)
{
    return _mm256_set1_ps(x);
}

VECTOR vf
add_f(vf a, vf b)
{
    return _mm256_add_ps(a, b);
}

VECTOR vf
sub_f(vf a, vf b)
{
    return _mm256_sub_ps(a, b);
}

VECTOR vf
mul_f(vf a, vf b)
{
    return _mm256_mul_ps(a, b);
}

VECTOR vi
max_i(vi a, vi b)
{
    return _mm256_max_epi32(a, b);
}

VECTOR vi
magnitude(vf x)
{
    return _mm256_and_si256(_mm256_castps_si256(x),
                            _mm256_set1_epi32(GP_FP32_MAGNITUDE));
}

VECTOR uint32_t
largest(vi x)
{
    __m128i m = _mm_max_epi32(_mm256_castsi256_si128(x),
                              _mm256_extracti128_si256(x, 1));

    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, _MM_SHUFFLE(1, 0, 3, 2)));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, _MM_SHUFFLE(2, 3, 0, 1)));
    return (uint32_t)_mm_cvtsi128_si32(m);
}

/* x, or 0 in the lanes where u is not finite. */
VECTOR vf
where_finite(vf u, vf x)
{
    vi finite =
        _mm256_cmpgt_epi32(_mm256_set1_epi32(GP_FP32_INFINITY), magnitude(u));

    return _mm256_and_ps(_mm256_castsi256_ps(finite), x);
}

/* Finite values beyond +-limit become +-limit. */
VECTOR vf
saturate(vf x, uint32_t limit)
{
    vi a = magnitude(x), most = _mm256_set1_epi32((int)limit);
    vi over = _mm256_and_si256(
        _mm256_cmpgt_epi32(a, most),
        _mm256_cmpgt_epi32(_mm256_set1_epi32(GP_FP32_INFINITY), a));
    vi sign = _mm256_xor_si256(_mm256_castps_si256(x), a);

    return _mm256_castsi256_ps(_mm256_blendv_epi8(
        _mm256_castps_si256(x), _mm256_or_si256(sign, most), over));
}

VECTOR vh
load_h(const void *p)
{
    return _mm_loadu_si128(p);
}

VECTOR void
store_h(void *p, vh h)
{
    _mm_storeu_si128(p, h);
}

VECTOR vh
encode_fp16(vf x)
{
    return _mm256_cvtps_ph(saturate(x, GP_FP16_LARGEST),
                           _MM_FROUND_TO_NEAREST_INT);
}

VECTOR vf
decode_fp16(vh h)
{
    return _mm256_cvtph_ps(h);
}

VECTOR vh
encode_bf16(vf x)
{
    vi b = _mm256_castps_si256(saturate(x, GP_BF16_LARGEST));
    vi high = _mm256_srli_epi32(b, 16);
    vi odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
    vi sum =
        _mm256_add_epi32(_mm256_add_epi32(b, odd), _mm256_set1_epi32(0x7fff));
    vi nan =
        _mm256_cmpgt_epi32(magnitude(x), _mm256_set1_epi32(GP_FP32_INFINITY));
    vi h =
        _mm256_blendv_epi8(_mm256_srli_epi32(sum, 16),
                           _mm256_or_si256(high, _mm256_set1_epi32(0x40)), nan);

    return _mm_packus_epi32(_mm256_castsi256_si128(h),
                            _mm256_extracti128_si256(h, 1));
}

VECTOR vf
decode_bf16(vh h)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

VECTOR vi
round_i(vf x)
{
    return _mm256_cvtps_epi32(x);
}

VECTOR vf
float_i(vi q)
{
    return _mm256_cvtepi32_ps(q);
}

VECTOR void
store_codes(int8_t *p, vi q)
{
    __m128i w = _mm_packs_epi32(_mm256_castsi256_si128(q),
                                _mm256_extracti128_si256(q, 1));

    _mm_storel_epi64((void *)p, _mm_packs_epi16(w, w));
}

VECTOR vf
load_codes(const int8_t *p)
{
    return float_i(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)p)));
}

VECTOR vb
zero_b(void)
{
    return _mm256_setzero_si256();
}

VECTOR vb
load_b(const int8_t *p)
{
    return _mm256_loadu_si256((const void *)p);
}

VECTOR vb
min_b(vb a, vb b)
{
    return _mm256_min_epi8(a, b);
}

/* INT8_MIN or not, of bytes that are 0 or less. */
VECTOR int
least_b(vb a)
{
    vb low = _mm256_cmpeq_epi8(a, _mm256_set1_epi8(INT8_MIN));

    return _mm256_testz_si256(low, low) ? 0 : INT8_MIN;
}

#include "compress/kernels_x86.h"

const gp_kernels gp_kernels_avx2 = KERNEL_TABLE(GP_SIMD_AVX2);
#else
typedef int gp_avx2_is_absent;
#endif
