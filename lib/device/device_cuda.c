/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device_cuda.c - memory of CUDA devices through the driver interface.
 *
 * The driver is loaded when it is first asked for and never linked, so that one
 * binary runs with and without it. Every call makes the device's primary
 * context current and restores what was current before: the CUDA runtime of the
 * caller, which uses the same context, never notices.
 */
#include "device/device_cuda.h"

#include "device/device.h"

void *(*gp_cuda_resolve)(const char *symbol);

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

#include <cuda.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The names are macros in cuda.h that lead to the current version of each
 * function, hence the detour before they become strings. */
#define DRIVER_FUNCTIONS(X)      \
    X(cuInit)                    \
    X(cuGetErrorName)            \
    X(cuDeviceGetCount)          \
    X(cuDeviceGet)               \
    X(cuDeviceGetName)           \
    X(cuDeviceGetAttribute)      \
    X(cuDeviceTotalMem)          \
    X(cuDevicePrimaryCtxRetain)  \
    X(cuDevicePrimaryCtxRelease) \
    X(cuCtxPushCurrent)          \
    X(cuCtxPopCurrent)           \
    X(cuCtxSynchronize)          \
    X(cuStreamSynchronize)       \
    X(cuMemAlloc)                \
    X(cuMemFree)                 \
    X(cuMemcpyHtoD)              \
    X(cuMemcpyDtoH)              \
    X(cuMemcpyDtoD)              \
    X(cuMemsetD8)
#define TEXT(name)   TEXT_(name)
#define TEXT_(name)  #name

static struct {
#define MEMBER(name) __typeof__(name) *name##_;
    DRIVER_FUNCTIONS(MEMBER)
#undef MEMBER
    gp_status status; /* of loading */
    char why[256];
} driver;

typedef struct cuda_device {
    gp_device base;
    CUdevice device;
    CUcontext context;
    uint32_t index;
} cuda_device;

/* --- the driver --- */

static const char *
error_name(CUresult result)
{
    const char *name = NULL;

    if (!driver.cuGetErrorName_ ||
        driver.cuGetErrorName_(result, &name) != CUDA_SUCCESS || !name)
        return "unknown CUDA error";
    return name;
}

static void
load_failed(const char *format, const char *what, const char *hint)
{
    driver.status = GP_ERR_UNSUPPORTED;
    snprintf(driver.why, sizeof(driver.why), format, what, hint);
}

static void *
resolve(void *library, const char *symbol)
{
    return gp_cuda_resolve ? gp_cuda_resolve(symbol) : dlsym(library, symbol);
}

static bool
load_functions(void *library)
{
#define LOAD(name)                                                         \
    do {                                                                   \
        void *symbol = resolve(library, TEXT(name));                       \
        memcpy(&driver.name##_, &symbol, sizeof(symbol));                  \
        if (!symbol) {                                                     \
            load_failed("libcuda.so.1 has no %s: the driver is too old%s", \
                        TEXT(name), "; update it");                        \
            return false;                                                  \
        }                                                                  \
    } while (0);
    DRIVER_FUNCTIONS(LOAD)
#undef LOAD
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
    result = driver.cuInit_(0);
    if (result != CUDA_SUCCESS)
        load_failed("the CUDA driver does not start: %s%s", error_name(result),
                    "; see nvidia-smi, or use the device cpu");
}

static gp_status
need_driver(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, load_driver);
    return driver.status == GP_OK ? GP_OK
                                  : gp_fail(driver.status, "%s", driver.why);
}

static gp_status
cuda_failed(CUresult result, const char *call)
{
    gp_status status =
        result == CUDA_ERROR_OUT_OF_MEMORY ? GP_ERR_NO_MEMORY : GP_ERR_SYSTEM;

    return gp_fail(status, "%s: %s", call, error_name(result));
}

/* --- devices --- */

static cuda_device *
of(gp_device *device)
{
    return (cuda_device *)device;
}

static gp_status
cuda_count(uint32_t *out)
{
    int count = 0;
    CUresult result;
    gp_status status = need_driver();

    if (status != GP_OK)
        return status;
    result = driver.cuDeviceGetCount_(&count);
    if (result != CUDA_SUCCESS)
        return cuda_failed(result, "cuDeviceGetCount");
    *out = count > 0 ? (uint32_t)count : 0;
    return GP_OK;
}

static gp_status
cuda_open(uint32_t index, gp_device **out)
{
    uint32_t count = 0;
    cuda_device *d;
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
    *d = (cuda_device){.base = {&gp_device_cuda}, .index = index};
    result = driver.cuDeviceGet_(&d->device, (int)index);
    if (result == CUDA_SUCCESS)
        result = driver.cuDevicePrimaryCtxRetain_(&d->context, d->device);
    if (result != CUDA_SUCCESS) {
        free(d);
        return cuda_failed(result, "cuDevicePrimaryCtxRetain");
    }
    *out = &d->base;
    return GP_OK;
}

static void
cuda_close(gp_device *device)
{
    if (!device)
        return;
    driver.cuDevicePrimaryCtxRelease_(of(device)->device);
    free(device);
}

