/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_codec_powersgd.c - the mathematics of the low-rank codec: what is lost
 * is what the projection leaves out, and a warm start comes to the best
 * factors.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/bytes.h"
#include "compress/codec_internal.h"
#include "powersgd_fixture.h"

/* Element (i, k) of P as sent. */
static double
sent_p(const fixture *f, size_t i, size_t k)
{
    uint32_t b = gp_get32(f->bytes + HEAD + 4 * (i * f->rank + k));
    float x;

    memcpy(&x, &b, 4);
    return x;
}

/* |P^T M|^2, of whole rows. */
static double
projected(const fixture *f)
{
    double sum = 0;

    for (size_t k = 0; k < f->rank; k++)
        for (size_t j = 0; j < f->columns; j++) {
            double dot = 0;

            for (size_t i = 0; i < f->rows; i++)
                dot += sent_p(f, i, k) * f->m[i * f->columns + j];
            sum += dot * dot;
        }
    return sum;
}

/* Energy that the best rank-r approximation keeps, by orthogonal iteration on
 * M^T M in double. */
static double
best_energy(const fixture *f)
{
    size_t r = f->rank, n = f->columns;
    double *v = calloc(r * n, sizeof(double)), *w = calloc(n, sizeof(double));
    double *u = calloc(f->rows, sizeof(double)), kept = 0;

    assert_true(v && w && u);
    for (size_t i = 0; i < r * n; i++)
        v[i] = number_gauss(i + 5);
    for (int round = 0; round < 400; round++) {
        kept = 0;
        for (size_t k = 0; k < r; k++) {
            double norm = 0;

            for (size_t j = 0; j < k; j++) {
                double dot = 0;

                for (size_t i = 0; i < n; i++)
                    dot += v[k * n + i] * v[j * n + i];
                for (size_t i = 0; i < n; i++)
                    v[k * n + i] -= dot * v[j * n + i];
            }
            for (size_t i = 0; i < n; i++)
                norm += v[k * n + i] * v[k * n + i];
            for (size_t i = 0; i < n; i++)
                v[k * n + i] /= sqrt(norm);
        }
        for (size_t k = 0; k < r; k++) {
            memset(w, 0, n * sizeof(*w));
            for (size_t i = 0; i < f->rows; i++) {
                u[i] = 0;
                for (size_t j = 0; j < n; j++)
                    u[i] += f->m[i * n + j] * v[k * n + j];
                kept += u[i] * u[i];
                for (size_t j = 0; j < n; j++)
                    w[j] += f->m[i * n + j] * u[i];
            }
            memcpy(v + k * n, w, n * sizeof(*w));
        }
    }
    free(v);
    free(w);
    free(u);
    return kept;
}

/* ---- what is lost -------------------------------------------------------- */

static void
check_projection(size_t rank, size_t rows, size_t columns, int power)
{
    fixture f = fixture_make(rank, columns, 0, rows * columns, power, FP32);

    fill_gauss(&f, rank);
    run(&f, 0);
    assert_int_equal(f.length, HEAD + 4 * rank * (rows + columns));
    for (size_t k = 0; k < rank; k++)
        for (size_t j = 0; j <= k; j++) {
            double dot = 0;

            for (size_t i = 0; i < rows; i++)
                dot += sent_p(&f, i, k) * sent_p(&f, i, j);
            assert_true(fabs(dot - (j == k)) < 3e-6);
        }
    assert_true(fabs(nmse(&f) - (1 - projected(&f) / energy(f.m, f.count))) <
                1e-5 * nmse(&f));
    fixture_free(&f);
}

static void
the_loss_is_what_the_projection_leaves_out(void **state)
{
    (void)state;
    check_projection(1, 40, 9, 1);
    check_projection(2, 31, 33, 1);
    check_projection(3, 100, 17, 1);
    check_projection(4, 64, 64, 1);
    check_projection(4, 64, 64, 3);
    check_projection(5, 300, 47, 1);
    check_projection(8, 129, 150, 1);
    check_projection(32, 700, 200, 1);
}

