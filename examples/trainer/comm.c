/* SPDX-License-Identifier: Apache-2.0 */
/*
 * comm.c - the trainer's use of gradpush.
 *
 * The numbers that are summed over workers (samples, losses, bytes) travel in
 * a tensor of their own, each as digits of base 4096. A sum of up to 4096 such
 * digits is exact in fp32, so totals are exact and do not depend on order.
 */
#include "comm_int.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "leave.h"

#define DIGITS      6 /* of 12 bits: 72 bits */
#define DIGIT_BITS  12
#define WORKERS_MAX 4096
#define LOOK        0.2 /* seconds between two looks for a signal */
#define SEED_MAX    (((uint64_t)1 << 53) - 1) /* of the configuration */

_Static_assert(GT_COMM_SUMS *DIGITS <= GT_SPARE, "sums lie in mlp->spare");

/* One seed for all that is drawn, unless the library was given its own. */
static gp_status
set_seed(const gt_options *o, gp_config *config)
{
    char text[32];

    if (strcmp(gp_config_origin(config, "seed"), "default") != 0)
        return GP_OK;
    snprintf(text, sizeof(text), "%llu",
             (unsigned long long)(o->seed & SEED_MAX));
    return gp_config_set(config, "seed", text);
}

static gp_status
configure(const gt_options *o, gp_config **out)
{
    gp_config *config;
    gp_status status = gp_config_create(&config);

    if (status != GP_OK)
        return status;
    if (strcmp(o->transport, "auto") != 0)
        status = gp_config_set(config, "transport", o->transport);
    if (status == GP_OK && o->min_workers) {
        char least[16];

        snprintf(least, sizeof(least), "%u", o->min_workers);
        status = gp_config_set(config, "min_workers", least);
        if (status == GP_OK)
            status = gp_config_set(config, "elastic", "on");
    }
    if (status == GP_OK)
        status = set_seed(o, config);
    if (status != GP_OK) {
        gp_config_destroy(config);
        return status;
    }
    *out = config;
    return GP_OK;
}

/* The group that gradients go round. */
static gp_status
join_all(gt_comm *comm, const gt_options *options)
{
    gp_group_options o = GP_GROUP_INIT;

    comm->codec = options->codec_given ? options->codec : NULL;
    o.codec = comm->codec;
    return gp_group_create(comm->worker, &o, &comm->group);
}

gp_status
gt_comm_create(const gt_options *options, gt_comm **out)
{
    gt_comm *comm = calloc(1, sizeof(*comm));
    gp_config *config = NULL;
    gp_status status;

    if (!comm)
        return gt_fail(GP_ERR_NO_MEMORY, "out of memory");
    status = configure(options, &config);
    if (status == GP_OK)
        comm->experiment = *gp_config_get(config, "experiment") != '\0';
    if (status == GP_OK)
        comm->timeout = gp_config_seconds(config, "timeout");
    if (status == GP_OK)
        status = gp_worker_create(config, &comm->worker);
    gp_config_destroy(config);
    if (status != GP_OK) {
        free(comm);
        return gt_fail_engine(status, "cannot join the job");
    }
    comm->elastic = options->min_workers > 0;
    comm->waits = options->max_workers > 0;
    if (gp_worker_size(comm->worker) > WORKERS_MAX) {
        gt_comm_destroy(comm);
        return gt_fail(GP_ERR_TOO_LARGE, "more than %d workers", WORKERS_MAX);
    }
    if (options->mode_kind == GT_MODE_ALLREDUCE &&
        !gt_layout_cuts(&options->layout))
        status = join_all(comm, options);
    if (status != GP_OK) {
        gt_comm_destroy(comm);
        return gt_fail_engine(status, "cannot join the other workers");
    }
    *out = comm;
    return GP_OK;
}

void
gt_comm_destroy(gt_comm *comm)
{
    if (!comm)
        return;
    gp_worker_destroy(comm->worker);
    gt_handover_close(comm);
    free(comm);
}

/* Every stride-th of the workers, from `first` on. */
static gp_status
join_some(gt_comm *comm, const char *name, uint32_t first, uint32_t stride,
          uint32_t count, gp_group **out)
{
    uint32_t *ranks = calloc(count, sizeof(*ranks));
    gp_group_options o = GP_GROUP_INIT;
    gp_status status;

    if (!ranks)
        return gt_fail(GP_ERR_NO_MEMORY, "out of memory");
    for (uint32_t i = 0; i < count; i++)
        ranks[i] = first + i * stride;
    o.name = name;
    o.ranks = ranks;
    o.count = count;
    status = gp_group_create(comm->worker, &o, out);
    free(ranks);
    return status == GP_OK
               ? GP_OK
               : gt_fail_engine(status, "cannot join the other workers");
}

