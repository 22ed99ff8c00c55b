/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blocks.c - messages of formats that share a scale per block.
 *
 * Work goes through windows of whole blocks that fit the cache: scales first,
 * then codes, by pieces whose codes begin at a byte. Nothing depends on where
 * windows and pieces lie.
 */
#include "compress/blocks.h"

#include <math.h>
#include <string.h>

#include "base/base.h"
#include "base/bytes.h"
#include "compress/kernels.h"
#include "compress/philox.h"
#include "compress/reduce.h"

#define PIECE        GP_BLOCKS_PIECE
#define MEMBERS      (PIECE / 16)
#define E4M3_NAN     0x7f
#define E4M3_LARGEST 448.0f
#define E8M0_NAN     0xff
#define FP4_LARGEST  6.0f
/* Below it the least scale of a block would not be normal any more. */
#define HEADER_LEAST 0x1p-117f
#define HEADER_MOST  (0x1.fffffp127f / (FP4_LARGEST * E4M3_LARGEST))

const char *const gp_round_words[] = {"nearest", "stochastic", "stratified",
                                      "dither", NULL};
const char *const gp_scale_words[] = {"fp32", "bf16", NULL};

static const uint8_t scale_widths[] = {4, 2, 1, 1};

/* What a call works on. */
typedef struct window {
    const gp_blocks *f;
    const gp_blocks_kernels *kernels;
    const gp_codec_context *context;
    uint32_t shift;
    float header;           /* E4M3 scales are multiples of it */
    float factors[MEMBERS]; /* encoders: inverses; decoders: scales */
    bool bad[MEMBERS];      /* blocks that are not finite */
} window;

/* ---- sizes ----------------------------------------------------------- */

static size_t
header_bytes(const gp_blocks *f, size_t count)
{
    return f->scale == GP_SCALE_E4M3 && count ? 4 : 0;
}

static size_t
blocks_of(const gp_blocks *f, size_t count)
{
    return count / f->block + (count % f->block != 0);
}

static size_t
scale_bytes(const gp_blocks *f, size_t count)
{
    return blocks_of(f, count) * scale_widths[f->scale];
}

/* Written so that it cannot overflow. */
static size_t
code_bytes(const gp_blocks *f, size_t count)
{
    if (f->bits == GP_BLOCKS_DENSE)
        return count / 5 + (count % 5 != 0);
    return count / 8 * f->bits + (count % 8 * f->bits + 7) / 8;
}

/* Blocks have 16 elements or more, so scales take at most count / 4 + 4. */
size_t
gp_blocks_bound(const void *instance, size_t count)
{
    const gp_blocks *f = instance;
    size_t bytes;

    if (!gp_add(code_bytes(f, count),
                scale_bytes(f, count) + header_bytes(f, count), &bytes))
        return SIZE_MAX;
    return bytes;
}

/* Elements of a window: whole blocks whose codes end at a byte. */
static size_t
window_size(const gp_blocks *f)
{
    size_t members = PIECE / f->block;

    if (f->bits == GP_BLOCKS_DENSE)
        members = members / 5 * 5;
    if (members == 0)
        members = f->bits == GP_BLOCKS_DENSE ? 5 : 1;
    return members * f->block;
}

/* ---- numbers of a context -------------------------------------------- */

uint32_t
gp_round_shift(gp_round round, const gp_codec_context *context)
{
    uint64_t size = context->size ? context->size : 1;

    if (round != GP_ROUND_STRATIFIED)
        return 0;
    return (uint32_t)((context->rank % size << 24) / size);
}

void
gp_round_words_of(gp_round round, const gp_codec_context *context, size_t first,
                  uint32_t *words, size_t n)
{
    static const gp_stream_use uses[] = {GP_USE_ROUNDING, GP_USE_ROUNDING,
                                         GP_USE_STRATIFY, GP_USE_DITHER};
    gp_stream stream;

    if (round == GP_ROUND_NEAREST)
        return;
    stream = gp_stream_of(context, uses[round]);
    gp_philox_words(&stream, context->offset + first, words, n);
}

