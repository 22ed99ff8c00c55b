/* SPDX-License-Identifier: Apache-2.0 */
/*
 * topk_kernels.c - scalar, AVX2 and AVX-512.
 *
 * Hits are found 64 elements at a time. The usual few are written without a
 * branch on how many they are, which nothing could predict: always FEW, the
 * next ones cover what is too much. Where they are many, vectors are compressed
 * in registers and stored whole: compressing stores are slow on some machines.
 * Only the last, where this would leave the output, are written one by one.
 */
#if defined(__x86_64__)
#include "compress/masks_x86.h"
#endif

#include "compress/kernels.h"
#include "compress/topk_kernels.h"

#define WORD 64u
#define FEW  3u

/* Where a collection stands: n more elements at x, whose indices start at
 * base, and the next place of the output. */
typedef struct gp_collection {
    const float *x;
    size_t n, at, capacity;
    uint32_t base;
    uint32_t *indices;
    float *values;
} gp_collection;

/* Writes the hits of a word one by one; false when there is no room. */
static inline bool
put_each(gp_collection *c, uint64_t hits)
{
    for (; hits; hits &= hits - 1) {
        unsigned lane = (unsigned)__builtin_ctzll(hits);

        if (c->at == c->capacity)
            return false;
        c->indices[c->at] = c->base + lane;
        c->values[c->at++] = c->x[lane];
    }
    return true;
}

/* Writes up to FEW hits of a word, and something behind them. */
static inline void
put_few(gp_collection *c, uint64_t hits, unsigned count)
{
    uint32_t *indices = c->indices + c->at;
    float *values = c->values + c->at;

    for (unsigned j = 0; j < FEW; j++, hits &= hits - 1) {
        unsigned lane = (unsigned)__builtin_ctzll(hits | (uint64_t)1 << 63);

        indices[j] = c->base + lane;
        values[j] = c->x[lane];
    }
    c->at += count;
}

static size_t
collect_scalar(const float *x, size_t n, uint32_t base, uint32_t least,
               uint32_t *indices, float *values, size_t capacity)
{
    size_t at = 0;

    for (size_t i = 0; i < n; i++) {
        if ((gp_bits(x[i]) & GP_FP32_MAGNITUDE) < least)
            continue;
        if (at == capacity)
            return capacity + 1;
        indices[at] = base + (uint32_t)i;
        values[at++] = x[i];
    }
    return at;
}

static void
keys_scalar(const float *x, size_t n, uint32_t *keys)
{
    for (size_t i = 0; i < n; i++)
        keys[i] = gp_bits(x[i]) & GP_FP32_MAGNITUDE;
}

static size_t
count_scalar(const uint32_t *keys, size_t n, uint32_t pivot, size_t *equal)
{
    size_t above = 0, same = 0;

    for (size_t i = 0; i < n; i++) {
        above += keys[i] > pivot;
        same += keys[i] == pivot;
    }
    *equal = same;
    return above;
}

static size_t
keep_scalar(uint32_t *keys, size_t n, uint32_t least, uint32_t most)
{
    size_t at = 0;

    for (size_t i = 0; i < n; i++) {
        uint32_t key = keys[i];

        keys[at] = key;
        at += key >= least && key <= most;
    }
    return at;
}

static size_t
pick_scalar(const float *from_values, const uint32_t *from_indices, size_t n,
            uint32_t least, uint32_t *indices, float *values, size_t capacity)
{
    size_t at = 0;

    for (size_t i = 0; i < n && at < capacity; i++) {
        uint32_t index = from_indices[i];
        float value = from_values[i];

        indices[at] = index;
        values[at] = value;
        at += (gp_bits(value) & GP_FP32_MAGNITUDE) >= least;
    }
    return at;
}

static const gp_topk_kernels scalar = {collect_scalar, keys_scalar,
                                       count_scalar, keep_scalar, pick_scalar};

#if defined(__x86_64__)
#define AVX2   __attribute__((target("avx2,popcnt")))
#define AVX512 __attribute__((target("avx512f,avx512bw,popcnt")))

/* Lanes of the set bits of a byte, in order, then zeros. */
#define LANE(m, i) ((m) >> (i)&1)
#define BELOW(m, i)                                    \
    (LANE(m, 0) * ((i) > 0) + LANE(m, 1) * ((i) > 1) + \
     LANE(m, 2) * ((i) > 2) + LANE(m, 3) * ((i) > 3) + \
     LANE(m, 4) * ((i) > 4) + LANE(m, 5) * ((i) > 5) + LANE(m, 6) * ((i) > 6))
