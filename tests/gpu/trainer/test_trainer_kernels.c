/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_trainer_kernels.c - the trainer's kernels against the host, bit for bit
 * where arithmetic is IEEE's, and to a stated bound where exp() or the order of
 * a product's sums is the device's.
 *
 * It runs on whatever libcuda.so.1 is found: a simulated one in ctest.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>

#include "examples/trainer/cuda/blas_cuda.h"
#include "examples/trainer/cuda/driver_cuda.h"
#include "examples/trainer/cuda/kernels.h"
#include "loss.h"
#include "optim.h"
#include "random.h"

static gt_cuda *cuda;

static void
check(gp_status status)
{
    if (status != GP_OK)
        fail_msg("%s", gt_last_error());
}

static int
open_device(void **state)
{
    uint32_t index;

    (void)state;
    if (gt_cuda_index("cuda", 0, &index) != GP_OK)
        return -1;
    check(gt_cuda_open(index, &cuda));
    return 0;
}

static int
close_device(void **state)
{
    (void)state;
    gt_cuda_close(cuda);
    return 0;
}

/* Memory of the device with this in it. */
static void *
given(const void *values, size_t bytes)
{
    void *out = NULL;

    check(gt_cuda_alloc(cuda, bytes, "a test", &out));
    check(gt_cuda_copy_in(cuda, out, values, bytes));
    return out;
}

static void *
zeros(size_t bytes)
{
    void *out = NULL;

    check(gt_cuda_alloc(cuda, bytes, "a test", &out));
    check(gt_cuda_zero(cuda, out, bytes));
    return out;
}

static void
fetch(void *to, const void *from, size_t bytes)
{
    check(gt_cuda_copy_out(cuda, to, from, bytes));
}

static float *
noise(size_t count, uint32_t salt, float bound)
{
    float *out = malloc(count * sizeof(float));

    assert_non_null(out);
    gt_random_uniform(7, GT_STREAM_INIT, salt, bound, out, count);
    return out;
}

/* To the nearest even, by way of double so that it is not the same code. */
static uint16_t
bf16_of(float x)
{
    uint32_t b;
    double unit, scaled;
    float y;
    int e;

    memcpy(&b, &x, sizeof(b));
    if (isnan(x))
        return (uint16_t)(b >> 16 | 0x40);
    if (isinf(x) || x == 0)
        return (uint16_t)(b >> 16);
    (void)frexp((double)x, &e);
    if (e < -125)
        e = -125;
    unit = ldexp(1, e - 8);
    scaled = nearbyint((double)x / unit) * unit;
    y = (float)scaled;
    if (y == 0)
        return (uint16_t)(b >> 16 & 0x8000);
    memcpy(&b, &y, sizeof(b));
    return (uint16_t)(b >> 16);
}

static float
float_of(uint16_t half)
{
    uint32_t b = (uint32_t)half << 16;
    float x;

    memcpy(&x, &b, sizeof(x));
    return x;
}

static uint64_t
grid_of(uint64_t count, uint64_t tile)
{
    return (count + tile - 1) / tile;
}

static uint64_t
matrix_grid(uint32_t rows, uint32_t stride, bool half)
{
    return grid_of(rows, GT_TILE_ROWS) * grid_of(stride, GT_TILE_COLUMNS(half));
}

/* A matrix in one of both types, and what it holds as fp32. */
static void *
given_matrix(float *values, size_t count, bool half)
{
    uint16_t *halves = malloc(count * sizeof(uint16_t));
    void *out;

    assert_non_null(halves);
    for (size_t i = 0; half && i < count; i++) {
        halves[i] = bf16_of(values[i]);
        values[i] = float_of(halves[i]);
    }
    out = half ? given(halves, count * sizeof(uint16_t))
               : given(values, count * sizeof(float));
    free(halves);
    return out;
}

/* The values of a device's matrix are those, bit for bit. */
static void
expect_matrix(const void *device, const float *expected, size_t count,
              bool half)
{
    float *got = malloc(count * sizeof(float));

    assert_non_null(got);
    fetch(got, device, count * (half ? sizeof(uint16_t) : sizeof(float)));
    for (size_t i = count; half && i-- > 0;) {
        uint16_t bits;

        memcpy(&bits, (uint16_t *)(void *)got + i, sizeof(bits));
        assert_int_equal(bits, bf16_of(expected[i]));
    }
    if (!half)
        assert_memory_equal(got, expected, count * sizeof(float));
    free(got);
}