gp_status
gt_comm_join_grid(gt_comm *comm, gt_layout *layout)
{
    gp_status status = gt_layout_settle(gt_comm_size(comm), layout);
    uint32_t members = gt_layout_members(layout);
    uint32_t member = gt_comm_rank(comm) % members;

    if (status != GP_OK || members == 1)
        return status;
    status = join_some(comm, "parts", gt_comm_rank(comm) - member, 1, members,
                       &comm->parts);
    if (status == GP_OK && layout->data > 1)
        status = join_some(comm, "copies", member, members, layout->data,
                           &comm->group);
    return status;
}

bool
gt_comm_shares(const gt_comm *comm)
{
    return !comm->parts || comm->group;
}

/* A status of what parts of the network do together. */
static gp_status
met(gp_status status)
{
    return status == GP_OK
               ? GP_OK
               : gt_fail_engine(status, "parts of the network do not meet");
}

static gp_status
finish(gp_status status, gp_request *request)
{
    return met(status == GP_OK ? gp_wait(&request, -1) : status);
}

gp_status
gt_comm_sum_parts(gt_comm *comm, float *values, size_t count)
{
    gp_request *request = NULL;
    gp_status status = gp_allreduce(comm->parts, values, values, count, GP_FP32,
                                    GP_SUM, &request);

    return finish(status, request);
}

gp_status
gt_comm_gather_parts(gt_comm *comm, const float *in, float *out, size_t count)
{
    gp_request *request = NULL;
    gp_status status =
        gp_allgather(comm->parts, in, out, count * sizeof(float), &request);

    return finish(status, request);
}

gp_status
gt_comm_post_send(gt_comm *comm, const float *values, size_t count, uint32_t to,
                  uint32_t tag, gp_request **request)
{
    return met(
        gp_send(comm->parts, values, count * sizeof(float), to, tag, request));
}

gp_status
gt_comm_post_recv(gt_comm *comm, float *values, size_t count, uint32_t from,
                  uint32_t tag, gp_request **request)
{
    return met(gp_recv(comm->parts, values, count * sizeof(float), from, tag,
                       request));
}

gp_status
gt_comm_end(gp_request **request)
{
    return *request ? met(gp_wait(request, -1)) : GP_OK;
}

gp_status
gt_comm_send_part(gt_comm *comm, const float *values, size_t count, uint32_t to,
                  uint32_t tag)
{
    gp_request *request = NULL;
    gp_status status =
        gt_comm_post_send(comm, values, count, to, tag, &request);

    return status == GP_OK ? gt_comm_end(&request) : status;
}

gp_status
gt_comm_recv_part(gt_comm *comm, float *values, size_t count, uint32_t from,
                  uint32_t tag)
{
    gp_request *request = NULL;
    gp_status status =
        gt_comm_post_recv(comm, values, count, from, tag, &request);

    return status == GP_OK ? gt_comm_end(&request) : status;
}

uint32_t
gt_comm_rank(const gt_comm *comm)
{
    return gp_worker_rank(comm->worker);
}

uint32_t
gt_comm_size(const gt_comm *comm)
{
    return gp_worker_size(comm->worker);
}

uint32_t
gt_comm_shards(const gt_comm *comm)
{
    return gp_worker_shards(comm->worker);
}

static gp_status
register_tensor(gt_comm *comm, const gt_options *o, uint64_t updates,
                size_t index)
{
    const gt_layer *layer = &comm->mlp->layer[index / 2];
    gp_tensor_options t = GP_TENSOR_INIT;
    char name[64], updater[512];

    snprintf(name, sizeof(name), "layer%zu.%s", index / 2,
             index % 2 ? "bias" : "weight");
    (void)gt_options_updater(o, updater, sizeof(updater)); /* was checked */
    t.name = name;
    t.count = index % 2 ? layer->out : layer->in * layer->out;
    t.columns = index % 2 ? 0 : layer->in;
    t.priority = (int32_t)(comm->mlp->layers - index / 2);
    t.codec = o->codec_given && !comm->group ? o->codec : NULL;
    t.pull_codec = o->pull_codec_given ? o->pull_codec : NULL;
    t.updater = updater;
    t.first_step = updates;
    t.device = comm->device.name;
    t.mode = o->mode_kind == GT_MODE_ALLREDUCE ? "sync" : o->mode;
    return gp_tensor_register(comm->worker, &t, &comm->tensors[index]);
}

