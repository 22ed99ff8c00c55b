/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernels.h - the inner loops of the codecs, one table per instruction set.
 *
 * kernels_scalar.c is the reference. The others must give the same bits: no
 * fused multiply-add, one reciprocal per block, integer comparison of
 * magnitudes (which is free of NaN surprises and of the order of a reduction).
 */
#ifndef GP_KERNELS_H
#define GP_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "compress/codec_internal.h"

/* Formats that treat each element alone. */
typedef struct gp_cast_kernels {
    void (*encode)(const float *source, void *out, size_t n);
    /* u = source + residual; out = encode(u); residual = u - decode(out), or 0
     * where u is not finite. */
    void (*feedback)(const float *source, float *residual, void *out, size_t n);
    void (*decode)(const void *bytes, float *target, size_t n);
    void (*decode_add)(const void *bytes, float *target, size_t n);
} gp_cast_kernels;

/* One of the messages of a fold. */
typedef struct gp_q8_message {
    const uint8_t *scales;
    const int8_t *codes;
} gp_q8_message;

/* `block` is a multiple of 32; the last block may be shorter. */
typedef struct gp_q8_kernels {
    void (*encode)(const float *source, size_t n, size_t block, uint8_t *scales,
                   int8_t *codes);
    void (*feedback)(const float *source, float *residual, size_t n,
                     size_t block, uint8_t *scales, int8_t *codes);
    /* No code is -128. */
    bool (*valid)(const int8_t *codes, size_t n);
    /* False when a code is -128; scales are the caller's to check. */
    bool (*decode)(const uint8_t *scales, const int8_t *codes, float *target,
                   size_t n, size_t block);
    void (*decode_add)(const uint8_t *scales, const int8_t *codes,
                       float *target, size_t n, size_t block);
    /* target = the sum of the messages in their order, after target with add.
     * At least one message. False when a code is -128. */
    bool (*fold)(const gp_q8_message *messages, size_t inputs, bool add,
                 float *target, size_t n, size_t block);
} gp_q8_kernels;

typedef struct gp_kernels {
    gp_simd level;
    void (*add)(float *acc, const float *src, size_t n);
    void (*scale)(float *x, float factor, size_t n);
    /* residual = u - d, or 0 where either is not finite. */
    void (*remainder)(const float *u, const float *d, float *residual,
                      size_t n);
    gp_cast_kernels none, fp16, bf16;
    gp_q8_kernels q8;
} gp_kernels;

extern const gp_kernels gp_kernels_scalar;
#if defined(__x86_64__)
extern const gp_kernels gp_kernels_avx2, gp_kernels_avx512;
#endif

/* The table of the level in use. */
const gp_kernels *gp_kernels_get(void);

#define GP_FP32_MAGNITUDE 0x7fffffffu
#define GP_FP32_INFINITY  0x7f800000u
#define GP_FP32_NAN       0x7fc00000u
/* The largest finite value of each format, as bits of an fp32. */
#define GP_FP16_LARGEST 0x477fe000u
#define GP_BF16_LARGEST 0x7f7f0000u
/* Blocks whose absmax is below 2^-119 become zero: the reciprocal could
 * overflow, and the scale could be denormal, so that its bits would depend on
 * the thread's flush-to-zero mode. */
#define GP_Q8_TINY 0x04000000u
/* The largest scale whose 127-fold is finite. */
#define GP_Q8_LARGEST 0x7c010203u

static inline uint32_t
gp_bits(float x)
{
    uint32_t b;

    memcpy(&b, &x, sizeof(b));
    return b;
}

static inline float
gp_float(uint32_t b)
{
    float x;

    memcpy(&x, &b, sizeof(x));
    return x;
}

/* Scale and reciprocal of a block from the bits of its absmax. Both are 0 for a
 * zero block, so that every code becomes 0 without a special case. */
static inline float
gp_q8_scale(uint32_t absmax, float *inverse)
{
    uint32_t s;

    *inverse = 0;
    if (absmax >= GP_FP32_INFINITY)
        return gp_float(GP_FP32_NAN);
    if (absmax < GP_Q8_TINY)
        return 0;
    *inverse = 127.0f / gp_float(absmax);
    s = gp_bits(gp_float(absmax) / 127.0f);
    return gp_float(s < GP_Q8_LARGEST ? s : GP_Q8_LARGEST);
}

/* What gp_q8_scale() can return, and nothing else. */
static inline bool
gp_q8_scale_valid(uint32_t s)
{
    return s == 0 || s == GP_FP32_NAN ||
           (s >= 0x00800000u && s <= GP_Q8_LARGEST);
}

#endif