static void
matrices_of_the_rank_come_out_whole(void **state)
{
    (void)state;
    for (size_t rank = 2; rank <= 5; rank++) {
        fixture f = fixture_make(rank, 50, 0, 50 * 70, 1, FP32);

        fill_falling(&f, 0.5, 2);
        run(&f, 0);
        assert_true(nmse(&f) < 1e-11);
        fixture_free(&f);
    }
}

/* ---- warm start -----------------------------------------------------------
 */

static void
a_warm_start_comes_to_the_best_factors(void **state)
{
    (void)state;
    for (size_t rank = 1; rank <= 4; rank += 3) {
        fixture f = fixture_make(rank, 40, 0, 40 * 60, 1, FP32);
        double best, cold, warm;

        fill_falling(&f, 0.8, 30);
        best = best_energy(&f);
        run(&f, 0);
        cold = 1 - nmse(&f);
        for (uint64_t step = 1; step < 10; step++)
            run(&f, step);
        warm = 1 - nmse(&f);
        best /= energy(f.m, f.count);
        assert_true(warm > 0.99 * best && warm < best + 1e-6);
        assert_true(cold < warm);
        fixture_free(&f);
    }
}

static void
more_iterations_are_like_more_steps(void **state)
{
    fixture once = fixture_make(4, 40, 0, 40 * 60, 1, FP32);
    fixture more = fixture_make(4, 40, 0, 40 * 60, 8, FP32);

    (void)state;
    fill_falling(&once, 0.8, 30);
    memcpy(more.m, once.m, once.count * 4);
    for (uint64_t step = 0; step < 8; step++)
        run(&once, step);
    run(&more, 0);
    assert_true(fabs(nmse(&once) - nmse(&more)) < 0.02 * nmse(&once));
    fixture_free(&once);
    fixture_free(&more);
}

/* All workers begin with the same Q, which depends on the step. */
static void
starts_depend_on_the_step_alone(void **state)
{
    fixture f = fixture_make(2, 40, 0, 40 * 60, 1, FP32);
    float first[40 * 60];

    (void)state;
    fill_gauss(&f, 0);
    run(&f, 5);
    memcpy(first, f.decoded, sizeof(first));
    memset(f.state, 0, ops->state_count(f.instance, f.count) * 4);
    run(&f, 5);
    assert_memory_equal(first, f.decoded, sizeof(first));
    memset(f.state, 0, ops->state_count(f.instance, f.count) * 4);
    run(&f, 6);
    assert_memory_not_equal(first, f.decoded, sizeof(first));
    fixture_free(&f);
}

/* ---- parts ----------------------------------------------------------------
 */

/* Chunks that begin and end anywhere decode to the bits of the whole. */
static void
check_chunks(uint64_t origin, size_t columns, size_t count, size_t chunk)
{
    fixture f = fixture_make(2, columns, origin, count, 1, FP32);
    float *whole = room(count * 4);
    size_t plain = 0;

    fill_gauss(&f, 1);
    run(&f, 0);
    assert_int_equal(f.bytes[0], 1);
    memcpy(whole, f.decoded, count * 4);
    for (size_t at = 0; at < count; at += chunk) {
        size_t n = GP_MIN(chunk, count - at);

        encode_part(&f, 0, at, n);
        plain += f.bytes[0] == 0;
        if (f.bytes[0] == 0)
            assert_memory_equal(f.decoded + at, f.m + at, 4 * n);
        else
            assert_memory_equal(f.decoded + at, whole + at, 4 * n);
    }
    assert_true(plain <= 1);
    free(whole);
    fixture_free(&f);
}

static void
chunks_need_not_hold_whole_rows(void **state)
{
    (void)state;
    check_chunks(0, 20, 2000, 500);
    check_chunks(0, 20, 2003, 507);
    check_chunks(13, 20, 2000, 331);
    check_chunks(1019, 37, 5000, 1111);
}

