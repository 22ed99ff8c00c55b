/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_codec_uq.c - the mathematics of uq: rates near the entropy, the error of
 * each way of rounding, unbiasedness, strata, escapes, and what is sent raw.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <gradpush/transport.h>

#include "base/base.h"
#include "base/bytes.h"
#include "compress/codec_internal.h"
#include "compress/uq.h"
#include "compress/uq_tables.h"
#include "tests/unit/hex_file.h"
#include "tests/unit/numbers.h"

enum { MOST = 65536, ZEROS = 0, CODED = 1, RAW = 2, ALL_NAN = 3, HEAD = 9 };

static float x[MOST], y[MOST], total[MOST];
static uint8_t message[4 * MOST + HEAD];
static int8_t codes[MOST];
static const gp_codec_shape no_shape = {0, 0};

static void *
make(double c, gp_uq_round round, int scope)
{
    const double values[] = {c, round, scope};
    void *instance;

    assert_int_equal(gp_codec_uq.open(values, &no_shape, &instance), GP_OK);
    return instance;
}

static gp_codec_context
context_of(uint64_t step, uint32_t rank, uint32_t size)
{
    return (gp_codec_context){.seed = 5,
                              .tensor = 2,
                              .step = step,
                              .rank = rank,
                              .size = size,
                              .scratch = codes};
}

/* Encodes x and decodes to y; returns the length. */
static size_t
through(const void *instance, const gp_codec_context *context, size_t n)
{
    size_t length;

    assert_int_equal(gp_codec_uq.encode(instance, context, x, n, message,
                                        gp_codec_uq.bound(instance, n),
                                        &length),
                     GP_OK);
    assert_int_equal(
        gp_codec_uq.decode(instance, context, message, length, y, n), GP_OK);
    return length;
}

static double
norm(const float *v, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += (double)v[i] * v[i];
    return sum;
}

static double
nmse(const float *decoded, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++) {
        double d = (double)decoded[i] - x[i];

        sum += d * d;
    }
    return sum / norm(x, n);
}

static void
fill_gauss(size_t n, double scale)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(scale * (double)number_gauss(i));
}

/* Order-0 entropy of the codes, in bits per element. */
static double
entropy(double c, size_t n)
{
    double step = c * sqrt(norm(x, n) / (double)n), bits = 0;
    unsigned count[1024] = {0};

    for (size_t i = 0; i < n; i++) {
        long q = lrint(x[i] / step);

        assert_true(labs(q) < 512);
        count[q + 512]++;
    }
    for (size_t i = 0; i < 1024; i++)
        if (count[i])
            bits -= count[i] * log2(count[i] / (double)n);
    return bits / (double)n;
}

/* Rates and errors of a Gaussian: c, bits per element, NMSE. */
static void
gaussian_rates(void **state)
{
    static const double wanted[][3] = {
        {4, 0.31, 0.865},    {2, 1.24, 0.331},      {1, 2.10, 0.0833},
        {0.5, 3.06, 0.0208}, {0.25, 4.05, 0.00521}, {0.125, 5.05, 0.00130},
    };

    (void)state;
    fill_gauss(MOST, 1e-3);
    for (size_t i = 0; i < GP_COUNT_OF(wanted); i++) {
        void *uq = make(wanted[i][0], GP_UQ_NEAREST, 0);
        gp_codec_context context = context_of(0, 0, 1);
        double bits = 8.0 * (double)through(uq, &context, MOST) / MOST;

        assert_int_equal(message[0], CODED);
        /* 128 bytes of states are 0.016 bits per element here. */
        assert_true(bits < entropy(wanted[i][0], MOST) * 1.015 + 0.016);
        assert_true(fabs(bits - 0.016 - wanted[i][1]) < 0.03 * wanted[i][1]);
        assert_true(fabs(nmse(y, MOST) / wanted[i][2] - 1) < 0.02);
        gp_codec_uq.close(uq);
    }
}

