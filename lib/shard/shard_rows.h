/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard_rows.h - what a chunk of a tensor of rows has beside other chunks.
 *
 * To the rest of the shard it is a chunk as others: pushes wait, are folded in
 * the order of its mode and answered exactly once. What differs is that a push
 * names its rows, that results are each worker's own, and that a pull brings
 * the indices it asks for (LOOKUP).
 */
#ifndef GP_SHARD_ROWS_H
#define GP_SHARD_ROWS_H

#include "shard/row_table.h"
#include "shard/shard_int.h"
#include "wire/rows.h"

typedef struct gp_row_wanted {
    uint64_t *index; /* room for a batch */
    uint32_t count;
} gp_row_wanted;

typedef struct gp_row_store {
    gp_shard *shard;
    gp_row_spec spec;
    gp_row_codec push, pull;
    float *row;            /* one that is being decoded */
    gp_row_table kept;     /* parameters, then the updater's arrays */
    gp_row_table sum;      /* of the step that is open */
    float scale;           /* what its sums are multiplied with */
    uint64_t pushed;       /* rows, so far */
    gp_row_wanted *wanted; /* by rank: the copy that its answer is made from */
} gp_row_store;

gp_status gp_rows_open(gp_shard *s, gp_chunk *c);
void gp_rows_close(gp_chunk *c);

/* Bytes of the results of all workers, in the arena. */
size_t gp_rows_result_room(const gp_shard *s, const gp_chunk *c);

/* Whether the payload of a PUSH or LOOKUP is sound; keeps the indices that it
 * asks for. */
gp_status gp_rows_take(gp_shard *s, gp_chunk *c, uint32_t rank, const gp_msg *m,
                       const void *payload, gp_rows_view *view);

/* As gp_entry_fold(). */
bool gp_rows_fold(gp_shard *s, gp_chunk *c, uint32_t rank, bool add);
/* One update of the rows in the sum, or, of a rank, those of its push. False
 * when there is no memory, which ends the job. */
bool gp_rows_update(gp_chunk *c);
bool gp_rows_update_with(gp_shard *s, gp_chunk *c, uint32_t rank);
gp_status gp_rows_send(gp_shard *s, gp_peer *peer, gp_entry *e);

/* shard_rows_kept.c: checkpoints. */
void gp_rows_recall(gp_shard *s, gp_peer *peer, const gp_msg *m);
void gp_rows_restore(gp_shard *s, gp_peer *peer, const gp_event *event);

#endif