static gp_status
register_sums(gt_comm *comm)
{
    gp_tensor_options t = GP_TENSOR_INIT;

    t.name = "trainer.sums";
    t.count = GT_COMM_SUMS * DIGITS;
    t.codec = "none";
    t.pull_codec = "none";
    t.updater = "sum";
    t.mode = "sync";
    return gp_tensor_register(comm->worker, &t, &comm->sums);
}

void
gt_comm_set_device(gt_comm *comm, const gt_comm_device *device)
{
    comm->device = *device;
}

void
gt_comm_host_waits(gt_comm *comm, bool waits)
{
    comm->host_waits = waits;
}

size_t
gt_comm_offset(const gt_comm *comm, size_t index)
{
    const gt_layer *layer = &comm->mlp->layer[index / 2];

    return (size_t)((index % 2 ? layer->bias : layer->weight) -
                    comm->mlp->params);
}

static float *
param_of(const gt_comm *comm, size_t index)
{
    return (comm->device.name ? comm->device.params : comm->mlp->params) +
           gt_comm_offset(comm, index);
}

static float *
grad_of(const gt_comm *comm, size_t index)
{
    return (comm->device.name ? comm->device.grads : comm->mlp->grads) +
           gt_comm_offset(comm, index);
}

static gp_status
pull(gt_comm *comm, size_t i, gp_request **request)
{
    /* Of a gradient the step is of use. */
    float *to = comm->keeps ? param_of(comm, i) : grad_of(comm, i);

    if (comm->device.name)
        return gp_pull_on(comm->tensors[i], to, comm->device.stream, request);
    return gp_pull(comm->tensors[i], to, request);
}

static gp_status
pull_all(gt_comm *comm)
{
    size_t sent = 0;
    gp_status status = GP_OK, waited;

    while (sent < 2 * comm->mlp->layers && status == GP_OK) {
        status = pull(comm, sent, &comm->requests[sent]);
        sent += status == GP_OK;
    }
    waited = gp_wait_all(comm->requests, sent, -1);
    return status == GP_OK ? waited : status;
}

static gp_status
broadcast(gt_comm *comm, size_t i, uint32_t root, gp_request **request)
{
    if (comm->device.name)
        return gp_broadcast_on(comm->tensors[i], param_of(comm, i), root,
                               comm->device.stream, request);
    return gp_broadcast(comm->tensors[i], param_of(comm, i), root, request);
}

static gp_status
broadcast_all(gt_comm *comm, uint32_t root)
{
    gp_request *requests[TENSORS_MAX];
    size_t tensors = 2 * comm->mlp->layers, sent = 0;
    gp_status status = GP_OK, waited;

    while (sent < tensors && status == GP_OK) {
        status = broadcast(comm, sent, root, &requests[sent]);
        sent += status == GP_OK;
    }
    waited = gp_wait_all(requests, sent, -1);
    return status == GP_OK ? waited : status;
}

gp_status
gt_comm_register(gt_comm *comm, const gt_options *options, uint64_t updates,
                 gt_mlp *mlp)
{
    gp_buffer *buffer; /* ends with the worker */
    gp_status status = gp_buffer_register(comm->worker, mlp->memory,
                                          mlp->floats * sizeof(float), &buffer);

    comm->mlp = mlp;
    for (size_t i = 0; !comm->parts && i < 2 * mlp->layers && status == GP_OK;
         i++)
        status = register_tensor(comm, options, updates, i);
    if (status == GP_OK && comm->group)
        status = gp_group_skip(comm->group, updates);
    comm->keeps = options->update == GT_UPDATE_SHARD ||
                  options->mode_kind == GT_MODE_LOCAL;
    if (status == GP_OK)
        status = gt_handover_open(comm, mlp);
    /* Its steps would be such as all workers must take together. */
    if (status == GP_OK && !comm->elastic)
        status = register_sums(comm);
    return status == GP_OK ? GP_OK
                           : gt_fail_engine(status, "cannot start the job");
}

/* Whether those that are gone have left since the work is done, so that nobody
 * will come any more. */
static bool
is_done(gt_comm *comm, uint64_t goal)
{
    return goal > 0 && gt_comm_refresh(comm) == GP_OK &&
           gt_comm_version(comm) >= goal;
}

