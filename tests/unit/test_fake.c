/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_fake.c - a job whose pushes are decoded before they leave gives the same
 * bits as one whose pushes are decoded where they arrive.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gradpush/transport.h>

#include "base/base.h"
#include "job_harness.h"

enum { COUNT = 50000, STEPS = 6, WORKERS = 3 };

static const char *text; /* of the pushes */
static uint32_t crc[WORKERS];
static uint64_t pushed;

static void
body(job *j, gp_worker *w, uint32_t rank)
{
    gp_tensor_options o = GP_TENSOR_INIT;
    float *data = malloc(COUNT * sizeof(float));
    gp_stats stats;
    gp_tensor *t;

    (void)j;
    o.name = "t";
    o.count = COUNT;
    o.columns = 250;
    o.codec = text;
    o.pull_codec = "none";
    o.updater = "mean";
    job_check(gp_tensor_register(w, &o, &t));
    crc[rank] = 0;
    for (uint64_t step = 0; step < STEPS; step++) {
        gp_request *r;

        for (uint64_t i = 0; i < COUNT; i++)
            data[i] = job_value(rank, 0, step, i);
        job_check(gp_push_pull(t, data, data, &r));
        job_check(gp_wait(&r, -1));
        crc[rank] = gp_crc32c(crc[rank], data, COUNT * sizeof(float));
    }
    gp_worker_stats(w, &stats);
    if (rank == 0)
        pushed = stats.bytes_pushed;
    free(data);
}

static void
run(const char *codec)
{
    job j = {
        .transport = "loop", .workers = WORKERS, .shards = 2, .body = body};

    text = codec;
    assert_int_equal(run_job(&j), GP_OK);
    for (uint32_t r = 1; r < WORKERS; r++)
        assert_int_equal(crc[r], crc[0]);
}

static void
same_bits_as_the_wire(void **state)
{
    static const char *const codecs[] = {
        "q8",
        "q4:round=stochastic+shuffle",
        "ef+topk:0.01,scope=tensor+q8+rice",
        "momentum+topk:0.02+none",
        "ef21+topk:0.05",
        "zeros+sign",
        "randk:0.1,scale=unbiased",
        "eden:2",
        "uq:1",
        "powersgd:2",
        "intsum:8",
        "thc:4",
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(codecs); i++) {
        char fake[100];
        uint32_t real;
        uint64_t bytes;

        run(codecs[i]);
        real = crc[0];
        bytes = pushed;
        snprintf(fake, sizeof(fake), "fake+%s", codecs[i]);
        run(fake);
        if (crc[0] != real)
            fail_msg("%s gives other results than %s", fake, codecs[i]);
        assert_true(pushed > bytes);
    }
}

static void
fake_comes_first(void **state)
{
    gp_pipeline *p;

    (void)state;
    assert_int_equal(gp_pipeline_parse("q8+fake", &p), GP_ERR_CONFIG);
    assert_non_null(strstr(gp_last_error(), "before all other stages"));
    assert_int_equal(gp_pipeline_parse("fake+fake", &p), GP_ERR_CONFIG);
    assert_int_equal(gp_pipeline_parse("fake", &p), GP_OK);
    assert_int_equal(gp_pipeline_bound(p, 10), 48);
    gp_pipeline_destroy(p);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_bits_as_the_wire),
        cmocka_unit_test(fake_comes_first),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
