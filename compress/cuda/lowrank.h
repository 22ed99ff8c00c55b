/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lowrank.h - what the kernels of powersgd share with the code that launches
 * them (coder_lowrank.c).
 */
#ifndef GP_CUDA_LOWRANK_H
#define GP_CUDA_LOWRANK_H

#include <stdint.h>

#define GP_LOWRANK_TILE    8192u /* elements of a block of the grid */
#define GP_LOWRANK_THREADS 256u
/* Of the one block of the grid that makes columns orthonormal. */
#define GP_LOWRANK_LONG 1024u

/* In front of the factors of a tensor, in the device's memory. */
typedef struct gp_lowrank_head {
    uint32_t most;    /* bits of the largest magnitude of the matrix */
    int32_t exponent; /* Q is to be multiplied by 2^this */
    int32_t shift;    /* what fp16 adds to it */
    float factor;     /* 2^-exponent */
    uint32_t nothing; /* the matrix has what is not finite */
    uint64_t rows;    /* of the matrix */
} gp_lowrank_head;

#define GP_LOWRANK_HEAD 128u /* bytes of it */

/* Columns of P and Q begin so many elements after one another. */
#define GP_LOWRANK_STRIDE(n) (((n) + 15u) & ~(uint64_t)15)

#endif
