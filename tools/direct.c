/* SPDX-License-Identifier: Apache-2.0 */
/*
 * direct.c - a worker's trial of GPUDirect, without a job.
 */
#include "direct.h"

#include <stdio.h>

#include "base/base.h"
#include "device/arena.h"
#include "device/device.h"

const char *
gp_direct_name(gp_direct way)
{
    return way == GP_DIRECT_DMABUF    ? "dmabuf"
           : way == GP_DIRECT_PEERMEM ? "peermem"
                                      : "staging";
}

static gp_status
export_range(void *user, void *base, size_t bytes, int *fd)
{
    gp_device *d = user;

    return d->ops->export_range(d, base, bytes, fd);
}

static gp_status
copy_in(void *user, void *to, const void *from, size_t bytes)
{
    gp_device *d = user;

    return d->ops->copy_in(d, to, from, bytes);
}

/* Nobody waits for the flush here, so it is done whether needed or not. */
static gp_status
copy_out(void *user, void *to, const void *from, size_t bytes)
{
    gp_device *d = user;
    gp_device_properties p;
    gp_status status = GP_OK;

    d->ops->properties(d, &p);
    if (p.host_flush)
        status = d->ops->flush_writes(d);
    return status == GP_OK ? d->ops->copy_out(d, to, from, bytes) : status;
}

static gp_status
try_domain(const gp_transport_ops *ops, gp_domain *domain, gp_device *d,
           gp_direct_pair *out, size_t max, size_t *count)
{
    gp_device_properties p;
    char name[16];
    gp_peer_memory peer = {.user = d,
                           .name = name,
                           .export_range = export_range,
                           .copy_in = copy_in,
                           .copy_out = copy_out};
    void *block = NULL;
    uint32_t n = 0;
    gp_status status = d->ops->alloc(d, GP_ARENA_SEGMENT, &block);

    if (status != GP_OK)
        return status;
    d->ops->properties(d, &p);
    snprintf(name, sizeof(name), "cuda:%u", p.index);
    peer.bus = p.bus;
    peer.exports = p.dma_buf;
    peer.reachable = p.rdma;
    status = ops->peer_probe(domain, &peer, block, GP_ARENA_SEGMENT);
    while (status == GP_OK && n < max &&
           ops->peer_describe(domain, &peer, n, &out[n].way, out[n].text,
                              sizeof(out[n].text)))
        n++;
    d->ops->free(d, block);
    if (status == GP_OK)
        *count = n;
    return status;
}

gp_status
gp_direct_try(const gp_config *config, uint32_t index, gp_direct_pair *out,
              size_t max, size_t *count)
{
    const gp_transport_ops *ops = gp_transport_find("verbs");
    gp_domain *domain = NULL;
    gp_device *d = NULL;
    gp_status status;

    if (!ops)
        return gp_fail(GP_ERR_UNSUPPORTED, "this build has no verbs");
    status = gp_device_cuda.open(index, &d);
    if (status != GP_OK)
        return status;
    status = ops->open(config, &domain);
    if (status == GP_OK)
        status = try_domain(ops, domain, d, out, max, count);
    ops->close(domain);
    gp_device_close(d);
    return status;
}
