/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_rows_kept.c - rows in checkpoints, and rows with workers that come and
 * go: what was there goes on, bit for bit, on whatever shards.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"
#include "job_harness.h"

#define ROWS  3000u
#define WIDTH 6u
#define BATCH 300u
#define SAVED 4u /* steps before the checkpoint, and all */
#define STEPS 9u

/* A file in memory. */
typedef struct file {
    uint8_t *bytes;
    size_t size, at;
} file;

static gp_status
to_file(void *user, const void *bytes, size_t size)
{
    file *f = user;
    uint8_t *grown = realloc(f->bytes, f->size + size);

    job_require(grown != NULL);
    memcpy(grown + f->size, bytes, size);
    f->bytes = grown;
    f->size += size;
    return GP_OK;
}

static gp_status
from_file(void *user, void *bytes, size_t size)
{
    file *f = user;

    if (size > f->size - f->at)
        return GP_ERR_SYSTEM;
    memcpy(bytes, f->bytes + f->at, size);
    f->at += size;
    return GP_OK;
}

typedef struct plan {
    const char *updater;
    uint64_t first, last; /* steps that this job makes */
    file *load, *save;
    uint32_t width;
    float *final;
    gp_status expected; /* of loading */
    const char *says;
} plan;

static gp_rows *
register_rows(gp_worker *w, const plan *p)
{
    gp_rows_options o = GP_ROWS_INIT;
    gp_rows *rows;

    o.name = "r";
    o.rows = ROWS;
    o.width = p->width ? p->width : WIDTH;
    o.batch = BATCH;
    o.init = GP_ROWS_UNIFORM;
    o.scale = 1;
    o.updater = p->updater;
    o.first_step = p->first;
    job_check(gp_rows_register(w, &o, &rows));
    return rows;
}

static void
push_step(gp_rows *rows, uint32_t rank, uint64_t step)
{
    static _Thread_local float values[BATCH * WIDTH];
    uint64_t index[BATCH];
    uint32_t state = 1 + rank + (uint32_t)step * 10;
    gp_request *r;

    for (uint32_t i = 0; i < BATCH; i++) {
        index[i] = job_random(&state) % ROWS;
        for (uint32_t k = 0; k < WIDTH; k++)
            values[i * WIDTH + k] = job_value(rank, 0, step, i * WIDTH + k);
    }
    job_check(gp_push_rows(rows, BATCH, index, values, &r));
    job_check(gp_wait(&r, -1));
}

static void
pull_all(gp_rows *rows, float *out)
{
    uint64_t index[BATCH];

    for (uint64_t at = 0; at < ROWS; at += BATCH) {
        gp_request *r;

        for (uint64_t i = 0; i < BATCH; i++)
            index[i] = at + i;
        job_check(gp_pull_rows(rows, BATCH, index, out + at * WIDTH, &r));
        job_check(gp_wait(&r, -1));
    }
}

static void
body(job *j, gp_worker *w, uint32_t rank)
{
    plan *p = j->data;
    gp_rows *rows = register_rows(w, p);

    if (p->load && rank == 0)
        job_check(gp_rows_load(rows, from_file, p->load));
    job_check(gp_barrier(w));
    for (uint64_t step = p->first; step < p->last; step++) {
        if (step == SAVED && p->save) {
            gp_request *r; /* all of the step before is in */

            job_check(gp_pull_rows(rows, 0, NULL, NULL, &r));
            job_check(gp_wait(&r, -1));
            job_check(gp_barrier(w));
            if (rank == 0)
                job_check(gp_rows_save(rows, to_file, p->save));
            job_check(gp_barrier(w));
        }
        push_step(rows, rank, step);
    }
    if (rank == 0)
        pull_all(rows, p->final);
}

static void
run_plan(plan *p, const char *transport, uint32_t shards)
{
    job j = {.transport = transport,
             .workers = 2,
             .shards = shards,
             .colocated = shards == 0,
             .body = body,
             .data = p};

    assert_int_equal(run_job(&j), GP_OK);
}

static void
a_job_goes_on_with_other_shards(void **state)
{
    static const char *const updaters[] = {
        "adam:lr=0.01,cosine=20", "sgd:lr=0.1,momentum=0.9,dampening=0.5",
        "sgd:lr=0.1"};
    static float straight[ROWS * WIDTH], on[ROWS * WIDTH];
    static const uint32_t shards[] = {1, 3, 0};

    (void)state;
    for (size_t k = 0; k < GP_COUNT_OF(updaters); k++) {
        file f = {0};
        plan first = {.updater = updaters[k],
                      .last = STEPS,
                      .save = &f,
                      .final = straight};
        plan second = {.updater = updaters[k],
                       .first = SAVED,
                       .last = STEPS,
                       .load = &f,
                       .final = on};

        run_plan(&first, k % 2 ? "tcp" : "loop", 2);
        memset(on, 0, sizeof(on));
        run_plan(&second, k % 2 ? "loop" : "tcp", shards[k]);
        assert_memory_equal(on, straight, sizeof(on));
        assert_int_equal(f.at, f.size);
        free(f.bytes);
    }
}

/* ---- what cannot be loaded ---------------------------------------------- */

