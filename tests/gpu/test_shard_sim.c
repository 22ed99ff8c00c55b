/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_shard_sim.c - shards on a CUDA device give the results of shards in the
 * host's memory, bit for bit: whatever the codec, the updater and the
 * transport. The device is simulated, unless GRADPUSH_TEST_CUDA=real is in the
 * environment.
 */
#include "tests/gpu/stream_trainer.h"

#define WORKERS 3u
#define KINDS   20u

static bool real;

/* What a job with these tensors gives every worker in each step. */
typedef struct record {
    const kind *kinds;
    uint32_t count;
    bool weighted;
    uint8_t *result[WORKERS][KINDS][STEPS];
} record;

static void
open_record(record *p)
{
    for (uint32_t r = 0; r < WORKERS; r++)
        for (uint32_t i = 0; i < p->count; i++)
            for (uint32_t s = 0; s < STEPS; s++)
                p->result[r][i][s] = room(bytes_of(&p->kinds[i]));
}

static void
close_record(record *p)
{
    for (uint32_t r = 0; r < WORKERS; r++)
        for (uint32_t i = 0; i < p->count; i++)
            for (uint32_t s = 0; s < STEPS; s++)
                free(p->result[r][i][s]);
}

static bool
keeps(const kind *k)
{
    return strcmp(k->updater, "sum") != 0 && strcmp(k->updater, "mean") != 0;
}

static void
give_values(const record *p, gp_tensor **t)
{
    for (uint32_t i = 0; i < p->count; i++) {
        uint8_t *values = room(bytes_of(&p->kinds[i]));
        gp_request *r;

        fill(&p->kinds[i], 77, i, 0, values);
        if (keeps(&p->kinds[i])) {
            job_check(gp_broadcast(t[i], values, 0, &r));
            job_check(gp_wait(&r, -1));
        }
        free(values);
    }
}

static gp_status
push(const record *p, gp_tensor *t, void *values, double weight, gp_request **r)
{
    return p->weighted ? gp_push_pull_weighted(t, values, values, weight, r)
                       : gp_push_pull(t, values, values, r);
}

static void
train(job *j, gp_worker *w, uint32_t rank)
{
    record *p = j->data;
    gp_tensor *t[KINDS];
    gp_request *r[KINDS];

    for (uint32_t i = 0; i < p->count; i++)
        t[i] = add(w, &p->kinds[i], NULL);
    give_values(p, t);
    for (uint32_t s = 0; s < STEPS; s++) {
        for (uint32_t i = p->count; i-- > 0;) {
            uint8_t *values = p->result[rank][i][s];

            fill(&p->kinds[i], rank, i, s, values);
            job_check(push(p, t[i], values, 1 + (rank + s) % 3, &r[i]));
        }
        job_check(gp_wait_all(r, p->count, -1));
    }
}

typedef struct surrounds {
    const char *transport;
    uint32_t workers;
    bool colocated, weighted;
    const char *chunk_bytes;
} surrounds;

static void
run_record(record *p, const surrounds *a, const char *device)
{
    job j = {.transport = a->transport,
             .workers = a->workers,
             .shards = 2,
             .colocated = a->colocated,
             .settings = {"chunk_bytes",
                          a->chunk_bytes ? a->chunk_bytes : "32K",
                          "shard_device", device},
             .body = train,
             .data = p};

    p->weighted = a->weighted;
    if (run_job(&j) != GP_OK)
        fail_msg("%s%s", j.message[0], j.server_message);
    assert_int_equal(gp_sim_cuda_objects(), 0);
    assert_int_equal(gp_sim_cuda_pushed(), 0);
}

static void
same_as_host(const kind *k, uint32_t count, surrounds a)
{
    record host = {.kinds = k, .count = count};
    record device = {.kinds = k, .count = count};
    uint64_t launches;

    open_record(&host);
    open_record(&device);
    run_record(&host, &a, "cpu");
    launches = gp_sim_cuda_launches();
    run_record(&device, &a, real ? "cuda" : "cuda:1");
    assert_true(real || gp_sim_cuda_launches() - launches >= count * STEPS);
    for (uint32_t r = 0; r < a.workers; r++)
        for (uint32_t i = 0; i < count; i++)
            for (uint32_t s = 0; s < STEPS; s++)
                if (memcmp(host.result[r][i][s], device.result[r][i][s],
                           bytes_of(&k[i])) != 0)
                    fail_msg("%s %u workers: rank %u tensor %s step %u",
                             a.transport, a.workers, r, k[i].name, s);
    close_record(&host);
    close_record(&device);
}

static void
sums_are_those_of_the_host(void **state)
{
    static const kind sums[] = {
        {"one", GP_FP32, 1, 0, NULL, NULL, "sum", 9},
        {"many", GP_FP32, 30001, 0, NULL, NULL, "mean", 1},
        {"q8", GP_FP32, 18001, 0, "q8", NULL, "mean", 2},
        {"q8q8", GP_FP32, 9001, 0, "q8", "q8", "mean", 3},
        {"half", GP_FP16, 20001, 0, NULL, NULL, "mean", 4},
        {"brain", GP_BF16, 9001, 0, "q8", NULL, "sum", 5},
        {"choice", GP_FP32, 20001, 0, "none|q8", NULL, "mean", 6},
        {"top", GP_FP32, 9001, 0, "topk:0.05+none+raw", NULL, "mean", 7},
        {"rice", GP_FP32, 9001, 0, "topk:0.05+q8", "q4", "mean", 8},
        {"rank", GP_FP32, 64 * 48, 48, "powersgd:2", NULL, "mean", 9},
        {"packed", GP_FP32, 9001, 0, "q8+lz4", "q8+lz4", "sum", 9},
        {"turned", GP_FP32, 9001, 0, "hadamard+q4", NULL, "mean", 9},
        {"vote", GP_FP32, 9001, 0, "vote", "vote", "sum", 9},
        {"differ", GP_FP32, 9001, 0, "ef21+topk:0.1", NULL, "mean", 9},
        {"back", GP_FP32, 9001, 0, NULL, "ef+q4", "mean", 9},
    };
    uint32_t n = GP_COUNT_OF(sums);

    (void)state;
    same_as_host(sums, n, (surrounds){"loop", 1, false, false, NULL});
    same_as_host(sums, n, (surrounds){"tcp", 3, false, false, NULL});
    same_as_host(sums, n, (surrounds){"tcp", 2, true, false, NULL});
    same_as_host(sums, n - 3, (surrounds){"tcp", 2, false, true, NULL});
}