static void
begin(window *w, const gp_blocks *f, const gp_codec_context *context)
{
    w->f = f;
    w->kernels = gp_blocks_kernels_get();
    w->context = context;
    w->shift = gp_round_shift(f->round, context);
    w->header = 0;
}

/* ---- scales ---------------------------------------------------------- */

void
gp_blocks_finish(gp_blocks *f)
{
    float reach = f->levels + (f->round == GP_ROUND_DITHER ? 0.5f : 0);
    uint32_t s = gp_bits(0x1.fffffep127f / reach);
    volatile float most = gp_float(s) * reach;

    if (!isfinite(most))
        s--;
    f->largest_scale = f->scale == GP_SCALE_BF16 ? s & 0xffff0000u : s;
    f->tiny = GP_Q8_TINY;
    if (f->scale == GP_SCALE_E8M0)
        f->tiny = (uint32_t)(f->top + 1) << 23;
    else
        while (gp_float(f->tiny) < f->levels * 0x1p-126f)
            f->tiny += 1u << 23;
}

/* s = absmax / levels as fp32 or as the next bf16. */
static float
float_scale(const gp_blocks *f, uint32_t absmax, float *inverse)
{
    uint32_t s = gp_bits(gp_float(absmax) / f->levels);

    if (f->scale == GP_SCALE_BF16)
        s = (s + 0xffff) & 0xffff0000u;
    if (s > f->largest_scale)
        s = f->largest_scale;
    else if (f->scale == GP_SCALE_FP32) {
        *inverse = f->levels / gp_float(absmax);
        return gp_float(s);
    }
    *inverse = 1 / gp_float(s);
    return gp_float(s);
}

/* The exponent of the OCP formats; one more where rounding must not clip. */
static uint8_t
power_scale(const gp_blocks *f, uint32_t absmax, float *inverse)
{
    int e = (int)(absmax >> 23) - 127 - f->top;

    if (f->round != GP_ROUND_NEAREST && e + f->top < 127 &&
        gp_float(absmax) > f->levels * gp_float((uint32_t)(e + 127) << 23))
        e++;
    *inverse = gp_float((uint32_t)(127 - e) << 23);
    return (uint8_t)(e + f->unit + 127);
}

static float
e4m3_value(uint8_t code)
{
    uint32_t e = code >> 3 > 1 ? (code >> 3) - 1u : 0;

    return (float)(int)(code - (e << 3)) * gp_float((e + 118) << 23);
}

/* Nearest even, or up; t is in [0, 448]. The sum with a power of two rounds to
 * a multiple of the step of t's binade. */
static uint8_t
e4m3_code(float t, bool up)
{
    uint32_t b = gp_bits(t), e = b >> 23 > 121 ? b >> 23 : 121, c, k;
    float sum;

    c = (e + 20) << 23;
    sum = t + gp_float(c);
    k = gp_bits(sum) - c;
    if (up && sum - gp_float(c) < t)
        k++;
    return (uint8_t)(((e - 121) << 3) + k);
}

static uint8_t
fine_scale(const window *w, uint32_t absmax, float *inverse)
{
    float t = 0, s;
    uint8_t code;

    if (w->header > 0)
        t = gp_float(absmax) / (FP4_LARGEST * w->header);
    t = t < E4M3_LARGEST ? t : E4M3_LARGEST;
    code = e4m3_code(t, w->f->round != GP_ROUND_NEAREST);
    s = e4m3_value(code) * w->header;
    *inverse = s > 0 ? 1 / s : 0;
    return code;
}

