/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_majority.c - what is pulled as votes is the sign of the sum of signs, 1
 * for a tie and NaN where somebody saw one, whatever the updater divides by
 * and whichever alternatives the workers chose.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>

#include "job_harness.h"
#include "worker/worker_int.h"

#define COUNT 5003u
#define STEPS 4u

typedef struct ballot {
    const char *push, *pull, *updater;
    bool mixed; /* rank 0 takes the other alternative in odd steps */
} ballot;

/* 1 or -1, so that a dense push is the same vote. */
static float
vote_of(uint32_t rank, uint32_t step, uint32_t i)
{
    return (i >> rank ^ i / 7 * (step + 1)) & 1 ? -1.0f : 1.0f;
}

static float
majority(uint32_t workers, uint32_t step, uint32_t i)
{
    float sum = 0;

    for (uint32_t r = 0; r < workers; r++)
        sum += vote_of(r, step, i);
    return sum < 0 ? -1.0f : 1.0f;
}

static gp_tensor *
open_tensor(const ballot *b, gp_worker *w)
{
    gp_tensor_options o = GP_TENSOR_INIT;
    gp_tensor *t;

    o.name = "t";
    o.count = COUNT;
    o.codec = b->push;
    o.pull_codec = b->pull;
    o.updater = b->updater;
    job_check(gp_tensor_register(w, &o, &t));
    return t;
}

static void
push_pull(gp_tensor *t, float *data)
{
    gp_request *request;

    job_check(gp_push_pull(t, data, data, &request));
    job_check(gp_wait(&request, -1));
}

static void
body(job *j, gp_worker *w, uint32_t rank)
{
    const ballot *b = j->data;
    gp_tensor *t = open_tensor(b, w);
    float *data = calloc(COUNT, sizeof(float));

    job_require(data != NULL);
    for (uint32_t s = 0; s < STEPS; s++) {
        for (uint32_t i = 0; i < COUNT; i++)
            data[i] = vote_of(rank, s, i);
        if (b->mixed)
            gp_tensor_prefer(t, rank == 0 ? s % 2 : 0);
        push_pull(t, data);
        for (uint32_t i = 0; i < COUNT; i++)
            job_require(data[i] == majority(j->workers, s, i),
                        "%s step %u element %u: %g", b->push, s, i,
                        (double)data[i]);
    }
    for (uint32_t i = 0; i < COUNT; i++)
        data[i] = rank == 0 && i == 3 ? NAN : 1;
    push_pull(t, data);
    job_require(isnan(data[3]), "%g", (double)data[3]);
    free(data);
}

static void
check(ballot b)
{
    for (uint32_t workers = 2; workers <= 4; workers++)
        for (uint32_t shards = 0; shards < 2; shards++) {
            job j = {.transport = "loop",
                     .workers = workers,
                     .shards = shards,
                     .colocated = shards == 0,
                     .settings = {"chunk_bytes", "1M"},
                     .body = body,
                     .data = &b};

            if (run_job(&j) != GP_OK)
                fail_msg("%u workers: %s", workers, j.server_message);
        }
}

static void
votes_are_signs(void **state)
{
    (void)state;
    check((ballot){"vote", "vote", "sum", false});
    check((ballot){"vote", "vote", "mean", false});
    check((ballot){"signsgd", "vote", "mean", false});
}

static void
alternatives_do_not_matter(void **state)
{
    (void)state;
    check((ballot){"vote|none", "vote", "mean", true});
    check((ballot){"none", "vote", "mean", false});
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(votes_are_signs),
        cmocka_unit_test(alternatives_do_not_matter),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
