/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coder_codecs.h - which kernels a pipeline takes; between coder.c and the
 * files that know the codecs.
 */
#ifndef GP_CODER_CODECS_H
#define GP_CODER_CODECS_H

#include "compress/blocks.h"
#include "compress/cuda/parts.h"
#include "compress/cuda/select.h"
#include "compress/philox.h"
#include "compress/pipeline.h"
#include "device/coder.h"

#define GP_CODER_WORDS  10
#define GP_CODER_STEPS  6
#define GP_CODER_AROUND 16

/* One launch over all parts. */
typedef struct gp_coder_kernel {
    gp_kernel_id kernel;
    uint32_t tile;     /* elements of a block of the grid; 0: no such kernel */
    uint32_t threads;  /* of a block */
    uint32_t per_part; /* so many blocks for each part instead, or fewer */
    uint32_t level;    /* of a histogram; or the transform's block */
    uint32_t shared;   /* bytes of dynamic shared memory */
} gp_coder_kernel;

/* What a codec settles when a coder is opened. */
typedef struct gp_coder_plan {
    uint32_t block_shared; /* shared memory that a block of threads can have */
    /* What kernels are told of the format: the first word, whether to add,
     * the other words. */
    uint32_t word[GP_CODER_WORDS];
    /* One after the other, all with the tile of the first. */
    gp_coder_kernel encode[GP_CODER_STEPS], decode[GP_CODER_STEPS],
        fold[GP_CODER_STEPS];
    bool heads;             /* empty chunks have a block of the grid, too */
    gp_stream_use use;      /* of random numbers; 0: none */
    gp_stream_use rounding; /* where those are signs: of the others */
    gp_round round;         /* for the shift of stratified rounding */
    /* Bytes of the device that encoding takes, at most those of no elements and
     * a share of those of all; NULL: none. */
    size_t (*space)(const gp_pipeline *pipeline, size_t count);
    /* What encoders give, and decoders take; NULL: the bound. */
    size_t (*length)(const gp_pipeline *pipeline, size_t count);
    bool (*right)(const gp_pipeline *pipeline, size_t length, size_t count);
    /* What encoders write, for selections; bits 0: it is not so simple. */
    gp_select_layout layout;
    /* Selections: what is launched before and after the array stage, and behind
     * it when something is fed back. */
    gp_coder_kernel before[GP_CODER_AROUND], after[GP_CODER_STEPS],
        back[GP_CODER_STEPS];
    uint32_t rotated; /* block of a transform; 0: there is none */
    /* Both: ahead of the array stage's decoder, and behind it. */
    gp_coder_kernel open[GP_CODER_AROUND], undo[GP_CODER_STEPS];
    /* One after the other, ahead of all chunks: begin, add, Q, P, end. */
    gp_coder_kernel whole[GP_CODER_STEPS];
    uint32_t rounds; /* of Q and P */
    /* What is from whole tensors: what is launched ahead of all chunks; of
     * array stages also the bytes of the device that this takes. */
    gp_coder_kernel look[GP_CODER_AROUND];
    size_t (*look_space)(const gp_pipeline *pipeline, size_t count);
    bool varies; /* lengths follow from elements */
    bool reads;  /* decoding takes space */
    bool far;    /* so do folds: blocks are rotated there */
    /* What says a worker's number, before all workers have agreed on one. */
    gp_coder_kernel propose[GP_CODER_STEPS];
    gp_memory_kind memory;
    uint32_t remember; /* GP_REMEMBER_* */
    /* What momentum makes of gradients goes to residuals at once, ahead of
     * those who look at the sum. */
    bool sums;
    /* Of residuals, or of velocities, at each step. */
    float decay, factor;
    double clip; /* of a gradient's norm, for one worker; 0: none */
    bool draws;  /* what is selected follows from random numbers */
} gp_coder_plan;

/* Which kernels take a pipeline; plan->block_shared is filled in.
 * GP_ERR_UNSUPPORTED names the stage, or the argument of it, for which there
 * are none. */
gp_status gp_coder_find_plan(const gp_pipeline *pipeline, gp_coder_plan *plan);

/* Says that a stage has no kernel. */
gp_status gp_coder_refuse(const gp_pipeline *pipeline, const char *stage);

/* Whether a message may lie there. */
gp_status gp_coder_check_bytes(const void *bytes);

/* coder_agree.c */
gp_status gp_coder_plan_intsum(const gp_pipeline *pipeline,
                               gp_coder_plan *plan);
gp_status gp_coder_plan_thc(const gp_pipeline *pipeline, gp_coder_plan *plan);
/* coder_rotate.c: whether blocks of that size are rotated in the device's
 * memory, because shared memory has no room; and one of two kernels by that. */
bool gp_coder_is_far(const gp_coder_plan *plan, uint32_t block);
gp_coder_kernel gp_coder_rotating(const gp_coder_plan *plan, gp_kernel_id near,
                                  gp_kernel_id far, uint32_t block);
/* Adds the transform. */
gp_status gp_coder_plan_rotation(const gp_pipeline *pipeline,
                                 gp_coder_plan *plan);
gp_status gp_coder_plan_eden(const gp_pipeline *pipeline, gp_coder_plan *plan);

/* coder_lowrank.c */
gp_status gp_coder_plan_powersgd(const gp_pipeline *pipeline,
                                 gp_coder_plan *plan);

/* coder_select.c: adds the select and the index stage of a pipeline. */
gp_status gp_coder_plan_select(const gp_pipeline *pipeline,
                               gp_coder_plan *plan);
/* Bytes of the device for a part of a selection. With `base`, fills in *out and
 * the part that the array stage works on, which lies at `values_at`. */
size_t gp_coder_lay_select(const gp_pipeline *pipeline,
                           const gp_coder_plan *plan, uint64_t step,
                           size_t count, uint8_t *base, gp_select *out,
                           gp_cuda_part *values);
/* coder_zeros.c: the same of the map of zero blocks. */
gp_status gp_coder_plan_zeros(const gp_pipeline *pipeline, gp_coder_plan *plan);
size_t gp_coder_lay_zeros(const gp_pipeline *pipeline,
                          const gp_coder_plan *plan, size_t count,
                          uint8_t *base, gp_select *out, gp_cuda_part *values);

/* The same of a whole tensor, ahead of its chunks; `tensor` is where the bytes
 * lie. */
size_t gp_coder_lay_look(const gp_pipeline *pipeline, uint64_t step,
                         size_t count, uint8_t *base, gp_select *out);

#endif
