/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_rans.c - rANS gives back what it took, alike at every SIMD level, near
 * the entropy, and refuses strings that are cut.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "base/base.h"
#include "base/bytes.h"
#include "compress/codec_internal.h"
#include "compress/rans.h"
#include "tests/unit/numbers.h"

enum { MOST = 70000 };

static gp_rans_coder coder;
static gp_rans_decoder decoder;
static uint8_t symbols[MOST], decoded[MOST];
static uint8_t room[2][GP_RANS_SLACK + 2 * MOST];

/* Frequencies that fall with the distance from `centre`. */
static void
make_tables(uint16_t frequency[256], unsigned used, unsigned centre)
{
    unsigned sum = 0;

    memset(frequency, 0, 256 * sizeof(frequency[0]));
    for (unsigned i = 1; i < used; i++) {
        unsigned s = (i & 1 ? centre + (i + 1) / 2 : centre - i / 2) & 255;

        frequency[s] = (uint16_t)(1 + 1400 / (i * i + 1));
        sum += frequency[s];
    }
    frequency[centre] = (uint16_t)(GP_RANS_TOTAL - sum);
    gp_rans_coder_make(&coder, frequency, (uint8_t)centre);
    gp_rans_decoder_make(&decoder, frequency);
}

static void
draw_symbols(size_t n)
{
    for (size_t i = 0; i < n; i++)
        symbols[i] = (uint8_t)decoder.slot[number_bits(i) % GP_RANS_TOTAL];
}

/* Two runs, the second one odd; returns the words, which end with the room. */
static uint8_t *
code(gp_rans *r, size_t lanes, size_t first, size_t n, uint8_t *to)
{
    uint8_t *end = to + sizeof(room[0]);

    gp_rans_start(r, lanes);
    end = gp_rans_put(r, &coder, symbols + first, n - first, end);
    return gp_rans_put(r, &coder, symbols, first, end);
}

static bool
decodes(const gp_rans *states, size_t first, size_t n, const uint8_t *at,
        const uint8_t *end)
{
    gp_rans r;
    uint8_t bytes[4 * GP_RANS_LANES];

    gp_rans_write(states, bytes);
    assert_true(gp_rans_read(&r, bytes, states->lanes));
    memset(decoded, 0x5a, n);
    at = gp_rans_get(&r, &decoder, decoded, first, at, end);
    if (at)
        at = gp_rans_get(&r, &decoder, decoded + first, n - first, at, end);
    return at == end && gp_rans_ended(&r) && memcmp(symbols, decoded, n) == 0;
}

static void
check(size_t lanes, size_t first, size_t n)
{
    uint8_t *at[2], *end[2];
    gp_rans r[2];

    for (int level = 0; level < GP_SIMD_LEVELS; level++) {
        int which = level > 0;

        if (!gp_simd_set((gp_simd)level))
            continue;
        end[which] = room[which] + sizeof(room[which]);
        at[which] = code(&r[which], lanes, first, n, room[which]);
        assert_int_equal(end[which] - at[which], end[0] - at[0]);
        assert_memory_equal(at[which], at[0], (size_t)(end[0] - at[0]));
        assert_memory_equal(r[which].x, r[0].x, lanes * sizeof(r[0].x[0]));
        assert_true(decodes(&r[0], first, n, at[0], end[0]));
        if (end[0] - at[0] >= 2)
            assert_false(decodes(&r[0], first, n, at[0], end[0] - 2));
    }
}

static void
all_that_goes_in_comes_out(void **state)
{
    static const struct {
        unsigned used, centre;
    } shapes[] = {{2, 0}, {7, 0}, {31, 0}, {33, 0}, {256, 77}, {3, 200}};
    static const size_t counts[] = {0, 1, 31, 32, 33, 64, 1000, 4096, 5001};
    uint16_t frequency[256];
    gp_simd before = gp_simd_get();

    (void)state;
    for (size_t k = 0; k < GP_COUNT_OF(shapes); k++) {
        make_tables(frequency, shapes[k].used, shapes[k].centre);
        draw_symbols(5001);
        for (size_t i = 0; i < GP_COUNT_OF(counts); i++) {
            check(4, 0, counts[i]);
            check(32, counts[i] / 64 * 32, counts[i]);
        }
    }
    gp_simd_set(before);
}

/* Within 0.1 % of the entropy, and one word per state. */
static void
the_size_is_near_the_entropy(void **state)
{
    uint16_t frequency[256];
    double bits = 0;
    gp_rans r;
    uint8_t *at;

    (void)state;
    make_tables(frequency, 31, 0);
    draw_symbols(MOST);
    for (size_t i = 0; i < MOST; i++)
        bits -= log2(frequency[symbols[i]] / 4096.0);
    at = code(&r, 32, 4096, MOST, room[0]);
    assert_true(8.0 * (double)(room[0] + sizeof(room[0]) - at) <
                bits * 1.001 + 32 * 16);
}

/* Symbols without a frequency are coded like `other`. */
static void
unknown_symbols_become_the_other(void **state)
{
    uint16_t frequency[256] = {[0] = 4000, [1] = 50, [128] = 46};
    uint8_t in[64], out[64];

    (void)state;
    gp_rans_coder_make(&coder, frequency, 128);
    gp_rans_decoder_make(&decoder, frequency);
    for (size_t i = 0; i < 64; i++)
        in[i] = (uint8_t)(i * 4);
    for (int level = 0; level < GP_SIMD_LEVELS; level++) {
        uint8_t *end = room[0] + sizeof(room[0]), *at;
        gp_rans r;

        if (!gp_simd_set((gp_simd)level))
            continue;
        gp_rans_start(&r, 32);
        at = gp_rans_put(&r, &coder, in, 64, end);
        assert_ptr_equal(gp_rans_get(&r, &decoder, out, 64, at, end), end);
        for (size_t i = 0; i < 64; i++)
            assert_int_equal(out[i], in[i] ? 128 : 0);
    }
}

static void
states_out_of_range_are_refused(void **state)
{
    uint8_t bytes[16] = {0};
    gp_rans r;

    (void)state;
    for (size_t i = 0; i < 4; i++)
        gp_put32(bytes + 4 * i, 0x8000);
    assert_true(gp_rans_read(&r, bytes, 4));
    gp_put32(bytes + 8, 0x7fff);
    assert_false(gp_rans_read(&r, bytes, 4));
    gp_put32(bytes + 8, 0x80000000);
    assert_false(gp_rans_read(&r, bytes, 4));
}

static void
costs_are_logarithms(void **state)
{
    (void)state;
    for (uint32_t f = 1; f < 4096; f++) {
        double exact = 256 * log2(4096.0 / f);

        assert_true(gp_rans_cost(f) >= exact - 1e-6);
        assert_true(gp_rans_cost(f) <= exact + 1);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_that_goes_in_comes_out),
        cmocka_unit_test(the_size_is_near_the_entropy),
        cmocka_unit_test(unknown_symbols_become_the_other),
        cmocka_unit_test(states_out_of_range_are_refused),
        cmocka_unit_test(costs_are_logarithms),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