/* GP_AGAIN: was told to go meanwhile. */
static gp_status
await_members(gt_comm *comm, bool for_ever, uint64_t goal)
{
    double end = gt_now() + comm->timeout, left;
    gp_status status;

    do {
        if (gt_leave_asked())
            return GP_AGAIN;
        left = for_ever ? LOOK : fmax(end - gt_now(), 0);
        status = gp_worker_members_within(comm->worker, fmin(left, LOOK),
                                          &comm->members);
    } while (status == GP_ERR_TIMEOUT && left > 0 && !is_done(comm, goal));
    return status == GP_ERR_TIMEOUT && left > 0 ? GP_OK : status;
}

static gp_status
come_late(gt_comm *comm)
{
    gp_status status = pull_all(comm);

    return status == GP_OK ? gt_handover_catch_up(comm) : status;
}

gp_status
gt_comm_start(gt_comm *comm)
{
    /* Parts were cut from the same parameters, by seed or from a file. */
    gp_status status = GP_OK;

    if (comm->elastic) {
        status = await_members(comm, comm->waits, 0);
        comm->begun = true;
        comm->handover.has = !comm->members.late;
    }
    if (status == GP_AGAIN)
        return status;
    if (status == GP_OK && comm->elastic && comm->members.late)
        status = come_late(comm);
    else if (status == GP_OK && !comm->parts)
        status =
            broadcast_all(comm, comm->elastic ? comm->members.ranks[0] : 0);
    return status == GP_OK ? GP_OK
                           : gt_fail_engine(status, "cannot start the job");
}

gp_status
gt_comm_look_around(gt_comm *comm, uint32_t *index, uint32_t *count)
{
    gp_status status =
        gp_worker_members_within(comm->worker, LOOK, &comm->members);

    comm->begun = false;
    if (status != GP_OK && status != GP_ERR_TIMEOUT)
        return gt_fail_engine(status, "cannot see who is there");
    *index = status == GP_OK ? comm->members.index : 0;
    *count = status == GP_OK ? comm->members.count : 1;
    return GP_OK;
}

gp_status
gt_comm_begin_step(gt_comm *comm, uint64_t goal, uint32_t *index,
                   uint32_t *count)
{
    bool first = comm->begun && !comm->members.late;
    gp_status status = GP_OK;

    if (!comm->begun)
        status = await_members(comm, false, goal);
    comm->begun = false;
    if (status == GP_AGAIN)
        return status;
    if (status == GP_OK && comm->members.changed && !first)
        status = gt_handover_run(comm);
    if (status != GP_OK)
        return gt_fail_engine(status, "a step cannot begin");
    *index = comm->members.index;
    *count = comm->members.count;
    return GP_OK;
}

void
gt_comm_hand_over(gt_comm *comm, float *values)
{
    gt_handover *h = &comm->handover;

    if (values && comm->elastic)
        h->array[h->arrays++] = values;
}

static gp_status
push_tensor(gt_comm *comm, size_t i)
{
    const gt_layer *layer = &comm->mlp->layer[i / 2];
    size_t count = i % 2 ? layer->out : layer->in * layer->out;
    float *grad = grad_of(comm, i);

    if (comm->group)
        return gp_allreduce_keyed(comm->group, i, grad, grad, count, GP_FP32,
                                  GP_MEAN, &comm->requests[i]);
    if (comm->device.name)
        return gp_push_pull_on(comm->tensors[i], grad, grad,
                               comm->device.stream, &comm->requests[i]);
    return gp_push_pull(comm->tensors[i], grad, grad, &comm->requests[i]);
}

bool
gt_comm_has_parts(const gt_comm *comm)
{
    return !comm->group && !comm->experiment;
}

gp_status
gt_comm_push_rows(gt_comm *comm, size_t layer, size_t first, size_t count)
{
    size_t i = 2 * layer;
    float *grad = grad_of(comm, i);
    gp_status status = GP_OK;

    if (!comm->parted[i])
        status = gp_push_pull_parts(comm->tensors[i], grad, grad,
                                    &comm->requests[i]);
    comm->parted[i] = status == GP_OK;
    if (status == GP_OK)
        status = gp_part_ready(comm->requests[i], first, count);
    return status == GP_OK ? GP_OK : gt_fail_engine(status, "cannot push");
}

