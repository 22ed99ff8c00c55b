/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_bench_device_sim.c - what the benchmark of codecs measures on a device.
 */
#include "tests/gpu/coder_rig.h"
#include "tools/bench_device.h"

enum { COUNT = 10000, COLUMNS = 80 };

/* Bytes of what an encoder on the host would keep. */
static uint64_t
remembered(const gp_pipeline *pipeline, bool feedback)
{
    gp_codec_memory *memory;
    uint64_t sum = 0;
    const char *name;
    size_t n, i = 0;
    float *values;

    check(gp_codec_memory_create(pipeline, 0, COUNT, feedback, &memory));
    while (memory &&
           (n = gp_codec_memory_field(memory, i++, &name, &values)) > 0)
        sum += n * sizeof(float);
    gp_codec_memory_destroy(memory);
    return sum;
}

static gp_device_figures
measure(const char *text, bool feedback)
{
    const gp_codec_shape shape = {COUNT, COLUMNS};
    static float values[COUNT];
    gp_device_figures figures;
    gp_device_bench bench = {.values = values,
                             .count = COUNT,
                             .chunk = 4096,
                             .workers = 4,
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
    check(gp_pipeline_open(text, &shape, &pipeline));
    bench.pipeline = pipeline;
    check(gp_bench_device(&bench, &figures));
    if (figures.wrong)
        fail_msg("%s: %zu bytes are wrong", text, (size_t)figures.wrong);
    assert_int_equal(figures.memory_bytes, remembered(pipeline, feedback));
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

/* What the host makes of the same numbers is its bytes, or near it; measure()
 * has seen that. More workers than copies take the same ones in turns. */
static void
tensors_that_are_looked_at_whole(void **state)
{
    static const char *const texts[] = {"topk:0.01,scope=tensor",
                                        "ef+topk:0.01,scope=tensor+q8",
                                        "threshold:2,scope=tensor+q8",
                                        "threshold:2,relative=1,scope=tensor",
                                        "dgc:0.01",
                                        "ef21+topk:0.05,scope=tensor+q8",
                                        "powersgd:rank=2",
                                        "powersgd:rank=3,factors=fp16",
                                        "momentum:clip=0.1+q8",
                                        "uq:scope=tensor",
                                        "momentum+powersgd:rank=2",
                                        "momentum+thc",
                                        "ef21+intsum",
                                        "thc"};

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(texts); i++)
        for (int feedback = 0; feedback < 2; feedback++) {
            gp_device_figures f = measure(texts[i], feedback);

            assert_true(f.payload > 0 && f.payload < 4 * COUNT);
            assert_non_null(f.samples[GP_DEVICE_ENCODE]);
            assert_non_null(f.samples[GP_DEVICE_COPY]);
            assert_int_equal(f.samples[GP_DEVICE_DECODE] != NULL,
                             f.decoded != NULL);
            gp_device_figures_destroy(&f);
        }
}

/* Workers agree on a number first. */
static void
what_is_proposed_is_agreed_on(void **state)
{
    (void)state;
    for (int feedback = 0; feedback < 2; feedback++) {
        gp_device_figures f = measure("intsum", feedback);

        for (int job = 0; job < GP_DEVICE_JOBS; job++)
            assert_non_null(f.samples[job]);
        for (size_t i = 0; i < COUNT; i++)
            assert_true(fabsf(f.decoded[i] - number_gauss(i)) < 0.2f);
        gp_device_figures_destroy(&f);
    }
}

static void
errors_are_passed_on(void **state)
{
    static float values[64];
    const gp_codec_shape shape = {64, 24};
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
    check(gp_pipeline_parse("fake+q8", &pipeline));
    bench.pipeline = pipeline;
    assert_int_equal(gp_bench_device(&bench, &figures), GP_ERR_UNSUPPORTED);
    gp_pipeline_destroy(pipeline);
    check(gp_pipeline_open("powersgd:rank=1", &shape, &pipeline));
    bench.pipeline = pipeline;
    assert_int_equal(gp_bench_device(&bench, &figures), GP_ERR_INVALID);
    assert_non_null(strstr(gp_last_error(), "no whole rows"));
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
        cmocka_unit_test(tensors_that_are_looked_at_whole),
        cmocka_unit_test(what_is_proposed_is_agreed_on),
        cmocka_unit_test(errors_are_passed_on),
    };

    choose_driver();
    if (!real_driver())
        gp_sim_cublas_install(true);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
