/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec_math.h - encode and decode of a text in one call, and the numbers that
 * the literature states about a compressor.
 */
#ifndef GP_CODEC_MATH_H
#define GP_CODEC_MATH_H

#include <math.h>
#include <stdlib.h>

#include "base/base.h"
#include "compress/philox.h"
#include "compress/reduce.h"

typedef struct coder {
    gp_pipeline *pipeline;
    gp_codec_context context;
    void *workspace;
    uint8_t *bytes;
    size_t capacity, length;
} coder;

static inline coder
coder_open(const char *text, size_t count)
{
    coder c = {.context = {.seed = 11, .tensor = 1, .size = 1}};

    assert_int_equal(gp_pipeline_parse(text, &c.pipeline), GP_OK);
    c.capacity = gp_pipeline_bound(c.pipeline, count);
    c.bytes = malloc(c.capacity + 1);
    c.workspace =
        gp_alloc_aligned(gp_pipeline_workspace(c.pipeline, count) + 64);
    assert_non_null(c.bytes);
    assert_non_null(c.workspace);
    return c;
}

static inline void
coder_close(coder *c)
{
    gp_pipeline_destroy(c->pipeline);
    free(c->bytes);
    free(c->workspace);
}

/* y = decode(encode(x)) */
static inline void
coder_trip(coder *c, const float *x, float *y, size_t count)
{
    assert_int_equal(gp_pipeline_encode(c->pipeline, &c->context, NULL, x,
                                        count, c->bytes, c->capacity,
                                        &c->length, c->workspace),
                     GP_OK);
    assert_int_equal(gp_pipeline_decode(c->pipeline, &c->context, c->bytes,
                                        c->length, y, count, c->workspace),
                     GP_OK);
}

/* |y - x|^2 / |x|^2 */
static inline double
nmse_of(const float *x, const float *y, size_t count)
{
    double error = 0, energy = 0;

    for (size_t i = 0; i < count; i++) {
        double d = (double)y[i] - (double)x[i];

        error += d * d;
        energy += (double)x[i] * (double)x[i];
    }
    return error / energy;
}

/* The mean NMSE of `steps` independent encodings. */
static inline double
vnmse_of(coder *c, const float *x, float *y, size_t count, unsigned steps)
{
    double sum = 0;

    for (c->context.step = 0; c->context.step < steps; c->context.step++) {
        coder_trip(c, x, y, count);
        sum += nmse_of(x, y, count);
    }
    return sum / steps;
}

/* phi = |x|_1^2 / (n |x|_2^2) */
static inline double
phi_of(const float *x, size_t count)
{
    double sum = gp_sum_magnitudes(x, count);

    return sum * sum / ((double)count * gp_sum_squares(x, count));
}

/* Normal numbers by Box and Muller. */
static inline void
fill_normal(float *x, size_t count, uint64_t which)
{
    gp_codec_context context = {.seed = 77, .tensor = which};
    gp_stream stream = gp_stream_of(&context, GP_USE_START);
    uint32_t words[4];

    for (size_t i = 0; i < count; i++) {
        double u, v;

        gp_philox_block(&stream, i, words);
        u = ((double)words[0] + 1) * 0x1p-32;
        v = (double)words[1] * 0x1p-32;
        x[i] = (float)(sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
    }
}

/* Unbiased, in the sense of a z-score per element and of all together; returns
 * the mean NMSE. */
static inline double
check_unbiased_mean(coder *c, const float *x, float *y, size_t count,
                    unsigned steps)
{
    double *mean = calloc(count, sizeof(*mean));
    double *square = calloc(count, sizeof(*square));
    double error = 0, spread = 0, energy = 0;

    assert_non_null(mean);
    assert_non_null(square);
    for (c->context.step = 0; c->context.step < steps; c->context.step++) {
        coder_trip(c, x, y, count);
        for (size_t i = 0; i < count; i++) {
            double d = (double)y[i] - (double)x[i];

            mean[i] += d;
            square[i] += d * d;
        }
    }
    for (size_t i = 0; i < count; i++) {
        energy += (double)x[i] * (double)x[i];
        spread += square[i] / steps;
        error += mean[i] / steps * (mean[i] / steps);
    }
    for (size_t i = 0; i < count; i++)
        assert_true(mean[i] * mean[i] <=
                    30 * fmax(square[i], spread * steps / (double)count));
    assert_true(error <= spread / steps * (1 + 5 * sqrt(2.0 / (double)count)) +
                             1e-12 * energy);
    free(mean);
    free(square);
    return spread / energy;
}

#endif
