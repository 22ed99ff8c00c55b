/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_cuda.c - the simulated driver: memory, events, and the table of calls.
 *
 * One lock guards all of it but the work itself, which streams do outside of
 * it. What waits for anything waits on one condition.
 */
#include "tests/gpu/sim_cuda.h"

#include <cuda.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"
#include "device/device_cuda.h"
#include "device/driver_cuda.h"
#include "tests/gpu/sim_kernels_cuda.h"
#include "tests/gpu/sim_memory_cuda.h"
#include "tests/gpu/sim_stream_cuda.h"

#define TEXT(name)  TEXT_(name)
#define TEXT_(name) #name

static gp_sim_cuda_options options;
static uint64_t copied, copied_out, places, flushes;
static struct {
    const char *function;
    uint32_t left;
    CUresult result;
} fault;
static _Thread_local int current = -1; /* device */
static _Thread_local int pushed[16], depth;

/* Whether this call, sim_cuSomething, is the one that fails. */
static bool
fails(const char *function, CUresult *result)
{
    bool hit = false;

    pthread_mutex_lock(&sim_lock);
    if (fault.left > 0 &&
        (!fault.function || strcmp(fault.function, function + 4) == 0) &&
        --fault.left == 0) {
        *result = fault.result;
        hit = true;
    }
    pthread_mutex_unlock(&sim_lock);
    return hit;
}
#define MAY_FAIL                       \
    do {                               \
        CUresult result_;              \
        if (fails(__func__, &result_)) \
            return result_;            \
    } while (0)

/* What may not be done while some graph is captured, unless the thread says
 * that it knows. */
static _Thread_local CUstreamCaptureMode mode;
static uint32_t broken;

static bool
breaks_capture(void)
{
    bool out;

    pthread_mutex_lock(&sim_lock);
    out = sim_captures > 0 && mode == CU_STREAM_CAPTURE_MODE_GLOBAL;
    broken += out;
    pthread_mutex_unlock(&sim_lock);
    return out;
}
#define UNSAFE                                            \
    do {                                                  \
        if (breaks_capture())                             \
            return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED; \
    } while (0)

/* --- calls; the names are those of cuda.h with the macros' detours --- */

static CUresult
sim_cuInit(unsigned flags)
{
    (void)flags;
    return options.devices ? CUDA_SUCCESS : CUDA_ERROR_NO_DEVICE;
}

static CUresult
sim_cuGetErrorName(CUresult error, const char **name)
{
    *name = error == CUDA_ERROR_OUT_OF_MEMORY     ? "CUDA_ERROR_OUT_OF_MEMORY"
            : error == CUDA_ERROR_ILLEGAL_ADDRESS ? "CUDA_ERROR_ILLEGAL_ADDRESS"
            : error == CUDA_ERROR_NOT_SUPPORTED   ? "CUDA_ERROR_NOT_SUPPORTED"
                                                  : "CUDA_ERROR_UNKNOWN";
    return CUDA_SUCCESS;
}

static CUresult
sim_cuDeviceGetCount(int *count)
{
    *count = (int)options.devices;
    return CUDA_SUCCESS;
}

static CUresult
sim_cuDeviceGet(CUdevice *device, int ordinal)
{
    *device = ordinal;
    return CUDA_SUCCESS;
}

static CUresult
sim_cuDeviceGetName(char *name, int length, CUdevice device)
{
    snprintf(name, (size_t)length, "simulated device %d", device);
    return CUDA_SUCCESS;
}

static CUresult
sim_cuDeviceGetPCIBusId(char *bus, int length, CUdevice device)
{
    snprintf(bus, (size_t)length, "0000:%02x:00.0", (unsigned)device + 0x10);
    return CUDA_SUCCESS;
}

static CUresult
sim_cuDeviceGetAttribute(int *value, CUdevice_attribute which, CUdevice device)
{
    (void)device;
    switch ((int)which) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
        *value = 9;
        break;
    case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING:
        *value = 1;
        break;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
        *value = 2;
        break;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN:
        *value = sim_block_shared;
        break;
    case CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED:
        *value = 1;
        break;
    case CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED:
        *value = options.dma_buf;
        break;
    case CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WRITES_ORDERING:
        *value = options.writes_ordering;
        break;
    case CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_FLUSH_WRITES_OPTIONS:
        *value =
            options.no_flush ? 0 : CU_FLUSH_GPU_DIRECT_RDMA_WRITES_OPTION_HOST;
        break;
    default:
        *value = 0;
    }
    return CUDA_SUCCESS;
}

