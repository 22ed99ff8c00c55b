/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_modes.c - texts of modes, what goes with them, and whole jobs in each.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <math.h>

#include <cmocka.h>

#include <gradpush/collective.h>

#include "job_harness.h"
#include "shard/mode.h"
#include "wire/proto.h"

#define SGD "sgd:lr=1"

static void
texts_have_one_form(void **state)
{
    static const struct {
        const char *text, *canonical;
    } good[] = {
        {"sync", "sync"},
        {"sync:N-0", "sync"},
        {"sync:N-1", "sync:N-1,late=drop"},
        {"sync:4-3,late=carry", "sync:N-3,late=carry"},
        {"sync:N-2,late=drop", "sync:N-2,late=drop"},
        {"ssp:0", "ssp:0"},
        {"ssp:007", "ssp:7"},
        {"async", "async"},
        {"local:1", "local:1"},
        {"local:1000000000", "local:1000000000"},
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(good); i++) {
        gp_mode mode;
        char text[GP_MODE_MAX];

        assert_int_equal(gp_mode_parse(good[i].text, 4, &mode), GP_OK);
        gp_mode_print(&mode, text, sizeof(text));
        assert_string_equal(text, good[i].canonical);
        assert_int_equal(gp_mode_check(good[i].text), GP_OK);
    }
}

static void
errors_point_at_the_part(void **state)
{
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"asink", "unknown mode 'asink' at character 1; did you mean 'async'"},
        {"quorum", "known are sync, sync:N-1, ssp:4, async and local:16"},
        {"", "unknown mode ''"},
        {"ssp", "character 4 should begin a number from 0"},
        {"ssp:", "character 5 should begin a number from 0"},
        {"ssp:4x", "character 5 should begin a number"},
        {"ssp:-1", "character 5 should begin a number"},
        {"ssp:1000000001", "character 5 should begin a number"},
        {"local:0", "character 7 should begin a number from 1"},
        {"async:4", "character 6 should begin nothing"},
        {"sync:", "character 6 should begin the number of workers"},
        {"sync:N", "character 7 should begin '-' and a number"},
        {"sync:N-", "character 7 should begin '-' and a number"},
        {"sync:N-4", "with 4 at character 8 no push of 4 is left"},
        {"sync:5-1", "5 at character 6 is not the number of workers"},
        {"sync:N-1,late=never", "character 9 should begin ',late=drop'"},
        {"sync:N-1late", "character 9 should begin ',late=drop'"},
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(bad); i++) {
        gp_mode mode;

        assert_int_equal(gp_mode_parse(bad[i].text, 4, &mode), GP_ERR_CONFIG);
        job_expect_text(gp_last_error(), bad[i].says);
    }
    assert_int_equal(gp_mode_check(NULL), GP_ERR_INVALID);
    assert_int_equal(gp_mode_check("sync:5-1"), GP_OK);
    assert_int_equal(gp_mode_check("sync:5-5"), GP_ERR_CONFIG);
}

static gp_status
add(gp_worker *w, const char *mode, const char *updater, const char *codec,
    gp_tensor **out)
{
    gp_tensor_options o = GP_TENSOR_INIT;

    o.name = "t";
    o.count = 5000;
    o.updater = updater;
    o.codec = codec;
    o.mode = mode;
    return gp_tensor_register(w, &o, out);
}