/* Zero rows and layers of other scales cost less than one table for all. */
static void
sections_have_tables_of_their_own(void **state)
{
    void *uq = make(1, GP_UQ_NEAREST, 0);
    gp_codec_context context = context_of(0, 0, 1);
    double bits;

    (void)state;
    for (size_t i = 0; i < MOST; i++)
        x[i] =
            i / 4096 % 4 == 0 ? 0 : ldexpf(number_gauss(i), -(int)(i / 8192));
    bits = 8.0 * (double)through(uq, &context, MOST) / MOST;
    assert_true(bits < 0.75 * entropy(1, MOST));
    assert_int_equal(message[HEAD], 0);
    assert_int_equal(message[HEAD + 4], 0);
    gp_codec_uq.close(uq);
}

static void
errors_of_the_roundings(void **state)
{
    static const struct {
        gp_uq_round round;
        double twelfths; /* NMSE over c^2 / 12 */
    } wanted[] = {{GP_UQ_NEAREST, 1},
                  {GP_UQ_STOCHASTIC, 2},
                  {GP_UQ_DITHER, 1},
                  {GP_UQ_STRATIFIED, 2}};

    (void)state;
    fill_gauss(MOST, 7);
    for (size_t i = 0; i < GP_COUNT_OF(wanted); i++) {
        void *uq = make(0.25, wanted[i].round, 0);
        gp_codec_context context = context_of(3, 1, 4);
        double error;

        through(uq, &context, MOST);
        error = nmse(y, MOST) / (0.25 * 0.25 / 12);
        assert_true(fabs(error / wanted[i].twelfths - 1) < 0.015);
        gp_codec_uq.close(uq);
    }
}

/* Dither errs alike whatever is sent: here, all elements alike. */
static void
dither_does_not_care_for_the_input(void **state)
{
    void *uq = make(1, GP_UQ_DITHER, 0);
    gp_codec_context context = context_of(1, 0, 1);

    (void)state;
    for (size_t i = 0; i < MOST; i++)
        x[i] = -0.3f;
    through(uq, &context, MOST);
    assert_true(fabs(nmse(y, MOST) * 12 - 1) < 0.02);
    gp_codec_uq.close(uq);
}

static void
random_roundings_are_unbiased(void **state)
{
    enum { N = 1024, RUNS = 512 };

    (void)state;
    fill_gauss(N, 1);
    for (int round = GP_UQ_STOCHASTIC; round <= GP_UQ_STRATIFIED; round++) {
        void *uq = make(1, (gp_uq_round)round, 0);
        double error = 0;

        memset(total, 0, sizeof(total));
        for (uint64_t step = 0; step < RUNS; step++) {
            gp_codec_context context = context_of(step, 2, 3);

            through(uq, &context, N);
            error += nmse(y, N) / RUNS;
            for (size_t i = 0; i < N; i++)
                total[i] += y[i] / RUNS;
        }
        /* The aggregate test: the mean's error is a RUNS-th of one's. */
        assert_true(nmse(total, N) <
                    error / RUNS * (1 + 5 * sqrt(2.0 / N)) + 1e-9);
        gp_codec_uq.close(uq);
    }
}

/* NMSE of the mean of 8 workers with equal inputs, over that of one. */
static double
gain_of_eight(gp_uq_round round, bool alike)
{
    enum { N = 16384, W = 8 };
    void *uq = make(0.5, round, 0);
    double one = 0;

    fill_gauss(N, 1);
    memset(total, 0, sizeof(total));
    for (uint32_t rank = 0; rank < W; rank++) {
        gp_codec_context context = context_of(9, alike ? 0 : rank, W);

        through(uq, &context, N);
        one += nmse(y, N) / W;
        for (size_t i = 0; i < N; i++)
            total[i] += y[i] / W;
    }
    gp_codec_uq.close(uq);
    return nmse(total, N) / one;
}

static void
workers_draw_apart_or_in_strata(void **state)
{
    (void)state;
    assert_true(fabs(gain_of_eight(GP_UQ_STOCHASTIC, true) - 1) < 1e-5);
    assert_true(fabs(gain_of_eight(GP_UQ_STOCHASTIC, false) * 8 - 1) < 0.05);
    assert_true(fabs(gain_of_eight(GP_UQ_DITHER, false) * 8 - 1) < 0.05);
    assert_true(fabs(gain_of_eight(GP_UQ_STRATIFIED, false) * 64 - 1) < 0.1);
}

