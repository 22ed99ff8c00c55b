/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard_arena.c - the memory that results are sent from.
 *
 * One piece after the other by kind, not by chunk: values and encoded results
 * are used in every step, while pages of initial values and second buffers are
 * perhaps never touched, and then cost nothing where no device pins them.
 */
#include <stdlib.h>
#include <string.h>

#include "shard/shard_rows.h"

#define PIECE_ALIGNMENT 64u

typedef enum piece_kind {
    PIECE_VALUE,
    PIECE_ENCODED,
    PIECE_INITIAL,
    PIECE_SPARE,
    PIECE_SHOTS,
    PIECES
} piece_kind;

static size_t
piece_bytes(const gp_shard *s, const gp_chunk *c, piece_kind kind)
{
    const shard_tensor *t = c->tensor;
    size_t count = c->info->count, bytes = 0;

    if (t->spec->rows)
        return kind == PIECE_VALUE ? gp_rows_result_room(s, c) : 0;
    if (kind == PIECE_SHOTS)
        return t->shots * gp_shot_bytes(c);
    if (kind == PIECE_VALUE ||
        (kind == PIECE_SPARE && !gp_updater_keeps(&t->updater) && !t->device))
        bytes = count * sizeof(float);
    else if (kind == PIECE_INITIAL && gp_chunk_rounds(c))
        bytes = gp_pipeline_bound(t->native, count);
    else if (t->arrives) /* it sends from copies alone */
        bytes = 0;
    else if (kind == PIECE_ENCODED && !t->pull_dense)
        bytes = gp_pipeline_bound(t->pull, count);
    else if (kind == PIECE_INITIAL && t->spec->dtype != GP_FP32)
        bytes = gp_pipeline_bound(t->native, count);
    return (bytes + PIECE_ALIGNMENT - 1) & ~(size_t)(PIECE_ALIGNMENT - 1);
}

static void
set_piece(gp_chunk *c, piece_kind kind, void *piece)
{
    if (kind == PIECE_VALUE)
        c->value = piece;
    else if (kind == PIECE_ENCODED)
        c->encoded = piece;
    else if (kind == PIECE_INITIAL)
        c->initial = piece;
    else if (kind == PIECE_SHOTS)
        c->shot_bytes = piece;
    else
        c->spare = piece;
}

/* Where each piece lies; without an arena only how long it must be. */
static gp_status
lay_out(gp_shard *s, uint8_t *arena, size_t *bytes)
{
    size_t at = 0;

    for (int kind = 0; kind < PIECES; kind++)
        for (uint32_t i = 0; i < s->chunks; i++) {
            gp_chunk *c = &s->chunk[i];
            size_t piece = piece_bytes(s, c, (piece_kind)kind);

            if (arena && piece)
                set_piece(c, (piece_kind)kind, arena + at);
            if (!gp_add(at, piece, &at))
                return gp_fail(GP_ERR_TOO_LARGE, "%u chunks", s->chunks);
        }
    *bytes = at;
    return GP_OK;
}

gp_status
gp_arena_open(gp_shard *s)
{
    gp_status status = lay_out(s, NULL, &s->arena_bytes);

    if (status != GP_OK || s->chunks == 0)
        return status;
    s->arena = gp_shard_take(s, s->arena_bytes);
    if (!s->arena)
        return gp_fail(GP_ERR_NO_MEMORY, "shard of %zu bytes", s->arena_bytes);
    status = lay_out(s, s->arena, &s->arena_bytes);
    for (uint32_t i = 0; status == GP_OK && i < s->chunks; i++)
        if (!s->chunk[i].tensor->spec->rows)
            memset(s->chunk[i].value, 0,
                   s->chunk[i].info->count * sizeof(float));
    for (int i = 0; status == GP_OK && i < s->links; i++)
        status = s->link[i].ops->mem_reg(s->link[i].domain, s->arena,
                                         s->arena_bytes, &s->arena_mem[i]);
    return status;
}

void
gp_arena_close(gp_shard *s)
{
    for (int i = 0; i < s->links; i++) {
        if (s->arena_mem[i])
            s->link[i].ops->mem_dereg(s->arena_mem[i]);
        s->arena_mem[i] = NULL;
    }
    gp_shard_give(s, s->arena);
    s->arena = NULL;
    s->arena_bytes = 0;
}

gp_mem *
gp_arena_find(const gp_shard *s, const gp_peer *peer, const void *payload)
{
    size_t offset = (uintptr_t)payload - (uintptr_t)s->arena;
    gp_mem *shown = gp_shard_shown_find(s, peer, payload);

    if (shown)
        return shown;
    if (offset < s->arena_bytes)
        return s->arena_mem[peer->link_number];
    offset = (uintptr_t)payload - (uintptr_t)peer->slots;
    return offset < s->slots * s->slot_bytes ? peer->slot_mem : NULL;
}
