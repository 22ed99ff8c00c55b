/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_philox.c - known answers of Philox4x32-10, and that words do not depend
 * on where a call begins, how long it is, or the SIMD level.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "base/base.h"
#include "compress/codec_internal.h"
#include "compress/philox.h"

/* From the authors' Random123 distribution, file kat_vectors. */
static void
known_answers(void **state)
{
    static const struct {
        gp_stream stream;
        uint64_t block;
        uint32_t words[4];
    } known[] = {
        {{{0, 0}, {0, 0}}, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{{~0u, ~0u}, {~0u, ~0u}},
         ~(uint64_t)0,
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{{0xa4093822, 0x299f31d0}, {0x13198a2e, 0x03707344}},
         0x85a308d3243f6a88,
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(known); i++) {
        uint32_t out[4];

        gp_philox_block(&known[i].stream, known[i].block, out);
        assert_memory_equal(out, known[i].words, sizeof(out));
    }
}

/* The words by their definition: word e & 3 of block e >> 2. */
static void
by_definition(const gp_stream *stream, uint64_t first, uint32_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t words[4];

        gp_philox_block(stream, (first + i) >> 2, words);
        out[i] = words[(first + i) & 3];
    }
}

static void
words_are_as_defined(void **state)
{
    enum { MOST = 700 };
    static const uint64_t firsts[] = {
        0, 1, 2, 3, 4095, 4096, 0xfffffff0, 0x3ffffff00, 0x3fffffffd};
    static const size_t counts[] = {0,   1,   3,   4,   5,   15,  16,
                                    17,  63,  64,  65,  127, 128, 129,
                                    255, 256, 257, 300, 511, 512, MOST};
    const gp_stream stream = {{0x12345678, 0x9abcdef0}, {7, 0x80000001}};
    uint32_t expected[MOST], out[MOST + 1];
    gp_simd before = gp_simd_get();

    (void)state;
    for (int level = 0; level < GP_SIMD_LEVELS; level++) {
        if (!gp_simd_set((gp_simd)level))
            continue;
        for (size_t i = 0; i < GP_COUNT_OF(firsts); i++)
            for (size_t j = 0; j < GP_COUNT_OF(counts); j++) {
                size_t n = counts[j];

                by_definition(&stream, firsts[i], expected, n);
                out[n] = 0xc5c5c5c5;
                gp_philox_words(&stream, firsts[i], out, n);
                assert_memory_equal(out, expected, n * sizeof(*out));
                assert_int_equal(out[n], 0xc5c5c5c5);
            }
    }
    gp_simd_set(before);
}

/* Any of these parts of a context must change its stream; the rank only where
 * ranks must differ. */
static void
streams_are_apart(void **state)
{
    static const gp_codec_context base = {.seed = 5, .tensor = 6, .step = 7};
    static const gp_stream_use uses[] = {GP_USE_ROUNDING, GP_USE_DITHER,
                                         GP_USE_STRATIFY, GP_USE_SELECTION,
                                         GP_USE_SIGNS,    GP_USE_START};

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(uses); i++) {
        gp_codec_context other[4] = {base, base, base, base};
        gp_stream first = gp_stream_of(&base, uses[i]);
        bool own = uses[i] == GP_USE_ROUNDING || uses[i] == GP_USE_DITHER;

        other[0].seed++;
        other[1].tensor++;
        other[2].step += (uint64_t)1 << 32;
        other[3].rank++;
        for (size_t j = 0; j < 4; j++) {
            gp_stream second = gp_stream_of(&other[j], uses[i]);
            bool same = memcmp(&first, &second, sizeof(first)) == 0;

            assert_int_equal(same, j == 3 && !own);
        }
        for (size_t j = 0; j < i; j++) {
            gp_stream second = gp_stream_of(&base, uses[j]);

            assert_memory_not_equal(first.key, second.key, sizeof(first.key));
        }
    }
}

/* Mean 1/2 and variance 1/12 within 5 standard errors. */
static void
units_are_uniform(void **state)
{
    enum { COUNT = 1 << 16 };
    static uint32_t words[COUNT];
    static const gp_codec_context context = {.seed = 1};
    gp_stream stream = gp_stream_of(&context, GP_USE_ROUNDING);
    double mean = 0, square = 0;

    (void)state;
    gp_philox_words(&stream, 0, words, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        double u = (double)gp_unit(words[i]);

        assert_true(u >= 0 && u < 1);
        mean += u / COUNT;
        square += (u - 0.5) * (u - 0.5) / COUNT;
    }
    assert_true(fabs(mean - 0.5) < 5 * sqrt(1.0 / 12 / COUNT));
    assert_true(fabs(square - 1.0 / 12) < 5 * sqrt(1.0 / 180 / COUNT));
    assert_true(gp_unit(UINT32_MAX) == 1 - 0x1p-24f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers),
        cmocka_unit_test(words_are_as_defined),
        cmocka_unit_test(streams_are_apart),
        cmocka_unit_test(units_are_uniform),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
