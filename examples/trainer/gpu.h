/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu.h - the network on a CUDA device: parameters, data and passes stay there.
 *
 * Calls queue their work on one stream and return; those that say so wait for
 * it. The order of calls is the order of the work, so that a batch may be asked
 * for while the one before is computed. Matrix products are cuBLAS's, which is
 * loaded when it is first needed, the rest are kernels of cuda/kernels.cu. In a
 * build without CUDA nothing can be opened, and no other call is made.
 *
 * Parameters, gradients and momentum have the layout of the network on the
 * host, offset for offset, so that they are copied and sent as they are.
 */
#ifndef GT_GPU_H
#define GT_GPU_H

#include "data.h"
#include "loss.h"
#include "mlp.h"
#include "optim.h"

typedef enum gt_precision {
    GT_FP32,
    GT_TF32, /* of products' factors; sums are fp32 */
    GT_BF16  /* of activations and of factors; parameters are fp32 too */
} gt_precision;

typedef struct gt_gpu_options {
    const char *device;  /* "cuda": by local rank; "cuda:N" */
    uint32_t local_rank; /* among the workers of this machine */
    gt_precision precision;
    bool deterministic; /* the same bits in every run on one kind of device */
} gt_gpu_options;

typedef struct gt_gpu gt_gpu;

/* Whether there is such a device and cuBLAS, without taking hold of it. */
gp_status gt_gpu_check(const char *device);

gp_status gt_gpu_open(const gt_gpu_options *options, gt_gpu **out);
/* Waits for its work. NULL is fine. */
void gt_gpu_free(gt_gpu *gpu);

/* "cuda:1", "NVIDIA H100 ..."; cuBLAS's version as 120301; valid as long as the
 * device is open. */
const char *gt_gpu_name(const gt_gpu *gpu);
const char *gt_gpu_model(const gt_gpu *gpu);
int gt_gpu_blas_version(const gt_gpu *gpu);

/* Copies both parts of the data. Waits. */
gp_status gt_gpu_set_data(gt_gpu *gpu, const gt_data *data);

/* Makes room for a network like `mlp`, which is borrowed, for passes over at
 * most `rows`, and for momentum: all of it zeros. */
gp_status gt_gpu_set_network(gt_gpu *gpu, const gt_mlp *mlp, size_t rows,
                             bool velocity);

/* Parameters, and momentum unless `velocity` is NULL, from the host's layout
 * and back. Both wait. */
gp_status gt_gpu_upload(gt_gpu *gpu, const float *params,
                        const float *velocity);
gp_status gt_gpu_download(gt_gpu *gpu, float *params, float *velocity);

/* What the parameters' 16-bit copies are made from has changed. */
gp_status gt_gpu_refresh(gt_gpu *gpu);

/* Where parameters and gradients are, for gp_push_pull_on(). */
float *gt_gpu_params(const gt_gpu *gpu);
float *gt_gpu_grads(const gt_gpu *gpu);
void *gt_gpu_stream(const gt_gpu *gpu);

/* The order of training samples that batches are taken from. Waits. */
gp_status gt_gpu_set_order(gt_gpu *gpu, const uint32_t *order, size_t count);

/* What the next passes are about: training samples from a place in the order
 * on, or consecutive test samples. */
gp_status gt_gpu_take_batch(gt_gpu *gpu, size_t first, size_t rows);
void gt_gpu_take_test(gt_gpu *gpu, size_t first, size_t rows);

/* As gt_mlp_forward() and gt_mlp_backward(), with the same hooks, which may
 * queue work of their own. The loss adds to the scores on the device, and with
 * `backward` leaves the gradient at the output. */
gp_status gt_gpu_forward(gt_gpu *gpu, gt_layer_hook before, void *user);
gp_status gt_gpu_loss(gt_gpu *gpu, gt_loss loss, bool backward);
gp_status gt_gpu_backward(gt_gpu *gpu, gt_layer_hook ready, void *user);

/* A layer's step with its gradients; with NULL those are the new parameters. */
gp_status gt_gpu_update(gt_gpu *gpu, size_t layer, const gt_optim *optim);

/* The end of a step. Waits until the step before the last one is over, so that
 * no more than two are ever queued. */
gp_status gt_gpu_end_step(gt_gpu *gpu);

/* Adds up and forgets the scores since the last call. Waits. */
gp_status gt_gpu_take_score(gt_gpu *gpu, gt_score *out);

#endif
