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

static gp_status
host_range_of(gp_device *device, const void *pointer, gp_device_range *out)
{
    (void)device;
    (void)pointer;
    (void)out;
    return GP_ERR_NOT_FOUND;
}

static gp_status
host_stream_create(gp_device *device, void **out)
{
    (void)device;
    *out = GP_STREAM_DEFAULT;
    return GP_OK;
}

static void
host_stream_destroy(gp_device *device, void *stream)
{
    (void)device;
    (void)stream;
}

static gp_status
host_is_capturing(gp_device *device, void *stream, bool *out)
{
    (void)device;
    (void)stream;
    *out = false;
    return GP_OK;
}

static gp_status
host_copy_async(gp_device *device, void *to, const void *from, size_t bytes,
                void *stream)
{
    (void)stream;
    return host_copy(device, to, from, bytes);
}

static gp_status
host_fill_async(gp_device *device, void *to, uint8_t value, size_t bytes,
                void *stream)
{
    (void)stream;
    return host_fill(device, to, value, bytes);
}

/* Whatever was queued is done. */
static gp_status
host_event_create(gp_device *device, gp_device_event **out)
{
    *out = (gp_device_event *)device;
    return GP_OK;
}

static void
host_event_destroy(gp_device *device, gp_device_event *event)
{
    (void)device;
    (void)event;
}

static gp_status
host_event_record(gp_device *device, gp_device_event *event, void *stream)
{
    (void)device;
    (void)event;
    (void)stream;
    return GP_OK;
}

static gp_status
host_event_query(gp_device *device, gp_device_event *event)
{
    (void)device;
    (void)event;
    return GP_OK;
}

static gp_status
host_wait_value(gp_device *device, const uint32_t *pinned, uint32_t value,
                void *stream)
{
    (void)device;
    (void)pinned;
    (void)value;
    (void)stream;
    return gp_fail(GP_ERR_UNSUPPORTED, "the host has no queue that waits");
}

static gp_status
host_call(gp_device *device, void (*call)(void *), void *with, void *stream)
{
    (void)device;
    (void)call;
    (void)with;
    (void)stream;
    return gp_fail(GP_ERR_UNSUPPORTED, "the host has no queue that calls");
}

static gp_status
host_load(gp_device *device, const gp_launch *launch)
{
    (void)device;
    (void)launch;
    return gp_fail(GP_ERR_NOT_FOUND, "the host runs no kernels");
}

static gp_status
host_launch(gp_device *device, const gp_launch *launch, void *stream)
{
    (void)device;
    (void)launch;
    (void)stream;
    return gp_fail(GP_ERR_NOT_FOUND, "the host runs no kernels");
}

static gp_status
host_export_range(gp_device *device, void *base, size_t bytes, int *fd)
{
    (void)device;
    (void)base;
    (void)bytes;
    (void)fd;
    return gp_fail(GP_ERR_UNSUPPORTED,
                   "memory of the host needs no export: register it");
}

static gp_status
host_multiplies(gp_device *device)
{
    (void)device;
    return gp_fail(GP_ERR_UNSUPPORTED, "the host multiplies by itself");
}

static gp_status
host_multiply(gp_device *device, const gp_product *product, void *stream)
{
    (void)product;
    (void)stream;
    return host_multiplies(device);
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
    .alloc_pinned = host_alloc,
    .free_pinned = host_free,
    .range_of = host_range_of,
    .stream_create = host_stream_create,
    .stream_destroy = host_stream_destroy,
    .is_capturing = host_is_capturing,
    .copy_async = host_copy_async,
    .fill_async = host_fill_async,
    .event_create = host_event_create,
    .event_destroy = host_event_destroy,
    .event_record = host_event_record,
    .event_query = host_event_query,
    .event_wait = host_event_record,
    .wait_value = host_wait_value,
    .call_host = host_call,
    .load = host_load,
    .launch = host_launch,
    .multiplies = host_multiplies,
    .multiply = host_multiply,
    .export_range = host_export_range,
    .flush_writes = host_synchronize,
};
