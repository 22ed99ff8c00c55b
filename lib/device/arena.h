/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arena.h - memory of a device, or pinned memory for it, that is kept.
 *
 * Getting either from a driver costs milliseconds and may wait for what runs on
 * the device, so an arena asks for whole multiples of 2 MiB, hands out parts of
 * them, and gives nothing back before it is closed. Such a segment holds nobody
 * else's data, so that it can be shown to a network card.
 */
#ifndef GP_ARENA_H
#define GP_ARENA_H

#include "device/device.h"

#define GP_ARENA_SEGMENT ((size_t)2 << 20)
#define GP_ARENA_ALIGN   ((size_t)256)

typedef struct gp_device_arena gp_device_arena;

/* Borrows the device. `pinned`: memory of the host that it accesses. */
gp_status gp_device_arena_open(gp_device *device, bool pinned,
                               gp_device_arena **out);
/* Frees all of it, whether it was given back or not. NULL is fine. */
void gp_device_arena_close(gp_device_arena *arena);

/* Aligned to GP_ARENA_ALIGN, content unspecified. Any thread.
 * GP_ERR_NO_MEMORY, or what the device says. */
gp_status gp_device_arena_take(gp_device_arena *arena, size_t bytes,
                               void **out);
/* A block that was taken; NULL is fine. Any thread. */
void gp_device_arena_give(gp_device_arena *arena, void *block);

/* The segment that a block lies in. */
bool gp_device_arena_segment(const gp_device_arena *arena, const void *block,
                             void **base, size_t *bytes);

/* What it has got from the device. */
size_t gp_device_arena_bytes(const gp_device_arena *arena);

#endif
