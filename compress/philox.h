/* SPDX-License-Identifier: Apache-2.0 */
/*
 * philox.h - random numbers that depend on what they are for, and nothing else.
 *
 * Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
 * SC 2011): block b of a stream is four 32-bit words. Element e of a tensor
 * uses word e & 3 of block e >> 2, wherever and by whomever it is computed.
 */
#ifndef GP_PHILOX_H
#define GP_PHILOX_H

#include <stddef.h>
#include <stdint.h>

#include <gradpush/codec.h>

/* What a stream is for: two uses in one step must not share numbers. */
typedef enum gp_stream_use {
    GP_USE_ROUNDING = 1,  /* stochastic rounding, one stream per rank */
    GP_USE_DITHER = 2,    /* subtractive dither, per rank */
    GP_USE_STRATIFY = 3,  /* rounding that all ranks share but for a shift */
    GP_USE_SELECTION = 4, /* random-k, equal on all ranks */
    GP_USE_SIGNS = 5,   /* of a random Hadamard transform, equal on all ranks */
    GP_USE_START = 6,   /* first guesses of iterations, equal on all ranks */
    GP_USE_ROTATION = 7 /* signs of a rotation that is one rank's own */
} gp_stream_use;

typedef struct gp_stream {
    uint32_t key[2];
    uint32_t step[2];
} gp_stream;

/* The stream of a context. Those of uses marked "equal on all ranks" and of
 * GP_USE_STRATIFY do not depend on the context's rank. */
gp_stream gp_stream_of(const gp_codec_context *context, gp_stream_use use);

/* One block: counter words {block low, block high, step low, step high}. */
void gp_philox_block(const gp_stream *stream, uint64_t block, uint32_t out[4]);

/* Words of elements first, first + 1, ..., first + n - 1. */
void gp_philox_words(const gp_stream *stream, uint64_t first, uint32_t *out,
                     size_t n);

/* The same as numbers in [0, 1): the upper 24 bits, exactly. */
static inline float
gp_unit(uint32_t word)
{
    return (float)(word >> 8) * 0x1p-24f;
}

#endif
