/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mlp.c - forward and backward passes over CBLAS.
 *
 * Each pass reads a buffer once: bias and ReLU are one loop, and so are the
 * ReLU mask and the bias gradient. The sign of an activation tells where ReLU
 * let it through, so no mask is kept.
 */
#include "mlp.h"

#include <cblas.h>
#include <math.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "random.h"

#define ALIGN_FLOATS 16
/* Large layers are cut into parts of about a chunk of their tensor. */
#define PART_ELEMENTS ((size_t)1 << 17)
#define PART_ROWS     32u

static size_t
padded(size_t count)
{
    return (count + ALIGN_FLOATS - 1) / ALIGN_FLOATS * ALIGN_FLOATS;
}

static void
place_views(gt_mlp *mlp)
{
    size_t at = 0;

    for (size_t l = 0; l < mlp->layers; l++) {
        gt_layer *layer = &mlp->layer[l];
        size_t weights = padded(layer->in * layer->out);

        layer->weight = mlp->params + at;
        layer->bias = mlp->params + at + weights;
        if (mlp->grads) {
            layer->weight_grad = mlp->grads + at;
            layer->bias_grad = mlp->grads + at + weights;
        }
        at += weights + padded(layer->out);
    }
}

static gp_status
allocate(gt_mlp *mlp)
{
    gp_status status;

    mlp->floats = 2 * mlp->span + GT_SPARE;
    status =
        gt_alloc_floats(mlp->floats, "parameters and gradients", &mlp->memory);
    if (status == GP_OK) {
        mlp->params = mlp->memory;
        mlp->grads = mlp->params + mlp->span;
        mlp->spare = mlp->grads + mlp->span;
    }
    for (size_t l = 0; l < mlp->layers && status == GP_OK; l++)
        status = gt_alloc_floats(mlp->rows_max * mlp->layer[l].out,
                                 "activations", &mlp->activation[l]);
    for (size_t i = 0; i < 2 && status == GP_OK; i++)
        status = gt_alloc_floats(mlp->rows_max * mlp->widest,
                                 "backward buffers", &mlp->delta[i]);
    if (status == GP_OK)
        place_views(mlp);
    return status;
}

static gp_status
measure(const size_t *widths, size_t layers, gt_mlp *mlp)
{
    if (layers < 1 || layers > GT_LAYERS_MAX)
        return gt_fail(GP_ERR_INVALID, "%zu layers, 1 to %d are possible",
                       layers, GT_LAYERS_MAX);
    for (size_t l = 0; l < layers; l++) {
        gt_layer *layer = &mlp->layer[l];

        layer->in = widths[l];
        layer->out = widths[l + 1];
        /* BLAS counts in int. */
        if (layer->in > INT32_MAX / 64 || layer->out > GT_WIDTH_MAX ||
            layer->out == 0 || layer->in == 0)
            return gt_fail(GP_ERR_TOO_LARGE,
                           "layer %zu is %zu x %zu, at most %d wide can be "
                           "trained",
                           l, layer->in, layer->out, GT_WIDTH_MAX);
        mlp->span += padded(layer->in * layer->out) + padded(layer->out);
        mlp->count += layer->in * layer->out + layer->out;
        if (layer->out > mlp->widest)
            mlp->widest = layer->out;
    }
    mlp->layers = layers;
    return GP_OK;
}

gp_status
gt_mlp_create_params(const size_t *widths, size_t layers, gt_mlp *out)
{
    gt_mlp mlp = {.layers = 0};
    gp_status status = measure(widths, layers, &mlp);

    if (status == GP_OK)
        status = gt_alloc_floats(mlp.span, "parameters", &mlp.memory);
    if (status != GP_OK)
        return status;
    mlp.floats = mlp.span;
    mlp.params = mlp.memory;
    place_views(&mlp);
    *out = mlp;
    return GP_OK;
}

gp_status
gt_mlp_create(const size_t *widths, size_t layers, size_t rows_max, gt_mlp *out)
{
    gt_mlp mlp = {.rows_max = rows_max};
    gp_status status = measure(widths, layers, &mlp);

    if (status == GP_OK)
        status = allocate(&mlp);
    if (status != GP_OK) {
        gt_mlp_free(&mlp);
        return status;
    }
    *out = mlp;
    return GP_OK;
}

