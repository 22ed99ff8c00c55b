/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream_cuda.c - work on CUDA devices that is queued, not waited for.
 *
 * Kernels come as images for all kinds of devices, loaded into a device's
 * primary context by the first that is asked for, so a process that launches
 * none pays for nothing. Whoever launches while a stream may wait for a number
 * loads them before: a driver that puts off loading (CUDA_MODULE_LOADING) may
 * wait for all streams when it comes to it.
 */
#include "base/base.h"

#ifdef GP_HAVE_CUDA

#include <string.h>

#include "device/device_cuda.h"
#include "device/driver_cuda.h"

static const char *const kernel_names[] = {
#define GP_KERNEL(file, name) #name,
#include "device/kernels.def"
#undef GP_KERNEL
};

static const char *const kernel_files[] = {
#define GP_KERNEL(file, name) #file,
#include "device/kernels.def"
#undef GP_KERNEL
};

gp_status
gp_cuda_alloc_pinned(gp_device *device, size_t bytes, void **out)
{
    void *block = NULL;
    gp_status status = gp_cuda_enter(device);

    if (status != GP_OK)
        return status;
    status =
        gp_cuda_leave(gp_cuda.cuMemHostAlloc_(&block, bytes ? bytes : 1,
                                              CU_MEMHOSTALLOC_PORTABLE |
                                                  CU_MEMHOSTALLOC_DEVICEMAP),
                      "cuMemHostAlloc");
    if (status == GP_OK)
        *out = block;
    return status;
}

void
gp_cuda_free_pinned(gp_device *device, void *block)
{
    if (block && gp_cuda_enter(device) == GP_OK)
        (void)gp_cuda_leave(gp_cuda.cuMemFreeHost_(block), "cuMemFreeHost");
}

/* A device has few queues, which streams of one priority share: behind a stream
 * of the caller's that waits for a number, ours would wait, too. So they have
 * the highest priority, which callers' seldom have; and what they do is
 * short. */
gp_status
gp_cuda_stream_create(gp_device *device, void **out)
{
    int lowest = 0, highest = 0;
    CUstream stream = NULL;
    CUresult result;
    gp_status status = gp_cuda_enter(device);

    if (status != GP_OK)
        return status;
    result = gp_cuda.cuCtxGetStreamPriorityRange_(&lowest, &highest);
    if (result == CUDA_SUCCESS)
        result = gp_cuda.cuStreamCreateWithPriority_(
            &stream, CU_STREAM_NON_BLOCKING, highest);
    status = gp_cuda_leave(result, "cuStreamCreateWithPriority");
    if (status == GP_OK)
        *out = stream;
    return status;
}

void
gp_cuda_stream_destroy(gp_device *device, void *stream)
{
    if (stream && gp_cuda_enter(device) == GP_OK)
        (void)gp_cuda_leave(gp_cuda.cuStreamDestroy_(stream),
                            "cuStreamDestroy");
}

gp_status
gp_cuda_is_capturing(gp_device *device, void *stream, bool *out)
{
    CUstreamCaptureStatus capture = CU_STREAM_CAPTURE_STATUS_NONE;
    CUresult result;
    gp_status status = gp_cuda_enter(device);

    if (status != GP_OK)
        return status;
    result = gp_cuda.cuStreamIsCapturing_(stream, &capture);
    /* Asked of the default stream while another one is being captured: what
     * would be queued on it would break that. */
    if (result == CUDA_ERROR_STREAM_CAPTURE_IMPLICIT) {
        result = CUDA_SUCCESS;
        capture = CU_STREAM_CAPTURE_STATUS_ACTIVE;
    }
    status = gp_cuda_leave(result, "cuStreamIsCapturing");
    if (status == GP_OK)
        *out = capture != CU_STREAM_CAPTURE_STATUS_NONE;
    return status;
}