static CUresult
sim_cuDeviceTotalMem(size_t *bytes, CUdevice device)
{
    (void)device;
    *bytes = (size_t)1 << 30;
    return CUDA_SUCCESS;
}

static CUresult
sim_cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device)
{
    *context = (CUcontext)(uintptr_t)(device + 1);
    return CUDA_SUCCESS;
}

static CUresult
sim_cuDevicePrimaryCtxRelease(CUdevice device)
{
    (void)device;
    return CUDA_SUCCESS;
}

static CUresult
sim_cuCtxPushCurrent(CUcontext context)
{
    MAY_FAIL;
    if (depth == 16)
        return CUDA_ERROR_INVALID_CONTEXT;
    pushed[depth++] = current;
    current = (int)(uintptr_t)context - 1;
    return CUDA_SUCCESS;
}

static CUresult
sim_cuCtxPopCurrent(CUcontext *context)
{
    if (depth == 0)
        return CUDA_ERROR_INVALID_CONTEXT;
    *context = (CUcontext)(uintptr_t)(current + 1);
    current = pushed[--depth];
    return CUDA_SUCCESS;
}

static CUresult
sim_cuCtxSynchronize(void)
{
    MAY_FAIL;
    return sim_drain_all();
}

static CUresult
sim_cuMemAlloc(CUdeviceptr *out, size_t bytes)
{
    void *base = NULL;
    CUresult result;

    MAY_FAIL;
    UNSAFE;
    result = sim_block_new(bytes, current, options.dma_buf, &base);
    if (result == CUDA_SUCCESS)
        *out = (CUdeviceptr)(uintptr_t)base;
    return result;
}

/* Waits for the device, as the real one does. */
static CUresult
sim_cuMemFree(CUdeviceptr base)
{
    sim_drain_usual();
    return sim_block_free((void *)(uintptr_t)base);
}

static CUresult
sim_cuMemHostAlloc(void **out, size_t bytes, unsigned flags)
{
    (void)flags;
    MAY_FAIL;
    UNSAFE;
    return sim_block_new(bytes, -1, false, out);
}

static CUresult
sim_cuMemFreeHost(void *base)
{
    sim_drain_usual();
    return sim_block_free(base);
}

static CUresult
sim_cuPointerGetAttributes(unsigned count, CUpointer_attribute *which,
                           void **into, CUdeviceptr pointer)
{
    const sim_block found = sim_block_find(pointer);

    for (unsigned i = 0; i < count; i++)
        switch ((int)which[i]) {
        case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
            *(unsigned *)into[i] = found.device >= 0    ? CU_MEMORYTYPE_DEVICE
                                   : found.device == -1 ? CU_MEMORYTYPE_HOST
                                                        : 0;
            break;
        case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
            *(int *)into[i] = found.device;
            break;
        case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
            *(CUdeviceptr *)into[i] = (CUdeviceptr)(uintptr_t)found.base;
            break;
        case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
            *(size_t *)into[i] = found.bytes;
            break;
        case CU_POINTER_ATTRIBUTE_IS_MANAGED:
            *(int *)into[i] = 0;
            break;
        case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
            *(void **)into[i] = NULL;
            break;
        default:
            return CUDA_ERROR_INVALID_VALUE;
        }
    return CUDA_SUCCESS;
}

static CUresult
copy_now(void *to, const void *from, size_t bytes)
{
    sim_drain_usual();
    memcpy(to, from, bytes);
    pthread_mutex_lock(&sim_lock);
    copied += bytes;
    pthread_mutex_unlock(&sim_lock);
    return CUDA_SUCCESS;
}

static CUresult
sim_cuMemcpyHtoD(CUdeviceptr to, const void *from, size_t bytes)
{
    MAY_FAIL;
    UNSAFE;
    return copy_now((void *)(uintptr_t)to, from, bytes);
}

static CUresult
sim_cuMemcpyDtoH(void *to, CUdeviceptr from, size_t bytes)
{
    MAY_FAIL;
    UNSAFE;
    return copy_now(to, (const void *)(uintptr_t)from, bytes);
}

static CUresult
sim_cuMemcpyDtoD(CUdeviceptr to, CUdeviceptr from, size_t bytes)
{
    MAY_FAIL;
    UNSAFE;
    /* The driver does not promise anything then. */
    if (to < from + bytes && from < to + bytes)
        return CUDA_ERROR_INVALID_VALUE;
    return copy_now((void *)(uintptr_t)to, (const void *)(uintptr_t)from,
                    bytes);
}

