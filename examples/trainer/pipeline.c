/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pipeline.c - a network cut into stages of consecutive layers.
 *
 * Nothing leaves before the other side has called for it, so receives are
 * posted as early as their memory is free: inputs have one slot more than there
 * are micro-batches under way, gradients two. Micro-batch m uses slot m modulo
 * the slots. What a stage has sent forward has arrived when the gradient of it
 * comes back, so that memory is free without waiting.
 */
#include "pipeline.h"

#include <stdlib.h>
#include <string.h>

enum { TAG_FORWARD = 3, TAG_BACKWARD = 4, GRADIENT_SLOTS = 2 };

typedef struct lane {
    float *values;         /* owned */
    size_t slots, floats;  /* of a slot */
    gp_request **requests; /* owned, of each slot */
} lane;

struct gt_pipeline {
    uint32_t count; /* of micro-batches */
    uint32_t under_way;
    size_t rows;         /* of the largest micro-batch */
    lane inputs, deltas; /* received */
    lane outputs, below; /* sent; outputs lie in the network's activations */
};

/* --- places --- */

static bool
is_first(const gt_trainer *t)
{
    return t->member + 1 == t->layout.pipeline;
}

static bool
is_last(const gt_trainer *t)
{
    return t->member == 0;
}

static uint32_t
under_way(const gt_trainer *t)
{
    uint32_t to_end = t->member + 1, count = t->micro_batches;

    return to_end < count ? to_end : count;
}

static size_t
largest_rows(const gt_trainer *t)
{
    size_t count = t->micro_batches;

    return (t->options->batch + count - 1) / count;
}

size_t
gt_pipeline_rows(const gt_trainer *t)
{
    return under_way(t) * largest_rows(t);
}

static size_t
first_row(const gt_trainer *t, uint32_t m)
{
    return gt_slice_first(t->options->batch, m, t->pipeline->count);
}

static size_t
rows_of(const gt_trainer *t, uint32_t m)
{
    return first_row(t, m + 1) - first_row(t, m);
}

static float *
slot_of(const lane *l, uint32_t m)
{
    return l->values + m % l->slots * l->floats;
}

/* --- setting up --- */

/* `least`: floats at least, whatever the slots need; 0 slots of memory when
 * `floats` is 0. */
static gp_status
create_lane(size_t slots, size_t floats, size_t least, lane *out)
{
    size_t all = slots * floats > least ? slots * floats : least;
    gp_status status = GP_OK;

    out->slots = slots;
    out->floats = floats;
    out->requests = calloc(slots, sizeof(gp_request *));
    if (!out->requests)
        return gt_fail(GP_ERR_NO_MEMORY, "out of memory");
    if (all)
        status = gt_alloc_floats(all, "a stage's buffers", &out->values);
    return status;
}

static void
free_lane(lane *l)
{
    free(l->values);
    free(l->requests);
}

gp_status
gt_pipeline_create(gt_trainer *t, size_t rows)
{
    const gt_slice *part = &t->part;
    size_t in = part->widths[0], out = part->widths[part->layers];
    gt_pipeline *p;
    gp_status status;

    if (t->layout.pipeline == 1)
        return GP_OK;
    p = t->pipeline = calloc(1, sizeof(*p));
    if (!p)
        return gt_fail(GP_ERR_NO_MEMORY, "out of memory");
    p->count = t->micro_batches;
    p->under_way = under_way(t);
    p->rows = largest_rows(t);
    t->mlp.continues = !is_last(t);
    if (is_first(t))
        in = 0;
    status = create_lane(p->under_way + 1, p->rows * in, rows * in, &p->inputs);
    if (status == GP_OK)
        status = create_lane(GRADIENT_SLOTS, p->rows * in, 0, &p->below);
    if (status == GP_OK)
        status = create_lane(GRADIENT_SLOTS, is_last(t) ? 0 : p->rows * out, 0,
                             &p->deltas);
    if (status == GP_OK)
        status = create_lane(p->under_way, 0, 0, &p->outputs);
    return status;
}

void
gt_pipeline_free(gt_pipeline *p)
{
    if (!p)
        return;
    free_lane(&p->inputs);
    free_lane(&p->below);
    free_lane(&p->deltas);
    free_lane(&p->outputs);
    free(p);
}

/* --- messages --- */

/* Ends what slot m's last user began, if that has not ended. */
static gp_status
end_slot(gt_trainer *t, lane *l, uint32_t m)
{
    double start = gt_now();
    gp_status status = gt_comm_end(&l->requests[m % l->slots]);

    t->waited += gt_now() - start;
    return status;
}

static gp_status
end_lane(gt_trainer *t, lane *l)
{
    gp_status status = GP_OK;

    for (uint32_t i = 0; i < l->slots && status == GP_OK; i++)
        status = end_slot(t, l, i);
    return status;
}

static gp_status
call_for_input(gt_trainer *t, uint32_t m)
{
    lane *l = &t->pipeline->inputs;

    if (is_first(t) || m >= t->pipeline->count)
        return GP_OK;
    return gt_comm_post_recv(t->comm, slot_of(l, m),
                             rows_of(t, m) * t->part.widths[0], t->member + 1,
                             TAG_FORWARD, &l->requests[m % l->slots]);
}

static gp_status
call_for_delta(gt_trainer *t, uint32_t m)
{
    lane *l = &t->pipeline->deltas;

    if (is_last(t) || m >= t->pipeline->count)
        return GP_OK;
    return gt_comm_post_recv(
        t->comm, slot_of(l, m), rows_of(t, m) * t->part.widths[t->part.layers],
        t->member - 1, TAG_BACKWARD, &l->requests[m % l->slots]);
}

