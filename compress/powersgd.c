/* SPDX-License-Identifier: Apache-2.0 */
/*
 * powersgd.c - the codec powersgd: a matrix as the product of two thin ones.
 *
 * Vogels, Karimireddy, Jaggi, "PowerSGD: Practical Low-Rank Gradient
 * Compression for Distributed Optimization", NeurIPS 2019, algorithm 1, for one
 * worker: P is an orthonormal basis of M Q, and P (M^T P)^T is sent. So error
 * feedback keeps M - P P^T M, what this worker's own message lacks.
 *
 * Message: mode (u8), 0 (u8), exponent (i16), then by mode
 *   PLAIN    the elements, fp32
 *   FACTORS  P of the rows that the elements touch, row by row, then Q, column
 *            by column; fp32 or fp16. Element (i, j) is sum P[i][k] Q[j][k],
 *            times 2^exponent.
 *   NOTHING  all elements are NaN
 *
 * Where factors save less than half, elements travel plain: that follows from
 * offset, count and columns, which decoders know. An element's row and column
 * follow from its index in the tensor, so chunks need not hold whole rows.
 */
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "base/base.h"
#include "base/bytes.h"
#include "compress/kernels.h"
#include "compress/powersgd.h"

#define HEAD 4
/* Longer rows are taken for a vector; keeps sizes far from overflow. */
#define COLUMNS_MOST (UINT64_C(1) << 26)
#define COUNT_MOST   (SIZE_MAX / 16)

static const char *const formats[] = {"fp32", "fp16", NULL};

static const gp_codec_param powersgd_params[] = {
    {"rank", 4, 1, GP_RANK_MOST, 1, "columns of the factors", NULL},
    {"power", 1, 1, 8, 1, "iterations per step", NULL},
    {"factors", FP32, 0, 0, 0, "format of the factors", formats},
    {NULL, 0, 0, 0, 0, NULL, NULL},
};

static gp_status
powersgd_open(const double *values, const gp_codec_shape *shape,
              void **instance)
{
    gp_powersgd *c = malloc(sizeof(*c));

    if (!c)
        return gp_fail(GP_ERR_NO_MEMORY, "no memory for a codec");
    c->rank = (size_t)values[0];
    c->power = (int)values[1];
    c->format = (int)values[2];
    c->columns = 0;
    if (shape->columns > 2 * c->rank && shape->columns <= COLUMNS_MOST)
        c->columns = (size_t)shape->columns;
    *instance = c;
    return GP_OK;
}

/* ---- sizes ------------------------------------------------------------ */

/* Rows that elements touch of which the first is in column `column`. */
static size_t
rows_touched(const gp_powersgd *c, size_t column, size_t count)
{
    return (column + count + c->columns - 1) / c->columns;
}

static bool
pays(const gp_powersgd *c, size_t rows, size_t count)
{
    return c->columns && 2 * c->rank * (rows + c->columns) < count;
}

/* Does any part of so many elements pay? */
static bool
may_pay(const gp_powersgd *c, size_t count)
{
    return count <= COUNT_MOST && c->columns &&
           pays(c, count / c->columns, count);
}

static size_t
factor_bytes(const gp_powersgd *c, size_t rows)
{
    return (rows + c->columns) * c->rank * (c->format == FP16 ? 2 : 4);
}

/* From so many elements on factors pay wherever they begin: count minus
 * 2 rank (count / columns + 2 + columns) is positive. */
static size_t
always_pays_from(const gp_powersgd *c)
{
    size_t least = 2 * c->rank * (c->columns + 2);

    return least * c->columns / (c->columns - 2 * c->rank) + 1;
}

static size_t
powersgd_bound(const void *instance, size_t count)
{
    const gp_powersgd *c = instance;
    size_t plain = count, factors = 0;

    if (count > COUNT_MOST)
        return SIZE_MAX;
    if (c->columns && count >= always_pays_from(c)) {
        plain = always_pays_from(c);
        factors = factor_bytes(c, rows_touched(c, c->columns - 1, count));
    }
    return HEAD + (4 * plain > factors ? 4 * plain : factors);
}

