/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rans_x86.c - the loops of rANS over 32 states at once.
 *
 * Lanes that move a word are packed together, which is what gives the string of
 * words the order of the lanes. put() stores 16 words although fewer count: the
 * others lie below and are overwritten later, or are the caller's slack. get()
 * loads 16 words and leaves the end of the string to the reference.
 */
#if defined(__x86_64__)
#include <immintrin.h>

#include "compress/masks_x86.h"
#include "compress/rans.h"

#define AVX512 \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,popcnt")))
#define AVX2   __attribute__((target("avx2,popcnt")))
#define INLINE static inline __attribute__((always_inline))

/* The high halves of 16 products of 32 bits. */
AVX512 INLINE __m512i
high_product(__m512i a, __m512i b)
{
    __m512i even = _mm512_srli_epi64(_mm512_mul_epu32(a, b), 32);
    __m512i odd =
        _mm512_mul_epu32(_mm512_srli_epi64(a, 32), _mm512_srli_epi64(b, 32));

    return _mm512_mask_mov_epi32(even, 0xaaaa, odd);
}

/* Stores the words of the lanes in `mask` just below `end`. */
AVX512 INLINE uint8_t *
push(__m512i x, __mmask16 mask, uint8_t *end)
{
    const __m512i iota =
        _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    int count = (int)gp_lanes_in(mask);
    __m512i packed = _mm512_maskz_compress_epi32(mask, x);

    packed = _mm512_permutexvar_epi32(
        _mm512_add_epi32(iota, _mm512_set1_epi32(count)), packed);
    _mm256_storeu_si256((__m256i *)(void *)(end - 32),
                        _mm512_cvtepi32_epi16(packed));
    return end - 2 * count;
}

AVX512 INLINE __m512i
put16(__m512i x, __m512i reciprocal, __m512i rest, uint8_t **end)
{
    __m512i f = _mm512_and_si512(rest, _mm512_set1_epi32(4095)), q, bias;
    __mmask16 full = _mm512_cmpge_epu32_mask(x, _mm512_slli_epi32(f, 19));

    *end = push(x, full, *end);
    x = _mm512_mask_srli_epi32(x, full, x, 16);
    q = _mm512_srlv_epi32(high_product(x, reciprocal),
                          _mm512_srli_epi32(rest, 25));
    bias =
        _mm512_and_si512(_mm512_srli_epi32(rest, 12), _mm512_set1_epi32(8191));
    return _mm512_add_epi32(
        _mm512_add_epi32(x, bias),
        _mm512_mullo_epi32(q, _mm512_sub_epi32(_mm512_set1_epi32(4096), f)));
}

/* A table of the 32 entries for 0..15 and -16..-1. */
typedef struct pair {
    __m512i low, high;
} pair;

AVX512 INLINE pair
narrow_table(const uint32_t *table)
{
    return (pair){_mm512_loadu_si512(table), _mm512_loadu_si512(table + 240)};
}

AVX512 INLINE __m512i
narrow_index(const uint8_t *symbols)
{
    __m512i s = _mm512_cvtepi8_epi32(
        _mm_loadu_si128((const __m128i *)(const void *)symbols));
    __mmask16 wide =
        _mm512_cmpgt_epi32_mask(_mm512_abs_epi32(s), _mm512_set1_epi32(15));

    return _mm512_mask_mov_epi32(s, wide, _mm512_set1_epi32(16));
}

AVX512 INLINE __m512i
narrow_entry(pair t, __m512i index)
{
    return _mm512_permutex2var_epi32(t.low, index, t.high);
}

