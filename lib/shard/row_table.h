/* SPDX-License-Identifier: Apache-2.0 */
/*
 * row_table.h - rows by their index, in memory that grows up to a limit.
 */
#ifndef GP_ROW_TABLE_H
#define GP_ROW_TABLE_H

#include "base/base.h"

/* What several tables may take together. */
typedef struct gp_row_budget {
    uint64_t used, limit; /* bytes */
} gp_row_budget;

typedef struct gp_row {
    uint64_t index;
    uint64_t updates; /* it has seen */
    float value[];
} gp_row;

typedef struct gp_row_slot {
    uint32_t tag;    /* of the hash; what it takes to look no further */
    uint32_t number; /* of the row, from 1; 0: empty */
} gp_row_slot;

typedef struct gp_row_table {
    gp_row_budget *budget;
    size_t numbers;    /* fp32, of a row */
    size_t row_bytes;  /* with its head */
    uint32_t per_slab; /* a power of two */
    uint32_t shift;    /* its logarithm */
    uint32_t rows;
    uint32_t slabs, slab_room;
    uint8_t **slab;
    gp_row_slot *slot;
    uint64_t slots; /* a power of two, or 0 */
} gp_row_table;

void gp_row_table_open(gp_row_table *t, size_t numbers, gp_row_budget *budget);
void gp_row_table_close(gp_row_table *t);

/* Forgets all rows, and keeps the memory for others. */
void gp_row_table_clear(gp_row_table *t);

/* NULL: it is not there. */
gp_row *gp_row_table_find(const gp_row_table *t, uint64_t index);

/* Finds it, or makes it, with no updates and unset values; rows stay where they
 * are. GP_ERR_NO_MEMORY: the machine's or the budget's. */
gp_status gp_row_table_add(gp_row_table *t, uint64_t index, gp_row **out,
                           bool *fresh);

/* By number, from 0, in the order in which they were made. */
static inline gp_row *
gp_row_table_at(const gp_row_table *t, uint32_t number)
{
    return (gp_row *)(void *)(t->slab[number >> t->shift] +
                              (number & (t->per_slab - 1)) * t->row_bytes);
}

#endif
