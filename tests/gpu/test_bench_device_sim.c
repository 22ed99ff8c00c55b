/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_bench_device_sim.c - what the benchmark of codecs measures on a device.
 */
#include "tests/gpu/coder_rig.h"
#include "tools/bench_device.h"

enum { COUNT = 10000 };

static gp_device_figures
measure(const char *text, bool feedback)
{
    static float values[COUNT];
    gp_device_figures figures;
    gp_device_bench bench = {.values = values,
                             .count = COUNT,
                             .chunk = 4096,
                             .workers = 2,
                             .iterations = 3,
                             .warmup = 1,
                             .seed = 1,
                             .fresh_bytes = 65536,
                             .feedback = feedback,
                             .check = true};
    gp_pipeline *pipeline;

    for (size_t i = 0; i < COUNT; i++)
        values[i] = number_gauss(i);
    check(gp_device_open("cuda", &bench.device));
    check(gp_pipeline_parse(text, &pipeline));
    bench.pipeline = pipeline;
    check(gp_bench_device(&bench, &figures));
    assert_int_equal(figures.wrong, 0);
    gp_pipeline_destroy(pipeline);
    gp_device_close(bench.device);
    assert_int_equal(gp_sim_cuda_objects(), 0);
    return figures;
}

static void
all_jobs_are_timed(void **state)
{
    (void)state;
    for (int feedback = 0; feedback < 2; feedback++) {
        gp_device_figures f = measure("q8", feedback);

        assert_int_equal(f.payload, COUNT + 4 * (16 + 16 + 8));
        for (int job = 0; job < GP_DEVICE_JOBS; job++) {
            assert_non_null(f.samples[job]);
            for (int i = 0; i < 3; i++)
                assert_true(f.samples[job][i] > 0);
        }
        for (size_t i = 0; i < COUNT; i++)
            assert_true(fabsf(f.decoded[i] - number_gauss(i)) < 0.05f);
        gp_device_figures_destroy(&f);
    }
}

/* A selection is encoded only. */
static void
what_cannot_be_done_is_left_out(void **state)
{
    gp_device_figures f = measure("topk:0.01+q8", false);

    (void)state;
    assert_non_null(f.samples[GP_DEVICE_ENCODE]);
    assert_non_null(f.samples[GP_DEVICE_COPY]);
    assert_null(f.samples[GP_DEVICE_DECODE]);
    assert_null(f.decoded);
    gp_device_figures_destroy(&f);
}

static void
errors_are_passed_on(void **state)
{
    static float values[64];
    const gp_codec_shape shape = {64, 32};
    gp_device_figures figures;
    gp_device_bench bench = {.values = values,
                             .count = 64,
                             .chunk = 64,
                             .workers = 1,
                             .iterations = 1,
                             .fresh_bytes = 4096};
    gp_pipeline *pipeline;

    (void)state;
    check(gp_device_open("cuda", &bench.device));
    check(gp_pipeline_parse("thc", &pipeline));
    bench.pipeline = pipeline;
    assert_int_equal(gp_bench_device(&bench, &figures), GP_ERR_UNSUPPORTED);
    gp_pipeline_destroy(pipeline);
    check(gp_pipeline_open("powersgd", &shape, &pipeline));
    bench.pipeline = pipeline;
    assert_int_equal(gp_bench_device(&bench, &figures), GP_ERR_UNSUPPORTED);
    gp_pipeline_destroy(pipeline);
    gp_device_close(bench.device);
    assert_int_equal(gp_sim_cuda_objects(), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_jobs_are_timed),
        cmocka_unit_test(what_cannot_be_done_is_left_out),
        cmocka_unit_test(errors_are_passed_on),
    };

    choose_driver();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