/* In tensor scope the cut into chunks changes no number. */
static void
chunks_of_a_tensor_agree(void **state)
{
    enum { N = 20000, CUT = 8192 };
    void *uq = make(1, GP_UQ_DITHER, 1);
    gp_codec_context context = context_of(4, 0, 1);
    double squares;
    size_t length;

    (void)state;
    assert_int_equal(gp_codec_uq.prepare_bytes(uq, N), sizeof(squares));
    fill_gauss(N, 1);
    for (size_t i = 0; i < CUT; i++)
        x[i] *= 0.01f;
    assert_int_equal(gp_codec_uq.prepare(uq, &context, x, N, &squares), GP_OK);
    context.prepared = &squares;
    through(uq, &context, N);
    context.offset = CUT;
    assert_int_equal(gp_codec_uq.encode(uq, &context, x + CUT, N - CUT, message,
                                        sizeof(message), &length),
                     GP_OK);
    assert_int_equal(
        gp_codec_uq.decode(uq, &context, message, length, total, N - CUT),
        GP_OK);
    assert_memory_equal(total, y + CUT, (N - CUT) * sizeof(float));
    gp_codec_uq.close(uq);
}

/* Elements far beyond the tables: each within half a step. */
static void
outliers_are_escaped(void **state)
{
    enum { N = 5000 };
    void *uq = make(0.0625, GP_UQ_NEAREST, 0);
    gp_codec_context context = context_of(0, 0, 1);
    double step;

    (void)state;
    fill_gauss(N, 1);
    for (size_t i = 0; i < N; i += 97)
        x[i] *= (float)(i + 3);
    step = 0.0625 * sqrt(norm(x, N) / N);
    through(uq, &context, N);
    assert_int_equal(message[0], CODED);
    assert_true(gp_get32(message + 5) > 0);
    for (size_t i = 0; i < N; i++)
        assert_true(fabs((double)y[i] - x[i]) <=
                    step / 2 * (1 + 1e-5) + fabs(x[i]) * 0x1p-22);
    gp_codec_uq.close(uq);
}

static void
sent_as(size_t n, uint8_t mode)
{
    void *uq = make(1, GP_UQ_NEAREST, 0);
    gp_codec_context context = context_of(0, 0, 1);
    size_t length = through(uq, &context, n);

    assert_int_equal(message[0], mode);
    if (mode == RAW) {
        assert_int_equal(length, 1 + 4 * n);
        assert_memory_equal(x, y, n * sizeof(float));
    } else {
        assert_int_equal(length, HEAD);
    }
    gp_codec_uq.close(uq);
}

static void
what_cannot_be_coded_is_sent_raw(void **state)
{
    gp_codec_context context = context_of(0, 0, 1);
    void *uq = make(1, GP_UQ_NEAREST, 0);

    (void)state;
    fill_gauss(300, 1e-40);
    sent_as(300, RAW);
    fill_gauss(300, 1e37);
    sent_as(300, RAW);
    fill_gauss(20, 1);
    sent_as(20, RAW);
    memset(x, 0, sizeof(x));
    sent_as(MOST, ZEROS);
    x[1] = -INFINITY;
    assert_int_equal(through(uq, &context, 300), HEAD);
    assert_int_equal(message[0], ALL_NAN);
    for (size_t i = 0; i < 300; i++)
        assert_true(isnan(y[i]));
    gp_codec_uq.close(uq);
}

/* Codes beyond 2^20 under another chunk's step. */
static void
codes_that_are_too_large_are_sent_raw(void **state)
{
    void *uq = make(1, GP_UQ_NEAREST, 1);
    gp_codec_context context = context_of(0, 0, 1);
    double squares = 1e-10;

    (void)state;
    fill_gauss(1000, 100);
    context.prepared = &squares;
    through(uq, &context, 1000);
    assert_int_equal(message[0], RAW);
    assert_memory_equal(x, y, 1000 * sizeof(float));
    squares = NAN; /* of another chunk */
    through(uq, &context, 1000);
    assert_int_equal(message[0], CODED);
    gp_codec_uq.close(uq);
}

