/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_collective_sim.c - every collective over verbs on a simulated fabric,
 * from memory that is registered and from memory that is copied.
 *
 * The fabric finds what verbs forbids: keys that were withdrawn, memory that is
 * freed while a device may use it. It does not look for payloads that change
 * before their completion (ignore_buffers): what a peer sends later shows that
 * it has them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "job_collective.h"
#include "tests/rounds.h"
#include "tests/sim/sim.h"

static void
run_on(uint32_t workers, bool registers, const gp_sim_options *fabric)
{
    job j = {.transport = "verbs",
             .workers = workers,
             .colocated = true,
             .settings = {"ib_reconnect", "0", NULL},
             .data = registers ? &j : NULL,
             .body = job_collectives};
    gp_sim *sim = gp_sim_open(fabric);

    assert_non_null(sim);
    gp_verbs_api_use(gp_sim_api(sim));
    assert_int_equal(run_job(&j), GP_OK);
    gp_verbs_api_use(NULL);
    assert_int_equal(gp_sim_finish(sim), 0);
}

static void
test_copied(void **state)
{
    gp_sim_options fabric = {.seed = 3, .ignore_buffers = true};

    (void)state;
    run_on(2, false, &fabric);
    run_on(3, false, &fabric);
}

static void
test_registered(void **state)
{
    gp_sim_options fabric = {.seed = 4, .ignore_buffers = true};

    (void)state;
    run_on(2, true, &fabric);
    run_on(3, true, &fabric);
}

#define WORKERS GP_ROUNDS(8u, 3u)
#define COUNT   200000u

typedef struct plan {
    gp_sim *sim;
    bool registers;
    const char *codec;
    size_t most; /* regions of any process */
} plan;

/* All that a group does with users' memory: slots and copies, straight into
 * it, with the codec, between two. */
static void
use_group(gp_group *g, float *in, float *out)
{
    uint32_t rank = gp_group_rank(g), size = gp_group_size(g);
    gp_request *r[2];

    for (int step = 0; step < GP_ROUNDS(2, 1); step++) {
        for (uint64_t i = 0; i < COUNT; i++)
            in[i] = job_pattern(i, rank);
        job_check(gp_allreduce(g, in, out, COUNT, GP_FP32, GP_SUM, &r[0]));
        job_finish(&r[0]);
        job_check(gp_allreduce(g, in, out, 64, GP_FP32, GP_LARGEST, &r[0]));
        job_finish(&r[0]);
        job_check(gp_bcast(g, out, COUNT * sizeof(float), 1, &r[0]));
        job_finish(&r[0]);
        job_check(gp_recv(g, out, COUNT * sizeof(float), (rank + 1) % size, 0,
                          &r[0]));
        job_check(gp_send(g, in, COUNT * sizeof(float),
                          (rank + size - 1) % size, 0, &r[1]));
        job_finish(&r[0]);
        job_finish(&r[1]);
        for (uint64_t i = 0; i < COUNT; i++)
            job_require(out[i] == job_pattern(i, (rank + 1) % size));
    }
}

static void
count_body(job *j, gp_worker *w, uint32_t rank)
{
    plan *p = j->data;
    gp_group_options o = GP_GROUP_INIT;
    size_t bytes = 2 * COUNT * sizeof(float);
    float *memory = aligned_alloc(64, bytes);
    gp_buffer *buffer = NULL;
    gp_group *g;

    job_require(memory != NULL);
    if (p->registers)
        job_check(gp_buffer_register(w, memory, bytes, &buffer));
    o.codec = p->codec;
    job_check(gp_group_create(w, &o, &g));
    use_group(g, memory, memory + COUNT);
    job_check(gp_barrier(w));
    for (unsigned i = 1; rank == 0 && i <= 2 * j->workers; i++) {
        size_t regions = gp_sim_regions(p->sim, i);

        p->most = regions > p->most ? regions : p->most;
    }
    job_check(gp_barrier(w));
    gp_group_destroy(g);
    job_check(gp_buffer_unregister(buffer));
    free(memory);
}

/* Three for each other worker; its shard, without tensors, has frames alone. */
static void
count_on(const plan *of, uint32_t workers, bool windows)
{
    static const gp_sim_device bare = {.no_windows = true};
    gp_sim_options fabric = {.seed = workers,
                             .device = windows ? NULL : &bare,
                             .devices = 1,
                             .ignore_buffers = true};
    plan p = *of;
    job j = {.transport = "verbs",
             .workers = workers,
             .colocated = true,
             .body = count_body,
             .data = &p};

    p.sim = gp_sim_open(&fabric);
    assert_non_null(p.sim);
    gp_verbs_api_use(gp_sim_api(p.sim));
    assert_int_equal(run_job(&j), GP_OK);
    gp_verbs_api_use(NULL);
    assert_int_equal(gp_sim_finish(p.sim), 0);
    print_message("%u workers, windows %d, registered %d, codec %s: %zu\n",
                  workers, windows, p.registers, p.codec ? p.codec : "none",
                  p.most);
    assert_in_range(p.most, 2 * (workers - 1), 4 * (workers - 1));
}

static void
test_regions(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 8; i += GP_ROUNDS(1, 2)) {
        plan p = {.registers = !(i & 1), .codec = i & 2 ? "q8" : NULL};

        count_on(&p, WORKERS, i & 4);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copied),
        cmocka_unit_test(test_registered),
        cmocka_unit_test(test_regions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
