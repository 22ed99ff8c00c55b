/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_rows.c - whole jobs with tensors of rows, against a model of them that
 * has all rows in one array.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "job_harness.h"
#include "shard/row_init.h"
#include "shard/updater.h"

#define ROWS  500u
#define WIDTH 5u
#define BATCH 64u
#define STEPS 12u

typedef struct setup {
    const char *updater, *mode, *codec;
    uint64_t first_step;
    float *final; /* ROWS x WIDTH of rank 0 */
} setup;

static gp_rows *
register_rows(gp_worker *w, const setup *s, uint64_t rows)
{
    gp_rows_options o = GP_ROWS_INIT;
    gp_rows *out;

    o.name = "r";
    o.rows = rows;
    o.width = WIDTH;
    o.batch = BATCH;
    o.init = GP_ROWS_NORMAL;
    o.seed = 77;
    o.scale = 0.5f;
    o.updater = s->updater;
    o.mode = s->mode;
    o.codec = o.pull_codec = s->codec;
    o.first_step = s->first_step;
    job_check(gp_rows_register(w, &o, &out));
    return out;
}

/* What a worker pushes in a step: fewer rows than a batch, some of them twice.
 * Returns how many. */
static size_t
make_push(uint32_t rank, uint64_t step, uint64_t *index, float *values)
{
    uint32_t state = 1 + rank * 1000 + (uint32_t)step;
    size_t count = job_random(&state) % (BATCH + 1);

    for (size_t i = 0; i < count; i++) {
        index[i] = i % 7 == 6 ? index[i - 3] : job_random(&state) % ROWS;
        for (uint32_t k = 0; k < WIDTH; k++)
            values[i * WIDTH + k] = job_value(rank, 1, step, i * WIDTH + k);
    }
    return count;
}

static void
pull_all(gp_rows *rows, float *out)
{
    uint64_t index[BATCH];

    for (uint64_t at = 0; at < ROWS; at += BATCH) {
        size_t count = GP_MIN(ROWS - at, BATCH);
        gp_request *r;

        for (size_t i = 0; i < count; i++)
            index[i] = at + count - 1 - i;
        job_check(gp_pull_rows(rows, count, index, out, &r));
        job_check(gp_wait(&r, -1));
        for (size_t i = 0; i < count / 2; i++) /* back into order */
            for (uint32_t k = 0; k < WIDTH; k++) {
                float x = out[i * WIDTH + k];

                out[i * WIDTH + k] = out[(count - 1 - i) * WIDTH + k];
                out[(count - 1 - i) * WIDTH + k] = x;
            }
        out += count * WIDTH;
    }
}

/* ---- the model ---------------------------------------------------------- */

typedef struct model {
    gp_updater updater;
    float value[ROWS][WIDTH], array[4][ROWS][WIDTH], sum[ROWS][WIDTH];
    float part[ROWS][WIDTH];
    uint64_t updates[ROWS];
    bool touched[ROWS], mine[ROWS];
} model;

static model *
model_new(const char *updater)
{
    const gp_row_spec spec = {ROWS, WIDTH, BATCH, GP_ROWS_NORMAL, 77, 0.5f};
    model *m = calloc(1, sizeof(*m));

    assert_non_null(m);
    assert_int_equal(gp_updater_parse(updater, &m->updater), GP_OK);
    assert_int_equal(gp_updater_open(&m->updater), GP_OK);
    for (uint64_t i = 0; i < ROWS; i++)
        gp_row_initialize(&spec, i, m->value[i]);
    return m;
}

static void
model_free(model *m)
{
    gp_updater_close(&m->updater);
    free(m);
}

