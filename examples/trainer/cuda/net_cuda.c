/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net_cuda.c - the network on a CUDA device.
 *
 * Everything is on one stream, so a buffer may be used again as soon as the
 * call that reads it has been made. cuBLAS is column-major: a row-major matrix
 * is given to it as its transpose, with the stride as leading dimension.
 */
#ifdef GP_HAVE_CUDA

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../gpu.h"
#include "blas_cuda.h"
#include "driver_cuda.h"
#include "kernels.h"

#define STAGED_BYTES ((size_t)16 << 20) /* of data on its way */

typedef struct gt_part {
    uint8_t *x; /* rows with a stride, in the precision of factors */
    uint16_t *labels;
    size_t count;
} gt_part;

struct gt_gpu {
    gt_cuda *cuda;
    gt_blas *blas;
    char name[32];
    bool half; /* factors are bf16 */
    size_t features, classes;
    gt_part train, test;
    float *staged;
    uint32_t *order;
    size_t order_count;
    const gt_mlp *mlp;
    float *params, *grads, *velocity;
    uint16_t *short_params; /* with bf16 */
    void *activation[GT_LAYERS_MAX];
    void *delta[2];
    float *partial; /* sums of tiles */
    uint8_t *batch;
    uint16_t *batch_labels;
    double *losses;
    uint32_t *correct;
    gt_cuda_score_sums *sums;
    /* What the passes are about. */
    const uint8_t *x;
    const uint16_t *labels;
    size_t rows, rows_max;
};

/* --- sizes --- */

static size_t
stride_of(size_t columns)
{
    return (columns + GT_STRIDE - 1) / GT_STRIDE * GT_STRIDE;
}

static uint64_t
tiles_of(uint64_t count, uint64_t tile)
{
    return (count + tile - 1) / tile;
}

/* Bytes of a factor. */
static size_t
element(const gt_gpu *g)
{
    return g->half ? sizeof(uint16_t) : sizeof(float);
}

static uint64_t
matrix_grid(size_t rows, size_t stride, bool half)
{
    return tiles_of(rows, GT_TILE_ROWS) *
           tiles_of(stride, GT_TILE_COLUMNS(half));
}

/* --- opening --- */

gp_status
gt_gpu_check(const char *device)
{
    uint32_t index;
    gp_status status = gt_cuda_index(device, 0, &index);

    return status == GP_OK ? gt_blas_check() : status;
}

gp_status
gt_gpu_open(const gt_gpu_options *options, gt_gpu **out)
{
    gt_gpu *g = calloc(1, sizeof(*g));
    uint32_t index = 0;
    gp_status status;

    if (!g)
        return gt_fail(GP_ERR_NO_MEMORY, "out of memory");
    status = gt_cuda_index(options->device, options->local_rank, &index);
    if (status == GP_OK)
        status = gt_cuda_open(index, &g->cuda);
    if (status == GP_OK)
        status = gt_blas_open(g->cuda, options->precision,
                              options->deterministic, &g->blas);
    if (status != GP_OK) {
        gt_gpu_free(g);
        return status;
    }
    g->half = options->precision == GT_BF16;
    snprintf(g->name, sizeof(g->name), "cuda:%u", index);
    *out = g;
    return GP_OK;
}

void
gt_gpu_free(gt_gpu *g)
{
    if (!g)
        return;
    gt_blas_close(g->blas);
    gt_cuda_close(g->cuda);
    free(g);
}

const char *
gt_gpu_name(const gt_gpu *g)
{
    return g->name;
}

const char *
gt_gpu_model(const gt_gpu *g)
{
    return g->cuda->name;
}

int
gt_gpu_blas_version(const gt_gpu *g)
{
    return gt_blas_version(g->blas);
}

/* --- data --- */

static gp_status
spread(gt_gpu *g, size_t rows, void *to)
{
    uint32_t count = (uint32_t)rows, columns = (uint32_t)g->features;
    uint32_t stride = (uint32_t)stride_of(g->features), half = g->half;
    void *args[] = {&g->staged, &to, &count, &columns, &stride, &half};

    return gt_cuda_launch(g->cuda, GT_KERNEL_gt_cuda_spread,
                          tiles_of(rows * g->features, GT_TILE), args);
}

