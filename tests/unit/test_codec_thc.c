/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_codec_thc.c - the mathematics of THC: levels add up without decoding,
 * and the error is the one that its tables were made for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/bytes.h"
#include "compress/codec_internal.h"
#include "numbers.h"

#define HEAD 8

enum { BITS2, BITS4 };
enum { OPTIMAL, UNIFORM };

static const gp_codec_ops *const ops = &gp_codec_thc;

/* Of the table: largest level, variance of rounding and energy that is cut
 * off, both for normal numbers of variance 1. By integration over the cells of
 * the table: (x - a)(b - x), and (|x| - range)^2 beyond the range. */
static const struct {
    unsigned granularity;
    double rounding, cut;
} facts[2][2] = {{{3, 0.201910, 0.025525}, {3, 0.201910, 0.025525}},
                 {{31, 0.0212157, 0.00054805}, {15, 0.0217806, 0.00112729}}};

static void *
room(size_t bytes)
{
    void *p = gp_alloc_aligned(bytes + 64);

    assert_non_null(p);
    memset(p, 0xc5, bytes + 64);
    return p;
}

static void *
instance_of(int bits, int levels, double block)
{
    double values[] = {bits, levels, block};
    gp_codec_shape shape = {0, 0};
    void *instance = NULL;

    assert_int_equal(ops->open(values, &shape, &instance), GP_OK);
    return instance;
}

typedef struct packet {
    size_t length;
    uint8_t *bytes;
} packet;

static packet
packet_make(size_t n)
{
    return (packet){0, room(HEAD + 2 * n)};
}

static gp_codec_context
context_of(uint64_t step, uint32_t rank, float shared, void *scratch)
{
    return (gp_codec_context){.seed = 9,
                              .tensor = 1,
                              .offset = 8192,
                              .step = step,
                              .rank = rank,
                              .size = 8,
                              .shared = shared,
                              .scratch = scratch};
}

static void
encode(const void *instance, const gp_codec_context *context, const float *x,
       size_t n, packet *out)
{
    assert_int_equal(ops->encode(instance, context, x, n, out->bytes,
                                 ops->bound(instance, n), &out->length),
                     GP_OK);
}

static void
decode(const void *instance, const gp_codec_context *context, const packet *p,
       float *out, size_t n)
{
    assert_int_equal(
        ops->decode(instance, context, p->bytes, p->length, out, n), GP_OK);
}

static float
proposal(const void *instance, const float *x, size_t n)
{
    gp_codec_context context = context_of(0, 0, 0, NULL);
    float value;

    assert_int_equal(ops->propose(instance, &context, x, n, &value), GP_OK);
    return value;
}

static double
square(const float *x, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    return sum;
}

/* |x - y|^2 / |y|^2 */
static double
nmse(const float *x, const float *y, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++) {
        double d = (double)x[i] - y[i];

        sum += d * d;
    }
    return sum / square(y, n);
}

/* ---- sums -----------------------------------------------------------------
 */

typedef struct crew {
    void *instance, *scratch;
    size_t n, workers;
    packet p[64];
    float *decoded, *sum;
} crew;

static crew
crew_make(int bits, int levels, double block, size_t n, size_t workers)
{
    crew c = {.instance = instance_of(bits, levels, block),
              .scratch = room(4 * n),
              .n = n,
              .workers = workers,
              .decoded = room(4 * n),
              .sum = room(4 * n)};
    float *x = room(4 * n), shared = 0;

    for (size_t w = 0; w < workers; w++) {
        for (size_t i = 0; i < n; i++)
            x[i] = number_gauss(w * n + i);
        shared = fmaxf(shared, proposal(c.instance, x, n));
    }
    for (size_t w = 0; w < workers; w++) {
        gp_codec_context context =
            context_of(2, (uint32_t)w, shared, c.scratch);

        for (size_t i = 0; i < n; i++)
            x[i] = number_gauss(w * n + i);
        c.p[w] = packet_make(n);
        encode(c.instance, &context, x, n, &c.p[w]);
    }
    free(x);
    return c;
}

static void
crew_free(crew *c)
{
    for (size_t w = 0; w < c->workers; w++)
        free(c->p[w].bytes);
    free(c->scratch);
    free(c->decoded);
    free(c->sum);
    ops->close(c->instance);
}

static gp_status
aggregate(const crew *c, const packet *p, size_t inputs, packet *out)
{
    gp_codec_context context = context_of(2, GP_RANK_SHARD, 0, c->scratch);
    gp_codec_input input[GP_CODEC_FOLD];

    for (size_t i = 0; i < inputs; i++)
        input[i] = (gp_codec_input){&context, p[i].bytes, p[i].length};
    return ops->aggregate(c->instance, input, inputs, c->n, out->bytes,
                          ops->bound(c->instance, c->n), &out->length);
}

