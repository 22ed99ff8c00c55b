/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_collective.c - every operation, for groups of 1 to 8, over loop and tcp.
 *
 * Sums that round are compared between ranks, bit for bit.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "job_collective.h"
#include "tests/rounds.h"

static void
run_sizes(const char *transport, void (*body)(job *, gp_worker *, uint32_t),
          void *data)
{
    /* Half of them: alone, a power of two, and one that is none. */
    static const uint32_t sizes[] = {1, 3, 4, 2, 5, 8};

    for (size_t i = 0; i < GP_ROUNDS(6, 3); i++) {
        job j = {.transport = transport,
                 .workers = sizes[i],
                 .colocated = true,
                 .body = body,
                 .data = data};

        assert_int_equal(run_job(&j), GP_OK);
    }
}

static void
test_loop(void **state)
{
    (void)state;
    run_sizes("loop", job_collectives, NULL);
}

static void
test_tcp(void **state)
{
    (void)state;
    run_sizes("tcp", job_collectives, NULL);
}

/* --- the same bits everywhere ----------------------------------------------
 */

typedef struct kept {
    uint8_t *bytes[JOB_WORKERS];
    gp_dtype dtype;
    const char *algorithm;
    uint64_t count;
} kept;

static void
keep_result(job *j, gp_worker *w, uint32_t rank)
{
    kept *k = j->data;
    size_t bytes = k->count * gp_dtype_bytes(k->dtype);
    gp_group_options o = GP_GROUP_INIT;
    uint8_t *in = malloc(bytes);
    gp_request *request;
    gp_group *g;

    job_require(in != NULL);
    for (uint64_t i = 0; i < k->count; i++) {
        float value = job_value(rank, 0, 0, i) * 1.37f;
        uint16_t half;

        memcpy(in + i * (bytes / k->count), &value, 2);
        if (k->dtype == GP_FP32)
            memcpy(in + 4 * i, &value, 4);
        else {
            half = (uint16_t)(0x3c00 + ((rank * 977 + i * 131) & 0x3ff));
            memcpy(in + 2 * i, &half, 2);
        }
    }
    k->bytes[rank] = malloc(bytes);
    o.algorithm = k->algorithm;
    job_check(gp_group_create(w, &o, &g));
    job_check(gp_allreduce(g, in, k->bytes[rank], k->count, k->dtype, GP_MEAN,
                           &request));
    job_finish(&request);
    free(in);
}

/* What all ranks have alike; to be freed. */
static uint8_t *
result_of(gp_dtype dtype, const char *algorithm, size_t *bytes)
{
    kept k = {.dtype = dtype, .algorithm = algorithm, .count = 20011};
    job j = {.transport = "tcp",
             .workers = 5,
             .colocated = true,
             .body = keep_result,
             .data = &k};

    *bytes = k.count * gp_dtype_bytes(dtype);
    assert_int_equal(run_job(&j), GP_OK);
    for (uint32_t r = 1; r < j.workers; r++) {
        assert_memory_equal(k.bytes[0], k.bytes[r], *bytes);
        free(k.bytes[r]);
    }
    return k.bytes[0];
}

/* ... and the shards of blocks add in the order in which all do in `direct`. */
static void
test_same_bits(void **state)
{
    static const char *const algorithms[] = {"direct", "halving", "ring",
                                             "shards"};
    uint8_t *result[4];
    size_t bytes;

    (void)state;
    for (int d = GP_FP32; d <= GP_BF16; d++) {
        for (size_t a = 0; a < 4; a++)
            result[a] = result_of((gp_dtype)d, algorithms[a], &bytes);
        assert_memory_equal(result[0], result[3], bytes);
        for (size_t a = 0; a < 4; a++)
            free(result[a]);
    }
}

/* --- many at once
 * ------------------------------------------------------------- */

#define OPEN 24

