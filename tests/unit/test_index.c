/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_index.c - the index stages: round trips, sizes, and what they refuse.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "compress/codec_internal.h"
#include "compress/index.h"
#include "compress/rice.h"

enum { MOST = 3000 };

static const gp_codec_ops *const stages[] = {&gp_codec_raw, &gp_codec_rice,
                                             &gp_codec_bitmap, &gp_codec_auto};

static uint32_t indices[MOST], back[MOST];

static uint64_t
random_of(uint64_t i)
{
    uint64_t z = (i + 1) * 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* The bytes lie at the end of their allocation, for the sanitizers' sake. */
static uint8_t *
packed(const gp_codec_ops *ops, size_t selected, size_t count, size_t *length)
{
    size_t bound = ops->index_bound(NULL, selected, count);
    uint8_t *bytes = malloc(bound + 1);

    assert_non_null(bytes);
    if (bound)
        assert_int_equal(ops->pack_indices(NULL, indices, selected, count,
                                           bytes, bound - 1, length),
                         GP_ERR_TOO_LARGE);
    assert_int_equal(
        ops->pack_indices(NULL, indices, selected, count, bytes, bound, length),
        GP_OK);
    assert_true(*length <= bound);
    return bytes;
}

static gp_status
unpack(const gp_codec_ops *ops, const uint8_t *bytes, size_t length,
       size_t selected, size_t count)
{
    uint8_t *copy = malloc(length + 1);
    gp_status status;

    assert_non_null(copy);
    if (length)
        memcpy(copy + 1, bytes, length);
    status = ops->unpack_indices(NULL, copy + 1, length, back, selected, count);
    free(copy);
    return status;
}

static void
refuses_what_is_cut(const gp_codec_ops *ops, const uint8_t *bytes,
                    size_t length, size_t selected, size_t count)
{
    uint8_t *longer = calloc(length + 2, 1);

    assert_non_null(longer);
    memcpy(longer, bytes, length);
    for (size_t less = 1; less <= length && less <= 20; less++)
        assert_int_equal(unpack(ops, bytes, length - less, selected, count),
                         GP_ERR_CORRUPT);
    assert_int_equal(unpack(ops, longer, length + 1, selected, count),
                     GP_ERR_CORRUPT);
    assert_int_equal(unpack(ops, bytes, length, selected + 1, count),
                     GP_ERR_CORRUPT);
    if (selected)
        assert_int_equal(unpack(ops, bytes, length, selected - 1, count),
                         GP_ERR_CORRUPT);
    free(longer);
}

static void
round_trip_at_level(size_t selected, size_t count)
{
    for (size_t s = 0; s < GP_COUNT_OF(stages); s++) {
        const gp_codec_ops *ops = stages[s];
        uint8_t *bytes;
        size_t length;

        if (ops == &gp_codec_bitmap && count > 1000000)
            continue;
        bytes = packed(ops, selected, count, &length);
        memset(back, 0xff, sizeof(back));
        assert_int_equal(unpack(ops, bytes, length, selected, count), GP_OK);
        assert_memory_equal(back, indices, selected * 4);
        refuses_what_is_cut(ops, bytes, length, selected, count);
        if (selected && indices[selected - 1] + (size_t)1 < count)
            assert_int_equal(
                unpack(ops, bytes, length, selected, indices[selected - 1]),
                GP_ERR_CORRUPT);
        free(bytes);
    }
}

static void
round_trip(size_t selected, size_t count)
{
    for (int level = 0; level < GP_SIMD_LEVELS; level++)
        if (gp_simd_set((gp_simd)level))
            round_trip_at_level(selected, count);
}

static void
every_density_comes_back(void **state)
{
    static const uint64_t means[] = {1, 2, 3, 10, 100, 5000, 1000000};

    (void)state;
    for (size_t m = 0; m < GP_COUNT_OF(means); m++)
        for (size_t selected = 0; selected < 200;
             selected += 1 + selected / 5) {
            uint64_t next = 0;

            for (size_t i = 0; i < selected; i++) {
                uint64_t jump = random_of(1000 * m + i) % (2 * means[m] - 1);

                indices[i] = (uint32_t)(next + jump);
                next += jump + 1;
            }
            round_trip(selected, next);
            round_trip(selected, next + 1);
            round_trip(selected, next + 1000);
        }
}

static void
extremes_come_back(void **state)
{
    (void)state;
    indices[0] = 0;
    round_trip(1, 1);
    round_trip(1, UINT32_MAX);
    indices[0] = UINT32_MAX - 1;
    round_trip(1, UINT32_MAX);
    indices[0] = 0;
    indices[1] = UINT32_MAX - 1;
    round_trip(2, UINT32_MAX);
    /* One long code among short ones. */
    for (uint32_t i = 0; i < MOST; i++)
        indices[i] = i < 1500 ? i : i + 100000;
    round_trip(MOST, 200000);
    for (uint32_t i = 0; i < MOST; i++)
        indices[i] = i < 17 ? i : i + 4000000000u;
    round_trip(32, UINT32_MAX);
    round_trip(MOST, UINT32_MAX);
    for (uint32_t i = 0; i < MOST; i++)
        indices[i] = i;
    round_trip(MOST, MOST);
}

/* Every r for every block. */
static size_t
smallest_rice(size_t selected)
{
    uint64_t bits = 0;

    for (size_t from = 0; from < selected; from += 32) {
        uint64_t least = UINT64_MAX;
        size_t end = selected < from + 32 ? selected : from + 32;

        for (unsigned r = 0; r < 32; r++) {
            uint64_t cost = 5;

            for (size_t i = from; i < end; i++)
                cost +=
                    ((i ? indices[i] - indices[i - 1] - 1 : indices[0]) >> r) +
                    r + 1;
            least = cost < least ? cost : least;
        }
        bits += least;
    }
    return (bits + 7) / 8;
}

static void
the_parameter_is_the_best(void **state)
{
    (void)state;
    for (size_t round = 0; round < 3000; round++) {
        size_t selected = random_of(round) % 70, length;
        unsigned shift = (unsigned)(random_of(round + 10000) % 25);
        uint32_t next = 0;
        uint8_t *bytes;

        for (size_t i = 0; i < selected; i++) {
            uint64_t r = random_of(100 * round + i);
            /* Now and then all gaps alike, where choices tie. */
            uint32_t gap = round % 5 == 0 ? 3u << shift % 10
                                          : (uint32_t)(r >> 40) >> (shift % 24);

            indices[i] = next + gap;
            next = indices[i] + 1;
        }
        bytes = packed(&gp_codec_rice, selected, next, &length);
        assert_int_equal(length, smallest_rice(selected));
        assert_int_equal(length, gp_rice_size(indices, selected));
        free(bytes);
    }
}

static void
auto_is_the_smallest(void **state)
{
    (void)state;
    for (size_t step = 1; step < 20000; step = step * 3 / 2 + 1) {
        size_t selected = 200, count = selected * step, least = SIZE_MAX;
        size_t length;

        for (size_t i = 0; i < selected; i++)
            indices[i] = (uint32_t)(i * step + random_of(i + step) % step);
        for (size_t s = 0; s < 3; s++) {
            free(packed(stages[s], selected, count, &length));
            least = length < least ? length : least;
        }
        free(packed(&gp_codec_auto, selected, count, &length));
        assert_int_equal(length, least + 1);
    }
}

static void
bits_that_mean_nothing_are_refused(void **state)
{
    uint8_t *bytes;
    size_t length;

    (void)state;
    for (size_t i = 0; i < 9; i++)
        indices[i] = (uint32_t)(3 * i);
    for (size_t s = 1; s < 3; s++) {
        bytes = packed(stages[s], 9, 25, &length);
        bytes[length - 1] |= 0x80;
        assert_int_equal(unpack(stages[s], bytes, length, 9, 25),
                         GP_ERR_CORRUPT);
        free(bytes);
    }
    bytes = packed(&gp_codec_auto, 9, 25, &length);
    bytes[0] = 3;
    assert_int_equal(unpack(&gp_codec_auto, bytes, length, 9, 25),
                     GP_ERR_CORRUPT);
    free(bytes);
}

static void
raw_wants_ascending_indices(void **state)
{
    static const uint8_t descending[] = {5, 0, 0, 0, 4, 0, 0, 0};
    static const uint8_t twice[] = {5, 0, 0, 0, 5, 0, 0, 0};
    static const uint8_t large[] = {5, 0, 0, 0, 0, 1, 0, 0};

    (void)state;
    assert_int_equal(unpack(&gp_codec_raw, descending, 8, 2, 100),
                     GP_ERR_CORRUPT);
    assert_int_equal(unpack(&gp_codec_raw, twice, 8, 2, 100), GP_ERR_CORRUPT);
    assert_int_equal(unpack(&gp_codec_raw, large, 8, 2, 256), GP_ERR_CORRUPT);
    assert_int_equal(unpack(&gp_codec_raw, large, 8, 2, 257), GP_OK);
}

/* Nothing is read or written outside, and what is accepted is in order. */
static void
random_bytes_do_no_harm(void **state)
{
    uint8_t bytes[64];

    (void)state;
    for (uint64_t round = 0; round < 20000; round++) {
        const gp_codec_ops *ops = stages[round % 4];
        size_t length = random_of(round) % 40;
        size_t selected = random_of(round + 50000) % 60;
        size_t count = random_of(round + 90000) % 300;

        for (size_t i = 0; i < length; i++)
            bytes[i] = (uint8_t)(random_of(64 * round + i) >>
                                 (random_of(round) % 3 ? 0 : 5));
        if (length && ops == &gp_codec_auto)
            bytes[0] %= 3;
        if (unpack(ops, bytes, length, selected, count) != GP_OK)
            continue;
        for (size_t i = 0; i < selected; i++)
            assert_true(back[i] < count && (i == 0 || back[i] > back[i - 1]));
    }
}

static void
bounds_do_not_wrap(void **state)
{
    (void)state;
    for (size_t s = 0; s < GP_COUNT_OF(stages); s++)
        for (unsigned shift = 0; shift < 64; shift++) {
            size_t n = SIZE_MAX >> shift;
            size_t bound = stages[s]->index_bound(NULL, n, n);

            assert_true(bound == SIZE_MAX || bound >= n / 8);
        }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_density_comes_back),
        cmocka_unit_test(extremes_come_back),
        cmocka_unit_test(the_parameter_is_the_best),
        cmocka_unit_test(auto_is_the_smallest),
        cmocka_unit_test(bits_that_mean_nothing_are_refused),
        cmocka_unit_test(raw_wants_ascending_indices),
        cmocka_unit_test(random_bytes_do_no_harm),
        cmocka_unit_test(bounds_do_not_wrap),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
