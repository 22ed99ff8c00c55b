/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coder_codecs.h - which kernels a pipeline takes; between coder.c and the
 * files that know the codecs.
 */
#ifndef GP_CODER_CODECS_H
#define GP_CODER_CODECS_H

#include "compress/blocks.h"
#include "compress/cuda/parts.h"
#include "compress/philox.h"
#include "compress/pipeline.h"
#include "device/coder.h"

#define GP_CODER_WORDS 10

/* One launch over all parts. */
typedef struct gp_coder_kernel {
    gp_kernel_id kernel;
    uint32_t tile;    /* elements of a block of the grid; 0: no such kernel */
    uint32_t threads; /* of a block */
} gp_coder_kernel;

/* What a codec settles when a coder is opened. */
typedef struct gp_coder_plan {
    /* What kernels are told of the format: the first word, whether to add,
     * the other words. */
    uint32_t word[GP_CODER_WORDS];
    gp_coder_kernel encode, decode, fold;
    gp_stream_use use; /* of random numbers; 0: none */
    gp_round round;    /* for the shift of stratified rounding */
} gp_coder_plan;

typedef struct gp_coder_codec {
    const gp_codec_ops *ops;
    /* GP_ERR_UNSUPPORTED says what there is no kernel for. */
    gp_status (*plan)(const gp_pipeline *pipeline, gp_coder_plan *plan);
} gp_coder_codec;

/* By their array stages; ends with ops NULL. */
extern const gp_coder_codec gp_coder_codecs[];

#endif
