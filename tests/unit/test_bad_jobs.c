/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_bad_jobs.c - jobs that are put together wrongly: each ends within its
 * deadline, with a status and a sentence that names the fix.
 */
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

static void
expect_text(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("'%s' does not say '%s'", text, part);
}

static void
expect_failure(const job *j, uint32_t rank, gp_status status, const char *part)
{
    if (j->created[rank] != status)
        fail_msg("rank %u: %s, not %s: %s", rank,
                 gp_status_name(j->created[rank]), gp_status_name(status),
                 j->message[rank]);
    expect_text(j->message[rank], part);
}

static void
no_body(job *j, gp_worker *w, uint32_t rank)
{
    (void)j, (void)w, (void)rank;
}

/* Keeps what a call ended with, for the main thread to look at. */
static void
note(job *j, uint32_t rank, gp_status status)
{
    j->ended[rank] = status;
    snprintf(j->message[rank], sizeof(j->message[0]), "%s",
             status == GP_OK ? "" : gp_last_error());
}

static void
expect_end(const job *j, uint32_t rank, gp_status status, const char *part)
{
    assert_int_equal(j->created[rank], GP_OK);
    if (j->ended[rank] != status)
        fail_msg("rank %u: %s, not %s: %s", rank,
                 gp_status_name(j->ended[rank]), gp_status_name(status),
                 j->message[rank]);
    expect_text(j->message[rank], part);
}

/* Whether a member's patience ended before it came as far as all others, so
 * that it cannot say `part` yet. */
static bool
was_too_short(const job *j, const char *part)
{
    for (uint32_t r = 0; r < j->workers; r++) {
        gp_status s = j->created[r];
        bool waited = s == GP_ERR_TIMEOUT || s == GP_ERR_PEER_LEFT;

        if (s == GP_ERR_UNREACHABLE || s == GP_ERR_STATE ||
            (waited && !strstr(j->message[r], part)))
            return true;
    }
    return false;
}

/* Jobs whose members give up: little patience is enough on an idle machine; a
 * busy one gets more of it until whoever waits can say `part`. */
static void
run_patiently(job *j, const char *part)
{
    const job fresh = *j;
    unsigned ms = 800;

    do {
        char patience[16];

        snprintf(patience, sizeof(patience), "%ums", ms);
        *j = fresh;
        memcpy(j->settings + 2, fresh.settings, sizeof(fresh.settings) / 2);
        j->settings[0] = "connect_timeout";
        j->settings[1] = patience;
        (void)run_job(j);
        j->settings[0] = NULL;
        ms *= 3;
    } while (ms < 60000 && was_too_short(j, part));
}

/* Tensor lists that differ. */

static void
lists_body(job *j, gp_worker *w, uint32_t rank)
{
    const char *kind = j->data;
    gp_tensor_options o = GP_TENSOR_INIT;
    gp_tensor *t;
    float data[300] = {0};
    gp_request *r = NULL;
    gp_status status;

    (void)job_tensor(w, "same", 10, "sum");
    o.name = "odd";
    o.count = 200;
    if (rank == 1 && strcmp(kind, "count") == 0)
        o.count = 300;
    if (rank == 1 && strcmp(kind, "name") == 0)
        o.name = "other";
    if (rank == 1 && strcmp(kind, "dtype") == 0)
        o.dtype = GP_FP16;
    if (rank == 1 && strcmp(kind, "updater") == 0)
        o.updater = "sum";
    if (rank == 0 || strcmp(kind, "missing") != 0) {
        job_check(gp_tensor_register(w, &o, &t));
        status = gp_push_pull(t, data, data, &r);
    } else {
        status = gp_worker_ready(w);
    }
    if (status == GP_OK)
        status = r ? gp_wait(&r, -1) : gp_barrier(w);
    note(j, rank, status);
}

static void
lists_differ(void **state)
{
    static const struct {
        const char *kind, *says;
    } cases[] = {{"count", "300"},
                 {"name", "other"},
                 {"dtype", "fp16"},
                 {"updater", "sum"},
                 {"missing", "'odd'"}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        job j = {.transport = i % 2 ? "tcp" : "loop",
                 .workers = 2,
                 .shards = 2,
                 .body = lists_body,
                 .data = (void *)(uintptr_t)cases[i].kind};

        assert_int_equal(run_job(&j), GP_ERR_MISMATCH);
        for (uint32_t r = 0; r < 2; r++) {
            expect_end(&j, r, GP_ERR_MISMATCH, cases[i].says);
            expect_text(j.message[r], "worker 1");
            expect_text(j.message[r], "register");
        }
    }
}

