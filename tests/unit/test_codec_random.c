/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_codec_random.c - qsgd, natural, natural-dither and terngrad: unbiased,
 * with the variance that the literature states.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "compress/codec_internal.h"
#include "compress/random_kernels.h"
#include "tests/unit/codec_math.h"

#define N 4096

static void
unbiased(const char *text, unsigned steps)
{
    coder c = coder_open(text, N);
    float x[N], y[N];
    double w;

    fill_normal(x, N, 1);
    w = check_unbiased_mean(&c, x, y, N, steps);
    assert_true(w <= gp_pipeline_error_bound(c.pipeline, N));
    coder_close(&c);
}

static void
means_are_right(void **state)
{
    (void)state;
    unbiased("qsgd", 1024);
    unbiased("qsgd:levels=7,norm=max", 4096);
    unbiased("qsgd:levels=1,block=64", 1024);
    unbiased("natural", 4096);
    unbiased("natural-dither", 1024);
    unbiased("natural-dither:levels=3,norm=l2,block=64", 1024);
    unbiased("terngrad:clip=0", 1024);
}

static double
variance(const char *text, unsigned steps)
{
    coder c = coder_open(text, N);
    float x[N], y[N];
    double w;

    fill_normal(x, N, 2);
    w = vnmse_of(&c, x, y, N, steps);
    coder_close(&c);
    return w;
}

/* E of (x - a)(2a - x) over x^2, a the power of two below x. */
static void
natural_has_its_variance(void **state)
{
    (void)state;
    assert_true(fabs(variance("natural", 200) - 0.0815) < 0.003);
}

/* On a mantissa of 4/3 the variance is largest, 1/8. */
static void
natural_has_its_worst_case(void **state)
{
    coder c = coder_open("natural", N);
    float x[N], y[N];

    (void)state;
    for (size_t i = 0; i < N; i++)
        x[i] = (i & 1 ? -4.0f : 4.0f) / 3.0f * 0x1p-9f;
    assert_true(fabs(vnmse_of(&c, x, y, N, 200) - 0.125) < 0.001);
    coder_close(&c);
}

/* With many levels the rounding error is uniform: step^2 / 6 per element. */
static void
fine_levels_have_a_sixth_of_a_step(void **state)
{
    float x[N];
    double step = 0, w;

    (void)state;
    fill_normal(x, N, 2);
    for (size_t i = 0; i < N; i++)
        step = fmax(step, fabs((double)x[i]) / 127);
    w = step * step / 6 * N / gp_sum_squares(x, N);
    assert_true(fabs(variance("qsgd:norm=max,block=0", 100) / w - 1) < 0.02);
}

/* m |x|_1 / |x|^2 - 1, m being the largest magnitude. */
static void
terngrad_has_its_variance(void **state)
{
    float x[N], y[N];
    double most = 0, w;
    coder c = coder_open("terngrad:clip=0", N);

    (void)state;
    fill_normal(x, N, 2);
    for (size_t i = 0; i < N; i++)
        most = fmax(most, fabs((double)x[i]));
    w = most * gp_sum_magnitudes(x, N) / gp_sum_squares(x, N) - 1;
    assert_true(fabs(vnmse_of(&c, x, y, N, 400) / w - 1) < 0.01);
    coder_close(&c);
}

static void
terngrad_clips(void **state)
{
    coder c = coder_open("terngrad", N);
    float x[N], y[N];
    double sigma;

    (void)state;
    fill_normal(x, N, 2);
    sigma = sqrt(gp_sum_squares(x, N) / N);
    coder_trip(&c, x, y, N);
    for (size_t i = 0; i < N; i++) {
        assert_true(y[i] == 0 ||
                    fabs(fabs((double)y[i]) / (2.5 * sigma) - 1) < 1e-6);
        if (fabs((double)x[i]) > 2.5 * sigma)
            assert_true(y[i] * x[i] > 0);
    }
    assert_int_equal(c.length, 4 + N / 4);
    coder_close(&c);
}

