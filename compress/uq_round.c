/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uq_round.c - elements to codes of uq and back, in four ways of rounding.
 *
 * With v = x * inverse and U the element's number in [0, 1):
 *
 *     nearest     q = v to the nearest, ties to even      value = q * step
 *     stochastic  q = floor(v + U)                        value = q * step
 *     stratified  as stochastic, with (U + rank / size) mod 1, U of all ranks
 *     dither      D = U - 1/2, q = v + D to the nearest   value = (q - D) *
 * step
 *
 * Vectors do the same operations in the same order.
 */
#include <math.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "base/base.h"
#include "compress/codec_internal.h"
#include "compress/uq.h"

#define PIECE 1024 /* elements whose numbers are drawn at a time */

gp_uq_grid
gp_uq_grid_make(gp_uq_round round, const gp_codec_context *context, float step)
{
    static const gp_stream_use uses[] = {0, GP_USE_ROUNDING, GP_USE_DITHER,
                                         GP_USE_STRATIFY};
    gp_uq_grid grid = {.round = round, .step = step, .first = context->offset};

    if (round != GP_UQ_NEAREST)
        grid.stream = gp_stream_of(context, uses[round]);
    if (round == GP_UQ_STRATIFIED && context->rank < context->size)
        grid.shift =
            (uint32_t)(((uint64_t)context->rank << 24) / context->size);
    grid.inverse = 1.0f / step;
    return grid;
}

static inline int32_t
code_of(const gp_uq_grid *grid, float x, uint32_t word)
{
    return gp_uq_code_of(grid->round, grid->inverse, x,
                         gp_uq_offset_of(grid->round, grid->shift, word));
}

static inline float
value_of(const gp_uq_grid *grid, int32_t code, uint32_t word)
{
    return gp_uq_value_of(grid->round, grid->step, code,
                          gp_uq_offset_of(grid->round, grid->shift, word));
}

int32_t
gp_uq_code(const gp_uq_grid *grid, size_t at, float x)
{
    uint32_t word = 0;

    if (grid->round != GP_UQ_NEAREST)
        gp_philox_words(&grid->stream, grid->first + at, &word, 1);
    return code_of(grid, x, word);
}

float
gp_uq_value(const gp_uq_grid *grid, size_t at, int32_t code)
{
    uint32_t word = 0;

    if (grid->round == GP_UQ_DITHER)
        gp_philox_words(&grid->stream, grid->first + at, &word, 1);
    return value_of(grid, code, word);
}

/* What the loops below leave: the reference. `words` may be NULL when the
 * rounding has none. */
static void
quantize_from(const gp_uq_grid *grid, const uint32_t *words, const float *x,
              int8_t *codes, size_t i, size_t n)
{
    for (; i < n; i++) {
        int32_t q = code_of(grid, x[i], words ? words[i] : 0);

        codes[i] = (int8_t)(q > 127 || q < -127 ? GP_UQ_BIG : q);
    }
}

static void
values_from(const gp_uq_grid *grid, const uint32_t *words, const int8_t *codes,
            float *values, size_t i, size_t n)
{
    for (; i < n; i++)
        values[i] = value_of(grid, codes[i], words ? words[i] : 0);
}

#if defined(__x86_64__)
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
#define AVX2   __attribute__((target("avx2")))
#define INLINE static inline __attribute__((always_inline))

AVX512 INLINE __m512
offset_16(const gp_uq_grid *grid, const uint32_t *words)
{
    __m512i w = _mm512_srli_epi32(_mm512_loadu_si512(words), 8);
    __m512 u;

    w = _mm512_add_epi32(w, _mm512_set1_epi32((int)grid->shift));
    w = _mm512_and_si512(w, _mm512_set1_epi32(0xffffff));
    u = _mm512_mul_ps(_mm512_cvtepi32_ps(w), _mm512_set1_ps(0x1p-24f));
    return grid->round == GP_UQ_DITHER ? _mm512_sub_ps(u, _mm512_set1_ps(0.5f))
                                       : u;
}

AVX512 INLINE __m128i
codes_16(const gp_uq_grid *grid, const float *x, const uint32_t *words)
{
    __m512 v = _mm512_mul_ps(_mm512_loadu_ps(x), _mm512_set1_ps(grid->inverse));
    __m512i q;

    if (words)
        v = _mm512_add_ps(v, offset_16(grid, words));
    if (words && grid->round != GP_UQ_DITHER)
        q = _mm512_cvt_roundps_epi32(v,
                                     _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    else
        q = _mm512_cvtps_epi32(v);
    return _mm512_cvtepi32_epi8(_mm512_mask_mov_epi32(
        q, _mm512_cmpgt_epi32_mask(_mm512_abs_epi32(q), _mm512_set1_epi32(127)),
        _mm512_set1_epi32(GP_UQ_BIG)));
}

AVX512 static size_t
quantize_512(const gp_uq_grid *grid, const uint32_t *words, const float *x,
             int8_t *codes, size_t n)
{
    size_t i = 0;

    if (words)
        for (; n - i >= 16; i += 16)
            _mm_storeu_si128((__m128i *)(void *)(codes + i),
                             codes_16(grid, x + i, words + i));
    else
        for (; n - i >= 16; i += 16)
            _mm_storeu_si128((__m128i *)(void *)(codes + i),
                             codes_16(grid, x + i, NULL));
    return i;
}

AVX512 static size_t
values_512(const gp_uq_grid *grid, const uint32_t *words, const int8_t *codes,
           float *values, size_t n)
{
    size_t i = 0;

    for (; n - i >= 16; i += 16) {
        __m512 q = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(
            _mm_loadu_si128((const __m128i *)(const void *)(codes + i))));

        if (words)
            q = _mm512_sub_ps(q, offset_16(grid, words + i));
        _mm512_storeu_ps(values + i,
                         _mm512_mul_ps(q, _mm512_set1_ps(grid->step)));
    }
    return i;
}

