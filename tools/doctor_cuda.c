/* SPDX-License-Identifier: Apache-2.0 */
/*
 * doctor_cuda.c - what the CUDA driver says of the GPUs on the PCI bus.
 *
 * Only attributes are read: no context is made, so a GPU in use by others is
 * left alone. A driver that cannot be loaded, or does not start, is a reason.
 */
#include <stdio.h>

#include "doctor.h"

#ifndef GP_HAVE_CUDA

void
gp_doctor_ask_cuda(gp_doctor *doctor)
{
    (void)doctor;
}

#else

#include <cuda.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/base.h"
#include "device/device_cuda.h"

#define FUNCTIONS(X)       \
    X(cuInit)              \
    X(cuDriverGetVersion)  \
    X(cuDeviceGetCount)    \
    X(cuDeviceGet)         \
    X(cuDeviceGetName)     \
    X(cuDeviceGetPCIBusId) \
    X(cuDeviceGetAttribute)
#define TEXT(name)   TEXT_(name)
#define TEXT_(name)  #name

typedef struct cuda_calls {
#define MEMBER(name) __typeof__(name) *name##_;
    FUNCTIONS(MEMBER)
#undef MEMBER
} cuda_calls;

/* False, with the reason, when the driver or one of its functions is missing.
 * It stays loaded: it does not survive being unloaded. */
static bool
load(cuda_calls *calls, gp_doctor *doctor)
{
    void *library = NULL;

    if (!gp_cuda_resolve && !(library = dlopen("libcuda.so.1", RTLD_NOW))) {
        snprintf(doctor->cuda_reason, sizeof(doctor->cuda_reason),
                 "libcuda.so.1 cannot be loaded");
        return false;
    }
#define LOAD(name)                                                     \
    do {                                                               \
        void *symbol = gp_cuda_resolve ? gp_cuda_resolve(TEXT(name))   \
                                       : dlsym(library, TEXT(name));   \
        memcpy(&calls->name##_, &symbol, sizeof(symbol));              \
        if (!symbol) {                                                 \
            snprintf(doctor->cuda_reason, sizeof(doctor->cuda_reason), \
                     "libcuda.so.1 has no %s", TEXT(name));            \
            return false;                                              \
        }                                                              \
    } while (0);
    FUNCTIONS(LOAD)
#undef LOAD
    return true;
}

static int
attribute(const cuda_calls *calls, CUdevice device, CUdevice_attribute which)
{
    int value = -1;

    return calls->cuDeviceGetAttribute_(&value, which, device) == CUDA_SUCCESS
               ? value
               : -1;
}

/* The domain has 8 digits with CUDA and 4 in sysfs: compared from the end. */
static bool
same_bus_id(const char *cuda, const char *sysfs)
{
    const char *a = strchr(cuda, ':'), *b = strchr(sysfs, ':');

    return a && b && strtoul(cuda, NULL, 16) == strtoul(sysfs, NULL, 16) &&
           !strcasecmp(a, b);
}

static void
ask_device(gp_doctor *doctor, const cuda_calls *calls, CUdevice device)
{
    char bus_id[32] = "";

    if (calls->cuDeviceGetPCIBusId_(bus_id, sizeof(bus_id), device) !=
        CUDA_SUCCESS)
        return;
    for (size_t i = 0; i < doctor->gpu_count; i++) {
        gp_doctor_gpu *gpu = &doctor->gpus[i];

        if (!same_bus_id(bus_id, gpu->bus_id))
            continue;
        gpu->cuda = true;
        gpu->ordinal = (uint32_t)device;
        calls->cuDeviceGetName_(gpu->name, (int)sizeof(gpu->name), device);
        gpu->dmabuf =
            attribute(calls, device, CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED);
        gpu->gdr = attribute(calls, device,
                             CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED);
        gpu->ordering = attribute(
            calls, device, CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WRITES_ORDERING);
        gpu->flush =
            attribute(calls, device,
                      CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_FLUSH_WRITES_OPTIONS);
    }
}

void
gp_doctor_ask_cuda(gp_doctor *doctor)
{
    cuda_calls calls;
    CUdevice device;
    int count = 0;

    if (!doctor->gpu_count || !load(&calls, doctor))
        return;
    if (calls.cuInit_(0) != CUDA_SUCCESS) {
        snprintf(doctor->cuda_reason, sizeof(doctor->cuda_reason),
                 "the CUDA driver does not start (cuInit fails)");
        return;
    }
    calls.cuDriverGetVersion_(&doctor->cuda_driver);
    calls.cuDeviceGetCount_(&count);
    for (int i = 0; i < count; i++)
        if (calls.cuDeviceGet_(&device, i) == CUDA_SUCCESS)
            ask_device(doctor, &calls, device);
}

#endif