static void
casts_round_to_the_nearest_even(void **state)
{
    enum { N = 9001 };
    static const uint32_t special[] = {
        0,          0x80000000, 0x7f800000, 0xff800000, 0x7fc00001, 0x7f800001,
        0x3f808000, 0x3f818000, 0x3f808001, 0x00000001, 0x80008000, 0x00018000,
        0x7f7fffff, 0xff7f7fff, 0x7f7f8000, 0x3f7fffff};
    float *values = noise(N, 1, 1000);
    uint16_t *got = malloc(N * sizeof(uint16_t));
    uint64_t count = N;
    void *from, *to = zeros(N * sizeof(uint16_t));
    void *args[] = {&from, &to, &count};

    (void)state;
    memcpy(values, special, sizeof(special));
    from = given(values, N * sizeof(float));
    check(gt_cuda_launch(cuda, GT_KERNEL_gt_cuda_cast, grid_of(N, GT_TILE),
                         args));
    fetch(got, to, N * sizeof(uint16_t));
    for (size_t i = 0; i < N; i++)
        assert_int_equal(got[i], bf16_of(values[i]));
    free(values);
    free(got);
}

/* Data of odd width is spread to rows with a stride, and gathered by order. */
static void
batches_are_gathered(void **state, bool half)
{
    enum { ROWS = 130, COLUMNS = 77, STRIDE = 80, BATCH = 64 };
    uint32_t rows = ROWS, columns = COLUMNS, stride = STRIDE, is_half = half;
    uint32_t batch = BATCH, order[BATCH];
    uint32_t words = STRIDE * (half ? 2u : 4u) / 16;
    size_t size = half ? 2 : 4;
    float *values = noise(ROWS * COLUMNS, 2, 3);
    float expected[BATCH * STRIDE] = {0};
    uint16_t labels[ROWS], got[BATCH];
    void *from = given(values, ROWS * COLUMNS * sizeof(float));
    void *data = zeros(ROWS * STRIDE * size),
         *to = zeros(BATCH * STRIDE * size);
    void *device_labels, *to_labels = zeros(sizeof(got)), *device_order;
    void *spread[] = {&from, &data, &rows, &columns, &stride, &is_half};
    void *gather[] = {&data,      &device_labels, &device_order, &to,
                      &to_labels, &batch,         &words};

    (void)state;
    for (uint32_t i = 0; i < ROWS; i++)
        labels[i] = (uint16_t)(i * 3);
    for (uint32_t i = 0; i < BATCH; i++) {
        order[i] = i * 37 % ROWS;
        memcpy(expected + i * STRIDE, values + order[i] * COLUMNS,
               COLUMNS * sizeof(float));
    }
    device_labels = given(labels, sizeof(labels));
    device_order = given(order, sizeof(order));
    check(gt_cuda_launch(cuda, GT_KERNEL_gt_cuda_spread,
                         grid_of(ROWS * COLUMNS, GT_TILE), spread));
    check(gt_cuda_launch(cuda, GT_KERNEL_gt_cuda_gather,
                         grid_of((uint64_t)BATCH * words, GT_TILE / 4),
                         gather));
    expect_matrix(to, expected, BATCH * STRIDE, half);
    fetch(got, to_labels, sizeof(got));
    for (uint32_t i = 0; i < BATCH; i++)
        assert_int_equal(got[i], labels[order[i]]);
    free(values);
}

static void
batches_are_gathered_in_fp32(void **state)
{
    batches_are_gathered(state, false);
}

static void
batches_are_gathered_in_bf16(void **state)
{
    batches_are_gathered(state, true);
}

/* Shapes that end within, at and behind tiles of both types. */
static const struct shape {
    uint32_t rows, columns;
} shapes[] = {{1, 1}, {64, 128}, {65, 129}, {130, 10}, {200, 300}};

