/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uq.c - the codec uq: a uniform grid of step c * RMS and a static entropy
 * code.
 *
 * Layout: mode (u8), then
 *
 *     0 ZEROS   count (u64): all elements are 0
 *     1 CODED   step (fp32), bytes of escapes (u32), one shape (u8) per section
 *               of 4096 elements, rANS states, escapes, rANS words
 *     2 RAW     the elements, fp32
 *     3 NAN     count (u64): there was a NaN or Inf, all elements are NaN
 *
 * No elements are no bytes. RAW is written where CODED could be longer, and
 * for numbers that are too large or too small for the arithmetic of CODED. The
 * encoder decides that before it touches a residual.
 */
#include <math.h>
#include <stdlib.h>

#include "base/base.h"
#include "base/bytes.h"
#include "compress/kernels.h"
#include "compress/reduce.h"
#include "compress/uq.h"

#define HEAD  GP_UQ_HEAD
#define PIECE 1024

enum { SCOPE_CHUNK, SCOPE_TENSOR };

typedef struct uq_instance {
    double c;
    gp_uq_round round;
    int scope;
} uq_instance;

static const char *const round_words[] = {"nearest", "stochastic", "dither",
                                          "stratified", NULL};
static const char *const scope_words[] = {"chunk", "tensor", NULL};

static const gp_codec_param uq_params[] = {
    {.name = "c",
     .value = 1,
     .minimum = 0.03125,
     .maximum = 16,
     .text = "step of the grid, in root mean squares of the elements"},
    {.name = "round",
     .text = "how an element finds its code",
     .words = round_words},
    {.name = "scope",
     .text = "what the root mean square is taken over",
     .words = scope_words},
    {.name = NULL},
};

static gp_status
uq_open(const double *values, const gp_codec_shape *shape, void **instance)
{
    uq_instance *q = malloc(sizeof(*q));

    (void)shape;
    if (!q)
        return gp_fail(GP_ERR_NO_MEMORY, "no memory for a codec");
    gp_uq_tables_make();
    q->c = values[0];
    q->round = (gp_uq_round)values[1];
    q->scope = (int)values[2];
    *instance = q;
    return GP_OK;
}

static size_t
uq_bound(const void *instance, size_t count)
{
    size_t bytes;

    (void)instance;
    return gp_mul(count, 4, &bytes) && gp_add(bytes, HEAD, &bytes) ? bytes
                                                                   : SIZE_MAX;
}

/* The codes. */
static size_t
uq_scratch(const void *instance, size_t count)
{
    (void)instance;
    return count;
}

/* For nearest, |x - C(x)| is at most step / 2 and at most |x|. The others err
 * by step^2 / 4 at most, dither by step^2 / 12, in expectation. A little is for
 * the rounding of v and of products. */
static double
uq_error_bound(const void *instance, size_t count)
{
    const uq_instance *q = instance;
    double square = q->c * q->c * (1 + 0x1p-18);

    (void)count;
    if (q->scope == SCOPE_TENSOR)
        return q->round == GP_UQ_NEAREST ? 1 : INFINITY;
    if (q->round == GP_UQ_NEAREST)
        return fmin(1, square / 4);
    return square / (q->round == GP_UQ_DITHER ? 12 : 4);
}

/* Over a tensor, nearest errs by c^2 / 4 of its square at most. */
static uint32_t
uq_properties_of(const void *instance)
{
    const uq_instance *q = instance;

    if (q->round != GP_UQ_NEAREST)
        return GP_CODEC_UNBIASED;
    return q->c < 2 ? GP_CODEC_CONTRACTS : 0;
}

/* ---- escapes ----------------------------------------------------------- */

/* The next code, whose magnitude must be above `largest`; 0 when there is no
 * such. */
static int32_t
get_escape(gp_reader *r, unsigned largest)
{
    uint32_t bytes = 0;
    int32_t code = gp_uq_get_escape(r->at, r->left, &bytes);

    if (!code || (unsigned)abs(code) <= largest || !gp_read(r, bytes))
        return 0;
    return code;
}