static uint32_t
attribute(CUdevice device, CUdevice_attribute which)
{
    int value = 0;

    if (driver.cuDeviceGetAttribute_(&value, which, device) != CUDA_SUCCESS)
        return 0;
    return value > 0 ? (uint32_t)value : 0;
}

static void
cuda_properties(const gp_device *device, gp_device_properties *out)
{
    const cuda_device *d = (const cuda_device *)device;
    gp_device_properties p = {.index = d->index};
    size_t bytes = 0;

    if (driver.cuDeviceGetName_(p.name, (int)sizeof(p.name), d->device) !=
        CUDA_SUCCESS)
        snprintf(p.name, sizeof(p.name), "CUDA device %u", d->index);
    if (driver.cuDeviceTotalMem_(&bytes, d->device) == CUDA_SUCCESS)
        p.memory_bytes = bytes;
    p.major =
        attribute(d->device, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
    p.minor =
        attribute(d->device, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
    p.unified = attribute(d->device, CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING);
    *out = p;
}

/* --- memory --- */

static gp_status
enter(gp_device *device)
{
    CUresult result = driver.cuCtxPushCurrent_(of(device)->context);

    return result == CUDA_SUCCESS ? GP_OK
                                  : cuda_failed(result, "cuCtxPushCurrent");
}

/* Waits for the default stream, where the call above went, and leaves. */
static gp_status
leave(CUresult result, const char *call)
{
    CUcontext ours;

    if (result == CUDA_SUCCESS)
        result = driver.cuStreamSynchronize_(NULL);
    driver.cuCtxPopCurrent_(&ours);
    return result == CUDA_SUCCESS ? GP_OK : cuda_failed(result, call);
}

static CUdeviceptr
pointer(const void *block)
{
    return (CUdeviceptr)(uintptr_t)block;
}

static gp_status
cuda_alloc(gp_device *device, size_t bytes, void **out)
{
    CUdeviceptr block = 0;
    CUresult result;
    gp_status status = enter(device);

    if (status != GP_OK)
        return status;
    result = driver.cuMemAlloc_(&block, bytes ? bytes : 1);
    status = leave(result, "cuMemAlloc");
    if (status == GP_OK)
        *out = (void *)(uintptr_t)block;
    else if (result == CUDA_SUCCESS)
        driver.cuMemFree_(block); /* what failed was work queued before */
    return status;
}

static void
cuda_free(gp_device *device, void *block)
{
    CUcontext ours;

    if (!block || enter(device) != GP_OK)
        return;
    driver.cuMemFree_(pointer(block));
    driver.cuCtxPopCurrent_(&ours);
}

static gp_status
cuda_copy_in(gp_device *device, void *to, const void *from, size_t bytes)
{
    gp_status status = bytes ? enter(device) : GP_OK;

    if (status != GP_OK || !bytes)
        return status;
    return leave(driver.cuMemcpyHtoD_(pointer(to), from, bytes),
                 "cuMemcpyHtoD");
}

static gp_status
cuda_copy_out(gp_device *device, void *to, const void *from, size_t bytes)
{
    gp_status status = bytes ? enter(device) : GP_OK;

    if (status != GP_OK || !bytes)
        return status;
    return leave(driver.cuMemcpyDtoH_(to, pointer(from), bytes),
                 "cuMemcpyDtoH");
}

/* The driver does not promise anything for ranges that overlap. */
static gp_status
copy_overlapping(CUdeviceptr to, CUdeviceptr from, size_t bytes)
{
    CUdeviceptr between = 0;
    CUresult result = driver.cuMemAlloc_(&between, bytes);

    if (result != CUDA_SUCCESS)
        return leave(result, "cuMemAlloc");
    result = driver.cuMemcpyDtoD_(between, from, bytes);
    if (result == CUDA_SUCCESS)
        result = driver.cuMemcpyDtoD_(to, between, bytes);
    if (result == CUDA_SUCCESS)
        result = driver.cuStreamSynchronize_(NULL);
    driver.cuMemFree_(between);
    return leave(result, "cuMemcpyDtoD");
}

static gp_status
cuda_copy_within(gp_device *device, void *to, const void *from, size_t bytes)
{
    CUdeviceptr t = pointer(to), f = pointer(from);
    gp_status status = bytes && t != f ? enter(device) : GP_OK;

    if (status != GP_OK || !bytes || t == f)
        return status;
    if (t < f + bytes && f < t + bytes)
        return copy_overlapping(t, f, bytes);
    return leave(driver.cuMemcpyDtoD_(t, f, bytes), "cuMemcpyDtoD");
}

static gp_status
cuda_fill(gp_device *device, void *block, uint8_t value, size_t bytes)
{
    gp_status status = bytes ? enter(device) : GP_OK;

    if (status != GP_OK || !bytes)
        return status;
    return leave(driver.cuMemsetD8_(pointer(block), value, bytes),
                 "cuMemsetD8");
}

static gp_status
cuda_synchronize(gp_device *device)
{
    gp_status status = enter(device);

    if (status != GP_OK)
        return status;
    return leave(driver.cuCtxSynchronize_(), "cuCtxSynchronize");
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
};

#endif