/* --- micro-batches --- */

/* Where micro-batch m enters this stage. */
static const float *
input_of(const gt_trainer *t, uint32_t m)
{
    return is_first(t) ? t->x + first_row(t, m) * t->data.features
                       : slot_of(&t->pipeline->inputs, m);
}

/* The loss takes the mean over a micro-batch, the step that over the batch. */
static void
score_outputs(gt_trainer *t, uint32_t m, const float *output, gt_score *score)
{
    size_t rows = rows_of(t, m), classes = t->data.classes;
    float share = (float)rows / (float)t->options->batch;
    float *delta = gt_mlp_output_delta(&t->mlp);

    gt_loss_eval(t->options->loss, output, t->labels + first_row(t, m), rows,
                 classes, delta, score);
    for (size_t i = 0; i < rows * classes; i++)
        delta[i] *= share;
}

static gp_status
run_forward(gt_trainer *t, uint32_t m, gt_layer_hook before, gt_score *score)
{
    gt_pipeline *p = t->pipeline;
    size_t rows = rows_of(t, m);
    const float *output;
    gp_status status = end_slot(t, &p->inputs, m);

    if (status == GP_OK)
        status = end_slot(t, &p->outputs, m);
    if (status != GP_OK)
        return status;
    t->mlp.row = m % p->under_way * p->rows;
    status = gt_mlp_forward(&t->mlp, input_of(t, m), rows,
                            m == 0 ? before : NULL, t, &output);
    if (status != GP_OK)
        return status;
    if (is_last(t)) {
        score_outputs(t, m, output, score);
        return GP_OK;
    }
    return gt_comm_post_send(
        t->comm, output, rows * t->part.widths[t->part.layers], t->member - 1,
        TAG_FORWARD, &p->outputs.requests[m % p->under_way]);
}

/* At the last stage the loss has just put the gradient in its place. */
static gp_status
take_delta(gt_trainer *t, uint32_t m)
{
    lane *l = &t->pipeline->deltas;
    gp_status status = GP_OK;

    if (is_last(t))
        return GP_OK;
    status = end_slot(t, l, m);
    if (status != GP_OK)
        return status;
    memcpy(gt_mlp_output_delta(&t->mlp), slot_of(l, m),
           rows_of(t, m) * t->part.widths[t->part.layers] * sizeof(float));
    return call_for_delta(t, m + GRADIENT_SLOTS);
}

static gp_status
run_backward(gt_trainer *t, uint32_t m, gt_layer_hook ready)
{
    gt_pipeline *p = t->pipeline;
    lane *below = &p->below;
    size_t rows = rows_of(t, m);
    gp_status status = take_delta(t, m);

    if (status == GP_OK)
        status = end_slot(t, below, m);
    if (status != GP_OK)
        return status;
    t->mlp.row = m % p->under_way * p->rows;
    t->mlp.accumulate = m > 0;
    t->mlp.below = is_first(t) ? NULL : slot_of(below, m);
    status = gt_mlp_backward(&t->mlp, input_of(t, m), rows,
                             m + 1 == p->count ? ready : NULL, t);
    if (status == GP_OK && !is_first(t))
        status = gt_comm_post_send(
            t->comm, t->mlp.below, rows * t->part.widths[0], t->member + 1,
            TAG_BACKWARD, &below->requests[m % below->slots]);
    if (status == GP_OK)
        status = call_for_input(t, m + (uint32_t)p->inputs.slots);
    return status;
}

static gp_status
call_for_first(gt_trainer *t)
{
    gt_pipeline *p = t->pipeline;
    gp_status status = GP_OK;

    for (uint32_t m = 0; m < p->inputs.slots && status == GP_OK; m++)
        status = call_for_input(t, m);
    for (uint32_t m = 0; m < GRADIENT_SLOTS && status == GP_OK; m++)
        status = call_for_delta(t, m);
    return status;
}

gp_status
gt_pipeline_step(gt_trainer *t, gt_layer_hook before, gt_layer_hook ready,
                 gt_score *score)
{
    gt_pipeline *p = t->pipeline;
    uint32_t done = 0, ahead = p->under_way - 1;
    gp_status status = call_for_first(t);

    for (uint32_t m = 0; m < p->count && status == GP_OK; m++) {
        status = run_forward(t, m, before, score);
        if (m >= ahead && status == GP_OK)
            status = run_backward(t, done++, ready);
    }
    while (done < p->count && status == GP_OK)
        status = run_backward(t, done++, ready);
    if (status == GP_OK)
        status = end_lane(t, &p->outputs);
    if (status == GP_OK)
        status = end_lane(t, &p->below);
    t->mlp.row = 0;
    return status;
}

gp_status
gt_pipeline_forward(gt_trainer *t, const float *x, size_t rows,
                    const float **output)
{
    const gt_slice *part = &t->part;
    gp_status status = GP_OK;

    if (!is_first(t)) {
        x = t->pipeline->inputs.values;
        status = gt_comm_recv_part(t->comm, t->pipeline->inputs.values,
                                   rows * part->widths[0], t->member + 1,
                                   TAG_FORWARD);
    }
    if (status == GP_OK)
        status = gt_mlp_forward(&t->mlp, x, rows, NULL, NULL, output);
    if (status != GP_OK || is_last(t))
        return status;
    status =
        gt_comm_send_part(t->comm, *output, rows * part->widths[part->layers],
                          t->member - 1, TAG_FORWARD);
    *output = NULL;
    return status;
}
