/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cut.c - a trainer whose network is cut over workers.
 *
 * Initial parameters are a function of the seed, and a checkpoint has the whole
 * network, so every worker cuts its part from the whole: nothing depends on
 * the layout but the order in which sums are formed.
 */
#include "cut.h"

#include <stdlib.h>
#include <string.h>

#include "checkpoint.h"

enum { TAG_PARAMS = 1, TAG_VELOCITY = 2 };

size_t
gt_cut_widths(const gt_trainer *t, size_t *widths)
{
    const gt_options *o = t->options;
    size_t layers = o->hidden_count + 1;

    widths[0] = t->data.features;
    memcpy(widths + 1, o->hidden, o->hidden_count * sizeof(size_t));
    widths[layers] = t->data.classes;
    return layers;
}

static bool
has_velocity(const gt_trainer *t)
{
    return t->options->optim.kind != GT_SGD &&
           t->options->update == GT_UPDATE_WORKER;
}

/* --- the part --- */

static gp_status
add_up(void *user, float *values, size_t count)
{
    gt_trainer *t = user;
    double start = gt_now();
    gp_status status = gt_comm_sum_parts(t->comm, values, count);

    t->waited += gt_now() - start;
    return status;
}

static size_t
widest_piece(const gt_trainer *t)
{
    return (t->data.classes + t->layout.tensor - 1) / t->layout.tensor;
}

static gp_status
create_gathering(gt_trainer *t, size_t rows)
{
    size_t all = rows * t->data.classes;
    size_t pieces = rows * widest_piece(t) * t->layout.tensor;
    gp_status status = gt_alloc_floats(all, "outputs", &t->outputs);

    if (status == GP_OK)
        status = gt_alloc_floats(all, "outputs", &t->output_delta);
    if (status == GP_OK)
        status = gt_alloc_floats(pieces, "outputs", &t->pieces);
    return status;
}

/* The whole network, with its initial parameters, and zeros for momentum. */
static gp_status
create_whole(const gt_trainer *t, gt_trainer *whole)
{
    size_t widths[GT_LAYERS_MAX + 1], layers = gt_cut_widths(t, widths);
    gp_status status;

    *whole = (gt_trainer){.options = t->options,
                          .layout = t->layout,
                          .micro_batches = t->micro_batches,
                          .rank = t->rank,
                          .size = t->size,
                          .epoch = t->epoch,
                          .steps = t->steps};
    status = gt_mlp_create_params(widths, layers, &whole->mlp);
    if (status == GP_OK && has_velocity(t))
        status = gt_alloc_floats(whole->mlp.span, "momentum", &whole->velocity);
    if (status != GP_OK)
        gt_cut_free_whole(whole);
    return status;
}

void
gt_cut_free_whole(gt_trainer *whole)
{
    gt_mlp_free(&whole->mlp);
    free(whole->velocity);
    whole->velocity = NULL;
}

static gp_status
init_part(gt_trainer *t)
{
    gt_trainer whole;
    gp_status status = create_whole(t, &whole);

    if (status != GP_OK)
        return status;
    gt_mlp_init(&whole.mlp, t->options->seed);
    gt_slice_cut(&t->part, &whole.mlp, whole.mlp.params, &t->mlp,
                 t->mlp.params);
    gt_cut_free_whole(&whole);
    return GP_OK;
}

static gp_status
create_cut(gt_trainer *t, size_t rows)
{
    gt_slice *part = &t->part;
    gp_status status = gt_mlp_create(part->widths, part->layers, rows, &t->mlp);

    if (status != GP_OK)
        return status;
    for (size_t l = 0; l < part->layers; l++) {
        t->mlp.layer[l].partial = part->partial[l];
        t->mlp.layer[l].partial_below = part->partial_below[l];
    }
    t->mlp.sum = add_up;
    t->mlp.sum_user = t;
    if (part->gathered)
        status = create_gathering(t, rows);
    return status == GP_OK ? init_part(t) : status;
}

gp_status
gt_cut_create(gt_trainer *t, size_t rows)
{
    size_t widths[GT_LAYERS_MAX + 1], layers = gt_cut_widths(t, widths);
    gp_status status = GP_OK;

    if (gt_layout_cuts(&t->layout)) {
        status = gt_slice_of(&t->layout, widths, layers, t->member, &t->part);
        if (status == GP_OK)
            status = create_cut(t, rows);
    } else {
        status = gt_mlp_create(widths, layers, rows, &t->mlp);
        if (status == GP_OK)
            gt_mlp_init(&t->mlp, t->options->seed);
    }
    for (size_t l = 0; l < layers; l++)
        t->parameters += (widths[l] + 1) * widths[l + 1];
    if (status == GP_OK && has_velocity(t))
        status = gt_alloc_floats(t->mlp.span, "momentum", &t->velocity);
    return status;
}

void
gt_cut_free(gt_trainer *t)
{
    gt_mlp_free(&t->mlp);
    free(t->velocity);
    free(t->outputs);
    free(t->output_delta);
    free(t->pieces);
}

bool
gt_cut_counts(const gt_trainer *t)
{
    return t->member == 0;
}

/* --- outputs in pieces --- */

