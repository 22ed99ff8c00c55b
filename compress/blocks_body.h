/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blocks_body.h - the loops of blocks.h in plain C, compiled once per
 * instruction set by a file that defines TARGET, the target attribute, and
 * NAME(x), the name of x there.
 *
 * Every loop is a chain of single IEEE operations per element without branches,
 * so that compilers turn it into vectors and all levels give the same bits. A
 * sum with 1.5 * 2^23 rounds to an integer, to nearest even.
 */
#define BODY         TARGET static inline __attribute__((always_inline))
#define KERNEL       TARGET static void
#define ROUNDER      12582912.0f /* 1.5 * 2^23 */
#define ROUNDER_BITS 0x4b400000u

BODY float
NAME(unit)(uint32_t word, uint32_t shift)
{
    return (float)(int32_t)(((word >> 8) + shift) & 0xffffff) * 0x1p-24f;
}

BODY uint32_t
NAME(choose)(int which, uint32_t yes, uint32_t no)
{
    uint32_t mask = 0u - (uint32_t)which;

    return (yes & mask) | (no & ~mask);
}

BODY float
NAME(clamp)(float y, float limit)
{
    y = y > limit ? limit : y;
    return y < -limit ? -limit : y;
}

/* floor(y) + [u < y - floor(y)], for |y| below 2^22. */
BODY uint32_t
NAME(stochastic)(float y, float u)
{
    float sum = y + ROUNDER, f = sum - ROUNDER;
    int32_t k = (int32_t)(gp_bits(sum) - ROUNDER_BITS), above = f > y;

    f -= (float)above;
    return (uint32_t)(k - above + (u < y - f));
}

/* Code of a float of `mantissa` bits whose least normal has the biased
 * exponent `least`, as a multiple of the step of its binade. */
BODY uint32_t
NAME(float_code)(float y, float u, bool nearest, int mantissa, uint32_t least)
{
    uint32_t b = gp_bits(y) & GP_FP32_MAGNITUDE, e = b >> 23, k;
    float a = gp_float(b);

    e = e > least ? e : least;
    if (nearest) {
        uint32_t c = (e + 23 - (uint32_t)mantissa) << 23;

        k = gp_bits(a + gp_float(c)) - c;
    } else {
        float step = gp_float((254 + (uint32_t)mantissa - e) << 23);

        k = NAME(stochastic)(a * step, u);
    }
    return ((e - least) << mantissa) + k;
}

/* ---- codes ----------------------------------------------------------- */

/* Below this many elements per block, or a quarter of it for decoders, loops
 * run over all blocks of a piece with a factor per element, otherwise over one
 * block with one factor. */
#define SMALL 128

BODY void
NAME(spread)(const float *factors, size_t block, size_t at, size_t n,
             float *each)
{
    size_t run = block - at % block;

    factors += at / block;
    for (size_t i = 0; i < n; i += run, run = block, factors++) {
        run = n - i < run ? n - i : run;
        for (size_t j = 0; j < run; j++)
            each[i + j] = *factors;
    }
}

BODY void
NAME(integers)(const gp_blocks *f, gp_round round, const float *x,
               const uint32_t *words, uint32_t shift, bool small, float factor,
               const float *each, size_t n, uint8_t *codes)
{
    const float limit = f->levels;
    const uint8_t mask = (uint8_t)(f->bits ? (1u << f->bits) - 1 : 3);

    for (size_t i = 0; i < n; i++) {
        float y = NAME(clamp)(x[i] * (small ? each[i] : factor), limit);
        uint32_t q;

        if (round == GP_ROUND_NEAREST)
            q = gp_bits(y + ROUNDER) - ROUNDER_BITS;
        else if (round == GP_ROUND_DITHER)
            q = gp_bits(y + (NAME(unit)(words[i], shift) - 0.5f) + ROUNDER) -
                ROUNDER_BITS;
        else
            q = NAME(stochastic)(y, NAME(unit)(words[i], shift));
        codes[i] = (uint8_t)(q & mask);
    }
}

BODY void
NAME(floats)(const gp_blocks *f, bool nearest, const float *x,
             const uint32_t *words, uint32_t shift, bool small, float factor,
             const float *each, size_t n, uint8_t *codes)
{
    const float limit = f->levels;
    const int mantissa = f->mantissa;
    const uint32_t least = (uint32_t)(f->least + 127), bits = f->bits;

    for (size_t i = 0; i < n; i++) {
        float y = NAME(clamp)(x[i] * (small ? each[i] : factor), limit);
        float u = nearest ? 0 : NAME(unit)(words[i], shift);
        uint32_t code = NAME(float_code)(y, u, nearest, mantissa, least);

        codes[i] = (uint8_t)(code | (gp_bits(y) >> 31) << (bits - 1));
    }
}