static void
chunks_tweak(job *j, gp_config *c, uint32_t rank)
{
    (void)j;
    job_set(c, "chunk_bytes", rank ? "32K" : "16K");
}

static void
settings_body(job *j, gp_worker *w, uint32_t rank)
{
    gp_status status;

    (void)job_tensor(w, "t", 10, "sum");
    status = gp_worker_ready(w);
    note(j, rank, status == GP_OK ? gp_barrier(w) : status);
}

static void
settings_differ(void **state)
{
    job j = {.transport = "tcp",
             .workers = 2,
             .shards = 1,
             .body = settings_body,
             .tweak = chunks_tweak};

    (void)state;
    assert_int_equal(run_job(&j), GP_ERR_MISMATCH);
    for (uint32_t r = 0; r < 2; r++) {
        expect_end(&j, r, GP_ERR_MISMATCH, "chunk_bytes");
        expect_text(j.message[r], "alike");
    }
}

/* A worker with fewer batches than the others. */

static void
batches_body(job *j, gp_worker *w, uint32_t rank)
{
    gp_tensor *t = job_tensor(w, "weights", 5000, "mean");
    float *data = calloc(5000, sizeof(float));
    uint32_t steps = rank == 1 ? 3 : 5;
    gp_status status = GP_OK;
    gp_request *r;

    for (uint32_t s = 0; s < steps && status == GP_OK; s++) {
        status = gp_push_pull(t, data, data, &r);
        if (status == GP_OK)
            status = gp_wait(&r, -1);
    }
    note(j, rank, status);
    free(data);
}

static void
fewer_batches(void **state)
{
    (void)state;
    for (uint32_t kind = 0; kind < 4; kind++) {
        job j = {.transport = kind % 2 ? "tcp" : "loop",
                 .workers = 2,
                 .shards = 2,
                 .colocated = kind >= 2,
                 .body = batches_body};

        (void)run_job(&j);
        assert_int_equal(j.ended[1], GP_OK);
        expect_end(&j, 0, GP_ERR_PEER_LEFT,
                   "worker 1 left the job after 3 steps of tensor 'weights'");
        expect_text(j.message[0], "the same number of batches");
        if (kind < 2)
            assert_int_equal(j.server_status, GP_ERR_PEER_LEFT);
    }
}

/* The same, when the one with fewer has long left before the other pushes. */
static void
gone_body(job *j, gp_worker *w, uint32_t rank)
{
    const char *codec = j->data;
    gp_tensor_options o = GP_TENSOR_INIT;
    float *data = calloc(5000, sizeof(float));
    double patience = job_seconds() + 20;
    gp_status status = GP_OK;
    gp_request *r;
    gp_tensor *t;

    o.name = "weights";
    o.count = 5000;
    o.codec = codec;
    o.pull_codec = "none";
    job_check(gp_tensor_register(w, &o, &t));
    for (uint32_t s = 0; s < (rank == 1 ? 3 : 4) && status == GP_OK; s++) {
        while (s == 3 && !atomic_load(&j->gone[1]))
            job_require(job_seconds() < patience);
        status = gp_push_pull(t, data, data, &r);
        if (status == GP_OK)
            status = gp_wait(&r, -1);
    }
    note(j, rank, status);
    free(data);
}

static void
one_left_long_ago(void **state)
{
    static const char *const codecs[4] = {"none", "q8", "topk:0.1", "intsum"};

    (void)state;
    for (uint32_t i = 0; i < 8; i++) {
        job j = {.transport = i % 2 ? "tcp" : "loop",
                 .workers = 2,
                 .shards = 2,
                 .data = (void *)(uintptr_t)codecs[i / 2],
                 .body = gone_body};

        (void)run_job(&j);
        assert_int_equal(j.ended[1], GP_OK);
        expect_end(&j, 0, GP_ERR_PEER_LEFT, "worker 1 left the job after 3");
    }
}