/* Entropy codes behind a selection and a transform, both ways. */
static void
grids_are_those_of_the_host(void **state)
{
    static const kind grids[] = {
        {"chosen", GP_FP32, 3001, 0, "topk:0.05+uq+raw", NULL, "mean", 1},
        {"turned", GP_FP32, 3001, 0, "hadamard:block=256+uq",
         "hadamard:block=256+uq", "mean", 2},
    };

    (void)state;
    same_as_host(grids, 2, (surrounds){"tcp", 2, false, false, NULL});
}

static void
updates_are_those_of_the_host(void **state)
{
    static const kind all[] = {
        {"sgd", GP_FP32, 9001, 0, "q8", NULL, "sgd:lr=0.5,weight_decay=0.01",
         0},
        {"momentum", GP_FP32, 9001, 0, NULL, "q8", "sgd:lr=0.1,momentum=0.9",
         0},
        {"damp", GP_BF16, 5001, 0, NULL, NULL,
         "sgd:lr=0.1,momentum=0.9,dampening=0.5", 0},
        {"nesterov", GP_FP32, 9001, 0, NULL, NULL,
         "sgd:lr=0.1,momentum=0.9,nesterov=1", 0},
        {"adam", GP_FP32, 9001, 0, "q4", NULL, "adam:weight_decay=0.1", 0},
        {"amsgrad", GP_FP32, 5001, 0, NULL, NULL, "adam:amsgrad=1", 0},
        {"adamw", GP_FP32, 9001, 0, NULL, "bf16", "adamw:cosine=10", 0},
        {"adagrad", GP_FP32, 5001, 0, NULL, NULL,
         "adagrad:lr_decay=0.1,initial_accumulator_value=0.5", 0},
        {"rms", GP_FP32, 5001, 0, NULL, NULL, "rmsprop", 0},
        {"rmsall", GP_FP32, 5001, 0, NULL, NULL,
         "rmsprop:momentum=0.5,centered=1", 0},
    };

    (void)state;
    same_as_host(all, GP_COUNT_OF(all),
                 (surrounds){"loop", 1, false, false, NULL});
    same_as_host(all, GP_COUNT_OF(all),
                 (surrounds){"tcp", 3, false, false, NULL});
}

/* All that is clipped together, and what lamb scales, over two shards and both
 * kinds of memory. */
static void
norms_are_those_of_the_host(void **state)
{
    static const kind clipped[] = {
        {"a", GP_FP32, 20001, 0, NULL, NULL, "sgd:lr=0.5,clip=0.7", 0},
        {"b", GP_FP32, 77, 0, "q8", NULL, "adam:clip=0.7", 0},
        {"c", GP_FP32, 5001, 0, NULL, "q8", "adamw:clip=1e9", 0},
        {"d", GP_FP32, 5001, 0, NULL, NULL, "sgd", 0},
        {"e", GP_FP32, 30001, 0, "q8", NULL, "lamb:lr=0.1", 0},
        {"f", GP_FP32, 20001, 0, NULL, "q8", "lamb:clip=0.7,cosine=9", 0},
        {"g", GP_BF16, 5001, 0, NULL, NULL, "lamb:weight_decay=0", 0},
    };
    uint32_t n = GP_COUNT_OF(clipped);

    (void)state;
    same_as_host(clipped, n, (surrounds){"loop", 1, false, false, NULL});
    same_as_host(clipped, n, (surrounds){"tcp", 3, false, false, NULL});
    same_as_host(clipped, n, (surrounds){"tcp", 2, true, false, NULL});
}

/* More than a turn has room for, and a coder has slots for. */
static void
many_chunks_take_turns(void **state)
{
    static const kind many[] = {
        {"coded", GP_FP32, 120001, 0, "q8", "q8", "mean", 0},
        {"plain", GP_FP32, 120001, 0, NULL, NULL, "sgd:lr=0.5,clip=1", 0},
        {"scaled", GP_FP32, 190001, 0, "q8", "q8", "lamb:clip=2", 0},
    };
    surrounds a = {"tcp", 2, false, false, NULL};

    (void)state;
    a.chunk_bytes = "16K";
    same_as_host(many, 3, a);
}

int
main(void)
{
    static const gp_sim_cuda_options options = {.devices = 2, .delay_us = 50};
    static gp_device *kept;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_those_of_the_host),
        cmocka_unit_test(grids_are_those_of_the_host),
        cmocka_unit_test(updates_are_those_of_the_host),
        cmocka_unit_test(many_chunks_take_turns),
        cmocka_unit_test(norms_are_those_of_the_host),
    };

    const char *which = getenv("GRADPUSH_TEST_CUDA");

    real = which && strcmp(which, "real") == 0;
    if (real)
        (void)gp_device_open("cuda", &kept); /* and with it a context */
    else
        gp_sim_cuda_install(&options);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
