/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_trainer_device.c - the network on a device against the network on the
 * host, which device a worker takes, and every call of the driver and of cuBLAS
 * failing in turn.
 *
 * It runs on whatever libcuda.so.1 is found: simulated ones in ctest. On a real
 * one, which does not fail when told to, tests of failures are left out.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <dlfcn.h>
#include <math.h>

#include "examples/trainer/cuda/blas_cuda.h"
#include "examples/trainer/cuda/driver_cuda.h"
#include "gpu.h"
#include "numbers_cuda.h"
#include "random.h"

#define FEATURES 20
#define CLASSES  5
#define SAMPLES  60
#define ROWS     32

static struct {
    void (*break_call)(const char *function, uint32_t n, int result);
    bool (*broken)(void);
    uint32_t (*objects)(void);
    void (*blas_fail)(const char *function, unsigned n, int result);
    int (*blas_handles)(void);
} sim;

static bool
find(void *library, const char *name, void *place)
{
    void *function = dlsym(library, name);

    memcpy(place, &function, sizeof(function));
    return function != NULL;
}

/* Whether the libraries are simulated ones. */
static bool
find_simulated(void)
{
    void *cuda = dlopen("libcuda.so.1", RTLD_NOW);
    void *blas = dlopen("libcublas.so.13", RTLD_NOW);

    return cuda && blas && find(cuda, "gp_sim_cuda_fail", &sim.break_call) &&
           find(cuda, "gp_sim_cuda_failed", &sim.broken) &&
           find(cuda, "gp_sim_cuda_objects", &sim.objects) &&
           find(blas, "gp_sim_cublas_fail", &sim.blas_fail) &&
           find(blas, "gp_sim_cublas_handles", &sim.blas_handles);
}

static void
check(gp_status status)
{
    if (status != GP_OK)
        fail_msg("%s", gt_last_error());
}

/* Everything that a step on a device and its twin on the host need. */
typedef struct rig {
    gt_data data;
    gt_mlp mlp;
    gt_gpu *gpu;
    uint32_t order[SAMPLES];
} rig;

static void
fill_samples(gt_samples *s, size_t count, uint32_t salt)
{
    s->count = count;
    s->x = calloc(count * FEATURES, sizeof(float));
    s->labels = calloc(count, sizeof(uint16_t));
    assert_true(s->x && s->labels);
    gt_random_uniform(3, GT_STREAM_INIT, salt, 1, s->x, count * FEATURES);
    for (size_t i = 0; i < count; i++)
        s->labels[i] = (uint16_t)(i * 7 % CLASSES);
}

static void
make_rig(rig *r)
{
    const size_t widths[] = {FEATURES, 24, 17, CLASSES};

    *r = (rig){.data = {.features = FEATURES, .classes = CLASSES}};
    fill_samples(&r->data.train, SAMPLES, 100);
    fill_samples(&r->data.test, 7, 101);
    check(gt_mlp_create(widths, 3, ROWS, &r->mlp));
    gt_mlp_init(&r->mlp, 5);
    for (uint32_t i = 0; i < SAMPLES; i++)
        r->order[i] = i * 37 % SAMPLES;
}

static void
free_rig(rig *r)
{
    gt_gpu_free(r->gpu);
    gt_mlp_free(&r->mlp);
    free(r->data.train.x);
    free(r->data.train.labels);
    free(r->data.test.x);
    free(r->data.test.labels);
}

static gp_status
open_network(rig *r, gt_precision precision, bool velocity)
{
    const gt_gpu_options o = {"cuda", 0, precision, true};
    gp_status status = gt_gpu_open(&o, &r->gpu);

    if (status == GP_OK)
        status = gt_gpu_set_data(r->gpu, &r->data);
    if (status == GP_OK)
        status = gt_gpu_set_network(r->gpu, &r->mlp, ROWS, velocity);
    if (status == GP_OK)
        status = gt_gpu_upload(r->gpu, r->mlp.params, NULL);
    return status == GP_OK ? gt_gpu_set_order(r->gpu, r->order, SAMPLES)
                           : status;
}