/* Never more than all of it is lost. */
static double
powersgd_error(const void *instance, size_t count)
{
    (void)instance;
    return count ? 1 : 0;
}

#define PREPARED_HEAD 128
#define ROUND_UP(n)   (((n) + 15) & ~(size_t)15)

static size_t
powersgd_prepare_bytes(const void *instance, size_t count)
{
    const gp_powersgd *c = instance;
    size_t p = 0, q = 0;

    if (!c->columns)
        return 0;
    if (may_pay(c, count)) {
        p = ROUND_UP(rows_touched(c, c->columns - 1, count));
        q = ROUND_UP(c->columns);
    }
    return PREPARED_HEAD + (p + 2 * q) * c->rank * sizeof(float);
}

static size_t
powersgd_state_count(const void *instance, size_t count)
{
    const gp_powersgd *c = instance;

    return may_pay(c, count) ? c->columns * c->rank : 0;
}

/* Encoders that nothing was prepared for do it there. */
static size_t
powersgd_scratch(const void *instance, size_t count)
{
    return may_pay(instance, count) ? powersgd_prepare_bytes(instance, count)
                                    : 0;
}

static void
lay_out(const gp_powersgd *c, uint64_t origin, size_t count, void *out,
        gp_powersgd_factors *f)
{
    size_t first = (size_t)(origin % c->columns);

    *f = (gp_powersgd_factors){.origin = origin, .count = count, .mode = PLAIN};
    if (!may_pay(c, count))
        return;
    f->mode = FACTORS;
    f->rows = rows_touched(c, first, count);
    f->p_stride = ROUND_UP(rows_touched(c, c->columns - 1, count));
    f->q_stride = ROUND_UP(c->columns);
    f->p = (float *)((char *)out + PREPARED_HEAD);
    f->q = f->p + f->p_stride * c->rank;
    f->work = f->q + f->q_stride * c->rank;
}

static gp_status
powersgd_prepare(const void *instance, const gp_codec_context *context,
                 const float *source, size_t count, void *out)
{
    const gp_powersgd *c = instance;
    gp_powersgd_factors f;

    if (!c->columns)
        return GP_OK;
    lay_out(c, context->offset, count, out, &f);
    if (f.mode == FACTORS)
        gp_powersgd_factorize(c, context, source, &f);
    memcpy(out, &f, sizeof(f));
    return GP_OK;
}

/* ---- encode -------------------------------------------------------------- */

static void
write_head(uint8_t *out, int mode, int exponent)
{
    out[0] = (uint8_t)mode;
    out[1] = 0;
    gp_put16(out + 2, (uint16_t)exponent);
}

/* Elements as they are, but for one NaN in place of all and of Inf. */
static void
write_plain(const float *source, size_t count, uint8_t *out)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t b = gp_bits(source[i]);
        bool finite = (b & GP_FP32_MAGNITUDE) < GP_FP32_INFINITY;

        gp_put32(out + 4 * i, finite ? b : GP_FP32_NAN);
    }
}

#define STRIP 256

/* The exponent with which Q fills the range of fp16. */
static int
exponent_of_fp16(const gp_powersgd *c, const gp_powersgd_factors *f)
{
    uint32_t most = gp_powersgd_most(f->q, f->q_stride, c->columns, c->rank);
    int exponent = (int)(most >> 23) - 127 - 14;

    /* Nothing is lost: Q comes out of sums of normal numbers. */
    return exponent < -126 ? -126 : exponent;
}

static void
write_rows(const gp_powersgd *c, const gp_powersgd_factors *f, size_t row,
           size_t rows, uint8_t *out)
{
    float strip[STRIP];
    size_t step = STRIP / c->rank;

    for (size_t at = 0; at < rows; at += step) {
        size_t n = GP_MIN(rows - at, step);

        for (size_t i = 0; i < n; i++)
            for (size_t k = 0; k < c->rank; k++)
                strip[i * c->rank + k] = f->p[k * f->p_stride + row + at + i];
        n *= c->rank;
        if (c->format == FP16)
            gp_fp32_to_fp16(out + 2 * at * c->rank, strip, n);
        else
            for (size_t i = 0; i < n; i++)
                gp_put32(out + 4 * (at * c->rank + i), gp_bits(strip[i]));
    }
}

