/* SPDX-License-Identifier: Apache-2.0 */
/*
 * parallel.c - a network cut over workers.
 *
 * Widths need not be multiples of the members: member m has the units from
 * floor(width * m / members) on. Every unit has one owner; the biases of layers
 * cut by rows, which are added after the sum, are with all members and stay
 * alike, as all compute them from the same bits.
 */
#include "parallel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MEMBERS_MAX 4096

/* --- the text --- */

static gp_status
refuse(const char *text)
{
    return gt_fail(GP_ERR_CONFIG,
                   "--parallel '%s': it takes data, tensor=T or pipeline=P, "
                   "and with these data=D, as in tensor=2,data=2",
                   text);
}

/* One "name" or "name=N"; *end is behind it. */
static bool
parse_item(const char *text, gt_layout *layout, const char **end)
{
    const char *const names[] = {"tensor", "pipeline", "data"};
    uint32_t *const values[] = {&layout->tensor, &layout->pipeline,
                                &layout->data};
    static const uint32_t unset[] = {1, 1, 0};
    size_t n = strcspn(text, "=,");

    for (size_t i = 0; i < GT_COUNT_OF(names); i++) {
        unsigned long value = 0;
        char *stop;

        if (strlen(names[i]) != n || strncmp(text, names[i], n) != 0)
            continue;
        *end = text + n;
        if (*values[i] != unset[i]) /* said twice */
            return false;
        if (text[n] == '=') {
            errno = 0;
            value = strtoul(text + n + 1, &stop, 10);
            if (text[n + 1] < '0' || text[n + 1] > '9' || errno || value < 1 ||
                value > MEMBERS_MAX)
                return false;
            *end = stop;
        }
        *values[i] = (uint32_t)value;
        return **end == ',' || !**end;
    }
    return false;
}

gp_status
gt_layout_parse(const char *text, gt_layout *out)
{
    gt_layout layout = {1, 1, 0};
    const char *at = text, *end;

    for (;; at = end + 1) {
        if (!parse_item(at, &layout, &end))
            return refuse(text);
        if (!*end)
            break;
    }
    if (layout.tensor != 1 && layout.pipeline != 1)
        return gt_fail(GP_ERR_UNSUPPORTED,
                       "--parallel '%s': tensor and pipeline do not go "
                       "together in this version; take one of them, and data",
                       text);
    *out = layout;
    return GP_OK;
}

void
gt_layout_print(const gt_layout *layout, char *out, size_t capacity)
{
    bool tensor = layout->tensor != 1;

    if (!gt_layout_cuts(layout))
        snprintf(out, capacity, "data");
    else
        snprintf(out, capacity, "%s=%u,data=%u", tensor ? "tensor" : "pipeline",
                 gt_layout_members(layout), layout->data);
}

uint32_t
gt_layout_members(const gt_layout *layout)
{
    return layout->tensor != 1 ? layout->tensor : layout->pipeline;
}

bool
gt_layout_cuts(const gt_layout *layout)
{
    return gt_layout_members(layout) != 1;
}

gp_status
gt_layout_settle(uint32_t workers, gt_layout *layout)
{
    gt_layout l = *layout;
    uint32_t *members = l.tensor != 1 ? &l.tensor : &l.pipeline;

    if (*members == 0)
        *members = l.data && workers % l.data == 0 ? workers / l.data : workers;
    if (l.data == 0)
        l.data = workers / *members;
    if ((uint64_t)*members * l.data != workers)
        return gt_fail(GP_ERR_CONFIG,
                       "--parallel: %u parts x %u copies are not the %u "
                       "workers there are; start as many, or change one of "
                       "the numbers",
                       *members, l.data, workers);
    *layout = l;
    return GP_OK;
}

/* --- the parts --- */

size_t
gt_slice_first(size_t width, uint32_t member, uint32_t members)
{
    return width * member / members;
}

static gp_status
cut_columns(const gt_layout *layout, const size_t *widths, size_t l,
            uint32_t member, gt_slice *part)
{
    uint32_t members = layout->tensor;

    if (widths[l + 1] < members)
        return gt_fail(GP_ERR_CONFIG,
                       "--parallel tensor=%u: the %zu outputs of layer %zu "
                       "cannot be cut into %u; use fewer parts",
                       members, widths[l + 1], l, members);
    part->out_first[l] = gt_slice_first(widths[l + 1], member, members);
    part->widths[l + 1] =
        gt_slice_first(widths[l + 1], member + 1, members) - part->out_first[l];
    part->partial_below[l] = l > 0;
    return GP_OK;
}

