/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coder_calls.c - what kernels are told of the parts of a call.
 *
 * A call that fails on the way has queued nothing: all of its parts are checked
 * and placed in the slot before the first launch.
 */
#include <string.h>

#include "base/base.h"
#include "device/coder_batch.h"

static uint64_t
blocks_of(const gp_coder_kernel *kernel, uint64_t count)
{
    return count / kernel->tile + (count % kernel->tile != 0);
}

static gp_cuda_stream
stream_for(const gp_codec_context *context, gp_stream_use use)
{
    gp_cuda_stream out = {.shift = 0};
    gp_stream s = gp_stream_of(context, use);

    memcpy(out.key, s.key, sizeof(out.key));
    memcpy(out.step, s.step, sizeof(out.step));
    return out;
}

gp_cuda_stream
gp_coder_random(const gp_coder *c, const gp_codec_context *context)
{
    gp_cuda_stream out = {.shift = 0};

    if (!c->plan.use)
        return out;
    out = stream_for(context, c->plan.use);
    out.shift = gp_round_shift(c->plan.round, context);
    return out;
}

gp_cuda_part *
gp_coder_place(gp_coder_batch *b, size_t i, const gp_coder_kernel *kernel,
               bool heads, size_t count)
{
    b->parts[i] =
        (gp_cuda_part){.count = count, .first_block = (uint32_t)b->blocks};
    b->blocks += blocks_of(kernel, count);
    if (count == 0 && heads)
        b->blocks++;
    return &b->parts[i];
}

/* Where the device sees what lies in the slot. */
static void *
as_device(const gp_coder_batch *b, const void *pinned)
{
    return b->slot->block + ((const uint8_t *)pinned - b->slot->pinned);
}

/* A part of a selection, and what the array stage will work on. */
static void
place_selection(const gp_coder *c, gp_coder_batch *b, size_t i, uint8_t *space,
                const gp_coder_part *p)
{
    gp_cuda_part values = {.offset = p->context.offset,
                           .random = gp_coder_random(c, &p->context)};
    gp_select *s = &b->selects[i];

    (void)gp_coder_lay_select(c->pipeline, &c->plan, p->context.step, p->count,
                              space, s, &values);
    b->values[i] = b->sent[i] = values;
    b->values[i].first_block = (uint32_t)b->value_blocks;
    b->sent[i].first_block = (uint32_t)b->sent_blocks;
    b->value_blocks += blocks_of(c->plan.encode, values.count);
    b->sent_blocks += blocks_of(c->plan.decode, values.count);
    if (c->plan.draws) {
        b->parts[i].random = stream_for(&p->context, GP_USE_SELECTION);
    }
    s->values = as_device(b, &b->values[i]);
    s->sent = as_device(b, &b->sent[i]);
    b->parts[i].space = as_device(b, s);
    b->back = b->back || p->residual || p->history;
}

/* A part behind a transform: what is in its space is encoded, and decoded to
 * there. */
static void
place_rotation(const gp_coder *c, gp_coder_batch *b, size_t i, uint8_t *space,
               const gp_coder_part *p)
{
    size_t own = gp_coder_rotation_bytes(c, p->count);
    gp_stream s = gp_stream_of(&p->context, GP_USE_SIGNS);
    gp_cuda_part values = {.source = (float *)space,
                           .target = (float *)space,
                           .bytes = p->bytes,
                           .count = b->parts[i].count,
                           .offset = p->context.offset,
                           .length = b->parts[i].length,
                           .encoded = b->parts[i].encoded,
                           .random = gp_coder_random(c, &p->context),
                           .space = space + own,
                           .status = (uint32_t *)(space + own - 64)};
    gp_cuda_part *all = &b->parts[i];

    all->space = space;
    memcpy(all->random.key, s.key, sizeof(s.key));
    memcpy(all->random.step, s.step, sizeof(s.step));
    b->values[i] = b->sent[i] = values;
    b->values[i].first_block = (uint32_t)b->value_blocks;
    b->sent[i].first_block = (uint32_t)b->sent_blocks;
    b->value_blocks += blocks_of(c->plan.encode, all->count);
    b->sent_blocks += blocks_of(c->plan.decode, all->count);
    b->back = b->back || p->residual;
}

