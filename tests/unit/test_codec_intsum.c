/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_codec_intsum.c - the mathematics of shared-step integers: sums without
 * decoding are exact in every order, and cannot overflow.
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

#define MOST 1100 /* elements: more than a strip, odd lanes */
#define ROOM (8 + 4 * MOST)

enum { BITS4, BITS8, BITS16 };
enum { NEAREST, STOCHASTIC };

static const gp_codec_ops *const ops = &gp_codec_intsum;

static const void *
instance_of(int bits, int rounding)
{
    double values[] = {bits, rounding};
    gp_codec_shape shape = {0, 0};
    void *instance = NULL;

    assert_int_equal(ops->open(values, &shape, &instance), GP_OK);
    return instance;
}

static const int levels_of[] = {7, 127, 32767};

typedef struct packet {
    size_t length;
    uint8_t bytes[ROOM];
} packet;

static gp_codec_context
context_of(uint64_t step, uint32_t rank, float shared)
{
    return (gp_codec_context){.seed = 5,
                              .tensor = 2,
                              .offset = 4096,
                              .step = step,
                              .rank = rank,
                              .size = 8,
                              .shared = shared};
}

static void
encode(const void *instance, uint32_t rank, float shared, const float *x,
       size_t n, packet *out)
{
    gp_codec_context context = context_of(3, rank, shared);

    assert_int_equal(ops->encode(instance, &context, x, n, out->bytes,
                                 ops->bound(instance, n), &out->length),
                     GP_OK);
}

static void
decode(const void *instance, const packet *p, float *out, size_t n)
{
    gp_codec_context context = context_of(3, 0, 0);

    assert_int_equal(
        ops->decode(instance, &context, p->bytes, p->length, out, n), GP_OK);
}

static gp_status
aggregate(const void *instance, const packet *const *in, size_t inputs,
          size_t n, packet *out)
{
    gp_codec_context context = context_of(3, GP_RANK_SHARD, 0);
    gp_codec_input input[GP_CODEC_FOLD];

    for (size_t i = 0; i < inputs; i++)
        input[i] = (gp_codec_input){&context, in[i]->bytes, in[i]->length};
    return ops->aggregate(instance, input, inputs, n, out->bytes,
                          ops->bound(instance, n), &out->length);
}

static void
gradient(float *x, size_t n, uint64_t which, float size)
{
    for (size_t i = 0; i < n; i++)
        x[i] = size * number_gauss(which * MOST + i);
}

static float
largest(const float *x, size_t n)
{
    float value;
    gp_codec_context context = context_of(0, 0, 0);

    assert_int_equal(ops->propose(NULL, &context, x, n, &value), GP_OK);
    return value;
}

static packet *
packets(size_t n)
{
    packet *p = calloc(n, sizeof(*p));

    assert_non_null(p);
    return p;
}

/* ---- sums ------------------------------------------------------------- */

static void
assert_same_bits(const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(&a[i], &b[i], 4) && !(isnan(a[i]) && isnan(b[i])))
            fail_msg("element %zu: %a is not %a", i, (double)a[i],
                     (double)b[i]);
}

/* Sequential sum of decoded messages, from `first` on and around. */
static void
sum_decoded(const void *instance, const packet *p, size_t workers, size_t first,
            float *sum, size_t n)
{
    float one[MOST];

    for (size_t w = 0; w < workers; w++) {
        decode(instance, &p[(first + w) % workers], one, n);
        for (size_t i = 0; i < n; i++)
            sum[i] = w ? sum[i] + one[i] : one[i];
    }
}

