/* SPDX-License-Identifier: Apache-2.0 */
/*
 * comm.h - the trainer's use of gradpush: one tensor per weight matrix and
 * bias, pushed when ready, waited for when needed.
 *
 * Front layers have the highest priority: the next forward pass needs them
 * first, though backward finishes them last.
 */
#ifndef GT_COMM_H
#define GT_COMM_H

#include "mlp.h"
#include "options.h"

typedef struct gt_comm gt_comm;

/* Joins the job; the rank and size come from the launcher. */
gp_status gt_comm_create(const gt_options *options, gt_comm **out);
void gt_comm_destroy(gt_comm *comm);

/* Parameters and gradients are in a device's memory, in the layout that they
 * have on the host, and what uses them is on a stream. */
typedef struct gt_comm_device {
    const char *name; /* "cuda:1" */
    float *params, *grads;
    void *stream;
    /* The arrays of gt_comm_hand_over(), which are on the host, get what the
     * device has, and the other way round. Both wait. */
    gp_status (*fetch)(void *user), (*store)(void *user);
    void *user;
} gt_comm_device;

/* Before gt_comm_register(): then tensors are there, and nothing below makes
 * the stream's work wait for the host; gt_comm_wait() makes it wait for an
 * answer, and gt_comm_start() returns when it has come, as does what brings
 * newcomers theirs. The name is borrowed. */
void gt_comm_set_device(gt_comm *comm, const gt_comm_device *device);

/* From here on gt_comm_wait() makes the host wait after all: what comes next
 * wants all requests to have ended. Without a device it always does. */
void gt_comm_host_waits(gt_comm *comm, bool waits);

/* After gt_comm_create(): settles how the network is cut over the workers, and
 * if it is, joins those with the other parts of the same copy, and those with
 * the same part of other copies. Gradients then go round the latter. */
gp_status gt_comm_join_grid(gt_comm *comm, gt_layout *layout);

/* Among the parts of one copy, by member. Values are replaced by their sums;
 * `in` may lie in its place in `out`, which has `count` of each. */
gp_status gt_comm_sum_parts(gt_comm *comm, float *values, size_t count);
gp_status gt_comm_gather_parts(gt_comm *comm, const float *in, float *out,
                               size_t count);
gp_status gt_comm_send_part(gt_comm *comm, const float *values, size_t count,
                            uint32_t to, uint32_t tag);
gp_status gt_comm_recv_part(gt_comm *comm, float *values, size_t count,
                            uint32_t from, uint32_t tag);

/* The same without waiting for the end. */
gp_status gt_comm_post_send(gt_comm *comm, const float *values, size_t count,
                            uint32_t to, uint32_t tag, gp_request **request);
gp_status gt_comm_post_recv(gt_comm *comm, float *values, size_t count,
                            uint32_t from, uint32_t tag, gp_request **request);
/* Waits for it; NULL has ended. */
gp_status gt_comm_end(gp_request **request);

/* Whether gradients travel at all: not where there is one copy in parts. */
bool gt_comm_shares(const gt_comm *comm);

uint32_t gt_comm_rank(const gt_comm *comm);
uint32_t gt_comm_size(const gt_comm *comm);
uint32_t gt_comm_shards(const gt_comm *comm);

/* Before gt_comm_register(), with --min-workers, of an array as long as the
 * parameters that only workers have: whoever comes late gets it from another
 * one in gt_comm_begin_step(). Two at most; NULL: none. */
void gt_comm_hand_over(gt_comm *comm, float *values);

/* Registers all tensors of the network and the memory they lie in, which is
 * borrowed until gt_comm_destroy(). `updates` were made before, by a run that
 * this one continues: what its codecs remember is loaded after this, before
 * everything else. */
gp_status gt_comm_register(gt_comm *comm, const gt_options *options,
                           uint64_t updates, gt_mlp *mlp);

/* Gives every rank the parameters of rank 0, or, to one that has come late, the
 * newest. GP_AGAIN: was told to leave (leave.h) before it had a place. */
gp_status gt_comm_start(gt_comm *comm);

/* With --min-workers, when all requests have ended: waits for the others at the
 * beginning of a step, and says this one's place among them. GP_AGAIN: was told
 * to leave (leave.h) meanwhile. Where workers do not step together, it does not
 * wait for more of them when those that are gone have reached the version
 * `goal`; 0: there is none. */
gp_status gt_comm_begin_step(gt_comm *comm, uint64_t goal, uint32_t *index,
                             uint32_t *count);

/* Where workers do not step together: the same, as it is now, without waiting
 * for anybody. Where too few are left to go on, this one is the first. */
gp_status gt_comm_look_around(gt_comm *comm, uint32_t *index, uint32_t *count);

/* Sends a layer's gradients. */
gp_status gt_comm_push(gt_comm *comm, size_t layer);

/* The same for some of a layer's weights, from element `first` on: whether that
 * goes, and sends them; gt_comm_push() sends the rest. */
bool gt_comm_has_parts(const gt_comm *comm);
gp_status gt_comm_push_rows(gt_comm *comm, size_t layer, size_t first,
                            size_t count);

/* As gt_comm_wait() for some of the weights, before it. */
gp_status gt_comm_wait_rows(gt_comm *comm, size_t layer, size_t first,
                            size_t count, bool *arrived);

/* Hands over a layer's params after a step of the worker's own optimizer; new
 * ones replace them when a round ends. */
gp_status gt_comm_local_step(gt_comm *comm, size_t layer);

/* Steps or updates that the parameters which came last have had. */
uint64_t gt_comm_version(const gt_comm *comm);

/* When all requests have ended: waits until all ranks are here, then gives all
 * the same, newest parameters. */
gp_status gt_comm_refresh(gt_comm *comm);

/* Waits for the answer to the last push of a layer, which replaces the layer's
 * grads: the mean gradient with GT_UPDATE_WORKER, the new parameters with
 * GT_UPDATE_SHARD. They cannot go into params directly, which backward still
 * reads when the answer may come. *arrived tells whether there was a push. */
gp_status gt_comm_wait(gt_comm *comm, size_t layer, bool *arrived);

/* Replaces values[i] by its sum over all workers; at most GT_COMM_SUMS. Exact:
 * whole numbers travel as digits. A barrier as well. */
#define GT_COMM_SUMS 8
gp_status gt_comm_sum(gt_comm *comm, uint64_t *values, size_t count);

/* Counters of this worker. */
void gt_comm_stats(const gt_comm *comm, gp_stats *out);
/* The pipeline that a tensor's pushes go through now; codec=auto changes it. */
const char *gt_comm_codec(const gt_comm *comm, size_t tensor);

/* What codecs remember of a tensor: tensor 2 * layer is the weight, 2 * layer +
 * 1 the bias. As gp_tensor_state() and its companions. */
gp_status gt_comm_state(gt_comm *comm, size_t tensor, size_t index,
                        const char **name, uint64_t *count);
gp_status gt_comm_save_state(gt_comm *comm, size_t tensor, const char *name,
                             float *out);
gp_status gt_comm_load_state(gt_comm *comm, size_t tensor, const char *name,
                             const float *values, uint64_t count);

/* Where workers do not step together, and between two steps of this one: the
 * shards apply nothing while it is on, so that the states above belong to the
 * parameters, which are taken, all of their digits, into mlp->params. */
gp_status gt_comm_hold(gt_comm *comm, bool on);
gp_status gt_comm_take_parameters(gt_comm *comm);

/* Whether gradients go round the workers through a codec: what that remembers
 * is made by the first step, or by loading. */
bool gt_comm_round_codes(const gt_comm *comm);

#endif
