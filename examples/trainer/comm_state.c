/* SPDX-License-Identifier: Apache-2.0 */
/*
 * comm_state.c - what codecs and shards remember, for checkpoints.
 */
#include <string.h>

#include "comm_int.h"

/* What a codec owes is one worker's, and lost where that may be another one the
 * next time; what shards remember is not. */
static bool
is_own(const char *name)
{
    return strcmp(name, "residual") == 0 || strcmp(name, "velocity") == 0 ||
           strcmp(name, "state") == 0;
}

/* The state of a tensor in the round of workers, whose key is its number. */
static gp_status
find_in_round(gt_comm *comm, size_t tensor, const char *wanted, size_t index,
              const char **name, uint64_t *count, size_t *at)
{
    gp_status status;
    uint64_t key;

    for (*at = 0; (status = gp_group_state(comm->group, *at, &key, name,
                                           count)) == GP_OK;
         ++*at)
        if (key == tensor &&
            (wanted ? strcmp(*name, wanted) == 0 : index-- == 0))
            break;
    return status;
}

bool
gt_comm_round_codes(const gt_comm *comm)
{
    return comm->group && comm->codec;
}

gp_status
gt_comm_state(gt_comm *comm, size_t tensor, size_t index, const char **name,
              uint64_t *count)
{
    gp_status status;

    size_t at;

    if (comm->parts) /* nothing is coded */
        return GP_ERR_NOT_FOUND;
    if (comm->group)
        return find_in_round(comm, tensor, NULL, index, name, count, &at);
    if (!comm->elastic)
        return gp_tensor_state(comm->tensors[tensor], index, name, count);
    for (size_t i = 0; (status = gp_tensor_state(comm->tensors[tensor], i, name,
                                                 count)) == GP_OK;
         i++)
        if (!is_own(*name) && index-- == 0)
            break;
    return status;
}

gp_status
gt_comm_save_state(gt_comm *comm, size_t tensor, const char *name, float *out)
{
    gp_status status;
    uint64_t count;
    size_t at;

    if (comm->group) {
        status = find_in_round(comm, tensor, name, 0, &name, &count, &at);
        if (status == GP_OK)
            status = gp_group_save_state(comm->group, at, out);
    } else {
        status = gp_tensor_save_state(comm->tensors[tensor], name, out);
    }
    return status == GP_OK
               ? GP_OK
               : gt_fail_engine(status, "cannot save a codec's state");
}

gp_status
gt_comm_load_state(gt_comm *comm, size_t tensor, const char *name,
                   const float *values, uint64_t count)
{
    gp_status status =
        comm->group
            ? gp_group_load_state(comm->group, tensor, name, values, count)
            : gp_tensor_load_state(comm->tensors[tensor], name, values);

    return status == GP_OK
               ? GP_OK
               : gt_fail_engine(status, "cannot restore a codec's state");
}

gp_status
gt_comm_hold(gt_comm *comm, bool on)
{
    gp_status status = gp_worker_hold(comm->worker, on);

    return status == GP_OK ? GP_OK
                           : gt_fail_engine(status, "cannot hold the shards");
}

gp_status
gt_comm_take_parameters(gt_comm *comm)
{
    gp_status status = GP_OK;

    for (size_t i = 0; i < 2 * comm->mlp->layers && status == GP_OK; i++)
        status =
            gp_tensor_save_state(comm->tensors[i], "parameters",
                                 comm->mlp->params + gt_comm_offset(comm, i));
    return status == GP_OK ? GP_OK
                           : gt_fail_engine(status, "cannot save parameters");
}
