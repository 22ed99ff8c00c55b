/* SPDX-License-Identifier: Apache-2.0 */
/*
 * eden_kernels.c - quantization into bit planes: reference and vectors.
 *
 * Comparing with every bound gives a thermometer code; digit k of its length is
 * the exclusive or of every 2^k-th comparison, so no index is ever formed.
 */
#include <math.h>
#include <string.h>

#include "compress/eden_kernels.h"
#include "compress/kernels.h"

static void
quantize(const float *x, float factor, const float *bounds, unsigned bits,
         uint8_t *planes, size_t stride, size_t n)
{
    unsigned most = (1u << (bits - 1)) - 1;

    for (unsigned k = 0; k < bits; k++)
        memset(planes + k * stride, 0, (n + 7) / 8);
    for (size_t i = 0; i < n; i++) {
        float m = fabsf(x[i] * factor);
        unsigned code = 0;

        for (unsigned j = 0; j < most; j++)
            code += bounds[j] < m;
        code |= (x[i] < 0 ? 1u : 0) << (bits - 1);
        for (unsigned k = 0; k < bits; k++) {
            uint8_t *to = planes + k * stride + i / 8;

            *to = (uint8_t)(*to | (code >> k & 1) << (i & 7));
        }
    }
}

static void
lookup(const uint8_t *planes, size_t stride, unsigned bits,
       const float magnitude[GP_EDEN_LEVELS], float *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned code = 0;

        for (unsigned k = 0; k < bits; k++)
            code |= (unsigned)(planes[k * stride + i / 8] >> (i & 7) & 1) << k;
        out[i] = magnitude[code & ((1u << (bits - 1)) - 1)];
        if (code >> (bits - 1))
            out[i] = gp_float(gp_bits(out[i]) ^ 0x80000000u);
    }
}

const gp_eden_kernels gp_eden_scalar = {quantize, lookup};

const gp_eden_kernels *
gp_eden_kernels_get(void)
{
#if defined(__x86_64__)
    if (gp_simd_get() == GP_SIMD_AVX512)
        return &gp_eden_avx512;
    if (gp_simd_get() == GP_SIMD_AVX2)
        return &gp_eden_avx2;
#endif
    return &gp_eden_scalar;
}
