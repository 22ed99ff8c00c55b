/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_shard_elastic_sim.c - workers that come and go while network devices
 * move pushes and results to and from the memory of simulated GPUs: one dies
 * with pushes that wait there, its next life comes and leaves in order, and all
 * others go on by the same way.
 *
 * Lives of the third place are this test's; the others are the harness's. Each
 * worker pulls element i up for i % PLACES = its rank, so the parameters say
 * whose pushes are in them.
 */
#include "tests/gpu/ladder.h"

#define PLACES  3u
#define VISIT   (PLACES - 1)
#define TWO     2u
#define VISITED 3u /* steps of each life */
#define LONG    60.0
#define READ    "network devices have read "
#define WRITTEN "network devices have written "

/* Chunks have 64 KiB; of the others of each, nothing is short. */
static const kind sorts[TWO] = {
    {"plain", GP_FP32, 40000, 0, NULL, NULL, "sgd:lr=1", 1},
    {"coded", GP_FP32, 32768, 0, "q8", "bf16", "sgd:lr=1", 2},
};
#define STEP_BYTES (40000u * 4 + 32768u)

typedef struct scene {
    gp_sim *sim;
    bool on_device;
    uint64_t copied;         /* out of the device, when the first life died */
    _Atomic uint32_t steps;  /* of rank 0 */
    _Atomic uint64_t direct; /* bytes of those that stayed */
    _Atomic uint64_t fatal;  /* the step in which it dies, and one */
    atomic_bool dead, over;
} scene;

typedef struct actor {
    gp_worker *w;
    gp_tensor *t[TWO];
    gp_device *device; /* NULL: tensors are on the host */
    void *block[TWO];
    float *value[TWO];
    uint32_t rank;
} actor;

static void
enter(actor *a, gp_worker *w, uint32_t rank, const scene *s)
{
    *a = (actor){.w = w, .rank = rank};
    if (s->on_device)
        job_check(gp_device_open("cuda", &a->device));
    for (uint32_t i = 0; i < TWO; i++) {
        a->t[i] = add(w, &sorts[i], s->on_device ? "cuda" : NULL);
        a->value[i] = (float *)room(bytes_of(&sorts[i]));
        if (a->device)
            job_check(a->device->ops->alloc(a->device, bytes_of(&sorts[i]),
                                            &a->block[i]));
    }
}

static void
leave(actor *a)
{
    for (uint32_t i = 0; i < TWO; i++) {
        if (a->device)
            a->device->ops->free(a->device, a->block[i]);
        free(a->value[i]);
    }
    gp_device_close(a->device);
}

/* --- calls, of tensors on the host or on the device --- */

typedef enum deed { PUSH, PULL, PUSH_PULL, GIVE } deed;

static gp_status
begin(actor *a, uint32_t i, deed what, float *x, uint32_t root, gp_request **r)
{
    if (what == PUSH)
        return gp_push(a->t[i], x, r);
    if (what == PULL)
        return gp_pull(a->t[i], x, r);
    return what == GIVE ? gp_broadcast(a->t[i], x, root, r)
                        : gp_push_pull(a->t[i], x, x, r);
}

static gp_status
begin_on(actor *a, uint32_t i, deed what, uint32_t root, gp_request **r)
{
    void *x = a->block[i];

    if (what == PUSH)
        return gp_push_on(a->t[i], x, GP_STREAM_DEFAULT, r);
    if (what == PULL)
        return gp_pull_on(a->t[i], x, GP_STREAM_DEFAULT, r);
    return what == GIVE
               ? gp_broadcast_on(a->t[i], x, root, GP_STREAM_DEFAULT, r)
               : gp_push_pull_on(a->t[i], x, x, GP_STREAM_DEFAULT, r);
}