static gp_status
copy_samples(gt_gpu *g, const gt_samples *from, size_t rows_at_once,
             gt_part *out)
{
    size_t row = stride_of(g->features) * element(g);
    gp_status status = GP_OK;

    for (size_t at = 0; at < from->count && status == GP_OK;
         at += rows_at_once) {
        size_t rows =
            from->count - at < rows_at_once ? from->count - at : rows_at_once;

        status = gt_cuda_copy_in(g->cuda, g->staged, from->x + at * g->features,
                                 rows * g->features * sizeof(float));
        if (status == GP_OK)
            status = spread(g, rows, out->x + at * row);
    }
    if (status == GP_OK)
        status = gt_cuda_copy_in(g->cuda, out->labels, from->labels,
                                 from->count * sizeof(uint16_t));
    return status;
}

static gp_status
set_part(gt_gpu *g, const gt_samples *from, size_t rows_at_once, gt_part *out)
{
    size_t bytes = from->count * stride_of(g->features) * element(g);
    gp_status status =
        gt_cuda_alloc(g->cuda, bytes, "the data", (void **)&out->x);

    if (status == GP_OK) /* gaps */
        status = gt_cuda_zero(g->cuda, out->x, bytes);
    if (status == GP_OK)
        status = gt_cuda_alloc(g->cuda, from->count * sizeof(uint16_t),
                               "labels", (void **)&out->labels);
    out->count = from->count;
    return status == GP_OK ? copy_samples(g, from, rows_at_once, out) : status;
}

gp_status
gt_gpu_set_data(gt_gpu *g, const gt_data *data)
{
    size_t row = data->features * sizeof(float);
    size_t rows = STAGED_BYTES / row ? STAGED_BYTES / row : 1;
    gp_status status;

    if (rows > data->train.count && rows > data->test.count)
        rows = data->train.count > data->test.count ? data->train.count
                                                    : data->test.count;
    status = gt_cuda_alloc(g->cuda, rows * row, "data on its way",
                           (void **)&g->staged);
    g->features = data->features;
    g->classes = data->classes;
    if (status == GP_OK)
        status = set_part(g, &data->train, rows, &g->train);
    if (status == GP_OK)
        status = set_part(g, &data->test, rows, &g->test);
    if (status == GP_OK)
        status = gt_cuda_alloc(g->cuda, g->train.count * sizeof(uint32_t),
                               "the order of the data", (void **)&g->order);
    return status;
}

gp_status
gt_gpu_set_order(gt_gpu *g, const uint32_t *order, size_t count)
{
    if (count > g->train.count)
        return gt_fail(GP_ERR_INVALID, "an order of %zu samples, there are %zu",
                       count, g->train.count);
    g->order_count = count;
    return gt_cuda_copy_in(g->cuda, g->order, order, count * sizeof(uint32_t));
}

gp_status
gt_gpu_take_batch(gt_gpu *g, size_t first, size_t rows)
{
    uint32_t count = (uint32_t)rows;
    uint32_t words =
        (uint32_t)(stride_of(g->features) * element(g) / sizeof(uint64_t) / 2);
    uint32_t *order = g->order + first;
    void *args[] = {&g->train.x,      &g->train.labels, &order, &g->batch,
                    &g->batch_labels, &count,           &words};

    if (rows > g->rows_max || first + rows > g->order_count)
        return gt_fail(GP_ERR_INVALID, "a batch of %zu samples from %zu on",
                       rows, first);
    g->x = g->batch;
    g->labels = g->batch_labels;
    g->rows = rows;
    return gt_cuda_launch(g->cuda, GT_KERNEL_gt_cuda_gather,
                          tiles_of((uint64_t)rows * words, GT_TILE / 4), args);
}

void
gt_gpu_take_test(gt_gpu *g, size_t first, size_t rows)
{
    g->x = g->test.x + first * stride_of(g->features) * element(g);
    g->labels = g->test.labels + first;
    g->rows = rows;
}

/* --- the network --- */

/* Zeros: gaps stay what they are. */
static gp_status
take(gt_gpu *g, size_t count, size_t size, const char *what, void *place)
{
    void *block = NULL;
    gp_status status = gt_cuda_alloc(g->cuda, count * size, what, &block);

    if (status == GP_OK)
        status = gt_cuda_zero(g->cuda, block, count * size);
    memcpy(place, &block, sizeof(block));
    return status;
}