static CUresult
sim_cuMemsetD8(CUdeviceptr to, unsigned char value, size_t bytes)
{
    MAY_FAIL;
    UNSAFE;
    sim_drain_usual();
    memset((void *)(uintptr_t)to, value, bytes);
    return CUDA_SUCCESS;
}

static CUresult
sim_cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream s)
{
    sim_work *w;
    bool leaves;

    MAY_FAIL;
    w = sim_work_new(WORK_COPY);
    if (!w)
        return CUDA_ERROR_OUT_OF_MEMORY;
    w->to = (void *)(uintptr_t)to;
    w->from = (const void *)(uintptr_t)from;
    w->bytes = bytes;
    leaves = gp_sim_cuda_owns(w->from) && !gp_sim_cuda_owns(w->to);
    pthread_mutex_lock(&sim_lock);
    copied += bytes;
    copied_out += leaves ? bytes : 0;
    pthread_mutex_unlock(&sim_lock);
    return sim_queue(s, w);
}

static CUresult
sim_cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t bytes,
                    CUstream s)
{
    sim_work *w;

    MAY_FAIL;
    w = sim_work_new(WORK_FILL);
    if (!w)
        return CUDA_ERROR_OUT_OF_MEMORY;
    w->to = (void *)(uintptr_t)to;
    w->value = value;
    w->bytes = bytes;
    return sim_queue(s, w);
}

static CUresult
sim_cuCtxGetStreamPriorityRange(int *lowest, int *highest)
{
    MAY_FAIL;
    *lowest = 0;
    *highest = -5;
    return CUDA_SUCCESS;
}

static CUresult
sim_cuStreamCreateWithPriority(CUstream *out, unsigned flags, int priority)
{
    sim_stream *s;

    MAY_FAIL;
    if (flags != CU_STREAM_NON_BLOCKING || priority > 0 || priority < -5)
        return CUDA_ERROR_INVALID_VALUE;
    s = calloc(1, sizeof(*s));
    if (!s)
        return CUDA_ERROR_OUT_OF_MEMORY;
    sim_stream_start(s);
    pthread_mutex_lock(&sim_lock);
    sim_objects++;
    pthread_mutex_unlock(&sim_lock);
    *out = (CUstream)s;
    return CUDA_SUCCESS;
}

static CUresult
sim_cuStreamDestroy(CUstream handle)
{
    sim_stream *s = sim_stream_of(handle);

    if (s == &sim_usual)
        return CUDA_ERROR_INVALID_HANDLE;
    pthread_mutex_lock(&sim_lock);
    s->ending = true;
    sim_objects--;
    pthread_cond_broadcast(&sim_changed);
    pthread_mutex_unlock(&sim_lock);
    pthread_join(s->thread, NULL);
    free(s);
    return CUDA_SUCCESS;
}

static CUresult
sim_cuStreamSynchronize(CUstream handle)
{
    MAY_FAIL;
    UNSAFE;
    return sim_drain(sim_stream_of(handle));
}

/* The default stream is one with those of threads in this. */
static CUresult
sim_cuStreamIsCapturing(CUstream handle, CUstreamCaptureStatus *out)
{
    sim_stream *s = sim_stream_of(handle);
    CUresult result = CUDA_SUCCESS;

    pthread_mutex_lock(&sim_lock);
    if (s == &sim_usual && sim_own_captures())
        result = CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    else
        *out = s->capturing ? CU_STREAM_CAPTURE_STATUS_ACTIVE
                            : CU_STREAM_CAPTURE_STATUS_NONE;
    pthread_mutex_unlock(&sim_lock);
    return result;
}

static CUresult
sim_cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode *with)
{
    CUstreamCaptureMode before = mode;

    mode = *with;
    *with = before;
    return CUDA_SUCCESS;
}

static CUresult
sim_cuEventCreate(CUevent *out, unsigned flags)
{
    sim_event *e;

    (void)flags;
    MAY_FAIL;
    e = calloc(1, sizeof(*e));
    if (!e)
        return CUDA_ERROR_OUT_OF_MEMORY;
    pthread_mutex_lock(&sim_lock);
    sim_objects++;
    pthread_mutex_unlock(&sim_lock);
    *out = (CUevent)e;
    return CUDA_SUCCESS;
}

