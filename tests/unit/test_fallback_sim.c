/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_fallback_sim.c - whole jobs where verbs is there and leads nowhere, on a
 * simulated fabric beside real sockets: auto goes over tcp and says why in one
 * line, and who names verbs gets an error with the fix.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <gradpush/collective.h>

#include "base/base.h"
#include "job_harness.h"
#include "tests/sim/sim.h"

#define COUNT 5000u

static struct {
    pthread_mutex_t lock;
    int lines;  /* that tell of the other way */
    int warned; /* lines of shards that do not even begin with verbs */
    int detours;
    char text[1024];
} said = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void
hear(void *user, gp_log_level level, const char *line)
{
    (void)user;
    pthread_mutex_lock(&said.lock);
    said.warned += level == GP_LOG_WARN && strstr(line, "tcp, not verbs");
    said.detours += level == GP_LOG_WARN && strstr(line, "connected over");
    if (strstr(line, "but tcp is used")) {
        said.lines++;
        strncpy(said.text, line, sizeof(said.text) - 1);
    }
    pthread_mutex_unlock(&said.lock);
}

static void
body(job *j, gp_worker *w, uint32_t rank)
{
    gp_tensor *t = job_tensor(w, "t", COUNT, "sum");
    float *data = malloc(COUNT * sizeof(float));
    gp_request *r;

    (void)rank;
    job_require(data != NULL);
    for (uint32_t i = 0; i < COUNT; i++)
        data[i] = (float)(i % 100);
    job_check(gp_push_pull(t, data, data, &r));
    job_check(gp_wait(&r, -1));
    for (uint32_t i = 0; i < COUNT; i++)
        job_require(data[i] == (float)(j->workers * (i % 100)));
    free(data);
}

typedef struct trouble {
    gp_sim *sim;
    const char *call; /* that fails for the first connection */
    int error;
    unsigned refused, lost;
    bool removed; /* the only device, once servers listen */
    bool down;    /* port 1 of the first device, likewise */
    atomic_bool begun;
} trouble;

/* The servers listen by now; no worker connects before there is trouble. */
static void
begin(job *j, gp_config *config, uint32_t rank)
{
    double deadline = job_seconds() + 120;
    trouble *t = j->data;

    (void)config;
    while (rank != 0 && !atomic_load(&t->begun)) {
        job_require(job_seconds() < deadline);
        usleep(200);
    }
    if (rank != 0)
        return;
    if (t->call)
        gp_sim_fail(t->sim, t->call, 1, t->error);
    if (t->down)
        gp_sim_link(t->sim, 0, 1, false);
    if (t->removed)
        gp_sim_device_fatal(t->sim, 0);
    if (t->refused)
        gp_sim_refuse(t->sim, t->refused, 8);
    if (t->lost)
        gp_sim_lose_requests(t->sim, t->lost);
    atomic_store(&t->begun, true);
}

static void
open_devices(trouble *t, const gp_sim_device *device, size_t devices)
{
    gp_sim_options fabric = {
        .device = device, .devices = devices, .ignore_buffers = true};

    said.lines = said.warned = said.detours = 0;
    t->sim = gp_sim_open(&fabric);
    assert_non_null(t->sim);
    gp_verbs_api_use(gp_sim_api(t->sim));
    gp_log_set_callback(hear, NULL);
}

static void
open_fabric(trouble *t, const gp_sim_device *device)
{
    open_devices(t, device, device != NULL);
}

static void
leave_fabric(void)
{
    gp_log_set_callback(NULL, NULL);
    gp_verbs_api_use(NULL);
}

/* A job of one worker and two shards. */
static void
plan(job *j, trouble *t)
{
    j->workers = 1;
    j->shards = 2;
    j->body = body;
    j->data = t;
    j->tweak = begin;
}

/* Runs one; how it ended. */
static gp_status
run(job *j, trouble *t, const gp_sim_device *device)
{
    gp_status status;

    open_fabric(t, device);
    plan(j, t);
    status = run_job(j);
    leave_fabric();
    return status;
}

/* Whether time ended before all went another way. The next try begins like this
 * one. */
static bool
was_too_short(const job *j, const char *part)
{
    bool early = false;

    (void)part;
    for (uint32_t r = 0; r < j->workers; r++)
        early |= j->created[r] != GP_OK || j->ended[r] != GP_OK;
    if (early)
        said.lines = 0;
    return early;
}