/* A shard's part of a tensor is factored by itself. */
static void
a_part_of_a_tensor_is_a_matrix_too(void **state)
{
    fixture f = fixture_make(4, 50, 50 * 7 + 31, 4096, 1, FP32), whole;
    double lost;

    (void)state;
    fill_gauss(&f, 2);
    run(&f, 0);
    assert_int_equal(f.bytes[0], 1);
    /* The same, filled up with zeros to whole rows. */
    whole = fixture_make(4, 50, 0, 50 * f.rows, 1, FP32);
    memset(whole.m, 0, whole.count * 4);
    memcpy(whole.m + 31, f.m, f.count * 4);
    run(&whole, 0);
    lost = nmse(&whole);
    assert_true(lost < 1);
    /* What the other says beyond the part is lost as well there. */
    assert_true(nmse(&f) <= lost * (1 + 1e-5));
    assert_true(nmse(&f) > 0.9 * lost);
    fixture_free(&f);
    fixture_free(&whole);
}

static void
encoding_without_preparation_is_the_same(void **state)
{
    fixture f = fixture_make(3, 30, 0, 30 * 41 + 7, 1, FP32);
    uint8_t *bytes = room(ops->bound(f.instance, f.count));
    gp_codec_context context = context_of(&f, 0);
    size_t length;

    (void)state;
    fill_gauss(&f, 3);
    context.state = NULL;
    assert_int_equal(ops->encode(f.instance, &context, f.m, f.count, bytes,
                                 ops->bound(f.instance, f.count), &length),
                     GP_OK);
    run(&f, 0);
    assert_int_equal(length, f.length);
    assert_memory_equal(bytes, f.bytes, length);
    free(bytes);
    fixture_free(&f);
}

/* ---- sizes ----------------------------------------------------------------
 */

static void
bounds_hold_and_grow(void **state)
{
    (void)state;
    for (size_t columns = 3; columns < 60; columns += 8)
        for (size_t rank = 1; rank < 5; rank++) {
            fixture f = fixture_make(rank, columns, 0, 4000, 1, FP32);
            size_t last = 0;

            fill_gauss(&f, 4);
            prepare(&f, 0);
            for (size_t n = 0; n <= 3900; n = n < 40 ? n + 1 : n + 97) {
                size_t bound = ops->bound(f.instance, n);

                assert_true(bound >= last);
                last = bound;
                encode_part(&f, 0, 0, n);
                encode_part(&f, 0, 11 % columns, n);
                encode_part(&f, 0, columns - 1, n);
            }
            fixture_free(&f);
        }
}

static void
vectors_and_small_matrices_travel_plain(void **state)
{
    static const size_t columns[] = {1, 4, 60};

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(columns); i++) {
        fixture f = fixture_make(2, columns[i], 0, 257, 1, FP32);

        fill_gauss(&f, 5);
        f.m[3] = INFINITY;
        run(&f, 0);
        assert_int_equal(f.length, HEAD + 4 * 257);
        assert_true(isnan(f.decoded[3]));
        f.decoded[3] = f.m[3];
        assert_memory_equal(f.m, f.decoded, 4 * f.count);
        fixture_free(&f);
    }
}

/* ---- unusual numbers --------------------------------------------------------
 */

static void
zeros_stay_and_are_forgotten(void **state)
{
    fixture f = fixture_make(2, 40, 0, 40 * 60, 1, FP32);
    size_t states = ops->state_count(f.instance, f.count);
    float *before = room(states * 4);

    (void)state;
    memset(f.m, 0, f.count * 4);
    run(&f, 0);
    assert_memory_equal(f.m, f.decoded, f.count * 4);
    fill_gauss(&f, 6);
    run(&f, 1);
    memcpy(before, f.state, states * 4);
    memset(f.m, 0, f.count * 4);
    run(&f, 2);
    assert_memory_equal(f.m, f.decoded, f.count * 4);
    assert_memory_equal(before, f.state, states * 4);
    free(before);
    fixture_free(&f);
}

static void
what_is_not_finite_makes_all_nan(void **state)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        fixture f = fixture_make(2, 40, 0, 40 * 60, 1, FP32);
        size_t states = ops->state_count(f.instance, f.count);
        float *before = room(states * 4);

        fill_gauss(&f, 7);
        run(&f, 0);
        memcpy(before, f.state, states * 4);
        f.m[777] = bad[i];
        run(&f, 1);
        assert_int_equal(f.length, HEAD);
        for (size_t j = 0; j < f.count; j++)
            assert_true(isnan(f.decoded[j]));
        assert_memory_equal(before, f.state, states * 4);
        free(before);
        fixture_free(&f);
    }
}

