/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_cuda.h - a CUDA driver made of host memory and threads.
 *
 * It stands behind gp_cuda_resolve, so all of our CUDA code runs on it: streams
 * are threads that work off their queue in order and at their own pace, events
 * are places in them, kernels are those of compress/cuda compiled for the host.
 * Like a device it does nothing by the time a call returns, so code that does
 * not wait where it must fails here, under sanitizers too.
 *
 * One for the process: install it before the first use of CUDA.
 */
#ifndef GP_SIM_CUDA_H
#define GP_SIM_CUDA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the simulated devices say of themselves. */
typedef struct gp_sim_cuda_options {
    uint32_t devices;
    bool dma_buf;        /* exports memory, as a memfd; blocks of whole 2 MiB
                            lie in it, others' has only their size */
    int writes_ordering; /* CU_GPU_DIRECT_RDMA_WRITES_ORDERING_* */
    bool no_wait_value;  /* as drivers of old */
    bool no_flush;       /* likewise, of what network devices wrote */
    uint32_t delay_us;   /* before each piece of work on a stream */
    bool zeros;          /* are in new memory, which nobody promises */
    int block_shared;    /* bytes that a launch may have; 0: 227 KiB */
} gp_sim_cuda_options;

void gp_sim_cuda_install(const gp_sim_cuda_options *options);

/* The nth call (from 1) of the function, or of any that can fail (NULL), from
 * now on fails with `result`; n 0: none does. */
void gp_sim_cuda_fail(const char *function, uint32_t n, int result);

/* Whether the call that was to fail has come. */
bool gp_sim_cuda_failed(void);

/* Contexts that this thread has pushed and not popped. */
int gp_sim_cuda_pushed(void);

/* Whether memory of a device is there. Any thread. */
bool gp_sim_cuda_owns(const void *pointer);

/* Whether a range lies in one block of a device's memory. */
bool gp_sim_cuda_holds(const void *at, size_t bytes);

/* A network device writes there. While writes are hidden nobody sees them
 * before they are flushed; what is hidden then goes when its block does. */
void gp_sim_cuda_store(void *to, const void *from, size_t bytes);
void gp_sim_cuda_hide(bool hide);

/* Queues a call on a stream, for libraries of the device's own; not 0: why
 * not. */
int gp_sim_cuda_call(void *stream, void (*call)(void *), void *with);

/* Calls that have been queued: of the host's, and products. */
uint32_t gp_sim_cuda_host_calls(void);

/* Calls of cuFlushGPUDirectRDMAWrites so far. */
uint64_t gp_sim_cuda_flushes(void);

/* What has been made and not freed: blocks, streams, events, modules. */
uint32_t gp_sim_cuda_objects(void);

/* Kernels launched, and bytes copied, since the installation. */
uint64_t gp_sim_cuda_launches(void);
uint32_t gp_sim_cuda_launches_of(const char *kernel);
uint64_t gp_sim_cuda_copied(void);
/* Of these, on streams from a device's memory to the host's. */
uint64_t gp_sim_cuda_copied_out(void);

/* A kernel is loaded. Those of which that happened while a stream waited for a
 * number: a real driver may wait for that stream then. */
void gp_sim_cuda_load(void);
uint32_t gp_sim_cuda_late(void);

/* Says that a graph is being captured from a stream, in the mode in which no
 * thread may do what is unsafe unless it says that it knows. */
void gp_sim_cuda_capture(void *stream, bool capturing);
/* Work that has gone into captures, and calls that have broken one. */
uint32_t gp_sim_cuda_captured(void);
uint32_t gp_sim_cuda_broken(void);

/* cuBLAS on this driver (sim_cublas_cuda.c), or none. The nth call of the
 * function fails, 0: every one; handles that are open; products so far. */
void gp_sim_cublas_install(bool there);
void gp_sim_cublas_fail(const char *function, unsigned n, int result);
int gp_sim_cublas_handles(void);
uint64_t gp_sim_cublas_products(void);

#endif
