/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard_update.c - from a step's gradient to new parameters.
 *
 * An update's number is the chunk's version, which goes on where the job before
 * ended: what is computed from it needs nothing else to be the same after a
 * restart.
 */
#include <stdlib.h>

#include "shard/shard_rows.h"

gp_status
gp_chunk_open_arrays(gp_chunk *c)
{
    for (uint32_t i = 0; i < GP_UPDATER_ARRAYS; i++) {
        if (!(c->tensor->updater.arrays >> i & 1))
            continue;
        c->array[i] = calloc(c->info->count, sizeof(float));
        if (!c->array[i])
            return gp_fail(GP_ERR_NO_MEMORY, "updater");
    }
    return GP_OK;
}

void
gp_chunk_close_arrays(gp_chunk *c)
{
    for (uint32_t i = 0; i < GP_UPDATER_ARRAYS; i++)
        free(c->array[i]);
}

bool
gp_chunk_update(gp_chunk *c, const float *gradient)
{
    gp_updater_step step = {.number = c->version + 1,
                            .offset = c->info->offset,
                            .parameter_norm = c->parameter_norm,
                            .direction_norm = c->direction_norm};

    if (c->rows)
        return gp_rows_update(c);
    gp_updater_apply(&c->tensor->updater, &step, gradient, c->value, c->array,
                     c->info->count);
    return true;
}
