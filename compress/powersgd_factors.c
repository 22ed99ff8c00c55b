/* SPDX-License-Identifier: Apache-2.0 */
/*
 * powersgd_factors.c - the power iteration of the codec powersgd.
 *
 * Results do not depend on the instruction set: products are summed in the
 * orders of lowrank.h, lengths and projections in that of reduce.h.
 */
#include <math.h>
#include <string.h>

#include "base/base.h"
#include "compress/kernels.h"
#include "compress/philox.h"
#include "compress/powersgd.h"
#include "compress/reduce.h"

uint32_t
gp_powersgd_most(const float *x, size_t stride, size_t n, size_t rank)
{
    uint32_t most = 0;

    for (size_t k = 0; k < rank; k++) {
        uint32_t m = gp_max_magnitude(x + k * stride, n);

        most = GP_MAX(m, most);
    }
    return most;
}

float
gp_power_of_two(int n)
{
    return gp_float((uint32_t)(n + 127) << 23);
}

size_t
gp_powersgd_split(const gp_powersgd *c, uint64_t origin, size_t count,
                  gp_powersgd_span out[3])
{
    size_t column = (size_t)(origin % c->columns), row = 0, at = 0, spans = 0;

    if (column) {
        size_t n = GP_MIN(c->columns - column, count);

        out[spans++] = (gp_powersgd_span){0, 0, 1, column, n};
        at = n;
        row = 1;
    }
    if (count - at >= c->columns) {
        size_t rows = (count - at) / c->columns;

        out[spans++] = (gp_powersgd_span){at, row, rows, 0, c->columns};
        at += rows * c->columns;
        row += rows;
    }
    if (at < count)
        out[spans++] = (gp_powersgd_span){at, row, 1, 0, count - at};
    return spans;
}

/* A column of numbers about normal, from the sum of four bytes each. */
static void
start_column(const gp_powersgd *c, const gp_codec_context *context, size_t k,
             float *q)
{
    gp_stream stream = gp_stream_of(context, GP_USE_START);
    uint32_t words[256];

    for (size_t at = 0; at < c->columns; at += 256) {
        size_t n = GP_MIN(c->columns - at, (size_t)256);

        gp_philox_words(&stream, k * c->columns + at, words, n);
        for (size_t i = 0; i < n; i++) {
            uint32_t w = words[i];
            uint32_t sum =
                (w & 255) + (w >> 8 & 255) + (w >> 16 & 255) + (w >> 24);

            q[at + i] = (float)((int32_t)sum - 510) * 0x1p-8f;
        }
    }
}

/* Column k becomes orthogonal to those before it and of length 1, or 0 where
 * nothing is left. What cancellation leaves is not orthogonal, so it is done
 * again until nothing much is taken away (Giraud et al. 2005). */
static bool
orthonormal_column(float *x, size_t stride, size_t n, size_t k)
{
    const gp_lowrank_kernels *kernels = gp_lowrank_get();
    float *column = x + k * stride;

    for (int pass = 0; pass < 4; pass++) {
        double norm;

        for (size_t j = 0; j < k; j++) {
            const float *other = x + j * stride;

            kernels->subtract(column, (float)gp_dot(column, other, n), other,
                              n);
        }
        norm = sqrt(gp_sum_squares(column, n));
        if (norm < 0x1p-120)
            break;
        gp_scale_fp32(column, (float)(1 / norm), n);
        if (pass && norm > 0.7)
            return true;
    }
    memset(column, 0, n * sizeof(*column));
    return false;
}

static void
orthonormalize_p(const gp_powersgd *c, gp_powersgd_factors *f)
{
    for (size_t k = 0; k < c->rank; k++)
        (void)!orthonormal_column(f->p, f->p_stride, f->rows, k);
}

/* A column that is 0 begins afresh, so that no rank is lost for ever. */
static void
orthonormalize_q(const gp_powersgd *c, const gp_codec_context *context,
                 gp_powersgd_factors *f)
{
    for (size_t k = 0; k < c->rank; k++)
        if (!orthonormal_column(f->q, f->q_stride, c->columns, k)) {
            start_column(c, context, k, f->q + k * f->q_stride);
            (void)!orthonormal_column(f->q, f->q_stride, c->columns, k);
        }
}

/* P = M Q */
static void
times_q(const gp_powersgd *c, const float *m, gp_powersgd_factors *f)
{
    gp_powersgd_span spans[3];
    size_t n = gp_powersgd_split(c, f->origin, f->count, spans);

    for (size_t i = 0; i < n; i++) {
        const gp_powersgd_span *s = &spans[i];

        gp_lowrank_get()->times(m + s->at, s->rows, c->columns, s->n,
                                f->q + s->first, f->q_stride, c->rank,
                                f->p + s->row, f->p_stride);
    }
}

