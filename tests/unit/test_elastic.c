/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_elastic.c - workers that die, leave and join while the job runs.
 *
 * Those that leave are threads. Those that die are processes, this program
 * again, which are killed: when, is told by the steps that they have made,
 * which they write into memory that they share with the test. ELASTIC_ROUNDS
 * says how often, for a run that takes longer.
 */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "job_harness.h"

#define COUNT   5000
#define LONG    120.0 /* ends what hangs */
#define ELASTIC "elastic", "on"

static gp_status
push_pull(gp_tensor *t, float *data)
{
    gp_request *r;
    gp_status status = gp_push_pull(t, data, data, &r);

    return status == GP_OK ? gp_wait(&r, LONG) : status;
}

static void
fill(float *data, float value)
{
    for (size_t i = 0; i < COUNT; i++)
        data[i] = value;
}

static gp_status
pull(gp_tensor *t, float *data)
{
    gp_request *r;
    gp_status status = gp_pull(t, data, &r);

    return status == GP_OK ? gp_wait(&r, LONG) : status;
}

/* Until so many take part; whoever comes late takes over what is there. */
static void
gather(gp_worker *w, gp_tensor *t, uint32_t count, gp_members *m)
{
    static _Thread_local float data[COUNT];
    double deadline = job_seconds() + LONG;
    bool late = false;

    m->count = 0;
    do {
        gp_status status = gp_worker_members(w, m);

        job_require(job_seconds() < deadline);
        if (status == GP_ERR_TIMEOUT) /* they have not all come yet */
            continue;
        job_check(status);
        late |= m->late;
    } while (m->count != count);
    if (late)
        job_check(pull(t, data));
}

static const char *const transports[] = {"loop", "tcp"};

/* Everybody stays: the same bits as without elastic. */

typedef struct plain {
    float result[3][COUNT];
    const char *codec, *updater;
} plain;

static void
plain_body(job *j, gp_worker *w, uint32_t rank)
{
    plain *p = j->data;
    gp_tensor_options o = GP_TENSOR_INIT;
    gp_members m;
    gp_tensor *t;

    o.name = "weights";
    o.count = COUNT;
    o.codec = p->codec;
    o.pull_codec = "none";
    o.updater = p->updater;
    job_check(gp_tensor_register(w, &o, &t));
    for (uint64_t s = 0; s < 4; s++) {
        float *out = p->result[rank];

        job_check(gp_worker_members(w, &m));
        job_require(m.count == j->workers && m.index == rank && !m.late);
        for (uint64_t i = 0; i < COUNT; i++)
            out[i] = job_value(rank, 0, s, i);
        job_check(push_pull(t, out));
    }
}

static void
nobody_leaves(void **state)
{
    static const char *const codecs[] = {"none", "q8", "topk:0.1"};
    static const char *const updaters[] = {"mean", "sgd:lr=0.1"};
    static plain with, without;

    (void)state;
    for (uint32_t i = 0; i < 12; i++) {
        job j = {.transport = transports[i % 2],
                 .workers = 3,
                 .shards = 2,
                 .settings = {ELASTIC, "min_workers", "3"},
                 .body = plain_body};

        with.codec = without.codec = codecs[i / 4];
        with.updater = without.updater = updaters[i / 2 % 2];
        j.data = &with;
        assert_int_equal(run_job(&j), GP_OK);
        j.settings[1] = "off";
        j.data = &without;
        assert_int_equal(run_job(&j), GP_OK);
        assert_memory_equal(with.result, without.result, sizeof(with.result));
    }
}

/* One leaves after some steps: the mean is that of those who are left. */

static void
leave_body(job *j, gp_worker *w, uint32_t rank)
{
    gp_tensor *t = job_tensor(w, "weights", COUNT, "mean");
    float *data = malloc(COUNT * sizeof(float));
    uint32_t steps = rank == 0 ? 3 : 8;
    gp_members m;

    gather(w, t, 3, &m);
    for (uint32_t s = 0; s < steps; s++) {
        fill(data, (float)(rank * rank));
        job_check(push_pull(t, data));
        /* (0 + 1 + 4) / 3, then (1 + 4) / 2 */
        for (size_t i = 0; i < COUNT; i++)
            job_require(data[i] == (s < 3 ? 5.0f * (1.0f / 3.0f) : 2.5f));
    }
    if (rank > 0) {
        job_check(gp_barrier(w));
        job_check(gp_worker_members(w, &m));
        job_require(m.changed && m.count == 2 && m.index == rank - 1);
        job_require(m.ranks[0] == 1 && m.ranks[1] == 2);
    }
    free(data);
    (void)j;
}

