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

#include <cmocka.h>

#include "job_reference.h"
#include "tests/rounds.h"

/* A build without liblz4 runs the same jobs without that stage. */
#ifdef GP_HAVE_LZ4
#define LZ4 "+lz4"
#else
#define LZ4 ""
#endif

#define STEPS 3

static void
run_one(reference_plan *p, const char *transport, uint32_t workers,
        uint32_t shards, const char *chunk_bytes, const char *slots)
{
    job j = {.transport = transport,
             .workers = workers,
             .shards = shards,
             .colocated = shards == 0,
             .settings = {"chunk_bytes", chunk_bytes, "slots", slots}};

    reference_run(&j, p);
}

/* Shards 0: co-located. */
static void
run_everywhere(const reference_tensor *tensors, uint32_t count)
{
    static const uint32_t workers[] = {1, 2, 3};

    for (size_t i = GP_ROUNDS(0, 2); i < 3; i++) {
        reference_plan p = {tensors, count, STEPS, NULL};

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