static void
bias_and_relu(void **state)
{
    (void)state;
    for (size_t i = 0; i < 4 * GT_COUNT_OF(shapes); i++) {
        const struct shape *s = &shapes[i / 4];
        uint32_t half = i & 1, relu = i >> 1 & 1, rows = s->rows;
        uint32_t stride = (s->columns + 7) / 8 * 8;
        size_t count = (size_t)rows * stride;
        float *y = noise(count, 3, 2), *bias = noise(stride, 4, 1);
        void *matrix = given_matrix(y, count, half);
        void *device_bias = given(bias, stride * sizeof(float));
        void *args[] = {&matrix, &device_bias, &rows, &stride, &relu, &half};

        check(gt_cuda_launch(cuda, GT_KERNEL_gt_cuda_bias_relu,
                             matrix_grid(rows, stride, half), args));
        for (size_t k = 0; k < count; k++) {
            float v = y[k] + bias[k % stride];

            y[k] = v > 0 || !relu ? v : 0;
        }
        expect_matrix(matrix, y, count, half);
        free(y);
        free(bias);
    }
}

/* The order that kernels.cu promises: tiles of 64 rows, in each every 8th row
 * together. */
static float
column_sum(const float *delta, uint32_t rows, uint32_t stride, uint32_t column)
{
    float total = 0;

    for (uint32_t tile = 0; tile < rows; tile += GT_TILE_ROWS) {
        float sum = 0;

        for (uint32_t w = 0; w < 8; w++) {
            float part = 0;

            for (uint32_t r = tile + w; r < tile + GT_TILE_ROWS && r < rows;
                 r += 8)
                part += delta[(size_t)r * stride + column];
            sum = w ? sum + part : part;
        }
        total += sum;
    }
    return total;
}

static void
relu_backward_and_bias_gradients(void **state)
{
    (void)state;
    for (size_t i = 0; i < 4 * GT_COUNT_OF(shapes); i++) {
        const struct shape *s = &shapes[i / 4];
        uint32_t half = i & 1, rows = s->rows, columns = s->columns;
        uint32_t stride = (columns + 7) / 8 * 8;
        uint32_t tiles = (uint32_t)grid_of(rows, GT_TILE_ROWS);
        size_t count = (size_t)rows * stride;
        float *d = noise(count, 5, 2), *a = noise(count, 6, 1);
        float *sums = malloc((columns + 1) * sizeof(float));
        void *delta = given_matrix(d, count, half);
        void *activation = i >> 1 & 1 ? given_matrix(a, count, half) : NULL;
        void *partial = zeros((size_t)tiles * stride * sizeof(float));
        void *grad = zeros((columns + 1) * sizeof(float));
        void *back[] = {&delta, &activation, &partial, &rows, &stride, &half};
        void *sum[] = {&partial, &grad, &tiles, &columns, &stride};

        check(gt_cuda_launch(cuda, GT_KERNEL_gt_cuda_relu_back,
                             matrix_grid(rows, stride, half), back));
        check(gt_cuda_launch(cuda, GT_KERNEL_gt_cuda_bias_sum,
                             grid_of(columns, GT_BLOCK), sum));
        for (size_t k = 0; activation && k < count; k++)
            d[k] = a[k] > 0 ? d[k] : 0;
        expect_matrix(delta, d, count, half);
        fetch(sums, grad, (columns + 1) * sizeof(float));
        for (uint32_t c = 0; c < columns; c++)
            assert_true(sums[c] == column_sum(d, rows, stride, c));
        assert_true(sums[columns] == 0); /* the gap stays */
        free(d);
        free(a);
        free(sums);
    }
}

/* exp() and log() are the device's: 4 units of the last place of fp32. */
static void
near(double got, double expected)
{
    if (!(fabs(got - expected) <= 1e-6 + 5e-7 * fabs(expected)))
        fail_msg("%.9g, not %.9g", got, expected);
}