static gp_status
update_layers(gt_gpu *gpu, size_t layers, const gt_optim *optim)
{
    gp_status status = GP_OK;

    for (size_t l = 0; l < layers && status == GP_OK; l++)
        status = gt_gpu_update(gpu, l, optim);
    return status;
}

static gp_status
step(rig *r, size_t first, const gt_optim *optim, gt_loss loss)
{
    gp_status status = gt_gpu_take_batch(r->gpu, first, ROWS);

    if (status == GP_OK)
        status = gt_gpu_forward(r->gpu, NULL, NULL);
    if (status == GP_OK)
        status = gt_gpu_loss(r->gpu, loss, true);
    if (status == GP_OK)
        status = gt_gpu_backward(r->gpu, NULL, NULL);
    if (status == GP_OK)
        status = update_layers(r->gpu, r->mlp.layers, optim);
    return status == GP_OK ? gt_gpu_end_step(r->gpu) : status;
}

static void
step_on_host(rig *r, size_t first, const gt_optim *optim, gt_loss loss,
             float *velocity, gt_score *score)
{
    float x[ROWS * FEATURES];
    uint16_t labels[ROWS];
    const float *y;

    for (size_t i = 0; i < ROWS; i++) {
        uint32_t s = r->order[first + i];

        memcpy(x + i * FEATURES, r->data.train.x + s * FEATURES,
               FEATURES * sizeof(float));
        labels[i] = r->data.train.labels[s];
    }
    check(gt_mlp_forward(&r->mlp, x, ROWS, NULL, NULL, &y));
    gt_loss_eval(loss, y, labels, ROWS, CLASSES, gt_mlp_output_delta(&r->mlp),
                 score);
    check(gt_mlp_backward(&r->mlp, x, ROWS, NULL, NULL));
    gt_optim_step(optim, r->mlp.params, r->mlp.grads, velocity, r->mlp.span);
}

/* By the root of the squares' sum. The largest one says little: a unit that is
 * just below 0 here and just above it there has all of its gradient in one. */
static void
expect_near(const float *got, const float *expected, size_t count, double bound)
{
    double apart = 0, all = 0;

    for (size_t i = 0; i < count; i++) {
        double d = (double)got[i] - (double)expected[i];

        apart += d * d;
        all += (double)expected[i] * (double)expected[i];
    }
    if (!(sqrt(apart / all) <= bound))
        fail_msg("%g apart, not %g at most", sqrt(apart / all), bound);
}

/* Six steps, each of which is to be the host's. */
static void
try_training(gt_precision precision, gt_loss loss, double bound)
{
    const gt_optim optim = {GT_MOMENTUM, 0.1f, 0.9f, 0.001f};
    gt_score host = {0}, device = {0};
    float *params, *velocity, *both;
    rig r;

    make_rig(&r);
    velocity = calloc(r.mlp.span, sizeof(float));
    params = calloc(r.mlp.span, sizeof(float));
    both = calloc(r.mlp.span, sizeof(float));
    assert_true(velocity && params && both);
    check(open_network(&r, precision, true));
    for (size_t s = 0; s < 6; s++) {
        check(step(&r, s * 4, &optim, loss));
        step_on_host(&r, s * 4, &optim, loss, velocity, &host);
    }
    check(gt_gpu_take_score(r.gpu, &device));
    assert_true(fabs(device.loss - host.loss) <= bound * host.loss);
    if (precision == GT_FP32)
        assert_int_equal(device.correct, host.correct);
    check(gt_gpu_download(r.gpu, params, both));
    expect_near(params, r.mlp.params, r.mlp.span, bound);
    expect_near(both, velocity, r.mlp.span, 10 * bound);
    free(params);
    free(velocity);
    free(both);
    free_rig(&r);
}

