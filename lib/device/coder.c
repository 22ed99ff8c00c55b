/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coder.c - launches over many parts, and the ring that tells kernels of them.
 *
 * A slot is a block of pinned memory and one of the device, of the same layout:
 * parts, then the messages of folds. A call fills the former, queues a copy to
 * the latter, the kernels, and an event behind them; when the event is done the
 * slot is free. Kernels look parts up many times, which over the bus would cost
 * more than the copy.
 */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "device/coder_codecs.h"

#define PARTS    64
#define MESSAGES 512
#define SLOTS    8
#define ELEMENTS ((size_t)1 << 24) /* the largest chunk */

typedef struct slot {
    uint8_t *pinned;
    uint8_t *block; /* of the device */
    gp_device_event *event;
    bool used; /* the event stands for work */
    bool lost; /* work may be under way that no event stands for */
} slot;

struct gp_coder {
    gp_device *device;
    const gp_pipeline *pipeline;
    gp_coder_plan plan;
    gp_coder_room room;
    slot *slots;
    uint8_t *space; /* what codecs ask for; one call uses it at a time */
    slot *last;     /* that used it, on a stream */
    void *last_stream;
};

/* What a call has put into its slot. */
typedef struct batch {
    slot *slot;
    gp_cuda_part *parts;       /* pinned */
    gp_cuda_message *messages; /* behind the parts */
    size_t message_count;
    /* Selections: likewise, what is chosen of each, and what was sent. */
    gp_cuda_part *values, *sent;
    gp_select *selects;
    uint64_t value_blocks, sent_blocks;
    bool back;  /* selections: something is fed back */
    bool ends;  /* sums have to be finished */
    bool fades; /* there are residuals that decay */
    size_t n;
    uint64_t blocks;
    size_t space; /* bytes of the coder's that are taken */
} batch;

/* ---- memory ---------------------------------------------------------- */

static bool
selects(const gp_coder *c)
{
    return c->pipeline->select != NULL;
}

/* Whether the array stage works on what other kernels made. */
static bool
around(const gp_coder *c)
{
    return selects(c) || c->plan.rotated;
}

/* Where what codecs ask for begins, in the block of the device. */
static bool
list_bytes(const gp_coder *c, const gp_coder_room *room, size_t *out)
{
    size_t each = sizeof(gp_cuda_part), parts, messages;

    if (around(c))
        each += 2 * sizeof(gp_cuda_part) + sizeof(gp_select);
    if (!gp_mul(room->parts, each, &parts) ||
        !gp_mul(room->messages, sizeof(gp_cuda_message), &messages) ||
        !gp_add(parts, messages, out) || !gp_add(*out, 63, out))
        return false;
    *out &= ~(size_t)63;
    return true;
}

/* Elements behind a transform, and a status that nobody reads. */
static size_t
rotation_bytes(const gp_coder *c, size_t count)
{
    return c->plan.rotated ? (count * sizeof(float) + 127) / 64 * 64 : 0;
}

static size_t
space_of(const gp_coder *c, size_t count)
{
    if (selects(c))
        return gp_coder_lay_select(c->pipeline, &c->plan, 0, count, NULL, NULL,
                                   NULL);
    return rotation_bytes(c, count) +
           (c->plan.space ? (c->plan.space(c->pipeline, count) + 63) / 64 * 64
                          : 0);
}

static bool
space_bytes(const gp_coder *c, const gp_coder_room *room, size_t *out)
{
    size_t heads;

    return gp_mul(room->parts, space_of(c, 0), &heads) &&
           gp_add(heads, space_of(c, room->elements), out);
}

static void
close_slots(gp_device *d, slot *slots, size_t n)
{
    for (size_t i = 0; slots && i < n; i++) {
        d->ops->free_pinned(d, slots[i].pinned);
        d->ops->free(d, slots[i].block);
        d->ops->event_destroy(d, slots[i].event);
    }
    free(slots);
}

