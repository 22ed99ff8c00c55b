/* SPDX-License-Identifier: Apache-2.0 */
/*
 * powersgd_fixture.h - a matrix, an instance of the codec powersgd for it, and
 * all that a message goes through. Include it after cmocka.h.
 */
#ifndef POWERSGD_FIXTURE_H
#define POWERSGD_FIXTURE_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "compress/codec_internal.h"
#include "numbers.h"

#define HEAD 4

static const gp_codec_ops *const ops = &gp_codec_powersgd;

/* A matrix, its instance and what goes with it. `origin` is the index of the
 * first element within a larger tensor. */
typedef struct fixture {
    void *instance;
    size_t rank, rows, columns, count;
    uint64_t origin;
    float *m, *decoded, *state;
    void *prepared, *scratch;
    uint8_t *bytes;
    size_t length;
} fixture;

enum { FP32, FP16 };

static inline void *
room(size_t bytes)
{
    void *p = gp_alloc_aligned(bytes + 64);

    assert_non_null(p);
    memset(p, 0xc5, bytes + 64);
    return p;
}

static inline fixture
fixture_make(size_t rank, size_t columns, uint64_t origin, size_t count,
             int power, int format)
{
    double values[] = {(double)rank, power, format};
    gp_codec_shape shape = {origin + count, columns};
    fixture f = {.rank = rank,
                 .columns = columns,
                 .rows = (origin % columns + count + columns - 1) / columns,
                 .count = count,
                 .origin = origin};
    size_t states;

    assert_int_equal(ops->open(values, &shape, &f.instance), GP_OK);
    states = ops->state_count(f.instance, count);
    f.m = room(count * 4);
    f.decoded = room(count * 4);
    f.state = room(states * 4);
    memset(f.state, 0, states * 4);
    f.prepared = room(ops->prepare_bytes(f.instance, count));
    f.scratch = room(ops->scratch(f.instance, count));
    f.bytes = room(ops->bound(f.instance, count));
    return f;
}

static inline void
fixture_free(fixture *f)
{
    ops->close(f->instance);
    free(f->m);
    free(f->decoded);
    free(f->state);
    free(f->prepared);
    free(f->scratch);
    free(f->bytes);
}

static inline gp_codec_context
context_of(const fixture *f, uint64_t step)
{
    return (gp_codec_context){.seed = 11,
                              .tensor = 3,
                              .offset = f->origin,
                              .step = step,
                              .size = 1,
                              .state = f->state,
                              .scratch = f->scratch};
}

static inline void
prepare(fixture *f, uint64_t step)
{
    gp_codec_context context = context_of(f, step);

    assert_int_equal(
        ops->prepare(f->instance, &context, f->m, f->count, f->prepared),
        GP_OK);
}

/* Elements from `at` on, prepared before. */
static inline void
encode_part(fixture *f, uint64_t step, size_t at, size_t n)
{
    gp_codec_context context = context_of(f, step);

    context.offset += at;
    context.prepared = f->prepared;
    assert_int_equal(ops->encode(f->instance, &context, f->m + at, n, f->bytes,
                                 ops->bound(f->instance, n), &f->length),
                     GP_OK);
    assert_true(f->length <= ops->bound(f->instance, n));
    assert_int_equal(ops->decode(f->instance, &context, f->bytes, f->length,
                                 f->decoded + at, n),
                     GP_OK);
}

static inline void
run(fixture *f, uint64_t step)
{
    prepare(f, step);
    encode_part(f, step, 0, f->count);
}

static inline void
fill_gauss(fixture *f, uint64_t which)
{
    for (size_t i = 0; i < f->count; i++)
        f->m[i] = number_gauss(which * 1000003 + i);
}

/* Spectrum that falls by `ratio` from one direction to the next. */
static inline void
fill_falling(fixture *f, double ratio, size_t directions)
{
    memset(f->m, 0, f->count * 4);
    for (size_t d = 0; d < directions; d++)
        for (size_t i = 0; i < f->count; i++)
            f->m[i] += (float)pow(ratio, (double)d) *
                       number_gauss(7919 * d + i / f->columns) *
                       number_gauss(104729 * (d + 1) + i % f->columns);
}

static inline double
energy(const float *x, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    return sum;
}

static inline double
nmse(const fixture *f)
{
    double error = 0;

    for (size_t i = 0; i < f->count; i++) {
        double d = (double)f->decoded[i] - f->m[i];

        error += d * d;
    }
    return error / energy(f->m, f->count);
}

#endif