/* A worker's push: its own duplicates first, then what others pushed before. */
static void
model_add(model *m, uint32_t rank, uint64_t step)
{
    uint64_t index[BATCH];
    float values[BATCH * WIDTH];
    size_t count = make_push(rank, step, index, values);

    memset(m->mine, 0, sizeof(m->mine));
    for (size_t i = 0; i < count; i++) {
        float *part = m->part[index[i]];

        for (uint32_t k = 0; k < WIDTH; k++)
            part[k] = m->mine[index[i]] ? part[k] + values[i * WIDTH + k]
                                        : values[i * WIDTH + k];
        m->mine[index[i]] = true;
    }
    for (uint32_t i = 0; i < ROWS; i++) {
        for (uint32_t k = 0; m->mine[i] && k < WIDTH; k++)
            m->sum[i][k] =
                m->touched[i] ? m->sum[i][k] + m->part[i][k] : m->part[i][k];
        m->touched[i] |= m->mine[i];
    }
}

static void
model_update(model *m, uint64_t version, float scale)
{
    for (uint32_t i = 0; i < ROWS; i++) {
        gp_updater_step step = {.number = m->updates[i] + 1,
                                .lr = gp_updater_lr(&m->updater, version),
                                .values = m->updater.value};
        float *arrays[4];

        if (!m->touched[i])
            continue;
        m->updates[i]++;
        for (int a = 0; a < 4; a++)
            arrays[a] = m->updater.arrays >> a & 1 ? m->array[a][i] : NULL;
        for (uint32_t k = 0; k < WIDTH; k++)
            m->sum[i][k] *= scale;
        m->updater.ops->apply(m->updater.instance, &step, m->sum[i],
                              m->value[i], arrays, WIDTH);
        m->touched[i] = false;
    }
}

/* ---- jobs --------------------------------------------------------------- */

static void
train_body(job *j, gp_worker *w, uint32_t rank)
{
    setup *s = j->data;
    gp_rows *rows = register_rows(w, s, ROWS);
    uint64_t index[BATCH], wanted[BATCH];
    float values[BATCH * WIDTH], out[BATCH * WIDTH];
    float *all = malloc(ROWS * WIDTH * sizeof(*all));
    gp_request *r;

    job_require(all != NULL);
    for (uint64_t step = 0; step < STEPS; step++) {
        size_t count = make_push(rank, step, index, values), n;
        uint32_t state = (uint32_t)step + 5;

        n = job_random(&state) % (BATCH + 1);
        for (size_t i = 0; i < n; i++)
            wanted[i] = job_random(&state) % 40;
        if (step % 3 == 0) {
            job_check(gp_push_rows(rows, count, index, values, &r));
            memset(index, 0xff, sizeof(index)); /* it was read */
        } else {
            job_check(gp_push_pull_rows(rows, count, index, values, n, wanted,
                                        out, &r));
        }
        job_check(gp_wait(&r, -1));
        if (step % 3 == 0) {
            job_check(gp_pull_rows(rows, n, wanted, out, &r));
            job_check(gp_wait(&r, -1));
        }
        if (strcmp(s->mode, "sync") == 0) {
            pull_all(rows, all);
            for (size_t i = 0; i < n; i++)
                job_require(memcmp(out + i * WIDTH, all + wanted[i] * WIDTH,
                                   WIDTH * sizeof(float)) == 0,
                            "step %llu: row %llu", (unsigned long long)step,
                            (unsigned long long)wanted[i]);
        }
    }
    job_check(gp_barrier(w));
    pull_all(rows, all);
    if (rank == 0)
        memcpy(s->final, all, ROWS * WIDTH * sizeof(*all));
    free(all);
}

static void
expect_sync(const char *transport, const char *updater, uint32_t workers,
            uint32_t shards, bool colocated)
{
    float *final = malloc(ROWS * WIDTH * sizeof(*final));
    setup s = {.updater = updater, .mode = "sync", .final = final};
    job j = {.transport = transport,
             .workers = workers,
             .shards = shards,
             .colocated = colocated,
             .body = train_body,
             .data = &s};
    model *m = model_new(updater);

    assert_non_null(final);
    assert_int_equal(run_job(&j), GP_OK);
    for (uint64_t step = 0; step < STEPS; step++) {
        for (uint32_t r = 0; r < workers; r++)
            model_add(m, r, step);
        model_update(m, step, 1.0f / (float)workers);
    }
    for (uint32_t i = 0; i < ROWS; i++)
        for (uint32_t k = 0; k < WIDTH; k++)
            if (final[i * WIDTH + k] != m->value[i][k])
                fail_msg("%s, %s, %u workers, %u shards: row %u[%u] is %.9g, "
                         "not %.9g",
                         transport, updater, workers, shards, i, k,
                         (double) final[i * WIDTH + k], (double)m->value[i][k]);
    model_free(m);
    free(final);
}

