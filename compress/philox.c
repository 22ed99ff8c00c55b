/* SPDX-License-Identifier: Apache-2.0 */
/*
 * philox.c - Philox4x32-10 and the keys of its streams.
 *
 * A key is a hash of (seed, tensor, rank, use), so that neighbouring ranks and
 * tensors have unrelated streams; the step and the element are the counter.
 */
#include <stdbool.h>

#include "compress/philox.h"

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
    bool own = use == GP_USE_ROUNDING || use == GP_USE_DITHER;
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

    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xd2511f53u * c0;
        uint64_t p1 = (uint64_t)0xcd9e8d57u * c2;

        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

void
gp_philox_words(const gp_stream *stream, uint64_t first, uint32_t *out,
                size_t n)
{
    uint32_t words[4];

    for (size_t i = 0; i < n; i++) {
        uint64_t element = first + i;

        if (i == 0 || (element & 3) == 0)
            gp_philox_block(stream, element >> 2, words);
        out[i] = words[element & 3];
    }
}