static void
one_leaves(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 2; i++) {
        job j = {.transport = transports[i],
                 .workers = 3,
                 .shards = 2,
                 .settings = {ELASTIC},
                 .body = leave_body};

        assert_int_equal(run_job(&j), GP_OK);
    }
}

/* Fewer than min_workers: the next step waits, and says for how many. */

static void
too_few_body(job *j, gp_worker *w, uint32_t rank)
{
    gp_tensor *t = job_tensor(w, "weights", COUNT, "mean");
    float *data = calloc(COUNT, sizeof(float));
    double deadline = job_seconds() + LONG;
    gp_members m;

    gather(w, t, 2, &m);
    job_check(push_pull(t, data));
    if (rank == 0) {
        gp_status status;

        do {
            status = gp_worker_members(w, &m);
            job_require(status == GP_ERR_TIMEOUT && job_seconds() < deadline);
        } while (!strstr(gp_last_error(), "1 of at least 2 workers"));
        job_note(j, rank, status);
    }
    free(data);
}

/* Two of three have a place; the third gets that of one who leaves. */
static void
spare_body(job *j, gp_worker *w, uint32_t rank)
{
    atomic_bool *told = j->data;
    gp_tensor *t = job_tensor(w, "weights", COUNT, "sgd:lr=1");
    float *data = calloc(COUNT, sizeof(float));
    double deadline = job_seconds() + LONG;
    gp_members m;
    bool spare = false, over = false;

    while (!over) {
        gp_status status = gp_worker_members(w, &m);

        job_require(job_seconds() < deadline);
        if (status == GP_ERR_TIMEOUT) {
            if (strstr(gp_last_error(), "2 workers take part, the most that")) {
                spare = true;
                atomic_store(told, true);
            }
            continue;
        }
        job_check(status);
        job_require(m.count <= 2, "more than max_workers");
        if (spare || m.late)
            job_check(pull(t, data));
        if (atomic_load(told) && m.index == 0 && m.epoch == 1)
            break; /* for the third */
        fill(data, 1);
        job_check(push_pull(t, data));
        over = m.epoch > 1 && m.count == 2;
    }
    job_note(j, rank, GP_OK);
    free(data);
}

static void
who_has_no_place_waits_for_one(void **state)
{
    atomic_bool told = false;
    job j = {.transport = "tcp",
             .workers = 3,
             .shards = 2,
             .settings = {ELASTIC, "min_workers", "2", "max_workers", "2",
                          "timeout", "3s"},
             .body = spare_body,
             .data = &told};

    (void)state;
    assert_int_equal(run_job(&j), GP_OK);
    assert_true(told);
}

/* The third has no place before the other two are done, and is fewer than
 * min_workers then: it sees at which step they ended. */
static void
after_end_body(job *j, gp_worker *w, uint32_t rank)
{
    gp_tensor *t = job_tensor(w, "weights", COUNT, "sgd:lr=1");
    float *data = calloc(COUNT, sizeof(float));
    gp_status status;
    gp_members m;

    do
        status = gp_worker_members(w, &m);
    while (status == GP_ERR_TIMEOUT);
    job_check(status);
    if (m.late) {
        job_check(pull(t, data));
        job_require(gp_tensor_version(t) == 1, "one step was made");
        atomic_store((atomic_bool *)j->data, true);
    } else {
        job_check(push_pull(t, data));
    }
    job_note(j, rank, GP_OK);
    free(data);
}

static void
who_waited_for_a_place_sees_the_end(void **state)
{
    atomic_bool late = false;
    job j = {.transport = "tcp",
             .workers = 3,
             .shards = 2,
             .settings = {ELASTIC, "min_workers", "2", "max_workers", "2"},
             .body = after_end_body,
             .data = &late};

    (void)state;
    assert_int_equal(run_job(&j), GP_OK);
    assert_true(late);
}

static void
fewer_at_most_than_at_least_are_refused(void **state)
{
    gp_config *config;
    gp_worker *w = NULL;

    (void)state;
    assert_int_equal(gp_config_create(&config), GP_OK);
    job_set(config, "rank", "0");
    job_set(config, "size", "4");
    job_set(config, "servers", "127.0.0.1:1");
    job_set(config, "elastic", "on");
    job_set(config, "min_workers", "3");
    job_set(config, "max_workers", "2");
    assert_int_equal(gp_worker_create(config, &w), GP_ERR_CONFIG);
    job_expect_text(gp_last_error(), "GRADPUSH_MAX_WORKERS is 2, less than");
    gp_config_destroy(config);
}