/* Rows whose products are summed before they go to the total: long sums lose
 * what is small. */
#define BLOCK 256
#define PACK  64

static void
transposed_block(const gp_powersgd *c, const float *m,
                 const gp_powersgd_factors *f, const gp_powersgd_span *s,
                 size_t row, size_t rows, float factor)
{
    float p[PACK * GP_RANK_MOST];

    for (size_t at = 0; at < rows; at += PACK) {
        size_t n = GP_MIN(rows - at, (size_t)PACK);

        for (size_t i = 0; i < n; i++)
            for (size_t k = 0; k < c->rank; k++)
                p[i * c->rank + k] =
                    f->p[k * f->p_stride + s->row + row + at + i] * factor;
        gp_lowrank_get()->transposed(m + s->at + (row + at) * c->columns, n,
                                     c->columns, s->n, p, c->rank,
                                     f->work + s->first, f->q_stride);
    }
}

/* Q = M^T P, times `factor`. */
static void
transposed_times_p(const gp_powersgd *c, const float *m, float factor,
                   gp_powersgd_factors *f)
{
    size_t size = f->q_stride * c->rank;
    gp_powersgd_span spans[3];
    size_t n = gp_powersgd_split(c, f->origin, f->count, spans);

    memset(f->q, 0, size * sizeof(float));
    for (size_t i = 0; i < n; i++)
        for (size_t row = 0; row < spans[i].rows; row += BLOCK) {
            size_t rows = GP_MIN(spans[i].rows - row, (size_t)BLOCK);

            memset(f->work, 0, size * sizeof(float));
            transposed_block(c, m, f, &spans[i], row, rows, factor);
            gp_add_fp32(f->q, f->work, size);
        }
}

/* The iterations on M * factor. False when a number came out so large or so
 * small that another factor would be better. */
static bool
iterate(const gp_powersgd *c, const gp_codec_context *context, const float *m,
        float factor, gp_powersgd_factors *f)
{
    for (int i = 0; i < c->power; i++) {
        uint32_t most;

        orthonormalize_q(c, context, f);
        gp_scale_fp32(f->q, factor, f->q_stride * c->rank);
        times_q(c, m, f);
        most = gp_powersgd_most(f->p, f->p_stride, f->rows, c->rank);
        if (most >= GP_POWERSGD_LARGE ||
            (most < GP_POWERSGD_SMALL && factor == 1))
            return false;
        orthonormalize_p(c, f);
        transposed_times_p(c, m, factor, f);
        if (gp_powersgd_most(f->q, f->q_stride, c->columns, c->rank) >=
            GP_POWERSGD_LARGE)
            return false;
    }
    return true;
}

/* The last Q, or nothing: then orthonormalize_q() starts. */
static void
load_q(const gp_powersgd *c, const float *state, gp_powersgd_factors *f)
{
    bool usable = false;

    if (state) {
        uint32_t most = gp_max_magnitude(state, c->columns * c->rank);

        usable = most && most < GP_POWERSGD_LARGE;
    }
    memset(f->q, 0, f->q_stride * c->rank * sizeof(float));
    for (size_t k = 0; k < c->rank && usable; k++)
        memcpy(f->q + k * f->q_stride, state + k * c->columns,
               c->columns * sizeof(float));
}

/* P and Q of M, and the mode. */
static void
find(const gp_powersgd *c, const gp_codec_context *context, const float *m,
     gp_powersgd_factors *f)
{
    uint32_t most;
    int exponent;

    load_q(c, context->state, f);
    if (iterate(c, context, m, 1, f))
        return;
    most = gp_max_magnitude(m, f->count);
    if (most >= GP_FP32_INFINITY) {
        f->mode = NOTHING;
        return;
    }
    exponent = (int)(most >> 23) - 127;
    exponent = exponent < -100 ? -100 : exponent > 100 ? 100 : exponent;
    load_q(c, context->state, f);
    f->exponent = exponent;
    (void)!iterate(c, context, m, gp_power_of_two(-exponent), f);
}

/* Q begins the next step, unless there was nothing to learn. */
static void
remember(const gp_powersgd *c, float *state, const gp_powersgd_factors *f)
{
    if (!state || f->mode != FACTORS ||
        gp_powersgd_most(f->q, f->q_stride, c->columns, c->rank) == 0)
        return;
    for (size_t k = 0; k < c->rank; k++)
        memcpy(state + k * c->columns, f->q + k * f->q_stride,
               c->columns * sizeof(float));
}

void
gp_powersgd_factorize(const gp_powersgd *c, const gp_codec_context *context,
                      const float *m, gp_powersgd_factors *f)
{
    find(c, context, m, f);
    remember(c, context->state, f);
}
