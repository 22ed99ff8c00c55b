/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_job_nonfinite.c - a gradient that is not finite shows in the result of
 * its step, on all workers, and in none after it: also where shards add up all
 * steps.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <math.h>

#include "job_harness.h"

#define COUNT   2000u
#define STEPS   6u
#define BAD     2u /* step */
#define WORKERS 2u

static bool
is_bad(uint32_t step, uint32_t i)
{
    return step == BAD && (i == 17 || i == 1500);
}

static float
gradient(uint32_t rank, uint32_t step, uint32_t i)
{
    if (rank == 1 && is_bad(step, i))
        return i == 17 ? NAN : INFINITY;
    return (float)(i % 13) + (float)rank;
}

static void
check_result(const char *codec, uint32_t step, const float *data)
{
    for (uint32_t i = 0; i < COUNT; i++)
        if (is_bad(step, i))
            job_require(!isfinite(data[i]), "%s: %u is %g", codec, i,
                        (double)data[i]);
        else if (step != BAD)
            job_require(isfinite(data[i]), "%s: %u in step %u", codec, i, step);
}

static void
body(job *j, gp_worker *w, uint32_t rank)
{
    gp_tensor_options o = GP_TENSOR_INIT;
    float *data = calloc(COUNT, sizeof(float));
    gp_tensor *t;

    job_require(data != NULL);
    o.name = "t";
    o.count = COUNT;
    o.codec = j->data;
    o.updater = "mean";
    job_check(gp_tensor_register(w, &o, &t));
    for (uint32_t s = 0; s < STEPS; s++) {
        gp_request *request;

        for (uint32_t i = 0; i < COUNT; i++)
            data[i] = gradient(rank, s, i);
        job_check(gp_push_pull(t, data, data, &request));
        job_check(gp_wait(&request, -1));
        check_result(o.codec, s, data);
    }
    free(data);
}

static void
it_shows_once(void **state)
{
    static char *const texts[] = {
        "ef21+none", "ef21+q8", "ef21+topk:0.1,scope=tensor", "ef+q8", "none"};

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        job j = {.transport = "loop",
                 .workers = WORKERS,
                 .shards = 1,
                 .body = body,
                 .data = texts[i]};

        if (run_job(&j) != GP_OK)
            fail_msg("%s: %s", texts[i], j.server_message);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(it_shows_once)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