#define PLACE(m, i) ((uint64_t)(LANE(m, i) * (i)) << (8 * BELOW(m, i)))
#define PACK1(m)                                                           \
    (PLACE(m, 0) | PLACE(m, 1) | PLACE(m, 2) | PLACE(m, 3) | PLACE(m, 4) | \
     PLACE(m, 5) | PLACE(m, 6) |                                           \
     (uint64_t)(LANE(m, 7) * 7) << (8 * BELOW(m, 7) & 63))
#define PACK4(m)  PACK1(m), PACK1((m) + 1), PACK1((m) + 2), PACK1((m) + 3)
#define PACK16(m) PACK4(m), PACK4((m) + 4), PACK4((m) + 8), PACK4((m) + 12)
#define PACK64(m) \
    PACK16(m), PACK16((m) + 16), PACK16((m) + 32), PACK16((m) + 48)

static const uint64_t packed_lanes[256] = {PACK64(0), PACK64(64), PACK64(128),
                                           PACK64(192)};

AVX2 static inline __m256i
lanes_of(unsigned mask)
{
    return _mm256_cvtepu8_epi32(
        _mm_cvtsi64_si128((long long)packed_lanes[mask]));
}

AVX2 static inline uint64_t
hits_avx2(const float *x, __m256i below)
{
    __m256i all = _mm256_set1_epi32(GP_FP32_MAGNITUDE);
    uint64_t hits = 0;

    /* Magnitudes are below 2^31, so signed comparison serves. */
    for (unsigned i = 0; i < WORD; i += 8) {
        __m256i v = _mm256_loadu_si256((const void *)(x + i));
        __m256i hit = _mm256_cmpgt_epi32(_mm256_and_si256(v, all), below);

        hits |= (uint64_t)(unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(hit))
                << i;
    }
    return hits;
}

AVX2 static inline void
put_many_avx2(gp_collection *c, uint64_t hits)
{
    __m256i at_x = _mm256_add_epi32(_mm256_set1_epi32((int)c->base),
                                    _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));

    for (unsigned i = 0; i < WORD; i += 8, hits >>= 8) {
        __m256i v = _mm256_loadu_si256((const void *)(c->x + i));
        __m256i lanes = lanes_of((unsigned)hits & 0xff);

        _mm256_storeu_si256((void *)(c->values + c->at),
                            _mm256_permutevar8x32_epi32(v, lanes));
        _mm256_storeu_si256((void *)(c->indices + c->at),
                            _mm256_permutevar8x32_epi32(at_x, lanes));
        c->at += (unsigned)__builtin_popcount((unsigned)hits & 0xff);
        at_x = _mm256_add_epi32(at_x, _mm256_set1_epi32(8));
    }
}

AVX2 static size_t
collect_avx2(const float *x, size_t n, uint32_t base, uint32_t least,
             uint32_t *indices, float *values, size_t capacity)
{
    __m256i below = _mm256_set1_epi32((int)(least - 1));
    gp_collection c = {x, n, 0, capacity, base, indices, values};

    for (; c.n >= WORD; c.n -= WORD, c.x += WORD, c.base += WORD) {
        uint64_t hits = hits_avx2(c.x, below);
        unsigned count = (unsigned)__builtin_popcountll(hits);

        if (__builtin_expect(c.at + WORD > capacity, 0)) {
            if (!put_each(&c, hits))
                return capacity + 1;
        } else if (__builtin_expect(count <= FEW, 1)) {
            put_few(&c, hits, count);
        } else {
            put_many_avx2(&c, hits);
        }
    }
    return c.at + collect_scalar(c.x, c.n, c.base, least, indices + c.at,
                                 values + c.at, capacity - c.at);
}

AVX2 static void
keys_avx2(const float *x, size_t n, uint32_t *keys)
{
    __m256i all = _mm256_set1_epi32(GP_FP32_MAGNITUDE);
    size_t i = 0;

    for (; i + 8 <= n; i += 8)
        _mm256_storeu_si256(
            (void *)(keys + i),
            _mm256_and_si256(_mm256_loadu_si256((const void *)(x + i)), all));
    keys_scalar(x + i, n - i, keys + i);
}

