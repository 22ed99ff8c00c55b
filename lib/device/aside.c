/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aside.c - copies that transports wait for, on a stream that waits for nobody.
 */
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "device/aside.h"

static gp_status
export_range(void *user, void *base, size_t bytes, int *fd)
{
    const gp_aside *a = user;

    return a->device->ops->export_range(a->device, base, bytes, fd);
}

/* Until all is done that was queued there, or has failed. */
static gp_status
await(gp_aside *a)
{
    const gp_device_ops *ops = a->device->ops;
    uint64_t deadline = gp_deadline(a->seconds);
    gp_status status = ops->event_record(a->device, a->settled, a->stream);

    if (status == GP_OK)
        status = GP_PENDING;
    while (status == GP_PENDING) {
        status = ops->event_query(a->device, a->settled);
        if (status == GP_PENDING && gp_expired(deadline))
            return gp_fail(GP_ERR_TIMEOUT, "a copy on %s does not end",
                           a->name);
        if (status == GP_PENDING)
            sched_yield();
    }
    return status;
}

/* What could not be waited for may still be under way, and the memory is the
 * caller's afterwards. */
gp_status
gp_aside_copy(gp_aside *a, void *to, const void *from, size_t bytes)
{
    gp_status status =
        a->device->ops->copy_async(a->device, to, from, bytes, a->stream);
    char why[512];

    if (status != GP_OK)
        return status;
    status = await(a);
    if (status == GP_OK || status == GP_ERR_TIMEOUT)
        return status;
    snprintf(why, sizeof(why), "%s", gp_last_error());
    (void)!await(a);
    return gp_fail(status, "%s", why);
}

static gp_status
copy_in(void *user, void *to, const void *from, size_t bytes)
{
    return gp_aside_copy(user, to, from, bytes);
}

static gp_status
copy_out(void *user, void *to, const void *from, size_t bytes)
{
    gp_aside *a = user;
    gp_status status =
        a->flushes ? a->device->ops->flush_writes(a->device) : GP_OK;

    return status == GP_OK ? gp_aside_copy(a, to, from, bytes) : status;
}

gp_status
gp_aside_open(gp_aside *a, gp_device *device, const char *name, double seconds)
{
    gp_device_properties p;
    gp_status status;

    device->ops->properties(device, &p);
    a->device = device;
    a->name = name;
    a->seconds = seconds;
    memcpy(a->bus, p.bus, sizeof(a->bus));
    a->peer = (gp_peer_memory){.user = a,
                               .name = name,
                               .bus = a->bus,
                               .exports = p.dma_buf,
                               .reachable = p.rdma,
                               .export_range = export_range,
                               .copy_in = copy_in,
                               .copy_out = copy_out};
    status = device->ops->stream_create(device, &a->stream);
    return status == GP_OK ? device->ops->event_create(device, &a->settled)
                           : status;
}

void
gp_aside_close(gp_aside *a)
{
    if (!a->device)
        return;
    if (a->stream)
        a->device->ops->stream_destroy(a->device, a->stream);
    a->device->ops->event_destroy(a->device, a->settled);
}

gp_status
gp_aside_probe(gp_aside *a, const gp_transport_ops *ops, gp_domain *domain,
               void *base, size_t bytes, bool *reached)
{
    char text[640];
    gp_direct way;
    gp_status status = ops->peer_probe(domain, &a->peer, base, bytes);

    for (uint32_t n = 0; status == GP_OK; n++) {
        if (!ops->peer_describe(domain, &a->peer, n, &way, text, sizeof(text)))
            break;
        *reached |= way != GP_DIRECT_STAGING;
    }
    return status;
}
