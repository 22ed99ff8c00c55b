/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_broadcast_root.c - nobody has the values that a root which is gone was
 * to broadcast: whoever waits for them hears so at once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "job_harness.h"

#define COUNT 20000u

/* Worker 1 is the root and leaves. Its going may be told before others ask. */
static void
rootless_body(job *j, gp_worker *w, uint32_t rank)
{
    gp_tensor *t = job_tensor(w, "weights", COUNT, "mean");
    float *data = malloc(COUNT * sizeof(float));
    gp_members m;
    gp_request *r;
    gp_status status;

    job_require(data);
    if (j->data) {
        job_check(gp_worker_members(w, &m));
        job_require(m.count == 3 && !m.late);
    }
    status = gp_barrier(w);
    if (rank == 1)
        job_check(status);
    if (rank != 1 && status == GP_OK)
        status = gp_broadcast(t, data, 1, &r);
    if (rank != 1 && status == GP_OK)
        status = gp_wait(&r, -1);
    j->ended[rank] = status;
    if (status != GP_OK)
        snprintf(j->message[rank], sizeof(j->message[0]), "%s",
                 gp_last_error());
    free(data);
}

static void
others_hear_at_once(bool elastic, const char *transport)
{
    gp_status status = elastic ? GP_ERR_PEER_LOST : GP_ERR_PEER_LEFT;
    job j = {.transport = transport,
             .workers = 3,
             .shards = 2,
             .settings = {"elastic", elastic ? "on" : "off", "min_workers", "3",
                          "log", "none"},
             .body = rootless_body,
             .data = elastic ? &j : NULL};

    assert_int_equal(run_job(&j), status);
    for (uint32_t r = 0; r < 3; r += 2) {
        assert_int_equal(j.ended[r], status);
        if (!strstr(j.message[r], "worker 1 died or left before it had "
                                  "broadcast tensor 'weights'"))
            fail_msg("%s", j.message[r]);
    }
}

static void
of_a_job_of_fixed_size(void **state)
{
    (void)state;
    others_hear_at_once(false, "loop");
    others_hear_at_once(false, "tcp");
}

static void
of_workers_that_come_and_go(void **state)
{
    (void)state;
    others_hear_at_once(true, "loop");
    others_hear_at_once(true, "tcp");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_a_job_of_fixed_size),
        cmocka_unit_test(of_workers_that_come_and_go),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