/* What ef21 has sent is decoded to where it was made; selections have it
 * anyway.
 */
static void
place_sent(const gp_coder *c, gp_coder_batch *b, size_t i, void *space,
           void *status)
{
    gp_cuda_part *to = &b->parts[i];

    if (gp_coder_selects(c) || c->plan.memory != GP_MEMORY_EF21)
        return;
    b->keeps = b->keeps || to->history;
    if (c->plan.rotated)
        return;
    b->sent[i] = *to;
    b->sent[i].space = space;
    b->sent[i].length = gp_coder_length(c, to->count);
    b->sent[i].status = status;
    b->sent[i].first_block = (uint32_t)b->sent_blocks;
    b->sent_blocks += blocks_of(c->plan.decode, to->count);
}

/* What is made of a gradient is encoded in its place, or goes to the residual.
 */
static void
place_memory(const gp_coder *c, gp_coder_batch *b, size_t i, uint8_t *space,
             const gp_coder_part *p)
{
    size_t own = gp_coder_memory_bytes(c, p->count);
    gp_cuda_part *to = &b->parts[i];

    b->makes = true;
    to->gradient = p->source;
    to->source = to->target = c->plan.sums ? NULL : (float *)space;
    to->velocity = p->velocity;
    to->history = p->history;
    to->scale = c->plan.factor;
    to->signs = p->velocity ? c->plan.remember : 0;
    if (p->velocity)
        gp_coder_place_norm(c, b, &p->context,
                            space + own - 64 - gp_coder_norm_bytes(c, p->count),
                            to);
}

gp_status
gp_coder_check_sums(const gp_coder *c, const float *velocity,
                    const float *residual)
{
    if (c->plan.sums && velocity && !residual)
        return gp_fail(GP_ERR_INVALID,
                       "codec %s: a velocity goes to a residual, and there is "
                       "none",
                       c->pipeline->name);
    return GP_OK;
}

/* What a call does with its parts. */
typedef enum purpose { TO_PROPOSE, TO_ENCODE, TO_DECODE } purpose;

/* Whether something is made of a part's gradient. Differences are made again
 * where workers have agreed on a number since: nothing kept them. */
static bool
makes(const gp_coder *c, const gp_coder_part *p, purpose what)
{
    if (!gp_coder_remembers(c) || gp_coder_prepares(c) || what == TO_DECODE)
        return false;
    return !c->plan.sums ||
           (p->residual && (what == TO_PROPOSE || !p->proposed));
}

/* What the codec asked for, behind that of the parts before. */
static gp_status
take_space(const gp_coder *c, gp_coder_batch *b, size_t i,
           const gp_coder_part *p, purpose what)
{
    size_t total = 0, bytes = gp_coder_space_of(c, p->count);
    size_t own = gp_coder_memory_bytes(c, p->count);
    bool encodes = what == TO_ENCODE;
    uint8_t *space;

    if (!bytes)
        return GP_OK;
    (void)gp_coder_space(c, &c->room, &total);
    if (bytes > total - b->space)
        return gp_fail(GP_ERR_TOO_LARGE,
                       "room for %zu elements in a call: reserve more",
                       c->room.elements);
    space = c->space + b->space;
    if (makes(c, p, what))
        place_memory(c, b, i, space, p);
    if (what != TO_DECODE)
        space += own;
    if (encodes && own)
        place_sent(c, b, i, space, space - 64);
    b->parts[i].space = space;
    if (gp_coder_selects(c))
        place_selection(c, b, i, space, p);
    else if (c->plan.rotated)
        place_rotation(c, b, i, space, p);
    else if (!b->parts[i].status) /* of its own message, which is fed back */
        b->parts[i].status = (uint32_t *)(c->space + b->space + bytes - 64);
    if (encodes && gp_coder_looks(c))
        place_sent(c, b, i, space, b->parts[i].status);
    b->space += bytes;
    return GP_OK;
}

/* Selections are placed by the tiles of their own kernels. */
static const gp_coder_kernel *
encoder_of(const gp_coder *c)
{
    return gp_coder_around(c) ? c->plan.before : c->plan.encode;
}

