/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_codec_hadamard.c - the randomized Hadamard transform against its
 * definition: entry (i, j) of H is -1 to the number of bits common to i and j.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compress/codec_internal.h"
#include "compress/hadamard.h"
#include "compress/reduce.h"

#define N 9000

static const gp_codec_context context = {.seed = 7, .tensor = 2, .step = 5};

static float
noise(uint64_t i)
{
    uint32_t words[4];
    gp_stream stream = gp_stream_of(&context, GP_USE_DITHER);
    float sum = -2;

    gp_philox_block(&stream, i, words);
    for (int j = 0; j < 4; j++)
        sum += gp_unit(words[j]);
    return sum;
}

static void
fill(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = noise(i);
}

static float
sign_of(const gp_stream *signs, uint64_t element)
{
    uint32_t word;

    gp_philox_words(signs, element >> 5, &word, 1);
    return word >> (element & 31) & 1 ? -1.0f : 1.0f;
}

static double
defined(const gp_stream *signs, uint64_t first, const float *x, size_t block,
        size_t row)
{
    double sum = 0;

    for (size_t j = 0; j < block; j++)
        sum += (__builtin_popcountll(row & j) & 1 ? -1.0 : 1.0) *
               (double)sign_of(signs, first + j) * (double)x[j];
    return sum / sqrt((double)block);
}

static void
follows_the_definition(void **state)
{
    static const size_t blocks[] = {1, 2, 4, 8, 16, 32, 64, 256, 512};
    static const uint64_t firsts[] = {0, 4096, 37, (1ull << 37) + 5};
    gp_stream signs = gp_stream_of(&context, GP_USE_SIGNS);
    float x[512], z[512];

    (void)state;
    fill(x, 512);
    for (size_t b = 0; b < sizeof(blocks) / sizeof(blocks[0]); b++)
        for (size_t f = 0; f < 4; f++) {
            gp_hadamard_forward(&signs, firsts[f], x, z, blocks[b], blocks[b]);
            for (size_t i = 0; i < blocks[b]; i++)
                assert_true(fabs((double)z[i] - defined(&signs, firsts[f], x,
                                                        blocks[b], i)) < 2e-6);
        }
}

static void
inverse_gives_it_back(void **state)
{
    static const size_t counts[] = {0, 1, 31, 255, 257, 1023, 4096, N};
    gp_stream signs = gp_stream_of(&context, GP_USE_SIGNS);
    float *x = malloc(N * sizeof(*x)), *z = malloc(N * sizeof(*z));

    (void)state;
    fill(x, N);
    for (size_t block = 32; block <= GP_HADAMARD_LARGEST; block *= 4)
        for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
            double energy = gp_sum_squares(x, counts[c]);

            gp_hadamard_forward(&signs, 64, x, z, counts[c], block);
            assert_true(fabs(gp_sum_squares(z, counts[c]) - energy) <=
                        1e-6 * energy);
            gp_hadamard_inverse(&signs, 64, z, counts[c], block);
            for (size_t i = 0; i < counts[c]; i++)
                assert_true(fabsf(x[i] - z[i]) < 4e-6f);
        }
    free(x);
    free(z);
}

static void
levels_agree(void **state)
{
    gp_simd best = gp_simd_get();
    gp_stream signs = gp_stream_of(&context, GP_USE_SIGNS);
    float *x = malloc(N * sizeof(*x)), *z = malloc(N * sizeof(*z)),
          *y = malloc(N * sizeof(*y));

    (void)state;
    fill(x, N);
    for (size_t i = 0; i < 2048; i++)
        x[i] *= 0x1p125f;
    for (size_t block = 1; block <= 4096; block *= 2)
        for (uint64_t first = 0; first < 70; first += 23) {
            assert_true(gp_simd_set(GP_SIMD_SCALAR));
            gp_hadamard_forward(&signs, first, x, z, N, block);
            for (int level = 1; level < GP_SIMD_LEVELS; level++) {
                if (!gp_simd_set((gp_simd)level))
                    continue;
                gp_hadamard_forward(&signs, first, x, y, N, block);
                assert_memory_equal(y, z, N * sizeof(*y));
            }
        }
    gp_simd_set(best);
    free(x);
    free(y);
    free(z);
}

/* Two chunks give what one gives; in place gives what a copy gives. */
static void
chunks_do_not_matter(void **state)
{
    gp_stream signs = gp_stream_of(&context, GP_USE_SIGNS);
    float *x = malloc(N * sizeof(*x)), *z = malloc(N * sizeof(*z));

    (void)state;
    fill(x, N);
    gp_hadamard_forward(&signs, 0, x, z, N, 2048);
    gp_hadamard_forward(&signs, 4096, x + 4096, x + 4096, N - 4096, 2048);
    gp_hadamard_forward(&signs, 0, x, x, 4096, 2048);
    assert_memory_equal(x, z, N * sizeof(*x));
    free(x);
    free(z);
}

static void
not_finite_and_huge(void **state)
{
    gp_stream signs = gp_stream_of(&context, GP_USE_SIGNS);
    float x[96];

    (void)state;
    fill(x, 96);
    x[5] = INFINITY;
    for (size_t i = 32; i < 64; i++)
        x[i] = 3.4e38f;
    gp_hadamard_forward(&signs, 0, x, x, 96, 32);
    for (size_t i = 0; i < 96; i++)
        assert_int_equal(isfinite(x[i]) != 0, i >= 32);
    for (size_t i = 32; i < 64; i++)
        x[i] = 3e37f * (i % 3 ? 1.0f : -1.0f);
    gp_hadamard_forward(&signs, 0, x, x, 96, 32);
    gp_hadamard_inverse(&signs, 0, x, 96, 32);
    for (size_t i = 32; i < 64; i++)
        assert_true(fabsf(x[i] - 3e37f * (i % 3 ? 1.0f : -1.0f)) < 3e31f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(follows_the_definition),
        cmocka_unit_test(inverse_gives_it_back),
        cmocka_unit_test(levels_agree),
        cmocka_unit_test(chunks_do_not_matter),
        cmocka_unit_test(not_finite_and_huge),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
