/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_codec_rotation.c - drive and eden: their errors are those of the
 * Lloyd-Max quantizer of a normal distribution, whatever the data.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "compress/codec_internal.h"
#include "tests/unit/codec_math.h"

#define N 16384

static float x[N], y[N];

/* Normal, heavy-tailed, uniform above zero, and a few large among small. */
#define KINDS 4

static void
fill_kind(int kind)
{
    fill_normal(x, N, 9);
    for (size_t i = 0; i < N; i++) {
        if (kind == 1)
            x[i] = x[i] * fabsf(x[i]);
        if (kind == 2)
            x[i] = (float)(i % 1000) * 1e-3f;
        if (kind == 3)
            x[i] *= i * 2654435761u >> 28 & 7 ? 1e-2f : 1.0f;
    }
}

static void
error_is(const char *text, double want, double tolerance)
{
    coder c = coder_open(text, N);

    for (int kind = 0; kind < KINDS; kind++) {
        double got;

        fill_kind(kind);
        got = vnmse_of(&c, x, y, N, 12);
        if (fabs(got / want - 1) > tolerance)
            fail_msg("%s, kind %d: %g, not %g", text, kind, got, want);
    }
    coder_close(&c);
}

static void
errors_are_those_of_theory(void **state)
{
    (void)state;
    error_is("drive", 0.571, 0.02);
    error_is("drive:scale=mse", 0.3634, 0.01);
    error_is("eden:bits=1", 0.571, 0.02);
    error_is("eden:bits=2", 0.133, 0.02);
    error_is("eden:bits=3", 0.0358, 0.02);
    error_is("eden:bits=4", 0.0096, 0.02);
    error_is("eden:bits=2,scale=mse", 0.11748, 0.02);
    error_is("eden:bits=4,scale=mse", 0.0095, 0.02);
}

/* S = |R|^2 / <c, R> makes <C(x), x> = |x|^2 for every draw. */
static void
the_part_along_x_is_exact(void **state)
{
    static const char *const texts[] = {"drive", "eden:bits=3",
                                        "eden:bits=2,block=128"};

    (void)state;
    for (size_t t = 0; t < 3; t++)
        for (int kind = 0; kind < KINDS; kind++) {
            coder c = coder_open(texts[t], N);

            fill_kind(kind);
            coder_trip(&c, x, y, N - 77);
            assert_true(fabs(gp_dot(x, y, N - 77) / gp_sum_squares(x, N - 77) -
                             1) < 1e-5);
            coder_close(&c);
        }
}

static void
means_are_right(void **state)
{
    coder c = coder_open("drive", 4096), e = coder_open("eden:bits=2", 4096);

    (void)state;
    fill_kind(0);
    check_unbiased_mean(&c, x, y, 4096, 1024);
    check_unbiased_mean(&e, x, y, 4096, 1024);
    coder_close(&c);
    coder_close(&e);
}

/* Two equal spikes are as far from normal as a rotated block can be: all of R
 * is zero or of one magnitude, and the error of one bit is |x|^2. */
static void
two_spikes_are_the_worst(void **state)
{
    coder c = coder_open("drive", 1024);

    (void)state;
    memset(x, 0, sizeof(x));
    x[17] = x[500] = 3;
    assert_true(fabs(vnmse_of(&c, x, y, 1024, 20) - 1) < 1e-5);
    coder_close(&c);
}

/* Equal inputs: own rotations average out, a shared one does not. */
static void
ranks_are_independent(void **state)
{
    coder c = coder_open("drive", N);
    static float own[N];
    double one;

    (void)state;
    fill_kind(0);
    memset(own, 0, sizeof(own));
    for (uint32_t w = 0; w < 8; w++) {
        c.context.rank = w;
        coder_trip(&c, x, y, N);
        for (size_t i = 0; i < N; i++)
            own[i] += y[i] / 8;
    }
    one = nmse_of(x, y, N);
    assert_true(fabs(nmse_of(x, own, N) / one - 0.125) < 0.01);
    coder_close(&c);
}

static void
short_blocks_have_one_scale(void **state)
{
    static const size_t counts[] = {1, 2, 3, 7, 31, 100, 1023, 1025, 3000};
    coder c = coder_open("eden:bits=4", 3000);

    (void)state;
    fill_kind(0);
    for (size_t t = 0; t < sizeof(counts) / sizeof(counts[0]); t++) {
        size_t n = counts[t], tail = n % 1024;

        coder_trip(&c, x, y, n);
        assert_int_equal(c.length, n / 1024 * (4 + 512) +
                                       (tail ? 4 + (tail + 7) / 8 * 4 : 0));
        if (n >= 100)
            assert_true(vnmse_of(&c, x, y, n, 8) < 0.012);
        if (n == 1)
            assert_true(fabsf(y[0] / x[0] - 1) < 1e-6f);
    }
    coder_close(&c);
}

/* A rotation ahead of block integers: no outlier costs the others. */
static void
a_rotation_helps_integers(void **state)
{
    coder plain = coder_open("q8", N), turned = coder_open("hadamard+q8", N);
    double before;

    (void)state;
    fill_kind(1);
    coder_trip(&plain, x, y, N);
    before = nmse_of(x, y, N);
    coder_trip(&turned, x, y, N);
    assert_true(nmse_of(x, y, N) < before);
    coder_close(&plain);
    coder_close(&turned);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_are_those_of_theory),
        cmocka_unit_test(the_part_along_x_is_exact),
        cmocka_unit_test(means_are_right),
        cmocka_unit_test(two_spikes_are_the_worst),
        cmocka_unit_test(ranks_are_independent),
        cmocka_unit_test(short_blocks_have_one_scale),
        cmocka_unit_test(a_rotation_helps_integers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