/* All of them, to their end. */
static void
act(actor *a, deed what, float *const x[TWO], uint32_t root)
{
    gp_device *d = a->device;
    gp_request *r[TWO];

    for (uint32_t i = 0; i < TWO; i++) {
        if (d)
            job_check(
                d->ops->copy_in(d, a->block[i], x[i], bytes_of(&sorts[i])));
        job_check(d ? begin_on(a, i, what, root, &r[i])
                    : begin(a, i, what, x[i], root, &r[i]));
    }
    for (uint32_t i = 0; i < TWO; i++) {
        job_check(gp_wait(&r[i], LONG));
        if (d)
            job_check(
                d->ops->copy_out(d, x[i], a->block[i], bytes_of(&sorts[i])));
    }
}

static void
fill_grad(const actor *a, float *const x[TWO])
{
    for (uint32_t i = 0; i < TWO; i++)
        for (uint32_t k = 0; k < sorts[i].count; k++)
            x[i][k] = k % PLACES == a->rank ? -1.0f : 0.0f;
}

/* What has come is more than there was, where it must be. Encoded results are
 * rounded. */
static void
take_over(actor *a, float *const x[TWO], uint32_t rank)
{
    for (uint32_t i = 0; i < TWO; i++)
        for (uint32_t k = 0; k < sorts[i].count; k++) {
            float before = a->value[i][k];

            job_require(x[i][k] >= before);
            if (i == 0 && (k % PLACES == a->rank || k % PLACES == rank))
                job_require(x[i][k] > before);
            a->value[i][k] = x[i][k];
        }
}

/* One step. Its own pushes are in the result, those of `rank`, too, and
 * nobody's are lost. */
static void
step(actor *a, uint32_t rank)
{
    float *x[TWO];

    for (uint32_t i = 0; i < TWO; i++)
        x[i] = (float *)room(bytes_of(&sorts[i]));
    fill_grad(a, x);
    act(a, PUSH_PULL, x, 0);
    take_over(a, x, rank);
    for (uint32_t i = 0; i < TWO; i++)
        free(x[i]);
}

/* Begins a step; whoever came late has then what the others have. */
static void
meet(actor *a, bool first, gp_members *m)
{
    job_check(gp_worker_members(a->w, m));
    if (first)
        act(a, m->late ? PULL : GIVE, a->value, m->ranks[0]);
}

static void
await(const atomic_bool *flag)
{
    double deadline = job_seconds() + LONG;

    while (!atomic_load(flag)) {
        job_require(job_seconds() < deadline);
        usleep(200);
    }
}

static void
await_steps(const scene *s, uint32_t more)
{
    double deadline = job_seconds() + LONG;
    uint32_t wanted = s->steps + more;

    while (s->steps < wanted) {
        job_require(job_seconds() < deadline, "nobody steps any more");
        usleep(200);
    }
}

/* It has pushed, before the others do: that counts. */
static void
die_in_step(actor *a, scene *s, unsigned process)
{
    float *x[TWO];
    gp_members m;

    atomic_store(&s->fatal, gp_tensor_version(a->t[0]) + 1);
    meet(a, false, &m);
    for (uint32_t i = 0; i < TWO; i++)
        x[i] = (float *)room(bytes_of(&sorts[i]));
    fill_grad(a, x);
    act(a, PUSH, x, 0);
    for (uint32_t i = 0; i < TWO; i++)
        free(x[i]);
    s->copied = gp_sim_cuda_copied_out();
    gp_sim_kill(s->sim, process, false);
    atomic_store(&s->dead, true);
}

/* A life of the third place. */
static void
live(const job *j, scene *s, bool dies)
{
    unsigned process = gp_sim_processes(s->sim) + 1; /* the next one */
    gp_config *c = job_config(j);
    gp_members m;
    gp_worker *w;
    actor a;

    job_set(c, "rank", "2");
    job_set(c, "servers", j->servers);
    job_check(gp_worker_create(c, &w));
    gp_config_destroy(c);
    enter(&a, w, VISIT, s);
    for (uint32_t n = 0; n < VISITED; n++) {
        meet(&a, n == 0, &m);
        job_require(m.count >= 2 && (n > 0 || m.late));
        step(&a, VISIT);
    }
    if (dies)
        die_in_step(&a, s, process);
    gp_worker_destroy(w);
    leave(&a);
}

