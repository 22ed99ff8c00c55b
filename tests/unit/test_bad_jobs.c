/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_bad_jobs.c - jobs that are put together wrongly: each ends within its
 * deadline, with a status and a sentence that names the fix.
 */
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "job_harness.h"

static void
expect_failure(const job *j, uint32_t rank, gp_status status, const char *part)
{
    if (j->created[rank] != status)
        fail_msg("rank %u: %s, not %s: %s", rank,
                 gp_status_name(j->created[rank]), gp_status_name(status),
                 j->message[rank]);
    job_expect_text(j->message[rank], part);
}

static void
no_body(job *j, gp_worker *w, uint32_t rank)
{
    (void)j, (void)w, (void)rank;
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

/* Jobs whose members give up. */
static void
run_patiently(job *j, const char *part)
{
    job_run_patiently(j, "connect_timeout", 800, part, was_too_short);
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
    job_note(j, rank, status);
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
            job_expect_end(&j, r, GP_ERR_MISMATCH, cases[i].says);
            job_expect_text(j.message[r], "worker 1");
            job_expect_text(j.message[r], "register");
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
    job_note(j, rank, status == GP_OK ? gp_barrier(w) : status);
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
        job_expect_end(&j, r, GP_ERR_MISMATCH, "chunk_bytes");
        job_expect_text(j.message[r], "alike");
    }
}

/* Tokens and job names. */

static void
token_tweak(job *j, gp_config *c, uint32_t rank)
{
    if (rank == 1)
        job_set(c, "token", j->data);
}

/* Without OpenSSL a token is refused, not ignored: by workers and servers. */
static bool
tokens_work(void)
{
#ifdef GP_HAVE_OPENSSL
    return true;
#else
    job j = {.transport = "tcp",
             .workers = 1,
             .colocated = true,
             .settings = {"token", "right"},
             .body = no_body};
    gp_config *c = job_config(&j);
    gp_server *server = NULL;

    (void)run_job(&j);
    expect_failure(&j, 0, GP_ERR_UNSUPPORTED, "build with libssl-dev");
    assert_int_equal(gp_server_create(c, &server), GP_ERR_UNSUPPORTED);
    assert_null(server);
    gp_config_destroy(c);
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
        job_expect_text(j.message[1], "GRADPUSH_TOKEN");
        job_expect_text(j.message[1], "127.0.0.1");
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
    job_expect_text(gp_last_error(), "GRADPUSH_TOKEN");
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
    job_expect_text(gp_last_error(), "another job than 'mine'");
    job_expect_text(gp_last_error(), "GRADPUSH_JOB");
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
    job_expect_text(j.message[refused], "GRADPUSH_RANK");
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

/* A server that was told another number than its workers does not learn theirs:
 * who has a stray size is refused, not the rest of the job. */
static void
server_was_told(void **state)
{
    job j = {.transport = "loop", .workers = 3, .shards = 1};
    gp_server *server;
    gp_config *c;
    gp_worker *w;

    (void)state;
    job_start_servers(&j);
    c = job_config(&j);
    job_set(c, "rank", "0");
    job_set(c, "size", "1");
    job_set(c, "servers", j.servers);
    assert_int_equal(gp_worker_create(c, &w), GP_ERR_MISMATCH);
    job_expect_text(gp_last_error(), "counts 1 workers, this shard 3");
    job_expect_text(gp_last_error(), "GRADPUSH_SIZE");
    gp_config_destroy(c);
    gp_server_destroy(j.server[0]);
    c = job_config(&j);
    job_set(c, "size", "0");
    assert_int_equal(gp_server_create(c, &server), GP_ERR_CONFIG);
    job_expect_text(gp_last_error(), "GRADPUSH_SIZE is 0");
    gp_config_destroy(c);
}

/* NULL for an object is an error, not a crash. */
static void
no_object(void **state)
{
    gp_stats stats = {.requests = 7};

    (void)state;
    assert_int_equal(gp_worker_ready(NULL), GP_ERR_INVALID);
    assert_int_equal(gp_barrier(NULL), GP_ERR_INVALID);
    assert_int_equal(gp_wait_all(NULL, 2, 1), GP_ERR_INVALID);
    assert_int_equal(gp_wait_all(NULL, 0, 1), GP_OK);
    assert_int_equal(gp_server_wait(NULL, 1), GP_ERR_INVALID);
    job_expect_text(gp_last_error(), "gp_server_wait: NULL");
    assert_int_equal(gp_worker_rank(NULL), 0);
    assert_int_equal(gp_worker_size(NULL), 0);
    assert_int_equal(gp_worker_shards(NULL), 0);
    assert_int_equal(gp_group_rank(NULL), 0);
    assert_int_equal(gp_group_size(NULL), 0);
    assert_int_equal(gp_server_shards(NULL), 0);
    assert_null(gp_server_address(NULL, 0));
    assert_null(gp_tensor_codec(NULL));
    assert_null(gp_config_get(NULL, "rank"));
    assert_null(gp_config_origin(NULL, "rank"));
    assert_int_equal(gp_config_int(NULL, "rank"), 0);
    gp_worker_stats(NULL, &stats);
    assert_int_equal(stats.requests, 0);
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
    job_expect_text(gp_last_error(), "shard 0");
    job_expect_text(gp_last_error(), address);
    job_expect_text(gp_last_error(), "is the address right?");
    gp_config_destroy(c);
}

/* A port that takes connections, behind which nobody speaks. */
static int
listen_silently(char *out, size_t capacity)
{
    struct sockaddr_in name = {.sin_family = AF_INET};
    socklen_t length = sizeof(name);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&name, length), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&name, &length), 0);
    snprintf(out, capacity, "127.0.0.1:%u", ntohs(name.sin_port));
    return fd;
}