static gp_status
take_params(gt_gpu *g, bool velocity)
{
    size_t span = g->mlp->span;
    gp_status status = take(g, span, sizeof(float), "parameters", &g->params);

    if (status == GP_OK)
        status = take(g, span, sizeof(float), "gradients", &g->grads);
    if (status == GP_OK && velocity)
        status = take(g, span, sizeof(float), "momentum", &g->velocity);
    if (status == GP_OK && g->half)
        status = take(g, span, sizeof(uint16_t), "parameters as bf16",
                      &g->short_params);
    return status;
}

static gp_status
take_rows(gt_gpu *g)
{
    size_t rows = g->rows_max, widest = stride_of(g->mlp->widest);
    gp_status status = take(g, rows * stride_of(g->features), element(g),
                            "a batch", &g->batch);

    for (size_t l = 0; l < g->mlp->layers && status == GP_OK; l++)
        status = take(g, rows * stride_of(g->mlp->layer[l].out),
                      l + 1 < g->mlp->layers ? element(g) : sizeof(float),
                      "activations", &g->activation[l]);
    for (size_t i = 0; i < 2 && status == GP_OK; i++)
        status = take(g, rows * widest, element(g), "the backward pass",
                      &g->delta[i]);
    if (status == GP_OK)
        status = take(g, tiles_of(rows, GT_TILE_ROWS) * widest, sizeof(float),
                      "sums", &g->partial);
    if (status == GP_OK)
        status = take(g, rows, sizeof(uint16_t), "labels", &g->batch_labels);
    if (status == GP_OK)
        status = take(g, rows, sizeof(double), "losses", &g->losses);
    if (status == GP_OK)
        status = take(g, rows, sizeof(uint32_t), "scores", &g->correct);
    return status == GP_OK ? take(g, 1, sizeof(*g->sums), "scores", &g->sums)
                           : status;
}

gp_status
gt_gpu_set_network(gt_gpu *g, const gt_mlp *mlp, size_t rows, bool velocity)
{
    gp_status status;

    g->mlp = mlp;
    g->rows_max = rows;
    status = take_params(g, velocity);
    return status == GP_OK ? take_rows(g) : status;
}

gp_status
gt_gpu_refresh(gt_gpu *g)
{
    uint64_t count = g->mlp->span;
    void *args[] = {&g->params, &g->short_params, &count};

    if (!g->half)
        return GP_OK;
    return gt_cuda_launch(g->cuda, GT_KERNEL_gt_cuda_cast,
                          tiles_of(count, GT_TILE), args);
}

gp_status
gt_gpu_upload(gt_gpu *g, const float *params, const float *velocity)
{
    size_t bytes = g->mlp->span * sizeof(float);
    gp_status status = gt_cuda_copy_in(g->cuda, g->params, params, bytes);

    if (status == GP_OK && velocity)
        status = gt_cuda_copy_in(g->cuda, g->velocity, velocity, bytes);
    return status == GP_OK ? gt_gpu_refresh(g) : status;
}

gp_status
gt_gpu_download(gt_gpu *g, float *params, float *velocity)
{
    size_t bytes = g->mlp->span * sizeof(float);
    gp_status status = gt_cuda_copy_out(g->cuda, params, g->params, bytes);

    return status == GP_OK && velocity
               ? gt_cuda_copy_out(g->cuda, velocity, g->velocity, bytes)
               : status;
}

/* A layer's weight and bias lie side by side; the gap behind the bias, up to a
 * multiple of 64 bytes, is theirs too. */
static size_t
layer_at(const gt_gpu *g, size_t l)
{
    return (size_t)(g->mlp->layer[l].weight - g->mlp->params);
}

static size_t
layer_count(const gt_gpu *g, size_t l)
{
    size_t next = l + 1 < g->mlp->layers ? layer_at(g, l + 1) : g->mlp->span;

    return next - layer_at(g, l);
}

float *
gt_gpu_params(const gt_gpu *g)
{
    return g->params;
}

float *
gt_gpu_grads(const gt_gpu *g)
{
    return g->grads;
}

void *
gt_gpu_stream(const gt_gpu *g)
{
    return g->cuda->stream;
}

/* --- passes --- */

