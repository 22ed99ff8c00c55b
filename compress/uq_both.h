/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uq_both.h - what uq decides and how its parts are written, for the host
 * (uq.c, uq_round.c, uq_shape.c) and for devices (cuda/uq.cu, cuda/unuq.cu)
 * alike.
 */
#ifndef GP_UQ_BOTH_H
#define GP_UQ_BOTH_H

#include <math.h>

#include "compress/rans_both.h"
#if defined(__CUDACC__) || defined(GP_EMULATE)
/* The same numbers, in the device's memory. */
#define GP_UQ_TABLE GP_BOTH_TABLE
#include "compress/uq_tables.c"
#else
#include "compress/uq_tables.h"
#endif

#define GP_UQ_SECTION 4096u /* elements that share a table */
#define GP_UQ_BIG     (-128)
#define GP_UQ_HEAD    9u
/* No step is beyond these, so that neither a reciprocal nor a value of a code
 * can overflow or be denormal; and no code, so that it is exact in fp32. */
#define GP_UQ_STEP_LEAST  0x1p-100f
#define GP_UQ_STEP_MOST   0x1p100f
#define GP_UQ_CODE_LIMIT  0x1p20f
#define GP_UQ_ESCAPE_MOST ((1 << 20) + 1)
#define GP_UQ_NEAR        16 /* tables tried on either side */

typedef enum gp_uq_round {
    GP_UQ_NEAREST,
    GP_UQ_STOCHASTIC,
    GP_UQ_DITHER,
    GP_UQ_STRATIFIED
} gp_uq_round;

typedef enum gp_uq_mode {
    GP_UQ_ZEROS,
    GP_UQ_CODED,
    GP_UQ_RAW,
    GP_UQ_NAN
} gp_uq_mode;

GP_BOTH uint64_t
gp_uq_sections(uint64_t count)
{
    return count / GP_UQ_SECTION + (count % GP_UQ_SECTION != 0);
}

/* ---- the step ---- */

/* Of a grid over numbers of that mean square, `most` the bits of the largest
 * magnitude; 0 when the arithmetic of codes does not hold. */
GP_BOTH float
gp_uq_step(double c, double mean, uint32_t most)
{
    double step = c * sqrt(mean);
    float s;

    if (!(step >= (double)GP_UQ_STEP_LEAST && step <= (double)GP_UQ_STEP_MOST))
        return 0;
    s = (float)step;
    return GP_BOTH_FLOAT(most) * (1.0f / s) < GP_UQ_CODE_LIMIT ? s : 0;
}

GP_BOTH bool
gp_uq_step_valid(float step)
{
    return step >= GP_UQ_STEP_LEAST && step <= GP_UQ_STEP_MOST;
}

/* ---- elements and codes ---- */

/* What an element's number adds to it, or takes away. */
GP_BOTH float
gp_uq_offset_of(gp_uq_round round, uint32_t shift, uint32_t word)
{
    float u = (float)(int32_t)(((word >> 8) + shift) & 0xffffff) * 0x1p-24f;

    return round == GP_UQ_DITHER ? u - 0.5f : u;
}

GP_BOTH int32_t
gp_uq_code_of(gp_uq_round round, float inverse, float x, float offset)
{
    float v = x * inverse;

    if (round == GP_UQ_NEAREST)
        return (int32_t)lrintf(v);
    v += offset;
    return (int32_t)(round == GP_UQ_DITHER ? lrintf(v) : (long)floorf(v));
}

GP_BOTH float
gp_uq_value_of(gp_uq_round round, float step, int32_t code, float offset)
{
    float q = (float)code;

    return (round == GP_UQ_DITHER ? q - offset : q) * step;
}

/* ---- where things are in a message ---- */

/* What is ahead of the words. */
GP_BOTH uint64_t
gp_uq_front(uint64_t count, uint64_t escaped)
{
    return GP_UQ_HEAD + gp_uq_sections(count) + 4 * gp_rans_lanes(count) +
           escaped;
}

