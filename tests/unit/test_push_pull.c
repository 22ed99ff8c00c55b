/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_push_pull.c - a job computes what plain loops compute, bit for bit.
 *
 * Over loop and tcp, with one shard or more, stand-alone or inside the workers,
 * in whatever order the workers push: the same bytes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "job_reference.h"

/* A build without liblz4 runs the same jobs without that stage. */
#ifdef GP_HAVE_LZ4
#define LZ4 "+lz4"
#else
#define LZ4 ""
#endif

#define STEPS       3
#define TENSORS_MAX 8

typedef struct plan {
    const reference_tensor *tensors;
    uint32_t count;
    reference *expected;
} plan;

static void
compare(const reference_tensor *t, const void *got, const void *want,
        uint32_t rank, uint32_t step)
{
    const uint8_t *a = got, *b = want;
    uint64_t bytes = reference_bytes(t);

    if (memcmp(a, b, bytes) == 0)
        return;
    for (uint64_t i = 0; i < bytes; i++)
        job_require(a[i] == b[i],
                    "rank %u step %u tensor %s: byte %u of %u is %02x, not "
                    "%02x",
                    rank, step, t->name, (unsigned)i, (unsigned)bytes, a[i],
                    b[i]);
}

/* Each rank pushes in an order of its own, and waits in another. */
static void
run_step(const plan *p, gp_tensor **t, void **data, uint32_t rank,
         uint32_t step, uint32_t *random)
{
    gp_request *request[TENSORS_MAX];
    uint32_t order[TENSORS_MAX];

    job_shuffle(order, p->count, random);
    for (uint32_t i = 0; i < p->count; i++) {
        uint32_t k = order[i];

        reference_gradient(&p->tensors[k], k, rank, step, data[k]);
        job_check(gp_push_pull(t[k], data[k], data[k], &request[k]));
    }
    job_shuffle(order, p->count, random);
    for (uint32_t i = 0; i < p->count; i++)
        job_check(gp_wait(&request[order[i]], -1));
    for (uint32_t k = 0; k < p->count; k++)
        compare(&p->tensors[k], data[k], reference_result(p->expected, k, step),
                rank, step);
}

static void
plan_body(job *j, gp_worker *w, uint32_t rank)
{
    const plan *p = j->data;
    gp_tensor *t[TENSORS_MAX];
    void *data[TENSORS_MAX];
    uint32_t random = rank * 77 + 5;

    for (uint32_t k = 0; k < p->count; k++) {
        t[k] = reference_register(w, &p->tensors[k]);
        data[k] = malloc(reference_bytes(&p->tensors[k]));
    }
    for (uint32_t k = 0; k < p->count; k++) {
        gp_request *request;
        uint32_t root = k % j->workers;

        if (strncmp(p->tensors[k].updater, "sgd", 3) != 0)
            continue;
        reference_initial(&p->tensors[k], k, data[k]);
        if (rank != root)
            memset(data[k], 0, reference_bytes(&p->tensors[k]));
        job_check(gp_broadcast(t[k], data[k], root, &request));
        job_check(gp_wait(&request, -1));
    }
    for (uint32_t s = 0; s < STEPS; s++)
        run_step(p, t, data, rank, s, &random);
    for (uint32_t k = 0; k < p->count; k++)
        free(data[k]);
}

static void
run_one(plan *p, const char *transport, uint32_t workers, uint32_t shards,
        const char *chunk_bytes, const char *slots)
{
    job j = {.transport = transport,
             .workers = workers,
             .shards = shards,
             .colocated = shards == 0,
             .settings = {"chunk_bytes", chunk_bytes, "slots", slots},
             .body = plan_body,
             .data = p};
    gp_status status = run_job(&j);

    for (uint32_t r = 0; r < workers; r++)
        if (j.created[r] != GP_OK)
            fail_msg("rank %u: %s", r, j.message[r]);
    if (status != GP_OK)
        fail_msg("%s", j.server_message);
}

/* Shards 0: co-located. */
static void
run_everywhere(const reference_tensor *tensors, uint32_t count)
{
    static const uint32_t workers[] = {1, 2, 3};

    for (size_t i = 0; i < 3; i++) {
        plan p = {tensors, count, NULL};

        p.expected = reference_make(tensors, count, workers[i], STEPS);
        run_one(&p, "loop", workers[i], 1, "1M", "8");
        run_one(&p, "loop", workers[i], 3, "16K", "1");
        run_one(&p, "tcp", workers[i], 2, "16K", "8");
        run_one(&p, "tcp", workers[i], 1, "64K", "2");
        run_one(&p, "loop", workers[i], 0, "16K", "3");
        run_one(&p, "tcp", workers[i], 0, "16K", "64");
        reference_free(p.expected);
    }
}

static void
sums_means_and_sgd(void **state)
{
    static const reference_tensor tensors[] = {
        {"one", GP_FP32, 1, NULL, NULL, "sum", -1},
        {"seven", GP_FP32, 7, NULL, NULL, "mean", -1},
        {"many", GP_FP32, 300001, NULL, NULL, "mean", -1},
        {"plain", GP_FP32, 20000, NULL, NULL, "sgd:lr=0.25", -1},
        {"heavy", GP_FP32, 70001, NULL, NULL,
         "sgd:lr=0.1,momentum=0.9,nesterov=0,weight_decay=0.001", -1},
        {"nesterov", GP_FP32, 4097, NULL, NULL,
         "sgd:lr=0.1,momentum=0.9,nesterov=1,weight_decay=0", -1},
    };

    (void)state;
    run_everywhere(tensors, 6);
}

static void
half_types(void **state)
{
    static const reference_tensor tensors[] = {
        {"h1", GP_FP16, 1, NULL, NULL, "sum", -1},
        {"h2", GP_FP16, 30001, NULL, NULL, "mean", -1},
        {"b1", GP_BF16, 3, NULL, NULL, "mean", -1},
        {"b2", GP_BF16, 50001, NULL, NULL, "sum", -1},
        {"hs", GP_FP16, 9000, NULL, NULL, "sgd:lr=0.5", -1},
        {"hq", GP_FP16, 20000, "q8", "q8", "mean", -1},
        {"bq", GP_BF16, 20000, "q8" LZ4, NULL, "sgd:lr=0.5", -1},
    };

    (void)state;
    run_everywhere(tensors, 7);
}

static void
pipelines(void **state)
{
    static const reference_tensor tensors[] = {
        {"fp16", GP_FP32, 40001, "fp16", "fp16", "mean", -1},
        {"bf16", GP_FP32, 40001, "bf16", NULL, "sum", -1},
        {"q8", GP_FP32, 60001, "q8", "q8", "mean", 1},
        {"q8n", GP_FP32, 20001, "q8", "bf16", "sum", 0},
        {"q8lz4", GP_FP32, 60001, "q8" LZ4, "q8" LZ4, "sum", -1},
        {"lz4", GP_FP32, 30001, "none" LZ4, "none" LZ4, "mean", -1},
        {"small", GP_FP32, 1000, "q8", "q8", "mean", -1},
        {"sgd", GP_FP32, 30001, "q8", "fp16",
         "sgd:lr=0.1,momentum=0.9,nesterov=1,weight_decay=0", -1},
    };

    (void)state;
    run_everywhere(tensors, 8);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_means_and_sgd),
        cmocka_unit_test(half_types),
        cmocka_unit_test(pipelines),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
