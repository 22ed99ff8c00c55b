/* SPDX-License-Identifier: Apache-2.0 */
/*
 * comm_int.h - what the files behind comm.h share.
 */
#ifndef GT_COMM_INT_H
#define GT_COMM_INT_H

#include "comm.h"

#define TENSORS_MAX (2 * GT_LAYERS_MAX)

/* What newcomers get of another worker (handover.c). */
typedef struct gt_handover {
    gp_tensor *who, *state;
    float *array[2]; /* of `span` elements each, borrowed */
    size_t arrays, span;
    float *present, *taken; /* sums: by rank; of all arrays */
    bool has;               /* the arrays are those of the job */
} gt_handover;

struct gt_comm {
    gp_worker *worker;
    gt_mlp *mlp;
    gt_comm_device device; /* no name: the host */
    bool host_waits;
    gp_tensor *tensors[TENSORS_MAX]; /* weight and bias of each layer */
    gp_request *requests[TENSORS_MAX];
    bool parted[TENSORS_MAX]; /* its request goes on in parts */
    bool experiment;          /* gradients travel twice, as a whole */
    gp_tensor *sums;
    bool elastic;       /* workers come and go */
    bool waits;         /* ... and not all have a place at once */
    double timeout;     /* seconds, of the configuration */
    bool begun;         /* members of the step to come are known */
    gp_members members; /* of this step */
    gp_group *group;    /* that gradients go round, or NULL: to shards */
    const char *codec;  /* of the group, or NULL */
    bool keeps;         /* shards keep the parameters */
    gt_handover handover;
    gp_group *parts; /* of one copy of a network that is cut, or NULL */
};

/* Of parameters and gradients alike. */
size_t gt_comm_offset(const gt_comm *comm, size_t tensor);

/* With the other tensors; before the worker ends; for a newcomer, which then
 * knows the steps; by all members at once, when one of them may have come. */
gp_status gt_handover_open(gt_comm *comm, const gt_mlp *mlp);
void gt_handover_close(gt_comm *comm);
gp_status gt_handover_catch_up(gt_comm *comm);
gp_status gt_handover_run(gt_comm *comm);

#endif