AVX512 static size_t
put_narrow(gp_rans *r, const gp_rans_coder *coder, const uint8_t *symbols,
           size_t n, uint8_t **end)
{
    pair reciprocal = narrow_table(coder->reciprocal);
    pair rest = narrow_table(coder->rest);
    __m512i a = _mm512_loadu_si512(r->x), b = _mm512_loadu_si512(r->x + 16);
    uint8_t *at = *end;

    for (size_t i = n; i; i -= 32) {
        __m512i s = narrow_index(symbols + i - 16);
        __m512i t = narrow_index(symbols + i - 32);

        b = put16(b, narrow_entry(reciprocal, s), narrow_entry(rest, s), &at);
        a = put16(a, narrow_entry(reciprocal, t), narrow_entry(rest, t), &at);
    }
    _mm512_storeu_si512(r->x, a);
    _mm512_storeu_si512(r->x + 16, b);
    *end = at;
    return n;
}

AVX512 INLINE __m512i
wide_index(const uint8_t *symbols)
{
    return _mm512_cvtepu8_epi32(
        _mm_loadu_si128((const __m128i *)(const void *)symbols));
}

AVX512 size_t
gp_rans_put_avx512(gp_rans *r, const gp_rans_coder *coder,
                   const uint8_t *symbols, size_t n, uint8_t **end)
{
    __m512i a = _mm512_loadu_si512(r->x), b = _mm512_loadu_si512(r->x + 16);
    uint8_t *at = *end;

    if (coder->narrow)
        return put_narrow(r, coder, symbols, n, end);
    for (size_t i = n; i; i -= 32) {
        __m512i s = wide_index(symbols + i - 16);
        __m512i t = wide_index(symbols + i - 32);

        b = put16(b, _mm512_i32gather_epi32(s, coder->reciprocal, 4),
                  _mm512_i32gather_epi32(s, coder->rest, 4), &at);
        a = put16(a, _mm512_i32gather_epi32(t, coder->reciprocal, 4),
                  _mm512_i32gather_epi32(t, coder->rest, 4), &at);
    }
    _mm512_storeu_si512(r->x, a);
    _mm512_storeu_si512(r->x + 16, b);
    *end = at;
    return n;
}

AVX512 INLINE __m512i
get16(__m512i x, const gp_rans_decoder *decoder, uint8_t *symbols,
      const uint8_t **at)
{
    __m512i e = _mm512_i32gather_epi32(
        _mm512_and_si512(x, _mm512_set1_epi32(4095)), decoder->slot, 4);
    __m512i words = _mm512_cvtepu16_epi32(
        _mm256_loadu_si256((const __m256i *)(const void *)*at));
    __mmask16 empty;

    _mm_storeu_si128((__m128i *)(void *)symbols, _mm512_cvtepi32_epi8(e));
    x = _mm512_mullo_epi32(
        _mm512_and_si512(_mm512_srli_epi32(e, 8), _mm512_set1_epi32(4095)),
        _mm512_srli_epi32(x, 12));
    x = _mm512_add_epi32(x, _mm512_srli_epi32(e, 20));
    empty = _mm512_cmplt_epu32_mask(x, _mm512_set1_epi32(GP_RANS_FIRST));
    *at += 2 * gp_lanes_in(empty);
    words = _mm512_maskz_expand_epi32(empty, words);
    return _mm512_or_si512(_mm512_mask_slli_epi32(x, empty, x, 16), words);
}

AVX512 size_t
gp_rans_get_avx512(gp_rans *r, const gp_rans_decoder *decoder, uint8_t *symbols,
                   size_t n, const uint8_t **at, const uint8_t *end)
{
    __m512i a = _mm512_loadu_si512(r->x), b = _mm512_loadu_si512(r->x + 16);
    const uint8_t *from = *at;
    size_t i = 0;

    for (; n - i >= 32 && end - from >= 64; i += 32) {
        a = get16(a, decoder, symbols + i, &from);
        b = get16(b, decoder, symbols + i + 16, &from);
    }
    _mm512_storeu_si512(r->x, a);
    _mm512_storeu_si512(r->x + 16, b);
    *at = from;
    return i;
}