static void
write_q(const gp_powersgd *c, const gp_powersgd_factors *f, float factor,
        uint8_t *out)
{
    float strip[STRIP];

    for (size_t k = 0; k < c->rank; k++)
        for (size_t at = 0; at < c->columns; at += STRIP) {
            size_t n = GP_MIN(c->columns - at, (size_t)STRIP);
            const float *from = f->q + k * f->q_stride + at;
            size_t to = k * c->columns + at;

            for (size_t i = 0; i < n; i++)
                strip[i] = from[i] * factor;
            if (c->format == FP16)
                gp_fp32_to_fp16(out + 2 * to, strip, n);
            else
                for (size_t i = 0; i < n; i++)
                    gp_put32(out + 4 * (to + i), gp_bits(strip[i]));
        }
}

/* The rows of P that the elements touch, and Q. */
static size_t
write_factors(const gp_powersgd *c, const gp_powersgd_factors *f,
              uint64_t offset, size_t rows, uint8_t *out)
{
    size_t row = (size_t)(offset / c->columns - f->origin / c->columns);
    size_t width = c->format == FP16 ? 2 : 4;
    int shift = c->format == FP16 ? exponent_of_fp16(c, f) : 0;

    write_head(out, FACTORS, f->exponent + shift);
    write_rows(c, f, row, rows, out + HEAD);
    write_q(c, f, gp_power_of_two(-shift), out + HEAD + rows * c->rank * width);
    return HEAD + factor_bytes(c, rows);
}

/* Rows of these elements, or 0 where they travel plain. */
static size_t
rows_of(const gp_powersgd *c, uint64_t offset, size_t count)
{
    size_t rows;

    if (!c->columns || count > COUNT_MOST)
        return 0;
    rows = rows_touched(c, (size_t)(offset % c->columns), count);
    return pays(c, rows, count) ? rows : 0;
}

static gp_status
powersgd_encode(const void *instance, const gp_codec_context *context,
                const float *source, size_t count, void *out, size_t capacity,
                size_t *length)
{
    const gp_powersgd *c = instance;
    size_t bound = powersgd_bound(c, count);
    size_t rows = rows_of(c, context->offset, count);
    gp_powersgd_factors f;

    if (bound == SIZE_MAX || capacity < bound)
        return GP_ERR_TOO_LARGE;
    if (!rows) {
        write_head(out, PLAIN, 0);
        write_plain(source, count, (uint8_t *)out + HEAD);
        *length = HEAD + 4 * count;
        return GP_OK;
    }
    if (context->prepared)
        memcpy(&f, context->prepared, sizeof(f));
    else {
        (void)!powersgd_prepare(c, context, source, count, context->scratch);
        memcpy(&f, context->scratch, sizeof(f));
    }
    if (context->offset < f.origin || count > f.count ||
        context->offset - f.origin > f.count - count)
        return GP_ERR_INVALID;
    *length = HEAD;
    if (f.mode == FACTORS)
        *length = write_factors(c, &f, context->offset, rows, out);
    else
        write_head(out, NOTHING, 0);
    return GP_OK;
}

/* ---- decode -------------------------------------------------------------- */

typedef struct message {
    int mode;
    const uint8_t *p, *q; /* plain elements: p */
    /* Q is to be multiplied by 2^shift as it is read, products by factor. */
    int shift;
    float factor;
} message;

/* All of these are of a magnitude that `most` is the largest of, as bits. */
static bool
within(const gp_powersgd *c, const uint8_t *bytes, size_t n, uint32_t most)
{
    uint32_t largest = 0;

    for (size_t i = 0; i < n; i++) {
        uint32_t m = c->format == FP16
                         ? gp_get16(bytes + 2 * i) & 0x7fffu
                         : gp_get32(bytes + 4 * i) & GP_FP32_MAGNITUDE;

        largest = GP_MAX(m, largest);
    }
    return largest <= most;
}

static bool
plain_valid(const uint8_t *bytes, size_t count)
{
    bool valid = true;

    for (size_t i = 0; i < count; i++) {
        uint32_t b = gp_get32(bytes + 4 * i);

        valid &= (b & GP_FP32_MAGNITUDE) < GP_FP32_INFINITY || b == GP_FP32_NAN;
    }
    return valid;
}