/* A chunk of a tensor that was looked at: what is encoded was made then. */
static void
take_made(const gp_coder *c, const gp_coder_part *p, gp_cuda_part *to)
{
    float *made = gp_coder_whole_made(c, p->whole);

    if (!gp_coder_looks(c) || !made)
        return;
    to->source = made + p->context.offset;
    to->target = made + p->context.offset;
    to->velocity = p->velocity;
    to->history = p->history;
    to->signs = p->velocity ? c->plan.remember : 0;
}

static const gp_coder_kernel *
decoder_of(const gp_coder *c)
{
    return gp_coder_around(c) ? c->plan.undo : c->plan.decode;
}

gp_status
gp_coder_encode(gp_coder *c, const gp_coder_part *parts, size_t n, void *stream)
{
    const gp_coder_kernel *kernel = encoder_of(c);
    /* Then it was done before. */
    bool whole = gp_coder_prepares(c);
    gp_status status;
    gp_coder_batch b;

    status = gp_coder_begin(c, kernel, "encode", n, stream, &b);
    for (size_t i = 0; i < n && status == GP_OK; i++) {
        const gp_coder_part *p = &parts[i];
        gp_cuda_part *to =
            gp_coder_place(&b, i, kernel, c->plan.heads, p->count);

        to->source = p->source;
        to->residual = p->residual;
        to->whole = p->whole;
        to->bytes = p->bytes;
        to->offset = p->context.offset;
        to->encoded = p->encoded;
        to->random = gp_coder_random(c, &p->context);
        to->scale = c->plan.decay;
        if (c->plan.rounding)
            memcpy(to->rounding, stream_for(&p->context, c->plan.rounding).key,
                   sizeof(to->rounding));
        to->agreed = p->context.shared;
        to->proposed = p->proposed;
        take_made(c, p, to);
        b.fades = b.fades ||
                  (p->residual && c->plan.decay != 1 && !whole && !p->proposed);
        if (p->encoded && gp_coder_fixed(c))
            *p->encoded = gp_coder_length(c, p->count);
        status = gp_coder_check_bytes(p->bytes);
        if (status == GP_OK && whole && !p->whole && p->count > 1)
            status = gp_fail(GP_ERR_INVALID,
                             "codec %s: the tensor was not looked at",
                             c->pipeline->name);
        if (status == GP_OK)
            status = gp_coder_check_sums(c, p->velocity, p->residual);
        if (status == GP_OK)
            status = take_space(c, &b, i, p, TO_ENCODE);
    }
    return status == GP_OK ? gp_coder_finish(c, &b, kernel, false, stream)
                           : status;
}

gp_status
gp_coder_propose(gp_coder *c, const gp_coder_part *parts, size_t n,
                 void *stream)
{
    const gp_coder_kernel *kernel = c->plan.propose;
    gp_coder_batch b;
    gp_status status = gp_coder_begin(c, kernel, "propose", n, stream, &b);

    for (size_t i = 0; i < n && status == GP_OK; i++) {
        const gp_coder_part *p = &parts[i];
        gp_cuda_part *to = gp_coder_place(&b, i, kernel, true, p->count);

        to->source = p->source;
        to->residual = p->residual;
        to->proposal = p->proposal;
        to->scale = c->plan.decay;
        b.fades = b.fades || (p->residual && c->plan.decay != 1);
        status = gp_coder_check_sums(c, p->velocity, p->residual);
        if (status == GP_OK)
            status = take_space(c, &b, i, p, TO_PROPOSE);
    }
    return status == GP_OK ? gp_coder_finish(c, &b, kernel, false, stream)
                           : status;
}

static bool
length_right(const gp_coder *c, size_t length, size_t count)
{
    return c->plan.right
               ? c->plan.right(c->pipeline, length, count)
               : length == gp_coder_length(c, count) && length != SIZE_MAX;
}

bool
gp_coder_decodes(const gp_coder *c)
{
    return decoder_of(c)->tile != 0;
}

