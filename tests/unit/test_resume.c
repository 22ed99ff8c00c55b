/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_resume.c - a job that goes on where another one was stopped has the same
 * results, to the last bit, whatever workers and shards remember.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "job_harness.h"
#include "job_raw.h"

#define WORKERS 3u
#define COUNT   100000u /* more than one part of a chunk */
#define COLUMNS 100u
#define STEPS   8u
#define STOP    4u
#define STATES  8u

typedef struct state_copy {
    char name[32];
    float *values;
    uint64_t count;
} state_copy;

/* What a job is to do, and what it leaves behind. */
typedef struct plan {
    const char *push, *pull;
    const char *updater;        /* NULL: mean */
    const char *mode;           /* NULL: sync */
    uint64_t from, to, save_at; /* steps; save_at: after so many, 0: never */
    bool load;
    state_copy saved[JOB_WORKERS][STATES];
    float *result; /* of the last step, as worker 1 has it */
} plan;

static float *
room(size_t count)
{
    float *values = calloc(count, sizeof(float));

    job_require(values);
    return values;
}

static gp_tensor *
open_tensor(gp_worker *w, const plan *p, const char *name, uint64_t first)
{
    gp_tensor_options o = GP_TENSOR_INIT;
    gp_tensor *t;

    o.name = name;
    o.count = COUNT;
    o.columns = COLUMNS;
    o.codec = p->push;
    o.pull_codec = p->pull;
    o.updater = p->updater ? p->updater : "mean";
    o.mode = p->mode;
    o.first_step = first;
    job_check(gp_tensor_register(w, &o, &t));
    return t;
}

static void
save(plan *p, gp_tensor *t, uint32_t rank)
{
    const char *name;
    uint64_t count;

    for (size_t i = 0; gp_tensor_state(t, i, &name, &count) == GP_OK; i++) {
        state_copy *s = &p->saved[rank][i];

        job_require(i < STATES);
        snprintf(s->name, sizeof(s->name), "%s", name);
        s->count = count;
        s->values = room(count);
        job_check(gp_tensor_save_state(t, name, s->values));
    }
}

static void
load(const plan *p, gp_tensor *t, uint32_t rank)
{
    float *same = room(COUNT);

    for (size_t i = 0; i < STATES && p->saved[rank][i].values; i++) {
        const state_copy *s = &p->saved[rank][i];

        job_check(gp_tensor_load_state(t, s->name, s->values));
        if (s->count > COUNT)
            continue;
        job_check(gp_tensor_save_state(t, s->name, same));
        job_require(memcmp(same, s->values, s->count * sizeof(float)) == 0,
                    "%s", s->name);
    }
    free(same);
}

static void
step(gp_tensor *t, uint32_t rank, uint64_t number, float *data)
{
    gp_request *r;

    for (uint32_t i = 0; i < COUNT; i++)
        data[i] = job_value(rank, 0, number, i);
    job_check(gp_push_pull(t, data, data, &r));
    job_check(gp_wait(&r, -1));
}

/* Parameters: of the job before, as workers had them in the end. */
static void
begin(const plan *p, gp_tensor *t, uint32_t rank)
{
    float *values = room(COUNT);
    gp_request *r;

    for (uint32_t i = 0; rank == 0 && i < COUNT; i++)
        values[i] = p->load ? p->result[i] : job_value(7, 0, 0, i);
    job_check(gp_broadcast(t, values, 0, &r));
    job_check(gp_wait(&r, -1));
    for (uint32_t i = 0; p->load && i < COUNT; i++)
        job_require(values[i] == p->result[i]);
    free(values);
}

static void
train_body(job *j, gp_worker *w, uint32_t rank)
{
    plan *p = j->data;
    gp_tensor *t = open_tensor(w, p, "t", p->from);
    float *data = room(COUNT);

    if (p->load)
        load(p, t, rank);
    if (p->updater)
        begin(p, t, rank);
    for (uint64_t s = p->from; s < p->to; s++) {
        step(t, rank, s, data);
        if (s + 1 == p->save_at)
            save(p, t, rank);
    }
    if (p->mode)
        job_check(gp_worker_rest(w)); /* from here on nobody waits for it */
    job_check(gp_barrier(w));         /* the others have begun from it */
    if (rank == 1)
        memcpy(p->result, data, COUNT * sizeof(float));
    free(data);
}