static void
copy_columns(float *to, size_t to_width, const float *from, size_t from_width,
             size_t rows, size_t columns)
{
    for (size_t r = 0; r < rows; r++)
        memcpy(to + r * to_width, from + r * from_width,
               columns * sizeof(float));
}

gp_status
gt_cut_output(gt_trainer *t, size_t rows, const float **output)
{
    size_t classes = t->data.classes, block = rows * widest_piece(t);
    uint32_t members = t->layout.tensor;
    double start = gt_now();
    gp_status status;

    if (!t->part.gathered)
        return GP_OK;
    memcpy(t->pieces + t->member * block, *output,
           rows * t->part.widths[t->part.layers] * sizeof(float));
    status = gt_comm_gather_parts(t->comm, t->pieces + t->member * block,
                                  t->pieces, block);
    t->waited += gt_now() - start;
    if (status != GP_OK)
        return status;
    for (uint32_t m = 0; m < members; m++) {
        size_t first = gt_slice_first(classes, m, members);
        size_t width = gt_slice_first(classes, m + 1, members) - first;

        copy_columns(t->outputs + first, classes, t->pieces + m * block, width,
                     rows, width);
    }
    *output = t->outputs;
    return GP_OK;
}

float *
gt_cut_delta(gt_trainer *t)
{
    return t->part.gathered ? t->output_delta : gt_mlp_output_delta(&t->mlp);
}

void
gt_cut_take_delta(gt_trainer *t, size_t rows)
{
    size_t last = t->part.layers;

    if (t->part.gathered)
        copy_columns(gt_mlp_output_delta(&t->mlp), t->part.widths[last],
                     t->output_delta + t->part.out_first[last - 1],
                     t->data.classes, rows, t->part.widths[last]);
}

/* --- the whole --- */

static gp_status
send_part(const gt_trainer *t)
{
    gp_status status =
        gt_comm_send_part(t->comm, t->mlp.params, t->mlp.span, 0, TAG_PARAMS);

    if (status == GP_OK && t->velocity)
        status = gt_comm_send_part(t->comm, t->velocity, t->mlp.span, 0,
                                   TAG_VELOCITY);
    return status;
}

/* What member m has goes to its place; `scratch` has its layout. */
static gp_status
receive_part(const gt_trainer *t, uint32_t m, const gt_slice *part,
             gt_mlp *scratch, gt_trainer *whole)
{
    gp_status status = gt_comm_recv_part(t->comm, scratch->params,
                                         scratch->span, m, TAG_PARAMS);

    if (status != GP_OK)
        return status;
    gt_slice_join(part, scratch, scratch->params, &whole->mlp,
                  whole->mlp.params);
    if (!t->velocity)
        return GP_OK;
    status = gt_comm_recv_part(t->comm, scratch->params, scratch->span, m,
                               TAG_VELOCITY);
    if (status == GP_OK)
        gt_slice_join(part, scratch, scratch->params, &whole->mlp,
                      whole->velocity);
    return status;
}

static gp_status
join_part(const gt_trainer *t, uint32_t m, gt_trainer *whole)
{
    size_t widths[GT_LAYERS_MAX + 1], layers = gt_cut_widths(t, widths);
    gt_slice part;
    gt_mlp scratch;
    gp_status status = gt_slice_of(&t->layout, widths, layers, m, &part);

    if (status == GP_OK)
        status = gt_mlp_create_params(part.widths, part.layers, &scratch);
    if (status != GP_OK)
        return status;
    status = receive_part(t, m, &part, &scratch, whole);
    gt_mlp_free(&scratch);
    return status;
}

gp_status
gt_cut_gather(const gt_trainer *t, gt_trainer *whole)
{
    uint32_t members = gt_layout_members(&t->layout);
    gp_status status;

    *whole = (gt_trainer){.options = t->options};
    if (t->rank >= members) /* another copy */
        return GP_OK;
    if (t->rank > 0)
        return send_part(t);
    status = create_whole(t, whole);
    if (status != GP_OK)
        return status;
    gt_slice_join(&t->part, &t->mlp, t->mlp.params, &whole->mlp,
                  whole->mlp.params);
    if (t->velocity)
        gt_slice_join(&t->part, &t->mlp, t->velocity, &whole->mlp,
                      whole->velocity);
    for (uint32_t m = 1; m < members && status == GP_OK; m++)
        status = join_part(t, m, whole);
    if (status != GP_OK)
        gt_cut_free_whole(whole);
    return status;
}

gp_status
gt_cut_load(gt_trainer *t)
{
    gt_trainer whole;
    gp_status status;

    if (!gt_layout_cuts(&t->layout))
        return gt_checkpoint_load(t);
    status = create_whole(t, &whole);
    if (status != GP_OK)
        return status;
    status = gt_checkpoint_load(&whole);
    if (status == GP_OK) {
        gt_slice_cut(&t->part, &whole.mlp, whole.mlp.params, &t->mlp,
                     t->mlp.params);
        if (t->velocity)
            gt_slice_cut(&t->part, &whole.mlp, whole.velocity, &t->mlp,
                         t->velocity);
        t->epoch = whole.epoch;
        t->steps = whole.steps;
        t->base = whole.base;
    }
    gt_cut_free_whole(&whole);
    return status;
}
