/* SPDX-License-Identifier: Apache-2.0 */
/*
 * driver_cuda.c - what the trainer needs of the CUDA driver.
 */
#ifdef GP_HAVE_CUDA

#include "driver_cuda.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

#define TEXT(name)  TEXT_(name)
#define TEXT_(name) #name

static struct {
#define MEMBER(name) __typeof__(name) *name##_;
    GT_CUDA_FUNCTIONS(MEMBER)
#undef MEMBER
    gp_status status; /* of loading */
    char why[512];
} cu;

static const char *const kernel_names[] = {
#define GT_KERNEL(name) #name,
#include "kernels.def"
#undef GT_KERNEL
};

/* Images of kernels.cu, none in a build without nvcc; see CMakeLists.txt. */
extern const void *const gt_cuda_images[];

/* A module that has nothing, for builds without kernels: the driver then says
 * which one is missing. */
static const char no_kernels[] =
    ".version 7.0\n.target sm_80\n.address_size 64\n";

/* --- loading --- */

static const char *
error_name(CUresult result)
{
    const char *name = NULL;

    if (!cu.cuGetErrorName_ ||
        cu.cuGetErrorName_(result, &name) != CUDA_SUCCESS || !name)
        return "unknown CUDA error";
    return name;
}

static void
load_failed(const char *format, const char *what)
{
    cu.status = GP_ERR_UNSUPPORTED;
    snprintf(cu.why, sizeof(cu.why), format, what);
}

static bool
load_functions(void *library)
{
    void *function;

#define LOAD(name)                                                  \
    function = dlsym(library, TEXT(name));                          \
    if (!function) {                                                \
        load_failed("libcuda.so.1 has no %s: the driver is too "    \
                    "old; update it, or compute with --device cpu", \
                    TEXT(name));                                    \
        return false;                                               \
    }                                                               \
    memcpy(&cu.name##_, &function, sizeof(function));
    GT_CUDA_FUNCTIONS(LOAD)
#undef LOAD
    return true;
}

/* The library stays loaded: the driver does not survive being unloaded. */
static void
load_driver(void)
{
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    CUresult result;

    if (!library) {
        load_failed("the CUDA driver cannot be loaded: %s; install the NVIDIA "
                    "driver, or compute with --device cpu",
                    dlerror());
        return;
    }
    if (!load_functions(library))
        return;
    result = cu.cuInit_(0);
    if (result != CUDA_SUCCESS)
        load_failed("the CUDA driver does not start: %s; see nvidia-smi, or "
                    "compute with --device cpu",
                    error_name(result));
}

static gp_status
failed(CUresult result, const char *call)
{
    return gt_fail(result == CUDA_ERROR_OUT_OF_MEMORY ? GP_ERR_NO_MEMORY
                                                      : GP_ERR_SYSTEM,
                   "%s: %s", call, error_name(result));
}

static gp_status
check(CUresult result, const char *call)
{
    return result == CUDA_SUCCESS ? GP_OK : failed(result, call);
}

gp_status
gt_cuda_count(uint32_t *out)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    int count = 0;
    gp_status status;

    pthread_once(&once, load_driver);
    if (cu.status != GP_OK)
        return gt_fail(cu.status, "%s", cu.why);
    status = check(cu.cuDeviceGetCount_(&count), "cuDeviceGetCount");
    if (status == GP_OK)
        *out = count > 0 ? (uint32_t)count : 0;
    return status;
}

gp_status
gt_cuda_index(const char *text, uint32_t local_rank, uint32_t *out)
{
    uint32_t count = 0, index;
    gp_status status = gt_cuda_count(&count);

    if (status != GP_OK)
        return status;
    if (count == 0)
        return gt_fail(GP_ERR_UNSUPPORTED,
                       "there is no CUDA device; see nvidia-smi -L and "
                       "CUDA_VISIBLE_DEVICES, or compute with --device cpu");
    index =
        text[4] ? (uint32_t)strtoul(text + 5, NULL, 10) : local_rank % count;
    if (index >= count)
        return gt_fail(GP_ERR_NOT_FOUND,
                       "--device %s: this process sees %u CUDA device%s; see "
                       "nvidia-smi -L and CUDA_VISIBLE_DEVICES",
                       text, count, count == 1 ? "" : "s");
    *out = index;
    return GP_OK;
}

/* --- a device --- */

static gp_status
open_stream(gt_cuda *c)
{
    gp_status status =
        check(cu.cuStreamCreate_(&c->stream, CU_STREAM_NON_BLOCKING),
              "cuStreamCreate");

    for (size_t i = 0; i < GT_CUDA_STEPS && status == GP_OK; i++)
        status =
            check(cu.cuEventCreate_(&c->step[i], CU_EVENT_DISABLE_TIMING |
                                                     CU_EVENT_BLOCKING_SYNC),
                  "cuEventCreate");
    return status;
}

static gp_status
load_kernels(gt_cuda *c)
{
    const void *image = gt_cuda_images[0] ? gt_cuda_images[0] : no_kernels;
    CUresult result = cu.cuModuleLoadData_(&c->module, image);

    if (result != CUDA_SUCCESS)
        return failed(result, "loading kernels (they are for compute "
                              "capability 8.0 and up)");
    for (size_t i = 0; i < GT_KERNELS && result == CUDA_SUCCESS; i++)
        result = cu.cuModuleGetFunction_(&c->function[i], c->module,
                                         kernel_names[i]);
    if (result == CUDA_ERROR_NOT_FOUND && !gt_cuda_images[0])
        return gt_fail(GP_ERR_UNSUPPORTED,
                       "this build has no CUDA kernels: install nvcc and "
                       "configure with -DGRADPUSH_KERNELS=ON, or compute with "
                       "--device cpu");
    return check(result, "cuModuleGetFunction");
}

