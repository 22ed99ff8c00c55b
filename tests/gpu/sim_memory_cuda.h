/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_memory_cuda.h - memory of the simulated devices.
 */
#ifndef GP_SIM_MEMORY_CUDA_H
#define GP_SIM_MEMORY_CUDA_H

#include <cuda.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct sim_block {
    void *base;
    size_t bytes;
    int device; /* -1: pinned memory of the host; -2: none */
    int fd;     /* that it lies in, or -1 */
} sim_block;

/* What has been made and not freed, blocks and others; under sim_lock. */
extern uint32_t sim_objects;

/* What all bytes of a new block are: numbers that are none, and no place. */
extern uint8_t sim_block_first;

/* `mapped`: whole segments of a device can be exported. */
CUresult sim_block_new(size_t bytes, int device, bool mapped, void **out);
CUresult sim_block_free(void *base);
sim_block sim_block_find(uintptr_t at);
/* What was written and hidden is there; under sim_lock. */
void sim_block_show(void);
/* A descriptor for exactly such a block, or -1. */
int sim_block_export(uintptr_t base, size_t bytes);

#endif
