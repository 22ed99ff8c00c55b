/* SPDX-License-Identifier: Apache-2.0 */
/*
 * philox.c - Philox4x32-10 and the keys of its streams.
 *
 * A key is a hash of (seed, tensor, rank, use), so that neighbouring ranks and
 * tensors have unrelated streams; the step and the element are the counter.
 *
 * The vector paths hold one block per 64-bit lane. A product needs only the low
 * half of its factors, so the high halves may hold anything until the end.
 */
#include <stdbool.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "compress/codec_internal.h"
#include "compress/philox.h"

#define ROUNDS 10
#define M0     0xd2511f53u
#define M1     0xcd9e8d57u
#define W0     0x9e3779b9u
#define W1     0xbb67ae85u

/* The finalizer of SplitMix64 (Steele, Lea, Flood 2014): a bijection. */
static uint64_t
mix(uint64_t z)
{
    z += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

gp_stream
gp_stream_of(const gp_codec_context *context, gp_stream_use use)
{
    bool own = use == GP_USE_ROUNDING || use == GP_USE_DITHER ||
               use == GP_USE_ROTATION;
    uint64_t key = mix(context->seed);

    key = mix(key ^ context->tensor);
    key = mix(key ^ ((uint64_t)use << 32 | (own ? context->rank : 0)));
    return (gp_stream){
        {(uint32_t)key, (uint32_t)(key >> 32)},
        {(uint32_t)context->step, (uint32_t)(context->step >> 32)}};
}

void
gp_philox_block(const gp_stream *stream, uint64_t block, uint32_t out[4])
{
    uint32_t k0 = stream->key[0], k1 = stream->key[1];
    uint32_t c0 = (uint32_t)block, c1 = (uint32_t)(block >> 32);
    uint32_t c2 = stream->step[0], c3 = stream->step[1];

    for (int round = 0; round < ROUNDS; round++) {
        uint64_t p0 = (uint64_t)M0 * c0;
        uint64_t p1 = (uint64_t)M1 * c2;

        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += W0;
        k1 += W1;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

#if defined(__x86_64__)
#define AVX2   __attribute__((target("avx2")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx2")))
#define INLINE static inline __attribute__((always_inline))
/* Vectors at once, as many as registers hold: hides the latency of products. */
#define GROUPS_2 2
#define GROUPS_5 4
#define STRIDE_2 (4 * GROUPS_2) /* blocks */
#define STRIDE_5 (8 * GROUPS_5)

AVX2 INLINE void
rounds_avx2(__m256i c[GROUPS_2][4], const gp_stream *stream)
{
    const __m256i m0 = _mm256_set1_epi64x(M0), m1 = _mm256_set1_epi64x(M1);
    uint32_t k0 = stream->key[0], k1 = stream->key[1];

    for (int round = 0; round < ROUNDS; round++, k0 += W0, k1 += W1) {
        const __m256i r0 = _mm256_set1_epi64x(k0);
        const __m256i r1 = _mm256_set1_epi64x(k1);

        for (int g = 0; g < GROUPS_2; g++) {
            __m256i p0 = _mm256_mul_epu32(m0, c[g][0]);
            __m256i p1 = _mm256_mul_epu32(m1, c[g][2]);

            c[g][0] = _mm256_xor_si256(_mm256_srli_epi64(p1, 32),
                                       _mm256_xor_si256(c[g][1], r0));
            c[g][1] = p1;
            c[g][2] = _mm256_xor_si256(_mm256_srli_epi64(p0, 32),
                                       _mm256_xor_si256(c[g][3], r1));
            c[g][3] = p0;
        }
    }
}

/* Unpacking takes even lanes, then odd ones: the order of the blocks in the
 * lanes makes them come out ascending. */
AVX2 INLINE void
store_avx2(uint32_t *out, const __m256i c[4])
{
    __m256i a = _mm256_blend_epi32(c[0], _mm256_slli_epi64(c[1], 32), 0xaa);
    __m256i b = _mm256_blend_epi32(c[2], _mm256_slli_epi64(c[3], 32), 0xaa);

    _mm256_storeu_si256((void *)out, _mm256_unpacklo_epi64(a, b));
    _mm256_storeu_si256((void *)(out + 8), _mm256_unpackhi_epi64(a, b));
}

AVX2 static void
blocks_avx2(const gp_stream *stream, uint64_t block, uint32_t *out)
{
    const __m256i order = _mm256_setr_epi64x(0, 2, 1, 3);
    __m256i c[GROUPS_2][4];

    for (int g = 0; g < GROUPS_2; g++) {
        c[g][0] = _mm256_add_epi64(
            order, _mm256_set1_epi64x((long long)(block + 4 * (uint64_t)g)));
        c[g][1] = _mm256_srli_epi64(c[g][0], 32);
        c[g][2] = _mm256_set1_epi64x(stream->step[0]);
        c[g][3] = _mm256_set1_epi64x(stream->step[1]);
    }
    rounds_avx2(c, stream);
    for (int g = 0; g < GROUPS_2; g++)
        store_avx2(out + 16 * g, c[g]);
}

AVX512 INLINE void
rounds_avx512(__m512i c[GROUPS_5][4], const gp_stream *stream)
{
    const __m512i m0 = _mm512_set1_epi64(M0), m1 = _mm512_set1_epi64(M1);
    uint32_t k0 = stream->key[0], k1 = stream->key[1];

    for (int round = 0; round < ROUNDS; round++, k0 += W0, k1 += W1) {
        const __m512i r0 = _mm512_set1_epi64(k0);
        const __m512i r1 = _mm512_set1_epi64(k1);

        for (int g = 0; g < GROUPS_5; g++) {
            __m512i p0 = _mm512_mul_epu32(m0, c[g][0]);
            __m512i p1 = _mm512_mul_epu32(m1, c[g][2]);

            c[g][0] = _mm512_ternarylogic_epi64(_mm512_srli_epi64(p1, 32),
                                                c[g][1], r0, 0x96);
            c[g][1] = p1;
            c[g][2] = _mm512_ternarylogic_epi64(_mm512_srli_epi64(p0, 32),
                                                c[g][3], r1, 0x96);
            c[g][3] = p0;
        }
    }
}

AVX512 INLINE void
store_avx512(uint32_t *out, const __m512i c[4])
{
    __m512i a =
        _mm512_mask_blend_epi32(0xaaaa, c[0], _mm512_slli_epi64(c[1], 32));
    __m512i b =
        _mm512_mask_blend_epi32(0xaaaa, c[2], _mm512_slli_epi64(c[3], 32));

    _mm512_storeu_si512(out, _mm512_unpacklo_epi64(a, b));
    _mm512_storeu_si512(out + 16, _mm512_unpackhi_epi64(a, b));
}

AVX512 static void
blocks_avx512(const gp_stream *stream, uint64_t block, uint32_t *out)
{
    const __m512i order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
    __m512i c[GROUPS_5][4];

    for (int g = 0; g < GROUPS_5; g++) {
        c[g][0] = _mm512_add_epi64(
            order, _mm512_set1_epi64((long long)(block + 8 * (uint64_t)g)));
        c[g][1] = _mm512_srli_epi64(c[g][0], 32);
        c[g][2] = _mm512_set1_epi64(stream->step[0]);
        c[g][3] = _mm512_set1_epi64(stream->step[1]);
    }
    rounds_avx512(c, stream);
    for (int g = 0; g < GROUPS_5; g++)
        store_avx512(out + 32 * g, c[g]);
}

/* How many blocks the vectors did. */
static size_t
blocks_x86(const gp_stream *stream, uint64_t block, uint32_t *out, size_t n)
{
    gp_simd level = gp_simd_get();
    size_t done = 0;

    if (level == GP_SIMD_AVX512)
        for (; n - done >= STRIDE_5; done += STRIDE_5)
            blocks_avx512(stream, block + done, out + 4 * done);
    if (level >= GP_SIMD_AVX2)
        for (; n - done >= STRIDE_2; done += STRIDE_2)
            blocks_avx2(stream, block + done, out + 4 * done);
    return done;
}
#endif

static void
blocks_all(const gp_stream *stream, uint64_t block, uint32_t *out, size_t n)
{
    size_t done = 0;

#if defined(__x86_64__)
    done = blocks_x86(stream, block, out, n);
#endif
    for (; done < n; done++)
        gp_philox_block(stream, block + done, out + 4 * done);
}

void
gp_philox_words(const gp_stream *stream, uint64_t first, uint32_t *out,
                size_t n)
{
    size_t skip = first & 3, head = skip ? 4 - skip : 0, rest;
    uint32_t words[4];

    if (head > n)
        head = n;
    if (head) {
        gp_philox_block(stream, first >> 2, words);
        memcpy(out, words + skip, head * sizeof(*out));
    }
    blocks_all(stream, (first + head) >> 2, out + head, (n - head) / 4);
    rest = (n - head) % 4;
    if (rest) {
        gp_philox_block(stream, (first + n - rest) >> 2, words);
        memcpy(out + n - rest, words, rest * sizeof(*out));
    }
}
