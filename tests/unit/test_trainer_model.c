/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_trainer_model.c - gradients against finite differences, optimizers
 * against their formulas, and training that learns, repeatably.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

#include "loss.h"
#include "mlp.h"
#include "optim.h"
#include "random.h"
#include "train.h"

enum { ROWS = 7, IN = 5, CLASSES = 4 };

static double
loss_at(gt_mlp *mlp, gt_loss loss, const float *x, const uint16_t *labels)
{
    gt_score score = {0};
    const float *output;

    assert_int_equal(gt_mlp_forward(mlp, x, ROWS, NULL, NULL, &output), GP_OK);
    gt_loss_eval(loss, output, labels, ROWS, CLASSES, NULL, &score);
    return score.loss / ROWS;
}

static void
gradients_of(gt_mlp *mlp, gt_loss loss, const float *x, const uint16_t *labels)
{
    gt_score score = {0};
    const float *output;

    assert_int_equal(gt_mlp_forward(mlp, x, ROWS, NULL, NULL, &output), GP_OK);
    gt_loss_eval(loss, output, labels, ROWS, CLASSES, gt_mlp_output_delta(mlp),
                 &score);
    assert_int_equal(gt_mlp_backward(mlp, x, ROWS, NULL, NULL), GP_OK);
}

/* Which hidden units are on, as one number. */
static uint64_t
pattern(const gt_mlp *mlp)
{
    uint64_t bits = 1;

    for (size_t l = 0; l + 1 < mlp->layers; l++)
        for (size_t i = 0; i < ROWS * mlp->layer[l].out; i++)
            bits = bits * 0x9E3779B97F4A7C15u +
                   (mlp->activation[l][i] > 0 ? 1 : 2);
    return bits;
}

/* The derivative along parameter i by central differences; false when a ReLU
 * switches within the step, where the difference means nothing. fp32 loses half
 * its digits in the difference, hence the wide step. */
static bool
numeric(gt_mlp *mlp, gt_loss loss, const float *x, const uint16_t *labels,
        size_t i, double *out)
{
    const float step = 4e-3f;
    float kept = mlp->params[i];
    double above, below;
    uint64_t on;

    mlp->params[i] = kept + step;
    above = loss_at(mlp, loss, x, labels);
    on = pattern(mlp);
    mlp->params[i] = kept - step;
    below = loss_at(mlp, loss, x, labels);
    mlp->params[i] = kept;
    *out = (above - below) / (2 * (double)step);
    return on == pattern(mlp);
}

static void
check_gradients(gt_loss loss, const size_t *widths, size_t layers)
{
    uint16_t labels[ROWS];
    float x[ROWS * IN];
    double worst = 0, size = 0, value;
    size_t compared = 0;
    gt_mlp mlp;

    assert_int_equal(gt_mlp_create(widths, layers, ROWS, &mlp), GP_OK);
    gt_mlp_init(&mlp, 3);
    gt_random_uniform(8, GT_STREAM_INIT, 100, 1, x, ROWS * IN);
    for (size_t l = 0; l < layers; l++)
        gt_random_uniform(8, GT_STREAM_INIT, 200 + (uint32_t)l, 0.3f,
                          mlp.layer[l].bias, mlp.layer[l].out);
    for (size_t r = 0; r < ROWS; r++)
        labels[r] = (uint16_t)(r % CLASSES);
    gradients_of(&mlp, loss, x, labels);
    for (size_t i = 0; i < mlp.span; i++) {
        if (!numeric(&mlp, loss, x, labels, i, &value))
            continue;
        compared++;
        worst = fmax(worst, fabs(value - (double)mlp.grads[i]));
        size = fmax(size, fabs((double)mlp.grads[i]));
    }
    assert_true(compared > mlp.span * 8 / 10);
    assert_true(size > 0.01);
    assert_true(worst < 1e-3 * size);
    gt_mlp_free(&mlp);
}

static void
gradients_match_finite_differences(void **state)
{
    static const size_t deep[] = {IN, 6, 9, CLASSES};
    static const size_t flat[] = {IN, CLASSES};

    (void)state;
    check_gradients(GT_CROSS_ENTROPY, deep, 3);
    check_gradients(GT_MEAN_SQUARES, deep, 3);
    check_gradients(GT_CROSS_ENTROPY, flat, 1);
    check_gradients(GT_MEAN_SQUARES, flat, 1);
}

static void
losses_have_known_values(void **state)
{
    const float y[] = {0, 0, 0, 0, 1000, 0, 0, -1000};
    const uint16_t labels[] = {2, 0};
    gt_score score = {0};
    float delta[8];

    (void)state;
    gt_loss_eval(GT_CROSS_ENTROPY, y, labels, 2, 4, delta, &score);
    assert_true(fabs(score.loss - log(4)) < 1e-6);
    assert_int_equal(score.correct, 1); /* of equals, the first one counts */
    assert_true(fabsf(delta[2] + 0.375f) < 1e-6f);
    assert_true(delta[4] == 0 && delta[7] == 0);
    score = (gt_score){0};
    gt_loss_eval(GT_MEAN_SQUARES, y, labels, 1, 4, delta, &score);
    assert_true(fabs(score.loss - 0.25) < 1e-7);
    assert_true(fabsf(delta[2] + 0.5f) < 1e-6f);
}