static void
barrier_left_body(job *j, gp_worker *w, uint32_t rank)
{
    /* The first makes sure that all have joined before one leaves. Whoever is
     * slow to return from it learns of that departure in the second. */
    job_check(gp_barrier(w));
    note(j, rank, rank == 1 ? GP_OK : gp_barrier(w));
}

static void
barrier_without_one(void **state)
{
    job j = {.transport = "tcp",
             .workers = 3,
             .shards = 1,
             .body = barrier_left_body};

    (void)state;
    assert_int_equal(run_job(&j), GP_ERR_PEER_LEFT);
    expect_end(&j, 0, GP_ERR_PEER_LEFT, "worker 1 left the job while worker");
}

/* Tokens and job names. */

static void
token_tweak(job *j, gp_config *c, uint32_t rank)
{
    if (rank == 1)
        job_set(c, "token", j->data);
}

/* Without OpenSSL a token is refused, not ignored. */
static bool
tokens_work(void)
{
#ifdef GP_HAVE_OPENSSL
    return true;
#else
    job j = {.transport = "tcp",
             .workers = 1,
             .shards = 1,
             .settings = {"token", "right"},
             .body = no_body};

    (void)run_job(&j);
    expect_failure(&j, 0, GP_ERR_UNSUPPORTED, "build with libssl-dev");
    print_message("skipped: tokens need OpenSSL, which this build lacks\n");
    return false;
#endif
}

static void
wrong_token(void **state)
{
    static char *const tokens[] = {"wrong", ""};

    (void)state;
    if (!tokens_work())
        skip();
    for (size_t i = 0; i < 2; i++) {
        job j = {.transport = "tcp",
                 .workers = 2,
                 .shards = 1,
                 .settings = {"token", "right"},
                 .body = no_body,
                 .tweak = token_tweak,
                 .data = tokens[i]};

        job_log_start();
        run_patiently(&j, "worker 1 of 2 has not joined");
        job_log_stop();
        expect_failure(&j, 1, GP_ERR_AUTH, "wrong job token");
        expect_text(j.message[1], "GRADPUSH_TOKEN");
        expect_text(j.message[1], "127.0.0.1");
        /* The other waits, and says for whom. */
        expect_failure(&j, 0, GP_ERR_TIMEOUT, "worker 1 of 2 has not joined");
        assert_true(job_log_has("refused a connection"));
    }
}

static void
surplus_token(void **state)
{
    job j = {.transport = "tcp", .workers = 1, .shards = 1, .body = no_body};
    gp_config *c;
    gp_worker *w = NULL;

    (void)state;
    if (!tokens_work())
        skip();
    job_start_servers(&j);
    c = job_config(&j);
    job_set(c, "rank", "0");
    job_set(c, "servers", j.servers);
    job_set(c, "token", "a token that the shard does not have");
    assert_int_equal(gp_worker_create(c, &w), GP_ERR_AUTH);
    assert_null(w);
    expect_text(gp_last_error(), "GRADPUSH_TOKEN");
    gp_config_destroy(c);
    gp_server_destroy(j.server[0]);
}

static void
name_tweak(job *j, gp_config *c, uint32_t rank)
{
    (void)j;
    if (rank == 0)
        job_set(c, "job", "another");
}

static void
wrong_job(void **state)
{
    job j = {.transport = "loop",
             .workers = 1,
             .shards = 1,
             .settings = {"job", "mine"},
             .body = no_body,
             .tweak = name_tweak};
    gp_config *c;
    gp_worker *w;

    (void)state;
    job_start_servers(&j);
    c = job_config(&j);
    job_set(c, "rank", "0");
    job_set(c, "servers", j.servers);
    job_set(c, "job", "another");
    assert_int_equal(gp_worker_create(c, &w), GP_ERR_REFUSED);
    expect_text(gp_last_error(), "another job than 'mine'");
    expect_text(gp_last_error(), "GRADPUSH_JOB");
    gp_config_destroy(c);
    gp_server_destroy(j.server[0]);
}

/* Ranks and sizes. */

static void
twice_tweak(job *j, gp_config *c, uint32_t rank)
{
    (void)j;
    if (rank == 2)
        job_set(c, "rank", "1");
}

