/* SPDX-License-Identifier: Apache-2.0 */
/*
 * driver_cuda.c - loads the CUDA driver.
 *
 * The driver is loaded when it is first asked for and never linked, so that one
 * binary runs with and without it. The CUDA runtime is not used at all: a
 * trainer brings its own, of whatever version, and both meet in the device's
 * primary context.
 */
#include "device/device_cuda.h"

#include "base/base.h"

void *(*gp_cuda_resolve)(const char *symbol);

#ifdef GP_HAVE_CUDA

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "device/driver_cuda.h"

#define TEXT(name)  TEXT_(name)
#define TEXT_(name) #name

gp_cuda_driver gp_cuda;

static const char *
error_name(CUresult result)
{
    const char *name = NULL;

    if (!gp_cuda.cuGetErrorName_ ||
        gp_cuda.cuGetErrorName_(result, &name) != CUDA_SUCCESS || !name)
        return "unknown CUDA error";
    return name;
}

static void
load_failed(const char *format, const char *what, const char *hint)
{
    gp_cuda.status = GP_ERR_UNSUPPORTED;
    snprintf(gp_cuda.why, sizeof(gp_cuda.why), format, what, hint);
}

/* Puts a function into its place; false when the driver lacks it. */
static bool
find(void *library, const char *symbol, void *place)
{
    void *function =
        gp_cuda_resolve ? gp_cuda_resolve(symbol) : dlsym(library, symbol);

    memcpy(place, &function, sizeof(function));
    return function != NULL;
}

static bool
load_functions(void *library)
{
#define LOAD(name)                                                     \
    if (!find(library, TEXT(name), &gp_cuda.name##_)) {                \
        load_failed("libcuda.so.1 has no %s: the driver is too old%s", \
                    TEXT(name), "; update it");                        \
        return false;                                                  \
    }
#define TRY(name) (void)find(library, TEXT(name), &gp_cuda.name##_);
    GP_CUDA_FUNCTIONS(LOAD)
    GP_CUDA_OPTIONAL(TRY)
#undef LOAD
#undef TRY
    return true;
}

/* The library stays loaded: the driver does not survive being unloaded. */
static void
load_driver(void)
{
    void *library = NULL;
    CUresult result;

    if (!gp_cuda_resolve) {
        library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
        if (!library) {
            load_failed("the CUDA driver cannot be loaded: %s%s", dlerror(),
                        "; install the NVIDIA driver, or use the device cpu");
            return;
        }
    }
    if (!load_functions(library))
        return;
    result = gp_cuda.cuInit_(0);
    if (result != CUDA_SUCCESS)
        load_failed("the CUDA driver does not start: %s%s", error_name(result),
                    "; see nvidia-smi, or use the device cpu");
}

gp_status
gp_cuda_need(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, load_driver);
    return gp_cuda.status == GP_OK ? GP_OK
                                   : gp_fail(gp_cuda.status, "%s", gp_cuda.why);
}

gp_status
gp_cuda_failed(CUresult result, const char *call)
{
    gp_status status = result == CUDA_ERROR_OUT_OF_MEMORY   ? GP_ERR_NO_MEMORY
                       : result == CUDA_ERROR_NOT_SUPPORTED ? GP_ERR_UNSUPPORTED
                                                            : GP_ERR_SYSTEM;

    return gp_fail(status, "%s: %s", call, error_name(result));
}

/* What this thread's calls do to captures of others: outermost calls put it
 * back. */
static _Thread_local struct {
    int depth;
    CUstreamCaptureMode before;
} mode;

static void
relax(void)
{
    if (mode.depth++ > 0)
        return;
    mode.before = CU_STREAM_CAPTURE_MODE_RELAXED;
    (void)gp_cuda.cuThreadExchangeStreamCaptureMode_(&mode.before);
}

void
gp_cuda_pop(void)
{
    CUcontext ours;

    if (gp_cuda.cuThreadExchangeStreamCaptureMode_ && --mode.depth == 0)
        (void)gp_cuda.cuThreadExchangeStreamCaptureMode_(&mode.before);
    gp_cuda.cuCtxPopCurrent_(&ours);
}

gp_status
gp_cuda_enter(gp_device *device)
{
    CUresult result = gp_cuda.cuCtxPushCurrent_(gp_cuda_of(device)->context);

    if (result != CUDA_SUCCESS)
        return gp_cuda_failed(result, "cuCtxPushCurrent");
    if (gp_cuda.cuThreadExchangeStreamCaptureMode_)
        relax();
    return GP_OK;
}

gp_status
gp_cuda_leave(CUresult result, const char *call)
{
    gp_cuda_pop();
    return result == CUDA_SUCCESS ? GP_OK : gp_cuda_failed(result, call);
}

#endif