static void
sync_is_exact(void **state)
{
    (void)state;
    expect_sync("loop", "sgd:lr=0.1", 1, 1, false);
    expect_sync("loop", "sgd:lr=0.1,momentum=0.9,nesterov=1", 3, 2, false);
    expect_sync("tcp", "adagrad:lr=0.1,initial_accumulator_value=0.1", 2, 3,
                false);
    expect_sync("tcp", "adam:lr=0.01,warmup=5", 3, 4, false);
    expect_sync("loop", "adamw:lr=0.01,amsgrad=1", 2, 0, true);
    expect_sync("tcp", "rmsprop:lr=0.01,centered=1,momentum=0.5", 2, 0, true);
}

/* Row by row, so that it does not matter what is beside a row, or where it is.
 * Gradients of about 1 and 12 steps of 0.1 go wrong by less than that. */
static void
codecs_lose_a_little(void **state)
{
    static const struct {
        const char *codec;
        double most;
    } known[] = {{"none", 0}, {"fp16", 0.01}, {"bf16", 0.06}, {"q8", 0.08}};
    static float final[GP_COUNT_OF(known)][2][ROWS * WIDTH];

    (void)state;
    for (size_t k = 0; k < GP_COUNT_OF(known); k++) {
        double worst = 0;

        for (uint32_t twice = 0; twice < 2; twice++) {
            setup s = {.updater = "sgd:lr=0.1",
                       .mode = "sync",
                       .codec = known[k].codec,
                       .final = final[k][twice]};
            job j = {.transport = twice ? "tcp" : "loop",
                     .workers = 2,
                     .shards = 1 + 2 * twice,
                     .body = train_body,
                     .data = &s};

            assert_int_equal(run_job(&j), GP_OK);
        }
        assert_memory_equal(final[k][0], final[k][1], sizeof(final[k][0]));
        for (size_t i = 0; i < ROWS * WIDTH; i++)
            worst = GP_MAX(worst, __builtin_fabs((double) final[k][0][i] -
                                                 (double) final[0][0][i]));
        if (worst > known[k].most || (k > 0 && worst == 0))
            fail_msg("%s: %g", known[k].codec, worst);
    }
}

/* With one worker each push is an update, in order, whatever the mode. */
static void
modes_of_one_worker_agree(void **state)
{
    static const char *const modes[] = {"async", "ssp:2", "sync"};
    float final[3][ROWS * WIDTH];

    (void)state;
    for (int k = 0; k < 3; k++) {
        setup s = {
            .updater = "adam:lr=0.01", .mode = modes[k], .final = final[k]};
        job j = {.transport = k == 1 ? "tcp" : "loop",
                 .workers = 1,
                 .shards = 2,
                 .body = train_body,
                 .data = &s};

        assert_int_equal(run_job(&j), GP_OK);
        assert_memory_equal(final[k], final[0], sizeof(final[0]));
    }
}

/* Integers add up exactly, so that nothing lost or doubled goes unseen. */
static void
count_body(job *j, gp_worker *w, uint32_t rank)
{
    setup *s = j->data;
    gp_rows *rows = register_rows(w, s, ROWS);
    uint64_t index[BATCH];
    float values[BATCH * WIDTH];
    gp_request *r;

    for (size_t i = 0; i < BATCH * WIDTH; i++)
        values[i] = -1;
    for (uint32_t step = 0; step < 30; step++) {
        for (uint32_t i = 0; i < 16; i++)
            index[i] = (rank * 31 + step * 7 + i * 3) % ROWS;
        job_check(gp_push_pull_rows(rows, 16, index, values, 16, index,
                                    (float[BATCH * WIDTH]){0}, &r));
        job_check(gp_wait(&r, -1));
    }
    job_check(gp_worker_rest(w));
    job_check(gp_barrier(w));
    if (rank == 0)
        pull_all(rows, s->final);
}

