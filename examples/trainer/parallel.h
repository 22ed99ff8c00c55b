/* SPDX-License-Identifier: Apache-2.0 */
/*
 * parallel.h - a network cut over workers.
 *
 * The workers are a grid: `tensor` (or `pipeline`) members hold one copy of
 * the network together, each its part, and `data` such copies train on their
 * own batches. Rank r is member r mod members of copy r / members, so that a
 * copy lies on neighbouring ranks, which launchers put on one machine.
 *
 * tensor   layers are cut alternately by columns and by rows (M. Shoeybi et
 *          al., "Megatron-LM", 2019): of a layer cut by columns a member has
 *          some outputs, which are just the inputs that it has of the next one,
 *          cut by rows; the sums of that one are completed over the members,
 *          forward, and those of the one before, backward.
 * pipeline members hold consecutive layers, member 0 the last ones.
 */
#ifndef GT_PARALLEL_H
#define GT_PARALLEL_H

#include "mlp.h"

typedef struct gt_layout {
    uint32_t tensor, pipeline; /* members; 1: not cut so; 0: all workers */
    uint32_t data;             /* copies; 0: as many as there are */
} gt_layout;

/* What one member has. */
typedef struct gt_slice {
    size_t first, layers;             /* of the whole network's */
    size_t widths[GT_LAYERS_MAX + 1]; /* of the network that these make up */
    size_t in_first[GT_LAYERS_MAX], out_first[GT_LAYERS_MAX];
    bool partial[GT_LAYERS_MAX], partial_below[GT_LAYERS_MAX];
    bool gathered; /* its outputs are some of the network's */
} gt_slice;

/* "data", "tensor", "tensor=2,data=3", "pipeline=2", ... */
gp_status gt_layout_parse(const char *text, gt_layout *out);
/* As gt_layout_parse() reads it. */
void gt_layout_print(const gt_layout *layout, char *out, size_t capacity);
uint32_t gt_layout_members(const gt_layout *layout);
/* Whether copies are cut at all. */
bool gt_layout_cuts(const gt_layout *layout);

/* Replaces the zeros, and checks the rest against the number of workers. */
gp_status gt_layout_settle(uint32_t workers, gt_layout *layout);

/* The first of `width` units that a member has. */
size_t gt_slice_first(size_t width, uint32_t member, uint32_t members);

/* widths[0 .. layers] of the whole network. */
gp_status gt_slice_of(const gt_layout *layout, const size_t *widths,
                      size_t layers, uint32_t member, gt_slice *out);

/* Copies a part's values out of, or into, those of the whole network. Both
 * have the layout of params. */
void gt_slice_cut(const gt_slice *part, const gt_mlp *whole, const float *from,
                  const gt_mlp *local, float *to);
void gt_slice_join(const gt_slice *part, const gt_mlp *local, const float *from,
                   const gt_mlp *whole, float *to);

#endif