/* Writes the scale of a block and tells the inverse of its unit. */
static void
put_scale(window *w, size_t member, uint32_t absmax, uint8_t *at)
{
    const gp_blocks *f = w->f;
    bool bad = absmax >= GP_FP32_INFINITY, zero = absmax < f->tiny;
    float inverse = 0, s = bad ? gp_float(GP_FP32_NAN) : 0;
    uint8_t code = 0;

    if (f->scale == GP_SCALE_E8M0)
        code = bad ? E8M0_NAN : zero ? 0 : power_scale(f, absmax, &inverse);
    else if (f->scale == GP_SCALE_E4M3)
        code = bad ? E4M3_NAN : fine_scale(w, absmax, &inverse);
    else if (!bad && !zero)
        s = float_scale(f, absmax, &inverse);
    if (f->scale == GP_SCALE_FP32)
        gp_put32(at, gp_bits(s));
    else if (f->scale == GP_SCALE_BF16)
        gp_put16(at, (uint16_t)(gp_bits(s) >> 16));
    else
        *at = code;
    w->factors[member] = inverse;
    w->bad[member] = bad;
}

static float
get_scale(const window *w, const uint8_t *at)
{
    switch (w->f->scale) {
    case GP_SCALE_FP32:
        return gp_float(gp_get32(at));
    case GP_SCALE_BF16:
        return gp_float((uint32_t)gp_get16(at) << 16);
    case GP_SCALE_E8M0:
        if (*at == 0 || *at == E8M0_NAN)
            return *at ? gp_float(GP_FP32_NAN) : 0;
        return gp_float((uint32_t)(*at - w->f->unit) << 23);
    default:
        if (*at == E4M3_NAN)
            return gp_float(GP_FP32_NAN);
        return e4m3_value(*at) * w->header;
    }
}

static bool
scale_valid(const gp_blocks *f, const uint8_t *at)
{
    uint32_t s;
    int e;

    switch (f->scale) {
    case GP_SCALE_E8M0:
        e = *at - 127 - f->unit;
        return *at == 0 || *at == E8M0_NAN || (e >= -126 && e + f->top <= 127);
    case GP_SCALE_E4M3:
        return *at <= E4M3_NAN;
    case GP_SCALE_BF16:
        s = (uint32_t)gp_get16(at) << 16;
        break;
    default:
        s = gp_get32(at);
        break;
    }
    return s == 0 || s == GP_FP32_NAN ||
           (s >= 0x00800000u && s <= f->largest_scale);
}

/* Among elements that are finite. */
static uint32_t
finite_absmax(const float *x, size_t n)
{
    uint32_t most = gp_max_magnitude(x, n);

    if (most < GP_FP32_INFINITY)
        return most;
    most = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t m = gp_bits(x[i]) & GP_FP32_MAGNITUDE;

        if (m < GP_FP32_INFINITY && m > most)
            most = m;
    }
    return most;
}

/* The unit of the scales: the largest of them is 448; 0 when the least of them
 * would not be normal. */
static float
header_of(const float *source, size_t count)
{
    float g =
        gp_float(finite_absmax(source, count)) / (FP4_LARGEST * E4M3_LARGEST);

    if (g < HEADER_LEAST)
        return 0;
    return g < HEADER_MOST ? g : HEADER_MOST;
}

static bool
header_valid(uint32_t g)
{
    return g == 0 || (g >= gp_bits(HEADER_LEAST) && g <= gp_bits(HEADER_MOST));
}

/* ---- encode ---------------------------------------------------------- */

/* The codes of a piece; `first` is its place in the message, `at` in the
 * window. */
static void
encode_piece(const window *w, const float *x, size_t first, size_t at, size_t n,
             uint8_t *out)
{
    uint32_t words[PIECE];
    uint8_t codes[PIECE];
    const gp_blocks *f = w->f;
    size_t run;

    gp_round_words_of(f->round, w->context, first, words, n);
    w->kernels->quantize(f, x, f->round == GP_ROUND_NEAREST ? NULL : words,
                         w->shift, w->factors, at, n, codes);
    for (size_t i = 0; i < n; i += run) {
        run = f->block - (at + i) % f->block;
        run = n - i < run ? n - i : run;
        if (w->bad[(at + i) / f->block])
            memset(codes + i, 0, run);
    }
    w->kernels->pack(f->bits, codes, n, out);
}