static void
free_saved(plan *p)
{
    for (uint32_t r = 0; r < JOB_WORKERS; r++)
        for (uint32_t i = 0; i < STATES; i++) {
            free(p->saved[r][i].values);
            p->saved[r][i].values = NULL;
        }
}

static void
run(plan *p, uint32_t shards, bool colocated)
{
    job j = {.transport = colocated ? "tcp" : "loop",
             .workers = WORKERS,
             .shards = shards,
             .colocated = colocated,
             .settings = {"chunk_bytes", "300K"},
             .body = train_body,
             .data = p};
    gp_status status = run_job(&j);

    if (status != GP_OK)
        fail_msg("%s after step %llu: %s %s", p->push,
                 (unsigned long long)p->from, j.message[0], j.server_message);
}

/* Once through, once with a stop between. Codecs that look at whole tensors may
 * go on with other shards, and so in other chunks. */
static void
compare_updater(const char *updater, const char *push, const char *pull,
                bool colocated, uint32_t shards)
{
    plan whole = {.push = push, .pull = pull, .to = STEPS, .updater = updater};
    plan part = {.push = push,
                 .pull = pull,
                 .to = STOP,
                 .save_at = STOP,
                 .updater = updater};

    whole.result = room(COUNT);
    part.result = room(COUNT);
    run(&whole, 2, colocated);
    run(&part, 2, colocated);
    part.from = STOP;
    part.to = STEPS;
    part.save_at = 0;
    part.load = true;
    run(&part, shards, colocated);
    if (memcmp(whole.result, part.result, COUNT * sizeof(float)) != 0)
        fail_msg("push %s, pull %s, updater %s: resumed it is another run",
                 push, pull, updater ? updater : "mean");
    free_saved(&part);
    free(whole.result);
    free(part.result);
}

static void
compare(const char *push, const char *pull, bool colocated, uint32_t shards)
{
    compare_updater(NULL, push, pull, colocated, shards);
}

static void
ef21_goes_on(void **state)
{
    (void)state;
    compare("ef21+topk:0.05", "none", false, 2);
    compare("ef21+topk:0.05", "none", true, 2);
    compare("ef21+q4|ef21+topk:0.05,scope=tensor", "q8", false, 4);
}

static void
pull_codecs_go_on(void **state)
{
    (void)state;
    compare("q8", "topk:0.05", false, 2);
    compare("ef21+topk:0.1", "dgc:0.05", false, 2);
    compare("topk:0.05", "ef:decay=0.5+q4", true, 2);
}

/* Factors of low rank; the last chunk is too short for any. */
static void
pull_states_go_on(void **state)
{
    (void)state;
    compare("none", "powersgd:rank=2", false, 2);
    compare("powersgd:rank=1", "ef+powersgd:rank=3,factors=fp16", true, 2);
    compare("ef21+topk:0.1", "momentum+powersgd:rank=1", false, 2);
}

/* With all arrays, and the schedule. */
static void
optimizers_go_on(void **state)
{
    (void)state;
    compare_updater("sgd:momentum=0.9,nesterov=1", "none", "none", false, 3);
    compare_updater("adam:amsgrad=1,warmup=6", "none", "none", true, 2);
    compare_updater("adamw:cosine=7,lr_min=1e-4", "topk:0.1", "none", false, 2);
    compare_updater("adagrad:initial_accumulator_value=0.1,lr_decay=0.1",
                    "none", "none", false, 1);
}

/* Results say less than the shards know: the rest is state too. */
static void
rounded_parameters_go_on(void **state)
{
    (void)state;
    compare_updater("rmsprop:centered=1,momentum=0.9", "none", "fp16", false,
                    3);
    compare_updater("sgd:lr=1e-3", "none", "q8:block=64", true, 2);
}

/* Where pushes are added as they arrive runs differ, but a job begins with what
 * the one before had: begin() looks whether every worker has it. */
static void
arriving_modes_go_on(void **state)
{
    static const char *const modes[] = {"async", "ssp:2", "sync:N-1"};

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(modes); i++) {
        plan p = {.push = "none",
                  .pull = i ? "fp16" : "q8:block=64",
                  .to = STOP,
                  .save_at = STOP,
                  .updater = "sgd:lr=1e-3",
                  .mode = modes[i]};

        p.result = room(COUNT);
        run(&p, 2, i == 1);
        p.from = STOP;
        p.to = STEPS;
        p.save_at = 0;
        p.load = true;
        run(&p, 3, false);
        free_saved(&p);
        free(p.result);
    }
}