static const void *
weight_of(const gt_gpu *g, size_t l)
{
    return g->half ? (const void *)(g->short_params + layer_at(g, l))
                   : g->params + layer_at(g, l);
}

static size_t
bias_at(const gt_gpu *g, size_t l)
{
    return (size_t)(g->mlp->layer[l].bias - g->mlp->params);
}

/* y = x W^T, where `x` is the layer's input. */
static gp_status
multiply_forward(gt_gpu *g, size_t l, const void *x)
{
    const gt_layer *layer = &g->mlp->layer[l];
    gt_product p = {.ta = GP_CUBLAS_T,
                    .tb = GP_CUBLAS_N,
                    .m = layer->out,
                    .n = g->rows,
                    .k = layer->in,
                    .a = weight_of(g, l),
                    .lda = layer->in,
                    .b = x,
                    .ldb = stride_of(layer->in),
                    .c = g->activation[l],
                    .ldc = stride_of(layer->out),
                    .half = g->half && l + 1 < g->mlp->layers};

    return gt_blas_multiply(g->blas, &p);
}

static gp_status
add_bias(gt_gpu *g, size_t l)
{
    uint32_t relu = l + 1 < g->mlp->layers, half = g->half && relu;
    uint32_t rows = (uint32_t)g->rows;
    uint32_t stride = (uint32_t)stride_of(g->mlp->layer[l].out);
    float *bias = g->params + bias_at(g, l);
    void *args[] = {&g->activation[l], &bias, &rows, &stride, &relu, &half};

    return gt_cuda_launch(g->cuda, GT_KERNEL_gt_cuda_bias_relu,
                          matrix_grid(rows, stride, half), args);
}

gp_status
gt_gpu_forward(gt_gpu *g, gt_layer_hook before, void *user)
{
    const void *x = g->x;
    gp_status status = GP_OK;

    for (size_t l = 0; l < g->mlp->layers && status == GP_OK; l++) {
        if (before)
            status = before(user, l);
        if (status == GP_OK)
            status = multiply_forward(g, l, x);
        if (status == GP_OK)
            status = add_bias(g, l);
        x = g->activation[l];
    }
    return status;
}

static gp_status
add_score(gt_gpu *g)
{
    uint32_t rows = (uint32_t)g->rows;
    void *args[] = {&g->losses, &g->correct, &rows, &g->sums};

    return gt_cuda_launch(g->cuda, GT_KERNEL_gt_cuda_score, 1, args);
}

gp_status
gt_gpu_loss(gt_gpu *g, gt_loss loss, bool backward)
{
    size_t last = g->mlp->layers - 1;
    uint32_t rows = (uint32_t)g->rows, classes = (uint32_t)g->classes;
    uint32_t stride = (uint32_t)stride_of(classes), half = g->half;
    uint32_t squares = loss == GT_MEAN_SQUARES;
    float scale = 1.0f / (float)g->rows;
    void *delta = backward ? g->delta[last % 2] : NULL;
    void *args[] = {&g->activation[last],
                    &g->labels,
                    &delta,
                    &g->losses,
                    &g->correct,
                    &rows,
                    &classes,
                    &stride,
                    &squares,
                    &scale,
                    &half};
    bool narrow = classes <= GT_NARROW;
    gp_status status = gt_cuda_launch(
        g->cuda,
        narrow ? GT_KERNEL_gt_cuda_loss_narrow : GT_KERNEL_gt_cuda_loss_wide,
        tiles_of(rows, narrow ? GT_BLOCK : GT_WIDE_ROWS), args);

    return status == GP_OK ? add_score(g) : status;
}

/* ReLU's part of backward, and the bias's gradient. */
static gp_status
mask_and_sum(gt_gpu *g, size_t l, void *delta)
{
    size_t out = g->mlp->layer[l].out;
    uint32_t rows = (uint32_t)g->rows, stride = (uint32_t)stride_of(out);
    uint32_t half = g->half, columns = (uint32_t)out;
    uint32_t tiles = (uint32_t)tiles_of(rows, GT_TILE_ROWS);
    void *activation = l + 1 < g->mlp->layers ? g->activation[l] : NULL;
    float *bias_grad = g->grads + bias_at(g, l);
    void *back[] = {&delta, &activation, &g->partial, &rows, &stride, &half};
    void *sum[] = {&g->partial, &bias_grad, &tiles, &columns, &stride};
    gp_status status = gt_cuda_launch(g->cuda, GT_KERNEL_gt_cuda_relu_back,
                                      matrix_grid(rows, stride, half), back);

    return status == GP_OK ? gt_cuda_launch(g->cuda, GT_KERNEL_gt_cuda_bias_sum,
                                            tiles_of(columns, GT_BLOCK), sum)
                           : status;
}

