/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_shard_ends_sim.c - what shards on a device refuse, keep and say, and
 * what is left when the driver fails: nothing, and no result that is wrong.
 */
#include <gradpush/server.h>

#include "base/json_text.h"
#include "shard/shard.h"
#include "tests/gpu/stream_trainer.h"

/* --- refusals --- */

static void
refuse_device(const char *device, gp_status expected, const char *part)
{
    gp_config *c;
    gp_server *server = NULL;

    job_check(gp_config_create(&c));
    job_set(c, "transport", "loop");
    job_set(c, "shard_device", device);
    expect(gp_server_create(c, &server), expected, part);
    assert_non_null(strstr(gp_last_error(), "GRADPUSH_SHARD_DEVICE is '"));
    job_require(server == NULL);
    gp_config_destroy(c);
    assert_int_equal(gp_sim_cuda_objects(), 0);
}

static void
unknown_devices_are_refused(void **state)
{
    (void)state;
    refuse_device("cuda:7", GP_ERR_NOT_FOUND, "2 CUDA devices");
    refuse_device("cudo", GP_ERR_CONFIG, "did you mean 'cuda'");
    gp_sim_cuda_fail("cuModuleLoadData", 1, 209);
    refuse_device("cuda", GP_ERR_SYSTEM, "set it to cpu");
    gp_sim_cuda_fail(NULL, 0, 0);
}

/* One of a program's own. */
static void
apply_own(void *instance, const gp_updater_step *step, const float *gradient,
          float *parameters, float *const *state, size_t count)
{
    (void)instance;
    (void)step;
    (void)state;
    for (size_t i = 0; i < count; i++)
        parameters[i] -= gradient[i];
}

static void
ask_for_updater(job *j, gp_worker *w, uint32_t rank)
{
    kind k = small;
    gp_status status;

    k.updater = j->data;
    add(w, &k, NULL);
    status = gp_worker_ready(w);
    if (strcmp(k.updater, "own") == 0)
        expect(status, GP_ERR_UNSUPPORTED,
               "sum, mean, sgd, adam, adamw, adagrad, rmsprop, lamb");
    else
        job_check(status);
    (void)rank;
}

static void
updaters_without_kernels_are_refused(void **state)
{
    static const char *const texts[] = {"own", "adamw", "lamb"};
    static const gp_updater_param params[] = {{NULL, 0, 0, 0, 0, NULL}};
    static const char *const arrays[] = {NULL};
    static const gp_updater_ops own = {.abi = GP_UPDATER_ABI,
                                       .name = "own",
                                       .text = "for this test",
                                       .params = params,
                                       .arrays = arrays,
                                       .apply = apply_own};

    (void)state;
    job_check(gp_updater_register(&own));
    for (size_t i = 0; i < GP_COUNT_OF(texts); i++) {
        job j = {.transport = "loop",
                 .workers = 1,
                 .shards = 1,
                 .settings = {"shard_device", "cuda"},
                 .body = ask_for_updater,
                 .data = (void *)texts[i]};

        (void)run_job(&j);
        assert_int_equal(j.created[0], GP_OK);
        assert_int_equal(gp_sim_cuda_objects(), 0);
    }
}

/* --- what is kept --- */

typedef struct kept_values {
    float *array[4];
    float *result;
} kept_values;

static const kind keeper = {"keeper", GP_FP32,          40001, 0, NULL,
                            "q8",     "adam:amsgrad=1", 0};
static const char *const names[4] = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq",
                                     "parameters"};

/* A job that goes on where another ended: what it is given is what it uses, and
 * what it says that it has. */
static void
go_on(job *j, gp_worker *w, uint32_t rank)
{
    kept_values *k = j->data;
    gp_tensor_options o = GP_TENSOR_INIT;
    float *values = (float *)room(bytes_of(&keeper));
    gp_request *r;
    gp_tensor *t;

    o.name = keeper.name;
    o.count = keeper.count;
    o.pull_codec = keeper.pull_codec;
    o.updater = keeper.updater;
    o.first_step = 3;
    job_check(gp_tensor_register(w, &o, &t));
    for (uint32_t i = 0; rank == 0 && i < 4; i++) {
        for (uint64_t n = 0; n < keeper.count; n++)
            k->array[i][n] = 1 + job_value(5, i, 0, n) / 4096;
        job_check(gp_tensor_load_state(t, names[i], k->array[i]));
    }
    if (rank == 0)
        memcpy(values, k->array[3], bytes_of(&keeper));
    job_check(gp_broadcast(t, values, 0, &r));
    job_check(gp_wait(&r, -1));
    for (uint32_t s = 0; s < 2; s++) {
        for (uint64_t n = 0; n < keeper.count; n++)
            values[n] = job_value(rank, 0, s, n) / 1024;
        job_check(gp_push_pull(t, values, values, &r));
        job_check(gp_wait(&r, -1));
    }
    if (rank == 0)
        memcpy(k->result, values, bytes_of(&keeper));
    for (uint32_t i = 0; rank == 0 && i < 4; i++)
        job_check(gp_tensor_save_state(t, names[i], k->array[i]));
    free(values);
}

