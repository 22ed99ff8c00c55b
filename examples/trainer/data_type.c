/* SPDX-License-Identifier: Apache-2.0 */
/*
 * data_type.c - elements of data files to fp32.
 *
 * Values beyond fp32 become infinite and are refused later, with their place.
 */
#include <math.h>
#include <string.h>

#include "data.h"

size_t
gt_type_bytes(gt_type type)
{
    static const uint8_t bytes[] = {
        [GT_U8] = 1,  [GT_I8] = 1,  [GT_U16] = 2, [GT_I16] = 2,
        [GT_U32] = 4, [GT_I32] = 4, [GT_U64] = 8, [GT_I64] = 8,
        [GT_F16] = 2, [GT_F32] = 4, [GT_F64] = 8};

    return bytes[type];
}

static uint64_t
load(const uint8_t *in, size_t bytes, bool big_endian)
{
    uint64_t v = 0;

    for (size_t i = 0; i < bytes; i++)
        v = v << 8 | in[big_endian ? i : bytes - 1 - i];
    return v;
}

static float
from_half(uint16_t h)
{
    int exponent = h >> 10 & 31, mantissa = h & 1023;
    float v;

    if (exponent == 31)
        v = mantissa ? NAN : INFINITY;
    else if (exponent == 0)
        v = ldexpf((float)mantissa, -24);
    else
        v = ldexpf((float)(mantissa + 1024), exponent - 25);
    return h & 0x8000 ? -v : v;
}

static float
from_bits(gt_type type, uint64_t bits)
{
    uint32_t low = (uint32_t)bits;
    double d;
    float f;

    switch (type) {
    case GT_U8:
    case GT_U16:
    case GT_U32:
    case GT_U64:
        return (float)bits;
    case GT_I8:
        return (float)(int8_t)bits;
    case GT_I16:
        return (float)(int16_t)bits;
    case GT_I32:
        return (float)(int32_t)bits;
    case GT_I64:
        return (float)(int64_t)bits;
    case GT_F16:
        return from_half((uint16_t)bits);
    case GT_F32:
        memcpy(&f, &low, sizeof(f));
        return f;
    case GT_F64:
        memcpy(&d, &bits, sizeof(d));
        /* A conversion out of range is undefined, so it is spelled out. */
        if (d > 3.4028235677973366e38)
            return INFINITY;
        if (d < -3.4028235677973366e38)
            return -INFINITY;
        return (float)d;
    }
    return NAN;
}

void
gt_type_convert(gt_type type, bool big_endian, const uint8_t *in, size_t count,
                float *out)
{
    size_t bytes = gt_type_bytes(type);

    if (type == GT_U8) {
        for (size_t i = 0; i < count; i++)
            out[i] = (float)in[i];
        return;
    }
    for (size_t i = 0; i < count; i++)
        out[i] = from_bits(type, load(in + i * bytes, bytes, big_endian));
}
