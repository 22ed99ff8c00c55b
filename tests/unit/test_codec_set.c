/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_codec_set.c - which pipelines pushes and pulls of a tensor may have
 * together with an updater and a number of workers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "shard/codec_set.h"

static gp_pipeline *
open_pipeline(const char *text)
{
    gp_pipeline *p;

    if (gp_pipeline_parse(text, &p) != GP_OK)
        fail_msg("%s", gp_last_error());
    return p;
}

static gp_updater
open_updater(const char *text)
{
    gp_updater u;

    assert_int_equal(gp_updater_parse(text, &u), GP_OK);
    return u;
}

static gp_status
check_pull(const char *text, const char *updater)
{
    gp_updater u = open_updater(updater);
    gp_pipeline *p = open_pipeline(text);
    gp_status status = gp_codec_check_pull(p, &u);

    gp_pipeline_destroy(p);
    return status;
}

static void
parameters_survive_their_pull(void **state)
{
    static const char *const fine[] = {
        "none",       "fp16",        "bf16",         "bf16:round=stochastic",
        "q8",         "q8:block=64", "none+shuffle", "fp16+shuffle:width=2",
        "q8+shuffle", "zeros+q8",    "fake+q8"};
    static const char *const bad[] = {"sign",        "q4",       "vote",
                                      "fake+sign",   "terngrad", "natural",
                                      "sign+shuffle"};

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(fine); i++)
        if (check_pull(fine[i], "sgd:lr=0.1") != GP_OK)
            fail_msg("%s", gp_last_error());
    for (size_t i = 0; i < GP_COUNT_OF(bad); i++) {
        if (check_pull(bad[i], "sgd:lr=0.1") != GP_ERR_CONFIG)
            fail_msg("%s is accepted", bad[i]);
        assert_non_null(strstr(gp_last_error(), "returns parameters"));
        assert_int_equal(check_pull(bad[i], "mean"), GP_OK);
    }
}

typedef struct sides {
    gp_codec_set push;
    gp_pipeline *pull;
    gp_updater updater;
} sides;

static sides
open_sides(const char *push, const char *pull)
{
    const gp_codec_shape shape = {5000, 0};
    sides s = {.updater = open_updater("mean"), .pull = open_pipeline(pull)};

    assert_int_equal(gp_codec_set_open(push, "none", &shape, &s.push), GP_OK);
    return s;
}

static void
close_sides(sides *s)
{
    gp_codec_set_close(&s->push);
    gp_pipeline_destroy(s->pull);
}

static int
summed(const sides *s, bool feedback, uint32_t workers)
{
    return gp_codec_set_summed(&s->push, s->pull, &s->updater, feedback,
                               workers);
}

static void
sums_hold_all_workers(void **state)
{
    sides s = open_sides("none|vote:workers=3", "vote:workers=3");

    (void)state;
    assert_int_equal(summed(&s, false, 3), 1);
    assert_int_equal(gp_codec_set_check_sum(&s.push, 1, 3), GP_OK);
    assert_int_equal(gp_codec_set_check_sum(&s.push, -1, 4), GP_OK);
    assert_int_equal(gp_codec_set_check_sum(&s.push, 1, 4), GP_ERR_CONFIG);
    assert_non_null(strstr(gp_last_error(), "3 workers, and the job has 4"));
    close_sides(&s);
    s = open_sides("intsum", "intsum");
    assert_int_equal(summed(&s, true, 64), 0);
    assert_int_equal(summed(&s, true, 65), -1);
    assert_int_equal(gp_codec_set_check_sum(&s.push, 0, 64), GP_OK);
    close_sides(&s);
}

/* The residual of a pull is of the sum itself. */
static void
corrected_majorities_are_not_summed(void **state)
{
    sides s = open_sides("vote", "vote");

    (void)state;
    assert_int_equal(summed(&s, false, 3), 0);
    assert_int_equal(summed(&s, true, 3), -1);
    close_sides(&s);
    s = open_sides("ef+vote", "ef+vote");
    assert_int_equal(summed(&s, false, 3), -1);
    close_sides(&s);
}

static void
feedback_does_not_grow(void **state)
{
    static const char *const grows[] = {"randk:ratio=0.1,scale=unbiased",
                                        "randk:ratio=0.1,scale=unbiased+qsgd"};
    gp_pipeline *p = open_pipeline("q8");

    (void)state;
    assert_int_equal(gp_codec_check_feedback(p, true), GP_OK);
    gp_pipeline_destroy(p);
    for (size_t i = 0; i < GP_COUNT_OF(grows); i++) {
        p = open_pipeline(grows[i]);
        assert_int_equal(gp_codec_check_feedback(p, false), GP_OK);
        assert_int_equal(gp_codec_check_feedback(p, true), GP_ERR_CONFIG);
        gp_pipeline_destroy(p);
    }
    assert_int_equal(gp_pipeline_parse("ef21+vote", &p), GP_ERR_CONFIG);
    assert_non_null(strstr(gp_last_error(), "never arrives with vote"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parameters_survive_their_pull),
        cmocka_unit_test(sums_hold_all_workers),
        cmocka_unit_test(corrected_majorities_are_not_summed),
        cmocka_unit_test(feedback_does_not_grow),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