static void
training_is_that_of_the_host(void **state)
{
    (void)state;
    try_training(GT_FP32, GT_CROSS_ENTROPY, 1e-6);
    try_training(GT_FP32, GT_MEAN_SQUARES, 1e-6);
    try_training(GT_TF32, GT_CROSS_ENTROPY, 1e-2);
    try_training(GT_BF16, GT_CROSS_ENTROPY, 1e-2);
    try_training(GT_BF16, GT_MEAN_SQUARES, 1e-2);
}

static void
test_samples_are_scored(void **state)
{
    gt_score host = {0}, device = {0};
    const float *y;
    rig r;

    (void)state;
    make_rig(&r);
    check(open_network(&r, GT_FP32, false));
    for (size_t first = 0; first < 7; first += 3) {
        gt_gpu_take_test(r.gpu, first, first + 3 < 7 ? 3 : 7 - first);
        check(gt_gpu_forward(r.gpu, NULL, NULL));
        check(gt_gpu_loss(r.gpu, GT_CROSS_ENTROPY, false));
    }
    check(gt_gpu_take_score(r.gpu, &device));
    check(gt_mlp_forward(&r.mlp, r.data.test.x, 7, NULL, NULL, &y));
    gt_loss_eval(GT_CROSS_ENTROPY, y, r.data.test.labels, 7, CLASSES, NULL,
                 &host);
    assert_true(fabs(device.loss - host.loss) < 1e-5);
    assert_int_equal(device.correct, host.correct);
    device = (gt_score){0};
    check(gt_gpu_take_score(r.gpu, &device)); /* they were forgotten */
    assert_true(device.loss == 0 && device.correct == 0);
    assert_int_equal(gt_gpu_take_batch(r.gpu, SAMPLES - ROWS + 1, ROWS),
                     GP_ERR_INVALID);
    assert_int_equal(gt_gpu_take_batch(r.gpu, 0, ROWS + 1), GP_ERR_INVALID);
    assert_int_equal(gt_gpu_set_order(r.gpu, r.order, SAMPLES + 1),
                     GP_ERR_INVALID);
    free_rig(&r);
}

/* Two runs are the same bits. */
static void
runs_are_the_same_bits(void **state)
{
    const gt_optim optim = {GT_SGD, 0.1f, 0, 0};
    float *params[2];
    rig r;

    (void)state;
    for (size_t run = 0; run < 2; run++) {
        make_rig(&r);
        check(open_network(&r, GT_BF16, false));
        for (size_t s = 0; s < 4; s++)
            check(step(&r, s * 4, &optim, GT_CROSS_ENTROPY));
        params[run] = calloc(r.mlp.span, sizeof(float));
        assert_non_null(params[run]);
        check(gt_gpu_download(r.gpu, params[run], NULL));
        if (run)
            assert_memory_equal(params[0], params[1],
                                r.mlp.span * sizeof(float));
        free_rig(&r);
    }
    free(params[0]);
    free(params[1]);
}

static void
workers_share_devices_by_local_rank(void **state)
{
    uint32_t count, index;

    (void)state;
    check(gt_cuda_count(&count));
    for (uint32_t rank = 0; rank < 5; rank++) {
        check(gt_cuda_index("cuda", rank, &index));
        assert_int_equal(index, rank % count);
        check(gt_cuda_index("cuda:0", rank, &index));
        assert_int_equal(index, 0);
    }
    assert_int_equal(gt_cuda_index("cuda:99", 0, &index), GP_ERR_NOT_FOUND);
    check(gt_gpu_check("cuda"));
    assert_int_equal(gt_gpu_check("cuda:99"), GP_ERR_NOT_FOUND);
}

/* A life in which something fails; what it was is what the error says. */
static gp_status
live(rig *r)
{
    const gt_optim optim = {GT_MOMENTUM, 0.1f, 0.9f, 0};
    gt_score score = {0};
    gp_status status = open_network(r, GT_BF16, true);

    for (size_t s = 0; s < 3 && status == GP_OK; s++)
        status = step(r, 0, &optim, GT_CROSS_ENTROPY);
    if (status == GP_OK)
        status = gt_gpu_take_score(r->gpu, &score);
    return status == GP_OK ? gt_gpu_download(r->gpu, r->mlp.params, NULL)
                           : status;
}

