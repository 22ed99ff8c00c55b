/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_codec_sign.c - sign, onebit and vote: the equalities that hold for every
 * input, error feedback, and sums.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "compress/codec_internal.h"
#include "compress/stochastic.h"
#include "tests/unit/codec_math.h"

#define N 5000

/* Normal, heavy-tailed, one spike, all below zero, all equal. */
#define KINDS 5

static void
fill_kind(float *x, size_t n, int kind)
{
    fill_normal(x, n, 3);
    for (size_t i = 0; i < n; i++) {
        if (kind == 1)
            x[i] = x[i] * x[i] * x[i];
        if (kind == 2)
            x[i] = i == 100 ? 1.0f : 1e-4f * x[i];
        if (kind == 3)
            x[i] = -fabsf(x[i]);
        if (kind == 4)
            x[i] = -0.37f;
    }
}

/* NMSE of the whole, from 1 - phi or 2 (1 - sqrt(phi)) of each block. */
static double
expected(const float *x, size_t n, size_t block, bool l2)
{
    double error = 0, energy = 0;

    for (size_t at = 0, size; at < n; at += size) {
        double e, phi;

        size = n - at < block ? n - at : block;
        e = gp_sum_squares(x + at, size);
        phi = phi_of(x + at, size);
        energy += e;
        error += e * (l2 ? 2 * (1 - sqrt(phi)) : 1 - phi);
    }
    return error / energy;
}

static void
check_equal(const char *text, size_t block, bool l2)
{
    coder c = coder_open(text, N);
    float x[N], y[N];

    for (int kind = 0; kind < KINDS; kind++) {
        double want, got;

        fill_kind(x, N, kind);
        want = expected(x, N, block, l2);
        coder_trip(&c, x, y, N);
        got = nmse_of(x, y, N);
        assert_true(fabs(got - want) <= 1e-5 * want + 1e-12);
    }
    coder_close(&c);
}

static void
errors_are_what_phi_says(void **state)
{
    (void)state;
    check_equal("sign", 2048, false);
    check_equal("sign:block=32", 32, false);
    check_equal("sign:block=0", N, false);
    check_equal("sign:scale=l2", 2048, true);
    check_equal("sign:block=0,scale=l2", N, true);
}

/* Two means are the best levels for the partition, so never worse. */
static void
two_means_are_no_worse(void **state)
{
    coder c = coder_open("onebit:block=512", N);
    float x[N], y[N];

    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        fill_kind(x, N, kind);
        coder_trip(&c, x, y, N);
        assert_true(nmse_of(x, y, N) <= expected(x, N, 512, false) + 1e-7);
        if (kind == 4)
            assert_true(nmse_of(x, y, N) < 1e-12);
        for (size_t i = 0; i < N; i++)
            assert_true(x[i] < 0 ? y[i] < 0 : y[i] >= 0);
    }
    coder_close(&c);
}

static void
zeros_count_as_positive(void **state)
{
    static const float x[] = {0.0f, -0.0f, 2.0f, -4.0f};
    static const float want[] = {1.5f, 1.5f, 1.5f, -1.5f};
    coder c = coder_open("sign", 4);
    float y[4];

    (void)state;
    coder_trip(&c, x, y, 4);
    assert_memory_equal(y, want, sizeof(y));
    assert_int_equal(c.bytes[4], 8);
    coder_close(&c);
}

static void
empty_classes_and_zero_blocks(void **state)
{
    coder c = coder_open("onebit", 64), s = coder_open("sign", 64);
    float x[64] = {0}, y[64];

    (void)state;
    coder_trip(&c, x, y, 64);
    assert_memory_equal(y, x, sizeof(y));
    coder_trip(&s, x, y, 64);
    assert_memory_equal(y, x, sizeof(y));
    for (int i = 0; i < 64; i++)
        x[i] = -3;
    coder_trip(&c, x, y, 64);
    assert_memory_equal(y, x, sizeof(y));
    x[63] = NAN;
    coder_trip(&c, x, y, 64);
    for (int i = 0; i < 64; i++)
        assert_true(isnan(y[i]));
    coder_close(&c);
    coder_close(&s);
}

/* The sum of what was sent and what is left is the sum of what was given. */
static void
feedback_telescopes(void **state)
{
    enum { COUNT = 300, STEPS = 1000 };
    coder c = coder_open("sign:block=64", COUNT);
    gp_codec_memory *memory;
    float x[COUNT], y[COUNT], most = 0, *residual;
    double given[COUNT] = {0}, sent[COUNT] = {0};
    const char *name;

    (void)state;
    assert_int_equal(gp_codec_memory_create(c.pipeline, 0, COUNT, 1, &memory),
                     GP_OK);
    assert_int_equal(gp_codec_memory_field(memory, 0, &name, &residual), COUNT);
    for (uint64_t step = 0; step < STEPS; step++) {
        fill_normal(x, COUNT, step);
        c.context.step = step;
        assert_int_equal(gp_pipeline_encode(c.pipeline, &c.context, memory, x,
                                            COUNT, c.bytes, c.capacity,
                                            &c.length, c.workspace),
                         GP_OK);
        assert_int_equal(gp_pipeline_decode(c.pipeline, &c.context, c.bytes,
                                            c.length, y, COUNT, c.workspace),
                         GP_OK);
        for (size_t i = 0; i < COUNT; i++) {
            given[i] += (double)x[i];
            sent[i] += (double)y[i];
            most = fmaxf(most, fabsf(residual[i]) + fabsf(y[i]));
        }
    }
    for (size_t i = 0; i < COUNT; i++)
        assert_true(fabs(given[i] - sent[i] - (double)residual[i]) <=
                    STEPS * 0x1p-24 * 4 * (double)most);
    gp_codec_memory_destroy(memory);
    coder_close(&c);
}

