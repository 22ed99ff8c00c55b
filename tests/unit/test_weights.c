/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_weights.c - shares of shards: the closed form, the map that follows
 * them, and jobs in which all agree on them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <math.h>

#include <cmocka.h>

#include "job_harness.h"
#include "job_raw.h"
#include "shard/map.h"
#include "shard/weights.h"
#include "wire/proto.h"

#define SHARDS_MAX 16u
#define COUNT      1000000u

/* Theorem 1 of OSDI'20, for n equal workers with a shard in each and k shards
 * by themselves on links of the same rate. */
static void
equal_links_are_the_closed_form(void **state)
{
    (void)state;
    for (uint32_t n = 3; n <= 8; n++)
        for (uint32_t k = 0; k < 8; k++) {
            double rate[SHARDS_MAX], all = 0;
            double d = (double)(n * n + k * n) - 2.0 * k;
            double x = n > k ? (double)(n - k) / d : 0;
            double y = 2.0 * (n - 1) / d;
            uint32_t w[SHARDS_MAX];

            for (uint32_t i = 0; i < n + k; i++)
                rate[i] = 5;
            gp_weights_solve(rate, n, true, k, w);
            for (uint32_t i = 0; i < n + k; i++)
                all += w[i];
            if (k >= n) { /* workers' links are full without any share */
                x = 0;
                y = 1.0 / k;
            }
            for (uint32_t i = 0; i < n + k; i++)
                assert_true(fabs(w[i] / all - (i < n ? x : y)) < 1e-3);
        }
}

static void
what_is_no_rate_is_filled_in(void **state)
{
    double rate[] = {10, (double)NAN, 30,    (double)INFINITY,
                     0,  -5,          1e300, 1e-300};
    double none[] = {0, -(double)INFINITY};
    uint32_t w[GP_COUNT_OF(rate)];

    (void)state;
    gp_weights_fill(rate, GP_COUNT_OF(rate));
    for (size_t i = 0; i < GP_COUNT_OF(rate); i++)
        assert_true(rate[i] == (i == 0 ? 10 : i == 2 ? 30 : 20));
    gp_weights_solve(rate, GP_COUNT_OF(rate), true, 0, w);
    for (size_t i = 0; i < GP_COUNT_OF(rate); i++)
        assert_true(w[i] <= GP_WEIGHT_FULL);
    gp_weights_fill(none, GP_COUNT_OF(none));
    assert_true(none[0] == 1 && none[1] == 1);
}

static void
shares_follow_the_rates(void **state)
{
    static const double apart[] = {1e12, 1e12, 10, 20, 40};
    static const double mixed[] = {10, 10, 10, 10, 40};
    static const double uneven[] = {10, 20, 20};
    uint32_t w[SHARDS_MAX];

    (void)state;
    gp_weights_solve(apart, 2, false, 3, w);
    assert_int_equal(w[0], GP_WEIGHT_FULL / 4);
    assert_int_equal(w[1], GP_WEIGHT_FULL / 2);
    assert_int_equal(w[2], GP_WEIGHT_FULL);
    /* One fast shard has it all before the workers have pushed it. */
    gp_weights_solve(mixed, 4, true, 1, w);
    assert_int_equal(w[0], 0);
    assert_int_equal(w[4], GP_WEIGHT_FULL);
    /* A worker on a slow link is busy with its own gradients. */
    gp_weights_solve(uneven, 3, true, 0, w);
    assert_int_equal(w[0], 0);
    assert_int_equal(w[1], w[2]);
    /* Of two, each link carries all of the model either way. */
    gp_weights_solve(uneven, 2, true, 0, w);
    assert_int_equal(w[0], w[1]);
    gp_weights_solve(uneven, 1, true, 0, w);
    assert_true(w[0] > 0);
}

static void
texts_are_read(void **state)
{
    static const char *const bad[] = {
        "",     "1",      "1,2",    "1,2,3,4",     "0,0,0", "1,2,x",
        "1,,3", "1,2,3 ", "1,-2,3", "1,2,1000001", "one"};
    uint32_t w[3];
    char text[32];

    (void)state;
    assert_int_equal(gp_weights_parse("4,0,1000000", 3, w), GP_OK);
    assert_int_equal(w[2], 1000000);
    gp_weights_print(w, 3, text);
    assert_string_equal(text, "4,0,1000000");
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(gp_weights_parse(bad[i], 3, w), GP_ERR_CONFIG);
        job_expect_text(gp_last_error(), "for each of 3 shards");
    }
}