static void
check_sum(const void *instance, size_t workers, size_t n)
{
    packet *p = packets(workers + 3), *total = &p[workers];
    const packet *all[GP_CODEC_FOLD] = {NULL},
                 *halves[2] = {total + 1, total + 2};
    float x[MOST], shared = 0, sum[MOST], decoded[MOST];

    for (size_t w = 0; w < workers; w++) {
        gradient(x, n, w, w % 3 ? 1 : 0.1f);
        shared = fmaxf(shared, largest(x, n));
    }
    for (size_t w = 0; w < workers; w++) {
        gradient(x, n, w, w % 3 ? 1 : 0.1f);
        encode(instance, (uint32_t)w, shared, x, n, &p[w]);
        all[w] = &p[w];
    }
    assert_int_equal(aggregate(instance, all, workers, n, total), GP_OK);
    assert_int_equal(gp_get16(total->bytes + 4), workers);
    decode(instance, total, decoded, n);
    for (size_t first = 0; first < workers; first += workers / 2 + 1) {
        sum_decoded(instance, p, workers, first, sum, n);
        assert_same_bits(sum, decoded, n);
    }
    /* Sums of sums are the same bytes. */
    if (workers > 1) {
        size_t half = workers / 2;

        assert_int_equal(aggregate(instance, all, half, n, &p[workers + 1]),
                         GP_OK);
        assert_int_equal(
            aggregate(instance, all + half, workers - half, n, &p[workers + 2]),
            GP_OK);
        assert_int_equal(aggregate(instance, halves, 2, n, &p[0]), GP_OK);
        assert_int_equal(p[0].length, total->length);
        assert_memory_equal(p[0].bytes, total->bytes, total->length);
    }
    free(p);
}

static void
sums_of_messages_decode_to_sums(void **state)
{
    static const size_t workers[] = {1, 2, 3, 8, 18, 19, 64};
    static const size_t counts[] = {0, 1, 31, 1023, MOST};

    (void)state;
    for (int bits = 0; bits < 3; bits++)
        for (int rounding = 0; rounding < 2; rounding++)
            for (size_t i = 0; i < GP_COUNT_OF(workers); i++)
                for (size_t j = 0; j < GP_COUNT_OF(counts); j++)
                    check_sum(instance_of(bits, rounding), workers[i],
                              counts[j]);
}

/* All codes are as large as can be, 256 times; one more is refused. */
static void
sums_cannot_overflow(void **state)
{
    static const unsigned widths[] = {16, 16, 32};
    enum { N = 37 };

    (void)state;
    for (int bits = 0; bits < 3; bits++)
        for (int sign = -1; sign <= 1; sign += 2) {
            const void *instance = instance_of(bits, NEAREST);
            packet *p = packets(4);
            const packet *in[64];
            float x[N], y[N];

            for (size_t i = 0; i < N; i++)
                x[i] = (float)sign * 0.37f;
            encode(instance, 0, 0.37f, x, N, &p[0]);
            decode(instance, &p[0], y, N);
            for (size_t i = 0; i < 64; i++)
                in[i] = &p[0];
            assert_int_equal(aggregate(instance, in, 64, N, &p[1]), GP_OK);
            for (size_t i = 0; i < 4; i++)
                in[i] = &p[1];
            assert_int_equal(aggregate(instance, in, 4, N, &p[2]), GP_OK);
            assert_int_equal(gp_get16(p[2].bytes + 4), 256);
            assert_int_equal(p[2].bytes[6], widths[bits]);
            assert_true(p[2].length <= ops->bound(instance, N));
            decode(instance, &p[2], x, N);
            for (size_t i = 0; i < N; i++)
                assert_true(x[i] == 256 * y[i]);
            in[0] = &p[2];
            in[1] = &p[0];
            assert_int_equal(aggregate(instance, in, 2, N, &p[3]),
                             GP_ERR_TOO_LARGE);
            free(p);
        }
}

static void
check_fold(const void *instance, const packet *p, size_t inputs, size_t n)
{
    gp_codec_context context = context_of(3, GP_RANK_SHARD, 0);
    gp_codec_input input[8];
    float sum[MOST], folded[MOST];

    for (size_t i = 0; i < inputs; i++)
        input[i] = (gp_codec_input){&context, p[i].bytes, p[i].length};
    for (int add = 0; add < 2; add++) {
        gradient(folded, n, 99, 3);
        memcpy(sum, folded, n * sizeof(*sum));
        for (size_t i = 0; i < inputs; i++)
            if (i || add)
                assert_int_equal(ops->decode_add(instance, &context, p[i].bytes,
                                                 p[i].length, sum, n),
                                 GP_OK);
            else
                decode(instance, &p[i], sum, n);
        assert_int_equal(ops->fold(instance, input, inputs, add, folded, n),
                         GP_OK);
        assert_same_bits(sum, folded, n);
    }
}

/* Of one step, of different steps, of huge steps whose sums overflow on the
 * way, and with NaN. */