static void
bad_body(job *j, gp_worker *w, uint32_t rank)
{
    plan *p = j->data;
    gp_rows *rows = register_rows(w, p);

    if (rank == 0) {
        job_require(gp_rows_load(rows, from_file, p->load) == p->expected, "%s",
                    gp_last_error());
        job_require(strstr(gp_last_error(), p->says) != NULL, "%s",
                    gp_last_error());
    } else {
        job_require(gp_rows_load(rows, from_file, p->load) == GP_ERR_STATE);
        job_require(gp_rows_save(rows, to_file, p->load) == GP_ERR_STATE);
        job_require(strstr(gp_last_error(), "worker 0 alone") != NULL);
    }
    job_check(gp_barrier(w));
    push_step(rows, rank, 0); /* the job can do without */
    job_require(gp_rows_load(rows, from_file, p->load) == GP_ERR_STATE);
    job_require(strstr(gp_last_error(), "before the first push") != NULL);
}

static void
expect_bad(const file *good, size_t size, size_t at, uint8_t flip,
           const char *updater, gp_status expected, const char *says)
{
    file f = {malloc(size + 1), size, 0};
    plan p = {
        .updater = updater, .load = &f, .expected = expected, .says = says};
    job j = {.transport = "loop",
             .workers = 2,
             .shards = 2,
             .body = bad_body,
             .data = &p};

    assert_non_null(f.bytes);
    memcpy(f.bytes, good->bytes, size);
    f.bytes[at] ^= flip;
    assert_int_equal(run_job(&j), GP_OK);
    free(f.bytes);
}

static void
what_is_damaged_is_said(void **state)
{
    static float final[ROWS * WIDTH];
    static const char adam[] = "adam:lr=0.01";
    file f = {0};
    plan p = {.updater = adam, .last = SAVED + 1, .save = &f, .final = final};

    (void)state;
    run_plan(&p, "loop", 1);
    assert_true(f.size > 1000);
    expect_bad(&f, f.size, 0, 1, adam, GP_ERR_CORRUPT, "these are no rows");
    expect_bad(&f, f.size, 16, 1, adam, GP_ERR_MISMATCH, "of 7 with 2");
    expect_bad(&f, f.size, 8, 1, adam, GP_ERR_MISMATCH, "saved are 3001 rows");
    expect_bad(&f, f.size, 24, 1, adam, GP_ERR_MISMATCH, "other names");
    expect_bad(&f, f.size, 0, 0, "sgd:lr=1", GP_ERR_MISMATCH, "6 with 2");
    expect_bad(&f, f.size, 95, 1, adam, GP_ERR_CORRUPT, "damaged rows");
    expect_bad(&f, f.size, 200, 4, adam, GP_ERR_CORRUPT, "damaged rows");
    expect_bad(&f, f.size, f.size - 1, 1, adam, GP_ERR_CORRUPT, "damaged");
    expect_bad(&f, f.size, f.size - 12, 1, adam, GP_ERR_CORRUPT, "damaged");
    expect_bad(&f, f.size - 1, 0, 0, adam, GP_ERR_SYSTEM, "cannot be read");
    expect_bad(&f, 1000, 0, 0, adam, GP_ERR_SYSTEM, "cannot be read");
    expect_bad(&f, 30, 0, 0, adam, GP_ERR_SYSTEM, "cannot be read");
    free(f.bytes);
}

/* ---- workers that come and go ------------------------------------------- */

/* The last one leaves after 3 steps; the mean is then of those who are left. */
static void
leaving_body(job *j, gp_worker *w, uint32_t rank)
{
    plan p = {.updater = "sgd:lr=1"};
    gp_rows *rows = register_rows(w, &p);
    const uint64_t index = 7;
    float one[WIDTH], out[WIDTH], begin[WIDTH];
    gp_request *r;
    gp_members m;

    for (uint32_t i = 0; i < WIDTH; i++)
        one[i] = (float)(rank + 1);
    do {
        job_check(gp_worker_members(w, &m));
    } while (m.count != j->workers);
    job_check(gp_pull_rows(rows, 1, &index, begin, &r));
    job_check(gp_wait(&r, -1));
    for (uint32_t step = 0; step < 6; step++) {
        double moved;

        if (step == 3 && rank + 1 == j->workers)
            return;
        if (step >= 3)
            do {
                job_check(gp_worker_members(w, &m));
            } while (m.count == j->workers);
        job_check(gp_push_pull_rows(rows, 1, &index, one, 1, &index, out, &r));
        job_check(gp_wait(&r, -1));
        job_require(gp_rows_version(rows) == step + 1);
        /* Means of 1, 2, 3 and then of 1, 2. */
        moved = step < 3 ? 2.0 * (step + 1) : 6 + 1.5 * (step - 2);
        for (uint32_t i = 0; i < WIDTH; i++)
            job_require((double)(begin[i] - out[i]) - moved < 1e-5 &&
                            (double)(begin[i] - out[i]) - moved > -1e-5,
                        "step %u: %g", step, (double)(begin[i] - out[i]));
    }
}

static void
workers_may_leave(void **state)
{
    static const char *const transports[] = {"loop", "tcp"};

    (void)state;
    for (int k = 0; k < 2; k++) {
        job j = {.transport = transports[k],
                 .workers = 3,
                 .shards = 2,
                 .settings = {"elastic", "on", NULL},
                 .body = leaving_body};

        assert_int_equal(run_job(&j), GP_OK);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_goes_on_with_other_shards),
        cmocka_unit_test(what_is_damaged_is_said),
        cmocka_unit_test(workers_may_leave),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