/* With time for one way after another, and more of it on a busy machine. */
static void
run_in_time(job *j, trouble *t)
{
    open_fabric(t, NULL);
    job_run_patiently(j, "connect_timeout", 3000, NULL, was_too_short);
    leave_fabric();
}

static void
expect_good(const job *j)
{
    for (uint32_t r = 0; r < j->workers; r++)
        if (j->created[r] != GP_OK || j->ended[r] != GP_OK)
            fail_msg("%s", j->message[r]);
    if (j->server_status != GP_OK)
        fail_msg("%s", j->server_message);
}

static void
expect_works(job *j, trouble *t)
{
    (void)run(j, t, NULL);
    expect_good(j);
}

static void
verbs_when_it_can_be(void **state)
{
    job j = {.transport = "auto"};
    trouble t = {0};

    (void)state;
    expect_works(&j, &t);
    assert_non_null(strstr(j.servers, "verbs:"));
    assert_int_equal(said.lines, 0);
    assert_int_equal(gp_sim_stats_now(t.sim).created[GP_SIM_QP], 4);
    assert_int_equal(gp_sim_finish(t.sim), 0);
}

/* One of two shards is reached another way, as soon as that is known. */
static void
tcp_for_what_leads_nowhere(void **state)
{
    static const struct {
        const char *call, *words;
        int error;
    } cases[] = {
        {"rdma_resolve_addr", "no RDMA device leads there", ENODEV},
        {"rdma_resolve_route", "no route", EINVAL},
        {"reg_mr", "could not be registered", ENOMEM},
        {"rdma_create_qp", "no queue pair", EPERM},
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(cases); i++) {
        job j = {.transport = "auto"};
        trouble t = {.call = cases[i].call, .error = cases[i].error};

        expect_works(&j, &t);
        assert_true(gp_sim_failed(t.sim));
        assert_int_equal(said.lines, 1);
        assert_non_null(strstr(said.text, cases[i].words));
        assert_true(gp_sim_stats_now(t.sim).writes > 0);
        assert_int_equal(gp_sim_finish(t.sim), 0);
    }
}

/* Shards were reached, and then another worker is not. */
static void
reduce_body(job *j, gp_worker *w, uint32_t rank)
{
    const trouble *t = j->data;
    gp_group_options o = GP_GROUP_INIT;
    gp_group *g = NULL;
    gp_status status;
    float values[100];
    gp_request *r;

    for (uint32_t i = 0; i < GP_COUNT_OF(values); i++)
        values[i] = (float)(i + rank);
    job_check(gp_barrier(w));
    if (rank == 0)
        begin(j, NULL, 0);
    job_check(gp_barrier(w));
    status = gp_group_create(w, &o, &g);
    if (status == GP_OK)
        status = gp_allreduce(g, values, values, GP_COUNT_OF(values), GP_FP32,
                              GP_SUM, &r);
    if (status == GP_OK)
        status = gp_wait(&r, -1);
    job_note(j, rank, status);
    for (uint32_t i = 0; i < GP_COUNT_OF(values) && status == GP_OK; i++)
        job_require(values[i] == (float)(2 * i + 1));
    job_require(!t->call || gp_sim_failed(t->sim));
    gp_group_destroy(g);
}

/* Who comes when the first rail is lost: the others are published too, between
 * workers as by shards. */
static void
another_rail_before_tcp(void **state)
{
    static const gp_sim_device two[2];
    static const char *const transports[] = {"auto", "verbs"};

    (void)state;
    for (size_t i = 0; i < 2 * GP_COUNT_OF(transports); i++) {
        trouble t = {.down = true};
        job j = {.transport = transports[i / 2],
                 .settings = {"ib_rails", "2", "ib_hca", "sim", "listen", ""},
                 .workers = 2,
                 .shards = 2,
                 .colocated = i % 2,
                 .body = i % 2 ? reduce_body : body,
                 .tweak = i % 2 ? NULL : begin,
                 .data = &t};

        open_devices(&t, two, 2);
        (void)run_job(&j);
        leave_fabric();
        expect_good(&j);
        if (!j.colocated)
            assert_non_null(strstr(strstr(j.servers, "verbs:") + 1, "|verbs:"));
        assert_int_equal(said.lines, 0);
        assert_true(said.detours > 0);
        assert_int_equal(gp_sim_finish(t.sim), 0);
    }
}

/* The listening side may not be up yet, or not answer: that is waited out for
 * a part of the time. */