AVX2 static size_t
count_avx2(const uint32_t *keys, size_t n, uint32_t pivot, size_t *equal)
{
    __m256i p = _mm256_set1_epi32((int)pivot);
    size_t above = 0, same = 0, i = 0, rest;

    for (; i + 8 <= n; i += 8) {
        __m256i v = _mm256_loadu_si256((const void *)(keys + i));

        above += (unsigned)__builtin_popcount((unsigned)_mm256_movemask_ps(
            _mm256_castsi256_ps(_mm256_cmpgt_epi32(v, p))));
        same += (unsigned)__builtin_popcount((unsigned)_mm256_movemask_ps(
            _mm256_castsi256_ps(_mm256_cmpeq_epi32(v, p))));
    }
    above += count_scalar(keys + i, n - i, pivot, &rest);
    *equal = same + rest;
    return above;
}

AVX2 static size_t
keep_avx2(uint32_t *keys, size_t n, uint32_t least, uint32_t most)
{
    __m256i low = _mm256_set1_epi32((int)(least - 1));
    __m256i high = _mm256_set1_epi32((int)most);
    size_t at = 0, i = 0;

    for (; i + 8 <= n; i += 8) {
        __m256i v = _mm256_loadu_si256((const void *)(keys + i));
        __m256i hit = _mm256_andnot_si256(_mm256_cmpgt_epi32(v, high),
                                          _mm256_cmpgt_epi32(v, low));
        unsigned mask = (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(hit));

        _mm256_storeu_si256((void *)(keys + at),
                            _mm256_permutevar8x32_epi32(v, lanes_of(mask)));
        at += (unsigned)__builtin_popcount(mask);
    }
    for (; i < n; i++) {
        uint32_t key = keys[i];

        keys[at] = key;
        at += key >= least && key <= most;
    }
    return at;
}

AVX2 static size_t
pick_avx2(const float *from_values, const uint32_t *from_indices, size_t n,
          uint32_t least, uint32_t *indices, float *values, size_t capacity)
{
    __m256i below = _mm256_set1_epi32((int)(least - 1));
    __m256i all = _mm256_set1_epi32(GP_FP32_MAGNITUDE);
    size_t at = 0, i = 0;

    for (; i + 8 <= n && at + 8 <= capacity; i += 8) {
        __m256i v = _mm256_loadu_si256((const void *)(from_values + i));
        __m256i index = _mm256_loadu_si256((const void *)(from_indices + i));
        __m256i hit = _mm256_cmpgt_epi32(_mm256_and_si256(v, all), below);
        unsigned mask = (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(hit));
        __m256i lanes = lanes_of(mask);

        _mm256_storeu_si256((void *)(values + at),
                            _mm256_permutevar8x32_epi32(v, lanes));
        _mm256_storeu_si256((void *)(indices + at),
                            _mm256_permutevar8x32_epi32(index, lanes));
        at += (unsigned)__builtin_popcount(mask);
    }
    return at + pick_scalar(from_values + i, from_indices + i, n - i, least,
                            indices + at, values + at, capacity - at);
}

static const gp_topk_kernels avx2 = {collect_avx2, keys_avx2, count_avx2,
                                     keep_avx2, pick_avx2};

AVX512 static inline uint64_t
hits_avx512(const float *x, __m512i bound)
{
    __m512i all = _mm512_set1_epi32(GP_FP32_MAGNITUDE);
    uint64_t hits = 0;

    for (unsigned i = 0; i < WORD; i += 16) {
        __m512i v = _mm512_and_si512(_mm512_loadu_si512(x + i), all);

        hits |= (uint64_t)_mm512_cmpge_epu32_mask(v, bound) << i;
    }
    return hits;
}

AVX512 static inline void
put_many_avx512(gp_collection *c, uint64_t hits)
{
    __m512i at_x =
        _mm512_add_epi32(_mm512_set1_epi32((int)c->base),
                         _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11,
                                           12, 13, 14, 15));

    for (unsigned i = 0; i < WORD; i += 16, hits >>= 16) {
        __m512i v = _mm512_loadu_si512(c->x + i);
        __mmask16 mask = (__mmask16)hits;

        _mm512_storeu_si512(c->values + c->at,
                            _mm512_maskz_compress_epi32(mask, v));
        _mm512_storeu_si512(c->indices + c->at,
                            _mm512_maskz_compress_epi32(mask, at_x));
        c->at += gp_lanes_in(mask);
        at_x = _mm512_add_epi32(at_x, _mm512_set1_epi32(16));
    }
}

