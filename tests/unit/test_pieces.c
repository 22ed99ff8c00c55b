/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_pieces.c - into how many chunks a tensor is cut: more where a device
 * moves them, and only where results cannot depend on it.
 *
 * The transport is tcp behind a table that counts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/base.h"
#include "job_counted.h"
#include "job_reference.h"

#define STEPS     3u
#define CUT_COUNT (256u << 10) /* a MiB */

typedef struct plan {
    const char *codec;
    uint64_t others; /* elements of another tensor, which does not move */
} plan;

static void
register_others(gp_worker *w, uint64_t count)
{
    gp_tensor_options options = GP_TENSOR_INIT;
    gp_tensor *t;

    options.name = "others";
    options.count = count;
    if (count)
        job_check(gp_tensor_register(w, &options, &t));
}

static void
cut_body(job *j, gp_worker *w, uint32_t rank)
{
    const plan *p = j->data;
    gp_tensor_options options = GP_TENSOR_INIT;
    float *memory = aligned_alloc(64, CUT_COUNT * sizeof(float));
    gp_buffer *b;
    gp_tensor *t;

    job_require(memory != NULL);
    options.name = "t";
    options.count = CUT_COUNT;
    options.codec = p->codec;
    register_others(w, p->others);
    job_check(gp_buffer_register(w, memory, CUT_COUNT * sizeof(float), &b));
    job_check(gp_tensor_register(w, &options, &t));
    for (uint64_t s = 0; s < STEPS; s++) {
        gp_request *r;

        for (uint64_t i = 0; i < CUT_COUNT; i++)
            memory[i] = job_value(rank, 0, s, i);
        job_check(gp_push_pull(t, memory, memory, &r));
        job_check(gp_wait(&r, -1));
        for (uint64_t i = 0; i < CUT_COUNT && !p->codec; i++)
            job_require(memory[i] == job_value(0, 0, s, i));
    }
    job_check(gp_buffer_unregister(b));
    free(memory);
}

/* Pushes of one tensor. */
static uint64_t
pieces(uint32_t caps, const char *codec, const char *chunk_bytes,
       uint64_t others)
{
    plan p = {codec, others};
    job j = {.transport = "counted",
             .workers = 1,
             .shards = 1,
             .body = cut_body,
             .data = &p};
    counted c;

    if (chunk_bytes) {
        j.settings[0] = "chunk_bytes";
        j.settings[1] = chunk_bytes;
    }
    counted_begin(caps);
    assert_int_equal(run_job(&j), GP_OK);
    counted_look(&c);
    assert_string_equal(c.violation, "");
    assert_int_equal(c.worker.messages % STEPS, 0);
    return c.worker.messages / STEPS;
}

static void
devices_get_more_pieces(void **state)
{
    (void)state;
    assert_int_equal(pieces(0, NULL, NULL, 0), 2);
    assert_int_equal(pieces(GP_CAP_DEVICE, NULL, NULL, 0), 16);
    assert_int_equal(pieces(GP_CAP_DEVICE, NULL, "512K", 0), 2);
    assert_int_equal(pieces(GP_CAP_DEVICE, "q8", NULL, 0), 2);
}

/* What has much under way anyway keeps long chunks. */
static void
all_tensors_count(void **state)
{
    (void)state;
    assert_int_equal(pieces(GP_CAP_DEVICE, NULL, NULL, CUT_COUNT), 8);
    assert_int_equal(pieces(GP_CAP_DEVICE, NULL, NULL, 3 * CUT_COUNT), 4);
    assert_int_equal(pieces(GP_CAP_DEVICE, NULL, NULL, 100 * CUT_COUNT), 2);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(devices_get_more_pieces),
        cmocka_unit_test(all_tensors_count),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