static void
too_few_wait(void **state)
{
    job j = {.transport = "tcp",
             .workers = 2,
             .shards = 1,
             .settings = {ELASTIC, "min_workers", "2", "timeout", "2s"},
             .body = too_few_body};

    (void)state;
    assert_int_equal(run_job(&j), GP_OK);
    job_expect_end(&j, 0, GP_ERR_TIMEOUT, "(min_workers) are here");
}

/* What does not go with it is refused, with the reason. */

typedef struct refused {
    const char *mode, *codec, *updater, *part;
} refused;

static void
refused_body(job *j, gp_worker *w, uint32_t rank)
{
    const refused *r = j->data;
    gp_tensor_options o = GP_TENSOR_INIT;
    gp_members m;
    gp_tensor *t;

    o.name = "weights";
    o.count = COUNT;
    o.mode = r->mode;
    o.codec = r->codec;
    o.pull_codec = "none";
    o.updater = r->updater;
    job_check(gp_tensor_register(w, &o, &t));
    job_note(j, rank, gp_worker_members(w, &m));
}

static void
what_does_not_fit_is_refused(void **state)
{
    static const refused cases[] = {
        {"local:4", "none", "mean", "sgd:lr=1 does the same"},
        {"sync", "none", "sgd:lr=0.1,clip=1", "the norm of whole tensors"},
        {"sync", "intsum", "mean", "in all steps"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        refused one = cases[i];
        job j = {.transport = "loop",
                 .workers = 2,
                 .shards = 1,
                 .settings = {ELASTIC, "min_workers", "2"},
                 .data = &one,
                 .body = refused_body};

        assert_int_equal(run_job(&j), GP_ERR_CONFIG);
        job_expect_end(&j, 0, GP_ERR_CONFIG, one.part);
    }
}

static void
colocated_is_refused(void **state)
{
    job j = {.transport = "tcp",
             .workers = 2,
             .colocated = true,
             .settings = {ELASTIC},
             .body = plain_body};

    (void)state;
    assert_int_equal(run_job(&j), GP_ERR_CONFIG);
    job_expect_text(j.message[0], "stand-alone shards");
}

static void
more_than_places_is_refused(void **state)
{
    job j = {.transport = "tcp",
             .workers = 2,
             .settings = {ELASTIC, "min_workers", "3"}};
    gp_config *c = job_config(&j);
    gp_worker *w = NULL;

    (void)state;
    job_set(c, "rank", "0");
    job_set(c, "servers", "127.0.0.1:1"); /* nobody is asked */
    assert_int_equal(gp_worker_create(c, &w), GP_ERR_CONFIG);
    job_expect_text(gp_last_error(), "GRADPUSH_MIN_WORKERS is 3");
    gp_config_destroy(c);
}

/* Only one side was told of it. */

static void
set_elastic(job *j, gp_config *config, uint32_t rank)
{
    (void)rank;
    job_set(config, "elastic", j->data);
}

static void
one_sided_body(job *j, gp_worker *w, uint32_t rank)
{
    gp_tensor *t = job_tensor(w, "weights", COUNT, "mean");
    float *data = calloc(COUNT, sizeof(float));
    gp_members m;
    gp_status status = gp_worker_members(w, &m);

    if (status == GP_OK)
        status = push_pull(t, data);
    job_note(j, rank, status);
    free(data);
}

static void
one_side_only_is_refused(void **state)
{
    static const char *const part = "set GRADPUSH_ELASTIC=on for workers";
    job j = {.transport = "tcp",
             .workers = 1,
             .shards = 1,
             .data = "on",
             .tweak = set_elastic,
             .body = one_sided_body};

    (void)state;
    (void)run_job(&j);
    job_expect_end(&j, 0, GP_ERR_MISMATCH, "GRADPUSH_ELASTIC=on for servers");
    j.settings[0] = "elastic";
    j.settings[1] = "on";
    j.data = "off";
    job_run_patiently(&j, "connect_timeout", 2000, part, NULL);
    job_expect_end(&j, 0, GP_ERR_STATE, part);
    assert_int_equal(j.server_status, GP_ERR_PEER_LOST);
    job_expect_text(j.server_message, "nobody came within");
}

/* Processes that are killed and started anew. */

#define PLACES 4u

typedef struct board {
    _Atomic uint64_t version;
    atomic_bool stop;
    atomic_uint ended; /* that found the parameters where they should be */
} board;

static const float target = 3.0f;

static gp_config *
child_config(const char *servers, const char *rank)
{
    job j = {.transport = "tcp", .workers = PLACES, .settings = {ELASTIC}};
    gp_config *c = job_config(&j);

    job_set(c, "servers", servers);
    job_set(c, "rank", rank);
    job_set(c, "log", "error");
    return c;
}

static void
begin_child(const gp_members *m, gp_tensor *t, float *x)
{
    gp_request *r;

    if (m->late) {
        job_check(pull(t, x));
        return;
    }
    job_check(gp_broadcast(t, x, m->ranks[0], &r));
    job_check(gp_wait(&r, -1));
}

/* A step towards the target; every member's gradient is the distance. */
static void
step_child(gp_tensor *t[2], float x[2][COUNT])
{
    static float g[2][COUNT];
    gp_request *r[2];

    for (int k = 0; k < 2; k++) {
        for (size_t i = 0; i < COUNT; i++)
            g[k][i] = x[k][i] - target;
        job_check(gp_push_pull(t[k], g[k], x[k], &r[k]));
    }
    job_check(gp_wait_all(r, 2, -1));
}

static void
note_version(board *b, uint64_t version)
{
    uint64_t seen = atomic_load(&b->version);

    while (seen < version &&
           !atomic_compare_exchange_weak(&b->version, &seen, version))
        continue;
}

/* As good as the same number of steps without anybody lost. Gradients that were
 * late lead to about the same, and not beyond. */
static void
require_trained(const float *x, uint64_t version, bool late)
{
    float left = target * powf(0.98f, (float)version);

    for (size_t i = 0; i < COUNT; i++)
        job_require(late ? x[i] > target / 2 && x[i] < target * 1.01f
                         : fabsf(x[i] - (target - left)) < 1e-3f);
}

static gp_tensor *
child_tensor(gp_worker *w, const char *name, const char *mode)
{
    gp_tensor_options o = GP_TENSOR_INIT;
    gp_tensor *t;

    o.name = name;
    o.count = COUNT;
    o.codec = o.pull_codec = "none";
    o.updater = "sgd:lr=0.02";
    o.mode = mode;
    job_check(gp_tensor_register(w, &o, &t));
    return t;
}

static int
run_child(const char *servers, const char *rank, int fd, const char *mode)
{
    board *b =
        mmap(NULL, sizeof(*b), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    gp_config *c = child_config(servers, rank);
    static float x[2][COUNT];
    gp_tensor *t[2];
    bool first = true;
    gp_worker *w;
    gp_members m;

    job_require(b != MAP_FAILED);
    job_check(gp_worker_create(c, &w));
    t[0] = child_tensor(w, "a", mode);
    t[1] = child_tensor(w, "b", mode);
    for (;; first = false) {
        job_check(gp_worker_members(w, &m));
        if (atomic_load(&b->stop))
            break;
        for (int k = 0; k < 2 && first; k++)
            begin_child(&m, t[k], x[k]);
        step_child(t, x);
        note_version(b, gp_tensor_version(t[1]));
    }
    for (int k = 0; k < 2 && !first; k++)
        require_trained(x[k], gp_tensor_version(t[k]),
                        strcmp(mode, "sync") != 0);
    gp_worker_destroy(w);
    gp_config_destroy(c);
    atomic_fetch_add(&b->ended, !first);
    return 0;
}

static int
make_board(board **out)
{
    int fd = memfd_create("board", 0);

    job_require(fd >= 0 && ftruncate(fd, sizeof(board)) == 0);
    *out = mmap(NULL, sizeof(board), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    job_require(*out != MAP_FAILED);
    return fd;
}

extern char **environ;

static pid_t
spawn_child(const job *j, uint32_t rank, int fd)
{
    const char *mode = j->data ? j->data : "sync";
    char number[16], descriptor[16];
    char *argv[] = {"test_elastic", (char *)(uintptr_t)j->servers, number,
                    descriptor,     (char *)(uintptr_t)mode,       NULL};
    pid_t pid;

    snprintf(number, sizeof(number), "%u", rank);
    snprintf(descriptor, sizeof(descriptor), "%d", fd);
    job_require(
        posix_spawn(&pid, "/proc/self/exe", NULL, NULL, argv, environ) == 0);
    return pid;
}

static void
kill_child(pid_t *pid)
{
    int status;

    job_require(kill(*pid, SIGKILL) == 0);
    job_require(waitpid(*pid, &status, 0) == *pid);
    job_require(WIFSIGNALED(status), "a worker had failed before it was "
                                     "killed");
    *pid = 0;
}

static void
await_child(pid_t pid)
{
    double deadline = job_seconds() + LONG;
    int status;

    while (waitpid(pid, &status, WNOHANG) == 0) {
        job_require(job_seconds() < deadline, "a worker hangs");
        usleep(1000);
    }
    job_require(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void
await_version(const board *b, uint64_t version)
{
    double deadline = job_seconds() + LONG;

    while (atomic_load(&b->version) < version) {
        job_require(job_seconds() < deadline, "no step is made any more");
        usleep(500);
    }
}

/* One event: a worker dies, or one that is not there comes. */
static void
disturb(const job *j, pid_t *pid, int fd, uint32_t *random)
{
    uint32_t place = job_random(random) % PLACES, here = 0;

    for (uint32_t r = 0; r < PLACES; r++)
        here += pid[r] != 0;
    if (!pid[place])
        pid[place] = spawn_child(j, place, fd);
    else if (here > 1)
        kill_child(&pid[place]);
    else
        pid[(place + 1) % PLACES] = spawn_child(j, (place + 1) % PLACES, fd);
}

static void
kill_and_add(const char *mode, uint32_t few)
{
    const char *rounds = getenv("ELASTIC_ROUNDS");
    uint32_t count = rounds ? (uint32_t)strtoul(rounds, NULL, 10) : few;
    job j = {.transport = "tcp",
             .workers = PLACES,
             .shards = 2,
             .settings = {ELASTIC, "log", "error"},
             .data = (void *)(uintptr_t)mode};
    uint32_t random = 20260101;
    pid_t pid[PLACES];
    board *b;
    int fd = make_board(&b);

    job_start_servers(&j);
    for (uint32_t r = 0; r < PLACES; r++)
        pid[r] = spawn_child(&j, r, fd);
    await_version(b, 1);
    for (uint32_t i = 0; i < count; i++) {
        disturb(&j, pid, fd, &random);
        await_version(b,
                      atomic_load(&b->version) + 1 + job_random(&random) % 20);
    }
    await_version(b, 400);
    atomic_store(&b->stop, true);
    for (uint32_t r = 0; r < PLACES; r++)
        if (pid[r])
            await_child(pid[r]);
    job_stop_servers(&j);
    assert_int_equal(j.server_status, GP_OK);
    assert_true(atomic_load(&b->ended) > 0);
    munmap(b, sizeof(*b));
    close(fd);
}

static void
killed_and_added(void **state)
{
    (void)state;
    kill_and_add("sync", 10);
}

/* Two tensors of two chunks on two shards each: nobody may wait for one who
 * waits for it elsewhere. */
static void
killed_and_added_apart(void **state)
{
    (void)state;
    kill_and_add("ssp:0", 10);
    kill_and_add("sync:N-1", 5);
    kill_and_add("async", 3);
}

/* All die at once; whoever comes goes on with what the shards have. */
static void
all_die_and_one_comes(void **state)
{
    job j = {.transport = "tcp",
             .workers = PLACES,
             .shards = 2,
             .settings = {ELASTIC, "log", "error"}};
    pid_t pid[PLACES];
    uint64_t before;
    board *b;
    int fd = make_board(&b);

    (void)state;
    job_start_servers(&j);
    for (uint32_t r = 0; r < PLACES; r++)
        pid[r] = spawn_child(&j, r, fd);
    await_version(b, 5);
    for (uint32_t r = 0; r < PLACES; r++)
        kill_child(&pid[r]);
    before = atomic_load(&b->version);
    pid[2] = spawn_child(&j, 2, fd);
    await_version(b, before + 20);
    atomic_store(&b->stop, true);
    await_child(pid[2]);
    job_stop_servers(&j);
    assert_int_equal(j.server_status, GP_OK);
    assert_int_equal(atomic_load(&b->ended), 1);
    munmap(b, sizeof(*b));
    close(fd);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_leaves),
        cmocka_unit_test(one_leaves),
        cmocka_unit_test(too_few_wait),
        cmocka_unit_test(who_has_no_place_waits_for_one),
        cmocka_unit_test(who_waited_for_a_place_sees_the_end),
        cmocka_unit_test(fewer_at_most_than_at_least_are_refused),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(colocated_is_refused),
        cmocka_unit_test(more_than_places_is_refused),
        cmocka_unit_test(one_side_only_is_refused),
        cmocka_unit_test(killed_and_added),
        cmocka_unit_test(killed_and_added_apart),
        cmocka_unit_test(all_die_and_one_comes),
    };

    if (argc == 5)
        return run_child(argv[1], argv[2], atoi(argv[3]), argv[4]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