/* Of all magnitudes, single and mixed; the state survives them too. */
static void
magnitudes_do_not_matter(void **state)
{
    static const float sizes[] = {1e-38f, 1e-30f, 1e-20f, 1e-9f,
                                  1e9f,   1e20f,  1e30f,  4e37f};

    (void)state;
    for (int format = FP32; format <= FP16; format++) {
        fixture f = fixture_make(2, 40, 0, 40 * 60, 1, format);
        double usual;

        fill_gauss(&f, 8);
        run(&f, 0);
        usual = nmse(&f);
        for (size_t i = 0; i < GP_COUNT_OF(sizes); i++) {
            memset(f.state, 0, ops->state_count(f.instance, f.count) * 4);
            fill_gauss(&f, 8);
            for (size_t j = 0; j < f.count; j++)
                f.m[j] *= sizes[i];
            run(&f, 0);
            for (size_t j = 0; j < f.count; j++)
                assert_true(isfinite(f.decoded[j]));
            assert_true(fabs(nmse(&f) - usual) < 1e-3 * usual);
            run(&f, 1);
            assert_true(nmse(&f) < 1);
        }
        for (size_t j = 0; j < f.count; j++)
            f.m[j] = j % 2 ? 3.4e38f : -3.4e38f;
        run(&f, 2);
        for (size_t j = 0; j < f.count; j++)
            assert_true(isfinite(f.decoded[j]));
        assert_true(nmse(&f) < 1e-5);
        fixture_free(&f);
    }
}

/* A checkpoint's state may hold anything. */
static void
a_useless_state_is_ignored(void **state)
{
    fixture f = fixture_make(2, 40, 0, 40 * 60, 1, FP32);
    size_t states = ops->state_count(f.instance, f.count);
    double usual;

    (void)state;
    fill_gauss(&f, 9);
    run(&f, 0);
    usual = nmse(&f);
    memset(f.state, 0, states * 4);
    f.state[3] = NAN;
    run(&f, 0);
    assert_true(nmse(&f) == usual);
    for (size_t i = 0; i < states; i++)
        f.state[i] = 1e-42f;
    run(&f, 0);
    assert_true(nmse(&f) < 1);
    fixture_free(&f);
}

static void
half_precision_factors_lose_little(void **state)
{
    fixture f = fixture_make(4, 64, 0, 64 * 64, 1, FP32);
    fixture h = fixture_make(4, 64, 0, 64 * 64, 1, FP16);

    (void)state;
    fill_gauss(&f, 10);
    memcpy(h.m, f.m, f.count * 4);
    run(&f, 0);
    run(&h, 0);
    assert_int_equal(h.length, HEAD + 2 * 4 * 128);
    assert_true(fabs(nmse(&h) - nmse(&f)) < 1e-5);
    fixture_free(&f);
    fixture_free(&h);
}

static void
sets_of_instructions_agree(void **state)
{
    gp_simd before = gp_simd_get();

    (void)state;
    for (size_t rank = 1; rank <= 9; rank++) {
        fixture f = fixture_make(rank, 53, 17, 53 * 300 + 5, 2, FP32);
        uint8_t *bytes = room(ops->bound(f.instance, f.count));
        float *decoded = room(f.count * 4);

        fill_gauss(&f, rank);
        for (int level = 0; level < GP_SIMD_LEVELS; level++) {
            if (!gp_simd_set((gp_simd)level))
                continue;
            memset(f.state, 0, ops->state_count(f.instance, f.count) * 4);
            run(&f, 0);
            if (level == 0) {
                memcpy(bytes, f.bytes, f.length);
                memcpy(decoded, f.decoded, f.count * 4);
            }
            assert_memory_equal(bytes, f.bytes, f.length);
            assert_memory_equal(decoded, f.decoded, f.count * 4);
        }
        free(bytes);
        free(decoded);
        fixture_free(&f);
    }
    gp_simd_set(before);
}

