/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device_cuda.c - memory of CUDA devices through the driver interface.
 *
 * Every call makes the device's primary context current and restores what was
 * current before: the CUDA runtime of the caller, which uses the same context,
 * never notices.
 */
#include "device/device.h"

#ifndef GP_HAVE_CUDA

static gp_status
no_cuda(void)
{
    return gp_fail(GP_ERR_UNSUPPORTED,
                   "this build has no CUDA: install the CUDA toolkit's "
                   "headers and configure with -DGRADPUSH_CUDA=ON, or use the "
                   "device cpu");
}

static gp_status
cuda_count(uint32_t *out)
{
    (void)out;
    return no_cuda();
}

static gp_status
cuda_open(uint32_t index, gp_device **out)
{
    (void)index;
    (void)out;
    return no_cuda();
}

/* Without open there is no device to call anything else with. */
const gp_device_ops gp_device_cuda = {
    .kind = "cuda", .count = cuda_count, .open = cuda_open};

#else

#include <stdio.h>
#include <stdlib.h>

#include "device/driver_cuda.h"

/* --- devices --- */

static gp_status
cuda_count(uint32_t *out)
{
    int count = 0;
    CUresult result;
    gp_status status = gp_cuda_need();

    if (status != GP_OK)
        return status;
    result = gp_cuda.cuDeviceGetCount_(&count);
    if (result != CUDA_SUCCESS)
        return gp_cuda_failed(result, "cuDeviceGetCount");
    *out = count > 0 ? (uint32_t)count : 0;
    return GP_OK;
}

static gp_status
cuda_open(uint32_t index, gp_device **out)
{
    uint32_t count = 0;
    gp_cuda_device *d;
    CUresult result;
    gp_status status = cuda_count(&count);

    if (status != GP_OK)
        return status;
    if (index >= count)
        return gp_fail(GP_ERR_NOT_FOUND,
                       "cuda:%u: this process sees %u CUDA devices; see "
                       "nvidia-smi -L and CUDA_VISIBLE_DEVICES",
                       index, count);
    d = calloc(1, sizeof(*d));
    if (!d)
        return gp_fail(GP_ERR_NO_MEMORY, "out of memory");
    *d = (gp_cuda_device){.base = {&gp_device_cuda}, .index = index};
    result = gp_cuda.cuDeviceGet_(&d->device, (int)index);
    if (result == CUDA_SUCCESS)
        result = gp_cuda.cuDevicePrimaryCtxRetain_(&d->context, d->device);
    if (result != CUDA_SUCCESS) {
        free(d);
        return gp_cuda_failed(result, "cuDevicePrimaryCtxRetain");
    }
    pthread_mutex_init(&d->lock, NULL);
    *out = &d->base;
    return GP_OK;
}

static void
cuda_close(gp_device *device)
{
    if (!device)
        return;
    gp_cuda_blas_close(gp_cuda_of(device));
    for (size_t i = 0; i < GP_CUDA_IMAGES; i++)
        if (gp_cuda_of(device)->module[i] && gp_cuda_enter(device) == GP_OK)
            (void)gp_cuda_leave(
                gp_cuda.cuModuleUnload_(gp_cuda_of(device)->module[i]),
                "cuModuleUnload");
    pthread_mutex_destroy(&gp_cuda_of(device)->lock);
    gp_cuda.cuDevicePrimaryCtxRelease_(gp_cuda_of(device)->device);
    free(device);
}

