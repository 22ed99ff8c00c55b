/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_row_parts.c - what tensors of rows are made of: the table, initial
 * values, payloads, where rows live, sorting, and their row of the tensor list.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "job_harness.h"
#include "shard/row_init.h"
#include "shard/row_table.h"
#include "worker/rows.h"

static void
the_table_finds_what_it_has(void **state)
{
    gp_row_budget budget = {.limit = 64u << 20};
    gp_row_table t;
    gp_row *row, *first = NULL;
    bool fresh;

    (void)state;
    gp_row_table_open(&t, 3, &budget);
    assert_null(gp_row_table_find(&t, 0));
    for (int round = 0; round < 2; round++) {
        for (uint64_t i = 0; i < 50000; i++) {
            assert_int_equal(gp_row_table_add(&t, i * 4096, &row, &fresh),
                             GP_OK);
            assert_true(fresh);
            assert_int_equal(row->index, i * 4096);
            assert_int_equal(row->updates, 0);
            row->updates = i;
            row->value[2] = (float)i;
            first = i == 0 ? row : first;
        }
        assert_ptr_equal(gp_row_table_find(&t, 0), first); /* did not move */
        for (uint64_t i = 0; i < 50000; i++) {
            row = gp_row_table_find(&t, i * 4096);
            assert_non_null(row);
            assert_true(row->updates == i && row->value[2] == (float)i);
            assert_ptr_equal(gp_row_table_at(&t, (uint32_t)i), row);
            assert_null(gp_row_table_find(&t, i * 4096 + 1));
        }
        assert_int_equal(gp_row_table_add(&t, 4096, &row, &fresh), GP_OK);
        assert_false(fresh);
        assert_int_equal(t.rows, 50000);
        gp_row_table_clear(&t);
        assert_null(gp_row_table_find(&t, 4096));
    }
    gp_row_table_close(&t);
    assert_int_equal(budget.used, 0);
}

static void
the_table_keeps_to_its_budget(void **state)
{
    static const uint64_t limits[] = {0, 600, 70000, 1u << 20};

    (void)state;
    for (size_t k = 0; k < GP_COUNT_OF(limits); k++) {
        gp_row_budget budget = {.limit = limits[k]};
        gp_row_table t;
        gp_row *row;
        bool fresh;
        uint64_t i = 0;

        gp_row_table_open(&t, 100, &budget);
        while (i < 100000 && gp_row_table_add(&t, i, &row, &fresh) == GP_OK) {
            assert_true(budget.used <= budget.limit);
            i++;
        }
        assert_true(i < 100000 && (i > 0) == (limits[k] >= 70000));
        job_expect_text(gp_last_error(), "GRADPUSH_ROWS_MEMORY");
        assert_int_equal(t.rows, i); /* and what it has stays */
        for (uint64_t at = 0; at < i; at++)
            assert_non_null(gp_row_table_find(&t, at));
        assert_int_equal(gp_row_table_add(&t, i, &row, &fresh),
                         GP_ERR_NO_MEMORY);
        gp_row_table_close(&t);
        assert_int_equal(budget.used, 0);
    }
}

/* ---- initial values ----------------------------------------------------- */

static gp_row_spec
spec_of(uint8_t init, uint64_t seed, uint32_t width)
{
    return (gp_row_spec){.rows = GP_ROWS_MAX,
                         .width = width,
                         .batch = 4,
                         .init = init,
                         .seed = seed,
                         .scale = 1};
}