gp_status
gp_cuda_copy_async(gp_device *device, void *to, const void *from, size_t bytes,
                   void *stream)
{
    gp_status status = bytes ? gp_cuda_enter(device) : GP_OK;

    if (status != GP_OK || !bytes)
        return status;
    return gp_cuda_leave(gp_cuda.cuMemcpyAsync_(gp_cuda_pointer(to),
                                                gp_cuda_pointer(from), bytes,
                                                stream),
                         "cuMemcpyAsync");
}

gp_status
gp_cuda_fill_async(gp_device *device, void *to, uint8_t value, size_t bytes,
                   void *stream)
{
    gp_status status = bytes ? gp_cuda_enter(device) : GP_OK;

    if (status != GP_OK || !bytes)
        return status;
    return gp_cuda_leave(
        gp_cuda.cuMemsetD8Async_(gp_cuda_pointer(to), value, bytes, stream),
        "cuMemsetD8Async");
}

gp_status
gp_cuda_event_create(gp_device *device, gp_device_event **out)
{
    CUevent event = NULL;
    gp_status status = gp_cuda_enter(device);

    if (status != GP_OK)
        return status;
    status =
        gp_cuda_leave(gp_cuda.cuEventCreate_(&event, CU_EVENT_DISABLE_TIMING),
                      "cuEventCreate");
    if (status == GP_OK)
        *out = (gp_device_event *)event;
    return status;
}

void
gp_cuda_event_destroy(gp_device *device, gp_device_event *event)
{
    if (event && gp_cuda_enter(device) == GP_OK)
        (void)gp_cuda_leave(gp_cuda.cuEventDestroy_((CUevent)event),
                            "cuEventDestroy");
}

gp_status
gp_cuda_event_record(gp_device *device, gp_device_event *event, void *stream)
{
    gp_status status = gp_cuda_enter(device);

    if (status != GP_OK)
        return status;
    return gp_cuda_leave(gp_cuda.cuEventRecord_((CUevent)event, stream),
                         "cuEventRecord");
}

gp_status
gp_cuda_event_query(gp_device *device, gp_device_event *event)
{
    CUresult result;
    gp_status status = gp_cuda_enter(device);

    if (status != GP_OK)
        return status;
    result = gp_cuda.cuEventQuery_((CUevent)event);
    if (result == CUDA_ERROR_NOT_READY) {
        gp_cuda_pop();
        return GP_PENDING;
    }
    return gp_cuda_leave(result, "work on the device");
}

gp_status
gp_cuda_event_wait(gp_device *device, gp_device_event *event, void *stream)
{
    gp_status status = gp_cuda_enter(device);

    if (status != GP_OK)
        return status;
    return gp_cuda_leave(gp_cuda.cuStreamWaitEvent_(stream, (CUevent)event, 0),
                         "cuStreamWaitEvent");
}

gp_status
gp_cuda_wait_value(gp_device *device, const uint32_t *pinned, uint32_t value,
                   void *stream)
{
    gp_status status;

    if (!gp_cuda.cuStreamWaitValue32_)
        return gp_fail(GP_ERR_UNSUPPORTED,
                       "the CUDA driver has no cuStreamWaitValue32: update it");
    status = gp_cuda_enter(device);
    if (status != GP_OK)
        return status;
    return gp_cuda_leave(
        gp_cuda.cuStreamWaitValue32_(stream, gp_cuda_pointer(pinned), value,
                                     CU_STREAM_WAIT_VALUE_GEQ),
        "cuStreamWaitValue32");
}

gp_status
gp_cuda_call_host(gp_device *device, void (*call)(void *), void *with,
                  void *stream)
{
    gp_status status;

    if (!gp_cuda.cuLaunchHostFunc_)
        return gp_fail(GP_ERR_UNSUPPORTED,
                       "the CUDA driver has no cuLaunchHostFunc: update it");
    status = gp_cuda_enter(device);
    if (status != GP_OK)
        return status;
    return gp_cuda_leave(gp_cuda.cuLaunchHostFunc_(stream, call, with),
                         "cuLaunchHostFunc");
}