static void
run_keeper(kept_values *k, const char *device)
{
    job j = {.transport = "tcp",
             .workers = 2,
             .shards = 2,
             .settings = {"shard_device", device, "chunk_bytes", "64K"},
             .body = go_on,
             .data = k};

    for (uint32_t i = 0; i < 4; i++)
        k->array[i] = (float *)room(bytes_of(&keeper));
    k->result = (float *)room(bytes_of(&keeper));
    if (run_job(&j) != GP_OK)
        fail_msg("%s%s", j.message[0], j.server_message);
    assert_int_equal(gp_sim_cuda_objects(), 0);
}

static void
jobs_go_on_where_others_ended(void **state)
{
    kept_values host, device;
    size_t bytes = bytes_of(&keeper);

    (void)state;
    run_keeper(&host, "cpu");
    run_keeper(&device, "cuda");
    assert_memory_equal(host.result, device.result, bytes);
    for (uint32_t i = 0; i < 4; i++) {
        assert_memory_equal(host.array[i], device.array[i], bytes);
        free(host.array[i]);
        free(device.array[i]);
    }
    free(host.result);
    free(device.result);
}

/* --- what is said --- */

/* A shard with that setting says all of these. */
static void
expect_said(const gp_shard_options *o, const char *setting, const char *where,
            const char *also)
{
    gp_config *c;
    gp_shard *shard;
    gp_json_text j;
    char text[4096];

    job_check(gp_config_create(&c));
    job_set(c, "transport", "loop");
    job_set(c, "shard_device", setting);
    job_check(gp_shard_create(c, o, &shard));
    gp_json_begin(&j, text, sizeof(text));
    gp_json_open(&j, NULL, '{');
    (void)gp_shard_describe(shard, &j);
    gp_json_shut(&j, '}');
    (void)gp_json_end(&j);
    assert_non_null(strstr(text, where));
    assert_non_null(strstr(text, also));
    gp_shard_destroy(shard);
    gp_config_destroy(c);
}

static void
says_where_it_is(void **state)
{
    gp_shard_options o = {
        .job = "x", .token = "", .shards = 1, .index = 0, .size = 1};
    const char *also = "\"pushes_decoded_by_host\":";

    (void)state;
    expect_said(&o, "auto", "\"cuda:0\"", also);
    expect_said(&o, "cuda:1", "\"cuda:1\"", also);
    expect_said(&o, "cuda:0", "\"direct_bytes\":0", "\"landed_bytes\":0");
}

/* Where shards of these numbers are. */
static void
expect_turns(const char *setting, const char *const where[4])
{
    gp_shard_options o = {.job = "x", .token = "", .shards = 4, .size = 1};

    for (int64_t i = 0; i < 4; i++) {
        o.index = i;
        expect_said(&o, setting, where[i], "");
    }
}

static void
shards_take_turns(void **state)
{
    static const char *const all[] = {"\"cuda:0\"", "\"cuda:1\"", "\"cuda:0\"",
                                      "\"cuda:1\""};
    static const char *const listed[] = {"\"cuda:1\"", "\"cpu\"", "\"cuda:0\"",
                                         "\"cuda:1\""};

    (void)state;
    expect_turns("cuda:all", all);
    expect_turns("cuda:1,cpu,cuda:0", listed);
}

/* --- faults --- */

static const char *fail_function;
static uint32_t fail_at;
static bool has_failed;

#define TENSORS_THAT_FAIL 4u

/* What a step gives is right, or it fails with the name of CUDA's error. */
static void
stumble(job *j, gp_worker *w, uint32_t rank)
{
    static const kind tensors[TENSORS_THAT_FAIL] = {
        {"plain", GP_FP32, 5001, 0, NULL, NULL, "sum", 0},
        {"coded", GP_FP32, 5001, 0, "q8", "q8", "mean", 0},
        {"clipped", GP_FP32, 5001, 0, NULL, NULL, "sgd:momentum=0.9,clip=1", 0},
        {"scaled", GP_FP32, 5001, 0, NULL, NULL, "lamb", 0},
    };
    float *values = (float *)room(5001 * sizeof(float));
    gp_tensor *t[TENSORS_THAT_FAIL];
    gp_request *r = NULL;
    gp_status status = GP_OK;

    (void)j;
    gp_sim_cuda_fail(fail_function, fail_at, 999);
    for (uint32_t i = 0; i < TENSORS_THAT_FAIL; i++)
        t[i] = add(w, &tensors[i], NULL);
    for (uint32_t s = 0; s < 2 && status == GP_OK; s++)
        for (uint32_t i = TENSORS_THAT_FAIL; i-- > 0 && status == GP_OK;) {
            fill(&tensors[i], rank, i, s, values);
            status = gp_push_pull(t[i], values, values, &r);
            if (status == GP_OK)
                status = gp_wait(&r, -1);
            job_require(status != GP_OK || i > 0 ||
                        values[77] == job_value(rank, 0, s, 77));
        }
    has_failed = gp_sim_cuda_failed();
    gp_sim_cuda_fail(NULL, 0, 0);
    job_require(has_failed || status == GP_OK, gp_last_error());
    job_require(status == GP_OK ||
                    strstr(gp_last_error(), "CUDA_ERROR_UNKNOWN"),
                gp_last_error());
    free(values);
}