gp_status
gt_cuda_open(uint32_t index, gt_cuda **out)
{
    gt_cuda *c = calloc(1, sizeof(*c));
    gp_status status;

    if (!c)
        return gt_fail(GP_ERR_NO_MEMORY, "out of memory");
    c->index = index;
    status = check(cu.cuDeviceGet_(&c->device, (int)index), "cuDeviceGet");
    if (status == GP_OK)
        status = check(cu.cuDevicePrimaryCtxRetain_(&c->context, c->device),
                       "cuDevicePrimaryCtxRetain");
    if (status != GP_OK) {
        free(c);
        return status;
    }
    if (cu.cuDeviceGetName_(c->name, (int)sizeof(c->name), c->device) !=
        CUDA_SUCCESS)
        snprintf(c->name, sizeof(c->name), "CUDA device %u", index);
    status = check(cu.cuCtxSetCurrent_(c->context), "cuCtxSetCurrent");
    if (status == GP_OK)
        status = open_stream(c);
    if (status == GP_OK)
        status = load_kernels(c);
    if (status != GP_OK) {
        gt_cuda_close(c);
        return status;
    }
    *out = c;
    return GP_OK;
}

void
gt_cuda_close(gt_cuda *c)
{
    if (!c)
        return;
    if (c->stream) {
        cu.cuStreamSynchronize_(c->stream);
        cu.cuStreamDestroy_(c->stream);
    }
    while (c->blocks > 0)
        cu.cuMemFree_(c->block[--c->blocks]);
    for (size_t i = 0; i < GT_CUDA_STEPS; i++)
        if (c->step[i])
            cu.cuEventDestroy_(c->step[i]);
    if (c->module)
        cu.cuModuleUnload_(c->module);
    cu.cuCtxSetCurrent_(NULL);
    cu.cuDevicePrimaryCtxRelease_(c->device);
    free(c);
}

/* --- memory --- */

static CUdeviceptr
pointer(const void *at)
{
    return (CUdeviceptr)(uintptr_t)at;
}

gp_status
gt_cuda_alloc(gt_cuda *c, size_t bytes, const char *what, void **out)
{
    CUdeviceptr block = 0;
    CUresult result;

    if (c->blocks == GT_CUDA_BLOCKS)
        return gt_fail(GP_ERR_TOO_LARGE, "more than %d blocks of memory",
                       GT_CUDA_BLOCKS);
    result = cu.cuMemAlloc_(&block, bytes ? bytes : 1);
    if (result == CUDA_ERROR_OUT_OF_MEMORY)
        return gt_fail(GP_ERR_NO_MEMORY,
                       "cuda:%u has no %.1f MB for %s: make --batch or "
                       "--hidden smaller",
                       c->index, (double)bytes / 1e6, what);
    if (result != CUDA_SUCCESS)
        return failed(result, "cuMemAlloc");
    c->block[c->blocks++] = block;
    *out = (void *)(uintptr_t)block;
    return GP_OK;
}

gp_status
gt_cuda_zero(gt_cuda *c, void *at, size_t bytes)
{
    if (bytes == 0)
        return GP_OK;
    return check(cu.cuMemsetD8Async_(pointer(at), 0, bytes, c->stream),
                 "cuMemsetD8Async");
}

static gp_status
wait_for(CUstream stream)
{
    return check(cu.cuStreamSynchronize_(stream), "work on the device");
}

/* The stream waits for no other one, so it is waited for before, and after it
 * the default stream, where the copy may still be under way. Nothing is copied
 * once a call has failed: the caller's memory may be gone by then. */
gp_status
gt_cuda_copy_in(gt_cuda *c, void *to, const void *from, size_t bytes)
{
    gp_status status = wait_for(c->stream);

    if (status == GP_OK && bytes)
        status =
            check(cu.cuMemcpyHtoD_(pointer(to), from, bytes), "cuMemcpyHtoD");
    return status == GP_OK ? wait_for(NULL) : status;
}

gp_status
gt_cuda_copy_out(gt_cuda *c, void *to, const void *from, size_t bytes)
{
    gp_status status = wait_for(c->stream);

    if (status == GP_OK && bytes)
        status =
            check(cu.cuMemcpyDtoH_(to, pointer(from), bytes), "cuMemcpyDtoH");
    return status;
}

/* --- work --- */

gp_status
gt_cuda_launch(gt_cuda *c, gt_kernel kernel, uint64_t grid, void **args)
{
    if (grid == 0)
        return GP_OK;
    if (grid > INT32_MAX)
        return gt_fail(GP_ERR_TOO_LARGE,
                       "%s: %llu blocks, at most 2^31 - 1 are possible",
                       kernel_names[kernel], (unsigned long long)grid);
    return check(cu.cuLaunchKernel_(c->function[kernel], (unsigned)grid, 1, 1,
                                    GT_BLOCK, 1, 1, 0, c->stream, args, NULL),
                 kernel_names[kernel]);
}

gp_status
gt_cuda_end_step(gt_cuda *c)
{
    CUevent event = c->step[c->steps % GT_CUDA_STEPS];
    gp_status status =
        check(cu.cuEventRecord_(event, c->stream), "cuEventRecord");

    if (status != GP_OK || ++c->steps < GT_CUDA_STEPS)
        return status;
    return check(cu.cuEventSynchronize_(c->step[c->steps % GT_CUDA_STEPS]),
                 "work on the device");
}

#else
typedef int gt_no_driver; /* a translation unit is not empty */
#endif