/* Of what no encoder writes, here what the suite does not come upon. */
static void
other_forms_are_refused(void **state)
{
    enum { N = 100 };
    void *uq = make(1, GP_UQ_NEAREST, 0);
    gp_codec_context context = context_of(0, 0, 1);
    size_t length;

    (void)state;
    fill_gauss(N, 1);
    length = through(uq, &context, N);
    for (unsigned shape = 0; shape < 256; shape++) {
        uint8_t was = message[HEAD];

        if (shape == was)
            continue;
        message[HEAD] = (uint8_t)shape;
        assert_int_equal(
            gp_codec_uq.decode(uq, &context, message, length, y, N),
            GP_ERR_CORRUPT);
        message[HEAD] = was;
    }
    gp_put32(message + 1, 0x7f800000); /* the step */
    assert_int_equal(gp_codec_uq.decode(uq, &context, message, length, y, N),
                     GP_ERR_CORRUPT);
    gp_codec_uq.close(uq);
}

static void
tables_are_whole(void **state)
{
    unsigned before = GP_RANS_TOTAL;

    (void)state;
    assert_int_equal(gp_uq_begins[GP_UQ_SHAPES], GP_UQ_NUMBERS);
    for (unsigned s = 1; s <= GP_UQ_SHAPES; s++) {
        const uint16_t *f = gp_uq_frequencies + gp_uq_begins[s - 1];
        unsigned largest = gp_uq_largest(s), sum = f[0] + f[largest + 1];

        assert_in_range(largest, 1, 127);
        assert_true(f[0] <= before);
        before = f[0];
        for (unsigned m = 1; m <= largest; m++) {
            assert_true(f[m] > 0);
            sum += 2u * f[m];
        }
        assert_int_equal(sum, GP_RANS_TOTAL);
    }
}

/* tests/golden/uq_long.hex: 32 states, sections of all kinds. */
static void
long_messages_of_version_1(void **state)
{
    enum { N = 40001 };
    static const char *const texts[] = {"uq:2", "uq:0.25", "none+shuffle+ans"};
    uint8_t golden[8 * GP_COUNT_OF(texts)];
    gp_codec_context context = {.seed = 1};

    (void)state;
    assert_int_equal(
        read_hex_file("golden/uq_long.hex", golden, sizeof(golden)),
        sizeof(golden));
    for (size_t i = 0; i < N; i++)
        x[i] = i / 4096 == 2 ? 0 : ldexpf(number_gauss(i), (int)(i / 4096) - 5);
    for (size_t k = 0; k < GP_COUNT_OF(texts); k++) {
        gp_pipeline *p;
        void *workspace;
        size_t length;

        assert_int_equal(gp_pipeline_parse(texts[k], &p), GP_OK);
        workspace = gp_alloc_aligned(gp_pipeline_workspace(p, N));
        assert_non_null(workspace);
        assert_int_equal(gp_pipeline_encode(p, &context, NULL, x, N, message,
                                            sizeof(message), &length,
                                            workspace),
                         GP_OK);
        assert_int_equal(length, gp_get32(golden + 8 * k));
        assert_int_equal(gp_crc32c(0, message, length),
                         gp_get32(golden + 8 * k + 4));
        assert_int_equal(
            gp_pipeline_decode(p, &context, message, length, y, N, workspace),
            GP_OK);
        free(workspace);
        gp_pipeline_destroy(p);
    }
    assert_memory_equal(x, y, N * sizeof(float));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gaussian_rates),
        cmocka_unit_test(sections_have_tables_of_their_own),
        cmocka_unit_test(errors_of_the_roundings),
        cmocka_unit_test(dither_does_not_care_for_the_input),
        cmocka_unit_test(random_roundings_are_unbiased),
        cmocka_unit_test(workers_draw_apart_or_in_strata),
        cmocka_unit_test(chunks_of_a_tensor_agree),
        cmocka_unit_test(outliers_are_escaped),
        cmocka_unit_test(what_cannot_be_coded_is_sent_raw),
        cmocka_unit_test(codes_that_are_too_large_are_sent_raw),
        cmocka_unit_test(other_forms_are_refused),
        cmocka_unit_test(tables_are_whole),
        cmocka_unit_test(long_messages_of_version_1),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