static void
initial_values_depend_on_seed_and_row(void **state)
{
    (void)state;
    for (uint8_t init = GP_ROWS_UNIFORM; init <= GP_ROWS_NORMAL; init++) {
        gp_row_spec wide = spec_of(init, 9, 200), narrow = spec_of(init, 9, 7);
        gp_row_spec other = spec_of(init, 10, 200);
        float a[200], b[200], c[200];

        gp_row_initialize(&wide, 1ull << 39, a);
        gp_row_initialize(&narrow, 1ull << 39, b);
        assert_memory_equal(a, b, 7 * sizeof(float));
        gp_row_initialize(&wide, 1ull << 39, b);
        assert_memory_equal(a, b, sizeof(a));
        gp_row_initialize(&other, 1ull << 39, c);
        gp_row_initialize(&wide, (1ull << 39) + 1, b);
        for (int i = 0; i < 200; i++)
            assert_true(a[i] != b[i] && a[i] != c[i]);
    }
}

/* Bits that every machine has to come to. */
static void
initial_values_are_these(void **state)
{
    static const struct {
        uint8_t init;
        uint64_t seed, row;
        float value[3];
    } known[] = {
        {GP_ROWS_UNIFORM,
         1,
         0,
         {0x1.8fa018p-1f, 0x1.942838p-1f, 0x1.5f222p-3f}},
        {GP_ROWS_UNIFORM,
         1,
         0x123456789a,
         {0x1.c1ec44p-1f, -0x1.6582cp-3f, 0x1.0d04p-6f}},
        {GP_ROWS_NORMAL,
         0x123456789abcdef,
         5,
         {0x1.0cd2f2p-1f, -0x1.2903fp-4f, 0x1.09a86cp-3f}},
    };

    (void)state;
    for (size_t k = 0; k < GP_COUNT_OF(known); k++) {
        gp_row_spec spec = spec_of(known[k].init, known[k].seed, 3);
        float out[3];

        gp_row_initialize(&spec, known[k].row, out);
        for (int i = 0; i < 3; i++)
            if (out[i] != known[k].value[i])
                fail_msg("%zu[%d] is %a", k, i, (double)out[i]);
    }
}

/* Against the distribution functions at 41 points; n is 400,000, of which the
 * standard deviation of a share is at most 0.0008. */
static void
initial_values_are_distributed(void **state)
{
    enum { ROWS = 4000, WIDTH = 100 };
    static float values[ROWS * WIDTH];

    (void)state;
    for (uint8_t init = GP_ROWS_UNIFORM; init <= GP_ROWS_NORMAL; init++) {
        gp_row_spec spec = spec_of(init, 3, WIDTH);
        double sum = 0, squares = 0, most = 0;

        for (uint64_t i = 0; i < ROWS; i++)
            gp_row_initialize(&spec, i, values + i * WIDTH);
        for (size_t i = 0; i < ROWS * WIDTH; i++) {
            sum += (double)values[i];
            squares += (double)values[i] * (double)values[i];
            most = fmax(most, fabs((double)values[i]));
        }
        assert_true(fabs(sum / (ROWS * WIDTH)) < 0.008);
        squares -= (init == GP_ROWS_UNIFORM ? 1.0 / 3 : 1) * ROWS * WIDTH;
        assert_true(fabs(squares) < 0.012 * ROWS * WIDTH);
        assert_true(init == GP_ROWS_UNIFORM ? most <= 1 : most > 4 && most < 7);
        for (int p = -20; p <= 20; p++) {
            double x = p * 0.2, share = 0;
            double expected = init == GP_ROWS_UNIFORM
                                  ? fmin(fmax((x + 1) / 2, 0), 1)
                                  : 0.5 * erfc(-x / sqrt(2));

            for (size_t i = 0; i < ROWS * WIDTH; i++)
                share += (double)values[i] < x;
            assert_true(fabs(share / (ROWS * WIDTH) - expected) < 0.004);
        }
    }
}

/* ---- where rows live ---------------------------------------------------- */

