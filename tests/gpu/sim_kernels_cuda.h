/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_kernels_cuda.h - the functions of the simulated driver's devices.
 */
#ifndef GP_SIM_KERNELS_CUDA_H
#define GP_SIM_KERNELS_CUDA_H

#include <cuda.h>

/* Bytes of shared memory that a launch may have at most. */
extern int sim_block_shared;

CUresult sim_kernel_find(CUfunction *out, const char *name);
/* More than 48 KiB of dynamic shared memory, before launches that ask for it.
 */
CUresult sim_kernel_allow(CUfunction f, int shared);
CUresult sim_kernel_launch(CUfunction f, unsigned grid, unsigned threads,
                           unsigned shared, CUstream s, void **args);

#endif