static void
chunks_follow_the_weights(void **state)
{
    static const uint32_t weights[] = {4, 0, 2, 1, 1};
    const gp_map_tensor tensors[] = {{.count = 64u << 20}, {.count = 7}};
    uint64_t bytes[5] = {0};
    gp_map map;

    (void)state;
    assert_int_equal(gp_map_build(tensors, 2, 1u << 18, 5, weights, &map),
                     GP_OK);
    for (uint32_t i = 0; i < map.chunks; i++)
        bytes[map.chunk[i].shard] += map.chunk[i].count;
    for (uint32_t s = 0; s < 5; s++) {
        double share = (double)bytes[s] / ((64u << 20) + 7);

        assert_true(fabs(share - weights[s] / 8.0) < 0.005);
    }
    gp_map_free(&map);
}

static void
lists_carry_them(void **state)
{
    gp_tensor_spec spec = {.dtype = GP_FP32, .count = 5};
    uint32_t weights[] = {1, 2};
    gp_tensor_list list = {.chunk_bytes = 65536,
                           .shards = 2,
                           .count = 1,
                           .tensors = &spec,
                           .weights = weights};
    gp_tensor_list got, plain;
    char text[GP_TEXT_MAX];
    uint8_t *bytes;
    size_t size;

    (void)state;
    snprintf(spec.name, sizeof(spec.name), "t");
    assert_int_equal(gp_tensor_list_encode(&list, (void **)&bytes, &size),
                     GP_OK);
    assert_int_equal(gp_tensor_list_decode(bytes, size, &got), GP_OK);
    assert_memory_equal(got.weights, weights, sizeof(weights));
    assert_false(gp_tensor_list_differ(&list, 0, &got, 1, text, sizeof(text)));
    got.weights[1] = 3;
    assert_true(gp_tensor_list_differ(&list, 0, &got, 1, text, sizeof(text)));
    job_expect_text(text, "the weight of shard 1 is 2 on worker 0 but 3 on");
    gp_tensor_list_free(&got);
    assert_int_equal(gp_tensor_list_decode(bytes, size - 4, &got),
                     GP_ERR_PROTOCOL);
    assert_int_equal(gp_tensor_list_decode(bytes, size - 8, &plain), GP_OK);
    assert_null(plain.weights);
    assert_true(gp_tensor_list_differ(&list, 0, &plain, 1, text, sizeof(text)));
    gp_tensor_list_free(&plain);
    memset(bytes + size - 8, 0, 8);
    assert_int_equal(gp_tensor_list_decode(bytes, size, &got), GP_ERR_PROTOCOL);
    free(bytes);
}

typedef struct weighed {
    char seen[JOB_WORKERS][64]; /* shares, as each worker has them */
    const char *rates[JOB_WORKERS];
    const char *own[JOB_WORKERS];
} weighed;

static void
sum_body(job *j, gp_worker *w, uint32_t rank)
{
    gp_tensor *t = job_tensor(w, "t", COUNT, "sum");
    float *v = malloc(COUNT * sizeof(float));
    gp_request *request;
    gp_status status;

    for (uint32_t i = 0; i < COUNT; i++)
        v[i] = (float)(rank + 1);
    status = gp_push_pull(t, v, v, &request);
    if (status == GP_OK)
        status = gp_wait(&request, -1);
    for (uint32_t i = 0; i < COUNT && status == GP_OK; i++)
        job_require(v[i] == (float)(j->workers * (j->workers + 1) / 2),
                    "the sum");
    job_note(j, rank, status);
    free(v);
}

static void
tell_weights(job *j, gp_config *config, uint32_t rank)
{
    const weighed *all = j->data;

    if (all && all->rates[rank])
        job_set(config, "link_mbits", all->rates[rank]);
    if (all && all->own[rank])
        job_set(config, "shard_weights", all->own[rank]);
}

static void
given_weights_are_used(void **state)
{
    job j = {.transport = "tcp",
             .workers = 2,
             .shards = 3,
             .settings = {"shard_weights", "3,0,1", "chunk_bytes", "64K"},
             .body = sum_body};

    (void)state;
    assert_int_equal(run_job(&j), GP_OK);
    assert_int_equal(j.ended[0], GP_OK);
}

static void
co_located_ones_agree_by_rates(void **state)
{
    weighed all = {.rates = {"1000", "1000", "4000"}};
    job j = {.transport = "tcp",
             .workers = 3,
             .colocated = true,
             .settings = {"shard_weights", "auto", "log", "info"},
             .body = sum_body,
             .tweak = tell_weights,
             .data = &all};

    (void)state;
    job_log_start();
    assert_int_equal(run_job(&j), GP_OK);
    /* 1 + (3 - 2) x = 4 T, with T = 1: all of it on the fast one. */
    assert_true(job_log_has("weights of shards: 0,0,10000"));
    job_log_stop();
}

/* What comes out belongs to the machine; that all have it, and train, does not.
 */