static void
cuda_properties(const gp_device *device, gp_device_properties *out)
{
    const gp_cuda_device *d = (const gp_cuda_device *)device;
    gp_device_properties p = {.index = d->index};
    size_t bytes = 0;

    if (gp_cuda.cuDeviceGetName_(p.name, (int)sizeof(p.name), d->device) !=
        CUDA_SUCCESS)
        snprintf(p.name, sizeof(p.name), "CUDA device %u", d->index);
    if (gp_cuda.cuDeviceTotalMem_(&bytes, d->device) == CUDA_SUCCESS)
        p.memory_bytes = bytes;
    p.major = gp_cuda_attribute(d->device,
                                CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
    p.minor = gp_cuda_attribute(d->device,
                                CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
    p.block_shared = gp_cuda_attribute(
        d->device, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
    gp_cuda_direct_properties(d, &p);
    p.unified =
        gp_cuda_attribute(d->device, CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING);
    *out = p;
}

/* --- memory --- */

/* Waits for the default stream, where the call above went, and leaves. */
static gp_status
leave(CUresult result, const char *call)
{
    if (result == CUDA_SUCCESS)
        result = gp_cuda.cuStreamSynchronize_(NULL);
    return gp_cuda_leave(result, call);
}

static gp_status
cuda_alloc(gp_device *device, size_t bytes, void **out)
{
    CUdeviceptr block = 0;
    gp_status status = gp_cuda_enter(device);

    if (status != GP_OK)
        return status;
    status = gp_cuda_leave(gp_cuda.cuMemAlloc_(&block, bytes ? bytes : 1),
                           "cuMemAlloc");
    if (status == GP_OK)
        *out = (void *)(uintptr_t)block;
    return status;
}

static void
cuda_free(gp_device *device, void *block)
{
    if (!block || gp_cuda_enter(device) != GP_OK)
        return;
    gp_cuda.cuMemFree_(gp_cuda_pointer(block));
    gp_cuda_pop();
}

static gp_status
cuda_copy_in(gp_device *device, void *to, const void *from, size_t bytes)
{
    gp_status status = bytes ? gp_cuda_enter(device) : GP_OK;

    if (status != GP_OK || !bytes)
        return status;
    return leave(gp_cuda.cuMemcpyHtoD_(gp_cuda_pointer(to), from, bytes),
                 "cuMemcpyHtoD");
}

static gp_status
cuda_copy_out(gp_device *device, void *to, const void *from, size_t bytes)
{
    gp_status status = bytes ? gp_cuda_enter(device) : GP_OK;

    if (status != GP_OK || !bytes)
        return status;
    return leave(gp_cuda.cuMemcpyDtoH_(to, gp_cuda_pointer(from), bytes),
                 "cuMemcpyDtoH");
}

/* The driver does not promise anything for ranges that overlap. */
static gp_status
copy_overlapping(CUdeviceptr to, CUdeviceptr from, size_t bytes)
{
    CUdeviceptr between = 0;
    CUresult result = gp_cuda.cuMemAlloc_(&between, bytes);

    if (result != CUDA_SUCCESS)
        return leave(result, "cuMemAlloc");
    result = gp_cuda.cuMemcpyDtoD_(between, from, bytes);
    if (result == CUDA_SUCCESS)
        result = gp_cuda.cuMemcpyDtoD_(to, between, bytes);
    if (result == CUDA_SUCCESS)
        result = gp_cuda.cuStreamSynchronize_(NULL);
    gp_cuda.cuMemFree_(between);
    return leave(result, "cuMemcpyDtoD");
}

static gp_status
cuda_copy_within(gp_device *device, void *to, const void *from, size_t bytes)
{
    CUdeviceptr t = gp_cuda_pointer(to), f = gp_cuda_pointer(from);
    gp_status status = bytes && t != f ? gp_cuda_enter(device) : GP_OK;

    if (status != GP_OK || !bytes || t == f)
        return status;
    if (t < f + bytes && f < t + bytes)
        return copy_overlapping(t, f, bytes);
    return leave(gp_cuda.cuMemcpyDtoD_(t, f, bytes), "cuMemcpyDtoD");
}

static gp_status
cuda_fill(gp_device *device, void *block, uint8_t value, size_t bytes)
{
    gp_status status = bytes ? gp_cuda_enter(device) : GP_OK;

    if (status != GP_OK || !bytes)
        return status;
    return leave(gp_cuda.cuMemsetD8_(gp_cuda_pointer(block), value, bytes),
                 "cuMemsetD8");
}

static gp_status
cuda_synchronize(gp_device *device)
{
    gp_status status = gp_cuda_enter(device);

    if (status != GP_OK)
        return status;
    return leave(gp_cuda.cuCtxSynchronize_(), "cuCtxSynchronize");
}

const gp_device_ops gp_device_cuda = {
    .kind = "cuda",
    .count = cuda_count,
    .open = cuda_open,
    .close = cuda_close,
    .properties = cuda_properties,
    .alloc = cuda_alloc,
    .free = cuda_free,
    .copy_in = cuda_copy_in,
    .copy_out = cuda_copy_out,
    .copy_within = cuda_copy_within,
    .fill = cuda_fill,
    .synchronize = cuda_synchronize,
    .alloc_pinned = gp_cuda_alloc_pinned,
    .free_pinned = gp_cuda_free_pinned,
    .range_of = gp_cuda_range_of,
    .stream_create = gp_cuda_stream_create,
    .stream_destroy = gp_cuda_stream_destroy,
    .is_capturing = gp_cuda_is_capturing,
    .copy_async = gp_cuda_copy_async,
    .fill_async = gp_cuda_fill_async,
    .event_create = gp_cuda_event_create,
    .event_destroy = gp_cuda_event_destroy,
    .event_record = gp_cuda_event_record,
    .event_query = gp_cuda_event_query,
    .event_wait = gp_cuda_event_wait,
    .wait_value = gp_cuda_wait_value,
    .call_host = gp_cuda_call_host,
    .load = gp_cuda_load,
    .launch = gp_cuda_launch,
    .multiplies = gp_cuda_multiplies,
    .multiply = gp_cuda_multiply,
    .export_range = gp_cuda_export_range,
    .flush_writes = gp_cuda_flush_writes,
};

#endif