static void
names_body(job *j, gp_worker *w, uint32_t rank)
{
    plan p = {
        .push = "none", .pull = "fp16", .updater = "rmsprop:momentum=0.5"};
    gp_tensor *t = open_tensor(w, &p, "t", 0);
    static const char *const want[] = {"parameters", "square_avg",
                                       "momentum_buffer"};
    float *values = room(COUNT);
    const char *name;
    uint64_t count;

    (void)j;
    for (size_t i = 0; i < GP_COUNT_OF(want) && rank == 0; i++) {
        job_check(gp_tensor_state(t, i, &name, &count));
        job_require(strcmp(name, want[i]) == 0 && count == COUNT, "%s", name);
        job_check(gp_tensor_save_state(t, name, values));
    }
    job_require(gp_tensor_state(t, rank ? 0 : 3, &name, &count) ==
                GP_ERR_NOT_FOUND);
    job_require(gp_tensor_load_state(t, "grad_avg", values) ==
                GP_ERR_UNSUPPORTED);
    values[5] = INFINITY;
    if (rank == 0)
        job_require(gp_tensor_load_state(t, "square_avg", values) ==
                    GP_ERR_INVALID);
    job_check(gp_worker_ready(w));
    values[5] = 0;
    if (rank == 0)
        job_require(gp_tensor_load_state(t, "square_avg", values) ==
                    GP_ERR_STATE);
    free(values);
}

static void
arrays_have_names(void **state)
{
    job j = {
        .transport = "loop", .workers = 2, .shards = 1, .body = names_body};

    (void)state;
    assert_int_equal(run_job(&j), GP_OK);
}

/* Saving changes nothing. */
static void
saving_only_reads(void **state)
{
    plan a = {.push = "ef21+topk:0.05", .pull = "topk:0.1", .to = STEPS};
    plan b = a;

    (void)state;
    b.save_at = 3;
    a.result = room(COUNT);
    b.result = room(COUNT);
    run(&a, 2, false);
    run(&b, 2, false);
    assert_memory_equal(a.result, b.result, COUNT * sizeof(float));
    free_saved(&b);
    free(a.result);
    free(b.result);
}

/* The sum of shards is near that of workers, and has names that tell. */
static void
sum_body(job *j, gp_worker *w, uint32_t rank)
{
    static float *histories[WORKERS];
    plan p = {.push = "ef21+topk:0.05", .pull = "none"};
    gp_tensor *t = open_tensor(w, &p, "t", 0);
    float *data = room(COUNT), *mine = room(COUNT);
    const char *name;
    uint64_t count;

    (void)j;
    for (uint64_t s = 0; s < 3; s++)
        step(t, rank, s, data);
    job_check(gp_tensor_state(t, 0, &name, &count));
    job_require(strcmp(name, "history_of_3") == 0 && count == COUNT);
    job_check(gp_tensor_save_state(t, name, mine));
    job_require(gp_tensor_save_state(t, "history", mine) == GP_ERR_UNSUPPORTED);
    job_require(gp_tensor_reset_state(t) == GP_ERR_STATE);
    histories[rank] = mine;
    job_check(gp_barrier(w));
    if (rank == 0) {
        job_check(gp_tensor_state(t, 1, &name, &count));
        job_require(strcmp(name, "histories_of_3") == 0 && count == COUNT);
        job_check(gp_tensor_save_state(t, name, data));
        for (uint32_t i = 0; i < COUNT; i++) {
            double sum = 0, size = 1;

            for (uint32_t r = 0; r < WORKERS; r++) {
                sum += histories[r][i];
                size += fabs((double)histories[r][i]);
            }
            job_require(fabs(sum - data[i]) <= 1e-6 * size, "element %u", i);
        }
        job_require(gp_tensor_state(t, 2, &name, &count) == GP_ERR_NOT_FOUND);
    } else {
        job_require(gp_tensor_state(t, 1, &name, &count) == GP_ERR_NOT_FOUND);
        job_require(gp_tensor_save_state(t, "histories_of_3", data) ==
                    GP_ERR_UNSUPPORTED);
    }
    job_check(gp_barrier(w));
    free(mine);
    free(data);
}