/* An odd last layer is cut by columns and its outputs are put together; with
 * fewer outputs than members all have all of it. */
static gp_status
part_of_tensor(const gt_layout *layout, const size_t *widths, size_t layers,
               uint32_t member, gt_slice *part)
{
    memcpy(part->widths, widths, (layers + 1) * sizeof(*widths));
    part->layers = layers;
    for (size_t l = 0; l < layers; l++) {
        bool last = l + 1 == layers;
        gp_status status = GP_OK;

        if (l % 2 == 1) {
            part->in_first[l] = part->out_first[l - 1];
            part->partial[l] = true;
        } else if (!last || widths[layers] >= layout->tensor) {
            part->gathered = last;
            status = cut_columns(layout, widths, l, member, part);
        }
        if (status != GP_OK)
            return status;
    }
    return GP_OK;
}

static gp_status
part_of_pipeline(const gt_layout *layout, const size_t *widths, size_t layers,
                 uint32_t member, gt_slice *part)
{
    uint32_t stages = layout->pipeline, stage = stages - 1 - member;

    if (layers < stages)
        return gt_fail(GP_ERR_CONFIG,
                       "--parallel pipeline=%u: the network has %zu layers; "
                       "give more --hidden layers or use fewer stages",
                       stages, layers);
    part->first = gt_slice_first(layers, stage, stages);
    part->layers = gt_slice_first(layers, stage + 1, stages) - part->first;
    memcpy(part->widths, widths + part->first,
           (part->layers + 1) * sizeof(*widths));
    return GP_OK;
}

gp_status
gt_slice_of(const gt_layout *layout, const size_t *widths, size_t layers,
            uint32_t member, gt_slice *out)
{
    gt_slice part = {0};
    gp_status status;

    if (layers < 1 || layers > GT_LAYERS_MAX)
        return gt_fail(GP_ERR_INVALID, "%zu layers, 1 to %d are possible",
                       layers, GT_LAYERS_MAX);
    status = layout->tensor != 1
                 ? part_of_tensor(layout, widths, layers, member, &part)
                 : part_of_pipeline(layout, widths, layers, member, &part);
    if (status == GP_OK)
        *out = part;
    return status;
}

/* --- values --- */

static size_t
offset_of(const gt_mlp *mlp, const float *view)
{
    return (size_t)(view - mlp->params);
}

void
gt_slice_cut(const gt_slice *part, const gt_mlp *whole, const float *from,
             const gt_mlp *local, float *to)
{
    for (size_t l = 0; l < part->layers; l++) {
        const gt_layer *w = &whole->layer[part->first + l];
        const gt_layer *p = &local->layer[l];
        const float *rows = from + offset_of(whole, w->weight) +
                            part->out_first[l] * w->in + part->in_first[l];
        float *at = to + offset_of(local, p->weight);

        for (size_t o = 0; o < p->out; o++)
            memcpy(at + o * p->in, rows + o * w->in, p->in * sizeof(float));
        memcpy(to + offset_of(local, p->bias),
               from + offset_of(whole, w->bias) + part->out_first[l],
               p->out * sizeof(float));
    }
}

void
gt_slice_join(const gt_slice *part, const gt_mlp *local, const float *from,
              const gt_mlp *whole, float *to)
{
    for (size_t l = 0; l < part->layers; l++) {
        const gt_layer *w = &whole->layer[part->first + l];
        const gt_layer *p = &local->layer[l];
        float *rows = to + offset_of(whole, w->weight) +
                      part->out_first[l] * w->in + part->in_first[l];
        const float *at = from + offset_of(local, p->weight);

        for (size_t o = 0; o < p->out; o++)
            memcpy(rows + o * w->in, at + o * p->in, p->in * sizeof(float));
        memcpy(to + offset_of(whole, w->bias) + part->out_first[l],
               from + offset_of(local, p->bias), p->out * sizeof(float));
    }
}