static void
rank_taken_twice(void **state)
{
    job j = {.transport = "tcp",
             .workers = 3,
             .shards = 1,
             .body = no_body,
             .tweak = twice_tweak};
    uint32_t refused;

    (void)state;
    run_patiently(&j, "worker 2 of 3 has not joined");
    refused = j.created[1] == GP_ERR_EXISTS ? 1 : 2;
    expect_failure(&j, refused, GP_ERR_EXISTS, "rank 1 is taken by");
    expect_text(j.message[refused], "GRADPUSH_RANK");
    /* Whose patience ends first gives up, and takes the other along. */
    expect_failure(&j, 0,
                   j.created[0] == GP_ERR_PEER_LEFT ? GP_ERR_PEER_LEFT
                                                    : GP_ERR_TIMEOUT,
                   "worker 2 of 3 has not joined");
}

static void
size_tweak(job *j, gp_config *c, uint32_t rank)
{
    (void)j;
    if (rank == 1)
        job_set(c, "size", "3");
}

static void
sizes_differ(void **state)
{
    job j = {.transport = "tcp",
             .workers = 2,
             .shards = 1,
             .body = no_body,
             .tweak = size_tweak};
    uint32_t refused;

    (void)state;
    run_patiently(&j, "not joined");
    refused = j.created[0] == GP_ERR_MISMATCH ? 0 : 1;
    expect_failure(&j, refused, GP_ERR_MISMATCH, "workers");
    assert_int_not_equal(j.created[!refused], GP_OK);
}

static void
order_tweak(job *j, gp_config *c, uint32_t rank)
{
    char turned[600];
    const char *comma = strchr(j->servers, ',');

    if (rank == 0)
        return;
    snprintf(turned, sizeof(turned), "%s,%.*s", comma + 1,
             (int)(comma - j->servers), j->servers);
    job_set(c, "servers", turned);
}

static void
servers_in_another_order(void **state)
{
    job j = {.transport = "loop",
             .workers = 2,
             .shards = 2,
             .body = no_body,
             .tweak = order_tweak};

    (void)state;
    run_patiently(&j, "not joined");
    assert_true(j.created[0] == GP_ERR_MISMATCH ||
                j.created[1] == GP_ERR_MISMATCH);
    assert_int_not_equal(j.created[0], GP_OK);
    assert_int_not_equal(j.created[1], GP_OK);
}

/* Who is missing. */

static void
missing_worker(void **state)
{
    job j = {.transport = "tcp",
             .workers = 3,
             .shards = 2,
             .body = no_body,
             .absent = {false, true, true}};

    (void)state;
    run_patiently(&j, "workers 1, 2 of 3 have not joined");
    expect_failure(&j, 0, GP_ERR_TIMEOUT, "workers 1, 2 of 3 have not joined");
}

static void
missing_worker_colocated(void **state)
{
    job j = {.transport = "tcp",
             .workers = 2,
             .colocated = true,
             .body = no_body,
             .absent = {false, true}};

    (void)state;
    run_patiently(&j, "shard 1");
    expect_failure(&j, 0, GP_ERR_TIMEOUT, "shard 1");
}

static void
missing_shard(void **state)
{
    job j = {.transport = "tcp",
             .workers = 1,
             .settings = {"connect_timeout", "0.3s"},
             .body = no_body};
    char address[64];
    gp_config *c = job_config(&j);
    gp_worker *w;

    (void)state;
    job_free_port(address, sizeof(address));
    job_set(c, "rank", "0");
    job_set(c, "servers", address);
    assert_int_equal(gp_worker_create(c, &w), GP_ERR_UNREACHABLE);
    expect_text(gp_last_error(), "shard 0");
    expect_text(gp_last_error(), address);
    expect_text(gp_last_error(), "is the address right?");
    gp_config_destroy(c);
}

static void
store_tweak(job *j, gp_config *c, uint32_t rank)
{
    (void)rank;
    job_set(c, "store", j->data);
}

static void
missing_shard_in_the_store(void **state)
{
    char address[64];
    job j = {.transport = "tcp",
             .workers = 1,
             .settings = {"shards", "2", "store_host", "on"},
             .body = no_body,
             .tweak = store_tweak,
             .data = address};

    (void)state;
    job_free_port(address, sizeof(address));
    run_patiently(&j, "shard 0");
    expect_failure(&j, 0, GP_ERR_TIMEOUT, "shard 0");
}

