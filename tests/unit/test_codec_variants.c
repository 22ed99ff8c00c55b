/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_codec_variants.c - the names that other frameworks use give the numbers
 * that those frameworks would, written down here as they state them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "compress/codec_internal.h"
#include "compress/families.h"
#include "tests/unit/codec_math.h"

#define N 1000

static float x[N], y[N];

static void
trip(const char *text)
{
    coder c = coder_open(text, N);

    fill_normal(x, N, 6);
    x[5] = 0;
    x[6] = -0.0f;
    coder_trip(&c, x, y, N);
    coder_close(&c);
}

static void
is_about(size_t i, double want)
{
    assert_true(fabs((double)y[i] - want) <= 1e-6 * fabs(want));
}

static void
every_name_is_a_pipeline(void **state)
{
    (void)state;
    for (const gp_codec_alias *a = gp_codec_aliases; a->name; a++) {
        gp_pipeline *p;

        if (gp_pipeline_parse(a->name, &p))
            fail_msg("%s: %s", a->name, gp_last_error());
        gp_pipeline_destroy(p);
    }
}

/* scale = |x|_2 / sqrt(n); x >= 0 gives +scale. */
static void
onebit_of_deepspeed(void **state)
{
    double scale;

    (void)state;
    trip("onebit:deepspeed");
    scale = sqrt(gp_sum_squares(x, N) / N);
    for (size_t i = 0; i < N; i++)
        is_about(i, x[i] >= 0 ? scale : -scale);
}

static void
onebit_of_byteps(void **state)
{
    double scale;

    (void)state;
    trip("onebit:byteps");
    scale = gp_sum_magnitudes(x, N) / N;
    for (size_t i = 0; i < N; i++)
        is_about(i, x[i] < 0 ? -scale : scale);
    trip("onebit:byteps-unscaled");
    for (size_t i = 0; i < N; i++)
        is_about(i, x[i] < 0 ? -1 : 1);
}

static void
onebit_of_grace(void **state)
{
    double sum[2] = {0}, count[2] = {0};

    (void)state;
    trip("onebit:grace");
    for (size_t i = 0; i < N; i++) {
        sum[x[i] < 0] += (double)x[i];
        count[x[i] < 0]++;
    }
    for (size_t i = 0; i < N; i++)
        is_about(i, sum[x[i] < 0] / count[x[i] < 0]);
}

/* residual += x; 1 where it exceeds the threshold, else -1; residual -= that.
 */
static void
onebit_of_mxnet(void **state)
{
    coder c = coder_open("onebit:mxnet", N);
    gp_codec_memory *memory;
    float residual[N] = {0};

    (void)state;
    assert_int_equal(gp_codec_memory_create(c.pipeline, 0, N, 1, &memory),
                     GP_OK);
    for (uint64_t step = 0; step < 20; step++) {
        fill_normal(x, N, step);
        x[1] = step ? 0 : 0.5f;
        assert_int_equal(gp_pipeline_encode(c.pipeline, &c.context, memory, x,
                                            N, c.bytes, c.capacity, &c.length,
                                            c.workspace),
                         GP_OK);
        assert_int_equal(gp_pipeline_decode(c.pipeline, &c.context, c.bytes,
                                            c.length, y, N, c.workspace),
                         GP_OK);
        for (size_t i = 0; i < N; i++) {
            float sent;

            residual[i] += x[i];
            sent = residual[i] > 0.5f ? 1.0f : -1.0f;
            residual[i] -= sent;
            assert_true(y[i] == sent);
        }
    }
    gp_codec_memory_destroy(memory);
    coder_close(&c);
}

/* Levels divide the L2 norm of a bucket of 128 by 127. */
static void
qsgd_of_grace(void **state)
{
    (void)state;
    trip("qsgd:grace");
    for (size_t at = 0; at < N; at += 128) {
        size_t n = N - at < 128 ? N - at : 128;
        double norm = sqrt(gp_sum_squares(x + at, n));

        for (size_t i = at; i < at + n; i++) {
            double level = (double)y[i] / norm * 127;

            assert_true(fabs(level - round(level)) < 1e-4);
            assert_true(fabs((double)y[i] - (double)x[i]) < norm / 127);
        }
    }
}

/* Clipped at 2.5 standard deviations; what is left is 0 or the maximum. */
static void
terngrad_of_grace(void **state)
{
    double mean = 0, variance = 0;

    (void)state;
    trip("terngrad:grace");
    for (size_t i = 0; i < N; i++)
        mean += (double)x[i] / N;
    for (size_t i = 0; i < N; i++)
        variance += ((double)x[i] - mean) * ((double)x[i] - mean) / N;
    for (size_t i = 0; i < N; i++)
        if (y[i] != 0)
            is_about(i, (x[i] < 0 ? -2.5 : 2.5) * sqrt(variance));
}

static void
arguments_reach_the_codec(void **state)
{
    gp_pipeline *p;

    (void)state;
    assert_int_equal(gp_pipeline_parse("qsgd:byteps,levels=7", &p), GP_OK);
    assert_string_equal(gp_pipeline_name(p), "qsgd:levels=7,norm=max,block=0");
    gp_pipeline_destroy(p);
    assert_int_equal(gp_pipeline_parse("sign:threshold=1", &p), GP_ERR_CONFIG);
    assert_non_null(strstr(gp_last_error(), "scale=unit"));
}

static bool
is_fed_back(const char *text)
{
    gp_pipeline *p;
    uint32_t needs;

    assert_int_equal(gp_pipeline_parse(text, &p), GP_OK);
    needs = gp_pipeline_needs(p);
    gp_pipeline_destroy(p);
    return needs & GP_PIPELINE_FEEDBACK;
}

/* What an encoder leaves out is kept where that converges. */
static void
feedback_is_for_what_contracts(void **state)
{
    static const char *const yes[] = {"sign",
                                      "sign:scale=l2",
                                      "onebit",
                                      "drive:scale=mse",
                                      "eden:bits=2,scale=mse",
                                      "topk:0.1+vote"};
    static const char *const no[] = {
        "vote",           "signsgd",  "sign:scale=unit", "qsgd",  "natural",
        "natural-dither", "terngrad", "terngrad:clip=0", "drive", "eden"};

    (void)state;
    for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++)
        assert_true(is_fed_back(yes[i]));
    for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++)
        assert_false(is_fed_back(no[i]));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_name_is_a_pipeline),
        cmocka_unit_test(onebit_of_deepspeed),
        cmocka_unit_test(onebit_of_byteps),
        cmocka_unit_test(onebit_of_grace),
        cmocka_unit_test(onebit_of_mxnet),
        cmocka_unit_test(qsgd_of_grace),
        cmocka_unit_test(terngrad_of_grace),
        cmocka_unit_test(arguments_reach_the_codec),
        cmocka_unit_test(feedback_is_for_what_contracts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
