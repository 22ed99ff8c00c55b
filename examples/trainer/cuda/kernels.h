/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernels.h - what the host has to know about the trainer's kernels: how their
 * work is laid out over blocks, and the words they take.
 *
 * Matrices are row-major with a stride that is a multiple of GT_STRIDE
 * elements, so that every row starts where a 16-byte access may; what lies
 * between the columns and the stride is zero or is never read.
 */
#ifndef GT_KERNELS_H
#define GT_KERNELS_H

#include <stdint.h>

#define GT_STRIDE 8u
#define GT_BLOCK  256u /* threads of every launch */

/* Columns and rows of a block of the kernels that go over matrices. */
#define GT_TILE_COLUMNS(half) ((half) ? 256u : 128u)
#define GT_TILE_ROWS          64u

/* Elements of a block of the kernels that go over arrays. */
#define GT_TILE 4096u

/* Up to so many classes one thread computes a row's loss, else a warp. */
#define GT_NARROW    32u
#define GT_WIDE_ROWS (GT_BLOCK / 32u)

/* What a launch of gt_cuda_update does to parameters. */
enum {
    GT_STEP_SGD,
    GT_STEP_MOMENTUM,
    GT_STEP_NESTEROV,
    GT_STEP_TAKE /* they are what came */
};

/* Sums of a pass, as gt_score. */
typedef struct gt_cuda_score_sums {
    double loss;
    uint64_t correct;
} gt_cuda_score_sums;

#endif