static void
rates_are_measured(void **state)
{
    job j = {.transport = "tcp",
             .workers = 3,
             .colocated = true,
             .settings = {"shard_weights", "measured", "log", "info"},
             .body = sum_body};

    (void)state;
    job_log_start();
    assert_int_equal(run_job(&j), GP_OK);
    for (uint32_t r = 0; r < j.workers; r++)
        assert_int_equal(j.ended[r], GP_OK);
    assert_true(job_log_has("link of shard 0, measured: "));
    assert_true(job_log_has("link of shard 2, measured: "));
    assert_false(job_log_has("measured: 0 Mbit/s"));
    assert_true(job_log_has("weights of shards: "));
    job_log_stop();
}

static void
measuring_needs_all(void **state)
{
    job j = {.transport = "tcp",
             .workers = 1,
             .shards = 2,
             .settings = {"shard_weights", "measured", "elastic", "on"}};
    gp_config *config;
    gp_worker *w = NULL;

    (void)state;
    job_start_servers(&j);
    config = job_config(&j);
    job_set(config, "rank", "0");
    job_set(config, "servers", j.servers);
    assert_int_equal(gp_worker_create(config, &w), GP_ERR_CONFIG);
    job_expect_text(gp_last_error(), "needs all workers at the beginning");
    gp_config_destroy(config);
    for (uint32_t s = 0; s < j.shards; s++) /* which wait for others */
        gp_server_destroy(j.server[s]);
}

/* Bytes are for the asking: as many as one may ask for, and before tensors are
 * agreed on. */
static void
probes_have_a_limit(void **state)
{
    static const uint64_t bytes[] = {0, GP_PROBE_BYTES + 1, UINT64_MAX, 64};

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(bytes); i++) {
        job j = {.transport = "tcp", .workers = 1, .shards = 1};
        gp_msg fine = {.type = GP_MSG_PROBE, .elements = 1000, .payload = 0};
        gp_msg bad = {.type = GP_MSG_PROBE, .elements = bytes[i]};
        raw w;

        job_log_start();
        job_start_servers(&j);
        raw_connect(&w, j.transport, j.servers, 0, 1);
        raw_join(&w);
        raw_expect(&w, GP_MSG_START);
        raw_send(&w, &fine, NULL);
        raw_expect(&w, GP_MSG_PROBE);
        assert_int_equal(w.last.payload, 1000);
        if (bytes[i] == 64) /* late */
            raw_register(&w);
        raw_send(&w, &bad, NULL);
        raw_expect_closed(&w);
        job_log_stop();
        assert_true(job_log_has(bytes[i] == 64 ? "message type 28 out of turn"
                                               : "bytes of a probe"));
        raw_close(&w);
        job_stop_servers(&j);
    }
}

static void
others_are_refused(void **state)
{
    weighed all = {.own = {"1,2", "2,1"}};
    job j = {.transport = "tcp",
             .workers = 2,
             .shards = 2,
             .body = sum_body,
             .tweak = tell_weights,
             .data = &all};

    (void)state;
    assert_int_not_equal(run_job(&j), GP_OK);
    assert_true(j.ended[0] == GP_ERR_MISMATCH || j.ended[1] == GP_ERR_MISMATCH);
}

static void
auto_needs_a_store(void **state)
{
    gp_config *config;
    gp_worker *w = NULL;

    (void)state;
    assert_int_equal(gp_config_create(&config), GP_OK);
    job_set(config, "rank", "0");
    job_set(config, "size", "1");
    job_set(config, "servers", "127.0.0.1:1,127.0.0.1:2");
    job_set(config, "shard_weights", "auto");
    assert_int_equal(gp_worker_create(config, &w), GP_ERR_CONFIG);
    job_expect_text(gp_last_error(), "needs a store");
    job_set(config, "shard_weights", "measured");
    assert_int_equal(gp_worker_create(config, &w), GP_ERR_CONFIG);
    job_expect_text(gp_last_error(), "=measured needs a store");
    job_set(config, "shard_weights", "1,2,3");
    assert_int_equal(gp_worker_create(config, &w), GP_ERR_CONFIG);
    job_expect_text(gp_last_error(), "for each of 2 shards");
    assert_null(w);
    gp_config_destroy(config);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_links_are_the_closed_form),
        cmocka_unit_test(shares_follow_the_rates),
        cmocka_unit_test(what_is_no_rate_is_filled_in),
        cmocka_unit_test(texts_are_read),
        cmocka_unit_test(chunks_follow_the_weights),
        cmocka_unit_test(lists_carry_them),
        cmocka_unit_test(given_weights_are_used),
        cmocka_unit_test(co_located_ones_agree_by_rates),
        cmocka_unit_test(rates_are_measured),
        cmocka_unit_test(measuring_needs_all),
        cmocka_unit_test(probes_have_a_limit),
        cmocka_unit_test(others_are_refused),
        cmocka_unit_test(auto_needs_a_store),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
