/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_modes_sim.c - modes whose results are sent from copies, over verbs on a
 * simulated fabric: into registered memory, and through buffers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "job_harness.h"
#include "tests/sim/sim.h"

#define WORKERS 3u
#define COUNT   20000u
#define STEPS   8u

typedef struct plan {
    const char *mode;
    bool registered;
} plan;

/* Element i of the parameters counts updates of worker i % WORKERS. */
static void
body(job *j, gp_worker *w, uint32_t rank)
{
    const plan *p = j->data;
    float *memory = aligned_alloc(64, 2 * sizeof(float) * (COUNT + 32));
    float *grad = memory, *value = memory + COUNT + 32;
    gp_tensor_options o = GP_TENSOR_INIT;
    gp_buffer *buffer;
    gp_request *r;
    gp_tensor *t;

    o.name = "t";
    o.count = COUNT;
    o.updater = "sgd:lr=1";
    o.mode = p->mode;
    job_check(gp_tensor_register(w, &o, &t));
    if (p->registered)
        job_check(gp_buffer_register(
            w, memory, 2 * sizeof(float) * (COUNT + 32), &buffer));
    for (uint32_t i = 0; i < COUNT; i++) {
        grad[i] = i % WORKERS == rank ? -1.0f : 0.0f;
        value[i] = 0;
    }
    job_check(gp_broadcast(t, value, 0, &r));
    job_check(gp_wait(&r, -1));
    for (uint32_t n = 1; n <= STEPS; n++) {
        job_check(gp_push_pull(t, grad, value, &r));
        job_check(gp_wait(&r, -1));
        for (uint32_t i = rank; i < COUNT; i += WORKERS)
            job_require(value[i] == (float)n);
    }
    job_check(gp_worker_rest(w));
    job_check(gp_barrier(w));
    job_check(gp_pull(t, value, &r));
    job_check(gp_wait(&r, -1));
    for (uint32_t i = 0; i < COUNT; i++)
        job_require(value[i] == (float)STEPS);
    if (p->registered)
        job_check(gp_buffer_unregister(buffer));
    free(memory);
}

static void
modes_over_verbs(void **state)
{
    static const char *const modes[] = {"async", "ssp:1"};

    (void)state;
    for (uint32_t i = 0; i < 4; i++) {
        gp_sim_options fabric = {.seed = i, .ignore_buffers = true};
        gp_sim *sim = gp_sim_open(&fabric);
        plan p = {modes[i / 2], i % 2};
        job j = {.transport = "verbs",
                 .workers = WORKERS,
                 .shards = 2,
                 .settings = {"chunk_bytes", "16K"},
                 .body = body,
                 .data = &p};
        gp_status status;

        assert_non_null(sim);
        gp_verbs_api_use(gp_sim_api(sim));
        status = run_job(&j);
        gp_verbs_api_use(NULL);
        assert_int_equal(gp_sim_finish(sim), 0);
        if (status != GP_OK)
            fail_msg("%s: %s %s", p.mode, j.server_message, j.message[0]);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(modes_over_verbs)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