/* ---- votes --------------------------------------------------------------- */

#define WORKERS 11

typedef struct ballot {
    void *instance;
    gp_codec_context context;
    uint8_t bytes[WORKERS][8 + N / 8];
    gp_codec_input input[WORKERS];
    float sum[N];
} ballot;

static const gp_codec_ops *const vote = &gp_codec_vote;

static void
cast_votes(ballot *b)
{
    static const double values[] = {64};
    static const gp_codec_shape shape = {0, 0};
    float x[N];
    uint8_t *bytes = malloc(4 + N);

    assert_int_equal(vote->open(values, &shape, &b->instance), GP_OK);
    memset(b->sum, 0, sizeof(b->sum));
    for (size_t w = 0; w < WORKERS; w++) {
        size_t length;

        fill_normal(x, N, w);
        assert_int_equal(
            vote->encode(b->instance, &b->context, x, N, bytes, 4 + N, &length),
            GP_OK);
        assert_true(length <= sizeof(b->bytes[w]));
        memcpy(b->bytes[w], bytes, length);
        b->input[w] = (gp_codec_input){&b->context, b->bytes[w], length};
        for (size_t i = 0; i < N; i++)
            b->sum[i] += x[i] < 0 ? -1.0f : 1.0f;
    }
    free(bytes);
}

static void
votes_are_counted(void **state)
{
    static ballot b;
    uint8_t *sum = malloc(4 + N), *more = malloc(4 + N);
    gp_codec_input two[2];
    float y[N];
    size_t length;

    (void)state;
    cast_votes(&b);
    assert_int_equal(vote->fold(b.instance, b.input, WORKERS, 0, y, N), GP_OK);
    assert_memory_equal(y, b.sum, sizeof(y));
    assert_int_equal(
        vote->aggregate(b.instance, b.input, WORKERS, N, sum, 4 + N, &length),
        GP_OK);
    assert_int_equal(length, 4 + 4 * (N / 8));
    assert_int_equal(vote->decode(b.instance, &b.context, sum, length, y, N),
                     GP_OK);
    assert_memory_equal(y, b.sum, sizeof(y));

    /* Sums of sums, and of sums and single votes. */
    two[0] = (gp_codec_input){&b.context, sum, length};
    two[1] = b.input[3];
    assert_int_equal(
        vote->aggregate(b.instance, two, 2, N, more, 4 + N, &length), GP_OK);
    assert_int_equal(vote->decode(b.instance, &b.context, more, length, y, N),
                     GP_OK);
    for (size_t i = 0; i < N; i++)
        b.sum[i] += b.bytes[3][4 + i / 8] >> i % 8 & 1 ? -1.0f : 1.0f;
    assert_memory_equal(y, b.sum, sizeof(y));
    assert_int_equal(vote->fold(b.instance, two, 2, 0, y, N), GP_OK);
    assert_memory_equal(y, b.sum, sizeof(y));
    vote->close(b.instance);
    free(sum);
    free(more);
}

/* More votes below zero than there are votes are nobody's. */
static void
impossible_counts_are_refused(void **state)
{
    static const uint8_t possible[] = {2, 0, 0, 0, 0x00, 0x01};
    static const uint8_t three[] = {2, 0, 0, 0, 0x01, 0x01};
    static const uint8_t beyond[] = {1, 0, 0, 0, 0x10};
    static const double values[] = {64};
    gp_codec_context context = {.seed = 1};
    void *instance;
    float y[4];

    (void)state;
    assert_int_equal(vote->open(values, NULL, &instance), GP_OK);
    assert_int_equal(vote->decode(instance, &context, possible, 6, y, 4),
                     GP_OK);
    assert_true(y[0] == -2 && y[1] == 2);
    assert_int_equal(vote->decode(instance, &context, three, 6, y, 4),
                     GP_ERR_CORRUPT);
    assert_int_equal(vote->decode(instance, &context, beyond, 5, y, 4),
                     GP_ERR_CORRUPT);
    vote->close(instance);
}

static void
a_majority_is_the_sign_of_the_sum(void **state)
{
    static ballot b;
    coder c = coder_open("vote", N);
    float y[N];

    (void)state;
    cast_votes(&b);
    coder_trip(&c, b.sum, y, N);
    for (size_t i = 0; i < N; i++)
        assert_true(y[i] == (b.sum[i] < 0 ? -1.0f : 1.0f));
    vote->close(b.instance);
    coder_close(&c);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_are_what_phi_says),
        cmocka_unit_test(two_means_are_no_worse),
        cmocka_unit_test(zeros_count_as_positive),
        cmocka_unit_test(empty_classes_and_zero_blocks),
        cmocka_unit_test(feedback_telescopes),
        cmocka_unit_test(votes_are_counted),
        cmocka_unit_test(impossible_counts_are_refused),
        cmocka_unit_test(a_majority_is_the_sign_of_the_sum),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