static void
folds_equal_adding_in_turn(void **state)
{
    static const float sizes[][4] = {{1, 1, 1, 1},
                                     {1, 2, 0.3f, 1e-3f},
                                     {3e37f, 3e37f, 3e37f, 3e37f},
                                     {1, NAN, 1, 1}};

    (void)state;
    for (int bits = 0; bits < 3; bits++)
        for (size_t s = 0; s < GP_COUNT_OF(sizes); s++) {
            const void *instance = instance_of(bits, NEAREST);
            packet *p = packets(4);
            float x[MOST];

            for (size_t w = 0; w < 4; w++) {
                gradient(x, MOST, w / 2, s == 2 ? 1 : sizes[s][w]);
                for (size_t i = 0; i < MOST && s == 2; i++)
                    x[i] *= w == 3 ? -sizes[s][w] : sizes[s][w];
                encode(instance, (uint32_t)w, sizes[s][w] * 8, x, MOST, &p[w]);
            }
            for (size_t inputs = 1; inputs <= 4; inputs++)
                check_fold(instance, p, inputs, MOST);
            free(p);
        }
}

static void
messages_of_different_steps_do_not_add(void **state)
{
    const void *instance = instance_of(BITS8, NEAREST);
    packet *p = packets(3);
    const packet *in[] = {&p[0], &p[1]};
    float x[40];

    (void)state;
    gradient(x, 40, 0, 1);
    encode(instance, 0, 4, x, 40, &p[0]);
    encode(instance, 1, 5, x, 40, &p[1]);
    assert_int_equal(aggregate(instance, in, 2, 40, &p[2]), GP_ERR_CORRUPT);
    /* But what is NaN makes the sum NaN. */
    x[7] = INFINITY;
    encode(instance, 1, 5, x, 40, &p[1]);
    assert_int_equal(aggregate(instance, in, 2, 40, &p[2]), GP_OK);
    decode(instance, &p[2], x, 40);
    for (size_t i = 0; i < 40; i++)
        assert_true(isnan(x[i]));
    free(p);
}

/* ---- steps ------------------------------------------------------------ */

static void
check_step(int bits, float shared)
{
    static const uint32_t below[] = {0xffff, 0xffff, 0x7fffff};
    const void *instance = instance_of(bits, NEAREST);
    packet *p = packets(1);
    float x[2] = {shared, -shared / 3}, y[2], step;
    uint32_t b;

    encode(instance, 0, shared, x, 2, p);
    b = gp_get32(p->bytes);
    memcpy(&step, &b, 4);
    decode(instance, p, y, 2);
    assert_int_equal(b & below[bits], 0);
    assert_true(isfinite(y[0]) && isfinite(y[1]));
    if (step == 0) {
        assert_true(shared < 0x1p-126f * (float)levels_of[bits]);
    } else {
        float most = (float)levels_of[bits] * step;
        float slack = bits == BITS16 ? 2 : 1 + 0x1p-7f;

        assert_true(isfinite(most) && step >= 0x1p-126f);
        assert_true(most >= shared || shared > FLT_MAX * (1 - 0x1p-6f));
        assert_true((double)most <= (double)shared * slack * (1 + 1e-6));
        for (size_t i = 0; i < 2; i++)
            assert_true(fabs((double)x[i] - (double)y[i]) <=
                            0.5 * step * (1 + 1e-6) ||
                        shared > FLT_MAX * (1 - 0x1p-6f));
    }
    free(p);
}

static void
steps_are_short_and_large_enough(void **state)
{
    static const float extremes[] = {FLT_MAX, 3.39e38f, 3e38f,     1e38f,
                                     1e-40f,  1e-37f,   0x1p-119f, 0x1p-126f,
                                     1,       127,      7,         32767};

    (void)state;
    for (int bits = 0; bits < 3; bits++) {
        for (size_t i = 0; i < GP_COUNT_OF(extremes); i++)
            check_step(bits, extremes[i]);
        for (uint64_t i = 0; i < 5000; i++) {
            uint32_t b = (uint32_t)(number_bits(i) >> 33) % 0x7f800000u;
            float shared;

            memcpy(&shared, &b, 4);
            check_step(bits, shared);
        }
    }
}

/* ---- errors ----------------------------------------------------------- */

