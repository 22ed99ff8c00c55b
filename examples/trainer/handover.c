/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handover.c - what only workers have goes from one of them to newcomers.
 *
 * It travels in sums: one worker pushes its values, all others zeros, so that
 * everybody gets the one's, to the last bit. All members do that at the same
 * steps, when somebody has come. First they say who is there and who has it;
 * the first of the latter gives. If it dies meanwhile, it is missing when they
 * say so again, which is after its values have come, and another one gives.
 */
#include <stdlib.h>
#include <string.h>

#include "comm_int.h"

enum {
    ABSENT = 0,
    NEWCOMER = 1,
    HAS_IT = 2
}; /* what a worker says of itself */

static gp_status
register_sum(gt_comm *comm, const char *name, uint64_t count, gp_tensor **out)
{
    gp_tensor_options t = GP_TENSOR_INIT;

    t.name = name;
    t.count = count;
    t.codec = t.pull_codec = "none";
    t.updater = "sum";
    t.mode = "sync";
    return gp_tensor_register(comm->worker, &t, out);
}

gp_status
gt_handover_open(gt_comm *comm, const gt_mlp *mlp)
{
    gt_handover *h = &comm->handover;
    size_t span = mlp->span;
    gp_status status;

    if (h->arrays == 0)
        return GP_OK;
    h->span = span;
    h->present = calloc(gp_worker_size(comm->worker), sizeof(float));
    h->taken = calloc(h->arrays * span, sizeof(float));
    if (!h->present || !h->taken)
        return gt_fail(GP_ERR_NO_MEMORY, "out of memory for newcomers");
    status = register_sum(comm, "trainer.present", gp_worker_size(comm->worker),
                          &h->who);
    return status == GP_OK
               ? register_sum(comm, "trainer.state", span, &h->state)
               : status;
}

void
gt_handover_close(gt_comm *comm)
{
    free(comm->handover.present);
    free(comm->handover.taken);
}

static gp_status
pull_into(gp_tensor *t, float *values)
{
    gp_request *request;
    gp_status status = gp_pull(t, values, &request);

    return status == GP_OK ? gp_wait(&request, -1) : status;
}

gp_status
gt_handover_catch_up(gt_comm *comm)
{
    gt_handover *h = &comm->handover;
    gp_status status = GP_OK;

    if (h->arrays == 0)
        return GP_OK;
    status = pull_into(h->who, h->present);
    return status == GP_OK ? pull_into(h->state, h->taken) : status;
}

static gp_status
add_up(gp_tensor *t, float *values)
{
    gp_request *request;
    gp_status status = gp_push_pull(t, values, values, &request);

    return status == GP_OK ? gp_wait(&request, -1) : status;
}

static gp_status
say_presence(gt_comm *comm)
{
    gt_handover *h = &comm->handover;

    memset(h->present, 0, gp_worker_size(comm->worker) * sizeof(float));
    h->present[gp_worker_rank(comm->worker)] = h->has ? HAS_IT : NEWCOMER;
    return add_up(h->who, h->present);
}

/* The first that has it; where nobody has, the first there is. */
static uint32_t
find_giver(const gt_comm *comm, bool *wanted)
{
    const gt_handover *h = &comm->handover;
    uint32_t size = gp_worker_size(comm->worker), giver = size, first = size;

    *wanted = false;
    for (uint32_t r = size; r-- > 0;) {
        if (h->present[r] >= HAS_IT)
            giver = r;
        if (h->present[r] > ABSENT)
            first = r;
        *wanted |= h->present[r] > ABSENT && h->present[r] < HAS_IT;
    }
    return giver < size ? giver : first;
}

static gp_status
pass(gt_comm *comm, bool gives)
{
    gt_handover *h = &comm->handover;
    const gt_comm_device *device = &comm->device;
    size_t bytes = h->span * sizeof(float);
    gp_status status =
        gives && device->name ? device->fetch(device->user) : GP_OK;

    for (size_t i = 0; i < h->arrays && status == GP_OK; i++) {
        float *taken = h->taken + i * h->span;

        if (gives)
            memcpy(taken, h->array[i], bytes);
        else
            memset(taken, 0, bytes);
        status = add_up(h->state, taken);
    }
    return status;
}

static gp_status
keep(gt_comm *comm)
{
    gt_handover *h = &comm->handover;
    const gt_comm_device *device = &comm->device;

    if (h->has)
        return GP_OK;
    for (size_t i = 0; i < h->arrays; i++)
        memcpy(h->array[i], h->taken + i * h->span, h->span * sizeof(float));
    h->has = true;
    return device->name ? device->store(device->user) : GP_OK;
}

gp_status
gt_handover_run(gt_comm *comm)
{
    gt_handover *h = &comm->handover;
    uint32_t rank = gp_worker_rank(comm->worker), giver;
    bool wanted;
    gp_status status = h->arrays ? say_presence(comm) : GP_OK;

    while (h->arrays && status == GP_OK) {
        giver = find_giver(comm, &wanted);
        if (!wanted)
            return GP_OK;
        status = pass(comm, giver == rank);
        if (status == GP_OK)
            status = say_presence(comm);
        if (status == GP_OK && h->present[giver] > ABSENT)
            return keep(comm);
    }
    return status;
}
