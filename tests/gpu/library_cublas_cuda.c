/* SPDX-License-Identifier: Apache-2.0 */
/*
 * library_cublas_cuda.c - the simulated cuBLAS as libcublas.so.13, for programs
 * that load it.
 */
#define GP_SIM_CBLAS 1
#include "tests/gpu/sim_cublas_cuda.c"

/* What a program sets, which here is never called. */
void *(*gp_cublas_resolve)(const char *symbol);