static gp_status
open_slot(gp_device *d, size_t list, slot *s)
{
    void *pinned = NULL, *block = NULL;
    gp_status status = d->ops->alloc_pinned(d, list, &pinned);

    s->pinned = pinned;
    if (status == GP_OK)
        status = d->ops->alloc(d, list, &block);
    s->block = block;
    return status == GP_OK ? d->ops->event_create(d, &s->event) : status;
}

static gp_status
open_slots(const gp_coder *c, const gp_coder_room *room, slot **out)
{
    slot *slots = calloc(room->slots, sizeof(*slots));
    gp_status status = GP_OK;
    size_t list = 0;

    if (!slots || !list_bytes(c, room, &list))
        status =
            gp_fail(GP_ERR_NO_MEMORY, "no memory for %zu parts", room->parts);
    for (size_t i = 0; i < room->slots && status == GP_OK; i++)
        status = open_slot(c->device, list, &slots[i]);
    if (status == GP_OK)
        *out = slots;
    else
        close_slots(c->device, slots, room->slots);
    return status;
}

static gp_status
open_space(const gp_coder *c, const gp_coder_room *room, uint8_t **out)
{
    void *block = NULL;
    size_t bytes = 0;
    gp_status status = GP_OK;

    if (!space_bytes(c, room, &bytes))
        return gp_fail(GP_ERR_NO_MEMORY, "no memory for %zu elements",
                       room->elements);
    if (bytes)
        status = c->device->ops->alloc(c->device, bytes, &block);
    if (status == GP_OK)
        *out = block;
    return status;
}

gp_status
gp_coder_reserve(gp_coder *c, const gp_coder_room *room)
{
    gp_coder_room r = {GP_MAX(room->parts, c->room.parts),
                       GP_MAX(room->messages, c->room.messages),
                       GP_MAX(room->slots, c->room.slots),
                       GP_MAX(room->elements, c->room.elements)};
    slot *slots = NULL;
    uint8_t *space = NULL;
    gp_status status = GP_OK;

    /* Not where nothing is under way: a stream of the device may wait for what
     * the caller does next. */
    if (c->slots)
        status = c->device->ops->synchronize(c->device);
    if (status == GP_OK)
        status = open_slots(c, &r, &slots);
    if (status == GP_OK)
        status = open_space(c, &r, &space);
    if (status != GP_OK) {
        close_slots(c->device, slots, r.slots);
        return status;
    }
    close_slots(c->device, c->slots, c->room.slots);
    c->device->ops->free(c->device, c->space);
    c->slots = slots;
    c->space = space;
    c->last = NULL;
    c->room = r;
    return GP_OK;
}

size_t
gp_coder_memory(const gp_coder *c)
{
    size_t bytes = 0;

    (void)space_bytes(c, &c->room, &bytes);
    return gp_coder_pinned(c) + bytes;
}

size_t
gp_coder_pinned(const gp_coder *c)
{
    size_t bytes = 0;

    (void)list_bytes(c, &c->room, &bytes);
    return bytes * c->room.slots;
}

/* ---- opening --------------------------------------------------------- */

gp_status
gp_coder_open(gp_device *device, const gp_pipeline *pipeline, gp_coder **out)
{
    static const gp_coder_room room = {PARTS, MESSAGES, SLOTS, ELEMENTS};
    gp_coder *c;
    gp_status status;

    if (device->ops == &gp_device_host)
        return gp_fail(GP_ERR_UNSUPPORTED,
                       "the host has no kernels: use gp_pipeline_encode()");
    c = calloc(1, sizeof(*c));
    if (!c)
        return gp_fail(GP_ERR_NO_MEMORY, "no memory for a coder");
    c->device = device;
    c->pipeline = pipeline;
    status = gp_coder_find_plan(pipeline, &c->plan);
    if (status == GP_OK)
        status = gp_coder_reserve(c, &room);
    if (status != GP_OK) {
        free(c);
        return status;
    }
    *out = c;
    return GP_OK;
}

void
gp_coder_close(gp_coder *c)
{
    if (!c)
        return;
    (void)c->device->ops->synchronize(c->device);
    close_slots(c->device, c->slots, c->room.slots);
    c->device->ops->free(c->device, c->space);
    free(c);
}