void
gt_mlp_free(gt_mlp *mlp)
{
    free(mlp->memory);
    for (size_t l = 0; l < mlp->layers; l++)
        free(mlp->activation[l]);
    free(mlp->delta[0]);
    free(mlp->delta[1]);
    *mlp = (gt_mlp){0};
}

void
gt_mlp_init(gt_mlp *mlp, uint64_t seed)
{
    for (size_t l = 0; l < mlp->layers; l++) {
        gt_layer *layer = &mlp->layer[l];
        float bound = sqrtf(6.0f / (float)layer->in);

        gt_random_uniform(seed, GT_STREAM_INIT, (uint32_t)l, bound,
                          layer->weight, layer->in * layer->out);
        memset(layer->bias, 0, layer->out * sizeof(float));
    }
}

static void
add_bias(float *restrict y, const float *restrict bias, size_t rows,
         size_t columns, bool relu)
{
    for (size_t r = 0; r < rows; r++, y += columns) {
        if (relu)
            for (size_t c = 0; c < columns; c++) {
                float v = y[c] + bias[c];

                y[c] = v > 0 ? v : 0;
            }
        else
            for (size_t c = 0; c < columns; c++)
                y[c] += bias[c];
    }
}

/* Whether ReLU comes after a layer. */
static bool
has_relu(const gt_mlp *mlp, size_t l)
{
    return l + 1 < mlp->layers || mlp->continues;
}

static float *
outputs_of(const gt_mlp *mlp, size_t l)
{
    return mlp->activation[l] + mlp->row * mlp->layer[l].out;
}

/* Rows of a layer's weights at a time. Layers are cut alike whether anybody
 * looks at the parts or not, so that the results have the same bits. */
static size_t
rows_at_once(const gt_layer *layer)
{
    size_t rows = PART_ELEMENTS / layer->in / PART_ROWS * PART_ROWS;

    return layer->in * layer->out < 4 * PART_ELEMENTS ? layer->out
           : rows < PART_ROWS                         ? PART_ROWS
                                                      : rows;
}

/* y = x W^T, some columns of y after the other. */
static gp_status
multiply(gt_mlp *mlp, size_t l, const float *x, size_t rows, float *y,
         gt_rows_hook before)
{
    const gt_layer *layer = &mlp->layer[l];
    size_t step = rows_at_once(layer);
    int m = (int)rows, n = (int)layer->out, k = (int)layer->in;
    gp_status status = GP_OK;

    for (size_t at = 0; at < layer->out && status == GP_OK; at += step) {
        size_t part = layer->out - at < step ? layer->out - at : step;

        if (before && part < layer->out)
            status = before(mlp->rows_user, l, at, part);
        if (status == GP_OK)
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, (int)part,
                        k, 1.0f, x, k, layer->weight + at * layer->in, k, 0.0f,
                        y + at, n);
    }
    return status;
}

gp_status
gt_mlp_forward(gt_mlp *mlp, const float *x, size_t rows, gt_layer_hook before,
               void *user, const float **output)
{
    for (size_t l = 0; l < mlp->layers; l++) {
        gt_layer *layer = &mlp->layer[l];
        float *y = outputs_of(mlp, l);
        bool parted =
            before && mlp->rows_wanted && rows_at_once(layer) < layer->out;
        gp_status status = before && !parted ? before(user, l) : GP_OK;

        if (status == GP_OK)
            status =
                multiply(mlp, l, x, rows, y, parted ? mlp->rows_wanted : NULL);
        if (status == GP_OK && parted)
            status = before(user, l);
        if (status == GP_OK && layer->partial)
            status = mlp->sum(mlp->sum_user, y, rows * layer->out);
        if (status != GP_OK)
            return status;
        add_bias(y, layer->bias, rows, layer->out, has_relu(mlp, l));
        x = y;
    }
    *output = x;
    return GP_OK;
}

float *
gt_mlp_output_delta(gt_mlp *mlp)
{
    return mlp->delta[(mlp->layers - 1) % 2];
}

