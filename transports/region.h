/* SPDX-License-Identifier: Apache-2.0 */
/*
 * region.h - the ranges one endpoint's peer may write into, for transports
 * that check every message in software.
 *
 * A token is an index and a generation, so that a token that was withdrawn is
 * told apart from one that was never issued.
 */
#ifndef GP_REGION_H
#define GP_REGION_H

#include <gradpush/transport.h>

#include "base/base.h"

/* Memory that was only noted, not registered with a device. */
struct gp_mem {
    uint8_t *base;
    size_t bytes;
};

typedef struct gp_region {
    uint8_t *base;
    size_t bytes;
    uint32_t flags;
    uint32_t generation; /* of the last token issued for this slot */
    uint32_t next_free;
    bool live;
} gp_region;

/* All zero is an empty table. */
typedef struct gp_regions {
    gp_region *slots;
    uint32_t count, capacity;
    uint32_t free;    /* 1 + index of the first free slot, 0 for none */
    uint64_t largest; /* bytes of the largest range ever exposed */
} gp_regions;

gp_status gp_mem_note(void *base, size_t bytes, gp_mem **out);

gp_status gp_regions_expose(gp_regions *regions, const gp_mem *mem,
                            size_t offset, size_t bytes, uint32_t flags,
                            uint32_t *token);
void gp_regions_withdraw(gp_regions *regions, uint32_t token);

/* Where a message goes. GP_OK: *to is the first byte, or NULL when the token
 * was withdrawn and the payload is to be discarded. GP_ERR_PROTOCOL: a token
 * that was never issued, or a range outside. Sets no error text: the input is
 * a stranger's. `flags` may be NULL. */
gp_status gp_regions_find(const gp_regions *regions, uint32_t token,
                          uint64_t offset, uint64_t length, uint8_t **to,
                          uint32_t *flags);
void gp_regions_free(gp_regions *regions);

#define GP_REGION_INDEX_BITS 20u

/* The same of a range that exists; NULL: it takes a closer look. */
static inline uint8_t *
gp_regions_at(const gp_regions *regions, uint32_t token, uint64_t offset,
              uint64_t length)
{
    uint32_t index = token & ((1u << GP_REGION_INDEX_BITS) - 1);
    const gp_region *slot;

    if (index >= regions->count)
        return NULL;
    slot = &regions->slots[index];
    return slot->live && slot->generation == token >> GP_REGION_INDEX_BITS &&
                   offset <= slot->bytes && length <= slot->bytes - offset
               ? slot->base + offset
               : NULL;
}

#endif