gp_status
gp_coder_decode(gp_coder *c, const gp_coder_part *parts, size_t n, bool add,
                void *stream)
{
    const gp_coder_kernel *kernel = decoder_of(c);
    gp_status status;
    gp_coder_batch b;

    status = gp_coder_begin(c, kernel, "decode", n, stream, &b);
    for (size_t i = 0; i < n && status == GP_OK; i++) {
        const gp_coder_part *p = &parts[i];
        bool right = length_right(c, p->length, p->count);
        gp_cuda_part *to = gp_coder_place(&b, i, kernel, c->plan.heads && right,
                                          right ? p->count : 0);

        if (!right)
            *p->status = 1;
        to->target = p->target;
        to->bytes = p->bytes;
        to->offset = p->context.offset;
        to->length = right ? p->length : 0;
        to->random = gp_coder_random(c, &p->context);
        to->status = p->status;
        to->signs = p->signs;
        to->scale = p->scale != 0 ? p->scale : 1;
        b.ends = b.ends || p->signs || to->scale != 1;
        status = gp_coder_check_bytes(p->bytes);
        if (status == GP_OK && (gp_coder_around(c) || c->plan.reads))
            status = take_space(c, &b, i, p, TO_DECODE);
        if (gp_coder_around(c)) {
            b.sent[i].status = p->status;
            b.sent[i].encoded = NULL; /* the message says how long it is */
        }
    }
    return status == GP_OK ? gp_coder_finish(c, &b, kernel, add, stream)
                           : status;
}

/* The messages of a sum go behind those of the ones before it. False for a
 * length that no message has. */
static bool
list_messages(const gp_coder *c, gp_coder_batch *b, const gp_coder_sum *sum,
              gp_cuda_part *to)
{
    size_t before =
        (size_t)((uint8_t *)(b->messages + b->message_count) - b->slot->pinned);
    bool right = true;

    for (size_t k = 0; k < sum->inputs; k++) {
        const gp_codec_input *in = &sum->input[k];

        right = right && length_right(c, in->length, sum->count);
        b->messages[b->message_count++] =
            (gp_cuda_message){.bytes = in->bytes,
                              .length = in->length,
                              .random = gp_coder_random(c, in->context)};
    }
    to->message = (const gp_cuda_message *)(b->slot->block + before);
    to->messages = (uint32_t)sum->inputs;
    return right;
}

static gp_status
check_sum(const gp_coder *c, const gp_coder_batch *b, const gp_coder_sum *sum)
{
    gp_status status = GP_OK;

    if (sum->inputs == 0 || sum->inputs > GP_CODEC_FOLD)
        return gp_fail(GP_ERR_INVALID, "a sum has 1 to %d messages, not %zu",
                       GP_CODEC_FOLD, sum->inputs);
    if (sum->inputs > c->room.messages - b->message_count)
        return gp_fail(GP_ERR_TOO_LARGE,
                       "room for %zu messages in a call: reserve more",
                       c->room.messages);
    for (size_t k = 0; k < sum->inputs && status == GP_OK; k++)
        status = gp_coder_check_bytes(sum->input[k].bytes);
    return status;
}

gp_status
gp_coder_fold(gp_coder *c, const gp_coder_sum *sums, size_t n, bool add,
              void *stream)
{
    const gp_coder_kernel *kernel = c->plan.fold;
    gp_status status;
    gp_coder_batch b;

    status = gp_coder_begin(c, kernel, "fold", n, stream, &b);
    for (size_t i = 0; i < n && status == GP_OK; i++) {
        gp_cuda_part none;

        status = check_sum(c, &b, &sums[i]);
        if (status != GP_OK)
            break;
        if (list_messages(c, &b, &sums[i], &none)) {
            gp_cuda_part *to =
                gp_coder_place(&b, i, kernel, false, sums[i].count);

            to->message = none.message;
            to->messages = none.messages;
            to->target = sums[i].target;
            to->offset = sums[i].input[0].context->offset;
            to->status = sums[i].status;
            if (c->plan.far)
                status = take_space(c, &b, i,
                                    &(gp_coder_part){.count = sums[i].count},
                                    TO_DECODE);
        } else {
            *sums[i].status = 1;
            (void)gp_coder_place(&b, i, kernel, false, 0);
        }
    }
    return status == GP_OK ? gp_coder_finish(c, &b, kernel, add, stream)
                           : status;
}
