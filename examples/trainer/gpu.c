/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu.c - the network on a CUDA device, for a build without CUDA: there is no
 * device to call anything with.
 */
#ifndef GP_HAVE_CUDA

#include "gpu.h"

static gp_status
no_cuda(void)
{
    return gt_fail(GP_ERR_UNSUPPORTED,
                   "this build has no CUDA: install the CUDA toolkit's headers "
                   "and configure with -DGRADPUSH_CUDA=ON, or compute with "
                   "--device cpu");
}

gp_status
gt_gpu_check(const char *device)
{
    (void)device;
    return no_cuda();
}

gp_status
gt_gpu_open(const gt_gpu_options *options, gt_gpu **out)
{
    (void)options;
    (void)out;
    return no_cuda();
}

void
gt_gpu_free(gt_gpu *gpu)
{
    (void)gpu;
}

const char *
gt_gpu_name(const gt_gpu *gpu)
{
    (void)gpu;
    return "";
}

const char *
gt_gpu_model(const gt_gpu *gpu)
{
    (void)gpu;
    return "";
}

int
gt_gpu_blas_version(const gt_gpu *gpu)
{
    (void)gpu;
    return 0;
}

gp_status
gt_gpu_set_data(gt_gpu *gpu, const gt_data *data)
{
    (void)gpu;
    (void)data;
    return no_cuda();
}

gp_status
gt_gpu_set_network(gt_gpu *gpu, const gt_mlp *mlp, size_t rows, bool velocity)
{
    (void)gpu;
    (void)mlp;
    (void)rows;
    (void)velocity;
    return no_cuda();
}

gp_status
gt_gpu_upload(gt_gpu *gpu, const float *params, const float *velocity)
{
    (void)gpu;
    (void)params;
    (void)velocity;
    return no_cuda();
}

gp_status
gt_gpu_download(gt_gpu *gpu, float *params, float *velocity)
{
    (void)gpu;
    (void)params;
    (void)velocity;
    return no_cuda();
}

gp_status
gt_gpu_refresh(gt_gpu *gpu)
{
    (void)gpu;
    return no_cuda();
}

float *
gt_gpu_params(const gt_gpu *gpu)
{
    (void)gpu;
    return NULL;
}

float *
gt_gpu_grads(const gt_gpu *gpu)
{
    (void)gpu;
    return NULL;
}

void *
gt_gpu_stream(const gt_gpu *gpu)
{
    (void)gpu;
    return NULL;
}

gp_status
gt_gpu_set_order(gt_gpu *gpu, const uint32_t *order, size_t count)
{
    (void)gpu;
    (void)order;
    (void)count;
    return no_cuda();
}

gp_status
gt_gpu_take_batch(gt_gpu *gpu, size_t first, size_t rows)
{
    (void)gpu;
    (void)first;
    (void)rows;
    return no_cuda();
}

void
gt_gpu_take_test(gt_gpu *gpu, size_t first, size_t rows)
{
    (void)gpu;
    (void)first;
    (void)rows;
}

gp_status
gt_gpu_forward(gt_gpu *gpu, gt_layer_hook before, void *user)
{
    (void)gpu;
    (void)before;
    (void)user;
    return no_cuda();
}

gp_status
gt_gpu_loss(gt_gpu *gpu, gt_loss loss, bool backward)
{
    (void)gpu;
    (void)loss;
    (void)backward;
    return no_cuda();
}

gp_status
gt_gpu_backward(gt_gpu *gpu, gt_layer_hook ready, void *user)
{
    (void)gpu;
    (void)ready;
    (void)user;
    return no_cuda();
}

gp_status
gt_gpu_update(gt_gpu *gpu, size_t layer, const gt_optim *optim)
{
    (void)gpu;
    (void)layer;
    (void)optim;
    return no_cuda();
}

gp_status
gt_gpu_end_step(gt_gpu *gpu)
{
    (void)gpu;
    return no_cuda();
}

gp_status
gt_gpu_take_score(gt_gpu *gpu, gt_score *out)
{
    (void)gpu;
    (void)out;
    return no_cuda();
}

#else
typedef int gt_has_gpu; /* a translation unit is not empty */
#endif
