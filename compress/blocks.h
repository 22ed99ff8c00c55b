/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blocks.h - formats of few bits per element that share a scale per block.
 *
 * A message is a header (E4M3 scales only: one fp32), the scales, the codes.
 * What the formats have in common is here; which ones there are is said by
 * qn.c (integers) and mx.c (floats and shared exponents).
 */
#ifndef GP_BLOCKS_H
#define GP_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <gradpush/codec.h>

/* In the order of the words of the parameter `round`. */
typedef enum gp_round {
    GP_ROUND_NEAREST,    /* ties to even */
    GP_ROUND_STOCHASTIC, /* floor(y) + [u < y - floor(y)] */
    GP_ROUND_STRATIFIED, /* that, u shared by all ranks but for a shift */
    GP_ROUND_DITHER      /* nearest of y + (u - 1/2), which is subtracted */
} gp_round;
extern const char *const gp_round_words[]; /* all four */

typedef enum gp_scale {
    GP_SCALE_FP32,
    GP_SCALE_BF16, /* rounded up */
    GP_SCALE_E8M0, /* a power of two */
    GP_SCALE_E4M3  /* of an fp32 in the header */
} gp_scale;
extern const char *const gp_scale_words[]; /* fp32 and bf16 */

/* Most elements of a call to a loop: a multiple of 20 and of most blocks. */
#define GP_BLOCKS_PIECE 1280

#define GP_BLOCKS_DENSE 0 /* as `bits`: five codes of three values per byte */

typedef struct gp_blocks {
    size_t block; /* a multiple of 16 */
    gp_round round;
    gp_scale scale;
    unsigned bits; /* of a code: 8, 6, 4, 2 or GP_BLOCKS_DENSE */
    bool integer;
    /* Float codes: bits of the mantissa, exponent of the least normal, and the
     * magnitude from which on codes are refused. */
    int mantissa, least;
    unsigned forbidden;
    /* An element of magnitude absmax becomes this many units. */
    float levels;
    /* E8M0: exponent of the largest power of two up to levels, and what is
     * added to the exponent of the unit to give the shared one. */
    int top, unit;
    uint32_t tiny;          /* bits of the least absmax of a block not zero */
    uint32_t largest_scale; /* fp32 and BF16 scales: bits */
} gp_blocks;

/* Fills in tiny and largest_scale. */
void gp_blocks_finish(gp_blocks *f);

/* SIZE_MAX when it overflows. */
size_t gp_blocks_bound(const void *instance, size_t count);

gp_status gp_blocks_encode(const void *instance,
                           const gp_codec_context *context, const float *source,
                           size_t count, void *out, size_t capacity,
                           size_t *length);
gp_status gp_blocks_feedback(const void *instance,
                             const gp_codec_context *context,
                             const float *source, float *residual, size_t count,
                             void *out, size_t capacity, size_t *length);
gp_status gp_blocks_decode(const void *instance,
                           const gp_codec_context *context, const void *bytes,
                           size_t length, float *target, size_t count);
gp_status gp_blocks_decode_add(const void *instance,
                               const gp_codec_context *context,
                               const void *bytes, size_t length, float *target,
                               size_t count);
gp_status gp_blocks_fold(const void *instance, const gp_codec_input *input,
                         size_t inputs, int add, float *target, size_t count);
double gp_blocks_error_bound(const void *instance, size_t count);
uint32_t gp_blocks_properties(const void *instance);

/* What context.rank adds to the 24-bit numbers of a mode. */
uint32_t gp_round_shift(gp_round round, const gp_codec_context *context);
/* The numbers of elements context.offset + first and on. */
void gp_round_words_of(gp_round round, const gp_codec_context *context,
                       size_t first, uint32_t *words, size_t n);

/* The inner loops, per SIMD level. Elements lie in one run of blocks, `at` is
 * the first one's place in the first block's run. */
typedef struct gp_blocks_kernels {
    /* Bits of the absmax of each block. */
    void (*absmax)(const float *x, size_t n, size_t block, uint32_t *most);
    void (*quantize)(const gp_blocks *f, const float *x, const uint32_t *words,
                     uint32_t shift, const float *inverse, size_t at, size_t n,
                     uint8_t *codes);
    void (*value)(const gp_blocks *f, const uint8_t *codes,
                  const uint32_t *words, uint32_t shift, const float *scales,
                  size_t at, size_t n, float *out);
    /* n codes to and from the bytes of that many, zeros behind the last. */
    void (*pack)(unsigned bits, const uint8_t *codes, size_t n, uint8_t *out);
    void (*unpack)(unsigned bits, const uint8_t *bytes, size_t n,
                   uint8_t *codes);
    bool (*valid)(const gp_blocks *f, const uint8_t *bytes, size_t size);
    /* fp16 and bf16 by stochastic rounding. */
    void (*fp16)(const float *x, const uint32_t *words, uint32_t shift,
                 size_t n, uint16_t *out);
    void (*bf16)(const float *x, const uint32_t *words, uint32_t shift,
                 size_t n, uint16_t *out);
} gp_blocks_kernels;

const gp_blocks_kernels *gp_blocks_kernels_get(void);

#endif