static void
refusals_body(job *j, gp_worker *w, uint32_t rank)
{
    static const struct {
        const char *mode, *updater, *codec, *says;
    } bad[] = {
        {"async", "mean", "none", "sum and mean keep none on the shard"},
        {"ssp:2", "sum", "none", "sum and mean keep none on the shard"},
        {"sync:N-1", "mean", "none", "sum and mean keep none on the shard"},
        {"async", SGD, "intsum", "workers agree on a number"},
        {"ssp:1", SGD, "none|thc", "workers agree on a number"},
        {"async", SGD, "ef21+topk:0.1", "it sends differences"},
        {"local:4", "sum", "none", "use mean, sgd:lr=1"},
        {"async", "sgd:lr=1,clip=1", "none", "norm"},
        {"sinc", "mean", "none", "did you mean 'sync'"},
    };
    gp_tensor *t;

    (void)j, (void)rank;
    for (size_t i = 0; i < GP_COUNT_OF(bad); i++) {
        gp_status status =
            add(w, bad[i].mode, bad[i].updater, bad[i].codec, &t);

        job_require(status == GP_ERR_CONFIG || status == GP_ERR_UNSUPPORTED,
                    "%zu: %s", i, gp_status_name(status));
        job_require(strstr(gp_last_error(), bad[i].says) != NULL, "%s",
                    gp_last_error());
    }
    job_check(add(w, NULL, SGD, "none", &t)); /* mode=async of the config */
    job_check(gp_worker_ready(w));
}

static void
what_does_not_go_together_is_refused(void **state)
{
    job j = {.transport = "loop",
             .workers = 2,
             .shards = 1,
             .settings = {"mode", "async"},
             .body = refusals_body};

    (void)state;
    assert_int_equal(run_job(&j), GP_OK);
}

static void
differing_body(job *j, gp_worker *w, uint32_t rank)
{
    gp_tensor *t;

    job_check(add(w, rank ? "ssp:3" : "ssp:4", SGD, "none", &t));
    job_note(j, rank, gp_worker_ready(w));
}

static void
a_difference_is_named(void **state)
{
    job j = {
        .transport = "loop", .workers = 2, .shards = 1, .body = differing_body};
    uint32_t told; /* the first to register may not hear of the second */

    (void)state;
    (void)run_job(&j);
    told = j.ended[0] == GP_OK;
    job_expect_end(&j, told, GP_ERR_MISMATCH, "'t' has mode ssp:");
    job_expect_text(j.message[told], "ssp:3");
    job_expect_text(j.message[told], "ssp:4");
}

/* ---- jobs ------------------------------------------------------------ */

typedef struct setup {
    const char *mode, *codec, *pull_codec;
    uint32_t steps;
} setup;

#define COUNT 30000u

static gp_tensor *
register_one(gp_worker *w, const setup *s, const char *name)
{
    gp_tensor_options o = GP_TENSOR_INIT;
    gp_tensor *t;

    o.name = name;
    o.count = COUNT;
    o.updater = SGD;
    o.mode = s->mode;
    o.codec = s->codec;
    o.pull_codec = s->pull_codec;
    job_check(gp_tensor_register(w, &o, &t));
    return t;
}

/* Worker r moves the parameters by -1 at the elements r, r + W, ...: so they
 * say how many updates of each are in them. */
static void
updates_body(job *j, gp_worker *w, uint32_t rank)
{
    const setup *s = j->data;
    gp_tensor *t[2] = {register_one(w, s, "a"), register_one(w, s, "b")};
    float *grad = calloc(COUNT, sizeof(float));
    float *value[2];
    gp_request *r[2];
    uint64_t version = 0;

    for (uint32_t i = rank; i < COUNT; i += j->workers)
        grad[i] = -1;
    for (int k = 0; k < 2; k++) {
        value[k] = calloc(COUNT, sizeof(float));
        job_check(gp_broadcast(t[k], value[k], 0, &r[k]));
    }
    job_check(gp_wait_all(r, 2, -1));
    for (uint32_t n = 1; n <= s->steps; n++) {
        for (int k = 0; k < 2; k++)
            job_check(gp_push_pull(t[k], grad, value[k], &r[k]));
        job_check(gp_wait_all(r, 2, -1));
        for (int k = 0; k < 2; k++)
            for (uint32_t i = rank; i < COUNT; i += j->workers)
                job_require(value[k][i] == (float)n, "[%u] is %g after %u", i,
                            (double)value[k][i], n);
        job_require(gp_tensor_version(t[0]) > version);
        version = gp_tensor_version(t[0]);
    }
    job_check(gp_worker_rest(w));
    job_check(gp_barrier(w));
    for (int k = 0; k < 2; k++) {
        job_check(gp_pull(t[k], value[k], &r[k]));
        job_check(gp_wait(&r[k], -1));
        for (uint32_t i = 0; i < COUNT; i++)
            job_require(value[k][i] == (float)s->steps);
        job_require(gp_tensor_version(t[k]) == (uint64_t)s->steps * j->workers);
        free(value[k]);
    }
    free(grad);
}

