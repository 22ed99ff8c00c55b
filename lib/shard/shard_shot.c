/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard_shot.c - copies of parameters that results are sent from.
 *
 * Where pushes are applied as they arrive, parameters change while older ones
 * are on their way: so these are copied, or encoded, once per version that
 * somebody asks for. A copy is used again when all results from it have left.
 * A worker that reads slowly holds one of them, and the others go round.
 */
#include <stdlib.h>
#include <string.h>

#include "shard/shard_int.h"

size_t
gp_shot_bytes(const gp_chunk *c)
{
    const shard_tensor *t = c->tensor;
    size_t pull = gp_pipeline_bound(t->pull, c->info->count);
    size_t native = gp_pipeline_bound(t->native, c->info->count);

    return (GP_MAX(pull, native) + 63) & ~(size_t)63;
}

gp_status
gp_shots_open(gp_chunk *c)
{
    uint32_t count = c->tensor->shots;
    uint8_t *bytes = c->shot_bytes;

    if (count == 0)
        return GP_OK;
    c->shot = calloc(count, sizeof(*c->shot));
    if (!c->shot)
        return gp_fail(GP_ERR_NO_MEMORY, "chunk");
    for (uint32_t i = 0; i < count; i++)
        c->shot[i].bytes = bytes + i * gp_shot_bytes(c);
    return GP_OK;
}

void
gp_shots_forget(gp_chunk *c)
{
    for (uint32_t i = 0; i < c->tensor->shots; i++)
        c->shot[i].valid = false;
}

static gp_status
fill(gp_shard *s, gp_chunk *c, gp_shot *shot)
{
    const shard_tensor *t = c->tensor;
    gp_codec_context context = {.rank = GP_RANK_SHARD};
    size_t n = c->info->count;

    if (shot->init && c->initial_length) {
        shot->length = c->initial_length;
        memcpy(shot->bytes, c->initial, shot->length);
        return GP_OK;
    }
    if (shot->init)
        return gp_pipeline_encode(t->native, &context, NULL, c->value, n,
                                  shot->bytes, gp_pipeline_bound(t->native, n),
                                  &shot->length, s->workspace);
    if (!t->pull_dense)
        return gp_chunk_encode_into(s, c, c->value, shot->bytes, &shot->length,
                                    &shot->shared);
    shot->length = n * sizeof(float);
    memcpy(shot->bytes, c->value, shot->length);
    return GP_OK;
}

gp_status
gp_shot_take(gp_shard *s, gp_chunk *c, bool init, gp_shot **out)
{
    gp_shot *idle = NULL;
    gp_status status;

    for (uint32_t i = 0; i < c->tensor->shots; i++) {
        gp_shot *shot = &c->shot[i];

        if (shot->valid && shot->version == c->version && shot->init == init) {
            *out = shot;
            return GP_OK;
        }
        if (shot->refs == 0)
            idle = shot;
    }
    if (!idle)
        return GP_PENDING;
    idle->version = c->version;
    idle->init = init;
    idle->valid = idle->crc_valid = false;
    status = fill(s, c, idle);
    if (status != GP_OK)
        return gp_fail(status, "parameters of tensor '%.60s': %.300s",
                       c->tensor->spec->name, gp_last_error());
    idle->valid = true;
    *out = idle;
    return GP_OK;
}

/* A result leaves from it. */
void
gp_shot_lend(gp_chunk *c, gp_entry *e, const gp_shot *shot)
{
    uint32_t number = (uint32_t)(shot - c->shot);

    c->shot[number].refs++;
    e->shots[number]++;
    e->given = shot->version;
}

void
gp_shot_return(gp_chunk *c, gp_entry *e, uint32_t number)
{
    if (number >= c->tensor->shots || e->shots[number] == 0)
        return;
    e->shots[number]--;
    c->shot[number].refs--;
}

/* Whoever they were sent to is gone. */
void
gp_shots_orphan(gp_chunk *c, gp_entry *e)
{
    for (uint32_t i = 0; i < c->tensor->shots; i++) {
        c->shot[i].refs -= e->shots[i];
        e->shots[i] = 0;
    }
}
