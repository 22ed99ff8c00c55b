/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hadamard.c - the scalar reference of the transform, and what all share.
 *
 * A butterfly's result depends on its two operands only, so the order in which
 * a stage visits them is free; the order of the stages is not.
 */
#include <math.h>
#include <string.h>

#include "compress/hadamard.h"
#include "compress/hadamard_kernels.h"
#include "compress/kernels.h"
#include "compress/reduce.h"

/* Blocks from here on are computed 2^-32 times as large. */
#define HUGE_BITS 0x77000000u /* 2^111: 2^15 of them still are finite */

static void
flip(const float *in, float *out, size_t n, const uint32_t *words, size_t first)
{
    for (size_t i = 0; i < n; i++) {
        size_t at = first + i;
        uint32_t sign = words[at >> 5] >> (at & 31) << 31;

        out[i] = gp_float(gp_bits(in[i]) ^ sign);
    }
}

static void
butterflies(float *x, size_t block, float factor)
{
    for (size_t h = 1; h < block; h *= 2)
        for (size_t i = 0; i < block; i += 2 * h)
            for (size_t j = i; j < i + h; j++) {
                float a = x[j], b = x[j + h];

                x[j] = a + b;
                x[j + h] = a - b;
            }
    for (size_t i = 0; i < block; i++)
        x[i] *= factor;
}

const gp_hadamard_kernels gp_hadamard_scalar = {flip, butterflies};

static const gp_hadamard_kernels *
kernels(void)
{
#if defined(__x86_64__)
    if (gp_simd_get() == GP_SIMD_AVX512)
        return &gp_hadamard_avx512;
    if (gp_simd_get() == GP_SIMD_AVX2)
        return &gp_hadamard_avx2;
#endif
    return &gp_hadamard_scalar;
}

static float
norm_of(size_t block)
{
    return (float)(1 / sqrt((double)block));
}

static void
enlarge(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float y = x[i] * 0x1p32f;

        y = y > 0x1.fffffep127f ? 0x1.fffffep127f : y;
        x[i] = y < -0x1.fffffep127f ? -0x1.fffffep127f : y;
    }
}

/* In place, without signs. */
static void
transform(const gp_hadamard_kernels *k, float *x, size_t block)
{
    uint32_t most = gp_max_magnitude(x, block);

    if (most >= GP_FP32_INFINITY) {
        for (size_t i = 0; i < block; i++)
            x[i] = gp_float(GP_FP32_NAN);
        return;
    }
    if (most >= HUGE_BITS) {
        gp_scale_fp32(x, 0x1p-32f, block);
        k->butterflies(x, block, norm_of(block));
        enlarge(x, block);
        return;
    }
    k->butterflies(x, block, norm_of(block));
}

/* Signs are drawn for so many elements at once. */
#define SPAN 4096

static void
flip_span(const gp_hadamard_kernels *k, const gp_stream *signs, uint64_t first,
          const float *in, float *out, size_t n)
{
    uint32_t words[SPAN / 32 + 3];

    for (size_t at = 0; at < n; at += SPAN) {
        size_t part = n - at < SPAN ? n - at : SPAN;
        uint64_t e = first + at;

        gp_philox_words(signs, e >> 5, words, part / 32 + 3);
        k->flip(in + at, out + at, part, words, e & 31);
    }
}

void
gp_hadamard_forward(const gp_stream *signs, uint64_t first_element,
                    const float *in, float *out, size_t n, size_t block)
{
    const gp_hadamard_kernels *k = kernels();

    for (size_t at = 0, size; at < n; at += size) {
        size = gp_hadamard_block(n, at, block);
        flip_span(k, signs, first_element + at, in + at, out + at, size);
        transform(k, out + at, size);
    }
}

void
gp_hadamard_inverse(const gp_stream *signs, uint64_t first_element, float *data,
                    size_t n, size_t block)
{
    const gp_hadamard_kernels *k = kernels();

    for (size_t at = 0, size; at < n; at += size) {
        size = gp_hadamard_block(n, at, block);
        transform(k, data + at, size);
        flip_span(k, signs, first_element + at, data + at, data + at, size);
    }
}