static void
run(const char *transport, bool colocated, setup s)
{
    job j = {.transport = transport,
             .workers = 3,
             .shards = 2,
             .colocated = colocated,
             .settings = {"chunk_bytes", "16K"},
             .body = updates_body,
             .data = &s};
    gp_status status = run_job(&j);

    if (status != GP_OK)
        fail_msg("%s %s: %s %s", s.mode, transport, j.server_message,
                 j.message[0]);
}

static void
every_update_is_there_once(void **state)
{
    static const char *const modes[] = {"async", "ssp:0", "ssp:3"};

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(modes); i++) {
        run("loop", false, (setup){modes[i], "none", "none", 12});
        run("tcp", false, (setup){modes[i], "none", "fp16", 12});
        run("tcp", true, (setup){modes[i], "fp16", "none", 12});
        run("loop", true, (setup){modes[i], "q8|none", "bf16", 12});
    }
}

/* What error feedback holds back comes in the end, in any mode. */
static void
feedback_body(job *j, gp_worker *w, uint32_t rank)
{
    const setup *s = j->data;
    gp_tensor *t = register_one(w, s, "t");
    float *grad = malloc(COUNT * sizeof(float));
    float *value = calloc(COUNT, sizeof(float));
    gp_request *r;
    double moved = 0;

    (void)rank;
    for (uint32_t n = 0; n < s->steps; n++) {
        for (uint32_t i = 0; i < COUNT; i++)
            grad[i] = -1.0f / (float)(1 + i % 7);
        job_check(gp_push_pull(t, grad, value, &r));
        job_check(gp_wait(&r, -1));
    }
    job_check(gp_worker_rest(w));
    job_check(gp_barrier(w));
    job_check(gp_pull(t, value, &r));
    job_check(gp_wait(&r, -1));
    for (uint32_t i = 0; i < COUNT; i++)
        moved += value[i];
    for (uint32_t i = 0; i < COUNT; i++)
        moved -= (double)s->steps * j->workers / (1 + i % 7);
    /* At most what the last few steps have held back. */
    job_require(fabs(moved) < 12.0 * COUNT, "%g", moved);
    free(grad);
    free(value);
}

static void
feedback_works_without_steps(void **state)
{
    static const char *const modes[] = {"async", "ssp:2"};

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(modes); i++) {
        setup s = {modes[i], "topk:0.1", "none", 40};
        job j = {.transport = "loop",
                 .workers = 2,
                 .shards = 1,
                 .settings = {"chunk_bytes", "16K"},
                 .body = feedback_body,
                 .data = &s};

        assert_int_equal(run_job(&j), GP_OK);
    }
}

/* Backup workers: all push as often, and nobody waits at the end. */
static void
backups_body(job *j, gp_worker *w, uint32_t rank)
{
    const setup *s = j->data;
    gp_tensor *t[2] = {register_one(w, s, "a"), register_one(w, s, "b")};
    float *grad = malloc(COUNT * sizeof(float));
    float *value[2] = {calloc(COUNT, sizeof(float)),
                       calloc(COUNT, sizeof(float))};
    gp_request *r[2];

    (void)j, (void)rank;
    for (uint32_t i = 0; i < COUNT; i++)
        grad[i] = -1;
    for (uint32_t n = 0; n < s->steps; n++) {
        for (int k = 0; k < 2; k++)
            job_check(gp_push_pull(t[k], grad, value[k], &r[k]));
        job_check(gp_wait_all(r, 2, -1));
        for (int k = 0; k < 2; k++)
            for (uint32_t i = 0; i < COUNT; i++)
                job_require(value[k][i] >= (float)gp_tensor_version(t[k]));
    }
    job_check(gp_worker_rest(w));
    job_check(gp_barrier(w));
    free(grad);
    free(value[0]);
    free(value[1]);
}

