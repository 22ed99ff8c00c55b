/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_fold.c - sums are those of the plain loop, bit for bit.
 *
 * The expected values are formed one by one through volatile variables, so the
 * compiler can neither fuse nor reorder them. Of a NaN only its being one is
 * compared: which of two operands' payloads survives is the processor's choice.
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
#include "shard/fold.h"

#define LONGEST 1031

static const float scales[] = {1.0f, 0.5f, 1.0f / 3.0f, 0.25f, 1.0f / 7.0f};

/* Numbers of all magnitudes, zeros of both signs, subnormals, infinities. */
static float
number(uint32_t seed, size_t i)
{
    static const float special[] = {0.0f,     -0.0f,         1e-42f, -1e-45f,
                                    INFINITY, -INFINITY,     NAN,    3.4e38f,
                                    -3.4e38f, 1.1754944e-38f};
    uint32_t x = (uint32_t)i * 2654435761u + seed * 40503u + 12345u;
    float v;

    x ^= x >> 16;
    x *= 0x45d9f3bu;
    x ^= x >> 13;
    if (x % 11 == 0)
        return special[x / 11 % GP_COUNT_OF(special)];
    v = (float)(int32_t)x / 2147483648.0f;
    return ldexpf(v, (int)(x >> 5 & 31) - 16);
}

static float
add_once(float a, float b, float scale)
{
    volatile float sum = a + b;
    volatile float result = sum * scale;

    return result;
}

static void
assert_same(float got, float want, size_t i)
{
    if (isnan(want) ? isnan(got) : memcmp(&got, &want, sizeof(got)) == 0)
        return;
    fail_msg("element %zu is %a, not %a", i, (double)got, (double)want);
}

/* Copies of the numbers that begin `shift` bytes behind an aligned address. */
typedef struct source {
    void *memory;
    const float *at;
} source;

static source
make_source(uint32_t seed, size_t count, size_t shift)
{
    source s = {malloc(count * sizeof(float) + shift + 1), NULL};
    uint8_t *bytes = s.memory;

    assert_non_null(bytes);
    for (size_t i = 0; i < count; i++) {
        float v = number(seed, i);

        memcpy(bytes + shift + i * sizeof(v), &v, sizeof(v));
    }
    s.at = (const void *)(bytes + shift);
    return s;
}

static void
check_add(size_t count, size_t shift_a, size_t shift_b, float scale)
{
    source a = make_source(1, count, shift_a);
    source b = make_source(2, count, shift_b);
    float *out = malloc((count + 1) * sizeof(float));

    assert_non_null(out);
    out[count] = 42.0f;
    gp_fold_add(out, a.at, b.at, scale, count);
    for (size_t i = 0; i < count; i++)
        assert_same(out[i], add_once(number(1, i), number(2, i), scale), i);
    assert_true(out[count] == 42.0f);
    free(a.memory);
    free(b.memory);
    free(out);
}

/* Bit for bit, of what is not a number as well. */
static void
check_copy(size_t count, size_t shift)
{
    source a = make_source(3, count, shift);
    float *out = malloc((count + 1) * sizeof(float));

    assert_non_null(out);
    out[count] = 42.0f;
    gp_fold_copy(out, a.at, count);
    assert_memory_equal(out, (const uint8_t *)a.memory + shift,
                        count * sizeof(float));
    assert_true(out[count] == 42.0f);
    free(a.memory);
    free(out);
}

static void
copies(void **state)
{
    (void)state;
    for (size_t count = 1; count < 70; count++)
        for (size_t shift = 0; shift < 5; shift++)
            check_copy(count, shift);
    check_copy(LONGEST, 1);
}

static void
sums_of_every_length(void **state)
{
    (void)state;
    for (size_t count = 0; count < 70; count++)
        for (size_t s = 0; s < GP_COUNT_OF(scales); s++)
            check_add(count, 0, 0, scales[s]);
    check_add(LONGEST, 0, 0, 1.0f);
}

static void
sums_of_payloads_at_any_address(void **state)
{
    (void)state;
    for (size_t a = 0; a < 4; a++)
        for (size_t b = 0; b < 33; b++)
            check_add(37, a, b, scales[b % GP_COUNT_OF(scales)]);
    check_add(LONGEST, 3, 1, 0.5f);
}

/* The usual call: the sum so far is both operand and result. */
static void
sums_in_place(void **state)
{
    source b = make_source(2, LONGEST, 1);
    float out[LONGEST];

    (void)state;
    for (size_t s = 0; s < GP_COUNT_OF(scales); s++) {
        for (size_t i = 0; i < LONGEST; i++)
            out[i] = number(1, i);
        gp_fold_add(out, out, b.at, scales[s], LONGEST);
        for (size_t i = 0; i < LONGEST; i++)
            assert_same(out[i], add_once(number(1, i), number(2, i), scales[s]),
                        i);
    }
    free(b.memory);
}

static void
products(void **state)
{
    (void)state;
    for (size_t count = 0; count < 70; count++)
        for (size_t shift = 0; shift < 5; shift++) {
            source a = make_source(3, count, shift);
            float scale = scales[shift];
            float *out = malloc((count + 1) * sizeof(float));

            assert_non_null(out);
            out[count] = 42.0f;
            gp_fold_scale(out, a.at, scale, count);
            for (size_t i = 0; i < count; i++) {
                volatile float want = number(3, i) * scale;

                assert_same(out[i], want, i);
            }
            assert_true(out[count] == 42.0f);
            gp_fold_scale(out, out, scale, count); /* in place */
            for (size_t i = 0; i < count; i++) {
                volatile float once = number(3, i) * scale;
                volatile float want = once * scale;

                assert_same(out[i], want, i);
            }
            free(a.memory);
            free(out);
        }
}

static void
not_a_number_stays(void **state)
{
    float a[19], b[19], out[19];

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(a); i++) {
        a[i] = i % 3 == 0 ? NAN : i % 3 == 1 ? INFINITY : 1.0f;
        b[i] = i % 3 == 1 ? -INFINITY : 2.0f;
    }
    gp_fold_add(out, a, b, 0.5f, GP_COUNT_OF(a));
    for (size_t i = 0; i < GP_COUNT_OF(a); i++)
        assert_true(i % 3 == 2 ? out[i] == 1.5f : isnan(out[i]));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies),
        cmocka_unit_test(sums_of_every_length),
        cmocka_unit_test(sums_of_payloads_at_any_address),
        cmocka_unit_test(sums_in_place),
        cmocka_unit_test(products),
        cmocka_unit_test(not_a_number_stays),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