size_t
gp_coder_bound(const gp_coder *c, size_t count)
{
    return gp_pipeline_bound(c->pipeline, count);
}

bool
gp_coder_fixed(const gp_coder *c)
{
    return !selects(c);
}

size_t
gp_coder_length(const gp_coder *c, size_t count)
{
    return c->plan.length ? c->plan.length(c->pipeline, count)
                          : gp_coder_bound(c, count);
}

/* ---- calls ----------------------------------------------------------- */

static gp_status
find_slot(gp_coder *c, slot **out)
{
    for (size_t i = 0; i < c->room.slots; i++) {
        slot *s = &c->slots[i];
        gp_status status = GP_OK;

        if (s->lost)
            continue;
        if (s->used)
            status = c->device->ops->event_query(c->device, s->event);
        if (status == GP_PENDING)
            continue;
        *out = s;
        s->used = false;
        return status;
    }
    return GP_AGAIN;
}

/* What a call leaves in a slot is of no use to a graph launched later. */
static gp_status
check_capture(const gp_coder *c, void *stream)
{
    bool capturing = false;
    gp_status status =
        c->device->ops->is_capturing(c->device, stream, &capturing);

    if (status == GP_OK && capturing)
        return gp_fail(GP_ERR_UNSUPPORTED,
                       "codec %s: a graph is being captured from the stream",
                       c->pipeline->name);
    return status;
}

static gp_status
begin(gp_coder *c, const gp_coder_kernel *kernel, const char *what, size_t n,
      void *stream, batch *out)
{
    gp_status status;

    if (!kernel->tile)
        return gp_fail(GP_ERR_UNSUPPORTED, "codec %s: no kernel to %s",
                       c->pipeline->name, what);
    if (around(c) && kernel != c->plan.before && kernel != c->plan.undo)
        return gp_fail(GP_ERR_UNSUPPORTED, "codec %s: no kernel to %s it",
                       c->pipeline->name, what);
    if (n > c->room.parts)
        return gp_fail(GP_ERR_TOO_LARGE,
                       "%zu parts in a call, room for %zu: reserve more", n,
                       c->room.parts);
    *out = (batch){.n = n};
    status = check_capture(c, stream);
    if (status == GP_OK)
        status = find_slot(c, &out->slot);
    if (status != GP_OK)
        return status;
    out->parts = (gp_cuda_part *)out->slot->pinned;
    out->messages = (gp_cuda_message *)(out->parts + n);
    out->values = out->parts + n;
    out->sent = out->values + n;
    out->selects = (gp_select *)(out->sent + n);
    return GP_OK;
}

static gp_cuda_stream
random_of(const gp_coder *c, const gp_codec_context *context)
{
    gp_cuda_stream out = {.shift = 0};
    gp_stream s;

    if (!c->plan.use)
        return out;
    s = gp_stream_of(context, c->plan.use);
    memcpy(out.key, s.key, sizeof(out.key));
    memcpy(out.step, s.step, sizeof(out.step));
    out.shift = gp_round_shift(c->plan.round, context);
    return out;
}

static uint64_t
blocks_of(const gp_coder_kernel *kernel, uint64_t count)
{
    return count / kernel->tile + (count % kernel->tile != 0);
}

/* Where the next part goes, told of its share of the grid. */
static gp_cuda_part *
place(batch *b, size_t i, const gp_coder_kernel *kernel, bool heads,
      size_t count)
{
    b->parts[i] =
        (gp_cuda_part){.count = count, .first_block = (uint32_t)b->blocks};
    b->blocks += blocks_of(kernel, count);
    if (count == 0 && heads)
        b->blocks++;
    return &b->parts[i];
}

/* What a launch goes over. */
typedef struct list {
    size_t first; /* of the slot's parts */
    uint64_t blocks;
    bool leveled; /* kernels take a level in place of the second word */
} part_list;