/* Work that is queued may still name it. */
static CUresult
sim_cuEventDestroy(CUevent handle)
{
    sim_event *e = (sim_event *)handle;

    pthread_mutex_lock(&sim_lock);
    while (e->done < e->recorded)
        pthread_cond_wait(&sim_changed, &sim_lock);
    sim_objects--;
    e->gone = true;
    if (e->users == 0)
        free(e);
    pthread_mutex_unlock(&sim_lock);
    return CUDA_SUCCESS;
}

static CUresult
sim_cuEventRecord(CUevent handle, CUstream s)
{
    sim_event *e = (sim_event *)handle;
    sim_work *w;

    MAY_FAIL;
    w = sim_work_new(WORK_RECORD);
    if (!w)
        return CUDA_ERROR_OUT_OF_MEMORY;
    pthread_mutex_lock(&sim_lock);
    e->recorded = ++places;
    w->event = e;
    w->place = e->recorded;
    pthread_mutex_unlock(&sim_lock);
    return sim_queue(s, w);
}

static CUresult
sim_cuEventElapsedTime(float *ms, CUevent from, CUevent to)
{
    MAY_FAIL;
    pthread_mutex_lock(&sim_lock);
    *ms = (float)(((sim_event *)to)->ms - ((sim_event *)from)->ms);
    pthread_mutex_unlock(&sim_lock);
    return CUDA_SUCCESS;
}

static CUresult
sim_cuEventQuery(CUevent handle)
{
    sim_event *e = (sim_event *)handle;
    CUresult result;

    MAY_FAIL;
    UNSAFE;
    pthread_mutex_lock(&sim_lock);
    result = e->done >= e->recorded ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
    pthread_mutex_unlock(&sim_lock);
    return result;
}

static CUresult
sim_cuStreamWaitEvent(CUstream s, CUevent handle, unsigned flags)
{
    sim_event *e = (sim_event *)handle;
    sim_work *w;

    (void)flags;
    MAY_FAIL;
    w = sim_work_new(WORK_WAIT_EVENT);
    if (!w)
        return CUDA_ERROR_OUT_OF_MEMORY;
    pthread_mutex_lock(&sim_lock);
    w->event = e;
    w->place = e->recorded;
    pthread_mutex_unlock(&sim_lock);
    return sim_queue(s, w);
}

static CUresult
sim_cuLaunchHostFunc(CUstream stream, CUhostFn call, void *with)
{
    MAY_FAIL;
    return (CUresult)gp_sim_cuda_call(stream, call, with);
}

static CUresult
sim_cuStreamWaitValue32(CUstream s, CUdeviceptr address, uint32_t value,
                        unsigned flags)
{
    sim_work *w;

    MAY_FAIL;
    if (flags != CU_STREAM_WAIT_VALUE_GEQ)
        return CUDA_ERROR_NOT_SUPPORTED;
    w = sim_work_new(WORK_WAIT_VALUE);
    if (!w)
        return CUDA_ERROR_OUT_OF_MEMORY;
    w->from = (const void *)(uintptr_t)address;
    w->value = value;
    return sim_queue(s, w);
}

static CUresult
sim_cuModuleLoadData(CUmodule *out, const void *image)
{
    MAY_FAIL;
    if (!image)
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&sim_lock);
    sim_objects++;
    pthread_mutex_unlock(&sim_lock);
    *out = (CUmodule)(uintptr_t)1;
    return CUDA_SUCCESS;
}

static CUresult
sim_cuModuleUnload(CUmodule module)
{
    (void)module;
    pthread_mutex_lock(&sim_lock);
    sim_objects--;
    pthread_mutex_unlock(&sim_lock);
    return CUDA_SUCCESS;
}

static CUresult
sim_cuModuleGetFunction(CUfunction *out, CUmodule module, const char *name)
{
    (void)module;
    MAY_FAIL;
    gp_sim_cuda_load();
    return sim_kernel_find(out, name);
}

static CUresult
sim_cuFuncLoad(CUfunction f)
{
    (void)f;
    MAY_FAIL;
    return CUDA_SUCCESS;
}

static CUresult
sim_cuFuncSetAttribute(CUfunction f, CUfunction_attribute which, int value)
{
    MAY_FAIL;
    if (which != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES)
        return CUDA_ERROR_INVALID_VALUE;
    return sim_kernel_allow(f, value);
}

static CUresult
sim_cuLaunchKernel(CUfunction f, unsigned gx, unsigned gy, unsigned gz,
                   unsigned bx, unsigned by, unsigned bz, unsigned shared,
                   CUstream s, void **args, void **extra)
{
    MAY_FAIL;
    if (extra || gy != 1 || gz != 1 || by != 1 || bz != 1)
        return CUDA_ERROR_INVALID_VALUE;
    return sim_kernel_launch(f, gx, bx, shared, s, args);
}