/* NMSE of the decoded vector, with a share of the error over many steps. */
static double
nmse_of(const void *instance, const float *x, size_t n, float shared)
{
    packet *p = packets(1);
    float y[MOST];
    double error = 0, norm = 0;

    encode(instance, 0, shared, x, n, p);
    decode(instance, p, y, n);
    for (size_t i = 0; i < n; i++) {
        double d = (double)y[i] - x[i];

        error += d * d;
        norm += (double)x[i] * x[i];
    }
    free(p);
    return error / norm;
}

/* Normal, with heavy tails, and one large element among small ones. */
static void
errors_keep_their_bound(void **state)
{
    (void)state;
    for (int bits = 0; bits < 3; bits++)
        for (int power = 1; power <= 9; power += 2)
            for (size_t n = 1; n <= MOST; n += 157) {
                const void *instance = instance_of(bits, NEAREST);
                float x[MOST];

                for (size_t i = 0; i < n; i++)
                    x[i] = powf(number_gauss(i), (float)power);
                assert_true(nmse_of(instance, x, n, 0) <=
                            ops->error_bound(instance, n));
                for (size_t i = 1; i < n; i++)
                    x[i] = 1e-4f * number_gauss(i);
                assert_true(nmse_of(instance, x, n, 0) <=
                            ops->error_bound(instance, n));
            }
}

/* Half a step of all but the largest element: the bound is met to 1 %. */
static void
the_bound_is_tight(void **state)
{
    const void *instance = instance_of(BITS8, NEAREST);
    float x[MOST], step = 1 + 0x1p-7f;
    double bound = ops->error_bound(instance, MOST), nmse;

    (void)state;
    for (size_t i = 0; i < MOST; i++)
        x[i] = 0.4999f * step;
    x[0] = 127.001f; /* a step of 1 would not do */
    nmse = nmse_of(instance, x, MOST, 0);
    assert_true(nmse <= bound && nmse > 0.98 * bound);
}

/* Rounding at random is right in the mean, and twice as wrong as nearest. */
static void
stochastic_rounding_is_unbiased(void **state)
{
    enum { N = 1024, STEPS = 1024 };
    static double mean[N];
    const void *instance = instance_of(BITS8, STOCHASTIC);
    float x[N], y[N], shared;
    double step, off = 0, spread = 0, nearest, random = 0, norm = 0;
    packet *p = packets(1);

    (void)state;
    gradient(x, N, 0, 1);
    shared = largest(x, N);
    for (uint64_t s = 0; s < STEPS; s++) {
        gp_codec_context context = context_of(s, 1, shared);

        assert_int_equal(
            ops->encode(instance, &context, x, N, p->bytes, ROOM, &p->length),
            GP_OK);
        decode(instance, p, y, N);
        for (size_t i = 0; i < N; i++) {
            double d = (double)y[i] - x[i];

            mean[i] += d / STEPS;
            random += d * d / STEPS;
        }
    }
    step = shared / 127 * (1 + 0x1p-7);
    for (size_t i = 0; i < N; i++) {
        off += mean[i] * mean[i];
        norm += (double)x[i] * x[i];
        assert_true(fabs(mean[i]) < 5.5 * step / 2 / sqrt(STEPS));
    }
    spread = random / STEPS;
    assert_true(off < spread * (1 + 5 * sqrt(2.0 / N)));
    nearest = nmse_of(instance_of(BITS8, NEAREST), x, N, shared) * norm;
    assert_true(random / nearest > 1.85 && random / nearest < 2.15);
    assert_true(random / norm <= ops->error_bound(instance, N));
    free(p);
}

/* ---- encoders ---------------------------------------------------------- */

static void
workers_round_independently(void **state)
{
    const void *instance = instance_of(BITS8, STOCHASTIC);
    packet *p = packets(3);
    float x[MOST];

    (void)state;
    gradient(x, MOST, 0, 1);
    encode(instance, 0, 4, x, MOST, &p[0]);
    encode(instance, 1, 4, x, MOST, &p[1]);
    encode(instance, 0, 4, x, MOST, &p[2]);
    assert_memory_not_equal(p[0].bytes, p[1].bytes, p[0].length);
    assert_memory_equal(p[0].bytes, p[2].bytes, p[0].length);
    free(p);
}

