/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_kernels_cuda.c - kernels of the simulated driver: found by name, counted,
 * and queued with a copy of their arguments.
 */
#include <string.h>

#include "base/base.h"
#include "tests/gpu/sim_cuda.h"
#include "tests/gpu/sim_kernels_cuda.h"
#include "tests/gpu/sim_stream_cuda.h"

#define USUAL_SHARED (48u * 1024)

int sim_block_shared = 227 * 1024;

static struct {
    uint32_t launches;
    unsigned shared; /* bytes that it may ask for */
} about[256];        /* or fewer, with those of the trainer */
static uint64_t launches;
static uint32_t late; /* loaded while a stream waited */

static const gp_emulated *
kernel_of(CUfunction f)
{
    return (const gp_emulated *)(uintptr_t)f;
}

static size_t
number_of(CUfunction f)
{
    return (size_t)(kernel_of(f) - gp_emulated_kernels);
}

CUresult
sim_kernel_find(CUfunction *out, const char *name)
{
    for (const gp_emulated *k = gp_emulated_kernels; k->name; k++)
        if (strcmp(k->name, name) == 0 &&
            k - gp_emulated_kernels < (ptrdiff_t)GP_COUNT_OF(about)) {
            *out = (CUfunction)(uintptr_t)k;
            return CUDA_SUCCESS;
        }
    return CUDA_ERROR_NOT_FOUND;
}

void
gp_sim_cuda_load(void)
{
    pthread_mutex_lock(&sim_lock);
    late += sim_waits > 0;
    pthread_mutex_unlock(&sim_lock);
}

uint32_t
gp_sim_cuda_late(void)
{
    uint32_t out;

    pthread_mutex_lock(&sim_lock);
    out = late;
    pthread_mutex_unlock(&sim_lock);
    return out;
}

CUresult
sim_kernel_allow(CUfunction f, int shared)
{
    if (shared < 0 || shared > sim_block_shared)
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&sim_lock);
    about[number_of(f)].shared = (unsigned)shared;
    pthread_mutex_unlock(&sim_lock);
    return CUDA_SUCCESS;
}

/* Copies the arguments, as the real one does. */
static sim_work *
work_of(const gp_emulated *kernel, void **args)
{
    sim_work *w = sim_work_new(WORK_KERNEL);

    if (!w)
        return NULL;
    w->kernel = kernel;
    for (unsigned i = 0; i < kernel->count; i++) {
        memcpy(&w->words[i], args[i], kernel->bytes[i]);
        w->args[i] = &w->words[i];
    }
    return w;
}

CUresult
sim_kernel_launch(CUfunction f, unsigned grid, unsigned threads,
                  unsigned shared, CUstream s, void **args)
{
    size_t number = number_of(f);
    bool may;
    sim_work *w;

    pthread_mutex_lock(&sim_lock);
    may = grid && threads <= 1024 &&
          shared <= GP_MAX(USUAL_SHARED, about[number].shared);
    pthread_mutex_unlock(&sim_lock);
    if (!may)
        return CUDA_ERROR_INVALID_VALUE;
    w = work_of(kernel_of(f), args);
    if (!w)
        return CUDA_ERROR_OUT_OF_MEMORY;
    w->grid = grid;
    w->threads = threads;
    w->shared = shared;
    pthread_mutex_lock(&sim_lock);
    launches++;
    about[number].launches++;
    pthread_mutex_unlock(&sim_lock);
    return sim_queue(s, w);
}

uint64_t
gp_sim_cuda_launches(void)
{
    uint64_t out;

    pthread_mutex_lock(&sim_lock);
    out = launches;
    pthread_mutex_unlock(&sim_lock);
    return out;
}

uint32_t
gp_sim_cuda_launches_of(const char *name)
{
    CUfunction f = NULL;
    uint32_t out = 0;

    if (sim_kernel_find(&f, name) != CUDA_SUCCESS)
        return 0;
    pthread_mutex_lock(&sim_lock);
    out = about[number_of(f)].launches;
    pthread_mutex_unlock(&sim_lock);
    return out;
}
