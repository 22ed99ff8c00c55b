/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_zeros.c - the map of zero blocks and what moves by it, and scatters.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/base.h"
#include "compress/kernels.h"
#include "compress/scatter.h"
#include "compress/zeros.h"

enum { MOST = 1300 };

static float x[MOST], kept[MOST], out[MOST], sum[MOST];
static uint8_t map[MOST / 8 + 2];

/* Blocks of zeros, of data, of a single non-zero word, of -0.0, in turns. */
static void
fill(size_t n, size_t block, size_t phase)
{
    memset(x, 0, sizeof(x));
    for (size_t i = 0; i < n; i++) {
        size_t b = i / block, at = i % block, sort = (b + phase) % 5;

        if (sort == 1)
            x[i] = (float)i + 0.5f;
        else if (sort == 2 && at == block - 1)
            x[i] = gp_float(1);
        else if (sort == 3 && at == block / 2)
            x[i] = -0.0f;
    }
}

static bool
block_counts(size_t n, size_t block, size_t b)
{
    for (size_t i = b * block; i < n && i < (b + 1) * block; i++)
        if (gp_bits(x[i]))
            return true;
    return false;
}

static size_t
check_map(size_t n, size_t block)
{
    size_t blocks = (n + block - 1) / block, count = 0, elements = 0;

    memset(map, 0xff, sizeof(map));
    count = gp_zeros_map(x, n, block, map);
    assert_int_equal(gp_zeros_map_size(n, block), (blocks + 7) / 8);
    for (size_t b = 0; b < blocks; b++) {
        bool is = block_counts(n, block, b);
        size_t end = (b + 1) * block < n ? (b + 1) * block : n;

        assert_int_equal(map[b / 8] >> b % 8 & 1, is);
        count -= is;
        elements += is ? end - b * block : 0;
    }
    assert_int_equal(count, 0);
    assert_true(gp_zeros_map_valid(map, n, block));
    assert_int_equal(gp_zeros_kept(map, n, block), elements);
    assert_int_equal(map[gp_zeros_map_size(n, block)], 0xff);
    return elements;
}

static void
check(size_t n, size_t block, size_t phase)
{
    size_t elements;

    fill(n, block, phase);
    elements = check_map(n, block);
    memset(kept, 0xff, sizeof(kept));
    memset(out, 0xff, sizeof(out));
    assert_int_equal(gp_zeros_pack(x, n, block, map, kept), elements);
    gp_zeros_unpack(kept, n, block, map, out);
    assert_memory_equal(out, x, n * sizeof(*x));
    for (size_t i = 0; i < n; i++)
        sum[i] = 7;
    gp_zeros_unpack_add(kept, n, block, map, sum);
    for (size_t i = 0; i < n; i++)
        assert_true(sum[i] == 7 + x[i]);
    if (n < MOST) {
        assert_int_equal(gp_bits(out[n]), UINT32_MAX);
        assert_int_equal(elements == n || gp_bits(kept[elements]) == UINT32_MAX,
                         1);
    }
}

static void
blocks_of_zeros_are_left_out(void **state)
{
    static const size_t counts[] = {0,  1,   2,   31,  32,  33,
                                    64, 255, 257, 641, 1299};
    static const size_t blocks[] = {1, 3, 32, 64, 96, 256, 65536};

    (void)state;
    for (int level = 0; level < GP_SIMD_LEVELS; level++) {
        if (!gp_simd_set((gp_simd)level))
            continue;
        for (size_t i = 0; i < GP_COUNT_OF(counts); i++)
            for (size_t j = 0; j < GP_COUNT_OF(blocks); j++)
                for (size_t phase = 0; phase < 5; phase++)
                    check(counts[i], blocks[j], phase);
    }
}

/* Each position of a block is looked at, at every alignment. */
static void
no_word_is_overlooked(void **state)
{
    (void)state;
    memset(x, 0, sizeof(x));
    for (int level = 0; level < GP_SIMD_LEVELS; level++) {
        if (!gp_simd_set((gp_simd)level))
            continue;
        for (size_t at = 0; at < 4; at++)
            for (size_t i = 0; i < 225; i++) {
                x[at + i] = -0.0f;
                assert_int_equal(gp_zeros_map(x + at, 225, 225, map), 1);
                x[at + i] = 0;
                assert_int_equal(gp_zeros_map(x + at, 225, 225, map), 0);
            }
    }
}

static void
unused_bits_are_zero(void **state)
{
    uint8_t wide[2] = {0xff, 0x07};

    (void)state;
    assert_true(gp_zeros_map_valid(wide, 11, 1));
    assert_false(gp_zeros_map_valid(wide, 10, 1));
    assert_true(gp_zeros_map_valid(wide, 8, 1));
    assert_true(gp_zeros_map_valid(wide, 0, 256));
    assert_true(gp_zeros_map_valid(wide, 8 * 256, 256));
    assert_false(gp_zeros_map_valid(wide, 7 * 256, 256));
}

static void
scatters_reach_their_places_only(void **state)
{
    uint32_t indices[100];
    float values[100], back[100];

    (void)state;
    for (size_t i = 0; i < MOST; i++)
        out[i] = sum[i] = (float)i;
    for (size_t j = 0; j < 100; j++) {
        indices[j] = (uint32_t)(j * 13 + j % 7);
        values[j] = (float)j - 40;
    }
    gp_scatter_set(out, indices, values, 100);
    gp_scatter_add(sum, indices, values, 100);
    for (size_t i = 0, j = 0; i < MOST; i++) {
        bool hit = j < 100 && indices[j] == i;

        assert_true(out[i] == (hit ? values[j] : (float)i));
        assert_true(sum[i] == (hit ? (float)i + values[j] : (float)i));
        j += hit;
    }
    gp_gather(out, indices, back, 100);
    assert_memory_equal(back, values, sizeof(back));
    gp_scatter_add(out, indices, values, 0);
    gp_gather(out, indices, back, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_of_zeros_are_left_out),
        cmocka_unit_test(no_word_is_overlooked),
        cmocka_unit_test(unused_bits_are_zero),
        cmocka_unit_test(scatters_reach_their_places_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