#define EACH(call, ...) \
    NAME(call)(f, __VA_ARGS__, x, words, shift, small, factor, each, n, codes)

BODY void
NAME(quantize_run)(const gp_blocks *f, const float *x, const uint32_t *words,
                   uint32_t shift, bool small, float factor, const float *each,
                   size_t n, uint8_t *codes)
{
    if (!f->integer && f->round == GP_ROUND_NEAREST)
        EACH(floats, true);
    else if (!f->integer)
        EACH(floats, false);
    else if (f->round == GP_ROUND_NEAREST)
        EACH(integers, GP_ROUND_NEAREST);
    else if (f->round == GP_ROUND_DITHER)
        EACH(integers, GP_ROUND_DITHER);
    else
        EACH(integers, GP_ROUND_STOCHASTIC);
}
#undef EACH

KERNEL
NAME(quantize)
(const gp_blocks *f, const float *x, const uint32_t *words, uint32_t shift,
 const float *inverse, size_t at, size_t n, uint8_t *codes)
{
    size_t block = f->block, run = block - at % block;
    float each[GP_BLOCKS_PIECE];

    if (block < SMALL) {
        NAME(spread)(inverse, block, at, n, each);
        NAME(quantize_run)(f, x, words, shift, true, 0, each, n, codes);
        return;
    }
    inverse += at / block;
    for (size_t i = 0; i < n; i += run, run = block, inverse++) {
        run = n - i < run ? n - i : run;
        NAME(quantize_run)
        (f, x + i, words ? words + i : NULL, shift, false, *inverse, NULL, run,
         codes + i);
    }
}

KERNEL
NAME(absmax)(const float *x, size_t n, size_t block, uint32_t *most)
{
    for (size_t i = 0; i < n; i += block) {
        size_t run = n - i < block ? n - i : block;
        int32_t m = 0;

        for (size_t j = 0; j < run; j++) {
            int32_t b = (int32_t)(gp_bits(x[i + j]) & GP_FP32_MAGNITUDE);

            m = b > m ? b : m;
        }
        *most++ = (uint32_t)m;
    }
}

/* ---- values ---------------------------------------------------------- */

BODY void
NAME(integer_values)(const gp_blocks *f, bool dither, const uint8_t *codes,
                     const uint32_t *words, uint32_t shift, bool small,
                     float factor, const float *each, size_t n, float *out)
{
    const int32_t half = f->bits ? 1 << (f->bits - 1) : 2;

    for (size_t i = 0; i < n; i++) {
        float q = (float)((codes[i] ^ half) - half);

        if (dither)
            q -= NAME(unit)(words[i], shift) - 0.5f;
        out[i] = q * (small ? each[i] : factor);
    }
}

BODY void
NAME(float_values)(const gp_blocks *f, const uint8_t *codes, bool small,
                   float factor, const float *each, size_t n, float *out)
{
    const uint32_t half = 1u << (f->bits - 1), mantissa = (uint32_t)f->mantissa;
    const uint32_t base = (uint32_t)(f->least + 127 - f->mantissa);
    const uint32_t up = 32 - f->bits;

    for (size_t i = 0; i < n; i++) {
        uint32_t c = codes[i], m = c & (half - 1), e = m >> mantissa;
        uint32_t k;
        float v;

        e = e > 1 ? e - 1 : 0;
        k = m - (e << mantissa);
        v = (float)(int32_t)k * gp_float((e + base) << 23);
        out[i] = gp_float(gp_bits(v) | (c & half) << up) *
                 (small ? each[i] : factor);
    }
}

BODY void
NAME(value_run)(const gp_blocks *f, const uint8_t *codes, const uint32_t *words,
                uint32_t shift, bool small, float factor, const float *each,
                size_t n, float *out)
{
    if (!f->integer)
        NAME(float_values)(f, codes, small, factor, each, n, out);
    else if (f->round == GP_ROUND_DITHER)
        NAME(integer_values)
    (f, true, codes, words, shift, small, factor, each, n, out);
    else NAME(integer_values)(f, false, codes, words, shift, small, factor,
                              each, n, out);
}

