/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_reporter.c - the thread that answers `gradpush status`, and what real
 * members answer.
 */
#include "store_fixture.h"

#include <stdatomic.h>
#include <unistd.h>

#include "job_harness.h"
#include "rendezvous/reporter.h"
#include "rendezvous/store_session.h"
#include "worker/worker_int.h"

typedef struct subject {
    atomic_int asked;
    bool silent;
} subject;

static size_t
write_subject(gp_reported *r, uint64_t round, char *out, size_t capacity)
{
    subject *s = r->self;

    atomic_fetch_add(&s->asked, 1);
    return s->silent ? 0
                     : (size_t)snprintf(out, capacity, "round %llu",
                                        (unsigned long long)round);
}

static void
wait_for(gp_store *store, const char *key, const char *expected)
{
    char value[64] = "";
    size_t length = 0;
    uint64_t deadline = gp_deadline(SOON);

    do
        assert_int_equal(gp_store_watch(store, key, value, length, value,
                                        sizeof(value), &length, deadline),
                         GP_OK);
    while (length != strlen(expected) || memcmp(value, expected, length) != 0);
}

static void
questions_are_answered(void **state)
{
    gp_store_server *server = start("job", "127.0.0.1:0", "", NULL);
    gp_store *asker = member(gp_store_server_address(server));
    gp_store *store = member(gp_store_server_address(server));
    subject one = {0}, silent = {.silent = true}, unknown = {0};
    /* In this order: when the last has answered, all were asked. */
    gp_reported reported[] = {{GP_STATUS_SHARD, 1, &silent, write_subject},
                              {GP_STATUS_SHARD, -1, &unknown, write_subject},
                              {GP_STATUS_WORKER, 3, &one, write_subject}};
    gp_reporter *r;
    int64_t round;
    char value[64];
    size_t length;

    (void)state;
    assert_int_equal(gp_status_announce(store, 4, 2, true), GP_OK);
    wait_for(asker, GP_STATUS_JOB, "4 2 1");
    assert_int_equal(gp_reporter_start(store, reported, 3, &r), GP_OK);
    for (int64_t i = 1; i <= 3; i++) {
        char expected[32];

        assert_int_equal(gp_store_add(asker, GP_STATUS_ASKED, 1, &round),
                         GP_OK);
        assert_int_equal(round, i);
        snprintf(expected, sizeof(expected), "round %d", (int)i);
        wait_for(asker, "status/worker/3", expected);
    }
    assert_int_equal(gp_store_get(asker, "status/shard/1", value, sizeof(value),
                                  &length, gp_clock_ns()),
                     GP_ERR_TIMEOUT);
    gp_reporter_stop(r);
    /* Once unasked, when it began. */
    assert_int_equal(atomic_load(&one.asked), 4);
    assert_int_equal(atomic_load(&silent.asked), 4);
    /* The store is its owner's again. */
    assert_int_equal(gp_store_add(store, "n", 1, &round), GP_OK);
    gp_store_close(store);
    gp_store_close(asker);
    gp_store_stop(server);
}

static void
set(gp_store *store, const char *key, const char *value)
{
    assert_int_equal(gp_store_set(store, key, value, strlen(value)), GP_OK);
}

/* The store says so, of what was this connection's last and of nothing else. */
static void
who_is_gone_is_told(void **state)
{
    gp_store_server *server = start("job", "127.0.0.1:0", "", NULL);
    gp_store *asker = member(gp_store_server_address(server));
    gp_store *a = member(gp_store_server_address(server));
    gp_store *b = member(gp_store_server_address(server));
    subject s = {0};
    gp_reported reported = {GP_STATUS_WORKER, 8, &s, write_subject};
    gp_reporter *r;

    (void)state;
    set(a, "status/worker/9", "of a");
    set(a, "status/worker/9", "of a again");
    set(a, "status/shard/2", "a shard");
    set(a, "status/worker/", "no number");
    set(a, GP_STATUS_JOB, "4 2 1");
    set(b, "status/worker/9", "of b");
    assert_int_equal(gp_reporter_start(a, &reported, 1, &r), GP_OK);
    wait_for(asker, "status/worker/8", "round 0"); /* before any question */
    gp_reporter_stop(r);
    gp_store_close(a);
    wait_for(asker, "status/worker/8", GP_STORE_GONE);
    wait_for(asker, "status/shard/2", GP_STORE_GONE);
    wait_for(asker, "status/worker/9", "of b");
    wait_for(asker, "status/worker/", "no number");
    wait_for(asker, GP_STATUS_JOB, "4 2 1");
    gp_store_close(b);
    wait_for(asker, "status/worker/9", GP_STORE_GONE);
    gp_store_close(asker);
    gp_store_stop(server);
}

/* It ends at once, whether it waits, or the store has gone. */
static void
it_ends_at_once(void **state)
{
    gp_store_server *server = start("job", "127.0.0.1:0", "", NULL);
    gp_store *a = member(gp_store_server_address(server));
    gp_store *b = member(gp_store_server_address(server));
    subject s = {0};
    gp_reported reported = {GP_STATUS_WORKER, 0, &s, write_subject};
    gp_reporter *first, *second;
    double begin;

    (void)state;
    assert_int_equal(gp_reporter_start(a, &reported, 1, &first), GP_OK);
    assert_int_equal(gp_reporter_start(b, &reported, 1, &second), GP_OK);
    begin = job_seconds();
    gp_reporter_stop(first);
    gp_store_stop(server);
    gp_reporter_stop(second);
    gp_reporter_stop(NULL);
    /* A wait for the store takes ten minutes. */
    assert_true(job_seconds() - begin < 300);
    gp_store_close(a);
    gp_store_close(b);
}