gp_status
gt_comm_wait_rows(gt_comm *comm, size_t layer, size_t first, size_t count,
                  bool *arrived)
{
    gp_request *request = comm->requests[2 * layer];
    gp_status status;

    *arrived = false;
    if (!request)
        return GP_OK;
    status = gp_part_wait(request, first, count, -1);
    *arrived = status == GP_OK;
    return *arrived ? GP_OK : gt_fail_engine(status, "a step failed");
}

gp_status
gt_comm_push(gt_comm *comm, size_t layer)
{
    for (size_t i = 2 * layer; i < 2 * layer + 2; i++) {
        gp_status status = comm->parted[i] ? GP_OK : push_tensor(comm, i);

        comm->parted[i] = false;

        if (status != GP_OK)
            return gt_fail_engine(status, "cannot push");
    }
    return GP_OK;
}

gp_status
gt_comm_local_step(gt_comm *comm, size_t layer)
{
    for (size_t i = 2 * layer; i < 2 * layer + 2; i++) {
        gp_status status = gp_local_step(comm->tensors[i], param_of(comm, i), 1,
                                         &comm->requests[i]);

        if (status != GP_OK)
            return gt_fail_engine(status, "cannot end a round");
    }
    return GP_OK;
}

uint64_t
gt_comm_version(const gt_comm *comm)
{
    return gp_tensor_version(comm->tensors[0]);
}

/* Nobody pushes between the barrier and the next sum, so all get the same.
 * Workers that come and go are not in the same epoch, and do not add up. */
gp_status
gt_comm_refresh(gt_comm *comm)
{
    gp_status status = gp_worker_rest(comm->worker);

    if (status == GP_OK && !comm->elastic)
        status = gp_barrier(comm->worker);
    if (status == GP_OK)
        status = pull_all(comm);
    return status == GP_OK ? GP_OK
                           : gt_fail_engine(status, "an epoch cannot end");
}

/* The stream waits; where the driver has no way to, the host does. */
static gp_status
wait_on_stream(gt_comm *comm, gp_request **requests)
{
    gp_status status = GP_OK;

    if (comm->host_waits)
        return gp_wait_all(requests, 2, -1);
    for (size_t i = 0; i < 2 && status == GP_OK; i++) {
        status = gp_wait_stream(&requests[i], comm->device.stream);
        if (status == GP_ERR_UNSUPPORTED)
            status = gp_wait(&requests[i], -1);
    }
    return status;
}

gp_status
gt_comm_wait(gt_comm *comm, size_t layer, bool *arrived)
{
    gp_request **requests = &comm->requests[2 * layer];
    gp_status status;

    *arrived = false;
    if (!requests[0])
        return GP_OK;
    status = comm->device.name ? wait_on_stream(comm, requests)
                               : gp_wait_all(requests, 2, -1);
    if (status != GP_OK)
        return gt_fail_engine(status, "a step failed");
    *arrived = true;
    return GP_OK;
}

static void
to_digits(uint64_t value, float *digits)
{
    for (size_t i = 0; i < DIGITS; i++) {
        digits[i] = (float)(value & ((1u << DIGIT_BITS) - 1));
        value >>= DIGIT_BITS;
    }
}

static uint64_t
from_digits(const float *digits)
{
    uint64_t value = 0;

    for (size_t i = DIGITS; i-- > 0;)
        value = (value << DIGIT_BITS) + (uint64_t)digits[i];
    return value;
}

gp_status
gt_comm_sum(gt_comm *comm, uint64_t *values, size_t count)
{
    float *digits = comm->mlp->spare;
    gp_request *request;
    gp_status status;

    memset(digits, 0, GT_COMM_SUMS * DIGITS * sizeof(float));
    for (size_t i = 0; i < count; i++)
        to_digits(values[i], digits + i * DIGITS);
    status = gp_push_pull(comm->sums, digits, digits, &request);
    if (status == GP_OK)
        status = gp_wait(&request, -1);
    if (status != GP_OK)
        return gt_fail_engine(status, "cannot add up over workers");
    for (size_t i = 0; i < count; i++)
        values[i] = from_digits(digits + i * DIGITS);
    return GP_OK;
}

void
gt_comm_stats(const gt_comm *comm, gp_stats *out)
{
    gp_worker_stats(comm->worker, out);
}

const char *
gt_comm_codec(const gt_comm *comm, size_t tensor)
{
    if (comm->codec)
        return comm->codec;
    return comm->parts ? "none" : gp_tensor_codec(comm->tensors[tensor]);
}