static bool
read_factors(const gp_powersgd *c, size_t rows, int exponent, message *m)
{
    size_t p = rows * c->rank, q = c->columns * c->rank;
    bool half = c->format == FP16;
    int most = half ? 200 : 100, least = half ? -240 : -100;

    if (exponent < least || exponent > most)
        return false;
    if (half)
        m->shift = exponent < -100 ? -100 : exponent > 80 ? 80 : exponent;
    exponent -= m->shift;
    if (exponent)
        m->factor = gp_power_of_two(GP_MAX(exponent, -126));
    m->q = m->p + p * (half ? 2 : 4);
    /* Elements of a basis are at most 1, but for rounding. */
    return within(c, m->p, p, half ? 0x3c02 : 0x3f804000) &&
           within(c, m->q, q, half ? 0x7bff : GP_POWERSGD_LARGE);
}

static bool
read_message(const gp_powersgd *c, const gp_codec_context *context,
             const uint8_t *bytes, size_t length, size_t count, message *m)
{
    size_t rows = rows_of(c, context->offset, count);
    int exponent;

    if (length < HEAD || count > COUNT_MOST || bytes[1])
        return false;
    exponent = (int16_t)gp_get16(bytes + 2);
    *m = (message){.mode = bytes[0], .p = bytes + HEAD, .factor = 1};
    if (m->mode == FACTORS)
        return rows && length == HEAD + factor_bytes(c, rows) &&
               read_factors(c, rows, exponent, m);
    if (exponent)
        return false;
    if (m->mode == NOTHING)
        return rows && length == HEAD;
    return m->mode == PLAIN && !rows && length == HEAD + 4 * count &&
           plain_valid(m->p, count);
}

/* Products are computed by tiles that stay in the first-level cache. */
#define TILE_ROWS    64
#define TILE_COLUMNS 128

/* Of a matrix: rows from `row` on, columns from `column` on. */
typedef struct tile {
    size_t row, rows, column, n;
    float *target;
    size_t stride;
} tile;

static void
put_halves(const uint8_t *from, size_t n, float factor, float *out)
{
    gp_fp16_to_fp32(out, from, n);
    for (size_t i = 0; i < n; i++) {
        float x = out[i] * factor;

        gp_put32(out + i, gp_bits(x));
    }
}

/* Products beyond the usual range: one step more, and Inf becomes the largest
 * number. */
static void
scaled_product(const gp_powersgd *c, const message *m, const tile *t,
               const uint8_t *p, const uint8_t *q, size_t stride, bool add)
{
    float row[TILE_COLUMNS];

    for (size_t i = 0; i < t->rows; i++) {
        float *to = t->target + i * t->stride;

        gp_lowrank_get()->product(p + 4 * i * c->rank, q, stride, c->rank, row,
                                  t->n, 1, t->n, false);
        for (size_t j = 0; j < t->n; j++) {
            float x = row[j] * m->factor;

            x = x > FLT_MAX ? FLT_MAX : x < -FLT_MAX ? -FLT_MAX : x;
            to[j] = add ? to[j] + x : x;
        }
    }
}

static void
tile_of_factors(const gp_powersgd *c, const message *m, const tile *t, bool add)
{
    float basis[TILE_ROWS * GP_RANK_MOST], part[TILE_COLUMNS * GP_RANK_MOST];
    const uint8_t *p = m->p + 4 * t->row * c->rank, *q = m->q + 4 * t->column;
    size_t stride = c->columns;

    if (c->format == FP16) {
        put_halves(m->p + 2 * t->row * c->rank, t->rows * c->rank, 1, basis);
        for (size_t k = 0; k < c->rank; k++)
            put_halves(m->q + 2 * (k * c->columns + t->column), t->n,
                       gp_power_of_two(m->shift), part + k * TILE_COLUMNS);
        p = (const uint8_t *)basis;
        q = (const uint8_t *)part;
        stride = TILE_COLUMNS;
    }
    if (m->factor != 1)
        scaled_product(c, m, t, p, q, stride, add);
    else
        gp_lowrank_get()->product(p, q, stride, c->rank, t->target, t->stride,
                                  t->rows, t->n, add);
}