KERNEL
NAME(value)
(const gp_blocks *f, const uint8_t *codes, const uint32_t *words,
 uint32_t shift, const float *scales, size_t at, size_t n, float *out)
{
    size_t block = f->block, run = block - at % block;
    float each[GP_BLOCKS_PIECE];

    if (block < SMALL / 4) {
        NAME(spread)(scales, block, at, n, each);
        NAME(value_run)(f, codes, words, shift, true, 0, each, n, out);
        return;
    }
    scales += at / block;
    for (size_t i = 0; i < n; i += run, run = block, scales++) {
        run = n - i < run ? n - i : run;
        NAME(value_run)
        (f, codes + i, words ? words + i : NULL, shift, false, *scales, NULL,
         run, out + i);
    }
}

/* ---- bits ------------------------------------------------------------ */

BODY size_t
NAME(pack_4)(const uint8_t *codes, size_t n, uint8_t *out)
{
    for (size_t i = 0; i < n / 2; i++)
        out[i] = (uint8_t)(codes[2 * i] | codes[2 * i + 1] << 4);
    return n / 2;
}

BODY size_t
NAME(pack_2)(const uint8_t *codes, size_t n, uint8_t *out)
{
    for (size_t i = 0; i < n / 4; i++)
        out[i] = (uint8_t)(codes[4 * i] | codes[4 * i + 1] << 2 |
                           codes[4 * i + 2] << 4 | codes[4 * i + 3] << 6);
    return n / 4;
}

BODY size_t
NAME(pack_6)(const uint8_t *codes, size_t n, uint8_t *out)
{
    for (size_t i = 0; i < n / 4; i++) {
        uint32_t a = codes[4 * i], b = codes[4 * i + 1];
        uint32_t c = codes[4 * i + 2], d = codes[4 * i + 3];

        out[3 * i] = (uint8_t)(a | b << 6);
        out[3 * i + 1] = (uint8_t)(b >> 2 | c << 4);
        out[3 * i + 2] = (uint8_t)(c >> 4 | d << 2);
    }
    return n / 4 * 3;
}

/* Digits 0, 1, 2 stand for 0, 1, -1; a code of -1 is 3. */
BODY size_t
NAME(pack_dense)(const uint8_t *codes, size_t n, uint8_t *out)
{
    for (size_t i = 0; i < n / 5; i++) {
        const uint8_t *c = codes + 5 * i;
        uint32_t byte = 0;

        for (int j = 4; j >= 0; j--)
            byte = 3 * byte + c[j] - (c[j] >> 1);
        out[i] = (uint8_t)byte;
    }
    return n / 5;
}

BODY size_t
NAME(pack_some)(unsigned bits, const uint8_t *codes, size_t n, uint8_t *out)
{
    switch (bits) {
    case 2:
        return NAME(pack_2)(codes, n, out);
    case 4:
        return NAME(pack_4)(codes, n, out);
    case 6:
        return NAME(pack_6)(codes, n, out);
    default:
        return NAME(pack_dense)(codes, n, out);
    }
}

KERNEL
NAME(pack)(unsigned bits, const uint8_t *codes, size_t n, uint8_t *out)
{
    size_t group = gp_blocks_group(bits), rest = n % group, at;
    uint8_t last[8] = {0}, tail[8];

    if (bits == 8) {
        memcpy(out, codes, n);
        return;
    }
    at = NAME(pack_some)(bits, codes, n, out);
    if (!rest)
        return;
    memcpy(last, codes + n - rest, rest);
    NAME(pack_some)(bits, last, group, tail);
    memcpy(out + at, tail, gp_blocks_code_bytes(bits, rest));
}

BODY void
NAME(unpack_whole)(unsigned bits, const uint8_t *bytes, size_t n,
                   uint8_t *codes)
{
    if (bits == 4)
        for (size_t i = 0; i < n / 2; i++) {
            codes[2 * i] = bytes[i] & 15;
            codes[2 * i + 1] = (uint8_t)(bytes[i] >> 4);
        }
    else if (bits == 2)
        for (size_t i = 0; i < n / 4; i++) {
            codes[4 * i] = bytes[i] & 3;
            codes[4 * i + 1] = bytes[i] >> 2 & 3;
            codes[4 * i + 2] = bytes[i] >> 4 & 3;
            codes[4 * i + 3] = (uint8_t)(bytes[i] >> 6);
        }
    else if (bits == 6)
        for (size_t i = 0; i < n / 4; i++) {
            uint32_t a = bytes[3 * i], b = bytes[3 * i + 1];
            uint32_t c = bytes[3 * i + 2];

            codes[4 * i] = a & 63;
            codes[4 * i + 1] = (uint8_t)((a >> 6 | b << 2) & 63);
            codes[4 * i + 2] = (uint8_t)((b >> 4 | c << 4) & 63);
            codes[4 * i + 3] = (uint8_t)(c >> 2);
        }
    else
        for (size_t i = 0; i < n / 5; i++)
            for (uint32_t j = 0, byte = bytes[i]; j < 5; j++) {
                uint32_t third = byte * 171 >> 9, digit = byte - 3 * third;

                codes[5 * i + j] = (uint8_t)(digit + (digit >> 1));
                byte = third;
            }
}