/* The first of codes i.. that has no symbol, or n. */
static size_t
next_escape(const int8_t *codes, size_t i, size_t n, unsigned largest)
{
    while (i < n) {
        size_t some = GP_MIN(n - i, (size_t)64);
        uint8_t any = 0;

        for (size_t j = i; j < i + some; j++)
            any |= (uint8_t)((uint8_t)(codes[j] + (int)largest) > 2 * largest);
        if (any) {
            while ((uint8_t)(codes[i] + (int)largest) <= 2 * largest)
                i++;
            return i;
        }
        i += some;
    }
    return n;
}

/* ---- encoding ---------------------------------------------------------- */

typedef struct uq_encoder {
    gp_uq_grid grid;
    const float *source;
    size_t count;
    int8_t *codes;
    uint8_t *out, *shapes, *escapes;
    size_t lanes, escaped; /* escaped: bytes of escapes so far */
    bool zeros;
} uq_encoder;

/* 0 when the arithmetic of CODED does not hold. */
static float
step_of(const uq_instance *q, const gp_codec_context *context,
        const float *source, size_t count, uint32_t most)
{
    double squares = -1;

    if (q->scope == SCOPE_TENSOR && context->prepared)
        memcpy(&squares, context->prepared, sizeof(squares));
    /* Another chunk's NaN is not this one's. */
    if (!(squares > 0 && squares < INFINITY))
        squares = gp_sum_squares(source, count) / (double)count;
    return gp_uq_step(q->c, squares, most);
}

/* False when there are too many escapes. */
static bool
escape_section(uq_encoder *e, size_t at, size_t n, unsigned largest)
{
    const int8_t *codes = e->codes + at;
    size_t i = next_escape(codes, 0, n, largest);

    for (; i < n; i = next_escape(codes, i + 1, n, largest)) {
        int32_t code = codes[i] == GP_UQ_BIG
                           ? gp_uq_code(&e->grid, at + i, e->source[at + i])
                           : codes[i];

        e->escaped += gp_uq_put_escape(e->escapes + e->escaped, code);
        if (!gp_uq_fits(e->count, e->escaped))
            return false;
    }
    return true;
}

/* Codes, shapes and escapes of all sections; false when RAW is better. */
static bool
quantize_all(uq_encoder *e)
{
    e->zeros = true;
    if (!gp_uq_fits(e->count, e->escaped))
        return false;
    for (size_t at = 0; at < e->count; at += GP_UQ_SECTION) {
        size_t n = GP_MIN(e->count - at, (size_t)GP_UQ_SECTION);
        unsigned shape;
        bool escapes;

        gp_uq_quantize(&e->grid, at, e->source + at, e->codes + at, n);
        shape = gp_uq_choose(e->codes + at, n, &escapes);
        e->shapes[at / GP_UQ_SECTION] = (uint8_t)shape;
        if (escapes && !escape_section(e, at, n, gp_uq_largest(shape)))
            return false;
        e->zeros = e->zeros && !shape;
    }
    return true;
}

/* residual -= value of the code, for a section; the residual is the source. */
static void
subtract_section(const uq_encoder *e, float *residual, size_t at, size_t n)
{
    float values[PIECE];

    for (size_t end = at + n, some; at < end; at += some) {
        some = GP_MIN(end - at, (size_t)PIECE);
        gp_uq_values(&e->grid, at, e->codes + at, values, some);
        for (size_t i = next_escape(e->codes + at, 0, some, 127); i < some;
             i = next_escape(e->codes + at, i + 1, some, 127))
            values[i] =
                gp_uq_value(&e->grid, at + i,
                            gp_uq_code(&e->grid, at + i, residual[at + i]));
        gp_kernels_get()->remainder(residual + at, values, residual + at, some);
    }
}

