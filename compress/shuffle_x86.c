/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shuffle_x86.c - the loops of shuffle.h in vectors. Widths other than 2 and 4
 * are the reference's.
 */
#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#include "compress/shuffle.h"

#define AVX2   __attribute__((target("avx2")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl")))
#define INLINE static inline __attribute__((always_inline))

AVX2 INLINE __m256i
load(const uint8_t *at)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)at);
}

AVX2 INLINE void
store(uint8_t *at, __m256i v)
{
    _mm256_storeu_si256((__m256i *)(void *)at, v);
}

/* 8 elements of 4 bytes as 8 bytes of each plane. */
AVX2 INLINE __m256i
gather_4(__m256i v)
{
    const __m256i within =
        _mm256_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15,
                         0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);

    return _mm256_permutevar8x32_epi32(
        _mm256_shuffle_epi8(v, within),
        _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

AVX2 static size_t
split_4(const uint8_t *source, size_t n, uint8_t *planes, size_t apart)
{
    size_t i = 0;

    for (; n - i >= 32; i += 32) {
        __m256i a = gather_4(load(source + 4 * i));
        __m256i b = gather_4(load(source + 4 * i + 32));
        __m256i c = gather_4(load(source + 4 * i + 64));
        __m256i d = gather_4(load(source + 4 * i + 96));
        /* Planes 0 and 2, then 1 and 3, of each pair. */
        __m256i ab02 = _mm256_unpacklo_epi64(a, b);
        __m256i ab13 = _mm256_unpackhi_epi64(a, b);
        __m256i cd02 = _mm256_unpacklo_epi64(c, d);
        __m256i cd13 = _mm256_unpackhi_epi64(c, d);

        store(planes + i, _mm256_permute2x128_si256(ab02, cd02, 0x20));
        store(planes + apart + i, _mm256_permute2x128_si256(ab13, cd13, 0x20));
        store(planes + 2 * apart + i,
              _mm256_permute2x128_si256(ab02, cd02, 0x31));
        store(planes + 3 * apart + i,
              _mm256_permute2x128_si256(ab13, cd13, 0x31));
    }
    return i;
}

AVX2 static size_t
split_2(const uint8_t *source, size_t n, uint8_t *planes, size_t apart)
{
    const __m256i low = _mm256_set1_epi16(255);
    size_t i = 0;

    for (; n - i >= 32; i += 32) {
        __m256i a = load(source + 2 * i), b = load(source + 2 * i + 32);
        __m256i even = _mm256_packus_epi16(_mm256_and_si256(a, low),
                                           _mm256_and_si256(b, low));
        __m256i odd = _mm256_packus_epi16(_mm256_srli_epi16(a, 8),
                                          _mm256_srli_epi16(b, 8));

        store(planes + i, _mm256_permute4x64_epi64(even, 0xd8));
        store(planes + apart + i, _mm256_permute4x64_epi64(odd, 0xd8));
    }
    return i;
}

size_t
gp_shuffle_split_avx2(const uint8_t *source, size_t width, size_t n,
                      uint8_t *planes, size_t apart)
{
    return width == 4   ? split_4(source, n, planes, apart)
           : width == 2 ? split_2(source, n, planes, apart)
                        : 0;
}

AVX2 static size_t
join_4(const uint8_t *planes, size_t apart, size_t n, uint8_t *out)
{
    size_t i = 0;

    for (; n - i >= 32; i += 32) {
        __m256i a = load(planes + i), b = load(planes + apart + i);
        __m256i c = load(planes + 2 * apart + i);
        __m256i d = load(planes + 3 * apart + i);
        __m256i ab0 = _mm256_unpacklo_epi8(a, b);
        __m256i ab1 = _mm256_unpackhi_epi8(a, b);
        __m256i cd0 = _mm256_unpacklo_epi8(c, d);
        __m256i cd1 = _mm256_unpackhi_epi8(c, d);
        /* Elements 0-3 and 16-19, 4-7 and 20-23, ... */
        __m256i p = _mm256_unpacklo_epi16(ab0, cd0);
        __m256i q = _mm256_unpackhi_epi16(ab0, cd0);
        __m256i r = _mm256_unpacklo_epi16(ab1, cd1);
        __m256i s = _mm256_unpackhi_epi16(ab1, cd1);

        store(out + 4 * i, _mm256_permute2x128_si256(p, q, 0x20));
        store(out + 4 * i + 32, _mm256_permute2x128_si256(r, s, 0x20));
        store(out + 4 * i + 64, _mm256_permute2x128_si256(p, q, 0x31));
        store(out + 4 * i + 96, _mm256_permute2x128_si256(r, s, 0x31));
    }
    return i;
}

AVX2 static size_t
join_2(const uint8_t *planes, size_t apart, size_t n, uint8_t *out)
{
    size_t i = 0;

    for (; n - i >= 32; i += 32) {
        __m256i a = load(planes + i), b = load(planes + apart + i);
        __m256i low = _mm256_unpacklo_epi8(a, b);
        __m256i high = _mm256_unpackhi_epi8(a, b);

        store(out + 2 * i, _mm256_permute2x128_si256(low, high, 0x20));
        store(out + 2 * i + 32, _mm256_permute2x128_si256(low, high, 0x31));
    }
    return i;
}

size_t
gp_shuffle_join_avx2(const uint8_t *planes, size_t apart, size_t width,
                     size_t n, uint8_t *out)
{
    return width == 4   ? join_4(planes, apart, n, out)
           : width == 2 ? join_2(planes, apart, n, out)
                        : 0;
}

/* The highest bits of all bytes, then the next ones. */
AVX2 size_t
gp_bits_split_avx2(const uint8_t *source, size_t n, uint8_t *planes,
                   size_t apart)
{
    size_t i = 0;

    for (; n - i >= 32; i += 32) {
        __m256i v = load(source + i);

        for (size_t k = 8; k--; v = _mm256_add_epi8(v, v)) {
            int bits = _mm256_movemask_epi8(v);

            memcpy(planes + k * apart + i / 8, &bits, 4);
        }
    }
    return i;
}

/* Spreads the 32 bits of each plane over bytes and keeps bit k of those. */
AVX2 size_t
gp_bits_join_avx2(const uint8_t *planes, size_t apart, size_t n, uint8_t *out)
{
    const __m256i spread =
        _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2,
                         2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
    const __m256i place = _mm256_set1_epi64x((long long)0x8040201008040201u);
    size_t i = 0;

    for (; n - i >= 32; i += 32) {
        __m256i v = _mm256_setzero_si256();

        for (size_t k = 0; k < 8; k++) {
            int bits;
            __m256i b;

            memcpy(&bits, planes + k * apart + i / 8, 4);
            b = _mm256_shuffle_epi8(_mm256_set1_epi32(bits), spread);
            b = _mm256_cmpeq_epi8(_mm256_and_si256(b, place), place);
            b = _mm256_and_si256(b, _mm256_set1_epi8((char)(1 << k)));
            v = _mm256_or_si256(v, b);
        }
        store(out + i, v);
    }
    return i;
}

AVX512 size_t
gp_bits_split_avx512(const uint8_t *source, size_t n, uint8_t *planes,
                     size_t apart)
{
    size_t i = 0;

    for (; n - i >= 64; i += 64) {
        __m512i v = _mm512_loadu_si512(source + i);

        for (size_t k = 8; k--; v = _mm512_add_epi8(v, v)) {
            uint64_t bits = _mm512_movepi8_mask(v);

            memcpy(planes + k * apart + i / 8, &bits, 8);
        }
    }
    return i;
}

AVX512 size_t
gp_bits_join_avx512(const uint8_t *planes, size_t apart, size_t n, uint8_t *out)
{
    size_t i = 0;

    for (; n - i >= 64; i += 64) {
        __m512i v = _mm512_setzero_si512();

        for (size_t k = 0; k < 8; k++) {
            uint64_t bits;

            memcpy(&bits, planes + k * apart + i / 8, 8);
            v = _mm512_mask_add_epi8(v, bits, v,
                                     _mm512_set1_epi8((char)(1 << k)));
        }
        _mm512_storeu_si512(out + i, v);
    }
    return i;
}
#else
/* ISO C wants a declaration in every file. */
typedef int gp_shuffle_x86_is_absent;
#endif