static void
rows_are_dealt_evenly(void **state)
{
    static const uint32_t shards[] = {1, 2, 3, 7, 8, 64};
    static const uint64_t strides[] = {1, 2, 8, 64, 1000, 1ull << 20};

    (void)state;
    for (size_t s = 0; s < GP_COUNT_OF(shards); s++)
        for (size_t k = 0; k < GP_COUNT_OF(strides); k++) {
            uint32_t count[64] = {0}, each = 200000 / shards[s];

            for (uint64_t i = 0; i < 200000; i++) {
                uint32_t at = gp_row_shard(i * strides[k], shards[s]);

                assert_true(at < shards[s]);
                count[at]++;
            }
            for (uint32_t i = 0; i < shards[s]; i++)
                assert_true(count[i] > each * 0.9 && count[i] < each * 1.1);
        }
    assert_true(gp_row_shard(UINT64_MAX, UINT32_MAX) < UINT32_MAX);
}

/* ---- payloads ----------------------------------------------------------- */

enum { SHARDS = 3, SHARD = 1 };

/* The next index that is the shard's. */
static uint64_t
mine(uint64_t index)
{
    while (gp_row_shard(index, SHARDS) != SHARD)
        index++;
    return index;
}

static uint8_t *
make_payload(uint32_t pushed, uint32_t wanted, size_t *size)
{
    uint8_t *out = calloc(1, *size = gp_rows_bytes(pushed, wanted, 8));
    uint64_t index = 0;

    assert_non_null(out);
    gp_put32(out, pushed);
    gp_put32(out + 4, wanted);
    for (uint32_t i = 0; i < pushed + wanted; i++) {
        index = i == pushed ? mine(0) : mine(index + 1);
        gp_put64(out + 8 + 8 * i, index);
    }
    return out;
}

static void
expect_bad(uint8_t *bytes, size_t size, const char *part)
{
    const gp_row_spec spec = {.rows = 1000, .width = 2, .batch = 4};
    uint8_t *copy = malloc(size + 1); /* for the address sanitizer */
    gp_rows_view v;

    assert_non_null(copy);
    memcpy(copy, bytes, size);
    assert_int_equal(gp_rows_decode(copy, size, &spec, 8, SHARD, SHARDS, &v),
                     GP_ERR_PROTOCOL);
    job_expect_text(gp_last_error(), part);
    free(copy);
}

static void
payloads_are_checked(void **state)
{
    const gp_row_spec spec = {.rows = 1000, .width = 2, .batch = 4};
    gp_rows_view v;
    size_t size;
    uint8_t *p;

    (void)state;
    for (uint32_t n = 0; n <= 4; n++)
        for (uint32_t m = 0; m <= 4; m++) {
            p = make_payload(n, m, &size);
            assert_int_equal(
                gp_rows_decode(p, size, &spec, 8, SHARD, SHARDS, &v), GP_OK);
            assert_true(v.pushed == n && v.wanted == m);
            assert_ptr_equal(v.values + 8 * n, p + size);
            for (size_t less = 0; less < size; less++)
                expect_bad(p, less, "bytes of");
            free(p);
        }
    p = make_payload(3, 2, &size);
#define SPOILT(put, part)          \
    do {                           \
        uint8_t keep[8];           \
        memcpy(keep, p + 8, 8);    \
        put;                       \
        expect_bad(p, size, part); \
        memcpy(p + 8, keep, 8);    \
    } while (0)
    SPOILT(gp_put64(p + 8, 1000), "row 1000 of 1000");
    SPOILT(gp_put64(p + 8, UINT64_MAX), "of 1000");
    SPOILT(gp_put64(p + 8, gp_get64(p + 16)), "after row");
    SPOILT(gp_put64(p + 8, mine(900)), "after row 9");
    SPOILT(gp_put64(p + 8, 0), gp_row_shard(0, SHARDS) == SHARD
                                   ? "after row"
                                   : "row 0, which is shard");
#undef SPOILT
    gp_put32(p, 5);
    expect_bad(p, size, "4 at most");
    gp_put32(p, UINT32_MAX);
    gp_put32(p + 4, UINT32_MAX);
    expect_bad(p, size, "4 at most");
    free(p);
}