/* The rANS states and words, from the last section to the first. */
static size_t
code_all(uq_encoder *e, float *residual)
{
    uint8_t *end = e->out + 1 + 4 * e->count, *low = end;
    uint8_t *states = e->shapes + gp_uq_sections(e->count);
    gp_rans r;

    gp_rans_start(&r, e->lanes);
    for (size_t s = gp_uq_sections(e->count); s--;) {
        size_t at = s * GP_UQ_SECTION;
        size_t n = GP_MIN(e->count - at, (size_t)GP_UQ_SECTION);

        if (e->shapes[s])
            low = gp_rans_put(&r, gp_uq_coder(e->shapes[s]),
                              (const uint8_t *)e->codes + at, n, low);
        if (residual)
            subtract_section(e, residual, at, n);
    }
    gp_rans_write(&r, states);
    states += 4 * e->lanes + e->escaped;
    memmove(states, low, (size_t)(end - low));
    return (size_t)(states - e->out) + (size_t)(end - low);
}

/* All elements are alike; the count is there so that no other is decoded. */
static size_t
encode_constant(uq_encoder *e, uint8_t mode)
{
    e->out[0] = mode;
    gp_put64(e->out + 1, e->count);
    return HEAD;
}

static size_t
encode_raw(uq_encoder *e, float *residual)
{
    e->out[0] = GP_UQ_RAW;
    for (size_t i = 0; i < e->count; i++)
        gp_put32(e->out + 1 + 4 * i, gp_bits(e->source[i]));
    if (residual)
        memset(residual, 0, e->count * sizeof(float));
    return 1 + 4 * e->count;
}

static size_t
encode_coded(uq_encoder *e, float *residual)
{
    if (e->zeros && e->grid.round != GP_UQ_DITHER) /* the residual is u */
        return encode_constant(e, GP_UQ_ZEROS);
    e->out[0] = GP_UQ_CODED;
    gp_put32(e->out + 1, gp_bits(e->grid.step));
    gp_put32(e->out + 5, (uint32_t)e->escaped);
    return code_all(e, residual);
}

/* `residual`, unless NULL, is `source`. */
static size_t
encode_any(const uq_instance *q, const gp_codec_context *context,
           const float *source, float *residual, size_t count, uint8_t *out)
{
    uint32_t most = gp_max_magnitude(source, count);
    uq_encoder e = {.source = source,
                    .count = count,
                    .codes = context->scratch,
                    .out = out,
                    .shapes = out + HEAD,
                    .lanes = gp_rans_lanes(count)};
    float step;

    if (most >= GP_FP32_INFINITY || most == 0) {
        if (residual && most)
            memset(residual, 0, count * sizeof(float));
        return encode_constant(&e, most ? GP_UQ_NAN : GP_UQ_ZEROS);
    }
    e.escapes = e.shapes + gp_uq_sections(count) + 4 * e.lanes;
    step = step_of(q, context, source, count, most);
    if (step == 0)
        return encode_raw(&e, residual);
    e.grid = gp_uq_grid_make(q->round, context, step);
    return quantize_all(&e) ? encode_coded(&e, residual)
                            : encode_raw(&e, residual);
}

static gp_status
uq_encode(const void *instance, const gp_codec_context *context,
          const float *source, size_t count, void *out, size_t capacity,
          size_t *length)
{
    if (capacity < uq_bound(instance, count) || count > SIZE_MAX / 8)
        return GP_ERR_TOO_LARGE;
    *length =
        count ? encode_any(instance, context, source, NULL, count, out) : 0;
    return GP_OK;
}

static gp_status
uq_encode_feedback(const void *instance, const gp_codec_context *context,
                   const float *source, float *residual, size_t count,
                   void *out, size_t capacity, size_t *length)
{
    if (capacity < uq_bound(instance, count) || count > SIZE_MAX / 8)
        return GP_ERR_TOO_LARGE;
    gp_add_fp32(residual, source, count);
    *length =
        count ? encode_any(instance, context, residual, residual, count, out)
              : 0;
    return GP_OK;
}

/* ---- decoding ---------------------------------------------------------- */