static void
check_sum(int bits, int levels, double block, size_t n, size_t workers)
{
    crew c = crew_make(bits, levels, block, n, workers);
    gp_codec_context context = context_of(2, 0, 0, c.scratch);
    packet total = packet_make(n), part[2];
    double largest = 0;
    size_t half = workers / 2;

    memset(c.sum, 0, 4 * n);
    for (size_t w = 0; w < workers; w++) {
        decode(c.instance, &context, &c.p[w], c.decoded, n);
        for (size_t i = 0; i < n; i++) {
            c.sum[i] += c.decoded[i];
            largest = fmax(largest, fabs((double)c.decoded[i]));
        }
    }
    assert_int_equal(aggregate(&c, c.p, workers, &total), GP_OK);
    decode(c.instance, &context, &total, c.decoded, n);
    /* Levels add up exactly; rotating back rounds, each time. */
    for (size_t i = 0; i < n; i++)
        assert_true(fabs((double)c.sum[i] - c.decoded[i]) <=
                    (double)workers * 0x1p-22 * largest);
    /* Sums of sums are the same bytes. */
    part[0] = packet_make(n);
    part[1] = packet_make(n);
    if (half) {
        assert_int_equal(aggregate(&c, c.p, half, &part[0]), GP_OK);
        assert_int_equal(aggregate(&c, c.p + half, workers - half, &part[1]),
                         GP_OK);
        assert_int_equal(aggregate(&c, part, 2, &c.p[0]), GP_OK);
        assert_int_equal(c.p[0].length, total.length);
        assert_memory_equal(c.p[0].bytes, total.bytes, total.length);
    }
    free(part[0].bytes);
    free(part[1].bytes);
    free(total.bytes);
    crew_free(&c);
}

static void
sums_of_messages_decode_to_sums(void **state)
{
    static const size_t workers[] = {1, 2, 8, 9, 18, 64};
    static const size_t counts[] = {1, 31, 1024, 2600};

    (void)state;
    for (int bits = 0; bits < 2; bits++)
        for (int levels = 0; levels < 2; levels++)
            for (size_t i = 0; i < GP_COUNT_OF(workers); i++)
                for (size_t j = 0; j < GP_COUNT_OF(counts); j++)
                    check_sum(bits, levels, 512, counts[j], workers[i]);
}

/* 8 bits as long as they do, then 16, and no more than 256 workers. */
static void
sums_cannot_overflow(void **state)
{
    enum { N = 64 };

    (void)state;
    for (int bits = 0; bits < 2; bits++)
        for (int levels = 0; levels < 2; levels++) {
            crew c = crew_make(bits, levels, 32, N, 1);
            gp_codec_context context = context_of(2, 0, 0, c.scratch);
            unsigned granularity = facts[bits][levels].granularity;
            unsigned most = 255 / granularity;
            packet same[64], all[4], total = packet_make(N);
            float *once = room(4 * N);

            /* The highest code everywhere. */
            memset(c.p[0].bytes + HEAD, 0xff, c.p[0].length - HEAD);
            for (size_t i = 0; i < 64; i++)
                same[i] = c.p[0];
            assert_int_equal(aggregate(&c, same, GP_MIN(most, 64), &total),
                             GP_OK);
            assert_int_equal(total.length, HEAD + N);
            if (most < 64) {
                assert_int_equal(aggregate(&c, same, most + 1, &total), GP_OK);
                assert_int_equal(total.length, HEAD + 2 * N);
                assert_int_equal(gp_get16(total.bytes + HEAD),
                                 granularity * (most + 1));
            }
            assert_int_equal(aggregate(&c, same, 64, &total), GP_OK);
            for (size_t i = 0; i < 4; i++)
                all[i] = total;
            same[0] = packet_make(N);
            assert_int_equal(aggregate(&c, all, 4, &same[0]), GP_OK);
            assert_int_equal(gp_get16(same[0].bytes + 4), 256);
            assert_int_equal(gp_get16(same[0].bytes + HEAD), 256 * granularity);
            decode(c.instance, &context, &same[0], c.decoded, N);
            decode(c.instance, &context, &c.p[0], once, N);
            for (size_t i = 0; i < N; i++)
                assert_true(fabs((double)c.decoded[i] - 256.0 * once[i]) <=
                            1e-5 * 256 * sqrt(square(once, N)));
            all[0] = same[0];
            all[1] = c.p[0];
            assert_int_equal(aggregate(&c, all, 2, &total), GP_ERR_TOO_LARGE);
            free(same[0].bytes);
            free(total.bytes);
            free(once);
            crew_free(&c);
        }
}