static void
backups_do_not_wait(void **state)
{
    static const char *const modes[] = {"sync:N-1", "sync:3-2,late=carry",
                                        "sync:N-1,late=carry"};

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(modes); i++) {
        setup s = {modes[i], "none", "none", 40};
        job j = {.transport = i % 2 ? "tcp" : "loop",
                 .workers = 3,
                 .shards = 2,
                 .settings = {"chunk_bytes", "16K"},
                 .body = backups_body,
                 .data = &s};

        assert_int_equal(run_job(&j), GP_OK);
    }
}

/* ---- weights --------------------------------------------------------- */

static const double weights[] = {1, 3, 0.5};

static void
weighted_body(job *j, gp_worker *w, uint32_t rank)
{
    const setup *s = j->data;
    bool sums = strcmp(s->mode, "sum") == 0;
    gp_tensor_options o = GP_TENSOR_INIT;
    float *grad = malloc(COUNT * sizeof(float));
    gp_tensor *t;
    gp_request *r;
    double total = 0, product = 0;

    o.name = "t";
    o.count = COUNT;
    o.updater = s->mode;
    o.codec = s->codec;
    o.pull_codec = "none";
    job_check(gp_tensor_register(w, &o, &t));
    for (uint32_t k = 0; k < j->workers; k++) {
        total += weights[k];
        product += weights[k] * (k + 1);
    }
    for (uint32_t n = 0; n < s->steps; n++) {
        double weight = n % 2 ? 1 : weights[rank];
        double wanted = n % 2 ? 6 : product;

        wanted /= sums ? 1 : n % 2 ? 3 : total;
        for (uint32_t i = 0; i < COUNT; i++)
            grad[i] = (float)(rank + 1);
        job_check(gp_push_pull_weighted(t, grad, grad, weight, &r));
        job_check(gp_wait(&r, -1));
        for (uint32_t i = 0; i < COUNT; i++)
            job_require(fabs(grad[i] - wanted) < 2e-2, "%g, not %g",
                        (double)grad[i], wanted);
    }
    job_require(gp_push_pull_weighted(t, grad, grad, 0, &r) == GP_ERR_INVALID);
    job_require(gp_push_pull_weighted(t, grad, grad, -1, &r) == GP_ERR_INVALID);
    job_require(gp_push_pull_weighted(t, grad, grad, INFINITY, &r) ==
                GP_ERR_INVALID);
    job_require(gp_push_pull_weighted(t, grad, grad, NAN, &r) ==
                GP_ERR_INVALID);
    free(grad);
}

static void
weights_count(void **state)
{
    static const char *const codecs[] = {"none", "q8", "intsum:16", "fp16"};

    (void)state;
    for (size_t i = 0; i < 3 * GP_COUNT_OF(codecs); i++) {
        setup s = {i % 2 ? "sum" : "mean", codecs[i / 3], "none", 4};
        job j = {.transport = i % 3 ? "tcp" : "loop",
                 .workers = 3,
                 .shards = 2,
                 .colocated = i % 3 == 2,
                 .settings = {"chunk_bytes", "16K"},
                 .body = weighted_body,
                 .data = &s};

        if (run_job(&j) != GP_OK)
            fail_msg("%s: %s %s", s.codec, j.server_message, j.message[0]);
    }
}