/* Stores the words of 4 lanes that are in `mask` just below `end`. */
AVX2 INLINE uint8_t *
push4(__m128i words, unsigned mask, uint8_t *end)
{
#define WORD(w) ((uint64_t)(2 * (w) | (2 * (w) + 1) << 8))
#define LAST(a, b, c, d) \
    (WORD(a) | WORD(b) << 16 | WORD(c) << 32 | WORD(d) << 48)
    static const uint64_t last[16] = {
        LAST(0, 0, 0, 0), LAST(0, 0, 0, 0), LAST(0, 0, 0, 1), LAST(0, 0, 0, 1),
        LAST(0, 0, 0, 2), LAST(0, 0, 0, 2), LAST(0, 0, 1, 2), LAST(0, 0, 1, 2),
        LAST(0, 0, 0, 3), LAST(0, 0, 0, 3), LAST(0, 0, 1, 3), LAST(0, 0, 1, 3),
        LAST(0, 0, 2, 3), LAST(0, 0, 2, 3), LAST(0, 1, 2, 3), LAST(0, 1, 2, 3),
    };
#undef WORD
#undef LAST
    __m128i order = _mm_loadl_epi64((const __m128i *)(const void *)&last[mask]);

    _mm_storel_epi64((__m128i *)(void *)(end - 8),
                     _mm_shuffle_epi8(words, order));
    return end - 2 * _mm_popcnt_u32(mask);
}

AVX2 INLINE __m256i
put8(__m256i x, const gp_rans_coder *coder, const uint8_t *symbols,
     uint8_t **end)
{
    __m256i s = _mm256_cvtepu8_epi32(
        _mm_loadl_epi64((const __m128i *)(const void *)symbols));
    __m256i a = _mm256_i32gather_epi32((const int *)coder->reciprocal, s, 4);
    __m256i rest = _mm256_i32gather_epi32((const int *)coder->rest, s, 4);
    __m256i f = _mm256_and_si256(rest, _mm256_set1_epi32(4095));
    __m256i stays = _mm256_cmpgt_epi32(_mm256_slli_epi32(f, 19), x);
    unsigned mask =
        ~(unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(stays)) & 255;
    __m256i low = _mm256_and_si256(x, _mm256_set1_epi32(0xffff)), q;
    __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(low),
                                     _mm256_extracti128_si256(low, 1));

    *end = push4(_mm_unpackhi_epi64(words, words), mask >> 4, *end);
    *end = push4(words, mask & 15, *end);
    x = _mm256_blendv_epi8(_mm256_srli_epi32(x, 16), x, stays);
    q = _mm256_blend_epi32(
        _mm256_srli_epi64(_mm256_mul_epu32(x, a), 32),
        _mm256_mul_epu32(_mm256_srli_epi64(x, 32), _mm256_srli_epi64(a, 32)),
        0xaa);
    q = _mm256_srlv_epi32(q, _mm256_srli_epi32(rest, 25));
    q = _mm256_mullo_epi32(q, _mm256_sub_epi32(_mm256_set1_epi32(4096), f));
    rest =
        _mm256_and_si256(_mm256_srli_epi32(rest, 12), _mm256_set1_epi32(8191));
    return _mm256_add_epi32(_mm256_add_epi32(x, rest), q);
}

AVX2 size_t
gp_rans_put_avx2(gp_rans *r, const gp_rans_coder *coder, const uint8_t *symbols,
                 size_t n, uint8_t **end)
{
    __m256i x[4];
    uint8_t *at = *end;

    for (int k = 0; k < 4; k++)
        x[k] =
            _mm256_loadu_si256((const __m256i *)(const void *)(r->x + 8 * k));
    for (size_t i = n; i; i -= 32) {
        x[3] = put8(x[3], coder, symbols + i - 8, &at);
        x[2] = put8(x[2], coder, symbols + i - 16, &at);
        x[1] = put8(x[1], coder, symbols + i - 24, &at);
        x[0] = put8(x[0], coder, symbols + i - 32, &at);
    }
    for (int k = 0; k < 4; k++)
        _mm256_storeu_si256((__m256i *)(void *)(r->x + 8 * k), x[k]);
    *end = at;
    return n;
}

