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

#include <cmocka.h>

#include "job_collective.h"
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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copied),
        cmocka_unit_test(test_registered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