static void
differing_weight_body(job *j, gp_worker *w, uint32_t rank)
{
    float grad[5000] = {0};
    gp_tensor *t;
    gp_request *r;

    (void)j, (void)rank;
    job_check(add(w, NULL, "mean", "ef21+topk:0.1", &t));
    job_require(gp_push_pull_weighted(t, grad, grad, 2, &r) ==
                GP_ERR_UNSUPPORTED);
    job_check(gp_push_pull_weighted(t, grad, grad, 1, &r));
    job_check(gp_wait(&r, -1));
}

static void
differences_have_no_weight(void **state)
{
    job j = {.transport = "loop",
             .workers = 2,
             .shards = 1,
             .body = differing_weight_body};

    (void)state;
    assert_int_equal(run_job(&j), GP_OK);
}

/* ---- local steps ----------------------------------------------------- */

#define ROUNDS 3
#define PERIOD 4

typedef struct outer {
    const char *updater;
    double lr, momentum;
    gp_dtype dtype;
} outer;

/* One number stands for all elements: they go the same way. */
static void
local_body(job *j, gp_worker *w, uint32_t rank)
{
    const outer *o = j->data;
    gp_tensor_options options = GP_TENSOR_INIT;
    float *params = malloc(COUNT * sizeof(float));
    double anchor = 8, velocity = 0;
    gp_stats before, after;
    gp_request *r;
    gp_tensor *t;

    options.name = "t";
    options.count = COUNT;
    options.updater = o->updater;
    options.codec = options.pull_codec = "none";
    options.mode = "local:4";
    gp_worker_stats(w, &before);
    job_check(gp_tensor_register(w, &options, &t));
    gp_worker_stats(w, &after);
    job_require(after.memory - before.memory >= COUNT * sizeof(float));
    job_require(gp_push_pull(t, params, params, &r) == GP_ERR_STATE);
    job_require(gp_push(t, params, &r) == GP_ERR_STATE);
    for (uint32_t i = 0; i < COUNT; i++)
        params[i] = rank == 1 ? 8 : 0;
    job_check(gp_broadcast(t, params, 1, &r));
    job_check(gp_wait(&r, -1));
    for (int n = 0; n < ROUNDS; n++) {
        double total = 0, moved = 0, step;

        for (int h = 0; h < PERIOD; h++) {
            for (uint32_t i = 0; i < COUNT; i++)
                params[i] -= 0.25f * (float)(rank + 1);
            job_check(gp_local_step(t, params, weights[rank], &r));
            if (h + 1 < PERIOD)
                job_require(gp_test(&r) == GP_OK);
            else
                job_require(gp_local_step(t, params, 1, &(gp_request *){0}) ==
                            GP_ERR_STATE);
            job_check(gp_wait(&r, -1));
        }
        for (uint32_t k = 0; k < j->workers; k++) {
            total += weights[k];
            moved += weights[k] * (k + 1);
        }
        velocity = o->momentum * velocity + moved / total;
        step =
            o->momentum > 0 ? moved / total + o->momentum * velocity : velocity;
        anchor -= o->lr * step;
        for (uint32_t i = 0; i < COUNT; i++)
            job_require(fabs(params[i] - anchor) < 1e-4, "%g, not %g",
                        (double)params[i], anchor);
    }
    job_require(gp_tensor_version(t) == ROUNDS);
    job_require(gp_local_step(t, params, 0, &r) == GP_ERR_INVALID);
    free(params);
}

static void
local_steps_average(void **state)
{
    static const outer outers[] = {
        {"sgd:lr=1", 1, 0, GP_FP32},
        {"mean", 1, 0, GP_FP32},
        {"sgd:lr=0.7,momentum=0.9,nesterov=1", 0.7, 0.9, GP_FP32},
    };

    (void)state;
    for (size_t i = 0; i < 2 * GP_COUNT_OF(outers); i++) {
        outer o = outers[i / 2];
        job j = {.transport = i % 2 ? "tcp" : "loop",
                 .workers = 3,
                 .shards = 2,
                 .colocated = i == 3,
                 .settings = {"chunk_bytes", "16K"},
                 .body = local_body,
                 .data = &o};

        if (run_job(&j) != GP_OK)
            fail_msg("%s: %s %s", o.updater, j.server_message, j.message[0]);
    }
}