static void
silent_shard(void **state)
{
    job j = {.transport = "tcp",
             .workers = 1,
             .settings = {"connect_timeout", "0.3s"},
             .body = no_body};
    char address[64];
    gp_config *c = job_config(&j);
    int fd = listen_silently(address, sizeof(address));
    gp_worker *w;

    (void)state;
    job_set(c, "rank", "0");
    job_set(c, "servers", address);
    assert_int_equal(gp_worker_create(c, &w), GP_ERR_UNREACHABLE);
    job_expect_text(gp_last_error(), address);
    job_expect_text(gp_last_error(),
                    "accepts the connection and does not answer: another "
                    "program may listen there");
    gp_config_destroy(c);
    close(fd);
}

static void
silent_store(void **state)
{
    job j = {.transport = "tcp",
             .workers = 2,
             .settings = {"connect_timeout", "0.3s", "shards", "1"},
             .body = no_body};
    char address[64];
    gp_config *c = job_config(&j);
    int fd = listen_silently(address, sizeof(address));
    gp_worker *w;

    (void)state;
    job_set(c, "rank", "1");
    job_set(c, "store", address);
    assert_int_equal(gp_worker_create(c, &w), GP_ERR_TIMEOUT);
    job_expect_text(gp_last_error(), address);
    job_expect_text(gp_last_error(),
                    "accepts the connection and does not answer");
    gp_config_destroy(c);
    close(fd);
}

/* No shards are none, which is not the same as unsaid. */
static void
no_shards(void **state)
{
    job j = {.transport = "tcp", .workers = 2, .body = no_body};
    gp_config *c = job_config(&j);
    gp_worker *w;

    (void)state;
    job_set(c, "rank", "1");
    job_set(c, "store", "127.0.0.1:9");
    job_set(c, "colocated", "off");
    assert_int_equal(gp_worker_create(c, &w), GP_ERR_CONFIG);
    job_expect_text(gp_last_error(), "GRADPUSH_SHARDS is not set");
    job_set(c, "shards", "0");
    assert_int_equal(gp_worker_create(c, &w), GP_ERR_CONFIG);
    job_expect_text(gp_last_error(), "GRADPUSH_SHARDS is 0");
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
    job_expect_text(gp_last_error(), j.servers);
    job_expect_text(gp_last_error(), "port is taken");
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
    job_expect_text(gp_last_error(), "did you mean 'tcp'?");
    assert_int_equal(gp_server_create(c, &server), GP_ERR_CONFIG);
    job_expect_text(gp_last_error(), "did you mean 'tcp'?");
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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_differ),
        cmocka_unit_test(settings_differ),
        cmocka_unit_test(wrong_token),
        cmocka_unit_test(surplus_token),
        cmocka_unit_test(wrong_job),
        cmocka_unit_test(rank_taken_twice),
        cmocka_unit_test(sizes_differ),
        cmocka_unit_test(server_was_told),
        cmocka_unit_test(no_object),
        cmocka_unit_test(servers_in_another_order),
        cmocka_unit_test(missing_worker),
        cmocka_unit_test(missing_worker_colocated),
        cmocka_unit_test(silent_shard),
        cmocka_unit_test(silent_store),
        cmocka_unit_test(no_shards),
        cmocka_unit_test(missing_shard),
        cmocka_unit_test(missing_shard_in_the_store),
        cmocka_unit_test(bad_addresses),
        cmocka_unit_test(port_in_use),
        cmocka_unit_test(unknown_transport),
        cmocka_unit_test(unknown_names),
        cmocka_unit_test(unknown_variable),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