/* Every word takes 2 bytes and no symbol more than one. Words are written from
 * the end of the buffer, where RAW would end, and must not meet the rest. */
GP_BOTH bool
gp_uq_fits(uint64_t count, uint64_t escaped)
{
    return gp_uq_front(count, escaped) + GP_RANS_SLACK + 2 * count <=
               1 + 4 * count &&
           escaped <= UINT32_MAX;
}

/* ---- escapes: codes without a symbol, as base-128 numbers ---- */

GP_BOTH uint32_t
gp_uq_escape_of(int32_t code)
{
    uint32_t m = (uint32_t)(code < 0 ? -code : code);

    return (m - 1) << 1 | (code < 0);
}

GP_BOTH uint32_t
gp_uq_escape_bytes(int32_t code)
{
    uint32_t v = gp_uq_escape_of(code);

    return 1 + (v >= 1u << 7) + (v >= 1u << 14) + (v >= 1u << 21);
}

/* Returns how many bytes. */
GP_BOTH uint32_t
gp_uq_put_escape(uint8_t *out, int32_t code)
{
    uint32_t v = gp_uq_escape_of(code), n = 0;

    for (; v >= 128; v >>= 7)
        out[n++] = (uint8_t)(v | 128);
    out[n++] = (uint8_t)v;
    return n;
}

/* The code that begins there and its bytes; 0 when there is no such. The
 * shortest form is the only one. */
GP_BOTH int32_t
gp_uq_get_escape(const uint8_t *at, uint64_t left, uint32_t *bytes)
{
    uint32_t v = 0;

    for (uint32_t k = 0; k < 4 && k < left; k++) {
        int32_t magnitude;

        v |= (uint32_t)(at[k] & 127) << 7 * k;
        if (at[k] & 128)
            continue;
        magnitude = (int32_t)(v >> 1) + 1;
        if ((k && !at[k]) || magnitude > GP_UQ_ESCAPE_MOST)
            return 0;
        *bytes = k + 1;
        return v & 1 ? -magnitude : magnitude;
    }
    return 0;
}

/* ---- tables: shape s is number s - 1, shape 0 a section of zeros ---- */

/* The largest magnitude that has a symbol; larger ones are escaped. */
GP_BOTH uint32_t
gp_uq_largest(uint32_t shape)
{
    return gp_uq_begins[shape] - gp_uq_begins[shape - 1] - 2u;
}

/* The first shape whose P(0) is at most what was counted. */
GP_BOTH uint32_t
gp_uq_nearest_shape(uint32_t zeros, uint64_t n)
{
    uint32_t low = 0, high = GP_UQ_SHAPES - 1;

    while (low < high) {
        uint32_t middle = (low + high) / 2;

        if ((uint64_t)gp_uq_frequencies[gp_uq_begins[middle]] * n <=
            (uint64_t)zeros * GP_RANS_TOTAL)
            high = middle;
        else
            low = middle + 1;
    }
    return low + 1;
}

/* In 1/256 bit, of a section that has so many of each magnitude up to
 * `largest`, 128 for those beyond; `costs` as gp_uq_frequencies. Escapes take a
 * byte up to 64, and about two beyond. */
GP_BOTH uint64_t
gp_uq_cost_of(const uint16_t *costs, uint32_t shape, const uint32_t *count,
              uint32_t largest)
{
    const uint16_t *cost = costs + gp_uq_begins[shape - 1];
    uint32_t has = gp_uq_largest(shape), last = has < largest ? has : largest;
    uint32_t bits = 0, escaped = 0, far = 0;

    for (uint32_t m = 0; m <= last; m++)
        bits += count[m] * cost[m];
    for (uint32_t m = has + 1; m <= largest; m++) {
        escaped += count[m];
        far += m > 64 ? count[m] : 0;
    }
    return bits + (uint64_t)escaped * (cost[has + 1] + 8 * 256) +
           (uint64_t)far * (8 * 256);
}

#endif