/* What a job's members say, by key, while it runs. */

typedef struct answers {
    char worker[2][GP_STORE_VALUE_MAX + 1], shard[2][GP_STORE_VALUE_MAX + 1];
} answers;

static void
fetch(gp_store *store, const char *key, int64_t round, char *out)
{
    char mark[32];
    size_t length = 0;
    uint64_t deadline = gp_deadline(SOON);

    snprintf(mark, sizeof(mark), "\"round\":%lld,", (long long)round);
    do {
        job_check(gp_store_watch(store, key, out, length, out,
                                 GP_STORE_VALUE_MAX, &length, deadline));
        out[length] = '\0';
    } while (!strstr(out, mark));
}

static void
ask_all(gp_worker *w, answers *out)
{
    gp_store *store;
    int64_t round;

    job_check(gp_store_connect(w->config, w->job.store, w->token,
                               gp_deadline(SOON), &store));
    job_check(gp_store_add(store, GP_STATUS_ASKED, 1, &round));
    for (int i = 0; i < 2; i++) {
        char key[64];

        snprintf(key, sizeof(key), "%s%d", GP_STATUS_WORKER, i);
        fetch(store, key, round, out->worker[i]);
        snprintf(key, sizeof(key), "%s%d", GP_STATUS_SHARD, i);
        fetch(store, key, round, out->shard[i]);
    }
    gp_store_close(store);
}

static void
has(const char *document, const char *part)
{
    job_require(strstr(document, part), "no %s in %s", part, document);
}

/* Asks until both shards have what is on its way to them. */
static void
ask_until_waited(gp_worker *w, answers *out)
{
    static const char waited[] = "step 6 has waited";
    uint64_t deadline = gp_deadline(SOON);

    do
        ask_all(w, out);
    while (!(strstr(out->shard[0], waited) && strstr(out->shard[1], waited)) &&
           !gp_expired(deadline));
    has(out->shard[0], waited);
    has(out->shard[0], " s for worker 1");
    has(out->shard[1], waited);
}

static void
busy_body(job *j, gp_worker *w, uint32_t rank)
{
    answers *a = j->data;
    gp_tensor_options o = GP_TENSOR_INIT;
    gp_tensor *t;
    gp_request *r = NULL;
    float *data = calloc(40000, sizeof(float));

    job_require(data);
    o.name = "layer \"0\"";
    o.count = 40000;
    o.codec = "none|q8";
    o.first_step = 5;
    job_check(gp_tensor_register(w, &o, &t));
    job_check(gp_push_pull(t, data, data, &r));
    job_check(gp_wait(&r, -1));
    if (rank == 0) { /* the other one lets it wait */
        job_check(gp_push_pull(t, data, data, &r));
        ask_until_waited(w, a);
        has(a->worker[0], "\"schema\":\"gradpush.member/1\"");
        has(a->worker[0], "\"rank\":0,\"workers\":2,\"shards\":2");
        has(a->worker[0], "\"phase\":\"running\"");
        has(a->worker[0], "\"requests_open\":1,\"oldest\":{\"tensor\":"
                          "\"layer \\\"0\\\"\",\"step\":6");
        has(a->worker[0], "\"steps\":7");
        has(a->worker[0], "\"codec\":\"q8:");
        has(a->worker[1], "\"rank\":1");
        has(a->worker[1], "\"steps\":6");
        has(a->shard[0], "\"workers_joined\":2");
    }
    job_check(gp_barrier(w));
    if (rank == 1)
        job_check(gp_push_pull(t, data, data, &r));
    job_check(gp_wait(&r, -1));
    free(data);
}

static void
ask_a_job(void (*body)(job *, gp_worker *, uint32_t))
{
    job j = {.transport = "tcp", .workers = 2, .colocated = true, .body = body};

    j.data = calloc(1, sizeof(answers));
    assert_non_null(j.data);
    assert_int_equal(run_job(&j), GP_OK);
    free(j.data);
}

static void
members_tell_what_they_do(void **state)
{
    (void)state;
    ask_a_job(busy_body);
}

/* Large jobs do not fit and are cut to what does. */
static void
wide_body(job *j, gp_worker *w, uint32_t rank)
{
    float data[4] = {0};
    gp_request *r = NULL;
    gp_tensor *t[64];
    answers *a = j->data;

    for (int i = 0; i < 64; i++) {
        char name[256];

        memset(name, '"', sizeof(name) - 1);
        snprintf(name, 8, "%d", i);
        name[strlen(name)] = '"';
        name[255] = '\0';
        t[i] = job_tensor(w, name, (uint64_t)i % 4 + 1, "sum");
    }
    job_check(gp_push_pull(t[3], data, data, &r));
    job_check(gp_wait(&r, -1));
    if (rank == 0) {
        ask_all(w, a);
        has(a->worker[1], "\"tensors_all\":64,\"elements_all\":160");
        job_require(a->worker[1][strlen(a->worker[1]) - 1] == '}');
    }
    job_check(gp_barrier(w));
}

static void
many_tensors_are_cut(void **state)
{
    (void)state;
    ask_a_job(wide_body);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(questions_are_answered),
        cmocka_unit_test(who_is_gone_is_told),
        cmocka_unit_test(it_ends_at_once),
        cmocka_unit_test(members_tell_what_they_do),
        cmocka_unit_test(many_tensors_are_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