static void
try_loss(uint32_t rows, uint32_t classes, gt_loss loss, bool backward)
{
    bool narrow = classes <= GT_NARROW;
    uint32_t stride = (classes + 7) / 8 * 8, squares = loss, half = 0;
    size_t count = (size_t)rows * stride;
    float scale = 1.0f / (float)rows, *y = noise(count, 8, 6);
    float *packed = malloc((size_t)rows * classes * sizeof(float));
    float *expected = malloc((size_t)rows * classes * sizeof(float));
    float *got = malloc(count * sizeof(float));
    uint16_t *labels = malloc(rows * sizeof(uint16_t));
    void *output, *device_labels, *delta = backward ? zeros(count * 4) : NULL;
    void *losses = zeros(rows * sizeof(double));
    void *correct = zeros(rows * sizeof(uint32_t));
    void *sums = zeros(sizeof(gt_cuda_score_sums));
    void *args[] = {&output,  &device_labels, &delta,   &losses,
                    &correct, &rows,          &classes, &stride,
                    &squares, &scale,         &half};
    void *add[] = {&losses, &correct, &rows, &sums};
    gt_cuda_score_sums score;
    gt_score host = {0};

    for (uint32_t r = 0; r < rows; r++) {
        labels[r] = (uint16_t)(r * 7 % classes);
        memcpy(packed + (size_t)r * classes, y + (size_t)r * stride,
               classes * sizeof(float));
    }
    y[classes - 1] = packed[classes - 1] = y[0]; /* a tie */
    output = given(y, count * sizeof(float));
    device_labels = given(labels, rows * sizeof(uint16_t));
    for (int pass = 0; pass < 2; pass++) { /* sums go on */
        check(gt_cuda_launch(cuda,
                             narrow ? GT_KERNEL_gt_cuda_loss_narrow
                                    : GT_KERNEL_gt_cuda_loss_wide,
                             grid_of(rows, narrow ? GT_BLOCK : GT_WIDE_ROWS),
                             args));
        check(gt_cuda_launch(cuda, GT_KERNEL_gt_cuda_score, 1, add));
        gt_loss_eval(loss, packed, labels, rows, classes, expected, &host);
    }
    fetch(&score, sums, sizeof(score));
    near(score.loss / rows, host.loss / rows);
    assert_int_equal(score.correct, host.correct);
    if (backward)
        fetch(got, delta, count * sizeof(float));
    for (size_t i = 0; backward && i < count; i++)
        if (i % stride < classes)
            near(got[i] / scale,
                 expected[i / stride * classes + i % stride] / scale);
        else
            assert_true(got[i] == 0);
    free(y);
    free(packed);
    free(expected);
    free(got);
    free(labels);
}

static void
losses_and_their_gradients(void **state)
{
    (void)state;
    for (int loss = GT_CROSS_ENTROPY; loss <= GT_MEAN_SQUARES; loss++) {
        try_loss(1, 1, loss, true);
        try_loss(300, 10, loss, true);
        try_loss(257, 32, loss, false);
        try_loss(70, 33, loss, true);
        try_loss(9, 1000, loss, true);
        try_loss(9, 1000, loss, false);
    }
}

/* The bits of optim.c, and their 16 bits. */
static void
optimizers_have_the_bits_of_the_host(void **state)
{
    enum { N = 4096 + 20 };
    static const gt_optim optims[] = {{GT_SGD, 0.1f, 0, 0},
                                      {GT_SGD, 0.1f, 0, 0.01f},
                                      {GT_MOMENTUM, 0.3f, 0.9f, 0},
                                      {GT_NESTEROV, 0.3f, 0.8f, 0.01f}};

    (void)state;
    for (size_t i = 0; i <= GT_COUNT_OF(optims); i++) {
        const gt_optim *o = i < GT_COUNT_OF(optims) ? &optims[i] : NULL;
        bool has_velocity = o && o->kind != GT_SGD;
        float *w = noise(N, 9, 1), *g = noise(N, 10, 1), *v = noise(N, 11, 1);
        void *params = given(w, N * 4), *grads = given(g, N * 4);
        void *velocity = has_velocity ? given(v, N * 4) : NULL;
        void *half = i % 2 ? zeros(N * 2) : NULL;
        uint64_t count = N;
        uint32_t kind = !o                       ? GT_STEP_TAKE
                        : o->kind == GT_SGD      ? GT_STEP_SGD
                        : o->kind == GT_MOMENTUM ? GT_STEP_MOMENTUM
                                                 : GT_STEP_NESTEROV;
        float lr = o ? o->lr : 0, mu = o ? o->momentum : 0;
        float decay = o ? o->weight_decay : 0;
        void *args[] = {&params, &grads, &velocity, &half, &count,
                        &kind,   &lr,    &mu,       &decay};

        for (int step = 0; step < 2; step++) {
            check(gt_cuda_launch(cuda, GT_KERNEL_gt_cuda_update,
                                 grid_of(N, GT_TILE), args));
            if (o)
                gt_optim_step(o, w, g, has_velocity ? v : NULL, N);
            else
                memcpy(w, g, N * 4);
        }
        expect_matrix(params, w, N, false);
        if (has_velocity)
            expect_matrix(velocity, v, N, false);
        if (half)
            expect_matrix(half, w, N, true);
        free(w);
        free(g);
        free(v);
    }
}

