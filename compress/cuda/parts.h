/* SPDX-License-Identifier: Apache-2.0 */
/*
 * parts.h - what a launch works on, as host and device see it.
 */
#ifndef GP_CUDA_PARTS_H
#define GP_CUDA_PARTS_H

#include <stdint.h>

/* Of momentum. */
#define GP_REMEMBER_NESTEROV 1u
#define GP_REMEMBER_MASK     2u

/* Philox: the key of a stream and the step, and what stratified rounding adds
 * to its numbers. */
typedef struct gp_cuda_stream {
    uint32_t key[2], step[2], shift;
} gp_cuda_stream;

/* One of the messages of a fold. */
typedef struct gp_cuda_message {
    const uint8_t *bytes;
    uint64_t length;
    gp_cuda_stream random;
} gp_cuda_message;

/* One message: a chunk of a tensor and its encoded form. Pointers are of the
 * device, or of pinned memory. */
typedef struct gp_cuda_part {
    const float *source;            /* encode; NULL: added already */
    float *residual;                /* encode; NULL: without feedback */
    float *target;                  /* decode, fold */
    const float *gradient;          /* encode: what `source` is made of */
    float *velocity, *history;      /* encode; NULL: without */
    uint8_t *bytes;                 /* the message; 16-byte aligned */
    const gp_cuda_message *message; /* fold: instead */
    uint64_t count;                 /* elements */
    uint64_t offset;                /* of the first one within its tensor */
    uint64_t length;                /* decode: of the message */
    uint64_t *encoded;              /* receives the length; NULL: it is fixed */
    void *space;                    /* what the codec asked for, or NULL */
    void *whole;                    /* what was found of the whole tensor */
    uint64_t chosen;                /* selections: how many */
    gp_cuda_stream random;
    /* Encode, where `random` has signs: the key of the numbers that decide
     * about rounding. */
    uint32_t rounding[2];
    uint32_t first_block; /* of the launch's blocks */
    uint32_t messages;    /* of a fold */
    uint32_t signs;       /* finish.cu; encode: GP_REMEMBER_* */
    float scale;
    uint32_t *status; /* decode: becomes not 0 for a damaged message */
    /* Codecs whose workers agree on a number: this one's, where it goes; that
     * of all, 0 being none; and whether what is fed back was added before. */
    float *proposal;
    float agreed;
    uint32_t proposed;
    /* momentum:clip: the largest norm of a gradient; the factor that makes it
     * no longer, and behind it the squares of tiles. */
    double limit;
    double *norm; /* NULL: gradients are taken as they are */
} gp_cuda_part;

#endif