static void
no_push_is_lost(void **state)
{
    static const char *const modes[] = {"async", "ssp:0", "ssp:3"};
    const gp_row_spec spec = {ROWS, WIDTH, BATCH, GP_ROWS_NORMAL, 77, 0.5f};

    (void)state;
    for (int k = 0; k < 6; k++) {
        float final[ROWS * WIDTH], begin[WIDTH];
        double sum = 0;
        setup s = {.updater = "sgd:lr=1", .mode = modes[k % 3], .final = final};
        job j = {.transport = k < 3 ? "loop" : "tcp",
                 .workers = 3,
                 .shards = 2,
                 .body = count_body,
                 .data = &s};

        assert_int_equal(run_job(&j), GP_OK);
        for (uint32_t i = 0; i < ROWS; i++) {
            gp_row_initialize(&spec, i, begin);
            for (uint32_t c = 0; c < WIDTH; c++)
                sum += (double)(final[i * WIDTH + c] - begin[c]);
        }
        assert_float_equal(sum, 3.0 * 30 * 16 * WIDTH, 0.05);
    }
}

/* The mean of those that were in time; nobody waits for the fourth. */
static void
backup_body(job *j, gp_worker *w, uint32_t rank)
{
    setup *s = j->data;
    gp_rows *rows = register_rows(w, s, ROWS);
    uint64_t index[2] = {3, 4 + rank};
    float values[2 * WIDTH], out[2 * WIDTH];
    gp_request *r;

    for (uint32_t i = 0; i < 2 * WIDTH; i++)
        values[i] = 1;
    for (uint32_t step = 0; step < 10; step++) {
        job_check(gp_push_pull_rows(rows, 2, index, values, 2, index, out, &r));
        job_check(gp_wait(&r, -1));
    }
    job_require(gp_rows_version(rows) > 0, "no step");
    job_check(gp_worker_rest(w));
    job_check(gp_barrier(w));
    if (rank == 0)
        pull_all(rows, s->final);
}

static void
backup_workers(void **state)
{
    const gp_row_spec spec = {ROWS, WIDTH, BATCH, GP_ROWS_NORMAL, 77, 0.5f};
    float final[ROWS * WIDTH], begin[WIDTH];
    setup s = {.updater = "sgd:lr=1", .mode = "sync:N-1", .final = final};
    job j = {.transport = "tcp",
             .workers = 3,
             .shards = 1,
             .body = backup_body,
             .data = &s};

    (void)state;
    assert_int_equal(run_job(&j), GP_OK);
    gp_row_initialize(&spec, 3, begin);
    /* Row 3 is in every push, so in every step its mean gradient is 1. */
    assert_true(final[3 * WIDTH] <= begin[0] - 9.9f);
    gp_row_initialize(&spec, 100, begin);
    assert_memory_equal(final + 100 * WIDTH, begin, sizeof(begin));
}

/* Far rows cost what few rows cost. */
static void
far_body(job *j, gp_worker *w, uint32_t rank)
{
    setup *s = j->data;
    gp_rows *rows = register_rows(w, s, GP_ROWS_MAX);
    uint64_t index[3] = {GP_ROWS_MAX - 1, 0, (uint64_t)1 << 33};
    float values[3 * WIDTH] = {0}, out[3 * WIDTH], begin[WIDTH];
    const gp_row_spec spec = {GP_ROWS_MAX,    WIDTH, BATCH,
                              GP_ROWS_NORMAL, 77,    0.5f};
    gp_request *r;

    values[0] = 2;
    job_check(gp_push_pull_rows(rows, 3, index, values, 3, index, out, &r));
    job_check(gp_wait(&r, -1));
    gp_row_initialize(&spec, index[0], begin);
    begin[0] -= 2;
    job_require(memcmp(out, begin, sizeof(begin)) == 0, "row 2^40 - 1");
    gp_row_initialize(&spec, index[2], begin);
    job_require(memcmp(out + 2 * WIDTH, begin, sizeof(begin)) == 0, "row 2^33");
    job_require(gp_rows_version(rows) == 1, "version");
    (void)rank;
}