static void
tcp_for_who_does_not_answer(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        job j = {.transport = "auto"};
        trouble t = {.refused = i ? 0 : 100000, .lost = i ? 100000 : 0};

        plan(&j, &t);
        run_in_time(&j, &t);
        expect_good(&j);
        assert_int_equal(said.lines, 1);
        assert_int_equal(gp_sim_stats_now(t.sim).writes, 0);
        assert_int_equal(gp_sim_finish(t.sim), 0);
    }
}

/* What a worker says that cannot begin: servers wait for it without end, so
 * they are not asked. */
static gp_status
refused_worker(trouble *t, const gp_sim_device *device, const char *patience,
               char *why, size_t capacity)
{
    job j = {.transport = "verbs",
             .workers = 1,
             .shards = 2,
             .settings = {"connect_timeout", patience},
             .data = t};
    gp_config *c = job_config(&j);
    gp_worker *w = NULL;
    gp_status status;

    open_fabric(t, device);
    job_start_servers(&j);
    job_set(c, "rank", "0");
    job_set(c, "servers", j.servers);
    begin(&j, c, 0);
    status = gp_worker_create(c, &w);
    snprintf(why, capacity, "%s", gp_last_error());
    gp_worker_destroy(w);
    gp_config_destroy(c);
    for (uint32_t i = 0; i < j.shards; i++)
        gp_server_destroy(j.server[i]);
    leave_fabric();
    return status;
}

/* Who comes when the device is gone. */
static void
tcp_when_the_device_was_removed(void **state)
{
    job j = {.transport = "auto"};
    trouble t = {.removed = true};

    (void)state;
    expect_works(&j, &t);
    assert_non_null(strstr(j.servers, "verbs:"));
    assert_int_equal(said.lines, 1);
    assert_int_equal(gp_sim_stats_now(t.sim).created[GP_SIM_QP], 0);
    assert_int_equal(gp_sim_finish(t.sim), 0);
}

static void
tcp_between_workers(void **state)
{
    trouble troubles[] = {
        {0},
        {.call = "rdma_resolve_addr", .error = ENODEV},
        {.call = "rdma_create_qp", .error = EPERM},
        {.lost = 100000},
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(troubles); i++) {
        trouble *t = &troubles[i];
        job j = {.transport = "auto",
                 .workers = 2,
                 .colocated = true,
                 .body = reduce_body,
                 .data = t};

        run_in_time(&j, t);
        expect_good(&j);
        assert_int_equal(said.lines, i > 0);
        assert_int_equal(gp_sim_finish(t->sim), 0);
    }
}

static void
named_verbs_does_not_fall_back(void **state)
{
    trouble t = {.refused = 100000};
    char why[512];

    (void)state;
    assert_int_equal(refused_worker(&t, NULL, "0.5s", why, sizeof(why)),
                     GP_ERR_UNREACHABLE);
    assert_int_equal(said.lines, 0);
    assert_int_equal(gp_sim_finish(t.sim), 0);
}

/* Without enough memory that may be locked auto does not begin with verbs, and
 * who names it reads how to raise the limit. */
static void
little_memory(void **state)
{
    const gp_sim_device poor = {.memlock = 100 << 10};
    job j = {.transport = "auto"};
    trouble t = {0};
    char why[512];

    (void)state;
    assert_int_equal(run(&j, &t, &poor), GP_OK);
    assert_int_equal(said.lines, 0);
    assert_true(said.warned > 0);
    assert_null(strstr(j.servers, "verbs:"));
    assert_int_equal(gp_sim_stats_now(t.sim).created[GP_SIM_ID], 0);
    assert_int_equal(gp_sim_finish(t.sim), 0);
    assert_int_equal(refused_worker(&t, &poor, "60s", why, sizeof(why)),
                     GP_ERR_NO_MEMORY);
    assert_non_null(strstr(why, "100 KiB"));
    assert_non_null(strstr(why, "ulimit -l unlimited"));
    assert_non_null(strstr(why, "--ulimit memlock=-1"));
    assert_int_equal(gp_sim_finish(t.sim), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verbs_when_it_can_be),
        cmocka_unit_test(tcp_for_what_leads_nowhere),
        cmocka_unit_test(another_rail_before_tcp),
        cmocka_unit_test(tcp_for_who_does_not_answer),
        cmocka_unit_test(tcp_when_the_device_was_removed),
        cmocka_unit_test(tcp_between_workers),
        cmocka_unit_test(named_verbs_does_not_fall_back),
        cmocka_unit_test(little_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
