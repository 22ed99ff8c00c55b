/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_trainer_handover.c - what only workers have comes to a newcomer bit for
 * bit, also when the one that gives it is gone in the middle of that.
 */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "comm_int.h"
#include "job_harness.h"

#define COUNT    20000
#define DEADLINE 120.0

typedef struct scene {
    bool deserts; /* worker 0 says that it gives, and leaves */
    atomic_bool both;
    float value[3][2][COUNT];
} scene;

static void
set_values(float value[2][COUNT])
{
    for (size_t i = 0; i < COUNT; i++) {
        value[0][i] = 1.0f / (float)(i + 3);
        value[1][i] = -1e-30f * (float)i;
    }
}

static gp_status
open_handover(gt_comm *comm, gp_worker *w, float value[2][COUNT])
{
    gt_mlp mlp = {.span = COUNT};

    comm->worker = w;
    comm->handover.arrays = 2;
    comm->handover.array[0] = value[0];
    comm->handover.array[1] = value[1];
    return gt_handover_open(comm, &mlp);
}

static void
desert(gt_comm *comm)
{
    gt_handover *h = &comm->handover;
    gp_request *r;

    memset(h->present, 0, 3 * sizeof(float));
    h->present[0] = 2;
    job_check(gp_push_pull(h->who, h->present, h->present, &r));
    job_check(gp_wait(&r, -1));
}

/* One call of all members; true when it was the one with the newcomer. */
static bool
meet(gt_comm *comm, scene *s, uint32_t rank, bool first)
{
    gp_members m;
    bool last;

    job_check(gp_worker_members(comm->worker, &m));
    last = m.count == 3;
    if (m.count == 2)
        atomic_store(&s->both, true);
    if (first && m.late)
        job_check(gt_handover_catch_up(comm));
    if (first && !m.late) {
        set_values(s->value[rank]);
        comm->handover.has = true;
        return last;
    }
    if (last && rank == 0 && s->deserts)
        desert(comm);
    else if (m.changed)
        job_check(gt_handover_run(comm));
    return last;
}

static void
body(job *j, gp_worker *w, uint32_t rank)
{
    scene *s = j->data;
    gt_comm comm = {0};
    double deadline = job_seconds() + DEADLINE;
    bool first = true;

    job_check(open_handover(&comm, w, s->value[rank]));
    while (rank == 2 && !atomic_load(&s->both)) {
        job_require(job_seconds() < deadline);
        sched_yield();
    }
    while (!meet(&comm, s, rank, first)) {
        first = false;
        job_require(job_seconds() < deadline);
    }
    gt_handover_close(&comm);
}

static void
play(bool deserts)
{
    static scene s;
    static float expected[2][COUNT];
    job j = {.transport = "loop",
             .workers = 3,
             .shards = 2,
             .settings = {"elastic", "on", "chunk_bytes", "16K"},
             .data = &s,
             .body = body};

    memset(&s, 0, sizeof(s));
    s.deserts = deserts;
    set_values(expected);
    assert_int_equal(run_job(&j), GP_OK);
    for (int r = deserts; r < 3; r++)
        for (int k = 0; k < 2; k++)
            for (size_t i = 0; i < COUNT; i++)
                assert_true(s.value[r][k][i] == expected[k][i]);
}

static void
a_newcomer_has_what_the_others_have(void **state)
{
    (void)state;
    play(false);
}

static void
another_gives_it_when_one_is_gone(void **state)
{
    (void)state;
    play(true);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_newcomer_has_what_the_others_have),
        cmocka_unit_test(another_gives_it_when_one_is_gone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