/* Equal inputs: eight workers of different ranks average to an eighth of the
 * error, eight of one rank to all of it. */
static void
ranks_are_independent(void **state)
{
    coder c = coder_open("qsgd:levels=7,norm=max", N);
    float x[N], y[N], same[N] = {0}, own[N] = {0};
    double one;

    (void)state;
    fill_normal(x, N, 4);
    for (uint32_t w = 0; w < 8; w++) {
        c.context.rank = w;
        coder_trip(&c, x, y, N);
        for (size_t i = 0; i < N; i++)
            own[i] += y[i] / 8;
        c.context.rank = 0;
        coder_trip(&c, x, y, N);
        for (size_t i = 0; i < N; i++)
            same[i] += y[i] / 8;
    }
    one = nmse_of(x, y, N);
    assert_true(fabs(nmse_of(x, same, N) / one - 1) < 1e-5);
    assert_true(fabs(nmse_of(x, own, N) / one - 0.125) < 0.01);
    coder_close(&c);
}

/* Chunks give the bytes' meaning that the whole gives. */
static void
chunks_do_not_matter(void **state)
{
    static const char *const texts[] = {"qsgd", "natural", "natural-dither"};
    static float x[2 * N], y[2 * N], z[2 * N];

    (void)state;
    fill_normal(x, 2 * N, 5);
    for (size_t t = 0; t < 3; t++) {
        coder c = coder_open(texts[t], 2 * N);

        coder_trip(&c, x, y, 2 * N);
        coder_trip(&c, x, z, N);
        c.context.offset = N;
        coder_trip(&c, x + N, z + N, N);
        assert_memory_equal(y, z, sizeof(y));
        coder_close(&c);
    }
}

static void
packing_is_exact(void **state)
{
    int8_t codes[67], back[67];
    uint8_t bytes[68];

    (void)state;
    for (unsigned width = 2; width <= 8; width++)
        for (size_t n = 0; n <= 67; n++) {
            size_t used = (n * width + 7) / 8;

            for (size_t i = 0; i < n; i++)
                codes[i] = (int8_t)((int)(i * 37 % (1u << width)) -
                                    (1 << (width - 1)));
            memset(bytes, 0xa5, sizeof(bytes));
            gp_pack_codes(codes, n, width, bytes);
            assert_int_equal(bytes[used], 0xa5);
            gp_unpack_codes(bytes, n, width, back);
            assert_memory_equal(codes, back, n);
            for (size_t i = 0; i < n; i++)
                for (unsigned b = 0; b < width; b++)
                    assert_int_equal(
                        bytes[(i * width + b) / 8] >> (i * width + b) % 8 & 1,
                        (uint8_t)codes[i] >> b & 1);
        }
}

static void
extremes_keep_their_kind(void **state)
{
    float x[8] = {3.4e38f, -3.4e38f, 1e-44f, 0, INFINITY, NAN, -1, 1e-30f};
    float y[8];
    coder c = coder_open("natural", 8);

    (void)state;
    coder_trip(&c, x, y, 8);
    assert_true(y[0] == 0x1p127f && y[1] == -0x1p127f && y[3] == 0);
    assert_true(isnan(y[4]) && isnan(y[5]) && (y[6] == 0 || y[6] == -2));
    coder_close(&c);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(means_are_right),
        cmocka_unit_test(natural_has_its_variance),
        cmocka_unit_test(natural_has_its_worst_case),
        cmocka_unit_test(fine_levels_have_a_sixth_of_a_step),
        cmocka_unit_test(terngrad_has_its_variance),
        cmocka_unit_test(terngrad_clips),
        cmocka_unit_test(ranks_are_independent),
        cmocka_unit_test(chunks_do_not_matter),
        cmocka_unit_test(packing_is_exact),
        cmocka_unit_test(extremes_keep_their_kind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