static void
rows_may_be_far_apart(void **state)
{
    setup s = {.updater = "sgd:lr=1"};
    job j = {.transport = "tcp",
             .workers = 2,
             .shards = 3,
             .body = far_body,
             .data = &s};

    (void)state;
    assert_int_equal(run_job(&j), GP_OK);
}

/* Beside dense tensors, many requests under way, waited for later. */
static void
mixed_body(job *j, gp_worker *w, uint32_t rank)
{
    setup *s = j->data;
    gp_tensor *dense = job_tensor(w, "d", 20000, "mean");
    gp_rows *rows = register_rows(w, s, ROWS);
    float *grad = calloc(20000, sizeof(*grad));
    enum { OPEN = 8 };
    uint64_t index[OPEN][BATCH];
    float values[OPEN][BATCH * WIDTH], out[OPEN][BATCH * WIDTH];
    gp_request *r[OPEN + 1];

    job_require(grad != NULL);
    for (uint32_t k = 0; k < OPEN; k++) {
        size_t n = make_push(rank, k, index[k], values[k]);

        job_check(gp_push_pull_rows(rows, n, index[k], values[k], n, index[k],
                                    out[k], &r[k]));
    }
    job_check(gp_push_pull(dense, grad, grad, &r[OPEN]));
    job_check(gp_wait_all(r, OPEN + 1, -1));
    free(grad);
}

static void
requests_overlap(void **state)
{
    static const char *const transports[] = {"loop", "tcp"};

    (void)state;
    for (int k = 0; k < 2; k++) {
        setup s = {.updater = "sgd:lr=1", .mode = "sync"};
        job j = {.transport = transports[k],
                 .workers = 2,
                 .shards = 2,
                 .body = mixed_body,
                 .data = &s};

        assert_int_equal(run_job(&j), GP_OK);
    }
}

/* ---- what is refused ---------------------------------------------------- */

static void
expect_refused(gp_worker *w, const gp_rows_options *o, gp_status status,
               const char *part)
{
    gp_rows *rows = NULL;
    gp_status got = gp_rows_register(w, o, &rows);

    job_require(got == status, "%s, not %s: %s", gp_status_name(got),
                gp_status_name(status), part);
    job_require(strstr(gp_last_error(), part) != NULL, "%s", gp_last_error());
    job_require(rows == NULL, "out was touched");
}

