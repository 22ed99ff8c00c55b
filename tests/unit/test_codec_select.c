/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_codec_select.c - the mathematics of topk, randk and threshold.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/bytes.h"
#include "compress/index.h"
#include "compress/kernels.h"
#include "compress/ratio.h"
#include "compress/rice.h"
#include "compress/select.h"

enum { COUNT = 20000, CHUNK = 4096 };

static float x[COUNT], decoded[COUNT], again[COUNT];
static uint32_t indices[COUNT];
static float values[COUNT];

static double
unit(uint64_t i)
{
    uint64_t z = (i + 1) * 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

static float
gauss(uint64_t i)
{
    return (float)(1.7 * (unit(4 * i) + unit(4 * i + 1) + unit(4 * i + 2) +
                          unit(4 * i + 3) - 2));
}

static void
fill(void)
{
    for (size_t i = 0; i < COUNT; i++)
        x[i] = gauss(i) * (1 + (float)(i % 7));
}

/* Encodes in chunks of `chunk`, after preparing where that is asked for, and
 * decodes; the bytes of all messages. */
static size_t
pass_shaped(const char *text, const gp_codec_shape *shape, uint64_t step,
            size_t count, size_t chunk, float *out)
{
    gp_codec_context context = {.seed = 7, .step = step};
    gp_codec_memory *memory;
    gp_pipeline *p;
    size_t bound, total = 0;
    uint8_t *bytes;
    void *workspace;

    assert_int_equal(gp_pipeline_open(text, shape, &p), GP_OK);
    assert_int_equal(gp_codec_memory_create(p, 0, count, 0, &memory), GP_OK);
    bound = gp_pipeline_bound(p, chunk);
    bytes = malloc(bound);
    workspace = gp_alloc_aligned(gp_pipeline_workspace(p, chunk) + 64);
    assert_true(bytes && workspace);
    if (gp_pipeline_needs(p) & GP_PIPELINE_PREPARES)
        assert_int_equal(gp_pipeline_prepare(p, &context, memory, x, count),
                         GP_OK);
    for (size_t at = 0; at < count; at += chunk) {
        size_t size = count - at < chunk ? count - at : chunk, length;

        context.offset = at;
        assert_int_equal(gp_pipeline_encode(p, &context, memory, x + at, size,
                                            bytes, bound, &length, workspace),
                         GP_OK);
        assert_int_equal(gp_pipeline_decode(p, &context, bytes, length,
                                            out + at, size, workspace),
                         GP_OK);
        total += length;
    }
    free(workspace);
    free(bytes);
    gp_codec_memory_destroy(memory);
    gp_pipeline_destroy(p);
    return total;
}

static size_t
pass(const char *text, uint64_t step, size_t count, size_t chunk, float *out)
{
    const gp_codec_shape shape = {count, 0};

    return pass_shaped(text, &shape, step, count, chunk, out);
}

static double
energy(const float *a, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += (double)a[i] * a[i];
    return sum;
}

static double
nmse(const float *a, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += ((double)a[i] - x[i]) * ((double)a[i] - x[i]);
    return sum / energy(x, n);
}

static int
descending(const void *a, const void *b)
{
    float p = fabsf(*(const float *)a), q = fabsf(*(const float *)b);

    return p < q ? 1 : p > q ? -1 : 0;
}

static void
topk_keeps_the_energy_of_the_largest(void **state)
{
    static const double ratios[] = {0.0001, 0.01, 0.1, 0.5, 1};
    static float sorted[COUNT];

    (void)state;
    fill();
    memcpy(sorted, x, sizeof(x));
    qsort(sorted, COUNT, sizeof(float), descending);
    for (size_t r = 0; r < GP_COUNT_OF(ratios); r++) {
        size_t k = (size_t)(ratios[r] * COUNT + 0.5), kept = 0;
        double expected = 1 - energy(sorted, k) / energy(x, COUNT);
        char text[64];

        snprintf(text, sizeof(text), "topk:%g", ratios[r]);
        pass(text, 0, COUNT, COUNT, decoded);
        for (size_t i = 0; i < COUNT; i++) {
            assert_true(decoded[i] == 0 || decoded[i] == x[i]);
            assert_true(decoded[i] == 0 || fabsf(x[i]) >= fabsf(sorted[k - 1]));
            assert_true(decoded[i] != 0 || fabsf(x[i]) <= fabsf(sorted[k - 1]));
            kept += decoded[i] != 0;
        }
        assert_int_equal(kept, k);
        assert_true(fabs(nmse(decoded, COUNT) - expected) <= 1e-5);
        assert_true(expected <= 1 - ratios[r] + 1e-12);
    }
}

/* Ties across the border of chunks, too. */
static void
chunks_of_a_tensor_choose_as_the_whole(void **state)
{
    static const char *const texts[] = {"topk:0.01,scope=tensor",
                                        "topk:0.4,scope=tensor",
                                        "topk:0.0001,scope=tensor"};

    (void)state;
    for (int ties = 0; ties < 3; ties++) {
        fill();
        for (size_t i = 0; i < COUNT && ties; i++)
            x[i] = ties == 1 ? rintf(x[i]) : -3.0f;
        for (size_t t = 0; t < GP_COUNT_OF(texts); t++) {
            char whole[32];

            snprintf(whole, sizeof(whole), "%.*s", (int)strcspn(texts[t], ","),
                     texts[t]);
            pass(texts[t], 0, COUNT, CHUNK, decoded);
            pass(whole, 0, COUNT, COUNT, again);
            assert_memory_equal(decoded, again, sizeof(again));
        }
    }
}

static void *
opened(const gp_codec_ops *ops, double a, double b, double c, double d)
{
    const gp_codec_shape shape = {0, 0};
    const double all[] = {a, b, c, d};
    void *instance = NULL;

    assert_int_equal(ops->open(all, &shape, &instance), GP_OK);
    return instance;
}

static size_t
chosen(const gp_codec_ops *ops, const void *instance, gp_codec_context context,
       size_t n)
{
    void *scratch =
        gp_alloc_aligned(ops->scratch ? ops->scratch(instance, n) + 64 : 64);
    size_t selected;

    assert_non_null(scratch);
    context.scratch = scratch;
    assert_int_equal(
        ops->select(instance, &context, x, n, indices, values, &selected),
        GP_OK);
    assert_true(selected <= ops->bound(instance, n));
    for (size_t j = 1; j < selected; j++)
        assert_true(indices[j] > indices[j - 1]);
    assert_true(selected == 0 || indices[selected - 1] < n);
    free(scratch);
    return selected;
}

static void
special_values_have_their_place(void **state)
{
    static const float given[] = {1, -0.0f, NAN, -INFINITY, 5, -5, 0, 5};
    void *topk = opened(&gp_codec_topk, 0.5, 0, 0, 0);

    (void)state;
    memcpy(x, given, sizeof(given));
    assert_int_equal(chosen(&gp_codec_topk, topk, (gp_codec_context){0}, 8), 4);
    assert_int_equal(indices[0], 2);
    assert_int_equal(indices[1], 3);
    assert_int_equal(indices[2], 4);
    assert_int_equal(indices[3], 5);
    assert_true(isnan(values[0]) && values[1] == -INFINITY);
    assert_int_equal(chosen(&gp_codec_topk, topk, (gp_codec_context){0}, 1), 1);
    assert_int_equal(chosen(&gp_codec_topk, topk, (gp_codec_context){0}, 0), 0);
    gp_codec_topk.close(topk);
}

static void
a_share_falls_as_announced(void **state)
{
    gp_ratio r, plain;

    (void)state;
    assert_int_equal(gp_ratio_make(0.001, 0.25, 1000, &r), GP_OK);
    assert_int_equal(gp_ratio_make(0.07, 0, 0, &plain), GP_OK);
    for (uint64_t step = 0; step < 1100; step += 7) {
        double expected =
            fmax(0.25 * pow(0.001 / 0.25, (double)step / 1000), 0.001);

        assert_true(fabs(gp_ratio_at(&r, step) / expected - 1) < 1e-13);
    }
    assert_int_equal(gp_ratio_count(&r, 0, 1000), 250);
    assert_int_equal(gp_ratio_count(&r, 5000, 1000), 1);
    assert_int_equal(gp_ratio_most(&r, 1000), 250);
    assert_int_equal(gp_ratio_least(&r, 1000), 1);
    assert_int_equal(gp_ratio_count(&plain, 0, 100), 7);
    assert_int_equal(gp_ratio_count(&plain, 0, 101), 8);
    assert_int_equal(gp_ratio_count(&plain, 0, 1), 1);
    assert_int_equal(gp_ratio_count(&plain, 0, 0), 0);
    assert_int_equal(gp_ratio_make(0.1, 0.25, 0, &r), GP_ERR_CONFIG);
    assert_int_equal(gp_ratio_make(0.1, 0, 10, &r), GP_ERR_CONFIG);
    assert_int_equal(gp_ratio_make(0.1, 0.05, 10, &r), GP_ERR_CONFIG);
}

/* Over many steps: the energy that is lost is 1 - k/n in the mean, and every
 * element is taken equally often. */
static void
check_draws(double ratio, size_t n)
{
    enum { STEPS = 1000 };
    void *randk = opened(&gp_codec_randk, ratio, 0, 0, 0);
    static uint32_t taken[COUNT];
    double sum = 0, squares = 0, chi = 0, total = energy(x, n), p;
    size_t k = 0;

    memset(taken, 0, sizeof(taken));
    for (uint64_t step = 0; step < STEPS; step++) {
        gp_codec_context context = {.seed = 3, .step = step};
        double lost;

        k = chosen(&gp_codec_randk, randk, context, n);
        lost = 1 - energy(values, k) / total;
        sum += lost;
        squares += lost * lost;
        for (size_t j = 0; j < k; j++) {
            taken[indices[j]]++;
            assert_true(values[j] == x[indices[j]]);
        }
    }
    p = (double)k / (double)n;
    assert_int_equal(k, (size_t)ceil(ratio * (double)n - 1e-6));
    sum /= STEPS;
    assert_true(fabs(sum - (1 - p)) <=
                3 * sqrt((squares / STEPS - sum * sum) / STEPS));
    for (size_t i = 0; i < n; i++)
        chi += pow(taken[i] - STEPS * p, 2) / (STEPS * p * (1 - p));
    /* n - 1 degrees of freedom, less than independent draws would have. */
    chi = (chi / (double)n - 1) / sqrt(2 / (double)n);
    assert_true(fabs(chi) < 5);
    gp_codec_randk.close(randk);
}

static void
draws_are_uniform_without_replacement(void **state)
{
    (void)state;
    fill();
    check_draws(0.01, 4096);
    check_draws(0.01, 1000);
    check_draws(0.3, 500);
    check_draws(0.5, 100);
    check_draws(0.7, 257);
    check_draws(0.99, 1001);
}

/* Pairs of elements as well: k (k - 1) / (n (n - 1)) of all steps. */
static void
pairs_are_drawn_as_often_as_they_should(void **state)
{
    enum { STEPS = 40000, N = 6 };
    void *randk = opened(&gp_codec_randk, 0.5, 0, 0, 0);
    double pairs[N][N] = {{0}}, p = 3 * 2 / (6.0 * 5);

    (void)state;
    fill();
    for (uint64_t step = 0; step < STEPS; step++) {
        gp_codec_context context = {.seed = 9, .step = step};
        size_t k = chosen(&gp_codec_randk, randk, context, N);

        assert_int_equal(k, 3);
        for (size_t a = 0; a < k; a++)
            for (size_t b = a + 1; b < k; b++)
                pairs[indices[a]][indices[b]]++;
    }
    for (size_t a = 0; a < N; a++)
        for (size_t b = a + 1; b < N; b++)
            assert_true(fabs(pairs[a][b] / STEPS - p) <
                        5 * sqrt(p * (1 - p) / STEPS));
    gp_codec_randk.close(randk);
}

static void
draws_are_shared_by_all_ranks(void **state)
{
    void *randk = opened(&gp_codec_randk, 0.05, 0, 0, 0);
    uint32_t first[1000], implied[1000];
    gp_codec_context context = {.seed = 1, .tensor = 2, .offset = 8192};
    size_t k, other;
    uint64_t scratch[200];

    (void)state;
    fill();
    k = chosen(&gp_codec_randk, randk, context, 8000);
    memcpy(first, indices, k * sizeof(*first));
    context.rank = 5;
    chosen(&gp_codec_randk, randk, context, 8000);
    assert_memory_equal(first, indices, k * sizeof(*first));
    context.scratch = scratch;
    assert_int_equal(
        gp_codec_randk.imply(randk, &context, 8000, implied, &other), GP_OK);
    assert_int_equal(other, k);
    assert_memory_equal(first, implied, k * sizeof(*first));
    context.step = 1;
    chosen(&gp_codec_randk, randk, context, 8000);
    assert_memory_not_equal(first, indices, k * sizeof(*first));
    context.step = 0;
    context.offset = 0;
    chosen(&gp_codec_randk, randk, context, 8000);
    assert_memory_not_equal(first, indices, k * sizeof(*first));
    gp_codec_randk.close(randk);
}

/* The mean of many is the input: n/k times, k/n of the steps. */
static void
scaled_draws_are_unbiased(void **state)
{
    enum { STEPS = 4096, N = 400 };
    double mean[N] = {0}, error = 0, norm = energy(x, N), w;

    (void)state;
    fill();
    norm = energy(x, N);
    for (uint64_t step = 0; step < STEPS; step++) {
        pass("randk:0.1,scale=unbiased", step, N, N, decoded);
        for (size_t i = 0; i < N; i++)
            mean[i] += (double)decoded[i] / STEPS;
    }
    for (size_t i = 0; i < N; i++) {
        double deviation = fabs((double)x[i]) * sqrt(9.0 / STEPS);

        assert_true(fabs(mean[i] - x[i]) < 5.5 * deviation + 1e-6);
        error += (mean[i] - x[i]) * (mean[i] - x[i]);
    }
    w = 9;
    assert_true(error <= w / STEPS * norm * (1 + 5 * sqrt(2.0 / N)));
    x[3] = 3e38f;
    for (uint64_t step = 0; step < 50; step++) {
        pass("randk:0.1,scale=unbiased", step, N, N, decoded);
        assert_true(isfinite(decoded[3]));
    }
}

static void
draws_do_not_hide_a_nan(void **state)
{
    void *randk = opened(&gp_codec_randk, 0.1, 0, 0, 0);
    size_t k;

    (void)state;
    fill();
    x[77] = -INFINITY;
    k = chosen(&gp_codec_randk, randk, (gp_codec_context){.seed = 4}, 1000);
    assert_int_equal(k, 100);
    for (size_t j = 0; j < k; j++)
        assert_true(isnan(values[j]));
    gp_codec_randk.close(randk);
}

static void
check_threshold(double value, int relative, size_t n, double least)
{
    void *t = opened(&gp_codec_threshold, value, relative, 0, 0);
    size_t k = chosen(&gp_codec_threshold, t, (gp_codec_context){0}, n), j = 0;

    for (size_t i = 0; i < n; i++)
        if (!((double)fabsf(x[i]) < least))
            assert_int_equal(indices[j++], i);
    assert_int_equal(j, k);
    gp_codec_threshold.close(t);
}

static void
a_threshold_takes_what_reaches_it(void **state)
{
    double rms;

    (void)state;
    fill();
    x[0] = 2.5f;
    x[1] = -2.5f;
    x[2] = nextafterf(2.5f, 0);
    x[3] = NAN;
    x[4] = -INFINITY;
    check_threshold(2.5, 0, COUNT, 2.5);
    check_threshold(0.1, 0, 4000, 0.1); /* not a number of fp32 */
    check_threshold(1e38, 0, COUNT, 1e38);
    x[3] = x[4] = 0;
    rms = sqrt(energy(x, 4000) / 4000);
    check_threshold(1.5, 1, 4000, 1.5 * rms);
    for (size_t i = 0; i < COUNT; i++)
        x[i] = -fabsf(x[i]) - 1;
    check_threshold(3, 0, COUNT, 3);
}

/* Zeros never reach a threshold, whatever the mean is; with a NaN there is no
 * mean, and what is not finite goes. */
static void
a_relative_threshold_has_a_meaning_without_a_mean(void **state)
{
    void *t = opened(&gp_codec_threshold, 0.5, 1, 0, 0);

    (void)state;
    memset(x, 0, sizeof(x));
    x[9] = -0.0f;
    assert_int_equal(chosen(&gp_codec_threshold, t, (gp_codec_context){0}, 500),
                     0);
    fill();
    x[11] = NAN;
    x[20] = INFINITY;
    assert_int_equal(chosen(&gp_codec_threshold, t, (gp_codec_context){0}, 500),
                     2);
    gp_codec_threshold.close(t);
}

static void
a_message_is_what_its_stages_make(void **state)
{
    const size_t n = 9000;
    gp_codec_context context = {.seed = 1};
    void *topk = opened(&gp_codec_topk, 0.03, 0, 0, 0);
    size_t k, bound, length, index, size;
    uint8_t *message, *part;
    gp_pipeline *p, *q8;
    void *workspace;

    (void)state;
    fill();
    k = chosen(&gp_codec_topk, topk, context, n);
    gp_codec_topk.close(topk);
    assert_int_equal(gp_pipeline_parse("topk:0.03+q8:block=64+rice", &p),
                     GP_OK);
    assert_int_equal(gp_pipeline_parse("q8:block=64", &q8), GP_OK);
    bound = gp_pipeline_bound(p, n);
    message = malloc(bound);
    part = malloc(bound);
    workspace = gp_alloc_aligned(gp_pipeline_workspace(p, n) + 64);
    assert_true(message && part && workspace);
    assert_int_equal(gp_pipeline_encode(p, &context, NULL, x, n, message, bound,
                                        &length, workspace),
                     GP_OK);
    assert_int_equal(message[0], 0);
    assert_int_equal(gp_get32(message + 1), k);
    index = gp_rice_write(indices, k, part, bound);
    assert_int_equal(gp_get32(message + 5), index);
    assert_memory_equal(message + 9, part, index);
    assert_int_equal(gp_pipeline_encode(q8, &context, NULL, values, k, part,
                                        bound, &size, workspace),
                     GP_OK);
    assert_int_equal(length, 9 + index + size);
    assert_memory_equal(message + 9 + index, part, size);
    free(workspace);
    free(message);
    free(part);
    gp_pipeline_destroy(p);
    gp_pipeline_destroy(q8);
}

/* What is left out has less than value^2 of the energy. */
static void
bounds_hold(void **state)
{
    static const double shares[] = {0.1, 0.5, 0.9};
    static const char *const names[] = {"topk", "threshold"};

    (void)state;
    fill();
    for (size_t i = 0; i < GP_COUNT_OF(shares); i++)
        for (size_t n = 0; n < GP_COUNT_OF(names); n++) {
            char text[64];
            gp_pipeline *p;

            snprintf(text, sizeof(text), "%s:%g%s", names[n], shares[i],
                     n ? ",relative=1" : "");
            assert_int_equal(gp_pipeline_parse(text, &p), GP_OK);
            pass(text, 0, COUNT, COUNT, decoded);
            assert_true(nmse(decoded, COUNT) <=
                        gp_pipeline_error_bound(p, COUNT) * (1 + 1e-12));
            assert_true(gp_pipeline_error_bound(p, COUNT) < 1);
            gp_pipeline_destroy(p);
        }
}

/* All that is chosen may lie in one chunk. */
static void
a_tensor_of_unknown_size_may_be_one_chunk(void **state)
{
    const gp_codec_shape shapes[] = {{0, 0}, {COUNT, 0}};

    (void)state;
    for (size_t i = 0; i < COUNT; i++)
        x[i] = gauss(i) * (i / CHUNK == 2 ? 1e6f : 1);
    pass("topk:0.02", 0, COUNT, COUNT, again);
    for (size_t s = 0; s < 2; s++) {
        pass_shaped("topk:0.02,scope=tensor", &shapes[s], 0, COUNT, CHUNK,
                    decoded);
        assert_memory_equal(decoded, again, sizeof(again));
    }
}

/* Far more than can be sent: every chunk shows it, and no residual keeps it. */
static void
nothing_not_finite_stays_in_a_residual(void **state)
{
    static const char *const texts[] = {"ef+topk:0.001,scope=tensor",
                                        "ef+topk:0.001", "ef+randk:0.001"};

    (void)state;
    for (size_t t = 0; t < GP_COUNT_OF(texts); t++) {
        gp_codec_context context = {.seed = 1};
        gp_codec_memory *memory;
        gp_pipeline *p;
        const char *name;
        float *residual;
        uint8_t *bytes;
        void *workspace;

        fill();
        for (size_t i = 100; i < COUNT; i += 3)
            x[i] = i & 1 ? NAN : -INFINITY;
        assert_int_equal(
            gp_pipeline_open(texts[t], &(gp_codec_shape){COUNT, 0}, &p), GP_OK);
        assert_int_equal(gp_codec_memory_create(p, 0, COUNT, 1, &memory),
                         GP_OK);
        bytes = malloc(gp_pipeline_bound(p, CHUNK));
        workspace = gp_alloc_aligned(gp_pipeline_workspace(p, CHUNK) + 64);
        assert_true(bytes && workspace);
        if (gp_pipeline_needs(p) & GP_PIPELINE_PREPARES)
            assert_int_equal(gp_pipeline_prepare(p, &context, memory, x, COUNT),
                             GP_OK);
        for (size_t at = 0; at < COUNT; at += CHUNK) {
            size_t size = GP_MIN(CHUNK, COUNT - at), length, finite = 0;

            context.offset = at;
            assert_int_equal(gp_pipeline_encode(p, &context, memory, x + at,
                                                size, bytes,
                                                gp_pipeline_bound(p, CHUNK),
                                                &length, workspace),
                             GP_OK);
            assert_int_equal(gp_pipeline_decode(p, &context, bytes, length,
                                                decoded, size, workspace),
                             GP_OK);
            for (size_t i = 0; i < size; i++)
                finite += isfinite(decoded[i]) != 0;
            assert_true(finite < size);
        }
        assert_int_equal(gp_codec_memory_field(memory, 0, &name, &residual),
                         COUNT);
        for (size_t i = 0; i < COUNT; i++)
            assert_true(isfinite(residual[i]));
        free(workspace);
        free(bytes);
        gp_codec_memory_destroy(memory);
        gp_pipeline_destroy(p);
    }
}

static void
a_changed_tensor_is_refused(void **state)
{
    const gp_codec_shape shape = {1000, 0};
    const double parameters[] = {0.01, 1, 0, 0};
    gp_codec_context context = {.seed = 1};
    void *topk, *prepared;
    size_t selected;

    (void)state;
    fill();
    assert_int_equal(gp_codec_topk.open(parameters, &shape, &topk), GP_OK);
    prepared = gp_alloc_aligned(gp_codec_topk.prepare_bytes(topk, 1000));
    assert_non_null(prepared);
    assert_int_equal(gp_codec_topk.prepare(topk, &context, x, 1000, prepared),
                     GP_OK);
    context.prepared = prepared;
    for (size_t i = 0; i < 1000; i++)
        x[i] *= 2;
    assert_int_equal(gp_codec_topk.select(topk, &context, x, 1000, indices,
                                          values, &selected),
                     GP_ERR_INVALID);
    free(prepared);
    gp_codec_topk.close(topk);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(topk_keeps_the_energy_of_the_largest),
        cmocka_unit_test(chunks_of_a_tensor_choose_as_the_whole),
        cmocka_unit_test(special_values_have_their_place),
        cmocka_unit_test(a_share_falls_as_announced),
        cmocka_unit_test(draws_are_uniform_without_replacement),
        cmocka_unit_test(pairs_are_drawn_as_often_as_they_should),
        cmocka_unit_test(draws_are_shared_by_all_ranks),
        cmocka_unit_test(scaled_draws_are_unbiased),
        cmocka_unit_test(draws_do_not_hide_a_nan),
        cmocka_unit_test(a_threshold_takes_what_reaches_it),
        cmocka_unit_test(a_relative_threshold_has_a_meaning_without_a_mean),
        cmocka_unit_test(a_message_is_what_its_stages_make),
        cmocka_unit_test(a_tensor_of_unknown_size_may_be_one_chunk),
        cmocka_unit_test(bounds_hold),
        cmocka_unit_test(nothing_not_finite_stays_in_a_residual),
        cmocka_unit_test(a_changed_tensor_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
