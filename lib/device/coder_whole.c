/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coder_whole.c - pipelines that look at a tensor before its chunks are
 * encoded: selections whose cut is that of the whole tensor, uq whose step is,
 * and powersgd.
 *
 * What a look finds lies in memory of the tensor's: the cut or
 * the mean square, then what is
 * encoded in place of gradients, where they are remembered, then what the
 * kernels tell one another.
 */
#include <math.h>

#include "base/base.h"
#include "device/coder_batch.h"

static size_t
round_up(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

/* What is encoded, and the squares of the gradient's tiles. */
static size_t
made_bytes(const gp_coder *c, size_t count)
{
    if (!gp_coder_remembers(c))
        return 0;
    return round_up(count * sizeof(float)) + gp_coder_norm_bytes(c, count);
}

static size_t
look_bytes(const gp_coder *c, size_t count)
{
    return c->plan.look_space
               ? c->plan.look_space(c->pipeline, count)
               : gp_coder_lay_look(c->pipeline, 0, count, NULL, NULL);
}

size_t
gp_coder_whole_bytes(const gp_coder *c, size_t count)
{
    if (!gp_coder_looks(c))
        return gp_coder_lowrank_bytes(c, count);
    return GP_SELECT_WHOLE + made_bytes(c, count) + look_bytes(c, count);
}

float *
gp_coder_whole_made(const gp_coder *c, void *whole)
{
    return gp_coder_remembers(c) && whole
               ? (float *)((uint8_t *)whole + GP_SELECT_WHOLE)
               : NULL;
}

/* What is remembered goes into what is encoded. */
static void
place_made(const gp_coder *c, gp_coder_batch *b, const gp_coder_whole *t,
           gp_cuda_part *to)
{
    float *made = gp_coder_whole_made(c, t->whole);

    b->makes = true;
    to->gradient = t->source;
    to->source = made;
    to->velocity = t->velocity;
    to->history = t->history;
    to->scale = c->plan.factor;
    to->signs = t->velocity ? c->plan.remember : 0;
    if (t->velocity)
        gp_coder_place_norm(
            c, b, &t->context,
            (uint8_t *)made + round_up(t->count * sizeof(float)), to);
}

static void
place_look(const gp_coder *c, gp_coder_batch *b, size_t i,
           const gp_coder_whole *t)
{
    gp_cuda_part *to =
        gp_coder_place(b, i, c->plan.look, true, (size_t)t->count);
    uint8_t *space = (uint8_t *)t->whole + GP_SELECT_WHOLE;

    to->source = t->source;
    to->residual = t->residual;
    to->whole = t->whole;
    to->scale = c->plan.decay;
    b->fades = b->fades || (t->residual && c->plan.decay != 1);
    if (gp_coder_remembers(c))
        place_made(c, b, t, to);
    space += made_bytes(c, t->count);
    if (c->plan.look_space) {
        to->space = space;
        return;
    }
    (void)gp_coder_lay_look(c->pipeline, t->context.step, t->count, space,
                            &b->selects[i]);
    to->space = b->slot->block + ((uint8_t *)&b->selects[i] - b->slot->pinned);
}

static gp_status
look_at(gp_coder *c, const gp_coder_whole *tensors, size_t n, void *stream)
{
    gp_coder_batch b;
    gp_status status =
        gp_coder_begin(c, c->plan.look, "prepare", n, stream, &b);

    if (status != GP_OK)
        return status;
    for (size_t i = 0; i < n; i++)
        place_look(c, &b, i, &tensors[i]);
    return gp_coder_finish(c, &b, c->plan.look, false, stream);
}

gp_status
gp_coder_prepare(gp_coder *c, const gp_coder_whole *tensors, size_t n,
                 void *stream)
{
    for (size_t i = 0; i < n; i++)
        if (tensors[i].context.offset)
            return gp_fail(GP_ERR_INVALID,
                           "codec %s: a whole tensor begins at 0",
                           c->pipeline->name);
    return gp_coder_looks(c) ? look_at(c, tensors, n, stream)
                             : gp_coder_lowrank_prepare(c, tensors, n, stream);
}

/* ---- momentum:clip ---- */

size_t
gp_coder_norm_bytes(const gp_coder *c, size_t count)
{
    if (c->plan.clip <= 0)
        return 0;
    return round_up(sizeof(double) * (count / gp_coder_encoder(c)->tile + 2));
}

void
gp_coder_place_norm(const gp_coder *c, gp_coder_batch *b,
                    const gp_codec_context *context, void *space,
                    gp_cuda_part *to)
{
    if (c->plan.clip <= 0)
        return;
    to->norm = space;
    to->limit = c->plan.clip / sqrt(context->size ? context->size : 1);
    b->clips = true;
}