static void
refuse_options(gp_worker *w)
{
    gp_rows_options good = GP_ROWS_INIT, o;

    good.name = "r";
    good.rows = 10;
    good.width = 4;
    good.updater = "sgd:lr=1";
#define REFUSED(member, wrong, status, part) \
    o = good;                                \
    o.member = (wrong);                      \
    expect_refused(w, &o, status, part)
    REFUSED(size, 3, GP_ERR_INVALID, "GP_ROWS_INIT");
    REFUSED(name, NULL, GP_ERR_INVALID, "name");
    REFUSED(name, "", GP_ERR_INVALID, "name");
    REFUSED(rows, 0, GP_ERR_INVALID, "rows are 1 to 2^40");
    REFUSED(rows, GP_ROWS_MAX + 1, GP_ERR_INVALID, "rows are 1 to 2^40");
    REFUSED(width, 0, GP_ERR_INVALID, "width");
    REFUSED(width, GP_ROWS_WIDTH_MAX + 1, GP_ERR_INVALID, "width");
    REFUSED(width, GP_ROWS_WIDTH_MAX, GP_ERR_INVALID, "use a smaller batch");
    REFUSED(batch, 0, GP_ERR_INVALID, "batch");
    REFUSED(batch, GP_ROWS_BATCH_MAX + 1, GP_ERR_INVALID, "batch");
    REFUSED(init, (gp_rows_init)3, GP_ERR_INVALID, "init");
    REFUSED(scale, -1, GP_ERR_INVALID, "scale");
    REFUSED(scale, __builtin_inff(), GP_ERR_INVALID, "scale");
    REFUSED(updater, "mean", GP_ERR_CONFIG, "use an optimizer");
    REFUSED(updater, "lamb", GP_ERR_CONFIG, "norm of whole tensors");
    REFUSED(updater, "sgd:lr=1,clip=2", GP_ERR_CONFIG, "without clip");
    REFUSED(updater, "sdg", GP_ERR_CONFIG, "did you mean 'sgd'");
    REFUSED(mode, "local:4", GP_ERR_CONFIG, "not for rows");
    REFUSED(codec, "topk:0.1", GP_ERR_CONFIG, "rows travel one by one");
    REFUSED(codec, "q8+ans", GP_ERR_CONFIG, "rows travel one by one");
    REFUSED(codec, "intsum", GP_ERR_CONFIG, "rows travel one by one");
    REFUSED(codec, "none|q8", GP_ERR_CONFIG, "rows have one codec");
    REFUSED(codec, "auto", GP_ERR_CONFIG, "rows have one codec");
    REFUSED(codec, "q9", GP_ERR_CONFIG, "q9");
    REFUSED(pull_codec, "q8+ans", GP_ERR_CONFIG, "rows travel one by one");
    REFUSED(mode, "asink", GP_ERR_CONFIG, "did you mean 'async'");
#undef REFUSED
}

static gp_status
no_bytes(void *user, void *bytes, size_t size)
{
    (void)user, (void)bytes, (void)size;
    return GP_ERR_SYSTEM;
}

static gp_status
no_room(void *user, const void *bytes, size_t size)
{
    (void)user, (void)bytes, (void)size;
    return GP_ERR_SYSTEM;
}

static void
refuse_calls(gp_rows *rows)
{
    uint64_t index[BATCH + 1] = {0};
    float values[(BATCH + 1) * WIDTH] = {0};
    gp_request *r = NULL;

    job_require(gp_push_rows(NULL, 0, NULL, NULL, &r) == GP_ERR_INVALID);
    job_require(gp_push_rows(rows, 1, NULL, values, &r) == GP_ERR_INVALID);
    job_require(gp_push_rows(rows, 1, index, NULL, &r) == GP_ERR_INVALID);
    job_require(gp_push_rows(rows, 1, index, values, NULL) == GP_ERR_INVALID);
    job_require(gp_pull_rows(rows, 1, index, NULL, &r) == GP_ERR_INVALID);
    job_require(gp_pull_rows(rows, BATCH + 1, index, values, &r) ==
                GP_ERR_TOO_LARGE);
    job_require(strstr(gp_last_error(), "with batch 64") != NULL, "%s",
                gp_last_error());
    index[1] = ROWS;
    job_require(gp_push_pull_rows(rows, 1, index, values, 2, index, values,
                                  &r) == GP_ERR_INVALID);
    job_require(strstr(gp_last_error(), "index 1 of gp_push_pull_rows() is row "
                                        "500 of 500") != NULL,
                "%s", gp_last_error());
    job_require(r == NULL, "a request was made");
    job_require(gp_rows_save(rows, NULL, NULL) == GP_ERR_INVALID);
    job_require(gp_rows_load(NULL, no_bytes, NULL) == GP_ERR_INVALID);
    job_require(gp_rows_load(rows, no_bytes, NULL) == GP_ERR_SYSTEM);
    job_require(gp_rows_save(rows, no_room, NULL) == GP_ERR_SYSTEM);
    job_require(strstr(gp_last_error(), "cannot be written") != NULL, "%s",
                gp_last_error());
}

