/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_registered_sim.c - whole jobs over verbs on a simulated fabric: how many
 * memory regions a process has, and that what registered memory is sent from
 * and written into is what the job computes.
 *
 * The fabric itself finds what verbs forbids: memory that is freed while a
 * device may use it, keys that were withdrawn. It does not look for gradients
 * that change before their completion (ignore_buffers): a result shows that
 * they arrived, and it may come first.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "job_harness.h"
#include "tests/rounds.h"
#include "tests/sim/sim.h"

#define TENSORS GP_ROUNDS(161u, 81u)
#define STEPS   3u
#define WORKERS 2u
#define SHARDS  8u

typedef struct plan {
    gp_sim *sim;
    const char *codec, *pull_codec;
    bool registers;
    bool mixed;      /* half of the large tensors have no codec */
    bool rows;       /* beside the tensors */
    uint32_t shards; /* SHARDS unless given */
    size_t each;     /* regions that a worker may have for each shard */
    size_t most[2];  /* regions of any shard, of any worker */
} plan;

/* Elements; the gaps between tensors are whole lines. */
static uint64_t
count_of(uint32_t k)
{
    return k % 3 ? 64u << k % 4 : 600u + 37u * k;
}

static uint64_t
offset_of(uint32_t k)
{
    uint64_t at = 0;

    for (uint32_t i = 0; i < k; i++)
        at += (count_of(i) + 15) / 16 * 16;
    return at;
}

static const char *
codec_of(const plan *p, uint32_t k, const char *codec)
{
    return p->mixed && k % 2 ? NULL : codec;
}

static gp_tensor *
add_tensor(gp_worker *w, const plan *p, uint32_t k)
{
    gp_tensor_options o = GP_TENSOR_INIT;
    char name[24];
    gp_tensor *t;

    snprintf(name, sizeof(name), "t%u", k);
    o.name = name;
    o.count = count_of(k);
    o.codec = codec_of(p, k, p->codec);
    o.pull_codec = codec_of(p, k, p->pull_codec);
    o.updater = "sum";
    job_check(gp_tensor_register(w, &o, &t));
    return t;
}

static void
give_parameters(gp_tensor **t, float *params, uint32_t rank)
{
    gp_request *r[TENSORS];

    for (uint32_t k = 0; k < TENSORS; k++) {
        float *values = params + offset_of(k);

        for (uint64_t i = 0; i < count_of(k); i++)
            values[i] = rank == k % WORKERS ? job_value(9, k, 0, i) : 0;
        job_check(gp_broadcast(t[k], values, k % WORKERS, &r[k]));
    }
    job_check(gp_wait_all(r, TENSORS, -1));
    for (uint32_t k = 0; k < TENSORS; k++) {
        const float *values = params + offset_of(k);

        for (uint64_t i = 0; i < count_of(k); i++)
            job_require(values[i] == job_value(9, k, 0, i));
    }
}

static void
make_step(const plan *p, gp_tensor **t, float *grads, uint32_t rank,
          uint64_t step)
{
    gp_request *r[TENSORS];

    for (uint32_t k = 0; k < TENSORS; k++) {
        float *grad = grads + offset_of(k);

        for (uint64_t i = 0; i < count_of(k); i++)
            grad[i] = job_value(rank, k, step, i);
        job_check(gp_push_pull(t[k], grad, grad, &r[k]));
    }
    job_check(gp_wait_all(r, TENSORS, -1));
    for (uint32_t k = 0; k < TENSORS; k++) {
        const float *sum = grads + offset_of(k);

        if (codec_of(p, k, p->codec) || codec_of(p, k, p->pull_codec))
            continue;
        for (uint64_t i = 0; i < count_of(k); i++)
            job_require(sum[i] ==
                            job_value(0, k, step, i) + job_value(1, k, step, i),
                        "rank %u tensor %u [%u]", rank, k, (unsigned)i);
    }
}

#define ROWS  640u
#define WIDTH 16u
#define BATCH 64u

static gp_rows *
add_rows(gp_worker *w)
{
    gp_rows_options o = GP_ROWS_INIT;
    gp_rows *rows;

    o.name = "rows";
    o.rows = ROWS;
    o.width = WIDTH;
    o.batch = BATCH;
    o.updater = "sgd:lr=1";
    job_check(gp_rows_register(w, &o, &rows));
    return rows;
}