static gp_status
launch(gp_coder *c, const batch *b, const part_list *over,
       const gp_coder_kernel *kernel, bool add, void *stream)
{
    const uint8_t *parts = b->slot->block + over->first * sizeof(gp_cuda_part);
    uint32_t n = (uint32_t)b->n, flag = add, level = kernel->level;
    void *args[3 + GP_CODER_WORDS] = {&parts, &n, &c->plan.word[0], &flag};
    gp_launch l = {.kernel = kernel->kernel,
                   .grid = kernel->per_part ? n : (uint32_t)over->blocks,
                   .block = kernel->threads,
                   .shared = kernel->shared,
                   .args = args};

    for (size_t i = 1; i < GP_CODER_WORDS; i++)
        args[3 + i] = &c->plan.word[i];
    if (over->leveled)
        args[4] = &level;
    return c->device->ops->launch(c->device, &l, stream);
}

static gp_status
launch_all(gp_coder *c, const batch *b, const part_list *over,
           const gp_coder_kernel *kernel, size_t most, bool add, void *stream)
{
    gp_status status = GP_OK;

    for (size_t i = 0; i < most && kernel[i].tile && status == GP_OK; i++)
        status = launch(c, b, over, &kernel[i], add, stream);
    return status;
}

/* Selections: choose, encode what was chosen, and make a message of both.
 * Transforms: there, encode, and back. */
static gp_status
launch_around(gp_coder *c, const batch *b, void *stream)
{
    const gp_coder_plan *p = &c->plan;
    const part_list all = {0, b->blocks, true};
    const part_list values = {b->n, b->value_blocks, false};
    const part_list sent = {2 * b->n, b->sent_blocks, false};
    gp_status status =
        launch_all(c, b, &all, p->before, GP_CODER_AROUND, false, stream);

    if (status == GP_OK)
        status =
            launch_all(c, b, &values, p->encode, GP_CODER_STEPS, false, stream);
    if (status == GP_OK && b->back)
        status =
            launch_all(c, b, &sent, p->decode, GP_CODER_STEPS, false, stream);
    if (status == GP_OK && b->back)
        status = launch_all(c, b, &all, p->back, GP_CODER_STEPS, false, stream);
    if (status == GP_OK)
        status =
            launch_all(c, b, &all, p->after, GP_CODER_STEPS, false, stream);
    return status;
}

/* The decoder of the array stage, and what is around it. */
static gp_status
launch_undo(gp_coder *c, const batch *b, bool add, void *stream)
{
    const part_list all = {0, b->blocks, true};
    const part_list sent = {2 * b->n, b->sent_blocks, false};
    gp_status status =
        launch_all(c, b, &all, c->plan.open, GP_CODER_AROUND, add, stream);

    if (status == GP_OK)
        status = launch_all(c, b, &sent, c->plan.decode, GP_CODER_STEPS, false,
                            stream);
    if (status == GP_OK)
        status =
            launch_all(c, b, &all, c->plan.undo, GP_CODER_STEPS, add, stream);
    return status;
}

/* Element by element, by the blocks of the kernel that is next or was last. */
static gp_status
launch_each(gp_coder *c, const batch *b, gp_kernel_id id,
            const gp_coder_kernel *like, void *stream)
{
    const gp_coder_kernel k = {id, like->tile, 256, false, like->tile, 0};

    return launch(c, b, &(part_list){0, b->blocks, true}, &k, false, stream);
}

/* What the device reads, and then the kernels. */
static gp_status
queue(gp_coder *c, const batch *b, const gp_coder_kernel *kernel, bool add,
      void *stream)
{
    const uint8_t *end = (uint8_t *)(b->messages + b->message_count);
    const part_list all = {0, b->blocks, false};
    gp_status status;

    if (around(c))
        end = (uint8_t *)(b->selects + b->n);
    status =
        c->device->ops->copy_async(c->device, b->slot->block, b->slot->pinned,
                                   (size_t)(end - b->slot->pinned), stream);
    if (status == GP_OK && b->fades)
        status = launch_each(c, b, GP_KERNEL_gp_cuda_decay, kernel, stream);
    if (status != GP_OK)
        return status;
    if (kernel == c->plan.undo)
        return launch_undo(c, b, add, stream);
    return around(c)
               ? launch_around(c, b, stream)
               : launch_all(c, b, &all, kernel, GP_CODER_STEPS, add, stream);
}