static void
encode_window(window *w, const float *x, size_t first, size_t n,
              uint8_t *scales, uint8_t *codes)
{
    const gp_blocks *f = w->f;
    uint32_t most[MEMBERS];
    size_t members = blocks_of(f, n);

    w->kernels->absmax(x, n, f->block, most);
    for (size_t i = 0; i < members; i++)
        put_scale(w, i, most[i], scales + i * scale_widths[f->scale]);
    for (size_t at = 0, run; at < n; at += run) {
        run = n - at < PIECE ? n - at : PIECE;
        encode_piece(w, x + at, first + at, at, run, codes + code_bytes(f, at));
    }
}

/* Where the scales and the codes of a message are. */
static uint8_t *
parts(const gp_blocks *f, const void *bytes, size_t count, uint8_t **codes)
{
    uint8_t *scales = (uint8_t *)(uintptr_t)bytes + header_bytes(f, count);

    *codes = scales + scale_bytes(f, count);
    return scales;
}

gp_status
gp_blocks_encode(const void *instance, const gp_codec_context *context,
                 const float *source, size_t count, void *out, size_t capacity,
                 size_t *length)
{
    const gp_blocks *f = instance;
    size_t bytes = gp_blocks_bound(f, count), step = window_size(f);
    uint8_t *codes, *scales;
    window w;

    if (bytes == SIZE_MAX || capacity < bytes)
        return GP_ERR_TOO_LARGE;
    scales = parts(f, out, count, &codes);
    begin(&w, f, context);
    if (header_bytes(f, count)) {
        w.header = header_of(source, count);
        gp_put32(out, gp_bits(w.header));
    }
    for (size_t i = 0; i < count; i += step)
        encode_window(&w, source + i, i, count - i < step ? count - i : step,
                      scales + scale_bytes(f, i), codes + code_bytes(f, i));
    *length = bytes;
    return GP_OK;
}

/* ---- decode ---------------------------------------------------------- */

static void
decode_piece(const window *w, const uint8_t *bytes, size_t first, size_t at,
             size_t n, float *out)
{
    uint32_t words[PIECE];
    uint8_t codes[PIECE];
    bool dither = w->f->round == GP_ROUND_DITHER;

    if (dither)
        gp_round_words_of(w->f->round, w->context, first, words, n);
    w->kernels->unpack(w->f->bits, bytes, n, codes);
    w->kernels->value(w->f, codes, dither ? words : NULL, w->shift, w->factors,
                      at, n, out);
}

/* What becomes of decoded elements. */
typedef enum sink { STORE, ADD, SUBTRACT } sink;

static void
decode_window(window *w, sink what, const uint8_t *scales, const uint8_t *codes,
              size_t first, size_t n, float *target)
{
    const gp_blocks *f = w->f;
    const gp_kernels *floats = gp_kernels_get();
    size_t members = blocks_of(f, n);
    float values[PIECE];

    for (size_t i = 0; i < members; i++)
        w->factors[i] = get_scale(w, scales + i * scale_widths[f->scale]);
    for (size_t at = 0, run; at < n; at += run) {
        float *to = target + at;

        run = n - at < PIECE ? n - at : PIECE;
        decode_piece(w, codes + code_bytes(f, at), first + at, at, run,
                     what == STORE ? to : values);
        if (what == ADD)
            floats->add(to, values, run);
        else if (what == SUBTRACT)
            floats->remainder(to, values, to, run);
    }
}

/* The bits behind the last code are zeros. */
static bool
padding_zero(const gp_blocks *f, const uint8_t *codes, size_t count)
{
    static const uint8_t dense[] = {243, 3, 9, 27, 81};
    size_t size = code_bytes(f, count);

    if (!size)
        return true;
    if (f->bits == GP_BLOCKS_DENSE)
        return codes[size - 1] < dense[count % 5];
    return count % 8 * f->bits % 8 == 0 ||
           codes[size - 1] >> (count % 8 * f->bits % 8) == 0;
}

