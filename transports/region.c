/* SPDX-License-Identifier: Apache-2.0 */
/*
 * region.c - tokens and the ranges behind them.
 *
 * A slot's generation only grows and a slot whose generations are used up is
 * retired, so a token is never issued twice for one endpoint.
 */
#include "transports/region.h"

#include <stdlib.h>

#define INDEX_BITS      GP_REGION_INDEX_BITS
#define INDEX_MAX       ((1u << INDEX_BITS) - 1)
#define GENERATION_LAST ((1u << (32 - INDEX_BITS)) - 1)

gp_status
gp_mem_note(void *base, size_t bytes, gp_mem **out)
{
    gp_mem *mem;
    uintptr_t end;

    if (!base && bytes)
        return gp_fail(GP_ERR_INVALID, "mem_reg: base is NULL");
    if (__builtin_add_overflow((uintptr_t)base, bytes, &end))
        return gp_fail(GP_ERR_INVALID, "mem_reg: %zu bytes at %p wrap around",
                       bytes, base);
    mem = malloc(sizeof(*mem));
    if (!mem)
        return gp_fail(GP_ERR_NO_MEMORY, "mem_reg: out of memory");
    mem->base = base;
    mem->bytes = bytes;
    *out = mem;
    return GP_OK;
}

static bool
grow(gp_regions *r)
{
    uint32_t capacity = r->capacity ? r->capacity * 2 : 8;
    gp_region *slots;

    if (r->count > INDEX_MAX)
        return false;
    slots = realloc(r->slots, (size_t)capacity * sizeof(*slots));
    if (!slots)
        return false;
    r->slots = slots;
    r->capacity = capacity;
    return true;
}

static gp_region *
take_slot(gp_regions *r)
{
    gp_region *slot;

    if (r->free) {
        slot = &r->slots[r->free - 1];
        r->free = slot->next_free;
        return slot;
    }
    if (r->count == r->capacity && !grow(r))
        return NULL;
    slot = &r->slots[r->count++];
    *slot = (gp_region){0};
    return slot;
}

gp_status
gp_regions_expose(gp_regions *r, const gp_mem *mem, size_t offset, size_t bytes,
                  uint32_t flags, uint32_t *token)
{
    gp_region *slot;

    if (!mem || offset > mem->bytes || bytes > mem->bytes - offset)
        return gp_fail(GP_ERR_INVALID,
                       "expose: %zu bytes at offset %zu lie outside the memory",
                       bytes, offset);
    slot = take_slot(r);
    if (!slot)
        return gp_fail(GP_ERR_NO_MEMORY,
                       "expose: no room for another region (%u exist)",
                       r->count);
    slot->base = mem->base + offset;
    slot->bytes = bytes;
    slot->flags = flags;
    slot->live = true;
    slot->generation++;
    r->largest = GP_MAX(r->largest, bytes);
    *token = slot->generation << INDEX_BITS | (uint32_t)(slot - r->slots);
    return GP_OK;
}

static gp_region *
live_slot(const gp_regions *r, uint32_t token)
{
    uint32_t index = token & INDEX_MAX;

    if (index >= r->count || !r->slots[index].live ||
        r->slots[index].generation != token >> INDEX_BITS)
        return NULL;
    return &r->slots[index];
}

void
gp_regions_withdraw(gp_regions *r, uint32_t token)
{
    gp_region *slot = live_slot(r, token);

    if (!slot)
        return;
    slot->live = false;
    slot->base = NULL;
    if (slot->generation == GENERATION_LAST)
        return;
    slot->next_free = r->free;
    r->free = (uint32_t)(slot - r->slots) + 1;
}

static bool
was_issued(const gp_regions *r, uint32_t token)
{
    uint32_t index = token & INDEX_MAX, generation = token >> INDEX_BITS;

    return index < r->count && generation > 0 &&
           generation <= r->slots[index].generation;
}

gp_status
gp_regions_find(const gp_regions *r, uint32_t token, uint64_t offset,
                uint64_t length, uint8_t **to, uint32_t *flags)
{
    const gp_region *slot = live_slot(r, token);

    if (!slot) {
        /* Discarding is bounded too: nobody had more room than this. */
        if (!was_issued(r, token) || length > r->largest)
            return GP_ERR_PROTOCOL;
        *to = NULL;
        return GP_OK;
    }
    if (offset > slot->bytes || length > slot->bytes - offset)
        return GP_ERR_PROTOCOL;
    *to = slot->base + offset;
    if (flags)
        *flags = slot->flags;
    return GP_OK;
}

void
gp_regions_free(gp_regions *r)
{
    free(r->slots);
    *r = (gp_regions){0};
}