typedef struct uq_decoder {
    gp_uq_grid grid;
    size_t count, lanes;
    int8_t *codes;
    const uint8_t *shapes;
    gp_reader escapes;
    const uint8_t *words, *end;
    gp_rans r;
} uq_decoder;

static bool
read_head(uq_decoder *d, const uq_instance *q, const gp_codec_context *context,
          const uint8_t *bytes, size_t length)
{
    gp_reader r = {bytes + 1, length - 1, true};
    float step = gp_float(gp_read32(&r));
    size_t escaped = gp_read32(&r), sections = gp_uq_sections(d->count);
    const uint8_t *states;

    d->lanes = gp_rans_lanes(d->count);
    d->codes = context->scratch;
    d->shapes = gp_read(&r, sections);
    states = gp_read(&r, 4 * d->lanes);
    d->escapes = (gp_reader){gp_read(&r, escaped), escaped, true};
    d->words = r.at;
    d->end = r.at + r.left;
    if (!r.ok || !gp_uq_step_valid(step) || !gp_uq_fits(d->count, escaped))
        return false;
    d->grid = gp_uq_grid_make(q->round, context, step);
    return gp_rans_read(&d->r, states, d->lanes);
}

/* Small codes take their place; others are read again by whoever wants them. */
static bool
check_escapes(uq_decoder *d, int8_t *codes, size_t n, unsigned largest)
{
    for (size_t i = next_escape(codes, 0, n, 127); i < n;
         i = next_escape(codes, i + 1, n, 127)) {
        int32_t code = get_escape(&d->escapes, largest);

        if (!code)
            return false;
        if (abs(code) <= 127)
            codes[i] = (int8_t)code;
    }
    return true;
}

static bool
decode_section(uq_decoder *d, size_t at)
{
    unsigned shape = d->shapes[at / GP_UQ_SECTION];
    size_t n = GP_MIN(d->count - at, (size_t)GP_UQ_SECTION);
    int8_t *codes = d->codes + at;

    if (shape > GP_UQ_SHAPES)
        return false;
    if (!shape) {
        memset(codes, 0, n);
        return true;
    }
    d->words = gp_rans_get(&d->r, gp_uq_decoder(shape), (uint8_t *)codes, n,
                           d->words, d->end);
    return d->words && check_escapes(d, codes, n, gp_uq_largest(shape));
}

/* All codes, and whether all of the message is as an encoder writes it. */
static bool
decode_codes(uq_decoder *d)
{
    bool zeros = d->grid.round != GP_UQ_DITHER;

    for (size_t at = 0; at < d->count; at += GP_UQ_SECTION) {
        if (!decode_section(d, at))
            return false;
        zeros = zeros && !d->shapes[at / GP_UQ_SECTION];
    }
    return !zeros && d->words == d->end && d->escapes.left == 0 &&
           gp_rans_ended(&d->r);
}

/* The next code beyond +-127 among the escapes, which have been checked. */
static int32_t
next_big(gp_reader *escapes)
{
    int32_t code;

    do {
        code = get_escape(escapes, 0);
    } while (code && abs(code) <= 127);
    return code;
}

static void
values_to(const uq_decoder *d, gp_reader escapes, float *target, bool add)
{
    float values[PIECE];

    for (size_t at = 0, some; at < d->count; at += some) {
        float *to = add ? values : target + at;
        const int8_t *codes = d->codes + at;

        some = GP_MIN(d->count - at, (size_t)PIECE);
        gp_uq_values(&d->grid, at, codes, to, some);
        for (size_t i = next_escape(codes, 0, some, 127); i < some;
             i = next_escape(codes, i + 1, some, 127))
            to[i] = gp_uq_value(&d->grid, at + i, next_big(&escapes));
        if (add)
            gp_add_fp32(target + at, values, some);
    }
}