static void
optimizers_follow_their_formulas(void **state)
{
    for (gt_optim_kind kind = GT_SGD; kind <= GT_NESTEROV; kind++) {
        gt_optim o = {kind, 0.1f, 0.9f, 0.01f};
        float w[3] = {1, -2, 3}, v[3] = {0};
        double w2[3] = {1, -2, 3}, v2[3] = {0};

        (void)state;
        for (int step = 1; step <= 5; step++) {
            float g[3] = {0.5f * (float)step, -1, 0};

            gt_optim_step(&o, w, g, v, 3);
            for (size_t i = 0; i < 3; i++) {
                double d = (double)g[i] + 0.01 * w2[i];

                v2[i] = 0.9 * v2[i] + d;
                w2[i] -= 0.1 * (kind == GT_SGD        ? d
                                : kind == GT_NESTEROV ? d + 0.9 * v2[i]
                                                      : v2[i]);
            }
        }
        for (size_t i = 0; i < 3; i++)
            assert_true(fabs((double)w[i] - w2[i]) < 1e-5);
    }
}

static void
widths_that_cannot_be_are_refused(void **state)
{
    static const size_t none[] = {5, 0}, wide[] = {5, GT_WIDTH_MAX + 1};
    gt_mlp mlp;

    (void)state;
    assert_int_equal(gt_mlp_create(none, 1, 1, &mlp), GP_ERR_TOO_LARGE);
    assert_int_equal(gt_mlp_create(wide, 1, 1, &mlp), GP_ERR_TOO_LARGE);
    assert_int_equal(gt_mlp_create(none, 0, 1, &mlp), GP_ERR_INVALID);
}

static gp_status
stop_at_layer_1(void *user, size_t layer)
{
    (*(size_t *)user)++;
    return layer == 1 ? GP_ERR_PEER_LOST : GP_OK;
}

static void
hooks_can_end_a_pass(void **state)
{
    static const size_t widths[] = {IN, 6, 9, CLASSES};
    float x[ROWS * IN] = {0};
    const float *output;
    size_t calls = 0;
    gt_mlp mlp;

    (void)state;
    assert_int_equal(gt_mlp_create(widths, 3, ROWS, &mlp), GP_OK);
    assert_int_equal(
        gt_mlp_forward(&mlp, x, ROWS, stop_at_layer_1, &calls, &output),
        GP_ERR_PEER_LOST);
    assert_int_equal(calls, 2);
    assert_int_equal(gt_mlp_backward(&mlp, x, ROWS, stop_at_layer_1, &calls),
                     GP_ERR_PEER_LOST);
    assert_int_equal(calls, 4);
    gt_mlp_free(&mlp);
}

/* --- whole runs --- */

static gt_options
parsed(int count, const char *const *words)
{
    gt_options o;
    char *argv[32] = {(char *)(uintptr_t) "gradpush-train"};

    for (int i = 0; i < count; i++)
        argv[i + 1] = (char *)(uintptr_t)words[i];
    if (gt_options_parse(count + 1, argv, &o) != GT_ACTION_TRAIN)
        fail_msg("%s", gt_last_error());
    return o;
}

static gt_epoch
run(int count, const char *const *words, char hex[65])
{
    gt_options o = parsed(count, words);
    gt_epoch last;
    gt_trainer t;

    if (gt_trainer_create(&o, false, &t) != GP_OK ||
        gt_trainer_run(&t, NULL) != GP_OK ||
        gt_mlp_sha256(&t.mlp, hex) != GP_OK)
        fail_msg("%s", gt_last_error());
    last = t.epochs[t.epoch_count - 1];
    gt_trainer_free(&t);
    return last;
}

#define RUN(hex, ...)                                      \
    run((int)GT_COUNT_OF(((const char *[]){__VA_ARGS__})), \
        (const char *[]){__VA_ARGS__}, hex)
#define QUIET "--workers", "1", "--shards", "0", "--progress", "off"

static void
small_data_are_learned_by_heart(void **state)
{
    char hex[65];
    gt_epoch e = RUN(hex, QUIET, "--split", "0.05", "--batch", "16", "--epochs",
                     "60", "--hidden", "64");

    (void)state;
    assert_true(e.train_loss < 0.02);
    e = RUN(hex, QUIET, "--split", "0.05", "--batch", "16", "--epochs", "200",
            "--hidden", "64", "--loss", "mse", "--optimizer", "momentum");
    assert_true(e.train_loss < 0.02);
}

static void
digits_are_learned(void **state)
{
    char hex[65];
    gt_epoch e = RUN(hex, QUIET, "--batch", "128");

    (void)state;
    assert_true(e.test_accuracy >= 0.96);
}

static void
a_run_repeats_bit_for_bit(void **state)
{
    char a[65], b[65], c[65];

    (void)state;
    RUN(a, QUIET, "--epochs", "2", "--optimizer", "nesterov");
    RUN(b, QUIET, "--epochs", "2", "--optimizer", "nesterov");
    RUN(c, QUIET, "--epochs", "2", "--optimizer", "nesterov", "--seed", "2");
    assert_string_equal(a, b);
    assert_string_not_equal(a, c);
}

static void
divergence_is_an_error(void **state)
{
    static const char *const words[] = {QUIET, "--lr", "100000", "--epochs",
                                        "20"};
    gt_options o = parsed(GT_COUNT_OF(words), words);
    gt_trainer t;

    (void)state;
    assert_int_equal(gt_trainer_create(&o, false, &t), GP_OK);
    assert_int_equal(gt_trainer_run(&t, NULL), GP_ERR_INVALID);
    assert_non_null(strstr(gt_last_error(), "smaller --lr"));
    gt_trainer_free(&t);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_match_finite_differences),
        cmocka_unit_test(losses_have_known_values),
        cmocka_unit_test(optimizers_follow_their_formulas),
        cmocka_unit_test(widths_that_cannot_be_are_refused),
        cmocka_unit_test(hooks_can_end_a_pass),
        cmocka_unit_test(small_data_are_learned_by_heart),
        cmocka_unit_test(digits_are_learned),
        cmocka_unit_test(a_run_repeats_bit_for_bit),
        cmocka_unit_test(divergence_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
