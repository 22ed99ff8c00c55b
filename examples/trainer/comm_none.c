/* SPDX-License-Identifier: Apache-2.0 */
/*
 * comm_none.c - comm.h for a library without a worker engine: training on one
 * worker only.
 */
#include "comm.h"

gp_status
gt_comm_create(const gt_options *options, gt_comm **out)
{
    (void)options;
    (void)out;
    return gt_fail(GP_ERR_UNSUPPORTED,
                   "this library has no worker engine: train with --workers 1 "
                   "--shards 0");
}

void
gt_comm_destroy(gt_comm *comm)
{
    (void)comm;
}

uint32_t
gt_comm_rank(const gt_comm *comm)
{
    (void)comm;
    return 0;
}

uint32_t
gt_comm_size(const gt_comm *comm)
{
    (void)comm;
    return 1;
}

uint32_t
gt_comm_shards(const gt_comm *comm)
{
    (void)comm;
    return 0;
}

gp_status
gt_comm_start(gt_comm *comm, const gt_options *options, gt_mlp *mlp)
{
    (void)comm;
    (void)options;
    (void)mlp;
    return GP_ERR_UNSUPPORTED;
}

gp_status
gt_comm_push(gt_comm *comm, size_t layer)
{
    (void)comm;
    (void)layer;
    return GP_ERR_UNSUPPORTED;
}

gp_status
gt_comm_wait(gt_comm *comm, size_t layer, bool *arrived)
{
    (void)comm;
    (void)layer;
    (void)arrived;
    return GP_ERR_UNSUPPORTED;
}

gp_status
gt_comm_sum(gt_comm *comm, uint64_t *values, size_t count)
{
    (void)comm;
    (void)values;
    (void)count;
    return GP_ERR_UNSUPPORTED;
}

void
gt_comm_stats(const gt_comm *comm, gp_stats *out)
{
    (void)comm;
    *out = (gp_stats){0};
}

gp_status
gt_comm_save_residual(gt_comm *comm, size_t tensor, float *out)
{
    (void)comm;
    (void)tensor;
    (void)out;
    return GP_ERR_UNSUPPORTED;
}

gp_status
gt_comm_load_residual(gt_comm *comm, size_t tensor, const float *values)
{
    (void)comm;
    (void)tensor;
    (void)values;
    return GP_ERR_UNSUPPORTED;
}
