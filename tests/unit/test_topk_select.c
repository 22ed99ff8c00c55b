/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_topk_select.c - the selection against a full sort, on inputs that favour
 * and on inputs that defeat its sample.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "compress/kernels.h"
#include "compress/topk_select.h"

enum { MOST = 600000, CANARY = 0x5a5a5a5a };

static uint64_t
random_of(uint64_t i)
{
    uint64_t z = (i + 1) * 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static double
unit(uint64_t i)
{
    return (double)(random_of(i) >> 11) * 0x1p-53;
}

/* Nearly normal. */
static double
gauss(uint64_t i)
{
    return 1.7 * (unit(4 * i) + unit(4 * i + 1) + unit(4 * i + 2) +
                  unit(4 * i + 3) - 2);
}

static float x[MOST];
static uint64_t order[MOST];
static uint8_t chosen[MOST];
static uint32_t indices[MOST + 16];
static float values[MOST + 16];

/* Magnitude bits above, index below, so that one comparison sorts. */
static int
descending(const void *a, const void *b)
{
    uint64_t p = *(const uint64_t *)a, q = *(const uint64_t *)b;

    return p < q ? 1 : p > q ? -1 : 0;
}

static void
sort_all(size_t n)
{
    for (size_t i = 0; i < n; i++)
        order[i] = (uint64_t)(gp_bits(x[i]) & GP_FP32_MAGNITUDE) << 32 |
                   (UINT32_MAX - (uint32_t)i);
    qsort(order, n, sizeof(*order), descending);
}

static void
check_chosen(size_t n, size_t k, size_t got, uint32_t base)
{
    assert_int_equal(got, k);
    for (size_t i = 0, j = 0; i < n; i++) {
        if (!chosen[i])
            continue;
        assert_int_equal(indices[j], i - base);
        assert_memory_equal(&values[j], &x[i], 4);
        j++;
    }
    for (size_t j = k; j < k + 16; j++)
        assert_int_equal(indices[j], CANARY);
}

static void
clear_out(size_t n)
{
    for (size_t i = 0; i < n + 16; i++)
        indices[i] = CANARY;
}

/* What chunks of the whole take by the cut adds up to what the whole takes. */
static void
check_parts(size_t n, size_t k, gp_topk_cut cut)
{
    size_t parts[] = {0, n / 3 / 32 * 32, n / 2, n}, at = 0;

    clear_out(n);
    for (size_t p = 0; p < 3; p++) {
        size_t from = parts[p], size = parts[p + 1] - from, end;

        end = at + gp_topk_take(x + from, size, from, cut, indices + at,
                                values + at, k - at);
        for (; at < end; at++)
            indices[at] += (uint32_t)from;
    }
    check_chosen(n, k, at, 0);
}

static void
check(size_t n, size_t k)
{
    void *space = gp_alloc_aligned(gp_topk_workspace(n, k));

    assert_non_null(space);
    memset(chosen, 0, n);
    for (size_t i = 0; i < k; i++)
        chosen[UINT32_MAX - (uint32_t)order[i]] = 1;
    for (int level = 0; level < GP_SIMD_LEVELS; level++) {
        gp_topk_cut cut;

        if (!gp_simd_set((gp_simd)level))
            continue;
        clear_out(n);
        gp_topk_select(x, n, k, indices, values, space);
        check_chosen(n, k, k, 0);
        cut = gp_topk_find(x, n, k, space);
        assert_int_equal(cut.bits, order[k - 1] >> 32);
        check_parts(n, k, cut);
    }
    free(space);
}

static void
check_counts(size_t n)
{
    const size_t ks[] = {1,       2,      15,    16,    17, n / 1000,
                         n / 100, n / 10, n / 2, n - 1, n};

    sort_all(n);
    for (size_t i = 0; i < GP_COUNT_OF(ks); i++)
        if (ks[i] >= 1 && ks[i] <= n)
            check(n, ks[i]);
}

typedef float (*gp_shape_fn)(size_t i, size_t n);

static float
heavy(size_t i, size_t n)
{
    (void)n;
    return (float)pow(gauss(i), 5);
}

static float
negative(size_t i, size_t n)
{
    (void)n;
    return -(float)fabs(gauss(i)) - 1;
}

static float
equal(size_t i, size_t n)
{
    (void)i;
    (void)n;
    return -2.5f;
}

static float
zero(size_t i, size_t n)
{
    (void)n;
    return i % 3 ? 0.0f : -0.0f;
}

/* Three magnitudes and many ties. */
static float
ternary(size_t i, size_t n)
{
    (void)n;
    return (float)(int)(random_of(i) % 5) - 2;
}

/* Less than 1 % is not zero. */
static float
sparse(size_t i, size_t n)
{
    (void)n;
    return unit(i) < 0.004 ? (float)gauss(i) : 0;
}

/* All large ones close together, where the sample sees few or many. */
static float
clustered(size_t i, size_t n)
{
    return (float)gauss(i) * (i > n / 2 && i < n / 2 + 700 ? 1e6f : 1);
}

static float
ascending(size_t i, size_t n)
{
    (void)n;
    return (float)i;
}

static float
nonfinite(size_t i, size_t n)
{
    (void)n;
    if (unit(i) < 0.003)
        return gp_float((i & 1 ? 0xffc00000u : 0x7f800001u) + (uint32_t)i % 7);
    if (unit(i) > 0.997)
        return i & 1 ? INFINITY : -INFINITY;
    return (float)gauss(i);
}

/* The largest of all magnitudes, and often. */
static float
all_ones(size_t i, size_t n)
{
    (void)n;
    return gp_float(i % 3 ? (uint32_t)i : 0xffffffffu);
}

static float
denormal(size_t i, size_t n)
{
    (void)n;
    return gp_float((uint32_t)random_of(i) & 0x800003ffu);
}

static const gp_shape_fn shapes[] = {
    heavy,     negative,  equal,     zero,     ternary,  sparse,
    clustered, ascending, nonfinite, denormal, all_ones,
};

static void
fill(gp_shape_fn shape, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = shape(i, n);
}

static void
equals_a_full_sort(void **state)
{
    static const size_t counts[] = {1,   2,    7,    31,   32,   33,   255,
                                    257, 4095, 4096, 4097, 9001, 59999};

    (void)state;
    for (size_t s = 0; s < GP_COUNT_OF(shapes); s++)
        for (size_t c = 0; c < GP_COUNT_OF(counts); c++) {
            fill(shapes[s], counts[c]);
            check_counts(counts[c]);
        }
}

/* The sample is larger than what is selected. */
static void
few_of_many_are_found(void **state)
{
    (void)state;
    fill(heavy, MOST);
    sort_all(MOST);
    check(MOST, 5);
    check(MOST, 6001);
}

/* Large elements wherever the sample does not look, and only where it looks:
 * the bound is then far too low, and far too high. */
static void
a_sample_that_misleads_costs_time_only(void **state)
{
    size_t n = 57344, groups = n / 1024, stride = 1024 / 16;

    (void)state;
    for (int inside = 0; inside < 2; inside++) {
        for (size_t i = 0; i < n; i++)
            x[i] = (inside ? 1e-3f : 1e3f) * (float)(1 + unit(i));
        for (size_t i = 0; i < groups; i++) {
            uint32_t jitter = (uint32_t)i * 0x9e3779b1u;
            size_t at = i * stride + (size_t)((uint64_t)jitter * stride >> 32);

            for (size_t j = 0; j < 16; j++)
                x[16 * at + j] = (float)(1 + unit(16 * i + j));
        }
        check_counts(n);
    }
}

static void
the_bound_takes_what_reaches_it(void **state)
{
    size_t count = 0, n = 5000;

    (void)state;
    fill(nonfinite, n);
    for (size_t i = 0; i < n; i++) {
        chosen[i] = !(fabsf(x[i]) < 1.25f);
        count += chosen[i];
    }
    for (int level = 0; level < GP_SIMD_LEVELS; level++) {
        if (!gp_simd_set((gp_simd)level))
            continue;
        clear_out(n);
        check_chosen(
            n, count,
            gp_topk_above(x, n, gp_bits(1.25f), indices, values, count), 0);
        assert_int_equal(
            gp_topk_above(x, n, gp_bits(1.25f), indices, values, count - 1),
            count);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_a_full_sort),
        cmocka_unit_test(few_of_many_are_found),
        cmocka_unit_test(a_sample_that_misleads_costs_time_only),
        cmocka_unit_test(the_bound_takes_what_reaches_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
