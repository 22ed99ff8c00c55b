/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 01_push_pull.c - the least a trainer needs: every worker pushes a gradient,
 * all get the mean.
 *
 *     gradpush run -w 2 -s 2 -- ./01_push_pull
 *     ./01_push_pull     (a job of one worker)
 */
#include <gradpush/gradpush.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Stands for a backward pass: worker r's gradient is r + 1 times 0, 1, 2... */
static void
compute(float *grad, size_t n, uint32_t rank)
{
    for (size_t i = 0; i < n; i++)
        grad[i] = (float)((rank + 1) * (i % 1000));
}

/* Elements that are not the mean over `size` workers. */
static size_t
count_wrong(const float *grad, size_t n, uint32_t size)
{
    size_t wrong = 0;

    for (size_t i = 0; i < n; i++) {
        double mean = (size + 1) / 2.0 * (double)(i % 1000);

        wrong += !(fabs(grad[i] - mean) <= 1e-6 * mean);
    }
    return wrong;
}

static int
fail(const char *why)
{
    fprintf(stderr, "01_push_pull: %s\n", why);
    return EXIT_FAILURE;
}

/* As in README.md, but for the two lines after the worker is made;
 * tests/style/check_readme.py compares. */
static int
average(float *grad, size_t n, uint32_t *size)
{
    gp_worker *worker;
    gp_tensor *tensor;
    gp_request *request;
    gp_tensor_options options = GP_TENSOR_INIT;

    if (gp_worker_create(NULL, &worker) != GP_OK)
        return fail(gp_last_error());
    *size = gp_worker_size(worker);
    compute(grad, n, gp_worker_rank(worker));
    options.name = "weights";
    options.count = n;
    options.updater = "mean";
    if (gp_tensor_register(worker, &options, &tensor) != GP_OK ||
        gp_push_pull(tensor, grad, grad, &request) != GP_OK ||
        gp_wait(&request, -1) != GP_OK)
        return fail(gp_last_error());
    gp_worker_destroy(worker); /* grad is now the mean of all ranks */
    return EXIT_SUCCESS;
}

int
main(void)
{
    static float grad[1000000];
    size_t n = sizeof(grad) / sizeof(grad[0]), wrong;
    uint32_t size = 0;
    int rc = average(grad, n, &size);

    if (rc != EXIT_SUCCESS)
        return rc;
    wrong = count_wrong(grad, n, size);
    printf("mean of %u workers: %zu of %zu elements right\n", size, n - wrong,
           n);
    return wrong ? EXIT_FAILURE : EXIT_SUCCESS;
}