/* Each tenth row, so those of every shard. */
static void
use_rows(gp_rows *rows, uint64_t step)
{
    static const float values[BATCH * WIDTH];
    float out[BATCH * WIDTH];
    uint64_t index[BATCH];
    gp_request *r;

    for (uint32_t i = 0; i < BATCH; i++)
        index[i] = i * (ROWS / BATCH) + step;
    job_check(
        gp_push_pull_rows(rows, BATCH, index, values, BATCH, index, out, &r));
    job_check(gp_wait(&r, -1));
}

/* Shards opened their domains first. */
static void
count_regions(plan *p)
{
    for (unsigned i = 1; i <= p->shards + WORKERS; i++) {
        size_t *most = &p->most[i > p->shards];
        size_t regions = gp_sim_regions(p->sim, i);

        *most = regions > *most ? regions : *most;
    }
}

static void
body(job *j, gp_worker *w, uint32_t rank)
{
    plan *p = j->data;
    uint64_t span = offset_of(TENSORS);
    size_t bytes = 2 * span * sizeof(float);
    float *memory = aligned_alloc(64, bytes);
    gp_tensor *t[TENSORS];
    gp_buffer *buffer = NULL;
    gp_rows *rows = NULL;

    job_require(memory != NULL);
    if (p->registers)
        job_check(gp_buffer_register(w, memory, bytes, &buffer));
    for (uint32_t k = 0; k < TENSORS; k++)
        t[k] = add_tensor(w, p, k);
    if (p->rows)
        rows = add_rows(w);
    give_parameters(t, memory, rank);
    for (uint64_t s = 0; s < STEPS; s++) {
        make_step(p, t, memory + span, rank, s);
        if (rows)
            use_rows(rows, s);
    }
    job_check(gp_barrier(w));
    if (rank == 0)
        count_regions(p);
    job_check(gp_barrier(w));
    job_check(gp_buffer_unregister(buffer));
    free(memory);
}

/* A job on a fabric, which must not find fault with it. */
static gp_status
run_on(job *j, const gp_sim_options *fabric, gp_sim **sim)
{
    gp_status status;

    *sim = gp_sim_open(fabric);
    assert_non_null(*sim);
    gp_verbs_api_use(gp_sim_api(*sim));
    status = run_job(j);
    gp_verbs_api_use(NULL);
    assert_int_equal(gp_sim_finish(*sim), 0);
    for (uint32_t r = 0; r < WORKERS; r++)
        if (j->created[r] != GP_OK)
            fail_msg("rank %u: %s", r, j->message[r]);
    return status;
}

static void
run_plan(plan *p, const gp_sim_options *fabric)
{
    job j = {.transport = "verbs",
             .workers = WORKERS,
             .shards = p->shards,
             .settings = {"chunk_bytes", "16K"},
             .body = body,
             .data = p};
    gp_status status;

    if (!p->shards)
        p->shards = j.shards = SHARDS;
    status = run_on(&j, fabric, &p->sim);

    if (status != GP_OK)
        fail_msg("%s", j.server_message);
    assert_in_range(p->most[0], 1, 3 * WORKERS);
    assert_in_range(p->most[1], 1, p->each * p->shards);
    print_message("a worker with %u shards: %zu regions, a shard: %zu\n",
                  p->shards, p->most[1], p->most[0]);
}

static const gp_sim_device bare = {.no_windows = true};

/* Three a peer, whatever the device has. */
static void
run_both(const plan *p, size_t each)
{
    gp_sim_options windows = {.seed = 1, .ignore_buffers = true};
    gp_sim_options none = {
        .seed = 2, .device = &bare, .devices = 1, .ignore_buffers = true};
    plan one = *p, other = *p;

    one.each = each;
    run_plan(&one, &windows);
    other.each = each;
    run_plan(&other, &none);
}

static void
registered(void **state)
{
    plan p = {.registers = true};

    (void)state;
    run_both(&p, 2);
}

static void
unregistered(void **state)
{
    plan p = {.registers = false};

    (void)state;
    run_both(&p, 3);
}

