/* SPDX-License-Identifier: Apache-2.0 */
/*
 * driver_cuda.h - the functions of the CUDA driver, and devices of it.
 *
 * Included by *_cuda.c files of a build with CUDA only. The names are macros in
 * cuda.h that lead to the current version of each function, hence the detour
 * before they become strings: so a driver is asked for exactly the version that
 * this was compiled against, as cuGetProcAddress() would be.
 */
#ifndef GP_DRIVER_CUDA_H
#define GP_DRIVER_CUDA_H

#include <cuda.h>
#include <pthread.h>

#include "device/device.h"

#if CUDA_VERSION < 12040 /* drivers may have it all the same */
CUresult CUDAAPI cuFuncLoad(CUfunction function);
#endif

#define GP_CUDA_FUNCTIONS(X)       \
    X(cuInit)                      \
    X(cuGetErrorName)              \
    X(cuDeviceGetCount)            \
    X(cuDeviceGet)                 \
    X(cuDeviceGetName)             \
    X(cuDeviceGetAttribute)        \
    X(cuDeviceGetPCIBusId)         \
    X(cuDeviceTotalMem)            \
    X(cuDevicePrimaryCtxRetain)    \
    X(cuDevicePrimaryCtxRelease)   \
    X(cuCtxPushCurrent)            \
    X(cuCtxPopCurrent)             \
    X(cuCtxSynchronize)            \
    X(cuCtxGetStreamPriorityRange) \
    X(cuStreamCreateWithPriority)  \
    X(cuStreamDestroy)             \
    X(cuStreamSynchronize)         \
    X(cuStreamIsCapturing)         \
    X(cuStreamWaitEvent)           \
    X(cuEventCreate)               \
    X(cuEventDestroy)              \
    X(cuEventRecord)               \
    X(cuEventQuery)                \
    X(cuMemAlloc)                  \
    X(cuMemFree)                   \
    X(cuMemHostAlloc)              \
    X(cuMemFreeHost)               \
    X(cuMemcpyHtoD)                \
    X(cuMemcpyDtoH)                \
    X(cuMemcpyDtoD)                \
    X(cuMemcpyAsync)               \
    X(cuMemsetD8)                  \
    X(cuMemsetD8Async)             \
    X(cuPointerGetAttributes)      \
    X(cuModuleLoadData)            \
    X(cuModuleUnload)              \
    X(cuModuleGetFunction)         \
    X(cuFuncSetAttribute)          \
    X(cuLaunchKernel)

/* What older drivers may lack. */
#define GP_CUDA_OPTIONAL(X)              \
    X(cuThreadExchangeStreamCaptureMode) \
    X(cuStreamWaitValue32)               \
    X(cuLaunchHostFunc)                  \
    X(cuMemGetHandleForAddressRange)     \
    X(cuPointerSetAttribute)             \
    X(cuEventElapsedTime)                \
    X(cuFuncLoad)                        \
    X(cuFlushGPUDirectRDMAWrites)

typedef struct gp_cuda_driver {
#define MEMBER(name) __typeof__(name) *name##_;
    GP_CUDA_FUNCTIONS(MEMBER)
    GP_CUDA_OPTIONAL(MEMBER)
#undef MEMBER
    gp_status status; /* of loading */
    char why[256];
} gp_cuda_driver;

extern gp_cuda_driver gp_cuda;

/* Our kernels, an image for each file in compress/cuda and its name without
 * ".cu", then NULL; none in a build without the CUDA compiler. */
extern const void *const gp_cuda_images[];
extern const char *const gp_cuda_image_names[];
#define GP_CUDA_IMAGES 32

typedef struct gp_cuda_device {
    gp_device base;
    CUdevice device;
    CUcontext context;
    uint32_t index;
    pthread_mutex_t lock;            /* for what launches load */
    CUmodule module[GP_CUDA_IMAGES]; /* NULL: not loaded */
    CUfunction function[GP_KERNEL_COUNT];
    uint32_t shared[GP_KERNEL_COUNT]; /* what it was said to ask for, in bytes;
                                         0: no more than all may */
    struct gp_cuda_blas *blas;        /* under the lock; NULL: not loaded */
} gp_cuda_device;

static inline gp_cuda_device *
gp_cuda_of(gp_device *device)
{
    return (gp_cuda_device *)device;
}

static inline CUdeviceptr
gp_cuda_pointer(const void *block)
{
    return (CUdeviceptr)(uintptr_t)block;
}

/* Loads the driver once. */
gp_status gp_cuda_need(void);

/* gp_fail() with the name of the error. */
gp_status gp_cuda_failed(CUresult result, const char *call);

/* Makes the device's context current; gp_cuda_leave() restores what was, and
 * turns the result of the call in between into a status. In between nothing of
 * ours breaks a graph that somebody captures, in whatever thread: that asking
 * for an event's state does is meant for programs that wait for captured work,
 * which we never do. */
gp_status gp_cuda_enter(gp_device *device);
gp_status gp_cuda_leave(CUresult result, const char *call);
/* The latter without a result. */
void gp_cuda_pop(void);

/* stream_cuda.c */
gp_status gp_cuda_alloc_pinned(gp_device *device, size_t bytes, void **out);
void gp_cuda_free_pinned(gp_device *device, void *block);
gp_status gp_cuda_stream_create(gp_device *device, void **out);
void gp_cuda_stream_destroy(gp_device *device, void *stream);
gp_status gp_cuda_is_capturing(gp_device *device, void *stream, bool *out);
gp_status gp_cuda_copy_async(gp_device *device, void *to, const void *from,
                             size_t bytes, void *stream);
gp_status gp_cuda_fill_async(gp_device *device, void *to, uint8_t value,
                             size_t bytes, void *stream);
gp_status gp_cuda_event_create(gp_device *device, gp_device_event **out);
void gp_cuda_event_destroy(gp_device *device, gp_device_event *event);
gp_status gp_cuda_event_record(gp_device *device, gp_device_event *event,
                               void *stream);
gp_status gp_cuda_event_query(gp_device *device, gp_device_event *event);
gp_status gp_cuda_event_wait(gp_device *device, gp_device_event *event,
                             void *stream);
gp_status gp_cuda_wait_value(gp_device *device, const uint32_t *pinned,
                             uint32_t value, void *stream);
gp_status gp_cuda_call_host(gp_device *device, void (*call)(void *), void *with,
                            void *stream);
gp_status gp_cuda_load(gp_device *device, const gp_launch *launch);
gp_status gp_cuda_launch(gp_device *device, const gp_launch *launch,
                         void *stream);

/* blas_cuda.c */
gp_status gp_cuda_multiplies(gp_device *device);
gp_status gp_cuda_multiply(gp_device *device, const gp_product *product,
                           void *stream);
void gp_cuda_blas_close(gp_cuda_device *d);

/* direct_cuda.c */
gp_status gp_cuda_range_of(gp_device *device, const void *pointer,
                           gp_device_range *out);
gp_status gp_cuda_export_range(gp_device *device, void *device_base,
                               size_t bytes, int *fd);
gp_status gp_cuda_flush_writes(gp_device *device);
void gp_cuda_direct_properties(const gp_cuda_device *d,
                               gp_device_properties *out);
uint32_t gp_cuda_attribute(CUdevice device, CUdevice_attribute which);

#endif