/* The place of the image that has a kernel. No other is loaded for it: that
 * takes time and memory of the device. */
static size_t
place_of(gp_kernel_id kernel)
{
    size_t i = 0;

    while (gp_cuda_images[i] &&
           strcmp(gp_cuda_image_names[i], kernel_files[kernel]) != 0)
        i++;
    return i;
}

/* Under the device's lock, with its context current. A driver of tests has
 * kernels of its own, and takes any image for them. */
static gp_status
find_function(gp_cuda_device *d, gp_kernel_id kernel)
{
    static const char none[16];
    size_t i = place_of(kernel);
    const void *image = gp_cuda_images[i];
    CUresult result = CUDA_SUCCESS;

    if (!gp_cuda_images[0] && gp_cuda_resolve)
        image = none;
    if (!image)
        return gp_fail(GP_ERR_NOT_FOUND,
                       "this build has no CUDA kernels: install nvcc and "
                       "configure with -DGRADPUSH_KERNELS=ON");
    if (!d->module[i])
        result = gp_cuda.cuModuleLoadData_(&d->module[i], image);
    if (result != CUDA_SUCCESS)
        return gp_cuda_failed(result, "loading kernels (they are for "
                                      "compute capability 8.0 and up)");
    result = gp_cuda.cuModuleGetFunction_(&d->function[kernel], d->module[i],
                                          kernel_names[kernel]);
    return result == CUDA_SUCCESS
               ? GP_OK
               : gp_cuda_failed(result, kernel_names[kernel]);
}

/* Launches that ask for so much have to say so first. */
#define SHARED 49152u

static gp_status
allow_shared(gp_cuda_device *d, const gp_launch *l)
{
    CUresult result = gp_cuda.cuFuncSetAttribute_(
        d->function[l->kernel], CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
        (int)l->shared);

    if (result != CUDA_SUCCESS)
        return gp_cuda_failed(result, "cuFuncSetAttribute");
    d->shared[l->kernel] = l->shared;
    return GP_OK;
}

static gp_status
get_function(gp_cuda_device *d, const gp_launch *l, CUfunction *out)
{
    gp_status status = GP_OK;

    pthread_mutex_lock(&d->lock);
    if (!d->function[l->kernel])
        status = find_function(d, l->kernel);
    if (status == GP_OK && l->shared > SHARED &&
        l->shared > d->shared[l->kernel])
        status = allow_shared(d, l);
    *out = d->function[l->kernel];
    pthread_mutex_unlock(&d->lock);
    return status;
}

gp_status
gp_cuda_load(gp_device *device, const gp_launch *l)
{
    CUresult result = CUDA_SUCCESS;
    CUfunction function = NULL;
    gp_status status = gp_cuda_enter(device);

    if (status != GP_OK)
        return status;
    status = get_function(gp_cuda_of(device), l, &function);
    if (status == GP_OK && gp_cuda.cuFuncLoad_)
        result = gp_cuda.cuFuncLoad_(function);
    if (status == GP_OK)
        return gp_cuda_leave(result, "cuFuncLoad");
    gp_cuda_pop();
    return status;
}

gp_status
gp_cuda_launch(gp_device *device, const gp_launch *l, void *stream)
{
    CUfunction function = NULL;
    gp_status status;

    if (!l->grid)
        return GP_OK;
    status = gp_cuda_enter(device);
    if (status != GP_OK)
        return status;
    status = get_function(gp_cuda_of(device), l, &function);
    if (status != GP_OK) {
        gp_cuda_pop();
        return status;
    }
    return gp_cuda_leave(gp_cuda.cuLaunchKernel_(function, l->grid, 1, 1,
                                                 l->block, 1, 1, l->shared,
                                                 stream, l->args, NULL),
                         kernel_names[l->kernel]);
}

#endif