static void
bad_addresses(void **state)
{
    static const struct {
        const char *servers;
        gp_status status;
    } cases[] = {{"127.0.0.1:99999", GP_ERR_ADDRESS},
                 {"127.0.0.1", GP_ERR_ADDRESS},
                 {"no-such-host.invalid:1", GP_ERR_ADDRESS},
                 {"127.0.0.1:1,,127.0.0.1:2", GP_ERR_CONFIG}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        job j = {.transport = "tcp",
                 .workers = 1,
                 .settings = {"connect_timeout", "0.3s"},
                 .body = no_body};
        gp_config *c = job_config(&j);
        gp_worker *w;

        job_set(c, "rank", "0");
        job_set(c, "servers", cases[i].servers);
        if (gp_worker_create(c, &w) != cases[i].status)
            fail_msg("%s: %s", cases[i].servers, gp_last_error());
        gp_config_destroy(c);
    }
}

static void
port_in_use(void **state)
{
    job j = {.transport = "tcp", .workers = 1, .shards = 1, .body = no_body};
    gp_config *c;
    gp_server *second;

    (void)state;
    job_start_servers(&j);
    c = job_config(&j);
    job_set(c, "listen", j.servers);
    assert_int_equal(gp_server_create(c, &second), GP_ERR_ADDRESS);
    expect_text(gp_last_error(), j.servers);
    expect_text(gp_last_error(), "port is taken");
    gp_config_destroy(c);
    gp_server_destroy(j.server[0]);
}

/* Names nobody knows. */

static void
unknown_transport(void **state)
{
    job j = {.transport = "tpc", .workers = 1, .body = no_body};
    gp_config *c = job_config(&j);
    gp_server *server;
    gp_worker *w;

    (void)state;
    job_set(c, "rank", "0");
    job_set(c, "servers", "127.0.0.1:1");
    assert_int_equal(gp_worker_create(c, &w), GP_ERR_CONFIG);
    expect_text(gp_last_error(), "did you mean 'tcp'?");
    assert_int_equal(gp_server_create(c, &server), GP_ERR_CONFIG);
    expect_text(gp_last_error(), "did you mean 'tcp'?");
    gp_config_destroy(c);
}

static void
names_body(job *j, gp_worker *w, uint32_t rank)
{
    static const struct {
        const char *codec, *updater, *says;
    } cases[] = {{"q9", "sum", "did you mean 'q8'?"},
#ifdef GP_HAVE_LZ4
                 {"q8+lz5", "sum", "did you mean 'lz4'?"},
#else
                 {"q8+lz4", "sum", "this build has no lz4"},
#endif
                 {"none", "meen", "did you mean 'mean'?"},
                 {"none", "sgd:lrr=1", "did you mean 'lr'?"},
                 {"none", "sgd:lr=x", "number"},
                 {"none", "sgd:nesterov=1", "momentum"}};
    gp_tensor_options o = GP_TENSOR_INIT;
    gp_tensor *t = NULL;

    (void)j, (void)rank;
    o.name = "t";
    o.count = 10;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        o.codec = cases[i].codec;
        o.updater = cases[i].updater;
        job_require(gp_tensor_register(w, &o, &t) == GP_ERR_CONFIG);
        job_require(strstr(gp_last_error(), cases[i].says), "%s",
                    gp_last_error());
    }
    o.codec = "none";
    o.updater = "sum";
    o.count = 0;
    job_require(gp_tensor_register(w, &o, &t) == GP_ERR_INVALID);
    o.count = 1;
    o.dtype = (gp_dtype)77;
    job_require(gp_tensor_register(w, &o, &t) == GP_ERR_INVALID);
    o.dtype = GP_FP32;
    o.name = "";
    job_require(gp_tensor_register(w, &o, &t) == GP_ERR_INVALID);
    job_require(t == NULL);
    job_require(gp_worker_ready(w) == GP_ERR_STATE);
    o.name = "t";
    job_check(gp_tensor_register(w, &o, &t));
    job_require(gp_tensor_register(w, &o, &t) == GP_ERR_EXISTS);
    job_check(gp_worker_ready(w));
    o.name = "late";
    job_require(gp_tensor_register(w, &o, &t) == GP_ERR_STATE);
    job_require(strstr(gp_last_error(), "before"), "%s", gp_last_error());
}

