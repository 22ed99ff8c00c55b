/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rows.h - requests for rows: which go to which shard, and where they belong.
 *
 * A plan is made by the caller's thread when it submits; from then on nobody
 * needs the caller's indices. It belongs to its request.
 */
#ifndef GP_WORKER_ROWS_H
#define GP_WORKER_ROWS_H

#include "worker/worker_int.h"

/* One direction of a call: `count` indices and as many rows of numbers. */
typedef struct gp_rows_list {
    size_t count;
    const uint64_t *index;
} gp_rows_list;

struct gp_rows_call {
    gp_rows_list push, pull;
    const float *values; /* pushed */
    float *out;          /* pulled */
};

typedef struct gp_row_place {
    uint64_t index;
    uint32_t position; /* in the caller's order */
} gp_row_place;

/* Sorted by shard, index, position. */
typedef struct gp_rows_side {
    gp_row_place *place; /* room for a batch */
    uint32_t *begin;    /* by shard: the first; at the end how many there are */
    uint32_t *distinct; /* by shard: indices, each counted once */
} gp_rows_side;

struct gp_rows_plan {
    gp_rows_side push, pull;
    const float *values;
    float *out;
    gp_row_place *spare; /* for sorting */
    float *row;          /* one that is added up */
    uint8_t *coded;      /* ... and encoded */
};

gp_status gp_rows_plan_create(gp_request *r);
void gp_rows_plan_free(gp_rows_plan *plan);
/* The call has been checked. */
void gp_rows_plan_make(gp_request *r, const gp_rows_call *call);

/* Sorts by index; equal ones stay in their order. Public for its test.
 * @param spare  room for as many. */
void gp_rows_sort(gp_row_place *place, gp_row_place *spare, size_t count);

/* Bytes of an operation's next message; writes it. */
size_t gp_rows_op_bytes(const gp_op *op);
gp_status gp_rows_encode(const gp_op *op, uint8_t *out, size_t capacity,
                         size_t *length);
/* A result to where its rows belong. */
gp_status gp_rows_scatter(const gp_op *op, const void *bytes, size_t length,
                          uint64_t version);

#endif
