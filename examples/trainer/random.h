/* SPDX-License-Identifier: Apache-2.0 */
/*
 * random.h - numbers that depend on (seed, purpose, position) and on nothing
 * else: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1,
 * 2, 3", SC 2011).
 *
 * There is no state to save: a resumed run asks for the same positions again,
 * and every rank computes the same values without talking to the others.
 */
#ifndef GT_RANDOM_H
#define GT_RANDOM_H

#include <stddef.h>
#include <stdint.h>

/* The third counter word keeps the streams of one seed apart. */
typedef enum gt_stream {
    GT_STREAM_INIT = 1,   /* initial weights; fourth word: layer */
    GT_STREAM_SHUFFLE = 2 /* order of samples; fourth word: epoch */
} gt_stream;

/* The block cipher: 4 counter words and 2 key words to 4 random words. */
void gt_philox(const uint32_t counter[4], const uint32_t key[2],
               uint32_t out[4]);

/* out[i] uniform in [-bound, bound), 24 random bits each. */
void gt_random_uniform(uint64_t seed, gt_stream stream, uint32_t index,
                       float bound, float *out, size_t count);

/* Fisher-Yates over items[0 .. count), count < 2^32. */
void gt_random_shuffle(uint64_t seed, gt_stream stream, uint32_t index,
                       uint32_t *items, size_t count);

#endif
