/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verbs_probe.c - questions to one RDMA device; verbs_loopback.c connects.
 */
#include "transports/verbs/verbs_probe.h"

#include "base/base.h"

const char *
gp_verbs_stage_name(gp_verbs_stage stage)
{
    static const char *const names[] = {
        [GP_VERBS_CHANNEL] = "channel", [GP_VERBS_LISTEN] = "listen",
        [GP_VERBS_RESOLVE] = "resolve", [GP_VERBS_MEMORY] = "memory",
        [GP_VERBS_QUEUES] = "queues",   [GP_VERBS_CONNECT] = "connect",
        [GP_VERBS_WRITE] = "write",     [GP_VERBS_COMPARE] = "compare",
        [GP_VERBS_CLOSE] = "close",     [GP_VERBS_DONE] = "done"};

    return (unsigned)stage < GP_COUNT_OF(names) ? names[stage] : "?";
}

#ifndef GP_HAVE_VERBS

static gp_status
no_verbs(void)
{
    return gp_fail(GP_ERR_UNSUPPORTED,
                   "this build has no verbs; install libibverbs-dev and "
                   "librdmacm-dev and configure with -DGRADPUSH_VERBS=ON");
}

gp_status
gp_verbs_probe_api(const struct gp_verbs_api **out)
{
    (void)out;
    return no_verbs();
}

bool
gp_verbs_probe_listed(const struct gp_verbs_api *api, const char *device)
{
    (void)api;
    (void)device;
    return false;
}

gp_status
gp_verbs_probe_port(const struct gp_verbs_api *api, const char *device,
                    uint8_t port, gp_verbs_port_facts *out)
{
    (void)api;
    (void)device;
    (void)port;
    (void)out;
    return no_verbs();
}

gp_status
gp_verbs_probe_dmabuf(const struct gp_verbs_api *api, const char *device)
{
    (void)api;
    (void)device;
    return no_verbs();
}

gp_status
gp_verbs_probe_loopback(const struct gp_verbs_api *api,
                        const struct sockaddr *address, double seconds,
                        gp_verbs_loopback *out)
{
    (void)api;
    (void)address;
    (void)seconds;
    *out = (gp_verbs_loopback){0};
    return no_verbs();
}

#else

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "transports/verbs/verbs_api.h"

gp_status
gp_verbs_probe_api(const struct gp_verbs_api **out)
{
    return gp_verbs_api_get(out);
}

static bool
has_name(const gp_verbs_api *api, struct ibv_device *device, const char *name)
{
    const char *is = api->get_device_name(device);

    return is && !strcmp(is, name);
}

/* Opens the device of a name; the list is no longer needed once it is open. */
static gp_status
open_by_name(const gp_verbs_api *api, const char *name,
             struct ibv_context **out)
{
    int count = 0, error = ENODEV;
    struct ibv_device **list = api->get_device_list(&count);
    struct ibv_context *context = NULL;
    bool found = false;

    if (!list)
        return gp_fail_errno(GP_ERR_SYSTEM, errno, "ibv_get_device_list");
    for (int i = 0; i < count && !found; i++) {
        found = has_name(api, list[i], name);
        if (!found)
            continue;
        context = api->open_device(list[i]);
        error = errno;
    }
    api->free_device_list(list);
    if (!found)
        return gp_fail(GP_ERR_NOT_FOUND, "libibverbs lists no device %s", name);
    if (!context)
        return gp_fail_errno(GP_ERR_SYSTEM, error, "ibv_open_device of %s",
                             name);
    *out = context;
    return GP_OK;
}

bool
gp_verbs_probe_listed(const struct gp_verbs_api *api, const char *device)
{
    int count = 0;
    struct ibv_device **list = api->get_device_list(&count);
    bool found = false;

    for (int i = 0; list && i < count && !found; i++)
        found = has_name(api, list[i], device);
    if (list)
        api->free_device_list(list);
    return found;
}

static uint32_t
mtu_bytes(enum ibv_mtu mtu)
{
    return mtu >= IBV_MTU_256 && mtu <= IBV_MTU_4096 ? 128u << mtu : 0;
}

gp_status
gp_verbs_probe_port(const struct gp_verbs_api *api, const char *device,
                    uint8_t port, gp_verbs_port_facts *out)
{
    struct ibv_context *context = NULL;
    struct ibv_port_attr attr = {0};
    struct ibv_device_attr whole = {0};
    int rc;
    gp_status status = open_by_name(api, device, &context);

    if (status != GP_OK)
        return status;
    rc = api->query_port(context, port, &attr);
    if (rc)
        status = gp_fail_errno(GP_ERR_SYSTEM, rc, "ibv_query_port of %s:%u",
                               device, port);
    if (status == GP_OK && (rc = api->query_device(context, &whole)) != 0)
        status =
            gp_fail_errno(GP_ERR_SYSTEM, rc, "ibv_query_device of %s", device);
    if (status == GP_OK) {
        *out = (gp_verbs_port_facts){
            .active_mtu = mtu_bytes(attr.active_mtu),
            .max_mtu = mtu_bytes(attr.max_mtu),
            .gid_count = attr.gid_tbl_len > 0 ? (uint32_t)attr.gid_tbl_len : 0,
            .max_qp = whole.max_qp > 0 ? (uint32_t)whole.max_qp : 0,
            .max_mr = whole.max_mr > 0 ? (uint32_t)whole.max_mr : 0,
            .iwarp = context->device->transport_type == IBV_TRANSPORT_IWARP};
        snprintf(out->firmware, sizeof(out->firmware), "%.63s", whole.fw_ver);
    }
    api->close_device(context);
    return status;
}

/* The verdict that a refused registration of file -1 gives. */
static gp_status
judge_dmabuf(const char *device, int error)
{
    if (error == EBADF)
        return GP_OK;
    return gp_fail_errno(GP_ERR_UNSUPPORTED, error,
                         "ibv_reg_dmabuf_mr on %s is refused by its driver",
                         device);
}

gp_status
gp_verbs_probe_dmabuf(const struct gp_verbs_api *api, const char *device)
{
    struct ibv_context *context = NULL;
    struct ibv_pd *pd;
    struct ibv_mr *mr;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    gp_status status;

    if (!api->reg_dmabuf_mr)
        return gp_fail(GP_ERR_UNSUPPORTED,
                       "libibverbs has no ibv_reg_dmabuf_mr: it is older than "
                       "version 34");
    status = open_by_name(api, device, &context);
    if (status != GP_OK)
        return status;
    pd = api->alloc_pd(context);
    if (!pd) {
        status =
            gp_fail_errno(GP_ERR_SYSTEM, errno, "ibv_alloc_pd on %s", device);
    } else {
        errno = 0;
        mr = api->reg_dmabuf_mr(pd, 0, page, 0, -1,
                                IBV_ACCESS_LOCAL_WRITE |
                                    IBV_ACCESS_REMOTE_WRITE);
        status = mr ? GP_OK : judge_dmabuf(device, errno);
        if (mr)
            api->dereg_mr(mr);
        api->dealloc_pd(pd);
    }
    api->close_device(context);
    return status;
}

#endif
