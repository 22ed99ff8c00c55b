/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device_cuda.h - where the CUDA driver's functions come from.
 */
#ifndef GP_DEVICE_CUDA_H
#define GP_DEVICE_CUDA_H

/* Gives a function of the driver by its exported name, or NULL. Set before the
 * first use of gp_device_cuda; NULL, the default, loads libcuda.so.1. Tests put
 * a driver of their own here. */
extern void *(*gp_cuda_resolve)(const char *symbol);

#endif