static void
shards_hold_the_sum(void **state)
{
    job j = {
        .transport = "loop", .workers = WORKERS, .shards = 2, .body = sum_body};

    (void)state;
    assert_int_equal(run_job(&j), GP_OK);
}

/* Half a resume. */

static void
note(job *j, uint32_t rank, gp_status status)
{
    j->ended[rank] = status;
    snprintf(j->message[rank], sizeof(j->message[0]), "%s",
             status == GP_OK ? "" : gp_last_error());
}

static void
half_body(job *j, gp_worker *w, uint32_t rank)
{
    const uint32_t *loads = j->data; /* by rank: bit 0 own, bit 1 the sum */
    plan p = {.push = "ef21+topk:0.05", .pull = "none"};
    gp_tensor *t = open_tensor(w, &p, "t", 5);
    float *zeros = room(COUNT);
    gp_status status;

    if (loads[rank] & 1)
        job_check(gp_tensor_load_state(t, "history_of_2", zeros));
    if (loads[rank] & 2)
        job_check(gp_tensor_load_state(t, "histories_of_2", zeros));
    status = gp_worker_ready(w);
    if (status == GP_OK) /* it may have come first */
        status = gp_barrier(w);
    note(j, rank, status);
    free(zeros);
}

static void
run_half(job *j, uint32_t first, uint32_t second)
{
    uint32_t loads[2] = {first, second};

    *j = (job){.transport = "loop",
               .workers = 2,
               .shards = 1,
               .settings = {"timeout", "120s"},
               .body = half_body,
               .data = loads};
    (void)run_job(j);
}

static void
all_or_none_resume(void **state)
{
    job j;

    (void)state;
    run_half(&j, 3, 1);
    assert_int_equal(j.ended[0], GP_OK);
    assert_int_equal(j.ended[1], GP_OK);
    run_half(&j, 3, 0);
    for (uint32_t r = 0; r < 2; r++) {
        assert_int_equal(j.ended[r], GP_ERR_MISMATCH);
        assert_non_null(strstr(j.message[r], "its ef21 history"));
        assert_non_null(strstr(j.message[r], "on all workers, or on none"));
    }
    run_half(&j, 1, 1);
    assert_int_equal(j.ended[0], GP_ERR_STATE);
    assert_non_null(strstr(j.message[0], "'history_of_2' was loaded without "
                                         "'histories_of_2'"));
    run_half(&j, 2, 1);
    assert_int_equal(j.ended[0], GP_ERR_STATE);
    assert_non_null(strstr(j.message[0], "'histories_of_2' was loaded without "
                                         "'history_of_2'"));
}

static void
late_body(job *j, gp_worker *w, uint32_t rank)
{
    plan p = {.push = "ef21+topk:0.05", .pull = "topk:0.1"};
    gp_tensor *t = open_tensor(w, &p, "t", 0);
    float *values = room(COUNT);

    (void)j;
    (void)rank;
    values[77] = NAN;
    job_require(gp_tensor_load_state(t, "histories_of_1", values) ==
                GP_ERR_INVALID);
    values[77] = 1;
    job_check(gp_tensor_load_state(t, "history_of_1", values));
    job_check(gp_tensor_load_state(t, "histories_of_1", values));
    /* Forgotten again: nobody resumes. */
    job_check(gp_tensor_reset_state(t));
    job_check(gp_worker_ready(w));
    job_require(gp_tensor_load_state(t, "history_of_1", values) ==
                GP_ERR_STATE);
    job_require(gp_tensor_load_state(t, "histories_of_1", values) ==
                GP_ERR_STATE);
    job_require(gp_tensor_load_state(t, "pull_residual", values) ==
                GP_ERR_STATE);
    job_check(gp_tensor_save_state(t, "histories_of_1", values));
    for (uint32_t i = 0; i < COUNT; i++)
        job_require(values[i] == 0);
    free(values);
}

static void
loading_is_for_the_beginning(void **state)
{
    job j = {.transport = "loop", .workers = 1, .shards = 1, .body = late_body};

    (void)state;
    assert_int_equal(run_job(&j), GP_OK);
}

