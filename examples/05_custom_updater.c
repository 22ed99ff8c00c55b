/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 05_custom_updater.c - an optimizer of one's own on the shards: Lion.
 *
 * Lion (Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms",
 * program 1) steps along the signs of an average of gradients. The table below
 * is all of it: the library reads the text, follows the schedule that the text
 * asks for, and saves the average into checkpoints.
 *
 * Shards compute, so they must know the updater too. Here every worker hosts a
 * shard; a stand-alone server would be a program that registers the updater
 * before gp_server_create().
 *
 *     gradpush run -w 2 -s 0 -- ./05_custom_updater
 */
#include <gradpush/gradpush.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { LR, BETA1, BETA2, WEIGHT_DECAY };

static const gp_updater_param lion_params[] = {
    {"lr", 1e-4, 0, 1e3, 0, "length of a step, in each coordinate"},
    {"beta1", 0.9, 0, 1, 0, "of the average that gives the signs"},
    {"beta2", 0.99, 0, 1, 0, "of the average that is kept"},
    {"weight_decay", 0, 0, 1e3, 0, "pull towards zero, times lr"},
    {NULL, 0, 0, 0, 0, NULL},
};
static const char *const lion_arrays[] = {"exp_avg", NULL};

static const char *
lion_check(const double *values)
{
    return values[BETA1] > values[BETA2] ? "lion wants beta1 <= beta2" : NULL;
}

/* On the shard's thread, for one chunk: no lock, no allocation, no log. */
static void
lion_apply(void *instance, const gp_updater_step *step, const float *gradient,
           float *parameters, float *const *arrays, size_t count)
{
    const double *v = step->values;
    float beta1 = (float)v[BETA1], beta2 = (float)v[BETA2];
    float lr = (float)step->lr;
    float keep = (float)(1 - step->lr * v[WEIGHT_DECAY]);
    float *average = arrays[0];

    (void)instance;
    for (size_t i = 0; i < count; i++) {
        float ahead = beta1 * average[i] + (1 - beta1) * gradient[i];
        float sign = (float)((ahead > 0) - (ahead < 0));

        parameters[i] = parameters[i] * keep - lr * sign;
        average[i] = beta2 * average[i] + (1 - beta2) * gradient[i];
    }
}

static const gp_updater_ops lion = {
    .abi = GP_UPDATER_ABI,
    .name = "lion",
    .text = "signs of averaged gradients (Chen et al. 2023)",
    .params = lion_params,
    .arrays = lion_arrays,
    .check = lion_check,
    .apply = lion_apply,
};

enum { COUNT = 10000, STEPS = 300 };

static int
fail(const char *what)
{
    fprintf(stderr, "05_custom_updater: %s: %s\n", what, gp_last_error());
    return EXIT_FAILURE;
}

/* What is to be found; each worker sees it with an error of its own, and the
 * errors of all cancel out. */
static float
target(int i, const gp_worker *worker)
{
    uint32_t rank = gp_worker_rank(worker), size = gp_worker_size(worker);
    float skew = (float)rank - (float)(size - 1) / 2;

    return sinf((float)i) + skew;
}

static gp_status
end(gp_status status, gp_request **request)
{
    return status == GP_OK ? gp_wait(request, -1) : status;
}

/* Each step pushes the gradient of (w - target)^2 / 2 and pulls w. */
static int
fit(gp_worker *worker)
{
    static float weights[COUNT], grad[COUNT];
    gp_tensor_options options = GP_TENSOR_INIT;
    gp_request *request = NULL;
    gp_tensor *tensor;
    float worst = 0;

    options.name = "weights";
    options.count = COUNT;
    options.updater = "lion:lr=0.02,warmup=10,cosine=290";
    if (gp_tensor_register(worker, &options, &tensor) != GP_OK)
        return fail("register");
    if (end(gp_broadcast(tensor, weights, 0, &request), &request) != GP_OK)
        return fail("broadcast");
    for (int s = 0; s < STEPS; s++) {
        for (int i = 0; i < COUNT; i++)
            grad[i] = weights[i] - target(i, worker);
        if (end(gp_push_pull(tensor, grad, weights, &request), &request) !=
            GP_OK)
            return fail("step");
    }
    for (int i = 0; i < COUNT; i++)
        worst = fmaxf(worst, fabsf(weights[i] - sinf((float)i)));
    printf("worker %u: weights within %.4f of what they should be\n",
           gp_worker_rank(worker), (double)worst);
    return worst < 0.02f ? EXIT_SUCCESS : EXIT_FAILURE;
}

int
main(void)
{
    gp_worker *worker;
    int rc;

    if (gp_updater_register(&lion) != GP_OK)
        return fail("register the updater");
    if (gp_worker_create(NULL, &worker) != GP_OK)
        return fail("join the job");
    rc = fit(worker);
    gp_worker_destroy(worker);
    return rc;
}
