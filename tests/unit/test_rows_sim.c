/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_rows_sim.c - rows over verbs on a simulated fabric: payloads through
 * registered buffers, in modes that wait and in one that does not; and with
 * queue pairs that break while a request is under way, after which it is sent
 * again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/base.h"
#include "job_harness.h"
#include "tests/sim/sim.h"

#define WORKERS 3u
#define ROWS    4000u
#define WIDTH   9u
#define BATCH   700u
#define STEPS   8u

typedef struct plan {
    const char *mode;
    gp_sim *breaks; /* NULL: all goes well */
} plan;

/* The one that sends next, of any process, with its request delivered or not.
 */
static void
break_one(const plan *p, uint32_t n)
{
    gp_sim_break how = {.after_wrs = n % 5, .delivered = n % 2};

    if (p->breaks)
        gp_sim_break_qp(p->breaks, &how);
}

/* Row r counts updates of the workers that push it: all of a rank's rows are
 * those r with r % WORKERS == rank, and row 0 is everybody's. */
static void
body(job *j, gp_worker *w, uint32_t rank)
{
    const plan *p = j->data;
    gp_rows_options o = GP_ROWS_INIT;
    float *values = calloc(BATCH * WIDTH, sizeof(*values));
    float *out = calloc(BATCH * WIDTH, sizeof(*out));
    uint64_t index[BATCH];
    gp_request *r;
    gp_rows *rows;

    job_require(values && out);
    o.name = "r";
    o.rows = ROWS;
    o.width = WIDTH;
    o.batch = BATCH;
    o.updater = "sgd:lr=1";
    o.mode = p->mode;
    job_check(gp_rows_register(w, &o, &rows));
    for (uint32_t i = 0; i < BATCH; i++) {
        index[i] = i == 0 ? 0 : (i * WORKERS + rank) % ROWS;
        for (uint32_t k = 0; k < WIDTH; k++)
            values[i * WIDTH + k] = -3;
    }
    for (uint32_t n = 1; n <= STEPS; n++) {
        size_t count = n % 3 == 0 ? BATCH : 1 + n * 40;

        if (rank == n % WORKERS)
            break_one(p, n);
        job_check(gp_push_pull_rows(rows, count, index, values, count, index,
                                    out, &r));
        job_check(gp_wait(&r, -1));
        if (rank > 0 && count > 1) /* the last row was pushed by it alone */
            job_require(out[(count - 1) * WIDTH] > 0);
    }
    job_check(gp_worker_rest(w));
    job_check(gp_barrier(w));
    job_check(gp_pull_rows(rows, 1, index, out, &r));
    job_check(gp_wait(&r, -1));
    job_require(out[0] == (p->mode ? 3.0f * STEPS * WORKERS : 3.0f * STEPS),
                "%g", (double)out[0]);
    free(values);
    free(out);
}

static void
rows_over_verbs(void **state)
{
    static const char *const modes[] = {NULL, "async", "ssp:1"};

    (void)state;
    for (uint32_t i = 0; i < 9; i++) {
        gp_sim_options fabric = {.seed = i, .ignore_buffers = true};
        gp_sim *sim = gp_sim_open(&fabric);
        plan p = {modes[i % 3], i < 3 ? NULL : sim};
        job j = {.transport = "verbs",
                 .workers = WORKERS,
                 .shards = 2,
                 .settings = {"mode", "sync", NULL},
                 .body = body,
                 .data = &p};

        gp_status status;

        assert_non_null(sim);
        gp_verbs_api_use(gp_sim_api(sim));
        status = run_job(&j);
        gp_verbs_api_use(NULL);
        assert_int_equal(gp_sim_finish(sim), 0);
        if (status != GP_OK)
            fail_msg("%s, seed %u: %s %s", p.mode ? p.mode : "sync", i,
                     j.server_message, j.message[0]);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(rows_over_verbs)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