/* More than was agreed is limited, never wrapped. */
static void
values_beyond_what_was_agreed_are_limited(void **state)
{
    (void)state;
    for (int bits = 0; bits < 3; bits++)
        for (int rounding = 0; rounding < 2; rounding++) {
            const void *instance = instance_of(bits, rounding);
            float x[] = {3e38f, -3e38f, 2, -1.5f, 0.5f}, y[5];
            packet *p = packets(1);

            encode(instance, 0, 1, x, 5, p);
            decode(instance, p, y, 5);
            assert_true(y[0] >= 1 && y[0] <= 2);
            assert_true(y[1] == -y[0] && y[2] == y[0] && y[3] >= -1.5f);
            free(p);
        }
}

static void
sets_of_instructions_agree(void **state)
{
    gp_simd before = gp_simd_get();

    (void)state;
    for (int bits = 0; bits < 3; bits++)
        for (int rounding = 0; rounding < 2; rounding++) {
            const void *instance = instance_of(bits, rounding);
            packet *p = packets(2);
            float x[MOST], y[2][MOST];

            gradient(x, MOST, 0, 1);
            for (int level = 0; level < GP_SIMD_LEVELS; level++) {
                int to = level > 0;

                if (!gp_simd_set((gp_simd)level))
                    continue;
                encode(instance, 0, 3.9f, x, MOST, &p[to]);
                decode(instance, &p[to], y[to], MOST);
                if (!to)
                    continue;
                assert_memory_equal(p[0].bytes, p[1].bytes, p[0].length);
                assert_memory_equal(y[0], y[1], sizeof(y[0]));
            }
            free(p);
        }
    gp_simd_set(before);
}

/* ---- hostile bytes ------------------------------------------------------ */

static gp_status
decode_status(const void *instance, const packet *p, size_t n)
{
    gp_codec_context context = context_of(0, 0, 0);
    float y[MOST];

    return ops->decode(instance, &context, p->bytes, p->length, y, n);
}

static void
check_refused(const void *instance, const packet *p, size_t at, uint8_t value)
{
    packet *bad = packets(1);

    *bad = *p;
    bad->bytes[at] = value;
    if (decode_status(instance, bad, 9) != GP_ERR_CORRUPT)
        fail_msg("byte %zu may be %u", at, value);
    free(bad);
}

static void
what_no_encoder_writes_is_refused(void **state)
{
    const void *four = instance_of(BITS4, NEAREST);
    const void *eight = instance_of(BITS8, NEAREST);
    packet *p = packets(1);
    float x[9] = {1, -1, 1, -1, 1, -1, 1, -1, 1};

    (void)state;
    encode(eight, 0, 1, x, 9, p);
    assert_int_equal(decode_status(eight, p, 9), GP_OK);
    check_refused(eight, p, 0, 1);     /* a long step */
    check_refused(eight, p, 3, 0xbc);  /* a negative one */
    check_refused(eight, p, 3, 0x7e);  /* one whose 127-fold is Inf */
    check_refused(eight, p, 4, 0);     /* nobody's */
    check_refused(eight, p, 4, 2);     /* two workers' in 8 bits */
    check_refused(eight, p, 5, 1);     /* 257 workers' */
    check_refused(eight, p, 6, 16);    /* lanes that do not fit */
    check_refused(eight, p, 7, 1);     /* what is to be 0 */
    check_refused(eight, p, 16, 0x80); /* -128 */
    p->length++;
    assert_int_equal(decode_status(eight, p, 9), GP_ERR_CORRUPT);
    encode(four, 0, 1, x, 9, p);
    check_refused(four, p, 12, 0x17); /* bits behind the last lane */
    check_refused(four, p, 8, 0x87);  /* -8 */
    memset(x, 0, sizeof(x));
    encode(four, 0, 0, x, 9, p);
    check_refused(four, p, 8, 1); /* a code without a step */
    free(p);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_of_messages_decode_to_sums),
        cmocka_unit_test(sums_cannot_overflow),
        cmocka_unit_test(folds_equal_adding_in_turn),
        cmocka_unit_test(messages_of_different_steps_do_not_add),
        cmocka_unit_test(steps_are_short_and_large_enough),
        cmocka_unit_test(errors_keep_their_bound),
        cmocka_unit_test(the_bound_is_tight),
        cmocka_unit_test(stochastic_rounding_is_unbiased),
        cmocka_unit_test(workers_round_independently),
        cmocka_unit_test(values_beyond_what_was_agreed_are_limited),
        cmocka_unit_test(sets_of_instructions_agree),
        cmocka_unit_test(what_no_encoder_writes_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
