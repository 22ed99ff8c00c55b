/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 02_server_optimizer.c - the shards hold the parameters and the optimizer.
 *
 * Workers push gradients and pull parameters; momentum lives on the shards, so
 * no worker stores it. The model is a line in 16 dimensions, fitted by least
 * squares; every worker has its own samples.
 *
 *     gradpush run -w 2 -s 2 -- ./02_server_optimizer
 */
#include <gradpush/gradpush.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { WEIGHTS = 16, SAMPLES = 500, STEPS = 200 };

typedef struct samples {
    float x[SAMPLES][WEIGHTS];
    float y[SAMPLES];
} samples;

static int
fail(const char *what)
{
    fprintf(stderr, "02_server_optimizer: %s: %s\n", what, gp_last_error());
    return EXIT_FAILURE;
}

/* Evenly between -1 and 1. */
static float
uniform(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (float)((double)(*state >> 11) / 4503599627370496.0 - 1);
}

/* The parameters to be found. */
static float
truth(int j)
{
    return (float)(j - 7) / 8;
}

static void
make_samples(samples *s, uint32_t rank)
{
    uint64_t state = 1000u + rank;

    for (int i = 0; i < SAMPLES; i++) {
        s->y[i] = 0.01f * uniform(&state); /* noise */
        for (int j = 0; j < WEIGHTS; j++) {
            s->x[i][j] = uniform(&state);
            s->y[i] += truth(j) * s->x[i][j];
        }
    }
}

/* Mean squared error over this worker's samples, and its gradient. */
static float
compute(const samples *s, const float *weights, float *grad)
{
    double loss = 0;

    for (int j = 0; j < WEIGHTS; j++)
        grad[j] = 0;
    for (int i = 0; i < SAMPLES; i++) {
        float error = -s->y[i];

        for (int j = 0; j < WEIGHTS; j++)
            error += weights[j] * s->x[i][j];
        for (int j = 0; j < WEIGHTS; j++)
            grad[j] += 2 * error * s->x[i][j] / SAMPLES;
        loss += (double)error * error / SAMPLES;
    }
    return (float)loss;
}

static gp_status
add_tensor(gp_worker *worker, const char *name, uint64_t count,
           const char *updater, gp_tensor **out)
{
    gp_tensor_options options = GP_TENSOR_INIT;

    options.name = name;
    options.count = count;
    options.updater = updater;
    return gp_tensor_register(worker, &options, out);
}

/* Everybody, the shards included, begins with the values of rank 0. */
static gp_status
begin(gp_worker *worker, gp_tensor *tensor, float *weights)
{
    uint64_t state = 7;
    gp_request *request;
    gp_status status;

    if (gp_worker_rank(worker) == 0)
        for (int j = 0; j < WEIGHTS; j++)
            weights[j] = uniform(&state);
    status = gp_broadcast(tensor, weights, 0, &request);
    return status == GP_OK ? gp_wait(&request, -1) : status;
}

/* One step; `loss` becomes the mean over the workers. */
static gp_status
step(gp_tensor *tensor, gp_tensor *losses, const samples *s, float *weights,
     float *loss)
{
    float grad[WEIGHTS];
    gp_request *requests[2] = {NULL, NULL};
    gp_status status, waited;

    *loss = compute(s, weights, grad);
    status = gp_push_pull(tensor, grad, weights, &requests[0]);
    if (status == GP_OK)
        status = gp_push_pull(losses, loss, loss, &requests[1]);
    waited = gp_wait_all(requests, 2, -1);
    return status == GP_OK ? waited : status;
}

static int
fit(gp_worker *worker)
{
    static samples s;
    float weights[WEIGHTS] = {0}, loss = 0, distance = 0;
    gp_tensor *tensor, *losses;

    make_samples(&s, gp_worker_rank(worker));
    if (add_tensor(worker, "weights", WEIGHTS, "sgd:lr=0.2,momentum=0.8",
                   &tensor) != GP_OK ||
        add_tensor(worker, "loss", 1, "mean", &losses) != GP_OK)
        return fail("register");
    if (begin(worker, tensor, weights) != GP_OK)
        return fail("broadcast");
    for (int i = 0; i < STEPS; i++) {
        if (step(tensor, losses, &s, weights, &loss) != GP_OK)
            return fail("step");
        if (gp_worker_rank(worker) == 0 && i % 20 == 0)
            printf("step %3d  loss %.6f\n", i, (double)loss);
    }
    for (int j = 0; j < WEIGHTS; j++)
        distance = fmaxf(distance, fabsf(weights[j] - truth(j)));
    printf("worker %u: loss %.6f, parameters within %.4f of the truth\n",
           gp_worker_rank(worker), (double)loss, (double)distance);
    return distance < 0.01f ? EXIT_SUCCESS : EXIT_FAILURE;
}

int
main(void)
{
    gp_worker *worker;
    int rc;

    if (gp_worker_create(NULL, &worker) != GP_OK)
        return fail("join the job");
    rc = fit(worker);
    gp_worker_destroy(worker);
    return rc;
}
