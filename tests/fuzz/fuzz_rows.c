/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_rows.c - what workers say of rows.
 *
 * Six bytes choose the tensor, the shard and the bytes of a row; the rest is a
 * payload. What is taken for sound must be: each index ascending, below the
 * number of rows and the shard's, and all parts within the payload. Then it
 * goes through a table, as a shard's sum does, within a budget.
 */
#include "base/bytes.h"
#include "shard/row_init.h"
#include "shard/row_table.h"
#include "wire/rows.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEAD   6u
#define BUDGET (256u << 10)

static void
require(int condition)
{
    if (!condition)
        __builtin_trap();
}

static void
check_indices(const uint8_t *p, uint32_t count, const gp_row_spec *spec,
              uint32_t shard, uint32_t shards)
{
    for (uint32_t i = 0; i < count; i++) {
        uint64_t index = gp_get64(p + 8 * (size_t)i);

        require(index < spec->rows && gp_row_shard(index, shards) == shard);
        require(i == 0 || index > gp_get64(p + 8 * (size_t)(i - 1)));
    }
}

static void
add_rows(const gp_rows_view *v, const gp_row_spec *spec)
{
    gp_row_budget budget = {.limit = BUDGET};
    gp_row_table table;
    uint32_t added = 0;

    gp_row_table_open(&table, spec->width, &budget);
    for (uint32_t twice = 0; twice < 2; twice++)
        for (uint32_t i = 0; i < v->pushed; i++) {
            gp_row *row;
            bool fresh;
            gp_status status = gp_row_table_add(
                &table, gp_get64(v->push_index + 8 * (size_t)i), &row, &fresh);

            require(budget.used <= BUDGET);
            if (status != GP_OK)
                continue;
            added += fresh;
            gp_row_initialize(spec, row->index, row->value);
            require(gp_row_table_find(&table, row->index) == row);
        }
    require(added == table.rows && added <= v->pushed);
    gp_row_table_close(&table);
    require(budget.used == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    gp_row_spec spec;
    gp_rows_view v;
    uint32_t shards, shard;
    size_t bytes;
    uint8_t *payload;

    if (size < HEAD)
        return 0;
    spec = (gp_row_spec){.rows = (uint64_t)1 << data[0] % 41,
                         .width = 1 + data[1] % 64u,
                         .batch = 1 + data[2],
                         .init = data[3] % 3,
                         .seed = data[3],
                         .scale = 1};
    shards = 1 + data[4] % 5u;
    shard = data[4] / 5 % shards;
    bytes = 1 + data[5];
    payload = malloc(size - HEAD + 1);
    require(payload != NULL);
    memcpy(payload, data + HEAD, size - HEAD);
    if (gp_rows_decode(payload, size - HEAD, &spec, bytes, shard, shards, &v) ==
        GP_OK) {
        require(v.pushed <= spec.batch && v.wanted <= spec.batch);
        require(v.values + bytes * v.pushed == payload + size - HEAD);
        check_indices(v.push_index, v.pushed, &spec, shard, shards);
        check_indices(v.want_index, v.wanted, &spec, shard, shards);
        add_rows(&v, &spec);
    }
    free(payload);
    return 0;
}