static CUresult
sim_cuMemGetHandleForAddressRange(void *handle, CUdeviceptr address,
                                  size_t bytes, CUmemRangeHandleType type,
                                  unsigned long long flags)
{
    int fd = -1;

    MAY_FAIL;
    if (!options.dma_buf || type != CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD)
        return CUDA_ERROR_NOT_SUPPORTED;
    if (flags || address % 4096 || bytes % 4096)
        return CUDA_ERROR_INVALID_VALUE;
    fd = sim_block_export(address, bytes);
    if (fd >= 0) {
        *(int *)handle = fd;
        return CUDA_SUCCESS;
    }
    fd = memfd_create("simulated dma-buf", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0)
        return CUDA_ERROR_OPERATING_SYSTEM;
    *(int *)handle = fd;
    return CUDA_SUCCESS;
}

static CUresult
sim_cuPointerSetAttribute(const void *value, CUpointer_attribute which,
                          CUdeviceptr pointer)
{
    (void)value;
    (void)which;
    (void)pointer;
    return CUDA_SUCCESS;
}

static CUresult
sim_cuFlushGPUDirectRDMAWrites(CUflushGPUDirectRDMAWritesTarget target,
                               CUflushGPUDirectRDMAWritesScope scope)
{
    MAY_FAIL;
    if (target != CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TARGET_CURRENT_CTX ||
        scope != CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TO_OWNER)
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&sim_lock);
    flushes++;
    sim_block_show();
    pthread_mutex_unlock(&sim_lock);
    return CUDA_SUCCESS;
}

/* --- the table --- */

typedef void any_call(void);
static const struct {
    const char *name;
    any_call *call;
} table[] = {
#define ENTRY(name) {TEXT(name), (any_call *)sim_##name},
    GP_CUDA_FUNCTIONS(ENTRY) GP_CUDA_OPTIONAL(ENTRY)
#undef ENTRY
};

static void *
resolve(const char *symbol)
{
    void *out = NULL;

    if (options.no_wait_value && strncmp(symbol, "cuStreamWaitValue", 17) == 0)
        return NULL;
    for (size_t i = 0; i < GP_COUNT_OF(table); i++)
        if (strcmp(table[i].name, symbol) == 0)
            memcpy(&out, &table[i].call, sizeof(out));
    return out;
}

void
gp_sim_cuda_install(const gp_sim_cuda_options *o)
{
    options = *o;
    sim_delay_us = o->delay_us;
    sim_block_first = o->zeros ? 0 : 0xff;
    sim_block_shared = o->block_shared ? o->block_shared : 227 * 1024;
    gp_cuda_resolve = resolve;
    gp_sim_cublas_install(false); /* none of the machine's own */
}

void
gp_sim_cuda_fail(const char *function, uint32_t n, int result)
{
    pthread_mutex_lock(&sim_lock);
    fault.function = function;
    fault.left = n;
    fault.result = (CUresult)result;
    pthread_mutex_unlock(&sim_lock);
}

bool
gp_sim_cuda_failed(void)
{
    bool out;

    pthread_mutex_lock(&sim_lock);
    out = fault.left == 0;
    pthread_mutex_unlock(&sim_lock);
    return out;
}

int
gp_sim_cuda_pushed(void)
{
    return depth;
}

uint32_t
gp_sim_cuda_objects(void)
{
    uint32_t out;

    pthread_mutex_lock(&sim_lock);
    out = sim_objects;
    pthread_mutex_unlock(&sim_lock);
    return out;
}

uint64_t
gp_sim_cuda_copied(void)
{
    uint64_t out;

    pthread_mutex_lock(&sim_lock);
    out = copied;
    pthread_mutex_unlock(&sim_lock);
    return out;
}

uint64_t
gp_sim_cuda_copied_out(void)
{
    uint64_t out;

    pthread_mutex_lock(&sim_lock);
    out = copied_out;
    pthread_mutex_unlock(&sim_lock);
    return out;
}

uint64_t
gp_sim_cuda_flushes(void)
{
    uint64_t out;

    pthread_mutex_lock(&sim_lock);
    out = flushes;
    pthread_mutex_unlock(&sim_lock);
    return out;
}

uint32_t
gp_sim_cuda_broken(void)
{
    uint32_t out;

    pthread_mutex_lock(&sim_lock);
    out = broken;
    pthread_mutex_unlock(&sim_lock);
    return out;
}
