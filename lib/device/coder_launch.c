/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coder_launch.c - launches over many parts, and the ring that tells kernels of
 * them.
 *
 * A slot is a block of pinned memory and one of the device, of the same layout:
 * parts, then the messages of folds. A call fills the former, queues a copy to
 * the latter, the kernels, and an event behind them; when the event is done the
 * slot is free. Kernels look parts up many times, which over the bus would cost
 * more than the copy.
 */
#include "base/base.h"
#include "device/coder_batch.h"

/* Tiles of a part for each of several blocks that work on it: as many as a
 * block has warps, and by each warp less than a block costs to begin with. */
#define TILES_EACH 8u

static gp_status
find_slot(gp_coder *c, gp_coder_slot **out)
{
    for (size_t i = 0; i < c->room.slots; i++) {
        gp_coder_slot *s = &c->slots[i];
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

gp_status
gp_coder_begin(gp_coder *c, const gp_coder_kernel *kernel, const char *what,
               size_t n, void *stream, gp_coder_batch *out)
{
    gp_status status;

    if (!kernel->tile)
        return gp_fail(GP_ERR_UNSUPPORTED, "codec %s: no kernel to %s",
                       c->pipeline->name, what);
    if (gp_coder_around(c) && kernel != c->plan.before &&
        kernel != c->plan.undo && kernel != c->plan.look)
        return gp_fail(GP_ERR_UNSUPPORTED, "codec %s: no kernel to %s it",
                       c->pipeline->name, what);
    if (n > c->room.parts)
        return gp_fail(GP_ERR_TOO_LARGE,
                       "%zu parts in a call, room for %zu: reserve more", n,
                       c->room.parts);
    *out = (gp_coder_batch){.n = n};
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

/* What a launch goes over. */
typedef struct list {
    size_t first; /* of the slot's parts */
    uint64_t blocks;
    bool leveled; /* kernels take a level in place of the second word */
} part_list;

static gp_status
launch(gp_coder *c, const gp_coder_batch *b, const part_list *over,
       const gp_coder_kernel *kernel, bool add, void *stream)
{
    const uint8_t *parts = b->slot->block + over->first * sizeof(gp_cuda_part);
    uint32_t n = (uint32_t)b->n, flag = add, level = kernel->level;
    void *args[3 + GP_CODER_WORDS] = {&parts, &n, &c->plan.word[0], &flag};
    uint64_t each = GP_MAX(over->blocks / GP_MAX(n, 1u) / TILES_EACH, 1u);
    gp_launch l = {.kernel = kernel->kernel,
                   .grid = kernel->per_part
                               ? n * (uint32_t)GP_MIN(each, kernel->per_part)
                               : (uint32_t)over->blocks,
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
launch_all(gp_coder *c, const gp_coder_batch *b, const part_list *over,
           const gp_coder_kernel *kernel, size_t most, bool add, void *stream)
{
    gp_status status = GP_OK;

    for (size_t i = 0; i < most && kernel[i].tile && status == GP_OK; i++)
        status = launch(c, b, over, &kernel[i], add, stream);
    return status;
}

gp_status
gp_coder_launch_one(gp_coder *c, const gp_coder_batch *b,
                    const gp_coder_kernel *kernel, bool add, void *stream)
{
    return launch(c, b, &(part_list){0, b->blocks, false}, kernel, add, stream);
}

/* Selections: choose, encode what was chosen, and make a message of both.
 * Transforms: there, encode, and back. */
static gp_status
launch_around(gp_coder *c, const gp_coder_batch *b, void *stream)
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
launch_undo(gp_coder *c, const gp_coder_batch *b, bool add, void *stream)
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
launch_each(gp_coder *c, const gp_coder_batch *b, gp_kernel_id id,
            const gp_coder_kernel *like, void *stream)
{
    const gp_coder_kernel k = {id, like->tile, 256, false, like->tile, 0};

    return launch(c, b, &(part_list){0, b->blocks, true}, &k, false, stream);
}

/* What becomes of gradients before they are encoded. */
static gp_status
launch_memory(gp_coder *c, const gp_coder_batch *b,
              const gp_coder_kernel *kernel, void *stream)
{
    const gp_coder_kernel settle = {GP_KERNEL_gp_cuda_clip_settle,
                                    kernel->tile,
                                    256,
                                    true,
                                    kernel->tile,
                                    0};
    gp_status status = GP_OK;

    if (!b->makes)
        return GP_OK;
    if (b->clips)
        status = launch_each(c, b, GP_KERNEL_gp_cuda_clip_sum, kernel, stream);
    if (b->clips && status == GP_OK)
        status = launch(c, b, &(part_list){0, b->blocks, true}, &settle, false,
                        stream);
    return status == GP_OK
               ? launch_each(c, b, GP_KERNEL_gp_cuda_remember, kernel, stream)
               : status;
}

/* What the device reads, and then the kernels. */
static gp_status
queue(gp_coder *c, const gp_coder_batch *b, const gp_coder_kernel *kernel,
      bool add, void *stream)
{
    const uint8_t *end = (uint8_t *)(b->messages + b->message_count);
    const part_list all = {0, b->blocks, false};
    gp_status status;

    if (gp_coder_around(c) || b->keeps)
        end = (uint8_t *)(b->selects + b->n);
    status =
        c->device->ops->copy_async(c->device, b->slot->block, b->slot->pinned,
                                   (size_t)(end - b->slot->pinned), stream);
    if (status == GP_OK && b->fades)
        status = launch_each(c, b, GP_KERNEL_gp_cuda_decay, kernel, stream);
    if (status == GP_OK)
        status = launch_memory(c, b, kernel, stream);
    if (status != GP_OK)
        return status;
    if (kernel == &c->plan.whole[1])
        return gp_coder_launch_whole(c, b, stream);
    if (kernel == c->plan.look)
        return launch_all(c, b, &(part_list){0, b->blocks, true}, kernel,
                          GP_CODER_AROUND, false, stream);
    if (kernel == c->plan.undo)
        return launch_undo(c, b, add, stream);
    return gp_coder_around(c)
               ? launch_around(c, b, stream)
               : launch_all(c, b, &all, kernel, GP_CODER_STEPS, add, stream);
}

/* There is one space: work of another stream waits for the work that had it.
 * The calling thread's own stream may have been another thread's. */
static gp_status
wait_for_space(gp_coder *c, const gp_coder_batch *b, void *stream)
{
    if (!b->space || !c->last ||
        (c->last_stream == stream && stream != GP_STREAM_PER_THREAD))
        return GP_OK;
    return c->device->ops->event_wait(c->device, c->last->event, stream);
}

/* What was sent, decoded, and kept. */
static gp_status
launch_keep(gp_coder *c, const gp_coder_batch *b, const gp_coder_kernel *kernel,
            void *stream)
{
    const part_list all = {0, b->blocks, true};
    const part_list sent = {2 * b->n, b->sent_blocks, false};
    gp_status status =
        launch_all(c, b, &sent, c->plan.decode, GP_CODER_STEPS, false, stream);

    if (status == GP_OK && c->plan.rotated)
        status =
            launch_all(c, b, &all, c->plan.undo, GP_CODER_STEPS, false, stream);
    return status == GP_OK
               ? launch_each(c, b, GP_KERNEL_gp_cuda_keep, kernel, stream)
               : status;
}

gp_status
gp_coder_finish(gp_coder *c, gp_coder_batch *b, const gp_coder_kernel *kernel,
                bool add, void *stream)
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
    if (status == GP_OK && b->keeps)
        status = launch_keep(c, b, kernel, stream);
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
