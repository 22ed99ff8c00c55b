/* SPDX-License-Identifier: Apache-2.0 */
/*
 * parts.h - what a launch works on, as host and device see it.
 */
#ifndef GP_CUDA_PARTS_H
#define GP_CUDA_PARTS_H

#include <stdint.h>

/* One message: a chunk of a tensor and its encoded form. Pointers are of the
 * device, or of pinned memory. */
typedef struct gp_cuda_part {
    const float *source;  /* encode */
    float *residual;      /* encode; NULL: without feedback */
    float *target;        /* decode */
    uint8_t *bytes;       /* the message; 16-byte aligned */
    uint64_t count;       /* elements */
    uint64_t offset;      /* of the first one within its tensor */
    uint64_t key;         /* of its random numbers */
    uint32_t first_block; /* of the launch's blocks */
    uint32_t *status;     /* decode: becomes not 0 for a damaged message */
} gp_cuda_part;

#endif