/* Before the other worker has pushed, there is nothing to save. */
static void
early_body(job *j, gp_worker *w, uint32_t rank)
{
    plan p = {.push = "ef21+topk:0.05", .pull = "none"};
    gp_tensor *t = open_tensor(w, &p, "t", 0);
    float *values = room(COUNT);
    gp_request *r;

    (void)j;
    job_check(gp_worker_ready(w));
    if (rank == 0) {
        job_check(gp_push(t, values, &r));
        job_check(gp_wait(&r, -1));
        job_require(gp_tensor_save_state(t, "histories_of_2", values) ==
                    GP_ERR_STATE);
        job_require(strstr(gp_last_error(), "has not finished step 0"));
    }
    job_check(gp_barrier(w));
    if (rank == 1) {
        job_check(gp_push(t, values, &r));
        job_check(gp_wait(&r, -1));
    }
    job_check(gp_pull(t, values, &r));
    job_check(gp_wait(&r, -1));
    if (rank == 0)
        job_check(gp_tensor_save_state(t, "histories_of_2", values));
    free(values);
}

static void
saving_waits_for_the_step(void **state)
{
    job j = {
        .transport = "loop", .workers = 2, .shards = 2, .body = early_body};

    (void)state;
    assert_int_equal(run_job(&j), GP_OK);
}

/* What shards do not take, from a worker that is told what to say. */

static gp_msg
part_of(const raw *w, uint8_t type, uint32_t which, uint64_t offset,
        uint64_t count)
{
    return (gp_msg){.type = type,
                    .dtype = GP_FP32,
                    .worker = w->rank,
                    .pipeline = which,
                    .aux = offset,
                    .elements = count,
                    .payload =
                        type == GP_MSG_RESTORE ? count * sizeof(float) : 0,
                    .cookie = 7};
}

static void
join_raw(raw *w, const job *j, uint32_t rank, uint32_t size, bool restored)
{
    raw_connect(w, "loop", j->servers, rank, size);
    raw_use(w, "ef21+none", "ef21+none");
    w->restored = restored;
    raw_join(w);
}

static void
refuses(gp_msg (*spoil)(const raw *w), bool restored)
{
    job j = {.transport = "loop", .workers = 1, .shards = 1};
    gp_msg msg;
    raw w;

    job_start_servers(&j);
    join_raw(&w, &j, 0, 1, restored);
    raw_register(&w);
    msg = spoil(&w);
    raw_send_values(&w, &msg, 1);
    raw_expect_closed(&w);
    raw_close(&w);
    job_stop_servers(&j);
    assert_int_equal(j.server_status, GP_ERR_PEER_LOST);
}

static gp_msg
too_far(const raw *w)
{
    return part_of(w, GP_MSG_RESTORE, GP_KEPT_HISTORY, 1, RAW_COUNT);
}

static gp_msg
overflows(const raw *w)
{
    return part_of(w, GP_MSG_RESTORE, GP_KEPT_HISTORY, UINT64_MAX, 2);
}

static gp_msg
out_of_order(const raw *w)
{
    return part_of(w, GP_MSG_RESTORE, GP_KEPT_HISTORY, 1, 2);
}

static gp_msg
too_short(const raw *w)
{
    gp_msg msg = part_of(w, GP_MSG_RESTORE, GP_KEPT_HISTORY, 0, RAW_COUNT);

    msg.payload -= 4;
    return msg;
}

static gp_msg
whole_history(const raw *w)
{
    return part_of(w, GP_MSG_RESTORE, GP_KEPT_HISTORY, 0, RAW_COUNT);
}

static gp_msg
no_residual(const raw *w)
{
    return part_of(w, GP_MSG_RECALL, GP_KEPT_RESIDUAL, 0, RAW_COUNT);
}

static gp_msg
no_such_thing(const raw *w)
{
    return part_of(w, GP_MSG_RECALL, 77, 0, RAW_COUNT);
}

static gp_msg
push_first(const raw *w)
{
    return raw_push(w, 0, 0, false);
}

static void
shards_refuse_wrong_parts(void **state)
{
    (void)state;
    refuses(too_far, true);
    refuses(overflows, true);
    refuses(out_of_order, true);
    refuses(too_short, true);
    refuses(whole_history, false); /* not announced */
    refuses(no_residual, true);
    refuses(no_such_thing, true);
    refuses(push_first, true);
}