/* dW = delta^T x. */
static gp_status
multiply_weight(gt_gpu *g, size_t l, const void *x, const void *delta)
{
    const gt_layer *layer = &g->mlp->layer[l];
    gt_product p = {.ta = GP_CUBLAS_N,
                    .tb = GP_CUBLAS_T,
                    .m = layer->in,
                    .n = layer->out,
                    .k = g->rows,
                    .a = x,
                    .lda = stride_of(layer->in),
                    .b = delta,
                    .ldb = stride_of(layer->out),
                    .c = g->grads + layer_at(g, l),
                    .ldc = layer->in};

    return gt_blas_multiply(g->blas, &p);
}

/* The gradient of the layer below: delta W. */
static gp_status
multiply_below(gt_gpu *g, size_t l, const void *delta, void *below)
{
    const gt_layer *layer = &g->mlp->layer[l];
    gt_product p = {.ta = GP_CUBLAS_N,
                    .tb = GP_CUBLAS_N,
                    .m = layer->in,
                    .n = g->rows,
                    .k = layer->out,
                    .a = weight_of(g, l),
                    .lda = layer->in,
                    .b = delta,
                    .ldb = stride_of(layer->out),
                    .c = below,
                    .ldc = stride_of(layer->in),
                    .half = g->half};

    return gt_blas_multiply(g->blas, &p);
}

gp_status
gt_gpu_backward(gt_gpu *g, gt_layer_hook ready, void *user)
{
    gp_status status = GP_OK;

    for (size_t l = g->mlp->layers; l-- > 0 && status == GP_OK;) {
        void *delta = g->delta[l % 2];

        status = mask_and_sum(g, l, delta);
        if (status == GP_OK)
            status =
                multiply_weight(g, l, l ? g->activation[l - 1] : g->x, delta);
        if (status == GP_OK && ready)
            status = ready(user, l);
        if (status == GP_OK && l > 0)
            status = multiply_below(g, l, delta, g->delta[(l + 1) % 2]);
    }
    return status;
}

/* --- steps --- */

gp_status
gt_gpu_update(gt_gpu *g, size_t l, const gt_optim *optim)
{
    static const uint32_t kinds[] = {[GT_SGD] = GT_STEP_SGD,
                                     [GT_MOMENTUM] = GT_STEP_MOMENTUM,
                                     [GT_NESTEROV] = GT_STEP_NESTEROV};
    size_t at = layer_at(g, l);
    uint64_t count = layer_count(g, l);
    float *params = g->params + at, *grads = g->grads + at;
    float *velocity = optim && g->velocity ? g->velocity + at : NULL;
    uint16_t *half = g->half ? g->short_params + at : NULL;
    uint32_t kind = optim ? kinds[optim->kind] : (uint32_t)GT_STEP_TAKE;
    float lr = optim ? optim->lr : 0, mu = optim ? optim->momentum : 0;
    float decay = optim ? optim->weight_decay : 0;
    void *args[] = {&params, &grads, &velocity, &half, &count,
                    &kind,   &lr,    &mu,       &decay};

    return gt_cuda_launch(g->cuda, GT_KERNEL_gt_cuda_update,
                          tiles_of(count, GT_TILE), args);
}

gp_status
gt_gpu_end_step(gt_gpu *g)
{
    return gt_cuda_end_step(g->cuda);
}

gp_status
gt_gpu_take_score(gt_gpu *g, gt_score *out)
{
    gt_cuda_score_sums sums;
    gp_status status = gt_cuda_copy_out(g->cuda, &sums, g->sums, sizeof(sums));

    if (status == GP_OK)
        status = gt_cuda_zero(g->cuda, g->sums, sizeof(sums));
    if (status != GP_OK)
        return status;
    out->loss += sums.loss;
    out->correct += sums.correct;
    return GP_OK;
}

#else
typedef int gt_no_net; /* a translation unit is not empty */
#endif