static void
no_local_body(job *j, gp_worker *w, uint32_t rank)
{
    float params[5000] = {0};
    gp_tensor *t;
    gp_request *r;

    (void)j, (void)rank;
    job_check(add(w, "sync", "mean", "none", &t));
    job_require(gp_worker_rest(w) == GP_ERR_STATE);
    job_require(gp_local_step(t, params, 1, &r) == GP_ERR_STATE);
    job_require(gp_local_step(NULL, params, 1, &r) == GP_ERR_INVALID);
    job_require(gp_worker_rest(NULL) == GP_ERR_INVALID);
    job_require(gp_worker_hold(w, 1) == GP_ERR_STATE);
    job_require(gp_worker_hold(NULL, 1) == GP_ERR_INVALID);
    job_check(gp_worker_ready(w));
}

static void
local_steps_need_the_mode(void **state)
{
    job j = {
        .transport = "loop", .workers = 1, .shards = 1, .body = no_local_body};

    (void)state;
    assert_int_equal(run_job(&j), GP_OK);
}

static void
a_job_is_checked_before_it_is(void **state)
{
    (void)state;
    assert_int_equal(gp_job_check("sync:N-2", "sgd", NULL, 3, 0), GP_OK);
    assert_int_equal(gp_job_check("sync:N-2", "sgd", "auto", 0, 1), GP_OK);
    assert_int_equal(gp_job_check("sync:N-2", "sgd", NULL, 2, 0),
                     GP_ERR_CONFIG);
    assert_non_null(strstr(gp_last_error(), "no push of 2 is left"));
    assert_int_equal(gp_job_check("async", "mean", NULL, 0, 0), GP_ERR_CONFIG);
    assert_int_equal(gp_job_check("async", "sgd", "thc", 0, 0), GP_ERR_CONFIG);
    assert_int_equal(gp_job_check("sync", "sgd", "thc", 0, 0), GP_OK);
    assert_int_equal(gp_job_check("sync", "sgd", "thc", 0, 1), GP_ERR_CONFIG);
    assert_int_equal(gp_job_check("sync", "sgd:clip=1", NULL, 0, 1),
                     GP_ERR_CONFIG);
    assert_non_null(strstr(gp_last_error(), "norm of whole tensors"));
    assert_int_equal(gp_job_check("local:4", "mean", NULL, 0, 1),
                     GP_ERR_CONFIG);
    assert_int_equal(gp_job_check("sync", "sgd", "nosuch", 0, 0),
                     GP_ERR_CONFIG);
    assert_int_equal(gp_job_check("sync", "nosuch", NULL, 0, 0), GP_ERR_CONFIG);
    assert_int_equal(gp_job_check(NULL, "sgd", NULL, 0, 0), GP_ERR_INVALID);
    assert_int_equal(gp_group_codec_check("q8"), GP_OK);
    assert_int_equal(gp_group_codec_check("ef21"), GP_ERR_CONFIG);
    assert_int_equal(gp_group_codec_check("nosuch"), GP_ERR_CONFIG);
    assert_int_equal(gp_group_codec_check(NULL), GP_ERR_INVALID);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_have_one_form),
        cmocka_unit_test(errors_point_at_the_part),
        cmocka_unit_test(what_does_not_go_together_is_refused),
        cmocka_unit_test(a_difference_is_named),
        cmocka_unit_test(every_update_is_there_once),
        cmocka_unit_test(feedback_works_without_steps),
        cmocka_unit_test(backups_do_not_wait),
        cmocka_unit_test(weights_count),
        cmocka_unit_test(differences_have_no_weight),
        cmocka_unit_test(local_steps_average),
        cmocka_unit_test(local_steps_need_the_mode),
        cmocka_unit_test(a_job_is_checked_before_it_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
