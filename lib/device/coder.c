/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coder.c - coders and their memory.
 *
 * Everything a call takes is there before it: slots of the ring by which
 * kernels are told of parts (coder_launch.c), and the space that codecs ask
 * for, which one call uses at a time.
 */
#include <stdlib.h>

#include "base/base.h"
#include "device/coder_batch.h"

#define PARTS    64
#define MESSAGES 512
#define SLOTS    8
#define ELEMENTS ((size_t)1 << 24) /* the largest chunk */

/* Where what codecs ask for begins, in the block of the device. */
static bool
list_bytes(const gp_coder *c, const gp_coder_room *room, size_t *out)
{
    size_t each = sizeof(gp_cuda_part), parts, messages;

    if (gp_coder_around(c) || gp_coder_remembers(c))
        each += 2 * sizeof(gp_cuda_part) + sizeof(gp_select);
    if (!gp_mul(room->parts, each, &parts) ||
        !gp_mul(room->messages, sizeof(gp_cuda_message), &messages) ||
        !gp_add(parts, messages, out) || !gp_add(*out, 63, out))
        return false;
    *out &= ~(size_t)63;
    return true;
}

size_t
gp_coder_rotation_bytes(const gp_coder *c, size_t count)
{
    return c->plan.rotated ? (count * sizeof(float) + 127) / 64 * 64 : 0;
}

size_t
gp_coder_memory_bytes(const gp_coder *c, size_t count)
{
    if (!gp_coder_remembers(c) || gp_coder_prepares(c))
        return 0;
    return ((c->plan.sums ? 0 : count * sizeof(float)) + 127) / 64 * 64 +
           gp_coder_norm_bytes(c, count);
}

size_t
gp_coder_space_of(const gp_coder *c, size_t count)
{
    size_t memory = gp_coder_memory_bytes(c, count);

    if (gp_coder_selects(c))
        return memory + gp_coder_lay_select(c->pipeline, &c->plan, 0, count,
                                            NULL, NULL, NULL);
    return memory + gp_coder_rotation_bytes(c, count) +
           (c->plan.space ? (c->plan.space(c->pipeline, count) + 63) / 64 * 64
                          : 0);
}

bool
gp_coder_space(const gp_coder *c, const gp_coder_room *room, size_t *out)
{
    size_t heads;

    return gp_mul(room->parts, gp_coder_space_of(c, 0), &heads) &&
           gp_add(heads, gp_coder_space_of(c, room->elements), out);
}

static void
close_slots(gp_device *d, gp_coder_slot *slots, size_t n)
{
    for (size_t i = 0; slots && i < n; i++) {
        d->ops->free_pinned(d, slots[i].pinned);
        d->ops->free(d, slots[i].block);
        d->ops->event_destroy(d, slots[i].event);
    }
    free(slots);
}

static gp_status
open_slot(gp_device *d, size_t list, gp_coder_slot *s)
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
open_slots(const gp_coder *c, const gp_coder_room *room, gp_coder_slot **out)
{
    gp_coder_slot *slots = calloc(room->slots, sizeof(*slots));
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

    if (!gp_coder_space(c, room, &bytes))
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
    gp_coder_slot *slots = NULL;
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

    (void)gp_coder_space(c, &c->room, &bytes);
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

/* Rotations have their block in shared memory. */
static gp_status
check_shared(const gp_coder *c)
{
    const gp_coder_plan *plan = &c->plan;
    uint32_t most = GP_MAX(plan->encode[0].shared, plan->before[0].shared);
    gp_device_properties p;

    for (size_t i = 1; i < GP_CODER_STEPS; i++)
        most = GP_MAX(most, plan->encode[i].shared);
    c->device->ops->properties(c->device, &p);
    if (most > p.block_shared)
        return gp_fail(GP_ERR_UNSUPPORTED,
                       "codec %s: its blocks take %u bytes of shared memory, "
                       "and %s has %u: make them smaller, or use the device "
                       "cpu",
                       gp_pipeline_name(c->pipeline), most, p.name,
                       p.block_shared);
    return GP_OK;
}

/* One after the other. */
static gp_status
load(gp_device *d, const gp_coder_kernel *kernel, size_t most)
{
    gp_status status = GP_OK;

    for (size_t i = 0; i < most && kernel[i].tile && status == GP_OK; i++) {
        const gp_launch l = {.kernel = kernel[i].kernel,
                             .shared = kernel[i].shared};

        status = d->ops->load(d, &l);
    }
    return status;
}

/* All that calls may launch: by then a stream may wait for what they do. */
static gp_status
load_kernels(gp_device *d, const gp_coder_plan *p)
{
    static const gp_coder_kernel each[] = {
        {.kernel = GP_KERNEL_gp_cuda_finish, .tile = 1},
        {.kernel = GP_KERNEL_gp_cuda_decay, .tile = 1},
        {.kernel = GP_KERNEL_gp_cuda_remember, .tile = 1},
        {.kernel = GP_KERNEL_gp_cuda_keep, .tile = 1},
        {.kernel = GP_KERNEL_gp_cuda_clip_sum, .tile = 1},
        {.kernel = GP_KERNEL_gp_cuda_clip_settle, .tile = 1}};
    const struct {
        const gp_coder_kernel *kernel;
        size_t most;
    } lists[] = {{p->encode, GP_CODER_STEPS},  {p->decode, GP_CODER_STEPS},
                 {p->fold, GP_CODER_STEPS},    {p->before, GP_CODER_AROUND},
                 {p->after, GP_CODER_STEPS},   {p->back, GP_CODER_STEPS},
                 {p->open, GP_CODER_AROUND},   {p->undo, GP_CODER_STEPS},
                 {p->whole, GP_CODER_STEPS},   {p->look, GP_CODER_AROUND},
                 {p->propose, GP_CODER_STEPS}, {each, GP_COUNT_OF(each)}};
    gp_status status = GP_OK;

    for (size_t i = 0; i < GP_COUNT_OF(lists) && status == GP_OK; i++)
        status = load(d, lists[i].kernel, lists[i].most);
    return status;
}

gp_status
gp_coder_open(gp_device *device, const gp_pipeline *pipeline, gp_coder **out)
{
    static const gp_coder_room room = {PARTS, MESSAGES, SLOTS, ELEMENTS};
    gp_device_properties p;
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
    c->device->ops->properties(c->device, &p);
    c->plan.block_shared = p.block_shared;
    status = gp_coder_find_plan(pipeline, &c->plan);
    if (status == GP_OK)
        status = check_shared(c);
    if (status == GP_OK)
        status = load_kernels(device, &c->plan);
    if (status == GP_OK && c->plan.rounds)
        status = device->ops->multiplies(device);
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
    return !gp_coder_selects(c) && !c->plan.varies;
}

bool
gp_coder_multiplies(const gp_coder *c)
{
    return c->plan.rounds > 0;
}

size_t
gp_coder_length(const gp_coder *c, size_t count)
{
    return c->plan.length ? c->plan.length(c->pipeline, count)
                          : gp_coder_bound(c, count);
}