AVX2 INLINE __m256
offset_8(const gp_uq_grid *grid, const uint32_t *words)
{
    __m256i w = _mm256_srli_epi32(
        _mm256_loadu_si256((const __m256i *)(const void *)words), 8);
    __m256 u;

    w = _mm256_add_epi32(w, _mm256_set1_epi32((int)grid->shift));
    w = _mm256_and_si256(w, _mm256_set1_epi32(0xffffff));
    u = _mm256_mul_ps(_mm256_cvtepi32_ps(w), _mm256_set1_ps(0x1p-24f));
    return grid->round == GP_UQ_DITHER ? _mm256_sub_ps(u, _mm256_set1_ps(0.5f))
                                       : u;
}

AVX2 INLINE __m256i
codes_8(const gp_uq_grid *grid, const float *x, const uint32_t *words)
{
    __m256 v = _mm256_mul_ps(_mm256_loadu_ps(x), _mm256_set1_ps(grid->inverse));
    __m256i q;

    if (words)
        v = _mm256_add_ps(v, offset_8(grid, words));
    if (words && grid->round != GP_UQ_DITHER)
        v = _mm256_floor_ps(v);
    q = _mm256_cvtps_epi32(v);
    return _mm256_blendv_epi8(
        q, _mm256_set1_epi32(GP_UQ_BIG),
        _mm256_cmpgt_epi32(_mm256_abs_epi32(q), _mm256_set1_epi32(127)));
}

AVX2 static size_t
quantize_256(const gp_uq_grid *grid, const uint32_t *words, const float *x,
             int8_t *codes, size_t n)
{
    size_t i = 0;

    for (; n - i >= 32; i += 32) {
        __m256i q[4];

        for (size_t k = 0; k < 4; k++)
            q[k] =
                codes_8(grid, x + i + 8 * k, words ? words + i + 8 * k : NULL);
        q[0] = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]),
                                  _mm256_packs_epi32(q[2], q[3]));
        _mm256_storeu_si256(
            (__m256i *)(void *)(codes + i),
            _mm256_permutevar8x32_epi32(
                q[0], _mm256_set_epi32(7, 3, 6, 2, 5, 1, 4, 0)));
    }
    return i;
}

AVX2 static size_t
values_256(const gp_uq_grid *grid, const uint32_t *words, const int8_t *codes,
           float *values, size_t n)
{
    size_t i = 0;

    for (; n - i >= 8; i += 8) {
        __m256 q = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(
            _mm_loadl_epi64((const __m128i *)(const void *)(codes + i))));

        if (words)
            q = _mm256_sub_ps(q, offset_8(grid, words + i));
        _mm256_storeu_ps(values + i,
                         _mm256_mul_ps(q, _mm256_set1_ps(grid->step)));
    }
    return i;
}
#endif

static void
quantize_piece(const gp_uq_grid *grid, const uint32_t *words, const float *x,
               int8_t *codes, size_t n)
{
    size_t done = 0;

#if defined(__x86_64__)
    if (gp_simd_get() >= GP_SIMD_AVX512)
        done = quantize_512(grid, words, x, codes, n);
    else if (gp_simd_get() >= GP_SIMD_AVX2)
        done = quantize_256(grid, words, x, codes, n);
#endif
    quantize_from(grid, words, x, codes, done, n);
}

static void
values_piece(const gp_uq_grid *grid, const uint32_t *words, const int8_t *codes,
             float *values, size_t n)
{
    size_t done = 0;

#if defined(__x86_64__)
    if (gp_simd_get() >= GP_SIMD_AVX512)
        done = values_512(grid, words, codes, values, n);
    else if (gp_simd_get() >= GP_SIMD_AVX2)
        done = values_256(grid, words, codes, values, n);
#endif
    values_from(grid, words, codes, values, done, n);
}

void
gp_uq_quantize(const gp_uq_grid *grid, size_t at, const float *x, int8_t *codes,
               size_t n)
{
    uint32_t words[PIECE];

    if (grid->round == GP_UQ_NEAREST) {
        quantize_piece(grid, NULL, x, codes, n);
        return;
    }
    for (size_t i = 0, some; i < n; i += some) {
        some = GP_MIN(n - i, (size_t)PIECE);
        gp_philox_words(&grid->stream, grid->first + at + i, words, some);
        quantize_piece(grid, words, x + i, codes + i, some);
    }
}

void
gp_uq_values(const gp_uq_grid *grid, size_t at, const int8_t *codes,
             float *values, size_t n)
{
    uint32_t words[PIECE];

    if (grid->round != GP_UQ_DITHER) {
        values_piece(grid, NULL, codes, values, n);
        return;
    }
    for (size_t i = 0, some; i < n; i += some) {
        some = GP_MIN(n - i, (size_t)PIECE);
        gp_philox_words(&grid->stream, grid->first + at + i, words, some);
        values_piece(grid, words, codes + i, values + i, some);
    }
}