static void *
visit(void *arg)
{
    job *j = arg;
    scene *s = j->data;

    await_steps(s, 2);
    live(j, s, true);
    await_steps(s, 2);
    live(j, s, false);
    await_steps(s, 2);
    s->over = true;
    return NULL;
}

static void
body(job *j, gp_worker *w, uint32_t rank)
{
    scene *s = j->data;
    double deadline = job_seconds() + LONG;
    gp_members m = {0};
    gp_stats stats;
    pthread_t thread;
    actor a;

    enter(&a, w, rank, s);
    if (rank == 0)
        job_require(pthread_create(&thread, NULL, visit, j) == 0);
    for (bool first = true; first || !s->over; first = false) {
        bool dies;

        meet(&a, first, &m);
        job_require(job_seconds() < deadline);
        dies = atomic_load(&s->fatal) == gp_tensor_version(a.t[0]) + 1;
        if (dies)
            await(&s->dead);
        step(&a, dies ? VISIT : rank);
        if (rank == 0)
            s->steps++;
    }
    if (rank == 0)
        job_require(pthread_join(thread, NULL) == 0);
    job_require(m.epoch >= 4); /* come, died, come and left */
    gp_worker_stats(w, &stats);
    s->direct += stats.direct_bytes;
    leave(&a);
}

static void
play(scene *s, const gp_sim_device *device)
{
    const gp_sim_options fabric = {.device = device,
                                   .devices = 1,
                                   .ignore_buffers = true,
                                   .foreign = gp_sim_cuda_owns,
                                   .store = gp_sim_cuda_store};
    job j = {.transport = "verbs",
             .workers = PLACES,
             .shards = 2,
             .absent = {[VISIT] = true},
             .settings = {"chunk_bytes", "64K", "elastic", "on", "log", "info",
                          "shard_device", "cuda", "gdr_flush", "on",
                          "ib_reconnect", "200ms"},
             .body = body,
             .data = s};
    gp_status status;

    s->sim = gp_sim_open(&fabric);
    assert_non_null(s->sim);
    gp_verbs_api_use(gp_sim_api(s->sim));
    gp_sim_cuda_hide(true);
    status = run_job(&j);
    gp_sim_cuda_hide(false);
    gp_verbs_api_use(NULL);
    assert_int_equal(gp_sim_finish(s->sim), 0);
    assert_int_equal(gp_sim_cuda_objects(), 0);
    assert_int_equal(gp_sim_cuda_pushed(), 0);
    if (status != GP_OK)
        fail_msg("%s %s", j.server_message, j.message[0]);
}

/* Of every step of rank 0 and 1 all but what chunks have too much of: the last
 * ones are short. */
static void
expect_bytes(const scene *s, const char *what)
{
    uint64_t least = (uint64_t)s->steps * 2 * STEP_BYTES;

    if (job_log_sum(what) < least - least / 8)
        fail_msg("%s%llu bytes, not %llu", what,
                 (unsigned long long)job_log_sum(what),
                 (unsigned long long)least);
}

static void
one_dies_and_comes_back(void **state)
{
    static const gp_sim_device *const devices[] = {&only_dmabuf, &only_peermem};

    (void)state;
    for (uint32_t i = 0; i < GP_COUNT_OF(devices); i++) {
        scene s = {.on_device = i == 1};

        job_log_start();
        play(&s, devices[i]);
        expect_bytes(&s, READ);
        expect_bytes(&s, WRITTEN);
        assert_true(job_log_has("pushes of worker 2 land in memory of cuda:0"));
        /* The host cannot read what had come from who died. */
        if (!s.on_device)
            assert_true(gp_sim_cuda_copied_out() - s.copied >= STEP_BYTES);
        assert_int_equal(s.direct > 0, s.on_device);
        if (s.on_device)
            assert_true(s.direct >= s.steps * 3 * (uint64_t)STEP_BYTES);
        job_log_stop();
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_dies_and_comes_back),
    };

    use_cuda(true, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