static void
different_units_do_not_add(void **state)
{
    crew c = crew_make(BITS4, OPTIMAL, 64, 200, 2);
    gp_codec_context context = context_of(2, 1, 7, c.scratch);
    packet total = packet_make(200);
    float x[200];

    (void)state;
    for (size_t i = 0; i < 200; i++)
        x[i] = number_gauss(i);
    encode(c.instance, &context, x, 200, &c.p[1]);
    assert_int_equal(aggregate(&c, c.p, 2, &total), GP_ERR_CORRUPT);
    x[3] = NAN;
    encode(c.instance, &context, x, 200, &c.p[1]);
    assert_int_equal(aggregate(&c, c.p, 2, &total), GP_OK);
    decode(c.instance, &context, &total, x, 200);
    for (size_t i = 0; i < 200; i++)
        assert_true(isnan(x[i]));
    free(total.bytes);
    crew_free(&c);
}

/* ---- errors ------------------------------------------------------------ */

/* Rounding averages out over workers, what is cut off does not. */
static void
errors_are_those_of_the_table(void **state)
{
    enum { N = 1 << 16, WORKERS = 8 };
    float *x = room(4 * N), *y = room(4 * N), *mean = room(4 * N);
    void *scratch = room(4 * N);
    packet p = packet_make(N);

    (void)state;
    for (size_t i = 0; i < N; i++)
        x[i] = number_gauss(i);
    for (int bits = 0; bits < 2; bits++)
        for (int levels = 0; levels < 2; levels++) {
            void *instance = instance_of(bits, levels, 32768);
            double rounding = facts[bits][levels].rounding;
            double cut = facts[bits][levels].cut, one = 0;

            memset(mean, 0, 4 * N);
            for (uint32_t w = 0; w < WORKERS; w++) {
                gp_codec_context context = context_of(1, w, 0, scratch);

                encode(instance, &context, x, N, &p);
                decode(instance, &context, &p, y, N);
                one += nmse(y, x, N) / WORKERS;
                for (size_t i = 0; i < N; i++)
                    mean[i] += y[i] / WORKERS;
            }
            assert_true(fabs(one / (rounding + cut) - 1) < 0.03);
            assert_true(
                fabs(nmse(mean, x, N) / (rounding / WORKERS + cut) - 1) < 0.06);
            ops->close(instance);
        }
    free(x);
    free(y);
    free(mean);
    free(scratch);
    free(p.bytes);
}

/* Rotation makes them so for every input, of every length. */
static void
errors_do_not_depend_on_the_input(void **state)
{
    static const size_t counts[] = {256, 257, 300, 511, 1000, 5000, 8191};
    void *instance = instance_of(BITS4, OPTIMAL, 1024);
    void *scratch = room(4 * 8192);
    float *x = room(4 * 8192), *y = room(4 * 8192);
    packet p = packet_make(8192);

    (void)state;
    for (size_t j = 0; j < GP_COUNT_OF(counts); j++)
        for (int kind = 0; kind < 3; kind++) {
            double error = 0;
            size_t n = counts[j];

            for (size_t i = 0; i < n; i++)
                x[i] = kind == 0   ? powf(number_gauss(i), 7)
                       : kind == 1 ? (i == n - 1 ? 1 : 1e-4f)
                                   : 1 + 0.01f * number_gauss(i);
            for (uint64_t step = 0; step < 8; step++) {
                gp_codec_context context = context_of(step, 0, 0, scratch);

                encode(instance, &context, x, n, &p);
                decode(instance, &context, &p, y, n);
                error += nmse(y, x, n) / 8;
            }
            /* Where one block holds all, the others' lanes are too wide. */
            if (n <= 511)
                assert_true(error < 0.07);
            else
                assert_true(error < 0.04 * (double)n / 256);
        }
    ops->close(instance);
    free(scratch);
    free(x);
    free(y);
    free(p.bytes);
}

/* ---- the rest ---------------------------------------------------------- */