/* There is one space: work of another stream waits for the work that had it.
 * The calling thread's own stream may have been another thread's. */
static gp_status
wait_for_space(gp_coder *c, const batch *b, void *stream)
{
    if (!b->space || !c->last ||
        (c->last_stream == stream && stream != GP_STREAM_PER_THREAD))
        return GP_OK;
    return c->device->ops->event_wait(c->device, c->last->event, stream);
}

static gp_status
finish(gp_coder *c, batch *b, const gp_coder_kernel *kernel, bool add,
       void *stream)
{
    gp_status status, recorded;

    if (b->blocks == 0)
        return GP_OK;
    if (GP_MAX(b->blocks, GP_MAX(b->value_blocks, b->sent_blocks)) > INT32_MAX)
        return gp_fail(GP_ERR_TOO_LARGE,
                       "%llu blocks in a launch: make calls of fewer parts",
                       (unsigned long long)b->blocks);
    status = wait_for_space(c, b, stream);
    if (status != GP_OK)
        return status;
    status = queue(c, b, kernel, add, stream);
    if (status == GP_OK && b->ends)
        status = launch_each(c, b, GP_KERNEL_gp_cuda_finish, kernel, stream);
    recorded = c->device->ops->event_record(c->device, b->slot->event, stream);
    b->slot->used = recorded == GP_OK;
    b->slot->lost = recorded != GP_OK;
    if (b->space) {
        c->last = b->slot;
        c->last_stream = stream;
    }
    return status == GP_OK ? recorded : status;
}

/* Where the device sees what lies in the slot. */
static void *
as_device(const batch *b, const void *pinned)
{
    return b->slot->block + ((const uint8_t *)pinned - b->slot->pinned);
}

/* A part of a selection, and what the array stage will work on. */
static void
place_selection(const gp_coder *c, batch *b, size_t i, uint8_t *space,
                const gp_coder_part *p)
{
    gp_cuda_part values = {.offset = p->context.offset,
                           .random = random_of(c, &p->context)};
    gp_select *s = &b->selects[i];

    (void)gp_coder_lay_select(c->pipeline, &c->plan, p->context.step, p->count,
                              space, s, &values);
    b->values[i] = b->sent[i] = values;
    b->values[i].first_block = (uint32_t)b->value_blocks;
    b->sent[i].first_block = (uint32_t)b->sent_blocks;
    b->value_blocks += blocks_of(c->plan.encode, values.count);
    b->sent_blocks += blocks_of(c->plan.decode, values.count);
    if (c->plan.draws) {
        gp_stream draw = gp_stream_of(&p->context, GP_USE_SELECTION);

        memcpy(b->parts[i].random.key, draw.key, sizeof(draw.key));
        memcpy(b->parts[i].random.step, draw.step, sizeof(draw.step));
    }
    s->values = as_device(b, &b->values[i]);
    s->sent = as_device(b, &b->sent[i]);
    b->parts[i].space = as_device(b, s);
    b->back = b->back || p->residual;
}

/* A part behind a transform: what is in its space is encoded, and decoded to
 * there. */