static void
tile_of_nan(const tile *t)
{
    for (size_t i = 0; i < t->rows; i++)
        for (size_t j = 0; j < t->n; j++)
            t->target[i * t->stride + j] = gp_float(GP_FP32_NAN);
}

/* Adds up messages in their order. */
static void
add_tile(const gp_powersgd *c, const message *m, size_t messages, bool add,
         const tile *t)
{
    for (size_t i = 0; i < messages; i++)
        if (m[i].mode == FACTORS)
            tile_of_factors(c, &m[i], t, add || i);
        else
            tile_of_nan(t);
}

static void
add_span(const gp_powersgd *c, const message *m, size_t messages, bool add,
         const gp_powersgd_span *s, float *target)
{
    tile t = {.stride = c->columns};

    for (size_t row = 0; row < s->rows; row += TILE_ROWS)
        for (size_t at = 0; at < s->n; at += TILE_COLUMNS) {
            t.row = s->row + row;
            t.rows = GP_MIN(s->rows - row, (size_t)TILE_ROWS);
            t.column = s->first + at;
            t.n = GP_MIN(s->n - at, (size_t)TILE_COLUMNS);
            t.target = target + s->at + row * c->columns + at;
            add_tile(c, m, messages, add, &t);
        }
}

static void
add_plain(const message *m, size_t messages, bool add, float *target,
          size_t count)
{
    for (size_t k = 0; k < messages; k++)
        for (size_t i = 0; i < count; i++) {
            float x = gp_float(gp_get32(m[k].p + 4 * i));

            target[i] = add || k ? target[i] + x : x;
        }
}

static gp_status
powersgd_fold(const void *instance, const gp_codec_input *input, size_t inputs,
              int add, float *target, size_t count)
{
    const gp_powersgd *c = instance;
    uint64_t offset = input[0].context->offset;
    message m[GP_CODEC_FOLD];
    gp_powersgd_span spans[3];
    size_t n;

    if (inputs == 0 || inputs > GP_CODEC_FOLD)
        return GP_ERR_INVALID;
    for (size_t i = 0; i < inputs; i++)
        if (input[i].context->offset != offset ||
            !read_message(c, input[i].context, input[i].bytes, input[i].length,
                          count, &m[i]))
            return GP_ERR_CORRUPT;
    if (m[0].mode == PLAIN) {
        add_plain(m, inputs, add, target, count);
        return GP_OK;
    }
    n = gp_powersgd_split(c, offset, count, spans);
    for (size_t i = 0; i < n; i++)
        add_span(c, m, inputs, add, &spans[i], target);
    return GP_OK;
}

static gp_status
powersgd_decode(const void *instance, const gp_codec_context *context,
                const void *bytes, size_t length, float *target, size_t count)
{
    gp_codec_input input = {context, bytes, length};

    return powersgd_fold(instance, &input, 1, false, target, count);
}

static gp_status
powersgd_decode_add(const void *instance, const gp_codec_context *context,
                    const void *bytes, size_t length, float *target,
                    size_t count)
{
    gp_codec_input input = {context, bytes, length};

    return powersgd_fold(instance, &input, 1, true, target, count);
}

const gp_codec_ops gp_codec_powersgd = {
    .abi = GP_CODEC_ABI,
    .kind = GP_CODEC_ARRAY,
    .properties = GP_CODEC_WIDE,
    .nonfinite = GP_NONFINITE_PROPAGATE,
    .name = "powersgd",
    .text = "matrices as products of two thin ones, found by power iteration",
    .params = powersgd_params,
    .open = powersgd_open,
    .close = free,
    .bound = powersgd_bound,
    .scratch = powersgd_scratch,
    .error_bound = powersgd_error,
    .encode = powersgd_encode,
    .decode = powersgd_decode,
    .decode_add = powersgd_decode_add,
    .fold = powersgd_fold,
    .prepare = powersgd_prepare,
    .prepare_bytes = powersgd_prepare_bytes,
    .state_count = powersgd_state_count,
};
