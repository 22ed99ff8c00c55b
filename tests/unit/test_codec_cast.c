/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_codec_cast.c - fp16 and bf16 against arithmetic in double, over all
 * 16-bit patterns and over the numbers next to every rounding border.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "compress/codec_internal.h"

/* significant bits, exponent of the least step, largest finite value */
typedef struct format {
    int significant, least;
    double largest;
    uint16_t infinity;
    void (*encode)(void *out, const float *in, size_t n);
    void (*decode)(float *out, const void *in, size_t n);
} format;

static const format formats[] = {
    {11, -24, 65504, 0x7c00, gp_fp32_to_fp16, gp_fp16_to_fp32},
    {8, -133, 0x1.fep127, 0x7f80, gp_fp32_to_bf16, gp_bf16_to_fp32},
};

enum { PATTERNS = 65536 };
static uint16_t halves[PATTERNS], back[PATTERNS];
static float values[PATTERNS], near[PATTERNS], rounded[PATTERNS];

static int
each_level(void (*check)(const format *))
{
    for (int level = 0; level < GP_SIMD_LEVELS; level++)
        if (gp_simd_set((gp_simd)level))
            for (size_t i = 0; i < GP_COUNT_OF(formats); i++)
                check(&formats[i]);
    return 0;
}

/* What the bits of a positive 16-bit pattern mean, by the definition. */
static double
value_of(const format *f, unsigned h)
{
    int mantissa = f->significant - 1;
    unsigned m = h & ((1u << mantissa) - 1), e = h >> mantissa;

    if (h > f->infinity)
        return NAN;
    if (h == f->infinity)
        return INFINITY;
    return e ? ldexp(m + (1u << mantissa), (int)e - 1 + f->least)
             : ldexp(m, f->least);
}

static void
check_patterns(const format *f)
{
    for (unsigned h = 0; h < PATTERNS; h++)
        halves[h] = (uint16_t)h;
    f->decode(values, halves, PATTERNS);
    f->encode(back, values, PATTERNS);
    for (unsigned h = 0; h < PATTERNS; h++) {
        double expected = value_of(f, h & 0x7fff);

        if (isnan(expected)) {
            assert_true(isnan(values[h]));
            assert_true((back[h] & 0x7fff) > f->infinity);
            continue;
        }
        assert_true(values[h] == (h & 0x8000 ? -expected : expected));
        assert_true(!signbit(values[h]) == !(h & 0x8000));
        assert_int_equal(back[h], h);
    }
}

static void
every_pattern_decodes_and_returns(void **state)
{
    (void)state;
    each_level(check_patterns);
}

/* Nearest representable value, ties to even, by exact arithmetic. */
static double
nearest(const format *f, double x)
{
    int exponent;
    double step, q;

    if (x == 0 || isinf(x))
        return x;
    frexp(x, &exponent);
    step = ldexp(1, exponent - f->significant > f->least
                        ? exponent - f->significant
                        : f->least);
    q = fabs(x) / step;
    q = floor(q) +
        (q - floor(q) > 0.5 || (q - floor(q) == 0.5 && fmod(floor(q), 2) == 1));
    return copysign(fmin(q * step, f->largest), x);
}

/* The middle between neighbours and the fp32 numbers beside it. */
static void
check_borders(const format *f)
{
    for (int side = -1; side <= 1; side++) {
        for (unsigned h = 0; h < PATTERNS; h++) {
            double a = value_of(f, h & 0x7fff);
            double b = value_of(f, (h & 0x7fff) + 1);
            float x = isfinite(b) ? (float)((a + b) / 2) : (float)a;

            if (side && isfinite(x))
                x = nextafterf(x, (float)side * INFINITY);
            near[h] = isnan(x) ? 1 : h & 0x8000 ? -x : x;
        }
        f->encode(halves, near, PATTERNS);
        f->decode(rounded, halves, PATTERNS);
        for (unsigned h = 0; h < PATTERNS; h++)
            if (rounded[h] != nearest(f, near[h]))
                fail_msg("%a rounds to %a, not %a", (double)near[h],
                         (double)rounded[h], nearest(f, near[h]));
    }
}

static void
rounds_to_nearest_even(void **state)
{
    (void)state;
    each_level(check_borders);
}

static void
check_large(const format *f)
{
    const float in[] = {70000,          -70000, 1e30f,    3.4028234e38f,
                        -3.4028234e38f, 65520,  INFINITY, -INFINITY};
    uint16_t h[GP_COUNT_OF(in)];
    float out[GP_COUNT_OF(in)];

    f->encode(h, in, GP_COUNT_OF(in));
    f->decode(out, h, GP_COUNT_OF(in));
    for (size_t i = 0; i < GP_COUNT_OF(in); i++) {
        assert_true(!isinf(out[i]) == !isinf(in[i]));
        assert_true(fabs((double)out[i]) <= f->largest || isinf(in[i]));
        assert_true((out[i] < 0) == (in[i] < 0));
    }
}

static void
finite_numbers_stay_finite(void **state)
{
    (void)state;
    each_level(check_large);
}

/* Signalling NaNs and those whose payload lies in the bits that go away. */
static void
check_nan(const format *f)
{
    const uint32_t patterns[] = {0x7f800001, 0xff800001, 0x7fffffff,
                                 0xffffffff, 0x7fc00000, 0x7f801000};

    for (size_t i = 0; i < GP_COUNT_OF(patterns); i++) {
        float in[16], out[16];
        uint16_t h[16];

        for (size_t j = 0; j < 16; j++)
            memcpy(&in[j], &patterns[i], sizeof(in[j]));
        f->encode(h, in, 16);
        f->decode(out, h, 16);
        for (size_t j = 0; j < 16; j++)
            assert_true(isnan(out[j]));
    }
}

static void
nan_stays_nan(void **state)
{
    (void)state;
    each_level(check_nan);
}

static void
folds_add_and_scale(void **state)
{
    (void)state;
    for (int level = 0; level < GP_SIMD_LEVELS; level++)
        for (size_t n = 0; n < 70; n++) {
            float acc[70], src[70];

            if (!gp_simd_set((gp_simd)level))
                continue;
            for (size_t i = 0; i < 70; i++) {
                acc[i] = (float)i * 0.1f;
                src[i] = 3 - (float)i * 0.7f;
            }
            gp_add_fp32(acc, src, n);
            gp_scale_fp32(src, 0.25f, n);
            for (size_t i = 0; i < 70; i++) {
                float a = (float)i * 0.1f, b = 3 - (float)i * 0.7f;

                assert_true(acc[i] == (i < n ? a + b : a));
                assert_true(src[i] == (i < n ? b * 0.25f : b));
            }
        }
}

static void
levels_have_names(void **state)
{
    (void)state;
    assert_true(gp_simd_set(GP_SIMD_SCALAR));
    assert_int_equal(gp_simd_get(), GP_SIMD_SCALAR);
    assert_string_equal(gp_simd_name(GP_SIMD_SCALAR), "scalar");
    assert_string_equal(gp_simd_name(GP_SIMD_AVX512), "avx512");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pattern_decodes_and_returns),
        cmocka_unit_test(rounds_to_nearest_even),
        cmocka_unit_test(finite_numbers_stay_finite),
        cmocka_unit_test(nan_stays_nan),
        cmocka_unit_test(folds_add_and_scale),
        cmocka_unit_test(levels_have_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