static void
many_requests(job *j, gp_worker *w, uint32_t rank)
{
    gp_group *all, *pairs = NULL;
    gp_group_options o = GP_GROUP_INIT;
    uint32_t ranks[2] = {rank & ~1u, rank | 1u}, seed = 7 + rank;
    gp_request *request[OPEN * 2];
    float *values[OPEN * 2];
    uint64_t count[OPEN * 2];

    job_check(gp_group_create(w, NULL, &all));
    o.ranks = ranks;
    o.count = 2;
    job_check(gp_group_create(w, &o, &pairs));
    for (size_t i = 0; i < OPEN * 2; i++) {
        /* Which group goes first differs between ranks. */
        size_t at = rank % 2 ? (i + OPEN) % (OPEN * 2) : i;
        gp_group *g = at < OPEN ? all : pairs;

        count[at] = (at * 3571) % 60000;
        values[at] = job_numbers(count[at]);
        for (uint64_t k = 0; k < count[at]; k++)
            values[at][k] = job_pattern(k, gp_group_rank(g));
        job_check(gp_allreduce(g, values[at], values[at], count[at], GP_FP32,
                               GP_SUM, &request[at]));
    }
    for (size_t i = 0; i < OPEN * 2; i++) {
        size_t at = (i + job_random(&seed)) % (OPEN * 2);

        while (!request[at])
            at = (at + 1) % (OPEN * 2);
        job_finish(&request[at]);
        job_check_sum(values[at], count[at], at < OPEN ? j->workers : 2,
                      "many");
        job_give(values[at]);
    }
    gp_group_destroy(pairs);
    gp_group_destroy(all);
}

static void
test_many_requests(void **state)
{
    static const char *const transports[] = {"loop", "tcp"};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        job j = {.transport = transports[i],
                 .workers = 4,
                 .colocated = true,
                 .body = many_requests};

        assert_int_equal(run_job(&j), GP_OK);
    }
}

/* --- from one to another
 * -------------------------------------------------------- */

static void
pass_round(job *j, gp_worker *w, uint32_t rank)
{
    static const uint64_t sizes[] = {0, 5, 5000, 300000,
                                     GP_ROUNDS(3000001, 700001)};
    uint32_t n = j->workers, right = (rank + 1) % n, left = (rank + n - 1) % n;
    gp_request *request[10];
    uint8_t *in[5], *out[5];
    gp_group *g;

    job_check(gp_group_create(w, NULL, &g));
    for (uint32_t t = 0; t < 5; t++) {
        in[t] = malloc(sizes[t] + 1);
        out[t] = malloc(sizes[t] + 1);
        job_require(in[t] && out[t]);
        memset(in[t], (int)(rank * 16 + t), sizes[t]);
        memset(out[t], 0xee, sizes[t]);
        job_check(gp_send(g, in[t], sizes[t], right, t, &request[t]));
    }
    for (uint32_t t = 5; t-- > 0;) /* in another order than they are sent */
        job_check(gp_recv(g, out[t], sizes[t], left, t, &request[5 + t]));
    job_check(gp_wait_all(request, 10, -1));
    for (uint32_t t = 0; t < 5; t++) {
        for (uint64_t i = 0; i < sizes[t]; i++)
            job_require(out[t][i] == left * 16 + t);
        free(in[t]);
        free(out[t]);
    }
    gp_group_destroy(g);
}

static void
test_points(void **state)
{
    static const char *const transports[] = {"loop", "tcp"};

    (void)state;
    for (size_t i = 0; i < 2; i++)
        for (uint32_t n = 2; n < 5; n++) {
            job j = {.transport = transports[i],
                     .workers = n,
                     .colocated = true,
                     .body = pass_round};

            assert_int_equal(run_job(&j), GP_OK);
        }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loop),      cmocka_unit_test(test_tcp),
        cmocka_unit_test(test_same_bits), cmocka_unit_test(test_many_requests),
        cmocka_unit_test(test_points),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
