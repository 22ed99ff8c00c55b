/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_gemm.c - how fast cuBLAS alone does the products of a training step:
 * the ceiling of gradpush-train --device cuda.
 *
 *     bench_gemm [--widths 784,8192,8192,8192,10] [--batch 4096]
 *                [--precision bf16] [-n 50] [-w 10]
 *
 * Shapes, strides, types and order are the trainer's, numbers are small.
 * Prints one line of JSON.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "examples/trainer/cuda/blas_cuda.h"
#include "examples/trainer/cuda/driver_cuda.h"

#define LAYERS 16

typedef struct bench {
    size_t width[LAYERS + 1], layers, batch;
    gt_precision precision;
    const char *precision_name;
    int iterations, warm_up;
    gt_cuda *cuda;
    gt_blas *blas;
    void *weight[LAYERS], *grad[LAYERS], *x[LAYERS + 1], *delta[LAYERS + 1];
} bench;

static void
check(gp_status status)
{
    if (status == GP_OK)
        return;
    fprintf(stderr, "bench_gemm: %s\n", gt_last_error());
    exit(status == GP_ERR_CONFIG ? 2 : 1);
}

static void
usage(const char *what)
{
    fprintf(stderr,
            "bench_gemm: %s\nusage: bench_gemm [--widths 784,8192,10] "
            "[--batch 4096] [--precision fp32|tf32|bf16] [-n 50] [-w 10]\n",
            what);
    exit(2);
}

static void
read_widths(const char *text, bench *b)
{
    char *end;

    for (b->layers = 0;; text = end + 1) {
        unsigned long width = strtoul(text, &end, 10);

        if (end == text || width < 1 || width > 65536 || b->layers > LAYERS)
            usage("--widths takes up to 17 numbers from 1 to 65536");
        b->width[b->layers++] = width;
        if (*end != ',')
            break;
    }
    if (*end || b->layers < 2)
        usage("--widths takes at least two numbers");
    b->layers--;
}

static void
read_precision(const char *text, bench *b)
{
    static const char *const names[] = {"fp32", "tf32", "bf16"};

    for (int i = 0; i < 3; i++)
        if (strcmp(text, names[i]) == 0) {
            b->precision = (gt_precision)i;
            b->precision_name = names[i];
            return;
        }
    usage("--precision takes fp32, tf32 or bf16");
}

static void
read_options(int argc, char **argv, bench *b)
{
    for (int i = 1; i < argc; i += 2) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";

        if (strcmp(argv[i], "--widths") == 0)
            read_widths(value, b);
        else if (strcmp(argv[i], "--precision") == 0)
            read_precision(value, b);
        else if (strcmp(argv[i], "--batch") == 0)
            b->batch = strtoul(value, NULL, 10);
        else if (strcmp(argv[i], "-n") == 0)
            b->iterations = (int)strtol(value, NULL, 10);
        else if (strcmp(argv[i], "-w") == 0)
            b->warm_up = (int)strtol(value, NULL, 10);
        else
            usage("unknown option");
    }
    if (b->batch < 1 || b->batch > 1 << 20 || b->iterations < 1)
        usage("--batch and -n take whole numbers from 1 on");
}

static size_t
stride_of(size_t columns)
{
    return (columns + 7) / 8 * 8;
}

/* Numbers of which all are finite in both types. */
static void
take(bench *b, size_t count, size_t size, void **out)
{
    uint32_t *words = malloc(count * size + 4);

    if (!words)
        usage("out of memory");
    for (size_t i = 0; i < (count * size + 3) / 4; i++)
        words[i] = 0x3c003c00u + (uint32_t)(i * 2654435761u & 0x007f007f);
    check(gt_cuda_alloc(b->cuda, count * size, "a matrix", out));
    check(gt_cuda_copy_in(b->cuda, *out, words, count * size));
    free(words);
}

