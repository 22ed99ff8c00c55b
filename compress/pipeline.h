/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pipeline.h - a parsed pipeline: one array stage, then byte stages.
 */
#ifndef GP_PIPELINE_H
#define GP_PIPELINE_H

#include "compress/codec_internal.h"

typedef struct gp_stage {
    const gp_codec_ops *ops;
    void *instance;
    double values[GP_CODEC_PARAMS];
} gp_stage;

struct gp_pipeline {
    size_t count; /* of stages, at least 1 once parsed */
    gp_stage stages[GP_PIPELINE_STAGES];
    char *name;
    uint32_t id;
    uint32_t properties;
};

/* Canonical text of the stages, for free(); NULL when out of memory. */
char *gp_pipeline_print(const gp_pipeline *pipeline);

#endif