static void
expect_nothing_left(rig *r)
{
    gt_gpu_free(r->gpu);
    r->gpu = NULL;
    assert_int_equal(sim.objects(), 0);
    assert_int_equal(sim.blas_handles(), 0);
}

static void
every_call_of_the_driver_may_fail(void **state)
{
    uint32_t n = 1;
    rig r;

    (void)state;
    if (!sim.break_call)
        skip();
    make_rig(&r);
    for (;; n++) {
        gp_status status;

        sim.break_call(NULL, n, CUDA_ERROR_ILLEGAL_ADDRESS);
        status = live(&r);
        if (!sim.broken()) {
            check(status);
            break;
        }
        if (status == GP_OK)
            fail_msg("call %u failed, and nobody said so", n);
        assert_int_equal(status, GP_ERR_SYSTEM);
        assert_non_null(strstr(gt_last_error(), "CUDA_ERROR_ILLEGAL_ADDRESS"));
        expect_nothing_left(&r);
    }
    sim.break_call(NULL, 0, 0);
    expect_nothing_left(&r);
    assert_true(n > 50);
    free_rig(&r);
}

static void
every_call_of_cublas_may_fail(void **state)
{
    static const struct {
        const char *function;
        unsigned n;
        int result;
        gp_status status;
        const char *text;
    } cases[] = {
        {"cublasCreate_v2", 0, 1, GP_ERR_SYSTEM, "NOT_INITIALIZED (1)"},
        {"cublasCreate_v2", 0, 3, GP_ERR_NO_MEMORY, "ALLOC_FAILED (3)"},
        {"cublasSetStream_v2", 1, 14, GP_ERR_SYSTEM, "INTERNAL_ERROR (14)"},
        {"cublasSetAtomicsMode", 1, 1, GP_ERR_SYSTEM, "cublasSetAtomicsMode"},
        {"cublasSetWorkspace_v2", 1, 7, GP_ERR_SYSTEM, "INVALID_VALUE (7)"},
        {"cublasGemmEx", 1, 15, GP_ERR_SYSTEM, "NOT_SUPPORTED (15)"},
        {"cublasGemmEx", 4, 13, GP_ERR_SYSTEM, "EXECUTION_FAILED (13)"},
        {"cublasGemmEx", 9, 99, GP_ERR_SYSTEM, "an unknown status (99)"},
    };
    rig r;

    (void)state;
    if (!sim.break_call)
        skip();
    make_rig(&r);
    for (size_t i = 0; i < GT_COUNT_OF(cases); i++) {
        sim.blas_fail(cases[i].function, cases[i].n, cases[i].result);
        assert_int_equal(live(&r), cases[i].status);
        if (!strstr(gt_last_error(), cases[i].text))
            fail_msg("'%s' is not in '%s'", cases[i].text, gt_last_error());
        expect_nothing_left(&r);
    }
    /* The first library does not start: the next one is taken. */
    sim.blas_fail("cublasCreate_v2", 1, 1);
    check(live(&r));
    expect_nothing_left(&r);
    free_rig(&r);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(training_is_that_of_the_host),
        cmocka_unit_test(test_samples_are_scored),
        cmocka_unit_test(runs_are_the_same_bits),
        cmocka_unit_test(workers_share_devices_by_local_rank),
        cmocka_unit_test(every_call_of_the_driver_may_fail),
        cmocka_unit_test(every_call_of_cublas_may_fail),
    };
    int result;

    setenv("SIM_CUDA", "devices=2", 0); /* before the library is loaded */
    if (!find_simulated())
        sim.break_call = NULL;
    result = cmocka_run_group_tests(tests, NULL, NULL);
    return result;
}
