/* SPDX-License-Identifier: Apache-2.0 */
/*
 * row_table.c - open addressing with linear probing over numbers of rows.
 *
 * Rows lie in slabs and never move; what grows by doubling, at two thirds, is
 * the 8 bytes per row that find it. Nothing is ever removed alone, so there are
 * no tombstones.
 */
#include "shard/row_table.h"

#include <stdlib.h>
#include <string.h>

#include "wire/rows.h"

#define SLAB_BYTES  (64u << 10)
#define SLOTS_FIRST 64u

void
gp_row_table_open(gp_row_table *t, size_t numbers, gp_row_budget *budget)
{
    size_t bytes = sizeof(gp_row) + numbers * sizeof(float);

    *t = (gp_row_table){.budget = budget,
                        .numbers = numbers,
                        .row_bytes = (bytes + 7) & ~(size_t)7,
                        .per_slab = 1};
    while (t->row_bytes * t->per_slab * 2 <= SLAB_BYTES) {
        t->per_slab *= 2;
        t->shift++;
    }
}

static gp_status
charge(gp_row_table *t, size_t bytes)
{
    gp_row_budget *b = t->budget;

    if (bytes > b->limit || b->used > b->limit - bytes)
        return gp_fail(GP_ERR_NO_MEMORY,
                       "%llu bytes of rows, and %zu more, are over the limit "
                       "of %llu: raise GRADPUSH_ROWS_MEMORY, or use more "
                       "shards",
                       (unsigned long long)b->used, bytes,
                       (unsigned long long)b->limit);
    b->used += bytes;
    return GP_OK;
}

void
gp_row_table_close(gp_row_table *t)
{
    if (t->budget)
        t->budget->used -= t->slots * sizeof(*t->slot) +
                           t->slabs * (t->row_bytes * t->per_slab);
    for (uint32_t i = 0; i < t->slabs; i++)
        free(t->slab[i]);
    free(t->slab);
    free(t->slot);
    *t = (gp_row_table){0};
}

void
gp_row_table_clear(gp_row_table *t)
{
    if (t->rows == 0)
        return;
    memset(t->slot, 0, t->slots * sizeof(*t->slot));
    t->rows = 0;
}

/* The lower half of the hash finds the place, since the upper one has chosen
 * the shard. */
static gp_row_slot *
probe(const gp_row_table *t, uint64_t index, uint64_t hash)
{
    uint64_t mask = t->slots - 1, at = hash & mask;
    uint32_t tag = (uint32_t)(hash >> 32);

    for (;; at = (at + 1) & mask) {
        gp_row_slot *slot = &t->slot[at];

        if (slot->number == 0)
            return slot;
        if (slot->tag == tag &&
            gp_row_table_at(t, slot->number - 1)->index == index)
            return slot;
    }
}

gp_row *
gp_row_table_find(const gp_row_table *t, uint64_t index)
{
    gp_row_slot *slot;

    if (t->rows == 0)
        return NULL;
    slot = probe(t, index, gp_row_hash(index));
    return slot->number ? gp_row_table_at(t, slot->number - 1) : NULL;
}

static gp_status
grow_slots(gp_row_table *t)
{
    gp_row_slot *old = t->slot;
    uint64_t before = t->slots, slots = before ? 2 * before : SLOTS_FIRST;
    gp_status status = charge(t, slots * sizeof(*old));

    if (status != GP_OK)
        return status;
    t->slot = calloc(slots, sizeof(*t->slot));
    if (!t->slot) {
        t->slot = old;
        t->budget->used -= slots * sizeof(*old);
        return gp_fail(GP_ERR_NO_MEMORY, "table of %u rows", t->rows);
    }
    t->slots = slots;
    for (uint32_t i = 0; i < t->rows; i++) {
        uint64_t index = gp_row_table_at(t, i)->index;
        uint64_t hash = gp_row_hash(index);

        *probe(t, index, hash) = (gp_row_slot){(uint32_t)(hash >> 32), i + 1};
    }
    free(old);
    t->budget->used -= before * sizeof(*old);
    return GP_OK;
}

static gp_status
grow_slabs(gp_row_table *t)
{
    size_t bytes = t->row_bytes * t->per_slab;
    gp_status status;

    if (t->slabs == t->slab_room) {
        uint32_t room = t->slab_room ? 2 * t->slab_room : 16;
        void *grown = realloc(t->slab, room * sizeof(*t->slab));

        if (!grown)
            return gp_fail(GP_ERR_NO_MEMORY, "table of %u rows", t->rows);
        t->slab = grown;
        t->slab_room = room;
    }
    status = charge(t, bytes);
    if (status != GP_OK)
        return status;
    t->slab[t->slabs] = malloc(bytes);
    if (!t->slab[t->slabs]) {
        t->budget->used -= bytes;
        return gp_fail(GP_ERR_NO_MEMORY, "%zu bytes of rows", bytes);
    }
    t->slabs++;
    return GP_OK;
}

/* Room for one more. */
static gp_status
reserve(gp_row_table *t)
{
    gp_status status = GP_OK;

    if (t->rows >= UINT32_MAX - 1)
        return gp_fail(GP_ERR_NO_MEMORY,
                       "a shard keeps at most 2^32 - 2 rows of a tensor: use "
                       "more shards");
    if (3 * ((uint64_t)t->rows + 1) > 2 * t->slots)
        status = grow_slots(t);
    if (status == GP_OK && t->rows >> t->shift >= t->slabs)
        status = grow_slabs(t);
    return status;
}

gp_status
gp_row_table_add(gp_row_table *t, uint64_t index, gp_row **out, bool *fresh)
{
    uint64_t hash = gp_row_hash(index);
    gp_row_slot *slot = t->slots ? probe(t, index, hash) : NULL;
    gp_status status;
    gp_row *row;

    *fresh = !slot || slot->number == 0;
    if (!*fresh) {
        *out = gp_row_table_at(t, slot->number - 1);
        return GP_OK;
    }
    status = reserve(t);
    if (status != GP_OK)
        return status;
    slot = probe(t, index, hash); /* places may be others now */
    *slot = (gp_row_slot){(uint32_t)(hash >> 32), ++t->rows};
    row = gp_row_table_at(t, t->rows - 1);
    row->index = index;
    row->updates = 0;
    *out = row;
    return GP_OK;
}