AVX512 static size_t
collect_avx512(const float *x, size_t n, uint32_t base, uint32_t least,
               uint32_t *indices, float *values, size_t capacity)
{
    __m512i bound = _mm512_set1_epi32((int)least);
    gp_collection c = {x, n, 0, capacity, base, indices, values};

    for (; c.n >= WORD; c.n -= WORD, c.x += WORD, c.base += WORD) {
        uint64_t hits = hits_avx512(c.x, bound);
        unsigned count = (unsigned)__builtin_popcountll(hits);

        if (__builtin_expect(c.at + WORD > capacity, 0)) {
            if (!put_each(&c, hits))
                return capacity + 1;
        } else if (__builtin_expect(count <= FEW, 1)) {
            put_few(&c, hits, count);
        } else {
            put_many_avx512(&c, hits);
        }
    }
    return c.at + collect_scalar(c.x, c.n, c.base, least, indices + c.at,
                                 values + c.at, capacity - c.at);
}

AVX512 static void
keys_avx512(const float *x, size_t n, uint32_t *keys)
{
    __m512i all = _mm512_set1_epi32(GP_FP32_MAGNITUDE);
    size_t i = 0;

    for (; i + 16 <= n; i += 16)
        _mm512_storeu_si512(keys + i,
                            _mm512_and_si512(_mm512_loadu_si512(x + i), all));
    keys_scalar(x + i, n - i, keys + i);
}

AVX512 static size_t
count_avx512(const uint32_t *keys, size_t n, uint32_t pivot, size_t *equal)
{
    __m512i p = _mm512_set1_epi32((int)pivot);
    size_t above = 0, same = 0, i = 0, rest;

    for (; i + 16 <= n; i += 16) {
        __m512i v = _mm512_loadu_si512(keys + i);

        above += gp_lanes_in(_mm512_cmpgt_epu32_mask(v, p));
        same += gp_lanes_in(_mm512_cmpeq_epu32_mask(v, p));
    }
    above += count_scalar(keys + i, n - i, pivot, &rest);
    *equal = same + rest;
    return above;
}

AVX512 static size_t
keep_avx512(uint32_t *keys, size_t n, uint32_t least, uint32_t most)
{
    __m512i low = _mm512_set1_epi32((int)least);
    __m512i high = _mm512_set1_epi32((int)most);
    size_t at = 0, i = 0;

    for (; i + 16 <= n; i += 16) {
        __m512i v = _mm512_loadu_si512(keys + i);
        __mmask16 mask = _mm512_mask_cmple_epu32_mask(
            _mm512_cmpge_epu32_mask(v, low), v, high);

        _mm512_storeu_si512(keys + at, _mm512_maskz_compress_epi32(mask, v));
        at += gp_lanes_in(mask);
    }
    for (; i < n; i++) {
        uint32_t key = keys[i];

        keys[at] = key;
        at += key >= least && key <= most;
    }
    return at;
}

AVX512 static size_t
pick_avx512(const float *from_values, const uint32_t *from_indices, size_t n,
            uint32_t least, uint32_t *indices, float *values, size_t capacity)
{
    __m512i bound = _mm512_set1_epi32((int)least);
    __m512i all = _mm512_set1_epi32(GP_FP32_MAGNITUDE);
    size_t at = 0, i = 0;

    for (; i + 16 <= n && at + 16 <= capacity; i += 16) {
        __m512i v = _mm512_loadu_si512(from_values + i);
        __m512i index = _mm512_loadu_si512(from_indices + i);
        __mmask16 mask =
            _mm512_cmpge_epu32_mask(_mm512_and_si512(v, all), bound);

        _mm512_storeu_si512(values + at, _mm512_maskz_compress_epi32(mask, v));
        _mm512_storeu_si512(indices + at,
                            _mm512_maskz_compress_epi32(mask, index));
        at += gp_lanes_in(mask);
    }
    return at + pick_scalar(from_values + i, from_indices + i, n - i, least,
                            indices + at, values + at, capacity - at);
}

static const gp_topk_kernels avx512 = {collect_avx512, keys_avx512,
                                       count_avx512, keep_avx512, pick_avx512};
#endif

const gp_topk_kernels *
gp_topk_kernels_get(void)
{
#if defined(__x86_64__)
    if (gp_simd_get() == GP_SIMD_AVX512)
        return &avx512;
    if (gp_simd_get() == GP_SIMD_AVX2)
        return &avx2;
#endif
    return &scalar;
}