static void
place_rotation(const gp_coder *c, batch *b, size_t i, uint8_t *space,
               const gp_coder_part *p)
{
    size_t own = rotation_bytes(c, p->count);
    gp_stream s = gp_stream_of(&p->context, GP_USE_SIGNS);
    gp_cuda_part values = {.source = (float *)space,
                           .target = (float *)space,
                           .bytes = p->bytes,
                           .count = p->count,
                           .offset = p->context.offset,
                           .random = random_of(c, &p->context),
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

/* What the codec asked for, behind that of the parts before. */
static gp_status
take_space(const gp_coder *c, batch *b, size_t i, const gp_coder_part *p)
{
    size_t total = 0, bytes = space_of(c, p->count);
    uint8_t *space;

    if (!bytes)
        return GP_OK;
    (void)space_bytes(c, &c->room, &total);
    if (bytes > total - b->space)
        return gp_fail(GP_ERR_TOO_LARGE,
                       "room for %zu elements in a call: reserve more",
                       c->room.elements);
    space = c->space + b->space;
    b->parts[i].space = space;
    if (selects(c))
        place_selection(c, b, i, space, p);
    else if (c->plan.rotated)
        place_rotation(c, b, i, space, p);
    b->space += bytes;
    return GP_OK;
}

/* Selections are placed by the tiles of their own kernels. */
static const gp_coder_kernel *
encoder_of(const gp_coder *c)
{
    return around(c) ? c->plan.before : c->plan.encode;
}

static const gp_coder_kernel *
decoder_of(const gp_coder *c)
{
    return around(c) ? c->plan.undo : c->plan.decode;
}

gp_status
gp_coder_encode(gp_coder *c, const gp_coder_part *parts, size_t n, void *stream)
{
    const gp_coder_kernel *kernel = encoder_of(c);
    gp_status status;
    batch b;

    status = begin(c, kernel, "encode", n, stream, &b);
    for (size_t i = 0; i < n && status == GP_OK; i++) {
        const gp_coder_part *p = &parts[i];
        gp_cuda_part *to = place(&b, i, kernel, c->plan.heads, p->count);

        to->source = p->source;
        to->residual = p->residual;
        to->bytes = p->bytes;
        to->offset = p->context.offset;
        to->encoded = p->encoded;
        to->random = random_of(c, &p->context);
        to->scale = c->plan.decay;
        b.fades = b.fades || (p->residual && c->plan.decay != 1);
        if (p->encoded && gp_coder_fixed(c))
            *p->encoded = gp_coder_length(c, p->count);
        status = gp_coder_check_bytes(p->bytes);
        if (status == GP_OK)
            status = take_space(c, &b, i, p);
    }
    return status == GP_OK ? finish(c, &b, kernel, false, stream) : status;
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
    batch b;

    status = begin(c, kernel, "decode", n, stream, &b);
    for (size_t i = 0; i < n && status == GP_OK; i++) {
        const gp_coder_part *p = &parts[i];
        bool right = length_right(c, p->length, p->count);
        gp_cuda_part *to =
            place(&b, i, kernel, c->plan.heads && right, right ? p->count : 0);

        if (!right)
            *p->status = 1;
        to->target = p->target;
        to->bytes = p->bytes;
        to->offset = p->context.offset;
        to->length = right ? p->length : 0;
        to->random = random_of(c, &p->context);
        to->status = p->status;
        to->signs = p->signs;
        to->scale = p->scale != 0 ? p->scale : 1;
        b.ends = b.ends || p->signs || to->scale != 1;
        status = gp_coder_check_bytes(p->bytes);
        if (status == GP_OK && around(c))
            status = take_space(c, &b, i, p);
        if (around(c))
            b.sent[i].status = p->status;
    }
    return status == GP_OK ? finish(c, &b, kernel, add, stream) : status;
}

/* The messages of a sum go behind those of the ones before it. False for a
 * length that no message has. */
static bool
list_messages(const gp_coder *c, batch *b, const gp_coder_sum *sum,
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
                              .random = random_of(c, in->context)};
    }
    to->message = (const gp_cuda_message *)(b->slot->block + before);
    to->messages = (uint32_t)sum->inputs;
    return right;
}

static gp_status
check_sum(const gp_coder *c, const batch *b, const gp_coder_sum *sum)
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
    batch b;

    status = begin(c, kernel, "fold", n, stream, &b);
    for (size_t i = 0; i < n && status == GP_OK; i++) {
        gp_cuda_part none;

        status = check_sum(c, &b, &sums[i]);
        if (status != GP_OK)
            break;
        if (list_messages(c, &b, &sums[i], &none)) {
            gp_cuda_part *to = place(&b, i, kernel, false, sums[i].count);

            to->message = none.message;
            to->messages = none.messages;
            to->target = sums[i].target;
            to->offset = sums[i].input[0].context->offset;
            to->status = sums[i].status;
        } else {
            *sums[i].status = 1;
            (void)place(&b, i, kernel, false, 0);
        }
    }
    return status == GP_OK ? finish(c, &b, kernel, add, stream) : status;
}