static void
take_memory(bench *b)
{
    size_t size = b->precision == GT_BF16 ? 2 : 4;

    for (size_t l = 0; l <= b->layers; l++) {
        size_t row = stride_of(b->width[l]);

        take(b, b->batch * row, l < b->layers ? size : 4, &b->x[l]);
        take(b, b->batch * row, size, &b->delta[l]);
        if (l == b->layers)
            break;
        take(b, b->width[l] * b->width[l + 1], size, &b->weight[l]);
        take(b, b->width[l] * b->width[l + 1], 4, &b->grad[l]);
    }
}

/* The products of net_cuda.c. */
static void
run_step(bench *b)
{
    bool half = b->precision == GT_BF16;

    for (size_t l = 0; l < b->layers; l++) {
        size_t in = b->width[l], out = b->width[l + 1];
        gt_product p = {GP_CUBLAS_T,
                        GP_CUBLAS_N,
                        out,
                        b->batch,
                        in,
                        b->weight[l],
                        b->x[l],
                        b->x[l + 1],
                        in,
                        stride_of(in),
                        stride_of(out),
                        half && l + 1 < b->layers};

        check(gt_blas_multiply(b->blas, &p));
    }
    for (size_t l = b->layers; l-- > 0;) {
        size_t in = b->width[l], out = b->width[l + 1];
        gt_product weight = {GP_CUBLAS_N,
                             GP_CUBLAS_T,
                             in,
                             out,
                             b->batch,
                             b->x[l],
                             b->delta[l + 1],
                             b->grad[l],
                             stride_of(in),
                             stride_of(out),
                             in,
                             false};
        gt_product below = {GP_CUBLAS_N,     GP_CUBLAS_N,   in,
                            b->batch,        out,           b->weight[l],
                            b->delta[l + 1], b->delta[l],   in,
                            stride_of(out),  stride_of(in), half};

        check(gt_blas_multiply(b->blas, &weight));
        if (l > 0)
            check(gt_blas_multiply(b->blas, &below));
    }
}

/* Two for each multiplication with an addition. */
static double
operations(const bench *b)
{
    double sum = 0;

    for (size_t l = 0; l < b->layers; l++)
        sum += (l ? 6.0 : 4.0) * (double)b->batch * (double)b->width[l] *
               (double)b->width[l + 1];
    return sum;
}

static double
time_steps(bench *b)
{
    char byte;
    double start;

    for (int i = 0; i < b->warm_up; i++)
        run_step(b);
    check(gt_cuda_copy_out(b->cuda, &byte, b->grad[0], 1)); /* waits */
    start = gt_now();
    for (int i = 0; i < b->iterations; i++)
        run_step(b);
    check(gt_cuda_copy_out(b->cuda, &byte, b->grad[0], 1));
    return (gt_now() - start) / b->iterations;
}

int
main(int argc, char **argv)
{
    bench b = {.width = {784, 8192, 8192, 8192, 10},
               .layers = 4,
               .batch = 4096,
               .precision = GT_BF16,
               .precision_name = "bf16",
               .iterations = 50,
               .warm_up = 10};
    uint32_t index;
    double seconds;

    read_options(argc, argv, &b);
    check(gt_cuda_index("cuda", 0, &index));
    check(gt_cuda_open(index, &b.cuda));
    check(gt_blas_open(b.cuda, b.precision, true, &b.blas));
    take_memory(&b);
    seconds = time_steps(&b);
    printf("{\"what\": \"gemm\", \"device\": \"%s\", \"cublas\": %d, "
           "\"precision\": \"%s\", \"batch\": %zu, \"ms_per_step\": %.4f, "
           "\"samples_per_second\": %.0f, \"TFLOPS\": %.3f}\n",
           b.cuda->name, gt_blas_version(b.blas), b.precision_name, b.batch,
           seconds * 1e3, (double)b.batch / seconds,
           operations(&b) / seconds / 1e12);
    gt_blas_close(b.blas);
    gt_cuda_close(b.cuda);
    return 0;
}