static void
decode_add_adds_what_decode_gives(void **state)
{
    static const float sizes[] = {1, 1e30f};

    (void)state;
    for (int format = FP32; format <= FP16; format++)
        for (size_t s = 0; s < 2; s++) {
            fixture f = fixture_make(3, 40, 5, 40 * 60 + 9, 1, format);
            gp_codec_context context = context_of(&f, 0);
            float *sum = room(f.count * 4);

            fill_gauss(&f, 11);
            for (size_t i = 0; i < f.count; i++) {
                f.m[i] *= sizes[s];
                sum[i] = (float)i;
            }
            run(&f, 0);
            assert_int_equal(ops->decode_add(f.instance, &context, f.bytes,
                                             f.length, sum, f.count),
                             GP_OK);
            for (size_t i = 0; i < f.count; i++)
                assert_true(sum[i] == (float)i + f.decoded[i]);
            free(sum);
            fixture_free(&f);
        }
}

/* Of usual matrices, with huge and tiny ones, with NaN, and plain ones. */
static void
check_fold(int format, size_t count, size_t inputs, const float *sizes)
{
    fixture f = fixture_make(3, 150, 77, count, 1, format);
    uint8_t *bytes[8];
    float *sum = room(count * 4), *folded = room(count * 4);
    gp_codec_context context = context_of(&f, 0);
    gp_codec_input input[8];

    for (size_t w = 0; w < inputs; w++) {
        fill_gauss(&f, 20 + w);
        for (size_t i = 0; i < count; i++)
            f.m[i] *= sizes[w];
        run(&f, w);
        bytes[w] = room(f.length);
        memcpy(bytes[w], f.bytes, f.length);
        input[w] = (gp_codec_input){&context, bytes[w], f.length};
    }
    for (int add = 0; add < 2; add++) {
        for (size_t i = 0; i < count; i++)
            sum[i] = folded[i] = (float)i;
        for (size_t w = 0; w < inputs; w++)
            assert_int_equal((w || add ? ops->decode_add : ops->decode)(
                                 f.instance, &context, bytes[w],
                                 input[w].length, sum, count),
                             GP_OK);
        assert_int_equal(
            ops->fold(f.instance, input, inputs, add, folded, count), GP_OK);
        for (size_t i = 0; i < count; i++)
            assert_true(!memcmp(&sum[i], &folded[i], 4) ||
                        (isnan(sum[i]) && isnan(folded[i])));
    }
    for (size_t i = 0; i < count; i++)
        folded[i] = 5;
    bytes[inputs - 1][1] = 1;
    assert_int_equal(ops->fold(f.instance, input, inputs, 0, folded, count),
                     GP_ERR_CORRUPT);
    for (size_t i = 0; i < count; i++)
        assert_true(folded[i] == 5);
    for (size_t w = 0; w < inputs; w++)
        free(bytes[w]);
    free(sum);
    free(folded);
    fixture_free(&f);
}

static void
folds_equal_adding_in_turn(void **state)
{
    static const float usual[] = {1, 2, 3, 4, 5, 6, 7, 8};
    static const float far[] = {1, 3e37f, 1e-30f, 1};
    static const float bad[] = {1, NAN, 1};

    (void)state;
    for (int format = FP32; format <= FP16; format++) {
        check_fold(format, 30000, 8, usual);
        check_fold(format, 30000, 1, usual);
        check_fold(format, 20000, 4, far);
        check_fold(format, 20000, 3, bad);
        check_fold(format, 100, 3, usual);
    }
}

/* ---- hostile bytes ----------------------------------------------------- */

static gp_status
decode_status(fixture *f, size_t length, size_t count)
{
    gp_codec_context context = context_of(f, 0);
    uint8_t *copy = malloc(length + 1);
    gp_status status;

    assert_non_null(copy);
    memcpy(copy + 1, f->bytes, length);
    status =
        ops->decode(f->instance, &context, copy + 1, length, f->decoded, count);
    free(copy);
    return status;
}