static gp_status
decode_coded(const uq_instance *q, const gp_codec_context *context,
             const uint8_t *bytes, size_t length, float *target, size_t count,
             bool add)
{
    uq_decoder d = {.count = count};
    gp_reader escapes;

    if (!read_head(&d, q, context, bytes, length))
        return GP_ERR_CORRUPT;
    escapes = d.escapes;
    if (!decode_codes(&d))
        return GP_ERR_CORRUPT;
    values_to(&d, escapes, target, add);
    return GP_OK;
}

/* NaN and Inf have a mode of their own. */
static gp_status
decode_raw(const uint8_t *bytes, float *target, size_t count, bool add)
{
    uint32_t most = 0;

    for (size_t i = 0; i < count; i++)
        most = GP_MAX(most, gp_get32(bytes + 4 * i) & GP_FP32_MAGNITUDE);
    if (most >= GP_FP32_INFINITY || most == 0)
        return GP_ERR_CORRUPT;
    for (size_t i = 0; i < count; i++) {
        float x = gp_float(gp_get32(bytes + 4 * i));

        target[i] = add ? target[i] + x : x;
    }
    return GP_OK;
}

static void
decode_constant(float value, float *target, size_t count, bool add)
{
    for (size_t i = 0; i < count; i++)
        target[i] = add ? target[i] + value : value;
}

static gp_status
decode_any(const uq_instance *q, const gp_codec_context *context,
           const uint8_t *bytes, size_t length, float *target, size_t count,
           bool add)
{
    if (!count)
        return length ? GP_ERR_CORRUPT : GP_OK;
    if (!length || length > uq_bound(q, count))
        return GP_ERR_CORRUPT;
    if (bytes[0] == GP_UQ_CODED)
        return decode_coded(q, context, bytes, length, target, count, add);
    if (bytes[0] == GP_UQ_RAW)
        return length == 1 + 4 * count
                   ? decode_raw(bytes + 1, target, count, add)
                   : GP_ERR_CORRUPT;
    if (length != HEAD || gp_get64(bytes + 1) != count ||
        (bytes[0] != GP_UQ_ZEROS && bytes[0] != GP_UQ_NAN))
        return GP_ERR_CORRUPT;
    decode_constant(bytes[0] == GP_UQ_NAN ? gp_float(GP_FP32_NAN) : 0, target,
                    count, add);
    return GP_OK;
}

static gp_status
uq_decode(const void *instance, const gp_codec_context *context,
          const void *bytes, size_t length, float *target, size_t count)
{
    return decode_any(instance, context, bytes, length, target, count, false);
}

static gp_status
uq_decode_add(const void *instance, const gp_codec_context *context,
              const void *bytes, size_t length, float *target, size_t count)
{
    return decode_any(instance, context, bytes, length, target, count, true);
}

/* ---- tensor scope ------------------------------------------------------ */

static size_t
uq_prepare_bytes(const void *instance, size_t count)
{
    (void)count;
    return ((const uq_instance *)instance)->scope == SCOPE_TENSOR
               ? sizeof(double)
               : 0;
}

static gp_status
uq_prepare(const void *instance, const gp_codec_context *context,
           const float *source, size_t count, void *out)
{
    double squares = count ? gp_sum_squares(source, count) / (double)count : 0;

    (void)context;
    if (uq_prepare_bytes(instance, count))
        memcpy(out, &squares, sizeof(squares));
    return GP_OK;
}

const gp_codec_ops gp_codec_uq = {
    .abi = GP_CODEC_ABI,
    .kind = GP_CODEC_ARRAY,
    .nonfinite = GP_NONFINITE_PROPAGATE,
    .name = "uq",
    .text = "grid of c root mean squares, entropy coded",
    .params = uq_params,
    .open = uq_open,
    .close = free,
    .bound = uq_bound,
    .properties_of = uq_properties_of,
    .scratch = uq_scratch,
    .error_bound = uq_error_bound,
    .encode = uq_encode,
    .encode_feedback = uq_encode_feedback,
    .decode = uq_decode,
    .decode_add = uq_decode_add,
    .prepare = uq_prepare,
    .prepare_bytes = uq_prepare_bytes,
};