static void
unknown_names(void **state)
{
    job j = {
        .transport = "loop", .workers = 1, .shards = 1, .body = names_body};

    (void)state;
    assert_int_equal(run_job(&j), GP_OK);
}

static void
unknown_variable(void **state)
{
    gp_config *c;

    (void)state;
    setenv("GRADPUSH_CHUNK_BYTE", "1M", 1);
    job_log_start();
    assert_int_equal(gp_config_create(&c), GP_OK);
    job_log_stop();
    assert_true(job_log_has("GRADPUSH_CHUNK_BYTES"));
    gp_config_destroy(c);
    unsetenv("GRADPUSH_CHUNK_BYTE");
}

/* Waits that end at their deadline say who is late. */

#define LONG 60.0 /* ends what hangs */

static void
await(atomic_bool *over)
{
    double deadline = job_seconds() + LONG;

    while (!atomic_load(over)) {
        job_require(job_seconds() < deadline);
        usleep(1000);
    }
}

static void
late_body(job *j, gp_worker *w, uint32_t rank)
{
    gp_tensor *t = job_tensor(w, "slow", 100, "sum");
    float data[100] = {0};
    atomic_bool *over = j->data;
    double deadline = job_seconds() + LONG;
    gp_request *r;

    job_check(gp_worker_ready(w));
    if (rank == 1) {
        await(over);
    } else {
        job_check(gp_push_pull(t, data, data, &r));
        while (gp_wait(&r, 0.2) == GP_ERR_TIMEOUT &&
               !strstr(gp_last_error(), "for worker 1"))
            job_require(job_seconds() < deadline);
        job_require(r != NULL);
        note(j, 0, gp_wait(&r, 0));
        atomic_store(over, true);
    }
    if (rank == 1)
        job_check(gp_push_pull(t, data, data, &r));
    job_check(gp_wait(&r, -1));
}

static void
late_worker_is_named(void **state)
{
    atomic_bool over = false;
    job j = {.transport = "tcp",
             .workers = 2,
             .shards = 1,
             .body = late_body,
             .data = &over};

    (void)state;
    assert_int_equal(run_job(&j), GP_OK);
    expect_end(&j, 0, GP_ERR_TIMEOUT, "tensor 'slow' step 0");
    expect_text(j.message[0], "for worker 1");
}

static void
barrier_body(job *j, gp_worker *w, uint32_t rank)
{
    atomic_bool *over = j->data;

    if (rank == 1) {
        await(over);
        return;
    }
    note(j, rank, gp_barrier(w));
    atomic_store(over, true);
}

static void
late_barrier_names_the_worker(void **state)
{
    static const char *const patience[] = {"1.4s", "4s", "20s"};
    job j;

    (void)state;
    for (size_t i = 0; i < sizeof(patience) / sizeof(patience[0]); i++) {
        atomic_bool over = false;

        j = (job){.transport = "tcp",
                  .workers = 2,
                  .shards = 1,
                  .settings = {"timeout", patience[i]},
                  .body = barrier_body,
                  .data = &over};
        (void)run_job(&j);
        if (strstr(j.message[0], "worker 1"))
            break; /* else the shard was too busy to say it in time */
    }
    expect_end(&j, 0, GP_ERR_TIMEOUT, "worker 1");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_differ),
        cmocka_unit_test(settings_differ),
        cmocka_unit_test(fewer_batches),
        cmocka_unit_test(one_left_long_ago),
        cmocka_unit_test(barrier_without_one),
        cmocka_unit_test(wrong_token),
        cmocka_unit_test(surplus_token),
        cmocka_unit_test(wrong_job),
        cmocka_unit_test(rank_taken_twice),
        cmocka_unit_test(sizes_differ),
        cmocka_unit_test(servers_in_another_order),
        cmocka_unit_test(missing_worker),
        cmocka_unit_test(missing_worker_colocated),
        cmocka_unit_test(missing_shard),
        cmocka_unit_test(missing_shard_in_the_store),
        cmocka_unit_test(bad_addresses),
        cmocka_unit_test(port_in_use),
        cmocka_unit_test(unknown_transport),
        cmocka_unit_test(unknown_names),
        cmocka_unit_test(unknown_variable),
        cmocka_unit_test(late_worker_is_named),
        cmocka_unit_test(late_barrier_names_the_worker),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
