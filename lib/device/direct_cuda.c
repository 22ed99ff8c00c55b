/* SPDX-License-Identifier: Apache-2.0 */
/*
 * direct_cuda.c - what network cards need to know of CUDA memory.
 *
 * A range that is exported must be whole pages of the host, inside a single
 * allocation: the caller's arenas are multiples of 2 MiB, so nothing foreign is
 * exported with them. SYNC_MEMOPS makes synchronous copies wait until a card
 * can see what they wrote.
 */
#include "base/base.h"

#ifdef GP_HAVE_CUDA

#include <unistd.h>

#include "device/driver_cuda.h"

uint32_t
gp_cuda_attribute(CUdevice device, CUdevice_attribute which)
{
    int value = 0;

    if (gp_cuda.cuDeviceGetAttribute_(&value, which, device) != CUDA_SUCCESS)
        return 0;
    return value > 0 ? (uint32_t)value : 0;
}

void
gp_cuda_direct_properties(const gp_cuda_device *d, gp_device_properties *out)
{
    uint32_t flush = gp_cuda_attribute(
        d->device, CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_FLUSH_WRITES_OPTIONS);

    out->processors =
        gp_cuda_attribute(d->device, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
    if (gp_cuda.cuDeviceGetPCIBusId_(out->bus, (int)sizeof(out->bus),
                                     d->device) != CUDA_SUCCESS)
        out->bus[0] = 0;
    out->rdma = gp_cuda_attribute(
        d->device, CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED);
    out->dma_buf =
        gp_cuda.cuMemGetHandleForAddressRange_ &&
        gp_cuda_attribute(d->device, CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED);
    out->writes_ordering = (int)gp_cuda_attribute(
        d->device, CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WRITES_ORDERING);
    out->host_flush = gp_cuda.cuFlushGPUDirectRDMAWrites_ &&
                      flush & CU_FLUSH_GPU_DIRECT_RDMA_WRITES_OPTION_HOST;
}

gp_status
gp_cuda_range_of(gp_device *device, const void *pointer, gp_device_range *out)
{
    CUmemorytype type = 0;
    CUmemoryPool pool = NULL;
    CUdeviceptr base = 0;
    size_t bytes = 0;
    int managed = 0, ordinal = -1;
    CUpointer_attribute which[] = {
        CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
        CU_POINTER_ATTRIBUTE_IS_MANAGED,
        CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
        CU_POINTER_ATTRIBUTE_RANGE_START_ADDR,
        CU_POINTER_ATTRIBUTE_RANGE_SIZE,
        CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE,
    };
    void *into[] = {&type, &managed, &ordinal, &base, &bytes, &pool};
    gp_status status = gp_cuda_enter(device);

    if (status != GP_OK)
        return status;
    status = gp_cuda_leave(
        gp_cuda.cuPointerGetAttributes_(GP_COUNT_OF(which), which, into,
                                        gp_cuda_pointer(pointer)),
        "cuPointerGetAttributes");
    if (status != GP_OK)
        return status;
    if (type == 0)
        return GP_ERR_NOT_FOUND;
    *out = (gp_device_range){
        .device = type == CU_MEMORYTYPE_DEVICE,
        .pinned = type == CU_MEMORYTYPE_HOST && !managed,
        .managed = managed != 0,
        .pooled = pool != NULL,
        .index = ordinal >= 0 ? (uint32_t)ordinal : 0,
        .base = (void *)(uintptr_t)base,
        .bytes = bytes,
    };
    return GP_OK;
}

gp_status
gp_cuda_export_range(gp_device *device, void *base, size_t bytes, int *fd)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    unsigned sync = 1;
    int handle = -1;
    gp_status status;

    if ((uintptr_t)base % page || bytes % page || !bytes)
        return gp_fail(GP_ERR_INVALID,
                       "only whole pages of device memory can be exported");
    if (!gp_cuda.cuMemGetHandleForAddressRange_)
        return gp_fail(GP_ERR_UNSUPPORTED,
                       "the CUDA driver exports no dma-buf: it needs 11.7 or "
                       "newer");
    status = gp_cuda_enter(device);
    if (status != GP_OK)
        return status;
    if (gp_cuda.cuPointerSetAttribute_)
        gp_cuda.cuPointerSetAttribute_(&sync, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS,
                                       gp_cuda_pointer(base));
    status = gp_cuda_leave(gp_cuda.cuMemGetHandleForAddressRange_(
                               &handle, gp_cuda_pointer(base), bytes,
                               CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD, 0),
                           "cuMemGetHandleForAddressRange");
    if (status == GP_OK)
        *fd = handle;
    return status == GP_ERR_SYSTEM ? GP_ERR_UNSUPPORTED : status;
}

gp_status
gp_cuda_flush_writes(gp_device *device)
{
    gp_status status;

    if (!gp_cuda.cuFlushGPUDirectRDMAWrites_)
        return gp_fail(GP_ERR_UNSUPPORTED,
                       "the CUDA driver has no cuFlushGPUDirectRDMAWrites");
    status = gp_cuda_enter(device);
    if (status != GP_OK)
        return status;
    return gp_cuda_leave(gp_cuda.cuFlushGPUDirectRDMAWrites_(
                             CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TARGET_CURRENT_CTX,
                             CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TO_OWNER),
                         "cuFlushGPUDirectRDMAWrites");
}

#endif