/* --- products --- */

/* The ways of rounding to TF32: a kernel of cuBLAS has one of them, all along;
 * or none, since it may compute in fp32. */
enum { TO_EVEN, FROM_ZERO, TO_ZERO, NOT, WAYS };

static float
rounded(float x, gt_precision precision, int way)
{
    uint32_t b;

    if (precision == GT_BF16)
        return float_of(bf16_of(x));
    if (precision == GT_TF32 && way != NOT) {
        memcpy(&b, &x, sizeof(b));
        b += way == TO_EVEN     ? 0xfff + (b >> 13 & 1)
             : way == FROM_ZERO ? 0x1000
                                : 0;
        b &= ~0x1fffu;
        memcpy(&x, &b, sizeof(x));
    }
    return x;
}

/* c = op(a) op(b), all column-major with gaps. */
static void
try_product(gt_blas *blas, gt_precision precision, int ta, int tb)
{
    enum { M = 40, N = 24, K = 72, LD = 80 };
    float *a = noise(LD * LD, 12, 1), *b = noise(LD * LD, 13, 1), c[N * LD];
    bool half = precision == GT_BF16;
    size_t misses[WAYS] = {0}, least = N * M;
    gt_product p = {ta,
                    tb,
                    M,
                    N,
                    K,
                    given_matrix(a, LD * LD, half),
                    given_matrix(b, LD * LD, half),
                    zeros(sizeof(c)),
                    LD,
                    LD,
                    LD,
                    false};

    check(gt_blas_multiply(blas, &p));
    fetch(c, p.c, sizeof(c));
    for (size_t n = 0; n < (size_t)N * M * WAYS; n++) {
        size_t i = n % M, j = n / M % N;
        int way = (int)(n / M / N);
        double sum = 0;

        for (size_t k = 0; k < K; k++)
            sum += (double)rounded(ta ? a[i * LD + k] : a[k * LD + i],
                                   precision, way) *
                   (double)rounded(tb ? b[k * LD + j] : b[j * LD + k],
                                   precision, way);
        misses[way] += !(fabs((double)c[j * LD + i] - sum) <= 1e-5 * K / 3);
    }
    for (int way = 0; way < WAYS; way++)
        least = misses[way] < least ? misses[way] : least;
    if (least)
        fail_msg("precision %d: %zu numbers are wrong", (int)precision, least);
    for (size_t j = 0; j < N; j++)
        for (size_t i = M; i < LD; i++)
            assert_true(c[j * LD + i] == 0);
    free(a);
    free(b);
}

static void
products_of_all_precisions(void **state)
{
    (void)state;
    for (int precision = GT_FP32; precision <= GT_BF16; precision++) {
        gt_blas *blas;

        check(gt_blas_open(cuda, precision, precision != GT_TF32, &blas));
        assert_true(gt_blas_version(blas) > 0);
        try_product(blas, precision, GP_CUBLAS_T, GP_CUBLAS_N);
        try_product(blas, precision, GP_CUBLAS_N, GP_CUBLAS_T);
        try_product(blas, precision, GP_CUBLAS_N, GP_CUBLAS_N);
        gt_blas_close(blas);
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_device, close_device)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(casts_round_to_the_nearest_even),
        TEST(batches_are_gathered_in_fp32),
        TEST(batches_are_gathered_in_bf16),
        TEST(bias_and_relu),
        TEST(relu_backward_and_bias_gradients),
        TEST(losses_and_their_gradients),
        TEST(optimizers_have_the_bits_of_the_host),
        TEST(products_of_all_precisions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
