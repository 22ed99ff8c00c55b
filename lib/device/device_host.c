/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device_host.c - the host's memory as a device: the reference for others.
 *
 * Nothing is ever queued, so there is nothing to wait for.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "device/device.h"

static gp_status
host_count(uint32_t *out)
{
    *out = 1;
    return GP_OK;
}

static gp_status
host_open(uint32_t index, gp_device **out)
{
    /* It has no state, so all openers share it. */
    static gp_device host = {&gp_device_host};

    if (index > 0)
        return gp_fail(GP_ERR_NOT_FOUND,
                       "there is one host device, index 0, not %u", index);
    *out = &host;
    return GP_OK;
}

static void
host_close(gp_device *device)
{
    (void)device;
}

static void
host_properties(const gp_device *device, gp_device_properties *out)
{
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);

    (void)device;
    *out = (gp_device_properties){
        .name = "host", .host_accessible = true, .unified = true};
    if (pages > 0 && size > 0)
        out->memory_bytes = (uint64_t)pages * (uint64_t)size;
}

static gp_status
host_alloc(gp_device *device, size_t bytes, void **out)
{
    void *block = gp_alloc_aligned(bytes ? bytes : 1);

    (void)device;
    if (!block)
        return gp_fail(GP_ERR_NO_MEMORY, "out of memory: %zu bytes", bytes);
    *out = block;
    return GP_OK;
}

static void
host_free(gp_device *device, void *block)
{
    (void)device;
    free(block);
}

static gp_status
host_copy(gp_device *device, void *to, const void *from, size_t bytes)
{
    (void)device;
    if (bytes)
        memmove(to, from, bytes);
    return GP_OK;
}

static gp_status
host_fill(gp_device *device, void *block, uint8_t value, size_t bytes)
{
    (void)device;
    if (bytes)
        memset(block, value, bytes);
    return GP_OK;
}

static gp_status
host_synchronize(gp_device *device)
{
    (void)device;
    return GP_OK;
}

const gp_device_ops gp_device_host = {
    .kind = "host",
    .count = host_count,
    .open = host_open,
    .close = host_close,
    .properties = host_properties,
    .alloc = host_alloc,
    .free = host_free,
    .copy_in = host_copy,
    .copy_out = host_copy,
    .copy_within = host_copy,
    .fill = host_fill,
    .synchronize = host_synchronize,
};