/* They can be read, and come with a broadcast. */
static void
free_parameters_are_not_restored(void **state)
{
    job j = {.transport = "loop", .workers = 1, .shards = 1};
    gp_msg msg;
    raw w;

    (void)state;
    job_start_servers(&j);
    raw_connect(&w, "loop", j.servers, 0, 1);
    w.updater = "sgd:lr=1,momentum=0,nesterov=0,weight_decay=0";
    w.mode = "async";
    raw_join(&w);
    raw_register(&w);
    msg = part_of(&w, GP_MSG_RECALL, GP_KEPT_PARAMETERS, 0, RAW_COUNT);
    raw_send(&w, &msg, NULL);
    raw_expect(&w, GP_MSG_KEPT);
    assert_int_equal(w.last.status, GP_OK);
    msg = part_of(&w, GP_MSG_RESTORE, GP_KEPT_PARAMETERS, 0, RAW_COUNT);
    raw_send_values(&w, &msg, 1);
    raw_expect_closed(&w);
    raw_close(&w);
    job_stop_servers(&j);
    assert_int_equal(j.server_status, GP_ERR_PEER_LOST);
}

/* Only worker 0 may; and when it is gone before it has, the job is over. */
static void
nobody_else_restores(void **state)
{
    job j = {.transport = "loop", .workers = 2, .shards = 1};
    gp_msg msg;
    raw a, b;

    (void)state;
    job_start_servers(&j);
    join_raw(&a, &j, 0, 2, true);
    join_raw(&b, &j, 1, 2, true);
    raw_register(&a);
    raw_register(&b);
    /* The push of worker 1 waits: worker 0 has not restored yet. */
    msg = raw_push(&b, 0, 0, true);
    raw_send_values(&b, &msg, 1);
    raw_close(&a);
    raw_expect(&b, GP_MSG_FAULT);
    raw_close(&b);
    job_stop_servers(&j);
    assert_int_equal(j.server_status, GP_ERR_PEER_LOST);

    job_start_servers(&j);
    join_raw(&a, &j, 0, 2, true);
    join_raw(&b, &j, 1, 2, true);
    raw_register(&a);
    raw_register(&b);
    msg = whole_history(&b);
    raw_send_values(&b, &msg, 1);
    raw_expect_closed(&b);
    raw_close(&b);
    raw_close(&a);
    job_stop_servers(&j);
    assert_int_equal(j.server_status, GP_ERR_PEER_LOST);
}

static void
a_part_may_come_twice(void **state)
{
    job j = {.transport = "loop", .workers = 1, .shards = 1};
    gp_msg msg;
    raw w;

    (void)state;
    job_start_servers(&j);
    join_raw(&w, &j, 0, 1, true);
    raw_register(&w);
    for (int i = 0; i < 2; i++) {
        msg = whole_history(&w);
        raw_send_values(&w, &msg, 3);
        raw_expect(&w, GP_MSG_KEPT);
        assert_int_equal(w.last.status, GP_OK);
        assert_int_equal(w.last.cookie, 7);
    }
    msg = part_of(&w, GP_MSG_RECALL, GP_KEPT_HISTORY, 2, 3);
    raw_send(&w, &msg, NULL);
    raw_expect(&w, GP_MSG_KEPT);
    assert_int_equal(w.last.payload, 3 * sizeof(float));
    msg = raw_push(&w, 0, 0, true);
    raw_send_values(&w, &msg, 1);
    raw_expect(&w, GP_MSG_RESULT);
    assert_true(w.result[0] == 4);
    /* It has pushed. */
    msg = whole_history(&w);
    raw_send_values(&w, &msg, 3);
    raw_expect_closed(&w);
    raw_close(&w);
    job_stop_servers(&j);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ef21_goes_on),
        cmocka_unit_test(pull_codecs_go_on),
        cmocka_unit_test(pull_states_go_on),
        cmocka_unit_test(optimizers_go_on),
        cmocka_unit_test(rounded_parameters_go_on),
        cmocka_unit_test(arriving_modes_go_on),
        cmocka_unit_test(arrays_have_names),
        cmocka_unit_test(saving_only_reads),
        cmocka_unit_test(shards_hold_the_sum),
        cmocka_unit_test(all_or_none_resume),
        cmocka_unit_test(loading_is_for_the_beginning),
        cmocka_unit_test(saving_waits_for_the_step),
        cmocka_unit_test(shards_refuse_wrong_parts),
        cmocka_unit_test(free_parameters_are_not_restored),
        cmocka_unit_test(nobody_else_restores),
        cmocka_unit_test(a_part_may_come_twice),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