/* Small tensors stay dense: they travel with the others. */
static void
with_codecs(void **state)
{
    static const char *const codecs[][2] = {
        {"q8", "fp16"}, {"q8", "none"}, {"none", "fp16"}};

    (void)state;
    for (size_t i = 0; i < GP_ROUNDS(3, 1); i++)
        for (int registers = 0; registers < 2; registers++) {
            plan p = {.registers = registers,
                      .codec = codecs[i][0],
                      .pull_codec = codecs[i][1]};

            run_both(&p, 3);
        }
}

/* Messages in pieces, late, and in any order between queue pairs. */
static void
shuffled(void **state)
{
    gp_sim_options fabric = {.seed = 7,
                             .shuffle = true,
                             .late_acks = true,
                             .spurious_events = true,
                             .ignore_buffers = true};
    plan p = {.registers = true, .each = 2};

    (void)state;
    run_plan(&p, &fabric);
}

/* Rows go through buffers, both ways. */
static void
with_rows(void **state)
{
    plan p = {.registers = true, .rows = true, .shards = GP_ROUNDS(16, 4)};

    (void)state;
    run_both(&p, 3);
}

/* Each shard has its share of all kinds of memory, but of 64. */
static void
many_peers(void **state)
{
    static const uint32_t shards[] = {1, 4, 16, 64};

    (void)state;
    for (size_t i = 0; i < GP_ROUNDS(4, 2); i++) {
        plan dense = {.registers = true, .shards = shards[i]};
        plan coded = {.registers = true,
                      .shards = shards[i],
                      .codec = "q8",
                      .pull_codec = "fp16",
                      .mixed = true};

        run_both(&dense, 2);
        run_both(&coded, 3);
    }
}

#define RUIN_COUNT 200000u

typedef struct ruin {
    gp_sim *sim;
    atomic_bool asked;
    bool registers;
} ruin;

/* After the error the memory is the user's, at once. */
static void
ruined_body(job *j, gp_worker *w, uint32_t rank)
{
    ruin *u = j->data;
    size_t bytes = RUIN_COUNT * sizeof(float);
    gp_tensor *t = job_tensor(w, "t", RUIN_COUNT, "sum");
    float *memory = aligned_alloc(64, bytes);
    double deadline = job_seconds() + 120;
    gp_buffer *buffer = NULL;
    gp_request *r;

    job_require(memory != NULL);
    memset(memory, 0, bytes);
    if (u->registers)
        job_check(gp_buffer_register(w, memory, bytes, &buffer));
    job_check(gp_worker_ready(w));
    while (rank == 1 && !atomic_load(&u->asked) && job_seconds() < deadline)
        usleep(1000);
    job_check(gp_push_pull(t, memory, memory, &r));
    if (rank == 0) {
        job_require(gp_wait(&r, 0.05) == GP_ERR_TIMEOUT);
        atomic_store(&u->asked, true);
    } else {
        gp_server_destroy(j->server[1]);
        j->server[1] = NULL;
    }
    j->ended[rank] = gp_wait(&r, -1);
    memset(memory, 0x55, bytes);
    job_check(gp_buffer_unregister(buffer));
    for (size_t i = 0; i < bytes; i++)
        job_require(((uint8_t *)memory)[i] == 0x55);
    free(memory);
}

static void
a_shard_dies(void **state)
{
    gp_sim_options fabric = {
        .seed = 11, .shuffle = true, .ignore_buffers = true};

    (void)state;
    for (int i = 0; i < 4; i++) {
        ruin u = {.registers = i % 2 == 0};
        job j = {.transport = "verbs",
                 .workers = WORKERS,
                 .shards = 2,
                 .settings = {"chunk_bytes", "16K"},
                 .body = ruined_body,
                 .data = &u};

        (void)run_on(&j, &fabric, &u.sim);
        for (uint32_t r = 0; r < WORKERS; r++)
            assert_true(j.ended[r] == GP_OK || j.ended[r] == GP_ERR_PEER_LOST ||
                        j.ended[r] == GP_ERR_CANCELED);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(registered),   cmocka_unit_test(unregistered),
        cmocka_unit_test(with_codecs),  cmocka_unit_test(shuffled),
        cmocka_unit_test(with_rows),    cmocka_unit_test(many_peers),
        cmocka_unit_test(a_shard_dies),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