static void
extreme_magnitudes_stay_finite(void **state)
{
    static const float sizes[] = {FLT_MAX, 1e38f,  1e30f,
                                  1e-30f,  1e-37f, 1e-42f};
    void *instance = instance_of(BITS4, OPTIMAL, 256);
    float x[300], y[300], scratch[320];
    packet p = packet_make(300);

    (void)state;
    for (size_t s = 0; s < GP_COUNT_OF(sizes); s++) {
        gp_codec_context context = context_of(0, 0, 0, scratch);

        for (size_t i = 0; i < 300; i++)
            x[i] = i % 3 ? sizes[s] : -sizes[s];
        encode(instance, &context, x, 300, &p);
        decode(instance, &context, &p, y, 300);
        for (size_t i = 0; i < 300; i++)
            assert_true(isfinite(y[i]));
        assert_true(nmse(y, x, 300) < (sizes[s] < 1e-36f ? 1.01 : 0.5));
    }
    memset(x, 0, sizeof(x));
    for (int shared = 0; shared < 2; shared++) {
        gp_codec_context context = context_of(0, 0, 0, scratch);

        encode(instance, &context, x, 300, &p);
        decode(instance, &context, &p, y, 300);
        assert_memory_equal(x, y, sizeof(x));
    }
    ops->close(instance);
    free(p.bytes);
}

static void
sets_of_instructions_agree(void **state)
{
    enum { N = 3000 };
    gp_simd before = gp_simd_get();
    float *x = room(4 * N), *y[2] = {room(4 * N), room(4 * N)};
    void *scratch = room(4 * N);
    packet p[2] = {packet_make(N), packet_make(N)};

    (void)state;
    for (size_t i = 0; i < N; i++)
        x[i] = powf(number_gauss(i), 3);
    for (int bits = 0; bits < 2; bits++)
        for (int level = 0; level < GP_SIMD_LEVELS; level++) {
            void *instance = instance_of(bits, OPTIMAL, 1024);
            gp_codec_context context = context_of(0, 0, 0, scratch);
            int to = level > 0;

            if (gp_simd_set((gp_simd)level)) {
                encode(instance, &context, x, N, &p[to]);
                decode(instance, &context, &p[to], y[to], N);
                if (to) {
                    assert_memory_equal(p[0].bytes, p[1].bytes, p[0].length);
                    assert_memory_equal(y[0], y[1], 4 * N);
                }
            }
            ops->close(instance);
        }
    gp_simd_set(before);
    free(x);
    free(y[0]);
    free(y[1]);
    free(scratch);
    free(p[0].bytes);
    free(p[1].bytes);
}

static void
check_refused(const void *instance, packet *p, size_t at, uint8_t value)
{
    float y[9], scratch[25];
    gp_codec_context context = context_of(0, 0, 0, scratch);
    uint8_t before = p->bytes[at];

    p->bytes[at] = value;
    if (ops->decode(instance, &context, p->bytes, p->length, y, 9) !=
        GP_ERR_CORRUPT)
        fail_msg("byte %zu may be %u", at, value);
    p->bytes[at] = before;
}

static void
what_no_encoder_writes_is_refused(void **state)
{
    crew c = crew_make(BITS4, OPTIMAL, 32, 9, 2);
    packet total = packet_make(9);

    (void)state;
    check_refused(c.instance, &c.p[0], 3, 0xbf);        /* a negative unit */
    check_refused(c.instance, &c.p[0], 3, 0x7f);        /* too large a one */
    check_refused(c.instance, &c.p[0], 4, 0);           /* nobody's */
    check_refused(c.instance, &c.p[0], 4, 2);           /* two in 4 bits */
    check_refused(c.instance, &c.p[0], 5, 1);           /* 257 */
    check_refused(c.instance, &c.p[0], 6, 8);           /* wrong lanes */
    check_refused(c.instance, &c.p[0], 7, 1);           /* what is to be 0 */
    check_refused(c.instance, &c.p[0], HEAD + 4, 0x10); /* beyond the last */
    assert_int_equal(aggregate(&c, c.p, 2, &total), GP_OK);
    check_refused(c.instance, &total, HEAD, 63); /* more than 2 * 31 */
    c.p[0].bytes[HEAD + 4] = 0x10;
    assert_int_equal(aggregate(&c, c.p, 1, &total), GP_ERR_CORRUPT);
    free(total.bytes);
    crew_free(&c);
}

static void
blocks_are_powers_of_two(void **state)
{
    double values[] = {BITS4, OPTIMAL, 1000};
    gp_codec_shape shape = {0, 0};
    void *instance;

    (void)state;
    assert_int_equal(ops->open(values, &shape, &instance), GP_ERR_CONFIG);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_of_messages_decode_to_sums),
        cmocka_unit_test(sums_cannot_overflow),
        cmocka_unit_test(different_units_do_not_add),
        cmocka_unit_test(errors_are_those_of_the_table),
        cmocka_unit_test(errors_do_not_depend_on_the_input),
        cmocka_unit_test(extreme_magnitudes_stay_finite),
        cmocka_unit_test(sets_of_instructions_agree),
        cmocka_unit_test(what_no_encoder_writes_is_refused),
        cmocka_unit_test(blocks_are_powers_of_two),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
