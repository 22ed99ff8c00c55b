/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_reduce.c - the reductions follow their stated order to the bit, at every
 * SIMD level, and magnitudes rank NaN above Inf above all else.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "base/base.h"
#include "compress/kernels.h"
#include "compress/philox.h"
#include "compress/reduce.h"

enum { MOST = 4133 };

static float x[MOST + 1], y[MOST + 1];
static const size_t counts[] = {0,  1,  2,  15, 16,  17,  31,   32,
                                33, 47, 63, 64, 255, 257, 4096, MOST};

/* Magnitudes over 40 binary orders, so that the order of a sum shows. */
static void
fill(float *to, uint64_t key)
{
    static uint32_t words[2 * (MOST + 1)];
    gp_stream stream = {{(uint32_t)key, 1}, {0, 0}};

    gp_philox_words(&stream, 0, words, GP_COUNT_OF(words));
    for (size_t i = 0; i <= MOST; i++)
        to[i] = ldexpf(gp_unit(words[2 * i]) - 0.5f,
                       (int)(words[2 * i + 1] % 40) - 20);
}

static double
by_definition(const double *term, size_t n)
{
    double p[16] = {0};

    for (size_t i = 0; i < n; i++)
        p[i % 16] += term[i];
    for (size_t width = 8; width; width /= 2)
        for (size_t j = 0; j < width; j++)
            p[j] += p[j + width];
    return p[0];
}

static void
check_sums(const float *a, const float *b, size_t n)
{
    static double magnitudes[MOST], squares[MOST], products[MOST];

    for (size_t i = 0; i < n; i++) {
        magnitudes[i] = fabs((double)a[i]);
        squares[i] = (double)a[i] * (double)a[i];
        products[i] = (double)a[i] * (double)b[i];
    }
    assert_true(gp_sum_magnitudes(a, n) == by_definition(magnitudes, n));
    assert_true(gp_sum_squares(a, n) == by_definition(squares, n));
    assert_true(gp_dot(a, b, n) == by_definition(products, n));
}

static void
check_largest(float *a, size_t n)
{
    float most = 0;

    for (size_t i = 0; i < n; i++)
        most = fmaxf(most, fabsf(a[i]));
    assert_true(gp_max_magnitude(a, n) == gp_bits(most));
    for (size_t at = 0; at < n; at += n / 5 + 1) {
        float before = a[at];

        a[at] = -INFINITY;
        assert_true(gp_max_magnitude(a, n) == 0x7f800000u);
        a[n - 1 - at] = NAN;
        assert_true(gp_max_magnitude(a, n) > 0x7f800000u);
        fill(x, 1);
        assert_true(a[at] == before);
    }
}

static void
sums_follow_their_order(void **state)
{
    gp_simd before = gp_simd_get();

    (void)state;
    fill(x, 1);
    fill(y, 2);
    for (int level = 0; level < GP_SIMD_LEVELS; level++) {
        if (!gp_simd_set((gp_simd)level))
            continue;
        for (size_t i = 0; i < GP_COUNT_OF(counts); i++) {
            check_sums(x, y, counts[i]);
            check_sums(x + 1, y, counts[i]);
        }
    }
    gp_simd_set(before);
}

static void
largest_of_all_lanes(void **state)
{
    gp_simd before = gp_simd_get();

    (void)state;
    fill(x, 1);
    for (int level = 0; level < GP_SIMD_LEVELS; level++)
        if (gp_simd_set((gp_simd)level))
            for (size_t i = 0; i < GP_COUNT_OF(counts); i++)
                check_largest(x, counts[i]);
    gp_simd_set(before);
}

/* Each place in turn holds the one that counts. */
static void
no_place_is_missed(void **state)
{
    enum { COUNT = 103 };
    float one[COUNT] = {0};
    gp_simd before = gp_simd_get();

    (void)state;
    for (int level = 0; level < GP_SIMD_LEVELS; level++) {
        if (!gp_simd_set((gp_simd)level))
            continue;
        for (size_t i = 0; i < COUNT; i++) {
            one[i] = -3;
            assert_true(gp_max_magnitude(one, COUNT) == gp_bits(3));
            assert_true(gp_sum_magnitudes(one, COUNT) == 3);
            assert_true(gp_sum_squares(one, COUNT) == 9);
            one[i] = 0;
        }
    }
    gp_simd_set(before);
}

static void
infinities_stay(void **state)
{
    gp_simd before = gp_simd_get();

    (void)state;
    for (int level = 0; level < GP_SIMD_LEVELS; level++) {
        if (!gp_simd_set((gp_simd)level))
            continue;
        fill(x, 1);
        x[100] = INFINITY;
        assert_true(isinf(gp_sum_magnitudes(x, MOST)));
        x[50] = NAN;
        assert_true(isnan(gp_sum_squares(x, MOST)));
    }
    gp_simd_set(before);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_follow_their_order),
        cmocka_unit_test(largest_of_all_lanes),
        cmocka_unit_test(no_place_is_missed),
        cmocka_unit_test(infinities_stay),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
