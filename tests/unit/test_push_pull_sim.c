/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_push_pull_sim.c - whole jobs over verbs on fabrics that can do less than
 * one is used to: what comes back is what plain loops compute, bit for bit.
 *
 * iWARP has no immediate data, no windows, little inline room, and its own
 * rules for access flags; the fabric holds a violation of those against us.
 */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "job_reference.h"
#include "tests/sim/sim.h"

#define STEPS   3
#define WORKERS 2u

static const reference_tensor tensors[] = {
    {"one", GP_FP32, 1, NULL, NULL, "sum", -1},
    {"many", GP_FP32, 100001, NULL, NULL, "mean", -1},
    {"half", GP_FP16, 20001, NULL, NULL, "sgd:lr=0.5", -1},
    {"trained", GP_FP32, 50001, NULL, NULL,
     "sgd:lr=0.1,momentum=0.9,nesterov=1,weight_decay=0.001", -1},
    {"q8", GP_FP32, 60001, "q8", "q8", "mean", 1},
    {"bf16", GP_FP32, 30001, "bf16", "bf16", "sum", -1},
    {"q8sgd", GP_FP32, 30001, "q8", "fp16",
     "sgd:lr=0.1,momentum=0.9,nesterov=1,weight_decay=0", -1},
};
#define TENSORS (sizeof(tensors) / sizeof(tensors[0]))

/* Shards 0: co-located. */
static void
run_workers(const gp_sim_options *fabric, reference_plan *p, uint32_t workers,
            uint32_t shards, const char *queue)
{
    job j = {.transport = "verbs",
             .workers = workers,
             .shards = shards,
             .colocated = shards == 0,
             .settings = {"chunk_bytes", "16K", "ib_queue", queue, "ib_notify",
                          "imm"}};
    gp_sim *sim = gp_sim_open(fabric);

    assert_non_null(sim);
    gp_verbs_api_use(gp_sim_api(sim));
    reference_run(&j, p);
    gp_verbs_api_use(NULL);
    assert_true(gp_sim_stats_now(sim).writes > 0);
    assert_true(gp_sim_stats_now(sim).write_imms == 0 ||
                !fabric->device->iwarp);
    assert_int_equal(gp_sim_finish(sim), 0);
}

static void
run_on(const gp_sim_options *fabric, reference_plan *p, uint32_t shards,
       const char *queue)
{
    run_workers(fabric, p, WORKERS, shards, queue);
}

static void
run_all(const gp_sim_device *device)
{
    gp_sim_options plain = {
        .seed = 1, .device = device, .devices = 1, .ignore_buffers = true};
    gp_sim_options rough = {.seed = 2,
                            .device = device,
                            .devices = 1,
                            .shuffle = true,
                            .late_acks = true,
                            .late_established = true,
                            .spurious_events = true,
                            .timewait = true,
                            .ignore_buffers = true};
    reference_plan p = {tensors, TENSORS, STEPS,
                        reference_make(tensors, TENSORS, WORKERS, STEPS)};

    run_on(&plain, &p, 3, "256");
    run_on(&plain, &p, 0, "256");
    run_on(&rough, &p, 2, "32");
    reference_free(p.expected);
}

static void
over_iwarp(void **state)
{
    static const gp_sim_device iwarp = {.iwarp = true};

    (void)state;
    run_all(&iwarp);
}

static void
over_a_bare_device(void **state)
{
    static const gp_sim_device bare = {.no_windows = true,
                                       .inline_max = UINT_MAX,
                                       .max_sge = 1,
                                       .max_msg = 65536};

    (void)state;
    run_all(&bare);
}

/* Results leave from where their pushes landed. */
static void
of_one_worker(void **state)
{
    static const gp_sim_device device = {.iwarp = false};
    gp_sim_options late = {.seed = 3,
                           .device = &device,
                           .devices = 1,
                           .shuffle = true,
                           .late_acks = true,
                           .ignore_buffers = true};
    reference_plan p = {tensors, TENSORS, STEPS,
                        reference_make(tensors, TENSORS, 1, STEPS)};

    (void)state;
    run_workers(&late, &p, 1, 1, "256");
    run_workers(&late, &p, 1, 3, "32");
    reference_free(p.expected);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(over_iwarp),
        cmocka_unit_test(over_a_bare_device),
        cmocka_unit_test(of_one_worker),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
