/* SPDX-License-Identifier: Apache-2.0 */
/*
 * library_cuda.c - the simulated driver as libcuda.so.1, for programs that load
 * it: LD_LIBRARY_PATH is all that they need.
 *
 * The environment says what it is like:
 *
 *     SIM_CUDA=devices=2,delay=50,fail=cuMemAlloc,nth=3,result=2
 *
 * devices (1), microseconds before each piece of work (0), and a call that
 * fails. A program may also find gp_sim_cuda_fail() and the others by dlsym().
 */
#include "tests/gpu/sim_cuda.c"

#include "examples/trainer/cuda/driver_cuda.h"

#define EXPORTED __attribute__((visibility("default")))

/* Calls of the trainer's that the library does not make. */
static CUresult
sim_cuCtxSetCurrent(CUcontext context)
{
    MAY_FAIL;
    current = (int)(uintptr_t)context - 1;
    return CUDA_SUCCESS;
}

static CUresult
sim_cuStreamCreate(CUstream *out, unsigned flags)
{
    MAY_FAIL;
    return sim_cuStreamCreateWithPriority(out, flags, 0);
}

static CUresult
sim_cuEventSynchronize(CUevent handle)
{
    sim_event *e = (sim_event *)handle;

    MAY_FAIL;
    pthread_mutex_lock(&sim_lock);
    while (e->done < e->recorded)
        pthread_cond_wait(&sim_changed, &sim_lock);
    pthread_mutex_unlock(&sim_lock);
    return CUDA_SUCCESS;
}

/* One name for each function, as the driver has it: cuMemAlloc_v2. */
#define EXPORT(name) EXPORT_(name, sim_##name)
#define EXPORT_(name, function)      \
    extern __typeof__(function) name \
        __attribute__((alias(#function), visibility("default")));
GP_CUDA_FUNCTIONS(EXPORT)
GP_CUDA_OPTIONAL(EXPORT)
EXPORT(cuCtxSetCurrent)
EXPORT(cuStreamCreate)
EXPORT(cuEventSynchronize)

static unsigned
number_of(const char *text, const char *key, unsigned otherwise)
{
    const char *at = text ? strstr(text, key) : NULL;

    return at ? (unsigned)strtoul(at + strlen(key), NULL, 10) : otherwise;
}

__attribute__((constructor)) static void
begin(void)
{
    static char function[64];
    const char *text = getenv("SIM_CUDA");
    const char *fail = text ? strstr(text, "fail=") : NULL;
    gp_sim_cuda_options o = {.devices = number_of(text, "devices=", 1),
                             .delay_us = number_of(text, "delay=", 0)};

    gp_sim_cuda_install(&o);
    if (!fail)
        return;
    snprintf(function, sizeof(function), "%.*s", (int)strcspn(fail + 5, ","),
             fail + 5);
    gp_sim_cuda_fail(function, number_of(text, "nth=", 1),
                     (int)number_of(text, "result=", 2));
}
