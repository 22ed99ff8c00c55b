/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernels_avx512.c - AVX-512 F, BW and VL: the vectors of kernels_x86.h.
 *
 * Not AVX512_BF16: its conversion flushes denormals.
 */
#if defined(__x86_64__)
#include <immintrin.h>

#include "compress/kernels.h"

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx2,f16c")))
#define VECTOR TARGET static inline __attribute__((always_inline))
#define LANES  16

typedef __m512 vf;
typedef __m512i vi;
typedef __m256i vh;
typedef __m512i vb;

VECTOR vf
load_f(const void *p)
{
    return _mm512_loadu_ps(p);
}

VECTOR void
store_f(void *p, vf x)
{
    _mm512_storeu_ps(p, x);
}

VECTOR vf
set_f(float x)
{
    return _mm512_set1_ps(x);
}

VECTOR vf
add_f(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}

VECTOR vf
sub_f(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}

VECTOR vf
mul_f(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}

VECTOR vi
max_i(vi a, vi b)
{
    return _mm512_max_epi32(a, b);
}

VECTOR vi
magnitude(vf x)
{
    return _mm512_and_si512(_mm512_castps_si512(x),
                            _mm512_set1_epi32(GP_FP32_MAGNITUDE));
}

VECTOR uint32_t
largest(vi x)
{
    return (uint32_t)_mm512_reduce_max_epi32(x);
}

/* x, or 0 in the lanes where u is not finite. */
VECTOR vf
where_finite(vf u, vf x)
{
    return _mm512_maskz_mov_ps(
        _mm512_cmplt_epi32_mask(magnitude(u),
                                _mm512_set1_epi32(GP_FP32_INFINITY)),
        x);
}

/* Finite values beyond +-limit become +-limit. */
VECTOR vf
saturate(vf x, uint32_t limit)
{
    vi a = magnitude(x), most = _mm512_set1_epi32((int)limit);
    __mmask16 over =
        _mm512_cmpgt_epi32_mask(a, most) &
        _mm512_cmplt_epi32_mask(a, _mm512_set1_epi32(GP_FP32_INFINITY));
    vi sign = _mm512_xor_si512(_mm512_castps_si512(x), a);

    return _mm512_castsi512_ps(
        _mm512_mask_or_epi32(_mm512_castps_si512(x), over, sign, most));
}

VECTOR vh
load_h(const void *p)
{
    return _mm256_loadu_si256(p);
}

VECTOR void
store_h(void *p, vh h)
{
    _mm256_storeu_si256(p, h);
}

VECTOR vh
encode_fp16(vf x)
{
    return _mm512_cvtps_ph(saturate(x, GP_FP16_LARGEST),
                           _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

VECTOR vf
decode_fp16(vh h)
{
    return _mm512_cvtph_ps(h);
}

VECTOR vh
encode_bf16(vf x)
{
    vi b = _mm512_castps_si512(saturate(x, GP_BF16_LARGEST));
    vi high = _mm512_srli_epi32(b, 16);
    vi odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
    vi sum =
        _mm512_add_epi32(_mm512_add_epi32(b, odd), _mm512_set1_epi32(0x7fff));
    __mmask16 nan = _mm512_cmpgt_epi32_mask(
        magnitude(x), _mm512_set1_epi32(GP_FP32_INFINITY));

    return _mm512_cvtepi32_epi16(_mm512_mask_or_epi32(
        _mm512_srli_epi32(sum, 16), nan, high, _mm512_set1_epi32(0x40)));
}

VECTOR vf
decode_bf16(vh h)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

VECTOR vi
round_i(vf x)
{
    return _mm512_cvtps_epi32(x);
}

VECTOR vf
float_i(vi q)
{
    return _mm512_cvtepi32_ps(q);
}

VECTOR void
store_codes(int8_t *p, vi q)
{
    _mm_storeu_si128((void *)p, _mm512_cvtepi32_epi8(q));
}

VECTOR vf
load_codes(const int8_t *p)
{
    return float_i(_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)p)));
}

VECTOR vb
zero_b(void)
{
    return _mm512_setzero_si512();
}

VECTOR vb
load_b(const int8_t *p)
{
    return _mm512_loadu_si512(p);
}

VECTOR vb
min_b(vb a, vb b)
{
    return _mm512_min_epi8(a, b);
}

/* INT8_MIN or not, of bytes that are 0 or less. */
VECTOR int
least_b(vb a)
{
    return _mm512_cmpeq_epi8_mask(a, _mm512_set1_epi8(INT8_MIN)) ? INT8_MIN : 0;
}

#include "compress/kernels_x86.h"

const gp_kernels gp_kernels_avx512 = KERNEL_TABLE(GP_SIMD_AVX512);
#else
typedef int gp_avx512_is_absent;
#endif