static void
sorting_keeps_the_order_of_equals(void **state)
{
    enum { MOST = 3000 };
    static gp_row_place place[MOST], spare[MOST];
    static const uint64_t ranges[] = {1, 5, 1000, 1ull << 40, UINT64_MAX};
    uint32_t seed = 1;

    (void)state;
    for (size_t k = 0; k < GP_COUNT_OF(ranges); k++)
        for (uint32_t n = 0; n <= MOST; n = n < 60 ? n + 1 : n * 7 / 2) {
            for (uint32_t i = 0; i < n; i++) {
                uint64_t x =
                    (uint64_t)job_random(&seed) << 32 | job_random(&seed);

                place[i] = (gp_row_place){x % ranges[k], i};
            }
            gp_rows_sort(place, spare, n);
            for (uint32_t i = 1; i < n; i++)
                assert_true(place[i - 1].index < place[i].index ||
                            (place[i - 1].index == place[i].index &&
                             place[i - 1].position < place[i].position));
        }
}

/* ---- the tensor list ---------------------------------------------------- */

static void
lists_have_rows(void **state)
{
    gp_tensor_spec spec = {.name = "r",
                           .dtype = GP_FP32,
                           .count = 12,
                           .columns = 3,
                           .push = "none",
                           .pull = "none",
                           .updater = "sgd",
                           .mode = "sync",
                           .rows = GP_ROWS_MAX,
                           .row_seed = 0x0102030405060708,
                           .row_scale = 0.25f,
                           .row_init = GP_ROWS_NORMAL};
    gp_tensor_list list = {.chunk_bytes = 1u << 20,
                           .seed = 1,
                           .shards = 2,
                           .count = 1,
                           .tensors = &spec};
    gp_tensor_list back;
    uint8_t *bytes;
    void *out;
    size_t size;

    (void)state;
    assert_int_equal(gp_tensor_list_encode(&list, &out, &size), GP_OK);
    bytes = out;
    assert_int_equal(gp_tensor_list_decode(bytes, size, &back), GP_OK);
    assert_true(back.tensors->rows == GP_ROWS_MAX &&
                back.tensors->row_seed == spec.row_seed &&
                back.tensors->row_scale == 0.25f &&
                back.tensors->row_init == GP_ROWS_NORMAL);
    assert_int_equal(gp_row_spec_of(back.tensors).batch, 4);
    assert_int_equal(gp_row_spec_of(back.tensors).width, 3);
    gp_tensor_list_free(&back);
    /* Init, scale and number of rows, from the end. */
    bytes[size - 1] = 3;
    assert_int_equal(gp_tensor_list_decode(bytes, size, &back),
                     GP_ERR_PROTOCOL);
    bytes[size - 1] = 1;
    bytes[size - 2] = 0x7f; /* an infinity */
    bytes[size - 3] = 0x80;
    assert_int_equal(gp_tensor_list_decode(bytes, size, &back),
                     GP_ERR_PROTOCOL);
    bytes[size - 2] = bytes[size - 3] = 0;
    assert_int_equal(gp_tensor_list_decode(bytes, size, &back), GP_OK);
    gp_tensor_list_free(&back);
    gp_put64(bytes + size - 21, GP_ROWS_MAX + 1);
    assert_int_equal(gp_tensor_list_decode(bytes, size, &back),
                     GP_ERR_PROTOCOL);
    gp_put64(bytes + size - 21, 0);
    assert_int_equal(gp_tensor_list_decode(bytes, size, &back),
                     GP_ERR_PROTOCOL);
    free(out);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_finds_what_it_has),
        cmocka_unit_test(the_table_keeps_to_its_budget),
        cmocka_unit_test(initial_values_depend_on_seed_and_row),
        cmocka_unit_test(initial_values_are_these),
        cmocka_unit_test(initial_values_are_distributed),
        cmocka_unit_test(rows_are_dealt_evenly),
        cmocka_unit_test(payloads_are_checked),
        cmocka_unit_test(sorting_keeps_the_order_of_equals),
        cmocka_unit_test(lists_have_rows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