static void
what_no_encoder_writes_is_refused(void **state)
{
    fixture f = fixture_make(2, 40, 0, 40 * 60, 1, FP32);

    (void)state;
    fill_gauss(&f, 12);
    run(&f, 0);
    for (size_t length = 0; length < f.length; length++)
        assert_int_equal(decode_status(&f, length, f.count), GP_ERR_CORRUPT);
    assert_int_equal(decode_status(&f, f.length, f.count - 40), GP_ERR_CORRUPT);
    assert_int_equal(decode_status(&f, f.length, 50), GP_ERR_CORRUPT);
    for (size_t at = 0; at < HEAD; at++)
        for (int bit = 0; bit < 8; bit++) {
            gp_status status;

            f.bytes[at] ^= (uint8_t)(1 << bit);
            status = decode_status(&f, f.length, f.count);
            /* Exponents up to 100 mean something. */
            if (at != 2 || bit == 7)
                assert_int_equal(status, GP_ERR_CORRUPT);
            f.bytes[at] ^= (uint8_t)(1 << bit);
        }
    f.bytes[HEAD + 3] = 0x40; /* an element of a basis that is at least 2 */
    assert_int_equal(decode_status(&f, f.length, f.count), GP_ERR_CORRUPT);
    f.bytes[HEAD + 3] = 0;
    f.bytes[f.length - 1] = 0x7f; /* a large one of Q */
    assert_int_equal(decode_status(&f, f.length, f.count), GP_ERR_CORRUPT);
    f.bytes[0] = 2;
    memset(f.bytes + 1, 0, 3);
    assert_int_equal(decode_status(&f, HEAD, f.count), GP_OK);
    assert_int_equal(decode_status(&f, HEAD, 30), GP_ERR_CORRUPT);
    fixture_free(&f);
}

/* Whoever takes away elements takes away the rows. */
static void
stages_that_break_rows_are_refused(void **state)
{
    static const char *const texts[] = {"zeros+powersgd", "topk:0.1+powersgd",
                                        "hadamard+powersgd"};
    gp_codec_shape shape = {10000, 100};
    gp_pipeline *p;

    (void)state;
    for (size_t i = 0; i < GP_COUNT_OF(texts); i++)
        assert_int_equal(gp_pipeline_open(texts[i], &shape, &p), GP_ERR_CONFIG);
    assert_int_equal(gp_pipeline_open("powersgd", &shape, &p), GP_OK);
    assert_int_equal(gp_pipeline_needs(p) & GP_PIPELINE_PREPARES,
                     GP_PIPELINE_PREPARES);
    gp_pipeline_destroy(p);
    shape.columns = 0;
    assert_int_equal(gp_pipeline_open("powersgd", &shape, &p), GP_OK);
    assert_int_equal(gp_pipeline_needs(p) & GP_PIPELINE_PREPARES, 0);
    gp_pipeline_destroy(p);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_loss_is_what_the_projection_leaves_out),
        cmocka_unit_test(matrices_of_the_rank_come_out_whole),
        cmocka_unit_test(a_warm_start_comes_to_the_best_factors),
        cmocka_unit_test(more_iterations_are_like_more_steps),
        cmocka_unit_test(starts_depend_on_the_step_alone),
        cmocka_unit_test(chunks_need_not_hold_whole_rows),
        cmocka_unit_test(a_part_of_a_tensor_is_a_matrix_too),
        cmocka_unit_test(encoding_without_preparation_is_the_same),
        cmocka_unit_test(bounds_hold_and_grow),
        cmocka_unit_test(vectors_and_small_matrices_travel_plain),
        cmocka_unit_test(zeros_stay_and_are_forgotten),
        cmocka_unit_test(what_is_not_finite_makes_all_nan),
        cmocka_unit_test(magnitudes_do_not_matter),
        cmocka_unit_test(a_useless_state_is_ignored),
        cmocka_unit_test(half_precision_factors_lose_little),
        cmocka_unit_test(sets_of_instructions_agree),
        cmocka_unit_test(decode_add_adds_what_decode_gives),
        cmocka_unit_test(folds_equal_adding_in_turn),
        cmocka_unit_test(what_no_encoder_writes_is_refused),
        cmocka_unit_test(stages_that_break_rows_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
