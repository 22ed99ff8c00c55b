/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mlp.h - a multi-layer perceptron: linear layers with ReLU between them.
 *
 *     a[0] = x,  a[l+1] = relu(a[l] W[l]^T + b[l]),  no ReLU after the last
 *
 * Shapes are row-major: W[l] is out x in, as PyTorch keeps it, a[l] is
 * rows x in. All parameters lie in one allocation, gradients in another of the
 * same layout; every tensor starts on 64 bytes and the gaps stay zero.
 */
#ifndef GT_MLP_H
#define GT_MLP_H

#include "common.h"

#define GT_LAYERS_MAX 32
#define GT_WIDTH_MAX  65536
#define GT_SPARE      64

typedef struct gt_layer {
    size_t in, out;
    /* Where a network is cut over workers: only `sum` completes what this
     * layer puts out, or what it hands to the layer below. */
    bool partial, partial_below;
    float *weight, *bias;           /* views of params */
    float *weight_grad, *bias_grad; /* views of grads */
} gt_layer;

/* Replaces values by their sums over the workers that hold the other parts. */
typedef gp_status (*gt_sum_hook)(void *user, float *values, size_t count);

/* Called when `rows` rows of a layer's weight gradient, from `first` on, are
 * complete, or before those rows of its weights are read. */
typedef gp_status (*gt_rows_hook)(void *user, size_t layer, size_t first,
                                  size_t rows);

typedef struct gt_mlp {
    size_t layers, rows_max, widest;
    gt_layer layer[GT_LAYERS_MAX];
    /* All that travels, in one memory that can be registered at once. */
    float *memory; /* owned, `floats` values */
    size_t floats;
    float *params, *grads; /* `span` values each, gaps included */
    float *spare;          /* GT_SPARE values for whoever sends more */
    size_t span, count;    /* count: without the gaps */
    float *activation[GT_LAYERS_MAX]; /* owned, outputs, rows_max x out */
    float *delta[2];                  /* owned, rows_max x widest */
    gt_sum_hook sum;                  /* of partial layers */
    void *sum_user;
    /* Of large layers, within passes that have hooks for layers; may be NULL.
     */
    gt_rows_hook rows_made, rows_wanted;
    void *rows_user;
    /* Of a stage of a pipeline, for the passes to come: */
    size_t row;      /* of activations, where the first sample's are */
    bool accumulate; /* backward adds to the gradients there are */
    bool continues;  /* layers elsewhere follow: ReLU after the last too */
    float *below;    /* where d loss / d x goes, unless NULL */
} gt_mlp;

/* Called before a layer's parameters are read, or after its gradients are
 * complete; an error ends the pass. */
typedef gp_status (*gt_layer_hook)(void *user, size_t layer);

/* widths[0 .. layers] from input to output. */
gp_status gt_mlp_create(const size_t *widths, size_t layers, size_t rows_max,
                        gt_mlp *out);
/* The same with parameters only: neither gradients nor passes. */
gp_status gt_mlp_create_params(const size_t *widths, size_t layers,
                               gt_mlp *out);
void gt_mlp_free(gt_mlp *mlp);

/* He uniform: weights in +-sqrt(6 / in), biases 0. K. He et al., "Delving deep
 * into rectifiers", ICCV 2015. The same on every rank. */
void gt_mlp_init(gt_mlp *mlp, uint64_t seed);

/* The output: rows x classes, valid until the next pass. `before` may be
 * NULL. */
gp_status gt_mlp_forward(gt_mlp *mlp, const float *x, size_t rows,
                         gt_layer_hook before, void *user,
                         const float **output);

/* Where the loss writes d loss / d output, rows x classes. */
float *gt_mlp_output_delta(gt_mlp *mlp);

/* After gt_mlp_forward() of the same x and rows. `ready` is called from the
 * last layer to the first, each time before the work on the layer below, so
 * that sending a gradient overlaps with computing the next; it may be NULL. */
gp_status gt_mlp_backward(gt_mlp *mlp, const float *x, size_t rows,
                          gt_layer_hook ready, void *user);

/* SHA-256 over all tensors in order (layer0.weight, layer0.bias, ...) as
 * little-endian fp32, in lower-case hex. */
gp_status gt_mlp_sha256(const gt_mlp *mlp, char hex[65]);

#endif
