/* SPDX-License-Identifier: Apache-2.0 */
/*
 * random.c - Philox4x32-10 and what is drawn with it.
 *
 * Value i of a stream is word i % 4 of block i / 4; the block number fills the
 * first two counter words.
 */
#include "random.h"

#define ROUNDS 10

static void
philox_round(uint32_t c[4], uint32_t k0, uint32_t k1)
{
    uint64_t a = (uint64_t)0xD2511F53u * c[0];
    uint64_t b = (uint64_t)0xCD9E8D57u * c[2];
    uint32_t c1 = c[1], c3 = c[3];

    c[0] = (uint32_t)(b >> 32) ^ c1 ^ k0;
    c[1] = (uint32_t)b;
    c[2] = (uint32_t)(a >> 32) ^ c3 ^ k1;
    c[3] = (uint32_t)a;
}

void
gt_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t k0 = key[0], k1 = key[1];

    for (int i = 0; i < 4; i++)
        out[i] = counter[i];
    for (int round = 0; round < ROUNDS; round++) {
        philox_round(out, k0, k1);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}

static void
block_of(uint64_t seed, gt_stream stream, uint32_t index, uint64_t block,
         uint32_t out[4])
{
    uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32),
                           (uint32_t)stream, index};

    gt_philox(counter, key, out);
}

void
gt_random_uniform(uint64_t seed, gt_stream stream, uint32_t index, float bound,
                  float *out, size_t count)
{
    uint32_t words[4];

    for (size_t i = 0; i < count; i++) {
        if (i % 4 == 0)
            block_of(seed, stream, index, i / 4, words);
        out[i] = bound * ((float)(words[i % 4] >> 8) * 0x1p-23f - 1.0f);
    }
}

/* Multiply-shift maps 32 bits to [0, n) with a bias below n / 2^32, which no
 * order of samples can show. */
void
gt_random_shuffle(uint64_t seed, gt_stream stream, uint32_t index,
                  uint32_t *items, size_t count)
{
    uint32_t words[4];

    for (size_t i = 0; i + 1 < count; i++) {
        size_t left = count - i, other;
        uint32_t swapped = items[i];

        if (i % 4 == 0)
            block_of(seed, stream, index, i / 4, words);
        other = i + (size_t)((uint64_t)words[i % 4] * left >> 32);
        items[i] = items[other];
        items[other] = swapped;
    }
}