/* For each set of 8 lanes, which of 8 packed words each of them takes. */
AVX2 INLINE __m256i
spread(unsigned mask)
{
    static const uint8_t rank[16][4] = {
        {0, 0, 0, 0}, {0, 1, 1, 1}, {0, 0, 1, 1}, {0, 1, 2, 2},
        {0, 0, 0, 1}, {0, 1, 1, 2}, {0, 0, 1, 2}, {0, 1, 2, 3},
        {0, 0, 0, 0}, {0, 1, 1, 1}, {0, 0, 1, 1}, {0, 1, 2, 2},
        {0, 0, 0, 1}, {0, 1, 1, 2}, {0, 0, 1, 2}, {0, 1, 2, 3},
    };
    int32_t low, high;

    __builtin_memcpy(&low, rank[mask & 15], 4);
    __builtin_memcpy(&high, rank[mask >> 4], 4);
    high += _mm_popcnt_u32(mask & 15) * 0x01010101;
    return _mm256_cvtepu8_epi32(
        _mm_insert_epi32(_mm_cvtsi32_si128(low), high, 1));
}

AVX2 INLINE __m256i
get8(__m256i x, const gp_rans_decoder *decoder, const uint8_t **at, __m256i *e)
{
    __m256i words = _mm256_cvtepu16_epi32(
        _mm_loadu_si128((const __m128i *)(const void *)*at));
    __m256i empty;
    unsigned mask;

    *e =
        _mm256_i32gather_epi32((const int *)decoder->slot,
                               _mm256_and_si256(x, _mm256_set1_epi32(4095)), 4);
    x = _mm256_mullo_epi32(
        _mm256_and_si256(_mm256_srli_epi32(*e, 8), _mm256_set1_epi32(4095)),
        _mm256_srli_epi32(x, 12));
    x = _mm256_add_epi32(x, _mm256_srli_epi32(*e, 20));
    empty = _mm256_cmpgt_epi32(_mm256_set1_epi32(GP_RANS_FIRST), x);
    mask = (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(empty));
    *at += 2 * _mm_popcnt_u32(mask);
    words = _mm256_permutevar8x32_epi32(words, spread(mask));
    return _mm256_blendv_epi8(
        x, _mm256_or_si256(_mm256_slli_epi32(x, 16), words), empty);
}

/* The low bytes of 32 entries, in order. */
AVX2 INLINE void
store_symbols(uint8_t *out, const __m256i e[4])
{
    const __m256i low = _mm256_set1_epi32(255);
    __m256i a = _mm256_packus_epi32(_mm256_and_si256(e[0], low),
                                    _mm256_and_si256(e[1], low));
    __m256i b = _mm256_packus_epi32(_mm256_and_si256(e[2], low),
                                    _mm256_and_si256(e[3], low));

    _mm256_storeu_si256(
        (__m256i *)(void *)out,
        _mm256_permutevar8x32_epi32(_mm256_packus_epi16(a, b),
                                    _mm256_set_epi32(7, 3, 6, 2, 5, 1, 4, 0)));
}

AVX2 size_t
gp_rans_get_avx2(gp_rans *r, const gp_rans_decoder *decoder, uint8_t *symbols,
                 size_t n, const uint8_t **at, const uint8_t *end)
{
    __m256i x[4], e[4];
    const uint8_t *from = *at;
    size_t i = 0;

    for (int k = 0; k < 4; k++)
        x[k] =
            _mm256_loadu_si256((const __m256i *)(const void *)(r->x + 8 * k));
    for (; n - i >= 32 && end - from >= 64; i += 32) {
        x[0] = get8(x[0], decoder, &from, &e[0]);
        x[1] = get8(x[1], decoder, &from, &e[1]);
        x[2] = get8(x[2], decoder, &from, &e[2]);
        x[3] = get8(x[3], decoder, &from, &e[3]);
        store_symbols(symbols + i, e);
    }
    for (int k = 0; k < 4; k++)
        _mm256_storeu_si256((__m256i *)(void *)(r->x + 8 * k), x[k]);
    *at = from;
    return i;
}
#else
/* ISO C wants a declaration in every file. */
typedef int gp_rans_x86_is_absent;
#endif