/* delta := delta where the activation is positive, else 0 (with an activation),
 * and its column sums are added to the bias gradient. */
static void
mask_and_sum(float *restrict delta, const float *restrict activation,
             size_t rows, size_t columns, float *restrict bias_grad)
{
    for (size_t r = 0; r < rows; r++, delta += columns) {
        if (activation)
            for (size_t c = 0; c < columns; c++)
                delta[c] = activation[c] > 0 ? delta[c] : 0;
        for (size_t c = 0; c < columns; c++)
            bias_grad[c] += delta[c];
        if (activation)
            activation += columns;
    }
}

/* A layer's gradients, from its inputs and that of its outputs. */
static gp_status
find_gradients(gt_mlp *mlp, size_t l, const float *input, size_t rows,
               float *delta, gt_rows_hook made)
{
    gt_layer *layer = &mlp->layer[l];
    int m = (int)rows, n = (int)layer->out, k = (int)layer->in;
    size_t step = rows_at_once(layer);
    gp_status status = GP_OK;

    if (!mlp->accumulate)
        memset(layer->bias_grad, 0, layer->out * sizeof(float));
    mask_and_sum(delta, has_relu(mlp, l) ? outputs_of(mlp, l) : NULL, rows,
                 layer->out, layer->bias_grad);
    for (size_t at = 0; at < layer->out && status == GP_OK; at += step) {
        size_t part = layer->out - at < step ? layer->out - at : step;

        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)part, k, m,
                    1.0f, delta + at, n, input, k,
                    mlp->accumulate ? 1.0f : 0.0f,
                    layer->weight_grad + at * layer->in, k);
        if (made && part < layer->out)
            status = made(mlp->rows_user, l, at, part);
    }
    return status;
}

gp_status
gt_mlp_backward(gt_mlp *mlp, const float *x, size_t rows, gt_layer_hook ready,
                void *user)
{
    for (size_t l = mlp->layers; l-- > 0;) {
        gt_layer *layer = &mlp->layer[l];
        int m = (int)rows, n = (int)layer->out, k = (int)layer->in;
        float *delta = mlp->delta[l % 2];
        float *below = l ? mlp->delta[(l + 1) % 2] : mlp->below;
        gp_status status;

        status = find_gradients(mlp, l, l ? outputs_of(mlp, l - 1) : x, rows,
                                delta, ready ? mlp->rows_made : NULL);
        if (status == GP_OK && ready)
            status = ready(user, l);
        if (status != GP_OK)
            return status;
        if (below)
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, k, n,
                        1.0f, delta, n, layer->weight, k, 0.0f, below, k);
        if (l && layer->partial_below)
            status = mlp->sum(mlp->sum_user, below, rows * layer->in);
        if (status != GP_OK)
            return status;
    }
    return GP_OK;
}

static bool
digest_floats(EVP_MD_CTX *context, const float *values, size_t count)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    return EVP_DigestUpdate(context, values, count * sizeof(float)) == 1;
#else
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;

        memcpy(&bits, &values[i], sizeof(bits));
        bits = __builtin_bswap32(bits);
        if (EVP_DigestUpdate(context, &bits, sizeof(bits)) != 1)
            return false;
    }
    return true;
#endif
}

gp_status
gt_mlp_sha256(const gt_mlp *mlp, char hex[65])
{
    static const char digits[] = "0123456789abcdef";
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    unsigned char digest[EVP_MAX_MD_SIZE];
    bool ok = context && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1;

    for (size_t l = 0; ok && l < mlp->layers; l++) {
        const gt_layer *layer = &mlp->layer[l];

        ok = digest_floats(context, layer->weight, layer->in * layer->out) &&
             digest_floats(context, layer->bias, layer->out);
    }
    ok = ok && EVP_DigestFinal_ex(context, digest, NULL) == 1;
    EVP_MD_CTX_free(context);
    if (!ok)
        return gt_fail(GP_ERR_SYSTEM, "SHA-256 failed in libcrypto");
    for (size_t i = 0; i < 32; i++) {
        hex[2 * i] = digits[digest[i] >> 4];
        hex[2 * i + 1] = digits[digest[i] & 15];
    }
    hex[64] = '\0';
    return GP_OK;
}