/* The nth call of a function, until there are fewer. */
static void
fail_each(const char *function, uint32_t most)
{
    fail_function = function;
    has_failed = true;
    for (fail_at = 1; has_failed && fail_at <= most; fail_at++) {
        job j = {.transport = "loop",
                 .workers = 1,
                 .shards = 1,
                 .settings = {"shard_device", "cuda"},
                 .body = stumble};

        (void)run_job(&j);
        assert_int_equal(j.created[0], GP_OK);
        assert_int_equal(gp_sim_cuda_objects(), 0);
        assert_int_equal(gp_sim_cuda_pushed(), 0);
    }
    if (fail_at == 2)
        fail_msg("%s was never called", function ? function : "anything");
}

static void
faults_end_the_step(void **state)
{
    (void)state;
    job_log_start(); /* each says in the log what it is */
    fail_each("cuMemAlloc", 5);
    fail_each("cuLaunchKernel", 30);
    fail_each("cuMemcpyAsync", 20);
    fail_each("cuMemsetD8Async", 8);
    fail_each("cuEventRecord", 20);
    fail_each("cuEventQuery", 20);
    fail_each(NULL, 80);
    job_log_stop();
}

/* Rank 1 is gone while kernels may read what it has pushed; its slots are not
 * anybody's before they have. */
static void
vanish(job *j, gp_worker *w, uint32_t rank)
{
    static const kind coded_too = {"b",  GP_FP32, 70001,  0,
                                   "q8", "q8",    "mean", 0};
    static float values[2][2][70001]; /* workers outlive their bodies */
    gp_tensor *t[2] = {add(w, &kinds[1], NULL), add(w, &coded_too, NULL)};
    gp_request *r[2] = {NULL};
    gp_status status = GP_OK;

    (void)j;
    for (uint32_t s = 0; s < 3 && status == GP_OK; s++) {
        for (uint32_t i = 0; i < 2 && status == GP_OK; i++)
            status =
                gp_push_pull(t[i], values[rank][i], values[rank][i], &r[i]);
        if (rank == 1 && s == 1)
            return; /* and is destroyed */
        if (status == GP_OK)
            status = gp_wait_all(r, 2, -1);
    }
    job_require(rank == 1 || status == GP_OK || status == GP_ERR_PEER_LEFT ||
                    status == GP_ERR_PEER_LOST || status == GP_ERR_CANCELED,
                gp_last_error());
}

static void
workers_may_vanish(void **state)
{
    (void)state;
    job_log_start();
    for (uint32_t i = 0; i < 4; i++) {
        job j = {.transport = "tcp",
                 .workers = 2,
                 .shards = 2,
                 .settings = {"shard_device", "cuda", "chunk_bytes", "16K"},
                 .body = vanish};

        (void)run_job(&j);
        assert_int_equal(j.created[0], GP_OK);
        assert_int_equal(gp_sim_cuda_objects(), 0);
    }
    job_log_stop();
}

/* Opening fails at each call in turn, and leaves nothing. */
static void
faults_at_the_start_are_told(void **state)
{
    bool failed = true;

    (void)state;
    for (uint32_t n = 1; failed; n++) {
        gp_server *server = NULL;
        gp_config *c;
        gp_status status;

        assert_true(n < 400);
        job_check(gp_config_create(&c));
        job_set(c, "transport", "loop");
        job_set(c, "shard_device", "cuda");
        gp_sim_cuda_fail(NULL, n, 999);
        status = gp_server_create(c, &server);
        failed = gp_sim_cuda_failed();
        gp_sim_cuda_fail(NULL, 0, 0);
        assert_true(failed || status == GP_OK);
        if (status != GP_OK)
            assert_non_null(strstr(gp_last_error(), "CUDA_ERROR_UNKNOWN"));
        gp_server_destroy(server);
        gp_config_destroy(c);
        assert_int_equal(gp_sim_cuda_objects(), 0);
        assert_int_equal(gp_sim_cuda_pushed(), 0);
    }
}

int
main(void)
{
    static const gp_sim_cuda_options options = {.devices = 2, .delay_us = 20};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unknown_devices_are_refused),
        cmocka_unit_test(updaters_without_kernels_are_refused),
        cmocka_unit_test(jobs_go_on_where_others_ended),
        cmocka_unit_test(says_where_it_is),
        cmocka_unit_test(shards_take_turns),
        cmocka_unit_test(workers_may_vanish),
        cmocka_unit_test(faults_end_the_step),
        cmocka_unit_test(faults_at_the_start_are_told),
    };

    gp_sim_cuda_install(&options);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
