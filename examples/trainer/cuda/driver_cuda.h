/* SPDX-License-Identifier: Apache-2.0 */
/*
 * driver_cuda.h - what the trainer needs of the CUDA driver: one device with
 * one stream, memory, and the kernels of kernels.def.
 *
 * The driver is loaded when it is first needed and never linked. The device's
 * primary context is current in the thread that opened it, where all calls are
 * to be made; libgradpush and cuBLAS use the same context.
 */
#ifndef GT_DRIVER_CUDA_H
#define GT_DRIVER_CUDA_H

#include <cuda.h>

#include "../common.h"

#define GT_CUDA_FUNCTIONS(X)     \
    X(cuInit)                    \
    X(cuGetErrorName)            \
    X(cuDeviceGetCount)          \
    X(cuDeviceGet)               \
    X(cuDeviceGetName)           \
    X(cuDevicePrimaryCtxRetain)  \
    X(cuDevicePrimaryCtxRelease) \
    X(cuCtxSetCurrent)           \
    X(cuStreamCreate)            \
    X(cuStreamDestroy)           \
    X(cuStreamSynchronize)       \
    X(cuEventCreate)             \
    X(cuEventDestroy)            \
    X(cuEventRecord)             \
    X(cuEventSynchronize)        \
    X(cuMemAlloc)                \
    X(cuMemFree)                 \
    X(cuMemcpyHtoD)              \
    X(cuMemcpyDtoH)              \
    X(cuMemsetD8Async)           \
    X(cuModuleLoadData)          \
    X(cuModuleUnload)            \
    X(cuModuleGetFunction)       \
    X(cuLaunchKernel)

typedef enum gt_kernel {
#define GT_KERNEL(name) GT_KERNEL_##name,
#include "kernels.def"
#undef GT_KERNEL
    GT_KERNELS
} gt_kernel;

#define GT_CUDA_STEPS  2   /* that are queued at a time */
#define GT_CUDA_BLOCKS 128 /* of memory */

typedef struct gt_cuda {
    CUdevice device;
    CUcontext context;
    CUstream stream;
    CUmodule module;
    CUfunction function[GT_KERNELS];
    CUevent step[GT_CUDA_STEPS];
    uint64_t steps;
    CUdeviceptr block[GT_CUDA_BLOCKS];
    size_t blocks;
    uint32_t index;
    char name[128];
} gt_cuda;

/* Loads the driver and counts devices; GP_ERR_UNSUPPORTED with the reason. */
gp_status gt_cuda_count(uint32_t *out);

/* Which device "cuda" or "cuda:N" is. */
gp_status gt_cuda_index(const char *text, uint32_t local_rank, uint32_t *out);

gp_status gt_cuda_open(uint32_t index, gt_cuda **out);
void gt_cuda_close(gt_cuda *cuda); /* frees all memory; NULL is fine */

/* Aligned to 256 bytes, with any content, until the device is closed. `what` is
 * for the message. */
gp_status gt_cuda_alloc(gt_cuda *cuda, size_t bytes, const char *what,
                        void **out);

/* Copies, complete on return. */
gp_status gt_cuda_copy_in(gt_cuda *cuda, void *to, const void *from,
                          size_t bytes);
gp_status gt_cuda_copy_out(gt_cuda *cuda, void *to, const void *from,
                           size_t bytes);

gp_status gt_cuda_zero(gt_cuda *cuda, void *at, size_t bytes);

/* GT_BLOCK threads per block; nothing for a grid of 0. */
gp_status gt_cuda_launch(gt_cuda *cuda, gt_kernel kernel, uint64_t grid,
                         void **args);

gp_status gt_cuda_end_step(gt_cuda *cuda);

#endif