static void
refusals_body(job *j, gp_worker *w, uint32_t rank)
{
    setup s = {.updater = "sgd:lr=1"};
    gp_rows_options again = GP_ROWS_INIT;
    gp_rows *rows;

    (void)j, (void)rank;
    refuse_options(w);
    rows = register_rows(w, &s, ROWS);
    again.name = "r";
    again.rows = again.width = 1;
    again.updater = "sgd:lr=1";
    expect_refused(w, &again, GP_ERR_EXISTS, "is registered");
    refuse_calls(rows);
    again.name = "late";
    expect_refused(w, &again, GP_ERR_STATE, "before it");
}

static void
what_is_wrong_is_refused(void **state)
{
    job j = {
        .transport = "loop", .workers = 1, .shards = 2, .body = refusals_body};

    (void)state;
    assert_int_equal(run_job(&j), GP_OK);
}

static void
differ_body(job *j, gp_worker *w, uint32_t rank)
{
    gp_rows_options o = GP_ROWS_INIT;
    gp_rows *rows;

    o.name = "r";
    o.rows = j->data ? 10 : 10 + rank;
    o.width = 4;
    o.seed = rank;
    o.updater = "sgd:lr=1";
    job_check(gp_rows_register(w, &o, &rows));
    job_note(j, rank, gp_worker_ready(w));
}

static void
workers_must_agree(void **state)
{
    job j = {
        .transport = "loop", .workers = 2, .shards = 1, .body = differ_body};

    (void)state;
    assert_int_not_equal(run_job(&j), GP_OK);
    assert_non_null(strstr(j.server_message, "has rows 1"));
    j = (job){.transport = "loop",
              .workers = 2,
              .shards = 1,
              .data = "",
              .body = differ_body};
    assert_int_not_equal(run_job(&j), GP_OK);
    assert_non_null(strstr(j.server_message, "initialiser of rows zero"));
}

/* ---- memory ------------------------------------------------------------- */

static void
limit_body(job *j, gp_worker *w, uint32_t rank)
{
    setup s = {.updater = "adam:lr=1", .mode = "async"};
    gp_rows *rows = register_rows(w, &s, 1u << 30);
    uint64_t index[BATCH];
    float values[BATCH * WIDTH] = {0};
    gp_status status = GP_OK;

    for (uint64_t i = 0; status == GP_OK && i < 4000; i++) {
        gp_request *r;

        for (uint64_t k = 0; k < BATCH; k++)
            index[k] = i * BATCH + k;
        /* Pulls make no rows. */
        job_check(gp_pull_rows(rows, BATCH, index, values, &r));
        job_check(gp_wait(&r, -1));
        if (i < 2000)
            continue;
        status = gp_push_rows(rows, BATCH, index, values, &r);
        if (status == GP_OK)
            status = gp_wait(&r, -1);
    }
    job_note(j, rank, status);
}

static void
memory_has_a_limit(void **state)
{
    job j = {.transport = "tcp",
             .workers = 1,
             .shards = 1,
             .settings = {"rows_memory", "1M", NULL},
             .body = limit_body};

    (void)state;
    (void)run_job(&j);
    job_expect_end(&j, 0, GP_ERR_NO_MEMORY, "GRADPUSH_ROWS_MEMORY");
    job_expect_end(&j, 0, GP_ERR_NO_MEMORY, "tensor 'r'");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sync_is_exact),
        cmocka_unit_test(codecs_lose_a_little),
        cmocka_unit_test(modes_of_one_worker_agree),
        cmocka_unit_test(no_push_is_lost),
        cmocka_unit_test(backup_workers),
        cmocka_unit_test(rows_may_be_far_apart),
        cmocka_unit_test(requests_overlap),
        cmocka_unit_test(what_is_wrong_is_refused),
        cmocka_unit_test(workers_must_agree),
        cmocka_unit_test(memory_has_a_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