KERNEL
NAME(unpack)(unsigned bits, const uint8_t *bytes, size_t n, uint8_t *codes)
{
    size_t group = gp_blocks_group(bits), rest = n % group;
    uint8_t last[8] = {0}, tail[8];

    if (bits == 8) {
        memcpy(codes, bytes, n);
        return;
    }
    NAME(unpack_whole)(bits, bytes, n, codes);
    if (!rest)
        return;
    memcpy(last, bytes + gp_blocks_code_bytes(bits, n - rest),
           gp_blocks_code_bytes(bits, rest));
    NAME(unpack_whole)(bits, last, group, tail);
    memcpy(codes + n - rest, tail, rest);
}

/* No code that has no meaning; the padding is the caller's. */
TARGET static bool
NAME(valid)(const gp_blocks *f, const uint8_t *bytes, size_t size)
{
    const unsigned forbidden = f->forbidden;
    unsigned bad = 0;

    if (!f->integer && f->bits == 8)
        for (size_t i = 0; i < size; i++)
            bad |= (bytes[i] & 0x7f) >= forbidden;
    else if (!f->integer)
        bad = 0;
    else if (f->bits == 8)
        for (size_t i = 0; i < size; i++)
            bad |= bytes[i] == 0x80;
    else if (f->bits == 4)
        for (size_t i = 0; i < size; i++)
            bad |= ((bytes[i] & 0x0f) == 0x08) | ((bytes[i] & 0xf0) == 0x80);
    else if (f->bits == 2)
        for (size_t i = 0; i < size; i++)
            bad |= bytes[i] >> 1 & ~(unsigned)bytes[i] & 0x55;
    else
        for (size_t i = 0; i < size; i++)
            bad |= bytes[i] > 242;
    return !bad;
}

/* ---- 16 bits per element --------------------------------------------- */

/* NaN becomes quiet and keeps its high payload bits, as when rounding to
 * nearest; Inf stays; finite magnitudes stop at the largest. */
KERNEL
NAME(fp16)
(const float *x, const uint32_t *words, uint32_t shift, size_t n, uint16_t *out)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t b = gp_bits(x[i]), a = b & GP_FP32_MAGNITUDE;
        uint32_t m = NAME(choose)(a > GP_FP16_LARGEST, GP_FP16_LARGEST, a);
        uint32_t nan = 0x7e00 | (a >> 13 & 0x3ff), code;

        code = NAME(float_code)(gp_float(m), NAME(unit)(words[i], shift), false,
                                10, 113);
        code = NAME(choose)(a == GP_FP32_INFINITY, 0x7c00, code);
        code = NAME(choose)(a > GP_FP32_INFINITY, nan, code);
        out[i] = (uint16_t)(code | (b >> 16 & 0x8000));
    }
}

KERNEL
NAME(bf16)
(const float *x, const uint32_t *words, uint32_t shift, size_t n, uint16_t *out)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t b = gp_bits(x[i]), a = b & GP_FP32_MAGNITUDE;
        uint32_t u = (((words[i] >> 8) + shift) & 0xffffff) >> 8;
        uint32_t code = a > GP_BF16_LARGEST ? 0x7f7f : (a + u) >> 16;

        code = a >= GP_FP32_INFINITY ? a >> 16 : code;
        code = a > GP_FP32_INFINITY ? code | 0x40 : code;
        out[i] = (uint16_t)(code | (b >> 16 & 0x8000));
    }
}

static const gp_blocks_kernels NAME(table) = {
    .absmax = NAME(absmax),
    .quantize = NAME(quantize),
    .value = NAME(value),
    .pack = NAME(pack),
    .unpack = NAME(unpack),
    .valid = NAME(valid),
    .fp16 = NAME(fp16),
    .bf16 = NAME(bf16),
};

#undef SMALL
#undef BODY
#undef KERNEL
#undef ROUNDER
#undef ROUNDER_BITS