static bool
message_valid(const gp_blocks *f, const uint8_t *bytes, size_t length,
              size_t count)
{
    uint8_t *codes, *scales;

    if (length == SIZE_MAX || length != gp_blocks_bound(f, count))
        return false;
    scales = parts(f, bytes, count, &codes);
    if (header_bytes(f, count) && !header_valid(gp_get32(bytes)))
        return false;
    for (; scales < codes; scales += scale_widths[f->scale])
        if (!scale_valid(f, scales))
            return false;
    return padding_zero(f, codes, count) &&
           gp_blocks_kernels_get()->valid(f, codes, code_bytes(f, count));
}

/* The window that begins at element i of a valid message. */
static void
decode_at(const gp_blocks *f, const gp_codec_context *context, sink what,
          const void *bytes, size_t count, size_t i, size_t n, float *target)
{
    uint8_t *codes, *scales = parts(f, bytes, count, &codes);
    window w;

    begin(&w, f, context);
    if (header_bytes(f, count))
        w.header = gp_float(gp_get32(bytes));
    decode_window(&w, what, scales + scale_bytes(f, i),
                  codes + code_bytes(f, i), i, n, target + i);
}

static gp_status
decode_all(const gp_blocks *f, const gp_codec_context *context, sink what,
           const void *bytes, size_t length, float *target, size_t count)
{
    size_t step = window_size(f);

    if (!message_valid(f, bytes, length, count))
        return GP_ERR_CORRUPT;
    for (size_t i = 0; i < count; i += step)
        decode_at(f, context, what, bytes, count, i,
                  count - i < step ? count - i : step, target);
    return GP_OK;
}

gp_status
gp_blocks_decode(const void *instance, const gp_codec_context *context,
                 const void *bytes, size_t length, float *target, size_t count)
{
    return decode_all(instance, context, STORE, bytes, length, target, count);
}

gp_status
gp_blocks_decode_add(const void *instance, const gp_codec_context *context,
                     const void *bytes, size_t length, float *target,
                     size_t count)
{
    return decode_all(instance, context, ADD, bytes, length, target, count);
}

gp_status
gp_blocks_fold(const void *instance, const gp_codec_input *input, size_t inputs,
               int add, float *target, size_t count)
{
    const gp_blocks *f = instance;
    size_t step = window_size(f);

    for (size_t k = 0; k < inputs; k++)
        if (!message_valid(f, input[k].bytes, input[k].length, count))
            return GP_ERR_CORRUPT;
    for (size_t i = 0; i < count; i += step)
        for (size_t k = 0; k < inputs; k++)
            decode_at(f, input[k].context, k || add ? ADD : STORE,
                      input[k].bytes, count, i,
                      count - i < step ? count - i : step, target);
    return GP_OK;
}

gp_status
gp_blocks_feedback(const void *instance, const gp_codec_context *context,
                   const float *source, float *residual, size_t count,
                   void *out, size_t capacity, size_t *length)
{
    const gp_blocks *f = instance;
    size_t bytes = gp_blocks_bound(f, count), step = window_size(f);
    uint8_t *codes, *scales;
    window w;

    if (bytes == SIZE_MAX || capacity < bytes)
        return GP_ERR_TOO_LARGE;
    scales = parts(f, out, count, &codes);
    begin(&w, f, context);
    if (header_bytes(f, count)) {
        gp_add_fp32(residual, source, count);
        w.header = header_of(residual, count);
        gp_put32(out, gp_bits(w.header));
    }
    for (size_t i = 0; i < count; i += step) {
        size_t n = count - i < step ? count - i : step;
        uint8_t *s = scales + scale_bytes(f, i), *c = codes + code_bytes(f, i);

        if (!header_bytes(f, count))
            gp_add_fp32(residual + i, source + i, n);
        encode_window(&w, residual + i, i, n, s, c);
        decode_window(&w, SUBTRACT, s, c, i, n, residual + i);
    }
    *length = bytes;
    return GP_OK;
}
